//! The command line: which tool is asked for, and how the process ends.
//!
//! Exit codes: 0, it did what it was asked (a server: it was stopped by a signal); 1, it could not
//! start or had to stop; 2, the command line or the configuration is wrong. `shell` has more.

mod shell;

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringkeeper::config::load::Overrides;
use ringkeeper::dump::{DumpError, dump};
use ringkeeper::server::{self, Failure};

/// A coordination server, wire-compatible with Apache ZooKeeper.
///
/// Without a command it is a standalone server on built-in defaults: clients on 127.0.0.1:2181,
/// data under ./ringkeeper-data.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    overrides: OverrideArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as a ZooKeeper configuration file says, in the foreground.
    Server {
        /// The configuration file.
        #[arg(value_name = "ZOO.CFG")]
        file: PathBuf,
        #[command(flatten)]
        overrides: OverrideArguments,
    },
    /// Print what a log segment or a snapshot holds, a line for each record.
    Dump {
        /// A file of the data folder: log.N or snapshot.N.
        file: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Talk to a server: the commands of ZooKeeper's zkCli.sh.
    #[command(disable_help_flag = true)]
    Shell {
        /// Its options, then perhaps one command; `ringkeeper shell --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct OverrideArguments {
    /// Where clients connect; port 0 lets the system choose one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where the data is, log and snapshots both.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl From<OverrideArguments> for Overrides {
    fn from(arguments: OverrideArguments) -> Overrides {
        Overrides { listen: arguments.listen, data_dir: arguments.data_dir }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => ended(server::main(None, &arguments.overrides.into())),
        Some(Command::Server { file, overrides }) => {
            ended(server::main(Some(&file), &overrides.into()))
        }
        Some(Command::Dump { file, json }) => print_dump(&file, json),
        Some(Command::Shell { words }) => shell::run::main(&words),
    }
}

fn ended(served: Result<(), Failure>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration) => ExitCode::from(2),
        Err(Failure::Service) => ExitCode::FAILURE,
    }
}

fn print_dump(file: &Path, json: bool) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let dumped = dump(file, json, &mut out).and_then(|()| Ok(out.flush()?));
    match dumped {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads it has seen enough: `ringkeeper dump … | head`.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // What is good before the damage comes first.
            drop(out);
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
