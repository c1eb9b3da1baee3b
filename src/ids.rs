//! Identifiers that must not be mixed up: each is a type of its own, printed as ZooKeeper prints it.

use std::fmt;

/// Transaction id: the epoch in the high 32 bits, a counter that restarts with it in the low 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(u64);

impl Zxid {
    /// Before every transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// After every transaction.
    pub const MAX: Zxid = Zxid(u64::MAX);

    /// The zxid with these 64 bits, as they travel.
    pub const fn from_bits(bits: i64) -> Zxid {
        Zxid(bits as u64)
    }

    /// The 64 bits, as they travel.
    pub const fn bits(self) -> i64 {
        self.0 as i64
    }

    /// The zxid number `counter` of `epoch`.
    pub const fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid((epoch.0 as u64) << 32 | counter as u64)
    }

    /// The epoch of the leader that gave out this zxid.
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as u32)
    }

    /// The position within the epoch.
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The next zxid of the same epoch.
    ///
    /// # Panics
    /// When the counter is used up: a new epoch must have begun before (ZOOKEEPER-1277).
    pub const fn next(self) -> Zxid {
        assert!(self.counter() != u32::MAX, "the zxid counter is used up");
        Zxid(self.0 + 1)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The reign of one leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(number: u32) -> Epoch {
        Epoch(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A member of an ensemble, the `N` of `server.N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(i64);

impl ServerId {
    /// What a standalone server calls itself, as ZooKeeper does.
    pub const STANDALONE: ServerId = ServerId(1);

    /// The member with this number.
    pub const fn new(number: i64) -> ServerId {
        ServerId(number)
    }

    /// Its number.
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A client's session. 0 is no session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(i64);

impl SessionId {
    /// No session: a client that asks for a new one, or a request of the server itself.
    pub const NONE: SessionId = SessionId(0);

    /// The session with these 64 bits, as they travel.
    pub const fn from_bits(bits: i64) -> SessionId {
        SessionId(bits)
    }

    /// The 64 bits, as they travel and as they stand in an ephemeral's `ephemeralOwner`.
    pub const fn bits(self) -> i64 {
        self.0
    }

    /// The password that ZooKeeper derives from the id: four draws of `java.util.Random`, seeded
    /// with the id XOR 0xB3415C00, each little-endian. It is no secret: every member of an ensemble
    /// computes it, since sessions are renewed anywhere.
    pub fn password(self) -> [u8; 16] {
        const MULTIPLIER: u64 = 0x5_DEEC_E66D;
        const MASK: u64 = (1 << 48) - 1;
        let mut state = ((self.0 as u64) ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
        let mut password = [0; 16];
        for word in password.chunks_exact_mut(4) {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
            word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
        }
        password
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One of the server's reactors, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactorId(pub u16);

/// A client connection of one reactor: its slot there, and which of the slot's tenants it is, so
/// that an answer to a connection that is gone cannot reach the one that took its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// The index in the reactor's table.
    pub slot: u32,
    /// Counts the connections that had the slot.
    pub tenant: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zxid_is_an_epoch_and_a_counter() {
        let zxid = Zxid::new(Epoch::new(1), 2);
        assert_eq!(zxid.to_string(), "0x100000002");
        assert_eq!((zxid.epoch(), zxid.counter()), (Epoch::new(1), 2));
        assert_eq!(Zxid::from_bits(zxid.bits()), zxid);
        assert_eq!(zxid.next().to_string(), "0x100000003");
    }

    #[test]
    #[should_panic(expected = "the zxid counter is used up")]
    fn the_last_zxid_of_an_epoch_has_no_successor() {
        let _ = Zxid::new(Epoch::new(1), u32::MAX).next();
    }

    #[test]
    fn the_password_is_the_one_that_zookeeper_derives() {
        let password = SessionId::from_bits(0x0100_002d_3f24_000c).password();
        assert_eq!(password[..8], [0x83, 0xd1, 0xcf, 0x75, 0x53, 0xe8, 0xd5, 0x95]);
        assert_eq!(password[8..], [0x2b, 0x07, 0xef, 0xeb, 0xc0, 0x2a, 0xe1, 0x64]);
    }
}
