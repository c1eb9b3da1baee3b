//! How much of a core the socket driver takes: an echo server (25 bytes in, 100 out, the sizes of a
//! get) on the ring driver and on plain epoll, load from another core.
//!
//!     cargo bench --bench echo -- [ring|epoll] [CONNECTIONS] [IN_FLIGHT] [SECONDS]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringkeeper::rt::event::Event;
use ringkeeper::rt::net::{self, Patience, SocketEvent, Sockets};
use ringkeeper::rt::ring::RingSockets;

const REQUEST: usize = 25;
const ANSWER: usize = 100;

static STOP: AtomicBool = AtomicBool::new(false);
static ANSWERS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let driver = arguments.next().unwrap_or_else(|| "ring".to_owned());
    let mut number = |default: u64| arguments.next().map_or(default, |n| n.parse().unwrap());
    let (connections, in_flight, seconds) = (number(32), number(1), number(3));
    let listener = net::listen("127.0.0.1:0".parse().unwrap(), 1024).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        pin(0);
        if driver == "epoll" { epoll_echo(&listener) } else { ring_echo(listener) }
    });
    let client = std::thread::spawn(move || {
        pin(1);
        load(address, connections as usize, in_flight as usize);
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
    let mut sockets = RingSockets::new(event.as_fd()).unwrap();
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
                SocketEvent::Ended { slot } => sockets.close(slot, false),
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

fn load(address: SocketAddr, connections: usize, in_flight: usize) {
    let epoll = Epoll::new();
    let requests = vec![1; in_flight * REQUEST];
    let mut clients = Vec::new();
    for index in 0..connections {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        epoll.add(stream.as_raw_fd(), index as u64);
        stream.write_all(&requests).unwrap();
        clients.push((stream, 0));
    }
    let mut buffer = vec![0; 64 << 10];
    while !STOP.load(Ordering::Relaxed) {
        for token in epoll.wait() {
            let (stream, held) = &mut clients[token as usize];
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
