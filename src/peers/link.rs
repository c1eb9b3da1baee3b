//! One connection of the quorum port: packets in and out, and snapshots between them. Owned and
//! polled by `links`.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;

use super::link_received::{PacketFault, Received};
use super::link_stream::{self, Incoming, IncomingStream, OutgoingStream, Progress};
use super::link_unsent::Unsent;
use crate::jute::quorum::QuorumPacket;
use crate::limits::LINK_BYTES_WAITING_MAX;
use crate::rt::tcp::Stream;

/// Writes of one poll. A snapshot that is made as fast as it is sent would never let go.
const WRITES_PER_POLL: usize = 16;

/// Why a link is gone.
#[derive(Debug, Error)]
pub enum LinkLoss {
    #[error("the peer has closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Packet(#[from] PacketFault),
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("more than {LINK_BYTES_WAITING_MAX} bytes wait for the peer to receive them")]
    Slow,
    #[error("the snapshot that was being sent cannot be completed")]
    SnapshotBroken,
    #[error("the snapshot that was being received is of no use")]
    SnapshotRefused,
}

/// The connection, and what is on its way in both directions.
pub(super) struct Link {
    stream: Stream,
    pub peer: SocketAddr,
    unsent: Unsent,
    received: Received,
    incoming: Option<Incoming>,
    paused: bool,
    /// How long it may be silent, and since when it is. A link that is not read is not silent, nor
    /// is one whose snapshot is taken slowly.
    pub patience: Duration,
    heard_ms: u64,
    /// Too much was to be sent.
    overflown: bool,
}

impl Link {
    pub fn new(stream: Stream, patience: Duration, now_ms: u64) -> io::Result<Link> {
        Ok(Link {
            peer: stream.peer()?,
            stream,
            unsent: Unsent::default(),
            received: Received::default(),
            incoming: None,
            paused: false,
            patience,
            heard_ms: now_ms,
            overflown: false,
        })
    }

    pub fn send(&mut self, packet: &QuorumPacket) {
        self.overflown |= !self.unsent.push(packet);
    }

    pub fn send_stream(&mut self) -> OutgoingStream {
        let (thread, link) = link_stream::outgoing();
        self.unsent.push_stream(link);
        thread
    }

    pub fn receive_stream(&mut self, now_ms: u64) -> IncomingStream {
        assert!(self.incoming.is_none(), "a snapshot is received already");
        self.heard_ms = now_ms;
        let (thread, link) = link_stream::incoming(self.received.take_rest());
        self.incoming = Some(link);
        thread
    }

    pub fn pause(&mut self) {
        self.paused = true;
    }

    pub fn resume(&mut self, now_ms: u64) {
        if std::mem::take(&mut self.paused) {
            self.heard_ms = now_ms;
        }
    }

    pub fn waiting(&self) -> usize {
        self.unsent.waiting()
    }

    /// When the peer's silence has lasted too long, milliseconds; `None` while it is not read.
    pub fn deadline_ms(&self) -> Option<u64> {
        let patience_ms = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        let reads = self.incoming.is_some() || self.reads_packets();
        reads.then(|| self.heard_ms.saturating_add(patience_ms))
    }

    fn reads_packets(&self) -> bool {
        !self.paused && !self.received.is_behind_snap()
    }

    /// Sends what can be sent.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), LinkLoss> {
        if self.overflown {
            return Err(LinkLoss::Slow);
        }
        for _ in 0..WRITES_PER_POLL {
            let next = match self.unsent.poll_next(context) {
                Poll::Pending | Poll::Ready(Ok([])) => return Ok(()),
                Poll::Ready(Ok(next)) => next,
                Poll::Ready(Err(_)) => return Err(LinkLoss::SnapshotBroken),
            };
            match self.stream.poll_write(context, next) {
                Poll::Ready(sent) => self.unsent.consume(sent?),
                Poll::Pending => return Ok(()),
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Receives once; ready when there are packets. `scratch` is where the kernel puts the bytes.
    pub fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        now_ms: u64,
    ) -> Poll<Result<Vec<QuorumPacket>, LinkLoss>> {
        if let Some(incoming) = &self.incoming {
            match incoming.poll_progress(context) {
                Poll::Pending => {
                    self.heard_ms = now_ms;
                    return Poll::Pending;
                }
                Poll::Ready(Progress::Room) => {}
                Poll::Ready(Progress::GivenUp) => {
                    return Poll::Ready(Err(LinkLoss::SnapshotRefused));
                }
                Poll::Ready(Progress::Over(rest)) => {
                    self.incoming = None;
                    self.received.resume(rest);
                    self.heard_ms = now_ms;
                }
            }
        }
        if self.incoming.is_none() {
            if !self.reads_packets() {
                return Poll::Pending;
            }
            // What came while it was paused, or behind a snapshot.
            let packets = self.received.take()?;
            if !packets.is_empty() {
                return Poll::Ready(Ok(packets));
            }
        }
        match self.stream.poll_read(context, scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkLoss::Closed)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(length)) => {
                self.heard_ms = now_ms;
                match &self.incoming {
                    Some(incoming) => incoming.push(&scratch[..length]),
                    None => self.received.push(&scratch[..length]),
                }
            }
        }
        if self.incoming.is_none() {
            let packets = self.received.take()?;
            if !packets.is_empty() {
                return Poll::Ready(Ok(packets));
            }
        }
        // There may be more: whoever polls comes again.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
