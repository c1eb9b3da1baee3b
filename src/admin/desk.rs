//! The operators' thread: answers four-letter words, one after the other.
//!
//! Called by the reactors, through a bounded channel. A core that does not report in time costs
//! `ADMIN_ANSWER_MS_MAX` and the answer that ZooKeeper gives when it does not serve.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::deliver::Delivery;
use super::environment::{Folders, conf, dirs, envi};
use super::inquiry::{Cores, NoAnswer};
use super::metrics::{StartUp, mntr};
use super::report::{ConnectionReport, Details, LatencyReport, Mode};
use super::request::AdminRequest;
use super::status::{Totals, srvr, stat};
use super::word::{FourLetterWord, Question};
use super::{connections, sessions, watches};
use crate::config::settings::Config;

/// How long snapshots took. Shared by whoever takes them and whoever tells of them.
#[derive(Clone, Debug, Default)]
pub struct SnapshotTimes(Arc<Mutex<LatencyReport>>);

impl SnapshotTimes {
    /// One more was taken.
    pub fn add(&self, took: Duration) {
        let ms = took.as_millis() as u64;
        let one = LatencyReport { min_ms: ms, max_ms: ms, total_ms: ms as f64, count: 1 };
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *times = times.merged(one);
    }

    fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = LatencyReport::default();
    }

    fn get(&self) -> LatencyReport {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ZooKeeper traces unless told otherwise: requests, packets between servers, sessions and
/// warnings.
const TRACE_MASK: i64 = 306;

/// What the desk keeps about its own work.
#[derive(Debug)]
pub struct Ledger {
    /// Words that came since the last `srst`. Each is a packet to ZooKeeper, and so is its answer.
    asked: Cell<u64>,
    answered: Cell<u64>,
    /// There was an `srst`: what the start took is forgotten.
    reset: Cell<bool>,
    /// As `stmk` set it. `gtmk` tells it; nothing else looks at it.
    trace_mask: Cell<i64>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            asked: Cell::new(0),
            answered: Cell::new(0),
            reset: Cell::new(false),
            trace_mask: Cell::new(TRACE_MASK),
        }
    }
}

/// What answers are made from.
#[derive(Debug)]
pub struct Desk {
    pub cores: Cores,
    pub config: Config,
    /// Where clients connect: the configured address with the port that the system gave.
    pub listen: SocketAddr,
    pub folders: Folders,
    pub snapshots: SnapshotTimes,
    pub start_up: StartUp,
    pub ledger: Ledger,
}

impl Desk {
    /// Answers until every reactor has dropped its end of the channel.
    pub fn run(self, requests: &Receiver<AdminRequest>) {
        let delivery = Delivery::default();
        while let Ok(AdminRequest { stream, question, address, reactor }) = requests.recv() {
            tracing::debug!(%address, word = %question.word, "four-letter word");
            let answer = self.answer(question, address);
            let cores = self.cores.clone();
            let sent = move |stream| cores.connection_answered(reactor, address.ip(), stream);
            delivery.deliver(stream, answer, sent);
        }
    }

    /// What `question` is answered, asked from `address`.
    pub fn answer(&self, question: Question, address: SocketAddr) -> String {
        self.ledger.asked.update(|asked| asked + 1);
        let answer = self.unless_forbidden(question, address);
        self.ledger.answered.update(|answered| answered + 1);
        answer
    }

    fn unless_forbidden(&self, question: Question, address: SocketAddr) -> String {
        let word = question.word;
        if !self.config.four_letter_words.allows(word) {
            return format!("{word} is not executed because it is not in the whitelist.\n");
        }
        let mut out = String::new();
        let executed = match self.is_serving(word) {
            Ok(true) => self.execute(question, address, &mut out),
            Ok(false) => return not_serving(word),
            Err(no_answer) => Err(no_answer),
        };
        match executed {
            Ok(()) => out,
            Err(NoAnswer) => {
                tracing::warn!(%word, "a core did not report in time");
                not_serving(word)
            }
        }
    }

    /// Whether there is a leader, for a word that is about what this server serves.
    fn is_serving(&self, word: FourLetterWord) -> Result<bool, NoAnswer> {
        let about_the_process = matches!(
            word,
            FourLetterWord::Ruok
                | FourLetterWord::Envi
                | FourLetterWord::Gtmk
                | FourLetterWord::Stmk
        );
        if about_the_process || self.config.ensemble.is_none() {
            return Ok(true);
        }
        Ok(self.cores.consensus_report(false)?.mode != Mode::Idle)
    }

    fn execute(
        &self,
        question: Question,
        address: SocketAddr,
        out: &mut String,
    ) -> Result<(), NoAnswer> {
        let with_connections = Details { connections: true, ..Details::default() };
        let with_watches = Details { watches: true, ..Details::default() };
        let with_paths = Details { watched_paths: true, ..Details::default() };
        match question.word {
            FourLetterWord::Ruok => out.push_str("imok"),
            FourLetterWord::Isro => {
                self.cores.consensus_report(false)?;
                out.push_str("rw");
            }
            FourLetterWord::Srvr => srvr(out, self.totals()?, &self.cores.consensus_report(false)?),
            FourLetterWord::Stat => {
                let reports = self.cores.reactor_reports(with_connections)?;
                let totals = self.with_words(Totals::of(&reports));
                stat(out, &asking(address), &reports, totals, &self.cores.consensus_report(false)?);
            }
            FourLetterWord::Cons => {
                let reports = self.cores.reactor_reports(with_connections)?;
                connections::cons(out, &asking(address), &reports);
            }
            FourLetterWord::Mntr => {
                let consensus = self.cores.consensus_report(false)?;
                let start_up = StartUp { forgotten: self.ledger.reset.get(), ..self.start_up };
                mntr(out, self.totals()?, &consensus, self.snapshots.get(), &start_up);
            }
            FourLetterWord::Conf => conf(out, &self.config, self.listen.port(), &self.folders),
            FourLetterWord::Dirs => dirs(out, &self.folders),
            FourLetterWord::Envi => envi(out),
            FourLetterWord::Wchs => watches::wchs(out, &self.cores.reactor_reports(with_paths)?),
            FourLetterWord::Wchc => watches::wchc(out, self.cores.reactor_reports(with_watches)?),
            FourLetterWord::Wchp => watches::wchp(out, self.cores.reactor_reports(with_watches)?),
            FourLetterWord::Dump => {
                let reports = self.cores.reactor_reports(with_connections)?;
                let mut connections = vec![asking(address)];
                connections.extend(reports.into_iter().flat_map(|report| report.connection_list));
                let consensus = self.cores.consensus_report(true)?;
                sessions::dump(out, &consensus, &connections, unix_ms());
            }
            FourLetterWord::Crst => {
                self.cores.reset_connection_stats()?;
                out.push_str("Connection stats reset.\n");
            }
            FourLetterWord::Srst => {
                self.cores.reset_server_stats()?;
                self.ledger.asked.set(0);
                self.ledger.answered.set(0);
                self.ledger.reset.set(true);
                self.snapshots.reset();
                out.push_str("Server stats reset.\n");
            }
            FourLetterWord::Gtmk => out.push_str(&self.ledger.trace_mask.get().to_string()),
            FourLetterWord::Stmk => {
                // As in ZooKeeper there is no answer without a mask.
                if let Some(mask) = question.mask {
                    self.ledger.trace_mask.set(mask);
                    out.push_str(&mask.to_string());
                }
            }
            // No digests are kept: the list that a fresh ZooKeeper has, an empty one.
            FourLetterWord::Hash => {}
        }
        Ok(())
    }

    fn totals(&self) -> Result<Totals, NoAnswer> {
        Ok(self.with_words(Totals::of(&self.cores.reactor_reports(Details::default())?)))
    }

    /// `totals` with the packets that reactors do not see.
    fn with_words(&self, mut totals: Totals) -> Totals {
        totals.packets_received += self.ledger.asked.get();
        totals.packets_sent += self.ledger.answered.get();
        totals
    }
}

fn not_serving(word: FourLetterWord) -> String {
    match word {
        FourLetterWord::Isro => "null".to_owned(),
        _ => "This ZooKeeper instance is not currently serving requests\n".to_owned(),
    }
}

/// The connection that asks: its reactor has let go of it, so no report has it.
fn asking(address: SocketAddr) -> ConnectionReport {
    ConnectionReport { address, interest_ops: 0, queued: 0, received: 1, sent: 0, session: None }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
