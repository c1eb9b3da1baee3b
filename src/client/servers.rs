//! The connect string: `host:port[,host:port]…[/chroot]`, and the order in which servers are tried.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use thiserror::Error;

use crate::tree::path::PathError;

use super::paths::{Chroot, explain};

/// The port of a server that is named without.
pub const DEFAULT_PORT: u16 = 2181;

/// Longest pause between two rounds over the servers.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pause after the first round in vain; it doubles with every further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What is wrong with a connect string.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectStringError {
    #[error("no server is named in '{0}'")]
    NoServer(String),
    #[error("'{0}' is no port")]
    Port(String),
    #[error("'{0}' starts with '[' but has no matching ']'")]
    Bracket(String),
    #[error("{}", explain(path, *error))]
    Chroot { path: String, error: PathError },
}

/// One server of a connect string. Its name is resolved each time it is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address; an IPv6 one without its brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Takes a connect string apart: its servers, never none, and its chroot.
///
/// # Errors
/// The first part that is wrong.
pub fn parse(text: &str) -> Result<(Vec<Server>, Chroot), ConnectStringError> {
    let (hosts, folder) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    let chroot = Chroot::new(folder)
        .map_err(|error| ConnectStringError::Chroot { path: folder.to_owned(), error })?;
    let servers = hosts
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(parse_server)
        .collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() {
        return Err(ConnectStringError::NoServer(text.to_owned()));
    }
    Ok((servers, chroot))
}

fn parse_server(text: &str) -> Result<Server, ConnectStringError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| ConnectStringError::Bracket(text.to_owned()))?;
        (host, rest.strip_prefix(':').unwrap_or(rest))
    } else {
        text.rsplit_once(':').unwrap_or((text, ""))
    };
    let port = match port {
        "" => DEFAULT_PORT,
        digits => digits.parse().map_err(|_| ConnectStringError::Port(digits.to_owned()))?,
    };
    if host.is_empty() {
        return Err(ConnectStringError::NoServer(text.to_owned()));
    }
    Ok(Server { host: host.to_owned(), port })
}

/// Which server is dialled next, and after which pause.
#[derive(Debug)]
pub struct Rounds {
    servers: Vec<Server>,
    next: usize,
    /// Attempts since the last connection.
    failed: u32,
}

impl Rounds {
    /// Rounds over `servers` in an order of chance, so that many clients spread over them.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(mut servers: Vec<Server>) -> Rounds {
        assert!(!servers.is_empty(), "a connect string names a server");
        for last in (1..servers.len()).rev() {
            servers.swap(last, chance(last + 1));
        }
        Rounds { servers, next: 0, failed: 0 }
    }

    /// How many servers there are; at least one.
    pub fn count(&self) -> u32 {
        u32::try_from(self.servers.len()).unwrap_or(u32::MAX)
    }

    /// The next server, and how long to wait before it is dialled: not at all within a round,
    /// longer after every round in vain, with jitter.
    pub fn next_server(&mut self) -> (Server, Duration) {
        let server = self.servers[self.next].clone();
        self.next = (self.next + 1) % self.servers.len();
        let count = self.count();
        let (rounds, within) = (self.failed / count, self.failed % count);
        self.failed = self.failed.saturating_add(1);
        if rounds == 0 || within != 0 {
            return (server, Duration::ZERO);
        }
        let pause = PAUSE_MIN.saturating_mul(1 << (rounds - 1).min(10)).min(PAUSE_MAX);
        let half = pause / 2;
        let jitter = chance(usize::try_from(half.as_millis()).unwrap_or(0) + 1);
        (server, half + Duration::from_millis(jitter as u64))
    }

    /// Whether every server has been dialled in vain since the last connection.
    pub fn round_failed(&self) -> bool {
        self.failed >= self.count()
    }

    /// A session was granted or renewed: pauses begin anew.
    pub fn connected(&mut self) {
        self.failed = 0;
    }
}

/// A number below `below` by chance. Without a generator of its own: the standard library seeds
/// every hasher anew.
fn chance(below: usize) -> usize {
    let drawn = RandomState::new().build_hasher().finish();
    usize::try_from(drawn % below as u64).expect("below a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> Server {
        Server { host: host.into(), port }
    }

    #[test]
    fn a_connect_string_has_servers_and_perhaps_a_chroot() {
        let (servers, chroot) = parse("one:2182, two,[::1]:5,[fe80::1]/app/x").unwrap();
        assert_eq!(
            servers,
            [server("one", 2182), server("two", 2181), server("::1", 5), server("fe80::1", 2181)]
        );
        assert_eq!(chroot, Chroot::new("/app/x").unwrap());
        assert_eq!(parse("one:/").unwrap(), (vec![server("one", 2181)], Chroot::default()));
        assert_eq!(server("::1", 5).to_string(), "[::1]:5");
    }

    #[test]
    fn wrong_connect_strings_are_refused() {
        assert_eq!(parse(""), Err(ConnectStringError::NoServer("".into())));
        assert_eq!(parse(":21"), Err(ConnectStringError::NoServer(":21".into())));
        assert_eq!(parse("a:99999"), Err(ConnectStringError::Port("99999".into())));
        assert_eq!(parse("[::1"), Err(ConnectStringError::Bracket("[::1".into())));
        assert!(matches!(parse("a/b//c"), Err(ConnectStringError::Chroot { .. })));
    }

    #[test]
    fn every_server_is_tried_before_a_pause_and_pauses_grow_to_a_bound() {
        let mut rounds = Rounds::new(vec![server("a", 1), server("b", 2), server("c", 3)]);
        let mut round = |pause: bool| {
            let mut seen = Vec::new();
            let mut waited = Duration::ZERO;
            for place in 0..3 {
                let (server, wait) = rounds.next_server();
                assert_eq!(wait > Duration::ZERO, pause && place == 0, "place {place}");
                waited += wait;
                seen.push(server.host);
            }
            assert!(rounds.round_failed());
            seen.sort();
            assert_eq!(seen, ["a", "b", "c"]);
            waited
        };
        round(false);
        assert!(round(true) <= PAUSE_MIN);
        for _ in 0..20 {
            assert!(round(true) <= PAUSE_MAX);
        }
        assert!(round(true) >= PAUSE_MAX / 2);
        rounds.connected();
        assert_eq!(rounds.next_server().1, Duration::ZERO);
    }
}
