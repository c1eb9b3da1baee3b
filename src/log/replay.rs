//! The log from one snapshot on: every batch checked, every transaction handed over in order, and
//! the end told from damage. For recovery alone.

use std::path::Path;

use super::damage::{Damage, RecoverError};
use super::format::{BatchHeader, take_record};
use super::recover::Recover;
use super::scan::{Found, SegmentReader};
use crate::ids::Zxid;
use crate::rt::files::{BLOCK, DiskError};

/// Where the log ends.
#[derive(Debug)]
pub(super) struct LogEnd {
    /// The segment that goes on, counted in those that were replayed.
    pub segment: usize,
    /// Where in it.
    pub position: u64,
    /// The next batch's number.
    pub next_sequence: u64,
    /// The last transaction of the snapshot or the log.
    pub last_zxid: Zxid,
    /// Transactions that were newer than the snapshot, and their bytes.
    pub replayed: u64,
    pub replayed_bytes: u64,
    /// What must be cut off.
    pub torn: Vec<Stop>,
}

/// A batch that is not whole.
#[derive(Debug)]
pub(super) struct Stop {
    pub segment: usize,
    pub position: u64,
    pub header: BatchHeader,
}

/// The walk along the log.
pub(super) struct Replay<'t, T> {
    target: &'t mut T,
    snapshot: Zxid,
    damaged_snapshots: usize,
    /// The last transaction of the log so far.
    last: Option<Zxid>,
    end: LogEnd,
    /// Known once a batch has been seen.
    expected: Option<u64>,
}

impl<'t, T: Recover> Replay<'t, T> {
    /// Over a `target` that holds everything up to `snapshot`.
    pub fn new(target: &'t mut T, snapshot: Zxid, damaged_snapshots: usize) -> Replay<'t, T> {
        let end = LogEnd {
            segment: 0,
            position: BLOCK as u64,
            next_sequence: 1,
            last_zxid: snapshot,
            replayed: 0,
            replayed_bytes: 0,
            torn: Vec::new(),
        };
        Replay { target, snapshot, damaged_snapshots, last: None, end, expected: None }
    }

    /// Replays the segments, the first of which holds the first transaction behind the snapshot,
    /// if there is one.
    pub fn run(mut self, segments: &mut [SegmentReader]) -> Result<LogEnd, RecoverError> {
        let mut at = 0;
        while at < segments.len() {
            let position = self.segment(at, &mut segments[at])?;
            let Some((next, offset, header)) = next_header(segments, at, position)? else { break };
            let goes_on = next == at + 1
                && offset == BLOCK as u64
                && self.expected == Some(header.sequence)
                && self.end.torn.is_empty();
            if !goes_on {
                let path = segments[next].path().to_path_buf();
                let lost = Damage::BatchLost { later: header.sequence, path, at: offset };
                return Err(self.damaged(segments[at].path(), position, lost));
            }
            // The segment was full: the next batch had no room in it.
            at = next;
        }
        self.end.next_sequence = self.expected.unwrap_or(1);
        if self.last.is_some_and(|last| last < self.snapshot) {
            tracing::warn!(
                snapshot = %self.snapshot,
                "the log ends before the snapshot; nothing is missing"
            );
        }
        Ok(self.end)
    }

    /// Replays one segment and returns where it ends.
    fn segment(&mut self, index: usize, segment: &mut SegmentReader) -> Result<u64, RecoverError> {
        let path = segment.path().to_path_buf();
        let mut position = BLOCK as u64;
        loop {
            let (header, whole) = match segment.at(position)? {
                Found::Nothing => return Ok(position),
                Found::Torn(header) => (header, None),
                Found::Batch(header, records) => (header, Some(records)),
            };
            self.check_place(&path, position, &header)?;
            let Some(records) = whole else {
                self.end.torn.push(Stop { segment: index, position, header });
                return Ok(position);
            };
            if !agrees(&header, records) {
                return Err(self.damaged(&path, position, Damage::Records));
            }
            if header.last() > self.snapshot {
                self.apply(&path, records)?;
            }
            self.last = Some(header.last());
            self.expected = Some(header.sequence + 1);
            position += header.bytes_on_disk();
            self.end.last_zxid = self.end.last_zxid.max(header.last());
            (self.end.segment, self.end.position) = (index, position);
        }
    }

    /// Whether the batch follows what is before it.
    fn check_place(
        &self,
        path: &Path,
        position: u64,
        header: &BatchHeader,
    ) -> Result<(), RecoverError> {
        let (found, after) = (header.sequence, header.after());
        if let Some(expected) = self.expected.filter(|expected| *expected != found) {
            return Err(self.damaged(path, position, Damage::Sequence { expected, found }));
        }
        if let Some(last) = self.last.filter(|last| *last > after) {
            return Err(self.damaged(path, position, Damage::Backwards { last, next: after }));
        }
        // The snapshot may be ahead of where the log went on, never behind.
        if after > self.end.last_zxid {
            return Err(RecoverError::Gap {
                path: path.to_path_buf(),
                offset: position,
                after,
                reached: self.end.last_zxid,
                damaged_snapshots: self.damaged_snapshots,
            });
        }
        Ok(())
    }

    /// Hands over those of a batch's transactions that the snapshot lacks.
    fn apply(&mut self, path: &Path, mut records: &[u8]) -> Result<(), RecoverError> {
        while let Some(record) = take_record(&mut records) {
            if record.zxid <= self.snapshot {
                continue;
            }
            self.target.replay(record.zxid, record.txn).map_err(|source| {
                RecoverError::Refused {
                    path: path.to_path_buf(),
                    zxid: record.zxid,
                    source: Box::new(source),
                }
            })?;
            self.end.replayed += 1;
            self.end.replayed_bytes += record.txn.len() as u64;
        }
        Ok(())
    }

    fn damaged(&self, path: &Path, offset: u64, damage: Damage) -> RecoverError {
        RecoverError::Damaged { path: path.to_path_buf(), offset, last_good: self.last, damage }
    }
}

/// The first batch header behind the one at `position` of segment `at`, in this segment or a later
/// one: which segment, where in it, the header.
fn next_header(
    segments: &mut [SegmentReader],
    at: usize,
    position: u64,
) -> Result<Option<(usize, u64, BatchHeader)>, DiskError> {
    let mut from = position + BLOCK as u64;
    for (index, segment) in segments.iter_mut().enumerate().skip(at) {
        if let Some((position, header)) = segment.next_header(from)? {
            return Ok(Some((index, position, header)));
        }
        from = BLOCK as u64;
    }
    Ok(None)
}

/// Whether the records are what the header says: so many, in order, from the first to the last.
/// Their bytes have the right checksum, so that a no means that they were written wrong.
pub(super) fn agrees(header: &BatchHeader, mut records: &[u8]) -> bool {
    let mut last = header.after();
    for number in 0..header.count {
        let Some(record) = take_record(&mut records) else { return false };
        if record.zxid <= last || (number == 0 && record.zxid != header.first()) {
            return false;
        }
        last = record.zxid;
    }
    header.count > 0 && records.is_empty() && last == header.last()
}
