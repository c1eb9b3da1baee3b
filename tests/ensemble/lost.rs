//! A leader that nobody follows any more has a transaction in its log that nobody else has.

use harness::client::Op;

use super::fixture::{Ensemble, Kind};

/// The transaction is not acknowledged, and the others go on without it: it has to go from the
/// log of the one that led when that comes back.
fn takes_back(leader: Kind, others: Kind) {
    let mut ensemble = Ensemble::new(&[others, others, leader]);
    ensemble.launch(3);
    ensemble.launch(1);
    ensemble.wait_for(3);
    ensemble.wait_for(1);
    // Both have nothing: the larger id decides.
    assert_eq!(ensemble.leader(), 3);
    ensemble.create(1, "/kept", b"");

    let mut client = ensemble.client(3);
    ensemble.stop(1);
    let create = Op::Create { path: "/taken-back".to_owned(), data: Vec::new(), flags: 0 };
    client.submit(&create).unwrap();
    ensemble.wait_until_logged(3, "/taken-back");
    ensemble.kill(3);
    ensemble.kill(1);

    ensemble.launch(1);
    ensemble.launch(2);
    ensemble.wait_for(1);
    ensemble.wait_for(2);
    ensemble.create(2, "/without-it", b"");
    ensemble.start(3);
    ensemble.create(3, "/with-it", b"");
    let tree = ensemble.assert_same_trees();
    assert!(!tree.contains_key("/taken-back"));
    let written = ["/kept", "/without-it", "/with-it"];
    assert!(written.iter().all(|path| tree.contains_key(*path)), "{:?}", tree.keys());

    ensemble.kill(3);
    ensemble.start(3);
    let again = ensemble.assert_same_trees();
    assert_eq!(super::tree::differences(&tree, &again), "");
}

#[test]
fn ours_takes_back_what_it_alone_had_when_ours_went_on() {
    takes_back(Kind::Ringkeeper, Kind::Ringkeeper);
}

#[test]
fn ours_takes_back_what_it_alone_had_when_zookeepers_went_on() {
    takes_back(Kind::Ringkeeper, Kind::ZooKeeper);
}

#[test]
fn a_zookeeper_takes_back_what_it_alone_had_when_ours_went_on() {
    takes_back(Kind::ZooKeeper, Kind::Ringkeeper);
}
