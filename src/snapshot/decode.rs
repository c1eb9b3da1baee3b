//! A chunk of a snapshot, decoded: what one thread makes of the bytes and another one takes. The
//! records say where in the chunk their text lies, so that both can travel together.

use std::ops::Range;

use super::format::{Record, Totals, Znode, take};

/// The records of a chunk, and the bytes that they refer to.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Where in the file the chunk begins.
    pub offset: u64,
    pub bytes: Vec<u8>,
    pub records: Vec<Decoded>,
}

/// A record whose text lies in its chunk.
#[derive(Debug)]
pub(super) enum Decoded {
    /// Without text: a session, an ACL.
    Whole(Record<'static>),
    /// A znode, but for its path and data.
    Znode { path: Range<usize>, data: Option<Range<usize>>, rest: Znode<'static> },
}

impl Chunk {
    /// Decodes the `count` records of `bytes` into `records`. False: they are not that, or more.
    pub fn decode(&mut self, count: u32) -> bool {
        self.records.clear();
        let mut left = &self.bytes[..];
        for _ in 0..count {
            let Some(record) = take::<Record<'_>>(&mut left) else { return false };
            self.records.push(Decoded::of(record, &self.bytes));
        }
        left.is_empty()
    }
}

impl Decoded {
    fn of(record: Record<'_>, chunk: &[u8]) -> Decoded {
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr() - chunk.as_ptr().addr();
            start..start + part.len()
        };
        match record {
            Record::Session(session, timeout_ms) => {
                Decoded::Whole(Record::Session(session, timeout_ms))
            }
            Record::Acl(number, acl) => Decoded::Whole(Record::Acl(number, acl)),
            Record::Znode(znode) => Decoded::Znode {
                path: place(znode.path.as_bytes()),
                // An empty slice may lie anywhere.
                data: znode.data.map(|data| if data.is_empty() { 0..0 } else { place(data) }),
                rest: Znode { path: "", data: None, ..znode },
            },
        }
    }

    /// Counts it.
    pub fn count(&self, totals: &mut Totals) {
        match self {
            Decoded::Whole(record) => totals.count(record),
            Decoded::Znode { rest, .. } => totals.count(&Record::Znode(*rest)),
        }
    }

    /// The record, with its text in `chunk`, where it was decoded.
    pub fn into_record(self, chunk: &[u8]) -> Record<'_> {
        match self {
            Decoded::Whole(record) => record,
            Decoded::Znode { path, data, rest } => Record::Znode(Znode {
                path: str::from_utf8(&chunk[path]).expect("it was text when it was decoded"),
                data: data.map(|data| &chunk[data]),
                ..rest
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::format::append;

    #[test]
    fn records_refer_to_their_chunk_and_come_back() {
        let znode = |path, data| Znode {
            path,
            data,
            acl: 1,
            czxid: 2,
            mzxid: 3,
            pzxid: 4,
            ctime: 5,
            mtime: 6,
            version: 7,
            cversion: 8,
            aversion: 9,
            ephemeral_owner: 10,
        };
        let records = || {
            [
                Record::Session(1, 2),
                Record::Acl(3, Vec::new()),
                Record::Znode(znode("/a", Some(b"data".as_slice()))),
                Record::Znode(znode("/b", Some(b"".as_slice()))),
                Record::Znode(znode("/c", None)),
            ]
        };
        let mut chunk = Chunk::default();
        for record in records() {
            append(&mut chunk.bytes, &record);
        }
        assert!(!chunk.decode(4), "a record too many");
        assert!(!chunk.decode(6), "a record too few");
        assert!(chunk.decode(5));
        let bytes = std::mem::take(&mut chunk.bytes);
        for (decoded, record) in chunk.records.into_iter().zip(records()) {
            assert_eq!(decoded.into_record(&bytes), record);
        }
    }
}
