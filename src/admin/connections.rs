//! `cons`: every connection with its counters; and its brief form, which `stat` lists.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::report::{ConnectionReport, ReactorReport};
use crate::ids::Zxid;
use crate::jute::opcode::OpCode;

/// What ZooKeeper prints where there is none: -1.
const NO_ZXID: Zxid = Zxid::from_bits(-1);

/// `cons`. `asking` is the connection that asks.
pub fn cons(out: &mut String, asking: &ConnectionReport, reports: &[ReactorReport]) {
    full(out, asking);
    for connection in reports.iter().flat_map(|report| &report.connection_list) {
        full(out, connection);
    }
    out.push('\n');
}

/// One line without the session.
pub fn brief(out: &mut String, connection: &ConnectionReport) {
    head(out, connection);
    out.push_str(")\n");
}

fn head(out: &mut String, connection: &ConnectionReport) {
    let ConnectionReport { address, interest_ops, queued, received, sent, .. } = connection;
    let address = java_address(*address);
    write!(out, " {address}[{interest_ops}](queued={queued},recved={received},sent={sent}")
        .unwrap();
}

fn full(out: &mut String, connection: &ConnectionReport) {
    head(out, connection);
    if let Some(session) = &connection.session {
        write!(
            out,
            ",sid={},lop={},est={},to={}",
            session.session,
            session.last_op.map_or("NA", op_name),
            session.established_ms,
            session.timeout_ms,
        )
        .unwrap();
        if let Some(cxid) = session.last_cxid {
            write!(out, ",lcxid={cxid:#x}").unwrap();
        }
        write!(
            out,
            ",lzxid={},lresp={},llat={},minlat={},avglat={},maxlat={}",
            session.last_zxid.unwrap_or(NO_ZXID),
            session.last_response_ms,
            session.last_latency_ms,
            session.latency.min_ms,
            // Whole milliseconds here, as in ZooKeeper.
            session.latency.average_ms() as u64,
            session.latency.max_ms,
        )
        .unwrap();
    }
    out.push_str(")\n");
}

/// `/10.0.0.1:58692`, `/[0:0:0:0:0:0:0:1]:58692`: a socket address without a name, as Java writes
/// it since JDK 14; an IPv4 client of an IPv6 socket as an IPv4 client.
pub fn java_address(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}:{}", address.port()),
        IpAddr::V6(ip) => {
            let groups: Vec<String> =
                ip.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/[{}]:{}", groups.join(":"), address.port())
        }
    }
}

/// The short names that ZooKeeper's `FinalRequestProcessor` gives to what it did last.
fn op_name(op: OpCode) -> &'static str {
    match op {
        OpCode::PING => "PING",
        OpCode::CREATE_SESSION => "SESS",
        OpCode::MULTI => "MULT",
        OpCode::MULTI_READ => "MLTR",
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_TTL | OpCode::CREATE_CONTAINER => "CREA",
        OpCode::DELETE | OpCode::DELETE_CONTAINER => "DELE",
        OpCode::SET_DATA => "SETD",
        OpCode::RECONFIG => "RECO",
        OpCode::SET_ACL => "SETA",
        OpCode::CLOSE_SESSION => "CLOS",
        OpCode::SYNC => "SYNC",
        OpCode::CHECK => "CHEC",
        OpCode::EXISTS => "EXIS",
        OpCode::GET_DATA => "GETD",
        OpCode::SET_WATCHES => "SETW",
        OpCode::SET_WATCHES2 => "STW2",
        OpCode::ADD_WATCH => "ADDW",
        OpCode::GET_ACL => "GETA",
        OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => "GETC",
        OpCode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        OpCode::CHECK_WATCHES => "CHKW",
        OpCode::REMOVE_WATCHES => "REMW",
        OpCode::WHO_AM_I => "HOMI",
        OpCode::GET_EPHEMERALS => "GETE",
        _ => "NA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        assert_eq!(java_address("10.0.0.1:5".parse().unwrap()), "/10.0.0.1:5");
        assert_eq!(java_address("[::ffff:10.0.0.1]:5".parse().unwrap()), "/10.0.0.1:5");
        assert_eq!(java_address("[::1]:5".parse().unwrap()), "/[0:0:0:0:0:0:0:1]:5");
    }
}
