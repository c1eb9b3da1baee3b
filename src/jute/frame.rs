//! Frames out of a receive buffer: a length of four bytes, then that many bytes. Called by the
//! reactors, which own the buffers.

use thiserror::Error;

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// What stands at the start of a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// The frame with this body. It takes [`LENGTH_BYTES`] and the body's length of the buffer.
    Frame(&'a [u8]),
    /// Not a whole frame yet: the buffer must hold `want` bytes before it is worth to look again.
    /// Never more than the limit and [`LENGTH_BYTES`].
    Incomplete { want: usize },
}

/// Why what comes from a client cannot be a frame. ZooKeeper closes the connection, unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A length below zero.
    #[error("a frame of {length} bytes")]
    Negative { length: i32 },
    /// A length above `jute.maxbuffer`.
    #[error("a frame of {length} bytes, above jute.maxbuffer of {limit}")]
    TooLarge { length: usize, limit: usize },
}

/// Looks for a frame of at most `limit` bytes (`jute.maxbuffer`; the length itself does not
/// count) at the start of `buffer`. As in ZooKeeper a frame of exactly `limit` bytes passes, and
/// the length is judged before the rest has come.
#[inline]
pub fn next(buffer: &[u8], limit: usize) -> Result<Next<'_>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(Next::Incomplete { want: LENGTH_BYTES });
    };
    let length = i32::from_be_bytes(*length);
    let Ok(length) = usize::try_from(length) else {
        return Err(FrameError::Negative { length });
    };
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    match rest.get(..length) {
        Some(body) => Ok(Next::Frame(body)),
        None => Ok(Next::Incomplete { want: LENGTH_BYTES + length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_when_its_last_byte_is_there() {
        let bytes = [0, 0, 0, 2, 7, 8, 9];
        assert_eq!(next(&bytes[..3], 10), Ok(Next::Incomplete { want: 4 }));
        assert_eq!(next(&bytes[..5], 10), Ok(Next::Incomplete { want: 6 }));
        assert_eq!(next(&bytes[..6], 10), Ok(Next::Frame(&[7, 8])));
        assert_eq!(next(&bytes, 10), Ok(Next::Frame(&[7, 8])));
        assert_eq!(next(&[0; 4], 10), Ok(Next::Frame(&[])));
    }

    #[test]
    fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        let limit = 0xf_ffff;
        let length = |length: i32| length.to_be_bytes();
        assert_eq!(next(&length(0xf_ffff), limit), Ok(Next::Incomplete { want: 0x10_0003 }));
        assert_eq!(
            next(&length(0x10_0000), limit),
            Err(FrameError::TooLarge { length: 0x10_0000, limit })
        );
        assert_eq!(next(&length(-1), limit), Err(FrameError::Negative { length: -1 }));
    }
}
