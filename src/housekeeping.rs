//! The threads for all that may block: snapshots and purges on one, the log's next segment on
//! another (a snapshot may take minutes, the log will not wait for it), four-letter words on a
//! third.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::admin::desk::{Desk, SnapshotTimes};
use crate::admin::request::AdminRequest;
use crate::consensus::message::ConsensusMessage;
use crate::consensus::snapshots::SnapshotRequest;
use crate::log::folders::DataFolders;
use crate::log::purge::purge;
use crate::log::spares::Spares;
use crate::rt::clock;
use crate::rt::files::Pace;
use crate::rt::inbox::TaskInbox;
use crate::snapshot::take::take;

/// Rest, in shares of work: a snapshot or a segment in the making takes a fifth of a cpu that it
/// shares with a core, and leaves the disk to the log.
const PACE: Pace = Pace::Resting(4);

/// How often the log's wish for a segment is looked at. Half a segment or more is left then.
const SEGMENT_INTERVAL: Duration = Duration::from_millis(100);

/// What the snapshot thread works with.
#[derive(Debug)]
pub struct Snapshots {
    pub folders: Arc<DataFolders>,
    /// `autopurge.snapRetainCount`.
    pub retained: u32,
    /// `autopurge.purgeInterval`.
    pub purge_interval: Option<Duration>,
    /// Told when a snapshot is done.
    pub consensus: TaskInbox<ConsensusMessage>,
    pub times: SnapshotTimes,
}

/// The threads, until they are stopped.
#[derive(Debug)]
pub struct Housekeeping {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Housekeeping {
    /// Starts the threads for snapshots and segments. The consensus core asks for snapshots
    /// through the sender that comes back with them, which takes one while one is being taken.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        snapshots: Snapshots,
        spares: Spares,
    ) -> std::io::Result<(Housekeeping, SyncSender<SnapshotRequest>)> {
        let stopping = Arc::new(AtomicBool::new(false));
        // One: the consensus core asks for the next when the last is done.
        let (ask, asked) = sync_channel(1);
        let stop = Arc::clone(&stopping);
        let snapshotting = thread("snapshots", move || snapshots.run(&asked, &stop))?;
        let stop = Arc::clone(&stopping);
        let segments = thread("segments", move || prepare_segments(&spares, &stop))?;
        let threads = vec![snapshotting, segments];
        Ok((Housekeeping { stopping, threads }, ask))
    }

    /// Starts the operators' thread. It ends when every reactor has, and is not waited for.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn open_desk(desk: Desk, requests: Receiver<AdminRequest>) -> std::io::Result<()> {
        thread("operators", move || desk.run(&requests)).map(drop)
    }

    /// Gives up what is in the making and waits for the threads to end. Whoever asks for
    /// snapshots must have ended.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("a housekeeping thread has panicked");
            }
        }
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn prepare_segments(spares: &Spares, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        match spares.prepare_wanted(PACE) {
            Ok(_) => {}
            Err(error) => tracing::warn!(
                "the log's next segment cannot be made ahead: {error}; the log tries again when \
                 it needs it, and stops the server if it cannot have it"
            ),
        }
        std::thread::park_timeout(SEGMENT_INTERVAL);
    }
}

impl Snapshots {
    fn run(self, asked: &Receiver<SnapshotRequest>, stopping: &AtomicBool) {
        // As ZooKeeper: the first purge at the start, the next after each interval.
        let mut purge_due = self.purge_interval.map(|_| Instant::now());
        while self.turn(asked, &mut purge_due, stopping).is_continue() {}
    }

    fn turn(
        &self,
        asked: &Receiver<SnapshotRequest>,
        purge_due: &mut Option<Instant>,
        stopping: &AtomicBool,
    ) -> ControlFlow<()> {
        if let (Some(due), Some(interval)) = (*purge_due, self.purge_interval)
            && due <= Instant::now()
        {
            self.purge();
            *purge_due = Some(Instant::now() + interval);
        }
        let wait = purge_due.map_or(Duration::MAX, |due| due - Instant::now());
        match asked.recv_timeout(wait) {
            Ok(request) => {
                self.take(request, stopping);
                ControlFlow::Continue(())
            }
            Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
            Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
        }
    }

    fn take(&self, request: SnapshotRequest, stopping: &AtomicBool) {
        let SnapshotRequest { zxid, mut reader, sessions } = request;
        let began = Instant::now();
        let go_on = || !stopping.load(Ordering::Relaxed);
        let time_ms = clock::wall_ms();
        let folder = self.folders.snapshots();
        let taken = take(folder, &mut reader, &sessions, time_ms, PACE, go_on);
        // What only the snapshot could see is freed from here on.
        drop(reader);
        let message = match taken {
            Ok(Some(written)) => {
                let (znodes, bytes) = (written.totals.znodes, written.bytes);
                self.times.add(began.elapsed());
                tracing::info!(%zxid, znodes, bytes, took = ?began.elapsed(), "snapshot taken");
                ConsensusMessage::SnapshotTaken(zxid)
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!(
                    "the snapshot at {zxid} failed: {error}; the snapshots before it and the log \
                     still hold everything"
                );
                ConsensusMessage::SnapshotFailed(zxid)
            }
        };
        let mut message = message;
        while let Err(back) = self.consensus.send(message) {
            if !go_on() {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn purge(&self) {
        match purge(&self.folders, self.retained as usize) {
            Ok(purged) if purged.snapshots.is_empty() && purged.segments.is_empty() => {}
            Ok(purged) => tracing::info!(
                snapshots = purged.snapshots.len(),
                segments = purged.segments.len(),
                "purged what is older than the retained snapshots"
            ),
            Err(error) => tracing::warn!("the purge failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rt::files::BLOCK;
    use crate::snapshot::format as snapshot;
    use crate::tree::Writer;

    fn started(folder: &Path) -> (Housekeeping, SyncSender<SnapshotRequest>, Snapshots) {
        let kept = Snapshots {
            folders: Arc::new(DataFolders::open(folder, folder).unwrap()),
            retained: 3,
            purge_interval: None,
            consensus: TaskInbox::new(1),
            times: SnapshotTimes::default(),
        };
        let given = Snapshots {
            folders: Arc::clone(&kept.folders),
            consensus: kept.consensus.clone(),
            times: kept.times.clone(),
            ..kept
        };
        let spares = Spares::new(kept.folders.log(), 2 * BLOCK as u64, None);
        let (housekeeping, ask) = Housekeeping::start(given, spares).unwrap();
        (housekeeping, ask, kept)
    }

    fn request() -> SnapshotRequest {
        let (_, registry) = Writer::new();
        let mut reader = registry.reader();
        let zxid = reader.hold_newest();
        SnapshotRequest { zxid, reader, sessions: Vec::new() }
    }

    fn told(consensus: &TaskInbox<ConsensusMessage>) -> ConsensusMessage {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(message) = consensus.take() {
                return message;
            }
            assert!(Instant::now() < deadline, "the consensus core was told nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_snapshot_is_in_place_when_the_consensus_core_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (housekeeping, ask, kept) = started(dir.path());
        ask.send(request()).unwrap();
        let message = told(&kept.consensus);
        assert!(matches!(message, ConsensusMessage::SnapshotTaken(_)), "{message:?}");
        assert_eq!(snapshot::list(kept.folders.snapshots()).unwrap().len(), 1);
        drop(ask);
        housekeeping.stop();
    }

    #[test]
    fn a_snapshot_that_cannot_be_written_is_told_as_failed_and_the_next_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (housekeeping, ask, kept) = started(dir.path());
        let (folder, away) = (kept.folders.snapshots().to_owned(), dir.path().join("away"));
        std::fs::rename(&folder, &away).unwrap();
        ask.send(request()).unwrap();
        let message = told(&kept.consensus);
        assert!(matches!(message, ConsensusMessage::SnapshotFailed(_)), "{message:?}");
        std::fs::rename(&away, &folder).unwrap();
        ask.send(request()).unwrap();
        let message = told(&kept.consensus);
        assert!(matches!(message, ConsensusMessage::SnapshotTaken(_)), "{message:?}");
        drop(ask);
        housekeeping.stop();
    }
}
