//! One write request: decoded, prepared, answered.

use std::mem;
use std::ops::Range;

use crate::auth::rules::Rules;
use crate::consensus::batch::{Batch, Changes};
use crate::consensus::handoff::{IdentityIndex, Outcome};
use crate::consensus::identities::Identities;
use crate::consensus::reap::Reaping;
use crate::consensus::sessions::{Owner, Refusal, Sessions};
use crate::ids::{ReactorId, SessionId, Zxid};
use crate::jute::codec;
use crate::jute::decode::{Cursor, DecodeError};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{Acl, Id, ReconfigRequest, Stat};
use crate::jute::reply;
use crate::jute::request::{Create, Multi, PathVersion, SetAcl, SetData};
use crate::jute::txn::{self, TxnHeader};
use crate::tree::Writer;

use super::acls::CheckedAcls;
use super::multi::Failed;
use super::quota::Enforcement;

/// What the configuration says about writes.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `extendedTypesEnabled`: whether there may be TTL znodes.
    pub extended_types: bool,
    /// What ids may do.
    pub rules: Rules,
    /// `enforceQuota`: whether what exceeds a hard limit is refused.
    pub enforce_quota: bool,
    /// When containers and TTL znodes go.
    pub reaping: Reaping,
}

/// Who asks, as whoever hands a request over says it.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// A connection of a reactor's, with ids that the reactor has defined.
    Numbered(ReactorId, IdentityIndex),
    /// A client of a learner, which sends the ids along.
    Named(&'a [Id]),
}

/// A write request as a reactor or a learner handed it over.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub from: Owner,
    pub session: SessionId,
    pub xid: i32,
    pub op: OpCode,
    pub client: Asker<'a>,
    /// The record behind the header.
    pub body: &'a [u8],
}

/// The zxid that a transaction will have if it becomes one, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub zxid: Zxid,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// Milliseconds of the monotonic clock.
    pub now_ms: u64,
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// A transaction, which lies in `Prepare::txn`; the zxid is used.
    Txn,
    /// An answer and nothing else.
    Answered,
}

/// Everything that writes are checked against and applied to.
pub struct Prepare {
    pub tree: Writer,
    pub sessions: Sessions,
    pub identities: Identities,
    settings: Settings,
    acls: CheckedAcls,
    quotas: Enforcement,
    /// The transaction prepared last, as it travels in a PROPOSAL.
    pub(super) txn: Vec<u8>,
    /// The record of one operation, kept for its memory.
    record: Vec<u8>,
    /// The body of a multi's reply, kept for its memory.
    multi_body: Vec<u8>,
}

/// One request while it is prepared.
pub(super) struct Write<'a> {
    pub tree: &'a mut Writer,
    pub acls: &'a mut CheckedAcls,
    pub quotas: &'a mut Enforcement,
    /// Quotas whose counts this transaction has created.
    pub counted: usize,
    pub changes: &'a mut Changes,
    /// The operation's record in the transaction; empty when the operation begins.
    pub record: &'a mut Vec<u8>,
    pub extended_types: bool,
    pub client: Client<'a>,
    /// Whether the session may write. Asked by each operation when its turn comes among the
    /// checks.
    pub allowed: Result<(), ErrorCode>,
    pub session: SessionId,
    pub zxid: Zxid,
    pub time_ms: i64,
    pub now_ms: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub ids: &'a [Id],
    rules: &'a Rules,
}

impl Client<'_> {
    /// Whether the client may do `perm` to a znode with this ACL.
    pub fn may(self, perm: i32, acl: &[Acl]) -> Result<(), ErrorCode> {
        let may = self.rules.allow(acl, perm, self.ids);
        if may { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }
}

/// An operation that was prepared.
#[derive(Debug)]
pub(super) enum Done {
    Created { op: OpCode, path: Range<u32>, stat: Stat },
    Deleted,
    Set(Stat),
    AclSet(Stat),
    Checked,
}

/// A request's record.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Create(Create<'a>),
    Delete(PathVersion<'a>),
    SetData(SetData<'a>),
    SetAcl(SetAcl<'a>),
    Multi(Multi<'a>),
    /// With a timeout in milliseconds.
    CreateSession(i32),
    /// Refused whatever it says.
    Refused(ErrorCode),
}

impl<'a> Record<'a> {
    fn decode(op: OpCode, body: &'a [u8]) -> Result<Record<'a>, DecodeError> {
        Ok(match op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
                Record::Create(Create::decode(op, body)?)
            }
            OpCode::DELETE => Record::Delete(PathVersion::decode(body)?),
            OpCode::SET_DATA => Record::SetData(SetData::decode(body)?),
            OpCode::SET_ACL => Record::SetAcl(SetAcl::decode(body)?),
            OpCode::MULTI => Record::Multi(Multi::decode(op, body)?),
            OpCode::RECONFIG => {
                codec::from_slice::<ReconfigRequest>(body)?;
                Record::Refused(ErrorCode::ReconfigDisabled)
            }
            OpCode::CREATE_SESSION => Record::CreateSession(Cursor::new(body).int("timeOut")?),
            // ZooKeeper takes it from clients, without a look at any ACL, and deletes what it
            // names. It is meant for the server itself.
            OpCode::DELETE_CONTAINER => Record::Refused(ErrorCode::BadArguments),
            _ => Record::Refused(ErrorCode::Unimplemented),
        })
    }
}

impl Prepare {
    /// Prepares on the newest version of `tree`, for the sessions recovered, with no identity
    /// defined by any of `reactors` reactors.
    pub fn new(tree: Writer, sessions: Sessions, reactors: usize, settings: Settings) -> Prepare {
        Prepare {
            tree,
            sessions,
            identities: Identities::new(reactors),
            acls: CheckedAcls::new(settings.rules.clone()),
            quotas: Enforcement::new(settings.enforce_quota),
            settings,
            txn: Vec::new(),
            record: Vec::new(),
            multi_body: Vec::new(),
        }
    }

    /// What the configuration says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The transaction prepared last: header and record, as they travel in a PROPOSAL.
    pub fn txn(&self) -> &[u8] {
        &self.txn
    }

    /// Prepares a write request and puts its answer and effects into `batch`. The tree is at
    /// `stamp.zxid` afterwards if it became a transaction.
    pub fn write(&mut self, request: &Request<'_>, stamp: Stamp, batch: &mut Batch) -> Prepared {
        if request.op == OpCode::CLOSE_SESSION {
            self.close_session(request.from, request.session, request.xid, stamp, batch);
            return Prepared::Txn;
        }
        let decoded = Record::decode(request.op, request.body);
        let record = match decoded.or_else(|error| refused(request.op, &error)) {
            Ok(record) => record,
            // A learner is answered by transactions alone.
            Err(err) if matches!(request.from, Owner::Learner(_)) => Record::Refused(err),
            Err(err) => {
                batch.reply(request.from, request.xid, err, |_, _| ());
                return Prepared::Answered;
            }
        };
        self.tree.begin(stamp.zxid, stamp.time_ms);
        if request.op == OpCode::CREATE_SESSION {
            self.create_session_again(request, &record, stamp, batch);
            return Prepared::Txn;
        }
        if let Record::Multi(multi) = record {
            self.multi(request, &multi, stamp, batch);
            return Prepared::Txn;
        }
        match self.single(request, &record, stamp, &mut batch.changes) {
            Ok(done) => {
                self.begin_txn(request.session, request.xid, request.op, stamp);
                self.txn.extend_from_slice(&self.record);
                batch.end_txn(stamp.zxid);
                batch.reply(request.from, request.xid, ErrorCode::Ok, |body, changes| {
                    append_result(body, changes, &done);
                });
            }
            Err(err) => self.refuse(request, err, stamp, batch),
        }
        Prepared::Txn
    }

    fn single(
        &mut self,
        request: &Request<'_>,
        record: &Record<'_>,
        stamp: Stamp,
        changes: &mut Changes,
    ) -> Result<Done, ErrorCode> {
        let allowed = self.allowed(request.session, request.from);
        let mut write = self.writing(Some(request), request.session, allowed, stamp, changes);
        match record {
            Record::Create(create) => write.create(request.op, create),
            Record::Delete(delete) => write.delete(delete),
            Record::SetData(set) => write.set_data(set),
            Record::SetAcl(set) => write.set_acl(set),
            Record::Refused(err) => Err(*err),
            Record::Multi(_) | Record::CreateSession(_) => unreachable!("prepared elsewhere"),
        }
    }

    fn multi(&mut self, request: &Request<'_>, multi: &Multi<'_>, stamp: Stamp, batch: &mut Batch) {
        let allowed = self.allowed(request.session, request.from);
        self.begin_txn(request.session, request.xid, OpCode::MULTI, stamp);
        let mut txn = mem::take(&mut self.txn);
        let mut body = mem::take(&mut self.multi_body);
        body.clear();
        let changes = &mut batch.changes;
        let result = self
            .writing(Some(request), request.session, allowed, stamp, changes)
            .multi(multi, &mut txn, &mut body);
        self.txn = txn;
        match result {
            Err(Failed::Whole) => {
                self.refuse(request, ErrorCode::MarshallingError, stamp, batch);
            }
            Err(Failed::Operation(ErrorCode::SessionMoved)) => {
                batch.end_txn(stamp.zxid);
                batch.answer(request.from, request.xid, Outcome::Close);
            }
            // The header says Ok even if an operation failed.
            Ok(()) | Err(Failed::Operation(_)) => {
                batch.end_txn(stamp.zxid);
                batch.reply(request.from, request.xid, ErrorCode::Ok, |out, _| {
                    out.extend_from_slice(&body);
                });
            }
        }
        self.multi_body = body;
    }

    /// The request failed: an error transaction, and the answer that tells the client.
    pub(super) fn refuse(
        &mut self,
        request: &Request<'_>,
        err: ErrorCode,
        stamp: Stamp,
        batch: &mut Batch,
    ) {
        self.begin_txn(request.session, request.xid, OpCode::ERROR, stamp);
        txn::encode_error(&mut self.txn, err.code());
        batch.end_txn(stamp.zxid);
        match err {
            // A client never sees this code: it has another connection by now.
            ErrorCode::SessionMoved => batch.answer(request.from, request.xid, Outcome::Close),
            _ => batch.reply(request.from, request.xid, err, |_, _| ()),
        }
    }

    /// Whether `session` may write (or sync) through the connection `from`.
    ///
    /// # Errors
    /// UnknownSession, SessionExpired or SessionMoved.
    pub fn allowed(&mut self, session: SessionId, from: Owner) -> Result<(), ErrorCode> {
        self.sessions.check(session, from).map_err(|refusal| match refusal {
            Refusal::Unknown => ErrorCode::UnknownSession,
            Refusal::Closing => ErrorCode::SessionExpired,
            Refusal::Moved => ErrorCode::SessionMoved,
        })
    }

    /// Begins a transaction in `self.txn` with its header.
    pub(super) fn begin_txn(&mut self, session: SessionId, xid: i32, op: OpCode, stamp: Stamp) {
        self.txn.clear();
        let header = TxnHeader {
            client_id: session,
            cxid: xid,
            zxid: stamp.zxid,
            time_ms: stamp.time_ms,
            op,
        };
        txn::encode_header(&mut self.txn, &header);
    }

    /// What the operations of one request work with. Without a `request` it is the server itself
    /// that acts.
    pub(super) fn writing<'a>(
        &'a mut self,
        request: Option<&Request<'a>>,
        session: SessionId,
        allowed: Result<(), ErrorCode>,
        stamp: Stamp,
        changes: &'a mut Changes,
    ) -> Write<'a> {
        self.record.clear();
        let ids = match request.map(|request| request.client) {
            None => &[][..],
            Some(Asker::Named(ids)) => ids,
            Some(Asker::Numbered(reactor, identity)) => self.identities.get(reactor, identity),
        };
        Write {
            tree: &mut self.tree,
            acls: &mut self.acls,
            quotas: &mut self.quotas,
            counted: 0,
            changes,
            record: &mut self.record,
            extended_types: self.settings.extended_types,
            client: Client { ids, rules: &self.settings.rules },
            allowed,
            session,
            zxid: stamp.zxid,
            time_ms: stamp.time_ms,
            now_ms: stamp.now_ms,
        }
    }
}

/// What a request is answered that no leader needs to see, for it cannot be decoded.
pub fn undecodable(op: OpCode, body: &[u8]) -> Option<ErrorCode> {
    if op == OpCode::CLOSE_SESSION {
        return None;
    }
    let decoded = Record::decode(op, body).or_else(|error| refused(op, &error));
    match decoded {
        Ok(Record::Refused(err)) | Err(err) => Some(err),
        Ok(_) => None,
    }
}

/// What ZooKeeper makes of a request of type `op` that cannot be decoded.
///
/// # Errors
/// What it answers where that costs no transaction. It reads what we do not: null, and text with
/// U+FFFD in the place of what is not UTF-8, finds fault with it later, and has given the request
/// its zxid by then. So does a multi, before it is decoded.
fn refused<'a>(op: OpCode, error: &DecodeError) -> Result<Record<'a>, ErrorCode> {
    let makes = matches!(
        op,
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL
    );
    Ok(Record::Refused(match *error {
        DecodeError::Null { field: "acl", .. } if op == OpCode::MULTI => {
            return Err(ErrorCode::MarshallingError);
        }
        _ if op == OpCode::MULTI || op == OpCode::CREATE_SESSION => ErrorCode::MarshallingError,
        DecodeError::Null { field: "scheme", .. } => ErrorCode::InvalidAcl,
        DecodeError::Null { field: "path", .. } if makes || op == OpCode::DELETE => {
            ErrorCode::MarshallingError
        }
        DecodeError::Null { field: "path", .. } => ErrorCode::BadArguments,
        DecodeError::Null { .. } => ErrorCode::MarshallingError,
        DecodeError::NotUtf8 { .. } if op == OpCode::DELETE => ErrorCode::NoNode,
        DecodeError::NotUtf8 { .. } => ErrorCode::BadArguments,
        _ => return Err(ErrorCode::MarshallingError),
    }))
}

/// The body of the reply to an operation that stood alone.
pub(super) fn append_result(body: &mut Vec<u8>, changes: &Changes, done: &Done) {
    match done {
        Done::Created { op, path, stat } => {
            reply::string(body, changes.path(path));
            if *op != OpCode::CREATE {
                reply::stat(body, stat);
            }
        }
        Done::Set(stat) | Done::AclSet(stat) => reply::stat(body, stat),
        Done::Deleted => {}
        Done::Checked => unreachable!("a check stands in a multi only"),
    }
}

/// The length of a znode's data as its status tells it: null has none.
pub(super) fn length(data: Option<&[u8]>) -> i32 {
    data.map_or(0, |data| i32::try_from(data.len()).expect("no frame is longer"))
}
