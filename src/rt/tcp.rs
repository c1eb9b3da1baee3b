//! TCP on an executor: for the few connections of the quorum port. Clients' connections have a ring
//! of their own, see `net`.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net;
use socket2::SockRef;

use super::task::{Spawned, spawn};

/// A connection. Small messages leave at once.
#[derive(Debug)]
pub struct Stream(net::TcpStream);

impl Stream {
    /// Connects to `to`, or gives up after `timeout`, which is more than nothing.
    ///
    /// # Errors
    /// When nobody is there, or nobody answers in time.
    pub async fn connect(to: SocketAddr, timeout: Duration) -> io::Result<Stream> {
        let stream = net::TcpStream::connect_timeout(to, timeout).await?;
        // The kernel may have given us the very port that we dial, where nobody listens.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        Ok(Stream(stream))
    }

    /// The other side.
    ///
    /// # Errors
    /// When there is no connection any more.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        Ok(self.0.peer_addr()?)
    }

    /// Receives what is there; 0 is the end.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }

    /// Sends as much of `bytes` as there is room for.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
}

/// A listener. Dropped, it is closed at once, and its port may be bound again.
#[derive(Debug)]
pub struct Listener {
    accepting: Option<Spawned<io::Result<Stream>>>,
    listener: Rc<net::TcpListener>,
    /// A second descriptor of it.
    socket: TcpListener,
}

impl Listener {
    /// Accepts on the executor of this thread.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(listener: TcpListener) -> io::Result<Listener> {
        let socket = listener.try_clone()?;
        // SAFETY: the descriptor was just given up by its only owner.
        let listener = unsafe { net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
        Ok(Listener { accepting: None, listener: Rc::new(listener), socket })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Never, in practice.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let accepting = self.accepting.get_or_insert_with(|| {
            let listener = Rc::clone(&self.listener);
            spawn(async move {
                let stream = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream(stream))
            })
        });
        let accepted = Pin::new(accepting).poll(context);
        if accepted.is_ready() {
            self.accepting = None;
        }
        accepted
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The kernel holds on to the socket until it has heard that nobody accepts any more, which
        // may be later than the next who binds the port. It cannot fail but for being closed.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }
}
