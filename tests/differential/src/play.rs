//! Plays a script on one server and writes down all that its sessions saw.
//!
//! After every step each connection pings and reads until the ping's answer: what a step causes is
//! there before the next step begins, on every connection, and the answers' zxids tell how many
//! transactions it took.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Session};
use crate::observation::{Frame, Kind};
use crate::request::{Acl, Data, Request, op};
use crate::script::{Client, Resumption, SLOTS, Script, Slot, Step};

/// The password of the user `super` whose digest the servers are started with.
pub const SUPER_AUTH: &str = "super:ringkeeper";

/// The digest of [`SUPER_AUTH`], for `DigestAuthenticationProvider.superDigest`.
pub const SUPER_DIGEST: &str = "super:8FvaNKAk7uM6qi3MXAVApu3TnDA=";

/// Errors behind which a server closes the connection: AUTHFAILED and SESSIONCLOSEDREQUIRESASLAUTH.
const LAST_WORDS: [i64; 2] = [-115, -124];

/// Behind this one it closes the connection, too, but if a create has it: there TTLs are disabled.
const UNIMPLEMENTED: i64 = -6;

const CREATES: [i32; 4] = [op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL];

/// Longest that a server may take to delete by itself what has to go.
const GONE_PATIENCE: Duration = Duration::from_secs(20);

/// How far ahead a client is that has seen too much.
const ZXID_AHEAD: i64 = 1_000_000;

/// What a script showed on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The zxid of the transaction before the first step: the creation of the script's root.
    pub base: i64,
    /// The script's sessions in the order of their creation.
    pub sessions: Vec<i64>,
    /// For each step, for each session: what its connections showed.
    pub steps: Vec<[Vec<Frame>; SLOTS]>,
}

#[derive(Default)]
struct Seat {
    connection: Option<Connection>,
    session: Option<Session>,
    seen: i64,
}

/// Plays scripts on one server, one after another.
pub struct Player {
    address: SocketAddr,
    /// A connection that may do anything; it sets the stage and clears it.
    janitor: Connection,
    seats: [Seat; SLOTS],
    made: Vec<Session>,
    base: i64,
}

impl Player {
    /// A player on the server there.
    pub fn new(address: SocketAddr) -> io::Result<Player> {
        let janitor = new_janitor(address)?;
        Ok(Player { address, janitor, seats: Default::default(), made: Vec::new(), base: 0 })
    }

    /// Plays the script and clears up behind it.
    pub fn play(&mut self, script: &Script) -> io::Result<Transcript> {
        self.set_the_stage(&script.root)?;
        let mut steps = Vec::with_capacity(script.steps.len());
        for step in &script.steps {
            let mut seen: [Vec<Frame>; SLOTS] = Default::default();
            seen[step.slot()] = self.act(step)?;
            self.barrier(&mut seen);
            steps.push(seen);
        }
        let sessions = self.made.iter().map(|session| session.id).collect();
        let transcript = Transcript { base: self.base, sessions, steps };
        self.clear(&script.root)?;
        Ok(transcript)
    }

    fn set_the_stage(&mut self, root: &str) -> io::Result<()> {
        let created = self.janitor.ask(open_node(root));
        if created.number("err") != Some(0) {
            // The connection is too old, or a run before this one was cut off.
            self.janitor = new_janitor(self.address)?;
            self.remove(root)?;
            let created = self.janitor.ask(open_node(root));
            if created.number("err") != Some(0) {
                return Err(io::Error::other(format!("cannot create {root}: {created:?}")));
            }
            self.base = created.number("zxid").unwrap_or(0);
            return Ok(());
        }
        self.base = created.number("zxid").unwrap_or(0);
        Ok(())
    }

    fn act(&mut self, step: &Step) -> io::Result<Vec<Frame>> {
        let slot = step.slot();
        match step {
            Step::Connect { timeout_ms, client, .. } => {
                let new = Session { id: 0, password: Some(vec![0; 16]), timeout_ms: *timeout_ms };
                self.seats[slot] = Seat { seen: self.base, ..Seat::default() };
                self.open(slot, &new, self.base, *client)
            }
            Step::Disconnect { .. } => {
                self.seats[slot].connection = None;
                Ok(Vec::new())
            }
            Step::Resume { how, .. } => self.resume(slot, *how),
            Step::Ask { request, .. } => Ok(self.ask(slot, std::slice::from_ref(request))),
            Step::Burst { requests, .. } => Ok(self.ask(slot, requests)),
            Step::AwaitGone { path, .. } => {
                self.await_gone(path);
                Ok(Vec::new())
            }
            Step::Bytes { bytes, .. } => {
                if let Some(connection) = &mut self.seats[slot].connection {
                    connection.bytes(bytes);
                }
                Ok(Vec::new())
            }
        }
    }

    /// Opens a connection. If the server takes it, it becomes the slot's, and the old one, which
    /// the server must end, is read to its end.
    fn open(
        &mut self,
        slot: Slot,
        session: &Session,
        seen: i64,
        client: Client,
    ) -> io::Result<Vec<Frame>> {
        let (connection, answer) = Connection::open(self.address, session, seen, client)?;
        let seat = &mut self.seats[slot];
        let granted = answer.number("timeOut").is_some_and(|timeout_ms| timeout_ms > 0);
        let mut frames = vec![answer];
        if let Some(old) = &mut seat.connection
            && drain(old, &mut frames)
        {
            seat.connection = None;
        }
        if !granted {
            return Ok(frames);
        }
        seat.connection = Some(connection);
        if session.id == 0 {
            let session = granted_session(&frames[0], session.timeout_ms);
            self.made.push(session.clone());
            seat.session = Some(session);
        }
        Ok(frames)
    }

    fn resume(&mut self, slot: Slot, how: Resumption) -> io::Result<Vec<Frame>> {
        let seat = &mut self.seats[slot];
        let Some(mut session) = seat.session.clone() else { return Ok(Vec::new()) };
        if let Some(connection) = &seat.connection {
            seat.seen = connection.seen;
        }
        let mut seen = seat.seen;
        match how {
            Resumption::Plain => {}
            Resumption::WrongPassword => {
                session.password.iter_mut().for_each(|password| password[0] ^= 1);
            }
            Resumption::NullPassword => session.password = None,
            Resumption::ZxidAhead => seen += ZXID_AHEAD,
            Resumption::UnknownSession => session.id ^= 0x0055_5555_5555_0000,
        }
        self.open(slot, &session, seen, Client::Current)
    }

    fn ask(&mut self, slot: Slot, requests: &[Request]) -> Vec<Frame> {
        let base = self.base;
        let mut frames = Vec::new();
        let Some(connection) = &mut self.seats[slot].connection else { return frames };
        connection.send(requests, base);
        while connection.waiting() > 0 {
            frames.push(connection.receive());
            if is_over(frames.last()) {
                self.leave(slot);
                return frames;
            }
        }
        let asks = |ops: &[i32]| requests.iter().any(|request| ops.contains(&request.op()));
        let ends = asks(&[op::CLOSE_SESSION])
            || frames.iter().filter_map(|frame| frame.number("err")).any(|error| {
                LAST_WORDS.contains(&error) || (error == UNIMPLEMENTED && !asks(&CREATES))
            });
        if ends {
            connection.await_end(&mut frames);
        }
        if is_over(frames.last()) {
            self.leave(slot);
        }
        frames
    }

    /// Waits for as long as a server may take to find what has to go. The step's barrier shows what
    /// came of it.
    fn await_gone(&mut self, path: &str) {
        let deadline = Instant::now() + GONE_PATIENCE;
        let exists = Request::Exists { path: path.to_owned(), watch: false };
        while self.janitor.ask(exists.clone()).number("err") == Some(0) && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until every connection has shown what the step caused.
    fn barrier(&mut self, seen: &mut [Vec<Frame>; SLOTS]) {
        for seat in &mut self.seats {
            if let Some(connection) = &mut seat.connection {
                connection.send(&[Request::Ping], 0);
            }
        }
        for (slot, frames) in seen.iter_mut().enumerate() {
            let Some(connection) = &mut self.seats[slot].connection else { continue };
            if until_ping(connection, frames) {
                self.leave(slot);
            }
        }
    }

    fn leave(&mut self, slot: Slot) {
        let seat = &mut self.seats[slot];
        if let Some(connection) = seat.connection.take() {
            seat.seen = connection.seen;
        }
    }

    /// Ends the script's sessions and removes its znodes.
    fn clear(&mut self, root: &str) -> io::Result<()> {
        let open = self.seats.iter_mut().filter_map(|seat| seat.connection.take());
        drop(open.collect::<Vec<Connection>>());
        self.seats = Default::default();
        for session in std::mem::take(&mut self.made) {
            let (mut connection, answer) =
                Connection::open(self.address, &session, 0, Client::Current)?;
            if answer.number("timeOut").is_some_and(|timeout_ms| timeout_ms > 0) {
                // A server that asks for an identity ends a connection without one.
                identify(&mut connection);
                connection.ask(Request::CloseSession);
            }
        }
        self.remove(&format!("/zookeeper/quota{root}"))?;
        self.remove(root)
    }

    /// Deletes a znode with all below it.
    fn remove(&mut self, path: &str) -> io::Result<()> {
        loop {
            let listed =
                self.janitor.ask(Request::GetChildren { path: path.to_owned(), watch: false });
            if let Some(crate::observation::Value::Names(names)) = listed.field("names") {
                for name in names.clone() {
                    self.remove(&format!("{path}/{name}"))?;
                }
            }
            let delete = Request::Delete { path: path.to_owned(), version: -1 };
            match self.janitor.ask(delete).number("err") {
                Some(0 | -101) => return Ok(()),
                // A session's last write came in between.
                Some(-111) => {}
                other => {
                    return Err(io::Error::other(format!("cannot remove {path}: {other:?}")));
                }
            }
        }
    }
}

fn new_janitor(address: SocketAddr) -> io::Result<Connection> {
    let new = Session { id: 0, password: Some(vec![0; 16]), timeout_ms: 40_000 };
    let (mut janitor, answer) = Connection::open(address, &new, 0, Client::Current)?;
    if answer.number("timeOut").is_none_or(|timeout_ms| timeout_ms <= 0) {
        return Err(io::Error::other(format!("no session for the janitor: {answer:?}")));
    }
    identify(&mut janitor);
    Ok(janitor)
}

fn identify(connection: &mut Connection) {
    let auth = Data(Some(SUPER_AUTH.as_bytes().to_vec()));
    connection.ask(Request::Auth { scheme: "digest".to_owned(), auth });
}

fn open_node(path: &str) -> Request {
    let (path, data, acl) = (path.to_owned(), Data(Some(Vec::new())), Some(Acl::open()));
    Request::Create { op: op::CREATE, path, data, acl, flags: 0, ttl: -1 }
}

fn granted_session(answer: &Frame, timeout_ms: i32) -> Session {
    let (id, password) = match (answer.field("sessionId"), answer.field("passwd")) {
        (
            Some(crate::observation::Value::Session(id)),
            Some(crate::observation::Value::Password { bytes, .. }),
        ) => (*id, Some(bytes.clone())),
        _ => (0, None),
    };
    Session { id, password, timeout_ms }
}

fn is_over(frame: Option<&Frame>) -> bool {
    frame.is_some_and(|frame| matches!(frame.kind, Kind::Closed | Kind::Silence))
}

/// Pings and reads until the ping's answer. True if the connection is over.
fn drain(connection: &mut Connection, frames: &mut Vec<Frame>) -> bool {
    connection.send(&[Request::Ping], 0);
    until_ping(connection, frames)
}

fn until_ping(connection: &mut Connection, frames: &mut Vec<Frame>) -> bool {
    while connection.waiting() > 0 {
        frames.push(connection.receive());
        if is_over(frames.last()) {
            return true;
        }
    }
    if let Some(last) = frames.last_mut() {
        last.kind = Kind::Barrier;
    }
    false
}
