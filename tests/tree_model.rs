//! The tree against a plain model: random transactions, some taken back, some published late, while
//! readers pinned at random old zxids compare all that they can see with a full copy of each
//! version.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::tree::{
    AclId, Descendants, NodeView, Owner, Quota, Reader, Registry, StoredStat, TreeError, View,
    Writer,
};

/// Few paths, so that transactions meet; parents, children and grandchildren.
const PATHS: [&str; 20] = [
    "/a",
    "/b",
    "/a/x",
    "/a/y",
    "/b/x",
    "/a/x/1",
    "/a/x/2",
    "/b/x/1",
    "/a/x/1/deep",
    "/longer-name",
    "/a/x/1/deep/er",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/x",
    "/zookeeper/quota/a/x/zookeeper_limits",
    "/zookeeper/quota/a/x/zookeeper_stats",
    "/zookeeper/quota/zookeeper",
    "/zookeeper/quota/zookeeper/zookeeper_limits",
    "/zookeeper/quota/zookeeper/zookeeper_stats",
];
const QUOTA_ROOTS: [&str; 3] = ["/a", "/a/x", "/zookeeper"];
const SESSIONS: i64 = 3;
const READERS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Create {
        path: usize,
        data: u8,
        acl: u8,
        session: i64,
        parent_cversion: Option<i32>,
    },
    Delete {
        path: usize,
    },
    SetData {
        path: usize,
        data: u8,
    },
    SetAcl {
        path: usize,
        acl: u8,
    },
    TakeBack,
    /// To this many transactions before the newest, if none of them is published.
    TakeBackLast {
        transactions: usize,
    },
    /// All but this many.
    Publish {
        but: usize,
    },
    Reclaim,
    Pin {
        reader: usize,
    },
    Hold {
        reader: usize,
    },
    Move {
        reader: usize,
        back: usize,
    },
    Unpin {
        reader: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // Parents more often, for all else hangs on them.
    let path = prop_oneof![3 => 0..PATHS.len(), 1 => 0..3usize, 1 => 11..PATHS.len()];
    prop_oneof![
        6 => Just(Step::Begin),
        8 => (path.clone(), any::<u8>(), 0..3u8, 0..8i64, prop::option::weighted(0.1, -2..9i32))
            .prop_map(|(path, data, acl, session, parent_cversion)| {
                Step::Create { path, data, acl, session, parent_cversion }
            }),
        5 => path.clone().prop_map(|path| Step::Delete { path }),
        4 => (path.clone(), any::<u8>()).prop_map(|(path, data)| Step::SetData { path, data }),
        2 => (path, 0..3u8).prop_map(|(path, acl)| Step::SetAcl { path, acl }),
        1 => Just(Step::TakeBack),
        1 => (0..4usize).prop_map(|transactions| Step::TakeBackLast { transactions }),
        4 => (0..4usize).prop_map(|but| Step::Publish { but }),
        1 => Just(Step::Reclaim),
        2 => (0..READERS).prop_map(|reader| Step::Pin { reader }),
        1 => (0..READERS).prop_map(|reader| Step::Hold { reader }),
        2 => (0..READERS, 0..4usize).prop_map(|(reader, back)| Step::Move { reader, back }),
        1 => (0..READERS).prop_map(|reader| Step::Unpin { reader }),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Znode {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    stat: StoredStat,
}

type Tree = BTreeMap<String, Znode>;

fn acl(number: u8) -> Vec<Acl> {
    if number == 0 {
        return Vec::new();
    }
    let id = Id { scheme: "digest".to_owned(), id: format!("user{number}:x") };
    vec![Acl { perms: 31, id }]
}

/// 0 stands for null data; the others for some bytes, now and then many.
fn data(number: u8) -> Option<Vec<u8>> {
    let length = if number % 50 == 7 { 3000 } else { number as usize };
    (number != 0).then(|| vec![number; length])
}

/// As `data`; for the counts of a quota something that can be read or not.
fn content(path: &str, number: u8) -> Option<Vec<u8>> {
    match number % 3 {
        _ if !path.ends_with("/zookeeper_stats") => data(number),
        0 => None,
        1 => Some(b"nonsense".to_vec()),
        _ => Some(format!("count={number},bytes=-7").into_bytes()),
    }
}

/// The counts, if that is what it is.
fn counts(data: Option<&[u8]>) -> Option<(i64, i64)> {
    let (count, bytes) = str::from_utf8(data?).ok()?.split_once(",bytes=")?;
    Some((count.strip_prefix("count=")?.parse().ok()?, bytes.parse().ok()?))
}

fn is_within(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

fn children<'t>(tree: &'t Tree, path: &str) -> BTreeSet<&'t str> {
    tree.keys()
        .filter(|below| *below != "/" && parent(below) == path)
        .map(|below| &below[below.rfind('/').unwrap() + 1..])
        .collect()
}

/// The tree that the model starts with: what is checked elsewhere.
fn copy(view: NodeView<'_>, into: &mut Tree, writer: &Writer) {
    let path = view.path();
    for name in view.children() {
        let below = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
        copy(writer.get(&below).unwrap(), into, writer);
    }
    let data = view.data().map(<[u8]>::to_vec);
    into.insert(path, Znode { data, acl: view.acl().to_vec(), stat: view.stored() });
}

struct World {
    writer: Writer,
    readers: Vec<Reader>,
    /// Readers that hold one version alone.
    still: [bool; READERS],
    /// By zxid, every version that was and is.
    versions: BTreeMap<i64, Rc<Tree>>,
    /// The newest, with what the transaction has done so far.
    newest: Tree,
    in_transaction: bool,
}

/// A fresh tree at zxid 1, in which `/zookeeper/quota` keeps counts of its children already.
fn fresh() -> (Writer, Registry) {
    let (mut writer, registry) = Writer::new();
    writer.begin(Zxid::from_bits(1), 0);
    let path = "/zookeeper/quota/gone";
    writer.create(path, None, AclId::OPEN, Owner::Persistent, None).unwrap();
    writer.delete(path).unwrap();
    writer.publish(Zxid::from_bits(1));
    (0..4).for_each(|_| writer.reclaim());
    (writer, registry)
}

impl World {
    fn new() -> (World, Registry) {
        let (writer, registry) = fresh();
        let mut newest = Tree::new();
        copy(writer.get("/").unwrap(), &mut newest, &writer);
        let readers = (0..READERS).map(|_| registry.reader()).collect();
        let versions = BTreeMap::from([(1, Rc::new(newest.clone()))]);
        let (still, in_transaction) = ([false; READERS], false);
        (World { writer, readers, still, versions, newest, in_transaction }, registry)
    }

    fn take(&mut self, step: &Step) {
        let zxid = self.writer.newest().bits();
        match *step {
            Step::Begin => {
                self.writer.begin(Zxid::from_bits(zxid + 1), 1000 + zxid);
                self.in_transaction = true;
            }
            Step::Publish { but } => {
                let committed = self.writer.committed();
                let through = Zxid::from_bits((zxid - but as i64).max(0)).max(committed);
                self.writer.publish(through);
                self.in_transaction &= through.bits() < zxid;
            }
            Step::Reclaim => self.writer.reclaim(),
            Step::TakeBackLast { transactions } => {
                let committed = self.writer.committed();
                let to = Zxid::from_bits((zxid - transactions as i64).max(0)).max(committed);
                self.writer.take_back_after(to);
                self.versions.split_off(&(to.bits() + 1));
                self.newest = Tree::clone(&self.versions[&to.bits()]);
                self.in_transaction = false;
            }
            Step::Pin { reader } => {
                let pinned = self.readers[reader].pin_newest();
                assert_eq!(pinned, self.writer.committed());
                self.still[reader] = false;
            }
            Step::Hold { reader } => {
                self.readers[reader].hold_newest();
                self.still[reader] = true;
            }
            Step::Move { reader, back } => {
                if let Some(pinned) = self.readers[reader].pinned()
                    && !self.still[reader]
                {
                    let to = self.writer.committed().bits() - back as i64;
                    self.readers[reader].move_to(Zxid::from_bits(to.max(pinned.bits())));
                }
            }
            Step::Unpin { reader } => self.readers[reader].unpin(),
            _ if !self.in_transaction => {}
            Step::TakeBack => {
                self.writer.take_back();
                self.newest = Tree::clone(&self.versions[&(zxid - 1)]);
                self.in_transaction = false;
            }
            Step::Create { path, data, acl, session, parent_cversion } => {
                self.create(PATHS[path], data, acl, session, parent_cversion);
            }
            Step::Delete { path } => self.delete(PATHS[path]),
            Step::SetData { path, data } => self.set_data(PATHS[path], data),
            Step::SetAcl { path, acl } => self.set_acl(PATHS[path], acl),
        }
        let zxid = self.writer.newest().bits();
        self.versions.insert(zxid, Rc::new(self.newest.clone()));
    }

    fn create(&mut self, path: &str, number: u8, acl_number: u8, session: i64, given: Option<i32>) {
        let owner = match session {
            0 => Owner::Container,
            session if session <= SESSIONS => Owner::Session(SessionId::from_bits(session)),
            7 => Owner::Ttl(7),
            _ => Owner::Persistent,
        };
        let (zxid, content) = (self.writer.newest().bits(), content(path, number));
        let length = content.as_ref().map_or(0, Vec::len) as i64;
        let id = self.writer.intern_acl(&acl(acl_number));
        let done = self.writer.create(path, content.as_deref(), id, owner, given);
        let expected = if !self.newest.contains_key(parent(path)) {
            Err(TreeError::NoParent)
        } else if self.newest.contains_key(path) {
            Err(TreeError::NodeExists)
        } else {
            let time = 999 + zxid;
            let stat = StoredStat {
                czxid: zxid,
                mzxid: zxid,
                ctime: time,
                mtime: time,
                ephemeral_owner: owner.raw(),
                pzxid: zxid,
                ..StoredStat::default()
            };
            let above = &mut self.newest.get_mut(parent(path)).unwrap().stat;
            let cversion = given.unwrap_or(above.cversion + 1);
            if cversion > above.cversion {
                (above.cversion, above.pzxid) = (cversion, zxid);
            }
            let acl = acl(acl_number);
            self.newest.insert(path.to_owned(), Znode { data: content, acl, stat });
            if path.ends_with("/zookeeper_stats") {
                self.count(path);
            }
            self.charge(path, 1, length);
            Ok(())
        };
        assert_eq!(done, expected, "create {path}");
    }

    fn delete(&mut self, path: &str) {
        let expected = if !self.newest.contains_key(path) {
            Err(TreeError::NoNode)
        } else if !children(&self.newest, path).is_empty() {
            Err(TreeError::NotEmpty)
        } else {
            let gone = self.newest.remove(path).unwrap();
            self.charge(path, -1, -(gone.data.map_or(0, |data| data.len()) as i64));
            let zxid = self.writer.newest().bits();
            let above = &mut self.newest.get_mut(parent(path)).unwrap().stat;
            above.pzxid = above.pzxid.max(zxid);
            Ok(())
        };
        assert_eq!(self.writer.delete(path), expected, "delete {path}");
    }

    fn set_data(&mut self, path: &str, number: u8) {
        let zxid = self.writer.newest().bits();
        let content = content(path, number);
        let Some(znode) = self.newest.get_mut(path) else {
            let done = self.writer.set_data(path, content.as_deref(), 1);
            return assert_eq!(done, Err(TreeError::NoNode));
        };
        let (version, mtime) = (znode.stat.version + 1, 999 + zxid);
        znode.stat = StoredStat { mzxid: zxid, mtime, version, ..znode.stat };
        let length = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, Vec::len) as i64;
        let more = length(&content) - length(&znode.data);
        znode.data = content.clone();
        self.charge(path, 0, more);
        self.writer.set_data(path, content.as_deref(), version).unwrap();
    }

    fn set_acl(&mut self, path: &str, number: u8) {
        let id = self.writer.intern_acl(&acl(number));
        let Some(znode) = self.newest.get_mut(path) else {
            return assert_eq!(self.writer.set_acl(path, id, 1), Err(TreeError::NoNode));
        };
        znode.stat.aversion += 1;
        znode.acl = acl(number);
        self.writer.set_acl(path, id, znode.stat.aversion).unwrap();
    }

    /// The counts at `path` are created: everything below their root is counted.
    fn count(&mut self, path: &str) {
        let root = path.strip_prefix("/zookeeper/quota").unwrap().rsplit_once('/').unwrap().0;
        let counted = self.newest.iter().filter(|(path, _)| is_within(path, root));
        let lengths = counted.map(|(_, znode)| znode.data.as_ref().map_or(0, Vec::len));
        let (count, bytes) = lengths.fold((0, 0), |(count, all), bytes| (count + 1, all + bytes));
        let text = format!("count={count},bytes={bytes}");
        self.newest.get_mut(path).unwrap().data = Some(text.into_bytes());
    }

    /// The deepest quota root counts a change.
    fn charge(&mut self, path: &str, znodes: i64, bytes: i64) {
        let is_root = |root: &&&str| {
            self.newest.contains_key(&format!("/zookeeper/quota{root}/zookeeper_limits"))
        };
        let roots = QUOTA_ROOTS.iter().filter(|root| is_within(path, root)).filter(is_root);
        let Some(root) = roots.max_by_key(|root| root.len()) else { return };
        let stats = format!("/zookeeper/quota{root}/zookeeper_stats");
        let Some(stats) = self.newest.get_mut(&stats) else { return };
        let Some((before, bytes_before)) = counts(stats.data.as_deref()) else { return };
        let text = format!("count={},bytes={}", before + znodes, bytes_before + bytes);
        stats.data = Some(text.into_bytes());
    }

    /// Compares everything that anybody can see.
    fn check(&mut self) {
        self.check_newest();
        for (number, reader) in self.readers.iter_mut().enumerate() {
            let Some(pinned) = reader.pinned() else { continue };
            let until = if self.still[number] { pinned } else { self.writer.committed() };
            for (zxid, tree) in self.versions.range(pinned.bits()..=until.bits()) {
                check_view(reader.at(Zxid::from_bits(*zxid)), tree);
            }
            let tree = &self.versions[&pinned.bits()];
            let mut seen = BTreeSet::new();
            let mut walk = reader.walk();
            while let Some((path, node)) = walk.next() {
                check_node(path, node, tree);
                assert!(path == "/" || seen.contains(parent(path)), "{path} before its parent");
                assert!(seen.insert(path.to_owned()), "{path} comes twice");
            }
            assert_eq!(seen.len(), tree.len());
        }
    }

    fn check_newest(&self) {
        for path in PATHS {
            assert_eq!(self.writer.get(path).is_some(), self.newest.contains_key(path), "{path}");
        }
        for path in self.newest.keys() {
            check_node(path, self.writer.get(path).unwrap(), &self.newest);
        }
        let counts = self.writer.counts();
        assert_eq!(counts.znodes as usize, self.newest.len() + 1);
        let bytes = |znode: &Znode| znode.data.as_ref().map_or(0, Vec::len);
        let all: usize = self.newest.iter().map(|(path, znode)| path.len() + bytes(znode)).sum();
        assert_eq!(counts.approximate_data_bytes as usize, all);
        let mut ephemerals = 0;
        for session in 1..=SESSIONS {
            let listed: Vec<String> =
                self.writer.ephemerals(SessionId::from_bits(session)).collect();
            let of = self.newest.iter().filter(|(_, node)| node.stat.ephemeral_owner == session);
            assert_eq!(listed, of.map(|(path, _)| path.clone()).collect::<Vec<_>>());
            ephemerals += listed.len();
        }
        assert_eq!(counts.ephemerals as usize, ephemerals);
        let reapable = self.newest.iter().filter(|(_, node)| node.stat.ephemeral_owner < 0);
        assert_eq!(
            self.writer.reapable("").collect::<Vec<_>>(),
            reapable.map(|(path, _)| path).collect::<Vec<_>>()
        );
        self.check_quotas();
    }

    /// The quotas of before the transaction.
    fn check_quotas(&self) {
        if !self.in_transaction {
            return;
        }
        let before = &self.versions[&(self.writer.newest().bits() - 1)];
        for root in QUOTA_ROOTS {
            let at = |name| before.get(&format!("/zookeeper/quota{root}/{name}"));
            let limits = at("zookeeper_limits").map(|limits| limits.data.as_deref());
            let stats = at("zookeeper_stats").map(|stats| stats.data.as_deref());
            let expected = limits.map(|limits| Quota { limits, stats });
            assert_eq!(self.writer.quota(root), expected, "{root}");
        }
    }

    /// Lets go of everything and deletes it: what is left must be what a fresh tree takes.
    fn finish(mut self) {
        for reader in &mut self.readers {
            reader.unpin();
        }
        self.take(&Step::Begin);
        for path in PATHS.iter().rev() {
            self.delete(path);
        }
        for path in PATHS.iter().rev().filter(|path| path.matches('/').count() == 1) {
            assert!(!self.newest.contains_key(*path), "{path} should be gone");
        }
        self.writer.publish(self.writer.newest());
        for _ in 0..4 {
            self.writer.reclaim();
        }
        let (fresh, left) = (fresh().0.memory(), self.writer.memory());
        assert_eq!((left.waiting, left.held, left.acls), (0, 0, fresh.acls), "{left:?}");
        // The same but for the size of the index.
        let blocks = |memory: ringkeeper::tree::TreeMemory| memory.slab.used - memory.index;
        assert_eq!(blocks(left), blocks(fresh));
    }
}

fn check_view(view: View<'_>, tree: &Tree) {
    for path in PATHS {
        assert_eq!(view.get(path).is_some(), tree.contains_key(path), "{path}");
    }
    for path in tree.keys() {
        check_node(path, view.get(path).unwrap(), tree);
    }
    let below = |path: &str| {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        tree.keys().filter(|it| it.len() > prefix.len() && it.starts_with(&prefix)).count() as u64
    };
    for path in tree.keys().step_by(1 + tree.len() / 8) {
        let counted = view.get(path).unwrap().descendants(usize::MAX);
        assert_eq!(counted, Descendants::Counted(below(path)), "{path}");
        assert_eq!(view.get(path).unwrap().descendants(0), Descendants::TooMany);
    }
}

fn check_node(path: &str, node: NodeView<'_>, tree: &Tree) {
    let expected = &tree[path];
    assert_eq!(node.path(), path);
    assert_eq!(node.data(), expected.data.as_deref(), "{path}");
    assert_eq!(node.acl(), expected.acl, "{path}");
    assert_eq!(node.acl_id() == AclId::OPEN, expected.acl.is_empty());
    assert_eq!(node.stored(), expected.stat, "{path}");
    let names: Vec<&str> = node.children().collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct, children(tree, path), "{path}");
    assert_eq!(names.len(), distinct.len(), "{path}: {names:?}");
    let stat = node.stat();
    assert_eq!(stat.num_children as usize, names.len(), "{path}");
    assert_eq!(stat.cversion, 2 * expected.stat.cversion - stat.num_children, "{path}");
    assert_eq!(stat.data_length as usize, node.data().unwrap_or_default().len(), "{path}");
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(if cfg!(miri) { 2 } else { 100 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_reader_sees_the_tree_of_its_zxid(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 40 } else { 250 })
    ) {
        let (mut world, _registry) = World::new();
        for (number, step) in steps.iter().enumerate() {
            world.take(step);
            // Not after each step: some faults need several steps to pile up.
            if number % 5 == 4 {
                world.check();
            }
        }
        world.check();
        world.finish();
    }
}
