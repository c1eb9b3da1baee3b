//! A snapshot of a pinned version, while the writer and all other readers go on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use super::format::Znode;
use super::write::{SnapshotWriter, Written};
use crate::ids::SessionId;
use crate::rt::files::{DiskError, Pace};
use crate::tree::{AclId, NodeView, Reader};

/// Writes the version that `reader` has pinned (by `Reader::hold_newest`), and the sessions as of
/// the same zxid with their timeouts in milliseconds. Blocks; for the housekeeping thread.
/// `go_on` is asked now and then: when it says no (the server stops), the snapshot is given up.
/// `None`: it was.
///
/// # Errors
/// When the disk is full or broken. What was written is removed, and the older snapshots and the
/// log still hold everything.
///
/// # Panics
/// When `reader` has no pin.
pub fn take(
    folder: &Path,
    reader: &mut Reader,
    sessions: &[(SessionId, i32)],
    time_ms: i64,
    pace: Pace,
    mut go_on: impl FnMut() -> bool,
) -> Result<Option<Written>, DiskError> {
    let zxid = reader.pinned().expect("a snapshot is taken of a pinned version");
    let mut writer = SnapshotWriter::create(folder, zxid, time_ms, pace)?;
    match write_version(&mut writer, reader, sessions, &mut go_on) {
        Ok(true) => writer.finish().map(Some),
        Ok(false) => writer.abandon().map(|()| None),
        Err(e) => {
            // The first failure is the one to tell; room on a full disk is what helps now.
            let _ = writer.abandon();
            Err(e)
        }
    }
}

/// Writes the version that `reader` has pinned, and the sessions, into a snapshot. False: `go_on`
/// said no, and the snapshot is to be given up.
///
/// # Errors
/// When the disk is full or broken.
pub fn write_version(
    writer: &mut SnapshotWriter,
    reader: &mut Reader,
    sessions: &[(SessionId, i32)],
    go_on: &mut impl FnMut() -> bool,
) -> Result<bool, DiskError> {
    for (session, timeout_ms) in sessions {
        writer.session(*session, *timeout_ms)?;
    }
    // The file's own numbers, in the order in which the ACLs are met; 0 is the null ACL.
    let mut acls = HashMap::from([(AclId::OPEN, 0)]);
    let mut walk = reader.walk();
    let mut seen = 0u32;
    while let Some((path, node)) = walk.next() {
        seen = seen.wrapping_add(1);
        if seen.is_multiple_of(1024) && !go_on() {
            return Ok(false);
        }
        let next = acls.len() as u32;
        let acl = match acls.entry(node.acl_id()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                writer.acl(next, node.acl())?;
                *new.insert(next)
            }
        };
        writer.znode(stored(path, &node, acl))?;
    }
    Ok(true)
}

fn stored<'a>(path: &'a str, node: &NodeView<'a>, acl: u32) -> Znode<'a> {
    let stat = node.stored();
    Znode {
        path,
        data: node.data(),
        acl,
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.ephemeral_owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Zxid;
    use crate::jute::records::{Acl, Id};
    use crate::snapshot::format::{Record, Totals, list};
    use crate::snapshot::load::{LoadError, SnapshotReader};
    use crate::tree::{Owner, Writer};

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    fn acl(id: &str) -> Vec<Acl> {
        vec![Acl { perms: 31, id: Id { scheme: "digest".to_owned(), id: id.to_owned() } }]
    }

    type Znodes = Vec<(String, Option<Vec<u8>>, Vec<Acl>, i64, i64)>;

    /// What a snapshot holds, sorted by path.
    fn read(path: &Path) -> (Znodes, Vec<(i64, i32)>, Totals) {
        let (mut znodes, mut sessions) = (Vec::new(), Vec::new());
        let mut acls = HashMap::from([(0, Vec::new())]);
        let reader = SnapshotReader::open::<()>(path).unwrap();
        let totals = reader
            .read_all(|record| {
                match record {
                    Record::Session(session, timeout_ms) => sessions.push((session, timeout_ms)),
                    Record::Acl(number, acl) => assert!(acls.insert(number, acl).is_none()),
                    Record::Znode(znode) => {
                        if let Some((parent, _)) = znode.path.rsplit_once('/')
                            && znode.path != "/"
                        {
                            let parent = if parent.is_empty() { "/" } else { parent };
                            assert!(
                                znodes
                                    .iter()
                                    .any(|(path, ..): &(String, _, _, _, _)| path == parent),
                                "{} comes before its parent",
                                znode.path
                            );
                        }
                        znodes.push((
                            znode.path.to_owned(),
                            znode.data.map(<[u8]>::to_vec),
                            acls[&znode.acl].clone(),
                            znode.mzxid,
                            znode.ephemeral_owner,
                        ));
                    }
                }
                Ok::<(), ()>(())
            })
            .map_err(|e: LoadError<()>| format!("{e:?}"))
            .unwrap();
        znodes.sort_by_key(|znode| znode.0.clone());
        (znodes, sessions, totals)
    }

    #[test]
    fn a_snapshot_is_the_pinned_version_whatever_is_written_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, registry) = Writer::new();
        let (one, two) = (writer.intern_acl(&acl("one:x")), writer.intern_acl(&acl("two:x")));
        writer.begin(zxid(1), 50);
        writer.create("/a", Some(b"first"), one, Owner::Persistent, None).unwrap();
        writer.create("/a/b", None, two, Owner::Session(SessionId::from_bits(9)), None).unwrap();
        writer.create("/a/c", Some(b""), one, Owner::Container, None).unwrap();
        writer.publish(zxid(1));
        let mut reader = registry.reader();
        assert_eq!(reader.hold_newest(), zxid(1));
        writer.begin(zxid(2), 60);
        writer.set_data("/a", Some(b"second"), 1).unwrap();
        writer.delete("/a/b").unwrap();
        writer.publish(zxid(2));

        let sessions = [(SessionId::from_bits(9), 4000), (SessionId::from_bits(10), 6000)];
        let written =
            take(dir.path(), &mut reader, &sessions, 70, Pace::Full, || true).unwrap().unwrap();
        assert_eq!(list(dir.path()).unwrap(), [(zxid(1), written.path.clone())]);
        assert_eq!(std::fs::metadata(&written.path).unwrap().len(), written.bytes);
        let (znodes, sessions, totals) = read(&written.path);
        assert_eq!(totals, written.totals);
        assert_eq!(sessions, [(9, 4000), (10, 6000)]);
        assert_eq!(
            znodes.iter().filter(|znode| znode.0.starts_with("/a")).cloned().collect::<Vec<_>>(),
            [
                ("/a".to_owned(), Some(b"first".to_vec()), acl("one:x"), 1, 0),
                ("/a/b".to_owned(), None, acl("two:x"), 1, 9),
                ("/a/c".to_owned(), Some(Vec::new()), acl("one:x"), 1, i64::MIN),
            ]
        );
        assert_eq!(totals.znodes, 4 + 3);
    }

    #[test]
    fn a_snapshot_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, registry) = Writer::new();
        writer.begin(zxid(1), 50);
        for number in 0..2000 {
            let path = format!("/{number}");
            writer.create(&path, None, AclId::OPEN, Owner::Persistent, None).unwrap();
        }
        writer.publish(zxid(1));
        let mut reader = registry.reader();
        reader.hold_newest();
        let taken = take(dir.path(), &mut reader, &[], 70, Pace::Full, || false).unwrap();
        assert_eq!(taken, None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
