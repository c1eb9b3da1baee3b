//! Whom to follow: FastLeaderElection, one server's part in one election. Owned by `step` while
//! looking; the settled vote of a server that is not is in `Settled`.
//!
//! Source: zookeeper-formats 3.3 and 3.4. Time comes in with each call, in milliseconds.

use std::collections::BTreeMap;

use crate::ids::{Epoch, ServerId, Zxid};
use crate::jute::election::{Notification, PeerState};

use super::quorum::Voters;

/// Nothing heard for so long: say again what we want; doubled each time.
pub const NOTIFY_MS_MIN: u64 = 200;
/// The longest that doubling leads to.
pub const NOTIFY_MS_MAX: u64 = 60_000;
/// How long a quorum must stand without a better candidate being heard of.
const FINALIZE_MS: u64 = 200;

/// The vote of who has no say: an observer.
const NOBODY: i64 = i64::MIN;

/// Whom a server wants for leader, and why. Numbers as they travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    pub leader: ServerId,
    /// The last transaction in the candidate's log. Logged, not applied (ZOOKEEPER-2845).
    pub zxid: Zxid,
    /// The candidate's current epoch.
    pub epoch: i64,
}

impl Vote {
    /// A server's vote for itself.
    pub fn own(me: ServerId, zxid: Zxid, current: Epoch) -> Vote {
        Vote { leader: me, zxid, epoch: i64::from(current.number()) }
    }

    /// An observer's.
    pub fn nobody() -> Vote {
        Vote { leader: ServerId::new(NOBODY), zxid: Zxid::from_bits(NOBODY), epoch: NOBODY }
    }

    /// Whether this candidate is the better one: the later epoch wins, then the longer log, then
    /// the larger id.
    pub fn beats(&self, other: &Vote) -> bool {
        (self.epoch, self.zxid.bits(), self.leader) > (other.epoch, other.zxid.bits(), other.leader)
    }

    fn of(notification: &Notification) -> Vote {
        let Notification { leader, zxid, epoch, .. } = *notification;
        Vote { leader, zxid, epoch }
    }
}

/// The vote that ended an election, which the server answers those with who still look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub vote: Vote,
    pub round: i64,
}

/// A vote as last heard of a server.
#[derive(Clone, Copy, Debug)]
struct Heard {
    vote: Vote,
    round: i64,
    state: PeerState,
    version: i32,
}

/// One server's part in one election.
#[derive(Debug)]
pub struct Election {
    me: ServerId,
    voters: Voters,
    round: i64,
    /// What this server began with.
    own: Vote,
    proposed: Vote,
    /// Of this round.
    received: BTreeMap<ServerId, Heard>,
    /// Of those who do not look any more.
    settled: BTreeMap<ServerId, Heard>,
    /// When to say again what we want, and after how long the next time.
    notify_ms: u64,
    interval_ms: u64,
    /// A quorum wants what we want: when that is final.
    final_ms: Option<u64>,
}

/// What an election wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Tell every voter what we propose.
    TellAll,
    /// Tell this server.
    Tell(ServerId),
    /// The election is over.
    Elected(Settled),
}

impl Election {
    /// Begins the round behind `last_round`, with `own` as the proposal (`Vote::nobody` for who has
    /// no say). Tell all voters then.
    pub fn begin(
        me: ServerId,
        voters: Voters,
        own: Vote,
        last_round: i64,
        now_ms: u64,
    ) -> Election {
        let mut election = Election {
            me,
            voters,
            round: last_round + 1,
            own,
            proposed: own,
            received: BTreeMap::new(),
            settled: BTreeMap::new(),
            notify_ms: now_ms + NOTIFY_MS_MIN,
            interval_ms: NOTIFY_MS_MIN,
            final_ms: None,
        };
        election.count_own(now_ms);
        election
    }

    /// The round, and what this server proposes.
    pub fn proposal(&self) -> Settled {
        Settled { vote: self.proposed, round: self.round }
    }

    /// Takes what `from`, a voter, sent.
    pub fn hear(&mut self, from: ServerId, said: &Notification, now_ms: u64) -> Vec<Wish> {
        let vote = Vote::of(said);
        if !self.voters.has(from) || !self.voters.has(vote.leader) {
            return Vec::new();
        }
        self.notify_ms = now_ms + self.interval_ms;
        let heard = Heard { vote, round: said.round, state: said.state, version: said.version };
        match said.state {
            PeerState::Looking => self.hear_looking(from, heard, now_ms),
            PeerState::Following | PeerState::Leading => self.hear_settled(from, heard),
            PeerState::Observing => Vec::new(),
        }
    }

    fn hear_looking(&mut self, from: ServerId, heard: Heard, now_ms: u64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        // A server without any data has no say, nor listens to others (db.autocreate=false).
        let blank = Zxid::from_bits(-1);
        if heard.vote.zxid == blank || self.own.zxid == blank {
            return wishes;
        }
        if heard.round < self.round {
            return vec![Wish::Tell(from)];
        }
        let before = self.proposed;
        if heard.round > self.round {
            self.round = heard.round;
            self.received.clear();
            self.final_ms = None;
            self.proposed = self.own;
            self.adopt_if_better(heard.vote);
            wishes.push(Wish::TellAll);
        } else if self.adopt_if_better(heard.vote) {
            wishes.push(Wish::TellAll);
        }
        if self.proposed != before {
            self.final_ms = None;
        }
        self.received.insert(from, heard);
        self.count_own(now_ms);
        wishes
    }

    fn adopt_if_better(&mut self, vote: Vote) -> bool {
        let better = vote.beats(&self.proposed) && self.voters.may_lead(vote.leader);
        if better {
            self.proposed = vote;
        }
        better
    }

    /// Counts this server's own vote among the received ones, and starts the wait when a quorum
    /// agrees.
    fn count_own(&mut self, now_ms: u64) {
        if self.voters.has(self.me) {
            let (vote, round) = (self.proposed, self.round);
            let own = Heard { vote, round, state: PeerState::Looking, version: 2 };
            self.received.insert(self.me, own);
        }
        let agree = |voter| {
            self.received.get(&voter).is_some_and(|it| {
                it.state == PeerState::Looking && it.vote == self.proposed && it.round == self.round
            })
        };
        if self.voters.is_quorum(agree) {
            self.final_ms = Some(now_ms + FINALIZE_MS);
        } else {
            self.final_ms = None;
        }
    }

    fn hear_settled(&mut self, from: ServerId, heard: Heard) -> Vec<Wish> {
        let leader = heard.vote.leader;
        if heard.round == self.round {
            self.received.insert(from, heard);
            // Settled servers agree by the leader alone, looking ones by all of the vote.
            let agree = |voter| {
                self.received.get(&voter).is_some_and(|it| match it.state {
                    PeerState::Looking => it.vote == heard.vote && it.round == heard.round,
                    _ => it.vote.leader == leader,
                })
            };
            if self.voters.is_quorum(agree)
                && self.is_confirmed(&self.received, leader, heard.round)
            {
                return vec![self.elected(heard)];
            }
        }
        self.settled.insert(from, heard);
        let agree = |voter| {
            self.settled.get(&voter).is_some_and(|it| {
                let leader_alone = (it.version == 0) != (heard.version == 0);
                it.vote.leader == leader && (leader_alone || it.vote.epoch == heard.vote.epoch)
            })
        };
        if self.voters.is_quorum(agree) && self.is_confirmed(&self.settled, leader, heard.round) {
            return vec![self.elected(heard)];
        }
        Vec::new()
    }

    /// Whether `leader` itself says that it leads; or it is this server, in this round.
    fn is_confirmed(
        &self,
        table: &BTreeMap<ServerId, Heard>,
        leader: ServerId,
        round: i64,
    ) -> bool {
        if leader == self.me {
            return round == self.round;
        }
        table.get(&leader).is_some_and(|it| it.state == PeerState::Leading)
    }

    fn elected(&self, heard: Heard) -> Wish {
        Wish::Elected(Settled { vote: heard.vote, round: heard.round })
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Wish> {
        if self.final_ms.is_some_and(|final_ms| now_ms >= final_ms) {
            return vec![Wish::Elected(self.proposal())];
        }
        if now_ms < self.notify_ms {
            return Vec::new();
        }
        self.interval_ms = (2 * self.interval_ms).min(NOTIFY_MS_MAX);
        self.notify_ms = now_ms + self.interval_ms;
        vec![Wish::TellAll]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> ServerId {
        ServerId::new(number)
    }

    fn vote(leader: i64, zxid: i64, epoch: i64) -> Vote {
        Vote { leader: id(leader), zxid: Zxid::from_bits(zxid), epoch }
    }

    fn says(state: PeerState, vote: Vote, round: i64) -> Notification {
        let Vote { leader, zxid, epoch } = vote;
        Notification { state, leader, zxid, round, epoch, version: 2, config: None }
    }

    fn election(me: i64, own: Vote) -> Election {
        Election::begin(id(me), Voters::majority([1, 2, 3].map(id).to_vec()), own, 0, 0)
    }

    fn looking(vote: Vote) -> Notification {
        says(PeerState::Looking, vote, 1)
    }

    #[test]
    fn the_epoch_counts_before_the_log_and_the_log_before_the_id() {
        assert!(vote(1, 0, 2).beats(&vote(2, 9, 1)));
        assert!(vote(1, 2, 1).beats(&vote(2, 1, 1)));
        assert!(vote(2, 1, 1).beats(&vote(1, 1, 1)));
        assert!(!vote(1, 1, 1).beats(&vote(1, 1, 1)));
        assert!(vote(1, 0, 0).beats(&Vote::nobody()));
    }

    #[test]
    fn a_single_voter_elects_itself() {
        let me = ServerId::STANDALONE;
        let own = vote(1, 7, 0);
        let mut election = Election::begin(me, Voters::alone(me), own, 0, 0);
        assert_eq!(election.tick(FINALIZE_MS - 1), []);
        assert_eq!(election.tick(FINALIZE_MS), [Wish::Elected(Settled { vote: own, round: 1 })]);
    }

    #[test]
    fn a_better_candidate_wins_once_a_quorum_stands_for_a_while() {
        let mut election = election(1, vote(1, 5, 1));
        let best = vote(3, 5, 1);
        assert_eq!(election.hear(id(3), &looking(best), 10), [Wish::TellAll]);
        assert_eq!(election.tick(10 + FINALIZE_MS - 1), []);
        let elected = Wish::Elected(Settled { vote: best, round: 1 });
        assert_eq!(election.tick(10 + FINALIZE_MS), [elected]);
    }

    #[test]
    fn a_better_candidate_in_the_last_moment_starts_the_wait_anew() {
        let mut election = election(1, vote(1, 5, 1));
        election.hear(id(2), &looking(vote(2, 5, 1)), 10);
        election.hear(id(3), &looking(vote(3, 5, 1)), 10 + FINALIZE_MS - 1);
        assert_eq!(election.tick(10 + FINALIZE_MS), []);
        let elected = Settled { vote: vote(3, 5, 1), round: 1 };
        assert_eq!(election.tick(10 + 2 * FINALIZE_MS), [Wish::Elected(elected)]);
    }

    #[test]
    fn who_is_behind_is_told_the_round_and_who_is_ahead_sets_it() {
        let mut election = election(2, vote(2, 5, 1));
        let late = says(PeerState::Looking, vote(3, 9, 1), 0);
        assert_eq!(election.hear(id(3), &late, 0), [Wish::Tell(id(3))]);
        let ahead = says(PeerState::Looking, vote(1, 4, 1), 7);
        assert_eq!(election.hear(id(1), &ahead, 0), [Wish::TellAll]);
        // Their candidate is the worse one: the own initial vote stands, in their round.
        let proposal = Settled { vote: vote(2, 5, 1), round: 7 };
        assert_eq!(election.proposal(), proposal);
    }

    #[test]
    fn strangers_and_candidates_without_a_say_are_not_heard() {
        let mut election = election(1, vote(1, 5, 1));
        assert_eq!(election.hear(id(9), &looking(vote(3, 9, 9)), 0), []);
        assert_eq!(election.hear(id(3), &looking(vote(9, 9, 9)), 0), []);
        assert_eq!(election.hear(id(3), &looking(Vote::nobody()), 0), []);
        assert_eq!(election.proposal().vote, vote(1, 5, 1));
    }

    #[test]
    fn a_running_ensemble_is_joined_when_a_quorum_of_it_and_its_leader_were_heard() {
        let mut election = election(1, vote(1, 5, 1));
        let settled = vote(3, 0, 2);
        let led = |state| says(state, settled, 4);
        assert_eq!(election.hear(id(2), &led(PeerState::Following), 0), []);
        let elected = Wish::Elected(Settled { vote: settled, round: 4 });
        assert_eq!(election.hear(id(3), &led(PeerState::Leading), 0), [elected]);
    }

    #[test]
    fn the_word_of_the_leader_alone_is_not_enough() {
        let mut election = election(1, vote(1, 5, 1));
        let led = says(PeerState::Leading, vote(3, 0, 2), 4);
        assert_eq!(election.hear(id(3), &led, 0), []);
        assert_eq!(election.hear(id(3), &led, 0), []);
    }

    #[test]
    fn followers_of_different_epochs_are_no_quorum() {
        let mut election = election(1, vote(1, 5, 1));
        let old = says(PeerState::Following, vote(3, 0, 1), 4);
        let new = says(PeerState::Leading, vote(3, 0, 2), 9);
        assert_eq!(election.hear(id(2), &old, 0), []);
        assert_eq!(election.hear(id(3), &new, 0), []);
    }

    #[test]
    fn what_nobody_answers_is_said_again_and_less_and_less_often() {
        let mut election = election(1, vote(1, 5, 1));
        let mut said = Vec::new();
        for now_ms in 0..200_000 {
            if election.tick(now_ms) == [Wish::TellAll] {
                said.push(now_ms);
            }
        }
        assert_eq!(said[..4], [200, 600, 1400, 3000]);
        assert_eq!(said.last(), Some(&162_200), "{said:?}");
    }
}
