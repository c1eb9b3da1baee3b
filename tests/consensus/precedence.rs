//! A request with several faults is answered with the one that ZooKeeper finds first.

use ringkeeper::ids::SessionId;
use ringkeeper::jute::error_code::ErrorCode::{self, *};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::{Acl, Id};
use ringkeeper::jute::reply;
use ringkeeper::limits::{ACL_ENTRIES_MAX, MULTI_TXN_BYTES_MAX};

use super::server::{Server, create, multi, open_acl, path_version, set_acl, set_data};

const GONE: SessionId = SessionId::from_bits(0x123);

/// A server with a znode of each kind, and a session that may do nothing to some of them.
fn server() -> (Server, SessionId) {
    let mut server = Server::new(1);
    server.define(0, &[]);
    let session = server.open(1, 30_000);
    for (path, acl, flags) in [
        ("/open", open_acl(31), 0),
        ("/open/child", open_acl(31), 0),
        ("/closed", open_acl(31), 0),
        ("/closed/child", open_acl(31), 0),
        ("/readable", open_acl(1), 0),
        ("/ephemeral", open_acl(31), 1),
    ] {
        let body = create(path, b"", &acl, flags);
        let reply = server.write((1, session, 1), OpCode::CREATE, 0, &body).unwrap();
        assert_eq!(reply.err, Ok, "{path}");
    }
    let closed = set_acl("/closed", &[acl("ip", "10.9.9.9")], -1);
    assert_eq!(server.write((1, session, 1), OpCode::SET_ACL, 0, &closed).unwrap().err, Ok);
    (server, session)
}

fn acl(scheme: &str, id: &str) -> Acl {
    Acl { perms: 31, id: Id { scheme: scheme.to_owned(), id: id.to_owned() } }
}

fn expect(op: OpCode, cases: &[(ErrorCode, bool, Vec<u8>)]) {
    let (mut server, session) = server();
    for (index, (expected, gone, body)) in cases.iter().enumerate() {
        let before = server.image();
        let session = if *gone { GONE } else { session };
        let reply = server.write((1, session, 2), op, 0, body).unwrap();
        assert_eq!(reply.err, *expected, "{op:?}, case {index}");
        assert!(reply.body.is_empty(), "{op:?}, case {index}");
        assert_eq!(server.image(), before, "{op:?}, case {index} changed something");
    }
}

#[test]
fn of_create() {
    let bad = [acl("nosuch", "x")];
    let make = |path: &str, acl: &[Acl], flags| create(path, b"", acl, flags);
    expect(
        OpCode::CREATE,
        &[
            (BadArguments, true, make("/open/x", &bad, 9)),
            (BadArguments, true, make("/open/x", &bad, 5)),
            (BadArguments, true, make("/open/x", &bad, 4)),
            (UnknownSession, true, make("nope", &bad, 0)),
            (BadArguments, false, make("nope", &bad, 0)),
            (BadArguments, false, make("/a\0b", &bad, 0)),
            (InvalidAcl, false, make("/missing/x", &bad, 0)),
            (NoNode, false, make("/missing/x/", &open_acl(31), 0)),
            (NoNode, false, make("/open//x", &open_acl(31), 0)),
            (NoAuth, false, make("/closed/child", &open_acl(31), 0)),
            (NoAuth, false, make("/closed/..", &open_acl(31), 0)),
            (BadArguments, false, make("/open/..", &open_acl(31), 0)),
            (BadArguments, false, make("//", &open_acl(31), 0)),
            (NodeExists, false, make("/", &open_acl(31), 0)),
            (NodeExists, false, make("/open/child", &open_acl(31), 0)),
            (NoChildrenForEphemerals, false, make("/ephemeral/x", &open_acl(31), 0)),
            (BadArguments, false, make("/ephemeral/.", &open_acl(31), 0)),
        ],
    );
}

#[test]
fn of_create_container_and_create_ttl() {
    let container = |flags| create("/open/x", b"", &open_acl(31), flags);
    let ttl = |flags, ttl: i64| [container(flags), ttl.to_be_bytes().to_vec()].concat();
    expect(
        OpCode::CREATE_CONTAINER,
        &[0, 1, 2, 3, 5, 6, 7].map(|flags| (BadArguments, true, container(flags))),
    );
    expect(
        OpCode::CREATE_TTL,
        &[
            // What would stop every ZooKeeper that applies it.
            (BadArguments, true, ttl(0, -1)),
            (BadArguments, true, ttl(4, -1)),
            (BadArguments, true, ttl(0, 1)),
            (BadArguments, true, ttl(5, 0)),
            (BadArguments, true, ttl(6, 0x100_0000_0000)),
            (UnknownSession, true, ttl(5, 1)),
        ],
    );
}

#[test]
fn of_delete() {
    expect(
        OpCode::DELETE,
        &[
            (UnknownSession, true, path_version("", -1)),
            (BadArguments, false, path_version("", -1)),
            (BadArguments, false, path_version("/", -1)),
            (BadArguments, false, path_version("/zookeeper", -1)),
            (BadArguments, false, path_version("/zookeeper/quota", -1)),
            (BadArguments, false, path_version("/zookeeper/config", -1)),
            (NoNode, false, path_version("/missing/x", -1)),
            (NoAuth, false, path_version("/closed/missing", 9)),
            (NoAuth, false, path_version("/closed/child", 9)),
            (NoNode, false, path_version("/open/missing", 9)),
            (BadVersion, false, path_version("/open", 9)),
            (NotEmpty, false, path_version("/open", -1)),
        ],
    );
}

#[test]
fn of_set_data() {
    expect(
        OpCode::SET_DATA,
        &[
            (UnknownSession, true, set_data("nope", b"", 9)),
            (BadArguments, false, set_data("/open/", b"", 9)),
            (NoNode, false, set_data("/missing", b"", 9)),
            (NoAuth, false, set_data("/readable", b"", 9)),
            (NoAuth, false, set_data("/zookeeper/config", b"", 9)),
            (BadVersion, false, set_data("/open", b"", 9)),
        ],
    );
}

#[test]
fn of_set_acl() {
    let many: Vec<Acl> =
        (0..=ACL_ENTRIES_MAX as i32).map(|perms| Acl { perms, ..acl("world", "anyone") }).collect();
    expect(
        OpCode::SET_ACL,
        &[
            (UnknownSession, true, set_acl("nope", &[], 9)),
            (BadArguments, false, set_acl("nope", &[], 9)),
            (InvalidAcl, false, set_acl("/missing", &[], 9)),
            (InvalidAcl, false, set_acl("/open", &many, -1)),
            (BadArguments, false, set_acl("/open", &[acl("digest", "\u{1f600}:x")], -1)),
            (NoNode, false, set_acl("/missing", &open_acl(31), 9)),
            (NoAuth, false, set_acl("/readable", &open_acl(31), 9)),
            (BadVersion, false, set_acl("/open", &open_acl(31), 9)),
        ],
    );
}

#[test]
fn of_requests_that_no_client_may_make() {
    let (mut server, session) = server();
    let mut config = vec![0xff; 12];
    config.extend_from_slice(&[0xff; 8]);
    for (op, expected, body) in [
        (OpCode::RECONFIG, ReconfigDisabled, config),
        (OpCode::DELETE_CONTAINER, BadArguments, path_version("/open/child", 0)),
        (OpCode::DELETE_CONTAINER, BadArguments, vec![0]),
        (OpCode::CREATE_SESSION, MarshallingError, vec![0; 3]),
    ] {
        let reply = server.write((1, session, 2), op, 0, &body).unwrap();
        assert_eq!(reply.err, expected, "{op:?}");
    }
    assert!(server.see("/open/child", |_| ()).is_some());
}

/// What ZooKeeper reads, and finds fault with later: null, and text that is not UTF-8. It costs a
/// transaction.
#[test]
fn of_null_and_of_what_is_not_text() {
    let (mut server, session) = server();
    let null = || (-1_i32).to_be_bytes().to_vec();
    let behind =
        |front: Vec<u8>, whole: Vec<u8>, from: usize| [&front[..], &whole[from..]].concat();
    let with_acl = |scheme: Option<&str>, id: Option<&str>| {
        let mut body = Vec::new();
        reply::string(&mut body, "/x");
        reply::buffer(&mut body, None);
        reply::int(&mut body, 1);
        reply::int(&mut body, 31);
        reply::buffer(&mut body, scheme.map(str::as_bytes));
        reply::buffer(&mut body, id.map(str::as_bytes));
        reply::int(&mut body, 0);
        body
    };
    let no_text = [&2_i32.to_be_bytes()[..], b"/\xff"].concat();
    let create_x = || create("/x", b"", &open_acl(31), 0);
    for (op, expected, body) in [
        (OpCode::CREATE, MarshallingError, behind(null(), create_x(), 6)),
        (OpCode::CREATE, InvalidAcl, with_acl(None, Some("anyone"))),
        (OpCode::CREATE, MarshallingError, with_acl(Some("world"), None)),
        (OpCode::CREATE, InvalidAcl, with_acl(Some("auth"), None)),
        (OpCode::CREATE, InvalidAcl, with_acl(None, None)),
        (OpCode::CREATE, InvalidAcl, with_acl(Some("nosuch"), None)),
        (OpCode::CREATE, MarshallingError, with_acl(Some("digest"), None)),
        (OpCode::CREATE, MarshallingError, with_acl(Some("ip"), None)),
        (OpCode::CREATE, BadArguments, behind(no_text.clone(), create_x(), 6)),
        (OpCode::DELETE, MarshallingError, behind(null(), path_version("/x", -1), 6)),
        (OpCode::DELETE, NoNode, behind(no_text.clone(), path_version("/x", -1), 6)),
        (OpCode::SET_DATA, BadArguments, behind(null(), set_data("/x", b"", -1), 6)),
        (OpCode::SET_DATA, BadArguments, behind(no_text.clone(), set_data("/x", b"", -1), 6)),
        (OpCode::SET_ACL, BadArguments, behind(null(), set_acl("/x", &open_acl(31), -1), 6)),
    ] {
        let before = server.committed();
        let reply = server.write((1, session, 2), op, 0, &body).unwrap();
        assert_eq!((reply.err, reply.zxid), (expected, before.next()), "{op:?} {body:x?}");
    }
}

/// In a multi ZooKeeper 3.9 decides by the flags of a create, before it looks at anything else.
#[test]
fn of_the_flags_of_a_create_in_a_multi() {
    let (mut server, session) = server();
    let part = |op, flags| multi(&[(op, create("/open/new", b"", &open_acl(31), flags))]);
    for (op, flags) in [(OpCode::CREATE, 5), (OpCode::CREATE2, 6), (OpCode::CREATE_CONTAINER, 9)] {
        let reply = server.write((1, session, 2), OpCode::MULTI, 0, &part(op, flags)).unwrap();
        assert_eq!((reply.err, reply.body), (MarshallingError, Vec::new()), "{op:?} {flags}");
    }
    let before = server.committed();
    let mut null_acl = create("/open/new", b"", &[], 0);
    let at = null_acl.len() - 8;
    null_acl[at..at + 4].fill(0xff);
    let body = multi(&[(OpCode::CREATE, null_acl)]);
    let reply = server.write((1, session, 2), OpCode::MULTI, 0, &body).unwrap();
    assert_eq!((reply.err, reply.zxid), (MarshallingError, before));
    let reply = server.write((1, session, 2), OpCode::MULTI, 0, &part(OpCode::CREATE, 4)).unwrap();
    assert_eq!(&reply.body[..4], OpCode::CREATE2.0.to_be_bytes());
    let owner = server.see("/open/new", |node| node.owner());
    assert_eq!(owner, Some(ringkeeper::tree::Owner::Container));
}

#[test]
fn a_parent_whose_counter_is_at_its_end_takes_no_more_children() {
    use ringkeeper::consensus::recovery::State;
    use ringkeeper::ids::{ServerId, Zxid};
    use ringkeeper::log::recover::Recover;
    use ringkeeper::snapshot::format::Znode;
    let mut state = State::new(ServerId::STANDALONE, 2_000);
    state.begin(Zxid::from_bits(9), 2);
    let znode = |path, cversion| Znode {
        path,
        data: None,
        acl: 0,
        czxid: 1,
        mzxid: 1,
        pzxid: 1,
        ctime: 0,
        mtime: 0,
        version: 0,
        cversion,
        aversion: 0,
        ephemeral_owner: 0,
    };
    state.znode(&znode("/", 1)).unwrap();
    state.znode(&znode("/full", i32::MAX - 1)).unwrap();
    let mut server = Server::recovered(state);
    server.define(0, &[]);
    let session = server.open(1, 30_000);
    let body = create("/full/n-", b"", &open_acl(31), 2);
    let last = server.write((1, session, 1), OpCode::CREATE, 0, &body).unwrap();
    assert!(last.body.ends_with(b"/full/n-2147483646"), "{last:?}");
    let refused = server.write((1, session, 2), OpCode::CREATE, 0, &body).unwrap();
    assert_eq!(refused.err, BadArguments);
}

#[test]
fn of_a_multi_that_its_ids_make_too_long() {
    const IDS: usize = 60;
    const ID_BYTES: usize = 1000;
    let mut server = server().0;
    let session = server.open(2, 30_000);
    let name = |number| format!("{number:0width$}:x", width = ID_BYTES - 2);
    let ids: Vec<Id> = (0..IDS).map(|number| acl("digest", &name(number)).id).collect();
    server.define(1, &ids);
    let fits = MULTI_TXN_BYTES_MAX / (IDS * (ID_BYTES + 18) + 100);
    let creates = |count| {
        let make = |number| create(&format!("/open/{number}"), b"", &[acl("auth", "")], 0);
        let parts: Vec<_> = (0..count).map(|number| (OpCode::CREATE, make(number))).collect();
        multi(&parts)
    };
    let before = server.image();
    for too_many in [fits + 2, 10_000] {
        let body = creates(too_many);
        let reply = server.write((2, session, 1), OpCode::MULTI, 1, &body).unwrap();
        assert_eq!((reply.err, reply.body.len()), (MarshallingError, 0), "{too_many} creates");
        assert_eq!(server.image(), before, "{too_many} creates");
        assert!(server.log.last().unwrap().1.len() < 100, "an error and nothing else");
    }
    let reply = server.write((2, session, 2), OpCode::MULTI, 1, &creates(fits)).unwrap();
    assert_eq!(reply.err, Ok);
    assert_eq!(server.image().len(), before.len() + fits);
    let logged = server.log.last().unwrap().1.len();
    assert!(logged <= MULTI_TXN_BYTES_MAX, "{logged} bytes");
    assert_eq!(server.restarted().image(), server.image());
}
