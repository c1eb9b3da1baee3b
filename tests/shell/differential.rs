//! The same lines through `zkCli.sh` and through `ringkeeper shell`, each on a fresh server: what
//! they print is the same, but for what is listed in docs/shell.md.
//!
//! `zkCli.sh` comes with Debian's package zookeeper, which `./test` installs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::setup;
use super::talk::shell;

const ZKCLI: &str = "/usr/share/zookeeper/bin/zkCli.sh";

/// What was printed, apart: events come from a thread of their own in `zkCli.sh`, so that they
/// have an order among themselves, but none with the results around them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Printed {
    lines: Vec<String>,
    events: Vec<String>,
}

/// Takes apart what was printed, without what differs from run to run or on purpose. Empty lines
/// stand around events, so they say nothing here.
fn printed(text: &str) -> Printed {
    let mut printed = Printed::default();
    for line in text.lines().filter(|line| !line.is_empty() && *line != "WATCHER::") {
        if line.starts_with("WatchedEvent ") {
            printed.events.extend(event(line));
        } else {
            printed.lines.extend(plain(line));
        }
    }
    printed
}

fn event(line: &str) -> Option<String> {
    // 3.9 has the zxid, 3.8 not yet.
    let text = line.split_once(" zxid: ").map_or(line, |(text, _)| text);
    // That a connection was made or closed as asked is nothing to tell.
    let of_session = ["SyncConnected", "Closed"].map(|state| format!("state:{state} type:None "));
    (!of_session.iter().any(|part| text.contains(part))).then(|| text.to_owned())
}

fn plain(line: &str) -> Option<String> {
    let dropped = [
        // Java's logging, the greeting, and the list of commands behind an unknown one.
        "SLF4J: ",
        "Connecting to ",
        "Welcome to ",
        "JLine support ",
        "ZooKeeper -server host",
        "\t",
        // A second line for one error.
        "KeeperErrorCode = InvalidACL for ",
    ];
    if dropped.iter().any(|start| line.starts_with(start)) {
        return None;
    }
    if let Some((name @ ("ctime" | "mtime"), _)) = line.split_once(" = ") {
        return Some(name.to_owned());
    }
    if line.starts_with("ephemeralOwner = 0x") && !line.ends_with("0x0") {
        return Some("ephemeralOwner of a session".to_owned());
    }
    if let Some((class, message)) = line.split_once(": ")
        && class.starts_with("org.apache.commons.cli.")
    {
        return Some(message.to_owned());
    }
    Some(line.replace("Command not found: Command not found ", "Command not found: "))
}

/// What `run` prints, given a fresh server and the lines as its input.
fn answers(lines: &Path, run: impl Fn(SocketAddr) -> Command) -> Printed {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let output = folder.path().join("output");
    let both = File::create(&output).unwrap();
    let status = run(server.address)
        .env("TZ", "UTC")
        .stdin(File::open(lines).unwrap())
        .stdout(both.try_clone().unwrap())
        .stderr(both)
        .status();
    status.unwrap_or_else(|error| panic!("cannot run it: {error}"));
    printed(&fs::read_to_string(&output).unwrap())
}

fn compare(name: &str) {
    assert!(Path::new(ZKCLI).exists(), "{ZKCLI} is missing: ./test installs it");
    let lines = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell").join(name);
    let theirs = answers(&lines, |server| {
        let mut command = Command::new(ZKCLI);
        command.args(["-server", &server.to_string()]).env("JVMFLAGS", "-Xmx128m");
        command
    });
    let ours = answers(&lines, shell);
    assert!(theirs.lines.len() > 10, "zkCli.sh printed hardly anything: {theirs:?}");
    for (place, (theirs, ours)) in theirs.lines.iter().zip(&ours.lines).enumerate() {
        assert_eq!(ours, theirs, "line {place} (left ours, right zkCli.sh's)");
    }
    assert_eq!(ours.lines.len(), theirs.lines.len(), "{ours:#?}\n{theirs:#?}");
    assert_eq!(ours.events, theirs.events, "events (left ours, right zkCli.sh's)");
}

#[test]
fn znodes_of_every_kind_are_read_and_written_as_in_zkcli() {
    compare("znodes.txt");
}

#[test]
fn watches_are_told_as_in_zkcli() {
    compare("watches.txt");
}

#[test]
fn acls_and_identities_are_as_in_zkcli() {
    compare("access.txt");
}

#[test]
fn quotas_are_as_in_zkcli() {
    compare("quotas.txt");
}

#[test]
fn the_conversation_is_as_in_zkcli() {
    compare("conversation.txt");
}

#[test]
fn a_difference_would_be_seen() {
    let base =
        "Created /a\n\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeCreated path:/a\n";
    assert_eq!(printed(base), printed(&base.replace("path:/a", "path:/a zxid: 5")));
    assert_ne!(printed(base), printed(&base.replace("NodeCreated", "NodeDeleted")));
    assert_ne!(printed(base), printed(&base.replace("Created /a", "Created /b")));
    assert_eq!(printed("ctime = now"), printed("ctime = then"));
    assert_ne!(printed("cversion = 1"), printed("cversion = 2"));
}
