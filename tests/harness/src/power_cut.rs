//! A mounted filesystem whose power can be cut: [`crate::disk`] behind FUSE.
//!
//! Files are served with direct I/O, so the kernel caches nothing of them and every write, flush
//! and directory change of the server arrives here when it is made. Switching off ([`Switch`])
//! stops answering; the server is then killed, and [`PowerCut::restore`] mounts what survived.
//!
//! Needs /dev/fuse and the right to mount, that is root. Without them [`PowerCut::mount`] panics
//! with the reason, since a test that silently proves nothing is worse than one that fails;
//! RINGKEEPER_TEST_WITHOUT_FUSE=1 in the environment makes it answer `None` instead.

use std::any::Any;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::disk::{Attributes, Disk, Errno, Faults, Inode, ROOT};
use crate::rng::Rng;

/// The kernel must ask again each time: after a cut nothing that it remembers is true.
const NO_CACHE: Duration = Duration::ZERO;

/// Longest that an unmount may find the filesystem busy.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(10);

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Not by itself.
    On,
    /// Before the change that follows this many more. Changes are writes, flushes and whatever
    /// alters a directory or a length: the moments that a crash can fall between.
    OffAfter(u64),
    /// Now.
    Off,
}

struct State {
    disk: Disk,
    switch: Switch,
    changes: u64,
    /// Requests that came after the power went: they get no answer while their sender lives.
    unanswered: Vec<Box<dyn Any + Send>>,
    /// Whether the sender is dead: what it still asks on its way out fails at once.
    sender_is_dead: bool,
}

struct Shared {
    state: Mutex<State>,
    went_off: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics with the disk in hand")
    }

    /// The disk, for a request that reads; `None` keeps the reply unanswered. The dead may read:
    /// what they see on their way out changes nothing.
    fn to_read<R: Send + 'static>(&self, reply: R) -> Option<(MutexGuard<'_, State>, R)> {
        let mut state = self.lock();
        if state.switch == Switch::Off && !state.sender_is_dead {
            state.unanswered.push(Box::new(reply));
            return None;
        }
        Some((state, reply))
    }

    /// The disk, for a request that changes it; counts down to the cut.
    fn to_change<R: Send + 'static>(&self, reply: R) -> Option<(MutexGuard<'_, State>, R)> {
        let mut state = self.lock();
        match state.switch {
            Switch::OffAfter(0) => {
                state.switch = Switch::Off;
                self.went_off.notify_all();
            }
            Switch::OffAfter(left) => state.switch = Switch::OffAfter(left - 1),
            Switch::On | Switch::Off => {}
        }
        if state.switch == Switch::Off {
            // A reply that is dropped answers EIO.
            if !state.sender_is_dead {
                state.unanswered.push(Box::new(reply));
            }
            return None;
        }
        state.changes += 1;
        Some((state, reply))
    }
}

/// The filesystem, mounted in a temporary folder until dropped.
pub struct PowerCut {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    at: tempfile::TempDir,
}

impl PowerCut {
    /// An empty disk, mounted, with the power on. `None` only where FUSE is missing and the
    /// environment allows to go without it.
    ///
    /// # Panics
    /// When it cannot be mounted; the message says why and what helps.
    pub fn mount() -> Option<PowerCut> {
        let state = State {
            disk: Disk::default(),
            switch: Switch::On,
            changes: 0,
            unanswered: Vec::new(),
            sender_is_dead: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), went_off: Condvar::new() });
        let at = tempfile::tempdir().expect("a temporary folder to mount on");
        match attach(&shared, at.path()) {
            Ok(session) => Some(PowerCut { shared, session: Some(session), at }),
            Err(error) if std::env::var_os("RINGKEEPER_TEST_WITHOUT_FUSE").is_some() => {
                eprintln!("SKIPPED, not passed: no FUSE filesystem can be mounted here: {error}");
                None
            }
            Err(error) => panic!(
                "the power-cut tests mount a FUSE filesystem, which failed: {error}. They need \
                 /dev/fuse and root; RINGKEEPER_TEST_WITHOUT_FUSE=1 skips them"
            ),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.at.path().to_owned()
    }

    /// Sets when the power goes.
    pub fn set_switch(&self, switch: Switch) {
        let mut state = self.shared.lock();
        state.switch = switch;
        state.sender_is_dead = false;
        drop(state);
        self.shared.went_off.notify_all();
    }

    /// Waits until the power is off; false when it is still on after `patience`.
    pub fn wait_until_off(&self, patience: Duration) -> bool {
        let state = self.shared.lock();
        let on = |state: &mut State| state.switch != Switch::Off;
        let (state, timeout) = self
            .shared
            .went_off
            .wait_timeout_while(state, patience, on)
            .expect("no one panics with the disk in hand");
        drop(state);
        !timeout.timed_out()
    }

    /// Changes made so far, as [`Switch::OffAfter`] counts them.
    pub fn changes(&self) -> u64 {
        self.shared.lock().changes
    }

    /// Sets what the disk refuses from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().disk.faults = faults;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.shared.lock().disk.used()
    }

    /// Fails all that waits for an answer, and what is asked until the power is back: a killed
    /// process cannot end before. It must have got its SIGKILL.
    pub fn let_go(&self) {
        let mut state = self.shared.lock();
        state.sender_is_dead = true;
        let unanswered = std::mem::take(&mut state.unanswered);
        drop(state);
        drop(unanswered);
    }

    /// Mounts what survived, chosen by `rng`, with the power on. Whoever used the files must be
    /// gone.
    ///
    /// # Panics
    /// When the power is on, or something still uses the filesystem.
    pub fn restore(&mut self, rng: &mut Rng) {
        assert_eq!(self.shared.lock().switch, Switch::Off, "the power must be off");
        self.let_go();
        self.detach();
        {
            let mut state = self.shared.lock();
            state.disk.cut(rng);
            state.switch = Switch::On;
            state.sender_is_dead = false;
        }
        self.session = Some(attach(&self.shared, self.at.path()).expect("it was mounted before"));
    }

    fn detach(&mut self) {
        let Some(session) = self.session.take() else { return };
        let path = CString::new(self.at.path().as_os_str().as_bytes()).expect("no NUL in a path");
        let deadline = Instant::now() + UNMOUNT_PATIENCE;
        loop {
            // SAFETY: the path is a NUL-terminated string that outlives the call.
            if unsafe { libc::umount2(path.as_ptr(), 0) } == 0 {
                break;
            }
            let error = io::Error::last_os_error();
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            if !busy || Instant::now() > deadline {
                // The next mount would cover a busy one, so this is as far as a test can go.
                // SAFETY: as above.
                unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
                assert!(thread::panicking(), "cannot unmount {path:?}: {error}");
                return;
            }
            self.let_go();
            thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = session.join() {
            assert!(thread::panicking(), "the filesystem ended with {error}");
        }
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        self.let_go();
        self.detach();
    }
}

fn attach(shared: &Arc<Shared>, at: &Path) -> io::Result<BackgroundSession> {
    let mut config = fuser::Config::default();
    config.mount_options =
        vec![MountOption::FSName("power-cut".to_owned()), MountOption::NoAtime, MountOption::NoDev];
    fuser::spawn_mount(Served(Arc::clone(shared)), at, &config)
}

/// The kernel's side of it.
struct Served(Arc<Shared>);

impl Drop for Served {
    fn drop(&mut self) {
        // Dropped by a panic, nobody serves the filesystem any more, and whoever uses it, this
        // process included, could not even be killed.
        if thread::panicking() {
            std::process::abort();
        }
    }
}

fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.0)
}

fn file_attr(inode: Inode, attributes: Attributes) -> FileAttr {
    let (kind, perm) = match attributes.directory {
        true => (FileType::Directory, 0o755),
        false => (FileType::RegularFile, 0o644),
    };
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(inode),
        size: attributes.len,
        blocks: attributes.len.div_ceil(512),
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind,
        perm,
        nlink: attributes.links,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_entry(reply: ReplyEntry, disk: &mut Disk, result: Result<Inode, Errno>) {
    match result.and_then(|inode| Ok((inode, disk.attributes(inode)?))) {
        Ok((inode, found)) => reply.entry(&NO_CACHE, &file_attr(inode, found), Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_attr(reply: ReplyAttr, disk: &mut Disk, inode: Inode, result: Result<(), Errno>) {
    match result.and_then(|()| disk.attributes(inode)) {
        Ok(found) => reply.attr(&NO_CACHE, &file_attr(inode, found)),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Served {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // One write of the server should arrive as one: the sectors are torn here, not there.
        if let Err(most) = config.set_max_write(1 << 20) {
            config.set_max_write(most).expect("the kernel takes its own maximum");
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some((mut state, reply)) = self.0.to_read(reply) else { return };
        let found = state.disk.lookup(parent.0, name);
        answer_entry(reply, &mut state.disk, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let Some((mut state, reply)) = self.0.to_read(reply) else { return };
        answer_attr(reply, &mut state.disk, ino.0, Ok(()));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        let done = size.map_or(Ok(()), |size| state.disk.set_len(ino.0, size));
        answer_attr(reply, &mut state.disk, ino.0, done);
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        let made = state.disk.make(parent.0, name, true);
        answer_entry(reply, &mut state.disk, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        answer(reply, state.disk.unlink(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        answer(reply, state.disk.unlink(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        let keep_existing = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !flags.difference(RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(fuser::Errno::EINVAL);
        }
        answer(reply, state.disk.rename((parent.0, name), (newparent.0, newname), keep_existing));
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        let done = state.disk.link(ino.0, newparent.0, newname);
        answer_entry(reply, &mut state.disk, done.map(|()| ino.0));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        let disk = &mut state.disk;
        if flags & libc::O_DIRECT != 0 && disk.faults.refuse_direct {
            // A filesystem without direct I/O refuses before it has made the file.
            return reply.error(fuser::Errno::EINVAL);
        }
        let made = disk.make(parent.0, name, false).and_then(|inode| {
            disk.open(inode, flags)?;
            Ok((inode, disk.attributes(inode)?))
        });
        match made {
            Ok((inode, found)) => reply.created(
                &NO_CACHE,
                &file_attr(inode, found),
                Generation(0),
                FileHandle(inode),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some((mut state, reply)) = self.0.to_read(reply) else { return };
        match state.disk.open(ino.0, flags.0) {
            Ok(()) => reply.opened(FileHandle(ino.0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        // Answered even without power: it is the kernel that asks, when a killed process ends.
        self.0.lock().disk.close(ino.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((mut state, reply)) = self.0.to_read(reply) else { return };
        match state.disk.read(ino.0, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        match state.disk.write(ino.0, offset, data, flags.0) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("the kernel counts in u32")),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        answer(reply, state.disk.allocate(ino.0, offset, length, mode));
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        answer(reply, state.disk.sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let Some((mut state, reply)) = self.0.to_change(reply) else { return };
        answer(reply, state.disk.sync(ino.0));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let Some((mut state, mut reply)) = self.0.to_read(reply) else { return };
        let entries = match state.disk.list(ino.0) {
            Ok(entries) => entries,
            Err(error) => return reply.error(errno(error)),
        };
        for (place, (name, inode)) in (1..).zip(entries).skip(offset as usize) {
            let directory = state.disk.attributes(inode).is_ok_and(|found| found.directory);
            let kind = if directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(inode), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // Answered even without power: it says nothing about any file, and glommio, which asks after
        // each open, takes no refusal.
        let state = self.0.lock();
        let capacity = state.disk.faults.capacity.unwrap_or(1 << 40);
        let free = capacity.saturating_sub(state.disk.used()) / 4096;
        reply.statfs(capacity / 4096, free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

const _: () = assert!(ROOT == 1, "the kernel calls the root 1");

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::{Read, Write};
    use std::os::unix::fs::{FileExt, OpenOptionsExt};

    use super::*;

    fn cut(power: &mut PowerCut, seed: u64) {
        power.set_switch(Switch::Off);
        power.restore(&mut Rng::new(seed));
    }

    #[test]
    fn files_and_folders_behave_as_on_any_filesystem() {
        let Some(power) = PowerCut::mount() else { return };
        let folder = power.path().join("version-2");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a"), b"alpha").unwrap();
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        assert_eq!(fs::read(folder.join("b")).unwrap(), b"alpha");
        let names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["b"]);
        OpenOptions::new().write(true).truncate(true).open(folder.join("b")).unwrap();
        assert_eq!(fs::metadata(folder.join("b")).unwrap().len(), 0);
        fs::remove_file(folder.join("b")).unwrap();
        fs::remove_dir(&folder).unwrap();
        assert_eq!(fs::read_dir(power.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_was_flushed_is_there_after_a_cut() {
        let Some(mut power) = PowerCut::mount() else { return };
        let path = power.path().join("log");
        fs::write(&path, [1; 8192]).unwrap();
        File::open(&path).unwrap().sync_data().unwrap();
        File::open(power.path()).unwrap().sync_all().unwrap();
        let mut lost = false;
        for seed in 0..8 {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(8192).unwrap();
            file.sync_all().unwrap();
            file.write_all_at(&[2; 4096], 8192).unwrap();
            drop(file);
            cut(&mut power, seed);
            let mut found = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found[..8192], [1; 8192]);
            lost |= found[8192..] != [2; 4096];
        }
        assert!(lost, "the tail was never flushed");
    }

    #[test]
    fn a_write_through_o_direct_and_o_dsync_is_flushed() {
        let Some(mut power) = PowerCut::mount() else { return };
        let path = power.path().join("segment");
        let flags = libc::O_DIRECT | libc::O_DSYNC;
        let file =
            OpenOptions::new().write(true).create(true).custom_flags(flags).open(&path).unwrap();
        let block = Aligned([7; 4096]);
        file.write_all_at(&block.0, 0).unwrap();
        File::open(power.path()).unwrap().sync_all().unwrap();
        drop(file);
        cut(&mut power, 5);
        assert_eq!(fs::read(&path).unwrap(), [7; 4096]);
    }

    #[repr(align(4096))]
    struct Aligned([u8; 4096]);

    #[test]
    fn a_disk_without_direct_io_refuses_it_and_takes_the_rest() {
        let Some(power) = PowerCut::mount() else { return };
        power.set_faults(Faults { refuse_direct: true, ..Faults::default() });
        let path = power.path().join("segment");
        let mut options = OpenOptions::new();
        options.write(true).create(true).custom_flags(libc::O_DIRECT);
        assert_eq!(options.open(&path).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        fs::write(&path, b"buffered").unwrap();
        assert_eq!(options.open(&path).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_full_or_broken_disk_says_so() {
        let Some(power) = PowerCut::mount() else { return };
        let mut file = File::create(power.path().join("log")).unwrap();
        power.set_faults(Faults { capacity: Some(4096), ..Faults::default() });
        let refused = file.write_all(&[1; 8192]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
        power.set_faults(Faults { fail_syncs: true, ..Faults::default() });
        file.write_all(&[1; 512]).unwrap();
        assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(libc::EIO));
        power.set_faults(Faults { fail_writes: true, ..Faults::default() });
        assert_eq!(file.write_all(&[1; 512]).unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn the_power_goes_at_the_counted_change_and_the_killed_process_ends() {
        let Some(mut power) = PowerCut::mount() else { return };
        power.set_switch(Switch::OffAfter(2));
        let script = "cd \"$0\" && : > a && : > b && : > c && : > d";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(power.path())
            .spawn()
            .expect("sh starts");
        assert!(power.wait_until_off(Duration::from_secs(10)));
        assert_eq!(power.changes(), 2);
        child.kill().unwrap();
        power.let_go();
        child.wait().unwrap();
        power.restore(&mut Rng::new(2));
        assert!(!power.path().join("c").exists());
    }
}
