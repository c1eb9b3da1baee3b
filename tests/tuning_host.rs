//! tuning/host on hosts that are folders: what it finds, and that it changes what it is told to,
//! nothing else, and back again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A host that saves power, with two cores of two threads each.
const FILES: [(&str, &str); 24] = [
    ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
    ("proc/sys/kernel/numa_balancing", "1\n"),
    ("proc/sys/net/core/somaxconn", "128\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "8192\n"),
    ("proc/irq/33/smp_affinity_list", "0-3\n"),
    ("proc/irq/34/smp_affinity_list", "0\n"),
    ("proc/self/mounts", "/dev/sda1 / ext4 rw,noatime 0 0\ntmpfs /fast tmpfs rw 0 0\n"),
    ("sys/block/sda/sda1/partition", "1\n"),
    ("sys/block/sda/queue/rotational", "1\n"),
    ("sys/block/sda/queue/scheduler", "none [bfq] mq-deadline\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "schedutil\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/latency", "133\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/name", "C6\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "0\n"),
    ("sys/devices/system/cpu/smt/active", "1\n"),
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2\n"),
    ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,3\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
    ("sys/kernel/mm/transparent_hugepage/defrag", "[always] defer madvise never\n"),
    ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
];

struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Host {
        let folder = TempDir::new().unwrap();
        for (path, text) in FILES {
            let path = folder.path().join("host").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Host { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/host");
        Command::new(script)
            .args(["--data-dir", "/var/lib/ringkeeper", "--root"])
            .arg(self.root())
            .arg("--state")
            .arg(self.folder.path().join("state/host.json"))
            .args(arguments)
            .output()
            .expect("python3 runs tuning/host")
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    /// Every file of the host.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), fs::read_to_string(path).unwrap());
                }
            }
        }
        files
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap().trim().to_owned()
    }
}

#[test]
fn every_finding_is_a_line_and_nothing_is_changed() {
    let host = Host::new();
    let before = host.files();
    let output = host.run(&["--cpus", "0,2", "check"]);
    assert_eq!(output.status.code(), Some(1), "there is something bad");
    let text = String::from_utf8(output.stdout).unwrap();
    for finding in [
        "ok   kernel      Linux 6.1.0-18-amd64",
        "bad  io_uring    kernel.io_uring_disabled=2",
        "bad  governor    powersave on some CPUs",
        "bad  c-states    deep sleep is on: C6 (133 us)",
        "note smt         hardware threads share cores: 0,2",
        "note irq         2 interrupts may come to CPUs 0,2",
        "bad  thp         never",
        "bad  thp         defrag is always",
        "bad  sockets     net.core.somaxconn=128, at least 4096 is wanted",
        "bad  cpu-quota   limited to 1.5 CPUs",
        "ok   disk        ext4 on /",
        "note disk        sda says that it rotates",
        "note disk        sda has the scheduler bfq",
    ] {
        assert!(text.contains(finding), "{finding:?} is missing in\n{text}");
    }
    assert!(!text.contains("1,3"), "the other core is not the server's\n{text}");
    host.says(&["--cpus", "0", "apply", "governor", "thp", "irq", "--dry-run"]);
    host.says(&["explain", "irq", "governor"]);
    assert_eq!(host.files(), before);
}

#[test]
fn what_is_applied_is_remembered_and_put_back() {
    let host = Host::new();
    let before = host.files();
    let applied = host.run(&["--cpus", "0", "apply", "governor", "irq", "c-states"]);
    assert!(applied.status.success(), "{applied:?}");
    let governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    assert_eq!(host.read(governor), "performance");
    assert_eq!(host.read("proc/irq/33/smp_affinity_list"), "1-3");
    assert_eq!(host.read("proc/irq/34/smp_affinity_list"), "1-3");
    assert_eq!(host.read("sys/devices/system/cpu/cpu0/cpuidle/state2/disable"), "1");
    let other = "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor";
    assert_eq!(host.read(other), "schedutil", "that CPU is not the server's");
    // Applied again, what was there first is what is put back.
    assert!(host.run(&["--cpus", "0", "apply", "governor"]).status.success());
    assert!(host.run(&["revert", "governor"]).status.success());
    assert_eq!(host.read(governor), "powersave");
    assert!(host.run(&["revert", "--all"]).status.success());
    let trimmed = |files: BTreeMap<PathBuf, String>| -> BTreeMap<_, _> {
        files.into_iter().map(|(path, text)| (path, text.trim().to_owned())).collect()
    };
    assert_eq!(trimmed(host.files()), trimmed(before));
    assert!(host.says(&["revert", "governor"]).contains("never applied"));
}

#[test]
fn bad_requests_change_nothing_and_say_what_is_wrong() {
    let host = Host::new();
    let before = host.files();
    for (arguments, said) in [
        (&["apply"][..], "apply what?"),
        (&["apply", "everything"], "no item is called everything"),
        (&["apply", "governor", "kernel"], "kernel cannot be applied: install a newer kernel"),
        (&["revert"], "revert what?"),
        (&["--cpus", "one", "check"], "a list like 0-3,8 is wanted"),
    ] {
        let output = host.run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    assert_eq!(host.files(), before);
}
