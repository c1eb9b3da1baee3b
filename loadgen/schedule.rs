//! The loop of one thread over its connections: connect, wait for the other threads, warm up,
//! measure, drain, close. When a request leaves is `pace`'s to say. Run by `round`.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::arguments::{Plan, Server};
use crate::client::{self, Answer, Client, Fill, LinkError};
use crate::draw::Source;
use crate::fanout::Fanout;
use crate::pace::{Pace, Timetable, Turns, sleep_until};
use crate::sockets::{Driver, Happening, Sockets};
use crate::sys;
use crate::tally::{Failure, SLICES, Tally};
use crate::workload::Workload;

/// Connections whose handshakes are under way at once in one thread; below the listen backlog of
/// 50 that ZooKeeper has.
const HANDSHAKES_MAX: usize = 32;
/// How often sessions are looked after, and the longest wait for an event.
const LOOK_AFTER_EVERY: Duration = Duration::from_millis(50);
/// How long what was due in the window and could not leave is sent after it, at most.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);
/// How often the writer of the watch workload looks whether watchers of other threads are ready.
const LOOK_ROUND_EVERY: Duration = Duration::from_micros(200);
/// How long closing the sessions may take at the end of a round.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Time since the program started, in nanoseconds; the same for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    #[inline]
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// What the threads of a round agree on.
#[derive(Debug, Default)]
pub struct Gate {
    /// When the load begins; 0 while threads are still connecting.
    start_at: AtomicU64,
    /// The round is off: some connection could not be made.
    called_off: AtomicBool,
}

impl Gate {
    /// Every thread is connected: the load begins at `at`.
    pub fn open(&self, at: u64) {
        assert!(at > 0, "0 stands for not yet");
        self.start_at.store(at, Ordering::Release);
    }

    /// Waits until the load may begin and gives when it does; `None` if it never will.
    pub fn wait(&self, clock: &Clock) -> Option<u64> {
        loop {
            if self.called_off.load(Ordering::Acquire) {
                return None;
            }
            let start_at = self.start_at.load(Ordering::Acquire);
            if start_at > 0 && clock.now() >= start_at {
                return Some(start_at);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The round will not take place.
    pub fn call_off(&self) {
        self.called_off.store(true, Ordering::Release);
    }
}

/// What one thread shows while it runs. A cache line of its own, so that showing costs nothing.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shown {
    /// Replies since the load began.
    pub replies: AtomicU64,
    /// Of these, with an error code or the wrong length; and connections lost.
    pub troubles: AtomicU64,
}

impl Shown {
    /// What there is so far.
    pub fn show(&self, replies: u64, troubles: u64) {
        self.replies.store(replies, Ordering::Relaxed);
        self.troubles.store(troubles, Ordering::Relaxed);
    }
}

/// Everything that a worker works with and does not own.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub plan: &'a Plan,
    pub workload: &'a Workload,
    pub clock: &'a Clock,
    pub gate: &'a Gate,
    pub shown: &'a Shown,
    /// Counted from 0.
    pub round: u32,
    /// Which thread this is, counted from 0.
    pub thread: u32,
}

impl Setting<'_> {
    /// Keeps the calling thread, which is this one, on its core if the plan says so.
    pub fn pin_thread(&self) -> Result<(), Failure> {
        let pin = &self.plan.pin;
        if pin.is_empty() {
            return Ok(());
        }
        let core = pin[self.thread as usize % pin.len()];
        sys::pin_to_core(core).map_err(|error| Failure {
            server: "this host".to_owned(),
            reason: format!("cannot pin a thread to core {core}: {error}"),
        })
    }
}

/// When the load of a round is what, in the clock's nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Window {
    opens: u64,
    closes: u64,
}

impl Window {
    fn contains(&self, at: u64) -> bool {
        (self.opens..self.closes).contains(&at)
    }

    /// While nothing is measured.
    const NEVER: Window = Window { opens: u64::MAX, closes: u64::MAX };
}

/// One thread with its share of the connections.
pub struct Worker<'a> {
    setting: Setting<'a>,
    sockets: Sockets,
    /// By slot; `None` once lost or closed.
    clients: Vec<Option<Client>>,
    /// How many of them are left.
    open: usize,
    /// Slots that may have room for requests; one may be in it twice.
    unfilled: Vec<u32>,
    /// Slots whose connection the last turn found to be of no more use, and why.
    ended: Vec<(u32, LinkError)>,
    pace: Pace,
    /// Whose turn is next in an open loop.
    turns: Turns,
    ping_after: Duration,
    looked_after: u64,
    tally: Tally,
    /// Replies and troubles so far, warm-up included; copied to what is shown once a turn.
    replies: u64,
    troubles: u64,
}

impl<'a> Worker<'a> {
    /// Opens this thread's connections. The first one that cannot be made ends the round.
    pub fn connect(setting: Setting<'a>) -> Result<Worker<'a>, Failure> {
        let plan = setting.plan;
        let here = |reason: LinkError| Failure::new("this host", &reason);
        setting.pin_thread()?;
        if plan.rate.is_some() {
            sys::sharpen_timers();
        }
        let sockets = Sockets::new(plan.driver).map_err(LinkError::Connect).map_err(here)?;
        let mut worker = Worker {
            setting,
            sockets,
            clients: Vec::new(),
            open: 0,
            unfilled: Vec::new(),
            ended: Vec::new(),
            pace: Pace::Closed,
            turns: Turns::new(setting.thread, plan.threads, plan.connections),
            ping_after: plan.session_timeout / 3,
            looked_after: setting.clock.now(),
            tally: Tally::new(setting.workload.steps().len(), plan.servers.len()),
            replies: 0,
            troubles: 0,
        };
        let mine: Vec<u32> =
            (setting.thread..plan.connections).step_by(plan.threads as usize).collect();
        for numbers in mine.chunks(HANDSHAKES_MAX) {
            worker.shake_hands(numbers)?;
            worker.look_after();
            if worker.setting.gate.called_off.load(Ordering::Acquire) {
                break;
            }
        }
        Ok(worker)
    }

    /// Opens the connections with these numbers, all handshakes at once.
    fn shake_hands(&mut self, numbers: &[u32]) -> Result<(), Failure> {
        let Setting { plan, clock, round, .. } = self.setting;
        let of = |number: u32| number as usize % plan.servers.len();
        let named = |server: usize| {
            let name = &plan.servers[server].name;
            move |reason: LinkError| Failure::new(name, &reason)
        };
        let mut begun: Vec<(u32, TcpStream)> = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let server: &Server = &plan.servers[of(number)];
            let stream = Client::begin(server, plan.session_timeout).map_err(named(of(number)))?;
            begun.push((number, stream));
        }
        for (number, mut stream) in begun {
            let server = of(number);
            let named = named(server);
            let granted = Client::finish_handshake(&mut stream).map_err(&named)?;
            self.ping_after = self.ping_after.min(granted / 3);
            let source = Source::new(plan.seed, round, number);
            let slot = self.clients.len() as u32;
            self.sockets.adopt(slot, stream).map_err(LinkError::Connect).map_err(&named)?;
            self.clients.push(Some(Client::new(slot, number, plan, source, clock.now())));
            self.open += 1;
        }
        Ok(())
    }

    /// Waits for the gate, then loads the servers until the window has closed and the last reply
    /// is there; closes the sessions.
    pub fn run(mut self) -> Tally {
        if let Some(start_at) = self.wait_for_start() {
            let opens = start_at + self.setting.plan.warm_up.as_nanos() as u64;
            let closes = opens + self.setting.plan.duration.as_nanos() as u64;
            let window = Window { opens, closes };
            if let Some(rate) = self.setting.plan.rate {
                self.pace = Pace::Open(Timetable::new(rate, start_at, closes));
            }
            let window = self.load(window);
            self.drain(window);
        }
        self.close();
        self.tally
    }

    /// Keeps the sessions alive until the load may begin; `None` if it never will.
    fn wait_for_start(&mut self) -> Option<u64> {
        let gate = self.setting.gate;
        loop {
            if gate.called_off.load(Ordering::Acquire) {
                return None;
            }
            let start_at = gate.start_at.load(Ordering::Acquire);
            let now = self.setting.clock.now();
            if start_at > 0 && now >= start_at {
                return Some(start_at);
            }
            self.turn(Duration::from_millis(1), Window::NEVER);
            self.unfilled.clear();
            self.look_after();
        }
    }

    /// Gives the window as it was in the end: it closes early when there is no more to ask for.
    fn load(&mut self, mut window: Window) -> Window {
        let Setting { clock, workload, .. } = self.setting;
        if matches!(self.pace, Pace::Closed) {
            self.unfilled.extend(0..self.clients.len() as u32);
        }
        let mut busy_before = None;
        loop {
            let now = clock.now();
            if now >= window.opens && busy_before.is_none() {
                busy_before = Some(sys::thread_time_ns());
            }
            if now < window.closes && workload.is_used_up() {
                self.tally.used_up = true;
                window.closes = now;
                if let Pace::Open(timetable) = &mut self.pace {
                    timetable.end(now);
                }
            }
            if now >= window.closes || self.open == 0 {
                break;
            }
            let boundary = if now < window.opens { window.opens } else { window.closes };
            let due = self.take_due(now).unwrap_or(boundary);
            if workload.fanout().is_some() && self.setting.thread == 0 {
                // The first connection, which writes, may have its turn by what others were told.
                self.unfilled.push(0);
            }
            self.fill();
            // Who is not full yet goes on as soon as the present sends have left.
            let wait = if self.unfilled.is_empty() {
                let coarse = self.setting.plan.driver == Driver::Epoll && due < boundary;
                sleep_until(due.min(boundary), clock.now(), coarse)
            } else {
                Duration::ZERO
            };
            let looks_round = workload.fanout().is_some() && self.setting.plan.threads > 1;
            self.turn(if looks_round { wait.min(LOOK_ROUND_EVERY) } else { wait }, window);
            self.look_after();
        }
        let ended = clock.now().min(window.closes);
        self.tally.window = Duration::from_nanos(ended.saturating_sub(window.opens));
        let busy = busy_before.map_or(0, |before| sys::thread_time_ns() - before);
        self.tally.busy = Duration::from_nanos(busy);
        window
    }

    /// In an open loop, gives the slots of the requests that are due to [`Worker::fill`], and says
    /// when the next one will be. A turn takes as many as there are connections at most; what is
    /// left over is due at once.
    fn take_due(&mut self, now: u64) -> Option<u64> {
        let Pace::Open(timetable) = &self.pace else { return None };
        let mut room = self.clients.len();
        loop {
            let due = timetable.due(self.turns.number())?;
            if due > now || room == 0 {
                return Some(due);
            }
            self.unfilled.push(self.turns.take());
            room -= 1;
        }
    }

    /// Waits for what is still in flight and, in an open loop, sends what was due in the window. A
    /// server that leaves it unanswered is found by [`Worker::look_after`].
    fn drain(&mut self, window: Window) {
        let clock = self.setting.clock;
        let until = clock.now() + CATCH_UP_MAX.as_nanos() as u64;
        if matches!(self.pace, Pace::Open(_)) {
            self.unfilled.extend(0..self.clients.len() as u32);
            while self.unsent() > 0 && self.open > 0 && clock.now() < until {
                self.fill();
                let wait = if self.unfilled.is_empty() { LOOK_AFTER_EVERY } else { Duration::ZERO };
                self.turn(wait, window);
                self.look_after();
            }
            self.tally.unsent = self.unsent();
        }
        if let Some(fanout) = self.setting.workload.fanout() {
            self.wait_for_events(fanout, until, window);
        }
        while self.clients.iter().flatten().any(|client| client.in_flight() > 0) {
            self.turn(LOOK_AFTER_EVERY, window);
            self.unfilled.clear();
            self.look_after();
        }
    }

    /// Until the last write is told to every watcher, of all threads.
    fn wait_for_events(&mut self, fanout: &Fanout, until: u64, window: Window) {
        let writes = self.setting.thread == 0;
        if writes {
            fanout.end();
        }
        while !fanout.is_over() && self.setting.clock.now() < until {
            self.turn(LOOK_ROUND_EVERY, window);
            self.unfilled.clear();
            self.look_after();
        }
        if writes && !fanout.is_over() {
            let (missing, seconds) = (fanout.missing(), CATCH_UP_MAX.as_secs());
            self.tally.fail(Failure {
                server: "the watchers".to_owned(),
                reason: format!("{missing} events of the last write did not come in {seconds} s"),
            });
        }
    }

    /// Requests that were due before the window closed and have not left; none in a closed loop.
    fn unsent(&self) -> u64 {
        let Pace::Open(timetable) = &self.pace else { return 0 };
        if self.setting.workload.is_used_up() {
            return 0;
        }
        let left = |client: &Client| {
            let (next, stride) = client.numbers();
            timetable.left(next, stride)
        };
        self.clients.iter().flatten().map(left).sum()
    }

    /// A session that cannot be closed expires; nothing is measured any more.
    fn close(&mut self) {
        let clock = self.setting.clock;
        let until = clock.now() + CLOSE_MAX.as_nanos() as u64;
        // So that a ping of the last moment does not keep a session from being closed.
        self.turn(Duration::ZERO, Window::NEVER);
        for slot in 0..self.clients.len() as u32 {
            let Some(client) = &mut self.clients[slot as usize] else { continue };
            if !client.close(&mut self.sockets, clock.now()) {
                self.forget(slot);
            }
        }
        while self.open > 0 && clock.now() < until {
            self.receive(LOOK_AFTER_EVERY, Window::NEVER);
            for (slot, _) in std::mem::take(&mut self.ended) {
                self.forget(slot);
            }
        }
    }

    /// Sends the next requests of who has room for them. They leave with the next turn.
    fn fill(&mut self) {
        let Setting { workload, clock, .. } = self.setting;
        let (sockets, clients, pace) = (&mut self.sockets, &mut self.clients, &self.pace);
        self.unfilled.retain(|slot| {
            let Some(client) = &mut clients[*slot as usize] else { return false };
            client.fill(sockets, workload, pace, clock.now()) == Fill::Again
        });
    }

    /// Lets leave what was sent, waits for replies and takes all that came.
    fn turn(&mut self, timeout: Duration, window: Window) {
        self.receive(timeout.min(LOOK_AFTER_EVERY), window);
        for (slot, error) in std::mem::take(&mut self.ended) {
            self.lose(slot, &error);
        }
        self.setting.shown.show(self.replies, self.troubles);
    }

    fn receive(&mut self, timeout: Duration, window: Window) {
        let Setting { workload, clock, .. } = self.setting;
        let open_loop = matches!(self.pace, Pace::Open(_));
        let slice_ns = self.setting.plan.duration.as_nanos() as u64 / SLICES as u64;
        let Worker { clients, tally, replies, troubles, unfilled, ended, .. } = self;
        self.sockets.wait(timeout, clock, |slot, now, happening| {
            let Some(client) = &mut clients[slot as usize] else { return };
            let server = client.server;
            let slice = (now.saturating_sub(window.opens) / slice_ns) as usize;
            let record = |answer: Answer| {
                *replies += 1;
                if answer.error != 0 {
                    *tally.errors.entry(answer.error).or_default() += 1;
                    *troubles += 1;
                } else if !answer.fits {
                    tally.wrong_length += 1;
                    *troubles += 1;
                } else {
                    if window.contains(now) && workload.counts(answer.step) {
                        tally.answer(server, slice);
                    }
                    // An open loop measures what was due in the window, whenever it is answered.
                    let measured = if open_loop {
                        window.contains(answer.sent_at)
                    } else {
                        now >= window.opens
                    };
                    if measured {
                        tally.record(answer.step, now - answer.sent_at);
                    }
                }
            };
            let result = match happening {
                Happening::Received(bytes) => client.receive(bytes, now, workload, record),
                Happening::Sent | Happening::Gone => Ok(()),
                Happening::Ended(error) => Err(client::ended(error)),
            };
            match result {
                Ok(()) => unfilled.push(slot),
                Err(error) => ended.push((slot, error)),
            }
        });
    }

    fn look_after(&mut self) {
        let now = self.setting.clock.now();
        if now - self.looked_after < LOOK_AFTER_EVERY.as_nanos() as u64 {
            return;
        }
        self.looked_after = now;
        let (ping_after, silent_after) = (self.ping_after, self.setting.plan.session_timeout);
        for slot in 0..self.clients.len() as u32 {
            let Some(client) = &mut self.clients[slot as usize] else { continue };
            let sockets = &mut self.sockets;
            if let Err(error) = client.look_after(sockets, now, ping_after, silent_after) {
                self.lose(slot, &error);
            }
        }
    }

    /// A connection that failed, however often it is said.
    fn lose(&mut self, slot: u32, error: &LinkError) {
        let Some(client) = self.forget(slot) else { return };
        self.troubles += 1;
        if let Some(fanout) = self.setting.workload.fanout() {
            fanout.give_up();
        }
        let server = &self.setting.plan.servers[client.server].name;
        self.tally.fail(Failure::new(server, error));
    }

    fn forget(&mut self, slot: u32) -> Option<Client> {
        let client = self.clients[slot as usize].take()?;
        self.sockets.close(slot);
        self.open -= 1;
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_its_beginning_and_not_its_end() {
        let window = Window { opens: 10, closes: 20 };
        assert_eq!([9, 10, 19, 20].map(|at| window.contains(at)), [false, true, true, false]);
    }

    #[test]
    fn time_goes_on() {
        let clock = Clock::start();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(1));
        assert!(clock.now() >= before + 1_000_000);
    }
}
