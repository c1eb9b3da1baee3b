//! What follows the znodes of a snapshot file: a checksum, and behind it, depending on the switches
//! of the server that wrote it, the digest and the last zxid, each with the checksum of everything
//! before. Which of them there are shows in how many bytes are left.

use adler2::Adler32;

use super::fault::Fault;
use super::format::{DIGEST_VERSION, END_MARK};
use crate::ids::Zxid;
use crate::jute::decode::{Cursor, DecodeError};

/// Bytes behind the znodes of a file at most: the longest digest, in text, has 16 characters.
pub(super) const TAIL_BYTES_MAX: usize = 128;

/// A zxid and a checksum with its mark: less than any digest has.
const LAST_ZXID_BYTES: usize = 8 + 13;

/// A digest of the tree, as a file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The transaction after which the tree has it: that of the file, or a later one.
    pub zxid: Zxid,
    pub value: u64,
}

/// What the sections say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// None if the section is missing, empty, or of another version.
    pub digest: Option<Digest>,
    pub last_zxid: Option<Zxid>,
}

impl Tail {
    /// Reads it from all the bytes behind the znodes; `checksum` is that of what is before them.
    ///
    /// # Errors
    /// The fault, and where in `bytes` it is.
    pub fn read(bytes: &[u8], checksum: Adler32) -> Result<Tail, (usize, Fault)> {
        let mut sections = Sections { cursor: Cursor::new(bytes), checksum, summed: 0 };
        sections.read().map_err(|fault| match fault {
            // It would name the place once more, and more would have been there.
            Fault::Record(DecodeError::PastEnd { .. }) => (bytes.len(), Fault::CutOff),
            fault => (sections.cursor.at(), fault),
        })
    }
}

struct Sections<'a> {
    cursor: Cursor<'a>,
    checksum: Adler32,
    /// Where the bytes begin that are not in the checksum yet.
    summed: usize,
}

impl Sections<'_> {
    fn read(&mut self) -> Result<Tail, Fault> {
        let mut tail = Tail::default();
        self.seal()?;
        if self.cursor.left() > LAST_ZXID_BYTES {
            tail.digest = self.digest()?;
            self.seal()?;
        }
        if self.cursor.left() > 0 {
            tail.last_zxid = Some(Zxid::from_bits(self.cursor.long("last zxid")?));
            self.seal()?;
        }
        match self.cursor.left() {
            0 => Ok(tail),
            bytes => Err(Fault::LeftOver { bytes }),
        }
    }

    fn digest(&mut self) -> Result<Option<Digest>, Fault> {
        let zxid = Zxid::from_bits(self.cursor.long("zxid of the digest")?);
        let version = self.cursor.int("version of the digest")?;
        if version < DIGEST_VERSION {
            self.cursor.text("digest")?;
            return Ok(None);
        }
        let value = self.cursor.long("digest")? as u64;
        let counts = version == DIGEST_VERSION && zxid > Zxid::ZERO;
        Ok(counts.then_some(Digest { zxid, value }))
    }

    /// Checks the checksum that stands here.
    fn seal(&mut self) -> Result<(), Fault> {
        let before = self.cursor.clone();
        self.checksum.write_slice(self.cursor.since(self.summed));
        self.summed = self.cursor.at();
        let (found, computed) = (self.cursor.long("checksum")?, self.checksum.checksum());
        if found != i64::from(computed) {
            self.cursor = before;
            return Err(Fault::Checksum { found, computed });
        }
        if self.cursor.text("mark")? != END_MARK {
            return Err(Fault::SealMark);
        }
        Ok(())
    }
}
