//! Arbitrary bytes into what reads credentials: SASL responses of clients, and the JAAS file. Run
//! by the fuzz targets `sasl` and `jaas`, and by `tests/fuzz_corpus.rs` over the committed corpora.

use ringkeeper::auth::jaas;
use ringkeeper::auth::sasl::{Credentials, Exchange, Reply, SaslError};
use ringkeeper::auth::secret::Secret;

/// The nonce of the recorded exchange, so that its response, which is in the corpus, is right.
const NONCE: &str = "/DKRXUjdOiHShfDY47RDdWevKyXq++kQ1/jMER+q";

/// Takes `response` for the answer to a challenge.
///
/// # Panics
/// When reading it does, when it lets anybody else in, or when a second response counts.
pub fn respond(response: &[u8]) {
    let alice = ("alice".to_owned(), Secret::new("apass"));
    let credentials = Credentials::new([alice, ("b\u{f6}b".to_owned(), Secret::new("p\u{e4}ss"))]);
    let mut exchange = Exchange::Challenged(NONCE.into());
    if let Ok(reply) = exchange.answer(response, &credentials) {
        let Reply::Proven { user, proof } = reply else { panic!("a second challenge: {reply:?}") };
        assert!(["alice", "b\u{f6}b"].contains(&&user[..]), "{user}");
        assert!(proof.starts_with(b"rspauth=") && proof.len() == 40, "{proof:?}");
    }
    assert_eq!(exchange.answer(response, &credentials), Err(SaslError::Over));
}

/// Takes `text` for a JAAS file.
///
/// # Panics
/// When reading it does, or when it gives no user and no error.
pub fn read_credentials(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match jaas::credentials(text, "Server") {
        Ok(credentials) => assert!(!credentials.is_empty(), "nobody"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
