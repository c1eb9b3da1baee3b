//! The newest version: what transactions do to the tree. One writer, on the consensus core.
//!
//! A transaction is `begin`, its changes, and later `publish` of its zxid or of a later one. What
//! is not published can be taken back. Semantics of application are ZooKeeper's (`DataTree`): the
//! checks of versions, ACLs, quotas and paths are made before, by the consensus core.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use thiserror::Error;

use super::acl_table::AclId;
use super::history::{History, Undone};
use super::owned::Owned;
use super::owner::Owner;
use super::path;
use super::quota::{Mark, Quota, QuotaRoots, QuotaText, extents, limits_path, stats_path};
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
    /// Bytes of the index, a part of what the slab has handed out (there rounded up).
    pub index: usize,
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
    owned: Owned,
    quotas: QuotaRoots,
}

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
        owned: Owned,
        quotas: QuotaRoots,
    ) -> (Writer, Registry) {
        let registry = Registry { shared: history.shared().clone() };
        let (newest, time_ms, in_transaction) = (through, 0, false);
        (Writer { history, newest, time_ms, in_transaction, counts, owned, quotas }, registry)
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
        self.quotas.begin();
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
        self.counts.ephemerals += u64::from(owner.session().is_some());
        self.owned.add(owner, path);
        match Mark::of(path) {
            Some(Mark::Limits(root)) => self.quotas.add(root),
            Some(Mark::Stats(root)) => self.recount(root),
            None => {}
        }
        self.charge(path, 1, data.unwrap_or_default().len() as i64);
        Ok(())
    }

    /// A create of a znode that is there, for a snapshot of another server held parts of what comes
    /// behind it: gives it the ACL, and its parent the counts, that the create would have given
    /// (zookeeper-formats 5.4).
    pub fn created_before(&mut self, path: &str, acl: AclId, parent_cversion: Option<i32>) {
        let zxid = self.current();
        if let Some(node) = self.history.find(path)
            && node.newest().acl() != acl.number()
        {
            let aversion = node.newest().aversion();
            let done = self.set_acl(path, acl, aversion);
            done.expect("the znode is there");
        }
        let Some(parent) = split(path).ok().and_then(|(parent, _)| self.history.find(parent))
        else {
            return;
        };
        let counts = parent.newest_counts();
        if let Some(cversion) = parent_cversion.filter(|given| *given > counts.cversion) {
            let counts = ChildCounts { pzxid: zxid, cversion, ..counts };
            self.history.push_counts(parent, zxid, counts);
        }
    }

    /// A delete of a znode that is not there any more, for the same reason: its parent has changed.
    pub fn deleted_before(&mut self, path: &str) {
        let zxid = self.current();
        let parent = split(path).ok().and_then(|(parent, _)| self.history.find(parent));
        if let Some(parent) = parent {
            let counts = parent.newest_counts();
            let counts = ChildCounts { pzxid: counts.pzxid.max(zxid), ..counts };
            self.history.push_counts(parent, zxid, counts);
        }
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
        let bytes = node.newest().data_length();
        self.counts.remove(path.len(), bytes);
        let owner = Owner::from_raw(node.owner());
        self.counts.ephemerals -= u64::from(owner.session().is_some());
        self.owned.forget(owner, path);
        self.history.push_counts(parent, zxid, ChildCounts { pzxid, cversion, children });
        self.history.delete(node, zxid);
        if let Some(Mark::Limits(root)) = Mark::of(path) {
            self.quotas.remove(root);
        }
        self.charge(path, -1, -(bytes as i64));
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
        let (old_bytes, new_bytes) = (before.data_length(), data.unwrap_or_default().len());
        self.counts.replace(old_bytes, new_bytes);
        let (since, mtime) = (zxid, self.time_ms);
        let (aversion, acl) = (before.aversion(), before.acl());
        let parts = VersionParts { since, mzxid: since, mtime, version, aversion, acl, data };
        self.history.push_version(node, &parts);
        self.charge(path, 0, new_bytes as i64 - old_bytes as i64);
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
        let (counts, owned, quotas) = (&mut self.counts, &mut self.owned, &mut self.quotas);
        self.history.undo_after(zxid, |undone| match undone {
            Undone::Created(node) => {
                counts.remove(node.path_length(), node.newest().data_length());
                let owner = Owner::from_raw(node.owner());
                counts.ephemerals -= u64::from(owner.session().is_some());
                if owner != Owner::Persistent {
                    owned.forget(owner, &path_of(node));
                }
                limits_undone(node, |root| quotas.remove(root));
            }
            Undone::Set(node, version) => {
                counts.replace(version.data_length(), node.newest().data_length());
            }
            Undone::Deleted(node) => {
                counts.add(node.path_length(), node.newest().data_length());
                let owner = Owner::from_raw(node.owner());
                counts.ephemerals += u64::from(owner.session().is_some());
                if owner != Owner::Persistent {
                    owned.add(owner, &path_of(node));
                }
                limits_undone(node, |root| quotas.add(root));
            }
        });
    }

    /// A change at `path` counts for its quota: so many znodes and bytes more.
    fn charge(&mut self, path: &str, znodes: i64, bytes: i64) {
        if self.quotas.is_empty() {
            return;
        }
        let Some(root) = self.quotas.enclosing(path).next() else { return };
        let Some(stats) = self.history.find(&stats_path(root)) else { return };
        // Counts that cannot be read stay as they are until the next recount: ZooKeeper dies of
        // them.
        let Some(counts) = QuotaText::parse(stats.newest().data()) else { return };
        let counts = counts.moved(znodes, bytes);
        self.write_in_place(root, &counts);
    }

    /// Counts anew what is at and below the quota root `root`, if there is a znode to keep it.
    fn recount(&mut self, root: &str) {
        let mut counted = (0, 0);
        if let Some(top) = self.history.find(root) {
            extents(top, |_, znodes, bytes| counted = (znodes, bytes));
        }
        self.write_in_place(root, &QuotaText::of(counted.0, counted.1).to_string());
    }

    /// Gives the counts of the quota root `root` another text, with the newest transaction.
    fn write_in_place(&mut self, root: &str, text: &str) {
        let Some(node) = self.history.find(&stats_path(root)) else { return };
        let before = node.newest();
        if before.data() == Some(text.as_bytes()) {
            return;
        }
        self.counts.replace(before.data_length(), text.len());
        let parts = VersionParts {
            since: bits(self.newest),
            mzxid: before.mzxid(),
            mtime: before.mtime(),
            version: before.version(),
            aversion: before.aversion(),
            acl: before.acl(),
            data: Some(text.as_bytes()),
        };
        self.history.push_version(node, &parts);
    }

    /// Puts the ensemble's configuration into `/zookeeper/config`, without a transaction, as
    /// ZooKeeper does at its start and behind each synchronisation: data version -1, and the
    /// configuration's version as the mzxid. Before there are readers, as `recount_quotas`.
    pub fn configure(&mut self, text: &[u8], version: i64) {
        let node = self.history.find("/zookeeper/config").expect("every tree has it");
        let before = node.newest();
        if before.data() == Some(text) && before.mzxid() == version as u64 {
            return;
        }
        self.counts.replace(before.data_length(), text.len());
        let parts = VersionParts {
            since: bits(self.newest),
            mzxid: version as u64,
            mtime: before.mtime(),
            version: -1,
            aversion: before.aversion(),
            acl: before.acl(),
            data: Some(text),
        };
        self.history.push_version(node, &parts);
    }

    /// Counts anew what is under every quota, as ZooKeeper does when it starts. Before there are
    /// readers: it changes what the newest transaction made.
    pub fn recount_quotas(&mut self) {
        if self.quotas.is_empty() {
            return;
        }
        // One walk for all of them: they may lie within each other.
        let tops = self.quotas.iter().filter_map(|root| Some(self.history.find(root)?.pointer()));
        let tops: HashSet<_> = tops.collect();
        let mut counted = HashMap::new();
        extents(self.history.root(), |node, znodes, bytes| {
            if tops.contains(&node.pointer()) {
                counted.insert(node.pointer(), (znodes, bytes));
            }
        });
        let text = |root: &str| {
            let top = self.history.find(root).and_then(|top| counted.get(&top.pointer()));
            let (znodes, bytes) = top.copied().unwrap_or((0, 0));
            (root.to_owned(), QuotaText::of(znodes, bytes).to_string())
        };
        let texts: Vec<(String, String)> = self.quotas.iter().map(text).collect();
        for (root, text) in texts {
            self.write_in_place(&root, &text);
        }
    }

    /// The quota roots at or above `path`, the deepest first: those on the newest version, and those
    /// that the transaction which is being made has removed.
    pub fn quota_roots<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let some = self.quotas.is_some_since_begin();
        let asked = some.then(|| self.quotas.enclosing_since_begin(path));
        asked.into_iter().flatten()
    }

    /// The quota of `root`, as of before the transaction that is being made; none if it was no
    /// quota root then. Takes longer the more often the transaction has changed it.
    ///
    /// # Panics
    /// Outside of a transaction.
    pub fn quota(&self, root: &str) -> Option<Quota<'_>> {
        let before = self.current() - 1;
        let limits = self.history.find_at(&limits_path(root), before)?;
        let stats = self.history.find_at(&stats_path(root), before);
        Some(Quota { limits: limits.data(), stats: stats.map(VersionRef::data) })
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
        self.owned.ephemerals(session).map(str::to_owned)
    }

    /// The sessions that have ephemerals on the newest version, in no defined order.
    pub fn ephemeral_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.owned.sessions()
    }

    /// The paths of containers and TTL znodes on the newest version that come after `after`, in
    /// order.
    pub fn reapable(&self, after: &str) -> impl Iterator<Item = &str> + use<'_> {
        self.owned.reapable(after)
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

    /// The ACL with this number, to be kept; empty for `AclId::OPEN`.
    pub fn shared_acl(&self, id: AclId) -> Arc<[Acl]> {
        self.history.shared().acls.shared(id)
    }

    /// How much there is on the newest version.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the tree takes.
    pub fn memory(&self) -> TreeMemory {
        let (waiting, held) = self.history.backlog();
        let acls = self.history.distinct_acls();
        let (slab, index) = (self.history.memory(), self.history.index_bytes());
        TreeMemory { slab, index, waiting, held, acls }
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

    fn replace(&mut self, before: usize, after: usize) {
        self.approximate_data_bytes -= before as u64;
        self.approximate_data_bytes += after as u64;
    }
}

/// Tells the quota root whose limits came or went with `node`, if it is such.
fn limits_undone(node: NodeRef<'_>, tell: impl FnOnce(&str)) {
    if Mark::may_be_limits(node.name())
        && let Some(Mark::Limits(root)) = Mark::of(&path_of(node))
    {
        tell(root);
    }
}

fn path_of(node: NodeRef<'_>) -> String {
    let mut path = String::new();
    node.write_path(&mut path);
    path
}

/// The parent's path and the name of what can be created or deleted.
pub(super) fn split(path: &str) -> Result<(&str, &str), TreeError> {
    path::split(path).filter(|(_, name)| !name.is_empty()).ok_or(TreeError::BadPath)
}

pub(super) fn check_length(data: Option<&[u8]>) -> Result<(), TreeError> {
    let bytes = data.unwrap_or_default().len();
    if bytes > DATA_BYTES_MAX { Err(TreeError::DataTooLong { bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::records::Id;
    use crate::tree::StoredStat;

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn create(writer: &mut Writer, path: &str, data: &[u8]) -> Result<(), TreeError> {
        writer.create(path, Some(data), AclId::OPEN, Owner::Persistent, None)
    }

    fn names(view: NodeView<'_>) -> Vec<&str> {
        let mut names: Vec<&str> = view.children().collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_fresh_tree_is_that_of_a_new_zookeeper() {
        let (writer, registry) = Writer::new();
        let mut reader = registry.reader();
        assert_eq!(reader.pin_newest(), Zxid::ZERO);
        let view = reader.at(Zxid::ZERO);
        let root = view.get("/").unwrap();
        assert_eq!((root.stat().cversion, root.stat().num_children), (-1, 1));
        assert_eq!(root.stored(), StoredStat::default());
        assert_eq!(root.data(), Some(b"".as_slice()));
        assert_eq!(view.get("").unwrap().stat(), root.stat());
        let zookeeper = view.get("/zookeeper").unwrap();
        assert_eq!((zookeeper.stat().cversion, zookeeper.acl_id()), (-2, AclId::OPEN));
        assert_eq!(names(zookeeper), ["config", "quota"]);
        let config = view.get("/zookeeper/config").unwrap();
        assert_eq!(config.stat().aversion, -1);
        let anyone = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
        assert_eq!(config.acl(), [Acl { perms: 1, id: anyone }]);
        let counts = writer.counts();
        assert_eq!((counts.znodes, counts.approximate_data_bytes), (5, 44));
        let below = view.get("/").unwrap().descendants(10);
        assert_eq!(below, crate::tree::Descendants::Counted(3));
    }

    #[test]
    fn creations_count_in_the_parent_and_deletions_move_its_pzxid_alone() {
        let (mut writer, _registry) = Writer::new();
        writer.begin(zxid(1), 1000);
        create(&mut writer, "/a", b"x").unwrap();
        writer.begin(zxid(2), 2000);
        create(&mut writer, "/a/b", b"").unwrap();
        create(&mut writer, "/a/c", b"").unwrap();
        let stat = writer.get("/a").unwrap().stat();
        assert_eq!((stat.czxid, stat.mzxid, stat.pzxid), (1, 1, 2));
        assert_eq!((stat.ctime, stat.mtime, stat.data_length), (1000, 1000, 1));
        assert_eq!((stat.cversion, stat.num_children), (2, 2));
        writer.begin(zxid(3), 3000);
        writer.delete("/a/b").unwrap();
        let view = writer.get("/a").unwrap();
        assert_eq!((view.stored().cversion, view.stored().pzxid), (2, 3));
        assert_eq!((view.stat().cversion, view.stat().num_children), (3, 1));
        assert_eq!(names(view), ["c"]);
    }

    #[test]
    fn a_parent_cversion_that_is_not_larger_leaves_cversion_and_pzxid() {
        let (mut writer, _registry) = Writer::new();
        writer.begin(zxid(1), 0);
        create(&mut writer, "/a", b"").unwrap();
        writer.begin(zxid(2), 0);
        let given = Some(i32::MAX);
        writer.create("/a/b", None, AclId::OPEN, Owner::Persistent, given).unwrap();
        writer.begin(zxid(3), 0);
        create(&mut writer, "/a/c", b"").unwrap();
        let stored = writer.get("/a").unwrap().stored();
        assert_eq!((stored.cversion, stored.pzxid), (i32::MAX, 2));
        assert_eq!(writer.get("/a").unwrap().num_children(), 2);
    }

    #[test]
    fn set_acl_changes_nothing_but_acl_and_aversion() {
        let (mut writer, _registry) = Writer::new();
        let id = Id { scheme: "digest".to_owned(), id: "a:b".to_owned() };
        let acl = writer.intern_acl(&[Acl { perms: 31, id }]);
        writer.begin(zxid(1), 10);
        create(&mut writer, "/a", b"x").unwrap();
        writer.begin(zxid(2), 20);
        writer.set_data("/a", Some(b"yy"), 1).unwrap();
        let before = writer.get("/a").unwrap().stored();
        writer.begin(zxid(3), 30);
        writer.set_acl("/a", acl, 1).unwrap();
        let after = writer.get("/a").unwrap();
        assert_eq!(after.stored(), StoredStat { aversion: 1, ..before });
        assert_eq!((after.acl_id(), after.data()), (acl, Some(b"yy".as_slice())));
        writer.begin(zxid(4), 40);
        writer.set_data("/a", None, 2).unwrap();
        let last = writer.get("/a").unwrap();
        assert_eq!((last.aversion(), last.acl_id(), last.data()), (1, acl, None));
        assert_eq!((last.stored().mzxid, last.stored().mtime, last.version()), (4, 40, 2));
    }

    #[test]
    fn what_cannot_be_done_is_named_and_changes_nothing() {
        let (mut writer, _registry) = Writer::new();
        writer.begin(zxid(1), 0);
        create(&mut writer, "/a", b"").unwrap();
        create(&mut writer, "/a/b", b"").unwrap();
        let counts = writer.counts();
        assert_eq!(create(&mut writer, "/a", b""), Err(TreeError::NodeExists));
        assert_eq!(create(&mut writer, "/x/y", b""), Err(TreeError::NoParent));
        assert_eq!(create(&mut writer, "/a/", b""), Err(TreeError::BadPath));
        assert_eq!(create(&mut writer, "/", b""), Err(TreeError::BadPath));
        assert_eq!(create(&mut writer, "x", b""), Err(TreeError::BadPath));
        assert_eq!(writer.delete("/a"), Err(TreeError::NotEmpty));
        assert_eq!(writer.delete("/x"), Err(TreeError::NoNode));
        assert_eq!(writer.delete("/"), Err(TreeError::BadPath));
        assert_eq!(writer.set_data("/x", None, 0), Err(TreeError::NoNode));
        assert_eq!(writer.set_acl("/x", AclId::OPEN, 0), Err(TreeError::NoNode));
        assert_eq!(writer.counts(), counts);
        assert!(writer.get("/a/").is_none() && writer.get("a").is_none());
        assert!(writer.get("//a").is_none() && writer.get("/a/b/").is_none());
    }

    #[test]
    fn an_ephemeral_belongs_to_its_session_until_it_is_deleted_or_taken_back() {
        let (mut writer, _registry) = Writer::new();
        let session = SessionId::from_bits(7);
        let list = |writer: &Writer| writer.ephemerals(session).collect::<Vec<_>>();
        writer.begin(zxid(1), 0);
        for path in ["/b", "/a"] {
            writer.create(path, None, AclId::OPEN, Owner::Session(session), None).unwrap();
        }
        assert_eq!(list(&writer), ["/a", "/b"]);
        assert_eq!(writer.get("/a").unwrap().stat().ephemeral_owner, 7);
        writer.begin(zxid(2), 0);
        writer.delete("/a").unwrap();
        writer.create("/c", None, AclId::OPEN, Owner::Session(session), None).unwrap();
        assert_eq!(list(&writer), ["/b", "/c"]);
        writer.take_back();
        assert_eq!(list(&writer), ["/a", "/b"]);
        assert_eq!(writer.counts().ephemerals, 2);
        writer.take_back_after(Zxid::ZERO);
        assert_eq!(writer.ephemeral_sessions().count(), 0);
        assert_eq!(writer.counts().ephemerals, 0);
    }

    #[test]
    fn containers_and_ttl_nodes_show_no_owner() {
        let (mut writer, _registry) = Writer::new();
        writer.begin(zxid(1), 0);
        writer.create("/c", None, AclId::OPEN, Owner::Container, None).unwrap();
        writer.create("/t", None, AclId::OPEN, Owner::Ttl(500), None).unwrap();
        for (path, owner) in [("/c", Owner::Container), ("/t", Owner::Ttl(500))] {
            let view = writer.get(path).unwrap();
            assert_eq!((view.owner(), view.stat().ephemeral_owner), (owner, 0));
            assert_eq!(view.stored().ephemeral_owner, owner.raw());
        }
        assert_eq!(writer.counts().ephemerals, 0);
    }

    #[test]
    fn names_of_every_length_are_kept() {
        let (mut writer, _registry) = Writer::new();
        writer.begin(zxid(1), 0);
        let lengths: &[usize] =
            if cfg!(miri) { &[1, 16_382, 16_383] } else { &[1, 16_382, 16_383, 70_000, 900_000] };
        for length in lengths {
            let path = format!("/{}", "n".repeat(*length));
            create(&mut writer, &path, b"").unwrap();
            let owner = Owner::Session(SessionId::from_bits(1));
            let below = format!("{path}/{}", "e".repeat(*length));
            writer
                .create(&below, Some(&path.as_bytes()[..*length]), AclId::OPEN, owner, None)
                .unwrap();
            assert_eq!(writer.get(&below).unwrap().path(), below);
            assert_eq!(writer.get(&below).unwrap().data(), Some(&path.as_bytes()[..*length]));
            assert_eq!(writer.get(&below).unwrap().owner(), owner);
        }
    }

    #[test]
    fn a_reader_at_an_older_pin_sees_the_tree_of_its_zxid() {
        let (mut writer, registry) = Writer::new();
        writer.begin(zxid(1), 0);
        create(&mut writer, "/a", b"1").unwrap();
        create(&mut writer, "/gone", b"old").unwrap();
        writer.publish(zxid(1));
        let mut reader = registry.reader();
        reader.pin_newest();
        writer.begin(zxid(2), 0);
        writer.set_data("/a", Some(b"2"), 1).unwrap();
        create(&mut writer, "/a/b", b"").unwrap();
        writer.delete("/gone").unwrap();
        create(&mut writer, "/gone", b"new").unwrap();
        writer.begin(zxid(3), 0);
        writer.delete("/gone").unwrap();
        for published in [zxid(2), zxid(3)] {
            writer.publish(published);
            writer.reclaim();
            let view = reader.at(zxid(1));
            assert_eq!(view.get("/a").unwrap().data(), Some(b"1".as_slice()));
            assert_eq!(view.get("/a").unwrap().stat().num_children, 0);
            assert!(view.get("/a/b").is_none());
            assert_eq!(view.get("/gone").unwrap().data(), Some(b"old".as_slice()));
            assert_eq!(names(view.get("/").unwrap()), ["a", "gone", "zookeeper"]);
        }
        let between = reader.at(zxid(2));
        assert_eq!(between.get("/gone").unwrap().data(), Some(b"new".as_slice()));
        assert_eq!(between.get("/a").unwrap().stat().pzxid, 2);
        reader.move_to(zxid(3));
        writer.reclaim();
        writer.reclaim();
        assert!(reader.at(zxid(3)).get("/gone").is_none());
        assert_eq!(names(reader.at(zxid(3)).get("/").unwrap()), ["a", "zookeeper"]);
    }

    #[test]
    fn memory_comes_back_when_everything_is_deleted() {
        let (mut writer, registry) = Writer::new();
        let mut reader = registry.reader();
        let blocks = |writer: &Writer| {
            let memory = writer.memory();
            assert_eq!((memory.waiting, memory.held), (0, 0), "{memory:?}");
            (memory.slab.used, memory.index, memory.acls)
        };
        let count = if cfg!(miri) { 50 } else { 20_000 };
        let mut at = 0;
        let fresh = blocks(&writer);
        for _round in 0..3 {
            let mut next = |writer: &mut Writer| {
                at += 1;
                writer.begin(zxid(at), at);
            };
            next(&mut writer);
            create(&mut writer, "/p", b"parent").unwrap();
            for number in 0..count {
                next(&mut writer);
                let acl = writer.intern_acl(&[Acl {
                    perms: 31,
                    id: Id { scheme: "digest".to_owned(), id: format!("u{}:x", number % 10) },
                }]);
                let (path, owner) = (format!("/p/{number}"), Owner::Persistent);
                writer.create(&path, Some(&[1; 100]), acl, owner, None).unwrap();
                if number % 7 == 0 {
                    let (newest, below) = (writer.newest(), format!("{path}/below"));
                    create(&mut writer, &below, &[0; 5000]).unwrap();
                    writer.delete(&below).unwrap();
                    writer.publish(newest);
                    reader.pin_newest();
                }
            }
            next(&mut writer);
            writer.set_data("/p", Some(&[7; 30_000]), 1).unwrap();
            for number in (0..count).rev() {
                writer.delete(&format!("/p/{number}")).unwrap();
            }
            writer.delete("/p").unwrap();
            let newest = writer.newest();
            writer.publish(newest);
            reader.pin_newest();
            while writer.memory().waiting > 0 {
                writer.reclaim();
                reader.pin_newest();
            }
            let now = blocks(&writer);
            // The index may keep more small segments than a fresh one has; all else is exact.
            assert_eq!((now.0 - now.1, now.2), (fresh.0 - fresh.1, fresh.2));
        }
        assert_eq!(writer.counts().znodes, 5);
    }
}
