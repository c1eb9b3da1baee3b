//! The sockets of one thread, under io_uring (the server's own driver) or, where that is not to be
//! had, under epoll: one interface for both. Used by `schedule` and `client`.
//!
//! A socket is known by its slot. Under io_uring the sends of a turn leave with the one system call
//! that also waits for replies, and receives need none; under epoll every send and every receive is
//! a call of its own.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use ringkeeper::rt::event::Event;
use ringkeeper::rt::net::{Patience, SocketEvent, Sockets as _};
use ringkeeper::rt::ring::{RingError, RingSockets, probe};

use crate::arguments::DriverChoice;
use crate::epoll_sockets::EpollSockets;
use crate::schedule::Clock;

/// Submissions that wait before the kernel must take them: the sends of so many connections share
/// one system call.
const RING_DEPTH: u32 = 1024;
/// The most buffers a driver keeps for the next sends, and the most bytes one may have.
pub const BUFFERS_KEPT_MAX: usize = 512;
pub const BUFFER_KEPT_BYTES_MAX: usize = 64 << 10;

/// What moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Ring,
    Epoll,
}

impl Driver {
    /// The driver for `choice` on this machine, and why it is not io_uring if that was to be
    /// preferred.
    ///
    /// # Errors
    /// When io_uring was asked for by name and cannot be had.
    pub fn choose(choice: DriverChoice) -> Result<(Driver, Option<RingError>), RingError> {
        match (choice, probe()) {
            (DriverChoice::Epoll, _) => Ok((Driver::Epoll, None)),
            (_, Ok(())) => Ok((Driver::Ring, None)),
            (DriverChoice::Auto, Err(error)) => Ok((Driver::Epoll, Some(error))),
            (DriverChoice::Ring, Err(error)) => Err(error),
        }
    }

    /// The name as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Ring => "ring",
            Driver::Epoll => "epoll",
        }
    }
}

/// What happened to a socket.
#[derive(Debug)]
pub enum Happening<'a> {
    /// These bytes came.
    Received(&'a [u8]),
    /// A send that had to wait for the peer is over.
    Sent,
    /// The peer has closed, or the connection has failed with this error. Nothing more comes.
    Ended(Option<io::Error>),
    /// It was closed; its slot is free.
    Gone,
}

/// All sockets of one thread.
pub enum Sockets {
    Ring(Box<Ring>),
    Epoll(EpollSockets),
}

/// The server's driver, with what it needs. Field order matters: it must go before its event.
pub struct Ring {
    sockets: RingSockets,
    events: Vec<SocketEvent>,
    /// Never rung: no other thread has anything for this one.
    _wake: Event,
}

impl Sockets {
    /// For the calling thread.
    ///
    /// # Errors
    /// When descriptors or locked memory are short.
    pub fn new(driver: Driver) -> io::Result<Sockets> {
        match driver {
            Driver::Epoll => EpollSockets::new().map(Sockets::Epoll),
            Driver::Ring => {
                let wake = Event::new()?;
                let sockets =
                    RingSockets::new(wake.as_fd(), RING_DEPTH).map_err(io::Error::other)?;
                Ok(Sockets::Ring(Box::new(Ring { sockets, events: Vec::new(), _wake: wake })))
            }
        }
    }

    /// Takes a socket, connected or on its way, under `slot`, which is free, and begins to receive.
    ///
    /// # Errors
    /// When the system will not watch one more.
    pub fn adopt(&mut self, slot: u32, stream: TcpStream) -> io::Result<()> {
        match self {
            Sockets::Ring(ring) => {
                ring.sockets.adopt(slot, stream);
                Ok(())
            }
            Sockets::Epoll(sockets) => sockets.adopt(slot, stream),
        }
    }

    /// An empty buffer for [`Sockets::send`], warm if possible.
    pub fn buffer(&mut self) -> Vec<u8> {
        match self {
            Sockets::Ring(ring) => ring.sockets.sent_buffers().pop().unwrap_or_default(),
            Sockets::Epoll(sockets) => sockets.buffer(),
        }
    }

    /// Sends `bytes`, with the next [`Sockets::wait`] at the latest.
    ///
    /// # Panics
    /// When the slot's last send is not over.
    pub fn send(&mut self, slot: u32, bytes: Vec<u8>) {
        match self {
            Sockets::Ring(ring) => ring.sockets.send(slot, bytes),
            Sockets::Epoll(sockets) => sockets.send(slot, bytes),
        }
    }

    /// Whether the slot's last send is not over. After a [`Sockets::wait`] it is over or waits for
    /// the peer, and then [`Happening::Sent`] tells its end.
    pub fn is_sending(&self, slot: u32) -> bool {
        match self {
            Sockets::Ring(ring) => ring.sockets.is_sending(slot),
            Sockets::Epoll(sockets) => sockets.is_sending(slot),
        }
    }

    /// Closes a socket. Its slot is free when that is told.
    pub fn close(&mut self, slot: u32) {
        match self {
            Sockets::Ring(ring) => ring.sockets.close(slot, false),
            Sockets::Epoll(sockets) => sockets.close(slot),
        }
    }

    /// Lets what was sent leave, waits at most `timeout` until something happens, and tells `each`
    /// of all of it: the slot, the time just after the bytes were received, and what it is. It may
    /// tell nothing, and may tell of a slot that was closed.
    ///
    /// # Panics
    /// When the ring or the epoll is broken, which no peer can bring about.
    pub fn wait(
        &mut self,
        timeout: Duration,
        clock: &Clock,
        each: impl FnMut(u32, u64, Happening<'_>),
    ) {
        match self {
            Sockets::Ring(ring) => ring.wait(timeout, clock, each),
            Sockets::Epoll(sockets) => sockets.wait(timeout, clock, each),
        }
    }
}

impl Ring {
    fn wait(
        &mut self,
        timeout: Duration,
        clock: &Clock,
        mut each: impl FnMut(u32, u64, Happening<'_>),
    ) {
        let patience = if timeout.is_zero() { Patience::None } else { Patience::For(timeout) };
        if let Err(error) = self.sockets.wait(patience, &mut self.events) {
            panic!("a ring of ours is broken: {error}");
        }
        // Everything that the wait told of was received before this moment.
        let now = clock.now();
        for event in self.events.drain(..) {
            match event {
                SocketEvent::Received { slot, data } => {
                    each(slot, now, Happening::Received(self.sockets.data(data)));
                }
                SocketEvent::Sent { slot } => each(slot, now, Happening::Sent),
                SocketEvent::Ended { slot, error } => {
                    each(slot, now, Happening::Ended(error.map(io::Error::from_raw_os_error)));
                }
                SocketEvent::Gone { slot } => each(slot, now, Happening::Gone),
                // Nothing listens or is released.
                SocketEvent::Accepted(_) | SocketEvent::Released { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);

    /// A driver with one socket under slot 3, and that socket's peer.
    fn pair(driver: Driver) -> (Sockets, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut sockets = Sockets::new(driver).unwrap();
        sockets.adopt(3, ours).unwrap();
        (sockets, theirs)
    }

    /// What happens until something does: bytes received, sends over, ends.
    fn next(sockets: &mut Sockets) -> (Vec<u8>, usize, Vec<Option<io::Error>>) {
        let clock = Clock::start();
        let (mut bytes, mut sent, mut ends) = (Vec::new(), 0, Vec::new());
        for _ in 0..100 {
            sockets.wait(SOON, &clock, |slot, at, happening| {
                assert_eq!(slot, 3);
                assert!(at <= clock.now(), "told of before it happened");
                match happening {
                    Happening::Received(part) => bytes.extend_from_slice(part),
                    Happening::Sent => sent += 1,
                    Happening::Ended(error) => ends.push(error),
                    Happening::Gone => {}
                }
            });
            if !bytes.is_empty() || sent > 0 || !ends.is_empty() {
                break;
            }
        }
        (bytes, sent, ends)
    }

    #[test]
    fn bytes_go_both_ways_under_either_driver() {
        for driver in [Driver::Ring, Driver::Epoll] {
            let (mut sockets, mut peer) = pair(driver);
            for round in 0..3u8 {
                let mut request = sockets.buffer();
                assert!(request.is_empty(), "{driver:?}: a used buffer");
                request.extend_from_slice(&[round; 5]);
                sockets.send(3, request);
                sockets.wait(Duration::ZERO, &Clock::start(), |_, _, _| {});
                assert!(!sockets.is_sending(3), "{driver:?}");
                let mut got = [0; 5];
                peer.read_exact(&mut got).unwrap();
                assert_eq!(got, [round; 5]);
                peer.write_all(&[round; 7]).unwrap();
                assert_eq!(next(&mut sockets).0, [round; 7], "{driver:?}");
            }
        }
    }

    #[test]
    fn a_send_that_does_not_fit_ends_when_the_peer_has_read() {
        for driver in [Driver::Ring, Driver::Epoll] {
            let (mut sockets, mut peer) = pair(driver);
            sockets.send(3, vec![7; 20_000_000]);
            sockets.wait(Duration::ZERO, &Clock::start(), |_, _, _| {});
            assert!(sockets.is_sending(3), "{driver:?}: 20 MB fitted in");
            let reading = std::thread::spawn(move || {
                let mut got = vec![0; 20_000_000];
                peer.read_exact(&mut got).unwrap();
                (peer, got.iter().all(|byte| *byte == 7))
            });
            assert_eq!(next(&mut sockets).1, 1, "{driver:?}");
            assert!(!sockets.is_sending(3), "{driver:?}");
            assert!(reading.join().unwrap().1, "{driver:?}: other bytes arrived");
        }
    }

    #[test]
    fn the_end_comes_after_the_last_bytes_and_tells_a_reset() {
        for driver in [Driver::Ring, Driver::Epoll] {
            let (mut sockets, mut peer) = pair(driver);
            peer.write_all(b"last").unwrap();
            drop(peer);
            let (bytes, _, mut ends) = next(&mut sockets);
            assert_eq!(bytes, b"last", "{driver:?}");
            if ends.is_empty() {
                ends = next(&mut sockets).2;
            }
            assert!(matches!(ends[..], [None]), "{driver:?}: {ends:?}");

            let (mut sockets, peer) = pair(driver);
            sockets.send(3, b"unread".to_vec());
            sockets.wait(Duration::ZERO, &Clock::start(), |_, _, _| {});
            // Closing with bytes unread resets.
            drop(peer);
            let ends = next(&mut sockets).2;
            let kind = ends[0].as_ref().map(io::Error::kind);
            assert_eq!(kind, Some(io::ErrorKind::ConnectionReset), "{driver:?}");
            sockets.close(3);
        }
    }

    #[test]
    fn a_slot_is_free_once_its_socket_is_gone() {
        for driver in [Driver::Ring, Driver::Epoll] {
            let (mut sockets, _peer) = pair(driver);
            sockets.close(3);
            let (mut gone, clock) = (false, Clock::start());
            while !gone {
                sockets.wait(SOON, &clock, |slot, _, happening| {
                    gone |= slot == 3 && matches!(happening, Happening::Gone);
                });
                assert!(clock.now() < 30_000_000_000, "{driver:?}");
            }
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            sockets.adopt(3, ours).unwrap();
            listener.accept().unwrap().0.write_all(b"again").unwrap();
            assert_eq!(next(&mut sockets).0, b"again", "{driver:?}");
        }
    }

    #[test]
    fn a_wait_without_anything_ends_in_time() {
        for driver in [Driver::Ring, Driver::Epoll] {
            // In a thread of its own: the kernel takes a ring down some time after its end, and that
            // interrupts what its thread waits for then.
            let waiting = std::thread::spawn(move || {
                let (mut sockets, _peer) = pair(driver);
                let start = std::time::Instant::now();
                sockets.wait(Duration::from_millis(20), &Clock::start(), |_, _, happening| {
                    panic!("nothing was sent, and yet: {happening:?}")
                });
                start.elapsed()
            });
            let waited = waiting.join().unwrap();
            assert!(waited >= Duration::from_millis(19), "{driver:?}: {waited:?}");
        }
    }

    #[test]
    fn who_insists_on_a_driver_gets_it() {
        assert_eq!(Driver::choose(DriverChoice::Epoll).unwrap().0, Driver::Epoll);
        assert_eq!(Driver::choose(DriverChoice::Ring).unwrap().0, Driver::Ring);
        assert_eq!(Driver::choose(DriverChoice::Auto).unwrap().0, Driver::Ring);
    }
}
