//! What goes to the consensus core: requests that it must order join the submission that is being
//! gathered, and complete submissions wait, a bounded number of them, until it has room. Called by
//! `serve` for each request, by `turn` for what to hand over.

use crate::consensus::handoff::{Entry, Submission};
use crate::ids::SessionId;
use crate::jute::decode::Cursor;
use crate::jute::opcode::OpCode;
use crate::jute::request::Header;
use crate::limits::{SUBMISSION_BYTES_MAX, SUBMISSION_ENTRIES_MAX, SUBMISSIONS_SEALED_MAX};

use super::connection::Halts;
use super::serve::{Reactor, Served};

impl Reactor {
    pub(super) fn write(
        &mut self,
        slot: u32,
        session: SessionId,
        header: Header,
        body: &[u8],
    ) -> Served {
        if !self.may_submit(slot, body.len()) {
            return Served::Later;
        }
        let connection = self.connections.at(slot);
        let start = self.submission.bytes.len() as u32;
        self.submission.bytes.extend_from_slice(body);
        self.submission.entries.push(Entry::Write {
            conn: connection.id,
            session,
            xid: header.xid,
            op: header.op,
            identity: connection.identity(),
            body: start..start + body.len() as u32,
        });
        connection.pipeline.wrote(header.xid, header.op, body.len(), self.now_ms);
        if header.op == OpCode::CLOSE_SESSION {
            // What the client sends behind it is lost, as in ZooKeeper.
            connection.halts.set(Halts::LAST);
        }
        self.asked(slot);
        Served::Yes
    }

    /// A createSession inside a session. ZooKeeper takes any timeout for it; here it has to be one
    /// that a new session could have.
    pub(super) fn create_session(
        &mut self,
        slot: u32,
        session: SessionId,
        header: Header,
        body: &[u8],
    ) -> Served {
        let Ok(asked_ms) = Cursor::new(body).int("timeOut") else {
            return self.write(slot, session, header, body);
        };
        let timeout_ms = self.settings.session_timeout_ms(asked_ms);
        self.write(slot, session, header, &timeout_ms.to_be_bytes())
    }

    pub(super) fn sync(
        &mut self,
        slot: u32,
        session: SessionId,
        frame: &[u8],
        header: Header,
        body: &[u8],
    ) -> Served {
        // ZooKeeper takes a null path, too, and answers with it.
        let Ok(path) = Cursor::new(body).buffer("path") else {
            return self.read(slot, frame, header, body);
        };
        if !self.may_submit(slot, path.map_or(0, <[u8]>::len)) {
            return Served::Later;
        }
        let connection = self.connections.at(slot);
        let (conn, xid) = (connection.id, header.xid);
        self.submission.entries.push(Entry::Sync { conn, session, xid });
        connection.pipeline.synced(xid, path, self.now_ms);
        self.asked(slot);
        Served::Yes
    }

    /// Whether a request of `slot` may go to the consensus core now; halts the connection if not.
    pub(super) fn may_submit(&mut self, slot: u32, length: usize) -> bool {
        let connection = self.connections.at(slot);
        if self.sealed.len() >= SUBMISSIONS_SEALED_MAX {
            connection.halts.set(Halts::WRITES);
            self.lists.blocked.push(slot);
            return false;
        }
        if !connection.pipeline.has_room(length) {
            connection.halts.set(Halts::PIPELINE);
            return false;
        }
        let full = self.submission.entries.len() >= SUBMISSION_ENTRIES_MAX
            || self.submission.bytes.len() + length > SUBMISSION_BYTES_MAX;
        if full {
            self.seal();
        }
        true
    }

    /// A request of `slot` is in the submission.
    pub(super) fn asked(&mut self, slot: u32) {
        self.outstanding += 1;
        if self.outstanding > self.settings.outstanding_max {
            self.connections.at(slot).halts.set(Halts::OUTSTANDING);
            self.lists.throttled.push(slot);
        }
    }

    /// Ends the submission that is being gathered.
    pub fn seal(&mut self) {
        if !self.submission.entries.is_empty() {
            let next = Submission::new(self.id);
            self.sealed.push_back(std::mem::replace(&mut self.submission, next));
        }
    }

    /// The oldest submission that is to be handed over. Give it back with `hand_over_later` when
    /// the consensus core has no room.
    pub fn next_sealed(&mut self) -> Option<Submission> {
        self.sealed.pop_front()
    }

    /// The consensus core has no room for `submission`.
    pub fn hand_over_later(&mut self, submission: Submission) {
        self.sealed.push_front(submission);
    }

    /// Whether submissions wait for room at the consensus core.
    pub fn is_blocked(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Submissions were handed over: who had to stop writing goes on.
    pub fn unblock(&mut self) {
        if self.sealed.len() >= SUBMISSIONS_SEALED_MAX {
            return;
        }
        while let Some(slot) = self.lists.blocked.pop() {
            self.clear(slot, Halts::WRITES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Stage;
    use super::*;
    use crate::consensus::handoff::Outcome;
    use crate::jute::error_code::ErrorCode;
    use crate::jute::records::ConnectResponse;
    use crate::limits::PIPELINE_REQUESTS_MAX;
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Change, Fixture, SESSION, answer, replied, request, settings, watching, write, xids,
    };
    use crate::reactor::settings::Settings;

    #[test]
    fn sync_echoes_its_path_in_its_turn() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let (path, null) = (b"\0\0\0\x05/nope", (-1_i32).to_be_bytes());
        let syncs = [request(2, OpCode::SYNC, path), request(3, OpCode::SYNC, &null)];
        fixture.reactor.receive(client.slot, &[vec![write(1)], syncs.to_vec()].concat().concat());
        assert_eq!(fixture.entries(), ["Write", "Sync", "Sync"]);
        let txn = fixture.nothing(Change::None);
        let answers = (1..=3).map(|xid| replied(client, xid, 1)).collect();
        fixture.publish(&[txn], answers, &[]);
        let frames = fixture.frames(client);
        assert_eq!((frames[1].xid, &frames[1].body[..]), (2, &path[..]));
        assert_eq!((frames[2].xid, &frames[2].body[..]), (3, &null[..]));
    }

    #[test]
    fn a_session_created_again_is_answered_with_a_connect_response() {
        for asked in [Some(false), None] {
            created_again_by_a_client_that_asked(asked);
        }
    }

    fn created_again_by_a_client_that_asked(asked: Option<bool>) {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        if let Stage::Open { read_only, .. } =
            &mut fixture.reactor.connections.at(client.slot).stage
        {
            *read_only = asked;
        }
        let body = i32::MAX.to_be_bytes();
        fixture.reactor.receive(client.slot, &request(1, OpCode::CREATE_SESSION, &body));
        let submission = fixture.submitted();
        let [Entry::Write { op: OpCode::CREATE_SESSION, body, .. }] = &submission.entries[..]
        else {
            panic!("{:?}", submission.entries);
        };
        let sent = &submission.bytes[body.start as usize..body.end as usize];
        assert_eq!(sent, settings().max_session_timeout_ms.to_be_bytes());
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 1, 1)], &[]);
        let output = fixture.output(client);
        let response = ConnectResponse::decode(&output[4..]).unwrap();
        assert_eq!((response.timeout_ms, response.session_id), (10_000, SESSION.bits()));
        assert_eq!(response.read_only, asked);
    }

    #[test]
    fn a_full_pipeline_stops_reading_until_there_is_room() {
        let mut fixture = Fixture::with(Settings { outstanding_max: 1 << 20, ..settings() });
        let client = fixture.client();
        let count = PIPELINE_REQUESTS_MAX as i32 + 5;
        let mut burst = write(0);
        (1..count).for_each(|xid| burst.extend(request(xid, OpCode::PING, &[])));
        fixture.reactor.receive(client.slot, &burst);
        let waiting = fixture.reactor.connections.at(client.slot).pipeline.len();
        assert_eq!(waiting, PIPELINE_REQUESTS_MAX);
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 0, 1)], &[]);
        fixture.reactor.resume();
        assert_eq!(fixture.frames(client).len(), count as usize);
    }

    #[test]
    fn writers_stop_and_readers_do_not_while_the_consensus_core_has_no_room() {
        let mut fixture = Fixture::new();
        let (writer, reader) = (fixture.client(), fixture.client());
        for _ in 0..SUBMISSIONS_SEALED_MAX {
            let entry = Entry::Touch { session: SessionId::NONE, ago_ms: 0 };
            fixture.reactor.submission.entries.push(entry);
            fixture.reactor.seal();
        }
        fixture.reactor.receive(writer.slot, &write(1));
        fixture.reactor.receive(reader.slot, &watching(1, OpCode::EXISTS, "/", false));
        assert_eq!(xids(&mut fixture, reader), [1]);
        fixture.submitted();
        fixture.reactor.resume();
        assert_eq!(fixture.entries(), ["Write"]);
    }

    #[test]
    fn above_the_outstanding_limit_only_clients_without_requests_are_read() {
        let mut fixture = Fixture::with(Settings { outstanding_max: 2, ..settings() });
        let (busy, idle) = (fixture.client(), fixture.client());
        let burst: Vec<u8> = (0..6).flat_map(write).collect();
        fixture.reactor.receive(busy.slot, &burst);
        assert_eq!(fixture.entries().len(), 3, "the limit and the one that went above it");
        fixture.reactor.receive(idle.slot, &write(0));
        assert_eq!(fixture.entries().len(), 1);
        let txn = fixture.nothing(Change::None);
        let answers = (0..3).map(|xid| replied(busy, xid, 1)).collect();
        fixture.publish(&[txn], answers, &[]);
        fixture.reactor.resume();
        assert_eq!(fixture.entries().len(), 2);
    }

    #[test]
    fn what_comes_behind_close_session_is_lost() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = [request(1, OpCode::CLOSE_SESSION, &[]), write(2)];
        fixture.reactor.receive(client.slot, &burst.concat());
        assert_eq!(fixture.entries(), ["Write"]);
        let session = fixture.reactor.connections.at(client.slot).session().unwrap();
        let txn = fixture.nothing(Change::Over(session));
        let outcome = Outcome::ReplyAndClose { err: ErrorCode::Ok, body: 0..0 };
        fixture.publish(&[txn], vec![answer(client, 1, 1, outcome)], &[]);
        let departures = fixture.departures();
        assert!(departures.is_empty(), "the reply comes first: {departures:?}");
        assert_eq!(xids(&mut fixture, client), [1]);
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: true })]);
    }
}
