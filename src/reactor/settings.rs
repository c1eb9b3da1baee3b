//! What a reactor needs of the configuration.

use std::sync::Arc;

use crate::auth::policy::Policy;
use crate::config::settings::Config;

use super::throttle::{LargeRequests, RequestThrottle};

/// The rules that every connection of a reactor is held to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `jute.maxbuffer`, bytes.
    pub frame_bytes_max: usize,
    /// Bounds of a session's timeout, milliseconds.
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// What a connection has to finish its handshake, milliseconds.
    pub handshake_ms: u64,
    /// How often sessions that were heard of are reported, milliseconds.
    pub touch_ms: u64,
    /// Requests of this reactor under way above which clients that have some are not read from.
    pub outstanding_max: usize,
    /// Requests wait in front of the server; none: they do not.
    pub request_throttle: Option<RequestThrottle>,
    /// Large requests are limited; none: they are not.
    pub large_requests: Option<LargeRequests>,
    /// Who clients are and what they may do.
    pub auth: Arc<Policy>,
}

impl Settings {
    /// What `config` says for each of `reactors` reactors. The outstanding requests of all of them
    /// are limited by what one server may have, so each gets its share.
    pub fn new(config: &Config, reactors: usize) -> Settings {
        Settings {
            frame_bytes_max: config.frame_bytes_max,
            min_session_timeout_ms: config.min_session_timeout_ms,
            max_session_timeout_ms: config.max_session_timeout_ms,
            handshake_ms: u64::try_from(config.handshake_timeout.as_millis()).unwrap_or(u64::MAX),
            touch_ms: u64::from(config.tick_ms / 2).max(1),
            outstanding_max: (config.outstanding_max.get() as usize / reactors.max(1)).max(1),
            request_throttle: config.request_throttle.map(|throttle| RequestThrottle {
                requests_max: (throttle.requests_max / reactors.max(1)).max(1),
                ..throttle
            }),
            large_requests: config.large_requests,
            auth: Arc::clone(&config.auth),
        }
    }

    /// The timeout that a client gets who asks for this one, milliseconds.
    pub fn session_timeout_ms(&self, asked_ms: i32) -> i32 {
        asked_ms.min(self.max_session_timeout_ms).max(self.min_session_timeout_ms)
    }
}
