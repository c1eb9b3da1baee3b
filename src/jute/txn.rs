//! Transactions as they stand in a log and in a PROPOSAL: a header, the record of its type, and
//! perhaps a digest of the tree.
//!
//! Written by the consensus core: [`encode_header`], then the `encode_…` of the type, or
//! [`MultiWriter`]. Read in place by [`Transaction::decode`]: by replay, by learners, by `dump`.
//! Since a multi's parts are no multis, nothing here recurses.

use crate::ids::{SessionId, Zxid};

use super::decode::{Cursor, DecodeError};
use super::opcode::OpCode;
use super::records::Acl;
use super::reply;
use super::request::AclList;

/// What every transaction begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// The session that asked for it.
    pub client_id: SessionId,
    /// The xid of the request.
    pub cxid: i32,
    pub zxid: Zxid,
    /// The leader's clock, milliseconds since 1970.
    pub time_ms: i64,
    pub op: OpCode,
}

/// Bytes of a [`TxnHeader`].
pub const HEADER_BYTES: usize = 32;

/// The digest of the tree behind a transaction. A check only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    /// How it is computed; 2 since 3.6.
    pub version: i32,
    pub tree: i64,
}

/// Bytes of a [`TxnDigest`].
const DIGEST_BYTES: usize = 12;

/// The version of every digest that ZooKeeper has written.
const DIGEST_VERSION: i32 = 2;

/// A whole transaction, where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    pub header: TxnHeader,
    pub txn: Txn<'a>,
    pub digest: Option<TxnDigest>,
}

/// What a transaction does. Names are ZooKeeper's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn<'a> {
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession {
        /// The session's ephemerals. `None`: not recorded, as before 3.6 and with
        /// `closeSessionTxn.enabled=false`.
        paths: Option<Strings<'a>>,
    },
    /// create and create2.
    Create {
        path: &'a str,
        data: Option<&'a [u8]>,
        acl: AclList<'a>,
        ephemeral: bool,
        /// The parent's new stored cversion; -1 is one more than it has. `None`: the form of
        /// releases before 3.4, which means the same as -1.
        parent_cversion: Option<i32>,
    },
    CreateContainer {
        path: &'a str,
        data: Option<&'a [u8]>,
        acl: AclList<'a>,
        parent_cversion: i32,
    },
    CreateTtl {
        path: &'a str,
        data: Option<&'a [u8]>,
        acl: AclList<'a>,
        parent_cversion: i32,
        ttl_ms: i64,
    },
    Delete {
        path: &'a str,
    },
    DeleteContainer {
        path: &'a str,
    },
    SetData {
        path: &'a str,
        data: Option<&'a [u8]>,
        /// The new version.
        version: i32,
    },
    /// As setData, of the configuration, with version -1.
    Reconfig {
        path: &'a str,
        data: Option<&'a [u8]>,
        version: i32,
    },
    SetAcl {
        path: &'a str,
        acl: AclList<'a>,
        /// The new aversion.
        version: i32,
    },
    /// In a multi only.
    Check {
        path: &'a str,
        version: i32,
    },
    /// If any part is an error nothing is applied.
    Multi(Vec<SubTxn<'a>>),
    /// The request failed with this code; nothing is applied.
    Error(i32),
}

/// One part of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubTxn<'a> {
    /// Tells create from create2.
    pub op: OpCode,
    /// Never a multi.
    pub txn: Txn<'a>,
}

impl<'a> Transaction<'a> {
    /// Reads a transaction that is all of `bytes`: an entry of a log, a PROPOSAL's data.
    pub fn decode(bytes: &'a [u8]) -> Result<Transaction<'a>, DecodeError> {
        Transaction::take(Cursor::new(bytes))
    }

    /// As `decode`, with the cursor's limit on strings and buffers.
    pub fn take(mut cursor: Cursor<'a>) -> Result<Transaction<'a>, DecodeError> {
        let header = TxnHeader {
            client_id: SessionId::from_bits(cursor.long("clientId")?),
            cxid: cursor.int("cxid")?,
            zxid: Zxid::from_bits(cursor.long("zxid")?),
            time_ms: cursor.long("time")?,
            op: OpCode(cursor.int("type")?),
        };
        let txn = match header.op {
            OpCode::MULTI => Txn::Multi(parts(&mut cursor)?),
            op => Txn::take(op, &mut cursor)?,
        };
        let digest = match cursor.left() {
            DIGEST_BYTES => Some(TxnDigest {
                version: cursor.int("digest version")?,
                tree: cursor.long("digest")?,
            }),
            _ => None,
        };
        cursor.end()?;
        Ok(Transaction { header, txn, digest })
    }

    /// Appends the transaction to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_header(out, &self.header);
        self.txn.encode(out);
        if let Some(digest) = self.digest {
            encode_digest(out, digest);
        }
    }
}

fn parts<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<SubTxn<'a>>, DecodeError> {
    // A part takes 8 bytes at least: its type and its length.
    let count = cursor.count("txns", 8)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let op = OpCode(cursor.int("type")?);
        let at = cursor.at();
        let record = cursor.buffer("txn")?.ok_or(DecodeError::Null { field: "txn", at })?;
        let mut inner = Cursor::new(record);
        let txn = Txn::take(op, &mut inner)?;
        inner.end()?;
        parts.push(SubTxn { op, txn });
    }
    Ok(parts)
}

impl<'a> Txn<'a> {
    /// The record of type `op` at `cursor`, unless it is a multi.
    fn take(op: OpCode, cursor: &mut Cursor<'a>) -> Result<Txn<'a>, DecodeError> {
        let at = cursor.at();
        Ok(match op {
            OpCode::CREATE_SESSION => Txn::CreateSession { timeout_ms: cursor.int("timeOut")? },
            OpCode::CLOSE_SESSION => Txn::CloseSession { paths: closed_paths(cursor)? },
            OpCode::CREATE | OpCode::CREATE2 => Txn::Create {
                path: cursor.str("path")?,
                data: cursor.buffer("data")?,
                acl: AclList::take(cursor)?,
                ephemeral: cursor.bool("ephemeral")?,
                parent_cversion: match cursor.left() {
                    0 if op == OpCode::CREATE => None,
                    _ => Some(cursor.int("parentCVersion")?),
                },
            },
            OpCode::CREATE_CONTAINER => Txn::CreateContainer {
                path: cursor.str("path")?,
                data: cursor.buffer("data")?,
                acl: AclList::take(cursor)?,
                parent_cversion: cursor.int("parentCVersion")?,
            },
            OpCode::CREATE_TTL => Txn::CreateTtl {
                path: cursor.str("path")?,
                data: cursor.buffer("data")?,
                acl: AclList::take(cursor)?,
                parent_cversion: cursor.int("parentCVersion")?,
                ttl_ms: cursor.long("ttl")?,
            },
            OpCode::DELETE => Txn::Delete { path: cursor.str("path")? },
            OpCode::DELETE_CONTAINER => Txn::DeleteContainer { path: cursor.str("path")? },
            OpCode::SET_DATA => Txn::SetData {
                path: cursor.str("path")?,
                data: cursor.buffer("data")?,
                version: cursor.int("version")?,
            },
            OpCode::RECONFIG => Txn::Reconfig {
                path: cursor.str("path")?,
                data: cursor.buffer("data")?,
                version: cursor.int("version")?,
            },
            OpCode::SET_ACL => Txn::SetAcl {
                path: cursor.str("path")?,
                acl: AclList::take(cursor)?,
                version: cursor.int("version")?,
            },
            OpCode::CHECK => {
                Txn::Check { path: cursor.str("path")?, version: cursor.int("version")? }
            }
            OpCode::ERROR => Txn::Error(cursor.int("err")?),
            _ => return Err(DecodeError::WrongOperation { at, op: op.0 }),
        })
    }

    /// Appends the record to `out`, without a header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Txn::CreateSession { timeout_ms } => encode_create_session(out, timeout_ms),
            Txn::CloseSession { paths: None } => {}
            Txn::CloseSession { paths: Some(paths) } => out.extend_from_slice(paths.bytes),
            Txn::Create { path, data, acl, ephemeral, parent_cversion: None } => {
                node(out, path, data, &acl);
                out.push(ephemeral.into());
            }
            Txn::Create { path, data, acl, ephemeral, parent_cversion: Some(cversion) } => {
                encode_create(out, path, data, &acl, ephemeral, cversion);
            }
            Txn::CreateContainer { path, data, acl, parent_cversion } => {
                encode_create_container(out, path, data, &acl, parent_cversion);
            }
            Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
                encode_create_ttl(out, path, data, &acl, parent_cversion, ttl_ms);
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => encode_delete(out, path),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                encode_set_data(out, path, data, version);
            }
            Txn::SetAcl { path, acl, version } => encode_set_acl(out, path, &acl, version),
            Txn::Check { path, version } => encode_check(out, path, version),
            Txn::Multi(ref parts) => {
                let mut multi = MultiWriter::begin(out);
                for part in parts {
                    multi.part(part.op, |out| part.txn.encode(out));
                }
                multi.finish();
            }
            Txn::Error(err) => encode_error(out, err),
        }
    }
}

/// The paths of a closeSession, or none where its record is missing. An empty record with a
/// digest behind it looks like two paths, the first of them cut off: it is told by its length
/// and by the digest's version.
fn closed_paths<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Strings<'a>>, DecodeError> {
    let missing = match cursor.left() {
        0 => true,
        DIGEST_BYTES => cursor.clone().int("digest version")? == DIGEST_VERSION,
        _ => false,
    };
    if missing { Ok(None) } else { Strings::take(cursor).map(Some) }
}

/// A vector of strings where it lies. It has been read through once, so its elements are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strings<'a> {
    /// The vector with its count.
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Strings<'a> {
    fn take(cursor: &mut Cursor<'a>) -> Result<Strings<'a>, DecodeError> {
        let start = cursor.at();
        let count = cursor.count("paths2Delete", 4)?;
        for _ in 0..count {
            let _ = cursor.str("paths2Delete")?;
        }
        Ok(Strings { bytes: cursor.since(start), count })
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        let _ = cursor.int("paths2Delete");
        (0..self.count).map(move |_| cursor.str("paths2Delete").expect("read through by take"))
    }
}

/// What an access control list can be written from: entries, or a list as it came in a request.
pub trait AppendAcl {
    /// Appends the vector, count included.
    fn append_acl(&self, out: &mut Vec<u8>);
}

impl AppendAcl for [Acl] {
    fn append_acl(&self, out: &mut Vec<u8>) {
        reply::acl(out, self);
    }
}

impl AppendAcl for AclList<'_> {
    fn append_acl(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

/// Appends a header; the record of `header.op` must follow.
#[inline]
pub fn encode_header(out: &mut Vec<u8>, header: &TxnHeader) {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&header.client_id.bits().to_be_bytes());
    bytes[8..12].copy_from_slice(&header.cxid.to_be_bytes());
    bytes[12..20].copy_from_slice(&header.zxid.bits().to_be_bytes());
    bytes[20..28].copy_from_slice(&header.time_ms.to_be_bytes());
    bytes[28..].copy_from_slice(&header.op.0.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a digest, behind the record.
pub fn encode_digest(out: &mut Vec<u8>, digest: TxnDigest) {
    reply::int(out, digest.version);
    out.extend_from_slice(&digest.tree.to_be_bytes());
}

fn node(out: &mut Vec<u8>, path: &str, data: Option<&[u8]>, acl: &(impl AppendAcl + ?Sized)) {
    reply::string(out, path);
    reply::buffer(out, data);
    acl.append_acl(out);
}

/// Appends the record of create and create2. `path` is the final one, with its sequence number;
/// `acl` the checked one; `parent_cversion` the parent's new stored cversion.
#[inline]
pub fn encode_create(
    out: &mut Vec<u8>,
    path: &str,
    data: Option<&[u8]>,
    acl: &(impl AppendAcl + ?Sized),
    ephemeral: bool,
    parent_cversion: i32,
) {
    node(out, path, data, acl);
    out.push(ephemeral.into());
    reply::int(out, parent_cversion);
}

/// Appends the record of createContainer; arguments as [`encode_create`].
pub fn encode_create_container(
    out: &mut Vec<u8>,
    path: &str,
    data: Option<&[u8]>,
    acl: &(impl AppendAcl + ?Sized),
    parent_cversion: i32,
) {
    node(out, path, data, acl);
    reply::int(out, parent_cversion);
}

/// Appends the record of createTTL; arguments as [`encode_create`].
pub fn encode_create_ttl(
    out: &mut Vec<u8>,
    path: &str,
    data: Option<&[u8]>,
    acl: &(impl AppendAcl + ?Sized),
    parent_cversion: i32,
    ttl_ms: i64,
) {
    node(out, path, data, acl);
    reply::int(out, parent_cversion);
    out.extend_from_slice(&ttl_ms.to_be_bytes());
}

/// Appends the record of delete and deleteContainer.
#[inline]
pub fn encode_delete(out: &mut Vec<u8>, path: &str) {
    reply::string(out, path);
}

/// Appends the record of setData and reconfig; `version` is the new one (reconfig: -1).
#[inline]
pub fn encode_set_data(out: &mut Vec<u8>, path: &str, data: Option<&[u8]>, version: i32) {
    reply::string(out, path);
    reply::buffer(out, data);
    reply::int(out, version);
}

/// Appends the record of setACL; `version` is the new aversion.
pub fn encode_set_acl(
    out: &mut Vec<u8>,
    path: &str,
    acl: &(impl AppendAcl + ?Sized),
    version: i32,
) {
    reply::string(out, path);
    acl.append_acl(out);
    reply::int(out, version);
}

/// Appends the record of check, a part of a multi; `version` is the node's plus one, as
/// ZooKeeper writes it.
pub fn encode_check(out: &mut Vec<u8>, path: &str, version: i32) {
    reply::string(out, path);
    reply::int(out, version);
}

/// Appends the record of createSession.
pub fn encode_create_session(out: &mut Vec<u8>, timeout_ms: i32) {
    reply::int(out, timeout_ms);
}

/// Appends the record of closeSession: the session's ephemerals.
pub fn encode_close_session<'p>(out: &mut Vec<u8>, paths: impl Iterator<Item = &'p str>) {
    reply::strings(out, paths);
}

/// Appends the record of an error: the request failed with `err`.
pub fn encode_error(out: &mut Vec<u8>, err: i32) {
    reply::int(out, err);
}

/// Appends the record of a multi, part by part.
#[derive(Debug)]
#[must_use = "the record's count is missing until finish"]
pub struct MultiWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    count: i32,
}

impl<'o> MultiWriter<'o> {
    /// Begins behind the header in `out`.
    pub fn begin(out: &'o mut Vec<u8>) -> MultiWriter<'o> {
        let start = out.len();
        reply::int(out, 0);
        MultiWriter { out, start, count: 0 }
    }

    /// Appends a part of type `op`, whose record `record` appends.
    pub fn part(&mut self, op: OpCode, record: impl FnOnce(&mut Vec<u8>)) {
        reply::int(self.out, op.0);
        let length = reply::begin_frame(self.out);
        record(self.out);
        reply::finish_frame(self.out, length);
        self.count += 1;
    }

    /// Bytes so far, of the record and what stands before it.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Fills in the count.
    pub fn finish(self) {
        self.out[self.start..self.start + 4].copy_from_slice(&self.count.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(op: OpCode) -> TxnHeader {
        TxnHeader {
            client_id: SessionId::from_bits(0x0100_0000_0000_0001),
            cxid: 7,
            zxid: Zxid::from_bits(0x1_0000_0002),
            time_ms: 1_600_000_000_000,
            op,
        }
    }

    fn encoded(op: OpCode, record: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode_header(&mut out, &header(op));
        assert_eq!(out.len(), HEADER_BYTES);
        record(&mut out);
        out
    }

    #[test]
    fn a_create_without_a_parent_cversion_is_the_old_form() {
        let bytes = encoded(OpCode::CREATE, |out| {
            node(out, "/a", None, &[][..]);
            out.push(1);
        });
        let Txn::Create { ephemeral, parent_cversion, .. } =
            Transaction::decode(&bytes).unwrap().txn
        else {
            panic!("not a create")
        };
        assert_eq!((ephemeral, parent_cversion), (true, None));
        // create2 is younger than parentCVersion.
        let bytes = encoded(OpCode::CREATE2, |out| {
            node(out, "/a", None, &[][..]);
            out.push(1);
        });
        assert_eq!(
            Transaction::decode(&bytes),
            Err(DecodeError::PastEnd { field: "parentCVersion", at: 47, want: 4, left: 0 })
        );
    }

    #[test]
    fn a_digest_is_known_by_its_length() {
        let digest = TxnDigest { version: 2, tree: 0x51c6_d660 };
        let mut bytes = encoded(OpCode::DELETE, |out| encode_delete(out, "/a"));
        assert_eq!(Transaction::decode(&bytes).unwrap().digest, None);
        encode_digest(&mut bytes, digest);
        assert_eq!(Transaction::decode(&bytes).unwrap().digest, Some(digest));
        bytes.push(0);
        assert_eq!(Transaction::decode(&bytes), Err(DecodeError::LeftOver { at: 38, left: 13 }));
    }

    #[test]
    fn a_close_session_may_have_no_record_with_and_without_a_digest() {
        let none = Txn::CloseSession { paths: None };
        let mut bytes = encoded(OpCode::CLOSE_SESSION, |_| {});
        assert_eq!(Transaction::decode(&bytes).unwrap().txn, none);
        let digest = TxnDigest { version: 2, tree: 1 };
        encode_digest(&mut bytes, digest);
        let read = Transaction::decode(&bytes).unwrap();
        assert_eq!((read.txn, read.digest), (none, Some(digest)));

        let bytes = encoded(OpCode::CLOSE_SESSION, |out| {
            encode_close_session(out, ["/a", "/b"].into_iter());
            encode_digest(out, digest);
        });
        let read = Transaction::decode(&bytes).unwrap();
        let Txn::CloseSession { paths: Some(paths) } = read.txn else { panic!("no paths") };
        assert_eq!(paths.iter().collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(read.digest, Some(digest));
    }

    #[test]
    fn a_multi_inside_of_a_multi_is_refused() {
        let bytes = encoded(OpCode::MULTI, |out| {
            let mut multi = MultiWriter::begin(out);
            multi.part(OpCode::MULTI, |out| MultiWriter::begin(out).finish());
            multi.finish();
        });
        assert_eq!(Transaction::decode(&bytes), Err(DecodeError::WrongOperation { at: 0, op: 14 }));
    }

    #[test]
    fn an_unknown_type_is_refused_with_its_number() {
        let bytes = encoded(OpCode::GET_DATA, |_| {});
        assert_eq!(Transaction::decode(&bytes), Err(DecodeError::WrongOperation { at: 32, op: 4 }));
    }

    #[test]
    fn a_cursor_with_a_limit_refuses_what_zookeeper_would_not_read_back() {
        let bytes = encoded(OpCode::SET_DATA, |out| encode_set_data(out, "/a", Some(&[0; 11]), 1));
        assert!(Transaction::take(Cursor::with_limit(&bytes, 11)).is_ok());
        assert_eq!(
            Transaction::take(Cursor::with_limit(&bytes, 10)),
            Err(DecodeError::Unreasonable { field: "data", at: 38, length: 11, limit: 10 })
        );
    }
}
