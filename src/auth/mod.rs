//! Who a client is, and what that allows: authentication schemes, ACLs, SASL.
//!
//! A connection has a set of ids, each of a scheme. It begins with where the client comes from
//! (`ip`); auth packets ([`policy`]) and a SASL exchange ([`sasl`]) add to it. [`rules`] says what
//! a set of ids may do to a znode with an ACL, and which ACLs there may be. All of it is pure:
//! called by reactors for reads and authentication, by the consensus core for writes.
//!
//! Nothing here writes to a log, and what is secret is a [`secret::Secret`], which cannot be
//! printed.

pub mod digest;
mod directives;
pub mod ids;
mod ip;
pub mod jaas;
pub mod policy;
mod principal;
pub mod rules;
pub mod sasl;
pub mod scheme;
pub mod secret;
