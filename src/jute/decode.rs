//! Reading jute: a cursor over bytes that somebody else wrote, and what can be wrong with them.
//!
//! Every length is checked against the bytes that are there before anything is taken or reserved,
//! so a decoder built on [`Cursor`] neither panics nor allocates more than a small multiple of its
//! input. Called by `request` and `txn` (borrowed, hot) and by `codec` (everything else).

use std::borrow::Cow;

use thiserror::Error;

/// What is wrong with some bytes, and where. `at` counts from the start of the bytes that were
/// given to the decoder; within a part of a multi transaction, from the start of its record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A length below zero that is not the -1 of null.
    #[error("{field} at byte {at}: length {length} is negative")]
    NegativeLength { field: &'static str, at: usize, length: i32 },
    /// A length above what [`Cursor::with_limit`] allows; "Unreasonable length" in ZooKeeper.
    #[error("{field} at byte {at}: length {length} is above the limit of {limit}")]
    Unreasonable { field: &'static str, at: usize, length: usize, limit: usize },
    /// The bytes end before the field does.
    #[error("{field} at byte {at}: {want} bytes wanted, {left} left")]
    PastEnd { field: &'static str, at: usize, want: usize, left: usize },
    /// A borrowed string (a path) that is not UTF-8. ZooKeeper puts U+FFFD in place of what it
    /// cannot read, which no valid path holds.
    #[error("{field} at byte {at}: not UTF-8")]
    NotUtf8 { field: &'static str, at: usize },
    /// Null where the protocol needs a value.
    #[error("{field} at byte {at}: null")]
    Null { field: &'static str, at: usize },
    /// An operation that cannot stand here: unknown, or a read among writes.
    #[error("operation {op} at byte {at} cannot stand here")]
    WrongOperation { at: usize, op: i32 },
    /// Create flags that name no kind of znode, in a multi.
    #[error("create flags {flags} at byte {at} are unknown")]
    UnknownFlags { at: usize, flags: i32 },
    /// More operations in one multi than `limits::MULTI_OPERATIONS_MAX`.
    #[error("a multi of more than {limit} operations")]
    TooManyOperations { limit: usize },
    /// Bytes behind something that must end there.
    #[error("{left} bytes left over at byte {at}")]
    LeftOver { at: usize, left: usize },
    /// A Rust type that jute has no form for. Only a record of our own can cause it.
    #[error("jute has no form for {what}")]
    Unsupported { what: &'static str },
    /// A record's own `Deserialize` refused a value.
    #[error("{reason}")]
    Refused { reason: Box<str> },
}

/// The longest string or buffer that ZooKeeper reads from a disk or a peer, for a `jute.maxbuffer`
/// of `max_buffer` bytes: that and `jute.maxbuffer.extrasize`, which defaults to the same, and to
/// 1,024 at least.
pub const fn string_limit(max_buffer: usize) -> usize {
    let extra = if max_buffer < 1024 { 1024 } else { max_buffer };
    max_buffer.saturating_add(extra)
}

/// A place in some bytes, from which fields are taken one after another. After an error the
/// place is unspecified, within the bytes.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    limit: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `bytes`. Strings and buffers may be as long as the bytes are: right for
    /// what came in a frame, whose length has been checked.
    pub const fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0, limit: usize::MAX }
    }

    /// As `new`, for what a disk or a peer gave: a string or buffer above `limit` bytes (see
    /// [`string_limit`]) is refused.
    pub const fn with_limit(bytes: &'a [u8], limit: usize) -> Cursor<'a> {
        Cursor { bytes, at: 0, limit }
    }

    /// Bytes taken so far.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Bytes not yet taken.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes not yet taken.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The bytes taken since the cursor was at `start`.
    ///
    /// # Panics
    /// When `start` lies ahead.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::LeftOver { at: self.at, left }),
        }
    }

    /// The next `want` bytes.
    #[inline]
    pub fn take(&mut self, field: &'static str, want: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, _)) = self.bytes[self.at..].split_at_checked(want) else {
            return Err(DecodeError::PastEnd { field, at: self.at, want, left: self.left() });
        };
        self.at += want;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some(taken) = self.bytes[self.at..].first_chunk::<N>() else {
            return Err(DecodeError::PastEnd { field, at: self.at, want: N, left: self.left() });
        };
        self.at += N;
        Ok(*taken)
    }

    /// A byte.
    #[inline]
    pub fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A bool: any byte but 0 is true.
    #[inline]
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.byte(field)? != 0)
    }

    /// An int.
    #[inline]
    pub fn int(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    /// A long.
    #[inline]
    pub fn long(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// A buffer, or null.
    #[inline]
    pub fn buffer(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let at = self.at;
        let length = self.int(field)?;
        if length == -1 {
            return Ok(None);
        }
        let Ok(want) = usize::try_from(length) else {
            return Err(DecodeError::NegativeLength { field, at, length });
        };
        if want > self.limit {
            return Err(DecodeError::Unreasonable { field, at, length: want, limit: self.limit });
        }
        self.take(field, want).map(Some)
    }

    /// A string that must be there and must be UTF-8: a path.
    #[inline]
    pub fn str(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let bytes = self.buffer(field)?.ok_or(DecodeError::Null { field, at })?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { field, at })
    }

    /// A string that must be there, read leniently (see [`lenient`]): an ACL's scheme and id.
    #[inline]
    pub fn text(&mut self, field: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        let at = self.at;
        let bytes = self.buffer(field)?.ok_or(DecodeError::Null { field, at })?;
        Ok(lenient(bytes))
    }

    /// The number of elements of a vector whose elements take `element_bytes` at least, so that a
    /// count which cannot be true is refused before anything is reserved for it. Null, and any
    /// other count below zero, is an empty vector, as in ZooKeeper.
    #[inline]
    pub fn count(
        &mut self,
        field: &'static str,
        element_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let at = self.at;
        let count = usize::try_from(self.int(field)?).unwrap_or(0);
        let want = count.saturating_mul(element_bytes);
        if want > self.left() {
            return Err(DecodeError::PastEnd { field, at, want, left: self.left() });
        }
        Ok(count)
    }
}

/// Text as ZooKeeper reads it: nothing is refused. The JVM writes a character outside of the BMP
/// as two surrogates of 3 bytes each (CESU-8); these are joined. What is neither becomes U+FFFD.
pub fn lenient(bytes: &[u8]) -> Cow<'_, str> {
    let Err(error) = std::str::from_utf8(bytes) else {
        return String::from_utf8_lossy(bytes);
    };
    let (valid, mut rest) = bytes.split_at(error.valid_up_to());
    let mut text = String::with_capacity(bytes.len());
    text.push_str(&String::from_utf8_lossy(valid));
    while !rest.is_empty() {
        if let Some(joined) = surrogate_pair(rest) {
            text.push(joined);
            rest = &rest[6..];
            continue;
        }
        // Up to the next byte that may begin a surrogate, which no valid UTF-8 holds as 0xed 0xa0.
        let next = (1..rest.len()).find(|&i| surrogate_pair(&rest[i..]).is_some());
        let (plain, more) = rest.split_at(next.unwrap_or(rest.len()));
        text.push_str(&String::from_utf8_lossy(plain));
        rest = more;
    }
    Cow::Owned(text)
}

/// The character that the first six bytes stand for, if they are a CESU-8 pair of surrogates.
fn surrogate_pair(bytes: &[u8]) -> Option<char> {
    let &[0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d @ 0x80..=0xbf, ..] =
        bytes
    else {
        return None;
    };
    let high = (u32::from(a) & 0x0f) << 6 | (u32::from(b) & 0x3f);
    let low = (u32::from(c) & 0x0f) << 6 | (u32::from(d) & 0x3f);
    char::from_u32(0x1_0000 + (high << 10 | low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_in_order() {
        let bytes = [0, 0, 0, 1, b'a', 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(cursor.str("path"), Ok("a"));
        assert_eq!(cursor.bool("watch"), Ok(true));
        assert_eq!(cursor.buffer("data"), Ok(None));
        assert_eq!(cursor.long("zxid"), Ok(9));
        assert_eq!(cursor.end(), Ok(()));
        assert_eq!(
            cursor.int("xid"),
            Err(DecodeError::PastEnd { field: "xid", at: 18, want: 4, left: 0 })
        );
    }

    #[test]
    fn a_wrong_length_is_refused_by_what_is_wrong_with_it() {
        let length = |length: i32| length.to_be_bytes();
        assert_eq!(
            Cursor::new(&length(-2)).buffer("data"),
            Err(DecodeError::NegativeLength { field: "data", at: 0, length: -2 })
        );
        assert_eq!(
            Cursor::new(&length(i32::MAX)).buffer("data"),
            Err(DecodeError::PastEnd { field: "data", at: 4, want: 0x7fff_ffff, left: 0 })
        );
        assert_eq!(
            Cursor::with_limit(&length(11), 10).buffer("data"),
            Err(DecodeError::Unreasonable { field: "data", at: 0, length: 11, limit: 10 })
        );
        assert_eq!(
            Cursor::new(&length(-1)).str("path"),
            Err(DecodeError::Null { field: "path", at: 0 })
        );
        assert_eq!(
            Cursor::new(&[0, 0, 0, 1, 0xff]).str("path"),
            Err(DecodeError::NotUtf8 { field: "path", at: 0 })
        );
    }

    #[test]
    fn a_vector_count_below_zero_is_empty_and_one_that_cannot_be_true_is_refused() {
        assert_eq!(Cursor::new(&(-1_i32).to_be_bytes()).count("acl", 12), Ok(0));
        assert_eq!(Cursor::new(&i32::MIN.to_be_bytes()).count("acl", 12), Ok(0));
        assert_eq!(
            Cursor::new(&[0, 0, 0, 2, 0, 0]).count("paths", 4),
            Err(DecodeError::PastEnd { field: "paths", at: 0, want: 8, left: 2 })
        );
    }

    #[test]
    fn text_joins_the_surrogates_that_a_jvm_writes() {
        assert_eq!(lenient(b"a:\xed\xa0\xbd\xed\xb8\x80!"), "a:\u{1f600}!");
        assert_eq!(lenient("a:\u{1f600}".as_bytes()), "a:\u{1f600}");
        assert_eq!(lenient(b"\xff\xed\xa0\xbd\xed\xb8\x80\xfe"), "\u{fffd}\u{1f600}\u{fffd}");
        assert_eq!(lenient(b"\xed\xa0\xbd"), "\u{fffd}\u{fffd}\u{fffd}");
        assert!(matches!(lenient(b"plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn the_string_limit_is_twice_the_frame_limit_and_a_kilobyte_more_at_least() {
        assert_eq!(string_limit(1_048_575), 2_097_150);
        assert_eq!(string_limit(10), 1_034);
    }
}
