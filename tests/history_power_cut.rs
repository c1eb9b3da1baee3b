//! What a leader may order a member's disk to do, on a disk that loses power between any two of its
//! changes: transactions that were logged are cut off again (TRUNC), a snapshot takes the place of
//! everything (SNAP), epochs are written. What is found is what was before the order or what is
//! behind it, never a mixture, and never something that a start refuses.

use std::convert::Infallible;
use std::path::Path;
use std::thread;
use std::time::Duration;

use harness::power_cut::{PowerCut, Switch};
use harness::rng::{Rng, base_seed};
use ringkeeper::ids::{Epoch, SessionId, Zxid};
use ringkeeper::jute::records::Acl;
use ringkeeper::log::epochs::{EpochFiles, Epochs};
use ringkeeper::log::folders::DataFolders;
use ringkeeper::log::group_commit::GroupCommit;
use ringkeeper::log::install::install;
use ringkeeper::log::recover::{Recover, Recovered, recover};
use ringkeeper::log::spares::Spares;
use ringkeeper::log::truncate::truncate;
use ringkeeper::rt::disk::{beside, run_here};
use ringkeeper::rt::files::{DiskError, Pace};
use ringkeeper::snapshot::format::Znode;
use ringkeeper::snapshot::write::SnapshotWriter;

/// Disks, each with its own seed.
const SEEDS: u64 = 25;

/// Lives of the log on one disk, each ended by a cut.
const LIVES: u64 = 8;

/// Small, so that a life rolls over several segments.
const SEGMENT_BYTES: u64 = 10 * 4096;

/// The state behind a transaction: its zxid, and a digest of all that led there. Two histories that
/// differ anywhere have other digests from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    zxid: Zxid,
    digest: u64,
}

const BEGINNING: Point = Point { zxid: Zxid::ZERO, digest: 0 };

impl Point {
    /// The state behind one transaction more.
    fn and(self, zxid: Zxid, txn: &[u8]) -> Point {
        let with = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let digest = zxid
            .bits()
            .to_le_bytes()
            .iter()
            .chain(txn)
            .fold(self.digest, |digest, byte| with(digest, *byte));
        Point { zxid, digest }
    }
}

/// What a start finds. A snapshot's root has the digest as its ctime.
struct Found(Point);

impl Recover for Found {
    type Error = Infallible;

    fn begin(&mut self, zxid: Zxid, _: usize) {
        self.0 = Point { zxid, digest: 0 };
    }

    fn session(&mut self, _: SessionId, _: i32) -> Result<(), Infallible> {
        Ok(())
    }

    fn acl(&mut self, _: u32, _: Vec<Acl>) -> Result<(), Infallible> {
        Ok(())
    }

    fn znode(&mut self, znode: &Znode<'_>) -> Result<(), Infallible> {
        assert_eq!(znode.mzxid, self.0.zxid.bits(), "a snapshot under a wrong name");
        self.0.digest = znode.ctime as u64;
        Ok(())
    }

    fn replay(&mut self, zxid: Zxid, txn: &[u8]) -> Result<(), Infallible> {
        self.0 = self.0.and(zxid, txn);
        Ok(())
    }
}

/// What may be found.
struct Model {
    /// The history: every state from the oldest that can be gone back to.
    points: Vec<Point>,
    /// States behind those that were handed to the log and not flushed, or that an order in
    /// flight would lead to.
    possible: Vec<Point>,
    epochs: Epochs,
    next_epochs: Epochs,
    /// Orders of each kind that were carried out.
    done: [usize; 4],
}

impl Model {
    fn new() -> Model {
        let epochs = Epochs { accepted: Epoch::new(0), current: Epoch::new(0) };
        Model {
            points: vec![BEGINNING],
            possible: Vec::new(),
            epochs,
            next_epochs: epochs,
            done: [0; 4],
        }
    }

    fn last(&self) -> Point {
        *self.points.last().expect("there is always a beginning")
    }

    /// What was found must be the state that was durable, or one that was under way.
    fn check(&mut self, found: Point, context: &str) {
        let possible = std::mem::take(&mut self.possible);
        if found == self.last() {
            return;
        }
        let Some(at) = possible.iter().position(|point| *point == found) else {
            panic!(
                "{context}: {found:?} was found, after {:?} or on the way to {possible:?}",
                self.last()
            );
        };
        match self.points.iter().position(|point| *point == found) {
            Some(cut) => self.points.truncate(cut + 1),
            None if found.zxid > self.last().zxid && !self.is_installing(&possible) => {
                self.points.extend(&possible[..=at]);
            }
            None => self.points = vec![found],
        }
    }

    /// A snapshot stands alone, and does not follow from what is here.
    fn is_installing(&self, possible: &[Point]) -> bool {
        possible.len() == 1 && possible[0].digest == INSTALLED
    }
}

/// The digest of every snapshot that a leader sent.
const INSTALLED: u64 = 0x5AFE;

fn open(data: &Path) -> Option<(DataFolders, Recovered, Point)> {
    let folders = DataFolders::open(data, data).ok()?;
    let mut found = Found(BEGINNING);
    let recovered = recover(&folders, SEGMENT_BYTES, &mut found).ok()?;
    Some((folders, recovered, found.0))
}

/// Does one thing after the other until the power goes.
fn live(data: &Path, rng: &mut Rng, model: &mut Model, context: &str) {
    let Some((folders, recovered, found)) = open(data) else { return };
    model.check(found, context);
    let epoch_files = EpochFiles::of(&folders);
    let Ok(epochs) = epoch_files.load(Zxid::ZERO) else { return };
    assert!(
        epochs == model.epochs || epochs == model.next_epochs,
        "{context}: {epochs:?} after {:?}, {:?}",
        model.epochs,
        model.next_epochs
    );
    (model.epochs, model.next_epochs) = (epochs, epochs);
    let spares = Spares::new(folders.log(), SEGMENT_BYTES, recovered.spare.clone());
    run_here(async {
        let server = Server { folders: &folders, spares, rng, model };
        server.run(recovered, &epoch_files).await;
        // The executor closes a dropped file in passing, and only while it runs. One that stays open
        // would keep the disk mounted.
        while has_open_log(data) {
            beside(|| thread::sleep(Duration::from_millis(1))).await;
        }
    });
}

/// Whether this process has a file of the log open.
fn has_open_log(data: &Path) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").expect("the process's own files");
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).any(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(data) && (name.starts_with("log.") || name.starts_with("spare."))
    })
}

struct Server<'a> {
    folders: &'a DataFolders,
    spares: Spares,
    rng: &'a mut Rng,
    model: &'a mut Model,
}

impl Server<'_> {
    async fn run(mut self, recovered: Recovered, epochs: &EpochFiles) {
        let opened = GroupCommit::open(recovered.tail, self.spares.clone()).await;
        let Ok(mut log) = opened else { return };
        while self.turn(&mut log, epochs).await.is_some() {}
    }

    /// `None`: the power went.
    async fn turn(&mut self, log: &mut GroupCommit, epochs: &EpochFiles) -> Option<()> {
        match self.rng.below(12) {
            0 | 1 => self.truncate(log).await,
            2 => self.install(log).await,
            3 => self.snapshot(),
            4 => self.write_epochs(epochs),
            5 => self.spares.prepare_wanted(Pace::Full).ok().map(drop),
            _ => self.append(log).await,
        }
    }

    async fn append(&mut self, log: &mut GroupCommit) -> Option<()> {
        let mut point = self.model.last();
        for _ in 0..self.rng.below(6) + 1 {
            let zxid = match self.rng.chance(1, 20) {
                true => Zxid::new(Epoch::new(point.zxid.epoch().number() + 1), 1),
                false => point.zxid.next(),
            };
            let longest = if self.rng.chance(1, 10) { 9000 } else { 900 };
            let length = self.rng.below(longest);
            let txn: Vec<u8> = (0..length).map(|_| self.rng.bits() as u8).collect();
            log.append(zxid, |to| to.extend_from_slice(&txn));
            point = point.and(zxid, &txn);
            self.model.possible.push(point);
        }
        log.start_flush().await.ok()?;
        self.model.points.append(&mut self.model.possible);
        self.model.done[0] += 1;
        Some(())
    }

    async fn truncate(&mut self, log: &mut GroupCommit) -> Option<()> {
        let back = self.rng.below(self.model.points.len().min(30) as u64) as usize;
        let kept = self.model.points.len() - back;
        let point = self.model.points[kept - 1];
        self.model.possible = vec![point];
        let tail = match truncate(self.folders, &self.spares, point.zxid) {
            Ok(tail) => tail,
            Err(refused) => {
                assert!(!refused.is_refusal(), "{refused}");
                return None;
            }
        };
        self.model.possible.clear();
        self.model.points.truncate(kept);
        self.model.done[1] += 1;
        log.go_on(tail).await.ok()
    }

    async fn install(&mut self, log: &mut GroupCommit) -> Option<()> {
        let last = self.model.last().zxid;
        let epoch = Epoch::new((last.epoch().number() + self.rng.below(2) as u32).max(1));
        let zxid = Zxid::new(epoch, self.rng.below(40) as u32);
        let point = Point { zxid, digest: INSTALLED };
        let received = self.written(point).ok()?;
        self.model.possible = vec![point];
        let tail = install(self.folders, &self.spares, received).ok()?;
        self.model.possible.clear();
        self.model.points = vec![point];
        self.model.done[2] += 1;
        log.go_on(tail).await.ok()
    }

    /// A snapshot of our own, of what is durable. Not of the server's beginning, which needs none.
    fn snapshot(&mut self) -> Option<()> {
        let at = self.rng.below(self.model.points.len().min(10) as u64) as usize;
        let point = self.model.points[self.model.points.len() - 1 - at];
        if point != BEGINNING {
            self.written(point).and_then(SnapshotWriter::finish).ok()?;
            self.model.done[3] += 1;
        }
        Some(())
    }

    fn written(&self, point: Point) -> Result<SnapshotWriter, DiskError> {
        let folder = self.folders.snapshots();
        let mut writer = SnapshotWriter::create(folder, point.zxid, 0, Pace::Full)?;
        let root = Znode {
            path: "/",
            data: None,
            acl: 0,
            czxid: 0,
            mzxid: point.zxid.bits(),
            pzxid: 0,
            ctime: point.digest as i64,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
        };
        writer.znode(root)?;
        Ok(writer)
    }

    fn write_epochs(&mut self, files: &EpochFiles) -> Option<()> {
        let Epochs { accepted, current } = self.model.epochs;
        let next = match accepted == current {
            true => Epochs { accepted: Epoch::new(accepted.number() + 1), current },
            false => Epochs { accepted, current: accepted },
        };
        self.model.next_epochs = next;
        let written = match accepted == current {
            true => files.write_accepted(next.accepted),
            false => files.write_current(next.current),
        };
        written.ok()?;
        self.model.epochs = next;
        Some(())
    }
}

#[test]
fn an_order_of_the_leader_is_carried_out_as_a_whole_or_not_at_all() {
    let base = base_seed(1);
    let mut done = [0; 4];
    for seed in base..base + SEEDS {
        let mut rng = Rng::new(seed);
        let Some(mut power) = PowerCut::mount() else { return };
        let data = power.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::File::open(power.path()).unwrap().sync_all().unwrap();
        let mut model = Model::new();
        for life in 0..LIVES {
            let most = if rng.chance(1, 2) { 60 } else { 500 };
            let changes = rng.below(most);
            let context = format!("seed {seed}, life {life}, cut after {changes} changes");
            power.set_switch(Switch::OffAfter(changes));
            // The log lives in this process, so nothing is killed: its calls fail from then on.
            power.let_go();
            live(&data, &mut rng, &mut model, &context);
            assert!(power.wait_until_off(Duration::ZERO), "{context}: it ended before the cut");
            power.restore(&mut rng);
        }
        let context = format!("seed {seed}, at the end");
        let (_folders, _, found) = open(&data).unwrap_or_else(|| panic!("{context}: refused"));
        model.check(found, &context);
        for (sum, each) in done.iter_mut().zip(model.done) {
            *sum += each;
        }
    }
    let [batches, cuts, installed, snapshots] = done;
    println!(
        "{batches} batches, {cuts} truncations, {installed} snapshots of leaders, {snapshots}"
    );
    assert!(cuts > 50 && installed > 30, "{done:?}: the cuts of power come too soon");
}
