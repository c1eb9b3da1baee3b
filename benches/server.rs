//! End to end: the server as it is run, with its log on the disk of the target folder, and one
//! client that blocks, on this machine. What is measured is the time that the client sees, its own
//! included: for what a server can do at most there is `ringkeeper-loadgen`.
//! `cargo bench --bench server`

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use harness::client::{Client, Op};
use harness::server::Setup;

const SESSION_MS: i32 = 30_000;
const ZNODES: usize = 1_000;

fn path(key: usize) -> String {
    format!("/bench/key-{:06}", key * 31 % ZNODES)
}

fn requests(criterion: &mut Criterion) {
    // Not in /tmp, which may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_ringkeeper"), &dir.path().join("data"), dir.path())
        .with("ringkeeper.reactors=1");
    let server = setup.start();
    let mut client = Client::connect(server.address, SESSION_MS).unwrap();
    let data = vec![7; 100];
    client.create("/bench", &[], 0).unwrap();
    for key in 0..ZNODES {
        client.create(&path(key), &data, 0).unwrap();
    }

    let get = |key| Op::GetData { path: path(key), watch: false };
    let set = |key| Op::SetData { path: path(key), data: data.clone(), version: -1 };
    let children = |_| Op::GetChildren { path: "/bench".to_owned(), watch: false };
    let kinds: [(&str, &dyn Fn(usize) -> Op); 3] =
        [("getData", &get), ("setData", &set), ("getChildren of 1,000", &children)];
    for (name, request) in kinds {
        let mut group = criterion.benchmark_group(format!("server, {name}"));
        for in_flight in [1, 32] {
            let ops: Vec<Op> = (0..in_flight).map(request).collect();
            group.throughput(Throughput::Elements(in_flight as u64));
            group.bench_function(BenchmarkId::new("in flight", in_flight), |bencher| {
                bencher.iter(|| {
                    client.submit_all(&ops).unwrap();
                    for _ in &ops {
                        client.receive().unwrap();
                    }
                });
            });
        }
        group.finish();
    }
    client.close().unwrap();
    let (status, said) = server.terminate();
    assert!(status.success(), "{status}: {said}");
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(20);
    targets = requests
}
criterion_main!(benches);
