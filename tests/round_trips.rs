//! Every record and every transaction, with any content, comes back from its bytes as it was; and
//! arbitrary bytes never make a decoder panic.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::codec;
use ringkeeper::jute::decode::Cursor;
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::frame;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::*;
use ringkeeper::jute::txn::{self, MultiWriter, Transaction, Txn, TxnDigest, TxnHeader};
use ringkeeper::jute::{reply, request};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[path = "../fuzz/decode_everything.rs"]
mod decode_everything;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["(/[a-z0-9]{0,8}){0,4}", any::<String>()]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..5)
}

fn buffer() -> impl Strategy<Value = Buffer> {
    option::of(vec(any::<u8>(), 0..64).prop_map(serde_bytes::ByteBuf::from))
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let entry = (any::<i32>(), text(), text())
        .prop_map(|(perms, scheme, id)| Acl { perms, id: Id { scheme, id } });
    vec(entry, 0..4)
}

fn stat() -> impl Strategy<Value = Stat> {
    let longs = any::<[i64; 6]>();
    let ints = any::<[i32; 5]>();
    (longs, ints).prop_map(|(longs, ints)| Stat {
        czxid: longs[0],
        mzxid: longs[1],
        ctime: longs[2],
        mtime: longs[3],
        version: ints[0],
        cversion: ints[1],
        aversion: ints[2],
        ephemeral_owner: longs[4],
        data_length: ints[3],
        num_children: ints[4],
        pzxid: longs[5],
    })
}

/// `record` comes back from its bytes, all of them are taken, and one byte less is refused.
fn comes_back<T>(record: T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = codec::to_vec(&record).expect("written to memory");
    let mut cursor = Cursor::new(&bytes);
    prop_assert_eq!(codec::from_cursor::<T>(&mut cursor), Ok(record));
    prop_assert_eq!(cursor.left(), 0);
    if let Some((_, shorter)) = bytes.split_last() {
        prop_assert!(codec::from_slice::<T>(shorter).is_err());
    }
    Ok(())
}

/// One test a record: its fields' strategies, in order.
macro_rules! records_come_back {
    ($($test:ident: $record:ident { $($field:ident: $strategy:expr),* $(,)? })*) => {
        proptest! {
            $(
                #[test]
                fn $test($($field in $strategy),*) {
                    comes_back($record { $($field),* })?;
                }
            )*
        }
    };
}

records_come_back! {
    a_request_header_comes_back: RequestHeader { xid: any::<i32>(), op: any::<i32>() }
    a_reply_header_comes_back: ReplyHeader {
        xid: any::<i32>(), zxid: any::<i64>(), err: any::<i32>()
    }
    a_path_watch_request_comes_back: PathWatchRequest { path: text(), watch: any::<bool>() }
    a_path_request_comes_back: PathRequest { path: text() }
    a_path_version_request_comes_back: PathVersionRequest { path: text(), version: any::<i32>() }
    a_create_request_comes_back: CreateRequest {
        path: text(), data: buffer(), acl: option::of(acl()), flags: any::<i32>()
    }
    a_create_ttl_request_comes_back: CreateTtlRequest {
        path: text(), data: buffer(), acl: option::of(acl()), flags: any::<i32>(),
        ttl: any::<i64>()
    }
    a_delete_container_request_comes_back: DeleteContainerRequest { path: buffer() }
    a_set_data_request_comes_back: SetDataRequest {
        path: text(), data: buffer(), version: any::<i32>()
    }
    a_set_acl_request_comes_back: SetAclRequest {
        path: text(), acl: option::of(acl()), version: any::<i32>()
    }
    a_reconfig_request_comes_back: ReconfigRequest {
        joining_servers: option::of(text()), leaving_servers: option::of(text()),
        new_members: option::of(text()), cur_config_id: any::<i64>()
    }
    a_watches_request_comes_back: WatchesRequest { path: text(), kind: any::<i32>() }
    an_add_watch_request_comes_back: AddWatchRequest { path: text(), mode: any::<i32>() }
    a_get_ephemerals_request_comes_back: GetEphemeralsRequest { prefix_path: option::of(text()) }
    an_auth_packet_comes_back: AuthPacket { kind: any::<i32>(), scheme: text(), auth: buffer() }
    a_sasl_token_comes_back: SaslToken { token: buffer() }
    a_set_watches_request_comes_back: SetWatches {
        relative_zxid: any::<i64>(), data_watches: texts(), exist_watches: texts(),
        child_watches: texts()
    }
    a_set_watches_2_request_comes_back: SetWatches2 {
        relative_zxid: any::<i64>(), data_watches: texts(), exist_watches: texts(),
        child_watches: texts(), persistent_watches: texts(),
        persistent_recursive_watches: texts()
    }
    a_create_session_request_comes_back: CreateSessionRequest { timeout_ms: any::<i32>() }
    a_multi_header_comes_back: MultiHeader {
        op: any::<i32>(), done: any::<bool>(), err: any::<i32>()
    }
    a_path_response_comes_back: PathResponse { path: text() }
    a_create_2_response_comes_back: Create2Response { path: text(), stat: stat() }
    a_stat_response_comes_back: StatResponse { stat: stat() }
    a_get_data_response_comes_back: GetDataResponse { data: buffer(), stat: stat() }
    a_get_acl_response_comes_back: GetAclResponse { acl: acl(), stat: stat() }
    a_get_children_response_comes_back: GetChildrenResponse { children: texts() }
    a_get_children_2_response_comes_back: GetChildren2Response { children: texts(), stat: stat() }
    a_get_ephemerals_response_comes_back: GetEphemeralsResponse { ephemerals: texts() }
    a_get_all_children_number_response_comes_back: GetAllChildrenNumberResponse {
        total_number: any::<i32>()
    }
    an_error_response_comes_back: ErrorResponse { err: any::<i32>() }
    a_watcher_event_comes_back: WatcherEvent {
        kind: any::<i32>(), state: any::<i32>(), path: text()
    }
}

proptest! {
    #[test]
    fn a_who_am_i_response_comes_back(
        client_info in vec(
            (text(), text()).prop_map(|(auth_scheme, user)| ClientInfo { auth_scheme, user }),
            0..4,
        ),
    ) {
        comes_back(WhoAmIResponse { client_info })?;
    }

    #[test]
    fn a_handshake_comes_back(
        ids in any::<[i64; 2]>(),
        timeout_ms in any::<i32>(),
        password in buffer(),
        read_only in option::of(any::<bool>()),
    ) {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: ids[0],
            timeout_ms,
            session_id: ids[1],
            password: password.clone(),
            read_only,
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes).unwrap();
        prop_assert_eq!(ConnectRequest::decode(&bytes), Ok(request));
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms,
            session_id: ids[1],
            password,
            read_only,
        };
        bytes.clear();
        response.encode(&mut bytes).unwrap();
        prop_assert_eq!(ConnectResponse::decode(&bytes), Ok(response));
    }

    #[test]
    fn the_hot_decoders_read_what_the_derived_records_write(
        path in text(),
        data in buffer(),
        entries in acl(),
        numbers in any::<(i32, i64, bool)>(),
    ) {
        let (version, ttl, watch) = numbers;
        let bytes = codec::to_vec(&PathWatchRequest { path: path.clone(), watch }).unwrap();
        let read = request::PathWatch { path: &path, watch };
        prop_assert_eq!(request::PathWatch::decode(&bytes), Ok(read));

        let bytes = codec::to_vec(&PathVersionRequest { path: path.clone(), version }).unwrap();
        let delete = request::PathVersion { path: &path, version };
        prop_assert_eq!(request::PathVersion::decode(&bytes), Ok(delete));

        let set = SetDataRequest { path: path.clone(), data: data.clone(), version };
        let bytes = codec::to_vec(&set).unwrap();
        let data_bytes = data.as_ref().map(|data| &data[..]);
        let set = request::SetData { path: &path, data: data_bytes, version };
        prop_assert_eq!(request::SetData::decode(&bytes), Ok(set));

        let record = CreateTtlRequest {
            path: path.clone(),
            data: data.clone(),
            acl: Some(entries.clone()),
            flags: version,
            ttl,
        };
        let bytes = codec::to_vec(&record).unwrap();
        let create = request::Create::decode(OpCode::CREATE_TTL, &bytes).unwrap();
        prop_assert_eq!(create.acl.to_vec(), entries.clone());
        prop_assert_eq!((create.path, create.data), (&path[..], data_bytes));
        prop_assert_eq!((create.flags, create.ttl), (version, Some(ttl)));

        let record = SetAclRequest { path: path.clone(), acl: Some(entries.clone()), version };
        let bytes = codec::to_vec(&record).unwrap();
        let set = request::SetAcl::decode(&bytes).unwrap();
        prop_assert_eq!((set.path, set.acl.to_vec(), set.version), (&path[..], entries, version));
    }

    #[test]
    fn the_hot_replies_are_read_by_the_derived_records(
        xid in any::<i32>(),
        zxid in any::<i64>(),
        path in text(),
        children in texts(),
        data in buffer(),
        stat in stat(),
    ) {
        let at = Zxid::from_bits(zxid);
        let mut out = vec![7; 3];
        reply::get_data(&mut out, xid, at, data.as_ref().map(|data| &data[..]), &stat);
        reply::get_children2(&mut out, xid, at, children.iter().map(String::as_str), &stat);
        reply::path(&mut out, xid, at, &path);
        reply::bare(&mut out, xid, at, ErrorCode::NoNode);
        let mut rest = &out[3..];
        let header = ReplyHeader { xid, zxid, err: 0 };
        prop_assert_eq!(
            taken::<GetDataResponse>(&mut rest),
            (header.clone(), Some(GetDataResponse { data, stat }))
        );
        prop_assert_eq!(
            taken::<GetChildren2Response>(&mut rest),
            (header.clone(), Some(GetChildren2Response { children, stat }))
        );
        prop_assert_eq!(
            taken::<PathResponse>(&mut rest),
            (header.clone(), Some(PathResponse { path }))
        );
        let failed = ReplyHeader { err: -101, ..header };
        prop_assert_eq!(taken::<PathResponse>(&mut rest), (failed, None));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_transaction_comes_back(
        header in header(),
        part in part(),
        digest in option::of(any::<(i32, i64)>()),
    ) {
        let mut bytes = Vec::new();
        txn::encode_header(&mut bytes, &TxnHeader { op: part.op, ..header });
        part.write(&mut bytes);
        let digest = digest.map(|(version, tree)| TxnDigest { version, tree });
        if let Some(digest) = digest {
            txn::encode_digest(&mut bytes, digest);
        }
        let read = Transaction::decode(&bytes).unwrap();
        prop_assert_eq!(read.header, TxnHeader { op: part.op, ..header });
        prop_assert_eq!(read.digest, digest);
        part.same(&read.txn)?;
        let mut again = Vec::new();
        read.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_multi_comes_back(header in header(), parts in vec(part(), 0..6)) {
        let mut bytes = Vec::new();
        txn::encode_header(&mut bytes, &TxnHeader { op: OpCode::MULTI, ..header });
        let mut multi = MultiWriter::begin(&mut bytes);
        for part in &parts {
            multi.part(part.op, |out| part.write(out));
        }
        multi.finish();
        let read = Transaction::decode(&bytes).unwrap();
        let Txn::Multi(read_parts) = &read.txn else { panic!("{read:?}") };
        prop_assert_eq!(read_parts.len(), parts.len());
        for (read, part) in read_parts.iter().zip(&parts) {
            prop_assert_eq!(read.op, part.op);
            part.same(&read.txn)?;
        }
        let mut again = Vec::new();
        read.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_transaction_cut_short_is_refused_or_is_an_older_form(header in header(), part in part()) {
        let mut bytes = Vec::new();
        txn::encode_header(&mut bytes, &TxnHeader { op: part.op, ..header });
        part.write(&mut bytes);
        for end in 0..bytes.len() {
            let Ok(read) = Transaction::decode(&bytes[..end]) else { continue };
            let older = matches!(
                read.txn,
                Txn::Create { parent_cversion: None, .. } | Txn::CloseSession { paths: None }
            );
            prop_assert!(older, "{read:?}");
        }
    }

    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..256)) {
        decode_everything::decode_everything(&bytes);
    }

    // Small bytes make counts and lengths that are nearly right, which get further than chance.
    #[test]
    fn no_decoder_panics_on_bytes_that_look_like_lengths(bytes in vec(0_u8..6, 0..256)) {
        decode_everything::decode_everything(&bytes);
    }
}

/// The next frame of `rest`: its header, and its body unless it is an error.
fn taken<T: DeserializeOwned>(rest: &mut &[u8]) -> (ReplyHeader, Option<T>) {
    let Ok(frame::Next::Frame(body)) = frame::next(rest, usize::MAX) else {
        panic!("not a frame: {rest:?}")
    };
    *rest = &rest[frame::LENGTH_BYTES + body.len()..];
    let mut cursor = Cursor::new(body);
    let header: ReplyHeader = codec::from_cursor(&mut cursor).expect("a header");
    let record =
        if header.err == 0 { Some(codec::from_cursor(&mut cursor).unwrap()) } else { None };
    assert_eq!(cursor.end(), Ok(()));
    (header, record)
}

fn header() -> impl Strategy<Value = TxnHeader> {
    any::<(i64, i32, i64, i64)>().prop_map(|(client_id, cxid, zxid, time_ms)| TxnHeader {
        client_id: SessionId::from_bits(client_id),
        cxid,
        zxid: Zxid::from_bits(zxid),
        time_ms,
        op: OpCode::ERROR,
    })
}

/// What a transaction of type `op` can hold; each type takes what it needs.
#[derive(Clone, Debug)]
struct Part {
    op: OpCode,
    path: String,
    data: Buffer,
    acl: Vec<Acl>,
    paths: Vec<String>,
    number: i32,
    ttl: i64,
    ephemeral: bool,
}

fn part() -> impl Strategy<Value = Part> {
    let op = prop::sample::select(vec![
        OpCode::CREATE_SESSION,
        OpCode::CLOSE_SESSION,
        OpCode::CREATE,
        OpCode::CREATE2,
        OpCode::CREATE_CONTAINER,
        OpCode::CREATE_TTL,
        OpCode::DELETE,
        OpCode::DELETE_CONTAINER,
        OpCode::SET_DATA,
        OpCode::RECONFIG,
        OpCode::SET_ACL,
        OpCode::CHECK,
        OpCode::ERROR,
    ]);
    // Two empty paths are twelve bytes that begin with 2, which is how a digest looks; no session
    // has an ephemeral without a name.
    let paths = vec("/[a-z]{1,8}", 0..5);
    (op, text(), buffer(), acl(), paths, any::<(i32, i64, bool)>()).prop_map(
        |(op, path, data, acl, paths, (number, ttl, ephemeral))| Part {
            op,
            path,
            data,
            acl,
            paths,
            number,
            ttl,
            ephemeral,
        },
    )
}

impl Part {
    fn data(&self) -> Option<&[u8]> {
        self.data.as_ref().map(|data| &data[..])
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (path, data, acl, number) = (&self.path[..], self.data(), &self.acl[..], self.number);
        match self.op {
            OpCode::CREATE_SESSION => txn::encode_create_session(out, number),
            OpCode::CLOSE_SESSION => {
                txn::encode_close_session(out, self.paths.iter().map(String::as_str));
            }
            OpCode::CREATE | OpCode::CREATE2 => {
                txn::encode_create(out, path, data, acl, self.ephemeral, number);
            }
            OpCode::CREATE_CONTAINER => {
                txn::encode_create_container(out, path, data, acl, number);
            }
            OpCode::CREATE_TTL => txn::encode_create_ttl(out, path, data, acl, number, self.ttl),
            OpCode::DELETE | OpCode::DELETE_CONTAINER => txn::encode_delete(out, path),
            OpCode::SET_DATA | OpCode::RECONFIG => txn::encode_set_data(out, path, data, number),
            OpCode::SET_ACL => txn::encode_set_acl(out, path, acl, number),
            OpCode::CHECK => txn::encode_check(out, path, number),
            OpCode::ERROR => txn::encode_error(out, number),
            other => panic!("{other:?}"),
        }
    }

    /// `read` holds what was written.
    fn same(&self, read: &Txn<'_>) -> Result<(), TestCaseError> {
        match *read {
            Txn::CreateSession { timeout_ms } => prop_assert_eq!(timeout_ms, self.number),
            Txn::CloseSession { paths } => {
                let paths: Vec<&str> = paths.expect("a record").iter().collect();
                prop_assert_eq!(&paths, &self.paths);
            }
            Txn::Create { path, data, acl, ephemeral, parent_cversion } => {
                prop_assert_eq!((path, data), (&self.path[..], self.data()));
                prop_assert_eq!(&acl.to_vec(), &self.acl);
                prop_assert_eq!(ephemeral, self.ephemeral);
                prop_assert_eq!(parent_cversion, Some(self.number));
            }
            Txn::CreateContainer { path, data, acl, parent_cversion } => {
                prop_assert_eq!((path, data), (&self.path[..], self.data()));
                prop_assert_eq!(&acl.to_vec(), &self.acl);
                prop_assert_eq!(parent_cversion, self.number);
            }
            Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
                prop_assert_eq!((path, data), (&self.path[..], self.data()));
                prop_assert_eq!(&acl.to_vec(), &self.acl);
                prop_assert_eq!((parent_cversion, ttl_ms), (self.number, self.ttl));
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => {
                prop_assert_eq!(path, &self.path);
            }
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                prop_assert_eq!((path, data), (&self.path[..], self.data()));
                prop_assert_eq!(version, self.number);
            }
            Txn::SetAcl { path, acl, version } => {
                prop_assert_eq!((path, version), (&self.path[..], self.number));
                prop_assert_eq!(&acl.to_vec(), &self.acl);
            }
            Txn::Check { path, version } => {
                prop_assert_eq!((path, version), (&self.path[..], self.number));
            }
            Txn::Error(err) => prop_assert_eq!(err, self.number),
            Txn::Multi(_) => prop_assert!(false, "a multi in {:?}", self),
        }
        Ok(())
    }
}
