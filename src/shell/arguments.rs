//! The command line of `ringkeeper shell`: options as `zkCli.sh` has them, with one dash or two,
//! then perhaps one command.

use std::time::Duration;

use ringkeeper::client::operations::Settings;
use ringkeeper::client::servers::{self, ConnectStringError};
use thiserror::Error;

/// What `ringkeeper shell --help` prints.
pub const USAGE: &str = "\
Usage: ringkeeper shell [OPTIONS] [COMMAND [WORDS...]]

The commands and the output of ZooKeeper's zkCli.sh. With a command it is run and the shell ends;
without, commands are read from standard input. `ringkeeper shell help` lists them.

Options, with one dash or two:
  -server HOST:PORT[,HOST:PORT...][/CHROOT]  where to connect [default: localhost:2181]
  -timeout MILLISECONDS                      session timeout to ask for [default: 30000]
  -r, -readonly                              a server cut off from its ensemble will do
  -waitforconnection                         connect before anything else, or fail
  -help                                      print this

Exit code: 0 done; 1 refused or failed; 2 wrong usage; 3 no connection; 127 no such command.";

/// The server when none is named.
const SERVER_DEFAULT: &str = "localhost:2181";

/// The session timeout when none is named, milliseconds.
const TIMEOUT_DEFAULT_MS: u64 = 30_000;

/// How the shell was called.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The connect string, as it was given.
    pub target: String,
    pub settings: Settings,
    /// Wait for a connection before the first command.
    pub wait: bool,
    /// The one command to run; none for a conversation.
    pub command: Vec<String>,
}

/// What is wrong with the command line.
#[derive(Debug, Error)]
pub enum ArgumentError {
    /// Not wrong: help was asked for.
    #[error("{USAGE}")]
    Help,
    #[error("no argument found for option {0}")]
    MissingValue(String),
    #[error("unknown option {0}; ringkeeper shell --help lists them")]
    Unknown(String),
    #[error("'{0}' is no timeout in milliseconds")]
    Timeout(String),
    #[error("{0}")]
    Server(#[from] ConnectStringError),
}

/// Reads what stands behind `ringkeeper shell`.
///
/// # Errors
/// The first thing that is wrong, or that help was asked for.
pub fn parse(words: &[String]) -> Result<Arguments, ArgumentError> {
    let mut target = SERVER_DEFAULT.to_owned();
    let (mut timeout_ms, mut read_only, mut wait) = (TIMEOUT_DEFAULT_MS, false, false);
    let mut words = words.iter();
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        let Some(text) = word.strip_prefix('-') else {
            command.push(word.clone());
            command.extend(words.by_ref().cloned());
            break;
        };
        let text = text.strip_prefix('-').unwrap_or(text);
        let (name, attached) =
            text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let mut value = || {
            attached
                .or_else(|| words.next().map(String::as_str))
                .ok_or_else(|| ArgumentError::MissingValue(word.clone()))
        };
        match name {
            "server" => target = value()?.to_owned(),
            "timeout" => {
                let text = value()?;
                let positive = text.parse().ok().filter(|ms| (1..=i32::MAX as u64).contains(ms));
                timeout_ms = positive.ok_or_else(|| ArgumentError::Timeout(text.to_owned()))?;
            }
            "r" | "readonly" => read_only = true,
            "waitforconnection" => wait = true,
            "h" | "help" => return Err(ArgumentError::Help),
            _ => return Err(ArgumentError::Unknown(word.clone())),
        }
    }
    let (servers, chroot) = servers::parse(&target)?;
    let timeout = Duration::from_millis(timeout_ms);
    Ok(Arguments {
        target,
        settings: Settings { servers, chroot, timeout, read_only },
        wait,
        command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, ArgumentError> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_taken_with_one_dash_or_two() {
        for line in [
            "-server a:1/x -timeout 5000 -r -waitforconnection ls -s /",
            "--server=a:1/x --timeout=5000 --readonly --waitforconnection ls -s /",
        ] {
            let arguments = parsed(line).unwrap();
            assert_eq!(arguments.target, "a:1/x");
            assert_eq!(arguments.settings.timeout, Duration::from_secs(5));
            assert!(arguments.settings.read_only && arguments.wait);
            assert_eq!(arguments.command, ["ls", "-s", "/"]);
        }
    }

    #[test]
    fn without_options_it_is_the_server_of_this_machine() {
        let arguments = parsed("").unwrap();
        assert_eq!(arguments.target, "localhost:2181");
        assert!(arguments.command.is_empty() && !arguments.wait);
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        assert!(matches!(parsed("-server"), Err(ArgumentError::MissingValue(_))));
        assert!(matches!(parsed("-timeout x"), Err(ArgumentError::Timeout(_))));
        assert!(matches!(parsed("-timeout 0"), Err(ArgumentError::Timeout(_))));
        assert!(matches!(parsed("-verbose ls"), Err(ArgumentError::Unknown(_))));
        assert!(matches!(parsed("-server a:b"), Err(ArgumentError::Server(_))));
        assert!(matches!(parsed("--help"), Err(ArgumentError::Help)));
    }
}
