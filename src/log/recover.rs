//! What a server does before it serves: the newest good snapshot, then the log from there. Blocks;
//! called once, before the cores start.
//!
//! The log may end in one torn batch, for only one is ever in flight: nobody was told of it, and it
//! is cut off. Everything else that is not as it was written is damage, and damage is refused: a
//! server that skipped a transaction would serve wrong data.

use std::error::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::damage::{Damage, RecoverError};
use super::folders::DataFolders;
use super::format::HeaderFault;
use super::group_commit::Tail;
use super::install;
use super::replay::{LogEnd, Replay, Stop};
use super::scan::{self, OpenError, SegmentReader};
use super::segment::{self, Segment};
use super::truncate;
use crate::ids::{SessionId, Zxid};
use crate::jute::records::Acl;
use crate::rt::files::{self, BLOCK, DiskError, Pace};
use crate::snapshot::format::{self as snapshot, Record, Znode};
use crate::snapshot::load::{LoadError, SnapshotReader};

/// What a znode is thought to take up in a snapshot, to guess how many there are.
const ZNODE_BYTES_GUESS: usize = 160;

/// What is filled by recovery.
pub trait Recover {
    /// Why a record or a transaction cannot be taken.
    type Error: Error + Send + Sync + 'static;

    /// Forgets everything and starts over from the state of `zxid` (zero: a new server's). Called
    /// again when a snapshot turns out damaged after some of it was taken. About `znodes` are to
    /// come (a hint).
    fn begin(&mut self, zxid: Zxid, znodes: usize);

    /// A session that was open, with its timeout in milliseconds.
    ///
    /// # Errors
    /// As above; the snapshot then counts as damaged.
    fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), Self::Error>;

    /// An ACL that znodes to come name by `number`. (0, the null ACL, never comes.)
    ///
    /// # Errors
    /// As above.
    fn acl(&mut self, number: u32, acl: Vec<Acl>) -> Result<(), Self::Error>;

    /// A znode, after its parent.
    ///
    /// # Errors
    /// As above.
    fn znode(&mut self, znode: &Znode<'_>) -> Result<(), Self::Error>;

    /// A transaction newer than all before: header and record as they travel in a PROPOSAL.
    ///
    /// # Errors
    /// As above; recovery then ends.
    fn replay(&mut self, zxid: Zxid, txn: &[u8]) -> Result<(), Self::Error>;
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The last transaction, of the log or the snapshot.
    pub last_zxid: Zxid,
    /// The snapshot that was loaded. Zero: none.
    pub snapshot: Zxid,
    /// Transactions of the log that are newer than the snapshot, and their bytes.
    pub replayed: u64,
    pub replayed_bytes: u64,
    /// Where the log goes on.
    pub tail: Tail,
    /// The segment after that one, if it was made already.
    pub spare: Option<Segment>,
    /// How long it took.
    pub took: Duration,
}

/// Fills `target` with the newest state that is durable, cuts a torn batch off the log's end, and
/// says where the log goes on. Segments that it has to make are `segment_bytes` long.
///
/// # Errors
/// When the data is damaged, of a newer format or unreadable; see [`RecoverError`].
pub fn recover<T: Recover>(
    folders: &DataFolders,
    segment_bytes: u64,
    target: &mut T,
) -> Result<Recovered, RecoverError> {
    let began = Instant::now();
    // A rename that a crash left undurable would take acknowledged transactions with it later.
    files::sync_folder(folders.log())?;
    files::sync_folder(folders.snapshots())?;
    // What a leader ordered and a crash cut short: neither state in between is one to serve.
    truncate::finish_interrupted(folders).map_err(RecoverError::truncation)?;
    install::finish_interrupted(folders)?;
    let (mut segments, unfinished) = open_segments(folders.log())?;
    // The log's end is in one of the last two: the last is often empty, made ahead.
    for segment in segments.iter().rev().take(2) {
        segment.settle()?;
    }
    let loaded = load_snapshot(folders.snapshots(), target)?;
    let needed = first_needed(&segments, loaded.zxid);
    segments.drain(..needed);
    let end = Replay::new(target, loaded.zxid, loaded.damaged).run(&mut segments)?;
    if end.last_zxid < loaded.newest {
        return Err(RecoverError::SnapshotNeeded { needed: loaded.newest, reached: end.last_zxid });
    }

    // The data is known to be good; from here on it is changed.
    if let Some(path) = unfinished {
        tracing::warn!(path = %path.display(), "removing a segment that was never finished");
        files::remove(&path)?;
    }
    segment::remove_leftovers(folders.log())?;
    segment::remove_leftovers(folders.snapshots())?;
    let (segment, spare) = lay_out(folders.log(), segment_bytes, &mut segments, &end)?;
    Ok(Recovered {
        last_zxid: end.last_zxid,
        snapshot: loaded.zxid,
        replayed: end.replayed,
        replayed_bytes: end.replayed_bytes,
        tail: Tail {
            segment,
            position: end.position,
            sequence: end.next_sequence,
            last_zxid: end.last_zxid,
        },
        spare,
        took: began.elapsed(),
    })
}

/// Opens every segment. The last may be one that was never finished, which only a filesystem that
/// reorders can leave behind: it comes back by its path alone.
pub(super) fn open_segments(
    folder: &Path,
) -> Result<(Vec<SegmentReader>, Option<PathBuf>), RecoverError> {
    let found = segment::list(folder)?;
    let mut segments = Vec::with_capacity(found.len());
    let mut expected = None;
    for (index, (ordinal, path)) in found.iter().enumerate() {
        if expected.is_some_and(|expected| expected != *ordinal) {
            let missing = segment::path_of(folder, expected.unwrap_or(0));
            return Err(RecoverError::SegmentMissing(missing));
        }
        expected = Some(ordinal + 1);
        let damaged = |damage| RecoverError::Damaged {
            path: path.clone(),
            offset: 0,
            last_good: None,
            damage,
        };
        match SegmentReader::open(path) {
            Ok(reader) if reader.header().ordinal != *ordinal => {
                return Err(damaged(Damage::Ordinal(reader.header().ordinal)));
            }
            Ok(reader) => segments.push(reader),
            Err(OpenError::Disk(e)) => return Err(e.into()),
            Err(OpenError::Header(fault @ HeaderFault::Newer { .. })) => {
                return Err(RecoverError::Newer { path: path.clone(), fault });
            }
            Err(OpenError::Header(HeaderFault::Magic))
                if index + 1 == found.len() && scan::is_blank(path)? =>
            {
                return Ok((segments, Some(path.clone())));
            }
            Err(OpenError::Header(fault)) => return Err(damaged(Damage::SegmentHeader(fault))),
        }
    }
    Ok((segments, None))
}

/// A snapshot that was loaded.
struct Loaded {
    /// Where it stands; zero without one.
    zxid: Zxid,
    /// The newest snapshot's zxid, although it may be damaged.
    newest: Zxid,
    /// Newer snapshots that are damaged.
    damaged: usize,
}

/// Loads the newest snapshot that is whole. Without one, the log may still reach back to the
/// server's beginning.
fn load_snapshot<T: Recover>(folder: &Path, target: &mut T) -> Result<Loaded, RecoverError> {
    let found = snapshot::list(folder)?;
    let mut loaded = Loaded { zxid: Zxid::ZERO, newest: Zxid::ZERO, damaged: 0 };
    for (zxid, path) in found.into_iter().rev() {
        loaded.newest = loaded.newest.max(zxid);
        let bytes = std::fs::metadata(&path).map_err(DiskError::of("inspect", &path))?.len();
        target.begin(zxid, bytes as usize / ZNODE_BYTES_GUESS);
        match load_one(&path, zxid, target) {
            Ok(()) => {
                loaded.zxid = zxid;
                return Ok(loaded);
            }
            Err(LoadError::Newer { path, fault }) => {
                return Err(RecoverError::Newer { path, fault });
            }
            // A disk that cannot give the file back has damaged it; any other failure (rights,
            // say) is no reason to pass over the newest state.
            Err(LoadError::Disk(e)) if !e.is_of_the_disk() => {
                return Err(e.into());
            }
            Err(damage) => {
                tracing::error!("{damage}; falling back to the snapshot before and the log");
                loaded.damaged += 1;
            }
        }
    }
    target.begin(Zxid::ZERO, 0);
    Ok(loaded)
}

fn load_one<T: Recover>(
    path: &Path,
    zxid: Zxid,
    target: &mut T,
) -> Result<(), LoadError<T::Error>> {
    let reader = SnapshotReader::open(path)?;
    reader.expect(zxid)?;
    reader.read_all(|record| match record {
        Record::Session(session, timeout_ms) => {
            target.session(SessionId::from_bits(session), timeout_ms)
        }
        Record::Acl(number, acl) => target.acl(number, acl),
        Record::Znode(znode) => target.znode(&znode),
    })?;
    Ok(())
}

/// How many of the oldest segments hold nothing that is newer than the snapshot.
pub(super) fn first_needed(segments: &[SegmentReader], snapshot: Zxid) -> usize {
    let begins_within = |segment: &SegmentReader| {
        segment.first_batch().is_some_and(|first| first.after() <= snapshot)
    };
    segments.iter().rposition(begins_within).unwrap_or(0)
}

/// Leaves the log as its writer expects it: nothing torn, one segment to go on in, perhaps one
/// made ahead, no others.
fn lay_out(
    folder: &Path,
    segment_bytes: u64,
    segments: &mut [SegmentReader],
    end: &LogEnd,
) -> Result<(Segment, Option<Segment>), RecoverError> {
    for stop in &end.torn {
        cut(&segments[stop.segment], stop)?;
    }
    let Some(tail) = segments.get(end.segment) else {
        return Ok((segment::prepare(folder, 1, segment_bytes, Pace::Full)?, None));
    };
    // What is durable must not hang on what an earlier process may not have synced.
    tail.settle()?;
    let spare = segments.get(end.segment + 1).map(as_segment).transpose()?;
    for beyond in segments.iter().skip(end.segment + 2) {
        segment::recycle(folder, beyond.path())?;
    }
    Ok((as_segment(tail)?, spare))
}

/// The segment as its writer takes it up: whole blocks.
fn as_segment(reader: &SegmentReader) -> Result<Segment, DiskError> {
    let (path, segment) = (reader.path(), reader.as_segment());
    if segment.length < reader.length() {
        let file = open_for_writing(path)?;
        file.set_len(segment.length).map_err(DiskError::of("cut", path))?;
        file.sync_all().map_err(DiskError::of("sync", path))?;
    }
    Ok(segment)
}

/// Makes a torn batch no batch.
fn cut(segment: &SegmentReader, stop: &Stop) -> Result<(), DiskError> {
    let path = segment.path();
    tracing::warn!(
        path = %path.display(),
        offset = stop.position,
        batch = stop.header.sequence,
        first = %stop.header.first(),
        last = %stop.header.last(),
        "cutting off a torn batch at the log's end: the power went while it was written, and \
         nobody was told that it was"
    );
    let length = (segment.length() - stop.position).min(BLOCK as u64);
    let file = open_for_writing(path)?;
    file.write_all_at(&vec![0; length as usize], stop.position)
        .map_err(DiskError::of("write", path))?;
    file.sync_all().map_err(DiskError::of("sync", path))
}

fn open_for_writing(path: &Path) -> Result<std::fs::File, DiskError> {
    std::fs::OpenOptions::new().write(true).open(path).map_err(DiskError::of("open", path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::fixture::{Kept, folder, txn, zxid};
    use crate::log::format::{BATCH_HEADER_BYTES, RECORD_HEADER_BYTES};
    use crate::log::group_commit::GroupCommit;
    use crate::log::spares::Spares;
    use crate::rt::disk::run_here;
    use crate::snapshot::write::SnapshotWriter;

    const SEGMENT: u64 = 16 * BLOCK as u64;

    fn open(dir: &Path) -> Result<(Recovered, Kept), RecoverError> {
        let folders = DataFolders::open(dir, dir).unwrap();
        let mut kept = Kept::default();
        recover(&folders, SEGMENT, &mut kept).map(|recovered| (recovered, kept))
    }

    /// Recovers, then appends batches of transactions of the given lengths and returns all that
    /// must be there afterwards.
    fn append(dir: &Path, batches: &[&[usize]]) -> Vec<(i64, Vec<u8>)> {
        let (recovered, mut kept) = open(dir).unwrap();
        let spares = Spares::new(&dir.join("ringkeeper"), SEGMENT, recovered.spare.clone());
        let mut number = recovered.last_zxid.bits();
        let txns = &mut kept.txns;
        run_here(async move {
            let mut log = GroupCommit::open(recovered.tail, spares).await.unwrap();
            for batch in batches {
                for length in *batch {
                    number += 1;
                    let bytes = txn(number, *length);
                    log.append(zxid(number), |to| to.extend_from_slice(&bytes));
                    txns.push((number, bytes));
                }
                log.start_flush().await.unwrap();
            }
        });
        kept.txns
    }

    fn segment_file(dir: &Path, ordinal: u64) -> PathBuf {
        segment::path_of(&dir.join("ringkeeper"), ordinal)
    }

    fn snapshot_at(dir: &Path, at: i64) -> PathBuf {
        let folder = dir.join("ringkeeper");
        let writer = SnapshotWriter::create(&folder, zxid(at), 0, Pace::Full).unwrap();
        writer.finish().unwrap().path
    }

    fn flip(path: &Path, byte: usize) {
        let mut content = std::fs::read(path).unwrap();
        content[byte] ^= 0x10;
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn a_new_server_begins_with_nothing_and_can_write() {
        let dir = folder();
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!((recovered.last_zxid, kept.from), (Zxid::ZERO, vec![Zxid::ZERO]));
        append(dir.path(), &[&[10]]);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!((recovered.replayed, kept.txns), (1, vec![(1, txn(1, 10))]));
    }

    #[test]
    fn everything_comes_back_in_order_over_many_segments_and_restarts() {
        let dir = folder();
        for _ in 0..5 {
            append(dir.path(), &[&[100, 0, 3000], &[9000], &[20_000, 1], &[5]]);
        }
        let last = append(dir.path(), &[&[1]]);
        assert_eq!(last.len(), 5 * 7 + 1);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!(kept.txns, last);
        assert!(recovered.tail.segment.ordinal > 3, "{:?}", recovered.tail);
    }

    /// Recovers a copy of the log in `from` whose segment 1 was changed, then appends and recovers
    /// again: what follows a cut must be as good as what is before it.
    fn recover_changed(
        content: &[u8],
        from: &Path,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<(i64, Vec<u8>)>, RecoverError> {
        let dir = folder();
        std::fs::create_dir(dir.path().join("ringkeeper")).unwrap();
        std::fs::copy(from.join("ringkeeper/format"), dir.path().join("ringkeeper/format"))
            .unwrap();
        let mut changed = content.to_vec();
        change(&mut changed);
        std::fs::write(segment_file(dir.path(), 1), changed).unwrap();
        open(dir.path()).map(|(_, kept)| kept.txns)
    }

    #[test]
    fn a_last_batch_cut_or_scrambled_at_any_byte_leaves_the_batches_before_it() {
        let dir = folder();
        let before = append(dir.path(), &[&[50], &[20, 30]]);
        append(dir.path(), &[&[40, 60]]);
        let content = std::fs::read(segment_file(dir.path(), 1)).unwrap();
        let start = 3 * BLOCK;
        let length = BATCH_HEADER_BYTES + 2 * RECORD_HEADER_BYTES + 100;
        assert_eq!(content[start..start + 8], *b"RKLOGBAT");
        for at in start..start + length {
            let cut = |bytes: &mut Vec<u8>| bytes.truncate(at);
            assert_eq!(recover_changed(&content, dir.path(), cut).unwrap(), before, "cut {at}");
            let zero = |bytes: &mut Vec<u8>| {
                bytes[at] ^= 0xff;
                bytes[at + 1..].fill(0);
            };
            assert_eq!(recover_changed(&content, dir.path(), zero).unwrap(), before, "lost {at}");
            let scramble = |bytes: &mut Vec<u8>| bytes[at] ^= 0x5a;
            let left = recover_changed(&content, dir.path(), scramble).unwrap();
            assert_eq!(left, before, "scrambled {at}");
        }
        let padding = |bytes: &mut Vec<u8>| bytes[start + length..].fill(0xee);
        assert_eq!(recover_changed(&content, dir.path(), padding).unwrap().len(), 5);
    }

    #[test]
    fn a_long_last_batch_of_which_any_blocks_are_missing_is_cut_off() {
        let dir = folder();
        let before = append(dir.path(), &[&[50]]);
        append(dir.path(), &[&[9000, 2000]]);
        let content = std::fs::read(segment_file(dir.path(), 1)).unwrap();
        for missing in 1u32..8 {
            let lose = |bytes: &mut Vec<u8>| {
                for block in 0..3 {
                    if missing & 1 << block != 0 {
                        bytes[(2 + block) * BLOCK..(3 + block) * BLOCK].fill(0);
                    }
                }
            };
            assert_eq!(
                recover_changed(&content, dir.path(), lose).unwrap(),
                before,
                "missing {missing:b}"
            );
        }
    }

    #[test]
    fn a_flip_of_any_byte_before_the_last_batch_is_refused_or_harmless() {
        let dir = folder();
        let all = append(dir.path(), &[&[50], &[20, 30], &[5]]);
        let content = std::fs::read(segment_file(dir.path(), 1)).unwrap();
        let mut refused = 0;
        for at in (0..3 * BLOCK).step_by(7).chain(BLOCK..BLOCK + 200).chain(0..64) {
            match recover_changed(&content, dir.path(), |bytes| bytes[at] ^= 0x20) {
                Ok(left) => assert_eq!(left, all, "served wrong data after a flip of byte {at}"),
                Err(RecoverError::Damaged { .. } | RecoverError::Newer { .. }) => refused += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert!(refused > 200, "{refused}");
    }

    #[test]
    fn damage_is_told_with_the_file_the_place_the_zxid_and_what_to_do() {
        let dir = folder();
        append(dir.path(), &[&[50], &[20, 30], &[5]]);
        flip(&segment_file(dir.path(), 1), 2 * BLOCK + 100);
        let content = std::fs::read(segment_file(dir.path(), 1)).unwrap();
        let text = open(dir.path()).unwrap_err().to_string();
        for part in ["log.0000000000000001", "byte 8192", "0x1", "batch 3", "backup", "dump"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert_eq!(std::fs::read(segment_file(dir.path(), 1)).unwrap(), content, "it was changed");
    }

    #[test]
    fn a_torn_batch_is_gone_for_good_and_what_follows_takes_its_place() {
        let dir = folder();
        append(dir.path(), &[&[50], &[9000]]);
        flip(&segment_file(dir.path(), 1), 3 * BLOCK + 5);
        let all = append(dir.path(), &[&[7], &[8]]);
        assert_eq!(all.len(), 3);
        assert_eq!(open(dir.path()).unwrap().1.txns, all);
    }

    #[test]
    fn a_torn_batch_at_the_begin_of_a_segment_is_cut_there() {
        let dir = folder();
        append(dir.path(), &[&[40_000], &[40_000]]);
        flip(&segment_file(dir.path(), 2), BLOCK + 5000);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!(kept.txns.len(), 1);
        assert_eq!(recovered.tail.segment.ordinal, 1);
        assert_eq!(recovered.spare.unwrap().ordinal, 2);
        let all = append(dir.path(), &[&[40_000], &[1]]);
        assert_eq!(open(dir.path()).unwrap().1.txns, all);
    }

    #[test]
    fn a_lost_batch_at_the_end_of_a_segment_is_noticed_in_the_next() {
        let dir = folder();
        append(dir.path(), &[&[10_000], &[40_000], &[40_000]]);
        flip(&segment_file(dir.path(), 1), 4 * BLOCK + 3);
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::Damaged { offset: 16384, .. }), "{refused}");
    }

    #[test]
    fn a_first_batch_of_the_last_segment_that_is_lost_is_noticed_by_the_second() {
        let dir = folder();
        append(dir.path(), &[&[50_000], &[20_000], &[10]]);
        flip(&segment_file(dir.path(), 2), BLOCK + 20);
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::Damaged { .. }), "{refused}");
    }

    #[test]
    fn a_missing_segment_is_refused() {
        let dir = folder();
        append(dir.path(), &[&[40_000], &[40_000], &[40_000]]);
        std::fs::remove_file(segment_file(dir.path(), 2)).unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::SegmentMissing(_)), "{refused}");
        std::fs::remove_file(segment_file(dir.path(), 1)).unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::Gap { .. }), "{refused}");
    }

    #[test]
    fn a_segment_put_in_the_place_of_another_is_refused() {
        let dir = folder();
        append(dir.path(), &[&[40_000], &[40_000]]);
        std::fs::copy(segment_file(dir.path(), 1), segment_file(dir.path(), 2)).unwrap();
        let refused = open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("says that it is segment 0x1"), "{refused}");
    }

    #[test]
    fn a_newer_segment_is_refused_and_nothing_is_touched() {
        let dir = folder();
        append(dir.path(), &[&[50], &[9000]]);
        let path = segment_file(dir.path(), 1);
        let mut content = std::fs::read(&path).unwrap();
        content[8] = 2;
        content[3 * BLOCK] ^= 1;
        std::fs::write(&path, &content).unwrap();
        let leftover = dir.path().join("ringkeeper/log.0000000000000002.tmp");
        std::fs::write(&leftover, "x").unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::Newer { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert!(leftover.exists());
    }

    #[test]
    fn a_first_start_that_was_cut_short_starts_again() {
        for (name, content) in [
            ("log.0000000000000001.tmp", &b"half"[..]),
            ("log.0000000000000001", b""),
            ("log.0000000000000001", &[0; 3 * BLOCK]),
            ("snapshot.0000000000000000.tmp", b"RKSN"),
            ("format.tmp", b"ringk"),
        ] {
            let dir = folder();
            drop(DataFolders::open(dir.path(), dir.path()).unwrap());
            std::fs::write(dir.path().join("ringkeeper").join(name), content).unwrap();
            let all = append(dir.path(), &[&[50]]);
            assert_eq!(open(dir.path()).unwrap().1.txns, all, "{name}");
        }
    }

    #[test]
    fn batches_of_a_former_life_are_never_replayed() {
        let dir = folder();
        append(dir.path(), &[&[9000], &[9000], &[9000], &[9000], &[9000]]);
        let log = dir.path().join("ringkeeper");
        snapshot_at(dir.path(), 5);
        for (_, path) in segment::list(&log).unwrap() {
            segment::recycle(&log, &path).unwrap();
        }
        // The new log lies in the old one's file: same places, same batches but for the life.
        let all = append(dir.path(), &[&[9000], &[9000]]);
        assert_eq!(segment::list(&log).unwrap().len(), 1);
        let old = std::fs::read(segment_file(dir.path(), 1)).unwrap();
        assert!(old[10 * BLOCK..].starts_with(b"RKLOGBAT"), "nothing is left of the old life");
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!((recovered.last_zxid, kept.txns), (zxid(7), all));
    }

    #[test]
    fn replay_begins_behind_the_newest_snapshot() {
        let dir = folder();
        append(dir.path(), &[&[40_000], &[1, 2, 3], &[40_000], &[4, 5]]);
        snapshot_at(dir.path(), 3);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!(
            (recovered.snapshot, recovered.replayed, kept.from),
            (zxid(3), 4, vec![zxid(3)])
        );
        assert_eq!(kept.txns[0].0, 4);
        // What lies wholly before it is not needed.
        std::fs::remove_file(segment_file(dir.path(), 1)).unwrap();
        snapshot_at(dir.path(), 6);
        assert_eq!(open(dir.path()).unwrap().1.txns.len(), 1);
    }

    #[test]
    fn a_damaged_snapshot_falls_back_to_the_one_before_and_a_longer_log() {
        let dir = folder();
        append(dir.path(), &[&[10], &[10], &[10], &[10]]);
        snapshot_at(dir.path(), 2);
        let newest = snapshot_at(dir.path(), 3);
        flip(&newest, 40);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!((recovered.snapshot, recovered.replayed), (zxid(2), 2));
        assert_eq!(kept.from, [zxid(3), zxid(2)]);
        flip(&snapshot_at(dir.path(), 2), 40);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!((recovered.snapshot, recovered.replayed), (Zxid::ZERO, 4));
        assert_eq!(kept.from, [zxid(3), zxid(2), Zxid::ZERO]);
    }

    #[test]
    fn a_damaged_snapshot_that_the_log_cannot_make_up_for_is_refused() {
        let dir = folder();
        append(dir.path(), &[&[40_000], &[40_000], &[40_000]]);
        snapshot_at(dir.path(), 1);
        let newest = snapshot_at(dir.path(), 2);
        std::fs::remove_file(segment_file(dir.path(), 1)).unwrap();
        std::fs::remove_file(segment_file(dir.path(), 2)).unwrap();
        assert_eq!(open(dir.path()).unwrap().1.txns.len(), 1);
        flip(&newest, 40);
        let refused = open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("the newest snapshot is damaged"), "{refused}");

        let dir = folder();
        let only = snapshot_at_start(dir.path(), 9);
        flip(&only, 40);
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::SnapshotNeeded { .. }), "{refused}");
    }

    fn snapshot_at_start(dir: &Path, at: i64) -> PathBuf {
        drop(open(dir).unwrap());
        snapshot_at(dir, at)
    }

    #[test]
    fn a_log_that_goes_on_from_a_snapshot_ahead_of_it_has_no_gap() {
        let dir = folder();
        append(dir.path(), &[&[10], &[10]]);
        snapshot_at(dir.path(), 7);
        append(dir.path(), &[&[10]]);
        let (recovered, kept) = open(dir.path()).unwrap();
        assert_eq!((recovered.last_zxid, kept.txns.len()), (zxid(8), 1));
        flip(&snapshot_at(dir.path(), 7), 40);
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, RecoverError::Gap { .. }), "{refused}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_batches_come_back_whole(
            batches in proptest::collection::vec(
                proptest::collection::vec(0usize..12_000, 1..6), 1..12),
            restart in 0usize..12,
        ) {
            let dir = folder();
            let lists: Vec<&[usize]> = batches.iter().map(|batch| &batch[..]).collect();
            let restart = restart.min(lists.len());
            append(dir.path(), &lists[..restart]);
            let all = append(dir.path(), &lists[restart..]);
            prop_assert_eq!(open(dir.path()).unwrap().1.txns, all);
        }
    }
}
