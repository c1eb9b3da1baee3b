//! The client protocol as the tests write and read it: a second, plain implementation, so that an
//! error in the server's codec cannot cancel itself out.

use std::io;

/// Operation codes, named as the protocol names them.
#[allow(missing_docs)]
pub mod opcode {
    pub const CREATE: i32 = 1;
    pub const CREATE2: i32 = 15;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CLOSE: i32 = -11;
}

/// Error codes that the tests expect by name.
#[allow(missing_docs)]
pub mod code {
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    pub const NO_NODE: i32 = -101;
    pub const BAD_VERSION: i32 = -103;
    pub const NODE_EXISTS: i32 = -110;
}

/// Bytes on their way out.
#[derive(Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts a frame; its length is filled in by [`Encoder::finish`].
    pub fn frame() -> Encoder {
        Encoder(vec![0; 4])
    }

    /// 4 bytes.
    pub fn int(&mut self, value: i32) -> &mut Encoder {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// 8 bytes.
    pub fn long(&mut self, value: i64) -> &mut Encoder {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// 1 byte.
    pub fn bool(&mut self, value: bool) -> &mut Encoder {
        self.0.push(u8::from(value));
        self
    }

    /// A buffer: its length and its bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Encoder {
        self.int(i32::try_from(value.len()).expect("a test sends less than 2 GiB"));
        self.0.extend_from_slice(value);
        self
    }

    /// A buffer or string that may be null, which is a length of -1.
    pub fn nullable(&mut self, value: Option<&[u8]>) -> &mut Encoder {
        match value {
            Some(bytes) => self.bytes(bytes),
            None => self.int(-1),
        }
    }

    /// A string: its length in bytes and its UTF-8.
    pub fn string(&mut self, value: &str) -> &mut Encoder {
        self.bytes(value.as_bytes())
    }

    /// Bytes so far, with the four for the length.
    #[allow(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The frame, its length in front.
    pub fn finish(self) -> Vec<u8> {
        let mut frame = self.0;
        let length = u32::try_from(frame.len() - 4).expect("a test sends less than 4 GiB");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }
}

/// Bytes that came in.
pub struct Decoder<'a>(&'a [u8]);

/// What a status says.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

impl<'a> Decoder<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder(bytes)
    }

    fn take(&mut self, want: usize) -> io::Result<&'a [u8]> {
        if want > self.0.len() {
            let text = format!("the server's frame ends {} bytes early", want - self.0.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let (now, rest) = self.0.split_at(want);
        self.0 = rest;
        Ok(now)
    }

    /// 4 bytes.
    pub fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    /// 8 bytes.
    pub fn long(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    /// 1 byte.
    pub fn bool(&mut self) -> io::Result<bool> {
        Ok(self.take(1)?[0] != 0)
    }

    /// A buffer; null reads as empty.
    pub fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.int()?;
        self.take(usize::try_from(length.max(0)).expect("not negative"))
    }

    /// A buffer or string; null is `None`.
    pub fn nullable(&mut self) -> io::Result<Option<&'a [u8]>> {
        match self.int()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(Some),
        }
    }

    /// A string; null reads as empty.
    pub fn string(&mut self) -> io::Result<String> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// A vector of strings.
    pub fn strings(&mut self) -> io::Result<Vec<String>> {
        let count = self.int()?;
        (0..count.max(0)).map(|_| self.string()).collect()
    }

    /// A status, 68 bytes.
    pub fn stat(&mut self) -> io::Result<Stat> {
        // The fields are on the wire in the order in which they are read here.
        Ok(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            created_ms: self.long()?,
            modified_ms: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
