//! Client sockets: how to listen, and what a reactor may ask of the driver that moves the bytes.
//!
//! A socket is known by its slot, the index of its connection in the reactor's table. The reactor
//! gives a slot to one socket at a time and may use it anew once the driver has said `Gone` (or
//! `Released`) for it. The one driver today is [`super::ring::RingSockets`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::ring::RingError;

/// Something that happened to a socket, or to the reactor itself.
#[derive(Debug)]
pub enum SocketEvent {
    /// A client connected to the listener.
    Accepted(TcpStream),
    /// Bytes came; [`Sockets::data`] shows them, until the next `wait`.
    Received { slot: u32, data: Chunk },
    /// The peer has closed, or the connection has failed with this error number of the system:
    /// nothing more comes, `close` it.
    Ended { slot: u32, error: Option<i32> },
    /// What `send` was given has left, and the socket takes the next. Told only of a send that
    /// could not be done at once (see [`Sockets::is_sending`]).
    Sent { slot: u32 },
    /// The socket that was to be closed is closed; the slot is free.
    Gone { slot: u32 },
    /// The socket that was to be released; the slot is free.
    Released { slot: u32, stream: TcpStream },
}

/// Bytes that a driver received and still holds.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    pub(super) buffer: u16,
    pub(super) length: u32,
}

/// How long a driver may wait for the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Look only: there is work left.
    None,
    /// At most so long.
    For(Duration),
}

/// A driver of sockets. One thread owns and calls it.
pub trait Sockets {
    /// Accepts every client of `listener` from now on.
    fn listen(&mut self, listener: TcpListener);

    /// Accepts no more, and closes the listener.
    fn stop_listening(&mut self);

    /// Takes a connected socket under `slot` and begins to receive.
    fn adopt(&mut self, slot: u32, stream: TcpStream);

    /// Sends `bytes`, in the order of the calls; they leave with the next `wait`.
    ///
    /// # Panics
    /// When the slot's last send is not done, see [`Sockets::is_sending`].
    fn send(&mut self, slot: u32, bytes: Vec<u8>);

    /// Whether a send waits for the peer to read. `Sent` tells when it no longer does.
    fn is_sending(&self, slot: u32) -> bool;

    /// The buffers of sends that are over, emptied: for the next sends, warm. Whoever calls takes
    /// them out.
    fn sent_buffers(&mut self) -> &mut Vec<Vec<u8>>;

    /// Stops receiving, so that the peer's TCP is held up. What has come already is still told.
    fn pause(&mut self, slot: u32);

    /// Receives again.
    fn resume(&mut self, slot: u32);

    /// Closes the socket: at once, or with `after_send` when what it was given to send has left, and
    /// then so that it arrives, see [`Sockets::linger`]. No event but `Gone` follows, except for
    /// data that was on the way.
    fn close(&mut self, slot: u32, after_send: bool);

    /// Stops receiving and gives the socket out, for somebody else to answer on. It must not be
    /// sending.
    fn release(&mut self, slot: u32);

    /// Closes `stream`, which has a blocking descriptor and is known by no slot, once the peer has
    /// closed it too, so that no reset takes from the peer what it was sent and has not read. What
    /// it still sends is thrown away, within `limits::LINGER_*`.
    fn linger(&mut self, stream: TcpStream);

    /// Whether connections linger.
    fn has_lingering(&self) -> bool;

    /// Hands what was asked for to the kernel and waits for events, which it appends to `events`.
    /// Returns early when the wake-up event is rung, and may at any time. Buffers of the chunks
    /// that the last call told of are reused.
    ///
    /// # Errors
    /// Only when the driver itself is broken; a socket's failure is an event.
    fn wait(&mut self, patience: Patience, events: &mut Vec<SocketEvent>) -> Result<(), RingError>;

    /// The bytes of `chunk`, which the last `wait` told of.
    fn data(&self, chunk: Chunk) -> &[u8];
}

/// Opens a listener at `address`: it may be bound again right after a restart, and its clients'
/// sockets do not delay small answers (they inherit TCP_NODELAY). An IPv6 address takes IPv4
/// clients too where the system allows it, as a JVM's does.
///
/// # Errors
/// When the address is in use, is not ours or is not allowed.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_do_not_delay_small_answers() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let error = listen(listener.local_addr().unwrap(), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
