//! The watches of a reactor's connections: set, fire, take away, forget. Called by `read` and
//! `watch_requests` (which set them) and `announce` (which fires them).
//!
//! ZooKeeper has two tables, of data watches (exists, getData) and of child watches (getChildren);
//! a persistent watch is in both, a persistent recursive one in the first. Here a path is kept once
//! for both, and what a connection has there is a set of modes.
//!
//! Watches of a connection that is gone stay until they would fire or make up half of all, when
//! they are swept out a piece at a time: so a connection need not know what it watches, which would
//! double the memory of a watch. Invariant: the counts are those of live watches.

use crate::ids::ConnId;
use crate::tree::path;

use super::watched_paths::{Modes, WatchedPaths, Watcher, order};

/// Which of ZooKeeper's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// The znode came, went, or its data was set.
    Data,
    /// A child came or went, or the znode itself went.
    Child,
}

/// Stale watches below which sweeping is not worth it.
const STALE_MIN: usize = 1024;

/// All watches.
#[derive(Debug, Default)]
pub struct Watches {
    paths: WatchedPaths,
    /// By slot: the connection that has it, and what it has.
    owners: Vec<WatchOwner>,
    /// Of all connections that are there. `tenant` means nothing.
    live: WatchOwner,
    /// Connections with a watch in the data table.
    data_owners: usize,
    /// Pairs of a path and a connection that is gone.
    stale: usize,
    /// The next place to be swept, while a sweep is under way.
    sweep: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct WatchOwner {
    tenant: u32,
    /// Paths that it watches in any way.
    pairs: u32,
    /// Those in the data table.
    data: u32,
    /// Those in the child table.
    child: u32,
    /// Those that it watches recursively.
    recursive: u32,
}

/// What operators are told of live watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Connections with a watch in the data table.
    pub data_connections: u64,
    /// Pairs of a connection and a path in the data table.
    pub data: u64,
    /// Pairs of a connection and a path in the child table.
    pub child: u64,
}

impl WatchOwner {
    /// It watches a path in `after` where it did in `before`.
    fn change(&mut self, before: Modes, after: Modes) {
        let count = |count: &mut u32, of: Modes| {
            *count += u32::from(after.meet(of));
            *count -= u32::from(before.meet(of));
        };
        count(&mut self.pairs, Modes::ANY);
        count(&mut self.data, Modes::OF_DATA);
        count(&mut self.child, Modes::OF_CHILDREN);
        count(&mut self.recursive, Modes::RECURSIVE);
    }

    fn subtract(&mut self, other: &WatchOwner) {
        self.pairs -= other.pairs;
        self.data -= other.data;
        self.child -= other.child;
        self.recursive -= other.recursive;
    }
}

/// Whether the connection is there. One that is gone, or never watched, has no pairs.
fn is_alive(owners: &[WatchOwner], conn: ConnId) -> bool {
    owners[conn.slot as usize].tenant == conn.tenant && owners[conn.slot as usize].pairs > 0
}

impl Watches {
    /// Sets a watch, if `conn` does not have it already.
    pub fn add(&mut self, modes: Modes, path: &str, conn: ConnId) {
        let slot = conn.slot as usize;
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, WatchOwner::default());
        }
        self.owners[slot].tenant = conn.tenant;
        let before = self.paths.add(path, conn, modes);
        self.changed(conn, before, before.and(modes));
    }

    /// `conn`, which is there, watches a path in `after` where it did in `before`.
    fn changed(&mut self, conn: ConnId, before: Modes, after: Modes) {
        let owner = &mut self.owners[conn.slot as usize];
        let had_data = owner.data > 0;
        owner.change(before, after);
        self.live.change(before, after);
        self.data_owners += usize::from(owner.data > 0);
        self.data_owners -= usize::from(had_data);
    }

    /// Puts into `told` who watches for what happened to `path`, sorted and each once; those that
    /// are told only once no longer watch.
    pub fn fire(&mut self, kind: WatchKind, path: &str, told: &mut Vec<ConnId>) {
        told.clear();
        let (table, once) = match kind {
            WatchKind::Data => (Modes::OF_DATA, Modes::DATA),
            WatchKind::Child => (Modes::OF_CHILDREN, Modes::CHILD),
        };
        let live = match kind {
            WatchKind::Data => self.live.data,
            WatchKind::Child => self.live.child,
        };
        if live == 0 {
            return;
        }
        if let Some(place) = self.paths.find(path) {
            self.visit(place as usize, |watcher| {
                if watcher.modes.meet(table) {
                    told.push(watcher.conn());
                }
                watcher.modes.without(once)
            });
        }
        if kind == WatchKind::Data && self.live.recursive > 0 {
            self.collect_above(path, told);
        }
    }

    /// Adds to `told` who watches one of the znodes above `path` recursively.
    fn collect_above(&self, path: &str, told: &mut Vec<ConnId>) {
        let own = told.len();
        let mut at = path;
        while let Some(above) = path::parent(at) {
            at = above;
            let Some(watched) = self.paths.get(above) else { continue };
            let recursive = watched.watchers().iter().filter(|it| it.modes.meet(Modes::RECURSIVE));
            told.extend(recursive.map(Watcher::conn).filter(|conn| is_alive(&self.owners, *conn)));
        }
        if told.len() > own {
            told.sort_unstable_by_key(order);
            told.dedup();
        }
    }

    /// Shows every live watcher of the path at `place` to `after`, which says how it watches from
    /// now on. Stale ones go.
    fn visit(&mut self, place: usize, mut after: impl FnMut(&Watcher) -> Modes) {
        let Watches { paths, owners, live, data_owners, stale, .. } = self;
        paths.retain(place, |watcher| {
            let conn = watcher.conn();
            if !is_alive(owners, conn) {
                *stale -= 1;
                return false;
            }
            let (before, after) = (watcher.modes, after(watcher));
            if before != after {
                let owner = &mut owners[conn.slot as usize];
                let had_data = owner.data > 0;
                owner.change(before, after);
                live.change(before, after);
                *data_owners -= usize::from(had_data && owner.data == 0);
                watcher.modes = after;
            }
            after != Modes::NONE
        });
    }

    /// Whether `conn` watches `path` in one of `modes`.
    pub fn has(&self, modes: Modes, path: &str, conn: ConnId) -> bool {
        self.paths.get(path).is_some_and(|watched| watched.modes_of(conn).meet(modes))
    }

    /// Takes from `conn` what it has of `modes` on `path`. Whether it had any.
    pub fn remove(&mut self, modes: Modes, path: &str, conn: ConnId) -> bool {
        let had = self.has(modes, path, conn);
        if had && let Some(place) = self.paths.find(path) {
            self.visit(place as usize, |watcher| {
                let its = watcher.conn() == conn;
                if its { watcher.modes.without(modes) } else { watcher.modes }
            });
        }
        had
    }

    /// The connection is gone. Takes the same time whatever it watched.
    pub fn forget(&mut self, conn: ConnId) {
        let Some(owner) = self.owners.get_mut(conn.slot as usize) else { return };
        if owner.tenant != conn.tenant {
            return;
        }
        let had =
            std::mem::replace(owner, WatchOwner { tenant: conn.tenant, ..Default::default() });
        self.live.subtract(&had);
        self.data_owners -= usize::from(had.data > 0);
        self.stale += had.pairs as usize;
        self.begin_sweep();
    }

    fn begin_sweep(&mut self) {
        // A sweep looks at every place, so there has to be enough to be found.
        let worth = STALE_MIN.max(self.live.pairs as usize).max(self.paths.places() / 8);
        if self.sweep.is_none() && self.stale > worth {
            self.sweep = Some(0);
        }
    }

    /// Whether there is something to sweep out.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Takes what connections that are gone left behind out of at most `places` places.
    pub fn sweep(&mut self, places: usize) {
        let Some(start) = self.sweep else { return };
        let end = self.paths.places().min(start + places);
        for place in start..end {
            self.visit(place, |watcher| watcher.modes);
            if self.stale == 0 {
                self.sweep = None;
                return;
            }
        }
        self.sweep = (end < self.paths.places()).then_some(end);
        self.begin_sweep();
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.live.pairs == 0
    }

    /// How much there is.
    pub fn counts(&self) -> WatchCounts {
        WatchCounts {
            data_connections: self.data_owners as u64,
            data: u64::from(self.live.data),
            child: u64::from(self.live.child),
        }
    }

    /// The live watches of the data table, path by path.
    pub fn data_watches(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = ConnId>)> {
        self.paths.iter().filter_map(|watched| {
            let of_data = |watcher: &Watcher| watcher.modes.meet(Modes::OF_DATA);
            let alive = watched.watchers().iter().filter(move |it| of_data(it));
            let mut alive =
                alive.map(Watcher::conn).filter(|conn| is_alive(&self.owners, *conn)).peekable();
            alive.peek()?;
            Some((watched.path(), alive))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32, tenant: u32) -> ConnId {
        ConnId { slot, tenant }
    }

    fn fired(watches: &mut Watches, kind: WatchKind, path: &str) -> Vec<u32> {
        let mut told = Vec::new();
        watches.fire(kind, path, &mut told);
        told.iter().map(|conn| conn.slot).collect()
    }

    const NOBODY: [u32; 0] = [];

    #[test]
    fn a_data_watch_fires_once_and_is_gone() {
        let mut watches = Watches::default();
        watches.add(Modes::DATA, "/lock", conn(7, 1));
        watches.add(Modes::DATA, "/lock", conn(7, 1));
        assert_eq!(fired(&mut watches, WatchKind::Child, "/lock"), NOBODY);
        assert_eq!(fired(&mut watches, WatchKind::Data, "/lock"), [7]);
        assert_eq!(fired(&mut watches, WatchKind::Data, "/lock"), NOBODY);
        assert!(watches.is_empty() && watches.paths.iter().count() == 0);
    }

    #[test]
    fn a_persistent_watch_fires_in_both_tables_and_stays() {
        let mut watches = Watches::default();
        watches.add(Modes::PERSISTENT, "/a", conn(1, 1));
        for _ in 0..3 {
            assert_eq!(fired(&mut watches, WatchKind::Data, "/a"), [1]);
            assert_eq!(fired(&mut watches, WatchKind::Child, "/a"), [1]);
            assert_eq!(fired(&mut watches, WatchKind::Data, "/a/b"), NOBODY);
        }
        let counts = WatchCounts { data_connections: 1, data: 1, child: 1 };
        assert_eq!(watches.counts(), counts);
    }

    #[test]
    fn a_recursive_watch_fires_for_everything_below_and_never_for_children() {
        let mut watches = Watches::default();
        watches.add(Modes::RECURSIVE, "/a", conn(1, 1));
        watches.add(Modes::RECURSIVE, "/", conn(2, 1));
        for (path, told) in [("/a", &[1, 2][..]), ("/a/b/c", &[1, 2]), ("/ab", &[2]), ("/", &[2])] {
            assert_eq!(fired(&mut watches, WatchKind::Data, path), told, "{path}");
            assert_eq!(fired(&mut watches, WatchKind::Child, path), NOBODY, "{path}");
        }
        assert!(watches.remove(Modes::RECURSIVE, "/", conn(2, 1)));
        assert_eq!(fired(&mut watches, WatchKind::Data, "/ab"), NOBODY);
        assert_eq!(watches.counts(), WatchCounts { data_connections: 1, data: 1, child: 0 });
    }

    #[test]
    fn who_watches_in_several_ways_and_places_is_told_once() {
        let mut watches = Watches::default();
        for path in ["/", "/a", "/a/b"] {
            watches.add(Modes::RECURSIVE, path, conn(1, 1));
            watches.add(Modes::PERSISTENT, path, conn(1, 1));
            watches.add(Modes::DATA, path, conn(1, 1));
        }
        watches.add(Modes::DATA, "/a/b", conn(0, 1));
        watches.add(Modes::RECURSIVE, "/a", conn(3, 1));
        assert_eq!(fired(&mut watches, WatchKind::Data, "/a/b"), [0, 1, 3]);
        assert_eq!(fired(&mut watches, WatchKind::Data, "/a/b"), [1, 3]);
    }

    #[test]
    fn taking_one_mode_away_leaves_the_others() {
        let modes = [Modes::DATA, Modes::CHILD, Modes::PERSISTENT, Modes::RECURSIVE];
        for gone in modes {
            let mut watches = Watches::default();
            modes.iter().for_each(|it| watches.add(*it, "/a", conn(1, 1)));
            watches.add(gone, "/a", conn(2, 1));
            assert!(watches.remove(gone, "/a", conn(1, 1)));
            assert!(!watches.remove(gone, "/a", conn(1, 1)));
            for mode in modes {
                assert_eq!(watches.has(mode, "/a", conn(1, 1)), mode != gone, "{mode:?}");
            }
            assert!(watches.has(gone, "/a", conn(2, 1)), "another connection keeps its own");
            assert!(watches.remove(Modes::ANY, "/a", conn(1, 1)));
            assert!(!watches.has(Modes::ANY, "/a", conn(1, 1)));
            watches.remove(Modes::ANY, "/a", conn(2, 1));
            assert!(watches.is_empty() && watches.paths.iter().count() == 0);
            assert_eq!(watches.counts(), WatchCounts::default());
        }
    }

    #[test]
    fn the_counts_are_those_of_live_watches() {
        let mut watches = Watches::default();
        for (slot, path) in [(1, "/a"), (1, "/b"), (2, "/a"), (2, "/a"), (3, "/c")] {
            watches.add(Modes::DATA, path, conn(slot, 0));
        }
        watches.add(Modes::CHILD, "/a", conn(1, 0));
        watches.add(Modes::CHILD, "/z", conn(9, 0));
        let counts = |watches: &Watches| {
            let WatchCounts { data_connections, data, child } = watches.counts();
            (data_connections, watches.data_watches().count(), data, child)
        };
        assert_eq!(counts(&watches), (3, 3, 4, 2));
        watches.forget(conn(3, 0));
        assert_eq!(counts(&watches), (2, 2, 3, 2));
        fired(&mut watches, WatchKind::Data, "/a");
        assert_eq!(counts(&watches), (1, 1, 1, 2));
        fired(&mut watches, WatchKind::Data, "/b");
        assert_eq!(counts(&watches), (0, 0, 0, 2));
        assert!(!watches.is_empty(), "the child watches are left");
    }

    #[test]
    fn every_watcher_of_a_path_is_told_once() {
        let mut watches = Watches::default();
        for slot in [3, 1, 2, 3, 1] {
            watches.add(Modes::CHILD, "/a", conn(slot, 0));
        }
        assert_eq!(fired(&mut watches, WatchKind::Child, "/a"), [1, 2, 3]);
    }

    #[test]
    fn the_next_tenant_of_a_slot_does_not_inherit_watches() {
        for mode in [Modes::DATA, Modes::RECURSIVE] {
            let mut watches = Watches::default();
            watches.add(mode, "/a", conn(0, 1));
            watches.forget(conn(0, 1));
            watches.add(mode, "/b", conn(0, 2));
            watches.add(mode, "/a", conn(1, 1));
            assert_eq!(fired(&mut watches, WatchKind::Data, "/a"), [1]);
            assert_eq!(fired(&mut watches, WatchKind::Data, "/b"), [0]);
        }
    }

    #[test]
    fn what_gone_connections_left_behind_is_swept_out_piece_by_piece() {
        let modes = [Modes::DATA, Modes::CHILD, Modes::PERSISTENT, Modes::RECURSIVE];
        let mut watches = Watches::default();
        watches.add(Modes::RECURSIVE, "/stays", conn(1, 0));
        for round in 0..200 {
            for number in 0..100 {
                let path = format!("/{round}/{number}");
                watches.add(modes[number % 4], &path, conn(0, round));
            }
            watches.forget(conn(0, round));
            watches.sweep(20);
        }
        while watches.is_sweeping() {
            watches.sweep(20);
        }
        let left = watches.paths.iter().count();
        assert!(left <= STALE_MIN + 101, "{left} left");
        assert_eq!(watches.counts(), WatchCounts { data_connections: 1, data: 1, child: 0 });
        assert_eq!(fired(&mut watches, WatchKind::Data, "/stays/x"), [1]);
    }

    #[test]
    fn the_memory_of_many_watches_goes_with_the_last() {
        let mut watches = Watches::default();
        for number in 0..5000 {
            watches.add(Modes::DATA, &format!("/{number}"), conn(0, 1));
        }
        assert_eq!(watches.paths.places(), 5000);
        watches.forget(conn(0, 1));
        while watches.is_sweeping() {
            watches.sweep(1000);
        }
        assert_eq!(watches.paths.places(), 0);
    }

    proptest::proptest! {
        /// Against a plain model: a set of (path, connection, mode).
        #[test]
        fn watches_are_a_set_of_modes_by_path_and_connection(
            steps in proptest::collection::vec((0u8..6, 0usize..7, 0u32..4, 0usize..4), 1..200),
        ) {
            use std::collections::BTreeSet;
            const PATHS: [&str; 7] = ["/", "/a", "/a/b", "/a/b/c", "/b", "", "nope"];
            const MODES: [Modes; 4] =
                [Modes::DATA, Modes::CHILD, Modes::PERSISTENT, Modes::RECURSIVE];
            let mut watches = Watches::default();
            let mut model: BTreeSet<(usize, u32, usize)> = BTreeSet::new();
            let mut tenants = [0u32; 4];
            for (step, path, slot, mode) in steps {
                let who = conn(slot, tenants[slot as usize]);
                match step {
                    0..=2 => {
                        watches.add(MODES[mode], PATHS[path], who);
                        model.insert((path, slot, mode));
                    }
                    3 => {
                        let removed = watches.remove(MODES[mode], PATHS[path], who);
                        proptest::prop_assert_eq!(removed, model.remove(&(path, slot, mode)));
                    }
                    4 if mode == 0 => {
                        watches.forget(who);
                        tenants[slot as usize] += 1;
                        model.retain(|it| it.1 != slot);
                        watches.sweep = Some(0);
                        watches.sweep(1 + path);
                    }
                    _ => {
                        let data = mode % 2 == 0;
                        let kind = if data { WatchKind::Data } else { WatchKind::Child };
                        let above = |at: usize| {
                            let top = PATHS[at];
                            at == path || PATHS[path].starts_with('/') && top.starts_with('/')
                                && (top == "/" || PATHS[path].starts_with(&format!("{top}/")))
                        };
                        let hears = |it: &&(usize, u32, usize)| match it.2 {
                            0 => data && it.0 == path,
                            1 => !data && it.0 == path,
                            2 => it.0 == path,
                            _ => data && above(it.0),
                        };
                        let told: BTreeSet<u32> = model.iter().filter(hears).map(|it| it.1).collect();
                        let told: Vec<u32> = told.into_iter().collect();
                        proptest::prop_assert_eq!(fired(&mut watches, kind, PATHS[path]), told);
                        model.retain(|it| !(it.0 == path && it.2 == usize::from(!data)));
                    }
                }
                let pairs = |of: &[usize]| {
                    let pairs: BTreeSet<_> = model.iter().filter(|it| of.contains(&it.2))
                        .map(|it| (it.0, it.1)).collect();
                    pairs.len() as u64
                };
                let counts = watches.counts();
                proptest::prop_assert_eq!(counts.data, pairs(&[0, 2, 3]));
                proptest::prop_assert_eq!(counts.child, pairs(&[1, 2]));
            }
        }
    }
}
