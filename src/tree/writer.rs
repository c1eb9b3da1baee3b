//! The newest version: what transactions do to the tree. One writer, on the consensus core.
//!
//! A transaction is `begin`, its changes, and later `publish` of its zxid or of a later one. What
//! is not published can be taken back. Semantics of application are ZooKeeper's (`DataTree`): the
//! checks of versions, ACLs, quotas and paths are made before, by the consensus core.

use std::collections::{BTreeSet, HashMap};

use thiserror::Error;

use super::acl_table::AclId;
use super::history::{History, Undone};
use super::owner::Owner;
use super::path;
use super::reader::{NodeView, Registry};
use super::restore::Restore;
use super::slab::MemoryUse;
use super::znode::{ChildCounts, DATA_BYTES_MAX, NodeParts, NodeRef, VersionParts, VersionRef};
use crate::ids::{SessionId, Zxid};
use crate::jute::error_code::ErrorCode;
use crate::jute::records::Acl;

/// Why a change cannot be made. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TreeError {
    #[error("there is no such znode")]
    NoNode,
    #[error("the parent does not exist")]
    NoParent,
    #[error("the znode exists already")]
    NodeExists,
    #[error("the znode has children")]
    NotEmpty,
    #[error("this is no path of a znode that can be created or deleted")]
    BadPath,
    #[error("{bytes} bytes of data are more than a znode can hold")]
    DataTooLong { bytes: usize },
}

impl TreeError {
    /// What a client is told.
    pub fn code(self) -> ErrorCode {
        match self {
            TreeError::NoNode | TreeError::NoParent => ErrorCode::NoNode,
            TreeError::NodeExists => ErrorCode::NodeExists,
            TreeError::NotEmpty => ErrorCode::NotEmpty,
            TreeError::BadPath | TreeError::DataTooLong { .. } => ErrorCode::BadArguments,
        }
    }
}

/// How much there is on the newest version, as ZooKeeper counts: the root is there twice (it also
/// has the empty path).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub znodes: u64,
    pub ephemerals: u64,
    /// Bytes of all paths and all data.
    pub approximate_data_bytes: u64,
}

/// What the tree takes, for operators and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeMemory {
    pub slab: MemoryUse,
    /// Replaced versions and blocks that wait until readers have moved on.
    pub waiting: usize,
    /// Versions and znodes that only pins by `Reader::hold_newest` hold.
    pub held: usize,
    /// ACLs, each counted once.
    pub acls: usize,
}

/// The one that changes the tree.
pub struct Writer {
    history: History,
    newest: Zxid,
    time_ms: i64,
    in_transaction: bool,
    counts: Counts,
    ephemerals: Ephemerals,
}

/// The paths of each session's ephemerals, in order.
pub(super) type Ephemerals = HashMap<SessionId, BTreeSet<Box<str>>>;

fn bits(zxid: Zxid) -> u64 {
    zxid.bits() as u64
}

impl Writer {
    /// A fresh tree at zxid 0: `/`, `/zookeeper`, `/zookeeper/quota` and `/zookeeper/config`, as a
    /// new ZooKeeper has them.
    pub fn new() -> (Writer, Registry) {
        Restore::new(Zxid::ZERO, 0).finish()
    }

    pub(super) fn restored(
        history: History,
        through: Zxid,
        counts: Counts,
        ephemerals: Ephemerals,
    ) -> (Writer, Registry) {
        let registry = Registry { shared: history.shared().clone() };
        let (newest, time_ms, in_transaction) = (through, 0, false);
        (Writer { history, newest, time_ms, in_transaction, counts, ephemerals }, registry)
    }

    /// Begins the transaction `zxid`: all changes that follow belong to it. `time_ms` is its time,
    /// milliseconds since 1970.
    ///
    /// # Panics
    /// When `zxid` is not newer than everything before.
    pub fn begin(&mut self, zxid: Zxid, time_ms: i64) {
        assert!(zxid > self.newest, "transaction {zxid} begins after {}", self.newest);
        assert!(zxid < Zxid::MAX, "the last zxid stands for all");
        (self.newest, self.time_ms, self.in_transaction) = (zxid, time_ms, true);
    }

    /// Creates a znode. `parent_cversion` is the parent's new stored cversion, as transactions
    /// carry it; None: one more than it is. If that is not larger (the counter is at its end), the
    /// parent keeps its cversion and pzxid.
    ///
    /// # Errors
    /// The znode exists, its parent does not, the path has no last component, or the data is too
    /// long.
    pub fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        owner: Owner,
        parent_cversion: Option<i32>,
    ) -> Result<(), TreeError> {
        let zxid = self.current();
        let (parent_path, name) = split(path)?;
        check_length(data)?;
        let parent = self.history.find(parent_path).ok_or(TreeError::NoParent)?;
        if self.history.find(path).is_some() {
            return Err(TreeError::NodeExists);
        }
        let ChildCounts { mut pzxid, mut cversion, children } = parent.newest_counts();
        let given = parent_cversion.unwrap_or(cversion.wrapping_add(1));
        if given > cversion {
            (cversion, pzxid) = (given, zxid);
        }
        let children = children + 1;
        self.history.push_counts(parent, zxid, ChildCounts { pzxid, cversion, children });
        let (since, mtime) = (zxid, self.time_ms);
        let (version, aversion, acl) = (0, 0, acl.number());
        let version = VersionParts { since, mzxid: since, mtime, version, aversion, acl, data };
        let (czxid, ctime, raw) = (zxid, self.time_ms, owner.raw());
        let node = NodeParts { name, owner: raw, czxid, ctime, hash: 0 };
        self.history.create(parent, path, node, &version);
        self.counts.add(path.len(), data.unwrap_or_default().len());
        if let Some(session) = owner.session() {
            self.counts.ephemerals += 1;
            self.ephemerals.entry(session).or_default().insert(path.into());
        }
        Ok(())
    }

    /// Deletes a znode.
    ///
    /// # Errors
    /// There is no such znode, it has children, or it is the root.
    pub fn delete(&mut self, path: &str) -> Result<(), TreeError> {
        let zxid = self.current();
        split(path)?;
        let node = self.history.find(path).ok_or(TreeError::NoNode)?;
        if node.newest_counts().children > 0 {
            return Err(TreeError::NotEmpty);
        }
        let parent = node.parent().ok_or(TreeError::BadPath)?;
        let ChildCounts { pzxid, cversion, children } = parent.newest_counts();
        let (pzxid, children) = (pzxid.max(zxid), children - 1);
        assert!(children >= 0, "{path} is deleted, whose parent has no children");
        self.counts.remove(path.len(), node.newest().data_length());
        if let Some(session) = Owner::from_raw(node.owner()).session() {
            self.counts.ephemerals -= 1;
            forget_ephemeral(&mut self.ephemerals, session, path);
        }
        self.history.push_counts(parent, zxid, ChildCounts { pzxid, cversion, children });
        self.history.delete(node, zxid);
        Ok(())
    }

    /// Sets a znode's data; `version` is the new one.
    ///
    /// # Errors
    /// There is no such znode, or the data is too long.
    pub fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<(), TreeError> {
        let zxid = self.current();
        check_length(data)?;
        let node = self.history.find(path).ok_or(TreeError::NoNode)?;
        let before = node.newest();
        self.counts.approximate_data_bytes -= before.data_length() as u64;
        self.counts.approximate_data_bytes += data.unwrap_or_default().len() as u64;
        let (since, mtime) = (zxid, self.time_ms);
        let (aversion, acl) = (before.aversion(), before.acl());
        let parts = VersionParts { since, mzxid: since, mtime, version, aversion, acl, data };
        self.history.push_version(node, &parts);
        Ok(())
    }

    /// Sets a znode's ACL; `aversion` is the new version of it.
    ///
    /// # Errors
    /// There is no such znode.
    pub fn set_acl(&mut self, path: &str, acl: AclId, aversion: i32) -> Result<(), TreeError> {
        let since = self.current();
        let node = self.history.find(path).ok_or(TreeError::NoNode)?;
        let before = node.newest();
        let (mzxid, mtime, version) = (before.mzxid(), before.mtime(), before.version());
        let (acl, data) = (acl.number(), before.data());
        let parts = VersionParts { since, mzxid, mtime, version, aversion, acl, data };
        self.history.push_version(node, &parts);
        Ok(())
    }

    /// Undoes everything since `begin`. The zxid stays used up.
    pub fn take_back(&mut self) {
        let current = self.current();
        self.undo_after(current - 1);
        self.in_transaction = false;
    }

    /// Undoes all transactions after `zxid`, none of which is published: a leader that is none any
    /// more. `zxid` is the newest again.
    ///
    /// # Panics
    /// When a later one is published.
    pub fn take_back_after(&mut self, zxid: Zxid) {
        assert!(zxid <= self.newest, "taken back after {zxid}, the newest is {}", self.newest);
        self.undo_after(bits(zxid));
        (self.newest, self.in_transaction) = (zxid, false);
    }

    fn undo_after(&mut self, zxid: u64) {
        let (counts, ephemerals) = (&mut self.counts, &mut self.ephemerals);
        self.history.undo_after(zxid, |undone| match undone {
            Undone::Created(node) => {
                counts.remove(node.path_length(), node.newest().data_length());
                if let Some(session) = Owner::from_raw(node.owner()).session() {
                    counts.ephemerals -= 1;
                    forget_ephemeral(ephemerals, session, &path_of(node));
                }
            }
            Undone::Set(node, version) => counts.undo_set(node, version),
            Undone::Deleted(node) => {
                counts.add(node.path_length(), node.newest().data_length());
                if let Some(session) = Owner::from_raw(node.owner()).session() {
                    counts.ephemerals += 1;
                    ephemerals.entry(session).or_default().insert(path_of(node).into());
                }
            }
        });
    }

    /// Lets readers pin everything through `zxid`, and reclaims a bounded part of what no reader
    /// can see any more.
    ///
    /// # Panics
    /// When `zxid` is not begun, or older than what is published.
    pub fn publish(&mut self, zxid: Zxid) {
        let committed = self.committed();
        assert!(zxid >= committed, "{zxid} is published after {committed}");
        assert!(zxid <= self.newest, "{zxid} is published, the newest is {}", self.newest);
        self.in_transaction &= zxid < self.newest;
        self.history.shared().pins.publish(bits(zxid));
        self.reclaim();
    }

    /// Reclaims a bounded part of what no reader can see. `publish` does so; a core with nothing
    /// to publish may.
    pub fn reclaim(&mut self) {
        self.history.reclaim();
    }

    /// The zxid of the newest transaction.
    pub fn newest(&self) -> Zxid {
        self.newest
    }

    /// The zxid that was published last.
    pub fn committed(&self) -> Zxid {
        Zxid::from_bits(self.history.shared().pins.committed() as i64)
    }

    /// The znode of `path` on the newest version.
    pub fn get(&self, path: &str) -> Option<NodeView<'_>> {
        let node = self.history.find(path)?;
        Some(NodeView::newest(node, &self.history.shared().acls))
    }

    /// Brings to the cache what a change of each of these paths will look at.
    pub fn prefetch<'p>(&self, paths: impl IntoIterator<Item = &'p str>) {
        self.history.shared().prefetch(self.history.guard(), paths.into_iter());
    }

    /// The paths of a session's ephemerals on the newest version, in order.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = String> {
        self.ephemerals.get(&session).into_iter().flatten().map(|path| path.to_string())
    }

    /// The sessions that have ephemerals on the newest version, in no defined order.
    pub fn ephemeral_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.keys().copied()
    }

    /// The number of an ACL. Good until the next `publish` or `reclaim`, and on for as long as a
    /// version of a znode has this ACL.
    pub fn intern_acl(&mut self, acl: &[Acl]) -> AclId {
        self.history.intern_acl(acl)
    }

    /// The ACL with this number; empty for `AclId::OPEN`.
    pub fn acl(&self, id: AclId) -> &[Acl] {
        self.history.shared().acls.get(id)
    }

    /// How much there is on the newest version.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the tree takes.
    pub fn memory(&self) -> TreeMemory {
        let (waiting, held) = self.history.backlog();
        let acls = self.history.distinct_acls();
        TreeMemory { slab: self.history.memory(), waiting, held, acls }
    }

    fn current(&self) -> u64 {
        assert!(self.in_transaction, "a change outside of a transaction");
        bits(self.newest)
    }
}

impl Counts {
    pub(super) fn add(&mut self, path: usize, data: usize) {
        self.znodes += 1;
        self.approximate_data_bytes += (path + data) as u64;
    }

    fn remove(&mut self, path: usize, data: usize) {
        self.znodes -= 1;
        self.approximate_data_bytes -= (path + data) as u64;
    }

    fn undo_set(&mut self, node: NodeRef<'_>, undone: VersionRef<'_>) {
        self.approximate_data_bytes -= undone.data_length() as u64;
        self.approximate_data_bytes += node.newest().data_length() as u64;
    }
}

fn path_of(node: NodeRef<'_>) -> String {
    let mut path = String::new();
    node.write_path(&mut path);
    path
}

fn forget_ephemeral(ephemerals: &mut Ephemerals, session: SessionId, path: &str) {
    let Some(paths) = ephemerals.get_mut(&session) else { return };
    paths.remove(path);
    if paths.is_empty() {
        ephemerals.remove(&session);
    }
}

/// The parent's path and the name of what can be created or deleted.
pub(super) fn split(path: &str) -> Result<(&str, &str), TreeError> {
    path::split(path).filter(|(_, name)| !name.is_empty()).ok_or(TreeError::BadPath)
}

pub(super) fn check_length(data: Option<&[u8]>) -> Result<(), TreeError> {
    let bytes = data.unwrap_or_default().len();
    if bytes > DATA_BYTES_MAX { Err(TreeError::DataTooLong { bytes }) } else { Ok(()) }
}
