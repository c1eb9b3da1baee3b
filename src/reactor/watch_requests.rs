//! Requests that are about watches: addWatch, checkWatches, removeWatches, setWatches,
//! setWatches2. Called by `read`. They check no ACL: who may not read a znode hears nothing of it.
//!
//! Paths are taken as they come, valid or not, as ZooKeeper does; nothing ever happens at a path
//! that is not valid.

use crate::ids::Zxid;
use crate::jute::codec;
use crate::jute::error_code::ErrorCode;
use crate::jute::records::{AddWatchRequest, EventType, SetWatches, SetWatches2, WatchesRequest};
use crate::jute::reply;

use super::read::{Reading, undecodable};
use super::watched_paths::Modes;

/// The zxid of events that setWatches causes.
const NO_ZXID: Zxid = Zxid::from_bits(-1);

/// What checkWatches and removeWatches mean by a type.
fn modes_of_type(kind: i32) -> Result<Modes, ErrorCode> {
    match kind {
        1 => Ok(Modes::CHILD),
        2 => Ok(Modes::DATA),
        3 => Ok(Modes::ANY),
        4 => Ok(Modes::PERSISTENT),
        5 => Ok(Modes::RECURSIVE),
        _ => Err(ErrorCode::MarshallingError),
    }
}

impl Reading<'_> {
    pub(super) fn add_watch(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let wanted: AddWatchRequest = codec::from_slice(body).map_err(undecodable)?;
        let modes = match wanted.mode {
            0 => Modes::PERSISTENT,
            1 => Modes::RECURSIVE,
            _ => return Err(ErrorCode::MarshallingError),
        };
        self.watches.add(modes, &wanted.path, self.conn);
        let frame = reply::begin_frame(self.out);
        reply::header(self.out, xid, self.zxid, ErrorCode::Ok);
        // An ErrorResponse that says Ok.
        reply::int(self.out, 0);
        reply::finish_frame(self.out, frame);
        Ok(())
    }

    pub(super) fn check_watches(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let wanted: WatchesRequest = codec::from_slice(body).map_err(undecodable)?;
        if !self.watches.has(modes_of_type(wanted.kind)?, &wanted.path, self.conn) {
            return Err(ErrorCode::NoWatcher);
        }
        reply::bare(self.out, xid, self.zxid, ErrorCode::Ok);
        Ok(())
    }

    pub(super) fn remove_watches(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let wanted: WatchesRequest = codec::from_slice(body).map_err(undecodable)?;
        if !self.watches.remove(modes_of_type(wanted.kind)?, &wanted.path, self.conn) {
            return Err(ErrorCode::NoWatcher);
        }
        reply::bare(self.out, xid, self.zxid, ErrorCode::Ok);
        Ok(())
    }

    pub(super) fn set_watches(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let wanted: SetWatches = codec::from_slice(body).map_err(undecodable)?;
        self.catch_up(&SetWatches2 {
            relative_zxid: wanted.relative_zxid,
            data_watches: wanted.data_watches,
            exist_watches: wanted.exist_watches,
            child_watches: wanted.child_watches,
            persistent_watches: Vec::new(),
            persistent_recursive_watches: Vec::new(),
        });
        reply::bare(self.out, xid, self.zxid, ErrorCode::Ok);
        Ok(())
    }

    pub(super) fn set_watches2(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let wanted: SetWatches2 = codec::from_slice(body).map_err(undecodable)?;
        self.catch_up(&wanted);
        reply::bare(self.out, xid, self.zxid, ErrorCode::Ok);
        Ok(())
    }

    /// Watches that a client had on another connection: those that would have fired since the
    /// zxid that it names fire now, the others are left.
    fn catch_up(&mut self, wanted: &SetWatches2) {
        let seen = wanted.relative_zxid;
        for path in &wanted.data_watches {
            match self.view.get(path) {
                None => self.event(EventType::NodeDeleted, path),
                Some(node) if node.stored().mzxid > seen => {
                    self.event(EventType::NodeDataChanged, path);
                }
                Some(_) => self.watches.add(Modes::DATA, path, self.conn),
            }
        }
        for path in &wanted.exist_watches {
            match self.view.get(path) {
                Some(_) => self.event(EventType::NodeCreated, path),
                None => self.watches.add(Modes::DATA, path, self.conn),
            }
        }
        for path in &wanted.child_watches {
            match self.view.get(path) {
                None => self.event(EventType::NodeDeleted, path),
                Some(node) if node.stored().pzxid > seen => {
                    self.event(EventType::NodeChildrenChanged, path);
                }
                Some(_) => self.watches.add(Modes::CHILD, path, self.conn),
            }
        }
        for path in &wanted.persistent_watches {
            self.watches.add(Modes::PERSISTENT, path, self.conn);
        }
        for path in &wanted.persistent_recursive_watches {
            self.watches.add(Modes::RECURSIVE, path, self.conn);
        }
    }

    /// Nobody asks whether the connection may read the znode, as in ZooKeeper.
    fn event(&mut self, event: EventType, path: &str) {
        reply::event(self.out, NO_ZXID, event, path);
    }
}
