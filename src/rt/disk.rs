//! The log's file as the consensus core writes it: whole blocks past the page cache, durable when
//! the write returns, never blocking the core.

use std::path::{Path, PathBuf};

use glommio::GlommioError;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};

use super::files::{BLOCK, DiskError};

/// An existing file, open for durable writes. Lives on the executor that opened it.
#[derive(Debug)]
pub struct DurableFile {
    path: PathBuf,
    how: How,
}

#[derive(Debug)]
enum How {
    /// `O_DIRECT | O_DSYNC`: one operation writes and makes durable.
    Direct(DmaFile),
    /// For filesystems that refuse `O_DIRECT`: a buffered write, then fdatasync.
    Buffered(BufferedFile),
}

impl DurableFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(path: &Path) -> Result<DurableFile, DiskError> {
        // Write-only on purpose: glommio polls (spins) for completions on devices that pass a
        // test read; a spinning consensus core would starve a reactor that shares its CPU.
        let direct =
            OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).dma_open(path).await;
        let how = match direct {
            Ok(file) => How::Direct(file),
            Err(e) => {
                if e.raw_os_error() != Some(libc::EINVAL) {
                    return Err(DiskError::of("open", path)(reason(e)));
                }
                let opened = OpenOptions::new().write(true).buffered_open(path).await;
                How::Buffered(opened.map_err(|e| DiskError::of("open", path)(reason(e)))?)
            }
        };
        Ok(DurableFile { path: path.to_path_buf(), how })
    }

    /// Whether writes pass the page cache by.
    pub fn is_direct(&self) -> bool {
        matches!(self.how, How::Direct(_))
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `blocks` at `offset`, both whole blocks. When it returns, they are durable.
    ///
    /// # Errors
    /// When the write or its sync fails, or fewer bytes were written. The file must then not be
    /// used again: what a failed fsync was to make durable may be lost although a later one works.
    pub async fn write(&self, blocks: &[u8], offset: u64) -> Result<(), DiskError> {
        assert!(blocks.len().is_multiple_of(BLOCK), "{} bytes are no blocks", blocks.len());
        assert!(offset.is_multiple_of(BLOCK as u64), "offset {offset} is no block's");
        let written = match &self.how {
            How::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(blocks.len());
                buffer.as_bytes_mut()[..blocks.len()].copy_from_slice(blocks);
                file.write_at(buffer, offset).await
            }
            How::Buffered(file) => file.write_at(blocks.to_vec(), offset).await,
        };
        let written = written.map_err(|e| DiskError::of("write", &self.path)(reason(e)))?;
        if written != blocks.len() {
            let source = std::io::Error::new(
                std::io::ErrorKind::WriteZero,
                format!("{written} of {} bytes written at {offset}", blocks.len()),
            );
            return Err(DiskError::of("write", &self.path)(source));
        }
        if let How::Buffered(file) = &self.how {
            let synced = file.fdatasync().await;
            synced.map_err(|e| DiskError::of("sync", &self.path)(reason(e)))?;
        }
        Ok(())
    }

    /// Closes the file.
    ///
    /// # Errors
    /// When the system reports a failure that it had kept until now.
    pub async fn close(self) -> Result<(), DiskError> {
        let closed = match self.how {
            How::Direct(file) => file.close().await,
            How::Buffered(file) => file.close().await,
        };
        closed.map_err(|e| DiskError::of("close", &self.path)(reason(e)))
    }
}

/// The system's error inside glommio's. Its own conversion loses the error number, and with it the
/// advice that goes with a full disk.
fn reason(error: GlommioError<()>) -> std::io::Error {
    match error.raw_os_error() {
        Some(number) => std::io::Error::from_raw_os_error(number),
        None => error.into(),
    }
}

/// Runs a job that blocks on a thread beside the executor, and resolves to what it returns.
pub async fn beside<R: Send + 'static>(job: impl FnOnce() -> R + Send + 'static) -> R {
    glommio::executor().spawn_blocking(job).await
}

/// Runs one task on an executor of its own, on this thread: for tests and benches.
pub fn run_here<R>(task: impl Future<Output = R>) -> R {
    let executor = glommio::LocalExecutorBuilder::default()
        .io_memory(1 << 20)
        .make()
        .expect("io_uring is there and memory may be locked");
    executor.run(task)
}
