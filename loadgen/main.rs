//! `ringkeeper-loadgen`: loads a server of the ZooKeeper protocol and reports what it did.
//!
//! Set-up, then rounds of connect, warm-up, measurement and close, then cleaning up. The hot loop
//! (`schedule`, `client`, `wire`) makes no allocation and keeps no reply: one system call sends for
//! all connections and waits; one time stamp; all replies by their headers; the next requests.

#![deny(unsafe_code)]

mod arguments;
mod client;
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
mod wire;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Plan};
use crate::control::{Control, ControlError};
use crate::report::Report;
use crate::schedule::Clock;
use crate::tally::Tally;
use crate::workload::Workload;

/// A server refused, failed or answered an error.
const TROUBLE: u8 = 1;
/// The command line is wrong; clap's own code for it, too.
const WRONG_ARGUMENTS: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (json, quiet) = (arguments.json, arguments.quiet);
    let plan = match arguments.into_plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("ringkeeper-loadgen: {error}");
            return ExitCode::from(WRONG_ARGUMENTS);
        }
    };
    if let (Some(reason), false) = (&plan.ring_refused, quiet) {
        eprintln!("ringkeeper-loadgen: works with epoll, which takes more time: {reason}");
    }
    if let Err(error) = sys::raise_open_files() {
        eprintln!("ringkeeper-loadgen: the limit on open files stays as it is: {error}");
    }
    match set_up(&plan, quiet) {
        Ok(()) => {}
        Err(error) => {
            eprintln!("ringkeeper-loadgen: set-up: {error}");
            return ExitCode::from(TROUBLE);
        }
    }
    let report = measure(&plan, quiet);
    let text = if json { report.json() + "\n" } else { report.table() };
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        eprintln!("ringkeeper-loadgen: cannot write the report: {error}");
        return ExitCode::from(TROUBLE);
    }
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) }
}

fn set_up(plan: &Plan, quiet: bool) -> Result<(), ControlError> {
    if !quiet {
        eprintln!("setting up {} on {}", plan.root, plan.servers[0].name);
    }
    let mut control = Control::connect(plan)?;
    control.set_up()?;
    control.close()
}

/// All rounds, and the cleaning up between and after them. A round that lost connections is the
/// last one: the next would measure something else.
fn measure(plan: &Plan, quiet: bool) -> Report {
    let workload = Workload::new(plan);
    let clock = Clock::start();
    let mut tallies: Vec<Tally> = Vec::new();
    let mut troubles = Vec::new();
    for number in 0..plan.rounds {
        let tally = round::run(plan, &workload, &clock, number, quiet);
        let lost = tally.failed > 0;
        tallies.push(tally);
        if lost {
            break;
        }
        let last = number + 1 == plan.rounds;
        if plan.workload.uses_up()
            && !last
            && let Err(error) = renew(plan, &workload)
        {
            troubles.push(format!("between the rounds: {error}"));
            break;
        }
    }
    if !plan.keep
        && let Err(error) = clean_up(plan)
    {
        troubles.push(format!("cleaning up: {error}"));
    }
    Report::new(plan, &workload, &tallies, troubles)
}

/// Gives the next round the znodes that the first one had.
fn renew(plan: &Plan, workload: &Workload) -> Result<(), ControlError> {
    let mut control = Control::connect(plan)?;
    control.renew()?;
    workload.renew();
    control.close()
}

fn clean_up(plan: &Plan) -> Result<(), ControlError> {
    let mut control = Control::connect(plan)?;
    control.clean_up()?;
    control.close()
}
