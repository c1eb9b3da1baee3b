//! The command line, and the plan that it is checked into. Parsed once; everything behind it
//! works from a [`Plan`], which cannot be wrong.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use ringkeeper::rt::ring::RingError;

use crate::sockets::Driver;
use crate::sys;

/// Connections of one run. More than one address can have ports for anyway.
pub const CONNECTIONS_MAX: u32 = 100_000;
/// Requests that one connection may have in flight.
pub const IN_FLIGHT_MAX: u32 = 65_536;
/// Requests in flight over all connections; each takes 16 bytes.
pub const IN_FLIGHT_TOTAL_MAX: u64 = 64 << 20;
/// Znodes of the get, set, exists and children workloads.
pub const NODES_MAX: u32 = 100_000_000;
/// Data of one znode, in bytes: what fits ZooKeeper's default `jute.maxbuffer` with its request.
pub const VALUE_BYTES_MAX: u32 = 1_000_000;
/// Threads of one run.
pub const THREADS_MAX: u32 = 1_024;
/// Rounds of one run.
pub const ROUNDS_MAX: u32 = 1_000;
/// The longest duration an option takes.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest window and session timeout: less than this measures the clock.
pub const DURATION_MIN: Duration = Duration::from_millis(10);

/// Loads a server of the ZooKeeper protocol in a closed loop and reports throughput and latency.
///
/// Every connection keeps --in-flight requests outstanding: a new one leaves when a reply comes.
/// Exit code: 0 all well; 1 a server refused, failed or answered an error (what was measured is
/// still reported); 2 wrong arguments.
#[derive(Debug, Parser)]
// The last of an option given twice counts, so that a script can append what it changes.
#[command(name = "ringkeeper-loadgen", version, args_override_self = true)]
pub struct Arguments {
    /// Servers to load; connections are spread over them in turn.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2181", value_name = "HOST:PORT")]
    pub servers: Vec<String>,
    /// What to ask for.
    #[arg(long, value_enum, default_value_t = WorkloadKind::Get)]
    pub workload: WorkloadKind,
    /// Percentage of gets in the mixed workload (default 80); the rest are sets.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_share: Option<u8>,
    /// Connections, each with a session of its own.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub connections: u32,
    /// Requests that each connection keeps outstanding.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)))]
    pub in_flight: u32,
    /// Threads that share the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    pub threads: u32,
    /// Cores to pin the threads to, taken in turn; without it the kernel places them.
    #[arg(long, value_delimiter = ',', value_name = "CORE,...")]
    pub pin: Vec<u16>,
    /// What moves the bytes: io_uring, or epoll, which takes two system calls for each request of
    /// a connection that has one in flight.
    #[arg(long, value_enum, default_value_t = DriverChoice::Auto)]
    pub driver: DriverChoice,
    /// How long each round measures, like 5s, 500ms or 2m.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// Load before each round's measurement that is not measured.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warm_up: Duration,
    /// Rounds; each has connections of its own. The median of their figures is reported.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    pub rounds: u32,
    /// Znodes that get, set, exists and mixed spread over, evenly at random.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    pub keys: u32,
    /// Bytes of data that each znode gets.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=i64::from(VALUE_BYTES_MAX)))]
    pub value_size: u32,
    /// Names below the parent that the children workload lists (default 100).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    pub children: Option<u32>,
    /// The create workload asks for sequential znodes.
    #[arg(long)]
    pub sequential: bool,
    /// Seed of the choice of keys; the same seed asks for the same keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Znode to work below; made, and deleted at the end with all below it.
    #[arg(long, default_value = "/ringkeeper-loadgen", value_name = "PATH")]
    pub root: String,
    /// Session timeout to ask for. A server that is silent for so long counts as failed.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub session_timeout: Duration,
    /// Leave the znodes in place; a later run with the same root takes them over.
    #[arg(long)]
    pub keep: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadKind {
    /// getData of a random key.
    Get,
    /// setData of a random key, any version.
    Set,
    /// create of a znode with a name of its own; deleted after each round.
    Create,
    /// exists of a random key.
    Exists,
    /// getChildren of one parent.
    Children,
    /// get and set, by --read-share.
    Mixed,
}

impl WorkloadKind {
    /// The name as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            WorkloadKind::Get => "get",
            WorkloadKind::Set => "set",
            WorkloadKind::Create => "create",
            WorkloadKind::Exists => "exists",
            WorkloadKind::Children => "children",
            WorkloadKind::Mixed => "mixed",
        }
    }

    /// Whether it works on the keys that the set-up made.
    pub fn uses_keys(self) -> bool {
        !matches!(self, WorkloadKind::Create | WorkloadKind::Children)
    }
}

/// What may be asked for to move the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriverChoice {
    /// io_uring where it is allowed, else epoll.
    Auto,
    /// io_uring.
    Ring,
    /// epoll.
    Epoll,
}

/// A run that can be carried out as it stands.
#[derive(Clone, Debug)]
pub struct Plan {
    pub servers: Vec<Server>,
    pub workload: WorkloadKind,
    /// Percentage of gets; only the mixed workload looks at it.
    pub read_share: u8,
    pub connections: u32,
    /// Per connection.
    pub in_flight: u32,
    pub threads: u32,
    /// Empty: not pinned.
    pub pin: Vec<u16>,
    pub driver: Driver,
    /// Why the driver is not io_uring although nothing else was asked for.
    pub ring_refused: Option<String>,
    pub duration: Duration,
    pub warm_up: Duration,
    pub rounds: u32,
    pub keys: u32,
    /// Bytes.
    pub value_size: u32,
    pub children: u32,
    pub sequential: bool,
    pub seed: u64,
    /// An absolute path without a slash at its end.
    pub root: String,
    pub session_timeout: Duration,
    pub keep: bool,
}

/// One server, as it was named and where it may be: `localhost`, for one, has two addresses on most
/// hosts. At least one.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub addresses: Vec<SocketAddr>,
}

/// What is wrong with the command line beyond what each option checks for itself.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    #[error("--servers {name}: {reason}")]
    Server { name: String, reason: std::io::Error },
    #[error("--servers {name}: the name has no address")]
    NoAddress { name: String },
    #[error("--threads {threads} is more than --connections {connections}: some would have none")]
    ThreadsIdle { threads: u32, connections: u32 },
    #[error(
        "--connections {connections} x --in-flight {in_flight} is more than {IN_FLIGHT_TOTAL_MAX} requests at once"
    )]
    TooManyInFlight { connections: u32, in_flight: u32 },
    #[error("{option} belongs to --workload {workload}")]
    NotOfThisWorkload { option: &'static str, workload: &'static str },
    #[error(
        "--root {root:?}: must begin with / and name one znode (no empty part, no slash at the end)"
    )]
    Root { root: String },
    #[error("{option} must be at least 10ms")]
    TooShort { option: &'static str },
    #[error("--driver ring: {0}")]
    Ring(RingError),
    #[error("--pin {core}: cannot run on that core: {reason}")]
    Pin { core: u16, reason: std::io::Error },
}

impl Arguments {
    /// Checks the options against each other and looks the servers' addresses up.
    pub fn into_plan(self) -> Result<Plan, ArgumentError> {
        self.check()?;
        for &core in &self.pin {
            sys::try_core(core).map_err(|reason| ArgumentError::Pin { core, reason })?;
        }
        let servers = self.servers.iter().map(|name| resolve(name)).collect::<Result<_, _>>()?;
        let (driver, refused) = Driver::choose(self.driver).map_err(ArgumentError::Ring)?;
        Ok(Plan {
            servers,
            workload: self.workload,
            read_share: self.read_share.unwrap_or(80),
            connections: self.connections,
            in_flight: self.in_flight,
            threads: self.threads,
            pin: self.pin,
            driver,
            ring_refused: refused.map(|error| error.to_string()),
            duration: self.duration,
            warm_up: self.warm_up,
            rounds: self.rounds,
            keys: self.keys,
            value_size: self.value_size,
            children: self.children.unwrap_or(100),
            sequential: self.sequential,
            seed: self.seed,
            root: self.root,
            session_timeout: self.session_timeout,
            keep: self.keep,
        })
    }

    fn check(&self) -> Result<(), ArgumentError> {
        let (connections, in_flight, threads) = (self.connections, self.in_flight, self.threads);
        if threads > connections {
            return Err(ArgumentError::ThreadsIdle { threads, connections });
        }
        if u64::from(connections) * u64::from(in_flight) > IN_FLIGHT_TOTAL_MAX {
            return Err(ArgumentError::TooManyInFlight { connections, in_flight });
        }
        let belongs = [
            ("--read-share", self.read_share.is_some(), WorkloadKind::Mixed),
            ("--children", self.children.is_some(), WorkloadKind::Children),
            ("--sequential", self.sequential, WorkloadKind::Create),
        ];
        for (option, given, kind) in belongs {
            if given && self.workload != kind {
                return Err(ArgumentError::NotOfThisWorkload { option, workload: kind.name() });
            }
        }
        let root = self.root.strip_prefix('/');
        if root.is_none_or(|rest| rest.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            return Err(ArgumentError::Root { root: self.root.clone() });
        }
        for (option, length) in
            [("--duration", self.duration), ("--session-timeout", self.session_timeout)]
        {
            if length < DURATION_MIN {
                return Err(ArgumentError::TooShort { option });
            }
        }
        Ok(())
    }
}

fn resolve(name: &str) -> Result<Server, ArgumentError> {
    let found = name
        .to_socket_addrs()
        .map_err(|reason| ArgumentError::Server { name: name.to_owned(), reason })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(ArgumentError::NoAddress { name: name.to_owned() });
    }
    Ok(Server { name: name.to_owned(), addresses })
}

/// A number with a unit: `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("expected a number and a unit, ms, s or m: 500ms, 5s, 2m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    let seconds = number * scale;
    if seconds > DURATION_MAX.as_secs_f64() {
        return Err(format!("more than {} hours", DURATION_MAX.as_secs() / 3600));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: &[&str]) -> Result<Plan, String> {
        let line = ["ringkeeper-loadgen"].iter().chain(options);
        let arguments = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
        arguments.into_plan().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_a_plan() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.connections, plan.in_flight, plan.threads), (32, 1, 1));
        assert_eq!(plan.servers[0].addresses[0].port(), 2181);
        assert_eq!(plan.read_share, 80);
    }

    #[test]
    fn lists_are_split_at_commas() {
        let plan = plan(&["--servers", "127.0.0.1:1,127.0.0.1:2", "--pin", "0,0"]).unwrap();
        assert_eq!(plan.servers[1].addresses[0].port(), 2);
        assert_eq!(plan.pin, [0, 0]);
    }

    #[test]
    fn durations_take_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["5", "s", "5 s", "-1s", "1.2.3s", "25000m", ""] {
            assert!(duration(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn an_option_of_another_workload_is_refused() {
        let error = plan(&["--workload", "get", "--read-share", "50"]).unwrap_err();
        assert_eq!(error, "--read-share belongs to --workload mixed");
        assert!(plan(&["--sequential"]).unwrap_err().contains("--workload create"));
        assert!(plan(&["--children", "5"]).unwrap_err().contains("--workload children"));
        assert_eq!(plan(&["--workload", "mixed", "--read-share", "50"]).unwrap().read_share, 50);
    }

    #[test]
    fn idle_threads_are_refused() {
        let error = plan(&["--threads", "3", "--connections", "2"]).unwrap_err();
        assert!(error.contains("--threads 3 is more than --connections 2"), "{error}");
    }

    #[test]
    fn more_in_flight_than_memory_allows_is_refused() {
        let error = plan(&["--connections", "100000", "--in-flight", "65536"]).unwrap_err();
        assert!(error.contains("67108864 requests at once"), "{error}");
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused() {
        for wrong in [
            ["--connections", "0"],
            ["--in-flight", "0"],
            ["--keys", "0"],
            ["--value-size", "1000001"],
            ["--rounds", "0"],
            ["--duration", "0s"],
            ["--workload", "put"],
        ] {
            assert!(plan(&wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_root_that_is_no_path_is_refused() {
        for wrong in ["load", "/", "/a/", "/a//b", "/a/..", ""] {
            assert!(plan(&["--root", wrong]).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(plan(&["--root", "/a/b"]).unwrap().root, "/a/b");
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        let error = plan(&["--pin", "0,65000"]).unwrap_err();
        assert!(error.starts_with("--pin 65000: cannot run on that core"), "{error}");
    }

    #[test]
    fn the_last_of_an_option_given_twice_counts() {
        assert_eq!(plan(&["--keys", "5", "--keys", "6"]).unwrap().keys, 6);
    }

    #[test]
    fn a_server_without_a_port_is_named() {
        let error = plan(&["--servers", "127.0.0.1"]).unwrap_err();
        assert!(error.starts_with("--servers 127.0.0.1: "), "{error}");
    }
}
