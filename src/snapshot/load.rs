//! Reading a snapshot: every byte of it is checked before it is believed.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use super::decode::Chunk;
use super::format::{
    CHUNK_HEADER_BYTES, ChunkHeader, Record, SNAPSHOT_HEADER_BYTES, SnapshotHeader, Totals, take,
};
use crate::ids::Zxid;
use crate::log::format::HeaderFault;
use crate::rt::files::{self, DiskError};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// Decoded chunks that may wait to be taken. Full: reading waits.
const CHUNKS_AHEAD_MAX: usize = 8;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// The disk could not be read: the snapshot may be whole.
    #[error(transparent)]
    Disk(DiskError),
    #[error("snapshot {}: {fault}", path.display())]
    Newer { path: PathBuf, fault: HeaderFault },
    #[error("snapshot {} is damaged at byte {offset}: {damage}", path.display())]
    Damaged { path: PathBuf, offset: u64, damage: Damage },
    /// Whoever took the records refused one.
    #[error("snapshot {} does not fit together in the chunk at byte {offset}: {source}",
        path.display())]
    Refused { path: PathBuf, offset: u64, source: E },
}

impl LoadError<Infallible> {
    /// The same failure, for one who takes the records and may refuse them.
    fn widen<E>(self) -> LoadError<E> {
        match self {
            LoadError::Disk(e) => LoadError::Disk(e),
            LoadError::Newer { path, fault } => LoadError::Newer { path, fault },
            LoadError::Damaged { path, offset, damage } => {
                LoadError::Damaged { path, offset, damage }
            }
        }
    }
}

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the header: {0}")]
    Header(HeaderFault),
    #[error("its header says that it is at {0}")]
    Zxid(Zxid),
    #[error("the header of the chunk there has a wrong checksum")]
    ChunkHeader,
    #[error("chunk {found} stands where chunk {expected} should")]
    ChunkOrder { expected: u32, found: u32 },
    #[error("the records of the chunk there have a wrong checksum")]
    Records,
    #[error("a record of the chunk there makes no sense")]
    Record,
    #[error("the file ends too early")]
    CutOff,
    #[error("something follows the end")]
    Excess,
    #[error("it holds something other than its end says")]
    Totals,
}

/// A snapshot being read.
#[derive(Debug)]
pub struct SnapshotReader {
    path: PathBuf,
    file: BufReader<File>,
    header: SnapshotHeader,
    offset: u64,
    left: u64,
}

impl SnapshotReader {
    /// Opens the snapshot at `path` and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read, is no snapshot, a newer one or damaged.
    pub fn open<E>(path: &Path) -> Result<SnapshotReader, LoadError<E>> {
        let disk = |e: DiskError| LoadError::Disk(e);
        let file = File::open(path).map_err(DiskError::of("open", path)).map_err(disk)?;
        files::will_read_all(&file);
        let length = file.metadata().map_err(DiskError::of("inspect", path)).map_err(disk)?.len();
        let mut reader = SnapshotReader {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(READ_BYTES, file),
            header: SnapshotHeader::new(Zxid::ZERO, 0),
            offset: 0,
            left: length,
        };
        let mut bytes = Vec::new();
        reader.read(&mut bytes, SNAPSHOT_HEADER_BYTES)?;
        reader.header = match SnapshotHeader::read(&bytes) {
            Ok(header) => header,
            Err(fault @ HeaderFault::Newer { .. }) => {
                return Err(LoadError::Newer { path: reader.path, fault });
            }
            Err(fault) => return Err(reader.damaged(0, Damage::Header(fault))),
        };
        Ok(reader)
    }

    /// The snapshot's header.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Whether the snapshot stands at `zxid`, as its file's name says.
    ///
    /// # Errors
    /// When it does not: it counts as damaged.
    pub fn expect<E>(&self, zxid: Zxid) -> Result<(), LoadError<E>> {
        match self.header.zxid() {
            found if found == zxid => Ok(()),
            found => Err(self.damaged(0, Damage::Zxid(found))),
        }
    }

    /// Hands every record to `each`, in order, and returns what there was. A thread of its own
    /// reads, checks and decodes ahead: whoever takes a million znodes has enough to do.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read, or `each` refuses a record. What was handed
    /// over before is then to be forgotten.
    pub fn read_all<E>(
        self,
        mut each: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Totals, LoadError<E>> {
        let path = self.path.clone();
        let (to, chunks) = sync_channel(CHUNKS_AHEAD_MAX);
        let (taken, spares) = channel();
        std::thread::scope(|scope| {
            // Ends by itself when it can hand over nothing more.
            let reading = scope.spawn(move || self.read_ahead(&to, &spares));
            for mut chunk in chunks {
                for record in chunk.records.drain(..) {
                    if let Err(source) = each(record.into_record(&chunk.bytes)) {
                        return Err(LoadError::Refused { path, offset: chunk.offset, source });
                    }
                }
                // The reader may have reached the end, and want no spares any more.
                let _ = taken.send(chunk);
            }
            let totals = reading.join().expect("reading a snapshot does not panic");
            totals.map_err(LoadError::widen)
        })
    }

    /// Reads the chunks into `to`, whose memory comes back through `spares`, and returns what the
    /// snapshot holds. Ends early, whatever that was so far, when nobody takes them any more.
    fn read_ahead(
        mut self,
        to: &SyncSender<Chunk>,
        spares: &Receiver<Chunk>,
    ) -> Result<Totals, LoadError<Infallible>> {
        let mut totals = Totals::default();
        for index in 0.. {
            let mut chunk = spares.try_recv().unwrap_or_default();
            chunk.offset = self.offset;
            let count = self.chunk(&mut chunk.bytes, index)?;
            if count == 0 {
                let mut records = &chunk.bytes[..];
                if take::<Totals>(&mut records) != Some(totals) || !records.is_empty() {
                    return Err(self.damaged(chunk.offset, Damage::Totals));
                }
                break;
            }
            if !chunk.decode(count) {
                return Err(self.damaged(chunk.offset, Damage::Record));
            }
            chunk.records.iter().for_each(|record| record.count(&mut totals));
            if to.send(chunk).is_err() {
                return Ok(totals);
            }
        }
        if self.left > 0 {
            return Err(self.damaged(self.offset, Damage::Excess));
        }
        Ok(totals)
    }

    /// Reads chunk `index` into `chunk` and returns how many records it holds.
    fn chunk<E>(&mut self, chunk: &mut Vec<u8>, index: u32) -> Result<u32, LoadError<E>> {
        let at = self.offset;
        self.read(chunk, CHUNK_HEADER_BYTES)?;
        let Some(header) = ChunkHeader::read(chunk) else {
            return Err(self.damaged(at, Damage::ChunkHeader));
        };
        if header.index != index {
            let order = Damage::ChunkOrder { expected: index, found: header.index };
            return Err(self.damaged(at, order));
        }
        self.read(chunk, header.length as usize)?;
        if crc32fast::hash(chunk) != header.records_checksum {
            return Err(self.damaged(at, Damage::Records));
        }
        Ok(header.count)
    }

    /// Fills `bytes` with the next `length` bytes of the file.
    fn read<E>(&mut self, bytes: &mut Vec<u8>, length: usize) -> Result<(), LoadError<E>> {
        // Before memory is reserved: a damaged length must not take it all.
        if length as u64 > self.left {
            return Err(self.damaged(self.offset, Damage::CutOff));
        }
        bytes.resize(length, 0);
        if let Err(e) = self.file.read_exact(bytes) {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                return Err(self.damaged(self.offset, Damage::CutOff));
            }
            return Err(LoadError::Disk(DiskError::of("read", &self.path)(e)));
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(())
    }

    fn damaged<E>(&self, offset: u64, damage: Damage) -> LoadError<E> {
        LoadError::Damaged { path: self.path.clone(), offset, damage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionId;
    use crate::rt::files::Pace;
    use crate::snapshot::format::Znode;
    use crate::snapshot::write::SnapshotWriter;

    fn znode(path: &str) -> Znode<'_> {
        Znode {
            path,
            data: Some(&[7; 100]),
            acl: 0,
            czxid: 3,
            mzxid: 4,
            pzxid: 3,
            ctime: 1_700_000_000_000,
            mtime: 1_700_000_000_001,
            version: 1,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
        }
    }

    fn written(folder: &Path, znodes: u32) -> PathBuf {
        let at = Zxid::from_bits(4);
        let mut writer = SnapshotWriter::create(folder, at, 0, Pace::Full).unwrap();
        writer.session(SessionId::from_bits(1), 4000).unwrap();
        for number in 0..znodes {
            writer.znode(znode(&format!("/node-{number}"))).unwrap();
        }
        writer.finish().unwrap().path
    }

    fn load(path: &Path) -> Result<Totals, LoadError<String>> {
        SnapshotReader::open(path)?.read_all(|_| Ok(()))
    }

    #[test]
    fn a_snapshot_of_many_chunks_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 5000);
        assert!(std::fs::metadata(&path).unwrap().len() > 500_000);
        let totals = load(&path).unwrap();
        assert_eq!(totals, Totals { sessions: 1, acls: 0, znodes: 5000 });
    }

    #[test]
    fn a_flip_of_any_byte_or_a_cut_at_any_byte_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 3);
        let content = std::fs::read(&path).unwrap();
        assert!(load(&path).is_ok());
        for at in 0..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 0x20;
            std::fs::write(&path, &changed).unwrap();
            let refused = load(&path).unwrap_err();
            assert!(
                matches!(refused, LoadError::Damaged { .. } | LoadError::Newer { .. }),
                "byte {at}: {refused}"
            );
            std::fs::write(&path, &content[..at]).unwrap();
            assert!(matches!(load(&path), Err(LoadError::Damaged { .. })), "cut {at}");
        }
        std::fs::write(&path, [&content[..], b"x"].concat()).unwrap();
        let refused = load(&path).unwrap_err().to_string();
        assert!(refused.contains("something follows the end"), "{refused}");
    }

    #[test]
    fn chunks_that_were_swapped_or_lost_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 2000);
        let content = std::fs::read(&path).unwrap();
        let header = ChunkHeader::read(&content[SNAPSHOT_HEADER_BYTES..]).unwrap();
        let second = SNAPSHOT_HEADER_BYTES + CHUNK_HEADER_BYTES + header.length as usize;
        let lost = [&content[..SNAPSHOT_HEADER_BYTES], &content[second..]].concat();
        std::fs::write(&path, lost).unwrap();
        let refused = load(&path).unwrap_err().to_string();
        assert!(refused.contains("chunk 1 stands where chunk 0 should"), "{refused}");
    }

    #[test]
    fn a_record_that_is_refused_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 3);
        let reader = SnapshotReader::open::<String>(&path).unwrap();
        let refused = reader.read_all(|_| Err("no parent".to_owned())).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("no parent") && text.contains("byte 32"), "{text}");
    }
}
