//! Who has a say, and how many make a quorum. Asked by `election`, `leader` and `step`.

use std::collections::BTreeSet;

use crate::ids::ServerId;

/// The members that vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters {
    /// By id, ascending.
    members: Vec<ServerId>,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// More than half of the members.
    Majority,
    /// More than half of the groups that have a weight, each with more than half of its weight.
    Hierarchy(Vec<Group>),
}

/// Members who count together: `group.G` and `weight.N` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub members: Vec<(ServerId, u64)>,
}

impl Voters {
    /// The only member votes for itself.
    pub fn alone(me: ServerId) -> Voters {
        Voters { members: vec![me], rule: Rule::Majority }
    }

    /// These members, more than half of which are a quorum.
    ///
    /// # Panics
    /// When there is none, or one is named twice.
    pub fn majority(members: Vec<ServerId>) -> Voters {
        Voters { members: sorted(members), rule: Rule::Majority }
    }

    /// The members of these groups: a hierarchical quorum.
    ///
    /// # Panics
    /// When there is no member, or one is named twice.
    pub fn hierarchy(groups: Vec<Group>) -> Voters {
        let members = groups.iter().flat_map(|group| group.members.iter().map(|(id, _)| *id));
        Voters { members: sorted(members.collect()), rule: Rule::Hierarchy(groups) }
    }

    /// The voters, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ServerId> + '_ {
        self.members.iter().copied()
    }

    /// Whether `server` is one of them: not an observer, nor a stranger.
    pub fn has(&self, server: ServerId) -> bool {
        self.position(server).is_some()
    }

    /// Where `server` stands among the voters.
    pub fn position(&self, server: ServerId) -> Option<usize> {
        self.members.binary_search(&server).ok()
    }

    /// Whether `server` may be elected: a candidate without weight never is.
    pub fn may_lead(&self, server: ServerId) -> bool {
        match &self.rule {
            Rule::Majority => self.has(server),
            Rule::Hierarchy(groups) => groups
                .iter()
                .flat_map(|group| &group.members)
                .any(|(member, weight)| *member == server && *weight > 0),
        }
    }

    /// Whether the voters of whom `agrees` holds are a quorum.
    pub fn is_quorum(&self, agrees: impl Fn(ServerId) -> bool) -> bool {
        match &self.rule {
            Rule::Majority => {
                let agreeing = self.members.iter().filter(|member| agrees(**member)).count();
                agreeing > self.members.len() / 2
            }
            Rule::Hierarchy(groups) => {
                let weighty = groups.iter().filter(|group| group.weight(|_| true) > 0);
                let (mut all, mut agreeing) = (0, 0);
                for group in weighty {
                    all += 1;
                    agreeing += usize::from(group.weight(&agrees) > group.weight(|_| true) / 2);
                }
                agreeing > all / 2
            }
        }
    }
}

impl Group {
    fn weight(&self, counts: impl Fn(ServerId) -> bool) -> u64 {
        self.members.iter().filter(|(id, _)| counts(*id)).map(|(_, weight)| weight).sum()
    }
}

fn sorted(members: Vec<ServerId>) -> Vec<ServerId> {
    assert!(!members.is_empty(), "an ensemble without voters");
    let count = members.len();
    let sorted: Vec<_> = members.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(sorted.len(), count, "a voter named twice");
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>(numbers: [i64; N]) -> Vec<ServerId> {
        numbers.map(ServerId::new).to_vec()
    }

    fn is_quorum<const N: usize>(voters: &Voters, agreeing: [i64; N]) -> bool {
        let agreeing = ids(agreeing);
        voters.is_quorum(|voter| agreeing.contains(&voter))
    }

    #[test]
    fn more_than_half_of_the_voters_are_a_quorum() {
        let voters = Voters::majority(ids([3, 1, 4, 2]));
        assert!(!is_quorum(&voters, [1, 2]));
        assert!(is_quorum(&voters, [1, 2, 4]));
        assert!(!is_quorum(&voters, [1, 2, 9]), "a stranger has no say");
        assert!(voters.has(ServerId::new(3)) && !voters.has(ServerId::new(5)));
    }

    #[test]
    fn one_voter_alone_is_its_own_quorum() {
        let voters = Voters::alone(ServerId::STANDALONE);
        assert!(voters.is_quorum(|_| true));
        assert!(!voters.is_quorum(|_| false));
    }

    #[test]
    fn a_hierarchy_needs_most_of_the_weight_in_most_of_the_groups() {
        let group = |members: &[(i64, u64)]| Group {
            members: members.iter().map(|(id, weight)| (ServerId::new(*id), *weight)).collect(),
        };
        let voters = Voters::hierarchy(vec![
            group(&[(1, 1), (2, 1), (3, 1)]),
            group(&[(4, 3), (5, 1), (6, 1)]),
            group(&[(7, 1), (8, 1), (9, 1)]),
            group(&[(10, 0)]),
        ]);
        assert!(is_quorum(&voters, [1, 2, 4]), "two groups of three that count");
        assert!(!is_quorum(&voters, [1, 2, 5, 6]), "two fifths of a group's weight");
        assert!(!is_quorum(&voters, [1, 2, 3, 10]));
        assert!(voters.may_lead(ServerId::new(4)) && !voters.may_lead(ServerId::new(10)));
    }

    #[test]
    #[should_panic(expected = "a voter named twice")]
    fn a_voter_has_one_vote() {
        Voters::majority(ids([1, 1]));
    }
}
