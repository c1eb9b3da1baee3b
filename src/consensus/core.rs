//! The consensus core without its thread: takes submissions, prepares them, has `zab` agree, and
//! gives back batches to publish. No I/O and no clock; `turn` drives it, tests and benchmarks may.
//!
//! Invariants: a transaction is prepared, logged and proposed in one go, in zxid order. A batch is
//! published when everything in it is committed, and batches are published in order. An entry that
//! needs no transaction is answered in its place among those that do.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::admin::report::{ConsensusAsk, ConsensusReport, LatencyReport};
use crate::consensus::batch::Batch;
use crate::consensus::handoff::{Entry, Outcome, Published, Submission};
use crate::consensus::prepare::write::{Asker, Prepare, Prepared, Request, Stamp};
use crate::consensus::reap::Reaper;
use crate::consensus::sessions::Owner;
use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
use crate::jute::decode::Cursor;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::tree::{self, Writer};
use crate::zab::step::{Input, Output, Start, Zab};

/// The time at which something is done.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Milliseconds of the monotonic clock.
    pub now_ms: u64,
}

/// Entries whose znodes are brought to the cache together, while the ones before are not yet
/// prepared. In a tree of a million znodes a look-up is mostly waiting for memory.
const PREFETCHED: usize = 32;

/// What makes transactions durable takes each as it is prepared: its zxid, and its bytes as they
/// travel in a PROPOSAL.
pub trait Append: FnMut(Zxid, &[u8]) {}
impl<F: FnMut(Zxid, &[u8])> Append for F {}

/// The consensus core of one server.
pub struct Core {
    prepare: Prepare,
    zab: Zab,
    reactors: usize,
    /// What came since the last `seal`.
    gathering: Batch,
    /// Sealed, and not yet committed.
    waiting: VecDeque<Batch>,
    outputs: Vec<Output>,
    expired: Vec<SessionId>,
    reaper: Reaper,
    reaped: Vec<String>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    proposals: u64,
    commits: u64,
    expired_sessions: u64,
    update_latency: LatencyReport,
}

impl Core {
    /// A core that has recovered `prepare`'s tree and sessions, and begins to lead. Every session
    /// gets its full timeout from now on.
    ///
    /// # Panics
    /// When the tree is not at `start.last_logged`.
    pub fn new(mut prepare: Prepare, start: Start, reactors: usize, moment: Moment) -> Core {
        let (newest, logged) = (prepare.tree.newest(), start.last_logged);
        assert!(newest == logged, "the tree is at {newest}, the log at {logged}");
        prepare.tree.publish(newest);
        prepare.sessions.begin(moment.now_ms);
        let settings = prepare.settings();
        let reaper = Reaper::new(settings.reaping, settings.extended_types, moment.now_ms);
        if !settings.extended_types {
            warn_of_ttl_znodes(&prepare.tree);
        }
        let mut core = Core {
            prepare,
            zab: Zab::new(start),
            reactors,
            gathering: Batch::new(reactors),
            waiting: VecDeque::new(),
            outputs: Vec::new(),
            expired: Vec::new(),
            reaper,
            reaped: Vec::new(),
            counters: Counters::default(),
        };
        core.step(moment, Input::Begin);
        core.outputs.clear();
        assert!(core.zab.next_zxid().is_some(), "a standalone server leads at once");
        core
    }

    /// The last committed transaction.
    pub fn committed(&self) -> Zxid {
        self.prepare.tree.committed()
    }

    /// The sessions as of the last committed transaction.
    pub fn committed_sessions(&self) -> Vec<(SessionId, i32)> {
        self.prepare.sessions.as_of(self.committed())
    }

    /// Transactions that are proposed and not yet committed.
    pub fn outstanding(&self) -> usize {
        self.zab.outstanding()
    }

    /// Takes a reactor's entries in order.
    pub fn submit(&mut self, submission: Submission, moment: Moment, log: &mut impl Append) {
        let Submission { reactor, entries, bytes } = submission;
        let mut entries = entries.into_iter();
        while !entries.as_slice().is_empty() {
            let next = &entries.as_slice()[..entries.len().min(PREFETCHED)];
            self.prepare.tree.prefetch(next.iter().filter_map(|entry| path_of(entry, &bytes)));
            for entry in entries.by_ref().take(PREFETCHED) {
                self.take(reactor, entry, &bytes, moment, log);
            }
        }
    }

    fn take(
        &mut self,
        reactor: ReactorId,
        entry: Entry,
        bytes: &[u8],
        moment: Moment,
        log: &mut impl Append,
    ) {
        let owner = |conn: ConnId| Owner::Connection { reactor, conn };
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
                    allowed => {
                        let err = allowed.err().unwrap_or(ErrorCode::Ok);
                        self.gathering.reply(owner(conn), xid, err, |_, _| ());
                    }
                }
            }
            Entry::GetEphemerals { conn, session, xid, prefix } => {
                self.gathering.note(moment.now_ms);
                let prefix = &bytes[prefix.start as usize..prefix.end as usize];
                let outcome = match prepare.allowed(session, owner(conn)) {
                    Err(ErrorCode::SessionMoved) => Outcome::Close,
                    Err(err) => Outcome::Reply { err, body: 0..0 },
                    Ok(()) => prepare.list_ephemerals(session, prefix),
                };
                self.gathering.answer(owner(conn), xid, outcome);
            }
            Entry::RenewSession { conn, session, timeout_ms } => {
                self.gathering.note(moment.now_ms);
                let now_ms = moment.now_ms;
                let outcome = match prepare.sessions.renew(session, timeout_ms, owner(conn), now_ms)
                {
                    Ok(before) => {
                        if let Some(before) = before {
                            self.gathering.answer(before, 0, Outcome::Close);
                        }
                        Outcome::SessionOpened { session, timeout_ms }
                    }
                    Err(_) => Outcome::SessionRefused,
                };
                self.gathering.answer(owner(conn), 0, outcome);
            }
            Entry::WrongPassword { session } => {
                if let Some(owner) = prepare.sessions.owner(session) {
                    self.gathering.note(moment.now_ms);
                    self.gathering.answer(owner, 0, Outcome::Close);
                }
            }
            Entry::Touch { session, ago_ms } => {
                prepare.sessions.touch(session, moment.now_ms.saturating_sub(u64::from(ago_ms)));
            }
            Entry::Disconnected { conn, session } => {
                prepare.sessions.disconnected(session, owner(conn));
            }
            Entry::DefineIdentity { index, ids } => prepare.identities.define(reactor, index, ids),
            Entry::ForgetIdentity { index } => prepare.identities.forget(reactor, index),
        }
    }

    /// Prepares one thing with the next zxid, and logs and proposes it if it is a transaction.
    fn propose(
        &mut self,
        moment: Moment,
        log: &mut impl Append,
        prepare: impl FnOnce(&mut Prepare, Stamp, &mut Batch) -> Prepared,
    ) {
        let zxid = self.zab.next_zxid().expect("entries are taken while leading");
        let stamp = Stamp { zxid, time_ms: moment.wall_ms, now_ms: moment.now_ms };
        self.gathering.note(moment.now_ms);
        match prepare(&mut self.prepare, stamp, &mut self.gathering) {
            Prepared::Txn => {
                log(zxid, self.prepare.txn());
                self.step(moment, Input::Proposed(zxid, Bytes::new()));
                self.counters.proposals += 1;
            }
            Prepared::Answered => {}
        }
    }

    /// When `expire` has something to do next, milliseconds of the monotonic clock.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.prepare.sessions.next_expiry_ms()
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

    /// When `reap` has something to do next, milliseconds of the monotonic clock.
    pub fn next_reap_ms(&self) -> u64 {
        self.reaper.due_ms()
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

    /// Ends the batch that gathers: it is committed with its last transaction. What comes from now
    /// on belongs to the next. Nothing happens while it has no transaction.
    pub fn seal(&mut self) {
        if self.gathering.txns() > 0 {
            let sealed = std::mem::replace(&mut self.gathering, Batch::new(self.reactors));
            self.waiting.push_back(sealed);
        }
    }

    /// Our log is durable through `zxid`: hands to `publish` the batches that are committed by
    /// that, in order. Readers may pin them.
    pub fn durable(&mut self, zxid: Zxid, moment: Moment, publish: impl FnMut(Published)) {
        self.step(moment, Input::Durable(zxid));
        self.carry_out(moment, publish);
    }

    /// Hands to `publish` what gathered, if it is answers alone and nothing before it is left to
    /// be committed.
    pub fn publish_answers(&mut self, mut publish: impl FnMut(Published)) {
        let due = self.waiting.is_empty() && self.gathering.txns() == 0;
        if due && !self.gathering.is_empty() {
            let batch = std::mem::replace(&mut self.gathering, Batch::new(self.reactors));
            publish(batch.into_published(self.committed()));
        }
    }

    fn step(&mut self, moment: Moment, input: Input) {
        // Nobody but this server takes part: there is no peer that could break the protocol.
        let stepped = self.zab.step(moment.now_ms, input, &mut self.outputs);
        stepped.unwrap_or_else(|violation| panic!("our own step broke the protocol: {violation}"));
    }

    fn carry_out(&mut self, moment: Moment, mut publish: impl FnMut(Published)) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::CommitThrough(zxid) => self.commit(zxid, moment, &mut publish),
                other => unreachable!("a standalone server has nobody to agree with: {other:?}"),
            }
        }
        self.outputs = outputs;
    }

    fn commit(&mut self, zxid: Zxid, moment: Moment, publish: &mut impl FnMut(Published)) {
        while self.waiting.front().and_then(Batch::through).is_some_and(|last| last <= zxid) {
            let Some(batch) = self.waiting.pop_front() else { break };
            for session in batch.closed() {
                self.prepare.sessions.closed(*session);
            }
            let through = batch.through().expect("a sealed batch has transactions");
            self.prepare.tree.publish(through);
            self.counters.commit(&batch, moment);
            publish(batch.into_published(through));
        }
    }

    /// Answers a question of the housekeeping thread. What the log and the snapshots know about
    /// themselves is in `log`.
    pub fn answer(&mut self, ask: ConsensusAsk, log: ConsensusReport, moment: Moment) {
        match ask {
            ConsensusAsk::ResetServerStats => self.counters = Counters::default(),
            ConsensusAsk::Report { ephemerals, to } => {
                // Whoever asked may have given up meanwhile.
                let _ = to.try_send(self.report(ephemerals, log, moment));
            }
        }
    }

    fn report(&self, ephemerals: bool, log: ConsensusReport, moment: Moment) -> ConsensusReport {
        let (tree, sessions) = (&self.prepare.tree, &self.prepare.sessions);
        let counts = tree.counts();
        let since_1970 = moment.wall_ms.saturating_sub_unsigned(moment.now_ms);
        let wall = |ms: u64| since_1970.saturating_add_unsigned(ms).max(0) as u64;
        let paths = ephemerals.then(|| {
            tree.ephemeral_sessions().map(|session| (session, tree.ephemerals(session).collect()))
        });
        ConsensusReport {
            last_committed: self.committed(),
            znodes: counts.znodes,
            ephemerals: counts.ephemerals,
            approximate_data_bytes: counts.approximate_data_bytes,
            sessions: sessions.len() as u64,
            session_expiries: sessions.expiries().map(|(id, ms)| (id, wall(ms))).collect(),
            ephemeral_paths: paths.into_iter().flatten().collect(),
            outstanding: self.outstanding() as u64,
            proposals: self.counters.proposals,
            commits: self.counters.commits,
            expired_sessions: self.counters.expired_sessions,
            update_latency: self.counters.update_latency,
            ..log
        }
    }
}

/// TTL znodes from a time when `extendedTypesEnabled` was on. ZooKeeper deletes them when it starts.
fn warn_of_ttl_znodes(tree: &Writer) {
    let timed = |path: &&str| {
        tree.get(path).is_some_and(|node| matches!(node.owner(), tree::Owner::Ttl(_)))
    };
    let count = tree.reapable("").filter(timed).count();
    if count > 0 {
        tracing::warn!(
            count,
            "there are TTL znodes, and extendedTypesEnabled is off: they stay until it is on again"
        );
    }
}

/// The path that a write is about, if it is easily found: it stands first in the record.
fn path_of<'b>(entry: &Entry, bytes: &'b [u8]) -> Option<&'b str> {
    match entry {
        Entry::Write { op: OpCode::SET_DATA | OpCode::DELETE | OpCode::SET_ACL, body, .. } => {
            Cursor::new(&bytes[body.start as usize..body.end as usize]).str("path").ok()
        }
        _ => None,
    }
}

impl Counters {
    /// Counts a committed batch. Each of its transactions is taken to have waited as long as the
    /// first.
    fn commit(&mut self, batch: &Batch, moment: Moment) {
        let txns = batch.txns() as u64;
        self.commits += txns;
        // As in ZooKeeper, where a request of the server's own has no connection to be timed for.
        let asked = batch.asked() as u64;
        if asked > 0 {
            let waited = moment.now_ms.saturating_sub(batch.began_ms().unwrap_or(moment.now_ms));
            note(&mut self.update_latency, waited as f64, asked);
        }
    }
}

/// Adds `count` durations of `ms` milliseconds each.
pub(super) fn note(latency: &mut LatencyReport, ms: f64, count: u64) {
    let whole = ms as u64;
    latency.min_ms = if latency.count == 0 { whole } else { latency.min_ms.min(whole) };
    latency.max_ms = latency.max_ms.max(whole);
    latency.total_ms += ms * count as f64;
    latency.count += count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_client_asked_for_is_committed_but_not_timed() {
        let moment = Moment { now_ms: 107, wall_ms: 0 };
        let mut counters = Counters::default();
        let mut batch = Batch::new(1);
        batch.note(100);
        batch.end_txn_unasked(Zxid::from_bits(1));
        counters.commit(&batch, moment);
        assert_eq!((counters.commits, counters.update_latency.count), (1, 0));
        batch.end_txn(Zxid::from_bits(2));
        counters.commit(&batch, moment);
        let latency = counters.update_latency;
        assert_eq!((counters.commits, latency.count), (3, 1));
        assert_eq!((latency.min_ms, latency.max_ms), (7, 7));
    }
}
