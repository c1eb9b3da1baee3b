//! What other cores put into a reactor's inbox.

use std::net::TcpStream;
use std::sync::Arc;

use crate::admin::report::ReactorAsk;
use crate::consensus::handoff::Published;

/// One message to a reactor.
#[derive(Debug)]
pub enum ReactorMessage {
    /// From the consensus core: what was committed, and answers.
    Published(Arc<Published>),
    /// From the accepting reactor: a client that this reactor shall serve.
    Adopt(TcpStream),
    /// From the housekeeping thread.
    Ask(ReactorAsk),
    /// Stop reading from clients, give the answers that are still due, close, and end.
    Stop,
}
