//! Who may do what: the permission check, and the checking of ACL lists that clients send. Pure
//! functions; called by reactors for reads and by the consensus core for writes.
//!
//! Schemes: world, ip, digest, and super on the connection's side.

use std::net::Ipv6Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::jute::records::{Acl, Id};
use crate::limits::{ACL_BYTES_MAX, ACL_ENTRIES_MAX};

/// Permission bits.
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// An ACL list in a request is null, empty, too long, or holds an entry that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ACL is empty, or its entry {entry} is not valid or makes it too long")]
pub struct InvalidAcl {
    /// The entry that is not valid, or that makes the stored list too long; 0 for an empty list.
    pub entry: usize,
}

/// Whether a connection with `ids` may do `perm` (one bit) to a znode with this ACL. An empty ACL
/// allows everything, as does the id scheme `super`.
pub fn allows(acl: &[Acl], perm: i32, ids: &[Id]) -> bool {
    if acl.is_empty() || ids.iter().any(|id| id.scheme == "super") {
        return true;
    }
    acl.iter().filter(|entry| entry.perms & perm != 0).any(|entry| {
        let Id { scheme, id } = &entry.id;
        if scheme == "world" && id == "anyone" {
            return true;
        }
        ids.iter().filter(|of| of.scheme == *scheme).any(|of| match scheme.as_str() {
            "ip" => ip_matches(&of.id, id),
            "digest" => of.id == *id,
            _ => false,
        })
    })
}

/// The ACL list that is stored for one that a client with `ids` sent: exact duplicates dropped,
/// each `auth` entry replaced by one for every id that the client has proved.
///
/// # Errors
/// An empty list; an unknown scheme; an id that its scheme does not take; `auth` without any; more
/// than `ACL_ENTRIES_MAX` entries or `ACL_BYTES_MAX` bytes to be stored.
pub fn check_list(sent: &[Acl], ids: &[Id]) -> Result<Vec<Acl>, InvalidAcl> {
    let mut unique: Vec<&Acl> = Vec::new();
    let mut stored = Stored::default();
    for (index, entry) in sent.iter().enumerate() {
        if unique.contains(&entry) {
            continue;
        }
        unique.push(entry);
        let invalid = InvalidAcl { entry: index };
        let valid = match entry.id.scheme.as_str() {
            "world" => entry.id.id == "anyone",
            "ip" => parse_network(&entry.id.id).is_some(),
            "digest" => is_digest_id(&entry.id.id),
            "auth" => {
                let before = stored.list.len();
                for id in ids.iter().filter(|id| id.scheme == "digest") {
                    stored.push(entry.perms, id).ok_or(invalid)?;
                }
                if stored.list.len() > before {
                    continue;
                }
                false
            }
            _ => false,
        };
        if !valid {
            return Err(invalid);
        }
        stored.push(entry.perms, &entry.id).ok_or(invalid)?;
    }
    if stored.list.is_empty() { Err(InvalidAcl { entry: 0 }) } else { Ok(stored.list) }
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

/// The id of a client that authenticated as `user:password`: the user and a digest of the whole.
pub fn digest_id(user_and_password: &str) -> Id {
    let user = user_and_password.split(':').next().unwrap_or_default();
    let digest = STANDARD.encode(Sha1::digest(user_and_password.as_bytes()));
    Id { scheme: "digest".to_owned(), id: format!("{user}:{digest}") }
}

/// Two parts around a colon, as Java's `split` counts them: empty ones at the end do not count.
fn is_digest_id(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// An address, and how many of its leading bits count.
#[derive(Debug, PartialEq)]
struct Network {
    bytes: [u8; 16],
    length: usize,
    bits: usize,
}

/// Reads `addr[/bits]`. None: not an address, or more bits than it has.
fn parse_network(text: &str) -> Option<Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let mut bytes = [0; 16];
    let length = parse_address(address, &mut bytes)?;
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= length * 8)?,
        None => length * 8,
    };
    Some(Network { bytes, length, bits })
}

/// Writes the address to the front of `bytes`; returns its length.
fn parse_address(text: &str, bytes: &mut [u8; 16]) -> Option<usize> {
    if text.contains(':') {
        *bytes = text.parse::<Ipv6Addr>().ok()?.octets();
        return Some(16);
    }
    // By hand, for the standard library refuses leading zeros, which ZooKeeper reads as decimal.
    let mut parts = text.split('.');
    for byte in &mut bytes[..4] {
        *byte = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(4)
}

/// Whether the remote address lies in the network of an ACL entry. v4 never matches v6.
fn ip_matches(remote: &str, network: &str) -> bool {
    let Some(network) = parse_network(network) else { return false };
    let mut bytes = [0; 16];
    let Some(length) = parse_address(remote, &mut bytes) else { return false };
    let (whole, rest) = (network.bits / 8, network.bits % 8);
    length == network.length
        && bytes[..whole] == network.bytes[..whole]
        && (rest == 0 || (bytes[whole] ^ network.bytes[whole]) >> (8 - rest) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    fn entry(perms: i32, scheme: &str, name: &str) -> Acl {
        Acl { perms, id: id(scheme, name) }
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
    fn an_address_is_compared_under_the_mask() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.128/25", "10.0.0.200", true),
            ("10.0.0.128/25", "10.0.0.100", false),
            ("10.0.0.1/0", "192.168.0.1", true),
            ("::/0", "192.168.0.1", false),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/10", "fec0::1", false),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("010.0.0.1", "10.0.0.1", true),
        ];
        for (network, remote, expected) in cases {
            let acl = [entry(perms::READ, "ip", network)];
            let allowed = allows(&acl, perms::READ, &[id("ip", remote)]);
            assert_eq!(allowed, expected, "{remote} in {network}");
        }
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
}
