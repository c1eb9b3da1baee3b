//! Notifications that have come and wait for the consensus core: of each sender the newest, for a
//! vote replaces the one before. So there are never more than senders, and no sender can crowd out
//! another. Filled by the threads of `election_port`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::ids::ServerId;
use crate::jute::election::Notification;

/// What waits, senders in the order in which they began to. Cloned by those who fill it.
#[derive(Clone, Debug, Default)]
pub struct ElectionInbox(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    newest: Mutex<VecDeque<(ServerId, Notification)>>,
    waker: AtomicWaker,
}

impl ElectionInbox {
    /// An empty inbox.
    pub fn new() -> ElectionInbox {
        ElectionInbox::default()
    }

    /// Puts in what `from` said, instead of what it said before and nobody has taken.
    pub fn put(&self, from: ServerId, notification: Notification) {
        let mut newest = self.lock();
        match newest.iter_mut().find(|(sender, _)| *sender == from) {
            Some((_, said)) => *said = notification,
            None => newest.push_back((from, notification)),
        }
        drop(newest);
        self.0.waker.wake();
    }

    /// Takes what the sender said that has waited longest.
    pub fn take(&self) -> Option<(ServerId, Notification)> {
        self.lock().pop_front()
    }

    /// Ready when something waits; otherwise the owner's task is woken by the next `put`.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(context.waker());
        if self.lock().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(ServerId, Notification)>> {
        self.0.newest.lock().expect("nobody panics with it")
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::ids::Zxid;
    use crate::jute::election::PeerState;

    fn notification(round: i64) -> Notification {
        Notification {
            state: PeerState::Looking,
            leader: ServerId::new(1),
            zxid: Zxid::ZERO,
            round,
            epoch: 0,
            version: 2,
            config: None,
        }
    }

    #[test]
    fn of_each_sender_the_newest_waits() {
        let inbox = ElectionInbox::new();
        for (from, round) in [(1, 1), (2, 5), (1, 2), (1, 3)] {
            inbox.put(ServerId::new(from), notification(round));
        }
        assert_eq!(inbox.take(), Some((ServerId::new(1), notification(3))));
        assert_eq!(inbox.take(), Some((ServerId::new(2), notification(5))));
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn the_owner_finds_what_came_before_it_looked() {
        let inbox = ElectionInbox::new();
        let mut context = Context::from_waker(Waker::noop());
        assert!(inbox.poll_ready(&mut context).is_pending());
        inbox.put(ServerId::new(1), notification(1));
        assert!(inbox.poll_ready(&mut context).is_ready());
    }
}
