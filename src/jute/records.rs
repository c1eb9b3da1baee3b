//! The records of the client protocol and of transactions, in the order in which they travel.
//! Derived: `jute::codec` reads and writes them as a serde format.

use serde::{Deserialize, Serialize};

/// A buffer: null (length -1) is distinct from empty.
pub type Buffer = Option<serde_bytes::ByteBuf>;

/// An authentication id: who a connection is, or whom an ACL entry means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

/// One entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acl {
    pub perms: i32,
    pub id: Id,
}

/// A znode's status as clients see it (68 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}
