//! Truncation: everything behind one zxid is cut off the log, because a leader said that it never
//! happened (TRUNC). Blocks; for a thread beside the consensus core, while nothing is appended or
//! flushed; `GroupCommit::go_on` is told where the log ends then.
//!
//! Nothing is changed unless it can be done: the zxid must be one of this history, and be reached
//! from a snapshot that is not newer, or from the server's beginning. Then:
//!
//! 1. The segment in which the log will end is written anew beside itself, without what is behind
//!    its new end; the last batch may lose a part of its records.
//! 2. A mark, `truncate.Z`, is made. This is the moment at which the log is cut: a start that finds
//!    the mark goes on from here.
//! 3. Snapshots newer than the zxid are removed, then the segments behind the last one, latest
//!    first; the new segment takes the old one's place; the mark is removed.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::damage::{Damage, RecoverError};
use super::folders::DataFolders;
use super::format::{BATCH_HEADER_BYTES, BatchHeader, BatchSpan, blocks_for, take_record};
use super::group_commit::Tail;
use super::recover::{first_needed, open_segments};
use super::replay::agrees;
use super::scan::{Found, SegmentReader};
use super::segment::{self, Segment};
use super::spares::Spares;
use crate::ids::Zxid;
use crate::rt::files::{self, BLOCK, DiskError, Pace};
use crate::snapshot::format as snapshot;
use crate::snapshot::load::{LoadError, SnapshotReader};

const MARK: &str = "truncate";

/// Why the log cannot be cut. Nothing was changed, unless it is the disk that failed: that is
/// final, as with every write of the log, and the next start goes on with what was begun.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot go back to {zxid}: {source}")]
    Damaged { zxid: Zxid, source: Box<RecoverError> },
    #[error(
        "cannot go back to {zxid}: the newest snapshot of before that can be used is at {snapshot}, \
         and the log begins behind {begins}"
    )]
    OutOfReach { zxid: Zxid, snapshot: Zxid, begins: Zxid },
    #[error(
        "cannot go back to {zxid}: this server never had it, its history goes from {before} on"
    )]
    NeverHad { zxid: Zxid, before: Zxid },
}

impl TruncateError {
    /// Whether everything is as it was, and a snapshot of the leader's would help.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, TruncateError::Disk(_))
    }
}

/// Cuts everything behind `zxid` off the log, and removes the snapshots that are newer. Durable when
/// it returns where the log goes on, for `GroupCommit::go_on`. A snapshot that is being made fails.
///
/// # Errors
/// When the zxid cannot be gone back to, or when the disk fails.
pub fn truncate(folders: &DataFolders, spares: &Spares, zxid: Zxid) -> Result<Tail, TruncateError> {
    spares.withdraw();
    let _alone = folders.alone();
    snapshot::remove_unfinished(folders.snapshots())?;
    let cut = Cut::plan(folders, zxid)?;
    if cut.changes_something() {
        cut.rewrite()?;
        let mark = folders.log().join(format!("{MARK}.{:016x}", zxid.bits()));
        files::replace(&mark, b"")?;
        cut.carry_out(folders)?;
        files::remove(&mark)?;
    }
    Ok(cut.tail(folders, spares.segment_bytes())?)
}

/// Finishes a truncation that was cut short. Called by recovery, before all else.
pub(super) fn finish_interrupted(folders: &DataFolders) -> Result<(), TruncateError> {
    for (zxid, mark) in segment::numbered(folders.log(), MARK)? {
        let zxid = Zxid::from_bits(zxid as i64);
        tracing::warn!(%zxid, "finishing a truncation of the log that was cut short");
        let cut = Cut::plan(folders, zxid)?;
        cut.rewrite()?;
        cut.carry_out(folders)?;
        files::remove(&mark)?;
    }
    Ok(())
}

/// Where and how the log is cut.
struct Cut {
    zxid: Zxid,
    /// The segment in which the log will end. `None`: there is none at all.
    segment: Option<Segment>,
    /// Its bytes that stay as they are.
    whole: u64,
    /// The batch behind those, of which a part stays.
    part: Vec<u8>,
    /// Whether something in that segment has to go.
    rewrites: bool,
    /// The number of the batch that will be the next.
    sequence: u64,
    /// Segments behind that one, latest first.
    behind: Vec<PathBuf>,
    /// Whether there are newer snapshots.
    snapshots: bool,
}

impl Cut {
    fn plan(folders: &DataFolders, zxid: Zxid) -> Result<Cut, TruncateError> {
        let (base, snapshots) = base_for(folders.snapshots(), zxid)?;
        let damaged = |source: RecoverError| match source {
            RecoverError::Disk(e) => TruncateError::Disk(e),
            source => TruncateError::Damaged { zxid, source: Box::new(source) },
        };
        let (mut segments, _) = open_segments(folders.log()).map_err(damaged)?;
        let mut walk = Walk { zxid, base, last: None, end: None, sequence: None, part: None };
        walk.run(&mut segments, damaged)?;
        let reached = walk.reached();
        if reached != zxid {
            return Err(TruncateError::NeverHad { zxid, before: reached });
        }
        let (index, whole) = walk.end.unwrap_or((0, BLOCK as u64));
        let rewrites = match segments.get_mut(index) {
            Some(last) => walk.part.is_some() || last.next_header(whole)?.is_some(),
            None => false,
        };
        let last = segments.get(index).map(SegmentReader::as_segment);
        let ordinal = last.as_ref().map_or(0, |last| last.ordinal);
        let behind = segment::list(folders.log())?.into_iter().rev();
        Ok(Cut {
            zxid,
            segment: last,
            whole,
            part: walk.part.unwrap_or_default(),
            rewrites,
            sequence: walk.sequence.unwrap_or(1),
            behind: behind.filter(|it| it.0 > ordinal).map(|it| it.1).collect(),
            snapshots,
        })
    }

    fn changes_something(&self) -> bool {
        self.rewrites || self.snapshots || !self.behind.is_empty()
    }

    /// Writes the last segment anew beside itself, if something in it has to go.
    fn rewrite(&self) -> Result<(), DiskError> {
        let Some(segment) = self.segment.as_ref().filter(|_| self.rewrites) else { return Ok(()) };
        let tmp = tmp_of(&segment.path);
        files::create_zeroed(&tmp, segment.length, Pace::Full)?;
        let old = File::open(&segment.path).map_err(DiskError::of("open", &segment.path))?;
        let new = OpenOptions::new().write(true).open(&tmp);
        let mut new = new.map_err(DiskError::of("open", &tmp))?;
        let copied = std::io::copy(&mut old.take(self.whole), &mut new);
        let copied = copied.map_err(DiskError::of("copy", &segment.path))?;
        assert_eq!(copied, self.whole, "{} has become shorter", segment.path.display());
        new.write_all_at(&self.part, self.whole).map_err(DiskError::of("write", &tmp))?;
        new.sync_all().map_err(DiskError::of("sync", &tmp))
    }

    fn carry_out(&self, folders: &DataFolders) -> Result<(), DiskError> {
        for (newer, path) in snapshot::list(folders.snapshots())?.into_iter().rev() {
            if newer > self.zxid {
                files::remove(&path)?;
            }
        }
        for path in &self.behind {
            segment::recycle(folders.log(), path)?;
        }
        match &self.segment {
            Some(segment) if self.rewrites => files::rename(&tmp_of(&segment.path), &segment.path),
            _ => Ok(()),
        }
    }

    fn tail(self, folders: &DataFolders, segment_bytes: u64) -> Result<Tail, DiskError> {
        let segment = match self.segment {
            Some(segment) => segment,
            None => segment::prepare(folders.log(), 1, segment_bytes, Pace::Full)?,
        };
        let position = self.whole + self.part.len() as u64;
        Ok(Tail { segment, position, sequence: self.sequence, last_zxid: self.zxid })
    }
}

fn tmp_of(segment: &Path) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// The snapshot from which `zxid` is to be reached (zero: the server's beginning), and whether
/// there are newer ones, which will be removed. If so, the one that counts then is read through.
fn base_for(folder: &Path, zxid: Zxid) -> Result<(Zxid, bool), TruncateError> {
    let (older, newer): (Vec<_>, Vec<_>) =
        snapshot::list(folder)?.into_iter().partition(|(at, _)| *at <= zxid);
    if newer.is_empty() {
        return Ok((older.last().map_or(Zxid::ZERO, |(at, _)| *at), false));
    }
    for (at, path) in older.into_iter().rev() {
        match read_through(&path, at) {
            Ok(()) => return Ok((at, true)),
            Err(LoadError::Newer { path, fault }) => {
                let source = Box::new(RecoverError::Newer { path, fault });
                return Err(TruncateError::Damaged { zxid, source });
            }
            Err(LoadError::Disk(e)) if !e.is_of_the_disk() => return Err(e.into()),
            Err(damage) => tracing::error!("{damage}; looking for an older snapshot"),
        }
    }
    Ok((Zxid::ZERO, true))
}

fn read_through(path: &Path, at: Zxid) -> Result<(), LoadError<Infallible>> {
    let reader = SnapshotReader::open(path)?;
    reader.expect(at)?;
    reader.read_all(|_| Ok(())).map(drop)
}

/// The way along the log from the snapshot to where it is cut.
struct Walk {
    zxid: Zxid,
    base: Zxid,
    /// The last transaction of the log that stays.
    last: Option<Zxid>,
    /// Behind the last batch that stays whole: which segment, where in it.
    end: Option<(usize, u64)>,
    /// The number of the batch that comes next.
    sequence: Option<u64>,
    /// What stays of the batch there.
    part: Option<Vec<u8>>,
}

impl Walk {
    /// What the snapshot and the log that stays hold everything through.
    fn reached(&self) -> Zxid {
        self.base.max(self.last.unwrap_or(Zxid::ZERO))
    }

    fn run(
        &mut self,
        segments: &mut [SegmentReader],
        damaged: impl Fn(RecoverError) -> TruncateError,
    ) -> Result<(), TruncateError> {
        let first = first_needed(segments, self.base);
        for (index, segment) in segments.iter_mut().enumerate().skip(first) {
            let Some(header) = segment.first_batch() else { break };
            let begins_late = index == first && header.after() > self.reached();
            if begins_late && self.reached() < self.zxid {
                let (zxid, snapshot, begins) = (self.zxid, self.reached(), header.after());
                return Err(TruncateError::OutOfReach { zxid, snapshot, begins });
            }
            // What a killed process wrote may not be durable, nor what the kernel shows on the disk.
            segment.settle()?;
            let mut position = BLOCK as u64;
            while let Some(length) = self.batch(segment, position).map_err(&damaged)? {
                position += length;
                self.end = Some((index, position));
            }
            if self.part.is_some() {
                self.end = Some((index, position));
                break;
            }
            if self.end.is_none_or(|(last, _)| last != index) {
                // Nothing of this segment stays, nor of those behind it.
                self.end = self.end.or(Some((index, position)));
                break;
            }
        }
        Ok(())
    }

    /// Takes the batch at `position`, if it stays: its length on disk. If only a part stays, that
    /// is kept and it does not count.
    fn batch(
        &mut self,
        segment: &mut SegmentReader,
        position: u64,
    ) -> Result<Option<u64>, RecoverError> {
        let path = segment.path().to_path_buf();
        let damage = |last_good, damage| RecoverError::Damaged {
            path: path.clone(),
            offset: position,
            last_good,
            damage,
        };
        let Found::Batch(header, records) = segment.at(position)? else { return Ok(None) };
        if self.sequence.is_none() {
            self.sequence = Some(header.sequence);
        }
        if header.after() >= self.zxid {
            return Ok(None);
        }
        let (expected, found) = (self.sequence.unwrap_or(header.sequence), header.sequence);
        if expected != found {
            return Err(damage(self.last, Damage::Sequence { expected, found }));
        }
        if header.after() > self.reached() {
            let (last, next) = (self.reached(), header.after());
            return Err(damage(self.last, Damage::Backwards { last, next }));
        }
        if !agrees(&header, records) {
            return Err(damage(self.last, Damage::Records));
        }
        self.sequence = Some(header.sequence + 1);
        if header.last() > self.zxid {
            self.take_part(&header, records);
            return Ok(None);
        }
        self.last = Some(header.last());
        Ok(Some(header.bytes_on_disk()))
    }

    /// Keeps of a batch what is not behind the zxid.
    fn take_part(&mut self, header: &BatchHeader, records: &[u8]) {
        let (mut left, mut kept, mut count) = (records, 0, 0);
        while let Some(record) = take_record(&mut left).filter(|it| it.zxid <= self.zxid) {
            self.last = Some(record.zxid);
            kept = records.len() - left.len();
            count += 1;
        }
        let Some(last) = self.last.filter(|_| count > 0) else {
            // It steps over the zxid.
            self.sequence = Some(header.sequence);
            return;
        };
        let span = BatchSpan {
            generation: header.generation,
            sequence: header.sequence,
            after: header.after(),
            first: header.first(),
            last,
            count,
        };
        let mut batch = vec![0; BATCH_HEADER_BYTES];
        batch.extend_from_slice(&records[..kept]);
        BatchHeader::seal(span, &records[..kept]).write(&mut batch);
        batch.resize(blocks_for(kept) as usize, 0);
        self.part = Some(batch);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::fixture::{Kept, folder, txn, zxid};
    use crate::log::group_commit::GroupCommit;
    use crate::log::install::install;
    use crate::log::recover::{Recovered, recover};
    use crate::rt::disk::{beside, run_here};
    use crate::snapshot::write::SnapshotWriter;

    const SEGMENT: u64 = 6 * BLOCK as u64;

    /// So that a few batches fill a segment.
    const LENGTH: usize = 1300;

    fn open(dir: &Path) -> Result<(DataFolders, Recovered, Kept), RecoverError> {
        let folders = DataFolders::open(dir, dir).unwrap();
        let mut kept = Kept::default();
        let recovered = recover(&folders, SEGMENT, &mut kept)?;
        Ok((folders, recovered, kept))
    }

    fn snapshot_at(folders: &DataFolders, at: i64) -> PathBuf {
        let writer = SnapshotWriter::create(folders.snapshots(), zxid(at), 0, Pace::Full).unwrap();
        writer.finish().unwrap().path
    }

    /// Appends transactions with these zxids as one batch each.
    async fn append(log: &mut GroupCommit, batches: &[&[i64]]) {
        for batch in batches {
            for number in *batch {
                log.append(zxid(*number), |to| to.extend(txn(*number, LENGTH)));
            }
            log.start_flush().await.unwrap();
        }
    }

    /// A new log with these batches.
    fn write(dir: &Path, batches: &[&[i64]]) -> DataFolders {
        let (folders, recovered, _) = open(dir).unwrap();
        let spares = Spares::new(folders.log(), SEGMENT, recovered.spare.clone());
        run_here(async {
            let mut log = GroupCommit::open(recovered.tail, spares).await.unwrap();
            append(&mut log, batches).await;
        });
        folders
    }

    fn cut(folders: &DataFolders, at: i64) -> Result<Tail, TruncateError> {
        truncate(folders, &Spares::new(folders.log(), SEGMENT, None), zxid(at))
    }

    /// What a restart finds: from which snapshot, and which transactions behind it.
    fn found(folders: DataFolders, dir: &Path) -> (i64, Vec<i64>) {
        drop(folders);
        let (_folders, _, kept) = open(dir).unwrap();
        assert!(kept.txns.iter().all(|(number, bytes)| *bytes == txn(*number, LENGTH)));
        let txns = kept.txns.iter().map(|(number, _)| *number).collect();
        (kept.from.last().unwrap().bits(), txns)
    }

    const LOG: &[&[i64]] = &[&[1, 2, 3], &[4], &[5, 6, 7, 8], &[9, 10, 11, 12, 13], &[14], &[15]];

    #[test]
    fn the_log_can_be_cut_behind_each_of_its_transactions_and_goes_on_there() {
        for at in 0..=15 {
            let dir = folder();
            let (folders, recovered, _) = {
                write(dir.path(), LOG);
                open(dir.path()).unwrap()
            };
            let spares = Spares::new(folders.log(), SEGMENT, recovered.spare.clone());
            let shared = std::sync::Arc::new(folders);
            let cutting = std::sync::Arc::clone(&shared);
            run_here(async move {
                let mut log = GroupCommit::open(recovered.tail, spares.clone()).await.unwrap();
                append(&mut log, &[&[16, 17]]).await;
                let tail = beside(move || truncate(&cutting, &spares, zxid(at)).unwrap()).await;
                assert_eq!(tail.last_zxid, zxid(at));
                log.go_on(tail).await.unwrap();
                assert_eq!(log.last_appended(), zxid(at));
                append(&mut log, &[&[1 << 32 | 1, 1 << 32 | 2], &[1 << 32 | 3]]).await;
            });
            let folders = std::sync::Arc::into_inner(shared).unwrap();
            let expected = (1..=at).chain((1..=3).map(|counter| 1 << 32 | counter)).collect();
            assert_eq!(found(folders, dir.path()), (0, expected), "cut behind {at}");
        }
    }

    #[test]
    fn what_was_cut_off_is_on_no_disk_that_a_start_looks_at() {
        let dir = folder();
        let folders = write(dir.path(), LOG);
        let tail = cut(&folders, 6).unwrap();
        let again = cut(&folders, 6).unwrap();
        assert_eq!(tail, again, "nothing is left to cut");
        assert_eq!(segment::list(folders.log()).unwrap().last().unwrap().0, tail.segment.ordinal);
        assert!(segment::numbered(folders.log(), MARK).unwrap().is_empty());
        drop(folders);
        let (_, recovered, _) = open(dir.path()).unwrap();
        assert_eq!(recovered.tail, tail);
    }

    #[test]
    fn a_snapshot_that_is_newer_gives_way_to_an_older_one() {
        let dir = folder();
        let folders = write(dir.path(), LOG);
        for at in [3, 8, 12] {
            snapshot_at(&folders, at);
        }
        cut(&folders, 10).unwrap();
        assert_eq!(snapshot::list(folders.snapshots()).unwrap().len(), 2);
        assert_eq!(found(folders, dir.path()), (8, vec![9, 10]));
    }

    #[test]
    fn an_older_snapshot_must_be_whole_before_a_newer_one_is_given_up() {
        let dir = folder();
        let folders = write(dir.path(), LOG);
        let older = snapshot_at(&folders, 8);
        snapshot_at(&folders, 12);
        let mut content = std::fs::read(&older).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&older, content).unwrap();
        // The log reaches back to the beginning, so the damaged one is not needed.
        cut(&folders, 10).unwrap();
        assert_eq!(found(folders, dir.path()), (0, (1..=10).collect()));
    }

    #[test]
    fn what_cannot_be_gone_back_to_is_refused_and_nothing_is_changed() {
        let dir = folder();
        let folders = write(dir.path(), &[&[1, 2], &[5, 6], &[7, 8, 9, 10], &[11], &[12, 20]]);
        let files = || {
            let mut files: Vec<_> = std::fs::read_dir(folders.log())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.file_name().unwrap() != "lock")
                .map(|path| (std::fs::read(&path).unwrap(), path))
                .collect();
            files.sort();
            files
        };
        let before = files();
        for (at, known) in [(3, 2), (4, 2), (13, 12), (21, 20), (1 << 32, 20)] {
            let refused = cut(&folders, at).unwrap_err();
            assert!(
                matches!(refused, TruncateError::NeverHad { before, .. } if before == zxid(known)),
                "{at}: {refused}"
            );
            assert!(refused.is_refusal());
        }
        assert_eq!(files(), before);
        // Without the log's begin, only a snapshot leads there.
        snapshot_at(&folders, 11);
        std::fs::remove_file(segment::path_of(folders.log(), 1)).unwrap();
        let before = files();
        let refused = cut(&folders, 9).unwrap_err();
        assert!(matches!(refused, TruncateError::OutOfReach { .. }), "{refused}");
        assert_eq!(files(), before);
        cut(&folders, 12).unwrap();
        assert_eq!(found(folders, dir.path()), (11, vec![12]));
    }

    #[test]
    fn a_damaged_log_is_not_cut() {
        let dir = folder();
        let folders = write(dir.path(), LOG);
        let first = segment::path_of(folders.log(), 1);
        let mut content = std::fs::read(&first).unwrap();
        content[BLOCK + 300] ^= 1;
        std::fs::write(&first, content).unwrap();
        let refused = cut(&folders, 6).unwrap_err();
        assert!(refused.is_refusal(), "{refused}");
        assert!(segment::numbered(folders.log(), MARK).unwrap().is_empty());
    }

    #[test]
    fn a_snapshot_in_the_making_fails_and_does_not_come_back() {
        let dir = folder();
        let folders = write(dir.path(), LOG);
        let making = SnapshotWriter::create(folders.snapshots(), zxid(12), 0, Pace::Full).unwrap();
        cut(&folders, 10).unwrap();
        making.finish().unwrap_err();
        assert_eq!(found(folders, dir.path()), (0, (1..=10).collect()));
    }

    #[test]
    fn a_received_snapshot_takes_the_place_of_everything() {
        for at in [2, 12, 1 << 40] {
            let dir = folder();
            let folders = write(dir.path(), LOG);
            snapshot_at(&folders, 3);
            snapshot_at(&folders, 14);
            let received =
                SnapshotWriter::create(folders.snapshots(), zxid(at), 0, Pace::Full).unwrap();
            let spares = Spares::new(folders.log(), SEGMENT, None);
            let tail = install(&folders, &spares, received).unwrap();
            run_here(async {
                let mut log = GroupCommit::open(tail, spares).await.unwrap();
                append(&mut log, &[&[at + 1, at + 2]]).await;
            });
            assert_eq!(found(folders, dir.path()), (at, vec![at + 1, at + 2]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// The model: the zxids of the log, and those of the snapshots.
        #[test]
        fn any_log_is_cut_as_the_model_is(
            steps in proptest::collection::vec(
                (proptest::collection::vec(1i64..4, 1..9), any::<bool>(), 0usize..40),
                1..12,
            ),
        ) {
            let dir = folder();
            let (folders, recovered, _) = open(dir.path()).unwrap();
            let (mut zxids, mut snapshots) = (vec![], vec![0]);
            let spares = Spares::new(folders.log(), SEGMENT, recovered.spare.clone());
            run_here(async {
                let mut log = GroupCommit::open(recovered.tail, spares.clone()).await.unwrap();
                for (batch, takes_snapshot, back) in steps {
                    for step in batch {
                        let next = zxids.last().copied().unwrap_or(0) + step;
                        log.append(zxid(next), |to| to.extend(txn(next, LENGTH)));
                        zxids.push(next);
                    }
                    log.start_flush().await.unwrap();
                    if takes_snapshot {
                        snapshot_at(&folders, *zxids.last().unwrap());
                        snapshots.push(*zxids.last().unwrap());
                    }
                    if back < zxids.len() {
                        zxids.truncate(zxids.len() - back);
                        let last = *zxids.last().unwrap();
                        snapshots.retain(|at| *at <= last);
                        log.go_on(truncate(&folders, &spares, zxid(last)).unwrap()).await.unwrap();
                    }
                }
            });
            let base = *snapshots.last().unwrap();
            zxids.retain(|zxid| *zxid > base);
            prop_assert_eq!(found(folders, dir.path()), (base, zxids));
        }
    }
}
