//! From a file (or nothing) to a `Config`: every key that Ringkeeper uses, with its unit, default
//! and range.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::auth;
use super::cores::{CpuId, allowed};
use super::ensemble::{self, Listed, ListedClient, read};
use super::error::{ConfigError, Notice, Place};
use super::keys::{Bearing, bearing, near};
use super::pinning::core_plan;
use super::properties;
use super::settings::Config;
use super::throttle;
use super::values::Values;
use crate::consensus::reap::Reaping;
use crate::limits::{
    FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, GROUP_COMMIT_BYTES_MAX, HANDSHAKE_MS_MAX,
    SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};

/// The port that every ZooKeeper client tries by default.
const CLIENT_PORT: u16 = 2181;
/// ZooKeeper's `tickTime` without the key.
const TICK_MS: u32 = 3000;
/// 20 of the longest ticks are a session timeout, which travels as 32 bits.
const TICK_MS_MAX: u32 = i32::MAX as u32 / 20;
const MS: &str = "milliseconds";
/// Far beyond every age.
const MS_MAX: u64 = i64::MAX as u64;
const YES: [&str; 2] = ["no", "yes"];
const TRUE: [&str; 2] = ["false", "true"];

/// What the command line says; it goes before the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

/// A checked configuration and what the operator should know about it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub notices: Vec<Notice>,
    /// Every key that was looked for, given or not: all that are used.
    pub keys: Vec<&'static str>,
}

/// The configuration in `file`; without one, the built-in defaults: 127.0.0.1:2181, data under
/// ./ringkeeper-data.
///
/// # Errors
/// When the file cannot be read, or says something that cannot be done: `ConfigError` names the
/// line.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let cpus = allowed().map_err(ConfigError::Affinity)?;
    match file {
        Some(file) => parse(file, &read(file)?, overrides, &cpus),
        None => {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT));
            let defaults = Overrides {
                listen: Some(overrides.listen.unwrap_or(listen)),
                data_dir: Some(overrides.data_dir.clone().unwrap_or("ringkeeper-data".into())),
            };
            parse(Path::new(""), b"", &defaults, &cpus)
        }
    }
}

/// The configuration in `text`, the content of `file`, for a process that may run on `cpus`.
///
/// # Errors
/// As `load`.
pub fn parse(
    file: &Path,
    text: &[u8],
    overrides: &Overrides,
    cpus: &BTreeSet<CpuId>,
) -> Result<Loaded, ConfigError> {
    let entries = properties::parse(text)
        .map_err(|error| ConfigError::Syntax { file: file.to_owned(), error })?;
    let mut values = Values::new(file, entries);
    let (data_dir, data_log_dir) = directories(&mut values, overrides)?;
    let (listed, ensemble) = match ensemble::listed(&mut values, &data_dir)? {
        Listed::Alone(listed) => (listed, None),
        Listed::Ensemble(ensemble, listed) => (listed, Some(ensemble)),
    };
    let listen = listen(&mut values, overrides, listed, ensemble.is_some())?;
    let listen_backlog = values.limit("clientPortListenBacklog", 0, "connections")?;
    let keep_alive = values.choice("clientTcpKeepAlive", TRUE, false)?;
    let (tick_ms, min_session_timeout_ms, max_session_timeout_ms) = timeouts(&mut values)?;
    let connections_per_address_max = values.limit("maxClientCnxns", 60, "connections")?;
    let connections_max = values.limit("maxCnxns", 0, "connections")?;
    let handshake_ms = values.number("nio.sessionlessCnxnTimeout", 1..=3_600_000, MS)?;
    let handshake_timeout = Duration::from_millis(handshake_ms.unwrap_or(HANDSHAKE_MS_MAX));
    let outstanding = values.number("globalOutstandingLimit", 1..=i32::MAX as u32, "requests")?;
    let frame_bytes = values.number("jute.maxbuffer", 4096..=FRAME_BYTES_MAX, "bytes")?;
    let frame_bytes_max = frame_bytes.unwrap_or(FRAME_BYTES_DEFAULT);
    let (snapshot_txns, snapshot_log_bytes) = snapshots(&mut values)?;
    let (snapshots_retained, purge_interval) = purge(&mut values)?;
    let segment_bytes = segment_bytes(&mut values)?;
    let group_commit_bytes = values
        .number("ringkeeper.groupCommitBytes", 4096..=GROUP_COMMIT_BYTES_MAX, "bytes")?
        .unwrap_or(GROUP_COMMIT_BYTES_MAX);
    force_sync(&mut values)?;
    let fsync_ms = values.number("fsync.warningthresholdms", 0..=3_600_000, MS)?;
    let auth = auth::policy(&mut values)?;
    let request_throttle = throttle::requests(&mut values)?;
    let large_requests = throttle::large_requests(&mut values)?;
    let connection_throttle = throttle::connections(&mut values)?;
    let extended_types = values.choice("extendedTypesEnabled", TRUE, false)?;
    let reaping = reaping(&mut values)?;
    let enforce_quota = values.choice("enforceQuota", TRUE, false)?;
    let four_letter_words = values.whitelist("4lw.commands.whitelist")?;
    let cores = core_plan(&mut values, cpus)?;
    let ring_depth = ring_depth(&mut values)?;
    let spin_us = values.number("ringkeeper.spinBeforePark", 0..=1_000_000, "microseconds")?;
    leftovers(&mut values)?;
    if auth.rules.skip_acl {
        let means = "ACLs are not checked, so every client may do anything";
        values.notices.push(Notice::Unsafe { file: file.to_owned(), key: "skipACL", means });
    }
    let config = Config {
        listen,
        listen_backlog,
        keep_alive,
        data_dir,
        data_log_dir,
        tick_ms,
        min_session_timeout_ms,
        max_session_timeout_ms,
        connections_per_address_max,
        connections_max,
        handshake_timeout,
        outstanding_max: outstanding.and_then(NonZeroU32::new).unwrap_or(OUTSTANDING),
        frame_bytes_max,
        snapshot_txns,
        snapshot_log_bytes,
        snapshots_retained,
        purge_interval,
        segment_bytes,
        group_commit_bytes,
        fsync_warning: Duration::from_millis(fsync_ms.unwrap_or(1000)),
        request_throttle,
        large_requests,
        connection_throttle,
        auth: Arc::new(auth),
        extended_types,
        reaping,
        enforce_quota,
        ensemble,
        four_letter_words,
        cores,
        ring_depth,
        spin_before_park: Duration::from_micros(spin_us.unwrap_or(0)),
    };
    let keys = values.known().to_vec();
    Ok(Loaded { config, notices: values.notices, keys })
}

const OUTSTANDING: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// `clientPort` and `clientPortAddress`, or what this server's line in the list says behind its
/// semicolon. Of a member's two, which must agree, the list's counts; of a standalone server's the
/// first.
fn listen(
    values: &mut Values,
    overrides: &Overrides,
    listed: ListedClient,
    is_member: bool,
) -> Result<SocketAddr, ConfigError> {
    let port = values.number::<u16>("clientPort", 1..=u16::MAX, "a TCP port")?;
    let host = values.text("clientPortAddress");
    if let Some(listen) = overrides.listen {
        return Ok(listen);
    }
    let fixed = |port| match &host {
        Some(given) => {
            let place = values.place(given.line);
            resolve(place, "clientPortAddress", &given.text, port)
        }
        None => Ok(everywhere(port)),
    };
    match (port, listed) {
        (Some(port), Some((place, client))) if is_member => {
            let fixed = fixed(port)?;
            let listed = resolve(place.clone(), "server", &client.host, client.port)?;
            let agree = if fixed.ip().is_unspecified() {
                fixed.port() == listed.port()
            } else {
                fixed == listed
            };
            if agree {
                Ok(listed)
            } else {
                Err(ConfigError::ClientAddress { place, fixed, listed })
            }
        }
        (Some(port), _) => fixed(port),
        (None, Some((place, client))) => resolve(place, "server", &client.host, client.port),
        (None, None) => {
            let why = "without it the server would have no clients";
            let file = values.file().to_owned();
            Err(ConfigError::Missing { file, key: "clientPort", why })
        }
    }
}

fn resolve(
    place: Place,
    key: &'static str,
    host: &str,
    port: u16,
) -> Result<SocketAddr, ConfigError> {
    if host.is_empty() || host == "0.0.0.0" {
        return Ok(everywhere(port));
    }
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "it has no address");
    let first = (host, port).to_socket_addrs().and_then(|mut all| all.next().ok_or_else(none));
    let given = host.to_owned();
    first.map_err(|error| ConfigError::UnknownHost { place, key, given, error })
}

/// All addresses of the machine, of both families where it has IPv6.
fn everywhere(port: u16) -> SocketAddr {
    let any: IpAddr = match Path::new("/proc/net/if_inet6").exists() {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, port)
}

fn directories(
    values: &mut Values,
    overrides: &Overrides,
) -> Result<(PathBuf, PathBuf), ConfigError> {
    let data = values.directory("dataDir")?;
    let log = values.directory("dataLogDir")?;
    if let Some(both) = &overrides.data_dir {
        return Ok((both.clone(), both.clone()));
    }
    let Some(data) = data else {
        let why = "the server has no place for its data";
        return Err(ConfigError::Missing { file: values.file().to_owned(), key: "dataDir", why });
    };
    let log = log.unwrap_or_else(|| data.clone());
    Ok((data, log))
}

/// `tickTime` and the bounds of session timeouts, milliseconds.
fn timeouts(values: &mut Values) -> Result<(u32, i32, i32), ConfigError> {
    let tick_ms = values.number("tickTime", 1..=TICK_MS_MAX, MS)?.unwrap_or(TICK_MS);
    let mut place = None;
    let mut bound = |values: &mut Values, key, ticks| {
        let Some(given) = values.text(key) else { return Ok(tick_ms as i32 * ticks) };
        place = Some(values.place(given.line));
        match given.text.parse() {
            Ok(-1) => Ok(tick_ms as i32 * ticks),
            Ok(ms) if ms >= 1 => Ok(ms),
            _ => {
                let expected = format!(
                    "a whole number of milliseconds from 1 to {}, or -1 for {ticks} ticks",
                    i32::MAX
                );
                Err(values.wrong(key, &given, expected))
            }
        }
    };
    let min_ms = bound(values, "minSessionTimeout", 2)?;
    let max_ms = bound(values, "maxSessionTimeout", 20)?;
    if min_ms > max_ms {
        let place = place.expect("the defaults are in order");
        return Err(ConfigError::SessionTimeouts { place, min_ms, max_ms });
    }
    Ok((tick_ms, min_ms, max_ms))
}

/// After how many transactions and bytes of log a snapshot is due.
fn snapshots(values: &mut Values) -> Result<(u32, Option<NonZeroU64>), ConfigError> {
    let txns = values.number("snapCount", 2..=i32::MAX as u32, "transactions")?;
    let kib = values.number("snapSizeLimitInKb", -1..=i64::MAX / 1024, "KiB")?;
    let bytes = u64::try_from(kib.unwrap_or(4_194_304)).unwrap_or(0) * 1024;
    Ok((txns.unwrap_or(100_000), NonZeroU64::new(bytes)))
}

/// When containers and TTL znodes go.
fn reaping(values: &mut Values) -> Result<Reaping, ConfigError> {
    let defaults = Reaping::default();
    let interval = values.number("znode.container.checkIntervalMs", 1..=i32::MAX as u64, MS)?;
    let rate = values.number("znode.container.maxPerMinute", 1..=i32::MAX as u64, "znodes")?;
    let unused = values.number("znode.container.maxNeverUsedIntervalMs", 0..=MS_MAX, MS)?;
    Ok(Reaping {
        check_interval_ms: interval.and_then(NonZeroU64::new).unwrap_or(defaults.check_interval_ms),
        per_minute: rate.and_then(NonZeroU64::new).unwrap_or(defaults.per_minute),
        never_used_ms: unused.and_then(NonZeroU64::new),
    })
}

/// How many snapshots stay, and how often the others are removed.
fn purge(values: &mut Values) -> Result<(u32, Option<Duration>), ConfigError> {
    const RETAINED_MIN: u32 = 3;
    const KEY: &str = "autopurge.snapRetainCount";
    let line = values.line(KEY);
    let mut retained =
        values.number(KEY, 0..=i32::MAX as u32, "snapshots")?.unwrap_or(RETAINED_MIN);
    if let Some(line) = line.filter(|_| retained < RETAINED_MIN) {
        values.notices.push(Notice::Raised {
            place: values.place(line),
            key: KEY,
            given: retained.into(),
            to: RETAINED_MIN.into(),
        });
        retained = RETAINED_MIN;
    }
    let hours = values.number("autopurge.purgeInterval", 0..=1_000_000u32, "hours")?.unwrap_or(0);
    let interval = NonZeroU32::new(hours).map(|hours| Duration::from_secs(3600) * hours.get());
    Ok((retained, interval))
}

/// `forceSync`: a write is always durable before it is answered, whatever it says.
fn force_sync(values: &mut Values) -> Result<(), ConfigError> {
    let line = values.line("forceSync");
    if !values.choice("forceSync", YES, true)? {
        let place = values.place(line.expect("the default is yes"));
        let lost = "a write is always durable before it is answered";
        values.notices.push(Notice::NoEffect { place, key: "forceSync".to_owned(), lost });
    }
    Ok(())
}

/// The size of a log file: our own key, or ZooKeeper's `preAllocSize` moved into our range.
fn segment_bytes(values: &mut Values) -> Result<u64, ConfigError> {
    let range = SEGMENT_BYTES_MIN / 1024..=SEGMENT_BYTES_MAX / 1024;
    let pre_allocated = values.number("preAllocSize", 1..=i64::MAX as u64 / 1024, "KiB")?;
    let own = values.number("ringkeeper.segmentSizeKb", range.clone(), "KiB")?;
    let kib = own.or(pre_allocated).unwrap_or(SEGMENT_BYTES_DEFAULT / 1024);
    Ok(kib.clamp(*range.start(), *range.end()) * 1024)
}

/// A power of two, as the kernel wants it.
fn ring_depth(values: &mut Values) -> Result<u32, ConfigError> {
    const KEY: &str = "ringkeeper.ringDepth";
    let Some(given) = values.text(KEY) else { return Ok(RING_DEPTH) };
    match given.text.parse::<u32>() {
        Ok(depth) if (64..=32_768).contains(&depth) && depth.is_power_of_two() => Ok(depth),
        _ => Err(values.wrong(KEY, &given, "a power of two from 64 to 32768")),
    }
}

/// Default of `ringkeeper.ringDepth`.
const RING_DEPTH: u32 = 1024;

/// Keys that were not asked for: known to ZooKeeper or to nobody.
fn leftovers(values: &mut Values) -> Result<(), ConfigError> {
    for (key, given) in values.rest() {
        let place = values.place(given.line);
        match bearing(&key) {
            Some(Bearing::None) => {}
            Some(Bearing::Loses { unless, lost }) => {
                if !unless.iter().any(|default| given.text.eq_ignore_ascii_case(default)) {
                    values.notices.push(Notice::NoEffect { place, key, lost });
                }
            }
            Some(Bearing::Refused { unless, why }) => {
                if !unless.iter().any(|default| given.text.eq_ignore_ascii_case(default)) {
                    return Err(ConfigError::NotSupported { place, key, why });
                }
            }
            None => {
                let near = near(&key, values.known());
                values.notices.push(Notice::UnknownKey { place, key, near });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::word::{FourLetterWord, Whitelist};

    fn cpus() -> BTreeSet<CpuId> {
        (0..4).map(CpuId::new).collect()
    }

    fn parsed(text: &str) -> Result<Loaded, ConfigError> {
        parse(Path::new("zoo.cfg"), text.as_bytes(), &Overrides::default(), &cpus())
    }

    /// The configuration with `lines` behind the two that every file needs.
    fn with(lines: &str) -> Config {
        let loaded = parsed(&format!("dataDir=/d\nclientPort=2181\n{lines}")).unwrap();
        let safe = |notice: &&Notice| !matches!(notice, Notice::Unsafe { .. });
        assert_eq!(loaded.notices.iter().filter(safe).count(), 0, "{lines}");
        loaded.config
    }

    fn refusal(lines: &str) -> String {
        parsed(&format!("dataDir=/d\nclientPort=2181\n{lines}")).unwrap_err().to_string()
    }

    fn notices(lines: &str) -> Vec<String> {
        let loaded = parsed(&format!("dataDir=/d\nclientPort=2181\n{lines}")).unwrap();
        loaded.notices.iter().map(Notice::to_string).collect()
    }

    #[test]
    fn a_short_file_has_zookeepers_defaults() {
        let config = with("");
        assert_eq!(config.listen.port(), 2181);
        assert!(config.listen.ip().is_unspecified());
        assert_eq!(config.listen_backlog, None);
        assert_eq!(
            (config.data_dir.to_str(), config.data_log_dir.to_str()),
            (Some("/d"), Some("/d"))
        );
        assert_eq!(config.tick_ms, 3000);
        assert_eq!((config.min_session_timeout_ms, config.max_session_timeout_ms), (6000, 60_000));
        assert_eq!(config.connections_per_address_max.map(NonZeroU32::get), Some(60));
        assert_eq!(config.connections_max, None);
        assert_eq!(config.handshake_timeout, Duration::from_secs(10));
        assert_eq!(config.outstanding_max.get(), 1000);
        assert_eq!(config.frame_bytes_max, 0xf_ffff);
        assert_eq!(config.snapshot_txns, 100_000);
        assert_eq!(config.snapshot_log_bytes.map(NonZeroU64::get), Some(4 << 30));
        assert_eq!((config.snapshots_retained, config.purge_interval), (3, None));
        assert_eq!(config.segment_bytes, 64 << 20);
        assert!(!config.auth.rules.skip_acl && !config.extended_types && !config.enforce_quota);
        assert_eq!(config.reaping, Reaping::default());
        assert_eq!(config.fsync_warning, Duration::from_secs(1));
        assert_eq!(config.four_letter_words, Whitelist::SRVR);
        assert_eq!(config.cores.reactors.len(), 3);
        assert_eq!(config.spin_before_park, Duration::ZERO);
    }

    #[test]
    fn without_a_file_the_server_is_on_loopback_only() {
        let Loaded { config, notices, .. } = load(None, &Overrides::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:2181");
        assert_eq!(config.data_dir, Path::new("ringkeeper-data"));
        assert_eq!(notices, []);
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let overrides = Overrides {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            data_dir: Some("/elsewhere".into()),
        };
        let text = b"dataDir=/d\ndataLogDir=/l\nclientPort=2181";
        let config = parse(Path::new("zoo.cfg"), text, &overrides, &cpus()).unwrap().config;
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.data_dir, Path::new("/elsewhere"));
        assert_eq!(config.data_log_dir, Path::new("/elsewhere"));
    }

    #[test]
    fn every_key_takes_effect() {
        let config = with(
            "dataLogDir=/l\ntickTime=500\nminSessionTimeout=700\nmaxSessionTimeout=900\n\
             clientPortAddress=127.0.0.1\nclientPortListenBacklog=5\nclientTcpKeepAlive=true\n\
             maxClientCnxns=0\nmaxCnxns=7\nnio.sessionlessCnxnTimeout=50\n\
             globalOutstandingLimit=9\njute.maxbuffer=4194304\nsnapCount=11\n\
             snapSizeLimitInKb=12\nautopurge.snapRetainCount=13\nautopurge.purgeInterval=14\n\
             preAllocSize=2048\nforceSync=yes\nfsync.warningthresholdms=15\n\
             DigestAuthenticationProvider.superDigest=super:abc=\nskipACL=yes\n\
             extendedTypesEnabled=TRUE\nenforceQuota=true\n\
             znode.container.checkIntervalMs=16\nznode.container.maxPerMinute=17\n\
             znode.container.maxNeverUsedIntervalMs=18\n\
             4lw.commands.whitelist=ruok, mntr\n\
             ringkeeper.ringDepth=256\nringkeeper.spinBeforePark=20\n\
             ringkeeper.groupCommitBytes=65536\nringkeeper.reactors=2\n\
             ringkeeper.reactorCores=1-2\nringkeeper.consensusCore=none\n",
        );
        assert_eq!(config.listen.to_string(), "127.0.0.1:2181");
        assert_eq!(config.data_log_dir, Path::new("/l"));
        assert_eq!(
            (config.tick_ms, config.min_session_timeout_ms, config.max_session_timeout_ms),
            (500, 700, 900)
        );
        assert_eq!(config.listen_backlog.map(NonZeroU32::get), Some(5));
        assert!(config.keep_alive);
        assert_eq!(config.connections_per_address_max, None);
        assert_eq!(config.connections_max.map(NonZeroU32::get), Some(7));
        assert_eq!(config.handshake_timeout, Duration::from_millis(50));
        assert_eq!(config.outstanding_max.get(), 9);
        assert_eq!(config.frame_bytes_max, 4 << 20);
        assert_eq!(config.snapshot_txns, 11);
        assert_eq!(config.snapshot_log_bytes.map(NonZeroU64::get), Some(12 * 1024));
        assert_eq!(config.snapshots_retained, 13);
        assert_eq!(config.purge_interval, Some(Duration::from_secs(14 * 3600)));
        assert_eq!(config.segment_bytes, 2 << 20);
        assert!(config.auth.rules.skip_acl && config.extended_types && config.enforce_quota);
        let Reaping { check_interval_ms, per_minute, never_used_ms } = config.reaping;
        assert_eq!((check_interval_ms.get(), per_minute.get()), (16, 17));
        assert_eq!(never_used_ms.map(NonZeroU64::get), Some(18));
        assert_eq!(config.fsync_warning, Duration::from_millis(15));
        assert!(config.auth.super_digest.as_ref().is_some_and(|digest| digest.is("super:abc=")));
        assert!(config.four_letter_words.allows(FourLetterWord::Mntr));
        assert!(!config.four_letter_words.allows(FourLetterWord::Stat));
        assert_eq!(config.ring_depth, 256);
        assert_eq!(config.spin_before_park, Duration::from_micros(20));
        assert_eq!(config.group_commit_bytes, 65_536);
        assert_eq!(config.cores.reactors, [Some(CpuId::new(1)), Some(CpuId::new(2))]);
        assert_eq!(config.cores.consensus, None);
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line_and_what_was_expected() {
        for (lines, message) in [
            (
                "tickTime=abc",
                "zoo.cfg:3: tickTime is \"abc\", expected a whole number of milliseconds from 1 to 107374182",
            ),
            (
                "\n# comment\ntickTime=0",
                "zoo.cfg:5: tickTime is \"0\", expected a whole number of milliseconds from 1 to 107374182",
            ),
            (
                "snapCount=",
                "zoo.cfg:3: snapCount is \"\", expected a whole number of transactions from 2 to 2147483647",
            ),
            (
                "minSessionTimeout=0",
                "zoo.cfg:3: minSessionTimeout is \"0\", expected a whole number of milliseconds from 1 to 2147483647, or -1 for 2 ticks",
            ),
            (
                "minSessionTimeout=99999999",
                "zoo.cfg:3: minSessionTimeout (99999999 ms) is larger than maxSessionTimeout (60000 ms)",
            ),
            ("forceSync=true", "zoo.cfg:3: forceSync is \"true\", expected yes or no"),
            (
                "extendedTypesEnabled=1",
                "zoo.cfg:3: extendedTypesEnabled is \"1\", expected true or false",
            ),
            (
                "4lw.commands.whitelist=ruok,mntrr",
                "zoo.cfg:3: 4lw.commands.whitelist is \"ruok,mntrr\", expected * or some of conf, cons, crst, dirs, dump, envi, gtmk, hash, isro, mntr, ruok, srst, srvr, stat, stmk, wchc, wchp, wchs, separated by commas",
            ),
            (
                "DigestAuthenticationProvider.superDigest=secret",
                "zoo.cfg:3: DigestAuthenticationProvider.superDigest is \"(not shown)\", expected USER:HASH, the hash in base64",
            ),
            (
                "ringkeeper.ringDepth=1000",
                "zoo.cfg:3: ringkeeper.ringDepth is \"1000\", expected a power of two from 64 to 32768",
            ),
            (
                "ringkeeper.reactors=0",
                "zoo.cfg:3: ringkeeper.reactors is \"0\", expected a whole number of reactors from 1 to 256",
            ),
            (
                "ringkeeper.reactorCores=one",
                "zoo.cfg:3: ringkeeper.reactorCores is \"one\", expected auto, none or cpus such as 0-3,8",
            ),
            (
                "ringkeeper.consensusCore=9",
                "zoo.cfg:3: ringkeeper.consensusCore: this process may not run on cpu 9, only on 0-3",
            ),
            (
                "ringkeeper.consensusCore=0-1",
                "zoo.cfg:3: ringkeeper.consensusCore is \"0-1\", expected auto, none or one cpu",
            ),
            (
                "ringkeeper.reactors=3\nringkeeper.reactorCores=0-1",
                "zoo.cfg:4: ringkeeper.reactorCores names 2 cpus for 3 reactors",
            ),
            ("a=\\u12", "zoo.cfg:3: a \\u escape needs four hexadecimal digits"),
        ] {
            assert_eq!(refusal(lines), message);
        }
    }

    #[test]
    fn what_the_server_cannot_do_without_is_missed_by_name() {
        let missing = |text| parsed(text).unwrap_err().to_string();
        assert_eq!(
            missing("clientPort=2181"),
            "zoo.cfg: dataDir is missing: the server has no place for its data"
        );
        assert_eq!(
            missing("dataDir=/d"),
            "zoo.cfg: clientPort is missing: without it the server would have no clients"
        );
    }

    #[test]
    fn an_unknown_key_is_named_and_its_neighbour_guessed() {
        assert_eq!(
            notices("ticktime=1\nnonsense=2\nzookeeper.snapCount=3"),
            [
                "zoo.cfg:4: nonsense is not a key that ZooKeeper or Ringkeeper knows; it is ignored",
                "zoo.cfg:3: ticktime is not a key that ZooKeeper or Ringkeeper knows; it is ignored (is tickTime meant?)",
                "zoo.cfg:5: zookeeper.snapCount is not a key that ZooKeeper or Ringkeeper knows; it is ignored (is snapCount meant?)",
            ]
        );
    }

    #[test]
    fn a_known_key_is_mentioned_only_if_something_is_lost() {
        assert_eq!(
            notices("admin.serverPort=8080\ninitLimit=5\nsyncLimit=2\nflushDelay=3"),
            [""; 0]
        );
        assert_eq!(
            notices("admin.serverPort=9090"),
            [
                "zoo.cfg:3: admin.serverPort has no effect yet: there is no HTTP admin server yet; four-letter words are"
            ]
        );
    }

    #[test]
    fn giving_up_safety_is_mentioned() {
        assert_eq!(
            notices("forceSync=no\nskipACL=yes"),
            [
                "zoo.cfg:3: forceSync has no effect yet: a write is always durable before it is answered",
                "zoo.cfg: skipACL: ACLs are not checked, so every client may do anything",
            ]
        );
        assert_eq!(notices("forceSync=yes\nskipACL=no"), [""; 0]);
    }

    #[test]
    fn a_double_key_counts_where_it_stands_last() {
        let loaded = parsed("dataDir=/a\nclientPort=1\ndataDir=/b").unwrap();
        assert_eq!(loaded.config.data_dir, Path::new("/b"));
        assert_eq!(
            loaded.notices[0].to_string(),
            "zoo.cfg:3: dataDir is on line 1 already; this line counts"
        );
    }

    #[test]
    fn too_few_retained_snapshots_are_raised_to_three() {
        assert_eq!(
            notices("autopurge.snapRetainCount=1"),
            ["zoo.cfg:3: autopurge.snapRetainCount is 1, which is raised to 3"]
        );
    }

    #[test]
    fn what_would_make_another_server_is_refused() {
        assert_eq!(
            refusal("secureClientPort=2281"),
            "zoo.cfg:3: secureClientPort: Ringkeeper does not serve TLS yet"
        );
    }

    #[test]
    fn a_list_of_one_server_starts_standalone() {
        let text = "dataDir=/d\nserver.1=localhost:2888:3888:participant;127.0.0.1:2182";
        let loaded = parsed(text).unwrap();
        assert_eq!(loaded.config.listen.to_string(), "127.0.0.1:2182");
        assert_eq!(loaded.notices.len(), 1);
        let loaded = parsed("dataDir=/d\nserver.1=localhost:2888:3888;2183").unwrap();
        assert_eq!(loaded.config.listen.port(), 2183);
    }

    #[test]
    fn an_address_that_does_not_exist_is_refused() {
        let message = refusal("clientPortAddress=no-such-host.invalid");
        assert!(
            message.starts_with("zoo.cfg:3: clientPortAddress is \"no-such-host.invalid\": "),
            "{message}"
        );
    }
}
