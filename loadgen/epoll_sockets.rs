//! The driver for machines where io_uring is forbidden (many containers): epoll, and a system call
//! for every send and receive. Called by `sockets` alone.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::schedule::Clock;
use crate::sockets::{BUFFER_KEPT_BYTES_MAX, BUFFERS_KEPT_MAX, Happening};
use crate::sys::Epoll;

/// Bytes that one receive takes at most. One buffer serves all connections of a thread, so that it
/// stays in the core's cache.
const RECEIVE_BYTES: usize = 256 << 10;

/// One socket, and what of its last send has not left.
struct Socket {
    stream: TcpStream,
    sending: Vec<u8>,
    sent: usize,
    /// The epoll watches it for room.
    wants_room: bool,
}

/// All sockets of one thread under an epoll.
pub struct EpollSockets {
    epoll: Epoll,
    /// By slot; `None` once closed.
    sockets: Vec<Option<Socket>>,
    received: Box<[u8]>,
    buffers: Vec<Vec<u8>>,
    /// Sends that failed since the last wait.
    failed: Vec<(u32, io::Error)>,
    /// Sockets that were closed since the last wait.
    gone: Vec<u32>,
}

impl EpollSockets {
    pub fn new() -> io::Result<EpollSockets> {
        Ok(EpollSockets {
            epoll: Epoll::new()?,
            sockets: Vec::new(),
            received: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            buffers: Vec::new(),
            failed: Vec::new(),
            gone: Vec::new(),
        })
    }

    pub fn adopt(&mut self, slot: u32, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.epoll.add(stream.as_fd(), u64::from(slot))?;
        let index = slot as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        assert!(self.sockets[index].is_none(), "slot {slot} is taken");
        self.sockets[index] =
            Some(Socket { stream, sending: Vec::new(), sent: 0, wants_room: false });
        Ok(())
    }

    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    pub fn send(&mut self, slot: u32, bytes: Vec<u8>) {
        let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else {
            panic!("slot {slot} has no socket");
        };
        assert!(socket.sending.is_empty(), "slot {slot} is sending");
        socket.sending = bytes;
        if let Err(error) = self.go_on_sending(slot) {
            self.failed.push((slot, error));
        }
    }

    pub fn is_sending(&self, slot: u32) -> bool {
        let socket = self.sockets.get(slot as usize);
        matches!(socket, Some(Some(socket)) if !socket.sending.is_empty())
    }

    pub fn close(&mut self, slot: u32) {
        self.sockets[slot as usize] = None;
        self.gone.push(slot);
    }

    pub fn wait(
        &mut self,
        timeout: Duration,
        clock: &Clock,
        mut each: impl FnMut(u32, u64, Happening<'_>),
    ) {
        self.failed.retain(|(slot, _)| self.sockets[*slot as usize].is_some());
        let idle = self.failed.is_empty() && self.gone.is_empty();
        let timeout = if idle { timeout } else { Duration::ZERO };
        let count = match self.epoll.wait(timeout) {
            Ok(count) => count,
            Err(error) => panic!("epoll_wait on an epoll of ours failed: {error}"),
        };
        for index in 0..count {
            let slot = self.epoll.token(index) as u32;
            if self.is_sending(slot) {
                match self.go_on_sending(slot) {
                    Ok(true) => each(slot, clock.now(), Happening::Sent),
                    Ok(false) => {}
                    Err(error) => self.failed.push((slot, error)),
                }
            }
            self.receive(slot, clock, &mut each);
        }
        for slot in self.gone.drain(..) {
            each(slot, clock.now(), Happening::Gone);
        }
        for (slot, error) in self.failed.drain(..) {
            each(slot, clock.now(), Happening::Ended(Some(error)));
        }
    }

    /// Receives once. A buffer that came back full leaves the rest to the next wait.
    fn receive(
        &mut self,
        slot: u32,
        clock: &Clock,
        each: &mut impl FnMut(u32, u64, Happening<'_>),
    ) {
        let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else { return };
        let happening = match socket.stream.read(&mut self.received) {
            Ok(0) => Happening::Ended(None),
            Ok(length) => Happening::Received(&self.received[..length]),
            Err(error) if is_retry(&error) => return,
            Err(error) => Happening::Ended(Some(error)),
        };
        each(slot, clock.now(), happening);
    }

    /// Sends what the socket takes; gives whether all has left.
    fn go_on_sending(&mut self, slot: u32) -> io::Result<bool> {
        let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else { return Ok(false) };
        while socket.sent < socket.sending.len() {
            match socket.stream.write(&socket.sending[socket.sent..]) {
                Ok(sent) => socket.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let whole = socket.sent == socket.sending.len();
        if socket.wants_room == whole {
            socket.wants_room = !whole;
            self.epoll.watch_room(socket.stream.as_fd(), u64::from(slot), !whole)?;
        }
        if whole {
            let mut buffer = std::mem::take(&mut socket.sending);
            socket.sent = 0;
            if buffer.capacity() <= BUFFER_KEPT_BYTES_MAX && self.buffers.len() < BUFFERS_KEPT_MAX {
                buffer.clear();
                self.buffers.push(buffer);
            }
        }
        Ok(whole)
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
