//! One reactor without its sockets: bytes of clients come in, bytes for clients and submissions
//! for the consensus core come out, in lists that `turn` carries to where they go. No clock, ring
//! or channel inside, so that all of it is tested with plain bytes.
//!
//! Here: the state, and the way of a request. `open` has handshakes and authentication, `announce`
//! what the consensus core publishes, `lapse` the passing of time, `depart` how connections end.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::report::ConnectionCounters;
use crate::consensus::handoff::{Entry, Submission};
use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
use crate::jute::decode::Cursor;
use crate::jute::error_code::ErrorCode;
use crate::jute::frame::{self, LENGTH_BYTES, Next};
use crate::jute::opcode::OpCode;
use crate::jute::reply;
use crate::jute::request::{self, Header};
use crate::limits::{
    REPLY_BYTES_HELD_MAX, REPLY_BYTES_WAITING_MAX, SUBMISSION_BYTES_MAX, SUBMISSION_ENTRIES_MAX,
    SUBMISSIONS_SEALED_MAX,
};
use crate::tree;

use super::admission::Admission;
use super::connection::{Halts, Stage};
use super::connections::Connections;
use super::counters::Counters;
use super::identity::{Identities, ip_id};
use super::pipeline::Ready;
use super::read::{self, Reading};
use super::settings::Settings;
use super::watches::Watches;

/// The zxid in the reply to a type that is not known.
const UNIMPLEMENTED_ZXID: Zxid = Zxid::from_bits(-1);

/// One reactor's connections, sessions and watches, and its view of the tree.
pub struct Reactor {
    pub(super) id: ReactorId,
    pub(super) settings: Settings,
    pub(super) reader: tree::Reader,
    /// The last transaction taken; at or after the reader's pin.
    pub(super) applied: Zxid,
    pub(super) connections: Connections,
    /// By session: the slot of the connection that carries it.
    pub(super) sessions: HashMap<SessionId, u32>,
    pub(super) watches: Watches,
    pub(super) identities: Identities,
    pub(super) admission: Arc<Admission>,
    pub(super) submission: Submission,
    /// Submissions that are complete but not handed over, oldest first.
    pub(super) sealed: VecDeque<Submission>,
    /// Milliseconds since the reactor began.
    pub(super) now_ms: u64,
    /// Milliseconds since 1970 when the reactor began.
    pub(super) began_ms: u64,
    pub(super) touched_ms: u64,
    pub(super) swept_ms: u64,
    /// Requests that the consensus core has.
    pub(super) outstanding: usize,
    pub(super) counters: Counters,
    /// Since the start, whatever operators reset.
    pub(super) clients: ConnectionCounters,
    pub(super) stopping: bool,
    pub(super) lists: Lists,
}

/// Slots that something is to be done about. A slot may have got another tenant meanwhile; who
/// works a list off looks at the connection's own state.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Have output.
    pub dirty: Vec<u32>,
    /// Their socket shall be paused, or resumed, as `Connection::paused` says.
    pub reading: Vec<u32>,
    /// May be served again.
    pub resumable: Vec<u32>,
    /// Halted by `Halts::REPLIES`.
    pub full: Vec<u32>,
    /// Halted by `Halts::WRITES`.
    pub blocked: Vec<u32>,
    /// Halted by `Halts::OUTSTANDING`.
    pub throttled: Vec<u32>,
    /// Were heard of since the last report of touches.
    pub heard: Vec<u32>,
    /// Leave.
    pub leaving: Vec<u32>,
    /// Sessions that are over, whose connections go when the batch is done.
    pub over: Vec<SessionId>,
    /// Empty buffers for output.
    pub buffers: Vec<Vec<u8>>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Yes,
    /// It has to come again when the connection is no longer halted.
    Later,
}

impl Reactor {
    /// A reactor without connections that reads the newest version `registry` has. `began_ms` is
    /// the wall clock, milliseconds since 1970.
    pub fn new(
        id: ReactorId,
        settings: Settings,
        registry: &tree::Registry,
        admission: Arc<Admission>,
        began_ms: u64,
    ) -> Reactor {
        let mut reader = registry.reader();
        let applied = reader.pin_newest();
        Reactor {
            id,
            settings,
            reader,
            applied,
            connections: Connections::default(),
            sessions: HashMap::new(),
            watches: Watches::default(),
            identities: Identities::default(),
            admission,
            submission: Submission::new(id),
            sealed: VecDeque::new(),
            now_ms: 0,
            began_ms,
            touched_ms: 0,
            swept_ms: 0,
            outstanding: 0,
            counters: Counters::default(),
            clients: ConnectionCounters::default(),
            stopping: false,
            lists: Lists::default(),
        }
    }

    /// The time, in milliseconds since the reactor began. Never goes back.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A client connected, and was admitted for this reactor. Its socket goes by the slot.
    pub fn connected(&mut self, address: SocketAddr) -> ConnId {
        let ids = [ip_id(address.ip())];
        let identity = self.identities.acquire(&ids, &mut self.submission);
        self.connections.add(address, identity, self.now_ms)
    }

    /// Bytes came from the client in `slot`.
    pub fn receive(&mut self, slot: u32, bytes: &[u8]) {
        self.clients.bytes_received += bytes.len() as u64;
        let connection = self.connections.at(slot);
        if connection.is_leaving() {
            return;
        }
        if matches!(connection.stage, Stage::Open { .. }) {
            connection.heard_ms = self.now_ms;
            if !connection.heard {
                connection.heard = true;
                self.lists.heard.push(slot);
            }
        }
        if !connection.is_read() {
            connection.input.extend_from_slice(bytes);
            if !connection.paused {
                connection.paused = true;
                self.lists.reading.push(slot);
            }
            return;
        }
        if connection.input.is_empty() {
            let served = self.serve(slot, bytes);
            let connection = self.connections.at(slot);
            if served < bytes.len() && !connection.is_leaving() {
                connection.input.extend_from_slice(&bytes[served..]);
            }
        } else {
            connection.input.extend_from_slice(bytes);
            self.serve_input(slot);
        }
    }

    /// Serves what the connection could not be served before.
    fn serve_input(&mut self, slot: u32) {
        let input = std::mem::take(&mut self.connections.at(slot).input);
        let served = self.serve(slot, &input);
        let connection = self.connections.at(slot);
        if !connection.is_leaving() {
            connection.input = input;
            connection.drop_input(served);
        }
    }

    /// Goes on with the connections that were halted and are not any more.
    pub fn resume(&mut self) {
        while let Some(slot) = self.lists.resumable.pop() {
            let Some(connection) = self.connections.find(slot) else { continue };
            if !connection.is_read() {
                continue;
            }
            if connection.paused {
                connection.paused = false;
                self.lists.reading.push(slot);
            }
            if !connection.input.is_empty() {
                self.serve_input(slot);
            }
        }
    }

    /// Serves complete frames at the start of `bytes` until the connection is halted; returns how
    /// many bytes they took.
    fn serve(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.connections.at(slot).is_read() {
            let rest = &bytes[at..];
            if self.connections.at(slot).stage == Stage::Greeting && self.is_word(slot, rest) {
                return bytes.len();
            }
            match frame::next(rest, self.settings.frame_bytes_max) {
                Ok(Next::Frame(body)) => {
                    if self.frame(slot, body) == Served::Later {
                        break;
                    }
                    at += LENGTH_BYTES + body.len();
                    self.connections.at(slot).halt_if_full(&mut self.lists.full);
                }
                Ok(Next::Incomplete { .. }) => break,
                Err(error) => {
                    tracing::debug!(slot, %error, "closing a connection");
                    self.close_now(slot);
                }
            }
        }
        self.has_output(slot);
        at
    }

    fn frame(&mut self, slot: u32, body: &[u8]) -> Served {
        match self.connections.at(slot).stage {
            Stage::Greeting => self.greet(slot, body),
            Stage::Open { session, .. } => return self.request(slot, session, body),
            Stage::Opening { .. } | Stage::Leaving(_) => unreachable!("is not read"),
        }
        Served::Yes
    }

    fn request(&mut self, slot: u32, session: SessionId, frame: &[u8]) -> Served {
        let Ok((header, body)) = request::header(frame) else {
            self.close_now(slot);
            return Served::Yes;
        };
        let served = match header.op {
            op if read::is_read(op) => self.read(slot, frame, header, body),
            OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::DELETE
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::MULTI
            | OpCode::RECONFIG
            | OpCode::CLOSE_SESSION => self.write(slot, session, header, body),
            OpCode::SYNC => self.sync(slot, session, frame, header, body),
            OpCode::AUTH => {
                self.authenticate(slot, header, body);
                Served::Yes
            }
            _ => {
                self.refuse_type(slot, header);
                Served::Yes
            }
        };
        if served == Served::Yes {
            self.counters.packets_received += 1;
            if let Some(connection) = self.connections.find(slot) {
                connection.tally.received += 1;
            }
        }
        served
    }

    /// A read ends here, on this core, unless it has to wait for a write of its own session.
    #[inline]
    fn read(&mut self, slot: u32, frame: &[u8], header: Header, body: &[u8]) -> Served {
        let connection = self.connections.at(slot);
        if !connection.pipeline.is_empty() {
            if !connection.pipeline.has_room(frame.len()) {
                connection.halts.set(Halts::PIPELINE);
                return Served::Later;
            }
            connection.pipeline.hold(frame, connection.identity, self.now_ms);
            return Served::Yes;
        }
        if connection.out.capacity() == 0 {
            connection.out = self.lists.buffers.pop().unwrap_or_default();
        }
        let reading = Reading {
            view: self.reader.at(self.applied),
            zxid: self.applied,
            conn: connection.id,
            ids: self.identities.ids(connection.identity),
            skip_acl: self.settings.skip_acl,
            watches: &mut self.watches,
            out: &mut connection.out,
        };
        reading.answer(header, body);
        connection.replied(header.op, header.xid, self.applied, self.now_ms, self.now_ms);
        self.counters.packets_sent += 1;
        self.counters.latencies.add(0);
        self.counters.read_latencies.add(0);
        Served::Yes
    }

    fn write(&mut self, slot: u32, session: SessionId, header: Header, body: &[u8]) -> Served {
        if !self.may_submit(slot, body.len()) {
            return Served::Later;
        }
        let connection = self.connections.at(slot);
        let start = self.submission.bytes.len() as u32;
        self.submission.bytes.extend_from_slice(body);
        self.submission.entries.push(Entry::Write {
            conn: connection.id,
            session,
            xid: header.xid,
            op: header.op,
            identity: connection.identity,
            body: start..start + body.len() as u32,
        });
        connection.pipeline.wrote(header.xid, header.op, self.now_ms);
        if header.op == OpCode::CLOSE_SESSION {
            // What the client sends behind it is lost, as in ZooKeeper.
            connection.halts.set(Halts::LAST);
        }
        self.asked(slot);
        Served::Yes
    }

    fn sync(
        &mut self,
        slot: u32,
        session: SessionId,
        frame: &[u8],
        header: Header,
        body: &[u8],
    ) -> Served {
        let Ok(Some(path)) = Cursor::new(body).buffer("path") else {
            return self.read(slot, frame, header, body);
        };
        if !self.may_submit(slot, path.len()) {
            return Served::Later;
        }
        let connection = self.connections.at(slot);
        let (conn, xid) = (connection.id, header.xid);
        self.submission.entries.push(Entry::Sync { conn, session, xid });
        connection.pipeline.synced(xid, path, self.now_ms);
        self.asked(slot);
        Served::Yes
    }

    /// Whether a request of `slot` may go to the consensus core now; halts the connection if not.
    fn may_submit(&mut self, slot: u32, length: usize) -> bool {
        let connection = self.connections.at(slot);
        if self.sealed.len() >= SUBMISSIONS_SEALED_MAX {
            connection.halts.set(Halts::WRITES);
            self.lists.blocked.push(slot);
            return false;
        }
        if !connection.pipeline.has_room(length) {
            connection.halts.set(Halts::PIPELINE);
            return false;
        }
        let full = self.submission.entries.len() >= SUBMISSION_ENTRIES_MAX
            || self.submission.bytes.len() + length > SUBMISSION_BYTES_MAX;
        if full {
            self.seal();
        }
        true
    }

    /// A request of `slot` is in the submission.
    fn asked(&mut self, slot: u32) {
        self.outstanding += 1;
        if self.outstanding > self.settings.outstanding_max {
            self.connections.at(slot).halts.set(Halts::OUTSTANDING);
            self.lists.throttled.push(slot);
        }
    }

    /// Ends the submission that is being gathered.
    pub fn seal(&mut self) {
        if !self.submission.entries.is_empty() {
            let next = Submission::new(self.id);
            self.sealed.push_back(std::mem::replace(&mut self.submission, next));
        }
    }

    /// The oldest submission that is to be handed over. Give it back with `hand_over_later` when
    /// the consensus core has no room.
    pub fn next_sealed(&mut self) -> Option<Submission> {
        self.sealed.pop_front()
    }

    /// The consensus core has no room for `submission`.
    pub fn hand_over_later(&mut self, submission: Submission) {
        self.sealed.push_front(submission);
    }

    /// Whether submissions wait for room at the consensus core.
    pub fn is_blocked(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Submissions were handed over: who had to stop writing goes on.
    pub fn unblock(&mut self) {
        if self.sealed.len() >= SUBMISSIONS_SEALED_MAX {
            return;
        }
        while let Some(slot) = self.lists.blocked.pop() {
            self.clear(slot, Halts::WRITES);
        }
    }

    /// A type that ZooKeeper does not know, or that this server does not: said at once, whatever
    /// waits, and the connection closed. Its session lives on.
    fn refuse_type(&mut self, slot: u32, header: Header) {
        tracing::debug!(slot, op = header.op.0, "closing a connection: unknown request type");
        let connection = self.connections.at(slot);
        let err = ErrorCode::Unimplemented;
        reply::bare(&mut connection.out, header.xid, UNIMPLEMENTED_ZXID, err);
        self.counters.packets_sent += 1;
        self.close_after_output(slot);
    }

    /// Runs the held requests of `slot` whose turn it is, as long as its client reads the replies.
    pub(super) fn run_held(&mut self, slot: u32) {
        self.run_ready(slot, REPLY_BYTES_WAITING_MAX);
        self.connections.at(slot).halt_if_full(&mut self.lists.full);
        self.pipeline_moved(slot);
    }

    /// A transaction of `conn`'s own session is about to be applied. Reads that came before it and
    /// wait for the client to read others run now, for they must not see it.
    pub(super) fn run_before_own_write(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        if !connection.halts.has(Halts::REPLIES) {
            // Then no read waits that could run.
            return;
        }
        if self.run_ready(conn.slot, REPLY_BYTES_HELD_MAX) {
            self.pipeline_moved(conn.slot);
        } else {
            tracing::info!(slot = conn.slot, "closing a connection that writes behind its reads");
            self.close_now(conn.slot);
        }
    }

    /// Runs the held requests of `slot` whose turn it is until more than `bytes_max` waits for its
    /// client. Returns whether none is left.
    fn run_ready(&mut self, slot: u32, bytes_max: usize) -> bool {
        let connection = self.connections.at(slot);
        while let Some(ready) = connection.pipeline.ready() {
            if connection.out.len() > bytes_max {
                return false;
            }
            match ready {
                Ready::Answer { frame } => connection.out.extend_from_slice(frame),
                Ready::Read { frame, identity, since_ms } => {
                    let (header, body) = request::header(frame).expect("read before it was held");
                    let reading = Reading {
                        view: self.reader.at(self.applied),
                        zxid: self.applied,
                        conn: connection.id,
                        ids: self.identities.ids(identity),
                        skip_acl: self.settings.skip_acl,
                        watches: &mut self.watches,
                        out: &mut connection.out,
                    };
                    reading.answer(header, body);
                    connection.replied(header.op, header.xid, self.applied, since_ms, self.now_ms);
                    let latency_ms = self.now_ms - since_ms;
                    self.counters.packets_sent += 1;
                    self.counters.latencies.add(latency_ms);
                    self.counters.read_latencies.add(latency_ms);
                }
            }
            connection.pipeline.pop();
        }
        true
    }

    /// The pipeline of `slot` is shorter than it was.
    fn pipeline_moved(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.pipeline.is_empty() {
            for old in connection.old_identities.drain(..) {
                self.identities.release(old, &mut self.submission);
            }
            if self.stopping || connection.closing_ms.is_some() {
                return self.close_after_output(slot);
            }
            self.clear(slot, Halts::OUTSTANDING);
        }
        self.clear(slot, Halts::PIPELINE);
        self.has_output(slot);
    }

    /// `halt` no longer holds for the connection in `slot`.
    pub(super) fn clear(&mut self, slot: u32, halt: Halts) {
        if let Some(connection) = self.connections.find(slot)
            && connection.halts.clear(halt)
        {
            self.lists.resumable.push(slot);
        }
    }

    /// Notes that there is output for `slot`, if there is.
    pub(super) fn has_output(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.out.is_empty() && !connection.dirty {
            connection.dirty = true;
            self.lists.dirty.push(slot);
        }
    }

    /// The client in `slot` has read its replies, as far as anybody can tell.
    pub fn replies_read(&mut self, slot: u32) {
        let Some(connection) = self.connections.find(slot) else { return };
        if connection.is_leaving() || !connection.halts.has(Halts::REPLIES) {
            return;
        }
        if !connection.out.is_empty() {
            // It goes to the socket at the end of this turn; look again in the next.
            return self.lists.full.push(slot);
        }
        self.clear(slot, Halts::REPLIES);
        self.run_held(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::handoff::Outcome;
    use crate::limits::{DEPARTURE_MS_MAX, FRAME_BYTES_DEFAULT, PIPELINE_REQUESTS_MAX};
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Change, Fixture, answer, frame, replied, request, settings, watching, write,
    };
    use crate::tree::acl;

    fn xids(fixture: &mut Fixture, conn: ConnId) -> Vec<i32> {
        fixture.frames(conn).iter().map(|frame| frame.xid).collect()
    }

    #[test]
    fn reads_are_answered_in_place_and_from_one_version() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let txn = fixture.create("/a", b"data");
        // Committed, but the reactor has not been told.
        fixture.reactor.receive(client.slot, &watching(1, OpCode::EXISTS, "/a", false));
        assert_eq!(fixture.frames(client)[0].err, ErrorCode::NoNode.code());
        fixture.publish(&[txn], vec![], &[]);
        let burst = [
            watching(2, OpCode::GET_DATA, "/a", false),
            watching(3, OpCode::EXISTS, "", false),
            watching(4, OpCode::GET_CHILDREN, "/", false),
            watching(5, OpCode::GET_CHILDREN2, "/a", false),
            watching(6, OpCode::GET_DATA, "/none", false),
            request(7, OpCode::PING, &[]),
            watching(8, OpCode::EXISTS, "/a\0", false),
            request(9, OpCode::GET_DATA, &(-1_i32).to_be_bytes()),
            request(10, OpCode::SYNC, &(-1_i32).to_be_bytes()),
        ];
        fixture.reactor.receive(client.slot, &burst.concat());
        let frames = fixture.frames(client);
        let heads: Vec<_> = frames.iter().map(|frame| (frame.xid, frame.err)).collect();
        assert_eq!(
            heads,
            [(2, 0), (3, 0), (4, 0), (5, 0), (6, -101), (-2, 0), (8, -8), (9, -5), (10, -5)]
        );
        assert!(frames.iter().all(|frame| frame.zxid == 1));
        assert_eq!(frames[0].body[..8], *b"\0\0\0\x04data");
        assert_eq!((frames[0].body.len(), frames[1].body.len()), (8 + 68, 68));
        assert_eq!((&frames[3].body[..4], frames[3].body.len()), (&[0; 4][..], 72));
        assert!(fixture.entries().is_empty());
    }

    #[test]
    fn a_request_may_come_in_pieces_and_many_in_one() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let bytes: Vec<u8> =
            (0..5).flat_map(|xid| watching(xid, OpCode::EXISTS, "/zookeeper", false)).collect();
        for size in [1, 3, 7, 20, bytes.len()] {
            for piece in bytes.chunks(size) {
                fixture.reactor.receive(client.slot, piece);
            }
            assert_eq!(xids(&mut fixture, client), [0, 1, 2, 3, 4], "in pieces of {size}");
        }
    }

    #[test]
    fn a_read_waits_for_its_sessions_writes_and_sees_them() {
        let mut fixture = Fixture::new();
        let (client, other) = (fixture.client(), fixture.client());
        let burst = [write(1), watching(2, OpCode::GET_DATA, "/a", false), write(3)];
        fixture.reactor.receive(client.slot, &burst.concat());
        fixture.reactor.receive(client.slot, &watching(4, OpCode::EXISTS, "/b", false));
        fixture.reactor.receive(other.slot, &watching(1, OpCode::EXISTS, "/a", false));
        assert_eq!(xids(&mut fixture, other), [1], "another session's read does not wait");
        assert_eq!(fixture.entries(), ["Write", "Write"]);
        assert_eq!(xids(&mut fixture, client), [0i32; 0]);
        let txns = [fixture.create("/a", b"1"), fixture.create("/b", b"")];
        let answers = vec![replied(client, 1, 1), replied(client, 3, 2)];
        fixture.publish(&txns, answers, &[]);
        let frames = fixture.frames(client);
        let heads: Vec<_> = frames.iter().map(|it| (it.xid, it.zxid, it.err)).collect();
        assert_eq!(heads, [(1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0)]);
    }

    #[test]
    fn a_held_read_sees_its_transaction_and_not_the_rest_of_the_batch() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = [write(1), watching(2, OpCode::EXISTS, "/later", false)];
        fixture.reactor.receive(client.slot, &burst.concat());
        let txns = [fixture.create("/a", b""), fixture.create("/later", b"")];
        fixture.publish(&txns, vec![replied(client, 1, 1)], &[]);
        let frames = fixture.frames(client);
        assert_eq!((frames[1].xid, frames[1].zxid, frames[1].err), (2, 1, -101));
    }

    #[test]
    fn sync_echoes_its_path_in_its_turn() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let path = b"\0\0\0\x05/nope";
        let burst = [write(1), request(2, OpCode::SYNC, path)];
        fixture.reactor.receive(client.slot, &burst.concat());
        assert_eq!(fixture.entries(), ["Write", "Sync"]);
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 1, 1), replied(client, 2, 1)], &[]);
        let frames = fixture.frames(client);
        assert_eq!((frames[1].xid, &frames[1].body[..]), (2, &path[..]));
    }

    #[test]
    fn an_unknown_type_is_refused_at_once_and_the_connection_closed() {
        for op in [-1, 0, 13, 17, 20, 22, 99, 103, 104, 106, 107, -10] {
            let mut fixture = Fixture::new();
            let client = fixture.client();
            let burst = [write(1), request(2, OpCode(op), &[0; 30]), write(3)];
            fixture.reactor.receive(client.slot, &burst.concat());
            let frames = fixture.frames(client);
            assert_eq!(frames.len(), 1, "type {op}");
            assert_eq!((frames[0].xid, frames[0].zxid, frames[0].err), (2, -1, -6));
            assert_eq!(fixture.departures(), [(0, Leave::Close { after_send: true })]);
            let entries = fixture.entries();
            assert_eq!(entries, ["Write", "ForgetIdentity", "Touch", "Disconnected"]);
        }
    }

    #[test]
    fn a_length_that_cannot_be_costs_the_connection() {
        for length in [-1, FRAME_BYTES_DEFAULT as i32 + 1, i32::MIN, i32::MAX] {
            let mut fixture = Fixture::new();
            let client = fixture.client();
            fixture.reactor.receive(client.slot, &length.to_be_bytes());
            assert_eq!(fixture.departures(), [(0, Leave::Close { after_send: false })]);
        }
        let mut fixture = Fixture::new();
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &frame(&[0; 7]));
        assert_eq!(fixture.departures().len(), 1, "a frame without a header");
    }

    #[test]
    fn the_largest_frame_is_served_and_its_room_given_back() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let body = vec![0; FRAME_BYTES_DEFAULT - 8];
        let bytes = request(1, OpCode::SET_DATA, &body);
        for piece in bytes.chunks(16 << 10) {
            fixture.reactor.receive(client.slot, piece);
        }
        assert_eq!(fixture.submitted().bytes.len(), body.len());
        assert!(fixture.reactor.connections.at(client.slot).input.capacity() <= 4 << 10);
    }

    #[test]
    fn a_client_that_does_not_read_is_not_read_from() {
        let mut fixture = Fixture::new();
        let txn = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[txn], vec![], &[]);
        let burst: Vec<u8> =
            (0..20).flat_map(|xid| watching(xid, OpCode::GET_DATA, "/big", false)).collect();
        fixture.reactor.receive(client.slot, &burst);
        let waiting = fixture.reactor.connections.at(client.slot).out.len();
        assert!(waiting < 3 * 700_000, "{waiting} bytes wait");
        let mut paused = Vec::new();
        fixture.reactor.receive(client.slot, &watching(20, OpCode::EXISTS, "/", false));
        fixture.reactor.take_reading(|slot, pause| paused.push((slot, pause)));
        assert_eq!(paused, [(client.slot, true)]);
        let mut got = Vec::new();
        for _ in 0..20 {
            got.extend(xids(&mut fixture, client));
            for slot in fixture.reactor.take_full() {
                fixture.reactor.replies_read(slot);
            }
            fixture.reactor.resume();
        }
        assert_eq!(got, (0..=20).collect::<Vec<_>>());
        fixture.reactor.take_reading(|slot, pause| paused.push((slot, pause)));
        assert_eq!(paused.last(), Some(&(client.slot, false)));
    }

    #[test]
    fn a_client_that_writes_and_does_not_read_is_not_read_from() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst: Vec<u8> = (0..12).flat_map(write).collect();
        fixture.reactor.receive(client.slot, &burst);
        assert_eq!(fixture.entries().len(), 12);
        let txn = fixture.nothing(Change::None);
        let reply = || Outcome::Reply { err: ErrorCode::Ok, body: 0..100_000 };
        let answers = (0..12).map(|xid| answer(client, xid, 1, reply())).collect();
        fixture.publish(&[txn], answers, &vec![7; 100_000]);
        fixture.reactor.receive(client.slot, &write(12));
        fixture.reactor.resume();
        assert!(fixture.entries().is_empty(), "read from, and 1.2 MB wait for it");
        assert_eq!(xids(&mut fixture, client).len(), 12);
        for slot in fixture.reactor.take_full() {
            fixture.reactor.replies_read(slot);
        }
        fixture.reactor.resume();
        assert_eq!(fixture.entries(), ["Write"]);
    }

    #[test]
    fn a_client_that_authenticates_and_does_not_read_is_not_read_from() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = request(-4, OpCode::AUTH, &[]).repeat(REPLY_BYTES_WAITING_MAX / 10);
        fixture.reactor.receive(client.slot, &burst);
        let waiting = fixture.reactor.connections.at(client.slot).out.len();
        assert!(waiting <= REPLY_BYTES_WAITING_MAX + 20, "{waiting} bytes wait");
    }

    #[test]
    fn held_reads_do_not_outgrow_what_may_wait_and_answers_keep_their_order() {
        let mut fixture = Fixture::new();
        let big = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[big], vec![], &[]);
        let mut burst = write(0);
        (1..8).for_each(|xid| burst.extend(watching(xid, OpCode::GET_DATA, "/big", false)));
        burst.extend(write(8));
        burst.extend(watching(9, OpCode::EXISTS, "/", false));
        fixture.reactor.receive(client.slot, &burst);
        // The second write fails, and so has no transaction that the reads could see.
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 0, 1), replied(client, 8, 1)], &[]);
        assert!(fixture.reactor.connections.at(client.slot).out.len() < 3 * 700_000);
        let mut got = Vec::new();
        for _ in 0..10 {
            got.extend(xids(&mut fixture, client));
            for slot in fixture.reactor.take_full() {
                fixture.reactor.replies_read(slot);
            }
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    }

    /// A client that pipelined a write, `reads` of 700 kB each, and a write of what they read; it
    /// has been answered nothing yet.
    fn writing_behind_reads(reads: i32) -> (Fixture, ConnId) {
        let mut fixture = Fixture::new();
        let big = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[big], vec![], &[]);
        let mut burst = write(0);
        (1..=reads).for_each(|xid| burst.extend(watching(xid, OpCode::GET_DATA, "/big", false)));
        burst.extend(write(reads + 1));
        burst.extend(watching(reads + 2, OpCode::GET_DATA, "/big", false));
        fixture.reactor.receive(client.slot, &burst);
        (fixture, client)
    }

    #[test]
    fn a_held_read_never_sees_a_later_write_of_its_session() {
        for one_batch in [true, false] {
            let (mut fixture, client) = writing_behind_reads(7);
            let first = fixture.nothing(Change::None);
            let (before, after) = (first.0, first.0 + 1);
            if one_batch {
                let txns = [first, fixture.set_data("/big", b"new")];
                fixture.publish(&txns, vec![replied(client, 0, 1), replied(client, 8, 2)], &[]);
            } else {
                fixture.publish(&[first], vec![replied(client, 0, 1)], &[]);
                let txn = fixture.set_data("/big", b"new");
                fixture.publish(&[txn], vec![replied(client, 8, 1)], &[]);
            }
            let mut got = Vec::new();
            for _ in 0..10 {
                got.extend(fixture.frames(client));
                for slot in fixture.reactor.take_full() {
                    fixture.reactor.replies_read(slot);
                }
            }
            let heads: Vec<_> = got.iter().map(|it| (it.xid, it.zxid)).collect();
            let due = (0..10).map(|xid| (xid, if xid < 8 { before } else { after }));
            assert_eq!(heads, due.collect::<Vec<_>>());
            assert!(got[1..8].iter().all(|it| it.body.len() > 700_000));
            assert_eq!(got[9].body[..7], *b"\0\0\0\x03new");
        }
    }

    #[test]
    fn a_client_that_writes_behind_more_than_can_be_held_is_closed() {
        let reads = (REPLY_BYTES_HELD_MAX / 700_000) as i32 + 2;
        let (mut fixture, client) = writing_behind_reads(reads);
        let txns = [fixture.nothing(Change::None), fixture.set_data("/big", b"new")];
        let answers = vec![replied(client, 0, 1), replied(client, reads + 1, 2)];
        fixture.publish(&txns, answers, &[]);
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: false })]);
    }

    #[test]
    fn a_full_pipeline_stops_reading_until_there_is_room() {
        let mut fixture = Fixture::with(Settings { outstanding_max: 1 << 20, ..settings() });
        let client = fixture.client();
        let count = PIPELINE_REQUESTS_MAX as i32 + 5;
        let mut burst = write(0);
        (1..count).for_each(|xid| burst.extend(request(xid, OpCode::PING, &[])));
        fixture.reactor.receive(client.slot, &burst);
        let waiting = fixture.reactor.connections.at(client.slot).pipeline.len();
        assert_eq!(waiting, PIPELINE_REQUESTS_MAX);
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 0, 1)], &[]);
        fixture.reactor.resume();
        assert_eq!(fixture.frames(client).len(), count as usize);
    }

    #[test]
    fn writers_stop_and_readers_do_not_while_the_consensus_core_has_no_room() {
        let mut fixture = Fixture::new();
        let (writer, reader) = (fixture.client(), fixture.client());
        for _ in 0..SUBMISSIONS_SEALED_MAX {
            let entry = Entry::Touch { session: SessionId::NONE, ago_ms: 0 };
            fixture.reactor.submission.entries.push(entry);
            fixture.reactor.seal();
        }
        fixture.reactor.receive(writer.slot, &write(1));
        fixture.reactor.receive(reader.slot, &watching(1, OpCode::EXISTS, "/", false));
        assert_eq!(xids(&mut fixture, reader), [1]);
        fixture.submitted();
        fixture.reactor.resume();
        assert_eq!(fixture.entries(), ["Write"]);
    }

    #[test]
    fn above_the_outstanding_limit_only_clients_without_requests_are_read() {
        let mut fixture = Fixture::with(Settings { outstanding_max: 2, ..settings() });
        let (busy, idle) = (fixture.client(), fixture.client());
        let burst: Vec<u8> = (0..6).flat_map(write).collect();
        fixture.reactor.receive(busy.slot, &burst);
        assert_eq!(fixture.entries().len(), 3, "the limit and the one that went above it");
        fixture.reactor.receive(idle.slot, &write(0));
        assert_eq!(fixture.entries().len(), 1);
        let txn = fixture.nothing(Change::None);
        let answers = (0..3).map(|xid| replied(busy, xid, 1)).collect();
        fixture.publish(&[txn], answers, &[]);
        fixture.reactor.resume();
        assert_eq!(fixture.entries().len(), 2);
    }

    #[test]
    fn what_comes_behind_close_session_is_lost() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = [request(1, OpCode::CLOSE_SESSION, &[]), write(2)];
        fixture.reactor.receive(client.slot, &burst.concat());
        assert_eq!(fixture.entries(), ["Write"]);
        let session = fixture.reactor.connections.at(client.slot).session().unwrap();
        let txn = fixture.nothing(Change::Over(session));
        let outcome = Outcome::ReplyAndClose { err: ErrorCode::Ok, body: 0..0 };
        fixture.publish(&[txn], vec![answer(client, 1, 1, outcome)], &[]);
        let departures = fixture.departures();
        assert!(departures.is_empty(), "the reply comes first: {departures:?}");
        assert_eq!(xids(&mut fixture, client), [1]);
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: true })]);
    }

    #[test]
    fn what_was_asked_before_close_session_is_answered_however_long() {
        let (mut fixture, client) = closing_behind_much();
        let mut got = Vec::new();
        for _ in 0..10 {
            assert!(fixture.departures().is_empty(), "closed after {got:?}");
            got.extend(xids(&mut fixture, client));
            for slot in fixture.reactor.take_full() {
                fixture.reactor.replies_read(slot);
            }
            if got.len() == 9 {
                break;
            }
        }
        assert_eq!(got, (0..9).collect::<Vec<_>>());
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: true })]);
    }

    #[test]
    fn a_client_whose_session_is_over_may_not_stay_by_not_reading() {
        let (mut fixture, client) = closing_behind_much();
        fixture.reactor.set_now(DEPARTURE_MS_MAX - 1);
        fixture.reactor.lapse();
        assert!(fixture.departures().is_empty());
        fixture.reactor.receive(client.slot, &write(9));
        fixture.reactor.set_now(DEPARTURE_MS_MAX + 1_000);
        fixture.reactor.lapse();
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: false })]);
    }

    /// A client that closed its session behind a write and reads with 5 MB of replies, when the
    /// session is over.
    fn closing_behind_much() -> (Fixture, ConnId) {
        let mut fixture = Fixture::new();
        let big = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[big], vec![], &[]);
        let mut burst = write(0);
        (1..8).for_each(|xid| burst.extend(watching(xid, OpCode::GET_DATA, "/big", false)));
        burst.extend(request(8, OpCode::CLOSE_SESSION, &[]));
        fixture.reactor.receive(client.slot, &burst);
        let session = fixture.reactor.connections.at(client.slot).session().unwrap();
        let txns = [fixture.nothing(Change::None), fixture.nothing(Change::Over(session))];
        let outcome = Outcome::ReplyAndClose { err: ErrorCode::Ok, body: 0..0 };
        let answers = vec![replied(client, 0, 1), answer(client, 8, 2, outcome)];
        fixture.publish(&txns, answers, &[]);
        (fixture, client)
    }

    #[test]
    fn a_znode_that_may_not_be_read_is_not() {
        let mut fixture = Fixture::new();
        let id = acl::digest_id("user:pw").id;
        let private = fixture.private(&id);
        let txn = fixture.create_with("/private", b"secret", private);
        let client = fixture.client();
        fixture.publish(&[txn], vec![], &[]);
        let reads = [OpCode::GET_DATA, OpCode::EXISTS, OpCode::GET_CHILDREN, OpCode::GET_ACL];
        for op in reads {
            fixture.reactor.receive(client.slot, &watching(1, op, "/private", true));
            assert_eq!(fixture.frames(client)[0].err, ErrorCode::NoAuth.code(), "{op:?}");
        }
        assert!(fixture.reactor.watches.is_empty());
        fixture.reactor.receive(client.slot, &watching(1, OpCode::GET_DATA, "/none", true));
        assert_eq!(fixture.frames(client)[0].err, ErrorCode::NoNode.code());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

        /// Requests with some bytes changed, cut anywhere: whatever becomes of their sender, nobody
        /// else notices, and every frame that leaves is whole.
        #[test]
        fn no_bytes_of_a_client_harm_another(
            requests in proptest::collection::vec((-12i32..110, 0usize..40, 0u8..=255), 1..30),
            damage in proptest::collection::vec((0usize..2_000, 0u8..=255), 0..4),
            piece in 1usize..300,
            handshake in proptest::bool::weighted(0.8),
        ) {
            let mut fixture = Fixture::new();
            let bystander = fixture.client();
            let attacker = if handshake { fixture.client() } else { fixture.connected() };
            let mut bytes = Vec::new();
            for (xid, (op, length, fill)) in requests.iter().enumerate() {
                let xid = xid as i32;
                bytes.extend(match op {
                    0..=30 => watching(xid, OpCode(op % 13), "/zookeeper", fill % 2 == 0),
                    _ => request(xid, OpCode(*op), &vec![*fill; *length]),
                });
            }
            for (at, byte) in damage {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            for piece in bytes.chunks(piece) {
                fixture.reactor.receive(attacker.slot, piece);
                fixture.submitted();
                fixture.reactor.resume();
            }
            fixture.frames(attacker);
            let read = watching(77, OpCode::EXISTS, "/", false);
            fixture.reactor.receive(bystander.slot, &read);
            let frames = fixture.frames(bystander);
            proptest::prop_assert_eq!((frames[0].xid, frames[0].err), (77, 0));
            fixture.departures();
        }
    }
}
