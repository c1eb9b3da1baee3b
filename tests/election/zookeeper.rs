//! A live Apache ZooKeeper (`tests/clients/zookeeper`) elects together with our port and `zab`'s
//! election.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::server::{Server, Setup, free_port};
use ringkeeper::ids::{Epoch, ServerId, Zxid};
use ringkeeper::jute::election::{Notification, PeerState};
use ringkeeper::zab::election::{Election, Settled, Vote, Wish};
use ringkeeper::zab::quorum::Voters;

use super::{Ensemble, Member, id};

/// The JVM's id: ours is below or above it.
const JVM: i64 = 2;

/// Longest wait for the JVM, its start included.
const PATIENCE: Duration = Duration::from_secs(180);

fn zookeeper(ensemble: &Ensemble, folder: &Path) -> Server {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/zookeeper");
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("myid"), JVM.to_string()).unwrap();
    let mut setup = Setup::of_program(program, &data, folder)
        .with("tickTime=500")
        .with("initLimit=20")
        .with("syncLimit=10");
    for number in [1, 2, 3] {
        let election = ensemble.address(number).port();
        let quorum = free_port();
        setup = setup.with(&format!("server.{number}=127.0.0.1:{quorum}:{election}"));
    }
    setup.launch()
}

/// One of our servers, which looks for a leader, and what it knows.
struct Looking {
    me: ServerId,
    member: Member,
    election: Election,
    begun: Instant,
    /// What the JVM said.
    heard: Vec<Notification>,
}

impl Looking {
    fn new(me: i64, ensemble: &Ensemble) -> Looking {
        let election = begin(id(me), 0, 0);
        let looking = Looking {
            me: id(me),
            member: ensemble.start(me),
            election,
            begun: Instant::now(),
            heard: Vec::new(),
        };
        looking.tell(id(JVM), PeerState::Looking, looking.election.proposal());
        looking
    }

    fn tell(&self, to: ServerId, state: PeerState, settled: Settled) {
        let Settled { vote: Vote { leader, zxid, epoch }, round } = settled;
        let config = Some(String::new());
        let said = Notification { state, leader, zxid, round, epoch, version: 2, config };
        self.member.port.send(to, said);
    }

    /// The next that the JVM says, if it says something soon.
    fn next(&mut self) -> Option<Notification> {
        let (from, said) = self.member.heard.recv_timeout(Duration::from_millis(20)).ok()?;
        assert_eq!(from, id(JVM));
        self.heard.push(said.clone());
        Some(said)
    }

    fn elect(&mut self, zookeeper: &Server) -> Settled {
        loop {
            assert!(self.begun.elapsed() < PATIENCE, "{:?}\n{}", self.heard, zookeeper.output());
            let said = self.next();
            let now_ms = self.begun.elapsed().as_millis() as u64;
            let mut wishes = match said {
                Some(said) => self.election.hear(id(JVM), &said, now_ms),
                None => Vec::new(),
            };
            wishes.extend(self.election.tick(now_ms));
            for wish in wishes {
                match wish {
                    Wish::TellAll => {
                        self.tell(id(JVM), PeerState::Looking, self.election.proposal());
                    }
                    Wish::Tell(to) => self.tell(to, PeerState::Looking, self.election.proposal()),
                    Wish::Elected(settled) => return settled,
                }
            }
        }
    }

    /// Elects, and then answers as one that does not look any more, until the JVM says that it is
    /// in this state. Nobody is there to lead or to follow, so it soon looks again: then so do we.
    fn settle(&mut self, theirs: PeerState, zookeeper: &Server) -> Settled {
        loop {
            let settled = self.elect(zookeeper);
            if self.is_settled(settled, theirs, zookeeper) {
                return settled;
            }
            let now_ms = self.begun.elapsed().as_millis() as u64;
            self.election = begin(self.me, settled.round, now_ms);
        }
    }

    /// False: it looks again.
    fn is_settled(&mut self, settled: Settled, theirs: PeerState, zookeeper: &Server) -> bool {
        let ours = match settled.vote.leader == self.me {
            true => PeerState::Leading,
            false => PeerState::Following,
        };
        loop {
            assert!(self.begun.elapsed() < PATIENCE, "{:?}\n{}", self.heard, zookeeper.output());
            match self.next() {
                Some(said) if said.state == theirs && said.leader == settled.vote.leader => {
                    return true;
                }
                Some(said) if said.round > settled.round => return false,
                Some(_) => self.tell(id(JVM), ours, settled),
                // It answers those who look.
                None => self.tell(id(JVM), PeerState::Looking, settled),
            }
        }
    }
}

fn begin(me: ServerId, last_round: i64, now_ms: u64) -> Election {
    let voters = Voters::majority([1, 2, 3].map(id).to_vec());
    let own = Vote::own(me, Zxid::ZERO, Epoch::new(0));
    Election::begin(me, voters, own, last_round, now_ms)
}

#[test]
fn we_are_elected_when_our_id_is_the_larger() {
    let folder = tempfile::tempdir().unwrap();
    let ensemble = Ensemble::new(&[1, 2, 3]);
    let zookeeper = zookeeper(&ensemble, folder.path());
    let mut ours = Looking::new(3, &ensemble);
    let settled = ours.settle(PeerState::Following, &zookeeper);
    assert_eq!(settled.vote.leader, id(3));
    let config = ours.heard.iter().find_map(|said| said.config.clone());
    assert!(config.is_some_and(|text| text.contains("server.3=")), "{:?}", ours.heard);
}

#[test]
fn zookeeper_is_elected_when_its_id_is_the_larger() {
    let folder = tempfile::tempdir().unwrap();
    let ensemble = Ensemble::new(&[1, 2, 3]);
    let mut ours = Looking::new(1, &ensemble);
    // It comes late, and is called until it is there.
    let zookeeper = zookeeper(&ensemble, folder.path());
    let settled = ours.settle(PeerState::Leading, &zookeeper);
    assert_eq!(settled.vote.leader, id(JVM));
}
