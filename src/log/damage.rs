//! Why a server's data cannot be used as it is, told so that an operator can act on it.

use std::error::Error;
use std::path::PathBuf;

use super::format::HeaderFault;
use super::truncate::TruncateError;
use crate::ids::Zxid;
use crate::rt::files::DiskError;

/// Why recovery refuses. Nothing was changed, unless it is the disk that failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "{}: {fault}. Nothing was changed; start a server of the version that wrote it, or a \
         newer one",
        path.display()
    )]
    Newer { path: PathBuf, fault: HeaderFault },
    #[error("the log is damaged in {} at byte {offset}{}: {damage}. {ADVICE}",
        path.display(), behind(*.last_good))]
    Damaged {
        path: PathBuf,
        offset: u64,
        /// The last transaction before the damage, if there is one.
        last_good: Option<Zxid>,
        damage: Damage,
    },
    #[error("the log's segment {} is missing, but a later one is there. {ADVICE}", .0.display())]
    SegmentMissing(PathBuf),
    #[error(
        "transactions are missing: what is in {} at byte {offset} follows {after}, but everything \
         before it ends with {reached}{}. {ADVICE}",
        path.display(), of_snapshots(*.damaged_snapshots)
    )]
    Gap { path: PathBuf, offset: u64, after: Zxid, reached: Zxid, damaged_snapshots: usize },
    #[error(
        "the newest snapshot, at {needed}, is damaged (see above), and without it the data ends \
         with {reached}. {ADVICE}"
    )]
    SnapshotNeeded { needed: Zxid, reached: Zxid },
    #[error("transaction {zxid} in {} cannot be applied: {source}. {ADVICE}", path.display())]
    Refused { path: PathBuf, zxid: Zxid, source: Box<dyn Error + Send + Sync> },
    #[error("a truncation of the log was cut short and cannot be finished: {0}. {ADVICE}")]
    Truncation(Box<TruncateError>),
}

impl RecoverError {
    /// The failure of a truncation that an earlier process began.
    pub(super) fn truncation(error: TruncateError) -> RecoverError {
        match error {
            TruncateError::Disk(e) => e.into(),
            refused => RecoverError::Truncation(Box::new(refused)),
        }
    }
}

/// What is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the segment's header: {0}")]
    SegmentHeader(HeaderFault),
    #[error("the segment's header says that it is segment {0:#x}")]
    Ordinal(u64),
    #[error(
        "what should be there is not whole, but batch {later} in {} at byte {at} was written \
         after it",
        path.display()
    )]
    BatchLost { later: u64, path: PathBuf, at: u64 },
    #[error("batch {found} stands where batch {expected} should")]
    Sequence { expected: u64, found: u64 },
    #[error("the batch's records are not those that its header tells of")]
    Records,
    #[error("a batch that follows {next} stands behind {last}")]
    Backwards { last: Zxid, next: Zxid },
}

const ADVICE: &str = "Nothing was changed. Restore the data folders from a backup, or, in an \
                      ensemble, move them away and let this server fetch everything from the \
                      others; `ringkeeper dump FILE` shows what can still be read";

fn behind(last_good: Option<Zxid>) -> String {
    last_good.map_or_else(String::new, |zxid| format!(", behind transaction {zxid}"))
}

fn of_snapshots(damaged: usize) -> String {
    match damaged {
        0 => String::new(),
        1 => " (the newest snapshot is damaged)".to_owned(),
        n => format!(" (the newest {n} snapshots are damaged)"),
    }
}
