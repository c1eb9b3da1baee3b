//! What was measured: latency histograms and counts, one tally for each thread, merged at the end
//! of a round.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::LinkError;
use crate::workload::{Class, Step};

/// The longest latency told apart from longer ones, in nanoseconds: one hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;
/// Failures that are kept word by word; the rest are only counted.
const FAILURES_KEPT_MAX: usize = 8;

/// Parts of the window as it was asked for, in each of which replies are counted.
pub const SLICES: usize = 100;

/// The results of one thread, or of a round.
#[derive(Clone, Debug)]
pub struct Tally {
    /// By the workload's steps, in nanoseconds: replies inside the window, and those that were
    /// outstanding when it closed (or a stall at its end would go unseen).
    pub steps: Vec<Histogram<u64>>,
    /// Successful replies inside the window.
    pub answered: u64,
    /// The same by the plan's servers.
    pub answered_by: Vec<u64>,
    /// The same over time: in each of [`SLICES`] equal parts of the window as it was asked for.
    pub answered_in: Vec<u64>,
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
    /// The window closed early, because all that there was to delete was deleted.
    pub used_up: bool,
    /// Requests of an open loop that were due in the window and never left.
    pub unsent: u64,
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
    /// Of a workload with so many steps, and so many servers.
    pub fn new(steps: usize, servers: usize) -> Tally {
        Tally {
            steps: (0..steps).map(|_| empty_histogram()).collect(),
            answered: 0,
            answered_by: vec![0; servers],
            answered_in: vec![0; SLICES],
            errors: BTreeMap::new(),
            wrong_length: 0,
            failures: Vec::new(),
            failed: 0,
            window: Duration::ZERO,
            busy: Duration::ZERO,
            used_up: false,
            unsent: 0,
        }
    }

    /// Adds one latency.
    #[inline]
    pub fn record(&mut self, step: u8, latency_ns: u64) {
        self.steps[usize::from(step)].saturating_record(latency_ns);
    }

    /// Counts a successful reply of a server inside the window, in a slice of it; one beyond the last
    /// counts for the last.
    #[inline]
    pub fn answer(&mut self, server: usize, slice: usize) {
        self.answered += 1;
        self.answered_by[server] += 1;
        self.answered_in[slice.min(SLICES - 1)] += 1;
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
        assert_eq!(self.steps.len(), other.steps.len(), "tallies of one workload");
        for (mine, others) in self.steps.iter_mut().zip(&other.steps) {
            mine.add(others).expect("all histograms have one range");
        }
        self.answered += other.answered;
        for (mine, others) in self.answered_by.iter_mut().zip(&other.answered_by) {
            *mine += others;
        }
        for (mine, others) in self.answered_in.iter_mut().zip(&other.answered_in) {
            *mine += others;
        }
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.wrong_length += other.wrong_length;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT_MAX);
        self.window = self.window.max(other.window);
        self.busy = self.busy.max(other.busy);
        self.used_up |= other.used_up;
        self.unsent += other.unsent;
    }

    /// All steps together that count; `steps` are the workload's.
    pub fn latencies(&self, steps: &[Step]) -> Histogram<u64> {
        let counted = self.steps.iter().zip(steps).filter(|(_, step)| step.class != Class::Aside);
        merged(counted.map(|(histogram, _)| histogram))
    }

    /// The steps of one class together; `steps` are the workload's.
    pub fn latencies_of(&self, steps: &[Step], class: Class) -> Histogram<u64> {
        let of_class = self.steps.iter().zip(steps).filter(|(_, step)| step.class == class);
        merged(of_class.map(|(histogram, _)| histogram))
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

/// All of these together.
pub fn merged<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut all = empty_histogram();
    for histogram in histograms {
        all.add(histogram).expect("all histograms have one range");
    }
    all
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("the bounds are constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_tallies_hold_what_both_held() {
        let mut left = Tally::new(2, 2);
        let mut right = Tally::new(2, 2);
        for at in 1..=50u64 {
            left.record(0, at * 1_000);
            right.record(0, (at + 50) * 1_000);
        }
        right.record(1, 9_000_000);
        (0..50).for_each(|_| left.answer(0, 7));
        (0..51).for_each(|_| right.answer(1, SLICES));
        left.errors.insert(-101, 2);
        right.errors.insert(-101, 3);
        right.errors.insert(-4, 1);
        left.window = Duration::from_secs(1);
        right.window = Duration::from_secs(2);
        left.merge(right);
        assert_eq!((left.steps[0].len(), left.steps[1].len()), (100, 1));
        let median = left.steps[0].value_at_quantile(0.5);
        assert!((50_000..50_100).contains(&median), "{median}");
        assert_eq!(left.errors, BTreeMap::from([(-101, 5), (-4, 1)]));
        assert_eq!(left.rate(), 50.5);
        assert_eq!(left.answered_by, [50, 51]);
        assert_eq!((left.answered_in[7], left.answered_in[SLICES - 1]), (50, 51));
        assert_eq!(merged(left.steps.iter()).len(), 101);
        assert!(!left.is_clean());
    }

    #[test]
    fn failures_are_counted_and_the_first_kept() {
        let mut tally = Tally::new(1, 1);
        for _ in 0..20 {
            tally.fail(Failure::new("a:1", &LinkError::Closed));
        }
        let mut all = Tally::new(1, 1);
        all.merge(tally.clone());
        all.merge(tally);
        assert_eq!((all.failed, all.failures.len()), (40, FAILURES_KEPT_MAX));
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let mut tally = Tally::new(1, 1);
        tally.record(0, u64::MAX);
        assert!(tally.steps[0].max() >= LATENCY_MAX_NS);
    }

    #[test]
    fn a_window_that_never_opened_has_no_rate() {
        assert_eq!(Tally::new(1, 1).rate(), 0.0);
    }
}
