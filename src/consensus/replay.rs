//! Recovered transactions, applied to the tree and the sessions. Called at start-up, for every
//! transaction of the log behind the snapshot, in order.
//!
//! The snapshot is of exactly one zxid and the log has no gap, so every transaction must apply. One
//! that does not means that snapshot and log do not belong together, or that either is damaged in a
//! way that its checksums do not show; the server must not serve what would come of it.

use thiserror::Error;

use crate::consensus::sessions::Sessions;
use crate::ids::{SessionId, Zxid};
use crate::jute::decode::DecodeError;
use crate::jute::request::AclList;
use crate::jute::txn::{Transaction, Txn};
use crate::tree::{AclId, Owner, TTL_MS_MAX, TreeError, Writer};

/// Transactions after which what nobody needs is freed.
const RECLAIM_EVERY: u32 = 256;

/// Why a recovered transaction cannot be applied.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error("the transaction {zxid} cannot be decoded: {source}")]
    Undecodable { zxid: Zxid, source: DecodeError },
    #[error("the transaction {zxid} says of itself that it is {said}")]
    OtherZxid { zxid: Zxid, said: Zxid },
    #[error("the transaction {zxid} does not apply to {path}: {source}")]
    DoesNotApply { zxid: Zxid, path: String, source: TreeError },
    #[error("the transaction {zxid} makes a znode that lives {ttl_ms} ms")]
    BadTtl { zxid: Zxid, ttl_ms: i64 },
}

/// Applies transactions, oldest first.
#[derive(Debug)]
pub struct Replay {
    since_reclaim: u32,
    /// The ACL list seen last, as it came, and its number: nearly all creates carry the same one.
    last_acl: (Vec<u8>, AclId),
}

impl Default for Replay {
    fn default() -> Replay {
        Replay { since_reclaim: 0, last_acl: (Vec::new(), AclId::OPEN) }
    }
}

impl Replay {
    /// Applies the transaction `zxid`, whose bytes (header and record) the log gave. `finish` must
    /// follow the last one.
    ///
    /// # Errors
    /// When it cannot be decoded or does not apply; the tree is of no use then.
    ///
    /// # Panics
    /// When `zxid` is not newer than the one before.
    pub fn apply(
        &mut self,
        tree: &mut Writer,
        sessions: &mut Sessions,
        zxid: Zxid,
        txn: &[u8],
    ) -> Result<(), ReplayError> {
        let undecodable = |source| ReplayError::Undecodable { zxid, source };
        let Transaction { header, txn, .. } = Transaction::decode(txn).map_err(undecodable)?;
        if header.zxid != zxid {
            return Err(ReplayError::OtherZxid { zxid, said: header.zxid });
        }
        tree.begin(zxid, header.time_ms);
        let mut applying =
            Applying { tree, sessions, zxid, session: header.client_id, acl: &mut self.last_acl };
        match txn {
            // A failed multi still lists the parts that would have succeeded.
            Txn::Multi(parts) if parts.iter().any(|part| matches!(part.txn, Txn::Error(_))) => {}
            Txn::Multi(parts) => parts.iter().try_for_each(|part| applying.part(&part.txn))?,
            txn => applying.part(&txn)?,
        }
        self.since_reclaim += 1;
        if self.since_reclaim == RECLAIM_EVERY {
            self.finish(tree);
        }
        Ok(())
    }

    /// Lets readers see what is applied, and frees what nobody needs any more.
    pub fn finish(&mut self, tree: &mut Writer) {
        self.since_reclaim = 0;
        // Its number is good until here.
        self.last_acl.0.clear();
        let newest = tree.newest();
        tree.publish(newest);
    }
}

/// One transaction.
struct Applying<'a> {
    tree: &'a mut Writer,
    sessions: &'a mut Sessions,
    zxid: Zxid,
    session: SessionId,
    acl: &'a mut (Vec<u8>, AclId),
}

impl Applying<'_> {
    fn part(&mut self, txn: &Txn<'_>) -> Result<(), ReplayError> {
        let (zxid, session) = (self.zxid, self.session);
        match *txn {
            Txn::Create { path, data, acl, ephemeral, parent_cversion } => {
                let owner = if ephemeral { Owner::Session(session) } else { Owner::Persistent };
                // -1 is the old way to say "one more".
                let cversion = parent_cversion.filter(|cversion| *cversion != -1);
                self.create(path, data, &acl, owner, cversion)
            }
            Txn::CreateContainer { path, data, acl, parent_cversion } => {
                self.create(path, data, &acl, Owner::Container, Some(parent_cversion))
            }
            Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
                if !(1..=TTL_MS_MAX).contains(&ttl_ms) {
                    return Err(ReplayError::BadTtl { zxid, ttl_ms });
                }
                self.create(path, data, &acl, Owner::Ttl(ttl_ms), Some(parent_cversion))
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => self.delete(path),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                let done = self.tree.set_data(path, data, version);
                self.applied(path, done)
            }
            Txn::SetAcl { path, acl, version } => {
                let acl = self.intern(&acl);
                let done = self.tree.set_acl(path, acl, version);
                self.applied(path, done)
            }
            Txn::CreateSession { timeout_ms } => {
                self.sessions.recreate(session, timeout_ms);
                Ok(())
            }
            Txn::CloseSession { .. } => {
                // It may not name all of the session's ephemerals, and names nothing else.
                let paths: Vec<String> = self.tree.ephemerals(session).collect();
                self.sessions.remove(session);
                paths.iter().try_for_each(|path| self.delete(path))
            }
            Txn::Check { .. } | Txn::Error(_) => Ok(()),
            Txn::Multi(_) => unreachable!("a multi's parts are no multis"),
        }
    }

    fn applied(&self, path: &str, done: Result<(), TreeError>) -> Result<(), ReplayError> {
        done.map_err(|source| ReplayError::DoesNotApply {
            zxid: self.zxid,
            path: path.to_owned(),
            source,
        })
    }

    fn delete(&mut self, path: &str) -> Result<(), ReplayError> {
        let done = self.tree.delete(path);
        self.applied(path, done)
    }

    fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &AclList<'_>,
        owner: Owner,
        parent_cversion: Option<i32>,
    ) -> Result<(), ReplayError> {
        let acl = self.intern(acl);
        let done = self.tree.create(path, data, acl, owner, parent_cversion);
        self.applied(path, done)
    }

    fn intern(&mut self, acl: &AclList<'_>) -> AclId {
        let (raw, number) = &mut *self.acl;
        if raw.is_empty() || raw != acl.as_bytes() {
            *number = self.tree.intern_acl(&acl.to_vec());
            raw.clear();
            raw.extend_from_slice(acl.as_bytes());
        }
        *number
    }
}
