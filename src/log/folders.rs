//! The two folders of a server's data: `dataDir/ringkeeper` for snapshots and
//! `dataLogDir/ringkeeper` for the log (often the same one). Opening them takes their locks and
//! reads their markers, so that two servers, a newer format or the wrong pair are noticed before
//! anything is touched. ZooKeeper's own `version-2` beside them is never changed; where it has data
//! and we have none, a start is refused: its users would find an empty tree.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rt::files::{self, DiskError, FileLock};

/// The version of the folders' layout. A server refuses a newer one.
pub const DATA_FORMAT: u32 = 1;

const FOLDER: &str = "ringkeeper";
const MARKER: &str = "format";
const LOCK: &str = "lock";
const ZOOKEEPERS: &str = "version-2";

/// A server's data folders, locked until this is dropped.
#[derive(Debug)]
pub struct DataFolders {
    snapshots: PathBuf,
    log: PathBuf,
    /// Held by whoever takes files away.
    removing: Mutex<()>,
    _locks: Vec<FileLock>,
}

/// Why the data folders cannot be used. Nothing was changed in them.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("the data folder {} is locked by another server that is running", .0.display())]
    Locked(PathBuf),
    #[error(
        "the data folder {} has format {found}, written by a newer server; this one reads formats \
         up to {DATA_FORMAT}",
        folder.display()
    )]
    Newer { folder: PathBuf, found: u32 },
    #[error("{} is not a format marker of this server: {content:?}", path.display())]
    Marker { path: PathBuf, content: String },
    #[error(
        "the data folder {} holds data but no format marker (file `{MARKER}`); restore it from \
         the backup that the data came from",
        .0.display()
    )]
    MarkerMissing(PathBuf),
    #[error(
        "the snapshots in {} and the log in {} belong to different servers: check dataDir and \
         dataLogDir",
        snapshots.display(), log.display()
    )]
    Strangers { snapshots: PathBuf, log: PathBuf },
    #[error(
        "{} holds a server's data but {} does not: check dataDir and dataLogDir, or move the \
         missing files there, their `{MARKER}` file included",
        present.display(), absent.display()
    )]
    HalfMissing { present: PathBuf, absent: PathBuf },
    #[error(
        "there is a log in the snapshot folder ({}) although the log's folder is {}: move the log \
         there or correct dataLogDir",
        stray.display(), log.display()
    )]
    LogAmongSnapshots { stray: PathBuf, log: PathBuf },
    #[error(
        "{} holds the data of an Apache ZooKeeper server, which this version cannot take over: give \
         this server a dataDir of its own",
        .0.display()
    )]
    ZooKeepers(PathBuf),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl DataFolders {
    /// Opens or creates the folders below `data_dir` and `data_log_dir`, and locks them.
    ///
    /// # Errors
    /// When another server has them, when they cannot be read or written, when a newer server
    /// wrote them, when the two do not belong together, or when ZooKeeper's data is all there is.
    pub fn open(data_dir: &Path, data_log_dir: &Path) -> Result<DataFolders, FolderError> {
        for folder in [data_dir, data_log_dir] {
            let theirs = folder.join(ZOOKEEPERS);
            let is_ours = folder.join(FOLDER).exists();
            if !is_ours && theirs.is_dir() && holds(&theirs, &["log.", "snapshot."])?.is_some() {
                return Err(FolderError::ZooKeepers(theirs));
            }
        }
        let snapshots = data_dir.join(FOLDER);
        let log = data_log_dir.join(FOLDER);
        files::create_folder(&snapshots)?;
        files::create_folder(&log)?;
        let mut locks = vec![lock(&snapshots)?];
        // The same folder by two names would look locked by another server.
        let same = same_folder(&snapshots, &log)?;
        if !same {
            locks.push(lock(&log)?);
        }
        if same {
            check_one(&snapshots)?;
        } else {
            check_two(&snapshots, &log)?;
        }
        Ok(DataFolders { snapshots, log, removing: Mutex::new(()), _locks: locks })
    }

    /// Where the snapshots are.
    pub fn snapshots(&self) -> &Path {
        &self.snapshots
    }

    /// Where the log's segments are.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Alone, until it is dropped, in removing segments and snapshots: a purge, a truncation and
    /// the installation of a snapshot each reckon with what they find.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        // It guards files, which are whole after every step.
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(folder: &Path) -> Result<FileLock, FolderError> {
    FileLock::take(&folder.join(LOCK))?.ok_or_else(|| FolderError::Locked(folder.to_path_buf()))
}

fn same_folder(one: &Path, other: &Path) -> Result<bool, DiskError> {
    let full = |path: &Path| path.canonicalize().map_err(DiskError::of("open", path));
    Ok(full(one)? == full(other)?)
}

fn check_one(folder: &Path) -> Result<(), FolderError> {
    match read_marker(folder)? {
        Some(_) => Ok(()),
        None if holds(folder, &["log.", "snapshot."])?.is_some() => {
            Err(FolderError::MarkerMissing(folder.to_path_buf()))
        }
        None => write_marker(folder, draw()),
    }
}

/// The log's marker is written first, the snapshots' last. So a first start that was cut short
/// leaves the log's alone and no data; every other half pair is a mistake in the configuration.
fn check_two(snapshots: &Path, log: &Path) -> Result<(), FolderError> {
    if let Some(stray) = holds(snapshots, &["log."])? {
        return Err(FolderError::LogAmongSnapshots { stray, log: log.to_path_buf() });
    }
    let half = |present: &Path, absent: &Path| FolderError::HalfMissing {
        present: present.to_path_buf(),
        absent: absent.to_path_buf(),
    };
    match (read_marker(snapshots)?, read_marker(log)?) {
        (Some(one), Some(other)) if one == other => Ok(()),
        (Some(_), Some(_)) => Err(FolderError::Strangers {
            snapshots: snapshots.to_path_buf(),
            log: log.to_path_buf(),
        }),
        (Some(_), None) => Err(half(snapshots, log)),
        (None, found) => {
            if holds(snapshots, &["snapshot."])?.is_some() {
                return Err(FolderError::MarkerMissing(snapshots.to_path_buf()));
            }
            if holds(log, &["log."])?.is_some() {
                return Err(half(log, snapshots));
            }
            let store = found.unwrap_or_else(draw);
            write_marker(log, store)?;
            write_marker(snapshots, store)
        }
    }
}

/// A file in `folder` whose name begins with one of `prefixes`.
fn holds(folder: &Path, prefixes: &[&str]) -> Result<Option<PathBuf>, DiskError> {
    for entry in std::fs::read_dir(folder).map_err(DiskError::of("list", folder))? {
        let entry = entry.map_err(DiskError::of("list", folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.ends_with(".tmp") && prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Reads the number that pairs a snapshot folder with its log folder.
fn read_marker(folder: &Path) -> Result<Option<u64>, FolderError> {
    let path = folder.join(MARKER);
    let content = match std::fs::read(&path) {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(DiskError::of("read", &path)(e).into()),
    };
    let words: Vec<&str> = content.split_whitespace().collect();
    let version = match words[..] {
        ["ringkeeper", "format", version, ..] => version.parse::<u32>().ok(),
        _ => None,
    };
    match (version, &words[..]) {
        (Some(found), _) if found > DATA_FORMAT => {
            Err(FolderError::Newer { folder: folder.to_path_buf(), found })
        }
        (Some(_), [_, _, _, "store", store]) if store.len() == 16 => {
            match u64::from_str_radix(store, 16) {
                Ok(store) => Ok(Some(store)),
                Err(_) => Err(FolderError::Marker { path, content }),
            }
        }
        _ => Err(FolderError::Marker { path, content }),
    }
}

fn write_marker(folder: &Path, store: u64) -> Result<(), FolderError> {
    let content = format!("ringkeeper format {DATA_FORMAT} store {store:016x}\n");
    Ok(files::replace(&folder.join(MARKER), content.as_bytes())?)
}

/// A number that nobody else draws: keys from the system's randomness, hashed.
pub(crate) fn draw() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zookeepers_data_is_not_passed_over_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("version-2");
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("acceptedEpoch"), "0").unwrap();
        drop(DataFolders::open(dir.path(), dir.path()).unwrap());
        std::fs::remove_dir_all(dir.path().join("ringkeeper")).unwrap();
        std::fs::write(theirs.join("snapshot.0"), "theirs").unwrap();
        let refused = DataFolders::open(dir.path(), dir.path()).unwrap_err();
        assert!(refused.to_string().contains("version-2 holds the data of an Apache ZooKeeper"));
        assert!(!dir.path().join("ringkeeper").exists(), "something was touched");
        std::fs::create_dir(dir.path().join("ringkeeper")).unwrap();
        DataFolders::open(dir.path(), dir.path()).unwrap();
    }

    #[test]
    fn a_second_server_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataFolders::open(dir.path(), dir.path()).unwrap();
        let refused = DataFolders::open(dir.path(), dir.path()).unwrap_err();
        assert!(matches!(refused, FolderError::Locked(_)), "{refused}");
        drop(first);
        DataFolders::open(dir.path(), dir.path()).unwrap();
    }

    #[test]
    fn one_folder_by_two_names_is_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        DataFolders::open(dir.path(), &link).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolders::open(dir.path(), dir.path()).unwrap());
        let marker = dir.path().join("ringkeeper/format");
        std::fs::write(&marker, "ringkeeper format 2 sharded\n").unwrap();
        let refused = DataFolders::open(dir.path(), dir.path()).unwrap_err();
        assert!(matches!(refused, FolderError::Newer { found: 2, .. }), "{refused}");
        assert_eq!(std::fs::read(&marker).unwrap(), b"ringkeeper format 2 sharded\n");
    }

    #[test]
    fn a_marker_that_makes_no_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolders::open(dir.path(), dir.path()).unwrap());
        for content in ["", "hello", "ringkeeper format x", "ringkeeper format 1 store 12"] {
            std::fs::write(dir.path().join("ringkeeper/format"), content).unwrap();
            let refused = DataFolders::open(dir.path(), dir.path()).unwrap_err();
            assert!(matches!(refused, FolderError::Marker { .. }), "{refused}");
        }
    }

    #[test]
    fn data_without_a_marker_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ringkeeper")).unwrap();
        std::fs::write(dir.path().join("ringkeeper/log.0000000000000001"), "").unwrap();
        let refused = DataFolders::open(dir.path(), dir.path()).unwrap_err();
        assert!(matches!(refused, FolderError::MarkerMissing(_)), "{refused}");
    }

    #[test]
    fn a_snapshot_folder_and_a_log_folder_that_do_not_belong_together_are_refused() {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        drop(DataFolders::open(dirs[0].path(), dirs[1].path()).unwrap());
        drop(DataFolders::open(dirs[0].path(), dirs[1].path()).unwrap());
        drop(DataFolders::open(dirs[2].path(), dirs[3].path()).unwrap());
        let crossed = DataFolders::open(dirs[0].path(), dirs[3].path()).unwrap_err();
        assert!(matches!(crossed, FolderError::Strangers { .. }), "{crossed}");
        let fresh = tempfile::tempdir().unwrap();
        let moved = DataFolders::open(dirs[0].path(), fresh.path()).unwrap_err();
        assert!(matches!(moved, FolderError::HalfMissing { .. }), "{moved}");
        std::fs::write(dirs[1].path().join("ringkeeper/log.0000000000000001"), "").unwrap();
        let moved = DataFolders::open(fresh.path(), dirs[1].path()).unwrap_err();
        assert!(matches!(moved, FolderError::HalfMissing { .. }), "{moved}");
        std::fs::write(dirs[0].path().join("ringkeeper/log.0000000000000001"), "").unwrap();
        let stray = DataFolders::open(dirs[0].path(), dirs[1].path()).unwrap_err();
        assert!(matches!(stray, FolderError::LogAmongSnapshots { .. }), "{stray}");
    }

    #[test]
    fn a_first_start_that_was_cut_short_between_the_markers_starts_again() {
        let (data, log) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(DataFolders::open(data.path(), log.path()).unwrap());
        std::fs::remove_file(data.path().join("ringkeeper/format")).unwrap();
        drop(DataFolders::open(data.path(), log.path()).unwrap());
        assert_eq!(
            std::fs::read(data.path().join("ringkeeper/format")).unwrap(),
            std::fs::read(log.path().join("ringkeeper/format")).unwrap()
        );
    }
}
