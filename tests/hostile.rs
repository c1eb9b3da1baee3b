//! Whatever one client sends, or does not read, nobody else suffers and memory stays bounded.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::{Answer, Client, Op};
use harness::confine::allow_open_files;
use harness::rng::{Rng, base_seed};
use harness::server::{Server, Setup};
use harness::wire::Encoder;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

/// `jute.maxbuffer` by default: the longest frame that a server takes.
const FRAME_BYTES_MAX: usize = 0xf_ffff;

/// Longest that a well-behaved client may wait for an answer while another misbehaves, on a machine
/// that runs other tests beside this one.
const SERVICE: Duration = Duration::from_secs(5);

/// What a misbehaving client may make the server hold, KiB: its buffers, not its wishes.
const GROWTH_KIB_MAX: u64 = 64 << 10;

fn start(folder: &tempfile::TempDir) -> Server {
    Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("ringkeeper.segmentSizeKb=1024")
        .with("tickTime=2000")
        .start()
}

/// Runs `mischief` while a well-behaved client reads and writes; that one must see no error and no
/// long wait, and the server must be there at the end. Returns how much memory it took on, KiB.
fn beside_a_good_client(server: &mut Server, mischief: impl FnOnce(SocketAddr)) -> u64 {
    let address = server.address;
    let mut good = Client::connect(address, 10_000).expect("a new session");
    good.create("/good", b"0", 0).expect("a node");
    let before = server.resident_kib();
    let stop = AtomicBool::new(false);
    let mut most = before;
    thread::scope(|scope| {
        let good = scope.spawn(|| {
            let (mut times, mut slowest) = (0u64, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) || times < 10 {
                let started = Instant::now();
                let value = times.to_string();
                good.set("/good", value.as_bytes()).expect("the write is answered");
                let (data, _) = good.get("/good").expect("the read is answered").expect("a node");
                assert_eq!(data, value.as_bytes());
                slowest = slowest.max(started.elapsed());
                times += 1;
            }
            (times, slowest)
        });
        mischief(address);
        most = most.max(server.resident_kib());
        stop.store(true, Ordering::Relaxed);
        let (times, slowest) = good.join().expect("the good client ends well");
        println!("{times} writes and reads beside it, the slowest pair took {slowest:?}");
        assert!(slowest < SERVICE, "the good client waited {slowest:?}");
    });
    assert!(server.is_running(), "{}", server.output());
    drop(Client::connect(address, 5_000).expect("it takes new sessions"));
    most.saturating_sub(before)
}

fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends the bytes, which must cost their sender the connection.
fn is_hung_up_on(address: SocketAddr, what: &str, bytes: &[u8]) {
    let mut stream = raw(address);
    hung_up(&mut stream, what, bytes);
}

fn hung_up(stream: &mut TcpStream, what: &str, bytes: &[u8]) {
    // A server that has hung up already answers a further write with a reset.
    let sent = stream.write_all(bytes);
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let reset = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    };
    if let Err(error) = sent.and(read.map(drop)) {
        assert!(reset(&error), "{what}: {error}, {} bytes were answered", rest.len());
    }
}

/// A connection with a session, for bytes that only count after the handshake.
fn with_session(address: SocketAddr) -> Client {
    Client::connect(address, 10_000).expect("a new session")
}

fn frame(build: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::frame();
    build(&mut out);
    out.finish()
}

#[test]
fn lengths_that_cannot_be_cost_their_sender_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder);
    let growth = beside_a_good_client(&mut server, |address| {
        for length in [-1, i32::MIN, i32::MAX, FRAME_BYTES_MAX as i32 + 1] {
            let bytes = length.to_be_bytes();
            is_hung_up_on(address, &format!("a first frame of {length}"), &bytes);
            let client = with_session(address);
            let mut stream = client.stream().try_clone().unwrap();
            hung_up(&mut stream, &format!("a frame of {length}"), &bytes);
        }
        // Hundreds that announce the longest frame and send nothing of it.
        let waiting: Vec<TcpStream> = (0..500)
            .map(|_| {
                let mut stream = raw(address);
                stream.write_all(&(FRAME_BYTES_MAX as i32).to_be_bytes()).unwrap();
                stream
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        drop(waiting);
    });
    assert!(growth < GROWTH_KIB_MAX, "500 announced frames took {growth} KiB");
}

#[test]
fn garbage_and_half_frames_hurt_nobody_else() {
    let seed = base_seed(1);
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder);
    let growth = beside_a_good_client(&mut server, |address| {
        for round in 0..300 {
            let bytes: Vec<u8> = (0..rng.below(2000) + 1).map(|_| rng.bits() as u8).collect();
            let mut stream = match rng.below(3) {
                // Before the handshake.
                0 => raw(address),
                // In place of a request.
                1 => with_session(address).stream().try_clone().unwrap(),
                // As the body of a well-framed request with a known operation.
                _ => {
                    let client = with_session(address);
                    let opcode = rng.below(25) as i32 - 1;
                    let request = frame(|out| {
                        out.int(round).int(opcode);
                        bytes.iter().for_each(|&byte| {
                            out.bool(byte & 1 == 1);
                        });
                    });
                    let mut stream = client.stream().try_clone().unwrap();
                    // The connection may be closed at any of these bytes.
                    let _ = stream.write_all(&request);
                    stream
                }
            };
            let _ = stream.write_all(&bytes);
            let how = if rng.chance(1, 2) { Shutdown::Write } else { Shutdown::Both };
            let _ = stream.shutdown(how);
        }
    });
    assert!(growth < GROWTH_KIB_MAX, "garbage took {growth} KiB, seed {seed}");
}

#[test]
fn records_that_lie_about_their_lengths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder);
    let growth = beside_a_good_client(&mut server, |address| {
        let lies: [(&str, Vec<u8>); 4] = [
            (
                "a path of 2 GiB",
                frame(|out| {
                    out.int(1).int(4).int(i32::MAX);
                }),
            ),
            (
                "a negative path length",
                frame(|out| {
                    out.int(1).int(4).int(-7).bool(false);
                }),
            ),
            (
                "2^31-1 ACL entries",
                frame(|out| {
                    out.int(1).int(1).string("/lie").bytes(b"").int(i32::MAX).int(31);
                }),
            ),
            (
                "2^31-1 watches",
                frame(|out| {
                    out.int(-8).int(101).long(0).int(i32::MAX);
                }),
            ),
        ];
        for (what, bytes) in lies {
            // ZooKeeper answers MARSHALLINGERROR and keeps the connection; closing it is as good.
            let client = with_session(address);
            let mut stream = client.stream().try_clone().unwrap();
            stream.write_all(&bytes).unwrap();
            let mut answer = [0; 20];
            match stream.read_exact(&mut answer) {
                Ok(()) => assert_ne!(answer[16..20], [0; 4], "{what} was accepted"),
                Err(error) => {
                    assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{what}: no answer")
                }
            }
        }
    });
    assert!(growth < GROWTH_KIB_MAX, "lies took {growth} KiB");
}

#[test]
fn huge_multis_are_taken_whole_or_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder);
    let growth = beside_a_good_client(&mut server, |address| {
        let mut client = with_session(address);
        client.create("/huge", b"", 0).unwrap();
        let create =
            |number: usize| Op::Create { path: format!("/huge/{number}"), data: vec![], flags: 0 };
        // Some 850 KiB of request: near the longest frame.
        let answer = client.call(&Op::Multi((0..15_000).map(create).collect())).unwrap().answer;
        let Answer::Parts(parts) = answer else { panic!("{answer:?}") };
        assert_eq!(parts.len(), 15_000);
        assert_eq!(client.get("/huge").unwrap().unwrap().1.num_children, 15_000);
        let mut failing: Vec<Op> = (0..10_000)
            .map(|number| Op::Delete { path: format!("/huge/{number}"), version: -1 })
            .collect();
        failing.push(Op::Check { path: "/huge".into(), version: 99 });
        let answer = client.call(&Op::Multi(failing)).unwrap().answer;
        assert!(matches!(answer, Answer::Parts(parts) if parts[10_000] == Answer::Refused(-103)));
        assert_eq!(client.get("/huge").unwrap().unwrap().1.num_children, 15_000);

        // Operations that cost nine bytes each: a hundred thousand empty headers, never closed.
        let mut stream = with_session(address).stream().try_clone().unwrap();
        let bytes = frame(|out| {
            out.int(1).int(14);
            for _ in 0..100_000 {
                out.int(14).bool(false).int(-1);
            }
        });
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 20];
        match stream.read_exact(&mut answer) {
            Ok(()) => assert_ne!(answer[16..20], [0; 4], "a multi of multis was accepted"),
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no answer"),
        }
    });
    assert!(growth < 2 * GROWTH_KIB_MAX, "huge multis took {growth} KiB");
}

#[test]
fn a_client_that_never_reads_is_made_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder);
    let growth = beside_a_good_client(&mut server, |address| {
        let mut client = with_session(address);
        client.create("/large", &vec![b'x'; 500_000], 0).unwrap();
        // Half a gigabyte of answers, of which it reads nothing.
        let mut hoarders: Vec<TcpStream> =
            (0..4).map(|_| with_session(address).stream().try_clone().unwrap()).collect();
        let request = frame(|out| {
            out.int(1).int(4).string("/large").bool(false);
        });
        for stream in &mut hoarders {
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            for _ in 0..250 {
                if stream.write_all(&request).is_err() {
                    break;
                }
            }
        }
        // And writes, whose answers it does not read either, until the server stops reading.
        let mut writer = with_session(address).stream().try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let write = frame(|out| {
            out.int(1).int(5).string("/large").bytes(&[b'y'; 10_000]).int(-1);
        });
        for _ in 0..2_000 {
            if writer.write_all(&write).is_err() {
                break;
            }
        }
        thread::sleep(Duration::from_secs(1));
        // It asked for nothing that it cannot still have.
        let mut first = [0; 4];
        hoarders[0].read_exact(&mut first).unwrap();
        assert_eq!(u32::from_be_bytes(first), 500_000 + 88);
    });
    assert!(growth < GROWTH_KIB_MAX, "a client that does not read took {growth} KiB");
}

#[test]
fn ten_thousand_idle_connections_are_carried() {
    const CONNECTIONS: usize = 10_000;
    const THREADS: usize = 16;
    /// What one idle session may cost, KiB.
    const EACH_KIB_MAX: u64 = 16;
    allow_open_files(CONNECTIONS as u64 + 1_000).expect("the limit of open files can be raised");
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder);
    let growth = beside_a_good_client(&mut server, |address| {
        let started = Instant::now();
        // In parallel, since each new session is a transaction of its own.
        let connect = || Client::connect(address, 40_000).expect("one more session");
        let some = || (0..CONNECTIONS / THREADS).map(|_| connect()).collect::<Vec<Client>>();
        let mut idle: Vec<Client> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(some)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it connects")).collect()
        });
        println!("{CONNECTIONS} sessions in {:?}", started.elapsed());
        assert_eq!(idle.len(), CONNECTIONS);
        for client in idle.iter_mut().step_by(500) {
            client.call(&Op::Ping).expect("an idle session is alive");
        }
    });
    let bound = CONNECTIONS as u64 * EACH_KIB_MAX;
    assert!(growth < bound, "{CONNECTIONS} connections took {growth} KiB, at most {bound}");
}
