//! The writer's side of the versions: what each transaction changed, in a journal, and from it
//! both ways on: undone, newest first, as long as it is not committed; or reclaimed, oldest first,
//! when no pin can see what it replaced.
//!
//! Memory goes in two steps (see `pins`): what nobody can see any more is unlinked, and freed when
//! no reader can still hold a pointer to it. The first step takes journal entries in zxid order, so
//! a chain loses its oldest links first. What a still pin holds is put aside (`held`) and looked at
//! again when the still pins change; each such pin holds at most one version of a node, so memory
//! stays bounded however long it lasts.
//!
//! A node goes after all its other links, its children and its elders in the chains.
//!
//! Changes take `&self` and only add; what frees takes `&mut self`. So a reference to a node is
//! good for as long as the history is borrowed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;

use super::acl_table::{AclCounts, AclId};
use super::hash::PathHasher;
use super::index::{Index, Replaced};
use super::pins::Seen;
use super::slab::{MemoryUse, Slab};
use super::versions::Shared;
use super::znode::{
    Chain, ChildCounts, Guard, Link, Node, NodeParts, NodeRef, VersionParts, VersionRef, write,
};
use crate::jute::records::Acl;

/// Steps of reclamation that one `reclaim` may take, beside two for each change since the last.
const STEPS_MIN: usize = 256;

/// One entry of the journal.
struct Change {
    zxid: u64,
    node: NonNull<Node>,
    what: What,
}

enum What {
    Created,
    /// The link is on top of what it replaced, if anything.
    Pushed(Chain, NonNull<Link>),
    /// The link is the tombstone.
    Deleted(NonNull<Link>),
}

/// What nobody but a still pin can see.
enum Held {
    Link { node: NonNull<Node>, chain: Chain, link: NonNull<Link>, until: u64 },
    Node { node: NonNull<Node>, until: u64 },
}

/// What is unlinked and not freed yet.
enum Garbage {
    Link(Chain, NonNull<Link>),
    /// With all its links.
    Node(NonNull<Node>),
    Block(Replaced),
}

/// What `undo_after` tells of each change that it undoes.
pub(super) enum Undone<'a> {
    /// The node is about to go.
    Created(NodeRef<'a>),
    /// The version is gone from the top of the node.
    Set(NodeRef<'a>, VersionRef<'a>),
    /// The node is back.
    Deleted(NodeRef<'a>),
}

/// The writer's hold on the tree's memory.
pub(super) struct History {
    shared: Arc<Shared>,
    slab: RefCell<Slab>,
    acls: RefCell<AclCounts>,
    journal: RefCell<VecDeque<Change>>,
    /// Blocks of the index that were unlinked in the current epoch.
    replaced: RefCell<Vec<Replaced>>,
    /// Changes since the last `reclaim`.
    fresh: Cell<usize>,
    held: VecDeque<Held>,
    /// How many of `held` are to be looked at again, from the front.
    sweep_left: usize,
    /// A node waits in `held` for something behind it there.
    sweep_again: bool,
    /// With the epoch in which each was unlinked.
    limbo: VecDeque<(u64, Garbage)>,
    seen: Seen,
}

// SAFETY: the pointers are to memory of the slab, which moves along; nothing is bound to a thread.
unsafe impl Send for History {}

impl History {
    /// A tree of a root alone, with room in the index for about `nodes`.
    pub fn new(committed: u64, nodes: usize, root: &VersionParts<'_>) -> History {
        let mut slab = Slab::new();
        let mut acls = AclCounts::new();
        acls.add(root.acl);
        let index = Index::new(&mut slab, nodes);
        let version = write::version(&mut slab, root);
        let parts = NodeParts { name: "", owner: 0, czxid: root.since, ctime: root.mtime, hash: 0 };
        let node = write::node(&mut slab, None, &parts, version);
        let table = Arc::clone(acls.table());
        let shared = Shared::new(committed, index, PathHasher::random(), table, node);
        History {
            shared: Arc::new(shared),
            slab: RefCell::new(slab),
            acls: RefCell::new(acls),
            journal: RefCell::default(),
            replaced: RefCell::default(),
            fresh: Cell::new(0),
            held: VecDeque::new(),
            sweep_left: 0,
            sweep_again: false,
            limbo: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn guard(&self) -> Guard<'_> {
        // SAFETY: whatever frees takes `&mut self`.
        unsafe { Guard::new() }
    }

    pub fn memory(&self) -> MemoryUse {
        self.slab.borrow().memory()
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> usize {
        self.shared.index.bytes()
    }

    /// Entries that wait to be reclaimed or freed, and those that still pins hold.
    pub fn backlog(&self) -> (usize, usize) {
        (self.journal.borrow().len() + self.limbo.len(), self.held.len())
    }

    pub fn root(&self) -> NodeRef<'_> {
        self.shared.root(self.guard())
    }

    /// The node of `path` on the newest version.
    pub fn find(&self, path: &str) -> Option<NodeRef<'_>> {
        self.shared.find(self.guard(), path, |node| (!node.is_deleted()).then_some(node))
    }

    /// What was at `path` at `zxid`, the newest or the committed zxid or one in between.
    pub fn find_at(&self, path: &str, zxid: u64) -> Option<VersionRef<'_>> {
        self.shared.find(self.guard(), path, |node| node.version_at(zxid))
    }

    pub fn intern_acl(&self, acl: &[Acl]) -> AclId {
        self.acls.borrow_mut().intern(acl)
    }

    pub fn distinct_acls(&self) -> usize {
        self.acls.borrow().len()
    }

    fn record(&self, zxid: u64, node: NodeRef<'_>, what: What) {
        self.journal.borrow_mut().push_back(Change { zxid, node: node.pointer(), what });
        self.fresh.set(self.fresh.get() + 1);
    }

    fn version(&self, parts: &VersionParts<'_>) -> VersionRef<'_> {
        self.acls.borrow_mut().add(parts.acl);
        write::version(&mut self.slab.borrow_mut(), parts)
    }

    /// Adds the node of `path`, whose parent has a directory. `parts.hash` is ignored.
    pub fn add_node<'a>(
        &'a self,
        parent: NodeRef<'a>,
        path: &str,
        mut parts: NodeParts<'_>,
        version: &VersionParts<'_>,
    ) -> NodeRef<'a> {
        let hash = self.shared.hasher.hash(path);
        parts.hash = (hash >> 32) as u32;
        let version = self.version(version);
        let slab = &mut self.slab.borrow_mut();
        let node = write::node(slab, Some(parent), &parts, version);
        write::link_child(parent, node);
        self.shared.index.insert(slab, node, hash, &mut self.replaced.borrow_mut());
        node
    }

    /// As `add_node`, for a transaction: can be undone.
    pub fn create<'a>(
        &'a self,
        parent: NodeRef<'a>,
        path: &str,
        parts: NodeParts<'_>,
        version: &VersionParts<'_>,
    ) -> NodeRef<'a> {
        let node = self.add_node(parent, path, parts, version);
        self.record(version.since, node, What::Created);
        node
    }

    /// Puts a version on top of `node`.
    pub fn push_version(&self, node: NodeRef<'_>, parts: &VersionParts<'_>) {
        let version = self.version(parts);
        write::push_version(node, version);
        self.record(parts.since, node, What::Pushed(Chain::Versions, top(node, Chain::Versions)));
    }

    /// Puts `counts` on top of those of `node`.
    pub fn push_counts(&self, node: NodeRef<'_>, since: u64, counts: ChildCounts) {
        write::push_counts(&mut self.slab.borrow_mut(), node, since, counts);
        self.record(since, node, What::Pushed(Chain::Counts, top(node, Chain::Counts)));
    }

    /// Gives the root other contents, when a tree is restored: nobody reads it yet.
    pub fn overwrite_root(&mut self, parts: &NodeParts<'_>, version: &VersionParts<'_>) {
        let old = top(self.root(), Chain::Versions);
        write::overwrite(self.root(), parts, self.version(version));
        // SAFETY: the old version is out of its chain, and there are no readers.
        unsafe { self.free_link(Chain::Versions, old) };
    }

    /// Gives `node` these counts but for the children, when a tree is restored.
    pub fn restore_counts(&self, node: NodeRef<'_>, counts: ChildCounts) {
        write::restore_counts(&mut self.slab.borrow_mut(), node, counts);
    }

    /// Counts one more child of `node`, when a tree is restored.
    pub fn count_child(&self, node: NodeRef<'_>) {
        write::count_child(&mut self.slab.borrow_mut(), node);
    }

    /// Deletes `node`, which has no children.
    pub fn delete(&self, node: NodeRef<'_>, since: u64) {
        let tombstone = write::tombstone(&mut self.slab.borrow_mut(), since);
        write::push_version(node, tombstone);
        self.record(since, node, What::Deleted(top(node, Chain::Versions)));
    }

    /// Undoes all changes of transactions after `zxid`, the newest first. None of them is
    /// committed.
    pub fn undo_after(&mut self, zxid: u64, mut tell: impl FnMut(Undone<'_>)) {
        let committed = self.shared.pins.committed();
        assert!(zxid >= committed, "undo after {zxid:#x}, committed is {committed:#x}");
        loop {
            let journal = self.journal.get_mut();
            if journal.back().is_none_or(|change| change.zxid <= zxid) {
                return;
            }
            let Some(change) = journal.pop_back() else { return };
            // SAFETY: a node that a journal entry names is not freed.
            let node = unsafe { NodeRef::new(change.node) };
            match change.what {
                What::Created => {
                    tell(Undone::Created(node));
                    self.unlink_node(change.node);
                }
                What::Pushed(chain, link) => {
                    assert!(write::pop(node, chain) == link, "changes are undone out of order");
                    if chain == Chain::Versions {
                        // SAFETY: the link is a version, and not freed before `self` is done.
                        let version = unsafe { VersionRef::from_link(link) };
                        tell(Undone::Set(node, version));
                    }
                    self.discard(Garbage::Link(chain, link));
                }
                What::Deleted(link) => {
                    let popped = write::pop(node, Chain::Versions);
                    assert!(popped == link, "changes are undone out of order");
                    tell(Undone::Deleted(node));
                    self.discard(Garbage::Link(Chain::Versions, link));
                }
            }
        }
    }

    /// Reclaims what no pin sees; a bounded part of it, but more than what is new.
    pub fn reclaim(&mut self) {
        let mut steps = STEPS_MIN + 2 * self.fresh.take();
        for block in mem::take(self.replaced.get_mut()) {
            self.discard(Garbage::Block(block));
        }
        let mut seen = mem::take(&mut self.seen);
        let still_before = seen.still.clone();
        self.shared.pins.look(&mut seen);
        if seen.still != still_before {
            self.sweep_left = self.held.len();
        }
        self.free_limbo(&seen, &mut steps);
        self.sweep_held(&seen, &mut steps);
        self.take_journal(&seen, &mut steps);
        self.acls.get_mut().sweep();
        self.seen = seen;
    }

    fn discard(&mut self, garbage: Garbage) {
        self.limbo.push_back((self.shared.pins.epoch(), garbage));
    }

    /// Frees what is out of everybody's reach.
    fn free_limbo(&mut self, seen: &Seen, steps: &mut usize) {
        while *steps > 0 {
            if self.limbo.front().is_none_or(|(epoch, _)| *epoch >= seen.epoch) {
                return;
            }
            let Some((_, garbage)) = self.limbo.pop_front() else { return };
            *steps -= 1;
            match garbage {
                // SAFETY: unlinked, and every reader has since noted that it holds no pointer.
                Garbage::Link(chain, link) => unsafe { self.free_link(chain, link) },
                // SAFETY: as above.
                Garbage::Node(node) => unsafe { self.free_node(node) },
                Garbage::Block(Replaced { block, bytes }) => {
                    // SAFETY: as above.
                    unsafe { self.slab.get_mut().free(block, bytes) };
                }
            }
        }
    }

    /// # Safety
    /// The link is unlinked and out of every reader's reach.
    unsafe fn free_link(&mut self, chain: Chain, link: NonNull<Link>) {
        if let Some(acl) = write::acl_of(chain, link) {
            self.acls.get_mut().remove(acl);
        }
        // SAFETY: as the caller promises.
        unsafe { write::free_link(self.slab.get_mut(), chain, link) };
    }

    /// # Safety
    /// The node is unlinked, and it and its links are out of every reader's reach.
    unsafe fn free_node(&mut self, node: NonNull<Node>) {
        // SAFETY: as the caller promises.
        unsafe {
            let node_ref = NodeRef::new(node);
            for chain in [Chain::Versions, Chain::Counts] {
                let mut next = write::newest_of(node_ref, chain);
                while let Some(link) = next {
                    next = write::elder(link);
                    self.free_link(chain, link);
                }
            }
            write::free_node(self.slab.get_mut(), node);
        }
    }

    /// Looks again at what still pins held when they were other ones.
    fn sweep_held(&mut self, seen: &Seen, steps: &mut usize) {
        while *steps > 0 && self.sweep_left > 0 {
            *steps -= 1;
            self.sweep_left -= 1;
            let Some(held) = self.held.pop_front() else { break };
            match held {
                Held::Node { node, until } => self.reclaim_node(seen, node, until),
                Held::Link { link, until, .. } if seen.is_visible(write::since(link), until) => {
                    self.held.push_back(held);
                }
                Held::Link { node, chain, link, .. } => {
                    // SAFETY: a node is not freed before its links.
                    let node = unsafe { NodeRef::new(node) };
                    write::unlink_elder(write::newer_than(node, chain, link));
                    self.discard(Garbage::Link(chain, link));
                }
            }
        }
        if self.sweep_left == 0 && mem::take(&mut self.sweep_again) {
            self.sweep_left = self.held.len();
        }
    }

    /// Takes journal entries of which no moving pin sees the time before.
    fn take_journal(&mut self, seen: &Seen, steps: &mut usize) {
        while *steps > 0 {
            let journal = self.journal.get_mut();
            if journal.front().is_none_or(|change| change.zxid > seen.moving) {
                return;
            }
            let Some(Change { zxid, node, what }) = journal.pop_front() else { return };
            *steps -= 1;
            match what {
                What::Created => {}
                What::Pushed(chain, link) => self.reclaim_elder(seen, node, chain, link),
                What::Deleted(tombstone) => {
                    self.reclaim_elder(seen, node, Chain::Versions, tombstone);
                    self.reclaim_node(seen, node, zxid);
                }
            }
        }
    }

    /// Unlinks what `newer` replaced, and frees it at once if no reader can be near.
    fn reclaim_elder(
        &mut self,
        seen: &Seen,
        node: NonNull<Node>,
        chain: Chain,
        newer: NonNull<Link>,
    ) {
        let Some(link) = write::elder(newer) else { return };
        let (since, until) = (write::since(link), write::since(newer));
        if seen.is_visible(since, until) {
            self.held.push_back(Held::Link { node, chain, link, until });
            return;
        }
        write::unlink_elder(newer);
        if until <= seen.least {
            // SAFETY: every reader's zxid is at least `until`, so it stops at `newer` at the
            // latest, and did so ever since it has this pin.
            unsafe { self.free_link(chain, link) };
        } else {
            self.discard(Garbage::Link(chain, link));
        }
    }

    /// Unlinks a node that is deleted since `until`, unless something still needs it.
    fn reclaim_node(&mut self, seen: &Seen, node: NonNull<Node>, until: u64) {
        // SAFETY: the node is not freed, for it is linked.
        let node_ref = unsafe { NodeRef::new(node) };
        let is_visible = seen.is_visible(node_ref.czxid(), until);
        let has_elders = [Chain::Versions, Chain::Counts].into_iter().any(|chain| {
            write::newest_of(node_ref, chain).is_some_and(|link| write::elder(link).is_some())
        });
        if is_visible || has_elders || node_ref.first_child().is_some() {
            // A pin that is gone may have left something in `held` that goes first.
            self.sweep_again |= !is_visible;
            self.held.push_back(Held::Node { node, until });
        } else {
            self.unlink_node(node);
        }
    }

    fn unlink_node(&mut self, node: NonNull<Node>) {
        // SAFETY: the node is not freed, for it is linked.
        let node_ref = unsafe { NodeRef::new(node) };
        let mut path = String::new();
        node_ref.write_path(&mut path);
        let hash = self.shared.hasher.hash(&path);
        let (slab, replaced) = (self.slab.get_mut(), self.replaced.get_mut());
        self.shared.index.remove(slab, node_ref, hash, replaced);
        write::unlink_child(node_ref);
        self.discard(Garbage::Node(node));
    }
}

fn top(node: NodeRef<'_>, chain: Chain) -> NonNull<Link> {
    write::newest_of(node, chain).expect("a link was pushed")
}

impl Drop for History {
    fn drop(&mut self) {
        // Readers may still look at what is there: the memory goes with the last of them.
        let slab = mem::replace(self.slab.get_mut(), Slab::new());
        let mut left_behind = self.shared.left_behind.lock().unwrap_or_else(|e| e.into_inner());
        *left_behind = Some(slab);
    }
}
