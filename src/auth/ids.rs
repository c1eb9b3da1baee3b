//! The ids of one connection, in the order in which a JVM server keeps them.
//!
//! ZooKeeper keeps them in a hash set, and its order shows: in whoAmI, and in the ACL entries that
//! `auth` becomes. So they are kept in the order of that set's buckets here.

use std::net::IpAddr;

use crate::jute::records::Id;
use crate::limits::{AUTH_ID_BYTES_MAX, AUTH_IDS_MAX};

/// Buckets of the JVM's set. It grows at its thirteenth id, and the order changes; a connection
/// with so many is rare enough.
const BUCKETS: u32 = 16;

/// There is no room for more ids: a connection has as many (`AUTH_IDS_MAX`), or as long ones
/// (`AUTH_ID_BYTES_MAX`), as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has as many authentication ids as it may")]
pub struct Full;

/// Adds `id` at its place, if it is not there.
///
/// # Errors
/// When there is no room; `ids` is as before then.
pub fn add(ids: &mut Vec<Id>, id: Id) -> Result<(), Full> {
    if ids.contains(&id) {
        return Ok(());
    }
    let bytes: usize = ids.iter().chain([&id]).map(|id| id.scheme.len() + id.id.len()).sum();
    if ids.len() >= AUTH_IDS_MAX || bytes > AUTH_ID_BYTES_MAX {
        return Err(Full);
    }
    let own = bucket(&id);
    let at = ids.partition_point(|other| bucket(other) <= own);
    ids.insert(at, id);
    Ok(())
}

/// The id that every connection has: where it comes from, as a JVM writes addresses. Clients
/// whose IPv4 address is mapped into IPv6 have that address.
pub fn of_address(address: IpAddr) -> Id {
    let text = match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let groups: Vec<_> =
                address.segments().iter().map(|group| format!("{group:x}")).collect();
            groups.join(":")
        }
    };
    Id { scheme: "ip".to_owned(), id: text }
}

/// The bucket of an id: its hash as the JVM's record classes compute it, spread as its hash table
/// does.
fn bucket(id: &Id) -> u32 {
    let hash = [&id.scheme, &id.id]
        .iter()
        .fold(17u32, |hash, text| hash.wrapping_mul(37).wrapping_add(hash_of(text)));
    (hash ^ hash >> 16) & (BUCKETS - 1)
}

/// The hash of a string in Java: over its UTF-16 code units.
fn hash_of(text: &str) -> u32 {
    text.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    /// As whoAmI of 3.8.0 and 3.9.5 (vectors `sasl.hex`, `auth-super.hex`) gave them.
    #[test]
    fn ids_stand_in_the_order_that_zookeeper_shows() {
        let super_digest = "super:lK75jTNcA+U9vtVEw5vB51mj/w4=";
        let observed = [
            [id("sasl", "bob"), id("ip", "127.0.0.1")].to_vec(),
            [id("sasl", "alice"), id("ip", "10.0.0.1")].to_vec(),
            [id("super", ""), id("digest", super_digest), id("ip", "10.0.0.1")].to_vec(),
            [id("sasl", "super"), id("super", ""), id("ip", "127.0.0.1")].to_vec(),
            [
                id("digest", "u:MSSbUxfHgM7O9gj7tEMl+nSDGs8="),
                id("ip", "127.0.0.1"),
                id("digest", "v:CeYvbNM4QGbNauvZ21GPxtryZD0="),
            ]
            .to_vec(),
        ];
        for expected in observed {
            let mut ids = Vec::new();
            // A connection has its address first; ids of one bucket stay in the order in which they
            // came.
            let (address, others): (Vec<_>, Vec<_>) =
                expected.iter().cloned().partition(|id| id.scheme == "ip");
            address.into_iter().chain(others).for_each(|id| add(&mut ids, id).unwrap());
            assert_eq!(ids, expected);
            add(&mut ids, expected[0].clone()).unwrap();
            assert_eq!(ids, expected, "an id twice counts once");
        }
    }

    #[test]
    fn a_connection_has_no_more_ids_than_it_may() {
        let mut ids = Vec::new();
        for number in 0..AUTH_IDS_MAX {
            add(&mut ids, id("digest", &number.to_string())).unwrap();
        }
        assert_eq!(add(&mut ids, id("digest", "more")), Err(Full));
        assert_eq!(add(&mut ids, id("digest", "3")), Ok(()));
        assert_eq!(ids.len(), AUTH_IDS_MAX);
        let mut ids = vec![id("digest", &"x".repeat(AUTH_ID_BYTES_MAX - 10))];
        assert_eq!(add(&mut ids, id("digest", "12345")), Err(Full));
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn an_address_is_written_as_a_jvm_does() {
        for (address, text) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("fe80::1:0:20", "fe80:0:0:0:0:1:0:20"),
        ] {
            assert_eq!(of_address(address.parse().unwrap()), id("ip", text));
        }
    }
}
