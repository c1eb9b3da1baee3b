//! multi: its operations in order, each on what the ones before it made, and all or none.

use crate::consensus::batch::Changes;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::reply;
use crate::jute::request::{Multi, Operation};
use crate::jute::txn::{self, MultiWriter};
use crate::limits::MULTI_TXN_BYTES_MAX;

use super::write::{Done, Write};

/// Why a multi failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// An operation failed with this error. The record and the reply's body tell which.
    Operation(ErrorCode),
    /// As a whole, with MARSHALLINGERROR: the record would exceed `MULTI_TXN_BYTES_MAX`, or a
    /// quota that cannot be read is in the way. What was appended is of no use.
    Whole,
}

impl Write<'_> {
    /// Prepares a multi: appends its record to `parts` and the reply's body to `body`. A failed
    /// one leaves no trace in the tree, but a record that tells which operation failed, and a
    /// reply that does.
    ///
    /// # Errors
    /// See [`Failed`].
    pub(super) fn multi(
        &mut self,
        multi: &Multi<'_>,
        parts: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        let mark = self.changes.mark();
        let body_start = body.len();
        let mut failed = None;
        let mut parts = MultiWriter::begin(parts);
        for (index, operation) in multi.iter().enumerate() {
            self.record.clear();
            let result = match failed {
                None => self.operation(&operation),
                Some(_) => Err(ErrorCode::RuntimeInconsistency),
            };
            match result {
                Ok(done) if parts.bytes() + self.record.len() <= MULTI_TXN_BYTES_MAX => {
                    append_result(body, self.changes, &done);
                    parts.part(operation.op(), |out| out.extend_from_slice(self.record));
                }
                Ok(_) | Err(ErrorCode::MarshallingError) => {
                    self.tree.take_back();
                    self.changes.take_back(mark);
                    return Err(Failed::Whole);
                }
                Err(err) => {
                    failed = failed.or(Some((index, err)));
                    parts.part(OpCode::ERROR, |out| txn::encode_error(out, err.code()));
                }
            }
        }
        parts.finish();
        let Some((failed, err)) = failed else {
            reply::multi_end(body);
            return Ok(());
        };
        self.tree.take_back();
        self.changes.take_back(mark);
        body.truncate(body_start);
        for index in 0..multi.len() {
            let err = match index {
                _ if index < failed => ErrorCode::Ok,
                _ if index == failed => err,
                _ => ErrorCode::RuntimeInconsistency,
            };
            reply::multi_error(body, err);
        }
        reply::multi_end(body);
        Err(Failed::Operation(err))
    }

    fn operation(&mut self, operation: &Operation<'_>) -> Result<Done, ErrorCode> {
        match operation {
            Operation::Create(op, create) => self.create(*op, create),
            Operation::Delete(delete) => self.delete(delete),
            Operation::SetData(set) => self.set_data(set),
            Operation::Check(check) => self.check(check),
            Operation::GetData(_) | Operation::GetChildren(_) => {
                unreachable!("a multi with a read is not decoded")
            }
        }
    }
}

pub(super) fn append_result(body: &mut Vec<u8>, changes: &Changes, done: &Done) {
    match done {
        Done::Created { op: OpCode::CREATE, path, .. } => {
            reply::multi_create(body, changes.path(path));
        }
        Done::Created { path, stat, .. } => reply::multi_create2(body, changes.path(path), stat),
        Done::Deleted => reply::multi_delete(body),
        Done::Set(stat) => reply::multi_set_data(body, stat),
        Done::Checked => reply::multi_check(body),
        Done::AclSet(_) => unreachable!("no multi holds a setACL"),
    }
}
