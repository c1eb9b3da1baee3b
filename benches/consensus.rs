//! Writes through prepare, apply, the encoding of transaction and reply, and publishing, in batches
//! of 256, without disk, sockets and threads: what one core can do at most. And replay: what a
//! restart costs.

use std::hint::black_box;
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
use ringkeeper::log::recover::Recover;
use ringkeeper::tree::Writer;
use ringkeeper::zab::step::Start;

const BATCH: usize = 256;
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
    let mut body = Vec::new();
    reply::string(&mut body, path);
    reply::buffer(&mut body, Some(&[7; 100]));
    let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    reply::acl(&mut body, &[Acl { perms: 31, id }]);
    reply::int(&mut body, 0);
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
    let parent = server.submission(OpCode::CREATE, std::iter::once(create("/bench")));
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
    for znodes in [1_000, 1_000_000] {
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
                    let bodies = (1..=BATCH).map(|number| {
                        let mut body = Vec::new();
                        reply::string(&mut body, &path(number));
                        reply::int(&mut body, -1);
                        body
                    });
                    server.submission(OpCode::DELETE, bodies)
                });
            }
            spent
        });
    });
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    const TXNS: usize = 100_000;
    let mut server = Server::new();
    let mut log: Vec<(Zxid, Vec<u8>)> = Vec::new();
    let parent = server.submission(OpCode::CREATE, std::iter::once(create("/bench")));
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

criterion_group!(benches, writes, replay);
criterion_main!(benches);
