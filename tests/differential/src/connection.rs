//! One connection to a server under test: frames out, frames in, and what each of them answers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::wire::Encoder;

use crate::observation::{self, Frame, Kind};
use crate::request::{Request, Since};
use crate::script::Client;

/// Longest that a server may take to answer; later counts as silence.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest that a server may take to close a connection behind its last answer.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

/// Longest frame taken from a server, bytes.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// A session, to come back to it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id; 0 asks for a new one.
    pub id: i64,
    /// Its password.
    pub password: Option<Vec<u8>>,
    /// The timeout to ask for, milliseconds.
    pub timeout_ms: i32,
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    parsed: usize,
    next_xid: i32,
    waiting: VecDeque<(i32, Request)>,
    /// The highest zxid that an answer named.
    pub seen: i64,
}

impl Connection {
    /// Connects and asks for a session. Returns the connection and the answer: a handshake, or how
    /// the server ended it.
    pub fn open(
        address: SocketAddr,
        session: &Session,
        seen: i64,
        client: Client,
    ) -> io::Result<(Connection, Frame)> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Connection {
            stream,
            received: Vec::new(),
            parsed: 0,
            next_xid: 1,
            waiting: VecDeque::new(),
            seen,
        };
        let mut out = Encoder::frame();
        out.int(0).long(seen).int(session.timeout_ms).long(session.id);
        out.nullable(session.password.as_deref());
        match client {
            Client::Current => drop(out.bool(false)),
            Client::ReadOnly => drop(out.bool(true)),
            Client::Old => {}
        }
        connection.bytes(&out.finish());
        let answer = match connection.frame() {
            Ok(bytes) => observation::handshake(&bytes),
            Err(kind) => Frame::bare(kind),
        };
        Ok((connection, answer))
    }

    /// Sends bytes. A connection that the server has closed takes them in silence: what comes
    /// next from it tells.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends requests in one write; [`Connection::receive`] gives the answers.
    pub fn send(&mut self, requests: &[Request], start: i64) {
        let mut bytes = Vec::new();
        for request in requests {
            let xid = request.xid(self.next_xid);
            self.next_xid += 1;
            let seen = self.seen;
            bytes.extend(request.frame(xid, |since| match since {
                Since::Seen(less) => seen - less,
                Since::Start => start,
            }));
            self.waiting.push_back((xid, request.clone()));
        }
        self.bytes(&bytes);
    }

    /// Answers that are still due.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next answer, event or end.
    pub fn receive(&mut self) -> Frame {
        let bytes = match self.frame() {
            Ok(bytes) => bytes,
            Err(kind) => return Frame::bare(kind),
        };
        let xid = bytes.first_chunk().map_or(0, |xid| i32::from_be_bytes(*xid));
        if xid == -1 {
            return observation::frame(&bytes, None);
        }
        // In order, unless the server answers out of order: then its xid says what it answers.
        let position = self.waiting.iter().position(|(expected, _)| *expected == xid);
        let answered = self.waiting.remove(position.unwrap_or(0)).map(|(_, request)| request);
        let frame = observation::frame(&bytes, answered.as_ref());
        self.seen = self.seen.max(frame.number("zxid").unwrap_or(0));
        frame
    }

    /// Waits for the end of a connection that the server is about to close: ZooKeeper answers
    /// first and closes a moment later, and a ping could come in between.
    pub fn await_end(&mut self, frames: &mut Vec<Frame>) {
        if self.stream.set_read_timeout(Some(CLOSING_PATIENCE)).is_err() {
            return;
        }
        loop {
            let frame = self.receive();
            match frame.kind {
                // It stays open, as the ping will show.
                Kind::Silence => break,
                Kind::Closed => {
                    frames.push(frame);
                    break;
                }
                _ => frames.push(frame),
            }
        }
        // A socket that is closed has no timeout.
        let _ = self.stream.set_read_timeout(Some(PATIENCE));
    }

    /// Asks and waits for the answer; events on the way are lost.
    pub fn ask(&mut self, request: Request) -> Frame {
        self.send(&[request], 0);
        loop {
            let frame = self.receive();
            if frame.kind != Kind::Event {
                return frame;
            }
        }
    }

    fn frame(&mut self) -> Result<Vec<u8>, Kind> {
        loop {
            let rest = &self.received[self.parsed..];
            if let Some((length, body)) = rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                assert!(length <= FRAME_BYTES_MAX, "a server sends a frame of {length} bytes");
                if let Some(frame) = body.get(..length) {
                    let frame = frame.to_vec();
                    self.parsed += 4 + length;
                    return Ok(frame);
                }
            }
            self.received.drain(..self.parsed);
            self.parsed = 0;
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Kind::Closed),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Kind::Silence);
                }
                Err(_) => return Err(Kind::Closed),
            }
        }
    }
}
