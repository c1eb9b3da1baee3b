//! The reactors: each owns its connections, their sessions' reply order and their watches, and
//! serves reads from the version of the tree that it has pinned.

pub mod message;
