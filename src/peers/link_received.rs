//! Packets out of the bytes of a link, in whatever pieces they come. Behind a SNAP packet comes a
//! snapshot, not packets: decoding stops there until it is told that the snapshot is over.

use bytes::Bytes;
use thiserror::Error;

use crate::jute::decode::DecodeError;
use crate::jute::quorum::{PacketType, QuorumPacket};
use crate::limits::LINK_PACKET_BYTES_MAX;

/// A buffer that a large packet has left larger than this is given back, bytes.
const KEPT_BYTES: usize = 1 << 20;

/// What is wrong with a peer's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PacketFault {
    #[error("a packet that cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    #[error("a packet of more than {LINK_PACKET_BYTES_MAX} bytes")]
    TooLong,
}

/// Bytes that have come and are not packets yet.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    /// The last packet was a SNAP.
    behind_snap: bool,
}

impl Received {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a snapshot comes next.
    pub fn is_behind_snap(&self) -> bool {
        self.behind_snap
    }

    /// The first bytes of the snapshot, if some have come.
    pub fn take_rest(&mut self) -> Vec<u8> {
        assert!(self.behind_snap, "bytes are taken where packets are expected");
        std::mem::take(&mut self.bytes)
    }

    /// The snapshot is over; `rest` has come behind it.
    pub fn resume(&mut self, rest: Vec<u8>) {
        assert!(self.behind_snap && self.bytes.is_empty(), "a snapshot is over that was none");
        self.behind_snap = false;
        self.bytes = rest;
    }

    /// Takes every packet that is there, to the first SNAP.
    pub fn take(&mut self) -> Result<Vec<QuorumPacket>, PacketFault> {
        let mut whole = 0;
        while !self.behind_snap
            && let Some((kind, length)) = QuorumPacket::measure(&self.bytes[whole..])?
        {
            if length > LINK_PACKET_BYTES_MAX {
                return Err(PacketFault::TooLong);
            }
            whole += length;
            self.behind_snap = kind == PacketType::SNAP;
        }
        if !self.behind_snap && self.bytes.len() - whole > LINK_PACKET_BYTES_MAX {
            return Err(PacketFault::TooLong);
        }
        if whole == 0 {
            return Ok(Vec::new());
        }
        // A copy of just this size: who keeps a packet's data keeps no receive buffer with it.
        let mut bytes = Bytes::copy_from_slice(&self.bytes[..whole]);
        self.bytes.drain(..whole);
        if self.bytes.capacity() > KEPT_BYTES && self.bytes.len() < KEPT_BYTES / 2 {
            self.bytes.shrink_to(KEPT_BYTES / 2);
        }
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            let decoded = QuorumPacket::decode(&bytes)?;
            let (packet, length) = decoded.expect("what was measured is whole");
            packets.push(packet);
            bytes = bytes.slice(length..);
        }
        Ok(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Zxid;
    use crate::limits::QUORUM_PACKET_BYTES_MAX;

    fn packet(kind: PacketType, counter: i64) -> QuorumPacket {
        QuorumPacket::with_data(kind, Zxid::from_bits(counter), vec![7; counter as usize])
    }

    fn bytes(packets: &[QuorumPacket]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(&mut bytes));
        bytes
    }

    #[test]
    fn packets_are_the_same_in_whatever_pieces_they_come() {
        let sent: Vec<_> = (0..20).map(|n| packet(PacketType::PROPOSAL, n)).collect();
        for piece in [1, 7, 100, 10_000] {
            let mut received = Received::default();
            let mut taken = Vec::new();
            for piece in bytes(&sent).chunks(piece) {
                received.push(piece);
                taken.extend(received.take().unwrap());
            }
            assert_eq!(taken, sent);
        }
    }

    #[test]
    fn behind_a_snap_there_are_no_packets_until_the_snapshot_is_over() {
        let snap = packet(PacketType::SNAP, 1);
        let after = packet(PacketType::COMMIT, 2);
        let mut received = Received::default();
        received.push(&bytes(std::slice::from_ref(&snap)));
        received.push(b"snapshot");
        received.push(&bytes(std::slice::from_ref(&after)));
        assert_eq!(received.take().unwrap(), [snap]);
        assert!(received.is_behind_snap());
        assert_eq!(received.take().unwrap(), []);
        let stream = received.take_rest();
        received.resume(stream[8..].to_vec());
        assert_eq!(received.take().unwrap(), [after]);
    }

    #[test]
    fn what_no_server_sends_is_refused_before_it_has_come() {
        let mut head = vec![0; 16];
        head[12..].copy_from_slice(&(QUORUM_PACKET_BYTES_MAX as i32 + 1).to_be_bytes());
        let mut received = Received::default();
        received.push(&head);
        assert!(matches!(received.take(), Err(PacketFault::Malformed(_))));
    }

    #[test]
    fn a_large_packet_leaves_no_large_buffer() {
        let large =
            QuorumPacket::with_data(PacketType::PROPOSAL, Zxid::ZERO, vec![0; 8 * KEPT_BYTES]);
        let mut received = Received::default();
        received.push(&bytes(&[large]));
        assert_eq!(received.take().unwrap().len(), 1);
        assert!(received.bytes.capacity() <= KEPT_BYTES);
    }
}
