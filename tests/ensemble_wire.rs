//! What real ensembles said on their election and quorum ports (tests/vectors/ensemble): every
//! message decodes, and encodes to the same bytes; snapshots as far as they have an order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ringkeeper::config::members::Members;
use ringkeeper::ids::Zxid;
use ringkeeper::jute::decode::string_limit;
use ringkeeper::jute::election::{Hello, Notification};
use ringkeeper::jute::quorum::{
    ForwardedRequest, LearnerInfo, PacketType, QuorumPacket, decode_ack_epoch, decode_touched,
    encode_ack_epoch, encode_touched,
};
use ringkeeper::jute::txn::Transaction;
use ringkeeper::limits::FRAME_BYTES_DEFAULT;
use ringkeeper::snapshot::zookeeper::{Decoder, Encoder, Form};
use serde_json::Value;

#[path = "zookeeper_snapshot/contents.rs"]
mod contents;

/// The first eight bytes of an authentication between servers, which is not ours to read.
const SASL_MAGIC: [u8; 8] = 0x5F24_3501_3501_EDCC_u64.to_be_bytes();

/// One direction of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    FromConnecting,
    FromAccepting,
}

fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ensemble");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 23);
    files
}

/// The bytes of a capture's connections with this role, by connection and direction.
fn streams(file: &Path, role: &str) -> BTreeMap<(u64, Direction), Vec<u8>> {
    let mut wanted = Vec::new();
    let mut streams = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let Some(conn) = event["conn"].as_u64() else { continue };
        match event["ev"].as_str() {
            Some("open") if event["role"] == role => wanted.push(conn),
            Some("data") if wanted.contains(&conn) => {
                let direction = match event["dir"].as_str() {
                    Some(">") => Direction::FromConnecting,
                    _ => Direction::FromAccepting,
                };
                let bytes: &mut Vec<u8> = streams.entry((conn, direction)).or_default();
                bytes.extend(unhex(event["hex"].as_str().unwrap()));
            }
            _ => {}
        }
    }
    streams
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn every_message_on_the_election_ports_is_read_and_written() {
    let (mut hellos, mut notifications) = (0, 0);
    for file in captures() {
        for ((conn, direction), bytes) in streams(&file, "election") {
            let place = format!("{} connection {conn}", file.display());
            let mut rest = &bytes[..];
            if direction == Direction::FromConnecting {
                let (hello, length) = Hello::decode(rest).unwrap().expect(&place);
                let mut written = Vec::new();
                hello.encode(&mut written);
                assert_eq!(written, rest[..length], "{place}");
                rest = &rest[length..];
                hellos += 1;
            }
            if rest.starts_with(&SASL_MAGIC) {
                continue;
            }
            // A close may cut the last message short.
            while let Some((length, behind)) = rest.split_first_chunk::<4>() {
                let Some(payload) = behind.get(..u32::from_be_bytes(*length) as usize) else {
                    break;
                };
                let notification = Notification::decode(payload)
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                let mut written = Vec::new();
                notification.encode(&mut written);
                assert_eq!(written, payload, "{place}");
                notifications += 1;
                rest = &behind[payload.len()..];
            }
        }
    }
    println!("{hellos} hellos, {notifications} notifications");
    assert!(hellos > 100 && notifications >= 300, "{hellos} hellos, {notifications} notifications");
}

#[test]
fn every_packet_on_the_quorum_ports_is_read_and_written() {
    let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
    let mut snapshots = 0;
    for file in captures() {
        for ((conn, _), bytes) in streams(&file, "quorum") {
            let place = format!("{} connection {conn}", file.display());
            if bytes.starts_with(&SASL_MAGIC) {
                continue;
            }
            let mut rest = Bytes::from(bytes);
            while let Some((packet, length)) =
                QuorumPacket::decode(&rest).unwrap_or_else(|error| panic!("{place}: {error}"))
            {
                let mut written = Vec::new();
                packet.encode(&mut written);
                assert_eq!(written, rest[..length], "{place}");
                check_body(&packet, &place);
                *counts.entry(packet.kind.0).or_default() += 1;
                rest = rest.slice(length..);
                if packet.kind == PacketType::SNAP {
                    rest = rest.slice(check_snapshot(packet.zxid, &rest, &place)..);
                    snapshots += 1;
                }
            }
        }
    }
    println!("{counts:?}");
    assert_eq!(snapshots, 9, "snapshots");
    let kinds: Vec<_> = counts.keys().copied().collect();
    assert_eq!(kinds, (1..=19).collect::<Vec<_>>(), "a packet of every type");
}

/// Reads the snapshot that `bytes` begin with, and returns how long it is.
fn check_snapshot(zxid: Zxid, bytes: &[u8], place: &str) -> usize {
    let decoder = |zxid| Decoder::stream(zxid, string_limit(FRAME_BYTES_DEFAULT));
    let mut whole = decoder(zxid);
    let length = whole.take(bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(whole.is_complete(), "{place}");
    let mut by_bytes = decoder(zxid);
    for byte in bytes[..length].chunks(1) {
        assert!(!by_bytes.is_complete(), "{place}");
        assert_eq!(by_bytes.take(byte), Ok(1), "{place}");
    }
    assert!(by_bytes.is_complete(), "{place}");
    let restored = whole.finish().unwrap();
    assert_eq!(restored.bytes, length as u64, "{place}");
    assert_eq!(restored.acls_missing, 0, "{place}");
    let mut contents = contents::Contents::of(&bytes[..length]);
    let znodes = contents.znodes.len() as u64;
    contents.znodes.retain(|_, znode| znode.stat[..8] <= zxid.bits().to_be_bytes()[..]);
    assert_eq!(restored.left_out, znodes - contents.znodes.len() as u64, "{place}");
    let mut reader = restored.registry.reader();
    reader.hold_newest();
    let written = Encoder::new(&mut reader, &restored.sessions, Form::Stream);
    let written = written.collect::<Vec<_>>().concat();
    assert_eq!(contents::Contents::of(&written), contents, "{place}");
    length
}

/// A packet's data is what its type says, and is written as it was read.
fn check_body(packet: &QuorumPacket, place: &str) {
    let data = packet.data.clone().unwrap_or_default();
    let wrong = |error: &dyn std::fmt::Display| -> ! { panic!("{place}: {packet:?}: {error}") };
    match packet.kind {
        PacketType::FOLLOWER_INFO | PacketType::OBSERVER_INFO => {
            let info = LearnerInfo::decode(&data).unwrap_or_else(|error| wrong(&error));
            assert_eq!(info.to_bytes(), data, "{place}");
        }
        PacketType::ACK_EPOCH => {
            let current = decode_ack_epoch(&data).unwrap_or_else(|error| wrong(&error));
            assert_eq!(encode_ack_epoch(current), data, "{place}");
        }
        PacketType::REQUEST => {
            let request = ForwardedRequest::decode(&data).unwrap_or_else(|error| wrong(&error));
            assert_eq!(request.to_bytes(), data, "{place}");
        }
        PacketType::PING if packet.data.is_some() => {
            let touched = decode_touched(&data).unwrap_or_else(|error| wrong(&error));
            assert_eq!(encode_touched(touched.into_iter()), data, "{place}");
        }
        PacketType::PROPOSAL | PacketType::INFORM => {
            let txn = Transaction::decode(&data).unwrap_or_else(|error| wrong(&error));
            // A malformed request makes a leader on the JVM propose an error under the zxid of the
            // transaction before it; header and packet agree all the same.
            assert_eq!(txn.header.zxid, packet.zxid, "{place}");
        }
        _ => {}
    }
}

/// Every text of a configuration that servers sent each other.
fn configurations_in(file: &Path) -> Vec<Bytes> {
    let mut texts = Vec::new();
    for ((_, direction), bytes) in streams(file, "election") {
        let mut rest = &bytes[..];
        if direction == Direction::FromConnecting {
            let Ok(Some((_, length))) = Hello::decode(rest) else { continue };
            rest = &rest[length..];
        }
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let Some(payload) = behind.get(..u32::from_be_bytes(*length) as usize) else { break };
            let Ok(notification) = Notification::decode(payload) else { break };
            texts.extend(notification.config.map(Bytes::from));
            rest = &behind[payload.len()..];
        }
    }
    for bytes in streams(file, "quorum").into_values() {
        let mut rest = Bytes::from(bytes);
        while let Ok(Some((packet, length))) = QuorumPacket::decode(&rest) {
            if packet.kind == PacketType::NEW_LEADER {
                texts.extend(packet.data.filter(|data| !data.is_empty()));
            }
            rest = rest.slice(length..);
            if packet.kind == PacketType::SNAP {
                rest = rest.slice(check_snapshot(packet.zxid, &rest, "a snapshot")..);
            }
        }
    }
    texts
}

#[test]
fn every_configuration_that_servers_sent_is_read_and_written() {
    let mut seen = BTreeMap::<Vec<u8>, usize>::new();
    for file in captures() {
        for text in configurations_in(&file) {
            let members = Members::parse(&text)
                .unwrap_or_else(|error| panic!("{}: {error}: {text:?}", file.display()));
            assert_eq!(members.text().as_bytes(), &text[..], "{}", file.display());
            assert!(members.voters().is_some());
            *seen.entry(text.to_vec()).or_default() += 1;
        }
    }
    println!("{} texts, {} of them different", seen.values().sum::<usize>(), seen.len());
    let has = |what: &[u8]| seen.keys().any(|text| text.windows(what.len()).any(|it| it == what));
    for what in ["version=0", "group.1=", "weight.1=", ":observer", "|"] {
        assert!(has(what.as_bytes()), "no text with {what}");
    }
}

#[test]
fn a_list_of_members_is_printed_as_zookeeper_prints_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/configuration/texts");
    let (mut given, mut printed, mut count) = (String::new(), String::new(), 0);
    let text = std::fs::read_to_string(file).unwrap();
    for line in text.lines().chain([""]) {
        if let Some(line) = line.strip_prefix("> ") {
            given += &format!("{line}\n");
        } else if let Some(line) = line.strip_prefix("< ") {
            printed += &format!("{line}\n");
        } else if !given.is_empty() {
            let members = Members::parse(given.as_bytes()).unwrap();
            assert_eq!(members.text(), printed.trim_end(), "{given}");
            (given, printed) = (String::new(), String::new());
            count += 1;
        }
    }
    assert_eq!(count, 10);
}
