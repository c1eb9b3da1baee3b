//! The error codes of the client protocol (`org.apache.zookeeper.KeeperException.Code`).

/// Why a request failed, as it stands in a reply's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorCode {
    Ok = 0,
    SystemError = -1,
    RuntimeInconsistency = -2,
    DataInconsistency = -3,
    MarshallingError = -5,
    Unimplemented = -6,
    BadArguments = -8,
    UnknownSession = -12,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NotReadOnly = -119,
    EphemeralOnLocalSession = -120,
    NoWatcher = -121,
    ReconfigDisabled = -123,
    SessionClosedRequireSaslAuth = -124,
    QuotaExceeded = -125,
    ThrottledOp = -127,
}

impl ErrorCode {
    /// The number that travels.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The error with this number, if it is one that a server sends.
    pub const fn from_code(code: i32) -> Option<ErrorCode> {
        Some(match code {
            0 => ErrorCode::Ok,
            -1 => ErrorCode::SystemError,
            -2 => ErrorCode::RuntimeInconsistency,
            -3 => ErrorCode::DataInconsistency,
            -5 => ErrorCode::MarshallingError,
            -6 => ErrorCode::Unimplemented,
            -8 => ErrorCode::BadArguments,
            -12 => ErrorCode::UnknownSession,
            -13 => ErrorCode::NewConfigNoQuorum,
            -14 => ErrorCode::ReconfigInProgress,
            -101 => ErrorCode::NoNode,
            -102 => ErrorCode::NoAuth,
            -103 => ErrorCode::BadVersion,
            -108 => ErrorCode::NoChildrenForEphemerals,
            -110 => ErrorCode::NodeExists,
            -111 => ErrorCode::NotEmpty,
            -112 => ErrorCode::SessionExpired,
            -114 => ErrorCode::InvalidAcl,
            -115 => ErrorCode::AuthFailed,
            -118 => ErrorCode::SessionMoved,
            -119 => ErrorCode::NotReadOnly,
            -120 => ErrorCode::EphemeralOnLocalSession,
            -121 => ErrorCode::NoWatcher,
            -123 => ErrorCode::ReconfigDisabled,
            -124 => ErrorCode::SessionClosedRequireSaslAuth,
            -125 => ErrorCode::QuotaExceeded,
            -127 => ErrorCode::ThrottledOp,
            _ => return None,
        })
    }
}
