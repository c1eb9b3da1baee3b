//! What travels between a reactor and the consensus core, in batches: submissions one way,
//! published batches the other. Both directions are first in, first out.

use std::ops::Range;
use std::sync::Arc;

use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{Acl, Id};

/// What one reactor hands to the consensus core in one turn.
#[derive(Debug)]
pub struct Submission {
    /// Whose it is; the answers go back there.
    pub reactor: ReactorId,
    /// In the order in which the reactor met them, so in each session's order.
    pub entries: Vec<Entry>,
    /// The bytes that entries refer to.
    pub bytes: Vec<u8>,
}

impl Submission {
    /// An empty submission of `reactor`.
    pub fn new(reactor: ReactorId) -> Submission {
        Submission { reactor, entries: Vec::new(), bytes: Vec::new() }
    }
}

/// One thing for the consensus core to do.
#[derive(Debug)]
pub enum Entry {
    /// A request that becomes a transaction: create, delete, setData, setACL, check in a multi,
    /// multi, closeSession and the like. `body` is the request record behind the header. Answered.
    Write {
        conn: ConnId,
        session: SessionId,
        xid: i32,
        op: OpCode,
        identity: IdentityIndex,
        body: Range<u32>,
    },
    /// Answered `Outcome::Reply` with an empty body once everything committed before it is
    /// published; the reactor adds the path.
    Sync { conn: ConnId, session: SessionId, xid: i32 },
    /// The paths of the session's ephemerals that begin with `prefix`, as of everything before it.
    /// Answered `Outcome::LongReply`.
    GetEphemerals { conn: ConnId, session: SessionId, xid: i32, prefix: Range<u32> },
    /// A new session with this (negotiated) timeout. Answered `Outcome::SessionOpened`.
    OpenSession { conn: ConnId, timeout_ms: i32 },
    /// A client that comes back; the reactor has checked the password. Answered
    /// `Outcome::SessionOpened` or `Outcome::SessionRefused`.
    RenewSession { conn: ConnId, session: SessionId, timeout_ms: i32 },
    /// Somebody named the session and did not know its password. As in ZooKeeper, which looks at
    /// the password behind that, the connection that has the session is closed. Not answered.
    WrongPassword { session: SessionId },
    /// The session was heard of `ago_ms` before the submission was handed over.
    Touch { session: SessionId, ago_ms: u32 },
    /// The connection is gone; its session lives on until it expires.
    Disconnected { conn: ConnId, session: SessionId },
    /// From now on `index` of this reactor stands for a connection with these ids.
    DefineIdentity { index: IdentityIndex, ids: Vec<Id> },
    /// No later entry of this reactor names `index`, unless it is defined anew.
    ForgetIdentity { index: IdentityIndex },
}

impl Entry {
    /// The connection that waits for an answer, and the xid of its request.
    pub fn asks(&self) -> Option<(ConnId, i32)> {
        match *self {
            Entry::Write { conn, xid, .. }
            | Entry::Sync { conn, xid, .. }
            | Entry::GetEphemerals { conn, xid, .. } => Some((conn, xid)),
            Entry::OpenSession { conn, .. } | Entry::RenewSession { conn, .. } => Some((conn, 0)),
            Entry::WrongPassword { .. }
            | Entry::Touch { .. }
            | Entry::Disconnected { .. }
            | Entry::DefineIdentity { .. }
            | Entry::ForgetIdentity { .. } => None,
        }
    }
}

/// A set of authentication ids that connections of one reactor share. Interned, so that a write
/// need not carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityIndex(pub u32);

/// What has been committed since the batch before, and the answers that are due. One is made for
/// every reactor to share.
///
/// A reactor takes the transactions in order. For each it fires its watches for the effects, then
/// gives the answers whose `after` is reached, then reads at the transaction's zxid; so a session
/// sees an event before the data that it announces, and never half a transaction.
#[derive(Debug, Default)]
pub struct Published {
    /// The last committed zxid: readers may read up to it, and pin it when the batch is done.
    pub through: Zxid,
    /// In zxid order.
    pub txns: Vec<PublishedTxn>,
    /// What the transactions changed.
    pub effects: Vec<Effect>,
    /// The text that effects' paths lie in.
    pub paths: String,
    /// The ACLs that effects name: a few, for znodes mostly share theirs.
    pub acls: Vec<Arc<[Acl]>>,
    /// By reactor: its answers, ordered by `after`, and the bytes that they refer to.
    pub answers: Vec<Answers>,
}

impl Published {
    /// An ACL that an effect names; empty for the null ACL, which is open to everybody.
    ///
    /// # Panics
    /// When it is of another batch.
    pub fn acl(&self, index: AclIndex) -> &[Acl] {
        if index == AclIndex::OPEN { &[] } else { &self.acls[index.0 as usize] }
    }
}

/// An ACL of a batch: its place in `Published::acls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclIndex(pub u32);

impl AclIndex {
    /// The null ACL, which has no place.
    pub const OPEN: AclIndex = AclIndex(u32::MAX);
}

/// One committed transaction.
#[derive(Clone, Debug)]
pub struct PublishedTxn {
    pub zxid: Zxid,
    /// Its part of `Published::effects`, in the order in which their events are due.
    pub effects: Range<u32>,
}

/// One change that somebody may watch for. The ACLs say who may hear of it: the znode's and its
/// parent's at that place of the transaction, which no version of the tree need show afterwards.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The znode came to be: NodeCreated on it, NodeChildrenChanged on its parent.
    Created { path: Range<u32>, acl: AclIndex, parent_acl: AclIndex },
    /// The znode is gone: NodeDeleted on it, NodeChildrenChanged on its parent.
    Deleted { path: Range<u32>, acl: AclIndex, parent_acl: AclIndex },
    /// The znode's data was set.
    DataChanged { path: Range<u32>, acl: AclIndex },
    /// The session is over (closed or expired): a connection that still carries it is closed, once
    /// its answers are sent.
    SessionClosed { session: SessionId },
}

/// The answers for one reactor.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub list: Vec<Answer>,
    /// Reply bodies.
    pub bytes: Vec<u8>,
}

/// The answer to one entry, or an order concerning one connection.
#[derive(Clone, Debug)]
pub struct Answer {
    pub conn: ConnId,
    pub xid: i32,
    /// Due when this many of the batch's transactions have been taken.
    pub after: u32,
    pub outcome: Outcome,
}

/// What came of an entry.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The reply: its header carries the zxid of the last transaction taken, and `err`; `body`
    /// (a part of `Answers::bytes`) follows the header. Empty for most errors.
    Reply { err: ErrorCode, body: Range<u32> },
    /// As `Reply`, without an error, with a body that is too long to lie among the others.
    LongReply { body: Vec<u8> },
    /// The reply, after which the connection is closed: closeSession.
    ReplyAndClose { err: ErrorCode, body: Range<u32> },
    /// The session is established on this connection.
    SessionOpened { session: SessionId, timeout_ms: i32 },
    /// The session is unknown, expired or closing: the connect response of timeout 0, then close.
    SessionRefused,
    /// Close the connection without a reply: its session moved to another one.
    Close,
}
