//! The packets of the agreement between a leader and its learners, as values. What sessions send
//! through learners (REQUEST, REVALIDATE, SYNC and the sessions in a PING) is not ZAB's.

use bytes::Bytes;

use crate::ids::{Epoch, ServerId, Zxid};

/// What a leader and a learner say to each other. The names are the protocol's
/// (zookeeper-formats 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// FOLLOWERINFO, OBSERVERINFO: a learner asks to be led, and says which epoch it promised last.
    LearnerInfo {
        server: ServerId,
        observer: bool,
        accepted: Epoch,
        config_version: i64,
    },
    /// The leader's new epoch.
    LeaderInfo(Epoch),
    /// The learner promises the epoch. `current`: the epoch of its history; `None` if it promised
    /// that epoch before.
    AckEpoch {
        last_logged: Zxid,
        current: Option<Epoch>,
    },
    /// What the learner has is a part of the leader's history.
    Diff(Zxid),
    /// What the learner has behind this is not.
    Trunc(Zxid),
    /// A snapshot of this version follows.
    Snap(Zxid),
    Proposal(Zxid, Bytes),
    Commit(Zxid),
    /// A proposal for an observer, and its commit.
    Inform(Zxid, Bytes),
    /// The history is complete. The text is the ensemble's configuration.
    NewLeader {
        zxid: Zxid,
        config: Bytes,
    },
    /// A quorum has the history: serve.
    UpToDate,
    Ack(Zxid),
    Ping(Zxid),
}

impl Packet {
    /// The protocol's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Packet::LearnerInfo { observer: false, .. } => "FOLLOWERINFO",
            Packet::LearnerInfo { observer: true, .. } => "OBSERVERINFO",
            Packet::LeaderInfo(_) => "LEADERINFO",
            Packet::AckEpoch { .. } => "ACKEPOCH",
            Packet::Diff(_) => "DIFF",
            Packet::Trunc(_) => "TRUNC",
            Packet::Snap(_) => "SNAP",
            Packet::Proposal(..) => "PROPOSAL",
            Packet::Commit(_) => "COMMIT",
            Packet::Inform(..) => "INFORM",
            Packet::NewLeader { .. } => "NEWLEADER",
            Packet::UpToDate => "UPTODATE",
            Packet::Ack(_) => "ACK",
            Packet::Ping(_) => "PING",
        }
    }
}
