//! A server that cannot start says why in one line, ends with an exit code that is not 0, and has
//! touched nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::client::{Client, four_letter_word};
use harness::confine::Confinement;
use harness::server::Setup;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Longest that a refusal may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every file below `folder` with its contents; folders as `None`.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.insert(path, None);
        } else if path.exists() {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// The data folder of a server that served once and was stopped.
fn used_data(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let server = Setup::new(SERVER, &data, folder).with("ringkeeper.segmentSizeKb=1024").start();
    let mut client = Client::connect(server.address, 5_000).unwrap();
    client.create("/kept", b"data", 0).unwrap();
    let (status, said) = server.terminate();
    assert!(status.success(), "{status}:\n{said}");
    data
}

/// Starts it, which must fail with one line that holds all of `complaint`, and touch nothing.
fn refuses(setup: &Setup, complaint: &[&str]) {
    let before = contents(&setup.data);
    let (status, said) = setup.launch().wait_for_end(PATIENCE);
    assert!(status.code().is_some_and(|code| code != 0), "it ended with {status}:\n{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(complaint[0])).collect();
    assert_eq!(lines.len(), 1, "one line says {:?}:\n{said}", complaint[0]);
    for words in complaint {
        assert!(lines[0].contains(words), "it says {words:?}:\n{said}");
    }
    assert!(!said.contains("panicked"), "a refusal is no panic:\n{said}");
    let after = contents(&setup.data);
    let names = |found: &BTreeMap<PathBuf, _>| found.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "the same files");
    assert!(after == before, "the same bytes");
}

#[test]
fn io_uring_forbidden() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_data(folder.path());
    let mut setup = Setup::new(SERVER, &data, folder.path());
    setup.confinement = Confinement { without_io_uring: true, ..Confinement::default() };
    refuses(&setup, &["io_uring", "kernel.io_uring_disabled", "seccomp"]);
    let mut fresh = Setup::new(SERVER, &folder.path().join("fresh"), folder.path());
    fresh.confinement = setup.confinement;
    refuses(&fresh, &["io_uring"]);
}

#[test]
fn too_little_memory_may_be_locked() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_data(folder.path());
    let mut setup = Setup::new(SERVER, &data, folder.path());
    setup.confinement = Confinement { memlock: Some(16 << 10), ..Confinement::default() };
    refuses(&setup, &["memlock"]);
}

#[test]
fn the_port_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_data(folder.path());
    let setup = Setup::new(SERVER, &data, folder.path());
    let taken = TcpListener::bind(setup.address()).unwrap();
    refuses(&setup, &[&setup.port.to_string(), "in use"]);
    drop(taken);
    drop(setup.start());
}

#[test]
fn the_data_is_locked_by_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_data(folder.path());
    let first = Setup::new(SERVER, &data, folder.path()).start();
    let second = Setup::new(SERVER, &data, folder.path());
    let (status, said) = second.launch().wait_for_end(PATIENCE);
    assert!(status.code().is_some_and(|code| code != 0), "{status}:\n{said}");
    assert_eq!(said.lines().filter(|line| line.contains("locked")).count(), 1, "{said}");
    let mut client = Client::connect(first.address, 5_000).unwrap();
    assert_eq!(client.get("/kept").unwrap().unwrap().0, b"data", "the first serves on");
    client.create("/still", b"", 0).unwrap();
}

#[test]
fn a_file_is_in_the_place_of_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::write(&data, b"not a folder").unwrap();
    refuses(&Setup::new(SERVER, &data, folder.path()), &[data.to_str().unwrap()]);
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("ringkeeper"), b"not a folder either").unwrap();
    refuses(&Setup::new(SERVER, &data, folder.path()), &[data.to_str().unwrap()]);
}

#[test]
fn the_data_is_of_a_newer_format() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_data(folder.path());
    let marker = data.join("ringkeeper/format");
    let text = fs::read_to_string(&marker).unwrap();
    let newer = text.replace("format 1", "format 2");
    assert_ne!(newer, text, "the marker names format 1: {text:?}");
    fs::write(&marker, newer).unwrap();
    refuses(&Setup::new(SERVER, &data, folder.path()), &["format 2", "newer"]);
}

#[test]
fn a_configuration_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let setup = Setup::new(SERVER, &data, folder.path()).with("tickTime=soon");
    refuses(&setup, &["tickTime", "soon", ".cfg:"]);
    assert!(!data.exists());
}

#[test]
fn sigterm_and_sigint_end_it_with_exit_code_0_and_what_was_written_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_data(folder.path());
    let setup = Setup::new(SERVER, &data, folder.path());
    let server = setup.start();
    assert_eq!(four_letter_word(server.address, "ruok", PATIENCE).unwrap(), "imok");
    let mut client = Client::connect(server.address, 5_000).unwrap();
    client.create("/second", b"more", 0).unwrap();
    let (status, said) = server.interrupt();
    assert_eq!(status.code(), Some(0), "{said}");
    let server = setup.start();
    let mut client = Client::connect(server.address, 5_000).unwrap();
    assert_eq!(client.get("/kept").unwrap().unwrap().0, b"data");
    assert_eq!(client.get("/second").unwrap().unwrap().0, b"more");
}
