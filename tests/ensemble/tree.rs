//! The whole tree of one member, as a client sees it.

use std::collections::BTreeMap;
use std::io;

use harness::client::{Answer, Client, Op};
use harness::wire::Stat;

/// Each server writes this one when it comes to serve, with a time of its own.
const CONFIG: &str = "/zookeeper/config";

/// Path to data and status.
pub type Tree = BTreeMap<String, (Vec<u8>, Stat)>;

/// Waits until the member behind `client` has all that is committed, and reads all its nodes.
/// Nobody may write meanwhile.
pub fn read_all(client: &mut Client) -> io::Result<Tree> {
    match client.call(&Op::Sync { path: "/".to_owned() })?.answer {
        Answer::Path(_) => {}
        other => return Err(io::Error::other(format!("sync answered {other:?}"))),
    }
    let gone = |path: &str| io::Error::other(format!("{path} went while the tree was read"));
    let mut tree = Tree::new();
    let mut to_visit = vec!["/".to_owned()];
    while let Some(path) = to_visit.pop() {
        let (data, mut stat) = client.get(&path)?.ok_or_else(|| gone(&path))?;
        for name in client.children(&path)?.ok_or_else(|| gone(&path))? {
            to_visit.push(format!("{}/{name}", path.trim_end_matches('/')));
        }
        if path == CONFIG {
            stat.modified_ms = 0;
        }
        tree.insert(path, (data, stat));
    }
    Ok(tree)
}

/// What differs, a line for each node; empty when nothing does.
pub fn differences(left: &Tree, right: &Tree) -> String {
    let paths: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differing = paths.into_iter().filter(|path| left.get(*path) != right.get(*path));
    let line = |path: &String| format!("{path}: {:?} | {:?}\n", left.get(path), right.get(path));
    differing.map(line).collect()
}
