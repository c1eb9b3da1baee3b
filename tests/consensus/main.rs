//! The write side as a whole, without its thread, disk and sockets: requests go in as a reactor
//! hands them over, and what comes out is what it would get.

mod containers;
mod ensemble;
mod golden;
mod precedence;
mod properties;
mod quotas;
mod server;
mod sessions;
