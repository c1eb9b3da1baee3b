//! When a snapshot is due, and what it is taken of. Owned by `turn`; the housekeeping thread takes
//! it.

use std::fmt;

use crate::ids::{SessionId, Zxid};
use crate::tree::Reader;

/// What a snapshot is taken of: the tree and the sessions as of one transaction.
pub struct SnapshotRequest {
    /// The last transaction that the snapshot holds.
    pub zxid: Zxid,
    /// Pinned at `zxid`, by `hold_newest`.
    pub reader: Reader,
    /// Each with the timeout that it was created with, milliseconds.
    pub sessions: Vec<(SessionId, i32)>,
}

impl fmt::Debug for SnapshotRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.len();
        write!(f, "SnapshotRequest at {} with {sessions} sessions", self.zxid)
    }
}

/// How a request reaches the housekeeping thread. False: it cannot take one now.
pub type RequestSnapshot = Box<dyn FnMut(SnapshotRequest) -> bool>;

/// How much is logged between two snapshots.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// `snapCount`: transactions.
    pub txns: u32,
    /// `snapSizeLimitInKb`, in bytes of log. `None`: no matter how many.
    pub log_bytes: Option<u64>,
}

/// How long to wait when the housekeeping thread could not take a request, milliseconds.
const POSTPONED_MS: u64 = 1_000;

/// Counts what is logged. A snapshot is due after n transactions or bytes, with n random between
/// half of the configured number and all of it, so that the members of an ensemble do not all take
/// theirs at the same time.
#[derive(Debug)]
pub struct Snapshots {
    policy: SnapshotPolicy,
    random: u64,
    txns: u64,
    bytes: u64,
    due_txns: u64,
    due_bytes: u64,
    in_progress: bool,
    /// None is asked for before this time.
    not_before_ms: u64,
    taken: u64,
}

impl Snapshots {
    /// Nothing is logged since the last snapshot. `seed` makes members differ.
    pub fn new(policy: SnapshotPolicy, seed: u64) -> Snapshots {
        let mut snapshots = Snapshots {
            policy,
            random: seed | 1,
            txns: 0,
            bytes: 0,
            due_txns: 0,
            due_bytes: 0,
            in_progress: false,
            not_before_ms: 0,
            taken: 0,
        };
        snapshots.start_over();
        snapshots
    }

    /// So much was logged and committed.
    pub fn count(&mut self, txns: u64, bytes: u64) {
        self.txns += txns;
        self.bytes += bytes;
    }

    /// Whether a snapshot should be asked for: enough is logged, and none is in progress. `now_ms`
    /// is the time of the monotonic clock.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let enough = self.txns >= self.due_txns || self.bytes >= self.due_bytes;
        enough && !self.in_progress && now_ms >= self.not_before_ms
    }

    /// The housekeeping thread cannot take a request now: it is asked again a little later, for
    /// the sessions are gathered anew each time.
    pub fn postponed(&mut self, now_ms: u64) {
        self.not_before_ms = now_ms + POSTPONED_MS;
    }

    /// A snapshot was asked for.
    pub fn begun(&mut self) {
        self.in_progress = true;
        self.start_over();
    }

    /// The housekeeping thread is done with it: the snapshot is there, or has failed.
    pub fn done(&mut self, taken: bool) {
        self.in_progress = false;
        self.taken += u64::from(taken);
    }

    /// Snapshots taken since the server began.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    fn start_over(&mut self) {
        (self.txns, self.bytes) = (0, 0);
        self.due_txns = self.within_upper_half(u64::from(self.policy.txns));
        self.due_bytes = match self.policy.log_bytes {
            Some(bytes) => self.within_upper_half(bytes),
            None => u64::MAX,
        };
    }

    /// A random number in (limit / 2, limit]; 1 at least.
    fn within_upper_half(&mut self, limit: u64) -> u64 {
        // xorshift64: all that is asked of it is to differ between servers.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = limit / 2;
        (half + 1 + self.random % (limit - half).max(1)).min(limit).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_after(snapshots: &mut Snapshots) -> u64 {
        let mut txns = 0;
        while !snapshots.is_due(0) {
            snapshots.count(1, 100);
            txns += 1;
        }
        txns
    }

    #[test]
    fn a_snapshot_is_due_after_more_than_half_of_snap_count() {
        let policy = SnapshotPolicy { txns: 100, log_bytes: None };
        let mut seen = Vec::new();
        let mut snapshots = Snapshots::new(policy, 7);
        for _ in 0..200 {
            seen.push(due_after(&mut snapshots));
            snapshots.begun();
            snapshots.done(true);
        }
        assert!(seen.iter().all(|txns| (51..=100).contains(txns)), "{seen:?}");
        assert!(seen.contains(&51) && seen.contains(&100), "{seen:?}");
        assert_eq!(snapshots.taken(), 200);
    }

    #[test]
    fn the_size_of_the_log_makes_one_due_as_well() {
        let policy = SnapshotPolicy { txns: 1_000_000, log_bytes: Some(10_000) };
        let txns = due_after(&mut Snapshots::new(policy, 3));
        assert!((51..=100).contains(&txns), "{txns}");
    }

    #[test]
    fn there_is_one_at_a_time() {
        let mut snapshots = Snapshots::new(SnapshotPolicy { txns: 1, log_bytes: None }, 3);
        snapshots.count(1, 0);
        assert!(snapshots.is_due(0));
        snapshots.begun();
        snapshots.count(5, 0);
        assert!(!snapshots.is_due(0));
        snapshots.done(true);
        assert!(snapshots.is_due(0));
    }

    #[test]
    fn one_that_cannot_be_taken_now_is_asked_for_again_later() {
        let mut snapshots = Snapshots::new(SnapshotPolicy { txns: 1, log_bytes: None }, 3);
        snapshots.count(1, 0);
        assert!(snapshots.is_due(500));
        snapshots.postponed(500);
        assert!(!snapshots.is_due(1_499));
        assert!(snapshots.is_due(1_500));
    }
}
