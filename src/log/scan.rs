//! Reading a segment, batch by batch. For recovery and `dump`: blocking, sequential, in pieces of
//! bounded size.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::{BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, HeaderFault, SegmentHeader};
use super::segment::Segment;
use crate::rt::files::{self, BLOCK, DiskError};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// An open segment and the part of it that was read last.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    file: File,
    length: u64,
    header: SegmentHeader,
    first: Option<BatchHeader>,
    window: Vec<u8>,
    window_at: u64,
}

/// Whether no batch begins anywhere in the file at `path`, of whatever life.
///
/// # Errors
/// When the file cannot be read.
pub fn is_blank(path: &Path) -> Result<bool, DiskError> {
    let mut file = File::open(path).map_err(DiskError::of("open", path))?;
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read(&mut bytes[filled..]).map_err(DiskError::of("read", path))? {
                0 => break,
                read => filled += read,
            }
        }
        if bytes[..filled].chunks(BLOCK).any(|block| block.starts_with(&BATCH_MAGIC)) {
            return Ok(false);
        }
        if filled < bytes.len() {
            return Ok(true);
        }
    }
}

/// What lies at a place of a segment.
#[derive(Debug)]
pub enum Found<'a> {
    /// A batch that is whole.
    Batch(BatchHeader, &'a [u8]),
    /// A header whose records are not all there.
    Torn(BatchHeader),
    /// No batch of this life of the segment, or one whose header is damaged; or the file's end.
    Nothing,
}

/// Why a file cannot be read as a segment.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{0}")]
    Header(HeaderFault),
}

impl SegmentReader {
    /// Opens the segment at `path` and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read or does not begin with a segment header.
    pub fn open(path: &Path) -> Result<SegmentReader, OpenError> {
        let file = File::open(path).map_err(DiskError::of("open", path))?;
        let length = file.metadata().map_err(DiskError::of("inspect", path))?.len();
        // Two blocks, not a window: of most segments nothing else is looked at.
        let mut blocks = vec![0; (2 * BLOCK).min(length as usize)];
        file.read_exact_at(&mut blocks, 0).map_err(DiskError::of("read", path))?;
        let header = SegmentHeader::read(&blocks).map_err(OpenError::Header)?;
        let first = BatchHeader::read(blocks.get(BLOCK..).unwrap_or(&[]), header.generation);
        let path = path.to_path_buf();
        Ok(SegmentReader { path, file, length, header, first, window: Vec::new(), window_at: 0 })
    }

    /// The segment's header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The header of the first batch, if the segment is in use.
    pub fn first_batch(&self) -> Option<BatchHeader> {
        self.first
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The segment, as long as it has whole blocks.
    pub(super) fn as_segment(&self) -> Segment {
        Segment {
            ordinal: self.header.ordinal,
            generation: self.header.generation,
            path: self.path.clone(),
            length: self.length - self.length % BLOCK as u64,
        }
    }

    /// Makes what was written durable and forgets what the kernel had cached, so that the batches
    /// read from here on are those that the disk has. Then has the kernel read ahead.
    ///
    /// # Errors
    /// When the sync fails.
    pub fn settle(&self) -> Result<(), DiskError> {
        files::settle(&self.file).map_err(DiskError::of("sync", &self.path))?;
        files::will_read_all(&self.file);
        Ok(())
    }

    /// Forgets what was read: the file may have been written since.
    pub fn forget(&mut self) {
        self.window.clear();
    }

    /// What lies at `position`, a block's begin.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn at(&mut self, position: u64) -> Result<Found<'_>, DiskError> {
        let Some(header) = self.header_at(position)? else { return Ok(Found::Nothing) };
        let records = self.read(position, BATCH_HEADER_BYTES + header.length as usize)?;
        match records.get(BATCH_HEADER_BYTES..) {
            Some(records)
                if records.len() == header.length as usize
                    && crc32fast::hash(records) == header.records_checksum =>
            {
                // Borrowed anew: the compiler cannot see that the other arm ends the first loan.
                Ok(Found::Batch(header, self.cached(position, header.length as usize)))
            }
            _ => Ok(Found::Torn(header)),
        }
    }

    /// The batch header at `position`, whether or not its records are there.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn header_at(&mut self, position: u64) -> Result<Option<BatchHeader>, DiskError> {
        let generation = self.header.generation;
        Ok(BatchHeader::read(self.read(position, BATCH_HEADER_BYTES)?, generation))
    }

    /// The first batch header at or behind `position`, and where it is.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn next_header(&mut self, position: u64) -> Result<Option<(u64, BatchHeader)>, DiskError> {
        let mut at = position;
        while at < self.length {
            if let Some(header) = self.header_at(at)? {
                return Ok(Some((at, header)));
            }
            at += BLOCK as u64;
        }
        Ok(None)
    }

    /// The records of a batch that `read` has just brought.
    fn cached(&self, position: u64, length: usize) -> &[u8] {
        let start = (position - self.window_at) as usize + BATCH_HEADER_BYTES;
        &self.window[start..start + length]
    }

    /// `length` bytes at `position`, fewer at the file's end.
    fn read(&mut self, position: u64, length: usize) -> Result<&[u8], DiskError> {
        let end = (position + length as u64).min(self.length);
        let position = position.min(end);
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || end > window_end {
            let wanted = length.max(READ_BYTES) as u64;
            let read = wanted.min(self.length - position) as usize;
            self.window.resize(read, 0);
            self.window_at = position;
            self.file
                .read_exact_at(&mut self.window, position)
                .map_err(DiskError::of("read", &self.path))?;
        }
        let start = (position - self.window_at) as usize;
        Ok(&self.window[start..start + (end - position) as usize])
    }
}
