//! Requests that have to wait in front of the server because it has enough to do, and large
//! requests. Both are off by default, as in ZooKeeper.
//!
//! A request that has to wait stays in its connection's input, and the connection is not read from
//! meanwhile: TCP carries the pressure back. Its wait is counted from when it was first left
//! lying.

use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::reply;
use crate::jute::request::Header;

use super::connection::{Halts, Stage};
use super::serve::{Reactor, Served};

/// What the keys `request_throttle_*`, `request_stale_*` and `throttled_op_wait_time` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestThrottle {
    /// Requests of this reactor under way above which others wait; at least 1.
    pub requests_max: usize,
    /// A request that has waited longer is not carried out, and answered THROTTLEDOP.
    pub op_wait_ms: Option<u64>,
    /// A request that has waited for longer than its session's timeout costs its sender the
    /// connection.
    pub drops_late: bool,
}

/// What the keys `largeRequest*` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeRequests {
    /// Bytes above which a request is large.
    pub threshold: usize,
    /// Bytes of large requests that the server may have at once; more is closed.
    pub bytes_max: usize,
}

/// The requests of a connection that were left lying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Since when, in the reactor's milliseconds.
    since_ms: u64,
    /// How much of the input was there then.
    bytes: usize,
}

impl Reactor {
    /// Whether the request at hand may go on; none: it may. Else it waits, was refused, or cost
    /// its sender the connection.
    pub(super) fn throttle(
        &mut self,
        slot: u32,
        header: Header,
        throttle: RequestThrottle,
    ) -> Option<Served> {
        let now_ms = self.now_ms;
        let connection = self.connections.at(slot);
        let waited_ms = connection.waiting.map_or(0, |waiting| now_ms - waiting.since_ms);
        let timeout_ms = match connection.stage {
            Stage::Open { timeout_ms, .. } => u64::try_from(timeout_ms).unwrap_or(0),
            _ => u64::MAX,
        };
        if throttle.drops_late && waited_ms > timeout_ms && header.op != OpCode::CLOSE_SESSION {
            tracing::info!(
                slot,
                waited_ms,
                "closing a connection: its request has waited too long"
            );
            self.close_now(slot);
            return Some(Served::Yes);
        }
        if self.outstanding >= throttle.requests_max {
            connection.halts.set(Halts::THROTTLED);
            self.lists.waiting.push(slot);
            return Some(Served::Later);
        }
        let late = throttle.op_wait_ms.is_some_and(|op_wait_ms| waited_ms > op_wait_ms);
        if !late || matches!(header.op, OpCode::PING | OpCode::CLOSE_SESSION) {
            return None;
        }
        let err = ErrorCode::ThrottledOp;
        if !connection.pipeline.is_empty() {
            if !connection.pipeline.has_room(0) {
                connection.halts.set(Halts::PIPELINE);
                return Some(Served::Later);
            }
            connection.pipeline.refuse(header.xid, err, now_ms);
        } else {
            reply::bare(&mut connection.out, header.xid, self.applied, err);
            connection.replied(None, header.xid, self.applied, now_ms, now_ms);
            self.counters.packets_sent += 1;
        }
        Some(Served::Yes)
    }

    /// What has come of `slot` and is not served, `left` bytes, is left lying.
    pub(super) fn leave_lying(&mut self, slot: u32, left: usize) {
        let now_ms = self.now_ms;
        let connection = self.connections.at(slot);
        if connection.halts.has(Halts::THROTTLED) {
            connection.waiting.get_or_insert(Waiting { since_ms: now_ms, bytes: left });
        }
    }

    /// The first `bytes` of the input of `slot` were served.
    #[inline]
    pub(super) fn served_of_waiting(&mut self, slot: u32, bytes: usize) {
        if self.settings.request_throttle.is_none() {
            return;
        }
        let connection = self.connections.at(slot);
        connection.waiting = connection.waiting.and_then(|waiting| {
            let left = waiting.bytes.saturating_sub(bytes);
            (left > 0).then_some(Waiting { bytes: left, ..waiting })
        });
    }

    /// Requests were answered: if there is room for others, those that wait are looked at again,
    /// the oldest first.
    pub(super) fn end_waits(&mut self) {
        let Some(throttle) = self.settings.request_throttle else { return };
        if self.outstanding < throttle.requests_max {
            // What is resumed last is served first.
            for slot in std::mem::take(&mut self.lists.waiting).into_iter().rev() {
                self.clear(slot, Halts::THROTTLED);
            }
        }
    }

    /// Whether a request of `length` bytes must not come in, because the server has as many bytes of
    /// large ones as it may.
    #[inline]
    pub(super) fn is_too_much(&self, length: usize) -> bool {
        self.settings.large_requests.is_some_and(|large| {
            length > large.threshold && self.admission.large_bytes() + length > large.bytes_max
        })
    }

    /// A request of `length` bytes came in. If it is large it counts until all that its connection
    /// has asked is answered.
    #[inline]
    pub(super) fn count_large(&mut self, slot: u32, length: usize) {
        let Some(large) = self.settings.large_requests else { return };
        let connection = self.connections.at(slot);
        if length > large.threshold && !connection.is_leaving() && !connection.pipeline.is_empty() {
            connection.large_bytes += length;
            self.admission.add_large(length);
        }
    }

    /// Large requests of `slot` no longer count: all that it has asked is answered, or it leaves.
    pub(super) fn forget_large(&mut self, slot: u32) {
        let bytes = std::mem::take(&mut self.connections.at(slot).large_bytes);
        if bytes > 0 {
            self.admission.remove_large(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Change, Fixture, replied, request, settings, watching, write, xids,
    };
    use crate::reactor::settings::Settings;

    fn throttled(op_wait_ms: Option<u64>, drops_late: bool) -> Fixture {
        let throttle = RequestThrottle { requests_max: 1, op_wait_ms, drops_late };
        Fixture::with(Settings { request_throttle: Some(throttle), ..settings() })
    }

    fn read(xid: i32) -> Vec<u8> {
        watching(xid, OpCode::EXISTS, "/", false)
    }

    /// The first request of `client` that is under way is answered.
    fn answer(fixture: &mut Fixture, client: ConnId, xid: i32) {
        let txn = fixture.nothing(Change::None);
        fixture.publish(&[txn], vec![replied(client, xid, 1)], &[]);
        fixture.reactor.resume();
    }

    #[test]
    fn everything_waits_while_as_many_are_under_way_as_may_be() {
        let mut fixture = throttled(None, false);
        let (writer, other) = (fixture.client(), fixture.client());
        fixture.reactor.receive(writer.slot, &[write(1), write(2), read(3)].concat());
        fixture.reactor.receive(other.slot, &[read(7), request(-2, OpCode::PING, &[])].concat());
        assert_eq!(fixture.entries(), ["Write"]);
        assert!(xids(&mut fixture, other).is_empty());
        answer(&mut fixture, writer, 1);
        assert_eq!(xids(&mut fixture, writer), [1]);
        assert_eq!(fixture.entries(), ["Write"]);
        answer(&mut fixture, writer, 2);
        assert_eq!(xids(&mut fixture, writer), [2, 3]);
        assert_eq!(xids(&mut fixture, other), [7, -2]);
    }

    #[test]
    fn what_has_waited_too_long_is_not_carried_out() {
        let mut fixture = throttled(Some(5), false);
        let client = fixture.client();
        let ping = request(-2, OpCode::PING, &[]);
        let burst = [write(1), write(2), read(3), ping, write(4)].concat();
        fixture.reactor.receive(client.slot, &burst);
        fixture.reactor.receive(client.slot, &write(5));
        assert_eq!(fixture.entries(), ["Write"]);
        fixture.reactor.set_now(6);
        answer(&mut fixture, client, 1);
        let frames: Vec<_> =
            fixture.frames(client).iter().map(|it| (it.xid, it.zxid, it.err)).collect();
        let refused = |xid| (xid, 1, -127);
        assert_eq!(frames, [(1, 1, 0), refused(2), refused(3), (-2, 1, 0), refused(4)]);
        assert_eq!(fixture.entries(), ["Write"], "the last came later");
    }

    #[test]
    fn a_refusal_keeps_its_place_behind_what_is_under_way() {
        let throttle = RequestThrottle { requests_max: 2, op_wait_ms: Some(5), drops_late: false };
        let request_throttle = Some(throttle);
        let mut fixture = Fixture::with(Settings { request_throttle, ..settings() });
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &[write(1), write(2), write(3)].concat());
        fixture.reactor.set_now(6);
        answer(&mut fixture, client, 1);
        assert_eq!(xids(&mut fixture, client), [1], "2 is still under way");
        answer(&mut fixture, client, 2);
        let frames: Vec<_> = fixture.frames(client).iter().map(|it| (it.xid, it.err)).collect();
        assert_eq!(frames, [(2, 0), (3, -127)]);
    }

    #[test]
    fn what_has_waited_for_longer_than_its_session_lives_costs_the_connection() {
        for (drops_late, closed) in [(true, true), (false, false)] {
            let mut fixture = throttled(None, drops_late);
            let client = fixture.client();
            fixture.reactor.receive(client.slot, &[write(1), write(2)].concat());
            fixture.submitted();
            fixture.reactor.set_now(10_001);
            answer(&mut fixture, client, 1);
            let now = (client.slot, Leave::Close { after_send: false });
            assert_eq!(fixture.departures().contains(&now), closed);
        }
    }

    #[test]
    fn who_waits_goes_on_when_what_was_under_way_is_gone() {
        let mut fixture = throttled(None, false);
        let (writer, other) = (fixture.client(), fixture.client());
        fixture.reactor.receive(writer.slot, &write(1));
        fixture.reactor.receive(other.slot, &read(7));
        fixture.reactor.close_now(writer.slot);
        fixture.reactor.lapse();
        fixture.reactor.resume();
        assert_eq!(xids(&mut fixture, other), [7]);
    }

    fn large(fixture: &Fixture) -> usize {
        fixture.reactor.admission.large_bytes()
    }

    #[test]
    fn large_requests_are_limited_until_they_are_answered() {
        let large_requests = Some(LargeRequests { threshold: 100, bytes_max: 250 });
        let mut fixture = Fixture::with(Settings { large_requests, ..settings() });
        let (first, second) = (fixture.client(), fixture.client());
        let big = |xid| request(xid, OpCode::SET_DATA, &[0; 142]);
        fixture.reactor.receive(first.slot, &[big(1), write(2)].concat());
        assert_eq!(large(&fixture), 150);
        // The length is enough to refuse it.
        fixture.reactor.receive(second.slot, &big(1)[..4]);
        assert_eq!(fixture.departures(), [(second.slot, Leave::Close { after_send: false })]);
        answer(&mut fixture, first, 1);
        answer(&mut fixture, first, 2);
        assert_eq!(large(&fixture), 0);
        let third = fixture.client();
        fixture.reactor.receive(third.slot, &big(1));
        assert_eq!((large(&fixture), fixture.departures().len()), (150, 0));
        fixture.reactor.receive(third.slot, &big(2));
        assert_eq!((large(&fixture), fixture.departures().len()), (0, 1));
        let fourth = fixture.client();
        fixture.reactor.receive(fourth.slot, &request(1, OpCode::GET_DATA, &[0; 150]));
        assert_eq!(large(&fixture), 0, "it was answered at once");
    }
}
