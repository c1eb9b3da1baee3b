//! The requests that clients send most, and those that become transactions, read in place:
//! nothing is copied or allocated. Called by the reactors (reads) and by the consensus core
//! (writes).
//!
//! Each `decode` takes the request record, behind the [`header`]. Bytes behind the record are
//! ignored, as ZooKeeper does. ZooKeeper answers a request that cannot be decoded with
//! MARSHALLINGERROR and keeps the connection; a frame too short for a header costs the connection.

use std::borrow::Cow;

use crate::limits::MULTI_OPERATIONS_MAX;

use super::decode::{Cursor, DecodeError, lenient};
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

/// The create flags of a container.
pub const CONTAINER: i32 = 4;

/// Whether create flags ask for a TTL znode.
pub const fn has_ttl(flags: i32) -> bool {
    matches!(flags, 5 | 6)
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

    /// Whether it is null rather than a list without entries.
    pub fn is_null(&self) -> bool {
        self.bytes.first_chunk() == Some(&(-1_i32).to_be_bytes())
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
        let perms = cursor.int("perms")?;
        // A scheme that is null is one that nobody has.
        let scheme = cursor.buffer("scheme")?.map_or(Cow::Borrowed(""), lenient);
        // The id of an `auth` entry means nothing, and kazoo sends null for an empty one; that of an
        // unknown scheme is not looked at.
        let id = match scheme.as_ref() {
            "world" | "ip" | "digest" | "sasl" | "x509" => cursor.text("id")?,
            _ => cursor.buffer("id")?.map_or(Cow::Borrowed(""), lenient),
        };
        Ok(AclEntry { perms, scheme, id })
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
                let flags = create.flags;
                if !known_flags(flags) {
                    return Err(DecodeError::UnknownFlags { at, flags });
                }
                if op != OpCode::CREATE_TTL {
                    if create.acl.is_null() {
                        return Err(DecodeError::Null { field: "acl", at });
                    }
                    if has_ttl(flags) {
                        return Err(DecodeError::UnknownFlags { at, flags });
                    }
                }
                // Here, and only here, the flags decide.
                let container = flags == CONTAINER && op != OpCode::CREATE_TTL;
                Operation::Create(if container { OpCode::CREATE_CONTAINER } else { op }, create)
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
        loop {
            match Operation::take(op, &mut cursor) {
                Ok(None) => break,
                Ok(Some(_)) => count += 1,
                Err(error) if op == OpCode::MULTI && count == 0 => {
                    return Err(null_acl_behind_reads(body).unwrap_or(error));
                }
                Err(error) => return Err(error),
            }
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

/// The error of a multi that begins with reads and goes on with a create whose ACL is null.
/// ZooKeeper refuses a write behind reads only once it has made an operation of it, and fails on
/// the null ACL before that: this error costs no zxid, where the other one does.
fn null_acl_behind_reads(body: &[u8]) -> Option<DecodeError> {
    let mut cursor = Cursor::new(body);
    loop {
        let mut write = cursor.clone();
        if let Ok(read) = Operation::take(OpCode::MULTI_READ, &mut cursor) {
            read?;
            continue;
        }
        let error = Operation::take(OpCode::MULTI, &mut write).err()?;
        return matches!(error, DecodeError::Null { field: "acl", .. }).then_some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::codec;
    use crate::jute::records::{CreateRequest, MultiHeader};

    fn create_body(flags: i32, acl: Option<Vec<Acl>>) -> Vec<u8> {
        let request = CreateRequest { path: "/a".into(), data: None, acl, flags };
        codec::to_vec(&request).unwrap()
    }

    fn multi(parts: &[(OpCode, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        let header = |op, done| codec::to_vec(&MultiHeader { op, done, err: -1 }).unwrap();
        for (op, record) in parts {
            body.extend(header(op.0, false));
            body.extend_from_slice(record);
        }
        body.extend(header(-1, true));
        body
    }

    #[test]
    fn a_header_is_split_from_its_record() {
        let (header, body) = header(&[0, 0, 0, 7, 0, 0, 0, 4, 1, 2]).unwrap();
        assert_eq!(header, Header { xid: 7, op: OpCode::GET_DATA });
        assert_eq!(body, [1, 2]);
        assert_eq!(
            super::header(&[0; 7]),
            Err(DecodeError::PastEnd { field: "type", at: 4, want: 4, left: 3 })
        );
    }

    #[test]
    fn a_null_path_is_refused() {
        let null = Err(DecodeError::Null { field: "path", at: 0 });
        assert_eq!(PathWatch::decode(&[0xff, 0xff, 0xff, 0xff, 0]), null);
    }

    #[test]
    fn an_acl_list_is_read_through_before_it_is_handed_out() {
        let acl = Acl { perms: 31, id: Id { scheme: "world".into(), id: "anyone".into() } };
        let mut body = create_body(0, Some(vec![acl.clone(), acl.clone()]));
        let create = Create::decode(OpCode::CREATE, &body).unwrap();
        assert_eq!(create.acl.to_vec(), [acl.clone(), acl]);
        // The last id is longer than what is left.
        let length = body.len() - 4 - 7;
        body[length] = 100;
        assert_eq!(
            Create::decode(OpCode::CREATE, &body),
            Err(DecodeError::PastEnd { field: "id", at: body.len() - 10, want: 100, left: 10 })
        );
    }

    #[test]
    fn the_id_of_an_auth_entry_may_be_null() {
        let entry = |scheme: &[u8; 4]| {
            [&[0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 4], &scheme[..], &[0xff; 4]].concat()
        };
        let body = |scheme| [&b"\0\0\0\x02/a\0\0\0\0"[..], &entry(scheme), &[0; 4]].concat();
        let bytes = body(b"auth");
        let create = Create::decode(OpCode::CREATE, &bytes).unwrap();
        let id = Id { scheme: "auth".into(), id: String::new() };
        assert_eq!(create.acl.to_vec(), [Acl { perms: 31, id }]);
        let refused = Create::decode(OpCode::CREATE, &body(b"sasl")).map(drop);
        assert!(matches!(refused, Err(DecodeError::Null { field: "id", .. })), "{refused:?}");
    }

    #[test]
    fn a_null_acl_list_is_empty() {
        let body = create_body(0, None);
        assert!(Create::decode(OpCode::CREATE, &body).unwrap().acl.is_empty());
    }

    #[test]
    fn an_acl_id_of_a_jvm_outside_of_the_bmp_is_read() {
        let bytes = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x01s\0\0\0\x06\xed\xa0\xbd\xed\xb8\x80";
        let list = AclList::take(&mut Cursor::new(bytes)).unwrap();
        assert_eq!(list.to_vec()[0].id.id, "\u{1f600}");
    }

    #[test]
    fn a_multi_gives_its_operations_in_order() {
        let create = create_body(1, Some(Vec::new()));
        let delete = b"\0\0\0\x02/b\0\0\0\x05";
        let body = multi(&[(OpCode::CREATE2, &create), (OpCode::DELETE, delete)]);
        let multi = Multi::decode(OpCode::MULTI, &body).unwrap();
        assert_eq!(multi.len(), 2);
        let operations: Vec<(OpCode, &str)> =
            multi.iter().map(|operation| (operation.op(), operation.path())).collect();
        assert_eq!(operations, [(OpCode::CREATE2, "/a"), (OpCode::DELETE, "/b")]);
    }

    #[test]
    fn a_multi_takes_writes_only_and_a_multi_read_reads_only() {
        let read = multi(&[(OpCode::GET_DATA, b"\0\0\0\x01/\0")]);
        let write = multi(&[(OpCode::DELETE, b"\0\0\0\x02/b\0\0\0\0")]);
        assert!(Multi::decode(OpCode::MULTI_READ, &read).is_ok());
        assert!(Multi::decode(OpCode::MULTI, &write).is_ok());
        assert_eq!(
            Multi::decode(OpCode::MULTI, &read),
            Err(DecodeError::WrongOperation { at: 0, op: 4 })
        );
        assert_eq!(
            Multi::decode(OpCode::MULTI_READ, &write),
            Err(DecodeError::WrongOperation { at: 0, op: 2 })
        );
    }

    #[test]
    fn a_multi_inside_of_a_multi_is_refused() {
        let inner = multi(&[]);
        let outer = multi(&[(OpCode::MULTI, &inner)]);
        assert_eq!(
            Multi::decode(OpCode::MULTI, &outer),
            Err(DecodeError::WrongOperation { at: 0, op: 14 })
        );
    }

    #[test]
    fn unknown_create_flags_and_null_acls_spoil_a_multi_but_not_a_create() {
        let create = create_body(9, None);
        assert_eq!(Create::decode(OpCode::CREATE, &create).unwrap().flags, 9);
        let null = multi(&[(OpCode::CREATE, &create_body(0, None))]);
        let refused = Multi::decode(OpCode::MULTI, &null);
        assert_eq!(refused, Err(DecodeError::Null { field: "acl", at: 0 }));
        assert_eq!(
            Multi::decode(OpCode::MULTI, &multi(&[(OpCode::CREATE, &create)])),
            Err(DecodeError::UnknownFlags { at: 0, flags: 9 })
        );
    }

    #[test]
    fn behind_reads_a_null_acl_is_the_error_of_a_multi() {
        let read: (OpCode, &[u8]) = (OpCode::GET_DATA, b"\0\0\0\x01/\0");
        let delete: (OpCode, &[u8]) = (OpCode::DELETE, b"\0\0\0\x02/b\0\0\0\0");
        let null = create_body(0, None);
        let null = (OpCode::CREATE, &*null);
        let error =
            |parts: &[(OpCode, &[u8])]| Multi::decode(OpCode::MULTI, &multi(parts)).unwrap_err();
        for behind in [&[read, null][..], &[read, read, null, delete]] {
            let refused = error(behind);
            assert!(matches!(refused, DecodeError::Null { field: "acl", .. }), "{refused:?}");
        }
        for behind in [&[read, delete, null][..], &[read, read], &[delete, read, null]] {
            let refused = error(behind);
            assert!(matches!(refused, DecodeError::WrongOperation { .. }), "{refused:?}");
        }
    }

    #[test]
    fn a_multi_without_an_end_is_refused() {
        let body = multi(&[(OpCode::DELETE, b"\0\0\0\x02/b\0\0\0\0")]);
        for end in 0..body.len() {
            assert!(Multi::decode(OpCode::MULTI, &body[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_multi_of_more_operations_than_the_bound_is_refused() {
        let check: (OpCode, &[u8]) = (OpCode::CHECK, b"\0\0\0\0\0\0\0\0");
        let most = vec![check; MULTI_OPERATIONS_MAX];
        assert_eq!(
            Multi::decode(OpCode::MULTI, &multi(&most)).map(|multi| multi.len()),
            Ok(MULTI_OPERATIONS_MAX)
        );
        let more = vec![check; MULTI_OPERATIONS_MAX + 1];
        assert_eq!(
            Multi::decode(OpCode::MULTI, &multi(&more)),
            Err(DecodeError::TooManyOperations { limit: MULTI_OPERATIONS_MAX })
        );
    }
}
