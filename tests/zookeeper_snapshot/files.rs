//! The files of `tests/vectors/snapshots`, which ZooKeeper wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::decode::string_limit;
use ringkeeper::limits::FRAME_BYTES_DEFAULT;
use ringkeeper::snapshot::zookeeper::{Decoder, Encoder, FileSections, Form, Restored};
use ringkeeper::tree::{AclId, NodeView, Registry};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::contents::Contents;

const HEADER_BYTES: usize = 16;

/// Every file, its zxid and its bytes.
fn files() -> Vec<(PathBuf, Zxid, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/snapshots");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap().to_str().unwrap();
        if extension != "jsonl" {
            let zxid = Zxid::from_bits(i64::from_str_radix(extension, 16).unwrap());
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, zxid, bytes));
        }
    }
    files.sort();
    assert_eq!(files.len(), 8);
    files
}

fn read(path: &Path, zxid: Zxid, bytes: &[u8]) -> Restored {
    let decoder = Decoder::file(zxid, string_limit(FRAME_BYTES_DEFAULT));
    decoder.read(&mut &bytes[..]).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The snapshot of what `registry` gives to read.
pub fn written(registry: &Registry, sessions: &[(SessionId, i32)], form: Form) -> Vec<u8> {
    let mut reader = registry.reader();
    reader.hold_newest();
    Encoder::new(&mut reader, sessions, form).collect::<Vec<_>>().concat()
}

fn hex(value: &Value) -> i64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap() as i64
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is written about a snapshot beside it, by what it is about.
fn told(path: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let file = format!("{}.jsonl", path.display());
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        told.entry(value["what"].as_str().unwrap().to_owned()).or_default().push(value);
    }
    told
}

fn check_znode(node: &NodeView<'_>, told: &Value, acls: &BTreeMap<i64, Value>, place: &str) {
    match (&told["data"], node.data()) {
        (Value::Null, None) => {}
        (data, Some(ours)) if data["len"].is_u64() => {
            assert_eq!(data["len"], ours.len(), "{place}");
            assert_eq!(data["sha256"], in_hex(&Sha256::digest(ours)), "{place}");
        }
        (data, Some(ours)) => {
            assert_eq!(data["hex"], in_hex(ours), "{place}");
        }
        (data, None) => panic!("{place}: null in place of {data}"),
    }
    let (stat, ours) = (&told["stat"], node.stored());
    for (field, ours) in [
        ("czxid", ours.czxid),
        ("mzxid", ours.mzxid),
        ("pzxid", ours.pzxid),
        ("ephemeralOwner", ours.ephemeral_owner),
    ] {
        assert_eq!(hex(&stat[field]), ours, "{place}: {field}");
    }
    for (field, ours) in [
        ("ctime", ours.ctime),
        ("mtime", ours.mtime),
        ("version", i64::from(ours.version)),
        ("cversion", i64::from(ours.cversion)),
        ("aversion", i64::from(ours.aversion)),
    ] {
        assert_eq!(stat[field], ours, "{place}: {field}");
    }
    match told["acl"].as_i64().unwrap() {
        -1 => assert_eq!(node.acl_id(), AclId::OPEN, "{place}"),
        number => {
            let told = acls[&number].as_array().unwrap();
            assert_eq!(told.len(), node.acl().len(), "{place}");
            for (told, ours) in told.iter().zip(node.acl()) {
                assert_eq!(told["perms"], ours.perms, "{place}");
                assert_eq!(told["id"]["scheme"], ours.id.scheme, "{place}");
                assert_eq!(told["id"]["id"], ours.id.id, "{place}");
            }
        }
    }
}

#[test]
fn files_that_zookeeper_wrote_are_read() {
    for (path, zxid, bytes) in files() {
        let (restored, told) = (read(&path, zxid, &bytes), told(&path));
        let place = path.display().to_string();
        let acls = told.get("acl").into_iter().flatten();
        let acls = acls.map(|acl| (acl["id"].as_i64().unwrap(), acl["acl"].clone())).collect();
        for znode in &told["node"] {
            let path = znode["path"].as_str().unwrap();
            let node = restored.writer.get(path).unwrap_or_else(|| panic!("{place}: no {path}"));
            check_znode(&node, znode, &acls, &format!("{place}: {path}"));
        }
        assert_eq!(restored.znodes, told["node"].len() as u64, "{place}");
        assert_eq!(restored.writer.counts().znodes, restored.znodes + 1, "{place}");
        assert_eq!((restored.left_out, restored.acls_missing), (0, 0), "{place}");
        assert_eq!(restored.bytes, bytes.len() as u64, "{place}");
        let sessions = told.get("session").into_iter().flatten();
        let sessions: Vec<_> = sessions
            .map(|session| {
                let timeout_ms = session["timeOut"].as_i64().unwrap() as i32;
                (SessionId::from_bits(hex(&session["sessionId"])), timeout_ms)
            })
            .collect();
        assert_eq!(restored.sessions, sessions, "{place}");
        let trailer = &told["trailer"][0];
        let last_zxid = (!trailer["lastZxid"].is_null()).then(|| hex(&trailer["lastZxid"]));
        assert_eq!(restored.last_zxid.map(Zxid::bits), last_zxid, "{place}");
        match &trailer["zxidDigest"] {
            digest if digest.is_null() || zxid == Zxid::ZERO => {
                assert_eq!(restored.digest, None, "{place}");
            }
            told => {
                let digest = restored.digest.expect("a digest");
                assert_eq!(digest.zxid.bits(), hex(&told["zxid"]), "{place}");
                assert_eq!(digest.value as i64, hex(&told["digest"]), "{place}");
                assert_eq!(restored.computed_digest, Some(digest.value), "{place}");
            }
        }
    }
}

#[test]
fn what_was_read_is_written_as_zookeeper_wrote_it() {
    let mut equal = 0;
    for (path, zxid, bytes) in files() {
        let place = path.display();
        let restored = read(&path, zxid, &bytes);
        let trailer = &told(&path)["trailer"][0];
        let form = Form::File(FileSections {
            digest: !trailer["zxidDigest"].is_null(),
            last_zxid: !trailer["lastZxid"].is_null(),
        });
        let once = written(&restored.registry, &restored.sessions, form);
        assert_eq!(
            Contents::of(&once[HEADER_BYTES..]),
            Contents::of(&bytes[HEADER_BYTES..]),
            "{place}"
        );
        assert_eq!(once.len(), bytes.len(), "{place}");
        assert_eq!(once[..HEADER_BYTES], bytes[..HEADER_BYTES], "{place}");
        // The children's order is the other way round each time.
        let restored = read(&path, zxid, &once);
        let twice = written(&restored.registry, &restored.sessions, form);
        if twice == bytes {
            equal += 1;
        }
    }
    // The others number their ACLs in another order than that of the znodes.
    assert!(equal >= 5, "only {equal} files have the very same bytes");
}

#[test]
fn a_damaged_file_is_refused_wherever_the_damage_is() {
    for (path, zxid, bytes) in files() {
        if bytes.len() > 1000 {
            continue;
        }
        let read = |bytes: &[u8]| {
            let decoder = Decoder::file(zxid, string_limit(FRAME_BYTES_DEFAULT));
            decoder.read(&mut &bytes[..])
        };
        // The database's id means nothing, but is in the checksum.
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "{}: byte {at}", path.display());
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(read(&longer).is_err(), "{}: one byte more", path.display());
        let longer = [&bytes[..], &[0; 200]].concat();
        assert!(read(&longer).is_err(), "{}: many bytes more", path.display());
    }
}
