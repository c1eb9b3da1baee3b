//! tuning/experiment with real servers and a load generator that only says that it loaded them:
//! every run is a row, whatever fails or interrupts it, and no server stays behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");
/// A condition that never comes fails the test; a machine that is busy elsewhere must not.
const PATIENCE: Duration = Duration::from_secs(600);

/// As ringkeeper-loadgen: 2 for what it does not know, 1 where nobody listens. Thirteen connections
/// fail; seventeen wait until there is a file `go` beside the script.
const LOADGEN: &str = r#"#!/usr/bin/env python3
import json, os, socket, sys, time
if sys.argv[1:] == ["--version"]:
    sys.exit(print("ringkeeper-loadgen 9.8.7"))
given = dict(it.removeprefix("--").split("=") for it in sys.argv[1:] if "=" in it)
if not set(given) <= {"workload", "connections", "duration", "seed"}:
    sys.exit(print("error: unexpected argument '--in-fright' found", file=sys.stderr) or 2)
if given.get("workload") == "got":
    sys.exit(print("error: invalid value 'got' for '--workload <WORKLOAD>'", file=sys.stderr) or 2)
host, port = sys.argv[sys.argv.index("--servers") + 1].split(":")
try:
    with socket.create_connection((host, int(port))) as server:
        server.sendall(b"srvr")
        assert b"Zookeeper version" in server.recv(1000)
except ConnectionRefusedError:
    sys.exit(print("ringkeeper-loadgen: set-up: refused", file=sys.stderr) or 1)
connections = int(given.get("connections", 1))
if connections == 13:
    sys.exit(print("ringkeeper-loadgen: thirteen is\ntoo many", file=sys.stderr) or 1)
here = os.path.dirname(os.path.abspath(__file__))
if connections == 17:
    open(os.path.join(here, "waiting"), "w").close()
    while not os.path.exists(os.path.join(here, "go")):
        time.sleep(0.02)
latency = {it: 10.0 + connections for it in ("mean", "p50", "p90", "p99", "p99.9", "p99.99", "max")}
print(json.dumps({"rounds": [{"requests": 500, "requests_per_second": 1000.0 * connections,
    "latency_us": latency, "seconds": 0.5, "errors": {}, "wrong_length": 0,
    "connections_failed": 0, "unsent": None, "busy": 0.5}]}))
"#;

const GRID: &str = r#"
title = "Spin & <park>"
repeats = 3
seed = 7
start-timeout = 600
[server]
ringkeeper.reactors = 1
ringkeeper.segmentSizeKb = 1024
ringkeeper.spinBeforePark = [0, 20]
[[load]]
name = "gets 1x1"
workload = "get"
connections = [1, 4]
[[load]]
workload = "set"
"#;

/// A folder with a grid, a load generator, the servers' data and what comes out.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new(grid: &str) -> Bench {
        let folder = TempDir::new().unwrap();
        let bench = Bench { folder };
        fs::create_dir(bench.path("data")).unwrap();
        fs::write(bench.path("loadgen"), LOADGEN).unwrap();
        fs::set_permissions(bench.path("loadgen"), fs::Permissions::from_mode(0o755)).unwrap();
        bench.declare(grid);
        bench
    }

    fn declare(&self, grid: &str) {
        fs::write(self.path("grid.toml"), grid).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, command: &str, more: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/experiment");
        let mut line = Command::new(script);
        line.arg(command).arg(self.path("grid.toml")).arg("--loadgen").arg(self.path("loadgen"));
        line.arg("--data-dir").arg(self.path("data"));
        if command == "run" {
            line.arg("--out").arg(self.path("out"));
        }
        if !more.contains(&"--server") {
            line.args(["--server", SERVER]);
        }
        line.args(more);
        line
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        self.command(command, more).output().expect("python3 runs tuning/experiment")
    }

    /// Starts the grid and waits until a load of it does not end.
    fn start_and_hang(&self) -> Child {
        let mut line = self.command("run", &[]);
        let child = line.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a load waits", || self.path("waiting").exists());
        assert!(!self.processes().is_empty(), "a server is being loaded");
        child
    }

    /// The rows of runs.csv by column.
    fn rows(&self) -> Vec<BTreeMap<String, String>> {
        let text = fs::read_to_string(self.path("out/runs.csv")).unwrap();
        let mut lines = text.lines();
        let columns: Vec<_> = lines.next().expect("a header").split(',').collect();
        let row = |line: &str| {
            let fields = fields(line);
            assert_eq!(fields.len(), columns.len(), "{line}");
            columns.iter().map(|it| (*it).to_owned()).zip(fields).collect()
        };
        lines.map(row).collect()
    }

    /// Processes, servers and loads alike, that were started with something of this folder.
    fn processes(&self) -> Vec<String> {
        let folder = self.folder.path().to_str().unwrap();
        let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&line).replace('\0', " "))
        });
        lines.filter(|line| line.contains(folder) && !line.contains("tuning/experiment")).collect()
    }

    fn nothing_is_left(&self) {
        wait_until("servers and loads are gone", || self.processes().is_empty());
        assert_eq!(fs::read_dir(self.path("data")).unwrap().count(), 0, "data of servers is left");
    }
}

/// The fields of a line; those with a comma, such as some processors' names, are in quotation marks.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one").push(letter),
        }
    }
    fields
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(20));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What was run, in that order: (repeat, cell).
fn order(rows: &[BTreeMap<String, String>]) -> Vec<(String, String)> {
    rows.iter().map(|row| (row["repeat"].clone(), row["cell"].clone())).collect()
}

#[test]
fn every_run_of_the_grid_is_a_row_in_an_order_of_the_seed() {
    let bench = Bench::new(GRID);
    let output = bench.run("run", &[]);
    assert!(output.status.success(), "{}", said(&output));
    bench.nothing_is_left();
    let rows = bench.rows();
    assert_eq!(rows.len(), 3 * 2 * 3);
    let mut orders = Vec::new();
    for repeat in ["1", "2", "3"] {
        let cells: Vec<_> = rows.iter().filter(|row| row["repeat"] == repeat).collect();
        let cells: Vec<_> = cells.iter().map(|row| row["cell"].as_str()).collect();
        let mut sorted = cells.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["1", "2", "3", "4", "5", "6"], "each cell once in a repeat");
        orders.push(cells);
    }
    assert!(orders[0] != orders[1] || orders[1] != orders[2], "{orders:?} is not shuffled");
    for row in &rows {
        assert_eq!(row["outcome"], "ok", "{row:?}");
        assert_eq!(row["server.ringkeeper.segmentSizeKb"], "1024");
        let connections = if row["load"] == "set" { "1" } else { &row["load.connections"] };
        assert_eq!(row["requests_per_second"], format!("{connections}000.0"));
        assert_eq!(row["server_version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((row["loadgen_version"].as_str(), row["seed"].as_str()), ("9.8.7", "7"));
        assert!(!row["kernel"].is_empty() && row["server_peak_rss_kib"].parse::<u64>().is_ok());
    }
    let tables = String::from_utf8(output.stdout).unwrap();
    // The same in every run: an interval without width, and no difference.
    assert!(tables.contains("| 20 | 4 | 3 | 4,000 (4,000-4,000) |"), "{tables}");
    assert!(tables.contains("| 1.000 (1.000-1.000) |"), "{tables}");
    let page = fs::read_to_string(bench.path("out/report.html")).unwrap();
    let plot = fs::read_to_string(bench.path("out/gets-1x1.svg")).unwrap();
    assert!(page.contains("<svg") && plot.contains("Spin &amp; &lt;park&gt;: gets 1x1"));
    assert!(bench.path("out/set.svg").exists());
    for text in [&page, &plot] {
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http") && !elsewhere.contains("<script"), "{elsewhere}");
    }

    let again = bench.run("run", &[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("there are runs already"), "{}", said(&again));
    assert_eq!(order(&bench.rows()), order(&rows));
}

#[test]
fn a_load_that_fails_is_told_and_the_others_go_on() {
    let grid = GRID.replace("[1, 4]", "[1, 13]").replace("repeats = 3", "repeats = 1");
    let bench = Bench::new(&grid);
    let output = bench.run("run", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let (failed, good): (Vec<_>, Vec<_>) =
        bench.rows().into_iter().partition(|row| row["outcome"] == "failed");
    assert_eq!((failed.len(), good.len()), (2, 4));
    for row in &failed {
        assert_eq!(row["load.connections"], "13");
        let why =
            "ringkeeper-loadgen ended with exit code 1: ringkeeper-loadgen: thirteen is too many";
        assert_eq!(row["why"], why);
        let log = bench.path("out/failed").join(format!("run-{}.log", row["run"]));
        assert!(fs::read_to_string(log).unwrap().contains("serving clients"));
    }
    let page = fs::read_to_string(bench.path("out/report.html")).unwrap();
    assert!(page.contains("2 of 4 runs failed") && page.contains("thirteen is too many"), "{page}");
    bench.nothing_is_left();

    // Run again, what failed may succeed; the rest is not repeated.
    let mended = LOADGEN.replace("connections == 13", "connections == 14");
    fs::write(bench.path("loadgen"), mended).unwrap();
    let output = bench.run("run", &["--retry-failed"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(bench.rows().len(), 6 + 2);
    let page = fs::read_to_string(bench.path("out/report.html")).unwrap();
    assert!(!page.contains("runs failed"), "{page}");
}

#[test]
fn a_server_that_does_not_start_is_a_failed_run() {
    let bench = Bench::new(&GRID.replace("repeats = 3", "repeats = 1"));
    let output = bench.run("run", &["--server", "/bin/false"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let rows = bench.rows();
    assert_eq!(rows.len(), 6);
    for row in rows {
        assert_eq!(row["why"], "the server ended with exit code 1: it said nothing");
    }
    assert!(bench.path("out/report.html").exists());
}

#[test]
fn an_interrupted_grid_leaves_no_server_and_goes_on_where_it_was() {
    let bench = Bench::new(&GRID.replace("[1, 4]", "[1, 17]"));
    let mut child = bench.start_and_hang();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    bench.nothing_is_left();
    let before = bench.rows();
    assert!(before.len() < 18);

    // The machine stopped in the middle of a row.
    let whole = fs::read_to_string(bench.path("out/runs.csv")).unwrap();
    fs::write(bench.path("out/runs.csv"), whole + "9,1,2,se").unwrap();
    bench.declare(&GRID.replace("[1, 4]", "[1, 16]"));
    let other = bench.run("run", &["--resume"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(said(&other).contains("this is another grid than"), "{}", said(&other));

    fs::write(bench.path("go"), "").unwrap();
    bench.declare(&GRID.replace("[1, 4]", "[1, 17]").replace("repeats = 3", "repeats = 4"));
    let output = bench.run("run", &["--resume"]);
    assert!(output.status.success(), "{}", said(&output));
    let rows = bench.rows();
    assert_eq!(order(&rows[..before.len()]), order(&before));
    let mut runs = order(&rows);
    runs.sort();
    runs.dedup();
    assert_eq!((rows.len(), runs.len()), (24, 24), "each once, with the further repeat");
    bench.nothing_is_left();
}

#[test]
fn a_grid_that_is_killed_takes_its_servers_with_it() {
    let bench = Bench::new(&GRID.replace("[1, 4]", "17"));
    let mut child = bench.start_and_hang();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    wait_until("servers and loads are gone", || bench.processes().is_empty());
}

#[test]
fn bad_declarations_name_file_key_and_value_and_run_nothing() {
    let bench = Bench::new(GRID);
    for (good, bad, wanted) in [
        ("repeats = 3", "repeats = 0", "repeats = 0: expected a whole number from 1 to 1000"),
        ("seed = 7", "sead = 7", "sead = 7: no such key"),
        ("seed = 7", "seed = 7 7", "this is not TOML"),
        ("seed = 7", "server-cpus = \"one\"", "server-cpus = \"one\": expected CPUs"),
        ("seed = 7", "load-cpus = 9999", "load-cpus = 9999: CPU 9999 is not one"),
        ("[0, 20]", "[]", "server.ringkeeper.spinBeforePark = []: expected a value"),
        ("[0, 20]", "[0, 0]", "server.ringkeeper.spinBeforePark = [0, 0]: 0 is there twice"),
        (
            "[0, 20]",
            "[0, \"soon\"]",
            "server.ringkeeper.spinBeforePark = \"soon\": the server says: \
             ringkeeper.spinBeforePark is \"soon\", expected a whole number of microseconds",
        ),
        (
            "spinBeforePark",
            "spinBeforeSleep",
            "server.ringkeeper.spinBeforeSleep = \"0\": the server says: ringkeeper.spinBeforeSleep \
             is not a key that ZooKeeper or Ringkeeper knows",
        ),
        (
            "ringkeeper.reactors = 1",
            "dataDir = \"/\"",
            "server.dataDir = \"/\": the experiment sets this itself",
        ),
        (
            "\"get\"",
            "\"got\"",
            "load.workload = \"got\": ringkeeper-loadgen says, of the load gets",
        ),
        ("connections =", "in-fright =", "load.in-fright = \"1\": ringkeeper-loadgen says"),
        ("connections =", "json =", "load.json = [1, 4]: the experiment sets this itself"),
        ("gets 1x1", "SET", "load.name = \"set\": two loads would have the plots set.svg"),
        ("[[load]]", "[[lode]]", "lode = [{"),
    ] {
        assert!(GRID.contains(good), "{good}");
        bench.declare(&GRID.replace(good, bad));
        let output = bench.run("run", &[]);
        assert_eq!(output.status.code(), Some(2), "{bad}: {}", said(&output));
        let text = said(&output);
        assert!(text.contains("grid.toml: ") && text.contains(wanted), "{bad}: {text}");
        assert_eq!(text.lines().count(), 1, "{bad}: {text}");
    }
    assert!(!bench.path("out").exists());
    bench.nothing_is_left();
    bench.declare(GRID);
    let output = bench.run("check", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8(output.stdout).unwrap().contains("6 cells, 3 repeats: 18 runs"));
}
