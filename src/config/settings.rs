//! The configuration of a server, checked.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cores::CorePlan;
use super::ensemble::Ensemble;
use crate::admin::word::Whitelist;
use crate::auth::policy::Policy;
use crate::consensus::reap::Reaping;
use crate::reactor::throttle::{LargeRequests, RequestThrottle};
use crate::reactor::token_bucket::ConnectionThrottle;

/// All that an operator can set. Made by `load`; every value is in its range and they fit each
/// other.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect. The address `::` takes IPv4 clients too, as a JVM's does.
    pub listen: SocketAddr,
    /// `clientPortListenBacklog`; none: the system's.
    pub listen_backlog: Option<NonZeroU32>,
    /// `clientTcpKeepAlive`: TCP probes clients that are silent.
    pub keep_alive: bool,
    /// `dataDir`: where the folder with the snapshots is.
    pub data_dir: PathBuf,
    /// `dataLogDir`: where the folder with the log is.
    pub data_log_dir: PathBuf,
    /// `tickTime`, milliseconds: sessions expire together, once a tick.
    pub tick_ms: u32,
    /// `minSessionTimeout`, milliseconds; at most `max_session_timeout_ms`.
    pub min_session_timeout_ms: i32,
    /// `maxSessionTimeout`, milliseconds.
    pub max_session_timeout_ms: i32,
    /// `maxClientCnxns`: connections of one address; none: no limit.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// `maxCnxns`: connections in all; none: no limit.
    pub connections_max: Option<NonZeroU32>,
    /// `nio.sessionlessCnxnTimeout`: what a connection has to finish its handshake.
    pub handshake_timeout: Duration,
    /// `globalOutstandingLimit`: requests under way above which clients that have some are not
    /// read from.
    pub outstanding_max: NonZeroU32,
    /// `jute.maxbuffer`, bytes: the largest frame of a client. Unlike ZooKeeper's, it is read from
    /// the file.
    pub frame_bytes_max: usize,
    /// `snapCount`: transactions between snapshots; as ZooKeeper, a random number from half of it.
    pub snapshot_txns: u32,
    /// `snapSizeLimitInKb` in bytes: log between snapshots; none: no limit.
    pub snapshot_log_bytes: Option<NonZeroU64>,
    /// `autopurge.snapRetainCount`: snapshots that a purge leaves.
    pub snapshots_retained: u32,
    /// `autopurge.purgeInterval`; none: no purge.
    pub purge_interval: Option<Duration>,
    /// `ringkeeper.segmentSizeKb` (or `preAllocSize`) in bytes: one file of the log.
    pub segment_bytes: u64,
    /// `ringkeeper.groupCommitBytes`: what a commit gathers at most while the one before is
    /// being flushed.
    pub group_commit_bytes: usize,
    /// `fsync.warningthresholdms`: a flush that takes longer is logged.
    pub fsync_warning: Duration,
    /// `request_throttle_max_requests` and the keys that belong to it; none: off. For the server as
    /// a whole.
    pub request_throttle: Option<RequestThrottle>,
    /// `largeRequestThreshold` and `largeRequestMaxBytes`; none: off.
    pub large_requests: Option<LargeRequests>,
    /// `connection_throttle_*`; none: off.
    pub connection_throttle: Option<ConnectionThrottle>,
    /// Who clients are and what they may do.
    pub auth: Arc<Policy>,
    /// `extendedTypesEnabled`: TTL znodes.
    pub extended_types: bool,
    /// `znode.container.checkIntervalMs`, `.maxPerMinute` and `.maxNeverUsedIntervalMs`: when
    /// containers and TTL znodes go. Unlike ZooKeeper's, they are read from the file.
    pub reaping: Reaping,
    /// `enforceQuota`: what exceeds a hard limit of a quota is refused.
    pub enforce_quota: bool,
    /// The ensemble that the server is a member of; none: it is standalone.
    pub ensemble: Option<Box<Ensemble>>,
    /// `4lw.commands.whitelist`.
    pub four_letter_words: Whitelist,
    /// `ringkeeper.reactors`, `.reactorCores` and `.consensusCore`.
    pub cores: CorePlan,
    /// `ringkeeper.ringDepth`: entries of a reactor's submission queue; a power of two.
    pub ring_depth: u32,
    /// `ringkeeper.spinBeforePark`: how long a core looks for work before it sleeps.
    pub spin_before_park: Duration,
}
