//! How a reader reaches versions: what it shares with the writer, its pin, and a cursor that goes
//! through a whole tree at one pin.
//!
//! A guard, and with it every reference to a node, borrows the `PinnedSlot`; the pin moves or goes
//! through `&mut`, so no reference outlives the pin under which it was made.

use std::borrow::BorrowMut;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use super::acl_table::AclTable;
use super::hash::PathHasher;
use super::index::Index;
use super::pins::{PinKind, Pins, SlotIndex};
use super::slab::Slab;
use super::znode::{Guard, Node, NodeRef};

/// What the writer and all readers of a tree share.
pub(super) struct Shared {
    pub pins: Pins,
    pub index: Index,
    pub hasher: PathHasher,
    pub acls: Arc<AclTable>,
    root: NonNull<Node>,
    /// The memory in which everything lies, once the writer is gone: it goes with the last reader.
    pub left_behind: Mutex<Option<Slab>>,
}

// SAFETY: the root points to the slab, which lives as long as this; nodes are read through links
// that are atomic, under guards, and everything else in here is Send and Sync.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(
        committed: u64,
        index: Index,
        hasher: PathHasher,
        acls: Arc<AclTable>,
        root: NodeRef<'_>,
    ) -> Shared {
        let (pins, root) = (Pins::new(committed), root.pointer());
        Shared { pins, index, hasher, acls, root, left_behind: Mutex::new(None) }
    }

    pub fn root<'a>(&self, _guard: Guard<'a>) -> NodeRef<'a> {
        // SAFETY: the root is never freed before the slab.
        unsafe { NodeRef::new(self.root) }
    }

    /// The first node of `path` for which `wanted` says yes. The empty path is the root, too.
    pub fn find<'a, T>(
        &self,
        guard: Guard<'a>,
        path: &str,
        mut wanted: impl FnMut(NodeRef<'a>) -> Option<T>,
    ) -> Option<T> {
        if path.len() <= 1 && matches!(path, "" | "/") {
            return wanted(self.root(guard));
        }
        self.index.find(guard, self.hasher.hash(path), |node| {
            if node.is_at(path) { wanted(node) } else { None }
        })
    }

    /// Brings to the cache what `find` will look at for each of `paths`, all of them at once where
    /// one after the other would wait for the memory each time.
    pub fn prefetch<'p>(&self, guard: Guard<'_>, paths: impl Iterator<Item = &'p str>) {
        const AT_ONCE: usize = 16;
        let mut hashes = [0; AT_ONCE];
        let mut paths = paths.fuse();
        loop {
            let mut count = 0;
            for (hash, path) in hashes.iter_mut().zip(&mut paths) {
                *hash = self.hasher.hash(path);
                self.index.prefetch_slot(guard, *hash);
                count += 1;
            }
            if count == 0 {
                return;
            }
            let mut nodes = [None; AT_ONCE];
            for (node, hash) in nodes.iter_mut().zip(&hashes[..count]) {
                *node = self.index.likely(guard, *hash);
                node.inspect(|node: &NodeRef<'_>| node.prefetch());
            }
            for node in nodes.into_iter().flatten() {
                node.prefetch_newest();
            }
        }
    }
}

/// A reader's slot, and its pin.
pub(super) struct PinnedSlot {
    shared: Arc<Shared>,
    slot: SlotIndex,
    pin: Option<(PinKind, u64)>,
}

impl PinnedSlot {
    /// # Panics
    /// When there are `TREE_READERS_MAX` readers.
    pub fn new(shared: Arc<Shared>) -> PinnedSlot {
        let slot = shared.pins.take_slot().expect("more readers than TREE_READERS_MAX");
        PinnedSlot { shared, slot, pin: None }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How and at which zxid it is pinned.
    pub fn pinned(&self) -> Option<(PinKind, u64)> {
        self.pin
    }

    /// Pins the committed zxid, in place of a pin that it had.
    pub fn pin(&mut self, kind: PinKind) -> u64 {
        self.unpin();
        let zxid = self.shared.pins.pin(self.slot, kind);
        self.pin = Some((kind, zxid));
        zxid
    }

    pub fn move_to(&mut self, zxid: u64) {
        let Some((PinKind::Moving, from)) = self.pin else { panic!("no moving pin to move") };
        let committed = self.shared.pins.committed();
        assert!(from <= zxid, "a pin at {from:#x} moves back to {zxid:#x}");
        assert!(zxid <= committed, "a pin moves to {zxid:#x}, committed is {committed:#x}");
        self.shared.pins.move_to(self.slot, zxid);
        self.pin = Some((PinKind::Moving, zxid));
    }

    pub fn unpin(&mut self) {
        if self.pin.take().is_some() {
            self.shared.pins.unpin(self.slot);
        }
    }

    /// A guard for as long as the pin stays as it is.
    pub fn guard(&self) -> Guard<'_> {
        assert!(self.pin.is_some(), "a reader without a pin reads");
        // SAFETY: the pin stays while `self` is borrowed, for all that changes it takes `&mut`;
        // `pins` and `reclaim` say what the writer does not free meanwhile.
        unsafe { Guard::new() }
    }
}

impl Drop for PinnedSlot {
    fn drop(&mut self) {
        self.unpin();
        self.shared.pins.return_slot(self.slot);
    }
}

/// A place in a walk through nodes that exist at a pin, parents first: all, or those below one. It
/// has the slot, or borrows it.
pub(super) struct Cursor<S> {
    slot: S,
    zxid: u64,
    /// Exists at the pin.
    at: Option<NonNull<Node>>,
}

/// What a cursor came to.
pub(super) struct Step<'a> {
    pub node: NodeRef<'a>,
    /// How many levels its parent is above the node before: 0 for that node's own child.
    pub levels_up: usize,
    pub zxid: u64,
    pub shared: &'a Shared,
}

impl<S: BorrowMut<PinnedSlot>> Cursor<S> {
    /// Before the root, at the zxid of the pin.
    pub fn new(slot: S) -> Cursor<S> {
        let (_, zxid) = slot.borrow().pinned().expect("a walk needs a pin");
        Cursor { slot, zxid, at: None }
    }

    /// At the node of `path`, as of the zxid of the pin; the slot again if there is none. What
    /// comes next is below it until the levels say that the walk has left it.
    pub fn within(slot: S, path: &str) -> Result<Cursor<S>, S> {
        let (_, zxid) = slot.borrow().pinned().expect("a walk needs a pin");
        let pinned: &PinnedSlot = slot.borrow();
        let top = pinned
            .shared
            .find(pinned.guard(), path, |node| node.exists_at(zxid).then_some(node.pointer()));
        match top {
            Some(top) => Ok(Cursor { slot, zxid, at: Some(top) }),
            None => Err(slot),
        }
    }

    /// The zxid of the pin.
    pub fn zxid(&self) -> u64 {
        self.zxid
    }

    /// Ends the walk.
    pub fn into_slot(self) -> S {
        self.slot
    }

    /// The next node; None at the end.
    pub fn advance(&mut self) -> Option<Step<'_>> {
        // Nobody holds a reference, for that would borrow the slot. The cursor's own node is held
        // by the pin: a node that exists at a pin is neither unlinked nor freed. A load and a
        // store, of lines that are mostly in this core's cache: cheap enough for every step.
        let slot: &PinnedSlot = self.slot.borrow();
        slot.shared.pins.note(slot.slot);
        let (node, levels_up) = match self.at {
            None => (slot.shared.root(slot.guard()), 0),
            // SAFETY: the node exists at the pin, which stays while the cursor has the slot.
            Some(at) => next_at(unsafe { NodeRef::new(at) }, self.zxid)?,
        };
        self.at = Some(node.pointer());
        Some(Step { node, levels_up, zxid: self.zxid, shared: &slot.shared })
    }
}

/// The node that follows `from` among those that exist at `zxid`.
fn next_at(mut from: NodeRef<'_>, zxid: u64) -> Option<(NodeRef<'_>, usize)> {
    let mut next = from.first_child();
    let mut up = 0;
    loop {
        while let Some(node) = next {
            if node.exists_at(zxid) {
                return Some((node, up));
            }
            next = node.next_sibling();
        }
        next = from.next_sibling();
        up += 1;
        from = from.parent()?;
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::Zxid;
    use crate::tree::{AclId, Owner, Writer};

    #[test]
    #[should_panic(expected = "a reader without a pin reads")]
    fn a_reader_without_a_pin_cannot_read() {
        let (_writer, registry) = Writer::new();
        registry.reader().at(Zxid::ZERO);
    }

    #[test]
    #[should_panic(expected = "committed is 0x0")]
    fn a_pin_does_not_move_beyond_what_is_committed() {
        let (mut writer, registry) = Writer::new();
        let mut reader = registry.reader();
        reader.pin_newest();
        writer.begin(Zxid::from_bits(1), 0);
        reader.move_to(Zxid::from_bits(1));
    }

    #[test]
    fn readers_outlive_the_writer() {
        let (mut writer, registry) = Writer::new();
        writer.begin(Zxid::from_bits(1), 0);
        writer.create("/a", Some(b"x"), AclId::OPEN, Owner::Persistent, None).unwrap();
        writer.publish(Zxid::from_bits(1));
        let mut reader = registry.reader();
        let pinned = reader.pin_newest();
        drop(writer);
        drop(registry);
        assert_eq!(reader.at(pinned).get("/a").unwrap().data(), Some(b"x".as_slice()));
    }
}
