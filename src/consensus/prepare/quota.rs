//! The limits of quotas, enforced if `enforceQuota` says so.

use std::collections::HashMap;

use crate::ids::Zxid;
use crate::jute::error_code::ErrorCode;
use crate::limits::QUOTA_WARNING_MS;
use crate::tree::{Quota, QuotaText, Writer};

/// Quotas that are remembered from one transaction to the next without the memory being given back.
const KNOWN_KEPT: usize = 64;

/// Whether limits are enforced, and when an excess was told last.
#[derive(Debug, Default)]
pub(super) struct Enforcement {
    on: bool,
    told_ms: Option<u64>,
    /// Since then.
    not_told: u64,
    /// The transaction of which `known` is.
    asked_in: Zxid,
    /// The quotas that a transaction has asked for, by root; none: that was no root before it. A
    /// multi asks as often as it has operations, and the more of those it has, the longer is the
    /// way from the newest counts to the ones before it.
    known: HashMap<Box<str>, Option<Standing>>,
}

/// What is allowed and what is counted.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Of znodes and of bytes; none: the limits cannot be read.
    bounds: Option<(Option<Bound>, Option<Bound>)>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
enum Counts {
    /// Nothing is counted.
    None,
    Unreadable,
    Of(i64, i64),
}

impl Standing {
    fn of(quota: &Quota<'_>) -> Standing {
        let bounds = QuotaText::parse(quota.limits).map(|limits| {
            let of_znodes = Bound::of(limits.count(), limits.count_hard_limit());
            (of_znodes, Bound::of(limits.bytes(), limits.byte_hard_limit()))
        });
        let counts = match quota.stats.map(QuotaText::parse) {
            None => Counts::None,
            Some(None) => Counts::Unreadable,
            Some(Some(text)) => Counts::Of(text.count(), text.bytes()),
        };
        Standing { bounds, counts }
    }
}

/// One bound of a quota: the hard one if there is one, or else the soft one, which is only told
/// of.
#[derive(Clone, Copy, Debug)]
struct Bound {
    most: i64,
    hard: bool,
}

impl Bound {
    fn of(soft: i64, hard: i64) -> Option<Bound> {
        match (soft, hard) {
            (_, 0..) => Some(Bound { most: hard, hard: true }),
            (0.., _) => Some(Bound { most: soft, hard: false }),
            _ => None,
        }
    }
}

impl Enforcement {
    pub fn new(on: bool) -> Enforcement {
        Enforcement { on, ..Enforcement::default() }
    }

    /// Whether a change that adds so many znodes and bytes at `path` keeps within its quota, as
    /// that stood before the transaction that is being made. An excess over a soft limit is
    /// logged, now and then.
    ///
    /// # Errors
    /// `QuotaExceeded`; `MarshallingError`, as in ZooKeeper, if the limits or counts cannot be
    /// read.
    pub fn check(
        &mut self,
        tree: &Writer,
        path: &str,
        (znodes, bytes): (i64, i64),
        now_ms: u64,
    ) -> Result<(), ErrorCode> {
        if !self.on {
            return Ok(());
        }
        let Some((root, standing)) = self.standing(tree, path) else { return Ok(()) };
        let (of_znodes, of_bytes) = standing.bounds.ok_or(ErrorCode::MarshallingError)?;
        let (of_znodes, of_bytes) =
            (of_znodes.filter(|_| znodes != 0), of_bytes.filter(|_| bytes != 0));
        if of_znodes.is_none() && of_bytes.is_none() {
            return Ok(());
        }
        let (count_now, bytes_now) = match standing.counts {
            Counts::None => return Ok(()),
            Counts::Unreadable => return Err(ErrorCode::MarshallingError),
            Counts::Of(count_now, bytes_now) => (count_now, bytes_now),
        };
        for (what, bound, now) in [
            ("count", of_znodes, count_now.saturating_add(znodes)),
            ("bytes", of_bytes, bytes_now.saturating_add(bytes)),
        ] {
            let Some(Bound { most, hard }) = bound.filter(|bound| now > bound.most) else {
                continue;
            };
            self.tell(root, what, now, most, hard, now_ms);
            if hard {
                return Err(ErrorCode::QuotaExceeded);
            }
        }
        Ok(())
    }

    /// The quota that `path` is under, if any, with its root.
    fn standing<'p>(&mut self, tree: &Writer, path: &'p str) -> Option<(&'p str, Standing)> {
        if self.asked_in != tree.newest() {
            self.asked_in = tree.newest();
            self.known.clear();
            self.known.shrink_to(KNOWN_KEPT);
        }
        tree.quota_roots(path).find_map(|root| {
            let standing = match self.known.get(root) {
                Some(known) => *known,
                None => {
                    let standing = tree.quota(root).map(|quota| Standing::of(&quota));
                    self.known.insert(root.into(), standing);
                    standing
                }
            };
            Some((root, standing?))
        })
    }

    /// Logs an excess, unless one was logged within the last `QUOTA_WARNING_MS`.
    fn tell(&mut self, root: &str, what: &str, now: i64, limit: i64, hard: bool, now_ms: u64) {
        if self.told_ms.is_some_and(|told_ms| now_ms < told_ms + QUOTA_WARNING_MS) {
            self.not_told += 1;
            return;
        }
        let not_told = std::mem::take(&mut self.not_told);
        tracing::warn!(root, what, now, limit, hard, not_told, "a quota is exceeded");
        self.told_ms = Some(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_goes_before_a_soft_one_and_negative_is_none() {
        let of = |soft, hard| Bound::of(soft, hard).map(|bound| (bound.most, bound.hard));
        assert_eq!(of(3, 4), Some((4, true)));
        assert_eq!(of(3, 0), Some((0, true)));
        assert_eq!(of(0, -1), Some((0, false)));
        assert_eq!(of(-1, -1), None);
    }

    #[test]
    fn excesses_are_told_now_and_then() {
        let mut enforcement = Enforcement::new(true);
        for now_ms in [0, 1, QUOTA_WARNING_MS - 1] {
            enforcement.tell("/a", "count", 2, 1, false, now_ms);
        }
        assert_eq!((enforcement.told_ms, enforcement.not_told), (Some(0), 2));
        enforcement.tell("/a", "count", 2, 1, false, QUOTA_WARNING_MS);
        assert_eq!((enforcement.told_ms, enforcement.not_told), (Some(QUOTA_WARNING_MS), 0));
    }
}
