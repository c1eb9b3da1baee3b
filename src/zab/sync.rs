//! How a leader brings a learner's history to its own: DIFF, TRUNC or SNAP, and what follows.
//! Called by `leader`.
//!
//! Source: zookeeper-formats 4.4.

use crate::ids::Zxid;

use super::history::History;

/// What the leader sends a learner first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The learner keeps all it has; what is behind the zxid follows.
    Diff(Zxid),
    /// The learner cuts off what is behind the zxid; what is behind that here follows.
    Trunc(Zxid),
    /// A snapshot of all that is committed.
    Snap,
    /// The memory does not reach back so far: ask the log for what is behind the zxid.
    ReadLog,
}

/// How to bring a learner up to date whose log ends with `theirs`, when everything here through
/// `committed` is committed.
pub fn choose(history: &History, committed: Zxid, theirs: Zxid) -> Way {
    let newest = history.at_or_before(committed).unwrap_or(committed);
    let oldest = history.first().map_or(newest, |first| first.min(newest));
    // `epoch << 32` names the leader of an epoch before its first transaction: nobody logged it.
    let nameless = theirs.counter() == 0;
    if theirs == committed {
        return Way::Diff(theirs);
    }
    if theirs > newest && !nameless {
        return Way::Trunc(newest);
    }
    if theirs < oldest {
        return Way::ReadLog;
    }
    match history.at_or_before(theirs) {
        Some(common) if common == theirs => Way::Diff(theirs),
        _ if nameless => Way::Diff(theirs),
        // It has what this history has not. Within an epoch a leader proposes in one order, so
        // what came before is common; across epochs nothing is known.
        Some(common) if common.epoch() == theirs.epoch() => Way::Trunc(common),
        _ => Way::Snap,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::Epoch;

    fn zxid(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(Epoch::new(epoch), counter)
    }

    /// 1.3 to 1.6, 2.1 and 2.2; 2.2 is not committed.
    fn history() -> (History, Zxid) {
        let mut history = History::after(zxid(1, 2), 500);
        for each in [zxid(1, 3), zxid(1, 5), zxid(1, 6), zxid(2, 1), zxid(2, 2)] {
            history.push(each, Bytes::new());
        }
        (history, zxid(2, 1))
    }

    #[test]
    fn who_has_all_or_a_part_of_it_gets_the_rest() {
        let (history, committed) = history();
        assert_eq!(choose(&history, committed, zxid(2, 1)), Way::Diff(zxid(2, 1)));
        assert_eq!(choose(&history, committed, zxid(1, 5)), Way::Diff(zxid(1, 5)));
        assert_eq!(choose(&history, committed, zxid(2, 0)), Way::Diff(zxid(2, 0)));
        assert_eq!(choose(&history, committed, zxid(3, 0)), Way::Diff(zxid(3, 0)));
    }

    #[test]
    fn who_has_more_cuts_it_off() {
        let (history, committed) = history();
        assert_eq!(choose(&history, committed, zxid(2, 7)), Way::Trunc(zxid(2, 1)));
        assert_eq!(choose(&history, committed, zxid(1, 4)), Way::Trunc(zxid(1, 3)));
    }

    #[test]
    fn what_another_epoch_left_behind_is_replaced() {
        let (history, committed) = history();
        assert_eq!(choose(&history, committed, zxid(1, 9)), Way::Trunc(zxid(1, 6)));
        let mut ours = History::after(zxid(1, 2), 500);
        ours.push(zxid(2, 1), Bytes::new());
        ours.push(zxid(4, 1), Bytes::new());
        assert_eq!(choose(&ours, zxid(4, 1), zxid(3, 5)), Way::Snap);
    }

    #[test]
    fn who_was_away_too_long_is_read_the_log() {
        let (history, committed) = history();
        assert_eq!(choose(&history, committed, zxid(1, 1)), Way::ReadLog);
        let empty = History::after(zxid(1, 2), 500);
        assert_eq!(choose(&empty, zxid(1, 2), zxid(1, 1)), Way::ReadLog);
        assert_eq!(choose(&empty, zxid(1, 2), zxid(1, 2)), Way::Diff(zxid(1, 2)));
    }
}
