//! The authentication schemes that a server may have, and what each makes of ids.

use super::{digest, ip, principal};

/// A scheme that a provider stands behind in ZooKeeper. `world`, `auth` and `super` are none: they
/// are part of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Ip,
    Digest,
    Sasl,
    X509,
    Ensemble,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Scheme; 5] =
        [Scheme::Ip, Scheme::Digest, Scheme::Sasl, Scheme::X509, Scheme::Ensemble];

    /// Its name in ids and auth packets.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Ip => "ip",
            Scheme::Digest => "digest",
            Scheme::Sasl => "sasl",
            Scheme::X509 => "x509",
            Scheme::Ensemble => "ensemble",
        }
    }

    /// The scheme of this name.
    pub fn named(name: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// Whether an id of it tells who the client is, so that it may stand for `auth` in an ACL.
    pub const fn authenticates(self) -> bool {
        matches!(self, Scheme::Digest | Scheme::Sasl | Scheme::X509)
    }

    /// Whether an ACL may name this id.
    pub fn takes(self, id: &str) -> bool {
        match self {
            Scheme::Ip => ip::is_network(id),
            Scheme::Digest => digest::is_id(id),
            Scheme::Sasl => principal::is_kerberos_name(id),
            Scheme::X509 => principal::is_distinguished_name(id),
            Scheme::Ensemble => false,
        }
    }

    /// What whoAmI calls an id of it.
    pub fn user(self, id: &str) -> &str {
        if self == Scheme::Digest { digest::user(id) } else { id }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the schemes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemes(u8);

impl Schemes {
    /// None of them.
    pub const NONE: Schemes = Schemes(0);

    /// These and `scheme`.
    pub const fn with(self, scheme: Scheme) -> Schemes {
        Schemes(self.0 | scheme.bit())
    }

    /// These without `scheme`.
    pub const fn without(self, scheme: Scheme) -> Schemes {
        Schemes(self.0 & !scheme.bit())
    }

    /// Whether `scheme` is one of them.
    pub const fn has(self, scheme: Scheme) -> bool {
        self.0 & scheme.bit() != 0
    }

    /// The one of them that is called `name`.
    pub fn named(self, name: &str) -> Option<Scheme> {
        Scheme::named(name).filter(|scheme| self.has(*scheme))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_found_by_its_name_where_it_is_there() {
        let schemes = Schemes::NONE.with(Scheme::Ip).with(Scheme::Sasl);
        assert_eq!(schemes.named("ip"), Some(Scheme::Ip));
        assert_eq!(schemes.named("sasl"), Some(Scheme::Sasl));
        assert_eq!(schemes.named("digest"), None);
        assert_eq!(schemes.named("world"), None);
        assert_eq!(schemes.without(Scheme::Ip).named("ip"), None);
        for scheme in Scheme::ALL {
            assert_eq!(Scheme::named(scheme.name()), Some(scheme));
        }
    }

    #[test]
    fn nobody_may_name_an_ensemble_in_an_acl() {
        assert!(!Scheme::Ensemble.takes("one") && !Scheme::Ensemble.authenticates());
        assert!(Scheme::Sasl.takes("alice") && !Scheme::Sasl.takes("a@b@c"));
        assert!(Scheme::X509.takes("CN=a") && !Scheme::X509.takes("a"));
    }
}
