//! A port in the place of a JVM server: it is told what that one was told, byte for byte, and must
//! take it the same way; what it says itself must be what the JVM said.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use ringkeeper::ids::ServerId;
use ringkeeper::jute::election::{Hello, Notification};
use serde_json::Value;

use super::{Ensemble, Member, PATIENCE};

/// The first eight bytes of an authentication between servers, which is not ours to read.
const SASL_MAGIC: [u8; 8] = 0x5F24_3501_3501_EDCC_u64.to_be_bytes();

/// One captured connection of an election port.
#[derive(Default)]
struct Captured {
    from_connecting: Vec<u8>,
    from_accepting: Vec<u8>,
}

impl Captured {
    fn hello(&self) -> (Hello, &[u8]) {
        let (hello, length) = Hello::decode(&self.from_connecting).unwrap().expect("a hello");
        (hello, &self.from_connecting[length..])
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Every connection of every capture on which notifications went both ways.
fn captures() -> Vec<Captured> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ensemble");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let mut connections: BTreeMap<u64, Captured> = BTreeMap::new();
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let Some(number) = event["conn"].as_u64() else { continue };
            match event["ev"].as_str() {
                Some("open") if event["role"] == "election" => {
                    connections.insert(number, Captured::default());
                }
                Some("data") => {
                    let Some(connection) = connections.get_mut(&number) else { continue };
                    let bytes = unhex(event["hex"].as_str().unwrap());
                    match event["dir"].as_str() {
                        Some(">") => connection.from_connecting.extend(bytes),
                        _ => connection.from_accepting.extend(bytes),
                    }
                }
                _ => {}
            }
        }
        found.extend(connections.into_values().filter(|it| {
            !it.from_accepting.is_empty() && !it.from_accepting.starts_with(&SASL_MAGIC)
        }));
    }
    assert!(found.len() > 50, "{} connections", found.len());
    found
}

/// The whole messages in `bytes`: a close may have cut the last one short.
fn messages(mut bytes: &[u8]) -> Vec<Notification> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some(payload) = rest.get(..u32::from_be_bytes(*length) as usize) else { break };
        found.push(Notification::decode(payload).unwrap());
        bytes = &rest[payload.len()..];
    }
    found
}

#[test]
fn what_a_jvm_said_when_it_called_is_heard() {
    // Smaller than every server in the captures, so every call is kept.
    let ensemble = Ensemble::new(&[0]);
    let member = ensemble.start(0);
    for captured in captures() {
        let (hello, said) = captured.hello();
        let mut caller = TcpStream::connect(ensemble.address(0)).unwrap();
        caller.write_all(&captured.from_connecting).unwrap();
        for expected in messages(said) {
            assert_eq!(member.hear(), (hello.server.number(), expected));
        }
    }
}

#[test]
fn what_a_jvm_answered_when_it_was_called_is_heard() {
    for captured in captures() {
        let (hello, said) = captured.hello();
        let Some(first) = messages(said).into_iter().next() else { continue };
        let accepting = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // The port has the caller's place, so it dials the smaller one and keeps the connection.
        let me = hello.server.number();
        let mut config = Ensemble::new(&[me]).config(me);
        config.peers.insert(ServerId::new(0), vec![accepting.local_addr().unwrap().into()]);
        let own = config.own[0].to_string();
        let member = Member::start(config);
        member.port.send(ServerId::new(0), first.clone());
        let (mut stream, _) = accepting.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&captured.from_accepting).unwrap();
        for expected in messages(&captured.from_accepting) {
            assert_eq!(member.hear(), (0, expected));
        }
        // It says what the JVM said, but for its address.
        let mut expected = Vec::new();
        Hello { server: hello.server, addresses: vec![own] }.encode(&mut expected);
        let length = u32::from_be_bytes(said[..4].try_into().unwrap()) as usize;
        expected.extend_from_slice(&said[..4 + length]);
        let mut spoken = vec![0; expected.len()];
        stream.read_exact(&mut spoken).unwrap();
        assert_eq!(spoken, expected);
    }
}
