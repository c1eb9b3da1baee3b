//! Files that are not as they were written: a torn last batch is cut off, anything else is refused
//! or fallen back from with a message, and wrong data is never served. And a disk that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::confine::SmallDisk;
use harness::load::Load;
use harness::rng::{Rng, base_seed};
use harness::server::{Server, Setup};

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Longest wait for a refusal, a snapshot or a full disk.
const PATIENCE: Duration = Duration::from_secs(30);

const BLOCK: usize = 4096;
const BATCH_HEADER_BYTES: usize = 68;

/// One batch of the log, as `docs/storage.md` lays it out.
#[derive(Clone, Debug)]
struct Batch {
    file: PathBuf,
    at: usize,
    /// Header and records; the rest of the last block is padding.
    bytes: usize,
    sequence: u64,
}

fn files(data: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("ringkeeper")).unwrap();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && !name.ends_with(".tmp")
        })
        .collect();
    found.sort_unstable();
    found
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

/// All batches of the log, oldest first.
fn batches(data: &Path) -> Vec<Batch> {
    let mut found = Vec::new();
    for file in files(data, "log.") {
        let bytes = fs::read(&file).unwrap();
        assert_eq!(bytes[..8], *b"RKLOGSEG", "{} begins as a segment", file.display());
        let generation: [u8; 8] = word(&bytes, 20);
        for at in (BLOCK..bytes.len()).step_by(BLOCK) {
            if bytes[at..at + 8] == *b"RKLOGBAT" && word(&bytes, at + 8) == generation {
                let records = u32::from_le_bytes(word(&bytes, at + 52)) as usize;
                found.push(Batch {
                    file: file.clone(),
                    at,
                    bytes: BATCH_HEADER_BYTES + records,
                    sequence: u64::from_le_bytes(word(&bytes, at + 16)),
                });
            }
        }
    }
    found.sort_unstable_by_key(|batch| batch.sequence);
    found
}

fn setup(data: &Path, folder: &Path) -> Setup {
    Setup::new(SERVER, data, folder).with("ringkeeper.segmentSizeKb=1024")
}

/// Data with `/w` set to 1, 2, … `writes`, each in a batch of its own, by a server that was killed.
fn written(folder: &Path, writes: u32) -> PathBuf {
    let data = folder.join("original");
    let server = setup(&data, folder).start();
    let mut client = Client::connect(server.address, 30_000).unwrap();
    client.create("/w", b"0", 0).unwrap();
    for number in 1..=writes {
        client.set("/w", number.to_string().as_bytes()).unwrap();
    }
    server.kill();
    data
}

/// A copy of the data, with `change` made to one of its files.
fn damaged(folder: &Path, data: &Path, file: &Path, change: impl FnOnce(&mut [u8])) -> PathBuf {
    let copy = folder.join("damaged");
    if copy.exists() {
        fs::remove_dir_all(&copy).unwrap();
    }
    fs::create_dir_all(copy.join("ringkeeper")).unwrap();
    for entry in fs::read_dir(data.join("ringkeeper")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, copy.join("ringkeeper").join(from.file_name().unwrap())).unwrap();
    }
    let target = copy.join(file.strip_prefix(data).unwrap());
    let mut bytes = fs::read(&target).unwrap();
    change(&mut bytes);
    fs::write(&target, bytes).unwrap();
    copy
}

fn value(server: &Server) -> u32 {
    let mut client = Client::connect(server.address, 5_000).unwrap();
    let (data, _) = client.get("/w").unwrap().expect("the node is there");
    String::from_utf8(data).unwrap().parse().unwrap()
}

#[test]
fn a_batch_torn_at_any_offset_is_cut_off_and_all_before_it_is_there() {
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = written(folder.path(), 5);
    let last = batches(&data).pop().expect("the log has batches");
    let end = last.at + last.bytes.next_multiple_of(BLOCK);
    // From every offset of the batch on: what was there before, or what the disk made of it.
    for offset in 0..last.bytes {
        let from = last.at + offset;
        let scramble = rng.chance(1, 2);
        let mut torn = false;
        let copy = damaged(folder.path(), &data, &last.file, |bytes| {
            let before = bytes[last.at..last.at + last.bytes].to_vec();
            match scramble {
                true => bytes[from..end].fill_with(|| rng.bits() as u8),
                false => bytes[from..end].fill(0),
            }
            torn = bytes[last.at..last.at + last.bytes] != before;
        });
        let server = setup(&copy, folder.path()).start();
        let expected = if torn { 4 } else { 5 };
        assert_eq!(value(&server), expected, "seed {seed}, torn at {offset} of {}", last.bytes);
        drop(server);
    }
}

#[test]
fn a_flipped_bit_in_the_log_is_refused_with_its_place() {
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = written(folder.path(), 8);
    let all = batches(&data);
    let batch = &all[all.len() - 4];
    for _ in 0..40 {
        let (at, bit) = (rng.below(batch.bytes as u64) as usize, rng.below(8));
        let copy = damaged(folder.path(), &data, &batch.file, |bytes| {
            bytes[batch.at + at] ^= 1 << bit;
        });
        let name = batch.file.file_name().unwrap().to_str().unwrap();
        let damage = format!("seed {seed}, bit {bit} of byte {at}");
        let before = fs::read(copy.join("ringkeeper").join(name)).unwrap();
        let (status, said) = setup(&copy, folder.path()).launch().wait_for_end(PATIENCE);
        assert!(status.code().is_some_and(|code| code != 0), "{damage}: {status}\n{said}");
        for words in [name, &format!("{}", batch.at), "0x", "damaged"] {
            assert!(said.contains(words), "{damage}: it says {words:?}:\n{said}");
        }
        assert!(!said.contains("panicked"), "{damage}:\n{said}");
        assert_eq!(fs::read(copy.join("ringkeeper").join(name)).unwrap(), before, "{damage}");
    }
}

/// Data with at least two snapshots, and `/w` as it was last set.
fn with_snapshots(folder: &Path) -> (PathBuf, u32) {
    let data = folder.join("original");
    let server = setup(&data, folder).with("snapCount=200").start();
    let mut client = Client::connect(server.address, 30_000).unwrap();
    client.create("/w", b"0", 0).unwrap();
    let started = Instant::now();
    let mut number = 0;
    while files(&data, "snapshot.").len() < 3 {
        number += 1;
        client.set("/w", number.to_string().as_bytes()).unwrap();
        assert!(started.elapsed() < PATIENCE, "{number} writes and no three snapshots");
    }
    server.kill();
    (data, number)
}

#[test]
fn a_flipped_bit_in_the_newest_snapshot_falls_back_to_the_one_before() {
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let (data, last) = with_snapshots(folder.path());
    let newest = files(&data, "snapshot.").pop().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    for _ in 0..30 {
        let mut place = 0;
        let copy = damaged(folder.path(), &data, &newest, |bytes| {
            place = rng.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << rng.below(8);
        });
        let server = setup(&copy, folder.path()).start();
        assert_eq!(value(&server), last, "seed {seed}, byte {place}");
        let said = server.output();
        let named = said
            .lines()
            .any(|line| (line.contains("WARN") || line.contains("ERROR")) && line.contains(&name));
        assert!(named, "seed {seed}, byte {place}: a warning names {name}:\n{said}");
    }
    // Cut short, as a snapshot that was renamed before it was flushed would be.
    let copy = damaged(folder.path(), &data, &newest, |_| {});
    fs::write(copy.join("ringkeeper").join(&name), b"").unwrap();
    assert_eq!(value(&setup(&copy, folder.path()).start()), last);
}

#[test]
fn with_every_snapshot_damaged_it_refuses_or_replays_the_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let (data, last) = with_snapshots(folder.path());
    let newest = files(&data, "snapshot.").pop().unwrap();
    let copy = damaged(folder.path(), &data, &newest, |_| {});
    for snapshot in files(&copy, "snapshot.") {
        let mut bytes = fs::read(&snapshot).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&snapshot, bytes).unwrap();
    }
    let mut server = setup(&copy, folder.path()).launch();
    match server.wait_until_serving() {
        Ok(()) => assert_eq!(value(&server), last),
        Err(reason) => {
            let (status, said) = server.wait_for_end(PATIENCE);
            assert!(status.code().is_some_and(|code| code != 0), "{reason}");
            assert!(said.contains("snapshot") && !said.contains("panicked"), "{reason}");
        }
    }
}

#[test]
fn a_full_tmpfs_ends_the_server_and_more_space_brings_everything_back() {
    let seed = base_seed(1);
    let disk = SmallDisk::mount(12 << 10);
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&disk.path().join("data"), folder.path()).with("snapCount=500");
    let mut server = setup.start();
    let address = server.address;
    let mut load = Load::begin(address, seed, 2, 16);
    load.run_until(address, || {
        let (status, said) = server.wait_for_end(2 * PATIENCE);
        assert!(!status.success(), "{status}:\n{said}");
        assert!(said.contains("No space left on device"), "{said}");
    });
    disk.resize(64 << 10);
    let server = setup.start();
    load.find_again(address);
    load.run_until(address, || {
        thread::sleep(Duration::from_millis(300));
        server.kill();
    });
    let _server = setup.start();
    load.find_again(address);
}

#[test]
fn a_filesystem_without_direct_io_works_and_is_named() {
    let seed = base_seed(1);
    let disk = SmallDisk::without_direct_io();
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&disk.path().join("data"), folder.path()).with("snapCount=500");
    let mut server = setup.start();
    let address = server.address;
    let mut load = Load::begin(address, seed, 2, 16);
    for _ in 0..5 {
        assert!(server.output().contains("O_DIRECT"), "it says so:\n{}", server.output());
        load.run_until(address, || {
            thread::sleep(Duration::from_millis(300));
            server.kill();
        });
        server = setup.start();
        load.find_again(address);
    }
}
