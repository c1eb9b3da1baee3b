//! What jute costs: frames out of a receive buffer, the hot requests in, the hot replies out, and
//! transactions. `cargo bench --bench jute`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::codec;
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::frame::{self, Next};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::*;
use ringkeeper::jute::txn::{self, Transaction, TxnHeader};
use ringkeeper::jute::{reply, request};
use ringkeeper::limits::FRAME_BYTES_DEFAULT;

const PATH: &str = "/bench/key-000123";
const DATA: [u8; 100] = [b'x'; 100];

fn world() -> Vec<Acl> {
    vec![Acl { perms: 31, id: Id { scheme: "world".into(), id: "anyone".into() } }]
}

/// 32 getData of one client, as they lie in its receive buffer.
fn pipelined_reads() -> Vec<u8> {
    let record = codec::to_vec(&PathWatchRequest { path: PATH.into(), watch: false }).unwrap();
    let mut socket = Vec::new();
    for xid in 1..=32 {
        let start = reply::begin_frame(&mut socket);
        reply::int(&mut socket, xid);
        reply::int(&mut socket, OpCode::GET_DATA.0);
        socket.extend_from_slice(&record);
        reply::finish_frame(&mut socket, start);
    }
    socket
}

fn requests(c: &mut Criterion) {
    let socket = pipelined_reads();
    let data = Some(serde_bytes::ByteBuf::from(DATA));
    let set = SetDataRequest { path: PATH.into(), data: data.clone(), version: -1 };
    let set = codec::to_vec(&set).unwrap();
    let create = CreateRequest { path: PATH.into(), data, acl: Some(world()), flags: 0 };
    let create = codec::to_vec(&create).unwrap();
    let delete = codec::to_vec(&PathVersionRequest { path: PATH.into(), version: -1 }).unwrap();
    let mut multi = Vec::new();
    for _ in 0..10 {
        codec::to_writer(&mut multi, &(OpCode::CREATE.0, false, -1)).unwrap();
        multi.extend_from_slice(&create);
    }
    reply::multi_end(&mut multi);

    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(32));
    group.bench_function("32 frames in one receive buffer, their headers", |b| {
        b.iter(|| {
            let mut rest = black_box(&socket[..]);
            while let Ok(Next::Frame(body)) = frame::next(rest, FRAME_BYTES_DEFAULT) {
                black_box(request::header(body).unwrap().0);
                rest = &rest[frame::LENGTH_BYTES + body.len()..];
            }
        });
    });
    group.bench_function("32 getData in one receive buffer", |b| {
        b.iter(|| {
            let mut rest = black_box(&socket[..]);
            while let Ok(Next::Frame(body)) = frame::next(rest, FRAME_BYTES_DEFAULT) {
                let (header, record) = request::header(body).unwrap();
                black_box((header, request::PathWatch::decode(record).unwrap()));
                rest = &rest[frame::LENGTH_BYTES + body.len()..];
            }
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("setData", |b| {
        b.iter(|| black_box(request::SetData::decode(black_box(&set)).unwrap()));
    });
    group.bench_function("create", |b| {
        b.iter(|| black_box(request::Create::decode(OpCode::CREATE, black_box(&create)).unwrap()));
    });
    group.bench_function("create, as a derived record", |b| {
        b.iter(|| black_box(codec::from_slice::<CreateRequest>(black_box(&create)).unwrap()));
    });
    group.bench_function("delete", |b| {
        b.iter(|| black_box(request::PathVersion::decode(black_box(&delete)).unwrap()));
    });
    group.bench_function("multi of 10 creates", |b| {
        b.iter(|| {
            let multi = request::Multi::decode(OpCode::MULTI, black_box(&multi)).unwrap();
            for operation in multi.iter() {
                black_box(operation);
            }
        });
    });
    group.finish();
}

fn replies(c: &mut Criterion) {
    let zxid = Zxid::from_bits(0x1_0000_0001);
    let stat = Stat { data_length: 100, ..Stat::default() };
    let children: Vec<String> = (0..100).map(|i| format!("child-{i:010}")).collect();
    let mut group = c.benchmark_group("reply");
    let mut bench = |name: &str, write: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut out = Vec::with_capacity(1 << 16);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                write(black_box(&mut out));
            });
        });
    };
    bench("getData", &mut |out| {
        reply::get_data(out, 1, zxid, black_box(Some(&DATA)), black_box(&stat));
    });
    bench("exists or setData", &mut |out| reply::stat_only(out, 1, zxid, black_box(&stat)));
    bench("create", &mut |out| reply::path(out, 1, zxid, black_box(PATH)));
    bench("getChildren2 of 100", &mut |out| {
        let names = black_box(&children).iter().map(String::as_str);
        reply::get_children2(out, 1, zxid, names, &stat);
    });
    bench("getChildren of 100", &mut |out| {
        reply::get_children(out, 1, zxid, black_box(&children).iter().map(String::as_str));
    });
    bench("ping or an error", &mut |out| reply::bare(out, 1, zxid, ErrorCode::Ok));
    bench("watch event", &mut |out| {
        reply::event(out, zxid, EventType::NodeDataChanged, black_box(PATH));
    });
    group.finish();
}

fn transactions(c: &mut Criterion) {
    let acl = world();
    let header = TxnHeader {
        client_id: SessionId::from_bits(1),
        cxid: 1,
        zxid: Zxid::from_bits(1),
        time_ms: 1,
        op: OpCode::CREATE,
    };
    let mut create = Vec::new();
    txn::encode_header(&mut create, &header);
    txn::encode_create(&mut create, PATH, Some(&DATA), &acl[..], false, 1);

    let mut set_data = Vec::new();
    txn::encode_header(&mut set_data, &TxnHeader { op: OpCode::SET_DATA, ..header });
    txn::encode_set_data(&mut set_data, PATH, Some(&DATA), 1);

    let mut out = Vec::with_capacity(4096);
    let mut group = c.benchmark_group("txn");
    group.bench_function("write a create", |b| {
        b.iter(|| {
            out.clear();
            txn::encode_header(&mut out, black_box(&header));
            txn::encode_create(&mut out, black_box(PATH), Some(&DATA), &acl[..], false, 1);
        });
    });
    group.bench_function("write a setData", |b| {
        b.iter(|| {
            out.clear();
            txn::encode_header(&mut out, black_box(&header));
            txn::encode_set_data(&mut out, black_box(PATH), Some(&DATA), 1);
        });
    });
    group.bench_function("write a delete", |b| {
        b.iter(|| {
            out.clear();
            txn::encode_header(&mut out, black_box(&header));
            txn::encode_delete(&mut out, black_box(PATH));
        });
    });
    group.bench_function("read a create", |b| {
        b.iter(|| black_box(Transaction::decode(black_box(&create)).unwrap().header));
    });
    group.bench_function("read a setData", |b| {
        b.iter(|| black_box(Transaction::decode(black_box(&set_data)).unwrap().header));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(30);
    targets = requests, replies, transactions
}
criterion_main!(benches);
