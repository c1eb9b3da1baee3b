//! Which requests a run asks for: the znodes below the root, the prepared frames, the choice of the
//! next one, and what its reply must look like.

use crate::arguments::{Plan, WorkloadKind};
use crate::wire::{self, Reply, Template, op};

/// Digits of a created znode's number: five for the connection, the rest for its count.
const CREATED_DIGITS: usize = 16;
const CREATED_PER_CONNECTION: u64 = 100_000_000_000;
/// `create` flags of a persistent sequential znode.
const SEQUENTIAL: i32 = 2;

/// The paths that a plan works on.
#[derive(Clone, Debug)]
pub struct Paths {
    root: String,
    key_digits: usize,
    child_digits: usize,
}

impl Paths {
    pub fn new(plan: &Plan) -> Paths {
        Paths {
            root: plan.root.clone(),
            key_digits: digits_of(plan.keys - 1),
            child_digits: digits_of(plan.children - 1),
        }
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// The parent of the keys.
    pub fn keys(&self) -> String {
        format!("{}/keys", self.root)
    }

    /// Key `number`. All keys of a plan have names of one length.
    pub fn key(&self, number: u32) -> String {
        format!("{}/keys/{number:0width$}", self.root, width = self.key_digits)
    }

    /// The parent that the children workload lists.
    pub fn family(&self) -> String {
        format!("{}/children", self.root)
    }

    pub fn child(&self, number: u32) -> String {
        format!("{}/children/{number:0width$}", self.root, width = self.child_digits)
    }

    /// The parent of what the create workload makes.
    pub fn created(&self) -> String {
        format!("{}/created", self.root)
    }
}

fn digits_of(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// The two classes that latencies are kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Read,
    Write,
}

/// The prepared requests of a run. Shared by all its connections.
#[derive(Debug)]
pub struct Workload {
    read: Option<Template>,
    write: Option<Template>,
    /// Of 100 requests, how many are reads.
    read_share: u64,
    numbers: Numbers,
    /// What the first int of a successful read's body must be.
    read_first: Option<i32>,
}

/// Where the number in a path comes from.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    /// Any below this, evenly.
    Random(u64),
    /// A new one for every request.
    Counted,
}

impl Workload {
    pub fn new(plan: &Plan) -> Workload {
        let paths = Paths::new(plan);
        let value = value(plan);
        let key = paths.key(0);
        let keyed = |frame| Some(Template::new(frame, key.len(), paths.key_digits));
        let data_length = i32::try_from(plan.value_size).ok();
        let mut workload = Workload {
            read: None,
            write: None,
            read_share: 100,
            numbers: Numbers::Random(u64::from(plan.keys)),
            read_first: None,
        };
        match plan.workload {
            WorkloadKind::Get => {
                workload.read = keyed(wire::read_request(0, op::GET_DATA, &key));
                workload.read_first = data_length;
            }
            WorkloadKind::Exists => workload.read = keyed(wire::read_request(0, op::EXISTS, &key)),
            WorkloadKind::Set => {
                workload.write = keyed(wire::set_request(0, &key, &value));
                workload.read_share = 0;
            }
            WorkloadKind::Mixed => {
                workload.read = keyed(wire::read_request(0, op::GET_DATA, &key));
                workload.write = keyed(wire::set_request(0, &key, &value));
                workload.read_first = data_length;
                workload.read_share = u64::from(plan.read_share);
            }
            WorkloadKind::Children => {
                let path = paths.family();
                let frame = wire::read_request(0, op::GET_CHILDREN, &path);
                workload.read = Some(Template::new(frame, path.len(), 0));
                workload.numbers = Numbers::Random(1);
                workload.read_first = i32::try_from(plan.children).ok();
            }
            WorkloadKind::Create => {
                // The server numbers sequential znodes itself; ours have one prefix for all.
                let digits = if plan.sequential { 0 } else { CREATED_DIGITS };
                let path = format!("{}/c{}", paths.created(), "0".repeat(digits));
                let flags = if plan.sequential { SEQUENTIAL } else { 0 };
                let frame = wire::create_request(0, &path, &value, flags);
                workload.write = Some(Template::new(frame, path.len(), digits));
                workload.read_share = 0;
                workload.numbers =
                    if plan.sequential { Numbers::Random(1) } else { Numbers::Counted };
            }
        }
        workload
    }

    /// Appends the next request of a connection to `out` and says what it is.
    #[inline]
    pub fn push(&self, out: &mut Vec<u8>, xid: i32, source: &mut Source) -> Class {
        let (template, class) = match (&self.read, &self.write) {
            (Some(read), None) => (read, Class::Read),
            (None, Some(write)) => (write, Class::Write),
            (Some(read), Some(_)) if source.below(100) < self.read_share => (read, Class::Read),
            (_, Some(write)) => (write, Class::Write),
            (None, None) => unreachable!("a workload has at least one request"),
        };
        let number = match self.numbers {
            Numbers::Random(bound) => source.below(bound),
            Numbers::Counted => source.count(),
        };
        template.push(out, xid, number);
        class
    }

    /// Whether a successful reply has the length that it must have.
    #[inline]
    pub fn fits(&self, class: Class, reply: &Reply) -> bool {
        class == Class::Write || self.read_first.is_none_or(|first| first == reply.first)
    }

    /// Whether reads and writes both occur.
    pub fn is_mixed(&self) -> bool {
        self.read.is_some() && self.write.is_some()
    }
}

/// The data that znodes get: printable, the same in every run.
pub fn value(plan: &Plan) -> Vec<u8> {
    (0..plan.value_size).map(|at| b'a' + (at % 26) as u8).collect()
}

/// One connection's random numbers and its count of created znodes.
#[derive(Debug)]
pub struct Source {
    state: u64,
    next_created: u64,
}

impl Source {
    /// Connection `connection` of the run, counted from 0, in round `round`.
    pub fn new(seed: u64, round: u32, connection: u32) -> Source {
        let place = (u64::from(round) << 32) | u64::from(connection);
        let mut source = Source {
            state: seed ^ place.wrapping_mul(0xd134_2543_de82_ef95),
            next_created: u64::from(connection) * CREATED_PER_CONNECTION,
        };
        source.next();
        source
    }

    /// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    #[inline]
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    #[inline]
    fn count(&mut self) -> u64 {
        let number = self.next_created;
        self.next_created += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn plan(options: &str) -> Plan {
        let line = ["ringkeeper-loadgen"].into_iter().chain(options.split_whitespace());
        Arguments::parse_from(line).into_plan().unwrap()
    }

    fn path_of(frame: &[u8]) -> &str {
        let length = wire::int_at(frame, 12) as usize;
        std::str::from_utf8(&frame[16..16 + length]).unwrap()
    }

    #[test]
    fn keys_have_names_of_one_length() {
        let paths = Paths::new(&plan("--keys 1000"));
        assert_eq!(paths.key(7), "/ringkeeper-loadgen/keys/007");
        assert_eq!(paths.key(999), "/ringkeeper-loadgen/keys/999");
        assert_eq!(Paths::new(&plan("--keys 1001")).key(7), "/ringkeeper-loadgen/keys/0007");
        assert_eq!(Paths::new(&plan("--keys 1")).key(0), "/ringkeeper-loadgen/keys/0");
    }

    #[test]
    fn every_key_is_asked_for_and_no_other() {
        let plan = plan("--keys 11 --workload set --value-size 3");
        let workload = Workload::new(&plan);
        let paths = Paths::new(&plan);
        let mut wanted: Vec<_> = (0..11).map(|number| paths.key(number)).collect();
        let mut source = Source::new(1, 0, 0);
        for _ in 0..1_000 {
            let mut out = Vec::new();
            assert_eq!(workload.push(&mut out, 1, &mut source), Class::Write);
            let path = path_of(&out).to_owned();
            assert!((0..11).any(|number| paths.key(number) == path), "{path}");
            wanted.retain(|key| *key != path);
        }
        assert_eq!(wanted, [""; 0]);
    }

    #[test]
    fn connections_and_rounds_draw_different_keys_and_a_seed_repeats_them() {
        let draw = |seed, round, connection| {
            let mut source = Source::new(seed, round, connection);
            [(); 8].map(|()| source.below(1_000_000))
        };
        assert_eq!(draw(1, 0, 0), draw(1, 0, 0));
        assert_ne!(draw(1, 0, 0), draw(1, 0, 1));
        assert_ne!(draw(1, 0, 0), draw(1, 1, 0));
        assert_ne!(draw(1, 0, 0), draw(2, 0, 0));
    }

    #[test]
    fn created_names_are_unique_over_connections() {
        let workload = Workload::new(&plan("--workload create"));
        let mut seen = std::collections::HashSet::new();
        for connection in 0..10 {
            let mut source = Source::new(1, 0, connection);
            for _ in 0..10 {
                let mut out = Vec::new();
                workload.push(&mut out, 1, &mut source);
                assert!(seen.insert(path_of(&out).to_owned()), "{} again", path_of(&out));
            }
        }
    }

    #[test]
    fn a_mix_has_its_share_of_reads() {
        let workload = Workload::new(&plan("--workload mixed --read-share 80"));
        let mut source = Source::new(1, 0, 0);
        let mut out = Vec::new();
        let reads = (0..10_000)
            .filter(|_| {
                out.clear();
                workload.push(&mut out, 1, &mut source) == Class::Read
            })
            .count();
        assert!((7_800..8_200).contains(&reads), "{reads} of 10,000");
        for (share, class) in [(0, Class::Write), (100, Class::Read)] {
            let workload = Workload::new(&plan(&format!("--workload mixed --read-share {share}")));
            assert!((0..100).all(|_| workload.push(&mut out, 1, &mut source) == class));
        }
    }

    #[test]
    fn a_get_of_another_length_does_not_fit() {
        let workload = Workload::new(&plan("--value-size 100"));
        let reply = |first| Reply { xid: 1, error: 0, first };
        assert!(workload.fits(Class::Read, &reply(100)));
        assert!(!workload.fits(Class::Read, &reply(99)));
        assert!(!workload.fits(Class::Read, &reply(-1)));
    }
}
