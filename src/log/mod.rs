//! The log: every transaction, durable before anybody hears of it. Written by the consensus core
//! in group commits, read once at start-up; `docs/storage.md` describes the files.

pub mod damage;
pub mod epochs;
#[cfg(test)]
mod fixture;
pub mod folders;
pub mod format;
pub mod group_commit;
pub mod install;
pub mod purge;
pub mod read;
pub mod recover;
mod replay;
pub mod scan;
pub mod segment;
pub mod spares;
pub mod truncate;
