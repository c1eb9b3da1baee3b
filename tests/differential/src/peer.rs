//! The two servers: Ringkeeper, and a ZooKeeper from Debian's packages or another classpath.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::client::four_letter_word;
use harness::server::{Server, Setup};
use tempfile::TempDir;

use crate::play::SUPER_DIGEST;

/// Where Debian's packages `zookeeper` and `default-jre-headless` put what the server needs.
const DEBIAN_JARS: [&str; 14] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "metrics-core",
    "netty-handler",
    "netty-common",
    "netty-buffer",
    "netty-transport",
    "netty-codec",
    "netty-resolver",
    "snappy-java",
    "commons-cli",
    "commons-io",
];

/// Longest wait for a four-letter word's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which ZooKeeper the peer is, as far as it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 3.8.0 and its like.
    V38,
    /// 3.9, the specification.
    V39,
}

/// How both servers are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    lines: &'static [&'static str],
    /// How often containers and TTL znodes are looked at, milliseconds.
    check_interval_ms: u32,
}

/// Never, as far as a script can tell: nothing must go in the middle of it.
const NEVER_MS: u32 = 86_400_000;

/// The profiles that a run may choose from.
pub const PROFILES: [Profile; 5] = [
    Profile {
        name: "full",
        lines: &["extendedTypesEnabled=true", "enforceQuota=true"],
        check_interval_ms: NEVER_MS,
    },
    Profile { name: "defaults", lines: &[], check_interval_ms: NEVER_MS },
    Profile {
        name: "skip-acl",
        lines: &["skipACL=yes", "extendedTypesEnabled=true"],
        check_interval_ms: NEVER_MS,
    },
    Profile {
        name: "enforce-auth",
        lines: &["enforce.auth.enabled=true", "enforce.auth.schemes=digest"],
        check_interval_ms: NEVER_MS,
    },
    Profile { name: "reaping", lines: &["extendedTypesEnabled=true"], check_interval_ms: 200 },
];

/// The profile of this name.
pub fn profile(name: &str) -> Option<Profile> {
    PROFILES.into_iter().find(|profile| profile.name == name)
}

/// The classpath of Debian's ZooKeeper, if it is installed.
pub fn debian_classpath() -> Option<String> {
    let jars = DEBIAN_JARS.map(|jar| format!("/usr/share/java/{jar}.jar"));
    jars.iter().all(|jar| Path::new(jar).exists()).then(|| jars.join(":"))
}

/// A server and its folder.
pub struct Peer {
    /// The process.
    pub server: Server,
    _folder: TempDir,
}

/// Starts Ringkeeper from its binary.
///
/// # Panics
/// When it does not serve in time; the message holds what it said.
pub fn ringkeeper(program: &Path, profile: Profile) -> io::Result<Peer> {
    // It runs in a folder of its own.
    let found = program
        .canonicalize()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())));
    start(|_| found, profile)
}

/// Starts ZooKeeper from this classpath.
///
/// # Panics
/// When it does not serve in time; the message holds what it said.
pub fn zookeeper(classpath: &str, profile: Profile) -> io::Result<Peer> {
    // The harness starts `PROGRAM server ZOO.CFG`.
    let launcher = |folder: &Path| -> io::Result<PathBuf> {
        let path = folder.join("zookeeper");
        let check_interval_ms = profile.check_interval_ms;
        // This key is read from the command line only.
        let script = format!(
            "#!/bin/sh\nexec java -Xmx256m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
             -Dznode.container.checkIntervalMs={check_interval_ms} -cp '{classpath}' \
             org.apache.zookeeper.server.quorum.QuorumPeerMain \"$2\"\n"
        );
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    };
    start(launcher, profile)
}

fn start(program: impl FnOnce(&Path) -> io::Result<PathBuf>, profile: Profile) -> io::Result<Peer> {
    let folder = tempfile::tempdir()?;
    let mut setup =
        Setup::of_program(program(folder.path())?, &folder.path().join("data"), folder.path())
            .with("tickTime=2000")
            .with("snapCount=1000000")
            .with("forceSync=no")
            .with("preAllocSize=4096")
            .with(&format!("znode.container.checkIntervalMs={}", profile.check_interval_ms))
            .with(&format!("DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"));
    for line in profile.lines {
        setup = setup.with(line);
    }
    let server = setup.start();
    Ok(Peer { server, _folder: folder })
}

impl Peer {
    /// Whether it runs, and what it said, for a message.
    pub fn state(&mut self) -> String {
        let ended = if self.server.is_running() { "it runs" } else { "it has ended" };
        format!("{ended}:\n{}", self.server.output())
    }

    /// Which ZooKeeper this is, by what it says of itself.
    pub fn release(&self) -> io::Result<Release> {
        let said = four_letter_word(self.server.address, "srvr", PATIENCE)?;
        let is_38 = said.lines().any(|line| line.starts_with("Zookeeper version: 3.8."));
        Ok(if is_38 { Release::V38 } else { Release::V39 })
    }
}
