//! One client connection: how far it has come, the bytes that wait, and why it is not read from.
//! Owned by `serve`, which knows the rest of the reactor.

use std::net::SocketAddr;

use crate::admin::report::{ConnectionReport, ConnectionSession};
use crate::admin::word::Question;
use crate::auth::sasl::Exchange;
use crate::consensus::handoff::IdentityIndex;
use crate::ids::{ConnId, SessionId, Zxid};
use crate::jute::opcode::OpCode;
use crate::limits::REPLY_BYTES_WAITING_MAX;

use super::counters::Latencies;
use super::pipeline::Pipeline;
use super::throttle::Waiting;

/// Bytes of input that an idle connection may keep room for.
const IDLE_INPUT_BYTES_MAX: usize = 4 << 10;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing but the start of a connect request or a four-letter word has come.
    Greeting,
    /// The consensus core is asked for the session: a new one, or one that is there if `renewal`.
    Opening { read_only: Option<bool>, renewal: bool },
    /// It carries a session. `read_only` is what the connect request had, if anything: an old
    /// client must not get that byte in an answer either.
    Open { session: SessionId, timeout_ms: i32, read_only: Option<bool> },
    /// It is being closed or handed over: nothing that comes counts any more.
    Leaving(Departure),
}

/// How a connection leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Closed at once.
    Now,
    /// Closed when the client has been sent all that is due.
    AfterOutput,
    /// Handed to whoever answers four-letter words.
    Answered(Question),
}

/// Why a connection is not read from; several may hold at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halts(u8);

impl Halts {
    /// Its session is being established.
    pub const OPENING: Halts = Halts(1);
    /// The client does not read its replies.
    pub const REPLIES: Halts = Halts(2);
    /// Too many of its requests wait.
    pub const PIPELINE: Halts = Halts(4);
    /// It wants to write, and the consensus core has too much to do.
    pub const WRITES: Halts = Halts(8);
    /// It has requests under way, and so has everybody else.
    pub const OUTSTANDING: Halts = Halts(16);
    /// It has asked for its last reply, or the server stops.
    pub const LAST: Halts = Halts(32);
    /// Its next request has to wait: the server has enough to do.
    pub const THROTTLED: Halts = Halts(64);
    /// A request that stands alone waits for its turn, or is under way.
    pub const ALONE: Halts = Halts(128);

    /// Whether nothing is in the way.
    pub const fn none(self) -> bool {
        self.0 == 0
    }

    /// Whether `halt` holds.
    pub const fn has(self, halt: Halts) -> bool {
        self.0 & halt.0 != 0
    }

    pub const fn set(&mut self, halt: Halts) {
        self.0 |= halt.0;
    }

    /// Whether nothing is in the way any more, where something was.
    pub const fn clear(&mut self, halt: Halts) -> bool {
        let before = self.0;
        self.0 &= !halt.0;
        before != 0 && self.0 == 0
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub id: ConnId,
    pub address: SocketAddr,
    pub stage: Stage,
    pub halts: Halts,
    /// Its session is over, since this time in the reactor's milliseconds: it is closed as soon as
    /// its requests are answered.
    pub closing_ms: Option<u64>,
    /// The socket was told not to receive.
    pub paused: bool,
    /// What came and could not be served yet.
    pub input: Vec<u8>,
    /// Bytes at the start of `input` that are served already.
    pub input_served: usize,
    /// Replies and events, in order, that the socket has not been given.
    pub out: Vec<u8>,
    /// Those of `out` that are events.
    pub event_bytes: usize,
    /// It is in the list of those that have output.
    pub dirty: bool,
    /// It is in the list of those that were heard of.
    pub heard: bool,
    /// When the session's client was heard of last, in the reactor's milliseconds; before there is
    /// a session, when the connection was accepted; once it leaves, since when.
    pub heard_ms: u64,
    pub pipeline: Pipeline,
    /// Who it is; none before it has asked for a session.
    pub identity: Option<IdentityIndex>,
    /// Sets that it had before and that requests in the pipeline may still name.
    pub old_identities: Vec<IdentityIndex>,
    /// It has proved what the configuration wants proved, so that it may do more than that.
    pub admitted: bool,
    pub sasl: Exchange,
    /// Requests that had to wait, and still do.
    pub waiting: Option<Waiting>,
    /// Bytes of large requests that are not answered.
    pub large_bytes: usize,
    pub tally: Tally,
}

/// What `cons` tells of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub received: u64,
    pub sent: u64,
    pub last_op: Option<OpCode>,
    pub last_cxid: Option<i32>,
    pub last_zxid: Option<Zxid>,
    pub last_response_ms: u64,
    pub last_latency_ms: u64,
    /// Milliseconds since 1970.
    pub established_ms: u64,
    pub latencies: Latencies,
}

impl Connection {
    /// A connection from `address` that has said nothing yet.
    pub fn new(id: ConnId, address: SocketAddr, now_ms: u64) -> Self {
        Connection {
            id,
            address,
            stage: Stage::Greeting,
            halts: Halts::default(),
            closing_ms: None,
            paused: false,
            input: Vec::new(),
            input_served: 0,
            out: Vec::new(),
            event_bytes: 0,
            dirty: false,
            heard: false,
            heard_ms: now_ms,
            pipeline: Pipeline::default(),
            identity: None,
            old_identities: Vec::new(),
            admitted: true,
            sasl: Exchange::default(),
            waiting: None,
            large_bytes: 0,
            tally: Tally::default(),
        }
    }

    /// The session that it carries.
    pub fn session(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Open { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Who it is.
    ///
    /// # Panics
    /// When it has not asked for a session.
    #[inline]
    pub fn identity(&self) -> IdentityIndex {
        self.identity.expect("who asks for something has a session")
    }

    /// Whether a complete frame would be served.
    pub fn is_read(&self) -> bool {
        self.halts.none() && !self.is_leaving()
    }

    /// Whether it is being closed or handed over.
    pub fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_))
    }

    /// Stops reading from it if more output waits than may, and puts its slot into `full` then.
    /// Everything that adds output calls this: a client that does not read must not make the
    /// output grow, whatever it sends.
    #[inline]
    pub fn halt_if_full(&mut self, full: &mut Vec<u32>) {
        if self.out.len() > REPLY_BYTES_WAITING_MAX
            && !self.is_leaving()
            && !self.halts.has(Halts::REPLIES)
        {
            self.halts.set(Halts::REPLIES);
            full.push(self.id.slot);
        }
    }

    /// A reply to the request that came at `since_ms` is in the output. A write that failed has no
    /// `op`: to ZooKeeper it is an error transaction.
    pub fn replied(
        &mut self,
        op: Option<OpCode>,
        xid: i32,
        zxid: Zxid,
        since_ms: u64,
        now_ms: u64,
    ) {
        let latency_ms = now_ms.saturating_sub(since_ms);
        self.tally.sent += 1;
        self.tally.last_op = op;
        // A ping's and the like are not the client's.
        if xid >= 0 {
            self.tally.last_cxid = Some(xid);
        }
        self.tally.last_zxid = Some(zxid);
        self.tally.last_response_ms = now_ms;
        self.tally.last_latency_ms = latency_ms;
        self.tally.latencies.add(latency_ms);
    }

    /// The next `served` bytes of the input are done with. A client that is halted after every
    /// frame has its input moved no more often than it doubles.
    pub fn drop_input(&mut self, served: usize) {
        self.input_served += served;
        if self.input_served == self.input.len() {
            self.input.clear();
            self.input_served = 0;
            if self.input.capacity() > IDLE_INPUT_BYTES_MAX {
                self.input = Vec::new();
            }
        } else if self.input_served > self.input.len() / 2 {
            self.input.drain(..self.input_served);
            self.input_served = 0;
        }
    }

    /// What `cons` tells of it.
    pub fn report(&self) -> ConnectionReport {
        let tally = &self.tally;
        let session = match self.stage {
            Stage::Open { session, timeout_ms, .. } => Some(ConnectionSession {
                session,
                last_op: tally.last_op,
                established_ms: tally.established_ms,
                timeout_ms,
                last_cxid: tally.last_cxid,
                last_zxid: tally.last_zxid,
                last_response_ms: tally.last_response_ms,
                last_latency_ms: tally.last_latency_ms,
                latency: tally.latencies.report(),
            }),
            _ => None,
        };
        ConnectionReport {
            address: self.address,
            interest_ops: u32::from(self.is_read()) | u32::from(!self.out.is_empty()) << 2,
            queued: self.pipeline.len() as u64,
            received: tally.received,
            sent: tally.sent,
            session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_again_when_the_last_halt_is_gone() {
        let mut halts = Halts::default();
        assert!(!halts.clear(Halts::REPLIES));
        halts.set(Halts::REPLIES);
        halts.set(Halts::PIPELINE);
        assert!(!halts.clear(Halts::REPLIES));
        assert!(halts.has(Halts::PIPELINE) && !halts.none());
        assert!(halts.clear(Halts::PIPELINE));
        assert!(halts.none());
    }

    #[test]
    fn input_that_is_served_frame_by_frame_is_moved_seldom() {
        let id = ConnId { slot: 0, tenant: 1 };
        let address = "127.0.0.1:4000".parse().unwrap();
        let mut connection = Connection::new(id, address, 0);
        connection.input = (0..100).collect();
        let mut moves = 0;
        for byte in 0..100 {
            assert_eq!(connection.input[connection.input_served], byte);
            let length = connection.input.len();
            connection.drop_input(1);
            moves += u32::from(connection.input.len() < length);
        }
        assert!(connection.input.is_empty() && connection.input_served == 0);
        assert!(moves < 10, "moved {moves} times");
    }
}
