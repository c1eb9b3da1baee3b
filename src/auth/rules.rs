//! Who may do what: the permission check, and the checking of ACL lists that clients send. Pure;
//! called by reactors for reads and by the consensus core for writes.

use std::collections::HashSet;

use thiserror::Error;

use super::ip;
use super::scheme::{Scheme, Schemes};
use crate::jute::records::{Acl, Id};
use crate::limits::{ACL_BYTES_MAX, ACL_ENTRIES_MAX};

/// Pairs of an entry and an id that are compared one by one; above, hashing is faster.
const PAIRS_MAX: usize = 128;

/// Entries of a list that are compared with each other to find duplicates; above, as for pairs.
const COMPARED_MAX: usize = 8;

/// What the configuration says about ACLs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// `skipACL`: ACLs are kept but not looked at.
    pub skip_acl: bool,
    /// The schemes that ACLs may name and whose ids count.
    pub schemes: Schemes,
    /// `letAnySaslUserDoX`: an ACL that names this SASL user means every SASL user.
    pub any_sasl_user: Option<String>,
    /// `X509AuthenticationProvider.superUser`: the X.509 name that every ACL of the scheme means.
    pub x509_super_user: Option<String>,
}

impl Default for Rules {
    /// As ZooKeeper has them by default: the schemes ip and digest.
    fn default() -> Rules {
        Rules {
            skip_acl: false,
            schemes: Schemes::NONE.with(Scheme::Ip).with(Scheme::Digest),
            any_sasl_user: None,
            x509_super_user: None,
        }
    }
}

/// An ACL list in a request is null, empty, too long, or holds an entry that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ACL is empty, or its entry {entry} is not valid or makes it too long")]
pub struct InvalidAcl {
    /// The entry that is not valid, or that makes the stored list too long; 0 for an empty list.
    pub entry: usize,
}

impl Rules {
    /// Whether a connection with `ids` may do `perm` (one bit) to a znode with this ACL. An empty
    /// ACL allows everything, as does the id scheme `super`.
    pub fn allow(&self, acl: &[Acl], perm: i32, ids: &[Id]) -> bool {
        if self.skip_acl || acl.is_empty() || ids.iter().any(|id| id.scheme == "super") {
            return true;
        }
        if acl.len() * ids.len() > PAIRS_MAX {
            return self.allow_among_many(acl, perm, ids);
        }
        acl.iter().filter(|entry| entry.perms & perm != 0).any(|entry| {
            let Id { scheme, id } = &entry.id;
            if scheme == "world" && id == "anyone" {
                return true;
            }
            let Some(scheme) = self.schemes.named(scheme) else { return false };
            let own = ids.iter().filter(|of| of.scheme == scheme.name());
            own.map(|of| of.id.as_str()).any(|of| self.matches(scheme, of, id))
        })
    }

    /// As `allow`, for long lists: comparing each entry with each id would take a millisecond, and
    /// one multiRead may ask for ten thousands of znodes.
    fn allow_among_many(&self, acl: &[Acl], perm: i32, ids: &[Id]) -> bool {
        let equal: HashSet<&Id> = ids.iter().collect();
        // The ids that may be meant by an entry that does not equal them.
        let special = |of: &&Id| match self.schemes.named(&of.scheme) {
            Some(Scheme::Ip) => true,
            Some(Scheme::Sasl) => of.id == "super" || self.any_sasl_user.is_some(),
            Some(Scheme::X509) => self.x509_super_user.as_ref() == Some(&of.id),
            Some(Scheme::Digest | Scheme::Ensemble) | None => false,
        };
        let mut special: Vec<&Id> = ids.iter().filter(special).collect();
        // To `any_sasl_user` all users are the same; "super" stands for all of them.
        let mut has_user = false;
        special.sort_by_key(|of| of.id != "super");
        special.retain(|of| of.scheme != "sasl" || !std::mem::replace(&mut has_user, true));
        acl.iter().filter(|entry| entry.perms & perm != 0).any(|entry| {
            let Id { scheme, id } = &entry.id;
            if scheme == "world" && id == "anyone" {
                return true;
            }
            let Some(scheme) = self.schemes.named(scheme) else { return false };
            let is_own = scheme != Scheme::Ip && scheme != Scheme::Ensemble;
            is_own && equal.contains(&entry.id)
                || special
                    .iter()
                    .filter(|of| of.scheme == scheme.name())
                    .any(|of| self.matches(scheme, &of.id, id))
        })
    }

    /// Whether `own`, an id of a connection, is one that `named` in an ACL means.
    fn matches(&self, scheme: Scheme, own: &str, named: &str) -> bool {
        match scheme {
            Scheme::Ip => ip::matches(own, named),
            Scheme::Digest => own == named,
            Scheme::Sasl => {
                own == "super" || own == named || self.any_sasl_user.as_deref() == Some(named)
            }
            Scheme::X509 => own == named || self.x509_super_user.as_deref() == Some(own),
            Scheme::Ensemble => false,
        }
    }

    /// The ACL list that is stored for one that a client with `ids` sent: exact duplicates dropped,
    /// each `auth` entry replaced by one for every id that the client has proved.
    ///
    /// # Errors
    /// An empty list; an unknown scheme; an id that its scheme does not take; `auth` without any;
    /// more than `ACL_ENTRIES_MAX` entries or `ACL_BYTES_MAX` bytes to be stored.
    pub fn check_list(&self, sent: &[Acl], ids: &[Id]) -> Result<Vec<Acl>, InvalidAcl> {
        let mut seen: HashSet<&Acl> = HashSet::new();
        let mut stored = Stored::default();
        for (index, entry) in sent.iter().enumerate() {
            let again = if sent.len() <= COMPARED_MAX {
                sent[..index].contains(entry)
            } else {
                !seen.insert(entry)
            };
            if again {
                continue;
            }
            let invalid = InvalidAcl { entry: index };
            if entry.id.scheme == "auth" {
                let before = stored.list.len();
                for id in ids.iter().filter(|id| self.is_proof(id)) {
                    stored.push(entry.perms, id).ok_or(invalid)?;
                }
                if stored.list.len() == before {
                    return Err(invalid);
                }
                continue;
            }
            if !self.takes(&entry.id) {
                return Err(invalid);
            }
            stored.push(entry.perms, &entry.id).ok_or(invalid)?;
        }
        if stored.list.is_empty() { Err(InvalidAcl { entry: 0 }) } else { Ok(stored.list) }
    }

    /// Whether the id of a connection may stand for `auth`.
    fn is_proof(&self, id: &Id) -> bool {
        self.schemes.named(&id.scheme).is_some_and(Scheme::authenticates)
    }

    /// Whether an ACL may name `id`.
    fn takes(&self, id: &Id) -> bool {
        match id.scheme.as_str() {
            "world" => id.id == "anyone",
            scheme => self.schemes.named(scheme).is_some_and(|scheme| scheme.takes(&id.id)),
        }
    }

    /// What whoAmI tells of a connection: scheme and user of each of its ids. A scheme that is not
    /// there any more, or is part of the rules (`super`), has no users.
    pub fn who_am_i<'a>(&self, ids: &'a [Id]) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> {
        let schemes = self.schemes;
        ids.iter().map(move |id| {
            let user = schemes.named(&id.scheme).map_or("", |scheme| scheme.user(&id.id));
            (id.scheme.as_str(), user)
        })
    }
}

/// A list to be stored, as it grows.
#[derive(Default)]
struct Stored {
    list: Vec<Acl>,
    /// Of the list in jute, but for its count.
    bytes: usize,
}

impl Stored {
    /// Bytes of an entry in jute besides its texts: permissions, and a length for each text.
    const ENTRY_BYTES: usize = 12;

    /// Adds an entry; `None` if that makes the list too long.
    fn push(&mut self, perms: i32, id: &Id) -> Option<()> {
        let bytes = self.bytes + Self::ENTRY_BYTES + id.scheme.len() + id.id.len();
        if self.list.len() >= ACL_ENTRIES_MAX || bytes > ACL_BYTES_MAX {
            return None;
        }
        self.bytes = bytes;
        self.list.push(Acl { perms, id: id.clone() });
        Some(())
    }
}

/// The ACL as a client without ADMIN gets to see it: digests hidden behind an `x`.
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    let mut shown = acl.to_vec();
    for entry in shown.iter_mut().filter(|entry| entry.id.scheme == "digest") {
        let user = entry.id.id.split(':').next().unwrap_or_default();
        entry.id.id = format!("{user}:x");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::digest::DigestAlgorithm;
    use crate::tree::acl::perms;

    fn id(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    fn entry(perms: i32, scheme: &str, name: &str) -> Acl {
        Acl { perms, id: id(scheme, name) }
    }

    fn digest_id(user_and_password: &str) -> Id {
        DigestAlgorithm::Sha1.id(user_and_password)
    }

    fn allows(acl: &[Acl], perm: i32, ids: &[Id]) -> bool {
        Rules::default().allow(acl, perm, ids)
    }

    fn check_list(sent: &[Acl], ids: &[Id]) -> Result<Vec<Acl>, InvalidAcl> {
        Rules::default().check_list(sent, ids)
    }

    /// Rules of a server that has every scheme.
    fn all() -> Rules {
        let schemes = Scheme::ALL.into_iter().fold(Schemes::NONE, Schemes::with);
        Rules { schemes, ..Rules::default() }
    }

    #[test]
    fn the_open_acl_and_a_super_user_allow_everything() {
        assert!(allows(&[], perms::ADMIN, &[]));
        assert!(allows(&[entry(0, "world", "anyone")], perms::ADMIN, &[id("super", "")]));
    }

    #[test]
    fn world_allows_anyone_what_its_bits_say_and_no_more() {
        let acl = [entry(perms::READ, "world", "anyone")];
        assert!(allows(&acl, perms::READ, &[]));
        assert!(!allows(&acl, perms::WRITE, &[id("ip", "10.0.0.1")]));
    }

    #[test]
    fn a_digest_must_be_equal() {
        let acl = [entry(perms::ALL, "digest", "user:2Om+GBbT2q/tS6pdvACZbbm7/1A=")];
        assert!(allows(&acl, perms::WRITE, &[id("ip", "10.0.0.1"), digest_id("user:pw")]));
        assert!(!allows(&acl, perms::WRITE, &[digest_id("user:other")]));
        assert!(!allows(&acl, perms::WRITE, &[id("ip", "user:2Om+GBbT2q/tS6pdvACZbbm7/1A=")]));
    }

    #[test]
    fn a_list_loses_duplicates_and_keeps_its_order() {
        let sent = [
            entry(1, "ip", "::1"),
            entry(31, "world", "anyone"),
            entry(1, "ip", "::1"),
            entry(2, "ip", "::1"),
        ];
        let stored = check_list(&sent, &[]).unwrap();
        assert_eq!(stored, [sent[0].clone(), sent[1].clone(), sent[3].clone()]);
    }

    #[test]
    fn auth_becomes_every_proved_id() {
        let ids = [id("ip", "10.0.0.1"), digest_id("a:1"), digest_id("b:2"), id("super", "")];
        let sent = [entry(perms::READ, "world", "anyone"), entry(perms::ALL, "auth", "ignored")];
        let stored = check_list(&sent, &ids).unwrap();
        let expected = [
            sent[0].clone(),
            Acl { perms: perms::ALL, id: ids[1].clone() },
            Acl { perms: perms::ALL, id: ids[2].clone() },
        ];
        assert_eq!(stored, expected);
        assert_eq!(check_list(&sent, &ids[..1]), Err(InvalidAcl { entry: 1 }));
    }

    #[test]
    fn auth_does_not_make_a_list_of_more_entries_than_a_request_may_have() {
        let ids: Vec<Id> = (0..10).map(|number| digest_id(&format!("{number}:p"))).collect();
        let sent: Vec<Acl> = (0..101).map(|perms| entry(perms, "auth", "")).collect();
        assert_eq!(check_list(&sent[..100], &ids).unwrap().len(), ACL_ENTRIES_MAX);
        assert_eq!(check_list(&sent, &ids), Err(InvalidAcl { entry: 100 }));
    }

    #[test]
    fn a_list_of_too_many_bytes_is_refused_expanded_or_not() {
        let name = format!("{}:x", "u".repeat(ACL_BYTES_MAX / 16));
        let sent: Vec<Acl> = (0..16).map(|perms| entry(perms, "auth", "")).collect();
        let digests: Vec<Acl> = (0..16).map(|perms| entry(perms, "digest", &name)).collect();
        let ids = [id("digest", &name)];
        assert_eq!(check_list(&sent[..15], &ids).unwrap(), digests[..15]);
        assert_eq!(check_list(&sent, &ids), Err(InvalidAcl { entry: 15 }));
        assert_eq!(check_list(&digests, &[]), Err(InvalidAcl { entry: 15 }));
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        assert_eq!(check_list(&[], &[]), Err(InvalidAcl { entry: 0 }));
        for (scheme, name) in [
            ("world", "someone"),
            ("ip", "10.0.0.0/33"),
            ("ip", "10.0.0"),
            ("ip", "10.0.0.256"),
            ("ip", "fe80::/129"),
            ("ip", "10.0.0.0/-1"),
            ("ip", ""),
            ("digest", "nocolon"),
            ("digest", "user:"),
            ("digest", "a:b:c"),
            ("super", ""),
            ("ensemble", "x"),
            ("", ""),
        ] {
            assert!(check_list(&[entry(31, scheme, name)], &[]).is_err(), "{scheme}:{name}");
        }
        for name in ["user:digest", ":x", "a:b::"] {
            assert!(check_list(&[entry(31, "digest", name)], &[]).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_masked_acl_hides_digests_only() {
        let shown = masked(&[entry(31, "digest", "user:secret="), entry(1, "ip", "::1")]);
        assert_eq!(shown, [entry(31, "digest", "user:x"), entry(1, "ip", "::1")]);
    }

    #[test]
    fn the_sasl_super_user_and_whom_any_user_may_be_match_every_sasl_entry() {
        let acl = [entry(perms::ALL, "sasl", "alice")];
        let mut rules = all();
        let bob = [id("sasl", "bob")];
        assert!(rules.allow(&acl, perms::READ, &[id("sasl", "alice")]));
        assert!(!rules.allow(&acl, perms::READ, &bob));
        assert!(rules.allow(&acl, perms::READ, &[id("sasl", "super")]));
        rules.any_sasl_user = Some("alice".to_owned());
        assert!(rules.allow(&acl, perms::READ, &bob));
        assert!(!rules.allow(&acl, perms::READ, &[id("digest", "alice")]));
    }

    #[test]
    fn the_x509_super_user_matches_every_x509_entry() {
        let acl = [entry(perms::ALL, "x509", "CN=a")];
        let rules = Rules { x509_super_user: Some("CN=root".to_owned()), ..all() };
        assert!(rules.allow(&acl, perms::READ, &[id("x509", "CN=a")]));
        assert!(rules.allow(&acl, perms::READ, &[id("x509", "CN=root")]));
        assert!(!rules.allow(&acl, perms::READ, &[id("x509", "CN=b")]));
    }

    #[test]
    fn a_scheme_that_the_server_does_not_have_matches_nobody_and_may_not_be_named() {
        let rules = Rules { schemes: Schemes::NONE.with(Scheme::Ip), ..Rules::default() };
        let ids = [digest_id("a:1"), id("sasl", "bob")];
        let acl = [Acl { perms: perms::ALL, id: ids[0].clone() }];
        assert!(!rules.allow(&acl, perms::READ, &ids));
        assert!(rules.check_list(&acl, &ids).is_err());
        assert!(rules.check_list(&[entry(31, "auth", "")], &ids).is_err());
        assert_eq!(all().check_list(&[entry(31, "auth", "")], &ids).unwrap().len(), 2);
    }

    #[test]
    fn with_acls_skipped_everything_is_allowed() {
        let rules = Rules { skip_acl: true, ..Rules::default() };
        assert!(rules.allow(&[entry(0, "ip", "10.0.0.1")], perms::ADMIN, &[]));
    }

    #[test]
    fn who_am_i_hides_hashes_and_names_no_user_of_a_scheme_without_provider() {
        let ids = [id("super", ""), digest_id("bob:pw"), id("ip", "::1"), id("sasl", "bob")];
        let told: Vec<_> = Rules::default().who_am_i(&ids).collect();
        assert_eq!(told, [("super", ""), ("digest", "bob"), ("ip", "::1"), ("sasl", "")]);
        assert_eq!(all().who_am_i(&ids).last(), Some(("sasl", "bob")));
    }

    #[test]
    fn a_long_list_loses_duplicates_as_a_short_one_does() {
        let sent: Vec<Acl> =
            (0..100).map(|at| entry(1 + at % 2, "digest", &format!("u{}:x", at % 20))).collect();
        let stored = check_list(&sent, &[]).unwrap();
        assert_eq!(stored, sent[..20]);
    }

    #[test]
    fn of_a_long_list_every_entry_counts() {
        let ids: Vec<Id> = (0..64).map(|at| id("digest", &format!("u:{at:09}"))).collect();
        let mut acl: Vec<Acl> =
            (0..1000).map(|at| entry(31, "digest", &format!("v:{at:09}"))).collect();
        assert!(!allows(&acl, perms::READ, &ids));
        acl[999].id.id = "u:000000063".to_owned();
        assert!(allows(&acl, perms::READ, &ids));
        acl[999].perms = 31 ^ perms::READ;
        assert!(!allows(&acl, perms::READ, &ids));
        assert!(allows(&acl, perms::WRITE, &ids));
    }

    proptest::proptest! {
        #[test]
        fn long_lists_allow_what_short_ones_do(
            acl in proptest::collection::vec((0_i32..32, 0..6_usize, 0..6_usize), 1..8),
            ids in proptest::collection::vec((0..6_usize, 0..6_usize), 0..5),
            any: bool,
            root: bool,
        ) {
            const SCHEMES: [&str; 6] = ["world", "ip", "digest", "sasl", "x509", "ensemble"];
            const NAMES: [&str; 6] = ["anyone", "10.0.0.1", "10.0.0.0/8", "super", "bob", "CN=a"];
            let rules = Rules {
                any_sasl_user: any.then(|| "bob".to_owned()),
                x509_super_user: root.then(|| "CN=a".to_owned()),
                ..all()
            };
            let acl: Vec<Acl> =
                acl.iter().map(|it| entry(it.0, SCHEMES[it.1], NAMES[it.2])).collect();
            let ids: Vec<Id> = ids.iter().map(|it| id(SCHEMES[it.0], NAMES[it.1])).collect();
            for perm in [perms::READ, perms::ADMIN] {
                let allowed = rules.allow(&acl, perm, &ids);
                proptest::prop_assert_eq!(rules.allow_among_many(&acl, perm, &ids), allowed);
            }
        }
    }
}
