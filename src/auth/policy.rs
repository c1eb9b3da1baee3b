//! What the configuration says about authentication: what an auth packet proves, who has to prove
//! something, and who a SASL user is. Called by reactors.

use std::net::IpAddr;

use super::digest::DigestAlgorithm;
use super::ids::of_address;
use super::rules::Rules;
use super::sasl::Credentials;
use super::scheme::{Scheme, Schemes};
use super::secret::Secret;
use crate::jute::records::Id;

/// The rules of authentication that every connection is held to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// What ids may do.
    pub rules: Rules,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub digest_algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`: the digest id that may do anything.
    pub super_digest: Option<Secret>,
    /// `ensembleAuthName`: the names that a client may take this ensemble for; none: any.
    pub ensemble_names: Option<Vec<String>>,
    /// `enforce.auth.enabled` and `.schemes`, or `sessionRequireClientSASLAuth`: a connection
    /// without an id of one of these may do nothing but authenticate.
    pub required: Option<Schemes>,
    /// Who may authenticate with SASL; none: nobody can, and tokens mean nothing.
    pub sasl: Option<Credentials>,
    /// `superUser` and `superUser.*`: the SASL users who may do anything.
    pub sasl_super_users: Vec<String>,
    /// `allowSaslFailedClients`: who fails with SASL keeps the connection.
    pub allow_failed_sasl: bool,
}

/// What an auth packet proves.
#[derive(Debug, PartialEq, Eq)]
pub enum Proof {
    /// Who the client is; there may be nothing new in it.
    Ids(Vec<Id>),
    /// Nothing: the scheme is not there, or does not take it.
    Refused,
    /// The client means to talk to another ensemble: it is to try another server.
    WrongEnsemble,
}

/// The id that may do anything.
fn super_id() -> Id {
    Id { scheme: "super".to_owned(), id: String::new() }
}

impl Policy {
    /// What an auth packet with these fields proves for a client at `address`. Null is `None`.
    pub fn prove(&self, scheme: Option<&str>, auth: Option<&[u8]>, address: IpAddr) -> Proof {
        match scheme.and_then(|scheme| self.rules.schemes.named(scheme)) {
            Some(Scheme::Ip) => Proof::Ids(vec![of_address(address)]),
            Some(Scheme::Digest) => auth.map_or(Proof::Refused, |auth| {
                let id = self.digest_algorithm.id(&String::from_utf8_lossy(auth));
                let is_super = self.super_digest.as_ref().is_some_and(|digest| digest.is(&id.id));
                Proof::Ids(std::iter::once(id).chain(is_super.then(super_id)).collect())
            }),
            Some(Scheme::Ensemble) => match (&self.ensemble_names, auth) {
                (None, _) | (_, None | Some([])) => Proof::Ids(Vec::new()),
                (Some(names), Some(auth)) => {
                    let named = String::from_utf8_lossy(auth);
                    let ours = names.iter().any(|name| *name == named);
                    if ours { Proof::Ids(Vec::new()) } else { Proof::WrongEnsemble }
                }
            },
            // SASL has requests of its own, and a certificate comes with the connection.
            Some(Scheme::Sasl | Scheme::X509) | None => Proof::Refused,
        }
    }

    /// The ids of a client that has proved to be the SASL user `user`.
    pub fn sasl_ids(&self, user: &str) -> Vec<Id> {
        let id = Id { scheme: Scheme::Sasl.name().to_owned(), id: user.to_owned() };
        let is_super = !user.is_empty() && self.sasl_super_users.iter().any(|name| name == user);
        std::iter::once(id).chain(is_super.then(super_id)).collect()
    }

    /// Whether a connection with `ids` may do more than authenticate.
    pub fn admits(&self, ids: &[Id]) -> bool {
        self.required
            .is_none_or(|required| ids.iter().any(|id| required.named(&id.scheme).is_some()))
    }

    /// Whether SASL is one of the schemes that are required.
    pub fn requires_sasl(&self) -> bool {
        self.required.is_some_and(|required| required.has(Scheme::Sasl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn policy() -> Policy {
        let schemes = Scheme::ALL.into_iter().fold(Schemes::NONE, Schemes::with);
        Policy { rules: Rules { schemes, ..Rules::default() }, ..Policy::default() }
    }

    fn id(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn a_digest_is_proved_by_any_text_but_null() {
        let policy = policy();
        let proved = |auth| policy.prove(Some("digest"), auth, HERE);
        let digest = |text| Proof::Ids(vec![DigestAlgorithm::Sha1.id(text)]);
        assert_eq!(proved(Some(b"user:pw")), digest("user:pw"));
        assert_eq!(proved(Some(b"")), digest(""));
        assert_eq!(proved(Some(b"a\xff:b")), digest("a\u{fffd}:b"));
        assert_eq!(proved(None), Proof::Refused);
    }

    #[test]
    fn the_super_digest_makes_a_super_user() {
        let super_digest = DigestAlgorithm::Sha256.id("super:secret").id;
        let policy = Policy {
            digest_algorithm: DigestAlgorithm::Sha256,
            super_digest: Some(Secret::new(super_digest.clone())),
            ..policy()
        };
        let proved = |auth: &[u8]| policy.prove(Some("digest"), Some(auth), HERE);
        let both = vec![id("digest", &super_digest), super_id()];
        assert_eq!(proved(b"super:secret"), Proof::Ids(both));
        assert!(matches!(proved(b"super:guess"), Proof::Ids(ids) if ids.len() == 1));
    }

    #[test]
    fn schemes_without_auth_packets_and_unknown_ones_prove_nothing() {
        for scheme in [Some("sasl"), Some("x509"), Some("world"), Some("auth"), Some("super"), None]
        {
            assert_eq!(policy().prove(scheme, Some(b"x"), HERE), Proof::Refused, "{scheme:?}");
        }
        let mut without = policy();
        without.rules.schemes = Schemes::NONE.with(Scheme::Ip);
        assert_eq!(without.prove(Some("digest"), Some(b"a:b"), HERE), Proof::Refused);
        assert_eq!(without.prove(Some("ip"), None, HERE), Proof::Ids(vec![id("ip", "127.0.0.1")]));
    }

    #[test]
    fn a_client_that_means_another_ensemble_is_told_apart() {
        let names = Some(vec!["one".to_owned(), "two".to_owned()]);
        let policy = Policy { ensemble_names: names, ..policy() };
        let proved = |auth| policy.prove(Some("ensemble"), auth, HERE);
        for auth in [None, Some(&b""[..]), Some(b"two")] {
            assert_eq!(proved(auth), Proof::Ids(vec![]), "{auth:?}");
        }
        assert_eq!(proved(Some(b"three")), Proof::WrongEnsemble);
    }

    #[test]
    fn who_has_proved_nothing_required_may_only_authenticate() {
        let ids = [id("ip", "127.0.0.1"), id("digest", "a:b")];
        assert!(policy().admits(&[]));
        let required = |scheme| Policy { required: Some(Schemes::NONE.with(scheme)), ..policy() };
        assert!(required(Scheme::Digest).admits(&ids) && !required(Scheme::Digest).requires_sasl());
        assert!(!required(Scheme::Sasl).admits(&ids) && required(Scheme::Sasl).requires_sasl());
        assert!(!required(Scheme::Sasl).admits(&[super_id()]));
    }

    #[test]
    fn a_sasl_user_may_be_a_super_user() {
        let policy = Policy { sasl_super_users: vec![String::new(), "root".into()], ..policy() };
        assert_eq!(policy.sasl_ids("root"), [id("sasl", "root"), super_id()]);
        assert_eq!(policy.sasl_ids("bob"), [id("sasl", "bob")]);
        assert_eq!(policy.sasl_ids(""), [id("sasl", "")]);
    }
}
