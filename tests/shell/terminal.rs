//! The shell on a terminal: completion, colours, events around the line being edited, history.

use std::fs;

use super::setup;
use super::talk::{Talk, one_shot};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";

#[test]
fn commands_options_and_paths_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    one_shot(server.address, &["create", "/application"]);
    one_shot(server.address, &["create", "/application/some name", "found"]);
    let mut talk = Talk::on_terminal(server.address, &folder.path().join("history"));
    talk.expect("CONNECTED) 0] ");
    talk.type_in("getAc\t");
    talk.expect("getAcl ");
    talk.type_in("/app\t\r");
    talk.expect("getAcl /application");
    talk.expect("'world,'anyone");
    talk.expect("CONNECTED) 1] ");
    talk.type_in("get /application/so\t\r");
    talk.expect("\"/application/some name\"");
    talk.expect("found\r\n");
    talk.expect("CONNECTED) 2] ");
    // Several that begin alike are listed.
    talk.type_in("del\t\t");
    talk.expect("delete");
    talk.expect("deleteall");
    talk.expect("delquota");
    talk.expect("\x1b[0mdel");
    talk.type_in("\x03");
    // The line is dropped; the terminal is ready for the next when it says so.
    talk.expect("\x1b[?2004h");
    talk.expect("CONNECTED) 2] ");
    talk.type_in("\x04");
    assert!(talk.end().0.success());
}

#[test]
fn prompts_errors_and_events_have_colours() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let mut talk = Talk::on_terminal(server.address, &folder.path().join("history"));
    talk.expect(&format!("{GREEN}[zk: {}(CONNECTED) 0] ", server.address));
    talk.type_in("get /nothing\r");
    talk.expect(&format!("{RED}Node does not exist: /nothing"));
    talk.type_in("quit\r");
    assert!(talk.end().0.success());
}

#[test]
fn an_event_is_printed_around_the_line_being_edited() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let mut talk = Talk::on_terminal(server.address, &folder.path().join("history"));
    talk.expect("CONNECTED) 0] ");
    talk.type_in("stat -w /late\r");
    talk.expect("CONNECTED) 1] ");
    talk.type_in("ge");
    talk.expect("ge");
    one_shot(server.address, &["create", "/late", "here"]);
    talk.expect("WATCHER::");
    talk.expect("type:NodeCreated path:/late");
    talk.expect("CONNECTED) 1] ");
    // What was typed is still there.
    talk.type_in("t /late\r");
    talk.expect("here\r\n");
}

#[test]
fn the_history_outlives_the_shell_but_passwords_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history");
    let server = setup(folder.path()).start();
    let mut talk = Talk::on_terminal(server.address, &history);
    talk.expect("CONNECTED) 0] ");
    talk.type_in("addauth digest me:secret\r");
    talk.expect("CONNECTED) 1] ");
    talk.type_in("create /kept\r");
    talk.expect("Created /kept");
    talk.expect("CONNECTED) 2] ");
    talk.type_in("\x04");
    assert!(talk.end().0.success());
    let kept = fs::read_to_string(&history).unwrap();
    assert!(kept.contains("create /kept") && !kept.contains("secret"), "{kept}");

    let mut talk = Talk::on_terminal(server.address, &history);
    talk.expect("CONNECTED) 0] ");
    // The last line comes back by the key that goes up.
    talk.type_in("\x1b[A\r");
    talk.expect("Node already exists: /kept");
}

#[test]
fn data_cannot_take_over_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    one_shot(server.address, &["create", "/a", "x\x1b[2Jy"]);
    let mut talk = Talk::on_terminal(server.address, &folder.path().join("history"));
    talk.expect("CONNECTED) 0] ");
    talk.type_in("get /a\r");
    talk.expect("x\\u{1b}[2Jy");
}
