//! What a link has yet to send: packets, many of them in one piece, and between them snapshots that
//! another thread makes.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use super::link_stream::{Next, Outgoing};
use crate::jute::quorum::QuorumPacket;
use crate::limits::LINK_BYTES_WAITING_MAX;

/// A piece takes no more packets when it is as long as this, bytes: what has been sent of it is
/// given back only with all of it.
const PIECE_BYTES: usize = 256 << 10;

/// In the order in which it leaves.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    parts: VecDeque<Part>,
    /// Bytes of the first piece that have left.
    sent: usize,
    /// Bytes of packets that wait.
    waiting: usize,
}

#[derive(Debug)]
enum Part {
    Piece(Vec<u8>),
    Stream { outgoing: Outgoing, chunk: Vec<u8> },
}

/// A snapshot cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamBroken;

impl Unsent {
    /// Adds a packet. False, and it is not added, when too much waits.
    pub fn push(&mut self, packet: &QuorumPacket) -> bool {
        let data = packet.data.as_ref().map_or(0, |data| data.len());
        if self.waiting + data > LINK_BYTES_WAITING_MAX {
            return false;
        }
        if !matches!(self.parts.back(), Some(Part::Piece(piece)) if piece.len() < PIECE_BYTES) {
            self.parts.push_back(Part::Piece(Vec::new()));
        }
        let Some(Part::Piece(piece)) = self.parts.back_mut() else { unreachable!("just added") };
        let before = piece.len();
        packet.encode(piece);
        self.waiting += piece.len() - before;
        true
    }

    /// Adds a snapshot, behind all that was added before.
    pub fn push_stream(&mut self, outgoing: Outgoing) {
        self.parts.push_back(Part::Stream { outgoing, chunk: Vec::new() });
    }

    /// What is to be sent next; empty: nothing. Pending: a snapshot is not there yet.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<&[u8], StreamBroken>> {
        loop {
            match self.parts.front_mut() {
                None => return Poll::Ready(Ok(&[])),
                Some(Part::Piece(piece)) => {
                    if self.sent < piece.len() {
                        break;
                    }
                }
                Some(Part::Stream { outgoing, chunk }) => {
                    if self.sent < chunk.len() {
                        break;
                    }
                    match ready!(outgoing.poll_next(context)) {
                        Next::Chunk(next) => {
                            *chunk = next;
                            self.sent = 0;
                            continue;
                        }
                        Next::Over => {}
                        Next::Broken => return Poll::Ready(Err(StreamBroken)),
                    }
                }
            }
            self.parts.pop_front();
            self.sent = 0;
        }
        match self.parts.front() {
            Some(Part::Piece(bytes) | Part::Stream { chunk: bytes, .. }) => {
                Poll::Ready(Ok(&bytes[self.sent..]))
            }
            None => Poll::Ready(Ok(&[])),
        }
    }

    /// So many of the bytes that `poll_next` gave have left.
    pub fn consume(&mut self, bytes: usize) {
        self.sent += bytes;
        if let Some(Part::Piece(_)) = self.parts.front() {
            self.waiting -= bytes;
        }
    }

    /// Bytes of packets that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::link_stream::outgoing;
    use super::*;
    use crate::ids::Zxid;
    use crate::jute::quorum::PacketType;

    fn packet(number: i64) -> QuorumPacket {
        QuorumPacket::bare(PacketType::COMMIT, Zxid::from_bits(number))
    }

    fn bytes(numbers: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|&number| packet(number).encode(&mut bytes));
        bytes
    }

    fn next(unsent: &mut Unsent) -> Poll<Result<Vec<u8>, StreamBroken>> {
        let mut context = Context::from_waker(Waker::noop());
        unsent.poll_next(&mut context).map(|next| next.map(<[u8]>::to_vec))
    }

    fn ready(bytes: &[u8]) -> Poll<Result<Vec<u8>, StreamBroken>> {
        Poll::Ready(Ok(bytes.to_vec()))
    }

    #[test]
    fn packets_leave_together_and_in_part() {
        let mut unsent = Unsent::default();
        assert_eq!(next(&mut unsent), ready(&[]));
        assert!(unsent.push(&packet(1)) && unsent.push(&packet(2)));
        assert_eq!(next(&mut unsent), ready(&bytes(&[1, 2])));
        unsent.consume(25);
        unsent.push(&packet(3));
        assert_eq!(next(&mut unsent), ready(&bytes(&[1, 2, 3])[25..]));
        assert_eq!(unsent.waiting(), 35);
        unsent.consume(35);
        assert_eq!((next(&mut unsent), unsent.waiting()), (ready(&[]), 0));
    }

    #[test]
    fn a_snapshot_leaves_between_the_packets_before_and_behind_it() {
        let mut unsent = Unsent::default();
        let (thread, link) = outgoing();
        unsent.push(&packet(1));
        unsent.push_stream(link);
        unsent.push(&packet(2));
        assert_eq!(next(&mut unsent), ready(&bytes(&[1])));
        unsent.consume(20);
        assert!(next(&mut unsent).is_pending());
        thread.send(b"snap".to_vec()).unwrap();
        assert_eq!(next(&mut unsent), ready(b"snap"));
        unsent.consume(3);
        assert_eq!(next(&mut unsent), ready(b"p"));
        unsent.consume(1);
        thread.send(b"shot".to_vec()).unwrap();
        thread.finish();
        assert_eq!(next(&mut unsent), ready(b"shot"));
        unsent.consume(4);
        assert_eq!(next(&mut unsent), ready(&bytes(&[2])));
    }

    #[test]
    fn a_broken_snapshot_lets_nothing_behind_it_leave() {
        let mut unsent = Unsent::default();
        let (thread, link) = outgoing();
        unsent.push_stream(link);
        unsent.push(&packet(1));
        drop(thread);
        assert_eq!(next(&mut unsent), Poll::Ready(Err(StreamBroken)));
    }

    #[test]
    fn a_link_refuses_what_exceeds_its_bound() {
        let mut unsent = Unsent::default();
        let large = vec![0; 60 << 20];
        let large = QuorumPacket::with_data(PacketType::PROPOSAL, Zxid::ZERO, large);
        let pushed = (0..100).take_while(|_| unsent.push(&large)).count();
        assert_eq!(pushed, LINK_BYTES_WAITING_MAX / (60 << 20));
        assert!(unsent.waiting() <= LINK_BYTES_WAITING_MAX);
    }
}
