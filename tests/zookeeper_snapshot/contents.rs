//! What a snapshot of ZooKeeper's form holds, read by code of its own, without what has no order:
//! two snapshots of the same state are equal as this.

use std::collections::BTreeMap;

/// An ACL's entries: permissions, scheme, id.
pub type AclEntries = Vec<(i32, String, String)>;

/// What is between a file's header and its checksums.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    pub sessions: BTreeMap<i64, i32>,
    pub znodes: BTreeMap<String, Znode>,
}

/// A znode.
#[derive(Debug, PartialEq, Eq)]
pub struct Znode {
    pub data: Option<Vec<u8>>,
    /// None: open to everybody, without an ACL.
    pub acl: Option<AclEntries>,
    /// The StatPersisted, as it is: it begins with the czxid.
    pub stat: Vec<u8>,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn int(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn long(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn buffer(&mut self) -> Option<&'a [u8]> {
        let length = self.int();
        (length >= 0).then(|| self.take(length as usize))
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.buffer().unwrap().to_vec()).unwrap()
    }
}

impl Contents {
    /// Reads them from the number of sessions to the mark behind the last znode.
    ///
    /// # Panics
    /// When the bytes make no sense.
    pub fn of(bytes: &[u8]) -> Contents {
        let mut bytes = Bytes(bytes);
        let sessions = (0..bytes.int()).map(|_| (bytes.long(), bytes.int())).collect();
        let mut acls = BTreeMap::from([(-1, None)]);
        for _ in 0..bytes.int() {
            let number = bytes.long();
            let entries = (0..bytes.int()).map(|_| (bytes.int(), bytes.text(), bytes.text()));
            let entries = entries.collect::<AclEntries>();
            assert!(acls.insert(number, Some(entries)).is_none(), "the ACL {number} twice");
        }
        let mut znodes = BTreeMap::new();
        loop {
            let path = bytes.text();
            if path == "/" {
                return Contents { sessions, znodes };
            }
            let data = bytes.buffer().map(<[u8]>::to_vec);
            let acl = acls[&bytes.long()].clone();
            let stat = bytes.take(60).to_vec();
            let before = znodes.insert(path, Znode { data, acl, stat });
            assert!(before.is_none(), "a znode twice");
        }
    }
}
