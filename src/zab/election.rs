//! Whom to follow: votes and their order (FastLeaderElection). Used by `step` while looking.

use crate::ids::{Epoch, ServerId, Zxid};

use super::quorum::Voters;

/// Whom a server wants for leader, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    pub leader: ServerId,
    /// The last transaction in the candidate's log. Logged, not applied (ZOOKEEPER-2845).
    pub zxid: Zxid,
    /// The candidate's current epoch.
    pub epoch: Epoch,
}

impl Vote {
    /// Whether this candidate is the better one: the later epoch wins, then the longer log, then
    /// the larger id.
    pub fn beats(&self, other: &Vote) -> bool {
        (self.epoch, self.zxid, self.leader) > (other.epoch, other.zxid, other.leader)
    }
}

/// One server's round of voting.
#[derive(Debug)]
pub struct Election {
    voters: Voters,
    proposed: Vote,
    /// The vote last heard of each voter, by position.
    heard: Vec<Option<Vote>>,
}

impl Election {
    /// A round in which nobody has voted; `own` is what this server will propose.
    pub fn new(voters: Voters, own: Vote) -> Election {
        let heard = voters.iter().map(|_| None).collect();
        Election { voters, proposed: own, heard }
    }

    /// Takes `from`'s vote, and returns the leader once a quorum has voted for the candidate that
    /// this server holds to be the best one. A vote of a server that has no say is ignored.
    pub fn hear(&mut self, from: ServerId, vote: Vote) -> Option<ServerId> {
        let position = self.voters.position(from)?;
        if vote.beats(&self.proposed) {
            self.proposed = vote;
        }
        self.heard[position] = Some(vote);
        let decided = self.voters.is_quorum(|voter| self.heard[voter] == Some(self.proposed));
        decided.then_some(self.proposed.leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(leader: i64, zxid: i64, epoch: u32) -> Vote {
        Vote {
            leader: ServerId::new(leader),
            zxid: Zxid::from_bits(zxid),
            epoch: Epoch::new(epoch),
        }
    }

    #[test]
    fn the_epoch_counts_before_the_log_and_the_log_before_the_id() {
        assert!(vote(1, 0, 2).beats(&vote(2, 9, 1)));
        assert!(vote(1, 2, 1).beats(&vote(2, 1, 1)));
        assert!(vote(2, 1, 1).beats(&vote(1, 1, 1)));
        assert!(!vote(1, 1, 1).beats(&vote(1, 1, 1)));
    }

    #[test]
    fn a_single_voter_elects_itself_with_its_own_vote() {
        let me = ServerId::STANDALONE;
        let own = vote(1, 7, 0);
        let mut election = Election::new(Voters::alone(me), own);
        assert_eq!(election.hear(ServerId::new(2), vote(2, 9, 9)), None, "a stranger has no say");
        assert_eq!(election.hear(me, own), Some(me));
    }

    #[test]
    fn a_better_candidate_wins_once_a_quorum_votes_for_it() {
        let voters = Voters::majority([1, 2, 3].map(ServerId::new).to_vec());
        let mut election = Election::new(voters, vote(1, 5, 1));
        assert_eq!(election.hear(ServerId::new(1), vote(1, 5, 1)), None);
        assert_eq!(election.hear(ServerId::new(3), vote(3, 5, 1)), None);
        assert_eq!(election.hear(ServerId::new(2), vote(3, 5, 1)), Some(ServerId::new(3)));
    }
}
