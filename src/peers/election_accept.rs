//! The accepting side of the election port: who has connected, and what it says. Everything here
//! comes from the network: a caller has a deadline, callers and their messages have bounds.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::address::{AddressError, PeerAddress};
use super::election_dial::set_options;
use super::election_rules::{Caller, Decision, answer};
use super::election_state::{Connection, Shared, hang_up};
use crate::ids::ServerId;
use crate::jute::decode::DecodeError;
use crate::jute::election::{Hello, Notification};
use crate::limits::{
    ELECTION_ADDRESS_BYTES_MAX, ELECTION_HANDSHAKES_MAX, ELECTION_MESSAGE_BYTES_MAX,
};

/// How long to accept nobody when the system lets us accept nobody (no file descriptor is left).
const RETRY: Duration = Duration::from_millis(100);

/// Bytes of a hello before its addresses, and of one of old releases.
const HELLO_HEAD_BYTES: usize = 20;
const OLD_HELLO_BYTES: usize = 8;

/// Why a caller is not known.
#[derive(Debug, Error)]
enum HelloError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Address(#[from] AddressError),
    #[error("it does not say who it is")]
    Late,
}

/// Accepts callers until the port is closed.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        match listener.accept() {
            Ok((stream, from)) => greet(shared, stream, from),
            Err(error) => {
                if shared.pause(RETRY) {
                    return;
                }
                tracing::warn!("the election port cannot accept: {error}");
            }
        }
    }
}

fn greet(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr) {
    let stream = Arc::new(stream);
    let mut guard = shared.lock();
    let state = &mut *guard;
    if state.closing {
        return;
    }
    if state.handshakes.len() >= ELECTION_HANDSHAKES_MAX
        && let Some(oldest) = state.handshakes.pop_front()
    {
        tracing::warn!("too many callers on the election port do not say who they are");
        hang_up(&oldest);
    }
    // Those that were hung up on end at once; should they not, there is still an end to it.
    if state.handshake_threads >= 2 * ELECTION_HANDSHAKES_MAX {
        tracing::warn!(%from, "refused on the election port: too many callers");
        return;
    }
    state.handshakes.push_back(Arc::clone(&stream));
    state.handshake_threads += 1;
    let number = state.number_connection();
    let handshake = move |shared: &Arc<Shared>| handshake(shared, stream, from, number);
    if !shared.spawn(state, "election-hello", handshake) {
        state.handshakes.pop_back();
        state.handshake_threads -= 1;
    }
}

fn handshake(shared: &Arc<Shared>, stream: Arc<TcpStream>, from: SocketAddr, number: u64) {
    let hello = set_options(&stream, &shared.config)
        .map_err(HelloError::Io)
        .and_then(|()| read_hello(&stream, shared.config.handshake_timeout));
    let decision = {
        let mut state = shared.lock();
        state.handshakes.retain(|it| !Arc::ptr_eq(it, &stream));
        state.handshake_threads -= 1;
        if state.closing {
            return;
        }
        hello.map(|(id, announced)| {
            let is_member = shared.config.peers.contains_key(&id);
            let has_address = is_member || !announced.is_empty();
            let others = state.peers.iter().filter(|(peer, _)| **peer != id);
            let strangers = others.filter(|(_, peer)| !peer.is_member).count();
            let caller = Caller { id, is_member, has_address };
            let decision = answer(shared.config.me, caller, strangers, state.nameless);
            if let Decision::Keep(kept) = decision
                && kept != id
            {
                state.nameless = state.nameless.wrapping_add(1);
            }
            (id, decision, announced)
        })
    };
    match decision {
        Ok((_, Decision::Keep(id), _)) => match Arc::try_unwrap(stream) {
            Ok(stream) => {
                tracing::info!(peer = %id, %from, "election connection accepted");
                shared.keep(id, stream, number);
            }
            // It was the oldest of too many.
            Err(stream) => hang_up(&stream),
        },
        Ok((_, Decision::CallBack(id), announced)) => {
            drop(stream);
            shared.call_back(id, announced);
        }
        Ok((id, Decision::Refuse(refusal), _)) => {
            tracing::warn!(peer = %id, %from, "refused on the election port: {}", refusal.reason());
        }
        Err(error) => {
            tracing::warn!(%from, "refused on the election port: {error}");
        }
    }
}

/// Reads who has called, and where it listens, without a byte of what comes behind. The stream then
/// waits for ever.
fn read_hello(
    stream: &TcpStream,
    patience: Duration,
) -> Result<(ServerId, Vec<PeerAddress>), HelloError> {
    let deadline = Instant::now() + patience;
    let mut bytes = Vec::new();
    read_until(stream, &mut bytes, OLD_HELLO_BYTES, deadline)?;
    let hello = loop {
        if let Some((hello, _)) = Hello::decode(&bytes)? {
            break hello;
        }
        let more = match bytes.last_chunk::<4>() {
            Some(length) if bytes.len() == HELLO_HEAD_BYTES => u32::from_be_bytes(*length) as usize,
            _ => HELLO_HEAD_BYTES - OLD_HELLO_BYTES,
        };
        assert!(more <= ELECTION_ADDRESS_BYTES_MAX, "{more} bytes of addresses were not refused");
        let until = bytes.len() + more;
        read_until(stream, &mut bytes, until, deadline)?;
    };
    stream.set_read_timeout(None)?;
    let mut addresses = Vec::new();
    for text in &hello.addresses {
        let address = PeerAddress::parse(text)?;
        if !address.is_wildcard() {
            addresses.push(address);
        }
    }
    Ok((hello.server, addresses))
}

fn read_until(
    mut stream: &TcpStream,
    bytes: &mut Vec<u8>,
    length: usize,
    deadline: Instant,
) -> Result<(), HelloError> {
    let mut at = bytes.len();
    bytes.resize(length, 0);
    while at < length {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HelloError::Late);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[at..]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(read) => at += read,
            // The time is over, or a signal came: the loop knows.
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Delivers what a peer says until its connection ends.
pub(super) fn receive(shared: &Arc<Shared>, id: ServerId, connection: &Connection) {
    let mut complained = false;
    let error = loop {
        let payload = match read_message(&connection.stream) {
            Ok(payload) => payload,
            Err(error) => break error,
        };
        match Notification::decode(&payload) {
            Ok(notification) => (shared.deliver)(id, notification),
            // As in ZooKeeper: the next one may be better.
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(peer = %id, "a notification that cannot be read: {error}");
            }
            Err(_) => {}
        }
    };
    let mut state = shared.lock();
    if shared.lose(&mut state, id, connection.number) && !state.closing {
        tracing::info!(peer = %id, "election connection lost: {error}");
    }
}

/// Memory is taken as the bytes come, not as the length announces them.
fn read_message(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > ELECTION_MESSAGE_BYTES_MAX {
        let reason = format!("a message of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut payload = Vec::new();
    stream.take(length as u64).read_to_end(&mut payload)?;
    match payload.len() == length {
        true => Ok(payload),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
