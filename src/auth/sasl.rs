//! SASL with the mechanism DIGEST-MD5 (RFC 2831), the server's side, as ZooKeeper has it: protocol
//! `zookeeper`, server name and realm `zk-sasl-md5`, authentication only (no integrity, no
//! confidentiality).
//!
//! The client asks with a token that does not matter; it gets a challenge with a nonce; it answers
//! with a response that proves the password for this nonce; it gets a proof in return. A nonce
//! serves one response, right or wrong, and a connection one exchange.
//!
//! MD5 is weak, and the exchange can be attacked offline by who listens. It is here because the
//! clients of ZooKeeper speak it.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::digest::Digest;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use super::directives::{DirectiveError, Directives};
use super::principal;
use super::secret::Secret;

/// The only realm.
const REALM: &str = "zk-sasl-md5";
/// What a response must say it is for; letters of any case.
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";
/// The only use of a nonce.
const NONCE_COUNT: &[u8] = b"00000001";
/// Random bytes in a nonce.
const NONCE_BYTES: usize = 30;

/// Users and their passwords.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credentials(HashMap<String, Secret>);

impl Credentials {
    /// These users.
    pub fn new(users: impl IntoIterator<Item = (String, Secret)>) -> Credentials {
        Credentials(users.into_iter().collect())
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives `user` another password; nothing happens if there is no such user.
    pub fn set_password(&mut self, user: &str, password: Secret) {
        if let Some(place) = self.0.get_mut(user) {
            *place = password;
        }
    }

    fn password(&self, user: &str) -> Option<&Secret> {
        self.0.get(user)
    }
}

/// How far the exchange of one connection has come.
#[derive(Debug, Default)]
pub enum Exchange {
    /// The client has not asked.
    #[default]
    Fresh,
    /// It has this nonce.
    Challenged(Box<str>),
    /// It has answered, rightly or not.
    Over,
}

/// What to answer to a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The challenge.
    Challenge(Vec<u8>),
    /// The client is `user`; this is the proof that the server knows the password, too.
    Proven { user: String, proof: Vec<u8> },
}

/// Why an exchange has failed. Says nothing of what is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SaslError {
    #[error("the exchange is over")]
    Over,
    #[error("the system gives no random bytes")]
    NoNonce,
    #[error("{0}")]
    Directive(#[from] DirectiveError),
    #[error("the directive {0} is missing")]
    Missing(&'static str),
    #[error("the directive {0} has a value that cannot be")]
    Wrong(&'static str),
    #[error("unknown user or wrong password")]
    NotProven,
}

impl Exchange {
    /// Takes the client's next token.
    ///
    /// # Errors
    /// When the client is not who it says, or says nothing that can be read. The exchange is over.
    pub fn answer(&mut self, token: &[u8], credentials: &Credentials) -> Result<Reply, SaslError> {
        match std::mem::replace(self, Exchange::Over) {
            Exchange::Fresh => {
                let nonce = new_nonce()?;
                let challenge =
                    format!("realm=\"{REALM}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                *self = Exchange::Challenged(nonce.into());
                Ok(Reply::Challenge(challenge.into_bytes()))
            }
            Exchange::Challenged(nonce) => {
                Response::check(&Directives::parse(token)?, &nonce)?.prove(credentials)
            }
            Exchange::Over => Err(SaslError::Over),
        }
    }
}

fn new_nonce() -> Result<String, SaslError> {
    let mut bytes = [0; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| SaslError::NoNonce)?;
    Ok(STANDARD.encode(bytes))
}

/// A response that answers our challenge; whether rightly is to be seen.
struct Response<'a> {
    directives: &'a Directives,
    user: String,
    /// Texts are hashed as UTF-8 where they are not ISO 8859-1; otherwise they are that.
    utf8: bool,
    nonce: &'a [u8],
    cnonce: &'a [u8],
    digest_uri: &'a [u8],
    response: &'a [u8],
}

impl<'a> Response<'a> {
    fn check(directives: &'a Directives, nonce: &'a str) -> Result<Response<'a>, SaslError> {
        let need =
            |value: &'a Option<Vec<u8>>, name| value.as_deref().ok_or(SaslError::Missing(name));
        let fits = |fits: bool, name| if fits { Ok(()) } else { Err(SaslError::Wrong(name)) };
        let utf8 = match directives.charset.as_deref() {
            None => false,
            Some(b"utf-8") => true,
            Some(_) => return Err(SaslError::Wrong("charset")),
        };
        let user = need(&directives.username, "username")?;
        let user = match String::from_utf8(user.to_vec()) {
            Ok(user) if utf8 => user,
            Err(_) if utf8 => return Err(SaslError::Wrong("username")),
            _ => user.iter().map(|byte| char::from(*byte)).collect(),
        };
        fits(principal::is_kerberos_name(&user), "username")?;
        fits(need(&directives.realm, "realm")? == REALM.as_bytes(), "realm")?;
        fits(need(&directives.nonce, "nonce")? == nonce.as_bytes(), "nonce")?;
        let cnonce = need(&directives.cnonce, "cnonce")?;
        // The JVM takes a response without a count, or without qop, for what they must be anyway.
        fits(directives.nc.as_deref().is_none_or(|nc| nc == NONCE_COUNT), "nc")?;
        fits(directives.qop.as_deref().is_none_or(|qop| qop == b"auth"), "qop")?;
        let digest_uri = need(&directives.digest_uri, "digest-uri")?;
        fits(digest_uri.eq_ignore_ascii_case(DIGEST_URI.as_bytes()), "digest-uri")?;
        let response = need(&directives.response, "response")?;
        let nonce = nonce.as_bytes();
        Ok(Response { directives, user, utf8, nonce, cnonce, digest_uri, response })
    }

    /// Compares the response with what it must be. An unknown user costs the same time as a wrong
    /// password.
    fn prove(self, credentials: &Credentials) -> Result<Reply, SaslError> {
        let password = credentials.password(&self.user);
        let known = Choice::from(u8::from(password.is_some()));
        let key = self.key(password.map_or("", Secret::reveal));
        let expected = self.keyed(&key, b"AUTHENTICATE:");
        if !bool::from(expected.as_bytes().ct_eq(self.response) & known) {
            return Err(SaslError::NotProven);
        }
        let proof = format!("rspauth={}", self.keyed(&key, b":")).into_bytes();
        Ok(Reply::Proven { user: self.user, proof })
    }

    /// The session key: RFC 2831, 2.1.2.1, HEX(H(A1)).
    fn key(&self, password: &str) -> String {
        let secret = Md5::new()
            .chain_update(self.hashed(&self.user))
            .chain_update(b":")
            .chain_update(REALM)
            .chain_update(b":")
            .chain_update(self.hashed(password))
            .finalize();
        let mut key = Md5::new()
            .chain_update(secret)
            .chain_update(b":")
            .chain_update(self.nonce)
            .chain_update(b":")
            .chain_update(self.cnonce);
        if let Some(authzid) = &self.directives.authzid {
            key.update(b":");
            key.update(authzid);
        }
        hex(&key.finalize())
    }

    /// The response value (`method` is `AUTHENTICATE:`), or the server's (`:`): 2.1.2.1 and 2.1.3.
    fn keyed(&self, key: &str, method: &[u8]) -> String {
        let what = hex(&Md5::new().chain_update(method).chain_update(self.digest_uri).finalize());
        let value = Md5::new()
            .chain_update(key)
            .chain_update(b":")
            .chain_update(self.nonce)
            .chain_update(b":")
            .chain_update(NONCE_COUNT)
            .chain_update(b":")
            .chain_update(self.cnonce)
            .chain_update(b":auth:")
            .chain_update(what);
        hex(&value.finalize())
    }

    /// The bytes of a text that go into the hash: ISO 8859-1 if it has no other characters, which
    /// both sides must do even if the response is in UTF-8.
    fn hashed(&self, text: &str) -> Vec<u8> {
        let narrow: Option<Vec<u8>> =
            text.chars().map(|each| u8::try_from(u32::from(each)).ok()).collect();
        match narrow {
            Some(narrow) => narrow,
            None if self.utf8 => text.as_bytes().to_vec(),
            None => {
                text.chars().map(|each| u8::try_from(u32::from(each)).unwrap_or(b'?')).collect()
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        let users = [("alice", "apass"), ("b\u{f6}b", "p\u{e4}ss"), ("chris", "secret")];
        Credentials::new(users.map(|(user, password)| (user.to_owned(), Secret::new(password))))
    }

    /// What the Java client answered in vectors/client/ops/sasl.hex.
    const NONCE: &str = "/DKRXUjdOiHShfDY47RDdWevKyXq++kQ1/jMER+q";
    const RESPONSE: &str = "charset=utf-8,username=\"alice\",realm=\"zk-sasl-md5\",\
        nonce=\"/DKRXUjdOiHShfDY47RDdWevKyXq++kQ1/jMER+q\",nc=00000001,\
        cnonce=\"glFcACocuoQqNjGhVZSCp6frylfHjM4GIMozxop8\",digest-uri=\"zookeeper/zk-sasl-md5\",\
        maxbuf=65536,response=db77c6a4abe22d1fc97221f57bf109ee,qop=auth,authzid=\"alice\"";

    fn respond(response: &str) -> Result<Reply, SaslError> {
        Exchange::Challenged(NONCE.into()).answer(response.as_bytes(), &credentials())
    }

    #[test]
    fn the_java_client_is_let_in_with_the_proof_that_zookeeper_gave() {
        let proof = b"rspauth=c3a7dd0ab3a988e4f7865cebeb7be31e".to_vec();
        assert_eq!(respond(RESPONSE), Ok(Reply::Proven { user: "alice".to_owned(), proof }));
    }

    /// Against another implementation (Python's hashlib), with the nonces of RFC 2831, section 4.
    #[test]
    fn without_an_authorization_id_the_hashes_have_none() {
        let directives = Directives { authzid: None, ..Directives::default() };
        let response = Response {
            directives: &directives,
            user: "alice".to_owned(),
            utf8: true,
            nonce: b"OA6MG9tEQGm2hh",
            cnonce: b"OA6MHXh6VqTrRk",
            digest_uri: b"zookeeper/zk-sasl-md5",
            response: b"",
        };
        let key = response.key("apass");
        assert_eq!(key, "8582ff0eed0f8e8a248d7c9ba24fa369");
        assert_eq!(response.keyed(&key, b"AUTHENTICATE:"), "9f321ac691b27e29a2e6a56551ccb12c");
        assert_eq!(response.keyed(&key, b":"), "bfa554073506a777486e44af3327dcda");
    }

    #[test]
    fn a_response_that_says_something_else_than_it_must_is_refused() {
        for (from, to, error) in [
            ("db77", "db78", SaslError::NotProven),
            ("db77c6a4", "DB77C6A4", SaslError::NotProven),
            ("db77", "", SaslError::NotProven),
            ("username=\"alice\"", "username=\"nobody\"", SaslError::NotProven),
            ("username=\"alice\"", "username=\"chris\"", SaslError::NotProven),
            ("username=\"alice\"", "username=\"a@b@c\"", SaslError::Wrong("username")),
            ("username=\"alice\",", "", SaslError::Missing("username")),
            ("charset=utf-8", "charset=UTF-8", SaslError::Wrong("charset")),
            ("realm=\"zk-sasl-md5\",", "", SaslError::Missing("realm")),
            ("realm=\"zk-sasl-md5\"", "realm=\"\"", SaslError::Wrong("realm")),
            ("nonce=\"/", "nonce=\"", SaslError::Wrong("nonce")),
            ("nc=00000001", "nc=00000002", SaslError::Wrong("nc")),
            ("nc=00000001", "nc=1", SaslError::Wrong("nc")),
            ("cnonce", "bnonce", SaslError::Missing("cnonce")),
            (
                "digest-uri=\"zookeeper/",
                "digest-uri=\"zookeeper/x/",
                SaslError::Wrong("digest-uri"),
            ),
            ("digest-uri", "uri", SaslError::Missing("digest-uri")),
            ("response=", "answer=", SaslError::Missing("response")),
            ("qop=auth", "qop=auth-int", SaslError::Wrong("qop")),
            ("authzid=\"alice\"", "authzid=\"super\"", SaslError::NotProven),
        ] {
            let response = RESPONSE.replacen(from, to, 1);
            assert_ne!(response, RESPONSE, "{from}");
            assert_eq!(respond(&response), Err(error), "{from} -> {to}");
        }
    }

    #[test]
    fn what_the_jvm_takes_for_granted_may_be_left_out() {
        for (from, to) in [
            ("nc=00000001,", ""),
            ("qop=auth,", ""),
            ("maxbuf=65536,", ""),
            ("maxbuf=65536", "cipher=\"3des\""),
            ("digest-uri=\"zookeeper/zk", "DIGEST-URI=\"zookeeper/zk"),
        ] {
            let response = RESPONSE.replacen(from, to, 1);
            assert!(matches!(respond(&response), Ok(Reply::Proven { .. })), "{from} -> {to}");
        }
    }

    /// A client of our own, for any user and nonce.
    fn response_to(challenge: &[u8], user: &str, password: &str, utf8: bool) -> String {
        let challenge = Directives::parse(challenge).unwrap();
        let nonce = String::from_utf8(challenge.nonce.unwrap()).unwrap();
        let directives = Directives::default();
        let known = Response {
            directives: &directives,
            user: user.to_owned(),
            utf8,
            nonce: nonce.as_bytes(),
            cnonce: b"c",
            digest_uri: DIGEST_URI.as_bytes(),
            response: b"",
        };
        let response = known.keyed(&known.key(password), b"AUTHENTICATE:");
        format!(
            "{}username=\"{user}\",realm=\"{REALM}\",nonce=\"{nonce}\",cnonce=\"c\",\
             digest-uri=\"{DIGEST_URI}\",response={response}",
            if utf8 { "charset=utf-8," } else { "" }
        )
    }

    fn challenge(exchange: &mut Exchange) -> Vec<u8> {
        match exchange.answer(b"anything", &credentials()) {
            Ok(Reply::Challenge(challenge)) => challenge,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_exchange_has_a_nonce_of_its_own_and_one_response() {
        let mut exchange = Exchange::default();
        let first = challenge(&mut exchange);
        assert_ne!(challenge(&mut Exchange::default()), first);
        let response = response_to(&first, "alice", "apass", true);
        let good = exchange.answer(response.as_bytes(), &credentials());
        assert!(matches!(good, Ok(Reply::Proven { .. })), "{good:?}");
        for _ in 0..2 {
            let again = exchange.answer(response.as_bytes(), &credentials());
            assert_eq!(again, Err(SaslError::Over));
        }
        let mut other = Exchange::default();
        challenge(&mut other);
        let replayed = other.answer(response.as_bytes(), &credentials());
        assert_eq!(replayed, Err(SaslError::Wrong("nonce")));
        let retried = other.answer(response.as_bytes(), &credentials());
        assert_eq!(retried, Err(SaslError::Over));
    }

    #[test]
    fn names_and_passwords_are_hashed_as_latin_1_where_they_can_be() {
        let mut exchange = Exchange::default();
        let challenge = challenge(&mut exchange);
        let response = response_to(&challenge, "b\u{f6}b", "p\u{e4}ss", true);
        let good = exchange.answer(response.as_bytes(), &credentials());
        assert!(matches!(good, Ok(Reply::Proven { user, .. }) if user == "b\u{f6}b"));
    }

    #[test]
    fn an_unknown_user_is_not_let_in_with_an_empty_password() {
        let mut exchange = Exchange::default();
        let response = response_to(&challenge(&mut exchange), "nobody", "", true);
        let refused = exchange.answer(response.as_bytes(), &credentials());
        assert_eq!(refused, Err(SaslError::NotProven));
    }

    #[test]
    fn a_password_can_be_replaced_where_there_is_one() {
        let mut credentials = credentials();
        credentials.set_password("alice", Secret::new("new"));
        credentials.set_password("super", Secret::new("new"));
        assert_eq!(credentials.len(), 3);
        assert!(credentials.password("alice").unwrap().is("new"));
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn no_token_harms(
            token in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            at in 0usize..300,
            byte: u8,
        ) {
            let mut damaged = RESPONSE.as_bytes().to_vec();
            if let Some(place) = damaged.get_mut(at) {
                *place = byte;
            }
            for token in [token, damaged] {
                let _ = Exchange::Challenged(NONCE.into()).answer(&token, &credentials());
            }
        }
    }
}
