//! Znodes that do not stay until somebody deletes them, by what their life hangs on: each
//! session's ephemerals, and the containers and TTL znodes. Kept by the writer, for the newest
//! version; filled while a tree is restored.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use super::owner::Owner;
use crate::ids::SessionId;

/// Their paths.
#[derive(Debug, Default)]
pub(super) struct Owned {
    ephemerals: HashMap<SessionId, BTreeSet<Box<str>>>,
    reapable: BTreeSet<Box<str>>,
}

impl Owned {
    /// There is a znode of `owner` at `path` now. Persistent ones are not kept.
    pub fn add(&mut self, owner: Owner, path: &str) {
        match owner {
            Owner::Persistent => {}
            Owner::Session(session) => {
                self.ephemerals.entry(session).or_default().insert(path.into());
            }
            Owner::Container | Owner::Ttl(_) => {
                self.reapable.insert(path.into());
            }
        }
    }

    /// The znode of `owner` at `path` is gone.
    pub fn forget(&mut self, owner: Owner, path: &str) {
        match owner {
            Owner::Persistent => {}
            Owner::Session(session) => {
                let Some(paths) = self.ephemerals.get_mut(&session) else { return };
                paths.remove(path);
                if paths.is_empty() {
                    self.ephemerals.remove(&session);
                }
            }
            Owner::Container | Owner::Ttl(_) => {
                self.reapable.remove(path);
            }
        }
    }

    /// The paths of a session's ephemerals, in order.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        self.ephemerals.get(&session).into_iter().flatten().map(|path| &**path)
    }

    /// The sessions that have ephemerals, in no defined order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.keys().copied()
    }

    /// The paths of containers and TTL znodes that come after `after`, in order.
    pub fn reapable(&self, after: &str) -> impl Iterator<Item = &str> + use<'_> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.reapable.range::<str, _>(range).map(|path| &**path)
    }
}
