//! The syntax of a Java properties file, as `java.util.Properties.load` reads it, with the line
//! that each entry began on.
//!
//! Bytes are ISO 8859-1. A line ends with LF, CR or CR LF. A line whose first visible character is
//! `#` or `!` is a comment. A line that ends in an odd number of backslashes goes on in the next
//! one, whose indentation is dropped. The key ends at the first unescaped `=`, `:` or white space;
//! white space and at most one `=` or `:` separate it from the value.

use std::iter::Peekable;
use std::str::Chars;

/// One key with its value, as written, unescaped and without white space at the value's end (which
/// Java keeps and ZooKeeper then cuts off).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line that the entry begins on, from 1.
    pub line: usize,
    pub key: String,
    pub value: String,
}

/// A `\u` escape that is not followed by four hexadecimal digits: the only thing that this syntax
/// can have wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a \\u escape needs four hexadecimal digits")]
pub struct BadEscape {
    /// The line that the entry begins on, from 1.
    pub line: usize,
}

/// The entries of `file`, in its order, double ones included.
pub fn parse(file: &[u8]) -> Result<Vec<Entry>, BadEscape> {
    let text: String = file.iter().map(|&byte| char::from(byte)).collect();
    let mut entries = Vec::new();
    for (line, logical) in logical_lines(&text) {
        let mut left = logical.chars().peekable();
        let key = unescape(&mut left, line, |c| is_space(c) || c == '=' || c == ':')?;
        skip_spaces(&mut left);
        if left.next_if(|&c| c == '=' || c == ':').is_some() {
            skip_spaces(&mut left);
        }
        let value = unescape(&mut left, line, |_| false)?;
        entries.push(Entry { line, key, value: value.trim().to_owned() });
    }
    Ok(entries)
}

/// Java's white space between key and value: line ends are not among it.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Lines with continuations joined and comments and blank lines left out, each with the number of
/// its first natural line. Escapes are still in them.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in natural_lines(text).enumerate() {
        let content = natural.trim_start_matches(is_space);
        if open.is_none() && (content.is_empty() || content.starts_with(['#', '!'])) {
            continue;
        }
        let (first, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        let backslashes = content.len() - content.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            joined.push_str(&content[..content.len() - 1]);
            open = Some((first, joined));
        } else {
            joined.push_str(content);
            lines.push((first, joined));
        }
    }
    // The file ended in a backslash: what there is counts.
    lines.extend(open);
    lines.retain(|(_, joined)| !joined.is_empty());
    lines
}

fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let rest = left?;
        match rest.find(['\n', '\r']) {
            Some(end) => {
                let length = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
                left = Some(&rest[end + length..]);
                Some(&rest[..end])
            }
            None => {
                left = None;
                Some(rest)
            }
        }
    })
}

fn skip_spaces(left: &mut Peekable<Chars<'_>>) {
    while left.next_if(|&c| is_space(c)).is_some() {}
}

/// What comes before the first unescaped character that `ends` it, unescaped.
fn unescape(
    left: &mut Peekable<Chars<'_>>,
    line: usize,
    ends: impl Fn(char) -> bool,
) -> Result<String, BadEscape> {
    let mut text = String::new();
    // Java's characters are UTF-16: two escapes may form one character.
    let mut units: Vec<u16> = Vec::new();
    while let Some(c) = left.next_if(|&c| !ends(c)) {
        if c == '\\' && left.next_if_eq(&'u').is_some() {
            units.push(hexadecimal(left).ok_or(BadEscape { line })?);
            continue;
        }
        flush(&mut units, &mut text);
        if c != '\\' {
            text.push(c);
            continue;
        }
        match left.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('f') => text.push('\x0c'),
            Some(other) => text.push(other),
            None => {}
        }
    }
    flush(&mut units, &mut text);
    Ok(text)
}

fn hexadecimal(left: &mut Peekable<Chars<'_>>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | left.next()?.to_digit(16)? as u16;
    }
    Some(unit)
}

fn flush(units: &mut Vec<u16>, text: &mut String) {
    text.extend(
        char::decode_utf16(units.drain(..)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(file: &str) -> Vec<(usize, String, String)> {
        parse(file.as_bytes()).unwrap().into_iter().map(|e| (e.line, e.key, e.value)).collect()
    }

    fn pair(line: usize, key: &str, value: &str) -> (usize, String, String) {
        (line, key.to_owned(), value.to_owned())
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_counted() {
        let file = "# one\n\n  ! two\ntickTime=2000\r\n\t# three\rdataDir=/var\n";
        assert_eq!(pairs(file), [pair(4, "tickTime", "2000"), pair(6, "dataDir", "/var")]);
    }

    #[test]
    fn a_key_ends_at_an_equals_sign_a_colon_or_white_space() {
        for file in ["k=v", "k:v", "k v", "k\tv", "  k = v", "k   :   v", "k v  "] {
            assert_eq!(pairs(file), [pair(1, "k", "v")], "{file:?}");
        }
        assert_eq!(pairs("k==v"), [pair(1, "k", "=v")]);
        assert_eq!(pairs("k\nl="), [pair(1, "k", ""), pair(2, "l", "")]);
        assert_eq!(pairs("server.1=a:2888:3888"), [pair(1, "server.1", "a:2888:3888")]);
    }

    #[test]
    fn an_odd_number_of_backslashes_at_the_end_continues_the_line() {
        assert_eq!(pairs("a=b,\\\n   c\nd=e"), [pair(1, "a", "b,c"), pair(3, "d", "e")]);
        assert_eq!(pairs("a=b\\\\\nc=d"), [pair(1, "a", "b\\"), pair(2, "c", "d")]);
        assert_eq!(pairs("a=b\\\n# no comment here"), [pair(1, "a", "b# no comment here")]);
        assert_eq!(pairs("a=b\\"), [pair(1, "a", "b")]);
    }

    #[test]
    fn escapes_stand_for_characters() {
        assert_eq!(pairs(r"a\=\:\ b=\t\n\r\f\q"), [pair(1, "a=: b", "q")]);
        assert_eq!(pairs(r"a=x\u0041\u00e4\ud83d\ude00x"), [pair(1, "a", "xAä😀x")]);
    }

    #[test]
    fn bytes_are_latin_1() {
        let entries = parse(b"a=\xe4").unwrap();
        assert_eq!(entries[0].value, "ä");
    }

    #[test]
    fn a_broken_escape_is_an_error_that_names_the_line() {
        assert_eq!(parse(b"a=1\nb=\\u00g0"), Err(BadEscape { line: 2 }));
        assert_eq!(parse(b"b=\\u00"), Err(BadEscape { line: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(file in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&file);
        }

        #[test]
        fn what_java_would_write_is_read_back(
            written in proptest::collection::vec(("[ -~]{1,12}", "[ -~]{0,12}"), 0..8),
        ) {
            let escape = |text: &str| -> String {
                text.chars()
                    .flat_map(|c| " =:#!\\".contains(c).then_some('\\').into_iter().chain([c]))
                    .collect()
            };
            let file: String =
                written.iter().map(|(k, v)| format!("{}={}\n", escape(k), escape(v))).collect();
            let expected: Vec<_> = written
                .iter()
                .enumerate()
                .map(|(index, (k, v))| pair(index + 1, k, v.trim()))
                .collect();
            prop_assert_eq!(pairs(&file), expected);
        }

        #[test]
        fn a_value_may_be_broken_over_lines_anywhere(value in "[a-z]{2,20}", at in 1..19usize) {
            let at = at.min(value.len() - 1);
            let file = format!("key={}\\\n    {}\n", &value[..at], &value[at..]);
            prop_assert_eq!(pairs(&file), [pair(1, "key", &value)]);
        }
    }
}
