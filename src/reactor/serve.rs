//! One reactor without its sockets: bytes of clients come in, bytes for clients and submissions
//! for the consensus core come out, in lists that `turn` carries to where they go. No clock, ring
//! or channel inside, so that all of it is tested with plain bytes.
//!
//! Here: the state, and the way of a request until it is answered or put somewhere. `submit` has
//! what goes to the consensus core, `held` what waits for it, `open` handshakes,
//! `authenticate` who clients are, `announce` what the consensus core publishes, `lapse` the passing of time, `depart` how
//! connections end.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::report::ConnectionCounters;
use crate::consensus::handoff::Submission;
use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
use crate::jute::error_code::ErrorCode;
use crate::jute::frame::{self, LENGTH_BYTES, Next};
use crate::jute::opcode::OpCode;
use crate::jute::reply;
use crate::jute::request::{self, Header};
use crate::tree;

use super::admission::Admission;
use super::alone::Counting;
use super::connection::{Halts, Stage};
use super::connections::Connections;
use super::counters::Counters;
use super::identity::Identities;
use super::open::Refusals;
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
    pub(super) counting: Counting,
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
    /// Whether clients may have sessions. A member of an ensemble serves while it has a leader.
    pub(super) serving: bool,
    pub(super) refusals: Refusals,
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
    /// Halted by `Halts::THROTTLED`.
    pub waiting: Vec<u32>,
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
pub(super) enum Served {
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
            counting: Counting::default(),
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
            serving: true,
            refusals: Refusals::default(),
            lists: Lists::default(),
        }
    }

    /// The time, in milliseconds since the reactor began. Never goes back.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A client connected, and was admitted for this reactor. Its socket goes by the slot.
    pub fn connected(&mut self, address: SocketAddr) -> ConnId {
        self.connections.add(address, self.now_ms)
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
        let connection = self.connections.at(slot);
        let input = std::mem::take(&mut connection.input);
        let from = connection.input_served;
        let served = self.serve(slot, &input[from..]);
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
                    if self.is_too_much(body.len()) {
                        tracing::info!(
                            slot,
                            length = body.len(),
                            "closing: too many large requests"
                        );
                        self.close_now(slot);
                        break;
                    }
                    if self.frame(slot, body) == Served::Later {
                        self.leave_lying(slot, rest.len());
                        break;
                    }
                    at += LENGTH_BYTES + body.len();
                    self.count_large(slot, body.len());
                    self.served_of_waiting(slot, LENGTH_BYTES + body.len());
                    self.connections.at(slot).halt_if_full(&mut self.lists.full);
                }
                Ok(Next::Incomplete { want }) => {
                    if self.is_too_much(want.saturating_sub(LENGTH_BYTES)) {
                        tracing::info!(slot, want, "closing: too many large requests");
                        self.close_now(slot);
                    }
                    break;
                }
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
        let stage = self.connections.at(slot).stage;
        match stage {
            // As in ZooKeeper: the client tries another server.
            Stage::Greeting if !self.serving => self.close_now(slot),
            Stage::Greeting if !self.may_submit(slot, 0) => return Served::Later,
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
        if self.is_turned_away(slot, header) {
            return Served::Yes;
        }
        if let Some(throttle) = self.settings.request_throttle
            && !matches!(header.op, OpCode::AUTH | OpCode::SASL)
            && let Some(served) = self.throttle(slot, header, throttle)
        {
            return served;
        }
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
            | OpCode::DELETE_CONTAINER
            | OpCode::CLOSE_SESSION => self.write(slot, session, header, body),
            OpCode::CREATE_SESSION => self.create_session(slot, session, header, body),
            OpCode::SYNC => self.sync(slot, session, frame, header, body),
            OpCode::GET_EPHEMERALS => self.get_ephemerals(slot, session, header, body),
            OpCode::GET_ALL_CHILDREN_NUMBER => self.get_all_children_number(slot, header, body),
            // The consensus core is told of new ids.
            OpCode::AUTH | OpCode::SASL if !self.may_submit(slot, 0) => Served::Later,
            OpCode::AUTH => {
                self.authenticate(slot, header, body);
                Served::Yes
            }
            OpCode::SASL => {
                self.take_token(slot, header, body);
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
    pub(super) fn read(&mut self, slot: u32, frame: &[u8], header: Header, body: &[u8]) -> Served {
        let connection = self.connections.at(slot);
        if !connection.pipeline.is_empty() {
            if !connection.pipeline.has_room(frame.len()) {
                connection.halts.set(Halts::PIPELINE);
                return Served::Later;
            }
            connection.pipeline.hold(frame, connection.identity(), self.now_ms);
            return Served::Yes;
        }
        if connection.out.capacity() == 0 {
            connection.out = self.lists.buffers.pop().unwrap_or_default();
        }
        let reading = Reading {
            view: self.reader.at(self.applied),
            zxid: self.applied,
            conn: connection.id,
            ids: self.identities.ids(connection.identity()),
            rules: &self.settings.auth.rules,
            watches: &mut self.watches,
            out: &mut connection.out,
        };
        reading.answer(header, body);
        connection.replied(Some(header.op), header.xid, self.applied, self.now_ms, self.now_ms);
        self.counters.packets_sent += 1;
        self.counters.latencies.add(0);
        self.counters.read_latencies.add(0);
        Served::Yes
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::handoff::Outcome;
    use crate::limits::{FRAME_BYTES_DEFAULT, REPLY_BYTES_WAITING_MAX};
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Change, Fixture, answer, digest_id, frame, request, watching, write, xids,
    };

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
            request(10, OpCode::SYNC, b"\0\0\0\x05/a"),
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
    fn an_unknown_type_is_refused_at_once_and_the_connection_closed() {
        for op in [-1, 0, 13, 99, 108, -12] {
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
    fn a_znode_that_may_not_be_read_is_not() {
        let mut fixture = Fixture::new();
        let id = digest_id("user:pw").id;
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
