//! One writer and several readers, each on a thread of its own, for a while: within one version the
//! invariants that every transaction keeps must hold, whatever the readers' timing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::tree::{Descendants, Owner, Registry, View, Writer};

const GROUPS: usize = 4;
const MEMBERS: usize = 8;
/// Paths that come and go, below `/churn`.
const CHURN: usize = if cfg!(miri) { 20 } else { 400 };
const READERS: usize = 3;

fn duration() -> Duration {
    Duration::from_millis(if cfg!(miri) { 200 } else { 2500 })
}

/// Numbers that need not be good.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

fn number(view: &View<'_>, path: &str) -> u64 {
    let node = view.get(path).unwrap_or_else(|| panic!("{path} is always there"));
    let data = node.data().expect("a number");
    // Long values repeat the number; all of it must be the same.
    assert!(data.chunks(8).all(|chunk| chunk == &data[..8]), "{path} is torn");
    u64::from_le_bytes(data[..8].try_into().unwrap())
}

/// Everything that holds in every version.
fn check(view: &View<'_>, random: &mut Random) {
    let group = random.below(GROUPS);
    let first = number(view, &format!("/group{group}/0"));
    for member in 1..MEMBERS {
        let path = format!("/group{group}/{member}");
        assert_eq!(number(view, &path), first, "{path} differs from its group");
        let node = view.get(&path).unwrap();
        assert_eq!(node.acl()[0].id.id, format!("user{}:x", first % 50));
        assert_eq!(node.version() as u64, first);
    }
    let churn = view.get("/churn").unwrap();
    let stat = churn.stat();
    let names: Vec<&str> = churn.children().collect();
    let distinct: HashSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len(), "a child is listed twice");
    assert_eq!(stat.num_children as usize, names.len());
    assert_eq!(number(view, "/total"), names.len() as u64, "the total is of another version");
    for name in names.iter().take(20) {
        let path = format!("/churn/{name}");
        let node = view.get(&path).unwrap_or_else(|| panic!("{path} is listed and not there"));
        assert_eq!(node.path(), path);
        assert!(node.stat().czxid <= stat.pzxid);
    }
}

/// A reactor: moves forward batch by batch, reads in between, parks now and then.
fn react(registry: &Registry, stop: &AtomicBool, seed: u64) -> u64 {
    let mut reader = registry.reader();
    let mut random = Random(seed);
    let mut checks = 0;
    reader.pin_newest();
    while !stop.load(Ordering::Relaxed) {
        let pinned = reader.pinned().unwrap();
        let committed = registry.committed();
        // Also at a version between the pin and the newest.
        let between =
            pinned.bits() + random.below((committed.bits() - pinned.bits() + 1) as usize) as i64;
        for zxid in [pinned, Zxid::from_bits(between), committed] {
            check(&reader.at(zxid), &mut random);
            checks += 1;
        }
        match random.below(10) {
            0 => {
                reader.unpin();
                reader.pin_newest();
            }
            1..=3 => reader.move_to(Zxid::from_bits(between)),
            4 => {}
            _ => reader.move_to(committed),
        }
    }
    checks
}

/// A snapshot: a long pin, and a walk that takes its time.
fn walk(registry: &Registry, stop: &AtomicBool) -> u64 {
    let mut reader = registry.reader();
    let mut walks = 0;
    while !stop.load(Ordering::Relaxed) {
        let pinned = reader.hold_newest();
        check(&reader.at(pinned), &mut Random(7));
        let Descendants::Counted(before) =
            reader.at(pinned).get("/").unwrap().descendants(usize::MAX)
        else {
            panic!("there are not so many znodes");
        };
        let (mut seen, mut churn) = (0, 0);
        let mut walk = reader.walk();
        while let Some((path, node)) = walk.next() {
            seen += 1;
            churn += path.starts_with("/churn/") as u64;
            assert_eq!(node.path(), path);
            assert!(node.stored().mzxid <= pinned.bits());
            if seen % 50 == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(seen, before + 1);
        let view = reader.at(pinned);
        assert_eq!(churn, number(&view, "/total"));
        check(&view, &mut Random(9));
        walks += 1;
    }
    walks
}

/// The writer's side: what is in the tree now.
struct Load {
    writer: Writer,
    zxid: i64,
    values: [u64; GROUPS],
    present: Vec<bool>,
    random: Random,
}

impl Load {
    fn new(writer: Writer) -> Load {
        let (values, present) = ([0; GROUPS], vec![false; CHURN]);
        let mut load = Load { writer, zxid: 0, values, present, random: Random(42) };
        load.begin();
        for path in ["/churn", "/total"] {
            load.create(path, 0);
        }
        for group in 0..GROUPS {
            load.create(&format!("/group{group}"), 0);
            for member in 0..MEMBERS {
                load.create(&format!("/group{group}/{member}"), 0);
            }
            load.set_group(group, 1);
        }
        load.writer.publish(Zxid::from_bits(load.zxid));
        load
    }

    fn begin(&mut self) {
        self.zxid += 1;
        self.writer.begin(Zxid::from_bits(self.zxid), self.zxid);
    }

    fn create(&mut self, path: &str, value: u64) {
        let id = self.writer.intern_acl(&[]);
        let data = value.to_le_bytes().repeat(1 + value as usize % 20);
        let owner = if value.is_multiple_of(5) {
            Owner::Session(SessionId::from_bits(1 + value as i64 % 3))
        } else {
            Owner::Persistent
        };
        let owner = if path.starts_with("/churn/") { owner } else { Owner::Persistent };
        self.writer.create(path, Some(&data), id, owner, None).unwrap();
    }

    fn set(&mut self, path: &str, value: u64) {
        let data = value.to_le_bytes().repeat(1 + value as usize % 20);
        self.writer.set_data(path, Some(&data), value as i32).unwrap();
    }

    fn set_group(&mut self, group: usize, value: u64) {
        let id = Id { scheme: "digest".to_owned(), id: format!("user{}:x", value % 50) };
        let acl = self.writer.intern_acl(&[Acl { perms: 31, id }]);
        for member in 0..MEMBERS {
            let path = format!("/group{group}/{member}");
            self.set(&path, value);
            self.writer.set_acl(&path, acl, 1).unwrap();
        }
    }

    /// Creates and deletes some, twice within one transaction now and then.
    fn churn(&mut self) {
        for _ in 0..self.random.below(6) {
            let (number, value) = (self.random.below(CHURN), self.random.below(1000) as u64);
            let path = format!("/churn/n{number}");
            let present = self.present[number];
            if present {
                self.writer.delete(&path).unwrap();
            } else {
                self.create(&path, value);
            }
            if self.random.below(4) == 0 {
                if present {
                    self.create(&path, value + 1);
                } else {
                    self.writer.delete(&path).unwrap();
                }
            } else {
                self.present[number] = !present;
            }
        }
        let total = self.present.iter().filter(|present| **present).count() as u64;
        self.set("/total", total);
    }

    /// A batch of transactions; some are taken back, in part or from the end.
    fn batch(&mut self) {
        for _ in 0..1 + self.random.below(8) {
            let before = (self.values, self.present.clone());
            self.begin();
            let group = self.random.below(GROUPS);
            self.values[group] += 1;
            let value = self.values[group] + 1;
            self.set_group(group, value);
            self.churn();
            if self.random.below(6) == 0 {
                self.writer.take_back();
                (self.values, self.present) = before;
            }
        }
        if self.random.below(20) == 0 {
            let committed = self.writer.committed();
            self.writer.publish(Zxid::from_bits(committed.bits() + 1));
            let before = (self.values, self.present.clone());
            let kept = self.zxid;
            self.begin();
            self.churn();
            self.begin();
            self.set_group(0, 1_000_000);
            self.writer.take_back_after(Zxid::from_bits(kept));
            // A new leader's zxids go on further up.
            self.zxid = kept + 10;
            (self.values, self.present) = before;
            self.writer.begin(Zxid::from_bits(self.zxid), 0);
        }
        self.writer.publish(Zxid::from_bits(self.zxid));
    }
}

#[test]
fn readers_see_whole_versions_while_the_writer_goes_on() {
    let (writer, registry) = Writer::new();
    let mut load = Load::new(writer);
    let stop = AtomicBool::new(false);
    let (batches, checks, walks) = thread::scope(|scope| {
        let (registry, stop) = (&registry, &stop);
        let readers: Vec<_> = (1..=READERS)
            .map(|seed| scope.spawn(move || react(registry, stop, seed as u64)))
            .collect();
        let walker = scope.spawn(move || walk(registry, stop));
        let until = Instant::now() + duration();
        let mut batches = 0;
        while Instant::now() < until && !walker.is_finished() {
            load.batch();
            batches += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let checks: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        (batches, checks, walker.join().unwrap())
    });
    println!("{batches} batches, {checks} checks, {walks} walks, {:?}", load.writer.memory());
    assert!(batches > 5 && checks > 5 && walks > 0);
    for _ in 0..1000 {
        load.writer.reclaim();
    }
    let memory = load.writer.memory();
    assert_eq!((memory.waiting, memory.held), (0, 0), "{memory:?}");
}

#[test]
fn overwriting_the_same_keys_during_a_long_snapshot_takes_no_more_than_one_more_version_of_each() {
    const KEYS: usize = if cfg!(miri) { 10 } else { 1000 };
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 200 };
    let (mut writer, registry) = Writer::new();
    let mut at = 0;
    let mut begin = |writer: &mut Writer| {
        at += 1;
        writer.begin(Zxid::from_bits(at), at);
        Zxid::from_bits(at)
    };
    let open = writer.intern_acl(&[]);
    for key in 0..KEYS {
        let zxid = begin(&mut writer);
        writer
            .create(&format!("/key{key}"), Some(&[0; 100]), open, Owner::Persistent, None)
            .unwrap();
        writer.publish(zxid);
    }
    let mut reactor = registry.reader();
    let mut snapshot = registry.reader();
    reactor.pin_newest();
    let pinned = snapshot.hold_newest();
    let before = writer.memory().slab.used;
    let mut walk = snapshot.walk();
    let (mut walked, mut peak) = (0, 0);
    for round in 1..=ROUNDS {
        for key in 0..KEYS {
            let zxid = begin(&mut writer);
            writer
                .set_data(&format!("/key{key}"), Some(&[round as u8; 100]), round as i32)
                .unwrap();
            // Nodes that come and go meanwhile do not pile up either.
            let path = format!("/churn{key}");
            writer.create(&path, None, open, Owner::Persistent, None).unwrap();
            writer.delete(&path).unwrap();
            if key % 64 == 63 {
                writer.publish(zxid);
                reactor.move_to(zxid);
            }
            // The snapshot goes on slowly, through all of the rounds.
            if (round * KEYS + key) * (KEYS + 5) / (ROUNDS * KEYS + KEYS) > walked {
                walked += 1;
                let (path, node) = walk.next().expect("there is more");
                assert!(!path.starts_with("/churn"));
                assert!(!path.starts_with("/key") || node.data() == Some(&[0; 100]), "{path}");
            }
        }
        peak = peak.max(writer.memory().slab.used - before);
    }
    let per_key = peak / KEYS;
    println!("{walked} walked, {peak} bytes more at most, {per_key} for each key");
    // One held version of 136 bytes for each key, and what waits for the walk's next step.
    assert!(peak < KEYS * 136 + 200_000, "{peak} bytes more");
    assert_eq!(snapshot.at(pinned).get("/key3").unwrap().data(), Some([0; 100].as_slice()));
    snapshot.unpin();
    let newest = writer.newest();
    writer.publish(newest);
    reactor.unpin();
    for _ in 0..2000 {
        writer.reclaim();
    }
    assert_eq!((writer.memory().waiting, writer.memory().held), (0, 0));
}
