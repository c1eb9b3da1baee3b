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
mod draw;
mod epoll_sockets;
mod pace;
mod paths;
mod report;
mod round;
mod schedule;
mod sockets;
#[allow(unsafe_code)] // Here alone: see its module docs.
mod sys;
mod tally;
mod trial;
mod wire;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::command_line::{CommandLine, Order, Output};
use crate::comparison::Comparison;
use crate::control::ControlError;
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
    if let Err(error) = std::io::stdout().write_all(outcome.text.as_bytes()) {
        eprintln!("ringkeeper-loadgen: cannot write the report: {error}");
        return ExitCode::from(TROUBLE);
    }
    if outcome.ok { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) }
}

/// What is printed, and whether all went well.
struct Outcome {
    text: String,
    ok: bool,
}

fn carry_out(order: &Order, output: &Output) -> Result<Outcome, ControlError> {
    match order {
        Order::Run(plan) => {
            let mut trial = Trial::set_up(plan, "", output.quiet)?;
            while trial.round() {}
            let report = trial.finish();
            let text = if output.json { report.json() + "\n" } else { report.table() };
            Ok(Outcome { text, ok: report.is_ok() })
        }
        Order::Compare(sides) => {
            let comparison = Comparison::of(&sides[0], &sides[1], output.quiet)?;
            let text = if output.json { comparison.json() + "\n" } else { comparison.table() };
            Ok(Outcome { text, ok: comparison.is_ok() })
        }
    }
}
