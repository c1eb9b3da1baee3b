//! The cores of a server, started: what each of them gets, and how the main thread hears of its
//! end. Called by `server`, once the data is recovered.

use std::net::TcpListener;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;

use crate::admin::inquiry::Cores;
use crate::admin::request::AdminRequest;
use crate::config::Config;
use crate::config::cores::CpuId;
use crate::consensus::member::MemberSetup;
use crate::consensus::prepare::write::Settings as PrepareSettings;
use crate::consensus::sessions::Sessions;
use crate::consensus::snapshots::{SnapshotPolicy, SnapshotRequest};
use crate::consensus::turn::{self, CoreFailure};
use crate::ids::ReactorId;
use crate::limits::{FILES_PER_REACTOR, FILES_RESERVED, LISTEN_BACKLOG_DEFAULT};
use crate::log::group_commit::{GroupCommit, Tail};
use crate::log::spares::Spares;
use crate::reactor::admission::Admission;
use crate::reactor::settings::Settings as ReactorSettings;
use crate::reactor::turn as reactor;
use crate::rt::cores::{self, CoreError, CoreSettings};
use crate::rt::ring::RingError;
use crate::server::ServerError;
use crate::tree::{Registry, Writer};
use crate::zab::step::Start;

/// What the main thread waits for.
#[derive(Debug)]
pub enum Event {
    Signal(i32),
    /// The log is open: the consensus core takes submissions.
    ConsensusReady,
    ConsensusEnded(Result<(), ServerError>),
    ReactorEnded(Result<(), ServerError>),
}

impl Event {
    /// The error that this event is where another was waited for.
    pub fn too_early(self) -> ServerError {
        match self {
            Event::Signal(_) => ServerError::Impatience,
            Event::ConsensusEnded(ended) => {
                ended.err().unwrap_or(ServerError::Ended("consensus core"))
            }
            Event::ReactorEnded(ended) => ended.err().unwrap_or(ServerError::Ended("reactor")),
            Event::ConsensusReady => unreachable!("the consensus core is ready once"),
        }
    }
}

/// What the consensus core starts with.
pub struct Consensus {
    pub start: Start,
    /// Of a member of an ensemble.
    pub member: Option<MemberSetup>,
    pub tree: Writer,
    pub registry: Registry,
    pub sessions: Sessions,
    pub tail: Tail,
    pub spares: Spares,
    /// Transactions and bytes of log since the last snapshot.
    pub logged: (u64, u64),
    pub to_snapshots: SyncSender<SnapshotRequest>,
}

impl Consensus {
    /// Starts it. It tells when its log is open, and when it ends.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        self,
        config: &Config,
        inboxes: &Cores,
        tell: Sender<Event>,
    ) -> Result<(), ServerError> {
        let (inbox, reactors) = (inboxes.consensus.clone(), inboxes.reactors.clone());
        let settings = PrepareSettings {
            extended_types: config.extended_types,
            rules: config.auth.rules.clone(),
            enforce_quota: config.enforce_quota,
            reaping: config.reaping,
        };
        let (tick_ms, group_commit_bytes) = (config.tick_ms.into(), config.group_commit_bytes);
        let policy = SnapshotPolicy {
            txns: config.snapshot_txns,
            log_bytes: config.snapshot_log_bytes.map(NonZeroU64::get),
        };
        let fsync_warning = config.fsync_warning;
        let ready = tell.clone();
        let run = move || async move {
            let log = GroupCommit::open(self.tail, self.spares).await?;
            let to_snapshots = self.to_snapshots;
            // The main thread is gone only when the process ends.
            let _ = ready.send(Event::ConsensusReady);
            let setup = turn::Setup {
                start: self.start,
                member: self.member,
                tree: self.tree,
                registry: self.registry,
                sessions: self.sessions,
                log,
                inbox,
                reactors,
                settings,
                tick_ms,
                group_commit_bytes,
                fsync_warning,
                snapshots: policy,
                logged: self.logged,
                request_snapshot: Box::new(move |request| to_snapshots.try_send(request).is_ok()),
            };
            turn::run(setup).await
        };
        let done = move |ended: Result<Result<(), CoreFailure>, CoreError>| {
            let ended = match ended {
                Ok(ran) => ran.map_err(ServerError::from),
                Err(error) => Err(error.into()),
            };
            let _ = tell.send(Event::ConsensusEnded(ended));
        };
        let name = "consensus".to_owned();
        let cpu = config.cores.consensus.map(CpuId::number);
        let spin_before_park = config.spin_before_park;
        cores::start(CoreSettings { name, cpu, spin_before_park }, run, done)?;
        Ok(())
    }
}

/// The longest backlog that Linux allows by default (`net.core.somaxconn`), whatever is asked for.
const SOMAXCONN: u32 = 4096;

/// Connections that there may be in all: as configured, and no more than leave a server with so
/// many `open_files` what it needs for itself.
fn connections_max(
    configured: Option<NonZeroU32>,
    open_files: u64,
    reactors: usize,
    backlog: u32,
) -> NonZeroU32 {
    let reserved =
        FILES_RESERVED + FILES_PER_REACTOR * reactors as u64 + u64::from(backlog.min(SOMAXCONN));
    // With so few files that most are reserved, half of them are for clients.
    let possible = open_files.saturating_sub(reserved).max(open_files / 2).max(1);
    let possible =
        u32::try_from(possible).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    configured.map_or(possible, |configured| configured.min(possible))
}

/// Starts the reactors; the first accepts for all. `open_files` is how many the process may have.
/// Each tells when it ends.
///
/// # Errors
/// When a thread cannot be started.
pub fn start_reactors(
    config: &Config,
    inboxes: &Cores,
    registry: &Registry,
    listener: TcpListener,
    to_desk: SyncSender<AdminRequest>,
    open_files: u64,
    tell: &Sender<Event>,
) -> Result<(), ServerError> {
    let count = config.cores.reactors.len();
    let backlog = config.listen_backlog.unwrap_or(LISTEN_BACKLOG_DEFAULT).get();
    let total = connections_max(config.connections_max, open_files, count, backlog);
    let mut admission = Admission::new(count, config.connections_per_address_max, Some(total));
    if let Some(throttle) = config.connection_throttle {
        admission = admission.throttled(throttle);
    }
    let admission = Arc::new(admission);
    let mut listener = Some(listener);
    for (index, cpu) in config.cores.reactors.iter().enumerate() {
        let id = ReactorId(u16::try_from(index).expect("REACTORS_MAX reactors at most"));
        let setup = reactor::Setup {
            id,
            settings: ReactorSettings::new(config, count),
            registry: registry.clone(),
            admission: Arc::clone(&admission),
            serving: config.ensemble.is_none(),
            inbox: inboxes.reactors[index].clone(),
            reactors: inboxes.reactors.clone(),
            consensus: inboxes.consensus.clone(),
            admin: to_desk.clone(),
            listener: listener.take(),
            ring_depth: config.ring_depth,
            spin_before_park: config.spin_before_park,
        };
        let tell = tell.clone();
        let done = move |ended: Result<Result<(), RingError>, CoreError>| {
            let ended = match ended {
                Ok(ran) => ran.map_err(|error| ServerError::Reactor { reactor: id, error }),
                Err(error) => Err(error.into()),
            };
            let _ = tell.send(Event::ReactorEnded(ended));
        };
        let (name, cpu) = (format!("reactor-{index}"), cpu.map(CpuId::number));
        let settings = CoreSettings { name, cpu, spin_before_park: Duration::ZERO };
        cores::start(settings, move || async move { reactor::run(setup) }, done)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_server_the_files_that_it_needs() {
        let max =
            |configured, files| connections_max(NonZeroU32::new(configured), files, 2, 128).get();
        assert_eq!(max(0, 1_024), 1_024 - 64 - 16 - 128);
        assert_eq!(max(500, 1_024), 500);
        assert_eq!(max(5_000, 1_024), 816);
        assert_eq!((max(0, 200), max(0, 0)), (100, 1));
        assert_eq!((max(0, u64::MAX), max(7, u64::MAX)), (u32::MAX, 7));
    }
}
