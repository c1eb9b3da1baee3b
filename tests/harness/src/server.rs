//! One server process under test: its configuration, its start, its end, and what it said.
//!
//! RINGKEEPER_TEST_SERVER in the environment names another program to start instead, called as
//! `PROGRAM server ZOO.CFG`; `tests/clients/zookeeper` runs Apache ZooKeeper that way.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::client::four_letter_word;
use crate::confine::{Confinement, confine};

/// Longest that a server may take until it serves, and until it ends when told to.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest wait for one answer to the question whether it serves: a connection made while the
/// server starts may never get one.
const READY_PATIENCE: Duration = Duration::from_millis(500);

/// A free port of the loopback address, below those that the kernel gives to clients: while a
/// server is down between two starts nobody else may get its port, and a client that dials it must
/// not end up connected to itself.
///
/// # Panics
/// When none is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = 20_000;
    let start = (std::process::id() as u16).wrapping_mul(97) % span;
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = 10_000 + (start + step) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port from 10000 to 29999 is free");
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Setup {
    program: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The client port, on the loopback address.
    pub port: u16,
    /// Further lines of the configuration, `key=value`.
    pub lines: Vec<String>,
    /// What it logs, as `RUST_LOG` says it; none: the default.
    pub log: Option<String>,
    /// What the process is denied.
    pub confinement: Confinement,
    /// Where the configuration and the output go.
    folder: PathBuf,
}

impl Setup {
    /// A server of `program` with its data in `data`, its configuration and output in `folder`
    /// (which outlive it), on a free port, with every four-letter word allowed and short ticks.
    pub fn new(program: &str, data: &Path, folder: &Path) -> Setup {
        let program = std::env::var_os("RINGKEEPER_TEST_SERVER")
            .map_or_else(|| program.into(), PathBuf::from);
        Setup::of_program(program, data, folder)
    }

    /// As [`Setup::new`], but with this program whatever the environment says.
    pub fn of_program(program: PathBuf, data: &Path, folder: &Path) -> Setup {
        let lines = ["4lw.commands.whitelist=*", "maxClientCnxns=0"];
        Setup {
            program,
            data: data.to_owned(),
            port: free_port(),
            lines: lines.map(str::to_owned).to_vec(),
            log: None,
            confinement: Confinement::default(),
            folder: folder.to_owned(),
        }
    }

    /// With one more line in the configuration.
    pub fn with(mut self, line: &str) -> Setup {
        self.lines.push(line.to_owned());
        self
    }

    /// With this in `RUST_LOG`.
    pub fn logging(mut self, filter: &str) -> Setup {
        self.log = Some(filter.to_owned());
        self
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Starts the process without waiting for it to serve.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn launch(&self) -> Server {
        let config = self.folder.join(format!("zoo-{}.cfg", self.port));
        let mut text = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            self.data.display(),
            self.port
        );
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&config, text).expect("the configuration can be written");
        let output = self.folder.join(format!("stderr-{}.log", self.port));
        let stderr = File::create(&output).expect("a file for the server's output");
        let mut command = Command::new(&self.program);
        command.arg("server").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(stderr).env_remove("RUST_LOG").current_dir(&self.folder);
        if let Some(filter) = &self.log {
            command.env("RUST_LOG", filter);
        }
        confine(&mut command, self.confinement);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        Server { child, address: self.address(), output }
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Panics
    /// When it does not serve in time; the message holds what it said.
    pub fn start(&self) -> Server {
        let mut server = self.launch();
        match server.wait_until_serving() {
            Ok(()) => server,
            Err(reason) => panic!("{reason}"),
        }
    }
}

/// A server process. Dropped, it is killed.
pub struct Server {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    output: PathBuf,
}

impl Server {
    /// Waits until it answers. The error tells what it said instead.
    pub fn wait_until_serving(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return Err(format!("the server ended with {status}:\n{}", self.output()));
            }
            // ZooKeeper answers srvr with a refusal, and ruok with imok, before it serves.
            let answer = four_letter_word(self.address, "srvr", READY_PATIENCE);
            if answer.is_ok_and(|text| text.contains("Mode: ")) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("no service after {PATIENCE:?}:\n{}", self.output()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote to stderr so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the server is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.and_then(|number| number.parse().ok()).expect("VmRSS is in its status")
    }

    /// SIGKILL, and waits for its end, unless `before_waiting` has something to do in between.
    pub fn kill_and(mut self, before_waiting: impl FnOnce()) {
        self.child.kill().expect("the server can be killed");
        before_waiting();
        self.child.wait().expect("the child can be waited for");
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(self) {
        self.kill_and(|| {});
    }

    /// SIGTERM, and waits for its end. Returns how it ended and what it said.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.end_by(libc::SIGTERM)
    }

    /// SIGINT, and waits for its end, as [`Server::terminate`] does.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn interrupt(self) -> (ExitStatus, String) {
        self.end_by(libc::SIGINT)
    }

    fn end_by(mut self, signal: libc::c_int) -> (ExitStatus, String) {
        let pid = i32::try_from(self.pid()).expect("a pid is positive");
        // SAFETY: a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{}", io::Error::last_os_error());
        self.wait_for_end(PATIENCE)
    }

    /// Waits until it ends by itself. Returns how it ended and what it said.
    ///
    /// # Panics
    /// When it does not end within `patience`.
    pub fn wait_for_end(&mut self, patience: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return (status, self.output());
            }
            let late = Instant::now() > deadline;
            assert!(!late, "still running after {patience:?}:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killing what has ended is an error without consequence.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
