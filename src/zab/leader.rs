//! A leader: a new epoch, the learners brought to its history, then proposals, acknowledgements
//! and commits. Owned by `step` while this server leads.
//!
//! Invariants: an epoch is proposed that no quorum has accepted before; nothing is proposed before
//! a quorum has the leader's history durably; a zxid is committed when the logs of a quorum, ours
//! perhaps among them, are durable through it.
//!
//! Source: zookeeper-formats 4.2 to 4.4, 4.7 to 4.9.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{Epoch, ServerId, Zxid};
use crate::limits::PROPOSALS_WAITING_MAX;

use super::confirm::Confirmations;
use super::history::LoggedTxn;
use super::packet::Packet;
use super::step::{Learners, LinkId, Output, Own, Service, Violation};
use super::sync::{self, Way};

/// How far the reign is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A quorum of learners is to say which epochs they accepted.
    Discovering,
    /// The disk writes the new epoch down as accepted.
    Accepting(Epoch),
    /// A quorum is to promise it.
    Gathering(Epoch),
    /// The disk writes it down as the current one.
    Adopting(Epoch),
    /// A quorum is to have our history.
    Synchronizing(Epoch),
    /// Writes are taken.
    Broadcasting(Epoch),
}

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It has not said who it is.
    Linked,
    /// It waits for the epoch.
    Introduced,
    /// It knows the epoch.
    Invited,
    /// It promised the epoch, and waits for our history.
    Promised,
    /// The log is read for it.
    Reading,
    /// Our history, and all that follows, is on its way.
    Learning,
    /// It has our history durably.
    Acknowledged,
}

/// What a leader knows of a learner.
#[derive(Debug)]
struct Peer {
    server: ServerId,
    observer: bool,
    phase: Phase,
    accepted: Epoch,
    /// The end of its log, when it promised.
    last_logged: Zxid,
    /// The epoch of its history; `None` if it had promised before and does not count.
    current: Option<Epoch>,
    heard_ms: u64,
    /// The last proposal that it acknowledged before our history (3.8.4 and older do).
    early: Zxid,
    /// A snapshot is on its way, which takes as long as it takes.
    streaming: bool,
}

/// The reign of this server.
#[derive(Debug)]
pub struct Leader {
    stage: Stage,
    since_ms: u64,
    pinged_ms: u64,
    peers: BTreeMap<LinkId, Peer>,
    /// The end of our log when the reign began: history, all of it committed once a quorum has it.
    base: Zxid,
    next: Zxid,
    /// Through which zxid each voter's log is durable. One acknowledgement stands for all before
    /// it, since logs and links keep order.
    acknowledged: BTreeMap<ServerId, Zxid>,
    confirmations: Confirmations,
    /// Whether zxids go on in the next epoch when a counter is used up, as a standalone server's.
    continued: bool,
}

/// The zxid that follows `zxid` on a standalone server, which never has a new epoch but when the
/// counter is used up. Counter 0 is nobody's: `epoch << 32` names a new leader itself.
fn successor(zxid: Zxid) -> Zxid {
    if zxid.counter() == u32::MAX {
        let epoch = zxid.epoch().number().checked_add(1).expect("epochs last for ever");
        return Zxid::new(Epoch::new(epoch), 1);
    }
    zxid.next()
}

impl Leader {
    /// A server that was elected: it waits for learners.
    pub fn begin(own: &Own, out: &mut Vec<Output>) -> Leader {
        out.push(Output::Listen);
        Leader {
            stage: Stage::Discovering,
            since_ms: own.now_ms,
            pinged_ms: own.now_ms,
            peers: BTreeMap::new(),
            base: own.history.last(),
            next: Zxid::ZERO,
            acknowledged: BTreeMap::new(),
            confirmations: Confirmations::default(),
            continued: false,
        }
    }

    /// A standalone server: it leads at once, and its zxids go on where the log ended.
    pub fn standalone(own: &mut Own, out: &mut Vec<Output>) -> Leader {
        let base = own.history.last();
        let mut leader = Leader::begin(own, &mut Vec::new());
        leader.continued = true;
        leader.next = successor(base);
        leader.establish(base.epoch(), own, out);
        leader
    }

    /// The epoch in which this server leads, once it takes writes.
    pub fn serving(&self) -> Option<Epoch> {
        match self.stage {
            Stage::Broadcasting(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// The zxid of the next proposal. `None`: writes are not taken yet, or the epoch's counter is
    /// used up (ZOOKEEPER-1277): 0xffffffff is never given out.
    pub fn next_zxid(&self) -> Option<Zxid> {
        let used_up = !self.continued && self.next.counter() == u32::MAX;
        (self.serving().is_some() && !used_up).then_some(self.next)
    }

    /// How many learners there are.
    pub fn learners(&self) -> Learners {
        let synced = |observer: bool| {
            let is_it =
                |peer: &&Peer| peer.phase == Phase::Acknowledged && peer.observer == observer;
            self.peers.values().filter(is_it).count()
        };
        Learners {
            connected: self.peers.len(),
            synced_followers: synced(false),
            synced_observers: synced(true),
        }
    }

    /// The links of the learners.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.peers.keys().copied()
    }

    /// A first step for an ensemble whose only voter this is: nobody needs to come.
    pub fn discover(&mut self, own: &mut Own, out: &mut Vec<Output>) {
        if self.stage != Stage::Discovering
            || !self.is_quorum(own, |peer| peer.phase >= Phase::Introduced)
        {
            return;
        }
        let accepted = self.peers.values().map(|peer| peer.accepted).max().unwrap_or_default();
        let accepted = accepted.max(own.disk.accepted);
        let number = accepted.number().checked_add(1).expect("epochs last for ever");
        self.enter(Stage::Accepting(Epoch::new(number)), own);
        own.disk.order(Output::WriteAccepted(Epoch::new(number)), out);
    }

    fn enter(&mut self, stage: Stage, own: &Own) {
        self.stage = stage;
        self.since_ms = own.now_ms;
    }

    /// Whether this server and the participants of whom `holds` is true are a quorum.
    fn is_quorum(&self, own: &Own, holds: impl Fn(&Peer) -> bool) -> bool {
        own.cast.voters.is_quorum(|voter| {
            voter == own.cast.me
                || self.peers.values().any(|it| !it.observer && it.server == voter && holds(it))
        })
    }

    /// A learner has connected.
    pub fn linked(&mut self, link: LinkId, own: &Own) {
        let peer = Peer {
            server: own.cast.me,
            observer: true,
            phase: Phase::Linked,
            accepted: Epoch::default(),
            last_logged: Zxid::ZERO,
            current: None,
            heard_ms: own.now_ms,
            early: Zxid::ZERO,
            streaming: false,
        };
        self.peers.insert(link, peer);
    }

    /// A learner's link is gone. What it acknowledged is durable there all the same.
    pub fn lost(&mut self, link: LinkId) {
        self.peers.remove(&link);
        self.confirmations.lost(link);
    }

    /// A learner was heard of.
    pub fn heard(&mut self, link: LinkId, own: &Own) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.heard_ms = own.now_ms;
        }
    }

    /// The snapshot for a learner is on its way, all of it.
    pub fn snapshot_sent(&mut self, link: LinkId, own: &Own) {
        if let Some(peer) = self.peers.get_mut(&link) {
            (peer.streaming, peer.heard_ms) = (false, own.now_ms);
        }
    }

    /// Takes a learner's packet.
    ///
    /// # Errors
    /// When it breaks the protocol: the link is to be closed.
    pub fn packet(
        &mut self,
        link: LinkId,
        packet: Packet,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        self.heard(link, own);
        // Closed by us, and what was on its way comes in late.
        let Some(peer) = self.peers.get_mut(&link) else { return Ok(()) };
        match (peer.phase, packet) {
            (Phase::Linked, Packet::LearnerInfo { server, observer, accepted, config_version }) => {
                if config_version > own.cast.config_version {
                    return Err(Violation::NewerConfiguration { server, said: config_version });
                }
                // A voter that calls itself an observer has no say, as one that is none.
                peer.observer = observer || !own.cast.voters.has(server);
                (peer.server, peer.accepted, peer.phase) = (server, accepted, Phase::Introduced);
                self.supersede(link, server, out);
                self.invite(link, out);
                self.discover(own, out);
                Ok(())
            }
            (Phase::Invited, Packet::AckEpoch { last_logged, current }) => {
                self.promised(link, last_logged, current, own, out)
            }
            (Phase::Learning, Packet::Ack(zxid)) => {
                if zxid.counter() == 0 {
                    self.learned(link, own, out);
                } else {
                    peer.early = peer.early.max(zxid);
                }
                Ok(())
            }
            (Phase::Acknowledged, Packet::Ack(zxid)) => {
                let (server, observer) = (peer.server, peer.observer);
                if zxid.counter() == 0 || observer {
                    return Ok(());
                }
                self.count_ack(server, zxid, own, out)
            }
            (Phase::Acknowledged, Packet::Ping(_)) => {
                self.confirmations.answered(link);
                self.confirm(own, out);
                Ok(())
            }
            (Phase::Learning, Packet::Ping(_)) => Ok(()),
            (phase, packet) => Err(Violation::unexpected(&packet, phase.name())),
        }
    }

    /// A server that connects again has left its old link behind, whether we know or not.
    fn supersede(&mut self, link: LinkId, server: ServerId, out: &mut Vec<Output>) {
        let old = self.peers.iter().find(|(other, peer)| {
            **other != link && peer.server == server && peer.phase > Phase::Linked
        });
        if let Some((&old, _)) = old {
            self.lost(old);
            out.push(Output::Close(old));
        }
    }

    /// Tells a learner the epoch, if there is one.
    fn invite(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let (Stage::Gathering(epoch)
        | Stage::Adopting(epoch)
        | Stage::Synchronizing(epoch)
        | Stage::Broadcasting(epoch)) = self.stage
        else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.phase == Phase::Introduced {
            peer.phase = Phase::Invited;
            out.push(Output::Send { link, packet: Packet::LeaderInfo(epoch) });
        }
    }

    /// The accepted epoch is durable.
    pub fn accepted(&mut self, own: &mut Own, out: &mut Vec<Output>) {
        let Stage::Accepting(epoch) = self.stage else { return };
        self.enter(Stage::Gathering(epoch), own);
        for link in self.links().collect::<Vec<_>>() {
            self.invite(link, out);
        }
        self.gather(own, out);
    }

    fn promised(
        &mut self,
        link: LinkId,
        last_logged: Zxid,
        current: Option<Epoch>,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        let gathering = matches!(self.stage, Stage::Gathering(_));
        if gathering
            && let Some(current) = current
            && (current, last_logged) > (own.disk.current, self.base)
        {
            // Its history is the better one: it must not be led by us (Zab, discovery phase).
            return Err(Violation::BetterHistory { current, last_logged });
        }
        let peer = self.peers.get_mut(&link).expect("it just spoke");
        (peer.last_logged, peer.current, peer.phase) = (last_logged, current, Phase::Promised);
        if gathering {
            self.gather(own, out);
        } else if matches!(self.stage, Stage::Synchronizing(_) | Stage::Broadcasting(_)) {
            self.teach(link, own, out);
        }
        Ok(())
    }

    /// Goes on when a quorum has promised the epoch.
    fn gather(&mut self, own: &mut Own, out: &mut Vec<Output>) {
        let Stage::Gathering(epoch) = self.stage else { return };
        if self.is_quorum(own, |peer| peer.phase >= Phase::Promised && peer.current.is_some()) {
            self.enter(Stage::Adopting(epoch), own);
            own.disk.order(Output::WriteCurrent(epoch), out);
        }
    }

    /// The current epoch is durable.
    pub fn adopted(&mut self, own: &mut Own, out: &mut Vec<Output>) {
        let Stage::Adopting(epoch) = self.stage else { return };
        self.enter(Stage::Synchronizing(epoch), own);
        self.next = Zxid::new(epoch, 1);
        for link in self.links().collect::<Vec<_>>() {
            if self.peers[&link].phase == Phase::Promised {
                self.teach(link, own, out);
            }
        }
        self.settle(own, out);
    }

    /// Everything through this is committed, or will be when a quorum has our history.
    fn committed(&self, own: &Own) -> Zxid {
        self.base.max(own.history.committed())
    }

    /// Brings a learner up to date that has promised the epoch.
    fn teach(&mut self, link: LinkId, own: &Own, out: &mut Vec<Output>) {
        let committed = self.committed(own);
        let peer = self.peers.get_mut(&link).expect("it promised");
        let theirs = peer.last_logged;
        let behind = match sync::choose(&own.history, committed, theirs) {
            Way::Diff(from) => {
                out.push(Output::Send { link, packet: Packet::Diff(committed) });
                from
            }
            Way::Trunc(to) => {
                out.push(Output::Send { link, packet: Packet::Trunc(to) });
                to
            }
            Way::Snap => {
                self.send_snapshot(link, own, out);
                committed
            }
            Way::ReadLog => {
                peer.phase = Phase::Reading;
                out.push(Output::ReadLog { link, from: theirs });
                return;
            }
        };
        self.send_history(link, behind, own, out);
    }

    fn send_snapshot(&mut self, link: LinkId, own: &Own, out: &mut Vec<Output>) {
        let at = self.committed(own);
        self.peers.get_mut(&link).expect("it is being taught").streaming = true;
        out.push(Output::Send { link, packet: Packet::Snap(at) });
        out.push(Output::SendSnapshot { link, at });
    }

    /// The log has been read for a learner: `txns` are all it holds from the last one at or before
    /// the end of the learner's log on; `None` if that is not there, or more than a snapshot would
    /// cost.
    pub fn log_read(
        &mut self,
        link: LinkId,
        txns: Option<Vec<LoggedTxn>>,
        own: &Own,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.get(&link).filter(|it| it.phase == Phase::Reading) else {
            return;
        };
        let theirs = peer.last_logged;
        let committed = self.committed(own);
        let read = txns.unwrap_or_default();
        // Of what the log holds, the memory must go on where it ends.
        let joined = read.last().is_some_and(|(last, _)| {
            *last >= committed || own.history.first().is_some_and(|first| first <= *last)
        });
        let common = read.first().map(|(zxid, _)| *zxid).filter(|zxid| *zxid <= theirs);
        let way = match common {
            Some(common) if joined && common == theirs => Packet::Diff(committed),
            Some(common) if joined && common.epoch() == theirs.epoch() => Packet::Trunc(common),
            _ => {
                self.send_snapshot(link, own, out);
                return self.send_history(link, committed, own, out);
            }
        };
        out.push(Output::Send { link, packet: way });
        let mut behind = common.expect("as matched");
        for (zxid, txn) in read {
            if zxid > behind && zxid <= committed {
                behind = zxid;
                self.send_committed(link, (zxid, txn), out);
            }
        }
        self.send_history(link, behind, own, out);
    }

    fn send_committed(&self, link: LinkId, (zxid, txn): LoggedTxn, out: &mut Vec<Output>) {
        out.push(Output::Send { link, packet: Packet::Proposal(zxid, txn) });
        out.push(Output::Send { link, packet: Packet::Commit(zxid) });
    }

    /// What is committed behind `behind`, NEWLEADER, then what is proposed. In that order, for
    /// releases up to 3.9.2 stumble over the commit, behind NEWLEADER, of a proposal that came
    /// before it (ZOOKEEPER-4394). From now on the learner gets all that happens.
    fn send_history(&mut self, link: LinkId, behind: Zxid, own: &Own, out: &mut Vec<Output>) {
        let (Stage::Synchronizing(epoch) | Stage::Broadcasting(epoch)) = self.stage else {
            unreachable!("nobody is taught before the epoch is adopted");
        };
        let committed = self.committed(own);
        let history = own.history.behind(behind).take_while(|(zxid, _)| *zxid <= committed);
        for txn in history {
            self.send_committed(link, txn.clone(), out);
        }
        let zxid = Zxid::new(epoch, 0);
        let packet = Packet::NewLeader { zxid, config: own.cast.config.clone() };
        out.push(Output::Send { link, packet });
        let peer = self.peers.get_mut(&link).expect("it is being taught");
        peer.phase = Phase::Learning;
        if !peer.observer {
            for (zxid, txn) in own.history.behind(committed) {
                let packet = Packet::Proposal(*zxid, txn.clone());
                out.push(Output::Send { link, packet });
            }
        }
    }

    /// A learner has our history.
    fn learned(&mut self, link: LinkId, own: &mut Own, out: &mut Vec<Output>) {
        let peer = self.peers.get_mut(&link).expect("it just spoke");
        peer.phase = Phase::Acknowledged;
        let (server, early, observer) = (peer.server, peer.early, peer.observer);
        if self.serving().is_none() {
            return self.settle(own, out);
        }
        out.push(Output::Send { link, packet: Packet::UpToDate });
        if !observer && early > Zxid::ZERO {
            // It cannot be beyond what was proposed to it; if it says so, it does not count.
            let _ = self.count_ack(server, early, own, out);
        }
    }

    /// Goes on when a quorum has our history.
    fn settle(&mut self, own: &mut Own, out: &mut Vec<Output>) {
        let Stage::Synchronizing(epoch) = self.stage else { return };
        if !self.is_quorum(own, |peer| peer.phase == Phase::Acknowledged) {
            return;
        }
        assert!(Zxid::new(epoch, 0) > self.base, "epoch {epoch} behind {}", self.base);
        self.establish(epoch, own, out);
        for (&link, peer) in &self.peers {
            if peer.phase == Phase::Acknowledged {
                out.push(Output::Send { link, packet: Packet::UpToDate });
            }
        }
    }

    fn establish(&mut self, epoch: Epoch, own: &mut Own, out: &mut Vec<Output>) {
        self.enter(Stage::Broadcasting(epoch), own);
        own.history.commit(self.base);
        out.push(Output::CommitThrough(self.base));
        out.push(Output::Serve(Service::Leading { epoch }));
    }

    /// Proposes the transaction with this zxid, which has been appended to our log.
    ///
    /// # Panics
    /// When it is not `next_zxid`, or more wait than may: the caller must have stopped.
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes, own: &mut Own, out: &mut Vec<Output>) {
        assert_eq!(Some(zxid), self.next_zxid(), "proposed out of turn");
        assert!(own.history.outstanding() < PROPOSALS_WAITING_MAX, "too many proposals at {zxid}");
        for (&link, peer) in &self.peers {
            if peer.phase >= Phase::Learning && !peer.observer {
                out.push(Output::Send { link, packet: Packet::Proposal(zxid, txn.clone()) });
            }
        }
        own.history.push(zxid, txn);
        self.next = if self.continued { successor(zxid) } else { zxid.next() };
    }

    /// Our log is durable through `own.disk.durable`.
    pub fn durable(&mut self, own: &mut Own, out: &mut Vec<Output>) {
        if self.serving().is_some() && own.cast.voters.has(own.cast.me) {
            let (me, durable) = (own.cast.me, own.disk.durable);
            self.count_ack(me, durable, own, out).expect("we logged what we proposed");
        }
    }

    fn count_ack(
        &mut self,
        from: ServerId,
        zxid: Zxid,
        own: &mut Own,
        out: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        let newest = own.history.last();
        if zxid > newest {
            return Err(Violation::AckAhead { from, said: zxid, newest });
        }
        let known = self.acknowledged.entry(from).or_insert(Zxid::ZERO);
        if zxid <= *known {
            return Ok(());
        }
        *known = zxid;
        let has = |voter, point| self.acknowledged.get(&voter).is_some_and(|it| *it >= point);
        let agreed = self
            .acknowledged
            .values()
            .copied()
            .filter(|&point| own.cast.voters.is_quorum(|voter| has(voter, point)))
            .max();
        if let Some(agreed) = agreed.filter(|agreed| *agreed > own.history.committed()) {
            self.commit(agreed, own, out);
        }
        Ok(())
    }

    fn commit(&mut self, through: Zxid, own: &mut Own, out: &mut Vec<Output>) {
        let before = own.history.committed();
        let learning = self.peers.iter().filter(|(_, peer)| peer.phase >= Phase::Learning);
        for (&link, peer) in learning {
            for (zxid, txn) in own.history.behind(before).take_while(|(it, _)| *it <= through) {
                let packet = match peer.observer {
                    true => Packet::Inform(*zxid, txn.clone()),
                    false => Packet::Commit(*zxid),
                };
                out.push(Output::Send { link, packet });
            }
        }
        own.history.commit(through);
        out.push(Output::CommitThrough(through));
        self.confirm(own, out);
    }

    /// Answers with `Output::Synced` when all that is proposed now is committed, and a quorum has
    /// confirmed behind this call that we lead.
    ///
    /// # Errors
    /// When too many wait.
    pub fn sync(&mut self, token: u64, own: &Own, out: &mut Vec<Output>) -> Result<(), Violation> {
        self.confirmations.ask(token, own.history.last())?;
        self.confirm(own, out);
        Ok(())
    }

    /// Begins a round of heartbeats when one is wanted, and answers the syncs that are due.
    fn confirm(&mut self, own: &Own, out: &mut Vec<Output>) {
        loop {
            if self.confirmations.begin_round() {
                self.ping(own, out);
            }
            let peers = &self.peers;
            let ended = self.confirmations.end_round(|answered| {
                own.cast.voters.is_quorum(|voter| {
                    let follows = |peer: &Peer| {
                        peer.server == voter && !peer.observer && peer.phase == Phase::Acknowledged
                    };
                    voter == own.cast.me
                        || peers.iter().any(|(&link, peer)| follows(peer) && answered(link))
                })
            });
            self.confirmations.answer(own.history.committed(), out);
            if !ended {
                return;
            }
        }
    }

    fn ping(&mut self, own: &Own, out: &mut Vec<Output>) {
        self.pinged_ms = own.now_ms;
        for (&link, peer) in &self.peers {
            if peer.phase == Phase::Acknowledged {
                self.confirmations.pinged(link);
                let packet = Packet::Ping(own.history.last());
                out.push(Output::Send { link, packet });
            }
        }
    }

    /// Time has passed. Returns whether this server may go on leading.
    pub fn tick(&mut self, own: &Own, out: &mut Vec<Output>) -> bool {
        if self.continued {
            return true;
        }
        let tick_ms = own.cast.tick_ms;
        let silent_ms = |peer: &Peer| own.now_ms.saturating_sub(peer.heard_ms);
        let sync_ms = own.cast.sync_ticks * tick_ms;
        let init_ms = own.cast.init_ticks * tick_ms;
        let gone: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| match peer.phase {
                Phase::Acknowledged => silent_ms(peer) > sync_ms,
                // We make it wait, not it us.
                Phase::Introduced | Phase::Promised | Phase::Reading => false,
                Phase::Learning if peer.streaming => false,
                Phase::Linked | Phase::Invited | Phase::Learning => silent_ms(peer) > init_ms,
            })
            .map(|(&link, _)| link)
            .collect();
        for link in gone {
            self.lost(link);
            out.push(Output::Close(link));
        }
        if own.now_ms >= self.pinged_ms + tick_ms / 2 {
            self.ping(own, out);
        }
        if self.serving().is_none() {
            return own.now_ms <= self.since_ms + init_ms || self.is_at_the_disk();
        }
        let used_up = self.next_zxid().is_none() && own.history.outstanding() == 0;
        !used_up && self.is_quorum(own, |peer| peer.phase == Phase::Acknowledged)
    }

    fn is_at_the_disk(&self) -> bool {
        matches!(self.stage, Stage::Accepting(_) | Stage::Adopting(_))
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Linked => "a learner that has not said who it is",
            Phase::Introduced => "a learner that waits for the epoch",
            Phase::Invited => "a learner that is to promise the epoch",
            Phase::Promised | Phase::Reading => "a learner that waits for the history",
            Phase::Learning => "a learner that is to take the history in",
            Phase::Acknowledged => "a synchronised learner",
        }
    }
}

#[cfg(test)]
impl Leader {
    /// As if everything in front of `next` had been proposed.
    pub fn use_up_to(&mut self, next: Zxid) {
        self.next = next;
    }
}
