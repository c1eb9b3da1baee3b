//! What time does: sessions that were heard of are reported, connections that say nothing closed.

use crate::consensus::handoff::Entry;
use crate::ids::SessionId;
use crate::limits::DEPARTURE_MS_MAX;

use super::connection::Stage;
use super::serve::Reactor;

/// How often connections are looked through for those that say nothing, milliseconds.
const SWEEP_MS: u64 = 1_000;

/// ZooKeeper closes connections in rounds of this many milliseconds, the deadline rounded up; a
/// client's session expires before.
const IDLE_ROUND_MS: u64 = 10_000;

/// That `session` was heard of `ago_ms` milliseconds ago.
pub(super) fn touch(session: SessionId, ago_ms: u64) -> Entry {
    Entry::Touch { session, ago_ms: u32::try_from(ago_ms).unwrap_or(u32::MAX) }
}

impl Reactor {
    /// Does what is due by now. Returns how many milliseconds there are until more is.
    pub fn lapse(&mut self) -> u64 {
        // While the consensus core has no room they are kept, each session once.
        if self.now_ms >= self.touched_ms + self.settings.touch_ms && !self.is_blocked() {
            self.touched_ms = self.now_ms;
            self.report_touches();
        }
        if self.now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = self.now_ms;
            self.close_silent();
        }
        // Requests under way may have gone with their connections.
        self.end_waits();
        let touch = self.touched_ms + self.settings.touch_ms;
        touch.min(self.swept_ms + SWEEP_MS).saturating_sub(self.now_ms)
    }

    /// Tells the consensus core which sessions were heard of since the last time.
    pub(super) fn report_touches(&mut self) {
        for slot in self.lists.heard.drain(..) {
            let Some(connection) = self.connections.find(slot) else { continue };
            if !std::mem::take(&mut connection.heard) {
                continue;
            }
            if let Some(session) = connection.session() {
                let ago_ms = self.now_ms - connection.heard_ms;
                self.submission.entries.push(touch(session, ago_ms));
            }
        }
    }

    fn close_silent(&mut self) {
        for slot in 0..self.connections.slots() {
            let Some(connection) = self.connections.find(slot) else { continue };
            let since_ms = connection.heard_ms;
            let no_session = matches!(connection.stage, Stage::Greeting | Stage::Opening { .. });
            let deadline_ms = match connection.stage {
                Stage::Open { .. } if let Some(over_ms) = connection.closing_ms => {
                    over_ms + DEPARTURE_MS_MAX
                }
                Stage::Greeting | Stage::Opening { .. } => since_ms + self.settings.handshake_ms,
                Stage::Open { timeout_ms, .. } => {
                    let due_ms = since_ms + u64::try_from(timeout_ms).unwrap_or(0);
                    (due_ms / IDLE_ROUND_MS + 1) * IDLE_ROUND_MS
                }
                Stage::Leaving(_) => since_ms + DEPARTURE_MS_MAX,
            };
            if self.now_ms >= deadline_ms {
                self.clients.handshakes_timed_out += u64::from(no_session);
                self.close_now(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::consensus::handoff::Entry;
    use crate::jute::opcode::OpCode;
    use crate::reactor::fixture::{Fixture, SESSION, request};

    fn at(fixture: &mut Fixture, now_ms: u64) -> Vec<u32> {
        fixture.reactor.set_now(now_ms);
        fixture.reactor.lapse();
        fixture.departures().iter().map(|(slot, _)| *slot).collect()
    }

    #[test]
    fn sessions_heard_of_are_touched_once_an_interval() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let _silent = fixture.client();
        fixture.reactor.set_now(600);
        let ping = request(-2, OpCode::PING, &[]);
        fixture.reactor.receive(client.slot, &ping);
        fixture.reactor.set_now(700);
        fixture.reactor.receive(client.slot, &ping);
        assert_eq!(fixture.reactor.lapse(), 300);
        assert!(fixture.entries().is_empty());
        at(&mut fixture, 1_000);
        let entries = fixture.submitted().entries;
        let [Entry::Touch { session: SESSION, ago_ms: 300 }] = entries[..] else {
            panic!("{entries:?}");
        };
        at(&mut fixture, 2_000);
        assert!(fixture.entries().is_empty());
    }

    #[test]
    fn who_is_heard_of_while_the_consensus_core_has_no_room_is_told_once_it_has() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let entry = Entry::Disconnected { conn: client, session: SESSION };
        fixture.reactor.submission.entries.push(entry);
        fixture.reactor.seal();
        for now_ms in (1_000..60_000).step_by(500) {
            fixture.reactor.set_now(now_ms);
            fixture.reactor.receive(client.slot, &request(-2, OpCode::PING, &[]));
            assert!(fixture.reactor.lapse() <= 1_000);
        }
        assert_eq!(fixture.entries(), ["Disconnected"], "they pile up");
        at(&mut fixture, 60_000);
        let entries = fixture.submitted().entries;
        let [Entry::Touch { session: SESSION, ago_ms: 500 }] = entries[..] else {
            panic!("{entries:?}");
        };
    }

    #[test]
    fn the_last_word_of_a_connection_counts_for_its_session() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        at(&mut fixture, 1_000);
        fixture.reactor.set_now(1_200);
        fixture.reactor.receive(client.slot, &request(-2, OpCode::PING, &[]));
        fixture.reactor.set_now(1_350);
        fixture.reactor.close_now(client.slot);
        let entries = fixture.submitted().entries;
        let touched =
            |entry: &Entry| matches!(entry, Entry::Touch { session: SESSION, ago_ms: 150 });
        assert!(entries.iter().any(touched), "{entries:?}");
        assert!(matches!(entries.last(), Some(Entry::Disconnected { .. })), "{entries:?}");
        at(&mut fixture, 2_000);
        assert!(fixture.entries().is_empty(), "it was told once");
    }

    #[test]
    fn a_connection_without_a_session_is_closed_however_it_dribbles() {
        let mut fixture = Fixture::new();
        let conn = fixture.connected();
        for now_ms in [1_000, 5_000, 9_999] {
            assert!(at(&mut fixture, now_ms).is_empty());
            fixture.reactor.receive(conn.slot, &[0]);
        }
        assert_eq!(at(&mut fixture, 11_000), [conn.slot]);
    }

    #[test]
    fn a_connection_that_says_nothing_is_closed_after_its_sessions_timeout() {
        let mut fixture = Fixture::new();
        let (silent, alive) = (fixture.client(), fixture.client());
        for now_ms in (1_000..20_000).step_by(1_000) {
            assert!(at(&mut fixture, now_ms).is_empty(), "closed after {now_ms} ms");
            fixture.reactor.receive(alive.slot, &request(-2, OpCode::PING, &[]));
        }
        assert_eq!(at(&mut fixture, 20_000), [silent.slot]);
    }
}
