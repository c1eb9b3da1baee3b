//! The report as one HTML page that needs nothing else: the tables as on the terminal, and plots.

use std::fmt::Write;

use crate::comparison::Comparison;
use crate::plot::{Axis, COLOURS, Chart, Line, Scale, escaped};
use crate::report::{Curve, Latency, Report};
use crate::sweep::{Point, Sweep};

/// The page of one load.
pub fn of_run(report: &Report) -> String {
    let named: Vec<(String, usize, &Report)> = vec![(String::new(), 0, report)];
    let charts = [over_time(&named), by_percentile(&named), by_operation(report)];
    page(&format!("ringkeeper-loadgen: {}", report.workload), &report.table(), charts)
}

/// The page of a comparison: a colour for each side.
pub fn of_comparison(comparison: &Comparison) -> String {
    let sides = [("A".to_owned(), 0, &comparison.a), ("B".to_owned(), 1, &comparison.b)];
    let title = format!("ringkeeper-loadgen compare: {}", comparison.a.workload);
    let charts = [by_round(&sides), over_time(&sides), by_percentile(&sides)];
    page(&title, &comparison.table(), charts)
}

/// The page of a sweep: the last option that was varied along the axes, a line for each combination
/// of the others.
pub fn of_sweep(sweep: &Sweep) -> String {
    let rate = |report: &Report| report.median.requests_per_second;
    let latency = |of: fn(&Latency) -> f64| move |report: &Report| of(&report.median.latency_us);
    let charts = [
        swept(sweep, "Throughput", ("requests/s", Scale::Linear), rate),
        swept(sweep, "Median latency", ("µs", Scale::Log), latency(|latency| latency.p50)),
        swept(sweep, "99th percentile", ("µs", Scale::Log), latency(|latency| latency.p99)),
        swept(sweep, "99.9th percentile", ("µs", Scale::Log), latency(|latency| latency.p99_9)),
    ];
    page("ringkeeper-loadgen sweep", &sweep.table(), charts)
}

fn swept(
    sweep: &Sweep,
    title: &str,
    (unit, scale): (&str, Scale),
    figure: impl Fn(&Report) -> f64,
) -> Chart {
    let last = sweep.varied.len() - 1;
    // Values lie as far apart as they were asked for, one after the other, whatever they are.
    let mut places: Vec<u32> = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for Point { values, report } in &sweep.points {
        let at = places.iter().position(|value| *value == values[last]).unwrap_or_else(|| {
            places.push(values[last]);
            places.len() - 1
        });
        let name = sweep.name(&values[..last]);
        let point = (at as f64, figure(report));
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => {
                let (colour, points) = (lines.len(), vec![point]);
                lines.push(Line { name, colour, points, dots: true });
            }
        }
    }
    let labels = places.iter().enumerate().map(|(at, value)| (at as f64, value.to_string()));
    Chart {
        title: title.to_owned(),
        x: axis(sweep.varied[last], Scale::Labelled(labels.collect())),
        y: axis(unit, scale),
        lines,
    }
}

fn page(title: &str, table: &str, charts: impl IntoIterator<Item = Chart>) -> String {
    let mut colours = String::new();
    for (at, colour) in COLOURS.iter().enumerate() {
        let _ = write!(colours, "--c{at}:{colour};");
    }
    let title = escaped(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n<style>\n\
         :root{{color-scheme:light dark;--ink:#1c1c1c;--faint:#d8d8d8;--ground:#fff;{colours}}}\n\
         @media(prefers-color-scheme:dark){{:root{{--ink:#e6e6e6;--faint:#3c3c3c;--ground:#161616}}}}\n\
         body{{font:15px system-ui,sans-serif;color:var(--ink);background:var(--ground);\
         max-width:60rem;margin:2rem auto;padding:0 1rem}}\n\
         pre{{overflow-x:auto;font-size:12px;line-height:1.45}}\n\
         svg{{width:100%;height:auto;margin:1rem 0}}\n\
         svg text{{fill:var(--ink);font:12px system-ui,sans-serif}}\n\
         svg .title{{font-size:15px;font-weight:600}}\n\
         svg .grid{{stroke:var(--faint)}}\n\
         svg polyline,svg .key{{fill:none;stroke-width:1.8}}\n\
         </style></head><body>\n<h1>{title}</h1>\n<pre>{}</pre>\n",
        escaped(table)
    );
    for chart in charts {
        if chart.lines.iter().any(|line| !line.points.is_empty()) {
            html.push_str(&chart.svg());
        }
    }
    html.push_str("</body></html>\n");
    html
}

/// Requests/s of every round, over its window.
fn over_time(reports: &[(String, usize, &Report)]) -> Chart {
    Chart {
        title: "Throughput over time".to_owned(),
        x: axis("seconds since the window opened", Scale::Linear),
        y: axis("requests/s", Scale::Linear),
        lines: lines_by_round(reports, |report, round| report.rounds[round].pace.clone()),
    }
}

/// Latencies of every round.
fn by_percentile(reports: &[(String, usize, &Report)]) -> Chart {
    let lines = lines_by_round(reports, |report, round| report.rounds[round].curve.clone());
    percentiles("Latency by percentile", lines)
}

/// Latencies of each kind of request; no lines if there is but one.
fn by_operation(report: &Report) -> Chart {
    let lines = report.curves.iter().enumerate().map(|(colour, (name, curve))| Line {
        name: (*name).to_owned(),
        colour,
        points: curve.clone(),
        dots: false,
    });
    percentiles("Latency by percentile and kind of request, all rounds", lines.collect())
}

/// Requests/s of one round after the other.
fn by_round(reports: &[(String, usize, &Report)]) -> Chart {
    let most = reports.iter().map(|(_, _, report)| report.rounds.len()).max().unwrap_or(0);
    let numbers = (1..=most).map(|round| (round as f64, round.to_string())).collect();
    let lines = reports.iter().map(|(name, colour, report)| Line {
        name: name.clone(),
        colour: *colour,
        points: report
            .rounds
            .iter()
            .map(|round| (f64::from(round.round), round.requests_per_second))
            .collect(),
        dots: true,
    });
    Chart {
        title: "Throughput by round".to_owned(),
        x: axis("round", Scale::Labelled(numbers)),
        y: axis("requests/s", Scale::Linear),
        lines: lines.collect(),
    }
}

/// A line for each round. A single report's rounds have colours of their own, several reports' those
/// of their report.
fn lines_by_round(
    reports: &[(String, usize, &Report)],
    points: impl Fn(&Report, usize) -> Curve,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, colour, report) in reports {
        for round in 0..report.rounds.len() {
            let alone = name.is_empty();
            lines.push(Line {
                name: if alone { format!("round {}", round + 1) } else { name.clone() },
                colour: if alone { round } else { *colour },
                points: points(report, round),
                dots: false,
            });
        }
    }
    lines
}

fn percentiles(title: &str, lines: Vec<Line>) -> Chart {
    const TICKS: [&str; 8] = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"];
    let last =
        lines.iter().flat_map(|line| &line.points).fold(1.0, |last: f64, (at, _)| last.max(*at));
    let ticks = TICKS.iter().enumerate().take(last.ceil() as usize + 1);
    let ticks = ticks.map(|(at, label)| (at as f64, (*label).to_owned())).collect();
    Chart {
        title: title.to_owned(),
        x: axis("percentile", Scale::Labelled(ticks)),
        y: axis("latency in µs", Scale::Log),
        lines,
    }
}

fn axis(name: &str, scale: Scale) -> Axis {
    Axis { name: name.to_owned(), scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, tally_of};

    #[test]
    fn a_page_has_the_table_and_the_plots_and_asks_for_nothing_else() {
        let mut tallies = [tally_of(2, 400, 10), tally_of(2, 600, 20)];
        tallies[0].answered_in = vec![4; 100];
        let report = report("--workload mixed --rounds 2", &tallies, vec!["a < b".to_owned()]);
        let html = of_run(&report);
        assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
        assert!(html.contains("mixed (80% get, 20% set)") && html.contains("a &lt; b"), "{html}");
        for part in ["Throughput over time", "Latency by percentile<", "kind of request", "round 2"]
        {
            assert!(html.contains(part), "no {part} in {html}");
        }
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
        for outside in ["http", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside} in {html}");
        }
    }

    #[test]
    fn a_sweep_has_a_line_for_each_combination_of_all_options_but_the_last() {
        let html = of_sweep(&crate::sweep::tests::sweep());
        assert_eq!(html.matches("<svg").count(), 4, "{html}");
        let throughput = &html[html.find("<svg").unwrap()..html.find("</svg>").unwrap()];
        assert_eq!(throughput.matches("<polyline").count(), 2, "{throughput}");
        assert_eq!(throughput.matches("<circle").count(), 4, "{throughput}");
        for part in [">connections 1</text>", ">connections 2</text>", ">value-size</text>"] {
            assert_eq!(throughput.matches(part).count(), 1, "{part} in {throughput}");
        }
    }

    #[test]
    fn a_plot_without_points_is_left_out() {
        let html = of_run(&report("", &[], vec![]));
        assert!(!html.contains("<svg"), "{html}");
    }
}
