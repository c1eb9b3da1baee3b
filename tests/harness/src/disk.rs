//! The model of a disk that loses power: per file what is durable and what is merely written, per
//! directory which entries are durable and which changes wait for its fsync. No I/O happens here;
//! [`crate::power_cut`] mounts it.
//!
//! What it holds a program to (and what real filesystems may do, if seldom all at once):
//! * Written bytes are durable after an fsync or fdatasync of that file, or a write with O_DSYNC.
//!   Until then each 512-byte sector survives or not, independently of the others, and so does a
//!   change of the file's length.
//! * A create, rename or unlink is durable after an fsync of its directory; an fsync of the new
//!   file does not make its name durable. A rename survives whole or not at all.
//! * After a failed fsync the data counts as clean: a second fsync that succeeds flushes none of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::rng::Rng;

/// An inode number. [`ROOT`] is the mounted directory.
pub type Inode = u64;

/// The root directory's inode.
pub const ROOT: Inode = 1;

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// Bits of a page's mask: one for each of its sectors.
const _: () = assert!(PAGE_BYTES / SECTOR_BYTES == 8, "a page's sectors fit a byte");

type Page = [u8; PAGE_BYTES];

/// An error number, as `errno` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What the disk can be told to refuse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Opening with O_DIRECT fails with EINVAL, as on a filesystem without direct I/O.
    pub refuse_direct: bool,
    /// Bytes that the files may hold together. What would exceed it fails with ENOSPC.
    pub capacity: Option<u64>,
    /// Every write fails with EIO.
    pub fail_writes: bool,
    /// Every fsync of a file fails with EIO, and what it should have flushed never will be.
    pub fail_syncs: bool,
}

/// The contents of one file at one moment. Pages of zeros are not kept.
#[derive(Clone, Default)]
struct Image {
    len: u64,
    pages: HashMap<u64, Arc<Page>>,
}

impl Image {
    fn read(&self, offset: u64, want: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(want as u64));
        let mut out = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let within = (at % PAGE_BYTES as u64) as usize;
            let take = (PAGE_BYTES - within).min((end - at) as usize);
            match self.pages.get(&(at / PAGE_BYTES as u64)) {
                Some(page) => out.extend_from_slice(&page[within..within + take]),
                None => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
        out
    }

    fn put_page(&mut self, number: u64, page: Option<&Arc<Page>>) {
        match page {
            Some(page) => self.pages.insert(number, Arc::clone(page)),
            None => self.pages.remove(&number),
        };
    }

    /// Copies one sector from `from`, where a page that is not kept is zeros.
    fn put_sector(&mut self, number: u64, sector: usize, from: &Image) {
        let at = sector * SECTOR_BYTES;
        let bytes = from.pages.get(&number).map_or([0; SECTOR_BYTES], |page| {
            page[at..at + SECTOR_BYTES].try_into().expect("a sector's length")
        });
        let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
        Arc::make_mut(page)[at..at + SECTOR_BYTES].copy_from_slice(&bytes);
    }
}

/// A file: what is written, what is durable, and which sectors differ.
#[derive(Default)]
struct File {
    written: Image,
    durable: Image,
    dirty: HashMap<u64, u8>,
    reserved: u64,
}

impl File {
    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let number = at / PAGE_BYTES as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - within));
            let page =
                self.written.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..within + now.len()].copy_from_slice(now);
            if page.iter().all(|&byte| byte == 0) {
                self.written.pages.remove(&number);
            }
            let mask = self.dirty.entry(number).or_default();
            for sector in within / SECTOR_BYTES..=(within + now.len() - 1) / SECTOR_BYTES {
                *mask |= 1 << sector;
            }
            at += now.len() as u64;
            rest = later;
        }
        self.written.len = self.written.len.max(at);
    }

    fn set_len(&mut self, len: u64) {
        if len < self.written.len {
            self.zero(len, self.written.len - len);
        }
        self.written.len = len;
    }

    fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let page_bytes = PAGE_BYTES as u64;
        let touched: Vec<u64> = self
            .written
            .pages
            .keys()
            .copied()
            .filter(|number| number * page_bytes < end && (number + 1) * page_bytes > offset)
            .collect();
        for number in touched {
            let from = offset.saturating_sub(number * page_bytes).min(page_bytes) as usize;
            let to = (end - number * page_bytes).min(page_bytes) as usize;
            let page = self.written.pages.get_mut(&number).expect("it was just listed");
            Arc::make_mut(page)[from..to].fill(0);
            let mask = self.dirty.entry(number).or_default();
            for sector in from / SECTOR_BYTES..=(to - 1) / SECTOR_BYTES {
                *mask |= 1 << sector;
            }
        }
    }

    /// Makes everything durable.
    fn sync(&mut self) {
        for (number, _) in self.dirty.drain() {
            let page = self.written.pages.get(&number);
            self.durable.put_page(number, page);
        }
        self.durable.len = self.written.len;
    }

    /// Makes the pages of one range durable, and the length: a write with O_DSYNC.
    fn sync_range(&mut self, offset: u64, len: usize) {
        let first = offset / PAGE_BYTES as u64;
        let last = (offset + len.max(1) as u64 - 1) / PAGE_BYTES as u64;
        for number in first..=last {
            if self.dirty.remove(&number).is_some() {
                let page = self.written.pages.get(&number);
                self.durable.put_page(number, page);
            }
        }
        self.durable.len = self.written.len;
    }

    /// What is found after the power came back: of what was not flushed, `keep` quarters at random.
    fn cut(&mut self, rng: &mut Rng, keep: u64) {
        let mut dirty: Vec<(u64, u8)> = self.dirty.drain().collect();
        dirty.sort_unstable();
        for (number, mask) in dirty {
            for sector in 0..8 {
                if mask & (1 << sector) != 0 && rng.chance(keep, 4) {
                    self.durable.put_sector(number, sector, &self.written);
                }
            }
        }
        let written_len = self.written.len;
        self.written = self.durable.clone();
        if written_len != self.durable.len && rng.chance(keep, 4) {
            self.written.len = written_len;
        }
        // A sector that survived beyond the end would come back when the file grows again.
        let len = self.written.len;
        let beyond = self.written.pages.keys().copied().max().map_or(0, |last| last + 1);
        self.zero(len, (beyond * PAGE_BYTES as u64).saturating_sub(len));
        self.dirty.clear();
        self.durable = self.written.clone();
        self.reserved = 0;
    }
}

/// A change of a directory that waits for its fsync.
enum Change {
    Link { name: OsString, inode: Inode },
    Unlink { name: OsString },
    Rename { from: OsString, to: OsString, inode: Inode },
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<OsString, Inode>) {
        match self {
            Change::Link { name, inode } => {
                entries.insert(name.clone(), *inode);
            }
            Change::Unlink { name } => {
                entries.remove(name);
            }
            Change::Rename { from, to, inode } => {
                if entries.get(from) == Some(inode) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Default)]
struct Directory {
    written: BTreeMap<OsString, Inode>,
    durable: BTreeMap<OsString, Inode>,
    waiting: Vec<Change>,
}

impl Directory {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.written);
        self.waiting.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.written.clone();
        self.waiting.clear();
    }

    /// As a journal loses them (the newest), or as the standard permits (any).
    fn cut(&mut self, rng: &mut Rng, keep: u64) {
        let in_order = rng.chance(1, 2);
        for change in self.waiting.drain(..) {
            if rng.chance(keep, 4) {
                change.apply(&mut self.durable);
            } else if in_order {
                break;
            }
        }
        self.written = self.durable.clone();
    }
}

enum Body {
    File(File),
    Directory(Directory),
}

struct Node {
    body: Body,
    links: u32,
    opens: u32,
}

/// The disk. Every operation answers as the system call of its name does.
pub struct Disk {
    nodes: HashMap<Inode, Node>,
    next: Inode,
    /// What it refuses at present.
    pub faults: Faults,
}

/// What `stat` wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Whether it is a directory.
    pub directory: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Names that lead to it.
    pub links: u32,
}

impl Default for Disk {
    fn default() -> Disk {
        let root = Node { body: Body::Directory(Directory::default()), links: 2, opens: 0 };
        Disk { nodes: HashMap::from([(ROOT, root)]), next: ROOT + 1, faults: Faults::default() }
    }
}

impl Disk {
    fn node(&mut self, inode: Inode) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&inode).ok_or(Errno(libc::ESTALE))
    }

    fn directory(&mut self, inode: Inode) -> Result<&mut Directory, Errno> {
        match &mut self.node(inode)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(Errno(libc::ENOTDIR)),
        }
    }

    fn file(&mut self, inode: Inode) -> Result<&mut File, Errno> {
        match &mut self.node(inode)?.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Errno(libc::EISDIR)),
        }
    }

    /// Bytes that the files occupy: those that have a name or are open.
    pub fn used(&self) -> u64 {
        let held = self.nodes.values().filter(|node| node.links > 0 || node.opens > 0);
        held.map(|node| match &node.body {
            Body::File(file) => file.written.len.max(file.reserved),
            Body::Directory(_) => 0,
        })
        .sum()
    }

    fn make_room(&mut self, inode: Inode, end: u64) -> Result<(), Errno> {
        let Some(capacity) = self.faults.capacity else { return Ok(()) };
        let file = self.file(inode)?;
        let grows = end.saturating_sub(file.written.len.max(file.reserved));
        if grows > 0 && self.used().saturating_add(grows) > capacity {
            return Err(Errno(libc::ENOSPC));
        }
        Ok(())
    }

    /// What is behind a name.
    pub fn lookup(&mut self, parent: Inode, name: &OsStr) -> Result<Inode, Errno> {
        self.directory(parent)?.written.get(name).copied().ok_or(Errno(libc::ENOENT))
    }

    /// What is known of an inode.
    pub fn attributes(&mut self, inode: Inode) -> Result<Attributes, Errno> {
        let node = self.node(inode)?;
        let (directory, len) = match &node.body {
            Body::File(file) => (false, file.written.len),
            Body::Directory(_) => (true, 0),
        };
        Ok(Attributes { directory, len, links: node.links })
    }

    /// Names and inodes in a directory.
    pub fn list(&mut self, inode: Inode) -> Result<Vec<(OsString, Inode)>, Errno> {
        Ok(self
            .directory(inode)?
            .written
            .iter()
            .map(|(name, inode)| (name.clone(), *inode))
            .collect())
    }

    /// Makes a file or a directory.
    pub fn make(&mut self, parent: Inode, name: &OsStr, directory: bool) -> Result<Inode, Errno> {
        let inode = self.next;
        let entries = self.directory(parent)?;
        if entries.written.contains_key(name) {
            return Err(Errno(libc::EEXIST));
        }
        entries.change(Change::Link { name: name.to_owned(), inode });
        let (body, links) = match directory {
            true => (Body::Directory(Directory::default()), 2),
            false => (Body::File(File::default()), 1),
        };
        self.nodes.insert(inode, Node { body, links, opens: 0 });
        self.next += 1;
        Ok(inode)
    }

    /// Gives a file one more name.
    pub fn link(&mut self, inode: Inode, parent: Inode, name: &OsStr) -> Result<(), Errno> {
        self.file(inode)?;
        let entries = self.directory(parent)?;
        if entries.written.contains_key(name) {
            return Err(Errno(libc::EEXIST));
        }
        entries.change(Change::Link { name: name.to_owned(), inode });
        self.node(inode)?.links += 1;
        Ok(())
    }

    /// Takes a name away: of a file, or of an empty directory.
    pub fn unlink(&mut self, parent: Inode, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let inode = self.lookup(parent, name)?;
        match (&self.node(inode)?.body, directory) {
            (Body::Directory(_), false) => return Err(Errno(libc::EISDIR)),
            (Body::File(_), true) => return Err(Errno(libc::ENOTDIR)),
            (Body::Directory(inner), true) if !inner.written.is_empty() => {
                return Err(Errno(libc::ENOTEMPTY));
            }
            _ => {}
        }
        self.directory(parent)?.change(Change::Unlink { name: name.to_owned() });
        self.drop_link(inode);
        Ok(())
    }

    fn drop_link(&mut self, inode: Inode) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.links = match node.body {
                Body::Directory(_) => 0,
                Body::File(_) => node.links - 1,
            };
        }
    }

    /// Renames, replacing what has the new name unless `keep_existing`.
    pub fn rename(
        &mut self,
        (from_parent, from): (Inode, &OsStr),
        (to_parent, to): (Inode, &OsStr),
        keep_existing: bool,
    ) -> Result<(), Errno> {
        let inode = self.lookup(from_parent, from)?;
        let replaced = self.lookup(to_parent, to).ok();
        if replaced == Some(inode) {
            return Ok(());
        }
        if replaced.is_some() && keep_existing {
            return Err(Errno(libc::EEXIST));
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        if from_parent == to_parent {
            self.directory(from_parent)?.change(Change::Rename { from, to, inode });
        } else {
            self.directory(to_parent)?.change(Change::Link { name: to, inode });
            self.directory(from_parent)?.change(Change::Unlink { name: from });
        }
        if let Some(replaced) = replaced {
            self.drop_link(replaced);
        }
        Ok(())
    }

    /// Opens with these flags of `open(2)`.
    pub fn open(&mut self, inode: Inode, flags: i32) -> Result<(), Errno> {
        if flags & libc::O_DIRECT != 0 && self.faults.refuse_direct {
            return Err(Errno(libc::EINVAL));
        }
        self.node(inode)?.opens += 1;
        Ok(())
    }

    /// Closes what [`Disk::open`] opened.
    pub fn close(&mut self, inode: Inode) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.opens = node.opens.saturating_sub(1);
        }
    }

    /// Reads at most `want` bytes.
    pub fn read(&mut self, inode: Inode, offset: u64, want: usize) -> Result<Vec<u8>, Errno> {
        Ok(self.file(inode)?.written.read(offset, want))
    }

    /// Writes; with O_DSYNC or O_SYNC among the `flags` it is durable at once.
    pub fn write(&mut self, inode: Inode, at: u64, data: &[u8], flags: i32) -> Result<(), Errno> {
        if self.faults.fail_writes {
            return Err(Errno(libc::EIO));
        }
        self.make_room(inode, at + data.len() as u64)?;
        let (durable, fail_syncs) = (flags & libc::O_DSYNC != 0, self.faults.fail_syncs);
        let file = self.file(inode)?;
        if durable && fail_syncs {
            return Err(Errno(libc::EIO));
        }
        file.write(at, data);
        if durable {
            file.sync_range(at, data.len());
        }
        Ok(())
    }

    /// Cuts a file off or lengthens it with zeros.
    pub fn set_len(&mut self, inode: Inode, len: u64) -> Result<(), Errno> {
        self.make_room(inode, len)?;
        self.file(inode)?.set_len(len);
        Ok(())
    }

    /// `fallocate(2)`: reserves, or zeroes for the modes that do.
    pub fn allocate(&mut self, inode: Inode, at: u64, len: u64, mode: i32) -> Result<(), Errno> {
        let zeroing = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
        if mode & !(zeroing | libc::FALLOC_FL_KEEP_SIZE) != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        self.make_room(inode, at + len)?;
        let file = self.file(inode)?;
        file.reserved = file.reserved.max(at + len);
        if mode & zeroing != 0 {
            file.zero(at, len);
        }
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
            file.written.len = file.written.len.max(at + len);
        }
        Ok(())
    }

    /// fsync or fdatasync: of a file its contents, of a directory its entries.
    pub fn sync(&mut self, inode: Inode) -> Result<(), Errno> {
        let fail = self.faults.fail_syncs;
        match &mut self.node(inode)?.body {
            Body::Directory(directory) => directory.sync(),
            Body::File(file) if fail => {
                file.dirty.clear();
                return Err(Errno(libc::EIO));
            }
            Body::File(file) => file.sync(),
        }
        Ok(())
    }

    /// The power goes and comes back: what was not durable survives in parts chosen by `rng`.
    /// Nothing is open afterwards.
    pub fn cut(&mut self, rng: &mut Rng) {
        let mut inodes: Vec<Inode> = self.nodes.keys().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            let keep = rng.below(5);
            let node = self.nodes.get_mut(&inode).expect("it was just listed");
            node.opens = 0;
            match &mut node.body {
                Body::File(file) => file.cut(rng, keep),
                Body::Directory(directory) => directory.cut(rng, keep),
            }
        }
        self.forget_unreachable();
    }

    fn forget_unreachable(&mut self) {
        let mut links: HashMap<Inode, u32> = HashMap::from([(ROOT, 2)]);
        let mut to_visit = vec![ROOT];
        let mut visited = HashSet::new();
        while let Some(inode) = to_visit.pop() {
            if !visited.insert(inode) {
                continue;
            }
            if let Some(Node { body: Body::Directory(directory), .. }) = self.nodes.get(&inode) {
                for &child in directory.written.values() {
                    *links.entry(child).or_default() += 1;
                    to_visit.push(child);
                }
            }
        }
        self.nodes.retain(|inode, node| {
            node.links = links.get(inode).copied().unwrap_or(0);
            node.links > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    /// A disk with one durable, empty file.
    fn with_file() -> (Disk, Inode) {
        let mut disk = Disk::default();
        let file = disk.make(ROOT, name("log"), false).unwrap();
        disk.sync(ROOT).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        for seed in 0..50 {
            let (mut disk, file) = with_file();
            disk.write(file, 100, &[7; 10_000], 0).unwrap();
            disk.sync(file).unwrap();
            disk.write(file, 20_000, &[9; 5_000], 0).unwrap();
            disk.cut(&mut Rng::new(seed));
            assert_eq!(disk.read(file, 100, 10_000).unwrap(), [7; 10_000], "seed {seed}");
        }
    }

    #[test]
    fn unsynced_sectors_are_torn_from_each_other() {
        let (mut torn, mut whole, mut none) = (0, 0, 0);
        for seed in 0..100 {
            let (mut disk, file) = with_file();
            disk.write(file, 0, &[1; 4096], 0).unwrap();
            disk.sync(file).unwrap();
            disk.write(file, 0, &[2; 4096], 0).unwrap();
            disk.cut(&mut Rng::new(seed));
            let found = disk.read(file, 0, 4096).unwrap();
            for sector in found.chunks(512) {
                assert!(sector == [1; 512] || sector == [2; 512], "seed {seed}: a torn sector");
            }
            match found.iter().filter(|&&byte| byte == 2).count() {
                0 => none += 1,
                4096 => whole += 1,
                _ => torn += 1,
            }
        }
        assert!(torn > 20 && whole > 5 && none > 5, "torn {torn}, whole {whole}, none {none}");
    }

    #[test]
    fn a_write_with_o_dsync_is_durable_and_its_neighbours_are_not() {
        let mut lost = 0;
        for seed in 0..50 {
            let (mut disk, file) = with_file();
            disk.write(file, 0, &[1; 4096], 0).unwrap();
            disk.write(file, 4096, &[2; 4096], libc::O_DSYNC).unwrap();
            disk.cut(&mut Rng::new(seed));
            assert_eq!(disk.read(file, 4096, 4096).unwrap(), [2; 4096], "seed {seed}");
            lost += u32::from(disk.read(file, 0, 4096).unwrap() != [1; 4096]);
        }
        assert!(lost > 10, "the neighbour was lost {lost} times");
    }

    #[test]
    fn a_new_file_needs_the_fsync_of_its_folder() {
        let mut missing = 0;
        for seed in 0..50 {
            let mut disk = Disk::default();
            let file = disk.make(ROOT, name("new"), false).unwrap();
            disk.write(file, 0, b"data", 0).unwrap();
            disk.sync(file).unwrap();
            disk.cut(&mut Rng::new(seed));
            match disk.lookup(ROOT, name("new")) {
                Ok(found) => assert_eq!(disk.read(found, 0, 4).unwrap(), b"data", "seed {seed}"),
                Err(error) => {
                    assert_eq!(error, Errno(libc::ENOENT));
                    missing += 1;
                }
            }
        }
        assert!(missing > 10, "missing {missing} times");
    }

    #[test]
    fn a_rename_survives_whole_or_not_at_all() {
        let (mut before, mut after) = (0, 0);
        for seed in 0..100 {
            let mut disk = Disk::default();
            for (file, text) in [("snapshot", b"old"), ("tmp", b"new")] {
                let inode = disk.make(ROOT, name(file), false).unwrap();
                disk.write(inode, 0, text, 0).unwrap();
                disk.sync(inode).unwrap();
            }
            disk.sync(ROOT).unwrap();
            disk.rename((ROOT, name("tmp")), (ROOT, name("snapshot")), false).unwrap();
            disk.cut(&mut Rng::new(seed));
            let found = disk.lookup(ROOT, name("snapshot")).unwrap();
            let text = disk.read(found, 0, 3).unwrap();
            match disk.lookup(ROOT, name("tmp")) {
                Ok(_) => {
                    assert_eq!(text, b"old", "seed {seed}");
                    before += 1;
                }
                Err(_) => {
                    assert_eq!(text, b"new", "seed {seed}");
                    after += 1;
                }
            }
        }
        assert!(before > 20 && after > 20, "before {before}, after {after}");
    }

    #[test]
    fn an_unlink_can_come_undone_until_the_folder_is_synced() {
        let mut back = 0;
        for seed in 0..50 {
            let (mut disk, _) = with_file();
            disk.unlink(ROOT, name("log"), false).unwrap();
            assert_eq!(disk.lookup(ROOT, name("log")), Err(Errno(libc::ENOENT)));
            disk.cut(&mut Rng::new(seed));
            back += u32::from(disk.lookup(ROOT, name("log")).is_ok());
        }
        assert!((5..50).contains(&back), "back {back} times");
    }

    #[test]
    fn the_name_of_a_folder_is_its_parents_to_sync() {
        let mut missing = 0;
        for seed in 0..50 {
            let mut disk = Disk::default();
            let folder = disk.make(ROOT, name("version"), true).unwrap();
            let file = disk.make(folder, name("log"), false).unwrap();
            disk.sync(file).unwrap();
            disk.sync(folder).unwrap();
            disk.cut(&mut Rng::new(seed));
            match disk.lookup(ROOT, name("version")) {
                Ok(folder) => assert!(disk.lookup(folder, name("log")).is_ok(), "seed {seed}"),
                Err(_) => missing += 1,
            }
        }
        assert!(missing > 10, "missing {missing} times");
    }

    #[test]
    fn a_failed_fsync_loses_what_a_later_one_seems_to_flush() {
        let (mut disk, file) = with_file();
        disk.write(file, 0, &[1; 512], 0).unwrap();
        disk.faults.fail_syncs = true;
        assert_eq!(disk.sync(file), Err(Errno(libc::EIO)));
        disk.faults.fail_syncs = false;
        disk.sync(file).unwrap();
        assert_eq!(disk.read(file, 0, 512).unwrap(), [1; 512]);
        disk.cut(&mut Rng::new(1));
        assert_eq!(disk.read(file, 0, 512).unwrap(), [0; 512]);
    }

    #[test]
    fn a_full_disk_takes_overwrites_and_refuses_growth() {
        let (mut disk, file) = with_file();
        disk.faults.capacity = Some(8192);
        disk.allocate(file, 0, 8192, 0).unwrap();
        disk.write(file, 4096, &[1; 4096], 0).unwrap();
        assert_eq!(disk.write(file, 8192, &[1], 0), Err(Errno(libc::ENOSPC)));
        let other = disk.make(ROOT, name("other"), false).unwrap();
        assert_eq!(disk.set_len(other, 1), Err(Errno(libc::ENOSPC)));
        disk.unlink(ROOT, name("log"), false).unwrap();
        disk.set_len(other, 8192).unwrap();
    }

    #[test]
    fn a_truncated_tail_reads_as_zeros_when_the_file_grows_again() {
        let (mut disk, file) = with_file();
        disk.write(file, 0, &[5; 1000], 0).unwrap();
        disk.set_len(file, 600).unwrap();
        disk.set_len(file, 1000).unwrap();
        disk.sync(file).unwrap();
        disk.cut(&mut Rng::new(3));
        let found = disk.read(file, 0, 2000).unwrap();
        assert_eq!(found[..600], [5; 600]);
        assert_eq!(found[600..], [0; 400]);
    }

    #[test]
    fn the_same_seed_leaves_the_same_disk() {
        let survivors = |seed| {
            let (mut disk, file) = with_file();
            disk.write(file, 0, &[3; 100_000], 0).unwrap();
            disk.cut(&mut Rng::new(seed));
            disk.read(file, 0, 100_000).unwrap()
        };
        assert_eq!(survivors(11), survivors(11));
        assert!((0..10).any(|seed| survivors(seed) != survivors(seed + 1)));
    }
}
