//! What can be wrong with a configuration, and what is merely worth knowing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::cores::CpuId;
use super::members::{MemberError, PeerType};
use super::properties::BadEscape;
use crate::ids::ServerId;
use crate::limits::CONFIG_BYTES_MAX;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration file, on this line (from 1).
    Line { file: PathBuf, line: usize },
    /// On the command line.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Place::CommandLine => f.write_str("command line"),
        }
    }
}

/// Why the server does not start with this configuration. Nothing has been touched by then.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot read the configuration: {error}", file.display())]
    Unreadable { file: PathBuf, error: std::io::Error },
    #[error("{}: longer than {CONFIG_BYTES_MAX} bytes, so no configuration", file.display())]
    TooLong { file: PathBuf },
    #[error("{}:{}: {error}", file.display(), error.line)]
    Syntax { file: PathBuf, error: BadEscape },
    #[error("{place}: {key} is {given:?}, expected {expected}")]
    WrongValue { place: Place, key: String, given: String, expected: String },
    #[error("{}: {key} is missing: {why}", file.display())]
    Missing { file: PathBuf, key: &'static str, why: &'static str },
    #[error("{place}: {key}: {why}")]
    NotSupported { place: Place, key: String, why: &'static str },
    #[error("{place}: {key}: {}: {why}", file.display())]
    Credentials { place: Place, key: &'static str, file: PathBuf, why: String },
    #[error("{place}: {key} is {given:?}: {error}")]
    UnknownHost { place: Place, key: &'static str, given: String, error: std::io::Error },
    #[error(
        "{place}: minSessionTimeout ({min_ms} ms) is larger than maxSessionTimeout ({max_ms} ms)"
    )]
    SessionTimeouts { place: Place, min_ms: i32, max_ms: i32 },
    #[error("{place}: {key}: this process may not run on cpu {cpu}, only on {allowed}")]
    CpuNotAllowed { place: Place, key: &'static str, cpu: CpuId, allowed: String },
    #[error("{place}: {key} names {given} cpus for {reactors} reactors")]
    CpuCount { place: Place, key: &'static str, given: usize, reactors: usize },
    #[error("{place}: {error}")]
    Member { place: Place, error: MemberError },
    #[error("{}: {fault}", file.display())]
    Ensemble { file: PathBuf, fault: EnsembleFault },
    #[error("{place}: dynamicConfigFile: {error}")]
    DynamicFile { place: Place, error: Box<ConfigError> },
    #[error(
        "{place}: the client address for this server in the static config file is {fixed}, which \
         is different from the client address in its line of the list: {listed}"
    )]
    ClientAddress { place: Place, fixed: SocketAddr, listed: SocketAddr },
    #[error("cannot tell which cpus this process may run on: {0}")]
    Affinity(std::io::Error),
}

/// What is wrong with a member's configuration as a whole. The words are ZooKeeper's where it has
/// some.
#[derive(Debug, thiserror::Error)]
pub enum EnsembleFault {
    #[error(transparent)]
    Members(MemberError),
    #[error("Observers w/o participants is an invalid configuration")]
    ObserversAlone,
    #[error("Observers w/o quorum is an invalid configuration")]
    ObserversWithoutQuorum,
    #[error("{0} is not set")]
    NotSet(&'static str),
    #[error("myid file is missing: {}", .0.display())]
    MyIdMissing(PathBuf),
    #[error("cannot read {}: {error}", path.display())]
    MyIdUnreadable { path: PathBuf, error: std::io::Error },
    #[error("serverid {text} is not a number: {}", path.display())]
    MyId { path: PathBuf, text: String },
    #[error("My id {0} not in the peer list")]
    Stranger(ServerId),
    #[error("parameter: {0} must be in a separate dynamic config file")]
    StaticLine(String),
    #[error("dynamic file shouldn't have version inside")]
    VersionInside,
}

/// Something in the configuration that the operator should know of. The server starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Neither ZooKeeper nor Ringkeeper has this key.
    UnknownKey { place: Place, key: String, near: Option<&'static str> },
    /// ZooKeeper has this key, and it would do something that Ringkeeper does not do.
    NoEffect { place: Place, key: String, lost: &'static str },
    /// The key was on an earlier line already; this line counts, as in ZooKeeper.
    Twice { place: Place, key: String, earlier: usize },
    /// The value was moved into the range that ZooKeeper allows, as ZooKeeper does.
    Raised { place: Place, key: &'static str, given: i64, to: i64 },
    /// The value gives up a safety that ZooKeeper has by default.
    Unsafe { file: PathBuf, key: &'static str, means: &'static str },
    /// The ensemble would be better off otherwise.
    Advice { file: PathBuf, advice: &'static str },
    /// `peerType` contradicts the list of members, which counts.
    PeerType { place: Place, listed: PeerType, said: PeerType },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::UnknownKey { place, key, near: None } => {
                write!(
                    f,
                    "{place}: {key} is not a key that ZooKeeper or Ringkeeper knows; it is ignored"
                )
            }
            Notice::UnknownKey { place, key, near: Some(near) } => {
                write!(
                    f,
                    "{place}: {key} is not a key that ZooKeeper or Ringkeeper knows; it is ignored (is {near} meant?)"
                )
            }
            Notice::NoEffect { place, key, lost } => {
                write!(f, "{place}: {key} has no effect yet: {lost}")
            }
            Notice::Twice { place, key, earlier } => {
                write!(f, "{place}: {key} is on line {earlier} already; this line counts")
            }
            Notice::Raised { place, key, given, to } => {
                write!(f, "{place}: {key} is {given}, which is raised to {to}")
            }
            Notice::Advice { file, advice } => write!(f, "{}: {advice}", file.display()),
            Notice::PeerType { place, listed, said } => write!(
                f,
                "{place}: Peer type from servers list ({listed}) doesn't match peerType ({said}). \
                 Defaulting to servers list."
            ),
            Notice::Unsafe { file, key, means } => write!(f, "{}: {key}: {means}", file.display()),
        }
    }
}
