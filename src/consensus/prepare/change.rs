//! delete, setData, setACL and check.

use crate::consensus::handoff::Effect;
use crate::jute::error_code::ErrorCode;
use crate::jute::records::Stat;
use crate::jute::request::{PathVersion, SetAcl, SetData};
use crate::jute::txn;
use crate::tree::AclId;
use crate::tree::acl::perms;
use crate::tree::path;

use super::create::parent_of;
use super::write::{Done, Write, length};

/// What no client may delete.
fn is_special(path: &str) -> bool {
    matches!(path, "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config")
}

/// The version after `current`, if that is what the client expects; -1 expects anything.
fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BadVersion);
    }
    Ok(current.wrapping_add(1))
}

fn valid(path: &str) -> Result<(), ErrorCode> {
    path::validate(path).map_err(|_| ErrorCode::BadArguments)
}

impl Write<'_> {
    /// Prepares a delete, alone or in a multi.
    pub(super) fn delete(&mut self, delete: &PathVersion<'_>) -> Result<Done, ErrorCode> {
        self.allowed?;
        let path = delete.path;
        let parent_path = parent_of(path)?;
        if is_special(path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.tree.get(parent_path).ok_or(ErrorCode::NoNode)?;
        self.client.may(perms::DELETE, parent.acl())?;
        let node = self.tree.get(path).ok_or(ErrorCode::NoNode)?;
        next_version(node.stored().version, delete.version)?;
        if node.num_children() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let acls = (node.acl_id(), parent.acl_id());
        self.remove_known(path, acls);
        txn::encode_delete(self.record, path);
        Ok(Done::Deleted)
    }

    /// Deletes a znode that is known to be there, without children. `acls` are its own and its
    /// parent's.
    fn remove_known(&mut self, path: &str, acls: (AclId, AclId)) {
        let gone = self.tree.delete(path);
        gone.unwrap_or_else(|error| panic!("{path} was checked at {}: {error}", self.zxid));
        let path = self.changes.keep_path(path);
        let acl = self.changes.keep_acl(self.tree, acls.0);
        let parent_acl = self.changes.keep_acl(self.tree, acls.1);
        self.changes.effect(Effect::Deleted { path, acl, parent_acl });
    }

    /// Deletes a znode without children, as the server itself does.
    pub(super) fn remove(&mut self, path: &str) {
        let acl_of = |path: &str| self.tree.get(path).map_or(AclId::OPEN, |node| node.acl_id());
        let acls = (acl_of(path), acl_of(path::parent(path).unwrap_or("/")));
        self.remove_known(path, acls);
    }

    /// Prepares a setData, alone or in a multi.
    pub(super) fn set_data(&mut self, set: &SetData<'_>) -> Result<Done, ErrorCode> {
        self.allowed?;
        valid(set.path)?;
        let node = self.tree.get(set.path).ok_or(ErrorCode::NoNode)?;
        self.client.may(perms::WRITE, node.acl())?;
        let (before, acl) = (node.stat(), node.acl_id());
        let more = i64::from(length(set.data)) - i64::from(before.data_length);
        self.quotas.check(self.tree, set.path, (0, more), self.now_ms)?;
        let version = next_version(before.version, set.version)?;
        let done = self.tree.set_data(set.path, set.data, version);
        done.unwrap_or_else(|error| panic!("{} was checked at {}: {error}", set.path, self.zxid));
        txn::encode_set_data(self.record, set.path, set.data, version);
        let path = self.changes.keep_path(set.path);
        let acl = self.changes.keep_acl(self.tree, acl);
        self.changes.effect(Effect::DataChanged { path, acl });
        Ok(Done::Set(Stat {
            mzxid: self.zxid.bits(),
            mtime: self.time_ms,
            version,
            data_length: length(set.data),
            ..before
        }))
    }

    /// Prepares a setACL. It has no effect that could be watched for.
    pub(super) fn set_acl(&mut self, set: &SetAcl<'_>) -> Result<Done, ErrorCode> {
        self.allowed?;
        valid(set.path)?;
        let stored_acl = self.acls.check(&set.acl, self.client.ids)?;
        let node = self.tree.get(set.path).ok_or(ErrorCode::NoNode)?;
        self.client.may(perms::ADMIN, node.acl())?;
        let before = node.stat();
        let aversion = next_version(before.aversion, set.version)?;
        let acl = self.tree.intern_acl(stored_acl);
        let done = self.tree.set_acl(set.path, acl, aversion);
        done.unwrap_or_else(|error| panic!("{} was checked at {}: {error}", set.path, self.zxid));
        txn::encode_set_acl(self.record, set.path, stored_acl, aversion);
        Ok(Done::AclSet(Stat { aversion, ..before }))
    }

    /// Prepares a check, which stands in a multi only.
    pub(super) fn check(&mut self, check: &PathVersion<'_>) -> Result<Done, ErrorCode> {
        self.allowed?;
        valid(check.path)?;
        let node = self.tree.get(check.path).ok_or(ErrorCode::NoNode)?;
        self.client.may(perms::READ, node.acl())?;
        let version = next_version(node.stored().version, check.version)?;
        txn::encode_check(self.record, check.path, version);
        Ok(Done::Checked)
    }
}
