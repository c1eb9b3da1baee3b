//! What a process may be denied before it starts: io_uring, locked memory, file descriptors. All
//! of it is set in the child between fork and exec, so the tests themselves are never touched.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What to take from a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Confinement {
    /// io_uring_setup fails with EPERM, as under a seccomp profile or with
    /// kernel.io_uring_disabled.
    pub without_io_uring: bool,
    /// Bytes of memory it may lock; the capability to go beyond is taken away too.
    pub memlock: Option<u64>,
    /// File descriptors it may have open.
    pub open_files: Option<u64>,
}

const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Makes the command's process start confined, and end with the thread that started it: a test
/// that dies leaves no server behind.
pub fn confine(command: &mut Command, confinement: Confinement) {
    // SAFETY: the closure runs in the child between fork and exec and makes system calls only; it
    // neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || apply(confinement));
    }
}

fn apply(confinement: Confinement) -> io::Result<()> {
    // SAFETY: prctl with integer arguments touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    if let Some(bytes) = confinement.memlock {
        limit(libc::RLIMIT_MEMLOCK, bytes)?;
        // SAFETY: as above. Root would regain the capability at exec if it stayed in the bounds.
        check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) })?;
    }
    if let Some(count) = confinement.open_files {
        limit(libc::RLIMIT_NOFILE, count)?;
    }
    if confinement.without_io_uring {
        forbid_io_uring()?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    check(unsafe { libc::setrlimit(resource, &limits) })
}

/// Raises this process's own limit of open files to at least `count`.
pub fn allow_open_files(count: u64) -> io::Result<()> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limits) })?;
    if limits.rlim_cur >= count {
        return Ok(());
    }
    limits.rlim_cur = count;
    limits.rlim_max = limits.rlim_max.max(count);
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) })
}

fn forbid_io_uring() -> io::Result<()> {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [
        // The system call's number is the first word of what a filter sees.
        statement(load, 0),
        libc::sock_filter { code: jump_equal, jt: 0, jf: 1, k: libc::SYS_io_uring_setup as u32 },
        statement(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(answer, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: prctl reads the program, which outlives both calls.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program))
    }
}

/// A filesystem in memory, mounted until dropped.
pub struct SmallDisk {
    at: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a tmpfs of `kib` KiB.
    ///
    /// # Panics
    /// When it cannot be mounted: that needs root.
    pub fn mount(kib: u64) -> SmallDisk {
        let at = tempfile::tempdir().expect("a temporary folder to mount on");
        let size = format!("size={kib}k");
        run_mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], at.path());
        SmallDisk { at }
    }

    /// Mounts a ramfs: the one filesystem of every kernel that refuses O_DIRECT, at open and later.
    ///
    /// # Panics
    /// When it cannot be mounted: that needs root.
    pub fn without_direct_io() -> SmallDisk {
        let at = tempfile::tempdir().expect("a temporary folder to mount on");
        run_mount(&["-t", "ramfs", "ramfs"], at.path());
        SmallDisk { at }
    }

    /// Changes a tmpfs's size.
    pub fn resize(&self, kib: u64) {
        let options = format!("remount,size={kib}k");
        run_mount(&["-o", &options], self.at.path());
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.at.path()
    }
}

fn run_mount(arguments: &[&str], at: &Path) {
    let done = Command::new("mount").args(arguments).arg(at).status().expect("mount is installed");
    assert!(done.success(), "mount {arguments:?} failed: these tests run as root");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(self.at.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.at.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(script: &str, confinement: Confinement) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        confine(&mut command, confinement);
        String::from_utf8(command.output().expect("sh starts").stdout).expect("text")
    }

    #[test]
    fn the_child_has_less_and_this_process_keeps_what_it_had() {
        let confinement =
            Confinement { memlock: Some(65536), open_files: Some(77), ..Confinement::default() };
        assert_eq!(output("ulimit -l; ulimit -n", confinement), "64\n77\n");
        assert_ne!(output("ulimit -n", Confinement::default()), "77\n");
    }

    #[test]
    fn a_filter_is_in_force_where_io_uring_is_forbidden() {
        let confinement = Confinement { without_io_uring: true, ..Confinement::default() };
        assert_eq!(output("grep Seccomp: /proc/self/status", confinement), "Seccomp:\t2\n");
    }
}
