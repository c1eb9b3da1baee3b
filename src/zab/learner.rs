//! A learner: a follower or an observer of one leader, from the first packet to the last. Owned by
//! `step` while this server follows.
//!
//! Invariants: an epoch is promised when it is durable as the accepted one; the history is
//! acknowledged when it is durable, and the epoch as the current one after it (ZOOKEEPER-4643,
//! 4785); no proposal is acknowledged before that (ZOOKEEPER-4685), nor before it is durable.
//! Clients are served when a quorum has the history.
//!
//! Source: zookeeper-formats 4.2, 4.3 and 4.6, in the order of 3.9.3 and later.

use std::collections::VecDeque;

use crate::ids::{Epoch, ServerId, Zxid};
use crate::limits::LEARNER_PACKETS_WAITING_MAX;

use super::history::LoggedTxn;
use super::packet::Packet;
use super::step::{LinkId, Output, Own, Service, Violation};

/// How far the handshake is.
#[derive(Debug)]
enum Stage {
    /// The link is not up.
    Connecting,
    /// We have introduced ourselves.
    Introduced,
    /// The disk writes the epoch down that we promise.
    Promising(Epoch),
    /// We have promised the epoch, and wait for DIFF, TRUNC or SNAP.
    Promised(Epoch),
    /// The disk cuts the log, or takes a snapshot in.
    Adjusting(Epoch),
    /// The leader sends its history.
    Learning(Epoch, Pending),
    /// The history is complete; the disk takes the rest of it in.
    Installing(Epoch, Pending),
    /// The disk writes the epoch down as the current one.
    Adopting(Epoch, Pending),
    /// We have acknowledged the history.
    Acknowledged(Epoch, Pending),
    /// We serve.
    Broadcast(Broadcast),
    /// Only while a stage becomes the next.
    Changing,
}

/// Proposals that are not logged yet.
#[derive(Debug, Default)]
struct Pending {
    txns: VecDeque<LoggedTxn>,
    /// How many of them, from the oldest on, are committed.
    committed: usize,
}

#[derive(Debug, Default)]
struct Broadcast {
    /// Logged, perhaps not durably, and not acknowledged.
    unacknowledged: VecDeque<Zxid>,
    uncommitted: VecDeque<Zxid>,
}

/// One server's following of one leader.
#[derive(Debug)]
pub struct Learner {
    leader: ServerId,
    link: Option<LinkId>,
    stage: Stage,
    /// What came while the disk works.
    waiting: VecDeque<Packet>,
    heard_ms: u64,
    /// What was known to be committed when this server turned to the leader, which must have it.
    known: Zxid,
}

impl Pending {
    fn last(&self) -> Option<Zxid> {
        self.txns.back().map(|(zxid, _)| *zxid)
    }

    fn propose(&mut self, logged: Zxid, txn: LoggedTxn) -> Result<(), Violation> {
        if follows(self.last().unwrap_or(logged), txn.0)? {
            self.txns.push_back(txn);
        }
        Ok(())
    }

    fn commit(&mut self, zxid: Zxid) -> Result<(), Violation> {
        match self.txns.get(self.committed) {
            // Its proposal came with the history.
            None => Ok(()),
            Some((expected, _)) if *expected == zxid => {
                self.committed += 1;
                Ok(())
            }
            Some((expected, _)) => Err(Violation::WrongCommit { said: zxid, expected: *expected }),
        }
    }
}

/// Whether a proposal is a new one. A leader on the JVM proposes an error under the zxid of the
/// transaction before it when it cannot read a request (zookeeper-formats 8.1); it never commits.
fn follows(last: Zxid, next: Zxid) -> Result<bool, Violation> {
    if next < last {
        return Err(Violation::WrongProposal { said: next, last });
    }
    Ok(next > last)
}

impl Learner {
    /// Follows `leader`: the link is to be opened.
    pub fn begin(leader: ServerId, own: &Own, out: &mut Vec<Output>) -> Learner {
        out.push(Output::Connect(leader));
        Learner {
            leader,
            link: None,
            stage: Stage::Connecting,
            waiting: VecDeque::new(),
            heard_ms: own.now_ms,
            known: own.history.committed(),
        }
    }

    /// The link to the leader, if it is up.
    pub fn link(&self) -> Option<LinkId> {
        self.link
    }

    /// The epoch in which clients are served, if they are.
    pub fn serving(&self) -> bool {
        matches!(self.stage, Stage::Broadcast(_))
    }

    /// Whether packets have to wait for the disk.
    pub fn is_blocked(&self) -> bool {
        matches!(
            self.stage,
            Stage::Promising(_) | Stage::Adjusting(_) | Stage::Installing(..) | Stage::Adopting(..)
        )
    }

    /// The link to the leader is up.
    pub fn linked(&mut self, link: LinkId, own: &Own, out: &mut Vec<Output>) {
        self.link = Some(link);
        self.heard_ms = own.now_ms;
        self.stage = Stage::Introduced;
        let packet = Packet::LearnerInfo {
            server: own.cast.me,
            observer: own.is_observer(),
            accepted: own.disk.accepted,
            config_version: own.cast.config_version,
        };
        out.push(Output::Send { link, packet });
    }

    /// The leader has been heard of.
    pub fn heard(&mut self, own: &Own) {
        self.heard_ms = own.now_ms;
    }

    /// Whether the leader has been silent for too long.
    pub fn has_lost(&self, own: &Own) -> bool {
        let ticks = match self.stage {
            Stage::Acknowledged(..) | Stage::Broadcast(_) => own.cast.sync_ticks,
            _ => own.cast.init_ticks,
        };
        !self.is_blocked() && own.now_ms > self.heard_ms + ticks * own.cast.tick_ms
    }

    /// Takes a packet of the leader.
    ///
    /// # Errors
    /// When it breaks the protocol: the link is to be closed.
    pub fn packet(
        &mut self,
        packet: Packet,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        self.heard_ms = own.now_ms;
        if self.is_blocked() {
            if self.waiting.len() >= LEARNER_PACKETS_WAITING_MAX {
                return Err(Violation::TooManyPackets);
            }
            self.waiting.push_back(packet);
            return Ok(());
        }
        self.take(packet, own, out)
    }

    /// The disk has done what blocked us: goes on with what came meanwhile.
    fn unblocked(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        self.heard_ms = own.now_ms;
        while !self.is_blocked()
            && let Some(packet) = self.waiting.pop_front()
        {
            self.take(packet, own, out)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        packet: Packet,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        let logged = own.history.last();
        match (&mut self.stage, packet) {
            (Stage::Introduced, Packet::LeaderInfo(epoch)) => self.promise(epoch, own, out),
            (Stage::Promised(epoch), Packet::Diff(_)) => {
                self.stage = Stage::Learning(*epoch, Pending::default());
                Ok(())
            }
            (Stage::Promised(epoch), Packet::Trunc(zxid)) => {
                self.stage = Stage::Adjusting(*epoch);
                own.disk.order(Output::Truncate(zxid), out);
                Ok(())
            }
            (Stage::Promised(epoch), Packet::Snap(zxid)) => {
                self.stage = Stage::Adjusting(*epoch);
                let link = self.link.expect("a packet came by it");
                own.disk.order(Output::ReceiveSnapshot { link, zxid }, out);
                Ok(())
            }
            (
                Stage::Learning(_, pending) | Stage::Acknowledged(_, pending),
                Packet::Proposal(zxid, txn),
            ) => pending.propose(logged, (zxid, txn)),
            (
                Stage::Learning(_, pending) | Stage::Acknowledged(_, pending),
                Packet::Commit(zxid),
            ) => pending.commit(zxid),
            (
                Stage::Learning(_, pending) | Stage::Acknowledged(_, pending),
                Packet::Inform(zxid, txn),
            ) => {
                pending.propose(logged, (zxid, txn))?;
                pending.commit(zxid)
            }
            (Stage::Learning(epoch, _), Packet::NewLeader { zxid, .. }) => {
                let expected = Zxid::new(*epoch, 0);
                if zxid != expected {
                    return Err(Violation::WrongEpoch { said: zxid.epoch(), expected: *epoch });
                }
                self.install(own, out)
            }
            (Stage::Acknowledged(..), Packet::UpToDate) => self.serve(own, out),
            (Stage::Acknowledged(..) | Stage::Broadcast(_), Packet::Ping(zxid)) => {
                let link = self.link.expect("a packet came by it");
                out.push(Output::AnswerPing { link, zxid });
                Ok(())
            }
            // Nobody may answer before the history is acknowledged: the leader takes whatever comes
            // first for that.
            (_, Packet::Ping(_)) => Ok(()),
            (Stage::Broadcast(broadcast), Packet::Proposal(zxid, txn)) => {
                if follows(logged, zxid)? {
                    broadcast.log(zxid, own);
                    own.append((zxid, txn), out);
                }
                Ok(())
            }
            (Stage::Broadcast(broadcast), Packet::Commit(zxid)) => broadcast.commit(zxid, own, out),
            (Stage::Broadcast(broadcast), Packet::Inform(zxid, txn)) => {
                if follows(logged, zxid)? {
                    broadcast.log(zxid, own);
                    own.append((zxid, txn), out);
                    broadcast.commit(zxid, own, out)?;
                }
                Ok(())
            }
            (_, packet) => Err(Violation::unexpected(&packet, self.name())),
        }
    }

    /// The stage, for messages.
    fn name(&self) -> &'static str {
        match self.stage {
            Stage::Connecting => "connecting",
            Stage::Introduced => "waiting for the epoch",
            Stage::Promising(_) => "promising the epoch",
            Stage::Promised(_) => "waiting for the history",
            Stage::Adjusting(_) => "adjusting the log",
            Stage::Learning(..) => "learning the history",
            Stage::Installing(..) => "installing the history",
            Stage::Adopting(..) => "adopting the epoch",
            Stage::Acknowledged(..) => "waiting to serve",
            Stage::Broadcast(_) => "following",
            Stage::Changing => "changing",
        }
    }

    fn promise(
        &mut self,
        epoch: Epoch,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        let accepted = own.disk.accepted;
        if epoch < accepted {
            return Err(Violation::OldEpoch { said: epoch, accepted });
        }
        if epoch > accepted {
            self.stage = Stage::Promising(epoch);
            own.disk.order(Output::WriteAccepted(epoch), out);
            return Ok(());
        }
        // Promised before: who promises twice does not count twice.
        self.answer_epoch(epoch, None, own, out);
        Ok(())
    }

    fn answer_epoch(
        &mut self,
        epoch: Epoch,
        current: Option<Epoch>,
        own: &Own,
        out: &mut Vec<Output>,
    ) {
        self.stage = Stage::Promised(epoch);
        let packet = Packet::AckEpoch { last_logged: own.history.last(), current };
        self.send(packet, out);
    }

    fn send(&self, packet: Packet, out: &mut Vec<Output>) {
        let link = self.link.expect("the handshake goes over it");
        out.push(Output::Send { link, packet });
    }

    /// The accepted epoch is durable.
    ///
    /// # Errors
    /// As `packet`, for the packets that waited; so for all that follow.
    pub fn accepted(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        if let Stage::Promising(epoch) = self.stage {
            let current = own.disk.current;
            self.answer_epoch(epoch, Some(current), own, out);
        }
        self.unblocked(own, out)
    }

    /// The log has been cut, or a snapshot taken in.
    pub fn adjusted(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        if let Stage::Adjusting(epoch) = self.stage {
            self.stage = Stage::Learning(epoch, Pending::default());
        }
        self.unblocked(own, out)
    }

    /// NEWLEADER: what is committed goes to the log. What is not stays pending, for the leader's
    /// own log need not hold it durably yet.
    fn install(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        let Stage::Learning(epoch, mut pending) = self.change() else { unreachable!("as matched") };
        for txn in pending.txns.drain(..std::mem::take(&mut pending.committed)) {
            own.append(txn, out);
        }
        self.stage = Stage::Installing(epoch, pending);
        self.installed(own, out)
    }

    fn change(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Changing)
    }

    /// Goes on when the history is durable.
    fn installed(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        if !own.is_all_durable() {
            return Ok(());
        }
        let Stage::Installing(epoch, pending) = self.change() else { unreachable!("as matched") };
        self.stage = Stage::Adopting(epoch, pending);
        if own.disk.current == epoch {
            return self.adopted(own, out);
        }
        own.disk.order(Output::WriteCurrent(epoch), out);
        Ok(())
    }

    /// The current epoch is durable.
    pub fn adopted(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        if matches!(self.stage, Stage::Adopting(..)) {
            let Stage::Adopting(epoch, pending) = self.change() else { unreachable!("as matched") };
            self.stage = Stage::Acknowledged(epoch, pending);
            self.send(Packet::Ack(Zxid::new(epoch, 0)), out);
        }
        self.unblocked(own, out)
    }

    /// The log is durable through `own.disk.durable`.
    pub fn durable(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        match &mut self.stage {
            Stage::Installing(..) => self.installed(own, out),
            Stage::Broadcast(broadcast) => {
                let Some(link) = self.link else { return Ok(()) };
                let durable = own.disk.durable;
                while let Some(zxid) = broadcast.unacknowledged.pop_front_if_through(durable) {
                    out.push(Output::Send { link, packet: Packet::Ack(zxid) });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// UPTODATE: a quorum has the history, so all of it is committed.
    fn serve(&mut self, own: &mut Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        let Stage::Acknowledged(epoch, pending) = self.change() else {
            unreachable!("as matched");
        };
        let mut committed = own.history.last();
        let mut broadcast = Broadcast::default();
        self.send(Packet::Ack(Zxid::new(epoch, 0)), out);
        for (index, txn) in pending.txns.into_iter().enumerate() {
            broadcast.log(txn.0, own);
            if index < pending.committed {
                committed = txn.0;
                broadcast.uncommitted.pop_front();
            }
            own.append(txn, out);
        }
        let known = self.known;
        if committed < known {
            return Err(Violation::LostCommits { known, said: committed });
        }
        own.history.commit(committed);
        out.push(Output::CommitThrough(committed));
        let leader = self.leader;
        out.push(Output::Serve(if own.is_observer() {
            Service::Observing { leader, epoch }
        } else {
            Service::Following { leader, epoch }
        }));
        self.stage = Stage::Broadcast(broadcast);
        Ok(())
    }
}

impl Broadcast {
    fn log(&mut self, zxid: Zxid, own: &Own) {
        if !own.is_observer() {
            self.unacknowledged.push_back(zxid);
        }
        self.uncommitted.push_back(zxid);
    }

    fn commit(
        &mut self,
        zxid: Zxid,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        match self.uncommitted.front() {
            // Its proposal came with the history.
            None => Ok(()),
            Some(expected) if *expected == zxid => {
                self.uncommitted.pop_front();
                own.history.commit(zxid);
                out.push(Output::CommitThrough(zxid));
                Ok(())
            }
            Some(expected) => Err(Violation::WrongCommit { said: zxid, expected: *expected }),
        }
    }
}

/// Takes the front of a queue of zxids.
trait PopThrough {
    fn pop_front_if_through(&mut self, zxid: Zxid) -> Option<Zxid>;
}

impl PopThrough for VecDeque<Zxid> {
    fn pop_front_if_through(&mut self, zxid: Zxid) -> Option<Zxid> {
        if *self.front()? <= zxid { self.pop_front() } else { None }
    }
}
