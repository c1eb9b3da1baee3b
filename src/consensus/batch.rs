//! What gathers for one group commit: the effects of its transactions and the answers to be given
//! when they are committed. Filled by `prepare` and `core`; becomes one `Published`.

use std::ops::Range;
use std::sync::Arc;

use crate::consensus::handoff::{
    AclIndex, Answer, Answers, Effect, Outcome, Published, PublishedTxn,
};
use crate::consensus::sessions::Owner;
use crate::ids::{ReactorId, SessionId, Zxid};
use crate::jute::error_code::ErrorCode;
use crate::jute::records::Acl;
use crate::tree::{AclId, Writer};

/// ACLs noted last among which one more is looked for before it is noted again.
const ACLS_LOOKED_AT: usize = 8;

/// What transactions change that somebody may watch for.
#[derive(Debug, Default)]
pub struct Changes {
    effects: Vec<Effect>,
    paths: String,
    acls: Vec<Arc<[Acl]>>,
    /// Their numbers. None is given to another ACL before the batch is committed, for a version
    /// that the batch made or replaced has it.
    acl_ids: Vec<AclId>,
}

/// A state of `Changes` to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    effects: usize,
    paths: usize,
    acls: usize,
}

impl Changes {
    /// The state as it is.
    pub fn mark(&self) -> Mark {
        Mark { effects: self.effects.len(), paths: self.paths.len(), acls: self.acls.len() }
    }

    /// Forgets everything since `mark`.
    pub fn take_back(&mut self, mark: Mark) {
        self.effects.truncate(mark.effects);
        self.paths.truncate(mark.paths);
        self.acls.truncate(mark.acls);
        self.acl_ids.truncate(mark.acls);
    }

    /// Keeps a path for an effect.
    pub fn keep_path(&mut self, path: &str) -> Range<u32> {
        let start = self.paths.len();
        self.paths.push_str(path);
        range(start, self.paths.len())
    }

    /// Keeps a path that is put together in place.
    pub fn keep_path_with(&mut self, compose: impl FnOnce(&mut String)) -> Range<u32> {
        let start = self.paths.len();
        compose(&mut self.paths);
        range(start, self.paths.len())
    }

    /// The text of a kept path.
    pub fn path(&self, path: &Range<u32>) -> &str {
        &self.paths[path.start as usize..path.end as usize]
    }

    /// Keeps an ACL of `tree` for an effect: that of a znode that this transaction makes, changes or
    /// deletes, or of its parent.
    pub fn keep_acl(&mut self, tree: &Writer, id: AclId) -> AclIndex {
        if id == AclId::OPEN {
            return AclIndex::OPEN;
        }
        let mut known = self.acl_ids.iter().enumerate().rev().take(ACLS_LOOKED_AT);
        let index = known.find(|(_, known)| **known == id).map(|(index, _)| index);
        let index = index.unwrap_or_else(|| {
            self.acls.push(tree.shared_acl(id));
            self.acl_ids.push(id);
            self.acls.len() - 1
        });
        AclIndex(u32::try_from(index).expect("a batch is bounded far below 4 GiB"))
    }

    /// Adds an effect of the transaction that is being prepared.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// One group commit's worth of transactions and answers.
#[derive(Debug)]
pub struct Batch {
    pub changes: Changes,
    txns: Vec<PublishedTxn>,
    /// Those of them that no client asked for.
    unasked: usize,
    answers: Vec<Answers>,
    /// Sessions whose closeSession is in this batch.
    closed: Vec<SessionId>,
    /// When the first entry came, milliseconds of the monotonic clock.
    began_ms: Option<u64>,
}

impl Batch {
    /// An empty batch, to be published to `reactors` reactors.
    pub fn new(reactors: usize) -> Batch {
        Batch {
            changes: Changes::default(),
            txns: Vec::new(),
            unasked: 0,
            answers: vec![Answers::default(); reactors],
            closed: Vec::new(),
            began_ms: None,
        }
    }

    /// Transactions so far.
    pub fn txns(&self) -> usize {
        self.txns.len()
    }

    /// Those of them that a client asked for.
    pub fn asked(&self) -> usize {
        self.txns.len() - self.unasked
    }

    /// Whether there is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.began_ms.is_none()
    }

    /// When its first entry came, milliseconds of the monotonic clock.
    pub fn began_ms(&self) -> Option<u64> {
        self.began_ms
    }

    /// The last transaction, if there is one.
    pub fn through(&self) -> Option<Zxid> {
        self.txns.last().map(|txn| txn.zxid)
    }

    /// Sessions that are gone when the batch is committed.
    pub fn closed(&self) -> &[SessionId] {
        &self.closed
    }

    /// Something goes into the batch at `now_ms`.
    pub fn note(&mut self, now_ms: u64) {
        self.began_ms.get_or_insert(now_ms);
    }

    /// The transaction `zxid` is prepared: it has the effects since the one before.
    pub fn end_txn(&mut self, zxid: Zxid) {
        let start = self.txns.last().map_or(0, |txn| txn.effects.end);
        let end = range(0, self.changes.effects.len()).end;
        self.txns.push(PublishedTxn { zxid, effects: start..end });
    }

    /// As [`Batch::end_txn`], of a transaction that no client asked for.
    pub fn end_txn_unasked(&mut self, zxid: Zxid) {
        self.end_txn(zxid);
        self.unasked += 1;
    }

    /// The session is gone with the transaction that is being prepared.
    pub fn close_session(&mut self, session: SessionId) {
        self.changes.effect(Effect::SessionClosed { session });
        self.closed.push(session);
    }

    /// Answers an entry, once every transaction so far is taken. A learner finds the answer to what
    /// it forwarded in the transaction itself.
    pub fn answer(&mut self, to: Owner, xid: i32, outcome: Outcome) {
        let Owner::Connection { reactor, conn } = to else { return };
        let after = range(0, self.txns.len()).end;
        let answers = &mut self.answers[usize::from(reactor.0)];
        answers.list.push(Answer { conn, xid, after, outcome });
    }

    /// Answers a request with a reply, whose body `body` appends.
    pub fn reply(
        &mut self,
        to: Owner,
        xid: i32,
        err: ErrorCode,
        body: impl FnOnce(&mut Vec<u8>, &Changes),
    ) {
        let Owner::Connection { reactor, .. } = to else { return };
        let bytes = &mut self.answers[usize::from(reactor.0)].bytes;
        let start = bytes.len();
        body(bytes, &self.changes);
        let body = range(start, bytes.len());
        self.answer(to, xid, Outcome::Reply { err, body });
    }

    /// Nobody waits for an answer any more.
    pub fn forget_answers(&mut self) {
        self.answers = vec![Answers::default(); self.answers.len()];
    }

    /// Drops the transactions behind `zxid`, and all answers. False: none is left.
    pub fn cut_behind(&mut self, zxid: Zxid) -> bool {
        let kept = self.txns.partition_point(|txn| txn.zxid <= zxid);
        self.txns.truncate(kept);
        self.changes.effects.truncate(self.txns.last().map_or(0, |txn| txn.effects.end as usize));
        let closes = |session: &SessionId| {
            let is_it = |effect: &Effect| matches!(effect, Effect::SessionClosed { session: it } if it == session);
            self.changes.effects.iter().any(is_it)
        };
        self.closed.retain(closes);
        self.forget_answers();
        kept > 0
    }

    /// What the reactors get. `through` is the last committed transaction.
    pub fn into_published(self, through: Zxid) -> Published {
        Published {
            through,
            txns: self.txns,
            effects: self.changes.effects,
            paths: self.changes.paths,
            acls: self.changes.acls,
            answers: self.answers,
        }
    }

    /// The answers for `reactor` so far.
    pub fn answers(&self, reactor: ReactorId) -> &Answers {
        &self.answers[usize::from(reactor.0)]
    }
}

fn range(start: usize, end: usize) -> Range<u32> {
    let of = |at| u32::try_from(at).expect("a batch is bounded far below 4 GiB");
    of(start)..of(end)
}
