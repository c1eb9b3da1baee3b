//! Every four-letter word, asked of Ringkeeper and of Apache ZooKeeper (`tests/clients/zookeeper`)
//! after the same clients did the same: the same text but for what must differ. What 3.9.5 answers,
//! which differs from the 3.8.0 that runs here, is in `tests/four_letter_words.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::client::{Client, EPHEMERAL, Op};
use harness::server::{Server, Setup};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ringkeeper and ZooKeeper, both fresh.
fn servers(folder: &Path, lines: &[&str]) -> [Server; 2] {
    let zookeeper = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/zookeeper");
    let programs = [env!("CARGO_BIN_EXE_ringkeeper"), zookeeper.to_str().expect("a path in UTF-8")];
    programs.map(|program| {
        let name = Path::new(program).file_name().expect("a file");
        let mut setup = Setup::new(program, &folder.join(name), folder).with("tickTime=1000");
        for line in lines {
            setup = setup.with(line);
        }
        setup.start()
    })
}

/// What comes back for these first bytes of a connection until the server closes it.
fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is allowed");
    stream.write_all(bytes).expect("the server reads");
    let mut answer = Vec::new();
    // A close with bytes unread arrives as a reset: the end as well.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{bytes:?}");
    }
    String::from_utf8(answer).expect("answers are text")
}

/// A server with two clients that have watches, an ephemeral and some requests behind them.
struct Inhabited {
    address: SocketAddr,
    clients: [Client; 2],
}

impl Inhabited {
    fn new(server: &Server) -> Inhabited {
        let address = server.address;
        ask(address, b"srst");
        let mut clients = [0, 1].map(|_| Client::connect(address, 8000).expect("a session"));
        let [one, two] = &mut clients;
        one.create("/a", b"data", EPHEMERAL).expect("it is created");
        two.create("/b", b"", 0).expect("it is created");
        let exists = Op::Exists { path: "/missing".to_owned(), watch: true };
        one.call(&exists).expect("it is answered");
        for client in [one, two] {
            let get = Op::GetData { path: "/a".to_owned(), watch: true };
            client.call(&get).expect("it is answered");
        }
        clients[0].call(&Op::GetChildren { path: "/".to_owned(), watch: true }).expect("answered");
        // A write that fails is the last thing the second did.
        clients[1].call(&Op::Delete { path: "/none".to_owned(), version: -1 }).expect("answered");
        clients[0].call(&Op::Ping).expect("answered");
        Inhabited { address, clients }
    }

    /// The answer, without what must differ: versions, times, addresses, session ids, and the
    /// order of lists that have none.
    fn answer(&self, word: &str) -> Vec<String> {
        let mut text = ask(self.address, word.as_bytes());
        for (number, client) in self.clients.iter().enumerate() {
            text = text.replace(&format!("{:#x}", client.session.id), &format!("SESSION{number}"));
        }
        let mut lines: Vec<String> = text.lines().filter_map(|line| mask(word, line)).collect();
        match word {
            "cons" | "stat" | "dump" => lines.sort(),
            "wchc" | "wchp" => lines = groups(&lines),
            _ => {}
        }
        lines
    }
}

/// Lines with the tab-indented ones below each sorted, and sorted themselves.
fn groups(lines: &[String]) -> Vec<String> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for line in lines {
        match groups.last_mut() {
            Some(group) if line.starts_with('\t') => group.push(line.clone()),
            _ => groups.push(vec![line.clone()]),
        }
    }
    groups.iter_mut().for_each(|group| group[1..].sort());
    groups.sort();
    groups.concat()
}

fn mask(word: &str, line: &str) -> Option<String> {
    let before = |separator: char| line.split_once(separator).map(|(key, _)| key.to_owned());
    match word {
        "srvr" | "stat" if line.starts_with("Zookeeper version") => before(':'),
        "srvr" | "stat" if line.starts_with("Latency") => before(':'),
        "cons" | "stat" if line.starts_with(" /") => Some(connection(line)),
        // Buckets hold what the clock says; empty ones count in ZooKeeper.
        "dump" if line.contains(" expire at ") => None,
        "dump" if line.contains(" Sets (") => {
            line.split_once(")/").map(|(_, all)| format!("{}/{all}", &line[..7]))
        }
        "dump" if line.contains("ip: /") => Some(format!("ip: {}", line.split_once(" s")?.1)),
        "conf" => match before('=')?.as_str() {
            key @ ("clientPort" | "dataDir" | "dataDirSize" | "dataLogDir" | "dataLogSize") => {
                Some(key.to_owned())
            }
            _ => Some(line.to_owned()),
        },
        "dirs" => before(':'),
        "envi" if line.starts_with("java.") => None,
        "envi" => before('=').or(Some(line.to_owned())),
        _ => Some(line.to_owned()),
    }
}

/// Waits until both have counted the same. ZooKeeper counts a reply only after it has sent it, so
/// that a client may ask before. Words are counted as they are answered, and both get as many here.
fn wait_for_counts(ours: &Inhabited, theirs: &Inhabited) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (our, their) = (ours.answer("srvr"), theirs.answer("srvr"));
        if our == their {
            return;
        }
        assert!(Instant::now() < deadline, "ours: {our:#?}, ZooKeeper's: {their:#?}");
    }
}

/// A line of `cons` without the client's port, times and latencies.
fn connection(line: &str) -> String {
    let (_, rest) = line.split_once('[').expect("interest is in brackets");
    let counters = rest.split(',').filter(|counter| {
        let times = ["est=", "lresp=", "llat=", "minlat=", "avglat=", "maxlat="];
        !times.iter().any(|time| counter.starts_with(time))
    });
    counters.collect::<Vec<_>>().join(",").replace(')', "")
}

#[test]
fn words_are_answered_as_zookeeper_answers_them() {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(folder.path(), &[]);
    let [ours, theirs] = servers.each_ref().map(Inhabited::new);
    wait_for_counts(&ours, &theirs);
    // In this order: the counters count the words before.
    for word in [
        "srvr", "stat", "cons", "dump", "wchs", "wchc", "wchp", "ruok", "isro", "conf", "dirs",
        "envi", "gtmk", "crst", "cons", "srst", "srvr", "stat", "wchs", "hash",
    ] {
        assert_eq!(ours.answer(word), theirs.answer(word), "{word}");
    }
    let answers = ours.answer("wchs");
    assert_eq!(answers, ["2 connections watching 2 paths", "Total watches:3"]);
}

#[test]
fn odd_words_are_answered_as_zookeeper_answers_them() {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(folder.path(), &[]);
    let [ours, theirs] = servers.each_ref().map(|server| server.address);
    let questions: &[&[u8]] = &[
        b"ruok\n",
        b"ruok and more",
        b"isro\r\n",
        b"RUOK",
        b"abcd",
        b"kill",
        b"lsnp",
        b"ruo\n",
        b"stmk\0\0\0\0\0\0\0\x05",
        b"gtmk",
        b"stmk\xff\xff\xff\xff\xff\xff\xff\xfbmore",
        b"gtmk\n",
        b"stmk",
        b"stmk\0\0\0",
        b"gtmk",
    ];
    for question in questions {
        let shown = question.escape_ascii();
        assert_eq!(ask(ours, question), ask(theirs, question), "{shown}");
    }
    assert_eq!(ask(ours, b"gtmk"), "-5");
}

#[test]
fn forbidden_words_are_refused_as_zookeeper_refuses_them() {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(folder.path(), &["4lw.commands.whitelist=ruok, wchs"]);
    let [ours, theirs] = servers.each_ref().map(|server| server.address);
    for word in [
        "conf",
        "cons",
        "crst",
        "dirs",
        "dump",
        "envi",
        "gtmk",
        "hash",
        "isro",
        "mntr",
        "ruok",
        "srst",
        "stat",
        "stmk",
        "wchc",
        "wchp",
        "wchs",
        "stmk\0\0\0\0\0\0\0\x05",
    ] {
        let (our, their) = (ask(ours, word.as_bytes()), ask(theirs, word.as_bytes()));
        assert_eq!(our, their, "{word}");
    }
    assert!(ask(ours, b"srvr").contains("Mode: standalone"));
}

#[test]
fn metrics_have_zookeepers_values() {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(folder.path(), &[]);
    let [ours, theirs] = servers.each_ref().map(|server| {
        // One session is left to expire.
        Client::connect(server.address, 2000).expect("a session");
        let expired = || ask(server.address, b"mntr").contains("zk_stale_sessions_expired\t1\n");
        let deadline = Instant::now() + PATIENCE;
        while !expired() {
            assert!(Instant::now() < deadline, "it does not expire");
            std::thread::sleep(Duration::from_millis(50));
        }
        Inhabited::new(server)
    });
    wait_for_counts(&ours, &theirs);
    let (ours, theirs) = (ours.answer("mntr"), theirs.answer("mntr"));
    let value = |lines: &[String], key: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(&format!("zk_{key}\t")));
        line.unwrap_or_else(|| panic!("{key} is missing")).to_owned()
    };
    for key in [
        "server_state",
        "ephemerals_count",
        "outstanding_requests",
        "znode_count",
        "global_sessions",
        "watch_count",
        "approximate_data_size",
        "local_sessions",
        "packets_received",
        "packets_sent",
        "auth_failed_count",
        "connection_rejected",
        "connection_request_count",
        "sessionless_connections_expired",
        "stale_sessions_expired",
        "unrecoverable_error_count",
        "cnt_readlatency",
        "cnt_updatelatency",
        "cnt_startup_txns_loaded",
        "cnt_dbinittime",
        "cnt_snapshottime",
    ] {
        assert_eq!(value(&ours, key), value(&theirs, key), "{key}");
    }
}
