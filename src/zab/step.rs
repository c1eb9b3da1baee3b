//! Inputs, outputs and roles: the one way in. Stepped by `consensus::core`, which carries the
//! outputs out in the order in which they came.
//!
//! Invariants: a role owns its state and is consumed when it changes, so that nothing late reaches
//! the next one. An epoch is used only when it is durable. A zxid is committed only when a
//! quorum's logs, ours perhaps among them, are durable through it.

use std::mem;

use thiserror::Error;

use crate::ids::{Epoch, ServerId, Zxid};

use super::election::{Election, Vote};
use super::leader::{Broadcasting, Discovering};
use super::quorum::Voters;

/// What was found on disk, and who takes part.
#[derive(Clone, Debug)]
pub struct Start {
    pub me: ServerId,
    pub voters: Voters,
    /// The last epoch that this server promised to follow.
    pub accepted: Epoch,
    /// The last epoch whose leader's history this server has.
    pub current: Epoch,
    /// The last transaction in the log, be it committed or not.
    pub last_logged: Zxid,
    pub reign: Reign,
}

/// What a leader does about the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reign {
    /// A member of an ensemble: each leader has an epoch of its own.
    New,
    /// A standalone server: as in ZooKeeper, zxids go on where the log ended, whatever the number
    /// of restarts.
    Continued,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Recovery is done: look for a leader.
    Begin,
    /// The epoch of the last `Output::WriteEpoch` is durable.
    EpochDurable(Epoch),
    /// The transaction with the zxid that `Zab::next_zxid` gave was appended to our log.
    Proposed(Zxid),
    /// Our log is durable through this zxid.
    Durable(Zxid),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this epoch durable, as the accepted and the current one, then say `EpochDurable`.
    WriteEpoch(Epoch),
    /// We lead: writes may be taken.
    Lead,
    /// Everything through this zxid is committed: apply and publish it.
    CommitThrough(Zxid),
}

/// A broken rule of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The input does not belong to the role that this server has.
    #[error("{input:?} while {role}")]
    WrongRole { input: Input, role: &'static str },
    /// An epoch is said to be durable that was not to be written.
    #[error("epoch {said} is durable, {expected} was to be")]
    WrongEpoch { said: Epoch, expected: Epoch },
}

#[derive(Debug)]
enum Role {
    Looking(Start),
    Discovering(ServerId, Discovering),
    Leading(ServerId, Broadcasting),
    /// Only while `step` exchanges one role for the next.
    Changing,
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Role::Looking(_) => "looking",
            Role::Discovering(..) => "discovering",
            Role::Leading(..) => "leading",
            Role::Changing => "changing",
        }
    }
}

/// One server's part in the agreement.
#[derive(Debug)]
pub struct Zab {
    role: Role,
}

impl Zab {
    /// A server that has recovered its log and waits for `Input::Begin`.
    pub fn new(start: Start) -> Zab {
        Zab { role: Role::Looking(start) }
    }

    /// The zxid of the next transaction, if this server may propose one.
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.role {
            Role::Leading(_, leader) => Some(leader.next_zxid()),
            _ => None,
        }
    }

    /// Proposals that wait for their quorum.
    pub fn outstanding(&self) -> usize {
        match &self.role {
            Role::Leading(_, leader) => leader.proposals().len(),
            _ => 0,
        }
    }

    /// Takes one input and appends what is to be done about it.
    ///
    /// # Errors
    /// When the input breaks the protocol; nothing has changed then.
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) -> Result<(), Violation> {
        match (&mut self.role, input) {
            (Role::Looking(_), Input::Begin) => self.look(outputs),
            (Role::Discovering(_, leader), Input::EpochDurable(said)) => {
                let expected = leader.epoch();
                if said != expected {
                    return Err(Violation::WrongEpoch { said, expected });
                }
                self.establish(outputs);
            }
            (Role::Leading(_, leader), Input::Proposed(zxid)) => leader.propose(zxid),
            (Role::Leading(me, leader), Input::Durable(zxid)) => {
                outputs.extend(leader.count_ack(*me, zxid).map(Output::CommitThrough));
            }
            (role, input) => return Err(Violation::WrongRole { input, role: role.name() }),
        }
        Ok(())
    }

    fn look(&mut self, outputs: &mut Vec<Output>) {
        let Role::Looking(start) = mem::replace(&mut self.role, Role::Changing) else {
            unreachable!("looked while looking only");
        };
        let Start { me, voters, accepted, current, last_logged, reign } = start;
        let own = Vote { leader: me, zxid: last_logged, epoch: current };
        let elected = Election::new(voters.clone(), own).hear(me, own);
        assert_eq!(elected, Some(me), "an ensemble of one elects itself");
        self.role = match reign {
            Reign::New => {
                let leader = Discovering::new(voters, accepted, last_logged);
                outputs.push(Output::WriteEpoch(leader.epoch()));
                Role::Discovering(me, leader)
            }
            Reign::Continued => {
                outputs.push(Output::Lead);
                Role::Leading(me, Broadcasting::new(voters, last_logged))
            }
        };
    }

    fn establish(&mut self, outputs: &mut Vec<Output>) {
        let Role::Discovering(me, leader) = mem::replace(&mut self.role, Role::Changing) else {
            unreachable!("established while discovering only");
        };
        self.role = Role::Leading(me, leader.established());
        outputs.push(Output::Lead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(reign: Reign, last_logged: Zxid) -> Start {
        Start {
            me: ServerId::STANDALONE,
            voters: Voters::alone(ServerId::STANDALONE),
            accepted: Epoch::new(2),
            current: Epoch::new(2),
            last_logged,
            reign,
        }
    }

    fn step(zab: &mut Zab, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        zab.step(input, &mut outputs).unwrap();
        outputs
    }

    #[test]
    fn a_standalone_server_goes_on_where_its_log_ended() {
        let mut zab = Zab::new(start(Reign::Continued, Zxid::from_bits(0x3c)));
        assert_eq!(zab.next_zxid(), None, "nothing is proposed while looking");
        assert_eq!(step(&mut zab, Input::Begin), [Output::Lead]);
        assert_eq!(zab.next_zxid(), Some(Zxid::from_bits(0x3d)));
    }

    #[test]
    fn a_new_epoch_is_durable_before_it_is_used() {
        let last_logged = Zxid::new(Epoch::new(2), 9);
        let mut zab = Zab::new(start(Reign::New, last_logged));
        assert_eq!(step(&mut zab, Input::Begin), [Output::WriteEpoch(Epoch::new(3))]);
        assert_eq!(zab.next_zxid(), None);
        let wrong = zab.step(Input::EpochDurable(Epoch::new(2)), &mut Vec::new());
        let expected = Epoch::new(3);
        assert_eq!(wrong, Err(Violation::WrongEpoch { said: Epoch::new(2), expected }));
        assert_eq!(step(&mut zab, Input::EpochDurable(expected)), [Output::Lead]);
        assert_eq!(zab.next_zxid(), Some(Zxid::new(expected, 1)));
    }

    #[test]
    fn nothing_is_committed_before_our_log_is_durable() {
        let mut zab = Zab::new(start(Reign::Continued, Zxid::ZERO));
        step(&mut zab, Input::Begin);
        let [one, two] = [1, 2].map(Zxid::from_bits);
        assert_eq!(step(&mut zab, Input::Proposed(one)), []);
        assert_eq!(step(&mut zab, Input::Proposed(two)), []);
        assert_eq!(zab.outstanding(), 2);
        assert_eq!(step(&mut zab, Input::Durable(one)), [Output::CommitThrough(one)]);
        assert_eq!(step(&mut zab, Input::Durable(two)), [Output::CommitThrough(two)]);
        assert_eq!(zab.outstanding(), 0);
    }

    #[test]
    fn an_input_of_another_role_is_a_violation_and_changes_nothing() {
        let mut zab = Zab::new(start(Reign::Continued, Zxid::ZERO));
        let input = Input::Durable(Zxid::from_bits(1));
        let refused = zab.step(input.clone(), &mut Vec::new());
        assert_eq!(refused, Err(Violation::WrongRole { input, role: "looking" }));
        assert_eq!(step(&mut zab, Input::Begin), [Output::Lead]);
    }
}
