//! Quotas: which part of the tree counts for which, and the text in which a quota's limits and
//! counts are kept.
//!
//! A znode `/zookeeper/quota/P/zookeeper_limits` makes `/P` a quota root. What is created, deleted
//! or set at or below it counts in `/zookeeper/quota/P/zookeeper_stats`, if that is there, unless
//! there is another root further down. The counts change *in place*, with whatever transaction
//! changes them: the stats znode has new data from that zxid on, but no new version, mzxid or
//! mtime, and nobody is told. So a reader sees counts that fit the tree at its zxid, what is taken
//! back takes its counting along, and snapshots need nothing special.
//!
//! Called by the writer, for every change; the limits are enforced by `consensus::prepare`.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use super::znode::NodeRef;
use crate::limits::QUOTA_TEXT_BYTES_MAX;

const QUOTAS: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What a path below `/zookeeper/quota` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark<'p> {
    /// It holds the limits of this root.
    Limits(&'p str),
    /// It holds the counts of this root.
    Stats(&'p str),
}

impl<'p> Mark<'p> {
    /// What `path` is for. The root of the tree cannot be a quota root, as in ZooKeeper.
    pub fn of(path: &'p str) -> Option<Mark<'p>> {
        let (root, name) = path.strip_prefix(QUOTAS)?.rsplit_once('/')?;
        if !root.starts_with('/') {
            return None;
        }
        match name {
            LIMITS => Some(Mark::Limits(root)),
            STATS => Some(Mark::Stats(root)),
            _ => None,
        }
    }

    /// Whether a znode of this name may be a quota's limits, wherever it is.
    pub fn may_be_limits(name: &str) -> bool {
        name == LIMITS
    }
}

/// Whether everything below a quota root is counted when a znode is created at `path`.
pub fn is_counted_at(path: &str) -> bool {
    matches!(Mark::of(path), Some(Mark::Stats(_)))
}

/// Writes the path of the limits of `root`.
pub(super) fn limits_path(root: &str) -> String {
    format!("{QUOTAS}{root}/{LIMITS}")
}

/// Writes the path of the counts of `root`.
pub(super) fn stats_path(root: &str) -> String {
    format!("{QUOTAS}{root}/{STATS}")
}

/// Tells for every znode at and below `top` on the newest version how many there are at and below
/// it, and how many bytes of data they have; `top` comes last.
pub(super) fn extents<'a>(top: NodeRef<'a>, mut tell: impl FnMut(NodeRef<'a>, i64, i64)) {
    // Those that were come to and not yet left, from `top` down to `at`.
    let mut open: Vec<(i64, i64)> = Vec::new();
    let mut at = top;
    let mut next = Some(top);
    loop {
        while let Some(node) = next {
            if node.is_deleted() {
                next = node.next_sibling();
                continue;
            }
            open.push((1, node.newest().data_length() as i64));
            at = node;
            next = node.first_child();
        }
        let Some((znodes, bytes)) = open.pop() else { return };
        tell(at, znodes, bytes);
        let Some(above) = open.last_mut() else { return };
        *above = (above.0 + znodes, above.1 + bytes);
        next = at.next_sibling();
        at = at.parent().expect("every walk down from a znode comes back to it");
    }
}

/// The quota roots of the newest version.
#[derive(Debug, Default)]
pub(super) struct QuotaRoots {
    roots: HashSet<Box<str>>,
    /// How many roots have each hash. A path is hashed once, and its hash looked at behind every
    /// component: looking each prefix up by itself would take time squared in the path's length.
    hashes: HashMap<u64, u32>,
    keys: RandomState,
    /// Those of `roots` that are none any more since `begin`.
    gone: HashSet<Box<str>>,
}

impl QuotaRoots {
    pub fn is_empty(&self) -> bool {
        self.roots.len() == self.gone.len()
    }

    /// Whether there is a root, or was one when the transaction began.
    pub fn is_some_since_begin(&self) -> bool {
        !self.roots.is_empty()
    }

    /// In no defined order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(|root| &**root).filter(|root| self.is_live(root))
    }

    /// A transaction begins: roots that the ones before it removed are forgotten.
    pub fn begin(&mut self) {
        for root in std::mem::take(&mut self.gone) {
            self.forget(&root);
        }
    }

    fn is_live(&self, root: &str) -> bool {
        self.gone.is_empty() || !self.gone.contains(root)
    }

    pub fn add(&mut self, root: &str) {
        if !self.gone.remove(root) && self.roots.insert(root.into()) {
            *self.hashes.entry(self.hash(root)).or_default() += 1;
        }
    }

    pub fn remove(&mut self, root: &str) {
        if self.roots.contains(root) {
            self.gone.insert(root.into());
        }
    }

    fn forget(&mut self, root: &str) {
        if self.roots.remove(root) {
            let hash = self.hash(root);
            let count = self.hashes.get_mut(&hash).expect("a root's hash is counted");
            *count -= 1;
            if *count == 0 {
                self.hashes.remove(&hash);
            }
        }
    }

    fn hash(&self, root: &str) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write(root.as_bytes());
        hasher.finish()
    }

    /// The roots at or above `path`, the deepest first.
    pub fn enclosing<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        self.enclosing_since_begin(path).filter(|root| self.is_live(root))
    }

    /// The roots at or above `path`, and those that were roots when the transaction began, the
    /// deepest first.
    pub fn enclosing_since_begin<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let mut hasher = self.keys.build_hasher();
        let mut hashed = 0;
        let mut likely = Vec::new();
        let ends = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/');
        for end in ends.map(|(at, _)| at).chain([path.len()]) {
            hasher.write(&path.as_bytes()[hashed..end]);
            hashed = end;
            if self.hashes.contains_key(&hasher.finish()) {
                likely.push(end);
            }
        }
        // Each look takes time in the prefix's length, and there may be a root at every level: the
        // first is nearly always the last that is asked for.
        let likely = likely.into_iter().rev().map(|end| &path[..end]);
        likely.filter(|prefix| self.roots.contains(*prefix))
    }
}

/// The text in which a quota's limits or counts are kept: `count=N,bytes=M`, and behind an odd
/// `=;` more such pairs, of which `countHardLimit` and `byteHardLimit` mean something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaText<'d> {
    count: Option<i64>,
    bytes: Option<i64>,
    others: Vec<(&'d str, i64)>,
}

impl<'d> QuotaText<'d> {
    /// Reads it as ZooKeeper's `StatsTrack` does. None where that throws, and for what is longer
    /// than `QUOTA_TEXT_BYTES_MAX`.
    pub fn parse(data: Option<&'d [u8]>) -> Option<QuotaText<'d>> {
        const BETWEEN: [char; 2] = [',', ';'];
        let data = data.filter(|data| data.len() <= QUOTA_TEXT_BYTES_MAX)?;
        let pairs = str::from_utf8(data).ok()?.trim_end_matches(BETWEEN);
        let mut text = QuotaText::default();
        if pairs.is_empty() {
            return Some(text);
        }
        if pairs.starts_with(BETWEEN) {
            return None;
        }
        for pair in pairs.split(BETWEEN).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.trim_end_matches('=').split_once('=')?;
            let value = match value.split('=').next()? {
                "" => -1,
                digits => digits.parse().ok()?,
            };
            text.set(key, value);
        }
        Some(text)
    }

    /// Counts of znodes and of bytes.
    pub fn of(count: i64, bytes: i64) -> QuotaText<'static> {
        QuotaText { count: Some(count), bytes: Some(bytes), others: Vec::new() }
    }

    /// Znodes: the count, or the soft limit. Negative: no limit.
    pub fn count(&self) -> i64 {
        self.count.unwrap_or(-1)
    }

    /// Bytes of data: the count, or the soft limit. Negative: no limit.
    pub fn bytes(&self) -> i64 {
        self.bytes.unwrap_or(-1)
    }

    /// The hard limit of znodes. Negative: none.
    pub fn count_hard_limit(&self) -> i64 {
        self.other("countHardLimit")
    }

    /// The hard limit of bytes of data. Negative: none.
    pub fn byte_hard_limit(&self) -> i64 {
        self.other("byteHardLimit")
    }

    fn other(&self, key: &str) -> i64 {
        self.others.iter().find(|(other, _)| *other == key).map_or(-1, |(_, value)| *value)
    }

    /// Gives `key` this value; -1 is no limit.
    pub fn set(&mut self, key: &'d str, value: i64) {
        match key {
            "count" => self.count = Some(value),
            "bytes" => self.bytes = Some(value),
            _ => match self.others.iter_mut().find(|(other, _)| *other == key) {
                Some((_, before)) => *before = value,
                None => self.others.push((key, value)),
            },
        }
    }

    /// The same with so many znodes and bytes more, as ZooKeeper writes it.
    pub(super) fn moved(&self, count: i64, bytes: i64) -> String {
        let (count, bytes) = (self.count().wrapping_add(count), self.bytes().wrapping_add(bytes));
        let others = self.others.clone();
        QuotaText { count: Some(count), bytes: Some(bytes), others }.to_string()
    }
}

impl fmt::Display for QuotaText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count(), self.bytes())?;
        let mut others = self.others.clone();
        others.sort_unstable();
        f.write_str(if others.is_empty() { "" } else { "=" })?;
        others.iter().try_for_each(|(key, value)| write!(f, ";{key}={value}"))
    }
}

/// The quota of a root, as of before the transaction that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'t> {
    /// The data of its limits.
    pub limits: Option<&'t [u8]>,
    /// The data of its counts; None: nothing is counted.
    pub stats: Option<Option<&'t [u8]>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Zxid;
    use crate::tree::{AclId, Owner, Registry, Writer};

    const STATS_OF_A: &str = "/zookeeper/quota/a/zookeeper_stats";

    fn begin(writer: &mut Writer) {
        let next = Zxid::from_bits(writer.newest().bits() + 1);
        writer.begin(next, 1_000 * next.bits());
    }

    fn create(writer: &mut Writer, path: &str, data: &[u8]) {
        writer.create(path, Some(data), AclId::OPEN, Owner::Persistent, None).unwrap();
    }

    fn text(writer: &Writer, path: &str) -> String {
        String::from_utf8(writer.get(path).unwrap().data().unwrap().to_vec()).unwrap()
    }

    /// A tree in which `/a` (3 bytes), with `/a/b` (2 bytes), is under a quota.
    fn tree() -> (Writer, Registry) {
        let (mut writer, registry) = Writer::new();
        begin(&mut writer);
        for (path, data) in [
            ("/a", "abc"),
            ("/a/b", "xy"),
            ("/zookeeper/quota/a", ""),
            ("/zookeeper/quota/a/zookeeper_limits", "count=5,bytes=-1"),
            (STATS_OF_A, "what the client says"),
        ] {
            create(&mut writer, path, data.as_bytes());
        }
        (writer, registry)
    }

    #[test]
    fn stats_are_counted_when_they_are_created_and_kept_with_every_change() {
        let (mut writer, _registry) = tree();
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=5");
        begin(&mut writer);
        create(&mut writer, "/a/c", b"1234");
        create(&mut writer, "/ab", b"1234");
        assert_eq!(text(&writer, STATS_OF_A), "count=3,bytes=9");
        begin(&mut writer);
        writer.set_data("/a", None, 1).unwrap();
        assert_eq!(text(&writer, STATS_OF_A), "count=3,bytes=6");
        begin(&mut writer);
        writer.delete("/a/c").unwrap();
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=2");
        let stat = writer.get(STATS_OF_A).unwrap().stat();
        assert_eq!((stat.mzxid, stat.mtime, stat.version, stat.data_length), (1, 1_000, 0, 15));
        let bytes = writer.counts().approximate_data_bytes;
        writer.recount_quotas();
        assert_eq!(writer.counts().approximate_data_bytes, bytes);
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=2");
    }

    #[test]
    fn only_the_deepest_root_counts_a_change_but_a_recount_counts_everything() {
        let (mut writer, _registry) = tree();
        begin(&mut writer);
        create(&mut writer, "/zookeeper/quota/a/b", b"");
        create(&mut writer, "/zookeeper/quota/a/b/zookeeper_limits", b"count=1");
        create(&mut writer, "/zookeeper/quota/a/b/zookeeper_stats", b"");
        create(&mut writer, "/a/b/c", b"123");
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=5");
        assert_eq!(text(&writer, "/zookeeper/quota/a/b/zookeeper_stats"), "count=2,bytes=5");
        writer.recount_quotas();
        assert_eq!(text(&writer, STATS_OF_A), "count=3,bytes=8");
        begin(&mut writer);
        writer.delete("/zookeeper/quota/a/b/zookeeper_limits").unwrap();
        writer.delete("/a/b/c").unwrap();
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=5");
        writer.take_back();
        begin(&mut writer);
        writer.delete("/a/b/c").unwrap();
        assert_eq!(text(&writer, STATS_OF_A), "count=3,bytes=8");
    }

    #[test]
    fn a_reader_sees_the_counts_of_its_zxid_and_what_is_taken_back_was_never_counted() {
        let (mut writer, registry) = tree();
        writer.publish(writer.newest());
        let mut reader = registry.reader();
        let pinned = reader.pin_newest();
        let bytes = writer.counts().approximate_data_bytes;
        begin(&mut writer);
        for name in 0..20 {
            create(&mut writer, &format!("/a/{name}"), b"12345");
        }
        writer.take_back();
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=5");
        assert_eq!(writer.counts().approximate_data_bytes, bytes);
        begin(&mut writer);
        create(&mut writer, "/a/n", b"");
        writer.publish(writer.newest());
        let seen = reader.at(pinned).get(STATS_OF_A).unwrap().data();
        assert_eq!(seen, Some(&b"count=2,bytes=5"[..]));
        let newest = registry.committed();
        let seen = reader.at(newest).get(STATS_OF_A).unwrap();
        assert_eq!(seen.data(), Some(&b"count=3,bytes=5"[..]));
        begin(&mut writer);
        writer.delete("/zookeeper/quota/a/zookeeper_limits").unwrap();
        writer.take_back();
        begin(&mut writer);
        writer.delete("/a/n").unwrap();
        assert_eq!(text(&writer, STATS_OF_A), "count=2,bytes=5", "it is a root again");
    }

    #[test]
    fn what_cannot_be_counted_is_left_alone() {
        let (mut writer, _registry) = tree();
        begin(&mut writer);
        writer.set_data(STATS_OF_A, Some(b"nonsense"), 1).unwrap();
        create(&mut writer, "/a/c", b"");
        assert_eq!(text(&writer, STATS_OF_A), "nonsense");
        writer.delete(STATS_OF_A).unwrap();
        create(&mut writer, "/a/d", b"");
        create(&mut writer, STATS_OF_A, b"");
        assert_eq!(text(&writer, STATS_OF_A), "count=4,bytes=5");
        create(&mut writer, "/zookeeper/quota/none", b"");
        create(&mut writer, "/zookeeper/quota/none/zookeeper_stats", b"");
        let none = "/zookeeper/quota/none/zookeeper_stats";
        assert_eq!(text(&writer, none), "count=0,bytes=0", "there is no /none");
        create(&mut writer, "/zookeeper/quota/none/zookeeper_limits", b"");
        create(&mut writer, "/none", b"1");
        assert_eq!(text(&writer, none), "count=1,bytes=1");
    }

    #[test]
    fn a_quota_is_that_of_before_the_transaction() {
        let (mut writer, _registry) = tree();
        writer.publish(writer.newest());
        begin(&mut writer);
        assert_eq!(writer.quota_roots("/b").count(), 0);
        create(&mut writer, "/a/c", b"");
        create(&mut writer, "/zookeeper/quota/a/c", b"");
        create(&mut writer, "/zookeeper/quota/a/c/zookeeper_limits", b"");
        let before =
            Quota { limits: Some(b"count=5,bytes=-1"), stats: Some(Some(b"count=2,bytes=5")) };
        assert_eq!(writer.quota_roots("/a/c/d").collect::<Vec<_>>(), ["/a/c", "/a"]);
        assert_eq!((writer.quota("/a/c"), writer.quota("/a")), (None, Some(before)));
        begin(&mut writer);
        assert_eq!(writer.quota("/a/c"), Some(Quota { limits: Some(b""), stats: None }));
    }

    fn parsed(text: &str) -> Option<QuotaText<'_>> {
        QuotaText::parse(Some(text.as_bytes()))
    }

    #[test]
    fn limits_and_stats_belong_to_the_path_below_quota() {
        assert_eq!(Mark::of("/zookeeper/quota/a/b/zookeeper_limits"), Some(Mark::Limits("/a/b")));
        assert_eq!(Mark::of("/zookeeper/quota/a/zookeeper_stats"), Some(Mark::Stats("/a")));
        for path in [
            "/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quotas/zookeeper_limits",
            "/zookeeper/quota",
            "/zookeeper/quota/a",
            "/zookeeper/quota/a/zookeeper_limits/x",
            "/a/zookeeper_limits",
        ] {
            assert_eq!(Mark::of(path), None, "{path}");
        }
    }

    #[test]
    fn the_roots_of_a_path_are_found_the_deepest_first() {
        let mut roots = QuotaRoots::default();
        for root in ["/a", "/a/b/c", "/b", "/a/b/cd"] {
            roots.add(root);
        }
        let found = |roots: &QuotaRoots, path| roots.enclosing(path).collect::<Vec<_>>().join(" ");
        assert_eq!(found(&roots, "/a/b/c/d"), "/a/b/c /a");
        assert_eq!(found(&roots, "/a/b/c"), "/a/b/c /a");
        assert_eq!(found(&roots, "/a/b"), "/a");
        assert_eq!(found(&roots, "/ab"), "");
        assert_eq!(found(&roots, "/"), "");
        roots.add("/a");
        roots.remove("/a");
        roots.remove("/nothing");
        assert_eq!(found(&roots, "/a/b/c/d"), "/a/b/c");
    }

    #[test]
    fn a_root_at_every_level_of_a_long_path_is_found() {
        const LEVELS: usize = 4_000;
        let path = "/a".repeat(LEVELS);
        let mut roots = QuotaRoots::default();
        (1..=LEVELS).for_each(|level| roots.add(&path[..2 * level]));
        let lengths = roots.enclosing(&path).map(str::len);
        assert!(lengths.eq((1..=LEVELS).rev().map(|level| 2 * level)));
    }

    #[test]
    fn text_is_read_and_written_as_zookeeper_does() {
        let text = parsed("count=3,bytes=20=;byteHardLimit=30;countHardLimit=4").unwrap();
        assert_eq!((text.count(), text.bytes()), (3, 20));
        assert_eq!((text.count_hard_limit(), text.byte_hard_limit()), (4, 30));
        assert_eq!(text.moved(0, 0), "count=3,bytes=20=;byteHardLimit=30;countHardLimit=4");
        assert_eq!(parsed("bytes=5,,;count==;").unwrap_or_default().count(), -1);
        assert_eq!(parsed("count=1,x=2;count=7").unwrap().moved(1, 1), "count=8,bytes=0=;x=2");
        assert_eq!(parsed("").unwrap().moved(1, 0), "count=0,bytes=-1");
        assert_eq!(parsed(",").unwrap(), QuotaText::default());
        assert_eq!(QuotaText::of(2, 9).moved(-1, -9), "count=1,bytes=0");
    }

    #[test]
    fn what_zookeeper_cannot_read_is_nothing() {
        for text in ["nonsense", "count=", "count=x", ",count=1", "count= 1", "="] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
        assert_eq!(QuotaText::parse(None), None);
        assert_eq!(QuotaText::parse(Some(b"count=1\xff")), None);
        assert_eq!(parsed(&format!("count=1{}", ";".repeat(QUOTA_TEXT_BYTES_MAX))), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-c=,;0-9-]{0,40}") {
            if let Some(read) = parsed(&text) {
                let written = read.moved(0, 0);
                prop_assert_eq!(parsed(&written).unwrap().moved(0, 0), written);
            }
        }
    }
}
