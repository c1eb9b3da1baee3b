//! The consensus core: the one writer. Prepares writes on the newest version of the tree, logs
//! them, has them agreed on by `zab`, and publishes what is committed to every reactor.

pub mod handoff;
pub mod message;
