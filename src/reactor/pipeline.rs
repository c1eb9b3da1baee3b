//! The order of one session's requests: what waits for the consensus core, and what waits behind
//! it. Replies leave in the order of the requests; a read waits only for earlier writes of its own
//! session; a later write is handed over without waiting. Called by `serve`.
//!
//! Invariant: the first step is never a held read that could run, except while the client does not
//! read its replies, and even then not once a later write of the session is applied.

use std::collections::VecDeque;

use crate::consensus::handoff::IdentityIndex;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::limits::{PIPELINE_BYTES_MAX, PIPELINE_REQUESTS_MAX};

/// Bytes of an empty pipeline's buffer above which it is given up.
const IDLE_BYTES_MAX: usize = 4 << 10;

/// The requests of one connection that have not been answered.
#[derive(Debug, Default)]
pub struct Pipeline {
    steps: VecDeque<Step>,
    /// The bytes of held reads and the paths of syncs, in the order of their steps.
    bytes: Vec<u8>,
    /// Where the first of them begins in `bytes`.
    start: usize,
    /// Steps that the consensus core has not answered.
    asked: usize,
    /// Bytes of theirs that are not in `bytes`.
    away: usize,
}

/// One request.
#[derive(Debug)]
struct Step {
    what: What,
    /// When it came, in the reactor's milliseconds.
    since_ms: u64,
}

#[derive(Debug)]
enum What {
    /// The consensus core has it.
    Write { xid: i32, op: OpCode, length: u32 },
    /// The consensus core has it; the path lies in `bytes`.
    /// `None`: of a null path.
    Sync { xid: i32, length: Option<u32> },
    /// Not carried out: a bare reply, when its turn comes.
    Refused { xid: i32, err: ErrorCode },
    /// Answered, but a read before it has not been: its frame.
    Answered { frame: Box<[u8]> },
    /// A read behind a write; its frame lies in `bytes`.
    Held { length: u32, identity: IdentityIndex },
}

/// The first step of a pipeline, when it is not the consensus core's turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Ready<'a> {
    /// A held read that may run now: its frame.
    Read { frame: &'a [u8], identity: IdentityIndex, since_ms: u64 },
    /// A request that was not carried out is to be answered so.
    Refused { xid: i32, err: ErrorCode },
    /// A frame that may leave now.
    Answer { frame: &'a [u8] },
}

/// A request that the consensus core has answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Completed {
    pub op: OpCode,
    pub since_ms: u64,
    /// Of a sync.
    pub path: Option<Vec<u8>>,
    /// Whether everything before it has been answered too, so that the answer may leave.
    pub first: bool,
    step: usize,
}

impl Pipeline {
    /// Whether every request has been answered.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Requests that have not been answered.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Requests that the consensus core has.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// Whether a request with a frame of `length` bytes may come in. A single frame fits always.
    pub fn has_room(&self, length: usize) -> bool {
        let held = self.bytes.len() - self.start + self.away;
        self.steps.len() < PIPELINE_REQUESTS_MAX
            && (held == 0 || held + length <= PIPELINE_BYTES_MAX)
    }

    /// A write with a body of `length` bytes was handed over.
    pub fn wrote(&mut self, xid: i32, op: OpCode, length: usize, since_ms: u64) {
        self.asked += 1;
        self.away += length;
        let length = u32::try_from(length).expect("no frame is longer");
        self.steps.push_back(Step { what: What::Write { xid, op, length }, since_ms });
    }

    /// A sync of `path`, which may be null, was handed over.
    pub fn synced(&mut self, xid: i32, path: Option<&[u8]>, since_ms: u64) {
        self.asked += 1;
        self.push_bytes(path.unwrap_or_default());
        let what = What::Sync { xid, length: path.map(|path| path.len() as u32) };
        self.steps.push_back(Step { what, since_ms });
    }

    /// A read has to wait for what is here.
    pub fn hold(&mut self, frame: &[u8], identity: IdentityIndex, since_ms: u64) {
        self.push_bytes(frame);
        let what = What::Held { length: frame.len() as u32, identity };
        self.steps.push_back(Step { what, since_ms });
    }

    /// A request is not carried out, and answered with `err` when its turn comes.
    pub fn refuse(&mut self, xid: i32, err: ErrorCode, since_ms: u64) {
        self.steps.push_back(Step { what: What::Refused { xid, err }, since_ms });
    }

    /// The consensus core answered its first open request, which must have `xid`.
    ///
    /// # Panics
    /// When it has another one, or there is none: answers come in the order of the requests.
    pub fn complete(&mut self, xid: i32) -> Completed {
        let mut at = self.start;
        for (index, step) in self.steps.iter_mut().enumerate() {
            let mut gone = 0;
            let (own, op, length) = match step.what {
                What::Answered { .. } | What::Refused { .. } => continue,
                What::Held { length, .. } => {
                    at += length as usize;
                    continue;
                }
                What::Write { xid, op, length } => {
                    gone = length as usize;
                    (xid, op, None)
                }
                What::Sync { xid, length } => (xid, OpCode::SYNC, length),
            };
            assert_eq!(own, xid, "the consensus core answered another request of the session");
            let path = length.map(|length| self.bytes[at..at + length as usize].to_vec());
            let (since_ms, first) = (step.since_ms, index == 0);
            self.asked -= 1;
            self.away -= gone;
            if first {
                self.pop();
            }
            return Completed { op, since_ms, path, first, step: index };
        }
        panic!("the consensus core answered xid {xid}, which nobody asked");
    }

    /// Keeps the answer to a request that `complete` said is not the first.
    pub fn keep(&mut self, completed: &Completed, frame: &[u8]) {
        assert!(!completed.first, "the first answer leaves at once");
        let path = self.steps[completed.step].length();
        let before: usize = self.steps.iter().take(completed.step).map(Step::length).sum();
        let at = self.start + before;
        self.bytes.drain(at..at + path);
        self.steps[completed.step].what = What::Answered { frame: frame.into() };
    }

    /// The first step, unless the consensus core has it. `pop` it once it is done.
    pub fn ready(&self) -> Option<Ready<'_>> {
        let step = self.steps.front()?;
        match &step.what {
            What::Write { .. } | What::Sync { .. } => None,
            What::Answered { frame } => Some(Ready::Answer { frame }),
            What::Refused { xid, err } => Some(Ready::Refused { xid: *xid, err: *err }),
            What::Held { length, identity } => {
                let frame = &self.bytes[self.start..self.start + *length as usize];
                Some(Ready::Read { frame, identity: *identity, since_ms: step.since_ms })
            }
        }
    }

    /// Takes the first step out.
    pub fn pop(&mut self) {
        let step = self.steps.pop_front().expect("there is a step");
        self.start += step.length();
        if self.steps.is_empty() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > IDLE_BYTES_MAX {
                self.bytes = Vec::new();
            }
            if self.steps.capacity() > 32 {
                self.steps = VecDeque::new();
            }
        } else if self.start > self.bytes.len() / 2 {
            // Each byte is moved at most once for each byte taken.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

impl Step {
    /// Its bytes in `Pipeline::bytes`.
    fn length(&self) -> usize {
        match self.what {
            What::Write { .. } | What::Answered { .. } | What::Refused { .. } => 0,
            What::Sync { length, .. } => length.unwrap_or(0) as usize,
            What::Held { length, .. } => length as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: IdentityIndex = IdentityIndex(0);

    fn read(pipeline: &Pipeline) -> Option<&[u8]> {
        match pipeline.ready()? {
            Ready::Read { frame, .. } => Some(frame),
            other => panic!("no read is ready: {other:?}"),
        }
    }

    #[test]
    fn a_read_waits_for_the_write_before_it_and_not_for_the_one_behind() {
        let mut pipeline = Pipeline::default();
        pipeline.wrote(1, OpCode::CREATE, 0, 5);
        pipeline.hold(b"two", ME, 6);
        pipeline.wrote(3, OpCode::SET_DATA, 0, 7);
        pipeline.hold(b"four", ME, 8);
        assert_eq!((pipeline.len(), pipeline.asked()), (4, 2));
        assert_eq!(read(&pipeline), None);
        let completed = pipeline.complete(1);
        assert_eq!((completed.op, completed.since_ms, completed.first), (OpCode::CREATE, 5, true));
        assert_eq!(read(&pipeline), Some(&b"two"[..]));
        pipeline.pop();
        assert_eq!(read(&pipeline), None);
        assert!(pipeline.complete(3).first);
        assert_eq!(read(&pipeline), Some(&b"four"[..]));
        pipeline.pop();
        assert!(pipeline.is_empty());
    }

    #[test]
    fn an_answer_behind_an_unanswered_read_is_kept_in_its_place() {
        let mut pipeline = Pipeline::default();
        pipeline.wrote(1, OpCode::CREATE, 0, 0);
        pipeline.hold(b"two", ME, 0);
        pipeline.synced(3, Some(b"/path"), 0);
        pipeline.hold(b"four", ME, 0);
        assert!(pipeline.complete(1).first);
        let completed = pipeline.complete(3);
        assert_eq!((completed.first, completed.path.as_deref()), (false, Some(&b"/path"[..])));
        pipeline.keep(&completed, b"three");
        assert_eq!(read(&pipeline), Some(&b"two"[..]));
        pipeline.pop();
        assert_eq!(pipeline.ready(), Some(Ready::Answer { frame: b"three" }));
        pipeline.pop();
        assert_eq!(read(&pipeline), Some(&b"four"[..]));
    }

    #[test]
    fn a_pipeline_is_full_by_requests_and_by_bytes() {
        let mut pipeline = Pipeline::default();
        assert!(pipeline.has_room(10 * PIPELINE_BYTES_MAX));
        pipeline.wrote(0, OpCode::DELETE, 10, 0);
        pipeline.hold(&vec![0; PIPELINE_BYTES_MAX - 11], ME, 0);
        assert!(pipeline.has_room(1));
        assert!(!pipeline.has_room(2));
        pipeline.complete(0);
        assert!(pipeline.has_room(11), "what the consensus core is done with counts no more");
        assert!(!pipeline.has_room(12));
        let mut pipeline = Pipeline::default();
        for xid in 0..PIPELINE_REQUESTS_MAX as i32 {
            assert!(pipeline.has_room(8));
            pipeline.wrote(xid, OpCode::DELETE, 8, 0);
        }
        assert!(!pipeline.has_room(8));
    }

    #[test]
    #[should_panic(expected = "answered another request")]
    fn an_answer_out_of_order_is_our_own_error() {
        let mut pipeline = Pipeline::default();
        pipeline.wrote(1, OpCode::CREATE, 0, 0);
        pipeline.wrote(2, OpCode::CREATE, 0, 0);
        pipeline.complete(2);
    }
}
