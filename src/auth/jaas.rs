//! The file that names SASL users: a login configuration of JAAS, as ZooKeeper's servers have it.
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!     user_super="..."
//!     user_bob="...";
//! };
//! ```

use thiserror::Error;

use super::sasl::Credentials;
use super::secret::Secret;

/// The login module whose options are users.
const MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";
/// What an option that names a user begins with.
const USER: &str = "user_";
/// What may stand behind a login module.
const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

/// What is wrong with a file of credentials. Shows nothing of what may be a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JaasError {
    #[error("line {line}: expected {expected}")]
    Syntax { line: usize, expected: &'static str },
    #[error("line {line}: a quoted text does not end on its line")]
    Quote { line: usize },
    #[error("line {line}: ${{...}} in a value is not expanded")]
    Expansion { line: usize },
    #[error("line {line}: the section has the login module {module}; only {MODULE} is there")]
    Module { line: usize, module: String },
    #[error("line {line}: there is a section {section} already")]
    Twice { line: usize, section: String },
    #[error("there is no section {section}")]
    NoSection { section: String },
    #[error("the section {section} names no user: user_NAME=\"PASSWORD\"")]
    NoUser { section: String },
}

/// The users that `section` of `text` names.
///
/// # Errors
/// When the text is no JAAS configuration, or the section is not there, is not for DIGEST-MD5, or
/// names nobody.
pub fn credentials(text: &str, section: &str) -> Result<Credentials, JaasError> {
    let mut tokens = Tokens { rest: text, line: 1 };
    let mut found = None;
    while let Some(token) = tokens.next()? {
        let line = tokens.line;
        let name = token.word(line, "the name of a section")?;
        let users = read_section(&mut tokens, name == section)?;
        if name == section && found.replace(users).is_some() {
            return Err(JaasError::Twice { line, section: name });
        }
    }
    let users = found.ok_or_else(|| JaasError::NoSection { section: section.to_owned() })?;
    if users.is_empty() {
        return Err(JaasError::NoUser { section: section.to_owned() });
    }
    Ok(Credentials::new(users))
}

/// The users of the section whose name has been read; only checked for its form unless `wanted`.
fn read_section(tokens: &mut Tokens<'_>, wanted: bool) -> Result<Vec<(String, Secret)>, JaasError> {
    let mut users = Vec::new();
    tokens.sign('{', "{ behind the name of a section")?;
    loop {
        let token = tokens.expect("a login module or }")?;
        if token == Token::Sign('}') {
            break;
        }
        let line = tokens.line;
        let module = token.word(line, "a login module or }")?;
        if wanted && module != MODULE {
            return Err(JaasError::Module { line, module });
        }
        let flag = tokens.expect("required")?.word(tokens.line, "required")?;
        if !FLAGS.iter().any(|known| known.eq_ignore_ascii_case(&flag)) {
            return Err(JaasError::Syntax { line: tokens.line, expected: "required" });
        }
        read_options(tokens, &mut users)?;
    }
    tokens.sign(';', "; behind the } of a section")?;
    Ok(users)
}

/// The options of a login module, through the semicolon that ends them.
fn read_options(
    tokens: &mut Tokens<'_>,
    users: &mut Vec<(String, Secret)>,
) -> Result<(), JaasError> {
    loop {
        let token = tokens.expect("an option or ;")?;
        if token == Token::Sign(';') {
            return Ok(());
        }
        let option = token.word(tokens.line, "an option or ;")?;
        tokens.sign('=', "= behind the name of an option")?;
        let value = tokens.expect("a value")?.word(tokens.line, "a value")?;
        if value.contains("${") {
            return Err(JaasError::Expansion { line: tokens.line });
        }
        if let Some(user) = option.strip_prefix(USER) {
            users.push((user.to_owned(), Secret::new(value)));
        }
    }
}

/// A word, quoted or not, or a sign.
#[derive(PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

impl Token {
    fn word(self, line: usize, expected: &'static str) -> Result<String, JaasError> {
        match self {
            Token::Word(word) => Ok(word),
            Token::Sign(_) => Err(JaasError::Syntax { line, expected }),
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
    /// Where the last token began.
    line: usize,
}

/// Whether an unquoted word may have this character.
fn is_word(character: char) -> bool {
    character.is_alphanumeric() || "._-$*".contains(character)
}

impl Tokens<'_> {
    fn expect(&mut self, expected: &'static str) -> Result<Token, JaasError> {
        let token = self.next()?;
        token.ok_or(JaasError::Syntax { line: self.line, expected })
    }

    fn sign(&mut self, sign: char, expected: &'static str) -> Result<(), JaasError> {
        let token = self.expect(expected)?;
        let fits = token == Token::Sign(sign);
        if fits { Ok(()) } else { Err(JaasError::Syntax { line: self.line, expected }) }
    }

    /// The next token; none at the end.
    fn next(&mut self) -> Result<Option<Token>, JaasError> {
        self.skip_blanks()?;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if first == '"' || first == '\'' {
            return self.quoted(first).map(Some);
        }
        let length = self.rest.find(|each| !is_word(each)).unwrap_or(self.rest.len());
        let (token, length) = match length {
            0 => (Token::Sign(first), first.len_utf8()),
            _ => (Token::Word(self.rest[..length].to_owned()), length),
        };
        self.rest = &self.rest[length..];
        Ok(Some(token))
    }

    /// Passes white space and comments over.
    fn skip_blanks(&mut self) -> Result<(), JaasError> {
        loop {
            let blank = if self.rest.starts_with(char::is_whitespace) {
                self.rest.find(|each: char| !each.is_whitespace()).unwrap_or(self.rest.len())
            } else if self.rest.starts_with("//") {
                self.rest.find('\n').unwrap_or(self.rest.len())
            } else if self.rest.starts_with("/*") {
                let expected = "*/ at the end of a comment";
                let unended = JaasError::Syntax { line: self.line, expected };
                self.rest.find("*/").ok_or(unended)? + 2
            } else {
                return Ok(());
            };
            let (passed, rest) = self.rest.split_at(blank);
            self.line += passed.matches('\n').count();
            self.rest = rest;
        }
    }

    /// A text in quotes, with the escapes that Java's `StreamTokenizer` knows.
    fn quoted(&mut self, quote: char) -> Result<Token, JaasError> {
        let unended = JaasError::Quote { line: self.line };
        let mut text = String::new();
        let mut characters = self.rest[1..].chars();
        loop {
            match characters.next() {
                None | Some('\n') => return Err(unended),
                Some('\\') => text.push(escaped(&mut characters).ok_or(unended.clone())?),
                Some(end) if end == quote => break,
                Some(other) => text.push(other),
            }
        }
        self.rest = characters.as_str();
        Ok(Token::Word(text))
    }
}

/// What a backslash and the characters behind it stand for; an octal number has up to three digits.
fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let first = characters.next()?;
    Some(match first {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0'..='7' => {
            let digits_max = if first <= '3' { 3 } else { 2 };
            let mut number = first.to_digit(8)?;
            for _ in 1..digits_max {
                let Some(digit) = characters.clone().next().and_then(|next| next.to_digit(8))
                else {
                    break;
                };
                characters.next();
                number = number * 8 + digit;
            }
            char::from_u32(number)?
        }
        '\n' => return None,
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(users: &[(&str, &str)]) -> Credentials {
        let secret = |(user, password): &(&str, &str)| ((*user).to_owned(), Secret::new(*password));
        Credentials::new(users.iter().map(secret))
    }

    #[test]
    fn the_users_of_a_section_are_its_options() {
        let text = r#"
            // What ZooKeeper's servers have.
            Client { some.other.Module optional username=bob password="x"; };
            Server { /* two
                        lines */
                org.apache.zookeeper.server.auth.DigestLoginModule required
                debug=true user_super="s p;}\"w" user_bob='it'
                user_a-b.c="\\\101\t" "user_q"=word;
            };"#;
        let expected = [("super", "s p;}\"w"), ("bob", "it"), ("a-b.c", "\\A\t"), ("q", "word")];
        assert_eq!(credentials(text, "Server"), Ok(of(&expected)));
        let missing = JaasError::NoSection { section: "Other".to_owned() };
        assert_eq!(credentials(text, "Other"), Err(missing));
        let client = credentials(text, "Client").unwrap_err();
        let module = "some.other.Module".to_owned();
        assert_eq!(client, JaasError::Module { line: 3, module });
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line_and_without_its_values() {
        let digest = "Server {\norg.apache.zookeeper.server.auth.DigestLoginModule required\n";
        for (rest, error) in [
            ("user_a=\"secret\"", "line 3: expected an option or ;"),
            ("user_a=\"secret;\n};", "line 3: a quoted text does not end on its line"),
            ("user_a=\"secret\\", "line 3: a quoted text does not end on its line"),
            ("user_a \"secret\";};", "line 3: expected = behind the name of an option"),
            ("user_a=;};", "line 3: expected a value"),
            ("user_a=\"${secret}\";};", "line 3: ${...} in a value is not expanded"),
            ("user_a=\"secret\";}", "line 3: expected ; behind the } of a section"),
            ("user_a=\"secret\";\n/*", "line 4: expected */ at the end of a comment"),
            ("debug=true;};", "the section Server names no user: user_NAME=\"PASSWORD\""),
        ] {
            let refused = credentials(&format!("{digest}{rest}"), "Server").unwrap_err();
            assert_eq!(refused.to_string(), error, "{rest}");
        }
        let line = |text: &str| credentials(text, "Server").unwrap_err().to_string();
        assert_eq!(line("{"), "line 1: expected the name of a section");
        assert_eq!(line("Server"), "line 1: expected { behind the name of a section");
        assert_eq!(
            line("Server { m user_a=b; };"),
            "line 1: the section has the login module m; \
            only org.apache.zookeeper.server.auth.DigestLoginModule is there"
        );
        let one = format!("{digest}user_a=b;}};");
        assert_eq!(line(&format!("{one}\n{one}")), "line 4: there is a section Server already");
    }

    proptest::proptest! {
        #[test]
        fn no_file_harms(text in "(Server ?\\{|m required|[a-z_=;{}\"'\\\\/* \n0-9]){0,30}") {
            let _ = credentials(&text, "Server");
        }
    }
}
