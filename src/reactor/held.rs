//! Requests that wait for others of their session: they run when their turn comes, at the version
//! that their place in the order asks for, and not faster than their client reads. Called by
//! `announce` when the consensus core has answered, by `output` when a client has read.

use crate::ids::ConnId;
use crate::jute::{reply, request};
use crate::limits::{REPLY_BYTES_HELD_MAX, REPLY_BYTES_WAITING_MAX};

use super::connection::Halts;
use super::pipeline::Ready;
use super::read::Reading;
use super::serve::Reactor;

impl Reactor {
    /// Runs the held requests of `slot` whose turn it is, as long as its client reads the replies.
    pub(super) fn run_held(&mut self, slot: u32) {
        self.run_ready(slot, REPLY_BYTES_WAITING_MAX);
        self.connections.at(slot).halt_if_full(&mut self.lists.full);
        self.pipeline_moved(slot);
    }

    /// A transaction of `conn`'s own session is about to be applied. Reads that came before it and
    /// wait for the client to read others run now, for they must not see it.
    pub(super) fn run_before_own_write(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        if !connection.halts.has(Halts::REPLIES) {
            // Then no read waits that could run.
            return;
        }
        if self.run_ready(conn.slot, REPLY_BYTES_HELD_MAX) {
            self.pipeline_moved(conn.slot);
        } else {
            tracing::info!(slot = conn.slot, "closing a connection that writes behind its reads");
            self.close_now(conn.slot);
        }
    }

    /// Runs the held requests of `slot` whose turn it is until more than `bytes_max` waits for its
    /// client. Returns whether none is left.
    fn run_ready(&mut self, slot: u32, bytes_max: usize) -> bool {
        let connection = self.connections.at(slot);
        while let Some(ready) = connection.pipeline.ready() {
            if connection.out.len() > bytes_max {
                return false;
            }
            match ready {
                Ready::Answer { frame } => connection.out.extend_from_slice(frame),
                Ready::Refused { xid, err } => {
                    reply::bare(&mut connection.out, xid, self.applied, err);
                    self.counters.packets_sent += 1;
                }
                Ready::Read { frame, identity, since_ms } => {
                    let (header, body) = request::header(frame).expect("read before it was held");
                    let reading = Reading {
                        view: self.reader.at(self.applied),
                        zxid: self.applied,
                        conn: connection.id,
                        ids: self.identities.ids(identity),
                        rules: &self.settings.auth.rules,
                        watches: &mut self.watches,
                        out: &mut connection.out,
                    };
                    reading.answer(header, body);
                    connection.replied(
                        Some(header.op),
                        header.xid,
                        self.applied,
                        since_ms,
                        self.now_ms,
                    );
                    let latency_ms = self.now_ms - since_ms;
                    self.counters.packets_sent += 1;
                    self.counters.latencies.add(latency_ms);
                    self.counters.read_latencies.add(latency_ms);
                }
            }
            connection.pipeline.pop();
        }
        true
    }

    /// The pipeline of `slot` is shorter than it was.
    fn pipeline_moved(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.pipeline.is_empty() {
            self.forget_large(slot);
            let connection = self.connections.at(slot);
            for old in connection.old_identities.drain(..) {
                self.identities.release(old, &mut self.submission);
            }
            if self.stopping || connection.closing_ms.is_some() {
                return self.close_after_output(slot);
            }
            self.clear(slot, Halts::OUTSTANDING);
            self.clear(slot, Halts::ALONE);
        }
        self.clear(slot, Halts::PIPELINE);
        self.has_output(slot);
    }

    /// The client in `slot` has read its replies, as far as anybody can tell.
    pub fn replies_read(&mut self, slot: u32) {
        let Some(connection) = self.connections.find(slot) else { return };
        if connection.is_leaving() || !connection.halts.has(Halts::REPLIES) {
            return;
        }
        if !connection.out.is_empty() {
            // It goes to the socket at the end of this turn; look again in the next.
            return self.lists.full.push(slot);
        }
        self.clear(slot, Halts::REPLIES);
        self.run_held(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::handoff::Outcome;
    use crate::jute::error_code::ErrorCode;
    use crate::jute::opcode::OpCode;
    use crate::limits::DEPARTURE_MS_MAX;
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Change, Fixture, answer, replied, request, watching, write, xids,
    };

    #[test]
    fn a_read_waits_for_its_sessions_writes_and_sees_them() {
        let mut fixture = Fixture::new();
        let (client, other) = (fixture.client(), fixture.client());
        let burst = [write(1), watching(2, OpCode::GET_DATA, "/a", false), write(3)];
        fixture.reactor.receive(client.slot, &burst.concat());
        fixture.reactor.receive(client.slot, &watching(4, OpCode::EXISTS, "/b", false));
        fixture.reactor.receive(other.slot, &watching(1, OpCode::EXISTS, "/a", false));
        assert_eq!(xids(&mut fixture, other), [1], "another session's read does not wait");
        assert_eq!(fixture.entries(), ["Write", "Write"]);
        assert_eq!(xids(&mut fixture, client), [0i32; 0]);
        let txns = [fixture.create("/a", b"1"), fixture.create("/b", b"")];
        let answers = vec![replied(client, 1, 1), replied(client, 3, 2)];
        fixture.publish(&txns, answers, &[]);
        let frames = fixture.frames(client);
        let heads: Vec<_> = frames.iter().map(|it| (it.xid, it.zxid, it.err)).collect();
        assert_eq!(heads, [(1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0)]);
    }

    #[test]
    fn a_held_read_sees_its_transaction_and_not_the_rest_of_the_batch() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = [write(1), watching(2, OpCode::EXISTS, "/later", false)];
        fixture.reactor.receive(client.slot, &burst.concat());
        let txns = [fixture.create("/a", b""), fixture.create("/later", b"")];
        fixture.publish(&txns, vec![replied(client, 1, 1)], &[]);
        let frames = fixture.frames(client);
        assert_eq!((frames[1].xid, frames[1].zxid, frames[1].err), (2, 1, -101));
    }

    #[test]
    fn held_reads_do_not_outgrow_what_may_wait_and_answers_keep_their_order() {
        let mut fixture = Fixture::new();
        let big = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[big], vec![], &[]);
        let mut burst = write(0);
        (1..8).for_each(|xid| burst.extend(watching(xid, OpCode::GET_DATA, "/big", false)));
        burst.extend(write(8));
        burst.extend(watching(9, OpCode::EXISTS, "/", false));
        fixture.reactor.receive(client.slot, &burst);
        // The second write fails, and so has no transaction that the reads could see.
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 0, 1), replied(client, 8, 1)], &[]);
        assert!(fixture.reactor.connections.at(client.slot).out.len() < 3 * 700_000);
        let mut got = Vec::new();
        for _ in 0..10 {
            got.extend(xids(&mut fixture, client));
            for slot in fixture.reactor.take_full() {
                fixture.reactor.replies_read(slot);
            }
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    }

    /// A client that pipelined a write, `reads` of 700 kB each, and a write of what they read; it
    /// has been answered nothing yet.
    fn writing_behind_reads(reads: i32) -> (Fixture, ConnId) {
        let mut fixture = Fixture::new();
        let big = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[big], vec![], &[]);
        let mut burst = write(0);
        (1..=reads).for_each(|xid| burst.extend(watching(xid, OpCode::GET_DATA, "/big", false)));
        burst.extend(write(reads + 1));
        burst.extend(watching(reads + 2, OpCode::GET_DATA, "/big", false));
        fixture.reactor.receive(client.slot, &burst);
        (fixture, client)
    }

    #[test]
    fn a_held_read_never_sees_a_later_write_of_its_session() {
        for one_batch in [true, false] {
            let (mut fixture, client) = writing_behind_reads(7);
            let first = fixture.nothing(Change::None);
            let (before, after) = (first.0, first.0 + 1);
            if one_batch {
                let txns = [first, fixture.set_data("/big", b"new")];
                fixture.publish(&txns, vec![replied(client, 0, 1), replied(client, 8, 2)], &[]);
            } else {
                fixture.publish(&[first], vec![replied(client, 0, 1)], &[]);
                let txn = fixture.set_data("/big", b"new");
                fixture.publish(&[txn], vec![replied(client, 8, 1)], &[]);
            }
            let mut got = Vec::new();
            for _ in 0..10 {
                got.extend(fixture.frames(client));
                for slot in fixture.reactor.take_full() {
                    fixture.reactor.replies_read(slot);
                }
            }
            let heads: Vec<_> = got.iter().map(|it| (it.xid, it.zxid)).collect();
            let due = (0..10).map(|xid| (xid, if xid < 8 { before } else { after }));
            assert_eq!(heads, due.collect::<Vec<_>>());
            assert!(got[1..8].iter().all(|it| it.body.len() > 700_000));
            assert_eq!(got[9].body[..7], *b"\0\0\0\x03new");
        }
    }

    #[test]
    fn a_client_that_writes_behind_more_than_can_be_held_is_closed() {
        let reads = (REPLY_BYTES_HELD_MAX / 700_000) as i32 + 2;
        let (mut fixture, client) = writing_behind_reads(reads);
        let txns = [fixture.nothing(Change::None), fixture.set_data("/big", b"new")];
        let answers = vec![replied(client, 0, 1), replied(client, reads + 1, 2)];
        fixture.publish(&txns, answers, &[]);
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: false })]);
    }

    #[test]
    fn what_was_asked_before_close_session_is_answered_however_long() {
        let (mut fixture, client) = closing_behind_much();
        let mut got = Vec::new();
        for _ in 0..10 {
            assert!(fixture.departures().is_empty(), "closed after {got:?}");
            got.extend(xids(&mut fixture, client));
            for slot in fixture.reactor.take_full() {
                fixture.reactor.replies_read(slot);
            }
            if got.len() == 9 {
                break;
            }
        }
        assert_eq!(got, (0..9).collect::<Vec<_>>());
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: true })]);
    }

    #[test]
    fn a_client_whose_session_is_over_may_not_stay_by_not_reading() {
        let (mut fixture, client) = closing_behind_much();
        fixture.reactor.set_now(DEPARTURE_MS_MAX - 1);
        fixture.reactor.lapse();
        assert!(fixture.departures().is_empty());
        fixture.reactor.receive(client.slot, &write(9));
        fixture.reactor.set_now(DEPARTURE_MS_MAX + 1_000);
        fixture.reactor.lapse();
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: false })]);
    }

    /// A client that closed its session behind a write and reads with 5 MB of replies, when the
    /// session is over.
    fn closing_behind_much() -> (Fixture, ConnId) {
        let mut fixture = Fixture::new();
        let big = fixture.create("/big", &vec![7; 700_000]);
        let client = fixture.client();
        fixture.publish(&[big], vec![], &[]);
        let mut burst = write(0);
        (1..8).for_each(|xid| burst.extend(watching(xid, OpCode::GET_DATA, "/big", false)));
        burst.extend(request(8, OpCode::CLOSE_SESSION, &[]));
        fixture.reactor.receive(client.slot, &burst);
        let session = fixture.reactor.connections.at(client.slot).session().unwrap();
        let txns = [fixture.nothing(Change::None), fixture.nothing(Change::Over(session))];
        let outcome = Outcome::ReplyAndClose { err: ErrorCode::Ok, body: 0..0 };
        let answers = vec![replied(client, 0, 1), answer(client, 8, 2, outcome)];
        fixture.publish(&txns, answers, &[]);
        (fixture, client)
    }
}
