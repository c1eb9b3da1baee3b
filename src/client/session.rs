//! A session as the callers of the client and its thread share it: who is connected, what is in
//! flight, which watches and authentications a new connection must get again.
//!
//! Invariant: requests are written under the lock and in the order of `in_flight`, which is the
//! order in which the server answers. No event is told under the lock.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::jute::codec::EncodeError;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::limits::{CLIENT_ANSWER_MS_MAX, CLIENT_REQUESTS_MAX};

use super::event::{Event, EventKind, KeeperState, State};
use super::paths::Chroot;
use super::watches::{WatchKind, WatchSelection, Watches};
use super::wire;

/// The xid of an authentication, as ZooKeeper's clients number it.
pub(super) const AUTH_XID: i32 = -4;

/// Who is told of events, by the client's thread: in order with the replies, so an event comes
/// before the answer to what was sent after it. It must not wait for an answer of this client.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection was lost, or none could be made.
    Connection,
    /// The session has ended.
    Expired,
    /// The session has ended: an authentication was refused.
    AuthFailed,
    /// The server did not answer in time.
    TimedOut,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0, or why it failed.
    pub err: i32,
    /// What is behind the header.
    pub body: Vec<u8>,
}

/// What an answer changes about the watches. Paths are the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchChange {
    Nothing,
    /// Success grants this watch.
    Add(WatchKind, String),
    /// Success grants a data watch, NONODE one on the existence.
    AddForExists(String),
    /// Success removes these.
    Remove(WatchSelection, String),
}

/// A request in flight.
#[derive(Debug)]
pub struct Ticket {
    answer: Receiver<Result<Reply, Loss>>,
}

impl Ticket {
    /// Waits for the answer.
    ///
    /// # Errors
    /// There is none.
    pub fn wait(self) -> Result<Reply, Loss> {
        let limit = Duration::from_millis(CLIENT_ANSWER_MS_MAX);
        self.answer.recv_timeout(limit).unwrap_or(Err(Loss::TimedOut))
    }
}

/// An authentication, to be repeated on every connection.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Auth {
    pub(super) scheme: String,
    pub(super) auth: Option<Vec<u8>>,
}

struct InFlight {
    xid: i32,
    change: WatchChange,
    answer: SyncSender<Result<Reply, Loss>>,
}

/// What the lock protects.
pub(super) struct Inner {
    pub(super) state: State,
    /// Where requests are written; there while `state` is connected.
    pub(super) stream: Option<TcpStream>,
    pub(super) last_sent: Instant,
    /// 0 before the first connection.
    pub(super) session_id: i64,
    pub(super) password: Vec<u8>,
    /// What was asked for, then what was granted.
    pub(super) timeout: Duration,
    pub(super) last_zxid: i64,
    pub(super) watches: Watches,
    pub(super) auths: Vec<Auth>,
    /// Rounds over all servers in vain; whoever waits for a connection gives up at the next.
    pub(super) rounds_failed: u64,
    /// The last reason for which a connection failed, until one is made.
    pub(super) trouble: Option<String>,
    /// The client was told to end.
    pub(super) closing: bool,
    next_xid: i32,
    in_flight: VecDeque<InFlight>,
    /// None for one that a new connection repeats, which nobody waits for.
    auths_in_flight: VecDeque<Option<SyncSender<Result<Reply, Loss>>>>,
}

/// The shared session.
pub struct Session {
    inner: Mutex<Inner>,
    changed: Condvar,
    pub(super) chroot: Chroot,
    pub(super) listener: Listener,
}

impl Session {
    pub(super) fn new(timeout: Duration, chroot: Chroot, listener: Listener) -> Session {
        let inner = Inner {
            state: State::Connecting,
            stream: None,
            last_sent: Instant::now(),
            session_id: 0,
            password: vec![0; 16],
            timeout,
            last_zxid: 0,
            watches: Watches::default(),
            auths: Vec::new(),
            rounds_failed: 0,
            trouble: None,
            closing: false,
            next_xid: 1,
            in_flight: VecDeque::new(),
            auths_in_flight: VecDeque::new(),
        };
        Session { inner: Mutex::new(inner), changed: Condvar::new(), chroot, listener }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the session's lock panics")
    }

    /// Wakes whoever waits for the session's state or for room.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits on a change for at most `limit`.
    pub(super) fn wait<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        limit: Duration,
    ) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, limit).expect("no holder of the session's lock panics").0
    }

    /// Sends a request, when there is a connection and room. `body` is its record in jute.
    ///
    /// # Errors
    /// The body is too long for a frame.
    pub(super) fn submit(
        &self,
        op: OpCode,
        body: &[u8],
        change: WatchChange,
    ) -> Result<Result<Ticket, Loss>, EncodeError> {
        let mut inner = match self.connected() {
            Ok(inner) => inner,
            Err(loss) => return Ok(Err(loss)),
        };
        let xid = inner.next_xid;
        let frame = wire::request(xid, op, body)?;
        inner.next_xid = xid.checked_add(1).unwrap_or(1);
        let (sender, answer) = mpsc::sync_channel(1);
        inner.in_flight.push_back(InFlight { xid, change, answer: sender });
        inner.write(&frame);
        Ok(Ok(Ticket { answer }))
    }

    /// Sends an authentication and keeps it for later connections.
    ///
    /// # Errors
    /// As for [`Self::submit`].
    pub(super) fn authenticate(
        &self,
        auth: Auth,
        body: &[u8],
    ) -> Result<Result<Ticket, Loss>, EncodeError> {
        let mut inner = match self.connected() {
            Ok(inner) => inner,
            Err(loss) => return Ok(Err(loss)),
        };
        let frame = wire::request(AUTH_XID, OpCode::AUTH, body)?;
        if !inner.auths.contains(&auth) {
            inner.auths.push(auth);
        }
        let (sender, answer) = mpsc::sync_channel(1);
        inner.auths_in_flight.push_back(Some(sender));
        inner.write(&frame);
        Ok(Ok(Ticket { answer }))
    }

    /// The session, once there is a connection and room for one more request. A caller that finds
    /// none waits until every server has been tried once more.
    fn connected(&self) -> Result<MutexGuard<'_, Inner>, Loss> {
        let mut inner = self.lock();
        let given_up = inner.rounds_failed + 1;
        let deadline = Instant::now() + inner.timeout;
        loop {
            match inner.state {
                State::Closed => return Err(Loss::Expired),
                State::AuthFailed => return Err(Loss::AuthFailed),
                _ if inner.closing => return Err(Loss::Expired),
                State::Connected | State::ConnectedReadOnly if inner.has_room() => {
                    return Ok(inner);
                }
                State::Connecting if inner.rounds_failed >= given_up => {
                    return Err(Loss::Connection);
                }
                _ => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Loss::Connection);
            }
            inner = self.wait(inner, left);
        }
    }

    /// Ends the session: the server is told if there is one, and has at most `patience` to answer.
    pub(super) fn close(&self, patience: Duration) {
        let mut inner = self.lock();
        inner.closing = true;
        if inner.state.is_connected()
            && let Ok(frame) = wire::request(inner.next_xid, OpCode::CLOSE_SESSION, &[])
        {
            let (sender, answer) = mpsc::sync_channel(1);
            let (xid, change) = (inner.next_xid, WatchChange::Nothing);
            inner.in_flight.push_back(InFlight { xid, change, answer: sender });
            inner.write(&frame);
            drop(inner);
            // Answered or not, the connection goes now.
            let _ = answer.recv_timeout(patience);
            inner = self.lock();
        }
        if inner.state.is_alive() {
            inner.state = State::Closed;
        }
        if let Some(stream) = inner.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(inner);
        self.wake();
    }

    /// Removes watches here alone, for a client that cannot reach its server. The events that
    /// tell so have been told when it returns; whether there were any.
    pub(super) fn remove_locally(&self, selection: WatchSelection, path: &str) -> bool {
        let removed = self.lock().watches.remove(selection, path);
        self.tell_removed(&removed, path, KeeperState::Disconnected);
        !removed.is_empty()
    }

    /// An answer came. The watches follow it, then its caller gets it.
    ///
    /// # Errors
    /// It is not the one that is due.
    pub(super) fn answered(&self, xid: i32, mut reply: Reply) -> Result<(), wire::WireError> {
        let mut inner = self.lock();
        let expected = inner.in_flight.front().map(|request| request.xid);
        let due = if expected == Some(xid) { inner.in_flight.pop_front() } else { None };
        let Some(request) = due else {
            return Err(wire::WireError::OutOfOrder { got: xid, expected });
        };
        let (ok, no_node) = (reply.err == 0, reply.err == ErrorCode::NoNode.code());
        let mut removed = None;
        match request.change {
            WatchChange::Add(kind, path) if ok => inner.watches.add(kind, &path),
            WatchChange::AddForExists(path) if ok => inner.watches.add(WatchKind::Data, &path),
            WatchChange::AddForExists(path) if no_node => {
                inner.watches.add(WatchKind::Exist, &path);
            }
            WatchChange::Remove(selection, path) if ok => {
                let kinds = inner.watches.remove(selection, &path);
                // ZooKeeper's client judges by its own list, too.
                if kinds.is_empty() {
                    reply.err = ErrorCode::NoWatcher.code();
                }
                removed = Some((kinds, path));
            }
            _ => {}
        }
        drop(inner);
        self.wake();
        if let Some((kinds, path)) = removed {
            self.tell_removed(&kinds, &path, KeeperState::SyncConnected);
        }
        // A caller that has given up waiting is no concern here.
        let _ = request.answer.send(Ok(reply));
        Ok(())
    }

    /// The oldest authentication in flight was accepted.
    pub(super) fn authenticated(&self) {
        let oldest = self.lock().auths_in_flight.pop_front();
        self.wake();
        if let Some(Some(waiting)) = oldest {
            let _ = waiting.send(Ok(Reply { err: 0, body: Vec::new() }));
        }
    }

    fn tell_removed(&self, kinds: &[EventKind], path: &str, state: KeeperState) {
        for kind in kinds {
            let path = Some(self.chroot.inside(path).to_owned());
            (self.listener)(&Event { state, kind: *kind, path, zxid: -1 });
        }
    }

    /// The connection is gone: everything in flight fails with `loss`, and the session is
    /// `state`.
    pub(super) fn lost(&self, loss: Loss, state: State) {
        let mut inner = self.lock();
        inner.stream = None;
        inner.state = state;
        let requests: Vec<_> = inner.in_flight.drain(..).map(|request| request.answer).collect();
        let auths: Vec<_> = inner.auths_in_flight.drain(..).flatten().collect();
        drop(inner);
        self.wake();
        for waiting in requests.into_iter().chain(auths) {
            let _ = waiting.send(Err(loss));
        }
    }
}

impl Inner {
    /// Writes an authentication that nobody waits for.
    pub(super) fn write_auth(&mut self, frame: &[u8]) {
        self.auths_in_flight.push_back(None);
        self.write(frame);
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() + self.auths_in_flight.len() < CLIENT_REQUESTS_MAX
    }

    /// Writes a frame. When that fails the connection is shut down, which the client's thread
    /// notices: it fails everything in flight.
    pub(super) fn write(&mut self, frame: &[u8]) {
        self.last_sent = Instant::now();
        if let Some(stream) = &self.stream
            && wire::write(stream, frame).is_err()
        {
            // It may be gone already, which is what this is for.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
