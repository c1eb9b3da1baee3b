//! ACL lists of create and setACL, checked. Used by `create` and `change`.

use crate::auth::rules::Rules;
use crate::jute::error_code::ErrorCode;
use crate::jute::records::{Acl, Id};
use crate::jute::request::AclList;
use crate::limits::ACL_ENTRIES_MAX;

/// The checks, and the last list that passed them: nearly all requests of an application carry the
/// same one, and comparing its bytes costs less than taking it apart.
#[derive(Debug)]
pub struct CheckedAcls {
    rules: Rules,
    /// As it came; empty if the result depends on who asks.
    raw: Vec<u8>,
    stored: Vec<Acl>,
}

impl CheckedAcls {
    /// Checks as `rules` say; no list has been checked yet.
    pub fn new(rules: Rules) -> CheckedAcls {
        CheckedAcls { rules, raw: Vec::new(), stored: Vec::new() }
    }

    /// The list to be stored for one that a client with `ids` sent.
    ///
    /// # Errors
    /// `InvalidAcl` for an empty or malformed list, and one that is too long, as it is sent
    /// (`ACL_ENTRIES_MAX`) or as it would be stored. `BadArguments` for characters outside of the BMP, which members of an ensemble on
    /// the JVM would each store differently.
    pub fn check(&mut self, sent: &AclList<'_>, ids: &[Id]) -> Result<&[Acl], ErrorCode> {
        if !self.raw.is_empty() && self.raw == sent.as_bytes() {
            return Ok(&self.stored);
        }
        if sent.len() > ACL_ENTRIES_MAX {
            return Err(ErrorCode::InvalidAcl);
        }
        let list = sent.to_vec();
        self.raw.clear();
        self.stored = self.rules.check_list(&list, ids).map_err(|_| ErrorCode::InvalidAcl)?;
        if self.stored.iter().any(|entry| entry.id.id.chars().any(|each| each > '\u{ffff}')) {
            return Err(ErrorCode::BadArguments);
        }
        if list.iter().all(|entry| entry.id.scheme != "auth") {
            self.raw.extend_from_slice(sent.as_bytes());
        }
        Ok(&self.stored)
    }
}
