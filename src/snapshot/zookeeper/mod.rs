//! ZooKeeper's own form of a snapshot: what a leader sends behind a SNAP packet, and what lies in
//! ZooKeeper's data directories. Sessions, ACLs, then the znodes, parents first.
//!
//! Ours is written from a pinned version, so it is of exactly one zxid. ZooKeeper writes its own
//! while transactions go on: such a one is *fuzzy*, and holds some of what transactions after its
//! zxid did. They follow it, and must be applied so that those already in it do no harm.
//!
//! Called by whoever brings a learner up to date or is brought up to date, and by what reads or
//! writes ZooKeeper's files. Neither direction holds a snapshot in memory: [`encode`] gives chunk
//! after chunk, [`decode`] takes bytes as they come.

pub mod decode;
mod digest;
pub mod encode;
mod fault;
mod format;
mod tail;

pub use decode::{Decoder, Restored};
pub use digest::znode_digest;
pub use encode::Encoder;
pub use fault::{Fault, ReadError, SnapshotFault};
pub use format::{FileSections, Form};
pub use tail::Digest;
