//! The leader: a new epoch, then proposals, acknowledgements and commits. Owned by `step` while
//! this server leads.

use crate::ids::{Epoch, ServerId, Zxid};

use super::proposals::{Proposals, successor};
use super::quorum::Voters;

/// Discovery: an epoch is chosen that no quorum has accepted before.
#[derive(Debug)]
pub struct Discovering {
    voters: Voters,
    epoch: Epoch,
    last_logged: Zxid,
}

impl Discovering {
    /// The epoch behind the last one that this server accepted.
    pub fn new(voters: Voters, accepted: Epoch, last_logged: Zxid) -> Discovering {
        let number = accepted.number().checked_add(1).expect("epochs last for ever");
        Discovering { voters, epoch: Epoch::new(number), last_logged }
    }

    /// The epoch to be written down.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The epoch is durable at a quorum: broadcast may begin, with the first zxid of the epoch.
    pub fn established(self) -> Broadcasting {
        let start = Zxid::new(self.epoch, 0);
        assert!(start > self.last_logged, "epoch {} behind {}", self.epoch, self.last_logged);
        Broadcasting::new(self.voters, start)
    }
}

/// Broadcast: proposals leave in zxid order and are committed once a quorum has them on disk.
#[derive(Debug)]
pub struct Broadcasting {
    voters: Voters,
    proposals: Proposals,
    /// Through which zxid each voter's log is durable, by position. One acknowledgement stands
    /// for all before it, since logs and links keep order.
    acknowledged: Vec<Zxid>,
}

impl Broadcasting {
    /// A leader whose history through `committed` is on the disks of a quorum.
    pub fn new(voters: Voters, committed: Zxid) -> Broadcasting {
        let acknowledged = vec![committed; voters.iter().len()];
        Broadcasting { voters, proposals: Proposals::after(committed), acknowledged }
    }

    /// The zxid of the next proposal.
    pub fn next_zxid(&self) -> Zxid {
        successor(self.proposals.newest())
    }

    /// The proposals that wait for their quorum.
    pub fn proposals(&self) -> &Proposals {
        &self.proposals
    }

    /// Proposes the transaction with this zxid.
    ///
    /// # Panics
    /// When it is not `next_zxid`.
    pub fn propose(&mut self, zxid: Zxid) {
        self.proposals.push(zxid);
    }

    /// `from` has everything through `zxid` on disk. Returns the zxid through which a quorum now
    /// has it, if that is news. Older acknowledgements and those of servers that have no say
    /// change nothing.
    ///
    /// # Panics
    /// When `zxid` was never proposed.
    pub fn count_ack(&mut self, from: ServerId, zxid: Zxid) -> Option<Zxid> {
        let newest = self.proposals.newest();
        assert!(zxid <= newest, "{from} acknowledged {zxid}, newest proposal {newest}");
        let position = self.voters.position(from)?;
        if zxid <= self.acknowledged[position] {
            return None;
        }
        self.acknowledged[position] = zxid;
        let agreed = self
            .acknowledged
            .iter()
            .copied()
            .filter(|&point| self.voters.is_quorum(|voter| self.acknowledged[voter] >= point))
            .max()?;
        if agreed <= self.proposals.committed() {
            return None;
        }
        self.proposals.commit_through(agreed);
        Some(agreed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zxid(counter: u32) -> Zxid {
        Zxid::new(Epoch::new(1), counter)
    }

    #[test]
    fn the_own_log_is_the_quorum_of_a_single_voter() {
        let me = ServerId::STANDALONE;
        let mut leader = Broadcasting::new(Voters::alone(me), zxid(0));
        for counter in 1..=3 {
            assert_eq!(leader.next_zxid(), zxid(counter));
            leader.propose(zxid(counter));
        }
        assert_eq!(leader.count_ack(me, zxid(2)), Some(zxid(2)));
        assert_eq!(leader.count_ack(me, zxid(2)), None, "committed once");
        assert_eq!(leader.count_ack(me, zxid(3)), Some(zxid(3)));
    }

    #[test]
    fn a_commit_waits_for_a_quorum_and_takes_what_all_of_it_has() {
        let [one, two, three] = [1, 2, 3].map(ServerId::new);
        let mut leader = Broadcasting::new(Voters::majority(vec![one, two, three]), zxid(0));
        for counter in 1..=5 {
            leader.propose(zxid(counter));
        }
        assert_eq!(leader.count_ack(one, zxid(5)), None);
        assert_eq!(leader.count_ack(ServerId::new(9), zxid(5)), None, "an observer has no say");
        assert_eq!(leader.count_ack(two, zxid(3)), Some(zxid(3)));
        assert_eq!(leader.count_ack(three, zxid(1)), None, "committed long ago");
        assert_eq!(leader.count_ack(three, zxid(4)), Some(zxid(4)));
        assert_eq!(leader.proposals().len(), 1);
    }

    #[test]
    fn a_new_epoch_begins_with_counter_one() {
        let voters = Voters::alone(ServerId::STANDALONE);
        let leader = Discovering::new(voters, Epoch::new(4), Zxid::new(Epoch::new(3), 77));
        assert_eq!(leader.epoch(), Epoch::new(5));
        assert_eq!(leader.established().next_zxid(), Zxid::new(Epoch::new(5), 1));
    }

    #[test]
    #[should_panic(expected = "newest proposal 0x100000000")]
    fn nobody_acknowledges_what_was_not_proposed() {
        let me = ServerId::STANDALONE;
        Broadcasting::new(Voters::alone(me), zxid(0)).count_ack(me, zxid(1));
    }
}
