//! One simulated server: its disk, what it has published, and what it is about to do.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fastrand::Rng;
use ringkeeper::ids::{Epoch, ServerId, Zxid};
use ringkeeper::zab::step::{LinkId, LoggedTxn, Service, Zab};

/// What the disk is told. Orders of one queue are carried out in their order.
#[derive(Clone, Debug)]
pub enum DiskOp {
    Append(LoggedTxn),
    Truncate(Zxid),
    Install(Zxid, Vec<LoggedTxn>),
    Accepted(Epoch),
    Current(Epoch),
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub accepted: Epoch,
    pub current: Epoch,
    /// The whole history, be it in a snapshot or in the log.
    pub history: Vec<LoggedTxn>,
    /// The history's end as the server names it: behind a snapshot that may be the name of an epoch
    /// that has no transaction yet.
    pub last: Zxid,
}

impl Disk {
    pub fn carry_out(&mut self, op: &DiskOp) {
        match op {
            DiskOp::Append(txn) => {
                self.history.push(txn.clone());
                self.last = txn.0;
            }
            DiskOp::Truncate(zxid) => {
                self.history.retain(|(each, _)| each <= zxid);
                self.last = self.last.min(*zxid);
            }
            DiskOp::Install(zxid, history) => {
                self.history.clone_from(history);
                self.last = *zxid;
            }
            DiskOp::Accepted(epoch) => self.accepted = *epoch,
            DiskOp::Current(epoch) => self.current = *epoch,
        }
    }
}

/// A client's write or sync that waits.
#[derive(Clone, Debug)]
pub enum Asked {
    Write(Bytes),
    /// The sync's number, and how many transactions were committed when it was asked.
    Sync(u64, usize),
}

/// What a running server has in memory.
pub struct Life {
    pub zab: Zab,
    /// The newest version: all that is logged, durable or not.
    pub state: Vec<LoggedTxn>,
    /// How much of it is published.
    pub published: usize,
    pub service: Option<Service>,
    pub listening: bool,
    pub connecting: Option<ServerId>,
    /// The links that are up, and whom they lead to.
    pub links: BTreeMap<LinkId, usize>,
    /// A snapshot comes on this link.
    pub receiving: Option<(LinkId, Zxid)>,
    /// Orders for the log, and for the files of the epochs.
    pub log_queue: VecDeque<DiskOp>,
    pub epoch_queue: VecDeque<DiskOp>,
    /// Writes of this server's clients that are not answered, in their order.
    pub writes: VecDeque<Bytes>,
    /// Syncs that this leader was asked: by whom, and what they must show.
    pub syncs: BTreeMap<u64, (Option<LinkId>, u64, usize)>,
    /// Syncs of this server's clients, in their order.
    pub own_syncs: VecDeque<(u64, usize)>,
    /// The session of this server's client, and its last write.
    pub session: u32,
    pub written: u32,
}

/// A server.
pub struct Node {
    pub id: ServerId,
    pub disk: Disk,
    pub life: Option<Life>,
    /// Counts its lives: what was meant for one does not reach the next.
    pub incarnation: u64,
    /// Nothing happens to it before this time.
    pub paused_until: u64,
    /// The log says nothing before this time.
    pub stalled_until: u64,
    /// How fast its clock goes, in thousandths, and how far it is ahead.
    pub rate: u64,
    pub offset: u64,
}

impl Node {
    /// Its own time.
    pub fn clock(&self, now: u64) -> u64 {
        self.offset + now * self.rate / 1000
    }

    /// The power goes. What was not flushed is lost, but for what happened to reach the disk.
    pub fn crash(&mut self, rng: &mut Rng) {
        let Some(mut life) = self.life.take() else { return };
        self.incarnation += 1;
        for queue in [&mut life.log_queue, &mut life.epoch_queue] {
            let survived = rng.usize(0..=queue.len());
            for op in queue.drain(..survived) {
                // A snapshot takes effect as a whole, when its last step is done.
                if !matches!(op, DiskOp::Install(..)) || rng.bool() {
                    self.disk.carry_out(&op);
                } else {
                    break;
                }
            }
        }
    }
}
