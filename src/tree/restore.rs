//! A tree out of a snapshot or an import: znodes with all that is stored about them, parents first.
//! Nobody reads until it is finished, so nothing is kept for undoing and no version is replaced.

use thiserror::Error;

use super::acl::perms;
use super::acl_table::AclId;
use super::history::History;
use super::owned::Owned;
use super::owner::Owner;
use super::quota::{Mark, QuotaRoots};
use super::reader::{Registry, StoredStat};
use super::writer::{Counts, TreeError, Writer, check_length, split};
use super::znode::{ChildCounts, NodeParts, VersionParts};
use crate::ids::Zxid;
use crate::jute::records::{Acl, Id};

/// Why a znode cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    #[error("{0}")]
    Tree(#[from] TreeError),
    /// One of its zxids is after that of the whole.
    #[error("the znode is of {zxid}, after the snapshot")]
    Future { zxid: Zxid },
}

/// A tree that is being restored.
pub struct Restore {
    history: History,
    through: Zxid,
    counts: Counts,
    owned: Owned,
    quotas: QuotaRoots,
}

impl Restore {
    /// Begins a tree as of zxid `through`, with room for about `znodes` (a hint) in its index.
    pub fn new(through: Zxid, znodes: usize) -> Restore {
        let root = version_parts(Some(b""), AclId::OPEN, &StoredStat::default(), through);
        let history = History::new(through.bits() as u64, znodes, &root);
        // The root counts twice, once with the empty path.
        let counts = Counts { znodes: 2, ephemerals: 0, approximate_data_bytes: 1 };
        let (owned, quotas) = (Owned::default(), QuotaRoots::default());
        Restore { history, through, counts, owned, quotas }
    }

    /// The number of an ACL, for `insert`.
    pub fn intern_acl(&mut self, acl: &[Acl]) -> AclId {
        self.history.intern_acl(acl)
    }

    /// Adds a znode. The root (`/`), which is there from the start, is overwritten.
    ///
    /// # Errors
    /// The znode is there already, its parent is not, the path is not one, the data is too long, or
    /// the znode is newer than the whole.
    pub fn insert(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        stat: &StoredStat,
    ) -> Result<(), RestoreError> {
        let newest = stat.czxid.max(stat.mzxid).max(stat.pzxid);
        if Zxid::from_bits(newest) > self.through {
            return Err(RestoreError::Future { zxid: Zxid::from_bits(newest) });
        }
        self.add(path, data, acl, stat)
    }

    /// As `insert`, out of a snapshot that was written while transactions went on: data, ACL and
    /// counts may be of later ones, which follow and set them again. But the znode is older.
    ///
    /// # Errors
    /// As for `insert`; the znode is newer if it was created after the whole.
    pub fn insert_fuzzy(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        stat: &StoredStat,
    ) -> Result<(), RestoreError> {
        let zxid = Zxid::from_bits(stat.czxid);
        if zxid > self.through {
            return Err(RestoreError::Future { zxid });
        }
        self.add(path, data, acl, stat)
    }

    fn add(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        stat: &StoredStat,
    ) -> Result<(), RestoreError> {
        check_length(data)?;
        let version = version_parts(data, acl, stat, self.through);
        let is_root = path == "/";
        let name = if is_root { "" } else { split(path)?.1 };
        let (owner, czxid, ctime) = (stat.ephemeral_owner, stat.czxid as u64, stat.ctime);
        let parts = NodeParts { name, owner, czxid, ctime, hash: 0 };
        if is_root {
            let before = self.history.root().newest().data_length() as u64;
            self.history.overwrite_root(&parts, &version);
            self.counts.approximate_data_bytes += data.unwrap_or_default().len() as u64;
            self.counts.approximate_data_bytes -= before;
        } else {
            let (parent, _) = split(path)?;
            let parent = self.history.find(parent).ok_or(TreeError::NoParent)?;
            if self.history.find(path).is_some() {
                return Err(TreeError::NodeExists.into());
            }
            self.history.count_child(parent);
            self.history.add_node(parent, path, parts, &version);
            self.counts.add(path.len(), data.unwrap_or_default().len());
            let owner = Owner::from_raw(owner);
            self.counts.ephemerals += u64::from(owner.session().is_some());
            self.owned.add(owner, path);
            if let Some(Mark::Limits(root)) = Mark::of(path) {
                self.quotas.add(root);
            }
        }
        if stat.cversion != 0 || stat.pzxid != stat.czxid {
            let node = self.history.find(path).ok_or(TreeError::NoNode)?;
            let (pzxid, cversion, children) = (stat.pzxid as u64, stat.cversion, 0);
            self.history.restore_counts(node, ChildCounts { pzxid, cversion, children });
        }
        Ok(())
    }

    /// The tree, open for transactions after `through`. Those znodes that every ZooKeeper has are
    /// added if they are missing.
    pub fn finish(mut self) -> (Writer, Registry) {
        let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
        let read = self.intern_acl(&[Acl { perms: perms::READ, id }]);
        for (path, acl, aversion) in [
            ("/zookeeper", AclId::OPEN, 0),
            ("/zookeeper/quota", AclId::OPEN, 0),
            ("/zookeeper/config", read, -1),
        ] {
            let stat = StoredStat { aversion, ..StoredStat::default() };
            match self.insert(path, Some(b""), acl, &stat) {
                Ok(()) | Err(RestoreError::Tree(TreeError::NodeExists)) => {}
                Err(error) => panic!("{path} cannot be added: {error}"),
            }
        }
        Writer::restored(self.history, self.through, self.counts, self.owned, self.quotas)
    }
}

fn version_parts<'d>(
    data: Option<&'d [u8]>,
    acl: AclId,
    stat: &StoredStat,
    through: Zxid,
) -> VersionParts<'d> {
    let mzxid = stat.mzxid as u64;
    VersionParts {
        // Since before any pin: the znode's whole past is in the snapshot.
        since: mzxid.min(through.bits() as u64),
        mzxid,
        mtime: stat.mtime,
        version: stat.version,
        aversion: stat.aversion,
        acl: acl.number(),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zxid(bits: i64) -> Zxid {
        Zxid::from_bits(bits)
    }

    #[test]
    fn a_restored_tree_has_what_was_stored() {
        let mut restore = Restore::new(zxid(100), 10);
        let root = StoredStat { cversion: 7, pzxid: 90, ..StoredStat::default() };
        restore.insert("/", Some(b"top"), AclId::OPEN, &root).unwrap();
        let acl = vec![Acl {
            perms: perms::ALL,
            id: Id { scheme: "digest".to_owned(), id: "a:b".to_owned() },
        }];
        let id = restore.intern_acl(&acl);
        let stat = StoredStat {
            czxid: 5,
            mzxid: 6,
            ctime: 50,
            mtime: 60,
            version: 3,
            cversion: 4,
            aversion: 2,
            ephemeral_owner: 0,
            pzxid: 8,
        };
        restore.insert("/a", None, id, &stat).unwrap();
        let ephemeral = StoredStat { ephemeral_owner: 77, czxid: 8, ..StoredStat::default() };
        restore.insert("/a/e", Some(b"x"), AclId::OPEN, &ephemeral).unwrap();
        let (writer, registry) = restore.finish();

        let mut reader = registry.reader();
        assert_eq!(reader.pin_newest(), zxid(100));
        let view = reader.at(zxid(100));
        let a = view.get("/a").unwrap();
        assert_eq!((a.stored(), a.data(), a.acl()), (stat, None, &acl[..]));
        assert_eq!((a.stat().num_children, a.stat().cversion), (1, 7));
        assert_eq!(a.children().collect::<Vec<_>>(), ["e"]);
        assert_eq!(view.get("/a/e").unwrap().stored(), ephemeral);
        assert_eq!(view.get("/").unwrap().stored(), root);
        assert_eq!(view.get("/").unwrap().data(), Some(b"top".as_slice()));
        assert_eq!(view.get("/").unwrap().num_children(), 2);
        let session = crate::ids::SessionId::from_bits(77);
        assert_eq!(writer.ephemerals(session).collect::<Vec<_>>(), ["/a/e"]);
        let counts = writer.counts();
        assert_eq!((counts.znodes, counts.ephemerals), (7, 1));
        assert_eq!(counts.approximate_data_bytes, 44 + 3 + 2 + 4 + 1);
    }

    #[test]
    fn what_cannot_be_restored_is_refused() {
        let mut restore = Restore::new(zxid(10), 0);
        let stat = StoredStat::default();
        let mut insert =
            |path: &str, stat: &StoredStat| restore.insert(path, None, AclId::OPEN, stat);
        insert("/a", &stat).unwrap();
        assert_eq!(insert("/a", &stat), Err(TreeError::NodeExists.into()));
        assert_eq!(insert("/b/c", &stat), Err(TreeError::NoParent.into()));
        assert_eq!(insert("/b/", &stat), Err(TreeError::BadPath.into()));
        assert_eq!(insert("", &stat), Err(TreeError::BadPath.into()));
        let future = StoredStat { mzxid: 11, ..stat };
        assert_eq!(insert("/f", &future), Err(RestoreError::Future { zxid: zxid(11) }));
        let future = StoredStat { czxid: 11, ..stat };
        let refused = restore.insert_fuzzy("/f", None, AclId::OPEN, &future);
        assert_eq!(refused, Err(RestoreError::Future { zxid: zxid(11) }));
    }

    #[test]
    fn a_znode_with_later_data_is_seen_and_written_over_by_what_follows() {
        let mut restore = Restore::new(zxid(10), 0);
        let ahead =
            StoredStat { czxid: 9, mzxid: 12, pzxid: 13, cversion: 4, ..Default::default() };
        restore.insert_fuzzy("/a", Some(b"of 12"), AclId::OPEN, &ahead).unwrap();
        let (mut writer, registry) = restore.finish();
        let mut reader = registry.reader();
        reader.pin_newest();
        let node = reader.at(zxid(10)).get("/a").unwrap();
        assert_eq!((node.data(), node.stored()), (Some(b"of 12".as_slice()), ahead));
        writer.begin(zxid(11), 0);
        writer.set_data("/a", Some(b"of 11"), 1).unwrap();
        writer.create("/a/b", None, AclId::OPEN, Owner::Persistent, Some(3)).unwrap();
        writer.publish(zxid(11));
        reader.move_to(zxid(11));
        let node = reader.at(zxid(11)).get("/a").unwrap();
        assert_eq!((node.data(), node.stored().mzxid), (Some(b"of 11".as_slice()), 11));
        assert_eq!((node.stored().cversion, node.stored().pzxid, node.num_children()), (4, 13, 1));
    }
}
