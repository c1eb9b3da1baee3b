//! A standalone server from its configuration to its end: checks, recovery, the cores, the wait
//! for a signal.
//!
//! The order matters. What the system may refuse (io_uring, locked memory, the port) is asked for
//! before the data folders are touched. The process ends as soon as any core does, unless it was
//! told to stop: then the reactors end first, so that the answers still due are given, then the
//! consensus core, with everything flushed.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use socket2::SockRef;
use thiserror::Error;

use crate::admin::desk::{Desk, Ledger, SnapshotTimes};
use crate::admin::environment::Folders;
use crate::admin::inquiry::Cores;
use crate::admin::metrics::StartUp;
use crate::config::load::{Loaded, Overrides, load};
use crate::config::members::{Member, MemberAddress};
use crate::config::{Config, Ensemble};
use crate::consensus::member::MemberSetup;
use crate::consensus::message::ConsensusMessage;
use crate::consensus::recovery::State;
use crate::consensus::turn::CoreFailure;
use crate::housekeeping::{Housekeeping, Snapshots};
use crate::ids::{ReactorId, ServerId, Zxid};
use crate::launch::{Consensus, Event, start_reactors};
use crate::limits::{
    ADMIN_REQUESTS_WAITING_MAX, HISTORY_KEPT, LISTEN_BACKLOG_DEFAULT, PORT_IN_USE_MS_MAX,
    PUBLISHED_WAITING_MAX, QUORUM_PACKET_BYTES_MAX, STOP_MS_MAX, SUBMISSIONS_WAITING_MAX,
};
use crate::log::damage::RecoverError;
use crate::log::epochs::{EpochError, EpochFiles, Epochs};
use crate::log::folders::{DataFolders, FolderError};
use crate::log::recover::recover;
use crate::log::spares::Spares;
use crate::logging;
use crate::peers::address::PeerAddress;
use crate::peers::election_inbox::ElectionInbox;
use crate::peers::election_port::{ElectionConfig, ElectionPort, ElectionPortError};
use crate::reactor::message::ReactorMessage;
use crate::rt::cores::CoreError;
use crate::rt::inbox::{RingInbox, TaskInbox};
use crate::rt::ring::RingError;
use crate::rt::{cores, net, process};
use crate::zab::step::{Cast, Reign, Start};

/// A server has ended, and not because it was told to. The reason has been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The configuration is wrong; nothing was touched.
    Configuration,
    /// It could not start, or had to stop.
    Service,
}

/// Why a server does not start or goes on no longer.
#[derive(Debug, Error)]
pub enum ServerError {
    #[error("{0}")]
    Core(#[from] CoreError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("{0}")]
    Folders(#[from] FolderError),
    #[error("{0}")]
    Recovery(#[from] RecoverError),
    #[error("the system refuses {what}: {error}")]
    System { what: &'static str, error: io::Error },
    #[error("{0}")]
    Consensus(#[from] CoreFailure),
    #[error("{0}")]
    Epochs(#[from] EpochError),
    #[error("{0}")]
    Election(#[from] ElectionPortError),
    #[error("reactor {} has failed: {error}", .reactor.0)]
    Reactor { reactor: ReactorId, error: RingError },
    #[error("the {0} has ended without being told to")]
    Ended(&'static str),
    #[error("stopped at once by a second signal; what was acknowledged is durable")]
    Impatience,
    #[error("the cores did not end within {} s; what was acknowledged is durable", STOP_MS_MAX / 1000)]
    StopTimeout,
}

/// Serves as the configuration in `file` says (without one: as the built-in defaults say), until a
/// signal ends it. What goes wrong is logged, in one line.
///
/// # Errors
/// When the configuration is wrong, when the server cannot start, or when it had to stop.
pub fn main(file: Option<&Path>, overrides: &Overrides) -> Result<(), Failure> {
    let began = Instant::now();
    logging::init();
    end_with_the_first_panic();
    let Loaded { config, notices, .. } = load(file, overrides).map_err(|error| {
        tracing::error!("{error}");
        Failure::Configuration
    })?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    serve(config, began).map_err(|error| {
        if let ServerError::Consensus(CoreFailure::Restart(_)) = error {
            tracing::info!("{error}");
            let error = start_again();
            tracing::error!("the server cannot start itself again: {error}");
        } else {
            tracing::error!("{error}");
        }
        Failure::Service
    })
}

/// The same program with the same arguments takes this process's place. Returns only when it cannot.
fn start_again() -> io::Error {
    Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec()
}

/// A server must not outlive one of its cores. (Builds with `panic = "abort"` end anyway.)
fn end_with_the_first_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

fn serve(config: Config, began: Instant) -> Result<(), ServerError> {
    cores::probe()?;
    let (listener, address) = listen(&config)?;
    let open_files = process::raise_open_files().unwrap_or_else(|error| {
        tracing::warn!("the limit of open files stays as it is: {error}");
        u64::MAX
    });
    let (tell, events) = channel();
    tell_signals(tell.clone())?;

    let folders = Arc::new(DataFolders::open(&config.data_dir, &config.data_log_dir)?);
    let me = config.ensemble.as_ref().map_or(ServerId::STANDALONE, |ensemble| ensemble.me);
    let mut state = State::new(me, u64::from(config.tick_ms));
    let recovered = recover(&folders, config.segment_bytes, &mut state)?;
    let inboxes = inboxes(config.cores.reactors.len())?;
    let times = SnapshotTimes::default();
    let spares = Spares::new(folders.log(), config.segment_bytes, recovered.spare.clone());
    let snapshots = Snapshots {
        folders: Arc::clone(&folders),
        retained: config.snapshots_retained,
        purge_interval: config.purge_interval,
        consensus: inboxes.consensus.clone(),
        times: times.clone(),
    };
    let (housekeeping, to_snapshots) =
        Housekeeping::start(snapshots, spares.clone()).map_err(no_thread)?;

    let (start, member) = match &config.ensemble {
        None => (Start::standalone(me, recovered.last_zxid), None),
        Some(ensemble) => {
            let epochs = EpochFiles::of(&folders);
            let start = as_member(ensemble, &config, &epochs, recovered.last_zxid)?;
            let heard = ElectionInbox::new();
            let member = MemberSetup {
                ensemble: (**ensemble).clone(),
                tick_ms: config.tick_ms.into(),
                election: open_election_port(ensemble, &config, &heard)?,
                heard,
                folders: Arc::clone(&folders),
                spares: spares.clone(),
                epochs,
                string_limit: QUORUM_PACKET_BYTES_MAX,
                consensus: inboxes.consensus.clone(),
            };
            (start, Some(member))
        }
    };
    let (tree, registry, sessions) = state.finish();
    let consensus = Consensus {
        start,
        member,
        tree,
        registry: registry.clone(),
        sessions,
        tail: recovered.tail.clone(),
        spares,
        logged: (recovered.replayed, recovered.replayed_bytes),
        to_snapshots,
    };
    consensus.start(&config, &inboxes, tell.clone())?;
    if let Some(signal) = wait_for_consensus(&events)? {
        // Nothing was served yet, so nothing is in flight.
        tracing::info!("{}: stopped before serving", signal_name(signal).unwrap_or("a signal"));
        return Ok(());
    }

    let (to_desk, requests) = sync_channel(ADMIN_REQUESTS_WAITING_MAX);
    let desk = Desk {
        cores: inboxes.clone(),
        config: config.clone(),
        listen: address,
        folders: Folders { snapshots: folders.snapshots().into(), log: folders.log().into() },
        snapshots: times,
        start_up: StartUp {
            began,
            recovery: recovered.took,
            txns_loaded: recovered.replayed,
            forgotten: false,
        },
        ledger: Ledger::default(),
    };
    Housekeeping::open_desk(desk, requests).map_err(no_thread)?;
    start_reactors(&config, &inboxes, &registry, listener, to_desk, open_files, &tell)?;
    tracing::info!(
        "ringkeeper {} on {address}: {} ({}), data in {}, log in {}, recovered through {} in {} \
         ms; {}",
        env!("CARGO_PKG_VERSION"),
        counted(config.cores.reactors.len(), "reactor"),
        config.cores,
        folders.snapshots().display(),
        folders.log().display(),
        recovered.last_zxid,
        recovered.took.as_millis(),
        if config.ensemble.is_none() { "serving clients" } else { "looking for a leader" },
    );

    let signal = wait_for_signal(&events)?;
    tracing::info!("{}: stopping", signal_name(signal).unwrap_or("a signal"));
    stop(&inboxes, &events)?;
    housekeeping.stop();
    tracing::info!("stopped; everything is durable");
    Ok(())
}

/// A member of an ensemble that has recovered its history, which ends at `last`.
fn as_member(
    ensemble: &Ensemble,
    config: &Config,
    epochs: &EpochFiles,
    last: Zxid,
) -> Result<Start, ServerError> {
    let Epochs { accepted, current } = epochs.load(last)?;
    let cast = Cast {
        me: ensemble.me,
        voters: ensemble.voters.clone(),
        tick_ms: config.tick_ms.into(),
        init_ticks: ensemble.init_ticks.into(),
        sync_ticks: ensemble.sync_ticks.into(),
        config: ensemble.members.text().into(),
        config_version: ensemble.members.version(),
    };
    let newest = Vec::new();
    let (keep, reign) = (HISTORY_KEPT, Reign::New);
    Ok(Start { cast, accepted, current, last_logged: last, newest, keep, reign })
}

fn open_election_port(
    ensemble: &Ensemble,
    config: &Config,
    heard: &ElectionInbox,
) -> Result<ElectionPort, ServerError> {
    let addresses = |member: &Member| {
        let address = |it: &MemberAddress| PeerAddress::new(it.host.clone(), it.election_port);
        member.addresses.iter().map(address).collect::<Vec<_>>()
    };
    let own = ensemble.members.get(ensemble.me).expect("this server is a member");
    let peers = ensemble.members.iter().filter(|member| member.id != ensemble.me);
    let sync = Duration::from_millis(u64::from(ensemble.sync_ticks) * u64::from(config.tick_ms));
    let settings = ElectionConfig {
        me: ensemble.me,
        own: addresses(own),
        announce_all: own.addresses.len() > 1,
        listen_on_all_ips: ensemble.listens_everywhere,
        bind_tries: ensemble.bind_retries.unwrap_or(0),
        peers: peers.map(|member| (member.id, addresses(member))).collect(),
        connect_timeout: ensemble.connect_timeout,
        handshake_timeout: ensemble.election_silence_max.unwrap_or(sync),
        keepalive: ensemble.keep_alive,
    };
    let heard = heard.clone();
    Ok(ElectionPort::start(settings, move |from, said| heard.put(from, said))?)
}

/// Binds the clients' address. Clients that come before the server serves wait in the backlog.
fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), ServerError> {
    let address = config.listen;
    let failed = |error| ServerError::Listen { address, error };
    let backlog = config.listen_backlog.unwrap_or(LISTEN_BACKLOG_DEFAULT).get() as i32;
    let deadline = Instant::now() + Duration::from_millis(PORT_IN_USE_MS_MAX);
    // The kernel takes a killed server's ring down, and with it the listening socket that an accept
    // in it holds, some milliseconds after the process has ended: one started right behind it
    // would find its own port in use.
    let listener = loop {
        match net::listen(address, backlog) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => break bound.map_err(failed)?,
        }
    };
    // Inherited by the sockets that are accepted.
    SockRef::from(&listener).set_keepalive(config.keep_alive).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// SIGTERM and SIGINT become events, on a thread of their own.
fn tell_signals(tell: Sender<Event>) -> Result<(), ServerError> {
    let refused = |error| ServerError::System { what: "signal handlers", error };
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(refused)?;
    let forward = move || {
        // The main thread is gone only when the process ends.
        signals.forever().try_for_each(|signal| tell.send(Event::Signal(signal)).ok());
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(forward);
    thread.map(drop).map_err(no_thread)
}

fn inboxes(reactors: usize) -> Result<Cores, ServerError> {
    let refused = |error| ServerError::System { what: "an event for a reactor", error };
    let one = |_| RingInbox::new(PUBLISHED_WAITING_MAX).map_err(refused);
    let consensus = TaskInbox::new(reactors * SUBMISSIONS_WAITING_MAX + ADMIN_REQUESTS_WAITING_MAX);
    Ok(Cores { reactors: (0..reactors).map(one).collect::<Result<_, _>>()?, consensus })
}

fn no_thread(error: io::Error) -> ServerError {
    ServerError::System { what: "a thread", error }
}

/// Until the consensus core takes submissions, or a signal comes.
fn wait_for_consensus(events: &Receiver<Event>) -> Result<Option<i32>, ServerError> {
    match events.recv().expect("the main thread holds a sender") {
        Event::ConsensusReady => Ok(None),
        Event::Signal(signal) => Ok(Some(signal)),
        other => Err(other.too_early()),
    }
}

/// Until a signal comes. Any core that ends before is an error.
fn wait_for_signal(events: &Receiver<Event>) -> Result<i32, ServerError> {
    match events.recv().expect("the main thread holds a sender") {
        Event::Signal(signal) => Ok(signal),
        other => Err(other.too_early()),
    }
}

/// The reactors end first: what they still wait for comes from the consensus core.
fn stop(inboxes: &Cores, events: &Receiver<Event>) -> Result<(), ServerError> {
    let deadline = Instant::now() + Duration::from_millis(STOP_MS_MAX);
    for inbox in &inboxes.reactors {
        deliver(ReactorMessage::Stop, deadline, |message| inbox.send(message))?;
    }
    for _ in &inboxes.reactors {
        match next(events, deadline)? {
            Event::ReactorEnded(ended) => ended?,
            other => return Err(other.too_early()),
        }
    }
    deliver(ConsensusMessage::Stop, deadline, |message| inboxes.consensus.send(message))?;
    match next(events, deadline)? {
        Event::ConsensusEnded(ended) => ended,
        other => Err(other.too_early()),
    }
}

/// The next event, if it comes in time.
fn next(events: &Receiver<Event>, deadline: Instant) -> Result<Event, ServerError> {
    let left = deadline.saturating_duration_since(Instant::now());
    events.recv_timeout(left).map_err(|_| ServerError::StopTimeout)
}

/// Puts a message into an inbox that may be full for a while.
fn deliver<M>(
    mut message: M,
    deadline: Instant,
    send: impl Fn(M) -> Result<(), M>,
) -> Result<(), ServerError> {
    while let Err(back) = send(message) {
        if Instant::now() >= deadline {
            return Err(ServerError::StopTimeout);
        }
        message = back;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// `1 reactor`, `2 reactors`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consensus_core_is_told_to_stop_when_every_reactor_has_ended() {
        let inboxes = inboxes(2).unwrap();
        let (tell, events) = channel();
        let cores = inboxes.clone();
        let playing = std::thread::spawn(move || {
            for reactor in &cores.reactors {
                while !matches!(reactor.take(), Some(ReactorMessage::Stop)) {
                    std::thread::yield_now();
                }
                assert!(cores.consensus.is_empty(), "a reactor may still wait for answers");
                tell.send(Event::ReactorEnded(Ok(()))).unwrap();
            }
            while !matches!(cores.consensus.take(), Some(ConsensusMessage::Stop)) {
                std::thread::yield_now();
            }
            tell.send(Event::ConsensusEnded(Ok(()))).unwrap();
        });
        stop(&inboxes, &events).unwrap();
        playing.join().unwrap();
    }

    #[test]
    fn a_second_signal_ends_the_wait_for_the_cores() {
        let inboxes = inboxes(1).unwrap();
        let (tell, events) = channel();
        tell.send(Event::Signal(SIGTERM)).unwrap();
        tell.send(Event::Signal(SIGTERM)).unwrap();
        assert_eq!(wait_for_signal(&events).unwrap(), SIGTERM);
        let error = stop(&inboxes, &events).unwrap_err();
        assert!(matches!(error, ServerError::Impatience), "{error}");
    }

    #[test]
    fn a_core_that_ends_by_itself_ends_the_server() {
        let (tell, events) = channel();
        tell.send(Event::ReactorEnded(Ok(()))).unwrap();
        let error = wait_for_signal(&events).unwrap_err();
        assert_eq!(error.to_string(), "the reactor has ended without being told to");
    }
}
