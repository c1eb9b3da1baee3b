//! A load that can be judged after a crash. A writer owns one subtree and changes it through one
//! session with many requests in flight. A session's requests take effect in order, so whatever
//! happens, its subtree must look as after some prefix of what it sent: no shorter than what was
//! acknowledged, and with each multi in it whole or not at all.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::client::{Answer, Client, Op};
use crate::rng::Rng;
use crate::wire::code;

/// Children that a writer keeps at most; above, it deletes.
const CHILDREN_MAX: usize = 40;

/// Children that one large multi creates or deletes.
const LARGE_MULTI: usize = 15;

/// A node as it must be found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    data: Vec<u8>,
    version: i32,
    /// The zxid of the last change, where its answer arrived.
    mzxid: Option<i64>,
}

/// The nodes by path.
type Model = BTreeMap<String, Known>;

fn apply(model: &mut Model, op: &Op, zxid: Option<i64>) {
    match op {
        Op::Create { path, data, .. } => {
            let node = Known { data: data.clone(), version: 0, mzxid: zxid };
            model.insert(path.clone(), node);
        }
        Op::Delete { path, .. } => {
            model.remove(path);
        }
        Op::SetData { path, data, .. } => {
            let node = model.get_mut(path).expect("a writer sets what exists");
            *node = Known { data: data.clone(), version: node.version + 1, mzxid: zxid };
        }
        Op::Multi(parts) => parts.iter().for_each(|part| apply(model, part, zxid)),
        _ => {}
    }
}

/// A request on its way.
struct Step {
    op: Op,
    /// The part of a multi that must fail, so that nothing of it happens.
    fails_at: Option<usize>,
}

impl Step {
    fn apply(&self, model: &mut Model, zxid: Option<i64>) {
        if self.fails_at.is_none() {
            apply(model, &self.op, zxid);
        }
    }

    fn is_answered_by(&self, answer: &Answer) -> bool {
        match (self.fails_at, answer) {
            (None, Answer::Refused(_)) => false,
            (None, Answer::Parts(parts)) => {
                !parts.iter().any(|part| matches!(part, Answer::Refused(_)))
            }
            (None, _) => true,
            (Some(at), Answer::Parts(parts)) => {
                let expected = |place: usize| match place.cmp(&at) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => code::BAD_VERSION,
                    std::cmp::Ordering::Greater => code::RUNTIME_INCONSISTENCY,
                };
                (0..).zip(parts).all(|(place, part)| *part == Answer::Refused(expected(place)))
            }
            (Some(_), _) => false,
        }
    }
}

/// The load of one session on one subtree, across crashes.
pub struct Writer {
    root: String,
    rng: Rng,
    number: u64,
    depth: usize,
    /// As after the last answer.
    settled: Model,
    /// As after the last request.
    ahead: Model,
    in_flight: VecDeque<Step>,
    acknowledged: u64,
}

impl Writer {
    /// Creates its subtree `root` and is ready to write with `depth` requests in flight.
    pub fn begin(client: &mut Client, root: &str, seed: u64, depth: usize) -> io::Result<Writer> {
        let op = Op::Create { path: root.to_owned(), data: b"0 ".to_vec(), flags: 0 };
        let reply = client.call(&op)?;
        assert_eq!(reply.answer, Answer::Path(root.to_owned()));
        let mut settled = Model::new();
        apply(&mut settled, &op, Some(reply.zxid));
        Ok(Writer {
            root: root.to_owned(),
            rng: Rng::new(seed),
            number: 0,
            depth,
            ahead: settled.clone(),
            settled,
            in_flight: VecDeque::new(),
            acknowledged: 0,
        })
    }

    /// Its subtree.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Requests acknowledged so far, over all runs.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Writes until `stop` is set (then with nothing left in flight) or the connection fails, which
    /// is the error. [`Writer::find_again`] comes before the next run.
    ///
    /// # Panics
    /// When the server answers other than it must.
    pub fn run(&mut self, client: &mut Client, stop: &AtomicBool) -> io::Result<()> {
        loop {
            let mut batch = Vec::new();
            while !stop.load(Ordering::Relaxed) && self.in_flight.len() < self.depth {
                let step = self.next_step();
                step.apply(&mut self.ahead, None);
                batch.push(step.op.clone());
                self.in_flight.push_back(step);
            }
            client.submit_all(&batch)?;
            if self.in_flight.is_empty() {
                return Ok(());
            }
            let reply = client.receive()?;
            let step = self.in_flight.pop_front().expect("one is in flight");
            assert!(step.is_answered_by(&reply.answer), "{:?} got {reply:?}", step.op);
            step.apply(&mut self.settled, Some(reply.zxid));
            self.acknowledged += 1;
        }
    }

    fn next_step(&mut self) -> Step {
        self.number += 1;
        let number = self.number;
        let longest = if self.rng.chance(1, 60) { 30_000 } else { 300 };
        let filler = vec![b'.'; self.rng.below(longest) as usize];
        let data = [format!("{number} ").as_bytes(), &filler].concat();
        let create = |suffix: usize| Op::Create {
            path: format!("{}/n{number}-{suffix}", self.root),
            data: data.clone(),
            flags: 0,
        };
        let set = Op::SetData { path: self.root.clone(), data: data.clone(), version: -1 };
        let children: Vec<&String> =
            self.ahead.keys().filter(|path| path.len() > self.root.len()).collect();
        let full = children.len() >= CHILDREN_MAX;
        let delete = |place: usize| Op::Delete { path: children[place].clone(), version: -1 };
        let some = |rng: &mut Rng| rng.below(children.len().max(1) as u64) as usize;
        let op = match self.rng.below(10) {
            0 if !full => create(0),
            1 if !children.is_empty() => delete(some(&mut self.rng)),
            2 if !full => Op::Multi(vec![create(0), set]),
            3 | 4 if !children.is_empty() => {
                Op::Multi(vec![delete(some(&mut self.rng)), create(0), set])
            }
            5 => {
                let check = Op::Check { path: self.root.clone(), version: i32::MAX };
                let op = Op::Multi(vec![set, create(0), check, create(1)]);
                return Step { op, fails_at: Some(2) };
            }
            6 if !full => Op::Multi((0..LARGE_MULTI).map(create).chain([set]).collect()),
            7 if children.len() >= LARGE_MULTI => {
                Op::Multi((0..LARGE_MULTI).map(delete).chain([set]).collect())
            }
            _ => set,
        };
        Step { op, fails_at: None }
    }

    /// After a crash: reads the subtree, decides how much of what was in flight happened, and goes
    /// on from there.
    ///
    /// # Panics
    /// When it is as after no prefix of what was sent: something acknowledged was lost, something
    /// was applied in part, or out of order.
    pub fn find_again(&mut self, client: &mut Client) -> io::Result<()> {
        let found = read_subtree(client, &self.root)?;
        let mut candidate = self.settled.clone();
        let mut steps = self.in_flight.drain(..);
        let mut nearest = differences(&candidate, &found);
        while !differences(&candidate, &found).is_empty() {
            let Some(step) = steps.next() else {
                nearest.truncate(8);
                panic!(
                    "{} is as after no prefix of what was sent ({} acknowledged). Against what \
                     was acknowledged:\n{}",
                    self.root,
                    self.acknowledged,
                    nearest.join("\n")
                );
            };
            step.apply(&mut candidate, None);
        }
        drop(steps);
        for (path, node) in &mut candidate {
            node.mzxid = found.get(path).and_then(|node| node.mzxid);
        }
        self.ahead = candidate.clone();
        self.settled = candidate;
        Ok(())
    }

    /// The number of the last change of the root that is settled; what an observer has seen must
    /// not be above it.
    pub fn latest(&self) -> u64 {
        number_in(&self.settled[&self.root].data)
    }
}

/// Reads a root again and again until `stop` is set or the connection fails, and keeps in `seen`
/// the highest number that it showed: what one client was shown, no crash may take back.
pub fn observe(address: SocketAddr, root: &str, stop: &AtomicBool, seen: &AtomicU64) {
    let Ok(mut client) = Client::connect(address, 10_000) else { return };
    while !stop.load(Ordering::Relaxed) {
        let Ok(found) = client.get(root) else { return };
        if let Some((data, _)) = found {
            seen.fetch_max(number_in(&data), Ordering::Relaxed);
        }
    }
}

fn number_in(data: &[u8]) -> u64 {
    let digits = data.split(|&byte| byte == b' ').next().expect("split yields at least one");
    let digits = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    digits.expect("a writer's data begins with its number")
}

fn read_subtree(client: &mut Client, root: &str) -> io::Result<Model> {
    let mut found = Model::new();
    let names = client.children(root)?.unwrap_or_default();
    let children = names.into_iter().map(|name| format!("{root}/{name}"));
    let paths: Vec<String> = std::iter::once(root.to_owned()).chain(children).collect();
    for path in paths {
        if let Some((data, stat)) = client.get(&path)? {
            found.insert(path, Known { data, version: stat.version, mzxid: Some(stat.mzxid) });
        }
    }
    Ok(found)
}

/// In words, what differs; empty when `found` is as it must be.
fn differences(expected: &Model, found: &Model) -> Vec<String> {
    let mut out = Vec::new();
    for (path, node) in expected {
        match found.get(path) {
            None => out.push(format!("{path} is missing")),
            Some(there) => {
                let zxid_differs = node.mzxid.is_some() && node.mzxid != there.mzxid;
                if there.data != node.data || there.version != node.version || zxid_differs {
                    out.push(format!("{path} is {} instead of {}", brief(there), brief(node)));
                }
            }
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(*path));
    out.extend(extra.map(|path| format!("{path} is there")));
    out
}

fn brief(node: &Known) -> String {
    let start = String::from_utf8_lossy(&node.data[..node.data.len().min(12)]).into_owned();
    let (length, version) = (node.data.len(), node.version);
    format!("{start:?}… ({length} bytes, version {version}, mzxid {:x?})", node.mzxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(entries: &[(&str, &[u8], i32)]) -> Model {
        let known = |data: &[u8], version| Known { data: data.to_vec(), version, mzxid: None };
        entries.iter().map(|(path, data, v)| ((*path).to_owned(), known(data, *v))).collect()
    }

    #[test]
    fn a_lost_a_changed_and_an_extra_node_are_differences() {
        let expected = model(&[("/w", b"3 ", 3), ("/w/a", b"1 ", 0)]);
        assert_eq!(differences(&expected, &expected), Vec::<String>::new());
        assert_eq!(differences(&expected, &model(&[("/w", b"3 ", 3)])), ["/w/a is missing"]);
        let changed = model(&[("/w", b"2 ", 2), ("/w/a", b"1 ", 0), ("/w/b", b"3 ", 0)]);
        let found = differences(&expected, &changed);
        assert!(found[0].starts_with("/w is \"2 \""), "{found:?}");
        assert_eq!(found[1], "/w/b is there");
    }

    #[test]
    fn a_failing_multi_changes_nothing_and_must_say_where_it_failed() {
        let set = Op::SetData { path: "/w".into(), data: b"9 ".to_vec(), version: -1 };
        let check = Op::Check { path: "/w".into(), version: 7 };
        let step = Step { op: Op::Multi(vec![set.clone(), check, set]), fails_at: Some(1) };
        let mut found = model(&[("/w", b"3 ", 3)]);
        step.apply(&mut found, Some(5));
        assert_eq!(found, model(&[("/w", b"3 ", 3)]));
        let refused = |codes: [i32; 3]| Answer::Parts(codes.map(Answer::Refused).to_vec());
        assert!(step.is_answered_by(&refused([0, -103, -2])));
        assert!(!step.is_answered_by(&refused([0, -103, 0])));
        assert!(!step.is_answered_by(&Answer::Nothing));
    }
}
