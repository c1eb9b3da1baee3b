//! Arbitrary bytes into every decoder of `jute` and that of ZooKeeper's snapshots. What a decoder accepts must come out of its
//! encoder so that it is accepted again, as the same. Run by the fuzz target `decoders`, by
//! `tests/fuzz_corpus.rs` over the committed corpus, and by `tests/round_trips.rs`.

use std::fmt::Debug;

use ringkeeper::ids::Zxid;
use ringkeeper::jute::codec;
use ringkeeper::jute::decode::{self, Cursor};
use ringkeeper::jute::frame;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::*;
use ringkeeper::jute::request;
use ringkeeper::jute::txn::Transaction;
use ringkeeper::limits::FRAME_BYTES_DEFAULT;
use ringkeeper::snapshot::zookeeper::{Decoder, Encoder, Form};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Gives `data` to every decoder.
///
/// # Panics
/// When a decoder panics, or does not agree with its encoder.
pub fn decode_everything(data: &[u8]) {
    frames(data);
    handshakes(data);
    records(data);
    requests(data);
    transaction(data);
    snapshot(data);
    let text = decode::lenient(data);
    assert!(text.len() <= data.len() * 3, "a byte becomes U+FFFD, three bytes, at most");
}

fn frames(mut data: &[u8]) {
    loop {
        match frame::next(data, FRAME_BYTES_DEFAULT) {
            Ok(frame::Next::Frame(body)) => data = &data[frame::LENGTH_BYTES + body.len()..],
            Ok(frame::Next::Incomplete { want }) => {
                assert!(want > data.len() && want <= FRAME_BYTES_DEFAULT + frame::LENGTH_BYTES);
                return;
            }
            Err(_) => return,
        }
    }
}

fn handshakes(data: &[u8]) {
    let mut bytes = Vec::new();
    if let Ok(request) = ConnectRequest::decode(data) {
        request.encode(&mut bytes).expect("written to memory");
        assert_eq!(ConnectRequest::decode(&bytes), Ok(request));
    }
    bytes.clear();
    if let Ok(response) = ConnectResponse::decode(data) {
        response.encode(&mut bytes).expect("written to memory");
        assert_eq!(ConnectResponse::decode(&bytes), Ok(response));
    }
}

fn record<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    if let Ok(record) = codec::from_slice::<T>(data) {
        let bytes = codec::to_vec(&record).expect("written to memory");
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(codec::from_cursor::<T>(&mut cursor), Ok(record));
        assert_eq!(cursor.end(), Ok(()));
    }
}

fn records(data: &[u8]) {
    record::<RequestHeader>(data);
    record::<ReplyHeader>(data);
    record::<PathWatchRequest>(data);
    record::<PathRequest>(data);
    record::<PathVersionRequest>(data);
    record::<CreateRequest>(data);
    record::<CreateTtlRequest>(data);
    record::<DeleteContainerRequest>(data);
    record::<SetDataRequest>(data);
    record::<SetAclRequest>(data);
    record::<ReconfigRequest>(data);
    record::<WatchesRequest>(data);
    record::<AddWatchRequest>(data);
    record::<GetEphemeralsRequest>(data);
    record::<AuthPacket>(data);
    record::<SaslToken>(data);
    record::<SetWatches>(data);
    record::<SetWatches2>(data);
    record::<CreateSessionRequest>(data);
    record::<MultiHeader>(data);
    record::<PathResponse>(data);
    record::<Create2Response>(data);
    record::<StatResponse>(data);
    record::<GetDataResponse>(data);
    record::<GetAclResponse>(data);
    record::<GetChildrenResponse>(data);
    record::<GetChildren2Response>(data);
    record::<GetEphemeralsResponse>(data);
    record::<GetAllChildrenNumberResponse>(data);
    record::<ErrorResponse>(data);
    record::<WhoAmIResponse>(data);
    record::<WatcherEvent>(data);
}

/// The hot decoders, each against the derived record of the same request.
fn requests(data: &[u8]) {
    if let Ok((header, body)) = request::header(data) {
        assert_eq!(body.len() + request::HEADER_BYTES, data.len(), "{header:?}");
    }
    if let Ok(path) = request::path(data) {
        assert_eq!(codec::from_slice(data), Ok(PathRequest { path: path.to_owned() }));
        assert_eq!(request::delete_container(data), Ok(path));
    }
    if let Ok(request::PathWatch { path, watch }) = request::PathWatch::decode(data) {
        let path = path.to_owned();
        assert_eq!(codec::from_slice(data), Ok(PathWatchRequest { path, watch }));
    }
    if let Ok(request::PathVersion { path, version }) = request::PathVersion::decode(data) {
        let path = path.to_owned();
        assert_eq!(codec::from_slice(data), Ok(PathVersionRequest { path, version }));
    }
    if let Ok(set) = request::SetData::decode(data) {
        let record: SetDataRequest = codec::from_slice(data).expect("read by the hot decoder");
        assert_eq!((set.path, set.version), (&record.path[..], record.version));
        assert_eq!(set.data, record.data.as_ref().map(|data| &data[..]));
    }
    if let Ok(set) = request::SetAcl::decode(data) {
        let record: SetAclRequest = codec::from_slice(data).expect("read by the hot decoder");
        assert_eq!((set.path, set.version), (&record.path[..], record.version));
        assert_eq!(set.acl.to_vec(), record.acl.unwrap_or_default());
    }
    for op in [OpCode::CREATE, OpCode::CREATE_TTL] {
        if let Ok(create) = request::Create::decode(op, data) {
            let record: CreateRequest = codec::from_slice(data).expect("read by the hot decoder");
            assert_eq!((create.path, create.flags), (&record.path[..], record.flags));
            assert_eq!(create.data, record.data.as_ref().map(|data| &data[..]));
            assert_eq!(create.acl.to_vec(), record.acl.unwrap_or_default());
        }
    }
    for op in [OpCode::MULTI, OpCode::MULTI_READ] {
        if let Ok(multi) = request::Multi::decode(op, data) {
            assert_eq!(multi.iter().count(), multi.len());
            for operation in multi.iter() {
                assert!(operation.path().len() < data.len(), "{operation:?}");
            }
        }
    }
}

fn transaction(data: &[u8]) {
    if let Ok(transaction) = Transaction::decode(data) {
        let mut bytes = Vec::new();
        transaction.encode(&mut bytes);
        assert_eq!(Transaction::decode(&bytes), Ok(transaction));
    }
}

fn snapshot(data: &[u8]) {
    let through = Zxid::from_bits(i64::MAX);
    let limit = decode::string_limit(FRAME_BYTES_DEFAULT);
    // Both are to survive it; a checksum that fits is beyond a fuzzer.
    let _ = Decoder::file(through, limit).read(&mut &data[..]);
    if let Ok(restored) = Decoder::stream(through, limit).read(&mut &data[..]) {
        let mut reader = restored.registry.reader();
        reader.hold_newest();
        let encoder = Encoder::new(&mut reader, &restored.sessions, Form::Stream);
        let bytes = encoder.collect::<Vec<_>>().concat();
        let again = Decoder::stream(through, limit).read(&mut &bytes[..]).expect("written by us");
        assert_eq!(again.writer.counts(), restored.writer.counts());
        assert_eq!(again.sessions, restored.sessions);
    }
}
