//! What the core does while this server leads: it prepares what its own clients and those of its
//! learners ask for, and lets sessions expire. A standalone server leads all its life.
//!
//! A sync of a member of an ensemble takes as long as it takes to hear that this server still leads.
//! What its session asked for behind it waits, so that answers keep the order of the requests: a
//! learner on the JVM never answers a request whose transaction comes before the end of a sync in
//! front of it.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::consensus::batch::Batch;
use crate::consensus::core::{Append, Core, LinkFault, Moment, Order, Role};
use crate::consensus::forwarded::Sync;
use crate::consensus::handoff::{Entry, Outcome, Submission};
use crate::consensus::prepare::write::{Asker, Prepare, Prepared, Request, Stamp};
use crate::consensus::quorum_messages::{self, FromLearner};
use crate::consensus::sessions::Owner;
use crate::ids::{ConnId, ReactorId, SessionId};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::quorum::{ForwardedRequest, QuorumPacket};
use crate::jute::records::Id;
use crate::limits::{PROPOSALS_WAITING_MAX, REQUESTS_BEHIND_SYNCS_MAX};
use crate::zab::packet::Packet;
use crate::zab::step::{Input, LinkId};

/// What a leader keeps about those who wait.
#[derive(Debug, Default)]
pub struct Leading {
    /// Syncs that wait, by the number that `zab` knows them by.
    syncs: HashMap<u64, Sync>,
    next_sync: u64,
    /// What sessions asked for behind a sync.
    behind: HashMap<SessionId, VecDeque<Behind>>,
    /// How many of them learners sent; reactors' pipelines bound the others.
    learners_behind: usize,
    /// Sessions whose sync is complete.
    resumed: VecDeque<SessionId>,
}

/// A request that waits for a sync of its session.
#[derive(Debug)]
enum Behind {
    Entry(Submission),
    Learners { link: LinkId, request: ForwardedRequest, ids: Vec<Id> },
}

impl Core {
    /// Takes an entry of a reactor's.
    pub(super) fn lead(
        &mut self,
        reactor: ReactorId,
        entry: Entry,
        bytes: &[u8],
        moment: Moment,
        log: &mut impl Append,
    ) {
        let owner = |conn: ConnId| Owner::Connection { reactor, conn };
        let Some(entry) = self.hold(reactor, entry, bytes) else { return };
        let prepare = &mut self.prepare;
        match entry {
            Entry::Write { conn, session, xid, op, identity, body } => {
                let body = &bytes[body.start as usize..body.end as usize];
                let from = owner(conn);
                let client = Asker::Numbered(reactor, identity);
                let request = Request { from, session, xid, op, client, body };
                self.propose(moment, log, |prepare, stamp, batch| {
                    prepare.write(&request, stamp, batch)
                });
            }
            Entry::OpenSession { conn, timeout_ms } => {
                self.propose(moment, log, |prepare, stamp, batch| {
                    prepare.open_session(owner(conn), timeout_ms, stamp, batch)
                });
            }
            Entry::Sync { conn, session, xid } => {
                self.gathering.note(moment.now_ms);
                match prepare.allowed(session, owner(conn)) {
                    Err(ErrorCode::SessionMoved) => {
                        self.gathering.answer(owner(conn), xid, Outcome::Close);
                    }
                    Ok(()) if !self.alone => {
                        self.sync(Sync { from: owner(conn), xid, session }, moment);
                    }
                    allowed => {
                        let err = allowed.err().unwrap_or(ErrorCode::Ok);
                        self.gathering.reply(owner(conn), xid, err, |_, _| ());
                    }
                }
            }
            Entry::GetEphemerals { conn, session, xid, prefix } => {
                self.gathering.note(moment.now_ms);
                let prefix = &bytes[prefix.start as usize..prefix.end as usize];
                let outcome = prepare.ephemerals_outcome(session, owner(conn), prefix);
                self.gathering.answer(owner(conn), xid, outcome);
            }
            Entry::RenewSession { conn, session, timeout_ms } => {
                self.gathering.note(moment.now_ms);
                let renewed = self.renew(session, timeout_ms, owner(conn), moment);
                let outcome = match renewed {
                    true => Outcome::SessionOpened { session, timeout_ms },
                    false => Outcome::SessionRefused,
                };
                self.gathering.answer(owner(conn), 0, outcome);
            }
            Entry::WrongPassword { session } => self.close_owner(session, moment),
            Entry::Touch { session, ago_ms } => {
                prepare.sessions.touch(session, moment.now_ms.saturating_sub(u64::from(ago_ms)));
            }
            Entry::Disconnected { conn, session } => {
                prepare.sessions.disconnected(session, owner(conn));
            }
            Entry::DefineIdentity { .. } | Entry::ForgetIdentity { .. } => {
                unreachable!("taken whatever the role")
            }
        }
    }

    fn leading(&mut self) -> &mut Leading {
        let Role::Leading(leading) = &mut self.role else { unreachable!("it leads") };
        leading
    }

    /// Keeps an entry that has to wait for a sync of its session.
    fn hold(&mut self, reactor: ReactorId, entry: Entry, bytes: &[u8]) -> Option<Entry> {
        let leading = self.leading();
        if leading.behind.is_empty() {
            return Some(entry);
        }
        let (Entry::Write { session, .. }
        | Entry::Sync { session, .. }
        | Entry::GetEphemerals { session, .. }) = &entry
        else {
            return Some(entry);
        };
        let Some(behind) = leading.behind.get_mut(session) else { return Some(entry) };
        behind.push_back(Behind::Entry(alone(reactor, entry, bytes)));
        None
    }

    /// Goes on with what waited behind syncs that are complete.
    pub fn resume(&mut self, moment: Moment, log: &mut impl Append) {
        while let Role::Leading(leading) = &mut self.role
            && let Some(session) = leading.resumed.pop_front()
        {
            // Another sync among them makes the rest wait again.
            for behind in leading.behind.remove(&session).unwrap_or_default() {
                match behind {
                    Behind::Entry(submission) => self.submit(submission, moment, log),
                    Behind::Learners { link, request, ids } => {
                        self.leading().learners_behind -= 1;
                        self.request(link, request, ids, moment, log);
                    }
                }
            }
        }
    }

    /// Whether `resume` has something to do.
    pub fn resumes(&self) -> bool {
        matches!(&self.role, Role::Leading(leading) if !leading.resumed.is_empty())
    }

    /// The session goes on at `owner`. Returns whether there is such a session. Who had it before
    /// is closed.
    fn renew(&mut self, session: SessionId, timeout_ms: i32, owner: Owner, moment: Moment) -> bool {
        let renewed = self.prepare.sessions.renew(session, timeout_ms, owner, moment.now_ms);
        if let Ok(Some(before)) = renewed {
            self.gathering.note(moment.now_ms);
            self.gathering.answer(before, 0, Outcome::Close);
        }
        renewed.is_ok()
    }

    /// Closes the connection of this server that has the session.
    pub(super) fn close_owner(&mut self, session: SessionId, moment: Moment) {
        if let Some(owner) = self.prepare.sessions.owner(session) {
            self.gathering.note(moment.now_ms);
            self.gathering.answer(owner, 0, Outcome::Close);
        }
    }

    fn sync(&mut self, sync: Sync, moment: Moment) {
        let leading = self.leading();
        let token = leading.next_sync;
        leading.next_sync += 1;
        leading.behind.insert(sync.session, VecDeque::new());
        leading.syncs.insert(token, sync);
        if self.step(moment, Input::Sync(token)).is_err() {
            // Too many wait.
            let sync = self.leading().syncs.remove(&token).expect("it was inserted");
            self.answer_sync(sync, ErrorCode::SystemError, moment);
        }
    }

    /// This server led when the sync came in, and has applied all that was proposed then.
    pub(super) fn synced(&mut self, token: u64, moment: Moment) {
        let Role::Leading(leading) = &mut self.role else { return };
        if let Some(sync) = leading.syncs.remove(&token) {
            self.answer_sync(sync, ErrorCode::Ok, moment);
        }
    }

    fn answer_sync(&mut self, sync: Sync, err: ErrorCode, moment: Moment) {
        match sync.from {
            Owner::Learner(link) => {
                self.orders.push(Order::Send { link, packet: quorum_messages::synced() });
            }
            Owner::Connection { .. } => {
                self.gathering.note(moment.now_ms);
                self.gathering.reply(sync.from, sync.xid, err, |_, _| ());
            }
        }
        self.leading().resumed.push_back(sync.session);
    }

    /// Takes a packet of a learner's.
    pub(super) fn hear_learner(
        &mut self,
        link: LinkId,
        packet: QuorumPacket,
        moment: Moment,
        log: &mut impl Append,
    ) -> Result<(), LinkFault> {
        let said = FromLearner::read(packet)?;
        if let FromLearner::Zab(packet) = said {
            return Ok(self.step(moment, Input::Packet { link, packet })?);
        }
        self.step(moment, Input::Heard(link))?;
        let serving = matches!(self.role, Role::Leading(_));
        match said {
            FromLearner::Pong { zxid, touched } => {
                for (session, _) in touched {
                    self.prepare.sessions.touch(session, moment.now_ms);
                }
                let packet = Packet::Ping(zxid);
                self.step(moment, Input::Packet { link, packet })?;
            }
            FromLearner::Revalidate { session, timeout_ms } if serving => {
                let valid = self.renew(session, timeout_ms, Owner::Learner(link), moment);
                let packet = quorum_messages::revalidated(session, valid);
                self.orders.push(Order::Send { link, packet });
            }
            FromLearner::Request { request, ids } if serving => {
                if self.outstanding() >= PROPOSALS_WAITING_MAX / 2 {
                    return Err(LinkFault::TooManyRequests);
                }
                if self.leading().learners_behind >= REQUESTS_BEHIND_SYNCS_MAX {
                    return Err(LinkFault::TooManyRequests);
                }
                self.request(link, request, ids, moment, log);
            }
            // It will hear from the next leader.
            FromLearner::Revalidate { .. } | FromLearner::Request { .. } => {}
            FromLearner::Zab(_) => unreachable!("taken above"),
        }
        Ok(())
    }

    /// A request of a client of a learner's.
    fn request(
        &mut self,
        link: LinkId,
        request: ForwardedRequest,
        ids: Vec<Id>,
        moment: Moment,
        log: &mut impl Append,
    ) {
        let leading = self.leading();
        if let Some(behind) = leading.behind.get_mut(&request.session) {
            behind.push_back(Behind::Learners { link, request, ids });
            leading.learners_behind += 1;
            return;
        }
        let ForwardedRequest { session, cxid: xid, op, body } = request;
        let (from, op) = (Owner::Learner(link), OpCode(op));
        if op == OpCode::SYNC {
            return self.sync(Sync { from, xid, session }, moment);
        }
        self.prepare.sessions.touch(session, moment.now_ms);
        let opens = op == OpCode::CREATE_SESSION && !self.prepare.sessions.has(session);
        self.propose(moment, log, |prepare, stamp, batch| match opens {
            true => prepare.open_learners_session(from, session, xid, &body, stamp, batch),
            false => {
                let request =
                    Request { from, session, xid, op, client: Asker::Named(&ids), body: &body };
                prepare.write(&request, stamp, batch)
            }
        });
    }

    /// Prepares one thing with the next zxid, and logs and proposes it if it is a transaction.
    /// Without a next zxid this server is about to lead no more, and nobody will be answered.
    fn propose(
        &mut self,
        moment: Moment,
        log: &mut impl Append,
        prepare: impl FnOnce(&mut Prepare, Stamp, &mut Batch) -> Prepared,
    ) {
        let Some(zxid) = self.zab.next_zxid() else { return };
        let stamp = Stamp { zxid, time_ms: moment.wall_ms, now_ms: moment.now_ms };
        self.gathering.note(moment.now_ms);
        match prepare(&mut self.prepare, stamp, &mut self.gathering) {
            Prepared::Txn => {
                log(zxid, self.prepare.txn());
                // A standalone server has nobody to propose it to.
                let txn = match self.alone {
                    true => Bytes::new(),
                    false => Bytes::copy_from_slice(self.prepare.txn()),
                };
                self.own_step(moment, Input::Proposed(zxid, txn));
                self.counters.proposals += 1;
                self.counters.proposal_sizes.note(self.prepare.txn().len());
            }
            Prepared::Answered => {}
        }
    }

    /// When `expire` has something to do next, milliseconds of the monotonic clock. Only a leader
    /// lets sessions expire.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        match self.role {
            Role::Leading(_) => self.prepare.sessions.next_expiry_ms(),
            _ => None,
        }
    }

    /// Closes the sessions whose time has run out.
    pub fn expire(&mut self, moment: Moment, log: &mut impl Append) {
        let mut expired = std::mem::take(&mut self.expired);
        self.prepare.sessions.expire(moment.now_ms, &mut expired);
        for session in expired.drain(..) {
            tracing::info!(%session, "the session has expired");
            self.counters.expired_sessions += 1;
            self.propose(moment, log, |prepare, stamp, batch| {
                prepare.expire_session(session, stamp, batch);
                Prepared::Txn
            });
        }
        self.expired = expired;
    }

    /// When `reap` has something to do next, milliseconds of the monotonic clock: never, unless
    /// this server leads.
    pub fn next_reap_ms(&self) -> u64 {
        match self.role {
            Role::Leading(_) => self.reaper.due_ms(),
            _ => u64::MAX,
        }
    }

    /// Goes on with the search for containers and TTL znodes whose time is over, and deletes some
    /// of those.
    pub fn reap(&mut self, moment: Moment, log: &mut impl Append) {
        let mut reaped = std::mem::take(&mut self.reaped);
        self.reaper.step(&self.prepare.tree, moment.now_ms, moment.wall_ms, &mut reaped);
        for path in reaped.drain(..) {
            tracing::debug!(path, "its time is over");
            self.propose(moment, log, |prepare, stamp, batch| {
                prepare.reap(&path, stamp, batch);
                Prepared::Txn
            });
        }
        self.reaped = reaped;
    }
}

/// A submission of one entry, with the bytes that it refers to.
fn alone(reactor: ReactorId, mut entry: Entry, bytes: &[u8]) -> Submission {
    let mut own = Vec::new();
    if let Entry::Write { body: range, .. } | Entry::GetEphemerals { prefix: range, .. } =
        &mut entry
    {
        own.extend_from_slice(&bytes[range.start as usize..range.end as usize]);
        *range = 0..range.end - range.start;
    }
    Submission { reactor, entries: vec![entry], bytes: own }
}
