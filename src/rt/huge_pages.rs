//! Asks the kernel to back memory with huge pages. A random read of a large tree is bound by the
//! processor's translation of addresses, and a huge page needs one entry where 512 were needed.

/// Advises that the `bytes` at `start` are best backed by huge pages. Only a hint: whether the
/// kernel follows it depends on `/sys/kernel/mm/transparent_hugepage/enabled`.
pub fn advise(start: *mut u8, bytes: usize) {
    if cfg!(miri) {
        return;
    }
    // SAFETY: this advice changes how memory is backed, never what it holds; the kernel checks the
    // range and refuses one that is not mapped. The answer does not matter for a hint.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
}
