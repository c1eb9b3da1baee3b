//! A snapshot of 1,000,000 znodes of 100 bytes in ZooKeeper's form: written from a pinned version,
//! and read into a tree.
//!
//! `cargo bench --bench zookeeper_snapshot`

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::ids::Zxid;
use ringkeeper::jute::decode::string_limit;
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::limits::FRAME_BYTES_DEFAULT;
use ringkeeper::snapshot::zookeeper::{Decoder, Encoder, FileSections, Form};
use ringkeeper::tree::{Registry, Restore, StoredStat};

const ZNODES: usize = 1_000_000;
const THROUGH: Zxid = Zxid::from_bits(10);

fn tree() -> Registry {
    let mut restore = Restore::new(THROUGH, ZNODES);
    let stat = StoredStat { czxid: 5, mzxid: 5, pzxid: 5, ..StoredStat::default() };
    let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    let acl = restore.intern_acl(&[Acl { perms: 31, id }]);
    restore.insert("/bench", None, acl, &stat).expect("a new path");
    for number in 0..ZNODES {
        let path = format!("/bench/n{number:09}");
        restore.insert(&path, Some(&[7; 100]), acl, &stat).expect("a new path");
    }
    restore.finish().1
}

fn snapshot(c: &mut Criterion) {
    let registry = tree();
    let mut reader = registry.reader();
    reader.hold_newest();
    let mut group = c.benchmark_group("zookeeper snapshot of 1,000,000 znodes");
    group.throughput(Throughput::Elements(ZNODES as u64));
    for (name, form) in [("stream", Form::Stream), ("file", Form::File(FileSections::DEFAULT))] {
        group.bench_function(format!("encode {name}"), |b| {
            b.iter(|| Encoder::new(&mut reader, &[], form).map(|chunk| chunk.len()).sum::<usize>());
        });
        let chunks: Vec<_> = Encoder::new(&mut reader, &[], form).collect();
        group.bench_function(format!("decode {name}"), |b| {
            b.iter(|| {
                let limit = string_limit(FRAME_BYTES_DEFAULT);
                let mut decoder = match form {
                    Form::Stream => Decoder::stream(THROUGH, limit),
                    Form::File(_) => Decoder::file(THROUGH, limit),
                };
                for chunk in &chunks {
                    decoder.take(chunk).expect("written by us");
                }
                black_box(decoder.finish().expect("written by us").znodes)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(10)).sample_size(10);
    targets = snapshot
}
criterion_main!(benches);
