//! kazoo's own test suite: what passes on Apache ZooKeeper, standalone, passes on Ringkeeper.
//! `tests/clients/kazoo/suite.py` runs it, has the list, and says how that was made.

use std::path::Path;
use std::process::Command;

#[test]
fn every_test_of_kazoo_that_passes_on_zookeeper_passes() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let python = clients.join(".env/bin/python");
    assert!(python.exists(), "kazoo is not installed: ./test installs what the tests need");
    let suite = Command::new(python)
        .arg(clients.join("clients/kazoo/suite.py"))
        .env("RINGKEEPER", env!("CARGO_BIN_EXE_ringkeeper"))
        .output()
        .expect("Python can be started");
    let said = String::from_utf8_lossy(&suite.stdout);
    assert!(suite.status.success(), "{said}\n{}", String::from_utf8_lossy(&suite.stderr));
}
