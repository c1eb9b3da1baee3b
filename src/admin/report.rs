//! What reactors and the consensus core report about themselves when an operator asks.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::mpsc::SyncSender;

use crate::ids::{SessionId, Zxid};
use crate::jute::opcode::OpCode;
use crate::zab::step::Learners;

/// A question to one reactor. It answers through the sender and never waits for it.
#[derive(Debug)]
pub enum ReactorAsk {
    /// Totals, and what `details` asks for besides.
    Report { details: Details, to: SyncSender<ReactorReport> },
    /// `srst`: totals and latencies start over.
    ResetServerStats,
    /// `crst`: each connection's counters start over.
    ResetConnectionStats,
    /// A four-letter word was answered and its connection is done with: the reactor takes it off
    /// the per-address count.
    AdminConnectionClosed { address: std::net::IpAddr },
}

/// What reactors are asked for besides their totals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Details {
    /// Each connection.
    pub connections: bool,
    /// Each data watch.
    pub watches: bool,
    /// Which paths have data watches, so that those of several reactors can be counted once.
    pub watched_paths: bool,
}

/// One reactor, at one moment.
#[derive(Clone, Debug, Default)]
pub struct ReactorReport {
    pub connections: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    /// Requests that wait for the consensus core.
    pub outstanding: u64,
    pub latency: LatencyReport,
    pub read_latency: LatencyReport,
    /// Data watches: pairs of a connection and a path.
    pub data_watches: u64,
    /// The same for child watches. A persistent watch is one of each, as in ZooKeeper.
    pub child_watches: u64,
    /// Connections that have at least one data watch.
    pub watching_connections: u64,
    pub counters: ConnectionCounters,
    /// Asked for with `connections`.
    pub connection_list: Vec<ConnectionReport>,
    /// Asked for with `watches`: session and path of each data watch.
    pub watch_list: Vec<(SessionId, String)>,
    /// Asked for with `watched_paths`: a hash of each path with a data watch, the same on every
    /// reactor.
    pub watched_paths: Vec<u64>,
}

/// What became of connections since the last `srst`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionCounters {
    /// Handshakes that arrived: new sessions and renewals.
    pub handshakes: u64,
    /// Closed at once, for `maxClientCnxns` or `maxCnxns`.
    pub rejected: u64,
    /// Closed because no handshake came in time.
    pub handshakes_timed_out: u64,
    /// `auth` requests that were refused since the server started: `srst` leaves them.
    pub auth_failures: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

impl AddAssign for ConnectionCounters {
    fn add_assign(&mut self, other: ConnectionCounters) {
        self.handshakes += other.handshakes;
        self.rejected += other.rejected;
        self.handshakes_timed_out += other.handshakes_timed_out;
        self.auth_failures += other.auth_failures;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
    }
}

/// Request latencies since the last reset, milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct LatencyReport {
    pub min_ms: u64,
    pub max_ms: u64,
    pub total_ms: f64,
    pub count: u64,
}

/// One client connection.
#[derive(Clone, Debug)]
pub struct ConnectionReport {
    pub address: SocketAddr,
    /// Whether the reactor reads from it (interest bit 1) and has bytes left to send (bit 4).
    pub interest_ops: u32,
    pub queued: u64,
    pub received: u64,
    pub sent: u64,
    /// Absent before the handshake is done, and for four-letter words.
    pub session: Option<ConnectionSession>,
}

/// What `cons` tells about a connection with a session.
#[derive(Clone, Debug)]
pub struct ConnectionSession {
    pub session: SessionId,
    /// None since the last `crst`.
    pub last_op: Option<OpCode>,
    /// Milliseconds since 1970.
    pub established_ms: u64,
    pub timeout_ms: i32,
    /// Of the last request with an xid of its own; none since the last `crst`.
    pub last_cxid: Option<i32>,
    /// Of the last reply; none since the last `crst`.
    pub last_zxid: Option<Zxid>,
    /// Milliseconds of a monotonic clock at the last reply.
    pub last_response_ms: u64,
    pub last_latency_ms: u64,
    pub latency: LatencyReport,
}

/// A question to the consensus core.
#[derive(Debug)]
pub enum ConsensusAsk {
    /// Answered with the state of the server; each session's ephemerals if `ephemerals`.
    Report { ephemerals: bool, to: SyncSender<ConsensusReport> },
    /// `srst`: latencies and the like start over.
    ResetServerStats,
}

/// What a server is for its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Standalone,
    Leader,
    Follower,
    Observer,
    /// A member of an ensemble without a leader: it serves nobody.
    Idle,
}

impl Mode {
    /// As four-letter words name it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::Idle => "idle",
        }
    }
}

/// Bytes of transactions that a leader proposed; -1: it has proposed none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalSizes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Default for ProposalSizes {
    fn default() -> ProposalSizes {
        ProposalSizes { last: -1, min: -1, max: -1 }
    }
}

impl ProposalSizes {
    /// One more was proposed.
    pub fn note(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.last = bytes;
        self.min = if self.min < 0 { bytes } else { self.min.min(bytes) };
        self.max = self.max.max(bytes);
    }
}

/// The consensus core, at one moment.
#[derive(Clone, Debug, Default)]
pub struct ConsensusReport {
    pub mode: Mode,
    /// Of a leader.
    pub learners: Learners,
    pub proposal_sizes: ProposalSizes,
    pub last_committed: Zxid,
    pub znodes: u64,
    pub ephemerals: u64,
    /// Bytes of paths and data, as ZooKeeper's `approximate_data_size` counts them.
    pub approximate_data_bytes: u64,
    pub sessions: u64,
    /// Sessions with the millisecond (since 1970) of their expiry bucket.
    pub session_expiries: Vec<(SessionId, u64)>,
    /// Asked for with `ephemerals`.
    pub ephemeral_paths: Vec<(SessionId, Vec<String>)>,
    pub outstanding: u64,
    pub proposals: u64,
    pub commits: u64,
    /// Sessions that expired.
    pub expired_sessions: u64,
    pub snapshots: u64,
    /// Durations of log flushes since the last reset.
    pub fsync: LatencyReport,
    pub update_latency: LatencyReport,
}
