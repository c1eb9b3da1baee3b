//! Ours and Apache ZooKeeper in one ensemble.

use harness::client::{Answer, EPHEMERAL, Op, SEQUENTIAL};

use super::fixture::{Ensemble, Kind};

/// Writes of several kinds through every member.
fn write_through_all(ensemble: &Ensemble, phase: usize) {
    for number in ensemble.numbers() {
        let mut client = ensemble.client(number);
        let path = format!("/phase-{phase}-member-{number}");
        client.create(&path, b"first", 0).unwrap();
        client.set(&path, b"second").unwrap();
        client.create(&format!("{path}/sequential-"), b"", SEQUENTIAL).unwrap();
        client.create(&format!("{path}/ephemeral"), b"", EPHEMERAL).unwrap();
        let create = |name: &str| Op::Create {
            path: format!("{path}/{name}"),
            data: name.as_bytes().to_vec(),
            flags: 0,
        };
        let delete = Op::Delete { path: format!("{path}/a"), version: 0 };
        let check = Op::Check { path: path.clone(), version: 1 };
        let multi = Op::Multi(vec![check, create("a"), create("b"), delete]);
        let done = client.call(&multi).unwrap().answer;
        assert!(matches!(&done, Answer::Parts(parts) if parts.len() == 4), "{done:?}");
        let refused = Op::Multi(vec![create("c"), create("b")]);
        client.call(&refused).unwrap();
        client.close().unwrap();
    }
}

fn each_leads_in_turn(kinds: [Kind; 3]) {
    let mut ensemble = Ensemble::started(&kinds);
    write_through_all(&ensemble, 0);
    ensemble.assert_same_trees();
    for leader in ensemble.numbers() {
        ensemble.make_leader(leader, &format!("/led-by-{leader}"));
        write_through_all(&ensemble, leader);
        assert_eq!(ensemble.leader(), leader);
        ensemble.assert_same_trees();
    }
}

#[test]
fn one_of_ours_among_zookeepers_leads_and_follows() {
    each_leads_in_turn([Kind::Ringkeeper, Kind::ZooKeeper, Kind::ZooKeeper]);
}

#[test]
fn a_zookeeper_among_ours_leads_and_follows() {
    each_leads_in_turn([Kind::ZooKeeper, Kind::Ringkeeper, Kind::Ringkeeper]);
}
