//! Sending an answer to a client that need not be in a hurry to read it.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{ADMIN_DELIVERY_MS_MAX, ADMIN_SLOW_ANSWERS_MAX};

/// Sends answers and counts those that clients have not read yet.
#[derive(Debug, Default)]
pub struct Delivery {
    /// One reference for each answer on its way, besides our own.
    slow: Arc<()>,
}

impl Delivery {
    /// Sends `answer`, shuts our side of the connection, then calls `sent` with it: it must not be
    /// closed before the client has closed it, or has had time to. Without it where it has failed
    /// and is closed. Most answers fit the socket's buffer and are gone at once; a longer one goes
    /// on in a thread of its own, so that a client that does not read keeps nobody waiting.
    pub fn deliver(
        &self,
        stream: TcpStream,
        answer: String,
        sent: impl FnOnce(Option<TcpStream>) + Send + 'static,
    ) {
        match send_what_fits(&stream, answer.as_bytes()) {
            Some(fitted) if fitted < answer.len() => {
                if Arc::strong_count(&self.slow) > ADMIN_SLOW_ANSWERS_MAX {
                    tracing::warn!("too many clients do not read the answer to their command");
                    sent(None);
                    return;
                }
                let counted = Arc::clone(&self.slow);
                // Dropped with what the thread would have done if there can be no thread.
                let mut ending = Ending { stream: None, sent: Some(sent) };
                let deliver = move || {
                    send_rest(&stream, &answer.as_bytes()[fitted..]);
                    ending.stream = finish(stream);
                    drop(ending);
                    drop(counted);
                };
                let thread = std::thread::Builder::new().name("answer".to_owned());
                if let Err(error) = thread.spawn(deliver) {
                    tracing::warn!(%error, "no thread for a client that is slow to read its answer");
                }
            }
            Some(_) => sent(finish(stream)),
            None => sent(None),
        }
    }
}

/// Calls `sent` when it is dropped.
struct Ending<F: FnOnce(Option<TcpStream>)> {
    stream: Option<TcpStream>,
    sent: Option<F>,
}

impl<F: FnOnce(Option<TcpStream>)> Drop for Ending<F> {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            sent(self.stream.take());
        }
    }
}

/// How many bytes the socket took without waiting; none when it is broken.
fn send_what_fits(mut stream: &TcpStream, answer: &[u8]) -> Option<usize> {
    stream.set_nonblocking(true).ok()?;
    let mut sent = 0;
    while sent < answer.len() {
        match stream.write(&answer[sent..]) {
            Ok(0) => return None,
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(sent)
}

/// Sends the rest in at most `ADMIN_DELIVERY_MS_MAX`. What a broken connection misses is lost.
fn send_rest(mut stream: &TcpStream, mut answer: &[u8]) {
    let deadline = Instant::now() + Duration::from_millis(ADMIN_DELIVERY_MS_MAX);
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    while !answer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_write_timeout(Some(left)).is_err() {
            return;
        }
        match stream.write(answer) {
            Ok(0) => return,
            Ok(written) => answer = &answer[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Tells the client that this was all. To close the connection now could lose it the answer: bytes
/// that it sent behind its word (`echo ruok | nc` sends a line end) turn a close into a reset, which
/// may overtake the answer. None: the client has gone first.
fn finish(stream: TcpStream) -> Option<TcpStream> {
    stream.shutdown(Shutdown::Write).ok()?;
    stream.set_nonblocking(false).ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn an_answer_is_read_to_its_end_though_the_client_sent_more_than_its_word() {
        let (mut client, server) = pair();
        client.write_all(b"\n").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let (done, sent) = mpsc::channel();
        let send = move |stream| done.send(stream).unwrap();
        Delivery::default().deliver(server, "imok".to_owned(), send);
        let stream = sent.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(stream.is_some(), "it is not closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "imok");
    }

    #[test]
    fn a_client_that_does_not_read_keeps_nobody_waiting() {
        let (mut client, server) = pair();
        let delivery = Delivery::default();
        let long = "x".repeat(32 << 20);
        let (done, closed) = mpsc::channel();
        let began = Instant::now();
        delivery.deliver(server, long.clone(), move |_| done.send(()).unwrap());
        assert!(began.elapsed() < Duration::from_secs(5));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer == long);
        closed.recv_timeout(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn more_slow_clients_than_the_bound_lose_their_answer() {
        let delivery = Delivery::default();
        let long = "x".repeat(32 << 20);
        let (done, closed) = mpsc::channel();
        let mut clients = Vec::new();
        for _ in 0..=ADMIN_SLOW_ANSWERS_MAX {
            let (client, server) = pair();
            clients.push(client);
            let done = done.clone();
            delivery.deliver(server, long.clone(), move |_| done.send(()).unwrap());
        }
        // Only the one above the bound is closed while nobody reads.
        closed.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(closed.try_recv().is_err());
    }
}
