//! An eventfd: how a core that blocks in its ring is woken by another one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A kernel counter that a ring can wait for. Any thread may ring it.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// A new event, not rung.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Event> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is used.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        Ok(Event(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes whoever waits for the event, now or the next time.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a live local.
        let written = unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
        // A full counter (EAGAIN) has woken the waiter already; nothing else can fail.
        debug_assert!(
            written == 8 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
        );
    }

    /// Takes back all rings so far.
    pub fn reset(&self) {
        let mut count = 0u64;
        // SAFETY: reads at most eight bytes into a live local. EAGAIN means that it was not rung.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
