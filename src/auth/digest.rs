//! Ids of the scheme `digest`: a user and a hash of user and password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};

use crate::jute::records::Id;

/// How passwords are hashed (`DigestAuthenticationProvider.digestAlg`). All members of an ensemble
/// must agree on it, and a change makes the ids in ACLs match nobody any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestAlgorithm {
    Md5,
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

impl DigestAlgorithm {
    /// The algorithm that a JVM knows by `name`, in any case; none for MD2, too, which nobody
    /// should use any more.
    pub fn named(name: &str) -> Option<DigestAlgorithm> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MD5" => DigestAlgorithm::Md5,
            "SHA" | "SHA1" | "SHA-1" => DigestAlgorithm::Sha1,
            "SHA224" | "SHA-224" => DigestAlgorithm::Sha224,
            "SHA256" | "SHA-256" => DigestAlgorithm::Sha256,
            "SHA384" | "SHA-384" => DigestAlgorithm::Sha384,
            "SHA512" | "SHA-512" => DigestAlgorithm::Sha512,
            "SHA512/224" | "SHA-512/224" => DigestAlgorithm::Sha512_224,
            "SHA512/256" | "SHA-512/256" => DigestAlgorithm::Sha512_256,
            "SHA3-224" => DigestAlgorithm::Sha3_224,
            "SHA3-256" => DigestAlgorithm::Sha3_256,
            "SHA3-384" => DigestAlgorithm::Sha3_384,
            "SHA3-512" => DigestAlgorithm::Sha3_512,
            _ => return None,
        })
    }

    /// The id of a client that authenticated as `user:password`: the user, which ends at the first
    /// colon, and the hash of the whole.
    pub fn id(self, user_and_password: &str) -> Id {
        let user = user_and_password.split(':').next().unwrap_or_default();
        let hash = self.base64(user_and_password.as_bytes());
        Id { scheme: "digest".to_owned(), id: format!("{user}:{hash}") }
    }

    fn base64(self, bytes: &[u8]) -> String {
        match self {
            DigestAlgorithm::Md5 => STANDARD.encode(Md5::digest(bytes)),
            DigestAlgorithm::Sha1 => STANDARD.encode(Sha1::digest(bytes)),
            DigestAlgorithm::Sha224 => STANDARD.encode(Sha224::digest(bytes)),
            DigestAlgorithm::Sha256 => STANDARD.encode(Sha256::digest(bytes)),
            DigestAlgorithm::Sha384 => STANDARD.encode(Sha384::digest(bytes)),
            DigestAlgorithm::Sha512 => STANDARD.encode(Sha512::digest(bytes)),
            DigestAlgorithm::Sha512_224 => STANDARD.encode(Sha512_224::digest(bytes)),
            DigestAlgorithm::Sha512_256 => STANDARD.encode(Sha512_256::digest(bytes)),
            DigestAlgorithm::Sha3_224 => STANDARD.encode(Sha3_224::digest(bytes)),
            DigestAlgorithm::Sha3_256 => STANDARD.encode(Sha3_256::digest(bytes)),
            DigestAlgorithm::Sha3_384 => STANDARD.encode(Sha3_384::digest(bytes)),
            DigestAlgorithm::Sha3_512 => STANDARD.encode(Sha3_512::digest(bytes)),
        }
    }
}

/// Whether an ACL may name `id`: two parts around a colon, as Java's `split` counts them (empty
/// ones at the end do not count).
pub(super) fn is_id(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// The user of an id.
pub(super) fn user(id: &str) -> &str {
    id.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_user_and_a_hash_of_the_whole() {
        for (algorithm, pair, id) in [
            ("SHA1", "user:pw", "user:2Om+GBbT2q/tS6pdvACZbbm7/1A="),
            ("sha1", "a:b:c", "a:cLzgnoJ6mP5qz3w+mwvPE2vDgu0="),
            ("SHA-256", "a:b", "a:Z4OjHqv2jMwGYPk1wIJigr3SJB86gKny0Q1Zrqnrtdg="),
            ("SHA3-256", "a:b", "a:ejvga8z66+WtMLJrmlP4mB2ikyi0ZnEdX7dJ2QqhVbg="),
            ("MD5", "a:b", "a:2BYMmz3CDU6TGutPRSYhVQ=="),
        ] {
            let algorithm = DigestAlgorithm::named(algorithm).unwrap();
            assert_eq!(algorithm.id(pair).id, id, "{algorithm:?}");
        }
        assert_eq!(user(&DigestAlgorithm::Sha1.id("nocolon").id), "nocolon");
    }

    #[test]
    fn algorithms_have_the_names_that_a_jvm_gives_them() {
        for name in ["SHA", "sha-1", "SHA-512/256", "sha512", "SHA3-512", "SHA-384", "SHA224"] {
            assert!(DigestAlgorithm::named(name).is_some(), "{name}");
        }
        for name in ["", "SHA3256", " SHA1", "MD2", "SHA-3", "none"] {
            assert_eq!(DigestAlgorithm::named(name), None, "{name}");
        }
    }

    #[test]
    fn every_algorithm_has_a_hash_of_its_own_length() {
        use DigestAlgorithm as A;
        for (algorithm, bytes) in [
            (A::Md5, 16),
            (A::Sha1, 20),
            (A::Sha224, 28),
            (A::Sha256, 32),
            (A::Sha384, 48),
            (A::Sha512, 64),
            (A::Sha512_224, 28),
            (A::Sha512_256, 32),
            (A::Sha3_224, 28),
            (A::Sha3_256, 32),
            (A::Sha3_384, 48),
            (A::Sha3_512, 64),
        ] {
            let hash = algorithm.base64(b"x");
            assert_eq!(STANDARD.decode(hash).unwrap().len(), bytes, "{algorithm:?}");
        }
    }
}
