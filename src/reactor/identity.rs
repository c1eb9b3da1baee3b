//! Who the connections are: sets of authentication ids, each kept once for all the connections
//! that have it and numbered, so that a write carries the number. Called by `serve` and `auth`.
//!
//! The consensus core learns of a set before the first entry that names it, and that it is over
//! after the last.

use std::collections::HashMap;
use std::rc::Rc;

use crate::consensus::handoff::{Entry, IdentityIndex, Submission};
use crate::jute::records::Id;

/// The sets of one reactor's connections.
#[derive(Debug, Default)]
pub struct Identities {
    sets: Vec<Option<Set>>,
    by_ids: HashMap<Rc<[Id]>, IdentityIndex>,
    vacant: Vec<IdentityIndex>,
}

#[derive(Debug)]
struct Set {
    ids: Rc<[Id]>,
    /// Connections, and requests they hold, that name it.
    users: u32,
}

impl Identities {
    /// The number of the set `ids`, which has one user more. A new set is told to the consensus
    /// core through `submission`.
    pub fn acquire(&mut self, ids: &[Id], submission: &mut Submission) -> IdentityIndex {
        if let Some(&index) = self.by_ids.get(ids) {
            self.set_mut(index).users += 1;
            return index;
        }
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.sets.push(None);
            IdentityIndex(self.sets.len() as u32 - 1)
        });
        let shared: Rc<[Id]> = ids.into();
        self.sets[index.0 as usize] = Some(Set { ids: Rc::clone(&shared), users: 1 });
        self.by_ids.insert(shared, index);
        submission.entries.push(Entry::DefineIdentity { index, ids: ids.to_vec() });
        index
    }

    /// One user less. A set without users is forgotten, here and through `submission`.
    pub fn release(&mut self, index: IdentityIndex, submission: &mut Submission) {
        let set = self.set_mut(index);
        set.users -= 1;
        if set.users == 0 {
            let set = self.sets[index.0 as usize].take().expect("just looked at");
            self.by_ids.remove(&set.ids);
            self.vacant.push(index);
            submission.entries.push(Entry::ForgetIdentity { index });
        }
    }

    /// The ids of a set that has users.
    pub fn ids(&self, index: IdentityIndex) -> &[Id] {
        match self.sets.get(index.0 as usize) {
            Some(Some(set)) => &set.ids,
            _ => panic!("{index:?} stands for nobody"),
        }
    }

    fn set_mut(&mut self, index: IdentityIndex) -> &mut Set {
        match self.sets.get_mut(index.0 as usize) {
            Some(Some(set)) => set,
            _ => panic!("{index:?} stands for nobody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ids::of_address;
    use crate::ids::ReactorId;

    #[test]
    fn connections_with_equal_ids_share_a_number_until_the_last_is_gone() {
        let mut identities = Identities::default();
        let mut submission = Submission::new(ReactorId(0));
        let one = [of_address("127.0.0.1".parse().unwrap())];
        let two = [of_address("10.0.0.1".parse().unwrap())];
        let first = identities.acquire(&one, &mut submission);
        assert_eq!(identities.acquire(&one, &mut submission), first);
        let second = identities.acquire(&two, &mut submission);
        assert_ne!(first, second);
        assert_eq!(identities.ids(second), two);
        identities.release(first, &mut submission);
        identities.release(first, &mut submission);
        assert_eq!(identities.acquire(&two, &mut submission), second);
        let told: Vec<_> = submission
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::DefineIdentity { index, .. } => (true, *index),
                Entry::ForgetIdentity { index } => (false, *index),
                _ => unreachable!("{entry:?}"),
            })
            .collect();
        assert_eq!(told, [(true, first), (true, second), (false, first)]);
    }
}
