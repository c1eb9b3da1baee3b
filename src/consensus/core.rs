//! The consensus core without its thread: takes submissions and what peers say, has `zab` agree, and
//! orders what is to be done about it, such as to publish a batch. No I/O and no clock; `turn` drives
//! it, tests and benchmarks may. What it does with submissions depends on its role: see `lead` and
//! `follow`.
//!
//! Invariants: a transaction is prepared or applied, and logged, in one go, in zxid order. A batch is
//! published when everything in it is committed, and batches are published in order. An entry that
//! needs no transaction is answered in its place among those that do. Orders are carried out in
//! their order.

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

use crate::consensus::batch::Batch;
use crate::consensus::follow::Following;
use crate::consensus::handoff::{Entry, Outcome, Published, Submission};
use crate::consensus::lead::Leading;
use crate::consensus::prepare::write::Prepare;
use crate::consensus::quorum_messages::{self, PacketError};
use crate::consensus::reap::Reaper;
use crate::consensus::report::Counters;
use crate::consensus::sessions::Owner;
use crate::ids::{ReactorId, SessionId, Zxid};
use crate::jute::decode::Cursor;
use crate::jute::opcode::OpCode;
use crate::jute::quorum::QuorumPacket;
use crate::tree::{self, Writer};
use crate::zab::step::{Input, LinkId, Output, Reign, Service, Start, Violation, Zab};

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

/// What is to be done outside of the core.
#[derive(Debug)]
pub enum Order {
    /// Hand this to the reactors. Readers may pin it.
    Publish(Published),
    /// Append the leader's transaction to the log.
    Append(Zxid, Bytes),
    /// Send a packet on a link of the quorum port.
    Send { link: LinkId, packet: QuorumPacket },
    /// Take clients.
    Serve(Service),
    /// Close all clients' connections, and take no more.
    Stop(&'static str),
    /// One of the agreement's that is about disk, network and election.
    Zab(Output),
}

/// A packet that breaks the protocol. Its link is to be closed, unless an order says so already.
#[derive(Debug, Error)]
pub enum LinkFault {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("the leader answered a {0} that nobody asked for")]
    Unasked(&'static str),
    #[error("more requests than may wait for their quorum")]
    TooManyRequests,
}

/// What this server does for its clients.
#[derive(Debug)]
pub(super) enum Role {
    /// Nothing: it looks for a leader, or learns from it.
    Idle,
    Leading(Leading),
    Following(Following),
}

/// The consensus core of one server.
pub struct Core {
    pub(super) prepare: Prepare,
    pub(super) zab: Zab,
    /// Whether this is a standalone server.
    pub(super) alone: bool,
    /// The ensemble's configuration as text, and its version.
    config: (Bytes, i64),
    pub(super) role: Role,
    reactors: usize,
    /// What came since the last `seal`.
    pub(super) gathering: Batch,
    /// Sealed, and not yet committed.
    waiting: VecDeque<Batch>,
    /// Everything through this is committed, be it published or not.
    agreed: Zxid,
    outputs: Vec<Output>,
    pub(super) orders: Vec<Order>,
    pub(super) expired: Vec<SessionId>,
    pub(super) reaper: Reaper,
    pub(super) reaped: Vec<String>,
    pub(super) counters: Counters,
}

impl Core {
    /// A core that has recovered `prepare`'s tree and sessions: all of the log, be it committed or
    /// not, for nobody is served before it is known to be. A standalone server begins to lead at
    /// once; a member of an ensemble waits for `Input::Begin`.
    ///
    /// # Panics
    /// When the tree is not at `start.last_logged`.
    pub fn new(mut prepare: Prepare, start: Start, reactors: usize, moment: Moment) -> Core {
        let (newest, logged) = (prepare.tree.newest(), start.last_logged);
        assert!(newest == logged, "the tree is at {newest}, the log at {logged}");
        let config = (start.cast.config.clone(), start.cast.config_version);
        if !config.0.is_empty() {
            prepare.tree.configure(&config.0, config.1);
        }
        prepare.tree.publish(newest);
        let alone = start.reign == Reign::Continued;
        let settings = prepare.settings();
        let reaper = Reaper::new(settings.reaping, settings.extended_types, moment.now_ms);
        if !settings.extended_types {
            warn_of_ttl_znodes(&prepare.tree);
        }
        let mut core = Core {
            prepare,
            zab: Zab::new(start),
            alone,
            config,
            role: Role::Idle,
            reactors,
            gathering: Batch::new(reactors),
            waiting: VecDeque::new(),
            agreed: Zxid::ZERO,
            outputs: Vec::new(),
            orders: Vec::new(),
            expired: Vec::new(),
            reaper,
            reaped: Vec::new(),
            counters: Counters::default(),
        };
        if alone {
            core.own_step(moment, Input::Begin);
            core.orders.clear();
            assert!(core.zab.next_zxid().is_some(), "a standalone server leads at once");
        }
        core
    }

    /// What is to be done, in this order. None of it may be left out.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
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
        let prepare = &mut self.prepare;
        match entry {
            Entry::DefineIdentity { index, ids } => prepare.identities.define(reactor, index, ids),
            Entry::ForgetIdentity { index } => prepare.identities.forget(reactor, index),
            entry => match &self.role {
                Role::Leading(_) => self.lead(reactor, entry, bytes, moment, log),
                Role::Following(_) => self.follow(reactor, entry, bytes, moment),
                Role::Idle => self.turn_away(reactor, entry, moment),
            },
        }
    }

    /// Clients are not served: their connections are being closed, and this one, too.
    fn turn_away(&mut self, reactor: ReactorId, entry: Entry, moment: Moment) {
        let Some((conn, xid)) = entry.asks() else { return };
        self.gathering.note(moment.now_ms);
        self.gathering.answer(Owner::Connection { reactor, conn }, xid, Outcome::Close);
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
    /// that, in order. Readers may pin them. Other orders stay for `take_orders`.
    pub fn durable(&mut self, zxid: Zxid, moment: Moment, mut publish: impl FnMut(Published)) {
        self.own_step(moment, Input::Durable(zxid));
        let mut others = Vec::new();
        for order in self.orders.drain(..) {
            match order {
                Order::Publish(batch) => publish(batch),
                other => others.push(other),
            }
        }
        self.orders = others;
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

    /// Takes a packet that came in on a link of the quorum port. `log` takes the transactions that
    /// a learner's request becomes.
    ///
    /// # Errors
    /// When it breaks the protocol.
    pub fn receive(
        &mut self,
        link: LinkId,
        packet: QuorumPacket,
        moment: Moment,
        log: &mut impl Append,
    ) -> Result<(), LinkFault> {
        match self.zab.leader_link() {
            Some(leader) if leader == link => self.hear_leader(link, packet, moment),
            Some(_) => Ok(()),
            None => self.hear_learner(link, packet, moment, log),
        }
    }

    /// Takes what happened outside.
    ///
    /// # Errors
    /// When a peer broke the protocol.
    pub fn step(&mut self, moment: Moment, input: Input) -> Result<(), Violation> {
        let stepped = self.zab.step(moment.now_ms, input, &mut self.outputs);
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            self.carry_out(output, moment);
        }
        self.outputs = outputs;
        stepped
    }

    /// A step of this server's own, which cannot break the protocol.
    pub(super) fn own_step(&mut self, moment: Moment, input: Input) {
        let stepped = self.step(moment, input);
        stepped.unwrap_or_else(|violation| panic!("our own step broke the protocol: {violation}"));
    }

    /// A snapshot of the leader's takes the place of all that is here. `Input::SnapshotInstalled`
    /// follows. Readers of the old tree see no more of what happens.
    pub fn replace(&mut self, tree: Writer, sessions: &[(SessionId, i32)]) {
        assert!(matches!(self.role, Role::Idle), "nobody is served while a snapshot is taken in");
        self.prepare.tree = tree;
        self.prepare.tree.configure(&self.config.0, self.config.1);
        self.prepare.sessions.replace(sessions);
        self.gathering = Batch::new(self.reactors);
        self.waiting.clear();
    }

    fn carry_out(&mut self, output: Output, moment: Moment) {
        match output {
            Output::SendSnapshot { link, at } => {
                // All of our history is committed as soon as a quorum has it, and nobody is served
                // before that.
                if at > self.committed() {
                    self.prepare.tree.publish(at);
                }
                self.orders.push(Order::Zab(Output::SendSnapshot { link, at }));
            }
            Output::CommitThrough(zxid) => self.commit(zxid, moment),
            Output::Append(zxid, txn) => {
                self.append(&txn, moment);
                self.orders.push(Order::Append(zxid, txn));
            }
            Output::Send { link, packet } => {
                let packet = quorum_messages::carry(packet);
                self.orders.push(Order::Send { link, packet });
            }
            Output::AnswerPing { link, zxid } => {
                let packet = match &mut self.role {
                    Role::Following(following) => following.pong(zxid),
                    _ => quorum_messages::pong(zxid, std::iter::empty()),
                };
                self.orders.push(Order::Send { link, packet });
            }
            Output::Synced(token) => self.synced(token, moment),
            Output::Serve(service) => {
                self.serve(service, moment);
                self.orders.push(Order::Serve(service));
            }
            Output::Stop(reason) => {
                self.stop();
                self.orders.push(Order::Stop(reason));
            }
            Output::Truncate(zxid) => {
                self.truncate(zxid);
                self.orders.push(Order::Zab(output));
            }
            other => self.orders.push(Order::Zab(other)),
        }
    }

    fn serve(&mut self, service: Service, moment: Moment) {
        self.role = match service {
            Service::Leading { .. } => {
                // It is not the clients' fault that nobody heard their pings.
                self.prepare.sessions.begin(moment.now_ms);
                Role::Leading(Leading::default())
            }
            Service::Following { .. } | Service::Observing { .. } => {
                Role::Following(Following::default())
            }
        };
    }

    /// The clients are gone, and with them all who wait for an answer. What they asked for may
    /// still be committed, by whoever leads next.
    fn stop(&mut self) {
        self.role = Role::Idle;
        self.prepare.sessions.forget_owners();
        self.seal();
        self.gathering = Batch::new(self.reactors);
        for batch in &mut self.waiting {
            batch.forget_answers();
        }
    }

    /// What is behind `zxid` is not the leader's. What is published of it cannot be taken back:
    /// then the state is to be recovered from disk, as of `zxid`, and to `replace` this one.
    fn truncate(&mut self, zxid: Zxid) {
        self.seal();
        while let Some(last) = self.waiting.back_mut()
            && !last.cut_behind(zxid)
        {
            self.waiting.pop_back();
        }
        if zxid >= self.committed() {
            self.prepare.tree.take_back_after(zxid);
            self.prepare.sessions.take_back_after(zxid);
        }
    }

    /// Publishes what is committed. A batch goes as a whole: the rest of it will be committed soon
    /// after.
    fn commit(&mut self, zxid: Zxid, moment: Moment) {
        self.agreed = self.agreed.max(zxid);
        if self.waiting.back().and_then(Batch::through).is_none_or(|last| last < zxid) {
            // A quorum was faster than our own disk.
            self.seal();
        }
        while self.waiting.front().and_then(Batch::through).is_some_and(|last| last <= self.agreed)
        {
            let Some(batch) = self.waiting.pop_front() else { break };
            for session in batch.closed() {
                self.prepare.sessions.closed(*session);
            }
            let through = batch.through().expect("a sealed batch has transactions");
            self.prepare.sessions.committed(through);
            if through > self.committed() {
                self.prepare.tree.publish(through);
            }
            self.counters.commit(&batch, moment);
            self.orders.push(Order::Publish(batch.into_published(through)));
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
