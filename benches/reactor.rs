//! A reactor without its sockets: requests of one client in, answers out. Watches as they fire. And
//! the way of a write through reactor and consensus core, on one core and without a disk.
//! `cargo bench --bench reactor`

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use one_core::{OneCore, add_watch, path, ping, read, set};
use ringkeeper::ids::ConnId;
use ringkeeper::jute::opcode::OpCode;

#[path = "../tests/reactor_memory/one_core.rs"]
mod one_core;

const ZNODES: usize = 1_000;

/// 32 requests that one client has in flight.
const IN_FLIGHT: usize = 32;

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reactor");
    group.throughput(Throughput::Elements(IN_FLIGHT as u64));
    let mut server = OneCore::new(ZNODES);
    let client = server.client();
    let mut bench = |name: &str, request: &dyn Fn(usize) -> Vec<u8>| {
        let requests: Vec<u8> = (0..IN_FLIGHT).flat_map(|key| request(key * 31)).collect();
        group.bench_function(format!("{IN_FLIGHT} {name}"), |bencher| {
            bencher.iter(|| {
                server.reactor.receive(client.slot, &requests);
                server.send()
            });
        });
    };
    bench("getData", &|key| read(OpCode::GET_DATA, &path(key), false));
    bench("exists", &|key| read(OpCode::EXISTS, &path(key), false));
    bench("ping", &|_| ping());
    bench("getChildren of 1,000", &|_| read(OpCode::GET_CHILDREN, "/k", false));
    group.finish();
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reactor and consensus core");
    for sets in [1, IN_FLIGHT, 256] {
        let mut server = OneCore::new(ZNODES);
        let client = server.client();
        let requests: Vec<u8> = (0..sets).flat_map(|key| set(&path(key * 31 % ZNODES))).collect();
        group.throughput(Throughput::Elements(sets as u64));
        group.bench_function(BenchmarkId::new("setData", sets), |bencher| {
            bencher.iter(|| {
                server.reactor.receive(client.slot, &requests);
                server.write();
                server.send()
            });
        });
    }
    group.finish();
}

/// A change of one znode that so many connections watch, among 100,000 watches of other znodes.
fn watches(criterion: &mut Criterion) {
    const OTHERS: usize = 100_000;
    const WATCHED: usize = OTHERS;
    let mut group = criterion.benchmark_group("watch");
    for watchers in [0, 1, 10_000] {
        let mut server = OneCore::new(OTHERS + 1);
        let writer = server.client();
        for key in 0..OTHERS {
            server.reactor.receive(writer.slot, &read(OpCode::GET_DATA, &path(key), true));
            server.send();
        }
        let clients: Vec<ConnId> = (0..watchers).map(|_| server.client()).collect();
        let persistent = add_watch(&path(WATCHED), 0);
        for client in &clients {
            server.reactor.receive(client.slot, &persistent);
        }
        server.send();
        let change = set(&path(WATCHED));
        group.throughput(Throughput::Elements(watchers.max(1) as u64));
        group.bench_function(BenchmarkId::new("told", watchers), |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    server.reactor.receive(writer.slot, &change);
                    let batch = server.commit().expect("a set was committed");
                    let began = Instant::now();
                    server.reactor.take_published(&batch);
                    server.send();
                    spent += began.elapsed();
                }
                spent
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    let mut server = OneCore::new(ZNODES);
    let client = server.client();
    let watched = read(OpCode::GET_DATA, &path(0), true);
    let change = set(&path(0));
    group.bench_function("set and fired", |bencher| {
        bencher.iter(|| {
            server.reactor.receive(client.slot, &watched);
            server.reactor.receive(client.slot, &change);
            server.write();
            server.send()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(20);
    targets = reads, writes, watches
}
criterion_main!(benches);
