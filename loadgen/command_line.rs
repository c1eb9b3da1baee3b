//! The command line as a whole: what to do with which load, and where the results go. Parsed once,
//! by `main`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::arguments::{ArgumentError, Arguments, Plan};
use crate::variation::{self, Varied};

/// Rounds with each side of a comparison where nothing else is asked for.
const ROUNDS_COMPARED: u32 = 5;

/// Loads a server of the ZooKeeper protocol and reports throughput and latency.
///
/// In a closed loop every connection keeps --in-flight requests outstanding: a new one leaves when a
/// reply comes. With --rate requests leave at that rate, and latencies count from when they were due.
/// Exit code: 0 all well; 1 a server refused, failed or answered an error (what was measured is
/// still reported); 2 wrong arguments.
#[derive(Debug, Parser)]
// The last of an option given twice counts, so that a script can append what it changes.
#[command(
    name = "ringkeeper-loadgen",
    version,
    args_override_self = true,
    args_conflicts_with_subcommands = true
)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Loads A and B in turns and reports the ratio of their figures with its spread.
    Compare(Compare),
    /// Runs the load with every combination of the values given for some of its options.
    Sweep(Sweep),
}

#[derive(Debug, Args)]
struct Run {
    /// Servers to load, of one ensemble; connections are spread over them in turn.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2181", value_name = "HOST:PORT")]
    servers: Vec<String>,
    #[command(flatten)]
    load: Arguments,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Compare {
    /// Servers of side A, of one ensemble.
    #[arg(long, value_delimiter = ',', required = true, value_name = "HOST:PORT")]
    a: Vec<String>,
    /// Servers of side B, of one ensemble.
    #[arg(long, value_delimiter = ',', required = true, value_name = "HOST:PORT")]
    b: Vec<String>,
    #[command(flatten)]
    load: Arguments,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Sweep {
    /// Servers to load, of one ensemble; connections are spread over them in turn.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2181", value_name = "HOST:PORT")]
    servers: Vec<String>,
    /// An option to vary, and its values: connections, in-flight, rate, read-share or value-size.
    /// Given several times, the last one changes the fastest.
    #[arg(long, required = true, value_name = "OPTION=VALUE,...")]
    vary: Vec<Varied>,
    #[command(flatten)]
    load: Arguments,
    #[command(flatten)]
    output: Output,
}

/// Where the results go.
#[derive(Clone, Debug, Args)]
pub struct Output {
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write every round's figures here, too, as comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a page with tables and plots here, too, which needs no other file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// What to do; it can be carried out as it stands.
#[derive(Debug)]
pub enum Order {
    /// One load.
    Run(Box<Plan>),
    /// The same load with two sides, A and B, which differ in their servers alone.
    Compare(Box<[Plan; 2]>),
    /// One load after the other, and what tells them apart.
    Sweep { points: Vec<Plan>, varied: Vec<Varied> },
}

impl Order {
    /// The plan of the order, or of its first part.
    pub fn first(&self) -> &Plan {
        match self {
            Order::Run(plan) => plan,
            Order::Compare(sides) => &sides[0],
            Order::Sweep { points, .. } => &points[0],
        }
    }
}

impl CommandLine {
    /// Checks the options against each other.
    ///
    /// # Errors
    /// What is wrong, in terms of the command line.
    pub fn into_order(self) -> Result<(Order, Output), ArgumentError> {
        let Output { csv, html, .. } = match &self.command {
            None => &self.run.output,
            Some(Command::Compare(compare)) => &compare.output,
            Some(Command::Sweep(sweep)) => &sweep.output,
        };
        for (option, file) in [("--csv", csv), ("--html", html)] {
            if let Some(file) = file {
                check_file(option, file)?;
            }
        }
        match self.command {
            None => {
                let Run { servers, load, output } = self.run;
                Ok((Order::Run(Box::new(load.into_plan(&servers)?)), output))
            }
            Some(Command::Compare(Compare { a, b, mut load, output })) => {
                load.rounds.get_or_insert(ROUNDS_COMPARED);
                let sides = [load.clone().into_plan(&a)?, load.into_plan(&b)?];
                Ok((Order::Compare(Box::new(sides)), output))
            }
            Some(Command::Sweep(Sweep { servers, vary, load, output })) => {
                let points = variation::points(&load, &vary, &servers)?;
                Ok((Order::Sweep { points, varied: vary }, output))
            }
        }
    }
}

/// Whether `file` can be a file, as far as that is to be seen without making it: better said before
/// the load than after it.
fn check_file(option: &'static str, file: &Path) -> Result<(), ArgumentError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let refused = |reason| ArgumentError::File { option, file: file.to_owned(), reason };
    if file.is_dir() {
        return Err(refused("is a folder"));
    }
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(refused("there is no such folder"));
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What these options, without the program's name, ask for.
    pub fn order(options: &[&str]) -> Result<Order, String> {
        let line = ["ringkeeper-loadgen"].iter().chain(options);
        let line = CommandLine::try_parse_from(line).map_err(|error| error.to_string())?;
        let (order, _) = line.into_order().map_err(|error| error.to_string())?;
        Ok(order)
    }

    #[test]
    fn a_comparison_has_one_load_and_two_sides() {
        let line = "compare --a 127.0.0.1:1 --b 127.0.0.1:2,127.0.0.1:3 --workload set";
        let Order::Compare(sides) = order(&line.split(' ').collect::<Vec<_>>()).unwrap() else {
            panic!("no comparison");
        };
        let [a, b] = *sides;
        assert_eq!((a.servers.len(), b.servers.len()), (1, 2));
        assert_eq!((a.workload, a.rounds), (b.workload, b.rounds));
        assert_eq!(a.rounds, 5);
    }

    #[test]
    fn a_sweep_goes_through_every_combination() {
        let line = "sweep --vary connections=1,8 --vary in-flight=1,2,3 --workload set";
        let Order::Sweep { points, .. } = order(&line.split(' ').collect::<Vec<_>>()).unwrap()
        else {
            panic!("no sweep");
        };
        let found: Vec<_> = points.iter().map(|plan| (plan.connections, plan.in_flight)).collect();
        assert_eq!(found, [(1, 1), (1, 2), (1, 3), (8, 1), (8, 2), (8, 3)]);
        assert!(points.iter().all(|plan| plan.workload.name() == "set"));
    }

    #[test]
    fn a_sweep_that_makes_no_sense_is_refused_before_it_starts() {
        for (wrong, reason) in [
            ("sweep", "--vary"),
            ("sweep --vary keys=1", "connections, in-flight, rate, read-share or value-size"),
            ("sweep --vary connections", "OPTION=VALUE"),
            ("sweep --vary connections=", "not a number"),
            ("sweep --vary connections=1,x", "\"x\" is not a number"),
            ("sweep --vary connections=0", "0 is not in 1..=100000"),
            ("sweep --vary value-size=1 --vary value-size=2", "varied twice"),
            ("sweep --vary read-share=1 --workload set", "belongs to --workload mixed"),
            ("sweep --vary connections=8,1 --threads 2", "more than --connections 1"),
        ] {
            let error = order(&wrong.split(' ').collect::<Vec<_>>()).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
        let many = (0..=100).map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        let vary = [format!("value-size={many}"), format!("rate={}", &many[2..])];
        let error = order(&["sweep", "--vary", &vary[0], "--vary", &vary[1]]).unwrap_err();
        assert!(error.contains("more than 1000 loads"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_before_the_load() {
        assert!(order(&["--csv", "/no/such/folder/a.csv"]).unwrap_err().contains("--csv /no/such"));
        let error = order(&["compare", "--a", "127.0.0.1:1", "--b", "127.0.0.1:2", "--html", "/"]);
        assert!(error.unwrap_err().contains("--html /: is a folder"));
        assert!(order(&["--csv", "a.csv"]).is_ok(), "in the current folder");
    }

    #[test]
    fn a_comparison_needs_both_sides_and_takes_no_servers_beside_them() {
        for wrong in [
            "compare --a 127.0.0.1:1",
            "compare --a 127.0.0.1:1 --b 127.0.0.1:2 --servers 127.0.0.1:3",
            "--keys 3 compare --a 127.0.0.1:1 --b 127.0.0.1:2",
        ] {
            assert!(order(&wrong.split(' ').collect::<Vec<_>>()).is_err(), "{wrong}");
        }
    }
}
