//! A consensus core whose log is a vector, and one reactor that the tests play.

use ringkeeper::consensus::core::{Core, Moment};
use ringkeeper::consensus::handoff::{
    Answer, Effect, Entry, IdentityIndex, Outcome, Published, Submission,
};
use ringkeeper::consensus::prepare::write::{Prepare, Settings};
use ringkeeper::consensus::recovery::State;
use ringkeeper::consensus::sessions::Sessions;
use ringkeeper::ids::{ConnId, ReactorId, ServerId, SessionId, Zxid};
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::jute::reply;
use ringkeeper::log::recover::Recover;
use ringkeeper::tree::{Registry, StoredStat, Writer};
use ringkeeper::zab::step::Start;

pub const TICK_MS: u64 = 2_000;

/// See the module's docs.
pub struct Server {
    core: Core,
    registry: Registry,
    /// What was logged and not yet made durable, then all that was.
    pub log: Vec<(Zxid, Vec<u8>)>,
    pub now_ms: u64,
    pub wall_ms: i64,
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub err: ErrorCode,
    pub body: Vec<u8>,
    /// What the reply's header carries.
    pub zxid: Zxid,
    /// Whether the connection is closed behind it.
    pub closes: bool,
}

/// A tree, as far as it can be seen or stored.
pub type Image = Vec<(String, Option<Vec<u8>>, StoredStat, Vec<Acl>)>;

pub fn conn(slot: u32) -> ConnId {
    ConnId { slot, tenant: 0 }
}

impl Server {
    /// A new server, whose first session gets the id that the clock `boot_ms` gives.
    pub fn new(boot_ms: u64) -> Server {
        let (tree, registry) = Writer::new();
        let sessions = Sessions::new(ServerId::STANDALONE, TICK_MS, boot_ms);
        Server::of(tree, registry, sessions)
    }

    fn of(tree: Writer, registry: Registry, sessions: Sessions) -> Server {
        let settings =
            Settings { extended_types: true, enforce_quota: true, ..Settings::default() };
        let start = Start::standalone(ServerId::STANDALONE, tree.newest());
        let prepare = Prepare::new(tree, sessions, 1, settings);
        let (now_ms, wall_ms) = (1_000, 1_700_000_000_000);
        let core = Core::new(prepare, start, 1, Moment { wall_ms, now_ms });
        Server { core, registry, log: Vec::new(), now_ms, wall_ms }
    }

    /// A new server whose first transaction follows `zxid`, at this time of day.
    pub fn beginning_at(zxid: Zxid, wall_ms: i64) -> Server {
        let mut state = State::new(ServerId::STANDALONE, TICK_MS);
        state.begin(zxid, 0);
        Server { wall_ms, ..Server::recovered(state) }
    }

    /// The server that the log of this one makes after a restart.
    pub fn restarted(&self) -> Server {
        let mut state = State::new(ServerId::STANDALONE, TICK_MS);
        state.begin(Zxid::ZERO, 0);
        for (zxid, txn) in &self.log {
            state.replay(*zxid, txn).unwrap();
        }
        Server::recovered(state)
    }

    /// A server that begins with this state.
    pub fn recovered(state: State) -> Server {
        let (tree, registry, sessions) = state.finish();
        Server::of(tree, registry, sessions)
    }

    fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall_ms, now_ms: self.now_ms }
    }

    /// Hands entries over. Nothing is published yet.
    pub fn submit(&mut self, entries: Vec<Entry>, bytes: Vec<u8>) {
        let moment = self.moment();
        let log = &mut self.log;
        let submission = Submission { reactor: ReactorId(0), entries, bytes };
        self.core.submit(submission, moment, &mut |zxid, txn: &[u8]| {
            log.push((zxid, txn.to_vec()));
        });
    }

    /// Makes everything durable that was logged, and returns what is published for it.
    pub fn flush(&mut self) -> Vec<Published> {
        let mut published = Vec::new();
        let last = self.log.last().map(|(zxid, _)| *zxid);
        self.core.seal();
        if let Some(last) = last.filter(|last| *last > self.core.committed()) {
            self.core.durable(last, self.moment(), |batch| published.push(batch));
        }
        self.core.publish_answers(|batch| published.push(batch));
        published
    }

    /// Hands entries over and returns what comes of them at once.
    pub fn run(&mut self, entries: Vec<Entry>, bytes: Vec<u8>) -> Published {
        self.submit(entries, bytes);
        let mut published = self.flush();
        assert_eq!(published.len(), 1, "one batch for one submission");
        published.remove(0)
    }

    /// Lets the time be `now_ms`, and returns what is published because of it.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Published> {
        self.now_ms = now_ms;
        let moment = self.moment();
        let log = &mut self.log;
        self.core.expire(moment, &mut |zxid, txn: &[u8]| log.push((zxid, txn.to_vec())));
        self.flush()
    }

    /// Lets the server look for containers and TTL znodes until `now_ms`, from where it is, and
    /// returns what is published because of it. The wall clock goes along.
    pub fn reap_until(&mut self, now_ms: u64) -> Vec<Published> {
        let mut published = Vec::new();
        while self.core.next_reap_ms() <= now_ms {
            self.wall_ms += (self.core.next_reap_ms() - self.now_ms) as i64;
            self.now_ms = self.core.next_reap_ms();
            let moment = self.moment();
            let log = &mut self.log;
            self.core.reap(moment, &mut |zxid, txn: &[u8]| log.push((zxid, txn.to_vec())));
            published.extend(self.flush());
        }
        published
    }

    pub fn define(&mut self, index: u32, ids: &[Id]) {
        let (index, ids) = (IdentityIndex(index), ids.to_vec());
        self.submit(vec![Entry::DefineIdentity { index, ids }], Vec::new());
    }

    /// Opens a session on the connection with this slot.
    pub fn open(&mut self, slot: u32, timeout_ms: i32) -> SessionId {
        let entry = Entry::OpenSession { conn: conn(slot), timeout_ms };
        let published = self.run(vec![entry], Vec::new());
        match published.answers[0].list[..] {
            [Answer { outcome: Outcome::SessionOpened { session, .. }, .. }] => session,
            ref other => panic!("no session: {other:?}"),
        }
    }

    /// What comes of one write. `None`: the connection is closed without a reply.
    pub fn write(
        &mut self,
        (slot, session, xid): (u32, SessionId, i32),
        op: OpCode,
        identity: u32,
        body: &[u8],
    ) -> Option<Reply> {
        let (identity, range) = (IdentityIndex(identity), 0..body.len() as u32);
        let conn = conn(slot);
        let entry = Entry::Write { conn, session, xid, op, identity, body: range };
        let published = self.run(vec![entry], body.to_vec());
        let answers = &published.answers[0];
        let [answer] = &answers.list[..] else { panic!("not one answer: {answers:?}") };
        assert_eq!((answer.conn, answer.xid), (conn, xid));
        assert_eq!(answer.after as usize, published.txns.len());
        let (err, body, closes) = match &answer.outcome {
            Outcome::Reply { err, body } => (*err, body, false),
            Outcome::ReplyAndClose { err, body } => (*err, body, true),
            Outcome::Close => return None,
            other => panic!("not a reply: {other:?}"),
        };
        let body = answers.bytes[body.start as usize..body.end as usize].to_vec();
        Some(Reply { err, body, zxid: published.through, closes })
    }

    pub fn committed(&self) -> Zxid {
        self.core.committed()
    }

    pub fn sessions(&self) -> Vec<(SessionId, i32)> {
        self.core.committed_sessions()
    }

    /// What a read of a znode answers: its data and what follows it in the reply, by `read`.
    pub fn see<R>(
        &self,
        path: &str,
        read: impl FnOnce(ringkeeper::tree::NodeView<'_>) -> R,
    ) -> Option<R> {
        let mut reader = self.registry.reader();
        let zxid = reader.pin_newest();
        reader.at(zxid).get(path).map(read)
    }

    /// All that is committed.
    pub fn image(&self) -> Image {
        image(&self.registry)
    }
}

/// All that is committed in a tree.
pub fn image(registry: &Registry) -> Image {
    let mut reader = registry.reader();
    reader.hold_newest();
    let mut walk = reader.walk();
    let mut image = Vec::new();
    while let Some((path, node)) = walk.next() {
        let data = node.data().map(<[u8]>::to_vec);
        image.push((path.to_owned(), data, node.stored(), node.acl().to_vec()));
    }
    image.sort_by(|a, b| a.0.cmp(&b.0));
    image
}

/// A published effect, readable: `+path`, `-path`, `=path`, or `x` for a session's end.
pub fn effects(published: &Published) -> Vec<String> {
    let path =
        |range: &std::ops::Range<u32>| &published.paths[range.start as usize..range.end as usize];
    let told = published.effects.iter().map(|effect| match effect {
        Effect::Created { path: at, .. } => format!("+{}", path(at)),
        Effect::Deleted { path: at, .. } => format!("-{}", path(at)),
        Effect::DataChanged { path: at, .. } => format!("={}", path(at)),
        Effect::SessionClosed { .. } => "x".to_owned(),
    });
    told.collect()
}

/// `world:anyone` with these permissions.
pub fn open_acl(perms: i32) -> Vec<Acl> {
    vec![Acl { perms, id: Id { scheme: "world".to_owned(), id: "anyone".to_owned() } }]
}

/// The record of a create (without a ttl).
pub fn create(path: &str, data: &[u8], acl: &[Acl], flags: i32) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::buffer(&mut body, Some(data));
    reply::acl(&mut body, acl);
    reply::int(&mut body, flags);
    body
}

/// The record of a delete or check.
pub fn path_version(path: &str, version: i32) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::int(&mut body, version);
    body
}

/// The record of a setData.
pub fn set_data(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::buffer(&mut body, Some(data));
    reply::int(&mut body, version);
    body
}

/// The record of a setACL.
pub fn set_acl(path: &str, acl: &[Acl], version: i32) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::acl(&mut body, acl);
    reply::int(&mut body, version);
    body
}

/// The record of a multi.
pub fn multi(parts: &[(OpCode, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (op, record) in parts {
        reply::int(&mut body, op.0);
        body.push(0);
        reply::int(&mut body, -1);
        body.extend_from_slice(record);
    }
    reply::multi_end(&mut body);
    body
}
