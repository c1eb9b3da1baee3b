//! Log and snapshots alone on a disk that loses power, hundreds of times: recovery, appending,
//! rolling, snapshots and purging are cut between any two changes of the disk, and what was flushed
//! must be there, in order, with at most the batch that was in flight behind it.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::power_cut::{PowerCut, Switch};
use harness::rng::{Rng, base_seed};
use ringkeeper::ids::{SessionId, Zxid};
use ringkeeper::jute::records::Acl;
use ringkeeper::log::folders::DataFolders;
use ringkeeper::log::group_commit::GroupCommit;
use ringkeeper::log::purge::purge;
use ringkeeper::log::recover::{Recover, Recovered, recover};
use ringkeeper::log::spares::Spares;
use ringkeeper::rt::disk::{beside, run_here};
use ringkeeper::rt::files::{DiskError, Pace};
use ringkeeper::snapshot::format::Znode;
use ringkeeper::snapshot::write::SnapshotWriter;

/// Disks, each with its own seed.
const SEEDS: u64 = 30;

/// Lives of the log on one disk, each ended by a cut.
const LIVES: u64 = 6;

/// Small, so that a life rolls over several segments.
const SEGMENT_BYTES: u64 = 16 * 4096;

/// Snapshots that a purge leaves.
const RETAINED: usize = 2;

/// What was found: transaction number n has zxid n, so a snapshot at zxid n stands for the first n.
#[derive(Default)]
struct Kept {
    in_snapshot: usize,
    txns: Vec<Vec<u8>>,
}

impl Kept {
    fn count(&self) -> usize {
        self.in_snapshot + self.txns.len()
    }
}

impl Recover for Kept {
    type Error = Infallible;

    fn begin(&mut self, zxid: Zxid, _: usize) {
        *self = Kept { in_snapshot: zxid.counter() as usize, txns: Vec::new() };
    }

    fn session(&mut self, _: SessionId, _: i32) -> Result<(), Infallible> {
        Ok(())
    }

    fn acl(&mut self, _: u32, _: Vec<Acl>) -> Result<(), Infallible> {
        Ok(())
    }

    fn znode(&mut self, znode: &Znode<'_>) -> Result<(), Infallible> {
        assert_eq!(znode.mzxid as usize, self.in_snapshot, "a snapshot under a wrong name");
        Ok(())
    }

    fn replay(&mut self, zxid: Zxid, txn: &[u8]) -> Result<(), Infallible> {
        self.txns.push(txn.to_vec());
        assert_eq!(zxid.counter() as usize, self.count(), "a transaction out of its order");
        Ok(())
    }
}

/// All that was ever handed to the log, and how much of it was flushed.
#[derive(Default)]
struct Ledger {
    sent: Vec<Vec<u8>>,
    flushed: usize,
}

impl Ledger {
    /// What was found must be all that was flushed, and of the rest a beginning.
    fn check(&mut self, found: &Kept, context: &str) {
        let (count, sent, flushed) = (found.count(), self.sent.len(), self.flushed);
        assert!(count >= flushed, "{context}: {count} of {flushed} flushed transactions");
        assert!(count <= sent, "{context}: {count} found, {sent} sent");
        let tail = &self.sent[found.in_snapshot..count];
        assert!(found.txns == tail, "{context}: other transactions than were sent");
        self.sent.truncate(count);
        self.flushed = count;
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
    ledger.check(&kept, context);
    let spares = Spares::new(folders.log(), SEGMENT_BYTES, recovered.spare.clone());
    let (ended, durable) = (AtomicBool::new(false), AtomicU64::new(ledger.flushed as u64));
    // Half of the lives have a thread that keeps house; the others make segments in line.
    let housekeeping = rng.chance(1, 2).then(|| spares.clone());
    thread::scope(|scope| {
        if let Some(spares) = housekeeping {
            scope.spawn(|| keep_house(&folders, spares, &ended, &durable));
        }
        let _end = EndOnDrop(&ended);
        run_here(async {
            append_until_cut(recovered, spares, rng, ledger, &durable).await;
            // The executor closes a dropped file in passing, and only while it runs.
            beside(|| thread::sleep(Duration::from_millis(1))).await;
        });
    });
}

/// Sends the housekeeping thread home even when an assertion ends the life.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes segments ahead, and now and then a snapshot of what is durable, and purges. A failure is a
/// warning there; the log meets it itself.
fn keep_house(folders: &DataFolders, spares: Spares, ended: &AtomicBool, durable: &AtomicU64) {
    let mut turns = 0;
    while !ended.load(Ordering::Relaxed) {
        let _ = spares.prepare_wanted(Pace::Full);
        turns += 1;
        if turns % 8 == 0 {
            let _ = snapshot(folders, durable.load(Ordering::Relaxed) as i64);
            let _ = purge(folders, RETAINED);
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn snapshot(folders: &DataFolders, zxid: i64) -> Result<(), DiskError> {
    if zxid == 0 {
        return Ok(());
    }
    let mut writer =
        SnapshotWriter::create(folders.snapshots(), Zxid::from_bits(zxid), 0, Pace::Full)?;
    let root = Znode {
        path: "/",
        data: None,
        acl: 0,
        czxid: 0,
        mzxid: zxid,
        pzxid: 0,
        ctime: 0,
        mtime: 0,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
    };
    writer.znode(root)?;
    writer.finish().map(drop)
}

async fn append_until_cut(
    recovered: Recovered,
    spares: Spares,
    rng: &mut Rng,
    ledger: &mut Ledger,
    durable: &AtomicU64,
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
            ledger.sent.push(txn);
        }
        if log.start_flush().await.is_err() {
            return;
        }
        ledger.flushed = ledger.sent.len();
        durable.store(ledger.flushed as u64, Ordering::Relaxed);
    }
}

#[test]
fn what_was_flushed_survives_cuts_between_any_two_changes() {
    let base = base_seed(1);
    let (mut flushed, mut lives) = (0, 0);
    for seed in base..base + SEEDS {
        let mut rng = Rng::new(seed);
        let Some(mut power) = PowerCut::mount() else { return };
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
        ledger.check(&kept, &context);
        flushed += ledger.flushed;
    }
    println!("{flushed} transactions flushed in {lives} lives");
    assert!(flushed as u64 > SEEDS * 50, "only {flushed} transactions: the cuts come too soon");
}
