//! `ringkeeper shell` against a server: its exit codes, its output beside that of `zkCli.sh`, its
//! session across restarts, and its manners on a terminal.

mod differential;
mod exit_codes;
mod sessions;
mod talk;
mod terminal;

use std::path::Path;

use harness::server::Setup;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// A server with its files in `folder`, with every kind of znode and short ticks.
fn setup(folder: &Path) -> Setup {
    Setup::new(PROGRAM, &folder.join("data"), folder)
        .with("tickTime=500")
        .with("extendedTypesEnabled=true")
        .with("enforceQuota=true")
}
