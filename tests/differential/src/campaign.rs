//! Many scripts on a pair of servers, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::compare::{Difference, compare, trace};
use crate::explained::{self, Reason};
use crate::generate::{self, Flavour};
use crate::peer::{self, Peer, Profile, Release};
use crate::plain::Seen;
use crate::play::{Player, Transcript};
use crate::recording::{Recorded, Recording, fingerprint};
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
    /// Scripts that differ in the same field and values as one that was found before.
    pub repeated: u64,
}

impl Report {
    /// Takes in what both servers showed for a script. True if it is a finding.
    fn take(&mut self, script: Script, ours: &Seen, theirs: &Seen, release: Release) -> bool {
        self.scripts += 1;
        self.steps += script.steps.len() as u64;
        let verdict = compare(&script, ours, theirs, release);
        for reason in verdict.explained {
            *self.explained.entry(reason).or_default() += 1;
        }
        let Some(difference) = verdict.difference else { return false };
        let is_like = |known: &Finding| {
            let known = &known.difference;
            let field = known.field == difference.field;
            field && known.ours == difference.ours && known.theirs == difference.theirs
        };
        if self.findings.iter().any(is_like) {
            self.repeated += 1;
        } else {
            let trace = trace(difference.step, ours, theirs);
            self.findings.push(Finding { script, difference, trace });
        }
        true
    }
}

/// Both servers, and a player on each.
pub struct Pair {
    ours: Player,
    theirs: Player,
    release: Release,
    /// Ringkeeper and ZooKeeper.
    servers: [Peer; 2],
}

impl Pair {
    /// Starts both servers. The thread that calls this must live on while they serve.
    pub fn start(setting: &Setting) -> io::Result<Pair> {
        Pair::start_with(setting, setting.profile)
    }

    /// As [`Pair::start`], with Ringkeeper in another profile: the servers then must differ.
    pub fn start_with(setting: &Setting, ringkeepers: Profile) -> io::Result<Pair> {
        let mut theirs = peer::zookeeper(&setting.classpath, setting.profile)?;
        let mut ours = peer::ringkeeper(&setting.ringkeeper, ringkeepers)?;
        let release = theirs.release();
        let release =
            release.map_err(|error| last_words("ZooKeeper", &mut theirs, &"its srvr", &error))?;
        let player = |name, peer: &mut Peer| {
            let player = Player::new(peer.server.address);
            player.map_err(|error| last_words(name, peer, &"the janitor", &error))
        };
        let our_player = player("Ringkeeper", &mut ours)?;
        let their_player = player("ZooKeeper", &mut theirs)?;
        Ok(Pair { ours: our_player, theirs: their_player, release, servers: [ours, theirs] })
    }

    /// Which ZooKeeper it is.
    pub fn release(&self) -> Release {
        self.release
    }

    /// Plays a script on both at the same time: Ringkeeper's transcript, and what ZooKeeper showed.
    /// The error names the server that does not serve any more, with what it said.
    pub fn play(&mut self, script: &Script) -> io::Result<(Transcript, Seen)> {
        let (ours, theirs) = (&mut self.ours, &mut self.theirs);
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| ours.play(script));
            let theirs = theirs.play(script);
            (ours.join().expect("the player of Ringkeeper does not panic"), theirs)
        });
        let [our_server, their_server] = &mut self.servers;
        let seed = format!("the script of seed {}", script.seed);
        let ours = ours.map_err(|error| last_words("Ringkeeper", our_server, &seed, &error))?;
        let theirs =
            theirs.map_err(|error| last_words("ZooKeeper", their_server, &seed, &error))?;
        Ok((ours, Seen::live(&theirs, script)))
    }
}

/// The error with the server's name, and what it said.
fn last_words(name: &str, peer: &mut Peer, at: &dyn fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}, {at}: {error}; {}", peer.state()))
}

/// Plays the scripts of these seeds. Stops after so many findings that are not alike; each
/// is made small if `is_shrinking`. `progress` hears of every script and what was seen.
pub fn run(
    setting: &Setting,
    seeds: impl Iterator<Item = u64>,
    findings_max: usize,
    is_shrinking: bool,
    mut progress: impl FnMut(&Script, &Transcript, &Seen, Release),
) -> io::Result<Report> {
    let mut report = Report::default();
    let mut pair = Pair::start(setting)?;
    for seed in seeds {
        let script = setting.script(seed, pair.release);
        let (ours, theirs) = pair.play(&script)?;
        progress(&script, &ours, &theirs, pair.release);
        let ours = Seen::live(&ours, &script);
        let known = report.findings.len();
        if !report.take(script, &ours, &theirs, pair.release) {
            continue;
        }
        let is_new = report.findings.len() > known;
        if is_new
            && is_shrinking
            && let Some(finding) = report.findings.pop()
        {
            report.findings.push(smaller(&mut pair, finding)?);
        }
        if report.findings.len() >= findings_max {
            break;
        }
        // What differs once may differ for ever, for example a session that one of them kept.
        drop(pair);
        pair = Pair::start(setting)?;
    }
    Ok(report)
}

/// Plays the scripts of these seeds on ZooKeeper alone and keeps what it shows.
pub fn record(setting: &Setting, seeds: impl Iterator<Item = u64>) -> io::Result<Recording> {
    let peer = peer::zookeeper(&setting.classpath, setting.profile)?;
    let release = peer.release()?;
    let mut player = Player::new(peer.server.address)?;
    let mut scripts = Vec::new();
    for seed in seeds {
        let script = setting.script(seed, release);
        let seen = Seen::live(&player.play(&script)?, &script);
        let (fingerprint, steps) = (fingerprint(&script), seen.steps().clone());
        scripts.push(Recorded { seed, fingerprint, steps });
    }
    Ok(Recording { profile: setting.profile.name.to_owned(), steps: setting.steps, scripts })
}

/// Compares Ringkeeper with a recording of ZooKeeper 3.9. Stops at the first finding.
pub fn compare_recorded(ringkeeper: &Path, recording: &Recording) -> io::Result<Report> {
    let unknown = || io::Error::other(format!("there is no profile {:?}", recording.profile));
    let setting = Setting {
        ringkeeper: ringkeeper.to_owned(),
        classpath: String::new(),
        profile: peer::profile(&recording.profile).ok_or_else(unknown)?,
        steps: recording.steps,
        without: Vec::new(),
    };
    let peer = peer::ringkeeper(ringkeeper, setting.profile)?;
    let mut player = Player::new(peer.server.address)?;
    let mut report = Report::default();
    for recorded in &recording.scripts {
        let script = setting.script(recorded.seed, Release::V39);
        if fingerprint(&script) != recorded.fingerprint {
            let what = "the generator makes another script than was recorded: record again";
            return Err(io::Error::other(format!("seed {}: {what}", recorded.seed)));
        }
        let ours = Seen::live(&player.play(&script)?, &script);
        let theirs = Seen::recorded(recorded.steps.clone());
        if report.take(script, &ours, &theirs, Release::V39) {
            break;
        }
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
        let ours = Seen::live(&ours, script);
        let Some(difference) = compare(script, &ours, &theirs, pair.release).difference else {
            return false;
        };
        // Another difference would be another finding.
        if difference.field != finding.difference.field {
            return false;
        }
        let trace = trace(difference.step, &ours, &theirs);
        best = Finding { script: script.clone(), difference, trace };
        true
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(best),
    }
}
