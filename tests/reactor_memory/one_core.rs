//! A reactor and the consensus core on one thread, without sockets and disk: bytes of clients in,
//! bytes for clients out, and what each step costs between two calls. For tests that count and
//! benches that measure.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use ringkeeper::config::load::{Overrides, load};
use ringkeeper::consensus::core::{Core, Moment};
use ringkeeper::consensus::handoff::Published;
use ringkeeper::consensus::prepare::write::{Prepare, Settings as Preparing};
use ringkeeper::consensus::sessions::Sessions;
use ringkeeper::ids::{ConnId, ReactorId, ServerId, Zxid};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::reply;
use ringkeeper::reactor::admission::Admission;
use ringkeeper::reactor::serve::Reactor;
use ringkeeper::reactor::settings::Settings;
use ringkeeper::tree::{AclId, Owner, Writer};
use ringkeeper::zab::step::Start;

/// The data of every znode.
pub const DATA: [u8; 100] = [7; 100];

const MOMENT: Moment = Moment { wall_ms: 1_700_000_000_000, now_ms: 1_000 };

/// Sent buffers that a turn may give back at once.
const BUFFERS: usize = 512;

/// Clients whose output is sent in one turn, and whose buffers come back.
pub struct OneCore {
    pub reactor: Reactor,
    admission: Arc<Admission>,
    core: Core,
    /// Stands in for the log's buffer.
    log: Vec<u8>,
    last: Zxid,
    sent: Vec<Vec<u8>>,
}

/// The path of a znode.
pub fn path(key: usize) -> String {
    format!("/k/{key:08}")
}

impl OneCore {
    /// With so many znodes below /k.
    pub fn new(znodes: usize) -> OneCore {
        let (mut tree, registry) = Writer::new();
        let last = Zxid::from_bits(1);
        tree.begin(last, 0);
        tree.create("/k", None, AclId::OPEN, Owner::Persistent, None).unwrap();
        for key in 0..znodes {
            tree.create(&path(key), Some(&DATA), AclId::OPEN, Owner::Persistent, None).unwrap();
        }
        tree.publish(last);
        let config = load(None, &Overrides::default()).unwrap().config;
        let admission = Arc::new(Admission::new(1, None, None));
        let settings = Settings::new(&config, 1);
        let reactor = Reactor::new(ReactorId(0), settings, &registry, admission.clone(), 0);
        let start = Start::standalone(ServerId::STANDALONE, tree.newest());
        let sessions = Sessions::new(ServerId::STANDALONE, 2_000, 1);
        let prepare = Prepare::new(tree, sessions, 1, Preparing::default());
        let core = Core::new(prepare, start, 1, MOMENT);
        OneCore { reactor, admission, core, log: Vec::new(), last, sent: Vec::new() }
    }

    /// A client with a session.
    pub fn client(&mut self) -> ConnId {
        let address = "127.0.0.1:4000".parse::<SocketAddr>().unwrap();
        self.admission.admit(address.ip()).unwrap();
        let conn = self.reactor.connected(address);
        self.reactor.receive(conn.slot, &connect());
        self.write();
        assert_eq!(self.send(), 40, "a session was opened");
        conn
    }

    /// Hands the reactor's writes to the consensus core, which prepares, applies, logs and commits
    /// them. None: there were none.
    pub fn commit(&mut self) -> Option<Published> {
        let (log, last) = (&mut self.log, &mut self.last);
        log.clear();
        self.reactor.seal();
        while let Some(submission) = self.reactor.next_sealed() {
            self.core.submit(submission, MOMENT, &mut |zxid, txn: &[u8]| {
                log.extend_from_slice(txn);
                *last = zxid;
            });
        }
        self.core.seal();
        let mut published = None;
        self.core.durable(*last, MOMENT, |batch| {
            assert!(published.replace(batch).is_none(), "all that is handed over is one batch");
        });
        published
    }

    /// The whole way of the writes, there and back.
    pub fn write(&mut self) {
        if let Some(batch) = self.commit() {
            self.reactor.take_published(&batch);
        }
    }

    /// What a turn does with output: it goes out, and its buffers come back. Returns its length.
    pub fn send(&mut self) -> usize {
        let mut bytes = 0;
        let sent = &mut self.sent;
        self.reactor.flush(|_, out| {
            bytes += out.len();
            let mut buffer = mem::take(out);
            buffer.clear();
            sent.push(buffer);
        });
        self.reactor.keep_buffers(sent, BUFFERS);
        bytes
    }
}

/// Asks for a new session, without the byte that old clients leave out.
pub fn connect() -> [u8; 48] {
    let mut connect = [0; 48];
    (connect[3], connect[18], connect[31]) = (44, 0x75, 16);
    connect
}

fn request(op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    let start = reply::begin_frame(&mut frame);
    reply::int(&mut frame, 1);
    reply::int(&mut frame, op.0);
    body(&mut frame);
    reply::finish_frame(&mut frame, start);
    frame
}

/// getData, exists, getChildren or getChildren2.
pub fn read(op: OpCode, path: &str, watch: bool) -> Vec<u8> {
    request(op, |body| {
        reply::string(body, path);
        body.push(watch.into());
    })
}

/// addWatch: 0 persistent, 1 recursive.
pub fn add_watch(path: &str, mode: i32) -> Vec<u8> {
    request(OpCode::ADD_WATCH, |body| {
        reply::string(body, path);
        reply::int(body, mode);
    })
}

/// setData of [`DATA`], whatever the version.
pub fn set(path: &str) -> Vec<u8> {
    request(OpCode::SET_DATA, |body| {
        reply::string(body, path);
        reply::buffer(body, Some(&DATA));
        reply::int(body, -1);
    })
}

/// ping.
pub fn ping() -> Vec<u8> {
    request(OpCode::PING, |_| {})
}
