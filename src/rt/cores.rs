//! Threads that are a core of the server: each pinned (or not), with one executor that runs one
//! task until that ends.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};
use thiserror::Error;

/// Memory that an executor may lock for direct I/O, bytes. Reactors do none, and the log brings
/// buffers of its own; the executor takes no less than this.
const IO_MEMORY_BYTES: usize = 64 << 10;

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
        "the limit of locked memory (memlock) is {limit} bytes and an executor needs {needed}: \
         raise it (`ulimit -l`, LimitMEMLOCK=)"
    )]
    LockedMemory { limit: u64, needed: u64 },
    #[error(
        "io_uring is forbidden here: check `sysctl kernel.io_uring_disabled` (must be 0) and the \
         container's seccomp profile"
    )]
    Forbidden,
    #[error("this kernel has no io_uring (it was built without it, or seccomp hides it)")]
    NotThere,
    #[error("an executor cannot be made: {0}")]
    Executor(String),
    #[error("the thread cannot be started: {0}")]
    Thread(io::Error),
}

impl From<GlommioError<()>> for CoreError {
    fn from(error: GlommioError<()>) -> CoreError {
        if let GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit, needed)) = error {
            return CoreError::LockedMemory { limit, needed };
        }
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => CoreError::Forbidden,
            Some(libc::ENOSYS) => CoreError::NotThere,
            Some(libc::ENOMEM) => CoreError::Executor(
                "no memory for its rings: raise the limit of locked memory (memlock: `ulimit -l`, \
                 LimitMEMLOCK=)"
                    .to_owned(),
            ),
            _ => CoreError::Executor(error.to_string()),
        }
    }
}

/// Whether this process may have executors. For the start, before anything is opened or bound.
///
/// # Errors
/// What is in the way.
pub fn probe() -> Result<(), CoreError> {
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
