//! The records of the client protocol, in the order in which their fields travel.
//! Derived: `jute::codec` reads and writes them as a serde format. The hot requests and replies
//! have a borrowed form in `jute::request` and `jute::reply`; transactions are in `jute::txn`.
//!
//! A field is an `Option` where null means something of its own. Elsewhere null is refused, and a
//! null vector reads as an empty one.

use serde::{Deserialize, Serialize};

use super::codec::{self, EncodeError};
use super::decode::{Cursor, DecodeError};

/// A buffer: null (length -1) is distinct from empty.
pub type Buffer = Option<serde_bytes::ByteBuf>;

/// An authentication id: who a connection is, or whom an ACL entry means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

/// One entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acl {
    pub perms: i32,
    pub id: Id,
}

/// A znode's status as clients see it (68 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// The first frame of a client. Not derived: what is behind the password is optional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// 0; not checked.
    pub protocol_version: i32,
    /// The highest zxid that the client has seen.
    pub last_zxid_seen: i64,
    /// The session timeout it asks for, milliseconds.
    pub timeout_ms: i32,
    /// 0 asks for a new session.
    pub session_id: i64,
    /// 16 bytes; null is accepted.
    pub password: Buffer,
    /// Whether a read-only server will do. Clients before 3.4 end before it.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Reads a frame's body.
    pub fn decode(body: &[u8]) -> Result<ConnectRequest, DecodeError> {
        let mut cursor = Cursor::new(body);
        Ok(ConnectRequest {
            protocol_version: cursor.int("protocolVersion")?,
            last_zxid_seen: cursor.long("lastZxidSeen")?,
            timeout_ms: cursor.int("timeOut")?,
            session_id: cursor.long("sessionId")?,
            password: codec::from_cursor(&mut cursor)?,
            read_only: optional_bool(&mut cursor)?,
        })
    }

    /// Appends a frame's body to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let fields = (self.protocol_version, self.last_zxid_seen, self.timeout_ms, self.session_id);
        codec::to_writer(&mut *out, &fields)?;
        codec::to_writer(&mut *out, &self.password)?;
        out.extend(self.read_only.map(u8::from));
        Ok(())
    }
}

/// The answer to a [`ConnectRequest`]. A timeout and a session of 0 refuse the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// 0.
    pub protocol_version: i32,
    /// The negotiated session timeout, milliseconds.
    pub timeout_ms: i32,
    pub session_id: i64,
    /// 16 bytes.
    pub password: Buffer,
    /// There exactly when the request had it.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// Reads a frame's body.
    pub fn decode(body: &[u8]) -> Result<ConnectResponse, DecodeError> {
        let mut cursor = Cursor::new(body);
        Ok(ConnectResponse {
            protocol_version: cursor.int("protocolVersion")?,
            timeout_ms: cursor.int("timeOut")?,
            session_id: cursor.long("sessionId")?,
            password: codec::from_cursor(&mut cursor)?,
            read_only: optional_bool(&mut cursor)?,
        })
    }

    /// Appends a frame's body to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let fields = (self.protocol_version, self.timeout_ms, self.session_id);
        codec::to_writer(&mut *out, &fields)?;
        codec::to_writer(&mut *out, &self.password)?;
        out.extend(self.read_only.map(u8::from));
        Ok(())
    }
}

fn optional_bool(cursor: &mut Cursor<'_>) -> Result<Option<bool>, DecodeError> {
    if cursor.left() == 0 { Ok(None) } else { cursor.bool("readOnly").map(Some) }
}

/// Declares records that differ only in name and fields.
macro_rules! records {
    ($(
        $(#[$about:meta])*
        $name:ident { $($(#[$note:meta])* $field:ident: $kind:ty),* $(,)? }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$note])* pub $field: $kind,)*
        }
    )*};
}

records! {
    /// In front of every request behind the handshake.
    RequestHeader {
        xid: i32,
        /// An `OpCode`.
        op: i32,
    }
    /// In front of every reply and event.
    ReplyHeader {
        xid: i32,
        zxid: i64,
        /// An `ErrorCode`; unless it is 0 nothing follows (multi and sasl excepted).
        err: i32,
    }
    /// exists, getData, getChildren, getChildren2.
    PathWatchRequest { path: String, watch: bool }
    /// getACL, sync, getAllChildrenNumber.
    PathRequest { path: String }
    /// delete, and check in a multi.
    PathVersionRequest {
        path: String,
        /// The version expected; -1 is any.
        version: i32,
    }
    /// create, create2, createContainer.
    CreateRequest {
        path: String,
        data: Buffer,
        acl: Option<Vec<Acl>>,
        /// Which kind of znode, 0 to 6.
        flags: i32,
    }
    /// createTTL.
    CreateTtlRequest {
        path: String,
        data: Buffer,
        acl: Option<Vec<Acl>>,
        flags: i32,
        /// Milliseconds.
        ttl: i64,
    }
    /// deleteContainer, as 3.9 writes it.
    DeleteContainerRequest {
        /// The path's bytes.
        path: Buffer,
    }
    /// setData.
    SetDataRequest { path: String, data: Buffer, version: i32 }
    /// setACL.
    SetAclRequest { path: String, acl: Option<Vec<Acl>>, version: i32 }
    /// reconfig: either `new_members`, or the two others.
    ReconfigRequest {
        joining_servers: Option<String>,
        leaving_servers: Option<String>,
        new_members: Option<String>,
        /// The configuration version expected; -1 is any.
        cur_config_id: i64,
    }
    /// checkWatches, removeWatches.
    WatchesRequest {
        path: String,
        /// 1 children, 2 data, 3 any, 4 persistent, 5 persistent recursive.
        kind: i32,
    }
    /// addWatch.
    AddWatchRequest {
        path: String,
        /// 0 persistent, 1 persistent recursive.
        mode: i32,
    }
    /// getEphemerals; null and `/` are all.
    GetEphemeralsRequest { prefix_path: Option<String> }
    /// auth.
    AuthPacket {
        /// 0; not checked.
        kind: i32,
        scheme: String,
        auth: Buffer,
    }
    /// sasl, both ways.
    SaslToken { token: Buffer }
    /// setWatches.
    SetWatches {
        relative_zxid: i64,
        data_watches: Vec<String>,
        exist_watches: Vec<String>,
        child_watches: Vec<String>,
    }
    /// setWatches2.
    SetWatches2 {
        relative_zxid: i64,
        data_watches: Vec<String>,
        exist_watches: Vec<String>,
        child_watches: Vec<String>,
        persistent_watches: Vec<String>,
        persistent_recursive_watches: Vec<String>,
    }
    /// createSession, which a learner sends and a client may.
    CreateSessionRequest { timeout_ms: i32 }
    /// In front of every part of a multi and its answer, and behind the last.
    MultiHeader {
        op: i32,
        done: bool,
        /// -1 in requests.
        err: i32,
    }

    /// create, sync.
    PathResponse { path: String }
    /// create2, createContainer, createTTL.
    Create2Response { path: String, stat: Stat }
    /// exists, setData, setACL.
    StatResponse { stat: Stat }
    /// getData, reconfig.
    GetDataResponse { data: Buffer, stat: Stat }
    /// getACL.
    GetAclResponse { acl: Vec<Acl>, stat: Stat }
    /// getChildren.
    GetChildrenResponse { children: Vec<String> }
    /// getChildren2.
    GetChildren2Response { children: Vec<String>, stat: Stat }
    /// getEphemerals.
    GetEphemeralsResponse { ephemerals: Vec<String> }
    /// getAllChildrenNumber.
    GetAllChildrenNumberResponse { total_number: i32 }
    /// addWatch, and what failed in a multi.
    ErrorResponse { err: i32 }
    /// One id of a connection, in a [`WhoAmIResponse`].
    ClientInfo { auth_scheme: String, user: String }
    /// whoAmI.
    WhoAmIResponse { client_info: Vec<ClientInfo> }
    /// A watch fired.
    WatcherEvent {
        /// An [`EventType`].
        kind: i32,
        /// Always [`SYNC_CONNECTED`].
        state: i32,
        path: String,
    }
}

/// The only state that a server sends in a [`WatcherEvent`].
pub const SYNC_CONNECTED: i32 = 3;

/// What happened to a watched znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_only_byte_of_the_handshake_is_optional() {
        let mut request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 1,
            timeout_ms: 30_000,
            session_id: 2,
            password: None,
            read_only: None,
        };
        let mut old = Vec::new();
        request.encode(&mut old).unwrap();
        assert_eq!(old.len(), 28);
        assert_eq!(ConnectRequest::decode(&old), Ok(request.clone()));
        request.read_only = Some(true);
        let mut new = Vec::new();
        request.encode(&mut new).unwrap();
        assert_eq!(new, [old, vec![1]].concat());
        assert_eq!(ConnectRequest::decode(&new), Ok(request));
    }
}
