//! Curator's recipes (Debian's libcurator-recipes-java), driven by `tests/clients/curator`: each
//! keeps its promise among several clients whose sessions end in the middle. With
//! RINGKEEPER_TEST_SERVER=$PWD/tests/clients/zookeeper it runs against Apache ZooKeeper.

use std::path::Path;
use std::process::Command;

use harness::server::Setup;

#[test]
fn curators_recipes_keep_their_promises() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup =
        Setup::new(env!("CARGO_BIN_EXE_ringkeeper"), &folder.path().join("data"), folder.path());
    for line in
        ["tickTime=500", "extendedTypesEnabled=true", "znode.container.checkIntervalMs=1000"]
    {
        setup = setup.with(line);
    }
    let server = setup.start();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/curator/Recipes.java");
    let recipes = Command::new("java")
        .args(["-Xmx256m", "-cp", "/usr/share/java/*"])
        .arg(program)
        .arg(server.address.to_string())
        .output()
        .expect("java can be started: ./test installs what the tests need");
    let said = String::from_utf8_lossy(&recipes.stderr);
    assert!(recipes.status.success(), "{said}\nthe server said:\n{}", server.output());
    assert!(said.matches("\nok ").count() > 20, "{said}");
}
