//! A server in this process that speaks just enough of the protocol, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub const CREATE: i32 = 1;
pub const DELETE: i32 = 2;
pub const EXISTS: i32 = 3;
pub const GET_DATA: i32 = 4;
pub const SET_DATA: i32 = 5;
pub const GET_CHILDREN: i32 = 8;
pub const SYNC: i32 = 9;
pub const PING: i32 = 11;
pub const MULTI: i32 = 14;
pub const CLOSE_SESSION: i32 = -11;

const OK: i32 = 0;
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// After this many getData no request is answered; the port closes, and then all connections
    /// end, so that whoever sees one end finds nobody at the port.
    DiesAfterGets(u64),
    /// After this many getData no request is answered.
    FallsSilentAfterGets(u64),
    /// Before it answers this getData, it does nothing for so long, for nobody.
    StallsAtGet(u64, Duration),
    /// Every getData gets this code.
    GetsFail(i32),
    /// getData gives one byte less than was written.
    GetsAreShort,
    /// Connections are closed before the handshake's answer.
    Closes,
    /// After so many handshakes no more is answered: their connections are closed.
    ClosesAfterHandshakes(u64),
    /// The handshake's answer says that there is no session.
    RefusesSessions,
    /// Another protocol.
    Http,
}

pub struct Fake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    fault: Fault,
    nodes: BTreeMap<String, Vec<u8>>,
    asked: BTreeMap<i32, u64>,
    /// The most requests that one receive brought.
    deepest: usize,
    /// By the number of the connection.
    open: BTreeMap<u64, TcpStream>,
    dead: bool,
    handshakes: u64,
}

impl Fake {
    pub fn start(fault: Fault) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            fault,
            nodes: BTreeMap::new(),
            asked: BTreeMap::new(),
            deepest: 0,
            open: BTreeMap::new(),
            dead: false,
            handshakes: 0,
        }));
        let shared = state.clone();
        thread::spawn(move || {
            for number in 0.. {
                let (stream, _) = listener.accept().unwrap();
                let mut state = shared.lock().unwrap();
                if state.dead {
                    // The other way round, a client could still connect to the port's backlog.
                    drop(listener);
                    state.open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
                    return;
                }
                state.open.insert(number, stream.try_clone().unwrap());
                let shared = shared.clone();
                thread::spawn(move || {
                    let end = stream.try_clone().unwrap();
                    serve(stream, &shared);
                    // The clone in the state keeps the socket open; this ends it for both.
                    let _ = end.shutdown(Shutdown::Both);
                    shared.lock().unwrap().open.remove(&number);
                });
            }
        });
        Fake { address, state }
    }

    /// How many requests of this type came.
    pub fn asked(&self, operation: i32) -> u64 {
        self.state.lock().unwrap().asked.get(&operation).copied().unwrap_or(0)
    }

    pub fn deepest(&self) -> usize {
        self.state.lock().unwrap().deepest
    }

    pub fn put(&self, path: &str, data: &[u8]) {
        self.state.lock().unwrap().nodes.insert(path.to_owned(), data.to_vec());
    }

    pub fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().nodes.keys().cloned().collect()
    }

    pub fn data(&self, path: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().nodes.get(path).cloned()
    }
}

/// Serves one connection until either side has enough.
fn serve(mut stream: TcpStream, shared: &Mutex<State>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut waiting = Vec::new();
    next_frame(&mut stream, &mut waiting)?;
    let (fault, handshakes) = {
        let mut state = shared.lock().unwrap();
        state.handshakes += 1;
        (state.fault, state.handshakes)
    };
    let timeout_ms = match fault {
        Fault::Closes => return None,
        Fault::ClosesAfterHandshakes(most) if handshakes > most => return None,
        Fault::Http => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok(),
        Fault::RefusesSessions => 0,
        _ => 30_000i32,
    };
    let mut response = [0; 4 + 37];
    response[3] = 37;
    response[8..12].copy_from_slice(&timeout_ms.to_be_bytes());
    response[27] = 16;
    stream.write_all(&response).ok()?;
    loop {
        let frame = next_frame(&mut stream, &mut waiting)?;
        let mut replies = Vec::new();
        let mut depth = 1;
        let mut going_on = answer(&frame, shared, &mut replies);
        while going_on && let Some(frame) = take_frame(&mut waiting) {
            depth += 1;
            going_on = answer(&frame, shared, &mut replies);
        }
        {
            let mut state = shared.lock().unwrap();
            state.deepest = state.deepest.max(depth);
        }
        stream.write_all(&replies).ok()?;
        if !going_on {
            return None;
        }
    }
}

fn next_frame(stream: &mut TcpStream, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(frame) = take_frame(waiting) {
            return Some(frame);
        }
        let mut buffer = [0; 65_536];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        waiting.extend_from_slice(&buffer[..count]);
    }
}

fn take_frame(waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(int(waiting, 0)?).unwrap();
    let frame = waiting.get(4..4 + length)?.to_vec();
    waiting.drain(..4 + length);
    Some(frame)
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().unwrap()))
}

fn bytes_at(frame: &[u8], at: usize) -> &[u8] {
    let length = int(frame, at).unwrap() as usize;
    &frame[at + 4..at + 4 + length]
}

/// Appends the reply to one request; false: the connection ends.
fn answer(frame: &[u8], shared: &Mutex<State>, replies: &mut Vec<u8>) -> bool {
    let (xid, operation) = (int(frame, 0).unwrap(), int(frame, 4).unwrap());
    let mut state = shared.lock().unwrap();
    *state.asked.entry(operation).or_default() += 1;
    let gets = state.asked.get(&GET_DATA).copied().unwrap_or(0);
    match state.fault {
        Fault::DiesAfterGets(most) if gets > most => {
            let first = !std::mem::replace(&mut state.dead, true);
            let own = state.open.values().next().unwrap().local_addr().unwrap();
            drop(state);
            if first {
                // Wakes the thread that accepts, which does the rest.
                let _ = TcpStream::connect(own);
            }
            return true;
        }
        Fault::FallsSilentAfterGets(most) if gets > most => return true,
        // Under the lock, so that every connection waits.
        Fault::StallsAtGet(at, length) if gets == at && operation == GET_DATA => {
            thread::sleep(length);
        }
        _ => {}
    }
    let (error, body) = state.carry_out(frame, operation);
    replies.extend_from_slice(&(16 + body.len() as i32).to_be_bytes());
    replies.extend_from_slice(&xid.to_be_bytes());
    replies.extend_from_slice(&7i64.to_be_bytes());
    replies.extend_from_slice(&error.to_be_bytes());
    replies.extend_from_slice(&body);
    operation != CLOSE_SESSION
}

impl State {
    fn carry_out(&mut self, frame: &[u8], operation: i32) -> (i32, Vec<u8>) {
        const STAT: [u8; 68] = [0; 68];
        if matches!(operation, PING | CLOSE_SESSION) {
            return (OK, Vec::new());
        }
        if operation == MULTI {
            // Its header, then setData of each of its keys; the reply repeats the headers.
            let (mut at, mut body) = (8, Vec::new());
            while int(frame, at) == Some(SET_DATA) {
                let path = String::from_utf8(bytes_at(frame, at + 9).to_vec()).unwrap();
                let data = bytes_at(frame, at + 13 + path.len()).to_vec();
                body.extend_from_slice(&frame[at..at + 9]);
                body.extend_from_slice(&STAT);
                at += 13 + path.len() + 4 + data.len() + 4;
                assert!(self.nodes.insert(path, data).is_some(), "a key that was not made");
            }
            assert_eq!(frame.len(), at + 9, "the end of the multi");
            body.extend_from_slice(&frame[at..]);
            return (OK, body);
        }
        let path = String::from_utf8(bytes_at(frame, 8).to_vec()).unwrap();
        if operation == SYNC {
            return (OK, buffer(path.as_bytes()));
        }
        let data_at = 12 + path.len();
        let there = self.nodes.contains_key(&path);
        match operation {
            CREATE => {
                let data = bytes_at(frame, data_at).to_vec();
                let flags = int(frame, frame.len() - 4).unwrap();
                let path =
                    if flags == 2 { format!("{path}{:010}", self.nodes.len()) } else { path };
                let parent = path.rsplit_once('/').unwrap().0;
                if !parent.is_empty() && !self.nodes.contains_key(parent) {
                    return (NO_NODE, Vec::new());
                }
                if self.nodes.contains_key(&path) {
                    return (NODE_EXISTS, Vec::new());
                }
                let body = buffer(path.as_bytes());
                self.nodes.insert(path, data);
                (OK, body)
            }
            _ if !there => (NO_NODE, Vec::new()),
            GET_DATA => match self.fault {
                Fault::GetsFail(code) if path.matches('/').count() > 1 => (code, Vec::new()),
                Fault::GetsAreShort => {
                    let data = &self.nodes[&path];
                    (OK, [&buffer(&data[1..])[..], &STAT].concat())
                }
                _ => (OK, [&buffer(&self.nodes[&path])[..], &STAT].concat()),
            },
            EXISTS => (OK, STAT.to_vec()),
            SET_DATA => {
                self.nodes.insert(path, bytes_at(frame, data_at).to_vec());
                (OK, STAT.to_vec())
            }
            DELETE => {
                let prefix = format!("{path}/");
                let below = self.nodes.range(prefix.clone()..).next();
                assert!(below.is_none_or(|(other, _)| !other.starts_with(&prefix)), "{path}");
                self.nodes.remove(&path);
                (OK, Vec::new())
            }
            GET_CHILDREN => {
                let prefix = format!("{path}/");
                let names = self.nodes.keys().filter_map(|other| other.strip_prefix(&prefix));
                let names: Vec<&str> = names.filter(|rest| !rest.contains('/')).collect();
                let mut body = (names.len() as i32).to_be_bytes().to_vec();
                names.iter().for_each(|name| body.extend(buffer(name.as_bytes())));
                (OK, body)
            }
            other => panic!("the load generator asked for operation {other}"),
        }
    }
}

fn buffer(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat()
}
