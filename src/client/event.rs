//! What a client is told without having asked: fired watches and the state of its session.

use std::fmt;

use crate::jute::records::EventType;

/// The state of a session, as `ZooKeeper.States` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection, but one is sought.
    Connecting,
    /// A server serves.
    Connected,
    /// A server serves that is cut off from its ensemble.
    ConnectedReadOnly,
    /// The session has ended: closed, or expired.
    Closed,
    /// The session has ended: an authentication was refused.
    AuthFailed,
}

impl State {
    /// Whether requests can be sent.
    pub fn is_connected(self) -> bool {
        matches!(self, State::Connected | State::ConnectedReadOnly)
    }

    /// Whether the session has not ended.
    pub fn is_alive(self) -> bool {
        !matches!(self, State::Closed | State::AuthFailed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Connecting => "CONNECTING",
            State::Connected => "CONNECTED",
            State::ConnectedReadOnly => "CONNECTEDREADONLY",
            State::Closed => "CLOSED",
            State::AuthFailed => "AUTH_FAILED",
        })
    }
}

/// The state that an event reports (`Watcher.Event.KeeperState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperState {
    Disconnected,
    SyncConnected,
    ConnectedReadOnly,
    AuthFailed,
    Expired,
}

/// What happened (`Watcher.Event.EventType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing but the session's state changed.
    None,
    /// A watch fired.
    Node(EventType),
    /// A watch was removed as asked: the one on the children.
    ChildWatchRemoved,
    /// As above: the one on the data or the existence.
    DataWatchRemoved,
    /// As above: a persistent one.
    PersistentWatchRemoved,
}

/// One event. It prints as `WatchedEvent.toString` does in ZooKeeper 3.9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub state: KeeperState,
    pub kind: EventKind,
    /// The client's path; none for an event of the session.
    pub path: Option<String>,
    /// The zxid of the change; -1 where there is none.
    pub zxid: i64,
}

impl Event {
    /// The session has come to `state`.
    pub fn of_session(state: KeeperState) -> Event {
        Event { state, kind: EventKind::None, path: None, zxid: -1 }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, path) = (self.state, self.path.as_deref().unwrap_or("null"));
        write!(f, "WatchedEvent state:{state:?} type:")?;
        match self.kind {
            EventKind::Node(kind) => write!(f, "{kind:?}")?,
            kind => write!(f, "{kind:?}")?,
        }
        write!(f, " path:{path} zxid: {}", self.zxid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_print_as_zookeepers() {
        assert_eq!(
            Event::of_session(KeeperState::SyncConnected).to_string(),
            "WatchedEvent state:SyncConnected type:None path:null zxid: -1"
        );
        let fired = Event {
            state: KeeperState::SyncConnected,
            kind: EventKind::Node(EventType::NodeDataChanged),
            path: Some("/a".into()),
            zxid: 7,
        };
        assert_eq!(
            fired.to_string(),
            "WatchedEvent state:SyncConnected type:NodeDataChanged path:/a zxid: 7"
        );
    }
}
