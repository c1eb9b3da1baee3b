//! Reading at a pin. A reader belongs to one thread; it takes no lock, allocates nothing, and
//! writes nothing that another thread reads but its pin.
//!
//! Called by reactors (one reader each, moved forward batch by batch) and by snapshots (a still
//! pin, and a walk). The writer reads its newest version through the same `NodeView`.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::acl_table::{AclId, AclTable};
use super::owner::Owner;
use super::pins::PinKind;
use super::versions::{Cursor, PinnedSlot, Shared, Step};
use super::znode::{ChildCounts, Guard, NodeRef, VersionRef};
use crate::ids::Zxid;
use crate::jute::records::{Acl, Stat};

/// Where readers come from. One for each tree; cloned to whoever makes readers.
#[derive(Clone)]
pub struct Registry {
    pub(super) shared: Arc<Shared>,
}

impl Registry {
    /// A reader without a pin.
    ///
    /// # Panics
    /// When there are `limits::TREE_READERS_MAX` readers already.
    pub fn reader(&self) -> Reader {
        let slot = PinnedSlot::new(Arc::clone(&self.shared));
        Reader { slot, committed: Cell::new(Zxid::ZERO) }
    }

    /// The newest zxid that readers can pin.
    pub fn committed(&self) -> Zxid {
        Zxid::from_bits(self.shared.pins.committed() as i64)
    }
}

/// One thread's way to read. A reader that is parked should have no pin.
pub struct Reader {
    slot: PinnedSlot,
    /// As last seen: spares reads the look at what the writer writes.
    committed: Cell<Zxid>,
}

fn zxid(bits: u64) -> Zxid {
    Zxid::from_bits(bits as i64)
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("pinned", &self.pinned()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Pins the committed version, in place of a pin that was there, and returns its zxid. What
    /// can be seen from there on stays until the pin moves.
    pub fn pin_newest(&mut self) -> Zxid {
        let pinned = zxid(self.slot.pin(PinKind::Moving));
        self.committed.set(pinned);
        pinned
    }

    /// Pins the committed version alone, however long it takes (a snapshot): memory that only
    /// versions between this one and the newest need is given up meanwhile. Such a pin does not
    /// move, and reads at no other zxid.
    pub fn hold_newest(&mut self) -> Zxid {
        let pinned = zxid(self.slot.pin(PinKind::Still));
        self.committed.set(pinned);
        pinned
    }

    /// Moves the pin forward.
    ///
    /// # Panics
    /// Without a pin by `pin_newest`, and when `zxid` is before it or not committed.
    pub fn move_to(&mut self, zxid: Zxid) {
        self.slot.move_to(zxid.bits() as u64);
    }

    /// Where this reader comes from.
    pub fn registry(&self) -> Registry {
        Registry { shared: Arc::clone(self.slot.shared()) }
    }

    /// Gives up the pin.
    pub fn unpin(&mut self) {
        self.slot.unpin();
    }

    /// The zxid of the pin.
    pub fn pinned(&self) -> Option<Zxid> {
        self.slot.pinned().map(|(_, pinned)| zxid(pinned))
    }

    /// The tree as of `zxid`.
    ///
    /// # Panics
    /// Without a pin; when `zxid` is before the pin or not committed; and when it is not the pin's,
    /// for one by `hold_newest`.
    pub fn at(&self, zxid: Zxid) -> View<'_> {
        let guard = self.slot.guard();
        let pinned = self.slot.pinned();
        let holds = match pinned {
            Some((PinKind::Moving, from)) => from <= zxid.bits() as u64,
            Some((PinKind::Still, at)) => at == zxid.bits() as u64,
            None => false,
        };
        assert!(holds, "a read at {zxid}, pinned is {pinned:x?}");
        if zxid > self.committed.get() {
            let committed = Zxid::from_bits(self.slot.shared().pins.committed() as i64);
            assert!(zxid <= committed, "a read at {zxid}, committed is {committed}");
            self.committed.set(committed);
        }
        View { shared: self.slot.shared(), guard, zxid: zxid.bits() as u64 }
    }

    /// Begins to count what is below `path`, on the newest version alone, which it pins in place of
    /// a pin that was there. Gives the reader back if there is no such znode.
    pub fn census(mut self, path: &str) -> Result<Census, Reader> {
        self.hold_newest();
        let Reader { slot, committed } = self;
        match Cursor::within(slot, path) {
            Ok(cursor) => Ok(Census { cursor, depth: 0, count: 0 }),
            Err(mut slot) => {
                slot.unpin();
                Err(Reader { slot, committed })
            }
        }
    }

    /// Goes through all znodes at the pin, parents first.
    ///
    /// # Panics
    /// Without a pin.
    pub fn walk(&mut self) -> Walk<'_> {
        Walk { cursor: Cursor::new(&mut self.slot), path: String::new() }
    }
}

/// The tree as of one zxid.
#[derive(Clone, Copy)]
pub struct View<'a> {
    shared: &'a Shared,
    guard: Guard<'a>,
    zxid: u64,
}

impl<'a> View<'a> {
    /// The znode of `path`. A path that is not valid finds nothing, but the empty one is the root.
    pub fn get(&self, path: &str) -> Option<NodeView<'a>> {
        let zxid = self.zxid;
        let (node, version) = self
            .shared
            .find(self.guard, path, |node| node.version_at(zxid).map(|version| (node, version)))?;
        Some(NodeView { node, version, zxid, acls: &self.shared.acls })
    }

    /// The ACL with this number, which a znode of this version has; empty for `AclId::OPEN`.
    pub fn acl(&self, id: AclId) -> &'a [Acl] {
        self.shared.acls.get(id)
    }

    /// Brings to the cache what `get` will look at for each of these paths. Worth it from two on:
    /// all of them wait for the memory at once.
    pub fn prefetch<'p>(&self, paths: impl IntoIterator<Item = &'p str>) {
        self.shared.prefetch(self.guard, paths.into_iter());
    }
}

/// What there is below a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descendants {
    /// So many znodes, itself not counted.
    Counted(u64),
    /// More than could be counted at once: a `Census` can.
    TooMany,
}

/// A znode's status as it is stored, and as snapshots keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredStat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Counts creations of children. Clients see twice this, less the children that there are.
    pub cversion: i32,
    pub aversion: i32,
    /// As `Owner::raw` has it.
    pub ephemeral_owner: i64,
    pub pzxid: i64,
}

/// One znode as of one zxid.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    node: NodeRef<'a>,
    version: VersionRef<'a>,
    zxid: u64,
    acls: &'a AclTable,
}

impl<'a> NodeView<'a> {
    /// The newest version of a node that is not deleted. For the writer.
    pub(super) fn newest(node: NodeRef<'a>, acls: &'a AclTable) -> NodeView<'a> {
        NodeView { node, version: node.newest(), zxid: u64::MAX, acls }
    }

    /// The data; None if it is null.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.version.data()
    }

    /// The version number of the data.
    pub fn version(&self) -> i32 {
        self.version.version()
    }

    /// The version number of the ACL.
    pub fn aversion(&self) -> i32 {
        self.version.aversion()
    }

    /// The zxid that created it.
    pub fn czxid(&self) -> Zxid {
        zxid(self.node.czxid())
    }

    /// The status as clients see it.
    pub fn stat(&self) -> Stat {
        let (stored, counts) = (self.stored(), self.counts());
        Stat {
            czxid: stored.czxid,
            mzxid: stored.mzxid,
            ctime: stored.ctime,
            mtime: stored.mtime,
            version: stored.version,
            cversion: counts.cversion.wrapping_mul(2).wrapping_sub(counts.children),
            aversion: stored.aversion,
            ephemeral_owner: self.owner().visible(),
            data_length: self.version.data_length() as i32,
            num_children: counts.children,
            pzxid: stored.pzxid,
        }
    }

    /// The status as it is stored.
    pub fn stored(&self) -> StoredStat {
        let counts = self.counts();
        StoredStat {
            czxid: self.node.czxid() as i64,
            mzxid: self.version.mzxid() as i64,
            ctime: self.node.ctime(),
            mtime: self.version.mtime(),
            version: self.version.version(),
            cversion: counts.cversion,
            aversion: self.version.aversion(),
            ephemeral_owner: self.node.owner(),
            pzxid: counts.pzxid as i64,
        }
    }

    /// What its life hangs on.
    pub fn owner(&self) -> Owner {
        Owner::from_raw(self.node.owner())
    }

    /// The number of its ACL.
    pub fn acl_id(&self) -> AclId {
        AclId::from_number(self.version.acl())
    }

    /// Its ACL; empty for the null ACL.
    pub fn acl(&self) -> &'a [Acl] {
        self.acls.get(self.acl_id())
    }

    /// Counts what is below it, as long as that takes no more than `steps` steps.
    pub fn descendants(&self, steps: usize) -> Descendants {
        let (mut count, mut at) = (0, self.node);
        let mut next = at.first_child();
        for _ in 0..steps {
            if let Some(node) = next {
                if node.exists_at(self.zxid) {
                    count += 1;
                    at = node;
                    next = node.first_child();
                } else {
                    next = node.next_sibling();
                }
            } else if at.pointer() == self.node.pointer() {
                return Descendants::Counted(count);
            } else {
                next = at.next_sibling();
                at = at.parent().expect("below a znode every one has a parent");
            }
        }
        Descendants::TooMany
    }

    fn counts(&self) -> ChildCounts {
        self.node.counts_at(self.zxid)
    }

    /// How many children it has.
    pub fn num_children(&self) -> i32 {
        self.counts().children
    }

    /// The names of its children, in no defined order.
    pub fn children(&self) -> Children<'a> {
        Children { next: self.node.first_child(), zxid: self.zxid }
    }

    /// The whole path.
    pub fn path(&self) -> String {
        let mut path = String::new();
        self.node.write_path(&mut path);
        path
    }
}

impl fmt::Debug for NodeView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeView")
            .field("path", &self.path())
            .field("data", &self.data())
            .field("stored", &self.stored())
            .finish()
    }
}

/// The names of a znode's children.
#[derive(Clone)]
pub struct Children<'a> {
    next: Option<NodeRef<'a>>,
    zxid: u64,
}

impl<'a> Iterator for Children<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while let Some(node) = self.next {
            self.next = node.next_sibling();
            if let Some(next) = self.next {
                next.prefetch();
            }
            // On the newest version: not deleted, however new.
            if node.exists_at(self.zxid) {
                return Some(node.name());
            }
        }
        None
    }
}

/// All znodes of one version, parents first. It may take its time: with every step it tells the
/// writer that it holds no pointer into the tree, so what is replaced meanwhile can go.
pub struct Walk<'p> {
    cursor: Cursor<&'p mut PinnedSlot>,
    path: String,
}

impl Walk<'_> {
    /// The next znode and its path. Not an `Iterator`: the znode is lent until the next step.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    pub fn next(&mut self) -> Option<(&str, NodeView<'_>)> {
        let Step { node, levels_up, zxid, shared } = self.cursor.advance()?;
        for _ in 0..levels_up {
            let parent = self.path.rfind('/').expect("a path has a slash for each level");
            self.path.truncate(parent);
        }
        if node.parent().is_some() {
            self.path.push('/');
            self.path.push_str(node.name());
        }
        let version = node.version_at(zxid).expect("the walk comes to nodes that exist");
        let path = if self.path.is_empty() { "/" } else { &self.path };
        Some((path, NodeView { node, version, zxid, acls: &shared.acls }))
    }
}

/// A count of what is below a znode, at one version, which may take its time as a `Walk` may.
pub struct Census {
    cursor: Cursor<PinnedSlot>,
    /// Levels between the znode that the cursor is at and the one whose descendants are counted.
    depth: usize,
    count: u64,
}

impl Census {
    /// Counts at most `steps` znodes more. Returns how many there are, once all are counted.
    pub fn go_on(&mut self, steps: usize) -> Option<u64> {
        for _ in 0..steps {
            let Some(Step { levels_up, .. }) = self.cursor.advance() else {
                return Some(self.count);
            };
            if levels_up > self.depth {
                return Some(self.count);
            }
            self.depth = self.depth + 1 - levels_up;
            self.count += 1;
        }
        None
    }

    /// The version on which it counts.
    pub fn zxid(&self) -> Zxid {
        zxid(self.cursor.zxid())
    }

    /// Ends it, and gives the reader back, without a pin.
    pub fn into_reader(self) -> Reader {
        let mut slot = self.cursor.into_slot();
        slot.unpin();
        Reader { slot, committed: Cell::new(Zxid::ZERO) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Writer;

    #[test]
    fn a_census_counts_what_is_below_one_znode_at_one_version() {
        let (mut writer, registry) = Writer::new();
        let mut zxid = 0;
        let mut change = |change: &mut dyn FnMut(&mut Writer)| {
            zxid += 1;
            writer.begin(Zxid::from_bits(zxid), 0);
            change(&mut writer);
            writer.publish(Zxid::from_bits(zxid));
        };
        let make = |path: &str| {
            let path = path.to_owned();
            move |writer: &mut Writer| {
                writer.create(&path, None, AclId::OPEN, Owner::Persistent, None).unwrap();
            }
        };
        for path in ["/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e", "/ab", "/z"] {
            change(&mut make(path));
        }
        let counts = [("/a", 4), ("/a/b", 2), ("/a/b/c", 0), ("/ab", 0), ("/", 10), ("", 10)];
        for (path, expected) in counts {
            for steps in [1, 2, 100] {
                let Ok(mut census) = registry.reader().census(path) else { panic!("no {path}") };
                assert_eq!(census.zxid(), registry.committed());
                let rounds = std::iter::repeat_with(|| census.go_on(steps));
                let counted = rounds.take(20).flatten().next();
                assert_eq!(counted, Some(expected), "{path} by {steps}");
            }
        }
        let Ok(mut census) = registry.reader().census("/a") else { panic!("no /a") };
        assert_eq!(census.go_on(1), None);
        change(&mut make("/a/b/later"));
        change(&mut |writer| writer.delete("/a/e").unwrap());
        assert_eq!(census.go_on(100), Some(4), "neither is seen");
        let Err(reader) = census.into_reader().census("/a/e") else { panic!("/a/e is gone") };
        assert_eq!(reader.pinned(), None);
        assert_eq!(reader.census("/a").unwrap_or_else(|_| panic!()).go_on(100), Some(4));
    }
}
