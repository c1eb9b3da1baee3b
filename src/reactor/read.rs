//! Reads, answered from one version of the tree straight into the connection's output: exists,
//! getData, getACL, getChildren, getChildren2, setWatches, ping. Called by `serve` for requests
//! that need not wait, and for held ones when their turn comes.
//!
//! As ZooKeeper (3.8.4, 3.9.2 and later) checks: NONODE before NOAUTH; exists needs READ if the
//! znode is there; getACL needs READ or ADMIN, and hides digests without ADMIN. A watch is left
//! only on success, but by exists on a missing znode too.

use crate::ids::{ConnId, Zxid};
use crate::jute::codec;
use crate::jute::decode::DecodeError;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{Acl, EventType, Id, SetWatches};
use crate::jute::reply;
use crate::jute::request::{self, Header, PathWatch, XID_PING};
use crate::limits::REPLY_BYTES_MAX;
use crate::tree::acl::{self, perms};
use crate::tree::{AclId, NodeView, View};

use super::watches::{WatchKind, Watches};

/// The zxid of events that setWatches causes.
const NO_ZXID: Zxid = Zxid::from_bits(-1);

/// Whether `op` is answered here.
pub const fn is_read(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::EXISTS
            | OpCode::GET_DATA
            | OpCode::GET_ACL
            | OpCode::GET_CHILDREN
            | OpCode::GET_CHILDREN2
            | OpCode::PING
            | OpCode::SET_WATCHES
    )
}

/// Who reads, and what.
pub struct Reading<'a> {
    /// The tree as of `zxid`.
    pub view: View<'a>,
    /// The last transaction applied: stands in the reply.
    pub zxid: Zxid,
    pub conn: ConnId,
    /// Who the connection was when it asked.
    pub ids: &'a [Id],
    pub skip_acl: bool,
    pub watches: &'a mut Watches,
    /// Where the reply goes.
    pub out: &'a mut Vec<u8>,
}

impl<'a> Reading<'a> {
    /// Answers one request, whose op `is_read` (or a sync without a path): appends one reply,
    /// behind the events that it causes.
    #[inline]
    pub fn answer(mut self, header: Header, body: &[u8]) {
        let done = match header.op {
            OpCode::GET_DATA => self.get_data(header.xid, body),
            OpCode::EXISTS => self.exists(header.xid, body),
            OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => self.get_children(header, body),
            OpCode::GET_ACL => self.get_acl(header.xid, body),
            OpCode::SET_WATCHES => self.set_watches(header.xid, body),
            OpCode::PING => {
                reply::bare(self.out, XID_PING, self.zxid, ErrorCode::Ok);
                Ok(())
            }
            // It is handed over, unless its path cannot be read.
            OpCode::SYNC => Err(ErrorCode::MarshallingError),
            op => unreachable!("{op:?} is not a read"),
        };
        if let Err(err) = done {
            reply::bare(self.out, header.xid, self.zxid, err);
        }
    }

    #[inline]
    fn get_data(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let PathWatch { path, watch } = PathWatch::decode(body).map_err(undecodable)?;
        let node = self.readable(path)?;
        reply::get_data(self.out, xid, self.zxid, node.data(), &node.stat());
        if watch {
            self.watches.add(WatchKind::Data, rooted(path), self.conn);
        }
        Ok(())
    }

    fn exists(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let PathWatch { path, watch } = PathWatch::decode(body).map_err(undecodable)?;
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.readable(path);
        if watch && !matches!(node, Err(ErrorCode::NoAuth)) {
            self.watches.add(WatchKind::Data, rooted(path), self.conn);
        }
        reply::stat_only(self.out, xid, self.zxid, &node?.stat());
        Ok(())
    }

    fn get_children(&mut self, header: Header, body: &[u8]) -> Result<(), ErrorCode> {
        let PathWatch { path, watch } = PathWatch::decode(body).map_err(undecodable)?;
        let node = self.readable(path)?;
        let start = self.out.len();
        let mut left = Some(REPLY_BYTES_MAX);
        let names = names_within(&mut left, node.children());
        if header.op == OpCode::GET_CHILDREN {
            reply::get_children(self.out, header.xid, self.zxid, names);
        } else {
            reply::get_children2(self.out, header.xid, self.zxid, names, &node.stat());
        }
        if left.is_none() {
            self.out.truncate(start);
            return Err(ErrorCode::MarshallingError);
        }
        if watch {
            self.watches.add(WatchKind::Child, rooted(path), self.conn);
        }
        Ok(())
    }

    fn get_acl(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let path = request::path(body).map_err(undecodable)?;
        let node = self.view.get(path).ok_or(ErrorCode::NoNode)?;
        let may = |perm| self.skip_acl || acl::allows(node.acl(), perm, self.ids);
        let whole = may(perms::ADMIN);
        if !whole && !may(perms::READ) {
            return Err(ErrorCode::NoAuth);
        }
        if node.acl_id() == AclId::OPEN {
            reply::get_acl(self.out, xid, self.zxid, &[open_to_all()], &node.stat());
        } else if whole {
            reply::get_acl(self.out, xid, self.zxid, node.acl(), &node.stat());
        } else {
            reply::get_acl(self.out, xid, self.zxid, &acl::masked(node.acl()), &node.stat());
        }
        Ok(())
    }

    /// Watches that a client had on another connection: those that would have fired since the
    /// zxid that it names fire now, the others are left. Nothing is checked, as in ZooKeeper.
    fn set_watches(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let wanted: SetWatches = codec::from_slice(body).map_err(undecodable)?;
        let seen = wanted.relative_zxid;
        for path in &wanted.data_watches {
            match self.view.get(path) {
                None => self.event(EventType::NodeDeleted, path),
                Some(node) if node.stat().mzxid > seen => {
                    self.event(EventType::NodeDataChanged, path);
                }
                Some(_) => self.watches.add(WatchKind::Data, rooted(path), self.conn),
            }
        }
        for path in &wanted.exist_watches {
            match self.view.get(path) {
                Some(_) => self.event(EventType::NodeCreated, path),
                None => self.watches.add(WatchKind::Data, path, self.conn),
            }
        }
        for path in &wanted.child_watches {
            match self.view.get(path) {
                None => self.event(EventType::NodeDeleted, path),
                Some(node) if node.stat().pzxid > seen => {
                    self.event(EventType::NodeChildrenChanged, path);
                }
                Some(_) => self.watches.add(WatchKind::Child, rooted(path), self.conn),
            }
        }
        reply::bare(self.out, xid, self.zxid, ErrorCode::Ok);
        Ok(())
    }

    fn event(&mut self, event: EventType, path: &str) {
        reply::event(self.out, NO_ZXID, event, path);
    }

    /// The znode of `path`, if it is there and the connection may read it.
    #[inline]
    fn readable(&self, path: &str) -> Result<NodeView<'a>, ErrorCode> {
        let node = self.view.get(path).ok_or(ErrorCode::NoNode)?;
        if self.skip_acl || acl::allows(node.acl(), perms::READ, self.ids) {
            Ok(node)
        } else {
            Err(ErrorCode::NoAuth)
        }
    }
}

/// What getACL shows for the null ACL.
fn open_to_all() -> Acl {
    let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    Acl { perms: perms::ALL, id }
}

/// The path under which a watch is kept: the root answers to the empty path, too.
fn rooted(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// ZooKeeper cannot tell a path that is not UTF-8 from one with odd characters, and no znode has
/// such a path.
fn undecodable(error: DecodeError) -> ErrorCode {
    match error {
        DecodeError::NotUtf8 { .. } => ErrorCode::NoNode,
        _ => ErrorCode::MarshallingError,
    }
}

/// The names for as long as their bytes on the wire fit what is left; then nothing is.
fn names_within<'n>(
    left: &mut Option<usize>,
    names: impl Iterator<Item = &'n str>,
) -> impl Iterator<Item = &'n str> {
    names.take_while(|name| {
        *left = left.and_then(|left| left.checked_sub(4 + name.len()));
        left.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_ends_where_its_bytes_would_not_fit() {
        for (room, taken, left) in [(21, 3, Some(0)), (20, 2, None), (30, 3, Some(9)), (6, 0, None)]
        {
            let mut room = Some(room);
            let names = names_within(&mut room, ["one", "two", "six"].into_iter());
            assert_eq!(names.count(), taken);
            assert_eq!(room, left);
        }
    }
}
