//! What servers say to each other on the quorum port: packets, one behind the other, without a
//! length in front. Read and written by the links of `consensus`.
//!
//! [`QuorumPacket`] is the envelope as it travels (zookeeper-formats 4.1); the bodies that are
//! records of their own have a type here, too.

use bytes::Bytes;

use crate::ids::{Epoch, ServerId, SessionId, Zxid};
use crate::limits::{QUORUM_PACKET_BYTES_MAX, QUORUM_PACKET_IDS_MAX};

use super::decode::{Cursor, DecodeError};
use super::records::Id;

/// The kind of a packet, as it travels. Unknown numbers are kept: whoever reads them decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketType(pub i32);

impl PacketType {
    pub const REQUEST: PacketType = PacketType(1);
    pub const PROPOSAL: PacketType = PacketType(2);
    pub const ACK: PacketType = PacketType(3);
    pub const COMMIT: PacketType = PacketType(4);
    pub const PING: PacketType = PacketType(5);
    pub const REVALIDATE: PacketType = PacketType(6);
    pub const SYNC: PacketType = PacketType(7);
    pub const INFORM: PacketType = PacketType(8);
    pub const COMMIT_AND_ACTIVATE: PacketType = PacketType(9);
    pub const NEW_LEADER: PacketType = PacketType(10);
    pub const FOLLOWER_INFO: PacketType = PacketType(11);
    pub const UP_TO_DATE: PacketType = PacketType(12);
    pub const DIFF: PacketType = PacketType(13);
    pub const TRUNC: PacketType = PacketType(14);
    pub const SNAP: PacketType = PacketType(15);
    pub const OBSERVER_INFO: PacketType = PacketType(16);
    pub const LEADER_INFO: PacketType = PacketType(17);
    pub const ACK_EPOCH: PacketType = PacketType(18);
    pub const INFORM_AND_ACTIVATE: PacketType = PacketType(19);
}

/// The version of the protocol in LEADERINFO and [`LearnerInfo`]. Below it there is no handshake
/// over epochs (releases before 3.4).
pub const PROTOCOL_VERSION: i32 = 0x1_0000;

/// Bytes of a packet without data and ids.
const PACKET_BYTES_MIN: usize = 20;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumPacket {
    pub kind: PacketType,
    pub zxid: Zxid,
    /// Null is distinct from empty.
    pub data: Option<Bytes>,
    /// Who a request comes from; null in every other packet.
    pub ids: Option<Vec<Id>>,
}

impl QuorumPacket {
    /// A packet that is all header.
    pub fn bare(kind: PacketType, zxid: Zxid) -> QuorumPacket {
        QuorumPacket { kind, zxid, data: None, ids: None }
    }

    /// A packet with data and no ids.
    pub fn with_data(kind: PacketType, zxid: Zxid, data: impl Into<Bytes>) -> QuorumPacket {
        QuorumPacket { kind, zxid, data: Some(data.into()), ids: None }
    }

    /// Takes the packet at the start of `bytes`; returns it and its length. `None`: not all of it
    /// is there.
    ///
    /// # Errors
    /// When it cannot be a packet, however many bytes follow: a length that no server sends
    /// (`QUORUM_PACKET_BYTES_MAX`, `QUORUM_PACKET_IDS_MAX`), or ids that are not UTF-8.
    pub fn decode(bytes: &Bytes) -> Result<Option<(QuorumPacket, usize)>, DecodeError> {
        let mut cursor = Cursor::with_limit(bytes, QUORUM_PACKET_BYTES_MAX);
        match QuorumPacket::take(&mut cursor, bytes) {
            Ok(packet) => Ok(Some((packet, bytes.len() - cursor.rest().len()))),
            Err(DecodeError::PastEnd { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The kind and the length of the packet at the start of `bytes`, without taking anything out of
    /// it; `None`: not all of it is there.
    ///
    /// # Errors
    /// As `decode`, but for ids that are not text.
    pub fn measure(bytes: &[u8]) -> Result<Option<(PacketType, usize)>, DecodeError> {
        let mut cursor = Cursor::with_limit(bytes, QUORUM_PACKET_BYTES_MAX);
        match QuorumPacket::pass(&mut cursor) {
            Ok(kind) => Ok(Some((kind, cursor.at()))),
            Err(DecodeError::PastEnd { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pass(cursor: &mut Cursor<'_>) -> Result<PacketType, DecodeError> {
        let kind = PacketType(cursor.int("type")?);
        cursor.long("zxid")?;
        cursor.buffer("data")?;
        for _ in 0..id_count(cursor.int("authinfo")?, cursor.at())? {
            cursor.buffer("scheme")?;
            cursor.buffer("id")?;
        }
        Ok(kind)
    }

    fn take(cursor: &mut Cursor<'_>, bytes: &Bytes) -> Result<QuorumPacket, DecodeError> {
        let kind = PacketType(cursor.int("type")?);
        let zxid = Zxid::from_bits(cursor.long("zxid")?);
        let data = cursor.buffer("data")?.map(|data| bytes.slice_ref(data));
        let count = cursor.int("authinfo")?;
        let ids = match count {
            -1 => None,
            _ => Some(take_ids(cursor, count)?),
        };
        Ok(QuorumPacket { kind, zxid, data, ids })
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(PACKET_BYTES_MIN + self.data.as_ref().map_or(0, Bytes::len));
        out.extend_from_slice(&self.kind.0.to_be_bytes());
        out.extend_from_slice(&self.zxid.bits().to_be_bytes());
        match &self.data {
            Some(data) => put_buffer(out, data),
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
        match &self.ids {
            Some(ids) => {
                out.extend_from_slice(&length(ids.len()).to_be_bytes());
                for id in ids {
                    put_buffer(out, id.scheme.as_bytes());
                    put_buffer(out, id.id.as_bytes());
                }
            }
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
}

/// A negative count reads as an empty vector, as in ZooKeeper.
fn id_count(count: i32, at: usize) -> Result<usize, DecodeError> {
    let count = usize::try_from(count).unwrap_or(0);
    if count > QUORUM_PACKET_IDS_MAX {
        let (field, limit) = ("authinfo", QUORUM_PACKET_IDS_MAX);
        return Err(DecodeError::Unreasonable { field, at, length: count, limit });
    }
    Ok(count)
}

fn take_ids(cursor: &mut Cursor<'_>, count: i32) -> Result<Vec<Id>, DecodeError> {
    let mut ids = Vec::new();
    for _ in 0..id_count(count, cursor.at())? {
        let scheme = cursor.text("scheme")?.into_owned();
        let id = cursor.text("id")?.into_owned();
        ids.push(Id { scheme, id });
    }
    Ok(ids)
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a packet's parts are far shorter")
}

fn put_buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// What a learner says about itself in FOLLOWERINFO and OBSERVERINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerInfo {
    /// `None`: an ancient learner that does not say.
    pub server: Option<ServerId>,
    pub protocol_version: i32,
    /// The version of the configuration that it has activated; 0 if it does not say.
    pub config_version: i64,
}

impl LearnerInfo {
    /// Reads the data of the packet: 8, 12 or 20 bytes, or none.
    ///
    /// # Errors
    /// For any other length below 20.
    pub fn decode(data: &[u8]) -> Result<LearnerInfo, DecodeError> {
        let mut cursor = Cursor::new(data);
        let mut info = LearnerInfo { server: None, protocol_version: 1, config_version: 0 };
        if data.is_empty() {
            return Ok(info);
        }
        info.server = Some(ServerId::new(cursor.long("serverid")?));
        if !cursor.rest().is_empty() {
            info.protocol_version = cursor.int("protocolVersion")?;
        }
        if !cursor.rest().is_empty() {
            info.config_version = cursor.long("configVersion")?;
        }
        Ok(info)
    }

    /// The data of the packet.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(20);
        let server = self.server.map_or(0, ServerId::number);
        out.extend_from_slice(&server.to_be_bytes());
        out.extend_from_slice(&self.protocol_version.to_be_bytes());
        out.extend_from_slice(&self.config_version.to_be_bytes());
        out.into()
    }
}

/// A write, or a sync, that a learner forwards: the data of a REQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    pub session: SessionId,
    pub cxid: i32,
    /// An operation's number.
    pub op: i32,
    /// The record as the client sent it.
    pub body: Bytes,
}

impl ForwardedRequest {
    /// Reads the data of the packet.
    ///
    /// # Errors
    /// When it is shorter than its header.
    pub fn decode(data: &Bytes) -> Result<ForwardedRequest, DecodeError> {
        let mut cursor = Cursor::new(data);
        Ok(ForwardedRequest {
            session: SessionId::from_bits(cursor.long("sessionId")?),
            cxid: cursor.int("cxid")?,
            op: cursor.int("type")?,
            body: data.slice_ref(cursor.rest()),
        })
    }

    /// The data of the packet.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + self.body.len());
        out.extend_from_slice(&self.session.bits().to_be_bytes());
        out.extend_from_slice(&self.cxid.to_be_bytes());
        out.extend_from_slice(&self.op.to_be_bytes());
        out.extend_from_slice(&self.body);
        out.into()
    }
}

/// The epoch in the data of an ACKEPOCH; `None` is -1: this server has answered that epoch before.
pub fn decode_ack_epoch(data: &[u8]) -> Result<Option<Epoch>, DecodeError> {
    let current = Cursor::new(data).int("currentEpoch")?;
    Ok((current != -1).then(|| Epoch::new(current as u32)))
}

/// The data of an ACKEPOCH.
pub fn encode_ack_epoch(current: Option<Epoch>) -> Bytes {
    let current = current.map_or(-1, |epoch| epoch.number() as i32);
    Bytes::copy_from_slice(&current.to_be_bytes())
}

/// The sessions that a learner was in touch with since its last answer to a PING, and their
/// timeouts in milliseconds.
///
/// # Errors
/// When the data ends within an entry.
pub fn decode_touched(data: &[u8]) -> Result<Vec<(SessionId, i32)>, DecodeError> {
    let mut cursor = Cursor::new(data);
    let mut touched = Vec::with_capacity(data.len() / 12);
    while !cursor.rest().is_empty() {
        let session = SessionId::from_bits(cursor.long("sessionId")?);
        touched.push((session, cursor.int("timeout")?));
    }
    Ok(touched)
}

/// The data of a learner's answer to a PING.
pub fn encode_touched(touched: impl Iterator<Item = (SessionId, i32)>) -> Bytes {
    let mut out = Vec::new();
    for (session, timeout_ms) in touched {
        out.extend_from_slice(&session.bits().to_be_bytes());
        out.extend_from_slice(&timeout_ms.to_be_bytes());
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> QuorumPacket {
        let id = |scheme: &str, id: &str| Id { scheme: scheme.to_owned(), id: id.to_owned() };
        QuorumPacket {
            kind: PacketType::REQUEST,
            zxid: Zxid::from_bits(-1),
            data: Some(Bytes::from_static(b"body")),
            ids: Some(vec![id("ip", "10.0.0.1"), id("digest", "u:x")]),
        }
    }

    #[test]
    fn a_packet_is_taken_when_its_last_byte_is_there() {
        let mut bytes = Vec::new();
        packet().encode(&mut bytes);
        let whole = bytes.len();
        QuorumPacket::bare(PacketType::SYNC, Zxid::ZERO).encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        for end in 0..whole {
            assert_eq!(QuorumPacket::decode(&bytes.slice(..end)), Ok(None), "{end} bytes");
            assert_eq!(QuorumPacket::measure(&bytes[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(QuorumPacket::measure(&bytes), Ok(Some((PacketType::REQUEST, whole))));
        assert_eq!(QuorumPacket::decode(&bytes), Ok(Some((packet(), whole))));
        let next = QuorumPacket::decode(&bytes.slice(whole..)).unwrap().unwrap();
        assert_eq!((next.0.kind, next.1), (PacketType::SYNC, PACKET_BYTES_MIN));
    }

    #[test]
    fn lengths_that_no_server_sends_are_refused_before_the_bytes_have_come() {
        let mut bytes = [0; PACKET_BYTES_MIN];
        bytes[12..16].copy_from_slice(&(QUORUM_PACKET_BYTES_MAX as i32 + 1).to_be_bytes());
        let refused = QuorumPacket::decode(&Bytes::copy_from_slice(&bytes));
        assert!(matches!(refused, Err(DecodeError::Unreasonable { field: "data", .. })));
        bytes[12..16].copy_from_slice(&[0xff; 4]);
        bytes[16..].copy_from_slice(&(QUORUM_PACKET_IDS_MAX as i32 + 1).to_be_bytes());
        let refused = QuorumPacket::decode(&Bytes::copy_from_slice(&bytes));
        assert!(matches!(refused, Err(DecodeError::Unreasonable { field: "authinfo", .. })));
    }

    #[test]
    fn learners_of_every_age_introduce_themselves() {
        let info = LearnerInfo {
            server: Some(ServerId::new(3)),
            protocol_version: PROTOCOL_VERSION,
            config_version: 0x1_0000_0000,
        };
        let bytes = info.to_bytes();
        assert_eq!(LearnerInfo::decode(&bytes), Ok(info));
        assert_eq!(LearnerInfo::decode(&bytes[..12]).unwrap().config_version, 0);
        assert_eq!(LearnerInfo::decode(&bytes[..8]).unwrap().protocol_version, 1);
        assert_eq!(LearnerInfo::decode(&[]).unwrap().server, None);
        assert!(LearnerInfo::decode(&bytes[..10]).is_err());
    }
}
