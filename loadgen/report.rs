//! The report: a table to read, or JSON, of every round and of the rounds' median.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::arguments::{Distribution, Plan, WorkloadKind};
use crate::tally::{SLICES, Tally, merged};
use crate::wire::error_name;
use crate::workload::{Class, Workload};

/// Above this share of its window a thread of ours was busy all the time, and the figures may be
/// its own limit, not the server's.
const BUSY_ALL_THE_TIME: f64 = 0.97;

/// A run's results. Field names are the JSON's.
#[derive(Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub workload: &'static str,
    /// Its kinds of request with their shares, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<String>,
    /// Percentage of gets; of the mixed workload alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_share: Option<u8>,
    pub servers: Vec<String>,
    pub connections: u32,
    pub in_flight: u32,
    /// Requests a second of an open loop; absent of a closed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    pub threads: u32,
    pub pin: Vec<u16>,
    pub driver: &'static str,
    /// Znodes that the requests spread over; 0 where that does not apply.
    pub keys: u32,
    /// The exponent of Zipf's law; absent where keys are drawn evenly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipf_exponent: Option<f64>,
    pub value_size: u32,
    /// Names in the list; 0 where nothing is listed.
    pub children: u32,
    /// setData in one request of the multi workload; 0 elsewhere.
    pub multi_size: u32,
    pub seed: u64,
    pub duration_seconds: f64,
    pub warm_up_seconds: f64,
    pub rounds: Vec<Round>,
    /// Of each figure by itself, over the rounds.
    pub median: Median,
    /// Every request of every round got the reply that it should, and set-up and cleaning up went
    /// well.
    ok: bool,
    /// What went wrong outside of the rounds.
    troubles: Vec<String>,
    /// By kind of request, where there are several, over all rounds.
    #[serde(skip)]
    pub curves: Vec<(&'static str, Curve)>,
}

/// Latencies by percentile, for plots: at each x, which is -log10(1 - quantile), microseconds.
pub type Curve = Vec<(f64, f64)>;

/// One round.
#[derive(Debug, Serialize)]
pub struct Round {
    pub round: u32,
    /// How long the window was open.
    pub seconds: f64,
    /// Successful replies inside the window.
    pub requests: u64,
    pub requests_per_second: f64,
    pub latency_us: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_latency_us: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_latency_us: Option<Latency>,
    /// Of each kind of request, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// Of each server, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Share>,
    /// Replies with an error code, by code, warm-up included.
    pub errors: BTreeMap<i32, u64>,
    /// Replies whose data or list had a wrong length, and multis that failed.
    pub wrong_length: u64,
    /// Connections lost, or that could not be made.
    pub connections_failed: u64,
    /// The first of them.
    pub failures: Vec<String>,
    /// The share of the window in which the busiest thread of the load generator used its core.
    pub busy: f64,
    /// It ended early, because every key was deleted.
    pub used_up: bool,
    /// Requests of an open loop that were due in the window and never left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent: Option<u64>,
    #[serde(skip)]
    pub curve: Curve,
    /// Over time: seconds since the window opened, and requests/s around then.
    #[serde(skip)]
    pub pace: Vec<(f64, f64)>,
}

/// What one of several servers did in a round.
#[derive(Debug, Serialize)]
pub struct Share {
    name: String,
    requests_per_second: f64,
}

/// The requests of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Operation {
    pub name: &'static str,
    pub latency_us: Latency,
}

/// Each figure's median over the rounds.
#[derive(Debug, Serialize)]
pub struct Median {
    pub requests_per_second: f64,
    pub latency_us: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    reads_latency_us: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes_latency_us: Option<Latency>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operations: Vec<Operation>,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    #[serde(rename = "p99.99")]
    pub p99_99: f64,
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Latency {
            count: histogram.len(),
            mean: histogram.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 / 1_000.0,
        }
    }

    fn median(of: &[Latency]) -> Latency {
        let by = |figure: fn(&Latency) -> f64| median(of.iter().map(figure));
        Latency {
            count: by(|latency| latency.count as f64) as u64,
            mean: by(|latency| latency.mean),
            p50: by(|latency| latency.p50),
            p90: by(|latency| latency.p90),
            p99: by(|latency| latency.p99),
            p99_9: by(|latency| latency.p99_9),
            p99_99: by(|latency| latency.p99_99),
            max: by(|latency| latency.max),
        }
    }
}

impl Report {
    /// Of the rounds that ran, with what went wrong outside of them.
    pub fn new(
        plan: &Plan,
        workload: &Workload,
        tallies: &[Tally],
        troubles: Vec<String>,
    ) -> Report {
        let rounds: Vec<Round> = (1..)
            .zip(tallies)
            .map(|(number, tally)| Round::new(number, tally, workload, plan))
            .collect();
        let complete = tallies.len() == plan.rounds as usize
            && tallies.iter().all(|tally| !tally.used_up || tally.answered > 0);
        let kind = plan.workload;
        Report {
            version: env!("CARGO_PKG_VERSION"),
            workload: kind.name(),
            mix: workload.mix(),
            read_share: (kind == WorkloadKind::Mixed).then_some(plan.read_share),
            servers: plan.servers.iter().map(|server| server.name.clone()).collect(),
            connections: plan.connections,
            in_flight: plan.in_flight,
            rate: plan.rate,
            threads: plan.threads,
            pin: plan.pin.clone(),
            driver: plan.driver.name(),
            keys: if kind.uses_keys() { plan.keys } else { 0 },
            zipf_exponent: match plan.distribution {
                Distribution::Uniform => None,
                Distribution::Zipf { exponent } => Some(exponent),
            },
            value_size: plan.value_size,
            children: if kind.lists() { plan.children } else { 0 },
            multi_size: if kind == WorkloadKind::Multi { plan.multi_size } else { 0 },
            seed: plan.seed,
            duration_seconds: plan.duration.as_secs_f64(),
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            median: Median::of(&rounds),
            rounds,
            curves: curves(workload, tallies),
            ok: complete && troubles.is_empty() && tallies.iter().all(Tally::is_clean),
            troubles,
        }
    }

    /// Whether all went well.
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// As JSON, over several lines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, text and maps by number serialize")
    }

    /// As a table, with what went wrong below it.
    pub fn table(&self) -> String {
        let mut text = self.heading();
        let _ = writeln!(
            text,
            "{:<10}{:>14}{:>13}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}{:>6}",
            "round",
            "requests/s",
            "requests",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "p99.99",
            "max",
            "errors",
            "busy"
        );
        for round in &self.rounds {
            let errors = round.wrong_length + round.errors.values().sum::<u64>();
            let figures = Figures {
                name: &round.round.to_string(),
                rate: Some(round.requests_per_second),
                requests: grouped(round.requests),
                latency: &round.latency_us,
            };
            figures.write(&mut text);
            let _ = writeln!(text, "{:>9}{:>5.0}%", grouped(errors), round.busy * 100.0);
            write_parts(&mut text, &round.operations);
        }
        let Median { requests_per_second, latency_us: latency, .. } = &self.median;
        let rate = Some(*requests_per_second);
        Figures { name: "median", rate, requests: String::new(), latency }.write(&mut text);
        text.push('\n');
        write_parts(&mut text, &self.median.operations);
        self.write_shares(&mut text);
        text + &self.troubles_text()
    }

    /// Which of several servers did how much.
    fn write_shares(&self, text: &mut String) {
        for round in self.rounds.iter().filter(|round| !round.servers.is_empty()) {
            let share = |share: &Share| {
                format!("{} {}/s", share.name, grouped(share.requests_per_second.round() as u64))
            };
            let shares: Vec<String> = round.servers.iter().map(share).collect();
            let _ = writeln!(text, "round {}: {}", round.round, shares.join(", "));
        }
    }

    /// What was asked for, in two lines.
    pub fn heading(&self) -> String {
        let mut text = format!("ringkeeper-loadgen {}: {}", self.version, self.workload);
        if let Some(mix) = &self.mix {
            let _ = write!(text, " ({mix})");
        }
        if self.multi_size > 0 {
            let _ = write!(text, " of {} sets", grouped(self.multi_size.into()));
        }
        let _ = write!(
            text,
            ", {} connections x {}{} in flight, {} thread{}",
            grouped(self.connections.into()),
            if self.rate.is_some() { "at most " } else { "" },
            grouped(self.in_flight.into()),
            self.threads,
            if self.threads == 1 { "" } else { "s" },
        );
        if let Some(rate) = self.rate {
            let _ = write!(text, ", open loop at {} requests/s", grouped(rate.into()));
        }
        if !self.pin.is_empty() {
            let _ = write!(text, " on cores {:?}", self.pin);
        }
        if self.keys > 0 {
            let _ = write!(text, ", {} keys", grouped(self.keys.into()));
        }
        if let Some(exponent) = self.zipf_exponent {
            let _ = write!(text, " by Zipf's law of exponent {exponent}");
        }
        if self.children > 0 {
            let _ = write!(text, ", {} children", grouped(self.children.into()));
        }
        let _ = writeln!(
            text,
            ", values of {} bytes\n{}; rounds of {} s after {} s of warm-up; latencies in µs",
            grouped(self.value_size.into()),
            self.servers.join(", "),
            self.duration_seconds,
            self.warm_up_seconds,
        );
        text
    }

    /// What went wrong, a line each; empty if nothing did.
    pub fn troubles_text(&self) -> String {
        let mut text = String::new();
        self.write_troubles(&mut text);
        text
    }

    fn write_troubles(&self, text: &mut String) {
        for round in &self.rounds {
            let number = round.round;
            for (code, count) in &round.errors {
                let count = grouped(*count);
                let name = error_name(*code);
                let _ =
                    writeln!(text, "round {number}: {count} replies with error {code} ({name})");
            }
            if round.wrong_length > 0 {
                let count = grouped(round.wrong_length);
                let _ = writeln!(
                    text,
                    "round {number}: {count} replies whose data or list has not the length that \
                     was written, or multis that failed"
                );
            }
            if round.connections_failed > 0 {
                let _ = writeln!(
                    text,
                    "round {number}: {} of {} connections failed; figures are of {:.3} s",
                    grouped(round.connections_failed),
                    grouped(self.connections.into()),
                    round.seconds
                );
            }
            for failure in &round.failures {
                let _ = writeln!(text, "round {number}: {failure}");
            }
            if let Some(unsent @ 1..) = round.unsent {
                let _ = writeln!(
                    text,
                    "round {number}: {} requests that were due never left and are not in the \
                     latencies: server or load generator does not keep up with --rate",
                    grouped(unsent)
                );
            }
            if round.used_up {
                let _ = writeln!(
                    text,
                    "round {number}: all {} keys were deleted after {:.3} s of measurement \
                     (more --keys?)",
                    grouped(self.keys.into()),
                    round.seconds
                );
            }
            if round.busy > BUSY_ALL_THE_TIME {
                let _ = writeln!(
                    text,
                    "round {number}: the load generator was busy all the time; the figures may be \
                     its own limit (more --threads?)"
                );
            }
        }
        for trouble in &self.troubles {
            let _ = writeln!(text, "{trouble}");
        }
    }
}

impl Round {
    fn new(round: u32, tally: &Tally, workload: &Workload, plan: &Plan) -> Round {
        let steps = workload.steps();
        let mixed = steps.len() > 1;
        let of = |class| {
            let has = mixed && steps.iter().any(|step| step.class == class);
            has.then(|| Latency::of(&tally.latencies_of(steps, class)))
        };
        let operations = tally.steps.iter().zip(steps).filter(|_| mixed);
        let seconds = tally.window.as_secs_f64();
        let busy = if seconds > 0.0 { tally.busy.as_secs_f64() / seconds } else { 0.0 };
        Round {
            round,
            seconds,
            requests: tally.answered,
            requests_per_second: tally.rate(),
            latency_us: Latency::of(&tally.latencies(steps)),
            reads_latency_us: of(Class::Read),
            writes_latency_us: of(Class::Write),
            operations: operations
                .map(|(histogram, step)| Operation {
                    name: step.name,
                    latency_us: Latency::of(histogram),
                })
                .collect(),
            servers: (plan.servers.iter().zip(&tally.answered_by))
                .filter(|_| plan.servers.len() > 1)
                .map(|(server, answered)| Share {
                    name: server.name.clone(),
                    requests_per_second: if seconds > 0.0 {
                        *answered as f64 / seconds
                    } else {
                        0.0
                    },
                })
                .collect(),
            errors: tally.errors.clone(),
            wrong_length: tally.wrong_length,
            connections_failed: tally.failed,
            failures: tally
                .failures
                .iter()
                .map(|failure| format!("{}: {}", failure.server, failure.reason))
                .collect(),
            busy,
            used_up: tally.used_up,
            unsent: plan.rate.is_some().then_some(tally.unsent),
            curve: curve(&tally.latencies(steps)),
            pace: pace(tally, plan),
        }
    }
}

impl Median {
    fn of(rounds: &[Round]) -> Median {
        let over = |part: fn(&Round) -> Option<Latency>| {
            let parts: Option<Vec<Latency>> = rounds.iter().map(part).collect();
            parts.filter(|parts| !parts.is_empty()).map(|parts| Latency::median(&parts))
        };
        Median {
            requests_per_second: median(rounds.iter().map(|round| round.requests_per_second)),
            latency_us: over(|round| Some(round.latency_us)).unwrap_or_default(),
            reads_latency_us: over(|round| round.reads_latency_us),
            writes_latency_us: over(|round| round.writes_latency_us),
            operations: rounds.first().map_or_else(Vec::new, |first| {
                let median = |(at, operation): (usize, &Operation)| {
                    let latencies: Vec<Latency> =
                        rounds.iter().map(|round| round.operations[at].latency_us).collect();
                    Operation { name: operation.name, latency_us: Latency::median(&latencies) }
                };
                first.operations.iter().enumerate().map(median).collect()
            }),
        }
    }
}

/// By kind of request, where there are several.
fn curves(workload: &Workload, tallies: &[Tally]) -> Vec<(&'static str, Curve)> {
    let steps = workload.steps().iter().enumerate().filter(|_| workload.steps().len() > 1);
    steps
        .map(|(at, step)| {
            let rounds = tallies.iter().map(|tally| &tally.steps[at]);
            (step.name, curve(&merged(rounds)))
        })
        .collect()
}

/// To the last percentile that at least one request stands for.
fn curve(histogram: &Histogram<u64>) -> Curve {
    const POINTS_PER_DECADE: u32 = 20;
    let decades = (histogram.len() as f64).log10();
    (0..)
        .map(|point| f64::from(point) / f64::from(POINTS_PER_DECADE))
        .take_while(|at| *at <= decades)
        .map(|at| {
            let value = histogram.value_at_quantile(1.0 - 10f64.powf(-at));
            (at, value as f64 / 1_000.0)
        })
        .collect()
}

/// Each slice of the window that was over before the window closed, at its middle.
fn pace(tally: &Tally, plan: &Plan) -> Vec<(f64, f64)> {
    let length = plan.duration.as_secs_f64() / SLICES as f64;
    let over = (tally.window.as_secs_f64() / length).round() as usize;
    let slices = tally.answered_in.iter().take(over).enumerate();
    slices.map(|(at, count)| ((at as f64 + 0.5) * length, *count as f64 / length)).collect()
}

/// One line of the table, without its end.
struct Figures<'a> {
    name: &'a str,
    rate: Option<f64>,
    requests: String,
    latency: &'a Latency,
}

impl Figures<'_> {
    fn write(&self, text: &mut String) {
        let rate = self.rate.map_or(String::new(), |rate| grouped(rate.round() as u64));
        let _ = write!(text, "{:<10}{rate:>14}{:>13}", self.name, self.requests);
        let Latency { p50, p90, p99, p99_9, p99_99, max, .. } = *self.latency;
        for figure in [p50, p90, p99, p99_9, p99_99, max] {
            let _ = write!(text, "{figure:>10.1}");
        }
    }
}

fn write_parts(text: &mut String, operations: &[Operation]) {
    for Operation { name, latency_us: latency } in operations {
        let (name, requests) = (&format!("  {name}"), grouped(latency.count));
        Figures { name, rate: None, requests, latency }.write(text);
        text.push('\n');
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// With a comma between every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::arguments::tests::plan;
    use crate::client::LinkError;
    use crate::tally::Failure;

    pub fn report(options: &str, tallies: &[Tally], troubles: Vec<String>) -> Report {
        let plan = plan(options);
        Report::new(&plan, &Workload::new(&plan), tallies, troubles)
    }

    pub fn tally(answered: u64, latency_us: u64) -> Tally {
        tally_of(1, answered, latency_us)
    }

    pub fn tally_of(steps: usize, answered: u64, latency_us: u64) -> Tally {
        let mut tally = Tally::new(steps, 1);
        (0..answered).for_each(|_| tally.record(0, latency_us * 1_000));
        tally.answered = answered;
        tally.window = Duration::from_secs(2);
        tally.busy = Duration::from_secs(1);
        tally
    }

    fn line<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
        let found = table.lines().find(|line| line.split_whitespace().next() == Some(first));
        found.unwrap_or_else(|| panic!("no line {first} in\n{table}")).split_whitespace().collect()
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
    }

    #[test]
    fn the_table_lists_all_rounds_and_their_median() {
        let tallies = [tally(3_000, 10), tally(1_000, 30), tally(2_000, 20)];
        let report = report("--rounds 3", &tallies, vec![]);
        let table = report.table();
        assert!(table.starts_with("ringkeeper-loadgen "), "{table}");
        assert!(
            table.contains(": get, 32 connections x 1 in flight, 1 thread, 1,000 keys, values")
        );
        assert_eq!(line(&table, "1")[..4], ["1", "1,500", "3,000", "10.0"]);
        assert_eq!(line(&table, "2")[..4], ["2", "500", "1,000", "30.0"]);
        assert_eq!(line(&table, "median")[..3], ["median", "1,000", "20.0"]);
        assert_eq!(line(&table, "1")[9..], ["0", "50%"]);
        assert!(report.is_ok());
    }

    #[test]
    fn reads_and_writes_of_a_mix_have_lines_of_their_own() {
        let mut mixed = tally_of(2, 100, 10);
        mixed.record(1, 500_000);
        let report = report("--workload mixed", &[mixed], vec![]);
        let table = report.table();
        assert!(table.contains("mixed (80% get, 20% set)"), "{table}");
        assert_eq!(line(&table, "get")[..3], ["get", "100", "10.0"]);
        assert_eq!(line(&table, "set")[..2], ["set", "1"]);
    }

    #[test]
    fn a_rate_that_was_not_kept_up_with_is_told() {
        let mut behind = tally(10, 10);
        behind.unsent = 1_234;
        let report = report("--rate 1000", &[behind], vec![]);
        let table = report.table();
        assert!(table.contains("open loop at 1,000 requests/s"), "{table}");
        assert!(table.contains("round 1: 1,234 requests that were due never left"), "{table}");
    }

    #[test]
    fn keys_that_ran_out_are_told_and_a_round_without_figures_is_not_ok() {
        let mut short = tally(10, 10);
        short.used_up = true;
        let told = report("--workload delete --keys 10", &[short.clone()], vec![]);
        assert!(told.table().contains("all 10 keys were deleted after 2.000 s"));
        assert!(told.is_ok());
        short.answered = 0;
        assert!(!report("--workload delete --keys 10", &[short], vec![]).is_ok());
    }

    #[test]
    fn what_went_wrong_is_told_and_the_report_is_not_ok() {
        let mut bad = tally(10, 10);
        bad.errors.insert(-101, 1_234);
        bad.wrong_length = 5;
        bad.fail(Failure::new("a:1", &LinkError::Closed));
        bad.busy = bad.window;
        let report = report("", &[bad], vec!["cleaning up: no".to_owned()]);
        let table = report.table();
        for part in [
            "round 1: 1,234 replies with error -101 (NONODE)",
            "round 1: 5 replies whose data or list",
            "round 1: 1 of 32 connections failed; figures are of 2.000 s",
            "round 1: a:1: closed the connection",
            "the load generator was busy all the time",
            "cleaning up: no",
        ] {
            assert!(table.contains(part), "no {part:?} in\n{table}");
        }
        assert!(!report.is_ok());
    }

    #[test]
    fn a_run_that_ended_early_is_not_ok() {
        assert!(!report("--rounds 2", &[tally(1, 1)], vec![]).is_ok());
    }

    #[test]
    fn the_json_has_the_figures() {
        let mut tally = tally(3_000, 10);
        tally.errors.insert(-4, 2);
        let report = report("--pin 0", &[tally], vec![]);
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["rounds"][0]["requests_per_second"], 1_500.0);
        assert_eq!(json["rounds"][0]["errors"]["-4"], 2);
        assert_eq!(json["median"]["latency_us"]["count"], 3_000);
        assert!((json["median"]["latency_us"]["p99.99"].as_f64().unwrap() - 10.0).abs() < 0.1);
        assert_eq!(json["pin"][0], 0);
        assert_eq!(json["ok"], false);
        assert!(json.get("read_share").is_none());
    }
}
