//! What was acknowledged is there after whatever happens to the process: killed, again and again,
//! under load.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use harness::client::{Client, EPHEMERAL, Session};
use harness::load::Load;
use harness::rng::{Rng, base_seed};
use harness::server::Setup;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Writers at work at the same time, each with its own connection.
const WRITERS: u64 = 3;

/// Requests that each writer keeps in flight.
const DEPTH: usize = 24;

/// Kills of the loop.
const KILLS: u64 = 50;

fn connect(address: SocketAddr) -> Client {
    Client::connect(address, 5_000).expect("the server takes a new session")
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
        let mut abandoned = Client::connect(address, 1_000).expect("a new session");
        abandoned.create(&format!("/abandoned/n{round:03}"), b"", EPHEMERAL).expect("an ephemeral");
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
        let deadline = Instant::now() + Duration::from_secs(10);
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
