//! Containers and TTL znodes: what goes, when, and as which transaction.

use ringkeeper::ids::SessionId;
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::txn::{Transaction, Txn};

use super::server::{Server, create, effects, open_acl, path_version};

const INTERVAL_MS: u64 = 60_000;

fn server() -> (Server, SessionId) {
    let mut server = Server::new(1);
    server.define(0, &[]);
    let session = server.open(1, 30_000);
    let ttl = [&create("/ttl", b"", &open_acl(31), 5)[..], &30_000_i64.to_be_bytes()].concat();
    for (op, body) in [
        (OpCode::CREATE_CONTAINER, create("/container", b"", &open_acl(31), 4)),
        (OpCode::CREATE, create("/container/child", b"", &open_acl(31), 0)),
        (OpCode::CREATE_CONTAINER, create("/unused", b"", &open_acl(31), 4)),
        (OpCode::CREATE_TTL, ttl),
    ] {
        assert_eq!(server.write((1, session, 1), op, 0, &body).unwrap().err, ErrorCode::Ok);
    }
    (server, session)
}

#[test]
fn what_is_over_goes_in_transactions_of_the_server_itself() {
    let (mut server, session) = server();
    assert!(server.reap_until(INTERVAL_MS).is_empty());
    let child = path_version("/container/child", -1);
    server.write((1, session, 2), OpCode::DELETE, 0, &child).unwrap();
    let before = server.committed().bits();
    let published = server.reap_until(server.now_ms + 2 * INTERVAL_MS);
    let told: Vec<String> = published.iter().flat_map(effects).collect();
    assert_eq!(told, ["-/container", "-/ttl"]);
    assert_eq!(server.committed().bits(), before + 2);
    for (path, (_, txn)) in ["/container", "/ttl"].iter().zip(&server.log[server.log.len() - 2..]) {
        let txn = Transaction::decode(txn).unwrap();
        assert_eq!((txn.header.client_id, txn.header.cxid), (SessionId::NONE, 0));
        assert_eq!(txn.header.op, OpCode::DELETE_CONTAINER);
        assert!(matches!(&txn.txn, Txn::DeleteContainer { path: at } if at == path));
    }
    assert!(server.see("/unused", |_| ()).is_some(), "it waits for its first child");
    assert_eq!(server.see("/", |node| node.stat().pzxid), Some(before + 2));
    assert_eq!(server.restarted().image(), server.image());
}

#[test]
fn a_restart_still_knows_what_has_to_go() {
    let (mut server, session) = server();
    let child = path_version("/container/child", -1);
    server.write((1, session, 2), OpCode::DELETE, 0, &child).unwrap();
    let mut server = server.restarted();
    let published = server.reap_until(server.now_ms + 2 * INTERVAL_MS);
    let told: Vec<String> = published.iter().flat_map(effects).collect();
    assert_eq!(told, ["-/container", "-/ttl"]);
}
