//! Every distinct ACL once: a version refers to it by number. The writer counts the versions that
//! do; readers look a number up without a lock.
//!
//! An ACL goes when its last version is freed. A reader learns a number from a version that it can
//! see, and such a version is not freed, so its ACL is there for as long as the reader looks.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::jute::records::Acl;

/// The number of an ACL in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclId(u32);

impl AclId {
    /// The null ACL, which is open to everybody.
    pub const OPEN: AclId = AclId(0);

    pub(super) const fn from_number(number: u32) -> AclId {
        AclId(number)
    }

    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// Entries in the first bucket; each further one has twice as many.
const FIRST_BUCKET: usize = 64;
/// All numbers of 32 bits.
const BUCKETS: usize = 27;

struct Entry {
    acl: Arc<[Acl]>,
}

type Place = AtomicPtr<Entry>;

/// What readers share with the writer. Buckets stay where they are, so a place is found without a
/// look at anything that moves.
pub(super) struct AclTable {
    buckets: [AtomicPtr<Place>; BUCKETS],
}

fn bucket_of(number: u32) -> (usize, usize) {
    let shifted = number as usize + FIRST_BUCKET;
    let bucket = (shifted / FIRST_BUCKET).ilog2() as usize;
    (bucket, shifted - (FIRST_BUCKET << bucket))
}

impl AclTable {
    fn new() -> AclTable {
        AclTable { buckets: Default::default() }
    }

    fn place(&self, number: u32) -> Option<&Place> {
        let (bucket, offset) = bucket_of(number);
        let first = self.buckets[bucket].load(Acquire);
        // SAFETY: a bucket that is there has so many places, and stays as long as the table.
        (!first.is_null()).then(|| unsafe { &*first.add(offset) })
    }

    /// The ACL with this number; empty for `AclId::OPEN`.
    pub fn get(&self, id: AclId) -> &[Acl] {
        self.entry(id).map_or(&[], |entry| &entry.acl)
    }

    /// As `get`, to be kept.
    pub fn shared(&self, id: AclId) -> Arc<[Acl]> {
        self.entry(id).map_or_else(|| Arc::from([]), |entry| Arc::clone(&entry.acl))
    }

    fn entry(&self, id: AclId) -> Option<&Entry> {
        if id == AclId::OPEN {
            return None;
        }
        let entry = self.place(id.0).map_or(ptr::null_mut(), |place| place.load(Acquire));
        assert!(!entry.is_null(), "no ACL has the number {}", id.0);
        // SAFETY: an entry is freed after the last version that refers to it, and whoever has the
        // number of an ACL that is there sees such a version, or is the writer.
        Some(unsafe { &*entry })
    }

    /// The place for `number`, with its bucket made if need be. For the writer.
    fn make_place(&self, number: u32) -> &Place {
        let (bucket, _) = bucket_of(number);
        if self.buckets[bucket].load(Relaxed).is_null() {
            let places: Box<[Place]> =
                (0..FIRST_BUCKET << bucket).map(|_| Place::default()).collect();
            self.buckets[bucket].store(Box::into_raw(places).cast(), Release);
        }
        self.place(number).expect("the bucket is there")
    }
}

impl Drop for AclTable {
    fn drop(&mut self) {
        for (bucket, first) in self.buckets.iter_mut().enumerate() {
            let first = *first.get_mut();
            if first.is_null() {
                continue;
            }
            let places = ptr::slice_from_raw_parts_mut(first, FIRST_BUCKET << bucket);
            // SAFETY: `make_place` made it of a box of this length, and nobody shares the table.
            let places = unsafe { Box::from_raw(places) };
            for place in places {
                let entry = place.into_inner();
                if !entry.is_null() {
                    // SAFETY: `intern` made it of a box, and `sweep` did not free it.
                    drop(unsafe { Box::from_raw(entry) });
                }
            }
        }
    }
}

/// The writer's side: the counts.
pub(super) struct AclCounts {
    table: Arc<AclTable>,
    numbers: HashMap<Arc<[Acl]>, u32>,
    /// By number; the first is of `AclId::OPEN` and not kept.
    references: Vec<u32>,
    vacant: Vec<u32>,
    /// Without a version that refers to them, when they were put here.
    unused: Vec<u32>,
}

impl AclCounts {
    pub fn new() -> AclCounts {
        AclCounts {
            table: Arc::new(AclTable::new()),
            numbers: HashMap::new(),
            references: vec![0],
            vacant: Vec::new(),
            unused: Vec::new(),
        }
    }

    pub fn table(&self) -> &Arc<AclTable> {
        &self.table
    }

    /// How many ACLs there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of `acl`. It lasts until the next `sweep`, and on for as long as it has
    /// references.
    pub fn intern(&mut self, acl: &[Acl]) -> AclId {
        if acl.is_empty() {
            return AclId::OPEN;
        }
        if let Some(number) = self.numbers.get(acl) {
            return AclId(*number);
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.references.push(0);
            u32::try_from(self.references.len() - 1).expect("fewer ACLs than fit memory")
        });
        let acl: Arc<[Acl]> = acl.into();
        let entry = Box::new(Entry { acl: Arc::clone(&acl) });
        self.table.make_place(number).store(Box::into_raw(entry), Release);
        self.numbers.insert(acl, number);
        self.unused.push(number);
        AclId(number)
    }

    /// Counts one more version that refers to `number`.
    pub fn add(&mut self, number: u32) {
        let known = self.references.len() > number as usize;
        assert!(known, "no ACL has the number {number}");
        self.references[number as usize] += 1;
    }

    /// Counts one less. The version is freed.
    pub fn remove(&mut self, number: u32) {
        let count = &mut self.references[number as usize];
        assert!(*count > 0, "the ACL {number} has no reference to lose");
        *count -= 1;
        if *count == 0 && number != AclId::OPEN.0 {
            self.unused.push(number);
        }
    }

    /// Frees the ACLs that nothing refers to.
    pub fn sweep(&mut self) {
        while let Some(number) = self.unused.pop() {
            if self.references[number as usize] > 0 {
                continue;
            }
            let place = self.table.make_place(number);
            let entry = place.load(Relaxed);
            // Once: a number may have been put to the unused several times.
            if entry.is_null() {
                continue;
            }
            place.store(ptr::null_mut(), Release);
            // SAFETY: `intern` made it of a box; no version refers to it, so no reader looks.
            let entry = unsafe { Box::from_raw(entry) };
            self.numbers.remove(&entry.acl);
            self.vacant.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::records::Id;

    fn acl(name: &str) -> Vec<Acl> {
        vec![Acl { perms: 31, id: Id { scheme: "digest".to_owned(), id: name.to_owned() } }]
    }

    #[test]
    fn equal_acls_have_one_number() {
        let mut counts = AclCounts::new();
        let first = counts.intern(&acl("a:b"));
        assert_eq!(counts.intern(&acl("a:b")), first);
        assert_ne!(counts.intern(&acl("a:c")), first);
        assert_eq!(counts.intern(&[]), AclId::OPEN);
        assert_eq!(counts.table().get(first), acl("a:b"));
        assert_eq!(counts.table().get(AclId::OPEN), []);
    }

    #[test]
    fn an_acl_goes_with_its_last_reference_and_its_number_serves_again() {
        let mut counts = AclCounts::new();
        let id = counts.intern(&acl("a:b"));
        counts.add(id.number());
        counts.add(id.number());
        counts.sweep();
        counts.remove(id.number());
        counts.sweep();
        assert_eq!(counts.table().get(id), acl("a:b"));
        counts.remove(id.number());
        counts.sweep();
        assert_eq!(counts.len(), 0);
        assert_eq!(counts.intern(&acl("a:c")), id);
        assert_eq!(counts.table().get(id), acl("a:c"));
    }

    #[test]
    fn an_acl_that_nothing_came_to_refer_to_goes_at_the_next_sweep() {
        let mut counts = AclCounts::new();
        counts.intern(&acl("a:b"));
        counts.sweep();
        assert_eq!(counts.len(), 0);
    }

    #[test]
    fn numbers_fill_bucket_after_bucket() {
        let mut counts = AclCounts::new();
        let count = if cfg!(miri) { 200 } else { 1000 };
        let ids: Vec<AclId> =
            (0..count).map(|number| counts.intern(&acl(&number.to_string()))).collect();
        for (number, id) in ids.into_iter().enumerate() {
            assert_eq!(counts.table().get(id), acl(&number.to_string()));
        }
    }
}
