//! Writing a snapshot. It takes its time on purpose: it must not be felt by those who serve
//! requests on the same core or wait for the same disk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::format::{
    self, CHUNK_HEADER_BYTES, ChunkHeader, Record, SnapshotHeader, Totals, Znode, append,
};
use crate::ids::{SessionId, Zxid};
use crate::jute::records::Acl;
use crate::rt::files::{self, DiskError, Pace};

/// A chunk is written when it has this many bytes. Small, for it is also the unit of work between
/// two rests: some 400 znodes, 0.1 ms.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes after which the kernel is told to write back, and the piece before must have been: so the
/// sync at the end finds little left, and the log's flushes never wait for a burst.
const WRITEBACK_BYTES: u64 = 1 << 20;

/// A snapshot in the making. Until `finish` it has another name and counts for nothing.
#[derive(Debug)]
pub struct SnapshotWriter {
    folder: PathBuf,
    zxid: Zxid,
    tmp: PathBuf,
    file: File,
    pace: Pace,
    chunk: Vec<u8>,
    chunk_count: u32,
    chunk_index: u32,
    began_chunk: Instant,
    totals: Totals,
    written: u64,
    handed_back: u64,
}

/// A snapshot that is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What it holds.
    pub totals: Totals,
}

impl SnapshotWriter {
    /// Begins the snapshot at `zxid` in `folder`, at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(
        folder: &Path,
        zxid: Zxid,
        time_ms: i64,
        pace: Pace,
    ) -> Result<SnapshotWriter, DiskError> {
        let tmp = format::path_of(folder, zxid).with_extension(format!("{:016x}.tmp", zxid.bits()));
        let mut file = File::create(&tmp).map_err(DiskError::of("create", &tmp))?;
        let header = SnapshotHeader::new(zxid, time_ms).to_bytes();
        file.write_all(&header).map_err(DiskError::of("write", &tmp))?;
        Ok(SnapshotWriter {
            folder: folder.to_path_buf(),
            zxid,
            tmp,
            file,
            pace,
            chunk: vec![0; CHUNK_HEADER_BYTES],
            chunk_count: 0,
            chunk_index: 0,
            began_chunk: Instant::now(),
            totals: Totals::default(),
            written: header.len() as u64,
            handed_back: 0,
        })
    }

    /// Adds a session.
    ///
    /// # Errors
    /// When the disk is full or broken.
    pub fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), DiskError> {
        self.record(&Record::Session(session.bits(), timeout_ms))
    }

    /// Adds an access control list, which znodes that follow name by `number` (not 0).
    ///
    /// # Errors
    /// When the disk is full or broken.
    pub fn acl(&mut self, number: u32, acl: &[Acl]) -> Result<(), DiskError> {
        self.record(&Record::Acl(number, acl.to_vec()))
    }

    /// Adds a znode. Its parent and its ACL must have been added.
    ///
    /// # Errors
    /// When the disk is full or broken.
    pub fn znode(&mut self, znode: Znode<'_>) -> Result<(), DiskError> {
        self.record(&Record::Znode(znode))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), DiskError> {
        append(&mut self.chunk, record);
        self.totals.count(record);
        self.chunk_count += 1;
        if self.chunk.len() < CHUNK_BYTES {
            return Ok(());
        }
        let count = std::mem::take(&mut self.chunk_count);
        self.write_chunk(count)?;
        self.pace.rest(self.began_chunk);
        self.began_chunk = Instant::now();
        Ok(())
    }

    fn write_chunk(&mut self, count: u32) -> Result<(), DiskError> {
        let header = ChunkHeader::seal(self.chunk_index, count, &self.chunk[CHUNK_HEADER_BYTES..]);
        header.write(&mut self.chunk);
        self.file.write_all(&self.chunk).map_err(DiskError::of("write", &self.tmp))?;
        self.written += self.chunk.len() as u64;
        self.chunk_index += 1;
        self.chunk.truncate(CHUNK_HEADER_BYTES);
        let waiting = self.written - self.handed_back;
        if waiting >= WRITEBACK_BYTES {
            files::write_back(&self.file, self.handed_back, waiting);
            self.handed_back = self.written;
        }
        Ok(())
    }

    /// Ends the snapshot and puts it in place, durably.
    ///
    /// # Errors
    /// When the disk is full or broken; there is then no new snapshot.
    pub fn finish(self) -> Result<Written, DiskError> {
        let path = format::path_of(&self.folder, self.zxid);
        self.finish_as(path)
    }

    /// Ends the snapshot, which came from a leader, and makes it durable under a name that says
    /// that everything else is to give way to it. For `log::install`.
    pub(crate) fn finish_received(self) -> Result<(Zxid, PathBuf), DiskError> {
        let (zxid, path) = (self.zxid, format::received_path_of(&self.folder, self.zxid));
        self.finish_as(path).map(|written| (zxid, written.path))
    }

    fn finish_as(mut self, path: PathBuf) -> Result<Written, DiskError> {
        if self.chunk_count > 0 {
            let count = std::mem::take(&mut self.chunk_count);
            self.write_chunk(count)?;
        }
        append(&mut self.chunk, &self.totals);
        self.write_chunk(0)?;
        self.file.sync_all().map_err(DiskError::of("sync", &self.tmp))?;
        files::rename(&self.tmp, &path)?;
        Ok(Written { path, bytes: self.written, totals: self.totals })
    }

    /// Gives the snapshot up and removes what was written of it.
    ///
    /// # Errors
    /// When the file cannot be removed; the next start removes it.
    pub fn abandon(self) -> Result<(), DiskError> {
        files::remove(&self.tmp)
    }
}
