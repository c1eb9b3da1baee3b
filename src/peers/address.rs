//! Where a server listens for other servers: a host, by name or number, and a port. A name is
//! looked up each time that somebody connects, on a thread of its own, for that may take long and
//! cannot be called off.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use thiserror::Error;

/// `host:port`, with an IPv6 number in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("{0:?} has no port")]
    NoPort(String),
    #[error("{0:?} has no host")]
    NoHost(String),
    #[error("{0:?} has a port that is no number from 0 to 65535")]
    WrongPort(String),
}

impl PeerAddress {
    /// The address of this host, a name or a number without brackets, and port.
    pub fn new(host: impl Into<String>, port: u16) -> PeerAddress {
        PeerAddress { host: host.into(), port }
    }

    /// Reads `host:port` or `[host]:port`.
    ///
    /// # Errors
    /// When one of the two is missing, or the port is no number.
    pub fn parse(text: &str) -> Result<PeerAddress, AddressError> {
        let split = match text.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once("]:"),
            None => text.rsplit_once(':'),
        };
        let (host, port) = split.ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port = port.parse().map_err(|_| AddressError::WrongPort(text.to_owned()))?;
        Ok(PeerAddress::new(host, port))
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it means "all addresses of this host", which is nothing that one could connect to.
    pub fn is_wildcard(&self) -> bool {
        self.number().is_some_and(|number| number.is_unspecified())
    }

    fn number(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Looks the name up; a number needs no looking up. IPv4 comes first, as in a JVM, whose
    /// servers listen on the first address of their name alone.
    pub fn resolve(&self) -> Resolution {
        let answer = Arc::new(Answer::default());
        if let Some(number) = self.number() {
            answer.give(Ok(vec![SocketAddr::new(number, self.port)]));
            return Resolution(answer);
        }
        let (address, given) = (self.clone(), Arc::clone(&answer));
        let look_up = move || given.give(look_up(&address));
        let spawned = std::thread::Builder::new().name("resolve".to_owned()).spawn(look_up);
        if let Err(error) = spawned {
            answer.give(Err(error));
        }
        Resolution(answer)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> PeerAddress {
        PeerAddress::new(address.ip().to_string(), address.port())
    }
}

fn look_up(address: &PeerAddress) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<_> = (address.host.as_str(), address.port).to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

/// A name that is being looked up. Dropped, the answer is lost; the thread ends all the same.
#[derive(Debug)]
pub struct Resolution(Arc<Answer>);

#[derive(Debug, Default)]
struct Answer {
    found: Mutex<Option<io::Result<Vec<SocketAddr>>>>,
    given: Condvar,
    waker: AtomicWaker,
}

impl Answer {
    fn give(&self, found: io::Result<Vec<SocketAddr>>) {
        *self.found.lock().expect("nobody panics with it") = Some(found);
        self.given.notify_all();
        self.waker.wake();
    }
}

impl Resolution {
    /// Waits for the answer, but not longer than `patience`: it may be waited for again then.
    /// `None` as well when it has been taken.
    pub fn wait(&self, patience: Duration) -> Option<io::Result<Vec<SocketAddr>>> {
        let deadline = Instant::now() + patience;
        let mut found = self.0.found.lock().expect("nobody panics with it");
        while found.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            found = self.0.given.wait_timeout(found, left).expect("nobody panics with it").0;
        }
        found.take()
    }
}

impl Future for Resolution {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.waker.register(context.waker());
        match self.0.found.lock().expect("nobody panics with it").take() {
            Some(found) => Poll::Ready(found),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PeerAddress, AddressError> {
        PeerAddress::parse(text)
    }

    #[test]
    fn names_and_numbers_are_read_and_printed() {
        for text in ["zoo1.example.org:3888", "10.0.0.1:0", "[::1]:3888", "[fe80::1%eth0]:1"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("[::1]:7"), Ok(PeerAddress::new("::1", 7)));
        // Without brackets it is the last colon that counts.
        assert_eq!(parse("::1:7"), Ok(PeerAddress::new("::1", 7)));
    }

    #[test]
    fn what_is_no_address_is_refused_by_what_is_wrong_with_it() {
        let owned = str::to_owned;
        assert_eq!(parse("zoo1"), Err(AddressError::NoPort(owned("zoo1"))));
        assert_eq!(parse("[::1]"), Err(AddressError::NoPort(owned("[::1]"))));
        assert_eq!(parse(":3888"), Err(AddressError::NoHost(owned(":3888"))));
        assert_eq!(parse("h:65536"), Err(AddressError::WrongPort(owned("h:65536"))));
        assert_eq!(parse("h:"), Err(AddressError::WrongPort(owned("h:"))));
    }

    #[test]
    fn a_wildcard_is_nowhere() {
        assert!(parse("0.0.0.0:3888").unwrap().is_wildcard());
        assert!(parse("[::]:3888").unwrap().is_wildcard());
        assert!(!parse("127.0.0.1:3888").unwrap().is_wildcard());
        assert!(!parse("h:3888").unwrap().is_wildcard());
    }

    #[test]
    fn a_number_is_its_own_answer_and_a_name_is_looked_up() {
        let found = parse("[::1]:5").unwrap().resolve().wait(Duration::ZERO);
        assert_eq!(found.unwrap().unwrap(), ["[::1]:5".parse().unwrap()]);
        let found = parse("localhost:5").unwrap().resolve().wait(Duration::from_secs(60));
        assert_eq!(found.unwrap().unwrap()[0], "127.0.0.1:5".parse().unwrap());
    }
}
