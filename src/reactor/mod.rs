//! The reactors: each owns its connections, their sessions' reply order and their watches, and
//! serves reads from the version of the tree that it has pinned.
//!
//! A request's way: [`turn`] takes bytes from the sockets, [`serve`] cuts them into requests, and
//! `read` answers, or the consensus core is handed a submission and `pipeline` keeps the order.

pub mod admission;
mod alone;
mod announce;
mod answer;
mod authenticate;
mod connection;
mod connections;
mod counters;
mod depart;
#[cfg(test)]
mod fixture;
mod handshake;
mod held;
mod identity;
mod lapse;
mod long_work;
pub mod message;
mod open;
mod output;
mod pipeline;
mod read;
pub mod serve;
pub mod settings;
mod submit;
pub mod throttle;
pub mod token_bucket;
pub mod turn;
mod watch_requests;
mod watched_paths;
mod watches;
