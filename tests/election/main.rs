//! The election port among its own kind, against bytes that JVM servers sent, against callers that
//! mean ill, and with a live ZooKeeper as peer.

mod callers;
mod captures;
mod peers;
mod zookeeper;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use harness::server::free_port;
use ringkeeper::ids::{ServerId, Zxid};
use ringkeeper::jute::election::{Notification, PeerState};
use ringkeeper::peers::address::PeerAddress;
use ringkeeper::peers::election_port::{ElectionConfig, ElectionPort};

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn id(number: i64) -> ServerId {
    ServerId::new(number)
}

fn loopback(port: u16) -> PeerAddress {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

/// A vote for `leader` in `round`.
fn looking(leader: i64, round: i64) -> Notification {
    Notification {
        state: PeerState::Looking,
        leader: id(leader),
        zxid: Zxid::ZERO,
        round,
        epoch: 0,
        version: 2,
        config: Some(String::new()),
    }
}

/// Addresses of an ensemble on this host.
struct Ensemble(BTreeMap<ServerId, Vec<PeerAddress>>);

impl Ensemble {
    fn new(ids: &[i64]) -> Ensemble {
        Ensemble(ids.iter().map(|&number| (id(number), vec![loopback(free_port())])).collect())
    }

    fn address(&self, of: i64) -> SocketAddr {
        let [address] = &self.0[&id(of)][..] else { panic!("one address") };
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    }

    fn config(&self, me: i64) -> ElectionConfig {
        let mut peers = self.0.clone();
        ElectionConfig {
            me: id(me),
            own: peers.remove(&id(me)).expect("it is a member"),
            announce_all: false,
            listen_on_all_ips: false,
            bind_tries: 3,
            peers,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: PATIENCE,
            keepalive: true,
        }
    }

    fn start(&self, me: i64) -> Member {
        Member::start(self.config(me))
    }
}

/// A port, and what it delivers.
struct Member {
    port: ElectionPort,
    heard: Receiver<(ServerId, Notification)>,
}

impl Member {
    fn start(config: ElectionConfig) -> Member {
        let (deliver, heard) = channel();
        let port = ElectionPort::start(config, move |from, notification| {
            // The test may be over.
            let _ = deliver.send((from, notification));
        });
        Member { port: port.expect("the port is free"), heard }
    }

    fn hear(&self) -> (i64, Notification) {
        let (from, said) = self.heard.recv_timeout(PATIENCE).expect("something is said");
        (from.number(), said)
    }

    /// Waits until `from` says what was sent in `round`.
    fn hear_round(&self, from: i64, round: i64) {
        while self.hear() != (from, looking(from, round)) {}
    }
}

/// Waits until it holds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
