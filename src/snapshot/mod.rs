//! Snapshots: the tree and the sessions as of one zxid, in a file. Written by the housekeeping
//! thread from a pinned version, read at start-up; `docs/storage.md` describes the file.

mod decode;
pub mod format;
pub mod load;
pub mod take;
pub mod write;
pub mod zookeeper;
