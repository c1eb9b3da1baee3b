//! The figures as comma-separated values (RFC 4180): a line for each round and, where a round has
//! several kinds of request, one for each of them. Every line repeats the settings, so that files of
//! several runs can be put together.

use crate::report::{Latency, Report, Round};

const COLUMNS: [&str; 35] = [
    "side",
    "servers",
    "workload",
    "read_share",
    "connections",
    "in_flight",
    "rate",
    "threads",
    "driver",
    "keys",
    "zipf_exponent",
    "value_size",
    "children",
    "multi_size",
    "seed",
    "round",
    "operation",
    "seconds",
    "requests",
    "requests_per_second",
    "latencies",
    "mean_us",
    "p50_us",
    "p90_us",
    "p99_us",
    "p99.9_us",
    "p99.99_us",
    "max_us",
    "errors",
    "wrong_length",
    "connections_failed",
    "unsent",
    "used_up",
    "busy",
    "version",
];

/// The reports with their sides' names, which are empty where there are no sides.
pub fn of(reports: &[(&str, &Report)]) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for (side, report) in reports {
        for round in &report.rounds {
            let answered = (round.requests, round.requests_per_second);
            push(&mut text, side, report, round, "all", Some(answered), &round.latency_us);
            for operation in &round.operations {
                push(&mut text, side, report, round, operation.name, None, &operation.latency_us);
            }
        }
    }
    text
}

fn push(
    text: &mut String,
    side: &str,
    report: &Report,
    round: &Round,
    operation: &str,
    answered: Option<(u64, f64)>,
    latency: &Latency,
) {
    let fields: [String; COLUMNS.len()] = [
        side.to_owned(),
        report.servers.join(" "),
        report.workload.to_owned(),
        optional(report.read_share),
        report.connections.to_string(),
        report.in_flight.to_string(),
        optional(report.rate),
        report.threads.to_string(),
        report.driver.to_owned(),
        report.keys.to_string(),
        optional(report.zipf_exponent),
        report.value_size.to_string(),
        report.children.to_string(),
        report.multi_size.to_string(),
        report.seed.to_string(),
        round.round.to_string(),
        operation.to_owned(),
        round.seconds.to_string(),
        optional(answered.map(|(requests, _)| requests)),
        optional(answered.map(|(_, rate)| rate)),
        latency.count.to_string(),
        latency.mean.to_string(),
        latency.p50.to_string(),
        latency.p90.to_string(),
        latency.p99.to_string(),
        latency.p99_9.to_string(),
        latency.p99_99.to_string(),
        latency.max.to_string(),
        round.errors.values().sum::<u64>().to_string(),
        round.wrong_length.to_string(),
        round.connections_failed.to_string(),
        optional(round.unsent),
        round.used_up.to_string(),
        round.busy.to_string(),
        report.version.to_owned(),
    ];
    let quoted: Vec<String> = fields.into_iter().map(quoted).collect();
    text.push_str(&quoted.join(","));
    text.push_str("\r\n");
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn quoted(field: String) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, tally_of};

    #[test]
    fn every_round_and_kind_of_request_has_a_line_with_every_column() {
        let options =
            "--workload mixed --read-share 60 --rounds 2 --servers 127.0.0.1:1,127.0.0.1:2";
        let mut tallies = [tally_of(2, 4, 10), tally_of(2, 6, 20)];
        tallies[1].errors.insert(-4, 3);
        let report = report(options, &tallies, vec![]);
        let text = of(&[("A", &report)]);
        let lines: Vec<Vec<&str>> =
            text.split_terminator("\r\n").map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 1 + 2 * 3, "{text}");
        assert!(lines.iter().all(|line| line.len() == COLUMNS.len()), "{text}");
        let at = |name: &str| COLUMNS.iter().position(|column| *column == name).unwrap();
        let column = |name: &str| lines[1..].iter().map(|line| line[at(name)]).collect::<Vec<_>>();
        assert_eq!(column("operation"), ["all", "get", "set", "all", "get", "set"]);
        assert_eq!(column("requests"), ["4", "", "", "6", "", ""]);
        assert_eq!(column("latencies"), ["4", "4", "0", "6", "6", "0"]);
        assert_eq!(column("errors"), ["0", "0", "0", "3", "3", "3"]);
        assert_eq!(column("side")[0], "A");
        assert_eq!(column("servers")[0], "127.0.0.1:1 127.0.0.1:2");
        assert_eq!(column("read_share")[0], "60");
        assert_eq!(column("rate")[0], "");
    }

    #[test]
    fn a_field_with_a_comma_is_quoted() {
        assert_eq!(quoted("a,\"b".to_owned()), "\"a,\"\"b\"");
        assert_eq!(quoted("a b".to_owned()), "a b");
    }
}
