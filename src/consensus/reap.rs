//! Containers that have lost their children and TTL znodes whose time is over: which are due, and
//! when to look. Called by `core`, which deletes what is due as transactions of the server itself.
//!
//! As in ZooKeeper there is a round every `znode.container.checkIntervalMs`, and at most
//! `znode.container.maxPerMinute` deletions a minute, evenly spaced. A round goes through the
//! paths of all containers and TTL znodes in steps of bounded size, so that writes do not wait for
//! it, however many there are; a znode is judged when its turn comes. Has no clock of its own.

use std::num::NonZeroU64;

use crate::limits::{REAP_LOOKS_MAX, REAP_STEP_MS};
use crate::tree::{NodeView, Owner, Writer};

/// What the configuration says about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaping {
    /// `znode.container.checkIntervalMs`.
    pub check_interval_ms: NonZeroU64,
    /// `znode.container.maxPerMinute`.
    pub per_minute: NonZeroU64,
    /// `znode.container.maxNeverUsedIntervalMs`: containers that never had children go when they
    /// are older than that; none: they stay.
    pub never_used_ms: Option<NonZeroU64>,
}

impl Default for Reaping {
    /// As ZooKeeper's defaults are.
    fn default() -> Reaping {
        const CHECK_INTERVAL_MS: NonZeroU64 = NonZeroU64::new(60_000).unwrap();
        const PER_MINUTE: NonZeroU64 = NonZeroU64::new(10_000).unwrap();
        Reaping {
            check_interval_ms: CHECK_INTERVAL_MS,
            per_minute: PER_MINUTE,
            never_used_ms: None,
        }
    }
}

const MS_PER_MINUTE: u64 = 60_000;

/// Where the rounds stand.
#[derive(Debug)]
pub struct Reaper {
    settings: Reaping,
    /// `extendedTypesEnabled`. Without it TTL znodes, which an earlier start may have left, stay.
    timed: bool,
    /// When the current or the next round begins.
    begins_ms: u64,
    /// In a round: the path that was looked at last.
    looked_at: Option<String>,
    /// When the last step was made, in a round.
    stepped_ms: u64,
    /// When the next step is due.
    due_ms: u64,
    /// Deletions that may be made now, each `MS_PER_MINUTE`; grows by `per_minute` each
    /// millisecond of a round.
    allowance: u64,
}

impl Reaper {
    /// The first round begins one interval after `now_ms`, milliseconds of the monotonic clock.
    pub fn new(settings: Reaping, timed: bool, now_ms: u64) -> Reaper {
        let begins_ms = now_ms.saturating_add(settings.check_interval_ms.get());
        let (looked_at, stepped_ms, due_ms, allowance) = (None, 0, begins_ms, 0);
        Reaper { settings, timed, begins_ms, looked_at, stepped_ms, due_ms, allowance }
    }

    /// When `step` has something to do next, milliseconds of the monotonic clock.
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Looks at a bounded number of znodes of `tree`, if it is time, and appends those to `found`
    /// that are to be deleted before anything else happens to the tree. `wall_ms` is the time
    /// since 1970.
    pub fn step(&mut self, tree: &Writer, now_ms: u64, wall_ms: i64, found: &mut Vec<String>) {
        if now_ms < self.due_ms {
            return;
        }
        let looked_at = match self.looked_at.take() {
            Some(path) => path,
            None => {
                (self.begins_ms, self.stepped_ms, self.allowance) = (now_ms, now_ms, MS_PER_MINUTE);
                String::new()
            }
        };
        let grown = (now_ms - self.stepped_ms).saturating_mul(self.settings.per_minute.get());
        let most = (REAP_LOOKS_MAX as u64).saturating_mul(MS_PER_MINUTE);
        self.allowance = self.allowance.saturating_add(grown).min(most);
        (self.stepped_ms, self.due_ms) = (now_ms, now_ms + REAP_STEP_MS);

        let mut last = None;
        let mut paths = tree.reapable(&looked_at).peekable();
        for _ in 0..REAP_LOOKS_MAX {
            let Some(path) = paths.peek() else { break };
            let node = tree.get(path).unwrap_or_else(|| panic!("{path} is kept, and not there"));
            if self.is_due(&node, wall_ms) {
                if self.allowance < MS_PER_MINUTE {
                    let short = MS_PER_MINUTE - self.allowance;
                    let wait_ms = short.div_ceil(self.settings.per_minute.get());
                    self.due_ms = now_ms + wait_ms.max(REAP_STEP_MS);
                    break;
                }
                self.allowance -= MS_PER_MINUTE;
                found.push((*path).to_owned());
            }
            last = paths.next();
        }
        if paths.peek().is_some() {
            self.looked_at = Some(last.map(str::to_owned).unwrap_or(looked_at));
        } else {
            let next = self.begins_ms.saturating_add(self.settings.check_interval_ms.get());
            self.due_ms = next.max(now_ms + REAP_STEP_MS);
        }
    }

    fn is_due(&self, node: &NodeView<'_>, wall_ms: i64) -> bool {
        if node.num_children() > 0 {
            return false;
        }
        let stored = node.stored();
        let age_ms = u64::try_from(wall_ms.saturating_sub(stored.mtime)).unwrap_or(0);
        match node.owner() {
            // A container that is new waits for its first child.
            Owner::Container => {
                let over = self.settings.never_used_ms.is_some_and(|most| age_ms > most.get());
                stored.cversion > 0 || over
            }
            Owner::Ttl(ttl_ms) => self.timed && age_ms > ttl_ms as u64,
            Owner::Persistent | Owner::Session(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Zxid;
    use crate::tree::AclId;

    const INTERVAL: u64 = 1_000;

    fn reaping(per_minute: u64, never_used_ms: u64) -> Reaping {
        Reaping {
            check_interval_ms: NonZeroU64::new(INTERVAL).unwrap(),
            per_minute: NonZeroU64::new(per_minute).unwrap(),
            never_used_ms: NonZeroU64::new(never_used_ms),
        }
    }

    /// A tree with these znodes, made at 0 ms.
    fn tree(znodes: impl IntoIterator<Item = (String, Owner)>) -> Writer {
        let (mut tree, _) = Writer::new();
        tree.begin(Zxid::from_bits(1), 0);
        for (path, owner) in znodes {
            tree.create(&path, None, AclId::OPEN, owner, None).unwrap();
        }
        tree
    }

    /// The container has had a child.
    fn used(tree: &mut Writer, path: &str) {
        let child = format!("{path}/child");
        tree.create(&child, None, AclId::OPEN, Owner::Persistent, None).unwrap();
        tree.delete(&child).unwrap();
    }

    fn step(reaper: &mut Reaper, tree: &Writer, now_ms: u64) -> Vec<String> {
        let mut found = Vec::new();
        reaper.step(tree, now_ms, now_ms as i64, &mut found);
        found
    }

    #[test]
    fn only_what_is_empty_and_over_goes() {
        let znode = |path: &str, owner| (path.to_owned(), owner);
        let mut tree = tree([
            znode("/full", Owner::Container),
            znode("/new", Owner::Container),
            znode("/persistent", Owner::Persistent),
            znode("/ttl-1000", Owner::Ttl(1_000)),
            znode("/ttl-999", Owner::Ttl(999)),
            znode("/ttl-full", Owner::Ttl(1)),
            znode("/used", Owner::Container),
        ]);
        for path in ["/full/child", "/ttl-full/child"] {
            tree.create(path, None, AclId::OPEN, Owner::Persistent, None).unwrap();
        }
        used(&mut tree, "/used");
        let mut reaper = Reaper::new(reaping(12_000, 0), true, 0);
        assert!(step(&mut reaper, &tree, INTERVAL - 1).is_empty());
        assert_eq!(step(&mut reaper, &tree, INTERVAL), ["/ttl-999"], "one at first");
        assert_eq!(step(&mut reaper, &tree, INTERVAL + 5), ["/used"]);
        assert_eq!(reaper.due_ms(), 2 * INTERVAL);
        let mut without_ttl = Reaper::new(reaping(60_000, 0), false, 0);
        assert_eq!(step(&mut without_ttl, &tree, INTERVAL), ["/used"]);
        let mut never_used = Reaper::new(reaping(60_000, 999), false, 0);
        assert_eq!(step(&mut never_used, &tree, INTERVAL), ["/new"]);
    }

    #[test]
    fn deletions_are_spread_evenly() {
        let mut tree = tree((0..9).map(|number| (format!("/c{number}"), Owner::Container)));
        (0..9).for_each(|number| used(&mut tree, &format!("/c{number}")));
        let mut reaper = Reaper::new(reaping(600, 0), true, 0);
        let mut gone = Vec::new();
        for now_ms in INTERVAL..INTERVAL + 801 {
            for path in step(&mut reaper, &tree, now_ms) {
                tree.delete(&path).unwrap();
                gone.push(now_ms - INTERVAL);
            }
        }
        assert_eq!(gone, [0, 100, 200, 300, 400, 500, 600, 700, 800]);
        assert_eq!(reaper.due_ms(), 2 * INTERVAL);
    }

    #[test]
    fn a_step_looks_at_a_bounded_number_and_a_round_at_all() {
        let count = 3 * REAP_LOOKS_MAX;
        let mut tree = tree((0..count).map(|number| (format!("/c{number:04}"), Owner::Container)));
        let last = format!("/c{:04}", count - 1);
        used(&mut tree, &last);
        let mut reaper = Reaper::new(reaping(60_000, 0), true, 0);
        let mut steps = 0;
        loop {
            let due_ms = reaper.due_ms();
            if !step(&mut reaper, &tree, due_ms).is_empty() {
                break;
            }
            steps += 1;
        }
        assert_eq!((steps, reaper.due_ms()), (2, 2 * INTERVAL));
    }

    #[test]
    fn a_round_that_takes_longer_than_the_interval_is_followed_by_the_next() {
        let mut tree = tree((0..2).map(|number| (format!("/c{number}"), Owner::Container)));
        (0..2).for_each(|number| used(&mut tree, &format!("/c{number}")));
        let mut reaper = Reaper::new(reaping(1, 0), true, 0);
        let mut times = Vec::new();
        for _ in 0..3 {
            let due_ms = reaper.due_ms();
            let found = step(&mut reaper, &tree, due_ms);
            found.iter().for_each(|path| tree.delete(path).unwrap());
            times.push((due_ms, found.len()));
        }
        let end = INTERVAL + 60_000;
        assert_eq!(times, [(INTERVAL, 1), (end, 1), (end + REAP_STEP_MS, 0)]);
    }
}
