//! The tree: get, set, create, delete and children at 1,000 and 1,000,000 znodes of 100 bytes; how fast a
//! million is restored, and how much memory it takes.
//!
//! `cargo bench --bench tree`

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::ids::Zxid;
use ringkeeper::tree::{AclId, Owner, Reader, Registry, Restore, StoredStat, Writer};

const SIZES: [usize; 2] = [1_000, 1_000_000];
const BATCH: usize = 256;
const DATA: [u8; 100] = [7; 100];

/// A tree of `count` znodes below `/bench`.
struct Bed {
    writer: Writer,
    registry: Registry,
    reader: Reader,
    /// In random order, so that one does not lie behind the other in memory.
    paths: Vec<String>,
    zxid: i64,
    at: usize,
}

fn path(number: usize) -> String {
    format!("/bench/n{number:09}")
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("pages");
    pages * 4096
}

fn restore(paths: &[String]) -> (Writer, Registry) {
    let mut restore = Restore::new(Zxid::from_bits(10), paths.len());
    let stat = StoredStat { czxid: 5, mzxid: 5, pzxid: 5, ..StoredStat::default() };
    restore.insert("/bench", None, AclId::OPEN, &stat).expect("a new path");
    for path in paths {
        restore.insert(path, Some(&DATA), AclId::OPEN, &stat).expect("a new path");
    }
    restore.finish()
}

impl Bed {
    fn new(count: usize) -> Bed {
        let mut paths: Vec<String> = (0..count).map(path).collect();
        let before = resident_bytes();
        let started = Instant::now();
        let (writer, registry) = restore(&paths);
        let took = started.elapsed();
        let taken = resident_bytes().saturating_sub(before);
        println!(
            "{count} znodes restored in {took:?}: {:.1} MB resident, {} bytes each, {:?}",
            taken as f64 / 1e6,
            taken / count,
            writer.memory()
        );
        let mut state = 1u64;
        for at in (1..count).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            paths.swap(at, (state >> 33) as usize % (at + 1));
        }
        // New texts, each behind the one before: a request's path is in the cache.
        let paths = paths.iter().map(|path| path.as_str().to_owned()).collect();
        let mut reader = registry.reader();
        reader.pin_newest();
        Bed { writer, registry, reader, paths, zxid: 10, at: 0 }
    }

    fn next_range(&mut self, count: usize) -> std::ops::Range<usize> {
        if self.at + count > self.paths.len() {
            self.at = 0;
        }
        self.at += count;
        self.at - count..self.at
    }

    fn begin(&mut self) {
        self.zxid += 1;
        self.writer.begin(Zxid::from_bits(self.zxid), self.zxid);
    }

    fn publish(&mut self) {
        let zxid = Zxid::from_bits(self.zxid);
        self.writer.publish(zxid);
        self.reader.move_to(zxid);
    }

    fn set_batch(&mut self, prefetch: bool) {
        let range = self.next_range(BATCH);
        if prefetch {
            self.writer.prefetch(self.paths[range.clone()].iter().map(String::as_str));
        }
        for number in range {
            self.begin();
            self.writer.set_data(&self.paths[number], Some(&DATA), 1).expect("the znode is there");
        }
        self.publish();
    }
}

fn get(c: &mut Criterion, bed: &mut Bed) {
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    let count = bed.paths.len();
    group.bench_function(BenchmarkId::new("random", count), |b| {
        b.iter(|| {
            let number = bed.next_range(1).start;
            let view = bed.reader.at(Zxid::from_bits(bed.zxid));
            let node = view.get(&bed.paths[number]).expect("the znode is there");
            black_box((node.data().map(<[u8]>::len), node.stat()));
        });
    });
    group.bench_function(BenchmarkId::new("missing", count), |b| {
        b.iter(|| black_box(bed.reader.at(Zxid::from_bits(bed.zxid)).get("/bench/nothing")));
    });
    group.throughput(Throughput::Elements(32));
    group.bench_function(BenchmarkId::new("random 32 prefetched", count), |b| {
        b.iter(|| {
            let range = bed.next_range(32);
            let view = bed.reader.at(Zxid::from_bits(bed.zxid));
            view.prefetch(bed.paths[range.clone()].iter().map(String::as_str));
            for number in range {
                let node = view.get(&bed.paths[number]).expect("the znode is there");
                black_box((node.data().map(<[u8]>::len), node.stat()));
            }
        });
    });
}

fn set(c: &mut Criterion, bed: &mut Bed) {
    let mut group = c.benchmark_group("set");
    group.throughput(Throughput::Elements(BATCH as u64));
    let count = bed.paths.len();
    group.bench_function(BenchmarkId::new("256 and publish", count), |b| {
        b.iter(|| bed.set_batch(false));
    });
    group.bench_function(BenchmarkId::new("256 prefetched and publish", count), |b| {
        b.iter(|| bed.set_batch(true));
    });
}

fn create_and_delete(c: &mut Criterion, bed: &mut Bed) {
    let count = bed.paths.len();
    let paths: Vec<String> = (count..count + BATCH).map(path).collect();
    let create = |bed: &mut Bed| {
        let started = Instant::now();
        for path in &paths {
            bed.begin();
            bed.writer
                .create(path, Some(&DATA), AclId::OPEN, Owner::Persistent, None)
                .expect("new");
        }
        bed.publish();
        started.elapsed()
    };
    let delete = |bed: &mut Bed| {
        let started = Instant::now();
        for path in &paths {
            bed.begin();
            bed.writer.delete(path).expect("the znode is there");
        }
        bed.publish();
        started.elapsed()
    };
    for name in ["create", "delete"] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("256 and publish", count), |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let (created, deleted) = (create(bed), delete(bed));
                    spent += if name == "create" { created } else { deleted };
                }
                spent
            });
        });
    }
}

fn children(c: &mut Criterion, bed: &mut Bed) {
    let mut group = c.benchmark_group("children");
    let count = bed.paths.len();
    group.throughput(Throughput::Elements(count as u64));
    group.sample_size(if count > 10_000 { 10 } else { 100 });
    group.bench_function(BenchmarkId::new("all names", count), |b| {
        b.iter(|| {
            let view = bed.reader.at(Zxid::from_bits(bed.zxid));
            let names = view.get("/bench").expect("the parent is there").children();
            black_box(names.map(str::len).sum::<usize>())
        });
    });
    group.bench_function(BenchmarkId::new("walk", count), |b| {
        b.iter_batched(
            || {
                let mut reader = bed.registry.reader();
                reader.hold_newest();
                reader
            },
            |mut reader| {
                let (mut walk, mut bytes) = (reader.walk(), 0);
                while let Some((path, node)) = walk.next() {
                    bytes += path.len() + node.data().unwrap_or_default().len();
                }
                black_box(bytes);
            },
            BatchSize::PerIteration,
        );
    });
}

fn tree(c: &mut Criterion) {
    for count in SIZES {
        let mut bed = Bed::new(count);
        get(c, &mut bed);
        children(c, &mut bed);
        create_and_delete(c, &mut bed);
        set(c, &mut bed);
        println!("{count} znodes after it: {:?}", bed.writer.memory());
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(30);
    targets = tree
}
criterion_main!(benches);
