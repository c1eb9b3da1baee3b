//! Frames over a blocking socket, as a client writes and reads them.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use thiserror::Error;

use crate::jute::codec::{self, EncodeError};
use crate::jute::decode::DecodeError;
use crate::jute::frame::{self, FrameError, LENGTH_BYTES, Next};
use crate::jute::opcode::OpCode;
use crate::jute::records::{ReplyHeader, RequestHeader};
use crate::limits::CLIENT_REPLY_BYTES_MAX;

/// Bytes of a [`ReplyHeader`].
const REPLY_HEADER_BYTES: usize = 16;

/// Bytes that one read asks the kernel for.
const READ_BYTES: usize = 64 << 10;

/// Why a connection is of no use any more.
#[derive(Debug, Error)]
pub enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server sent {0}")]
    Frame(#[from] FrameError),
    #[error("the server sent what is no reply: {0}")]
    Record(#[from] DecodeError),
    #[error("the request cannot be written: {0}")]
    Request(#[from] EncodeError),
    /// None was due where nothing is in flight.
    #[error("the server answered request {got} where {expected:?} was due")]
    OutOfOrder { got: i32, expected: Option<i32> },
    #[error("nothing was heard of the server for {0} ms")]
    Silent(u128),
}

/// The frame of a request: header and `body`, the request's record in jute.
///
/// # Errors
/// The body is longer than a frame can say.
pub fn request(xid: i32, op: OpCode, body: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let header = codec::to_vec(&RequestHeader { xid, op: op.0 })?;
    framed(&[&header, body])
}

/// A frame of `parts`, one behind the other.
///
/// # Errors
/// They are longer than a frame can say.
pub fn framed(parts: &[&[u8]]) -> Result<Vec<u8>, EncodeError> {
    let length = parts.iter().map(|part| part.len()).sum();
    let short = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + length);
    bytes.extend(short.to_be_bytes());
    parts.iter().for_each(|part| bytes.extend(*part));
    Ok(bytes)
}

/// A reply's header and what is behind it.
///
/// # Errors
/// The frame is shorter than a header.
pub fn reply(frame: &[u8]) -> Result<(ReplyHeader, &[u8]), DecodeError> {
    let header = codec::from_slice(frame)?;
    Ok((header, frame.get(REPLY_HEADER_BYTES..).unwrap_or_default()))
}

/// What was received and not yet taken.
#[derive(Debug, Default)]
pub struct Received {
    bytes: Vec<u8>,
    taken: usize,
}

impl Received {
    /// Reads once from `stream`, as long as its timeout allows. Whether something came; a timeout
    /// is no error.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn read(&mut self, stream: &mut TcpStream) -> Result<bool, WireError> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let filled = self.bytes.len();
        self.bytes.resize(filled + READ_BYTES, 0);
        let read = stream.read(&mut self.bytes[filled..]);
        self.bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(WireError::Closed),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next whole frame, if it has come.
    ///
    /// # Errors
    /// What came cannot be a frame.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        match frame::next(&self.bytes[self.taken..], CLIENT_REPLY_BYTES_MAX)? {
            Next::Frame(body) => {
                self.taken += LENGTH_BYTES + body.len();
                Ok(Some(body))
            }
            Next::Incomplete { .. } => Ok(None),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Writes all of `bytes`, as long as the stream's timeout allows.
///
/// # Errors
/// The connection is gone, or the server did not take them in time.
pub fn write(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), WireError> {
    Ok(stream.write_all(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (server, _) = listener.accept().unwrap();
        let first = request(7, OpCode::EXISTS, b"abc").unwrap();
        let all = [first.clone(), framed(&[&[0; 100_000]]).unwrap()].concat();

        let mut received = Received::default();
        assert!(!received.read(&mut stream).unwrap(), "a timeout is no error");
        write(&server, &all[..5]).unwrap();
        assert!(received.read(&mut stream).unwrap());
        assert_eq!(received.next_frame(), Ok(None));
        write(&server, &all[5..]).unwrap();
        while received.next_frame().unwrap().is_none() {
            received.read(&mut stream).unwrap();
        }
        let mut long = 0;
        while long == 0 {
            match received.next_frame().unwrap() {
                Some(frame) => long = frame.len(),
                None => drop(received.read(&mut stream).unwrap()),
            }
        }
        assert_eq!(long, 100_000);
        drop(server);
        assert!(matches!(received.read(&mut stream), Err(WireError::Closed)));
    }

    #[test]
    fn a_request_is_a_length_a_header_and_a_record() {
        let bytes = request(7, OpCode::EXISTS, b"abc").unwrap();
        assert_eq!(bytes, [0, 0, 0, 11, 0, 0, 0, 7, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn a_short_reply_is_refused() {
        assert!(reply(&[0; 15]).is_err());
        let (header, rest) = reply(&[0; 17]).unwrap();
        assert_eq!((header.xid, rest), (0, &[0][..]));
    }
}
