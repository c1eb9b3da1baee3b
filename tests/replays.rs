//! Handshakes, enforced authentication and throttling, replayed to a live server as a client of
//! ZooKeeper 3.9.5 recorded them: it must answer with the same bytes. Session ids, passwords and
//! the distance of zxids are the server's own; all else is compared.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::client::{Client, Op};
use harness::server::{Server, Setup};
use harness::wire::Encoder;
use ringkeeper::ids::SessionId;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Longest that the server may take for what it is asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a connect request, with its length, has the session and the password.
const ASKED_SESSION: std::ops::Range<usize> = 20..28;
const ASKED_PASSWORD: std::ops::Range<usize> = 32..48;
/// Where the response has them.
const GIVEN_SESSION: std::ops::Range<usize> = 12..20;
const GIVEN_PASSWORD: std::ops::Range<usize> = 24..40;
/// Where a reply has its zxid.
const ZXID: std::ops::Range<usize> = 8..16;

fn long(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

fn password(session: i64) -> [u8; 16] {
    SessionId::from_bits(session).password()
}

/// A recording: what the client sent and got, and whether it was hung up on in the end.
struct Recording {
    steps: Vec<Step>,
    closes: bool,
}

enum Step {
    Send(Vec<u8>),
    Receive(Vec<u8>),
}

fn recording(name: &str) -> Recording {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/client/ops/");
    let text = fs::read_to_string(format!("{folder}{name}.hex")).expect("a recording");
    let mut steps = Vec::new();
    for line in text.lines() {
        match line.split_at(2) {
            ("C ", hex) => steps.push(Step::Send(unhex(hex))),
            ("S ", hex) => steps.push(Step::Receive(unhex(hex))),
            _ => assert!(line.starts_with('#'), "{line}"),
        }
    }
    Recording { steps, closes: text.contains("the server closes the connection\n") }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("a digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The next frame with its length; none: it was closed.
fn next_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    match stream.read_exact(&mut frame) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
        read => read.expect("an answer in time"),
    }
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..]).expect("a whole frame");
    Some(frame)
}

/// A session on a connection of its own.
fn session(address: SocketAddr) -> (TcpStream, i64) {
    let mut stream = connect(address);
    let mut hello = Encoder::frame();
    hello.int(0).long(0).int(10_000).long(0).bytes(&[0; 16]).bool(false);
    stream.write_all(&hello.finish()).unwrap();
    let response = next_frame(&mut stream).expect("a session");
    let session = long(&response[GIVEN_SESSION]);
    (stream, session)
}

/// Replays `name`. What was recorded of a session that was there before goes to `known`. The error
/// tells what was answered otherwise.
fn replay(address: SocketAddr, name: &str, known: Option<i64>) -> Result<(), String> {
    let Recording { steps, closes } = recording(name);
    let mut stream = connect(address);
    let (mut asked, mut greeted, mut distance) = (false, false, None);
    let mut unsent = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::Send(frame) => {
                let mut frame = frame.clone();
                if !std::mem::replace(&mut asked, true)
                    && let Some(ours) = known
                {
                    let recorded = long(&frame[ASKED_SESSION]);
                    frame[ASKED_SESSION].copy_from_slice(&ours.to_be_bytes());
                    if frame[ASKED_PASSWORD] == password(recorded) {
                        frame[ASKED_PASSWORD].copy_from_slice(&password(ours));
                    }
                }
                unsent.extend(frame);
            }
            Step::Receive(expected) => {
                // What was sent before anything came is sent at once.
                stream.write_all(&std::mem::take(&mut unsent)).expect("it reads");
                let Some(frame) = next_frame(&mut stream) else {
                    return Err(format!("{name} step {index}: closed instead of an answer"));
                };
                let mut expected = expected.clone();
                if !std::mem::replace(&mut greeted, true) {
                    if long(&expected[GIVEN_SESSION]) != 0 {
                        let ours = long(&frame[GIVEN_SESSION]);
                        assert!(known.is_none_or(|known| known == ours), "another session");
                        expected[GIVEN_SESSION].copy_from_slice(&ours.to_be_bytes());
                        expected[GIVEN_PASSWORD].copy_from_slice(&password(ours));
                    }
                } else if let recorded @ 1.. = long(&expected[ZXID]) {
                    let distance = distance.get_or_insert_with(|| long(&frame[ZXID]) - recorded);
                    expected[ZXID].copy_from_slice(&(recorded + *distance).to_be_bytes());
                }
                if frame != expected {
                    return Err(format!(
                        "{name} step {index}:\n{frame:02x?}, not\n{expected:02x?}"
                    ));
                }
            }
        }
    }
    stream.write_all(&unsent).expect("it reads");
    let closed = closes.then(|| next_frame(&mut stream));
    match closed {
        Some(Some(frame)) => Err(format!("{name}: {frame:02x?} instead of the end")),
        Some(None) | None => Ok(()),
    }
}

fn start(folder: &tempfile::TempDir, lines: &[&str]) -> Server {
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("ringkeeper.segmentSizeKb=1024")
        .with("minSessionTimeout=1000")
        .with("maxSessionTimeout=20000");
    lines.iter().fold(setup, |setup, line| setup.with(line)).start()
}

#[test]
fn handshakes_are_answered_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    for name in [
        "connect-new",
        "connect-old-client",
        "connect-null-password",
        "connect-readonly-client",
        "connect-timeout-high",
        "connect-timeout-low",
        "connect-expired",
        "connect-zxid-ahead",
    ] {
        replay(server.address, name, None).unwrap_or_else(|problem| panic!("{problem}"));
    }
    let (mut old, renewed) = session(server.address);
    let mut create = Encoder::frame();
    create.int(1).int(1).string("/renew").bytes(b"").int(1).int(31);
    create.string("world").string("anyone").int(1);
    old.write_all(&create.finish()).unwrap();
    next_frame(&mut old).expect("created");
    replay(server.address, "connect-renew", Some(renewed)).unwrap();
    assert_eq!(next_frame(&mut old), None, "the session has two connections");
    let (mut old, guessed) = session(server.address);
    replay(server.address, "connect-wrong-password", Some(guessed)).unwrap();
    assert_eq!(next_frame(&mut old), None, "as by ZooKeeper");
}

#[test]
fn enforced_authentication_is_answered_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &["enforce.auth.enabled=true", "enforce.auth.schemes=digest"]);
    for name in ["enforce-auth", "enforce-auth-ok"] {
        replay(server.address, name, None).unwrap_or_else(|problem| panic!("{problem}"));
    }
}

/// A disk that is kept busy until this is dropped.
struct BusyDisk {
    ends: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl BusyDisk {
    fn in_folder(folder: &Path) -> BusyDisk {
        let ends = Arc::new(AtomicBool::new(false));
        let (told, path) = (Arc::clone(&ends), folder.join("load"));
        let writer = std::thread::spawn(move || {
            let piece = vec![7; 4 << 20];
            while !told.load(Ordering::Relaxed) {
                let mut file = fs::File::create(&path).expect("a file");
                file.write_all(&piece).and_then(|()| file.sync_all()).expect("room on the disk");
            }
        });
        BusyDisk { ends, writer: Some(writer) }
    }
}

impl Drop for BusyDisk {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let writer = self.writer.take().expect("it is dropped once");
        assert!(writer.join().is_ok() || std::thread::panicking(), "the disk was not kept busy");
    }
}

/// A request is only refused if the create before it took longer than a millisecond, so the disk
/// is kept busy; several tries may be needed all the same, as they were for the recording.
#[test]
fn requests_that_waited_too_long_are_answered_as_recorded() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let throttle = ["throttled_op_wait_time=1", "request_throttle_max_requests=1"];
    // One reactor, for the requests under way are shared out.
    let server = start(&folder, &[&throttle[..], &["ringkeeper.reactors=1"]].concat());
    let _busy = BusyDisk::in_folder(folder.path());
    let deadline = Instant::now() + PATIENCE;
    while let Err(problem) = replay(server.address, "throttled-op", None) {
        assert!(Instant::now() < deadline, "not once as recorded; at last {problem}");
        let mut client = Client::connect(server.address, 10_000).expect("a session");
        for number in 0..12 {
            let path = format!("/t{number}");
            client.call(&Op::Delete { path, version: -1 }).expect("an answer");
        }
    }
}
