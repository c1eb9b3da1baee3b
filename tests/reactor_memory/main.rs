//! What a reactor allocates: nothing for a read, little for a watch, and a few times for a turn's
//! writes, however many.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use one_core::{OneCore, add_watch, path, ping, read, set};
use ringkeeper::config::load::{Overrides, load};
use ringkeeper::consensus::handoff::{Answer, Answers, Entry, Outcome, Published, Submission};
use ringkeeper::consensus::message::ConsensusMessage;
use ringkeeper::ids::{ReactorId, SessionId};
use ringkeeper::jute::opcode::OpCode;
use ringkeeper::limits::PUBLISHED_WAITING_MAX;
use ringkeeper::reactor::admission::Admission;
use ringkeeper::reactor::message::ReactorMessage;
use ringkeeper::reactor::settings::Settings;
use ringkeeper::reactor::turn::{Setup, run};
use ringkeeper::rt::inbox::{RingInbox, TaskInbox};
use ringkeeper::rt::net;
use ringkeeper::tree::Writer;

mod one_core;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
    /// Whether this thread's allocations count in `OF_THE_REACTOR`, too.
    static IS_THE_REACTOR: Cell<bool> = const { Cell::new(false) };
}

/// The allocations of the one reactor that runs on a thread of its own.
static OF_THE_REACTOR: AtomicU64 = AtomicU64::new(0);

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
        if IS_THE_REACTOR.try_with(Cell::get).unwrap_or(false) {
            OF_THE_REACTOR.fetch_add(1, Ordering::Relaxed);
        }
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

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// 32 requests of one client, each turn again: so many bytes of answers, and no allocation.
fn allocates_nothing(request: impl Fn(usize) -> Vec<u8>, answers: usize) {
    let mut server = OneCore::new(1_000);
    let client = server.client();
    let requests: Vec<u8> = (0..32).flat_map(|number| request(number * 31)).collect();
    let mut turn = || {
        server.reactor.receive(client.slot, &requests);
        assert_eq!(server.send(), answers);
    };
    // Buffers reach their size.
    (0..10).for_each(|_| turn());
    let count = allocations(|| (0..250).for_each(|_| turn()));
    assert_eq!(count, 0, "allocations of 8,000 requests");
}

/// Answers have a header of 20 bytes with the length, a Stat 68.
const HEADER: usize = 20;
const STAT: usize = 68;

#[test]
fn a_get_allocates_nothing() {
    let get = |key| read(OpCode::GET_DATA, &path(key), false);
    allocates_nothing(get, 32 * (HEADER + 4 + 100 + STAT));
}

#[test]
fn a_get_of_what_is_not_there_allocates_nothing() {
    let get = |key| read(OpCode::GET_DATA, &path(key + 1_000), false);
    allocates_nothing(get, 32 * HEADER);
}

#[test]
fn an_exists_allocates_nothing() {
    let exists = |key| read(OpCode::EXISTS, &path(key), false);
    allocates_nothing(exists, 32 * (HEADER + STAT));
}

#[test]
fn a_list_of_children_allocates_nothing() {
    // A turn's answers are 512 KB.
    let names = 4 + 1_000 * (4 + 8);
    allocates_nothing(|_| read(OpCode::GET_CHILDREN, "/k", false), 32 * (HEADER + names));
    allocates_nothing(|_| read(OpCode::GET_CHILDREN2, "/k", false), 32 * (HEADER + names + STAT));
}

#[test]
fn a_ping_allocates_nothing() {
    allocates_nothing(|_| ping(), 32 * HEADER);
}

#[test]
fn a_watch_that_is_there_already_allocates_nothing() {
    let get = |key| read(OpCode::GET_DATA, &path(key), true);
    allocates_nothing(get, 32 * (HEADER + 4 + 100 + STAT));
}

/// Plays the consensus core: opens the session that is asked for, and does nothing else.
fn open_session(consensus: &TaskInbox<ConsensusMessage>, reactor: &RingInbox<ReactorMessage>) {
    loop {
        thread::sleep(Duration::from_millis(1));
        let Some(ConsensusMessage::Submission(Submission { entries, .. })) = consensus.take()
        else {
            continue;
        };
        for entry in entries {
            let Entry::OpenSession { conn, timeout_ms } = entry else { continue };
            let outcome = Outcome::SessionOpened { session: SessionId::from_bits(1), timeout_ms };
            let list = vec![Answer { conn, xid: 0, after: 0, outcome }];
            let answers = vec![Answers { list, bytes: Vec::new() }];
            let batch = Published { answers, ..Published::default() };
            return reactor.send(ReactorMessage::Published(Arc::new(batch))).unwrap();
        }
    }
}

#[test]
fn a_reactor_with_its_sockets_allocates_nothing_for_a_read() {
    const TURNS: u64 = 1_000;
    let (_writer, registry) = Writer::new();
    let mut settings = Settings::new(&load(None, &Overrides::default()).unwrap().config, 1);
    // What a reactor says of its sessions twice in a tick is not for requests.
    settings.touch_ms = 3_600_000;
    let listener = net::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let address = listener.local_addr().unwrap();
    let inbox = RingInbox::new(PUBLISHED_WAITING_MAX).unwrap();
    let consensus = TaskInbox::new(1024);
    let (admin, _words) = sync_channel(1);
    let setup = Setup {
        serving: true,
        id: ReactorId(0),
        settings,
        registry,
        admission: Arc::new(Admission::new(1, None, None)),
        inbox: inbox.clone(),
        reactors: vec![inbox.clone()],
        consensus: consensus.clone(),
        admin,
        listener: Some(listener),
        ring_depth: 64,
        spin_before_park: Duration::ZERO,
    };
    let reactor = thread::spawn(move || {
        IS_THE_REACTOR.set(true);
        run(setup).unwrap();
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(&one_core::connect()).unwrap();
    open_session(&consensus, &inbox);
    client.read_exact(&mut [0; 40]).unwrap();

    let reads = [read(OpCode::GET_DATA, "/", false), read(OpCode::EXISTS, "/", false), ping()];
    let mut answers = [0; (HEADER + 4 + STAT) + (HEADER + STAT) + HEADER];
    let mut turn = || {
        client.write_all(&reads.concat()).unwrap();
        client.read_exact(&mut answers).unwrap();
    };
    (0..TURNS).for_each(|_| turn());
    let before = OF_THE_REACTOR.load(Ordering::Relaxed);
    (0..TURNS).for_each(|_| turn());
    let count = OF_THE_REACTOR.load(Ordering::Relaxed) - before;
    inbox.send(ReactorMessage::Stop).unwrap();
    drop(client);
    reactor.join().unwrap();
    println!("{count} allocations of {TURNS} turns");
    // The kernel may cut what it hands over anew, and a buffer grow once more.
    assert!(count < TURNS / 50, "{count} allocations of {TURNS} turns of three reads");
}

/// The allocations of a turn with so many sets of one client: the reactor's until it has handed
/// them over, the consensus core's, and the reactor's for the answers.
fn allocations_of_sets(sets: usize) -> [u64; 3] {
    let mut server = OneCore::new(1_000);
    let client = server.client();
    let requests: Vec<u8> = (0..sets).flat_map(|number| set(&path(number * 31 % 1_000))).collect();
    let mut most = [0; 3];
    for turn in 0..400 {
        let mut published = None;
        let counts = [
            allocations(|| {
                server.reactor.receive(client.slot, &requests);
                server.reactor.seal();
            }),
            allocations(|| published = server.commit()),
            allocations(|| {
                server.reactor.take_published(&published.expect("sets were committed"));
                assert_eq!(server.send(), sets * (HEADER + STAT));
            }),
        ];
        // Until buffers have reached their size.
        if turn >= 100 {
            most = std::array::from_fn(|at| most[at].max(counts[at]));
        }
    }
    most
}

/// Most of it is lists that grow, so the more sets a turn has, the fewer allocations each costs.
#[test]
fn sets_allocate_for_the_turn_and_not_for_each() {
    for (sets, most) in [(1, 16), (32, 2 * 32), (256, 256 / 2)] {
        let counts = allocations_of_sets(sets);
        println!("{sets} sets: {counts:?}");
        assert!(counts.iter().sum::<u64>() <= most, "{counts:?} allocations of {sets} sets");
    }
}

#[test]
fn a_watch_takes_at_most_a_hundred_bytes() {
    const WATCHES: i64 = 200_000;
    let mut server = OneCore::new(WATCHES as usize);
    let client = server.client();
    let before = BYTES.get();
    for key in 0..WATCHES as usize {
        server.reactor.receive(client.slot, &read(OpCode::GET_DATA, &path(key), true));
        server.send();
    }
    let each = (BYTES.get() - before) / WATCHES;
    assert!(each <= 100, "{each} bytes a watch");
    assert!(each >= 32, "{each} bytes a watch: they are not there");
}

#[test]
fn a_persistent_watch_takes_no_more_and_all_of_it_comes_back() {
    const WATCHES: i64 = 200_000;
    for mode in [0, 1] {
        let mut server = OneCore::new(0);
        let client = server.client();
        let before = BYTES.get();
        for key in 0..WATCHES {
            let path = format!("/services/instance-{key:08}/health");
            server.reactor.receive(client.slot, &add_watch(&path, mode));
            server.send();
        }
        let each = (BYTES.get() - before) / WATCHES;
        assert!(each <= 100, "{each} bytes a watch of {} bytes of path", 35);
        assert!(each >= 35, "{each} bytes a watch: they are not there");
        server.reactor.close_now(client.slot);
        for _ in 0..WATCHES / 500 {
            server.reactor.go_on_with_long_work();
        }
        let left = BYTES.get() - before;
        assert!(left < 100_000, "{left} bytes are left");
    }
}
