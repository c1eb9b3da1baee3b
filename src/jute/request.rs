//! The requests that clients send most, and those that become transactions, read in place:
//! nothing is copied or allocated. Called by the reactors (reads) and by the consensus core
//! (writes).
//!
//! Each `decode` takes the request record, behind the [`header`]. Bytes behind the record are
//! ignored, as ZooKeeper does. ZooKeeper answers a request that cannot be decoded with
//! MARSHALLINGERROR and keeps the connection; a frame too short for a header costs the connection.

use std::borrow::Cow;

use crate::limits::MULTI_OPERATIONS_MAX;

use super::decode::{Cursor, DecodeError};
use super::opcode::OpCode;
use super::records::{Acl, Id};

/// xid of a watch event.
pub const XID_EVENT: i32 = -1;
/// xid of a ping's reply, whatever the ping's was.
pub const XID_PING: i32 = -2;
/// xid that clients give auth packets.
pub const XID_AUTH: i32 = -4;
/// xid that clients give setWatches and setWatches2.
pub const XID_SET_WATCHES: i32 = -8;

/// Bytes of a request's header.
pub const HEADER_BYTES: usize = 8;

/// What a request is, before its record is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the client, echoed in the reply.
    pub xid: i32,
    pub op: OpCode,
}

/// Splits a frame's body into its header and the request record.
#[inline]
pub fn header(frame: &[u8]) -> Result<(Header, &[u8]), DecodeError> {
    let mut cursor = Cursor::new(frame);
    let header = Header { xid: cursor.int("xid")?, op: OpCode(cursor.int("type")?) };
    Ok((header, cursor.rest()))
}

/// exists, getData, getChildren, getChildren2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathWatch<'a> {
    pub path: &'a str,
    /// Whether to leave a watch.
    pub watch: bool,
}

impl<'a> PathWatch<'a> {
    /// Reads the request record.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<PathWatch<'a>, DecodeError> {
        PathWatch::take(&mut Cursor::new(body))
    }

    #[inline]
    fn take(cursor: &mut Cursor<'a>) -> Result<PathWatch<'a>, DecodeError> {
        Ok(PathWatch { path: cursor.str("path")?, watch: cursor.bool("watch")? })
    }
}

/// The path of getACL, sync, getAllChildrenNumber.
#[inline]
pub fn path(body: &[u8]) -> Result<&str, DecodeError> {
    Cursor::new(body).str("path")
}

/// The path of deleteContainer, which 3.9 writes as a buffer: a null one is refused as well.
pub fn delete_container(body: &[u8]) -> Result<&str, DecodeError> {
    Cursor::new(body).str("path")
}

/// delete, and check in a multi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathVersion<'a> {
    pub path: &'a str,
    /// The version expected; -1 is any.
    pub version: i32,
}

impl<'a> PathVersion<'a> {
    /// Reads the request record.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<PathVersion<'a>, DecodeError> {
        PathVersion::take(&mut Cursor::new(body))
    }

    #[inline]
    fn take(cursor: &mut Cursor<'a>) -> Result<PathVersion<'a>, DecodeError> {
        Ok(PathVersion { path: cursor.str("path")?, version: cursor.int("version")? })
    }
}

/// setData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetData<'a> {
    pub path: &'a str,
    /// Null is distinct from empty.
    pub data: Option<&'a [u8]>,
    /// The version expected; -1 is any.
    pub version: i32,
}

impl<'a> SetData<'a> {
    /// Reads the request record.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<SetData<'a>, DecodeError> {
        SetData::take(&mut Cursor::new(body))
    }

    #[inline]
    fn take(cursor: &mut Cursor<'a>) -> Result<SetData<'a>, DecodeError> {
        Ok(SetData {
            path: cursor.str("path")?,
            data: cursor.buffer("data")?,
            version: cursor.int("version")?,
        })
    }
}

/// create, create2, createContainer, createTTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create<'a> {
    pub path: &'a str,
    /// Null is distinct from empty.
    pub data: Option<&'a [u8]>,
    pub acl: AclList<'a>,
    /// Which kind of znode; not checked here, for outside of a multi an unknown kind is
    /// BADARGUMENTS. See [`known_flags`].
    pub flags: i32,
    /// Milliseconds; createTTL alone has it.
    pub ttl: Option<i64>,
}

impl<'a> Create<'a> {
    /// Reads the request record of a create of type `op`.
    #[inline]
    pub fn decode(op: OpCode, body: &'a [u8]) -> Result<Create<'a>, DecodeError> {
        Create::take(op, &mut Cursor::new(body))
    }

    #[inline]
    fn take(op: OpCode, cursor: &mut Cursor<'a>) -> Result<Create<'a>, DecodeError> {
        Ok(Create {
            path: cursor.str("path")?,
            data: cursor.buffer("data")?,
            acl: AclList::take(cursor)?,
            flags: cursor.int("flags")?,
            ttl: if op == OpCode::CREATE_TTL { Some(cursor.long("ttl")?) } else { None },
        })
    }
}

/// Whether create flags name a kind of znode: 0 persistent, 1 ephemeral, 2 persistent sequential,
/// 3 ephemeral sequential, 4 container, 5 TTL, 6 TTL sequential.
pub const fn known_flags(flags: i32) -> bool {
    matches!(flags, 0..=6)
}

/// setACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAcl<'a> {
    pub path: &'a str,
    pub acl: AclList<'a>,
    /// The aversion expected; -1 is any.
    pub version: i32,
}

impl<'a> SetAcl<'a> {
    /// Reads the request record.
    pub fn decode(body: &'a [u8]) -> Result<SetAcl<'a>, DecodeError> {
        let mut cursor = Cursor::new(body);
        Ok(SetAcl {
            path: cursor.str("path")?,
            acl: AclList::take(&mut cursor)?,
            version: cursor.int("version")?,
        })
    }
}

/// An access control list where it lies. It has been read through once, so its entries are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclList<'a> {
    /// The vector with its count.
    bytes: &'a [u8],
    count: usize,
}

/// Bytes of the shortest ACL entry: perms and two lengths.
const ACL_BYTES_MIN: usize = 12;

impl<'a> AclList<'a> {
    /// Reads the vector at `cursor`, which is moved behind it. Null is an empty list.
    #[inline]
    pub fn take(cursor: &mut Cursor<'a>) -> Result<AclList<'a>, DecodeError> {
        let start = cursor.at();
        let count = cursor.count("acl", ACL_BYTES_MIN)?;
        for _ in 0..count {
            let _ = AclEntry::take(cursor)?;
        }
        Ok(AclList { bytes: cursor.since(start), count })
    }

    /// Entries.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Null or without entries.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The vector as it came, count included: equal bytes are equal lists.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = AclEntry<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        let _ = cursor.int("acl");
        (0..self.count).map(move |_| AclEntry::take(&mut cursor).expect("read through by take"))
    }

    /// The entries, owned.
    pub fn to_vec(&self) -> Vec<Acl> {
        self.iter().map(|entry| entry.to_owned()).collect()
    }
}

/// One entry of an [`AclList`]. Borrowed, unless a JVM wrote a character outside of the BMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry<'a> {
    pub perms: i32,
    pub scheme: Cow<'a, str>,
    pub id: Cow<'a, str>,
}

impl<'a> AclEntry<'a> {
    #[inline]
    fn take(cursor: &mut Cursor<'a>) -> Result<AclEntry<'a>, DecodeError> {
        Ok(AclEntry {
            perms: cursor.int("perms")?,
            scheme: cursor.text("scheme")?,
            id: cursor.text("id")?,
        })
    }

    /// The entry as a record.
    pub fn to_owned(&self) -> Acl {
        let id = Id { scheme: self.scheme.clone().into(), id: self.id.clone().into() };
        Acl { perms: self.perms, id }
    }
}

/// One operation of a multi or multiRead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// create, create2, createContainer or createTTL: which, and its record.
    Create(OpCode, Create<'a>),
    Delete(PathVersion<'a>),
    SetData(SetData<'a>),
    Check(PathVersion<'a>),
    /// multiRead only. The watch flag is ignored there.
    GetData(PathWatch<'a>),
    /// multiRead only. The watch flag is ignored there.
    GetChildren(PathWatch<'a>),
}

impl<'a> Operation<'a> {
    /// What it is called on the wire.
    pub const fn op(&self) -> OpCode {
        match self {
            Operation::Create(op, _) => *op,
            Operation::Delete(_) => OpCode::DELETE,
            Operation::SetData(_) => OpCode::SET_DATA,
            Operation::Check(_) => OpCode::CHECK,
            Operation::GetData(_) => OpCode::GET_DATA,
            Operation::GetChildren(_) => OpCode::GET_CHILDREN,
        }
    }

    /// The znode it is about.
    pub const fn path(&self) -> &'a str {
        match self {
            Operation::Create(_, create) => create.path,
            Operation::Delete(it) | Operation::Check(it) => it.path,
            Operation::SetData(set) => set.path,
            Operation::GetData(read) | Operation::GetChildren(read) => read.path,
        }
    }

    /// The operation at `cursor` with its header, or `None` behind the last one.
    fn take(of: OpCode, cursor: &mut Cursor<'a>) -> Result<Option<Operation<'a>>, DecodeError> {
        let at = cursor.at();
        let op = OpCode(cursor.int("type")?);
        let done = cursor.bool("done")?;
        let _ = cursor.int("err")?;
        if done {
            return Ok(None);
        }
        let reads = of == OpCode::MULTI_READ;
        Ok(Some(match op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL
                if !reads =>
            {
                let create = Create::take(op, cursor)?;
                if !known_flags(create.flags) {
                    return Err(DecodeError::UnknownFlags { at, flags: create.flags });
                }
                Operation::Create(op, create)
            }
            OpCode::DELETE if !reads => Operation::Delete(PathVersion::take(cursor)?),
            OpCode::SET_DATA if !reads => Operation::SetData(SetData::take(cursor)?),
            OpCode::CHECK if !reads => Operation::Check(PathVersion::take(cursor)?),
            OpCode::GET_DATA if reads => Operation::GetData(PathWatch::take(cursor)?),
            OpCode::GET_CHILDREN if reads => Operation::GetChildren(PathWatch::take(cursor)?),
            _ => return Err(DecodeError::WrongOperation { at, op: op.0 }),
        }))
    }
}

/// A multi or multiRead where it lies. It has been read through once, so its operations are
/// whole, of the right kind, and at most `limits::MULTI_OPERATIONS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multi<'a> {
    of: OpCode,
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Multi<'a> {
    /// Reads the request record of a request of type `op`: `OpCode::MULTI`, which takes writes
    /// only, or `OpCode::MULTI_READ`, which takes reads only. Any error makes the whole of it
    /// fail with MARSHALLINGERROR, in ZooKeeper too.
    ///
    /// # Panics
    /// For another `op`.
    pub fn decode(op: OpCode, body: &'a [u8]) -> Result<Multi<'a>, DecodeError> {
        assert!(op == OpCode::MULTI || op == OpCode::MULTI_READ, "{op:?} is not a multi");
        let mut cursor = Cursor::new(body);
        let mut count = 0;
        while Operation::take(op, &mut cursor)?.is_some() {
            count += 1;
            if count > MULTI_OPERATIONS_MAX {
                return Err(DecodeError::TooManyOperations { limit: MULTI_OPERATIONS_MAX });
            }
        }
        Ok(Multi { of: op, bytes: cursor.since(0), count })
    }

    /// Operations.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none; such a multi succeeds.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The operations in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Operation<'a>> + use<'a> {
        let of = self.of;
        let mut cursor = Cursor::new(self.bytes);
        (0..self.count).map(move |_| {
            let operation = Operation::take(of, &mut cursor).expect("read through by decode");
            operation.expect("counted by decode")
        })
    }
}
