//! The one-shot watches of a reactor's connections: set, fire, forget. Called by `read` (which
//! sets them) and `announce` (which fires them).
//!
//! There are two tables, as in ZooKeeper: data watches (exists, getData) and child watches
//! (getChildren). Watches of a connection that is gone stay in the tables until they fire or make
//! up half of all, when they are swept out: so a connection need not know what it watches, which
//! would double the memory of a watch. Invariant: the counts are those of live watches.

use std::collections::HashMap;

use crate::ids::ConnId;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Of exists and getData: the znode came, went, or its data was set.
    Data,
    /// Of getChildren: a child came or went, or the znode itself went.
    Child,
}

/// Stale watches below which sweeping is not worth it.
const STALE_MIN: usize = 1024;

/// Both tables.
#[derive(Debug, Default)]
pub struct Watches {
    data: HashMap<Box<str>, Watchers>,
    child: HashMap<Box<str>, Watchers>,
    /// By slot: the connection that has it, and how many watches it has.
    owners: Vec<WatchOwner>,
    live: usize,
    /// Those of `live` in the data table.
    live_data: usize,
    /// Connections with a watch in the data table.
    data_owners: usize,
    stale: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct WatchOwner {
    tenant: u32,
    /// In both tables.
    watches: u32,
    /// Those in the data table.
    data: u32,
}

/// Who watches a path. Nearly always one connection, which then costs no allocation.
#[derive(Debug)]
enum Watchers {
    One(ConnId),
    /// Sorted, without duplicates. Boxed so that the common case stays small.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<ConnId>>),
}

fn order(conn: &ConnId) -> (u32, u32) {
    (conn.slot, conn.tenant)
}

impl Watchers {
    /// Whether `conn` was not there yet.
    fn add(&mut self, conn: ConnId) -> bool {
        match self {
            Watchers::One(one) if *one == conn => false,
            Watchers::One(one) => {
                let mut both = vec![*one, conn];
                both.sort_unstable_by_key(order);
                *self = Watchers::Many(Box::new(both));
                true
            }
            Watchers::Many(many) => match many.binary_search_by_key(&order(&conn), order) {
                Ok(_) => false,
                Err(at) => {
                    many.insert(at, conn);
                    true
                }
            },
        }
    }

    fn as_slice(&self) -> &[ConnId] {
        match self {
            Watchers::One(one) => std::slice::from_ref(one),
            Watchers::Many(many) => many,
        }
    }

    /// Keeps those that `keep` says; false when nobody is left.
    fn retain(&mut self, keep: impl Fn(&ConnId) -> bool) -> bool {
        match self {
            Watchers::One(one) => keep(one),
            Watchers::Many(many) => {
                many.retain(keep);
                many.shrink_to_fit();
                !many.is_empty()
            }
        }
    }
}

impl Watches {
    /// Leaves a watch of `conn` on `path`. One that is there already stays the only one.
    pub fn add(&mut self, kind: WatchKind, path: &str, conn: ConnId) {
        let slot = conn.slot as usize;
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, WatchOwner::default());
        }
        let table = match kind {
            WatchKind::Data => &mut self.data,
            WatchKind::Child => &mut self.child,
        };
        let added = match table.get_mut(path) {
            Some(watchers) => watchers.add(conn),
            None => {
                table.insert(path.into(), Watchers::One(conn));
                true
            }
        };
        if added {
            let owner = &mut self.owners[slot];
            assert!(
                owner.watches == 0 || owner.tenant == conn.tenant,
                "the watches of slot {slot}'s tenant {} were not forgotten",
                owner.tenant
            );
            owner.tenant = conn.tenant;
            owner.watches += 1;
            self.live += 1;
            if kind == WatchKind::Data {
                self.data_owners += usize::from(owner.data == 0);
                owner.data += 1;
                self.live_data += 1;
            }
        }
    }

    /// Takes the watches on `path` away and appends who had them to `watchers`.
    pub fn fire(&mut self, kind: WatchKind, path: &str, watchers: &mut Vec<ConnId>) {
        let table = match kind {
            WatchKind::Data => &mut self.data,
            WatchKind::Child => &mut self.child,
        };
        if table.is_empty() {
            return;
        }
        let Some(fired) = table.remove(path) else { return };
        for &conn in fired.as_slice() {
            let owner = &mut self.owners[conn.slot as usize];
            if owner.watches > 0 && owner.tenant == conn.tenant {
                owner.watches -= 1;
                self.live -= 1;
                if kind == WatchKind::Data {
                    owner.data -= 1;
                    self.live_data -= 1;
                    self.data_owners -= usize::from(owner.data == 0);
                }
                watchers.push(conn);
            } else {
                self.stale -= 1;
            }
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        let Some(owner) = self.owners.get_mut(conn.slot as usize) else { return };
        if owner.tenant == conn.tenant {
            self.live -= owner.watches as usize;
            self.live_data -= owner.data as usize;
            self.data_owners -= usize::from(owner.data > 0);
            self.stale += owner.watches as usize;
            (owner.watches, owner.data) = (0, 0);
        }
        if self.stale > self.live.max(STALE_MIN) {
            self.sweep();
        }
    }

    /// Takes what connections that are gone left behind out of the tables.
    fn sweep(&mut self) {
        let owners = &self.owners;
        let alive = |conn: &ConnId| {
            let owner = owners[conn.slot as usize];
            owner.watches > 0 && owner.tenant == conn.tenant
        };
        for table in [&mut self.data, &mut self.child] {
            table.retain(|_, watchers| watchers.retain(alive));
            if table.capacity() > 4 * table.len() {
                table.shrink_to_fit();
            }
        }
        self.stale = 0;
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Connections, paths and watches of the data table, as `wchs` counts them. Operators ask
    /// often, so nothing is counted here; but stale watches are swept out, or their paths would
    /// count.
    pub fn count_data(&mut self) -> (u64, u64, u64) {
        if self.stale > 0 {
            self.sweep();
        }
        (self.data_owners as u64, self.data.len() as u64, self.live_data as u64)
    }

    /// The live watches of the data table.
    pub fn list_data(&self) -> impl Iterator<Item = (ConnId, &str)> {
        self.data.iter().flat_map(|(path, watchers)| {
            watchers.as_slice().iter().filter_map(|conn| {
                let owner = self.owners[conn.slot as usize];
                let alive = owner.watches > 0 && owner.tenant == conn.tenant;
                alive.then_some((*conn, &**path))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32, tenant: u32) -> ConnId {
        ConnId { slot, tenant }
    }

    fn fired(watches: &mut Watches, kind: WatchKind, path: &str) -> Vec<ConnId> {
        let mut watchers = Vec::new();
        watches.fire(kind, path, &mut watchers);
        watchers
    }

    #[test]
    fn a_data_watch_fires_once_and_is_gone() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/lock", conn(7, 1));
        watches.add(WatchKind::Data, "/lock", conn(7, 1));
        assert_eq!(fired(&mut watches, WatchKind::Child, "/lock"), []);
        assert_eq!(fired(&mut watches, WatchKind::Data, "/lock"), [conn(7, 1)]);
        assert_eq!(fired(&mut watches, WatchKind::Data, "/lock"), []);
        assert!(watches.is_empty());
    }

    #[test]
    fn the_counts_are_those_of_live_data_watches() {
        let mut watches = Watches::default();
        for (slot, path) in [(1, "/a"), (1, "/b"), (2, "/a"), (2, "/a"), (3, "/c")] {
            watches.add(WatchKind::Data, path, conn(slot, 0));
        }
        watches.add(WatchKind::Child, "/a", conn(1, 0));
        watches.add(WatchKind::Child, "/z", conn(9, 0));
        assert_eq!(watches.count_data(), (3, 3, 4));
        watches.forget(conn(3, 0));
        assert_eq!(watches.count_data(), (2, 2, 3));
        fired(&mut watches, WatchKind::Data, "/a");
        assert_eq!(watches.count_data(), (1, 1, 1));
        fired(&mut watches, WatchKind::Data, "/b");
        assert_eq!(watches.count_data(), (0, 0, 0));
        assert!(!watches.is_empty(), "the child watches are left");
    }

    #[test]
    fn every_watcher_of_a_path_is_told_once() {
        let mut watches = Watches::default();
        for slot in [3, 1, 2, 3, 1] {
            watches.add(WatchKind::Child, "/a", conn(slot, 0));
        }
        let watchers = fired(&mut watches, WatchKind::Child, "/a");
        assert_eq!(watchers, [conn(1, 0), conn(2, 0), conn(3, 0)]);
    }

    #[test]
    fn the_next_tenant_of_a_slot_does_not_inherit_watches() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/a", conn(0, 1));
        watches.forget(conn(0, 1));
        watches.add(WatchKind::Data, "/b", conn(0, 2));
        assert_eq!(fired(&mut watches, WatchKind::Data, "/a"), []);
        assert_eq!(fired(&mut watches, WatchKind::Data, "/b"), [conn(0, 2)]);
    }

    #[test]
    fn what_gone_connections_left_behind_is_swept_out() {
        let mut watches = Watches::default();
        for round in 0..100 {
            for number in 0..100 {
                watches.add(WatchKind::Data, &format!("/{round}/{number}"), conn(0, round));
            }
            watches.forget(conn(0, round));
        }
        assert!(watches.data.len() <= STALE_MIN + 100, "{} left", watches.data.len());
        assert_eq!(watches.count_data(), (0, 0, 0));
    }
}
