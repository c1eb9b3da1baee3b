//! Which requests a run asks for: the prepared frames, the choice of the next one, and what its
//! reply must look like. Shared by all connections of a run, and so unchanging, but for the count
//! of the keys that the delete workload has used up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::arguments::{Distribution, Plan, WorkloadKind};
use crate::draw::{CREATED_DIGITS, Keys, Source, Zipf};
use crate::fanout::Fanout;
use crate::paths::Paths;
use crate::wire::{self, Reply, Template, op};

/// `create` flags of a persistent sequential znode.
const SEQUENTIAL: i32 = 2;

/// What requests of a step do to the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Read,
    Write,
    /// What is told beside the rest, and not counted with it.
    Aside,
}

/// One kind of request of a workload.
#[derive(Debug)]
pub struct Step {
    /// As reports name it.
    pub name: &'static str,
    pub class: Class,
    /// Of 100 requests of the workload, how many are of this step or of one before it.
    share_to: u64,
    template: Template,
    numbers: Numbers,
    /// What the first int of a successful reply's body must be.
    first: Option<i32>,
}

/// Where the number in a path comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// There is none.
    Without,
    /// By the distribution of keys.
    Key,
    /// A name of its own.
    Created,
    /// The oldest that the connection created.
    Deleted,
    /// Every key once, over all connections.
    Pool,
}

/// How the next step is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// At random, by the steps' shares.
    Shares,
    /// One after the other.
    Turns,
    /// The first connection writes when all others watch.
    Fanout,
}

/// The steps of the watch workload, by their numbers.
mod fanout_step {
    pub const EVENT: u8 = 0;
    pub const FIRST: u8 = 1;
    pub const LAST: u8 = 2;
    pub const SET: u8 = 3;
    pub const WATCH: u8 = 4;
}

/// The prepared requests of a run.
#[derive(Debug)]
pub struct Workload {
    steps: Vec<Step>,
    choice: Choice,
    keys: Keys,
    key_count: u64,
    /// Keys that were deleted; stays 0 in all workloads but delete.
    used_up: AtomicU64,
    /// Of the watch workload alone.
    fanout: Option<Fanout>,
}

impl Workload {
    pub fn new(plan: &Plan) -> Workload {
        let frames = Frames { plan, paths: Paths::new(plan), value: value(plan) };
        let read_share = u64::from(plan.read_share);
        let (steps, choice) = match plan.workload {
            WorkloadKind::Get => (vec![frames.get(100)], Choice::Shares),
            WorkloadKind::Exists => (vec![frames.exists(100)], Choice::Shares),
            WorkloadKind::Children => (vec![frames.list(100)], Choice::Shares),
            WorkloadKind::Set => (vec![frames.set(100)], Choice::Shares),
            WorkloadKind::Create => (vec![frames.create(100)], Choice::Shares),
            WorkloadKind::Delete => (vec![frames.delete_key(100)], Choice::Shares),
            WorkloadKind::Multi => (vec![frames.multi(100)], Choice::Shares),
            WorkloadKind::Cycle => {
                (vec![frames.create(100), frames.delete_created(100)], Choice::Turns)
            }
            WorkloadKind::Session => (sessions(&["open", "close"]), Choice::Turns),
            WorkloadKind::Storm => (sessions(&["open"]), Choice::Shares),
            WorkloadKind::Watch => (frames.fanout(), Choice::Fanout),
            WorkloadKind::Mixed => (vec![frames.get(read_share), frames.set(100)], Choice::Shares),
            // Create 1, set 8, get 45, list 45, delete 1: the shares that RaftKeeper publishes
            // figures of. Create comes last, where a delete without a znode turns to.
            WorkloadKind::Raftkeeper => (
                vec![
                    frames.get(45),
                    frames.list(90),
                    frames.set(98),
                    frames.delete_created(99),
                    frames.create(100),
                ],
                Choice::Shares,
            ),
        };
        let count = u64::from(plan.keys);
        let keys = match plan.distribution {
            Distribution::Uniform => Keys::Uniform(count),
            Distribution::Zipf { exponent } => Keys::Zipf(Zipf::new(count, exponent)),
        };
        let fanout = (choice == Choice::Fanout).then(|| Fanout::new(plan.connections - 1));
        Workload { steps, choice, keys, key_count: count, used_up: AtomicU64::new(0), fanout }
    }

    /// Appends the next request of a connection, about to be sent at `at`, to `out` and says of which
    /// step it is. `None`: all that there was to delete is deleted, or it is not its turn.
    #[inline]
    pub fn push(&self, out: &mut Vec<u8>, xid: i32, at: u64, source: &mut Source) -> Option<u8> {
        if let Some(fanout) = &self.fanout {
            return self.push_watched(fanout, out, xid, at, source);
        }
        let at = self.choose(source);
        let step = &self.steps[at];
        if step.numbers == Numbers::Pool {
            let number = self.used_up.fetch_add(1, Ordering::Relaxed);
            if number >= self.key_count {
                return None;
            }
            step.template.push(out, xid, || number);
            return Some(at as u8);
        }
        step.template.push(out, xid, || match step.numbers {
            Numbers::Key => self.keys.draw(source),
            Numbers::Created => source.create(),
            Numbers::Deleted => source.delete(),
            Numbers::Without | Numbers::Pool => 0,
        });
        Some(at as u8)
    }

    fn push_watched(
        &self,
        fanout: &Fanout,
        out: &mut Vec<u8>,
        xid: i32,
        at: u64,
        source: &mut Source,
    ) -> Option<u8> {
        let step = if source.is_first() {
            fanout.write(at).then_some(fanout_step::SET)?
        } else if !std::mem::replace(&mut source.watches, true) {
            fanout_step::WATCH
        } else {
            return None;
        };
        self.steps[usize::from(step)].template.push(out, xid, || 0);
        Some(step)
    }

    /// A request of this step succeeded.
    #[inline]
    pub fn succeeded(&self, step: u8) {
        if step == fanout_step::WATCH
            && let Some(fanout) = &self.fanout
        {
            fanout.set();
        }
    }

    /// A watch event came to a connection: gives each step that it is recorded as, and the time that
    /// its latency counts from.
    pub fn told(&self, source: &mut Source, mut each: impl FnMut(u8, u64)) {
        let Some(fanout) = &self.fanout else { return };
        if !std::mem::replace(&mut source.watches, false) {
            return;
        }
        let told = fanout.tell();
        each(fanout_step::EVENT, told.written_at);
        if told.first {
            each(fanout_step::FIRST, told.written_at);
        }
        if told.last {
            each(fanout_step::LAST, told.written_at);
        }
    }

    /// Whether a success of this step is one of the requests that the workload is measured by.
    #[inline]
    pub fn counts(&self, step: u8) -> bool {
        self.steps[usize::from(step)].class != Class::Aside
    }

    /// What the watchers agree on; `None` of every other workload.
    #[inline]
    pub fn fanout(&self) -> Option<&Fanout> {
        self.fanout.as_ref()
    }

    #[inline]
    fn choose(&self, source: &mut Source) -> usize {
        let last = self.steps.len() - 1;
        if last == 0 {
            return 0;
        }
        if self.choice == Choice::Turns {
            return source.turn() as usize % self.steps.len();
        }
        let draw = source.below(100);
        let at = self.steps.iter().position(|step| draw < step.share_to).unwrap_or(last);
        let nothing_to_delete = self.steps[at].numbers == Numbers::Deleted && !source.has_created();
        if nothing_to_delete { last } else { at }
    }

    /// Whether a successful reply begins as it must.
    #[inline]
    pub fn fits(&self, step: u8, reply: &Reply) -> bool {
        self.steps[usize::from(step)].first.is_none_or(|first| first == reply.first)
    }

    /// The kinds of request, in the order of the numbers that [`Workload::push`] gives.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The kinds of request with their shares, as a person reads it; `None` if there is but one.
    pub fn mix(&self) -> Option<String> {
        if let Some(fanout) = &self.fanout {
            return Some(format!("events; 1 connection writes, {} watch", fanout.watchers()));
        }
        if self.steps.len() < 2 {
            return None;
        }
        let mut before = 0;
        let parts = self.steps.iter().map(|step| match self.choice {
            Choice::Turns | Choice::Fanout => step.name.to_owned(),
            Choice::Shares => {
                let share = step.share_to - before;
                before = step.share_to;
                format!("{share}% {}", step.name)
            }
        });
        Some(parts.collect::<Vec<_>>().join(", "))
    }

    /// Whether all that there was to delete is deleted.
    #[inline]
    pub fn is_used_up(&self) -> bool {
        self.used_up.load(Ordering::Relaxed) >= self.key_count
    }

    /// The keys are there again.
    pub fn renew(&self) {
        self.used_up.store(0, Ordering::Relaxed);
    }
}

/// Makes the steps of one plan.
struct Frames<'a> {
    plan: &'a Plan,
    paths: Paths,
    value: Vec<u8>,
}

impl Frames<'_> {
    fn get(&self, share_to: u64) -> Step {
        let template = self.keyed(wire::read_request(0, op::GET_DATA, &self.paths.key(0)));
        let first = i32::try_from(self.plan.value_size).ok();
        let (class, numbers) = (Class::Read, Numbers::Key);
        Step { name: "get", class, share_to, template, numbers, first }
    }

    fn exists(&self, share_to: u64) -> Step {
        let template = self.keyed(wire::read_request(0, op::EXISTS, &self.paths.key(0)));
        let (class, numbers) = (Class::Read, Numbers::Key);
        Step { name: "exists", class, share_to, template, numbers, first: None }
    }

    fn list(&self, share_to: u64) -> Step {
        let path = self.paths.family();
        let template = Template::new(wire::read_request(0, op::GET_CHILDREN, &path), path.len(), 0);
        let first = i32::try_from(self.plan.children).ok();
        let (class, numbers) = (Class::Read, Numbers::Without);
        Step { name: "list", class, share_to, template, numbers, first }
    }

    fn set(&self, share_to: u64) -> Step {
        let template = self.keyed(wire::set_request(0, &self.paths.key(0), &self.value));
        let (class, numbers) = (Class::Write, Numbers::Key);
        Step { name: "set", class, share_to, template, numbers, first: None }
    }

    /// By the numbers of [`fanout_step`].
    fn fanout(&self) -> Vec<Step> {
        let path = self.paths.key(0);
        let step = |name, class, template| {
            let numbers = Numbers::Without;
            Step { name, class, share_to: 0, template, numbers, first: None }
        };
        let set = Template::new(wire::set_request(0, &path, &self.value), path.len(), 0);
        let watch = Template::new(wire::watch_request(0, &path), path.len(), 0);
        vec![
            step("event", Class::Read, Template::none()),
            step("first", Class::Aside, Template::none()),
            step("last", Class::Aside, Template::none()),
            step("set", Class::Aside, set),
            step("watch", Class::Aside, watch),
        ]
    }

    fn multi(&self, share_to: u64) -> Step {
        let (path, count) = (self.paths.key(0), self.plan.multi_size as usize);
        let frame = wire::multi_set_request(0, &path, &self.value, count);
        let template = Template::of_multi(frame, path.len(), self.paths.key_digits(), count);
        // A multi that failed says so in its first result.
        let (class, first) = (Class::Write, Some(op::SET_DATA));
        Step { name: "multi", class, share_to, template, numbers: Numbers::Key, first }
    }

    fn create(&self, share_to: u64) -> Step {
        let sequential = self.plan.sequential;
        let path = self.paths.first_created(sequential);
        let flags = if sequential { SEQUENTIAL } else { 0 };
        let frame = wire::create_request(0, &path, &self.value, flags);
        // The server numbers sequential znodes itself; ours have one prefix for all.
        let (digits, numbers) =
            if sequential { (0, Numbers::Without) } else { (CREATED_DIGITS, Numbers::Created) };
        let template = Template::new(frame, path.len(), digits);
        Step { name: "create", class: Class::Write, share_to, template, numbers, first: None }
    }

    fn delete_created(&self, share_to: u64) -> Step {
        let path = self.paths.first_created(false);
        let frame = wire::delete_request(0, &path);
        let template = Template::new(frame, path.len(), CREATED_DIGITS);
        let (class, numbers) = (Class::Write, Numbers::Deleted);
        Step { name: "delete", class, share_to, template, numbers, first: None }
    }

    fn delete_key(&self, share_to: u64) -> Step {
        let template = self.keyed(wire::delete_request(0, &self.paths.key(0)));
        let (class, numbers) = (Class::Write, Numbers::Pool);
        Step { name: "delete", class, share_to, template, numbers, first: None }
    }

    fn keyed(&self, frame: Vec<u8>) -> Template {
        Template::new(frame, self.paths.key(0).len(), self.paths.key_digits())
    }
}

/// The steps of a workload that opens sessions, of which the first counts.
fn sessions(names: &[&'static str]) -> Vec<Step> {
    let step = |(at, name): (usize, &&'static str)| Step {
        name,
        class: if at == 0 { Class::Write } else { Class::Aside },
        share_to: 100,
        template: Template::none(),
        numbers: Numbers::Without,
        first: None,
    };
    names.iter().enumerate().map(step).collect()
}

/// The data that znodes get: printable, the same in every run.
pub fn value(plan: &Plan) -> Vec<u8> {
    (0..plan.value_size).map(|at| b'a' + (at % 26) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;

    fn path_of(frame: &[u8]) -> &str {
        let length = wire::int_at(frame, 12) as usize;
        std::str::from_utf8(&frame[16..16 + length]).unwrap()
    }

    /// The names of a connection's first requests, and their paths.
    fn requests(workload: &Workload, connection: u32, count: usize) -> Vec<(&str, String)> {
        let mut source = Source::new(1, 0, connection);
        let mut out = Vec::new();
        let mut found = Vec::new();
        for _ in 0..count {
            out.clear();
            let step = workload.push(&mut out, 1, 0, &mut source).unwrap();
            found.push((workload.steps()[usize::from(step)].name, path_of(&out).to_owned()));
        }
        found
    }

    #[test]
    fn every_key_is_asked_for_and_no_other() {
        let plan = plan("--keys 11 --workload set --value-size 3");
        let workload = Workload::new(&plan);
        let paths = Paths::new(&plan);
        let mut wanted: Vec<_> = (0..11).map(|number| paths.key(number)).collect();
        for (name, path) in requests(&workload, 0, 1_000) {
            assert_eq!(name, "set");
            assert!((0..11).any(|number| paths.key(number) == path), "{path}");
            wanted.retain(|key| *key != path);
        }
        assert_eq!(wanted, [""; 0]);
    }

    #[test]
    fn a_zipf_load_asks_for_the_first_key_most_often() {
        let workload = Workload::new(&plan("--keys 100 --distribution zipf"));
        let asked = requests(&workload, 0, 10_000);
        let count = |key: &str| asked.iter().filter(|(_, path)| path.ends_with(key)).count();
        // One in 5.2 by the law of exponent 0.99 over 100 keys; an even draw gives 100.
        assert!((1_700..2_100).contains(&count("/00")), "{}", count("/00"));
        assert!(count("/50") < 100, "{}", count("/50"));
    }

    #[test]
    fn created_names_are_unique_over_connections() {
        let workload = Workload::new(&plan("--workload create"));
        let mut seen = std::collections::HashSet::new();
        for connection in 0..10 {
            for (_, path) in requests(&workload, connection, 10) {
                assert!(seen.insert(path.clone()), "{path} again");
            }
        }
    }

    #[test]
    fn a_cycle_deletes_what_it_has_just_created() {
        let workload = Workload::new(&plan("--workload cycle"));
        let found = requests(&workload, 2, 6);
        for pair in found.chunks(2) {
            assert_eq!((pair[0].0, pair[1].0), ("create", "delete"));
            assert_eq!(pair[0].1, pair[1].1);
        }
        assert_ne!(found[0].1, found[2].1);
    }

    #[test]
    fn each_key_is_deleted_once_over_all_connections_and_again_when_renewed() {
        let workload = Workload::new(&plan("--workload delete --keys 4"));
        for _ in 0..2 {
            let mut paths = requests(&workload, 0, 2);
            paths.extend(requests(&workload, 1, 2));
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), 4);
            assert!(workload.is_used_up());
            let mut out = Vec::new();
            assert_eq!(workload.push(&mut out, 1, 0, &mut Source::new(1, 0, 0)), None);
            assert_eq!(out, b"");
            workload.renew();
            assert!(!workload.is_used_up());
        }
    }

    #[test]
    fn a_mix_has_its_share_of_reads() {
        let reads = |share: u32| {
            let workload = Workload::new(&plan(&format!("--workload mixed --read-share {share}")));
            requests(&workload, 0, 10_000).iter().filter(|(name, _)| *name == "get").count()
        };
        assert!((7_800..8_200).contains(&reads(80)), "{} of 10,000", reads(80));
        assert_eq!((reads(0), reads(100)), (0, 10_000));
    }

    #[test]
    fn raftkeepers_mix_has_the_published_shares_and_deletes_only_what_is_there() {
        let workload = Workload::new(&plan("--workload raftkeeper"));
        let found = requests(&workload, 0, 100_000);
        let count = |step: &str| found.iter().filter(|(name, _)| *name == step).count();
        for (step, share) in [("get", 45), ("list", 45), ("set", 8), ("create", 1), ("delete", 1)] {
            let expected = share * 1_000;
            let off = count(step).abs_diff(expected);
            assert!(off < 600.min(expected / 5), "{step}: {}", count(step));
        }
        let mut there = std::collections::HashSet::new();
        for (name, path) in found {
            match name {
                "create" => assert!(there.insert(path)),
                "delete" => assert!(there.remove(&path), "{path} is not there"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_multi_sets_as_many_keys_as_asked_for() {
        let plan = plan("--workload multi --multi-size 3 --keys 1000 --value-size 5");
        let workload = Workload::new(&plan);
        let mut out = Vec::new();
        workload.push(&mut out, 9, 0, &mut Source::new(1, 0, 0)).unwrap();
        let text = String::from_utf8_lossy(&out);
        let keys: Vec<&str> =
            text.split("/ringkeeper-loadgen/keys/").skip(1).map(|rest| &rest[..3]).collect();
        assert_eq!(keys.len(), 3);
        assert!(keys.iter().all(|key| key.parse::<u32>().is_ok()), "{keys:?}");
        assert!(keys[0] != keys[1] || keys[1] != keys[2], "{keys:?}: one draw for all");
        let reply = |first| Reply { xid: 9, error: 0, first };
        assert!(workload.fits(0, &reply(op::SET_DATA)));
        assert!(!workload.fits(0, &reply(-1)));
    }

    #[test]
    fn watchers_ask_once_and_the_writer_waits_for_all_of_them() {
        let workload = Workload::new(&plan("--workload watch --connections 3"));
        let mut sources = [0, 1, 2].map(|connection| Source::new(1, 0, connection));
        let mut out = Vec::new();
        let mut ask = |source: &mut Source, at| {
            let step = workload.push(&mut out, 1, at, source);
            step.map(|step| workload.steps()[usize::from(step)].name)
        };
        assert_eq!(ask(&mut sources[0], 5), None, "nobody watches");
        assert_eq!(ask(&mut sources[1], 5), Some("watch"));
        assert_eq!(ask(&mut sources[1], 5), None, "it has asked");
        assert_eq!(ask(&mut sources[2], 5), Some("watch"));
        assert_eq!(ask(&mut sources[0], 6), None, "no answer yet");
        (0..2).for_each(|_| workload.succeeded(fanout_step::WATCH));
        assert_eq!(ask(&mut sources[0], 7), Some("set"));
        let mut told = Vec::new();
        for source in &mut sources[1..] {
            workload.told(source, |step, since| told.push((step, since)));
            workload.told(source, |_, _| panic!("it has no watch any more"));
        }
        assert_eq!(told, [(0, 7), (1, 7), (0, 7), (2, 7)]);
        assert_eq!(ask(&mut sources[1], 8), Some("watch"));
    }

    #[test]
    fn a_get_of_another_length_does_not_fit() {
        let workload = Workload::new(&plan("--value-size 100"));
        let reply = |first| Reply { xid: 1, error: 0, first };
        assert!(workload.fits(0, &reply(100)));
        assert!(!workload.fits(0, &reply(99)));
        assert!(!workload.fits(0, &reply(-1)));
    }
}
