//! Committed transactions out of the log, while the log is written: what a leader sends a learner
//! that was away for longer than its memory reaches back. Blocks; for a thread beside the
//! consensus core.
//!
//! A reader is told through which zxid the log is durable and committed, and never looks behind
//! that. It holds no lock and nothing back: when a purge, a truncation or an installed snapshot
//! takes a file away under it, it says `Lost`, never anything wrong, for every batch has a
//! checksum, the generation of its file's life, its number and the zxid that it follows.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{BatchHeader, take_record};
use super::scan::{Found, OpenError, SegmentReader};
use super::segment;
use crate::ids::Zxid;
use crate::rt::files::{BLOCK, DiskError};

/// Why the log cannot be read from or to where it was asked. A snapshot serves the learner then.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The transaction was purged, or was only ever in a snapshot.
    #[error("the log does not reach back to {from}: it begins behind {begins:?}")]
    TooFarBack { from: Zxid, begins: Option<Zxid> },
    /// A purge or truncation took it, or it is damaged: the next start will tell.
    #[error("what follows {behind} is not in the log any more, at byte {at} of {}", path.display())]
    Lost { behind: Zxid, path: PathBuf, at: u64 },
}

/// The transactions behind one zxid and through another, oldest first. Takes memory for one batch
/// of the log at a time.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    segment: SegmentReader,
    position: u64,
    /// The next batch's number, once one was read.
    sequence: Option<u64>,
    /// The last transaction of the batches that were read.
    read: Zxid,
    through: Zxid,
    batch: Peekable<vec_deque::IntoIter<(Zxid, Bytes)>>,
    begins_behind: Zxid,
    failed: bool,
}

impl LogReader {
    /// Opens the log in `folder` (`DataFolders::log`) behind the last transaction of this history
    /// that is not newer than `from`, to read through `through`, which is durable and committed.
    ///
    /// # Errors
    /// When the log does not reach back that far, or cannot be read.
    pub fn open(folder: &Path, from: Zxid, through: Zxid) -> Result<LogReader, ReadError> {
        // Nothing behind `through` is looked at, not even to say what precedes `from`.
        let from = from.min(through);
        let mut begins = None;
        for (_, path) in segment::list(folder)?.into_iter().rev() {
            let segment = match SegmentReader::open(&path) {
                Ok(segment) => segment,
                // A purge may have taken it since the folder was listed, and all before it.
                Err(OpenError::Disk(e)) if e.source.kind() == std::io::ErrorKind::NotFound => break,
                Err(OpenError::Disk(e)) => return Err(e.into()),
                Err(OpenError::Header(_)) => {
                    let behind = begins.unwrap_or(from);
                    return Err(ReadError::Lost { behind, path, at: 0 });
                }
            };
            let Some(first) = segment.first_batch() else { continue };
            begins = Some(first.after());
            if first.after() <= from {
                let mut reader = LogReader {
                    folder: folder.to_path_buf(),
                    segment,
                    position: BLOCK as u64,
                    sequence: None,
                    read: first.after(),
                    through,
                    batch: VecDeque::new().into_iter().peekable(),
                    begins_behind: first.after(),
                    failed: false,
                };
                reader.skip_through(from)?;
                return Ok(reader);
            }
        }
        Err(ReadError::TooFarBack { from, begins })
    }

    /// The last transaction of this history that is not newer than the zxid that was asked for:
    /// what comes follows it.
    pub fn begins_behind(&self) -> Zxid {
        self.begins_behind
    }

    fn skip_through(&mut self, from: Zxid) -> Result<(), ReadError> {
        loop {
            while let Some((zxid, _)) = self.batch.next_if(|(zxid, _)| *zxid <= from) {
                self.begins_behind = zxid;
            }
            if self.batch.peek().is_some() || self.read >= from || !self.next_batch()? {
                return Ok(());
            }
        }
    }

    /// Reads the next batch. False: there is none that is asked for.
    fn next_batch(&mut self) -> Result<bool, ReadError> {
        let mut is_fresh = false;
        while self.read < self.through {
            if self.take_batch()? {
                return Ok(true);
            }
            if self.next_segment()? {
                continue;
            }
            if is_fresh {
                let path = self.segment.path().to_path_buf();
                return Err(ReadError::Lost { behind: self.read, path, at: self.position });
            }
            // What was read ahead may be older than the batch.
            self.segment.settle()?;
            self.segment.forget();
            is_fresh = true;
        }
        Ok(false)
    }

    /// Takes the batch that lies next in this segment, if it is the one that follows.
    fn take_batch(&mut self) -> Result<bool, ReadError> {
        let Found::Batch(header, records) = self.segment.at(self.position)? else {
            return Ok(false);
        };
        if !follows(&header, self.sequence, self.read) {
            return Ok(false);
        }
        let all = Bytes::copy_from_slice(records);
        let mut left = &all[..];
        let mut batch = VecDeque::new();
        while let Some(record) = take_record(&mut left) {
            batch.push_back((record.zxid, all.slice_ref(record.txn)));
        }
        if !left.is_empty() || batch.back().is_none_or(|(zxid, _)| *zxid != header.last()) {
            return Ok(false);
        }
        self.batch = batch.into_iter().peekable();
        self.sequence = Some(header.sequence + 1);
        self.read = header.last();
        self.position += header.bytes_on_disk();
        Ok(true)
    }

    /// Goes on in the next segment, if the batch that follows is its first.
    fn next_segment(&mut self) -> Result<bool, ReadError> {
        let path = segment::path_of(&self.folder, self.segment.header().ordinal + 1);
        let segment = match SegmentReader::open(&path) {
            Ok(segment) => segment,
            Err(OpenError::Disk(e)) if e.source.kind() != std::io::ErrorKind::NotFound => {
                return Err(e.into());
            }
            Err(_) => return Ok(false),
        };
        let is_next =
            segment.first_batch().is_some_and(|first| follows(&first, self.sequence, self.read));
        if is_next {
            self.segment = segment;
            self.position = BLOCK as u64;
        }
        Ok(is_next)
    }
}

/// Whether a batch is the next one behind a reader that has read through `read`.
fn follows(header: &BatchHeader, sequence: Option<u64>, read: Zxid) -> bool {
    sequence.is_none_or(|sequence| header.sequence == sequence) && header.after() == read
}

impl Iterator for LogReader {
    type Item = Result<(Zxid, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.batch.peek().is_none() {
            match self.next_batch() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e));
                }
            }
        }
        let through = self.through;
        self.batch.next_if(|(zxid, _)| *zxid <= through).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::fixture::{Kept, folder, txn, zxid};
    use crate::log::folders::DataFolders;
    use crate::log::group_commit::GroupCommit;
    use crate::log::recover::recover;
    use crate::log::spares::Spares;
    use crate::rt::disk::{beside, run_here};

    const SEGMENT: u64 = 8 * BLOCK as u64;

    const LENGTH: usize = 1700;

    /// A log of batches of so many transactions each, whose zxids ascend by `step`.
    fn write(dir: &Path, batches: &[usize], step: i64) -> DataFolders {
        let folders = DataFolders::open(dir, dir).unwrap();
        let recovered = recover(&folders, SEGMENT, &mut Kept::default()).unwrap();
        let spares = Spares::new(folders.log(), SEGMENT, recovered.spare.clone());
        run_here(async move {
            let mut number = recovered.last_zxid.bits();
            let mut log = GroupCommit::open(recovered.tail, spares).await.unwrap();
            for count in batches {
                for _ in 0..*count {
                    number += step;
                    log.append(zxid(number), |to| to.extend(txn(number, LENGTH)));
                }
                log.start_flush().await.unwrap();
            }
        });
        folders
    }

    fn read(folders: &DataFolders, from: i64, through: i64) -> Result<(i64, Vec<i64>), ReadError> {
        let reader = LogReader::open(folders.log(), zxid(from), zxid(through))?;
        let begins_behind = reader.begins_behind().bits();
        let mut found = Vec::new();
        for item in reader {
            let (zxid, bytes) = item?;
            assert_eq!(bytes, txn(zxid.bits(), LENGTH));
            found.push(zxid.bits());
        }
        Ok((begins_behind, found))
    }

    #[test]
    fn it_begins_behind_the_last_transaction_that_is_not_newer() {
        let dir = folder();
        let folders = write(dir.path(), &[3, 1, 20, 2], 10);
        assert_eq!(read(&folders, 225, 260).unwrap(), (220, vec![230, 240, 250, 260]));
        assert_eq!(read(&folders, 40, 60).unwrap(), (40, vec![50, 60]));
        assert_eq!(read(&folders, 39, 40).unwrap(), (30, vec![40]));
        assert_eq!(read(&folders, 0, 20).unwrap(), (0, vec![10, 20]));
        assert_eq!(read(&folders, 260, 260).unwrap(), (260, vec![]));
        assert_eq!(read(&folders, 999, 260).unwrap(), (260, vec![]));
    }

    #[test]
    fn a_log_that_does_not_reach_back_says_where_it_begins() {
        let dir = folder();
        let folders = write(dir.path(), &[5, 5, 5, 5, 5, 5], 1);
        std::fs::remove_file(segment::path_of(folders.log(), 1)).unwrap();
        let second = SegmentReader::open(&segment::path_of(folders.log(), 2)).unwrap();
        let begins = second.first_batch().unwrap().after().bits();
        assert!(begins > 1);
        let refused = read(&folders, begins - 1, 30).unwrap_err();
        assert!(
            matches!(refused, ReadError::TooFarBack { begins: Some(it), .. } if it == zxid(begins)),
            "{refused}"
        );
        assert_eq!(read(&folders, begins, 30).unwrap(), (begins, (begins + 1..=30).collect()));
    }

    #[test]
    fn what_is_gone_or_damaged_on_the_way_is_lost_and_nothing_behind_it_is_given() {
        let dir = folder();
        let folders = write(dir.path(), &[5, 5, 5, 5, 5, 5], 1);
        let third = segment::path_of(folders.log(), 3);
        let begins = SegmentReader::open(&third).unwrap().first_batch().unwrap().after();
        let mut content = std::fs::read(&third).unwrap();
        content[BLOCK + 200] ^= 1;
        std::fs::write(&third, content).unwrap();
        let mut reader = LogReader::open(folders.log(), zxid(2), zxid(30)).unwrap();
        let given = reader.by_ref().take_while(Result::is_ok).count();
        assert_eq!(given as i64, begins.bits() - 2);
        assert!(reader.next().is_none());
        let refused = read(&folders, 2, 30).unwrap_err();
        assert!(matches!(refused, ReadError::Lost { behind, .. } if behind == begins), "{refused}");
    }

    #[test]
    fn a_log_that_is_written_meanwhile_is_read_through_what_was_durable() {
        let dir = folder();
        let folders = DataFolders::open(dir.path(), dir.path()).unwrap();
        let recovered = recover(&folders, SEGMENT, &mut Kept::default()).unwrap();
        let spares = Spares::new(folders.log(), SEGMENT, recovered.spare.clone());
        let log_folder = folders.log().to_path_buf();
        run_here(async move {
            let mut log = GroupCommit::open(recovered.tail, spares).await.unwrap();
            // One reader stands at the log's end all the time and has read ahead of it.
            let mut standing: Option<LogReader> = None;
            for number in 1..=60 {
                log.append(zxid(number), |to| to.extend(txn(number, LENGTH)));
                log.start_flush().await.unwrap();
                let folder = log_folder.clone();
                let mut reader = match standing.take() {
                    Some(reader) => LogReader { through: zxid(number), ..reader },
                    None => LogReader::open(&folder, zxid(0), zxid(number)).unwrap(),
                };
                let (reader, found) = beside(move || {
                    let found: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
                    (reader, found)
                })
                .await;
                assert_eq!(found, [(zxid(number), Bytes::from(txn(number, LENGTH)))]);
                standing = Some(reader);
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn any_range_of_any_log_is_what_was_written(
            batches in proptest::collection::vec(1usize..12, 1..12),
            step in 1i64..4,
            ranges in proptest::collection::vec((0i64..150, 0i64..150), 12),
        ) {
            let dir = folder();
            let folders = write(dir.path(), &batches, step);
            let all: Vec<i64> =
                (1..=batches.iter().sum::<usize>() as i64).map(|number| number * step).collect();
            let last = *all.last().unwrap();
            for (from, through) in ranges {
                let through = through.min(last);
                let (begins_behind, found) = read(&folders, from, through).unwrap();
                prop_assert_eq!(begins_behind, from.min(through) / step * step);
                let expected: Vec<i64> = all
                    .iter()
                    .copied()
                    .filter(|zxid| *zxid > begins_behind && *zxid <= through)
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
