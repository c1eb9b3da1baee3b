//! A line taken apart as `zkCli.sh` does it: words between blanks, a word in double or single
//! quotes whole. There is no escape; a quote within a word is an ordinary character.

/// Blanks of a Java regular expression (`\s`).
pub fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

/// The words of `line`. A quote that begins a word and is never closed is left out, as
/// `zkCli.sh` leaves it out.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_blank);
        let Some(first) = rest.chars().next() else { return words };
        if matches!(first, '"' | '\'') {
            rest = &rest[1..];
            if let Some((word, behind)) = rest.split_once(first) {
                words.push(word.to_owned());
                rest = behind;
            }
        } else {
            let end = rest.find(is_blank).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_separate_words() {
        assert_eq!(split("ls  -s\t/a \r"), ["ls", "-s", "/a"]);
        assert_eq!(split(" \t "), Vec::<String>::new());
    }

    #[test]
    fn quotes_keep_blanks_and_the_other_quote() {
        assert_eq!(split(r#"set /a "hello 'you'" '"'"#), ["set", "/a", "hello 'you'", "\""]);
        assert_eq!(split(r#"create /a "" ''"#), ["create", "/a", "", ""]);
    }

    #[test]
    fn a_quoted_word_ends_at_its_quote() {
        assert_eq!(split(r#""a"b 'c''d'"#), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_quote_within_a_word_is_an_ordinary_character() {
        assert_eq!(split(r#"a"b c" it's"#), ["a\"b", "c\"", "it's"]);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_left_out() {
        assert_eq!(split(r#"get "/a b"#), ["get", "/a", "b"]);
        assert_eq!(split("'"), Vec::<String>::new());
    }
}
