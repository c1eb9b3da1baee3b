//! What a reactor tells operators about itself.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::admin::report::{ConnectionCounters, Details, ReactorAsk, ReactorReport};

use super::counters::Counters;
use super::serve::Reactor;

/// Hashes a path alike on every reactor. An operator asks, so nobody waits for the lock inside.
static PATH_HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Reactor {
    /// Answers an operator's question, or does what it asks for.
    pub fn ask(&mut self, ask: ReactorAsk) {
        match ask {
            ReactorAsk::Report { details, to } => {
                // Who asked may have given up; then nobody wants to know.
                let _ = to.try_send(self.report(details));
            }
            ReactorAsk::ResetServerStats => {
                self.counters = Counters::default();
                let auth_failures = self.clients.auth_failures;
                self.clients = ConnectionCounters { auth_failures, ..Default::default() };
            }
            ReactorAsk::ResetConnectionStats => {
                for connection in self.connections.iter_mut() {
                    let established_ms = connection.tally.established_ms;
                    connection.tally = Default::default();
                    connection.tally.established_ms = established_ms;
                }
            }
            ReactorAsk::AdminConnectionClosed { address } => self.admission.left(address),
        }
    }

    fn report(&mut self, details: Details) -> ReactorReport {
        let watches = self.watches.counts();
        let mut report = ReactorReport {
            connections: self.connections.len() as u64,
            packets_received: self.counters.packets_received,
            packets_sent: self.counters.packets_sent,
            outstanding: self.outstanding as u64,
            latency: self.counters.latencies.report(),
            read_latency: self.counters.read_latencies.report(),
            data_watches: watches.data,
            child_watches: watches.child,
            watching_connections: watches.data_connections,
            counters: self.clients,
            ..ReactorReport::default()
        };
        if details.connections {
            let list = self.connections.iter().filter(|connection| !connection.is_leaving());
            report.connection_list = list.map(|connection| connection.report()).collect();
        }
        if details.watches {
            for (path, watchers) in self.watches.data_watches() {
                let mut session = |conn| self.connections.get(conn).and_then(|it| it.session());
                let sessions = watchers.filter_map(&mut session);
                report.watch_list.extend(sessions.map(|session| (session, path.to_owned())));
            }
        }
        if details.watched_paths {
            let hash = |path: &str| PATH_HASHER.hash_one(path);
            report.watched_paths =
                self.watches.data_watches().map(|(path, _)| hash(path)).collect();
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::reactor::admission::Refused;
    use crate::reactor::fixture::{Fixture, connect_frame};

    fn report(fixture: &mut Fixture) -> ReactorReport {
        let (to, report) = sync_channel(1);
        fixture.reactor.ask(ReactorAsk::Report { details: Details::default(), to });
        report.recv().unwrap()
    }

    #[test]
    fn what_became_of_clients_is_counted_until_a_reset() {
        let mut fixture = Fixture::new();
        let greeting = connect_frame(0, 0, None);
        let client = fixture.connected();
        fixture.reactor.receive(client.slot, &greeting);
        let _silent = fixture.connected();
        fixture.reactor.set_now(60_000);
        fixture.reactor.lapse();
        fixture.reactor.refused("10.0.0.1:1".parse().unwrap(), Refused::Total);
        let counters = report(&mut fixture).counters;
        assert_eq!((counters.handshakes, counters.rejected), (1, 1));
        assert_eq!(counters.handshakes_timed_out, 2);
        assert_eq!(counters.bytes_received, greeting.len() as u64);
        fixture.reactor.ask(ReactorAsk::ResetServerStats);
        let counters = report(&mut fixture).counters;
        assert_eq!((counters.handshakes, counters.rejected, counters.bytes_received), (0, 0, 0));
    }
}
