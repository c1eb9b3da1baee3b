//! `ringkeeper shell`: the commands of ZooKeeper's `zkCli.sh`, over `ringkeeper::client`.
//!
//! A line goes through `words` (quoting), the table in `commands`, and `options` (what a command
//! takes) to the command's function, which prints through `output`. `run` decides where lines come
//! from: the command line, a pipe, or a `terminal`. What differs from `zkCli.sh` on purpose is in
//! docs/shell.md.

pub mod arguments;
pub mod commands;
pub mod completion;
pub mod events;
pub mod failure;
pub mod hexdump;
pub mod interpreter;
pub mod options;
pub mod output;
pub mod run;
pub mod terminal;
pub mod words;
