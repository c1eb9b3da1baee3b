//! How a znode lies in memory, and references through which it is read.
//!
//! A `Node` is one existence of a path, from its creation to its deletion. Its versions form a
//! chain from the newest to the oldest; what concerns its children has a chain of its own in a
//! `Directory`, which a node gets with its first child. A version says from which zxid on it
//! holds, so a reader at a zxid takes the first that is not newer. A deleted node's newest version
//! is a tombstone.
//!
//! Everything but the links is written before a block is linked and never changes. Links are
//! written by the tree's writer alone, with release, and read with acquire.
//!
//! A reference is valid for its lifetime, which is that of a `Guard`: `versions` frees no block
//! that a guarded reader can still reach. All pointers have the provenance of their slab chunk.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::index::prefetch;
use super::slab::Slab;

/// Bytes of data that one znode can hold.
pub const DATA_BYTES_MAX: usize = (1 << 29) - 1;

/// In `Version::length`: the data is null (not the same as empty).
const NULL: u32 = 1 << 29;
/// In `Version::length`: an `Extension` lies between the header and the data.
const EXTENDED: u32 = 1 << 30;
/// In `Version::length`: the node is deleted.
const TOMBSTONE: u32 = 1 << 31;

/// In `Node::head`: it points to a `Directory`, which points to the version.
const HAS_DIRECTORY: usize = 1;
/// In a pointer to the newest version: it is a tombstone, which spares a reader the look.
const IS_TOMBSTONE: usize = 2;
const TAGS: usize = HAS_DIRECTORY | IS_TOMBSTONE;

/// In the upper 16 bits of `Node::parent`: 8 bytes of owner precede the name.
const HAS_OWNER: usize = 1 << 15;
/// In the upper 16 bits of `Node::parent`: 4 bytes of length precede the name.
const HAS_LENGTH: usize = 1 << 14;
/// In the upper 16 bits of `Node::parent`: the length of the name, if shorter than this.
const LENGTH: usize = HAS_LENGTH - 1;
/// User-space addresses have at most this many bits, the others are ours.
pub(super) const ADDRESS_BITS: u32 = 48;
const ADDRESS: usize = (1 << ADDRESS_BITS) - 1;

const _: () = assert!(size_of::<usize>() == 8, "pointers carry 16 more bits");

/// One link of a chain of versions; what each of them begins with.
#[repr(C)]
pub(super) struct Link {
    /// The zxid from which on it holds.
    since: u64,
    /// What held before; null when nobody can ask for that any more.
    elder: AtomicPtr<Link>,
}

#[repr(C)]
struct Version {
    link: Link,
    mtime: i64,
    version: i32,
    acl: u32,
    length: u32,
    // Extension and data follow, from byte `DATA_AT` on.
}

const DATA_AT: usize = 36;
/// mzxid (8 bytes) and aversion (4), of a version that is not of a plain set.
const EXTENSION_BYTES: usize = 12;

/// What a parent knows of its children.
#[repr(C)]
struct Counts {
    link: Link,
    pzxid: u64,
    cversion: i32,
    children: i32,
}

#[repr(C)]
struct Directory {
    newest: AtomicPtr<Link>,
    counts: AtomicPtr<Link>,
    first_child: AtomicPtr<Node>,
}

#[repr(C)]
pub(super) struct Node {
    /// The newest version or the directory, tagged.
    head: AtomicPtr<u8>,
    /// The children of one parent form a list, the youngest first.
    next: AtomicPtr<Node>,
    /// For the writer alone.
    prev: AtomicPtr<Node>,
    /// With the name's length and what precedes it in the upper 16 bits. Null: the root.
    parent: *mut Node,
    czxid: u64,
    ctime: i64,
    /// The upper half of the path's hash, for the splits of the index.
    hash: u32,
    // Owner, length and name follow, from byte `TAIL_AT` on.
}

const TAIL_AT: usize = 52;

const _: () = assert!(std::mem::offset_of!(Version, length) + 4 == DATA_AT);
const _: () = assert!(std::mem::offset_of!(Node, hash) + 4 == TAIL_AT);

/// The versions of a node, or those of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    Versions,
    Counts,
}

/// A promise that for `'a` no block is freed that can be reached from the tree now or was reached
/// under this guard.
#[derive(Clone, Copy)]
pub(super) struct Guard<'a>(PhantomData<&'a ()>);

impl<'a> Guard<'a> {
    /// # Safety
    /// For `'a`, the writer frees nothing that it unlinks from now on; nor anything that can be
    /// seen at a zxid at which the holder reads.
    pub unsafe fn new() -> Guard<'a> {
        Guard(PhantomData)
    }
}

/// A node, alive or deleted.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a> {
    node: NonNull<Node>,
    guard: PhantomData<&'a Node>,
}

/// One version of a node.
#[derive(Clone, Copy)]
pub(super) struct VersionRef<'a> {
    version: NonNull<Version>,
    guard: PhantomData<&'a Version>,
}

/// What a version is made of.
pub(super) struct VersionParts<'d> {
    pub since: u64,
    pub mzxid: u64,
    pub mtime: i64,
    pub version: i32,
    pub aversion: i32,
    pub acl: u32,
    pub data: Option<&'d [u8]>,
}

/// What a node is made of. The hash is the upper half of the whole.
pub(super) struct NodeParts<'d> {
    pub name: &'d str,
    pub owner: i64,
    pub czxid: u64,
    pub ctime: i64,
    pub hash: u32,
}

/// What a node's children make of its Stat, at some zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildCounts {
    pub pzxid: u64,
    /// Stored: it counts creations.
    pub cversion: i32,
    pub children: i32,
}

fn version_bytes(length: u32) -> usize {
    let extension = if length & EXTENDED == 0 { 0 } else { EXTENSION_BYTES };
    DATA_AT + extension + (length as usize & DATA_BYTES_MAX)
}

impl<'a> VersionRef<'a> {
    /// # Safety
    /// `version` is a version that stays for `'a`.
    unsafe fn new(version: NonNull<Version>) -> VersionRef<'a> {
        VersionRef { version, guard: PhantomData }
    }

    /// # Safety
    /// `link` is a version (of a chain of versions) that stays for `'a`.
    pub unsafe fn from_link(link: NonNull<Link>) -> VersionRef<'a> {
        // SAFETY: as the caller promises.
        unsafe { VersionRef::new(link.cast()) }
    }

    fn header(self) -> &'a Version {
        // SAFETY: the reference is valid for 'a; the block is at least 40 bytes (36 rounded up).
        unsafe { self.version.as_ref() }
    }

    fn extension(self) -> Option<(u64, i32)> {
        if self.header().length & EXTENDED == 0 {
            return None;
        }
        // SAFETY: an extended version has these bytes behind its header.
        unsafe {
            let at = self.version.cast::<u8>().add(DATA_AT);
            Some((at.cast::<u64>().read_unaligned(), at.add(8).cast::<i32>().read_unaligned()))
        }
    }

    pub fn since(self) -> u64 {
        self.header().link.since
    }

    pub fn mtime(self) -> i64 {
        self.header().mtime
    }

    pub fn version(self) -> i32 {
        self.header().version
    }

    pub fn acl(self) -> u32 {
        self.header().acl
    }

    pub fn mzxid(self) -> u64 {
        self.extension().map_or(self.since(), |(mzxid, _)| mzxid)
    }

    pub fn aversion(self) -> i32 {
        self.extension().map_or(0, |(_, aversion)| aversion)
    }

    pub fn is_tombstone(self) -> bool {
        self.header().length & TOMBSTONE != 0
    }

    pub fn data_length(self) -> usize {
        self.header().length as usize & DATA_BYTES_MAX
    }

    pub fn data(self) -> Option<&'a [u8]> {
        let length = self.header().length;
        if length & NULL != 0 {
            return None;
        }
        let bytes = self.data_length();
        // SAFETY: the data ends the block; it was written before the version was linked.
        unsafe {
            let at = self.version.cast::<u8>().add(version_bytes(length) - bytes);
            Some(slice::from_raw_parts(at.as_ptr(), bytes))
        }
    }
}

/// Walks a chain to the first link that is not newer than `zxid`.
///
/// # Safety
/// `link` and its elders, down to the one returned, stay for as long as the caller looks at them.
unsafe fn link_at(mut link: *mut Link, zxid: u64) -> *mut Link {
    // SAFETY: as the caller promises.
    unsafe {
        while !link.is_null() && (*link).since > zxid {
            link = (*link).elder.load(Acquire);
        }
    }
    link
}

fn untagged<T>(tagged: *mut T) -> *mut T {
    tagged.map_addr(|address| address & !TAGS)
}

impl<'a> NodeRef<'a> {
    /// # Safety
    /// `node` is a node that stays for `'a`.
    pub unsafe fn new(node: NonNull<Node>) -> NodeRef<'a> {
        NodeRef { node, guard: PhantomData }
    }

    pub fn pointer(self) -> NonNull<Node> {
        self.node
    }

    fn fixed(self) -> &'a Node {
        // SAFETY: the reference is valid for 'a; the block is at least 56 bytes (52 rounded up).
        unsafe { self.node.as_ref() }
    }

    pub fn czxid(self) -> u64 {
        self.fixed().czxid
    }

    pub fn ctime(self) -> i64 {
        self.fixed().ctime
    }

    /// The upper half of the path's hash.
    pub fn hash(self) -> u32 {
        self.fixed().hash
    }

    /// `ephemeralOwner` as it is stored.
    pub fn owner(self) -> i64 {
        if self.flags() & HAS_OWNER == 0 {
            return 0;
        }
        // SAFETY: a node with this flag has the owner at the start of its tail.
        unsafe { self.node.cast::<u8>().add(TAIL_AT).cast::<i64>().read_unaligned() }
    }

    fn flags(self) -> usize {
        self.fixed().parent.addr() >> ADDRESS_BITS
    }

    pub fn parent(self) -> Option<NodeRef<'a>> {
        let parent = NonNull::new(self.fixed().parent.map_addr(|address| address & ADDRESS))?;
        // SAFETY: a node goes only after all its children, so the guard that holds the child
        // holds the parent.
        Some(unsafe { NodeRef::new(parent) })
    }

    /// The last component of the path; empty for the root.
    pub fn name(self) -> &'a str {
        let flags = self.flags();
        let mut at = TAIL_AT + if flags & HAS_OWNER == 0 { 0 } else { 8 };
        let mut length = flags & LENGTH;
        // SAFETY: the tail holds what the flags say; the name was copied from a str.
        unsafe {
            let start = self.node.cast::<u8>();
            if flags & HAS_LENGTH != 0 {
                length = start.add(at).cast::<u32>().read_unaligned() as usize;
                at += 4;
            }
            str::from_utf8_unchecked(slice::from_raw_parts(start.add(at).as_ptr(), length))
        }
    }

    /// Whether this is where `path` leads: its name and those of its parents make up the path.
    pub fn is_at(self, path: &str) -> bool {
        let mut node = self;
        let mut rest = path.as_bytes();
        loop {
            let name = node.name().as_bytes();
            let Some(parent) = node.parent() else { return rest.is_empty() };
            let Some(before) = rest.strip_suffix(name) else { return false };
            let Some((b'/', before)) = before.split_last() else { return false };
            (node, rest) = (parent, before);
        }
    }

    /// Writes the whole path to the end of `path`; the root is `/`.
    pub fn write_path(self, path: &mut String) {
        match self.parent() {
            None if path.is_empty() => path.push('/'),
            None => {}
            Some(_) => {
                let mut names = Vec::new();
                let mut node = self;
                while let Some(parent) = node.parent() {
                    names.push(node.name());
                    node = parent;
                }
                for name in names.into_iter().rev() {
                    path.push('/');
                    path.push_str(name);
                }
            }
        }
    }

    /// The length of the whole path in bytes, without building it; 1 for the root.
    pub fn path_length(self) -> usize {
        let (mut length, mut node) = (0, self);
        while let Some(parent) = node.parent() {
            length += 1 + node.name().len();
            node = parent;
        }
        length.max(1)
    }

    fn directory(self) -> Option<&'a Directory> {
        directory_of(self.fixed().head.load(Acquire))
    }

    /// The tagged pointer to the newest version.
    fn newest_link(self) -> *mut Link {
        let head = self.fixed().head.load(Acquire);
        match directory_of(head) {
            Some(directory) => directory.newest.load(Acquire),
            None => head.cast(),
        }
    }

    /// The newest version, be it a tombstone. For the writer: it may be unpublished.
    pub fn newest(self) -> VersionRef<'a> {
        let newest = untagged(self.newest_link()).cast();
        // SAFETY: a node has a version from before it is linked until it is freed.
        unsafe { VersionRef::new(NonNull::new_unchecked(newest)) }
    }

    pub fn is_deleted(self) -> bool {
        self.newest_link().addr() & IS_TOMBSTONE != 0
    }

    /// Brings the node to the cache.
    pub fn prefetch(self) {
        prefetch(self.node.as_ptr());
        prefetch(self.node.as_ptr().wrapping_byte_add(TAIL_AT));
    }

    /// Brings the newest version to the cache.
    pub fn prefetch_newest(self) {
        let newest = untagged(self.newest_link());
        prefetch(newest);
        prefetch(newest.wrapping_byte_add(64));
    }

    /// Whether the node exists at `zxid`. Mostly without a look at a version.
    pub fn exists_at(self, zxid: u64) -> bool {
        let newest = self.newest_link();
        if self.czxid() > zxid {
            return false;
        }
        // SAFETY: the newest version stays as long as the node.
        newest.addr() & IS_TOMBSTONE == 0 || unsafe { (*untagged(newest)).since > zxid }
    }

    /// The version that holds at `zxid`, if the node exists then.
    pub fn version_at(self, zxid: u64) -> Option<VersionRef<'a>> {
        // SAFETY: the versions that a reader at `zxid` meets stay for its guard.
        let link = unsafe { link_at(untagged(self.newest_link()), zxid) };
        // SAFETY: as above; the links of this chain are versions.
        let version = unsafe { VersionRef::new(NonNull::new(link)?.cast()) };
        (!version.is_tombstone()).then_some(version)
    }

    /// What the children make of the Stat at `zxid`.
    pub fn counts_at(self, zxid: u64) -> ChildCounts {
        let none = ChildCounts { pzxid: self.czxid(), cversion: 0, children: 0 };
        let Some(directory) = self.directory() else { return none };
        // SAFETY: as for `version_at`.
        let link = unsafe { link_at(directory.counts.load(Acquire), zxid) };
        let Some(counts) = NonNull::new(link.cast::<Counts>()) else { return none };
        // SAFETY: the links of this chain are counts.
        let counts = unsafe { counts.as_ref() };
        let Counts { pzxid, cversion, children, .. } = *counts;
        ChildCounts { pzxid, cversion, children }
    }

    /// The newest, for the writer.
    pub fn newest_counts(self) -> ChildCounts {
        self.counts_at(u64::MAX)
    }

    /// The first in the list of children that exist or existed.
    pub fn first_child(self) -> Option<NodeRef<'a>> {
        let child = NonNull::new(self.directory()?.first_child.load(Acquire))?;
        // SAFETY: a linked node stays for the guard.
        Some(unsafe { NodeRef::new(child) })
    }

    /// The one behind it in the list of its parent's children. (The list stays whole for a reader
    /// that stands on a node that is being unlinked: an unlinked node keeps its `next`, and what
    /// that leads to was unlinked later, so it is freed later.)
    pub fn next_sibling(self) -> Option<NodeRef<'a>> {
        let next = NonNull::new(self.fixed().next.load(Acquire))?;
        // SAFETY: as the documentation says.
        Some(unsafe { NodeRef::new(next) })
    }
}

fn directory_of<'a>(head: *mut u8) -> Option<&'a Directory> {
    if head.addr() & HAS_DIRECTORY == 0 {
        return None;
    }
    // SAFETY: the tag says what it points to; a directory stays as long as its node. The callers
    // hold a reference to the node for 'a.
    Some(unsafe { &*untagged(head).cast::<Directory>() })
}

pub(super) mod write;
