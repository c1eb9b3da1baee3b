//! Where commands come from, and how the shell ends.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::arguments::{self, ArgumentError, Arguments};
use super::events;
use super::failure::Failure;
use super::interpreter::Interpreter;
use super::output::Output;
use super::terminal;

/// How long the first prompt waits for the connection: a prompt stays as it was printed, and one
/// that says CONNECTING nearly always would be wrong a moment later.
const FIRST_PROMPT_PATIENCE: Duration = Duration::from_secs(1);

/// How the last command ended, which is how the shell ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending {
    /// 0, or the exit code of its failure.
    pub code: u8,
    /// Nobody reads standard output any more, so there is no use in going on.
    pub nobody_reads: bool,
}

/// Runs `ringkeeper shell` with the `words` behind it.
pub fn main(words: &[String]) -> ExitCode {
    let arguments = match arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(help @ ArgumentError::Help) => {
            println!("{help}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("ringkeeper shell: {error}");
            return ExitCode::from(2);
        }
    };
    let interactive =
        arguments.command.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let ending = if interactive { on_terminal(arguments) } else { plainly(arguments) };
    ExitCode::from(ending.code)
}

/// Runs one line and prints why it failed, if it did.
pub fn execute(shell: &mut Interpreter, line: &str) -> Ending {
    let done = shell.execute(line);
    ended(shell, done)
}

fn ended(shell: &Interpreter, done: Result<(), Failure>) -> Ending {
    match done {
        Ok(()) => Ending::default(),
        // Whoever reads it has seen enough: `ringkeeper shell ls -R / | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ending { code: 0, nobody_reads: true }
        }
        Err(failure) => {
            shell.report(&failure);
            Ending { code: failure.exit_code(), nobody_reads: false }
        }
    }
}

fn on_terminal(arguments: Arguments) -> Ending {
    let out = Output::detect();
    let mut editor = match terminal::editor(out) {
        Ok(editor) => editor,
        // As on a dumb terminal, which has no cursor to move.
        Err(_) => return plainly(arguments),
    };
    let print_watches = Arc::new(AtomicBool::new(true));
    let listener = match editor.create_external_printer() {
        Ok(printer) => events::around_editor(printer, out, print_watches.clone()),
        Err(_) => events::plain(print_watches.clone()),
    };
    out.remark(format_args!("Connecting to {}", arguments.target));
    let wait = arguments.wait;
    let mut shell = Interpreter::start(arguments, out, print_watches, listener);
    if let Some(ending) = await_connection(&shell, wait) {
        return ending;
    }
    out.remark("Welcome to Ringkeeper! 'help' lists the commands; the tabulator key completes.");
    shell.shared_client().wait_connected(FIRST_PROMPT_PATIENCE);
    let ending = terminal::converse(&mut shell, editor);
    shell.close();
    ending
}

/// Without line editing: one command, or those that standard input holds.
fn plainly(mut arguments: Arguments) -> Ending {
    let print_watches = Arc::new(AtomicBool::new(true));
    let listener = events::plain(print_watches.clone());
    let (wait, command) = (arguments.wait, std::mem::take(&mut arguments.command));
    let mut shell = Interpreter::start(arguments, Output::detect(), print_watches, listener);
    if let Some(ending) = await_connection(&shell, wait) {
        return ending;
    }
    let ending = if command.is_empty() {
        read_lines(&mut shell)
    } else {
        let done = shell.run(&command);
        ended(&shell, done)
    };
    shell.close();
    ending
}

fn read_lines(shell: &mut Interpreter) -> Ending {
    let mut ending = Ending::default();
    for line in io::stdin().lock().lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                let why = format!("cannot read standard input: {error}");
                return ended(shell, Err(Failure::Refused(why)));
            }
        };
        ending = execute(shell, &line);
        if shell.is_over() || ending.nobody_reads {
            break;
        }
    }
    ending
}

/// With `-waitforconnection`: the shell's end, if there is no connection in time.
fn await_connection(shell: &Interpreter, wait: bool) -> Option<Ending> {
    if !wait {
        return None;
    }
    let client = shell.shared_client();
    if client.wait_connected(shell.timeout()) {
        return None;
    }
    let trouble = client.trouble().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
    let why = format!("KeeperErrorCode = ConnectionLoss{trouble}");
    Some(ended(shell, Err(Failure::Unreachable(why))))
}
