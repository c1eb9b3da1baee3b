//! The bytes of a log segment: one block of segment header, then batches, each beginning on a
//! block boundary. A batch is what one group commit made durable: a header, and records.
//!
//! Segments are recycled, so blocks of a former life lie behind the log's end. They cannot pass
//! for the log: every batch names the generation of its segment's life, a random number.

use bincode::config::{Configuration, Fixint, LittleEndian};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ids::Zxid;
use crate::rt::files::BLOCK;

/// The version of everything in this file. A server refuses a newer one.
pub const LOG_FORMAT: u32 = 1;

/// How every segment begins.
pub const SEGMENT_MAGIC: [u8; 8] = *b"RKLOGSEG";

/// How every batch begins.
pub const BATCH_MAGIC: [u8; 8] = *b"RKLOGBAT";

/// Bytes of a batch header; the records follow at once.
pub const BATCH_HEADER_BYTES: usize = 68;

/// Bytes of a record before its transaction.
pub const RECORD_HEADER_BYTES: usize = 16;

/// Headers: fixed-length integers, little-endian.
const FIXED: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    magic: [u8; 8],
    format: u32,
    /// Which segment of the log this is, counted from 1; also in the file's name.
    pub ordinal: u64,
    /// Drawn at random for every life of the file.
    pub generation: u64,
    checksum: u32,
}

/// What makes a header unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("it does not begin as one")]
    Magic,
    #[error("its format version is {found}, and this server reads versions up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("its checksum does not match")]
    Checksum,
}

impl SegmentHeader {
    /// The header of segment `ordinal` in the life `generation`.
    pub fn new(ordinal: u64, generation: u64) -> SegmentHeader {
        let mut header = SegmentHeader {
            magic: SEGMENT_MAGIC,
            format: LOG_FORMAT,
            ordinal,
            generation,
            checksum: 0,
        };
        header.checksum = checksum_of_all_but_last_four(&header);
        header
    }

    /// The header as a whole block.
    pub fn to_block(self) -> Vec<u8> {
        let mut block = encoded(&self);
        block.resize(BLOCK, 0);
        block
    }

    /// Reads the header from the first block of a file.
    ///
    /// # Errors
    /// When the block is no segment header, a newer one or a damaged one.
    pub fn read(block: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        let header: SegmentHeader = decoded(block).ok_or(HeaderFault::Magic)?;
        if header.magic != SEGMENT_MAGIC {
            return Err(HeaderFault::Magic);
        }
        if header.format > LOG_FORMAT {
            return Err(HeaderFault::Newer { found: header.format, known: LOG_FORMAT });
        }
        if header.checksum != checksum_of_all_but_last_four(&header) {
            return Err(HeaderFault::Checksum);
        }
        Ok(header)
    }
}

/// What precedes the records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    magic: [u8; 8],
    /// The life of the segment that the batch belongs to.
    pub generation: u64,
    /// Counts the batches of the whole log, from 1, without a gap.
    pub sequence: u64,
    after: i64,
    first: i64,
    last: i64,
    /// Records.
    pub count: u32,
    /// Bytes of the records; the rest of the last block is padding.
    pub length: u32,
    /// CRC32 of the records' bytes.
    pub records_checksum: u32,
    reserved: u32,
    checksum: u32,
}

/// What a batch says of itself, before it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSpan {
    /// The life of the segment.
    pub generation: u64,
    /// The batch's place in the log.
    pub sequence: u64,
    /// The last transaction before the batch.
    pub after: Zxid,
    /// Its first transaction.
    pub first: Zxid,
    /// Its last transaction.
    pub last: Zxid,
    /// Its transactions.
    pub count: u32,
}

impl BatchHeader {
    /// The header for `records` (the encoded records, one behind the other).
    pub fn seal(span: BatchSpan, records: &[u8]) -> BatchHeader {
        let mut header = BatchHeader {
            magic: BATCH_MAGIC,
            generation: span.generation,
            sequence: span.sequence,
            after: span.after.bits(),
            first: span.first.bits(),
            last: span.last.bits(),
            count: span.count,
            length: u32::try_from(records.len()).expect("a batch is far below 4 GiB"),
            records_checksum: crc32fast::hash(records),
            reserved: 0,
            checksum: 0,
        };
        header.checksum = checksum_of_all_but_last_four(&header);
        header
    }

    /// Writes the header into the first bytes of a batch.
    pub fn write(&self, to: &mut [u8]) {
        let written = bincode::serde::encode_into_slice(self, &mut to[..BATCH_HEADER_BYTES], FIXED);
        assert_eq!(written.ok(), Some(BATCH_HEADER_BYTES), "a batch header has a fixed size");
    }

    /// Reads a header of the life `generation` from the first bytes of a block. `None`: the block
    /// does not begin a batch of that life, or the header is damaged.
    pub fn read(block: &[u8], generation: u64) -> Option<BatchHeader> {
        // Before all else: nearly every block that is looked at is zeros or some batch's inside.
        if block.get(..8)? != BATCH_MAGIC || block.get(8..16)? != generation.to_le_bytes() {
            return None;
        }
        let header: BatchHeader = decoded(block)?;
        (header.checksum == checksum_of_all_but_last_four(&header)).then_some(header)
    }

    /// The last transaction before the batch.
    pub fn after(&self) -> Zxid {
        Zxid::from_bits(self.after)
    }

    /// The first transaction.
    pub fn first(&self) -> Zxid {
        Zxid::from_bits(self.first)
    }

    /// The last transaction.
    pub fn last(&self) -> Zxid {
        Zxid::from_bits(self.last)
    }

    /// Bytes that the batch takes up in the file, padding included.
    pub fn bytes_on_disk(&self) -> u64 {
        blocks_for(self.length as usize)
    }
}

/// Bytes that a batch with records of this length takes up in a file.
pub fn blocks_for(records: usize) -> u64 {
    (BATCH_HEADER_BYTES + records).next_multiple_of(BLOCK) as u64
}

/// Appends a record: its header, and the transaction that `encode` writes in place.
///
/// # Panics
/// When the transaction is 4 GiB long.
pub fn append_record(batch: &mut Vec<u8>, zxid: Zxid, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = batch.len();
    batch.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    encode(batch);
    let txn = start + RECORD_HEADER_BYTES;
    assert!(batch.len() >= txn, "the encoder took bytes away");
    let length = u32::try_from(batch.len() - txn).expect("a transaction is far below 4 GiB");
    batch[start..start + 4].copy_from_slice(&length.to_le_bytes());
    batch[start + 8..txn].copy_from_slice(&zxid.bits().to_le_bytes());
    let checksum = record_checksum(&batch[start..]);
    batch[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// One transaction of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its id.
    pub zxid: Zxid,
    /// Header and record in jute, as they travel in a PROPOSAL.
    pub txn: &'a [u8],
}

/// Takes the first record off `bytes`. `None`: it is damaged or cut off.
pub fn take_record<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let length = usize::try_from(field(0)).ok()?;
    let record = bytes.get(..RECORD_HEADER_BYTES.checked_add(length)?)?;
    if field(4) != record_checksum(record) {
        return None;
    }
    *bytes = &bytes[record.len()..];
    let zxid = i64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
    Some(Record { zxid: Zxid::from_bits(zxid), txn: &record[RECORD_HEADER_BYTES..] })
}

/// CRC32 over a whole record but its checksum.
fn record_checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}

/// A header as bytes.
pub(crate) fn encoded<H: Serialize>(header: &H) -> Vec<u8> {
    bincode::serde::encode_to_vec(header, FIXED).expect("a header of numbers always encodes")
}

/// A header from the first of `bytes`.
pub(crate) fn decoded<H: DeserializeOwned>(bytes: &[u8]) -> Option<H> {
    bincode::serde::decode_from_slice(bytes, FIXED).ok().map(|(header, _)| header)
}

/// CRC32 of a header whose last field is that checksum.
pub(crate) fn checksum_of_all_but_last_four<H: Serialize>(header: &H) -> u32 {
    let bytes = encoded(header);
    crc32fast::hash(&bytes[..bytes.len() - 4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span() -> BatchSpan {
        BatchSpan {
            generation: 7,
            sequence: 3,
            after: Zxid::from_bits(4),
            first: Zxid::from_bits(5),
            last: Zxid::from_bits(6),
            count: 2,
        }
    }

    #[test]
    fn a_batch_header_has_the_length_that_records_rely_on() {
        let header = BatchHeader::seal(span(), b"");
        assert_eq!(encoded(&header).len(), BATCH_HEADER_BYTES);
    }

    #[test]
    fn a_record_header_is_what_bincode_would_write() {
        #[derive(Serialize)]
        struct Header(u32, u32, i64);
        let mut batch = Vec::new();
        append_record(&mut batch, Zxid::from_bits(0x1_0000_0002), |txn| txn.push(9));
        let checksum = u32::from_le_bytes(batch[4..8].try_into().unwrap());
        assert_eq!(batch[..16], encoded(&Header(1, checksum, 0x1_0000_0002)));
    }

    #[test]
    fn a_segment_of_a_newer_format_is_told_from_a_damaged_one() {
        let block = SegmentHeader::new(1, 2).to_block();
        assert_eq!(SegmentHeader::read(&block).unwrap(), SegmentHeader::new(1, 2));
        let mut newer = block.clone();
        newer[8] = 2;
        assert_eq!(SegmentHeader::read(&newer), Err(HeaderFault::Newer { found: 2, known: 1 }));
        let mut damaged = block.clone();
        damaged[12] ^= 1;
        assert_eq!(SegmentHeader::read(&damaged), Err(HeaderFault::Checksum));
        assert_eq!(SegmentHeader::read(&[0; BLOCK]), Err(HeaderFault::Magic));
        assert_eq!(SegmentHeader::read(&block[..20]), Err(HeaderFault::Magic));
    }

    #[test]
    fn a_batch_of_another_life_is_none() {
        let mut block = [0; BLOCK];
        BatchHeader::seal(span(), b"").write(&mut block);
        assert!(BatchHeader::read(&block, 7).is_some());
        assert_eq!(BatchHeader::read(&block, 8), None);
    }

    #[test]
    fn a_flip_of_any_bit_of_a_batch_header_is_noticed() {
        let mut block = [0; BLOCK];
        BatchHeader::seal(span(), b"records").write(&mut block);
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::read(&block, 7), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(
            txns in proptest::collection::vec(
                (any::<i64>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20)
        ) {
            let mut batch = Vec::new();
            for (zxid, txn) in &txns {
                append_record(&mut batch, Zxid::from_bits(*zxid), |to| to.extend_from_slice(txn));
            }
            let mut left = &batch[..];
            for (zxid, txn) in &txns {
                let record = take_record(&mut left).unwrap();
                prop_assert_eq!((record.zxid.bits(), record.txn), (*zxid, &txn[..]));
            }
            prop_assert!(left.is_empty());
            prop_assert!(take_record(&mut left).is_none());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut left = &bytes[..];
            while take_record(&mut left).is_some() {}
            let _ = SegmentHeader::read(&bytes);
            let _ = BatchHeader::read(&bytes, 0);
        }

        #[test]
        fn a_flipped_bit_in_a_record_is_noticed(
            txn in proptest::collection::vec(any::<u8>(), 0..100),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut batch = Vec::new();
            append_record(&mut batch, Zxid::from_bits(1), |to| to.extend_from_slice(&txn));
            let bit = bit.index(batch.len() * 8);
            batch[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(take_record(&mut &batch[..]).is_none());
        }
    }
}
