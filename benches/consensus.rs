//! Writes through prepare, apply, the encoding of transaction and reply, and publishing, in batches
//! of 256, without disk, sockets and threads: what one core can do at most. What takes long at once.
//! And replay: what a restart costs.

use std::hint::black_box;
use std::iter;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::consensus::core::{Core, Moment};
use ringkeeper::consensus::handoff::{Entry, IdentityIndex, Submission};
use ringkeeper::consensus::prepare::write::{Prepare, Settings};
use ringkeeper::consensus::recovery::State;
use ringkeeper::consensus::sessions::Sessions;
use ringkeeper::ids::{ConnId, ReactorId, ServerId, SessionId, Zxid};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::jute::reply;
use ringkeeper::limits::REAP_LOOKS_MAX;
use ringkeeper::log::recover::Recover;
use ringkeeper::tree::Writer;
use ringkeeper::zab::step::Start;

const BATCH: usize = 256;
const MILLION: usize = 1_000_000;
const CONN: ConnId = ConnId { slot: 0, tenant: 0 };
const MOMENT: Moment = Moment { wall_ms: 1_700_000_000_000, now_ms: 1_000 };

struct Server {
    core: Core,
    session: SessionId,
    /// Stands in for the log's buffer.
    log: Vec<u8>,
    last: Zxid,
}

impl Server {
    fn new() -> Server {
        let (tree, _) = Writer::new();
        let start = Start::standalone(ServerId::STANDALONE, tree.newest());
        let sessions = Sessions::new(ServerId::STANDALONE, 2_000, 1);
        let prepare = Prepare::new(tree, sessions, 1, Settings::default());
        let core = Core::new(prepare, start, 1, MOMENT);
        let session = SessionId::from_bits(0x0100_0000_0001_0000);
        let mut server = Server { core, session, log: Vec::new(), last: Zxid::ZERO };
        let index = IdentityIndex(0);
        let id = Id { scheme: "ip".to_owned(), id: "10.0.0.1".to_owned() };
        let entries = vec![
            Entry::DefineIdentity { index, ids: vec![id] },
            Entry::OpenSession { conn: CONN, timeout_ms: 30_000 },
        ];
        server.commit(Submission { reactor: ReactorId(0), entries, bytes: Vec::new() });
        server
    }

    fn submission(&self, op: OpCode, bodies: impl Iterator<Item = Vec<u8>>) -> Submission {
        let mut submission = Submission::new(ReactorId(0));
        for (xid, record) in bodies.enumerate() {
            let start = submission.bytes.len() as u32;
            submission.bytes.extend_from_slice(&record);
            let body = start..submission.bytes.len() as u32;
            let (xid, identity) = (xid as i32, IdentityIndex(0));
            let session = self.session;
            submission.entries.push(Entry::Write { conn: CONN, session, xid, op, identity, body });
        }
        submission
    }

    fn commit(&mut self, submission: Submission) {
        self.log.clear();
        let (log, last) = (&mut self.log, &mut self.last);
        self.core.submit(submission, MOMENT, &mut |zxid, txn: &[u8]| {
            log.extend_from_slice(txn);
            *last = zxid;
        });
        self.core.seal();
        self.core.durable(self.last, MOMENT, |batch| drop(black_box(batch)));
    }
}

fn path(number: usize) -> String {
    format!("/bench/node-{number:07}")
}

fn create(path: &str) -> Vec<u8> {
    creation(path, 0)
}

/// The record of a createContainer.
fn container(number: usize) -> Vec<u8> {
    creation(&format!("/container-{number:07}"), 4)
}

fn creation(path: &str, flags: i32) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::buffer(&mut body, Some(&[7; 100]));
    let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    reply::acl(&mut body, &[Acl { perms: 31, id }]);
    reply::int(&mut body, flags);
    body
}

fn delete(path: &str) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::int(&mut body, -1);
    body
}

fn set_data(path: &str) -> Vec<u8> {
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::buffer(&mut body, Some(&[8; 100]));
    reply::int(&mut body, -1);
    body
}

fn filled(znodes: usize) -> Server {
    let mut server = Server::new();
    let parent = server.submission(OpCode::CREATE, iter::once(create("/bench")));
    server.commit(parent);
    for first in (0..znodes).step_by(BATCH) {
        let numbers = first..(first + BATCH).min(znodes);
        let batch = server.submission(OpCode::CREATE, numbers.map(|n| create(&path(n))));
        server.commit(batch);
    }
    server
}

/// Times `commit` of the batches that `next` makes; making them is not counted.
fn timed(
    server: &mut Server,
    batches: u64,
    mut next: impl FnMut(&Server) -> Submission,
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..batches {
        let batch = next(server);
        let began = Instant::now();
        server.commit(batch);
        spent += began.elapsed();
    }
    spent
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consensus");
    group.throughput(Throughput::Elements(BATCH as u64));
    for znodes in [1_000, MILLION] {
        let mut server = filled(znodes);
        let mut random = 1_usize;
        group.bench_function(format!("set 256 of {znodes} znodes"), |bencher| {
            bencher.iter_custom(|batches| {
                timed(&mut server, batches, |server| {
                    let bodies = (0..BATCH).map(|_| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        set_data(&path((random >> 33) % znodes))
                    });
                    server.submission(OpCode::SET_DATA, bodies)
                })
            });
        });
    }
    group.bench_function("create 256 and delete them", |bencher| {
        let mut server = filled(1);
        bencher.iter_custom(|batches| {
            let mut spent = Duration::ZERO;
            for _ in 0..batches {
                spent += timed(&mut server, 1, |server| {
                    server.submission(OpCode::CREATE, (1..=BATCH).map(|n| create(&path(n))))
                });
                spent += timed(&mut server, 1, |server| {
                    server.submission(OpCode::DELETE, (1..=BATCH).map(|n| delete(&path(n))))
                });
            }
            spent
        });
    });
    group.finish();
}

/// What a server with a million znodes does at once on the core that orders writes.
fn stalls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stalls");
    let mut server = filled(MILLION);
    let quota = "/zookeeper/quota/bench";
    let limits = format!("{quota}/zookeeper_limits");
    let stats = format!("{quota}/zookeeper_stats");
    for made in [quota, &limits, &stats] {
        let made = server.submission(OpCode::CREATE, iter::once(create(made)));
        server.commit(made);
    }
    group.bench_function(format!("count {MILLION} znodes for a new quota"), |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let gone = server.submission(OpCode::DELETE, iter::once(delete(&stats)));
                server.commit(gone);
                spent += timed(&mut server, 1, |server| {
                    server.submission(OpCode::CREATE, iter::once(create(&stats)))
                });
            }
            spent
        });
    });
    drop(server);

    let mut server = Server::new();
    for first in (0..MILLION).step_by(BATCH) {
        let bodies = (first..MILLION.min(first + BATCH)).map(container);
        let batch = server.submission(OpCode::CREATE_CONTAINER, bodies);
        server.commit(batch);
    }
    let mut step = || {
        let moment = Moment { now_ms: server.core.next_reap_ms(), ..MOMENT };
        let began = Instant::now();
        server.core.reap(moment, &mut |_, _: &[u8]| panic!("none of them is over"));
        began.elapsed()
    };
    let mut round: Vec<Duration> = (0..MILLION.div_ceil(REAP_LOOKS_MAX)).map(|_| step()).collect();
    round.sort_unstable();
    let (steps, all) = (round.len(), round.iter().sum::<Duration>());
    println!(
        "a search of {MILLION} containers: {steps} steps, {all:?}, slowest {:?}",
        round[steps - 1]
    );
    group.bench_function(format!("a step of the search among {MILLION} containers"), |bencher| {
        bencher.iter_custom(|steps| (0..steps).map(|_| step()).sum());
    });
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    const TXNS: usize = 100_000;
    let mut server = Server::new();
    let mut log: Vec<(Zxid, Vec<u8>)> = Vec::new();
    let parent = server.submission(OpCode::CREATE, iter::once(create("/bench")));
    let creates = server.submission(OpCode::CREATE, (0..1000).map(|n| create(&path(n))));
    let sets = (0..TXNS).map(|n| set_data(&path(n % 1000)));
    let sets = server.submission(OpCode::SET_DATA, sets);
    for submission in [parent, creates, sets] {
        server.core.submit(submission, MOMENT, &mut |zxid, txn: &[u8]| {
            log.push((zxid, txn.to_vec()));
        });
    }
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements(TXNS as u64));
    group.bench_function("replay 100000 sets", |bencher| {
        bencher.iter(|| {
            let mut state = State::new(ServerId::STANDALONE, 2_000);
            // The session was opened before the log was kept; nothing of it is asked for.
            state.begin(Zxid::from_bits(1), 1000);
            for (zxid, txn) in &log {
                state.replay(*zxid, txn).unwrap();
            }
            state.finish()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300)).sample_size(10);
    targets = writes, stalls, replay
}
criterion_main!(benches);
