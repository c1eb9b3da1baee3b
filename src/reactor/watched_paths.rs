//! The paths that somebody watches, each kept once, with who does. Found by their text; visited
//! one place after another, so that a visit of all of them can be done in pieces. Owned by
//! `watches`.
//!
//! Two hundred thousand watches are mostly two hundred thousand paths with one watcher each: a
//! place takes 32 bytes, its path an allocation, its entry in the index about 6 bytes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::ids::ConnId;

/// How a connection watches a path: a set of ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// In no way.
    pub const NONE: Modes = Modes(0);
    /// Of exists and getData: the znode came, went, or its data was set. Told once.
    pub const DATA: Modes = Modes(1);
    /// Of getChildren: a child came or went, or the znode itself went. Told once.
    pub const CHILD: Modes = Modes(2);
    /// Both, and told always.
    pub const PERSISTENT: Modes = Modes(4);
    /// As `DATA`, of the znode and everything below it, and told always.
    pub const RECURSIVE: Modes = Modes(8);
    /// All of them.
    pub const ANY: Modes = Modes(15);
    /// What ZooKeeper keeps in the table of data watches.
    pub const OF_DATA: Modes = Modes(1 | 4 | 8);
    /// What ZooKeeper keeps in the table of child watches.
    pub const OF_CHILDREN: Modes = Modes(2 | 4);

    /// Whether they have a way in common.
    pub const fn meet(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    pub const fn and(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }

    /// These without `other`.
    pub const fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
}

/// One connection that watches a path: a `ConnId`, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    slot: u32,
    tenant: u32,
    pub modes: Modes,
}

impl Watcher {
    /// `conn` watches in `modes`.
    pub fn new(conn: ConnId, modes: Modes) -> Watcher {
        Watcher { slot: conn.slot, tenant: conn.tenant, modes }
    }

    /// Who.
    pub fn conn(&self) -> ConnId {
        ConnId { slot: self.slot, tenant: self.tenant }
    }
}

/// By this watchers are sorted.
pub fn order(conn: &ConnId) -> (u32, u32) {
    (conn.slot, conn.tenant)
}

/// Who watches a path. Nearly always one connection, which then costs no allocation.
#[derive(Debug)]
enum Watchers {
    One(Watcher),
    /// Sorted by connection, each once. Boxed so that the common case stays small.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Watcher>>),
}

/// One path.
#[derive(Debug)]
pub struct WatchedPath {
    path: Box<str>,
    watchers: Watchers,
}

const _: () = assert!(size_of::<Option<WatchedPath>>() == 32, "a place of the table has grown");

impl WatchedPath {
    /// Its text.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Who watches it, sorted by connection.
    pub fn watchers(&self) -> &[Watcher] {
        match &self.watchers {
            Watchers::One(one) => std::slice::from_ref(one),
            Watchers::Many(many) => many,
        }
    }

    /// How `conn` watches it.
    pub fn modes_of(&self, conn: ConnId) -> Modes {
        let watchers = self.watchers();
        let at = watchers.binary_search_by_key(&order(&conn), |it| order(&it.conn()));
        at.map_or(Modes::NONE, |at| watchers[at].modes)
    }

    /// Lets `conn` watch it in `modes` too. Returns how it did before.
    fn add(&mut self, conn: ConnId, modes: Modes) -> Modes {
        if let Watchers::One(one) = &mut self.watchers {
            if one.conn() == conn {
                let before = one.modes;
                one.modes = before.and(modes);
                return before;
            }
            self.watchers = Watchers::Many(Box::new(vec![*one]));
        }
        let Watchers::Many(many) = &mut self.watchers else { unreachable!("just made of one") };
        match many.binary_search_by_key(&order(&conn), |it| order(&it.conn())) {
            Ok(at) => {
                let before = many[at].modes;
                many[at].modes = before.and(modes);
                before
            }
            Err(at) => {
                many.insert(at, Watcher::new(conn, modes));
                Modes::NONE
            }
        }
    }

    /// Shows every watcher to `keep`, which may change how it watches, and takes those out for
    /// which it says no. Whether any is left.
    fn retain(&mut self, mut keep: impl FnMut(&mut Watcher) -> bool) -> bool {
        match &mut self.watchers {
            Watchers::One(one) => keep(one),
            Watchers::Many(many) => {
                many.retain_mut(keep);
                if many.capacity() > 4 * many.len() {
                    many.shrink_to_fit();
                }
                !many.is_empty()
            }
        }
    }
}

/// The place of a path in the table.
pub type Place = u32;

/// Places that are made at once: a table that doubled would take twice what it holds.
const CHUNK: usize = 1024;

/// The table.
#[derive(Debug, Default)]
pub struct WatchedPaths {
    index: HashTable<Place>,
    hasher: RandomState,
    places: Places,
    vacant: Vec<Place>,
}

#[derive(Debug, Default)]
struct Places {
    /// Of `CHUNK` places each.
    chunks: Vec<Vec<Option<WatchedPath>>>,
}

impl Places {
    /// Places, vacant ones included.
    fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    fn at(&self, place: usize) -> Option<&WatchedPath> {
        self.chunks[place / CHUNK][place % CHUNK].as_ref()
    }

    fn at_mut(&mut self, place: usize) -> &mut Option<WatchedPath> {
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }

    fn push(&mut self, watched: WatchedPath) -> Place {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.last_mut().expect("there is one");
        last.push(Some(watched));
        Place::try_from(self.len() - 1).expect("fewer paths than fit memory")
    }

    /// The text of the path that the index says is there.
    fn text(&self, place: Place) -> &str {
        self.at(place as usize).expect("the index names places that have a path").path()
    }
}

impl WatchedPaths {
    /// Places that have a path or had one: visit them all, and all paths are visited.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// All paths.
    pub fn iter(&self) -> impl Iterator<Item = &WatchedPath> {
        self.places.chunks.iter().flatten().flatten()
    }

    /// The path, if it is here.
    pub fn get(&self, path: &str) -> Option<&WatchedPath> {
        self.places.at(self.find(path)? as usize)
    }

    /// Where the path is, if it is here.
    pub fn find(&self, path: &str) -> Option<Place> {
        let is_it = |place: &Place| self.places.text(*place) == path;
        self.index.find(self.hasher.hash_one(path), is_it).copied()
    }

    /// Lets `conn` watch `path` in `modes` too. Returns how it did before.
    pub fn add(&mut self, path: &str, conn: ConnId, modes: Modes) -> Modes {
        if let Some(place) = self.find(path) {
            let watched = self.places.at_mut(place as usize).as_mut();
            return watched.expect("the index names it").add(conn, modes);
        }
        let watchers = Watchers::One(Watcher::new(conn, modes));
        let watched = WatchedPath { path: path.into(), watchers };
        let place = match self.vacant.pop() {
            Some(place) => {
                *self.places.at_mut(place as usize) = Some(watched);
                place
            }
            None => self.places.push(watched),
        };
        let (hasher, places) = (&self.hasher, &self.places);
        let hash = |place: &Place| hasher.hash_one(places.text(*place));
        self.index.insert_unique(hasher.hash_one(path), place, hash);
        Modes::NONE
    }

    /// Shows every watcher of the path at `place` to `keep`, which may change how it watches, and
    /// takes those out for which it says no; the path too when none is left.
    pub fn retain(&mut self, place: usize, keep: impl FnMut(&mut Watcher) -> bool) {
        let at = self.places.at_mut(place);
        let Some(watched) = at else { return };
        if watched.retain(keep) {
            return;
        }
        let hash = self.hasher.hash_one(&*watched.path);
        *at = None;
        let place = place as Place;
        match self.index.find_entry(hash, |it| *it == place) {
            Ok(entry) => entry.remove(),
            Err(_) => panic!("the index has lost a path"),
        };
        self.vacant.push(place);
        if self.index.is_empty() {
            // Whoever had many watches does not keep their memory for ever.
            *self = WatchedPaths { hasher: self.hasher.clone(), ..WatchedPaths::default() };
        }
    }
}
