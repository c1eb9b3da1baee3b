//! The commands, a file for each family. `table` names them all.

pub mod access;
pub mod conversation;
pub mod ensemble;
pub mod quota;
pub mod read;
pub mod table;
pub mod watch;
pub mod write;
