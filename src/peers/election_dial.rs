//! A peer's own thread on the election port: it connects when something is to be said or the peer
//! has asked for it, and writes what is to be said.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use thiserror::Error;

use super::address::{PeerAddress, Resolution};
use super::election_port::ElectionConfig;
use super::election_rules::keeps_dialed;
use super::election_state::{Shared, Task, hang_up};
use crate::ids::ServerId;
use crate::jute::election::{Hello, Notification};
use crate::limits::{ELECTION_MESSAGE_BYTES_MAX, ELECTION_WRITE_MS_MAX};
use crate::rt::clock;

/// How often somebody who waits for a name looks whether the port is closed.
const GLANCE: Duration = Duration::from_millis(20);

/// Why a peer could not be reached.
#[derive(Debug, Error)]
enum DialError {
    #[error("it has no address")]
    Nowhere,
    #[error("its name {0} is not found: {1}")]
    Name(PeerAddress, io::Error),
    #[error("its name {0} is still being looked up")]
    SlowName(PeerAddress),
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("the port is closed")]
    Closing,
}

/// Names that are being looked up, at most one at a time for each of the peer's addresses, so that
/// a slow name service is not asked by more and more threads.
#[derive(Default)]
struct Names(Vec<(PeerAddress, Resolution)>);

/// Does what there is to do for a peer, until the port is closed or the peer is forgotten.
pub(super) fn attend(shared: &Arc<Shared>, id: ServerId) {
    let mut names = Names::default();
    loop {
        match shared.next_task(id) {
            Task::Write(connection, notification) => {
                let Err(error) = write(&connection.stream, &notification) else { continue };
                let mut state = shared.lock();
                if let Some(peer) = state.peers.get_mut(&id) {
                    peer.outgoing.undelivered();
                }
                if shared.lose(&mut state, id, connection.number) {
                    tracing::info!(peer = %id, "election connection lost: {error}");
                }
            }
            Task::Dial(addresses) => dial(shared, id, &addresses, &mut names),
            Task::End => return,
        }
    }
}

/// In one piece: JVM servers are confused by less.
fn write(mut stream: &TcpStream, notification: &Notification) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    notification.encode(&mut bytes);
    let length = bytes.len() - 4;
    assert!(length <= ELECTION_MESSAGE_BYTES_MAX, "a notification of {length} bytes");
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    stream.write_all(&bytes)
}

fn dial(shared: &Arc<Shared>, id: ServerId, addresses: &[PeerAddress], names: &mut Names) {
    let dialed = connect_any(shared, id, addresses, names);
    if let Some(peer) = shared.lock().peers.get_mut(&id) {
        peer.dialing = None;
    }
    match dialed {
        Ok(stream) if keeps_dialed(shared.config.me, id) => {
            tracing::info!(peer = %id, "election connection made");
            let number = shared.lock().number_connection();
            shared.keep(id, stream, number);
        }
        Ok(stream) => {
            hang_up(&stream);
            if let Some(peer) = shared.lock().peers.get_mut(&id) {
                peer.redial.asked(clock::monotonic_ms());
            }
        }
        Err(DialError::Closing) => {}
        Err(error) => {
            let mut state = shared.lock();
            let Some(peer) = state.peers.get_mut(&id) else { return };
            // Once for each time that it goes, for this goes on until it is back.
            if peer.redial.failed(clock::monotonic_ms()) {
                tracing::warn!(peer = %id, "no election connection: {error}");
            } else {
                tracing::debug!(peer = %id, "no election connection: {error}");
            }
        }
    }
}

/// Connects to the first address that takes the hello, or tells what the last one said.
fn connect_any(
    shared: &Shared,
    id: ServerId,
    addresses: &[PeerAddress],
    names: &mut Names,
) -> Result<TcpStream, DialError> {
    names.0.retain(|(address, _)| addresses.contains(address));
    let mut last = DialError::Nowhere;
    for address in addresses {
        let numbers = match names.look_up(shared, address) {
            Ok(numbers) => numbers,
            Err(error @ DialError::Closing) => return Err(error),
            Err(error) => {
                last = error;
                continue;
            }
        };
        for number in numbers {
            match connect(shared, id, number) {
                Ok(Some(stream)) => return Ok(stream),
                Ok(None) => return Err(DialError::Closing),
                Err(error) => last = DialError::Connect(number, error),
            }
        }
    }
    Err(last)
}

impl Names {
    /// The addresses of a name, as they are now. When it takes too long, the answer is for the next
    /// time.
    fn look_up(
        &mut self,
        shared: &Shared,
        address: &PeerAddress,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let found = self.0.iter().position(|(name, _)| name == address);
        let resolution = match found {
            Some(index) => self.0.swap_remove(index).1,
            None => address.resolve(),
        };
        let deadline = Instant::now() + shared.config.connect_timeout;
        loop {
            if let Some(numbers) = resolution.wait(GLANCE) {
                return numbers.map_err(|error| DialError::Name(address.clone(), error));
            }
            let closing = shared.lock().closing;
            if closing || Instant::now() > deadline {
                self.0.push((address.clone(), resolution));
                return Err(match closing {
                    true => DialError::Closing,
                    false => DialError::SlowName(address.clone()),
                });
            }
        }
    }
}

/// `None`: the port is closed.
fn connect(shared: &Shared, id: ServerId, to: SocketAddr) -> io::Result<Option<TcpStream>> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    let socket = Arc::new(socket);
    {
        let mut state = shared.lock();
        if state.closing {
            return Ok(None);
        }
        if let Some(peer) = state.peers.get_mut(&id) {
            // Whoever closes the port ends the waiting with this.
            peer.dialing = Some(Arc::clone(&socket));
        }
    }
    socket.connect_timeout(&to.into(), shared.config.connect_timeout)?;
    let stream: TcpStream = socket.try_clone()?.into();
    // The kernel may have given us the very port that we dial, where nobody listens.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    set_options(&stream, &shared.config)?;
    let mut hello = Vec::new();
    own_hello(&shared.config).encode(&mut hello);
    (&stream).write_all(&hello)?;
    Ok(Some(stream))
}

/// What a connection of the election port is set to, on either side.
pub(super) fn set_options(stream: &TcpStream, config: &ElectionConfig) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(Duration::from_millis(ELECTION_WRITE_MS_MAX)))?;
    if config.keepalive {
        SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new())?;
    }
    Ok(())
}

fn own_hello(config: &ElectionConfig) -> Hello {
    let announced = match config.announce_all {
        true => &config.own[..],
        false => &config.own[..1],
    };
    let addresses = announced.iter().map(PeerAddress::to_string).collect();
    Hello { server: config.me, addresses }
}
