//! One load of one server or ensemble: its set-up, its rounds and its cleaning up. `main` and the
//! orders of several loads drive it round by round, so that two may take turns.

use crate::arguments::Plan;
use crate::control::{Control, ControlError};
use crate::report::Report;
use crate::round;
use crate::schedule::Clock;
use crate::tally::Tally;
use crate::workload::Workload;

/// A load whose znodes are made. To be finished, or they stay.
pub struct Trial<'a> {
    plan: &'a Plan,
    /// What progress calls it; empty if it is the only one.
    name: &'a str,
    quiet: bool,
    workload: Workload,
    clock: Clock,
    tallies: Vec<Tally>,
    troubles: Vec<String>,
}

impl<'a> Trial<'a> {
    /// Makes what the plan's workload needs.
    ///
    /// # Errors
    /// When the first of the plan's servers refuses, or another does not follow it; what was made is
    /// deleted then.
    pub fn set_up(plan: &'a Plan, name: &'a str, quiet: bool) -> Result<Trial<'a>, ControlError> {
        if !quiet {
            eprintln!("setting up {} on {}", plan.root, plan.servers[0].name);
        }
        let mut control = Control::connect(plan)?;
        control.set_up()?;
        control.close()?;
        if let Err(error) = Control::catch_up(plan) {
            // The first error is the one to tell.
            let _ = clean_up(plan);
            return Err(error);
        }
        let workload = Workload::new(plan);
        let clock = Clock::start();
        let (tallies, troubles) = (Vec::new(), Vec::new());
        Ok(Trial { plan, name, quiet, workload, clock, tallies, troubles })
    }

    /// Runs the next round, between which and the one before it the znodes are renewed. False: no
    /// more rounds. One that lost connections is the last: the next would measure something else.
    pub fn round(&mut self) -> bool {
        let number = self.tallies.len() as u32;
        if number > 0
            && self.plan.workload.uses_up()
            && let Err(error) = self.renew()
        {
            self.troubles.push(format!("between the rounds: {error}"));
            return false;
        }
        if let Some(fanout) = self.workload.fanout() {
            fanout.begin();
        }
        let Trial { plan, name, quiet, workload, clock, .. } = self;
        let tally = round::run(plan, workload, clock, number, (!*quiet).then_some(*name));
        let lost = tally.failed > 0;
        self.tallies.push(tally);
        !lost && number + 1 < self.plan.rounds
    }

    /// Cleans up and gives what was measured.
    pub fn finish(mut self) -> Report {
        if !self.plan.keep
            && let Err(error) = clean_up(self.plan)
        {
            self.troubles.push(format!("cleaning up: {error}"));
        }
        Report::new(self.plan, &self.workload, &self.tallies, self.troubles)
    }

    /// Gives the next round the znodes that the first one had.
    fn renew(&self) -> Result<(), ControlError> {
        let mut control = Control::connect(self.plan)?;
        control.renew()?;
        self.workload.renew();
        control.close()?;
        Control::catch_up(self.plan)
    }
}

fn clean_up(plan: &Plan) -> Result<(), ControlError> {
    let mut control = Control::connect(plan)?;
    control.clean_up()?;
    control.close()
}
