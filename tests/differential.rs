//! Random scripts on Ringkeeper and on Apache ZooKeeper: clients must see the same of both. The
//! tester itself, its parts and its explained differences stand in `tests/differential/`;
//! docs/testing.md tells how to run more scripts, or one of them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use differential::campaign::{Pair, Report, Setting, compare_recorded, run};
use differential::compare::compare;
use differential::explained::{self, REASONS, Reason};
use differential::observation::Kind;
use differential::peer::{self, Profile};
use differential::plain::Seen;
use differential::plant::PLANTS;
use differential::play::Player;
use differential::recording::Recording;
use differential::request::{Acl, Damage, Data, Request, op};
use differential::script::{Client, Script, Step};
use harness::rng::{Rng, base_seed};

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// Steps of a script.
const STEPS: usize = 40;

/// One pair of servers at a time: a JVM takes memory, and both take the cores.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn profile(name: &str) -> Profile {
    peer::profile(name).expect("a profile of that name")
}

fn setting(name: &str) -> Setting {
    let classpath = std::env::var("RINGKEEPER_TEST_ZOOKEEPER").ok().or_else(peer::debian_classpath);
    Setting {
        ringkeeper: PathBuf::from(SERVER),
        classpath: classpath.expect("ZooKeeper is not installed: ./test installs what is needed"),
        profile: profile(name),
        steps: STEPS,
        without: Vec::new(),
    }
}

fn assert_no_difference(report: &Report) {
    let shown: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn clients_see_what_zookeeper_shows_them_and_every_planted_fault_is_found() {
    let _alone = alone();
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    // For each fault: how often there was a place for it, and how often it was found.
    let mut found: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let report =
        run(&setting("full"), seed..seed + 100, 1, true, |script, ours, theirs, release| {
            let verdict = compare(script, &Seen::live(ours, script), theirs, release);
            // A comparison that ends early, for this reason, overlooks what comes behind.
            if verdict.explained.contains(&Reason::ExistsUnchecked) {
                return;
            }
            for plant in PLANTS {
                let mut faulty = ours.clone();
                if plant.put(&mut faulty, &mut rng) {
                    let faulty = Seen::live(&faulty, script);
                    let count = found.entry(plant.name).or_default();
                    count.0 += 1;
                    count.1 +=
                        u32::from(compare(script, &faulty, theirs, release).difference.is_some());
                }
            }
        });
    assert_no_difference(&report.expect("the servers serve"));
    for plant in PLANTS {
        let (put, caught) = found.get(plant.name).copied().unwrap_or_default();
        println!("{}: found in {caught} of {put} scripts", plant.name);
        assert!(caught > 0, "{}: put into {put} scripts and never found", plant.name);
        // A zxid from before the script may be any, so that a fault in one is none.
        assert!(caught * 10 >= put * 9, "{}: found in {caught} of {put} scripts", plant.name);
    }
}

#[test]
fn clients_see_what_zookeeper_shows_them_in_every_profile() {
    let _alone = alone();
    let seed = base_seed(100_000);
    for name in ["defaults", "skip-acl", "enforce-auth"] {
        let report = run(&setting(name), seed..seed + 20, 1, true, |_, _, _, _| {});
        assert_no_difference(&report.expect("the servers serve"));
    }
}

#[test]
fn containers_and_ttl_znodes_go_as_they_go_in_zookeeper() {
    let _alone = alone();
    let root = "/reaping".to_owned();
    let at = |name: &str| format!("{root}{name}");
    let create = |op, name: &str, flags, ttl| {
        let (path, data, acl) = (at(name), Data(None), Some(Acl::open()));
        Step::Ask { slot: 0, request: Request::Create { op, path, data, acl, flags, ttl } }
    };
    let delete = |name: &str| Step::Ask {
        slot: 0,
        request: Request::Delete { path: at(name), version: -1 },
    };
    let gone = |name: &str| Step::AwaitGone { slot: 1, path: at(name) };
    let list = || Step::Ask {
        slot: 1,
        request: Request::GetChildren2 { path: root.clone(), watch: true },
    };
    let watch = |name: &str| Step::Ask {
        slot: 1,
        request: Request::Exists { path: at(name), watch: true },
    };
    let connect = |slot| Step::Connect { slot, timeout_ms: 30_000, client: Client::Current };
    let steps = vec![
        connect(0),
        connect(1),
        // Never had a child: it stays.
        create(op::CREATE_CONTAINER, "/unused", 4, -1),
        create(op::CREATE_CONTAINER, "/c", 4, -1),
        create(op::CREATE, "/c/x", 0, -1),
        watch("/c"),
        list(),
        delete("/c/x"),
        gone("/c"),
        list(),
        watch("/t"),
        create(op::CREATE_TTL, "/t", 5, 50),
        gone("/t"),
        list(),
        create(op::CREATE_TTL, "/s-", 6, 100),
        watch("/s-0000000003"),
        gone("/s-0000000003"),
        // A child keeps it, and once that is gone its time has long been up.
        create(op::CREATE_TTL, "/parent", 5, 50),
        create(op::CREATE, "/parent/x", 0, -1),
        watch("/parent"),
        delete("/parent/x"),
        gone("/parent"),
        list(),
    ];
    let script = Script { seed: 0, root: root.clone(), steps };
    let mut pair = Pair::start(&setting("reaping")).expect("the servers serve");
    let (ours, theirs) = pair.play(&script).expect("the servers serve");
    let ours = Seen::live(&ours, &script);
    let difference = compare(&script, &ours, &theirs, pair.release()).difference;
    assert_eq!(difference, None, "{script}");
    let last = ours.plain(script.steps.len() - 1)[1].first().expect("the list");
    assert!(last.fields.contains(&("names".to_owned(), "[\"unused\"]".to_owned())), "{last:?}");
}

/// What a release that is not installed here showed: its recording in `tests/differential/recorded/`.
fn recording(name: &str) -> Recording {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/recorded");
    let text = std::fs::read_to_string(folder.join(name)).expect("the recording is there");
    Recording::from_text(&text).unwrap_or_else(|line| panic!("{name}:{line} makes no sense"))
}

#[test]
fn clients_see_what_zookeeper_3_9_5_showed_them() {
    let _alone = alone();
    for name in ["3.9.5-full", "3.9.5-defaults", "3.9.5-skip-acl", "3.9.5-enforce-auth"] {
        let report = compare_recorded(SERVER.as_ref(), &recording(name));
        assert_no_difference(&report.unwrap_or_else(|error| panic!("{name}: {error}")));
    }
}

#[test]
fn every_explained_difference_is_one() {
    let _alone = alone();
    let classpath = peer::debian_classpath().expect("./test installs ZooKeeper");
    let setting = Setting { classpath, ..setting("full") };
    let mut pair = Pair::start(&setting).expect("the servers serve");
    for reason in REASONS {
        let script = demonstration(reason);
        let requests = script.steps.iter().flat_map(Step::requests);
        let is_left_out = requests
            .filter_map(|request| explained::left_out(request, pair.release()))
            .any(|because| because == reason);
        let (ours, theirs) = pair.play(&script).expect("the servers serve");
        let verdict = compare(&script, &Seen::live(&ours, &script), &theirs, pair.release());
        if is_left_out {
            assert!(verdict.difference.is_some(), "{reason:?} explains nothing");
        } else {
            assert_eq!(verdict.difference, None, "{reason:?}");
            assert!(verdict.explained.contains(&reason), "{reason:?} explains nothing");
        }
    }
}

/// The shortest script that shows what a reason explains.
fn demonstration(reason: Reason) -> Script {
    let root = "/explained".to_owned();
    let (at, path) = (root.clone(), format!("{root}/a"));
    let for_bob = vec![Acl::new(31, "digest", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=")];
    let create = |path: &str, acl, op, flags| {
        let (path, data) = (path.to_owned(), Data(None));
        Request::Create { op, path, data, acl: Some(acl), flags, ttl: -1 }
    };
    let open = |path: &str| create(path, Acl::open(), op::CREATE, 0);
    let requests = match reason {
        Reason::EventZxid => vec![
            Request::GetData { path: at.clone(), watch: true },
            Request::SetData { path: at, data: Data(None), version: -1 },
        ],
        Reason::LoneCheck => vec![Request::Check { path: at, version: -1 }, Request::WhoAmI],
        Reason::UndecodableWrite => {
            let request = Box::new(Request::Delete { path, version: -1 });
            vec![Request::Broken { request, how: Damage::Short(4) }]
        }
        Reason::Ipv6Acl => vec![create(&path, vec![Acl::new(31, "ip", "::1")], op::CREATE, 0)],
        Reason::ExistsUnchecked => {
            let created = create(&path, for_bob, op::CREATE, 0);
            vec![created, Request::Exists { path, watch: false }]
        }
        Reason::Create2InMulti => {
            vec![Request::Multi(vec![create(&path, Acl::open(), op::CREATE2, 0)])]
        }
        Reason::BadCreateInMulti => {
            vec![Request::Multi(vec![create(&path, Acl::open(), op::CREATE, 7)])]
        }
        Reason::WatchKinds => vec![
            Request::AddWatch { path: path.clone(), mode: 0 },
            Request::CheckWatches { path, kind: 4 },
        ],
        Reason::PersistentWatches => vec![
            Request::AddWatch { path: at.clone(), mode: 1 },
            Request::Exists { path: at, watch: true },
            open(&path),
        ],
        Reason::NullWatch => {
            let request = Box::new(Request::AddWatch { path, mode: 0 });
            vec![Request::Broken { request, how: Damage::Null }]
        }
        Reason::SyncedText => vec![Request::Sync { path: "/\u{1f600}".to_owned() }],
    };
    let connect = Step::Connect { slot: 0, timeout_ms: 30_000, client: Client::Current };
    let asked = requests.into_iter().map(|request| Step::Ask { slot: 0, request });
    Script { seed: 0, root, steps: std::iter::once(connect).chain(asked).collect() }
}

#[test]
fn a_server_that_behaves_otherwise_is_found() {
    let _alone = alone();
    let setting = setting("full");
    for name in ["skip-acl", "defaults"] {
        let mut pair = Pair::start_with(&setting, profile(name)).expect("the servers serve");
        let found = (1..60).any(|seed| {
            let script = setting.script(seed, pair.release());
            let (ours, theirs) = pair.play(&script).expect("the servers serve");
            let ours = Seen::live(&ours, &script);
            compare(&script, &ours, &theirs, pair.release()).difference.is_some()
        });
        assert!(found, "nothing differs between full and {name}");
    }
}

#[test]
fn what_breaks_zookeeper_is_refused_and_changes_nothing() {
    let create = |op, flags, acl| {
        let (path, data) = ("/holes/a".to_owned(), Data(None));
        Request::Create { op, path, data, acl: Some(acl), flags, ttl: -1 }
    };
    let outside_the_bmp = vec![Acl::new(31, "digest", "a:\u{1f600}")];
    let mut holes = vec![
        create(op::CREATE, 4, Acl::open()),
        create(op::CREATE2, 4, Acl::open()),
        create(op::CREATE, 0, outside_the_bmp),
        Request::DeleteContainer { path: "/holes".to_owned() },
    ];
    holes.extend((0..4).map(|flags| create(op::CREATE_CONTAINER, flags, Acl::open())));
    holes.extend((0..5).map(|flags| create(op::CREATE_TTL, flags, Acl::open())));
    let mut steps = vec![Step::Connect { slot: 0, timeout_ms: 30_000, client: Client::Current }];
    for hole in &holes {
        assert!(hole.is_hole(), "{hole:?}");
        let alone = Step::Ask { slot: 0, request: hole.clone() };
        let inside = Step::Ask { slot: 0, request: Request::Multi(vec![hole.clone()]) };
        // A refusal may end the connection.
        let resume = Step::Resume { slot: 0, how: differential::script::Resumption::Plain };
        steps.extend([alone, resume.clone()]);
        // In a multi, since 3.9, flags 4 make a container, as they should.
        if !matches!(hole, Request::Create { op: op::CREATE | op::CREATE2, flags: 4, .. }) {
            steps.extend([inside, resume]);
        }
    }
    let list = Request::GetChildren2 { path: "/holes".to_owned(), watch: false };
    steps.push(Step::Ask { slot: 0, request: list });
    let script = Script { seed: 0, root: "/holes".to_owned(), steps };
    let server = peer::ringkeeper(SERVER.as_ref(), profile("full")).expect("a folder");
    let mut player = Player::new(server.server.address).expect("it serves");
    let seen = player.play(&script).expect("it goes on serving");
    for (step, seen) in script.steps.iter().zip(&seen.steps) {
        let Step::Ask { request, .. } = step else { continue };
        let reply = seen[0].iter().find(|frame| frame.kind == Kind::Reply).expect("an answer");
        match request {
            Request::GetChildren2 { .. } => {
                assert_eq!(reply.number("stat.numChildren"), Some(0), "{reply:?}");
                assert_eq!(reply.number("stat.cversion"), Some(0), "{reply:?}");
            }
            Request::Multi(_) => {
                let in_the_part = reply.number("parts[0].error").unwrap_or(0);
                let refused = reply.number("err") != Some(0) || in_the_part != 0;
                assert!(refused, "{request:?}: {reply:?}");
            }
            _ => assert_ne!(reply.number("err"), Some(0), "{request:?}: {reply:?}"),
        }
    }
}
