//! For tests: a reactor with a tree, fed with plain bytes, and the consensus core's part played by
//! hand.

use std::ops::Range;
use std::sync::Arc;

use crate::auth::digest::DigestAlgorithm;
use crate::consensus::handoff::{
    AclIndex, Answer, Answers, Effect, Outcome, Published, PublishedTxn, Submission,
};
use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
use crate::jute::codec;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{Acl, AddWatchRequest, ConnectRequest, EventType, Id, PathWatchRequest};
use crate::tree::{AclId, Owner, Writer};

use super::admission::Admission;
use super::depart::Leave;
use super::serve::Reactor;
use super::settings::Settings;

/// The id that `user:password` proves.
pub fn digest_id(user_and_password: &str) -> Id {
    DigestAlgorithm::Sha1.id(user_and_password)
}

/// The first session that a test gets.
pub const SESSION: SessionId = SessionId::from_bits(0x0100_0000_0000_0001);

pub struct Fixture {
    pub reactor: Reactor,
    pub writer: Writer,
    pub zxid: i64,
    sessions: i64,
}

/// One frame that a client got, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

pub fn settings() -> Settings {
    super::handshake::tests::settings()
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::with(settings())
    }

    pub fn with(settings: Settings) -> Fixture {
        let (writer, registry) = Writer::new();
        let admission = Arc::new(Admission::new(1, None, None));
        let reactor = Reactor::new(ReactorId(0), settings, &registry, admission, 1_000_000);
        Fixture { reactor, writer, zxid: 0, sessions: 0 }
    }

    /// A client that has said nothing.
    pub fn connected(&mut self) -> ConnId {
        let address = "127.0.0.1:4000".parse().unwrap();
        self.reactor.admission.admit(std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
        self.reactor.connected(address)
    }

    /// A client with a session of its own.
    pub fn client(&mut self) -> ConnId {
        let conn = self.connected();
        self.reactor.receive(conn.slot, &connect_frame(0, 0, None));
        self.sessions += 1;
        let session = SessionId::from_bits(SESSION.bits() + self.sessions - 1);
        let opened = Outcome::SessionOpened { session, timeout_ms: 10_000 };
        self.publish(&[], vec![answer(conn, 0, 0, opened)], &[]);
        self.submitted();
        self.output(conn);
        conn
    }

    /// What the client has been sent since the last time. The others' output stays.
    pub fn output(&mut self, conn: ConnId) -> Vec<u8> {
        let mut output = Vec::new();
        if self.reactor.connections.get(conn).is_some() {
            self.reactor.has_output(conn.slot);
        }
        self.reactor.flush(|slot, out| {
            if slot == conn.slot {
                output.append(out);
            }
        });
        output
    }

    pub fn frames(&mut self, conn: ConnId) -> Vec<Frame> {
        frames(&self.output(conn))
    }

    /// What was handed over since the last time, in one.
    pub fn submitted(&mut self) -> Submission {
        self.reactor.seal();
        let mut all = Submission::new(ReactorId(0));
        while let Some(mut next) = self.reactor.next_sealed() {
            assert!(all.bytes.is_empty(), "one submission is enough for a test");
            all.bytes = next.bytes;
            all.entries.append(&mut next.entries);
        }
        self.reactor.unblock();
        all
    }

    /// The names of the entries that were handed over.
    pub fn entries(&mut self) -> Vec<String> {
        let entries = self.submitted().entries;
        entries.iter().map(|entry| format!("{entry:?}").split(' ').next().unwrap().into()).collect()
    }

    pub fn departures(&mut self) -> Vec<(u32, Leave)> {
        let mut leave = Vec::new();
        self.reactor.departures(&mut leave);
        leave
    }

    /// A transaction that creates a znode open to everybody; gives its effect.
    pub fn create(&mut self, path: &str, data: &[u8]) -> (i64, Change) {
        self.create_with(path, data, AclId::OPEN)
    }

    pub fn create_with(&mut self, path: &str, data: &[u8], acl: AclId) -> (i64, Change) {
        let zxid = self.begin();
        self.writer.create(path, Some(data), acl, Owner::Persistent, None).unwrap();
        self.writer.publish(Zxid::from_bits(zxid));
        (zxid, Change::Created(path.to_owned(), self.acls(path)))
    }

    pub fn set_data(&mut self, path: &str, data: &[u8]) -> (i64, Change) {
        let zxid = self.begin();
        let version = self.writer.get(path).unwrap().version() + 1;
        self.writer.set_data(path, Some(data), version).unwrap();
        self.writer.publish(Zxid::from_bits(zxid));
        (zxid, Change::Set(path.to_owned(), self.acls(path)))
    }

    pub fn delete(&mut self, path: &str) -> (i64, Change) {
        let (acls, zxid) = (self.acls(path), self.begin());
        self.writer.delete(path).unwrap();
        self.writer.publish(Zxid::from_bits(zxid));
        (zxid, Change::Deleted(path.to_owned(), acls))
    }

    /// A transaction that does `what` and tells no watcher.
    pub fn transaction(&mut self, what: impl FnOnce(&mut Writer)) -> (i64, Change) {
        let zxid = self.begin();
        what(&mut self.writer);
        self.writer.publish(Zxid::from_bits(zxid));
        (zxid, Change::None)
    }

    /// A transaction that changes no znode.
    pub fn nothing(&mut self, change: Change) -> (i64, Change) {
        let zxid = self.begin();
        self.writer.publish(Zxid::from_bits(zxid));
        (zxid, change)
    }

    /// The ACLs of a znode and of its parent.
    fn acls(&self, path: &str) -> Acls {
        let acl = |path: &str| self.writer.get(path).map_or(Vec::new(), |it| it.acl().to_vec());
        (acl(path), acl(crate::tree::path::parent(path).unwrap()))
    }

    fn begin(&mut self) -> i64 {
        self.zxid += 1;
        self.writer.begin(Zxid::from_bits(self.zxid), 1_700_000_000_000);
        self.zxid
    }

    /// The ACL that lets `digest_id` alone do anything.
    pub fn private(&mut self, digest_id: &str) -> AclId {
        let id = Id { scheme: "digest".into(), id: digest_id.into() };
        self.writer.intern_acl(&[Acl { perms: 31, id }])
    }

    /// Publishes `txns` with the answers that are due.
    pub fn publish(&mut self, txns: &[(i64, Change)], answers: Vec<Answer>, bytes: &[u8]) {
        let mut batch = Published::default();
        for (zxid, change) in txns {
            let effect = |path: &String, batch: &mut Published| -> Range<u32> {
                let start = batch.paths.len() as u32;
                batch.paths.push_str(path);
                start..batch.paths.len() as u32
            };
            let first = batch.effects.len() as u32;
            let kept = |list: &Vec<Acl>, batch: &mut Published| {
                batch.acls.push(list.as_slice().into());
                AclIndex(batch.acls.len() as u32 - 1)
            };
            let changes = match change {
                Change::Multi(changes) => &changes[..],
                one => std::slice::from_ref(one),
            };
            for change in changes {
                let effect = match change {
                    Change::None => continue,
                    Change::Created(path, (acl, parent_acl)) => Effect::Created {
                        path: effect(path, &mut batch),
                        acl: kept(acl, &mut batch),
                        parent_acl: kept(parent_acl, &mut batch),
                    },
                    Change::Deleted(path, (acl, parent_acl)) => Effect::Deleted {
                        path: effect(path, &mut batch),
                        acl: kept(acl, &mut batch),
                        parent_acl: kept(parent_acl, &mut batch),
                    },
                    Change::Set(path, (acl, _)) => Effect::DataChanged {
                        path: effect(path, &mut batch),
                        acl: kept(acl, &mut batch),
                    },
                    Change::Over(session) => Effect::SessionClosed { session: *session },
                    Change::Multi(_) => unreachable!("a multi holds no multi"),
                };
                batch.effects.push(effect);
            }
            let effects = first..batch.effects.len() as u32;
            batch.txns.push(PublishedTxn { zxid: Zxid::from_bits(*zxid), effects });
        }
        batch.through = self.writer.committed();
        batch.answers = vec![Answers { list: answers, bytes: bytes.to_vec() }];
        self.reactor.take_published(&batch);
    }
}

/// What a published transaction did.
#[derive(Clone, Debug)]
pub enum Change {
    None,
    Created(String, Acls),
    Deleted(String, Acls),
    Set(String, Acls),
    Over(SessionId),
    /// Several in one transaction.
    Multi(Vec<Change>),
}

/// The ACLs of a znode and of its parent.
type Acls = (Vec<Acl>, Vec<Acl>);

pub fn answer(conn: ConnId, xid: i32, after: u32, outcome: Outcome) -> Answer {
    Answer { conn, xid, after, outcome }
}

pub fn replied(conn: ConnId, xid: i32, after: u32) -> Answer {
    answer(conn, xid, after, Outcome::Reply { err: ErrorCode::Ok, body: 0..0 })
}

pub fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

pub fn request(xid: i32, op: OpCode, body: &[u8]) -> Vec<u8> {
    frame(&[&xid.to_be_bytes()[..], &op.0.to_be_bytes()[..], body].concat())
}

/// exists, getData, getChildren, getChildren2.
pub fn watching(xid: i32, op: OpCode, path: &str, watch: bool) -> Vec<u8> {
    let record = PathWatchRequest { path: path.to_owned(), watch };
    request(xid, op, &codec::to_vec(&record).unwrap())
}

/// addWatch.
pub fn add_watch(xid: i32, path: &str, mode: i32) -> Vec<u8> {
    let record = AddWatchRequest { path: path.to_owned(), mode };
    request(xid, OpCode::ADD_WATCH, &codec::to_vec(&record).unwrap())
}

/// A write of which the reactor looks at nothing but the header.
pub fn write(xid: i32) -> Vec<u8> {
    request(xid, OpCode::SET_DATA, b"record")
}

pub fn connect_frame(session_id: i64, seen: i64, password: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: seen,
        timeout_ms: 10_000,
        session_id,
        password: password.map(|password| password.to_vec().into()),
        read_only: Some(false),
    };
    request.encode(&mut body).unwrap();
    frame(&body)
}

/// The xids of the frames that the client has been sent since the last time.
pub fn xids(fixture: &mut Fixture, conn: ConnId) -> Vec<i32> {
    fixture.frames(conn).iter().map(|frame| frame.xid).collect()
}

pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(i32::from_be_bytes(*length) as usize);
        bytes = rest;
        frames.push(Frame {
            xid: i32::from_be_bytes(body[..4].try_into().unwrap()),
            zxid: i64::from_be_bytes(body[4..12].try_into().unwrap()),
            err: i32::from_be_bytes(body[12..16].try_into().unwrap()),
            body: body[16..].to_vec(),
        });
    }
    frames
}

/// The event frame that a client gets.
pub fn event(zxid: i64, kind: EventType, path: &str) -> Frame {
    let mut out = Vec::new();
    crate::jute::reply::event(&mut out, Zxid::from_bits(zxid), kind, path);
    frames(&out).remove(0)
}
