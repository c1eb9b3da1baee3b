//! What the tests of the log share.

use std::convert::Infallible;

use super::recover::Recover;
use crate::ids::{SessionId, Zxid};
use crate::jute::records::Acl;
use crate::snapshot::format::Znode;

/// Everything that recovery handed over, and from which snapshots it began.
#[derive(Debug, Default)]
pub struct Kept {
    pub from: Vec<Zxid>,
    pub txns: Vec<(i64, Vec<u8>)>,
}

impl Recover for Kept {
    type Error = Infallible;

    fn begin(&mut self, zxid: Zxid, _: usize) {
        self.from.push(zxid);
    }

    fn session(&mut self, _: SessionId, _: i32) -> Result<(), Infallible> {
        Ok(())
    }

    fn acl(&mut self, _: u32, _: Vec<Acl>) -> Result<(), Infallible> {
        Ok(())
    }

    fn znode(&mut self, _: &Znode<'_>) -> Result<(), Infallible> {
        Ok(())
    }

    fn replay(&mut self, zxid: Zxid, txn: &[u8]) -> Result<(), Infallible> {
        self.txns.push((zxid.bits(), txn.to_vec()));
        Ok(())
    }
}

pub fn zxid(bits: i64) -> Zxid {
    Zxid::from_bits(bits)
}

/// On a filesystem in memory where there is one: these tests sync a great deal.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What transaction `number` of length `length` holds: no block of it is like another's.
pub fn txn(number: i64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number as usize * 31 + at * 7 + at / 256) as u8).collect()
}
