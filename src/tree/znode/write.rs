//! What only the writer does to nodes. Each function expects that no other thread is in any of
//! them, for the same tree.

use super::*;

/// A version in memory of its own, not linked.
pub fn version<'a>(slab: &mut Slab, parts: &VersionParts<'_>) -> VersionRef<'a> {
    let data = parts.data.unwrap_or_default();
    assert!(data.len() <= DATA_BYTES_MAX, "{} bytes of data", data.len());
    let extended = parts.mzxid != parts.since || parts.aversion != 0;
    let length = data.len() as u32
        | if parts.data.is_none() { NULL } else { 0 }
        | if extended { EXTENDED } else { 0 };
    let version = slab.allocate(version_bytes(length)).cast::<Version>();
    // SAFETY: the block is new and has `version_bytes` bytes, so all of this lies in it. The
    // header is written field by field, since the data begins in its padding.
    unsafe {
        write_header(version, parts, length);
        let mut at = version.cast::<u8>().add(DATA_AT);
        if extended {
            at.cast::<u64>().write_unaligned(parts.mzxid);
            at.add(8).cast::<i32>().write_unaligned(parts.aversion);
            at = at.add(EXTENSION_BYTES);
        }
        ptr::copy_nonoverlapping(data.as_ptr(), at.as_ptr(), data.len());
        VersionRef::new(version)
    }
}

/// A tombstone, not linked.
pub fn tombstone<'a>(slab: &mut Slab, since: u64) -> VersionRef<'a> {
    let (mtime, version, aversion, acl) = (0, 0, 0, 0);
    let parts = VersionParts { since, mzxid: since, mtime, version, aversion, acl, data: None };
    let version = slab.allocate(DATA_AT).cast::<Version>();
    // SAFETY: the block is new and holds a header.
    unsafe {
        write_header(version, &parts, NULL | TOMBSTONE);
        VersionRef::new(version)
    }
}

/// # Safety
/// The block is at least `DATA_AT` bytes and nobody else's.
unsafe fn write_header(version: NonNull<Version>, parts: &VersionParts<'_>, length: u32) {
    let version = version.as_ptr();
    // SAFETY: as the caller promises.
    unsafe {
        let link = Link { since: parts.since, elder: AtomicPtr::default() };
        (&raw mut (*version).link).write(link);
        (&raw mut (*version).mtime).write(parts.mtime);
        (&raw mut (*version).version).write(parts.version);
        (&raw mut (*version).acl).write(parts.acl);
        (&raw mut (*version).length).write(length);
    }
}

/// A node with its first version, linked nowhere.
pub fn node<'a>(
    slab: &mut Slab,
    parent: Option<NodeRef<'a>>,
    parts: &NodeParts<'_>,
    version: VersionRef<'a>,
) -> NodeRef<'a> {
    let length = u32::try_from(parts.name.len()).expect("a name fits a frame");
    let flags = name_flags(parts);
    let node = slab.allocate(node_bytes(flags, parts.name.len())).cast::<Node>();
    for address in [node.addr().get(), version.version.addr().get()] {
        assert!(address >> ADDRESS_BITS == 0, "an address of more than 48 bits");
    }
    let parent = parent.map_or(ptr::null_mut(), |parent| parent.node.as_ptr());
    let pointer = node.as_ptr();
    // SAFETY: the block is new and has `node_bytes` bytes. The fixed part is written field by
    // field, since the tail begins in its padding.
    unsafe {
        (&raw mut (*pointer).head).write(AtomicPtr::new(version.version.as_ptr().cast()));
        (&raw mut (*pointer).next).write(AtomicPtr::default());
        (&raw mut (*pointer).prev).write(AtomicPtr::default());
        (&raw mut (*pointer).parent)
            .write(parent.map_addr(|address| address | flags << ADDRESS_BITS));
        (&raw mut (*pointer).czxid).write(parts.czxid);
        (&raw mut (*pointer).ctime).write(parts.ctime);
        (&raw mut (*pointer).hash).write(parts.hash);
        let mut at = node.cast::<u8>().add(TAIL_AT);
        if flags & HAS_OWNER != 0 {
            at.cast::<i64>().write_unaligned(parts.owner);
            at = at.add(8);
        }
        if flags & HAS_LENGTH != 0 {
            at.cast::<u32>().write_unaligned(length);
            at = at.add(4);
        }
        ptr::copy_nonoverlapping(parts.name.as_ptr(), at.as_ptr(), parts.name.len());
        NodeRef::new(node)
    }
}

fn name_flags(parts: &NodeParts<'_>) -> usize {
    let owner = if parts.owner == 0 { 0 } else { HAS_OWNER };
    owner | if parts.name.len() < LENGTH { parts.name.len() } else { HAS_LENGTH }
}

fn node_bytes(flags: usize, name: usize) -> usize {
    let owner = if flags & HAS_OWNER == 0 { 0 } else { 8 };
    TAIL_AT + owner + if flags & HAS_LENGTH == 0 { 0 } else { 4 } + name
}

fn set_newest(node: NodeRef<'_>, link: *mut Link) {
    match node.directory() {
        Some(directory) => directory.newest.store(link, Release),
        None => node.fixed().head.store(link.cast(), Release),
    }
}

/// Puts `version` on top of the node's chain.
pub fn push_version<'a>(node: NodeRef<'a>, version: VersionRef<'a>) {
    let elder = untagged(node.newest_link());
    version.header().link.elder.store(elder, Relaxed);
    let tag = if version.is_tombstone() { IS_TOMBSTONE } else { 0 };
    set_newest(node, version.version.as_ptr().cast::<Link>().map_addr(|a| a | tag));
}

/// Gives the node a directory, if it has none, and puts `counts` on top of its chain.
pub fn push_counts(slab: &mut Slab, node: NodeRef<'_>, since: u64, counts: ChildCounts) {
    let directory = match node.directory() {
        Some(directory) => directory,
        None => add_directory(slab, node),
    };
    let ChildCounts { pzxid, cversion, children } = counts;
    let elder = AtomicPtr::new(directory.counts.load(Relaxed));
    let link = Link { since, elder };
    let block = slab.allocate(size_of::<Counts>()).cast::<Counts>();
    // SAFETY: the block is new and holds counts.
    unsafe { block.write(Counts { link, pzxid, cversion, children }) };
    directory.counts.store(block.as_ptr().cast(), Release);
}

/// Counts one more child in place. Nobody else looks at the tree yet.
pub fn count_child(slab: &mut Slab, node: NodeRef<'_>) {
    if newest_of(node, Chain::Counts).is_none() {
        push_counts(slab, node, 0, node.newest_counts());
    }
    let counts = top(node, Chain::Counts).cast::<Counts>();
    // SAFETY: the links of this chain are counts, and no reader is in the tree.
    unsafe { (*counts).children += 1 };
}

/// Sets all counts but that of the children in place. Nobody else looks at the tree yet.
pub fn restore_counts(slab: &mut Slab, node: NodeRef<'_>, new: ChildCounts) {
    if newest_of(node, Chain::Counts).is_none() {
        push_counts(slab, node, 0, node.newest_counts());
    }
    let counts = top(node, Chain::Counts).cast::<Counts>();
    // SAFETY: as above.
    unsafe { ((*counts).pzxid, (*counts).cversion) = (new.pzxid, new.cversion) };
}

/// Gives the root another beginning and another only version. Nobody else looks at the tree
/// yet.
pub fn overwrite(root: NodeRef<'_>, parts: &NodeParts<'_>, version: VersionRef<'_>) {
    set_newest(root, version.version.as_ptr().cast());
    let root = root.node.as_ptr();
    // SAFETY: no reader is in the tree, and no reference to the fixed part is alive.
    unsafe { ((*root).czxid, (*root).ctime) = (parts.czxid, parts.ctime) };
}

/// Readers that come before the directory is published see the node without one: at their
/// zxids it had no children.
fn add_directory<'a>(slab: &mut Slab, node: NodeRef<'a>) -> &'a Directory {
    let newest = AtomicPtr::new(node.newest_link());
    let block = slab.allocate(size_of::<Directory>()).cast::<Directory>();
    let (counts, first_child) = (AtomicPtr::default(), AtomicPtr::default());
    // SAFETY: the block is new and holds a directory; it stays as long as the node.
    let directory = unsafe {
        block.write(Directory { newest, counts, first_child });
        block.as_ref()
    };
    let head = block.as_ptr().cast::<u8>().map_addr(|address| address | HAS_DIRECTORY);
    node.fixed().head.store(head, Release);
    directory
}

/// Puts `node` first in the list of its parent's children. The parent has a directory.
pub fn link_child(parent: NodeRef<'_>, node: NodeRef<'_>) {
    let directory = parent.directory().expect("a parent has a directory");
    let first = directory.first_child.load(Relaxed);
    node.fixed().next.store(first, Relaxed);
    if let Some(first) = NonNull::new(first) {
        // SAFETY: it is linked, so it is not freed.
        unsafe { first.as_ref() }.prev.store(node.node.as_ptr(), Relaxed);
    }
    directory.first_child.store(node.node.as_ptr(), Release);
}

/// Takes `node` out of the list of its parent's children. It keeps its `next`, for readers
/// that stand on it.
pub fn unlink_child(node: NodeRef<'_>) {
    let (next, prev) = (node.fixed().next.load(Relaxed), node.fixed().prev.load(Relaxed));
    match NonNull::new(prev) {
        // SAFETY: the neighbours of a linked node are linked, so they are not freed.
        Some(prev) => unsafe { prev.as_ref() }.next.store(next, Release),
        None => {
            let parent = node.parent().expect("the root is nobody's child");
            let directory = parent.directory().expect("a parent has a directory");
            assert!(directory.first_child.load(Relaxed) == node.node.as_ptr());
            directory.first_child.store(next, Release);
        }
    }
    if let Some(next) = NonNull::new(next) {
        // SAFETY: as above.
        unsafe { next.as_ref() }.prev.store(prev, Relaxed);
    }
}

fn top(node: NodeRef<'_>, chain: Chain) -> *mut Link {
    match chain {
        Chain::Versions => untagged(node.newest_link()),
        Chain::Counts => node.directory().map_or(ptr::null_mut(), |all| all.counts.load(Acquire)),
    }
}

/// The newest of the chain.
pub fn newest_of(node: NodeRef<'_>, chain: Chain) -> Option<NonNull<Link>> {
    NonNull::new(top(node, chain))
}

/// Takes the newest off the chain; the one that it replaced is the newest again.
pub fn pop(node: NodeRef<'_>, chain: Chain) -> NonNull<Link> {
    let popped = newest_of(node, chain).expect("the chain has a newest");
    let elder = elder(popped);
    match chain {
        Chain::Versions => {
            assert!(elder.is_some(), "a node without a version");
            // Only the newest can be a tombstone, so this one is none.
            set_newest(node, elder.map_or(ptr::null_mut(), NonNull::as_ptr));
        }
        Chain::Counts => {
            let directory = node.directory().expect("counts lie in a directory");
            let elder = elder.map_or(ptr::null_mut(), NonNull::as_ptr);
            directory.counts.store(elder, Release);
        }
    }
    popped
}

/// The zxid from which on a link of the tree holds.
pub fn since(link: NonNull<Link>) -> u64 {
    // SAFETY: the writer names only links that it has not freed.
    unsafe { link.as_ref() }.since
}

/// What a link of the tree replaced, if that is still there.
pub fn elder(link: NonNull<Link>) -> Option<NonNull<Link>> {
    // SAFETY: as for `since`.
    NonNull::new(unsafe { link.as_ref() }.elder.load(Relaxed))
}

/// Takes the elder of `newer` out of its chain and returns it.
pub fn unlink_elder(newer: NonNull<Link>) -> NonNull<Link> {
    let gone = elder(newer).expect("a link with an elder");
    let next = elder(gone).map_or(ptr::null_mut(), NonNull::as_ptr);
    // SAFETY: as for `since`.
    unsafe { newer.as_ref() }.elder.store(next, Release);
    gone
}

/// The link of `chain` whose elder is `link`.
pub fn newer_than(node: NodeRef<'_>, chain: Chain, link: NonNull<Link>) -> NonNull<Link> {
    let mut at = newest_of(node, chain).expect("the chain has a newest");
    loop {
        let next = elder(at).expect("the link is in its chain");
        if next == link {
            return at;
        }
        at = next;
    }
}

/// Frees one link.
///
/// # Safety
/// The link is of this chain, is unlinked, and no reader can look at it any more.
pub unsafe fn free_link(slab: &mut Slab, chain: Chain, link: NonNull<Link>) {
    let bytes = match chain {
        // SAFETY: as the caller promises, it is a version not freed yet.
        Chain::Versions => version_bytes(unsafe { link.cast::<Version>().as_ref() }.length),
        Chain::Counts => size_of::<Counts>(),
    };
    // SAFETY: it was allocated with these bytes; the rest is the caller's promise.
    unsafe { slab.free(link.cast(), bytes) };
}

/// The ACL that a link of `chain` refers to.
pub fn acl_of(chain: Chain, link: NonNull<Link>) -> Option<u32> {
    if chain == Chain::Counts {
        return None;
    }
    // SAFETY: the writer names only links that it has not freed; this one is a version.
    let version = unsafe { link.cast::<Version>().as_ref() };
    (version.length & TOMBSTONE == 0).then_some(version.acl)
}

/// Frees a node with its directory, but none of its links.
///
/// # Safety
/// The node is unlinked, its chains are freed, and no reader can look at it any more.
pub unsafe fn free_node(slab: &mut Slab, node: NonNull<Node>) {
    // SAFETY: as the caller promises, the node is not freed yet.
    let node_ref = unsafe { NodeRef::new(node) };
    let bytes = node_bytes(node_ref.flags(), node_ref.name().len());
    let head = node_ref.fixed().head.load(Relaxed);
    let directory = NonNull::new(untagged(head));
    // SAFETY: both were allocated with these bytes; the rest is the caller's promise.
    unsafe {
        if head.addr() & HAS_DIRECTORY != 0 {
            let directory = directory.expect("a tagged pointer points to something");
            slab.free(directory, size_of::<Directory>());
        }
        slab.free(node.cast(), bytes);
    }
}
