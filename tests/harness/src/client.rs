//! A blocking client: one connection, any number of requests in flight, answers in order.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire::{Decoder, Encoder, Stat, opcode};

/// Longest that an answer may take; later counts as a broken server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer taken, bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// The flag of an ephemeral node in create.
pub const EPHEMERAL: i32 = 1;

/// The flag of a sequential node in create.
pub const SEQUENTIAL: i32 = 2;

/// A session, to come back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id; 0 asks for a new one.
    pub id: i64,
    /// 16 bytes.
    pub password: Vec<u8>,
    /// The timeout that was granted.
    pub timeout_ms: i32,
}

/// A request, with the fields that its record has. Nodes are created open to everybody; version -1
/// matches any.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Create { path: String, data: Vec<u8>, flags: i32 },
    Delete { path: String, version: i32 },
    SetData { path: String, data: Vec<u8>, version: i32 },
    Check { path: String, version: i32 },
    GetData { path: String, watch: bool },
    Exists { path: String, watch: bool },
    GetChildren { path: String, watch: bool },
    Sync { path: String },
    Multi(Vec<Op>),
    Ping,
    Close,
}

impl Op {
    fn code(&self) -> i32 {
        match self {
            Op::Create { .. } => opcode::CREATE,
            Op::Delete { .. } => opcode::DELETE,
            Op::SetData { .. } => opcode::SET_DATA,
            Op::Check { .. } => opcode::CHECK,
            Op::GetData { .. } => opcode::GET_DATA,
            Op::Exists { .. } => opcode::EXISTS,
            Op::GetChildren { .. } => opcode::GET_CHILDREN,
            Op::Sync { .. } => opcode::SYNC,
            Op::Multi(_) => opcode::MULTI,
            Op::Ping => opcode::PING,
            Op::Close => opcode::CLOSE,
        }
    }

    fn encode(&self, out: &mut Encoder) {
        match self {
            Op::Create { path, data, flags } => {
                out.string(path).bytes(data).int(1).int(31).string("world").string("anyone");
                out.int(*flags);
            }
            Op::Delete { path, version } | Op::Check { path, version } => {
                out.string(path).int(*version);
            }
            Op::SetData { path, data, version } => {
                out.string(path).bytes(data).int(*version);
            }
            Op::GetData { path, watch }
            | Op::Exists { path, watch }
            | Op::GetChildren { path, watch } => {
                out.string(path).bool(*watch);
            }
            Op::Sync { path } => {
                out.string(path);
            }
            Op::Multi(parts) => {
                for part in parts {
                    out.int(part.code()).bool(false).int(-1);
                    part.encode(out);
                }
                out.int(-1).bool(true).int(-1);
            }
            Op::Ping | Op::Close => {}
        }
    }
}

/// What an operation answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of create and sync.
    Path(String),
    /// Of setData and exists.
    Stat(Stat),
    /// Of getData.
    Data(Vec<u8>, Stat),
    /// Of getChildren, in the server's order.
    Children(Vec<String>),
    /// One for each operation of a multi.
    Parts(Vec<Answer>),
    /// Of delete, check, ping and closeSession.
    Nothing,
    /// The error code.
    Refused(i32),
}

/// An answer and what its header said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request's number.
    pub xid: i32,
    /// A write's own zxid; otherwise the server's last one.
    pub zxid: i64,
    /// The body.
    pub answer: Answer,
}

/// A watch event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// The node.
    pub path: String,
}

/// A connection with a session.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    parsed: usize,
    next_xid: i32,
    waiting: VecDeque<(i32, i32)>,
    /// The session, as the server granted it.
    pub session: Session,
    /// The highest zxid seen in an answer.
    pub last_zxid: i64,
    /// Watch events in the order of their arrival.
    pub events: VecDeque<Event>,
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Client {
    /// Opens a new session that asks for this timeout.
    pub fn connect(address: SocketAddr, timeout_ms: i32) -> io::Result<Client> {
        Client::handshake(address, Session { id: 0, password: vec![0; 16], timeout_ms }, 0)
    }

    /// Comes back to a session. An expired one is `ErrorKind::NotFound`.
    pub fn resume(address: SocketAddr, session: &Session, last_zxid: i64) -> io::Result<Client> {
        Client::handshake(address, session.clone(), last_zxid)
    }

    fn handshake(address: SocketAddr, asked: Session, last_zxid: i64) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Client {
            stream,
            received: Vec::new(),
            parsed: 0,
            next_xid: 1,
            waiting: VecDeque::new(),
            session: asked,
            last_zxid,
            events: VecDeque::new(),
        };
        let mut out = Encoder::frame();
        let asked = &client.session;
        out.int(0).long(last_zxid).int(asked.timeout_ms).long(asked.id).bytes(&asked.password);
        out.bool(false);
        client.stream.write_all(&out.finish())?;
        let frame = client.frame()?;
        let mut reply = Decoder::new(&frame);
        let _protocol = reply.int()?;
        let (timeout_ms, id) = (reply.int()?, reply.long()?);
        let password = reply.bytes()?.to_vec();
        if timeout_ms <= 0 || id == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the session has expired"));
        }
        client.session = Session { id, password, timeout_ms };
        Ok(client)
    }

    /// The next whole frame, without its length.
    fn frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let rest = &self.received[self.parsed..];
            if let Some((length, body)) = rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > REPLY_BYTES_MAX {
                    return Err(invalid(format!("a reply of {length} bytes")));
                }
                if let Some(frame) = body.get(..length) {
                    let frame = frame.to_vec();
                    self.parsed += 4 + length;
                    return Ok(frame);
                }
            }
            self.received.drain(..self.parsed);
            self.parsed = 0;
            let mut buffer = [0; 64 << 10];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Sends a request without waiting; answers come by [`Client::receive`].
    pub fn submit(&mut self, op: &Op) -> io::Result<i32> {
        self.submit_all(std::slice::from_ref(op))
    }

    /// Sends several requests in one write. Returns the last one's xid.
    pub fn submit_all(&mut self, ops: &[Op]) -> io::Result<i32> {
        let mut bytes = Vec::new();
        let mut xid = 0;
        for op in ops {
            xid = match op {
                Op::Ping => -2,
                _ => self.next_xid,
            };
            self.next_xid += 1;
            let mut out = Encoder::frame();
            out.int(xid).int(op.code());
            op.encode(&mut out);
            bytes.extend_from_slice(&out.finish());
            self.waiting.push_back((xid, op.code()));
        }
        self.stream.write_all(&bytes)?;
        Ok(xid)
    }

    /// Requests without an answer yet.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// The next answer; events on the way are kept in [`Client::events`].
    pub fn receive(&mut self) -> io::Result<Reply> {
        loop {
            let frame = self.frame()?;
            let mut body = Decoder::new(&frame);
            let (xid, zxid, error) = (body.int()?, body.long()?, body.int()?);
            if xid == -1 {
                let (kind, _state) = (body.int()?, body.int()?);
                self.events.push_back(Event { kind, path: body.string()? });
                continue;
            }
            let Some((expected, code)) = self.waiting.pop_front() else {
                return Err(invalid(format!("an answer to {xid} that nobody asked")));
            };
            if xid != expected {
                return Err(invalid(format!("an answer to {xid}, next is {expected}")));
            }
            self.last_zxid = self.last_zxid.max(zxid);
            let answer = match error {
                0 => decode(code, &mut body)?,
                error => Answer::Refused(error),
            };
            if !body.is_empty() {
                return Err(invalid(format!("bytes behind the answer to {xid}")));
            }
            return Ok(Reply { xid, zxid, answer });
        }
    }

    /// Waits for the next watch event, with nothing in flight.
    pub fn next_event(&mut self) -> io::Result<Event> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        // A ping's answer ends the wait when no event comes first.
        for _ in 0..200 {
            self.call(&Op::Ping)?;
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends one request and waits for its answer. Nothing else may be in flight.
    pub fn call(&mut self, op: &Op) -> io::Result<Reply> {
        assert!(self.waiting.is_empty(), "{} answers are still due", self.waiting.len());
        self.submit(op)?;
        self.receive()
    }

    /// Creates a node. Returns its path.
    pub fn create(&mut self, path: &str, data: &[u8], flags: i32) -> io::Result<String> {
        let (path, data) = (path.to_owned(), data.to_vec());
        match self.call(&Op::Create { path, data, flags })?.answer {
            Answer::Path(path) => Ok(path),
            other => Err(unexpected("create", &other)),
        }
    }

    /// Sets data whatever the version.
    pub fn set(&mut self, path: &str, data: &[u8]) -> io::Result<Stat> {
        let (path, data) = (path.to_owned(), data.to_vec());
        match self.call(&Op::SetData { path, data, version: -1 })?.answer {
            Answer::Stat(stat) => Ok(stat),
            other => Err(unexpected("setData", &other)),
        }
    }

    /// Data and status, or `None` when there is no such node.
    pub fn get(&mut self, path: &str) -> io::Result<Option<(Vec<u8>, Stat)>> {
        match self.call(&Op::GetData { path: path.to_owned(), watch: false })?.answer {
            Answer::Data(data, stat) => Ok(Some((data, stat))),
            Answer::Refused(crate::wire::code::NO_NODE) => Ok(None),
            other => Err(unexpected("getData", &other)),
        }
    }

    /// Names of the children, sorted, or `None` when there is no such node.
    pub fn children(&mut self, path: &str) -> io::Result<Option<Vec<String>>> {
        match self.call(&Op::GetChildren { path: path.to_owned(), watch: false })?.answer {
            Answer::Children(mut names) => {
                names.sort_unstable();
                Ok(Some(names))
            }
            Answer::Refused(crate::wire::code::NO_NODE) => Ok(None),
            other => Err(unexpected("getChildren", &other)),
        }
    }

    /// Ends the session and waits for the answer.
    pub fn close(mut self) -> io::Result<()> {
        match self.call(&Op::Close)?.answer {
            Answer::Nothing => Ok(()),
            other => Err(unexpected("closeSession", &other)),
        }
    }

    /// The socket, for tests that misuse it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

fn unexpected(what: &str, answer: &Answer) -> io::Error {
    invalid(format!("{what} answered {answer:?}"))
}

fn decode(code: i32, body: &mut Decoder<'_>) -> io::Result<Answer> {
    Ok(match code {
        opcode::CREATE | opcode::SYNC => Answer::Path(body.string()?),
        // So is answered what makes a container in a multi.
        opcode::CREATE2 => {
            let path = body.string()?;
            body.stat()?;
            Answer::Path(path)
        }
        opcode::SET_DATA | opcode::EXISTS => Answer::Stat(body.stat()?),
        opcode::GET_DATA => {
            let data = body.bytes()?.to_vec();
            Answer::Data(data, body.stat()?)
        }
        opcode::GET_CHILDREN => Answer::Children(body.strings()?),
        opcode::MULTI => {
            let mut parts = Vec::new();
            loop {
                let (code, done, _error) = (body.int()?, body.bool()?, body.int()?);
                if done {
                    return Ok(Answer::Parts(parts));
                }
                parts.push(match code {
                    -1 => Answer::Refused(body.int()?),
                    code => decode(code, body)?,
                });
            }
        }
        _ => Answer::Nothing,
    })
}

/// Sends a four-letter word and returns all that comes back within `patience`.
pub fn four_letter_word(address: SocketAddr, word: &str, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(word.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
