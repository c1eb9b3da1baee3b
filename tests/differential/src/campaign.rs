//! Many scripts on a pair of servers, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::compare::{Difference, compare, trace};
use crate::explained::{self, Reason};
use crate::generate::{self, Flavour};
use crate::peer::{self, Peer, Profile, Release};
use crate::play::{Player, Transcript};
use crate::request::Request;
use crate::script::Script;
use crate::shrink::shrink;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Ringkeeper's binary.
    pub ringkeeper: PathBuf,
    /// ZooKeeper's jars.
    pub classpath: String,
    /// How both are configured.
    pub profile: Profile,
    /// Steps of a script behind its first connects.
    pub steps: usize,
    /// Codes of operations that are left out.
    pub without: Vec<i32>,
}

impl Setting {
    /// The script of a seed, for a comparison with this release.
    pub fn script(&self, seed: u64, release: Release) -> Script {
        let mut script = generate::script(seed, Flavour::of(seed, self.steps));
        let is_in = |request: &Request| {
            !self.without.contains(&request.op()) && explained::left_out(request, release).is_none()
        };
        let steps = script.steps.into_iter();
        script.steps = steps.filter_map(|step| step.only(is_in)).collect();
        script
    }
}

/// A script on which the servers differ.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The script, made small if that was asked for.
    pub script: Script,
    /// Where they differ.
    pub difference: Difference,
    /// What both showed in that step.
    pub trace: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}{}\n{}", self.script, self.difference, self.trace)
    }
}

/// What the scripts of a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Scripts played.
    pub scripts: u64,
    /// Their steps.
    pub steps: u64,
    /// How often each reason explained a difference.
    pub explained: BTreeMap<Reason, u64>,
    /// What nothing explains.
    pub findings: Vec<Finding>,
}

/// Both servers, and a player on each.
pub struct Pair {
    ours: Player,
    theirs: Player,
    release: Release,
    _servers: [Peer; 2],
}

impl Pair {
    /// Starts both servers. The thread that calls this must live on while they serve.
    pub fn start(setting: &Setting) -> io::Result<Pair> {
        Pair::start_with(setting, setting.profile)
    }

    /// As [`Pair::start`], with Ringkeeper in another profile: the servers then must differ.
    pub fn start_with(setting: &Setting, ringkeepers: Profile) -> io::Result<Pair> {
        let theirs = peer::zookeeper(&setting.classpath, setting.profile)?;
        let ours = peer::ringkeeper(&setting.ringkeeper, ringkeepers)?;
        Ok(Pair {
            release: theirs.release()?,
            ours: Player::new(ours.server.address)?,
            theirs: Player::new(theirs.server.address)?,
            _servers: [ours, theirs],
        })
    }

    /// Which ZooKeeper it is.
    pub fn release(&self) -> Release {
        self.release
    }

    /// Plays a script on both at the same time: Ringkeeper's transcript, then ZooKeeper's.
    pub fn play(&mut self, script: &Script) -> io::Result<(Transcript, Transcript)> {
        let (ours, theirs) = (&mut self.ours, &mut self.theirs);
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| ours.play(script));
            let theirs = theirs.play(script)?;
            Ok((ours.join().expect("the player of Ringkeeper does not panic")?, theirs))
        })
    }
}

/// Plays the scripts of these seeds. Stops after so many findings; each is made small if
/// `is_shrinking`. `progress` hears of every script's transcripts.
pub fn run(
    setting: &Setting,
    seeds: impl Iterator<Item = u64>,
    findings_max: usize,
    is_shrinking: bool,
    mut progress: impl FnMut(&Script, &Transcript, &Transcript, Release),
) -> io::Result<Report> {
    let mut report = Report::default();
    let mut pair = Pair::start(setting)?;
    for seed in seeds {
        let script = setting.script(seed, pair.release);
        let (ours, theirs) = pair.play(&script)?;
        report.scripts += 1;
        report.steps += script.steps.len() as u64;
        let verdict = compare(&script, &ours, &theirs, pair.release);
        for reason in verdict.explained {
            *report.explained.entry(reason).or_default() += 1;
        }
        progress(&script, &ours, &theirs, pair.release);
        let Some(difference) = verdict.difference else { continue };
        let trace = trace(&script, difference.step, &ours, &theirs);
        let mut finding = Finding { script, difference, trace };
        if is_shrinking {
            finding = smaller(&mut pair, finding)?;
        }
        report.findings.push(finding);
        if report.findings.len() >= findings_max {
            break;
        }
        // What differs once may differ for ever, for example a session that one of them kept.
        drop(pair);
        pair = Pair::start(setting)?;
    }
    Ok(report)
}

fn smaller(pair: &mut Pair, finding: Finding) -> io::Result<Finding> {
    let mut best = finding.clone();
    let mut failure = None;
    shrink(&finding.script, |script| {
        let (ours, theirs) = match pair.play(script) {
            Ok(both) => both,
            Err(error) => {
                failure = Some(error);
                return false;
            }
        };
        let Some(difference) = compare(script, &ours, &theirs, pair.release).difference else {
            return false;
        };
        // Another difference would be another finding.
        if difference.field != finding.difference.field {
            return false;
        }
        let trace = trace(script, difference.step, &ours, &theirs);
        best = Finding { script: script.clone(), difference, trace };
        true
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(best),
    }
}
