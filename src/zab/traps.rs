//! Orders of events that have cost ensembles their data or their service, each with the ticket of
//! Apache ZooKeeper that tells of it (zookeeper-formats, section 8). Tests alone.

use bytes::Bytes;

use super::packet::Packet;
use super::quorum::Voters;
use super::step::{Cast, Input, LinkId, LoggedTxn, Output, Reign, Service, Start, Violation, Zab};
use crate::ids::{Epoch, ServerId, Zxid};
use crate::jute::election::{Notification, PeerState};

const LINK: LinkId = LinkId(1);
const TICK_MS: u64 = 100;

fn zxid(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(Epoch::new(epoch), counter)
}

fn txn(epoch: u32, counter: u32) -> LoggedTxn {
    (zxid(epoch, counter), Bytes::from_static(b"txn"))
}

fn proposal(epoch: u32, counter: u32) -> Packet {
    let (zxid, txn) = txn(epoch, counter);
    Packet::Proposal(zxid, txn)
}

fn new_leader(epoch: u32) -> Packet {
    Packet::NewLeader { zxid: zxid(epoch, 0), config: Bytes::new() }
}

/// One server of three, by hand.
struct Server {
    zab: Zab,
    now_ms: u64,
}

impl Server {
    /// Server 1 of 1 to 3, in epoch 1, with these transactions in its log.
    fn new(log: Vec<LoggedTxn>) -> Server {
        let cast = Cast {
            me: ServerId::new(1),
            voters: Voters::majority([1, 2, 3].map(ServerId::new).to_vec()),
            tick_ms: TICK_MS,
            init_ticks: 10,
            sync_ticks: 5,
            config: Bytes::new(),
            config_version: 0,
        };
        let last_logged = log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        let (accepted, current) = (Epoch::new(1), Epoch::new(1));
        let zab = Zab::new(Start {
            cast,
            accepted,
            current,
            last_logged,
            newest: log,
            keep: 500,
            reign: Reign::New,
        });
        Server { zab, now_ms: 0 }
    }

    fn try_step(&mut self, input: Input) -> (Vec<Output>, Result<(), Violation>) {
        let mut out = Vec::new();
        let result = self.zab.step(self.now_ms, input, &mut out);
        (out, result)
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let (out, result) = self.try_step(input);
        result.unwrap();
        out
    }

    fn packet(&mut self, packet: Packet) -> Vec<Output> {
        self.step(Input::Packet { link: LINK, packet })
    }

    fn packet_of(&mut self, link: LinkId, packet: Packet) -> Vec<Output> {
        self.step(Input::Packet { link, packet })
    }

    /// Server `leader` says that it leads, and another that it follows it.
    fn elect(&mut self, leader: i64) -> Vec<Output> {
        self.step(Input::Begin);
        let mut out = Vec::new();
        for (from, state) in [(2, PeerState::Following), (3, PeerState::Leading)] {
            let (leader, zxid) = (ServerId::new(leader), Zxid::ZERO);
            let said =
                Notification { state, leader, zxid, round: 9, epoch: 2, version: 2, config: None };
            out = self.step(Input::Notification { from: ServerId::new(from), said });
        }
        out
    }

    /// A follower of server 3 that has promised epoch 2.
    fn follower(log: Vec<LoggedTxn>) -> Server {
        let mut server = Server::new(log);
        assert_eq!(server.elect(3), [Output::Connect(ServerId::new(3))]);
        server.step(Input::Linked(LINK));
        let ordered = server.packet(Packet::LeaderInfo(Epoch::new(2)));
        assert_eq!(ordered, [Output::WriteAccepted(Epoch::new(2))]);
        server.step(Input::AcceptedWritten(Epoch::new(2)));
        server
    }

    /// A leader of epoch 2 which server 2 has promised to follow, on link 2.
    fn leader(log: Vec<LoggedTxn>) -> (Server, Vec<Output>) {
        let mut server = Server::new(log);
        let voted = server.step(Input::Begin);
        let Some(Output::Notify { message, .. }) = voted.first() else { panic!("{voted:?}") };
        server.step(Input::Notification { from: ServerId::new(2), said: message.clone() });
        server.now_ms += 500;
        assert_eq!(server.step(Input::Tick), [Output::Listen]);
        server.introduce(LinkId(2), 2);
        server.step(Input::AcceptedWritten(Epoch::new(2)));
        let last_logged = server.zab.last_logged();
        let current = Some(Epoch::new(1));
        server.packet_of(LinkId(2), Packet::AckEpoch { last_logged, current });
        let taught = server.step(Input::CurrentWritten(Epoch::new(2)));
        (server, taught)
    }

    fn introduce(&mut self, link: LinkId, number: i64) -> Vec<Output> {
        self.step(Input::Linked(link));
        let packet = Packet::LearnerInfo {
            server: ServerId::new(number),
            observer: false,
            accepted: Epoch::new(1),
            config_version: 0,
        };
        self.packet_of(link, packet)
    }
}

fn sends(packet: Packet) -> Output {
    Output::Send { link: LINK, packet }
}

#[test]
fn zookeeper_2845_a_server_votes_with_what_it_logged_and_not_with_what_it_applied() {
    let mut server = Server::new(vec![txn(1, 1), txn(1, 2)]);
    let out = server.step(Input::Begin);
    let Some(Output::Notify { message, .. }) = out.first() else { panic!("{out:?}") };
    assert_eq!((message.zxid, message.epoch), (zxid(1, 2), 1));
    assert_eq!(server.zab.committed(), Zxid::ZERO);
}

#[test]
fn zookeeper_4712_nobody_votes_before_the_disk_has_done_what_the_last_role_ordered() {
    let mut server = Server::follower(vec![txn(1, 1)]);
    server.packet(Packet::Diff(zxid(1, 1)));
    server.packet(proposal(1, 2));
    server.packet(Packet::Commit(zxid(1, 2)));
    server.packet(new_leader(2));
    let left = server.step(Input::Lost(Some(LINK)));
    assert!(!left.iter().any(|it| matches!(it, Output::Notify { .. })), "{left:?}");
    let voted = server.step(Input::Durable(zxid(1, 2)));
    let Some(Output::Notify { message, .. }) = voted.first() else { panic!("{voted:?}") };
    assert_eq!(message.zxid, zxid(1, 2));
}

#[test]
fn zookeeper_2355_a_snapshot_that_breaks_off_leaves_everything_as_it_was() {
    let mut server = Server::follower(vec![txn(1, 1), txn(1, 2)]);
    let ordered = server.packet(Packet::Snap(zxid(2, 7)));
    assert_eq!(ordered, [Output::ReceiveSnapshot { link: LINK, zxid: zxid(2, 7) }]);
    server.step(Input::Lost(Some(LINK)));
    let voted = server.step(Input::SnapshotAborted);
    let Some(Output::Notify { message, .. }) = voted.first() else { panic!("{voted:?}") };
    assert_eq!((message.zxid, message.epoch), (zxid(1, 2), 1));
}

#[test]
fn zookeeper_3642_nothing_is_taken_behind_a_snapshot_before_it_is_durable() {
    let mut server = Server::follower(vec![txn(1, 1)]);
    server.packet(Packet::Snap(zxid(2, 7)));
    assert_eq!(server.packet(proposal(2, 8)), []);
    assert_eq!(server.packet(Packet::Commit(zxid(2, 8))), []);
    assert_eq!(server.packet(new_leader(2)), []);
    let (next, bytes) = txn(2, 8);
    let installed = server.step(Input::SnapshotInstalled(zxid(2, 7)));
    assert_eq!(installed, [Output::Append(next, bytes)]);
}

#[test]
fn zookeeper_3911_4646_the_history_is_acknowledged_when_it_is_durable() {
    let mut server = Server::follower(vec![txn(1, 1)]);
    server.packet(Packet::Diff(zxid(1, 3)));
    for counter in [2, 3] {
        server.packet(proposal(1, counter));
        server.packet(Packet::Commit(zxid(1, counter)));
    }
    let appended = server.packet(new_leader(2));
    assert!(appended.iter().all(|it| matches!(it, Output::Append(..))), "{appended:?}");
    assert_eq!(server.step(Input::Durable(zxid(1, 2))), [], "one is not durable yet");
    let durable = server.step(Input::Durable(zxid(1, 3)));
    assert_eq!(durable, [Output::WriteCurrent(Epoch::new(2))]);
    let adopted = server.step(Input::CurrentWritten(Epoch::new(2)));
    assert_eq!(adopted, [sends(Packet::Ack(zxid(2, 0)))]);
}

#[test]
fn zookeeper_4643_4785_the_epoch_becomes_current_behind_the_history() {
    let mut server = Server::follower(vec![]);
    server.packet(Packet::Diff(zxid(1, 1)));
    server.packet(proposal(1, 1));
    server.packet(Packet::Commit(zxid(1, 1)));
    let ordered = server.packet(new_leader(2));
    assert!(!ordered.contains(&Output::WriteCurrent(Epoch::new(2))), "{ordered:?}");
}

/// A follower that has the history and waits to serve, with a proposal that came before NEWLEADER.
fn waiting() -> Server {
    let mut server = Server::follower(vec![txn(1, 1)]);
    server.packet(Packet::Diff(zxid(1, 1)));
    server.packet(proposal(2, 1));
    server.packet(new_leader(2));
    let adopted = server.step(Input::CurrentWritten(Epoch::new(2)));
    assert_eq!(adopted, [sends(Packet::Ack(zxid(2, 0)))]);
    server
}

#[test]
fn zookeeper_4685_no_proposal_is_acknowledged_before_the_history() {
    let mut server = waiting();
    assert_eq!(server.packet(proposal(2, 2)), [], "not even logged");
    let served = server.packet(Packet::UpToDate);
    assert_eq!(served[0], sends(Packet::Ack(zxid(2, 0))));
    let acked = server.step(Input::Durable(zxid(2, 2)));
    assert_eq!(acked, [sends(Packet::Ack(zxid(2, 1))), sends(Packet::Ack(zxid(2, 2)))]);
}

#[test]
fn zookeeper_4394_a_commit_behind_newleader_of_a_proposal_before_it_is_taken() {
    let mut server = waiting();
    assert_eq!(server.packet(Packet::Commit(zxid(2, 1))), []);
    let served = server.packet(Packet::UpToDate);
    let service = Service::Following { leader: ServerId::new(3), epoch: Epoch::new(2) };
    assert!(served.contains(&Output::CommitThrough(zxid(2, 1))), "{served:?}");
    assert!(served.contains(&Output::Serve(service)), "{served:?}");
}

#[test]
fn zookeeper_4394_a_leader_sends_what_is_proposed_behind_newleader() {
    let (mut server, _) = Server::leader(vec![txn(1, 1)]);
    server.packet_of(LinkId(2), Packet::Ack(zxid(2, 0)));
    let (first, bytes) = txn(2, 1);
    server.step(Input::Proposed(first, bytes));
    server.introduce(LinkId(3), 3);
    let (last_logged, current) = (zxid(1, 1), Some(Epoch::new(1)));
    let taught = server.packet_of(LinkId(3), Packet::AckEpoch { last_logged, current });
    let names: Vec<_> = taught
        .iter()
        .map(|it| match it {
            Output::Send { packet, .. } => packet.name(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["DIFF", "NEWLEADER", "PROPOSAL"]);
}

#[test]
fn an_acknowledgement_that_comes_too_early_counts_once_the_history_is_acknowledged() {
    let (mut server, _) = Server::leader(vec![txn(1, 1)]);
    server.packet_of(LinkId(2), Packet::Ack(zxid(2, 0)));
    server.introduce(LinkId(3), 3);
    let (last_logged, current) = (zxid(1, 1), Some(Epoch::new(1)));
    server.packet_of(LinkId(3), Packet::AckEpoch { last_logged, current });
    let (first, bytes) = txn(2, 1);
    server.step(Input::Proposed(first, bytes));
    assert_eq!(server.step(Input::Durable(first)), []);
    assert_eq!(server.packet_of(LinkId(3), Packet::Ack(first)), [], "not synchronised");
    let counted = server.packet_of(LinkId(3), Packet::Ack(zxid(2, 0)));
    assert!(counted.contains(&Output::CommitThrough(first)), "{counted:?}");
}

#[test]
fn zookeeper_4925_what_was_learned_is_handed_on() {
    let mut server = waiting();
    server.packet(Packet::Commit(zxid(2, 1)));
    server.packet(Packet::UpToDate);
    server.step(Input::Durable(zxid(2, 1)));
    server.step(Input::Lost(Some(LINK)));
    // It is elected itself, and a server that lacks the last transaction comes.
    let own = Notification {
        state: PeerState::Looking,
        leader: ServerId::new(1),
        zxid: zxid(2, 1),
        round: 10,
        epoch: 2,
        version: 2,
        config: None,
    };
    server.step(Input::Notification { from: ServerId::new(2), said: own });
    server.now_ms += 500;
    server.step(Input::Tick);
    server.introduce(LinkId(2), 2);
    server.step(Input::AcceptedWritten(Epoch::new(3)));
    let (last_logged, current) = (zxid(1, 1), Some(Epoch::new(2)));
    server.packet_of(LinkId(2), Packet::AckEpoch { last_logged, current });
    let taught = server.step(Input::CurrentWritten(Epoch::new(3)));
    let packet = proposal(2, 1);
    assert!(taught.contains(&Output::Send { link: LinkId(2), packet }), "{taught:?}");
}

#[test]
fn a_leader_does_not_lead_whose_history_is_better() {
    let mut server = Server::new(vec![txn(1, 1)]);
    let voted = server.step(Input::Begin);
    let Some(Output::Notify { message, .. }) = voted.first() else { panic!("{voted:?}") };
    server.step(Input::Notification { from: ServerId::new(2), said: message.clone() });
    server.now_ms += 500;
    server.step(Input::Tick);
    server.introduce(LinkId(2), 2);
    server.step(Input::AcceptedWritten(Epoch::new(2)));
    let (last_logged, current) = (zxid(1, 2), Some(Epoch::new(1)));
    let packet = Packet::AckEpoch { last_logged, current };
    let (out, refused) = server.try_step(Input::Packet { link: LinkId(2), packet });
    assert!(matches!(refused, Err(Violation::BetterHistory { .. })));
    assert_eq!(out, [Output::Close(LinkId(2))]);
}

#[test]
fn an_older_leader_is_not_followed() {
    let mut server = Server::new(vec![]);
    server.elect(3);
    server.step(Input::Linked(LINK));
    let packet = Packet::LeaderInfo(Epoch::new(0));
    let (out, refused) = server.try_step(Input::Packet { link: LINK, packet });
    let (said, accepted) = (Epoch::new(0), Epoch::new(1));
    assert_eq!(refused, Err(Violation::OldEpoch { said, accepted }));
    assert!(out.contains(&Output::Close(LINK)), "{out:?}");
}

#[test]
fn who_promises_an_epoch_again_does_not_count_again() {
    let mut server = Server::follower(vec![txn(1, 1)]);
    server.step(Input::Lost(Some(LINK)));
    server.elect_again();
    server.step(Input::Linked(LinkId(5)));
    let link = LinkId(5);
    let out = server.packet_of(link, Packet::LeaderInfo(Epoch::new(2)));
    let packet = Packet::AckEpoch { last_logged: zxid(1, 1), current: None };
    assert_eq!(out, [Output::Send { link, packet }]);
}

impl Server {
    /// As `elect(3)`, for a server that looks already.
    fn elect_again(&mut self) {
        for (from, state) in [(2, PeerState::Following), (3, PeerState::Leading)] {
            let (leader, zxid) = (ServerId::new(3), Zxid::ZERO);
            let said =
                Notification { state, leader, zxid, round: 9, epoch: 2, version: 2, config: None };
            self.step(Input::Notification { from: ServerId::new(from), said });
        }
    }
}

#[test]
fn zookeeper_1277_an_epoch_ends_with_its_counter() {
    let (mut server, _) = Server::leader(vec![txn(1, 1)]);
    server.packet_of(LinkId(2), Packet::Ack(zxid(2, 0)));
    server.zab.use_up_to(zxid(2, u32::MAX - 1));
    let (last, bytes) = txn(2, u32::MAX - 1);
    assert_eq!(server.zab.next_zxid(), Some(last));
    server.step(Input::Proposed(last, bytes));
    assert_eq!(server.zab.next_zxid(), None, "0xffffffff is never given out");
    server.step(Input::Durable(last));
    let tick = server.step(Input::Tick);
    assert!(!tick.iter().any(|it| matches!(it, Output::Stop(_))), "it waits for its quorum");
    server.packet_of(LinkId(2), Packet::Ack(last));
    let tick = server.step(Input::Tick);
    assert!(tick.iter().any(|it| matches!(it, Output::Stop(_))), "{tick:?}");
}

#[test]
fn zookeeper_8_1_a_proposal_that_repeats_a_zxid_is_passed_over() {
    let mut server = waiting();
    server.packet(Packet::UpToDate);
    server.packet(Packet::Commit(zxid(2, 1)));
    assert!(!server.packet(proposal(2, 2)).is_empty());
    let error = Packet::Proposal(zxid(2, 2), Bytes::from_static(b"an error"));
    assert_eq!(server.packet(error), []);
    assert_eq!(server.packet(Packet::Commit(zxid(2, 2))), [Output::CommitThrough(zxid(2, 2))]);
}

#[test]
fn a_commit_out_of_turn_costs_the_leader_its_follower() {
    let mut server = waiting();
    server.packet(Packet::UpToDate);
    server.packet(proposal(2, 2));
    let packet = Packet::Commit(zxid(2, 2));
    let (out, refused) = server.try_step(Input::Packet { link: LINK, packet });
    let (said, expected) = (zxid(2, 2), zxid(2, 1));
    assert_eq!(refused, Err(Violation::WrongCommit { said, expected }));
    assert!(out.contains(&Output::Close(LINK)), "{out:?}");
}

#[test]
fn a_leader_that_lacks_what_was_committed_is_left() {
    let mut server = waiting();
    server.packet(Packet::UpToDate);
    server.packet(Packet::Commit(zxid(2, 1)));
    server.step(Input::Durable(zxid(2, 1)));
    server.step(Input::Lost(Some(LINK)));
    server.elect_again();
    server.step(Input::Linked(LINK));
    server.packet(Packet::LeaderInfo(Epoch::new(3)));
    server.step(Input::AcceptedWritten(Epoch::new(3)));
    server.packet(Packet::Trunc(zxid(1, 1)));
    server.step(Input::Truncated(zxid(1, 1)));
    server.packet(new_leader(3));
    server.step(Input::CurrentWritten(Epoch::new(3)));
    let packet = Packet::UpToDate;
    let (_, refused) = server.try_step(Input::Packet { link: LINK, packet });
    assert!(matches!(refused, Err(Violation::LostCommits { .. })), "{refused:?}");
}
