//! The consensus core: the one writer. Prepares writes on the newest version of the tree, logs
//! them, has them agreed on by `zab`, and publishes what is committed to every reactor.

pub mod batch;
pub mod core;
pub mod follow;
pub mod forwarded;
pub mod handoff;
pub mod identities;
pub mod lead;
pub mod member;
pub mod message;
pub mod prepare;
pub mod publish;
pub mod quorum_messages;
pub mod reap;
pub mod recovery;
pub mod replay;
pub mod report;
pub mod sessions;
pub mod snapshots;
pub mod turn;
