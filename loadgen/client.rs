//! One connection: its handshake, what it has in flight, and the bytes both ways.
//!
//! Invariants: replies come in the order of the requests, so the oldest entry in flight belongs to
//! the next reply; a request is stamped before the send that carries it. Driven by `schedule`,
//! which owns the sockets; `control` uses the handshake alone.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::arguments::{Plan, Server};
use crate::draw::Source;
use crate::pace::Pace;
use crate::sockets::Sockets;
use crate::wire::{self, EVENT_XID, PING_XID, ReplyScanner, op};
use crate::workload::Workload;

/// Bytes that one send carries at most, give or take a request. Requests beyond it are stamped
/// and sent a turn later.
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
    /// Which of the workload's steps it answers.
    pub step: u8,
    /// When its request was sent, or in an open loop was due; of an event, its write.
    pub sent_at: u64,
    /// 0: it succeeded.
    pub error: i32,
    /// It begins as it must.
    pub fits: bool,
}

/// What a request in flight leaves behind.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: u64,
    step: u8,
}

/// A connection with an open session.
#[derive(Debug)]
pub struct Client {
    /// Its socket, among its thread's.
    slot: u32,
    /// Which of the plan's servers it is connected to.
    pub server: usize,
    scanner: ReplyScanner,
    in_flight: VecDeque<Sent>,
    in_flight_max: usize,
    next_xid: i32,
    due_xid: i32,
    source: Source,
    /// The round's number of the next request, and how far apart its requests' numbers are.
    number: u64,
    stride: u64,
    /// When bytes were last sent, and last received, in the schedule's time.
    last_sent: u64,
    last_received: u64,
    /// Since when something has been in flight without a pause.
    asked_since: u64,
    closing: bool,
}

/// What became of the attempt to fill a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// As many requests are in flight as may be, or the end of a send will be told, or nothing more
    /// is due, or left to ask for.
    Done,
    /// There is room for more, which the next send can carry.
    Again,
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
        let mut answer = vec![0; 4];
        stream.read_exact(&mut answer).map_err(in_handshake)?;
        loop {
            if let Some(granted) = take_handshake(&answer) {
                return granted;
            }
            let length = wire::int_at(&answer, 0) as usize;
            answer.resize(4 + length, 0);
            stream.read_exact(&mut answer[4..]).map_err(in_handshake)?;
        }
    }

    /// The connection whose socket, its handshake done, is under `slot`; it is the plan's number
    /// `connection`.
    pub fn new(slot: u32, connection: u32, plan: &Plan, source: Source, now: u64) -> Client {
        let server = connection as usize % plan.servers.len();
        Client {
            slot,
            server,
            scanner: ReplyScanner::default(),
            in_flight: VecDeque::with_capacity(plan.in_flight as usize),
            in_flight_max: plan.in_flight as usize,
            next_xid: 1,
            due_xid: 1,
            source,
            number: u64::from(connection),
            stride: u64::from(plan.connections),
            last_sent: now,
            last_received: now,
            asked_since: now,
            closing: false,
        }
    }

    /// Requests that wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Sends as many requests as are due and may be in flight, or as one send carries.
    #[inline]
    pub fn fill(
        &mut self,
        sockets: &mut Sockets,
        workload: &Workload,
        pace: &Pace,
        now: u64,
    ) -> Fill {
        if self.in_flight.len() == self.in_flight_max || sockets.is_sending(self.slot) {
            return Fill::Done;
        }
        if self.in_flight.is_empty() {
            self.asked_since = now;
        }
        let mut out = sockets.buffer();
        while self.in_flight.len() < self.in_flight_max && out.len() < SEND_BYTES_MAX {
            let pushed = pace.stamp(self.number, now).and_then(|at| {
                let step = workload.push(&mut out, self.next_xid, at, &mut self.source)?;
                Some(Sent { at, step })
            });
            let Some(sent) = pushed else {
                self.send(sockets, out, now);
                return Fill::Done;
            };
            self.next_xid = next_xid(self.next_xid);
            self.number += self.stride;
            self.in_flight.push_back(sent);
        }
        self.send(sockets, out, now);
        if self.in_flight.len() < self.in_flight_max { Fill::Again } else { Fill::Done }
    }

    /// The round's number of the next request, and how far apart its requests' numbers are.
    pub fn numbers(&self) -> (u64, u64) {
        (self.number, self.stride)
    }

    /// Sends what there is; an empty buffer is dropped.
    fn send(&mut self, sockets: &mut Sockets, bytes: Vec<u8>, now: u64) {
        if bytes.is_empty() {
            return;
        }
        sockets.send(self.slot, bytes);
        self.last_sent = now;
    }

    /// Takes bytes that came, and gives every reply that is complete to `each`.
    #[inline]
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: u64,
        workload: &Workload,
        mut each: impl FnMut(Answer),
    ) -> Result<(), LinkError> {
        self.last_received = now;
        let (in_flight, due_xid) = (&mut self.in_flight, &mut self.due_xid);
        let source = &mut self.source;
        let closing = self.closing;
        self.scanner.feed(bytes, |reply| {
            if reply.xid == PING_XID {
                return Ok(());
            }
            if reply.xid == EVENT_XID {
                workload.told(source, |step, sent_at| {
                    each(Answer { step, sent_at, error: 0, fits: true });
                });
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
            let fits = reply.error != 0 || workload.fits(sent.step, &reply);
            if reply.error == 0 {
                workload.succeeded(sent.step);
            }
            each(Answer { step: sent.step, sent_at: sent.at, error: reply.error, fits });
            Ok(())
        })
    }

    /// Keeps the session alive and notices a server that is silent: call it now and then.
    pub fn look_after(
        &mut self,
        sockets: &mut Sockets,
        now: u64,
        ping_after: Duration,
        silent_after: Duration,
    ) -> Result<(), LinkError> {
        // Stamps of an open loop may lie long before the send: what waits in the backlog is not the
        // server's silence.
        let waited = now.saturating_sub(self.last_received.max(self.asked_since));
        if !self.in_flight.is_empty() && waited > silent_after.as_nanos() as u64 {
            return Err(LinkError::Silent { after: silent_after });
        }
        let idle = now.saturating_sub(self.last_sent);
        if idle > ping_after.as_nanos() as u64 && !sockets.is_sending(self.slot) {
            self.send(sockets, wire::bare_request(PING_XID, op::PING), now);
        }
        Ok(())
    }

    /// Asks the server to end the session; the server closes the connection. False if a send is
    /// still under way, which keeps it from being asked.
    pub fn close(&mut self, sockets: &mut Sockets, now: u64) -> bool {
        if sockets.is_sending(self.slot) {
            return false;
        }
        self.closing = true;
        self.send(sockets, wire::bare_request(self.next_xid, op::CLOSE_SESSION), now);
        true
    }
}

/// The session timeout that the answer to a connect request grants; `None`: the answer, or its
/// length, is not complete.
pub fn take_handshake(answer: &[u8]) -> Option<Result<Duration, LinkError>> {
    if answer.len() < 4 {
        return None;
    }
    let length = wire::int_at(answer, 0);
    if !(CONNECT_RESPONSE_BYTES_MIN..=CONNECT_RESPONSE_BYTES_MAX).contains(&length) {
        return Some(Err(LinkError::NotConnectResponse { length }));
    }
    if answer.len() < 4 + length as usize {
        return None;
    }
    Some(match u64::try_from(wire::int_at(answer, 8)) {
        Ok(granted_ms) if granted_ms > 0 => Ok(Duration::from_millis(granted_ms)),
        _ => Err(LinkError::SessionRefused),
    })
}

/// Connects to the first of the server's addresses that takes it; the error is the last one's.
pub fn dial(server: &Server, timeout: Duration) -> std::io::Result<TcpStream> {
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

/// What the end of a connection means; without an error, the server closed it in good order.
pub fn ended(error: Option<std::io::Error>) -> LinkError {
    match error {
        None => LinkError::Closed,
        Some(error)
            if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
        {
            LinkError::Closed
        }
        Some(error) => LinkError::Broken(error),
    }
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

    use super::*;
    use crate::arguments::tests::plan;
    use crate::schedule::Clock;
    use crate::sockets::Happening;

    struct Fixture {
        client: Client,
        sockets: Sockets,
        server: TcpStream,
        workload: Workload,
        clock: Clock,
    }

    fn fixture(options: &str) -> Fixture {
        let plan = plan(options);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let clock = Clock::start();
        let mut sockets = Sockets::new(plan.driver).unwrap();
        sockets.adopt(0, stream).unwrap();
        let client = Client::new(0, 0, &plan, Source::new(1, 0, 0), clock.now());
        Fixture { client, sockets, server, workload: Workload::new(&plan), clock }
    }

    /// A reply's bytes: header and one int.
    fn reply(xid: i32, error: i32, first: i32) -> Vec<u8> {
        let fields = [20, xid, 0, 9, error, first];
        fields.iter().flat_map(|field| field.to_be_bytes()).collect()
    }

    impl Fixture {
        fn answer(&mut self, bytes: &[u8]) -> Result<Vec<Answer>, LinkError> {
            self.server.write_all(bytes).unwrap();
            let (mut answers, mut result) = (Vec::new(), Ok(()));
            let (client, workload) = (&mut self.client, &self.workload);
            let mut received = 0;
            while received < bytes.len() {
                self.sockets.wait(Duration::from_secs(5), &self.clock, |_, now, happening| {
                    let Happening::Received(bytes) = happening else { panic!("{happening:?}") };
                    received += bytes.len();
                    result = client.receive(bytes, now, workload, |answer| answers.push(answer));
                });
            }
            result.map(|()| answers)
        }

        fn fill(&mut self) -> Fill {
            let filled = {
                let now = self.clock.now();
                self.client.fill(&mut self.sockets, &self.workload, &Pace::Closed, now)
            };
            self.flush();
            filled
        }

        fn flush(&mut self) {
            self.sockets.wait(Duration::ZERO, &self.clock, |_, _, happening| {
                assert!(matches!(happening, Happening::Sent), "{happening:?}");
            });
        }

        fn look_after(&mut self, ping: Duration, silent: Duration) -> Result<(), LinkError> {
            let now = self.clock.now();
            let result = self.client.look_after(&mut self.sockets, now, ping, silent);
            self.flush();
            result
        }
    }

    #[test]
    fn it_keeps_as_many_in_flight_as_it_may_and_answers_in_order() {
        let mut fixture = fixture("--in-flight 3 --value-size 7");
        assert_eq!(fixture.fill(), Fill::Done);
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
        fixture.fill();
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
        fixture.fill();
        let answers = fixture.answer(&reply(1, -101, 0)).unwrap();
        assert_eq!((answers[0].error, answers[0].fits), (-101, true));
    }

    #[test]
    fn an_idle_connection_pings_and_a_silent_server_is_noticed() {
        let mut fixture = fixture("");
        let long = Duration::from_secs(60);
        std::thread::sleep(Duration::from_millis(2));
        fixture.look_after(Duration::from_millis(1), long).unwrap();
        let mut ping = [0; 12];
        fixture.server.read_exact(&mut ping).unwrap();
        assert_eq!(ping, wire::bare_request(PING_XID, op::PING)[..]);
        fixture.fill();
        fixture.look_after(long, long).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let silent = Duration::from_millis(1);
        let error = fixture.look_after(long, silent).unwrap_err();
        assert!(matches!(error, LinkError::Silent { .. }), "{error}");
    }

    #[test]
    fn requests_wait_for_room_in_the_socket_and_none_is_lost() {
        let mut fixture = fixture("--workload set --value-size 1000000 --in-flight 16 --keys 1");
        while fixture.fill() == Fill::Again {}
        assert!(fixture.client.in_flight() < 16, "16 MB fitted into a socket that nobody reads");
        let mut server = fixture.server.try_clone().unwrap();
        let frame = wire::set_request(1, "/ringkeeper-loadgen/keys/0", &[0; 1_000_000]).len();
        let reader = std::thread::spawn(move || {
            let mut request = vec![0; frame];
            for xid in 1..=16 {
                server.read_exact(&mut request).unwrap();
                assert_eq!(wire::int_at(&request, 4), xid);
            }
        });
        while fixture.client.in_flight() < 16 || fixture.sockets.is_sending(0) {
            fixture.fill();
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
