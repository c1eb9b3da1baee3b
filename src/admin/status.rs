//! `srvr` and `stat`: the server in a few lines.

use std::fmt::Write;

use super::connections::brief;
use super::report::{
    ConnectionCounters, ConnectionReport, ConsensusReport, LatencyReport, Mode, ProposalSizes,
    ReactorReport,
};

/// What the server calls itself: the release of ZooKeeper whose behaviour it follows, which
/// clients and monitoring parse, then its own name and version.
pub const VERSION: &str = concat!("3.9.5-ringkeeper-", env!("CARGO_PKG_VERSION"));

/// Sums over all reactors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub connections: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub outstanding: u64,
    pub latency: LatencyReport,
    pub read_latency: LatencyReport,
    pub data_watches: u64,
    pub child_watches: u64,
    pub watching_connections: u64,
    pub counters: ConnectionCounters,
}

impl Totals {
    /// The sums of `reports`, and the connection that asks, which no reactor counts any more.
    pub fn of(reports: &[ReactorReport]) -> Totals {
        let mut totals = Totals { connections: 1, ..Totals::default() };
        for report in reports {
            totals.connections += report.connections;
            totals.packets_received += report.packets_received;
            totals.packets_sent += report.packets_sent;
            totals.outstanding += report.outstanding;
            totals.latency = totals.latency.merged(report.latency);
            totals.read_latency = totals.read_latency.merged(report.read_latency);
            totals.data_watches += report.data_watches;
            totals.child_watches += report.child_watches;
            totals.watching_connections += report.watching_connections;
            totals.counters += report.counters;
        }
        totals
    }
}

impl LatencyReport {
    /// Both as one.
    pub fn merged(self, other: LatencyReport) -> LatencyReport {
        let min_ms = match (self.count, other.count) {
            (0, _) => other.min_ms,
            (_, 0) => self.min_ms,
            _ => self.min_ms.min(other.min_ms),
        };
        LatencyReport {
            min_ms,
            max_ms: self.max_ms.max(other.max_ms),
            total_ms: self.total_ms + other.total_ms,
            count: self.count + other.count,
        }
    }

    /// The mean, milliseconds, to four decimals; 0 without samples.
    pub fn average_ms(self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        (self.total_ms / self.count as f64 * 10_000.0).round() / 10_000.0
    }
}

/// `srvr`.
pub fn srvr(out: &mut String, totals: Totals, consensus: &ConsensusReport) {
    writeln!(out, "Zookeeper version: {VERSION}").unwrap();
    counts(out, totals, consensus);
}

/// `stat`: as `srvr`, with every connection of `reports`. `asking` is the one that asks.
pub fn stat(
    out: &mut String,
    asking: &ConnectionReport,
    reports: &[ReactorReport],
    totals: Totals,
    consensus: &ConsensusReport,
) {
    writeln!(out, "Zookeeper version: {VERSION}").unwrap();
    out.push_str("Clients:\n");
    brief(out, asking);
    for connection in reports.iter().flat_map(|report| &report.connection_list) {
        brief(out, connection);
    }
    out.push('\n');
    counts(out, totals, consensus);
}

fn counts(out: &mut String, totals: Totals, consensus: &ConsensusReport) {
    let latency = totals.latency;
    let (min, avg, max) = (latency.min_ms, latency.average_ms(), latency.max_ms);
    writeln!(out, "Latency min/avg/max: {min}/{avg:?}/{max}").unwrap();
    writeln!(out, "Received: {}", totals.packets_received).unwrap();
    writeln!(out, "Sent: {}", totals.packets_sent).unwrap();
    writeln!(out, "Connections: {}", totals.connections).unwrap();
    writeln!(out, "Outstanding: {}", totals.outstanding).unwrap();
    writeln!(out, "Zxid: {}", consensus.last_committed).unwrap();
    writeln!(out, "Mode: {}", consensus.mode.name()).unwrap();
    writeln!(out, "Node count: {}", consensus.znodes).unwrap();
    if consensus.mode == Mode::Leader {
        let ProposalSizes { last, min, max } = consensus.proposal_sizes;
        writeln!(out, "Proposal sizes last/min/max: {last}/{min}/{max}").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(min_ms: u64, max_ms: u64, total_ms: f64, count: u64) -> LatencyReport {
        LatencyReport { min_ms, max_ms, total_ms, count }
    }

    #[test]
    fn a_reactor_without_requests_does_not_pull_the_minimum_down() {
        let merged = latency(0, 0, 0.0, 0).merged(latency(3, 26, 33.0, 3));
        assert_eq!((merged.min_ms, merged.max_ms, merged.average_ms()), (3, 26, 11.0));
        let merged = merged.merged(latency(1, 2, 3.0, 2));
        assert_eq!((merged.min_ms, merged.max_ms, merged.count), (1, 26, 5));
    }

    #[test]
    fn an_average_has_four_decimals_at_most() {
        assert_eq!(format!("{:?}", latency(0, 1, 1.0, 3).average_ms()), "0.3333");
        assert_eq!(format!("{:?}", latency(0, 0, 0.0, 0).average_ms()), "0.0");
    }
}
