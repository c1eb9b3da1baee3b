//! Prints events as they come: fired watches on standard output, in `zkCli.sh`'s form.
//!
//! In a pipe they are printed at once, by the client's own thread, so an event stands before the
//! result of the command behind it. On a terminal a thread prints them around the line that is
//! being edited, which may have to wait for the editor; the client never waits for it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use ringkeeper::client::event::{Event, EventKind, KeeperState};
use ringkeeper::client::session::Listener;
use rustyline::ExternalPrinter;

use super::output::{Colour, Output};

/// Events that may wait to be printed on a terminal. Full: further ones are counted, and the count
/// is printed in their place.
const EVENTS_WAITING_MAX: usize = 1024;

/// The block that an event is printed as.
fn block(event: &Event) -> String {
    format!("\nWATCHER::\n\n{event}\n")
}

/// Prints plainly. That a connection was made or lost is no result, so it goes to standard error,
/// and that the first was made is nothing to tell.
pub fn plain(print_watches: Arc<AtomicBool>) -> Listener {
    let connected_before = AtomicBool::new(false);
    Arc::new(move |event| {
        if !print_watches.load(Ordering::Relaxed) {
            return;
        }
        let connected =
            matches!(event.state, KeeperState::SyncConnected | KeeperState::ConnectedReadOnly);
        // When nobody reads it, the next command finds out.
        let _ = if event.kind != EventKind::None {
            io::stdout().lock().write_all(block(event).as_bytes())
        } else if connected && !connected_before.swap(true, Ordering::Relaxed) {
            Ok(())
        } else {
            io::stderr().lock().write_all(block(event).as_bytes())
        };
    })
}

/// Prints through `printer`, above the line that is being edited.
///
/// # Panics
/// When the system gives no thread.
pub fn around_editor(
    mut printer: impl ExternalPrinter + Send + 'static,
    out: Output,
    print_watches: Arc<AtomicBool>,
) -> Listener {
    let (sender, receiver) = mpsc::sync_channel(EVENTS_WAITING_MAX);
    let missed = Arc::new(AtomicU64::new(0));
    let missed_by_sender = missed.clone();
    thread::Builder::new()
        .name("events".into())
        .spawn(move || print_all(&receiver, &missed, &out, &mut printer))
        .expect("the system gives a thread");
    Arc::new(move |event| {
        if print_watches.load(Ordering::Relaxed) {
            offer(&sender, event, &missed_by_sender);
        }
    })
}

fn offer(sender: &SyncSender<Event>, event: &Event, missed: &AtomicU64) {
    if let Err(TrySendError::Full(_)) = sender.try_send(event.clone()) {
        missed.fetch_add(1, Ordering::Relaxed);
    }
}

fn print_all(
    events: &Receiver<Event>,
    missed: &AtomicU64,
    out: &Output,
    printer: &mut impl ExternalPrinter,
) {
    for event in events {
        let mut text = out.paint(Colour::Yellow, block(&event).trim_end());
        text.push('\n');
        let count = missed.swap(0, Ordering::Relaxed);
        if count > 0 {
            text.push_str(&format!("({count} further events were not shown)\n"));
        }
        // The terminal has gone: so will the shell.
        let _ = printer.print(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_find_no_room_are_counted() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let missed = AtomicU64::new(0);
        let event = Event::of_session(KeeperState::Disconnected);
        for _ in 0..3 {
            offer(&sender, &event, &missed);
        }
        assert_eq!(missed.load(Ordering::Relaxed), 2);
        assert_eq!(receiver.try_iter().count(), 1);
    }

    #[test]
    fn an_event_is_a_block_of_its_own() {
        let event = Event::of_session(KeeperState::Expired);
        assert_eq!(
            block(&event),
            "\nWATCHER::\n\nWatchedEvent state:Expired type:None path:null zxid: -1\n"
        );
    }
}
