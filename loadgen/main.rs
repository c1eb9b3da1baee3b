//! `ringkeeper-loadgen`: loads a server of the ZooKeeper protocol and reports what it did.
//!
//! Set-up, then rounds of connect, warm-up, measurement and close, then cleaning up. The hot loop
//! (`schedule`, `client`, `wire`) makes no allocation and keeps no reply: one system call sends for
//! all connections and waits; one time stamp; all replies by their headers; the next requests.

#![deny(unsafe_code)]

mod arguments;
mod client;
mod command_line;
mod comparison;
mod control;
mod csv;
mod draw;
mod epoll_sockets;
mod fanout;
mod pace;
mod page;
mod paths;
mod plot;
mod report;
mod round;
mod schedule;
mod sessions;
mod sockets;
mod sweep;
#[allow(unsafe_code)] // Here alone: see its module docs.
mod sys;
mod tally;
mod trial;
mod variation;
mod wire;
mod workload;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::command_line::{CommandLine, Order, Output};
use crate::comparison::Comparison;
use crate::control::ControlError;
use crate::sweep::Sweep;
use crate::trial::Trial;

/// A server refused, failed or answered an error.
const TROUBLE: u8 = 1;
/// The command line is wrong; clap's own code for it, too.
const WRONG_ARGUMENTS: u8 = 2;

fn main() -> ExitCode {
    let (order, output) = match CommandLine::parse().into_order() {
        Ok(order) => order,
        Err(error) => {
            eprintln!("ringkeeper-loadgen: {error}");
            return ExitCode::from(WRONG_ARGUMENTS);
        }
    };
    if let (Some(reason), false) = (&order.first().ring_refused, output.quiet) {
        eprintln!("ringkeeper-loadgen: works with epoll, which takes more time: {reason}");
    }
    if let Err(error) = sys::raise_open_files() {
        eprintln!("ringkeeper-loadgen: the limit on open files stays as it is: {error}");
    }
    let outcome = match carry_out(&order, &output) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("ringkeeper-loadgen: set-up: {error}");
            return ExitCode::from(TROUBLE);
        }
    };
    if let Err(error) = hand_out(&outcome, &output) {
        eprintln!("ringkeeper-loadgen: {error}");
        return ExitCode::from(TROUBLE);
    }
    if outcome.ok { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) }
}

/// The results in every form, and whether all went well.
struct Outcome {
    table: String,
    json: String,
    csv: String,
    html: String,
    ok: bool,
}

fn carry_out(order: &Order, output: &Output) -> Result<Outcome, ControlError> {
    match order {
        Order::Run(plan) => {
            let mut trial = Trial::set_up(plan, "", output.quiet)?;
            while trial.round() {}
            let report = trial.finish();
            Ok(Outcome {
                table: report.table(),
                json: report.json(),
                csv: csv::of(&[("", &report)]),
                html: page::of_run(&report),
                ok: report.is_ok(),
            })
        }
        Order::Compare(sides) => {
            let comparison = Comparison::of(&sides[0], &sides[1], output.quiet)?;
            Ok(Outcome {
                table: comparison.table(),
                json: comparison.json(),
                csv: csv::of(&[("A", &comparison.a), ("B", &comparison.b)]),
                html: page::of_comparison(&comparison),
                ok: comparison.is_ok(),
            })
        }
        Order::Sweep { points, varied } => {
            let sweep = Sweep::of(points, varied, output.quiet)?;
            let reports: Vec<_> = sweep.points.iter().map(|point| ("", &point.report)).collect();
            Ok(Outcome {
                table: sweep.table(),
                json: sweep.json(),
                csv: csv::of(&reports),
                html: page::of_sweep(&sweep),
                ok: sweep.is_ok(),
            })
        }
    }
}

/// Prints the results and writes the files asked for. Every one is tried, the first failure told.
fn hand_out(outcome: &Outcome, output: &Output) -> Result<(), WriteError> {
    let printed = if output.json { format!("{}\n", outcome.json) } else { outcome.table.clone() };
    let printed = std::io::stdout()
        .write_all(printed.as_bytes())
        .map_err(|reason| WriteError { place: "stdout".to_owned(), reason });
    let file = |path: &Option<PathBuf>, text: &str| match path {
        None => Ok(()),
        Some(path) => std::fs::write(path, text)
            .map_err(|reason| WriteError { place: path.display().to_string(), reason }),
    };
    let files = [file(&output.csv, &outcome.csv), file(&output.html, &outcome.html)];
    [printed].into_iter().chain(files).collect()
}

/// Results that could not be handed out.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report to {place}: {reason}")]
struct WriteError {
    place: String,
    reason: std::io::Error,
}
