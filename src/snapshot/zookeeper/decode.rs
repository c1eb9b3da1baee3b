//! A ZooKeeper snapshot as its bytes come, into a tree. The decoder knows where the snapshot ends:
//! on the quorum port, packets follow at once.
//!
//! A fuzzy snapshot becomes a tree of its zxid in which some znodes have later data, a later ACL or
//! later counts. What was created after that zxid is left out: its transaction follows, and makes
//! it.
//!
//! However long a record says that it is, no more is kept of it than has come.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::mem;

use adler2::Adler32;

use super::digest::znode_digest;
use super::fault::{Fault, ReadError, SnapshotFault};
use super::format::{END_MARK, MAGIC, OPEN_ACL, SIGNATURE, VERSION};
use super::tail::{Digest, TAIL_BYTES_MAX, Tail};
use crate::ids::{SessionId, Zxid};
use crate::jute::decode::{Cursor, DecodeError};
use crate::jute::records::{Acl, Id};
use crate::limits::SESSIONS_MAX;
use crate::tree::{AclId, Registry, Restore, StoredStat, Writer};

/// What a snapshot held.
pub struct Restored {
    /// The tree as of the snapshot's zxid, with quotas counted anew, as ZooKeeper does.
    pub writer: Writer,
    pub registry: Registry,
    /// With their timeouts in milliseconds, in the snapshot's order.
    pub sessions: Vec<(SessionId, i32)>,
    /// The length of the snapshot.
    pub bytes: u64,
    /// Znodes in the snapshot, the root among them.
    pub znodes: u64,
    /// Those of them that were created after its zxid, and are not in the tree.
    pub left_out: u64,
    /// Znodes in the tree that name an ACL which the snapshot lacks. The transaction that set it
    /// follows. Until then nobody may do anything with them (ZooKeeper fails whoever tries).
    pub acls_missing: u64,
    /// The digest in the file, unless it has none, an empty one or one of another version.
    pub digest: Option<Digest>,
    /// The digest of all znodes as they came, of a file: equals `digest` unless the snapshot is
    /// fuzzy, or what wrote it was wrong.
    pub computed_digest: Option<u64>,
    /// The last zxid, if the file tells it.
    pub last_zxid: Option<Zxid>,
}

/// A snapshot that is being read.
pub struct Decoder {
    next: Next,
    /// The beginning of a record whose end has not come, or the tail of a file so far.
    pending: Vec<u8>,
    /// Bytes that the record takes, as far as can be told.
    wanted: usize,
    /// Where the record begins.
    at: u64,
    string_limit: usize,
    through: Zxid,
    tree: Restore,
    sessions: Vec<(SessionId, i32)>,
    acls: Acls,
    znodes: u64,
    left_out: u64,
    acls_missing: u64,
    /// Of a file: the checksum of all records so far, and the digest of all znodes.
    sums: Option<(Adler32, u64)>,
}

/// Which record comes next.
#[derive(Clone, Copy)]
enum Next {
    FileHeader,
    SessionCount,
    Session {
        left: i32,
    },
    AclCount,
    AclHead {
        left: i32,
    },
    AclEntry {
        left: i32,
        entries: i32,
    },
    Znode,
    Signature,
    /// The rest of a file.
    Tail,
    Nothing,
}

/// The table of ACLs.
struct Acls {
    ids: HashMap<i64, AclId>,
    /// Neighbours mostly have the same.
    last: (i64, AclId),
    /// The ACL that is coming: its number, entries, and their bytes.
    coming: (i64, Vec<Acl>, usize),
}

impl Decoder {
    /// Begins a snapshot on the quorum port, behind a SNAP packet of `through`. A string or buffer
    /// above `string_limit` bytes (`jute::decode::string_limit`) is refused.
    pub fn stream(through: Zxid, string_limit: usize) -> Decoder {
        Decoder::new(Next::SessionCount, None, through, string_limit)
    }

    /// Begins a snapshot file whose name says `through`; uncompressed.
    pub fn file(through: Zxid, string_limit: usize) -> Decoder {
        Decoder::new(Next::FileHeader, Some((Adler32::new(), 0)), through, string_limit)
    }

    fn new(
        next: Next,
        sums: Option<(Adler32, u64)>,
        through: Zxid,
        string_limit: usize,
    ) -> Decoder {
        let acls = Acls {
            ids: HashMap::new(),
            last: (OPEN_ACL, AclId::OPEN),
            coming: (OPEN_ACL, Vec::new(), 0),
        };
        Decoder {
            next,
            pending: Vec::new(),
            wanted: 0,
            at: 0,
            string_limit,
            through,
            tree: Restore::new(through, 0),
            sessions: Vec::new(),
            acls,
            znodes: 0,
            left_out: 0,
            acls_missing: 0,
            sums,
        }
    }

    /// Takes the next bytes and returns how many of them are the snapshot's: all, unless it ends
    /// within them. A file takes everything; where it ends, [`Decoder::finish`] is told.
    ///
    /// # Errors
    /// When they make no sense. The decoder is of no use then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, SnapshotFault> {
        let mut used = 0;
        while !self.pending.is_empty() && !matches!(self.next, Next::Tail) {
            // Only what the record needs, for it is copied.
            let missing = (self.wanted - self.pending.len()).min(bytes.len() - used);
            self.pending.extend_from_slice(&bytes[used..used + missing]);
            used += missing;
            if self.pending.len() < self.wanted {
                return Ok(used);
            }
            let pending = mem::take(&mut self.pending);
            match self.record(&pending)? {
                Some(taken) => assert_eq!(taken, pending.len(), "no more than the record needs"),
                None => self.pending = pending,
            }
        }
        loop {
            let rest = &bytes[used..];
            match self.next {
                Next::Nothing => return Ok(used),
                Next::Tail if self.pending.len() + rest.len() > TAIL_BYTES_MAX => {
                    let bytes = self.pending.len() + rest.len() - TAIL_BYTES_MAX;
                    let at = self.at + TAIL_BYTES_MAX as u64;
                    return Err(SnapshotFault { at, fault: Fault::LeftOver { bytes } });
                }
                Next::Tail => {
                    self.pending.extend_from_slice(rest);
                    return Ok(bytes.len());
                }
                _ => {}
            }
            let Some(taken) = self.record(rest)? else {
                self.pending.extend_from_slice(rest);
                return Ok(bytes.len());
            };
            used += taken;
        }
    }

    /// Whether the last byte of a snapshot on the quorum port has been taken. Never so of a file.
    pub fn is_complete(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Reads to the end of the snapshot and no further, or to that of the file. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, makes no sense or ends too early.
    pub fn read(mut self, from: &mut impl BufRead) -> Result<Restored, ReadError> {
        while !self.is_complete() {
            let bytes = match from.fill_buf() {
                Ok([]) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let taken = self.take(bytes)?;
            from.consume(taken);
        }
        Ok(self.finish()?)
    }

    /// Ends the snapshot.
    ///
    /// # Errors
    /// When its end is missing, or is not what that of a file should be.
    pub fn finish(self) -> Result<Restored, SnapshotFault> {
        let end = self.at + self.pending.len() as u64;
        let (tail, computed_digest) = match (self.next, self.sums) {
            (Next::Nothing, _) => (Tail::default(), None),
            (Next::Tail, Some((checksum, digest))) => {
                let tail = Tail::read(&self.pending, checksum);
                let at_end = |(at, fault)| SnapshotFault { at: self.at + at as u64, fault };
                (tail.map_err(at_end)?, Some(digest))
            }
            _ => return Err(SnapshotFault { at: end, fault: Fault::CutOff }),
        };
        let (mut writer, registry) = self.tree.finish();
        writer.recount_quotas();
        Ok(Restored {
            writer,
            registry,
            sessions: self.sessions,
            bytes: end,
            znodes: self.znodes,
            left_out: self.left_out,
            acls_missing: self.acls_missing,
            digest: tail.digest,
            computed_digest,
            last_zxid: tail.last_zxid,
        })
    }

    /// Takes the next record off the start of `bytes` and returns how long it is. `None`: it does
    /// not end within them; `wanted` bytes must come first, and perhaps more.
    fn record(&mut self, bytes: &[u8]) -> Result<Option<usize>, SnapshotFault> {
        let mut cursor = Cursor::with_limit(bytes, self.string_limit);
        match self.decode(&mut cursor) {
            Ok(next) => self.next = next,
            Err(Fault::Record(DecodeError::PastEnd { at, want, .. })) => {
                self.wanted = at + want;
                return Ok(None);
            }
            Err(fault) => return Err(SnapshotFault { at: self.at, fault }),
        }
        let taken = cursor.at();
        if let Some((checksum, _)) = &mut self.sums {
            checksum.write_slice(&bytes[..taken]);
        }
        self.at += taken as u64;
        Ok(Some(taken))
    }

    /// Decodes a record and says what comes next. Changes nothing when its end is missing.
    fn decode(&mut self, cursor: &mut Cursor<'_>) -> Result<Next, Fault> {
        Ok(match self.next {
            Next::Znode => self.znode(cursor)?,
            Next::FileHeader => file_header(cursor)?,
            Next::SessionCount => match cursor.int("number of sessions")? {
                count if count > SESSIONS_MAX as i32 => {
                    return Err(Fault::TooManySessions { count });
                }
                count => after_session(count),
            },
            Next::Session { left } => {
                let session = SessionId::from_bits(cursor.long("session")?);
                self.sessions.push((session, cursor.int("timeout")?));
                after_session(left - 1)
            }
            Next::AclCount => after_acl(cursor.int("number of ACLs")?),
            Next::AclHead { left } => self.acl_head(cursor, left)?,
            Next::AclEntry { left, entries } => self.acl_entry(cursor, left, entries)?,
            Next::Signature => match cursor.buffer("signature")? {
                Some(found) if found == SIGNATURE.as_bytes() => Next::Nothing,
                _ => return Err(Fault::Signature),
            },
            Next::Tail | Next::Nothing => unreachable!("no record comes there"),
        })
    }

    fn acl_head(&mut self, cursor: &mut Cursor<'_>, left: i32) -> Result<Next, Fault> {
        let number = cursor.long("number of an ACL")?;
        let entries = cursor.int("entries of an ACL")?;
        if entries == -1 {
            return Err(Fault::NullAcl { number });
        }
        self.acls.coming = (number, Vec::new(), 0);
        Ok(self.after_entry(left, entries))
    }

    fn acl_entry(
        &mut self,
        cursor: &mut Cursor<'_>,
        left: i32,
        entries: i32,
    ) -> Result<Next, Fault> {
        let perms = cursor.int("perms")?;
        let scheme = cursor.text("scheme")?.into_owned();
        let id = Id { scheme, id: cursor.text("id")?.into_owned() };
        let (number, list, bytes) = &mut self.acls.coming;
        *bytes += cursor.at();
        if *bytes > self.string_limit {
            return Err(Fault::AclTooLong { number: *number, limit: self.string_limit });
        }
        list.push(Acl { perms, id });
        Ok(self.after_entry(left, entries - 1))
    }

    /// What comes next when the current ACL still has so many entries, of so many ACLs.
    fn after_entry(&mut self, left: i32, entries: i32) -> Next {
        if entries > 0 {
            return Next::AclEntry { left, entries };
        }
        let (number, list, _) = mem::replace(&mut self.acls.coming, (OPEN_ACL, Vec::new(), 0));
        // An empty one is open to everybody, in ZooKeeper as well.
        let id = self.tree.intern_acl(&list);
        self.acls.ids.insert(number, id);
        after_acl(left - 1)
    }

    fn znode(&mut self, cursor: &mut Cursor<'_>) -> Result<Next, Fault> {
        let path = cursor.str("path")?;
        if path == END_MARK {
            return match self.sums {
                _ if self.znodes == 0 => Err(Fault::Root),
                Some(_) => Ok(Next::Tail),
                None => Ok(Next::Signature),
            };
        }
        let data = cursor.buffer("data")?;
        let acl = cursor.long("acl")?;
        let stat = stat_persisted(cursor)?;
        // ZooKeeper takes any path without a slash for the root.
        if !path.is_empty() && !path.starts_with('/') {
            return Err(Fault::path(path));
        }
        if path.is_empty() != (self.znodes == 0) {
            return Err(Fault::Root);
        }
        self.znodes += 1;
        if let Some((_, digest)) = &mut self.sums {
            *digest = digest.wrapping_add(znode_digest(path, data, &stat));
        }
        let path = if path.is_empty() { END_MARK } else { path };
        if Zxid::from_bits(stat.czxid) > self.through && path != END_MARK {
            self.left_out += 1;
            return Ok(Next::Znode);
        }
        let acl = self.acl(acl);
        let inserted = self.tree.insert_fuzzy(path, data, acl, &stat);
        inserted.map_err(|source| Fault::znode(path, source))?;
        Ok(Next::Znode)
    }

    /// The ACL by which a znode that is about to be in the tree names it.
    fn acl(&mut self, number: i64) -> AclId {
        if number == OPEN_ACL {
            return AclId::OPEN;
        }
        if self.acls.last.0 == number {
            return self.acls.last.1;
        }
        let Some(id) = self.acls.ids.get(&number) else {
            self.acls_missing += 1;
            let nobody = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
            return self.tree.intern_acl(&[Acl { perms: 0, id: nobody }]);
        };
        self.acls.last = (number, *id);
        *id
    }
}

fn after_session(left: i32) -> Next {
    if left > 0 { Next::Session { left } } else { Next::AclCount }
}

fn after_acl(left: i32) -> Next {
    if left > 0 { Next::AclHead { left } } else { Next::Znode }
}

fn file_header(cursor: &mut Cursor<'_>) -> Result<Next, Fault> {
    let (magic, version) = (cursor.int("magic")?, cursor.int("version")?);
    cursor.long("database")?;
    match () {
        () if magic != MAGIC => Err(Fault::Magic { found: magic }),
        () if version != VERSION => Err(Fault::Version { found: version }),
        () => Ok(Next::SessionCount),
    }
}

fn stat_persisted(cursor: &mut Cursor<'_>) -> Result<StoredStat, DecodeError> {
    // The fields are evaluated in the order in which they are written here.
    Ok(StoredStat {
        czxid: cursor.long("czxid")?,
        mzxid: cursor.long("mzxid")?,
        ctime: cursor.long("ctime")?,
        mtime: cursor.long("mtime")?,
        version: cursor.int("version")?,
        cversion: cursor.int("cversion")?,
        aversion: cursor.int("aversion")?,
        ephemeral_owner: cursor.long("ephemeralOwner")?,
        pzxid: cursor.long("pzxid")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jute::decode::string_limit;
    use crate::snapshot::zookeeper::{Encoder, FileSections, Form};
    use crate::tree::{Owner, RestoreError, TreeError};

    const LIMIT: usize = string_limit(1024);

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn put_text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as i32).to_be_bytes());
        bytes.extend(text.as_bytes());
    }

    fn put_znode(bytes: &mut Vec<u8>, path: &str, acl: i64, stat: &StoredStat) {
        put_text(bytes, path);
        put_text(bytes, "data");
        bytes.extend(acl.to_be_bytes());
        for long in [stat.czxid, stat.mzxid, stat.ctime, stat.mtime] {
            bytes.extend(long.to_be_bytes());
        }
        for int in [stat.version, stat.cversion, stat.aversion] {
            bytes.extend(int.to_be_bytes());
        }
        bytes.extend(stat.ephemeral_owner.to_be_bytes());
        bytes.extend(stat.pzxid.to_be_bytes());
    }

    /// The stream of a snapshot without sessions and ACLs, of these znodes below the root.
    fn stream(znodes: &[(&str, i64, StoredStat)]) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        put_znode(&mut bytes, "", -1, &StoredStat::default());
        for (path, acl, stat) in znodes {
            put_znode(&mut bytes, path, *acl, stat);
        }
        put_text(&mut bytes, END_MARK);
        put_text(&mut bytes, SIGNATURE);
        bytes
    }

    fn read(bytes: &[u8], through: i64) -> Result<Restored, SnapshotFault> {
        let mut decoder = Decoder::stream(zxid(through), LIMIT);
        decoder.take(bytes)?;
        decoder.finish()
    }

    fn fault(bytes: &[u8]) -> (u64, Fault) {
        let SnapshotFault { at, fault } =
            read(bytes, 100).err().expect("the snapshot makes no sense");
        (at, fault)
    }

    fn at(czxid: i64) -> StoredStat {
        StoredStat { czxid, mzxid: czxid, pzxid: czxid, ..StoredStat::default() }
    }

    /// Where the first znode below the root begins in a `stream`.
    const FIRST: u64 = 8 + 4 + 8 + 8 + 60;

    #[test]
    fn what_follows_the_signature_is_left_alone() {
        let mut bytes = stream(&[("/a", -1, at(5))]);
        let length = bytes.len();
        bytes.extend(b"the next packet");
        for piece in [1, 2, 7, 50, 1000] {
            let mut decoder = Decoder::stream(zxid(5), LIMIT);
            let mut taken = 0;
            for part in bytes.chunks(piece) {
                assert!(!decoder.is_complete());
                let of_it = decoder.take(part).unwrap();
                taken += of_it;
                if of_it < part.len() || decoder.is_complete() {
                    break;
                }
            }
            assert!(decoder.is_complete());
            assert_eq!(taken, length, "in pieces of {piece}");
            assert_eq!(decoder.take(b"more").unwrap(), 0);
            let restored = decoder.finish().unwrap();
            assert_eq!((restored.bytes, restored.znodes), (length as u64, 2));
        }
        let mut from = &bytes[..];
        Decoder::stream(zxid(5), LIMIT).read(&mut from).unwrap();
        assert_eq!(from, b"the next packet");
    }

    #[test]
    fn what_a_fuzzy_snapshot_holds_of_later_is_left_to_the_transactions_that_follow() {
        let ahead = StoredStat { mzxid: 12, pzxid: 11, cversion: 1, ..at(3) };
        let bytes = stream(&[
            ("/a", -1, ahead),
            ("/a/new", 7, at(11)),
            ("/a/new/too", -1, at(12)),
            ("/b", 7, StoredStat { aversion: 1, ..at(4) }),
        ]);
        let restored = read(&bytes, 10).unwrap();
        assert_eq!((restored.znodes, restored.left_out, restored.acls_missing), (5, 2, 1));
        let tree = restored.writer;
        assert_eq!(tree.newest(), zxid(10));
        assert_eq!(tree.get("/a").unwrap().stored(), ahead);
        assert_eq!(tree.get("/a").unwrap().num_children(), 0);
        assert!(tree.get("/a/new").is_none());
        let closed = tree.get("/b").unwrap().acl();
        assert_eq!(closed.iter().map(|acl| acl.perms).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        let lone = |path| stream(&[(path, -1, at(1))]);
        let znode = |path: &str, source: TreeError| {
            (FIRST, Fault::Znode { path: path.into(), source: source.into() })
        };
        assert_eq!(fault(&lone("/a/b")), znode("/a/b", TreeError::NoParent));
        assert_eq!(fault(&lone("/a/")), znode("/a/", TreeError::BadPath));
        assert_eq!(fault(&lone("a")), (FIRST, Fault::Path { path: "a".into() }));
        assert_eq!(fault(&lone("")), (FIRST, Fault::Root));
        let twice = stream(&[("/a", -1, at(1)), ("/a", -1, at(1))]);
        assert_eq!(fault(&twice).1, znode("/a", TreeError::NodeExists).1);
        let mut no_root = vec![0; 8];
        put_text(&mut no_root, END_MARK);
        assert_eq!(fault(&no_root), (8, Fault::Root));
        let mut unsigned = stream(&[]);
        *unsigned.last_mut().unwrap() = b'x';
        assert_eq!(fault(&unsigned), (FIRST + 5, Fault::Signature));
        let many = (SESSIONS_MAX as i32 + 1).to_be_bytes();
        assert_eq!(fault(&many), (0, Fault::TooManySessions { count: SESSIONS_MAX as i32 + 1 }));
        let cut = stream(&[]);
        assert_eq!(fault(&cut[..cut.len() - 1]), (cut.len() as u64 - 1, Fault::CutOff));
        let root = stream(&[]);
        let future_root = [&root[..20 + 8], &77_i64.to_be_bytes(), &root[20 + 16..]].concat();
        let refused = read(&future_root, 10).err().unwrap().fault;
        assert_eq!(
            refused,
            Fault::Znode { path: "/".into(), source: RestoreError::Future { zxid: zxid(77) } }
        );
        let header = [&b"ZKLG"[..], &[0; 12]].concat();
        let log = Decoder::file(zxid(1), LIMIT).take(&header).unwrap_err();
        assert_eq!(log, SnapshotFault { at: 0, fault: Fault::Magic { found: 0x5a4b_4c47 } });
        let text = fault(&lone("/a/b")).1.to_string();
        assert_eq!(text, "the znode /a/b: the parent does not exist");
    }

    #[test]
    fn lengths_are_refused_before_anything_is_kept_for_them() {
        let mut bytes = vec![0; 8];
        put_text(&mut bytes, "");
        let head = bytes.clone();
        bytes.extend((LIMIT as i32 + 1).to_be_bytes());
        let (at, fault_of_it) = fault(&bytes);
        assert_eq!(at, 8);
        let Fault::Record(DecodeError::Unreasonable { field, at, length, limit }) = fault_of_it
        else {
            panic!("{fault_of_it}");
        };
        assert_eq!((field, at, length, limit), ("data", 4, LIMIT + 1, LIMIT));

        // One within the limit costs no more than what has come of it.
        let mut decoder = Decoder::stream(zxid(1), 1 << 30);
        decoder.take(&head).unwrap();
        decoder.take(&(1_i32 << 29).to_be_bytes()).unwrap();
        decoder.take(&[7; 10]).unwrap();
        assert!(decoder.pending.capacity() < 200, "{}", decoder.pending.capacity());

        // Counts that nothing stands behind.
        let mut decoder = Decoder::stream(zxid(1), LIMIT);
        decoder.take(&(SESSIONS_MAX as i32).to_be_bytes()).unwrap();
        assert_eq!(decoder.sessions.capacity(), 0);
        let mut decoder = Decoder::stream(zxid(1), LIMIT);
        decoder.take(&0_i32.to_be_bytes()).unwrap();
        decoder.take(&i32::MAX.to_be_bytes()).unwrap();
        decoder.take(&[0; 8]).unwrap();
        decoder.take(&i32::MAX.to_be_bytes()).unwrap();
        let mut entry = vec![0, 0, 0, 31];
        put_text(&mut entry, "digest");
        put_text(&mut entry, &"x".repeat(100));
        let refused = std::iter::repeat_with(|| decoder.take(&entry)).find_map(Result::err);
        assert_eq!(refused.unwrap().fault, Fault::AclTooLong { number: 0, limit: LIMIT });
    }

    #[test]
    fn acls_are_read_as_zookeeper_reads_them() {
        let acls = |count: i32, rest: &[u8]| {
            [&[0; 4][..], &1_i32.to_be_bytes(), &9_i64.to_be_bytes(), &count.to_be_bytes(), rest]
                .concat()
        };
        assert_eq!(fault(&acls(-1, &[])), (8, Fault::NullAcl { number: 9 }));
        let mut entry = 31_i32.to_be_bytes().to_vec();
        put_text(&mut entry, "digest");
        // A character outside of the BMP, as the JVM writes it.
        entry.extend(6_i32.to_be_bytes());
        entry.extend([0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
        let znodes = stream(&[("/a", 9, at(1))]).split_off(8);
        let restored = read(&[acls(1, &entry), znodes.clone()].concat(), 1).unwrap();
        assert_eq!(restored.writer.get("/a").unwrap().acl()[0].id.id, "\u{1f600}");
        for empty in [0, -2] {
            let restored = read(&[acls(empty, &[]), znodes.clone()].concat(), 1).unwrap();
            assert_eq!(restored.writer.get("/a").unwrap().acl_id(), AclId::OPEN);
            assert_eq!(restored.acls_missing, 0);
        }
    }

    #[derive(Clone, Debug)]
    struct Made {
        /// Which of the paths so far is the parent.
        parent: prop::sample::Index,
        name: String,
        data: Option<Vec<u8>>,
        acl: u8,
        owner: Owner,
        /// What is done to it behind its creation.
        changes: u8,
    }

    fn made() -> impl Strategy<Value = Made> {
        let owner = prop_oneof![
            4 => Just(Owner::Persistent),
            1 => Just(Owner::Container),
            1 => (1..100_000_i64).prop_map(Owner::Ttl),
            2 => (1..i64::MAX >> 8).prop_map(|id| Owner::Session(SessionId::from_bits(id))),
        ];
        let data = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        (any::<prop::sample::Index>(), "[a-zé日]{1,6}", data, 0..4_u8, owner, 0..8_u8).prop_map(
            |(parent, name, data, acl, owner, changes)| Made {
                parent,
                name,
                data,
                acl,
                owner,
                changes,
            },
        )
    }

    fn acl(number: u8) -> Vec<Acl> {
        let entry = |number: u8| {
            let id = Id { scheme: "digest".to_owned(), id: format!("user{number}:x") };
            Acl { perms: i32::from(number), id }
        };
        (0..number).map(entry).collect()
    }

    fn grown(made: &[Made]) -> (Writer, Registry) {
        let (mut writer, registry) = Writer::new();
        let mut paths = vec![String::new()];
        for Made { parent, name, data, acl: number, owner, changes } in made {
            let path = format!("{}/{name}", parent.get(&paths));
            let next = Zxid::from_bits(writer.newest().bits() + 1);
            writer.begin(next, 1000 * next.bits());
            let id = writer.intern_acl(&acl(*number));
            if writer.create(&path, data.as_deref(), id, *owner, None).is_err() {
                continue;
            }
            let next = Zxid::from_bits(next.bits() + 1);
            writer.begin(next, 1000 * next.bits());
            if changes & 1 != 0 {
                writer.set_data(&path, Some(b"changed"), 1).unwrap();
            }
            if changes & 2 != 0 {
                let id = writer.intern_acl(&acl(3));
                writer.set_acl(&path, id, 1).unwrap();
            }
            if changes & 4 != 0 {
                writer.create(&format!("{path}/gone"), None, id, *owner, None).unwrap();
                writer.delete(&format!("{path}/gone")).unwrap();
            }
            paths.push(path);
        }
        let newest = writer.newest();
        writer.publish(newest);
        (writer, registry)
    }

    type Contents = Vec<(String, Option<Vec<u8>>, Vec<Acl>, StoredStat, i32)>;

    /// All znodes, sorted.
    fn contents(registry: &Registry) -> Contents {
        let mut reader = registry.reader();
        reader.hold_newest();
        let (mut walk, mut contents) = (reader.walk(), Vec::new());
        while let Some((path, node)) = walk.next() {
            let (data, acl) = (node.data().map(<[u8]>::to_vec), node.acl().to_vec());
            contents.push((path.to_owned(), data, acl, node.stored(), node.num_children()));
        }
        contents.sort_by(|one, other| one.0.cmp(&other.0));
        contents
    }

    fn encoded(registry: &Registry, sessions: &[(SessionId, i32)], form: Form) -> Vec<u8> {
        let mut reader = registry.reader();
        reader.hold_newest();
        Encoder::new(&mut reader, sessions, form).collect::<Vec<_>>().concat()
    }

    fn forms() -> impl Strategy<Value = Form> {
        prop_oneof![
            Just(Form::Stream),
            any::<[bool; 2]>()
                .prop_map(|[digest, last_zxid]| Form::File(FileSections { digest, last_zxid })),
        ]
    }

    fn decoder(form: Form, through: Zxid) -> Decoder {
        match form {
            Form::Stream => Decoder::stream(through, LIMIT),
            Form::File(_) => Decoder::file(through, LIMIT),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_tree_comes_back_in_any_form_and_in_any_pieces(
            made in proptest::collection::vec(made(), 0..40),
            sessions in proptest::collection::vec((any::<i64>(), any::<i32>()), 0..5),
            form in forms(),
            pieces in proptest::collection::vec(1..300_usize, 1..50),
        ) {
            let (writer, registry) = grown(&made);
            let sessions: Vec<_> = sessions
                .into_iter()
                .map(|(id, timeout_ms)| (SessionId::from_bits(id), timeout_ms))
                .collect();
            let bytes = encoded(&registry, &sessions, form);
            let mut decoder = decoder(form, writer.newest());
            let mut rest = &bytes[..];
            for piece in pieces.iter().cycle() {
                let (part, behind) = rest.split_at((*piece).min(rest.len()));
                prop_assert_eq!(decoder.take(part).unwrap(), part.len());
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let restored = decoder.finish().unwrap();
            prop_assert_eq!(contents(&restored.registry), contents(&registry));
            prop_assert_eq!(&restored.sessions, &sessions);
            prop_assert_eq!(restored.writer.counts(), writer.counts());
            prop_assert_eq!((restored.left_out, restored.acls_missing), (0, 0));
            if let Form::File(sections) = form {
                prop_assert_eq!(restored.last_zxid.is_some(), sections.last_zxid);
                let counts = sections.digest && writer.newest() > Zxid::ZERO;
                let digest = restored.computed_digest.filter(|_| counts);
                prop_assert_eq!(restored.digest.map(|digest| digest.value), digest);
            }
            // Children are walked through the youngest first, so two times is as before.
            let sections = encoded(&restored.registry, &sessions, form);
            let mut again = self::decoder(form, writer.newest());
            again.take(&sections).unwrap();
            let again = again.finish().unwrap();
            prop_assert_eq!(encoded(&again.registry, &sessions, form), bytes);
        }

        #[test]
        fn nothing_that_is_damaged_or_cut_short_makes_it_panic(
            made in proptest::collection::vec(made(), 0..10),
            form in forms(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            end in any::<prop::sample::Index>(),
        ) {
            let (writer, registry) = grown(&made);
            let mut bytes = encoded(&registry, &[(SessionId::from_bits(1), 2)], form);
            let whole = bytes.clone();
            bytes.truncate(end.index(bytes.len()) + 1);
            for (place, byte) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            let read = decoder(form, writer.newest()).read(&mut &bytes[..]);
            let is_file = matches!(form, Form::File(_));
            if bytes != whole && is_file && bytes.len() == whole.len() {
                prop_assert!(read.is_err(), "a checksum tells any change");
            }
            if form == Form::Stream && bytes.len() < whole.len() && damage.is_empty() {
                let fault = read.err().expect("it is cut short").to_string();
                prop_assert!(fault.contains("ends here, too early"), "{}", fault);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decoder::stream(zxid(1), LIMIT).read(&mut &bytes[..]);
            let file = [&b"ZKSN\0\0\0\x02\0\0\0\0\0\0\0\0"[..], &bytes].concat();
            let _ = Decoder::file(zxid(1), LIMIT).read(&mut &file[..]);
        }
    }
}
