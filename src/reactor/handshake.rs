//! What becomes of a connect request: a pure decision, which `serve` carries out.

use subtle::ConstantTimeEq;

use crate::ids::{SessionId, Zxid};
use crate::jute::records::ConnectRequest;

use super::settings::Settings;

/// What a connect request leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The client has seen what this server has not: close, so that it tries another.
    Ahead,
    /// A new session with this timeout.
    New { timeout_ms: i32 },
    /// The client comes back to its session, and its password is right.
    Renew { session: SessionId, timeout_ms: i32 },
    /// It comes back with a wrong password: it is told that the session has expired. Another
    /// connection with the session is closed all the same, as by ZooKeeper.
    WrongPassword { session: SessionId },
}

/// Decides on `request`, on a server that has applied everything through `applied`.
pub fn greet(request: &ConnectRequest, applied: Zxid, settings: &Settings) -> Greeting {
    // Signed, as in ZooKeeper: a negative zxid is older than any.
    if request.last_zxid_seen > applied.bits() {
        return Greeting::Ahead;
    }
    let timeout_ms = settings.session_timeout_ms(request.timeout_ms);
    if request.session_id == 0 {
        return Greeting::New { timeout_ms };
    }
    let session = SessionId::from_bits(request.session_id);
    let given = request.password.as_ref().map_or(&[][..], |password| password.as_slice());
    if given.ct_eq(&session.password()).into() {
        Greeting::Renew { session, timeout_ms }
    } else {
        Greeting::WrongPassword { session }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    /// Settings that a test can adjust.
    pub fn settings() -> Settings {
        Settings {
            frame_bytes_max: 0xf_ffff,
            min_session_timeout_ms: 4_000,
            max_session_timeout_ms: 40_000,
            handshake_ms: 10_000,
            touch_ms: 1_000,
            outstanding_max: 1_000,
            request_throttle: None,
            large_requests: None,
            auth: Arc::default(),
        }
    }

    fn request(session_id: i64, timeout_ms: i32) -> ConnectRequest {
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms,
            session_id,
            password: None,
            read_only: None,
        }
    }

    #[test]
    fn the_timeout_is_brought_within_bounds() {
        for (asked, negotiated) in [(1, 4_000), (10_000, 10_000), (i32::MAX, 40_000), (-5, 4_000)] {
            assert_eq!(
                greet(&request(0, asked), Zxid::ZERO, &settings()),
                Greeting::New { timeout_ms: negotiated }
            );
        }
    }

    #[test]
    fn a_client_that_has_seen_more_than_we_have_is_turned_away() {
        let mut ahead = request(0, 10_000);
        ahead.last_zxid_seen = 8;
        let at = |bits| Zxid::from_bits(bits);
        assert_eq!(greet(&ahead, at(7), &settings()), Greeting::Ahead);
        assert_eq!(greet(&ahead, at(8), &settings()), Greeting::New { timeout_ms: 10_000 });
    }

    #[test]
    fn a_session_is_renewed_with_its_password_alone() {
        let session = SessionId::from_bits(0x0100_002d_3f24_000c);
        let mut back = request(session.bits(), 10_000);
        assert_eq!(greet(&back, Zxid::ZERO, &settings()), Greeting::WrongPassword { session });
        back.password = Some(session.password().to_vec().into());
        assert_eq!(
            greet(&back, Zxid::ZERO, &settings()),
            Greeting::Renew { session, timeout_ms: 10_000 }
        );
        back.password = Some(vec![0; 15].into());
        assert_eq!(greet(&back, Zxid::ZERO, &settings()), Greeting::WrongPassword { session });
    }
}
