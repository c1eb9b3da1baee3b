//! The differences that are meant: where Ringkeeper is 3.9 and the peer is 3.8.0, and where
//! ZooKeeper's behaviour is a hole. Each rule is as narrow as its reason. `docs/compatibility.md`
//! has the list for users.

use std::collections::HashSet;

use crate::compare::Difference;
use crate::observation::{Frame, Kind};
use crate::peer::Release;
use crate::play::Transcript;
use crate::request::{Acl, Damage, Request, op};
use crate::script::{Script, Step};

/// Why a difference is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// 3.8 sends events with zxid -1; 3.9 and Ringkeeper with the change's.
    EventZxid,
    /// 3.8 answers a check outside of a multi, and it costs a zxid. 3.9 and Ringkeeper know none.
    LoneCheck,
    /// A write that cannot be decoded costs a zxid in 3.8, and none in 3.9 and Ringkeeper.
    UndecodableWrite,
    /// 3.8.0 refuses IPv6 addresses in ACLs of the scheme ip.
    Ipv6Acl,
    /// Since 3.8.4 and 3.9.2, exists of a znode needs READ.
    ExistsUnchecked,
    /// Since 3.8.4 and 3.9.2, an event goes to those only who may READ its znode.
    EventUnfiltered,
    /// ZooKeeper sends a character outside of the BMP as two surrogates of three bytes each, which
    /// is no UTF-8. Ringkeeper sends it as it came.
    Surrogates,
}

/// The reason why a request is not asked in a comparison with this release: what follows would
/// differ, too.
pub fn left_out(request: &Request, release: Release) -> Option<Reason> {
    if release == Release::V39 {
        return None;
    }
    match request {
        Request::Check { .. } => Some(Reason::LoneCheck),
        Request::Broken { request, how: Damage::Short(_) | Damage::FirstLength(_) }
            if is_write(request.op()) =>
        {
            Some(Reason::UndecodableWrite)
        }
        Request::Broken { request, .. } => left_out(request, release),
        Request::Create { acl, .. } | Request::SetAcl { acl, .. } => {
            let is_v6 = |acl: &Acl| acl.scheme == "ip" && acl.id.contains(':');
            acl.iter().flatten().any(is_v6).then_some(Reason::Ipv6Acl)
        }
        Request::Multi(parts) => parts
            .iter()
            .filter(|part| !matches!(part, Request::Check { .. }))
            .find_map(|part| left_out(part, release)),
        _ => None,
    }
}

fn is_write(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::CREATE2
            | op::CREATE_CONTAINER
            | op::CREATE_TTL
            | op::DELETE
            | op::SET_DATA
            | op::SET_ACL
            | op::MULTI
    )
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
    /// Paths that were to get an ACL with which not everybody may read.
    restricted: HashSet<&'a str>,
}

impl<'a> Situation<'a> {
    /// Before the first step.
    pub fn new(script: &'a Script, release: Release) -> Situation<'a> {
        Situation { script, release, step: 0, zxids: HashSet::new(), restricted: HashSet::new() }
    }

    /// Goes on to a step.
    pub fn enter(&mut self, step: usize, ours: &Transcript, _theirs: &Transcript) {
        self.step = step;
        let frames = ours.steps[step].iter().flatten();
        let answers = frames.filter(|frame| frame.kind == Kind::Reply);
        self.zxids = answers.filter_map(|frame| frame.number("zxid")).collect();
        self.script.steps[step].requests().iter().for_each(|request| self.restrict(request));
    }

    fn restrict(&mut self, request: &'a Request) {
        match request {
            Request::Create { path, acl, .. } | Request::SetAcl { path, acl, .. } => {
                let for_all = |acl: &Acl| acl.scheme == "world" && acl.perms & 1 != 0;
                if !acl.iter().flatten().any(for_all) {
                    self.restricted.insert(path);
                }
            }
            Request::Multi(parts) => parts.iter().for_each(|part| self.restrict(part)),
            _ => {}
        }
    }

    /// Whether a path, or the prefix of its sequential name, had an ACL that keeps somebody out.
    fn is_restricted(&self, path: &str) -> bool {
        const SUFFIX: usize = 10;
        let prefix = path.len().checked_sub(SUFFIX).and_then(|end| path.get(..end));
        [Some(path), prefix].into_iter().flatten().any(|path| self.restricted.contains(path))
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
    let sent_outside_the_bmp = |request: &Request| match request {
        Request::Sync { path } => path.chars().any(|c| c > '\u{ffff}'),
        _ => false,
    };
    if difference.field == "path" && situation.now().requests().iter().any(sent_outside_the_bmp) {
        let theirs = frames.1.and_then(|frame| frame.field("undecodable"));
        return theirs.map(|_| (Reason::Surrogates, Ruling::AsGood));
    }
    if situation.release == Release::V38 { explain_38(situation, difference, frames) } else { None }
}

/// What 3.8.0 does otherwise than 3.9 does.
fn explain_38(
    situation: &Situation<'_>,
    difference: &Difference,
    (ours, theirs): (Option<&Frame>, Option<&Frame>),
) -> Option<(Reason, Ruling)> {
    let theirs = theirs?;
    if let Some(ours) = ours
        && ours.kind == Kind::Event
        && difference.field == "zxid"
        && theirs.number("zxid") == Some(-1)
        && event_zxid_is_right(situation, ours.number("zxid")?)
        && ours.fields[3..] == theirs.fields[3..]
    {
        return Some((Reason::EventZxid, Ruling::AsGood));
    }
    if theirs.kind == Kind::Event && situation.is_restricted(theirs.path()?) {
        return Some((Reason::EventUnfiltered, Ruling::WithoutTheirs));
    }
    const NO_AUTH: i64 = -102;
    if let Some(ours) = ours
        && ours.number("err") == Some(NO_AUTH)
        && theirs.number("err") == Some(0)
    {
        let xid = ours.number("xid");
        let mut asked = situation.now().requests().iter();
        return match asked.rfind(|request| request.op() == op::EXISTS)? {
            _ if xid != theirs.number("xid") => None,
            // Theirs has a watch now that ours has not.
            Request::Exists { watch: true, .. } => {
                Some((Reason::ExistsUnchecked, Ruling::EndsHere))
            }
            _ => Some((Reason::ExistsUnchecked, Ruling::AsGood)),
        };
    }
    None
}
