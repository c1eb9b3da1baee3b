//! One connection: its handshake, what it has in flight, and the bytes both ways.
//!
//! Invariants: replies come in the order of the requests, so the oldest entry in flight belongs to
//! the next reply; a request is stamped just before the send that carries it. Driven by
//! `schedule`; `control` uses the handshake alone.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::arguments::{Plan, Server};
use crate::schedule::Clock;
use crate::wire::{self, EVENT_XID, PING_XID, ReplyScanner, op};
use crate::workload::{Class, Source, Workload};

/// Bytes that one send carries at most, give or take a request. Requests beyond it are stamped
/// when their turn comes.
const SEND_BYTES_MAX: usize = 256 << 10;
/// A connect response is 36 or 37 bytes; more is another protocol.
const CONNECT_RESPONSE_BYTES_MAX: i32 = 64;
const CONNECT_RESPONSE_BYTES_MIN: i32 = 36;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error(
        "closed the connection before the handshake was done \
         (too many connections from one address? see maxClientCnxns)"
    )]
    ClosedInHandshake,
    #[error("did not answer the handshake: {0}")]
    Handshake(std::io::Error),
    #[error("answered the handshake with {length} bytes where 36 or 37 are due; is it ZooKeeper?")]
    NotConnectResponse { length: i32 },
    #[error("refused the session")]
    SessionRefused,
    #[error("closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    #[error("sent no reply for {} ms", .after.as_millis())]
    Silent { after: Duration },
    #[error("sent a frame of {length} bytes where a reply takes 16 at least")]
    FrameLength { length: i32 },
    #[error("sent a reply with xid {xid} where {due} was due")]
    WrongXid { xid: i32, due: i32 },
    #[error("sent a reply with xid {xid} where none was due")]
    NothingDue { xid: i32 },
}

/// One reply, as the schedule records it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub class: Class,
    /// When its request was sent.
    pub sent_at: u64,
    /// 0: it succeeded.
    pub error: i32,
    /// Its data or list has the length that it must have.
    pub fits: bool,
}

/// What a request in flight leaves behind.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: u64,
    class: Class,
}

/// A connection with an open session.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Which of the plan's servers it is connected to.
    pub server: usize,
    scanner: ReplyScanner,
    /// Encoded requests, of which the first `out_sent` bytes have left.
    out: Vec<u8>,
    out_sent: usize,
    in_flight: VecDeque<Sent>,
    in_flight_max: usize,
    next_xid: i32,
    due_xid: i32,
    source: Source,
    /// When bytes were last sent, and last received, in the schedule's time.
    last_sent: u64,
    last_received: u64,
    closing: bool,
}

impl Client {
    /// Opens a connection and asks for a session, without waiting for the answer, so that many
    /// handshakes share the server's disk flushes.
    pub fn begin(server: &Server, timeout: Duration) -> Result<TcpStream, LinkError> {
        let mut stream = dial(server, timeout).map_err(LinkError::Connect)?;
        stream.set_nodelay(true).map_err(LinkError::Connect)?;
        stream.set_read_timeout(Some(timeout)).map_err(LinkError::Connect)?;
        stream.set_write_timeout(Some(timeout)).map_err(LinkError::Connect)?;
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        stream.write_all(&wire::connect_request(timeout_ms)).map_err(in_handshake)?;
        Ok(stream)
    }

    /// Waits for the answer to [`Client::begin`]; gives the session timeout that the server grants.
    pub fn finish_handshake(stream: &mut TcpStream) -> Result<Duration, LinkError> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(in_handshake)?;
        let length = i32::from_be_bytes(length);
        if !(CONNECT_RESPONSE_BYTES_MIN..=CONNECT_RESPONSE_BYTES_MAX).contains(&length) {
            return Err(LinkError::NotConnectResponse { length });
        }
        let mut response = [0; CONNECT_RESPONSE_BYTES_MAX as usize];
        let response = &mut response[..length as usize];
        stream.read_exact(response).map_err(in_handshake)?;
        match u64::try_from(wire::int_at(response, 4)) {
            Ok(granted_ms) if granted_ms > 0 => Ok(Duration::from_millis(granted_ms)),
            _ => Err(LinkError::SessionRefused),
        }
    }

    /// Connection `number` of the run, its handshake done.
    pub fn new(
        stream: TcpStream,
        server: usize,
        plan: &Plan,
        source: Source,
        now: u64,
    ) -> Result<Client, LinkError> {
        stream.set_nonblocking(true).map_err(LinkError::Connect)?;
        Ok(Client {
            stream,
            server,
            scanner: ReplyScanner::default(),
            out: Vec::new(),
            out_sent: 0,
            in_flight: VecDeque::with_capacity(plan.in_flight as usize),
            in_flight_max: plan.in_flight as usize,
            next_xid: 1,
            due_xid: 1,
            source,
            last_sent: now,
            last_received: now,
            closing: false,
        })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Requests that wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether bytes wait for room in the socket.
    pub fn wants_room(&self) -> bool {
        self.out_sent < self.out.len()
    }

    /// Sends until as many requests are in flight as may be, or the socket is full.
    pub fn fill(&mut self, workload: &Workload, clock: &Clock) -> Result<(), LinkError> {
        self.flush(clock)?;
        while !self.wants_room() && self.in_flight.len() < self.in_flight_max {
            let at = clock.now();
            while self.in_flight.len() < self.in_flight_max && self.out.len() < SEND_BYTES_MAX {
                let class = workload.push(&mut self.out, self.next_xid, &mut self.source);
                self.next_xid = next_xid(self.next_xid);
                self.in_flight.push_back(Sent { at, class });
            }
            self.send(at)?;
        }
        Ok(())
    }

    /// Sends what could not be sent before.
    pub fn flush(&mut self, clock: &Clock) -> Result<(), LinkError> {
        if self.wants_room() { self.send(clock.now()) } else { Ok(()) }
    }

    fn send(&mut self, now: u64) -> Result<(), LinkError> {
        while self.wants_room() {
            match self.stream.write(&self.out[self.out_sent..]) {
                Ok(sent) => self.out_sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Broken(error)),
            }
            self.last_sent = now;
        }
        self.out.clear();
        self.out_sent = 0;
        Ok(())
    }

    /// Receives once and gives every reply that is complete to `each`, with the time just after
    /// the receive. A buffer that came back full leaves the rest to the next event.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        workload: &Workload,
        clock: &Clock,
        mut each: impl FnMut(Answer, u64),
    ) -> Result<(), LinkError> {
        let received = match self.stream.read(buffer) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(received) => received,
            Err(error) if is_retry(&error) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Err(LinkError::Closed);
            }
            Err(error) => return Err(LinkError::Broken(error)),
        };
        let now = clock.now();
        self.last_received = now;
        let (in_flight, due_xid) = (&mut self.in_flight, &mut self.due_xid);
        let closing = self.closing;
        self.scanner.feed(&buffer[..received], |reply| {
            if reply.xid == PING_XID || reply.xid == EVENT_XID {
                return Ok(());
            }
            let Some(sent) = in_flight.front().copied() else {
                // The reply to closeSession is the one that is not in the list.
                let expected = closing && reply.xid == *due_xid;
                return if expected {
                    Ok(())
                } else {
                    Err(LinkError::NothingDue { xid: reply.xid })
                };
            };
            if reply.xid != *due_xid {
                return Err(LinkError::WrongXid { xid: reply.xid, due: *due_xid });
            }
            in_flight.pop_front();
            *due_xid = next_xid(*due_xid);
            let fits = reply.error != 0 || workload.fits(sent.class, &reply);
            each(Answer { class: sent.class, sent_at: sent.at, error: reply.error, fits }, now);
            Ok(())
        })
    }

    /// Keeps the session alive and notices a server that is silent: call it now and then.
    pub fn look_after(
        &mut self,
        clock: &Clock,
        ping_after: Duration,
        silent_after: Duration,
    ) -> Result<(), LinkError> {
        let now = clock.now();
        let waited = now.saturating_sub(self.last_received.max(self.oldest_sent(now)));
        if !self.in_flight.is_empty() && waited > silent_after.as_nanos() as u64 {
            return Err(LinkError::Silent { after: silent_after });
        }
        let idle = now.saturating_sub(self.last_sent);
        if idle > ping_after.as_nanos() as u64 && !self.wants_room() {
            self.out.extend_from_slice(&wire::bare_request(PING_XID, op::PING));
            return self.send(now);
        }
        Ok(())
    }

    fn oldest_sent(&self, now: u64) -> u64 {
        self.in_flight.front().map_or(now, |sent| sent.at)
    }

    /// Asks the server to end the session; the server closes the connection.
    pub fn close(&mut self, clock: &Clock) -> Result<(), LinkError> {
        self.closing = true;
        self.out.extend_from_slice(&wire::bare_request(self.next_xid, op::CLOSE_SESSION));
        self.send(clock.now())
    }
}

/// Connects to the first of the server's addresses that takes it; the error is the last one's.
fn dial(server: &Server, timeout: Duration) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for address in &server.addresses {
        match TcpStream::connect_timeout(address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Xids go round without the negative ones, which have meanings of their own.
#[inline]
fn next_xid(xid: i32) -> i32 {
    if xid == i32::MAX { 1 } else { xid + 1 }
}

fn is_retry(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What a failed read or write means while the session is not yet open.
fn in_handshake(error: std::io::Error) -> LinkError {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            LinkError::ClosedInHandshake
        }
        // A read timeout of a blocking socket is reported as if it were a non-blocking one.
        ErrorKind::WouldBlock => LinkError::Handshake(ErrorKind::TimedOut.into()),
        _ => LinkError::Handshake(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    struct Fixture {
        client: Client,
        server: TcpStream,
        workload: Workload,
        clock: Clock,
    }

    fn fixture(options: &str) -> Fixture {
        let line = ["ringkeeper-loadgen"].into_iter().chain(options.split_whitespace());
        let plan = Arguments::parse_from(line).into_plan().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let clock = Clock::start();
        let client = Client::new(stream, 0, &plan, Source::new(1, 0, 0), clock.now()).unwrap();
        Fixture { client, server, workload: Workload::new(&plan), clock }
    }

    /// A reply's bytes: header and one int.
    fn reply(xid: i32, error: i32, first: i32) -> Vec<u8> {
        let fields = [20, xid, 0, 9, error, first];
        fields.iter().flat_map(|field| field.to_be_bytes()).collect()
    }

    impl Fixture {
        fn answer(&mut self, bytes: &[u8]) -> Result<Vec<Answer>, LinkError> {
            self.server.write_all(bytes).unwrap();
            let mut poll = crate::sys::Epoll::new().unwrap();
            poll.add(self.client.socket(), 0).unwrap();
            assert_eq!(poll.wait(Duration::from_secs(5)).unwrap(), 1);
            let mut answers = Vec::new();
            let mut buffer = [0; 4096];
            self.client.receive(&mut buffer, &self.workload, &self.clock, |answer, _| {
                answers.push(answer);
            })?;
            Ok(answers)
        }
    }

    #[test]
    fn it_keeps_as_many_in_flight_as_it_may_and_answers_in_order() {
        let mut fixture = fixture("--in-flight 3 --value-size 7");
        fixture.client.fill(&fixture.workload, &fixture.clock).unwrap();
        assert_eq!(fixture.client.in_flight(), 3);
        let frame = 4 + 8 + 4 + "/ringkeeper-loadgen/keys/000".len() + 1;
        let mut requests = vec![0; 3 * frame];
        fixture.server.read_exact(&mut requests).unwrap();
        let xids = requests.chunks(frame).map(|request| wire::int_at(request, 4));
        assert_eq!(xids.collect::<Vec<_>>(), [1, 2, 3]);
        let bytes = [reply(1, 0, 7), reply(PING_XID, 0, 0), reply(2, 0, 8)].concat();
        let answers = fixture.answer(&bytes).unwrap();
        assert_eq!(answers.iter().map(|answer| answer.fits).collect::<Vec<_>>(), [true, false]);
        assert_eq!(fixture.client.in_flight(), 1);
    }

    #[test]
    fn a_reply_out_of_order_is_refused() {
        let mut fixture = fixture("--in-flight 2");
        fixture.client.fill(&fixture.workload, &fixture.clock).unwrap();
        let error = fixture.answer(&reply(2, 0, 100)).unwrap_err();
        assert!(matches!(error, LinkError::WrongXid { xid: 2, due: 1 }), "{error}");
    }

    #[test]
    fn a_reply_to_nothing_is_refused() {
        let error = fixture("").answer(&reply(1, 0, 100)).unwrap_err();
        assert!(matches!(error, LinkError::NothingDue { xid: 1 }), "{error}");
    }

    #[test]
    fn an_error_code_is_handed_on() {
        let mut fixture = fixture("");
        fixture.client.fill(&fixture.workload, &fixture.clock).unwrap();
        let answers = fixture.answer(&reply(1, -101, 0)).unwrap();
        assert_eq!((answers[0].error, answers[0].fits), (-101, true));
    }

    #[test]
    fn an_idle_connection_pings_and_a_silent_server_is_noticed() {
        let mut fixture = fixture("");
        let long = Duration::from_secs(60);
        std::thread::sleep(Duration::from_millis(2));
        fixture.client.look_after(&fixture.clock, Duration::from_millis(1), long).unwrap();
        let mut ping = [0; 12];
        fixture.server.read_exact(&mut ping).unwrap();
        assert_eq!(ping, wire::bare_request(PING_XID, op::PING)[..]);
        fixture.client.fill(&fixture.workload, &fixture.clock).unwrap();
        fixture.client.look_after(&fixture.clock, long, long).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let silent = Duration::from_millis(1);
        let error = fixture.client.look_after(&fixture.clock, long, silent).unwrap_err();
        assert!(matches!(error, LinkError::Silent { .. }), "{error}");
    }

    #[test]
    fn requests_wait_for_room_in_the_socket_and_none_is_lost() {
        let mut fixture = fixture("--workload set --value-size 1000000 --in-flight 16 --keys 1");
        fixture.client.fill(&fixture.workload, &fixture.clock).unwrap();
        assert!(fixture.client.wants_room(), "16 MB fitted into a socket that nobody reads");
        let mut server = fixture.server.try_clone().unwrap();
        let frame = wire::set_request(1, "/ringkeeper-loadgen/keys/0", &[0; 1_000_000]).len();
        let reader = std::thread::spawn(move || {
            let mut request = vec![0; frame];
            for xid in 1..=16 {
                server.read_exact(&mut request).unwrap();
                assert_eq!(wire::int_at(&request, 4), xid);
            }
        });
        while fixture.client.in_flight() < 16 || fixture.client.wants_room() {
            fixture.client.fill(&fixture.workload, &fixture.clock).unwrap();
            std::thread::yield_now();
        }
        reader.join().unwrap();
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses = vec![refusing, listener.local_addr().unwrap()];
        let mut server = Server { name: "both".to_owned(), addresses };
        assert!(dial(&server, Duration::from_secs(5)).is_ok());
        server.addresses.truncate(1);
        let error = dial(&server, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn xids_stay_positive() {
        assert_eq!(next_xid(1), 2);
        assert_eq!(next_xid(i32::MAX), 1);
    }
}
