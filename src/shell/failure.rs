//! Why a command failed: the line that is printed, as `zkCli.sh` prints it, and the exit code.

use std::io;

use ringkeeper::client::error::ClientError;
use ringkeeper::jute::error_code::ErrorCode;
use thiserror::Error;

use super::options::OptionError;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The server or the connection to it.
    #[error("{}", explain(.0))]
    Client(#[from] ClientError),
    /// The command exists, but not with these words; this is how it is used.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Option(#[from] OptionError),
    /// A word means nothing where it stands.
    #[error("{0}")]
    Argument(String),
    /// The command was understood and cannot be done.
    #[error("{0}")]
    Refused(String),
    #[error("Command not found: {0}")]
    NotFound(String),
    /// The session has been closed, or has ended.
    #[error("Not connected")]
    NotConnected,
    /// No server could be reached, and why.
    #[error("{0}")]
    Unreachable(String),
    /// Nobody reads what is printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code of a command that ended so; docs/shell.md lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Client(error) if error.is_of_connection() => 3,
            Failure::NotConnected | Failure::Unreachable(_) => 3,
            Failure::Client(_) | Failure::Refused(_) | Failure::Output(_) => 1,
            Failure::Usage(_) | Failure::Option(_) | Failure::Argument(_) => 2,
            Failure::NotFound(_) => 127,
        }
    }
}

/// What `CliWrapperException` says to an error.
fn explain(error: &ClientError) -> String {
    let ClientError::Refused { path, .. } = error else { return error.to_string() };
    // An operation without a path fails with a null one there.
    let path = if path.is_empty() { "null" } else { path };
    match error.code() {
        Some(ErrorCode::NoNode) => format!("Node does not exist: {path}"),
        Some(ErrorCode::NoChildrenForEphemerals) => {
            format!("Ephemerals cannot have children: {path}")
        }
        Some(ErrorCode::NodeExists) => format!("Node already exists: {path}"),
        Some(ErrorCode::NotEmpty) => format!("Node not empty: {path}"),
        Some(ErrorCode::NotReadOnly) => format!("Not a read-only call: {path}"),
        Some(ErrorCode::InvalidAcl) => format!("Acl is not valid : {path}"),
        Some(ErrorCode::NoAuth) => format!("Insufficient permission : {path}"),
        Some(ErrorCode::BadArguments) => format!("Arguments are not valid : {path}"),
        Some(ErrorCode::BadVersion) => format!("version No is not valid : {path}"),
        Some(ErrorCode::ReconfigInProgress) => {
            "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)"
                .to_owned()
        }
        Some(ErrorCode::NewConfigNoQuorum) => {
            "No quorum of new config is connected and up-to-date with the leader of last \
             committed config - try invoking reconfiguration after new servers are connected and \
             synced"
                .to_owned()
        }
        Some(ErrorCode::QuotaExceeded) => format!("Quota has exceeded : {path}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> Failure {
        Failure::Client(ClientError::Refused { code: code.code(), path: "/a".into() })
    }

    #[test]
    fn errors_of_the_server_read_as_in_zkcli() {
        assert_eq!(refused(ErrorCode::NoNode).to_string(), "Node does not exist: /a");
        assert_eq!(refused(ErrorCode::NoAuth).to_string(), "Insufficient permission : /a");
        assert_eq!(
            refused(ErrorCode::NoWatcher).to_string(),
            "KeeperErrorCode = No such watcher for /a"
        );
    }

    #[test]
    fn exit_codes_tell_a_refusal_from_a_lost_connection_and_from_misuse() {
        assert_eq!(refused(ErrorCode::NoNode).exit_code(), 1);
        let lost = ClientError::ConnectionLoss { path: "/a".into() };
        assert_eq!(Failure::Client(lost).exit_code(), 3);
        assert_eq!(Failure::NotConnected.exit_code(), 3);
        assert_eq!(Failure::Usage("ls path".into()).exit_code(), 2);
        assert_eq!(Failure::NotFound("lz".into()).exit_code(), 127);
    }
}
