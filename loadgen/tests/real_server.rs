//! Whole runs against Ringkeeper itself: that its server takes what each workload asks for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::server::{Server, Setup};
use tempfile::TempDir;

const LOADGEN: &str = env!("CARGO_BIN_EXE_ringkeeper-loadgen");

/// What all runs have. They test what is said, not how fast.
const SHORT: &str = "--warm-up 50ms --keys 20 --connections 3";

/// How long a round measures. A short one does, unless the machine or its disk does something else
/// meanwhile: then the next.
const DURATIONS: [&str; 3] = ["500ms", "5s", "30s"];

fn server(folder: &TempDir) -> Server {
    Setup::new(program().to_str().unwrap(), &folder.path().join("data"), folder.path()).start()
}

fn run(server: &Server, options: &str) -> Output {
    Command::new(LOADGEN)
        .args(["--servers", &server.address.to_string()])
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

/// The server that was built beside the load generator.
fn program() -> PathBuf {
    let program = Path::new(LOADGEN).with_file_name("ringkeeper");
    assert!(program.exists(), "no {}: cargo build -p ringkeeper", program.display());
    program
}

/// A run that must go well; gives its JSON.
fn good_run(server: &Server, options: &str) -> serde_json::Value {
    let output = run(server, options);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{options}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{options}: {error}: {out}{err}"))
}

/// A run whose rounds all measured something.
fn measured(server: &Server, options: &str) -> serde_json::Value {
    for duration in DURATIONS {
        let output = run(server, &format!("{options} --duration {duration} --quiet --json"));
        let report: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let rounds = report.as_ref().and_then(|report| report["rounds"].as_array());
        let some = |round: &serde_json::Value| round["requests"].as_u64() > Some(0);
        if rounds.is_some_and(|rounds| !rounds.is_empty() && rounds.iter().all(some)) {
            assert_eq!(output.status.code(), Some(0), "{options}: {report:#?}");
            return report.expect("it has rounds");
        }
    }
    panic!("{options}: no round of {DURATIONS:?} measured anything");
}

#[test]
fn the_server_takes_every_workload() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    for options in [
        "--workload get",
        "--workload get --distribution zipf",
        "--workload set",
        "--workload exists",
        "--workload children --name-size 50",
        "--workload create",
        "--workload create --sequential",
        "--workload delete --keys 300",
        "--workload cycle --in-flight 4",
        "--workload multi",
        "--workload mixed --read-share 0",
        "--workload raftkeeper --in-flight 8",
        "--workload mixed --rate 500 --in-flight 4",
    ] {
        let report = measured(&server, &format!("{SHORT} {options}"));
        assert_eq!(report["ok"], true, "{options}: {report:#}");
    }
}

#[test]
fn the_server_takes_sessions_that_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    for options in [
        "--workload session --warm-up 0s --connections 8",
        "--workload session --warm-up 0s --connections 8 --driver epoll",
    ] {
        let report = measured(&server, options);
        assert!(report["rounds"][0]["latency_us"]["count"].as_u64() > Some(0), "{report:#}");
    }
    for options in [
        "--workload storm --connections 200 --threads 2 --rounds 2",
        "--workload storm --connections 200 --driver epoll",
    ] {
        let report = good_run(&server, &format!("{options} --quiet --json"));
        assert!(report["rounds"][0]["latency_us"]["count"].as_u64() > Some(5), "{report:#}");
    }
}

#[test]
fn every_watcher_is_told_of_every_write() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    for options in ["--threads 1 --driver epoll", "--threads 3"] {
        let line = "--workload watch --connections 40 --warm-up 0s --rounds 2";
        let report = measured(&server, &format!("{line} {options}"));
        for round in report["rounds"].as_array().unwrap() {
            let count = |name: &str| {
                let operations = round["operations"].as_array().unwrap();
                let found = operations.iter().find(|operation| operation["name"] == name).unwrap();
                found["latency_us"]["count"].as_u64().unwrap()
            };
            let sets = count("set");
            assert!(sets > 0, "{round:#}");
            assert_eq!([count("first"), count("last")], [sets; 2], "{round:#}");
            assert_eq!(count("event"), 39 * sets, "{round:#}");
            assert_eq!(round["latency_us"]["count"], 39 * sets, "events alone: {round:#}");
            assert!(round["requests"].as_u64().unwrap() <= 39 * sets, "{round:#}");
        }
    }
}

#[test]
fn an_experiment_takes_its_figures_from_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (grid, out) = (folder.path().join("grid.toml"), folder.path().join("out"));
    let declared = "repeats = 1\n[server]\nringkeeper.segmentSizeKb = 1024\n\
                    ringkeeper.ringDepth = [64, 1024]\n\
                    [[load]]\nworkload = \"get\"\nkeys = 20\n\
                    duration = \"500ms\"\nwarm-up = \"50ms\"\n";
    std::fs::write(&grid, declared).unwrap();
    let run = |again: &[&str]| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/experiment");
        let mut line = Command::new(script);
        line.args(["run".as_ref(), grid.as_os_str(), "--out".as_ref(), out.as_os_str()])
            .args(["--data-dir".as_ref(), folder.path(), "--loadgen".as_ref(), LOADGEN.as_ref()])
            .args(["--server".as_ref(), program().as_os_str()])
            .args(again);
        line.output().expect("python3 runs tuning/experiment")
    };
    let mut ran = run(&[]);
    // On a machine with much else to do a short window may pass without a reply; that is a run that
    // failed, and so it may be run again.
    for _ in 0..10 {
        if ran.status.code() != Some(1) {
            break;
        }
        ran = run(&["--retry-failed"]);
    }
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let rows = std::fs::read_to_string(out.join("runs.csv")).unwrap();
    let mut lines = rows.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').collect();
    let figure = |line: &str, column: &str| -> f64 {
        let at = columns.iter().position(|it| *it == column).expect(column);
        line.split(',').nth(at).unwrap().parse().unwrap_or_else(|_| panic!("{column}: {rows}"))
    };
    let runs: Vec<_> = lines.filter(|line| line.contains(",ok,")).collect();
    assert_eq!(runs.len(), 2, "{rows}");
    for run in runs {
        assert!(figure(run, "requests_per_second") > 0.0, "{rows}");
        assert!(figure(run, "p50_us") <= figure(run, "p99.9_us"), "{rows}");
        assert_eq!(figure(run, "errors") + figure(run, "connections_failed"), 0.0, "{rows}");
        assert!(figure(run, "busy") > 0.0 && figure(run, "p99_us") > 0.0, "{rows}");
    }
}
