//! The client protocol as far as a load needs it: request frames to be copied and patched, replies
//! told apart by their headers. Nothing of a reply's body is kept, whatever its length.

use std::ops::Range;

use crate::client::LinkError;

/// Operation types (`org.apache.zookeeper.ZooDefs.OpCode`).
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const MULTI: i32 = 14;
    pub const CLOSE_SESSION: i32 = -11;
}

/// The xid of pings and of their replies.
pub const PING_XID: i32 = -2;
/// The xid of watch events.
pub const EVENT_XID: i32 = -1;
/// A reply's header: xid, zxid, error.
pub const REPLY_HEADER_BYTES: usize = 16;
/// What the scanner looks at: the length, the header and the first int of the body.
const LOOKED_AT_BYTES: usize = 4 + REPLY_HEADER_BYTES + 4;
/// Where the xid lies in a request frame.
const XID_AT: usize = 4;
/// Before each operation of a multi and after the last: type, done, error.
const MULTI_HEADER_BYTES: usize = 9;

/// A connect request for a new session, `readOnly` false.
pub fn connect_request(timeout_ms: i32) -> Vec<u8> {
    let mut frame = Frame::begin();
    frame.int(0).long(0).int(timeout_ms).long(0).buffer(&[0; 16]).byte(0);
    frame.finish()
}

/// Builds one request frame, field by field in jute.
pub struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    fn begin() -> Frame {
        Frame { bytes: vec![0; 4] }
    }

    /// A request of this type, with its header.
    pub fn request(xid: i32, operation: i32) -> Frame {
        let mut frame = Frame::begin();
        frame.int(xid).int(operation);
        frame
    }

    pub fn byte(&mut self, value: u8) -> &mut Frame {
        self.bytes.push(value);
        self
    }

    pub fn int(&mut self, value: i32) -> &mut Frame {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn long(&mut self, value: i64) -> &mut Frame {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn buffer(&mut self, value: &[u8]) -> &mut Frame {
        let length = i32::try_from(value.len()).expect("the plan bounds paths and values");
        self.int(length).bytes.extend_from_slice(value);
        self
    }

    /// The frame, its length filled in.
    pub fn finish(&mut self) -> Vec<u8> {
        let length = i32::try_from(self.bytes.len() - 4).expect("the plan bounds paths and values");
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        std::mem::take(&mut self.bytes)
    }
}

/// getData, exists or getChildren of `path`, without a watch.
pub fn read_request(xid: i32, operation: i32, path: &str) -> Vec<u8> {
    Frame::request(xid, operation).buffer(path.as_bytes()).byte(0).finish()
}

/// getData of `path` that leaves a watch.
pub fn watch_request(xid: i32, path: &str) -> Vec<u8> {
    Frame::request(xid, op::GET_DATA).buffer(path.as_bytes()).byte(1).finish()
}

/// sync of `path`.
pub fn sync_request(xid: i32, path: &str) -> Vec<u8> {
    Frame::request(xid, op::SYNC).buffer(path.as_bytes()).finish()
}

/// setData of `path`, whatever its version.
pub fn set_request(xid: i32, path: &str, value: &[u8]) -> Vec<u8> {
    Frame::request(xid, op::SET_DATA).buffer(path.as_bytes()).buffer(value).int(-1).finish()
}

/// A multi of `count` setData of `path`, whatever its version.
pub fn multi_set_request(xid: i32, path: &str, value: &[u8], count: usize) -> Vec<u8> {
    let mut frame = Frame::request(xid, op::MULTI);
    for _ in 0..count {
        frame.int(op::SET_DATA).byte(0).int(-1);
        frame.buffer(path.as_bytes()).buffer(value).int(-1);
    }
    frame.int(-1).byte(1).int(-1);
    frame.finish()
}

/// delete of `path`, whatever its version.
pub fn delete_request(xid: i32, path: &str) -> Vec<u8> {
    Frame::request(xid, op::DELETE).buffer(path.as_bytes()).int(-1).finish()
}

/// create of `path`, open to everybody. Flags: 0 persistent, 2 persistent sequential.
pub fn create_request(xid: i32, path: &str, value: &[u8], flags: i32) -> Vec<u8> {
    const ALL: i32 = 0x1f;
    let mut frame = Frame::request(xid, op::CREATE);
    frame.buffer(path.as_bytes()).buffer(value);
    frame.int(1).int(ALL).buffer(b"world").buffer(b"anyone").int(flags);
    frame.finish()
}

/// A ping or a closeSession: a header and nothing else.
pub fn bare_request(xid: i32, operation: i32) -> Vec<u8> {
    Frame::request(xid, operation).finish()
}

/// A request frame in which only the xid and a decimal number in the path, or in each path of a
/// multi, change.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Of the first path.
    digits: Range<usize>,
    /// Paths, and the bytes from one to the next.
    paths: usize,
    stride: usize,
}

impl Template {
    /// `frame` is a whole request frame whose path, of this length, ends in `digits` digits.
    pub fn new(frame: Vec<u8>, path_length: usize, digits: usize) -> Template {
        assert!(digits <= path_length, "{digits} digits in a path of {path_length} bytes");
        // Length, header and the path's own length come first in every request with a path.
        let end = 4 + 8 + 4 + path_length;
        assert!(end <= frame.len(), "the path ends at {end}, the frame at {}", frame.len());
        Template { bytes: frame, digits: end - digits..end, paths: 1, stride: 0 }
    }

    /// `frame` is a multi of `count` operations of one length, each with a path of `path_length`
    /// bytes that ends in `digits` digits.
    pub fn of_multi(frame: Vec<u8>, path_length: usize, digits: usize, count: usize) -> Template {
        assert!(digits <= path_length, "{digits} digits in a path of {path_length} bytes");
        let operations = frame.len() - (4 + 8) - MULTI_HEADER_BYTES;
        assert_eq!(operations % count, 0, "{count} operations of one length");
        let end = 4 + 8 + MULTI_HEADER_BYTES + 4 + path_length;
        let stride = operations / count;
        Template { bytes: frame, digits: end - digits..end, paths: count, stride }
    }

    /// Of a step that asks for nothing. Never to be pushed.
    pub fn none() -> Template {
        Template { bytes: Vec::new(), digits: 0..0, paths: 0, stride: 0 }
    }

    /// Appends the request with this xid to `out`, its numbers from `number`, one for each path.
    #[inline]
    pub fn push(&self, out: &mut Vec<u8>, xid: i32, mut number: impl FnMut() -> u64) {
        let base = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[base..];
        frame[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
        for path in 0..self.paths {
            let shift = path * self.stride;
            let mut number = number();
            for digit in frame[self.digits.start + shift..self.digits.end + shift].iter_mut().rev()
            {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            debug_assert_eq!(number, 0, "the number has more digits than the template");
        }
    }
}

/// What a reply says, its body left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    /// 0: it succeeded.
    pub error: i32,
    /// The first int of the body, which is the data's length or the number of children; 0 if the
    /// body is shorter than that.
    pub first: i32,
}

/// Finds the replies in the bytes of one connection, in whatever pieces they come.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// The first bytes of a frame that came without the rest of what is looked at.
    head: [u8; LOOKED_AT_BYTES],
    headed: usize,
    /// A reply of which this many bytes are still to come.
    unfinished: Option<(Reply, usize)>,
}

impl ReplyScanner {
    /// Takes what arrived and calls `each` for every reply that is now complete.
    #[inline]
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Reply) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let (reply, left) = if let Some(unfinished) = self.unfinished.take() {
                unfinished
            } else if self.headed == 0 && bytes.len() >= LOOKED_AT_BYTES {
                let length = body_length(bytes)?;
                (look_at(bytes, length), 4 + length)
            } else {
                match self.gather(&mut bytes)? {
                    Some(found) => found,
                    None => break,
                }
            };
            if left > bytes.len() {
                self.unfinished = Some((reply, left - bytes.len()));
                break;
            }
            bytes = &bytes[left..];
            each(reply)?;
        }
        Ok(())
    }

    /// Moves bytes to the head until it holds all that is looked at; then gives the reply and how
    /// many of its bytes are still to come.
    fn gather(&mut self, bytes: &mut &[u8]) -> Result<Option<(Reply, usize)>, LinkError> {
        loop {
            let wanted =
                if self.headed < 4 { 4 } else { LOOKED_AT_BYTES.min(4 + body_length(&self.head)?) };
            let taken = bytes.len().min(wanted - self.headed);
            self.head[self.headed..self.headed + taken].copy_from_slice(&bytes[..taken]);
            self.headed += taken;
            *bytes = &bytes[taken..];
            if self.headed < wanted {
                return Ok(None);
            }
            if wanted > 4 {
                let length = body_length(&self.head)?;
                self.headed = 0;
                return Ok(Some((look_at(&self.head, length), 4 + length - wanted)));
            }
        }
    }
}

/// A frame's length; `bytes` has at least four.
#[inline]
fn body_length(bytes: &[u8]) -> Result<usize, LinkError> {
    let length = int_at(bytes, 0);
    match usize::try_from(length) {
        Ok(length) if length >= REPLY_HEADER_BYTES => Ok(length),
        _ => Err(LinkError::FrameLength { length }),
    }
}

#[inline]
fn look_at(bytes: &[u8], length: usize) -> Reply {
    let first = if length >= REPLY_HEADER_BYTES + 4 { int_at(bytes, 20) } else { 0 };
    Reply { xid: int_at(bytes, 4), error: int_at(bytes, 16), first }
}

/// The int at `at`; the caller knows that it is there.
#[inline]
pub fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A code's name (`org.apache.zookeeper.KeeperException.Code`).
pub fn error_name(code: i32) -> &'static str {
    match code {
        -1 => "SYSTEMERROR",
        -2 => "RUNTIMEINCONSISTENCY",
        -3 => "DATAINCONSISTENCY",
        -4 => "CONNECTIONLOSS",
        -5 => "MARSHALLINGERROR",
        -6 => "UNIMPLEMENTED",
        -7 => "OPERATIONTIMEOUT",
        -8 => "BADARGUMENTS",
        -12 => "UNKNOWNSESSION",
        -101 => "NONODE",
        -102 => "NOAUTH",
        -103 => "BADVERSION",
        -108 => "NOCHILDRENFOREPHEMERALS",
        -110 => "NODEEXISTS",
        -111 => "NOTEMPTY",
        -112 => "SESSIONEXPIRED",
        -114 => "INVALIDACL",
        -115 => "AUTHFAILED",
        -118 => "SESSIONMOVED",
        -119 => "NOTREADONLY",
        -122 => "REQUESTTIMEOUT",
        -124 => "SESSIONCLOSEDREQUIRESASLAUTH",
        -125 => "QUOTAEXCEEDED",
        -127 => "THROTTLEDOP",
        _ => "unknown code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(xid: i32, error: i32, body: &[u8]) -> Vec<u8> {
        let mut frame = Frame::begin();
        frame.int(xid).long(99).int(error);
        frame.bytes.extend_from_slice(body);
        frame.finish()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn scan(pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Reply>, LinkError> {
        let mut scanner = ReplyScanner::default();
        let mut found = Vec::new();
        for piece in pieces {
            scanner.feed(&piece, |reply| {
                found.push(reply);
                Ok(())
            })?;
        }
        Ok(found)
    }

    #[test]
    fn requests_are_those_that_zookeepers_own_client_sends() {
        assert_eq!(
            hex(&connect_request(6000)),
            "0000002d000000000000000000000000000017700000000000000000000000100000000000000000000000000000000000"
        );
        assert_eq!(
            hex(&read_request(1, op::GET_DATA, "/c")),
            "0000000f0000000100000004000000022f6300"
        );
        assert_eq!(
            hex(&create_request(1, "/c", b"data", 0)),
            "000000350000000100000001000000022f630000000464617461000000010000001f00000005776f726c6400000006616e796f6e6500000000"
        );
        assert_eq!(
            hex(&set_request(3, "/c", b"newer")),
            "0000001b0000000300000005000000022f63000000056e65776572ffffffff"
        );
        // One setData of "/c" between the multi's headers.
        assert_eq!(
            hex(&multi_set_request(2, "/c", b"d", 1)),
            "0000002900000002\
             0000000e\
             0000000500ffffffff000000022f630000000164ffffffff\
             ffffffff01ffffffff"
        );
        assert_eq!(hex(&bare_request(PING_XID, op::PING)), "00000008fffffffe0000000b");
        assert_eq!(hex(&bare_request(1, op::CLOSE_SESSION)), "0000000800000001fffffff5");
    }

    #[test]
    fn a_template_is_the_request_with_xid_and_number_in_place() {
        let frame = set_request(0, "/r/k0000", b"value");
        let template = Template::new(frame, "/r/k0000".len(), 4);
        let mut out = b"before".to_vec();
        template.push(&mut out, 258, || 42);
        assert_eq!(&out[6..], set_request(258, "/r/k0042", b"value"));
    }

    #[test]
    fn a_template_of_a_multi_has_a_number_for_each_of_its_paths() {
        let of = |xid, path: &str| multi_set_request(xid, path, b"value", 3);
        let template = Template::of_multi(of(0, "/r/k0000"), "/r/k0000".len(), 4, 3);
        let mut out = b"before".to_vec();
        let mut numbers = [7, 42, 7].into_iter();
        template.push(&mut out, 258, || numbers.next().unwrap());
        assert_eq!(numbers.next(), None);
        let expected = hex(&of(258, "/r/k0007"));
        // The second operation alone has another number: its path ends in 42, not in 07.
        let second = expected.match_indices(&hex(b"/r/k0007")).nth(1).unwrap().0;
        let (before, after) = expected.split_at(second);
        let expected = before.to_owned() + &after.replacen(&hex(b"/r/k0007"), &hex(b"/r/k0042"), 1);
        assert_eq!(hex(&out[6..]), expected);
    }

    #[test]
    fn a_template_without_digits_changes_its_xid_alone() {
        let template = Template::new(read_request(0, op::GET_CHILDREN, "/r/9"), 4, 0);
        let mut out = Vec::new();
        template.push(&mut out, 5, || 0);
        assert_eq!(out, read_request(5, op::GET_CHILDREN, "/r/9"));
    }

    #[test]
    fn replies_are_found_however_the_bytes_are_cut() {
        let mut bytes = reply(1, 0, &[0, 0, 0, 100, 1, 2, 3]);
        bytes.extend(reply(2, -101, &[]));
        bytes.extend(reply(3, 0, &[7; 3]));
        bytes.extend(reply(4, 0, &[0; 300]));
        bytes.extend(reply(PING_XID, 0, &[]));
        let expected = [
            Reply { xid: 1, error: 0, first: 100 },
            Reply { xid: 2, error: -101, first: 0 },
            Reply { xid: 3, error: 0, first: 0 },
            Reply { xid: 4, error: 0, first: 0 },
            Reply { xid: PING_XID, error: 0, first: 0 },
        ];
        for size in 1..=bytes.len() {
            let pieces = bytes.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(scan(pieces).unwrap(), expected, "in pieces of {size}");
        }
        for cut in 0..bytes.len() {
            let pieces = [bytes[..cut].to_vec(), bytes[cut..].to_vec()].into_iter();
            assert_eq!(scan(pieces).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_reply_counts_when_its_last_byte_is_there() {
        let bytes = reply(1, 0, &[0; 10]);
        let all_but_one = bytes[..bytes.len() - 1].to_vec();
        assert_eq!(scan([all_but_one].into_iter()).unwrap(), []);
    }

    #[test]
    fn a_frame_too_short_for_a_header_is_refused_however_it_is_cut() {
        for length in [-1, 0, 15, i32::MIN] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend([0; 40]);
            for size in [1, 4, 44] {
                let pieces = bytes.chunks(size).map(<[u8]>::to_vec);
                let error = scan(pieces).unwrap_err();
                assert!(matches!(error, LinkError::FrameLength { length: l } if l == length));
            }
        }
    }
}
