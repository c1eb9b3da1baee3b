//! Snapshots over a link: bytes between its packets, made or taken by another thread, which may
//! take its time. Between that thread and the link a bounded number of bytes waits.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use thiserror::Error;

use crate::limits::LINK_STREAM_BYTES_MAX;

/// The link is gone: the rest of the snapshot interests nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the link is gone")]
pub struct LinkGone;

/// Bytes from one side to the other. One side is a thread that blocks, the other a link that polls.
#[derive(Debug, Default)]
struct Pipe {
    inside: Mutex<Inside>,
    /// For the thread: something has changed.
    changed: Condvar,
    /// For the link.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Inside {
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How the thread has ended.
    thread: ThreadEnd,
    /// The link is gone.
    gone: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ThreadEnd {
    #[default]
    None,
    /// The snapshot is complete.
    Finished,
    /// It is not, and never will be.
    GivenUp,
}

impl Inside {
    fn push(&mut self, chunk: Vec<u8>) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    fn is_full(&self) -> bool {
        self.bytes >= LINK_STREAM_BYTES_MAX
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("nobody panics with it")
    }

    fn thread_ends(&self, end: ThreadEnd) {
        let mut inside = self.lock();
        if inside.thread == ThreadEnd::None {
            inside.thread = end;
        }
        drop(inside);
        self.waker.wake();
    }

    fn link_ends(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }
}

/// The thread's side of a snapshot that is sent. Dropped before `finish`, it costs the link: the
/// peer would wait for the rest for ever.
#[derive(Debug)]
pub struct OutgoingStream(Arc<Pipe>);

impl OutgoingStream {
    /// Sends a chunk; blocks while `LINK_STREAM_BYTES_MAX` wait.
    ///
    /// # Errors
    /// When the link is gone.
    pub fn send(&self, chunk: Vec<u8>) -> Result<(), LinkGone> {
        let full = |inside: &mut Inside| inside.is_full() && !inside.gone;
        let waited = self.0.changed.wait_while(self.0.lock(), full);
        let mut inside = waited.expect("nobody panics with it");
        if inside.gone {
            return Err(LinkGone);
        }
        if !chunk.is_empty() {
            inside.push(chunk);
        }
        drop(inside);
        self.0.waker.wake();
        Ok(())
    }

    /// The snapshot is complete: what was sent on the link meanwhile goes behind it.
    pub fn finish(self) {
        self.0.thread_ends(ThreadEnd::Finished);
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        self.0.thread_ends(ThreadEnd::GivenUp);
    }
}

/// The link's side of a snapshot that is sent. Dropped, the thread hears that the link is gone.
#[derive(Debug)]
pub(super) struct Outgoing(Arc<Pipe>);

/// What the link is to do about a snapshot that is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Chunk(Vec<u8>),
    /// The snapshot has been sent.
    Over,
    /// It cannot be completed.
    Broken,
}

/// Both sides of a snapshot that is to be sent.
pub(super) fn outgoing() -> (OutgoingStream, Outgoing) {
    let pipe = Arc::new(Pipe::default());
    (OutgoingStream(Arc::clone(&pipe)), Outgoing(pipe))
}

impl Outgoing {
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Next> {
        self.0.waker.register(context.waker());
        let mut inside = self.0.lock();
        let next = match (inside.pop(), inside.thread) {
            (Some(chunk), _) => Next::Chunk(chunk),
            (None, ThreadEnd::Finished) => Next::Over,
            (None, ThreadEnd::GivenUp) => Next::Broken,
            (None, ThreadEnd::None) => return Poll::Pending,
        };
        drop(inside);
        self.0.changed.notify_all();
        Poll::Ready(next)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.link_ends();
    }
}

/// The thread's side of a snapshot that is received: read it to its end, which the snapshot itself
/// tells, and not a byte more; then `finish`. Dropped before that, it costs the link.
#[derive(Debug)]
pub struct IncomingStream {
    pipe: Arc<Pipe>,
    current: Vec<u8>,
    at: usize,
}

impl IncomingStream {
    /// The snapshot is over: what has come behind what was consumed is packets.
    pub fn finish(mut self) {
        let rest = self.current.split_off(self.at);
        let mut inside = self.pipe.lock();
        inside.bytes += rest.len();
        inside.chunks.push_front(rest);
        drop(inside);
        self.pipe.thread_ends(ThreadEnd::Finished);
    }
}

impl BufRead for IncomingStream {
    /// Waits until something has come.
    ///
    /// # Errors
    /// When the link is gone, and all that came before has been read.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            let empty = |inside: &mut Inside| inside.chunks.is_empty() && !inside.gone;
            let waited = self.pipe.changed.wait_while(self.pipe.lock(), empty);
            let mut inside = waited.expect("nobody panics with it");
            let Some(chunk) = inside.pop() else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, LinkGone));
            };
            drop(inside);
            self.current = chunk;
            self.at = 0;
            // There is room again.
            self.pipe.waker.wake();
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        assert!(amount <= self.current.len() - self.at, "more is consumed than is there");
        self.at += amount;
    }
}

impl Read for IncomingStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(into.len());
        into[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl Drop for IncomingStream {
    fn drop(&mut self) {
        self.pipe.thread_ends(ThreadEnd::GivenUp);
    }
}

/// The link's side of a snapshot that is received. Dropped, the thread hears that the link is gone
/// when it has read the rest.
#[derive(Debug)]
pub(super) struct Incoming(Arc<Pipe>);

/// How it stands with a snapshot that is received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is room for more.
    Room,
    /// It is over; this has come behind it.
    Over(Vec<u8>),
    /// The thread wants no more of it.
    GivenUp,
}

/// Both sides of a snapshot that comes, of which this has come already.
pub(super) fn incoming(first: Vec<u8>) -> (IncomingStream, Incoming) {
    let pipe = Arc::new(Pipe::default());
    if !first.is_empty() {
        pipe.lock().push(first);
    }
    let thread = IncomingStream { pipe: Arc::clone(&pipe), current: Vec::new(), at: 0 };
    (thread, Incoming(pipe))
}

impl Incoming {
    /// Pending: it is full.
    pub fn poll_progress(&self, context: &mut Context<'_>) -> Poll<Progress> {
        self.0.waker.register(context.waker());
        let mut inside = self.0.lock();
        match inside.thread {
            ThreadEnd::Finished => {
                let mut rest = Vec::new();
                while let Some(chunk) = inside.pop() {
                    rest.extend(chunk);
                }
                Poll::Ready(Progress::Over(rest))
            }
            ThreadEnd::GivenUp => Poll::Ready(Progress::GivenUp),
            ThreadEnd::None if inside.is_full() => Poll::Pending,
            ThreadEnd::None => Poll::Ready(Progress::Room),
        }
    }

    pub fn push(&self, bytes: &[u8]) {
        self.0.lock().push(bytes.to_vec());
        self.0.changed.notify_all();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.link_ends();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn what_is_sent_comes_out_in_order_and_then_the_end() {
        let (thread, link) = outgoing();
        assert!(link.poll_next(&mut context()).is_pending());
        thread.send(vec![1, 2]).unwrap();
        thread.send(vec![]).unwrap();
        thread.send(vec![3]).unwrap();
        thread.finish();
        for next in [Next::Chunk(vec![1, 2]), Next::Chunk(vec![3]), Next::Over] {
            assert_eq!(link.poll_next(&mut context()), Poll::Ready(next));
        }
    }

    #[test]
    fn a_maker_waits_for_room_and_hears_that_the_link_is_gone() {
        let (thread, link) = outgoing();
        let making = std::thread::spawn(move || {
            let mut sent = 0;
            while thread.send(vec![0; 64 << 10]).is_ok() {
                sent += 1;
            }
            sent
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !link.0.lock().is_full() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        drop(link);
        assert_eq!(making.join().unwrap(), LINK_STREAM_BYTES_MAX / (64 << 10));
    }

    #[test]
    fn a_maker_that_gives_up_breaks_the_stream() {
        let (thread, link) = outgoing();
        thread.send(vec![1]).unwrap();
        drop(thread);
        assert_eq!(link.poll_next(&mut context()), Poll::Ready(Next::Chunk(vec![1])));
        assert_eq!(link.poll_next(&mut context()), Poll::Ready(Next::Broken));
    }

    #[test]
    fn what_is_behind_the_end_goes_back_to_the_link() {
        let (mut thread, link) = incoming(b"snap".to_vec());
        link.push(b"shot+pac");
        link.push(b"kets");
        let mut snapshot = [0; 8];
        thread.read_exact(&mut snapshot).unwrap();
        assert_eq!(&snapshot, b"snapshot");
        assert_eq!(link.poll_progress(&mut context()), Poll::Ready(Progress::Room));
        thread.finish();
        let over = Progress::Over(b"+packets".to_vec());
        assert_eq!(link.poll_progress(&mut context()), Poll::Ready(over));
    }

    #[test]
    fn a_taker_that_is_behind_is_waited_for() {
        let (mut thread, link) = incoming(Vec::new());
        link.push(&vec![0; LINK_STREAM_BYTES_MAX]);
        assert!(link.poll_progress(&mut context()).is_pending());
        let length = thread.fill_buf().unwrap().len();
        thread.consume(length);
        assert_eq!(link.poll_progress(&mut context()), Poll::Ready(Progress::Room));
        drop(thread);
        assert_eq!(link.poll_progress(&mut context()), Poll::Ready(Progress::GivenUp));
    }

    #[test]
    fn a_taker_reads_what_came_before_the_link_was_gone() {
        let (mut thread, link) = incoming(b"ab".to_vec());
        drop(link);
        let mut read = Vec::new();
        let error = thread.read_to_end(&mut read).unwrap_err();
        assert_eq!((&read[..], error.kind()), (&b"ab"[..], io::ErrorKind::UnexpectedEof));
    }
}
