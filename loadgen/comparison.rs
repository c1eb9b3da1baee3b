//! Two sides under one load, in turns: the ratio of their figures, pair by pair, and its spread.
//!
//! A machine's speed drifts over minutes, so the rounds of the sides alternate, and each pair of
//! neighbours gives one ratio. Who goes first alternates as well, or a steady drift would favour one
//! side. The ratios' logarithms are averaged: then B against A is the inverse of A against B.

use std::fmt::Write;

use serde::Serialize;

use crate::arguments::Plan;
use crate::control::ControlError;
use crate::report::{Latency, Report};
use crate::trial::Trial;

/// The results of both sides. Field names are the JSON's.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub a: Report,
    pub b: Report,
    /// Rounds of A and of B that are neighbours.
    pairs: usize,
    /// B's figures divided by A's.
    ratios: Vec<Ratio>,
    ok: bool,
}

/// One figure of B divided by the same of A.
#[derive(Clone, Copy, Debug, Serialize)]
struct Ratio {
    figure: &'static str,
    /// The geometric mean over the pairs.
    ratio: f64,
    /// The 95 % confidence interval of that mean; absent with one pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
    /// Of the single pairs.
    least: f64,
    most: f64,
}

impl Comparison {
    /// Loads both sides in turns. A side that loses connections ends it, and what was measured
    /// until then is kept.
    ///
    /// # Errors
    /// When a side's set-up fails; what was made on the other is deleted.
    pub fn of(a: &Plan, b: &Plan, quiet: bool) -> Result<Comparison, ControlError> {
        let mut first = Trial::set_up(a, "A", quiet)?;
        let mut second = match Trial::set_up(b, "B", quiet) {
            Ok(second) => second,
            Err(error) => {
                drop(first.finish());
                return Err(error);
            }
        };
        for pair in 0.. {
            let go_on = if pair % 2 == 0 {
                [first.round(), second.round()]
            } else {
                let second_goes_on = second.round();
                [first.round(), second_goes_on]
            };
            if go_on != [true, true] {
                break;
            }
        }
        Ok(Comparison::new(first.finish(), second.finish()))
    }

    fn new(a: Report, b: Report) -> Comparison {
        let pairs = a.rounds.len().min(b.rounds.len());
        let ratio = |figure, of: fn(&Report, usize) -> f64| {
            let ratios: Vec<f64> = (0..pairs)
                .map(|pair| of(&b, pair) / of(&a, pair))
                .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
                .collect();
            Ratio::of(figure, &ratios)
        };
        let ratios = [
            ratio("requests/s", |report, round| report.rounds[round].requests_per_second),
            ratio("p50", |report, round| latency(report, round).p50),
            ratio("p99", |report, round| latency(report, round).p99),
            ratio("p99.9", |report, round| latency(report, round).p99_9),
        ];
        let ratios = ratios.into_iter().flatten().collect();
        let ok = a.is_ok() && b.is_ok();
        Comparison { a, b, pairs, ratios, ok }
    }

    /// Whether all went well on both sides.
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// As JSON, over several lines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, text and maps by number serialize")
    }

    /// The tables of both sides, and the ratios.
    pub fn table(&self) -> String {
        let mut text = format!("A: {}\nB: {}\n", self.a.table(), self.b.table());
        let _ = writeln!(
            text,
            "{:<12}{:>10}{:>22}{:>20}    of {} pair{}",
            "B / A",
            "ratio",
            "95% confidence",
            "least to most",
            self.pairs,
            if self.pairs == 1 { "" } else { "s" }
        );
        for Ratio { figure, ratio, low, high, least, most } in &self.ratios {
            let confidence = match (low, high) {
                (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
                _ => "-".to_owned(),
            };
            let range = format!("{least:.3} to {most:.3}");
            let _ = writeln!(text, "{figure:<12}{ratio:>10.3}{confidence:>22}{range:>20}");
        }
        text
    }
}

fn latency(report: &Report, round: usize) -> &Latency {
    &report.rounds[round].latency_us
}

impl Ratio {
    /// `None` of none.
    fn of(figure: &'static str, ratios: &[f64]) -> Option<Ratio> {
        if ratios.is_empty() {
            return None;
        }
        let count = ratios.len() as f64;
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count;
        let interval = (ratios.len() > 1).then(|| {
            let squares: f64 = ratios.iter().map(|ratio| (ratio.ln() - mean).powi(2)).sum();
            let half = student_t(ratios.len() - 1) * (squares / (count - 1.0) / count).sqrt();
            [(mean - half).exp(), (mean + half).exp()]
        });
        Some(Ratio {
            figure,
            ratio: mean.exp(),
            low: interval.map(|[low, _]| low),
            high: interval.map(|[_, high]| high),
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(0.0, f64::max),
        })
    }
}

/// The 97.5 % quantile of Student's t-distribution with this many degrees of freedom, at least one.
/// Beyond the table it is that of the last entry before, which errs on the wide side.
fn student_t(freedom: usize) -> f64 {
    const TO_TEN: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    match freedom {
        0 => panic!("one value has no spread"),
        1..=10 => TO_TEN[freedom - 1],
        11..15 => 2.228,
        15..20 => 2.131,
        20..30 => 2.086,
        30..60 => 2.042,
        _ => 2.000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_geometric_mean_with_its_confidence_interval() {
        let ratio = Ratio::of("requests/s", &[1.0, 4.0]).unwrap();
        assert!((ratio.ratio - 2.0).abs() < 1e-12);
        assert_eq!((ratio.least, ratio.most), (1.0, 4.0));
        // ln 2 +- 12.706 * ln 2.
        let spread = 12.706 * 2f64.ln();
        assert!((ratio.low.unwrap().ln() - (2f64.ln() - spread)).abs() < 1e-9);
        assert!((ratio.high.unwrap().ln() - (2f64.ln() + spread)).abs() < 1e-9);
    }

    #[test]
    fn one_pair_has_no_interval_and_none_has_no_ratio() {
        let ratio = Ratio::of("p50", &[0.5]).unwrap();
        assert_eq!((ratio.ratio, ratio.low, ratio.high), (0.5, None, None));
        assert!(Ratio::of("p50", &[]).is_none());
    }

    #[test]
    fn more_pairs_never_widen_the_factor() {
        let factors: Vec<f64> = (1..200).map(student_t).collect();
        assert!(factors.is_sorted_by(|left, right| left >= right));
    }
}
