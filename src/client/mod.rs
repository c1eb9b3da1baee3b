//! A blocking client: one session over a list of servers, kept through lost connections.
//!
//! Invariants: requests are answered in the order in which they were sent; an event comes before
//! the replies behind it; a watch is known here from the reply that granted it to the event that
//! used it up, and set again after a reconnect; a request is sent at most once, so one whose
//! connection is lost fails and is the caller's to repeat.
//!
//! One thread a client (`upkeep`) dials, reads and pings; whoever calls writes its request itself.
//! Called by the shell.

pub mod deletion;
pub mod error;
pub mod event;
pub mod operations;
pub mod paths;
pub mod servers;
pub mod session;
pub mod upkeep;
pub mod watches;
pub mod wire;
