//! A conversation on a terminal: line editing, completion, and a history that outlives it.
//!
//! Lines that hold a password (`addauth`) do not go into the history's file.

use std::env;
use std::fs;
use std::path::PathBuf;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};

use super::completion::Completion;
use super::interpreter::Interpreter;
use super::output::Output;
use super::run::{Ending, execute};
use super::words;

/// Lines that the history keeps. The oldest go.
const HISTORY_LINES_MAX: usize = 1000;

/// Names the history's file; empty for none.
const HISTORY_VARIABLE: &str = "RINGKEEPER_SHELL_HISTORY";

/// The line editor.
pub type LineEditor = Editor<Completion, FileHistory>;

/// A line editor for this terminal.
///
/// # Errors
/// The terminal cannot be used.
pub fn editor(out: Output) -> Result<LineEditor, ReadlineError> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_color_mode(if out.colours { ColorMode::Enabled } else { ColorMode::Disabled });
    Ok(editor)
}

/// Talks until the conversation is over, or there is nothing more to read.
pub fn converse(shell: &mut Interpreter, mut editor: LineEditor) -> Ending {
    let file = history_file();
    if let Some(file) = &file {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    let mut ending = Ending::default();
    while !shell.is_over() {
        editor.set_helper(Some(Completion { client: shell.shared_client(), out: shell.out }));
        let line = match editor.readline(&shell.prompt()) {
            Ok(line) => line,
            // As in other shells: the line is dropped.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => {
                shell.out.error(format_args!("cannot read the terminal: {error}"));
                break;
            }
        };
        keep(&mut editor, file.as_ref(), &line);
        ending = execute(shell, &line);
        if ending.nobody_reads {
            break;
        }
    }
    ending
}

/// Adds a line to the history, and to its file where it may be read by others later.
fn keep(editor: &mut LineEditor, file: Option<&PathBuf>, line: &str) {
    let words = words::split(line);
    let Some(command) = words.first() else { return };
    if command == "addauth" || !matches!(editor.add_history_entry(line), Ok(true)) {
        return;
    }
    if let Some(file) = file {
        // A history that cannot be kept is no reason to stop.
        let _ = editor.append_history(file);
    }
}

/// Where the history is kept, its folder made.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if env::var_os(HISTORY_VARIABLE).is_some() {
        return set(HISTORY_VARIABLE).map(PathBuf::from);
    }
    let state = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    let folder = state.join("ringkeeper");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("shell-history"))
}
