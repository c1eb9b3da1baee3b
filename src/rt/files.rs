//! Blocking file operations that must survive a power cut: locks, zeroed files, renames that are
//! durable. For start-up and the housekeeping thread; no reactor or consensus core calls them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The unit of the log on disk, bytes: a multiple of every device's logical block.
pub const BLOCK: usize = 4096;

/// How many zeros one write lays down, bytes.
const ZEROS_AT_ONCE: usize = 1 << 20;

/// A file operation that failed: what was tried, where, and the system's reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}{}", path.display(), advice(source))]
pub struct DiskError {
    /// A verb: "write", "open", "rename".
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOSPC) => {
            ". The disk is full: make room there and start the server again; all that was \
             acknowledged is kept"
        }
        Some(libc::EDQUOT) => {
            ". The disk quota is used up: raise it and start the server again; all that was \
             acknowledged is kept"
        }
        _ => "",
    }
}

impl DiskError {
    /// For `map_err`: turns an `io::Error` into the failure of `doing` at `path`.
    pub fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.to_path_buf();
        move |source| DiskError { doing, path, source }
    }

    /// Whether the disk itself could not do it (EIO), whatever rights and room there are.
    pub fn is_of_the_disk(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EIO)
    }
}

/// How much of its time a background job may work, so that those who serve requests on the same
/// core and disk are not held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Without a pause: at start-up, or when the log itself waits.
    Full,
    /// Rests this many times as long as it worked, after every piece of work.
    Resting(u32),
}

impl Pace {
    /// Rests for work that began at `since`.
    pub fn rest(self, since: Instant) {
        if let Pace::Resting(times) = self {
            // A disk that hangs for a second must not make the job rest for many.
            std::thread::sleep((since.elapsed() * times).min(Duration::from_millis(100)));
        }
    }
}

/// Makes what was created, renamed or removed in `folder` durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(DiskError::of("sync folder", folder))
}

/// Creates `folder` and the parents that are missing, each durable in its own parent.
///
/// # Errors
/// When a folder cannot be created or its parent not synced.
pub fn create_folder(folder: &Path) -> Result<(), DiskError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_folder(parent)?;
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(DiskError::of("create folder", folder)(e))
        }
        _ => sync_folder(parent),
    }
}

/// Renames a file within its folder, durably.
///
/// # Errors
/// When the rename or the sync of the folder fails.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    std::fs::rename(from, to).map_err(DiskError::of("rename", from))?;
    sync_folder(to.parent().expect("a file lies in a folder"))
}

/// Removes a file, durably.
///
/// # Errors
/// When the removal or the sync of the folder fails.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    std::fs::remove_file(path).map_err(DiskError::of("remove", path))?;
    sync_folder(path.parent().expect("a file lies in a folder"))
}

/// Puts a small file in place as a whole: after a power cut it is the old one or the new one.
///
/// # Errors
/// When any step fails; the old file is then still there.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    let tmp = path.with_extension("tmp");
    let mut file = File::create(&tmp).map_err(DiskError::of("create", &tmp))?;
    file.write_all(content).map_err(DiskError::of("write", &tmp))?;
    file.sync_all().map_err(DiskError::of("sync", &tmp))?;
    rename(&tmp, path)
}

/// Opens an existing file for writing past the page cache. `None`: its filesystem refuses
/// `O_DIRECT`.
///
/// # Errors
/// When the file cannot be opened at all.
pub fn open_direct(path: &Path) -> Result<Option<File>, DiskError> {
    match OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        Err(e) => Err(DiskError::of("open", path)(e)),
    }
}

/// Creates `path` (or empties it) with `length` bytes, all written as zeros, so that later writes
/// change no file-system metadata. Not yet synced.
///
/// # Errors
/// When the disk is full or broken; what was made stays behind.
pub fn create_zeroed(path: &Path, length: u64, pace: Pace) -> Result<(), DiskError> {
    File::create(path).map_err(DiskError::of("create", path))?;
    extend_zeroed(path, 0, length, pace)
}

/// Writes zeros from `start` to `end`, both multiples of `BLOCK`, extending the file. Not synced.
///
/// # Errors
/// When the disk is full or broken.
pub fn extend_zeroed(path: &Path, start: u64, end: u64, pace: Pace) -> Result<(), DiskError> {
    assert!(start.is_multiple_of(BLOCK as u64) && end.is_multiple_of(BLOCK as u64));
    // Past the page cache: dirty pages would be written back in one burst, which the log's
    // flushes would then wait for.
    let file = match open_direct(path)? {
        Some(file) => file,
        None => OpenOptions::new().write(true).open(path).map_err(DiskError::of("open", path))?,
    };
    reserve(&file, start, end - start).map_err(DiskError::of("allocate", path))?;
    let zeros = vec![0u8; ZEROS_AT_ONCE + BLOCK];
    let aligned = zeros.as_ptr().align_offset(BLOCK);
    let mut at = start;
    while at < end {
        let began = Instant::now();
        let take = ((end - at) as usize).min(ZEROS_AT_ONCE);
        file.write_all_at(&zeros[aligned..aligned + take], at)
            .map_err(DiskError::of("write", path))?;
        at += take as u64;
        pace.rest(began);
    }
    Ok(())
}

/// Reserves room, so that a full disk is met before anything is written and the file lies in one
/// piece. A filesystem that cannot is none the worse.
fn reserve(file: &File, start: u64, length: u64) -> io::Result<()> {
    // SAFETY: takes a live descriptor and two numbers.
    let failed = unsafe {
        libc::fallocate(file.as_raw_fd(), 0, start as libc::off_t, length as libc::off_t)
    };
    if failed == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => Ok(()),
        _ => Err(error),
    }
}

/// Begins to write a range of a file back to the disk, having waited for all that lies before it,
/// so that dirty pages stay few and the sync at the end has little left to do.
pub fn write_back(file: &File, start: u64, length: u64) {
    if start > 0 {
        sync_range(file, 0, start, libc::SYNC_FILE_RANGE_WAIT_BEFORE);
    }
    sync_range(file, start, length, libc::SYNC_FILE_RANGE_WRITE);
}

/// A hint: where it is not supported, the sync at the end does all the work.
fn sync_range(file: &File, start: u64, length: u64, flags: libc::c_uint) {
    let (start, length) = (start as libc::off64_t, length as libc::off64_t);
    // SAFETY: takes a live descriptor and numbers.
    unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, flags) };
}

/// Tells the kernel that the file will be read from its begin to its end.
pub fn will_read_all(file: &File) {
    // Hints: nothing depends on their success.
    // SAFETY: each takes a live descriptor and numbers.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL);
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_WILLNEED);
    }
}

/// Makes durable what the file holds and drops the kernel's copy, so that what is read next is
/// what the disk has: after a failed fsync the page cache may hold what never reached it.
///
/// # Errors
/// When the sync fails.
pub fn settle(file: &File) -> io::Result<()> {
    file.sync_data()?;
    // SAFETY: takes a live descriptor and numbers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    Ok(())
}

/// An exclusive lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FileLock(#[expect(dead_code, reason = "held for its lock")] File);

impl FileLock {
    /// Locks `path`, creating it when it is missing. `None`: another process has it.
    ///
    /// # Errors
    /// When the file cannot be created, opened or locked.
    pub fn take(path: &Path) -> Result<Option<FileLock>, DiskError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(DiskError::of("open", path))?;
        // SAFETY: takes a live descriptor and flags.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(Some(FileLock(file)));
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::WouldBlock {
            return Ok(None);
        }
        Err(DiskError::of("lock", path)(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zeroed_file_has_its_length_and_only_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zeros");
        std::fs::write(&path, b"what was there before").unwrap();
        let length = ZEROS_AT_ONCE as u64 * 2 + BLOCK as u64;
        create_zeroed(&path, length, Pace::Full).unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, length);
        assert!(content.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = FileLock::take(&path).unwrap();
        assert!(lock.is_some());
        assert!(FileLock::take(&path).unwrap().is_none());
        drop(lock);
        assert!(FileLock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let full = Path::new("/dev/full");
        let failed = std::fs::write(full, b"x").map_err(DiskError::of("write", full)).unwrap_err();
        let text = failed.to_string();
        assert!(text.starts_with("cannot write /dev/full: No space left on device"), "{text}");
        assert!(text.contains("make room"), "{text}");
    }

    #[test]
    fn a_folder_is_created_with_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        assert!(deep.is_dir());
    }
}
