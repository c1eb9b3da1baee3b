//! The election port: notifications of votes, from and to every other server.
//!
//! A listener, a thread for what is said to a peer and one for what it says: the traffic is a few
//! messages for each election. Connections are made when there is something to say; between two
//! servers there is one, which `election_rules` chooses. Towards each peer the newest notification
//! waits, and nothing else. Called by `consensus`.
//!
//! Source: zookeeper-formats 3.1.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::address::PeerAddress;
use super::election_state::Shared;
use crate::ids::ServerId;
use crate::jute::election::Notification;
use crate::rt::net;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Between two attempts to open a listener, as in ZooKeeper.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// What takes the notifications that come: called on the threads of the port, must not block (see
/// `election_inbox`). The sender may be one that the configuration does not have.
pub type Deliver = dyn Fn(ServerId, Notification) + Send + Sync;

/// How an election port is set up.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    /// This server.
    pub me: ServerId,
    /// Its own election addresses, at least one: where it listens, and what it tells the others.
    pub own: Vec<PeerAddress>,
    /// Tell them all (`multiAddress.enabled`), which releases before 3.6 do not understand, not
    /// the first alone.
    pub announce_all: bool,
    /// `quorumListenOnAllIPs`: listen on every address of this host, at the ports of `own`.
    pub listen_on_all_ips: bool,
    /// `electionPortBindRetry`: how often to try to open a listener. 0: for ever.
    pub bind_tries: u32,
    /// The election addresses of the other members, observers included.
    pub peers: BTreeMap<ServerId, Vec<PeerAddress>>,
    /// `cnxTimeout`: for one address of a peer.
    pub connect_timeout: Duration,
    /// How long a caller may take to say who it is: syncLimit x tickTime, or
    /// `quorumCnxnTimeoutMs`.
    pub handshake_timeout: Duration,
    /// `tcpKeepAlive`.
    pub keepalive: bool,
}

/// Why there is no election port.
#[derive(Debug, Error)]
pub enum ElectionPortError {
    #[error("the election address {address} of this server is not found: {error}")]
    Name { address: PeerAddress, error: io::Error },
    #[error("cannot listen for elections on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("a thread cannot be started")]
    Thread,
}

/// An open election port. Dropped, it is closed.
pub struct ElectionPort {
    shared: Arc<Shared>,
    listening: Vec<SocketAddr>,
}

impl ElectionPort {
    /// Opens the port. Blocks while an address is in use: for `bind_tries` seconds, or for ever.
    ///
    /// # Errors
    /// When a listener cannot be opened.
    ///
    /// # Panics
    /// When `config` has no own address, or this server among its peers.
    pub fn start(
        config: ElectionConfig,
        deliver: impl Fn(ServerId, Notification) + Send + Sync + 'static,
    ) -> Result<ElectionPort, ElectionPortError> {
        assert!(!config.own.is_empty(), "a server without an election address");
        assert!(!config.peers.contains_key(&config.me), "{} is its own peer", config.me);
        let listeners = listen(&config)?;
        let shared = Arc::new(Shared::new(config, Box::new(deliver)));
        let mut port = ElectionPort { shared, listening: Vec::new() };
        for (address, listener) in listeners {
            port.listening.push(address);
            port.accept(listener)?;
        }
        Ok(port)
    }

    fn accept(&self, listener: TcpListener) -> Result<(), ElectionPortError> {
        let listener = Arc::new(listener);
        let mut state = self.shared.lock();
        state.listeners.push(Arc::clone(&listener));
        let accept = move |shared: &Arc<Shared>| super::election_accept::accept(shared, &listener);
        match self.shared.spawn(&mut state, "election-port", accept) {
            true => Ok(()),
            false => Err(ElectionPortError::Thread),
        }
    }

    /// Where it listens.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Says this to a peer as soon as there is a connection, which is made if need be, unless
    /// something newer is to be said until then. Who is neither a member nor connected is told
    /// nothing. Never blocks.
    ///
    /// # Panics
    /// When `to` is this server.
    pub fn send(&self, to: ServerId, notification: Notification) {
        let config = &self.shared.config;
        assert!(to != config.me, "a notification of {to} to itself");
        let mut state = self.shared.lock();
        if !config.peers.contains_key(&to) && !state.peers.contains_key(&to) {
            tracing::debug!(peer = %to, "a notification for a server that is not known");
            return;
        }
        self.shared.peer(&mut state, to).outgoing.put(notification);
        self.shared.attend(&mut state, to);
    }

    /// The servers to which there is a connection.
    pub fn connected(&self) -> Vec<ServerId> {
        let state = self.shared.lock();
        let connected = state.peers.iter().filter(|(_, peer)| peer.connection.is_some());
        connected.map(|(id, _)| *id).collect()
    }

    /// Closes the port and every connection; what was not yet said is not said. When it returns,
    /// nothing is delivered any more. Takes as long as a call of `deliver` may.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for ElectionPort {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn listen(config: &ElectionConfig) -> Result<Vec<(SocketAddr, TcpListener)>, ElectionPortError> {
    let mut wanted: Vec<Vec<SocketAddr>> = Vec::new();
    for own in &config.own {
        let candidates = match config.listen_on_all_ips {
            // IPv4 alone where the kernel has nothing else.
            true => vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, own.port())),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, own.port())),
            ],
            false => vec![first_number(own)?],
        };
        if !wanted.contains(&candidates) {
            wanted.push(candidates);
        }
    }
    let mut listeners = Vec::new();
    for candidates in wanted {
        let listener = listen_on(&candidates, config.bind_tries)?;
        let address = listener
            .local_addr()
            .map_err(|error| ElectionPortError::Listen { address: candidates[0], error })?;
        listeners.push((address, listener));
    }
    Ok(listeners)
}

fn first_number(own: &PeerAddress) -> Result<SocketAddr, ElectionPortError> {
    let not_found = |error| ElectionPortError::Name { address: own.clone(), error };
    loop {
        // For ever: nothing can be done without it, and the name service says when it gives up.
        let Some(found) = own.resolve().wait(Duration::from_secs(60)) else { continue };
        let first = found.map_err(not_found)?.into_iter().next();
        return first.ok_or_else(|| not_found(io::ErrorKind::NotFound.into()));
    }
}

fn listen_on(candidates: &[SocketAddr], tries: u32) -> Result<TcpListener, ElectionPortError> {
    let mut failed = 0;
    loop {
        let mut last = None;
        for &address in candidates {
            match net::listen(address, BACKLOG) {
                Ok(listener) => return Ok(listener),
                Err(error) => {
                    let in_use = error.kind() == io::ErrorKind::AddrInUse;
                    last = Some(ElectionPortError::Listen { address, error });
                    // Who has it now would share it with us by half.
                    if in_use {
                        break;
                    }
                }
            }
        }
        let error = last.expect("there is a candidate");
        failed += 1;
        if tries != 0 && failed >= tries {
            return Err(error);
        }
        tracing::warn!("{error}; trying again");
        std::thread::sleep(BIND_RETRY);
    }
}
