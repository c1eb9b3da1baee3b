//! Who has a say, and how many make a quorum. Asked by `election` and `leader`.

use crate::ids::ServerId;

/// The members that vote, each with one vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters(Vec<ServerId>);

impl Voters {
    /// The only member votes for itself.
    pub fn alone(me: ServerId) -> Voters {
        Voters(vec![me])
    }

    /// These members, more than half of which are a quorum.
    ///
    /// # Panics
    /// When there is none, or one is named twice.
    pub fn majority(mut members: Vec<ServerId>) -> Voters {
        members.sort_unstable();
        assert!(!members.is_empty(), "an ensemble without voters");
        assert!(members.windows(2).all(|pair| pair[0] < pair[1]), "a voter named twice");
        Voters(members)
    }

    /// The voters, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ServerId> + '_ {
        self.0.iter().copied()
    }

    /// Where `server` stands among the voters; `None` for an observer or a stranger.
    pub fn position(&self, server: ServerId) -> Option<usize> {
        self.0.binary_search(&server).ok()
    }

    /// Whether voters of whom `agrees` holds are a quorum. `agrees` is given their positions.
    pub fn is_quorum(&self, agrees: impl Fn(usize) -> bool) -> bool {
        let agreeing = (0..self.0.len()).filter(|&position| agrees(position)).count();
        agreeing > self.0.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_voters_are_a_quorum() {
        let voters = Voters::majority([3, 1, 4, 2].map(ServerId::new).to_vec());
        assert!(!voters.is_quorum(|position| position < 2));
        assert!(voters.is_quorum(|position| position < 3));
        assert_eq!(voters.position(ServerId::new(3)), Some(2));
        assert_eq!(voters.position(ServerId::new(5)), None);
    }

    #[test]
    fn one_voter_alone_is_its_own_quorum() {
        let voters = Voters::alone(ServerId::STANDALONE);
        assert!(voters.is_quorum(|_| true));
        assert!(!voters.is_quorum(|_| false));
    }

    #[test]
    #[should_panic(expected = "a voter named twice")]
    fn nobody_votes_twice() {
        let _ = Voters::majority(vec![ServerId::new(1), ServerId::new(1)]);
    }
}
