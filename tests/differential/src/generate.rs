//! Scripts from seeds: the same seed and setting give the same script on every machine.

use harness::rng::Rng;

use crate::request::{Acl, Damage, Request, Since, op};
use crate::script::{Client, Resumption, SLOTS, Script, Slot, Step};
use crate::vocabulary::{acl, auth, data, limits, new_path, one, path, place, version, weighted};

/// Most requests sent at once.
const BURST_MAX: u64 = 12;

/// Largest frame of those, bytes.
const BURST_FRAME_BYTES_MAX: usize = 100_000;

/// Most parts of a multi.
const PARTS_MAX: u64 = 6;

/// What a family of scripts is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// Steps behind the first connects.
    pub steps: usize,
    /// ACLs that keep somebody out, and sessions that authenticate.
    pub strict: bool,
    /// Of ten steps, those that send several requests at once.
    pub bursts: u64,
}

impl Flavour {
    /// The flavour of a seed, so that a seed alone names a script.
    pub fn of(seed: u64, steps: usize) -> Flavour {
        Flavour {
            steps,
            strict: !seed.is_multiple_of(3),
            bursts: [0, 1, 4][(seed % 7 % 3) as usize],
        }
    }
}

/// What the generator believes of a session; it may be wrong where a server refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Belief {
    Unborn,
    Connected,
    Away,
    Closed,
}

struct Writer {
    rng: Rng,
    root: String,
    strict: bool,
    has_quota: bool,
    beliefs: [Belief; SLOTS],
}

/// The script of this seed.
pub fn script(seed: u64, flavour: Flavour) -> Script {
    let root = format!("/s{seed}");
    let rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7));
    let beliefs = [Belief::Unborn; SLOTS];
    let mut writer =
        Writer { rng, root: root.clone(), strict: flavour.strict, has_quota: false, beliefs };
    let mut steps = writer.connect(0);
    steps.extend(writer.connect(1));
    for _ in 0..flavour.steps {
        steps.extend(writer.step(flavour.bursts));
    }
    Script { seed, root, steps }
}

impl Writer {
    fn connect(&mut self, slot: Slot) -> Vec<Step> {
        self.beliefs[slot] = Belief::Connected;
        let timeout_ms = weighted(
            &mut self.rng,
            &[(30, 30_000), (3, 40_000), (2, 100_000), (2, i32::MAX), (1, 0), (1, -1), (1, 4001)],
        );
        let client = weighted(
            &mut self.rng,
            &[(8, Client::Current), (1, Client::ReadOnly), (1, Client::Old)],
        );
        let mut steps = vec![Step::Connect { slot, timeout_ms, client }];
        if self.strict && self.rng.chance(1, 4) {
            steps.push(self.authenticate(slot));
        }
        steps
    }

    fn authenticate(&mut self, slot: Slot) -> Step {
        let (scheme, auth) = auth(&mut self.rng);
        Step::Ask { slot, request: Request::Auth { scheme, auth } }
    }

    fn step(&mut self, bursts: u64) -> Vec<Step> {
        let slot = weighted(&mut self.rng, &[(5, 0), (4, 1), (2, 2)]);
        match self.beliefs[slot] {
            Belief::Unborn => return self.connect(slot),
            Belief::Closed if self.rng.chance(1, 2) => return self.connect(slot),
            Belief::Closed => return vec![self.resume(slot)],
            Belief::Away if self.rng.chance(1, 3) => return self.come_back(slot),
            Belief::Away => return Vec::new(),
            Belief::Connected => {}
        }
        match self.rng.below(60) {
            0 | 1 => {
                self.beliefs[slot] = Belief::Away;
                vec![Step::Disconnect { slot }]
            }
            2 => vec![self.resume(slot)],
            3 if self.rng.chance(1, 3) => vec![self.bytes(slot)],
            4..7 if self.strict => vec![self.authenticate(slot)],
            7 => self.quota(slot),
            _ if self.rng.below(10) < bursts => vec![self.burst(slot)],
            _ => {
                let step = self.single(slot);
                let look = look_at_acl(&step);
                std::iter::once(step).chain(look).collect()
            }
        }
    }

    /// Several requests at once. ZooKeeper checks permissions and quotas of a write against what
    /// has been applied, not against the writes under way in front of it: what a burst gets behind
    /// a setACL, or below a quota, depends on its threads, so neither is in one.
    fn burst(&mut self, slot: Slot) -> Step {
        let count = 2 + self.rng.below(BURST_MAX - 1);
        let mut requests: Vec<Request> = (0..count).map(|_| self.request()).collect();
        // One that does not fit ends the connection, with or without the answers before it.
        let fits = |request: &Request| request.frame(0, |_| 0).len() < BURST_FRAME_BYTES_MAX;
        requests.retain(|request| request.op() != op::SET_ACL && fits(request));
        if self.has_quota {
            requests.retain(|request| !request.is_write());
        }
        Step::Burst { slot, requests }
    }

    fn single(&mut self, slot: Slot) -> Step {
        let request = match self.rng.below(200) {
            0..3 => {
                self.beliefs[slot] = Belief::Closed;
                Request::CloseSession
            }
            3 => {
                self.beliefs[slot] = Belief::Away;
                Request::Unknown { op: *one(&mut self.rng, &[0, -1, 10, 23, 99, 108, i32::MAX]) }
            }
            4 => {
                self.beliefs[slot] = Belief::Away;
                let path = place(&mut self.rng, &self.root);
                Request::Check { path, version: version(&mut self.rng) }
            }
            5..9 => self.broken(),
            9 => Request::CreateSession { timeout_ms: 30_000 },
            10 if self.strict => {
                // Nobody has set SASL up.
                self.beliefs[slot] = Belief::Away;
                Request::Sasl { token: data(&mut self.rng) }
            }
            11 => Request::Reconfig { new_members: "server.1=h:1:2;3".to_owned() },
            _ => self.request(),
        };
        Step::Ask { slot, request }
    }

    /// A request that leaves its connection open.
    fn request(&mut self) -> Request {
        let request = match self.rng.below(100) {
            0..24 => self.create(),
            24..32 => self.delete(),
            32..41 => self.set_data(),
            41..46 => self.set_acl(),
            46..54 => self.multi(),
            54..57 => self.multi_read(),
            57..81 => self.read(),
            81..96 => self.watch(),
            96 => Request::WhoAmI,
            97 => Request::Ping,
            98 => Request::Sync { path: path(&mut self.rng, &self.root) },
            _ => Request::GetEphemerals { prefix: self.prefix() },
        };
        assert!(!request.is_hole(), "the generator makes {request:?}");
        request
    }

    fn create(&mut self) -> Request {
        let plain = [(9, 0), (6, 1), (5, 2), (4, 3), (1, 7), (1, -1)];
        let (op, flags) = match self.rng.below(20) {
            0..10 => (op::CREATE, weighted(&mut self.rng, &plain)),
            10..16 => (op::CREATE2, weighted(&mut self.rng, &plain)),
            16..18 => (op::CREATE_CONTAINER, 4),
            _ => (op::CREATE_TTL, *one(&mut self.rng, &[5, 6])),
        };
        // A TTL flag without a TTL is refused, and this is how.
        let flags = if op <= op::CREATE2 && self.rng.chance(1, 30) { 5 } else { flags };
        let ttl = weighted(
            &mut self.rng,
            &[
                (6, 3_600_000),
                (3, 0xff_ffff_ffff),
                (1, 0x100_0000_0000),
                (1, 0),
                (1, -1),
                (1, i64::MIN),
            ],
        );
        Request::Create {
            op,
            path: new_path(&mut self.rng, &self.root, matches!(flags, 2 | 3 | 6)),
            data: data(&mut self.rng),
            acl: acl(&mut self.rng, self.strict),
            flags,
            ttl,
        }
    }

    fn delete(&mut self) -> Request {
        let path = path(&mut self.rng, &self.root);
        // The root stays: what is below would be out of reach.
        let path = if path == self.root { format!("{path}/a") } else { path };
        Request::Delete { path, version: version(&mut self.rng) }
    }

    fn set_data(&mut self) -> Request {
        let path = path(&mut self.rng, &self.root);
        if path.ends_with("zookeeper_limits") {
            return Request::SetData { path, data: limits(&mut self.rng), version: -1 };
        }
        if path.starts_with("/zookeeper") {
            return Request::GetData { path, watch: false };
        }
        Request::SetData { path, data: data(&mut self.rng), version: version(&mut self.rng) }
    }

    fn set_acl(&mut self) -> Request {
        let path = path(&mut self.rng, &self.root);
        if path == "/" || path.is_empty() || path.starts_with("/zookeeper") {
            return Request::GetAcl { path };
        }
        let version = version(&mut self.rng);
        Request::SetAcl { path, acl: acl(&mut self.rng, self.strict), version }
    }

    fn read(&mut self) -> Request {
        let (path, watch) = (path(&mut self.rng, &self.root), self.rng.chance(1, 2));
        match self.rng.below(14) {
            0..3 => Request::Exists { path, watch },
            3..6 => Request::GetData { path, watch },
            6..8 => Request::GetChildren { path, watch },
            8..10 => Request::GetChildren2 { path, watch },
            10..13 => Request::GetAcl { path },
            _ => Request::GetAllChildrenNumber { path },
        }
    }

    fn watch(&mut self) -> Request {
        let path = path(&mut self.rng, &self.root);
        let kind =
            weighted(&mut self.rng, &[(3, 1), (3, 2), (4, 3), (2, 4), (2, 5), (1, 0), (1, 6)]);
        match self.rng.below(12) {
            0..6 => {
                let mode = weighted(&mut self.rng, &[(4, 0), (5, 1), (1, 2), (1, -1)]);
                Request::AddWatch { path, mode }
            }
            6..8 => Request::CheckWatches { path, kind },
            8..11 => Request::RemoveWatches { path, kind },
            _ => self.set_watches(),
        }
    }

    fn set_watches(&mut self) -> Request {
        let since = match self.rng.below(6) {
            0 => Since::Start,
            1..4 => Since::Seen(0),
            _ => Since::Seen(i64::try_from(self.rng.below(12)).expect("small")),
        };
        let mut paths = |most: u64| -> Vec<String> {
            let count = self.rng.below(most + 1);
            (0..count).map(|_| place(&mut self.rng, &self.root)).collect()
        };
        let (data, exist, child) = (paths(3), paths(3), paths(3));
        let (persistent, recursive) = (paths(2), paths(2));
        if self.rng.chance(1, 2) {
            return Request::SetWatches { since, data, exist, child };
        }
        Request::SetWatches2 { since, data, exist, child, persistent, recursive }
    }

    fn prefix(&mut self) -> Option<String> {
        match self.rng.below(5) {
            0 => None,
            1 => Some("/".to_owned()),
            2 => Some(String::new()),
            3 => Some(" ".to_owned()),
            _ => Some(place(&mut self.rng, &self.root)),
        }
    }

    fn multi(&mut self) -> Request {
        let most = if self.rng.chance(1, 40) { 60 } else { PARTS_MAX };
        let count = self.rng.below(most + 1);
        let parts = (0..count).map(|_| match self.rng.below(24) {
            0..9 => self.create(),
            9..13 => self.delete(),
            13..18 => self.set_data(),
            18..22 => Request::Check {
                path: path(&mut self.rng, &self.root),
                version: version(&mut self.rng),
            },
            22 if self.rng.chance(1, 3) => self.read(),
            22 if self.rng.chance(1, 3) => self.set_acl(),
            _ => Request::Check { path: self.root.clone(), version: -1 },
        });
        Request::Multi(parts.collect())
    }

    fn multi_read(&mut self) -> Request {
        let count = self.rng.below(PARTS_MAX + 1);
        let parts = (0..count).map(|_| match self.rng.below(30) {
            0 => self.delete(),
            1 => self.read(),
            number => {
                let (path, watch) = (path(&mut self.rng, &self.root), self.rng.chance(1, 3));
                match number % 2 {
                    0 => Request::GetData { path, watch },
                    _ => Request::GetChildren { path, watch },
                }
            }
        });
        Request::MultiRead(parts.collect())
    }

    fn broken(&mut self) -> Request {
        let request = self.request();
        // Only what begins with a path can have another one.
        let has_path = !matches!(request, Request::Multi(_) | Request::MultiRead(_))
            && !matches!(request, Request::SetWatches { .. } | Request::SetWatches2 { .. });
        // ZooKeeper looks at such a path twice: which fault it names is its own affair.
        let has_nul = format!("{request:?}").contains("\\0");
        let how = match self.rng.below(10) {
            0..3 => Damage::Short(1 + usize::try_from(self.rng.below(12)).expect("small")),
            3 => Damage::Short(usize::MAX),
            4 => Damage::Long(3),
            5 if has_path && !has_nul => Damage::NoText,
            // Of two faults at once ZooKeeper may name the other one.
            8 if has_path
                && !matches!(request, Request::Create { .. } | Request::SetAcl { .. }) =>
            {
                Damage::Null
            }
            6 | 7 => Damage::Xid(*one(&mut self.rng, &[0, -3, -4, -8, -100, i32::MIN, i32::MAX])),
            _ => Damage::FirstLength(*one(&mut self.rng, &[-2, 0, 1, 1000, i32::MAX, i32::MIN])),
        };
        let broken = Request::Broken { request: Box::new(request), how };
        if broken.is_hole() { Request::WhoAmI } else { broken }
    }

    /// A frame whose length is wrong, or that has no whole header. It ends the connection.
    fn bytes(&mut self, slot: Slot) -> Step {
        self.beliefs[slot] = Belief::Away;
        let length = *one(&mut self.rng, &[-1_i32, i32::MIN, i32::MAX, 0x0010_0000, 0, 3, 7]);
        let mut bytes = length.to_be_bytes().to_vec();
        if (0..16).contains(&length) {
            bytes.resize(4 + usize::try_from(length).expect("small"), 0);
        }
        Step::Bytes { slot, bytes }
    }

    fn quota(&mut self, slot: Slot) -> Vec<Step> {
        self.has_quota = true;
        let quota = format!("/zookeeper/quota{}", self.root);
        let place = *one(&mut self.rng, &["", "/a"]);
        let name = *one(&mut self.rng, &["/zookeeper_limits", "/zookeeper_stats"]);
        let create = |path: String, data| Request::Create {
            op: op::CREATE,
            path,
            data,
            acl: Some(Acl::open()),
            flags: 0,
            ttl: -1,
        };
        let mut requests: Vec<Request> = ["", place]
            .iter()
            .map(|part| create(format!("{quota}{part}"), data(&mut self.rng)))
            .collect();
        requests.push(create(format!("{quota}{place}{name}"), limits(&mut self.rng)));
        if self.rng.chance(1, 2) {
            let other = format!("{quota}{place}/zookeeper_stats");
            requests.push(create(other, crate::request::Data(Some(b"count=0,bytes=0".to_vec()))));
        }
        if self.rng.chance(1, 6) {
            let path = format!("{quota}{place}{name}");
            requests.push(Request::Delete { path, version: -1 });
        }
        requests.into_iter().map(|request| Step::Ask { slot, request }).collect()
    }

    fn resume(&mut self, slot: Slot) -> Step {
        let how = weighted(
            &mut self.rng,
            &[
                (6, Resumption::Plain),
                (1, Resumption::WrongPassword),
                (1, Resumption::NullPassword),
                (1, Resumption::ZxidAhead),
                (1, Resumption::UnknownSession),
            ],
        );
        if how == Resumption::WrongPassword || how == Resumption::NullPassword {
            self.beliefs[slot] = Belief::Away;
        } else if how == Resumption::Plain && self.beliefs[slot] == Belief::Away {
            self.beliefs[slot] = Belief::Connected;
        }
        Step::Resume { slot, how }
    }

    /// Back with its session and, as clients do, with its watches.
    fn come_back(&mut self, slot: Slot) -> Vec<Step> {
        let resume = self.resume(slot);
        if self.beliefs[slot] != Belief::Connected {
            return vec![resume];
        }
        let request = self.set_watches();
        if self.rng.chance(1, 4) {
            return vec![resume];
        }
        vec![resume, Step::Ask { slot, request }]
    }
}

/// A list of several entries is read back: their order counts.
fn look_at_acl(step: &Step) -> Option<Step> {
    let Step::Ask { slot, request } = step else { return None };
    match request {
        Request::Create { path, acl: Some(acl), .. }
        | Request::SetAcl { path, acl: Some(acl), .. }
            if acl.len() > 1 =>
        {
            Some(Step::Ask { slot: *slot, request: Request::GetAcl { path: path.clone() } })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_script() {
        let flavour = Flavour::of(5, 40);
        assert_eq!(script(5, flavour), script(5, flavour));
        assert_ne!(script(5, flavour).steps, script(6, flavour).steps);
    }

    #[test]
    fn no_script_holds_a_hole_of_zookeeper() {
        for seed in 0..300 {
            let script = script(seed, Flavour::of(seed, 60));
            for request in script.steps.iter().flat_map(Step::requests) {
                assert!(!request.is_hole(), "seed {seed}: {request:?}");
            }
        }
    }

    #[test]
    fn every_operation_comes_up() {
        let mut missing = vec![
            1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 100, 101, 103,
            104, 105, 106, 107, -11,
        ];
        for seed in 0..200 {
            let script = script(seed, Flavour::of(seed, 60));
            for request in script.steps.iter().flat_map(Step::requests) {
                missing.retain(|op| *op != request.op());
            }
        }
        assert!(missing.is_empty(), "never asked: {missing:?}");
    }
}
