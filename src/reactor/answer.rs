//! What a reactor tells operators about itself.

use crate::admin::report::{ReactorAsk, ReactorReport};

use super::counters::Counters;
use super::serve::Reactor;

impl Reactor {
    /// Answers an operator's question, or does what it asks for.
    pub fn ask(&mut self, ask: ReactorAsk) {
        match ask {
            ReactorAsk::Report { connections, watches, to } => {
                // Who asked may have given up; then nobody wants to know.
                let _ = to.try_send(self.report(connections, watches));
            }
            ReactorAsk::ResetServerStats => self.counters = Counters::default(),
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

    fn report(&mut self, connections: bool, watches: bool) -> ReactorReport {
        let (watching_connections, watch_paths, watch_count) = self.watches.count_data();
        let mut report = ReactorReport {
            connections: self.connections.len() as u64,
            packets_received: self.counters.packets_received,
            packets_sent: self.counters.packets_sent,
            outstanding: self.outstanding as u64,
            latency: self.counters.latencies.report(),
            read_latency: self.counters.read_latencies.report(),
            watch_paths,
            watches: watch_count,
            watching_connections,
            ..ReactorReport::default()
        };
        if connections {
            let list = self.connections.iter().filter(|connection| !connection.is_leaving());
            report.connection_list = list.map(|connection| connection.report()).collect();
        }
        if watches {
            for (conn, path) in self.watches.list_data() {
                let session = self.connections.get(conn).and_then(|it| it.session());
                report.watch_list.extend(session.map(|session| (session, path.to_owned())));
            }
        }
        report
    }
}
