//! Waiting for a time, on an executor.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;

/// A future that resolves after some time.
#[derive(Debug)]
pub struct Sleep(Timer);

impl Sleep {
    /// Resolves after `duration`. Runs on the executor that it was made on.
    pub fn new(duration: Duration) -> Sleep {
        Sleep(Timer::new(duration))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}
