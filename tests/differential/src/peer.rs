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
}

/// The profiles that a run may choose from.
pub const PROFILES: [Profile; 4] = [
    Profile { name: "full", lines: &["extendedTypesEnabled=true", "enforceQuota=true"] },
    Profile { name: "defaults", lines: &[] },
    Profile { name: "skip-acl", lines: &["skipACL=yes", "extendedTypesEnabled=true"] },
    Profile {
        name: "enforce-auth",
        lines: &["enforce.auth.enabled=true", "enforce.auth.schemes=digest"],
    },
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
    start(|_| Ok(program.to_owned()), profile)
}

/// Starts ZooKeeper from this classpath.
///
/// # Panics
/// When it does not serve in time; the message holds what it said.
pub fn zookeeper(classpath: &str, profile: Profile) -> io::Result<Peer> {
    // The harness starts `PROGRAM server ZOO.CFG`.
    let launcher = |folder: &Path| -> io::Result<PathBuf> {
        let path = folder.join("zookeeper");
        // Containers and TTL znodes must not go in the middle of a script. This key is read from
        // the command line only.
        let script = format!(
            "#!/bin/sh\nexec java -Xmx256m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
             -Dznode.container.checkIntervalMs=86400000 -cp '{classpath}' \
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
            .with("znode.container.checkIntervalMs=86400000")
            .with(&format!("DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"));
    for line in profile.lines {
        setup = setup.with(line);
    }
    let server = setup.start();
    Ok(Peer { server, _folder: folder })
}

impl Peer {
    /// Which ZooKeeper this is, by what it says of itself.
    pub fn release(&self) -> io::Result<Release> {
        let said = four_letter_word(self.server.address, "srvr", PATIENCE)?;
        let is_38 = said.lines().any(|line| line.starts_with("Zookeeper version: 3.8."));
        Ok(if is_38 { Release::V38 } else { Release::V39 })
    }
}
