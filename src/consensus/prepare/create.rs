//! create, create2, createContainer and createTTL.

use std::ops::Range;

use crate::consensus::batch::Changes;
use crate::consensus::handoff::Effect;
use crate::ids::SessionId;
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::Stat;
use crate::jute::request::{self, Create};
use crate::jute::txn;
use crate::limits::QUOTAS_COUNTED_MAX;
use crate::tree::acl::perms;
use crate::tree::{Owner, TTL_MS_MAX, is_counted_at, path};

use super::write::{Done, Write, length};

/// What the flags ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    owner: Owner,
    sequential: bool,
}

impl Kind {
    /// Reads the flags of a create of type `op`. Where type and flags do not go together,
    /// ZooKeeper creates something that its own tree digest contradicts, or, for createTTL
    /// without a TTL flag, writes a transaction that no server survives: those are refused.
    fn of(
        op: OpCode,
        create: &Create<'_>,
        session: SessionId,
        extended_types: bool,
    ) -> Result<Kind, ErrorCode> {
        let flags = create.flags;
        if !request::known_flags(flags) {
            return Err(ErrorCode::BadArguments);
        }
        if request::has_ttl(flags) && !extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let ttl = create.ttl.filter(|ttl| (1..=TTL_MS_MAX).contains(ttl));
        let owner = match (op, flags) {
            (OpCode::CREATE | OpCode::CREATE2, 0 | 2) => Owner::Persistent,
            (OpCode::CREATE | OpCode::CREATE2, 1 | 3) => Owner::Session(session),
            (OpCode::CREATE_CONTAINER, 4) => Owner::Container,
            (OpCode::CREATE_TTL, 5 | 6) => Owner::Ttl(ttl.ok_or(ErrorCode::BadArguments)?),
            _ => return Err(ErrorCode::BadArguments),
        };
        Ok(Kind { owner, sequential: matches!(flags, 2 | 3 | 6) })
    }
}

/// The parent of a path that a client sent, which need not be valid: everything in front of the
/// last slash.
pub(super) fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    let slash = path.rfind('/').ok_or(ErrorCode::BadArguments)?;
    if path.contains('\0') {
        return Err(ErrorCode::BadArguments);
    }
    Ok(if slash == 0 { "/" } else { &path[..slash] })
}

impl Write<'_> {
    /// Prepares a create of type `op`, alone or in a multi.
    pub(super) fn create(&mut self, op: OpCode, create: &Create<'_>) -> Result<Done, ErrorCode> {
        let kind = Kind::of(op, create, self.session, self.extended_types)?;
        self.allowed?;
        let parent_path = parent_of(create.path)?;
        let stored_acl = self.acls.check(&create.acl, self.client.ids)?;
        let parent = self.tree.get(parent_path).ok_or(ErrorCode::NoNode)?;
        self.client.may(perms::CREATE, parent.acl())?;
        let counter = parent.stored().cversion;
        let parent_acl = parent.acl_id();
        let parent_is_ephemeral = matches!(parent.owner(), Owner::Session(_));

        let mark = self.changes.mark();
        let kept = keep_path(self.changes, create.path, kind.sequential.then_some(counter));
        let path = self.changes.path(&kept);
        let refused = if path::validate(path).is_err() {
            Some(ErrorCode::BadArguments)
        } else if self.tree.get(path).is_some() {
            Some(ErrorCode::NodeExists)
        } else if parent_is_ephemeral {
            Some(ErrorCode::NoChildrenForEphemerals)
        } else if counter == i32::MAX {
            // No sequence number is left: ZooKeeper would stop counting and forget pzxid.
            Some(ErrorCode::BadArguments)
        } else if is_counted_at(path) && self.counted == QUOTAS_COUNTED_MAX {
            Some(ErrorCode::MarshallingError)
        } else {
            let more = (1, i64::from(length(create.data)));
            self.quotas.check(self.tree, path, more, self.now_ms).err()
        };
        if let Some(err) = refused {
            self.changes.take_back(mark);
            return Err(err);
        }

        self.counted += usize::from(is_counted_at(path));
        let acl = self.tree.intern_acl(stored_acl);
        let made = self.tree.create(path, create.data, acl, kind.owner, None);
        made.unwrap_or_else(|error| panic!("{path} was checked at {}: {error}", self.zxid));
        let (data, cversion, record) = (create.data, counter + 1, &mut *self.record);
        match op {
            OpCode::CREATE_CONTAINER => {
                txn::encode_create_container(record, path, data, stored_acl, cversion);
            }
            OpCode::CREATE_TTL => {
                let ttl = create.ttl.expect("checked with the kind");
                txn::encode_create_ttl(record, path, data, stored_acl, cversion, ttl);
            }
            _ => {
                let ephemeral = matches!(kind.owner, Owner::Session(_));
                txn::encode_create(record, path, data, stored_acl, ephemeral, cversion);
            }
        }
        let acl = self.changes.keep_acl(self.tree, acl);
        let parent_acl = self.changes.keep_acl(self.tree, parent_acl);
        self.changes.effect(Effect::Created { path: kept.clone(), acl, parent_acl });
        Ok(Done::Created { op, path: kept, stat: self.new_stat(kind.owner, data) })
    }

    /// The status of a znode that this transaction creates.
    fn new_stat(&self, owner: Owner, data: Option<&[u8]>) -> Stat {
        let zxid = self.zxid.bits();
        Stat {
            czxid: zxid,
            mzxid: zxid,
            ctime: self.time_ms,
            mtime: self.time_ms,
            ephemeral_owner: owner.visible(),
            data_length: length(data),
            pzxid: zxid,
            ..Stat::default()
        }
    }
}

fn keep_path(changes: &mut Changes, path: &str, counter: Option<i32>) -> Range<u32> {
    changes.keep_path_with(|text| {
        text.push_str(path);
        if let Some(counter) = counter {
            path::append_sequence(text, counter);
        }
    })
}
