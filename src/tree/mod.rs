//! The tree of znodes: every version of every node that somebody may still see.
//!
//! One writer (the consensus core) makes version after version; a version is named by the zxid
//! through which it holds everything. Readers (reactors, snapshots) pin versions and read without
//! locks, and without writing anything that another thread reads but their pin.
//!
//! Invariants:
//! * A reader sees what was committed at its zxid: data, ACL, children, Stat, all of one moment.
//! * What a pin can see is not freed; what no pin can see is, in bounded steps of the writer.
//! * All of a transaction is seen, or nothing of it.
//!
//! A request's way: [`path`] checks it, [`writer`] changes the newest version or
//! [`reader`] looks at a pinned one. Below: `znode` (how a node lies in memory), `index` (from a
//! path's hash to nodes), `history` (undo and reclamation), `versions` and `pins` (what readers
//! share with the writer), `acl_table`, `owned`, `quota`, `slab` (memory), `hash`.
//!
//! `unsafe` stands in `slab`, `znode`, `index`, `acl_table`, `history` and `versions`, nowhere else
//! in the tree.

pub mod acl;
mod acl_table;
mod hash;
mod history;
mod index;
mod owned;
mod owner;
pub mod path;
mod pins;
mod quota;
pub mod reader;
pub mod restore;
mod slab;
mod versions;
pub mod writer;
mod znode;

pub use acl_table::AclId;
pub use owner::{Owner, TTL_MS_MAX};
pub use quota::{Quota, QuotaText, is_counted_at};
pub use reader::{
    Census, Children, Descendants, NodeView, Reader, Registry, StoredStat, View, Walk,
};
pub use restore::{Restore, RestoreError};
pub use slab::MemoryUse;
pub use writer::{Counts, TreeError, TreeMemory, Writer};
pub use znode::DATA_BYTES_MAX;
