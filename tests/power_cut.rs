//! Power cuts: the server runs on a disk that forgets what was not flushed, loses power at any
//! moment, and must find everything acknowledged when it starts again.

use std::fs;
use std::thread;
use std::time::Duration;

use harness::client::Client;
use harness::disk::Faults;
use harness::load::Load;
use harness::power_cut::{PowerCut, Switch};
use harness::rng::{Rng, base_seed};
use harness::server::{Server, Setup};

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Seeds of the test under load; each has several cuts.
const SEEDS: u64 = 4;

/// Cuts in a row on one disk.
const CUTS: u64 = 6;

/// Writers at work at the same time.
const WRITERS: u64 = 2;

/// Requests that each keeps in flight.
const DEPTH: usize = 16;

/// Longest wait for a cut that a count of changes brings.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on that disk: small segments, and snapshots often enough that cuts fall into them.
fn setup(power: &PowerCut, folder: &tempfile::TempDir) -> Setup {
    Setup::new(SERVER, &power.path().join("data"), folder.path())
        .with("tickTime=250")
        .with("snapCount=300")
        .with("ringkeeper.segmentSizeKb=1024")
}

fn kill(server: Server, power: &PowerCut) {
    server.kill_and(|| power.let_go());
}

#[test]
fn power_cuts_under_load_lose_nothing_that_was_acknowledged() {
    let base = base_seed(1);
    for seed in base..base + SEEDS {
        let mut rng = Rng::new(seed);
        let Some(mut power) = PowerCut::mount() else { return };
        let folder = tempfile::tempdir().unwrap();
        let setup = setup(&power, &folder);
        let mut server = setup.start();
        let address = server.address;
        let mut load = Load::begin(address, seed, WRITERS, DEPTH);
        for cut in 0..CUTS {
            println!("seed {seed}, cut {cut}, {} acknowledged", load.acknowledged());
            load.run_until(address, || {
                thread::sleep(rng.duration_below(Duration::from_millis(600)));
                // A count brings the cut to any place between two changes of the disk.
                power.set_switch(Switch::OffAfter(rng.below(12)));
                assert!(power.wait_until_off(PATIENCE), "the load writes");
                kill(server, &power);
            });
            power.restore(&mut rng);
            server = setup.start();
            load.find_again(address);
        }
        kill(server, &power);
    }
}

/// The changes that a first start makes until it serves.
fn changes_of_a_first_start() -> Option<u64> {
    let power = PowerCut::mount()?;
    let folder = tempfile::tempdir().unwrap();
    kill(setup(&power, &folder).start(), &power);
    Some(power.changes())
}

#[test]
fn a_first_start_that_lost_power_anywhere_is_followed_by_one_that_serves() {
    let Some(changes) = changes_of_a_first_start() else { return };
    assert!(changes > 5, "a first start makes files: only {changes} changes");
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    // Every change near both ends, where files are made and renamed; in between (a segment being
    // filled with zeros) every so many.
    let stride = (changes / 40).max(1);
    let points = (0..changes + 4).filter(|n| *n < 30 || n + 20 > changes || n % stride == 0);
    for point in points {
        println!("seed {seed}, cut before change {point} of {changes}");
        let mut power = PowerCut::mount().expect("it was mounted before");
        let folder = tempfile::tempdir().unwrap();
        let setup = setup(&power, &folder);
        power.set_switch(Switch::OffAfter(point));
        let server = setup.launch();
        if !power.wait_until_off(Duration::from_secs(2)) {
            // The counts differ by a few from start to start; then it is cut while it serves.
            power.set_switch(Switch::Off);
        }
        kill(server, &power);
        power.restore(&mut rng);
        let server = setup.start();
        let mut client = Client::connect(server.address, 5_000).expect("a new session");
        client.create("/first", b"write", 0).expect("a write");
        power.set_switch(Switch::Off);
        kill(server, &power);
        power.restore(&mut rng);
        let server = setup.start();
        let mut client = Client::connect(server.address, 5_000).expect("a new session");
        let (data, _) = client.get("/first").expect("a read").expect("it was acknowledged");
        assert_eq!(data, b"write");
        kill(server, &power);
    }
}

/// Runs the load until the disk's fault ends the server by itself; it must say why. Then the disk is
/// well again, and everything acknowledged is there.
fn fails_stop(faults: impl Fn(&PowerCut) -> Faults, complaint: &str) {
    let seed = base_seed(1);
    let Some(power) = PowerCut::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&power, &folder);
    let mut server = setup.start();
    let address = server.address;
    let mut load = Load::begin(address, seed, WRITERS, DEPTH);
    load.run_until(address, || {
        thread::sleep(Duration::from_millis(300));
        power.set_faults(faults(&power));
        let (status, said) = server.wait_for_end(PATIENCE);
        assert!(!status.success(), "{status}:\n{said}");
        assert!(said.contains(complaint), "it says {complaint:?}:\n{said}");
    });
    power.set_faults(Faults::default());
    let server = setup.start();
    load.find_again(address);
    load.run_until(address, || {
        thread::sleep(Duration::from_millis(200));
        server.kill();
    });
    assert!(fs::read_dir(power.path()).is_ok());
}

#[test]
fn a_full_disk_ends_the_server_with_its_reason_and_loses_nothing() {
    let full = |power: &PowerCut| Faults { capacity: Some(power.used()), ..Faults::default() };
    fails_stop(full, "No space left on device");
}

#[test]
fn a_failing_flush_ends_the_server_with_its_reason() {
    fails_stop(|_| Faults { fail_syncs: true, ..Faults::default() }, "Input/output error");
}

#[test]
fn a_failing_write_ends_the_server_with_its_reason() {
    fails_stop(|_| Faults { fail_writes: true, ..Faults::default() }, "Input/output error");
}
