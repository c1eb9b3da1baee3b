//! How connections end, and how the reactor does.

use crate::admin::word::Question;
use crate::consensus::handoff::Entry;
use crate::tree::Reader;

use super::connection::{Departure, Halts, Stage};
use super::lapse::touch;
use super::pipeline::Pipeline;
use super::serve::Reactor;

/// What the driver has to do for a connection that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Close { after_send: bool },
    Release,
}

impl Reactor {
    /// Closes the connection in `slot`; what it has not been sent is lost.
    pub fn close_now(&mut self, slot: u32) {
        self.depart(slot, Departure::Now);
    }

    /// The client in `slot` sends nothing more; or, with `failed`, its connection is no longer
    /// there.
    pub fn ended(&mut self, slot: u32, failed: bool) {
        let leaving = Stage::Leaving(Departure::AfterOutput);
        if failed || self.connections.at(slot).stage != leaving {
            self.close_now(slot);
        }
        // Otherwise it may still read its last reply, and is closed then.
    }

    /// Closes the connection in `slot` once it has been sent what is due.
    pub(super) fn close_after_output(&mut self, slot: u32) {
        self.has_output(slot);
        self.depart(slot, Departure::AfterOutput);
    }

    /// Closes the connection in `slot` once its requests are answered and it has been sent the
    /// answers: those before a closeSession may still wait for the client to read others.
    pub(super) fn close_when_answered(&mut self, slot: u32) {
        let now_ms = self.now_ms;
        let connection = self.connections.at(slot);
        if connection.pipeline.is_empty() {
            return self.close_after_output(slot);
        }
        connection.halts.set(Halts::LAST);
        connection.closing_ms.get_or_insert(now_ms);
    }

    /// There is no leader any more, or none yet: everybody's connection is closed, and nobody is
    /// served until `serve`. Four-letter words are answered all the same.
    pub fn withdraw(&mut self) {
        self.serving = false;
        let slots: Vec<u32> =
            self.connections.iter().map(|connection| connection.id.slot).collect();
        for slot in slots {
            self.close_now(slot);
        }
        // The writer must not keep for us what nobody reads.
        self.reader.unpin();
    }

    /// Serves clients, with what `reader` reads.
    ///
    /// # Panics
    /// When it has no pin.
    pub fn serve_with(&mut self, reader: Reader) {
        self.applied = reader.pinned().expect("a reader comes pinned");
        self.reader = reader;
        self.serving = true;
    }

    pub(super) fn depart(&mut self, slot: u32, how: Departure) {
        let now_ms = self.now_ms;
        let connection = self.connections.at(slot);
        if how == Departure::Now {
            connection.out = Vec::new();
        }
        let stage = std::mem::replace(&mut connection.stage, Stage::Leaving(how));
        if let Stage::Leaving(before) = stage {
            // It left already; that it now leaves at once is the only news there can be.
            if before == Departure::AfterOutput && how == Departure::Now {
                if !self.lists.leaving.contains(&slot) {
                    self.lists.leaving.push(slot);
                }
            } else {
                self.connections.at(slot).stage = stage;
            }
            return;
        }
        let heard = std::mem::take(&mut connection.heard);
        let ago_ms = now_ms - std::mem::replace(&mut connection.heard_ms, now_ms);
        connection.input = Vec::new();
        self.outstanding -= connection.pipeline.asked();
        let large_bytes = std::mem::take(&mut connection.large_bytes);
        connection.pipeline = Pipeline::default();
        let conn = connection.id;
        if large_bytes > 0 {
            self.admission.remove_large(large_bytes);
        }
        let identities = connection.identity.take().into_iter();
        for old in identities.chain(connection.old_identities.drain(..)) {
            self.identities.release(old, &mut self.submission);
        }
        if let Stage::Open { session, .. } = stage {
            if self.sessions.get(&session) == Some(&slot) {
                self.sessions.remove(&session);
            }
            self.watches.forget(conn);
            if heard {
                // The next report of touches would not find it, and its session would have less
                // than its timeout to come back.
                self.submission.entries.push(touch(session, ago_ms));
            }
            self.submission.entries.push(Entry::Disconnected { conn, session });
        }
        self.lists.leaving.push(slot);
    }

    /// Connections that leave and may do so now: those that wait for their output stay listed
    /// while there is some. Call it after the output was given to the sockets.
    pub fn departures(&mut self, leave: &mut Vec<(u32, Leave)>) {
        let connections = &mut self.connections;
        self.lists.leaving.retain(|&slot| {
            let connection = connections.at(slot);
            let Stage::Leaving(how) = connection.stage else {
                panic!("slot {slot} is listed to leave, and does not");
            };
            match how {
                Departure::Now => leave.push((slot, Leave::Close { after_send: false })),
                Departure::Answered(_) => leave.push((slot, Leave::Release)),
                Departure::AfterOutput if connection.out.is_empty() => {
                    leave.push((slot, Leave::Close { after_send: true }));
                }
                Departure::AfterOutput => return true,
            }
            false
        });
    }

    /// The socket of `slot` is closed.
    pub fn gone(&mut self, slot: u32) {
        let connection = self.connections.remove(slot);
        self.admission.left_reactor(self.id);
        self.admission.left(connection.address.ip());
    }

    /// The socket of `slot` is given out, for somebody to answer a four-letter word on. It still
    /// counts for its address. None: it was closed meanwhile, for the server stops.
    pub fn released(&mut self, slot: u32) -> Option<(Question, std::net::SocketAddr)> {
        let connection = self.connections.remove(slot);
        self.admission.left_reactor(self.id);
        match connection.stage {
            Stage::Leaving(Departure::Answered(question)) => Some((question, connection.address)),
            _ => {
                self.admission.left(connection.address.ip());
                None
            }
        }
    }

    /// Reads from nobody any more. Connections are closed as soon as their requests are answered.
    pub fn stop(&mut self) {
        self.stopping = true;
        for slot in 0..self.connections.slots() {
            let Some(connection) = self.connections.find(slot) else { continue };
            connection.halts.set(Halts::LAST);
            match connection.stage {
                Stage::Greeting => self.close_now(slot),
                Stage::Open { .. } if connection.pipeline.is_empty() => {
                    self.close_after_output(slot);
                }
                Stage::Open { .. } | Stage::Opening { .. } | Stage::Leaving(_) => {}
            }
        }
    }

    /// Closes whatever is left, at once: its clients had their time.
    pub fn close_all(&mut self) {
        for slot in 0..self.connections.slots() {
            if self.connections.find(slot).is_some() {
                self.close_now(slot);
            }
        }
    }

    /// Whether the reactor stops, and every connection is gone.
    pub fn is_finished(&self) -> bool {
        self.stopping && self.connections.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;
    use crate::jute::opcode::OpCode;
    use crate::reactor::fixture::{Fixture, connect_frame, request, watching};

    /// Who has been refused, and has not been sent that yet.
    fn refused(fixture: &mut Fixture) -> u32 {
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &request(1, OpCode(99), &[]));
        assert_eq!(fixture.departures(), [], "it waits for its output");
        client.slot
    }

    #[test]
    fn who_has_sent_its_last_still_gets_the_last_reply() {
        let mut fixture = Fixture::new();
        let slot = refused(&mut fixture);
        fixture.reactor.ended(slot, false);
        assert_eq!(fixture.departures(), []);
        let mut sent = Vec::new();
        fixture.reactor.flush(|_, out| sent.append(out));
        assert_eq!(sent.len(), 20);
        assert_eq!(fixture.departures(), [(slot, Leave::Close { after_send: true })]);
    }

    #[test]
    fn whose_connection_has_failed_is_closed_at_once() {
        let mut fixture = Fixture::new();
        let slot = refused(&mut fixture);
        fixture.reactor.ended(slot, true);
        let at_once = [(slot, Leave::Close { after_send: false })];
        assert_eq!(fixture.departures(), at_once);
        let client = fixture.client();
        fixture.reactor.ended(client.slot, false);
        assert_eq!(fixture.departures().len(), 1, "it sends no more, and waits for nothing");
    }

    #[test]
    fn without_a_leader_everybody_is_closed_and_nobody_is_served() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &watching(1, OpCode::GET_DATA, "/", true));
        fixture.reactor.withdraw();
        let at_once = |conn: ConnId| [(conn.slot, Leave::Close { after_send: false })];
        assert_eq!(fixture.departures(), at_once(client));
        fixture.reactor.gone(client.slot);
        let early = fixture.connected();
        fixture.reactor.receive(early.slot, &connect_frame(0, 0, None));
        assert_eq!(fixture.departures(), at_once(early));
        let asking = fixture.connected();
        fixture.reactor.receive(asking.slot, b"ruok");
        assert_eq!(fixture.departures(), [(asking.slot, Leave::Release)]);

        let (zxid, _) = fixture.create("/meanwhile", b"");
        let mut reader = fixture.reactor.reader.registry().reader();
        reader.pin_newest();
        fixture.reactor.serve_with(reader);
        assert_eq!(fixture.reactor.applied.bits(), zxid);
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &watching(1, OpCode::GET_DATA, "/meanwhile", false));
        assert_eq!(fixture.frames(client).len(), 1);
    }
}
