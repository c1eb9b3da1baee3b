//! What both directions know of the form.

/// `ZKSN`, how a snapshot file begins.
pub(super) const MAGIC: i32 = i32::from_be_bytes(*b"ZKSN");

/// The version of a snapshot file's form; there is no other.
pub(super) const VERSION: i32 = 2;

/// What ZooKeeper writes as the database's id, which means nothing.
pub(super) const DATABASE_ID: i64 = -1;

/// The path behind the last znode, and the text behind a checksum.
pub(super) const END_MARK: &str = "/";

/// The text behind a snapshot on the quorum port.
pub(super) const SIGNATURE: &str = "BenWasHere";

/// How a znode refers to the null ACL, which is not in the table.
pub(super) const OPEN_ACL: i64 = -1;

/// The version of the digests that ZooKeeper computes since 3.6.
pub(super) const DIGEST_VERSION: i32 = 2;

/// Where a snapshot stands, which decides what is around its sessions, ACLs and znodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// On the quorum port, behind a SNAP packet: a signature follows, then packets.
    Stream,
    /// In a file: with a header, checksums and what the sections say.
    File(FileSections),
}

/// What ZooKeeper writes behind the znodes of a file. Each release expects what its own switches
/// say, and reads any file that ends before a section it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSections {
    /// The digest of the tree (`digest.enabled`, on by default). A server with the other setting
    /// refuses the file.
    pub digest: bool,
    /// The zxid once more (`serializeLastProcessedZxid.enabled`, 3.9, there on by default; 3.8
    /// overlooks it).
    pub last_zxid: bool,
}

impl FileSections {
    /// What 3.9 writes by default, and 3.8 reads as well.
    pub const DEFAULT: FileSections = FileSections { digest: true, last_zxid: true };
}
