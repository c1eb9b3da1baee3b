//! The quorum port, on the consensus core's executor: as a leader, a listener that learners connect
//! to; as a learner, the connection to the leader; and what goes over them.
//!
//! Nothing here happens by itself: `poll` sends, receives, accepts and connects, and tells what
//! came of it. So the loop that owns the links sends everything that one of its turns has to say in
//! one write a link, and a link is not read while it has something else to do.
//!
//! Every learner has a bound: of packets that wait for it (then it is closed), of bytes of a packet
//! that has not come completely, of how long it may be silent.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::address::PeerAddress;
use super::link::{Link, LinkLoss};
use super::link_dial::{DialError, DialSettings, dial};
use super::link_stream::{IncomingStream, OutgoingStream};
use crate::jute::quorum::QuorumPacket;
use crate::limits::LINKS_MAX;
use crate::rt::clock;
use crate::rt::task::{Spawned, spawn};
use crate::rt::tcp::{Listener, Stream};
use crate::rt::timer::Sleep;
use crate::zab::step::LinkId;

/// Bytes that one read of a link takes at most.
const READ_BYTES: usize = 256 << 10;

/// How long to accept nobody when the system lets us accept nobody (no file descriptor is left).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Something that happened at the quorum port.
#[derive(Debug)]
pub enum LinkEvent {
    /// A link has come to be: to the leader that was dialed, or from a learner.
    Linked { link: LinkId, peer: SocketAddr, dialed: bool },
    /// These have come, in this order. Behind a SNAP packet, which is the last of its event, the
    /// link waits for `receive_stream`.
    Packets(LinkId, Vec<QuorumPacket>),
    /// The link is gone.
    Lost(LinkId, LinkLoss),
    /// The leader that was dialed was not reached.
    Unreachable(DialError),
}

/// The links of one server.
pub struct Links {
    links: BTreeMap<LinkId, Link>,
    next: u64,
    /// Of a link that has just come to be.
    patience: Duration,
    listeners: Vec<Listener>,
    accept_retry: Option<Sleep>,
    dialing: Option<Spawned<Result<Stream, DialError>>>,
    events: VecDeque<LinkEvent>,
    scratch: Vec<u8>,
    /// Wakes at the first deadline of a link, or before it.
    alarm: Option<(u64, Sleep)>,
}

impl Links {
    /// No links, on the executor of this thread. A link whose peer says nothing for `patience` is
    /// lost, unless told otherwise.
    pub fn new(patience: Duration) -> Links {
        Links {
            links: BTreeMap::new(),
            next: 0,
            patience,
            listeners: Vec::new(),
            accept_retry: None,
            dialing: None,
            events: VecDeque::new(),
            scratch: vec![0; READ_BYTES],
            alarm: None,
        }
    }

    /// Accepts learners on these listeners (see `rt::net::listen`) from now on, beside those that
    /// it has.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn listen(&mut self, listeners: Vec<TcpListener>) -> io::Result<()> {
        for listener in listeners {
            self.listeners.push(Listener::new(listener)?);
        }
        Ok(())
    }

    /// Accepts nobody any more, and gives the addresses free. The links stay.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
        self.accept_retry = None;
    }

    /// Connects to a leader, instead of one that is being dialed: `Linked` tells of it, or
    /// `Unreachable`.
    pub fn dial(&mut self, leader: Vec<PeerAddress>, settings: DialSettings) {
        self.dialing = Some(spawn(dial(leader, settings)));
    }

    /// Dials nobody any more.
    pub fn stop_dialing(&mut self) {
        self.dialing = None;
    }

    /// Sends a packet with the next `poll`. To a link that is gone: nothing happens, `Lost` tells.
    pub fn send(&mut self, link: LinkId, packet: &QuorumPacket) {
        if let Some(link) = self.links.get_mut(&link) {
            link.send(packet);
        }
    }

    /// Sends a snapshot, which another thread makes, behind what was sent before. `None`: the link
    /// is gone.
    pub fn send_stream(&mut self, link: LinkId) -> Option<OutgoingStream> {
        self.links.get_mut(&link).map(Link::send_stream)
    }

    /// Receives the snapshot behind the SNAP packet that came last, for another thread. `None`: the
    /// link is gone.
    ///
    /// # Panics
    /// When the last packet was no SNAP.
    pub fn receive_stream(&mut self, link: LinkId) -> Option<IncomingStream> {
        let now_ms = clock::monotonic_ms();
        self.links.get_mut(&link).map(|link| link.receive_stream(now_ms))
    }

    /// Stops reading packets from a link, so that its peer's TCP is held up. What was read already
    /// comes with `resume`, but for an event that waits. Meanwhile nobody notices that the peer has
    /// closed, unless something is sent. A snapshot holds its peer up by itself.
    pub fn pause(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.pause();
        }
    }

    /// Reads again.
    pub fn resume(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.resume(clock::monotonic_ms());
        }
    }

    /// How long the peer may be silent from now on, also while it sends a snapshot. While it is not
    /// read it is not silent.
    pub fn set_patience(&mut self, link: LinkId, patience: Duration) {
        if let Some(link) = self.links.get_mut(&link) {
            link.patience = patience;
        }
    }

    /// Bytes of packets that wait for the peer to receive them.
    pub fn waiting(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, Link::waiting)
    }

    /// The other side's address.
    pub fn peer(&self, link: LinkId) -> Option<SocketAddr> {
        self.links.get(&link).map(|link| link.peer)
    }

    /// Closes a link at once, without an event. What waits to be sent is lost.
    pub fn close(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.events.retain(|event| match event {
            LinkEvent::Linked { link: of, .. }
            | LinkEvent::Packets(of, _)
            | LinkEvent::Lost(of, _) => *of != link,
            LinkEvent::Unreachable(_) => true,
        });
    }

    /// Sends what waits, receives, accepts and connects; ready with what came of it. Poll until it
    /// is pending before going to sleep.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<LinkEvent> {
        if self.events.is_empty() {
            self.poll_dialing(context);
            self.poll_accept(context);
            self.poll_links(context);
        }
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }

    fn poll_dialing(&mut self, context: &mut Context<'_>) {
        let Some(dialing) = &mut self.dialing else { return };
        let Poll::Ready(dialed) = Pin::new(dialing).poll(context) else { return };
        self.dialing = None;
        match dialed {
            Ok(stream) => {
                if let Err(error) = self.add(stream, true) {
                    // It was gone before it was here; the address is not known any more.
                    tracing::warn!("the leader has closed its link at once: {error}");
                    self.events.push_back(LinkEvent::Unreachable(DialError::Nowhere));
                }
            }
            Err(error) => self.events.push_back(LinkEvent::Unreachable(error)),
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) {
        if let Some(retry) = &mut self.accept_retry {
            if Pin::new(retry).poll(context).is_pending() {
                return;
            }
            self.accept_retry = None;
        }
        for at in 0..self.listeners.len() {
            while let Poll::Ready(accepted) = self.listeners[at].poll_accept(context) {
                let taken = match accepted {
                    Ok(_) if self.links.len() >= LINKS_MAX => {
                        tracing::warn!("refused on the quorum port: {LINKS_MAX} links are open");
                        Ok(())
                    }
                    Ok(stream) => self.add(stream, false),
                    Err(error) => Err(error),
                };
                if let Err(error) = taken {
                    tracing::warn!("the quorum port cannot accept: {error}");
                    self.accept_retry = Some(Sleep::new(ACCEPT_RETRY));
                    context.waker().wake_by_ref();
                    return;
                }
            }
        }
    }

    fn add(&mut self, stream: Stream, dialed: bool) -> io::Result<()> {
        let added = Link::new(stream, self.patience, clock::monotonic_ms())?;
        let (link, peer) = (LinkId(self.next), added.peer);
        self.next += 1;
        self.links.insert(link, added);
        self.events.push_back(LinkEvent::Linked { link, peer, dialed });
        Ok(())
    }

    fn poll_links(&mut self, context: &mut Context<'_>) {
        if self.links.is_empty() {
            return;
        }
        let now_ms = clock::monotonic_ms();
        let mut lost = Vec::new();
        for (&id, link) in &mut self.links {
            // In this order: what a peer has said before it closed is not lost because nobody takes
            // what it is told.
            let received = link.poll_receive(context, &mut self.scratch, now_ms);
            let ended = match received {
                Poll::Ready(Err(loss)) => Some(loss),
                Poll::Ready(Ok(packets)) => {
                    self.events.push_back(LinkEvent::Packets(id, packets));
                    link.poll_send(context).err()
                }
                Poll::Pending => link.poll_send(context).err(),
            };
            let ended = ended.or_else(|| {
                let late = link.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms);
                late.then_some(LinkLoss::Silent(link.patience))
            });
            if let Some(loss) = ended {
                lost.push((id, loss));
            }
        }
        for (id, loss) in lost {
            if let Some(link) = self.links.remove(&id) {
                tracing::info!(peer = %link.peer, "link lost: {loss}");
            }
            self.events.push_back(LinkEvent::Lost(id, loss));
        }
        self.set_alarm(context, now_ms);
    }

    /// Sees to it that somebody polls when the first link has been silent for too long. A deadline
    /// moves with all that is heard; the alarm is moved when it rings.
    fn set_alarm(&mut self, context: &mut Context<'_>, now_ms: u64) {
        let deadlines = self.links.values().filter_map(Link::deadline_ms);
        let Some(first_ms) = deadlines.min() else {
            self.alarm = None;
            return;
        };
        if let Some((due_ms, sleep)) = &mut self.alarm
            && *due_ms <= first_ms
            && Pin::new(sleep).poll(context).is_pending()
        {
            return;
        }
        let due_ms = first_ms.max(now_ms + 1);
        let mut sleep = Sleep::new(Duration::from_millis(due_ms - now_ms));
        if Pin::new(&mut sleep).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.alarm = Some((due_ms, sleep));
    }
}
