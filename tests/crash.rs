//! What was acknowledged is there after whatever happens to the process: killed, again and again,
//! under load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use harness::client::{Answer, Client, EPHEMERAL, Op, Session};
use harness::load::Load;
use harness::rng::{Rng, base_seed};
use harness::server::Setup;
use harness::wire::Stat;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Writers at work at the same time, each with its own connection.
const WRITERS: u64 = 3;

/// Requests that each writer keeps in flight.
const DEPTH: usize = 24;

/// Longest wait for what only takes time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills of the loop.
const KILLS: u64 = 50;

fn connect(address: SocketAddr) -> Client {
    Client::connect(address, 30_000).expect("the server takes a new session")
}

/// Leaves a session behind that has the ephemeral `path`. Its short timeout may run out before, on a
/// machine that does something else for a second; then another one is left behind.
fn abandon(address: SocketAddr, path: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::connect(address, 1_000).expect("a new session");
        match client.create(path, b"", EPHEMERAL) {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "an ephemeral: {error}"),
        }
    }
}

/// The sessions that live, end and are left behind while the server is killed.
struct Sessions {
    living: Session,
    living_zxid: i64,
    living_nodes: Vec<String>,
}

impl Sessions {
    fn begin(address: SocketAddr) -> Sessions {
        let mut client = Client::connect(address, 5_000).expect("a new session");
        for parent in ["/living", "/closed", "/abandoned"] {
            client.create(parent, b"", 0).expect("a parent for ephemerals");
        }
        Sessions {
            living: client.session.clone(),
            living_zxid: client.last_zxid,
            living_nodes: Vec::new(),
        }
    }

    /// Before a crash: one more ephemeral of each kind. Returns the session that was closed.
    fn add(&mut self, address: SocketAddr, round: u64) -> Session {
        let mut living =
            Client::resume(address, &self.living, self.living_zxid).expect("the session lives on");
        let name = format!("n{round:03}");
        living.create(&format!("/living/{name}"), b"", EPHEMERAL).expect("an ephemeral");
        self.living_zxid = living.last_zxid;
        self.living_nodes.push(name);
        abandon(address, &format!("/abandoned/n{round:03}"));
        let mut closed = connect(address);
        closed.create(&format!("/closed/n{round:03}"), b"", EPHEMERAL).expect("an ephemeral");
        let session = closed.session.clone();
        closed.close().expect("the session can be closed");
        session
    }

    /// After the restart: the living session has all of its ephemerals, the closed one is gone.
    fn check(&mut self, address: SocketAddr, closed: &Session) {
        let mut living =
            Client::resume(address, &self.living, self.living_zxid).expect("the session lives on");
        assert_eq!(living.children("/living").unwrap(), Some(self.living_nodes.clone()));
        assert_eq!(living.children("/closed").unwrap(), Some(Vec::new()));
        let (_, stat) = living.get(&format!("/living/{}", self.living_nodes[0])).unwrap().unwrap();
        assert_eq!(stat.ephemeral_owner, self.living.id);
        let refused = Client::resume(address, closed, 0).err().expect("the session was closed");
        assert_eq!(refused.kind(), std::io::ErrorKind::NotFound);
    }

    /// With the server left alone: the abandoned sessions expire, the living one goes on.
    fn check_expiry(&self, address: SocketAddr) {
        let mut living =
            Client::resume(address, &self.living, self.living_zxid).expect("the session lives on");
        let deadline = Instant::now() + PATIENCE;
        while living.children("/abandoned").unwrap() != Some(Vec::new()) {
            assert!(Instant::now() < deadline, "abandoned sessions keep their ephemerals");
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(living.children("/living").unwrap(), Some(self.living_nodes.clone()));
        living.close().expect("the session can be closed");
        assert_eq!(connect(address).children("/living").unwrap(), Some(Vec::new()));
    }
}

#[test]
fn fifty_kills_under_load_lose_nothing_that_was_acknowledged() {
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("tickTime=250")
        .with("maxSessionTimeout=60000")
        .with("snapCount=2000")
        .with("autopurge.purgeInterval=1")
        .with("ringkeeper.segmentSizeKb=1024");
    let mut server = setup.start();
    let address = server.address;
    let mut load = Load::begin(address, seed, WRITERS, DEPTH);
    let mut sessions = Sessions::begin(address);
    for round in 0..KILLS {
        let pause = Duration::from_millis(150) + rng.duration_below(Duration::from_millis(700));
        let mut closed = None;
        load.run_until(address, || {
            closed = Some(sessions.add(address, round));
            thread::sleep(pause);
            server.kill();
        });
        server = setup.start();
        load.find_again(address);
        sessions.check(address, &closed.expect("the closure ran"));
    }
    sessions.check_expiry(address);
    let acknowledged = load.acknowledged();
    println!("{acknowledged} writes acknowledged between {KILLS} kills, seed {seed}");
    assert!(acknowledged > KILLS * 100, "only {acknowledged} writes: the load was no load");
}

/// Every znode with its data and status.
type Dump = BTreeMap<String, (Vec<u8>, Stat)>;

/// The name of every container.
const CONTAINER: &str = "container";

/// What there is, once the server has deleted all containers: each had a child once.
fn settled(client: &mut Client) -> Dump {
    let began = Instant::now();
    while dump(client).keys().any(|path| path.ends_with(CONTAINER)) {
        assert!(began.elapsed() < Duration::from_secs(60), "containers are left");
        thread::sleep(Duration::from_millis(20));
    }
    // A dump is not of one moment, as long as something changes.
    dump(client)
}

fn dump(client: &mut Client) -> Dump {
    let mut dump = Dump::new();
    let mut paths = vec!["/".to_owned()];
    while let Some(path) = paths.pop() {
        let Some(node) = client.get(&path).unwrap() else { continue };
        let below = |name: String| format!("{}/{name}", path.trim_end_matches('/'));
        paths.extend(client.children(&path).unwrap().unwrap_or_default().into_iter().map(below));
        dump.insert(path, node);
    }
    dump
}

/// The counts of the quota on `root` that `dump` should have, and has.
fn counts(dump: &Dump, root: &str) -> (String, String) {
    let stats = &dump[&format!("/zookeeper/quota{root}/zookeeper_stats")].0;
    let below = format!("{root}/");
    let within = dump.iter().filter(|(path, _)| *path == root || path.starts_with(&below));
    let (count, bytes) =
        within.fold((0, 0), |(count, bytes), (_, (data, _))| (count + 1, bytes + data.len()));
    (format!("count={count},bytes={bytes}"), String::from_utf8(stats.clone()).unwrap())
}

#[test]
fn after_a_kill_every_znode_and_every_count_of_a_quota_is_as_it_was() {
    let seed = base_seed(7);
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("snapCount=150")
        .with("enforceQuota=true")
        .with("znode.container.checkIntervalMs=20")
        .with("znode.container.maxPerMinute=60000");
    let mut server = setup.start();
    let mut client = Client::connect(server.address, 30_000).unwrap();
    for root in ["/a", "/b"] {
        client.create(root, b"", 0).unwrap();
        let quota = format!("/zookeeper/quota{root}");
        client.create(&quota, b"", 0).unwrap();
        let limits = "count=-1,bytes=-1=;byteHardLimit=120;countHardLimit=12";
        client.create(&format!("{quota}/zookeeper_limits"), limits.as_bytes(), 0).unwrap();
        client.create(&format!("{quota}/zookeeper_stats"), b"", 0).unwrap();
    }
    let mut done = 0;
    for _ in 0..8 {
        for _ in 0..10 {
            let ops: Vec<Op> = (0..40).map(|_| quota_op(&mut rng)).collect();
            client.submit_all(&ops).unwrap();
            for _ in &ops {
                let answer = client.receive().unwrap().answer;
                done += u32::from(!matches!(answer, Answer::Refused(_)));
            }
        }
        let before = settled(&mut client);
        for root in ["/a", "/b"] {
            let (expected, counted) = counts(&before, root);
            assert_eq!(counted, expected, "{root}");
        }
        let (session, last_zxid) = (client.session.clone(), client.last_zxid);
        server.kill();
        server = setup.start();
        client = Client::resume(server.address, &session, last_zxid).unwrap();
        assert_eq!(settled(&mut client), before);
    }
    assert!(done > 500, "only {done} of the writes were taken");
}

/// A write at or below a quota root, or to its quota; now and then one that fails half way.
fn quota_op(rng: &mut Rng) -> Op {
    const PATHS: [&str; 10] =
        ["/a/x", "/a/x/y", "/a/z", "/a", "/b", "/b/x", "/b/x/y", "/b/z", "/c", "/c/d"];
    let path = PATHS[rng.below(10) as usize].to_owned();
    let data = vec![b'x'; rng.below(40) as usize];
    let create =
        |path: &String, flags| Op::Create { path: path.clone(), data: data.clone(), flags };
    let delete = |path: String| Op::Delete { path, version: -1 };
    match rng.below(10) {
        0..=2 => create(&path, if rng.below(4) == 0 { EPHEMERAL } else { 0 }),
        3..=5 => Op::SetData { path, data, version: -1 },
        6 => delete(path),
        7 => {
            let path = format!("{path}/{CONTAINER}");
            let (child, container) = (format!("{path}/child"), 4);
            Op::Multi(vec![create(&path, container), create(&child, 0), delete(child)])
        }
        8 => {
            let set = Op::SetData { path: path.clone(), data: data.clone(), version: -1 };
            let fails = Op::Check { path: "/none".to_owned(), version: -1 };
            Op::Multi(vec![set, create(&format!("{path}/new"), 0), delete(path), fails])
        }
        _ => {
            let limits = "/zookeeper/quota/a/zookeeper_limits".to_owned();
            let stats = "/zookeeper/quota/a/zookeeper_stats".to_owned();
            let text = b"count=9,bytes=-1".to_vec();
            let again = |path: &String, data: &[u8]| Op::Create {
                path: path.clone(),
                data: data.to_vec(),
                flags: 0,
            };
            Op::Multi(vec![
                delete(limits.clone()),
                again(&limits, &text),
                delete(limits.clone()),
                create(&path, 0),
                again(&limits, &text),
                delete(stats.clone()),
                again(&stats, b"nonsense"),
            ])
        }
    }
}
