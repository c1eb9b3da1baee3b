//! Members of one ensemble on this machine, and clients that wait for them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::{Answer, Client, Op, Session, four_letter_word};
use harness::server::{Server, Setup, free_port};
use harness::wire::code;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::tree::{Tree, differences, read_all};

/// Longest wait for what only takes time: a JVM may start, an ensemble may elect more than once.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Session timeout, milliseconds: longer than the machine may be busy elsewhere.
const SESSION_MS: i32 = 40_000;

/// Bytes of a member's output that a failed test shows.
const SHOWN: usize = 6_000;

/// Whose program a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ringkeeper,
    ZooKeeper,
}

struct Member {
    number: usize,
    setup: Setup,
    server: Option<Server>,
}

/// Members, numbered from 1 as in their configuration. Dropped, all are killed.
pub struct Ensemble {
    members: Vec<Member>,
    // Behind the members, which write there until they are dropped.
    _folder: TempDir,
}

impl Ensemble {
    /// Voters of these kinds, none of them started.
    pub fn new(kinds: &[Kind]) -> Ensemble {
        Ensemble::with_observers(kinds, 0)
    }

    /// As [`Ensemble::new`]; the last `observers` of them do not vote.
    pub fn with_observers(kinds: &[Kind], observers: usize) -> Ensemble {
        let folder = tempfile::tempdir().expect("a folder for the ensemble");
        let voters = kinds.len() - observers;
        let role = |number: usize| if number > voters { ":observer" } else { "" };
        let everyone: Vec<String> = (1..=kinds.len())
            .map(|number| {
                let (quorum, election) = (free_port(), free_port());
                format!("server.{number}=127.0.0.1:{quorum}:{election}{}", role(number))
            })
            .collect();
        let member = |(at, kind): (usize, &Kind)| {
            let number = at + 1;
            let mut setup = configuration(number, *kind, folder.path());
            for line in &everyone {
                setup = setup.with(line);
            }
            if number > voters {
                setup = setup.with("peerType=observer");
            }
            Member { number, setup, server: None }
        };
        let members = kinds.iter().enumerate().map(member).collect();
        Ensemble { members, _folder: folder }
    }

    /// As [`Ensemble::new`], with all started and serving.
    pub fn started(kinds: &[Kind]) -> Ensemble {
        let mut ensemble = Ensemble::new(kinds);
        let all = ensemble.numbers();
        all.iter().for_each(|&number| ensemble.launch(number));
        all.iter().for_each(|&number| ensemble.wait_for(number));
        ensemble
    }

    /// All of them.
    pub fn numbers(&self) -> Vec<usize> {
        (1..=self.members.len()).collect()
    }

    /// Where clients connect, member by member.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.setup.address()).collect()
    }

    fn member(&mut self, number: usize) -> &mut Member {
        &mut self.members[number - 1]
    }

    /// Starts a member without waiting for it.
    pub fn launch(&mut self, number: usize) {
        let member = self.member(number);
        assert!(member.server.is_none(), "member {number} runs");
        member.server = Some(member.setup.launch());
    }

    /// Waits until a member serves clients.
    pub fn wait_for(&mut self, number: usize) {
        let server = self.member(number).server.as_mut().expect("the member was started");
        if let Err(reason) = server.wait_until_serving() {
            panic!("member {number}: {reason}");
        }
    }

    /// Starts a member and waits until it serves clients.
    pub fn start(&mut self, number: usize) {
        self.launch(number);
        self.wait_for(number);
    }

    /// SIGKILL.
    pub fn kill(&mut self, number: usize) {
        self.member(number).server.take().expect("the member runs").kill();
    }

    /// SIGSTOP: it does nothing any more, and nobody is told so. Only [`Ensemble::kill`] ends that.
    pub fn stop(&mut self, number: usize) {
        let server = self.member(number).server.as_ref().expect("the member runs");
        let pid = i32::try_from(server.pid()).expect("a pid is positive");
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("the member can be stopped");
        // Its threads go on until the one that takes the signal has had its turn.
        let deadline = Instant::now() + PATIENCE;
        while !is_stopped(pid) {
            assert!(Instant::now() < deadline, "member {number} does not stop");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the files of a member have this text in them.
    pub fn wait_until_logged(&self, number: usize, text: &str) {
        let data = &self.members[number - 1].setup.data;
        let deadline = Instant::now() + PATIENCE;
        while !files_below(data).iter().any(|file| {
            let bytes = fs::read(file).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }) {
            assert!(Instant::now() < deadline, "{text} does not come to the log");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether a member has a snapshot of more than the empty tree.
    pub fn has_snapshot(&self, number: usize) -> bool {
        let files = files_below(&self.members[number - 1].setup.data);
        let mut names = files.iter().filter_map(|file| file.file_name()?.to_str());
        names.any(|name| name.starts_with("snapshot") && name != "snapshot.0")
    }

    /// Takes all that a killed member knew, except its number.
    pub fn forget(&mut self, number: usize) {
        let member = self.member(number);
        assert!(member.server.is_none(), "member {number} runs");
        fs::remove_dir_all(&member.setup.data).expect("the data folder can be removed");
        make_data(&member.setup.data, number);
    }

    fn mode(&self, number: usize) -> Option<String> {
        let member = &self.members[number - 1];
        member.server.as_ref()?;
        let patience = Duration::from_secs(2);
        let text = four_letter_word(member.setup.address(), "srvr", patience).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// The member that leads, once one does.
    pub fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leads = |number: &usize| self.mode(*number).as_deref() == Some("leader");
            if let Some(number) = self.numbers().into_iter().find(leads) {
                return number;
            }
            assert!(Instant::now() < deadline, "nobody leads");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes one of three members the leader, which the two others are killed for and come back
    /// from: what is written without one of them makes it the one with more history.
    pub fn make_leader(&mut self, chosen: usize, mark: &str) {
        assert_eq!(self.members.len(), 3, "the way to it needs three");
        let others: Vec<usize> = self.numbers().into_iter().filter(|&n| n != chosen).collect();
        let (behind, beside) = (others[0], others[1]);
        self.kill(behind);
        self.create(chosen, mark, b"");
        self.kill(beside);
        self.start(behind);
        self.wait_for(chosen);
        assert_eq!(self.leader(), chosen);
        self.start(beside);
    }

    /// A new session at this member, once that takes one.
    pub fn client(&self, number: usize) -> Client {
        self.session_at(number, None)
    }

    /// The session of `client`, at this member.
    pub fn moved(&self, client: Client, number: usize) -> Client {
        let (session, last_zxid) = (client.session.clone(), client.last_zxid);
        drop(client);
        self.session_at(number, Some((session, last_zxid)))
    }

    fn session_at(&self, number: usize, session: Option<(Session, i64)>) -> Client {
        let address = self.members[number - 1].setup.address();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let made = match &session {
                Some((session, last_zxid)) => Client::resume(address, session, *last_zxid),
                None => Client::connect(address, SESSION_MS),
            };
            match made {
                Ok(client) => return client,
                Err(error) => {
                    let expired = error.kind() == io::ErrorKind::NotFound;
                    assert!(!expired, "the session has expired at member {number}");
                    assert!(Instant::now() < deadline, "member {number} takes no one: {error}");
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Creates a node through this member, over new connections as long as that takes.
    pub fn create(&self, number: usize, path: &str, data: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        let create = Op::Create { path: path.to_owned(), data: data.to_vec(), flags: 0 };
        loop {
            let mut client = self.client(number);
            match client.call(&create).map(|reply| reply.answer) {
                // The latter is the answer when a try before was cut off behind its commit.
                Ok(Answer::Path(_) | Answer::Refused(code::NODE_EXISTS)) => return,
                Ok(other) => panic!("create of {path} through member {number}: {other:?}"),
                Err(error) => assert!(Instant::now() < deadline, "{path}: {error}"),
            }
        }
    }

    /// All members have the same tree, which is returned.
    pub fn assert_same_trees(&self) -> Tree {
        let tree = |number| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match read_all(&mut self.client(number)) {
                    Ok(tree) => return tree,
                    // An election may cut it off.
                    Err(error) => assert!(Instant::now() < deadline, "member {number}: {error}"),
                }
            }
        };
        let first = tree(1);
        for number in self.numbers().into_iter().skip(1) {
            let differing = differences(&first, &tree(number));
            assert!(differing.is_empty(), "member 1 | member {number}:\n{differing}");
        }
        first
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for member in &self.members {
            let Some(server) = &member.server else { continue };
            let output = server.output();
            let shown = output.len().saturating_sub(SHOWN);
            let from = (shown..=output.len()).find(|at| output.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("--- member {} said at last:\n{}", member.number, &output[from..]);
        }
    }
}

fn configuration(number: usize, kind: Kind, folder: &Path) -> Setup {
    let folder = folder.join(number.to_string());
    let data = folder.join("data");
    fs::create_dir(&folder).expect("a folder for the member");
    make_data(&data, number);
    let setup = match kind {
        Kind::Ringkeeper => {
            Setup::of_program(env!("CARGO_BIN_EXE_ringkeeper").into(), &data, &folder)
        }
        Kind::ZooKeeper => {
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/zookeeper");
            Setup::of_program(program, &data, &folder)
        }
    };
    // Nobody is given up because the machine was busy elsewhere.
    let lines = ["tickTime=1000", "initLimit=60", "syncLimit=20", "maxSessionTimeout=60000"];
    lines.iter().fold(setup, |setup, line| setup.with(line))
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.contains("State:\tT")
    })
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let list = if entry.path().is_dir() { &mut folders } else { &mut files };
            list.push(entry.path());
        }
    }
    files
}

fn make_data(data: &Path, number: usize) {
    fs::create_dir(data).expect("a data folder");
    fs::write(data.join("myid"), number.to_string()).expect("the member's number");
}
