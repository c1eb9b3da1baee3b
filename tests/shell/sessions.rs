//! A session that outlives its connection, and one that does not.

use std::time::Duration;

use super::setup;
use super::talk::{Talk, one_shot};

#[test]
fn watches_authentication_and_ephemerals_outlive_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(folder.path());
    let server = setup.start();
    let mut talk = Talk::piped(server.address, &[]);
    talk.type_in("addauth digest me:secret\ncreate -e /mine x\ncreate /a 1\ncreate /b 1\n");
    talk.type_in("setAcl /b auth::r\nget -w /a\nls -w /a\nstat -w /c\n");
    talk.expect("Node does not exist: /c");

    server.kill();
    talk.expect("WatchedEvent state:Disconnected type:None path:null");
    let server = setup.start();
    talk.expect("WatchedEvent state:SyncConnected type:None path:null");
    for words in [&["set", "/a", "2"][..], &["create", "/a/below"], &["create", "/c"]] {
        let (_, err, code) = one_shot(server.address, words);
        assert_eq!(code, 0, "{words:?}: {err}");
    }
    talk.expect("type:NodeDataChanged path:/a");
    talk.expect("type:NodeChildrenChanged path:/a");
    talk.expect("type:NodeCreated path:/c");
    talk.type_in("get /b\nget /mine\n");
    talk.expect("1\n");
    talk.expect("x\n");

    assert_eq!(one_shot(server.address, &["get", "/mine"]).2, 0);
    let (status, _) = talk.end();
    assert!(status.success());
    assert_eq!(one_shot(server.address, &["get", "/mine"]).2, 1, "its session was closed");
}

#[test]
fn a_watch_that_fired_while_the_connection_was_down_is_told_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(folder.path());
    let server = setup.start();
    one_shot(server.address, &["create", "/a", "1"]);
    let mut talk = Talk::piped(server.address, &[]);
    talk.type_in("get -w /a\n");
    talk.expect("1\n");
    // Stopped, the shell cannot come back before the change.
    talk.stop();
    server.kill();
    let server = setup.start();
    assert_eq!(one_shot(server.address, &["set", "/a", "2"]).2, 0);
    talk.go_on();
    talk.expect("type:NodeDataChanged path:/a");
}

#[test]
fn an_expired_session_is_over_until_the_next_connect() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let mut talk = Talk::piped(server.address, &["-timeout", "1000"]);
    talk.type_in("create -e /mine\n");
    talk.expect("Created /mine");
    talk.stop();
    while one_shot(server.address, &["get", "/mine"]).2 == 0 {
        std::thread::sleep(Duration::from_millis(100));
    }
    talk.go_on();
    talk.expect("WatchedEvent state:Expired type:None path:null");
    talk.type_in("ls /\n");
    talk.expect("Not connected");
    talk.type_in("connect\nls /\n");
    talk.expect("[zookeeper]");
}

#[test]
fn events_are_not_printed_while_printwatches_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let mut talk = Talk::piped(server.address, &[]);
    talk.type_in("create /a\nget -w /a\nprintwatches off\nset /a 1\nprintwatches on\n");
    talk.type_in("get -w /a\nset /a 2\nls /\n");
    let before = talk.expect("[a, zookeeper]");
    assert_eq!(before.matches("WATCHER::").count(), 1, "{before}");
}

#[test]
fn a_refused_authentication_ends_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let mut talk = Talk::piped(server.address, &[]);
    talk.type_in("addauth nonsense x\n");
    talk.expect("WatchedEvent state:AuthFailed type:None path:null");
    talk.expect("KeeperErrorCode = AuthFailed\n");
    talk.type_in("ls /\n");
    talk.expect("Not connected");
    assert_eq!(talk.end().0.code(), Some(3));
}

#[test]
fn a_large_subtree_is_deleted_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup(folder.path()).start();
    let mut talk = Talk::piped(server.address, &[]);
    talk.type_in("create /a\ncreate /a/b\n");
    for number in 0..300 {
        talk.type_in(&format!("create /a/b/{number}\n"));
    }
    talk.expect("Created /a/b/299");
    talk.type_in("deleteall /a -b 7\nls /\n");
    talk.expect("[zookeeper]");
}
