//! Work that would take too long for one turn, done a piece a turn. Called by `turn`.

use super::serve::Reactor;

/// Places of the table of watches that one turn sweeps: some ten microseconds, more when memory
/// has to be given back.
const SWEPT_PER_TURN: usize = 1024;

impl Reactor {
    /// Whether there is such work, so that the next turn should not wait for an event.
    pub(super) fn has_long_work(&self) -> bool {
        self.watches.is_sweeping() || self.counting.can_go_on()
    }

    /// Does a piece of it.
    pub fn go_on_with_long_work(&mut self) {
        self.watches.sweep(SWEPT_PER_TURN);
        self.go_on_counting();
    }
}
