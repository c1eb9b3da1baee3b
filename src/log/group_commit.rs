//! Group commit: one flush in flight while the next batch gathers. Owned by the consensus core's
//! task.
//!
//! Invariants: batches follow each other without a gap, in sequence and in zxid; a batch is
//! written only once the one before it is durable, so at most the last one can be torn; after the
//! first failure nothing is written any more.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::format::{self, BATCH_HEADER_BYTES, BatchHeader, BatchSpan};
use super::segment::Segment;
use super::spares::Spares;
use crate::ids::Zxid;
use crate::limits::GROUP_COMMIT_BYTES_MAX;
use crate::rt::disk::DurableFile;
use crate::rt::files::{BLOCK, DiskError};

/// Where the log goes on: what recovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment that is written to.
    pub segment: Segment,
    /// Where in it the next batch goes.
    pub position: u64,
    /// The next batch's sequence number.
    pub sequence: u64,
    /// The last transaction of the log or of the snapshot, whichever is newer.
    pub last_zxid: Zxid,
}

/// The log could not be written. Final: the process must stop, for what is durable is no longer
/// known, and a later write could succeed over a hole.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log's file could not be taken up or laid down: {0}")]
    File(DiskError),
    #[error("the log's next segment could not be made: {0}")]
    Segment(DiskError),
    #[error("transactions {first} to {last} could not be written to the log: {source}")]
    Write { first: Zxid, last: Zxid, source: DiskError },
}

/// A batch is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// So is every transaction up to this one.
    pub through: Zxid,
    /// Transactions in the batch.
    pub txns: u32,
    /// Bytes that the batch took up in the file.
    pub bytes: u64,
    /// From the start of the flush to its end.
    pub took: Duration,
}

/// The log's writing end. See the module's docs.
pub struct GroupCommit {
    /// Room for a batch header, then the records that wait for the next flush.
    gathering: Vec<u8>,
    gathered: u32,
    first: Zxid,
    last: Zxid,
    /// The last transaction of the batch before.
    after: Zxid,
    shared: Rc<RefCell<Shared>>,
}

/// What a flush takes with it and brings back.
struct Shared {
    /// `None` while a flush is in flight, and forever after a failure.
    end: Option<End>,
    /// An empty buffer, kept for its memory.
    buffer: Vec<u8>,
}

/// Where the next batch goes.
struct End {
    file: DurableFile,
    segment: Segment,
    position: u64,
    sequence: u64,
    spares: Spares,
}

impl GroupCommit {
    /// Opens the log for writing where recovery found its end, and asks for the segment after it.
    /// Runs on the executor that will write.
    ///
    /// # Errors
    /// When the segment's file cannot be opened.
    pub async fn open(tail: Tail, spares: Spares) -> Result<GroupCommit, LogError> {
        let file = DurableFile::open(&tail.segment.path).await.map_err(LogError::File)?;
        if !file.is_direct() {
            tracing::warn!(
                folder = %file.path().parent().unwrap_or(file.path()).display(),
                "the log's filesystem refuses O_DIRECT: writing through the page cache, with an \
                 fdatasync for every group commit"
            );
        }
        spares.ask(tail.segment.ordinal + 1);
        let end = End {
            file,
            segment: tail.segment,
            position: tail.position,
            sequence: tail.sequence,
            spares,
        };
        Ok(GroupCommit {
            gathering: vec![0; BATCH_HEADER_BYTES],
            gathered: 0,
            first: tail.last_zxid,
            last: tail.last_zxid,
            after: tail.last_zxid,
            shared: Rc::new(RefCell::new(Shared { end: Some(end), buffer: Vec::new() })),
        })
    }

    /// Adds a transaction to the batch that gathers. `encode` writes its bytes, header and record
    /// as they travel in a PROPOSAL, at the end of the buffer that it gets.
    ///
    /// # Panics
    /// When `zxid` is not newer than the last one appended.
    pub fn append(&mut self, zxid: Zxid, encode: impl FnOnce(&mut Vec<u8>)) {
        assert!(zxid > self.last, "append of {zxid} after {}", self.last);
        if self.gathered == 0 {
            self.first = zxid;
        }
        format::append_record(&mut self.gathering, zxid, encode);
        self.gathered += 1;
        self.last = zxid;
    }

    /// Bytes of records that wait for the next flush. 0: there is nothing to flush.
    pub fn gathered_bytes(&self) -> usize {
        self.gathering.len() - BATCH_HEADER_BYTES
    }

    /// Transactions that wait for the next flush.
    pub fn gathered_txns(&self) -> u32 {
        self.gathered
    }

    /// The last transaction appended.
    pub fn last_appended(&self) -> Zxid {
        self.last
    }

    /// Whether a flush is in flight (or has failed): no other can start.
    pub fn is_flushing(&self) -> bool {
        self.shared.borrow().end.is_none()
    }

    /// Goes on at another end, after the log was truncated or a snapshot took its place (`truncate`,
    /// `install`). From the start of either until this is done, nothing may be appended.
    ///
    /// # Errors
    /// When the segment's file cannot be opened; final, as every failure of the log.
    ///
    /// # Panics
    /// When something has gathered, or a flush is in flight or has failed.
    pub async fn go_on(&mut self, tail: Tail) -> Result<(), LogError> {
        assert_eq!(self.gathered, 0, "the log is moved while a batch gathers");
        let Some(end) = self.shared.borrow_mut().end.take() else {
            panic!("the log is moved while a flush is in flight, or after one failed");
        };
        let file = DurableFile::open(&tail.segment.path).await.map_err(LogError::File)?;
        end.file.close().await.map_err(LogError::File)?;
        end.spares.ask(tail.segment.ordinal + 1);
        (self.first, self.last, self.after) = (tail.last_zxid, tail.last_zxid, tail.last_zxid);
        self.shared.borrow_mut().end = Some(End {
            file,
            segment: tail.segment,
            position: tail.position,
            sequence: tail.sequence,
            spares: end.spares,
        });
        Ok(())
    }

    /// Starts to make the gathered batch durable; `append` gathers the next one meanwhile. Nothing
    /// is written before the future is polled first. It owns its buffers and must be driven to its
    /// end: dropped before, it counts as failed.
    ///
    /// # Panics
    /// When nothing has gathered, or another flush is in flight or has failed.
    pub fn start_flush(&mut self) -> Flush {
        assert!(self.gathered > 0, "a flush of nothing");
        let mut shared = self.shared.borrow_mut();
        let Some(end) = shared.end.take() else {
            panic!("a second flush while one is in flight, or after one failed");
        };
        let mut next = std::mem::take(&mut shared.buffer);
        next.resize(BATCH_HEADER_BYTES, 0);
        let batch = Batch {
            bytes: std::mem::replace(&mut self.gathering, next),
            count: std::mem::take(&mut self.gathered),
            after: std::mem::replace(&mut self.after, self.last),
            first: self.first,
            last: self.last,
        };
        drop(shared);
        Flush(Box::pin(flush(end, batch, Rc::clone(&self.shared))))
    }
}

impl fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit")
            .field("last", &self.last)
            .field("gathered", &self.gathered)
            .field("flushing", &self.is_flushing())
            .finish_non_exhaustive()
    }
}

/// A flush in flight: a future that resolves when the batch is durable.
pub struct Flush(Pin<Box<dyn Future<Output = Result<Flushed, LogError>>>>);

impl Future for Flush {
    type Output = Result<Flushed, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flush")
    }
}

/// A batch on its way to the disk.
struct Batch {
    bytes: Vec<u8>,
    count: u32,
    after: Zxid,
    first: Zxid,
    last: Zxid,
}

async fn flush(
    mut end: End,
    mut batch: Batch,
    shared: Rc<RefCell<Shared>>,
) -> Result<Flushed, LogError> {
    let began = Instant::now();
    let length = format::blocks_for(batch.bytes.len() - BATCH_HEADER_BYTES);
    if end.position + length > end.segment.length {
        end = next_segment(end, length).await?;
    }
    let span = BatchSpan {
        generation: end.segment.generation,
        sequence: end.sequence,
        after: batch.after,
        first: batch.first,
        last: batch.last,
        count: batch.count,
    };
    BatchHeader::seal(span, &batch.bytes[BATCH_HEADER_BYTES..]).write(&mut batch.bytes);
    batch.bytes.resize(length as usize, 0);
    let written = end.file.write(&batch.bytes, end.position).await;
    let (first, last) = (batch.first, batch.last);
    written.map_err(|source| LogError::Write { first, last, source })?;
    end.position += length;
    end.sequence += 1;

    let mut shared = shared.borrow_mut();
    shared.end = Some(end);
    // One huge batch must not hold its memory for good.
    if batch.bytes.capacity() <= 2 * GROUP_COMMIT_BYTES_MAX {
        batch.bytes.clear();
        shared.buffer = batch.bytes;
    }
    Ok(Flushed { through: last, txns: batch.count, bytes: length, took: began.elapsed() })
}

/// Takes up the next segment, for a batch of `length` bytes that has no room in this one.
async fn next_segment(end: End, length: u64) -> Result<End, LogError> {
    let ordinal = end.segment.ordinal + 1;
    let needed = BLOCK as u64 + length;
    let segment = end.spares.take(ordinal, needed).await.map_err(LogError::Segment)?;
    let file = DurableFile::open(&segment.path).await.map_err(LogError::File)?;
    end.file.close().await.map_err(LogError::File)?;
    end.spares.ask(ordinal + 1);
    tracing::debug!(ordinal, path = %segment.path.display(), "the log goes on in its next segment");
    Ok(End { file, segment, position: BLOCK as u64, ..end })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::log::segment;
    use crate::rt::disk::run_here as run;
    use crate::rt::files::Pace;

    const SEGMENT: u64 = 8 * BLOCK as u64;

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn fresh(folder: &Path) -> (Tail, Spares) {
        let segment = segment::prepare(folder, 1, SEGMENT, Pace::Full).unwrap();
        let tail = Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid: Zxid::ZERO };
        (tail, Spares::new(folder, SEGMENT, None))
    }

    #[test]
    fn a_batch_gathers_while_another_is_in_flight() {
        let dir = tempfile::tempdir().unwrap();
        let (tail, spares) = fresh(dir.path());
        run(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            log.append(zxid(1), |txn| txn.extend_from_slice(b"one"));
            assert_eq!((log.gathered_txns(), log.gathered_bytes()), (1, 19));
            let flush = log.start_flush();
            assert!(log.is_flushing());
            assert_eq!(log.gathered_bytes(), 0);
            log.append(zxid(2), |txn| txn.extend_from_slice(b"two"));
            log.append(zxid(5), |txn| txn.extend_from_slice(b"three"));
            let flushed = flush.await.unwrap();
            assert_eq!((flushed.through, flushed.txns), (zxid(1), 1));
            assert!(!log.is_flushing());
            let flushed = log.start_flush().await.unwrap();
            assert_eq!((flushed.through, flushed.txns), (zxid(5), 2));
            assert_eq!(log.last_appended(), zxid(5));
        });
    }

    #[test]
    fn the_log_goes_on_in_a_segment_that_was_ready_and_makes_one_that_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let (tail, spares) = fresh(dir.path());
        let housekeeping = spares.clone();
        run(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            assert!(housekeeping.prepare_wanted(Pace::Full).unwrap());
            assert!(!housekeeping.prepare_wanted(Pace::Full).unwrap());
            for number in 1..=17 {
                log.append(zxid(number), |txn| txn.extend_from_slice(&[7; 3000]));
                log.start_flush().await.unwrap();
            }
            assert!(housekeeping.is_wanted());
        });
        let ordinals: Vec<u64> =
            segment::list(dir.path()).unwrap().iter().map(|(ordinal, _)| *ordinal).collect();
        assert_eq!(ordinals, [1, 2, 3]);
    }

    #[test]
    fn a_batch_that_no_segment_could_hold_gets_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let (tail, spares) = fresh(dir.path());
        run(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            log.append(zxid(1), |txn| txn.resize(txn.len() + 100_000, 7));
            log.start_flush().await.unwrap();
        });
        let second = std::fs::metadata(segment::path_of(dir.path(), 2)).unwrap();
        assert_eq!(second.len(), BLOCK as u64 + (100_000u64 + 84).next_multiple_of(BLOCK as u64));
    }

    #[test]
    fn a_failed_write_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, spares) = fresh(dir.path());
        tail.segment.path = "/dev/full".into();
        run(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            log.append(zxid(3), |txn| txn.push(1));
            let failed = log.start_flush().await.unwrap_err();
            let text = failed.to_string();
            assert!(text.contains("0x3"), "{text}");
            assert!(text.contains("/dev/full"), "{text}");
            assert!(text.contains("make room"), "{text}");
            assert!(log.is_flushing(), "a log that failed takes no further flush");
        });
    }

    #[test]
    #[should_panic(expected = "append of 0x1 after 0x1")]
    fn a_zxid_that_is_not_newer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (tail, spares) = fresh(dir.path());
        run(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            log.append(zxid(1), |_| ());
            log.append(zxid(1), |_| ());
        });
    }
}
