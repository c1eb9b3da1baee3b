//! How many connections there may be, and how long one may say nothing: the keys that limit them,
//! on a live server.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::client::{Client, four_letter_word};
use harness::confine::Confinement;
use harness::server::{Server, Setup};

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");
const PATIENCE: Duration = Duration::from_secs(30);

fn setup(folder: &tempfile::TempDir, lines: &[&str]) -> Setup {
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("ringkeeper.segmentSizeKb=1024");
    lines.iter().fold(setup, |setup, line| setup.with(line))
}

fn start(folder: &tempfile::TempDir, lines: &[&str]) -> Server {
    setup(folder, lines).start()
}

/// Connects, again and again as long as others that were closed still count.
fn session(address: SocketAddr) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(address, 10_000) {
            Ok(client) => return client,
            Err(error) if Instant::now() > deadline => panic!("no session: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Waits until the server closes the connection, which it sends nothing; how long that took.
fn wait_for_end(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Ok(_) => panic!("it says something"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    began.elapsed()
}

fn takes_two_connections_only(limit: &str) {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[limit]);
    let (mut first, second) = (session(server.address), session(server.address));
    for _ in 0..3 {
        wait_for_end(TcpStream::connect(server.address).expect("the system accepts it"));
    }
    first.create("/one", b"", 0).expect("those who are there stay");
    second.close().unwrap();
    let mut third = session(server.address);
    third.create("/two", b"", 0).expect("there is room again");
    first.create("/three", b"", 0).expect("the first is there still");
}

#[test]
fn one_address_gets_no_more_connections_than_max_client_cnxns() {
    takes_two_connections_only("maxClientCnxns=2");
}

#[test]
fn all_addresses_get_no_more_connections_than_max_cnxns() {
    takes_two_connections_only("maxCnxns=2");
}

/// So many connections that the log could not open its next file would stop the server.
#[test]
fn connections_leave_the_server_the_files_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = setup(&folder, &["snapCount=40"]);
    setup.confinement = Confinement { open_files: Some(300), ..Confinement::default() };
    let mut server = setup.start();
    let mut client = session(server.address);
    let crowd: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(server.address).expect("the backlog")).collect();
    let data = [7; 100_000];
    for number in 0..60 {
        client.create(&format!("/n{number}"), &data, 0).expect("the log goes on");
    }
    let turned_away = crowd.into_iter().map(wait_for_end).count();
    assert_eq!(turned_away, 400, "sooner or later all of them, for they say nothing");
    assert!(server.is_running(), "{}", server.output());
    drop(session(server.address));
}

#[test]
fn who_says_nothing_is_closed_and_who_has_a_session_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &["nio.sessionlessCnxnTimeout=300"]);
    let mut client = session(server.address);
    let silent = TcpStream::connect(server.address).unwrap();
    let took = wait_for_end(silent);
    // The default would be ten seconds.
    assert!(took < Duration::from_secs(10), "closed after {took:?}");
    std::thread::sleep(Duration::from_millis(1500));
    client.create("/here", b"", 0).expect("a session may be silent for longer");
}

#[test]
fn backlog_and_keep_alive_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &["clientPortListenBacklog=7", "clientTcpKeepAlive=true"]);
    let conf = four_letter_word(server.address, "conf", PATIENCE).unwrap();
    assert!(conf.contains("clientPortListenBacklog=7\n"), "{conf}");
    let mut client = session(server.address);
    client.create("/here", b"", 0).unwrap();
    // The system shows the timer of a connection that it keeps alive as 02, once nothing is on its
    // way.
    let port = format!(":{:04X}", server.address.port());
    let kept = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && fields[3] == "01" && fields[5].starts_with("02:")
    };
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string("/proc/net/tcp").unwrap().lines().skip(1).any(kept) {
        assert!(Instant::now() < deadline, "no connection is kept alive");
        std::thread::sleep(Duration::from_millis(50));
    }
}
