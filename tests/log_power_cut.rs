//! The log alone on a disk that loses power, hundreds of times: recovery, appending and rolling are
//! cut between any two changes of the disk, and what was flushed must be there, in order, with at
//! most the batch that was in flight behind it.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::disk::Faults;
use harness::power_cut::{PowerCut, Switch};
use harness::rng::{Rng, base_seed};
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::records::Acl;
use ringkeeper::log::folders::DataFolders;
use ringkeeper::log::group_commit::GroupCommit;
use ringkeeper::log::recover::{Recover, Recovered, recover};
use ringkeeper::log::spares::Spares;
use ringkeeper::rt::disk::{beside, run_here};
use ringkeeper::rt::files::Pace;
use ringkeeper::snapshot::format::Znode;

/// Disks, each with its own seed.
const SEEDS: u64 = 30;

/// Lives of the log on one disk, each ended by a cut.
const LIVES: u64 = 6;

/// Small, so that a life rolls over several segments.
const SEGMENT_BYTES: u64 = 16 * 4096;

/// What was in the log.
#[derive(Default)]
struct Kept(Vec<(Zxid, Vec<u8>)>);

impl Recover for Kept {
    type Error = Infallible;

    fn begin(&mut self, zxid: Zxid, _: usize) {
        assert_eq!(zxid, Zxid::ZERO, "there are no snapshots");
        self.0.clear();
    }

    fn session(&mut self, _: SessionId, _: i32) -> Result<(), Infallible> {
        Ok(())
    }

    fn acl(&mut self, _: u32, _: Vec<Acl>) -> Result<(), Infallible> {
        Ok(())
    }

    fn znode(&mut self, _: &Znode<'_>) -> Result<(), Infallible> {
        Ok(())
    }

    fn replay(&mut self, zxid: Zxid, txn: &[u8]) -> Result<(), Infallible> {
        self.0.push((zxid, txn.to_vec()));
        Ok(())
    }
}

/// All that was ever handed to the log, and how much of it was flushed.
#[derive(Default)]
struct Ledger {
    sent: Vec<(Zxid, Vec<u8>)>,
    flushed: usize,
}

impl Ledger {
    /// What was found must be all that was flushed, and of the rest a beginning.
    fn check(&mut self, found: &[(Zxid, Vec<u8>)], context: &str) {
        let (lost, sent) = (self.flushed > found.len(), self.sent.len());
        assert!(!lost, "{context}: {} of {} flushed transactions", found.len(), self.flushed);
        assert!(found.len() <= sent, "{context}: {} found, {sent} sent", found.len());
        assert!(found == &self.sent[..found.len()], "{context}: other transactions than were sent");
        self.sent.truncate(found.len());
        self.flushed = found.len();
    }
}

/// Opens the log as a server does. `None`: the power went.
fn open(data: &Path) -> Option<(DataFolders, Recovered, Kept)> {
    let folders = DataFolders::open(data, data).ok()?;
    let mut kept = Kept::default();
    let recovered = recover(&folders, SEGMENT_BYTES, &mut kept).ok()?;
    Some((folders, recovered, kept))
}

/// Appends batch after batch until the power goes.
fn live(data: &Path, rng: &mut Rng, ledger: &mut Ledger, context: &str) {
    let Some((folders, recovered, kept)) = open(data) else { return };
    ledger.check(&kept.0, context);
    let spares = Spares::new(folders.log(), SEGMENT_BYTES, recovered.spare.clone());
    let ended = AtomicBool::new(false);
    // Half of the lives have a thread that makes segments ahead; the others make them in line.
    let ahead = rng.chance(1, 2);
    thread::scope(|scope| {
        let for_housekeeping = spares.clone();
        let ended = &ended;
        scope.spawn(move || {
            while ahead && !ended.load(Ordering::Relaxed) {
                // A failure is a warning there; the log meets it itself.
                let _ = for_housekeeping.prepare_wanted(Pace::Full);
                thread::sleep(Duration::from_micros(200));
            }
        });
        run_here(async {
            append_until_cut(recovered, spares, rng, ledger).await;
            // The executor closes a dropped file in passing, and only while it runs.
            beside(|| thread::sleep(Duration::from_millis(1))).await;
        });
        ended.store(true, Ordering::Relaxed);
    });
}

async fn append_until_cut(
    recovered: Recovered,
    spares: Spares,
    rng: &mut Rng,
    ledger: &mut Ledger,
) {
    let mut zxid = recovered.last_zxid;
    let Ok(mut log) = GroupCommit::open(recovered.tail, spares).await else { return };
    loop {
        for _ in 0..rng.below(6) + 1 {
            zxid = zxid.next();
            let longest = if rng.chance(1, 10) { 20_000 } else { 400 };
            let length = rng.below(longest);
            let txn: Vec<u8> = (0..length).map(|_| rng.bits() as u8).collect();
            log.append(zxid, |to| to.extend_from_slice(&txn));
            ledger.sent.push((zxid, txn));
        }
        if log.start_flush().await.is_err() {
            return;
        }
        ledger.flushed = ledger.sent.len();
    }
}

#[test]
fn what_was_flushed_survives_cuts_between_any_two_changes() {
    let base = base_seed(1);
    let (mut flushed, mut lives) = (0, 0);
    for seed in base..base + SEEDS {
        let mut rng = Rng::new(seed);
        let Some(mut power) = PowerCut::mount() else { return };
        // On every third disk the log has to write through the page cache.
        power.set_faults(Faults { refuse_direct: seed % 3 == 0, ..Faults::default() });
        let data = power.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::File::open(power.path()).unwrap().sync_all().unwrap();
        let mut ledger = Ledger::default();
        for life in 0..LIVES {
            let most = if rng.chance(1, 2) { 40 } else { 400 };
            let changes = rng.below(most);
            let context = format!("seed {seed}, life {life}, cut after {changes} changes");
            power.set_switch(Switch::OffAfter(changes));
            // The log lives in this process, so nothing is killed: its calls fail from then on.
            power.let_go();
            live(&data, &mut rng, &mut ledger, &context);
            assert!(
                power.wait_until_off(Duration::ZERO),
                "{context}: the log ended before the cut"
            );
            power.restore(&mut rng);
            lives += 1;
        }
        let context = format!("seed {seed}, at the end");
        let (_folders, _recovered, kept) =
            open(&data).unwrap_or_else(|| panic!("{context}: refused"));
        ledger.check(&kept.0, &context);
        flushed += ledger.flushed;
    }
    println!("{flushed} transactions flushed in {lives} lives");
    assert!(flushed as u64 > SEEDS * 50, "only {flushed} transactions: the cuts come too soon");
}
