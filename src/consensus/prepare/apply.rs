//! What a leader proposed, applied on a learner: the tree, the sessions, the effects, and the answer
//! if a client of this server asked for it. Called by `core` for each proposal, in order.
//!
//! A leader on the JVM sends snapshots that may hold parts of transactions which come behind them,
//! so what a transaction does may be done already. As in ZooKeeper, a part that does not apply is
//! passed over (zookeeper-formats 5.4).

use crate::consensus::batch::{Batch, Changes};
use crate::consensus::handoff::{Effect, Outcome};
use crate::consensus::sessions::Owner;
use crate::ids::SessionId;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::reply;
use crate::jute::request::AclList;
use crate::jute::txn::{SubTxn, Transaction, Txn};
use crate::tree::{self, AclId, TTL_MS_MAX, TreeError, Writer, path};

use super::multi;
use super::write::{Done, Prepare, append_result};

/// A request of a client of this server's, whose transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub from: Owner,
    pub xid: i32,
}

/// One transaction while it is applied.
struct Applying<'a> {
    tree: &'a mut Writer,
    changes: &'a mut Changes,
    session: SessionId,
}

impl Prepare {
    /// Applies a transaction as the newest version, at `now_ms` of the monotonic clock, and puts
    /// its effects into `batch`, and the answer to the request that it came of, if `asked`.
    ///
    /// # Panics
    /// When it is not newer than everything before.
    pub fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        asked: Option<Asked>,
        now_ms: u64,
        batch: &mut Batch,
    ) {
        let Transaction { header, txn, .. } = transaction;
        let (session, zxid) = (header.client_id, header.zxid);
        self.tree.begin(zxid, header.time_ms);
        batch.note(now_ms);
        match txn {
            Txn::CreateSession { timeout_ms } => {
                let owner = asked.map(|asked| asked.from);
                let outcome = self.apply_create_session(transaction, *timeout_ms, owner, now_ms);
                batch.end_txn(zxid);
                if let Some(Asked { from, xid }) = asked {
                    batch.answer(from, xid, outcome);
                }
            }
            Txn::CloseSession { .. } => {
                self.apply_close_session(transaction, batch);
                batch.end_txn(zxid);
                if let Some(Asked { from, xid }) = asked {
                    let err = ErrorCode::Ok;
                    batch.answer(from, xid, Outcome::ReplyAndClose { err, body: 0..0 });
                }
            }
            Txn::Error(code) => {
                batch.end_txn(zxid);
                if let Some(asked) = asked {
                    answer_error(asked, error(*code), batch);
                }
            }
            Txn::Multi(parts) => {
                let mut body = Vec::new();
                let tree = &mut self.tree;
                let result =
                    Applying { tree, changes: &mut batch.changes, session }.multi(parts, &mut body);
                batch.end_txn(zxid);
                match (result, asked) {
                    (_, None) => {}
                    (Err(ErrorCode::SessionMoved), Some(Asked { from, xid })) => {
                        batch.answer(from, xid, Outcome::Close);
                    }
                    (_, Some(Asked { from, xid })) => {
                        batch.reply(from, xid, ErrorCode::Ok, |out, _| {
                            out.extend_from_slice(&body);
                        });
                    }
                }
            }
            single => {
                let tree = &mut self.tree;
                let result =
                    Applying { tree, changes: &mut batch.changes, session }.part(header.op, single);
                batch.end_txn(zxid);
                match (result, asked) {
                    (_, None) => {}
                    (Ok(done), Some(Asked { from, xid })) => {
                        batch.reply(from, xid, ErrorCode::Ok, |body, changes| {
                            append_result(body, changes, &done);
                        });
                    }
                    (Err(err), Some(asked)) => answer_error(asked, err, batch),
                }
            }
        }
    }

    /// A session that opens, or one that exists and is given another timeout for the next restart.
    fn apply_create_session(
        &mut self,
        transaction: &Transaction<'_>,
        timeout_ms: i32,
        owner: Option<Owner>,
        now_ms: u64,
    ) -> Outcome {
        let (session, zxid) = (transaction.header.client_id, transaction.header.zxid);
        if self.sessions.has(session) {
            self.sessions.log_again(session, timeout_ms, zxid);
            return Outcome::Reply { err: ErrorCode::Ok, body: 0..0 };
        }
        self.sessions.open(session, timeout_ms, owner, zxid, now_ms);
        Outcome::SessionOpened { session, timeout_ms }
    }

    /// The znodes that the transaction names go, then all that are left of the session's: it may
    /// name none of them.
    fn apply_close_session(&mut self, transaction: &Transaction<'_>, batch: &mut Batch) {
        let (session, zxid) = (transaction.header.client_id, transaction.header.zxid);
        let Txn::CloseSession { paths } = &transaction.txn else { unreachable!("as matched") };
        {
            let changes = &mut batch.changes;
            let mut applying = Applying { tree: &mut self.tree, changes, session };
            for path in paths.iter().flat_map(|paths| paths.iter()) {
                let _ = applying.delete(path);
            }
            let left: Vec<String> = applying.tree.ephemerals(session).collect();
            for path in left {
                let _ = applying.delete(&path);
            }
        }
        if self.sessions.close(session, zxid) {
            batch.close_session(session);
        }
    }
}

fn answer_error(Asked { from, xid }: Asked, err: ErrorCode, batch: &mut Batch) {
    match err {
        // A client never sees this code: it has another connection by now.
        ErrorCode::SessionMoved => batch.answer(from, xid, Outcome::Close),
        err => batch.reply(from, xid, err, |_, _| ()),
    }
}

/// The error with this number. One that we do not know is still an error.
fn error(code: i32) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::SystemError)
}

impl Applying<'_> {
    /// Applies the parts in order, unless one of them is an error, and appends the reply's body.
    ///
    /// # Errors
    /// That of the part that failed.
    fn multi(&mut self, parts: &[SubTxn<'_>], body: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let code = |part: &SubTxn<'_>| match part.txn {
            Txn::Error(code) => Some(error(code)),
            _ => None,
        };
        if let Some(failed) = parts.iter().find_map(code).filter(|err| *err != ErrorCode::Ok) {
            for part in parts {
                reply::multi_error(body, code(part).unwrap_or(ErrorCode::Ok));
            }
            reply::multi_end(body);
            return Err(failed);
        }
        for part in parts {
            match self.part(part.op, &part.txn) {
                Ok(done) => multi::append_result(body, self.changes, &done),
                Err(err) => reply::multi_error(body, err),
            }
        }
        reply::multi_end(body);
        Ok(())
    }

    fn part(&mut self, op: OpCode, txn: &Txn<'_>) -> Result<Done, ErrorCode> {
        let session = self.session;
        match *txn {
            Txn::Create { path, data, ref acl, ephemeral, parent_cversion } => {
                let owner = match ephemeral {
                    true => tree::Owner::Session(session),
                    false => tree::Owner::Persistent,
                };
                // -1 is the old way to say "one more".
                let cversion = parent_cversion.filter(|cversion| *cversion != -1);
                self.create(op, path, data, acl, owner, cversion)
            }
            Txn::CreateContainer { path, data, ref acl, parent_cversion } => {
                let owner = tree::Owner::Container;
                self.create(op, path, data, acl, owner, Some(parent_cversion))
            }
            Txn::CreateTtl { path, data, ref acl, parent_cversion, ttl_ms } => {
                if !(1..=TTL_MS_MAX).contains(&ttl_ms) {
                    return Err(ErrorCode::BadArguments);
                }
                let owner = tree::Owner::Ttl(ttl_ms);
                self.create(op, path, data, acl, owner, Some(parent_cversion))
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => self.delete(path),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                self.tree.set_data(path, data, version).map_err(TreeError::code)?;
                let node = self.tree.get(path).expect("its data was set");
                let (stat, acl) = (node.stat(), node.acl_id());
                let path = self.changes.keep_path(path);
                let acl = self.changes.keep_acl(self.tree, acl);
                self.changes.effect(Effect::DataChanged { path, acl });
                Ok(Done::Set(stat))
            }
            Txn::SetAcl { path, ref acl, version } => {
                let acl = self.tree.intern_acl(&acl.to_vec());
                self.tree.set_acl(path, acl, version).map_err(TreeError::code)?;
                let node = self.tree.get(path).expect("its ACL was set");
                Ok(Done::AclSet(node.stat()))
            }
            Txn::Check { .. } => Ok(Done::Checked),
            Txn::CreateSession { .. } | Txn::CloseSession { .. } => Err(ErrorCode::Unimplemented),
            Txn::Error(code) => Err(error(code)),
            Txn::Multi(_) => unreachable!("a multi's parts are no multis"),
        }
    }

    fn create(
        &mut self,
        op: OpCode,
        path: &str,
        data: Option<&[u8]>,
        acl: &AclList<'_>,
        owner: tree::Owner,
        parent_cversion: Option<i32>,
    ) -> Result<Done, ErrorCode> {
        let acl = self.tree.intern_acl(&acl.to_vec());
        match self.tree.create(path, data, acl, owner, parent_cversion) {
            Ok(()) => {}
            Err(TreeError::NodeExists) => {
                self.tree.created_before(path, acl, parent_cversion);
                return Err(ErrorCode::NodeExists);
            }
            Err(error) => return Err(error.code()),
        }
        let stat = self.tree.get(path).expect("it was created").stat();
        let parent_acl = self.acl_of(path::parent(path).unwrap_or("/"));
        let kept = self.changes.keep_path(path);
        let acl = self.changes.keep_acl(self.tree, acl);
        let parent_acl = self.changes.keep_acl(self.tree, parent_acl);
        self.changes.effect(Effect::Created { path: kept.clone(), acl, parent_acl });
        Ok(Done::Created { op, path: kept, stat })
    }

    fn delete(&mut self, path: &str) -> Result<Done, ErrorCode> {
        let (acl, parent_acl) = (self.acl_of(path), self.acl_of(path::parent(path).unwrap_or("/")));
        match self.tree.delete(path) {
            Ok(()) => {}
            Err(TreeError::NoNode) => {
                self.tree.deleted_before(path);
                return Err(ErrorCode::NoNode);
            }
            Err(error) => return Err(error.code()),
        }
        let path = self.changes.keep_path(path);
        let acl = self.changes.keep_acl(self.tree, acl);
        let parent_acl = self.changes.keep_acl(self.tree, parent_acl);
        self.changes.effect(Effect::Deleted { path, acl, parent_acl });
        Ok(Done::Deleted)
    }

    fn acl_of(&self, path: &str) -> AclId {
        self.tree.get(path).map_or(AclId::OPEN, |node| node.acl_id())
    }
}
