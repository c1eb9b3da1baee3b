//! What a leader and a learner say to each other, out of and into the packets that carry it. The
//! agreement's own packets go to `zab`; the rest is about sessions and their requests
//! (zookeeper-formats 4.1, 4.11). Used by `lead` and `follow`.

use bytes::Bytes;
use thiserror::Error;

use crate::ids::{Epoch, SessionId, Zxid};
use crate::jute::decode::{Cursor, DecodeError};
use crate::jute::quorum::{
    ForwardedRequest, LearnerInfo, PROTOCOL_VERSION, PacketType, QuorumPacket, decode_ack_epoch,
    decode_touched, encode_ack_epoch, encode_touched,
};
use crate::jute::records::Id;
use crate::jute::txn::Transaction;
use crate::zab::packet::Packet;

/// Why a packet cannot be taken. Its link is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("packet type {} at zxid {zxid}: {source}", kind.0)]
    Undecodable { kind: PacketType, zxid: Zxid, source: DecodeError },
    #[error("packet type {} without data at zxid {zxid}", kind.0)]
    NoData { kind: PacketType, zxid: Zxid },
    #[error("packet type {} does not come from {side}", kind.0)]
    WrongSide { kind: PacketType, side: &'static str },
    #[error("a proposal of {zxid} says of itself that it is {said}")]
    OtherZxid { zxid: Zxid, said: Zxid },
    #[error("protocol version {0:#x}: releases before 3.4 are not spoken to")]
    OldProtocol(i32),
    #[error("the learner does not say which server it is")]
    Nameless,
}

/// A packet of a learner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromLearner {
    Zab(Packet),
    /// The answer to a PING: the sessions heard of since the last, with their timeouts in
    /// milliseconds.
    Pong {
        zxid: Zxid,
        touched: Vec<(SessionId, i32)>,
    },
    /// A client's write or sync, with the ids that the client has.
    Request {
        request: ForwardedRequest,
        ids: Vec<Id>,
    },
    /// A client came back: does its session still exist?
    Revalidate {
        session: SessionId,
        timeout_ms: i32,
    },
}

/// A packet of the leader's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromLeader {
    Zab(Packet),
    /// The oldest sync that waits is complete.
    Synced,
    Revalidated {
        session: SessionId,
        valid: bool,
    },
}

/// The data of a packet, and what to say if it is bad.
struct Body {
    kind: PacketType,
    zxid: Zxid,
    data: Option<Bytes>,
}

impl Body {
    fn get(&self) -> Result<&Bytes, PacketError> {
        let Body { kind, zxid, .. } = *self;
        self.data.as_ref().ok_or(PacketError::NoData { kind, zxid })
    }

    fn bad(&self) -> impl Fn(DecodeError) -> PacketError + use<> {
        let Body { kind, zxid, .. } = *self;
        move |source| PacketError::Undecodable { kind, zxid, source }
    }

    /// A transaction: it must be one that can be applied, for it goes into the log.
    fn txn(&self) -> Result<Bytes, PacketError> {
        let data = self.get()?;
        let said = Transaction::decode(data).map_err(self.bad())?.header.zxid;
        if said != self.zxid {
            return Err(PacketError::OtherZxid { zxid: self.zxid, said });
        }
        Ok(data.clone())
    }
}

impl FromLearner {
    /// Reads a packet that a learner sent.
    ///
    /// # Errors
    /// When it is none that a learner sends, or its data is not what its type says.
    pub fn read(packet: QuorumPacket) -> Result<FromLearner, PacketError> {
        let QuorumPacket { kind, zxid, data, ids } = packet;
        let body = Body { kind, zxid, data };
        Ok(match kind {
            PacketType::FOLLOWER_INFO | PacketType::OBSERVER_INFO => {
                let info = LearnerInfo::decode(body.get()?).map_err(body.bad())?;
                if info.protocol_version < PROTOCOL_VERSION {
                    return Err(PacketError::OldProtocol(info.protocol_version));
                }
                FromLearner::Zab(Packet::LearnerInfo {
                    server: info.server.ok_or(PacketError::Nameless)?,
                    observer: kind == PacketType::OBSERVER_INFO,
                    accepted: zxid.epoch(),
                    config_version: info.config_version,
                })
            }
            PacketType::ACK_EPOCH => {
                let current = decode_ack_epoch(body.get()?).map_err(body.bad())?;
                FromLearner::Zab(Packet::AckEpoch { last_logged: zxid, current })
            }
            PacketType::ACK => FromLearner::Zab(Packet::Ack(zxid)),
            PacketType::PING => {
                let none = Bytes::new();
                let data = body.data.as_ref().unwrap_or(&none);
                let touched = decode_touched(data).map_err(body.bad())?;
                FromLearner::Pong { zxid, touched }
            }
            PacketType::REQUEST => {
                let request = ForwardedRequest::decode(body.get()?).map_err(body.bad())?;
                FromLearner::Request { request, ids: ids.unwrap_or_default() }
            }
            PacketType::REVALIDATE => {
                let mut cursor = Cursor::new(body.get()?);
                let session = cursor.long("sessionId").map_err(body.bad())?;
                let timeout_ms = cursor.int("timeout").map_err(body.bad())?;
                let session = SessionId::from_bits(session);
                FromLearner::Revalidate { session, timeout_ms }
            }
            _ => return Err(PacketError::WrongSide { kind, side: "a learner" }),
        })
    }
}

impl FromLeader {
    /// Reads a packet that a leader sent.
    ///
    /// # Errors
    /// When it is none that a leader sends (without reconfiguration), or its data is not what its
    /// type says.
    pub fn read(packet: QuorumPacket) -> Result<FromLeader, PacketError> {
        let QuorumPacket { kind, zxid, data, .. } = packet;
        let body = Body { kind, zxid, data };
        Ok(match kind {
            PacketType::LEADER_INFO => {
                let version =
                    Cursor::new(body.get()?).int("protocolVersion").map_err(body.bad())?;
                if version < PROTOCOL_VERSION {
                    return Err(PacketError::OldProtocol(version));
                }
                FromLeader::Zab(Packet::LeaderInfo(zxid.epoch()))
            }
            PacketType::DIFF => FromLeader::Zab(Packet::Diff(zxid)),
            PacketType::TRUNC => FromLeader::Zab(Packet::Trunc(zxid)),
            PacketType::SNAP => FromLeader::Zab(Packet::Snap(zxid)),
            PacketType::PROPOSAL => FromLeader::Zab(Packet::Proposal(zxid, body.txn()?)),
            PacketType::INFORM => FromLeader::Zab(Packet::Inform(zxid, body.txn()?)),
            PacketType::COMMIT => FromLeader::Zab(Packet::Commit(zxid)),
            PacketType::NEW_LEADER => {
                let config = body.data.unwrap_or_default();
                FromLeader::Zab(Packet::NewLeader { zxid, config })
            }
            PacketType::UP_TO_DATE => FromLeader::Zab(Packet::UpToDate),
            PacketType::PING => FromLeader::Zab(Packet::Ping(zxid)),
            PacketType::SYNC => FromLeader::Synced,
            PacketType::REVALIDATE => {
                let mut cursor = Cursor::new(body.get()?);
                let session = cursor.long("sessionId").map_err(body.bad())?;
                let valid = cursor.bool("valid").map_err(body.bad())?;
                FromLeader::Revalidated { session: SessionId::from_bits(session), valid }
            }
            _ => return Err(PacketError::WrongSide { kind, side: "a leader" }),
        })
    }
}

/// The packet that carries one of the agreement's.
pub fn carry(packet: Packet) -> QuorumPacket {
    let first = |epoch: Epoch| Zxid::new(epoch, 0);
    match packet {
        Packet::LearnerInfo { server, observer, accepted, config_version } => {
            let kind = match observer {
                true => PacketType::OBSERVER_INFO,
                false => PacketType::FOLLOWER_INFO,
            };
            let server = Some(server);
            let info = LearnerInfo { server, protocol_version: PROTOCOL_VERSION, config_version };
            QuorumPacket::with_data(kind, first(accepted), info.to_bytes())
        }
        Packet::LeaderInfo(epoch) => {
            let version = Bytes::copy_from_slice(&PROTOCOL_VERSION.to_be_bytes());
            QuorumPacket::with_data(PacketType::LEADER_INFO, first(epoch), version)
        }
        Packet::AckEpoch { last_logged, current } => {
            let data = encode_ack_epoch(current);
            QuorumPacket::with_data(PacketType::ACK_EPOCH, last_logged, data)
        }
        Packet::Diff(zxid) => QuorumPacket::bare(PacketType::DIFF, zxid),
        Packet::Trunc(zxid) => QuorumPacket::bare(PacketType::TRUNC, zxid),
        Packet::Snap(zxid) => QuorumPacket::bare(PacketType::SNAP, zxid),
        Packet::Proposal(zxid, txn) => QuorumPacket::with_data(PacketType::PROPOSAL, zxid, txn),
        Packet::Inform(zxid, txn) => QuorumPacket::with_data(PacketType::INFORM, zxid, txn),
        Packet::Commit(zxid) => QuorumPacket::bare(PacketType::COMMIT, zxid),
        Packet::NewLeader { zxid, config } => {
            QuorumPacket::with_data(PacketType::NEW_LEADER, zxid, config)
        }
        Packet::UpToDate => QuorumPacket::bare(PacketType::UP_TO_DATE, Zxid::from_bits(-1)),
        Packet::Ack(zxid) => QuorumPacket::bare(PacketType::ACK, zxid),
        Packet::Ping(zxid) => QuorumPacket::bare(PacketType::PING, zxid),
    }
}

/// The answer to the leader's PING of this zxid.
pub fn pong(zxid: Zxid, touched: impl Iterator<Item = (SessionId, i32)>) -> QuorumPacket {
    QuorumPacket::with_data(PacketType::PING, zxid, encode_touched(touched))
}

/// A client's request, with the ids that the client has. Sessions are opened and closed without.
pub fn request(request: &ForwardedRequest, ids: Option<Vec<Id>>) -> QuorumPacket {
    let (kind, zxid) = (PacketType::REQUEST, Zxid::from_bits(-1));
    QuorumPacket { kind, zxid, data: Some(request.to_bytes()), ids }
}

/// A learner's question whether a session exists that wants to go on with it.
pub fn revalidate(session: SessionId, timeout_ms: i32) -> QuorumPacket {
    let mut data = session.bits().to_be_bytes().to_vec();
    data.extend_from_slice(&timeout_ms.to_be_bytes());
    QuorumPacket::with_data(PacketType::REVALIDATE, Zxid::from_bits(-1), data)
}

/// The leader's answer to that.
pub fn revalidated(session: SessionId, valid: bool) -> QuorumPacket {
    let mut data = session.bits().to_be_bytes().to_vec();
    data.push(u8::from(valid));
    QuorumPacket::with_data(PacketType::REVALIDATE, Zxid::from_bits(-1), data)
}

/// The oldest sync of this learner's that waits is complete.
pub fn synced() -> QuorumPacket {
    QuorumPacket::bare(PacketType::SYNC, Zxid::from_bits(-1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServerId;
    use crate::jute::opcode::OpCode;
    use crate::jute::txn::{TxnHeader, encode_error, encode_header};

    fn txn(zxid: Zxid) -> Bytes {
        let mut txn = Vec::new();
        let client_id = SessionId::from_bits(5);
        let header = TxnHeader { client_id, cxid: 1, zxid, time_ms: 0, op: OpCode::ERROR };
        encode_header(&mut txn, &header);
        encode_error(&mut txn, -101);
        txn.into()
    }

    #[test]
    fn what_a_learner_says_comes_in_as_it_was_said() {
        let epoch = Epoch::new(3);
        let zxid = Zxid::new(epoch, 7);
        for packet in [
            Packet::LearnerInfo {
                server: ServerId::new(2),
                observer: true,
                accepted: epoch,
                config_version: 0,
            },
            Packet::AckEpoch { last_logged: zxid, current: None },
            Packet::AckEpoch { last_logged: zxid, current: Some(epoch) },
            Packet::Ack(zxid),
        ] {
            assert_eq!(FromLearner::read(carry(packet.clone())), Ok(FromLearner::Zab(packet)));
        }
        let touched = vec![(SessionId::from_bits(9), 4_000)];
        let said = FromLearner::read(pong(zxid, touched.iter().copied()));
        assert_eq!(said, Ok(FromLearner::Pong { zxid, touched }));
        let session = SessionId::from_bits(-9);
        let said = FromLearner::read(revalidate(session, 6_000));
        assert_eq!(said, Ok(FromLearner::Revalidate { session, timeout_ms: 6_000 }));
    }

    #[test]
    fn what_a_leader_says_comes_in_as_it_was_said() {
        let epoch = Epoch::new(3);
        let zxid = Zxid::new(epoch, 7);
        for packet in [
            Packet::LeaderInfo(epoch),
            Packet::Diff(zxid),
            Packet::Trunc(zxid),
            Packet::Snap(zxid),
            Packet::Proposal(zxid, txn(zxid)),
            Packet::Inform(zxid, txn(zxid)),
            Packet::Commit(zxid),
            Packet::NewLeader { zxid, config: Bytes::from_static(b"version=0") },
            Packet::UpToDate,
            Packet::Ping(zxid),
        ] {
            assert_eq!(FromLeader::read(carry(packet.clone())), Ok(FromLeader::Zab(packet)));
        }
        assert_eq!(FromLeader::read(synced()), Ok(FromLeader::Synced));
        let session = SessionId::from_bits(-9);
        let said = FromLeader::read(revalidated(session, true));
        assert_eq!(said, Ok(FromLeader::Revalidated { session, valid: true }));
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let zxid = Zxid::from_bits(7);
        let proposal = carry(Packet::Proposal(zxid, txn(Zxid::from_bits(8))));
        let said = Zxid::from_bits(8);
        assert_eq!(FromLeader::read(proposal), Err(PacketError::OtherZxid { zxid, said }));
        let proposal = carry(Packet::Proposal(zxid, Bytes::from_static(b"nonsense")));
        assert!(matches!(FromLeader::read(proposal), Err(PacketError::Undecodable { .. })));
        let commit = carry(Packet::Commit(zxid));
        assert!(matches!(FromLearner::read(commit), Err(PacketError::WrongSide { .. })));
        let bare = QuorumPacket::bare(PacketType::REVALIDATE, zxid);
        assert!(matches!(FromLeader::read(bare), Err(PacketError::NoData { .. })));
        let reconfig = QuorumPacket::bare(PacketType::COMMIT_AND_ACTIVATE, zxid);
        assert!(matches!(FromLeader::read(reconfig), Err(PacketError::WrongSide { .. })));
    }
}
