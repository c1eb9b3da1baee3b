//! From a path's hash to its nodes: extendible hashing, one writer, readers without locks.
//!
//! The leading bits of a hash choose an entry of the root, which names a segment; within it the
//! last 16 bits are the tag, which gives the place where probing begins and lies in the slot next
//! to the pointer, so that a probe looks at hardly any node that is not the one. A segment that is
//! full is replaced by a larger one, and the largest is split in two, so no insertion touches more
//! than one segment (and, once per doubling, the root). A replaced block is never written again:
//! a reader that still probes it finds all that it may see at its pin.
//!
//! A deleted and recreated path has several nodes here until the old ones are reclaimed; the caller
//! of `find` picks. Nodes are named by pointers, so whoever looks needs a `Guard`.

use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::slab::Slab;
use super::znode::{ADDRESS_BITS, Guard, Node, NodeRef};

/// Slots of the segment sizes: with the header each fills a class of the slab. Sizes a quarter
/// apart keep the load between 0.70 and 0.875, where doubling would let it fall to 0.44.
const CAPACITIES: [usize; 9] = [30, 62, 126, 254, 510, 1022, 1278, 1534, 1790];
/// Leading bits that can choose a segment. Beyond, segments grow without a bound instead.
const DEPTH_MAX: u32 = 28;
/// A slot whose node was removed: probing goes on behind it.
const REMOVED: usize = 1;
const TAG_BITS: u32 = usize::BITS - ADDRESS_BITS;

#[repr(C)]
struct Root {
    /// Leading bits of the hash that choose an entry; there are two to the power of them.
    depth: u32,
    // Segment pointers follow.
}

#[repr(C)]
struct Segment {
    capacity: u32,
    /// Leading bits that all hashes in it share.
    depth: u32,
    /// For the writer alone: nodes, and slots that are not empty.
    live: u32,
    used: u32,
    // Slots follow: 16 bits of tag, 48 of address. 0 is empty.
}

type Entry = AtomicPtr<Segment>;
type Slot = AtomicPtr<Node>;

/// The part that readers share with the writer.
pub(super) struct Index {
    root: AtomicPtr<Root>,
}

/// A block that was replaced: readers may still be in it.
#[derive(Debug)]
pub(super) struct Replaced {
    pub block: NonNull<u8>,
    pub bytes: usize,
}

const fn root_bytes(depth: u32) -> usize {
    size_of::<usize>() + (size_of::<Entry>() << depth)
}

const fn segment_bytes(capacity: usize) -> usize {
    size_of::<Segment>() + size_of::<Slot>() * capacity
}

/// The smallest capacity that `live` nodes fill to four fifths.
fn capacity_for(live: usize) -> usize {
    let wanted = live + live / 4;
    let found = CAPACITIES.into_iter().find(|capacity| *capacity >= wanted);
    found.unwrap_or(wanted.next_power_of_two())
}

/// The leading `depth` bits of a hash of which `upper` is the upper half.
fn prefix(upper: u32, depth: u32) -> usize {
    ((upper as u64) >> (32 - depth)) as usize
}

/// The entry of a root for a hash.
///
/// # Safety
/// `root` is a root that stays while the caller looks at it.
unsafe fn entry<'a>(root: *mut Root, upper: u32) -> &'a Entry {
    // SAFETY: a root has an entry for every prefix of `depth` bits.
    unsafe {
        let entries = root.byte_add(size_of::<usize>()).cast::<Entry>();
        &*entries.add(prefix(upper, (*root).depth))
    }
}

/// The slots of a segment.
///
/// # Safety
/// `segment` is a segment that stays while the caller looks at them.
unsafe fn slots<'a>(segment: *mut Segment) -> &'a [Slot] {
    // SAFETY: a segment has `capacity` initialised slots behind its header.
    unsafe {
        let first = segment.add(1).cast::<Slot>();
        std::slice::from_raw_parts(first, (*segment).capacity as usize)
    }
}

fn tag(hash: u64) -> usize {
    hash as usize & ((1 << TAG_BITS) - 1)
}

fn home(tag: usize, capacity: usize) -> usize {
    (tag * capacity) >> TAG_BITS
}

fn tag_of(slot: *mut Node) -> usize {
    slot.addr() >> ADDRESS_BITS
}

fn node_of(slot: *mut Node) -> *mut Node {
    slot.map_addr(|address| address & ((1 << ADDRESS_BITS) - 1))
}

fn is_node(slot: *mut Node) -> bool {
    !slot.is_null() && slot.addr() != REMOVED
}

impl Index {
    /// An empty index that can take about `nodes` before it grows.
    pub fn new(slab: &mut Slab, nodes: usize) -> Index {
        let largest = CAPACITIES[CAPACITIES.len() - 1];
        let mut depth = 0;
        while depth < DEPTH_MAX && capacity_for(nodes >> depth) > largest {
            depth += 1;
        }
        let capacity = capacity_for(nodes >> depth);
        let root = new_root(slab, depth);
        for number in 0..1usize << depth {
            let segment = new_segment(slab, capacity, depth);
            let upper = ((number as u64) << (32 - depth)) as u32;
            // SAFETY: the root is ours alone.
            unsafe { entry(root, upper) }.store(segment, Relaxed);
        }
        Index { root: AtomicPtr::new(root) }
    }

    /// The first node under `hash` for which `wanted` says yes.
    pub fn find<'a, T>(
        &self,
        _guard: Guard<'a>,
        hash: u64,
        mut wanted: impl FnMut(NodeRef<'a>) -> Option<T>,
    ) -> Option<T> {
        let upper = (hash >> 32) as u32;
        // SAFETY: the guard keeps the blocks that are reachable.
        let slots = unsafe { slots(entry(self.root.load(Acquire), upper).load(Acquire)) };
        let tag = tag(hash);
        let (before, from) = slots.split_at(home(tag, slots.len()));
        for slot in from.iter().chain(before) {
            let slot = slot.load(Acquire);
            if slot.is_null() {
                return None;
            }
            if tag_of(slot) != tag || slot.addr() == REMOVED {
                continue;
            }
            let Some(node) = NonNull::new(node_of(slot)) else { continue };
            // SAFETY: a node in the index is not freed; the guard keeps it from now on.
            let node = unsafe { NodeRef::new(node) };
            if node.hash() == upper
                && let Some(found) = wanted(node)
            {
                return Some(found);
            }
        }
        None
    }

    /// Brings the first slot for `hash` to the cache.
    pub fn prefetch_slot(&self, _guard: Guard<'_>, hash: u64) {
        // SAFETY: the guard keeps the blocks that are reachable.
        let slots =
            unsafe { slots(entry(self.root.load(Acquire), (hash >> 32) as u32).load(Acquire)) };
        prefetch(&raw const slots[home(tag(hash), slots.len())]);
    }

    /// The first node whose slot has the tag of `hash`; most likely the one. Looks at no node.
    pub fn likely<'a>(&self, _guard: Guard<'a>, hash: u64) -> Option<NodeRef<'a>> {
        // SAFETY: the guard keeps the blocks that are reachable.
        let slots =
            unsafe { slots(entry(self.root.load(Acquire), (hash >> 32) as u32).load(Acquire)) };
        let tag = tag(hash);
        let from = slots[home(tag, slots.len())..].iter().map(|slot| slot.load(Acquire));
        let mut nodes = from.take_while(|slot| !slot.is_null()).filter(|slot| is_node(*slot));
        let node = NonNull::new(node_of(nodes.find(|slot| tag_of(*slot) == tag)?))?;
        // SAFETY: a node in the index is not freed; the guard keeps it from now on.
        Some(unsafe { NodeRef::new(node) })
    }

    /// Bytes of its blocks. For the writer alone, as all that follows.
    pub fn bytes(&self) -> usize {
        let root = self.root.load(Relaxed);
        // SAFETY: the root is linked.
        let depth = unsafe { (*root).depth };
        let mut bytes = root_bytes(depth);
        let mut number = 0u64;
        while number < 1 << depth {
            // SAFETY: root and segments are linked.
            unsafe {
                let segment = entry(root, (number << (32 - depth)) as u32).load(Relaxed);
                bytes += segment_bytes((*segment).capacity as usize);
                number += 1 << (depth - (*segment).depth);
            }
        }
        bytes
    }

    /// Adds `node`.
    pub fn insert(
        &self,
        slab: &mut Slab,
        node: NodeRef<'_>,
        hash: u64,
        replaced: &mut Vec<Replaced>,
    ) {
        loop {
            // SAFETY: the writer frees no block that is linked.
            let segment = unsafe { entry(self.root.load(Relaxed), node.hash()) }.load(Relaxed);
            // SAFETY: as above; the counters are the writer's own.
            let (used, capacity) = unsafe { ((*segment).used, (*segment).capacity) };
            if (used + 1) * 8 <= capacity * 7 {
                place(segment, node.pointer().as_ptr(), tag(hash));
                return;
            }
            self.make_room(slab, segment, node.hash(), replaced);
        }
    }

    /// Removes `node`, which is in it.
    pub fn remove(
        &self,
        slab: &mut Slab,
        node: NodeRef<'_>,
        hash: u64,
        replaced: &mut Vec<Replaced>,
    ) {
        // SAFETY: the writer frees no block that is linked.
        let segment = unsafe { entry(self.root.load(Relaxed), node.hash()) }.load(Relaxed);
        // SAFETY: as above.
        let all = unsafe { slots(segment) };
        let capacity = all.len();
        let pointer = node.pointer().as_ptr();
        let mut at = home(tag(hash), capacity);
        loop {
            let slot = all[at].load(Relaxed);
            assert!(!slot.is_null(), "a node is removed that is not in the index");
            if slot.addr() != REMOVED && node_of(slot) == pointer {
                break;
            }
            at = (at + 1) % capacity;
        }
        all[at].store(ptr::without_provenance_mut(REMOVED), Release);
        let mut freed = 0;
        // No probe needs to pass a removed slot that an empty one follows.
        while all[(at + 1) % capacity].load(Relaxed).is_null()
            && all[at].load(Relaxed).addr() == REMOVED
        {
            all[at].store(ptr::null_mut(), Release);
            freed += 1;
            at = (at + capacity - 1) % capacity;
        }
        // SAFETY: the counters are the writer's own.
        let live = unsafe {
            (*segment).live -= 1;
            (*segment).used -= freed;
            (*segment).live as usize
        };
        if live * 8 < capacity && capacity > CAPACITIES[0] {
            // SAFETY: as above.
            let depth = unsafe { (*segment).depth };
            let smaller = new_segment(slab, capacity_for(live * 2), depth);
            for slot in all.iter().map(|slot| slot.load(Relaxed)).filter(|slot| is_node(*slot)) {
                place(smaller, node_of(slot), tag_of(slot));
            }
            self.replace(segment, node.hash(), &[smaller], replaced);
        }
    }

    /// Replaces a full segment by one or two with room.
    fn make_room(
        &self,
        slab: &mut Slab,
        segment: *mut Segment,
        upper: u32,
        replaced: &mut Vec<Replaced>,
    ) {
        // SAFETY: the segment is linked; its counters are the writer's own.
        let (live, depth) = unsafe { ((*segment).live as usize, (*segment).depth) };
        let capacity = capacity_for(live + 1);
        if capacity <= CAPACITIES[CAPACITIES.len() - 1] || depth == DEPTH_MAX {
            let larger = new_segment(slab, capacity, depth);
            for slot in nodes_in(segment) {
                place(larger, node_of(slot), tag_of(slot));
            }
            self.replace(segment, upper, &[larger], replaced);
            return;
        }
        self.deepen(slab, depth + 1, replaced);
        let mut halves: [Vec<*mut Node>; 2] = [Vec::new(), Vec::new()];
        let all: Vec<*mut Node> = nodes_in(segment).collect();
        for (index, slot) in all.iter().enumerate() {
            if let Some(ahead) = all.get(index + 16) {
                prefetch(node_of(*ahead));
            }
            // SAFETY: a node in the index is not freed.
            let node = unsafe { NodeRef::new(NonNull::new_unchecked(node_of(*slot))) };
            halves[prefix(node.hash(), depth + 1) & 1].push(*slot);
        }
        let halves = halves.map(|half| {
            let segment = new_segment(slab, capacity_for(half.len() + 1), depth + 1);
            for slot in half {
                place(segment, node_of(slot), tag_of(slot));
            }
            segment
        });
        self.replace(segment, upper, &halves, replaced);
    }

    /// Lets the entries of `segment` lead to `by`, in equal parts.
    fn replace(
        &self,
        segment: *mut Segment,
        upper: u32,
        by: &[*mut Segment],
        replaced: &mut Vec<Replaced>,
    ) {
        let root = self.root.load(Relaxed);
        // SAFETY: root and segment are linked.
        let (depth, root_depth) = unsafe { ((*segment).depth, (*root).depth) };
        let count = 1usize << (root_depth - depth);
        let first = prefix(upper, depth) * count;
        for offset in 0..count {
            let upper = (((first + offset) as u64) << (32 - root_depth)) as u32;
            // SAFETY: as above.
            let entry = unsafe { entry(root, upper) };
            entry.store(by[offset * by.len() / count], Release);
        }
        // SAFETY: as above.
        let bytes = segment_bytes(unsafe { (*segment).capacity } as usize);
        let block = NonNull::new(segment).expect("a segment").cast();
        replaced.push(Replaced { block, bytes });
    }

    /// Makes the root at least `depth` deep.
    fn deepen(&self, slab: &mut Slab, depth: u32, replaced: &mut Vec<Replaced>) {
        let old = self.root.load(Relaxed);
        // SAFETY: the root is linked.
        let old_depth = unsafe { (*old).depth };
        if old_depth >= depth {
            return;
        }
        let new = new_root(slab, depth);
        for number in 0..1u64 << depth {
            let upper = (number << (32 - depth)) as u32;
            // SAFETY: the old root is linked, the new one ours alone.
            unsafe { entry(new, upper).store(entry(old, upper).load(Relaxed), Relaxed) };
        }
        self.root.store(new, Release);
        let block = NonNull::new(old).expect("a root").cast();
        replaced.push(Replaced { block, bytes: root_bytes(old_depth) });
    }
}

/// The slots of a segment that hold nodes.
fn nodes_in<'a>(segment: *mut Segment) -> impl Iterator<Item = *mut Node> + 'a {
    // SAFETY: called with linked segments, which the caller does not free.
    unsafe { slots(segment) }.iter().map(|slot| slot.load(Relaxed)).filter(|slot| is_node(*slot))
}

/// Puts a node to the first slot for it that holds none. There is one.
fn place(segment: *mut Segment, node: *mut Node, tag: usize) {
    // SAFETY: called with segments that are linked or about to be.
    let all = unsafe { slots(segment) };
    let capacity = all.len();
    let mut at = home(tag, capacity);
    while is_node(all[at].load(Relaxed)) {
        at = (at + 1) % capacity;
    }
    let was_empty = all[at].load(Relaxed).is_null();
    all[at].store(node.map_addr(|address| address | tag << ADDRESS_BITS), Release);
    // SAFETY: the counters are the writer's own.
    unsafe {
        (*segment).live += 1;
        (*segment).used += was_empty as u32;
    }
}

fn new_root(slab: &mut Slab, depth: u32) -> *mut Root {
    let root = slab.allocate(root_bytes(depth)).as_ptr();
    // SAFETY: the block is new and has these bytes; null is a valid entry.
    unsafe {
        root.write_bytes(0, root_bytes(depth));
        root.cast::<Root>().write(Root { depth });
    }
    root.cast()
}

fn new_segment(slab: &mut Slab, capacity: usize, depth: u32) -> *mut Segment {
    let segment = slab.allocate(segment_bytes(capacity)).as_ptr();
    let capacity_field = u32::try_from(capacity).expect("a segment fits memory");
    // SAFETY: the block is new and has these bytes; null is a valid slot.
    unsafe {
        segment.write_bytes(0, segment_bytes(capacity));
        segment.cast::<Segment>().write(Segment {
            capacity: capacity_field,
            depth,
            live: 0,
            used: 0,
        });
    }
    segment.cast()
}

/// Brings the line at `address` to the cache, if there is one.
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect but on the cache, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
