//! Syncs that wait for a leader to know that it still leads. Used by `leader`.
//!
//! A PING that is answered tells that its follower had not turned to another leader when it
//! answered. When a quorum answered one that was sent after a sync came in, no other leader can
//! have committed anything before that sync. A round of PINGs serves all the syncs that came before
//! it; those that come while it runs wait for the next.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::Zxid;
use crate::limits::SYNCS_WAITING_MAX;

use super::step::{LinkId, Output, Violation};

/// The syncs that wait, oldest first, and the rounds.
#[derive(Debug, Default)]
pub struct Confirmations {
    waiting: VecDeque<Waiting>,
    /// Syncs at the front of `waiting` whose leadership is confirmed.
    confirmed: usize,
    /// Syncs behind those whom the round in flight will confirm.
    in_flight: Option<usize>,
    links: BTreeMap<LinkId, Pings>,
}

#[derive(Debug)]
struct Waiting {
    token: u64,
    /// Everything through this must be committed.
    after: Zxid,
}

/// Answers come in the order of the PINGs.
#[derive(Clone, Copy, Debug, Default)]
struct Pings {
    sent: u64,
    answered: u64,
    /// How many must be answered for the round in flight.
    wanted: u64,
}

impl Confirmations {
    /// A sync that waits for a round, and for the commit of everything through `after`.
    ///
    /// # Errors
    /// When too many wait.
    pub fn ask(&mut self, token: u64, after: Zxid) -> Result<(), Violation> {
        if self.waiting.len() >= SYNCS_WAITING_MAX {
            return Err(Violation::TooManySyncs);
        }
        self.waiting.push_back(Waiting { token, after });
        Ok(())
    }

    /// Whether a round is to begin: PING every follower then.
    pub fn begin_round(&mut self) -> bool {
        let unconfirmed = self.waiting.len() - self.confirmed;
        if self.in_flight.is_some() || unconfirmed == 0 {
            return false;
        }
        self.in_flight = Some(unconfirmed);
        for pings in self.links.values_mut() {
            pings.wanted = pings.sent + 1;
        }
        true
    }

    /// A PING was sent.
    pub fn pinged(&mut self, link: LinkId) {
        let new = Pings { wanted: 1, ..Pings::default() };
        self.links.entry(link).or_insert(new).sent += 1;
    }

    /// A PING was answered.
    pub fn answered(&mut self, link: LinkId) {
        if let Some(pings) = self.links.get_mut(&link) {
            pings.answered = (pings.answered + 1).min(pings.sent);
        }
    }

    /// The link is gone, and with it what it would have answered.
    pub fn lost(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// Whether the round in flight is over, for `is_quorum` says so of the links that answered.
    pub fn end_round(&mut self, is_quorum: impl Fn(&dyn Fn(LinkId) -> bool) -> bool) -> bool {
        let Some(syncs) = self.in_flight else { return false };
        let answered = |link| self.links.get(&link).is_some_and(|it| it.answered >= it.wanted);
        if !is_quorum(&answered) {
            return false;
        }
        self.in_flight = None;
        self.confirmed += syncs;
        true
    }

    /// Answers the syncs that are confirmed and whose transactions are committed, in order.
    pub fn answer(&mut self, committed: Zxid, out: &mut Vec<Output>) {
        while self.confirmed > 0
            && let Some(first) = self.waiting.front()
            && first.after <= committed
        {
            out.push(Output::Synced(first.token));
            self.waiting.pop_front();
            self.confirmed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LinkId = LinkId(1);
    const TWO: LinkId = LinkId(2);

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn ping(confirmations: &mut Confirmations) {
        confirmations.pinged(ONE);
        confirmations.pinged(TWO);
    }

    /// Whether the round ends, when both links are needed.
    fn ends(confirmations: &mut Confirmations) -> bool {
        confirmations.end_round(|answered| answered(ONE) && answered(TWO))
    }

    fn answered(confirmations: &mut Confirmations, committed: i64) -> Vec<Output> {
        let mut out = Vec::new();
        confirmations.answer(zxid(committed), &mut out);
        out
    }

    #[test]
    fn an_answer_to_an_older_ping_confirms_nothing() {
        let mut confirmations = Confirmations::default();
        ping(&mut confirmations);
        confirmations.ask(7, zxid(1)).unwrap();
        assert!(confirmations.begin_round());
        ping(&mut confirmations);
        confirmations.answered(ONE);
        confirmations.answered(TWO);
        assert!(!ends(&mut confirmations), "both answered what was sent before the sync");
        confirmations.answered(ONE);
        confirmations.answered(TWO);
        assert!(ends(&mut confirmations));
        assert_eq!(answered(&mut confirmations, 1), [Output::Synced(7)]);
    }

    #[test]
    fn who_comes_while_a_round_runs_waits_for_the_next() {
        let mut confirmations = Confirmations::default();
        confirmations.ask(1, zxid(1)).unwrap();
        assert!(confirmations.begin_round());
        ping(&mut confirmations);
        confirmations.ask(2, zxid(1)).unwrap();
        assert!(!confirmations.begin_round(), "one round at a time");
        confirmations.answered(ONE);
        confirmations.answered(TWO);
        assert!(ends(&mut confirmations));
        assert_eq!(answered(&mut confirmations, 5), [Output::Synced(1)]);
        assert!(confirmations.begin_round());
        assert!(!ends(&mut confirmations));
    }

    #[test]
    fn a_confirmed_sync_waits_for_what_was_proposed_before_it() {
        let mut confirmations = Confirmations::default();
        confirmations.ask(1, zxid(9)).unwrap();
        assert!(confirmations.begin_round());
        assert!(confirmations.end_round(|_| true));
        assert_eq!(answered(&mut confirmations, 8), []);
        assert_eq!(answered(&mut confirmations, 9), [Output::Synced(1)]);
    }

    #[test]
    fn a_link_that_is_gone_answers_nothing() {
        let mut confirmations = Confirmations::default();
        ping(&mut confirmations);
        confirmations.answered(TWO);
        confirmations.ask(1, zxid(0)).unwrap();
        assert!(confirmations.begin_round());
        confirmations.lost(TWO);
        confirmations.answered(ONE);
        confirmations.answered(TWO);
        assert!(!ends(&mut confirmations));
    }
}
