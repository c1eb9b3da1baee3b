//! The log: what an append costs the consensus core, and what a group commit costs on the disk
//! below the target folder. And snapshots of 1,000,000 znodes: writing one, and the tree out of it.
//! `cargo bench --bench log`.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::ids::Zxid;
use ringkeeper::log::group_commit::{GroupCommit, Tail};
use ringkeeper::log::segment;
use ringkeeper::log::spares::Spares;
use ringkeeper::rt::disk::run_here;
use ringkeeper::rt::files::{BLOCK, Pace};
use ringkeeper::snapshot::format::Record;
use ringkeeper::snapshot::load::SnapshotReader;
use ringkeeper::snapshot::take::take;
use ringkeeper::tree::{AclId, Owner, Registry, Restore, StoredStat, Writer};

/// The transaction of a setData of 100 bytes on a short path.
const TXN_BYTES: usize = 160;
const SEGMENT_BYTES: u64 = 64 << 20;

/// Runs `batches` group commits of `txns` transactions each, one after the other, on a log of its
/// own, and returns how long they took.
fn commit(batches: u64, txns: u32) -> Duration {
    // Not in /tmp, which may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let segment = segment::prepare(dir.path(), 1, SEGMENT_BYTES, Pace::Full).unwrap();
    let spares = Spares::new(dir.path(), SEGMENT_BYTES, None);
    let tail = Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid: Zxid::ZERO };
    let txn = [7; TXN_BYTES];
    run_here(async move {
        let mut log = GroupCommit::open(tail, spares.clone()).await.unwrap();
        let mut zxid = 0;
        let began = Instant::now();
        for _ in 0..batches {
            for _ in 0..txns {
                zxid += 1;
                log.append(Zxid::from_bits(zxid), |to| to.extend_from_slice(&txn));
            }
            log.start_flush().await.unwrap();
        }
        began.elapsed()
    })
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_commit");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for txns in [1, 16, 256, 2048] {
        group.throughput(Throughput::Elements(txns.into()));
        group.bench_function(BenchmarkId::from_parameter(txns), |bencher| {
            bencher.iter_custom(|batches| commit(batches, txns));
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    let txn = [7; TXN_BYTES];
    let mut batch = Vec::new();
    group.bench_function("record", |bencher| {
        bencher.iter(|| {
            if batch.len() > 1 << 20 {
                batch.clear();
            }
            ringkeeper::log::format::append_record(&mut batch, Zxid::from_bits(1), |to| {
                to.extend_from_slice(&txn);
            });
        });
    });
    group.finish();
}

/// A tree of 1,000,000 znodes of 100 bytes, 1,000 in each of 1,000 folders.
fn million() -> (Writer, Registry) {
    let (mut writer, registry) = Writer::new();
    let (data, mut zxid) = ([7; 100], 0);
    let mut create = |path: &str| {
        zxid += 1;
        writer.begin(Zxid::from_bits(zxid), 1_700_000_000_000);
        writer.create(path, Some(&data), AclId::OPEN, Owner::Persistent, None).unwrap();
        writer.publish(Zxid::from_bits(zxid));
    };
    for folder in 0..1000 {
        create(&format!("/folder-{folder:04}"));
        for node in 0..999 {
            create(&format!("/folder-{folder:04}/node-{node:04}"));
        }
    }
    (writer, registry)
}

fn load(path: &Path) -> (Writer, Registry) {
    let reader = SnapshotReader::open::<()>(path).unwrap();
    let mut tree = Restore::new(reader.header().zxid(), 1_000_000);
    let mut acls = HashMap::from([(0, AclId::OPEN)]);
    let each = |record: Record<'_>| -> Result<(), ()> {
        match record {
            Record::Session(..) => {}
            Record::Acl(number, acl) => {
                acls.insert(number, tree.intern_acl(&acl));
            }
            Record::Znode(node) => {
                let stat = StoredStat {
                    czxid: node.czxid,
                    mzxid: node.mzxid,
                    ctime: node.ctime,
                    mtime: node.mtime,
                    version: node.version,
                    cversion: node.cversion,
                    aversion: node.aversion,
                    ephemeral_owner: node.ephemeral_owner,
                    pzxid: node.pzxid,
                };
                tree.insert(node.path, node.data, acls[&node.acl], &stat).map_err(|_| ())?;
            }
        }
        Ok(())
    };
    reader.read_all(each).unwrap();
    tree.finish()
}

fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10).throughput(Throughput::Elements(1_000_000));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (writer, registry) = million();
    let mut reader = registry.reader();
    reader.hold_newest();
    let mut write = |pace| take(dir.path(), &mut reader, &[], 0, pace, || true).unwrap().unwrap();
    group.bench_function("write", |bencher| bencher.iter(|| write(Pace::Full)));
    let path = write(Pace::Full).path;
    drop((reader, writer));
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let reader = SnapshotReader::open::<()>(&path).unwrap();
            reader.read_all(|_| Ok::<(), ()>(())).unwrap()
        });
    });
    group.bench_function("restore", |bencher| bencher.iter_with_large_drop(|| load(&path)));
    group.finish();
}

criterion_group!(benches, append, group_commit, snapshot);
criterion_main!(benches);
