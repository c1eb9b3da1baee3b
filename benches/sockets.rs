//! What one core answers, load from another: an echo server on plain epoll and on the ring driver
//! (25 bytes in, 192 out: a get of 100 bytes), and a whole reactor that answers gets of 1,000
//! znodes. Between the second and the third lies the work of the server; between the first and the
//! second what the driver costs.
//!
//!     cargo bench --bench sockets -- [epoll|ring|reactor] [CONNECTIONS] [IN_FLIGHT] [SECONDS]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use ringkeeper::config::load::{Overrides, load as load_config};
use ringkeeper::consensus::handoff::{Answer, Answers, Entry, Outcome, Published};
use ringkeeper::consensus::message::ConsensusMessage;
use ringkeeper::ids::{ReactorId, SessionId, Zxid};
use ringkeeper::limits::PUBLISHED_WAITING_MAX;
use ringkeeper::reactor::admission::Admission;
use ringkeeper::reactor::message::ReactorMessage;
use ringkeeper::reactor::settings::Settings;
use ringkeeper::reactor::turn::{Setup, run};
use ringkeeper::rt::event::Event;
use ringkeeper::rt::inbox::{RingInbox, TaskInbox};
use ringkeeper::rt::net::{self, Patience, SocketEvent, Sockets};
use ringkeeper::rt::ring::RingSockets;
use ringkeeper::tree::{AclId, Owner, Writer};

const REQUEST: usize = 25;
const ANSWER: usize = 192;
const ZNODES: usize = 1_000;

static STOP: AtomicBool = AtomicBool::new(false);
static ANSWERS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let driver = arguments.next().unwrap_or_else(|| "ring".to_owned());
    let mut number = |default: u64| arguments.next().map_or(default, |n| n.parse().unwrap());
    let (connections, in_flight, seconds) = (number(32), number(1), number(3));
    let listener = net::listen("127.0.0.1:0".parse().unwrap(), 1024).unwrap();
    let address = listener.local_addr().unwrap();
    let server_driver = driver.clone();
    let server = std::thread::spawn(move || {
        pin(0);
        match server_driver.as_str() {
            "epoll" => epoll_echo(&listener),
            "ring" => ring_echo(listener),
            _ => reactor(listener),
        }
    });
    let client = std::thread::spawn(move || {
        pin(1);
        load(address, driver == "reactor", connections as usize, in_flight as usize);
    });
    std::thread::sleep(Duration::from_millis(500));
    let (start, before) = (Instant::now(), ANSWERS.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(seconds));
    let answers = ANSWERS.load(Ordering::Relaxed) - before;
    println!(
        "{connections} x {in_flight}: {:.0} answers/s",
        answers as f64 / start.elapsed().as_secs_f64()
    );
    STOP.store(true, Ordering::Relaxed);
    client.join().unwrap();
    server.join().unwrap();
}

fn ring_echo(listener: TcpListener) {
    let event = Event::new().unwrap();
    let mut sockets = RingSockets::new(event.as_fd(), 1024).unwrap();
    sockets.listen(listener);
    let (mut next, mut held) = (0, Vec::<usize>::new());
    let mut events = Vec::new();
    while !STOP.load(Ordering::Relaxed) {
        events.clear();
        sockets.wait(Patience::For(Duration::from_millis(100)), &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                SocketEvent::Accepted(stream) => {
                    sockets.adopt(next, stream);
                    held.push(0);
                    next += 1;
                }
                SocketEvent::Received { slot, data } => {
                    let held = &mut held[slot as usize];
                    *held += sockets.data(data).len();
                    let answers = *held / REQUEST;
                    *held %= REQUEST;
                    if answers > 0 {
                        let mut answer = sockets.sent_buffers().pop().unwrap_or_default();
                        answer.resize(answers * ANSWER, 7);
                        sockets.send(slot, answer);
                    }
                }
                SocketEvent::Ended { slot, .. } => sockets.close(slot, false),
                _ => {}
            }
        }
    }
}

fn epoll_echo(listener: &TcpListener) {
    let epoll = Epoll::new();
    listener.set_nonblocking(true).unwrap();
    epoll.add(listener.as_raw_fd(), u64::MAX);
    let mut clients: Vec<(TcpStream, usize)> = Vec::new();
    let (mut buffer, answer) = (vec![0; 16 << 10], vec![7; 1 << 20]);
    while !STOP.load(Ordering::Relaxed) {
        for token in epoll.wait() {
            if token == u64::MAX {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nonblocking(true).unwrap();
                epoll.add(stream.as_raw_fd(), clients.len() as u64);
                clients.push((stream, 0));
                continue;
            }
            let (stream, held) = &mut clients[token as usize];
            let Ok(received) = stream.read(&mut buffer) else { continue };
            *held += received;
            let _ = stream.write(&answer[..*held / REQUEST * ANSWER]);
            *held %= REQUEST;
        }
    }
}

/// A reactor with 1,000 znodes of 100 bytes, and a consensus core that does nothing but open
/// sessions.
fn reactor(listener: TcpListener) {
    let (mut writer, registry) = Writer::new();
    writer.begin(Zxid::from_bits(1), 0);
    writer.create("/k", None, AclId::OPEN, Owner::Persistent, None).unwrap();
    for key in 0..ZNODES {
        let path = format!("/k/{key:05}");
        writer.create(&path, Some(&[7; 100]), AclId::OPEN, Owner::Persistent, None).unwrap();
    }
    writer.publish(Zxid::from_bits(1));
    let defaults = load_config(None, &Overrides::default()).unwrap().config;
    let inbox = RingInbox::new(PUBLISHED_WAITING_MAX).unwrap();
    let consensus = TaskInbox::new(1024);
    let (admin, _words) = sync_channel(1);
    let setup = Setup {
        serving: true,
        id: ReactorId(0),
        settings: Settings::new(&defaults, 1),
        registry,
        admission: Arc::new(Admission::new(1, None, None)),
        inbox: inbox.clone(),
        reactors: vec![inbox.clone()],
        consensus: consensus.clone(),
        admin,
        listener: Some(listener),
        ring_depth: 1024,
        spin_before_park: Duration::ZERO,
    };
    let core = std::thread::spawn(move || open_sessions(&consensus, &inbox));
    run(setup).unwrap();
    core.join().unwrap();
}

fn open_sessions(consensus: &TaskInbox<ConsensusMessage>, reactor: &RingInbox<ReactorMessage>) {
    while !STOP.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
        while let Some(ConsensusMessage::Submission(submission)) = consensus.take() {
            let mut batch = Published { through: Zxid::from_bits(1), ..Published::default() };
            batch.answers.push(Answers::default());
            for entry in submission.entries {
                if let Entry::OpenSession { conn, timeout_ms } = entry {
                    let session = SessionId::from_bits(i64::from(conn.slot) + 1);
                    let outcome = Outcome::SessionOpened { session, timeout_ms };
                    batch.answers[0].list.push(Answer { conn, xid: 0, after: 0, outcome });
                }
            }
            reactor.send(ReactorMessage::Published(Arc::new(batch))).unwrap();
        }
    }
    reactor.send(ReactorMessage::Stop).unwrap();
}

/// A get of some znode: 25 bytes, as it happens.
fn get(key: usize) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[3] = REQUEST as u8 - 4;
    request[7] = 1;
    request[11] = 4;
    request[15] = 8;
    request[16..24].copy_from_slice(format!("/k/{key:05}").as_bytes());
    request
}

fn load(address: SocketAddr, handshake: bool, connections: usize, in_flight: usize) {
    let epoll = Epoll::new();
    let mut clients = Vec::new();
    for index in 0..connections {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        if handshake {
            let mut connect = [0; 49];
            (connect[3], connect[19], connect[31]) = (45, 100, 16);
            stream.write_all(&connect).unwrap();
            stream.read_exact(&mut [0; 41]).unwrap();
        }
        let first = index * in_flight;
        let requests: Vec<u8> =
            (first..first + in_flight).flat_map(|key| get(key * 7919 % ZNODES)).collect();
        stream.set_nonblocking(true).unwrap();
        epoll.add(stream.as_raw_fd(), index as u64);
        stream.write_all(&requests).unwrap();
        clients.push((stream, 0, requests));
    }
    let mut buffer = vec![0; 64 << 10];
    while !STOP.load(Ordering::Relaxed) {
        for token in epoll.wait() {
            let (stream, held, requests) = &mut clients[token as usize];
            let Ok(received) = stream.read(&mut buffer) else { continue };
            *held += received;
            let answers = *held / ANSWER;
            *held %= ANSWER;
            let _ = stream.write(&requests[..answers * REQUEST]);
            ANSWERS.fetch_add(answers as u64, Ordering::Relaxed);
        }
    }
}

fn pin(cpu: usize) {
    // SAFETY: a zeroed set is valid, and the calls read only it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

struct Epoll(i32);

impl Epoll {
    fn new() -> Epoll {
        // SAFETY: takes no pointers.
        Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
    }

    fn add(&self, fd: i32, token: u64) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: one live event.
        let added = unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(added, 0);
    }

    fn wait(&self) -> impl Iterator<Item = u64> + use<> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        // SAFETY: room for 256 events.
        let ready = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), 256, 100) };
        events.into_iter().take(ready.max(0) as usize).map(|event| event.u64)
    }
}
