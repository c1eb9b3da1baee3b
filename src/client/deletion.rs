//! Many deletes in one transaction, sent and not yet answered, so that several can be on their way.

use crate::jute::codec;
use crate::jute::opcode::OpCode;
use crate::jute::records::MultiHeader;

use super::error::ClientError;
use super::operations::lost;
use super::session::Ticket;

/// A multi of deletes that is on its way.
pub struct Deletion {
    ticket: Ticket,
    first: String,
}

impl Deletion {
    /// The multi that `ticket` stands for, whose first delete is of `first`.
    pub(super) fn new(ticket: Ticket, first: String) -> Deletion {
        Deletion { ticket, first }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Nothing was deleted: the error of the first delete that failed.
    pub fn wait(self) -> Result<(), ClientError> {
        let reply = self.ticket.wait().map_err(|loss| lost(loss, &self.first))?;
        // A multi that failed says so in its parts, whatever its header says.
        let first = codec::from_slice::<MultiHeader>(&reply.body).map(|header| header.op);
        let failed = reply.err != 0 || first == Ok(OpCode::ERROR.0);
        if failed {
            let code = first_error(&reply.body).unwrap_or(reply.err);
            return Err(ClientError::Refused { code, path: self.first });
        }
        Ok(())
    }
}

/// The first error in the answer to a multi: each part is a header and, in one that failed, the
/// error again.
fn first_error(body: &[u8]) -> Option<i32> {
    const HEADER_BYTES: usize = 9;
    body.chunks(HEADER_BYTES + 4)
        .map_while(|part| codec::from_slice::<MultiHeader>(part).ok())
        .take_while(|header| !header.done)
        .map(|header| header.err)
        .find(|err| *err != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(op: i32, done: bool, err: i32) -> Vec<u8> {
        let mut bytes = codec::to_vec(&MultiHeader { op, done, err }).unwrap();
        if !done {
            bytes.extend(err.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn the_error_of_a_multi_is_that_of_the_part_that_failed() {
        let parts = [part(-1, false, 0), part(-1, false, -111), part(-1, false, -2)];
        let body = [parts.concat(), part(-1, true, -1)].concat();
        assert_eq!(first_error(&body), Some(-111));
        assert_eq!(first_error(&part(-1, true, -1)), None);
        assert_eq!(first_error(b"xyz"), None);
    }
}
