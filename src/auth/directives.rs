//! The directives of a DIGEST-MD5 response (RFC 2831, section 7.1): `key=value` pairs separated by
//! commas or white space, values plain or quoted. As lenient, and as strict, as the JVM's server.

use thiserror::Error;

/// The longest response that is read, bytes (RFC 2831, section 2.1.2).
pub(super) const RESPONSE_BYTES_MAX: usize = 4096;

/// Why a response cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DirectiveError {
    #[error("the response is longer than {RESPONSE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a directive at byte {at} has no key or no value")]
    NoPair { at: usize },
    #[error("a quoted value does not end, or something follows its quote, at byte {at}")]
    Quote { at: usize },
    #[error("the directive at byte {at} is there twice")]
    Twice { at: usize },
}

/// The directives that a server looks at; others are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub charset: Option<Vec<u8>>,
    pub username: Option<Vec<u8>>,
    pub realm: Option<Vec<u8>>,
    pub nonce: Option<Vec<u8>>,
    pub cnonce: Option<Vec<u8>>,
    pub nc: Option<Vec<u8>>,
    pub qop: Option<Vec<u8>>,
    pub digest_uri: Option<Vec<u8>>,
    pub response: Option<Vec<u8>>,
    pub authzid: Option<Vec<u8>>,
}

impl Directives {
    /// Reads a response.
    ///
    /// # Errors
    /// When it is too long, is not a list of directives, or has one twice.
    pub fn parse(text: &[u8]) -> Result<Directives, DirectiveError> {
        if text.len() > RESPONSE_BYTES_MAX {
            return Err(DirectiveError::TooLong);
        }
        let mut directives = Directives::default();
        let mut pairs = Pairs { text, at: 0 };
        while let Some(Pair { at, key, value }) = pairs.next()? {
            let place = match key.to_ascii_lowercase().as_slice() {
                b"charset" => &mut directives.charset,
                b"username" => &mut directives.username,
                b"realm" => &mut directives.realm,
                b"nonce" => &mut directives.nonce,
                b"cnonce" => &mut directives.cnonce,
                b"nc" => &mut directives.nc,
                b"qop" => &mut directives.qop,
                b"digest-uri" => &mut directives.digest_uri,
                b"response" => &mut directives.response,
                b"authzid" => &mut directives.authzid,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(DirectiveError::Twice { at });
            }
        }
        Ok(directives)
    }
}

/// One directive.
struct Pair<'a> {
    /// Where it begins.
    at: usize,
    key: &'a [u8],
    value: Vec<u8>,
}

/// The pairs of a text, from left to right.
struct Pairs<'a> {
    text: &'a [u8],
    at: usize,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl<'a> Pairs<'a> {
    /// The next pair.
    fn next(&mut self) -> Result<Option<Pair<'a>>, DirectiveError> {
        self.skip(|byte| is_space(byte) || byte == b',');
        let start = self.at;
        self.skip(|byte| byte != b'=' && byte != b',' && !is_space(byte));
        let key = &self.text[start..self.at];
        if key.is_empty() && self.at == self.text.len() {
            return Ok(None);
        }
        self.skip(is_space);
        if self.at == self.text.len() && !is_space(self.text[self.at - 1]) {
            // A last word without a value is passed over, as by the JVM.
            return Ok(None);
        }
        if key.is_empty() || self.peek() != Some(b'=') {
            return Err(DirectiveError::NoPair { at: start });
        }
        self.at += 1;
        self.skip(is_space);
        let value = match self.peek() {
            None => return Err(DirectiveError::NoPair { at: start }),
            Some(b'"') => self.quoted()?,
            Some(_) => {
                let from = self.at;
                self.skip(|byte| byte != b',' && !is_space(byte));
                self.text[from..self.at].to_vec()
            }
        };
        Ok(Some(Pair { at: start, key, value }))
    }

    /// The value behind a quote. A backslash takes the next byte as it is.
    fn quoted(&mut self) -> Result<Vec<u8>, DirectiveError> {
        let unended = DirectiveError::Quote { at: self.at };
        let mut value = Vec::new();
        self.at += 1;
        loop {
            let byte = self.take().ok_or(unended)?;
            match byte {
                b'"' => break,
                b'\\' => value.push(self.take().ok_or(unended)?),
                _ => value.push(byte),
            }
        }
        match self.peek() {
            None => Ok(value),
            Some(byte) if is_space(byte) || byte == b',' => Ok(value),
            Some(_) => Err(DirectiveError::Quote { at: self.at }),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn username(text: &str) -> Result<Option<Vec<u8>>, DirectiveError> {
        Directives::parse(text.as_bytes()).map(|directives| directives.username)
    }

    #[test]
    fn a_value_may_be_plain_quoted_or_escaped_and_keys_have_any_case() {
        for text in [
            "username=bob",
            "username=\"bob\"",
            "USERNAME = \"b\\ob\" ",
            ",, username=bob,",
            "foo=bar\r\n\tusername=bob qop=auth",
            "foo=\"a,b=c\",username=bob,last",
        ] {
            assert_eq!(username(text), Ok(Some(b"bob".to_vec())), "{text}");
        }
        assert_eq!(username(""), Ok(None));
        assert_eq!(username("hello"), Ok(None));
        assert_eq!(username("username=\"\""), Ok(Some(Vec::new())));
    }

    #[test]
    fn what_is_no_list_of_directives_is_refused_with_its_place() {
        for (text, error) in [
            ("a=b,=c", DirectiveError::NoPair { at: 4 }),
            ("a b=c", DirectiveError::NoPair { at: 0 }),
            ("a,b=c", DirectiveError::NoPair { at: 0 }),
            ("a=", DirectiveError::NoPair { at: 0 }),
            ("a ", DirectiveError::NoPair { at: 0 }),
            ("a=\"b", DirectiveError::Quote { at: 2 }),
            ("a=\"b\\", DirectiveError::Quote { at: 2 }),
            ("a=\"b\"c", DirectiveError::Quote { at: 5 }),
            ("realm=a,realm=b", DirectiveError::Twice { at: 8 }),
        ] {
            assert_eq!(username(text), Err(error), "{text}");
        }
        let long = "x".repeat(RESPONSE_BYTES_MAX + 1);
        assert_eq!(username(&long), Err(DirectiveError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn no_response_harms(text in "[a-c=,\" \\\\]{0,60}") {
            let _ = username(&text);
        }
    }
}
