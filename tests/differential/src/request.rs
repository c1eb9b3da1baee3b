//! Requests as a script names them, and their bytes. Everything a client may send is here, the
//! wrong as well as the right, so fields are not checked.

use std::fmt;

use harness::wire::Encoder;

/// Operation codes, named as the protocol names them.
#[allow(missing_docs)]
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
}

/// One entry of an access control list.
#[derive(Clone, PartialEq, Eq)]
pub struct Acl {
    /// 1 read, 2 write, 4 create, 8 delete, 16 admin.
    pub perms: i32,
    /// Who names the id: world, ip, digest, auth, ...
    pub scheme: String,
    /// Who it is.
    pub id: String,
}

impl Acl {
    /// An entry.
    pub fn new(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, scheme: scheme.to_owned(), id: id.to_owned() }
    }

    /// What everybody may do everything with.
    pub fn open() -> Vec<Acl> {
        vec![Acl::new(31, "world", "anyone")]
    }
}

impl fmt::Debug for Acl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}:{}", self.scheme, self.id, self.perms)
    }
}

/// Data of a znode; null differs from empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(pub Option<Vec<u8>>);

impl fmt::Debug for Data {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => to.write_str("null"),
            Some(bytes) if bytes.len() > 60 => write!(to, "<{} bytes>", bytes.len()),
            Some(bytes) => write!(to, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

/// What a setWatches counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The highest zxid that this session has seen in a reply, less this many.
    Seen(i64),
    /// A zxid before everything of the script.
    Start,
}

/// What a client may ask. The fields are those of the protocol's records.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// create, create2, createContainer or createTTL, by `op`; `ttl` travels with the last alone.
    Create {
        op: i32,
        path: String,
        data: Data,
        acl: Option<Vec<Acl>>,
        flags: i32,
        ttl: i64,
    },
    Delete {
        path: String,
        version: i32,
    },
    /// As 3.9 writes it: the path is a buffer.
    DeleteContainer {
        path: String,
    },
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    SetData {
        path: String,
        data: Data,
        version: i32,
    },
    GetAcl {
        path: String,
    },
    SetAcl {
        path: String,
        acl: Option<Vec<Acl>>,
        version: i32,
    },
    GetChildren {
        path: String,
        watch: bool,
    },
    GetChildren2 {
        path: String,
        watch: bool,
    },
    Sync {
        path: String,
    },
    Ping,
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Request>),
    MultiRead(Vec<Request>),
    Reconfig {
        new_members: String,
    },
    CheckWatches {
        path: String,
        kind: i32,
    },
    RemoveWatches {
        path: String,
        kind: i32,
    },
    AddWatch {
        path: String,
        mode: i32,
    },
    SetWatches {
        since: Since,
        data: Vec<String>,
        exist: Vec<String>,
        child: Vec<String>,
    },
    SetWatches2 {
        since: Since,
        data: Vec<String>,
        exist: Vec<String>,
        child: Vec<String>,
        persistent: Vec<String>,
        recursive: Vec<String>,
    },
    Auth {
        scheme: String,
        auth: Data,
    },
    Sasl {
        token: Data,
    },
    GetEphemerals {
        prefix: Option<String>,
    },
    GetAllChildrenNumber {
        path: String,
    },
    WhoAmI,
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession,
    /// A type that does not exist, with a path behind it.
    Unknown {
        op: i32,
    },
    /// A request whose record is damaged.
    Broken {
        request: Box<Request>,
        how: Damage,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// So many bytes are missing at its end (all of them, if it has no more).
    Short(usize),
    /// So many bytes too many.
    Long(usize),
    /// Its first length, which is its path's, says this.
    FirstLength(i32),
    /// Its first field, which is its path, is null.
    Null,
    /// The second byte of its first field is no UTF-8.
    NoText,
    /// It is whole, but its xid is one that clients do not use for it.
    Xid(i32),
}

impl Request {
    /// The operation code.
    pub fn op(&self) -> i32 {
        match self {
            Request::Create { op, .. } | Request::Unknown { op } => *op,
            Request::Delete { .. } => op::DELETE,
            Request::DeleteContainer { .. } => op::DELETE_CONTAINER,
            Request::Exists { .. } => op::EXISTS,
            Request::GetData { .. } => op::GET_DATA,
            Request::SetData { .. } => op::SET_DATA,
            Request::GetAcl { .. } => op::GET_ACL,
            Request::SetAcl { .. } => op::SET_ACL,
            Request::GetChildren { .. } => op::GET_CHILDREN,
            Request::GetChildren2 { .. } => op::GET_CHILDREN2,
            Request::Sync { .. } => op::SYNC,
            Request::Ping => op::PING,
            Request::Check { .. } => op::CHECK,
            Request::Multi(_) => op::MULTI,
            Request::MultiRead(_) => op::MULTI_READ,
            Request::Reconfig { .. } => op::RECONFIG,
            Request::CheckWatches { .. } => op::CHECK_WATCHES,
            Request::RemoveWatches { .. } => op::REMOVE_WATCHES,
            Request::AddWatch { .. } => op::ADD_WATCH,
            Request::SetWatches { .. } => op::SET_WATCHES,
            Request::SetWatches2 { .. } => op::SET_WATCHES2,
            Request::Auth { .. } => op::AUTH,
            Request::Sasl { .. } => op::SASL,
            Request::GetEphemerals { .. } => op::GET_EPHEMERALS,
            Request::GetAllChildrenNumber { .. } => op::GET_ALL_CHILDREN_NUMBER,
            Request::WhoAmI => op::WHO_AM_I,
            Request::CreateSession { .. } => op::CREATE_SESSION,
            Request::CloseSession => op::CLOSE_SESSION,
            Request::Broken { request, .. } => request.op(),
        }
    }

    /// Whether it becomes a transaction.
    pub fn is_write(&self) -> bool {
        let creates = [op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL];
        let others = [op::DELETE, op::SET_DATA, op::SET_ACL, op::MULTI];
        creates.contains(&self.op()) || others.contains(&self.op())
    }

    /// The xid that clients use for it: some operations have one of their own.
    pub fn xid(&self, next: i32) -> i32 {
        if let Request::Broken { how: Damage::Xid(xid), .. } = self {
            return *xid;
        }
        match self.op() {
            op::PING => -2,
            op::AUTH => -4,
            op::SET_WATCHES | op::SET_WATCHES2 => -8,
            _ => next,
        }
    }

    /// Whether ZooKeeper changes its state in a way that is a hole, not a contract: the server
    /// dies, or its tree no longer matches its digests, or an operation meant for servers works.
    /// Ringkeeper refuses these; ZooKeeper must never get one from a test.
    pub fn is_hole(&self) -> bool {
        match self {
            Request::Create { op, flags, acl, .. } => {
                let outside_the_bmp = |acl: &Acl| acl.id.chars().any(|c| c > '\u{ffff}');
                acl.iter().flatten().any(outside_the_bmp)
                    || match *op {
                        op::CREATE | op::CREATE2 => *flags == 4,
                        op::CREATE_CONTAINER => (0..4).contains(flags),
                        op::CREATE_TTL => (0..5).contains(flags),
                        _ => false,
                    }
            }
            Request::SetAcl { acl, .. } => {
                acl.iter().flatten().any(|acl| acl.id.chars().any(|c| c > '\u{ffff}'))
            }
            Request::DeleteContainer { .. } => true,
            Request::Multi(parts) => parts.iter().any(Request::is_hole),
            Request::Broken { request, how } => {
                // A shifted record could become anything.
                let shifts = matches!(how, Damage::FirstLength(_) | Damage::NoText);
                request.is_hole() || shifts && request.is_create()
            }
            _ => false,
        }
    }

    fn is_create(&self) -> bool {
        matches!(self, Request::Create { .. } | Request::Multi(_))
    }

    /// The frame, with its length in front. `zxid` resolves a [`Since`].
    pub fn frame(&self, xid: i32, zxid: impl Fn(Since) -> i64) -> Vec<u8> {
        let mut out = Encoder::frame();
        out.int(xid).int(self.op());
        let record_at = out.len();
        self.encode(&mut out, &zxid);
        let mut frame = out.finish();
        if let Request::Broken { how, .. } = self {
            match *how {
                Damage::Short(bytes) => {
                    let end = frame.len().saturating_sub(bytes).max(record_at);
                    frame.truncate(end);
                }
                Damage::Long(bytes) => frame.resize(frame.len() + bytes, 0xa5),
                Damage::NoText => {
                    if let Some(byte) = frame.get_mut(record_at + 5) {
                        *byte = 0xff;
                    }
                }
                Damage::Null => {
                    if let Some(length) = frame.get(record_at..).and_then(<[u8]>::first_chunk) {
                        let length = u32::from_be_bytes(*length) as usize;
                        let end = (record_at + 4).saturating_add(length).min(frame.len());
                        frame.splice(record_at..end, [0xff; 4]);
                    }
                }
                Damage::Xid(_) => {}
                Damage::FirstLength(length) => {
                    if let Some(field) = frame.get_mut(record_at..record_at + 4) {
                        field.copy_from_slice(&length.to_be_bytes());
                    }
                }
            }
            let length = u32::try_from(frame.len() - 4).expect("a test sends less than 4 GiB");
            frame[..4].copy_from_slice(&length.to_be_bytes());
        }
        frame
    }

    fn encode(&self, out: &mut Encoder, zxid: &impl Fn(Since) -> i64) {
        match self {
            Request::Create { op, path, data, acl, flags, ttl } => {
                out.string(path).nullable(data.0.as_deref());
                encode_acl(out, acl.as_deref());
                out.int(*flags);
                if *op == op::CREATE_TTL {
                    out.long(*ttl);
                }
            }
            Request::Delete { path, version } | Request::Check { path, version } => {
                out.string(path).int(*version);
            }
            Request::Exists { path, watch }
            | Request::GetData { path, watch }
            | Request::GetChildren { path, watch }
            | Request::GetChildren2 { path, watch } => {
                out.string(path).bool(*watch);
            }
            Request::SetData { path, data, version } => {
                out.string(path).nullable(data.0.as_deref()).int(*version);
            }
            Request::SetAcl { path, acl, version } => {
                out.string(path);
                encode_acl(out, acl.as_deref());
                out.int(*version);
            }
            Request::DeleteContainer { path }
            | Request::GetAcl { path }
            | Request::Sync { path }
            | Request::GetAllChildrenNumber { path } => {
                out.string(path);
            }
            Request::Multi(parts) | Request::MultiRead(parts) => {
                for part in parts {
                    out.int(part.op()).bool(false).int(-1);
                    part.encode(out, zxid);
                }
                out.int(-1).bool(true).int(-1);
            }
            Request::Reconfig { new_members } => {
                out.nullable(None).nullable(None).string(new_members).long(-1);
            }
            Request::CheckWatches { path, kind: number }
            | Request::RemoveWatches { path, kind: number }
            | Request::AddWatch { path, mode: number } => {
                out.string(path).int(*number);
            }
            Request::SetWatches { since, data, exist, child } => {
                out.long(zxid(*since));
                encode_paths(out, &[data, exist, child]);
            }
            Request::SetWatches2 { since, data, exist, child, persistent, recursive } => {
                out.long(zxid(*since));
                encode_paths(out, &[data, exist, child, persistent, recursive]);
            }
            Request::Auth { scheme, auth } => {
                out.int(0).string(scheme).nullable(auth.0.as_deref());
            }
            Request::Sasl { token } => {
                out.nullable(token.0.as_deref());
            }
            Request::GetEphemerals { prefix } => {
                out.nullable(prefix.as_ref().map(String::as_bytes));
            }
            Request::CreateSession { timeout_ms } => {
                out.int(*timeout_ms);
            }
            Request::Unknown { .. } => {
                out.string("/");
            }
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
            Request::Broken { request, .. } => request.encode(out, zxid),
        }
    }
}

fn encode_acl(out: &mut Encoder, acl: Option<&[Acl]>) {
    let Some(acl) = acl else {
        out.int(-1);
        return;
    };
    out.int(i32::try_from(acl.len()).expect("a short list"));
    for entry in acl {
        out.int(entry.perms).string(&entry.scheme).string(&entry.id);
    }
}

fn encode_paths(out: &mut Encoder, lists: &[&Vec<String>]) {
    for paths in lists {
        out.int(i32::try_from(paths.len()).expect("a short list"));
        for path in *paths {
            out.string(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(op: i32, flags: i32) -> Request {
        let (path, data) = ("/a".to_owned(), Data(None));
        Request::Create { op, path, data, acl: None, flags, ttl: -1 }
    }

    #[test]
    fn what_kills_or_corrupts_zookeeper_is_known_as_a_hole() {
        for hole in [
            create(op::CREATE, 4),
            create(op::CREATE2, 4),
            create(op::CREATE_CONTAINER, 0),
            create(op::CREATE_TTL, 0),
            create(op::CREATE_TTL, 4),
            Request::DeleteContainer { path: "/a".to_owned() },
        ] {
            assert!(hole.is_hole(), "{hole:?}");
            let inside = Request::Multi(vec![Request::WhoAmI, hole.clone()]);
            assert!(inside.is_hole(), "{inside:?}");
        }
        for contract in [
            create(op::CREATE, 0),
            create(op::CREATE2, 6),
            create(op::CREATE_CONTAINER, 4),
            create(op::CREATE_TTL, 5),
        ] {
            assert!(!contract.is_hole(), "{contract:?}");
        }
    }

    #[test]
    fn a_damaged_record_keeps_a_frame_of_the_right_length() {
        let whole = Request::GetAcl { path: "/abc".to_owned() };
        for (how, length) in [
            (Damage::Short(2), 8 + 4 + 2),
            (Damage::Short(100), 8),
            (Damage::Long(3), 8 + 8 + 3),
            (Damage::FirstLength(-2), 8 + 8),
        ] {
            let request = Request::Broken { request: Box::new(whole.clone()), how };
            let frame = request.frame(7, |_| 0);
            assert_eq!(frame.len(), 4 + length, "{how:?}");
            assert_eq!(frame[..4], u32::try_from(length).unwrap().to_be_bytes(), "{how:?}");
        }
    }
}
