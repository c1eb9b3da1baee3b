//! The quorum port's links on executors of their own, over loopback: leaders, learners, and peers
//! that mean ill.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use harness::server::free_port;
use ringkeeper::ids::Zxid;
use ringkeeper::jute::quorum::{PacketType, QuorumPacket};
use ringkeeper::limits::LINKS_MAX;
use ringkeeper::peers::address::PeerAddress;
use ringkeeper::peers::link::LinkLoss;
use ringkeeper::peers::link_dial::DialSettings;
use ringkeeper::peers::links::{LinkEvent, Links};
use ringkeeper::rt::cores::{self, CoreSettings};
use ringkeeper::rt::net;
use ringkeeper::rt::timer::Sleep;
use ringkeeper::zab::step::LinkId;

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

const DIAL: DialSettings = DialSettings {
    tries: 5,
    pause: Duration::from_millis(100),
    connect_timeout: PATIENCE,
    within: PATIENCE,
};

/// Runs a test on an executor.
fn on_a_core<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let name = "links".to_owned();
    let settings = CoreSettings { name, cpu: None, spin_before_park: Duration::ZERO };
    let core = cores::start(settings, test, |made| made.expect("an executor")).unwrap();
    core.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The next event of one of these, and whose it is.
async fn next_of(all: &mut [&mut Links]) -> (usize, LinkEvent) {
    let mut late = Sleep::new(PATIENCE);
    poll_fn(|context| {
        for (index, links) in all.iter_mut().enumerate() {
            if let Poll::Ready(event) = links.poll(context) {
                return Poll::Ready((index, event));
            }
        }
        assert!(Pin::new(&mut late).poll(context).is_pending(), "nothing happens");
        Poll::Pending
    })
    .await
}

async fn next(links: &mut Links) -> LinkEvent {
    next_of(&mut [links]).await.1
}

/// Lets some time pass; whatever happens then is unexpected.
async fn rest(all: &mut [&mut Links]) {
    let mut over = Sleep::new(Duration::from_millis(100));
    poll_fn(|context| {
        for links in all.iter_mut() {
            if let Poll::Ready(event) = links.poll(context) {
                panic!("{event:?}");
            }
        }
        Pin::new(&mut over).poll(context)
    })
    .await;
}

fn packet(number: i64, data: usize) -> QuorumPacket {
    QuorumPacket::with_data(PacketType::PROPOSAL, Zxid::from_bits(number), vec![7; data])
}

fn listen(links: &mut Links) -> SocketAddr {
    let listener = net::listen("127.0.0.1:0".parse().unwrap(), 128).unwrap();
    let address = listener.local_addr().unwrap();
    links.listen(vec![listener]).unwrap();
    address
}

/// A leader and a learner, and the link as each of them knows it.
struct Pair {
    leader: Links,
    to_learner: LinkId,
    learner: Links,
    to_leader: LinkId,
}

impl Pair {
    async fn new() -> Pair {
        let (mut leader, mut learner) = (Links::new(PATIENCE), Links::new(PATIENCE));
        let address = listen(&mut leader);
        learner.dial(vec![address.into()], DIAL);
        let mut ends = [None; 2];
        while ends.contains(&None) {
            match next_of(&mut [&mut leader, &mut learner]).await {
                (index, LinkEvent::Linked { link, dialed, .. }) => {
                    assert_eq!(dialed, index == 1);
                    ends[index] = Some(link);
                }
                other => panic!("{other:?}"),
            }
        }
        let [to_learner, to_leader] = ends.map(Option::unwrap);
        Pair { leader, to_learner, learner, to_leader }
    }

    /// Takes packets at both ends until this many have come to the learner.
    async fn learner_takes(&mut self, count: usize) -> Vec<QuorumPacket> {
        let mut taken = Vec::new();
        while taken.len() < count {
            match next_of(&mut [&mut self.leader, &mut self.learner]).await {
                (1, LinkEvent::Packets(from, packets)) => {
                    assert_eq!(from, self.to_leader);
                    taken.extend(packets);
                }
                other => panic!("{other:?}"),
            }
        }
        taken
    }
}

/// A learner's socket without our code behind it.
async fn raw_learner(leader: &mut Links) -> (TcpStream, LinkId) {
    let address = listen(leader);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match next(leader).await {
        LinkEvent::Linked { link, peer, dialed: false } => {
            assert_eq!(peer, stream.local_addr().unwrap());
            assert_eq!(leader.peer(link), Some(peer));
            (stream, link)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_go_both_ways_in_order() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        for number in 0..20_000 {
            pair.leader.send(pair.to_learner, &packet(number, 30));
        }
        pair.learner.send(pair.to_leader, &packet(7, 0));
        let (mut at_learner, mut at_leader) = (0, Vec::new());
        while at_learner < 20_000 || at_leader.is_empty() {
            match next_of(&mut [&mut pair.leader, &mut pair.learner]).await {
                (1, LinkEvent::Packets(_, packets)) => {
                    for taken in packets {
                        assert_eq!(taken, packet(at_learner, 30));
                        at_learner += 1;
                    }
                }
                (0, LinkEvent::Packets(from, packets)) => {
                    assert_eq!(from, pair.to_learner);
                    at_leader.extend(packets);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at_leader, [packet(7, 0)]);
        assert_eq!(pair.leader.waiting(pair.to_learner), 0);
    });
}

#[test]
fn a_packet_of_many_megabytes_passes() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        let sent = [packet(1, 30 << 20), packet(2, 0)];
        sent.iter().for_each(|packet| pair.leader.send(pair.to_learner, packet));
        assert!(pair.learner_takes(2).await == sent, "they came, but changed");
    });
}

#[test]
fn a_link_that_is_not_read_holds_its_peer_up() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        pair.learner.pause(pair.to_leader);
        // More than the kernel buffers at both ends together.
        let count = 64;
        for number in 0..count {
            pair.leader.send(pair.to_learner, &packet(number, 1 << 20));
        }
        rest(&mut [&mut pair.leader, &mut pair.learner]).await;
        assert!(pair.leader.waiting(pair.to_learner) > 0);
        pair.learner.resume(pair.to_leader);
        let taken = pair.learner_takes(count as usize).await;
        let numbers: Vec<i64> = taken.iter().map(|packet| packet.zxid.bits()).collect();
        assert!(numbers.is_sorted());
        assert_eq!(taken.len(), count as usize);
    });
}

#[test]
fn a_snapshot_passes_between_packets_from_thread_to_thread() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        let snap = QuorumPacket::bare(PacketType::SNAP, Zxid::from_bits(9));
        let length = 20 << 20;
        let content = |at: usize| (at / 7) as u8;
        pair.leader.send(pair.to_learner, &packet(1, 5));
        pair.leader.send(pair.to_learner, &snap);
        let stream = pair.leader.send_stream(pair.to_learner).unwrap();
        pair.leader.send(pair.to_learner, &packet(2, 5));
        let making = std::thread::spawn(move || {
            let whole: Vec<u8> = (0..length).map(content).collect();
            for chunk in whole.chunks(99_999) {
                stream.send(chunk.to_vec()).unwrap();
            }
            stream.finish();
        });
        assert_eq!(pair.learner_takes(2).await, [packet(1, 5), snap]);
        let mut stream = pair.learner.receive_stream(pair.to_leader).unwrap();
        let taking = std::thread::spawn(move || {
            let mut taken = vec![0; length];
            stream.read_exact(&mut taken).unwrap();
            assert!(taken.iter().enumerate().all(|(at, &byte)| byte == content(at)));
            stream.finish();
        });
        assert_eq!(pair.learner_takes(1).await, [packet(2, 5)]);
        making.join().unwrap();
        taking.join().unwrap();
        // And packets go on.
        pair.leader.send(pair.to_learner, &packet(3, 5));
        assert_eq!(pair.learner_takes(1).await, [packet(3, 5)]);
    });
}

#[test]
fn a_snapshot_that_is_not_completed_costs_the_link() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        let snap = QuorumPacket::bare(PacketType::SNAP, Zxid::from_bits(9));
        pair.leader.send(pair.to_learner, &snap);
        let maker = pair.leader.send_stream(pair.to_learner).unwrap();
        maker.send(b"half of it".to_vec()).unwrap();
        drop(maker);
        pair.leader.send(pair.to_learner, &packet(2, 5));
        let mut taking = None;
        let mut lost = [false; 2];
        while lost.contains(&false) {
            match next_of(&mut [&mut pair.leader, &mut pair.learner]).await {
                (1, LinkEvent::Packets(link, _)) => {
                    let mut stream = pair.learner.receive_stream(link).unwrap();
                    taking = Some(std::thread::spawn(move || {
                        let mut taken = Vec::new();
                        let error = stream.read_to_end(&mut taken).unwrap_err();
                        (taken, error.kind())
                    }));
                }
                (0, LinkEvent::Lost(_, LinkLoss::SnapshotBroken)) => lost[0] = true,
                (1, LinkEvent::Lost(_, LinkLoss::Closed)) => lost[1] = true,
                other => panic!("{other:?}"),
            }
        }
        let (taken, kind) = taking.expect("the SNAP came").join().unwrap();
        assert_eq!((&taken[..], kind), (&b"half of it"[..], std::io::ErrorKind::UnexpectedEof));
    });
}

#[test]
fn a_snapshot_that_is_refused_costs_the_link() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        let snap = QuorumPacket::bare(PacketType::SNAP, Zxid::from_bits(9));
        pair.leader.send(pair.to_learner, &snap);
        let maker = pair.leader.send_stream(pair.to_learner).unwrap();
        let making = std::thread::spawn(move || {
            // Until nobody wants it any more.
            while maker.send(vec![0; 10_000]).is_ok() {}
        });
        assert_eq!(pair.learner_takes(1).await, [snap]);
        drop(pair.learner.receive_stream(pair.to_leader).unwrap());
        let mut lost = 0;
        while lost < 2 {
            match next_of(&mut [&mut pair.leader, &mut pair.learner]).await {
                (1, LinkEvent::Lost(_, LinkLoss::SnapshotRefused)) => lost += 1,
                (0, LinkEvent::Lost(_, LinkLoss::Closed | LinkLoss::Io(_))) => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        making.join().unwrap();
    });
}

#[test]
fn packets_are_taken_from_whatever_pieces_the_network_makes_of_them() {
    on_a_core(|| async {
        let mut leader = Links::new(PATIENCE);
        let (mut stream, link) = raw_learner(&mut leader).await;
        let sent: Vec<_> = (0..50).map(|number| packet(number, 40)).collect();
        let mut bytes = Vec::new();
        sent.iter().for_each(|packet| packet.encode(&mut bytes));
        let sending = std::thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            for piece in bytes.chunks(11) {
                stream.write_all(piece).unwrap();
            }
            stream
        });
        let mut taken = Vec::new();
        while taken.len() < sent.len() {
            match next(&mut leader).await {
                LinkEvent::Packets(from, packets) => {
                    assert_eq!(from, link);
                    taken.extend(packets);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken, sent);
        drop(sending.join().unwrap());
        let lost = next(&mut leader).await;
        assert!(matches!(lost, LinkEvent::Lost(of, LinkLoss::Closed) if of == link), "{lost:?}");
        assert_eq!(leader.peer(link), None);
        // Nobody hears it, and nothing breaks.
        leader.send(link, &packet(1, 1));
        assert!(leader.send_stream(link).is_none());
    });
}

#[test]
fn a_learner_that_breaks_the_protocol_loses_its_link_and_nobody_elses() {
    on_a_core(|| async {
        let mut leader = Links::new(PATIENCE);
        let (mut good, good_link) = raw_learner(&mut leader).await;
        let (mut bad, bad_link) = raw_learner(&mut leader).await;
        bad.write_all(&[0x7f; 100]).unwrap();
        match next(&mut leader).await {
            LinkEvent::Lost(link, LinkLoss::Packet(_)) => assert_eq!(link, bad_link),
            other => panic!("{other:?}"),
        }
        leader.send(good_link, &packet(1, 3));
        let mut expected = Vec::new();
        packet(1, 3).encode(&mut expected);
        let mut got = vec![0; expected.len()];
        let reading = std::thread::spawn(move || {
            good.read_exact(&mut got).unwrap();
            (got, good)
        });
        while !reading.is_finished() {
            rest(&mut [&mut leader]).await;
        }
        assert_eq!(reading.join().unwrap().0, expected);
    });
}

#[test]
fn a_peer_that_is_silent_for_too_long_loses_its_link() {
    on_a_core(|| async {
        let mut leader = Links::new(Duration::from_millis(50));
        let (_silent, link) = raw_learner(&mut leader).await;
        let lost = next(&mut leader).await;
        assert!(matches!(lost, LinkEvent::Lost(of, LinkLoss::Silent(_)) if of == link));
        // Who is not read is not silent, until it is read again.
        leader = Links::new(PATIENCE);
        let (_silent, link) = raw_learner(&mut leader).await;
        leader.pause(link);
        leader.set_patience(link, Duration::from_millis(50));
        rest(&mut [&mut leader]).await;
        leader.resume(link);
        let lost = next(&mut leader).await;
        assert!(matches!(lost, LinkEvent::Lost(of, LinkLoss::Silent(_)) if of == link));
    });
}

#[test]
fn a_leader_that_falls_silent_in_the_middle_of_a_snapshot_loses_its_link() {
    on_a_core(|| async {
        let mut learner = Links::new(PATIENCE);
        let (mut stream, link) = raw_learner(&mut learner).await;
        let mut bytes = Vec::new();
        QuorumPacket::bare(PacketType::SNAP, Zxid::ZERO).encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
        assert!(matches!(next(&mut learner).await, LinkEvent::Packets(..)));
        stream.write_all(b"half of it").unwrap();
        // Who does not take the snapshot yet does not wait for it either.
        learner.set_patience(link, Duration::from_millis(50));
        rest(&mut [&mut learner]).await;
        let mut snapshot = learner.receive_stream(link).unwrap();
        let taking = std::thread::spawn(move || snapshot.read_to_end(&mut Vec::new()).is_err());
        let lost = next(&mut learner).await;
        assert!(matches!(lost, LinkEvent::Lost(of, LinkLoss::Silent(_)) if of == link), "{lost:?}");
        assert!(taking.join().unwrap());
    });
}

#[test]
fn there_is_an_end_to_the_links_of_a_server() {
    on_a_core(|| async {
        let mut leader = Links::new(PATIENCE);
        let address = listen(&mut leader);
        let mut learners = Vec::new();
        for _ in 0..LINKS_MAX {
            learners.push(TcpStream::connect(address).unwrap());
            assert!(matches!(next(&mut leader).await, LinkEvent::Linked { .. }));
        }
        let mut refused = TcpStream::connect(address).unwrap();
        refused.set_read_timeout(Some(PATIENCE)).unwrap();
        let reading = std::thread::spawn(move || refused.read(&mut [0]).unwrap());
        while !reading.is_finished() {
            rest(&mut [&mut leader]).await;
        }
        assert_eq!(reading.join().unwrap(), 0);
    });
}

#[test]
fn a_leader_that_listens_late_is_found() {
    on_a_core(|| async {
        let (mut leader, mut learner) = (Links::new(PATIENCE), Links::new(PATIENCE));
        let port = free_port();
        let settings = DialSettings { tries: 10_000, pause: Duration::from_millis(1), ..DIAL };
        let nowhere = PeerAddress::new("127.0.0.1", free_port());
        learner.dial(vec![nowhere, PeerAddress::new("localhost", port)], settings);
        rest(&mut [&mut learner]).await;
        let listener = net::listen(SocketAddr::from(([127, 0, 0, 1], port)), 16).unwrap();
        leader.listen(vec![listener]).unwrap();
        let mut linked = 0;
        while linked < 2 {
            match next_of(&mut [&mut leader, &mut learner]).await {
                (_, LinkEvent::Linked { .. }) => linked += 1,
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_leader_that_never_listens_is_unreachable() {
    on_a_core(|| async {
        let mut learner = Links::new(PATIENCE);
        let nobody = PeerAddress::new("127.0.0.1", free_port());
        let settings = DialSettings { tries: 3, pause: Duration::from_millis(1), ..DIAL };
        learner.dial(vec![nobody.clone()], settings);
        assert!(matches!(next(&mut learner).await, LinkEvent::Unreachable(_)));
        learner.dial(vec![], settings);
        assert!(matches!(next(&mut learner).await, LinkEvent::Unreachable(_)));
        // Who has stopped is told nothing.
        learner.dial(vec![nobody], settings);
        learner.stop_dialing();
        rest(&mut [&mut learner]).await;
    });
}

#[test]
fn who_listens_no_more_may_listen_again_at_once() {
    on_a_core(|| async {
        let mut leader = Links::new(PATIENCE);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        for _ in 0..3 {
            leader.listen(vec![net::listen(address, 16).unwrap()]).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let linked = next(&mut leader).await;
            let LinkEvent::Linked { link, .. } = linked else { panic!("{linked:?}") };
            leader.stop_listening();
            leader.close(link);
        }
        assert!(TcpStream::connect(address).is_err());
    });
}

#[test]
fn a_link_that_is_closed_ends_at_its_peer() {
    on_a_core(|| async {
        let mut pair = Pair::new().await;
        pair.leader.close(pair.to_learner);
        let lost = next_of(&mut [&mut pair.leader, &mut pair.learner]).await;
        assert!(matches!(lost, (1, LinkEvent::Lost(_, LinkLoss::Closed))), "{lost:?}");
    });
}
