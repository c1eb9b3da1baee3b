//! ZooKeeper's own shell, zkCli.sh: a session through all of its commands prints on Ringkeeper
//! what it prints on Apache ZooKeeper (`tests/clients/zookeeper`), which runs beside it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use harness::server::{Server, Setup};

/// At `PAUSE` and before the end the shell gets no commands for so long: it prints the events.
const EVENTS_PATIENCE: Duration = Duration::from_secs(1);

/// Longest until it has started.
const START_PATIENCE: Duration = Duration::from_secs(60);

fn in_repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// Ringkeeper and ZooKeeper, both fresh.
fn servers(folder: &Path) -> [Server; 2] {
    let programs =
        [env!("CARGO_BIN_EXE_ringkeeper").to_owned(), in_repository("tests/clients/zookeeper")];
    // With RINGKEEPER_TEST_SERVER set to ZooKeeper both are one: that shows that the masks suffice.
    let setups = programs.map(|program| {
        let name = Path::new(&program).file_name().expect("a file").to_owned();
        let setup = Setup::new(&program, &folder.join(&name), folder);
        setup.with("tickTime=1000").with("extendedTypesEnabled=true")
    });
    setups.map(|setup| setup.start())
}

fn shell(server: &Server, arguments: &[&str], commands: &str) -> Output {
    let address = server.address.to_string();
    let mut shell = Command::new("/usr/share/zookeeper/bin/zkCli.sh")
        .args(["-server", &address])
        .args(arguments)
        .env("JVMFLAGS", "-Xmx256m")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("zkCli.sh can be started: ./test installs what the tests need");
    let mut input = shell.stdin.take().expect("it is piped");
    let mut printed = shell.stdout.take().expect("it is piped");
    let (printing, prints) = channel();
    let reader = std::thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        loop {
            let length = printed.read(&mut some).expect("it can be read");
            if length == 0 {
                return all;
            }
            all.extend_from_slice(&some[..length]);
            // Nobody waits for it after the first pause.
            let _ = printing.send(());
        }
    });
    for part in commands.split_inclusive("PAUSE\n") {
        let part = part.replace("PAUSE\n", "").replace("SERVER", &address);
        input.write_all(part.as_bytes()).expect("it reads");
        prints.recv_timeout(START_PATIENCE).expect("it starts");
        std::thread::sleep(EVENTS_PATIENCE);
    }
    if !commands.is_empty() {
        input.write_all(b"quit\n").expect("it reads");
    }
    drop(input);
    let mut output = shell.wait_with_output().expect("it ends");
    output.stdout = reader.join().expect("the reader does not panic");
    output
}

/// What a run printed, without what must differ: addresses, times, the order in a set. Events come
/// from a thread of their own at any time: they stand apart, in their order.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    replies: Vec<String>,
    events: Vec<String>,
    errors: Vec<String>,
    code: Option<i32>,
}

fn transcript(server: &Server, output: &Output) -> Transcript {
    let address = server.address.to_string();
    let mask = |line: &str| -> String {
        match line.split_once(" = ") {
            Some((key @ ("ctime" | "mtime"), _)) => format!("{key} = ..."),
            _ => sorted(&line.replace(&address, "SERVER")),
        }
    };
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(mask).collect()
    };
    let (mut replies, mut events) = (Vec::new(), Vec::new());
    for line in lines(&output.stdout) {
        match () {
            () if line.starts_with("WatchedEvent ") => events.push(line),
            () if line.is_empty() || line == "WATCHER::" => {}
            () => replies.push(line),
        }
    }
    let mut errors = lines(&output.stderr);
    errors.retain(|line| !line.starts_with("SLF4J"));
    Transcript { replies, events, errors, code: output.status.code() }
}

/// `[b, a]` as `[a, b]`: the order of a set means nothing.
fn sorted(line: &str) -> String {
    match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(members) => format!("{:?}", members.split(", ").collect::<BTreeSet<_>>()),
        None => line.to_owned(),
    }
}

fn same(ours: &[String], theirs: &[String], what: &str) {
    for (number, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let before = number.saturating_sub(8)..number;
        assert_eq!(our, their, "{what} {number}, after {:#?}", &theirs[before]);
    }
    let both = ours.len().min(theirs.len());
    assert_eq!(ours[both..], theirs[both..], "{what}s at the end");
}

fn compare(servers: &[Server; 2], arguments: &[&str], commands: &str) -> Transcript {
    let [ours, theirs] =
        servers.each_ref().map(|server| transcript(server, &shell(server, arguments, commands)));
    assert_eq!(ours.code, theirs.code, "{ours:#?}\n{theirs:#?}");
    same(&ours.errors, &theirs.errors, "error");
    same(&ours.replies, &theirs.replies, "line");
    same(&ours.events, &theirs.events, "event");
    theirs
}

#[test]
fn a_session_through_all_commands_prints_what_it_prints_on_zookeeper() {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(folder.path());
    let commands =
        std::fs::read_to_string(in_repository("tests/clients/zkcli/commands.txt")).unwrap();
    let printed = compare(&servers, &[], &commands);
    let counts = [printed.replies.len(), printed.errors.len(), printed.events.len()];
    assert!(counts[0] > 150 && counts[1] > 150 && counts[2] > 10, "{counts:?}");

    // Commands as arguments.
    assert_eq!(compare(&servers, &["get", "/"], "").code, Some(0));
    compare(&servers, &["create", "/one/shot"], "");
    compare(&servers, &["ls", "-R", "/"], "");
    // Authentication that fails costs the connection, and all that follows.
    compare(&servers, &[], "addauth nosuch scheme\nPAUSE\nget /\nls /\n");
}
