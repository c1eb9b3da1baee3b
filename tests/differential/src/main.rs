//! `ringkeeper-differential`: runs scripts on Ringkeeper and ZooKeeper and prints where they differ.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use differential::campaign::{self, Setting};
use differential::peer::{self, Release};

/// Runs the same random scripts on Ringkeeper and on ZooKeeper and compares what clients see.
#[derive(Parser)]
struct Arguments {
    /// The first script's seed. With --scripts 1, which is the default, exactly that one runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many scripts, of this seed and the ones behind it.
    #[arg(long, default_value_t = 1)]
    scripts: u64,
    /// Steps of a script.
    #[arg(long, default_value_t = 40)]
    steps: usize,
    /// Configuration of both: full, defaults, skip-acl or enforce-auth.
    #[arg(long, default_value = "full")]
    profile: String,
    /// ZooKeeper's jars, as java's -cp takes them. Without it, Debian's.
    #[arg(long)]
    classpath: Option<String>,
    /// Ringkeeper's binary. Without it, the one beside this program.
    #[arg(long)]
    ringkeeper: Option<PathBuf>,
    /// Makes the scripts of differences small.
    #[arg(long)]
    shrink: bool,
    /// Differences after which to stop.
    #[arg(long, default_value_t = 1)]
    findings: usize,
    /// Codes of operations to leave out of the scripts, with commas between them.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    without: Vec<i32>,
    /// Keeps what ZooKeeper shows in this file instead of comparing.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Prints the first script instead of running it.
    #[arg(long)]
    print: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

/// True if nothing differs.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let beside = || {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok::<PathBuf, String>(own.with_file_name("ringkeeper"))
    };
    let setting = Setting {
        ringkeeper: arguments.ringkeeper.clone().map_or_else(beside, Ok)?,
        classpath: match &arguments.classpath {
            Some(classpath) => classpath.clone(),
            None => peer::debian_classpath()
                .ok_or("Debian's packages zookeeper and default-jre-headless are missing")?,
        },
        profile: peer::profile(&arguments.profile)
            .ok_or_else(|| format!("there is no profile {:?}", arguments.profile))?,
        steps: arguments.steps,
        without: arguments.without.clone(),
    };
    if arguments.print {
        print!("{}", setting.script(arguments.seed, Release::V39));
        return Ok(true);
    }
    let start = Instant::now();
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.scripts);
    if let Some(file) = &arguments.record {
        let recording = campaign::record(&setting, seeds).map_err(|error| error.to_string())?;
        std::fs::write(file, recording.to_text())
            .map_err(|error| format!("{}: {error}", file.display()))?;
        return Ok(true);
    }
    let mut played = 0_u64;
    let progress = |_: &_, _: &_, _: &_, _| {
        played += 1;
        if played.is_multiple_of(500) {
            eprintln!("{played} scripts, {:.0} s", start.elapsed().as_secs_f64());
        }
    };
    let report = campaign::run(&setting, seeds, arguments.findings, arguments.shrink, progress)
        .map_err(|error| error.to_string())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!(
        "{} scripts, {} steps, {:.1} s: {} differences, {} repeated; explained: {:?}",
        report.scripts,
        report.steps,
        start.elapsed().as_secs_f64(),
        report.findings.len(),
        report.repeated,
        report.explained
    );
    Ok(report.findings.is_empty())
}
