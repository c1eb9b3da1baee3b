//! The client's operations. Paths given and returned are the client's: the chroot is put before
//! and taken off here.
//!
//! Every operation fails with the `ClientError` that says whether the path was wrong, the server
//! refused, or the connection was lost; a version of -1 matches any.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::jute::codec;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{
    Acl, AddWatchRequest, ClientInfo, CreateRequest, CreateTtlRequest, GetAclResponse,
    GetAllChildrenNumberResponse, GetChildren2Response, GetDataResponse, GetEphemeralsRequest,
    GetEphemeralsResponse, MultiHeader, PathRequest, PathResponse, PathVersionRequest,
    PathWatchRequest, ReconfigRequest, SetAclRequest, SetDataRequest, Stat, StatResponse,
    WatchesRequest, WhoAmIResponse,
};

use super::deletion::Deletion;
use super::error::ClientError;
use super::event::State;
use super::paths::Chroot;
use super::servers::{Rounds, Server};
use super::session::{Auth, Listener, Loss, Reply, Session, Ticket, WatchChange};
use super::upkeep;
use super::watches::{WatchKind, WatchSelection};

/// The znode of the ensemble's configuration, outside of every chroot.
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// Longest that closing waits for the server's answer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At least one.
    pub servers: Vec<Server>,
    pub chroot: Chroot,
    /// The session timeout to ask for.
    pub timeout: Duration,
    /// Whether a server will do that is cut off from its ensemble.
    pub read_only: bool,
}

/// Which kind of znode to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    Persistent,
    PersistentSequential,
    Ephemeral,
    EphemeralSequential,
    Container,
    /// With its time to live, milliseconds.
    Ttl(i64),
    /// As above.
    SequentialTtl(i64),
}

impl CreateMode {
    fn flags(self) -> i32 {
        match self {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => 1,
            CreateMode::PersistentSequential => 2,
            CreateMode::EphemeralSequential => 3,
            CreateMode::Container => 4,
            CreateMode::Ttl(_) => 5,
            CreateMode::SequentialTtl(_) => 6,
        }
    }

    fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::SequentialTtl(_)
        )
    }
}

/// How long a watch lasts that stays after its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum AddWatchMode {
    /// On a znode and its children.
    Persistent = 0,
    /// On a znode and everything below.
    PersistentRecursive = 1,
}

/// A client with its session, which [`Client::close`] ends, as dropping does.
pub struct Client {
    session: Arc<Session>,
}

impl Client {
    /// Starts to connect, and returns at once. `listener` is told of every event.
    ///
    /// # Panics
    /// When no server is named or the system gives no thread.
    pub fn start(settings: Settings, listener: Listener) -> Client {
        let rounds = Rounds::new(settings.servers);
        let session = Arc::new(Session::new(settings.timeout, settings.chroot, listener));
        let shared = session.clone();
        thread::Builder::new()
            .name("client".into())
            .spawn(move || upkeep::run(&shared, rounds, settings.read_only))
            .expect("the system gives a thread");
        Client { session }
    }

    /// The session's state.
    pub fn state(&self) -> State {
        self.session.lock().state
    }

    /// Why the last attempt to connect failed; none once a connection is made.
    pub fn trouble(&self) -> Option<String> {
        self.session.lock().trouble.clone()
    }

    /// Waits until there is a connection, at most `limit`. Whether there is one.
    pub fn wait_connected(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inner = self.session.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if inner.state.is_connected() || !inner.state.is_alive() || left.is_zero() {
                return inner.state.is_connected();
            }
            inner = self.session.wait(inner, left);
        }
    }

    /// Ends the session; its ephemerals are gone when this returns, if the server could be told.
    pub fn close(&self) {
        self.session.close(CLOSE_PATIENCE);
    }

    /// Creates a znode. Returns its path, which for a sequential one has the number.
    pub fn create(
        &self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        mode: CreateMode,
    ) -> Result<String, ClientError> {
        let chroot = &self.session.chroot;
        let outside = if mode.is_sequential() {
            chroot.outside_sequential(path)?
        } else {
            chroot.outside(path)?
        };
        let (data, acl) = (data.map(|data| data.to_vec().into()), Some(acl.to_vec()));
        let flags = mode.flags();
        let (op, body) = match mode {
            CreateMode::Ttl(ttl) | CreateMode::SequentialTtl(ttl) => {
                let request = CreateTtlRequest { path: outside, data, acl, flags, ttl };
                (OpCode::CREATE_TTL, codec::to_vec(&request)?)
            }
            CreateMode::Container => {
                let request = CreateRequest { path: outside, data, acl, flags };
                (OpCode::CREATE_CONTAINER, codec::to_vec(&request)?)
            }
            _ => {
                let request = CreateRequest { path: outside, data, acl, flags };
                (OpCode::CREATE, codec::to_vec(&request)?)
            }
        };
        let reply = self.exchange(op, &body, WatchChange::Nothing, path)?;
        // A Stat may follow, which nobody asks for here.
        let created: PathResponse = decode(path, &reply)?;
        Ok(chroot.inside(&created.path).to_owned())
    }

    /// Deletes a znode without children.
    pub fn delete(&self, path: &str, version: i32) -> Result<(), ClientError> {
        let request = PathVersionRequest { path: self.outside(path)?, version };
        self.call(OpCode::DELETE, &request, WatchChange::Nothing, path).map(drop)
    }

    /// Starts to delete `paths`, in this order, all of them or none.
    pub fn start_deleting(&self, paths: &[String]) -> Result<Deletion, ClientError> {
        let mut body = Vec::new();
        for path in paths {
            let header = MultiHeader { op: OpCode::DELETE.0, done: false, err: -1 };
            codec::to_writer(&mut body, &header)?;
            let request = PathVersionRequest { path: self.outside(path)?, version: -1 };
            codec::to_writer(&mut body, &request)?;
        }
        codec::to_writer(&mut body, &MultiHeader { op: -1, done: true, err: -1 })?;
        let first = paths.first().cloned().unwrap_or_default();
        let ticket = self.session.submit(OpCode::MULTI, &body, WatchChange::Nothing)?;
        Ok(Deletion::new(ticket.map_err(|loss| lost(loss, &first))?, first))
    }

    /// A znode's Stat, or none where it does not exist.
    pub fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, ClientError> {
        let outside = self.outside(path)?;
        let change =
            if watch { WatchChange::AddForExists(outside.clone()) } else { WatchChange::Nothing };
        let request = PathWatchRequest { path: outside, watch };
        match self.call(OpCode::EXISTS, &request, change, path) {
            Ok(reply) => Ok(Some(decode::<StatResponse>(path, &reply)?.stat)),
            Err(error) if error.code() == Some(ErrorCode::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A znode's data and Stat.
    pub fn get_data(
        &self,
        path: &str,
        watch: bool,
    ) -> Result<(Option<Vec<u8>>, Stat), ClientError> {
        self.get_data_outside(path, self.outside(path)?, watch)
    }

    /// The ensemble's configuration.
    pub fn get_config(&self, watch: bool) -> Result<(Option<Vec<u8>>, Stat), ClientError> {
        self.get_data_outside(CONFIG_PATH, CONFIG_PATH.to_owned(), watch)
    }

    fn get_data_outside(
        &self,
        path: &str,
        outside: String,
        watch: bool,
    ) -> Result<(Option<Vec<u8>>, Stat), ClientError> {
        let change = add_if(watch, WatchKind::Data, &outside);
        let request = PathWatchRequest { path: outside, watch };
        let reply = self.call(OpCode::GET_DATA, &request, change, path)?;
        let GetDataResponse { data, stat } = decode(path, &reply)?;
        Ok((data.map(serde_bytes::ByteBuf::into_vec), stat))
    }

    /// The names of a znode's children, in the server's order, and its Stat.
    pub fn get_children(
        &self,
        path: &str,
        watch: bool,
    ) -> Result<(Vec<String>, Stat), ClientError> {
        let outside = self.outside(path)?;
        let change = add_if(watch, WatchKind::Child, &outside);
        let request = PathWatchRequest { path: outside, watch };
        let reply = self.call(OpCode::GET_CHILDREN2, &request, change, path)?;
        let GetChildren2Response { children, stat } = decode(path, &reply)?;
        Ok((children, stat))
    }

    /// Replaces a znode's data.
    pub fn set_data(
        &self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<Stat, ClientError> {
        let data = data.map(|data| data.to_vec().into());
        let request = SetDataRequest { path: self.outside(path)?, data, version };
        let reply = self.call(OpCode::SET_DATA, &request, WatchChange::Nothing, path)?;
        Ok(decode::<StatResponse>(path, &reply)?.stat)
    }

    /// A znode's ACL and Stat.
    pub fn get_acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), ClientError> {
        let request = PathRequest { path: self.outside(path)? };
        let reply = self.call(OpCode::GET_ACL, &request, WatchChange::Nothing, path)?;
        let GetAclResponse { acl, stat } = decode(path, &reply)?;
        Ok((acl, stat))
    }

    /// Replaces a znode's ACL. `version` is that of the ACL.
    pub fn set_acl(&self, path: &str, acl: &[Acl], version: i32) -> Result<Stat, ClientError> {
        let acl = Some(acl.to_vec());
        let request = SetAclRequest { path: self.outside(path)?, acl, version };
        let reply = self.call(OpCode::SET_ACL, &request, WatchChange::Nothing, path)?;
        Ok(decode::<StatResponse>(path, &reply)?.stat)
    }

    /// Waits until this server has seen what the leader had.
    pub fn sync(&self, path: &str) -> Result<(), ClientError> {
        let request = PathRequest { path: self.outside(path)? };
        self.call(OpCode::SYNC, &request, WatchChange::Nothing, path).map(drop)
    }

    /// The paths of this session's ephemerals at and below `path`, in the server's order.
    pub fn get_ephemerals(&self, path: &str) -> Result<Vec<String>, ClientError> {
        let request = GetEphemeralsRequest { prefix_path: Some(self.outside(path)?) };
        // As in ZooKeeper's client its errors name no path.
        let reply = self.call(OpCode::GET_EPHEMERALS, &request, WatchChange::Nothing, "")?;
        let found: GetEphemeralsResponse = decode(path, &reply)?;
        let chroot = &self.session.chroot;
        Ok(found.ephemerals.iter().map(|path| chroot.inside(path).to_owned()).collect())
    }

    /// How many znodes there are below `path`.
    pub fn get_all_children_number(&self, path: &str) -> Result<i32, ClientError> {
        let request = PathRequest { path: self.outside(path)? };
        let op = OpCode::GET_ALL_CHILDREN_NUMBER;
        let reply = self.call(op, &request, WatchChange::Nothing, path)?;
        Ok(decode::<GetAllChildrenNumberResponse>(path, &reply)?.total_number)
    }

    /// Who the server takes this connection for.
    pub fn who_am_i(&self) -> Result<Vec<ClientInfo>, ClientError> {
        let reply = self.exchange(OpCode::WHO_AM_I, &[], WatchChange::Nothing, "")?;
        Ok(decode::<WhoAmIResponse>("", &reply)?.client_info)
    }

    /// Authenticates this session, on later connections, too. A refusal ends it.
    pub fn add_auth(&self, scheme: &str, auth: Option<&[u8]>) -> Result<(), ClientError> {
        let body = codec::to_vec(&upkeep::auth_packet(scheme, auth))?;
        let auth = Auth { scheme: scheme.to_owned(), auth: auth.map(<[u8]>::to_vec) };
        let ticket = self.session.authenticate(auth, &body)?;
        answer(ticket, "").map(drop)
    }

    /// Adds a watch that stays after its events.
    pub fn add_watch(&self, path: &str, mode: AddWatchMode) -> Result<(), ClientError> {
        let outside = self.outside(path)?;
        let kind = match mode {
            AddWatchMode::Persistent => WatchKind::Persistent,
            AddWatchMode::PersistentRecursive => WatchKind::Recursive,
        };
        let change = WatchChange::Add(kind, outside.clone());
        let request = AddWatchRequest { path: outside, mode: mode as i32 };
        self.call(OpCode::ADD_WATCH, &request, change, path).map(drop)
    }

    /// Removes watches; events tell which. With `local` they are forgotten here even when the
    /// server cannot be reached.
    pub fn remove_watches(
        &self,
        path: &str,
        selection: WatchSelection,
        local: bool,
    ) -> Result<(), ClientError> {
        let outside = self.outside(path)?;
        let change = WatchChange::Remove(selection, outside.clone());
        let request = WatchesRequest { path: outside.clone(), kind: selection as i32 };
        match self.call(OpCode::REMOVE_WATCHES, &request, change, path) {
            Err(_) if local && self.session.remove_locally(selection, &outside) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Changes the ensemble: either by `members`, or by the two before. Returns the new
    /// configuration.
    pub fn reconfigure(
        &self,
        joining: Option<String>,
        leaving: Option<String>,
        members: Option<String>,
        version: i64,
    ) -> Result<(Option<Vec<u8>>, Stat), ClientError> {
        let request = ReconfigRequest {
            joining_servers: joining,
            leaving_servers: leaving,
            new_members: members,
            cur_config_id: version,
        };
        let reply = self.call(OpCode::RECONFIG, &request, WatchChange::Nothing, "")?;
        let GetDataResponse { data, stat } = decode("", &reply)?;
        Ok((data.map(serde_bytes::ByteBuf::into_vec), stat))
    }

    fn outside(&self, path: &str) -> Result<String, ClientError> {
        self.session.chroot.outside(path)
    }

    fn call<T: Serialize>(
        &self,
        op: OpCode,
        request: &T,
        change: WatchChange,
        path: &str,
    ) -> Result<Reply, ClientError> {
        self.exchange(op, &codec::to_vec(request)?, change, path)
    }

    fn exchange(
        &self,
        op: OpCode,
        body: &[u8],
        change: WatchChange,
        path: &str,
    ) -> Result<Reply, ClientError> {
        answer(self.session.submit(op, body, change)?, path)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

fn add_if(watch: bool, kind: WatchKind, outside: &str) -> WatchChange {
    if watch { WatchChange::Add(kind, outside.to_owned()) } else { WatchChange::Nothing }
}

fn answer(ticket: Result<Ticket, Loss>, path: &str) -> Result<Reply, ClientError> {
    let reply = ticket.and_then(Ticket::wait).map_err(|loss| lost(loss, path))?;
    if reply.err == ErrorCode::Ok.code() {
        Ok(reply)
    } else {
        Err(ClientError::Refused { code: reply.err, path: path.to_owned() })
    }
}

pub(super) fn lost(loss: Loss, path: &str) -> ClientError {
    let path = path.to_owned();
    match loss {
        Loss::Connection => ClientError::ConnectionLoss { path },
        Loss::Expired => ClientError::SessionExpired { path },
        Loss::AuthFailed => ClientError::AuthFailed { path },
        Loss::TimedOut => ClientError::TimedOut { path },
    }
}

fn decode<'a, T: Deserialize<'a>>(path: &str, reply: &'a Reply) -> Result<T, ClientError> {
    codec::from_slice(&reply.body)
        .map_err(|error| ClientError::Answer { path: path.to_owned(), error })
}
