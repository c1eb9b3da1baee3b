//! deleteContainer, which the server asks of itself alone.

use crate::consensus::batch::Batch;
use crate::ids::SessionId;
use crate::jute::opcode::OpCode;
use crate::jute::txn;

use super::write::{Prepare, Stamp};

impl Prepare {
    /// Deletes a container or TTL znode whose time is over. It is there, and has no children.
    pub fn reap(&mut self, path: &str, stamp: Stamp, batch: &mut Batch) {
        self.tree.begin(stamp.zxid, stamp.time_ms);
        self.writing(None, SessionId::NONE, Ok(()), stamp, &mut batch.changes).remove(path);
        self.begin_txn(SessionId::NONE, 0, OpCode::DELETE_CONTAINER, stamp);
        txn::encode_delete(&mut self.txn, path);
        batch.end_txn_unasked(stamp.zxid);
    }
}
