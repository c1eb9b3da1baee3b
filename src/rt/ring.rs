//! The io_uring driver of client sockets: multishot accept and receive into shared buffers, and
//! all sends of a turn submitted with the one system call that also waits.
//!
//! A send is tried at once, inside that call, and tells of itself only when it could not be done
//! whole (`MSG_DONTWAIT | MSG_WAITALL`, no completion on success): so a turn with a hundred sends
//! reaps no completion for them, and is not woken by its own sends. What the peer's window refused
//! is sent again by an operation that waits, and completes like any other.
//!
//! Needs Linux 6.1 (deferred task work). Created and used by one thread, that of its reactor.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use thiserror::Error;

use super::linger::Lingering;
use super::net::{Chunk, Patience, SocketEvent, Sockets};
use super::receive_buffers::{self, ReceiveBuffers};

/// Completions that a ring holds, or as many as it holds submissions. Full: multishot receives end,
/// and are started again.
const COMPLETIONS: u32 = 8192;

/// Buffers of sends that are kept for the next sends, and the largest of them, bytes.
const SENT_BUFFERS_MAX: usize = 512;
const SENT_BUFFER_BYTES_MAX: usize = 64 << 10;

/// How long accepting rests after the system refused a socket (no descriptors, no memory).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Why the driver cannot work. Each names what the operator can do.
#[derive(Debug, Error)]
pub enum RingError {
    /// EPERM: switched off for this process.
    #[error(
        "io_uring is forbidden here: check `sysctl kernel.io_uring_disabled` (must be 0) and the \
         container's seccomp profile"
    )]
    Forbidden,
    /// ENOSYS: not in this kernel.
    #[error("this kernel has no io_uring (it was built without it, or seccomp hides it)")]
    NotThere,
    /// EINVAL: too old.
    #[error("this kernel's io_uring is too old: {what} needs Linux {since} or later")]
    TooOld { what: &'static str, since: &'static str },
    /// ENOMEM: the locked-memory limit, or no memory.
    #[error(
        "no memory for an io_uring: raise the locked-memory limit (`ulimit -l`, LimitMEMLOCK=)"
    )]
    Memory,
    /// EMFILE, ENFILE.
    #[error("no file descriptor left for an io_uring: raise the limit (`ulimit -n`)")]
    Descriptors,
    /// Anything else.
    #[error("{what} failed: {source}")]
    Failed { what: &'static str, source: io::Error },
}

impl RingError {
    fn at(what: &'static str, since: &'static str, source: io::Error) -> RingError {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => RingError::Forbidden,
            Some(libc::ENOSYS) => RingError::NotThere,
            Some(libc::EINVAL) => RingError::TooOld { what, since },
            Some(libc::ENOMEM) => RingError::Memory,
            Some(libc::EMFILE | libc::ENFILE) => RingError::Descriptors,
            _ => RingError::Failed { what, source },
        }
    }
}

/// Whether this process may have the rings that the reactors need. For the start, before anything
/// is opened or bound.
///
/// # Errors
/// What is in the way.
pub fn probe() -> Result<(), RingError> {
    let ring = build(8, 16)?;
    ReceiveBuffers::register(&ring)
        .map_err(|error| RingError::at("a ring of receive buffers", "5.19", error))
        .map(|buffers| {
            drop(ring);
            drop(buffers);
        })
}

fn build(submissions: u32, completions: u32) -> Result<IoUring, RingError> {
    let ring = IoUring::builder()
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .build(submissions)
        .map_err(|error| RingError::at("deferred task work", "6.1", error))?;
    if !ring.params().is_feature_nodrop() || !ring.params().is_feature_skip_cqe_on_success() {
        return Err(RingError::TooOld { what: "silent success", since: "5.17" });
    }
    Ok(ring)
}

/// What a completion is for; stands in its user data above the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Operation {
    Wake,
    Accept,
    Receive,
    /// A send that was tried at once and failed, wholly or in part.
    Send,
    /// A send that waits for the peer.
    WaitingSend,
    Cancel,
    /// A receive whose bytes are thrown away. Its number stands in place of a slot.
    Linger,
}

impl Operation {
    const fn of(self, slot: u32) -> u64 {
        (self as u64) << 32 | slot as u64
    }

    fn from_user_data(user_data: u64) -> (Operation, u32) {
        const ALL: [Operation; 7] = [
            Operation::Wake,
            Operation::Accept,
            Operation::Receive,
            Operation::Send,
            Operation::WaitingSend,
            Operation::Cancel,
            Operation::Linger,
        ];
        (ALL[(user_data >> 32) as usize], user_data as u32)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Off,
    Armed,
    /// A cancel is on its way; the last completion is not here yet.
    Cancelling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Send {
    Idle,
    /// In the submission queue, or tried by the kernel and not yet looked at.
    Queued,
    /// The kernel waits for the peer.
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Stay,
    Close { after_send: bool },
    Release,
}

/// One socket. The kernel may read `sending` while `send` is not `Idle`.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    receive: Receive,
    /// The reactor wants data.
    wanted: bool,
    /// No more data will come.
    ended: bool,
    send: Send,
    sending: Vec<u8>,
    sent: usize,
    leave: Leave,
    shut: bool,
}

/// The driver. Field order matters: the ring is dropped (and with it every operation in flight)
/// before the memory that operations point into.
pub struct RingSockets {
    ring: IoUring,
    receive_buffers: ReceiveBuffers,
    sockets: Vec<Option<Socket>>,
    wake: RawFd,
    wake_armed: bool,
    listener: Option<TcpListener>,
    accept_armed: bool,
    accept_rests_until: Option<Instant>,
    /// Slots whose send was queued since the last `wait`.
    queued: Vec<u32>,
    /// Slots to close once their queued send has been tried.
    leaving: usize,
    lingering: Lingering,
    /// Slots that want to receive but are not armed.
    unarmed: Vec<u32>,
    /// Receive buffers that the last `wait` showed.
    shown: Vec<u16>,
    completions: Vec<cqueue::Entry>,
    /// Events that need no kernel.
    notices: Vec<SocketEvent>,
    sent_buffers: Vec<Vec<u8>>,
}

impl RingSockets {
    /// A driver for the calling thread, which wakes up when `wake` (an eventfd, which must outlive
    /// the driver) is rung. `depth` submissions wait before the kernel must take them (at once).
    ///
    /// # Errors
    /// As [`probe`].
    pub fn new(wake: BorrowedFd<'_>, depth: u32) -> Result<RingSockets, RingError> {
        let ring = build(depth, COMPLETIONS.max(depth))?;
        let receive_buffers = ReceiveBuffers::register(&ring)
            .map_err(|error| RingError::at("a ring of receive buffers", "5.19", error))?;
        Ok(RingSockets {
            ring,
            receive_buffers,
            sockets: Vec::new(),
            wake: wake.as_raw_fd(),
            wake_armed: false,
            listener: None,
            accept_armed: false,
            accept_rests_until: None,
            queued: Vec::new(),
            leaving: 0,
            lingering: Lingering::default(),
            unarmed: Vec::new(),
            shown: Vec::new(),
            completions: Vec::new(),
            notices: Vec::new(),
            sent_buffers: Vec::new(),
        })
    }

    fn socket(&mut self, slot: u32) -> &mut Socket {
        match self.sockets.get_mut(slot as usize) {
            Some(Some(socket)) => socket,
            _ => panic!("slot {slot} has no socket"),
        }
    }

    /// Puts one operation into the submission queue, which the kernel empties if it is full.
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), RingError> {
        loop {
            // SAFETY: what the entries point to lives until their completion: the bytes of a send
            // in its socket, which is not dropped before; receives and polls point to nothing, and
            // one that throws away copies nothing.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter(Patience::None)?;
        }
    }

    /// Submits everything; waits for a completion if `patience` allows it.
    fn enter(&mut self, patience: Patience) -> Result<(), RingError> {
        let (timeout, mut want) = match patience {
            Patience::None => (Timespec::new(), 0),
            Patience::For(time) => (Timespec::from(time), 1),
        };
        let arguments = SubmitArgs::new().timespec(&timeout);
        let flags = EnterFlags::EXT_ARG | EnterFlags::GETEVENTS;
        loop {
            let queued = self.ring.submission().len();
            // SAFETY: the arguments live across the call and their size goes with their type.
            let entered = unsafe {
                self.ring.submitter().enter(queued as u32, want, flags.bits(), Some(&arguments))
            };
            match entered {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return Err(RingError::at("io_uring_enter", "6.1", error)),
                },
            }
            // The kernel stops early only when it has no memory for an operation.
            if self.ring.submission().is_empty() {
                return Ok(());
            }
            want = 0;
            std::thread::yield_now();
        }
    }

    /// Takes every completion, and settles the sends that were tried.
    fn reap(&mut self, events: &mut Vec<SocketEvent>) -> Result<(), RingError> {
        loop {
            let mut completions = std::mem::take(&mut self.completions);
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.complete(&completion, events)?;
            }
            self.completions = completions;
            // A send's failure may be among what did not fit.
            if !self.ring.submission().cq_overflow() {
                break;
            }
            self.enter(Patience::None)?;
        }
        let mut queued = std::mem::take(&mut self.queued);
        for slot in queued.drain(..) {
            // A socket that was leaving is gone by now if its send has failed. Its slot cannot have
            // been taken again: nobody was told yet.
            let socket = self.sockets.get(slot as usize).and_then(Option::as_ref);
            if socket.is_some_and(|socket| socket.send == Send::Queued) {
                self.send_is_over(slot);
            }
        }
        self.queued = queued;
        Ok(())
    }

    fn complete(
        &mut self,
        completion: &cqueue::Entry,
        events: &mut Vec<SocketEvent>,
    ) -> Result<(), RingError> {
        let (operation, slot) = Operation::from_user_data(completion.user_data());
        let more = cqueue::more(completion.flags());
        match operation {
            Operation::Wake => self.wake_armed = more,
            Operation::Accept => self.accepted(completion.result(), more, events),
            Operation::Receive => self.received(slot, completion, more, events),
            Operation::Send => self.send_again(slot, completion.result(), events)?,
            Operation::WaitingSend => self.sent_at_last(slot, completion.result(), events),
            Operation::Cancel => {}
            Operation::Linger => {
                if let Some(fd) = self.lingering.received(slot, completion.result()) {
                    let entry = Lingering::receive(fd).user_data(completion.user_data());
                    self.push(&entry)?;
                }
            }
        }
        Ok(())
    }

    fn accepted(&mut self, result: i32, more: bool, events: &mut Vec<SocketEvent>) {
        self.accept_armed = more;
        if result >= 0 {
            // SAFETY: the kernel just made this descriptor for us.
            let stream = unsafe { TcpStream::from_raw_fd(result) };
            if self.listener.is_some() {
                events.push(SocketEvent::Accepted(stream));
            }
        } else if -result != libc::ECANCELED {
            // The client may have gone (ECONNABORTED), or we are out of descriptors or memory.
            self.accept_rests_until = Some(Instant::now() + ACCEPT_REST);
        }
    }

    fn received(
        &mut self,
        slot: u32,
        completion: &cqueue::Entry,
        more: bool,
        events: &mut Vec<SocketEvent>,
    ) {
        let result = completion.result();
        let buffer = cqueue::buffer_select(completion.flags());
        if let Some(buffer) = buffer {
            self.shown.push(buffer);
        }
        let socket = self.socket(slot);
        if let (Some(buffer), 1..) = (buffer, result)
            && !matches!(socket.leave, Leave::Close { .. })
        {
            let data = Chunk { buffer, length: result as u32 };
            events.push(SocketEvent::Received { slot, data });
        }
        if more {
            return;
        }
        let socket = self.socket(slot);
        socket.receive = Receive::Off;
        let starved = result > 0 || matches!(-result, libc::ENOBUFS | libc::ECANCELED);
        if !starved {
            socket.ended = true;
            if socket.leave == Leave::Stay {
                events.push(SocketEvent::Ended { slot, error: error_of(result) });
            }
        }
        if socket.leave == Leave::Stay {
            if socket.wanted && !socket.ended {
                self.unarmed.push(slot);
            }
        } else {
            self.leave_if_over(slot);
        }
    }

    /// A send that was tried at once did not go out whole: leave the rest to the kernel.
    fn send_again(
        &mut self,
        slot: u32,
        result: i32,
        events: &mut Vec<SocketEvent>,
    ) -> Result<(), RingError> {
        let socket = self.socket(slot);
        assert_eq!(socket.send, Send::Queued, "slot {slot}: failure of a send that was not tried");
        match result {
            0.. => socket.sent += result as usize,
            _ if matches!(-result, libc::EAGAIN | libc::EINTR | libc::ENOMEM) => {}
            _ => {
                self.send_is_over(slot);
                self.failed(slot, result, events);
                return Ok(());
            }
        }
        let rest = &socket.sending[socket.sent..];
        let entry = opcode::Send::new(Fd(socket.stream.as_raw_fd()), rest.as_ptr(), length(rest))
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(Operation::WaitingSend.of(slot));
        socket.send = Send::Waiting;
        self.push(&entry)
    }

    fn sent_at_last(&mut self, slot: u32, result: i32, events: &mut Vec<SocketEvent>) {
        let socket = self.socket(slot);
        assert_eq!(socket.send, Send::Waiting, "slot {slot}: end of a send that did not wait");
        let whole = usize::try_from(result).is_ok_and(|sent| {
            socket.sent += sent;
            socket.sent == socket.sending.len()
        });
        let stays = socket.leave == Leave::Stay;
        self.send_is_over(slot);
        if !whole {
            // A send that ends short has failed on the way, whatever it sent before.
            self.failed(slot, if result < 0 { result } else { -libc::EPIPE }, events);
        } else if stays {
            events.push(SocketEvent::Sent { slot });
        }
    }

    fn send_is_over(&mut self, slot: u32) {
        let socket = self.socket(slot);
        socket.send = Send::Idle;
        socket.sent = 0;
        let mut buffer = std::mem::take(&mut socket.sending);
        let leaves = socket.leave != Leave::Stay;
        if buffer.capacity() <= SENT_BUFFER_BYTES_MAX && self.sent_buffers.len() < SENT_BUFFERS_MAX
        {
            buffer.clear();
            self.sent_buffers.push(buffer);
        }
        if leaves {
            self.leave_if_over(slot);
        }
    }

    /// The connection failed: say so once, unless it was on its way out.
    fn failed(&mut self, slot: u32, result: i32, events: &mut Vec<SocketEvent>) {
        if let Some(Some(socket)) = self.sockets.get_mut(slot as usize)
            && socket.leave == Leave::Stay
            && !socket.ended
        {
            socket.ended = true;
            events.push(SocketEvent::Ended { slot, error: error_of(result) });
        }
    }

    /// Brings a socket that leaves one step further out.
    fn leave_if_over(&mut self, slot: u32) {
        let socket = self.socket(slot);
        if let Leave::Close { after_send } = socket.leave
            && (socket.send == Send::Idle || !after_send)
            && (socket.send != Send::Idle || socket.receive != Receive::Off)
        {
            if after_send {
                self.cancel_receive(slot);
            } else if !socket.shut {
                socket.shut = true;
                // Ends the receive and a send that waits. The peer may have gone: no matter.
                let _ = socket.stream.shutdown(std::net::Shutdown::Both);
            }
        }
        let socket = self.socket(slot);
        if socket.send != Send::Idle || socket.receive != Receive::Off {
            return;
        }
        let Some(socket) = self.sockets[slot as usize].take() else { return };
        let notice = match socket.leave {
            Leave::Release => SocketEvent::Released { slot, stream: socket.stream },
            Leave::Close { after_send } => {
                if after_send && !socket.ended {
                    self.linger(socket.stream);
                }
                SocketEvent::Gone { slot }
            }
            Leave::Stay => unreachable!("slot {slot} does not leave"),
        };
        self.notices.push(notice);
    }

    fn arm_what_is_unarmed(&mut self) -> Result<(), RingError> {
        if !self.wake_armed {
            self.wake_armed = true;
            let entry = opcode::PollAdd::new(Fd(self.wake), libc::POLLIN as u32)
                .multi(true)
                .build()
                .user_data(Operation::Wake.of(0));
            self.push(&entry)?;
        }
        if !self.accept_armed
            && let Some(listener) = &self.listener
            && self.accept_rests_until.is_none_or(|until| until <= Instant::now())
        {
            self.accept_armed = true;
            self.accept_rests_until = None;
            let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
                .flags(libc::SOCK_CLOEXEC)
                .build()
                .user_data(Operation::Accept.of(0));
            self.push(&entry)?;
        }
        while let Some(slot) = self.unarmed.pop() {
            let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else { continue };
            let stays = socket.leave == Leave::Stay && socket.wanted && !socket.ended;
            if stays && socket.receive == Receive::Off {
                socket.receive = Receive::Armed;
                let fd = Fd(socket.stream.as_raw_fd());
                let entry = opcode::RecvMulti::new(fd, receive_buffers::GROUP)
                    .build()
                    .user_data(Operation::Receive.of(slot));
                self.push(&entry)?;
            }
        }
        Ok(())
    }

    fn cancel_receive(&mut self, slot: u32) {
        let socket = self.socket(slot);
        if socket.receive != Receive::Armed {
            return;
        }
        socket.receive = Receive::Cancelling;
        let entry = opcode::AsyncCancel::new(Operation::Receive.of(slot))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Operation::Cancel.of(slot));
        self.push_or_die(&entry);
    }

    /// For the calls that have no error of their own: `io_uring_enter` fails only when the ring is
    /// broken, which the reactor does not survive.
    fn push_or_die(&mut self, entry: &squeue::Entry) {
        if let Err(error) = self.push(entry) {
            panic!("the ring is broken: {error}");
        }
    }
}

impl Sockets for RingSockets {
    fn listen(&mut self, listener: TcpListener) {
        assert!(self.listener.is_none(), "a driver has one listener");
        self.listener = Some(listener);
    }

    fn stop_listening(&mut self) {
        if self.listener.is_some() && self.accept_armed {
            let entry = opcode::AsyncCancel::new(Operation::Accept.of(0))
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(Operation::Cancel.of(0));
            self.push_or_die(&entry);
        }
        self.listener = None;
    }

    fn adopt(&mut self, slot: u32, stream: TcpStream) {
        let index = slot as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        assert!(self.sockets[index].is_none(), "slot {slot} is taken");
        self.sockets[index] = Some(Socket {
            stream,
            receive: Receive::Off,
            wanted: true,
            ended: false,
            send: Send::Idle,
            sending: Vec::new(),
            sent: 0,
            leave: Leave::Stay,
            shut: false,
        });
        self.unarmed.push(slot);
    }

    fn send(&mut self, slot: u32, bytes: Vec<u8>) {
        assert!(!bytes.is_empty(), "slot {slot} sends nothing");
        let socket = self.socket(slot);
        assert_eq!(socket.send, Send::Idle, "slot {slot} is sending");
        assert_eq!(socket.leave, Leave::Stay, "slot {slot} is leaving");
        socket.sending = bytes;
        socket.send = Send::Queued;
        let (start, length) = (socket.sending.as_ptr(), length(&socket.sending));
        let entry = opcode::Send::new(Fd(socket.stream.as_raw_fd()), start, length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Operation::Send.of(slot));
        self.queued.push(slot);
        self.push_or_die(&entry);
    }

    fn is_sending(&self, slot: u32) -> bool {
        matches!(self.sockets.get(slot as usize), Some(Some(socket)) if socket.send != Send::Idle)
    }

    fn sent_buffers(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.sent_buffers
    }

    fn pause(&mut self, slot: u32) {
        self.socket(slot).wanted = false;
        self.cancel_receive(slot);
    }

    fn resume(&mut self, slot: u32) {
        let socket = self.socket(slot);
        if !socket.wanted {
            socket.wanted = true;
            self.unarmed.push(slot);
        }
    }

    fn close(&mut self, slot: u32, after_send: bool) {
        let socket = self.socket(slot);
        if socket.leave == Leave::Stay && socket.send == Send::Queued {
            self.leaving += 1;
        }
        let socket = self.socket(slot);
        socket.leave = Leave::Close { after_send };
        self.leave_if_over(slot);
    }

    fn release(&mut self, slot: u32) {
        let socket = self.socket(slot);
        assert_eq!(socket.send, Send::Idle, "slot {slot} is sending");
        socket.leave = Leave::Release;
        self.cancel_receive(slot);
        self.leave_if_over(slot);
    }

    fn linger(&mut self, stream: TcpStream) {
        if let Some((number, fd)) = self.lingering.begin(stream, Instant::now()) {
            let entry = Lingering::receive(fd).user_data(Operation::Linger.of(number));
            self.push_or_die(&entry);
        }
    }

    fn has_lingering(&self) -> bool {
        !self.lingering.is_empty()
    }

    fn wait(&mut self, patience: Patience, events: &mut Vec<SocketEvent>) -> Result<(), RingError> {
        self.receive_buffers.give_back(self.shown.drain(..));
        self.arm_what_is_unarmed()?;
        if self.leaving > 0 {
            // Their sends must be tried before they are shut.
            self.leaving = 0;
            self.enter(Patience::None)?;
            self.reap(events)?;
        }
        let mut patience = patience;
        if !self.lingering.is_empty()
            && let Some(left) = self.lingering.lapse(Instant::now())
            && let Patience::For(time) = patience
        {
            patience = Patience::For(time.min(left));
        }
        let nothing = events.is_empty() && self.notices.is_empty() && self.unarmed.is_empty();
        self.enter(if nothing { patience } else { Patience::None })?;
        self.reap(events)?;
        events.append(&mut self.notices);
        Ok(())
    }

    fn data(&self, chunk: Chunk) -> &[u8] {
        self.receive_buffers.data(chunk.buffer, chunk.length)
    }
}

/// The error number in an operation's result; none if it succeeded.
fn error_of(result: i32) -> Option<i32> {
    (result < 0).then_some(-result)
}

/// The length as an operation takes it. The kernel cuts at 2 GiB, and a send that it cut would pass
/// for a whole one.
fn length(bytes: &[u8]) -> u32 {
    assert!(bytes.len() < 1 << 30, "a send of {} bytes", bytes.len());
    bytes.len() as u32
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;
    use crate::limits::{LINGER_BYTES_MAX, LINGER_MS_MAX};
    use crate::rt::event::Event;
    use crate::rt::net;

    const SOON: Patience = Patience::For(Duration::from_millis(200));

    struct Server {
        sockets: RingSockets,
        event: Event,
        address: std::net::SocketAddr,
        next: u32,
        /// What each slot sent us.
        received: Vec<Vec<u8>>,
        happened: Vec<&'static str>,
    }

    impl Server {
        fn new() -> Server {
            let event = Event::new().unwrap();
            let mut sockets = RingSockets::new(event.as_fd(), 1024).unwrap();
            let listener = net::listen("127.0.0.1:0".parse().unwrap(), 1024).unwrap();
            let address = listener.local_addr().unwrap();
            sockets.listen(listener);
            let (received, happened) = (Vec::new(), Vec::new());
            Server { sockets, event, address, next: 0, received, happened }
        }

        fn turn(&mut self, patience: Patience) {
            let mut events = Vec::new();
            self.sockets.wait(patience, &mut events).unwrap();
            for event in events {
                self.happened.push(match event {
                    SocketEvent::Accepted(stream) => {
                        self.sockets.adopt(self.next, stream);
                        self.received.push(Vec::new());
                        self.next += 1;
                        "accepted"
                    }
                    SocketEvent::Received { slot, data } => {
                        let data = self.sockets.data(data);
                        self.received[slot as usize].extend_from_slice(data);
                        "received"
                    }
                    SocketEvent::Ended { .. } => "ended",
                    SocketEvent::Sent { .. } => "sent",
                    SocketEvent::Gone { .. } => "gone",
                    SocketEvent::Released { stream, .. } => {
                        (&stream).write_all(b"released").unwrap();
                        "released"
                    }
                });
            }
        }

        /// Turns until `done`, or fails after a while.
        fn until(&mut self, done: impl Fn(&Server) -> bool) {
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                if done(self) {
                    return;
                }
                self.turn(SOON);
            }
            panic!("never: {:?}", self.happened);
        }

        fn until_happened(&mut self, what: &'static str) {
            self.until(|server| server.happened.contains(&what));
        }

        fn client(&mut self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let before = self.next;
            self.until(|server| server.next > before);
            stream
        }
    }

    #[test]
    fn this_machine_passes_the_probe() {
        probe().unwrap();
    }

    #[test]
    fn what_a_client_sends_arrives_and_what_it_is_sent_too() {
        let mut server = Server::new();
        let mut client = server.client();
        client.write_all(b"request").unwrap();
        server.until(|server| server.received[0] == b"request");
        server.sockets.send(0, b"answer".to_vec());
        server.turn(Patience::None);
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        assert!(!server.sockets.is_sending(0), "it was done at once");
        assert_eq!(server.sockets.sent_buffers().len(), 1);
        drop(client);
        server.until_happened("ended");
        server.sockets.close(0, false);
        server.until_happened("gone");
    }

    #[test]
    fn a_send_that_the_peer_does_not_take_waits_and_loses_nothing() {
        let mut server = Server::new();
        let mut client = server.client();
        let bytes: Vec<u8> = (0..32_000_000_u32).map(|at| (at % 251) as u8).collect();
        server.sockets.send(0, bytes.clone());
        server.turn(Patience::None);
        assert!(server.sockets.is_sending(0));
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; 32_000_000];
            client.read_exact(&mut got).unwrap();
            (client, got)
        });
        server.until_happened("sent");
        let (mut client, got) = reading.join().unwrap();
        assert!(got == bytes, "the bytes differ");
        server.sockets.send(0, b"next".to_vec());
        server.turn(Patience::None);
        let mut next = [0; 4];
        client.read_exact(&mut next).unwrap();
        assert_eq!(&next, b"next");
    }

    #[test]
    fn a_close_after_a_send_closes_after_it() {
        let mut server = Server::new();
        for bytes in [vec![1; 10], vec![2; 8_000_000]] {
            let mut client = server.client();
            let slot = server.next - 1;
            server.sockets.send(slot, bytes.clone());
            server.sockets.close(slot, true);
            let reading = std::thread::spawn(move || {
                let mut got = Vec::new();
                client.read_to_end(&mut got).unwrap();
                got
            });
            server.happened.clear();
            server.until_happened("gone");
            assert!(reading.join().unwrap() == bytes, "{} bytes sent", bytes.len());
        }
    }

    /// Closes the next connection behind `answer`, to a client that sends `more` before it reads.
    fn answer_and_close(server: &mut Server, answer: &[u8], more: usize) -> Vec<u8> {
        let mut client = server.client();
        let slot = server.next - 1;
        // Lies unread when the socket is closed.
        server.turn(Patience::None);
        server.sockets.pause(slot);
        server.turn(SOON);
        client.write_all(b"more").unwrap();
        server.sockets.send(slot, answer.to_vec());
        server.sockets.close(slot, true);
        let reading = std::thread::spawn(move || {
            let bytes = [0; 64 << 10];
            for _ in 0..more / bytes.len() {
                client.write_all(&bytes).unwrap();
            }
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            got
        });
        server.until(|server| server.happened.contains(&"gone") && reading.is_finished());
        server.happened.clear();
        let got = reading.join().unwrap();
        server.until(|server| !server.sockets.has_lingering());
        got
    }

    #[test]
    fn a_client_that_goes_on_sending_gets_the_last_answer_and_the_end() {
        let mut server = Server::new();
        assert_eq!(answer_and_close(&mut server, b"last", 0), b"last");
        assert_eq!(answer_and_close(&mut server, b"last", LINGER_BYTES_MAX / 2), b"last");
        let long = vec![1; 8_000_000];
        assert!(answer_and_close(&mut server, &long, 0) == long);
    }

    #[test]
    fn a_client_that_stays_is_closed_after_a_while_and_its_slot_is_free_at_once() {
        let mut server = Server::new();
        let mut client = server.client();
        server.sockets.send(0, b"last".to_vec());
        server.sockets.close(0, true);
        server.until_happened("gone");
        assert!(server.sockets.has_lingering());
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"last");
        server.turn(Patience::None);
        server.turn(Patience::None);
        assert!(server.sockets.has_lingering(), "it may still send");
        let later = Instant::now() + Duration::from_millis(LINGER_MS_MAX);
        assert_eq!(server.sockets.lingering.lapse(later), None);
        server.until(|server| !server.sockets.has_lingering());
        // The first byte is answered with a reset, which the next learns.
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.write_all(b"x").is_ok() {
            assert!(Instant::now() < deadline, "it is still open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_client_that_sends_without_end_is_closed() {
        let mut server = Server::new();
        let mut client = server.client();
        server.sockets.send(0, b"last".to_vec());
        server.sockets.close(0, true);
        let sending = std::thread::spawn(move || while client.write_all(&[0; 64 << 10]).is_ok() {});
        server.until(|server| server.happened.contains(&"gone") && sending.is_finished());
        sending.join().unwrap();
    }

    #[test]
    fn a_peer_that_never_reads_can_be_closed() {
        let mut server = Server::new();
        let _client = server.client();
        server.sockets.send(0, vec![0; 32_000_000]);
        server.turn(Patience::None);
        server.sockets.close(0, true);
        server.turn(Patience::None);
        assert!(!server.happened.contains(&"gone"));
        server.sockets.close(0, false);
        server.until_happened("gone");
    }

    #[test]
    fn a_last_send_to_a_peer_that_has_reset_ends_that_socket_alone() {
        let mut server = Server::new();
        let client = server.client();
        let mut other = server.client();
        server.turn(Patience::None);
        server.sockets.pause(0);
        server.turn(Patience::None);
        server.turn(SOON);
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        server.sockets.send(0, b"too late".to_vec());
        server.sockets.close(0, true);
        server.until_happened("gone");
        other.write_all(b"still here").unwrap();
        server.until(|server| server.received[1] == b"still here");
    }

    #[test]
    fn a_paused_socket_is_not_received_from_until_it_is_resumed() {
        let mut server = Server::new();
        let mut client = server.client();
        server.turn(Patience::None);
        server.sockets.pause(0);
        server.turn(Patience::None);
        client.write_all(b"held").unwrap();
        server.turn(SOON);
        assert_eq!(server.received[0], b"");
        server.sockets.resume(0);
        server.until(|server| server.received[0] == b"held");
        // Resumed before the cancel has come through.
        server.sockets.pause(0);
        server.sockets.resume(0);
        client.write_all(b", and more").unwrap();
        server.until(|server| server.received[0] == b"held, and more");
    }

    #[test]
    fn a_released_socket_goes_on_elsewhere() {
        let mut server = Server::new();
        let mut client = server.client();
        client.write_all(b"ruok").unwrap();
        server.until(|server| server.received[0] == b"ruok");
        server.sockets.release(0);
        server.until_happened("released");
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "released");
    }

    #[test]
    fn more_clients_than_buffers_lose_nothing() {
        let mut server = Server::new();
        let count = usize::from(receive_buffers::BUFFERS) + 100;
        let mut clients: Vec<_> = (0..count).map(|_| server.client()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&(index as u32).to_be_bytes().repeat(5_000)).unwrap();
        }
        server.until(|server| server.received.iter().all(|bytes| bytes.len() == 20_000));
        for (index, bytes) in server.received.iter().enumerate() {
            let index = (index as u32).to_be_bytes();
            assert!(bytes.chunks(4).all(|number| number == index), "bytes of another client");
        }
    }

    #[test]
    fn a_rung_event_ends_the_wait_each_time() {
        let mut server = Server::new();
        server.turn(Patience::None);
        for _ in 0..3 {
            server.event.ring();
            let start = Instant::now();
            server.turn(Patience::For(Duration::from_secs(10)));
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        let start = Instant::now();
        server.turn(Patience::For(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(15), "rung without a ring");
    }

    #[test]
    fn who_stops_listening_accepts_no_more() {
        let mut server = Server::new();
        let _client = server.client();
        server.sockets.stop_listening();
        server.turn(Patience::None);
        assert!(TcpStream::connect(server.address).is_err());
    }
}
