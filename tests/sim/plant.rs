//! Faults of a server that the simulator must find: each breaks one rule that the protocol leans
//! on, in what a node does with the outputs of ZAB.

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The disk says "durable" when it has only been told.
    AckBeforeFlush,
    /// A follower cuts its log at the wrong place.
    WrongTruncation,
    /// A promise not to follow older leaders is forgotten with the next crash, so that one of a
    /// stale epoch is accepted.
    EpochNotWritten,
    /// A leader takes an acknowledgement for that of a quorum.
    CommitWithoutQuorum,
    /// The current epoch is written before the history is durable (ZOOKEEPER-4643).
    EpochBeforeHistory,
}

/// All of them.
pub const PLANTS: [Plant; 5] = [
    Plant::AckBeforeFlush,
    Plant::WrongTruncation,
    Plant::EpochNotWritten,
    Plant::CommitWithoutQuorum,
    Plant::EpochBeforeHistory,
];
