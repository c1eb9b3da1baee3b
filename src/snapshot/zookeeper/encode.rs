//! A pinned version as a ZooKeeper snapshot, chunk by chunk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;

use adler2::Adler32;

use super::digest::znode_digest;
use super::format::{
    DATABASE_ID, DIGEST_VERSION, END_MARK, Form, MAGIC, OPEN_ACL, SIGNATURE, VERSION,
};
use crate::ids::{SessionId, Zxid};
use crate::jute::records::Acl;
use crate::tree::{AclId, NodeView, Reader, StoredStat, Walk};

/// A chunk ends with the record that makes it as long as this. So it may be longer by one znode.
const CHUNK_BYTES: usize = 64 << 10;

/// The chunks of a snapshot, one behind the other. Nothing of it is kept but the numbers of the
/// ACLs. For a thread that may take its time: making the encoder goes through the whole tree once,
/// for the table of ACLs precedes the znodes.
pub struct Encoder<'r> {
    stage: Stage<'r>,
    sessions: &'r [(SessionId, i32)],
    acls: AclNumbers,
    form: Form,
    zxid: Zxid,
    digest: u64,
    checksum: Adler32,
    /// Bytes of the chunk in the making that are in the checksum already.
    summed: usize,
}

/// What comes next.
enum Stage<'r> {
    Head(&'r mut Reader),
    Sessions(&'r mut Reader, usize),
    Acls(&'r mut Reader, usize),
    Znodes(Walk<'r>),
    End,
    Done,
}

/// The numbers by which the znodes of the snapshot name their ACLs.
#[derive(Default)]
struct AclNumbers {
    numbers: HashMap<AclId, i64>,
    /// In the order of their numbers, which begin at 1.
    ids: Vec<AclId>,
    /// Neighbours mostly have the same.
    last: Option<(AclId, i64)>,
}

impl<'r> Encoder<'r> {
    /// Begins with the version that `reader` has pinned (by `Reader::hold_newest`), and the
    /// sessions as of the same zxid with their timeouts in milliseconds.
    ///
    /// # Panics
    /// When `reader` has no pin.
    pub fn new(
        reader: &'r mut Reader,
        sessions: &'r [(SessionId, i32)],
        form: Form,
    ) -> Encoder<'r> {
        let zxid = reader.pinned().expect("a snapshot is taken of a pinned version");
        let mut acls = AclNumbers::default();
        let mut walk = reader.walk();
        while let Some((_, node)) = walk.next() {
            acls.add(node.acl_id());
        }
        let (digest, checksum, summed) = (0, Adler32::new(), 0);
        Encoder { stage: Stage::Head(reader), sessions, acls, form, zxid, digest, checksum, summed }
    }

    /// Appends the next piece.
    fn step(&mut self, chunk: &mut Vec<u8>) {
        self.stage = match mem::replace(&mut self.stage, Stage::Done) {
            Stage::Head(reader) => {
                if let Form::File(_) = self.form {
                    int(chunk, MAGIC);
                    int(chunk, VERSION);
                    long(chunk, DATABASE_ID);
                }
                count(chunk, self.sessions.len());
                Stage::Sessions(reader, 0)
            }
            Stage::Sessions(reader, at) => match self.sessions.get(at) {
                Some((session, timeout_ms)) => {
                    long(chunk, session.bits());
                    int(chunk, *timeout_ms);
                    Stage::Sessions(reader, at + 1)
                }
                None => {
                    count(chunk, self.acls.ids.len());
                    Stage::Acls(reader, 0)
                }
            },
            Stage::Acls(reader, at) => match self.acls.ids.get(at) {
                Some(id) => {
                    long(chunk, at as i64 + 1);
                    acl(chunk, reader.at(self.zxid).acl(*id));
                    Stage::Acls(reader, at + 1)
                }
                None => Stage::Znodes(reader.walk()),
            },
            Stage::Znodes(mut walk) => match walk.next() {
                Some((path, node)) => {
                    let (digest, acl) = (self.has_digest(), self.acls.of(node.acl_id()));
                    self.digest = self.digest.wrapping_add(znode(chunk, path, &node, acl, digest));
                    Stage::Znodes(walk)
                }
                None => {
                    text(chunk, END_MARK);
                    Stage::End
                }
            },
            Stage::End => {
                self.end(chunk);
                Stage::Done
            }
            Stage::Done => Stage::Done,
        }
    }

    fn has_digest(&self) -> bool {
        matches!(self.form, Form::File(sections) if sections.digest)
    }

    /// Writes what follows the znodes.
    fn end(&mut self, chunk: &mut Vec<u8>) {
        let Form::File(sections) = self.form else { return text(chunk, SIGNATURE) };
        self.seal(chunk);
        if sections.digest {
            long(chunk, self.zxid.bits());
            int(chunk, DIGEST_VERSION);
            // Before the first transaction ZooKeeper has no digest, and writes an empty one.
            let digest = if self.zxid == Zxid::ZERO { 0 } else { self.digest };
            long(chunk, digest as i64);
            self.seal(chunk);
        }
        if sections.last_zxid {
            long(chunk, self.zxid.bits());
            self.seal(chunk);
        }
    }

    /// Writes the checksum of everything before it.
    fn seal(&mut self, chunk: &mut Vec<u8>) {
        self.sum(chunk);
        long(chunk, i64::from(self.checksum.checksum()));
        text(chunk, END_MARK);
    }

    fn sum(&mut self, chunk: &[u8]) {
        if let Form::File(_) = self.form {
            self.checksum.write_slice(&chunk[self.summed..]);
            self.summed = chunk.len();
        }
    }
}

impl Iterator for Encoder<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if matches!(self.stage, Stage::Done) {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 16);
        while chunk.len() < CHUNK_BYTES && !matches!(self.stage, Stage::Done) {
            self.step(&mut chunk);
        }
        self.sum(&chunk);
        self.summed = 0;
        Some(chunk)
    }
}

impl AclNumbers {
    fn add(&mut self, id: AclId) {
        if id == AclId::OPEN || self.last.is_some_and(|(last, _)| last == id) {
            return;
        }
        let next = self.ids.len() as i64 + 1;
        let number = match self.numbers.entry(id) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.ids.push(id);
                *new.insert(next)
            }
        };
        self.last = Some((id, number));
    }

    /// The number of an ACL that was added.
    fn of(&mut self, id: AclId) -> i64 {
        match self.last {
            _ if id == AclId::OPEN => OPEN_ACL,
            Some((last, number)) if last == id => number,
            _ => {
                let number = self.numbers[&id];
                self.last = Some((id, number));
                number
            }
        }
    }
}

fn int(chunk: &mut Vec<u8>, value: i32) {
    chunk.extend_from_slice(&value.to_be_bytes());
}

fn long(chunk: &mut Vec<u8>, value: i64) {
    chunk.extend_from_slice(&value.to_be_bytes());
}

/// A count, or a length in bytes.
fn count(chunk: &mut Vec<u8>, count: usize) {
    int(chunk, i32::try_from(count).expect("no list or text in memory is as long as 2 GiB"));
}

fn text(chunk: &mut Vec<u8>, text: &str) {
    count(chunk, text.len());
    chunk.extend_from_slice(text.as_bytes());
}

fn acl(chunk: &mut Vec<u8>, acl: &[Acl]) {
    count(chunk, acl.len());
    for Acl { perms, id } in acl {
        int(chunk, *perms);
        text(chunk, &id.scheme);
        text(chunk, &id.id);
    }
}

/// Writes a znode, and returns its digest if it is wanted.
fn znode(chunk: &mut Vec<u8>, path: &str, node: &NodeView<'_>, acl: i64, digest: bool) -> u64 {
    let (data, stat) = (node.data(), node.stored());
    text(chunk, if path == "/" { "" } else { path });
    match data {
        Some(data) => {
            count(chunk, data.len());
            chunk.extend_from_slice(data);
        }
        None => int(chunk, -1),
    }
    long(chunk, acl);
    stat_persisted(chunk, &stat);
    if digest { znode_digest(path, data, &stat) } else { 0 }
}

fn stat_persisted(chunk: &mut Vec<u8>, stat: &StoredStat) {
    for value in [stat.czxid, stat.mzxid, stat.ctime, stat.mtime] {
        long(chunk, value);
    }
    for value in [stat.version, stat.cversion, stat.aversion] {
        int(chunk, value);
    }
    long(chunk, stat.ephemeral_owner);
    long(chunk, stat.pzxid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::records::Id;
    use crate::snapshot::zookeeper::{Decoder, FileSections};
    use crate::tree::{Owner, Registry, Writer};

    const FILE: Form = Form::File(FileSections::DEFAULT);

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn encoded(registry: &Registry, sessions: &[(SessionId, i32)], form: Form) -> Vec<Vec<u8>> {
        let mut reader = registry.reader();
        reader.hold_newest();
        Encoder::new(&mut reader, sessions, form).collect()
    }

    #[test]
    fn chunks_are_bounded_but_for_one_znode() {
        let (mut writer, registry) = Writer::new();
        writer.begin(zxid(1), 5);
        for number in 0..3000 {
            let path = format!("/{number}");
            writer.create(&path, Some(&[7; 100]), AclId::OPEN, Owner::Persistent, None).unwrap();
        }
        let large = vec![1; 3 * CHUNK_BYTES];
        writer.create("/large", Some(&large), AclId::OPEN, Owner::Persistent, None).unwrap();
        writer.publish(zxid(1));
        let sessions: Vec<_> = (1..10_000).map(|id| (SessionId::from_bits(id), 4000)).collect();
        for form in [Form::Stream, FILE] {
            let chunks = encoded(&registry, &sessions, form);
            let (last, whole) = chunks.split_last().unwrap();
            assert!(last.len() < CHUNK_BYTES + 300);
            let mut longer = 0;
            for chunk in whole {
                assert!(chunk.len() >= CHUNK_BYTES);
                longer += usize::from(chunk.len() > CHUNK_BYTES + 300);
            }
            assert!(longer <= 1, "{longer} chunks are too long");
            let bytes: usize = chunks.iter().map(Vec::len).sum();
            assert!(bytes > 3000 * 170 + large.len() + 10_000 * 12);
        }
    }

    #[test]
    fn the_pinned_version_is_encoded_whatever_is_written_meanwhile() {
        let (mut writer, registry) = Writer::new();
        let acl = |id: &str| {
            vec![Acl { perms: 1, id: Id { scheme: "digest".to_owned(), id: id.to_owned() } }]
        };
        let (one, two) = (writer.intern_acl(&acl("one:x")), writer.intern_acl(&acl("two:x")));
        writer.begin(zxid(1), 50);
        writer.create("/a", Some(b"first"), one, Owner::Persistent, None).unwrap();
        writer.create("/a/b", None, two, Owner::Container, None).unwrap();
        writer.publish(zxid(1));
        let mut reader = registry.reader();
        reader.hold_newest();
        let encoder = Encoder::new(&mut reader, &[], FILE);
        writer.begin(zxid(2), 60);
        writer.set_data("/a", Some(b"second"), 1).unwrap();
        writer.delete("/a/b").unwrap();
        let three = writer.intern_acl(&acl("three:x"));
        writer.create("/c", None, three, Owner::Persistent, None).unwrap();
        writer.publish(zxid(2));
        let bytes = encoder.collect::<Vec<_>>().concat();
        let restored = Decoder::file(zxid(1), 1000).read(&mut &bytes[..]).unwrap();
        let digest = restored.digest.unwrap();
        assert_eq!((digest.zxid, Some(digest.value)), (zxid(1), restored.computed_digest));
        let tree = restored.writer;
        assert_eq!(tree.get("/a").unwrap().data(), Some(b"first".as_slice()));
        assert_eq!(tree.get("/a").unwrap().acl(), acl("one:x"));
        assert_eq!(tree.get("/a/b").unwrap().acl(), acl("two:x"));
        assert_eq!(tree.get("/a/b").unwrap().stored().ephemeral_owner, i64::MIN);
        assert!(tree.get("/c").is_none());
    }
}
