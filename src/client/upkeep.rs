//! The client's thread: dials, shakes hands, restores what a connection must know, reads, pings,
//! and begins anew when the connection is lost, until the session has ended.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jute::codec::{self, EncodeError};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{AuthPacket, ConnectRequest, ConnectResponse, EventType, WatcherEvent};

use super::event::{Event, EventKind, KeeperState, State};
use super::servers::{Rounds, Server};
use super::session::{AUTH_XID, Inner, Loss, Reply, Session};
use super::watches::SetAgain;
use super::wire::{self, Received, WireError};

/// The xids that do not belong to a request of a caller, as ZooKeeper's clients number them.
const EVENT_XID: i32 = -1;
const PING_XID: i32 = -2;
const SET_WATCHES_XID: i32 = -8;

/// Longest time without a ping, however long the session may last: a firewall between must not
/// take a connection for dead.
const PING_EVERY_MAX: Duration = Duration::from_secs(10);

/// Shortest wait that a socket takes; zero would be none.
const READ_WAIT_MIN: Duration = Duration::from_millis(1);

/// How a connection ended.
enum End {
    /// It was lost; the session may go on elsewhere.
    Lost(WireError),
    /// The server has no such session.
    Expired,
    /// The server refused an authentication.
    AuthFailed,
}

impl From<WireError> for End {
    fn from(error: WireError) -> End {
        End::Lost(error)
    }
}

/// Keeps `session` alive over `rounds` of servers until it ends or its client closes it.
pub(super) fn run(session: &Arc<Session>, mut rounds: Rounds, read_only: bool) {
    loop {
        let (server, pause) = rounds.next_server();
        if !sleep(session, pause) {
            return session.lost(Loss::Expired, State::Closed);
        }
        let mut served = false;
        let end = match connect(session, &server, rounds.count(), read_only) {
            Ok((mut stream, mut received)) => {
                rounds.connected();
                served = true;
                serve(session, &mut stream, &mut received)
            }
            Err(end) => end,
        };
        match end {
            _ if session.lock().closing => return session.lost(Loss::Expired, State::Closed),
            End::Lost(error) => {
                let mut inner = session.lock();
                inner.trouble = Some(format!("{server}: {error}"));
                inner.rounds_failed += u64::from(!served && rounds.round_failed());
                drop(inner);
                let told = served.then_some(KeeperState::Disconnected);
                leave(session, State::Connecting, told, Loss::Connection);
            }
            End::Expired => {
                return leave(session, State::Closed, Some(KeeperState::Expired), Loss::Expired);
            }
            End::AuthFailed => {
                let told = Some(KeeperState::AuthFailed);
                return leave(session, State::AuthFailed, told, Loss::AuthFailed);
            }
        }
    }
}

/// The connection is gone. In this order: the state, for whoever is told may ask; the event; the
/// requests in flight, for an event comes before the answers behind it.
fn leave(session: &Session, state: State, told: Option<KeeperState>, loss: Loss) {
    session.lock().state = state;
    if let Some(told) = told {
        tell(session, told);
    }
    session.lost(loss, state);
}

fn tell(session: &Session, state: KeeperState) {
    (session.listener)(&Event::of_session(state));
}

/// Waits for `pause`, or until the client is told to end: then it is false.
fn sleep(session: &Session, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    let mut inner = session.lock();
    while !inner.closing {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        inner = session.wait(inner, left);
    }
    false
}

/// Dials `server`, gets the session from it and hands it the authentications and watches.
fn connect(
    session: &Session,
    server: &Server,
    servers: u32,
    read_only: bool,
) -> Result<(TcpStream, Received), End> {
    let timeout = session.lock().timeout;
    let patience = (timeout / servers).max(READ_WAIT_MIN);
    let mut stream = dial(server, patience)?;
    stream.set_nodelay(true).map_err(WireError::Io)?;
    stream.set_write_timeout(Some(patience)).map_err(WireError::Io)?;
    let mut received = Received::default();
    let response = shake_hands(session, &mut stream, &mut received, read_only, patience)?;
    let granted = u64::try_from(response.timeout_ms).unwrap_or(0);
    if granted == 0 {
        return Err(End::Expired);
    }
    let (state, keeper_state) = if response.read_only == Some(true) {
        (State::ConnectedReadOnly, KeeperState::ConnectedReadOnly)
    } else {
        (State::Connected, KeeperState::SyncConnected)
    };
    let mut inner = session.lock();
    inner.session_id = response.session_id;
    inner.password = response.password.map(serde_bytes::ByteBuf::into_vec).unwrap_or_default();
    inner.timeout = Duration::from_millis(granted);
    inner.stream = Some(stream.try_clone().map_err(WireError::Io)?);
    inner.trouble = None;
    restore(&mut inner).map_err(WireError::Request)?;
    inner.state = state;
    drop(inner);
    // Told before anybody can send a request, so that it comes before every answer.
    tell(session, keeper_state);
    session.wake();
    Ok((stream, received))
}

fn dial(server: &Server, patience: Duration) -> Result<TcpStream, WireError> {
    let addresses = (server.host.as_str(), server.port).to_socket_addrs()?;
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or_else(|| WireError::NoAddress, WireError::Io))
}

fn shake_hands(
    session: &Session,
    stream: &mut TcpStream,
    received: &mut Received,
    read_only: bool,
    patience: Duration,
) -> Result<ConnectResponse, WireError> {
    let inner = session.lock();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: inner.last_zxid,
        timeout_ms: i32::try_from(inner.timeout.as_millis()).unwrap_or(i32::MAX),
        session_id: inner.session_id,
        password: Some(inner.password.clone().into()),
        read_only: Some(read_only),
    };
    drop(inner);
    let mut body = Vec::new();
    request.encode(&mut body)?;
    wire::write(stream, &wire::framed(&[&body])?)?;
    let until = Instant::now() + patience;
    loop {
        if let Some(frame) = received.next_frame()? {
            return Ok(ConnectResponse::decode(frame)?);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Silent(patience.as_millis()));
        }
        stream.set_read_timeout(Some(left.max(READ_WAIT_MIN)))?;
        received.read(stream)?;
    }
}

/// Sends what a new connection of an old session must know: first who it is, for watches need
/// rights, too.
fn restore(inner: &mut Inner) -> Result<(), EncodeError> {
    let auths = inner.auths.clone();
    for auth in &auths {
        let packet = auth_packet(&auth.scheme, auth.auth.as_deref());
        let frame = wire::request(AUTH_XID, OpCode::AUTH, &codec::to_vec(&packet)?)?;
        inner.write_auth(&frame);
    }
    for request in inner.watches.set_again(inner.last_zxid) {
        let (op, body) = match &request {
            SetAgain::Plain(request) => (OpCode::SET_WATCHES, codec::to_vec(request)?),
            SetAgain::WithPersistent(request) => (OpCode::SET_WATCHES2, codec::to_vec(request)?),
        };
        let frame = wire::request(SET_WATCHES_XID, op, &body)?;
        inner.write(&frame);
    }
    Ok(())
}

/// The packet that adds an authentication.
pub(super) fn auth_packet(scheme: &str, auth: Option<&[u8]>) -> AuthPacket {
    let auth = auth.map(|bytes| bytes.to_vec().into());
    AuthPacket { kind: 0, scheme: scheme.to_owned(), auth }
}

/// Reads and pings until the connection ends.
fn serve(session: &Session, stream: &mut TcpStream, received: &mut Received) -> End {
    let timeout = session.lock().timeout;
    let mut heard = Instant::now();
    loop {
        match serve_once(session, stream, received, timeout, &mut heard) {
            Ok(()) => {}
            Err(end) => return end,
        }
    }
}

/// Waits for something to come, at most until a ping is due, and takes it.
fn serve_once(
    session: &Session,
    stream: &mut TcpStream,
    received: &mut Received,
    timeout: Duration,
    heard: &mut Instant,
) -> Result<(), End> {
    // What came behind the handshake is taken before more is waited for.
    while let Some(frame) = received.next_frame().map_err(WireError::Frame)? {
        take(session, frame)?;
    }
    let ping_due = session.lock().last_sent + (timeout / 3).min(PING_EVERY_MAX);
    let given_up = *heard + timeout * 2 / 3;
    let wait = ping_due.min(given_up).saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(wait.max(READ_WAIT_MIN))).map_err(WireError::Io)?;
    if received.read(stream)? {
        *heard = Instant::now();
    } else if Instant::now() >= given_up {
        return Err(WireError::Silent((timeout * 2 / 3).as_millis()).into());
    }
    if Instant::now() >= ping_due {
        let ping = wire::request(PING_XID, OpCode::PING, &[]).map_err(WireError::Request)?;
        session.lock().write(&ping);
    }
    Ok(())
}

/// Takes one frame: an event, or an answer to somebody.
fn take(session: &Session, frame: &[u8]) -> Result<(), End> {
    let (header, body) = wire::reply(frame).map_err(WireError::Record)?;
    match header.xid {
        EVENT_XID => {
            let event: WatcherEvent = codec::from_slice(body).map_err(WireError::Record)?;
            fire(session, &event, header.zxid);
            Ok(())
        }
        PING_XID | SET_WATCHES_XID => Ok(()),
        AUTH_XID => {
            if header.err != ErrorCode::Ok.code() {
                return Err(End::AuthFailed);
            }
            session.authenticated();
            Ok(())
        }
        xid => {
            let mut inner = session.lock();
            inner.last_zxid = inner.last_zxid.max(header.zxid);
            drop(inner);
            let reply = Reply { err: header.err, body: body.to_vec() };
            Ok(session.answered(xid, reply)?)
        }
    }
}

fn fire(session: &Session, event: &WatcherEvent, zxid: i64) {
    let kind = match event.kind {
        1 => EventType::NodeCreated,
        2 => EventType::NodeDeleted,
        3 => EventType::NodeDataChanged,
        4 => EventType::NodeChildrenChanged,
        // Of a later version of the protocol: nothing here could have asked for it.
        _ => return,
    };
    session.lock().watches.fired(kind, &event.path);
    let path = Some(session.chroot.inside(&event.path).to_owned());
    let (state, kind) = (KeeperState::SyncConnected, EventKind::Node(kind));
    (session.listener)(&Event { state, kind, path, zxid });
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use super::super::error::ClientError;
    use super::super::operations::{Client, Settings};
    use super::super::paths::Chroot;
    use super::*;

    /// A client with a session of 300 ms at a server that takes every session and answers each
    /// request with `answer`. What the client is told comes out of the channel.
    fn client_of(answer: &'static [u8]) -> (Client, mpsc::Receiver<KeeperState>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 1024];
                let mut response = Vec::new();
                let granted = ConnectResponse {
                    protocol_version: 0,
                    timeout_ms: 300,
                    session_id: 1,
                    password: Some(vec![0; 16].into()),
                    read_only: Some(false),
                };
                granted.encode(&mut response).unwrap();
                let mut next = wire::framed(&[&response]).unwrap();
                while let Ok(1..) = stream.read(&mut buffer) {
                    // A client that has gone is no concern here.
                    let _ = stream.write_all(&next);
                    next = answer.to_vec();
                }
            }
        });
        let (sender, told) = mpsc::channel();
        let settings = Settings {
            servers: vec![Server { host: "127.0.0.1".into(), port }],
            chroot: Chroot::default(),
            timeout: Duration::from_millis(300),
            read_only: false,
        };
        let listener = Arc::new(move |event: &Event| sender.send(event.state).unwrap_or(()));
        (Client::start(settings, listener), told)
    }

    fn is_lost_and_made_again(answer: &'static [u8]) {
        let (client, told) = client_of(answer);
        let asked = client.get_data("/", false);
        assert!(matches!(asked, Err(ClientError::ConnectionLoss { .. })), "{asked:?}");
        let patience = Duration::from_secs(30);
        let next = || told.recv_timeout(patience).unwrap();
        assert_eq!(next(), KeeperState::SyncConnected);
        assert_eq!(next(), KeeperState::Disconnected);
        assert_eq!(next(), KeeperState::SyncConnected);
    }

    #[test]
    fn a_server_that_says_nothing_more_is_left() {
        is_lost_and_made_again(b"");
    }

    #[test]
    fn a_server_that_sends_no_frames_is_left() {
        is_lost_and_made_again(b"\xff\xff\xff\xff");
        is_lost_and_made_again(b"\x7f\xff\xff\xff");
        is_lost_and_made_again(b"\0\0\0\x03abc");
    }

    #[test]
    fn a_server_that_answers_what_nobody_asked_is_left() {
        is_lost_and_made_again(b"\0\0\0\x10\0\0\0\x63\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn nobody_waits_for_a_server_that_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let settings = Settings {
            servers: vec![Server { host: "127.0.0.1".into(), port }],
            chroot: Chroot::default(),
            timeout: Duration::from_secs(30),
            read_only: false,
        };
        let start = Instant::now();
        let client = Client::start(settings, Arc::new(|_: &Event| {}));
        let asked = client.exists("/", false);
        assert!(matches!(asked, Err(ClientError::ConnectionLoss { .. })), "{asked:?}");
        assert!(client.trouble().is_some_and(|trouble| trouble.contains("refused")));
        client.close();
        let asked = client.exists("/", false);
        assert!(matches!(asked, Err(ClientError::SessionExpired { .. })), "{asked:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
