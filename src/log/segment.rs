//! The files of the log: `log.N` with the segment's ordinal N in sixteen hexadecimal digits,
//! without a gap between them; `spare.N`, a purged segment that waits for its next life; and
//! `*.tmp`, one that was being made when the power went. A file has the name `log.N` only once it
//! is wholly written, so that taking up the next segment changes nothing in the folder.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::folders::draw;
use super::format::SegmentHeader;
use crate::limits::SPARE_SEGMENTS_MAX;
use crate::rt::files::{self, BLOCK, DiskError, Pace};

const LOG: &str = "log";
const SPARE: &str = "spare";

/// A segment that holds nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its place in the log, from 1.
    pub ordinal: u64,
    /// This life of the file.
    pub generation: u64,
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file, the header's block included.
    pub length: u64,
}

/// The file of segment `ordinal`.
pub fn path_of(folder: &Path, ordinal: u64) -> PathBuf {
    folder.join(format!("{LOG}.{ordinal:016x}"))
}

/// Every `log.N` in `folder`, oldest first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, DiskError> {
    numbered(folder, LOG)
}

/// Every `KIND.N` in `folder` (N in sixteen hexadecimal digits) in order of N.
pub(crate) fn numbered(folder: &Path, kind: &str) -> Result<Vec<(u64, PathBuf)>, DiskError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DiskError::of("list", folder))? {
        let entry = entry.map_err(DiskError::of("list", folder))?;
        let name = entry.file_name();
        let Some((before, digits)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        if before != kind || digits.len() != 16 {
            continue;
        }
        if let Ok(number) = u64::from_str_radix(digits, 16) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes segment `ordinal` of at least `length` bytes: out of a spare if there is one, else anew.
/// Blocks until it is durable under its name. Called by the housekeeping thread, and by the log
/// when none was ready in time.
///
/// # Errors
/// When the disk is full or broken; the log is none the worse.
pub fn prepare(folder: &Path, ordinal: u64, length: u64, pace: Pace) -> Result<Segment, DiskError> {
    assert!(length >= 2 * BLOCK as u64 && length.is_multiple_of(BLOCK as u64), "{length} bytes");
    let path = path_of(folder, ordinal);
    let generation = draw();
    let (made, length) = match take_spare(folder, length)? {
        Some(spare) => spare,
        None => {
            let tmp = path.with_extension(format!("{ordinal:016x}.tmp"));
            files::create_zeroed(&tmp, length, pace)?;
            (tmp, length)
        }
    };
    let file = open(&made)?;
    file.write_all_at(&SegmentHeader::new(ordinal, generation).to_block(), 0)
        .map_err(DiskError::of("write", &made))?;
    file.sync_all().map_err(DiskError::of("sync", &made))?;
    files::rename(&made, &path)?;
    Ok(Segment { ordinal, generation, path, length })
}

/// A spare of exactly `length` bytes. Others stem from another configuration and are removed.
fn take_spare(folder: &Path, length: u64) -> Result<Option<(PathBuf, u64)>, DiskError> {
    for (_, path) in numbered(folder, SPARE)? {
        let found = std::fs::metadata(&path).map_err(DiskError::of("inspect", &path))?.len();
        if found == length {
            return Ok(Some((path, length)));
        }
        files::remove(&path)?;
    }
    Ok(None)
}

/// Makes a segment long enough for a batch that no ordinary one could hold.
///
/// # Errors
/// When the disk is full or broken.
pub fn lengthen(mut segment: Segment, length: u64) -> Result<Segment, DiskError> {
    files::extend_zeroed(&segment.path, segment.length, length, Pace::Full)?;
    open(&segment.path)?.sync_all().map_err(DiskError::of("sync", &segment.path))?;
    segment.length = length;
    Ok(segment)
}

/// Takes a segment out of the log: its file waits for a next life, or goes if enough wait already.
/// What it holds cannot pass for the log's again, since that life has another generation.
///
/// # Errors
/// When the rename or removal fails; the segment is then still part of the log.
pub fn recycle(folder: &Path, path: &Path) -> Result<(), DiskError> {
    let spares = numbered(folder, SPARE)?;
    if spares.len() >= SPARE_SEGMENTS_MAX {
        return files::remove(path);
    }
    let number = spares.last().map_or(1, |(number, _)| number + 1);
    files::rename(path, &folder.join(format!("{SPARE}.{number:016x}")))
}

/// Removes what an interrupted `prepare` left behind. Called at start-up.
///
/// # Errors
/// When the folder cannot be listed or a leftover not removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), DiskError> {
    for entry in std::fs::read_dir(folder).map_err(DiskError::of("list", folder))? {
        let path = entry.map_err(DiskError::of("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            files::remove(&path)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<std::fs::File, DiskError> {
    let opened: io::Result<_> = std::fs::OpenOptions::new().write(true).open(path);
    opened.map_err(DiskError::of("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 4 * BLOCK as u64;

    #[test]
    fn a_prepared_segment_begins_with_its_header_and_is_zero_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let segment = prepare(dir.path(), 3, LENGTH, Pace::Full).unwrap();
        let content = std::fs::read(&segment.path).unwrap();
        assert_eq!(content.len() as u64, LENGTH);
        let header = SegmentHeader::read(&content[..BLOCK]).unwrap();
        assert_eq!((header.ordinal, header.generation), (3, segment.generation));
        assert!(content[BLOCK..].iter().all(|byte| *byte == 0));
        assert_eq!(list(dir.path()).unwrap(), [(3, segment.path)]);
    }

    #[test]
    fn a_recycled_segment_begins_its_next_life_with_a_new_generation() {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path(), 1, LENGTH, Pace::Full).unwrap();
        open(&first.path).unwrap().write_all_at(b"of the former life", BLOCK as u64).unwrap();
        recycle(dir.path(), &first.path).unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
        let second = prepare(dir.path(), 2, LENGTH, Pace::Full).unwrap();
        assert_ne!(second.generation, first.generation);
        let content = std::fs::read(&second.path).unwrap();
        assert!(content[BLOCK..].starts_with(b"of the former life"), "it was not written anew");
        assert_eq!(numbered(dir.path(), SPARE).unwrap(), []);
    }

    #[test]
    fn only_so_many_spares_are_kept_and_none_of_another_length() {
        let dir = tempfile::tempdir().unwrap();
        for ordinal in 1..=SPARE_SEGMENTS_MAX as u64 + 2 {
            prepare(dir.path(), ordinal, LENGTH, Pace::Full).unwrap();
        }
        for (_, path) in list(dir.path()).unwrap() {
            recycle(dir.path(), &path).unwrap();
        }
        assert_eq!(numbered(dir.path(), SPARE).unwrap().len(), SPARE_SEGMENTS_MAX);
        let other = prepare(dir.path(), 9, 2 * LENGTH, Pace::Full).unwrap();
        assert_eq!(std::fs::metadata(other.path).unwrap().len(), 2 * LENGTH);
        assert_eq!(numbered(dir.path(), SPARE).unwrap(), []);
    }

    #[test]
    fn leftovers_of_an_interrupted_preparation_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log.0000000000000001.tmp"), b"half").unwrap();
        let kept = prepare(dir.path(), 1, LENGTH, Pace::Full).unwrap();
        std::fs::write(dir.path().join("log.0000000000000002.tmp"), b"half").unwrap();
        remove_leftovers(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(kept.path.exists());
    }

    #[test]
    fn a_lengthened_segment_is_zero_in_its_new_part() {
        let dir = tempfile::tempdir().unwrap();
        let segment = prepare(dir.path(), 1, LENGTH, Pace::Full).unwrap();
        let longer = lengthen(segment.clone(), 2 * LENGTH).unwrap();
        assert_eq!((longer.length, longer.generation), (2 * LENGTH, segment.generation));
        let content = std::fs::read(&longer.path).unwrap();
        assert_eq!(content.len() as u64, 2 * LENGTH);
        assert!(content[BLOCK..].iter().all(|byte| *byte == 0));
    }
}
