//! `dump`: sessions by the time when they expire, their ephemerals, and the connections.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::connections::java_address;
use super::date::java_date;
use super::report::{ConnectionReport, ConsensusReport};

/// Connections are closed together, once in this many milliseconds (ZooKeeper's
/// `nio.sessionlessCnxnTimeout`, which is its interval too).
const CONNECTION_INTERVAL_MS: u64 = 10_000;

/// `dump`, at `now_ms` since 1970.
pub fn dump(
    out: &mut String,
    consensus: &ConsensusReport,
    connections: &[ConnectionReport],
    now_ms: u64,
) {
    out.push_str("SessionTracker dump:\n");
    let expiries = consensus.session_expiries.iter().map(|(session, ms)| (*ms, session));
    expiry_sets(out, "Session", expiries);
    out.push_str("ephemeral nodes dump:\n");
    writeln!(out, "Sessions with Ephemerals ({}):", consensus.ephemeral_paths.len()).unwrap();
    for (session, paths) in &consensus.ephemeral_paths {
        writeln!(out, "{session}:").unwrap();
        paths.iter().for_each(|path| writeln!(out, "\t{path}").unwrap());
    }
    out.push_str("Connections dump:\n");
    let connections = connections.iter().map(|connection| {
        let (id, timeout_ms) = match &connection.session {
            Some(session) => (session.session.to_string(), session.timeout_ms.max(0) as u64),
            None => ("0x0".to_owned(), CONNECTION_INTERVAL_MS),
        };
        let due_ms = (now_ms + timeout_ms) / CONNECTION_INTERVAL_MS * CONNECTION_INTERVAL_MS;
        let line = format!("ip: {} sessionId: {id}", java_address(connection.address));
        (due_ms + CONNECTION_INTERVAL_MS, line)
    });
    expiry_sets(out, "Connections", connections);
}

/// An expiry queue: its buckets in order of time, with what expires in each.
fn expiry_sets<T: Display>(out: &mut String, what: &str, members: impl Iterator<Item = (u64, T)>) {
    let mut sets: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    let mut count = 0;
    for (due_ms, member) in members {
        sets.entry(due_ms).or_default().push(member);
        count += 1;
    }
    writeln!(out, "{what} Sets ({})/({count}):", sets.len()).unwrap();
    for (due_ms, members) in sets {
        writeln!(out, "{} expire at {}:", members.len(), java_date(due_ms)).unwrap();
        members.iter().for_each(|member| writeln!(out, "\t{member}").unwrap());
    }
}
