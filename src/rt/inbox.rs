//! A core's bounded inbox: any core puts messages in, one core takes them out, and it is woken if
//! it sleeps. Messages are batches, so a message costs a few atomic operations, not a request.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use super::event::Event;

/// The inbox of a core that blocks in a ring of its own (a reactor). Cloned by its senders.
#[derive(Debug)]
pub struct RingInbox<T>(Arc<Ringing<T>>);

#[derive(Debug)]
struct Ringing<T> {
    queue: ArrayQueue<T>,
    /// The owner waits in the kernel, or is about to: a sender must ring.
    asleep: AtomicBool,
    event: Event,
}

impl<T> Clone for RingInbox<T> {
    fn clone(&self) -> Self {
        RingInbox(Arc::clone(&self.0))
    }
}

impl<T> RingInbox<T> {
    /// An inbox for at most `capacity` messages.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(capacity: usize) -> io::Result<RingInbox<T>> {
        let event = Event::new()?;
        Ok(RingInbox(Arc::new(Ringing {
            queue: ArrayQueue::new(capacity),
            asleep: AtomicBool::new(false),
            event,
        })))
    }

    /// Puts `message` in and wakes the owner; gives it back when the inbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        // Pairs with the fence in `fall_asleep`: either we see the owner asleep, or it sees the
        // message before it sleeps.
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) && self.0.asleep.swap(false, Ordering::Relaxed) {
            self.0.event.ring();
        }
        Ok(())
    }

    /// Takes the oldest message. For the owner alone.
    pub fn take(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// The owner is about to wait for `event()`. False when messages came meanwhile: take them
    /// instead of waiting.
    pub fn fall_asleep(&self) -> bool {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.0.queue.is_empty() {
            return true;
        }
        self.wake_up();
        false
    }

    /// The owner is awake: senders need not ring. Call `Event::reset` when the event was rung.
    pub fn wake_up(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }

    /// What rings when a message comes for a sleeping owner.
    pub fn event(&self) -> &Event {
        &self.0.event
    }
}

impl<T> AsFd for RingInbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

/// The inbox of a core that awaits (the consensus core). Cloned by its senders.
#[derive(Debug)]
pub struct TaskInbox<T>(Arc<Awaiting<T>>);

#[derive(Debug)]
struct Awaiting<T> {
    queue: ArrayQueue<T>,
    waker: AtomicWaker,
    /// Senders that have messages ready for which there was no room.
    holding: AtomicUsize,
}

impl<T> Clone for TaskInbox<T> {
    fn clone(&self) -> Self {
        TaskInbox(Arc::clone(&self.0))
    }
}

impl<T> TaskInbox<T> {
    /// An inbox for at most `capacity` messages.
    pub fn new(capacity: usize) -> TaskInbox<T> {
        TaskInbox(Arc::new(Awaiting {
            queue: ArrayQueue::new(capacity),
            waker: AtomicWaker::new(),
            holding: AtomicUsize::new(0),
        }))
    }

    /// Puts `message` in and wakes the owner; gives it back when the inbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        self.0.waker.wake();
        Ok(())
    }

    /// A sender tells that from now on it has messages ready for which there was no room.
    pub fn hold(&self) {
        self.0.holding.fetch_add(1, Ordering::Release);
    }

    /// The sender has no such messages any more: all are in the inbox.
    pub fn release(&self) {
        let held = self.0.holding.fetch_sub(1, Ordering::Release);
        assert!(held > 0, "an inbox is released that nobody held");
        self.0.waker.wake();
    }

    /// Whether a sender has messages ready for which there was no room. What one held before this
    /// says no is in the inbox.
    pub fn is_held(&self) -> bool {
        self.0.holding.load(Ordering::Acquire) > 0
    }

    /// Wakes the owner without a message.
    pub fn wake(&self) {
        self.0.waker.wake();
    }

    /// Takes the oldest message. For the owner alone.
    pub fn take(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// Ready when a message waits; otherwise the owner's task is woken by the next `send` or
    /// `wake`. For the owner alone.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(context.waker());
        if self.0.queue.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_gives_the_message_back() {
        let inbox = RingInbox::new(1).unwrap();
        assert_eq!(inbox.send(1), Ok(()));
        assert_eq!(inbox.send(2), Err(2));
        assert_eq!(inbox.take(), Some(1));
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn an_inbox_is_held_until_every_sender_has_released_it() {
        let inbox = TaskInbox::<u8>::new(1);
        assert!(!inbox.is_held());
        inbox.hold();
        inbox.clone().hold();
        inbox.release();
        assert!(inbox.is_held());
        inbox.release();
        assert!(!inbox.is_held());
    }

    #[test]
    fn an_owner_does_not_fall_asleep_over_a_message() {
        let inbox = RingInbox::new(4).unwrap();
        assert!(inbox.fall_asleep());
        inbox.wake_up();
        inbox.send(()).unwrap();
        assert!(!inbox.fall_asleep());
    }

    #[test]
    fn no_message_is_slept_through() {
        let inbox = RingInbox::new(64).unwrap();
        let sender = inbox.clone();
        let sending = std::thread::spawn(move || {
            for number in 0..20_000u32 {
                let mut message = number;
                while let Err(back) = sender.send(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 20_000 {
            while let Some(number) = inbox.take() {
                assert_eq!(number, expected);
                expected += 1;
            }
            if expected < 20_000 && inbox.fall_asleep() {
                let mut poll = libc::pollfd {
                    fd: std::os::fd::AsRawFd::as_raw_fd(&inbox.as_fd()),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: one live pollfd; ten seconds bound the wait.
                let ready = unsafe { libc::poll(&raw mut poll, 1, 10_000) };
                assert_eq!(ready, 1, "slept through a message after {expected}");
                inbox.wake_up();
                inbox.event().reset();
            }
        }
        sending.join().unwrap();
    }
}
