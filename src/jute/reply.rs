//! Replies, events and the answer to a handshake, written where they will be sent from: appended
//! to a connection's send buffer, or to the bytes of an answer. Called by the reactors and, for
//! bodies of writes, by the consensus core. Nothing here can fail.
//!
//! A *frame* function writes length, header and body; the others write one part of a body.

use crate::ids::{SessionId, Zxid};

use super::error_code::ErrorCode;
use super::opcode::OpCode;
use super::records::{Acl, EventType, SYNC_CONNECTED, Stat};
use super::request::XID_EVENT;

/// Bytes of a reply's header.
pub const HEADER_BYTES: usize = 16;

/// Bytes of a [`Stat`].
pub const STAT_BYTES: usize = 68;

/// Where a frame began, so that its length can be filled in.
#[derive(Debug)]
#[must_use = "the frame's length is missing until finish_frame"]
pub struct FrameStart(usize);

/// Leaves room for a frame's length.
#[inline]
pub fn begin_frame(out: &mut Vec<u8>) -> FrameStart {
    let start = FrameStart(out.len());
    out.extend_from_slice(&[0; 4]);
    start
}

/// Fills in the length of the frame that ends here.
///
/// # Panics
/// When the frame is longer than an int can say, which no bound of this system allows.
#[inline]
pub fn finish_frame(out: &mut [u8], start: FrameStart) {
    let length = length_bytes(out.len() - start.0 - 4);
    out[start.0..start.0 + 4].copy_from_slice(&length);
}

#[inline]
fn length_bytes(length: usize) -> [u8; 4] {
    i32::try_from(length).expect("bounded far below 2 GiB").to_be_bytes()
}

/// A reply's header.
#[inline]
pub fn header(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode) {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&xid.to_be_bytes());
    bytes[4..12].copy_from_slice(&zxid.bits().to_be_bytes());
    bytes[12..].copy_from_slice(&err.code().to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// A znode's status.
#[inline]
pub fn stat(out: &mut Vec<u8>, stat: &Stat) {
    let mut bytes = [0; STAT_BYTES];
    bytes[..8].copy_from_slice(&stat.czxid.to_be_bytes());
    bytes[8..16].copy_from_slice(&stat.mzxid.to_be_bytes());
    bytes[16..24].copy_from_slice(&stat.ctime.to_be_bytes());
    bytes[24..32].copy_from_slice(&stat.mtime.to_be_bytes());
    bytes[32..36].copy_from_slice(&stat.version.to_be_bytes());
    bytes[36..40].copy_from_slice(&stat.cversion.to_be_bytes());
    bytes[40..44].copy_from_slice(&stat.aversion.to_be_bytes());
    bytes[44..52].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    bytes[52..56].copy_from_slice(&stat.data_length.to_be_bytes());
    bytes[56..60].copy_from_slice(&stat.num_children.to_be_bytes());
    bytes[60..].copy_from_slice(&stat.pzxid.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// A buffer, or null.
#[inline]
pub fn buffer(out: &mut Vec<u8>, buffer: Option<&[u8]>) {
    match buffer {
        Some(bytes) => {
            out.extend_from_slice(&length_bytes(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}

/// A string.
#[inline]
pub fn string(out: &mut Vec<u8>, string: &str) {
    buffer(out, Some(string.as_bytes()));
}

/// An int.
#[inline]
pub fn int(out: &mut Vec<u8>, int: i32) {
    out.extend_from_slice(&int.to_be_bytes());
}

/// A vector of strings, of a length not known before: children, ephemerals.
#[inline]
pub fn strings<'a>(out: &mut Vec<u8>, strings: impl Iterator<Item = &'a str>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0;
    for each in strings {
        string(out, each);
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&length_bytes(count));
}

/// An access control list.
pub fn acl(out: &mut Vec<u8>, acl: &[Acl]) {
    out.extend_from_slice(&length_bytes(acl.len()));
    for entry in acl {
        int(out, entry.perms);
        string(out, &entry.id.scheme);
        string(out, &entry.id.id);
    }
}

/// A frame of nothing but a header: an error, or success without a body (delete, ping, auth…).
#[inline]
pub fn bare(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode) {
    out.extend_from_slice(&(HEADER_BYTES as i32).to_be_bytes());
    header(out, xid, zxid, err);
}

/// The frame of a reply whose body is already encoded.
#[inline]
pub fn with_body(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode, body: &[u8]) {
    out.extend_from_slice(&length_bytes(HEADER_BYTES + body.len()));
    header(out, xid, zxid, err);
    out.extend_from_slice(body);
}

/// The frame that answers exists, setData or setACL.
#[inline]
pub fn stat_only(out: &mut Vec<u8>, xid: i32, zxid: Zxid, of: &Stat) {
    out.extend_from_slice(&((HEADER_BYTES + STAT_BYTES) as i32).to_be_bytes());
    header(out, xid, zxid, ErrorCode::Ok);
    stat(out, of);
}

/// The frame that answers getData.
#[inline]
pub fn get_data(out: &mut Vec<u8>, xid: i32, zxid: Zxid, data: Option<&[u8]>, of: &Stat) {
    let body = 4 + data.map_or(0, <[u8]>::len) + STAT_BYTES;
    out.reserve(4 + HEADER_BYTES + body);
    out.extend_from_slice(&length_bytes(HEADER_BYTES + body));
    header(out, xid, zxid, ErrorCode::Ok);
    buffer(out, data);
    stat(out, of);
}

/// The frame that answers getChildren.
pub fn get_children<'a>(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: Zxid,
    children: impl Iterator<Item = &'a str>,
) {
    let frame = begin_frame(out);
    header(out, xid, zxid, ErrorCode::Ok);
    strings(out, children);
    finish_frame(out, frame);
}

/// The frame that answers getChildren2.
pub fn get_children2<'a>(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: Zxid,
    children: impl Iterator<Item = &'a str>,
    of: &Stat,
) {
    let frame = begin_frame(out);
    header(out, xid, zxid, ErrorCode::Ok);
    strings(out, children);
    stat(out, of);
    finish_frame(out, frame);
}

/// The frame that answers getACL.
pub fn get_acl(out: &mut Vec<u8>, xid: i32, zxid: Zxid, of: &[Acl], status: &Stat) {
    let frame = begin_frame(out);
    header(out, xid, zxid, ErrorCode::Ok);
    acl(out, of);
    stat(out, status);
    finish_frame(out, frame);
}

/// The frame that answers create and sync.
pub fn path(out: &mut Vec<u8>, xid: i32, zxid: Zxid, path: &str) {
    out.extend_from_slice(&length_bytes(HEADER_BYTES + 4 + path.len()));
    header(out, xid, zxid, ErrorCode::Ok);
    string(out, path);
}

/// The frame of a watch event. `zxid` is that of the change (3.9), or -1 (`Zxid::MAX`) for one that
/// setWatches caused.
pub fn event(out: &mut Vec<u8>, zxid: Zxid, kind: EventType, path: &str) {
    out.extend_from_slice(&length_bytes(HEADER_BYTES + 12 + path.len()));
    header(out, XID_EVENT, zxid, ErrorCode::Ok);
    int(out, kind as i32);
    int(out, SYNC_CONNECTED);
    string(out, path);
}

/// The frame that answers a handshake. `read_only` is there exactly when the request had it.
pub fn connect(
    out: &mut Vec<u8>,
    timeout_ms: i32,
    session: SessionId,
    password: &[u8; 16],
    read_only: Option<bool>,
) {
    let frame = begin_frame(out);
    int(out, 0);
    int(out, timeout_ms);
    out.extend_from_slice(&session.bits().to_be_bytes());
    buffer(out, Some(password));
    out.extend(read_only.map(u8::from));
    finish_frame(out, frame);
}

/// The frame that refuses a session: expired, unknown, or the wrong password.
pub fn refuse_session(out: &mut Vec<u8>, read_only: Option<bool>) {
    connect(out, 0, SessionId::NONE, &[0; 16], read_only);
}

fn multi_header(out: &mut Vec<u8>, op: OpCode, done: bool, err: i32) {
    int(out, op.0);
    out.push(done.into());
    int(out, err);
}

/// In a multi's body: a create succeeded.
pub fn multi_create(out: &mut Vec<u8>, path: &str) {
    multi_header(out, OpCode::CREATE, false, 0);
    string(out, path);
}

/// In a multi's body: a create2, createContainer or createTTL succeeded; all answer as create2.
pub fn multi_create2(out: &mut Vec<u8>, path: &str, of: &Stat) {
    multi_header(out, OpCode::CREATE2, false, 0);
    string(out, path);
    stat(out, of);
}

/// In a multi's body: a delete succeeded.
pub fn multi_delete(out: &mut Vec<u8>) {
    multi_header(out, OpCode::DELETE, false, 0);
}

/// In a multi's body: a check held.
pub fn multi_check(out: &mut Vec<u8>) {
    multi_header(out, OpCode::CHECK, false, 0);
}

/// In a multi's body: a setData succeeded.
pub fn multi_set_data(out: &mut Vec<u8>, of: &Stat) {
    multi_header(out, OpCode::SET_DATA, false, 0);
    stat(out, of);
}

/// In a multiRead's body: a getData succeeded.
pub fn multi_get_data(out: &mut Vec<u8>, data: Option<&[u8]>, of: &Stat) {
    multi_header(out, OpCode::GET_DATA, false, 0);
    buffer(out, data);
    stat(out, of);
}

/// In a multiRead's body: a getChildren succeeded.
pub fn multi_get_children<'a>(out: &mut Vec<u8>, children: impl Iterator<Item = &'a str>) {
    multi_header(out, OpCode::GET_CHILDREN, false, 0);
    strings(out, children);
}

/// In a multi's body: an operation failed, or in a failed multi did not take place: `Ok` before
/// the one that failed, `RuntimeInconsistency` behind it.
pub fn multi_error(out: &mut Vec<u8>, err: ErrorCode) {
    multi_header(out, OpCode::ERROR, false, err.code());
    int(out, err.code());
}

/// Ends a multi's body.
pub fn multi_end(out: &mut Vec<u8>) {
    multi_header(out, OpCode::ERROR, true, -1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gets_its_length_whatever_stood_before_it() {
        let mut out = vec![9, 9];
        let frame = begin_frame(&mut out);
        int(&mut out, 5);
        finish_frame(&mut out, frame);
        assert_eq!(out, [9, 9, 0, 0, 0, 4, 0, 0, 0, 5]);
    }

    #[test]
    fn null_data_is_distinct_from_empty_data() {
        let mut out = Vec::new();
        buffer(&mut out, None);
        buffer(&mut out, Some(&[]));
        assert_eq!(out, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn an_error_is_a_header_alone() {
        let mut out = Vec::new();
        bare(&mut out, 3, Zxid::from_bits(0x1c), ErrorCode::BadArguments);
        assert_eq!(out, *b"\0\0\0\x10\0\0\0\x03\0\0\0\0\0\0\0\x1c\xff\xff\xff\xf8");
    }

    #[test]
    fn a_refused_session_is_a_handshake_of_zeros() {
        let mut out = Vec::new();
        refuse_session(&mut out, None);
        assert_eq!(out.len(), 4 + 36);
        assert_eq!(out[4..20], [0; 16]);
        assert_eq!(out[20..24], [0, 0, 0, 16]);
    }

    #[test]
    fn an_encoded_body_goes_behind_its_header() {
        let mut out = Vec::new();
        with_body(&mut out, 1, Zxid::ZERO, ErrorCode::Ok, &[1, 2, 3]);
        assert_eq!(out[..4], [0, 0, 0, 19]);
        assert_eq!(out[20..], [1, 2, 3]);
    }
}
