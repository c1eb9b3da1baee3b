//! ZAB, the agreement on one order of transactions: a state machine that does no I/O.
//!
//! `step::Zab::step` takes what happened and orders what is to be done. Stepped by
//! `consensus::core` alone. For now the ensemble has one member, so the election is won at once
//! and the leader's own log is the quorum; every phase has its place all the same.

pub mod election;
pub mod leader;
pub mod proposals;
pub mod quorum;
pub mod step;
