//! One znode, watched by all connections but one, which writes it: what they agree on, over all
//! threads. Used by `workload`, which asks for watches and writes, and by `schedule`, which waits for
//! the last events.
//!
//! Invariant: the next write leaves only when every watcher has its watch again, so that every
//! event belongs to the last write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The state of a round. Counts go up from 0.
#[derive(Debug)]
pub struct Fanout {
    watchers: u64,
    /// Watches that were set.
    set: AtomicU64,
    /// Events that came.
    told: AtomicU64,
    written: AtomicU64,
    written_at: AtomicU64,
    /// No more writes.
    ended: AtomicBool,
    /// Some connection is lost: not every event will come.
    given_up: AtomicBool,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When the write that it tells of was about to be sent.
    pub written_at: u64,
    /// No other watcher was told of that write before.
    pub first: bool,
    /// Nor will one be told afterwards.
    pub last: bool,
}

impl Fanout {
    /// With so many watchers, at least one.
    pub fn new(watchers: u32) -> Fanout {
        assert!(watchers > 0, "nobody watches");
        Fanout {
            watchers: watchers.into(),
            set: AtomicU64::new(0),
            told: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_at: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    /// How many watch.
    pub fn watchers(&self) -> u64 {
        self.watchers
    }

    /// A round begins. No thread of another one runs any more.
    pub fn begin(&self) {
        for count in [&self.set, &self.told, &self.written] {
            count.store(0, Ordering::Release);
        }
        self.ended.store(false, Ordering::Release);
        self.given_up.store(false, Ordering::Release);
    }

    /// A watcher has its watch.
    pub fn set(&self) {
        self.set.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes a write at `at` if every watcher has its watch; false: it has to wait.
    pub fn write(&self, at: u64) -> bool {
        let written = self.written.load(Ordering::Acquire);
        if self.set.load(Ordering::Acquire) < self.watchers * (written + 1) {
            return false;
        }
        self.written_at.store(at, Ordering::Release);
        self.written.store(written + 1, Ordering::Release);
        true
    }

    /// A watcher is told.
    pub fn tell(&self) -> Told {
        let rank = self.told.fetch_add(1, Ordering::AcqRel) % self.watchers;
        Told {
            written_at: self.written_at.load(Ordering::Acquire),
            first: rank == 0,
            last: rank + 1 == self.watchers,
        }
    }

    /// The writer has written for the last time.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// A connection is lost.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Whether no event can come any more.
    pub fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
            || self.ended.load(Ordering::Acquire) && self.missing() == 0
    }

    /// Events that are still to come.
    pub fn missing(&self) -> u64 {
        let due = self.watchers * self.written.load(Ordering::Acquire);
        due.saturating_sub(self.told.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_waits_for_every_watch_and_its_last_event_is_known() {
        let fanout = Fanout::new(2);
        for at in [10, 20] {
            fanout.set();
            assert!(!fanout.write(at), "one has no watch yet");
            fanout.set();
            assert!(fanout.write(at));
            assert!(!fanout.write(at + 1), "nobody was told yet");
            assert_eq!(fanout.missing(), 2);
            assert_eq!(fanout.tell(), Told { written_at: at, first: true, last: false });
            assert_eq!(fanout.tell(), Told { written_at: at, first: false, last: true });
        }
        assert!(!fanout.is_over(), "another write may come");
        fanout.end();
        assert!(fanout.is_over());
        fanout.begin();
        assert!(!fanout.is_over() && !fanout.write(30), "the next round starts afresh");
    }

    #[test]
    fn nobody_waits_for_events_once_a_connection_is_lost() {
        let fanout = Fanout::new(1);
        fanout.set();
        assert!(fanout.write(1));
        fanout.end();
        assert!(!fanout.is_over());
        fanout.give_up();
        assert!(fanout.is_over());
    }
}
