//! The differences that are meant: where Ringkeeper is 3.9 and the peer is 3.8.0, and where
//! ZooKeeper's behaviour is a hole. Each rule is as narrow as its reason. `docs/compatibility.md`
//! has the list for users.

use std::collections::HashSet;

use crate::compare::Difference;
use crate::observation::{Frame, Kind};
use crate::peer::Release;
use crate::play::Transcript;
use crate::request::{Request, op};
use crate::script::{Script, Step};

/// Why a difference is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// 3.8 sends events with zxid -1; 3.9 and Ringkeeper with the change's.
    EventZxid,
}

/// How the comparison goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The two frames count as equal.
    AsGood,
    /// Ringkeeper's frame has no counterpart.
    WithoutOurs,
    /// ZooKeeper's frame has no counterpart.
    WithoutTheirs,
    /// The servers' states differ from here on.
    EndsHere,
}

/// What the rules know of the script so far.
pub struct Situation<'a> {
    script: &'a Script,
    release: Release,
    step: usize,
    /// Zxids that answers to this step named, Ringkeeper's.
    zxids: HashSet<i64>,
}

impl<'a> Situation<'a> {
    /// Before the first step.
    pub fn new(script: &'a Script, release: Release) -> Situation<'a> {
        Situation { script, release, step: 0, zxids: HashSet::new() }
    }

    /// Goes on to a step.
    pub fn enter(&mut self, step: usize, ours: &Transcript, _theirs: &Transcript) {
        self.step = step;
        let frames = ours.steps[step].iter().flatten();
        let answers = frames.filter(|frame| frame.kind == Kind::Reply);
        self.zxids = answers.filter_map(|frame| frame.number("zxid")).collect();
    }

    fn now(&self) -> &Step {
        &self.script.steps[self.step]
    }

    fn asks(&self, ops: &[i32]) -> bool {
        self.now().requests().iter().any(|request: &Request| ops.contains(&request.op()))
    }
}

/// Whether an event of Ringkeeper's may carry this zxid.
pub fn event_zxid_is_right(situation: &Situation<'_>, zxid: i64) -> bool {
    let is_made_up_for = zxid == -1 && situation.asks(&[op::SET_WATCHES, op::SET_WATCHES2]);
    is_made_up_for || situation.zxids.contains(&zxid)
}

/// The reason for a difference, if there is one, and how to go on. `frames` are Ringkeeper's and
/// ZooKeeper's.
pub fn explain(
    situation: &Situation<'_>,
    difference: &Difference,
    frames: (Option<&Frame>, Option<&Frame>),
) -> Option<(Reason, Ruling)> {
    let is_38 = situation.release == Release::V38;
    if let (Some(ours), Some(theirs)) = frames
        && is_38
        && ours.kind == Kind::Event
        && difference.field == "zxid"
        && theirs.number("zxid") == Some(-1)
        && event_zxid_is_right(situation, ours.number("zxid")?)
        && ours.fields[3..] == theirs.fields[3..]
    {
        return Some((Reason::EventZxid, Ruling::AsGood));
    }
    None
}
