//! A password, or a text that is as good as one.

use std::fmt;

use subtle::ConstantTimeEq;

/// A text that must not be seen: its `Debug` does not show it, and it has no `Display`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text. What is made of it must not be printed either.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is `other`; how long that takes does not tell how much of it is.
    pub fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_and_equals_its_text_alone() {
        let secret = Secret::new("swordfish");
        assert_eq!(format!("{secret:?}"), "(not shown)");
        assert!(secret.is("swordfish") && !secret.is("swordfis") && !secret.is("Swordfish"));
    }
}
