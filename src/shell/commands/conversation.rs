//! The conversation itself: connect, close, history, redo, help, version, quit.

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;

use super::table::{COMMANDS, find};

/// Lines that `history` prints before this one.
const HISTORY_SHOWN: usize = 10;

/// `connect [host:port]`
pub fn connect(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    shell.connect(parsed.words.first().map(String::as_str))
}

/// `close`
pub fn close(shell: &mut Interpreter, _: &Parsed) -> Result<(), Failure> {
    shell.client()?;
    shell.close();
    Ok(())
}

/// `quit` and `exit`
pub fn quit(shell: &mut Interpreter, _: &Parsed) -> Result<(), Failure> {
    shell.quit();
    Ok(())
}

/// `history`
pub fn history(shell: &mut Interpreter, _: &Parsed) -> Result<(), Failure> {
    let lines = shell.history();
    let first = lines.len().saturating_sub(HISTORY_SHOWN + 1);
    for (number, line) in lines.iter().enumerate().skip(first) {
        shell.out.line(format_args!("{number} - {line}"))?;
    }
    Ok(())
}

/// `redo number`
pub fn redo(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let number = parsed.words[0].parse();
    shell.redo(number.map_err(|_| Failure::Argument("Command index out of range".into()))?)
}

/// `help [command]`
pub fn help(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    if let Some(name) = parsed.words.first() {
        let command = find(name).ok_or_else(|| Failure::NotFound(name.clone()))?;
        return Ok(shell.out.line(command.description())?);
    }
    for command in COMMANDS {
        shell.out.line(format_args!("\t{}", command.synopsis()))?;
    }
    Ok(())
}

/// `version`
pub fn version(shell: &mut Interpreter, _: &Parsed) -> Result<(), Failure> {
    Ok(shell.out.line(concat!("Ringkeeper CLI version: ", env!("CARGO_PKG_VERSION")))?)
}
