//! One conversation: its session, its history, and the way of a line to the command it names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringkeeper::client::error::ClientError;
use ringkeeper::client::event::State;
use ringkeeper::client::operations::{Client, Settings};
use ringkeeper::client::paths::Chroot;
use ringkeeper::client::servers;
use ringkeeper::client::session::Listener;

use super::arguments::Arguments;
use super::commands::table;
use super::failure::Failure;
use super::options;
use super::output::Output;
use super::words;

/// One conversation.
pub struct Interpreter {
    /// Where commands print.
    pub out: Output,
    /// Whether fired watches are printed; the printer of events reads it, too.
    pub print_watches: Arc<AtomicBool>,
    target: String,
    settings: Settings,
    listener: Listener,
    client: Arc<Client>,
    /// Every line so far, by its number.
    history: Vec<String>,
    over: bool,
}

impl Interpreter {
    /// Starts to connect as `arguments` say.
    pub fn start(
        arguments: Arguments,
        out: Output,
        print_watches: Arc<AtomicBool>,
        listener: Listener,
    ) -> Interpreter {
        let Arguments { target, settings, .. } = arguments;
        let client = Arc::new(Client::start(settings.clone(), listener.clone()));
        let (history, over) = (Vec::new(), false);
        Interpreter { out, print_watches, target, settings, listener, client, history, over }
    }

    /// Ends the session and starts another one, at `target` or where this one was.
    ///
    /// # Errors
    /// `target` is no connect string; the session stays.
    pub fn connect(&mut self, target: Option<&str>) -> Result<(), Failure> {
        if let Some(target) = target {
            let (servers, chroot) =
                servers::parse(target).map_err(|error| Failure::Argument(error.to_string()))?;
            self.settings = Settings { servers, chroot, ..self.settings.clone() };
            self.target = target.to_owned();
        }
        self.client.close();
        self.client = Arc::new(Client::start(self.settings.clone(), self.listener.clone()));
        Ok(())
    }

    /// The session's client.
    ///
    /// # Errors
    /// The session has ended.
    pub fn client(&self) -> Result<&Client, Failure> {
        match self.client.state() {
            State::Closed | State::AuthFailed => Err(Failure::NotConnected),
            _ => Ok(&self.client),
        }
    }

    /// The client for whoever completes paths, whatever its state.
    pub fn shared_client(&self) -> Arc<Client> {
        self.client.clone()
    }

    /// Whether paths have a chroot before them.
    pub fn has_chroot(&self) -> bool {
        self.settings.chroot != Chroot::default()
    }

    /// The session timeout that is asked for.
    pub fn timeout(&self) -> std::time::Duration {
        self.settings.timeout
    }

    /// Ends the session.
    pub fn close(&self) {
        self.client.close();
    }

    /// Ends the conversation, after this command.
    pub fn quit(&mut self) {
        self.close();
        self.over = true;
    }

    /// Whether the conversation is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What stands before the cursor: the server, the state and the number of the next line.
    pub fn prompt(&self) -> String {
        format!("[zk: {}({}) {}] ", self.target, self.client.state(), self.history.len())
    }

    /// Every line so far, this one last.
    pub fn history(&self) -> &[String] {
        &self.history
    }

    /// Runs a line. An empty one is nothing.
    ///
    /// # Errors
    /// Why the command failed.
    pub fn execute(&mut self, line: &str) -> Result<(), Failure> {
        let words = words::split(line);
        if words.is_empty() {
            return Ok(());
        }
        self.history.push(line.to_owned());
        self.run(&words)
    }

    /// Runs line `number` again, which takes the place of this line in the history.
    ///
    /// # Errors
    /// There is no such line before this one, it was a redo itself, or it failed.
    pub fn redo(&mut self, number: usize) -> Result<(), Failure> {
        let this = self.history.len().saturating_sub(1);
        let line = match self.history.get(number) {
            Some(line) if number < this => line.clone(),
            _ => return Err(Failure::Argument("Command index out of range".into())),
        };
        let words = words::split(&line);
        if words.first().is_some_and(|word| word == "redo") {
            return Err(Failure::Argument("No redoing redos".into()));
        }
        self.history[this] = line;
        self.run(&words)
    }

    /// Runs a command that has been taken apart.
    ///
    /// # Errors
    /// Why it failed.
    pub fn run(&mut self, words: &[String]) -> Result<(), Failure> {
        let Some((name, words)) = words.split_first() else { return Ok(()) };
        let command = table::find(name).ok_or_else(|| Failure::NotFound(name.clone()))?;
        let parsed = options::parse(command.flags, command.choice, words)?;
        if !command.words.contains(&parsed.words.len()) {
            return Err(Failure::Usage(command.synopsis()));
        }
        (command.run)(self, &parsed)
    }

    /// Prints why a command failed, and what is wrong with the connection if that is why.
    pub fn report(&self, failure: &Failure) {
        self.out.error(failure);
        if let Failure::Client(ClientError::ConnectionLoss { .. }) = failure
            && let Some(trouble) = self.client.trouble()
        {
            self.out.remark(format_args!("({trouble})"));
        }
    }

    /// Whether fired watches are printed.
    pub fn prints_watches(&self) -> bool {
        self.print_watches.load(Ordering::Relaxed)
    }
}
