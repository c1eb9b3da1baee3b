//! Callers that are no good servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringkeeper::jute::election::Hello;
use ringkeeper::limits::{ELECTION_HANDSHAKES_MAX, ELECTION_MESSAGE_BYTES_MAX};

use super::{Ensemble, Member, PATIENCE, id, looking, wait_until};

/// Connects and says this.
fn call(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn hello(from: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let addresses = vec!["0.0.0.0:1".to_owned()];
    Hello { server: id(from), addresses }.encode(&mut bytes);
    bytes
}

fn message(round: i64) -> Vec<u8> {
    let mut payload = Vec::new();
    looking(9, round).encode(&mut payload);
    let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend(payload);
    bytes
}

/// The port hangs up, whether by a close or, with bytes unread, a reset.
fn assert_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn who_is_no_peer_is_hung_up_on() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    let address = ensemble.address(5);
    let wrong_port = {
        let mut bytes = Vec::new();
        Hello { server: id(9), addresses: vec!["h:x".to_owned()] }.encode(&mut bytes);
        bytes
    };
    let too_long =
        [&(-65536_i64).to_be_bytes()[..], &9_i64.to_be_bytes(), &2049_i32.to_be_bytes()].concat();
    let negative =
        [&(-65536_i64).to_be_bytes()[..], &9_i64.to_be_bytes(), &(-1_i32).to_be_bytes()].concat();
    for bytes in [
        hello(5),
        hello(-7),
        hello(4),
        wrong_port,
        too_long,
        negative,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        (-1_i64).to_be_bytes().to_vec(),
    ] {
        assert_closed(call(address, &bytes));
    }
    assert_eq!(member.port.connected(), []);
}

#[test]
fn a_message_of_no_sensible_length_ends_the_connection() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    for length in [0, -1, ELECTION_MESSAGE_BYTES_MAX as i32 + 1] {
        let mut stream = call(ensemble.address(5), &hello(9));
        stream.write_all(&message(1)).unwrap();
        assert_eq!(member.hear(), (9, looking(9, 1)));
        stream.write_all(&length.to_be_bytes()).unwrap();
        assert_closed(stream);
    }
}

#[test]
fn a_notification_that_cannot_be_read_is_passed_over() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    let mut stream = call(ensemble.address(5), &hello(9));
    for payload in [&[0; 27][..], &[0xff; 28], &[7]] {
        stream.write_all(&(payload.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(payload).unwrap();
    }
    stream.write_all(&message(3)).unwrap();
    assert_eq!(member.hear(), (9, looking(9, 3)));
}

#[test]
fn messages_are_read_in_whatever_pieces_they_come() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    let mut stream = call(ensemble.address(5), &[]);
    stream.set_nodelay(true).unwrap();
    for byte in [hello(9), message(1), message(2)].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    // Half a message at the end is nobody's.
    stream.write_all(&message(3)[..20]).unwrap();
    drop(stream);
    assert_eq!(member.hear(), (9, looking(9, 1)));
    assert_eq!(member.hear(), (9, looking(9, 2)));
    wait_until("the connection is gone", || member.port.connected().is_empty());
    assert!(member.heard.try_recv().is_err());
}

#[test]
fn the_newest_connection_of_a_peer_counts() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    let mut old = call(ensemble.address(5), &hello(6));
    old.write_all(&message(1)).unwrap();
    member.hear();
    let mut new = call(ensemble.address(5), &hello(6));
    assert_closed(old);
    new.write_all(&message(2)).unwrap();
    assert_eq!(member.hear(), (6, looking(9, 2)));
    member.port.send(id(6), looking(5, 4));
    let mut answer = vec![0; message(4).len()];
    new.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4 + 20..4 + 28], 4_i64.to_be_bytes());
}

#[test]
fn observers_without_an_id_are_told_apart() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    let mut observers = Vec::new();
    for number in 1..=2 {
        let mut stream = call(ensemble.address(5), &hello(i64::MAX));
        stream.write_all(&message(number)).unwrap();
        assert_eq!(member.hear(), (-number, looking(9, number)));
        observers.push(stream);
    }
    member.port.send(id(-2), looking(5, 4));
    let mut answer = vec![0; message(4).len()];
    observers[1].read_exact(&mut answer).unwrap();
    assert_eq!(answer[4 + 20..4 + 28], 4_i64.to_be_bytes());
}

#[test]
fn silent_callers_shut_nobody_out_and_are_not_waited_for() {
    let ensemble = Ensemble::new(&[5, 6]);
    let member = ensemble.start(5);
    let address = ensemble.address(5);
    let silent: Vec<TcpStream> =
        (0..2 * ELECTION_HANDSHAKES_MAX).map(|_| call(address, &[0; 3])).collect();
    let peer = ensemble.start(6);
    // Among so many it may be refused, and says it again, as elections do.
    wait_until("the peer is heard", || {
        peer.port.send(id(5), looking(6, 1));
        member.heard.recv_timeout(Duration::from_millis(500)).is_ok()
    });
    member.port.close();
    drop(silent);
}

#[test]
fn a_caller_that_takes_too_long_is_hung_up_on() {
    let ensemble = Ensemble::new(&[5, 6]);
    let mut config = ensemble.config(5);
    config.handshake_timeout = Duration::from_millis(50);
    let _member = Member::start(config);
    assert_closed(call(ensemble.address(5), &[0; 7]));
    assert_closed(call(ensemble.address(5), &hello(9)[..19]));
}
