//! What a learner's clients asked for and the leader has not answered yet, by session. The answer
//! is a transaction that names the session and the xid (zookeeper-formats 4.11); syncs and renewals
//! are answered with packets of their own. Used by `follow`.

use std::collections::{HashMap, VecDeque};

use crate::consensus::handoff::Outcome;
use crate::consensus::sessions::Owner;
use crate::ids::SessionId;
use crate::jute::error_code::ErrorCode;

/// One request, in its session's order.
#[derive(Debug)]
enum Request {
    /// The leader has it.
    Sent { from: Owner, xid: i32 },
    /// A sync; the leader has it.
    Syncing { from: Owner, xid: i32 },
    /// Answered here, when what comes before it is.
    Answered { from: Owner, xid: i32, outcome: Outcome },
}

/// A client that comes back, and the timeout that was negotiated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub from: Owner,
    pub timeout_ms: i32,
}

/// A sync that waits: who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    pub from: Owner,
    pub xid: i32,
    pub session: SessionId,
}

/// Requests of all sessions of this server.
#[derive(Debug, Default)]
pub struct Forwarded {
    sessions: HashMap<SessionId, VecDeque<Request>>,
    syncs: VecDeque<Sync>,
    renewals: HashMap<SessionId, VecDeque<Renewal>>,
    /// Requests and syncs that the leader has.
    sent: usize,
}

impl Forwarded {
    /// Requests and syncs that the leader has not answered.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// A request goes to the leader.
    pub fn send(&mut self, session: SessionId, from: Owner, xid: i32) {
        self.sent += 1;
        self.sessions.entry(session).or_default().push_back(Request::Sent { from, xid });
    }

    /// A request is answered here, behind what its session asked the leader before. Returns the
    /// outcome if that is nothing.
    pub fn answer_behind(
        &mut self,
        session: SessionId,
        from: Owner,
        xid: i32,
        outcome: Outcome,
    ) -> Option<Outcome> {
        match self.sessions.get_mut(&session) {
            Some(requests) => {
                requests.push_back(Request::Answered { from, xid, outcome });
                None
            }
            None => Some(outcome),
        }
    }

    /// The transaction of the session's request `xid` has come: who asked for it, if it was a
    /// client of this server. `skipped` hears of requests in front of it, which the leader has
    /// passed over.
    pub fn take(
        &mut self,
        session: SessionId,
        xid: i32,
        mut skipped: impl FnMut(Owner),
    ) -> Option<Owner> {
        let requests = self.sessions.get_mut(&session)?;
        let is_it =
            |request: &Request| matches!(request, Request::Sent { xid: it, .. } if *it == xid);
        let at = requests.iter().position(is_it)?;
        for request in requests.drain(..at) {
            match request {
                Request::Sent { from, .. } => {
                    self.sent -= 1;
                    skipped(from);
                }
                Request::Syncing { from, .. } | Request::Answered { from, .. } => skipped(from),
            }
        }
        let Some(Request::Sent { from, .. }) = requests.pop_front() else {
            unreachable!("as found");
        };
        self.sent -= 1;
        Some(from)
    }

    /// The answers of the session that have nothing in front of them any more.
    pub fn due(&mut self, session: SessionId, mut answer: impl FnMut(Owner, i32, Outcome)) {
        let Some(requests) = self.sessions.get_mut(&session) else { return };
        while matches!(requests.front(), Some(Request::Answered { .. }))
            && let Some(Request::Answered { from, xid, outcome }) = requests.pop_front()
        {
            answer(from, xid, outcome);
        }
        if requests.is_empty() {
            self.sessions.remove(&session);
        }
    }

    /// A sync goes to the leader.
    pub fn sync(&mut self, sync: Sync) {
        self.sent += 1;
        let Sync { from, xid, session } = sync;
        self.sessions.entry(session).or_default().push_back(Request::Syncing { from, xid });
        self.syncs.push_back(sync);
    }

    /// The oldest sync is complete: its answer is among those that are `due`. Returns its session,
    /// or `None` if there is no sync.
    pub fn synced(&mut self) -> Option<SessionId> {
        let Sync { from, xid, session } = self.syncs.pop_front()?;
        self.sent -= 1;
        let requests = self.sessions.get_mut(&session);
        let is_it = |request: &&mut Request| matches!(**request, Request::Syncing { from: it, xid: its } if (it, its) == (from, xid));
        if let Some(request) = requests.and_then(|requests| requests.iter_mut().find(is_it)) {
            let outcome = Outcome::Reply { err: ErrorCode::Ok, body: 0..0 };
            *request = Request::Answered { from, xid, outcome };
        }
        Some(session)
    }

    /// The leader is asked whether the session exists.
    pub fn renew(&mut self, session: SessionId, renewal: Renewal) {
        self.renewals.entry(session).or_default().push_back(renewal);
    }

    /// The leader has answered the oldest question about the session.
    pub fn renewed(&mut self, session: SessionId) -> Option<Renewal> {
        let waiting = self.renewals.get_mut(&session)?;
        let renewal = waiting.pop_front();
        if waiting.is_empty() {
            self.renewals.remove(&session);
        }
        renewal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConnId, ReactorId};

    const SESSION: SessionId = SessionId::from_bits(7);

    fn owner(slot: u32) -> Owner {
        Owner::Connection { reactor: ReactorId(0), conn: ConnId { slot, tenant: 0 } }
    }

    fn refusal() -> Outcome {
        Outcome::Reply { err: ErrorCode::BadArguments, body: 0..0 }
    }

    fn due(forwarded: &mut Forwarded) -> Vec<i32> {
        let mut due = Vec::new();
        forwarded.due(SESSION, |_, xid, _| due.push(xid));
        due
    }

    #[test]
    fn what_is_answered_here_waits_for_what_was_sent_before_it() {
        let mut forwarded = Forwarded::default();
        assert!(forwarded.answer_behind(SESSION, owner(1), 1, refusal()).is_some());
        forwarded.send(SESSION, owner(1), 2);
        forwarded.send(SESSION, owner(1), 3);
        assert!(forwarded.answer_behind(SESSION, owner(1), 4, refusal()).is_none());
        assert_eq!(forwarded.take(SESSION, 2, |_| panic!()), Some(owner(1)));
        assert_eq!(due(&mut forwarded), [0_i32; 0]);
        assert_eq!(forwarded.take(SESSION, 3, |_| panic!()), Some(owner(1)));
        assert_eq!(due(&mut forwarded), [4]);
        assert_eq!(forwarded.sent(), 0);
        assert!(forwarded.answer_behind(SESSION, owner(1), 5, refusal()).is_some());
    }

    #[test]
    fn a_transaction_of_somebody_elses_request_takes_nothing() {
        let mut forwarded = Forwarded::default();
        forwarded.send(SESSION, owner(1), 2);
        assert_eq!(forwarded.take(SessionId::from_bits(8), 2, |_| panic!()), None);
        assert_eq!(forwarded.take(SESSION, 1, |_| panic!()), None);
        assert_eq!(forwarded.sent(), 1);
    }

    #[test]
    fn requests_that_the_leader_passed_over_are_told() {
        let mut forwarded = Forwarded::default();
        forwarded.send(SESSION, owner(1), 2);
        forwarded.send(SESSION, owner(2), 3);
        let mut skipped = Vec::new();
        assert_eq!(forwarded.take(SESSION, 3, |owner| skipped.push(owner)), Some(owner(2)));
        assert_eq!((skipped, forwarded.sent()), (vec![owner(1)], 0));
    }

    #[test]
    fn syncs_and_renewals_are_answered_in_order() {
        let mut forwarded = Forwarded::default();
        let sync = |xid| Sync { from: owner(1), xid, session: SESSION };
        forwarded.sync(sync(1));
        forwarded.send(SESSION, owner(1), 2);
        forwarded.sync(sync(3));
        assert_eq!(due(&mut forwarded), [0_i32; 0]);
        assert_eq!(forwarded.synced(), Some(SESSION));
        assert_eq!(due(&mut forwarded), [1]);
        assert_eq!(forwarded.synced(), Some(SESSION));
        assert_eq!(due(&mut forwarded), [0_i32; 0], "a write is in front of it");
        assert_eq!(forwarded.take(SESSION, 2, |_| panic!()), Some(owner(1)));
        assert_eq!(due(&mut forwarded), [3]);
        assert_eq!((forwarded.synced(), forwarded.sent()), (None, 0));
        let renewal = |slot| Renewal { from: owner(slot), timeout_ms: 4_000 };
        forwarded.renew(SESSION, renewal(1));
        forwarded.renew(SESSION, renewal(2));
        assert_eq!(forwarded.renewed(SESSION), Some(renewal(1)));
        assert_eq!(forwarded.renewed(SESSION), Some(renewal(2)));
        assert_eq!(forwarded.renewed(SESSION), None);
    }
}
