//! The state that recovery fills: the tree and the sessions, from a snapshot and the transactions
//! of the log behind it. Made by the server at start-up, before there are cores.

use std::collections::HashMap;

use thiserror::Error;

use crate::consensus::replay::{Replay, ReplayError};
use crate::consensus::sessions::Sessions;
use crate::ids::{ServerId, SessionId, Zxid};
use crate::jute::records::Acl;
use crate::log::recover;
use crate::rt::clock;
use crate::snapshot::format::Znode;
use crate::tree::{AclId, Registry, Restore, RestoreError, StoredStat, Writer};

/// Why a part of the recovered state cannot be taken.
#[derive(Debug, Error)]
pub enum RestoreFault {
    #[error("session {0} is there twice")]
    SessionTwice(SessionId),
    #[error("no ACL has the number {0} of {1}")]
    NoAcl(u32, String),
    #[error("{path}: {source}")]
    Znode { path: String, source: RestoreError },
    #[error(transparent)]
    Transaction(#[from] ReplayError),
}

/// A server's state while it is recovered.
pub struct State {
    me: ServerId,
    tick_ms: u64,
    tree: Stage,
    sessions: Sessions,
    acls: HashMap<u32, AclId>,
    replay: Replay,
}

/// A tree is restored first, and written to then.
enum Stage {
    Restoring(Box<Restore>),
    Writing(Box<Writer>, Registry),
}

impl Stage {
    /// A tree as of `zxid`, with nothing in it yet, and room for about `znodes`.
    fn restoring(zxid: Zxid, znodes: usize) -> Stage {
        Stage::Restoring(Box::new(Restore::new(zxid, znodes)))
    }

    /// The tree, with nothing more to come from a snapshot.
    fn writing(self) -> Stage {
        match self {
            Stage::Restoring(restore) => {
                let (writer, registry) = restore.finish();
                Stage::Writing(Box::new(writer), registry)
            }
            writing => writing,
        }
    }
}

impl State {
    /// The state of a new server. `tick_ms` is `tickTime`.
    pub fn new(me: ServerId, tick_ms: u64) -> State {
        State {
            me,
            tick_ms,
            tree: Stage::restoring(Zxid::ZERO, 0),
            sessions: Sessions::new(me, tick_ms, clock::boot_ms()),
            acls: HashMap::new(),
            replay: Replay::default(),
        }
    }

    /// The tree while a snapshot is read.
    fn restoring(&mut self) -> &mut Restore {
        let Stage::Restoring(restore) = &mut self.tree else {
            panic!("a part of a snapshot behind a transaction of the log");
        };
        restore
    }

    /// What was recovered; readers may see all of it.
    pub fn finish(mut self) -> (Writer, Registry, Sessions) {
        let Stage::Writing(mut tree, registry) = self.tree.writing() else {
            unreachable!("a tree that is finished is written to");
        };
        tree.recount_quotas();
        self.replay.finish(&mut tree);
        (*tree, registry, self.sessions)
    }
}

impl recover::Recover for State {
    type Error = RestoreFault;

    fn begin(&mut self, zxid: Zxid, znodes: usize) {
        self.sessions = Sessions::new(self.me, self.tick_ms, clock::boot_ms());
        self.acls.clear();
        self.tree = Stage::restoring(zxid, znodes);
    }

    fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), RestoreFault> {
        let new = self.sessions.restore(session, timeout_ms);
        if new { Ok(()) } else { Err(RestoreFault::SessionTwice(session)) }
    }

    fn acl(&mut self, number: u32, acl: Vec<Acl>) -> Result<(), RestoreFault> {
        let id = self.restoring().intern_acl(&acl);
        self.acls.insert(number, id);
        Ok(())
    }

    fn znode(&mut self, znode: &Znode<'_>) -> Result<(), RestoreFault> {
        let path = znode.path;
        let acl = match znode.acl {
            0 => AclId::OPEN,
            number => {
                let known = self.acls.get(&number).copied();
                known.ok_or_else(|| RestoreFault::NoAcl(number, path.to_owned()))?
            }
        };
        let stat = StoredStat {
            czxid: znode.czxid,
            mzxid: znode.mzxid,
            ctime: znode.ctime,
            mtime: znode.mtime,
            version: znode.version,
            cversion: znode.cversion,
            aversion: znode.aversion,
            ephemeral_owner: znode.ephemeral_owner,
            pzxid: znode.pzxid,
        };
        let inserted = self.restoring().insert(path, znode.data, acl, &stat);
        inserted.map_err(|source| RestoreFault::Znode { path: path.to_owned(), source })
    }

    fn replay(&mut self, zxid: Zxid, txn: &[u8]) -> Result<(), RestoreFault> {
        if let Stage::Restoring(_) = self.tree {
            let restored = std::mem::replace(&mut self.tree, Stage::restoring(Zxid::ZERO, 0));
            self.tree = restored.writing();
        }
        let Stage::Writing(tree, _) = &mut self.tree else {
            unreachable!("a tree that is finished is written to");
        };
        Ok(self.replay.apply(tree, &mut self.sessions, zxid, txn)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::opcode::OpCode;
    use crate::jute::records::Id;
    use crate::jute::txn::{self, TxnHeader};
    use crate::log::recover::Recover as _;

    fn znode(path: &str, acl: u32) -> Znode<'_> {
        Znode {
            path,
            data: Some(b"data"),
            acl,
            czxid: 3,
            mzxid: 4,
            pzxid: 3,
            ctime: 30,
            mtime: 40,
            version: 1,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
        }
    }

    fn set_data(zxid: i64, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = TxnHeader {
            client_id: SessionId::from_bits(7),
            cxid: 1,
            zxid: Zxid::from_bits(zxid),
            time_ms: 50,
            op: OpCode::SET_DATA,
        };
        txn::encode_header(&mut bytes, &header);
        txn::encode_set_data(&mut bytes, path, Some(b"newer"), 2);
        bytes
    }

    #[test]
    fn a_snapshot_and_the_log_behind_it_make_the_state() {
        let mut state = State::new(ServerId::STANDALONE, 2_000);
        state.begin(Zxid::from_bits(9), 2);
        state.session(SessionId::from_bits(8), 1_000).unwrap();
        // That snapshot was damaged: the one before it is taken.
        state.begin(Zxid::from_bits(5), 2);
        state.session(SessionId::from_bits(7), 10_000).unwrap();
        let acl = vec![Acl { perms: 1, id: Id { scheme: "ip".to_owned(), id: "::1".to_owned() } }];
        state.acl(3, acl.clone()).unwrap();
        state.znode(&znode("/", 0)).unwrap();
        state.znode(&znode("/a", 3)).unwrap();
        state.replay(Zxid::from_bits(6), &set_data(6, "/a")).unwrap();
        let (tree, registry, sessions) = state.finish();
        let node = tree.get("/a").unwrap();
        assert_eq!((node.data(), node.acl()), (Some(&b"newer"[..]), &acl[..]));
        assert_eq!((node.stat().mzxid, node.stat().mtime, node.version()), (6, 50, 2));
        assert!(tree.get("/zookeeper/config").is_some());
        assert_eq!(registry.committed(), Zxid::from_bits(6));
        assert_eq!(sessions.as_of(Zxid::from_bits(6)), [(SessionId::from_bits(7), 10_000)]);
    }

    #[test]
    fn the_quotas_of_a_snapshot_are_counted_anew_and_its_containers_known() {
        let mut state = State::new(ServerId::STANDALONE, 2_000);
        state.begin(Zxid::from_bits(5), 9);
        let stats = "/zookeeper/quota/a/zookeeper_stats";
        for path in [
            "/",
            "/zookeeper",
            "/zookeeper/quota",
            "/zookeeper/quota/a",
            "/zookeeper/quota/a/zookeeper_limits",
            stats,
            "/a",
        ] {
            state.znode(&znode(path, 0)).unwrap();
        }
        let container = Znode { ephemeral_owner: i64::MIN, ..znode("/a/container", 0) };
        state.znode(&container).unwrap();
        let (mut tree, registry, _) = state.finish();
        let mut reader = registry.reader();
        assert_eq!(reader.pin_newest(), Zxid::from_bits(5));
        let node = reader.at(Zxid::from_bits(5)).get(stats).unwrap();
        assert_eq!(node.data(), Some(&b"count=2,bytes=8"[..]));
        assert_eq!((node.stat().mzxid, node.version()), (4, 1));
        assert_eq!(tree.reapable("").collect::<Vec<_>>(), ["/a/container"]);
        tree.begin(Zxid::from_bits(6), 60);
        tree.delete("/a/container").unwrap();
        assert_eq!(tree.get(stats).unwrap().data(), Some(&b"count=1,bytes=4"[..]));
        assert_eq!(tree.reapable("").count(), 0);
        assert_eq!(node.data(), Some(&b"count=2,bytes=8"[..]), "a reader's view stays");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut state = State::new(ServerId::STANDALONE, 2_000);
        state.begin(Zxid::from_bits(5), 2);
        let error = state.znode(&znode("/a", 9)).unwrap_err();
        assert_eq!(error.to_string(), "no ACL has the number 9 of /a");
        let error = state.znode(&znode("/b/c", 0)).unwrap_err();
        assert_eq!(error.to_string(), "/b/c: the parent does not exist");
        let error = state.replay(Zxid::from_bits(6), &set_data(6, "/no")).unwrap_err();
        let expected = "the transaction 0x6 does not apply to /no: there is no such znode";
        assert_eq!(error.to_string(), expected);
        let error = state.replay(Zxid::from_bits(7), &set_data(8, "/no")).unwrap_err();
        assert_eq!(error.to_string(), "the transaction 0x7 says of itself that it is 0x8");
    }
}
