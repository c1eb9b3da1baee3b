//! Who keeps which connection of the election port, and what is said on it: decisions without I/O,
//! for `election_port`.
//!
//! Between two servers there is one connection, made by the one with the larger id. The other may
//! connect, too, but only to be called back: it says who it is and closes.
//!
//! Source: zookeeper-formats 3.1.

use crate::ids::ServerId;
use crate::jute::election::Notification;
use crate::limits::ELECTION_STRANGERS_MAX;

/// What an observer without an id calls itself.
const NAMELESS: ServerId = ServerId::new(i64::MAX);

/// Until a peer is dialed again that could not be reached, milliseconds; doubled each time.
pub const REDIAL_MS_MIN: u64 = 100;
/// The longest that doubling leads to.
pub const REDIAL_MS_MAX: u64 = 2_000;
/// How long a larger peer may take to call back before it is asked again, milliseconds. Asked while
/// its own call is on the way, it would drop that one.
pub const CALL_BACK_MS: u64 = 1_000;

/// Somebody who has connected and said who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub id: ServerId,
    /// The configuration has it.
    pub is_member: bool,
    /// There is an address at which it could be called back.
    pub has_address: bool,
}

/// What to do about a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep the connection, under this id, instead of any older one.
    Keep(ServerId),
    /// Close it and any older one, and connect to the caller.
    CallBack(ServerId),
    Refuse(Refusal),
}

/// Why a caller is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has our own id: one of the two is configured wrong.
    OurOwnId,
    /// No server has such an id.
    NoId,
    /// It is not in the configuration, and enough of those are here.
    TooManyStrangers,
    /// It wants to be called back, but is not in the configuration and has not said where.
    NoAddress,
}

impl Refusal {
    /// For a log line.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::OurOwnId => "it has the id of this server",
            Refusal::NoId => "its id is negative",
            Refusal::TooManyStrangers => "too many servers are here that are not configured",
            Refusal::NoAddress => "it is not configured and does not say its address",
        }
    }
}

/// Decides about a caller. `strangers`: how many other servers are connected or being dialed that
/// the configuration does not have; `nameless`: how many callers without an id were kept so far.
pub fn answer(me: ServerId, caller: Caller, strangers: usize, nameless: u32) -> Decision {
    if caller.id == me {
        return Decision::Refuse(Refusal::OurOwnId);
    }
    if caller.id.number() < 0 {
        return Decision::Refuse(Refusal::NoId);
    }
    if !caller.is_member && strangers >= ELECTION_STRANGERS_MAX {
        return Decision::Refuse(Refusal::TooManyStrangers);
    }
    if caller.id == NAMELESS {
        return Decision::Keep(ServerId::new(-1 - i64::from(nameless)));
    }
    if caller.id > me {
        return Decision::Keep(caller.id);
    }
    match caller.has_address {
        true => Decision::CallBack(caller.id),
        false => Decision::Refuse(Refusal::NoAddress),
    }
}

/// Whether the one who connects keeps the connection, or has only said that it wants to be called.
pub fn keeps_dialed(me: ServerId, peer: ServerId) -> bool {
    me > peer
}

/// What is to be said to one peer: the newest notification alone, for a vote replaces the one
/// before.
#[derive(Debug, Default)]
pub struct Outgoing {
    waiting: Option<Notification>,
    /// What was written last. It may have been lost with its connection.
    last: Option<Notification>,
}

impl Outgoing {
    /// Says this next, instead of what waits.
    pub fn put(&mut self, notification: Notification) {
        self.waiting = Some(notification);
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// What to write now. It counts as said.
    pub fn take(&mut self) -> Option<Notification> {
        let taken = self.waiting.take()?;
        self.last = Some(taken.clone());
        Some(taken)
    }

    /// There is a new connection: what was written to the last one may not have arrived, so it is
    /// said again unless something newer waits.
    pub fn connected(&mut self) {
        if self.waiting.is_none() {
            self.waiting = self.last.take();
        }
    }

    /// What was taken last could not be written: it waits again unless something newer does.
    pub fn undelivered(&mut self) {
        self.connected();
    }
}

/// When a peer may be dialed. Times are milliseconds of any clock that does not jump.
#[derive(Debug, Default)]
pub struct Redial {
    failures: u32,
    not_before_ms: u64,
}

impl Redial {
    /// The peer may be dialed from this time on.
    pub fn not_before_ms(&self) -> u64 {
        self.not_before_ms
    }

    /// It could not be reached. Returns whether that is the first time in a row.
    pub fn failed(&mut self, now_ms: u64) -> bool {
        self.not_before_ms = now_ms + self.delay_ms();
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// It was asked to call back.
    pub fn asked(&mut self, now_ms: u64) {
        self.not_before_ms = now_ms + self.delay_ms().max(CALL_BACK_MS);
        self.failures = self.failures.saturating_add(1);
    }

    /// There is a connection.
    pub fn connected(&mut self) {
        *self = Redial::default();
    }

    fn delay_ms(&self) -> u64 {
        (REDIAL_MS_MIN << self.failures.min(16)).min(REDIAL_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Zxid;
    use crate::jute::election::PeerState;

    const ME: ServerId = ServerId::new(5);

    fn caller(id: i64) -> Caller {
        Caller { id: ServerId::new(id), is_member: true, has_address: true }
    }

    fn notification(round: i64) -> Notification {
        Notification {
            state: PeerState::Looking,
            leader: ME,
            zxid: Zxid::ZERO,
            round,
            epoch: 0,
            version: 2,
            config: None,
        }
    }

    fn round(said: Option<Notification>) -> Option<i64> {
        said.map(|notification| notification.round)
    }

    #[test]
    fn the_larger_id_keeps_its_connection() {
        assert_eq!(answer(ME, caller(6), 0, 0), Decision::Keep(ServerId::new(6)));
        assert_eq!(answer(ME, caller(4), 0, 0), Decision::CallBack(ServerId::new(4)));
        assert!(keeps_dialed(ME, ServerId::new(4)));
        assert!(!keeps_dialed(ME, ServerId::new(6)));
    }

    #[test]
    fn who_cannot_be_a_peer_is_refused() {
        assert_eq!(answer(ME, caller(5), 0, 0), Decision::Refuse(Refusal::OurOwnId));
        assert_eq!(answer(ME, caller(-1), 0, 0), Decision::Refuse(Refusal::NoId));
        let nowhere = Caller { is_member: false, has_address: false, ..caller(4) };
        assert_eq!(answer(ME, nowhere, 0, 0), Decision::Refuse(Refusal::NoAddress));
    }

    #[test]
    fn observers_without_an_id_are_numbered_downwards() {
        assert_eq!(answer(ME, caller(i64::MAX), 0, 0), Decision::Keep(ServerId::new(-1)));
        assert_eq!(answer(ME, caller(i64::MAX), 0, 1), Decision::Keep(ServerId::new(-2)));
    }

    #[test]
    fn strangers_are_heard_until_there_are_too_many() {
        let stranger = |id| Caller { is_member: false, ..caller(id) };
        let most = ELECTION_STRANGERS_MAX;
        assert_eq!(answer(ME, stranger(9), most - 1, 0), Decision::Keep(ServerId::new(9)));
        for id in [9, 4, i64::MAX] {
            let refused = Decision::Refuse(Refusal::TooManyStrangers);
            assert_eq!(answer(ME, stranger(id), most, 0), refused);
        }
        assert_eq!(answer(ME, caller(9), most, 0), Decision::Keep(ServerId::new(9)));
    }

    #[test]
    fn a_newer_vote_replaces_the_one_that_waits() {
        let mut outgoing = Outgoing::default();
        outgoing.put(notification(1));
        outgoing.put(notification(2));
        assert_eq!(round(outgoing.take()), Some(2));
        assert_eq!(round(outgoing.take()), None);
    }

    #[test]
    fn the_last_vote_is_said_again_on_a_new_connection() {
        let mut outgoing = Outgoing::default();
        outgoing.connected();
        assert!(!outgoing.is_waiting());
        outgoing.put(notification(1));
        outgoing.take();
        outgoing.connected();
        assert_eq!(round(outgoing.take()), Some(1));
        outgoing.put(notification(2));
        outgoing.connected();
        assert_eq!(round(outgoing.take()), Some(2));
    }

    #[test]
    fn a_vote_that_could_not_be_written_gives_way_to_a_newer_one() {
        let mut outgoing = Outgoing::default();
        outgoing.put(notification(1));
        outgoing.take();
        outgoing.undelivered();
        assert_eq!(round(outgoing.take()), Some(1));
        outgoing.put(notification(2));
        outgoing.undelivered();
        assert_eq!(round(outgoing.take()), Some(2));
    }

    #[test]
    fn who_cannot_be_reached_is_dialed_less_and_less_often() {
        let mut redial = Redial::default();
        assert_eq!(redial.not_before_ms(), 0);
        assert!(redial.failed(1000));
        assert_eq!(redial.not_before_ms(), 1100);
        assert!(!redial.failed(1100));
        assert_eq!(redial.not_before_ms(), 1300);
        for _ in 0..100 {
            redial.failed(2000);
        }
        assert_eq!(redial.not_before_ms(), 2000 + REDIAL_MS_MAX);
        redial.connected();
        redial.asked(3000);
        assert_eq!(redial.not_before_ms(), 3000 + CALL_BACK_MS);
    }
}
