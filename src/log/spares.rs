//! Where the log finds its next segment ready. The log asks for one as soon as it has taken up the
//! one before; the housekeeping thread makes it and leaves it here. When the log needs it sooner,
//! it makes it itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use atomic_waker::AtomicWaker;

use super::segment::{self, Segment};
use crate::rt::disk;
use crate::rt::files::{DiskError, Pace};

/// The log's next segment, wanted, in the making or ready. Cloned for the housekeeping thread.
#[derive(Clone, Debug)]
pub struct Spares(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    length: u64,
    // A lock, since it is taken twice for every segment of the log, never on a request's way.
    next: Mutex<Next>,
    made: AtomicWaker,
    settled: Condvar,
}

#[derive(Debug)]
enum Next {
    /// Nobody asked, or making it failed.
    Nothing,
    /// The log asked for segment `ordinal`.
    Wanted {
        ordinal: u64,
    },
    /// The housekeeping thread is making it.
    InTheMaking,
    Ready(Segment),
}

impl Spares {
    /// For the log in `folder`, whose segments are `length` bytes long. `ready` is one that
    /// recovery found already made.
    pub fn new(folder: &Path, length: u64, ready: Option<Segment>) -> Spares {
        let next = ready.map_or(Next::Nothing, Next::Ready);
        Spares(Arc::new(Shelf {
            folder: folder.to_path_buf(),
            length,
            next: Mutex::new(next),
            made: AtomicWaker::new(),
            settled: Condvar::new(),
        }))
    }

    /// Makes the segment that the log asked for, if it did; blocks meanwhile. The housekeeping
    /// thread calls this a few times a second. Returns whether it made one.
    ///
    /// # Errors
    /// When the disk is full or broken. That is worth a warning, no more: the log tries again
    /// itself when it needs the segment, and only then is the failure fatal.
    pub fn prepare_wanted(&self, pace: Pace) -> Result<bool, DiskError> {
        let ordinal = {
            let mut next = self.lock();
            let Next::Wanted { ordinal } = *next else { return Ok(false) };
            *next = Next::InTheMaking;
            ordinal
        };
        let prepared = segment::prepare(&self.0.folder, ordinal, self.0.length, pace);
        let (left, result) = match prepared {
            Ok(segment) => (Next::Ready(segment), Ok(true)),
            Err(e) => (Next::Nothing, Err(e)),
        };
        *self.lock() = left;
        self.0.made.wake();
        self.0.settled.notify_all();
        result
    }

    /// Whether `prepare_wanted` would make one.
    pub fn is_wanted(&self) -> bool {
        matches!(*self.lock(), Next::Wanted { .. })
    }

    /// Forgets the segment that is wanted or ready, having waited for one in the making: the log is
    /// to go on elsewhere. Blocks. For whoever cuts or replaces the log.
    pub(super) fn withdraw(&self) {
        let next = self.lock();
        let making = |next: &mut Next| matches!(next, Next::InTheMaking);
        let waited = self.0.settled.wait_while(next, making);
        *waited.unwrap_or_else(PoisonError::into_inner) = Next::Nothing;
    }

    /// Bytes of a segment that holds no overlong batch.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.0.length
    }

    /// Asks for segment `ordinal`, unless it is there already. For the log.
    pub(super) fn ask(&self, ordinal: u64) {
        let mut next = self.lock();
        if let Next::Nothing = *next {
            *next = Next::Wanted { ordinal };
        }
    }

    /// Takes segment `ordinal`, at least `length` bytes long; makes it when none is ready. For the
    /// log.
    pub(super) async fn take(&self, ordinal: u64, length: u64) -> Result<Segment, DiskError> {
        let ready = std::future::poll_fn(|context| {
            self.0.made.register(context.waker());
            let mut next = self.lock();
            if let Next::InTheMaking = *next {
                return Poll::Pending;
            }
            match std::mem::replace(&mut *next, Next::Nothing) {
                Next::Ready(segment) => Poll::Ready(Some(segment)),
                _ => Poll::Ready(None),
            }
        })
        .await;
        let segment = match ready {
            Some(segment) => segment,
            None => {
                let (folder, usual) = (self.0.folder.clone(), self.0.length);
                disk::beside(move || segment::prepare(&folder, ordinal, usual, Pace::Full)).await?
            }
        };
        assert_eq!(segment.ordinal, ordinal, "the spare segment is not the next");
        if segment.length >= length {
            return Ok(segment);
        }
        disk::beside(move || segment::lengthen(segment, length)).await
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        // Every update is one assignment, so a panic elsewhere leaves a whole value.
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
