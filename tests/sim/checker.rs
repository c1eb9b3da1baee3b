//! What must hold of an ensemble, whatever happens to it. A broken rule is a panic: the seed is
//! printed by `main`, and replays exactly.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use ringkeeper::ids::{Epoch, ServerId, Zxid};
use ringkeeper::zab::step::LoggedTxn;

/// Who watches over a whole run.
#[derive(Default)]
pub struct Checker {
    /// Every transaction that any server published, in the order in which all must.
    pub committed: Vec<LoggedTxn>,
    /// By epoch: who led it.
    leaders: BTreeMap<Epoch, ServerId>,
    /// By write: where in `committed` it is.
    positions: HashMap<Bytes, usize>,
    /// Writes that clients were told are done.
    pub acknowledged: usize,
    /// All of those are before this position of `committed`.
    pub floor: usize,
    /// By session: the last of its writes that is committed.
    sessions: BTreeMap<u32, u32>,
}

/// A write of the simulation: the number of its session, and its number there.
pub fn write(session: u32, number: u32) -> Bytes {
    let mut bytes = session.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.into()
}

/// Session and number of a write.
pub fn parts(write: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(write[at..at + 4].try_into().unwrap());
    (word(0), word(4))
}

impl Checker {
    /// A server begins to lead.
    pub fn leads(&mut self, server: ServerId, epoch: Epoch) {
        if let Some(other) = self.leaders.insert(epoch, server) {
            panic!("epoch {epoch} is led by {other} and by {server}");
        }
    }

    /// A server published `txn` as the transaction number `position` of its history.
    pub fn published(&mut self, server: ServerId, position: usize, txn: &LoggedTxn) {
        if let Some(known) = self.committed.get(position) {
            assert!(
                known == txn,
                "server {server} published {} as number {position}, where {} was committed",
                txn.0,
                known.0
            );
            return;
        }
        assert_eq!(position, self.committed.len(), "server {server} left something out");
        if let Some((last, _)) = self.committed.last() {
            assert!(txn.0 > *last, "server {server} committed {} after {last}", txn.0);
        }
        // What no quorum had when an epoch began must not come back in it.
        if let Some((&newest, leader)) = self.leaders.last_key_value() {
            let known = self.committed.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
            assert!(
                txn.0.epoch() >= newest || known.epoch() < txn.0.epoch() || leader == &server,
                "server {server} committed {}, which leader {leader} of epoch {newest} never had",
                txn.0
            );
        }
        let (session, number) = parts(&txn.1);
        let last = self.sessions.insert(session, number);
        assert!(last < Some(number), "session {session}: write {number} is behind {last:?}");
        self.positions.insert(txn.1.clone(), position);
        self.committed.push(txn.clone());
    }

    /// Where `write` is among what is committed, if it is.
    pub fn position(&self, write: &Bytes) -> Option<usize> {
        self.positions.get(write).copied()
    }

    /// A client is told that its write, number `position` of what is committed, is done. From then
    /// on no server may publish anything else there.
    pub fn acknowledge(&mut self, position: usize) {
        self.acknowledged += 1;
        self.floor = self.floor.max(position + 1);
    }
}
