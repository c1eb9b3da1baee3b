//! A member of an ensemble, outside of the core: its links, its election port, and what it does to
//! its disk beside the log. Carries out what the core orders about those and tells it what came of
//! it. Owned by `turn`.
//!
//! What may block has a thread of its own for as long as it takes: epochs, truncation, snapshots
//! from and to other servers, reading the log for a learner. There are few of those at a time, for
//! `zab` orders one after the other for this server, and one for each learner.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::config::Ensemble;
use crate::consensus::message::ConsensusMessage;
use crate::ids::{ServerId, SessionId, Zxid};
use crate::limits::{DIFF_BYTES_MAX, QUORUM_BACKLOG};
use crate::log::epochs::EpochFiles;
use crate::log::folders::DataFolders;
use crate::log::group_commit::Tail;
use crate::log::install::install;
use crate::log::read::LogReader;
use crate::log::spares::Spares;
use crate::log::truncate::truncate;
use crate::peers::address::PeerAddress;
use crate::peers::election_inbox::ElectionInbox;
use crate::peers::election_port::ElectionPort;
use crate::peers::link_dial::DialSettings;
use crate::peers::link_stream::{IncomingStream, OutgoingStream};
use crate::peers::links::{LinkEvent, Links};
use crate::rt::files::Pace;
use crate::rt::inbox::TaskInbox;
use crate::rt::net;
use crate::snapshot::take::write_version;
use crate::snapshot::write::SnapshotWriter;
use crate::snapshot::zookeeper::{Decoder, Encoder, Form};
use crate::tree::{Reader, Registry, Writer};
use crate::zab::step::{Input, LinkId, LoggedTxn, Output};

/// Events of the links that are taken in one turn.
const EVENTS_PER_TURN: usize = 64;

/// How often a learner tries to connect to its leader, and the pause between two tries, as in
/// ZooKeeper.
const DIALS: u32 = 5;
const DIAL_PAUSE: Duration = Duration::from_millis(100);

/// What a member works with.
pub struct MemberSetup {
    pub ensemble: Ensemble,
    /// `tickTime`, milliseconds.
    pub tick_ms: u64,
    pub election: ElectionPort,
    /// What came in on the election port.
    pub heard: ElectionInbox,
    pub folders: Arc<DataFolders>,
    pub spares: Spares,
    pub epochs: EpochFiles,
    /// Longest string or buffer that a snapshot of another server may hold.
    pub string_limit: usize,
    /// Where threads say that they are done.
    pub consensus: TaskInbox<ConsensusMessage>,
}

/// What a thread has done.
#[derive(Debug)]
pub enum Done {
    /// Something that the core hears of as it is.
    Step(Input),
    /// The log is cut behind this zxid; it goes on at this end.
    Truncated(Zxid, Tail),
    /// A snapshot of the leader's is durable and is all there is; the log goes on behind it.
    Installed(Box<Installed>),
    /// The disk has failed, or what the leader ordered cannot be done. The process must end.
    Failed(String),
}

/// A snapshot that took the place of everything.
pub struct Installed {
    pub zxid: Zxid,
    pub tail: Tail,
    pub tree: Writer,
    pub registry: Registry,
    pub sessions: Vec<(SessionId, i32)>,
}

impl std::fmt::Debug for Installed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Installed at {} with {} sessions", self.zxid, self.sessions.len())
    }
}

/// See the module's docs.
pub struct Member {
    setup: MemberSetup,
    links: Links,
    events: VecDeque<LinkEvent>,
    /// What is to be said to the core.
    inputs: VecDeque<Input>,
    /// A thread is at work on the log or the snapshots, for `zab`: nothing else may be.
    at_the_disk: bool,
}

impl Member {
    /// A member that has not begun. Must be made on the executor that it is polled on.
    pub fn new(setup: MemberSetup) -> Member {
        let ticks = u64::from(setup.ensemble.init_ticks.max(setup.ensemble.sync_ticks));
        // `zab` has a limit of its own for each phase; this one is for who never speaks.
        let patience = Duration::from_millis(2 * ticks * setup.tick_ms);
        let (events, inputs) = (VecDeque::new(), VecDeque::new());
        Member { links: Links::new(patience), setup, events, inputs, at_the_disk: false }
    }

    /// Whether the log or the snapshots are being changed by a thread.
    pub fn is_at_the_disk(&self) -> bool {
        self.at_the_disk
    }

    /// Links, notifications and results that wait to be taken.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.events.len() < EVENTS_PER_TURN
            && let Poll::Ready(event) = self.links.poll(context)
        {
            self.events.push_back(event);
        }
        let heard = self.setup.heard.poll_ready(context).is_ready();
        match heard || !self.events.is_empty() || !self.inputs.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// The next thing to tell the core.
    pub fn next_input(&mut self) -> Option<Input> {
        self.inputs.pop_front().or_else(|| {
            let (from, said) = self.setup.heard.take()?;
            Some(Input::Notification { from, said })
        })
    }

    /// The next event of a link.
    pub fn next_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// The links, to send on.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// The other side of a link broke the protocol.
    pub fn break_off(&mut self, link: LinkId) {
        self.links.close(link);
        self.inputs.push_back(Input::Lost(Some(link)));
    }

    /// No leader any more, or no follower.
    pub fn stop(&mut self) {
        self.links.stop_listening();
        self.links.stop_dialing();
    }

    /// A thread is done with an order about the log or the snapshots.
    pub fn disk_done(&mut self) {
        self.at_the_disk = false;
    }

    /// Carries out an order of the agreement's. Everything through `committed` is committed, and
    /// durable.
    pub fn carry_out(&mut self, order: Output, committed: Zxid) {
        match order {
            Output::Notify { to, message } => self.setup.election.send(to, message),
            Output::Connect(leader) => self.dial(leader),
            Output::Listen => self.listen(),
            Output::Close(link) => self.links.close(link),
            Output::WriteAccepted(epoch) => {
                let files = self.setup.epochs.clone();
                self.spawn("epoch", move || match files.write_accepted(epoch) {
                    Ok(()) => Done::Step(Input::AcceptedWritten(epoch)),
                    Err(error) => Done::Failed(error.to_string()),
                });
            }
            Output::WriteCurrent(epoch) => {
                let files = self.setup.epochs.clone();
                self.spawn("epoch", move || match files.write_current(epoch) {
                    Ok(()) => Done::Step(Input::CurrentWritten(epoch)),
                    Err(error) => Done::Failed(error.to_string()),
                });
            }
            Output::Truncate(zxid) => {
                self.at_the_disk = true;
                let (folders, spares) =
                    (Arc::clone(&self.setup.folders), self.setup.spares.clone());
                self.spawn("truncate", move || match truncate(&folders, &spares, zxid) {
                    Ok(tail) => Done::Truncated(zxid, tail),
                    Err(error) => Done::Failed(format!(
                        "the leader's history ends at {zxid} where ours went on, and ours cannot \
                         be cut there: {error}; with an empty data folder this server gets the \
                         leader's snapshot"
                    )),
                });
            }
            Output::ReceiveSnapshot { link, zxid } => self.receive_snapshot(link, zxid),
            Output::ReadLog { link, from } => self.read_log(link, from, committed),
            other => unreachable!("carried out elsewhere: {other:?}"),
        }
    }

    fn dial(&mut self, leader: ServerId) {
        let Ensemble { members, connect_ticks, sync_ticks, .. } = &self.setup.ensemble;
        let addresses = members.get(leader).into_iter().flat_map(|member| &member.addresses);
        let addresses = addresses.map(|it| PeerAddress::new(it.host.clone(), it.quorum_port));
        let ticks = |count: u32| Duration::from_millis(u64::from(count) * self.setup.tick_ms);
        let settings = DialSettings {
            tries: DIALS,
            pause: DIAL_PAUSE,
            connect_timeout: ticks(*sync_ticks),
            within: ticks(*connect_ticks),
        };
        self.links.dial(addresses.collect(), settings);
    }

    fn listen(&mut self) {
        let Ensemble { members, me, listens_everywhere, .. } = &self.setup.ensemble;
        let own = members.get(*me).expect("this server is a member");
        let mut listeners = Vec::new();
        for address in &own.addresses {
            let at = match listens_everywhere {
                true => "0.0.0.0".to_owned(),
                false => address.host.clone(),
            };
            let bound = (at.as_str(), address.quorum_port)
                .to_socket_addrs()
                .and_then(|mut found| {
                    found.next().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
                })
                .and_then(|at: SocketAddr| net::listen(at, QUORUM_BACKLOG));
            match bound {
                Ok(listener) => listeners.push(listener),
                Err(error) => tracing::error!(
                    "cannot listen for learners on {at}:{}: {error}",
                    address.quorum_port
                ),
            }
        }
        if let Err(error) = self.links.listen(listeners) {
            tracing::error!("cannot listen for learners: {error}");
        }
    }

    /// Sends a snapshot of what `reader` has pinned, behind what was sent before.
    pub fn send_snapshot(
        &mut self,
        link: LinkId,
        mut reader: Reader,
        sessions: Vec<(SessionId, i32)>,
    ) {
        let Some(stream) = self.links.send_stream(link) else { return };
        self.spawn("snapshot-out", move || {
            stream_out(stream, &mut reader, &sessions);
            Done::Step(Input::SnapshotSent(link))
        });
    }

    fn receive_snapshot(&mut self, link: LinkId, zxid: Zxid) {
        let Some(stream) = self.links.receive_stream(link) else {
            self.inputs.push_back(Input::SnapshotAborted);
            return;
        };
        self.at_the_disk = true;
        let (folders, spares) = (Arc::clone(&self.setup.folders), self.setup.spares.clone());
        let limit = self.setup.string_limit;
        self.spawn("snapshot-in", move || receive(stream, zxid, limit, &folders, &spares));
    }

    fn read_log(&mut self, link: LinkId, from: Zxid, committed: Zxid) {
        let folder = self.setup.folders.log().to_owned();
        self.spawn("history", move || {
            let txns = read_history(&folder, from, committed);
            Done::Step(Input::LogRead { link, txns })
        });
    }

    fn spawn(&self, name: &str, work: impl FnOnce() -> Done + Send + 'static) {
        let consensus = self.setup.consensus.clone();
        let run = move || {
            let mut message = ConsensusMessage::Done(work());
            while let Err(back) = consensus.send(message) {
                message = back;
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        spawned.expect("the system has a thread for us");
    }
}

fn stream_out(stream: OutgoingStream, reader: &mut Reader, sessions: &[(SessionId, i32)]) {
    for chunk in Encoder::new(reader, sessions, Form::Stream) {
        if stream.send(chunk).is_err() {
            // The link is gone; its loss is told by itself.
            return;
        }
    }
    stream.finish();
}

/// Takes a leader's snapshot in. Until it is durable everything is as it was.
fn receive(
    mut stream: IncomingStream,
    zxid: Zxid,
    string_limit: usize,
    folders: &DataFolders,
    spares: &Spares,
) -> Done {
    let restored = match Decoder::stream(zxid, string_limit).read(&mut stream) {
        Ok(restored) => restored,
        Err(error) => {
            tracing::warn!("the leader's snapshot at {zxid} did not arrive: {error}");
            return Done::Step(Input::SnapshotAborted);
        }
    };
    stream.finish();
    let mut reader = restored.registry.reader();
    reader.hold_newest();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let written =
        SnapshotWriter::create(folders.snapshots(), zxid, since.as_millis() as i64, Pace::Full)
            .and_then(|mut writer| {
                write_version(&mut writer, &mut reader, &restored.sessions, &mut || true)?;
                install(folders, spares, writer)
            });
    drop(reader);
    match written {
        Ok(tail) => Done::Installed(Box::new(Installed {
            zxid,
            tail,
            tree: restored.writer,
            registry: restored.registry,
            sessions: restored.sessions,
        })),
        Err(error) => Done::Failed(format!("the leader's snapshot cannot be kept: {error}")),
    }
}

/// The log from the last transaction at or before `from` on, or `None` if a snapshot is less work.
fn read_history(folder: &Path, from: Zxid, through: Zxid) -> Option<Vec<LoggedTxn>> {
    let reader = LogReader::open(folder, from, through);
    let reader = reader.inspect_err(|error| tracing::info!("no history for a learner: {error}"));
    let reader = reader.ok()?;
    let mut bytes = 0;
    let mut txns = vec![(reader.begins_behind(), Bytes::new())];
    for read in reader {
        let (zxid, txn) = read.ok()?;
        bytes += txn.len();
        if bytes > DIFF_BYTES_MAX {
            return None;
        }
        txns.push((zxid, txn));
    }
    Some(txns)
}
