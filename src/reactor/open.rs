//! How a connection begins: four-letter word or connect request, session.

use std::net::SocketAddr;

use crate::admin::word::Question;
use crate::auth::ids::of_address;
use crate::consensus::handoff::Entry;
use crate::ids::{ConnId, SessionId, Zxid};
use crate::jute::opcode::OpCode;
use crate::jute::records::ConnectRequest;
use crate::jute::reply;
use crate::limits::REFUSAL_WARNING_MS;

use super::admission::Refused;
use super::connection::{Departure, Halts, Stage};
use super::handshake::{self, Greeting};
use super::serve::Reactor;

/// Clients that were closed as soon as they were accepted.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When the last warning was written, in the reactor's milliseconds.
    warned_ms: Option<u64>,
    /// Those that it does not tell of.
    untold: u64,
}

impl Reactor {
    /// A client at `address` was closed as soon as it was accepted. Whoever knocks without end must
    /// not fill the log.
    pub fn refused(&mut self, address: SocketAddr, why: Refused) {
        self.clients.rejected += 1;
        let Refusals { warned_ms, untold } = &mut self.refusals;
        if warned_ms.is_some_and(|at| self.now_ms < at + REFUSAL_WARNING_MS) {
            *untold += 1;
            return;
        }
        let others = std::mem::take(untold);
        tracing::warn!(%address, ?why, others, "too many connections: closing a new one");
        *warned_ms = Some(self.now_ms);
    }

    /// Whether `bytes`, the first of a connection, are a four-letter word; if so it leaves for
    /// whoever answers those.
    pub(super) fn is_word(&mut self, slot: u32, bytes: &[u8]) -> bool {
        let question = Question::from_bytes(bytes);
        if let Some(question) = question {
            self.depart(slot, Departure::Answered(question));
        }
        question.is_some()
    }

    /// The first frame of a connection: a connect request.
    pub(super) fn greet(&mut self, slot: u32, body: &[u8]) {
        let Ok(request) = ConnectRequest::decode(body) else {
            return self.close_now(slot);
        };
        self.clients.handshakes += 1;
        self.counters.packets_received += 1;
        self.connections.at(slot).tally.received += 1;
        if !self.admission.may_greet(request.session_id != 0, self.began_ms + self.now_ms) {
            tracing::info!(slot, "turning a client away: too many handshakes in this time");
            return self.close_now(slot);
        }
        let greeting = handshake::greet(&request, self.applied, &self.settings);
        let read_only = request.read_only;
        match greeting {
            Greeting::Ahead => {
                tracing::info!(
                    seen = %Zxid::from_bits(request.last_zxid_seen), applied = %self.applied,
                    "turning a client away that has seen a later zxid"
                );
                self.close_now(slot);
            }
            Greeting::New { timeout_ms } => {
                let conn = self.opening(slot, read_only, false);
                self.submission.entries.push(Entry::OpenSession { conn, timeout_ms });
            }
            Greeting::Renew { session, timeout_ms } => {
                let conn = self.opening(slot, read_only, true);
                self.close_other(slot, session);
                let renewal = Entry::RenewSession { conn, session, timeout_ms };
                self.submission.entries.push(renewal);
            }
            Greeting::WrongPassword { session } => {
                self.close_other(slot, session);
                // It may be on another reactor.
                self.submission.entries.push(Entry::WrongPassword { session });
                reply::refuse_session(
                    &mut self.connections.at(slot).out,
                    read_only_byte(read_only),
                );
                self.close_after_output(slot);
            }
        }
    }

    /// The consensus core is told who the client is now and not before, so that whoever connects and
    /// leaves again costs it nothing.
    fn opening(&mut self, slot: u32, read_only: Option<bool>, renewal: bool) -> ConnId {
        let connection = self.connections.at(slot);
        let ids = [of_address(connection.address.ip())];
        connection.identity = Some(self.identities.acquire(&ids, &mut self.submission));
        connection.admitted = self.settings.auth.admits(&ids);
        connection.stage = Stage::Opening { read_only, renewal };
        connection.halts.set(Halts::OPENING);
        connection.id
    }

    /// A session is on one connection only: another one that carries it is closed.
    fn close_other(&mut self, slot: u32, session: SessionId) {
        if let Some(&other) = self.sessions.get(&session)
            && other != slot
        {
            self.close_now(other);
        }
    }

    /// The consensus core has established `session` on `conn`.
    pub(super) fn session_opened(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32) {
        let slot = conn.slot;
        let Some(Stage::Opening { read_only, renewal }) =
            self.connections.get(conn).map(|it| it.stage)
        else {
            // The client did not wait. Its session lives until it expires.
            return self.submission.entries.push(Entry::Disconnected { conn, session });
        };
        self.close_other(slot, session);
        self.sessions.insert(session, slot);
        let now_ms = self.now_ms;
        let connection = self.connections.at(slot);
        connection.stage = Stage::Open { session, timeout_ms, read_only };
        let since_ms = std::mem::replace(&mut connection.heard_ms, now_ms);
        connection.tally.established_ms = self.began_ms + now_ms;
        let password = session.password();
        reply::connect(
            &mut connection.out,
            timeout_ms,
            session,
            &password,
            read_only_byte(read_only),
        );
        self.counters.packets_sent += 1;
        if renewal {
            connection.tally.sent += 1;
        } else {
            let op = Some(OpCode::CREATE_SESSION);
            connection.replied(op, 0, self.applied, since_ms, now_ms);
            self.counters.latencies.add(now_ms.saturating_sub(since_ms));
        }
        self.clear(slot, Halts::OPENING);
        self.has_output(slot);
        if self.stopping {
            self.close_after_output(slot);
        }
    }

    /// The consensus core does not know the session that `conn` asked for.
    pub(super) fn session_refused(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Stage::Opening { read_only, .. } = connection.stage else { return };
        reply::refuse_session(&mut connection.out, read_only_byte(read_only));
        self.close_after_output(conn.slot);
    }
}

/// The `readOnly` byte of an answer, there exactly when the request had it. This server is never
/// in read-only mode.
pub(super) fn read_only_byte(asked: Option<bool>) -> Option<bool> {
    asked.map(|_| false)
}

#[cfg(test)]
mod tests {
    use crate::admin::word::FourLetterWord;
    use crate::consensus::handoff::Outcome;
    use crate::ids::{ConnId, SessionId};
    use crate::jute::opcode::OpCode;
    use crate::jute::records::ConnectResponse;
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{Fixture, SESSION, answer, connect_frame, watching};

    fn response(fixture: &mut Fixture, conn: ConnId) -> ConnectResponse {
        ConnectResponse::decode(&fixture.output(conn)[4..]).unwrap()
    }

    fn gone(fixture: &mut Fixture) -> Vec<u32> {
        fixture.departures().iter().map(|(slot, _)| *slot).collect()
    }

    /// While the consensus core is at a standstill, who knocks must not fill the memory.
    #[test]
    fn who_connects_and_leaves_without_a_handshake_costs_the_consensus_core_nothing() {
        let mut fixture = Fixture::new();
        for bytes in [&b""[..], b"ruok", b"\0\0\0\x02??", b"\xff\xff\xff\xff"] {
            let conn = fixture.connected();
            fixture.reactor.receive(conn.slot, bytes);
            fixture.reactor.close_now(conn.slot);
            assert_eq!(gone(&mut fixture), [conn.slot]);
            fixture.reactor.gone(conn.slot);
        }
        assert!(fixture.submitted().entries.is_empty());
        let conn = fixture.connected();
        fixture.reactor.receive(conn.slot, &connect_frame(0, 0, None));
        assert_eq!(fixture.entries(), ["DefineIdentity", "OpenSession"]);
        fixture.reactor.close_now(conn.slot);
        assert_eq!(fixture.entries(), ["ForgetIdentity"]);
    }

    #[test]
    fn a_new_session_is_opened_by_the_consensus_core_and_then_requests_are_served() {
        let mut fixture = Fixture::new();
        let conn = fixture.connected();
        let early = watching(1, OpCode::EXISTS, "/", false);
        fixture.reactor.receive(conn.slot, &[connect_frame(0, 0, None), early].concat());
        assert_eq!(fixture.entries(), ["DefineIdentity", "OpenSession"]);
        assert!(fixture.output(conn).is_empty());
        let opened = Outcome::SessionOpened { session: SESSION, timeout_ms: 10_000 };
        fixture.publish(&[], vec![answer(conn, 0, 0, opened)], &[]);
        let response = response(&mut fixture, conn);
        assert_eq!((response.timeout_ms, response.session_id), (10_000, SESSION.bits()));
        assert_eq!(response.password.unwrap().as_slice(), SESSION.password());
        assert_eq!(response.read_only, Some(false));
        fixture.reactor.resume();
        assert_eq!(fixture.frames(conn).len(), 1);
    }

    #[test]
    fn an_old_client_gets_no_read_only_byte() {
        let mut fixture = Fixture::new();
        let conn = fixture.connected();
        let mut old = connect_frame(0, 0, None);
        old.pop();
        old[3] -= 1;
        fixture.reactor.receive(conn.slot, &old);
        fixture.publish(&[], vec![answer(conn, 0, 0, Outcome::SessionRefused)], &[]);
        let response = response(&mut fixture, conn);
        assert_eq!((response.timeout_ms, response.session_id, response.read_only), (0, 0, None));
        assert_eq!(response.password.unwrap().as_slice(), [0; 16]);
        assert_eq!(fixture.departures(), [(0, Leave::Close { after_send: true })]);
    }

    #[test]
    fn a_session_that_comes_back_leaves_its_old_connection() {
        let mut fixture = Fixture::new();
        let old = fixture.client();
        let conn = fixture.connected();
        let back = connect_frame(SESSION.bits(), 0, Some(&SESSION.password()));
        fixture.reactor.receive(conn.slot, &back);
        assert_eq!(gone(&mut fixture), [old.slot]);
        assert_eq!(fixture.entries(), ["Disconnected", "RenewSession"]);
        let opened = Outcome::SessionOpened { session: SESSION, timeout_ms: 10_000 };
        fixture.publish(&[], vec![answer(conn, 0, 0, opened)], &[]);
        assert_eq!(response(&mut fixture, conn).session_id, SESSION.bits());
    }

    #[test]
    fn a_wrong_password_is_answered_as_an_expired_session_and_closes_the_old_connection() {
        let mut fixture = Fixture::new();
        let old = fixture.client();
        let conn = fixture.connected();
        let back = connect_frame(SESSION.bits(), 0, Some(&[1; 16]));
        fixture.reactor.receive(conn.slot, &back);
        assert_eq!(response(&mut fixture, conn).session_id, 0);
        assert_eq!(gone(&mut fixture), [old.slot, conn.slot]);
        assert!(!fixture.entries().contains(&"RenewSession".to_owned()));
    }

    #[test]
    fn a_client_that_did_not_wait_for_its_session_leaves_it_to_expire() {
        let mut fixture = Fixture::new();
        let conn = fixture.connected();
        fixture.reactor.receive(conn.slot, &connect_frame(0, 0, None));
        fixture.reactor.close_now(conn.slot);
        fixture.submitted();
        let session = SessionId::from_bits(9);
        let opened = Outcome::SessionOpened { session, timeout_ms: 10_000 };
        fixture.publish(&[], vec![answer(conn, 0, 0, opened)], &[]);
        assert_eq!(fixture.entries(), ["Disconnected"]);
    }

    #[test]
    fn a_client_from_the_future_is_turned_away() {
        let mut fixture = Fixture::new();
        let conn = fixture.connected();
        fixture.reactor.receive(conn.slot, &connect_frame(0, 1, None));
        assert_eq!(fixture.departures(), [(0, Leave::Close { after_send: false })]);
    }

    #[test]
    fn a_four_letter_word_takes_the_connection_out() {
        let mut fixture = Fixture::new();
        let conn = fixture.connected();
        fixture.reactor.receive(conn.slot, b"ru");
        fixture.reactor.receive(conn.slot, b"ok\n");
        assert_eq!(fixture.departures(), [(conn.slot, Leave::Release)]);
        let (word, _) = fixture.reactor.released(conn.slot).unwrap();
        assert_eq!(word, FourLetterWord::Ruok.into());
        let client = fixture.client();
        fixture.reactor.receive(client.slot, b"ruok");
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: false })]);
    }
}
