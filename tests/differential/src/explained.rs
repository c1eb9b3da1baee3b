//! The differences that are meant: where Ringkeeper is 3.9 and the peer is 3.8.0, and where
//! ZooKeeper's behaviour is a hole. Each rule is as narrow as its reason. `docs/compatibility.md`
//! has the list for users.

use std::collections::HashSet;

use crate::compare::Difference;
use crate::observation::{Frame, Kind};
use crate::peer::Release;
use crate::plain::Seen;
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
    /// 3.8 answers a create2 in a multi as a create, without a Stat.
    Create2InMulti,
    /// A multi with a create that no list of operations can hold (a bad flag, a TTL flag without a
    /// TTL, no ACL) fails as a whole since 3.9. In 3.8 the part fails.
    BadCreateInMulti,
    /// checkWatches and removeWatches know persistent watches as such since 3.9, and since then
    /// look at no other connection's.
    WatchKinds,
    /// In 3.8 a persistent watch is lost to any other watch that its connection puts on the path,
    /// and a recursive one is a watch of children, too.
    PersistentWatches,
    /// ZooKeeper takes a watch on null, which never fires. Ringkeeper does not decode it.
    NullWatch,
    /// A path in sync comes back as it was sent. ZooKeeper sends a character outside of the BMP as
    /// two surrogates of three bytes each, which is no UTF-8, and U+FFFD for what is none.
    SyncedText,
}

/// Every reason.
pub const REASONS: [Reason; 11] = [
    Reason::EventZxid,
    Reason::LoneCheck,
    Reason::UndecodableWrite,
    Reason::Ipv6Acl,
    Reason::ExistsUnchecked,
    Reason::Create2InMulti,
    Reason::BadCreateInMulti,
    Reason::WatchKinds,
    Reason::PersistentWatches,
    Reason::NullWatch,
    Reason::SyncedText,
];

/// The reason why a request is not asked in a comparison with this release: what follows would
/// differ, too.
pub fn left_out(request: &Request, release: Release) -> Option<Reason> {
    if let Request::Broken { request, how: Damage::Null } = request
        && matches!(request.op(), op::ADD_WATCH | op::CHECK_WATCHES | op::REMOVE_WATCHES)
    {
        return Some(Reason::NullWatch);
    }
    if release == Release::V39 {
        return None;
    }
    match request {
        Request::Check { .. } => Some(Reason::LoneCheck),
        Request::Broken {
            request,
            how: Damage::Short(_) | Damage::FirstLength(_) | Damage::Null | Damage::NoText,
        } if request.is_write() => Some(Reason::UndecodableWrite),
        Request::Broken { request, .. } => left_out(request, release),
        Request::Create { acl, .. } | Request::SetAcl { acl, .. } => {
            let is_v6 = |acl: &Acl| acl.scheme == "ip" && acl.id.contains(':');
            acl.iter().flatten().any(is_v6).then_some(Reason::Ipv6Acl)
        }
        Request::CheckWatches { .. } | Request::RemoveWatches { .. } => Some(Reason::WatchKinds),
        Request::AddWatch { .. } => Some(Reason::PersistentWatches),
        Request::SetWatches2 { persistent, recursive, .. }
            if !persistent.is_empty() || !recursive.is_empty() =>
        {
            Some(Reason::PersistentWatches)
        }
        Request::Multi(parts) if parts.iter().any(|part| part.op() == op::CREATE2) => {
            Some(Reason::Create2InMulti)
        }
        Request::Multi(parts) if parts.iter().any(is_bad_create) => Some(Reason::BadCreateInMulti),
        Request::Multi(parts) => parts
            .iter()
            .filter(|part| !matches!(part, Request::Check { .. }))
            .find_map(|part| left_out(part, release)),
        _ => None,
    }
}

fn is_bad_create(part: &Request) -> bool {
    let Request::Create { op, acl, flags, ttl, .. } = part else { return false };
    let is_ttl = *op == op::CREATE_TTL;
    let fits = if is_ttl {
        matches!(flags, 5 | 6) && (1..=0xff_ffff_ffff).contains(ttl)
    } else {
        (0..5).contains(flags)
    };
    acl.is_none() || !fits
}

/// How the comparison goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The two frames count as equal.
    AsGood,
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
    pub fn enter(&mut self, step: usize, ours: &Seen) {
        self.step = step;
        let frames = ours.raw(step).iter().flatten();
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
    // What the server does by itself has no reply.
    if matches!(situation.now(), Step::AwaitGone { .. }) {
        return true;
    }
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
    let is_no_text = |request: &Request| match request {
        Request::Sync { path } => path.chars().any(|c| c > '\u{ffff}'),
        Request::Broken { request, how: Damage::NoText } => request.op() == op::SYNC,
        _ => false,
    };
    if ["path", "undecodable"].contains(&difference.field.as_str())
        && situation.now().requests().iter().any(is_no_text)
    {
        return Some((Reason::SyncedText, Ruling::AsGood));
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
