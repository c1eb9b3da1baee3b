//! The command line, and the plan that it is checked into. Parsed once; everything behind it
//! works from a [`Plan`], which cannot be wrong.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use ringkeeper::rt::ring::RingError;

use crate::sockets::Driver;
use crate::sys;

/// Connections of one run. More than one address can have ports for anyway.
pub const CONNECTIONS_MAX: u32 = 100_000;
/// Requests that one connection may have in flight.
pub const IN_FLIGHT_MAX: u32 = 65_536;
/// Requests a second of an open loop.
pub const RATE_MAX: u32 = 100_000_000;
/// Requests in flight over all connections; each takes 16 bytes.
pub const IN_FLIGHT_TOTAL_MAX: u64 = 64 << 20;
/// Znodes of the get, set, exists and children workloads.
pub const NODES_MAX: u32 = 100_000_000;
/// Data of one znode, in bytes: what fits ZooKeeper's default `jute.maxbuffer` with its request.
pub const VALUE_BYTES_MAX: u32 = 1_000_000;
/// setData in one multi.
pub const MULTI_MAX: u32 = 10_000;
/// Bytes of a listed name.
pub const NAME_BYTES_MAX: u32 = 1_000;
/// The largest exponent of Zipf's law; with it 99 % of all requests are for one key.
pub const ZIPF_EXPONENT_MAX: f64 = 8.0;
/// Threads of one run.
pub const THREADS_MAX: u32 = 1_024;
/// Rounds of one run.
pub const ROUNDS_MAX: u32 = 1_000;
/// Loads of one sweep.
pub const POINTS_MAX: usize = 1_000;
/// The longest duration an option takes.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest window and session timeout: less than this measures the clock.
pub const DURATION_MIN: Duration = Duration::from_millis(10);

/// The options of a load, whatever it is for.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// What to ask for.
    #[arg(long, value_enum, default_value_t = WorkloadKind::Get)]
    pub workload: WorkloadKind,
    /// Percentage of gets in the mixed workload (default 80), 0 to 100; the rest are sets.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_share: Option<u8>,
    /// Connections, each with a session of its own.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub connections: u32,
    /// Requests that each connection keeps outstanding (default 1), or with --rate may have
    /// outstanding (default 64).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)))]
    pub in_flight: Option<u32>,
    /// Requests a second over all connections, evenly spaced (open loop).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    pub rate: Option<u32>,
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
    /// Load before each round's measurement that is not measured (default 2s; of the delete
    /// and storm workloads 0s).
    #[arg(long, value_parser = duration)]
    pub warm_up: Option<Duration>,
    /// Rounds (default 1; of compare, with each side, 5); each has connections of its own. The
    /// median of their figures is reported.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    pub rounds: Option<u32>,
    /// Znodes that the requests spread over (default 1000), or that the delete workload finds to
    /// delete (default 100000).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    pub keys: Option<u32>,
    /// How keys are drawn.
    #[arg(long, value_enum, default_value_t = DistributionKind::Uniform)]
    pub distribution: DistributionKind,
    /// Of Zipf's law: key number n is asked for in proportion to 1 / (n + 1)^EXPONENT (default
    /// 0.99).
    #[arg(long, value_name = "EXPONENT")]
    pub zipf_exponent: Option<f64>,
    /// Bytes of data that each znode gets.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=i64::from(VALUE_BYTES_MAX)))]
    pub value_size: u32,
    /// Names below the parent that the children and raftkeeper workloads list (default 100).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    pub children: Option<u32>,
    /// Bytes of each of those names (default 50 in the raftkeeper workload, else as many as the
    /// numbers have digits).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=i64::from(NAME_BYTES_MAX)))]
    pub name_size: Option<u32>,
    /// setData in each request of the multi workload (default 10).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MULTI_MAX)))]
    pub multi_size: Option<u32>,
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
    /// delete of the keys, each once; a round ends early when none are left.
    Delete,
    /// create of a znode and delete of the same, in turns.
    Cycle,
    /// One transaction of --multi-size setData of random keys, any version.
    Multi,
    /// exists of a random key.
    Exists,
    /// getChildren of one parent.
    Children,
    /// Watch events: one connection sets a znode that all others watch, each with one watch that it
    /// sets again; the next set leaves when all have theirs.
    Watch,
    /// Opening a session and closing it again, over and over, --connections at a time.
    Session,
    /// Opening --connections sessions at once; a round ends when all are open.
    Storm,
    /// get and set, by --read-share.
    Mixed,
    /// What RaftKeeper publishes figures of: create 1 %, set 8 %, get 45 %, list of 100 children
    /// with 50-byte names 45 %, delete 1 %.
    Raftkeeper,
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
            WorkloadKind::Watch => "watch",
            WorkloadKind::Session => "session",
            WorkloadKind::Storm => "storm",
            WorkloadKind::Mixed => "mixed",
            WorkloadKind::Delete => "delete",
            WorkloadKind::Cycle => "cycle",
            WorkloadKind::Multi => "multi",
            WorkloadKind::Raftkeeper => "raftkeeper",
        }
    }

    /// Whether it works on the keys that the set-up made.
    pub fn uses_keys(self) -> bool {
        use WorkloadKind::{Children, Create, Cycle};
        !matches!(self, Create | Cycle | Children) && !self.opens_sessions()
    }

    /// Whether it draws its keys by a distribution.
    pub fn draws_keys(self) -> bool {
        self.uses_keys() && !self.deletes_keys() && self != WorkloadKind::Watch
    }

    /// Whether it is about sessions, and asks for nothing in them.
    pub fn opens_sessions(self) -> bool {
        matches!(self, WorkloadKind::Session | WorkloadKind::Storm)
    }

    /// Whether it makes znodes.
    pub fn creates(self) -> bool {
        matches!(self, WorkloadKind::Create | WorkloadKind::Cycle | WorkloadKind::Raftkeeper)
    }

    /// Whether it lists children.
    pub fn lists(self) -> bool {
        matches!(self, WorkloadKind::Children | WorkloadKind::Raftkeeper)
    }

    /// Whether it deletes the keys that the set-up made.
    pub fn deletes_keys(self) -> bool {
        self == WorkloadKind::Delete
    }

    /// Whether a round leaves other znodes than it found.
    pub fn uses_up(self) -> bool {
        self.creates() || self.deletes_keys()
    }
}

/// How keys may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DistributionKind {
    /// Each as often as any other.
    Uniform,
    /// By Zipf's law, key 0 the most often.
    Zipf,
}

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Uniform,
    /// The exponent is positive.
    Zipf {
        exponent: f64,
    },
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
    /// Requests a second of an open loop; `None`: closed loop.
    pub rate: Option<u32>,
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
    pub distribution: Distribution,
    /// Bytes.
    pub value_size: u32,
    pub children: u32,
    /// Bytes of a child's name at least; the digits of its number may be more.
    pub name_size: u32,
    pub multi_size: u32,
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
    #[error("{name}: {reason}; a server is HOST:PORT")]
    Server { name: String, reason: std::io::Error },
    #[error("{name}: the name has no address")]
    NoAddress { name: String },
    #[error("--threads {threads} is more than --connections {connections}: some would have none")]
    ThreadsIdle { threads: u32, connections: u32 },
    #[error(
        "--connections {connections} x --in-flight {in_flight} is more than {IN_FLIGHT_TOTAL_MAX} requests at once"
    )]
    TooManyInFlight { connections: u32, in_flight: u32 },
    #[error("{option} belongs to --workload {workload}")]
    NotOfThisWorkload { option: &'static str, workload: &'static str },
    #[error("{option} does not go with --workload {workload}")]
    DoesNotGo { option: &'static str, workload: &'static str },
    #[error("--workload watch needs two connections: one writes, the others watch")]
    NobodyWatches,
    #[error("--distribution belongs to workloads that draw keys, which {workload} does not")]
    DrawsNoKeys { workload: &'static str },
    #[error("--zipf-exponent belongs to --distribution zipf")]
    ExponentWithoutZipf,
    #[error("--zipf-exponent {exponent}: must be above 0 and at most {ZIPF_EXPONENT_MAX}")]
    Exponent { exponent: f64 },
    #[error(
        "--multi-size {size} x --value-size {value}: more than the {VALUE_BYTES_MAX} bytes that \
         one request may have"
    )]
    MultiTooLong { size: u32, value: u32 },
    #[error(
        "--root {root:?}: must begin with / and name one znode (no empty part, no slash at the end)"
    )]
    Root { root: String },
    #[error("{option} must be at least 10ms")]
    TooShort { option: &'static str },
    #[error("--driver ring: {0}")]
    Ring(RingError),
    #[error("{option} {}: {reason}", .file.display())]
    File { option: &'static str, file: PathBuf, reason: &'static str },
    #[error("--vary {option}: it is varied twice")]
    VariedTwice { option: &'static str },
    #[error("--vary asks for more than {POINTS_MAX} loads")]
    TooManyPoints,
    #[error("--pin {core}: cannot run on that core: {reason}")]
    Pin { core: u16, reason: std::io::Error },
}

impl Arguments {
    /// Checks the options against each other and looks the addresses of `servers`, one at least,
    /// up.
    pub fn into_plan(self, servers: &[String]) -> Result<Plan, ArgumentError> {
        self.check()?;
        for &core in &self.pin {
            sys::try_core(core).map_err(|reason| ArgumentError::Pin { core, reason })?;
        }
        let servers = servers.iter().map(|name| resolve(name)).collect::<Result<_, _>>()?;
        let (driver, refused) = Driver::choose(self.driver).map_err(ArgumentError::Ring)?;
        let raftkeeper = self.workload == WorkloadKind::Raftkeeper;
        let (exponent, multi_size) = (self.exponent(), self.multi_size());
        let in_flight = self.in_flight();
        Ok(Plan {
            servers,
            workload: self.workload,
            read_share: self.read_share.unwrap_or(80),
            connections: self.connections,
            in_flight,
            rate: self.rate,
            threads: self.threads,
            pin: self.pin,
            driver,
            ring_refused: refused.map(|error| error.to_string()),
            duration: self.duration,
            warm_up: self.warm_up.unwrap_or(match self.workload {
                WorkloadKind::Delete | WorkloadKind::Storm => Duration::ZERO,
                _ => WARM_UP,
            }),
            rounds: self.rounds.unwrap_or(1),
            keys: self.keys.unwrap_or(match self.workload {
                WorkloadKind::Delete => 100_000,
                WorkloadKind::Watch => 1,
                _ => 1_000,
            }),
            distribution: match self.distribution {
                DistributionKind::Uniform => Distribution::Uniform,
                DistributionKind::Zipf => Distribution::Zipf { exponent },
            },
            value_size: self.value_size,
            children: self.children.unwrap_or(100),
            name_size: self.name_size.unwrap_or(if raftkeeper { 50 } else { 1 }),
            multi_size,
            sequential: self.sequential,
            seed: self.seed,
            root: self.root,
            session_timeout: self.session_timeout,
            keep: self.keep,
        })
    }

    fn check(&self) -> Result<(), ArgumentError> {
        let (connections, in_flight, threads) = (self.connections, self.in_flight(), self.threads);
        if threads > connections {
            return Err(ArgumentError::ThreadsIdle { threads, connections });
        }
        if u64::from(connections) * u64::from(in_flight) > IN_FLIGHT_TOTAL_MAX {
            return Err(ArgumentError::TooManyInFlight { connections, in_flight });
        }
        self.check_workload()?;
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

    /// Options that only some workloads have.
    fn check_workload(&self) -> Result<(), ArgumentError> {
        use WorkloadKind::{Children, Create, Mixed, Multi, Raftkeeper, Storm, Watch};
        let belongs: [(&str, bool, &[WorkloadKind]); 5] = [
            ("--read-share", self.read_share.is_some(), &[Mixed]),
            ("--children", self.children.is_some(), &[Children, Raftkeeper]),
            ("--name-size", self.name_size.is_some(), &[Children, Raftkeeper]),
            ("--multi-size", self.multi_size.is_some(), &[Multi]),
            ("--sequential", self.sequential, &[Create]),
        ];
        for (option, given, kinds) in belongs {
            if given && !kinds.contains(&self.workload) {
                let workload = kinds[0].name();
                return Err(ArgumentError::NotOfThisWorkload { option, workload });
            }
        }
        if self.workload == Watch || self.workload.opens_sessions() {
            let workload = self.workload.name();
            for (option, given) in [
                ("--rate", self.rate.is_some()),
                ("--in-flight", self.in_flight.is_some()),
                ("--keys", self.keys.is_some()),
                ("--warm-up", self.workload == Storm && self.warm_up.is_some()),
            ] {
                if given {
                    return Err(ArgumentError::DoesNotGo { option, workload });
                }
            }
        }
        if self.workload == Watch && self.connections < 2 {
            return Err(ArgumentError::NobodyWatches);
        }
        if self.distribution == DistributionKind::Zipf && !self.workload.draws_keys() {
            return Err(ArgumentError::DrawsNoKeys { workload: self.workload.name() });
        }
        if self.zipf_exponent.is_some() && self.distribution != DistributionKind::Zipf {
            return Err(ArgumentError::ExponentWithoutZipf);
        }
        let exponent = self.exponent();
        if !(exponent > 0.0 && exponent <= ZIPF_EXPONENT_MAX) {
            return Err(ArgumentError::Exponent { exponent });
        }
        // Path, version and header of an operation take less than the root's length and 64 bytes.
        let operation = u64::from(self.value_size) + self.root.len() as u64 + 64;
        if self.workload == Multi
            && u64::from(self.multi_size()) * operation > u64::from(VALUE_BYTES_MAX)
        {
            let (size, value) = (self.multi_size(), self.value_size);
            return Err(ArgumentError::MultiTooLong { size, value });
        }
        Ok(())
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.unwrap_or(if self.rate.is_some() { 64 } else { 1 })
    }

    fn exponent(&self) -> f64 {
        self.zipf_exponent.unwrap_or(0.99)
    }

    fn multi_size(&self) -> u32 {
        self.multi_size.unwrap_or(10)
    }
}

/// Used where --warm-up is not given.
const WARM_UP: Duration = Duration::from_secs(2);

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
pub mod tests {
    use super::*;
    use crate::command_line::Order;

    /// The plan of a good command line, for the tests of all files.
    pub fn plan(options: &str) -> Plan {
        checked(&options.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    fn checked(options: &[&str]) -> Result<Plan, String> {
        match crate::command_line::tests::order(options)? {
            Order::Run(plan) => Ok(*plan),
            other => panic!("{other:?} is no run"),
        }
    }

    #[test]
    fn the_defaults_are_a_plan() {
        let plan = checked(&[]).unwrap();
        assert_eq!((plan.connections, plan.in_flight, plan.threads), (32, 1, 1));
        assert_eq!(plan.servers[0].addresses[0].port(), 2181);
        assert_eq!(plan.read_share, 80);
        assert_eq!(plan.rate, None);
    }

    #[test]
    fn an_open_loop_has_room_for_more_in_flight_unless_told_otherwise() {
        assert_eq!(plan("--rate 5").in_flight, 64);
        assert_eq!(plan("--rate 5 --in-flight 2").in_flight, 2);
    }

    #[test]
    fn lists_are_split_at_commas() {
        let plan = checked(&["--servers", "127.0.0.1:1,127.0.0.1:2", "--pin", "0,0"]).unwrap();
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
        let error = checked(&["--workload", "get", "--read-share", "50"]).unwrap_err();
        assert_eq!(error, "--read-share belongs to --workload mixed");
        assert!(checked(&["--sequential"]).unwrap_err().contains("--workload create"));
        assert!(checked(&["--children", "5"]).unwrap_err().contains("--workload children"));
        assert_eq!(checked(&["--workload", "mixed", "--read-share", "50"]).unwrap().read_share, 50);
    }

    #[test]
    fn a_distribution_belongs_to_workloads_that_draw_keys() {
        let of = |options: &str| checked(&options.split_whitespace().collect::<Vec<_>>());
        assert_eq!(plan("--distribution zipf").distribution, Distribution::Zipf { exponent: 0.99 });
        for (wrong, reason) in [
            ("--distribution zipf --workload delete", "which delete does not"),
            ("--distribution zipf --workload create", "which create does not"),
            ("--zipf-exponent 1", "belongs to --distribution zipf"),
            ("--distribution zipf --zipf-exponent 0", "must be above 0"),
            ("--distribution zipf --zipf-exponent nan", "must be above 0"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_watch_load_has_a_writer_and_watchers_and_sets_its_own_pace() {
        assert_eq!(plan("--workload watch --connections 2").keys, 1);
        for wrong in ["--connections 1", "--rate 5", "--in-flight 2", "--distribution zipf"] {
            let options: Vec<&str> =
                ["--workload", "watch"].into_iter().chain(wrong.split(' ')).collect();
            assert!(checked(&options).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn a_load_of_sessions_asks_for_nothing_in_them() {
        assert_eq!(plan("--workload storm").warm_up, Duration::ZERO);
        for wrong in ["session --rate 5", "storm --in-flight 2", "storm --warm-up 1s"] {
            let options: Vec<&str> = ["--workload"].into_iter().chain(wrong.split(' ')).collect();
            assert!(checked(&options).unwrap_err().contains("does not go with"), "{wrong}");
        }
    }

    #[test]
    fn a_multi_that_no_server_takes_is_refused() {
        let options = ["--workload", "multi", "--multi-size", "1000", "--value-size", "1000"];
        assert!(checked(&options).unwrap_err().contains("--multi-size 1000 x --value-size 1000"));
    }

    #[test]
    fn each_workload_has_its_own_defaults() {
        let delete = plan("--workload delete");
        assert_eq!((delete.keys, delete.warm_up), (100_000, Duration::ZERO));
        let get = plan("--workload get");
        assert_eq!((get.keys, get.warm_up), (1_000, Duration::from_secs(2)));
        let mix = plan("--workload raftkeeper");
        assert_eq!((mix.children, mix.name_size), (100, 50));
    }

    #[test]
    fn idle_threads_are_refused() {
        let error = checked(&["--threads", "3", "--connections", "2"]).unwrap_err();
        assert!(error.contains("--threads 3 is more than --connections 2"), "{error}");
    }

    #[test]
    fn more_in_flight_than_memory_allows_is_refused() {
        let error = checked(&["--connections", "100000", "--in-flight", "65536"]).unwrap_err();
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
            ["--rate", "0"],
            ["--duration", "0s"],
            ["--workload", "put"],
        ] {
            assert!(checked(&wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_root_that_is_no_path_is_refused() {
        for wrong in ["load", "/", "/a/", "/a//b", "/a/..", ""] {
            assert!(checked(&["--root", wrong]).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(checked(&["--root", "/a/b"]).unwrap().root, "/a/b");
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        let error = checked(&["--pin", "0,65000"]).unwrap_err();
        assert!(error.starts_with("--pin 65000: cannot run on that core"), "{error}");
    }

    #[test]
    fn the_last_of_an_option_given_twice_counts() {
        assert_eq!(checked(&["--keys", "5", "--keys", "6"]).unwrap().keys, 6);
    }

    #[test]
    fn a_server_without_a_port_is_named() {
        let error = checked(&["--servers", "127.0.0.1"]).unwrap_err();
        assert!(error.starts_with("127.0.0.1: "), "{error}");
    }
}
