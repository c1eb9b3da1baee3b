//! The tree's memory: blocks of a size that their user remembers, out of 64 KiB pages.
//!
//! Small sizes have classes 8 bytes apart, up to 16 KiB they are a quarter of a power of two
//! apart, and larger blocks come from the system. A page holds blocks of one class; a page without
//! blocks goes back to its chunk and may serve another class; a chunk without pages goes back to
//! the system, except for one that is kept. Only the tree's writer calls it. Readers may still look
//! at a block until the writer frees it: `versions` says when that may be.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::ptr::{self, NonNull};

use crate::rt::huge_pages;

const PAGE_BYTES: usize = 64 << 10;
const CHUNK_PAGES: usize = if cfg!(miri) { 4 } else { 32 };
const CHUNK_BYTES: usize = PAGE_BYTES * CHUNK_PAGES;
const ALL_FREE: u32 = ((1u64 << CHUNK_PAGES) - 1) as u32;
/// Above, a block comes from the system.
const CLASSED_BYTES_MAX: usize = 16 << 10;
const FINE_BYTES_MAX: usize = 1 << 10;
const FINE_CLASSES: usize = FINE_BYTES_MAX / 8;
const CLASSES: usize = FINE_CLASSES + 4 * 4;
/// Blocks begin here in their page: 64, so that blocks of 64 bytes are lines of the cache.
const HEADER_BYTES: usize = 64;
/// What every block is aligned to; pointers to blocks have three bits to spare.
pub(super) const ALIGN: usize = 8;

/// Stands at the start of each page in use.
struct Page {
    /// Neighbours among the pages of this class with room; null at the ends.
    next: *mut Page,
    prev: *mut Page,
    /// The first block that was freed.
    free: *mut FreeBlock,
    /// Where the part never used begins, from the page's start.
    fresh: usize,
    /// Blocks handed out.
    live: usize,
    chunk: usize,
    class: usize,
}

const _: () = assert!(size_of::<Page>() <= HEADER_BYTES);
const _: () = assert!(class_bytes(CLASSES - 1) == CLASSED_BYTES_MAX);

struct FreeBlock {
    next: *mut FreeBlock,
}

struct Chunk {
    /// Null: given back to the system.
    base: *mut u8,
    /// Bit i: page i is free.
    free: u32,
}

/// What the slab holds, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Blocks handed out, rounded up to their class.
    pub used: usize,
    /// Taken from the system.
    pub reserved: usize,
}

pub(super) struct Slab {
    /// For each class the first page that has room.
    roomy: [*mut Page; CLASSES],
    chunks: Vec<Chunk>,
    /// No chunk before this one has a free page.
    search_from: usize,
    wholly_free: usize,
    large: HashMap<NonNull<u8>, usize>,
    memory: MemoryUse,
}

// SAFETY: the pointers are to memory that this slab alone owns; nothing is bound to a thread.
unsafe impl Send for Slab {}

/// The class whose blocks hold `bytes`.
const fn class_of(bytes: usize) -> usize {
    if bytes <= FINE_BYTES_MAX {
        return (bytes - 1) / 8;
    }
    // 1025..=1280 is the first of four classes between 2^10 and 2^11, and so on.
    let power = (bytes - 1).ilog2() as usize;
    let quarter = ((bytes - 1) >> (power - 2)) & 3;
    FINE_CLASSES + (power - 10) * 4 + quarter
}

/// The bytes of a block of `class`.
const fn class_bytes(class: usize) -> usize {
    if class < FINE_CLASSES {
        return (class + 1) * 8;
    }
    let (power, quarter) = (10 + (class - FINE_CLASSES) / 4, (class - FINE_CLASSES) % 4);
    (1 << power) + ((quarter + 1) << (power - 2))
}

impl Slab {
    pub fn new() -> Slab {
        Slab {
            roomy: [ptr::null_mut(); CLASSES],
            chunks: Vec::new(),
            search_from: 0,
            wholly_free: 0,
            large: HashMap::new(),
            memory: MemoryUse::default(),
        }
    }

    pub fn memory(&self) -> MemoryUse {
        self.memory
    }

    /// A block of at least `bytes` (> 0) bytes, aligned to 8, not initialised.
    pub fn allocate(&mut self, bytes: usize) -> NonNull<u8> {
        assert!(bytes > 0, "a block without bytes");
        if bytes > CLASSED_BYTES_MAX {
            return self.allocate_large(bytes);
        }
        let class = class_of(bytes);
        self.memory.used += class_bytes(class);
        let mut page = self.roomy[class];
        if page.is_null() {
            page = self.take_page(class);
            self.add_roomy(page);
        }
        // SAFETY: pages in `roomy` are in use, so their headers are initialised; a free block of a
        // page lies in it and holds the link that `free` wrote; `fresh` has room for a block, else
        // the page would not be in `roomy`.
        unsafe {
            let block = if (*page).free.is_null() {
                let block = page.cast::<u8>().add((*page).fresh);
                (*page).fresh += class_bytes(class);
                block
            } else {
                let block = (*page).free;
                (*page).free = (*block).next;
                block.cast()
            };
            (*page).live += 1;
            if !has_room(page) {
                self.remove_roomy(page);
            }
            NonNull::new_unchecked(block)
        }
    }

    /// Takes back a block.
    ///
    /// # Safety
    /// `block` came from `allocate(bytes)` of this slab, with the same `bytes` (or another size of
    /// the same class), is not free already, and nobody looks at it any more.
    pub unsafe fn free(&mut self, block: NonNull<u8>, bytes: usize) {
        if bytes > CLASSED_BYTES_MAX {
            let known = self.large.remove(&block);
            assert_eq!(known, Some(bytes), "a large block of another size is freed");
            self.memory.used -= bytes;
            self.memory.reserved -= bytes;
            // SAFETY: it came from `allocate_large` with this size.
            unsafe { dealloc(block.as_ptr(), large_layout(bytes)) };
            return;
        }
        let class = class_of(bytes);
        self.memory.used -= class_bytes(class);
        let page = block.as_ptr().map_addr(|address| address & !(PAGE_BYTES - 1)).cast::<Page>();
        // SAFETY: blocks up to `CLASSED_BYTES_MAX` lie in pages, which are aligned to their size;
        // the page is in use, since this block of it is.
        unsafe {
            assert_eq!((*page).class, class, "a block of another size is freed");
            let had_room = has_room(page);
            if cfg!(debug_assertions) {
                // Whoever still looks at the block shall notice: no sanitizer sees into pages.
                block.as_ptr().write_bytes(0xdd, class_bytes(class));
            }
            let block = block.as_ptr().cast::<FreeBlock>();
            block.write(FreeBlock { next: (*page).free });
            (*page).free = block;
            (*page).live -= 1;
            if !had_room {
                self.add_roomy(page);
            }
            if (*page).live == 0 {
                self.remove_roomy(page);
                self.return_page(page);
            }
        }
    }

    fn allocate_large(&mut self, bytes: usize) -> NonNull<u8> {
        let layout = large_layout(bytes);
        // SAFETY: the layout has a size above 0.
        let block = unsafe { alloc(layout) };
        let Some(block) = NonNull::new(block) else { handle_alloc_error(layout) };
        self.large.insert(block, bytes);
        self.memory.used += bytes;
        self.memory.reserved += bytes;
        block
    }

    /// A page of `class`, with its header, in no list.
    fn take_page(&mut self, class: usize) -> *mut Page {
        let chunk = self.chunk_with_page();
        let Chunk { base, free } = &mut self.chunks[chunk];
        if *free == ALL_FREE {
            self.wholly_free -= 1;
        }
        let index = free.trailing_zeros() as usize;
        *free &= !(1 << index);
        // SAFETY: the chunk has `CHUNK_PAGES` pages, and this one is nobody's.
        unsafe {
            let page = base.add(index * PAGE_BYTES).cast::<Page>();
            page.write(Page {
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
                free: ptr::null_mut(),
                fresh: HEADER_BYTES,
                live: 0,
                chunk,
                class,
            });
            page
        }
    }

    /// The first chunk with a free page; a new one if there is none.
    fn chunk_with_page(&mut self) -> usize {
        let found = self.chunks[self.search_from..].iter().position(|chunk| chunk.free != 0);
        if let Some(offset) = found {
            self.search_from += offset;
            return self.search_from;
        }
        let layout = chunk_layout();
        // SAFETY: the layout has a size above 0.
        let base = unsafe { alloc(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        huge_pages::advise(base, CHUNK_BYTES);
        self.memory.reserved += CHUNK_BYTES;
        self.wholly_free += 1;
        let chunk = Chunk { base, free: ALL_FREE };
        let vacant = self.chunks.iter().position(|chunk| chunk.base.is_null());
        let index = vacant.unwrap_or(self.chunks.len());
        match vacant {
            Some(index) => self.chunks[index] = chunk,
            None => self.chunks.push(chunk),
        }
        self.search_from = index;
        index
    }

    /// # Safety
    /// `page` has no live block and is in no list.
    unsafe fn return_page(&mut self, page: *mut Page) {
        // SAFETY: as the caller promises, the page is in use and in its chunk.
        let index = unsafe { (*page).chunk };
        let chunk = &mut self.chunks[index];
        chunk.free |= 1 << ((page.addr() - chunk.base.addr()) / PAGE_BYTES);
        self.search_from = self.search_from.min(index);
        if chunk.free != ALL_FREE {
            return;
        }
        if self.wholly_free == 0 {
            self.wholly_free = 1;
            return;
        }
        // SAFETY: no page of the chunk is in use.
        unsafe { dealloc(chunk.base, chunk_layout()) };
        *chunk = Chunk { base: ptr::null_mut(), free: 0 };
        self.memory.reserved -= CHUNK_BYTES;
    }

    /// Puts a page that is in no list first among those of its class with room.
    fn add_roomy(&mut self, page: *mut Page) {
        // SAFETY: called with pages in use; so are all pages in the lists.
        unsafe {
            let first = self.roomy[(*page).class];
            (*page).next = first;
            (*page).prev = ptr::null_mut();
            if !first.is_null() {
                (*first).prev = page;
            }
            self.roomy[(*page).class] = page;
        }
    }

    fn remove_roomy(&mut self, page: *mut Page) {
        // SAFETY: called with pages in a list; all pages in the lists are in use.
        unsafe {
            let (next, prev) = ((*page).next, (*page).prev);
            if prev.is_null() {
                assert!(self.roomy[(*page).class] == page, "the page is not in its list");
                self.roomy[(*page).class] = next;
            } else {
                (*prev).next = next;
            }
            if !next.is_null() {
                (*next).prev = prev;
            }
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        for chunk in self.chunks.iter().filter(|chunk| !chunk.base.is_null()) {
            // SAFETY: it came from `alloc` with this layout; whoever drops the slab has made sure
            // that nobody looks at its blocks any more.
            unsafe { dealloc(chunk.base, chunk_layout()) };
        }
        for (block, bytes) in &self.large {
            // SAFETY: as above.
            unsafe { dealloc(block.as_ptr(), large_layout(*bytes)) };
        }
    }
}

/// # Safety
/// `page` is in use.
unsafe fn has_room(page: *const Page) -> bool {
    // SAFETY: as the caller promises, the header is initialised.
    unsafe { !(*page).free.is_null() || (*page).fresh + class_bytes((*page).class) <= PAGE_BYTES }
}

fn chunk_layout() -> Layout {
    // Aligned to its size, so that the system can back it with one huge page.
    Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES).expect("a power of two")
}

fn large_layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGN).expect("a block fits the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_that_holds_the_bytes() {
        for bytes in 1..=CLASSED_BYTES_MAX {
            let class = class_of(bytes);
            assert!(class_bytes(class) >= bytes, "{bytes} bytes in class {class}");
            assert!(class == 0 || class_bytes(class - 1) < bytes, "{bytes} bytes in class {class}");
        }
    }

    #[test]
    fn blocks_do_not_overlap_and_keep_what_is_written() {
        let mut slab = Slab::new();
        let sizes = [1, 8, 9, 56, 64, 136, 1024, 1025, 8176, 10_000, 16_384, 16_385, 200_000];
        let rounds = if cfg!(miri) { 3 } else { 300 };
        let mut blocks = Vec::new();
        for round in 0..rounds {
            for (index, bytes) in sizes.into_iter().enumerate() {
                let block = slab.allocate(bytes);
                assert_eq!(block.addr().get() % ALIGN, 0);
                let mark = (round * sizes.len() + index) as u8;
                // SAFETY: the block has this many bytes.
                unsafe { block.as_ptr().write_bytes(mark, bytes) };
                blocks.push((block, bytes, mark));
            }
        }
        for (block, bytes, mark) in blocks {
            // SAFETY: written above, not freed yet.
            let held = unsafe { std::slice::from_raw_parts(block.as_ptr(), bytes) };
            assert!(held.iter().all(|byte| *byte == mark), "a block of {bytes} bytes changed");
            // SAFETY: allocated above with this size, not used again.
            unsafe { slab.free(block, bytes) };
        }
        assert_eq!(slab.memory(), MemoryUse { used: 0, reserved: CHUNK_BYTES });
    }

    #[test]
    fn an_empty_page_serves_another_class() {
        let mut slab = Slab::new();
        let pages = CHUNK_PAGES;
        let blocks: Vec<_> = (0..pages * 4).map(|_| slab.allocate(14_336)).collect();
        assert_eq!(slab.memory().reserved, CHUNK_BYTES);
        for block in blocks {
            // SAFETY: allocated above with this size, not used again.
            unsafe { slab.free(block, 14_336) };
        }
        for _ in 0..pages * 5 {
            slab.allocate(12_288);
        }
        assert_eq!(slab.memory().reserved, CHUNK_BYTES);
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_class() {
        let mut slab = Slab::new();
        let first = slab.allocate(100);
        let _keeps_the_page = slab.allocate(100);
        // SAFETY: allocated above with this size, not used again.
        unsafe { slab.free(first, 100) };
        assert_eq!(slab.allocate(97), first);
    }
}
