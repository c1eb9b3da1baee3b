//! What servers say to each other on the election port: who is calling, then notifications of
//! votes in frames. Read and written by the election links of `consensus`.
//!
//! Source: zookeeper-formats 3.1 and 3.2, the forms of every release that still runs.

use crate::ids::{ServerId, Zxid};
use crate::limits::ELECTION_ADDRESS_BYTES_MAX;

use super::decode::{Cursor, DecodeError};

/// What an initial message begins with: one address, or several.
const ONE_ADDRESS: i64 = -65_536;
const SEVERAL_ADDRESSES: i64 = -65_535;

/// The version of the notifications that are sent: with the text of the configuration.
const VERSION: i32 = 2;

/// The first thing that the connecting server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub server: ServerId,
    /// Its election addresses, `host:port`; none in the form of old releases.
    pub addresses: Vec<String>,
}

impl Hello {
    /// Takes the message at the start of `bytes`; returns it and its length. `None`: not all of it
    /// is there.
    ///
    /// # Errors
    /// For a protocol version that nobody speaks, and addresses without or of unreasonable length.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Hello, usize)>, DecodeError> {
        let mut cursor = Cursor::with_limit(bytes, ELECTION_ADDRESS_BYTES_MAX);
        match Hello::take(&mut cursor) {
            Ok(hello) => Ok(Some((hello, cursor.at()))),
            Err(DecodeError::PastEnd { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Hello, DecodeError> {
        let first = cursor.long("protocolVersion")?;
        if first >= 0 {
            return Ok(Hello { server: ServerId::new(first), addresses: Vec::new() });
        }
        if first != ONE_ADDRESS && first != SEVERAL_ADDRESSES {
            let reason = format!("election protocol {first:#x} is unknown").into();
            return Err(DecodeError::Refused { reason });
        }
        let server = ServerId::new(cursor.long("sid")?);
        let at = cursor.at();
        let text = cursor.str("addresses")?;
        if text.is_empty() {
            return Err(DecodeError::Null { field: "addresses", at });
        }
        let addresses = text.split('|').map(str::to_owned).collect();
        Ok(Hello { server, addresses })
    }

    /// Appends the message to `out`: with one address in the form that every release reads, with
    /// several in that of `multiAddress.enabled`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let form = if self.addresses.len() > 1 { SEVERAL_ADDRESSES } else { ONE_ADDRESS };
        out.extend_from_slice(&form.to_be_bytes());
        out.extend_from_slice(&self.server.number().to_be_bytes());
        let text = self.addresses.join("|");
        assert!(text.len() <= ELECTION_ADDRESS_BYTES_MAX, "own addresses of {} bytes", text.len());
        out.extend_from_slice(&(text.len() as i32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// What a server is doing, in its notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Looking,
    Following,
    Leading,
    Observing,
}

/// A vote, and where the server that casts it stands: the payload of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub state: PeerState,
    pub leader: ServerId,
    /// The last transaction that the candidate has logged.
    pub zxid: Zxid,
    /// The round of the election.
    pub round: i64,
    /// The candidate's epoch; the leader's new one once it is established. A number as it travels:
    /// an observer, which votes for nobody, sends the smallest there is.
    pub epoch: i64,
    /// 2 today; older ones end before the configuration.
    pub version: i32,
    /// The sender's configuration, as text.
    pub config: Option<String>,
}

impl Notification {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// When it is of none of the known lengths, or names an unknown state.
    pub fn decode(payload: &[u8]) -> Result<Notification, DecodeError> {
        let mut cursor = Cursor::new(payload);
        let state = match cursor.int("state")? {
            0 => PeerState::Looking,
            1 => PeerState::Following,
            2 => PeerState::Leading,
            3 => PeerState::Observing,
            other => {
                let reason = format!("peer state {other} is unknown").into();
                return Err(DecodeError::Refused { reason });
            }
        };
        let leader = ServerId::new(cursor.long("leader")?);
        let zxid = Zxid::from_bits(cursor.long("zxid")?);
        let round = cursor.long("electionEpoch")?;
        let mut notification = Notification {
            state,
            leader,
            zxid,
            round,
            epoch: i64::from(zxid.epoch().number()),
            version: 0,
            config: None,
        };
        if cursor.left() == 0 {
            return Ok(notification);
        }
        notification.epoch = cursor.long("peerEpoch")?;
        let version = cursor.int("version")?;
        // Before versions a number stood here that means nothing today.
        notification.version = if (1..=VERSION).contains(&version) { version } else { 0 };
        if version >= VERSION && cursor.left() > 0 {
            notification.version = VERSION;
            let config = cursor.buffer("config")?.unwrap_or_default();
            notification.config = Some(super::decode::lenient(config).into_owned());
        }
        Ok(notification)
    }

    /// Appends the payload to `out`, without the frame's length, in today's form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let state: i32 = match self.state {
            PeerState::Looking => 0,
            PeerState::Following => 1,
            PeerState::Leading => 2,
            PeerState::Observing => 3,
        };
        out.extend_from_slice(&state.to_be_bytes());
        out.extend_from_slice(&self.leader.number().to_be_bytes());
        out.extend_from_slice(&self.zxid.bits().to_be_bytes());
        out.extend_from_slice(&self.round.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        let config = self.config.as_deref().unwrap_or_default().as_bytes();
        out.extend_from_slice(&(config.len() as i32).to_be_bytes());
        out.extend_from_slice(config);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification() -> Notification {
        Notification {
            state: PeerState::Looking,
            leader: ServerId::new(3),
            zxid: Zxid::from_bits(0x1_0000_0007),
            round: 5,
            epoch: 2,
            version: 2,
            config: Some("server.3=h:1:2:participant\nversion=0".to_owned()),
        }
    }

    #[test]
    fn notifications_of_every_age_are_read() {
        let mut bytes = Vec::new();
        notification().encode(&mut bytes);
        assert_eq!(Notification::decode(&bytes), Ok(notification()));
        let oldest = Notification::decode(&bytes[..28]).unwrap();
        assert_eq!((oldest.epoch, oldest.version, oldest.config), (1, 0, None));
        let mut old = bytes[..40].to_vec();
        old[36..].copy_from_slice(&1_i32.to_be_bytes());
        let old = Notification::decode(&old).unwrap();
        assert_eq!((old.epoch, old.version, old.config), (2, 1, None));
        for length in (0..28).chain(29..40).chain(41..bytes.len()) {
            assert!(Notification::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_observer_votes_for_nobody_with_the_smallest_numbers() {
        let observer = Notification {
            leader: ServerId::new(i64::MIN),
            zxid: Zxid::from_bits(i64::MIN),
            epoch: i64::MIN,
            ..notification()
        };
        let mut bytes = Vec::new();
        observer.encode(&mut bytes);
        assert_eq!(Notification::decode(&bytes), Ok(observer));
    }

    #[test]
    fn a_hello_is_taken_when_its_last_byte_is_there() {
        let addresses = vec!["10.0.0.1:3888".to_owned(), "[::1]:3888".to_owned()];
        for addresses in [addresses.clone(), addresses[..1].to_vec()] {
            let hello = Hello { server: ServerId::new(2), addresses };
            let mut bytes = Vec::new();
            hello.encode(&mut bytes);
            for end in 0..bytes.len() {
                assert_eq!(Hello::decode(&bytes[..end]), Ok(None), "{end} bytes");
            }
            assert_eq!(Hello::decode(&bytes), Ok(Some((hello, bytes.len()))));
        }
        let ancient = Hello { server: ServerId::new(7), addresses: Vec::new() };
        assert_eq!(Hello::decode(&7_i64.to_be_bytes()), Ok(Some((ancient, 8))));
    }

    #[test]
    fn a_stranger_is_refused() {
        assert!(Hello::decode(&(-7_i64).to_be_bytes()).is_err());
        let mut endless = Vec::new();
        endless.extend_from_slice(&ONE_ADDRESS.to_be_bytes());
        endless.extend_from_slice(&1_i64.to_be_bytes());
        endless.extend_from_slice(&2049_i32.to_be_bytes());
        assert!(Hello::decode(&endless).is_err());
    }
}
