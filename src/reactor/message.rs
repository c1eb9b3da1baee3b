//! What other cores put into a reactor's inbox.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use crate::admin::report::ReactorAsk;
use crate::consensus::handoff::Published;
use crate::tree::Reader;

/// One message to a reactor.
#[derive(Debug)]
pub enum ReactorMessage {
    /// From the consensus core: what was committed, and answers.
    Published(Arc<Published>),
    /// From the consensus core: serve clients, with what this reader, which is pinned, reads.
    Serve(Reader),
    /// From the consensus core: close all clients' connections, and serve nobody until `Serve`. No
    /// `Published` comes meanwhile.
    Withdraw,
    /// From the accepting reactor: a client that was admitted, and that this reactor shall serve.
    Adopt(TcpStream, SocketAddr),
    /// From the operators' thread.
    Ask(ReactorAsk),
    /// From the operators' thread: a connection whose word is answered, to be closed once the client
    /// has read.
    Linger(TcpStream),
    /// Stop reading from clients, give the answers that are still due, close, and end.
    Stop,
}
