//! What a znode's life hangs on, and how `ephemeralOwner` says it.

use crate::ids::SessionId;

/// What a znode's life hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nothing: it stays until it is deleted.
    Persistent,
    /// A session: an ephemeral goes with it.
    Session(SessionId),
    /// Its children: a container goes some time after its last child.
    Container,
    /// Time without a change and without children, milliseconds.
    Ttl(i64),
}

const CONTAINER: i64 = i64::MIN;
/// In the top byte of the owner of a TTL node.
const TTL_MARK: i64 = 0xff << 56;
/// The largest TTL in milliseconds: 40 bits.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

impl Owner {
    /// The `ephemeralOwner` that is stored and that travels in snapshots.
    ///
    /// # Panics
    /// On a TTL that is not within 1 to `TTL_MS_MAX`.
    pub fn raw(self) -> i64 {
        match self {
            Owner::Persistent => 0,
            Owner::Session(session) => session.bits(),
            Owner::Container => CONTAINER,
            Owner::Ttl(ms) => {
                assert!((1..=TTL_MS_MAX).contains(&ms), "a TTL of {ms} ms");
                TTL_MARK | ms
            }
        }
    }

    /// What a stored `ephemeralOwner` means, with ZooKeeper's `extendedTypesEnabled` on.
    pub fn from_raw(raw: i64) -> Owner {
        match raw {
            0 => Owner::Persistent,
            CONTAINER => Owner::Container,
            raw if raw & TTL_MARK == TTL_MARK => Owner::Ttl(raw & TTL_MS_MAX),
            raw => Owner::Session(SessionId::from_bits(raw)),
        }
    }

    /// The session of an ephemeral.
    pub fn session(self) -> Option<SessionId> {
        match self {
            Owner::Session(session) => Some(session),
            _ => None,
        }
    }

    /// `ephemeralOwner` as clients see it: that of containers and TTL nodes is 0.
    pub fn visible(self) -> i64 {
        self.session().map_or(0, SessionId::bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_stored_as_zookeeper_stores_them() {
        let session = SessionId::from_bits(0x0100_002d_3f24_000c);
        for (owner, raw, visible) in [
            (Owner::Persistent, 0, 0),
            (Owner::Session(session), 0x0100_002d_3f24_000c, 0x0100_002d_3f24_000c),
            (Owner::Container, i64::MIN, 0),
            (Owner::Ttl(1), 0xff00_0000_0000_0001_u64 as i64, 0),
            (Owner::Ttl(TTL_MS_MAX), 0xff00_00ff_ffff_ffff_u64 as i64, 0),
        ] {
            assert_eq!(owner.raw(), raw);
            assert_eq!(Owner::from_raw(raw), owner);
            assert_eq!(owner.visible(), visible);
        }
    }
}
