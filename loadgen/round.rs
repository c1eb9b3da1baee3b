//! One round: its threads, and the progress line while they run.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Plan;
use crate::report::grouped;
use crate::schedule::{Clock, Gate, Setting, Shown, Worker};
use crate::sessions::Sessions;
use crate::tally::{Failure, Tally};
use crate::workload::Workload;

/// How often the progress line is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Between "all connected" and the first request, so that every thread has seen it.
const START_AFTER: Duration = Duration::from_millis(10);

/// What a thread tells the round.
enum News {
    Connected,
    NotConnected(Failure),
    Done(Box<Tally>),
}

/// Runs round `round` (counted from 0) of the plan. A failure to connect leaves an empty tally with
/// that failure in it. Progress is shown under `name`, which may be empty; `None`: not shown.
pub fn run(
    plan: &Plan,
    workload: &Workload,
    clock: &Clock,
    round: u32,
    name: Option<&str>,
) -> Tally {
    let gate = Gate::default();
    let shown: Vec<Shown> = (0..plan.threads).map(|_| Shown::default()).collect();
    let progress = name.map(|name| Progress::new(plan, name, round, &shown));
    thread::scope(|scope| {
        let (tell, told) = channel();
        for (thread, shown) in (0..).zip(&shown) {
            let setting = Setting { plan, workload, clock, gate: &gate, shown, round, thread };
            let tell = tell.clone();
            scope.spawn(move || work(setting, &tell));
        }
        drop(tell);
        collect(&told, plan, workload, clock, &gate, progress)
    })
}

fn work(setting: Setting, tell: &Sender<News>) {
    // The round waits for every thread's news until all senders are gone, so a send arrives.
    let send = |news| tell.send(news).expect("the round is waiting");
    let tally = if setting.plan.workload.opens_sessions() {
        Sessions::new(setting).map(|sessions| {
            send(News::Connected);
            sessions.run()
        })
    } else {
        Worker::connect(setting).map(|worker| {
            send(News::Connected);
            worker.run()
        })
    };
    match tally {
        Ok(tally) => send(News::Done(Box::new(tally))),
        Err(failure) => send(News::NotConnected(failure)),
    }
}

fn collect(
    told: &Receiver<News>,
    plan: &Plan,
    workload: &Workload,
    clock: &Clock,
    gate: &Gate,
    mut progress: Option<Progress>,
) -> Tally {
    let mut connecting = plan.threads;
    let mut total = Tally::new(workload.steps().len(), plan.servers.len());
    loop {
        match told.recv_timeout(PROGRESS_EVERY) {
            Ok(News::Connected) => {
                connecting -= 1;
                if connecting == 0 {
                    gate.open(clock.now() + START_AFTER.as_nanos() as u64);
                    if let Some(progress) = &mut progress {
                        progress.begin();
                    }
                }
            }
            Ok(News::NotConnected(failure)) => {
                gate.call_off();
                total.fail(failure);
            }
            Ok(News::Done(tally)) => total.merge(*tally),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(progress) = &mut progress {
                    progress.show();
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Some(progress) = progress {
        progress.end();
    }
    total
}

/// The line on stderr that says how it goes: rewritten in place on a terminal, else one a second.
struct Progress<'a> {
    plan: &'a Plan,
    name: &'a str,
    round: u32,
    shown: &'a [Shown],
    in_place: bool,
    began: Option<Instant>,
    last_at: Instant,
    last_replies: u64,
}

impl<'a> Progress<'a> {
    fn new(plan: &'a Plan, name: &'a str, round: u32, shown: &'a [Shown]) -> Progress<'a> {
        let in_place = std::io::stderr().is_terminal();
        let last_at = Instant::now();
        Progress { plan, name, round, shown, in_place, began: None, last_at, last_replies: 0 }
    }

    fn begin(&mut self) {
        self.last_at = Instant::now();
        self.began = Some(self.last_at);
    }

    fn show(&mut self) {
        let line = self.line(Instant::now());
        let mut stderr = std::io::stderr().lock();
        // Progress that cannot be written is no reason to stop measuring.
        let _ = if self.in_place {
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }

    fn line(&mut self, now: Instant) -> String {
        let sum = |of: fn(&Shown) -> u64| self.shown.iter().map(of).sum::<u64>();
        let replies = sum(|shown| shown.replies.load(Ordering::Relaxed));
        let troubles = sum(|shown| shown.troubles.load(Ordering::Relaxed));
        let space = if self.name.is_empty() { "" } else { " " };
        let round = format!("{}{space}round {}/{}", self.name, self.round + 1, self.plan.rounds);
        let Some(began) = self.began else { return format!("{round}  connecting") };
        let passed = now - began;
        let (phase, left) = if passed < self.plan.warm_up {
            ("warming up", self.plan.warm_up - passed)
        } else {
            ("measuring", (self.plan.warm_up + self.plan.duration).saturating_sub(passed))
        };
        let since = (now - self.last_at).as_secs_f64().max(f64::MIN_POSITIVE);
        let rate = (replies - self.last_replies) as f64 / since;
        (self.last_at, self.last_replies) = (now, replies);
        let troubles = match troubles {
            0 => String::new(),
            count => format!("  {} errors", grouped(count)),
        };
        let rate = grouped(rate as u64);
        format!("{round}  {phase}, {:.0} s left  {rate} replies/s{troubles}", left.as_secs_f64())
    }

    fn end(self) {
        if self.in_place {
            let mut stderr = std::io::stderr().lock();
            // As in `show`.
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;

    #[test]
    fn the_progress_line_tells_phase_rate_and_errors() {
        let plan = plan("--rounds 5 --warm-up 2s --duration 5s");
        let shown = [Shown::default(), Shown::default()];
        let mut progress = Progress::new(&plan, "", 1, &shown);
        assert_eq!(progress.line(Instant::now()), "round 2/5  connecting");
        progress.begin();
        let began = progress.began.unwrap();
        shown[0].replies.store(1_000, Ordering::Relaxed);
        shown[1].replies.store(500, Ordering::Relaxed);
        let line = progress.line(began + Duration::from_secs(1));
        assert_eq!(line, "round 2/5  warming up, 1 s left  1,500 replies/s");
        shown[0].replies.store(5_000, Ordering::Relaxed);
        shown[1].troubles.store(3, Ordering::Relaxed);
        let line = progress.line(began + Duration::from_secs(3));
        assert_eq!(line, "round 2/5  measuring, 4 s left  2,000 replies/s  3 errors");
        progress.name = "B";
        let line = progress.line(began + Duration::from_secs(4));
        assert!(line.starts_with("B round 2/5  measuring"), "{line}");
    }
}
