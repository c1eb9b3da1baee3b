//! Real clients run real scenarios: kazoo, and ZooKeeper's own C library. The scenarios stand in
//! `tests/clients/` and pass against Apache ZooKeeper as well (`tests/clients/zookeeper`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::server::Setup;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Longest that a scenario may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs the program against a fresh server and restarts that as it asks.
fn run(program: &Path, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("tickTime=500")
        .with("extendedTypesEnabled=true");
    let mut server = setup.start();
    let hosts = server.address.to_string();
    let mut arguments = arguments.to_vec();
    arguments.insert(usize::from(arguments.len() > 1), &hosts);
    let mut scenario = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let mut answers = scenario.stdin.take().expect("it is piped");
    for line in BufReader::new(scenario.stdout.take().expect("it is piped")).lines() {
        match line.expect("it writes text").as_str() {
            "restart kill" => server.kill(),
            "restart term" => {
                let (status, said) = server.terminate();
                let by_signal = std::env::var_os("RINGKEEPER_TEST_SERVER").is_some();
                assert!(status.success() || by_signal, "SIGTERM ended it with {status}:\n{said}");
            }
            other => panic!("the scenario asks for {other:?}"),
        }
        server = setup.start();
        writeln!(answers, "restarted").expect("the scenario reads");
    }
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match scenario.try_wait().expect("the child can be waited for") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                scenario.kill().expect("the scenario can be killed");
                panic!("the scenario does not end");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(status.success(), "the scenario failed; the server said:\n{}", server.output());
}

fn kazoo(scenario: &str) {
    let python = in_repository("tests/.env/bin/python");
    assert!(python.exists(), "kazoo is not installed: ./test installs what the tests need");
    let script = in_repository("tests/clients/scenarios.py");
    run(&python, &[script.to_str().expect("a path in UTF-8"), scenario]);
}

#[test]
fn kazoo_creates_reads_changes_and_deletes() {
    kazoo("nodes");
}

#[test]
fn kazoo_locks() {
    kazoo("locks");
}

#[test]
fn kazoo_elects() {
    kazoo("election");
}

#[test]
fn kazoo_watches() {
    kazoo("watches");
}

#[test]
fn kazoo_commits_transactions() {
    kazoo("transactions");
}

#[test]
fn kazoo_guards_nodes_with_acls() {
    kazoo("acls");
}

#[test]
fn kazoo_keeps_its_session_and_ephemerals_across_restarts() {
    kazoo("reconnect");
}

#[test]
fn the_c_client_does_all_of_it() {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scenario");
    let compiled = Command::new("cc")
        .args(["-DTHREADED", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(in_repository("tests/clients/scenario.c"))
        .args(["-lzookeeper_mt", "-lpthread"])
        .status()
        .expect("cc is installed: ./test installs what the tests need");
    assert!(compiled.success(), "scenario.c does not compile: ./test installs what it needs");
    run(&program, &[]);
}
