//! Hands published batches to the reactors, all batches to every one of them, in order. A reactor
//! whose inbox is full gets them later; meanwhile the consensus core prepares nothing. Owned by
//! `turn`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::consensus::handoff::Published;
use crate::limits::PUBLISHED_HELD_MAX;
use crate::reactor::message::ReactorMessage;
use crate::rt::inbox::RingInbox;

/// The way to the reactors.
#[derive(Debug)]
pub struct Publisher {
    reactors: Vec<Way>,
}

#[derive(Debug)]
struct Way {
    inbox: RingInbox<ReactorMessage>,
    /// What did not fit, oldest first.
    held: VecDeque<ReactorMessage>,
}

impl Publisher {
    /// Publishes to these inboxes, by reactor.
    pub fn new(inboxes: Vec<RingInbox<ReactorMessage>>) -> Publisher {
        let way = |inbox| Way { inbox, held: VecDeque::new() };
        Publisher { reactors: inboxes.into_iter().map(way).collect() }
    }

    /// Gives a batch to every reactor.
    ///
    /// # Panics
    /// When `PUBLISHED_HELD_MAX` batches are held for one reactor: the caller went on preparing.
    pub fn publish(&mut self, batch: Published) {
        let batch = Arc::new(batch);
        self.tell(|| ReactorMessage::Published(Arc::clone(&batch)));
    }

    /// Tells every reactor something, behind what it was given before.
    ///
    /// # Panics
    /// As `publish`.
    pub fn tell(&mut self, message: impl Fn() -> ReactorMessage) {
        for way in &mut self.reactors {
            assert!(way.held.len() < PUBLISHED_HELD_MAX, "too much is held for a reactor");
            way.held.push_back(message());
            way.pass_on();
        }
    }

    /// Tries again to give away what is held.
    pub fn retry(&mut self) {
        for way in &mut self.reactors {
            way.pass_on();
        }
    }

    /// Whether a reactor has not got everything: nothing more should be prepared.
    pub fn is_held(&self) -> bool {
        self.reactors.iter().any(|way| !way.held.is_empty())
    }
}

impl Way {
    fn pass_on(&mut self) {
        while let Some(message) = self.held.pop_front() {
            if let Err(back) = self.inbox.send(message) {
                self.held.push_front(back);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Zxid;

    fn batch(zxid: i64) -> Published {
        Published { through: Zxid::from_bits(zxid), ..Published::default() }
    }

    fn taken(inbox: &RingInbox<ReactorMessage>) -> Vec<i64> {
        std::iter::from_fn(|| inbox.take())
            .map(|message| match message {
                ReactorMessage::Published(batch) => batch.through.bits(),
                other => panic!("not a batch: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn every_reactor_gets_every_batch_in_order_even_if_it_was_full() {
        let inboxes = [1, 4].map(|capacity| RingInbox::new(capacity).unwrap());
        let mut publisher = Publisher::new(inboxes.to_vec());
        publisher.publish(batch(1));
        assert!(!publisher.is_held());
        publisher.publish(batch(2));
        publisher.publish(batch(3));
        assert!(publisher.is_held());
        assert_eq!(taken(&inboxes[1]), [1, 2, 3], "one full reactor does not delay another");
        assert_eq!(taken(&inboxes[0]), [1]);
        publisher.retry();
        assert_eq!(taken(&inboxes[0]), [2]);
        assert!(publisher.is_held());
        publisher.retry();
        assert!(!publisher.is_held());
        assert_eq!(taken(&inboxes[0]), [3]);
    }
}
