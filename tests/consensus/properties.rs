//! What must hold of any writes: a multi is all of its operations in order, or nothing; and the log
//! makes the same state again.

use proptest::prelude::*;
use ringkeeper::ids::SessionId;
use ringkeeper::jute::decode::Cursor;
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::records::{Acl, Id};

use super::server::{Image, Server, create, multi, open_acl, path_version, set_acl, set_data};

/// A few paths, so that operations meet.
fn path() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/e/", "/zookeeper/quota"])
        .prop_map(str::to_owned)
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(-1), 1 => 0..3]
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let digest = Id { scheme: "digest".to_owned(), id: "user:secret".to_owned() };
    prop_oneof![
        4 => Just(open_acl(31)),
        1 => Just(open_acl(1)),
        1 => Just(vec![Acl { perms: 31, id: digest }]),
        1 => Just(Vec::new()),
    ]
}

/// A write that may stand in a multi.
fn part() -> impl Strategy<Value = (OpCode, Vec<u8>)> {
    let data = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => (path(), data.clone(), acl(), 0..4)
            .prop_map(|(p, d, a, flags)| (OpCode::CREATE, create(&p, &d, &a, flags))),
        1 => (path(), data.clone(), acl())
            .prop_map(|(p, d, a)| (OpCode::CREATE2, create(&p, &d, &a, 0))),
        1 => path().prop_map(|p| (OpCode::CREATE_CONTAINER, create(&p, b"", &open_acl(31), 4))),
        1 => path().prop_map(|p| {
            let ttl = 1_000_i64.to_be_bytes();
            (OpCode::CREATE_TTL, [create(&p, b"", &open_acl(31), 5), ttl.to_vec()].concat())
        }),
        3 => (path(), data, version()).prop_map(|(p, d, v)| (OpCode::SET_DATA, set_data(&p, &d, v))),
        2 => (path(), version()).prop_map(|(p, v)| (OpCode::DELETE, path_version(&p, v))),
        1 => (path(), version()).prop_map(|(p, v)| (OpCode::CHECK, path_version(&p, v))),
    ]
}

fn write() -> impl Strategy<Value = (OpCode, Vec<u8>)> {
    prop_oneof![
        6 => part().prop_filter("a check stands in a multi", |(op, _)| *op != OpCode::CHECK),
        1 => (path(), acl(), version()).prop_map(|(p, a, v)| (OpCode::SET_ACL, set_acl(&p, &a, v))),
        2 => prop::collection::vec(part(), 0..5).prop_map(|parts| (OpCode::MULTI, multi(&parts))),
    ]
}

fn fresh() -> (Server, SessionId) {
    let mut server = Server::new(1);
    server.define(0, &[]);
    let session = server.open(1, 30_000);
    (server, session)
}

/// The image without what tells one zxid from another: a multi has one, its operations alone have
/// one each.
fn without_zxids(mut image: Image) -> Image {
    for (_, _, stat, _) in &mut image {
        (stat.czxid, stat.mzxid, stat.pzxid) = (0, 0, 0);
    }
    image
}

/// The errors that a multi's reply tells, by operation.
fn errors(body: &[u8]) -> Vec<i32> {
    let mut cursor = Cursor::new(body);
    let mut errors = Vec::new();
    loop {
        let op = cursor.int("type").unwrap();
        let done = cursor.bool("done").unwrap();
        let err = cursor.int("err").unwrap();
        if done {
            return errors;
        }
        assert_eq!(op, OpCode::ERROR.0);
        assert_eq!(cursor.int("err").unwrap(), err);
        errors.push(err);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_log_makes_the_same_state_again(writes in prop::collection::vec(write(), 0..40)) {
        let (mut server, session) = fresh();
        let mut committed = server.committed();
        for (op, body) in &writes {
            let before = server.image();
            let reply = server.write((1, session, 1), *op, 0, body).unwrap();
            prop_assert_eq!(reply.zxid, committed.next(), "every write uses up one zxid");
            committed = reply.zxid;
            if reply.err != ErrorCode::Ok {
                prop_assert_eq!(server.image(), before, "{:?} failed and left a trace", op);
            }
        }
        let after = server.restarted();
        prop_assert_eq!(after.image(), server.image());
        prop_assert_eq!(after.sessions(), server.sessions());
        prop_assert_eq!(after.committed(), server.committed());
    }

    #[test]
    fn a_multi_is_its_operations_in_order_or_nothing(
        before in prop::collection::vec(write(), 0..10),
        parts in prop::collection::vec(part(), 1..6),
    ) {
        let (mut whole, session) = fresh();
        let (mut single, same) = fresh();
        prop_assert_eq!(session, same);
        for (op, body) in &before {
            whole.write((1, session, 1), *op, 0, body);
            single.write((1, session, 1), *op, 0, body);
        }
        let image = whole.image();
        let reply = whole.write((1, session, 2), OpCode::MULTI, 0, &multi(&parts)).unwrap();
        prop_assert_eq!(reply.err, ErrorCode::Ok, "the header says Ok in any case");

        // One after the other, until one fails. A check alone is a multi of one.
        let mut failed = None;
        for (index, (op, body)) in parts.iter().enumerate() {
            let alone = [(*op, body.clone())];
            let reply =
                single.write((1, session, 2), OpCode::MULTI, 0, &multi(&alone)).unwrap();
            if reply.body.starts_with(&OpCode::ERROR.0.to_be_bytes()) {
                failed = Some((index, errors(&reply.body)[0]));
                break;
            }
        }
        match failed {
            None => prop_assert_eq!(without_zxids(whole.image()), without_zxids(single.image())),
            Some((failed, err)) => {
                prop_assert_eq!(whole.image(), image, "a failed multi leaves no trace");
                let expected: Vec<i32> = (0..parts.len())
                    .map(|index| match index {
                        _ if index < failed => 0,
                        _ if index == failed => err,
                        _ => ErrorCode::RuntimeInconsistency.code(),
                    })
                    .collect();
                prop_assert_eq!(errors(&reply.body), expected);
            }
        }
        prop_assert_eq!(whole.restarted().image(), whole.image());
    }

    #[test]
    fn the_counts_of_a_quota_are_those_of_the_tree(
        writes in prop::collection::vec(write(), 1..40),
        committed in 1..10_usize,
    ) {
        const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";
        let (mut server, session) = fresh();
        for path in ["/zookeeper/quota/a", "/zookeeper/quota/a/zookeeper_limits", STATS] {
            let body = create(path, b"", &open_acl(31), 0);
            let reply = server.write((1, session, 1), OpCode::CREATE, 0, &body).unwrap();
            prop_assert_eq!(reply.err, ErrorCode::Ok);
        }
        for (index, (op, body)) in writes.iter().enumerate() {
            server.write((1, session, 2), *op, 0, body).unwrap();
            if index % committed > 0 {
                continue;
            }
            let image = server.image();
            let below = |path: &str| path == "/a" || path.starts_with("/a/");
            let counted: Vec<_> = image.iter().filter(|(path, ..)| below(path)).collect();
            let bytes: usize =
                counted.iter().map(|(_, data, ..)| data.as_ref().map_or(0, Vec::len)).sum();
            let expected = format!("count={},bytes={bytes}", counted.len());
            let stats = image.iter().find(|(path, ..)| path == STATS).unwrap();
            prop_assert_eq!(stats.1.as_deref(), Some(expected.as_bytes()));
            prop_assert_eq!(stats.2.version, 0);
        }
        prop_assert_eq!(server.restarted().image(), server.image());
    }
}
