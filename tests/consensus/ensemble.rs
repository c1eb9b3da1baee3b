//! Consensus cores that agree with each other over packets, without disks and sockets: what clients
//! of any member see is what a standalone server would have told them, and all trees are the same.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringkeeper::consensus::core::{Core, Moment, Order};
use ringkeeper::consensus::handoff::{
    Answer, Entry, IdentityIndex, Outcome, Published, Submission,
};
use ringkeeper::consensus::prepare::write::{Prepare, Settings};
use ringkeeper::consensus::recovery::State;
use ringkeeper::consensus::sessions::Sessions;
use ringkeeper::ids::{Epoch, ReactorId, ServerId, SessionId, Zxid};
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::quorum::QuorumPacket;
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::log::recover::Recover;
use ringkeeper::tree::{Registry, Writer};
use ringkeeper::zab::quorum::Voters;
use ringkeeper::zab::step::{Cast, Input, LinkId, Output, Reign, Service, Start};

use crate::server::{
    Image, Reply, Server, TICK_MS, conn, create, image, multi, open_acl, path_version, set_acl,
    set_data,
};

const WALL_MS: i64 = 1_700_000_000_000;
const ALL: i32 = 31;

struct Node {
    core: Core,
    registry: Registry,
    log: Vec<(Zxid, Vec<u8>)>,
    /// Whether the disk is slow: nothing becomes durable.
    stalled: bool,
    listening: bool,
    /// The leader to which it tries to connect.
    connecting: Option<usize>,
    service: Option<Service>,
    published: Vec<Published>,
}

/// What is on its way.
enum Message {
    Input(Input),
    Packet(LinkId, Bytes),
}

struct World {
    nodes: Vec<Node>,
    /// By link: its ends.
    links: BTreeMap<LinkId, (usize, usize)>,
    next_link: u64,
    /// In order, for each (from, to).
    under_way: VecDeque<(usize, usize, Message)>,
    /// Nothing goes to or from these.
    cut_off: Vec<usize>,
    now_ms: u64,
}

fn id(index: usize) -> ServerId {
    ServerId::new(index as i64 + 1)
}

fn settings() -> Settings {
    Settings { extended_types: true, enforce_quota: true, ..Settings::default() }
}

impl World {
    /// Servers 1 to `count`, none of which has done anything; the last `observers` only observe.
    fn new(count: usize, observers: usize) -> World {
        let members = (0..count - observers).map(id).collect::<Vec<_>>();
        let nodes = (0..count).map(|index| {
            let (tree, registry) = Writer::new();
            let cast = Cast {
                me: id(index),
                voters: Voters::majority(members.clone()),
                tick_ms: TICK_MS,
                init_ticks: 10,
                sync_ticks: 5,
                config: Bytes::from_static(b"version=0"),
                config_version: 0,
            };
            let start = Start {
                cast,
                accepted: Epoch::default(),
                current: Epoch::default(),
                last_logged: Zxid::ZERO,
                newest: Vec::new(),
                keep: 500,
                reign: Reign::New,
            };
            let sessions = Sessions::new(id(index), TICK_MS, 1_000);
            let prepare = Prepare::new(tree, sessions, 1, settings());
            let core = Core::new(prepare, start, 1, Moment { wall_ms: WALL_MS, now_ms: 1_000 });
            Node {
                core,
                registry,
                log: Vec::new(),
                stalled: false,
                listening: false,
                connecting: None,
                service: None,
                published: Vec::new(),
            }
        });
        let mut world = World {
            nodes: nodes.collect(),
            links: BTreeMap::new(),
            next_link: 1,
            under_way: VecDeque::new(),
            cut_off: Vec::new(),
            now_ms: 1_000,
        };
        for index in 0..count {
            world.step(index, Input::Begin);
        }
        world.pass(5_000);
        world
    }

    fn moment(&self) -> Moment {
        Moment { wall_ms: WALL_MS, now_ms: self.now_ms }
    }

    fn step(&mut self, index: usize, input: Input) {
        let moment = self.moment();
        self.nodes[index].core.step(moment, input).expect("nobody breaks the protocol");
        self.carry_out(index);
    }

    fn carry_out(&mut self, index: usize) {
        for order in self.nodes[index].core.take_orders() {
            let node = &mut self.nodes[index];
            match order {
                Order::Publish(batch) => node.published.push(batch),
                Order::Append(zxid, txn) => node.log.push((zxid, txn.to_vec())),
                Order::Send { link, packet } => {
                    let mut bytes = Vec::new();
                    packet.encode(&mut bytes);
                    if let Some(&(a, b)) = self.links.get(&link) {
                        let to = if a == index { b } else { a };
                        self.under_way.push_back((index, to, Message::Packet(link, bytes.into())));
                    }
                }
                Order::Serve(service) => node.service = Some(service),
                Order::Stop(_) => {
                    (node.service, node.listening, node.connecting) = (None, false, None);
                }
                Order::Zab(output) => self.agree(index, output),
            }
        }
    }

    fn agree(&mut self, index: usize, output: Output) {
        match output {
            Output::Notify { to, message } => {
                let to = to.number() as usize - 1;
                let input = Input::Notification { from: id(index), said: message };
                self.under_way.push_back((index, to, Message::Input(input)));
            }
            Output::Listen => self.nodes[index].listening = true,
            Output::Connect(leader) => {
                self.nodes[index].connecting = Some(leader.number() as usize - 1);
            }
            Output::Close(link) => self.close(index, link),
            Output::WriteAccepted(epoch) => self.done(index, Input::AcceptedWritten(epoch)),
            Output::WriteCurrent(epoch) => self.done(index, Input::CurrentWritten(epoch)),
            Output::Truncate(zxid) => {
                self.nodes[index].log.retain(|(it, _)| *it <= zxid);
                self.done(index, Input::Truncated(zxid));
            }
            other => panic!("not in these tests: {other:?}"),
        }
    }

    /// Something is done that an order asked for; the server hears of it when it has carried out
    /// the others.
    fn done(&mut self, index: usize, input: Input) {
        self.under_way.push_back((index, index, Message::Input(input)));
    }

    /// Who tries to connect succeeds when the leader listens.
    fn connect(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(leader) = self.nodes[index].connecting else { continue };
            let cut = [index, leader].iter().any(|it| self.cut_off.contains(it));
            if cut || !self.nodes[leader].listening {
                continue;
            }
            self.nodes[index].connecting = None;
            let link = LinkId(self.next_link);
            self.next_link += 1;
            self.links.insert(link, (index, leader));
            self.done(leader, Input::Linked(link));
            self.done(index, Input::Linked(link));
        }
    }

    fn close(&mut self, index: usize, link: LinkId) {
        if let Some((a, b)) = self.links.remove(&link) {
            let to = if a == index { b } else { a };
            self.under_way.push_back((index, to, Message::Input(Input::Lost(Some(link)))));
        }
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        loop {
            while let Some((from, to, message)) = self.under_way.pop_front() {
                let cut = [from, to].iter().any(|it| self.cut_off.contains(it));
                if cut && from != to {
                    continue;
                }
                match message {
                    Message::Input(input) => self.step(to, input),
                    Message::Packet(link, bytes) => self.receive(to, link, &bytes),
                }
            }
            for index in 0..self.nodes.len() {
                self.turn(index);
            }
            self.connect();
            if self.under_way.is_empty() {
                return;
            }
        }
    }

    fn receive(&mut self, to: usize, link: LinkId, bytes: &Bytes) {
        let (packet, length) = QuorumPacket::decode(bytes).unwrap().expect("a whole packet");
        assert_eq!(length, bytes.len());
        if !self.links.contains_key(&link) {
            return;
        }
        let moment = self.moment();
        let Node { core, log, .. } = &mut self.nodes[to];
        let taken = core.receive(link, packet, moment, &mut |zxid, txn: &[u8]| {
            log.push((zxid, txn.to_vec()));
        });
        taken.unwrap_or_else(|fault| panic!("server {} on {link:?}: {fault}", to + 1));
        self.carry_out(to);
    }

    /// One turn of a core: what was logged becomes durable, unless the disk is slow.
    fn turn(&mut self, index: usize) {
        let moment = self.moment();
        let Node { core, log, stalled, published, .. } = &mut self.nodes[index];
        core.resume(moment, &mut |zxid, txn: &[u8]| log.push((zxid, txn.to_vec())));
        core.seal();
        if !*stalled && let Some((last, _)) = log.last() {
            core.durable(*last, moment, |batch| published.push(batch));
        }
        core.publish_answers(|batch| published.push(batch));
        self.carry_out(index);
    }

    /// Lets so many milliseconds go by.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 100;
            let moment = self.moment();
            for index in 0..self.nodes.len() {
                self.step(index, Input::Tick);
                let Node { core, log, .. } = &mut self.nodes[index];
                if core.next_expiry_ms().is_some_and(|due_ms| due_ms <= moment.now_ms) {
                    core.expire(moment, &mut |zxid, txn: &[u8]| log.push((zxid, txn.to_vec())));
                }
                self.carry_out(index);
            }
            self.settle();
        }
    }

    fn cut_off(&mut self, index: usize) {
        self.cut_off.push(index);
        let links = self.links.iter().filter(|(_, ends)| ends.0 == index || ends.1 == index);
        for link in links.map(|(link, _)| *link).collect::<Vec<_>>() {
            let (a, b) = self.links.remove(&link).unwrap();
            self.step(a, Input::Lost(Some(link)));
            self.step(b, Input::Lost(Some(link)));
        }
        self.settle();
    }

    fn heal(&mut self) {
        self.cut_off.clear();
        // Who looked in vain for long asks seldom.
        self.pass(100_000);
    }

    fn leader(&self) -> usize {
        let leads = |node: &Node| matches!(node.service, Some(Service::Leading { .. }));
        self.nodes.iter().position(leads).expect("one of them leads")
    }

    fn follower(&self) -> usize {
        let follows = |node: &Node| matches!(node.service, Some(Service::Following { .. }));
        self.nodes.iter().position(follows).expect("one of them follows")
    }

    fn submit(&mut self, index: usize, entries: Vec<Entry>, bytes: Vec<u8>) {
        let moment = self.moment();
        let Node { core, log, .. } = &mut self.nodes[index];
        let submission = Submission { reactor: ReactorId(0), entries, bytes };
        core.submit(submission, moment, &mut |zxid, txn: &[u8]| log.push((zxid, txn.to_vec())));
        self.carry_out(index);
    }

    /// The answers given at a server since the last call, with the zxid and the bodies.
    fn answers(&mut self, index: usize) -> Vec<(Answer, Reply)> {
        let mut all = Vec::new();
        for published in self.nodes[index].published.drain(..) {
            let answers = &published.answers[0];
            for answer in &answers.list {
                let (err, range, closes) = match &answer.outcome {
                    Outcome::Reply { err, body } => (*err, body.clone(), false),
                    Outcome::ReplyAndClose { err, body } => (*err, body.clone(), true),
                    _ => (ErrorCode::Ok, 0..0, false),
                };
                let body = answers.bytes[range.start as usize..range.end as usize].to_vec();
                let zxid = match answer.after {
                    0 => published.through,
                    after => published.txns[after as usize - 1].zxid,
                };
                all.push((answer.clone(), Reply { err, body, zxid, closes }));
            }
        }
        all
    }

    fn open(&mut self, index: usize, slot: u32, timeout_ms: i32) -> SessionId {
        self.submit(index, vec![Entry::OpenSession { conn: conn(slot), timeout_ms }], Vec::new());
        self.settle();
        match &self.answers(index)[..] {
            [(Answer { outcome: Outcome::SessionOpened { session, .. }, .. }, _)] => *session,
            other => panic!("no session: {other:?}"),
        }
    }

    fn define(&mut self, index: usize, ids: &[Id]) {
        let entry = Entry::DefineIdentity { index: IdentityIndex(0), ids: ids.to_vec() };
        self.submit(index, vec![entry], Vec::new());
    }

    /// `None`: the connection is closed without a reply.
    fn write(
        &mut self,
        index: usize,
        (slot, session, xid): (u32, SessionId, i32),
        op: OpCode,
        body: &[u8],
    ) -> Option<Reply> {
        self.submit(index, vec![write(slot, session, xid, op, body)], body.to_vec());
        self.settle();
        let mut answers = self.answers(index);
        assert_eq!(answers.len(), 1, "one answer to {op:?}: {answers:?}");
        let (answer, reply) = answers.remove(0);
        assert_eq!((answer.conn, answer.xid), (conn(slot), xid));
        (!matches!(answer.outcome, Outcome::Close)).then_some(reply)
    }

    fn image(&self, index: usize) -> Image {
        image(&self.nodes[index].registry)
    }

    /// All servers have the same, and it is what their logs say.
    fn assert_alike(&self) {
        for index in 1..self.nodes.len() {
            assert_eq!(self.image(index), self.image(0), "server {}", index + 1);
            let sessions = self.nodes[index].core.committed_sessions();
            assert_eq!(sessions, self.nodes[0].core.committed_sessions());
        }
        let mut state = State::new(id(0), TICK_MS);
        state.begin(Zxid::ZERO, 0);
        for (zxid, txn) in &self.nodes[0].log {
            state.replay(*zxid, txn).unwrap();
        }
        let (_tree, registry, sessions) = state.finish();
        // The configuration stands in no transaction.
        let in_log = |image: Image| -> Image {
            image.into_iter().filter(|(path, ..)| path != "/zookeeper/config").collect()
        };
        assert_eq!(in_log(image(&registry)), in_log(self.image(0)), "as the log has it");
        let (_, text, stat, _) =
            self.image(0).into_iter().find(|(path, ..)| path == "/zookeeper/config").unwrap();
        assert_eq!((text.as_deref(), stat.version), (Some(&b"version=0"[..]), -1));
        let newest = self.nodes[0].log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        assert_eq!(sessions.as_of(newest), self.nodes[0].core.committed_sessions());
    }
}

fn write(slot: u32, session: SessionId, xid: i32, op: OpCode, body: &[u8]) -> Entry {
    let (conn, identity) = (conn(slot), IdentityIndex(0));
    Entry::Write { conn, session, xid, op, identity, body: 0..body.len() as u32 }
}

fn somebody() -> Vec<Id> {
    vec![Id { scheme: "ip".to_owned(), id: "10.0.0.9".to_owned() }]
}

/// Every kind of write, good and bad.
fn script() -> Vec<(OpCode, Vec<u8>)> {
    let acl = open_acl(ALL);
    let closed =
        vec![Acl { perms: 1, id: Id { scheme: "ip".to_owned(), id: "10.9.9.9".to_owned() } }];
    let mine = vec![Acl { perms: ALL, id: Id { scheme: "auth".to_owned(), id: String::new() } }];
    let ttl = {
        let mut record = create("/ttl", b"t", &acl, 5);
        record.extend_from_slice(&60_000_i64.to_be_bytes());
        record
    };
    vec![
        (OpCode::CREATE, create("/a", b"one", &acl, 0)),
        (OpCode::CREATE, create("/a", b"again", &acl, 0)),
        (OpCode::CREATE2, create("/a/s-", b"", &acl, 2)),
        (OpCode::CREATE2, create("/a/e", b"mine", &acl, 1)),
        (OpCode::CREATE, create("/a/e/x", b"", &acl, 0)),
        (OpCode::CREATE_CONTAINER, create("/c", b"", &acl, 4)),
        (OpCode::CREATE_TTL, ttl),
        (OpCode::SET_DATA, set_data("/a", b"two", 0)),
        (OpCode::SET_DATA, set_data("/a", b"three", 0)),
        (OpCode::SET_DATA, set_data("/none", b"", -1)),
        (OpCode::SET_ACL, set_acl("/c", &closed, 0)),
        (OpCode::CREATE, create("/c/refused", b"", &acl, 0)),
        (OpCode::SET_ACL, set_acl("/a", &mine, -1)),
        (OpCode::CREATE2, create("/mine", b"", &mine, 0)),
        (
            OpCode::MULTI,
            multi(&[
                (OpCode::CREATE, create("/m", b"m", &acl, 0)),
                (OpCode::CREATE2, create("/m/n-", b"", &acl, 3)),
                (OpCode::CHECK, path_version("/a", 1)),
                (OpCode::SET_DATA, set_data("/m", b"mm", 0)),
                (OpCode::DELETE, path_version("/ttl", -1)),
            ]),
        ),
        (
            OpCode::MULTI,
            multi(&[
                (OpCode::CREATE, create("/gone", b"", &acl, 0)),
                (OpCode::CHECK, path_version("/a", 7)),
                (OpCode::DELETE, path_version("/m", -1)),
            ]),
        ),
        (OpCode::MULTI, multi(&[])),
        (OpCode::DELETE, path_version("/m", -1)),
        (OpCode::DELETE, path_version("/a/s-0000000000", 0)),
        (OpCode::DELETE, path_version("/none", -1)),
        (OpCode::CREATE_SESSION, 8_000_i32.to_be_bytes().to_vec()),
    ]
}

#[test]
fn clients_of_every_member_are_told_what_a_standalone_server_tells() {
    for role in ["leader", "follower", "observer"] {
        let mut world = World::new(4, 1);
        let at = match role {
            "leader" => world.leader(),
            "follower" => world.follower(),
            _ => 3,
        };
        let mut alone = Server::beginning_at(Zxid::new(Epoch::new(1), 0), WALL_MS);
        alone.define(0, &somebody());
        world.define(at, &somebody());
        let (theirs, ours) = (alone.open(1, 10_000), world.open(at, 1, 10_000));
        for (xid, (op, body)) in (1..).zip(script()) {
            let expected = alone.write((1, theirs, xid), op, 0, &body);
            let told = world.write(at, (1, ours, xid), op, &body);
            // The statuses of ephemerals name the session.
            let mapped = told.map(|mut reply| {
                let (from, to) = (ours.bits().to_be_bytes(), theirs.bits().to_be_bytes());
                for at in 0..reply.body.len().saturating_sub(7) {
                    if reply.body[at..at + 8] == from {
                        reply.body[at..at + 8].copy_from_slice(&to);
                    }
                }
                reply
            });
            assert_eq!(mapped, expected, "{op:?}, xid {xid}, at the {role}");
        }
        world.assert_alike();
        let told = world.write(at, (1, ours, 99), OpCode::CLOSE_SESSION, &[]).unwrap();
        assert_eq!((told.err, told.closes), (ErrorCode::Ok, true));
        world.assert_alike();
        assert!(world.image(0).iter().all(|(path, ..)| path != "/a/e"), "its ephemerals are gone");
        assert_eq!(world.nodes[0].core.committed_sessions(), []);
    }
}

#[test]
fn what_cannot_be_decoded_is_refused_in_its_turn_and_never_forwarded() {
    let mut world = World::new(3, 0);
    let at = world.follower();
    world.define(at, &somebody());
    let session = world.open(at, 1, 10_000);
    let before = world.nodes[at].log.len();
    let good = create("/a", b"", &open_acl(ALL), 0);
    let mut bytes = good.clone();
    bytes.extend_from_slice(&[0, 0]);
    let bad = good.len() as u32..bytes.len() as u32;
    let (identity, op) = (IdentityIndex(0), OpCode::CREATE);
    let entries = vec![
        write(1, session, 1, op, &good),
        Entry::Write { conn: conn(1), session, xid: 2, op, identity, body: bad },
    ];
    world.submit(at, entries, bytes);
    world.settle();
    let answers = world.answers(at);
    let told: Vec<_> = answers.iter().map(|(answer, reply)| (answer.xid, reply.err)).collect();
    assert_eq!(told, [(1, ErrorCode::Ok), (2, ErrorCode::MarshallingError)]);
    assert_eq!(world.nodes[at].log.len(), before + 1);
}

#[test]
fn a_sync_is_answered_in_its_turn_at_every_member() {
    for role in ["leader", "follower"] {
        let mut world = World::new(3, 0);
        let at = if role == "leader" { world.leader() } else { world.follower() };
        world.define(at, &somebody());
        let session = world.open(at, 1, 10_000);
        let acl = open_acl(ALL);
        let (first, second) = (create("/a", b"", &acl, 0), create("/b", b"", &acl, 0));
        let (conn, identity, op) = (conn(1), IdentityIndex(0), OpCode::CREATE);
        let mut bytes = first.clone();
        bytes.extend_from_slice(&second);
        let body = first.len() as u32..bytes.len() as u32;
        let entries = vec![
            write(1, session, 1, op, &first),
            Entry::Sync { conn, session, xid: 2 },
            Entry::Write { conn, session, xid: 3, op, identity, body },
            Entry::Sync { conn, session, xid: 4 },
        ];
        world.submit(at, entries, bytes);
        world.settle();
        let answers = world.answers(at);
        let told: Vec<_> = answers.iter().map(|(answer, reply)| (answer.xid, reply.err)).collect();
        let ok = ErrorCode::Ok;
        assert_eq!(told, [(1, ok), (2, ok), (3, ok), (4, ok)], "at the {role}");
        world.assert_alike();
    }
}

#[test]
fn a_session_moves_and_what_it_left_behind_takes_no_effect() {
    let mut world = World::new(3, 0);
    let leader = world.leader();
    let members: Vec<usize> = (0..3).filter(|it| *it != leader).chain([leader]).collect();
    for &member in &members {
        world.define(member, &somebody());
    }
    let session = world.open(members[0], 1, 10_000);
    for (turn, &member) in members.iter().enumerate().skip(1) {
        let (slot, timeout_ms) = (turn as u32 + 10, 10_000);
        let entry = Entry::RenewSession { conn: conn(slot), session, timeout_ms };
        world.submit(member, vec![entry], Vec::new());
        world.settle();
        let answers = world.answers(member);
        assert!(
            matches!(answers[0].0.outcome, Outcome::SessionOpened { session: it, .. } if it == session),
            "{answers:?}"
        );
        let before = members[turn - 1];
        let old_slot = if turn == 1 { 1 } else { turn as u32 + 9 };
        let body = create(&format!("/stale-{turn}"), b"", &open_acl(ALL), 0);
        assert_eq!(world.write(before, (old_slot, session, 1), OpCode::CREATE, &body), None);
        let body = create(&format!("/fresh-{turn}"), b"", &open_acl(ALL), 0);
        let reply = world.write(member, (slot, session, 2), OpCode::CREATE, &body).unwrap();
        assert_eq!(reply.err, ErrorCode::Ok);
    }
    world.assert_alike();
    assert!(world.image(0).iter().all(|(path, ..)| !path.starts_with("/stale")));
    // Nobody renews a session that is not there.
    let session = SessionId::from_bits(0x99);
    let entry = Entry::RenewSession { conn: conn(40), session, timeout_ms: 10_000 };
    world.submit(members[0], vec![entry], Vec::new());
    world.settle();
    let answers = world.answers(members[0]);
    assert!(matches!(answers[0].0.outcome, Outcome::SessionRefused), "{answers:?}");
}

#[test]
fn the_leader_lets_a_learners_session_live_while_it_is_heard_of() {
    let mut world = World::new(3, 0);
    let at = world.follower();
    world.define(at, &somebody());
    let session = world.open(at, 1, 6_000);
    let body = create("/e", b"", &open_acl(ALL), 1);
    world.write(at, (1, session, 1), OpCode::CREATE, &body).unwrap();
    for _ in 0..20 {
        world.submit(at, vec![Entry::Touch { session, ago_ms: 0 }], Vec::new());
        world.pass(1_000);
    }
    assert!(world.image(0).iter().any(|(path, ..)| path == "/e"));
    world.pass(12_000);
    assert!(world.image(0).iter().all(|(path, ..)| path != "/e"), "it expired");
    assert_eq!(world.nodes[at].core.committed_sessions(), []);
    world.assert_alike();
}

#[test]
fn what_a_lost_leader_proposed_alone_is_undone_everywhere() {
    let mut world = World::new(3, 0);
    let old = world.leader();
    world.define(old, &somebody());
    let session = world.open(old, 1, 300_000);
    let acl = open_acl(ALL);
    let kept = create("/kept", b"", &acl, 0);
    world.write(old, (1, session, 1), OpCode::CREATE, &kept).unwrap();
    world.cut_off.push(old);
    let lost = create("/lost", b"", &acl, 1);
    let entries = vec![
        write(1, session, 2, OpCode::CREATE, &lost),
        Entry::OpenSession { conn: conn(2), timeout_ms: 10_000 },
        write(1, session, 3, OpCode::CLOSE_SESSION, &[]),
    ];
    world.submit(old, entries, lost);
    world.settle();
    assert!(world.answers(old).is_empty(), "nothing is acknowledged without a quorum");
    world.cut_off.pop();
    world.cut_off(old);
    world.pass(30_000);
    assert!(world.nodes[old].service.is_none(), "it has no quorum");
    let new = world.leader();
    assert_ne!(new, old);
    world.define(new, &somebody());
    let entry = Entry::RenewSession { conn: conn(5), session, timeout_ms: 300_000 };
    world.submit(new, vec![entry], Vec::new());
    world.settle();
    world.answers(new);
    let after = create("/after", b"", &acl, 0);
    world.write(new, (5, session, 9), OpCode::CREATE, &after).unwrap();
    world.heal();
    assert!(world.nodes.iter().all(|node| node.service.is_some()), "all serve again");
    world.assert_alike();
    let paths: Vec<_> = world.image(old).into_iter().map(|(path, ..)| path).collect();
    assert!(paths.contains(&"/kept".to_owned()) && paths.contains(&"/after".to_owned()));
    assert!(!paths.contains(&"/lost".to_owned()));
    let sessions = world.nodes[old].core.committed_sessions();
    assert_eq!(sessions, [(session, 300_000)], "the one is back, the other never was");
}

#[test]
fn a_slow_disk_of_one_delays_nobody() {
    let mut world = World::new(3, 0);
    for slow in [world.follower(), world.leader()] {
        let leader = world.leader();
        world.define(leader, &somebody());
        world.nodes[slow].stalled = true;
        let session = world.open(leader, 1, 30_000);
        let path = format!("/while-{slow}-stalls");
        let body = create(&path, b"", &open_acl(ALL), 0);
        let reply = world.write(leader, (1, session, 1), OpCode::CREATE, &body).unwrap();
        assert_eq!(reply.err, ErrorCode::Ok);
        assert!(world.image(slow).iter().any(|(it, ..)| *it == path), "a quorum has it");
        world.nodes[slow].stalled = false;
        world.settle();
        world.assert_alike();
    }
}
