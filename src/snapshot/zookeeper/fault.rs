//! What can be wrong with a ZooKeeper snapshot.

use std::io;

use thiserror::Error;

use super::format::VERSION;
use crate::jute::decode::DecodeError;
use crate::limits::SESSIONS_MAX;
use crate::tree::RestoreError;

/// Bytes of a path that an error tells.
const PATH_BYTES_TOLD: usize = 200;

/// What is wrong with a snapshot, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("byte {at} of the ZooKeeper snapshot: {fault}")]
pub struct SnapshotFault {
    /// Where the record with the fault begins, in bytes from the start of the snapshot.
    pub at: u64,
    pub fault: Fault,
}

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The place that this error names counts from where the record begins.
    #[error("in the record that begins here, {0}")]
    Record(#[from] DecodeError),
    #[error("{found:#x} is not how a snapshot file begins")]
    Magic { found: i32 },
    #[error("the file has the form {found}, known is {VERSION}")]
    Version { found: i32 },
    #[error("{count} sessions are more than {SESSIONS_MAX}")]
    TooManySessions { count: i32 },
    /// ZooKeeper refuses it as well.
    #[error("ACL {number} is null")]
    NullAcl { number: i64 },
    /// No request that ZooKeeper accepts has such an ACL.
    #[error("ACL {number} has more than {limit} bytes")]
    AclTooLong { number: i64, limit: usize },
    /// Its path has no slash, and is not empty.
    #[error("the path {path} is none")]
    Path { path: Box<str> },
    #[error("the root does not come first, and once")]
    Root,
    #[error("the znode {path}: {source}")]
    Znode { path: Box<str>, source: RestoreError },
    #[error("the signature is missing behind the znodes")]
    Signature,
    #[error("the checksum is {found:#x}, that of the bytes before it {computed:#x}")]
    Checksum { found: i64, computed: u32 },
    #[error("no / follows the checksum")]
    SealMark,
    #[error("{bytes} bytes that no snapshot file has behind its last section")]
    LeftOver { bytes: usize },
    #[error("the snapshot ends here, too early")]
    CutOff,
}

impl Fault {
    /// The fault of a znode; a long path is cut short.
    pub(super) fn znode(path: &str, source: RestoreError) -> Fault {
        Fault::Znode { path: told(path), source }
    }

    /// The fault of a path; a long one is cut short.
    pub(super) fn path(path: &str) -> Fault {
        Fault::Path { path: told(path) }
    }
}

fn told(path: &str) -> Box<str> {
    let mut end = path.len().min(PATH_BYTES_TOLD);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path[..end].into()
}

/// Why a snapshot could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("the ZooKeeper snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] SnapshotFault),
}
