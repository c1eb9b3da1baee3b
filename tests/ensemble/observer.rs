//! One that does not vote.

use super::fixture::{Ensemble, Kind};

fn observes(voters: Kind) {
    let mut ensemble = Ensemble::with_observers(&[voters, voters, Kind::Ringkeeper], 1);
    let all = ensemble.numbers();
    all.iter().for_each(|&number| ensemble.launch(number));
    all.iter().for_each(|&number| ensemble.wait_for(number));
    let leader = ensemble.leader();
    assert_ne!(leader, 3);
    for number in ensemble.numbers() {
        ensemble.create(number, &format!("/by-{number}"), b"seen by all");
    }
    assert!(ensemble.assert_same_trees().contains_key("/by-3"));

    ensemble.kill(3);
    ensemble.create(leader, "/without-the-observer", b"");
    ensemble.start(3);
    ensemble.kill(leader);
    ensemble.start(leader);
    ensemble.create(3, "/behind", b"");
    assert!(ensemble.assert_same_trees().contains_key("/without-the-observer"));
}

#[test]
fn ours_observes_zookeepers() {
    observes(Kind::ZooKeeper);
}

#[test]
fn ours_observes_ours() {
    observes(Kind::Ringkeeper);
}
