//! Several writers and observers at once, and the verdict after the crash that ended them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::client::Client;
use crate::writer::{Writer, observe};

/// Session timeout of the load's clients, milliseconds.
const SESSION_MS: i32 = 5_000;

/// Writers with a subtree each, and for each an observer that remembers the newest it was shown.
pub struct Load {
    writers: Vec<Writer>,
    seen: Vec<AtomicU64>,
}

impl Load {
    /// Creates the subtrees of `writers` writers, each to have `depth` requests in flight.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn begin(address: SocketAddr, seed: u64, writers: u64, depth: usize) -> Load {
        let mut client = connect(address);
        let mut begin = |number| {
            let root = format!("/writer-{number}");
            Writer::begin(&mut client, &root, seed.wrapping_add(number), depth)
        };
        let writers: Vec<Writer> =
            (0..writers).map(&mut begin).collect::<Result<_, _>>().expect("the subtrees are made");
        let seen = writers.iter().map(|_| AtomicU64::new(0)).collect();
        Load { writers, seen }
    }

    /// Writes while `crash` runs, which makes an end of the server.
    ///
    /// # Panics
    /// When a connection outlives the server, or an answer was wrong.
    pub fn run_until(&mut self, address: SocketAddr, crash: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for (writer, seen) in self.writers.iter_mut().zip(&self.seen) {
                let (root, stop) = (writer.root().to_owned(), &stop);
                scope.spawn(move || observe(address, &root, stop, seen));
                scope.spawn(move || {
                    // A server that ends at once may take no session any more.
                    let Ok(mut client) = Client::connect(address, SESSION_MS) else { return };
                    let ended = writer.run(&mut client, &AtomicBool::new(false));
                    ended.expect_err("a writer stops with its connection alone");
                });
            }
            crash();
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// With the server back: all that was acknowledged, or shown to an observer, must be there, and
    /// nothing in part.
    ///
    /// # Panics
    /// When it is not; the message says what differs.
    pub fn find_again(&mut self, address: SocketAddr) {
        let mut client = connect(address);
        for (writer, seen) in self.writers.iter_mut().zip(&self.seen) {
            writer.find_again(&mut client).expect("the subtree can be read");
            let (latest, seen) = (writer.latest(), seen.load(Ordering::Relaxed));
            assert!(latest >= seen, "{} went back to {latest}, {seen} was read", writer.root());
        }
        client.close().expect("the session can be closed");
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.writers.iter().map(Writer::acknowledged).sum()
    }
}

fn connect(address: SocketAddr) -> Client {
    Client::connect(address, SESSION_MS).expect("the server takes a new session")
}
