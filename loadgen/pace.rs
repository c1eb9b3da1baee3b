//! When requests leave: in a closed loop as soon as there is room for them; in an open loop at a
//! fixed rate, whatever the server does. Used by `schedule` and `client`.
//!
//! In an open loop request n of the round, counted over all connections, is due at
//! `start + n / rate`, and belongs to connection `n % connections`. What is due and cannot leave,
//! since its connection has as many in flight as it may, leaves later with the time at which it was
//! due as its stamp. So a stall of the server is in the latency of every request that it delayed
//! (no coordinated omission), and the backlog takes no memory: it is computed.

use std::time::Duration;

/// The rule of one round.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// A request leaves when a reply comes.
    Closed,
    /// Requests leave at a fixed rate.
    Open(Timetable),
}

/// The due times of a round in open loop, in the schedule's nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    start: u64,
    /// Between two requests of the round. A fraction of a nanosecond lost at each would add up.
    interval_ns: f64,
    /// Nothing is due from here on.
    until: u64,
}

impl Pace {
    /// The stamp of request `number` of the round if it may leave at `now`.
    #[inline]
    pub fn stamp(&self, number: u64, now: u64) -> Option<u64> {
        match self {
            Pace::Closed => Some(now),
            Pace::Open(timetable) => timetable.due(number).filter(|due| *due <= now),
        }
    }
}

impl Timetable {
    /// `rate` requests a second, at least one, from `start` to before `until`.
    pub fn new(rate: u32, start: u64, until: u64) -> Timetable {
        assert!(rate > 0, "no request would ever be due");
        Timetable { start, interval_ns: 1e9 / f64::from(rate), until }
    }

    /// When request `number` is due; `None`: the round is over before.
    #[inline]
    pub fn due(&self, number: u64) -> Option<u64> {
        let due = self.start + (number as f64 * self.interval_ns) as u64;
        (due < self.until).then_some(due)
    }

    /// Of the requests `next`, `next + stride` and so on, how many are due before the end.
    pub fn left(&self, next: u64, stride: u64) -> u64 {
        let Some(due) = self.due(next) else { return 0 };
        let between = self.interval_ns * stride as f64;
        ((self.until - due) as f64 / between).ceil() as u64
    }

    /// Nothing more is due from `until` on.
    pub fn end(&mut self, until: u64) {
        self.until = self.until.min(until);
    }
}

/// Which connection's turn it is, among those of one thread, in an open loop.
#[derive(Clone, Debug)]
pub struct Turns {
    thread: u64,
    threads: u64,
    connections: u64,
    /// Connections of this thread, and the one whose turn it is.
    mine: u64,
    slot: u64,
    /// Number of the round's request with which the present cycle over all connections began.
    cycle: u64,
}

impl Turns {
    /// Of thread `thread`, which has the connections `thread`, `thread + threads` and so on, under
    /// the slots 0, 1 and so on.
    pub fn new(thread: u32, threads: u32, connections: u32) -> Turns {
        assert!(thread < threads && threads <= connections, "a thread without connections");
        let mine = u64::from((connections - thread).div_ceil(threads));
        let [thread, threads, connections] = [thread, threads, connections].map(u64::from);
        Turns { thread, threads, connections, mine, slot: 0, cycle: 0 }
    }

    /// The round's number of the next request of this thread.
    #[inline]
    pub fn number(&self) -> u64 {
        self.cycle + self.thread + self.slot * self.threads
    }

    /// The slot that it belongs to; the turn goes to the next one.
    #[inline]
    pub fn take(&mut self) -> u32 {
        let slot = self.slot as u32;
        self.slot += 1;
        if self.slot == self.mine {
            (self.slot, self.cycle) = (0, self.cycle + self.connections);
        }
        slot
    }
}

/// How long a thread may sleep until `due`: with a timer that counts milliseconds, to the last whole
/// one before it, and spinning for the rest, for a late start would count as the server's latency.
pub fn sleep_until(due: u64, now: u64, whole_milliseconds: bool) -> Duration {
    let left = Duration::from_nanos(due.saturating_sub(now));
    if whole_milliseconds { Duration::from_millis(left.as_millis() as u64) } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_without_drift() {
        let timetable = Timetable::new(3_000_000, 1_000, u64::MAX);
        assert_eq!(timetable.due(0), Some(1_000));
        assert_eq!(timetable.due(1), Some(1_333));
        assert_eq!(timetable.due(3 * 3_600_000_000), Some(1_000 + 3_600_000_000_000));
    }

    #[test]
    fn a_request_leaves_when_due_or_later_with_the_time_it_was_due() {
        let pace = Pace::Open(Timetable::new(1_000, 0, 5_000_000));
        assert_eq!(pace.stamp(2, 1_999_999), None);
        assert_eq!(pace.stamp(2, 2_000_000), Some(2_000_000));
        assert_eq!(pace.stamp(2, 90_000_000), Some(2_000_000));
        assert_eq!(pace.stamp(5, 90_000_000), None, "the round was over");
        assert_eq!(Pace::Closed.stamp(5, 90), Some(90));
    }

    #[test]
    fn what_is_left_is_what_is_due_before_the_end() {
        let mut timetable = Timetable::new(1_000, 500, 10_000_000);
        assert_eq!(timetable.left(0, 1), 10);
        assert_eq!(timetable.left(1, 3), 3, "1, 4 and 7");
        assert_eq!(timetable.left(9, 3), 1);
        assert_eq!(timetable.left(10, 3), 0);
        timetable.end(2_000_000);
        assert_eq!(timetable.left(0, 1), 2);
    }

    #[test]
    fn the_threads_take_every_number_once_and_in_order() {
        let (threads, connections) = (3, 8);
        let mut taken = Vec::new();
        for thread in 0..threads {
            let mut turns = Turns::new(thread, threads, connections);
            let mut last = None;
            while turns.number() < 80 {
                let number = turns.number();
                assert!(last < Some(number), "{number} after {last:?}");
                last = Some(number);
                let slot = turns.take();
                let connection = thread + slot * threads;
                assert_eq!(number % u64::from(connections), u64::from(connection));
                taken.push(number);
            }
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..80).collect::<Vec<u64>>());
    }

    #[test]
    fn a_coarse_timer_never_oversleeps() {
        assert_eq!(sleep_until(2_900_000, 1_000_000, true), Duration::from_millis(1));
        assert_eq!(sleep_until(1_900_000, 1_000_000, true), Duration::ZERO);
        assert_eq!(sleep_until(1_900_000, 1_000_000, false), Duration::from_micros(900));
        assert_eq!(sleep_until(1, 2, false), Duration::ZERO);
    }
}
