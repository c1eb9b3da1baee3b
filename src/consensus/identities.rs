//! Who the connections are: each reactor numbers the sets of authentication ids that its
//! connections have, and a write names the number. Asked by `prepare`, filled by `core`.

use crate::consensus::handoff::IdentityIndex;
use crate::ids::ReactorId;
use crate::jute::records::Id;

/// The numbered sets of ids, by reactor.
#[derive(Debug)]
pub struct Identities(Vec<Vec<Option<Vec<Id>>>>);

impl Identities {
    /// Nothing is defined yet by any of `reactors` reactors.
    pub fn new(reactors: usize) -> Identities {
        Identities(vec![Vec::new(); reactors])
    }

    /// From now on `index` of `reactor` stands for `ids`. Reactors reuse numbers, so the table is
    /// as long as the largest number of sets that one had at once.
    pub fn define(&mut self, reactor: ReactorId, index: IdentityIndex, ids: Vec<Id>) {
        let table = &mut self.0[usize::from(reactor.0)];
        let index = index.0 as usize;
        if index >= table.len() {
            table.resize(index + 1, None);
        }
        table[index] = Some(ids);
    }

    /// `index` of `reactor` stands for nothing any more.
    pub fn forget(&mut self, reactor: ReactorId, index: IdentityIndex) {
        self.0[usize::from(reactor.0)][index.0 as usize] = None;
    }

    /// What `index` of `reactor` stands for.
    ///
    /// # Panics
    /// When it is not defined.
    pub fn get(&self, reactor: ReactorId, index: IdentityIndex) -> &[Id] {
        let ids = self.0[usize::from(reactor.0)].get(index.0 as usize).and_then(Option::as_ref);
        ids.unwrap_or_else(|| panic!("{reactor:?} has not defined {index:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id { scheme: "ip".to_owned(), id: name.to_owned() }
    }

    #[test]
    fn each_reactor_has_its_own_numbers() {
        let mut identities = Identities::new(2);
        identities.define(ReactorId(0), IdentityIndex(3), vec![id("::1")]);
        identities.define(ReactorId(1), IdentityIndex(3), vec![id("::2")]);
        assert_eq!(identities.get(ReactorId(0), IdentityIndex(3)), [id("::1")]);
        assert_eq!(identities.get(ReactorId(1), IdentityIndex(3)), [id("::2")]);
        identities.define(ReactorId(1), IdentityIndex(3), vec![]);
        assert_eq!(identities.get(ReactorId(1), IdentityIndex(3)), []);
    }

    #[test]
    #[should_panic(expected = "has not defined IdentityIndex(0)")]
    fn a_forgotten_number_stands_for_nothing() {
        let mut identities = Identities::new(1);
        identities.define(ReactorId(0), IdentityIndex(0), vec![id("::1")]);
        identities.forget(ReactorId(0), IdentityIndex(0));
        identities.get(ReactorId(0), IdentityIndex(0));
    }
}
