//! A learner's way to its leader, who may not listen yet: it is tried a few times.
//!
//! Source: `Learner.connectToLeader`; zookeeper-formats 4.9.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;

use super::address::PeerAddress;
use crate::rt::clock;
use crate::rt::task::{Spawned, spawn};
use crate::rt::tcp::Stream;
use crate::rt::timer::Sleep;

/// How often and how long a learner tries.
#[derive(Clone, Copy, Debug)]
pub struct DialSettings {
    /// ZooKeeper: 5.
    pub tries: u32,
    /// Between two tries (`leaderConnectDelayDuringRetryMs`, 100 ms).
    pub pause: Duration,
    /// Of one connection: syncLimit x tickTime.
    pub connect_timeout: Duration,
    /// In all: initLimit x tickTime, or `connectToLearnerMasterLimit` x tickTime.
    pub within: Duration,
}

/// Why the leader was not reached.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("the name {0} is not found: {1}")]
    Name(PeerAddress, io::Error),
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("it has no address")]
    Nowhere,
    #[error("it took longer than {0:?}")]
    Late(Duration),
}

/// Connects to the first of `addresses` that answers; all are tried at once, for one that does not
/// answer must not delay the others.
pub(super) async fn dial(
    addresses: Vec<PeerAddress>,
    settings: DialSettings,
) -> Result<Stream, DialError> {
    let within_ms = u64::try_from(settings.within.as_millis()).unwrap_or(u64::MAX);
    let deadline_ms = clock::monotonic_ms().saturating_add(within_ms);
    let mut failed = 0;
    loop {
        let left_ms = deadline_ms.saturating_sub(clock::monotonic_ms());
        if left_ms == 0 {
            return Err(DialError::Late(settings.within));
        }
        let timeout = settings.connect_timeout.min(Duration::from_millis(left_ms));
        let error = match dial_once(&addresses, timeout).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        failed += 1;
        if failed >= settings.tries {
            return Err(error);
        }
        tracing::warn!("the leader is not reached yet: {error}");
        Sleep::new(settings.pause).await;
    }
}

async fn dial_once(addresses: &[PeerAddress], timeout: Duration) -> Result<Stream, DialError> {
    let mut dials: Vec<Spawned<Result<Stream, DialError>>> = addresses
        .iter()
        .map(|address| {
            let address = address.clone();
            spawn(async move { dial_name(address, timeout).await })
        })
        .collect();
    let mut last = Some(DialError::Nowhere);
    poll_fn(move |context| {
        let mut at = 0;
        while at < dials.len() {
            match Pin::new(&mut dials[at]).poll(context) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                Poll::Ready(Err(error)) => {
                    last = Some(error);
                    drop(dials.swap_remove(at));
                }
            }
        }
        match dials.is_empty() {
            true => Poll::Ready(Err(last.take().expect("polled until it is ready"))),
            false => Poll::Pending,
        }
    })
    .await
}

async fn dial_name(address: PeerAddress, timeout: Duration) -> Result<Stream, DialError> {
    let Some(found) = within(timeout, address.resolve()).await else {
        return Err(DialError::Late(timeout));
    };
    let numbers = found.map_err(|error| DialError::Name(address.clone(), error))?;
    let mut last = DialError::Nowhere;
    for number in numbers {
        match Stream::connect(number, timeout).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = DialError::Connect(number, error),
        }
    }
    Err(last)
}

/// The result of `future`, if it comes in time.
async fn within<T>(time: Duration, mut future: impl Future<Output = T> + Unpin) -> Option<T> {
    let mut sleep = Sleep::new(time);
    poll_fn(|context| match Pin::new(&mut future).poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Pin::new(&mut sleep).poll(context).map(|()| None),
    })
    .await
}
