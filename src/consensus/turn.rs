//! The loop of the consensus core's thread: take submissions and what peers say, prepare and log,
//! start a flush when none is in flight, carry out what the core orders, let sessions expire. Runs
//! on an executor of its own; the only place where the core meets the disk, the clock, its peers and
//! its inbox.
//!
//! Invariants: one flush is in flight while the next batch gathers. Nothing is published before its
//! flush is done. A flush that fails ends the loop: what is durable is not known any more, so
//! nothing more may be acknowledged.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;

use crate::admin::report::{ConsensusAsk, ConsensusReport, LatencyReport};
use crate::consensus::core::{Core, LinkFault, Moment, Order};
use crate::consensus::handoff::Submission;
use crate::consensus::member::{Done, Installed, Member, MemberSetup};
use crate::consensus::message::ConsensusMessage;
use crate::consensus::prepare::write::{Prepare, Settings};
use crate::consensus::publish::Publisher;
use crate::consensus::report::note;
use crate::consensus::sessions::Sessions;
use crate::consensus::snapshots::{RequestSnapshot, SnapshotPolicy, SnapshotRequest, Snapshots};
use crate::ids::Zxid;
use crate::jute::quorum::QuorumPacket;
use crate::limits::{
    FORWARDED_MAX, GROUP_COMMIT_BYTES_MAX, PROPOSALS_WAITING_MAX, SUBMISSIONS_PARKED_MAX,
    SUBMISSIONS_PER_TURN_MAX,
};
use crate::log::group_commit::{Flush, Flushed, GroupCommit, LogError};
use crate::peers::links::LinkEvent;
use crate::reactor::message::ReactorMessage;
use crate::rt::clock;
use crate::rt::inbox::{RingInbox, TaskInbox};
use crate::rt::timer::Sleep;
use crate::tree::{Registry, Writer};
use crate::zab::step::{Input, LinkId, Output, Start};

/// How long to wait before trying again to give a batch to a reactor whose inbox is full, should it
/// not say that it has drained it.
const RETRY: Duration = Duration::from_millis(5);

/// How long the loop lies down between two turns while a flush is in flight. The executor submits
/// and completes I/O only when its tasks wait; a loop that always finds messages would never let
/// it. Nothing is late for it: what comes meanwhile cannot be flushed before.
const BREATH: Duration = Duration::from_micros(10);

/// How often a member of an ensemble hears that time has passed.
const TICK: Duration = Duration::from_millis(50);

/// Why the consensus core ended.
#[derive(Debug, Error)]
pub enum CoreFailure {
    #[error("{0}; what was acknowledged is durable, and a restart recovers it")]
    Log(#[from] LogError),
    #[error("{0}")]
    Disk(String),
    /// What the leader took back had been recovered as if it were committed, which only a start can
    /// undo.
    #[error("to be started again, as of {0}: the leader took back what came behind it")]
    Restart(Zxid),
}

/// What a server's consensus core works with.
pub struct Setup {
    /// How it begins: standalone, or as a member of an ensemble.
    pub start: Start,
    /// Of a member of an ensemble.
    pub member: Option<MemberSetup>,
    /// The recovered tree.
    pub tree: Writer,
    pub registry: Registry,
    /// The recovered sessions.
    pub sessions: Sessions,
    /// Open where recovery found the log's end: at the tree's newest transaction.
    pub log: GroupCommit,
    /// Its own inbox.
    pub inbox: TaskInbox<ConsensusMessage>,
    /// Those of the reactors, by `ReactorId`.
    pub reactors: Vec<RingInbox<ReactorMessage>>,
    pub settings: Settings,
    /// `tickTime`, milliseconds.
    pub tick_ms: u64,
    /// Bytes that gather before no more submissions are taken: at most `GROUP_COMMIT_BYTES_MAX`.
    pub group_commit_bytes: usize,
    /// `fsync.warningthresholdms`: a flush that takes this long or longer is logged.
    pub fsync_warning: Duration,
    pub snapshots: SnapshotPolicy,
    /// Transactions and bytes that recovery found in the log behind the last snapshot: they count
    /// for the next, or a server that is restarted often would never take one.
    pub logged: (u64, u64),
    pub request_snapshot: RequestSnapshot,
}

/// Runs the consensus core until it is told to stop, then finishes what is in flight. Must run on
/// the executor on which `setup.log` was opened.
///
/// # Errors
/// The log could not be written. The process must end: no later write may be acknowledged.
pub async fn run(setup: Setup) -> Result<(), CoreFailure> {
    Turns::new(setup).run().await
}

struct Turns {
    core: Core,
    member: Option<Member>,
    /// Results of the member's threads that were taken from the inbox.
    done: Vec<Done>,
    /// Whether the reactors take clients.
    serving: bool,
    member_tick: Option<Sleep>,
    registry: Registry,
    log: GroupCommit,
    flush: Option<Flush>,
    inbox: TaskInbox<ConsensusMessage>,
    /// Taken from the inbox while a reactor was full, to see what is behind.
    parked: VecDeque<Submission>,
    publisher: Publisher,
    snapshots: Snapshots,
    request_snapshot: RequestSnapshot,
    group_commit_bytes: usize,
    fsync_warning: Duration,
    tick_ms: u64,
    tick: Option<Sleep>,
    retry: Option<Sleep>,
    breath: Option<Sleep>,
    expiry: Option<Expiry>,
    reap: Option<Sleep>,
    fsync: LatencyReport,
    stopping: bool,
}

/// Sessions whose time has run out, as far as is known. What waits may have heard of them.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    /// When they were found, milliseconds of the monotonic clock: what runs out later is not
    /// theirs, for it may have been heard of by what came behind.
    found_ms: u64,
    /// A reactor had submissions ready for which there was no room. They come first, too.
    held: bool,
    /// Submissions to take first: at most what waited when nothing was held any more. Both queues
    /// keep their order, so this comes to an end, whatever comes behind.
    behind: usize,
    /// Submissions that may still be taken while something is held. Each reactor keeps its order,
    /// so what was held at first is among them; what is held now came later.
    patience: usize,
}

/// What ends a wait.
enum Woken {
    Flushed(Result<Flushed, LogError>),
    Message,
    Peers,
    Time,
}

impl Turns {
    fn new(setup: Setup) -> Turns {
        let reactors = setup.reactors.len();
        let prepare = Prepare::new(setup.tree, setup.sessions, reactors, setup.settings);
        let mut snapshots = Snapshots::new(setup.snapshots, clock::boot_ms());
        snapshots.count(setup.logged.0, setup.logged.1);
        Turns {
            core: Core::new(prepare, setup.start, reactors, moment()),
            done: Vec::new(),
            serving: setup.member.is_none(),
            member: setup.member.map(Member::new),
            member_tick: None,
            registry: setup.registry,
            log: setup.log,
            flush: None,
            inbox: setup.inbox,
            parked: VecDeque::new(),
            publisher: Publisher::new(setup.reactors),
            snapshots,
            request_snapshot: setup.request_snapshot,
            group_commit_bytes: setup.group_commit_bytes.min(GROUP_COMMIT_BYTES_MAX),
            fsync_warning: setup.fsync_warning,
            tick_ms: setup.tick_ms,
            tick: None,
            retry: None,
            breath: None,
            expiry: None,
            reap: None,
            fsync: LatencyReport::default(),
            stopping: false,
        }
    }

    async fn run(mut self) -> Result<(), CoreFailure> {
        if self.member.is_some() {
            self.step(Input::Begin);
        }
        loop {
            self.publisher.retry();
            self.carry_out().await?;
            // What gathered during the last flush goes first; nothing need wait for it.
            self.start_flush();
            self.take_messages();
            self.take_done().await?;
            self.take_peers();
            self.resume();
            self.expire_sessions();
            self.reap();
            self.carry_out().await?;
            self.start_flush();
            let publisher = &mut self.publisher;
            self.core.publish_answers(|batch| publisher.publish(batch));
            self.ask_for_snapshot();
            if self.stopping && self.flush.is_none() {
                return Ok(());
            }
            match poll_fn(|context| self.poll(context)).await {
                Woken::Flushed(flushed) => self.flushed(flushed?),
                Woken::Message | Woken::Peers | Woken::Time => {}
            }
        }
    }

    /// Whether there is room for what more submissions would bring.
    fn prepares(&self) -> bool {
        !self.stopping
            && !self.publisher.is_held()
            && self.log.gathered_bytes() < self.group_commit_bytes
            && self.core.outstanding() < PROPOSALS_WAITING_MAX / 2
            && self.core.forwarded() < FORWARDED_MAX
    }

    /// Whether the inbox is looked at. Also while a reactor is full, for the news that it is not,
    /// or that all is over, may stand behind submissions, which are parked.
    fn takes(&self) -> bool {
        let parks = self.publisher.is_held() && self.parked.len() < SUBMISSIONS_PARKED_MAX;
        self.prepares() || parks && !self.stopping
    }

    fn take_messages(&mut self) {
        let mut moment = None;
        for _ in 0..SUBMISSIONS_PER_TURN_MAX {
            let message = match self.prepares().then(|| self.parked.pop_front()).flatten() {
                Some(submission) => Some(ConsensusMessage::Submission(submission)),
                None if self.takes() => self.inbox.take(),
                None => None,
            };
            match message {
                Some(ConsensusMessage::Submission(submission)) if !self.prepares() => {
                    self.parked.push_back(submission);
                }
                Some(ConsensusMessage::Submission(submission)) => {
                    let moment = *moment.get_or_insert_with(self::moment);
                    if let Some(expiry) = &mut self.expiry {
                        expiry.behind = expiry.behind.saturating_sub(1);
                        expiry.patience = expiry.patience.saturating_sub(1);
                    }
                    let log = &mut self.log;
                    self.core.submit(submission, moment, &mut |zxid, txn: &[u8]| {
                        log.append(zxid, |out| out.extend_from_slice(txn));
                    });
                }
                Some(ConsensusMessage::Ask(ask)) => self.answer(ask),
                Some(ConsensusMessage::SnapshotTaken(zxid)) => {
                    tracing::debug!(%zxid, "the snapshot is taken");
                    self.snapshots.done(true);
                }
                Some(ConsensusMessage::SnapshotFailed(zxid)) => {
                    tracing::warn!(%zxid, "the snapshot was not taken; the log holds everything");
                    self.snapshots.done(false);
                }
                Some(ConsensusMessage::InboxDrained(_)) => self.publisher.retry(),
                Some(ConsensusMessage::Done(done)) => self.done.push(done),
                Some(ConsensusMessage::Stop) => self.stopping = true,
                None => return,
            }
        }
    }

    /// Takes what peers said, and that time has passed.
    fn take_peers(&mut self) {
        let Some(mut member) = self.member.take() else { return };
        while let Some(event) = member.next_event() {
            match event {
                LinkEvent::Linked { link, peer, dialed } => {
                    tracing::debug!(?link, %peer, dialed, "linked");
                    self.step(Input::Linked(link));
                }
                LinkEvent::Packets(link, packets) => {
                    for packet in packets {
                        if !self.receive(link, packet) {
                            member.break_off(link);
                            break;
                        }
                    }
                }
                LinkEvent::Lost(link, loss) => {
                    tracing::info!("a link to a peer is lost: {loss}");
                    self.step(Input::Lost(Some(link)));
                }
                LinkEvent::Unreachable(error) => {
                    tracing::warn!("the leader is not reached: {error}");
                    self.step(Input::Lost(None));
                }
            }
        }
        while let Some(input) = member.next_input() {
            self.step(input);
        }
        self.member = Some(member);
        self.step(Input::Tick);
    }

    /// Takes a packet. False: it cannot be read, and the link is to be closed.
    fn receive(&mut self, link: LinkId, packet: QuorumPacket) -> bool {
        let log = &mut self.log;
        let taken = self.core.receive(link, packet, moment(), &mut |zxid, txn: &[u8]| {
            log.append(zxid, |out| out.extend_from_slice(txn));
        });
        match taken {
            Ok(()) => true,
            // The core has ordered what is to be done about it.
            Err(LinkFault::Violation(violation)) => {
                tracing::warn!("a peer broke the protocol: {violation}");
                true
            }
            Err(fault) => {
                tracing::warn!("a peer broke the protocol: {fault}");
                false
            }
        }
    }

    fn step(&mut self, input: Input) {
        if let Err(violation) = self.core.step(moment(), input) {
            tracing::warn!("a peer broke the protocol: {violation}");
        }
    }

    /// Goes on with what waited for a sync.
    fn resume(&mut self) {
        if self.core.resumes() {
            let log = &mut self.log;
            self.core.resume(moment(), &mut |zxid, txn: &[u8]| {
                log.append(zxid, |out| out.extend_from_slice(txn));
            });
        }
    }

    /// Takes what threads of the member's have done.
    async fn take_done(&mut self) -> Result<(), CoreFailure> {
        for done in std::mem::take(&mut self.done) {
            self.finish(done).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, done: Done) -> Result<(), CoreFailure> {
        match done {
            Done::Step(input) => {
                if matches!(input, Input::SnapshotAborted)
                    && let Some(member) = &mut self.member
                {
                    member.disk_done();
                }
                self.step(input);
            }
            Done::Truncated(zxid, tail) => {
                if zxid < self.core.committed() {
                    return Err(CoreFailure::Restart(zxid));
                }
                self.log.go_on(tail).await?;
                self.member.as_mut().expect("it has a member's disk").disk_done();
                self.step(Input::Truncated(zxid));
            }
            Done::Installed(installed) => {
                let Installed { zxid, tail, tree, registry, sessions } = *installed;
                self.log.go_on(tail).await?;
                self.core.replace(tree, &sessions);
                self.registry = registry;
                self.member.as_mut().expect("it has a member's disk").disk_done();
                self.step(Input::SnapshotInstalled(zxid));
            }
            Done::Failed(reason) => return Err(CoreFailure::Disk(reason)),
        }
        Ok(())
    }

    /// Does what the core has ordered.
    async fn carry_out(&mut self) -> Result<(), CoreFailure> {
        for order in self.core.take_orders() {
            match order {
                Order::Publish(batch) if self.serving => self.publisher.publish(batch),
                // Nobody reads, and nobody waits for an answer.
                Order::Publish(_) => {}
                Order::Append(zxid, txn) => {
                    self.log.append(zxid, |out| out.extend_from_slice(&txn));
                }
                order => self.carry_out_as_member(order),
            }
        }
        Ok(())
    }

    fn carry_out_as_member(&mut self, order: Order) {
        let member = self.member.as_mut().expect("a standalone server has nobody to agree with");
        match order {
            Order::Send { link, packet } => member.links().send(link, &packet),
            Order::Serve(service) => {
                tracing::info!(?service, "serving clients");
                self.serving = true;
                let registry = &self.registry;
                self.publisher.tell(|| {
                    let mut reader = registry.reader();
                    reader.pin_newest();
                    ReactorMessage::Serve(reader)
                });
            }
            Order::Stop(reason) => {
                tracing::info!("serving nobody: {reason}");
                self.serving = false;
                member.stop();
                self.publisher.tell(|| ReactorMessage::Withdraw);
            }
            Order::Zab(Output::SendSnapshot { link, at }) => {
                let mut reader = self.registry.reader();
                let zxid = reader.hold_newest();
                assert!(zxid >= at, "a snapshot of {at} is to be sent, {zxid} is committed");
                member.send_snapshot(link, reader, self.core.committed_sessions());
            }
            Order::Zab(output) => member.carry_out(output, self.core.committed()),
            Order::Publish(_) | Order::Append(..) => unreachable!("carried out by every server"),
        }
    }

    /// Only when everything is taken that waited when the sessions' time was found to have run
    /// out: after a stall that is where their touches are.
    fn expire_sessions(&mut self) {
        let moment = moment();
        let due = self.core.next_expiry_ms().is_some_and(|due_ms| due_ms <= moment.now_ms);
        if !due || !self.prepares() {
            return;
        }
        // In this order: what is released until here is counted.
        let held = self.inbox.is_held();
        let waiting = self.parked.len() + self.inbox.len();
        let patience = SUBMISSIONS_PARKED_MAX;
        let found = Expiry { found_ms: moment.now_ms, held: false, behind: waiting, patience };
        let expiry = self.expiry.get_or_insert(found);
        if held && expiry.patience > 0 {
            expiry.held = true;
            return;
        }
        if std::mem::take(&mut expiry.held) {
            expiry.behind = waiting;
        }
        if expiry.behind > 0 && waiting > 0 {
            return;
        }
        let found_ms = expiry.found_ms;
        self.expiry = None;
        let log = &mut self.log;
        let moment = Moment { now_ms: found_ms, ..moment };
        self.core.expire(moment, &mut |zxid, txn: &[u8]| {
            log.append(zxid, |out| out.extend_from_slice(txn));
        });
    }

    /// Containers and TTL znodes go when nothing has to wait for them.
    fn reap(&mut self) {
        let moment = moment();
        if self.core.next_reap_ms() <= moment.now_ms && self.prepares() {
            let log = &mut self.log;
            self.core.reap(moment, &mut |zxid, txn: &[u8]| {
                log.append(zxid, |out| out.extend_from_slice(txn));
            });
        }
    }

    fn start_flush(&mut self) {
        if self.flush.is_none() && self.log.gathered_txns() > 0 {
            self.core.seal();
            self.flush = Some(self.log.start_flush());
            self.breath = None;
        }
    }

    fn flushed(&mut self, flushed: Flushed) {
        self.flush = None;
        if flushed.took >= self.fsync_warning {
            tracing::warn!(
                took = ?flushed.took,
                bytes = flushed.bytes,
                "flushing the log took long; every write waits for it"
            );
        }
        note(&mut self.fsync, flushed.took.as_secs_f64() * 1000.0, 1);
        self.snapshots.count(u64::from(flushed.txns), flushed.bytes);
        self.step(Input::Durable(flushed.through));
    }

    fn ask_for_snapshot(&mut self) {
        let busy = self.member.as_ref().is_some_and(Member::is_at_the_disk);
        if self.stopping || !self.serving || busy || !self.snapshots.is_due(clock::monotonic_ms()) {
            return;
        }
        let mut reader = self.registry.reader();
        let zxid = reader.hold_newest();
        assert!(zxid == self.core.committed(), "{zxid} is pinned, not what is committed");
        let sessions = self.core.committed_sessions();
        if (self.request_snapshot)(SnapshotRequest { zxid, reader, sessions }) {
            self.snapshots.begun();
        } else {
            self.snapshots.postponed(clock::monotonic_ms());
        }
    }

    fn answer(&mut self, ask: ConsensusAsk) {
        if matches!(ask, ConsensusAsk::ResetServerStats) {
            self.fsync = LatencyReport::default();
        }
        let log = ConsensusReport {
            snapshots: self.snapshots.taken(),
            fsync: self.fsync,
            ..ConsensusReport::default()
        };
        self.core.answer(ask, log, moment());
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Woken> {
        if let Some(flush) = &mut self.flush
            && let Poll::Ready(flushed) = Pin::new(flush).poll(context)
        {
            return Poll::Ready(Woken::Flushed(flushed));
        }
        if let Some(member) = &mut self.member {
            // A loop that always finds something would never let the executor do I/O.
            let ready = member.poll(context).is_ready();
            if ready && poll_sleep(&mut self.breath, context, || BREATH)
                || poll_sleep(&mut self.member_tick, context, || TICK)
            {
                return Poll::Ready(Woken::Peers);
            }
        }
        let parked = self.prepares() && !self.parked.is_empty();
        if parked || self.takes() && self.inbox.poll_ready(context).is_ready() {
            if self.flush.is_none() || poll_sleep(&mut self.breath, context, || BREATH) {
                return Poll::Ready(Woken::Message);
            }
            return Poll::Pending;
        }
        let tick_ms = self.tick_ms;
        let held = self.publisher.is_held();
        // While nothing is prepared, whatever ends that wakes the loop, too.
        let reaps = self.prepares();
        let reap_ms = self.core.next_reap_ms();
        if poll_sleep(&mut self.tick, context, || until_next_tick(tick_ms))
            || held && poll_sleep(&mut self.retry, context, || RETRY)
            || reaps && poll_sleep(&mut self.reap, context, || until(reap_ms))
        {
            return Poll::Ready(Woken::Time);
        }
        Poll::Pending
    }
}

/// Polls the sleep in `slot`, which is made if there is none, and emptied when it is over.
fn poll_sleep(
    slot: &mut Option<Sleep>,
    context: &mut Context<'_>,
    duration: impl FnOnce() -> Duration,
) -> bool {
    let sleep = slot.get_or_insert_with(|| Sleep::new(duration()));
    let over = Pin::new(sleep).poll(context).is_ready();
    if over {
        *slot = None;
    }
    over
}

fn moment() -> Moment {
    Moment { wall_ms: clock::wall_ms(), now_ms: clock::monotonic_ms() }
}

/// Until this millisecond of the monotonic clock.
fn until(ms: u64) -> Duration {
    Duration::from_millis(ms.saturating_sub(clock::monotonic_ms()))
}

/// Sessions expire in whole ticks, counted from the start of the clock.
fn until_next_tick(tick_ms: u64) -> Duration {
    Duration::from_millis(tick_ms - clock::monotonic_ms() % tick_ms)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::sync_channel;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;
    use crate::consensus::handoff::{Answer, Entry, IdentityIndex, Outcome, Published};
    use crate::ids::ServerId;
    use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
    use crate::jute::opcode::OpCode;
    use crate::log::group_commit::Tail;
    use crate::log::segment;
    use crate::log::spares::Spares;
    use crate::rt::disk::run_here;
    use crate::rt::files::{BLOCK, Pace};

    const CONN: ConnId = ConnId { slot: 0, tenant: 0 };
    const TICK_MS: u64 = 50;

    async fn setup(
        tail: Tail,
        spares: Spares,
        inbox: TaskInbox<ConsensusMessage>,
        reactor: RingInbox<ReactorMessage>,
        request_snapshot: RequestSnapshot,
    ) -> Result<Setup, CoreFailure> {
        let (tree, registry) = Writer::new();
        Ok(Setup {
            start: Start::standalone(ServerId::STANDALONE, tail.last_zxid),
            member: None,
            tree,
            registry,
            sessions: Sessions::new(ServerId::STANDALONE, TICK_MS, 5),
            log: GroupCommit::open(tail, spares).await?,
            inbox,
            reactors: vec![reactor],
            settings: Settings::default(),
            tick_ms: TICK_MS,
            group_commit_bytes: GROUP_COMMIT_BYTES_MAX,
            fsync_warning: Duration::from_secs(1),
            snapshots: SnapshotPolicy { txns: 10, log_bytes: None },
            logged: (0, 0),
            request_snapshot,
        })
    }

    /// A consensus core on a thread of its own, with one reactor that the test plays.
    struct Running {
        inbox: TaskInbox<ConsensusMessage>,
        reactor: RingInbox<ReactorMessage>,
        core: std::thread::JoinHandle<Result<(), CoreFailure>>,
        snapshots: Arc<Mutex<Vec<(Zxid, usize)>>>,
    }

    fn start(folder: &Path, reactor_room: usize, log: Option<&Path>) -> Running {
        let inbox = TaskInbox::new(64);
        let reactor = RingInbox::new(reactor_room).unwrap();
        let snapshots = Arc::new(Mutex::new(Vec::new()));
        let mut segment = segment::prepare(folder, 1, 256 * BLOCK as u64, Pace::Full).unwrap();
        if let Some(log) = log {
            segment.path = log.to_owned();
        }
        let spares = Spares::new(folder, 256 * BLOCK as u64, None);
        let (its_inbox, its_reactor) = (inbox.clone(), reactor.clone());
        let its_snapshots = Arc::clone(&snapshots);
        let core = std::thread::spawn(move || {
            run_here(async move {
                let last_zxid = Zxid::ZERO;
                let tail = Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid };
                let request_snapshot = Box::new(move |request: SnapshotRequest| {
                    let root = request.reader.at(request.zxid).get("/").unwrap();
                    assert!(root.num_children() > 1, "nothing of what was committed");
                    let of = (request.zxid, request.sessions.len());
                    its_snapshots.lock().unwrap().push(of);
                    true
                });
                run(setup(tail, spares, its_inbox, its_reactor, request_snapshot).await?).await
            })
        });
        Running { inbox, reactor, core, snapshots }
    }

    impl Running {
        fn submit(&self, entries: Vec<Entry>, bytes: Vec<u8>) {
            let submission = Submission { reactor: ReactorId(0), entries, bytes };
            let mut message = ConsensusMessage::Submission(submission);
            while let Err(back) = self.inbox.send(message) {
                message = back;
                std::thread::yield_now();
            }
        }

        fn next(&self) -> Arc<Published> {
            let began = Instant::now();
            loop {
                match self.reactor.take() {
                    Some(ReactorMessage::Published(batch)) => return batch,
                    Some(other) => panic!("not a batch: {other:?}"),
                    None => std::thread::sleep(Duration::from_micros(50)),
                }
                assert!(began.elapsed() < Duration::from_secs(20), "nothing is published");
            }
        }

        /// The answers of as many batches as it takes to have `count`.
        fn answers(&self, count: usize) -> Vec<Answer> {
            let mut answers = Vec::new();
            while answers.len() < count {
                answers.extend(self.next().answers[0].list.iter().cloned());
            }
            answers
        }

        fn open_session(&self, timeout_ms: i32) -> SessionId {
            let index = IdentityIndex(0);
            let identity = Entry::DefineIdentity { index, ids: Vec::new() };
            self.submit(vec![identity, Entry::OpenSession { conn: CONN, timeout_ms }], Vec::new());
            match self.answers(1)[..] {
                [Answer { outcome: Outcome::SessionOpened { session, .. }, .. }] => session,
                ref other => panic!("no session: {other:?}"),
            }
        }

        fn stop(self) -> Result<(), CoreFailure> {
            while self.inbox.send(ConsensusMessage::Stop).is_err() {
                std::thread::yield_now();
            }
            self.core.join().unwrap()
        }
    }

    fn write(session: SessionId, xid: i32, op: OpCode, body: &[u8]) -> Entry {
        let (identity, body) = (IdentityIndex(0), 0..body.len() as u32);
        Entry::Write { conn: CONN, session, xid, op, identity, body }
    }

    fn create(path: &str, flags: i32) -> Vec<u8> {
        use crate::jute::records::{Acl, Id};
        use crate::jute::reply::{acl, buffer, int, string};
        let mut body = Vec::new();
        string(&mut body, path);
        buffer(&mut body, Some(b"data"));
        let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
        acl(&mut body, &[Acl { perms: 31, id }]);
        int(&mut body, flags);
        body
    }

    #[test]
    fn writes_are_answered_in_order_and_the_loop_ends_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), 1024, None);
        let session = running.open_session(30_000);
        let body = create("/n", 2);
        for first in (0..300).step_by(3) {
            let writes = (first..first + 3).map(|xid| write(session, xid, OpCode::CREATE, &body));
            let sync = Entry::Sync { conn: CONN, session, xid: 1000 + first };
            running.submit(writes.chain([sync]).collect(), body.clone());
        }
        let xids: Vec<i32> = running.answers(400).iter().map(|answer| answer.xid).collect();
        let expected: Vec<i32> =
            (0..300).step_by(3).flat_map(|xid| [xid, xid + 1, xid + 2, 1000 + xid]).collect();
        assert_eq!(xids, expected);
        running.stop().unwrap();
    }

    #[test]
    fn a_session_that_is_silent_expires_and_its_ephemerals_go() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), 1024, None);
        let session = running.open_session(100);
        let body = create("/n", 1);
        running.submit(vec![write(session, 1, OpCode::CREATE, &body)], body);
        running.answers(1);
        let batch = running.next();
        use crate::consensus::handoff::Effect;
        let [Effect::Deleted { path, .. }, Effect::SessionClosed { session: closed }] =
            &batch.effects[..]
        else {
            panic!("no expiry: {:?}", batch.effects);
        };
        assert_eq!(&batch.paths[path.start as usize..path.end as usize], "/n");
        assert_eq!(*closed, session);
        running.stop().unwrap();
    }

    /// A loop that the test turns by hand, with room for 64 messages and a session that times out
    /// after 100 ms, and both have not been looked after since.
    async fn stalled(folder: &Path) -> (Turns, SessionId) {
        let segment = segment::prepare(folder, 1, 16 * BLOCK as u64, Pace::Full).unwrap();
        let last_zxid = Zxid::ZERO;
        let tail = Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid };
        let spares = Spares::new(folder, 16 * BLOCK as u64, None);
        let (inbox, reactor) = (TaskInbox::new(64), RingInbox::new(64).unwrap());
        let setup = setup(tail, spares, inbox, reactor, Box::new(|_| true)).await.unwrap();
        let mut turns = Turns::new(setup);
        let open = Entry::OpenSession { conn: CONN, timeout_ms: 100 };
        send(&turns, open);
        turns.take_messages();
        let mut ids = Sessions::new(ServerId::STANDALONE, TICK_MS, 5);
        let session = ids.new_id().unwrap();
        std::thread::sleep(Duration::from_millis(100 + 3 * TICK_MS));
        (turns, session)
    }

    fn send(turns: &Turns, entry: Entry) {
        let (entries, bytes) = (vec![entry], Vec::new());
        let submission = Submission { reactor: ReactorId(0), entries, bytes };
        turns.inbox.send(ConsensusMessage::Submission(submission)).unwrap();
    }

    fn touch(session: SessionId) -> Entry {
        Entry::Touch { session, ago_ms: 0 }
    }

    #[test]
    fn a_session_whose_touch_waits_behind_a_stall_does_not_expire() {
        for parked in [0, 20] {
            let dir = tempfile::tempdir().unwrap();
            run_here(async move {
                let (mut turns, session) = stalled(dir.path()).await;
                for _ in 0..40 {
                    send(&turns, touch(SessionId::from_bits(1)));
                }
                send(&turns, touch(session));
                for _ in 0..parked {
                    let Some(ConsensusMessage::Submission(it)) = turns.inbox.take() else {
                        panic!("nothing to park");
                    };
                    turns.parked.push_back(it);
                }
                // An answer to somebody else is no step towards the touch.
                let (to, _answer) = sync_channel(1);
                let ask = ConsensusAsk::Report { ephemerals: false, to };
                turns.inbox.send(ConsensusMessage::Ask(ask)).unwrap();
                for _ in 0..5 {
                    turns.take_messages();
                    turns.expire_sessions();
                }
                assert_eq!(turns.log.gathered_txns(), 1, "it was heard of, with {parked} parked");
                std::thread::sleep(Duration::from_millis(100 + 3 * TICK_MS));
                turns.expire_sessions();
                assert_eq!(turns.log.gathered_txns(), 2, "it is silent now");
            });
        }
    }

    #[test]
    fn a_session_whose_touch_found_no_room_does_not_expire() {
        let dir = tempfile::tempdir().unwrap();
        run_here(async move {
            let (mut turns, session) = stalled(dir.path()).await;
            // Not full, but a reactor found it so a moment ago.
            turns.inbox.hold();
            send(&turns, touch(SessionId::from_bits(1)));
            for _ in 0..3 {
                turns.take_messages();
                turns.expire_sessions();
            }
            (0..20).for_each(|_| send(&turns, touch(SessionId::from_bits(1))));
            send(&turns, touch(session));
            turns.inbox.release();
            for _ in 0..5 {
                turns.expire_sessions();
                turns.take_messages();
            }
            assert_eq!(turns.log.gathered_txns(), 1, "it was heard of");
            std::thread::sleep(Duration::from_millis(100 + 3 * TICK_MS));
            turns.inbox.hold();
            for _ in 0..SUBMISSIONS_PARKED_MAX {
                turns.expire_sessions();
                send(&turns, touch(SessionId::from_bits(1)));
                turns.take_messages();
            }
            assert_eq!(turns.log.gathered_txns(), 1);
            turns.expire_sessions();
            assert_eq!(turns.log.gathered_txns(), 2, "a reactor that never has room");
        });
    }

    #[test]
    fn a_silent_session_expires_though_messages_never_end() {
        let dir = tempfile::tempdir().unwrap();
        run_here(async move {
            let (mut turns, _) = stalled(dir.path()).await;
            for _ in 0..64 {
                send(&turns, touch(SessionId::from_bits(1)));
            }
            for _ in 0..5 {
                turns.take_messages();
                turns.expire_sessions();
                while turns.inbox.len() < 64 {
                    send(&turns, touch(SessionId::from_bits(1)));
                }
            }
            assert_eq!(turns.log.gathered_txns(), 2);
        });
    }

    #[test]
    fn a_full_reactor_stops_preparing_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), 1, None);
        let session = running.open_session(30_000);
        let body = create("/n", 2);
        let submit = |xid| {
            running.submit(vec![write(session, xid, OpCode::CREATE, &body)], body.clone());
        };
        // A question is answered all the same.
        let report = || {
            let (to, answer) = sync_channel(1);
            let ask = ConsensusAsk::Report { ephemerals: false, to };
            running.inbox.send(ConsensusMessage::Ask(ask)).unwrap();
            answer.recv_timeout(Duration::from_secs(20)).unwrap()
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let wait_until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < deadline, "it never came to that");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        // The first fills the inbox, so the second is held back.
        submit(0);
        wait_until(&|| running.reactor.len() == 1);
        submit(1);
        wait_until(&|| report().commits == 3);
        (2..40).for_each(submit);
        assert_eq!(report().proposals, 3, "prepared for a full reactor");
        let xids: Vec<i32> = running.answers(40).iter().map(|answer| answer.xid).collect();
        assert_eq!(xids, (0..40).collect::<Vec<_>>());
        running.stop().unwrap();
    }

    #[test]
    fn a_reactor_that_ended_while_it_was_full_does_not_keep_the_loop_from_ending() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), 1, None);
        let session = running.open_session(30_000);
        let body = create("/n", 2);
        for xid in 0..40 {
            running.submit(vec![write(session, xid, OpCode::CREATE, &body)], body.clone());
        }
        running.stop().unwrap();
    }

    #[test]
    fn snapshots_are_asked_for_one_at_a_time_at_a_committed_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), 1024, None);
        let session = running.open_session(30_000);
        let body = create("/n", 2);
        for xid in 0..60 {
            running.submit(vec![write(session, xid, OpCode::CREATE, &body)], body.clone());
        }
        running.answers(60);
        let (zxid, sessions) = {
            let taken = running.snapshots.lock().unwrap();
            assert_eq!(taken.len(), 1, "the first is not done: {taken:?}");
            taken[0]
        };
        assert!((6..=61).contains(&zxid.bits()), "{zxid}");
        assert_eq!(sessions, 1);
        running.inbox.send(ConsensusMessage::SnapshotTaken(zxid)).unwrap();
        running.submit(vec![write(session, 60, OpCode::CREATE, &body)], body.clone());
        running.answers(1);
        let snapshots = Arc::clone(&running.snapshots);
        running.stop().unwrap();
        assert_eq!(snapshots.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_failed_flush_ends_the_loop_and_answers_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), 1024, Some(Path::new("/dev/full")));
        running.submit(vec![Entry::OpenSession { conn: CONN, timeout_ms: 30_000 }], Vec::new());
        let error = running.core.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert!(running.reactor.is_empty(), "an answer to what is not durable");
    }
}
