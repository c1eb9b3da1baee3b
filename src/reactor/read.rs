//! Reads, answered from one version of the tree straight into the connection's output: exists,
//! getData, getACL, getChildren, getChildren2, multiRead, whoAmI, ping, and with `watch_requests`
//! those about watches. Called by `serve` for requests that need not wait, and for held ones when
//! their turn comes.
//!
//! As ZooKeeper (3.8.4, 3.9.2 and later) checks: NONODE before NOAUTH; exists needs READ if the
//! znode is there; getACL needs READ or ADMIN, and hides digests without ADMIN. A watch is left
//! only on success, but by exists on a missing znode too.

use crate::auth::rules::{Rules, masked};
use crate::ids::{ConnId, Zxid};
use crate::jute::decode::DecodeError;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::{Acl, Id};
use crate::jute::reply;
use crate::jute::request::{self, Header, Multi, Operation, PathWatch, XID_PING};
use crate::limits::{MULTI_READ_BYTES_MAX, REPLY_BYTES_MAX};
use crate::tree::acl::perms;
use crate::tree::{AclId, NodeView, View};

use super::watched_paths::Modes;
use super::watches::Watches;

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
            | OpCode::MULTI_READ
            | OpCode::WHO_AM_I
            | OpCode::ADD_WATCH
            | OpCode::CHECK_WATCHES
            | OpCode::REMOVE_WATCHES
            | OpCode::SET_WATCHES
            | OpCode::SET_WATCHES2
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
    pub rules: &'a Rules,
    pub watches: &'a mut Watches,
    /// Where the reply goes.
    pub out: &'a mut Vec<u8>,
}

impl<'a> Reading<'a> {
    /// Answers one request, whose op `is_read` (or a sync whose path cannot be read): appends one reply,
    /// behind the events that it causes.
    #[inline]
    pub fn answer(mut self, header: Header, body: &[u8]) {
        let done = match header.op {
            OpCode::GET_DATA => self.get_data(header.xid, body),
            OpCode::EXISTS => self.exists(header.xid, body),
            OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => self.get_children(header, body),
            OpCode::GET_ACL => self.get_acl(header.xid, body),
            OpCode::MULTI_READ => self.multi_read(header.xid, body),
            OpCode::ADD_WATCH => self.add_watch(header.xid, body),
            OpCode::CHECK_WATCHES => self.check_watches(header.xid, body),
            OpCode::REMOVE_WATCHES => self.remove_watches(header.xid, body),
            OpCode::SET_WATCHES => self.set_watches(header.xid, body),
            OpCode::SET_WATCHES2 => self.set_watches2(header.xid, body),
            OpCode::WHO_AM_I => {
                self.who_am_i(header.xid);
                Ok(())
            }
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
            self.watches.add(Modes::DATA, path, self.conn);
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
            self.watches.add(Modes::DATA, path, self.conn);
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
            self.watches.add(Modes::CHILD, path, self.conn);
        }
        Ok(())
    }

    fn get_acl(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let path = request::path(body).map_err(undecodable)?;
        let node = self.view.get(path).ok_or(ErrorCode::NoNode)?;
        let may = |perm| self.rules.allow(node.acl(), perm, self.ids);
        let whole = may(perms::ADMIN);
        if !whole && !may(perms::READ) {
            return Err(ErrorCode::NoAuth);
        }
        if node.acl_id() == AclId::OPEN {
            reply::get_acl(self.out, xid, self.zxid, &[open_to_all()], &node.stat());
        } else if whole {
            reply::get_acl(self.out, xid, self.zxid, node.acl(), &node.stat());
        } else {
            reply::get_acl(self.out, xid, self.zxid, &masked(node.acl()), &node.stat());
        }
        Ok(())
    }

    fn multi_read(&mut self, xid: i32, body: &[u8]) -> Result<(), ErrorCode> {
        let Ok(multi) = Multi::decode(OpCode::MULTI_READ, body) else {
            // ZooKeeper finds writes only when it comes to carry them out, and then answers both
            // that it could not read the request and what it had done by then, which is nothing.
            if Multi::decode(OpCode::MULTI, body).is_err() {
                return Err(ErrorCode::MarshallingError);
            }
            let frame = reply::begin_frame(self.out);
            reply::header(self.out, xid, self.zxid, ErrorCode::MarshallingError);
            reply::multi_end(self.out);
            reply::finish_frame(self.out, frame);
            return Ok(());
        };
        let start = self.out.len();
        let frame = reply::begin_frame(self.out);
        reply::header(self.out, xid, self.zxid, ErrorCode::Ok);
        for operation in multi.iter() {
            let node = self.readable(operation.path());
            match (operation, node) {
                (_, Err(err)) => reply::multi_error(self.out, err),
                (Operation::GetChildren(_), Ok(node)) => {
                    let mut left = Some(REPLY_BYTES_MAX);
                    let names = names_within(&mut left, node.children());
                    reply::multi_get_children(self.out, names);
                }
                (_, Ok(node)) => reply::multi_get_data(self.out, node.data(), &node.stat()),
            }
            if self.out.len() - start > MULTI_READ_BYTES_MAX {
                self.out.truncate(start);
                return Err(ErrorCode::MarshallingError);
            }
        }
        reply::multi_end(self.out);
        reply::finish_frame(self.out, frame);
        Ok(())
    }

    fn who_am_i(&mut self, xid: i32) {
        let frame = reply::begin_frame(self.out);
        reply::header(self.out, xid, self.zxid, ErrorCode::Ok);
        let ids = self.rules.who_am_i(self.ids);
        reply::int(self.out, ids.len() as i32);
        for (scheme, user) in ids {
            reply::string(self.out, scheme);
            reply::string(self.out, user);
        }
        reply::finish_frame(self.out, frame);
    }

    /// The znode of `path`, if it is there and the connection may read it.
    #[inline]
    fn readable(&self, path: &str) -> Result<NodeView<'a>, ErrorCode> {
        let node = self.view.get(path).ok_or(ErrorCode::NoNode)?;
        if self.rules.allow(node.acl(), perms::READ, self.ids) {
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

/// ZooKeeper cannot tell a path that is not UTF-8 from one with odd characters, and no znode has
/// such a path.
pub(super) fn undecodable(error: DecodeError) -> ErrorCode {
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
