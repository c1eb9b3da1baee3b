//! What a reactor allocates: nothing for a read, and little for a watch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use ringkeeper::config::load::{Overrides, load};
use ringkeeper::consensus::handoff::{Answer, Answers, Outcome, Published};
use ringkeeper::ids::{ConnId, ReactorId, SessionId, Zxid};
use ringkeeper::reactor::admission::Admission;
use ringkeeper::reactor::serve::Reactor;
use ringkeeper::reactor::settings::Settings;
use ringkeeper::tree::{AclId, Owner, Writer};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts what each thread allocates, and the bytes that it holds as malloc hands them out.
struct Counting;

/// What glibc takes for `size` bytes: a header of 8, in steps of 16, at least 32.
fn chunk(size: usize) -> i64 {
    ((size + 8).next_multiple_of(16)).max(32) as i64
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + chunk(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() - chunk(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A reactor with one client and so many znodes below /k.
fn reactor(znodes: usize) -> (Reactor, ConnId, Writer) {
    let (mut writer, registry) = Writer::new();
    writer.begin(Zxid::from_bits(1), 0);
    writer.create("/k", None, AclId::OPEN, Owner::Persistent, None).unwrap();
    for key in 0..znodes {
        let path = format!("/k/{key:08}");
        writer.create(&path, Some(&[7; 100]), AclId::OPEN, Owner::Persistent, None).unwrap();
    }
    writer.publish(Zxid::from_bits(1));
    let config = load(None, &Overrides::default()).unwrap().config;
    let admission = Arc::new(Admission::new(1, None, None));
    let address = "127.0.0.1:4000".parse::<std::net::SocketAddr>().unwrap();
    admission.admit(address.ip()).unwrap();
    let settings = Settings::new(&config, 1);
    let mut reactor = Reactor::new(ReactorId(0), settings, &registry, admission, 0);
    let conn = reactor.connected(address);
    let mut connect = [0; 48];
    (connect[3], connect[31]) = (44, 16);
    reactor.receive(conn.slot, &connect);
    let session = SessionId::from_bits(1);
    let outcome = Outcome::SessionOpened { session, timeout_ms: 10_000 };
    let list = vec![Answer { conn, xid: 0, after: 0, outcome }];
    let answers = vec![Answers { list, bytes: Vec::new() }];
    let through = Zxid::from_bits(1);
    reactor.take_published(&Published { through, answers, ..Published::default() });
    (reactor, conn, writer)
}

fn get(path: &str, watch: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend((13 + path.len() as i32).to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 4]);
    frame.extend((path.len() as i32).to_be_bytes());
    frame.extend(path.as_bytes());
    frame.push(watch.into());
    frame
}

/// What a turn does with output: it goes out, and its buffer comes back. Returns its length.
fn turn(reactor: &mut Reactor, sent: &mut Vec<Vec<u8>>) -> usize {
    let mut bytes = 0;
    reactor.flush(|_, out| {
        bytes += out.len();
        let mut buffer = std::mem::take(out);
        buffer.clear();
        sent.push(buffer);
    });
    reactor.keep_buffers(sent, 8);
    bytes
}

#[test]
fn a_read_allocates_nothing() {
    let (mut reactor, conn, _writer) = reactor(1_000);
    let requests: Vec<_> =
        (0..32).flat_map(|key| get(&format!("/k/{:08}", key * 31), false)).collect();
    let mut sent = Vec::new();
    let mut round = |bytes: &[u8]| {
        reactor.receive(conn.slot, bytes);
        turn(&mut reactor, &mut sent)
    };
    // Buffers reach their size.
    (0..10).for_each(|_| assert!(round(&requests) > 32 * 100));
    let before = ALLOCATIONS.get();
    for _ in 0..1_000 {
        assert_eq!(round(&requests), 32 * 192);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of 32,000 reads");
}

#[test]
fn a_watch_takes_at_most_a_hundred_bytes() {
    const WATCHES: i64 = 200_000;
    let (mut reactor, conn, _writer) = reactor(WATCHES as usize);
    let mut sent = Vec::new();
    let before = BYTES.get();
    for key in 0..WATCHES {
        reactor.receive(conn.slot, &get(&format!("/k/{key:08}"), true));
        turn(&mut reactor, &mut sent);
    }
    let each = (BYTES.get() - before) / WATCHES;
    assert!(each <= 100, "{each} bytes a watch");
    assert!(each >= 32, "{each} bytes a watch: they are not there");
}

#[test]
fn a_persistent_watch_takes_no_more_and_all_of_it_comes_back() {
    const WATCHES: i64 = 200_000;
    for mode in [0, 1] {
        let (mut reactor, conn, _writer) = reactor(0);
        let mut sent = Vec::new();
        let before = BYTES.get();
        for key in 0..WATCHES {
            let path = format!("/services/instance-{key:08}/health");
            let length = path.len() as i32;
            let mut frame = (16 + length).to_be_bytes().to_vec();
            frame.extend([0, 0, 0, 1, 0, 0, 0, 106]);
            frame.extend(length.to_be_bytes());
            frame.extend(path.as_bytes());
            frame.extend([0, 0, 0, mode]);
            reactor.receive(conn.slot, &frame);
            turn(&mut reactor, &mut sent);
        }
        let each = (BYTES.get() - before) / WATCHES;
        assert!(each <= 100, "{each} bytes a watch of {} bytes of path", 35);
        assert!(each >= 35, "{each} bytes a watch: they are not there");
        reactor.close_now(conn.slot);
        for _ in 0..WATCHES / 500 {
            reactor.go_on_with_long_work();
        }
        let left = BYTES.get() - before;
        assert!(left < 100_000, "{left} bytes are left");
    }
}
