//! Sessions: who may write, who is told what, and what goes with a session.

use ringkeeper::consensus::handoff::{Answer, Entry, IdentityIndex, Outcome, Published};
use ringkeeper::ids::SessionId;
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::reply;
use ringkeeper::jute::txn::{Transaction, Txn};
use ringkeeper::limits::CLOSE_SESSION_PATH_BYTES_MAX;

use super::server::{Server, TICK_MS, conn, create, effects, open_acl, set_data};

fn server() -> Server {
    let mut server = Server::new(1);
    server.define(0, &[]);
    server
}

fn make(server: &mut Server, slot: u32, session: SessionId, path: &str, flags: i32) {
    let body = create(path, b"x", &open_acl(31), flags);
    let reply = server.write((slot, session, 1), OpCode::CREATE, 0, &body).unwrap();
    assert_eq!(reply.err, ErrorCode::Ok, "{path}");
}

fn renew(server: &mut Server, slot: u32, session: SessionId) -> Published {
    let entry = Entry::RenewSession { conn: conn(slot), session, timeout_ms: 30_000 };
    server.run(vec![entry], Vec::new())
}

fn last_txn(server: &Server) -> (OpCode, SessionId, i32, Vec<String>) {
    let (_, bytes) = server.log.last().unwrap();
    let txn = Transaction::decode(bytes).unwrap();
    let paths = match &txn.txn {
        Txn::CloseSession { paths: Some(paths) } => paths.iter().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    (txn.header.op, txn.header.client_id, txn.header.cxid, paths)
}

#[test]
fn closing_a_session_deletes_its_ephemerals_in_order_and_then_ends_it() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let other = server.open(2, 30_000);
    make(&mut server, 1, session, "/b", 1);
    make(&mut server, 1, session, "/a", 1);
    make(&mut server, 1, session, "/stays", 0);
    make(&mut server, 2, other, "/other", 1);
    let entry = Entry::Write {
        conn: conn(1),
        session,
        xid: 9,
        op: OpCode::CLOSE_SESSION,
        identity: IdentityIndex(0),
        body: 0..0,
    };
    let published = server.run(vec![entry], Vec::new());
    assert_eq!(effects(&published), ["-/a", "-/b", "x"]);
    assert!(matches!(
        published.answers[0].list[0].outcome,
        Outcome::ReplyAndClose { err: ErrorCode::Ok, .. }
    ));
    let paths = vec!["/a".to_owned(), "/b".to_owned()];
    assert_eq!(last_txn(&server), (OpCode::CLOSE_SESSION, session, 9, paths));
    assert!(server.see("/a", |_| ()).is_none());
    assert!(server.see("/stays", |_| ()).is_some());
    assert!(server.see("/other", |_| ()).is_some());
    assert_eq!(server.sessions(), [(other, 30_000)]);
}

#[test]
fn an_expired_session_is_closed_by_the_server() {
    let mut server = server();
    let silent = server.open(1, 4_000);
    let lively = server.open(2, 4_000);
    make(&mut server, 1, silent, "/lock", 1);
    server.now_ms = 3_000;
    server.run(
        vec![
            Entry::Touch { session: lively, ago_ms: 500 },
            Entry::Sync { conn: conn(2), session: lively, xid: 1 },
        ],
        Vec::new(),
    );
    assert!(server.tick(5_999).is_empty());
    let published = server.tick(6_000);
    assert_eq!(effects(&published[0]), ["-/lock", "x"]);
    assert!(published[0].answers[0].list.is_empty(), "nobody asked for it");
    let (op, session, cxid, _) = last_txn(&server);
    assert_eq!((op, session, cxid), (OpCode::CLOSE_SESSION, silent, 0));
    assert_eq!(server.sessions(), [(lively, 4_000)]);
    assert!(server.tick(7_999).is_empty());
    assert_eq!(effects(&server.tick(8_000)[0]), ["x"]);
}

#[test]
fn a_session_that_is_closing_or_gone_writes_no_more() {
    let mut server = server();
    let session = server.open(1, 4_000);
    let body = create("/late", b"", &open_acl(31), 1);
    let (identity, range) = (IdentityIndex(0), 0..body.len() as u32);
    let (op, body_range) = (OpCode::CREATE, range);
    let write =
        |xid| Entry::Write { conn: conn(1), session, xid, op, identity, body: body_range.clone() };
    let close = Entry::Write {
        conn: conn(1),
        session,
        xid: 1,
        op: OpCode::CLOSE_SESSION,
        identity,
        body: 0..0,
    };
    let sync = Entry::Sync { conn: conn(1), session, xid: 3 };
    // All in one batch: the session is closing, not yet gone.
    let published = server.run(vec![close, write(2), sync], body.clone());
    let errors: Vec<_> = published.answers[0]
        .list
        .iter()
        .map(|answer| match &answer.outcome {
            Outcome::Reply { err, .. } | Outcome::ReplyAndClose { err, .. } => *err,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors, [ErrorCode::Ok, ErrorCode::SessionExpired, ErrorCode::SessionExpired]);
    assert_eq!(published.txns.len(), 2, "a refused write is a transaction all the same");
    let gone = server.write((1, session, 4), OpCode::CREATE, 0, &body).unwrap();
    assert_eq!(gone.err, ErrorCode::UnknownSession);
    assert!(server.see("/late", |_| ()).is_none());
    let refused = renew(&mut server, 2, session);
    assert!(matches!(refused.answers[0].list[0].outcome, Outcome::SessionRefused));
}

#[test]
fn a_session_that_moved_closes_the_connection_that_it_left() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let published = renew(&mut server, 2, session);
    let list = &published.answers[0].list;
    assert_eq!(list[0].conn, conn(1));
    assert!(matches!(list[0].outcome, Outcome::Close));
    assert_eq!(list[1].conn, conn(2));
    assert!(matches!(list[1].outcome, Outcome::SessionOpened { timeout_ms: 30_000, .. }));
    // What was still on its way from there costs a transaction and is not answered.
    let before = server.committed();
    let body = set_data("/zookeeper", b"late", -1);
    assert_eq!(server.write((1, session, 5), OpCode::SET_DATA, 0, &body), None);
    assert_eq!(server.write((1, session, 6), OpCode::CLOSE_SESSION, 0, &[]), None);
    assert_eq!(server.committed().bits(), before.bits() + 2);
    assert!(matches!(last_txn(&server), (OpCode::ERROR, _, 6, _)));
    make(&mut server, 2, session, "/still-here", 1);
}

#[test]
fn a_wrong_password_closes_the_connection_that_has_the_session() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let before = server.committed();
    let published = server.run(vec![Entry::WrongPassword { session }], Vec::new());
    let list = &published.answers[0].list;
    assert!(matches!(list[..], [Answer { outcome: Outcome::Close, .. }]), "{list:?}");
    assert_eq!(list[0].conn, conn(1));
    server.submit(vec![Entry::Disconnected { conn: conn(1), session }], Vec::new());
    server.submit(vec![Entry::WrongPassword { session }], Vec::new());
    server.submit(vec![Entry::WrongPassword { session: SessionId::from_bits(9) }], Vec::new());
    assert!(server.flush().is_empty());
    assert_eq!(server.committed(), before);
    make(&mut server, 2, session, "/still-here", 1);
}

#[test]
fn a_session_created_again_has_the_new_timeout_after_a_restart() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let before = server.committed();
    let op = OpCode::CREATE_SESSION;
    let reply = server.write((1, session, 3), op, 0, &5_000_i32.to_be_bytes()).unwrap();
    assert_eq!((reply.err, reply.zxid), (ErrorCode::Ok, before.next()));
    assert_eq!(server.sessions(), [(session, 5_000)]);
    assert_eq!(server.restarted().sessions(), [(session, 5_000)]);
    assert_eq!(server.write((2, session, 4), op, 0, &5_000_i32.to_be_bytes()), None);
}

#[test]
fn a_renewal_waits_for_what_was_prepared_before_it() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let body = create("/a", b"", &open_acl(31), 0);
    let write = Entry::Write {
        conn: conn(1),
        session,
        xid: 1,
        op: OpCode::CREATE,
        identity: IdentityIndex(0),
        body: 0..body.len() as u32,
    };
    let renewal = Entry::RenewSession { conn: conn(2), session, timeout_ms: 30_000 };
    let sync = Entry::Sync { conn: conn(2), session, xid: 2 };
    let published = server.run(vec![write, renewal, sync], body);
    let after: Vec<u32> = published.answers[0].list.iter().map(|answer| answer.after).collect();
    assert_eq!(after, [1, 1, 1, 1]);
    assert_eq!(published.txns.len(), 1);
    // With nothing before it, an answer needs no flush and no transaction.
    let sync = Entry::Sync { conn: conn(2), session, xid: 3 };
    let published = server.run(vec![sync], Vec::new());
    assert_eq!((published.txns.len(), published.answers[0].list[0].after), (0, 0));
    assert_eq!(published.through, server.committed());
}

#[test]
fn after_a_restart_sessions_live_on_with_a_full_timeout() {
    let mut server = server();
    let session = server.open(1, 10_000);
    make(&mut server, 1, session, "/lock", 1);
    let mut after = server.restarted();
    after.define(0, &[]);
    assert_eq!(after.sessions(), [(session, 10_000)]);
    assert!(after.tick(after.now_ms + 9_999).is_empty());
    renew(&mut after, 7, session);
    make(&mut after, 7, session, "/lock2", 1);
    let ended = after.tick(after.now_ms + 30_000 + TICK_MS);
    assert_eq!(effects(&ended[0]), ["-/lock", "-/lock2", "x"]);
}

#[test]
fn a_session_with_very_many_ephemerals_ends_in_a_transaction_of_bounded_size() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let long = "x".repeat(20_000);
    for number in 0..60 {
        make(&mut server, 1, session, &format!("/{long}{number:03}"), 1);
    }
    let closed = server.write((1, session, 2), OpCode::CLOSE_SESSION, 0, &[]).unwrap();
    assert_eq!(closed.err, ErrorCode::Ok);
    let (_, txn) = server.log.last().unwrap();
    assert!(txn.len() < CLOSE_SESSION_PATH_BYTES_MAX + 100, "{} bytes", txn.len());
    let (_, _, _, named) = last_txn(&server);
    assert!((20..60).contains(&named.len()), "{} named", named.len());
    assert_eq!(server.image().len(), 4, "all are gone");
    assert_eq!(server.restarted().image(), server.image(), "after a restart, too");
}

#[test]
fn a_session_opened_by_the_log_alone_is_not_seen_before_it_is_durable() {
    let mut server = server();
    server.submit(vec![Entry::OpenSession { conn: conn(1), timeout_ms: 30_000 }], Vec::new());
    assert!(server.sessions().is_empty());
    let published = server.flush();
    assert_eq!(published[0].answers[0].list.len(), 1);
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn an_undecodable_write_is_answered_and_costs_no_transaction() {
    let mut server = server();
    let session = server.open(1, 30_000);
    let before = server.committed();
    let mut body = Vec::new();
    reply::string(&mut body, "/a");
    for op in [OpCode::CREATE, OpCode::SET_DATA, OpCode::SET_ACL, OpCode::DELETE] {
        let reply = server.write((1, session, 1), op, 0, &body).unwrap();
        assert_eq!((reply.err, reply.zxid), (ErrorCode::MarshallingError, before), "{op:?}");
    }
    let multi = server.write((1, session, 2), OpCode::MULTI, 0, &body).unwrap();
    assert_eq!(multi.err, ErrorCode::MarshallingError);
    assert_eq!(multi.zxid, before.next(), "a multi has its zxid before it is decoded");
}
