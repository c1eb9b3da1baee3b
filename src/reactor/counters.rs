//! What a reactor counts, a few additions a request.

use crate::admin::report::LatencyReport;

/// Latencies in milliseconds, from a request's arrival to its reply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    count: u64,
    total_ms: u64,
    min_ms: u64,
    max_ms: u64,
}

impl Latencies {
    /// One more request.
    #[inline]
    pub fn add(&mut self, ms: u64) {
        if self.count == 0 || ms < self.min_ms {
            self.min_ms = ms;
        }
        if ms > self.max_ms {
            self.max_ms = ms;
        }
        self.count += 1;
        self.total_ms += ms;
    }

    /// As operators see it.
    pub fn report(&self) -> LatencyReport {
        LatencyReport {
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            total_ms: self.total_ms as f64,
            count: self.count,
        }
    }
}

/// A reactor's totals since the last reset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub latencies: Latencies,
    pub read_latencies: Latencies,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_the_most_and_the_sum_are_kept() {
        let mut latencies = Latencies::default();
        for ms in [3, 1, 2] {
            latencies.add(ms);
        }
        let report = latencies.report();
        assert_eq!((report.min_ms, report.max_ms, report.count), (1, 3, 3));
        assert_eq!(report.total_ms, 6.0);
    }
}
