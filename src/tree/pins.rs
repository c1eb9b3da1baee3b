//! Which versions readers hold, and which memory they may still look at.
//!
//! Each reader has a slot, a pair of cache lines that only it writes. Two questions are kept apart:
//!
//! * **Which versions may be seen?** A *moving* pin at z holds every version from z on: its reader
//!   reads at z or later, and moves the pin forward. A *still* pin at z holds what can be seen at
//!   exactly z, however long it takes (a snapshot): a version that began after z, and that nobody
//!   else can see, is given up meanwhile.
//! * **Which blocks may a reader hold a pointer to?** A block is unlinked first and freed later. The
//!   writer stamps what it unlinks with the current epoch; a reader notes the epoch whenever it
//!   holds no pointer (when it pins, when it moves its pin, and a walk with every step). A
//!   block is freed once every pinned reader has noted a later epoch.
//!
//! What is older than anything that any pin can see needs no epoch: readers stop at the first
//! version that is not newer than their zxid, so no pointer leads there.
//!
//! **A pin that is taken while the writer reclaims.** The reader stores its pin, then a fence, then
//! loads the floor; the writer stores the floor (the committed zxid), then a fence, then loads the
//! pins. In the order of the two fences one comes first. If the reader's does, the writer sees the
//! pin. If the writer's does, the reader sees the floor and what was unlinked before: either its
//! zxid is not below the floor, and nothing that it can see is reclaimed, since the writer reclaims
//! what ended at or below the floor; or it starts over with the newer committed zxid. The reader
//! looks at no block before the check.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

use crate::limits::TREE_READERS_MAX;

/// In a slot: no pin of this kind.
const NONE: u64 = u64::MAX;

/// Two lines, since processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    taken: AtomicBool,
    moving: AtomicU64,
    still: AtomicU64,
    /// The epoch at which the reader last held no pointer.
    noted: AtomicU64,
}

/// How a pin holds versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PinKind {
    Moving,
    Still,
}

/// The pins of all readers of a tree. In a line of its own what the writer writes, and the readers
/// only read: at most once per batch.
pub(super) struct Pins {
    published: Published,
    /// Slots that were ever taken.
    used: AtomicUsize,
    slots: Box<[Slot]>,
}

#[repr(align(128))]
struct Published {
    committed: AtomicU64,
    floor: AtomicU64,
    epoch: AtomicU64,
}

/// The index of a reader's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotIndex(usize);

/// What the writer saw in one look at all pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// What ended later is held by a moving pin, or may be by one that is being taken.
    pub moving: u64,
    /// No pin of either kind is below.
    pub least: u64,
    /// The still pins, ascending.
    pub still: Vec<u64>,
    /// What was stamped with an earlier epoch is out of everybody's reach.
    pub epoch: u64,
}

impl Seen {
    /// Whether somebody can see what holds from `since` to just before `until`.
    pub fn is_visible(&self, since: u64, until: u64) -> bool {
        if until > self.moving {
            return true;
        }
        let next = self.still.partition_point(|pin| *pin < since);
        self.still.get(next).is_some_and(|pin| *pin < until)
    }
}

impl Pins {
    pub fn new(committed: u64) -> Pins {
        let slot = || Slot {
            moving: AtomicU64::new(NONE),
            still: AtomicU64::new(NONE),
            ..Slot::default()
        };
        let committed = AtomicU64::new(committed);
        let (floor, epoch) = (AtomicU64::new(0), AtomicU64::new(1));
        Pins {
            published: Published { committed, floor, epoch },
            used: AtomicUsize::new(0),
            slots: (0..TREE_READERS_MAX).map(|_| slot()).collect(),
        }
    }

    pub fn committed(&self) -> u64 {
        self.published.committed.load(Acquire)
    }

    /// A slot for a new reader. None: there are `TREE_READERS_MAX` readers.
    pub fn take_slot(&self) -> Option<SlotIndex> {
        let free = self
            .slots
            .iter()
            .position(|slot| slot.taken.compare_exchange(false, true, AcqRel, Relaxed).is_ok())?;
        self.used.fetch_max(free + 1, SeqCst);
        Some(SlotIndex(free))
    }

    /// Gives back a slot without a pin.
    pub fn return_slot(&self, index: SlotIndex) {
        self.slots[index.0].taken.store(false, Release);
    }

    /// Pins the committed zxid and returns it. The slot has no pin.
    pub fn pin(&self, index: SlotIndex, kind: PinKind) -> u64 {
        let slot = &self.slots[index.0];
        let pin = match kind {
            PinKind::Moving => &slot.moving,
            PinKind::Still => &slot.still,
        };
        loop {
            let zxid = self.published.committed.load(Acquire);
            slot.noted.store(self.published.epoch.load(Acquire), Relaxed);
            pin.store(zxid, Release);
            fence(SeqCst);
            if self.published.floor.load(Acquire) <= zxid {
                return zxid;
            }
        }
    }

    /// Moves a moving pin forward to `zxid`. The reader holds no pointer.
    pub fn move_to(&self, index: SlotIndex, zxid: u64) {
        self.note(index);
        self.slots[index.0].moving.store(zxid, Release);
    }

    /// Notes that the reader holds no pointer but to what its pin holds.
    pub fn note(&self, index: SlotIndex) {
        let epoch = self.published.epoch.load(Acquire);
        self.slots[index.0].noted.store(epoch, Release);
    }

    /// Takes the pins off the slot. The reader holds no pointer.
    pub fn unpin(&self, index: SlotIndex) {
        self.slots[index.0].moving.store(NONE, Release);
        self.slots[index.0].still.store(NONE, Release);
    }

    /// Lets readers pin `zxid`. For the writer, as all that follows.
    pub fn publish(&self, zxid: u64) {
        self.published.committed.store(zxid, Release);
    }

    /// The stamp for what is unlinked now.
    pub fn epoch(&self) -> u64 {
        self.published.epoch.load(Relaxed)
    }

    /// Looks at all pins, into `seen`. All that was unlinked before gets an earlier epoch than what
    /// will be unlinked from now on.
    pub fn look(&self, seen: &mut Seen) {
        let floor = self.published.committed.load(Relaxed);
        self.published.floor.store(floor, Release);
        let epoch = self.published.epoch.load(Relaxed) + 1;
        self.published.epoch.store(epoch, Release);
        fence(SeqCst);
        (seen.moving, seen.least, seen.epoch) = (floor, floor, epoch);
        seen.still.clear();
        for slot in &self.slots[..self.used.load(SeqCst)] {
            let (moving, still) = (slot.moving.load(Acquire), slot.still.load(Acquire));
            if moving == NONE && still == NONE {
                continue;
            }
            // Loaded after the pin: what belongs to the pin, or is later.
            seen.epoch = seen.epoch.min(slot.noted.load(Acquire));
            seen.moving = seen.moving.min(moving);
            seen.least = seen.least.min(moving).min(still);
            if still != NONE {
                seen.still.push(still);
            }
        }
        seen.still.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(pins: &Pins) -> Seen {
        let mut seen = Seen::default();
        pins.look(&mut seen);
        seen
    }

    #[test]
    fn a_moving_pin_holds_all_that_ends_after_it() {
        let pins = Pins::new(10);
        let slot = pins.take_slot().unwrap();
        assert_eq!(pins.pin(slot, PinKind::Moving), 10);
        pins.publish(20);
        let seen = look(&pins);
        assert!(!seen.is_visible(5, 10));
        assert!(seen.is_visible(5, 11));
        assert!(seen.is_visible(15, 16));
        pins.move_to(slot, 20);
        assert!(!look(&pins).is_visible(15, 20));
        pins.unpin(slot);
    }

    #[test]
    fn a_still_pin_holds_what_can_be_seen_at_its_zxid_alone() {
        let pins = Pins::new(10);
        let slot = pins.take_slot().unwrap();
        pins.pin(slot, PinKind::Still);
        pins.publish(20);
        let seen = look(&pins);
        assert!(seen.is_visible(10, 11) && seen.is_visible(3, 15));
        assert!(!seen.is_visible(11, 20) && !seen.is_visible(3, 10));
        assert!(seen.is_visible(11, 21), "a pin can be taken at 20");
        assert_eq!((seen.moving, seen.least), (20, 10));
    }

    #[test]
    fn nothing_is_out_of_reach_before_every_pinned_reader_has_noted_it() {
        let pins = Pins::new(1);
        let (first, second) = (pins.take_slot().unwrap(), pins.take_slot().unwrap());
        pins.pin(first, PinKind::Moving);
        pins.pin(second, PinKind::Still);
        let stamp = pins.epoch();
        assert!(look(&pins).epoch <= stamp);
        pins.note(first);
        assert!(look(&pins).epoch <= stamp);
        pins.note(second);
        assert!(look(&pins).epoch > stamp);
        let later = pins.epoch();
        pins.unpin(first);
        pins.unpin(second);
        assert!(look(&pins).epoch > later);
    }

    #[test]
    fn slots_are_bounded_and_used_again() {
        let pins = Pins::new(0);
        let slots: Vec<SlotIndex> =
            (0..TREE_READERS_MAX).map(|_| pins.take_slot().unwrap()).collect();
        assert_eq!(pins.take_slot(), None);
        pins.return_slot(slots[3]);
        assert_eq!(pins.take_slot(), Some(slots[3]));
    }
}
