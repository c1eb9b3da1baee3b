//! Ports among themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ringkeeper::peers::address::PeerAddress;
use socket2::{Domain, Socket, Type};

use super::{Ensemble, Member, PATIENCE, id, looking, wait_until};

#[test]
fn each_tells_every_other() {
    let ensemble = Ensemble::new(&[1, 2, 3]);
    let members = [1, 2, 3].map(|me| (me, ensemble.start(me)));
    for (me, member) in &members {
        for to in [1, 2, 3].into_iter().filter(|to| to != me) {
            member.port.send(id(to), looking(*me, 1));
        }
    }
    for (me, member) in &members {
        let mut missing: Vec<i64> = [1, 2, 3].into_iter().filter(|from| from != me).collect();
        while !missing.is_empty() {
            let (from, said) = member.hear();
            assert_eq!(said, looking(from, 1));
            missing.retain(|it| *it != from);
        }
        // Calls that crossed may have replaced each other.
        wait_until("both are connected", || member.port.connected().len() == 2);
    }
}

#[test]
fn one_word_of_either_reaches_the_other() {
    for (speaker, listener) in [(1, 2), (2, 1)] {
        let ensemble = Ensemble::new(&[1, 2]);
        let [from, to] = [speaker, listener].map(|me| ensemble.start(me));
        from.port.send(id(listener), looking(speaker, 7));
        to.hear_round(speaker, 7);
    }
}

#[test]
fn who_comes_late_hears_the_newest_alone() {
    for (early, late) in [(1, 2), (2, 1)] {
        let ensemble = Ensemble::new(&[1, 2]);
        let from = ensemble.start(early);
        for round in 1..=3 {
            from.port.send(id(late), looking(early, round));
        }
        let to = ensemble.start(late);
        assert_eq!(to.hear(), (early, looking(early, 3)));
    }
}

#[test]
fn who_comes_back_hears_the_last_word_again() {
    for (stays, restarts) in [(1, 2), (2, 1)] {
        let ensemble = Ensemble::new(&[1, 2]);
        let stayed = ensemble.start(stays);
        let first = ensemble.start(restarts);
        stayed.port.send(id(restarts), looking(stays, 1));
        first.hear_round(stays, 1);
        first.port.close();
        let second = ensemble.start(restarts);
        second.port.send(id(stays), looking(restarts, 2));
        stayed.hear_round(restarts, 2);
        second.hear_round(stays, 1);
    }
}

#[test]
fn who_is_not_configured_is_heard_and_answered() {
    for stranger in [1, 9] {
        let all = Ensemble::new(&[stranger, 5]);
        let mut config = all.config(5);
        config.peers.clear();
        let member = Member::start(config);
        let stranger_port = all.start(stranger);
        stranger_port.port.send(id(5), looking(stranger, 1));
        member.hear_round(stranger, 1);
        member.port.send(id(stranger), looking(5, 2));
        stranger_port.hear_round(5, 2);
        // It is forgotten when it goes, and may come back.
        stranger_port.port.close();
        wait_until("the stranger is gone", || member.port.connected().is_empty());
        let back = all.start(stranger);
        back.port.send(id(5), looking(stranger, 3));
        member.hear_round(stranger, 3);
    }
}

#[test]
fn a_peer_is_found_at_any_of_its_addresses_and_by_name() {
    let ensemble = Ensemble::new(&[1, 2]);
    let mut config = ensemble.config(2);
    let port = ensemble.address(1).port();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let addresses = vec![
        PeerAddress::new("no.such.name.invalid", port),
        nobody.into(),
        PeerAddress::new("localhost", port),
    ];
    config.peers.insert(id(1), addresses);
    let far = Member::start(config);
    let near = ensemble.start(1);
    far.port.send(id(1), looking(2, 1));
    near.hear_round(2, 1);
}

#[test]
fn a_port_may_listen_on_all_addresses() {
    let ensemble = Ensemble::new(&[1, 2]);
    let mut config = ensemble.config(1);
    config.listen_on_all_ips = true;
    config.announce_all = true;
    let all = Member::start(config);
    assert!(all.port.listening()[0].ip().is_unspecified());
    let other = ensemble.start(2);
    other.port.send(id(1), looking(2, 1));
    all.hear_round(2, 1);
}

#[test]
fn a_port_in_use_is_an_error() {
    let ensemble = Ensemble::new(&[1, 2]);
    let _taken = ensemble.start(1);
    let config =
        ringkeeper::peers::election_port::ElectionConfig { bind_tries: 1, ..ensemble.config(1) };
    let Err(error) = ringkeeper::peers::election_port::ElectionPort::start(config, |_, _| {})
    else {
        panic!("two ports at one address");
    };
    assert!(error.to_string().contains("cannot listen for elections"), "{error}");
}

#[test]
fn a_port_that_dials_into_the_void_closes_all_the_same() {
    let ensemble = Ensemble::new(&[1, 2]);
    // A full backlog answers nobody.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let fillers: Vec<TcpStream> = (0..8)
        .map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok())
        .collect();
    assert!(fillers.len() < 8, "the backlog has no end");
    let mut config = ensemble.config(2);
    config.connect_timeout = 4 * PATIENCE;
    config.peers.insert(id(1), vec![address.into()]);
    let member = Member::start(config);
    member.port.send(id(1), looking(2, 1));
    // It may dial by now, or not yet: closing must end both.
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    member.port.close();
    assert!(begun.elapsed() < PATIENCE);
}
