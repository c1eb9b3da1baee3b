//! createSession and closeSession.

use crate::consensus::batch::Batch;
use crate::consensus::handoff::Outcome;
use crate::consensus::sessions::Owner;
use crate::ids::SessionId;
use crate::jute::decode::Cursor;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::{reply, txn};
use crate::limits::{CLOSE_SESSION_PATH_BYTES_MAX, EPHEMERALS_BYTES_MAX};

use super::write::{Prepare, Prepared, Record, Request, Stamp};

impl Prepare {
    /// Opens a session on the connection `owner`. No transaction: there are too many sessions.
    pub fn open_session(
        &mut self,
        owner: Owner,
        timeout_ms: i32,
        stamp: Stamp,
        batch: &mut Batch,
    ) -> Prepared {
        let Some(session) = self.sessions.new_id() else {
            batch.answer(owner, 0, Outcome::Close);
            return Prepared::Answered;
        };
        self.sessions.open(session, timeout_ms, Some(owner), stamp.zxid, stamp.now_ms);
        self.tree.begin(stamp.zxid, stamp.time_ms);
        self.begin_txn(session, 0, OpCode::CREATE_SESSION, stamp);
        txn::encode_create_session(&mut self.txn, timeout_ms);
        batch.end_txn(stamp.zxid);
        batch.answer(owner, 0, Outcome::SessionOpened { session, timeout_ms });
        Prepared::Txn
    }

    /// Opens a session for a client of a learner, which has chosen the id.
    pub fn open_learners_session(
        &mut self,
        owner: Owner,
        session: SessionId,
        xid: i32,
        body: &[u8],
        stamp: Stamp,
        batch: &mut Batch,
    ) -> Prepared {
        let timeout_ms = Cursor::new(body).int("timeOut");
        self.tree.begin(stamp.zxid, stamp.time_ms);
        match timeout_ms {
            Ok(timeout_ms) if self.sessions.has_room() => {
                self.sessions.open(session, timeout_ms, Some(owner), stamp.zxid, stamp.now_ms);
                self.begin_txn(session, xid, OpCode::CREATE_SESSION, stamp);
                txn::encode_create_session(&mut self.txn, timeout_ms);
            }
            _ => {
                self.begin_txn(session, xid, OpCode::ERROR, stamp);
                txn::encode_error(&mut self.txn, ErrorCode::SystemError.code());
            }
        }
        batch.end_txn(stamp.zxid);
        Prepared::Txn
    }

    /// A createSession that a client sent inside its session. Like ZooKeeper's it changes what the
    /// session's timeout is after a restart, and nothing else; the reactor has moved that into its
    /// bounds.
    pub(super) fn create_session_again(
        &mut self,
        request: &Request<'_>,
        record: &Record<'_>,
        stamp: Stamp,
        batch: &mut Batch,
    ) {
        let timeout_ms = match record {
            Record::CreateSession(timeout_ms) => Ok(*timeout_ms),
            _ => Err(ErrorCode::MarshallingError),
        };
        let allowed = self.allowed(request.session, request.from);
        let timeout_ms = match allowed.and(timeout_ms) {
            Ok(timeout_ms) => timeout_ms,
            Err(err) => return self.refuse(request, err, stamp, batch),
        };
        self.sessions.log_again(request.session, timeout_ms, stamp.zxid);
        self.begin_txn(request.session, request.xid, OpCode::CREATE_SESSION, stamp);
        txn::encode_create_session(&mut self.txn, timeout_ms);
        batch.end_txn(stamp.zxid);
        batch.reply(request.from, request.xid, ErrorCode::Ok, |_, _| ());
    }

    /// Ends a session that has expired.
    pub fn expire_session(&mut self, session: SessionId, stamp: Stamp, batch: &mut Batch) {
        self.end_session(session, 0, stamp, batch);
        batch.end_txn_unasked(stamp.zxid);
    }

    /// Ends a session as its client asked for.
    pub(super) fn close_session(
        &mut self,
        from: Owner,
        session: SessionId,
        xid: i32,
        stamp: Stamp,
        batch: &mut Batch,
    ) {
        let err = match self.allowed(session, from) {
            Ok(()) => {
                self.end_session(session, xid, stamp, batch);
                ErrorCode::Ok
            }
            Err(err) => {
                self.tree.begin(stamp.zxid, stamp.time_ms);
                self.begin_txn(session, xid, OpCode::ERROR, stamp);
                txn::encode_error(&mut self.txn, err.code());
                err
            }
        };
        batch.end_txn(stamp.zxid);
        let outcome = match err {
            ErrorCode::SessionMoved => Outcome::Close,
            _ => Outcome::ReplyAndClose { err, body: 0..0 },
        };
        batch.answer(from, xid, outcome);
    }

    /// What getEphemerals is answered, if the session may ask through `from`: the paths of its
    /// ephemerals that begin with `prefix`.
    pub fn ephemerals_outcome(
        &mut self,
        session: SessionId,
        from: Owner,
        prefix: &[u8],
    ) -> Outcome {
        match self.allowed(session, from) {
            Err(ErrorCode::SessionMoved) => return Outcome::Close,
            Err(err) => return Outcome::Reply { err, body: 0..0 },
            Ok(()) => {}
        }
        let mut body = vec![0; 4];
        let mut count = 0_i32;
        for path in self.tree.ephemerals(session) {
            if !path.as_bytes().starts_with(prefix) {
                continue;
            }
            if body.len() + path.len() > EPHEMERALS_BYTES_MAX {
                return Outcome::Reply { err: ErrorCode::MarshallingError, body: 0..0 };
            }
            reply::string(&mut body, &path);
            count += 1;
        }
        body[..4].copy_from_slice(&count.to_be_bytes());
        Outcome::LongReply { body }
    }

    /// Prepares a closeSession: the session takes no more writes, its ephemerals vanish.
    fn end_session(&mut self, session: SessionId, xid: i32, stamp: Stamp, batch: &mut Batch) {
        let closing = self.sessions.close(session, stamp.zxid);
        assert!(closing, "session {session} is closed twice");
        let paths: Vec<String> = self.tree.ephemerals(session).collect();
        self.tree.begin(stamp.zxid, stamp.time_ms);
        {
            let mut write = self.writing(None, session, Ok(()), stamp, &mut batch.changes);
            for path in &paths {
                write.remove(path);
            }
        }
        batch.close_session(session);
        self.begin_txn(session, xid, OpCode::CLOSE_SESSION, stamp);
        // Whoever applies it deletes every ephemeral of the session, named or not, so a session
        // with very many of them need not make a transaction that is too large to read back.
        let mut room = CLOSE_SESSION_PATH_BYTES_MAX;
        let named = paths.iter().map(String::as_str).take_while(|path| {
            let left = room.checked_sub(4 + path.len());
            room = left.unwrap_or(0);
            left.is_some()
        });
        txn::encode_close_session(&mut self.txn, named);
    }
}
