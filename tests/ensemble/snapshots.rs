//! A member with nothing joins late: it gets what the leader has in its log still, or the leader's
//! snapshot.

use harness::client::{Answer, Client, Op};

use super::fixture::{Ensemble, Kind};

/// Transactions of one load: a leader, whosever it is, keeps 500 in memory for learners.
const TXNS: usize = 1200;

/// Times a write of so many bytes: more than our leader reads from its log for a learner. ZooKeeper
/// gives up sooner, at a third of its snapshot.
const BULK: (usize, usize) = (80, 900_000);

/// Nodes with data and version, and some that went again.
fn write_much(client: &mut Client, root: &str) {
    client.create(root, b"", 0).unwrap();
    let node = |number: usize| format!("{root}/{number}");
    let ops = |number: usize| match number % 4 {
        3 => Op::Delete { path: node(number - 1), version: -1 },
        1 => Op::SetData { path: node(number - 1), data: vec![b'x'; number % 100], version: 0 },
        _ => Op::Create { path: node(number), data: number.to_string().into_bytes(), flags: 0 },
    };
    let ops: Vec<Op> = (0..TXNS).map(ops).collect();
    for some in ops.chunks(100) {
        client.submit_all(some).unwrap();
        for _ in some {
            let answer = client.receive().unwrap().answer;
            assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
        }
    }
}

fn joins_with_nothing(joiner: Kind, others: Kind) {
    let mut ensemble = Ensemble::new(&[joiner, others, others]);
    ensemble.launch(2);
    ensemble.launch(3);
    ensemble.wait_for(2);
    ensemble.wait_for(3);
    let leader = ensemble.leader();
    write_much(&mut ensemble.client(leader), "/before");
    ensemble.start(1);
    assert!(others == Kind::Ringkeeper || ensemble.has_snapshot(1), "it came as transactions");
    let joined = ensemble.assert_same_trees();
    assert!(joined.len() > TXNS / 4, "{} nodes", joined.len());

    ensemble.kill(1);
    ensemble.forget(1);
    let mut client = ensemble.client(leader);
    write_much(&mut client, "/meanwhile");
    if others == Kind::Ringkeeper {
        client.create("/bulk", b"", 0).unwrap();
        let (times, bytes) = BULK;
        for _ in 0..times {
            client.set("/bulk", &vec![b'x'; bytes]).unwrap();
        }
    }
    ensemble.start(1);
    assert!(ensemble.has_snapshot(1), "it came as transactions");
    ensemble.create(1, "/behind", b"it takes writes");
    let tree = ensemble.assert_same_trees();
    assert!(tree.contains_key("/behind"));
    assert_eq!(ensemble.leader(), leader);

    // What it was sent it has kept.
    ensemble.kill(1);
    ensemble.start(1);
    let again = ensemble.assert_same_trees();
    assert_eq!(super::tree::differences(&tree, &again), "");
}

#[test]
fn ours_takes_the_snapshot_of_a_zookeeper() {
    joins_with_nothing(Kind::Ringkeeper, Kind::ZooKeeper);
}

#[test]
fn a_zookeeper_takes_the_snapshot_of_ours() {
    joins_with_nothing(Kind::ZooKeeper, Kind::Ringkeeper);
}

#[test]
fn ours_takes_the_snapshot_of_ours() {
    joins_with_nothing(Kind::Ringkeeper, Kind::Ringkeeper);
}
