//! Purge: old snapshots are removed, and the segments that only they needed go to their next life.
//! For the housekeeping thread, at the times that `autopurge.purgeInterval` sets.

use std::path::PathBuf;

use super::folders::DataFolders;
use super::scan::{OpenError, SegmentReader};
use super::segment;
use crate::rt::files::{self, DiskError};
use crate::snapshot::format as snapshot;

/// What was purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Snapshots that are gone.
    pub snapshots: Vec<PathBuf>,
    /// Segments that wait for their next life, or are gone.
    pub segments: Vec<PathBuf>,
}

/// Keeps the newest `retain` snapshots (`autopurge.snapRetainCount`) and the log from the oldest
/// of these on. While there are fewer snapshots than that, everything stays. Oldest first, so that
/// whatever interrupts it leaves no hole.
///
/// # Errors
/// When the disk fails. The next purge goes on where this one stopped.
///
/// # Panics
/// When `retain` is 0.
pub fn purge(folders: &DataFolders, retain: usize) -> Result<Purged, DiskError> {
    assert!(retain > 0, "the newest snapshot is not for purging");
    let _alone = folders.alone();
    let mut purged = Purged::default();
    let snapshots = snapshot::list(folders.snapshots())?;
    let Some(kept_from) = snapshots.len().checked_sub(retain) else { return Ok(purged) };
    let (oldest_kept, _) = snapshots[kept_from];
    for (_, path) in &snapshots[..kept_from] {
        files::remove(path)?;
        purged.snapshots.push(path.clone());
    }
    let segments = segment::list(folders.log())?;
    for pair in segments.windows(2) {
        // What the next segment begins behind is the last of this one. A next segment that is not
        // in use yet (or cannot be read, which recovery will tell) means that this one stays.
        let next = match SegmentReader::open(&pair[1].1) {
            Ok(next) => next.first_batch(),
            Err(OpenError::Disk(e)) => return Err(e),
            Err(OpenError::Header(_)) => None,
        };
        if next.is_none_or(|first| first.after() > oldest_kept) {
            break;
        }
        segment::recycle(folders.log(), &pair[0].1)?;
        purged.segments.push(pair[0].1.clone());
    }
    Ok(purged)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ids::Zxid;
    use crate::log::group_commit::{GroupCommit, Tail};
    use crate::log::spares::Spares;
    use crate::rt::disk::run_here;
    use crate::rt::files::{BLOCK, Pace};
    use crate::snapshot::write::SnapshotWriter;

    /// Four segments that end with transactions 1, 3, 5 and 6, and a fifth that is empty.
    fn filled(dir: &Path) -> DataFolders {
        let folders = DataFolders::open(dir, dir).unwrap();
        let length = 4 * BLOCK as u64;
        let segment = segment::prepare(folders.log(), 1, length, Pace::Full).unwrap();
        let tail = Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid: Zxid::ZERO };
        let spares = Spares::new(folders.log(), length, None);
        let housekeeping = spares.clone();
        run_here(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            for (number, length) in (1..).zip([9000, 2000, 2000, 5000, 100, 9000]) {
                log.append(Zxid::from_bits(number), |txn| txn.resize(txn.len() + length, 7));
                log.start_flush().await.unwrap();
            }
        });
        assert!(housekeeping.prepare_wanted(Pace::Full).unwrap());
        folders
    }

    fn snapshot_at(folders: &DataFolders, at: i64) {
        let at = Zxid::from_bits(at);
        let writer = SnapshotWriter::create(folders.snapshots(), at, 0, Pace::Full).unwrap();
        writer.finish().unwrap();
    }

    fn left(folders: &DataFolders) -> (Vec<i64>, Vec<u64>) {
        let snapshots = snapshot::list(folders.snapshots()).unwrap();
        let segments = segment::list(folders.log()).unwrap();
        (
            snapshots.into_iter().map(|(zxid, _)| zxid.bits()).collect(),
            segments.into_iter().map(|(ordinal, _)| ordinal).collect(),
        )
    }

    #[test]
    fn the_newest_snapshots_stay_and_the_log_that_they_need() {
        let dir = tempfile::tempdir().unwrap();
        let folders = filled(dir.path());
        assert_eq!(left(&folders).1, [1, 2, 3, 4, 5]);
        for at in [1, 2, 3, 4] {
            snapshot_at(&folders, at);
        }
        let purged = purge(&folders, 2).unwrap();
        assert_eq!((purged.snapshots.len(), purged.segments.len()), (2, 2));
        assert_eq!(left(&folders), (vec![3, 4], vec![3, 4, 5]));
        assert_eq!(purge(&folders, 2).unwrap(), Purged::default());
    }

    #[test]
    fn the_segment_with_the_last_transaction_always_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folders = filled(dir.path());
        snapshot_at(&folders, 6);
        purge(&folders, 1).unwrap();
        assert_eq!(left(&folders), (vec![6], vec![4, 5]));
    }

    #[test]
    fn nothing_goes_while_there_are_too_few_snapshots() {
        let dir = tempfile::tempdir().unwrap();
        let folders = filled(dir.path());
        snapshot_at(&folders, 5);
        assert_eq!(purge(&folders, 3).unwrap(), Purged::default());
        assert_eq!(left(&folders).1.len(), 5);
    }
}
