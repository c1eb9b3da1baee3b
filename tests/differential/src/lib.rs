//! The differential tester: random scripts of requests, from seeds, run on Ringkeeper and on a real
//! ZooKeeper, and everything that a client sees compared: replies, errors, Stats, events, their
//! order, and when a connection ends. docs/testing.md tells how to use it.
//!
//! * [`generate`]: a seed becomes a script of the [`vocabulary`]'s words.
//! * [`script`], [`request`]: what sessions do, and its bytes on the wire.
//! * [`play`]: plays a script on one server, over a [`connection`]'s frames.
//! * [`observation`], [`plain`]: what was seen, and what of it two servers must agree on.
//! * [`compare`], [`explained`]: the first difference, and those that are meant.
//! * [`plant`]: faults put into what was seen, to show that they would be found.
//! * [`recording`]: what a ZooKeeper showed, in a file.
//! * [`shrink`]: makes the script of a difference small.
//! * [`peer`], [`campaign`]: the two servers, and many scripts on them.

pub mod campaign;
pub mod compare;
pub mod connection;
pub mod explained;
pub mod generate;
pub mod observation;
pub mod peer;
pub mod plain;
pub mod plant;
pub mod play;
pub mod recording;
pub mod request;
pub mod script;
pub mod shrink;
pub mod vocabulary;
