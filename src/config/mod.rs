//! The configuration: ZooKeeper's zoo.cfg, read as ZooKeeper reads it, with Ringkeeper's own keys
//! under the prefix `ringkeeper.`.
//!
//! `load` turns a file into a `Config`, which cannot be wrong: whoever holds one need not check it
//! again. What an operator should know but what stops nobody becomes a `Notice`.
//! `docs/configuration.md` explains every key.

mod auth;
pub mod cores;
pub mod ensemble;
pub mod error;
mod keys;
pub mod load;
pub mod members;
mod pinning;
pub mod properties;
pub mod settings;
mod throttle;
mod values;

pub use ensemble::Ensemble;
pub use settings::Config;
