//! Captured bytes, byte for byte: every frame between ZooKeeper and its clients, and every
//! transaction, is decoded, encoded again and compared; by the derived records, and by the hot
//! decoders and writers where there are such.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::codec::{self, to_writer};
use ringkeeper::jute::decode::{Cursor, DecodeError};
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::frame;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::*;
use ringkeeper::jute::txn::Transaction;
use ringkeeper::jute::{reply, request};
use ringkeeper::limits::FRAME_BYTES_DEFAULT;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Requests that must not come out as they went in: the file, the connection in
/// `all-operations.jsonl` that it was cut from, the xid, and what is odd about it. The server
/// answered all but the first with MARSHALLINGERROR.
const ODD_REQUESTS: [(&str, i64, i32, &str); 8] = [
    ("create.hex", 14, 35, "three bytes behind the record, which are ignored"),
    ("create.hex", 14, 34, "the record is cut short"),
    ("exists.hex", 19, 5, "a null path"),
    ("multi.hex", 35, 8, "a read"),
    ("multi.hex", 35, 9, "reads and writes"),
    ("multi.hex", 35, 10, "an operation that no multi takes"),
    ("multi.hex", 35, 11, "unknown create flags"),
    ("multiRead.hex", 36, 3, "a write"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// The frames of one connection, as its client saw them.
struct Conversation {
    name: String,
    frames: Vec<(Side, Vec<u8>)>,
}

#[test]
fn every_captured_frame_is_decoded_and_encoded_to_the_same_bytes() {
    let conversations = conversations();
    let mut problems = Vec::new();
    let mut frames = 0;
    for conversation in &conversations {
        frames += conversation.frames.len();
        check(conversation, &mut problems);
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(conversations.len() > 100, "only {} conversations", conversations.len());
    assert!(frames > 1_500, "only {frames} frames");
}

#[test]
fn every_captured_transaction_is_decoded_and_encoded_to_the_same_bytes() {
    let mut seen = BTreeMap::new();
    for (file, text) in files("transactions", "hex") {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let bytes = unhex(line);
            let transaction = match Transaction::decode(&bytes) {
                Ok(transaction) => transaction,
                Err(error) => panic!("{}: {error}: {line}", file.display()),
            };
            let mut again = Vec::new();
            transaction.encode(&mut again);
            assert_eq!(again, bytes, "{}: {transaction:?}", file.display());
            *seen.entry(transaction.header.op.0).or_insert(0) += 1;
        }
    }
    let kinds: Vec<i32> = seen.keys().copied().collect();
    assert_eq!(kinds, [-11, -10, -1, 1, 2, 5, 7, 14, 15, 16, 19, 20, 21], "{seen:?}");
}

fn check(conversation: &Conversation, problems: &mut Vec<String>) {
    let mut greeted = (false, false);
    let mut waiting = Waiting::new();
    for (index, (side, frame)) in conversation.frames.iter().enumerate() {
        let place = format!("{} frame {index} {side:?}", conversation.name);
        let verdict = match side {
            Side::Client if !greeted.0 => {
                greeted.0 = true;
                connect_request(frame)
            }
            Side::Client => {
                let (header, body) = request::header(frame).expect("a header");
                let verdict = client_request(header, body);
                let refused = matches!(verdict, Err(Problem::Refused(_)));
                let asked = Asked { op: header.op, refused };
                waiting.entry(header.xid).or_default().push_back(asked);
                match (verdict, odd(&conversation.name, header.xid)) {
                    (Ok(()), true) => Err(Problem::Other("is not odd at all".into())),
                    (Err(_), true) => Ok(()),
                    (verdict, false) => verdict,
                }
            }
            Side::Server if !greeted.1 => {
                greeted.1 = true;
                connect_response(frame)
            }
            Side::Server => server_frame(frame, &mut waiting),
        };
        if let Err(problem) = verdict {
            problems.push(format!("{place}: {problem}: {}", hex(frame)));
        }
    }
}

fn odd(name: &str, xid: i32) -> bool {
    ODD_REQUESTS.iter().any(|&(file, conn, odd, _)| {
        xid == odd && (name == file || name == format!("all-operations.jsonl conn {conn}"))
    })
}

/// A request that has no reply yet.
struct Asked {
    op: OpCode,
    /// A decoder of ours refused it.
    refused: bool,
}

/// By xid, in the order sent.
type Waiting = HashMap<i32, VecDeque<Asked>>;

/// What is wrong with a frame.
enum Problem {
    /// A decoder refused it.
    Refused(DecodeError),
    /// It does not come out as it went in, or it is out of place.
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Refused(error) => write!(f, "refused: {error}"),
            Problem::Other(what) => f.write_str(what),
        }
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Problem {
        Problem::Refused(error)
    }
}

type Verdict = Result<(), Problem>;

fn same(what: &str, again: &[u8], bytes: &[u8]) -> Verdict {
    if again == bytes {
        return Ok(());
    }
    Err(Problem::Other(format!("{what} gives {}", hex(again))))
}

fn connect_request(frame: &[u8]) -> Verdict {
    let request = ConnectRequest::decode(frame)?;
    let mut again = Vec::new();
    request.encode(&mut again).expect("written to memory");
    same("ConnectRequest", &again, frame)
}

fn connect_response(frame: &[u8]) -> Verdict {
    if frame.len() == reply::HEADER_BYTES {
        // A read-only server without local sessions answers with a bare reply header.
        let mut cursor = Cursor::new(frame);
        let mut again = Vec::new();
        recode::<ReplyHeader>(&mut cursor, &mut again)?;
        return same("ReplyHeader", &again, frame);
    }
    let response = ConnectResponse::decode(frame)?;
    let mut again = Vec::new();
    response.encode(&mut again).expect("written to memory");
    same("ConnectResponse", &again, frame)?;
    let session = SessionId::from_bits(response.session_id);
    let mut hot = Vec::new();
    if session == SessionId::NONE {
        reply::refuse_session(&mut hot, response.read_only);
    } else {
        let password = session.password();
        reply::connect(&mut hot, response.timeout_ms, session, &password, response.read_only);
    }
    same("reply::connect", &hot[frame::LENGTH_BYTES..], frame)
}

/// Reads a record at `cursor` and appends it to `again`.
fn recode<T: Serialize + DeserializeOwned>(
    cursor: &mut Cursor<'_>,
    again: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let record: T = codec::from_cursor(cursor)?;
    to_writer(again, &record).expect("written to memory");
    Ok(())
}

fn client_request(header: request::Header, body: &[u8]) -> Verdict {
    let mut again = Vec::new();
    recode_request(header.op, &mut Cursor::new(body), &mut again)?;
    same("the record", &again, body)?;
    let mut hot = Vec::new();
    if hot_request(header.op, body, &mut hot)? {
        same("the hot decoder", &hot, body)?;
    }
    Ok(())
}

fn recode_request(
    op: OpCode,
    cursor: &mut Cursor<'_>,
    again: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER => {
            recode::<CreateRequest>(cursor, again)
        }
        OpCode::CREATE_TTL => recode::<CreateTtlRequest>(cursor, again),
        OpCode::DELETE | OpCode::CHECK => recode::<PathVersionRequest>(cursor, again),
        OpCode::EXISTS | OpCode::GET_DATA | OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => {
            recode::<PathWatchRequest>(cursor, again)
        }
        OpCode::SET_DATA => recode::<SetDataRequest>(cursor, again),
        OpCode::GET_ACL | OpCode::SYNC | OpCode::GET_ALL_CHILDREN_NUMBER => {
            recode::<PathRequest>(cursor, again)
        }
        OpCode::SET_ACL => recode::<SetAclRequest>(cursor, again),
        OpCode::RECONFIG => recode::<ReconfigRequest>(cursor, again),
        OpCode::CHECK_WATCHES | OpCode::REMOVE_WATCHES => recode::<WatchesRequest>(cursor, again),
        OpCode::DELETE_CONTAINER => recode::<DeleteContainerRequest>(cursor, again),
        OpCode::AUTH => recode::<AuthPacket>(cursor, again),
        OpCode::SET_WATCHES => recode::<SetWatches>(cursor, again),
        OpCode::SET_WATCHES2 => recode::<SetWatches2>(cursor, again),
        OpCode::SASL => recode::<SaslToken>(cursor, again),
        OpCode::GET_EPHEMERALS => recode::<GetEphemeralsRequest>(cursor, again),
        OpCode::ADD_WATCH => recode::<AddWatchRequest>(cursor, again),
        OpCode::CREATE_SESSION => recode::<CreateSessionRequest>(cursor, again),
        OpCode::MULTI | OpCode::MULTI_READ => loop {
            let header: MultiHeader = codec::from_cursor(cursor)?;
            to_writer(&mut *again, &header).expect("written to memory");
            if header.done {
                return Ok(());
            }
            recode_request(OpCode(header.op), cursor, again)?;
        },
        // ping, closeSession and whoAmI have no record; what an unknown type has nobody knows.
        _ => Ok(()),
    }
}

/// Whether `op` has a hot decoder; then its request is decoded and appended to `again`.
fn hot_request(op: OpCode, body: &[u8], again: &mut Vec<u8>) -> Result<bool, DecodeError> {
    match op {
        OpCode::EXISTS | OpCode::GET_DATA | OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => {
            path_watch(request::PathWatch::decode(body)?, again);
        }
        OpCode::GET_ACL | OpCode::SYNC | OpCode::GET_ALL_CHILDREN_NUMBER => {
            reply::string(again, request::path(body)?);
        }
        OpCode::DELETE_CONTAINER => reply::string(again, request::delete_container(body)?),
        OpCode::DELETE | OpCode::CHECK => {
            path_version(request::PathVersion::decode(body)?, again);
        }
        OpCode::SET_DATA => set_data(request::SetData::decode(body)?, again),
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            create(request::Create::decode(op, body)?, again);
        }
        OpCode::SET_ACL => {
            let set = request::SetAcl::decode(body)?;
            reply::string(again, set.path);
            again.extend_from_slice(set.acl.as_bytes());
            reply::int(again, set.version);
        }
        OpCode::MULTI | OpCode::MULTI_READ => {
            for operation in request::Multi::decode(op, body)?.iter() {
                to_writer(&mut *again, &(operation.op().0, false, -1)).expect("to memory");
                match operation {
                    request::Operation::Create(_, it) => create(it, again),
                    request::Operation::Delete(it) | request::Operation::Check(it) => {
                        path_version(it, again);
                    }
                    request::Operation::SetData(it) => set_data(it, again),
                    request::Operation::GetData(it) | request::Operation::GetChildren(it) => {
                        path_watch(it, again);
                    }
                }
            }
            reply::multi_end(again);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn path_watch(read: request::PathWatch<'_>, again: &mut Vec<u8>) {
    reply::string(again, read.path);
    again.push(read.watch.into());
}

fn path_version(it: request::PathVersion<'_>, again: &mut Vec<u8>) {
    reply::string(again, it.path);
    reply::int(again, it.version);
}

fn set_data(set: request::SetData<'_>, again: &mut Vec<u8>) {
    reply::string(again, set.path);
    reply::buffer(again, set.data);
    reply::int(again, set.version);
}

fn create(create: request::Create<'_>, again: &mut Vec<u8>) {
    reply::string(again, create.path);
    reply::buffer(again, create.data);
    match create.acl.as_bytes() {
        // A null list, which its entries cannot tell from an empty one.
        null @ [0xff, 0xff, 0xff, 0xff] => again.extend_from_slice(null),
        _ => reply::acl(again, &create.acl.to_vec()),
    }
    reply::int(again, create.flags);
    again.extend(create.ttl.iter().flat_map(|ttl| ttl.to_be_bytes()));
}

fn server_frame(frame: &[u8], waiting: &mut Waiting) -> Verdict {
    let mut cursor = Cursor::new(frame);
    let header: ReplyHeader = codec::from_cursor(&mut cursor)?;
    let mut again = Vec::new();
    to_writer(&mut again, &header).expect("written to memory");
    let body = cursor.rest();
    if header.xid == request::XID_EVENT {
        let event = codec::from_slice::<WatcherEvent>(body)?;
        to_writer(&mut again, &event).expect("written to memory");
        same("WatcherEvent", &again, frame)?;
        return hot_event(header, &event, frame);
    }
    let Some(Asked { op, refused }) = waiting.get_mut(&header.xid).and_then(VecDeque::pop_front)
    else {
        let is_create_session = |asked: &Asked| asked.op == OpCode::CREATE_SESSION;
        let Some(asked) =
            waiting.values_mut().find(|asked| asked.front().is_some_and(is_create_session))
        else {
            return Err(Problem::Other("answers nothing".into()));
        };
        // createSession from inside of a session is answered as a handshake is.
        let _ = asked.pop_front();
        return connect_response(frame);
    };
    if header.err == 0 || !body.is_empty() {
        recode_reply(op, &mut cursor, &mut again)?;
    }
    if refused && header.err != ErrorCode::MarshallingError.code() {
        return Err(Problem::Other("the server took what we refuse".into()));
    }
    same("the record", &again, frame)?;
    hot_reply(op, header, body, frame)
}

fn hot_event(header: ReplyHeader, event: &WatcherEvent, frame: &[u8]) -> Verdict {
    let kind = match event.kind {
        1 => EventType::NodeCreated,
        2 => EventType::NodeDeleted,
        3 => EventType::NodeDataChanged,
        4 => EventType::NodeChildrenChanged,
        other => return Err(Problem::Other(format!("event {other}"))),
    };
    let mut hot = Vec::new();
    reply::event(&mut hot, Zxid::from_bits(header.zxid), kind, &event.path);
    same("reply::event", &hot[frame::LENGTH_BYTES..], frame)
}

fn recode_reply(
    op: OpCode,
    cursor: &mut Cursor<'_>,
    again: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    match op {
        OpCode::CREATE | OpCode::SYNC => recode::<PathResponse>(cursor, again),
        OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            recode::<Create2Response>(cursor, again)
        }
        OpCode::EXISTS | OpCode::SET_DATA | OpCode::SET_ACL => {
            recode::<StatResponse>(cursor, again)
        }
        OpCode::GET_DATA | OpCode::RECONFIG => recode::<GetDataResponse>(cursor, again),
        OpCode::GET_ACL => recode::<GetAclResponse>(cursor, again),
        OpCode::GET_CHILDREN => recode::<GetChildrenResponse>(cursor, again),
        OpCode::GET_CHILDREN2 => recode::<GetChildren2Response>(cursor, again),
        OpCode::GET_EPHEMERALS => recode::<GetEphemeralsResponse>(cursor, again),
        OpCode::GET_ALL_CHILDREN_NUMBER => recode::<GetAllChildrenNumberResponse>(cursor, again),
        OpCode::ADD_WATCH | OpCode::ERROR => recode::<ErrorResponse>(cursor, again),
        OpCode::SASL => recode::<SaslToken>(cursor, again),
        OpCode::WHO_AM_I => recode::<WhoAmIResponse>(cursor, again),
        OpCode::MULTI | OpCode::MULTI_READ => loop {
            let header: MultiHeader = codec::from_cursor(cursor)?;
            to_writer(&mut *again, &header).expect("written to memory");
            if header.done {
                return Ok(());
            }
            recode_reply(OpCode(header.op), cursor, again)?;
        },
        // The others are answered by a bare header.
        _ => Ok(()),
    }
}

/// Writes the reply with `jute::reply`, if that can, and compares.
fn hot_reply(op: OpCode, header: ReplyHeader, body: &[u8], frame: &[u8]) -> Verdict {
    let (xid, zxid) = (header.xid, Zxid::from_bits(header.zxid));
    let mut hot = Vec::new();
    let out = &mut hot;
    if body.is_empty() {
        reply::bare(out, xid, zxid, error_code(header.err)?);
        return same("reply::bare", &hot[frame::LENGTH_BYTES..], frame);
    }
    match op {
        OpCode::CREATE | OpCode::SYNC => {
            reply::path(out, xid, zxid, &record::<PathResponse>(body).path);
        }
        OpCode::EXISTS | OpCode::SET_DATA | OpCode::SET_ACL => {
            reply::stat_only(out, xid, zxid, &record::<StatResponse>(body).stat);
        }
        OpCode::GET_DATA => {
            let it: GetDataResponse = record(body);
            reply::get_data(out, xid, zxid, it.data.as_ref().map(|data| &data[..]), &it.stat);
        }
        OpCode::GET_ACL => {
            let it: GetAclResponse = record(body);
            reply::get_acl(out, xid, zxid, &it.acl, &it.stat);
        }
        OpCode::GET_CHILDREN => {
            let it: GetChildrenResponse = record(body);
            reply::get_children(out, xid, zxid, it.children.iter().map(String::as_str));
        }
        OpCode::GET_CHILDREN2 => {
            let it: GetChildren2Response = record(body);
            let children = it.children.iter().map(String::as_str);
            reply::get_children2(out, xid, zxid, children, &it.stat);
        }
        OpCode::MULTI | OpCode::MULTI_READ => {
            let start = reply::begin_frame(out);
            reply::header(out, xid, zxid, error_code(header.err)?);
            hot_multi(body, out)?;
            reply::finish_frame(out, start);
        }
        _ => reply::with_body(out, xid, zxid, error_code(header.err)?, body),
    }
    same("jute::reply", &hot[frame::LENGTH_BYTES..], frame)
}

fn hot_multi(body: &[u8], out: &mut Vec<u8>) -> Verdict {
    let cursor = &mut Cursor::new(body);
    loop {
        let header: MultiHeader = part(cursor);
        if header.done {
            reply::multi_end(out);
            return Ok(());
        }
        match OpCode(header.op) {
            OpCode::CREATE => reply::multi_create(out, &part::<PathResponse>(cursor).path),
            OpCode::CREATE2 => {
                let it: Create2Response = part(cursor);
                reply::multi_create2(out, &it.path, &it.stat);
            }
            OpCode::DELETE => reply::multi_delete(out),
            OpCode::CHECK => reply::multi_check(out),
            OpCode::SET_DATA => reply::multi_set_data(out, &part::<StatResponse>(cursor).stat),
            OpCode::GET_DATA => {
                let it: GetDataResponse = part(cursor);
                reply::multi_get_data(out, it.data.as_ref().map(|data| &data[..]), &it.stat);
            }
            OpCode::GET_CHILDREN => {
                let it: GetChildrenResponse = part(cursor);
                reply::multi_get_children(out, it.children.iter().map(String::as_str));
            }
            OpCode::ERROR => {
                reply::multi_error(out, error_code(part::<ErrorResponse>(cursor).err)?);
            }
            other => return Err(Problem::Other(format!("{other:?} in a multi's answer"))),
        }
    }
}

fn record<T: DeserializeOwned>(body: &[u8]) -> T {
    codec::from_slice(body).expect("decoded before")
}

fn part<T: DeserializeOwned>(cursor: &mut Cursor<'_>) -> T {
    codec::from_cursor(cursor).expect("decoded before")
}

fn error_code(err: i32) -> Result<ErrorCode, Problem> {
    ErrorCode::from_code(err).ok_or_else(|| Problem::Other(format!("error code {err}")))
}

/// Everything under `vectors/client`.
fn conversations() -> Vec<Conversation> {
    let mut all = Vec::new();
    for (path, text) in files("client/ops", "hex") {
        let frames = text.lines().filter_map(|line| {
            let (side, rest) = match line.split_at_checked(2)? {
                ("C ", rest) => (Side::Client, rest),
                ("S ", rest) => (Side::Server, rest),
                _ => return None,
            };
            let bytes = unhex(rest);
            Some((side, body(&bytes).expect("a whole frame").to_vec()))
        });
        all.push(Conversation { name: name(&path), frames: frames.collect() });
    }
    for (path, text) in files("client", "jsonl") {
        all.extend(recording(&name(&path), &text));
    }
    all
}

/// The connections of one recording.
fn recording(name: &str, text: &str) -> Vec<Conversation> {
    let mut conversations: BTreeMap<i64, Conversation> = BTreeMap::new();
    let mut pending: BTreeMap<(i64, Side), Vec<u8>> = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if line["ev"] != "data" {
            continue;
        }
        let conn = line["conn"].as_i64().expect("conn");
        let side = if line["dir"] == ">" { Side::Client } else { Side::Server };
        let buffer = pending.entry((conn, side)).or_default();
        buffer.extend(unhex(line["hex"].as_str().expect("hex")));
        let conversation = conversations.entry(conn).or_insert_with(|| Conversation {
            name: format!("{name} conn {conn}"),
            frames: Vec::new(),
        });
        while let Some(body) = body(buffer).map(<[u8]>::to_vec) {
            buffer.drain(..frame::LENGTH_BYTES + body.len());
            conversation.frames.push((side, body));
        }
    }
    for ((conn, side), left) in pending {
        // The one frame that a server did not take: its length is above jute.maxbuffer.
        let refused = frame::next(&left, FRAME_BYTES_DEFAULT).is_err();
        assert!(left.is_empty() || refused, "{name} conn {conn} {side:?}: {}", hex(&left));
    }
    conversations.into_values().collect()
}

/// The body of the frame at the start of `buffer`, if it is whole.
fn body(buffer: &[u8]) -> Option<&[u8]> {
    match frame::next(buffer, FRAME_BYTES_DEFAULT) {
        Ok(frame::Next::Frame(body)) => Some(body),
        _ => None,
    }
}

fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim().as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hex digit") as u8;
    text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
