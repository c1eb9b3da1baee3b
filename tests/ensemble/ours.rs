//! Three of ours.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::{Answer, Client, EPHEMERAL, Event, Op};
use harness::wire::code;

use super::fixture::{Ensemble, Kind, PATIENCE};

const OURS: [Kind; 3] = [Kind::Ringkeeper; 3];

fn sync(client: &mut Client) {
    let reply = client.call(&Op::Sync { path: "/".to_owned() }).expect("an answer to sync");
    assert_eq!(reply.answer, Answer::Path("/".to_owned()));
}

/// Waits for the next event, however long the member takes.
fn event(client: &mut Client) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.next_event() {
            Ok(event) => return event,
            Err(error) => assert!(Instant::now() < deadline, "no event: {error}"),
        }
    }
}

#[test]
fn what_one_member_takes_the_others_show() {
    let ensemble = Ensemble::started(&OURS);
    for writer in ensemble.numbers() {
        let path = format!("/by-{writer}");
        let mut client = ensemble.client(writer);
        client.create(&path, b"old", 0).unwrap();
        client.set(&path, b"new").unwrap();
        for reader in ensemble.numbers() {
            let mut client = ensemble.client(reader);
            sync(&mut client);
            let (data, stat) = client.get(&path).unwrap().expect("the node is there");
            assert_eq!((data.as_slice(), stat.version), (b"new".as_slice(), 1));
        }
    }
    ensemble.assert_same_trees();
}

#[test]
fn watches_fire_and_sessions_move_across_members() {
    let ensemble = Ensemble::started(&OURS);
    let mut owner = ensemble.client(1);
    owner.create("/ephemeral", b"", EPHEMERAL).unwrap();
    let mut watcher = ensemble.client(2);
    let node = || "/ephemeral".to_owned();
    sync(&mut watcher);
    let seen = watcher.call(&Op::Exists { path: node(), watch: true }).unwrap();
    assert!(matches!(seen.answer, Answer::Stat(_)), "{seen:?}");
    let session = owner.session.clone();
    for number in [2, 3, 1, 3] {
        owner = ensemble.moved(owner, number);
        assert_eq!(owner.session.id, session.id);
        let (_, stat) = owner.get("/ephemeral").unwrap().expect("the session is the same");
        assert_eq!(stat.ephemeral_owner, session.id);
    }
    owner.set("/ephemeral", b"changed").unwrap();
    assert_eq!(event(&mut watcher), Event { kind: 3, path: node() });
    sync(&mut watcher);
    watcher.call(&Op::Exists { path: node(), watch: true }).unwrap();
    owner.close().unwrap();
    assert_eq!(event(&mut watcher), Event { kind: 2, path: node() });
    watcher.close().unwrap();
    ensemble.assert_same_trees();
}

/// Creates `/load/N` for one N after the other, at whichever member takes it, until told to stop.
/// Returns how many were acknowledged: all below.
fn write_on(ensemble: &Addresses, stop: &AtomicBool, acknowledged: &AtomicUsize) {
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        at += 1;
        let Ok(mut client) = Client::connect(ensemble[at % ensemble.len()], 40_000) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let path = format!("/load/{}", acknowledged.load(Ordering::Relaxed));
            let create = Op::Create { path, data: b"kept".to_vec(), flags: 0 };
            match client.call(&create).map(|reply| reply.answer) {
                Ok(Answer::Path(_) | Answer::Refused(code::NODE_EXISTS)) => {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(other) => panic!("create answered {other:?}"),
                Err(_) => break,
            }
        }
    }
}

type Addresses = [std::net::SocketAddr];

fn wait_for_writes(acknowledged: &AtomicUsize, more: usize) {
    let (deadline, goal) = (Instant::now() + PATIENCE, acknowledged.load(Ordering::Relaxed) + more);
    while acknowledged.load(Ordering::Relaxed) < goal {
        assert!(Instant::now() < deadline, "writes have stopped");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Lets the writer end when the test fails, too.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_acknowledged_write_is_lost_with_the_leader() {
    let mut ensemble = Ensemble::started(&OURS);
    ensemble.create(1, "/load", b"");
    let addresses = ensemble.addresses();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| write_on(&addresses, &stop, &acknowledged));
        for _ in 0..3 {
            wait_for_writes(&acknowledged, 50);
            let leader = ensemble.leader();
            ensemble.kill(leader);
            wait_for_writes(&acknowledged, 50);
            ensemble.start(leader);
        }
        wait_for_writes(&acknowledged, 50);
    });
    let tree = ensemble.assert_same_trees();
    for number in 0..acknowledged.load(Ordering::Relaxed) {
        let kept = tree.get(&format!("/load/{number}"));
        assert_eq!(kept.map(|(data, _)| data.as_slice()), Some(b"kept".as_slice()), "{number}");
    }

    let all = ensemble.numbers();
    all.iter().for_each(|&number| ensemble.kill(number));
    all.iter().for_each(|&number| ensemble.launch(number));
    all.iter().for_each(|&number| ensemble.wait_for(number));
    let again = ensemble.assert_same_trees();
    assert_eq!(super::tree::differences(&tree, &again), "");
}
