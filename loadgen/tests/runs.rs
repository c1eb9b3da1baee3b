//! Whole runs of the program against a server in this process: what it reports and leaves behind,
//! and what it says when the server does not behave.

mod fake;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use fake::{
    CLOSE_SESSION, CREATE, DELETE, EXISTS, Fake, Fault, GET_CHILDREN, GET_DATA, MULTI, SET_DATA,
    SYNC,
};

/// Short rounds: these runs test what is said, not how fast. Long enough that a busy machine gives
/// each some time in its window.
const SHORT: &str = "--duration 500ms --warm-up 50ms --keys 10 --connections 3 --quiet";

fn run(fake: &Fake, options: &str) -> Output {
    run_alone(&format!("--servers {} {options}", fake.address))
}

fn run_alone(options: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringkeeper-loadgen"))
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = stdout(output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(output)))
}

/// A run that must go well; gives its JSON.
fn good_run(fake: &Fake, options: &str) -> serde_json::Value {
    let output = run(fake, &format!("{SHORT} --json {options}"));
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#} {}", stderr(&output));
    assert_eq!(report["ok"], true);
    assert!(report["median"]["requests_per_second"].as_f64().unwrap() > 0.0, "{report:#}");
    report
}

#[test]
fn every_workload_asks_for_what_it_is_named_after() {
    let cases = [
        ("--workload get", &[GET_DATA][..]),
        ("--workload set", &[SET_DATA]),
        ("--workload exists", &[EXISTS]),
        ("--workload create", &[CREATE]),
        ("--workload create --sequential", &[CREATE]),
        ("--workload children --children 5", &[GET_CHILDREN]),
        ("--workload mixed --read-share 50", &[GET_DATA, SET_DATA]),
        ("--workload cycle", &[CREATE, DELETE]),
        ("--workload multi --multi-size 3", &[MULTI]),
        ("--workload raftkeeper --children 3", &[GET_DATA, GET_CHILDREN, SET_DATA, CREATE, DELETE]),
        ("--workload get --distribution zipf", &[GET_DATA]),
    ];
    let drivers = ["ring", "epoll"];
    for (driver, (options, operations)) in
        drivers.iter().flat_map(|driver| cases.iter().map(move |case| (driver, case)))
    {
        let fake = Fake::start(Fault::None);
        let report = good_run(&fake, &format!("--driver {driver} {options}"));
        assert_eq!(report["driver"], *driver);
        let measured = report["rounds"][0]["requests"].as_u64().unwrap();
        let asked: u64 = operations.iter().map(|operation| fake.asked(*operation)).sum();
        assert!(asked > measured, "{options}: {asked} asked, {measured} measured");
        assert_eq!(fake.paths(), [""; 0], "{options} left znodes");
        // Set-up, three connections, cleaning up.
        assert_eq!(fake.asked(CLOSE_SESSION), 5, "{options}");
    }
}

#[test]
fn requests_in_flight_travel_together() {
    let fake = Fake::start(Fault::None);
    good_run(&fake, "--connections 1 --in-flight 40");
    // The set-up and the cleaning up send 10 at once.
    assert!((20..=40).contains(&fake.deepest()), "{} at once", fake.deepest());
}

#[test]
fn an_open_loop_sends_at_its_rate_whatever_the_number_of_connections_and_threads() {
    for driver in ["ring", "epoll"] {
        let fake = Fake::start(Fault::None);
        let options = "--rate 700 --duration 1s --rounds 2 --connections 7 --threads 3";
        let report = good_run(&fake, &format!("{options} --driver {driver}"));
        assert_eq!(report["rate"], 700);
        for round in report["rounds"].as_array().unwrap() {
            // What was due in the window, whenever the machine got round to it.
            let due = round["latency_us"]["count"].as_u64().unwrap();
            assert!((699..=701).contains(&due), "{round:#}");
            assert_eq!(round["unsent"], 0);
        }
    }
}

#[test]
fn an_open_loop_counts_a_stall_against_every_request_that_it_delayed() {
    let fake = Fake::start(Fault::StallsAtGet(1_000, Duration::from_millis(500)));
    let options = "--rate 1000 --duration 2s --warm-up 0s --connections 2 --in-flight 1";
    let report = good_run(&fake, options);
    let latency = &report["rounds"][0]["latency_us"];
    let count = latency["count"].as_u64().unwrap();
    assert!((1_999..=2_001).contains(&count), "{report:#}");
    // 500 of the 2,000 were due in the stall, a fifth of all more than 100 ms before its end. A
    // closed loop would have seen it twice.
    assert!(latency["p90"].as_f64().unwrap() >= 100_000.0, "{report:#}");
    assert!(latency["max"].as_f64().unwrap() >= 499_000.0, "{report:#}");
}

#[test]
fn several_servers_share_the_load_and_each_has_caught_up_before() {
    let fake = Fake::start(Fault::None);
    // One server that is named twice stands for two.
    let servers = format!("{0},{0}", fake.address);
    let output = run_alone(&format!("{SHORT} --json --connections 4 --servers {servers}"));
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(fake.asked(SYNC), 1);
    let shares = report["rounds"][0]["servers"].as_array().unwrap();
    let rate = |share: &serde_json::Value| share["requests_per_second"].as_f64().unwrap();
    assert!(shares.iter().all(|share| rate(share) > 0.0), "{report:#}");
    let all = report["rounds"][0]["requests_per_second"].as_f64().unwrap();
    assert!((shares.iter().map(rate).sum::<f64>() - all).abs() < 1e-6 * all, "{report:#}");
}

#[test]
fn servers_that_are_not_of_one_ensemble_are_told_apart() {
    let (one, other) = (Fake::start(Fault::None), Fake::start(Fault::None));
    let servers = format!("{},{}", one.address, other.address);
    let output = run_alone(&format!("{SHORT} --servers {servers}"));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("not of one ensemble") && said.contains("compare"), "{said}");
    assert_eq!(one.paths(), [""; 0], "what was made on the first is gone");
}

#[test]
fn a_comparison_loads_both_sides_in_turns_and_gives_the_ratio() {
    let (a, b) = (Fake::start(Fault::None), Fake::start(Fault::None));
    let line = format!("compare --a {} --b {} --rounds 2", a.address, b.address);
    let report = json(&run_alone(&format!("{line} {SHORT} --workload create --json")));
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["pairs"], 2);
    let rate = |side: &str, round: usize| {
        report[side]["rounds"][round]["requests_per_second"].as_f64().unwrap()
    };
    let ratio = &report["ratios"][0];
    assert_eq!(ratio["figure"], "requests/s");
    let mean = ((rate("b", 0) / rate("a", 0)) * (rate("b", 1) / rate("a", 1))).sqrt();
    assert!((ratio["ratio"].as_f64().unwrap() - mean).abs() < 1e-6 * mean, "{report:#}");
    assert!(ratio["low"].as_f64() <= ratio["least"].as_f64(), "{report:#}");
    for fake in [&a, &b] {
        // Set-up, renewal and cleaning up, and three connections in each of two rounds.
        assert_eq!(fake.asked(CLOSE_SESSION), 3 + 2 * 3);
        assert_eq!(fake.paths(), [""; 0]);
    }
    let table = stdout(&run_alone(&format!("{line} {SHORT}")));
    assert!(table.contains("A: ringkeeper-loadgen") && table.contains("95% conf"), "{table}");
}

#[test]
fn a_comparison_whose_one_side_fails_keeps_what_was_measured_of_the_other() {
    let (a, b) = (Fake::start(Fault::None), Fake::start(Fault::DiesAfterGets(50)));
    let line = format!("compare --a {} --b {} --json", a.address, b.address);
    let output = run_alone(&format!("{line} {SHORT}"));
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert_eq!((&report["a"]["ok"], &report["b"]["ok"]), (&false.into(), &false.into()));
    assert!(report["a"]["rounds"][0]["requests"].as_u64().unwrap() > 0);
    assert_eq!(report["pairs"], 1, "neither went on");
    assert_eq!(a.paths(), [""; 0]);
}

#[test]
fn a_comparison_whose_second_side_is_not_there_leaves_nothing_on_the_first() {
    let a = Fake::start(Fault::None);
    let output = run_alone(&format!("compare --a {} --b 127.0.0.1:1 --quiet", a.address));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("127.0.0.1:1 cannot connect"), "{}", stderr(&output));
    assert_eq!(a.paths(), [""; 0]);
}

#[test]
fn sessions_are_opened_and_closed_over_and_over() {
    for driver in ["ring", "epoll"] {
        let fake = Fake::start(Fault::None);
        let line = "--duration 500ms --warm-up 0s --workload session --connections 5 --threads 2";
        let report = json(&run(&fake, &format!("{line} --driver {driver} --quiet --json")));
        assert_eq!(report["ok"], true, "{report:#}");
        let opened = report["rounds"][0]["latency_us"]["count"].as_u64().unwrap();
        assert!(opened > 5, "{report:#}");
        assert_eq!(report["rounds"][0]["operations"][1]["latency_us"]["count"], opened);
        // Each that was opened, and those of the set-up and the cleaning up.
        assert_eq!(fake.asked(CLOSE_SESSION), opened + 2, "{report:#}");
    }
}

#[test]
fn a_storm_opens_all_sessions_and_its_round_ends_then() {
    for driver in ["ring", "epoll"] {
        let fake = Fake::start(Fault::None);
        let line = "--duration 600s --workload storm --connections 60 --rounds 2 --threads 3";
        let began = Instant::now();
        let report = json(&run(&fake, &format!("{line} --driver {driver} --quiet --json")));
        assert!(began.elapsed() < Duration::from_secs(60), "it went on when all were open");
        assert_eq!(report["ok"], true, "{report:#}");
        for round in report["rounds"].as_array().unwrap() {
            assert_eq!(round["requests"], 60, "{round:#}");
            assert_eq!(round["latency_us"]["count"], 60, "{round:#}");
        }
        assert_eq!(fake.asked(CLOSE_SESSION), 2 * 60 + 2);
    }
}

#[test]
fn sessions_that_a_server_does_not_open_are_told_and_the_others_measured() {
    for (driver, workload) in [("ring", "storm"), ("epoll", "storm"), ("ring", "session")] {
        // One for the set-up.
        let fake = Fake::start(Fault::ClosesAfterHandshakes(1 + 2));
        let line = format!("--workload {workload} --connections 5 --driver {driver}");
        let began = Instant::now();
        let output = run(&fake, &format!("{line} --duration 60s --quiet --json --rounds 2"));
        assert!(began.elapsed() < Duration::from_secs(30), "{line} went on");
        assert_eq!(output.status.code(), Some(1));
        let report = json(&output);
        let round = &report["rounds"][0];
        assert_eq!(round["connections_failed"], 5 - u64::from(workload == "storm") * 2);
        let failure = round["failures"][0].as_str().unwrap();
        assert!(failure.contains("before the handshake was done"), "{failure}");
        if workload == "storm" {
            assert_eq!(round["latency_us"]["count"], 2, "{report:#}");
        }
    }
}

#[test]
fn all_rounds_are_listed_and_creates_start_afresh() {
    let fake = Fake::start(Fault::None);
    let report = good_run(&fake, "--workload create --rounds 3 --threads 2");
    assert_eq!(report["rounds"].as_array().unwrap().len(), 3);
    let made = fake.asked(CREATE);
    assert_eq!(fake.asked(DELETE), made, "every znode made was deleted");
}

#[test]
fn the_delete_workload_ends_when_no_key_is_left_and_finds_them_again_next_round() {
    let fake = Fake::start(Fault::None);
    let began = Instant::now();
    let options = "--workload delete --keys 200 --duration 60s --warm-up 0s --connections 3 \
                   --rounds 2 --json --quiet --threads 2";
    let report = json(&run(&fake, options));
    assert!(began.elapsed() < Duration::from_secs(30), "it went on without keys");
    assert_eq!(report["ok"], true, "{report:#}");
    for round in report["rounds"].as_array().unwrap() {
        // What is in flight when the last key goes is not inside the window.
        let (requests, all) = (&round["requests"], &round["latency_us"]["count"]);
        assert!((194..=200).contains(&requests.as_u64().unwrap()), "{round:#}");
        assert_eq!((all.as_u64(), &round["used_up"]), (Some(200), &true.into()), "{round:#}");
    }
    assert_eq!(fake.asked(CREATE), 1 + 1 + 200 + 200, "root, parent, and all keys twice");
    assert_eq!(fake.paths(), [""; 0]);
}

#[test]
fn the_table_is_readable() {
    let fake = Fake::start(Fault::None);
    let output = run(&fake, &format!("{SHORT} --rounds 2 --workload mixed"));
    let table = stdout(&output);
    for part in ["mixed (80% get, 20% set)", "requests/s", "p99.99", "\n1 ", "\n2 ", "\nmedian"] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
    assert_eq!(stderr(&output), "", "--quiet");
}

#[test]
fn figures_and_plots_go_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, html) = (folder.path().join("run.csv"), folder.path().join("run.html"));
    let files = format!("--csv {} --html {}", csv.display(), html.display());
    let (a, b) = (Fake::start(Fault::None), Fake::start(Fault::None));
    good_run(&a, &format!("--rounds 2 --workload mixed {files}"));
    let lines = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(lines.lines().count(), 1 + 2 * 3, "{lines}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert_eq!(page.matches("<svg").count(), 3, "{page}");
    assert!(page.contains("Latency by percentile"), "{page}");

    let line = format!("compare --a {} --b {} --rounds 2", a.address, b.address);
    run_alone(&format!("{line} {SHORT} {files}"));
    let lines = std::fs::read_to_string(&csv).unwrap();
    let sides: Vec<&str> = lines.lines().skip(1).map(|line| &line[..2]).collect();
    assert_eq!(sides, ["A,", "A,", "B,", "B,"], "{lines}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("Throughput by round") && page.contains("95% confidence"), "{page}");
}

#[test]
fn a_sweep_runs_every_combination_and_reports_each() {
    let fake = Fake::start(Fault::None);
    let folder = tempfile::tempdir().unwrap();
    let (csv, html) = (folder.path().join("sweep.csv"), folder.path().join("sweep.html"));
    let line = format!(
        "sweep --servers {} {SHORT} --vary read-share=0,100 --vary value-size=10,20 --json --csv {} \
         --html {} --workload mixed",
        fake.address,
        csv.display(),
        html.display()
    );
    let report = json(&run_alone(&line));
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["varied"], serde_json::json!(["read-share", "value-size"]));
    let points = report["points"].as_array().unwrap();
    let values: Vec<_> = points.iter().map(|point| point["values"].to_string()).collect();
    assert_eq!(values, ["[0,10]", "[0,20]", "[100,10]", "[100,20]"]);
    for (point, reads) in points.iter().zip([false, false, true, true]) {
        let operations = &point["report"]["rounds"][0]["operations"];
        for (at, wanted) in [(0, reads), (1, !reads)] {
            let count = operations[at]["latency_us"]["count"].as_u64().unwrap();
            assert_eq!(count > 0, wanted, "{point:#}");
        }
    }
    assert_eq!(fake.paths(), [""; 0]);
    assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 1 + 4 * 3);
    assert_eq!(std::fs::read_to_string(html).unwrap().matches("<svg").count(), 4);
}

#[test]
fn a_sweep_whose_server_dies_keeps_what_was_measured() {
    let fake = Fake::start(Fault::DiesAfterGets(50));
    let line = format!("sweep --servers {} {SHORT} --vary connections=3,4", fake.address);
    let output = run_alone(&line);
    assert_eq!(output.status.code(), Some(1));
    let table = stdout(&output);
    assert!(table.contains("\n3  ") && !table.contains("\n4  "), "{table}");
    assert!(table.contains("set-up of connections 4: "), "{table}");
}

#[test]
fn progress_goes_to_stderr() {
    let fake = Fake::start(Fault::None);
    let output = run(&fake, "--duration 4s --warm-up 0s --keys 10 --json");
    assert!(stderr(&output).contains("measuring"), "{}", stderr(&output));
    assert_eq!(json(&output)["ok"], true);
}

#[test]
fn kept_znodes_are_taken_over_by_the_next_run() {
    let fake = Fake::start(Fault::None);
    good_run(&fake, "--keep --value-size 30");
    assert_eq!(fake.paths().len(), 12, "root, parent and ten keys");
    assert_eq!(fake.data("/ringkeeper-loadgen/keys/3").unwrap().len(), 30);
    good_run(&fake, "--value-size 50");
    assert_eq!(fake.paths(), [""; 0]);
}

#[test]
fn a_root_of_somebody_else_is_left_alone() {
    let fake = Fake::start(Fault::None);
    fake.put("/prod", b"precious");
    fake.put("/prod/keys", b"precious");
    let output = run(&fake, &format!("{SHORT} --root /prod"));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/prod exists on"), "{}", stderr(&output));
    assert_eq!(fake.paths(), ["/prod", "/prod/keys"]);
    assert_eq!(fake.asked(DELETE) + fake.asked(SET_DATA), 0);
}

#[test]
fn what_was_measured_before_the_server_died_is_reported() {
    for driver in ["ring", "epoll"] {
        a_server_dies_after_2000_gets(driver);
    }
}

fn a_server_dies_after_2000_gets(driver: &str) {
    let fake = Fake::start(Fault::DiesAfterGets(2_000));
    let options = &format!(
        "--duration 60s --warm-up 0s --keys 10 --connections 3 --rounds 3 --json --driver {driver}"
    );
    let began = Instant::now();
    let output = run(&fake, options);
    assert!(began.elapsed() < Duration::from_secs(30), "it went on without a server");
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 1, "no round after the one that failed");
    let measured = rounds[0]["requests"].as_u64().unwrap();
    assert!((1_900..=2_000).contains(&measured), "{report:#}");
    assert!(rounds[0]["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    assert_eq!(rounds[0]["connections_failed"], 3);
    let failure = rounds[0]["failures"][0].as_str().unwrap();
    assert!(failure.contains("closed the connection"), "{failure}");
    let trouble = report["troubles"][0].as_str().unwrap();
    // Mostly that it cannot connect. A process that another test is starting right now may hold the
    // dead server's port for a moment, and then it is a connection that ends at once.
    assert!(trouble.starts_with(&format!("cleaning up: {} ", fake.address)), "{trouble}");
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let fake = Fake::start(Fault::FallsSilentAfterGets(500));
    let options = "--duration 60s --warm-up 0s --keys 10 --session-timeout 3s --keep --quiet";
    let output = run(&fake, options);
    assert_eq!(output.status.code(), Some(1));
    let table = stdout(&output);
    assert!(table.contains("32 of 32 connections failed"), "{table}");
    assert!(table.contains("sent no reply for 3000 ms"), "{table}");
}

#[test]
fn error_codes_are_counted_and_named() {
    let fake = Fake::start(Fault::GetsFail(-102));
    let output = run(&fake, SHORT);
    assert_eq!(output.status.code(), Some(1));
    let table = stdout(&output);
    assert!(table.contains("replies with error -102 (NOAUTH)"), "{table}");
    let report = json(&run(&fake, &format!("{SHORT} --json")));
    assert_eq!(report["rounds"][0]["requests"], 0, "an error is no request served");
    assert!(report["rounds"][0]["errors"]["-102"].as_u64().unwrap() > 0);
}

#[test]
fn data_of_a_wrong_length_is_told() {
    let fake = Fake::start(Fault::GetsAreShort);
    let output = run(&fake, SHORT);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("has not the length"), "{}", stdout(&output));
}

#[test]
fn a_server_that_refuses_is_named_with_the_reason() {
    for (fault, reason) in [
        (Fault::Closes, "maxClientCnxns"),
        (Fault::RefusesSessions, "refused the session"),
        (Fault::Http, "is it ZooKeeper?"),
    ] {
        let fake = Fake::start(fault);
        let output = run(&fake, SHORT);
        assert_eq!(output.status.code(), Some(1), "{fault:?}");
        let said = stderr(&output);
        assert!(said.contains(reason) && said.contains(&fake.address.to_string()), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_port_where_nobody_listens_is_one_clear_line() {
    let output = run_alone("--servers 127.0.0.1:1 --quiet");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("127.0.0.1:1 cannot connect: Connection refused"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn wrong_arguments_have_an_exit_code_of_their_own() {
    let fake = Fake::start(Fault::None);
    for options in
        ["--workload put", "--threads 9 --connections 3", "--read-share 5", "--pin 65000"]
    {
        let output = run(&fake, options);
        assert_eq!(output.status.code(), Some(2), "{options}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty(), "{options}");
    }
    assert_eq!(fake.asked(CREATE), 0, "nothing was touched");
}
