//! Connections that are closed but for what their peer still sends.
//!
//! A socket that is closed while bytes lie in it unread, or that gets some afterwards, answers with
//! a reset, and the peer's TCP then throws away what its process has not read yet: a last reply,
//! for instance that authentication failed. So only our side is shut, and what comes is thrown away
//! until the peer closes too. Time, bytes and connections are bounded by `limits::LINGER_*`.
//!
//! Invariant: a connection here has exactly one receive in flight or in the submission queue, and
//! is dropped when that completes. Dropped earlier, its descriptor's number could be another
//! socket's by the time the kernel takes the receive. Called by `ring` alone.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use crate::limits::{LINGER_BYTES_MAX, LINGER_CONNECTIONS_MAX, LINGER_MS_MAX};

/// Bytes that one receive may throw away.
const RECEIVE_BYTES: u32 = 1 << 20;

/// Entries of `by_age` above which those of connections that have gone are taken out.
const STALE_MAX: usize = LINGER_CONNECTIONS_MAX * 2;

/// The lingering connections of one ring.
#[derive(Debug, Default)]
pub struct Lingering {
    connections: HashMap<u32, Lingerer>,
    /// Those that are not over, oldest first, with the end of their time; and some that have gone.
    by_age: VecDeque<(u32, Instant)>,
    /// The number of the next one.
    next: u32,
    /// How many of `connections` are over: they go as soon as their receive completes.
    over: usize,
}

#[derive(Debug)]
struct Lingerer {
    stream: TcpStream,
    bytes_left: usize,
    over: bool,
}

impl Lingering {
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Shuts our side of `stream`, which has been sent everything and has no operation in flight.
    /// Gives its number, and what it is to be received from. None: the peer has gone, and so has
    /// the stream.
    pub fn begin(&mut self, stream: TcpStream, now: Instant) -> Option<(u32, RawFd)> {
        stream.shutdown(Shutdown::Write).ok()?;
        while self.connections.len() - self.over >= LINGER_CONNECTIONS_MAX {
            self.end_oldest();
        }
        if self.by_age.len() >= STALE_MAX {
            let connections = &self.connections;
            self.by_age.retain(|(number, _)| connections.contains_key(number));
        }
        let (number, fd) = (self.next, stream.as_raw_fd());
        self.next = self.next.wrapping_add(1);
        let lingerer = Lingerer { stream, bytes_left: LINGER_BYTES_MAX, over: false };
        let before = self.connections.insert(number, lingerer);
        assert!(before.is_none(), "connection {number} lingers already");
        self.by_age.push_back((number, now + Duration::from_millis(LINGER_MS_MAX)));
        Some((number, fd))
    }

    /// A receive that throws away what it receives.
    pub fn receive(fd: RawFd) -> squeue::Entry {
        // With this flag TCP copies nothing, so there is no buffer.
        opcode::Recv::new(Fd(fd), std::ptr::null_mut(), RECEIVE_BYTES)
            .flags(libc::MSG_TRUNC)
            .build()
    }

    /// The receive of `number` has completed. Gives what it is to be received from again; none: it
    /// is closed.
    ///
    /// # Panics
    /// When it does not linger.
    pub fn received(&mut self, number: u32, result: i32) -> Option<RawFd> {
        let Some(lingerer) = self.connections.get_mut(&number) else {
            panic!("connection {number} does not linger");
        };
        let bytes = usize::try_from(result).unwrap_or(0);
        if bytes > 0 && bytes < lingerer.bytes_left && !lingerer.over {
            lingerer.bytes_left -= bytes;
            return Some(lingerer.stream.as_raw_fd());
        }
        self.over -= usize::from(lingerer.over);
        self.connections.remove(&number);
        None
    }

    /// Ends those whose time is over at `now`. Returns how long the next has left.
    pub fn lapse(&mut self, now: Instant) -> Option<Duration> {
        while let Some(&(number, until)) = self.by_age.front() {
            if until > now && self.connections.contains_key(&number) {
                return Some(until - now);
            }
            self.end_oldest();
        }
        None
    }

    /// Ends the connection at the front of `by_age`, if it has not gone.
    fn end_oldest(&mut self) {
        let (number, _) = self.by_age.pop_front().expect("a connection that lingers has an age");
        if let Some(lingerer) = self.connections.get_mut(&number) {
            lingerer.over = true;
            self.over += 1;
            // Ends the receive.
            let _ = lingerer.stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    struct Clients(TcpListener, Vec<TcpStream>);

    impl Clients {
        fn new() -> Clients {
            Clients(TcpListener::bind("127.0.0.1:0").unwrap(), Vec::new())
        }

        fn next(&mut self) -> TcpStream {
            self.1.push(TcpStream::connect(self.0.local_addr().unwrap()).unwrap());
            self.0.accept().unwrap().0
        }
    }

    #[test]
    fn connections_go_in_whatever_order_their_peers_close() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        let mut lingering = Lingering { next: u32::MAX - 1, ..Lingering::default() };
        let numbers: Vec<u32> =
            (0..4).map(|_| lingering.begin(clients.next(), now).unwrap().0).collect();
        assert_eq!(numbers, [u32::MAX - 1, u32::MAX, 0, 1]);
        assert_eq!(lingering.received(u32::MAX, 0), None);
        assert!(lingering.received(0, 100).is_some(), "it has more to send");
        assert_eq!(lingering.received(u32::MAX - 1, -libc::ECONNRESET), None);
        for number in [1, 0] {
            assert!(!lingering.is_empty());
            assert_eq!(lingering.received(number, 0), None);
        }
        assert!(lingering.is_empty());
        assert_eq!(lingering.lapse(now), None);
    }

    #[test]
    fn who_sends_too_much_is_closed() {
        let (mut clients, mut lingering) = (Clients::new(), Lingering::default());
        let (number, _) = lingering.begin(clients.next(), Instant::now()).unwrap();
        assert!(lingering.received(number, LINGER_BYTES_MAX as i32 - 1).is_some());
        assert_eq!(lingering.received(number, 1), None);
        assert!(lingering.is_empty());
    }

    #[test]
    fn who_takes_too_long_is_closed() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        let mut lingering = Lingering::default();
        let time = Duration::from_millis(LINGER_MS_MAX);
        lingering.begin(clients.next(), now).unwrap();
        lingering.begin(clients.next(), now + time / 2).unwrap();
        assert_eq!(lingering.lapse(now + time / 4), Some(time * 3 / 4));
        assert_eq!(lingering.lapse(now + time), Some(time / 2));
        assert!(!lingering.is_empty(), "its receive is still in flight");
        assert_eq!(lingering.received(0, 5), None, "its time is over");
        assert!(lingering.received(1, 5).is_some());
        assert_eq!(lingering.received(1, 0), None);
        assert_eq!(lingering.lapse(now), None);
    }

    #[test]
    fn of_too_many_the_oldest_is_closed() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        let mut lingering = Lingering::default();
        for _ in 0..LINGER_CONNECTIONS_MAX + 1 {
            lingering.begin(clients.next(), now).unwrap();
        }
        assert_eq!(lingering.over, 1);
        assert!(lingering.received(1, 5).is_some());
        assert_eq!(lingering.received(0, 5), None);
        assert_eq!(lingering.over, 0);
        // The rest may all stay: what has gone does not count.
        assert_eq!(lingering.received(7, 0), None);
        lingering.begin(clients.next(), now).unwrap();
        assert_eq!(lingering.over, 0);
    }

    #[test]
    fn who_stays_is_not_crowded_out_by_those_who_have_gone() {
        let (mut clients, now) = (Clients::new(), Instant::now());
        let mut lingering = Lingering::default();
        lingering.begin(clients.next(), now).unwrap();
        for number in 1..=3 * STALE_MAX as u32 {
            lingering.begin(clients.next(), now).unwrap();
            assert_eq!(lingering.received(number, 0), None);
            clients.1.truncate(1);
            assert!(lingering.by_age.len() <= STALE_MAX);
        }
        assert!(lingering.received(0, 5).is_some());
    }

    #[test]
    fn who_has_gone_does_not_linger() {
        let (mut clients, mut lingering) = (Clients::new(), Lingering::default());
        let stream = clients.next();
        let client = clients.1.pop().unwrap();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(lingering.begin(stream, Instant::now()), None);
        assert!(lingering.is_empty());
    }
}
