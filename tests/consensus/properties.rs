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

/// These, and what makes quotas of two of them.
fn any_path() -> impl Strategy<Value = String> {
    let of_quotas = prop::sample::select(vec![
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_stats",
        "/zookeeper/quota/a/b",
        "/zookeeper/quota/a/b/zookeeper_limits",
        "/zookeeper/quota/a/b/zookeeper_stats",
    ]);
    prop_oneof![2 => path(), 1 => of_quotas.prop_map(str::to_owned)]
}

/// Anything, or the text of a quota.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let texts = vec![
        "count=3,bytes=30",
        "count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=4",
        "count=9223372036854775807,bytes=-9223372036854775808",
    ];
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::sample::select(texts).prop_map(|text| text.as_bytes().to_vec()),
    ]
}

/// A write that may stand in a multi.
fn part(path: BoxedStrategy<String>) -> BoxedStrategy<(OpCode, Vec<u8>)> {
    prop_oneof![
        4 => (path.clone(), data(), acl(), 0..4)
            .prop_map(|(p, d, a, flags)| (OpCode::CREATE, create(&p, &d, &a, flags))),
        1 => (path.clone(), data(), acl())
            .prop_map(|(p, d, a)| (OpCode::CREATE2, create(&p, &d, &a, 0))),
        1 => path
            .clone()
            .prop_map(|p| (OpCode::CREATE_CONTAINER, create(&p, b"", &open_acl(31), 4))),
        1 => path.clone().prop_map(|p| {
            let ttl = 1_000_i64.to_be_bytes();
            (OpCode::CREATE_TTL, [create(&p, b"", &open_acl(31), 5), ttl.to_vec()].concat())
        }),
        3 => (path.clone(), data(), version())
            .prop_map(|(p, d, v)| (OpCode::SET_DATA, set_data(&p, &d, v))),
        2 => (path.clone(), version()).prop_map(|(p, v)| (OpCode::DELETE, path_version(&p, v))),
        1 => (path, version()).prop_map(|(p, v)| (OpCode::CHECK, path_version(&p, v))),
    ]
    .boxed()
}

fn write(path: BoxedStrategy<String>) -> BoxedStrategy<(OpCode, Vec<u8>)> {
    let part = part(path.clone());
    prop_oneof![
        6 => part.clone().prop_filter("a check stands in a multi", |(op, _)| *op != OpCode::CHECK),
        1 => (path, acl(), version())
            .prop_map(|(p, a, v)| (OpCode::SET_ACL, set_acl(&p, &a, v))),
        2 => prop::collection::vec(part, 0..5).prop_map(|parts| (OpCode::MULTI, multi(&parts))),
    ]
    .boxed()
}

fn fresh() -> (Server, SessionId) {
    let mut server = Server::new(1);
    server.define(0, &[]);
    let session = server.open(1, 30_000);
    (server, session)
}

/// What a server goes through.
#[derive(Clone, Debug)]
enum Step {
    Write(OpCode, Vec<u8>),
    /// Two rounds of looking for containers and TTL znodes.
    Reap,
    /// The session ends, and the next one begins.
    NextSession,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => write(any_path().boxed()).prop_map(|(op, body)| Step::Write(op, body)),
        1 => Just(Step::Reap),
        1 => Just(Step::NextSession),
    ]
}

/// The image with the counts of all quotas as a start counts them: each root for itself.
fn recounted(image: Image) -> Image {
    let within = |path: &str, top: &str| {
        path.strip_prefix(top).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    let mut counted = image.clone();
    for (path, data, ..) in &mut counted {
        let of = |path: &str| path.strip_suffix("/zookeeper_stats").map(str::to_owned);
        let Some(quota) = of(path) else { continue };
        let limits = format!("{quota}/zookeeper_limits");
        if !image.iter().any(|(path, ..)| *path == limits) {
            continue;
        }
        let root = quota.strip_prefix("/zookeeper/quota").unwrap();
        let below: Vec<_> = image.iter().filter(|(path, ..)| within(path, root)).collect();
        let bytes: usize =
            below.iter().map(|(_, data, ..)| data.as_ref().map_or(0, Vec::len)).sum();
        *data = Some(format!("count={},bytes={bytes}", below.len()).into_bytes());
    }
    counted
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
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn the_log_makes_the_same_state_again(steps in prop::collection::vec(step(), 0..60)) {
        let (mut server, mut session) = fresh();
        for step in &steps {
            let (op, body) = match step {
                Step::Write(op, body) => (op, body),
                Step::Reap => {
                    server.reap_until(server.now_ms + 120_000);
                    continue;
                }
                Step::NextSession => {
                    server.write((1, session, 1), OpCode::CLOSE_SESSION, 0, b"").unwrap();
                    session = server.open(1, 30_000);
                    continue;
                }
            };
            let before = server.image();
            let committed = server.committed();
            let reply = server.write((1, session, 1), *op, 0, body).unwrap();
            prop_assert_eq!(reply.zxid, committed.next(), "every write uses up one zxid");
            if reply.err != ErrorCode::Ok {
                prop_assert_eq!(server.image(), before, "{:?} failed and left a trace", op);
            }
        }
        let after = server.restarted();
        prop_assert_eq!(after.image(), recounted(server.image()));
        prop_assert_eq!(after.sessions(), server.sessions());
        prop_assert_eq!(after.committed(), server.committed());
    }

    #[test]
    fn a_multi_is_its_operations_in_order_or_nothing(
        before in prop::collection::vec(write(path().boxed()), 0..10),
        parts in prop::collection::vec(part(path().boxed()), 1..6),
    ) {
        let (mut whole, session) = fresh();
        let (mut single, same) = fresh();
        prop_assert_eq!(session, same);
        // Hard limits are held against the counts before the whole, or before each.
        let quotas = [
            ("/zookeeper/quota/a", ""),
            ("/zookeeper/quota/a/zookeeper_limits", "count=1,bytes=1"),
            ("/zookeeper/quota/a/zookeeper_stats", ""),
            ("/zookeeper/quota/a/b", ""),
            ("/zookeeper/quota/a/b/zookeeper_limits", ""),
            ("/zookeeper/quota/a/b/zookeeper_stats", ""),
        ];
        for (path, data) in quotas {
            let body = create(path, data.as_bytes(), &open_acl(31), 0);
            whole.write((1, session, 1), OpCode::CREATE, 0, &body).unwrap();
            single.write((1, session, 1), OpCode::CREATE, 0, &body).unwrap();
        }
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
        prop_assert_eq!(whole.restarted().image(), recounted(whole.image()));
    }

    #[test]
    fn the_counts_of_a_quota_are_those_of_the_tree(
        writes in prop::collection::vec(write(path().boxed()), 1..40),
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
