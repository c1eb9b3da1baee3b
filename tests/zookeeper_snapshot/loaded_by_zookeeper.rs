//! Our snapshot as the whole data directory of a real ZooKeeper (Debian's 3.8.0). When it starts it
//! loads the file, checks the digest, and writes a snapshot of its own: that must hold the same.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::client::four_letter_word;
use harness::server::Setup;
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::decode::string_limit;
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::limits::FRAME_BYTES_DEFAULT;
use ringkeeper::snapshot::zookeeper::{Decoder, FileSections, Form};
use ringkeeper::tree::{AclId, Owner, Registry, Writer};

use crate::contents::Contents;
use crate::files::written;

const PATIENCE: Duration = Duration::from_secs(30);

const SESSION: SessionId = SessionId::from_bits(0x0100_002d_3f24_000c);

fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl { perms, id: Id { scheme: scheme.to_owned(), id: id.to_owned() } }
}

/// A tree with all kinds of znodes, through zxid 0x300000005.
fn grown() -> (Writer, Registry) {
    let (mut writer, registry) = Writer::new();
    let mut next = 0x3_0000_0000;
    let mut transaction = |change: &mut dyn FnMut(&mut Writer)| {
        next += 1;
        writer.begin(Zxid::from_bits(next), 1_700_000_000_000 + next);
        change(&mut writer);
        writer.publish(Zxid::from_bits(next));
    };
    transaction(&mut |tree| {
        let everybody = tree.intern_acl(&[acl(31, "world", "anyone")]);
        let mixed = [acl(31, "digest", "user:2Om+GBbT2q/tS6pdvACZbbm7/1A="), acl(1, "ip", "::1")];
        let mixed = tree.intern_acl(&mixed);
        let ttl = Owner::Ttl(1_000_000_000);
        for (path, data, acl, owner) in [
            ("/plain", Some(b"data".as_slice()), everybody, Owner::Persistent),
            ("/empty", Some(b""), everybody, Owner::Persistent),
            ("/null", None, everybody, Owner::Persistent),
            ("/open", Some(b"x"), AclId::OPEN, Owner::Persistent),
            ("/acl", Some(b"x"), mixed, Owner::Persistent),
            ("/deep", None, everybody, Owner::Persistent),
            ("/deep/er", None, mixed, Owner::Persistent),
            ("/deep/er/日本 é", None, everybody, Owner::Persistent),
            ("/ephemeral", Some(b"e"), everybody, Owner::Session(SESSION)),
            ("/container", Some(b"c"), everybody, Owner::Container),
            ("/container/child", None, everybody, Owner::Persistent),
            ("/ttl", Some(b"t"), everybody, ttl),
            ("/zookeeper/quota/deep", None, everybody, Owner::Persistent),
            ("/zookeeper/quota/deep/zookeeper_limits", Some(b"count=9"), everybody, ttl),
            ("/zookeeper/quota/deep/zookeeper_stats", Some(b""), everybody, Owner::Persistent),
        ] {
            tree.create(path, data, acl, owner, None).unwrap();
        }
    });
    transaction(&mut |tree| tree.set_data("/plain", Some(&[9; 100_000]), 1).unwrap());
    transaction(&mut |tree| tree.set_acl("/null", AclId::OPEN, 1).unwrap());
    transaction(&mut |tree| tree.delete("/container/child").unwrap());
    transaction(&mut |tree| {
        for number in 0..2000 {
            let path = format!("/deep/{number:010}");
            tree.create(&path, Some(path.as_bytes()), AclId::OPEN, Owner::Persistent, None)
                .unwrap();
        }
    });
    (writer, registry)
}

/// What ZooKeeper made of a snapshot.
struct Loaded {
    /// The snapshot that it wrote in place of it.
    written: Vec<u8>,
    /// Trees whose digest was not the one that was told.
    digest_mismatches: u32,
}

/// Lets ZooKeeper start on `ours` alone.
fn load(name: &str, ours: &[u8]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("version-2")).unwrap();
    let file = data.join("version-2").join(name);
    fs::write(&file, ours).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/zookeeper");
    let setup = Setup::of_program(program, &data, folder.path());
    let server = setup.with("extendedTypesEnabled=true").start();
    let metrics = four_letter_word(server.address, "mntr", PATIENCE).expect("it answers");
    server.terminate();
    let mut metrics = metrics.lines().filter_map(|line| line.split_once('\t'));
    let mismatches = metrics.find(|(key, _)| *key == "zk_digest_mismatches_count");
    let digest_mismatches = mismatches.expect("it counts them").1.parse().expect("a number");
    Loaded { written: fs::read(&file).unwrap(), digest_mismatches }
}

/// A file that ends with the digest, with another digest and the checksum that fits it.
fn with_another_digest(file: &[u8]) -> Vec<u8> {
    let (mut bytes, seal) = (file.to_vec(), 8 + 5);
    bytes.truncate(file.len() - seal);
    *bytes.last_mut().unwrap() ^= 1;
    let checksum = i64::from(adler2::adler32_slice(&bytes));
    bytes.extend(checksum.to_be_bytes());
    bytes.extend(b"\0\0\0\x01/");
    bytes
}

#[test]
fn zookeeper_loads_what_we_write() {
    let (writer, registry) = grown();
    let zxid = writer.newest();
    let sessions = [(SESSION, 40_000), (SessionId::from_bits(0x0200_0000_0000_0001), 30_000)];
    let name = format!("snapshot.{:x}", zxid.bits());
    let file = |last_zxid| {
        let form = Form::File(FileSections { digest: true, last_zxid });
        written(&registry, &sessions, form)
    };
    for last_zxid in [false, true] {
        let ours = file(last_zxid);
        let Loaded { written: theirs, digest_mismatches } = load(&name, &ours);
        // It numbers ACLs and orders children in another way.
        assert_ne!(theirs, ours, "ZooKeeper wrote no snapshot when it started");
        assert_eq!(Contents::of(&theirs[16..]), Contents::of(&ours[16..]));
        assert_eq!(digest_mismatches, 0);
        let decoder = Decoder::file(zxid, string_limit(FRAME_BYTES_DEFAULT));
        let restored = decoder.read(&mut &theirs[..]).unwrap();
        assert_eq!(restored.sessions.len(), sessions.len());
    }
    let wrong = load(&name, &with_another_digest(&file(false)));
    assert_eq!(wrong.digest_mismatches, 1, "it looks at the digest");
}
