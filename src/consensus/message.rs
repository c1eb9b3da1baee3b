//! What other cores put into the consensus core's inbox.

use crate::admin::report::ConsensusAsk;
use crate::consensus::handoff::Submission;
use crate::consensus::member::Done;
use crate::ids::{ReactorId, Zxid};

/// One message to the consensus core.
#[derive(Debug)]
pub enum ConsensusMessage {
    /// A reactor's writes and session news.
    Submission(Submission),
    /// From the housekeeping thread.
    Ask(ConsensusAsk),
    /// From the housekeeping thread: the snapshot at this zxid is durable.
    SnapshotTaken(Zxid),
    /// From the housekeeping thread: the snapshot at this zxid could not be written. The next one
    /// is asked for when enough is logged again.
    SnapshotFailed(Zxid),
    /// From a thread of the member's.
    Done(Done),
    /// The reactor has drained its inbox, which had been full.
    InboxDrained(ReactorId),
    /// Every reactor has ended: commit and publish what is in flight, flush, and end.
    Stop,
}
