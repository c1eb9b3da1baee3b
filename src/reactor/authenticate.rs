//! Requests by which a client says who it is: auth packets and SASL tokens. Answered at once,
//! whatever else of the connection waits, with zxid 0; they count for what comes behind them.
//! Also here: what a client hears that has to say who it is first.

use crate::auth::ids::{self, Full};
use crate::auth::policy::Proof;
use crate::auth::sasl::Reply;
use crate::ids::Zxid;
use crate::jute::decode::{Cursor, DecodeError, lenient};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::records::Id;
use crate::jute::reply;
use crate::jute::request::Header;
use crate::limits::{SUBMISSION_BYTES_MAX, SUBMISSION_ENTRIES_MAX};

use super::serve::Reactor;

impl Reactor {
    /// Whether a connection that has proved nothing required asks for something else than to
    /// authenticate. Then it is told so, and closed.
    #[inline]
    pub(super) fn is_turned_away(&mut self, slot: u32, header: Header) -> bool {
        if self.connections.at(slot).admitted || matches!(header.op, OpCode::AUTH | OpCode::SASL) {
            return false;
        }
        tracing::info!(slot, "closing a connection that has not authenticated as it must");
        self.answer_and_close(slot, header.xid, ErrorCode::SessionClosedRequireSaslAuth, &[]);
        true
    }

    /// An auth packet.
    pub(super) fn authenticate(&mut self, slot: u32, header: Header, body: &[u8]) {
        let address = self.connections.at(slot).address.ip();
        let proof = AuthPacket::decode(body).map(|AuthPacket { scheme, auth }| {
            self.settings.auth.prove(scheme.map(lenient).as_deref(), auth, address)
        });
        let added = match proof {
            Ok(Proof::Ids(ids)) => self.add_ids(slot, ids),
            Ok(Proof::Refused) => {
                tracing::info!(slot, "closing a connection: no such scheme, or not proved");
                return self.fail_auth(slot, header.xid, &[]);
            }
            // Told of an error, the client would give up; closed, it tries the next server.
            Ok(Proof::WrongEnsemble) => {
                tracing::info!(slot, "closing a connection that is meant for another ensemble");
                return self.close_now(slot);
            }
            Err(error) => {
                tracing::debug!(slot, %error, "closing a connection: unreadable auth packet");
                return self.close_now(slot);
            }
        };
        match added {
            Ok(()) => self.answer_at_once(slot, header.xid, ErrorCode::Ok, &[]),
            Err(Full) => self.fail_auth(slot, header.xid, &[]),
        }
    }

    /// A SASL token.
    pub(super) fn take_token(&mut self, slot: u32, header: Header, body: &[u8]) {
        let Ok(Some(token)) = Cursor::new(body).buffer("token") else {
            tracing::debug!(slot, "closing a connection: unreadable SASL token");
            return self.close_now(slot);
        };
        let policy = std::sync::Arc::clone(&self.settings.auth);
        let Some(credentials) = &policy.sasl else {
            // As a ZooKeeper without a JAAS configuration.
            return self.answer_at_once(slot, header.xid, ErrorCode::Ok, NO_TOKEN);
        };
        match self.connections.at(slot).sasl.answer(token, credentials) {
            Ok(Reply::Challenge(challenge)) => self.give_token(slot, header.xid, &challenge),
            Ok(Reply::Proven { user, proof }) => match self.add_ids(slot, policy.sasl_ids(&user)) {
                Ok(()) => self.give_token(slot, header.xid, &proof),
                Err(Full) => self.fail_auth(slot, header.xid, NO_TOKEN),
            },
            Err(error) if policy.allow_failed_sasl && !policy.requires_sasl() => {
                tracing::info!(slot, %error, "SASL failed; the connection may stay");
                self.answer_at_once(slot, header.xid, ErrorCode::Ok, NO_TOKEN);
            }
            Err(error) => {
                tracing::info!(slot, %error, "closing a connection: SASL failed");
                if policy.requires_sasl() {
                    self.clients.auth_failures += 1;
                    let err = ErrorCode::SessionClosedRequireSaslAuth;
                    self.answer_and_close(slot, header.xid, err, NO_TOKEN);
                } else {
                    self.fail_auth(slot, header.xid, NO_TOKEN);
                }
            }
        }
    }

    /// The client of `slot` is `ids`, too. Requests of it that wait keep the ids they came with.
    fn add_ids(&mut self, slot: u32, new: Vec<Id>) -> Result<(), Full> {
        let connection = self.connections.at(slot);
        let mut all = self.identities.ids(connection.identity()).to_vec();
        for id in new {
            ids::add(&mut all, id)?;
        }
        connection.admitted = self.settings.auth.admits(&all);
        let new = self.identities.acquire(&all, &mut self.submission);
        let bytes: usize = all.iter().map(|id| id.scheme.len() + id.id.len()).sum();
        let old = connection.identity.replace(new).expect("its address at least");
        if connection.pipeline.is_empty() || old == new {
            self.identities.release(old, &mut self.submission);
        } else {
            connection.old_identities.push(old);
        }
        if bytes > ENTRY_BYTES_SHARE {
            self.seal();
        }
        Ok(())
    }

    fn give_token(&mut self, slot: u32, xid: i32, token: &[u8]) {
        let mut body = Vec::with_capacity(4 + token.len());
        reply::buffer(&mut body, Some(token));
        self.answer_at_once(slot, xid, ErrorCode::Ok, &body);
    }

    fn fail_auth(&mut self, slot: u32, xid: i32, body: &[u8]) {
        self.clients.auth_failures += 1;
        self.answer_and_close(slot, xid, ErrorCode::AuthFailed, body);
    }

    fn answer_and_close(&mut self, slot: u32, xid: i32, err: ErrorCode, body: &[u8]) {
        self.answer_at_once(slot, xid, err, body);
        self.close_after_output(slot);
    }

    fn answer_at_once(&mut self, slot: u32, xid: i32, err: ErrorCode, body: &[u8]) {
        reply::with_body(&mut self.connections.at(slot).out, xid, Zxid::ZERO, err, body);
        self.counters.packets_sent += 1;
    }
}

/// Bytes that an entry may add to a submission besides a request. More: the submission is complete,
/// so that neither its entries nor its bytes grow beyond their bounds.
const ENTRY_BYTES_SHARE: usize = SUBMISSION_BYTES_MAX / SUBMISSION_ENTRIES_MAX;

/// A token that is null, as a reply's body.
const NO_TOKEN: &[u8] = &(-1i32).to_be_bytes();

/// An auth packet's record; null is `None`.
struct AuthPacket<'a> {
    scheme: Option<&'a [u8]>,
    auth: Option<&'a [u8]>,
}

impl<'a> AuthPacket<'a> {
    fn decode(body: &'a [u8]) -> Result<AuthPacket<'a>, DecodeError> {
        let mut cursor = Cursor::new(body);
        // 0 in all clients; nobody looks at it.
        let _ = cursor.int("type")?;
        Ok(AuthPacket { scheme: cursor.buffer("scheme")?, auth: cursor.buffer("auth")? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::auth::policy::Policy;
    use crate::auth::rules::Rules;
    use crate::auth::sasl::Credentials;
    use crate::auth::scheme::{Scheme, Schemes};
    use crate::auth::secret::Secret;
    use crate::ids::ConnId;
    use crate::jute::opcode::OpCode;
    use crate::limits::{AUTH_ID_BYTES_MAX, SUBMISSIONS_SEALED_MAX};
    use crate::reactor::connection::Stage;
    use crate::reactor::depart::Leave;
    use crate::reactor::fixture::{
        Fixture, Frame, connect_frame, digest_id, request, settings, watching,
    };
    use crate::reactor::settings::Settings;

    fn with(policy: Policy) -> Fixture {
        Fixture::with(Settings { auth: Arc::new(policy), ..settings() })
    }

    fn policy() -> Policy {
        let schemes = Scheme::ALL.into_iter().fold(Schemes::NONE, Schemes::with);
        let sasl = Credentials::new([("bob".to_owned(), Secret::new("bobpw"))]);
        let rules = Rules { schemes, ..Rules::default() };
        Policy { rules, sasl: Some(sasl), ..Policy::default() }
    }

    fn field(bytes: Option<&[u8]>) -> Vec<u8> {
        let length = bytes.map_or(-1, |bytes| bytes.len() as i32);
        [&length.to_be_bytes()[..], bytes.unwrap_or_default()].concat()
    }

    fn auth_fields(scheme: Option<&str>, auth: Option<&str>) -> Vec<u8> {
        let texts = [scheme, auth].map(|text| field(text.map(str::as_bytes))).concat();
        request(-4, OpCode::AUTH, &[&[0; 4][..], &texts].concat())
    }

    fn auth(scheme: &str, auth: &str) -> Vec<u8> {
        auth_fields(Some(scheme), Some(auth))
    }

    fn token(xid: i32, token: &[u8]) -> Vec<u8> {
        request(xid, OpCode::SASL, &field(Some(token)))
    }

    /// What the client gets, and whether it is closed behind it.
    fn sent(fixture: &mut Fixture, client: ConnId, bytes: &[u8]) -> (Vec<Frame>, bool) {
        fixture.reactor.receive(client.slot, bytes);
        let frames = fixture.frames(client);
        (frames, !fixture.departures().is_empty())
    }

    fn failed(xid: i32, err: i32, body: &[u8]) -> (Vec<Frame>, bool) {
        (vec![Frame { xid, zxid: 0, err, body: body.to_vec() }], true)
    }

    const NULL: &[u8] = &[0xff; 4];

    fn gone(fixture: &mut Fixture) -> Vec<u32> {
        fixture.departures().iter().map(|(slot, _)| *slot).collect()
    }

    #[test]
    fn authentication_counts_for_what_comes_behind_it() {
        let mut fixture = Fixture::new();
        let private = fixture.private(&digest_id("user:pw").id);
        let txn = fixture.create_with("/private", b"", private);
        let client = fixture.client();
        fixture.publish(&[txn], vec![], &[]);
        let burst = [
            watching(1, OpCode::EXISTS, "/private", false),
            auth("digest", "user:pw"),
            watching(2, OpCode::EXISTS, "/private", false),
            auth("ip", ""),
        ];
        fixture.reactor.receive(client.slot, &burst.concat());
        let heads: Vec<_> = fixture.frames(client).iter().map(|it| (it.xid, it.err)).collect();
        assert_eq!(heads, [(1, -102), (-4, 0), (2, 0), (-4, 0)]);
        assert_eq!(fixture.entries(), ["DefineIdentity", "ForgetIdentity"]);
    }

    #[test]
    fn the_super_user_may_do_anything() {
        let super_digest = Some(Secret::new(digest_id("super:secret").id));
        let mut fixture = with(Policy { super_digest, ..Policy::default() });
        let private = fixture.private("nobody:x");
        let txn = fixture.create_with("/private", b"", private);
        let client = fixture.client();
        fixture.publish(&[txn], vec![], &[]);
        let read = watching(1, OpCode::EXISTS, "/private", false);
        fixture.reactor.receive(client.slot, &[auth("digest", "super:guess"), read].concat());
        assert_eq!(fixture.frames(client)[1].err, -102);
        let read = watching(2, OpCode::EXISTS, "/private", false);
        fixture.reactor.receive(client.slot, &[auth("digest", "super:secret"), read].concat());
        assert_eq!(fixture.frames(client)[1].err, 0);
    }

    #[test]
    fn an_unknown_scheme_fails_and_closes() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &auth("nosuch", "x"));
        let frames = fixture.frames(client);
        assert_eq!((frames[0].xid, frames[0].zxid, frames[0].err), (-4, 0, -115));
        assert_eq!(gone(&mut fixture), [client.slot]);
    }

    #[test]
    fn ids_without_end_are_refused() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        for number in 0..100 {
            fixture.reactor.receive(client.slot, &auth("digest", &format!("u{number}:p")));
            fixture.submitted();
        }
        assert_eq!(fixture.frames(client).last().unwrap().err, -115);
        assert_eq!(gone(&mut fixture), [client.slot]);
    }

    /// While the consensus core is at a standstill, clients must not fill the memory with what it
    /// is to be told.
    #[test]
    fn who_authenticates_or_connects_waits_while_the_consensus_core_has_no_room() {
        let mut fixture = Fixture::new();
        let clients: Vec<_> = (0..20).map(|_| fixture.client()).collect();
        for (index, client) in clients.iter().enumerate() {
            let user = "u".repeat(900);
            let burst = (0..20).flat_map(|at| auth("digest", &format!("{user}{index}-{at}:p")));
            fixture.reactor.receive(client.slot, &burst.collect::<Vec<u8>>());
        }
        let late = fixture.connected();
        fixture.reactor.receive(late.slot, &connect_frame(0, 0, None));
        fixture.reactor.seal();
        let sealed = fixture.reactor.sealed.len();
        assert!(sealed <= SUBMISSIONS_SEALED_MAX + 1, "{sealed} submissions wait");
        assert_eq!(fixture.reactor.connections.at(late.slot).stage, Stage::Greeting);
        let mut turns = 0;
        let mut opens = 0;
        while fixture.reactor.is_blocked() {
            turns += 1;
            let entries = fixture.entries();
            opens += entries.iter().filter(|name| *name == "OpenSession").count();
            fixture.reactor.resume();
            fixture.reactor.seal();
        }
        assert!(turns > 20 && opens == 1, "{turns} turns, {opens} sessions");
        for client in clients {
            let answers = fixture.frames(client);
            assert_eq!((answers.len(), answers[19].err), (20, 0));
        }
    }

    #[test]
    fn ids_of_too_many_bytes_are_refused() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let user = "u".repeat(AUTH_ID_BYTES_MAX / 2 - 100);
        for number in 0..3 {
            fixture.reactor.receive(client.slot, &auth("digest", &format!("{user}{number}:p")));
        }
        let errors: Vec<i32> = fixture.frames(client).iter().map(|frame| frame.err).collect();
        assert_eq!(errors, [0, 0, -115]);
        assert_eq!(gone(&mut fixture), [client.slot]);
    }

    #[test]
    fn fields_that_are_null_prove_nothing_where_something_is_needed() {
        for (packet, errs) in [
            (auth_fields(None, Some("x")), [-115].as_slice()),
            (auth_fields(Some("digest"), None), &[-115]),
            (auth_fields(Some("ip"), None), &[0]),
        ] {
            let mut fixture = Fixture::new();
            let client = fixture.client();
            let (frames, closed) = sent(&mut fixture, client, &packet);
            assert_eq!(frames.iter().map(|frame| frame.err).collect::<Vec<_>>(), errs);
            assert_eq!(closed, errs != [0]);
        }
    }

    #[test]
    fn what_cannot_be_read_and_who_means_another_ensemble_is_closed_without_an_answer() {
        let names = Some(vec!["one".to_owned()]);
        for bytes in [
            request(-4, OpCode::AUTH, &[0; 3]),
            request(-4, OpCode::AUTH, &[0, 0, 0, 0, 0, 0, 0, 9, b'x']),
            request(1, OpCode::SASL, &[]),
            request(1, OpCode::SASL, NULL),
            auth("ensemble", "two"),
        ] {
            let mut fixture = with(Policy { ensemble_names: names.clone(), ..policy() });
            let client = fixture.client();
            fixture.reactor.receive(client.slot, &bytes);
            assert!(fixture.output(client).is_empty());
            let now = Leave::Close { after_send: false };
            assert_eq!(fixture.departures(), [(client.slot, now)]);
        }
        let mut fixture = with(Policy { ensemble_names: names, ..policy() });
        let client = fixture.client();
        let (frames, closed) = sent(&mut fixture, client, &auth("ensemble", "one"));
        assert_eq!((frames[0].err, closed), (0, false));
    }

    #[test]
    fn a_sasl_exchange_begins_with_a_challenge_and_a_wrong_answer_closes() {
        let mut fixture = with(policy());
        let client = fixture.client();
        let (frames, closed) = sent(&mut fixture, client, &token(1, b""));
        let challenge = String::from_utf8(frames[0].body[4..].to_vec()).unwrap();
        assert!(challenge.starts_with("realm=\"zk-sasl-md5\",nonce=\""), "{challenge}");
        assert!(challenge.ends_with("\",charset=utf-8,algorithm=md5-sess"), "{challenge}");
        assert_eq!((frames[0].xid, frames[0].zxid, frames[0].err, closed), (1, 0, 0, false));
        let answered = sent(&mut fixture, client, &token(2, b"username=\"bob\""));
        assert_eq!(answered, failed(2, -115, NULL));
        assert_eq!(fixture.reactor.clients.auth_failures, 1);
    }

    #[test]
    fn without_credentials_a_token_means_nothing() {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let (frames, closed) = sent(&mut fixture, client, &token(1, b""));
        assert_eq!((frames[0].err, frames[0].body.as_slice(), closed), (0, NULL, false));
    }

    #[test]
    fn who_fails_with_sasl_may_stay_if_the_configuration_says_so() {
        let mut fixture = with(Policy { allow_failed_sasl: true, ..policy() });
        let client = fixture.client();
        let both = [token(1, b""), token(2, b"wrong"), token(3, b"")].concat();
        let (frames, closed) = sent(&mut fixture, client, &both);
        assert_eq!(frames[1..].iter().map(|it| it.err).collect::<Vec<_>>(), [0, 0]);
        assert!(frames[1..].iter().all(|it| it.body == NULL) && !closed);
    }

    #[test]
    fn who_fails_with_sasl_where_it_is_required_is_told_that_it_is() {
        let required = Some(Schemes::NONE.with(Scheme::Sasl));
        let mut fixture = with(Policy { required, allow_failed_sasl: true, ..policy() });
        let client = fixture.client();
        fixture.reactor.receive(client.slot, &token(1, b""));
        fixture.output(client);
        assert_eq!(sent(&mut fixture, client, &token(2, b"wrong")), failed(2, -124, NULL));
    }

    #[test]
    fn who_has_to_authenticate_may_do_nothing_before() {
        let required = Some(Schemes::NONE.with(Scheme::Digest));
        for other in [
            watching(7, OpCode::EXISTS, "/", false),
            request(7, OpCode::PING, &[]),
            request(7, OpCode(99), &[]),
            request(7, OpCode::CLOSE_SESSION, &[]),
        ] {
            let mut fixture = with(Policy { required, ..policy() });
            let client = fixture.client();
            fixture.reactor.receive(client.slot, &auth("ip", ""));
            fixture.output(client);
            assert_eq!(sent(&mut fixture, client, &other), failed(7, -124, &[]));
        }
        let mut fixture = with(Policy { required, ..policy() });
        let client = fixture.client();
        let burst = [auth("digest", "a:b"), watching(7, OpCode::EXISTS, "/", false)].concat();
        let (frames, closed) = sent(&mut fixture, client, &burst);
        assert_eq!((frames[1].xid, frames[1].err, closed), (7, 0, false));
    }
}
