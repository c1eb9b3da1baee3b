//! Receive buffers that a ring's receives share: the kernel takes one when data is there, so that
//! ten thousand idle connections hold none. Called by `ring` alone.
//!
//! Invariant: a buffer belongs to the kernel or, from the completion that names it until it is
//! given back, to us; never to both.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Bytes of one buffer.
pub const BUFFER_BYTES: usize = 16 << 10;

/// Buffers of one ring. All in use: receives wait until some are given back, one turn later.
pub const BUFFERS: u16 = 256;

/// The group that the ring's receives name.
pub const GROUP: u16 = 0;

const _: () = assert!(BUFFERS.is_power_of_two(), "the kernel masks with it");

/// The buffers of one ring. Unregister (or drop the ring) before dropping them.
#[derive(Debug)]
pub struct ReceiveBuffers {
    /// `BUFFERS` entries, shared with the kernel, page aligned.
    entries: Pages,
    /// `BUFFERS` times `BUFFER_BYTES`.
    bytes: Pages,
    /// Entries ever put in, modulo 2^16.
    tail: u16,
}

impl ReceiveBuffers {
    /// Allocates the buffers and gives them all to `ring`.
    ///
    /// # Errors
    /// When memory is short, or the kernel (before 5.19) knows no buffer rings.
    pub fn register(ring: &IoUring) -> io::Result<ReceiveBuffers> {
        let entries = Pages::new(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let bytes = Pages::new(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: the entries are zeroed pages of the right size, page aligned. Who drops the
        // buffers has dropped or unregistered the ring before (see `RingSockets`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.start.as_ptr() as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        let mut buffers = ReceiveBuffers { entries, bytes, tail: 0 };
        buffers.give_back(0..BUFFERS);
        Ok(buffers)
    }

    /// The first `length` bytes of `buffer`, which a completion named and nobody gave back since.
    pub fn data(&self, buffer: u16, length: u32) -> &[u8] {
        assert!(buffer < BUFFERS, "buffer {buffer} of {BUFFERS}");
        assert!(length as usize <= BUFFER_BYTES, "{length} bytes in a buffer of {BUFFER_BYTES}");
        // SAFETY: within the pages, checked above; the kernel writes only to buffers that it was
        // given, and this one it has handed to us.
        unsafe {
            let start = self.bytes.start.as_ptr().add(usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, length as usize)
        }
    }

    /// Gives `returned` to the kernel again.
    pub fn give_back(&mut self, returned: impl Iterator<Item = u16>) {
        let ring = self.entries.start.as_ptr().cast::<BufRingEntry>();
        for buffer in returned {
            assert!(buffer < BUFFERS, "buffer {buffer} of {BUFFERS}");
            let index = usize::from(self.tail & (BUFFERS - 1));
            // SAFETY: both indices are below `BUFFERS`. The kernel does not read the entry before
            // the tail is moved past it; the entry's reserved half word, which in entry 0 is the
            // tail itself, is not touched by the setters.
            unsafe {
                let start = self.bytes.start.as_ptr().add(usize::from(buffer) * BUFFER_BYTES);
                let entry = &mut *ring.add(index);
                entry.set_addr(start as u64);
                entry.set_len(BUFFER_BYTES as u32);
                entry.set_bid(buffer);
            }
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the tail lies within the first entry, two-byte aligned, and is only read by the
        // kernel; an atomic store publishes the entries written above.
        unsafe {
            let tail = BufRingEntry::tail(ring).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Anonymous pages, zeroed.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to this value alone.
unsafe impl Send for Pages {}

impl Pages {
    fn new(length: usize) -> io::Result<Pages> {
        // SAFETY: a fresh anonymous mapping; nothing existing is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Pages { start, length })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, whole, and no reference to it outlives us.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
