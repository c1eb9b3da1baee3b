//! `acceptedEpoch` and `currentEpoch`: what a member promised, and whose history it has. Two files
//! beside the snapshots, a decimal number each as in ZooKeeper, replaced as a whole. Every call
//! blocks: they are made from a thread beside the consensus core, which waits for them before it
//! says what they record.
//!
//! Invariant once loaded: epoch of the last transaction <= `currentEpoch` <= `acceptedEpoch`.

use std::io;
use std::path::{Path, PathBuf};

use super::folders::DataFolders;
use crate::ids::{Epoch, Zxid};
use crate::rt::files::{self, DiskError};

const ACCEPTED: &str = "acceptedEpoch";
const CURRENT: &str = "currentEpoch";

/// Both epochs, as they are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The last epoch that this server promised to follow: never an older one.
    pub accepted: Epoch,
    /// The last epoch whose leader's history this server has.
    pub current: Epoch,
}

/// Why the epochs cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{} holds no epoch: {content:?}. {ADVICE}", path.display())]
    Unreadable { path: PathBuf, content: String },
    #[error("the current epoch, {current}, is older than the last transaction, {last}. {ADVICE}")]
    OlderThanLog { current: Epoch, last: Zxid },
    #[error("the accepted epoch, {accepted}, is less than the current epoch, {current}. {ADVICE}")]
    AcceptedBehindCurrent { accepted: Epoch, current: Epoch },
}

const ADVICE: &str = "Restore the data folders from a backup, or move them away and let this \
                      server fetch everything from the others";

/// The two files of a server.
#[derive(Clone, Debug)]
pub struct EpochFiles {
    folder: PathBuf,
}

impl EpochFiles {
    /// Those of the server that has these folders.
    pub fn of(folders: &DataFolders) -> EpochFiles {
        EpochFiles { folder: folders.snapshots().to_path_buf() }
    }

    /// Both epochs of a server whose log ends with `last`, by the rules of ZooKeeper's start: a
    /// file that is missing is written with the epoch of `last`. Called once, after recovery.
    ///
    /// In one case ours goes on where ZooKeeper refuses: when the power goes between a learner's
    /// log and its `currentEpoch`, the log has transactions of the epoch that was accepted. They
    /// come behind all that their leader began with, so the server has that history, and the epoch
    /// is written now.
    ///
    /// # Errors
    /// When a file cannot be read, or the epochs contradict each other or the log.
    pub fn load(&self, last: Zxid) -> Result<Epochs, EpochError> {
        let (found_current, found_accepted) = (self.read(CURRENT)?, self.read(ACCEPTED)?);
        let mut current = found_current.unwrap_or(last.epoch());
        let accepted = found_accepted.unwrap_or(last.epoch());
        if last.epoch() > current {
            if last.epoch() > accepted {
                return Err(EpochError::OlderThanLog { current, last });
            }
            tracing::warn!(
                %current, %last,
                "currentEpoch is older than the last transaction, whose epoch was accepted: the \
                 server went down while it was synchronised; it goes on with that epoch"
            );
            current = last.epoch();
        }
        if accepted < current {
            return Err(EpochError::AcceptedBehindCurrent { accepted, current });
        }
        if found_accepted.is_none() {
            self.write_accepted(accepted)?;
        }
        if found_current != Some(current) {
            self.write_current(current)?;
        }
        Ok(Epochs { accepted, current })
    }

    /// Makes `epoch` the accepted one. Durable when it returns.
    ///
    /// # Errors
    /// When the disk fails; the old file is then still there.
    pub fn write_accepted(&self, epoch: Epoch) -> Result<(), DiskError> {
        self.write(ACCEPTED, epoch)
    }

    /// Makes `epoch` the current one. Durable when it returns.
    ///
    /// # Errors
    /// When the disk fails; the old file is then still there.
    pub fn write_current(&self, epoch: Epoch) -> Result<(), DiskError> {
        self.write(CURRENT, epoch)
    }

    fn write(&self, name: &str, epoch: Epoch) -> Result<(), DiskError> {
        files::replace(&self.folder.join(name), epoch.to_string().as_bytes())
    }

    fn read(&self, name: &str) -> Result<Option<Epoch>, EpochError> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Ok(content) => epoch_in(&path, &content).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(DiskError::of("read", &path)(e).into()),
        }
    }
}

/// As ZooKeeper reads it: a number in the first line. An editor may have ended that line.
fn epoch_in(path: &Path, content: &[u8]) -> Result<Epoch, EpochError> {
    let text = String::from_utf8_lossy(content);
    let number = text.lines().next().and_then(|line| line.parse::<u32>().ok());
    number.map(Epoch::new).ok_or_else(|| EpochError::Unreadable {
        path: path.to_path_buf(),
        content: text.chars().take(80).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, EpochFiles) {
        let dir = tempfile::tempdir().unwrap();
        let folders = DataFolders::open(dir.path(), dir.path()).unwrap();
        let files = EpochFiles::of(&folders);
        (dir, files)
    }

    fn put(files: &EpochFiles, accepted: &str, current: &str) {
        for (name, content) in [(ACCEPTED, accepted), (CURRENT, current)] {
            let path = files.folder.join(name);
            let _ = std::fs::remove_file(&path);
            if !content.is_empty() {
                std::fs::write(path, content).unwrap();
            }
        }
    }

    fn zxid(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(Epoch::new(epoch), counter)
    }

    fn epochs(accepted: u32, current: u32) -> Epochs {
        Epochs { accepted: Epoch::new(accepted), current: Epoch::new(current) }
    }

    #[test]
    fn what_was_written_is_read_back_and_looks_as_zookeepers() {
        let (_dir, files) = folders();
        files.write_accepted(Epoch::new(12)).unwrap();
        files.write_current(Epoch::new(11)).unwrap();
        assert_eq!(std::fs::read(files.folder.join("acceptedEpoch")).unwrap(), b"12");
        assert_eq!(std::fs::read(files.folder.join("currentEpoch")).unwrap(), b"11");
        assert_eq!(files.load(zxid(11, 5)).unwrap(), epochs(12, 11));
        assert_eq!(std::fs::read_dir(&files.folder).unwrap().count(), 4, "no temporary file");
    }

    #[test]
    fn files_that_are_missing_are_written_with_the_logs_epoch() {
        let (_dir, files) = folders();
        assert_eq!(files.load(zxid(3, 1)).unwrap(), epochs(3, 3));
        assert_eq!(std::fs::read(files.folder.join("acceptedEpoch")).unwrap(), b"3");
        assert_eq!(std::fs::read(files.folder.join("currentEpoch")).unwrap(), b"3");
        put(&files, "4", "");
        assert_eq!(files.load(zxid(3, 1)).unwrap(), epochs(4, 3));
        put(&files, "", "3");
        assert_eq!(files.load(zxid(3, 1)).unwrap(), epochs(3, 3));
    }

    #[test]
    fn a_log_that_is_ahead_of_the_current_epoch_needs_a_promise() {
        let (_dir, files) = folders();
        put(&files, "5", "4");
        assert_eq!(files.load(zxid(5, 1)).unwrap(), epochs(5, 5));
        assert_eq!(std::fs::read(files.folder.join("currentEpoch")).unwrap(), b"5");
        put(&files, "4", "4");
        let refused = files.load(zxid(5, 1)).unwrap_err().to_string();
        let expected = "the current epoch, 4, is older than the last transaction, 0x500000001";
        assert!(refused.starts_with(expected), "{refused}");
        assert_eq!(std::fs::read(files.folder.join("currentEpoch")).unwrap(), b"4");
    }

    #[test]
    fn an_accepted_epoch_behind_the_current_one_is_refused() {
        let (_dir, files) = folders();
        for (accepted, current, last) in [("4", "5", zxid(4, 1)), ("", "5", zxid(4, 1))] {
            put(&files, accepted, current);
            let refused = files.load(last).unwrap_err().to_string();
            let expected = "the accepted epoch, 4, is less than the current epoch, 5";
            assert!(refused.starts_with(expected), "{refused}");
            assert_eq!(files.folder.join(ACCEPTED).exists(), !accepted.is_empty());
        }
    }

    #[test]
    fn what_is_no_epoch_is_refused_with_its_file() {
        let (_dir, files) = folders();
        for content in ["x", " 3", "-1", "3 4", "4294967296", "\n3"] {
            put(&files, "9", content);
            let refused = files.load(Zxid::ZERO).unwrap_err();
            assert!(matches!(refused, EpochError::Unreadable { .. }), "{content:?}: {refused}");
            assert!(refused.to_string().contains("currentEpoch"), "{refused}");
        }
        std::fs::write(files.folder.join(CURRENT), "").unwrap();
        assert!(matches!(files.load(Zxid::ZERO), Err(EpochError::Unreadable { .. })));
        put(&files, "9\n", "8\r\n");
        assert_eq!(files.load(Zxid::ZERO).unwrap(), epochs(9, 8));
    }
}
