//! One command from the command line: results alone on standard output, and an exit code that
//! tells what went wrong.

use std::net::SocketAddr;
use std::process::Stdio;

use harness::server::free_port;

use super::setup;
use super::talk::{one_shot, shell};

#[test]
fn results_go_to_standard_output_and_errors_to_standard_error_with_their_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let run = |words: &[&str]| one_shot(server.address, words);
    let done = |text: &str| (text.to_owned(), String::new(), 0);
    let failed = |text: &str, code| (String::new(), format!("{text}\n"), code);

    assert_eq!(run(&["create", "/a", "one word"]), done("Created /a\n"));
    assert_eq!(run(&["get", "/a"]), done("one word\n"));
    assert_eq!(run(&["get", "-b", "/a"]), done("b25lIHdvcmQ=\n"));
    assert_eq!(run(&["set", "-b", "/a", "AP8="]), done(""));
    assert_eq!(run(&["ls", "/"]), done("[a, zookeeper]\n"));
    assert_eq!(run(&["get", "/b"]), failed("Node does not exist: /b", 1));
    assert_eq!(run(&["create", "/a"]), failed("Node already exists: /a", 1));
    assert_eq!(run(&["get", "b"]), failed("Path must start with / character", 1));
    assert_eq!(run(&["get"]), failed("get [-s] [-w] [-b] [-x] path", 2));
    assert_eq!(run(&["get", "-q", "/a"]), failed("Unrecognized option: -q", 2));
    assert_eq!(run(&["got", "/a"]), failed("Command not found: got", 127));
    assert_eq!(run(&["-verbose", "ls", "/"]).2, 2);
    assert_eq!(run(&["-help"]).2, 0);
    assert_eq!(run(&["quit"]), done(""));
}

#[test]
fn data_that_is_no_text_comes_out_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    one_shot(server.address, &["create", "/a"]);
    one_shot(server.address, &["set", "-b", "/a", "AP8b"]);
    let output = shell(server.address).args(["get", "/a"]).output().unwrap();
    assert_eq!(output.stdout, b"\0\xff\x1b\n");
}

#[test]
fn without_a_server_it_says_why_and_ends_at_once() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (out, err, code) = one_shot(nobody, &["ls", "/"]);
    assert_eq!((out.as_str(), code), ("", 3));
    assert!(err.starts_with("KeeperErrorCode = ConnectionLoss for /\n"), "{err}");
    assert!(err.contains("Connection refused"), "{err}");
    let (_, err, code) = one_shot(nobody, &["-timeout", "300", "--waitforconnection", "ls", "/"]);
    assert_eq!(code, 3);
    assert!(err.starts_with("KeeperErrorCode = ConnectionLoss ("), "{err}");
}

#[test]
fn a_dead_server_of_the_list_is_passed_over_and_a_chroot_stands_before_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    one_shot(server.address, &["create", "/app"]);
    let list = format!("127.0.0.1:{},{}/app", free_port(), server.address);
    for number in 0..4 {
        let path = format!("/n{number}");
        let (out, err, code) = one_shot(server.address, &["-server", &list, "create", &path]);
        assert_eq!((out, code), (format!("Created {path}\n"), 0), "{err}");
    }
    let (out, ..) = one_shot(server.address, &["ls", "-R", "/app"]);
    assert_eq!(out, "/app\n/app/n0\n/app/n1\n/app/n2\n/app/n3\n");
    let (out, ..) = one_shot(server.address, &["-server", &list, "ls", "-R", "/"]);
    assert_eq!(out, "/\n/n0\n/n1\n/n2\n/n3\n");
}

#[test]
fn the_exit_code_of_a_pipe_is_that_of_its_last_command() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let code = |lines: &str| {
        let file = folder.path().join("lines");
        std::fs::write(&file, lines).unwrap();
        let mut command = shell(server.address);
        command.stdin(std::fs::File::open(&file).unwrap()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(code("ls /nothing\nls /\n"), Some(0));
    assert_eq!(
        code("ls /\nls /nothing\n\n"),
        Some(0),
        "a blank line is a command that did nothing"
    );
    assert_eq!(code("ls /\nls /nothing\n"), Some(1));
    assert_eq!(code("ls /nothing\nquit\nls /\n"), Some(0));
    assert_eq!(code("close\nls /"), Some(3));
}
