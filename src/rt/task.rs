//! Work beside an executor's own task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use glommio::Task;

/// A future that runs on the executor by itself; awaited, it gives its result. Unlike the future
/// itself it may be polled as often as one likes: the runtime's own futures remember each waker
/// that they were polled with. Dropped, it is called off.
#[derive(Debug)]
pub struct Spawned<T>(Task<T>);

/// Runs `future` on the executor of this thread.
///
/// # Panics
/// When the thread has none.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Spawned<T> {
    Spawned(glommio::spawn_local(future))
}

impl<T> Future for Spawned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}
