//! Four-letter words against what ZooKeeper 3.9.5 answered: the same lines in the same order, from
//! cores that report what ZooKeeper had to report.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringkeeper::admin::desk::{Desk, Ledger, SnapshotTimes};
use ringkeeper::admin::environment::Folders;
use ringkeeper::admin::inquiry::Cores;
use ringkeeper::admin::metrics::StartUp;
use ringkeeper::admin::report::{
    ConnectionReport, ConnectionSession, ConsensusAsk, ConsensusReport, LatencyReport, ReactorAsk,
    ReactorReport,
};
use ringkeeper::admin::word::{FourLetterWord, Question};
use ringkeeper::config::cores::CpuId;
use ringkeeper::config::load::{Overrides, parse};
use ringkeeper::consensus::message::ConsensusMessage;
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::reactor::message::ReactorMessage;
use ringkeeper::rt::inbox::{RingInbox, TaskInbox};

/// The sections of a capture: the word, then what the server sent.
fn capture(file: &str) -> HashMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/four-letter-words");
    let text = std::fs::read_to_string(path.join(file)).unwrap();
    let sections = text.split("=== ").skip(1).map(|section| {
        let (word, answer) = section.split_once(" ===\n").unwrap();
        let answer = answer.strip_suffix("<no newline at the end>\n").unwrap_or(answer);
        (word.to_owned(), answer.to_owned())
    });
    sections.collect()
}

/// Threads in the place of one reactor and the consensus core, with these reports.
struct Server {
    desk: Desk,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<&'static str>>>,
}

impl Server {
    fn start(whitelist: &str, reactor: ReactorReport, consensus: ConsensusReport) -> Server {
        let text = format!(
            "clientPort=2181\ndataDir=/DATA\ntickTime=500\n4lw.commands.whitelist={whitelist}"
        );
        let cpus: BTreeSet<_> = [CpuId::new(0)].into();
        let loaded = parse(Path::new("zoo.cfg"), text.as_bytes(), &Overrides::default(), &cpus);
        let cores =
            Cores { reactors: vec![RingInbox::new(8).unwrap()], consensus: TaskInbox::new(8) };
        let desk = Desk {
            cores: cores.clone(),
            config: loaded.unwrap().config,
            listen: "127.0.0.1:2181".parse().unwrap(),
            folders: Folders { snapshots: "/DATA/version-2".into(), log: "/DATA/version-2".into() },
            snapshots: SnapshotTimes::default(),
            start_up: StartUp {
                began: Instant::now(),
                recovery: Duration::from_millis(11),
                txns_loaded: 0,
                forgotten: false,
            },
            ledger: Ledger::default(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&cores, &until, &reactor, &consensus));
        Server { desk, stop, thread: Some(thread) }
    }

    fn answer(&self, word: FourLetterWord) -> String {
        self.ask(word.into())
    }

    fn ask(&self, question: Question) -> String {
        self.desk.answer(question, "10.0.0.1:58692".parse().unwrap())
    }

    /// The resets that the cores got.
    fn stop(mut self) -> Vec<&'static str> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn serve(
    cores: &Cores,
    until: &AtomicBool,
    reactor: &ReactorReport,
    consensus: &ConsensusReport,
) -> Vec<&'static str> {
    let mut resets = Vec::new();
    while !until.load(Ordering::Relaxed) {
        match cores.reactors[0].take() {
            Some(ReactorMessage::Ask(ReactorAsk::Report { details, to })) => {
                let mut report = reactor.clone();
                if !details.connections {
                    report.connection_list.clear();
                }
                if !details.watches {
                    report.watch_list.clear();
                }
                to.send(report).unwrap();
            }
            Some(ReactorMessage::Ask(ReactorAsk::ResetServerStats)) => resets.push("server"),
            Some(ReactorMessage::Ask(ReactorAsk::ResetConnectionStats)) => {
                resets.push("connections");
            }
            Some(other) => panic!("a reactor was told {other:?}"),
            None => {}
        }
        match cores.consensus.take() {
            Some(ConsensusMessage::Ask(ConsensusAsk::Report { ephemerals, to })) => {
                let mut report = consensus.clone();
                if !ephemerals {
                    report.ephemeral_paths.clear();
                }
                to.send(report).unwrap();
            }
            Some(ConsensusMessage::Ask(ConsensusAsk::ResetServerStats)) => resets.push("consensus"),
            Some(other) => panic!("the consensus core was told {other:?}"),
            None => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    resets
}

const SESSION: SessionId = SessionId::from_bits(0x0100_0032_2548_0000);

fn latency(min_ms: u64, max_ms: u64, total_ms: f64, count: u64) -> LatencyReport {
    LatencyReport { min_ms, max_ms, total_ms, count }
}

/// What the captured server had to report: one client with a session, an ephemeral and two watches.
fn captured() -> (ReactorReport, ConsensusReport) {
    let session = ConnectionSession {
        session: SESSION,
        last_op: Some(OpCode::GET_CHILDREN2),
        established_ms: 1_795_213_251_848,
        timeout_ms: 9000,
        last_cxid: Some(3),
        last_zxid: Some(Zxid::from_bits(2)),
        last_response_ms: 3_286_520,
        last_latency_ms: 6,
        latency: latency(0, 26, 45.0, 4),
    };
    let connection = ConnectionReport {
        address: "10.0.0.1:58668".parse::<SocketAddr>().unwrap(),
        interest_ops: 1,
        queued: 0,
        received: 4,
        sent: 4,
        session: Some(session),
    };
    let reactor = ReactorReport {
        connections: 1,
        // The word that is asked counts as well.
        packets_received: 15,
        packets_sent: 17,
        latency: latency(3, 26, 44.0, 4),
        read_latency: latency(3, 6, 9.0, 2),
        data_watches: 1,
        child_watches: 0,
        watched_paths: vec![7],
        watching_connections: 1,
        connection_list: vec![connection],
        watch_list: vec![(SESSION, "/a".to_owned())],
        ..ReactorReport::default()
    };
    let consensus = ConsensusReport {
        last_committed: Zxid::from_bits(2),
        znodes: 6,
        ephemerals: 1,
        approximate_data_bytes: 47,
        sessions: 1,
        session_expiries: vec![(SESSION, 1_795_213_261_000)],
        ephemeral_paths: vec![(SESSION, vec!["/a".to_owned()])],
        update_latency: latency(9, 26, 35.0, 2),
        ..ConsensusReport::default()
    };
    (reactor, consensus)
}

fn captured_server() -> Server {
    let (reactor, consensus) = captured();
    Server::start("*", reactor, consensus)
}

/// Lines with the version's value taken out.
fn without_version(text: &str) -> Vec<&str> {
    text.lines()
        .map(
            |line| {
                if line.starts_with("Zookeeper version: ") { "Zookeeper version: " } else { line }
            },
        )
        .collect()
}

/// The keys of `key<separator>value` lines.
fn keys(text: &str, separator: char) -> Vec<&str> {
    text.lines().filter_map(|line| Some(line.split_once(separator)?.0)).collect()
}

/// Whether `part` is `whole` with some elements left out.
fn is_part_of(part: &[&str], whole: &[&str]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|element| whole.any(|other| other == element))
}

#[test]
fn words_without_values_of_their_own_are_answered_byte_for_byte() {
    let capture = capture("standalone.txt");
    let server = captured_server();
    for word in [
        FourLetterWord::Ruok,
        FourLetterWord::Isro,
        FourLetterWord::Crst,
        FourLetterWord::Srst,
        FourLetterWord::Wchs,
        FourLetterWord::Wchc,
        FourLetterWord::Wchp,
        FourLetterWord::Cons,
    ] {
        assert_eq!(server.answer(word), capture[word.name()], "{word}");
    }
    let mut resets = server.stop();
    resets.sort_unstable();
    assert_eq!(resets, ["connections", "consensus", "server"]);
}

#[test]
fn srvr_has_zookeepers_lines() {
    let server = captured_server();
    let answer = server.answer(FourLetterWord::Srvr);
    assert_eq!(without_version(&answer), without_version(&capture("standalone.txt")["srvr"]));
    assert!(answer.starts_with("Zookeeper version: 3.9."), "clients parse it: {answer}");
    server.stop();
}

#[test]
fn stat_has_zookeepers_lines() {
    let (mut reactor, consensus) = captured();
    reactor.packets_received = 0;
    reactor.packets_sent = 1;
    reactor.latency = LatencyReport::default();
    reactor.connection_list[0].received = 0;
    reactor.connection_list[0].sent = 0;
    let server = Server::start("stat", reactor, consensus);
    let answer = server.answer(FourLetterWord::Stat).replace(":58692[", ":58800[");
    assert_eq!(without_version(&answer), without_version(&capture("standalone.txt")["stat"]));
    server.stop();
}

#[test]
fn conf_has_zookeepers_lines() {
    let server = captured_server();
    let without_sizes = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains("Size=")).map(str::to_owned).collect()
    };
    let (answer, captured) =
        (server.answer(FourLetterWord::Conf), capture("standalone.txt").remove("conf").unwrap());
    assert_eq!(keys(&answer, '='), keys(&captured, '='));
    assert_eq!(without_sizes(&answer), without_sizes(&captured));
    server.stop();
}

#[test]
fn dirs_has_zookeepers_lines() {
    let server = captured_server();
    let answer = server.answer(FourLetterWord::Dirs);
    assert_eq!(keys(&answer, ':'), keys(&capture("standalone.txt")["dirs"], ':'));
    server.stop();
}

#[test]
fn dump_has_zookeepers_lines() {
    // Ours has no empty sets, counts only the others, and asks from another port.
    let masked = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("0 expire"));
        lines
            .map(|line| match line.split_once(" expire at ") {
                Some((count, _)) => format!("{count} expire"),
                None => {
                    line.replace("58722", "58692").replace("Session Sets (2)", "Session Sets (1)")
                }
            })
            .collect()
    };
    let (mut reactor, consensus) = captured();
    // As long as a connection without a session has, so that both are in one set at any time.
    reactor.connection_list[0].session.as_mut().unwrap().timeout_ms = 10_000;
    let server = Server::start("*", reactor, consensus);
    let answer = server.answer(FourLetterWord::Dump);
    assert_eq!(masked(&answer), masked(&capture("standalone.txt")["dump"]));
    assert!(answer.contains("1 expire at Fri Nov 20 22:21:01 UTC 2026:\n"), "{answer}");
    server.stop();
}

#[test]
fn envi_has_zookeepers_keys_but_the_jvms() {
    let server = captured_server();
    let answer = server.answer(FourLetterWord::Envi);
    assert_eq!(answer.lines().next(), Some("Environment:"));
    let captured = capture("standalone.txt").remove("envi").unwrap();
    let of_jvm = |key: &&str| key.starts_with("java.");
    let expected: Vec<_> = keys(&captured, '=').into_iter().filter(|key| !of_jvm(key)).collect();
    assert_eq!(keys(&answer, '='), expected);
    server.stop();
}

#[test]
fn mntr_has_zookeepers_keys_in_its_order_with_values_of_its_form() {
    let server = captured_server();
    let answer = server.answer(FourLetterWord::Mntr);
    let captured = capture("standalone.txt").remove("mntr").unwrap();
    let (ours, theirs) = (keys(&answer, '\t'), keys(&captured, '\t'));
    assert!(ours.len() > 50, "{answer}");
    assert!(is_part_of(&ours, &theirs), "{ours:?}");
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'));
        line.unwrap_or_else(|| panic!("{key} is missing")).to_owned()
    };
    for key in &ours[1..] {
        let (one, other) = (value(&answer, key), value(&captured, key));
        assert_eq!(one.contains('.'), other.contains('.'), "{key}: {one} for {other}");
    }
    for key in [
        "zk_server_state",
        "zk_ephemerals_count",
        "zk_num_alive_connections",
        "zk_avg_latency",
        "zk_znode_count",
        "zk_global_sessions",
        "zk_min_latency",
        "zk_max_latency",
        "zk_approximate_data_size",
        "zk_avg_updatelatency",
        "zk_min_updatelatency",
        "zk_max_updatelatency",
        "zk_cnt_updatelatency",
        "zk_sum_updatelatency",
        "zk_avg_readlatency",
        "zk_sum_readlatency",
        "zk_max_dbinittime",
    ] {
        assert_eq!(value(&answer, key), value(&captured, key), "{key}");
    }
    server.stop();
}

#[test]
fn a_word_that_is_not_allowed_says_so_and_srvr_always_is() {
    let (reactor, consensus) = captured();
    let server = Server::start("ruok", reactor, consensus);
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/four-letter-words/not-in-whitelist.txt");
    let captured = std::fs::read_to_string(path).unwrap();
    let refusal = server.answer(FourLetterWord::Conf);
    assert!(captured.contains(&format!(":\n{refusal}")), "{refusal}");
    assert_eq!(server.answer(FourLetterWord::Ruok), "imok");
    assert!(server.answer(FourLetterWord::Srvr).contains("Mode: standalone\n"));
    server.stop();
}

#[test]
fn the_trace_mask_is_kept_for_whoever_asks() {
    let capture = capture("standalone.txt");
    let server = captured_server();
    assert_eq!(server.answer(FourLetterWord::Gtmk), capture["gtmk"]);
    let set = |mask| server.ask(Question { word: FourLetterWord::Stmk, mask });
    assert_eq!(set(Some(-5)), "-5");
    assert_eq!(set(None), "", "there is no answer without a mask, as in ZooKeeper");
    assert_eq!(server.answer(FourLetterWord::Gtmk), "-5");
    server.stop();
}

#[test]
fn the_list_of_digests_is_that_of_a_fresh_server() {
    let server = captured_server();
    assert_eq!(server.answer(FourLetterWord::Hash), capture("standalone.txt")["hash"]);
    server.stop();
}

#[test]
fn words_and_their_answers_count_as_packets_and_start_over_with_srst() {
    let server = Server::start("*", ReactorReport::default(), ConsensusReport::default());
    let counts = |expected: &str| {
        let answer = server.answer(FourLetterWord::Srvr);
        assert!(answer.contains(expected), "{answer}");
    };
    counts("Received: 1\nSent: 0\n");
    counts("Received: 2\nSent: 1\n");
    server.answer(FourLetterWord::Srst);
    counts("Received: 1\nSent: 1\n");
    server.stop();
}

#[test]
fn cores_that_do_not_report_make_the_answer_late_but_not_missing() {
    let server = captured_server();
    server.stop.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let answer = server.answer(FourLetterWord::Mntr);
    assert_eq!(answer, "This ZooKeeper instance is not currently serving requests\n");
    assert_eq!(server.answer(FourLetterWord::Isro), "null");
    assert_eq!(server.answer(FourLetterWord::Ruok), "imok");
    assert!(began.elapsed() < Duration::from_secs(10));
    server.stop();
}
