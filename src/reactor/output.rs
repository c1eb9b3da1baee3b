//! What a turn carries from the reactor to the sockets: output, and whether to receive.

use super::connection::Halts;
use super::serve::Reactor;

impl Reactor {
    /// Whether something is left to do that needs no event.
    pub fn has_work(&self) -> bool {
        !self.lists.resumable.is_empty() || !self.lists.full.is_empty() || self.has_long_work()
    }

    /// Shows the output of each connection that has some to `give`, which takes it, or leaves it
    /// when the socket is busy; `sent` then brings it up again.
    pub fn flush(&mut self, mut give: impl FnMut(u32, &mut Vec<u8>)) {
        for slot in self.lists.dirty.drain(..) {
            let Some(connection) = self.connections.find(slot) else { continue };
            connection.dirty = false;
            let had = connection.out.len();
            if had > 0 {
                give(slot, &mut connection.out);
                if connection.out.is_empty() {
                    connection.event_bytes = 0;
                }
                self.clients.bytes_sent += (had - connection.out.len()) as u64;
            }
        }
    }

    /// The socket of `slot` takes output again.
    pub fn sent(&mut self, slot: u32) {
        let Some(connection) = self.connections.find(slot) else { return };
        if connection.halts.has(Halts::REPLIES) {
            self.lists.full.push(slot);
        }
        self.has_output(slot);
    }

    /// The connections that had more output than may wait, when it was last given to their
    /// sockets. Those whose socket took all of it are to be told `replies_read`.
    pub fn take_full(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.lists.full)
    }

    /// Tells `set` which sockets shall be paused (true) or resumed.
    pub fn take_reading(&mut self, mut set: impl FnMut(u32, bool)) {
        for slot in self.lists.reading.drain(..) {
            let Some(connection) = self.connections.find(slot) else { continue };
            if !connection.is_leaving() {
                set(slot, connection.paused);
            }
        }
    }

    /// Keeps empty buffers for the next output, at most `max` of them.
    pub fn keep_buffers(&mut self, empty: &mut Vec<Vec<u8>>, max: usize) {
        let room = max.saturating_sub(self.lists.buffers.len());
        let kept = empty.len().min(room);
        self.lists.buffers.extend(empty.drain(..kept));
        empty.clear();
    }
}
