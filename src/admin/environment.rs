//! `conf`, `dirs` and `envi`: how the server was set up, and on what machine.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::status::VERSION;
use crate::config::settings::Config;

/// The folders that hold this server's files.
#[derive(Clone, Debug)]
pub struct Folders {
    pub snapshots: PathBuf,
    pub log: PathBuf,
}

/// `conf`.
pub fn conf(out: &mut String, config: &Config, port: u16, folders: &Folders) {
    writeln!(out, "clientPort={port}").unwrap();
    out.push_str("secureClientPort=-1\n");
    writeln!(out, "dataDir={}", folders.snapshots.display()).unwrap();
    writeln!(out, "dataDirSize={}", size(&folders.snapshots)).unwrap();
    writeln!(out, "dataLogDir={}", folders.log.display()).unwrap();
    writeln!(out, "dataLogSize={}", size(&folders.log)).unwrap();
    writeln!(out, "tickTime={}", config.tick_ms).unwrap();
    let per_address = config.connections_per_address_max.map_or(0, |max| max.get());
    writeln!(out, "maxClientCnxns={per_address}").unwrap();
    writeln!(out, "minSessionTimeout={}", config.min_session_timeout_ms).unwrap();
    writeln!(out, "maxSessionTimeout={}", config.max_session_timeout_ms).unwrap();
    let backlog = config.listen_backlog.map_or(-1, |backlog| i64::from(backlog.get()));
    writeln!(out, "clientPortListenBacklog={backlog}").unwrap();
    out.push_str("serverId=0\n");
}

/// `dirs`.
pub fn dirs(out: &mut String, folders: &Folders) {
    writeln!(out, "datadir_size: {}", size(&folders.snapshots)).unwrap();
    writeln!(out, "logdir_size: {}", size(&folders.log)).unwrap();
}

/// Bytes of the files in `folder`. A file that vanishes meanwhile counts nothing.
fn size(folder: &Path) -> u64 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// `envi`. The properties of a JVM (`java.*`) are left out; memory is the machine's, not a heap's.
pub fn envi(out: &mut String) {
    let kernel = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name));
        text.map_or_else(|_| "<NA>".to_owned(), |text| text.trim().to_owned())
    };
    let variable = |name: &str| std::env::var(name).ok();
    let user_id = || fs::metadata("/proc/self").map_or(0, |process| process.uid()).to_string();
    let directory = std::env::current_dir().unwrap_or_default();
    out.push_str("Environment:\n");
    writeln!(out, "zookeeper.version={VERSION}").unwrap();
    writeln!(out, "host.name={}", kernel("hostname")).unwrap();
    out.push_str("os.name=Linux\n");
    writeln!(out, "os.arch={}", java_architecture(std::env::consts::ARCH)).unwrap();
    writeln!(out, "os.version={}", kernel("osrelease")).unwrap();
    writeln!(out, "user.name={}", variable("USER").unwrap_or_else(user_id)).unwrap();
    writeln!(out, "user.home={}", variable("HOME").unwrap_or_else(|| "?".to_owned())).unwrap();
    writeln!(out, "user.dir={}", directory.display()).unwrap();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    writeln!(out, "os.memory.free={}MB", mebibytes(&memory, "MemAvailable:")).unwrap();
    writeln!(out, "os.memory.max={}MB", mebibytes(&memory, "MemTotal:")).unwrap();
    writeln!(out, "os.memory.total={}MB", mebibytes(&memory, "MemTotal:")).unwrap();
}

fn java_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        same => same,
    }
}

/// A line of /proc/meminfo, which counts KiB.
fn mebibytes(meminfo: &str, field: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0u64) / 1024
}

/// File descriptors that the process has open, and how many it may have.
pub fn file_descriptors() -> (u64, u64) {
    let open = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next())
        .map_or(0, |soft| soft.parse().unwrap_or(u64::MAX));
    (open, soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_mebibytes() {
        let meminfo = "MemTotal:        8130000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(mebibytes(meminfo, "MemTotal:"), 7939);
        assert_eq!(mebibytes(meminfo, "MemAvailable:"), 2);
        assert_eq!(mebibytes(meminfo, "Nothing:"), 0);
    }

    #[test]
    fn the_process_has_open_files_and_a_limit() {
        let (open, limit) = file_descriptors();
        assert!(open > 0 && limit >= open, "{open} of {limit}");
    }
}
