//! `mntr`: every metric of ZooKeeper's that has a meaning here, under its name, in its order.
//!
//! Left out: what describes the JVM, the stages of ZooKeeper's request pipeline, its caches and
//! throttles, the other members of an ensemble, and percentiles. docs/configuration.md lists them.

use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

use super::environment::file_descriptors;
use super::report::{ConsensusReport, LatencyReport, Mode};
use super::status::{Totals, VERSION};

/// What recovery took when the server started.
#[derive(Clone, Copy, Debug)]
pub struct StartUp {
    /// When the process began to start.
    pub began: Instant,
    /// How long the snapshot and the log behind it took to read.
    pub recovery: Duration,
    /// Transactions read from the log.
    pub txns_loaded: u64,
    /// `srst` has come since: only the uptime is told.
    pub forgotten: bool,
}

impl StartUp {
    /// The summary of one sample, or of none.
    fn once(&self, value: u64) -> LatencyReport {
        if self.forgotten {
            return LatencyReport::default();
        }
        LatencyReport { min_ms: value, max_ms: value, total_ms: value as f64, count: 1 }
    }
}

/// `mntr`. `snapshots` are the durations of those that were taken.
pub fn mntr(
    out: &mut String,
    totals: Totals,
    consensus: &ConsensusReport,
    snapshots: LatencyReport,
    start_up: &StartUp,
) {
    let (open, limit) = file_descriptors();
    let counters = totals.counters;
    line(out, "version", VERSION);
    line(out, "server_state", consensus.mode.name());
    line(out, "ephemerals_count", consensus.ephemerals);
    line(out, "num_alive_connections", totals.connections);
    line(out, "avg_latency", format_args!("{:?}", totals.latency.average_ms()));
    line(out, "outstanding_requests", totals.outstanding);
    line(out, "znode_count", consensus.znodes);
    line(out, "global_sessions", consensus.sessions);
    line(out, "packets_sent", totals.packets_sent);
    line(out, "packets_received", totals.packets_received);
    line(out, "watch_count", totals.data_watches + totals.child_watches);
    line(out, "auth_failed_count", counters.auth_failures);
    line(out, "min_latency", totals.latency.min_ms);
    line(out, "max_file_descriptor_count", limit);
    line(out, "approximate_data_size", consensus.approximate_data_bytes);
    line(out, "open_file_descriptor_count", open);
    line(out, "local_sessions", 0);
    line(out, "uptime", start_up.began.elapsed().as_millis());
    line(out, "max_latency", totals.latency.max_ms);
    line(out, "connection_rejected", counters.rejected);
    line(out, "sessionless_connections_expired", counters.handshakes_timed_out);
    line(out, "bytes_received_count", counters.bytes_received);
    line(out, "response_bytes", counters.bytes_sent);
    // A server with one has ended: it is not there to be asked.
    line(out, "unrecoverable_error_count", 0);
    line(out, "commit_count", consensus.commits);
    line(out, "proposal_count", consensus.proposals);
    line(out, "connection_request_count", counters.handshakes);
    line(out, "stale_sessions_expired", consensus.expired_sessions);
    if consensus.mode == Mode::Leader {
        let (learners, sizes) = (consensus.learners, consensus.proposal_sizes);
        line(out, "learners", learners.connected);
        line(out, "synced_followers", learners.synced_followers);
        line(out, "synced_observers", learners.synced_observers);
        line(out, "last_proposal_size", sizes.last);
        line(out, "min_proposal_size", sizes.min);
        line(out, "max_proposal_size", sizes.max);
    }
    summary(out, "fsynctime", consensus.fsync);
    summary(out, "snapshottime", snapshots);
    summary(out, "startup_txns_loaded", start_up.once(start_up.txns_loaded));
    let recovery_ms = start_up.recovery.as_millis() as u64;
    summary(out, "dbinittime", start_up.once(recovery_ms));
    summary(out, "updatelatency", consensus.update_latency);
    summary(out, "readlatency", totals.read_latency);
}

fn line(out: &mut String, key: &str, value: impl Display) {
    writeln!(out, "zk_{key}\t{value}").unwrap();
}

/// The five lines of a ZooKeeper summary without percentiles.
fn summary(out: &mut String, key: &str, of: LatencyReport) {
    line(out, &format!("avg_{key}"), format_args!("{:?}", of.average_ms()));
    line(out, &format!("min_{key}"), of.min_ms);
    line(out, &format!("max_{key}"), of.max_ms);
    line(out, &format!("cnt_{key}"), of.count);
    line(out, &format!("sum_{key}"), of.total_ms.round() as u64);
}
