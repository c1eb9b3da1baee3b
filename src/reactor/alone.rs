//! Requests that stand alone: getEphemerals, which the consensus core answers, for it knows whose
//! they are; and getAllChildrenNumber, which may take many turns. Called by `serve`.
//!
//! Such a request begins when everything before it of its session is answered, and nothing behind
//! it begins before it is answered itself. So its answer shows what its session wrote before and
//! nothing that it wrote behind, and one connection has at most one long answer under way.

use std::collections::VecDeque;

use crate::consensus::handoff::Entry;
use crate::ids::{ConnId, SessionId, Zxid};
use crate::jute::decode::Cursor;
use crate::jute::error_code::ErrorCode;
use crate::jute::reply;
use crate::jute::request::{self, Header};
use crate::tree::acl::perms;
use crate::tree::{self, Census, Descendants};

use super::connection::Halts;
use super::read::undecodable;
use super::serve::{Reactor, Served};

/// Steps through the tree that one turn takes for counts at once, and again for those that wait:
/// some hundred microseconds when nothing is in the cache.
const COUNTED_PER_TURN: usize = 2048;

/// Steps that any count takes, so that even what is small is not free.
const STEPS_MIN: usize = 16;

/// Counts that are not done at once, one after the other. Those whose client has gone may be among
/// them; there are never more of them than twice the connections.
pub(super) struct Counting {
    waiting: VecDeque<Count>,
    current: Option<(Count, Progress)>,
    /// Steps that this turn may still take at once: whoever asks again and again for what is
    /// counted at once must not hold the others up.
    steps_left: usize,
    /// Kept from count to count; none before the first.
    reader: Option<tree::Reader>,
}

struct Count {
    conn: ConnId,
    xid: i32,
    path: Box<str>,
}

enum Progress {
    Going(Census),
    /// The reactor has not come as far as the version that was counted on.
    Done {
        number: Option<u64>,
        at: Zxid,
    },
}

impl Default for Counting {
    fn default() -> Counting {
        Counting {
            waiting: VecDeque::new(),
            current: None,
            steps_left: COUNTED_PER_TURN,
            reader: None,
        }
    }
}

impl Counting {
    /// Whether the next turn can go on with one.
    pub(super) fn can_go_on(&self) -> bool {
        match &self.current {
            Some((_, progress)) => matches!(progress, Progress::Going(_)),
            None => !self.waiting.is_empty(),
        }
    }
}

impl Reactor {
    /// Whether a request that stands alone may begin. If not, it comes again when it may.
    fn may_stand_alone(&mut self, slot: u32) -> bool {
        let connection = self.connections.at(slot);
        let may = connection.pipeline.is_empty();
        if !may {
            connection.halts.set(Halts::ALONE);
        }
        may
    }

    /// A request that stands alone has begun.
    fn stands_alone(&mut self, slot: u32, header: Header) {
        let connection = self.connections.at(slot);
        connection.pipeline.wrote(header.xid, header.op, 0, self.now_ms);
        connection.halts.set(Halts::ALONE);
        self.asked(slot);
    }

    pub(super) fn get_ephemerals(
        &mut self,
        slot: u32,
        session: SessionId,
        header: Header,
        body: &[u8],
    ) -> Served {
        let Ok(prefix) = Cursor::new(body).buffer("prefixPath") else {
            return self.answer_alone(slot, header, Err(ErrorCode::MarshallingError));
        };
        let prefix = prefix.unwrap_or_default();
        if !self.may_stand_alone(slot) || !self.may_submit(slot, prefix.len()) {
            return Served::Later;
        }
        // As Java's trim does.
        let blank = |byte: &u8| *byte <= b' ';
        let is_all = prefix.iter().filter(|byte| !blank(byte)).eq(b"/") || prefix.iter().all(blank);
        let prefix = if is_all { &[][..] } else { prefix };
        let start = self.submission.bytes.len() as u32;
        self.submission.bytes.extend_from_slice(prefix);
        self.submission.entries.push(Entry::GetEphemerals {
            conn: self.connections.at(slot).id,
            session,
            xid: header.xid,
            prefix: start..start + prefix.len() as u32,
        });
        self.stands_alone(slot, header);
        Served::Yes
    }

    pub(super) fn get_all_children_number(
        &mut self,
        slot: u32,
        header: Header,
        body: &[u8],
    ) -> Served {
        if !self.may_stand_alone(slot) {
            return Served::Later;
        }
        let path = match request::path(body) {
            Ok(path) => path,
            Err(error) => return self.answer_alone(slot, header, Err(undecodable(error))),
        };
        let view = self.reader.at(self.applied);
        let Some(node) = view.get(path) else {
            return self.answer_alone(slot, header, Err(ErrorCode::NoNode));
        };
        let ids = self.identities.ids(self.connections.at(slot).identity());
        if !self.settings.auth.rules.allow(node.acl(), perms::READ, ids) {
            return self.answer_alone(slot, header, Err(ErrorCode::NoAuth));
        }
        let steps = self.counting.steps_left;
        match node.descendants(steps) {
            Descendants::Counted(number) => {
                let taken = usize::try_from(number).unwrap_or(steps).saturating_mul(2);
                self.counting.steps_left = steps.saturating_sub(taken.max(STEPS_MIN));
                self.answer_alone(slot, header, Ok(total(path, number)))
            }
            Descendants::TooMany => {
                self.counting.steps_left = 0;
                self.count_later(slot, header.xid, path.into());
                self.stands_alone(slot, header);
                Served::Yes
            }
        }
    }

    fn count_later(&mut self, slot: u32, xid: i32, path: Box<str>) {
        if self.counting.waiting.len() >= 2 * self.connections.len() {
            // A connection has one count at most, so at least half of these wait for nobody.
            let connections = &mut self.connections;
            self.counting.waiting.retain(|count| connections.get(count.conn).is_some());
        }
        let conn = self.connections.at(slot).id;
        self.counting.waiting.push_back(Count { conn, xid, path });
    }

    /// Answers with a number or an error; nothing before it waits.
    fn answer_alone(
        &mut self,
        slot: u32,
        header: Header,
        answer: Result<i32, ErrorCode>,
    ) -> Served {
        let connection = self.connections.at(slot);
        if !connection.pipeline.is_empty() {
            connection.halts.set(Halts::ALONE);
            return Served::Later;
        }
        let (err, body) = match answer {
            Ok(number) => (ErrorCode::Ok, &number.to_be_bytes()[..]),
            Err(err) => (err, &[][..]),
        };
        reply::with_body(&mut connection.out, header.xid, self.applied, err, body);
        connection.replied(Some(header.op), header.xid, self.applied, self.now_ms, self.now_ms);
        self.counters.packets_sent += 1;
        self.counters.latencies.add(0);
        self.counters.read_latencies.add(0);
        Served::Yes
    }

    /// Does a turn's piece of the counts that are not done at once.
    pub(super) fn go_on_counting(&mut self) {
        self.counting.steps_left = COUNTED_PER_TURN;
        let Some((count, progress)) = self.next_count() else { return };
        let progress = match progress {
            Progress::Going(mut census) => match census.go_on(COUNTED_PER_TURN) {
                None => Progress::Going(census),
                Some(number) => {
                    let at = census.zxid();
                    self.counting.reader = Some(census.into_reader());
                    Progress::Done { number: Some(number), at }
                }
            },
            done => done,
        };
        match progress {
            // The reply carries the zxid of what the reactor has applied.
            Progress::Done { number, at } if at <= self.applied => {
                let answer = number.map(|number| total(&count.path, number));
                let (err, body) = match &answer {
                    Some(number) => (ErrorCode::Ok, &number.to_be_bytes()[..]),
                    None => (ErrorCode::NoNode, &[][..]),
                };
                self.complete(count.conn, count.xid, err, body);
            }
            progress => self.counting.current = Some((count, progress)),
        }
    }

    /// The count to go on with. Those whose client has gone are given up.
    fn next_count(&mut self) -> Option<(Count, Progress)> {
        if let Some((count, progress)) = self.counting.current.take() {
            if self.connections.get(count.conn).is_some() {
                return Some((count, progress));
            }
            if let Progress::Going(census) = progress {
                self.counting.reader = Some(census.into_reader());
            }
        }
        loop {
            let count = self.counting.waiting.pop_front()?;
            if self.connections.get(count.conn).is_some() {
                let progress = self.begin_census(&count.path);
                return Some((count, progress));
            }
        }
    }

    fn begin_census(&mut self, path: &str) -> Progress {
        let kept = self.counting.reader.take();
        let reader = kept.unwrap_or_else(|| self.reader.registry().reader());
        match reader.census(path) {
            Ok(census) => Progress::Going(census),
            Err(reader) => {
                self.counting.reader = Some(reader);
                // Deleted since it was asked for: nobody can have seen a later version yet.
                Progress::Done { number: None, at: self.reader.registry().committed() }
            }
        }
    }
}

/// What is answered for `path`, below which so many znodes are. ZooKeeper finds the root below the
/// empty path.
fn total(path: &str, below: u64) -> i32 {
    i32::try_from(below + u64::from(path.is_empty())).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::handoff::Outcome;
    use crate::jute::codec;
    use crate::jute::opcode::OpCode;
    use crate::jute::records::{GetEphemeralsRequest, PathRequest};
    use crate::reactor::fixture::{
        Change, Fixture, answer, replied, request, watching, write, xids,
    };

    fn number_below(xid: i32, path: &str) -> Vec<u8> {
        let record = codec::to_vec(&PathRequest { path: path.to_owned() }).unwrap();
        request(xid, OpCode::GET_ALL_CHILDREN_NUMBER, &record)
    }

    fn ephemerals(xid: i32, prefix_path: Option<&str>) -> Vec<u8> {
        let record = GetEphemeralsRequest { prefix_path: prefix_path.map(str::to_owned) };
        request(xid, OpCode::GET_EPHEMERALS, &codec::to_vec(&record).unwrap())
    }

    fn numbers(fixture: &mut Fixture, conn: ConnId) -> Vec<(i32, i32, Option<i32>)> {
        let number = |body: &[u8]| body.try_into().ok().map(i32::from_be_bytes);
        fixture.frames(conn).iter().map(|it| (it.xid, it.err, number(&it.body))).collect()
    }

    /// So many znodes below /many, in one transaction.
    fn plant(fixture: &mut Fixture, count: usize) {
        let first = fixture.create("/many", b"");
        let many = fixture.transaction(|writer| {
            for number in 0..count {
                let path = format!("/many/{number}");
                let open = tree::AclId::OPEN;
                writer.create(&path, None, open, tree::Owner::Persistent, None).unwrap();
            }
        });
        fixture.publish(&[first, many], vec![], &[]);
    }

    #[test]
    fn a_small_tree_is_counted_at_once() {
        let mut fixture = Fixture::new();
        plant(&mut fixture, 10);
        let private = fixture.private("u:x");
        let txn = fixture.create_with("/private", b"", private);
        let client = fixture.client();
        fixture.publish(&[txn], vec![], &[]);
        let paths = ["/many", "/many/3", "/", "", "/none", "/private", "none"];
        let burst: Vec<u8> = (1..).zip(paths).flat_map(|(xid, at)| number_below(xid, at)).collect();
        fixture.reactor.receive(client.slot, &burst);
        let null = request(8, OpCode::GET_ALL_CHILDREN_NUMBER, &(-1_i32).to_be_bytes());
        fixture.reactor.receive(client.slot, &null);
        let expected = [
            (1, 0, Some(10)),
            (2, 0, Some(0)),
            (3, 0, Some(15)),
            (4, 0, Some(16)),
            (5, -101, None),
            (6, -102, None),
            (7, -101, None),
            (8, -5, None),
        ];
        assert_eq!(numbers(&mut fixture, client), expected);
        fixture.reactor.resume();
        assert!(!fixture.reactor.has_work());
    }

    #[test]
    fn a_large_tree_is_counted_in_pieces_while_others_are_served() {
        let mut fixture = Fixture::new();
        let count = 3 * COUNTED_PER_TURN;
        plant(&mut fixture, count);
        let (client, other) = (fixture.client(), fixture.client());
        let burst = [number_below(1, "/many"), watching(2, OpCode::EXISTS, "/", false), write(3)];
        fixture.reactor.receive(client.slot, &burst.concat());
        fixture.reactor.receive(other.slot, &number_below(1, "/"));
        let mut turns = 0;
        while fixture.reactor.has_work() {
            turns += 1;
            assert!(turns < 20, "it never ends");
            fixture.reactor.go_on_with_long_work();
            fixture.reactor.receive(other.slot, &watching(9, OpCode::EXISTS, "/", false));
            assert!(fixture.reactor.connections.at(client.slot).pipeline.len() < 2);
            fixture.reactor.resume();
        }
        assert!(turns >= 6, "all at once");
        let expected = [(1, 0, Some(count as i32)), (2, 0, None)];
        assert_eq!(numbers(&mut fixture, client), expected);
        assert_eq!(fixture.entries(), ["Write"], "what stood behind it comes when it is answered");
        let frames = numbers(&mut fixture, other);
        assert_eq!(frames[0], (1, 0, Some(count as i32 + 4)));
        assert!(frames[1..].iter().all(|it| it.0 == 9), "{frames:?}");
        assert_eq!(fixture.reactor.outstanding, 1, "the write");
    }

    #[test]
    fn a_count_is_not_told_before_the_version_that_it_counted() {
        let mut fixture = Fixture::new();
        let count = 2 * COUNTED_PER_TURN;
        plant(&mut fixture, count);
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &number_below(1, "/many"));
        // Committed, but the reactor is told later.
        let txn = fixture.create("/many/more", b"");
        (0..5).for_each(|_| fixture.reactor.go_on_with_long_work());
        assert_eq!(numbers(&mut fixture, client), []);
        fixture.reactor.resume();
        assert!(!fixture.reactor.has_work(), "it waits for the batch");
        let zxid = txn.0;
        fixture.publish(&[txn], vec![], &[]);
        fixture.reactor.go_on_with_long_work();
        let frames = fixture.frames(client);
        assert_eq!(
            (frames[0].zxid, &frames[0].body[..]),
            (zxid, &(count as i32 + 1).to_be_bytes()[..])
        );
    }

    #[test]
    fn what_is_to_be_counted_may_be_deleted_and_who_asked_may_be_gone() {
        let mut fixture = Fixture::new();
        plant(&mut fixture, 2 * COUNTED_PER_TURN);
        let (gone, client) = (fixture.client(), fixture.client());
        for client in [gone, client] {
            fixture.reactor.receive(client.slot, &number_below(1, "/many"));
        }
        fixture.reactor.close_now(gone.slot);
        fixture.departures();
        fixture.reactor.gone(gone.slot);
        let txn = fixture.transaction(|writer| {
            let children: Vec<String> =
                writer.get("/many").unwrap().children().map(str::to_owned).collect();
            for child in children {
                writer.delete(&format!("/many/{child}")).unwrap();
            }
            writer.delete("/many").unwrap();
        });
        fixture.publish(&[txn], vec![], &[]);
        for _ in 0..5 {
            fixture.reactor.go_on_with_long_work();
        }
        fixture.reactor.resume();
        assert!(!fixture.reactor.has_work());
        assert_eq!(numbers(&mut fixture, client), [(1, -101, None)]);
    }

    #[test]
    fn who_asks_again_and_again_does_not_hold_the_others_up() {
        let mut fixture = Fixture::new();
        let count = COUNTED_PER_TURN / 8;
        plant(&mut fixture, count);
        let client = fixture.client();
        let burst: Vec<u8> = (0..100).flat_map(|xid| number_below(xid, "/many")).collect();
        fixture.reactor.receive(client.slot, &burst);
        let mut answered = fixture.frames(client).len();
        assert!((1..=8).contains(&answered), "{answered} in one turn");
        let leaves: Vec<u8> = (0..1000).flat_map(|xid| number_below(xid, "/many/1")).collect();
        fixture.reactor.receive(client.slot, &leaves);
        let mut turns = 0;
        while fixture.reactor.has_work() {
            turns += 1;
            assert!(turns < 1000, "it never ends");
            fixture.reactor.resume();
            fixture.reactor.go_on_with_long_work();
            let now = fixture.frames(client).len();
            assert!(now <= COUNTED_PER_TURN / STEPS_MIN + 1, "{now} in one turn");
            answered += now;
        }
        assert_eq!(answered, 1100);
        assert!(turns > 10, "all in {turns} turns");
    }

    #[test]
    fn nobody_counts_for_clients_that_are_gone() {
        let mut fixture = Fixture::new();
        plant(&mut fixture, 20 * COUNTED_PER_TURN);
        for _ in 0..30 {
            let client = fixture.client();
            fixture.reactor.receive(client.slot, &number_below(1, "/many"));
            fixture.reactor.go_on_with_long_work();
            fixture.reactor.close_now(client.slot);
            fixture.departures();
            fixture.reactor.gone(client.slot);
            assert!(fixture.reactor.counting.waiting.len() <= 2, "they pile up");
        }
        fixture.reactor.go_on_with_long_work();
        assert!(!fixture.reactor.has_long_work());
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &number_below(1, "/many"));
        (0..60).for_each(|_| fixture.reactor.go_on_with_long_work());
        let expected = [(1, 0, Some(20 * COUNTED_PER_TURN as i32))];
        assert_eq!(numbers(&mut fixture, client), expected);
    }

    #[test]
    fn a_request_that_stands_alone_waits_for_what_is_before_it_and_holds_back_what_is_behind() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let burst = [write(1), ephemerals(2, Some(" / ")), write(3), number_below(4, "/")];
        fixture.reactor.receive(client.slot, &burst.concat());
        assert_eq!(fixture.entries(), ["Write"]);
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 1, 1)], &[]);
        fixture.reactor.resume();
        let Entry::GetEphemerals { xid: 2, prefix, .. } = &fixture.submitted().entries[0] else {
            panic!("getEphemerals was not handed over");
        };
        assert!(prefix.is_empty(), "all of them");
        let list = Outcome::LongReply { body: vec![7; 9] };
        fixture.publish(&[], vec![answer(client, 2, 0, list)], &[]);
        fixture.reactor.resume();
        assert_eq!(fixture.entries(), ["Write"]);
        let frames = fixture.frames(client);
        assert_eq!((frames[0].xid, frames[1].xid, &frames[1].body[..]), (1, 2, &[7; 9][..]));
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, 3, 1)], &[]);
        fixture.reactor.resume();
        assert_eq!(xids(&mut fixture, client), [3, 4]);
    }

    #[test]
    fn a_prefix_is_a_string_and_blank_or_null_mean_all() {
        for (prefix, sent) in [
            (None, ""),
            (Some(""), ""),
            (Some(" \t"), ""),
            (Some("/"), ""),
            (Some("/ "), ""),
            (Some("/a"), "/a"),
            (Some(" /a"), " /a"),
        ] {
            let mut fixture = Fixture::new();
            let client = fixture.client();
            fixture.reactor.receive(client.slot, &ephemerals(1, prefix));
            assert_eq!(fixture.submitted().bytes, sent.as_bytes(), "{prefix:?}");
        }
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let cut = request(1, OpCode::GET_EPHEMERALS, &[0, 0, 0, 9, b'/']);
        fixture.reactor.receive(client.slot, &cut);
        assert_eq!(fixture.frames(client)[0].err, ErrorCode::MarshallingError.code());
    }
}
