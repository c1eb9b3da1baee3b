//! What a reactor hands to the thread that answers operators.

use std::net::{SocketAddr, TcpStream};

use super::word::Question;
use crate::ids::ReactorId;

/// A connection whose first four bytes were a four-letter word. The reactor has let go of it;
/// whoever answers tells that reactor `ReactorAsk::AdminConnectionClosed` when it is done.
#[derive(Debug)]
pub struct AdminRequest {
    /// The connection, to be written to and closed.
    pub stream: TcpStream,
    /// What it asked for.
    pub question: Question,
    /// The client's address.
    pub address: SocketAddr,
    /// The reactor that had accepted it, which counts it until it is closed.
    pub reactor: ReactorId,
}
