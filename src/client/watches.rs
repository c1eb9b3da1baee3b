//! The watches that a client has at its server, so that they can be set again at another one.
//! Paths are the server's. Written by `session` as replies and events come.

use std::collections::BTreeSet;

use crate::jute::records::{EventType, SetWatches, SetWatches2};

use super::event::EventKind;

/// Bytes of paths in one request that sets watches again. More of them go into the next: a request
/// must stay below every server's `jute.maxbuffer` (ZOOKEEPER-706).
const SET_AGAIN_BYTES_MAX: usize = 128 << 10;

/// What a watch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// A znode's data, or its end; once.
    Data,
    /// A znode that does not exist, its coming; once.
    Exist,
    /// A znode's children; once.
    Child,
    /// A znode and its children; until removed.
    Persistent,
    /// A znode and everything below; until removed.
    Recursive,
}

/// Which watches to remove (`Watcher.WatcherType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum WatchSelection {
    Children = 1,
    Data = 2,
    Any = 3,
    Persistent = 4,
    PersistentRecursive = 5,
}

/// The watches of one client.
#[derive(Debug, Default)]
pub struct Watches {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

/// A request that sets watches again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAgain {
    /// Without persistent ones: servers before 3.6 take it too.
    Plain(SetWatches),
    /// With persistent ones.
    WithPersistent(SetWatches2),
}

impl Watches {
    /// The server has granted a watch.
    pub fn add(&mut self, kind: WatchKind, path: &str) {
        self.set(kind).insert(path.to_owned());
    }

    fn set(&mut self, kind: WatchKind) -> &mut BTreeSet<String> {
        match kind {
            WatchKind::Data => &mut self.data,
            WatchKind::Exist => &mut self.exist,
            WatchKind::Child => &mut self.child,
            WatchKind::Persistent => &mut self.persistent,
            WatchKind::Recursive => &mut self.recursive,
        }
    }

    /// An event came: the one-time watches that it used up are gone.
    pub fn fired(&mut self, event: EventType, path: &str) {
        match event {
            EventType::NodeCreated | EventType::NodeDataChanged => {
                self.data.remove(path);
                self.exist.remove(path);
            }
            EventType::NodeChildrenChanged => {
                self.child.remove(path);
            }
            EventType::NodeDeleted => {
                self.data.remove(path);
                self.exist.remove(path);
                self.child.remove(path);
            }
        }
    }

    /// Removes the watches on `path` that `selection` means, and says which events tell so: none
    /// when there was no such watch.
    pub fn remove(&mut self, selection: WatchSelection, path: &str) -> Vec<EventKind> {
        let any = selection == WatchSelection::Any;
        let mut removed = Vec::new();
        if any || selection == WatchSelection::Children {
            removed.extend(self.child.remove(path).then_some(EventKind::ChildWatchRemoved));
        }
        if any || selection == WatchSelection::Data {
            let there = self.data.remove(path) | self.exist.remove(path);
            removed.extend(there.then_some(EventKind::DataWatchRemoved));
        }
        let mut persistent = false;
        if any || selection == WatchSelection::Persistent {
            persistent |= self.persistent.remove(path);
        }
        if any || selection == WatchSelection::PersistentRecursive {
            persistent |= self.recursive.remove(path);
        }
        removed.extend(persistent.then_some(EventKind::PersistentWatchRemoved));
        removed
    }

    /// The requests that set all of them again, for a client that has seen everything through
    /// `zxid`. None when there are no watches.
    pub fn set_again(&self, zxid: i64) -> Vec<SetAgain> {
        let kinds = [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive];
        let mut all = kinds
            .iter()
            .enumerate()
            .flat_map(|(kind, set)| set.iter().map(move |path| (kind, path)));
        let mut requests = Vec::new();
        let mut next = all.next();
        while next.is_some() {
            let mut lists: [Vec<String>; 5] = Default::default();
            let mut bytes = 0;
            while let Some((kind, path)) = next
                && (bytes == 0 || bytes + path.len() <= SET_AGAIN_BYTES_MAX)
            {
                bytes += path.len();
                lists[kind].push(path.clone());
                next = all.next();
            }
            requests.push(set_again_request(zxid, lists));
        }
        requests
    }
}

fn set_again_request(relative_zxid: i64, lists: [Vec<String>; 5]) -> SetAgain {
    let [data_watches, exist_watches, child_watches, persistent, recursive] = lists;
    if persistent.is_empty() && recursive.is_empty() {
        SetAgain::Plain(SetWatches { relative_zxid, data_watches, exist_watches, child_watches })
    } else {
        SetAgain::WithPersistent(SetWatches2 {
            relative_zxid,
            data_watches,
            exist_watches,
            child_watches,
            persistent_watches: persistent,
            persistent_recursive_watches: recursive,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(watches: &Watches) -> Vec<SetAgain> {
        watches.set_again(9)
    }

    #[test]
    fn a_watch_is_set_again_until_its_event() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/a");
        watches.add(WatchKind::Child, "/a");
        watches.fired(EventType::NodeDataChanged, "/a");
        let only_child = SetWatches {
            relative_zxid: 9,
            data_watches: vec![],
            exist_watches: vec![],
            child_watches: vec!["/a".into()],
        };
        assert_eq!(again(&watches), [SetAgain::Plain(only_child)]);
        watches.fired(EventType::NodeDeleted, "/a");
        assert_eq!(again(&watches), []);
    }

    #[test]
    fn persistent_watches_outlive_their_events() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Recursive, "/a");
        watches.fired(EventType::NodeDeleted, "/a");
        let requests = again(&watches);
        let [SetAgain::WithPersistent(request)] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(request.persistent_recursive_watches, ["/a"]);
    }

    #[test]
    fn removing_says_what_was_removed() {
        let mut watches = Watches::default();
        assert_eq!(watches.remove(WatchSelection::Any, "/a"), []);
        watches.add(WatchKind::Exist, "/a");
        watches.add(WatchKind::Child, "/a");
        watches.add(WatchKind::Persistent, "/a");
        assert_eq!(watches.remove(WatchSelection::Children, "/a"), [EventKind::ChildWatchRemoved]);
        assert_eq!(
            watches.remove(WatchSelection::Any, "/a"),
            [EventKind::DataWatchRemoved, EventKind::PersistentWatchRemoved]
        );
        assert_eq!(again(&watches), []);
    }

    #[test]
    fn many_watches_are_set_again_in_several_requests() {
        let mut watches = Watches::default();
        let long = "x".repeat(1000);
        for number in 0..300 {
            watches.add(WatchKind::Data, &format!("/{long}{number}"));
        }
        watches.add(WatchKind::Persistent, &format!("/{}", "y".repeat(2 * SET_AGAIN_BYTES_MAX)));
        let requests = again(&watches);
        assert_eq!(requests.len(), 4);
        let data: usize = requests
            .iter()
            .map(|request| match request {
                SetAgain::Plain(request) => request.data_watches.len(),
                SetAgain::WithPersistent(request) => request.data_watches.len(),
            })
            .sum();
        assert_eq!(data, 300);
    }
}
