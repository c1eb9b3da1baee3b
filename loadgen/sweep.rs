//! One load after the other, which differ in a few options: a line for each, and plots over what was
//! varied.

use std::fmt::Write;

use serde::Serialize;

use crate::arguments::Plan;
use crate::control::ControlError;
use crate::report::{Report, grouped};
use crate::trial::Trial;
use crate::variation::Varied;

/// The results of a sweep. Field names are the JSON's.
#[derive(Debug, Serialize)]
pub struct Sweep {
    /// The names of the options that were varied.
    pub varied: Vec<&'static str>,
    pub points: Vec<Point>,
    /// Why not all loads were run.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    ok: bool,
}

/// One of its loads.
#[derive(Debug, Serialize)]
pub struct Point {
    /// The values of the options that were varied, in their order.
    pub values: Vec<u32>,
    pub report: Report,
}

impl Sweep {
    /// Runs all loads. One that loses connections does not end it, for the next may ask for fewer; a
    /// server that cannot be set up does, and what was measured until then is kept.
    ///
    /// # Errors
    /// When the first load cannot be set up.
    pub fn of(plans: &[Plan], varied: &[Varied], quiet: bool) -> Result<Sweep, ControlError> {
        let mut points = Vec::new();
        let mut trouble = None;
        for plan in plans {
            let values: Vec<u32> = varied.iter().map(|varied| varied.option.of(plan)).collect();
            let named = varied.iter().zip(&values);
            let name: Vec<String> =
                named.map(|(varied, value)| format!("{} {value}", varied.option.name())).collect();
            let name = name.join(", ");
            let mut trial = match Trial::set_up(plan, &name, quiet) {
                Ok(trial) => trial,
                Err(error) if points.is_empty() => return Err(error),
                Err(error) => {
                    trouble = Some(format!("set-up of {name}: {error}"));
                    break;
                }
            };
            while trial.round() {}
            points.push(Point { values, report: trial.finish() });
        }
        let varied = varied.iter().map(|varied| varied.option.name()).collect();
        Ok(Sweep::new(varied, points, trouble))
    }

    fn new(varied: Vec<&'static str>, points: Vec<Point>, trouble: Option<String>) -> Sweep {
        let ok = trouble.is_none() && points.iter().all(|point| point.report.is_ok());
        Sweep { varied, points, trouble, ok }
    }

    /// Whether all loads ran and went well.
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// As JSON, over several lines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, text and maps by number serialize")
    }

    /// A line for each load, with the medians over its rounds, and what went wrong.
    pub fn table(&self) -> String {
        let mut text = String::new();
        if let Some(Point { report, .. }) = self.points.first() {
            let _ = write!(text, "sweep, of which the first: {}", report.heading());
        }
        for option in &self.varied {
            let _ = write!(text, "{option:<13}");
        }
        let _ = writeln!(
            text,
            "{:>13}{:>10}{:>10}{:>10}{:>10}{:>10}{:>7}",
            "requests/s", "p50", "p90", "p99", "p99.9", "max", "busy"
        );
        for Point { values, report } in &self.points {
            for value in values {
                let _ = write!(text, "{value:<13}");
            }
            let median = &report.median;
            let _ = write!(text, "{:>13}", grouped(median.requests_per_second.round() as u64));
            let latency = median.latency_us;
            for figure in [latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max] {
                let _ = write!(text, "{figure:>10.1}");
            }
            let busy = report.rounds.iter().map(|round| round.busy).fold(0.0, f64::max);
            let _ = writeln!(text, "{:>6.0}%", busy * 100.0);
        }
        for point in &self.points {
            let troubles = point.report.troubles_text();
            if !troubles.is_empty() {
                let _ = writeln!(text, "{}:\n{}", self.name(&point.values), troubles.trim_end());
            }
        }
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(text, "{trouble}");
        }
        text
    }

    /// What tells a load with these values apart.
    pub fn name(&self, values: &[u32]) -> String {
        let parts =
            self.varied.iter().zip(values).map(|(option, value)| format!("{option} {value}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::report::tests::{report, tally};

    /// Two options with two values each.
    pub fn sweep() -> Sweep {
        let point = |connections: u32, size: u32| {
            let options = format!("--connections {connections} --value-size {size}");
            let tallies = [tally(u64::from(connections * 100), 10)];
            Point { values: vec![connections, size], report: report(&options, &tallies, vec![]) }
        };
        let points = vec![point(1, 0), point(1, 50), point(2, 0), point(2, 50)];
        Sweep::new(vec!["connections", "value-size"], points, None)
    }

    #[test]
    fn every_load_has_a_line() {
        let table = sweep().table();
        let lines: Vec<Vec<&str>> =
            table.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["connections", "value-size", "requests/s"]);
        assert_eq!(lines[1][..4], ["1", "0", "50", "10.0"]);
        assert_eq!(lines[4][..4], ["2", "50", "100", "10.0"]);
        assert!(sweep().is_ok());
    }

    #[test]
    fn what_went_wrong_is_told_by_load() {
        let mut bad = tally(1, 1);
        bad.errors.insert(-4, 2);
        let mut sweep = sweep();
        sweep.points[1].report = report("", &[bad], vec![]);
        let sweep = Sweep::new(sweep.varied, sweep.points, Some("no more".to_owned()));
        let table = sweep.table();
        let wanted = "connections 1, value-size 50:\nround 1: 2 replies with error -4";
        assert!(table.contains(wanted) && table.ends_with("no more\n"), "{table}");
        assert!(!sweep.is_ok());
    }
}
