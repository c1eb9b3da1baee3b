//! The few system calls that the standard library has no name for: epoll, pinning, thread time and
//! the limit on open files. The only `unsafe` of this program.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Events that one [`Epoll::wait`] returns at most.
const EVENTS_MAX: usize = 512;

/// A set of sockets, each under a token, watched for input and, on demand, for room to send.
/// Level-triggered: what is not dealt with is reported again.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call succeeded, so `fd` is open and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Watches `socket` for input. Closing the socket ends it.
    pub fn add(&self, socket: BorrowedFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, false)
    }

    /// Watches `socket`, which is in the set, for room to send as well, or no longer.
    pub fn watch_room(&self, socket: BorrowedFd, token: u64, room: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, room)
    }

    fn control(&self, order: i32, socket: BorrowedFd, token: u64, room: bool) -> io::Result<()> {
        let wanted = if room { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
        let mut event = libc::epoll_event { events: wanted as u32, u64: token };
        // SAFETY: both descriptors are open while borrowed; `event` outlives the call.
        check(unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), order, socket.as_raw_fd(), &raw mut event)
        })?;
        Ok(())
    }

    /// Waits until a socket has something, at most `timeout` (rounded up to milliseconds), and
    /// gives how many events there are to [`Epoll::token`]. A signal ends the wait with none.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let room = EVENTS_MAX as i32;
        // SAFETY: `events` has room for EVENTS_MAX events, and nothing else uses it meanwhile.
        let count = check(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout)
        });
        match count {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The token of event `index` of the last wait.
    pub fn token(&self, index: usize) -> u64 {
        self.events[index].u64
    }
}

/// Keeps the calling thread on one core.
pub fn pin_to_core(core: u16) -> io::Result<()> {
    // The kernel takes a mask of any length; libc's cpu_set_t ends at core 1023.
    let mut mask = vec![0u64; usize::from(core) / 64 + 1];
    mask[usize::from(core) / 64] = 1 << (core % 64);
    // SAFETY: the kernel reads as many bytes as the mask has; 0 is the calling thread.
    check(unsafe {
        libc::sched_setaffinity(0, mask.len() * size_of::<u64>(), mask.as_ptr().cast())
    })?;
    Ok(())
}

/// Whether a thread can be kept on this core.
pub fn try_core(core: u16) -> io::Result<()> {
    // On a thread that is gone afterwards, for the caller is not to be moved.
    let tried = std::thread::spawn(move || pin_to_core(core)).join();
    tried.expect("pinning does not panic")
}

/// Lets the calling thread's timers end when asked for, and not up to 50 µs later in company with
/// others. A kernel that refuses leaves them as they are.
pub fn sharpen_timers() {
    // SAFETY: takes no pointers.
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Processor time that the calling thread has used, in nanoseconds.
pub fn thread_time_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` has room for what the call writes.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(result, 0, "the clock of the calling thread always exists");
    // SAFETY: the call succeeded, so it has written the whole value.
    let time = unsafe { time.assume_init() };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets this process open as many files as it may without privileges.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call, which writes it.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` outlives the call, which reads it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_socket_is_reported_under_its_token() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.add(theirs.as_fd(), 7).unwrap();
        assert_eq!(epoll.wait(Duration::ZERO).unwrap(), 0, "nothing was sent");
        ours.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(Duration::from_secs(5)).unwrap(), 1);
        assert_eq!(epoll.token(0), 7);
        epoll.add(ours.as_fd(), 8).unwrap();
        epoll.watch_room(ours.as_fd(), 8, true).unwrap();
        assert_eq!(epoll.wait(Duration::from_secs(5)).unwrap(), 2, "there is room to send");
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        assert!(pin_to_core(u16::MAX).is_err());
    }

    #[test]
    fn work_takes_thread_time() {
        let before = thread_time_ns();
        let sum = (0..1_000_000u64).fold(1, |sum: u64, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(sum);
        assert!(thread_time_ns() > before);
    }
}
