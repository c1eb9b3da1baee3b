//! A leader's snapshot takes the place of everything that a server has (SNAP). Blocks; for a thread
//! beside the consensus core, while nothing is appended or flushed; `GroupCommit::go_on` is told
//! where the log goes on then.
//!
//! 1. The snapshot becomes durable under the name `received.Z`. This is the moment of the change:
//!    before it a crash leaves all as it was, behind it a start goes on from here.
//! 2. The snapshots of before are removed, then the log's segments, latest first.
//! 3. `received.Z` becomes `snapshot.Z`, and the log begins anew behind it.

use std::path::Path;

use super::folders::DataFolders;
use super::group_commit::Tail;
use super::segment;
use super::spares::Spares;
use crate::ids::Zxid;
use crate::rt::files::{self, BLOCK, DiskError, Pace};
use crate::snapshot::format as snapshot;
use crate::snapshot::write::SnapshotWriter;

/// Ends `received`, a snapshot that a leader sent and that was written into the snapshots' folder,
/// and lets it take the place of all else. Durable when it returns where the log goes on, for
/// `GroupCommit::go_on`. A snapshot of our own that is being made fails.
///
/// A snapshot that did not arrive as a whole is given up by `SnapshotWriter::abandon` instead.
///
/// # Errors
/// When the disk fails: final, as every failure of the log. The next start finds the old state or
/// the new one.
pub fn install(
    folders: &DataFolders,
    spares: &Spares,
    received: SnapshotWriter,
) -> Result<Tail, DiskError> {
    spares.withdraw();
    let _alone = folders.alone();
    let (zxid, path) = received.finish_received()?;
    give_way(folders, zxid, &path)?;
    let segment = segment::prepare(folders.log(), 1, spares.segment_bytes(), Pace::Full)?;
    Ok(Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid: zxid })
}

/// Finishes an installation that was cut short. Called by recovery, before all else.
pub(super) fn finish_interrupted(folders: &DataFolders) -> Result<(), DiskError> {
    for (zxid, path) in snapshot::list_received(folders.snapshots())? {
        tracing::warn!(%zxid, "finishing the installation of a leader's snapshot");
        give_way(folders, zxid, &path)?;
    }
    Ok(())
}

/// Removes all but the snapshot at `received`, which then gets its name.
fn give_way(folders: &DataFolders, zxid: Zxid, received: &Path) -> Result<(), DiskError> {
    snapshot::remove_unfinished(folders.snapshots())?;
    for (_, path) in snapshot::list(folders.snapshots())?.into_iter().rev() {
        files::remove(&path)?;
    }
    for (_, path) in segment::list(folders.log())?.into_iter().rev() {
        segment::recycle(folders.log(), &path)?;
    }
    files::rename(received, &snapshot::path_of(folders.snapshots(), zxid))
}
