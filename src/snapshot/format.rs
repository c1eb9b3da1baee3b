//! The bytes of a snapshot: a header, chunks of records, and a last chunk that counts them. Every
//! chunk has a checksum and its number, so that none can be damaged, lost or swapped unnoticed.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use bincode::config::Configuration;
use serde::{Deserialize, Serialize};

use crate::ids::Zxid;
use crate::jute::records::Acl;
use crate::log::format::{HeaderFault, checksum_of_all_but_last_four, decoded, encoded};
use crate::log::segment;
use crate::rt::files::{self, DiskError};

/// The version of everything in this file. A server refuses a newer one.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// How every snapshot begins.
pub const SNAPSHOT_MAGIC: [u8; 8] = *b"RKSNAPSH";

/// Bytes of a snapshot's header.
pub const SNAPSHOT_HEADER_BYTES: usize = 32;

/// Bytes of a chunk's header; its records follow at once.
pub const CHUNK_HEADER_BYTES: usize = 24;

/// Records: integers take as many bytes as they need.
const RECORDS: Configuration = bincode::config::standard();

const KIND: &str = "snapshot";

/// A snapshot from a leader, until everything else has given way to it.
const RECEIVED: &str = "received";

/// The file of the snapshot at `zxid`.
pub fn path_of(folder: &Path, zxid: Zxid) -> PathBuf {
    folder.join(format!("{KIND}.{:016x}", zxid.bits()))
}

/// The file of a snapshot at `zxid` that came from a leader, until it is in its place.
pub(crate) fn received_path_of(folder: &Path, zxid: Zxid) -> PathBuf {
    folder.join(format!("{RECEIVED}.{:016x}", zxid.bits()))
}

/// Every snapshot in `folder` that came from a leader and is not in its place yet.
///
/// # Errors
/// When the folder cannot be listed.
pub(crate) fn list_received(folder: &Path) -> Result<Vec<(Zxid, PathBuf)>, DiskError> {
    list_kind(folder, RECEIVED)
}

/// Removes what there is of snapshots in the making. Whoever makes one meets a failure when it puts
/// it in place, and none is put in place once this has returned.
///
/// # Errors
/// When the folder cannot be listed or a file not removed.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<(), DiskError> {
    for entry in std::fs::read_dir(folder).map_err(DiskError::of("list", folder))? {
        let path = entry.map_err(DiskError::of("list", folder))?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !name.starts_with(KIND) || !name.ends_with(".tmp") {
            continue;
        }
        match files::remove(&path) {
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Every snapshot in `folder`, oldest first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<(Zxid, PathBuf)>, DiskError> {
    list_kind(folder, KIND)
}

fn list_kind(folder: &Path, kind: &str) -> Result<Vec<(Zxid, PathBuf)>, DiskError> {
    let found = segment::numbered(folder, kind)?;
    Ok(found.into_iter().map(|(zxid, path)| (Zxid::from_bits(zxid as i64), path)).collect())
}

/// How the file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    magic: [u8; 8],
    format: u32,
    zxid: i64,
    /// When it was begun, milliseconds since 1970.
    pub time_ms: i64,
    checksum: u32,
}

impl SnapshotHeader {
    /// The header of a snapshot at `zxid`.
    pub fn new(zxid: Zxid, time_ms: i64) -> SnapshotHeader {
        let mut header = SnapshotHeader {
            magic: SNAPSHOT_MAGIC,
            format: SNAPSHOT_FORMAT,
            zxid: zxid.bits(),
            time_ms,
            checksum: 0,
        };
        header.checksum = checksum_of_all_but_last_four(&header);
        header
    }

    /// As bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        encoded(&self)
    }

    /// Reads it from the first bytes of a file.
    ///
    /// # Errors
    /// When the file is no snapshot, a newer one or a damaged one.
    pub fn read(bytes: &[u8]) -> Result<SnapshotHeader, HeaderFault> {
        let header: SnapshotHeader = decoded(bytes).ok_or(HeaderFault::Magic)?;
        if header.magic != SNAPSHOT_MAGIC {
            return Err(HeaderFault::Magic);
        }
        if header.format > SNAPSHOT_FORMAT {
            return Err(HeaderFault::Newer { found: header.format, known: SNAPSHOT_FORMAT });
        }
        if header.checksum != checksum_of_all_but_last_four(&header) {
            return Err(HeaderFault::Checksum);
        }
        Ok(header)
    }

    /// The last transaction that the snapshot holds.
    pub fn zxid(&self) -> Zxid {
        Zxid::from_bits(self.zxid)
    }
}

/// What precedes the records of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHeader {
    /// The chunk's number, from 0.
    pub index: u32,
    /// Records. 0: the last chunk, which holds the [`Totals`].
    pub count: u32,
    /// Bytes of the records.
    pub length: u32,
    /// CRC32 of the records' bytes.
    pub records_checksum: u32,
    reserved: u32,
    checksum: u32,
}

impl ChunkHeader {
    /// The header for `records`.
    pub fn seal(index: u32, count: u32, records: &[u8]) -> ChunkHeader {
        let mut header = ChunkHeader {
            index,
            count,
            length: u32::try_from(records.len()).expect("a chunk is far below 4 GiB"),
            records_checksum: crc32fast::hash(records),
            reserved: 0,
            checksum: 0,
        };
        header.checksum = checksum_of_all_but_last_four(&header);
        header
    }

    /// Writes it into the first bytes of a chunk.
    pub fn write(&self, to: &mut [u8]) {
        to[..CHUNK_HEADER_BYTES].copy_from_slice(&encoded(self));
    }

    /// Reads it; `None` when it is damaged.
    pub fn read(bytes: &[u8]) -> Option<ChunkHeader> {
        let header: ChunkHeader = decoded(bytes)?;
        (header.checksum == checksum_of_all_but_last_four(&header)).then_some(header)
    }
}

/// One thing that a snapshot holds. A znode's parent and ACL stand before it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// A session: its id and its timeout in milliseconds.
    Session(i64, i32),
    /// An access control list, and the number by which znodes of this file name it.
    Acl(u32, Vec<Acl>),
    #[serde(borrow)]
    Znode(Znode<'a>),
}

/// A znode as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Znode<'a> {
    /// The whole path; the root is `/`.
    #[serde(borrow)]
    pub path: &'a str,
    #[serde(borrow, with = "serde_bytes")]
    pub data: Option<&'a [u8]>,
    /// The number of its ACL; 0 is the null ACL, open to everybody.
    pub acl: u32,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Counts creations of children.
    pub cversion: i32,
    pub aversion: i32,
    /// As it is stored: containers and TTL nodes have special values.
    pub ephemeral_owner: i64,
}

/// What the last chunk says that the others hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub sessions: u64,
    pub acls: u64,
    pub znodes: u64,
}

impl Totals {
    /// Counts one record.
    pub fn count(&mut self, record: &Record<'_>) {
        match record {
            Record::Session(..) => self.sessions += 1,
            Record::Acl(..) => self.acls += 1,
            Record::Znode(_) => self.znodes += 1,
        }
    }
}

/// Appends a record (or the totals) to a chunk.
pub fn append<R: Serialize>(chunk: &mut Vec<u8>, record: &R) {
    bincode::serde::encode_into_std_write(record, chunk, RECORDS)
        .expect("a record of numbers and bytes always encodes, and a Vec takes every write");
}

/// Takes the first record (or the totals) off `bytes`. `None`: the bytes are no record.
#[inline]
pub fn take<'a, R: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Option<R> {
    let (record, read) = bincode::serde::borrow_decode_from_slice(bytes, RECORDS).ok()?;
    *bytes = &bytes[read..];
    Some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jute::records::Id;

    #[test]
    fn headers_have_the_lengths_that_readers_rely_on() {
        assert_eq!(SnapshotHeader::new(Zxid::ZERO, 0).to_bytes().len(), SNAPSHOT_HEADER_BYTES);
        assert_eq!(encoded(&ChunkHeader::seal(0, 1, b"")).len(), CHUNK_HEADER_BYTES);
    }

    #[test]
    fn a_newer_snapshot_is_told_from_a_damaged_one() {
        let bytes = SnapshotHeader::new(Zxid::from_bits(5), 6).to_bytes();
        assert_eq!(SnapshotHeader::read(&bytes).unwrap().zxid(), Zxid::from_bits(5));
        let mut newer = bytes.clone();
        newer[8] = 9;
        let fault = HeaderFault::Newer { found: 9, known: SNAPSHOT_FORMAT };
        assert_eq!(SnapshotHeader::read(&newer), Err(fault));
        for byte in 12..SNAPSHOT_HEADER_BYTES {
            let mut damaged = bytes.clone();
            damaged[byte] ^= 0x10;
            assert_eq!(SnapshotHeader::read(&damaged), Err(HeaderFault::Checksum), "{byte}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(
            path in ".*",
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            numbers in any::<[i64; 6]>(),
            versions in any::<[i32; 3]>(),
            acl in any::<u32>(),
        ) {
            let [czxid, mzxid, pzxid, ctime, mtime, ephemeral_owner] = numbers;
            let [version, cversion, aversion] = versions;
            let znode = Znode {
                path: &path, data: data.as_deref(), acl, czxid, mzxid, pzxid, ctime, mtime,
                version, cversion, aversion, ephemeral_owner,
            };
            let id = Id { scheme: path.clone(), id: path.clone() };
            let list = vec![Acl { perms: version, id }];
            let records =
                [Record::Session(czxid, version), Record::Acl(acl, list), Record::Znode(znode)];
            let mut chunk = Vec::new();
            for record in &records {
                append(&mut chunk, record);
            }
            let mut left = &chunk[..];
            for record in &records {
                prop_assert_eq!(&take::<Record>(&mut left).unwrap(), record);
            }
            prop_assert!(left.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut left = &bytes[..];
            while take::<Record>(&mut left).is_some() {}
            let _ = SnapshotHeader::read(&bytes);
            let _ = ChunkHeader::read(&bytes);
        }
    }
}
