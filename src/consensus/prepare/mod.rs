//! Prepare: a write request is checked against the newest version of the tree and, if it holds,
//! applied as the version after it, which yields the transaction, the reply and the effects at
//! once. What came before need not be committed yet; readers see it when it is.
//!
//! Every request whose record can be decoded uses up a zxid, also if it fails: then it becomes an
//! error transaction. The checks come in ZooKeeper's order, so that a request with several faults
//! is answered with the same one. Called by `core` alone.

pub mod acls;
pub mod apply;
pub mod change;
pub mod create;
pub mod multi;
pub mod quota;
pub mod reap;
pub mod session;
pub mod write;
