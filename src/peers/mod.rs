//! Connections to the other servers of an ensemble: on the election port (notifications of votes,
//! seldom, on blocking threads) and on the quorum port (the packets between a leader and its
//! learners, on the consensus core's executor). What is said there is `jute`'s, what it means
//! `zab`'s; here is who connects to whom, and that no peer can block, flood or crash this server.

pub mod address;
mod election_accept;
mod election_dial;
pub mod election_inbox;
pub mod election_port;
mod election_rules;
mod election_state;
pub mod link;
pub mod link_dial;
pub mod link_received;
pub mod link_stream;
mod link_unsent;
pub mod links;
