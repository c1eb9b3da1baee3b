//! Log lines: to stderr, as many as `RUST_LOG` asks for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Sends log lines to stderr from now on, in colour if that is a terminal: those of level info and
/// above, or what `RUST_LOG` says (`debug`, `ringkeeper::consensus=trace,warn`). Call once.
pub fn init() {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|filter| !filter.is_empty());
    let parsed = asked.as_ref().map(|filter| filter.parse::<EnvFilter>());
    let (filter, wrong) = match parsed {
        None => (EnvFilter::new("info"), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    if let Some(error) = wrong {
        tracing::warn!("RUST_LOG is no filter ({error}); logging at info");
    }
}
