//! Why an operation failed, in the words of ZooKeeper's own client.

use thiserror::Error;

use crate::jute::codec::EncodeError;
use crate::jute::decode::DecodeError;
use crate::jute::error_code::ErrorCode;
use crate::tree::path::PathError;

use super::paths::explain;

/// Why an operation failed. The path is the one that the caller gave.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The server refused it.
    #[error("KeeperErrorCode = {}{}", name(*code), for_path(path))]
    Refused {
        /// An `ErrorCode`, or a number that is none.
        code: i32,
        path: String,
    },
    /// The connection was lost before the answer came, or there is none. Whether a write was done
    /// is unknown.
    #[error("KeeperErrorCode = ConnectionLoss{}", for_path(path))]
    ConnectionLoss { path: String },
    /// The server has no such session any more.
    #[error("KeeperErrorCode = Session expired{}", for_path(path))]
    SessionExpired { path: String },
    /// The server refused an authentication, which ends the session.
    #[error("KeeperErrorCode = AuthFailed{}", for_path(path))]
    AuthFailed { path: String },
    /// No answer in time, though the server is there.
    #[error("KeeperErrorCode = OperationTimeout{}", for_path(path))]
    TimedOut { path: String },
    /// The path breaks a rule; nothing was sent.
    #[error("{}", explain(path, *error))]
    Path { path: String, error: PathError },
    /// The request does not fit the protocol; nothing was sent.
    #[error("the request cannot be written: {0}")]
    Request(#[from] EncodeError),
    /// The answer is not what the protocol says.
    #[error("the answer to {path} cannot be read: {error}")]
    Answer { path: String, error: DecodeError },
}

impl ClientError {
    /// What the server answered, where it is one of its errors.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => ErrorCode::from_code(*code),
            _ => None,
        }
    }

    /// Whether there is no session to work with: the error says nothing about the request.
    pub fn is_of_connection(&self) -> bool {
        matches!(
            self,
            ClientError::ConnectionLoss { .. }
                | ClientError::SessionExpired { .. }
                | ClientError::AuthFailed { .. }
                | ClientError::TimedOut { .. }
        )
    }
}

fn for_path(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" for {path}") }
}

/// A code's name as `KeeperException` prints it.
fn name(code: i32) -> String {
    let known = match ErrorCode::from_code(code) {
        Some(ErrorCode::Ok) => "ok",
        Some(ErrorCode::SystemError) => "SystemError",
        Some(ErrorCode::RuntimeInconsistency) => "RuntimeInconsistency",
        Some(ErrorCode::DataInconsistency) => "DataInconsistency",
        Some(ErrorCode::MarshallingError) => "MarshallingError",
        Some(ErrorCode::Unimplemented) => "Unimplemented",
        Some(ErrorCode::BadArguments) => "BadArguments",
        Some(ErrorCode::NewConfigNoQuorum) => "NewConfigNoQuorum",
        Some(ErrorCode::ReconfigInProgress) => "ReconfigInProgress",
        Some(ErrorCode::NoNode) => "NoNode",
        Some(ErrorCode::NoAuth) => "NoAuth",
        Some(ErrorCode::BadVersion) => "BadVersion",
        Some(ErrorCode::NoChildrenForEphemerals) => "NoChildrenForEphemerals",
        Some(ErrorCode::NodeExists) => "NodeExists",
        Some(ErrorCode::NotEmpty) => "Directory not empty",
        Some(ErrorCode::SessionExpired) => "Session expired",
        Some(ErrorCode::InvalidAcl) => "InvalidACL",
        Some(ErrorCode::AuthFailed) => "AuthFailed",
        Some(ErrorCode::SessionMoved) => "Session moved",
        Some(ErrorCode::NotReadOnly) => "Not a read-only call",
        Some(ErrorCode::EphemeralOnLocalSession) => "Ephemeral node on local session",
        Some(ErrorCode::NoWatcher) => "No such watcher",
        Some(ErrorCode::ReconfigDisabled) => "Reconfig is disabled",
        Some(ErrorCode::SessionClosedRequireSaslAuth) => {
            "Session closed because client failed to authenticate"
        }
        Some(ErrorCode::QuotaExceeded) => "Quota has exceeded",
        Some(ErrorCode::ThrottledOp) => "Op throttled due to high load",
        Some(ErrorCode::UnknownSession) | None => return format!("Unknown error {code}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_those_of_zookeepers_client() {
        let refused = |code, path: &str| ClientError::Refused { code, path: path.into() };
        assert_eq!(refused(-101, "/a").to_string(), "KeeperErrorCode = NoNode for /a");
        assert_eq!(refused(-123, "").to_string(), "KeeperErrorCode = Reconfig is disabled");
        assert_eq!(
            refused(-4711, "/a").to_string(),
            "KeeperErrorCode = Unknown error -4711 for /a"
        );
        assert_eq!(
            ClientError::ConnectionLoss { path: "/".into() }.to_string(),
            "KeeperErrorCode = ConnectionLoss for /"
        );
    }
}
