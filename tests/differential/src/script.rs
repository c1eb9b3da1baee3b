//! A script: what its sessions do, step by step. Each step is over, on every connection, before the
//! next one begins, so that a server has no choice in what it shows.

use std::fmt;

use crate::request::Request;

/// Sessions of one script.
pub const SLOTS: usize = 3;

/// One of the script's sessions, 0 to [`SLOTS`] - 1.
pub type Slot = usize;

/// Which connect request a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// With the byte that says it needs a server that can write.
    Current,
    /// With the byte that says a read-only server will do.
    ReadOnly,
    /// From before 3.4, without that byte.
    Old,
}

/// How a client comes back to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// As it should.
    Plain,
    /// With a password that is not its own.
    WrongPassword,
    /// Without a password.
    NullPassword,
    /// Having seen a zxid that the server does not know yet.
    ZxidAhead,
    /// To a session that never was.
    UnknownSession,
}

/// One step.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opens a connection with a new session; the slot's old connection, if any, is dropped.
    Connect { slot: Slot, timeout_ms: i32, client: Client },
    /// Drops the connection; the session lives on.
    Disconnect { slot: Slot },
    /// Opens a connection with the slot's session. The old one stays open until the server ends it.
    Resume { slot: Slot, how: Resumption },
    /// Sends one request and waits for its reply.
    Ask { slot: Slot, request: Request },
    /// Sends several requests at once, then waits for all replies.
    Burst { slot: Slot, requests: Vec<Request> },
    /// Asks again and again until a znode is gone that the server deletes by itself.
    AwaitGone { slot: Slot, path: String },
    /// Sends bytes that are no request.
    Bytes { slot: Slot, bytes: Vec<u8> },
}

impl Step {
    /// Whose step it is.
    pub fn slot(&self) -> Slot {
        match self {
            Step::Connect { slot, .. }
            | Step::Disconnect { slot }
            | Step::Resume { slot, .. }
            | Step::Ask { slot, .. }
            | Step::Burst { slot, .. }
            | Step::AwaitGone { slot, .. }
            | Step::Bytes { slot, .. } => *slot,
        }
    }

    /// The step with those requests only for which `is_in` holds. `None` if nothing is left.
    pub fn only(self, is_in: impl Fn(&Request) -> bool) -> Option<Step> {
        match self {
            Step::Ask { request, .. } if !is_in(&request) => None,
            Step::Burst { slot, mut requests } => {
                requests.retain(is_in);
                (!requests.is_empty()).then_some(Step::Burst { slot, requests })
            }
            step => Some(step),
        }
    }

    /// The requests in it.
    pub fn requests(&self) -> &[Request] {
        match self {
            Step::Ask { request, .. } => std::slice::from_ref(request),
            Step::Burst { requests, .. } => requests,
            _ => &[],
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "session {}: ", self.slot())?;
        match self {
            Step::Connect { timeout_ms, client, .. } => {
                write!(to, "connect, timeout {timeout_ms} ms, {client:?} client")
            }
            Step::Disconnect { .. } => write!(to, "disconnect"),
            Step::Resume { how, .. } => write!(to, "resume, {how:?}"),
            Step::Ask { request, .. } => write!(to, "{request:?}"),
            Step::Burst { requests, .. } => {
                write!(to, "at once")?;
                requests.iter().try_for_each(|request| write!(to, "\n        {request:?}"))
            }
            Step::AwaitGone { path, .. } => write!(to, "wait until {path} is gone"),
            Step::Bytes { bytes, .. } => write!(to, "bytes {bytes:02x?}"),
        }
    }
}

/// A script and where it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What it was made from.
    pub seed: u64,
    /// The znode below which it works; it is there at the start and removed at the end.
    pub root: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

impl fmt::Display for Script {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "seed {}, {} steps", self.seed, self.steps.len())?;
        let numbered = self.steps.iter().enumerate();
        numbered.into_iter().try_for_each(|(number, step)| writeln!(to, "{number:4}  {step}"))
    }
}
