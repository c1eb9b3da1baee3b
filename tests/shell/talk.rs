//! A shell process to talk to, through pipes or on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PROGRAM;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shell, what it printed so far, and how much of that has been looked at.
pub struct Talk {
    child: Child,
    input: Option<Box<dyn Write>>,
    output: Receiver<Vec<u8>>,
    text: String,
    seen: usize,
}

impl Talk {
    /// A shell whose input and output are pipes. Standard error goes where output goes.
    pub fn piped(server: SocketAddr, options: &[&str]) -> Talk {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = shell(server);
        command.args(options);
        command.stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        let input = Box::new(child.stdin.take().unwrap());
        Talk::new(child, input, reader)
    }

    /// A shell on a terminal, with its history in `history`.
    pub fn on_terminal(server: SocketAddr, history: &Path) -> Talk {
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let mut command = shell(server);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command.env("RINGKEEPER_SHELL_HISTORY", history);
        command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap());
        command.stderr(pty.slave);
        let child = command.spawn().unwrap();
        let master = File::from(pty.master);
        Talk::new(child, Box::new(master.try_clone().unwrap()), master)
    }

    fn new(child: Child, input: Box<dyn Write>, mut from: impl Read + Send + 'static) -> Talk {
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other side has gone fails with EIO.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Talk { child, input: Some(input), output, text: String::new(), seen: 0 }
    }

    /// Types `keys`.
    pub fn type_in(&mut self, keys: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(keys.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Waits until `wanted` is printed behind what was waited for before. Returns what stands in
    /// between.
    pub fn expect(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text[self.seen..].find(wanted) {
                let between = self.text[self.seen..self.seen + at].to_owned();
                self.seen += at + wanted.len();
                return between;
            }
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("{why} before {wanted:?}:\n{}", self.text),
            }
        }
    }

    /// Stops the process where it is.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid is positive");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    /// Closes the input and waits for the end. Returns how it ended and what was printed behind
    /// what was waited for.
    pub fn end(mut self) -> (ExitStatus, String) {
        self.input = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.text),
            }
        }
        (self.child.wait().unwrap(), self.text[self.seen..].to_owned())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Killing what has ended is an error without consequence.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ringkeeper shell` for `server`.
pub fn shell(server: SocketAddr) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["shell", "-server", &server.to_string(), "-timeout", "10000"]);
    command
}

/// What one command prints on standard output and standard error, and its exit code.
pub fn one_shot(server: SocketAddr, words: &[&str]) -> (String, String, i32) {
    let output = shell(server).args(words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().expect("it ends by itself"))
}
