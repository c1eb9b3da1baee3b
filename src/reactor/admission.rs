//! How many connections there are, in all, by address and by reactor: shared by the reactors, and
//! touched only when a connection comes or goes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ids::ReactorId;

/// The table of connections.
#[derive(Debug)]
pub struct Admission {
    counts: Mutex<Counts>,
    per_address_max: Option<NonZeroU32>,
    total_max: Option<NonZeroU32>,
    loads: Box<[AtomicU32]>,
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
        Admission { counts: Mutex::default(), per_address_max, total_max, loads }
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
    fn the_reactor_with_the_fewest_connections_gets_the_next() {
        let admission = Admission::new(2, None, None);
        assert_eq!(admission.admit(HERE), Ok(ReactorId(0)));
        assert_eq!(admission.admit(HERE), Ok(ReactorId(1)));
        admission.left_reactor(ReactorId(1));
        assert_eq!(admission.admit(HERE), Ok(ReactorId(1)));
    }
}
