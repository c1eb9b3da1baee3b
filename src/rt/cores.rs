//! Threads that are a core of the server: each pinned (or not), with one executor that runs one
//! task until that ends.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutorBuilder, Placement};
use thiserror::Error;

use super::process;
use super::ring::{self, RingError};

/// Memory that an executor may lock for direct I/O, bytes. Reactors do none, and the log brings
/// buffers of its own; the executor takes no less than this.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Locked memory that an executor insists on, bytes.
const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// How a core is set up.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// The thread's name: at most 15 bytes, of which the kernel shows no more.
    pub name: String,
    /// The cpu that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// How long it looks for work before it sleeps.
    pub spin_before_park: Duration,
}

/// Why a core cannot run.
#[derive(Debug, Error)]
pub enum CoreError {
    #[error(
        "the limit of locked memory (memlock) is {limit} bytes and a core needs \
         {LOCKED_BYTES_MIN}: raise it (`ulimit -l`, LimitMEMLOCK=)"
    )]
    LockedMemory { limit: u64 },
    #[error("{0}")]
    Ring(#[from] RingError),
    #[error("the system does not tell its limit of locked memory: {0}")]
    NoLimit(io::Error),
    #[error("an executor cannot be made: {0}")]
    Executor(#[from] GlommioError<()>),
    #[error("the thread cannot be started: {0}")]
    Thread(io::Error),
}

/// Whether this process may have cores. For the start, before anything is opened or bound.
///
/// # Errors
/// What is in the way.
pub fn probe() -> Result<(), CoreError> {
    // In this order: where io_uring is forbidden the executor panics instead of saying so.
    let limit = process::locked_memory().map_err(CoreError::NoLimit)?;
    if limit < LOCKED_BYTES_MIN {
        return Err(CoreError::LockedMemory { limit });
    }
    ring::probe()?;
    let (name, cpu, spin_before_park) = ("probe".to_owned(), None, Duration::ZERO);
    let probe = start(CoreSettings { name, cpu, spin_before_park }, || async {}, |made| made)?;
    probe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Starts a core: `task` makes the future that it runs, on its thread. `done` is told, there too,
/// what came of it; or that the executor could not be made.
///
/// # Errors
/// When the thread cannot be started.
pub fn start<F, T, R>(
    settings: CoreSettings,
    task: impl FnOnce() -> F + Send + 'static,
    done: impl FnOnce(Result<T, CoreError>) -> R + Send + 'static,
) -> Result<JoinHandle<R>, CoreError>
where
    F: Future<Output = T>,
    R: Send + 'static,
{
    let CoreSettings { name, cpu, spin_before_park } = settings;
    let run = move || {
        let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
        let executor = LocalExecutorBuilder::new(placement)
            .io_memory(IO_MEMORY_BYTES)
            .spin_before_park(spin_before_park)
            .make();
        match executor {
            Ok(executor) => done(Ok(executor.run(async move { task().await }))),
            Err(error) => done(Err(error.into())),
        }
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(CoreError::Thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_runs_its_task_under_its_name() {
        let name = "core-under-test".to_owned();
        let settings = CoreSettings { name, cpu: None, spin_before_park: Duration::ZERO };
        let task = || async { std::thread::current().name().map(str::to_owned) };
        let core = start(settings, task, |ran| ran.unwrap()).unwrap();
        assert_eq!(core.join().unwrap().as_deref(), Some("core-under-test"));
    }

    #[test]
    fn a_core_that_cannot_be_pinned_says_so() {
        let name = "nowhere".to_owned();
        let settings = CoreSettings { name, cpu: Some(8000), spin_before_park: Duration::ZERO };
        let core = start(settings, || async {}, |ran| ran.map_err(|error| error.to_string()));
        assert!(core.unwrap().join().unwrap().unwrap_err().contains("executor cannot be made"));
    }

    #[test]
    fn this_machine_passes_the_probe() {
        probe().unwrap();
    }
}
