//! Inputs, outputs and roles: the one way in. Stepped by `consensus::core`, which carries the
//! outputs out in the order in which they came.
//!
//! Invariants: a role owns its state and is consumed when it changes, so that nothing late reaches
//! the next one. Between two roles the disk finishes what it was told: a server votes with what it
//! has durably (ZOOKEEPER-2845, 4712).
//!
//! An input is taken with the time of a monotonic clock, in milliseconds. `Input::Tick` has to come
//! several times in a tick of the configuration.

use std::mem;

use bytes::Bytes;
use thiserror::Error;

use crate::ids::{Epoch, ServerId, Zxid};
use crate::jute::election::{Notification, PeerState};

use super::election::{Election, Settled, Vote, Wish};
use super::history::History;
pub use super::history::LoggedTxn;
use super::leader::Leader;
use super::learner::Learner;
use super::packet::Packet;
use super::quorum::Voters;

/// A connection on the quorum port, for as long as it is up. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Who takes part, and how patient this server is.
#[derive(Clone, Debug)]
pub struct Cast {
    pub me: ServerId,
    pub voters: Voters,
    /// Milliseconds of a tick.
    pub tick_ms: u64,
    /// Ticks that a handshake may take.
    pub init_ticks: u64,
    /// Ticks that the other side of a link may be silent, once it has the history.
    pub sync_ticks: u64,
    /// The configuration as text (zookeeper-formats 4.10), and its version.
    pub config: Bytes,
    pub config_version: i64,
}

/// What was found on disk.
#[derive(Clone, Debug)]
pub struct Start {
    pub cast: Cast,
    /// The last epoch that this server promised to follow.
    pub accepted: Epoch,
    /// The last epoch whose leader's history this server has.
    pub current: Epoch,
    /// The last transaction in the log, be it committed or not.
    pub last_logged: Zxid,
    /// The newest transactions of the log, the last among them, oldest first; `keep` of them or
    /// fewer.
    pub newest: Vec<LoggedTxn>,
    /// Committed transactions to keep in memory for learners.
    pub keep: usize,
    pub reign: Reign,
}

impl Start {
    /// A standalone server's, whose log ends with `last_logged`.
    pub fn standalone(me: ServerId, last_logged: Zxid) -> Start {
        let cast = Cast {
            me,
            voters: Voters::alone(me),
            tick_ms: 1,
            init_ticks: 1,
            sync_ticks: 1,
            config: Bytes::new(),
            config_version: 0,
        };
        let reign = Reign::Continued;
        let (accepted, current) = (Epoch::default(), Epoch::default());
        Start { cast, accepted, current, last_logged, newest: Vec::new(), keep: 0, reign }
    }
}

/// What a leader does about the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reign {
    /// A member of an ensemble: each leader has an epoch of its own.
    New,
    /// A standalone server: as in ZooKeeper, zxids go on where the log ended, whatever the number
    /// of restarts.
    Continued,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Recovery is done: look for a leader.
    Begin,
    /// Time has passed.
    Tick,
    /// A message came in on the election port.
    Notification {
        from: ServerId,
        said: Notification,
    },
    /// A learner connected; or the link that `Output::Connect` asked for is up.
    Linked(LinkId),
    /// A link is gone, or could not be opened.
    Lost(Option<LinkId>),
    /// A packet that is ZAB's came in.
    Packet {
        link: LinkId,
        packet: Packet,
    },
    /// A packet that is not ZAB's came in.
    Heard(LinkId),
    /// What `Output::WriteAccepted` ordered is done; the others alike.
    AcceptedWritten(Epoch),
    CurrentWritten(Epoch),
    Truncated(Zxid),
    /// `Output::ReceiveSnapshot`: the snapshot is durable, and the log goes on behind it.
    SnapshotInstalled(Zxid),
    /// `Output::ReceiveSnapshot`: the link broke, and everything is as it was.
    SnapshotAborted,
    /// `Output::SendSnapshot`: it is on its way, all of it.
    SnapshotSent(LinkId),
    /// `Output::ReadLog`: see `Leader::log_read`.
    LogRead {
        link: LinkId,
        txns: Option<Vec<LoggedTxn>>,
    },
    /// The transaction with the zxid that `Zab::next_zxid` gave was appended to our log.
    Proposed(Zxid, Bytes),
    /// Our log is durable through this zxid.
    Durable(Zxid),
    /// A sync came in, at a leader that serves.
    Sync(u64),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this on the election port; only the last message to a server matters.
    Notify {
        to: ServerId,
        message: Notification,
    },
    /// Open a link to this leader; try for as long as `Lost` is not said.
    Connect(ServerId),
    /// Take links of learners from now on.
    Listen,
    Send {
        link: LinkId,
        packet: Packet,
    },
    /// Answer the leader's PING with the sessions that are alive.
    AnswerPing {
        link: LinkId,
        zxid: Zxid,
    },
    /// Close a link, when all that was sent is on its way. Nothing more is said of it.
    Close(LinkId),
    /// Make this the accepted epoch durably, then say so.
    WriteAccepted(Epoch),
    /// Make this the current epoch durably, then say so.
    WriteCurrent(Epoch),
    /// Cut everything behind this zxid off the log, durably, and take it back; then say so.
    Truncate(Zxid),
    /// Read a snapshot from this link, behind the packets so far, and let it take the place of all
    /// that is here, durably; then say so.
    ReceiveSnapshot {
        link: LinkId,
        zxid: Zxid,
    },
    /// Send a snapshot of this version on the link, behind what was sent and in front of what will
    /// be.
    SendSnapshot {
        link: LinkId,
        at: Zxid,
    },
    /// Read the log from the last transaction at or before `from` on, then say `LogRead`.
    ReadLog {
        link: LinkId,
        from: Zxid,
    },
    /// Append to the log, and apply as the newest version; say when it is durable.
    Append(Zxid, Bytes),
    /// Everything through this zxid is committed: publish it.
    CommitThrough(Zxid),
    /// Take clients.
    Serve(Service),
    /// Take no clients any more, and close the listening quorum port.
    Stop(&'static str),
    /// The sync is complete.
    Synced(u64),
}

/// In which role clients are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Leading { epoch: Epoch },
    Following { leader: ServerId, epoch: Epoch },
    Observing { leader: ServerId, epoch: Epoch },
}

/// How many learners a leader has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learners {
    pub connected: usize,
    /// Voters that have the leader's history.
    pub synced_followers: usize,
    /// Others that have it.
    pub synced_observers: usize,
}

/// A broken rule of the protocol. The link that brought it has been closed, by the outputs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The packet does not belong where it came.
    #[error("{packet} from {place}")]
    Unexpected { packet: String, place: &'static str },
    /// A leader of an epoch that this server promised not to follow.
    #[error("epoch {said}, {accepted} was promised")]
    OldEpoch { said: Epoch, accepted: Epoch },
    /// Another epoch than the one that was promised.
    #[error("epoch {said}, {expected} was promised")]
    WrongEpoch { said: Epoch, expected: Epoch },
    /// A learner whose history is better than the leader's.
    #[error("the learner's history is the better one: epoch {current}, {last_logged}")]
    BetterHistory { current: Epoch, last_logged: Zxid },
    /// A learner that knows a newer configuration.
    #[error("server {server} has configuration {said:#x}, newer than ours")]
    NewerConfiguration { server: ServerId, said: i64 },
    /// A proposal that does not follow the one before.
    #[error("proposal {said} after {last}")]
    WrongProposal { said: Zxid, last: Zxid },
    /// A commit that is not of the oldest proposal.
    #[error("commit of {said}, {expected} is next")]
    WrongCommit { said: Zxid, expected: Zxid },
    /// An acknowledgement of what was never proposed.
    #[error("server {from} acknowledged {said}, newest proposal {newest}")]
    AckAhead { from: ServerId, said: Zxid, newest: Zxid },
    /// A leader that lacks what was committed.
    #[error("the leader's history ends at {said}, {known} is committed")]
    LostCommits { known: Zxid, said: Zxid },
    /// More packets than may wait for the disk.
    #[error("too many packets while the disk works")]
    TooManyPackets,
    /// More syncs than may wait for a quorum.
    #[error("too many syncs wait")]
    TooManySyncs,
    /// A sync at a server that does not lead.
    #[error("a sync while {0}")]
    NotLeading(&'static str),
}

impl Violation {
    pub(super) fn unexpected(packet: &Packet, place: &'static str) -> Violation {
        Violation::Unexpected { packet: packet.name().to_owned(), place }
    }
}

/// What the disk has, and was told.
#[derive(Debug)]
pub(super) struct Disk {
    pub accepted: Epoch,
    pub current: Epoch,
    /// The log is durable through this.
    pub durable: Zxid,
    /// Orders that are not carried out; appends are not counted.
    orders: usize,
}

impl Disk {
    /// Orders something that the disk says when it is done.
    pub fn order(&mut self, output: Output, out: &mut Vec<Output>) {
        self.orders += 1;
        out.push(output);
    }

    fn done(&mut self) {
        self.orders = self.orders.checked_sub(1).expect("the disk did what it was told");
    }
}

/// What every role of this server has.
#[derive(Debug)]
pub(super) struct Own {
    pub cast: Cast,
    pub disk: Disk,
    pub history: History,
    pub now_ms: u64,
}

impl Own {
    pub fn is_observer(&self) -> bool {
        !self.cast.voters.has(self.cast.me)
    }

    pub fn is_all_durable(&self) -> bool {
        self.disk.durable >= self.history.last()
    }

    pub fn append(&mut self, (zxid, txn): LoggedTxn, out: &mut Vec<Output>) {
        self.history.push(zxid, txn.clone());
        out.push(Output::Append(zxid, txn));
    }
}

#[derive(Debug)]
enum Role {
    /// Before `Input::Begin`.
    Waiting(Reign),
    /// The disk finishes what the last role told it.
    Settling,
    Looking(Election),
    Leading(Settled, Leader),
    Learning(Settled, Learner),
    /// Only while one role becomes the next.
    Changing,
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Role::Waiting(_) => "starting",
            Role::Settling => "settling",
            Role::Looking(_) => "looking",
            Role::Leading(..) => "leading",
            Role::Learning(..) => "learning",
            Role::Changing => "changing",
        }
    }
}

/// One server's part in the agreement.
#[derive(Debug)]
pub struct Zab {
    own: Own,
    role: Role,
    /// The last round of an election that this server took part in.
    round: i64,
}

impl Zab {
    /// A server that has recovered its log and waits for `Input::Begin`.
    ///
    /// # Panics
    /// When the log and its newest transactions contradict each other.
    pub fn new(start: Start) -> Zab {
        let Start { cast, accepted, current, last_logged, newest, keep, reign } = start;
        let before =
            newest.first().map_or(last_logged, |(zxid, _)| Zxid::from_bits(zxid.bits() - 1));
        let mut history = History::after(before, keep);
        for (zxid, txn) in newest {
            history.push(zxid, txn);
        }
        assert_eq!(history.last(), last_logged, "the newest transactions are not the log's end");
        let disk = Disk { accepted, current, durable: last_logged, orders: 0 };
        Zab { own: Own { cast, disk, history, now_ms: 0 }, role: Role::Waiting(reign), round: 0 }
    }

    /// The zxid of the next transaction, if this server may propose one.
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.role {
            Role::Leading(_, leader) => leader.next_zxid(),
            _ => None,
        }
    }

    /// Proposals that wait for their quorum.
    pub fn outstanding(&self) -> usize {
        match &self.role {
            Role::Leading(..) => self.own.history.outstanding(),
            _ => 0,
        }
    }

    /// Whether packets of the leader wait for the disk: better leave them in the socket.
    pub fn is_blocked(&self) -> bool {
        matches!(&self.role, Role::Learning(_, learner) if learner.is_blocked())
    }

    /// Whether this server has no vote.
    pub fn is_observer(&self) -> bool {
        self.own.is_observer()
    }

    /// The learners of this server, if it leads.
    pub fn learners(&self) -> Learners {
        match &self.role {
            Role::Leading(_, leader) => leader.learners(),
            _ => Learners::default(),
        }
    }

    /// The link to the leader, while this server learns from one.
    pub fn leader_link(&self) -> Option<LinkId> {
        match &self.role {
            Role::Learning(_, learner) => learner.link(),
            _ => None,
        }
    }

    /// The last transaction that is known to be committed.
    pub fn committed(&self) -> Zxid {
        self.own.history.committed()
    }

    /// The end of the log.
    pub fn last_logged(&self) -> Zxid {
        self.own.history.last()
    }

    /// Takes one input at `now_ms` and appends what is to be done about it.
    ///
    /// # Errors
    /// When the input breaks the protocol: for the operator to know. The outputs have what is done
    /// about it.
    pub fn step(
        &mut self,
        now_ms: u64,
        input: Input,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        self.own.now_ms = self.own.now_ms.max(now_ms);
        match input {
            Input::Begin => self.begin(out),
            Input::Tick => self.tick(out),
            Input::Notification { from, said } => self.notified(from, &said, out),
            Input::Linked(link) => self.linked(link, out),
            Input::Lost(link) => self.lost(link, out),
            Input::Heard(link) => match &mut self.role {
                Role::Leading(_, leader) => leader.heard(link, &self.own),
                Role::Learning(_, learner) => learner.heard(&self.own),
                _ => {}
            },
            Input::Packet { link, packet } => return self.packet(link, packet, out),
            Input::LogRead { link, txns } => {
                if let Role::Leading(_, leader) = &mut self.role {
                    leader.log_read(link, txns, &self.own, out);
                }
            }
            Input::SnapshotSent(link) => {
                if let Role::Leading(_, leader) = &mut self.role {
                    leader.snapshot_sent(link, &self.own);
                }
            }
            Input::Proposed(zxid, txn) => {
                let Role::Leading(_, leader) = &mut self.role else {
                    unreachable!("next_zxid() was asked")
                };
                leader.propose(zxid, txn, &mut self.own, out);
            }
            Input::Sync(token) => {
                let Role::Leading(_, leader) = &mut self.role else {
                    return Err(Violation::NotLeading(self.role.name()));
                };
                return leader.sync(token, &self.own, out);
            }
            Input::AcceptedWritten(_)
            | Input::CurrentWritten(_)
            | Input::Truncated(_)
            | Input::SnapshotInstalled(_)
            | Input::SnapshotAborted
            | Input::Durable(_) => return self.disk(input, out),
        }
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<Output>) {
        let Role::Waiting(reign) = self.role else { unreachable!("begun once") };
        match reign {
            Reign::Continued => {
                let leader = Leader::standalone(&mut self.own, out);
                let own = self.own_vote();
                self.role = Role::Leading(Settled { vote: own, round: 0 }, leader);
            }
            Reign::New => self.look(out),
        }
    }

    fn own_vote(&self) -> Vote {
        match self.own.is_observer() {
            true => Vote::nobody(),
            false => Vote::own(self.own.cast.me, self.own.history.last(), self.own.disk.current),
        }
    }

    fn look(&mut self, out: &mut Vec<Output>) {
        let Own { cast, now_ms, .. } = &self.own;
        let vote = self.own_vote();
        let election = Election::begin(cast.me, cast.voters.clone(), vote, self.round, *now_ms);
        self.role = Role::Looking(election);
        self.wish(vec![Wish::TellAll], out);
    }

    /// What this server says on the election port now.
    fn notification(&self) -> Option<Notification> {
        let (state, settled, service) = match &self.role {
            Role::Looking(election) => (PeerState::Looking, election.proposal(), None),
            Role::Leading(settled, leader) => (PeerState::Leading, *settled, leader.serving()),
            Role::Learning(settled, learner) => {
                let state = match self.own.is_observer() {
                    true => PeerState::Observing,
                    false => PeerState::Following,
                };
                (state, *settled, learner.serving().then_some(self.own.disk.current))
            }
            Role::Waiting(_) | Role::Settling | Role::Changing => return None,
        };
        let Settled { vote: Vote { leader, zxid, epoch }, round } = settled;
        // An established leader's epoch takes the place of the one that elected it.
        let epoch = service.map_or(epoch, |epoch| i64::from(epoch.number()));
        let config = Some(String::from_utf8_lossy(&self.own.cast.config).into_owned());
        Some(Notification { state, leader, zxid, round, epoch, version: 2, config })
    }

    fn wish(&mut self, wishes: Vec<Wish>, out: &mut Vec<Output>) {
        for wish in wishes {
            match wish {
                Wish::TellAll => {
                    for voter in self.own.cast.voters.iter().filter(|it| *it != self.own.cast.me) {
                        let message = self.notification().expect("it is looking");
                        out.push(Output::Notify { to: voter, message });
                    }
                }
                Wish::Tell(to) => {
                    let message = self.notification().expect("it is looking");
                    out.push(Output::Notify { to, message });
                }
                Wish::Elected(settled) => self.elected(settled, out),
            }
        }
    }

    fn elected(&mut self, settled: Settled, out: &mut Vec<Output>) {
        self.round = settled.round;
        if settled.vote.leader == self.own.cast.me {
            let mut leader = Leader::begin(&self.own, out);
            leader.discover(&mut self.own, out);
            self.role = Role::Leading(settled, leader);
        } else {
            let learner = Learner::begin(settled.vote.leader, &self.own, out);
            self.role = Role::Learning(settled, learner);
        }
    }

    fn notified(&mut self, from: ServerId, said: &Notification, out: &mut Vec<Output>) {
        let voter = self.own.cast.voters.has(from);
        if let Role::Looking(election) = &mut self.role
            && voter
        {
            let wishes = election.hear(from, said, self.own.now_ms);
            return self.wish(wishes, out);
        }
        // Who looks is told; an observer whatever it does.
        if (said.state == PeerState::Looking || !voter)
            && let Some(message) = self.notification()
        {
            out.push(Output::Notify { to: from, message });
        }
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Looking(election) => {
                let wishes = election.tick(self.own.now_ms);
                self.wish(wishes, out);
            }
            Role::Leading(_, leader) => {
                if !leader.tick(&self.own, out) {
                    self.leave("it has no quorum", out);
                }
            }
            Role::Learning(_, learner) => {
                if learner.has_lost(&self.own) {
                    self.leave("the leader is silent", out);
                }
            }
            Role::Waiting(_) | Role::Settling | Role::Changing => {}
        }
    }

    fn linked(&mut self, link: LinkId, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leading(_, leader) => leader.linked(link, &self.own),
            Role::Learning(_, learner) if learner.link().is_none() => {
                learner.linked(link, &self.own, out);
            }
            // Asked for in another role.
            _ => out.push(Output::Close(link)),
        }
    }

    fn lost(&mut self, link: Option<LinkId>, out: &mut Vec<Output>) {
        match (&mut self.role, link) {
            (Role::Leading(_, leader), Some(link)) => leader.lost(link),
            (Role::Learning(_, learner), link) if learner.link() == link => {
                self.leave("the link to the leader is gone", out);
            }
            _ => {}
        }
    }

    fn packet(
        &mut self,
        link: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        let taken = match &mut self.role {
            Role::Leading(_, leader) => leader.packet(link, packet, &mut self.own, out),
            Role::Learning(_, learner) if learner.link() == Some(link) => {
                learner.packet(packet, &mut self.own, out)
            }
            _ => Ok(()),
        };
        if taken.is_err() {
            self.break_off(link, out);
        }
        taken
    }

    /// The other side of a link broke the protocol.
    fn break_off(&mut self, link: LinkId, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leading(_, leader) => {
                leader.lost(link);
                out.push(Output::Close(link));
            }
            _ => self.leave("the leader broke the protocol", out),
        }
    }

    /// The disk has done something: first what is durable is noted, whatever the role.
    fn disk(&mut self, done: Input, out: &mut Vec<Output>) -> Result<(), Violation> {
        let own = &mut self.own;
        match done {
            Input::AcceptedWritten(epoch) => own.disk.accepted = epoch,
            Input::CurrentWritten(epoch) => own.disk.current = epoch,
            Input::Truncated(zxid) => {
                own.history.truncate(zxid);
                own.disk.durable = own.history.last();
            }
            Input::SnapshotInstalled(zxid) => {
                own.history.replace(zxid);
                own.disk.durable = zxid;
            }
            Input::Durable(zxid) => own.disk.durable = own.disk.durable.max(zxid),
            _ => {}
        }
        if !matches!(done, Input::Durable(_)) {
            own.disk.done();
        }
        match (&mut self.role, done) {
            (Role::Leading(_, leader), Input::AcceptedWritten(_)) => leader.accepted(own, out),
            (Role::Leading(_, leader), Input::CurrentWritten(_)) => leader.adopted(own, out),
            (Role::Leading(_, leader), Input::Durable(_)) => leader.durable(own, out),
            (Role::Learning(_, learner), done) => {
                let taken = match done {
                    Input::AcceptedWritten(_) => learner.accepted(own, out),
                    Input::CurrentWritten(_) => learner.adopted(own, out),
                    Input::Durable(_) => learner.durable(own, out),
                    _ => learner.adjusted(own, out),
                };
                if taken.is_err() {
                    self.leave("the leader broke the protocol", out);
                }
                return taken;
            }
            (Role::Settling, _) => self.settle(out),
            _ => {}
        }
        Ok(())
    }

    /// This server's role is over: it looks for a leader when the disk has done all it was told.
    fn leave(&mut self, reason: &'static str, out: &mut Vec<Output>) {
        let links = match mem::replace(&mut self.role, Role::Changing) {
            Role::Leading(_, leader) => leader.links().collect(),
            Role::Learning(_, learner) => learner.link().into_iter().collect(),
            _ => Vec::new(),
        };
        out.extend(links.into_iter().map(Output::Close));
        out.push(Output::Stop(reason));
        self.role = Role::Settling;
        self.settle(out);
    }

    fn settle(&mut self, out: &mut Vec<Output>) {
        if self.own.disk.orders == 0 && self.own.is_all_durable() {
            self.look(out);
        }
    }
}

#[cfg(test)]
impl Zab {
    /// As if this leader had proposed everything in front of `next`.
    pub(super) fn use_up_to(&mut self, next: Zxid) {
        let Role::Leading(_, leader) = &mut self.role else { panic!("it does not lead") };
        leader.use_up_to(next);
    }
}
