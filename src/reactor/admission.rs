//! How many connections there are, in all, by address and by reactor, how many of them may begin,
//! and the bytes of large requests: shared by the reactors, and touched only when a connection
//! comes, greets or goes, and for large requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ids::ReactorId;

use super::token_bucket::{ConnectionThrottle, TokenBucket};

/// The table of connections.
#[derive(Debug)]
pub struct Admission {
    counts: Mutex<Counts>,
    per_address_max: Option<NonZeroU32>,
    total_max: Option<NonZeroU32>,
    loads: Box<[AtomicU32]>,
    /// What handshakes take tokens from; none: they need none.
    bucket: Option<Mutex<TokenBucket>>,
    /// Bytes of large requests that are not answered.
    large_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u32>,
    total: u32,
}

/// Why a connection is closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `maxClientCnxns`: its address has as many as it may.
    Address,
    /// `maxCnxns`: the server has as many as it may.
    Total,
}

impl Admission {
    /// No connections yet, for `reactors` reactors. None is no limit.
    pub fn new(
        reactors: usize,
        per_address_max: Option<NonZeroU32>,
        total_max: Option<NonZeroU32>,
    ) -> Admission {
        let loads = (0..reactors).map(|_| AtomicU32::new(0)).collect();
        Admission {
            counts: Mutex::default(),
            per_address_max,
            total_max,
            loads,
            bucket: None,
            large_bytes: AtomicUsize::new(0),
        }
    }

    /// It, with handshakes throttled as `throttle` says.
    pub fn throttled(mut self, throttle: ConnectionThrottle) -> Admission {
        self.bucket = Some(Mutex::new(TokenBucket::new(throttle, 0)));
        self
    }

    /// Whether there may be a handshake now: of a client that comes back to its session, or of a
    /// new one. `now_ms` is the wall clock.
    pub fn may_greet(&self, renews: bool, now_ms: u64) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            // Without randomness nobody is refused by chance.
            let random = getrandom::u32().unwrap_or(u32::MAX);
            bucket.take(renews, now_ms, f64::from(random) / (f64::from(u32::MAX) + 1.0))
        })
    }

    /// Bytes of large requests that are not answered.
    pub fn large_bytes(&self) -> usize {
        self.large_bytes.load(Ordering::Relaxed)
    }

    /// A large request came in.
    pub fn add_large(&self, bytes: usize) {
        self.large_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Large requests of so many bytes are answered, or nobody waits for the answer any more.
    pub fn remove_large(&self, bytes: usize) {
        self.large_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts one more connection of `address`, and says which reactor has the fewest and shall
    /// have it.
    ///
    /// # Errors
    /// When a limit is reached; it is not counted then.
    pub fn admit(&self, address: IpAddr) -> Result<ReactorId, Refused> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if self.total_max.is_some_and(|max| counts.total >= max.get()) {
            return Err(Refused::Total);
        }
        let of_address = counts.by_address.entry(address).or_default();
        if self.per_address_max.is_some_and(|max| *of_address >= max.get()) {
            return Err(Refused::Address);
        }
        *of_address += 1;
        counts.total += 1;
        let least =
            self.loads.iter().enumerate().min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        let (index, load) = least.expect("a server has a reactor");
        load.fetch_add(1, Ordering::Relaxed);
        Ok(ReactorId(index as u16))
    }

    /// A connection that was meant for `from` goes to `to`.
    pub fn moved(&self, from: ReactorId, to: ReactorId) {
        self.left_reactor(from);
        self.loads[usize::from(to.0)].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is no longer the reactor's. It still counts for its address until `left`.
    pub fn left_reactor(&self, reactor: ReactorId) {
        self.loads[usize::from(reactor.0)].fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection of `address` is closed.
    ///
    /// # Panics
    /// When `address` has none.
    pub fn left(&self, address: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.by_address.get_mut(&address);
        let of_address = of_address.unwrap_or_else(|| panic!("{address} has no connection"));
        *of_address -= 1;
        if *of_address == 0 {
            counts.by_address.remove(&address);
        }
        counts.total -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_gets_no_more_connections_than_it_may_have() {
        let admission = Admission::new(1, NonZeroU32::new(2), None);
        admission.admit(HERE).unwrap();
        admission.admit(HERE).unwrap();
        assert_eq!(admission.admit(HERE), Err(Refused::Address));
        admission.admit("10.0.0.1".parse().unwrap()).unwrap();
        admission.left(HERE);
        assert!(admission.admit(HERE).is_ok());
    }

    #[test]
    fn the_server_gets_no_more_connections_than_it_may_have() {
        let admission = Admission::new(1, None, NonZeroU32::new(1));
        admission.admit(HERE).unwrap();
        assert_eq!(admission.admit("10.0.0.1".parse().unwrap()), Err(Refused::Total));
    }

    #[test]
    fn handshakes_may_come_while_there_are_tokens() {
        let throttle = ConnectionThrottle {
            tokens: 2,
            fill_time_ms: 1_000,
            fill_count: 1,
            blue: None,
            new_weight: 1,
            renew_weight: 1,
        };
        let admission = Admission::new(1, None, None).throttled(throttle);
        assert!(admission.may_greet(false, 10_000) && admission.may_greet(true, 10_000));
        assert!(!admission.may_greet(false, 10_500));
        assert!(admission.may_greet(false, 11_500));
        assert!(Admission::new(1, None, None).may_greet(false, 0));
    }

    #[test]
    fn the_reactor_with_the_fewest_connections_gets_the_next() {
        let admission = Admission::new(2, None, None);
        assert_eq!(admission.admit(HERE), Ok(ReactorId(0)));
        assert_eq!(admission.admit(HERE), Ok(ReactorId(1)));
        admission.left_reactor(ReactorId(1));
        assert_eq!(admission.admit(HERE), Ok(ReactorId(1)));
    }
}
