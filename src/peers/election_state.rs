//! What the threads of one election port share: the peers and their connections, under one lock,
//! which is held for moments only, never over I/O.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::address::PeerAddress;
use super::election_port::{Deliver, ElectionConfig};
use super::election_rules::{Outgoing, Redial};
use crate::ids::ServerId;
use crate::jute::election::Notification;
use crate::rt::clock;

/// Stack of a thread, bytes: none of them goes deep.
const STACK_BYTES: usize = 256 << 10;

/// The port, as its threads see it.
pub(super) struct Shared {
    pub config: ElectionConfig,
    pub deliver: Box<Deliver>,
    state: Mutex<State>,
    /// A thread has ended, or all are to.
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// All threads are to end; nothing is begun any more.
    pub closing: bool,
    threads: usize,
    pub listeners: Vec<Arc<TcpListener>>,
    /// Members that something was to be said to or that have called, and strangers while they are
    /// connected or called back.
    pub peers: BTreeMap<ServerId, Peer>,
    /// Callers that have not said who they are, oldest first.
    pub handshakes: VecDeque<Arc<TcpStream>>,
    /// Threads of callers, including those of closed ones that have not noticed yet.
    pub handshake_threads: usize,
    /// Callers without an id that were kept so far.
    pub nameless: u32,
    connections: u64,
}

/// One other server.
pub(super) struct Peer {
    /// The configuration has it.
    pub is_member: bool,
    /// Where it says that it listens.
    pub announced: Vec<PeerAddress>,
    pub outgoing: Outgoing,
    pub redial: Redial,
    pub connection: Option<Connection>,
    /// It has asked to be called.
    pub call_back: bool,
    /// The socket that is being connected.
    pub dialing: Option<Arc<Socket>>,
    attended: bool,
    wake: Arc<Condvar>,
}

/// A connection over which notifications go.
#[derive(Clone)]
pub(super) struct Connection {
    pub stream: Arc<TcpStream>,
    /// Which one, in the order in which they came, so that who finds an old one broken does not
    /// close the new one, nor an old one whose hello was read late take its place.
    pub number: u64,
}

/// What a peer's thread is to do next.
pub(super) enum Task {
    Write(Connection, Notification),
    /// Connect to the first of these that can be reached.
    Dial(Vec<PeerAddress>),
    End,
}

impl State {
    /// The number of a connection that has just come to be.
    pub fn number_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }
}

impl Peer {
    fn new(is_member: bool) -> Peer {
        Peer {
            is_member,
            announced: Vec::new(),
            outgoing: Outgoing::default(),
            redial: Redial::default(),
            connection: None,
            call_back: false,
            dialing: None,
            attended: false,
            wake: Arc::default(),
        }
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            hang_up(&connection.stream);
        }
    }
}

/// Ends whatever waits for this connection. It may be closed by its peer already.
pub(super) fn hang_up(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Counts a thread out, however it ends.
struct Leaving(Arc<Shared>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}

impl Shared {
    pub fn new(config: ElectionConfig, deliver: Box<Deliver>) -> Shared {
        Shared { config, deliver, state: Mutex::default(), changed: Condvar::new() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Starts a thread that `close` waits for. False, with a log line, if there can be none.
    pub fn spawn(
        self: &Arc<Self>,
        state: &mut State,
        name: &str,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> bool {
        let shared = Arc::clone(self);
        let work = move || {
            let leaving = Leaving(shared);
            work(&leaving.0);
        };
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let spawned = builder.spawn(work);
        match &spawned {
            Ok(_) => state.threads += 1,
            Err(error) => tracing::error!("no thread for the election port: {error}"),
        }
        spawned.is_ok()
    }

    /// The state of `id`, made if there is none.
    pub fn peer<'a>(&self, state: &'a mut State, id: ServerId) -> &'a mut Peer {
        let is_member = self.config.peers.contains_key(&id);
        state.peers.entry(id).or_insert_with(|| Peer::new(is_member))
    }

    /// Sees to it that the peer's thread looks what there is to do.
    pub fn attend(self: &Arc<Self>, state: &mut State, id: ServerId) {
        let Some(peer) = state.peers.get_mut(&id) else { return };
        peer.wake.notify_all();
        if peer.attended || state.closing {
            return;
        }
        peer.attended = true;
        let work = move |shared: &Arc<Shared>| super::election_dial::attend(shared, id);
        if !self.spawn(state, "election-send", work)
            && let Some(peer) = state.peers.get_mut(&id)
        {
            peer.attended = false;
        }
    }

    /// Waits until there is something to do for a peer.
    pub fn next_task(&self, id: ServerId) -> Task {
        let mut state = self.lock();
        loop {
            if state.closing {
                return Task::End;
            }
            let Some(peer) = state.peers.get_mut(&id) else { return Task::End };
            let wake = Arc::clone(&peer.wake);
            let said = peer.outgoing.is_waiting();
            let mut wait_ms = None;
            match &peer.connection {
                Some(connection) => {
                    let connection = connection.clone();
                    if let Some(notification) = peer.outgoing.take() {
                        return Task::Write(connection, notification);
                    }
                }
                None if peer.call_back || peer.is_member && said => {
                    let now_ms = clock::monotonic_ms();
                    let left_ms = peer.redial.not_before_ms().saturating_sub(now_ms);
                    if left_ms == 0 {
                        return Task::Dial(self.addresses(id, peer));
                    }
                    wait_ms = Some(left_ms);
                }
                // A stranger is forgotten with its connection.
                None if !peer.is_member => {
                    state.peers.remove(&id);
                    return Task::End;
                }
                None => {}
            }
            state = match wait_ms {
                Some(ms) => {
                    let waited = wake.wait_timeout(state, Duration::from_millis(ms));
                    waited.expect("nobody panics with it").0
                }
                None => wake.wait(state).expect("nobody panics with it"),
            };
        }
    }

    /// Where to connect to: if it has asked for it, where it says that it is, else where it is
    /// configured to be; the rest behind that. Takes its wish to be called back as fulfilled.
    fn addresses(&self, id: ServerId, peer: &mut Peer) -> Vec<PeerAddress> {
        let configured = self.config.peers.get(&id).map_or(&[][..], Vec::as_slice);
        let order = match std::mem::take(&mut peer.call_back) {
            true => [&peer.announced[..], configured],
            false => [configured, &peer.announced[..]],
        };
        let mut addresses: Vec<PeerAddress> = Vec::new();
        for address in order.concat() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Takes a connection as the one to this peer, in place of any older one, and begins to
    /// receive from it. `number` is from `State::number_connection`.
    pub fn keep(self: &Arc<Self>, id: ServerId, stream: TcpStream, number: u64) {
        let connection = Connection { stream: Arc::new(stream), number };
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closing {
            return;
        }
        let peer = self.peer(state, id);
        if peer.connection.as_ref().is_some_and(|current| current.number > number) {
            hang_up(&connection.stream);
            return;
        }
        peer.disconnect();
        peer.connection = Some(connection.clone());
        peer.outgoing.connected();
        peer.redial.connected();
        peer.call_back = false;
        let receive = move |shared: &Arc<Shared>| {
            super::election_accept::receive(shared, id, &connection);
        };
        if !self.spawn(state, "election-recv", receive) {
            self.lose(state, id, number);
        }
        self.attend(state, id);
    }

    /// The connection of this number is broken. False when there is another one already.
    pub fn lose(&self, state: &mut State, id: ServerId, number: u64) -> bool {
        let Some(peer) = state.peers.get_mut(&id) else { return false };
        let is_current = peer.connection.as_ref().is_some_and(|it| it.number == number);
        if is_current {
            peer.disconnect();
            peer.wake.notify_all();
        }
        is_current
    }

    /// A caller wants to be called back, here if it says where.
    pub fn call_back(self: &Arc<Self>, id: ServerId, announced: Vec<PeerAddress>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let peer = self.peer(state, id);
        peer.disconnect();
        peer.announced = announced;
        peer.call_back = true;
        // It is there, however long it was not.
        peer.redial = Redial::default();
        self.attend(state, id);
    }

    /// Ends every thread, and waits for that.
    pub fn close(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.closing = true;
        for listener in state.listeners.drain(..) {
            // A thread that accepts is woken by this on Linux; nothing else would wake it.
            let _ = SockRef::from(&*listener).shutdown(Shutdown::Both);
        }
        for stream in state.handshakes.drain(..) {
            hang_up(&stream);
        }
        for peer in state.peers.values_mut() {
            peer.disconnect();
            if let Some(socket) = peer.dialing.take() {
                let _ = socket.shutdown(Shutdown::Both);
            }
            peer.wake.notify_all();
        }
        self.changed.notify_all();
        while guard.threads > 0 {
            guard = self.changed.wait(guard).expect("nobody panics with it");
        }
    }

    /// Waits this long, but no longer than until the port is closed. Returns whether it is.
    pub fn pause(&self, duration: Duration) -> bool {
        let guard = self.lock();
        let waited = self.changed.wait_timeout_while(guard, duration, |state| !state.closing);
        waited.expect("nobody panics with it").0.closing
    }
}
