//! Quotas: what is refused, what is counted, and that the counts outlive a restart.

use ringkeeper::ids::SessionId;
use ringkeeper::jute::error_code::ErrorCode::{self, *};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::jute::reply;
use ringkeeper::limits::QUOTAS_COUNTED_MAX;

use super::server::{Server, create, multi, open_acl, path_version, set_data};

const LIMITS: &str = "/zookeeper/quota/q/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

struct Client {
    server: Server,
    session: SessionId,
}

/// `/q`, with 5 bytes, under these limits.
fn limited(limits: &str) -> Client {
    let mut server = Server::new(1);
    server.define(0, &[]);
    let session = server.open(1, 30_000);
    let mut client = Client { server, session };
    assert_eq!(client.create("/q", "12345"), Ok);
    assert_eq!(client.create("/zookeeper/quota/q", ""), Ok);
    assert_eq!(client.create(LIMITS, limits), Ok);
    assert_eq!(client.create(STATS, "count=0,bytes=0"), Ok);
    client
}

impl Client {
    fn write(&mut self, op: OpCode, body: &[u8]) -> (ErrorCode, Vec<u8>) {
        let reply = self.server.write((1, self.session, 1), op, 0, body).unwrap();
        (reply.err, reply.body)
    }

    fn create(&mut self, path: &str, data: &str) -> ErrorCode {
        self.write(OpCode::CREATE, &create(path, data.as_bytes(), &open_acl(31), 0)).0
    }

    fn set(&mut self, path: &str, data: &str) -> ErrorCode {
        self.write(OpCode::SET_DATA, &set_data(path, data.as_bytes(), -1)).0
    }

    fn delete(&mut self, path: &str) -> ErrorCode {
        self.write(OpCode::DELETE, &path_version(path, -1)).0
    }

    fn stats(&self) -> String {
        let data = |node: ringkeeper::tree::NodeView<'_>| node.data().unwrap().to_vec();
        String::from_utf8(self.server.see(STATS, data).unwrap()).unwrap()
    }
}

#[test]
fn a_hard_limit_refuses_what_exceeds_it_and_nothing_less() {
    let mut client = limited("count=-1,bytes=-1=;byteHardLimit=8;countHardLimit=3");
    assert_eq!(client.create("/q/a", "678"), Ok);
    assert_eq!(client.create("/q/b", "9"), QuotaExceeded);
    assert_eq!(client.create("/q/b", ""), Ok);
    assert_eq!(client.create("/q/c", ""), QuotaExceeded);
    assert_eq!(client.set("/q", "123456"), QuotaExceeded);
    assert_eq!(client.set("/q", "123"), Ok);
    assert_eq!(client.set("/q", "12345"), Ok);
    assert_eq!(client.stats(), "count=3,bytes=8");
    assert_eq!(client.delete("/q/b"), Ok);
    assert_eq!(client.create("/q/c", ""), Ok);
    assert_eq!(client.create("/r", "anything"), Ok);
}

#[test]
fn a_soft_limit_refuses_nothing() {
    let mut client = limited("count=1,bytes=1");
    assert_eq!(client.create("/q/a", "678"), Ok);
    assert_eq!(client.stats(), "count=2,bytes=8");
}

#[test]
fn the_quota_is_asked_after_the_parent_and_before_the_version() {
    let mut client = limited("count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=1");
    assert_eq!(client.create("/q", ""), NodeExists);
    assert_eq!(client.create("/q/none/a", ""), NoNode);
    let late = set_data("/q", b"too much", 9);
    assert_eq!(client.write(OpCode::SET_DATA, &late).0, QuotaExceeded);
    assert_eq!(client.write(OpCode::SET_DATA, &set_data("/q", b"", 9)).0, BadVersion);
}

#[test]
fn a_multi_is_held_against_the_counts_before_it() {
    let mut client = limited("count=-1,bytes=-1=;countHardLimit=2");
    let part = |path| (OpCode::CREATE, create(path, b"", &open_acl(31), 0));
    let both = multi(&[part("/q/a"), part("/q/b")]);
    assert_eq!(client.write(OpCode::MULTI, &both).0, Ok);
    assert_eq!(client.stats(), "count=3,bytes=5");
    let (err, body) = client.write(OpCode::MULTI, &multi(&[part("/r"), part("/q/c")]));
    let mut expected = Vec::new();
    for err in [Ok, QuotaExceeded] {
        reply::multi_error(&mut expected, err);
    }
    reply::multi_end(&mut expected);
    assert_eq!((err, body), (Ok, expected));
    assert_eq!(client.stats(), "count=3,bytes=5");
}

#[test]
fn a_multi_cannot_remove_the_quota_that_it_would_exceed() {
    let mut client = limited("count=-1,bytes=-1=;countHardLimit=1");
    let delete = |path| (OpCode::DELETE, path_version(path, -1));
    let parts = [delete(LIMITS), (OpCode::CREATE, create("/q/a", b"", &open_acl(31), 0))];
    let (err, body) = client.write(OpCode::MULTI, &multi(&parts));
    let mut expected = Vec::new();
    for err in [Ok, QuotaExceeded] {
        reply::multi_error(&mut expected, err);
    }
    reply::multi_end(&mut expected);
    assert_eq!((err, body), (Ok, expected));
    assert_eq!(client.create("/q/a", ""), QuotaExceeded, "the quota is still there");
    assert_eq!(client.delete(LIMITS), Ok);
    assert_eq!(client.create("/q/a", ""), Ok);
    // What makes a quota is not held against it, but counted; `/q/a` came while there was none.
    let mut parts = vec![(
        OpCode::CREATE,
        create(LIMITS, b"count=1,bytes=-1=;countHardLimit=1", &open_acl(31), 0),
    )];
    parts.push((OpCode::CREATE, create("/q/b", b"", &open_acl(31), 0)));
    client.write(OpCode::MULTI, &multi(&parts));
    assert_eq!(client.stats(), "count=2,bytes=5");
    assert_eq!(client.create("/q/c", ""), QuotaExceeded);
}

#[test]
fn limits_that_cannot_be_read_refuse_everything_and_no_limits_refuse_nothing() {
    let mut client = limited("nonsense");
    assert_eq!(client.create("/q/a", ""), MarshallingError);
    assert_eq!(client.set("/q", "1"), MarshallingError);
    let part = (OpCode::CREATE, create("/q/a", b"", &open_acl(31), 0));
    assert_eq!(client.write(OpCode::MULTI, &multi(&[part])), (MarshallingError, Vec::new()));
    assert_eq!(client.delete("/q"), Ok);
    assert_eq!(client.delete(LIMITS), Ok);
    assert_eq!(client.create("/q", ""), Ok);
    assert_eq!(client.stats(), "count=0,bytes=0", "nothing is counted without limits");
    assert_eq!(client.create(LIMITS, "count=0"), Ok);
    assert_eq!(client.delete(STATS), Ok);
    assert_eq!(client.create("/q/a", ""), Ok);
}

#[test]
fn a_long_multi_is_held_against_the_quota_of_before_it() {
    const PARTS: usize = 20_000;
    let mut client = limited("count=-1,bytes=-1=;byteHardLimit=20");
    // As long as each looks through what all before it made, this takes its length squared.
    let lower = (OpCode::SET_DATA, set_data(LIMITS, b"count=-1,bytes=-1=;byteHardLimit=1", -1));
    let longer = (OpCode::SET_DATA, set_data("/q", b"12", -1));
    let shorter = (OpCode::SET_DATA, set_data("/q", b"", -1));
    let parts: Vec<_> = [lower.clone(), longer, shorter].into_iter().cycle().take(PARTS).collect();
    let (err, body) = client.write(OpCode::MULTI, &multi(&parts));
    assert_eq!((err, &body[..4]), (Ok, &OpCode::SET_DATA.0.to_be_bytes()[..]));
    assert_eq!(client.create("/q/a", "12"), QuotaExceeded, "the limits are lower now");
}

#[test]
fn a_multi_counts_below_a_bounded_number_of_quotas() {
    let mut client = limited("count=-1,bytes=-1");
    let again = [
        (OpCode::DELETE, path_version(STATS, -1)),
        (OpCode::CREATE, create(STATS, b"", &open_acl(31), 0)),
    ];
    let often =
        |times: usize| multi(&again.iter().cloned().cycle().take(2 * times).collect::<Vec<_>>());
    let (err, body) = client.write(OpCode::MULTI, &often(QUOTAS_COUNTED_MAX));
    assert_eq!((err, body[..4] == OpCode::ERROR.0.to_be_bytes()), (Ok, false));
    let before = client.server.image();
    let more = often(QUOTAS_COUNTED_MAX + 1);
    assert_eq!(client.write(OpCode::MULTI, &more), (MarshallingError, Vec::new()));
    assert_eq!(client.server.image(), before);
}

#[test]
fn counts_outlive_a_restart_and_are_counted_anew_then() {
    let mut client = limited("count=9,bytes=-1");
    assert_eq!(client.create("/q/a", "678"), Ok);
    assert_eq!(client.delete("/q/a"), Ok);
    assert_eq!(client.create("/q/b", "6"), Ok);
    assert_eq!(client.server.restarted().image(), client.server.image());
    assert_eq!(client.set(STATS, "count=70,bytes=nonsense"), Ok);
    client.server = client.server.restarted();
    assert_eq!(client.stats(), "count=2,bytes=6");
    let version = client.server.see(STATS, |node| (node.version(), node.stat().data_length));
    assert_eq!(version, Some((1, 15)));
}
