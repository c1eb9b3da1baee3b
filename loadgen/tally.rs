//! What was measured: latency histograms and counts, one tally for each thread, merged at the end
//! of a round.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::LinkError;
use crate::workload::Class;

/// The longest latency told apart from longer ones, in nanoseconds: one hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;
/// Failures that are kept word by word; the rest are only counted.
const FAILURES_KEPT_MAX: usize = 8;

/// The results of one thread, or of a round.
#[derive(Clone, Debug)]
pub struct Tally {
    /// In nanoseconds: replies inside the window, and those that were outstanding when it closed
    /// (or a stall at its end would go unseen).
    pub reads: Histogram<u64>,
    pub writes: Histogram<u64>,
    /// Successful replies inside the window.
    pub answered: u64,
    /// Replies with an error code, from the first request to the last, warm-up included.
    pub errors: BTreeMap<i32, u64>,
    /// Successful replies whose data or list has not the length that the set-up gave it.
    pub wrong_length: u64,
    /// The first failures, and how many there were.
    pub failures: Vec<Failure>,
    pub failed: u64,
    /// How long the window was open; shorter than asked for if every connection was lost.
    pub window: Duration,
    /// Processor time that the thread used inside the window; of several threads, the most.
    pub busy: Duration,
}

/// A connection that was lost, or never came to be.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As it was named on the command line.
    pub server: String,
    pub reason: String,
}

impl Failure {
    pub fn new(server: &str, reason: &LinkError) -> Failure {
        Failure { server: server.to_owned(), reason: reason.to_string() }
    }
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            reads: empty_histogram(),
            writes: empty_histogram(),
            answered: 0,
            errors: BTreeMap::new(),
            wrong_length: 0,
            failures: Vec::new(),
            failed: 0,
            window: Duration::ZERO,
            busy: Duration::ZERO,
        }
    }

    /// Adds one latency.
    #[inline]
    pub fn record(&mut self, class: Class, latency_ns: u64) {
        match class {
            Class::Read => self.reads.saturating_record(latency_ns),
            Class::Write => self.writes.saturating_record(latency_ns),
        }
    }

    /// Counts a lost connection.
    pub fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT_MAX {
            self.failures.push(failure);
        }
    }

    /// Adds what another thread measured in the same round.
    pub fn merge(&mut self, other: Tally) {
        self.reads.add(&other.reads).expect("all histograms have one range");
        self.writes.add(&other.writes).expect("all histograms have one range");
        self.answered += other.answered;
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.wrong_length += other.wrong_length;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT_MAX);
        self.window = self.window.max(other.window);
        self.busy = self.busy.max(other.busy);
    }

    /// Reads and writes together.
    pub fn latencies(&self) -> Histogram<u64> {
        let mut all = self.reads.clone();
        all.add(&self.writes).expect("all histograms have one range");
        all
    }

    /// Successful replies a second; 0 if the window never opened.
    pub fn rate(&self) -> f64 {
        let seconds = self.window.as_secs_f64();
        if seconds > 0.0 { self.answered as f64 / seconds } else { 0.0 }
    }

    /// Replies that were not what was asked for.
    pub fn bad_replies(&self) -> u64 {
        self.wrong_length + self.errors.values().sum::<u64>()
    }

    /// Whether every request got the reply that it should.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.bad_replies() == 0
    }
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("the bounds are constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_tallies_hold_what_both_held() {
        let mut left = Tally::new();
        let mut right = Tally::new();
        for at in 1..=50u64 {
            left.record(Class::Read, at * 1_000);
            right.record(Class::Read, (at + 50) * 1_000);
        }
        right.record(Class::Write, 9_000_000);
        (left.answered, right.answered) = (50, 51);
        left.errors.insert(-101, 2);
        right.errors.insert(-101, 3);
        right.errors.insert(-4, 1);
        left.window = Duration::from_secs(1);
        right.window = Duration::from_secs(2);
        left.merge(right);
        assert_eq!((left.reads.len(), left.writes.len()), (100, 1));
        let median = left.reads.value_at_quantile(0.5);
        assert!((50_000..50_100).contains(&median), "{median}");
        assert_eq!(left.errors, BTreeMap::from([(-101, 5), (-4, 1)]));
        assert_eq!(left.rate(), 50.5);
        assert_eq!(left.latencies().len(), 101);
        assert!(!left.is_clean());
    }

    #[test]
    fn failures_are_counted_and_the_first_kept() {
        let mut tally = Tally::new();
        for _ in 0..20 {
            tally.fail(Failure::new("a:1", &LinkError::Closed));
        }
        let mut all = Tally::new();
        all.merge(tally.clone());
        all.merge(tally);
        assert_eq!((all.failed, all.failures.len()), (40, FAILURES_KEPT_MAX));
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let mut tally = Tally::new();
        tally.record(Class::Read, u64::MAX);
        assert!(tally.reads.max() >= LATENCY_MAX_NS);
    }

    #[test]
    fn a_window_that_never_opened_has_no_rate() {
        assert_eq!(Tally::new().rate(), 0.0);
    }
}
