//! A recorded conversation of many clients with ZooKeeper 3.9.5, replayed: every write must be
//! answered with the same bytes, every session and transaction must get the same number, and every
//! status read in between must be the same. Times alone are masked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;

use ringkeeper::auth::digest::DigestAlgorithm;
use ringkeeper::ids::SessionId;
use ringkeeper::jute::decode::Cursor;
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::frame;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::{AuthPacket, ConnectRequest, ConnectResponse, Id};
use ringkeeper::jute::request;
use ringkeeper::jute::{codec, reply};
use ringkeeper::limits::FRAME_BYTES_DEFAULT;

use super::server::{Server, path_version};

const STAT: usize = reply::STAT_BYTES;

/// What the recorded server had for a clock when it made its first session id.
const BOOT_MS: u64 = 0x2d_3f24;

/// A frame of a client, or a server's, with its connection, in the order of the recording.
struct Recording {
    requests: Vec<(u32, Vec<u8>)>,
    replies: HashMap<u32, VecDeque<Vec<u8>>>,
}

fn recording() -> Recording {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/client/all-operations.jsonl");
    let text = fs::read_to_string(path).unwrap();
    let mut pending: BTreeMap<(u32, bool), Vec<u8>> = BTreeMap::new();
    let mut recording = Recording { requests: Vec::new(), replies: HashMap::new() };
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["ev"] != "data" {
            continue;
        }
        let conn = line["conn"].as_u64().unwrap() as u32;
        let from_client = line["dir"] == ">";
        let buffer = pending.entry((conn, from_client)).or_default();
        buffer.extend(unhex(line["hex"].as_str().unwrap()));
        while let Ok(frame::Next::Frame(body)) = frame::next(buffer, FRAME_BYTES_DEFAULT) {
            let body = body.to_vec();
            buffer.drain(..frame::LENGTH_BYTES + body.len());
            if from_client {
                recording.requests.push((conn, body));
            } else {
                recording.replies.entry(conn).or_default().push_back(body);
            }
        }
    }
    recording
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A client connection of the recording.
struct Client {
    session: SessionId,
    ids: Vec<Id>,
}

struct Player {
    server: Server,
    clients: HashMap<u32, Client>,
    replies: HashMap<u32, VecDeque<Vec<u8>>>,
    writes: usize,
    reads: usize,
}

#[test]
fn every_recorded_write_is_answered_with_the_same_bytes() {
    let Recording { requests, replies } = recording();
    let server = Server::new(BOOT_MS);
    let clients = HashMap::new();
    let mut player = Player { server, clients, replies, writes: 0, reads: 0 };
    // An identity of its own for each connection, and one that may do everything.
    player.server.define(0, &[id("super", "")]);
    for (conn, frame) in requests {
        if player.clients.contains_key(&conn) {
            player.request(conn, &frame);
        } else {
            player.connect(conn, &frame);
        }
    }
    assert!(player.writes > 150, "{} writes", player.writes);
    assert!(player.reads > 15, "{} reads", player.reads);

    let after = player.server.restarted();
    assert_eq!(after.image(), player.server.image(), "the log makes the same tree");
    assert_eq!(after.sessions(), player.server.sessions());
    assert_eq!(after.committed(), player.server.committed());
}

fn id(scheme: &str, id: &str) -> Id {
    Id { scheme: scheme.to_owned(), id: id.to_owned() }
}

impl Player {
    fn connect(&mut self, conn: u32, frame: &[u8]) {
        let request = ConnectRequest::decode(frame).unwrap();
        let Some(reply) = self.replies.get_mut(&conn).and_then(VecDeque::pop_front) else {
            return; // Refused by the reactor: it has seen a zxid that is yet to come.
        };
        let expected = ConnectResponse::decode(&reply).unwrap();
        let session = SessionId::from_bits(expected.session_id);
        if session == SessionId::NONE {
            return; // A wrong password is the reactor's business, too.
        }
        assert_eq!(expected.password.unwrap().as_ref(), session.password());
        if request.session_id == 0 {
            assert_eq!(self.server.open(conn, expected.timeout_ms), session);
        } else {
            use ringkeeper::consensus::handoff::{Entry, Outcome};
            let conn = super::server::conn(conn);
            let timeout_ms = expected.timeout_ms;
            let entry = Entry::RenewSession { conn, session, timeout_ms };
            let published = self.server.run(vec![entry], Vec::new());
            let list = &published.answers[0].list;
            let [closed, opened] = &list[..] else { panic!("{list:?}") };
            assert!(matches!(closed.outcome, Outcome::Close), "the connection before is closed");
            assert!(opened.conn == conn, "{opened:?}");
            assert!(matches!(opened.outcome, Outcome::SessionOpened { .. }), "{opened:?}");
        }
        self.clients.insert(conn, Client { session, ids: vec![id("ip", "10.0.0.1")] });
        self.define(conn);
    }

    fn define(&mut self, conn: u32) {
        let ids = &self.clients[&conn].ids;
        self.server.define(conn, ids);
    }

    fn request(&mut self, conn: u32, frame: &[u8]) {
        let (header, body) = request::header(frame).unwrap();
        if header.op == OpCode::CREATE_SESSION {
            // Answered with a connect response, which is the reactor's business.
            let session = self.clients[&conn].session;
            let reply = self.server.write((conn, session, header.xid), header.op, conn, body);
            assert_eq!(reply.unwrap().err, ErrorCode::Ok);
            return;
        }
        let replies = self.replies.entry(conn).or_default();
        let xid_of = |reply: &[u8]| Cursor::new(reply).int("xid").unwrap();
        let position = replies.iter().position(|reply| xid_of(reply) == header.xid);
        let Some(expected) = position.and_then(|position| replies.remove(position)) else {
            return;
        };
        let mut cursor = Cursor::new(&expected);
        cursor.int("xid").unwrap();
        let zxid = cursor.long("zxid").unwrap();
        let err = cursor.int("err").unwrap();
        match header.op {
            OpCode::AUTH if err == 0 => self.authenticate(conn, body),
            OpCode::EXISTS | OpCode::GET_DATA if err == 0 => {
                let body = cursor.rest();
                let path = request::PathWatch::decode(frame[8..].as_ref()).unwrap().path;
                self.check_status(path, &body[body.len() - STAT..]);
            }
            op if is_write(op) => self.write(conn, header, body, zxid, err, cursor.rest()),
            _ => {}
        }
    }

    fn authenticate(&mut self, conn: u32, body: &[u8]) {
        let packet: AuthPacket = codec::from_slice(body).unwrap();
        if packet.scheme != "digest" {
            return;
        }
        let text = String::from_utf8(packet.auth.unwrap().into_vec()).unwrap();
        let ids = &mut self.clients.get_mut(&conn).unwrap().ids;
        ids.push(DigestAlgorithm::Sha1.id(&text));
        if text.starts_with("super:") {
            ids.push(id("super", ""));
        }
        self.define(conn);
    }

    fn check_status(&mut self, path: &str, expected: &[u8]) {
        let path = if path.is_empty() { "/" } else { path };
        let mut status = Vec::new();
        let seen = self.server.see(path, |node| reply::stat(&mut status, &node.stat()));
        assert!(seen.is_some(), "{path} is not there");
        assert_eq!(masked_stat(&status), masked_stat(expected), "status of {path}");
        self.reads += 1;
    }

    fn use_up_a_zxid(&mut self, conn: u32) {
        let session = self.clients[&conn].session;
        let body = path_version("/no/such/znode", -1);
        let reply = self.server.write((conn, session, 0), OpCode::DELETE, 0, &body);
        assert_eq!(reply.unwrap().err, ErrorCode::NoNode);
    }

    fn write(
        &mut self,
        conn: u32,
        header: request::Header,
        body: &[u8],
        zxid: i64,
        err: i32,
        rest: &[u8],
    ) {
        let session = self.clients[&conn].session;
        let name = format!("connection {conn}, xid {}, {:?}", header.xid, header.op);
        let mut body = body.to_vec();
        let (mut op, mut identity) = (header.op, conn);
        match (op, err) {
            // Only the server itself deletes containers; here the client does, with all rights.
            (OpCode::DELETE_CONTAINER, 0) => {
                let path = request::delete_container(&body).unwrap();
                (op, identity, body) = (OpCode::DELETE, 0, path_version(path, -1));
            }
            (OpCode::DELETE_CONTAINER, _) => return self.use_up_a_zxid(conn),
            // Flag 4 means a container: refused unless createContainer asks for it. ZooKeeper
            // makes a plain znode of it.
            (OpCode::CREATE, 0) if body.ends_with(&4_i32.to_be_bytes()) => {
                *body.last_mut().unwrap() = 0;
            }
            _ => {}
        }
        let ours = self.server.write((conn, session, header.xid), op, identity, &body);
        let ours = ours.unwrap_or_else(|| panic!("{name}: closed without a reply"));
        assert_eq!(ours.err.code(), err, "{name}: error");
        assert_eq!(ours.zxid.bits(), zxid, "{name}: zxid");
        assert_eq!(masked(op, &ours.body), masked(op, rest), "{name}: body");
        assert_eq!(ours.closes, op == OpCode::CLOSE_SESSION, "{name}: closes");
        self.writes += 1;
    }
}

fn is_write(op: OpCode) -> bool {
    [
        OpCode::CREATE,
        OpCode::CREATE2,
        OpCode::CREATE_CONTAINER,
        OpCode::CREATE_TTL,
        OpCode::DELETE,
        OpCode::DELETE_CONTAINER,
        OpCode::SET_DATA,
        OpCode::SET_ACL,
        OpCode::MULTI,
        OpCode::RECONFIG,
        OpCode::CLOSE_SESSION,
    ]
    .contains(&op)
}

/// A reply's body without its times.
fn masked(op: OpCode, body: &[u8]) -> Vec<u8> {
    match op {
        _ if body.is_empty() => Vec::new(),
        OpCode::CREATE | OpCode::DELETE | OpCode::CLOSE_SESSION => body.to_vec(),
        OpCode::MULTI => masked_multi(body),
        _ => {
            let (front, stat) = body.split_at(body.len() - STAT);
            [front, &masked_stat(stat)].concat()
        }
    }
}

fn masked_stat(stat: &[u8]) -> Vec<u8> {
    let mut stat = stat.to_vec();
    assert_eq!(stat.len(), STAT);
    // The times of the first znodes are 0, and stay so.
    for time in [16..24, 24..32] {
        let set = stat[time.clone()].iter().any(|byte| *byte != 0);
        stat[time].fill(u8::from(set));
    }
    stat
}

fn masked_multi(body: &[u8]) -> Vec<u8> {
    let mut masked = body.to_vec();
    let mut cursor = Cursor::new(body);
    loop {
        let op = OpCode(cursor.int("type").unwrap());
        let done = cursor.bool("done").unwrap();
        cursor.int("err").unwrap();
        if done {
            assert_eq!(cursor.left(), 0);
            return masked;
        }
        match op {
            OpCode::ERROR => {
                cursor.int("err").unwrap();
            }
            OpCode::CREATE => {
                cursor.str("path").unwrap();
            }
            OpCode::CREATE2 | OpCode::SET_DATA => {
                if op == OpCode::CREATE2 {
                    cursor.str("path").unwrap();
                }
                let at = cursor.at();
                let stat = masked_stat(cursor.take("stat", STAT).unwrap());
                masked[at..at + STAT].copy_from_slice(&stat);
            }
            _ => {}
        }
    }
}
