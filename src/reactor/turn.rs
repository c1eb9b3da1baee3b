//! The loop of one reactor: what happens in which order.
//!
//! A turn: take what the sockets have, serve it, hand the writes over once, take what the
//! consensus core published, then give every connection's output to its socket and wait, with one
//! system call for all of it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use crate::admin::request::AdminRequest;
use crate::consensus::message::ConsensusMessage;
use crate::ids::ReactorId;
use crate::limits::{DEPARTURE_MS_MAX, LINGER_STOP_MS_MAX, PUBLISHED_WAITING_MAX};
use crate::rt::inbox::{RingInbox, TaskInbox};
use crate::rt::net::{Patience, SocketEvent, Sockets};
use crate::rt::ring::{RingError, RingSockets};
use crate::tree;

use super::admission::Admission;
use super::depart::Leave;
use super::message::ReactorMessage;
use super::serve::Reactor;
use super::settings::Settings;

/// How often a submission is offered again to a consensus core that had no room.
const RETRY: Duration = Duration::from_millis(1);

/// Empty buffers that a reactor keeps.
const BUFFERS_MAX: usize = 512;

/// What a reactor starts with.
pub struct Setup {
    pub id: ReactorId,
    pub settings: Settings,
    /// Where it reads.
    pub registry: tree::Registry,
    /// Shared by all reactors.
    pub admission: Arc<Admission>,
    /// What it is told; of `limits::PUBLISHED_WAITING_MAX` messages.
    pub inbox: RingInbox<ReactorMessage>,
    /// Every reactor's inbox, its own too, by id: where accepted clients go.
    pub reactors: Vec<RingInbox<ReactorMessage>>,
    /// Where its submissions go.
    pub consensus: TaskInbox<ConsensusMessage>,
    /// Where four-letter words go. Full: their connections are closed.
    pub admin: SyncSender<AdminRequest>,
    /// Whether it serves at once; otherwise it waits for `ReactorMessage::Serve`.
    pub serving: bool,
    /// The clients' port, for the one reactor that accepts.
    pub listener: Option<TcpListener>,
    /// Submissions that its ring holds before the kernel must take them: a power of two.
    pub ring_depth: u32,
    /// How long it looks for work before it sleeps.
    pub spin_before_park: Duration,
}

/// Runs a reactor on the calling thread, until it is told to stop and has.
///
/// # Errors
/// When it cannot have a ring, or the ring breaks.
pub fn run(setup: Setup) -> Result<(), RingError> {
    let inbox = setup.inbox.clone();
    // The event outlives the ring that polls it: `inbox` is dropped after `sockets`.
    let sockets = RingSockets::new(inbox.as_fd(), setup.ring_depth)?;
    Turn::new(setup, sockets).run()
}

/// A reactor with its sockets and its channels.
struct Turn<S> {
    reactor: Reactor,
    sockets: S,
    inbox: RingInbox<ReactorMessage>,
    reactors: Vec<RingInbox<ReactorMessage>>,
    consensus: TaskInbox<ConsensusMessage>,
    /// The consensus core knows that it has no room for what is ready here.
    holds: bool,
    admin: SyncSender<AdminRequest>,
    admission: Arc<Admission>,
    id: ReactorId,
    began: Instant,
    spin_before_park: Duration,
    /// When something last happened; kept only if the reactor spins.
    busy_at: Instant,
    /// The inbox was full, and the consensus core has not been told that it no longer is.
    owes_drained: bool,
    /// When a stopping reactor stops waiting for its clients.
    stop_by: Option<Instant>,
    events: Vec<SocketEvent>,
    leave: Vec<(u32, Leave)>,
}

impl<S: Sockets> Turn<S> {
    fn new(setup: Setup, mut sockets: S) -> Turn<S> {
        if let Some(listener) = setup.listener {
            sockets.listen(listener);
        }
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let began_ms = wall.map_or(0, |since| since.as_millis() as u64);
        let admission = Arc::clone(&setup.admission);
        let mut reactor =
            Reactor::new(setup.id, setup.settings, &setup.registry, setup.admission, began_ms);
        if !setup.serving {
            reactor.withdraw();
        }
        Turn {
            reactor,
            sockets,
            inbox: setup.inbox,
            reactors: setup.reactors,
            consensus: setup.consensus,
            admin: setup.admin,
            admission,
            id: setup.id,
            began: Instant::now(),
            spin_before_park: setup.spin_before_park,
            busy_at: Instant::now(),
            owes_drained: false,
            holds: false,
            stop_by: None,
            events: Vec::new(),
            leave: Vec::new(),
        }
    }

    fn run(mut self) -> Result<(), RingError> {
        let mut patience = Patience::None;
        loop {
            let mut events = std::mem::take(&mut self.events);
            self.sockets.wait(patience, &mut events)?;
            self.inbox.wake_up();
            self.reactor.set_now(self.began.elapsed().as_millis() as u64);
            let idle = events.is_empty();
            for event in events.drain(..) {
                self.take_event(event);
            }
            self.events = events;
            let full = self.reactor.take_full();
            for slot in full {
                if !self.sockets.is_sending(slot) {
                    self.reactor.replies_read(slot);
                }
            }
            self.reactor.resume();
            // Early, so that the log's flush begins while the rest of the turn goes on.
            self.hand_over();
            self.take_messages();
            self.reactor.go_on_with_long_work();
            let lapse_ms = self.reactor.lapse();
            self.reactor.resume();
            self.hand_over();
            self.flush();
            self.give_way();
            if self.reactor.is_finished() {
                return self.last_moment();
            }
            patience = self.patience(idle, lapse_ms);
        }
    }

    /// All connections are closed: gives those that linger a moment to read what they were sent.
    fn last_moment(mut self) -> Result<(), RingError> {
        let by = Instant::now() + Duration::from_millis(LINGER_STOP_MS_MAX);
        while self.sockets.has_lingering() {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.events.clear();
            self.sockets.wait(Patience::For(left), &mut self.events)?;
        }
        Ok(())
    }

    /// How long the next wait may take.
    fn patience(&mut self, idle: bool, lapse_ms: u64) -> Patience {
        if self.reactor.has_work() {
            return Patience::None;
        }
        if !self.spin_before_park.is_zero() {
            let now = Instant::now();
            if !idle {
                self.busy_at = now;
            }
            if now - self.busy_at < self.spin_before_park {
                return Patience::None;
            }
        }
        if !self.inbox.fall_asleep() {
            return Patience::None;
        }
        let lapse = Duration::from_millis(lapse_ms.max(1));
        let owes = self.reactor.is_blocked() || self.owes_drained;
        Patience::For(if owes { RETRY } else { lapse })
    }

    fn take_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Received { slot, data } => {
                self.reactor.receive(slot, self.sockets.data(data));
            }
            SocketEvent::Accepted(stream) => self.accept(stream),
            SocketEvent::Ended { slot, error } => self.reactor.ended(slot, error.is_some()),
            SocketEvent::Sent { slot } => self.reactor.sent(slot),
            SocketEvent::Gone { slot } => self.reactor.gone(slot),
            SocketEvent::Released { slot, stream } => {
                let Some((question, address)) = self.reactor.released(slot) else { return };
                let request = AdminRequest { stream, question, address, reactor: self.id };
                if self.admin.try_send(request).is_err() {
                    self.admission.left(address.ip());
                }
            }
        }
    }

    /// A client: this reactor's, or handed to the one with the fewest.
    fn accept(&mut self, stream: TcpStream) {
        // No address: the client is gone already.
        let Ok(address) = stream.peer_addr() else { return };
        // A socket that takes both families shows an IPv4 client in IPv6's clothes.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        match self.admission.admit(address.ip()) {
            Err(why) => self.reactor.refused(address, why),
            Ok(to) if to == self.id => self.adopt(stream, address),
            Ok(to) => {
                let inbox = &self.reactors[usize::from(to.0)];
                let adopt = ReactorMessage::Adopt(stream, address);
                if let Err(ReactorMessage::Adopt(stream, address)) = inbox.send(adopt) {
                    self.admission.moved(to, self.id);
                    self.adopt(stream, address);
                }
            }
        }
    }

    /// A client that was admitted for this reactor.
    fn adopt(&mut self, stream: TcpStream, address: SocketAddr) {
        if self.stop_by.is_some() {
            self.admission.left_reactor(self.id);
            self.admission.left(address.ip());
            return;
        }
        let conn = self.reactor.connected(address);
        self.sockets.adopt(conn.slot, stream);
    }

    fn take_messages(&mut self) {
        let mut taken = 0;
        while let Some(message) = self.inbox.take() {
            taken += 1;
            match message {
                ReactorMessage::Published(batch) => self.reactor.take_published(&batch),
                ReactorMessage::Serve(reader) => self.reactor.serve_with(reader),
                ReactorMessage::Withdraw => self.reactor.withdraw(),
                ReactorMessage::Adopt(stream, address) => self.adopt(stream, address),
                ReactorMessage::Ask(ask) => self.reactor.ask(ask),
                ReactorMessage::Linger(stream) => self.sockets.linger(stream),
                ReactorMessage::Stop => {
                    self.sockets.stop_listening();
                    self.reactor.stop();
                    let patience = Duration::from_millis(DEPARTURE_MS_MAX);
                    self.stop_by = Some(Instant::now() + patience);
                }
            }
        }
        // All that was in the inbox at one time has been taken in one go.
        self.owes_drained |= taken >= PUBLISHED_WAITING_MAX;
        if self.owes_drained {
            let drained = ConsensusMessage::InboxDrained(self.id);
            self.owes_drained = self.consensus.send(drained).is_err();
        }
        if self.stop_by.is_some_and(|by| by <= Instant::now()) {
            self.reactor.close_all();
        }
    }

    /// Hands the turn's writes to the consensus core, or keeps them until it has room.
    fn hand_over(&mut self) {
        self.send_sealed();
        if self.holds && !self.reactor.is_blocked() {
            // Sessions may expire as soon as the inbox is released, so who was heard of meanwhile
            // has to be in it.
            self.reactor.report_touches();
            self.send_sealed();
        }
        if self.reactor.is_blocked() != self.holds {
            self.holds = !self.holds;
            if self.holds { self.consensus.hold() } else { self.consensus.release() }
        }
        self.reactor.unblock();
    }

    fn send_sealed(&mut self) {
        self.reactor.seal();
        while let Some(submission) = self.reactor.next_sealed() {
            match self.consensus.send(ConsensusMessage::Submission(submission)) {
                Ok(()) => {}
                Err(ConsensusMessage::Submission(submission)) => {
                    return self.reactor.hand_over_later(submission);
                }
                Err(_) => unreachable!("the message that was sent comes back"),
            }
        }
    }

    /// Gives every connection's output to its socket, and halts or resumes receiving.
    fn flush(&mut self) {
        let sockets = &mut self.sockets;
        self.reactor.flush(|slot, out| {
            if sockets.is_sending(slot) {
                return;
            }
            sockets.send(slot, std::mem::take(out));
        });
        self.reactor.take_reading(
            |slot, paused| {
                if paused { sockets.pause(slot) } else { sockets.resume(slot) }
            },
        );
        self.reactor.keep_buffers(sockets.sent_buffers(), BUFFERS_MAX);
    }

    /// Lets the connections go that leave.
    fn give_way(&mut self) {
        self.reactor.departures(&mut self.leave);
        for (slot, leave) in self.leave.drain(..) {
            match leave {
                Leave::Close { after_send } => self.sockets.close(slot, after_send),
                Leave::Release => self.sockets.release(slot),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::num::NonZeroU32;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread::JoinHandle;

    use super::*;
    use crate::admin::report::{Details, ReactorAsk};
    use crate::consensus::handoff::{Answers, Entry, Outcome, Published};
    use crate::ids::SessionId;
    use crate::jute::error_code::ErrorCode;
    use crate::jute::opcode::OpCode;
    use crate::reactor::fixture::{connect_frame, frames, request, settings, watching, write};
    use crate::rt::net;
    use crate::tree::Writer;

    /// Reactors on a port of their own, with a consensus core that opens sessions and says yes to
    /// every write.
    struct Server {
        address: SocketAddr,
        inboxes: Vec<RingInbox<ReactorMessage>>,
        threads: Vec<JoinHandle<()>>,
        words: Receiver<AdminRequest>,
        consensus: Option<JoinHandle<()>>,
        to_consensus: TaskInbox<ConsensusMessage>,
    }

    impl Server {
        fn new(reactors: u16, per_address_max: Option<NonZeroU32>) -> Server {
            let (writer, registry) = Writer::new();
            let listener = net::listen("127.0.0.1:0".parse().unwrap(), 1024).unwrap();
            let address = listener.local_addr().unwrap();
            let mut listener = Some(listener);
            let inboxes: Vec<_> =
                (0..reactors).map(|_| RingInbox::new(PUBLISHED_WAITING_MAX).unwrap()).collect();
            let consensus = TaskInbox::new(64);
            let admission = Arc::new(Admission::new(reactors.into(), per_address_max, None));
            let (admin, words) = sync_channel(8);
            let start = |id| {
                let setup = Setup {
                    id: ReactorId(id),
                    settings: settings(),
                    registry: registry.clone(),
                    admission: Arc::clone(&admission),
                    inbox: inboxes[usize::from(id)].clone(),
                    reactors: inboxes.clone(),
                    consensus: consensus.clone(),
                    admin: admin.clone(),
                    listener: listener.take(),
                    serving: true,
                    ring_depth: 1024,
                    spin_before_park: Duration::ZERO,
                };
                std::thread::spawn(move || run(setup).unwrap())
            };
            let threads = (0..reactors).map(start).collect();
            let (inbox, published) = (consensus.clone(), inboxes.clone());
            let core = std::thread::spawn(move || {
                let _tree = writer;
                agree(&inbox, &published);
            });
            let to_consensus = consensus;
            Server { address, inboxes, threads, words, consensus: Some(core), to_consensus }
        }

        fn client(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        }

        /// A client with a session.
        fn session(&self) -> TcpStream {
            let mut client = self.client();
            client.write_all(&connect_frame(0, 0, None)).unwrap();
            let response = receive(&mut client);
            assert_eq!(response.len(), 37 + 4);
            client
        }

        fn stop(mut self) {
            for inbox in &self.inboxes {
                inbox.send(ReactorMessage::Stop).unwrap();
            }
            self.threads.drain(..).for_each(|thread| thread.join().unwrap());
            self.to_consensus.send(ConsensusMessage::Stop).unwrap();
            self.consensus.take().unwrap().join().unwrap();
        }
    }

    fn agree(inbox: &TaskInbox<ConsensusMessage>, reactors: &[RingInbox<ReactorMessage>]) {
        let mut session = 0;
        loop {
            let submission = match inbox.take() {
                Some(ConsensusMessage::Submission(submission)) => submission,
                Some(ConsensusMessage::Stop) => return,
                Some(other) => panic!("{other:?}"),
                None => {
                    std::thread::sleep(Duration::from_micros(50));
                    continue;
                }
            };
            let mut batch = Published {
                answers: vec![Answers::default(); reactors.len()],
                ..Published::default()
            };
            let answers = &mut batch.answers[usize::from(submission.reactor.0)].list;
            for entry in submission.entries {
                let (conn, xid, outcome) = match entry {
                    Entry::OpenSession { conn, timeout_ms } => {
                        session += 1;
                        let session = SessionId::from_bits(session);
                        (conn, 0, Outcome::SessionOpened { session, timeout_ms })
                    }
                    Entry::Write { conn, xid, op, .. } => {
                        let (err, body) = (ErrorCode::Ok, 0..0);
                        let last = op == OpCode::CLOSE_SESSION;
                        (
                            conn,
                            xid,
                            match last {
                                true => Outcome::ReplyAndClose { err, body },
                                false => Outcome::Reply { err, body },
                            },
                        )
                    }
                    _ => continue,
                };
                answers.push(crate::reactor::fixture::answer(conn, xid, 0, outcome));
            }
            let batch = Arc::new(batch);
            for reactor in reactors {
                reactor.send(ReactorMessage::Published(Arc::clone(&batch))).unwrap();
            }
        }
    }

    /// One frame, its length included.
    fn receive(client: &mut TcpStream) -> Vec<u8> {
        let mut frame = vec![0; 4];
        client.read_exact(&mut frame).unwrap();
        let length = i32::from_be_bytes(frame[..4].try_into().unwrap());
        frame.resize(4 + length as usize, 0);
        client.read_exact(&mut frame[4..]).unwrap();
        frame
    }

    #[test]
    fn a_client_is_served_from_handshake_to_close() {
        let server = Server::new(1, None);
        let mut client = server.session();
        let burst = [
            watching(1, OpCode::EXISTS, "/zookeeper", false),
            write(2),
            watching(3, OpCode::GET_CHILDREN, "/", false),
            request(4, OpCode::CLOSE_SESSION, &[]),
        ];
        client.write_all(&burst.concat()).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(frames(&all).iter().map(|it| it.xid).collect::<Vec<_>>(), [1, 2, 3, 4]);
        server.stop();
    }

    #[test]
    fn clients_are_spread_over_the_reactors() {
        let server = Server::new(3, None);
        let mut clients: Vec<_> = (0..9).map(|_| server.session()).collect();
        for inbox in &server.inboxes {
            let (to, report) = sync_channel(1);
            let details = Details { connections: true, ..Details::default() };
            let ask = ReactorAsk::Report { details, to };
            inbox.send(ReactorMessage::Ask(ask)).unwrap();
            let report = report.recv_timeout(Duration::from_secs(5)).unwrap();
            assert_eq!((report.connections, report.connection_list.len()), (3, 3));
        }
        for client in &mut clients {
            client.write_all(&watching(7, OpCode::EXISTS, "/", false)).unwrap();
            assert_eq!(frames(&receive(client))[0].xid, 7);
        }
        server.stop();
    }

    #[test]
    fn an_address_with_too_many_connections_gets_no_more_until_one_is_closed() {
        let server = Server::new(1, NonZeroU32::new(2));
        let (first, _second) = (server.session(), server.session());
        let mut third = server.client();
        let _ = third.write_all(&connect_frame(0, 0, None));
        assert!(matches!(third.read(&mut [0; 10]), Ok(0) | Err(_)), "it was not closed");
        drop(first);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut again = server.client();
            let _ = again.write_all(&connect_frame(0, 0, None));
            if matches!(again.read(&mut [0; 10]), Ok(1..)) {
                break;
            }
            assert!(Instant::now() < deadline, "the closed connection still counts");
        }
        server.stop();
    }

    #[test]
    fn a_four_letter_word_goes_to_whoever_answers_them() {
        let server = Server::new(1, None);
        let mut client = server.client();
        client.write_all(b"ruok").unwrap();
        let request = server.words.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(request.question.word.name(), "ruok");
        assert_eq!(request.address, client.local_addr().unwrap());
        (&request.stream).write_all(b"imok").unwrap();
        drop(request);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "imok");
        server.stop();
    }

    #[test]
    fn a_stopping_reactor_closes_its_clients_and_ends() {
        let server = Server::new(2, None);
        let mut clients: Vec<_> = (0..4).map(|_| server.session()).collect();
        server.stop();
        for client in &mut clients {
            assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
        }
    }

    #[test]
    fn a_pipelining_client_that_reads_late_gets_every_reply_in_order() {
        let server = Server::new(1, None);
        let mut client = server.session();
        let mut sending = client.try_clone().unwrap();
        let count = 200_000;
        let writing = std::thread::spawn(move || {
            for first in (0..count).step_by(1_000) {
                let burst: Vec<u8> = (first..first + 1_000)
                    .flat_map(|xid| match xid % 100 {
                        0 => write(xid),
                        _ => watching(xid, OpCode::GET_CHILDREN2, "/", false),
                    })
                    .collect();
                sending.write_all(&burst).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        for xid in 0..count {
            assert_eq!(frames(&receive(&mut client))[0].xid, xid);
        }
        writing.join().unwrap();
        server.stop();
    }
}
