//! Proposals not yet committed, oldest first; contiguous in one epoch. Called by `zab::leader`.

use std::collections::VecDeque;

use crate::ids::{Epoch, Zxid};
use crate::limits::PROPOSALS_WAITING_MAX;

/// The queue between a proposal and its commit.
#[derive(Debug)]
pub struct Proposals {
    waiting: VecDeque<Zxid>,
    committed: Zxid,
    newest: Zxid,
}

/// The zxid that follows `zxid`: the next counter, or, when the counter is used up, the first of
/// the next epoch. Counter 0 is nobody's: `epoch << 32` names the new leader itself.
pub fn successor(zxid: Zxid) -> Zxid {
    if zxid.counter() == u32::MAX {
        let epoch = zxid.epoch().number().checked_add(1).expect("epochs last for ever");
        return Zxid::new(Epoch::new(epoch), 1);
    }
    zxid.next()
}

impl Proposals {
    /// An empty queue behind `committed`.
    pub fn after(committed: Zxid) -> Proposals {
        Proposals { waiting: VecDeque::new(), committed, newest: committed }
    }

    /// The last one proposed.
    pub fn newest(&self) -> Zxid {
        self.newest
    }

    /// The last one committed.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Proposals that wait for their quorum.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds the next proposal.
    ///
    /// # Panics
    /// When `zxid` does not follow the newest one, or the queue is full: the caller must have
    /// stopped proposing at `PROPOSALS_WAITING_MAX`.
    pub fn push(&mut self, zxid: Zxid) {
        assert!(zxid == successor(self.newest), "proposal {zxid} after {}", self.newest);
        assert!(self.waiting.len() < PROPOSALS_WAITING_MAX, "too many proposals at {zxid}");
        self.waiting.push_back(zxid);
        self.newest = zxid;
    }

    /// Commits everything through `zxid` and returns how many that were (Zab, DSN 2011, broadcast
    /// phase).
    ///
    /// # Panics
    /// When `zxid` is committed already, or was never proposed.
    pub fn commit_through(&mut self, zxid: Zxid) -> usize {
        assert!(zxid > self.committed, "commit of {zxid} after {}", self.committed);
        assert!(zxid <= self.newest, "commit of {zxid}, newest proposal {}", self.newest);
        let count = self.waiting.partition_point(|proposal| *proposal <= zxid);
        self.waiting.drain(..count);
        self.committed = zxid;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zxid(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(Epoch::new(epoch), counter)
    }

    #[test]
    fn commits_take_everything_up_to_their_zxid() {
        let mut proposals = Proposals::after(zxid(0, 4));
        for counter in 5..9 {
            proposals.push(zxid(0, counter));
        }
        assert_eq!(proposals.commit_through(zxid(0, 6)), 2);
        assert_eq!((proposals.len(), proposals.committed()), (2, zxid(0, 6)));
        assert_eq!(proposals.commit_through(zxid(0, 8)), 2);
        assert!(proposals.is_empty());
    }

    #[test]
    fn a_used_up_counter_is_followed_by_the_next_epoch() {
        let mut proposals = Proposals::after(zxid(3, u32::MAX - 1));
        proposals.push(zxid(3, u32::MAX));
        proposals.push(zxid(4, 1));
        assert_eq!(proposals.commit_through(zxid(3, u32::MAX)), 1);
        assert_eq!(proposals.newest(), zxid(4, 1));
    }

    #[test]
    #[should_panic(expected = "proposal 0x6 after 0x4")]
    fn a_gap_between_proposals_is_refused() {
        Proposals::after(zxid(0, 4)).push(zxid(0, 6));
    }

    #[test]
    #[should_panic(expected = "commit of 0x5, newest proposal 0x4")]
    fn what_was_never_proposed_cannot_be_committed() {
        Proposals::after(zxid(0, 4)).commit_through(zxid(0, 5));
    }
}
