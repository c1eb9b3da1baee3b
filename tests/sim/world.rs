//! The world of a whole ensemble, from one seed: its network, disks, clocks, clients and troubles,
//! in one thread. Time is counted in milliseconds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt;

use bytes::Bytes;
use fastrand::Rng;
use ringkeeper::ids::{ServerId, Zxid};
use ringkeeper::jute::election::Notification;
use ringkeeper::zab::packet::Packet;
use ringkeeper::zab::quorum::Voters;
use ringkeeper::zab::step::{Cast, Input, LinkId, LoggedTxn, Output, Reign, Service, Start, Zab};

use crate::checker::{Checker, write};
use crate::node::{Asked, Disk, DiskOp, Life, Node};
use crate::plant::Plant;

const TICK_MS: u64 = 100;
const INIT_TICKS: u64 = 10;
const SYNC_TICKS: u64 = 5;

/// How long trouble goes on.
const TROUBLE_MS: u64 = 15_000;
/// How long an ensemble that nothing happens to may take to serve everywhere: the longest that a
/// server waits before it says again what it wants, and an election.
const HEALED_MS: u64 = 180_000;

/// What travels on a link.
#[derive(Clone, Debug)]
enum Message {
    Packet(Packet),
    Snapshot(Zxid, Vec<LoggedTxn>),
    /// A learner's client asks.
    Request(Asked),
    /// A sync is complete.
    Synced(u64),
    /// The other side closed.
    End,
}

/// What is going to happen.
enum Event {
    Tick(usize, u64),
    Notified {
        to: usize,
        from: usize,
    },
    Dial {
        from: usize,
        incarnation: u64,
    },
    Arrives {
        link: LinkId,
        to: usize,
    },
    /// The first order of a queue is carried out: of the log, or of the epochs' files.
    Flushed {
        node: usize,
        incarnation: u64,
        log: bool,
    },
    LogRead {
        node: usize,
        incarnation: u64,
        link: LinkId,
        from: Zxid,
    },
    Restart(usize),
    Client,
    Trouble,
    Heal,
}

/// One link between two servers, in both directions.
struct Link {
    /// The learner and the leader.
    ends: [usize; 2],
    /// When what was last sent to each end arrives: order is kept.
    arrival: [u64; 2],
    /// What is on its way to each end.
    queue: [VecDeque<Message>; 2],
    /// What waits for a partition to heal.
    held: [Vec<Message>; 2],
}

struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// How a run is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub plant: Option<Plant>,
    pub trace: bool,
}

/// What a run did, for the curious.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub committed: usize,
    pub acknowledged: usize,
    pub epochs: usize,
    pub diffs: usize,
    pub truncs: usize,
    pub snaps: usize,
    pub crashes: usize,
    pub syncs: usize,
}

pub struct World {
    rng: Rng,
    options: Options,
    now: u64,
    order: u64,
    due: BinaryHeap<Reverse<Due>>,
    nodes: Vec<Node>,
    voters: usize,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    /// From whom to whom nothing comes through.
    blocked: BTreeSet<(usize, usize)>,
    /// The last message on the election port, and when it arrives.
    said: BTreeMap<(usize, usize), (Notification, u64)>,
    /// What is on its way on the election port.
    calls: BTreeMap<(usize, usize), VecDeque<Notification>>,
    trouble: bool,
    next_session: u32,
    next_sync: u64,
    keep: usize,
    checker: Checker,
    summary: Summary,
}

impl World {
    pub fn new(seed: u64, options: Options) -> World {
        let mut rng = Rng::with_seed(seed);
        let voters = [1, 2, 3, 3, 3, 3, 4, 5, 5][rng.usize(..9)];
        let observers = rng.usize(..=1) * rng.usize(..=1);
        let nodes = (0..voters + observers)
            .map(|index| Node {
                id: ServerId::new(index as i64 + 1),
                disk: Disk::default(),
                life: None,
                incarnation: 0,
                paused_until: 0,
                stalled_until: 0,
                rate: rng.u64(950..1050),
                offset: rng.u64(..1_000_000),
            })
            .collect();
        let keep = [0, 3, 10, 500][rng.usize(..4)];
        World {
            rng,
            options,
            now: 0,
            order: 0,
            due: BinaryHeap::new(),
            nodes,
            voters,
            links: BTreeMap::new(),
            next_link: 1,
            blocked: BTreeSet::new(),
            said: BTreeMap::new(),
            calls: BTreeMap::new(),
            trouble: true,
            next_session: 1,
            next_sync: 1,
            keep,
            checker: Checker::default(),
            summary: Summary::default(),
        }
    }

    fn trace(&self, node: Option<usize>, what: fmt::Arguments<'_>) {
        if self.options.trace {
            match node {
                Some(node) => println!("{:>7} server {}: {what}", self.now, self.nodes[node].id),
                None => println!("{:>7} {what}", self.now),
            }
        }
    }

    fn later(&mut self, after: u64, event: Event) {
        self.order += 1;
        let due = Due { at: self.now + after, order: self.order, event };
        self.due.push(Reverse(due));
    }

    /// Runs to the end: trouble, then peace, in which everything must come right.
    pub fn run(mut self) -> Summary {
        for node in 0..self.nodes.len() {
            let after = self.rng.u64(..500);
            self.later(after, Event::Restart(node));
        }
        self.later(1000, Event::Client);
        self.later(1500, Event::Trouble);
        self.run_until(TROUBLE_MS, |_| false);
        self.heal_all();
        let deadline = self.now + HEALED_MS;
        assert!(
            self.run_until(deadline, World::all_serve),
            "not all serve {HEALED_MS} ms after the last trouble: {}",
            self.describe()
        );
        // The ensemble works, and all come to the same end.
        let (before, deadline) = (self.checker.acknowledged, self.now + HEALED_MS);
        let works = |world: &World| world.checker.acknowledged >= before + 5;
        assert!(self.run_until(deadline, works), "no writes are done: {}", self.describe());
        self.next_session = 0;
        let deadline = self.now + HEALED_MS;
        assert!(self.run_until(deadline, World::all_agree), "not the same: {}", self.describe());
        self.summary.committed = self.checker.committed.len();
        self.summary.acknowledged = self.checker.acknowledged;
        self.summary
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            text.push_str(&format!("\n  server {}: accepted {}", node.id, node.disk.accepted));
            if let Some(life) = &node.life {
                text.push_str(&format!(
                    " logged {} published {} of {} committed {:?} {:?}",
                    life.zab.last_logged(),
                    life.published,
                    life.state.len(),
                    self.checker.committed.len(),
                    life.service
                ));
            }
        }
        text
    }

    fn all_serve(&self) -> bool {
        self.nodes.iter().all(|node| node.life.as_ref().is_some_and(|it| it.service.is_some()))
    }

    fn all_agree(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.life.as_ref().is_some_and(|it| {
                it.published == self.checker.committed.len() && it.state.len() == it.published
            })
        })
    }

    fn run_until(&mut self, until: u64, done: impl Fn(&World) -> bool) -> bool {
        while !done(self) {
            let Some(Reverse(due)) = self.due.pop() else { return false };
            if due.at > until {
                self.due.push(Reverse(due));
                self.now = until;
                return false;
            }
            self.now = due.at;
            self.happen(due.event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        // A server that is paused gets everything later.
        let whom = match &event {
            Event::Tick(node, _) | Event::Notified { to: node, .. } => Some(*node),
            Event::Arrives { to, .. } => Some(*to),
            Event::Flushed { node, .. } | Event::LogRead { node, .. } => Some(*node),
            Event::Dial { from, .. } => Some(*from),
            _ => None,
        };
        if let Some(node) = whom {
            let paused = self.nodes[node].paused_until;
            if paused > self.now {
                return self.later(paused - self.now, event);
            }
        }
        match event {
            Event::Tick(node, incarnation) => {
                if self.nodes[node].incarnation == incarnation && self.nodes[node].life.is_some() {
                    self.step(node, Input::Tick);
                    self.later(TICK_MS / 4, Event::Tick(node, incarnation));
                }
            }
            Event::Notified { to, from } => {
                let queue = self.calls.get_mut(&(from, to)).expect("one for each event");
                let said = queue.pop_front().expect("one for each event");
                let from = self.nodes[from].id;
                self.step(to, Input::Notification { from, said });
            }
            Event::Dial { from, incarnation } => self.dial(from, incarnation),
            Event::Arrives { link, to } => {
                let Some(wire) = self.links.get_mut(&link) else { return };
                let side = usize::from(wire.ends[1] == to);
                let message = wire.queue[side].pop_front().expect("one for each event");
                self.arrives(link, to, message);
            }
            Event::Flushed { node, incarnation, log } => {
                if self.nodes[node].incarnation == incarnation {
                    self.flushed(node, log);
                }
            }
            Event::LogRead { node, incarnation, link, from } => {
                if self.nodes[node].incarnation == incarnation {
                    self.log_read(node, link, from);
                }
            }
            Event::Restart(node) => self.start(node),
            Event::Client => self.client(),
            Event::Trouble => self.make_trouble(),
            Event::Heal => self.heal(),
        }
    }

    fn start(&mut self, index: usize) {
        let keep = self.keep;
        let voters = Voters::majority((1..=self.voters as i64).map(ServerId::new).collect());
        let node = &mut self.nodes[index];
        if node.life.is_some() {
            return;
        }
        let cast = Cast {
            me: node.id,
            voters,
            tick_ms: TICK_MS,
            init_ticks: INIT_TICKS,
            sync_ticks: SYNC_TICKS,
            config: Bytes::new(),
            config_version: 0,
        };
        let Disk { accepted, current, history, last } = node.disk.clone();
        // Behind a snapshot named after an epoch nothing is known but its name.
        let ends = history.last().is_some_and(|(zxid, _)| *zxid == last);
        let newest = match ends {
            true => history[history.len().saturating_sub(keep)..].to_vec(),
            false => Vec::new(),
        };
        let start =
            Start { cast, accepted, current, last_logged: last, newest, keep, reign: Reign::New };
        let session = self.next_session;
        self.next_session += 1;
        node.life = Some(Life {
            zab: Zab::new(start),
            state: history,
            published: 0,
            service: None,
            listening: false,
            connecting: None,
            links: BTreeMap::new(),
            receiving: None,
            log_queue: VecDeque::new(),
            epoch_queue: VecDeque::new(),
            writes: VecDeque::new(),
            syncs: BTreeMap::new(),
            own_syncs: VecDeque::new(),
            session,
            written: 0,
        });
        let incarnation = node.incarnation;
        self.trace(Some(index), format_args!("starts, log ends at {last}, epoch {current}"));
        self.later(TICK_MS / 4, Event::Tick(index, incarnation));
        self.step(index, Input::Begin);
    }

    /// Steps a server, and carries out what it orders.
    fn step(&mut self, index: usize, input: Input) {
        let clock = self.nodes[index].clock(self.now);
        let Some(life) = &mut self.nodes[index].life else { return };
        let mut outputs = Vec::new();
        let stepped = life.zab.step(clock, input.clone(), &mut outputs);
        if self.options.trace && !matches!(input, Input::Tick) {
            self.trace(Some(index), format_args!("<- {input:?}"));
        }
        if let Err(violation) = stepped {
            self.trace(Some(index), format_args!("violation: {violation}"));
        }
        for output in outputs {
            self.carry_out(index, output);
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        self.trace(Some(index), format_args!("   -> {output:?}"));
        let incarnation = self.nodes[index].incarnation;
        let life = self.nodes[index].life.as_mut().expect("it was just stepped");
        match output {
            Output::Notify { to, message } => self.notify(index, to, message),
            Output::Connect(leader) => {
                life.connecting = Some(leader);
                self.later(1, Event::Dial { from: index, incarnation });
            }
            Output::Listen => life.listening = true,
            Output::Send { link, packet } => {
                match packet {
                    Packet::Diff(_) => self.summary.diffs += 1,
                    Packet::Trunc(_) => self.summary.truncs += 1,
                    Packet::Snap(_) => self.summary.snaps += 1,
                    _ => {}
                }
                self.send(index, link, Message::Packet(packet));
            }
            Output::AnswerPing { link, zxid } => {
                self.send(index, link, Message::Packet(Packet::Ping(zxid)));
            }
            Output::Close(link) => self.close(index, link),
            Output::WriteAccepted(epoch) => self.order(index, false, DiskOp::Accepted(epoch)),
            Output::WriteCurrent(epoch) => self.order(index, false, DiskOp::Current(epoch)),
            Output::Truncate(zxid) => self.order(index, true, DiskOp::Truncate(zxid)),
            Output::ReceiveSnapshot { link, zxid } => {
                if life.links.contains_key(&link) {
                    life.receiving = Some((link, zxid));
                } else {
                    self.step(index, Input::SnapshotAborted);
                }
            }
            Output::SendSnapshot { link, at } => {
                let committed = life.state.partition_point(|(zxid, _)| *zxid <= at);
                let snapshot = life.state[..committed].to_vec();
                self.send(index, link, Message::Snapshot(at, snapshot));
                self.step(index, Input::SnapshotSent(link));
            }
            Output::ReadLog { link, from } => {
                let after = self.rng.u64(1..50);
                self.later(after, Event::LogRead { node: index, incarnation, link, from });
            }
            Output::Append(zxid, txn) => {
                life.state.push((zxid, txn.clone()));
                self.order(index, true, DiskOp::Append((zxid, txn)));
            }
            Output::CommitThrough(zxid) => self.publish(index, zxid),
            Output::Serve(service) => {
                life.service = Some(service);
                if let Service::Leading { epoch } = service {
                    self.summary.epochs += 1;
                    self.checker.leads(self.nodes[index].id, epoch);
                }
            }
            Output::Stop(_) => self.stop(index),
            Output::Synced(token) => self.synced(index, token),
        }
    }

    /// A role is over: its clients are gone, and whatever comes belongs to the next.
    fn stop(&mut self, index: usize) {
        let session = self.next_session;
        self.next_session += u32::from(self.next_session > 0);
        let life = self.nodes[index].life.as_mut().expect("it was just stepped");
        life.service = None;
        life.listening = false;
        life.connecting = None;
        life.writes.clear();
        life.syncs.clear();
        life.own_syncs.clear();
        (life.session, life.written) = (session, 0);
        if life.receiving.take().is_some() {
            self.step(index, Input::SnapshotAborted);
        }
    }

    fn notify(&mut self, from: usize, to: ServerId, said: Notification) {
        let to = (to.number() - 1) as usize;
        let before = self.said.get(&(from, to)).map_or(0, |(_, at)| *at);
        let at = before.max(self.now + self.rng.u64(1..10));
        self.said.insert((from, to), (said.clone(), at));
        if !self.blocked.contains(&(from, to)) {
            self.calls.entry((from, to)).or_default().push_back(said);
            self.later(at - self.now, Event::Notified { to, from });
        }
    }

    fn dial(&mut self, from: usize, incarnation: u64) {
        if self.nodes[from].incarnation != incarnation {
            return;
        }
        let Some(life) = &self.nodes[from].life else { return };
        let Some(leader) = life.connecting else { return };
        let to = (leader.number() - 1) as usize;
        let cut = self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from));
        let listens = self.nodes[to].life.as_ref().is_some_and(|it| it.listening);
        if cut || !listens || self.nodes[to].paused_until > self.now {
            return self.later(20, Event::Dial { from, incarnation });
        }
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let ends = [from, to];
        self.links.insert(
            link,
            Link {
                ends,
                arrival: [self.now; 2],
                queue: Default::default(),
                held: Default::default(),
            },
        );
        for (end, other) in [(from, to), (to, from)] {
            self.nodes[end].life.as_mut().expect("alive").links.insert(link, other);
        }
        self.nodes[from].life.as_mut().expect("alive").connecting = None;
        self.step(to, Input::Linked(link));
        self.step(from, Input::Linked(link));
    }

    fn send(&mut self, from: usize, link: LinkId, message: Message) {
        let Some(wire) = self.links.get_mut(&link) else { return };
        let side = usize::from(wire.ends[0] == from);
        let to = wire.ends[side];
        if self.blocked.contains(&(from, to)) {
            return wire.held[side].push(message);
        }
        let at = wire.arrival[side].max(self.now + self.rng.u64(1..8));
        wire.arrival[side] = at;
        wire.queue[side].push_back(message);
        self.later(at - self.now, Event::Arrives { link, to });
    }

    /// This side closes: what it sent arrives, then the other side learns.
    fn close(&mut self, index: usize, link: LinkId) {
        self.send(index, link, Message::End);
        if let Some(life) = &mut self.nodes[index].life {
            life.links.remove(&link);
        }
    }

    fn arrives(&mut self, link: LinkId, to: usize, message: Message) {
        let Some(life) = &mut self.nodes[to].life else { return };
        if !life.links.contains_key(&link) {
            return;
        }
        match message {
            Message::Packet(packet) => {
                let packet = match (self.options.plant, packet) {
                    (Some(Plant::WrongTruncation), Packet::Trunc(zxid)) if zxid.counter() > 1 => {
                        Packet::Trunc(Zxid::from_bits(zxid.bits() - 1))
                    }
                    (_, packet) => packet,
                };
                if let (Some(Plant::EpochBeforeHistory), Packet::NewLeader { zxid, .. }) =
                    (self.options.plant, &packet)
                {
                    self.nodes[to].disk.current = zxid.epoch();
                }
                self.step(to, Input::Packet { link, packet });
            }
            Message::Snapshot(zxid, history) => {
                assert_eq!(life.receiving.take(), Some((link, zxid)), "a snapshot out of turn");
                self.order(to, true, DiskOp::Install(zxid, history));
            }
            Message::Request(asked) => {
                self.step(to, Input::Heard(link));
                self.request(to, Some(link), asked);
            }
            Message::Synced(number) => {
                let Some((asked, floor)) = life.own_syncs.pop_front() else { return };
                assert_eq!(asked, number, "syncs are answered in order");
                self.check_sync(to, floor);
            }
            Message::End => {
                life.links.remove(&link);
                self.links.remove(&link);
                self.lost(to, link);
            }
        }
    }

    fn lost(&mut self, index: usize, link: LinkId) {
        let Some(life) = &mut self.nodes[index].life else { return };
        if life.receiving.is_some_and(|(receiving, _)| receiving == link) {
            life.receiving = None;
            self.step(index, Input::SnapshotAborted);
        }
        self.step(index, Input::Lost(Some(link)));
    }

    /// Tells the disk something.
    fn order(&mut self, index: usize, log: bool, op: DiskOp) {
        let incarnation = self.nodes[index].incarnation;
        let plant = self.options.plant;
        let life = self.nodes[index].life.as_mut().expect("it was just stepped");
        let queue = if log { &mut life.log_queue } else { &mut life.epoch_queue };
        queue.push_back(op.clone());
        let alone = queue.len() == 1;
        match op {
            DiskOp::Append((zxid, _)) if plant == Some(Plant::AckBeforeFlush) => {
                self.step(index, Input::Durable(zxid));
            }
            _ => {}
        }
        if alone {
            self.flush_later(index, incarnation, log);
        }
    }

    fn flush_later(&mut self, index: usize, incarnation: u64, log: bool) {
        let stalled = self.nodes[index].stalled_until.saturating_sub(self.now);
        let after = stalled + self.rng.u64(1..6);
        self.later(after, Event::Flushed { node: index, incarnation, log });
    }

    /// One order is carried out, or, of appends, all that wait: a group commit.
    fn flushed(&mut self, index: usize, log: bool) {
        if self.nodes[index].stalled_until > self.now {
            let incarnation = self.nodes[index].incarnation;
            return self.flush_later(index, incarnation, log);
        }
        let plant = self.options.plant;
        let node = &mut self.nodes[index];
        let life = node.life.as_mut().expect("the incarnation is the same");
        let queue = if log { &mut life.log_queue } else { &mut life.epoch_queue };
        let Some(op) = queue.pop_front() else { return };
        if !(plant == Some(Plant::EpochNotWritten) && matches!(op, DiskOp::Accepted(_))) {
            node.disk.carry_out(&op);
        }
        let input = match op {
            DiskOp::Append((mut zxid, _)) => {
                while let Some(DiskOp::Append(txn)) = queue.front() {
                    zxid = txn.0;
                    node.disk.carry_out(&DiskOp::Append(txn.clone()));
                    queue.pop_front();
                }
                Input::Durable(zxid)
            }
            DiskOp::Truncate(zxid) => {
                life.state.retain(|(each, _)| *each <= zxid);
                life.published = life.published.min(life.state.len());
                Input::Truncated(zxid)
            }
            DiskOp::Install(zxid, history) => {
                life.published = 0;
                life.state = history;
                Input::SnapshotInstalled(zxid)
            }
            DiskOp::Accepted(epoch) => Input::AcceptedWritten(epoch),
            DiskOp::Current(epoch) => Input::CurrentWritten(epoch),
        };
        if !queue.is_empty() {
            let incarnation = node.incarnation;
            self.flush_later(index, incarnation, log);
        }
        self.step(index, input);
    }

    fn log_read(&mut self, index: usize, link: LinkId, from: Zxid) {
        let Some(life) = &self.nodes[index].life else { return };
        let first = life.state.partition_point(|(zxid, _)| *zxid <= from);
        let txns = match first.checked_sub(1) {
            Some(first) if self.rng.u8(..4) > 0 => Some(life.state[first..].to_vec()),
            _ => None,
        };
        self.step(index, Input::LogRead { link, txns });
    }

    fn publish(&mut self, index: usize, through: Zxid) {
        let node = &mut self.nodes[index];
        let life = node.life.as_mut().expect("it was just stepped");
        let upto = life.state.partition_point(|(zxid, _)| *zxid <= through);
        for position in life.published..upto {
            self.checker.published(node.id, position, &life.state[position]);
        }
        life.published = life.published.max(upto);
        // Its clients hear of what is done, in the order in which they asked.
        while let Some(write) = life.writes.front()
            && let Some(position) = self.checker.position(write)
            && position < upto
        {
            self.checker.acknowledge(position);
            life.writes.pop_front();
        }
    }

    /// A client of some server asks for something.
    fn client(&mut self) {
        if self.next_session == 0 {
            return;
        }
        let after = self.rng.u64(1..100);
        self.later(after, Event::Client);
        let index = self.rng.usize(..self.nodes.len());
        let Some(life) = &mut self.nodes[index].life else { return };
        let Some(service) = life.service else { return };
        let asked = if self.rng.u8(..8) == 0 {
            self.next_sync += 1;
            Asked::Sync(self.next_sync, self.checker.floor)
        } else {
            life.written += 1;
            let write = write(life.session, life.written);
            life.writes.push_back(write.clone());
            Asked::Write(write)
        };
        if let Service::Leading { .. } = service {
            return self.request(index, None, asked);
        }
        if let Asked::Sync(number, floor) = asked {
            life.own_syncs.push_back((number, floor));
        }
        if let Some(&link) = life.links.keys().next() {
            self.send(index, link, Message::Request(asked));
        }
    }

    /// A leader takes a request, its own client's or a learner's.
    fn request(&mut self, index: usize, link: Option<LinkId>, asked: Asked) {
        let Some(life) = &mut self.nodes[index].life else { return };
        match asked {
            Asked::Write(write) => {
                let Some(zxid) = life.zab.next_zxid() else { return };
                life.state.push((zxid, write.clone()));
                self.step(index, Input::Proposed(zxid, write.clone()));
                self.order(index, true, DiskOp::Append((zxid, write)));
                if self.options.plant == Some(Plant::CommitWithoutQuorum) {
                    self.forge_ack(index, zxid);
                }
            }
            Asked::Sync(number, floor) => {
                if !matches!(life.service, Some(Service::Leading { .. })) {
                    return;
                }
                self.next_sync += 1;
                let token = self.next_sync;
                life.syncs.insert(token, (link, number, floor));
                self.step(index, Input::Sync(token));
            }
        }
    }

    /// Some learner acknowledges what it may not even have.
    fn forge_ack(&mut self, index: usize, zxid: Zxid) {
        let Some(life) = &self.nodes[index].life else { return };
        let Some(&link) = life.links.keys().next() else { return };
        self.step(index, Input::Packet { link, packet: Packet::Ack(zxid) });
        self.step(index, Input::Durable(zxid));
    }

    fn synced(&mut self, index: usize, token: u64) {
        let life = self.nodes[index].life.as_mut().expect("it was just stepped");
        let Some((link, number, floor)) = life.syncs.remove(&token) else { return };
        match link {
            Some(link) => self.send(index, link, Message::Synced(number)),
            None => self.check_sync(index, floor),
        }
    }

    /// A sync is complete: what was acknowledged before it was asked must be there.
    fn check_sync(&mut self, index: usize, floor: usize) {
        self.summary.syncs += 1;
        let life = self.nodes[index].life.as_ref().expect("it was just stepped");
        assert!(
            life.published >= floor,
            "server {} completed a sync with {} transactions, {floor} were acknowledged before",
            self.nodes[index].id,
            life.published
        );
    }

    fn make_trouble(&mut self) {
        if !self.trouble {
            return;
        }
        let after = self.rng.u64(20..1500);
        self.later(after, Event::Trouble);
        let index = self.rng.usize(..self.nodes.len());
        match self.rng.u8(..10) {
            0..=2 => self.crash(index),
            3 => {
                self.trace(None, format_args!("the power goes everywhere"));
                (0..self.nodes.len()).for_each(|node| self.crash(node));
            }
            4 => {
                let until = self.now + self.rng.u64(10..2000);
                self.trace(Some(index), format_args!("pauses until {until}"));
                self.nodes[index].paused_until = until;
            }
            5 => {
                let until = self.now + self.rng.u64(10..1500);
                self.trace(Some(index), format_args!("its disk stalls until {until}"));
                self.nodes[index].stalled_until = until;
            }
            6 | 7 => self.partition(),
            8 => self.break_link(),
            _ => self.heal(),
        }
    }

    fn crash(&mut self, index: usize) {
        if self.nodes[index].life.is_none() {
            return;
        }
        self.trace(Some(index), format_args!("crashes"));
        self.summary.crashes += 1;
        let links: Vec<_> =
            self.nodes[index].life.as_ref().expect("alive").links.keys().copied().collect();
        for link in links {
            // The other side sees the connection break, or nothing at all.
            if self.rng.u8(..4) > 0 {
                self.send(index, link, Message::End);
            }
        }
        self.nodes[index].crash(&mut self.rng);
        let after = self.rng.u64(10..3000);
        self.later(after, Event::Restart(index));
    }

    fn partition(&mut self) {
        let away = self.rng.u64(..1 << self.nodes.len());
        let one_way = self.rng.u8(..3) == 0;
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                let (a, b) = (away >> from & 1, away >> to & 1);
                if a != b && !(one_way && a == 0) {
                    self.blocked.insert((from, to));
                }
            }
        }
        self.trace(None, format_args!("partition: {:?}", self.blocked));
        let after = self.rng.u64(50..5000);
        self.later(after, Event::Heal);
    }

    fn break_link(&mut self) {
        let up: Vec<_> = self.links.keys().copied().collect();
        let Some(&link) = self.rng.choice(&up) else { return };
        self.trace(None, format_args!("{link:?} breaks"));
        let ends = self.links.remove(&link).expect("it was up").ends;
        for end in ends {
            let Some(life) = &mut self.nodes[end].life else { continue };
            if life.links.remove(&link).is_some() {
                self.lost(end, link);
            }
        }
    }

    /// The network is whole again: what waited arrives, or its connection has broken.
    fn heal(&mut self) {
        if self.blocked.is_empty() {
            return;
        }
        self.trace(None, format_args!("the network is whole"));
        self.blocked.clear();
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            let held = std::mem::take(&mut self.links.get_mut(&link).expect("listed").held);
            let ends = self.links[&link].ends;
            for (side, messages) in held.into_iter().enumerate() {
                for message in messages {
                    self.send(ends[1 - side], link, message);
                }
            }
        }
        // A connection on the election port comes up with the last message of each side.
        for ((from, to), (said, _)) in self.said.clone() {
            self.calls.entry((from, to)).or_default().push_back(said);
            self.later(10, Event::Notified { to, from });
        }
    }

    fn heal_all(&mut self) {
        self.trace(None, format_args!("trouble is over"));
        self.trouble = false;
        self.heal();
        for index in 0..self.nodes.len() {
            self.nodes[index].paused_until = 0;
            self.nodes[index].stalled_until = 0;
            if self.nodes[index].life.is_none() {
                self.later(1, Event::Restart(index));
            }
        }
    }
}

impl Summary {
    pub fn add(&mut self, other: Summary) {
        self.committed += other.committed;
        self.acknowledged += other.acknowledged;
        self.epochs += other.epochs;
        self.diffs += other.diffs;
        self.truncs += other.truncs;
        self.snaps += other.snaps;
        self.crashes += other.crashes;
        self.syncs += other.syncs;
    }
}
