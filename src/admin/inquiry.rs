//! Questions to the cores, with a deadline: a core that is stuck must not keep an operator waiting.

use std::net::{IpAddr, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::report::{ConsensusAsk, ConsensusReport, Details, ReactorAsk, ReactorReport};
use crate::consensus::message::ConsensusMessage;
use crate::ids::ReactorId;
use crate::limits::ADMIN_ANSWER_MS_MAX;
use crate::reactor::message::ReactorMessage;
use crate::rt::inbox::{RingInbox, TaskInbox};

/// The inboxes of all cores.
#[derive(Clone, Debug)]
pub struct Cores {
    /// By reactor.
    pub reactors: Vec<RingInbox<ReactorMessage>>,
    pub consensus: TaskInbox<ConsensusMessage>,
}

/// A core has not answered in time: it has ended, or is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer;

impl Cores {
    /// A report of every reactor, by reactor.
    pub fn reactor_reports(&self, details: Details) -> Result<Vec<ReactorReport>, NoAnswer> {
        let deadline = deadline();
        // All are asked before the first is waited for: they answer side by side.
        let asked: Result<Vec<_>, NoAnswer> = self
            .reactors
            .iter()
            .map(|inbox| {
                let (to, answer) = sync_channel(1);
                put(inbox, ReactorAsk::Report { details, to }, deadline)?;
                Ok(answer)
            })
            .collect();
        asked?.into_iter().map(|answer| wait(&answer, deadline)).collect()
    }

    /// The consensus core's report.
    pub fn consensus_report(&self, ephemerals: bool) -> Result<ConsensusReport, NoAnswer> {
        let deadline = deadline();
        let (to, answer): (SyncSender<ConsensusReport>, _) = sync_channel(1);
        self.put_consensus(ConsensusAsk::Report { ephemerals, to }, deadline)?;
        wait(&answer, deadline)
    }

    /// `srst`.
    pub fn reset_server_stats(&self) -> Result<(), NoAnswer> {
        let deadline = deadline();
        for inbox in &self.reactors {
            put(inbox, ReactorAsk::ResetServerStats, deadline)?;
        }
        self.put_consensus(ConsensusAsk::ResetServerStats, deadline)
    }

    /// `crst`.
    pub fn reset_connection_stats(&self) -> Result<(), NoAnswer> {
        let deadline = deadline();
        self.reactors
            .iter()
            .try_for_each(|inbox| put(inbox, ReactorAsk::ResetConnectionStats, deadline))
    }

    /// The reactor may forget a connection that it had handed over, and shall close `stream` once
    /// its client has read. A reactor that does not take the message in time is stuck or has ended;
    /// then the count no longer matters. One that has no room closes `stream` at once.
    pub fn connection_answered(
        &self,
        reactor: ReactorId,
        address: IpAddr,
        stream: Option<TcpStream>,
    ) {
        let inbox = &self.reactors[usize::from(reactor.0)];
        if let Some(stream) = stream {
            drop(inbox.send(ReactorMessage::Linger(stream)));
        }
        if put(inbox, ReactorAsk::AdminConnectionClosed { address }, deadline()).is_err() {
            tracing::warn!(reactor = reactor.0, "a reactor does not take messages");
        }
    }

    fn put_consensus(&self, ask: ConsensusAsk, deadline: Instant) -> Result<(), NoAnswer> {
        let mut message = ConsensusMessage::Ask(ask);
        while let Err(back) = self.consensus.send(message) {
            message = back;
            pause(deadline)?;
        }
        Ok(())
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(ADMIN_ANSWER_MS_MAX)
}

fn put(
    inbox: &RingInbox<ReactorMessage>,
    ask: ReactorAsk,
    deadline: Instant,
) -> Result<(), NoAnswer> {
    let mut message = ReactorMessage::Ask(ask);
    while let Err(back) = inbox.send(message) {
        message = back;
        pause(deadline)?;
    }
    Ok(())
}

/// The inbox is full: waits a moment for its owner.
fn pause(deadline: Instant) -> Result<(), NoAnswer> {
    if Instant::now() >= deadline {
        return Err(NoAnswer);
    }
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}

fn wait<R>(answer: &Receiver<R>, deadline: Instant) -> Result<R, NoAnswer> {
    let left = deadline.saturating_duration_since(Instant::now());
    answer.recv_timeout(left).map_err(|_| NoAnswer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_never_answers_costs_the_deadline_and_no_more() {
        let cores =
            Cores { reactors: vec![RingInbox::new(1).unwrap()], consensus: TaskInbox::new(1) };
        let began = Instant::now();
        assert_eq!(cores.reactor_reports(Details::default()).err(), Some(NoAnswer));
        assert!(began.elapsed() < Duration::from_millis(3 * ADMIN_ANSWER_MS_MAX));
        // The inbox is full of the first question now.
        assert_eq!(cores.reset_connection_stats(), Err(NoAnswer));
    }
}
