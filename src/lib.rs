//! Ringkeeper: a coordination server, wire-compatible with Apache ZooKeeper.
//!
//! The folders follow a request's path: `reactor` (connections, reads, watches), `consensus`
//! (writes, sessions), `zab` (agreement), `log` (durability), over `tree` (the znodes), `auth`
//! (who may do what), `jute` (the wire) and `rt` (cores, sockets, files).

pub mod admin;
pub mod auth;
pub mod client;
pub mod config;
pub mod consensus;
pub mod dump;
pub mod housekeeping;
pub mod ids;
pub mod jute;
pub mod launch;
pub mod limits;
pub mod log;
pub mod logging;
pub mod peers;
pub mod reactor;
pub mod rt;
pub mod server;
pub mod snapshot;
pub mod tree;
pub mod zab;
