//! Sessions that come and go, in one thread: `session` opens one and closes it, over and over, on so
//! many connections at a time; `storm` opens all at once and closes them when every one is open. Run
//! by `round`, in place of `schedule`.
//!
//! A session's time counts from just before its TCP connection is begun, or in a storm from the
//! storm's beginning, when all were due, until the server's answer to the handshake is there.
//! Connections are begun without waiting, so that none is held up by the
//! others' round trips. After its closeSession a connection waits for the server to close, as real
//! clients do, which leaves the ports of this host free.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::arguments::{Server, WorkloadKind};
use crate::client::{self, LinkError};
use crate::schedule::Setting;
use crate::sockets::{Happening, Sockets};
use crate::sys;
use crate::tally::{Failure, SLICES, Tally};
use crate::wire::{self, op};

/// The steps, by their numbers in the workload.
const OPEN: u8 = 0;
const CLOSE: u8 = 1;
/// Connections that are begun between two looks at what came; more would date the answers late.
const BEGUN_MAX: usize = 16;
/// The longest wait for an event.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// How long a server may take to close a connection whose session is closed.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// A connect response of ZooKeeper and its length; nothing longer is read.
const INPUT_BYTES_MAX: usize = 256;

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be begun anew.
    Idle,
    Opening(u64),
    /// It has its session and waits for the others.
    Open,
    Closing(u64),
    /// Its session is closed; the server is to close the connection.
    Leaving(u64),
    /// Its socket is being closed.
    Closed,
    /// Nothing more is to be done with it.
    Over,
}

/// One connection after the other, under one slot.
#[derive(Debug)]
struct Lane {
    server: usize,
    state: State,
    /// What came of an answer that is not complete.
    input: Vec<u8>,
}

/// One thread with its share of the connections.
pub struct Sessions<'a> {
    setting: Setting<'a>,
    sockets: Sockets,
    /// Which address of each server to use.
    addresses: Vec<SocketAddr>,
    lanes: Vec<Lane>,
    tally: Tally,
    troubles: u64,
    replies: u64,
    opens: u64,
    closes: u64,
}

impl<'a> Sessions<'a> {
    /// Finds the address of each server that takes connections.
    pub fn new(setting: Setting<'a>) -> Result<Sessions<'a>, Failure> {
        let plan = setting.plan;
        setting.pin_thread()?;
        let here = |error| Failure::new("this host", &LinkError::Connect(error));
        let sockets = Sockets::new(plan.driver).map_err(here)?;
        let address = |server: &Server| {
            client::dial(server, plan.session_timeout)
                .and_then(|stream| stream.peer_addr())
                .map_err(|error| Failure::new(&server.name, &LinkError::Connect(error)))
        };
        let addresses = plan.servers.iter().map(address).collect::<Result<_, _>>()?;
        let mine = (setting.thread..plan.connections).step_by(plan.threads as usize);
        let server = |number: u32| number as usize % plan.servers.len();
        let lanes = mine
            .map(|number| Lane { server: server(number), state: State::Idle, input: Vec::new() })
            .collect();
        let tally = Tally::new(setting.workload.steps().len(), plan.servers.len());
        Ok(Sessions {
            setting,
            sockets,
            addresses,
            lanes,
            tally,
            troubles: 0,
            replies: 0,
            opens: 0,
            closes: 0,
        })
    }

    /// Waits for the gate, then opens and closes sessions as the plan says.
    pub fn run(mut self) -> Tally {
        let Setting { plan, gate, clock, .. } = self.setting;
        let Some(start_at) = gate.wait(clock) else { return self.tally };
        let storm = plan.workload == WorkloadKind::Storm;
        self.opens = start_at + plan.warm_up.as_nanos() as u64;
        self.closes = if storm { u64::MAX } else { self.opens + plan.duration.as_nanos() as u64 };
        let mut busy_before = None;
        loop {
            let now = clock.now();
            if now >= self.opens && busy_before.is_none() {
                busy_before = Some(sys::thread_time_ns());
            }
            let done = if storm { self.is_open() } else { now >= self.closes };
            if done || self.lanes.iter().all(|lane| lane.state == State::Over) {
                self.closes = self.closes.min(now);
                break;
            }
            let more = self.begin_idle();
            let boundary = if now < self.opens { self.opens } else { self.closes };
            let wait = Duration::from_nanos(boundary.saturating_sub(now)).min(WAIT_MAX);
            self.turn(if more { Duration::ZERO } else { wait });
        }
        self.tally.window = Duration::from_nanos(self.closes.saturating_sub(self.opens));
        let busy = busy_before.map_or(0, |before| sys::thread_time_ns() - before);
        self.tally.busy = Duration::from_nanos(busy);
        self.drain();
        self.tally
    }

    /// Whether no connection of a storm is on the way any more.
    fn is_open(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.state, State::Open | State::Over))
    }

    /// Begins connections that are to be begun; true: some are left.
    fn begin_idle(&mut self) -> bool {
        let idle = (0..self.lanes.len()).filter(|slot| self.lanes[*slot].state == State::Idle);
        let slots: Vec<usize> = idle.take(BEGUN_MAX).collect();
        for slot in &slots {
            self.begin(*slot as u32);
        }
        slots.len() == BEGUN_MAX
    }

    fn begin(&mut self, slot: u32) {
        let Setting { plan, clock, .. } = self.setting;
        let lane = &mut self.lanes[slot as usize];
        lane.input.clear();
        let storm = plan.workload == WorkloadKind::Storm;
        lane.state = State::Opening(if storm { self.opens } else { clock.now() });
        let adopted = begin_connection(self.addresses[lane.server])
            .and_then(|stream| self.sockets.adopt(slot, stream));
        if let Err(error) = adopted {
            self.tell(slot, &LinkError::Connect(error));
            self.lanes[slot as usize].state = State::Over;
            return;
        }
        let timeout_ms = i32::try_from(plan.session_timeout.as_millis()).unwrap_or(i32::MAX);
        let mut request = self.sockets.buffer();
        request.extend_from_slice(&wire::connect_request(timeout_ms));
        self.sockets.send(slot, request);
    }

    /// Closes what is open and waits for what is on the way.
    fn drain(&mut self) {
        loop {
            for slot in 0..self.lanes.len() as u32 {
                match self.lanes[slot as usize].state {
                    State::Open => self.close_session(slot),
                    State::Idle => self.lanes[slot as usize].state = State::Over,
                    _ => {}
                }
            }
            if self.lanes.iter().all(|lane| lane.state == State::Over) {
                return;
            }
            self.turn(WAIT_MAX);
        }
    }

    fn close_session(&mut self, slot: u32) {
        let mut request = self.sockets.buffer();
        request.extend_from_slice(&wire::bare_request(1, op::CLOSE_SESSION));
        self.sockets.send(slot, request);
        let lane = &mut self.lanes[slot as usize];
        lane.input.clear();
        lane.state = State::Closing(self.setting.clock.now());
    }

    fn turn(&mut self, timeout: Duration) {
        let mut happened: Vec<(u32, u64, Result<(), LinkError>)> = Vec::new();
        let lanes = &mut self.lanes;
        self.sockets.wait(timeout, self.setting.clock, |slot, now, happening| {
            let lane = &mut lanes[slot as usize];
            match happening {
                Happening::Received(bytes) => {
                    let room = INPUT_BYTES_MAX - lane.input.len().min(INPUT_BYTES_MAX);
                    lane.input.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    happened.push((slot, now, Ok(())));
                }
                Happening::Ended(error) => happened.push((slot, now, Err(client::ended(error)))),
                Happening::Gone if lane.state == State::Closed => lane.state = State::Idle,
                Happening::Gone | Happening::Sent => {}
            }
        });
        for (slot, now, result) in happened {
            let result = result.and_then(|()| self.take_answer(slot, now));
            if let Err(error) = result {
                self.end(slot, &error);
            }
        }
        self.look_after();
        self.setting.shown.show(self.replies, self.troubles);
    }

    /// Takes the answer that a connection waits for, if it is complete.
    fn take_answer(&mut self, slot: u32, now: u64) -> Result<(), LinkError> {
        let lane = &self.lanes[slot as usize];
        match lane.state {
            State::Opening(since) => {
                let Some(granted) = client::take_handshake(&lane.input) else { return Ok(()) };
                granted?;
                self.record(slot, OPEN, since, now);
                if self.setting.plan.workload == WorkloadKind::Storm {
                    self.lanes[slot as usize].state = State::Open;
                } else {
                    self.close_session(slot);
                }
            }
            State::Closing(since) if lane.input.len() >= 4 + wire::REPLY_HEADER_BYTES => {
                let xid = wire::int_at(&lane.input, 4);
                if xid != 1 {
                    return Err(LinkError::WrongXid { xid, due: 1 });
                }
                if self.setting.plan.workload == WorkloadKind::Session {
                    self.record(slot, CLOSE, since, now);
                }
                self.lanes[slot as usize].state = State::Leaving(now);
            }
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, slot: u32, step: u8, since: u64, now: u64) {
        let lane = &self.lanes[slot as usize];
        self.replies += 1;
        if now < self.opens {
            return;
        }
        self.tally.record(step, now - since);
        if step == OPEN && now < self.closes {
            let slice_ns = self.setting.plan.duration.as_nanos() as u64 / SLICES as u64;
            self.tally.answer(lane.server, ((now - self.opens) / slice_ns) as usize);
        }
    }

    /// A connection that ended, in good order or not.
    fn end(&mut self, slot: u32, error: &LinkError) {
        let state = self.lanes[slot as usize].state;
        match state {
            State::Idle | State::Closed | State::Over => return,
            State::Leaving(_) => self.lanes[slot as usize].state = State::Closed,
            State::Opening(_) | State::Open | State::Closing(_) => {
                let in_handshake = matches!(state, State::Opening(_));
                match error {
                    LinkError::Closed if in_handshake => {
                        self.tell(slot, &LinkError::ClosedInHandshake);
                    }
                    error => self.tell(slot, error),
                }
                self.lanes[slot as usize].state = State::Over;
            }
        }
        self.sockets.close(slot);
    }

    fn tell(&mut self, slot: u32, error: &LinkError) {
        self.troubles += 1;
        let server = &self.setting.plan.servers[self.lanes[slot as usize].server].name;
        self.tally.fail(Failure::new(server, error));
    }

    /// Notices who is silent.
    fn look_after(&mut self) {
        let now = self.setting.clock.now();
        let silent_after = self.setting.plan.session_timeout;
        for slot in 0..self.lanes.len() as u32 {
            let (since, most) = match self.lanes[slot as usize].state {
                State::Opening(since) | State::Closing(since) => (since, silent_after),
                State::Leaving(since) => (since, LEAVE_MAX),
                _ => continue,
            };
            if now.saturating_sub(since) > most.as_nanos() as u64 {
                self.end(slot, &LinkError::Silent { after: most });
            }
        }
    }
}

/// A connection that is on its way to `address`. What is sent on it leaves when it is there; that it
/// is refused is told as its end.
fn begin_connection(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    // io_uring would give up at once on a socket that must not block.
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}
