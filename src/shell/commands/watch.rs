//! Watches: addWatch, removewatches, printwatches.

use std::sync::atomic::Ordering;

use ringkeeper::client::operations::AddWatchMode;
use ringkeeper::client::watches::WatchSelection;

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;

/// `addWatch [-m mode] path`
pub fn add_watch(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let mode = match parsed.value("m").map(str::to_ascii_uppercase).as_deref() {
        None | Some("PERSISTENT_RECURSIVE") => AddWatchMode::PersistentRecursive,
        Some("PERSISTENT") => AddWatchMode::Persistent,
        Some(_) => {
            let usage = super::table::find("addWatch").map(super::table::Command::synopsis);
            return Err(Failure::Usage(usage.unwrap_or_default()));
        }
    };
    Ok(shell.client()?.add_watch(&parsed.words[0], mode)?)
}

/// `removewatches path [-c|-d|-p|-r|-a] [-l]`
pub fn remove_watches(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let selections = [
        ("c", WatchSelection::Children),
        ("d", WatchSelection::Data),
        ("p", WatchSelection::Persistent),
        ("r", WatchSelection::PersistentRecursive),
    ];
    let selection = selections
        .iter()
        .find(|(name, _)| parsed.has(name))
        .map_or(WatchSelection::Any, |(_, selection)| *selection);
    Ok(shell.client()?.remove_watches(&parsed.words[0], selection, parsed.has("l"))?)
}

/// `printwatches [on|off]`
pub fn print_watches(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    match parsed.words.first() {
        Some(word) => shell.print_watches.store(word == "on", Ordering::Relaxed),
        None => {
            let state = if shell.prints_watches() { "on" } else { "off" };
            shell.out.line(format_args!("printwatches is {state}"))?;
        }
    }
    Ok(())
}
