//! A server that closes a connection says why first, and that must arrive: whole, then the end, and
//! no reset in its place, whatever the client had sent behind the request that it was closed for.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::{Client, Op, four_letter_word};
use harness::server::{Server, Setup};
use harness::wire::{Decoder, Encoder};

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than the buffers of two sockets hold, so that a client gets rid of it only while somebody
/// receives it.
const FLOOD_BYTES: usize = 6 << 20;

const CREATE: i32 = 1;
const PING: i32 = 11;
const AUTH: i32 = 100;
const UNKNOWN: i32 = 99;
const CLOSE_SESSION: i32 = -11;

fn start(folder: &tempfile::TempDir, lines: &[&str]) -> Server {
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("ringkeeper.segmentSizeKb=1024");
    lines.iter().fold(setup, |setup, line| setup.with(line)).start()
}

fn request(xid: i32, op: i32, fields: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::frame();
    out.int(xid).int(op);
    fields(&mut out);
    out.finish()
}

fn unknown(xid: i32) -> Vec<u8> {
    request(xid, UNKNOWN, |_| ())
}

fn wrong_auth() -> Vec<u8> {
    request(-4, AUTH, |out| {
        out.int(0).string("nosuch").string("x");
    })
}

fn create(xid: i32, path: &str) -> Vec<u8> {
    request(xid, CREATE, |out| {
        out.string(path).bytes(b"").int(1).int(31).string("world").string("anyone").int(0);
    })
}

fn close_session(xid: i32) -> Vec<u8> {
    request(xid, CLOSE_SESSION, |_| ())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection with a session.
fn with_session(address: SocketAddr) -> TcpStream {
    let client = Client::connect(address, 10_000).expect("a session");
    client.stream().try_clone().expect("a descriptor")
}

/// What the server sends until it closes, to a client that sends `last` and `more` before it reads.
fn answers(mut stream: &TcpStream, last: &[u8], more: usize) -> Vec<u8> {
    stream.write_all(&[last, &vec![b'x'; more]].concat()).expect("it is received");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("the end comes, and no reset");
    answers
}

/// The xids and errors of replies.
fn replies(mut bytes: &[u8]) -> Vec<(i32, i32)> {
    let mut replies = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let mut frame = Decoder::new(frame);
        let (xid, _zxid, err) = (frame.int().unwrap(), frame.long().unwrap(), frame.int().unwrap());
        replies.push((xid, err));
        bytes = rest;
    }
    replies
}

/// Runs `done` until it says so.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_refusal_arrives_whatever_was_sent_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    let last = [(wrong_auth(), (-4, -115)), (unknown(7), (7, -6)), (close_session(8), (8, 0))];
    for (request, reply) in last {
        for more in [0, 1, 100_000, FLOOD_BYTES] {
            let got = answers(&with_session(server.address), &request, more);
            assert_eq!(replies(&got), [reply], "{more} bytes behind");
        }
    }
    // In pieces that cross the close.
    for _ in 0..20 {
        let mut stream = with_session(server.address);
        stream.write_all(&wrong_auth()).unwrap();
        for _ in 0..50 {
            stream.write_all(&request(-2, PING, |_| ())).expect("it is received");
        }
        assert_eq!(replies(&answers(&stream, b"", 0)), [(-4, -115)]);
    }
}

#[test]
fn who_must_authenticate_and_does_not_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let lines = ["enforce.auth.enabled=true", "enforce.auth.schemes=digest"];
    let server = start(&folder, &lines);
    for more in [0, 100_000, FLOOD_BYTES] {
        let got = answers(&with_session(server.address), &create(1, "/a"), more);
        assert_eq!(replies(&got), [(1, -124)], "{more} bytes behind");
    }
}

#[test]
fn a_word_is_answered_whatever_was_sent_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    for more in [0, 1, 100_000, FLOOD_BYTES] {
        let got = answers(&connect(server.address), b"ruok", more);
        assert_eq!(got, b"imok", "{more} bytes behind");
        let got = answers(&connect(server.address), b"mntr", more);
        let whole = got.starts_with(b"zk_version\t") && got.ends_with(b"\n");
        assert!(whole, "{}", String::from_utf8_lossy(&got));
    }
}

/// Longer than a socket's buffer, so that a thread of its own sends the answer.
#[test]
fn a_long_answer_to_a_word_arrives_whatever_was_sent_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    let mut client = Client::connect(server.address, 30_000).expect("a session");
    let path = |number| format!("/{number}{}", "x".repeat(30_000));
    let count = 400;
    for number in 0..count {
        client.submit(&Op::Exists { path: path(number), watch: true }).unwrap();
    }
    for _ in 0..count {
        client.receive().expect("an answer");
    }
    let got = answers(&connect(server.address), b"wchp", 100_000);
    let text = String::from_utf8(got).expect("text");
    assert_eq!(text.lines().filter(|line| line.starts_with('/')).count(), count);
    let long: usize = (0..count).map(|number| path(number).len()).sum();
    assert!(text.len() > long, "{} bytes", text.len());
}

/// So does ZooKeeper, where the reply to the write hardly ever comes before the refusal.
#[test]
fn a_write_in_front_of_an_unknown_request_is_carried_out_and_the_refusal_does_not_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    let mut observer = Client::connect(server.address, 30_000).expect("a session");
    for number in 0..20 {
        let (before, behind) = (format!("/before{number}"), format!("/behind{number}"));
        let burst = [create(1, &before), unknown(2), create(3, &behind)].concat();
        let got = replies(&answers(&with_session(server.address), &burst, 0));
        // The burst may have come in pieces.
        assert!(got == [(2, -6)] || got == [(1, 0), (2, -6)], "{got:?}");
        wait_until("the write is seen", || observer.get(&before).unwrap().is_some());
        assert_eq!(observer.get(&behind).unwrap(), None);
    }
}

#[test]
fn who_stays_after_the_last_reply_counts_for_nothing_and_is_closed_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &["maxClientCnxns=2"]);
    let address = server.address;
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let before = descriptors();
    let mut staying = Vec::new();
    // More than may linger.
    for _ in 0..600 {
        wait_until("a session for the next", || match Client::connect(address, 10_000) {
            Ok(client) => {
                staying.push(client.stream().try_clone().expect("a descriptor"));
                true
            }
            // The last one was told that its session is over before it was counted off.
            Err(_) => false,
        });
        let stream = staying.last().expect("the one that was let in");
        assert_eq!(replies(&answers(stream, &close_session(1), 0)), [(1, 0)]);
    }
    wait_until("cons lists no session", || {
        let cons = four_letter_word(address, "cons", PATIENCE);
        cons.is_ok_and(|cons| !cons.contains("sid="))
    });
    wait_until("all are closed", || descriptors() <= before);
    drop(staying);
    let (status, output) = server.terminate();
    assert!(status.success(), "{output}");
}

#[test]
fn who_stays_does_not_keep_the_server_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    let mut staying: Vec<TcpStream> = (0..50).map(|_| with_session(server.address)).collect();
    for stream in &staying[..25] {
        assert_eq!(replies(&answers(stream, &close_session(1), 0)), [(1, 0)]);
    }
    let (status, output) = server.terminate();
    assert!(status.success(), "{output}");
    for stream in &mut staying {
        assert_eq!(stream.read(&mut [0]).expect("the end comes, and no reset"), 0);
    }
}
