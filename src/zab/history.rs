//! The newest transactions of the log, in memory: what learners that were away a moment are
//! brought up to date with, and, past the commits, what a leader has proposed. Used by `step`,
//! `learner` and `leader`.
//!
//! Invariants: zxids ascend; whatever is committed here and in the log stays, what is not may be
//! cut off. Only committed transactions are dropped to make room.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::Zxid;
use crate::limits::HISTORY_BYTES_MAX;

/// A transaction as it travels in a PROPOSAL.
pub type LoggedTxn = (Zxid, Bytes);

/// The end of the log.
#[derive(Debug, Default)]
pub struct History {
    txns: VecDeque<LoggedTxn>,
    bytes: usize,
    /// Transactions that are kept once they are committed (`commitLogCount`).
    keep: usize,
    /// The last transaction of the log, here or not.
    last: Zxid,
    /// The last one known to be committed.
    committed: Zxid,
}

impl History {
    /// An empty one behind `last`, which keeps `keep` committed transactions.
    pub fn after(last: Zxid, keep: usize) -> History {
        History { txns: VecDeque::new(), bytes: 0, keep, last, committed: Zxid::ZERO }
    }

    /// The last transaction of the log.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The last one known to be committed.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Transactions that are not known to be committed.
    pub fn outstanding(&self) -> usize {
        self.txns.len() - self.txns.partition_point(|(zxid, _)| *zxid <= self.committed)
    }

    /// Adds the next transaction of the log.
    ///
    /// # Panics
    /// When it is not behind the last one.
    pub fn push(&mut self, zxid: Zxid, txn: Bytes) {
        assert!(zxid > self.last, "{zxid} logged after {}", self.last);
        self.bytes += txn.len();
        self.txns.push_back((zxid, txn));
        self.last = zxid;
        self.trim();
    }

    /// Everything through `zxid` is committed.
    ///
    /// # Panics
    /// When it was never logged.
    pub fn commit(&mut self, zxid: Zxid) {
        assert!(zxid <= self.last, "commit of {zxid}, the log ends at {}", self.last);
        self.committed = self.committed.max(zxid);
        self.trim();
    }

    /// Cuts everything behind `zxid` off.
    pub fn truncate(&mut self, zxid: Zxid) {
        let kept = self.txns.partition_point(|(each, _)| *each <= zxid);
        self.bytes -= self.txns.drain(kept..).map(|(_, txn)| txn.len()).sum::<usize>();
        self.last = self.last.min(zxid);
        self.committed = self.committed.min(zxid);
    }

    /// Forgets everything: the log goes on behind a snapshot at `zxid`.
    pub fn replace(&mut self, zxid: Zxid) {
        *self = History { committed: zxid, ..History::after(zxid, self.keep) };
    }

    /// The transactions behind `zxid`, oldest first.
    pub fn behind(&self, zxid: Zxid) -> impl Iterator<Item = &LoggedTxn> {
        self.txns.range(self.txns.partition_point(|(each, _)| *each <= zxid)..)
    }

    /// The oldest transaction here.
    pub fn first(&self) -> Option<Zxid> {
        self.txns.front().map(|(zxid, _)| *zxid)
    }

    /// The last transaction here that is not behind `zxid`.
    pub fn at_or_before(&self, zxid: Zxid) -> Option<Zxid> {
        let behind = self.txns.partition_point(|(each, _)| *each <= zxid);
        behind.checked_sub(1).map(|index| self.txns[index].0)
    }

    fn trim(&mut self) {
        while self.txns.len() > self.keep || self.bytes > HISTORY_BYTES_MAX {
            match self.txns.front() {
                Some((zxid, txn)) if *zxid <= self.committed => self.bytes -= txn.len(),
                _ => break,
            }
            self.txns.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn history(through: i64, keep: usize) -> History {
        let mut history = History::after(Zxid::ZERO, keep);
        for bits in 1..=through {
            history.push(zxid(bits), Bytes::from_static(b"txn"));
        }
        history
    }

    #[test]
    fn only_committed_transactions_make_room() {
        let mut history = history(5, 2);
        assert_eq!((history.first(), history.outstanding()), (Some(zxid(1)), 5));
        history.commit(zxid(4));
        assert_eq!((history.first(), history.outstanding()), (Some(zxid(4)), 1));
        history.commit(zxid(5));
        assert_eq!(history.behind(zxid(4)).count(), 1);
        assert_eq!(history.at_or_before(zxid(9)), Some(zxid(5)));
        assert_eq!(history.at_or_before(zxid(3)), None);
    }

    #[test]
    fn what_is_cut_off_may_be_logged_anew() {
        let mut history = history(5, 10);
        history.truncate(zxid(3));
        assert_eq!(history.last(), zxid(3));
        history.push(zxid(4), Bytes::new());
        assert_eq!(
            history.behind(zxid(2)).map(|(it, _)| *it).collect::<Vec<_>>(),
            [3, 4].map(zxid)
        );
    }

    #[test]
    #[should_panic(expected = "0x3 logged after 0x5")]
    fn the_log_never_goes_back() {
        history(5, 10).push(zxid(3), Bytes::new());
    }
}
