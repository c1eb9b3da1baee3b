//! What the consensus core published: transaction by transaction, reads that must not see it before
//! it, events before answers, answers in the order of the requests, and the pin moved last.

use std::ops::Range;

use crate::consensus::handoff::{AclIndex, Answer, Answers, Effect, Outcome, Published};
use crate::ids::{ConnId, SessionId, Zxid};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::EventType;
use crate::jute::reply;
use crate::limits::EVENT_BYTES_WAITING_MAX;
use crate::tree::acl::perms;
use crate::tree::path;

use super::connection::{Halts, Stage};
use super::open::read_only_byte;
use super::serve::Reactor;
use super::watched_paths::order;
use super::watches::WatchKind;

/// Room that announcements reuse.
#[derive(Default)]
struct Scratch {
    watchers: Vec<ConnId>,
    told: Vec<ConnId>,
    frame: Vec<u8>,
}

/// One event, and the ACL that says who may hear of it.
struct Event<'a> {
    kind: EventType,
    path: &'a str,
    zxid: Zxid,
    acl: AclIndex,
}

impl Reactor {
    /// Takes one batch.
    pub fn take_published(&mut self, batch: &Published) {
        let none = Answers::default();
        let answers = batch.answers.get(usize::from(self.id.0)).unwrap_or(&none);
        let mut due = answers.list.iter().peekable();
        let mut scratch = Scratch::default();
        while let Some(answer) = due.next_if(|answer| answer.after == 0) {
            self.give(answer, &answers.bytes);
        }
        for (index, txn) in batch.txns.iter().enumerate() {
            // A reactor begins with the newest version, and may be told of what is in it.
            if txn.zxid > self.applied {
                for answer in due.clone().take_while(|it| it.after as usize <= index + 1) {
                    self.run_before_own_write(answer.conn);
                }
                let effects = txn.effects.start as usize..txn.effects.end as usize;
                for effect in &batch.effects[effects] {
                    self.announce(effect, batch, txn.zxid, &mut scratch);
                }
                self.applied = txn.zxid;
            }
            while let Some(answer) = due.next_if(|answer| answer.after as usize <= index + 1) {
                self.give(answer, &answers.bytes);
            }
        }
        assert!(due.next().is_none(), "an answer is due after more transactions than there are");
        if batch.through > self.applied {
            self.applied = batch.through;
        }
        self.reader.move_to(self.applied);
        while let Some(session) = self.lists.over.pop() {
            if let Some(&slot) = self.sessions.get(&session) {
                self.close_when_answered(slot);
            }
        }
        if self.outstanding <= self.settings.outstanding_max {
            while let Some(slot) = self.lists.throttled.pop() {
                self.clear(slot, Halts::OUTSTANDING);
            }
        }
        self.end_waits();
    }

    fn announce(&mut self, effect: &Effect, batch: &Published, zxid: Zxid, scratch: &mut Scratch) {
        if let Effect::SessionClosed { session } = effect {
            return self.session_is_over(*session);
        }
        if self.watches.is_empty() {
            return;
        }
        let text = |path: &Range<u32>| &batch.paths[path.start as usize..path.end as usize];
        let (kind, path, acl, parent_acl) = match effect {
            Effect::Created { path, acl, parent_acl } => {
                (EventType::NodeCreated, text(path), *acl, Some(*parent_acl))
            }
            Effect::Deleted { path, acl, parent_acl } => {
                (EventType::NodeDeleted, text(path), *acl, Some(*parent_acl))
            }
            Effect::DataChanged { path, acl } => {
                (EventType::NodeDataChanged, text(path), *acl, None)
            }
            Effect::SessionClosed { .. } => return,
        };
        let event = Event { kind, path, zxid, acl };
        self.watches.fire(WatchKind::Data, path, &mut scratch.watchers);
        self.tell(&event, batch, scratch);
        if kind == EventType::NodeDeleted {
            // A connection hears of a deletion once, whatever it watches.
            std::mem::swap(&mut scratch.watchers, &mut scratch.told);
            self.watches.fire(WatchKind::Child, path, &mut scratch.watchers);
            let told = &scratch.told;
            scratch.watchers.retain(|it| told.binary_search_by_key(&order(it), order).is_err());
            self.tell(&event, batch, scratch);
        }
        if let Some(acl) = parent_acl
            && let Some(parent) = path::parent(path)
        {
            self.watches.fire(WatchKind::Child, parent, &mut scratch.watchers);
            let kind = EventType::NodeChildrenChanged;
            self.tell(&Event { kind, path: parent, zxid, acl }, batch, scratch);
        }
    }

    /// Sends `event` to those of `scratch.watchers` that may read the znode.
    fn tell(&mut self, event: &Event<'_>, batch: &Published, scratch: &mut Scratch) {
        if scratch.watchers.is_empty() {
            return;
        }
        scratch.frame.clear();
        reply::event(&mut scratch.frame, event.zxid, event.kind, event.path);
        let list = batch.acl(event.acl);
        // Connections that come from one place and did not authenticate have one identity.
        let mut last = None;
        for &conn in &scratch.watchers {
            let Some(connection) = self.connections.get(conn) else { continue };
            let identity = connection.identity();
            let may = match last {
                Some((known, may)) if known == identity => may,
                _ => {
                    let ids = self.identities.ids(identity);
                    self.settings.auth.rules.allow(list, perms::READ, ids)
                }
            };
            last = Some((identity, may));
            if !may {
                continue;
            }
            connection.out.extend_from_slice(&scratch.frame);
            connection.event_bytes += scratch.frame.len();
            connection.halt_if_full(&mut self.lists.full);
            connection.tally.sent += 1;
            self.counters.packets_sent += 1;
            if !connection.dirty {
                connection.dirty = true;
                self.lists.dirty.push(conn.slot);
            }
            if connection.event_bytes > EVENT_BYTES_WAITING_MAX {
                tracing::info!(slot = conn.slot, "closing a connection that does not read events");
                self.close_now(conn.slot);
            }
        }
    }

    fn session_is_over(&mut self, session: SessionId) {
        if self.sessions.contains_key(&session) {
            self.lists.over.push(session);
        }
    }

    fn give(&mut self, answer: &Answer, bytes: &[u8]) {
        let body = |range: &std::ops::Range<u32>| &bytes[range.start as usize..range.end as usize];
        match &answer.outcome {
            Outcome::Reply { err, body: range } => {
                self.complete(answer.conn, answer.xid, *err, body(range));
            }
            Outcome::LongReply { body } => {
                self.complete(answer.conn, answer.xid, ErrorCode::Ok, body);
            }
            Outcome::ReplyAndClose { err, body: range } => {
                if self.complete(answer.conn, answer.xid, *err, body(range)) {
                    self.close_when_answered(answer.conn.slot);
                }
            }
            Outcome::SessionOpened { session, timeout_ms } => {
                self.session_opened(answer.conn, *session, *timeout_ms);
            }
            Outcome::SessionRefused => self.session_refused(answer.conn),
            Outcome::Close => {
                if self.connections.get(answer.conn).is_some() {
                    self.close_now(answer.conn.slot);
                }
            }
        }
    }

    /// Answers the first request of the connection that was given away, and runs what
    /// waited for it. False: the connection is gone.
    pub(super) fn complete(&mut self, conn: ConnId, xid: i32, err: ErrorCode, body: &[u8]) -> bool {
        let slot = conn.slot;
        let Some(connection) = self.connections.get(conn) else { return false };
        let completed = connection.pipeline.complete(xid);
        self.outstanding -= 1;
        let zxid = self.applied;
        let mut kept = Vec::new();
        let out = if completed.first { &mut connection.out } else { &mut kept };
        match completed.op {
            // A connect response in place of a reply, as ZooKeeper has it.
            OpCode::CREATE_SESSION if err == ErrorCode::Ok => {
                if let Stage::Open { session, timeout_ms, read_only } = connection.stage {
                    let password = session.password();
                    reply::connect(out, timeout_ms, session, &password, read_only_byte(read_only));
                }
            }
            OpCode::SYNC if err == ErrorCode::Ok => {
                let frame = reply::begin_frame(out);
                reply::header(out, xid, zxid, err);
                reply::buffer(out, completed.path.as_deref());
                reply::finish_frame(out, frame);
            }
            _ => reply::with_body(out, xid, zxid, err, body),
        }
        if !completed.first {
            connection.pipeline.keep(&completed, &kept);
        }
        let done = err == ErrorCode::Ok || completed.op == OpCode::MULTI;
        let op = done.then_some(completed.op);
        connection.replied(op, xid, zxid, completed.since_ms, self.now_ms);
        self.counters.packets_sent += 1;
        self.counters.latencies.add(self.now_ms - completed.since_ms);
        self.run_held(slot);
        self.connections.get(conn).is_some()
    }
}

#[cfg(test)]
mod tests {
    use crate::consensus::handoff::Outcome;
    use crate::jute::opcode::OpCode;
    use crate::jute::records::Acl;
    use crate::jute::records::EventType::{
        NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted,
    };
    use crate::limits::EVENT_BYTES_WAITING_MAX;
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Change, Fixture, SESSION, add_watch, answer, digest_id, event, replied, request, watching,
        write,
    };

    const READS: [OpCode; 3] = [OpCode::EXISTS, OpCode::GET_DATA, OpCode::GET_CHILDREN];

    #[test]
    fn an_event_leaves_before_the_reply_that_shows_the_change() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = [
            watching(1, OpCode::EXISTS, "/a", true),
            write(2),
            watching(3, OpCode::GET_DATA, "/a", true),
            write(4),
        ];
        fixture.reactor.receive(client.slot, &burst.concat());
        let txns = [fixture.create("/a", b""), fixture.set_data("/a", b"x")];
        fixture.publish(&txns, vec![replied(client, 2, 1), replied(client, 4, 2)], &[]);
        let frames = fixture.frames(client);
        assert_eq!(frames.iter().map(|it| it.xid).collect::<Vec<_>>(), [1, -1, 2, 3, -1, 4]);
        assert_eq!(frames[1], event(1, NodeCreated, "/a"));
        assert_eq!(frames[4], event(2, NodeDataChanged, "/a"));
    }

    #[test]
    fn each_change_tells_those_that_the_protocol_says() {
        let mut fixture = Fixture::new();
        let first = [fixture.create("/p", b""), fixture.create("/p/c", b"")];
        let client = fixture.client();
        fixture.publish(&first, vec![], &[]);
        let watch_all = |fixture: &mut Fixture| {
            for (op, path) in READS.iter().flat_map(|op| [(op, "/p"), (op, "/p/c")]) {
                fixture.reactor.receive(client.slot, &watching(1, *op, path, true));
            }
            fixture.output(client);
        };
        watch_all(&mut fixture);
        let txn = fixture.set_data("/p/c", b"1");
        fixture.publish(&[txn], vec![], &[]);
        assert_eq!(fixture.frames(client), [event(3, NodeDataChanged, "/p/c")]);
        watch_all(&mut fixture);
        let txn = fixture.delete("/p/c");
        fixture.publish(&[txn], vec![], &[]);
        // The child watch on the znode itself goes, too, but one event says so.
        assert_eq!(
            fixture.frames(client),
            [event(4, NodeDeleted, "/p/c"), event(4, NodeChildrenChanged, "/p")]
        );
        let txn = fixture.create("/p/c", b"");
        fixture.publish(&[txn], vec![], &[]);
        assert_eq!(fixture.frames(client), []);
        let left = watching(1, OpCode::GET_CHILDREN, "/p/c", true);
        fixture.reactor.receive(client.slot, &left);
        fixture.output(client);
        let txn = fixture.delete("/p/c");
        fixture.publish(&[txn], vec![], &[]);
        assert_eq!(fixture.frames(client), [event(6, NodeDeleted, "/p/c")]);
    }

    #[test]
    fn only_those_who_may_read_a_znode_hear_of_it() {
        let mut fixture = Fixture::new();
        let (stranger, owner) = (fixture.client(), fixture.client());
        let auth = b"\0\0\0\0\0\0\0\x06digest\0\0\0\x07user:pw";
        fixture.reactor.receive(owner.slot, &request(-4, OpCode::AUTH, auth));
        for client in [stranger, owner] {
            let watch = watching(1, OpCode::EXISTS, "/private", true);
            fixture.reactor.receive(client.slot, &watch);
            fixture.output(client);
        }
        let private = fixture.private(&digest_id("user:pw").id);
        let txn = fixture.create_with("/private", b"", private);
        fixture.publish(&[txn], vec![], &[]);
        assert_eq!(fixture.frames(stranger), []);
        assert_eq!(fixture.frames(owner), [event(1, NodeCreated, "/private")]);
    }

    #[test]
    fn the_owner_of_a_private_znode_hears_of_its_deletion() {
        let mut fixture = Fixture::new();
        let owner = fixture.client();
        let auth = b"\0\0\0\0\0\0\0\x06digest\0\0\0\x07user:pw";
        fixture.reactor.receive(owner.slot, &request(-4, OpCode::AUTH, auth));
        let private = fixture.private(&digest_id("user:pw").id);
        let txn = fixture.create_with("/private", b"", private);
        fixture.publish(&[txn], vec![], &[]);
        fixture.reactor.receive(owner.slot, &watching(1, OpCode::GET_DATA, "/private", true));
        fixture.output(owner);
        let txn = fixture.delete("/private");
        fixture.publish(&[txn], vec![], &[]);
        assert_eq!(fixture.frames(owner), [event(2, NodeDeleted, "/private")]);
    }

    #[test]
    fn set_watches_tells_what_was_missed_and_leaves_the_rest() {
        let mut fixture = Fixture::new();
        let before = [fixture.create("/same", b""), fixture.create("/data", b"")];
        let after = [fixture.set_data("/data", b"x"), fixture.create("/made", b"")];
        let client = fixture.client();
        fixture.publish(&[before, after].concat(), vec![], &[]);
        let paths = |list: &[&str]| {
            let mut bytes = (list.len() as i32).to_be_bytes().to_vec();
            for path in list {
                bytes.extend((path.len() as i32).to_be_bytes());
                bytes.extend(path.as_bytes());
            }
            bytes
        };
        let body = [
            2_i64.to_be_bytes().to_vec(),
            paths(&["/data", "/same", "/gone"]),
            paths(&["/made", "/notyet"]),
            paths(&["/", "/same", "/gone2"]),
        ];
        let set = request(-8, OpCode::SET_WATCHES, &body.concat());
        fixture.reactor.receive(client.slot, &set);
        let frames = fixture.frames(client);
        assert_eq!(
            frames[..5],
            [
                event(-1, NodeDataChanged, "/data"),
                event(-1, NodeDeleted, "/gone"),
                event(-1, NodeCreated, "/made"),
                event(-1, NodeChildrenChanged, "/"),
                event(-1, NodeDeleted, "/gone2"),
            ]
        );
        assert_eq!((frames[5].xid, frames[5].err, frames.len()), (-8, 0, 6));
        let txns = [fixture.set_data("/same", b""), fixture.create("/notyet", b"")];
        fixture.publish(&txns, vec![], &[]);
        assert_eq!(
            fixture.frames(client),
            [event(5, NodeDataChanged, "/same"), event(6, NodeCreated, "/notyet")]
        );
    }

    #[test]
    fn a_client_that_reads_no_events_is_not_read_from() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let paths: Vec<_> =
            (0..6).map(|digit| format!("/{digit}{}", "x".repeat(200_000))).collect();
        for path in &paths {
            let watch = watching(1, OpCode::EXISTS, path, true);
            fixture.reactor.receive(client.slot, &watch);
        }
        fixture.output(client);
        let txns: Vec<_> = paths.iter().map(|path| fixture.create(path, b"")).collect();
        fixture.publish(&txns, vec![], &[]);
        fixture.reactor.receive(client.slot, &write(2));
        assert!(fixture.entries().is_empty());
        assert_eq!(fixture.frames(client).len(), 6);
        for slot in fixture.reactor.take_full() {
            fixture.reactor.replies_read(slot);
        }
        fixture.reactor.resume();
        assert_eq!(fixture.entries(), ["Write"]);
    }

    #[test]
    fn an_expired_session_takes_its_connection_along() {
        let mut fixture = Fixture::new();
        let (expired, other) = (fixture.client(), fixture.client());
        fixture.reactor.receive(expired.slot, &write(1));
        let txn = fixture.nothing(Change::Over(SESSION));
        fixture.publish(&[txn], vec![replied(expired, 1, 1)], &[]);
        assert_eq!(fixture.frames(expired).len(), 1);
        assert_eq!(fixture.departures(), [(expired.slot, Leave::Close { after_send: true })]);
        fixture.reactor.receive(other.slot, &watching(1, OpCode::EXISTS, "/", false));
        assert_eq!(fixture.frames(other).len(), 1);
    }

    #[test]
    fn a_deletion_in_a_multi_is_told_to_those_that_could_read_what_was_deleted() {
        let mut fixture = Fixture::new();
        let (stranger, owner) = (fixture.client(), fixture.client());
        let auth = b"\0\0\0\0\0\0\0\x06digest\0\0\0\x07user:pw";
        fixture.reactor.receive(owner.slot, &request(-4, OpCode::AUTH, auth));
        for client in [stranger, owner] {
            fixture.reactor.receive(client.slot, &add_watch(1, "/a", 0));
            fixture.output(client);
        }
        let private = vec![Acl { perms: 31, id: digest_id("user:pw") }];
        let change = |make: fn(String, (Vec<Acl>, Vec<Acl>)) -> Change, acl: &Vec<Acl>| {
            make("/a".to_owned(), (acl.clone(), Vec::new()))
        };
        let open = Vec::new();
        // The znode was private, and is open to everybody afterwards.
        let multi = [change(Change::Deleted, &private), change(Change::Created, &open)];
        let txn = fixture.nothing(Change::Multi(multi.to_vec()));
        fixture.publish(&[txn], vec![], &[]);
        let created = event(1, NodeCreated, "/a");
        assert_eq!(fixture.frames(owner), [event(1, NodeDeleted, "/a"), created.clone()]);
        assert_eq!(fixture.frames(stranger), [created]);
        // It comes and goes within one transaction.
        let multi = [change(Change::Created, &private), change(Change::Deleted, &private)];
        let txn = fixture.nothing(Change::Multi(multi.to_vec()));
        fixture.publish(&[txn], vec![], &[]);
        assert_eq!(fixture.frames(stranger), []);
        let both = [event(2, NodeCreated, "/a"), event(2, NodeDeleted, "/a")];
        assert_eq!(fixture.frames(owner), both);
    }

    #[test]
    fn persistent_watches_are_told_of_every_change() {
        let mut fixture = Fixture::new();
        let (one, all) = (fixture.client(), fixture.client());
        fixture.reactor.receive(one.slot, &add_watch(1, "/a", 0));
        fixture.reactor.receive(all.slot, &add_watch(1, "/a", 1));
        for client in [one, all] {
            fixture.output(client);
        }
        for round in 0..2 {
            let txns = [
                fixture.create("/a", b""),
                fixture.create("/a/b", b""),
                fixture.set_data("/a/b", b"x"),
                fixture.set_data("/a", b"x"),
                fixture.delete("/a/b"),
                fixture.delete("/a"),
            ];
            fixture.publish(&txns, vec![], &[]);
            let zxid = round * 6;
            let expected = [
                event(zxid + 1, NodeCreated, "/a"),
                event(zxid + 2, NodeChildrenChanged, "/a"),
                event(zxid + 4, NodeDataChanged, "/a"),
                event(zxid + 5, NodeChildrenChanged, "/a"),
                event(zxid + 6, NodeDeleted, "/a"),
            ];
            assert_eq!(fixture.frames(one), expected);
            let expected = [
                event(zxid + 1, NodeCreated, "/a"),
                event(zxid + 2, NodeCreated, "/a/b"),
                event(zxid + 3, NodeDataChanged, "/a/b"),
                event(zxid + 4, NodeDataChanged, "/a"),
                event(zxid + 5, NodeDeleted, "/a/b"),
                event(zxid + 6, NodeDeleted, "/a"),
            ];
            assert_eq!(fixture.frames(all), expected);
        }
    }

    #[test]
    fn a_client_that_never_reads_its_events_is_closed_before_they_take_much_memory() {
        let mut fixture = Fixture::new();
        let (silent, reading) = (fixture.client(), fixture.client());
        let name = format!("/{}", "n".repeat(10_000));
        for client in [silent, reading] {
            fixture.reactor.receive(client.slot, &add_watch(1, &name, 0));
        }
        let mut told = 0;
        while fixture.departures().is_empty() {
            // One of them has a socket that takes nothing.
            fixture.reactor.flush(|slot, out| {
                if slot == reading.slot {
                    out.clear();
                }
            });
            let path = name.clone();
            let txn = fixture.nothing(Change::Set(path, Default::default()));
            fixture.publish(&[txn], vec![], &[]);
            fixture.reactor.sent(silent.slot);
            told += 1;
            assert!(told * name.len() <= EVENT_BYTES_WAITING_MAX + name.len(), "it stays");
        }
        assert!(told * name.len() > EVENT_BYTES_WAITING_MAX / 2, "closed after {told} events");
        assert!(fixture.reactor.connections.get(reading).is_some());
        assert!(fixture.reactor.connections.get(silent).is_none());
    }

    #[test]
    fn a_connection_whose_session_moved_is_closed_without_a_word() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &write(1));
        fixture.publish(&[], vec![answer(client, 1, 0, Outcome::Close)], &[]);
        assert_eq!(fixture.frames(client), []);
        assert_eq!(fixture.departures(), [(client.slot, Leave::Close { after_send: false })]);
    }

    #[test]
    fn an_answer_to_a_connection_that_is_gone_reaches_nobody() {
        let mut fixture = Fixture::new();
        let gone = fixture.client();
        fixture.reactor.receive(gone.slot, &write(1));
        fixture.reactor.close_now(gone.slot);
        fixture.departures();
        fixture.reactor.gone(gone.slot);
        let next = fixture.client();
        assert_eq!(next.slot, gone.slot);
        fixture.reactor.receive(next.slot, &write(1));
        let txn = fixture.create("/a", b"");
        fixture.publish(&[txn], vec![replied(gone, 1, 1)], &[]);
        assert_eq!(fixture.frames(next), []);
    }
}
