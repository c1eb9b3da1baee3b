//! ZAB, the agreement on one order of transactions: state machines that do no I/O, for leaders,
//! followers and observers. A standalone server is a leader whose own log is the quorum.
//!
//! `step::Zab::step` takes what happened and orders what is to be done. Stepped by
//! `consensus::core`; by the simulator (tests/sim) with whole ensembles.

mod confirm;
pub mod election;
mod history;
mod leader;
mod learner;
pub mod packet;
pub mod quorum;
pub mod step;
mod sync;
#[cfg(test)]
mod traps;
