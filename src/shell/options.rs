//! The options of a command, as `zkCli.sh` takes them (commons-cli's `DefaultParser`): anywhere on
//! the line, short, several in one (`-sw`), a value behind (`-v 3`), attached (`-v3`) or after `=`.
//! `--` ends them; a negative number can be a value.

use thiserror::Error;

/// One option of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without its dash.
    pub name: &'static str,
    /// Whether a value follows.
    pub takes_value: bool,
    /// What it does, in a few words.
    pub about: &'static str,
}

/// An option without a value.
pub const fn flag(name: &'static str, about: &'static str) -> Flag {
    Flag { name, takes_value: false, about }
}

/// An option with a value.
pub const fn value(name: &'static str, about: &'static str) -> Flag {
    Flag { name, takes_value: true, about }
}

/// How many of a command's options may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Any,
    AtMostOne,
    ExactlyOne,
}

/// What is wrong with a command's options, in the words of commons-cli.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionError {
    #[error("Unrecognized option: {0}")]
    Unrecognized(String),
    #[error("Missing argument for option: {0}")]
    MissingArgument(&'static str),
    #[error(
        "The option '{second}' was specified but an option from this group has already been \
         selected: '{first}'"
    )]
    AlreadySelected { first: &'static str, second: &'static str },
    #[error("Missing required option: [{0}]")]
    MissingOption(String),
}

/// A command's options and its other words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    given: Vec<(&'static str, Option<String>)>,
    /// In their order, without the command itself.
    pub words: Vec<String>,
}

impl Parsed {
    /// Whether option `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value of option `name`, the first where it was given more than once.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name)?.1.as_deref()
    }
}

/// Takes `words`, all behind the command, apart by the options that it has.
///
/// # Errors
/// The first option that is unknown, lacks its value or excludes another.
pub fn parse(flags: &[Flag], choice: Choice, words: &[String]) -> Result<Parsed, OptionError> {
    let mut parser = Parser { flags, choice, parsed: Parsed::default(), waiting: None };
    let mut words = words.iter();
    for word in words.by_ref() {
        if word == "--" {
            break;
        }
        parser.take(word)?;
    }
    parser.settle()?;
    parser.parsed.words.extend(words.cloned());
    if choice == Choice::ExactlyOne && parser.parsed.given.is_empty() {
        let all: Vec<_> =
            flags.iter().map(|flag| format!("-{} {}", flag.name, flag.about)).collect();
        return Err(OptionError::MissingOption(all.join(", ")));
    }
    Ok(parser.parsed)
}

struct Parser<'a> {
    flags: &'a [Flag],
    choice: Choice,
    parsed: Parsed,
    /// The option whose value must come next.
    waiting: Option<&'static str>,
}

impl Parser<'_> {
    fn find(&self, name: &str) -> Option<Flag> {
        self.flags.iter().copied().find(|flag| flag.name == name)
    }

    fn take(&mut self, word: &str) -> Result<(), OptionError> {
        if let Some(name) = self.waiting
            && !self.is_option(word)
        {
            self.waiting = None;
            self.parsed.given.push((name, Some(word.to_owned())));
            return Ok(());
        }
        let Some(text) = word.strip_prefix('-').filter(|text| !text.is_empty()) else {
            self.parsed.words.push(word.to_owned());
            return Ok(());
        };
        if let Some(flag) = self.find(text) {
            return self.select(flag, None);
        }
        if let Some((name, value)) = text.split_once('=') {
            return match self.find(name) {
                Some(flag) if flag.takes_value => self.select(flag, Some(value)),
                _ => Err(OptionError::Unrecognized(word.to_owned())),
            };
        }
        self.take_joined(word, text)
    }

    /// Several options in one word, the last perhaps with its value.
    fn take_joined(&mut self, word: &str, text: &str) -> Result<(), OptionError> {
        for (at, letter) in text.char_indices() {
            let end = at + letter.len_utf8();
            let Some(flag) = self.find(&text[at..end]) else {
                return Err(OptionError::Unrecognized(word.to_owned()));
            };
            if flag.takes_value && end < text.len() {
                return self.select(flag, Some(&text[end..]));
            }
            self.select(flag, None)?;
        }
        Ok(())
    }

    fn select(&mut self, flag: Flag, value: Option<&str>) -> Result<(), OptionError> {
        self.settle()?;
        if self.choice != Choice::Any
            && let Some((first, _)) = self.parsed.given.iter().find(|(name, _)| *name != flag.name)
        {
            return Err(OptionError::AlreadySelected { first, second: flag.name });
        }
        if flag.takes_value && value.is_none() {
            self.waiting = Some(flag.name);
        } else {
            self.parsed.given.push((flag.name, value.map(str::to_owned)));
        }
        Ok(())
    }

    /// No option may still wait for its value.
    fn settle(&self) -> Result<(), OptionError> {
        self.waiting.map_or(Ok(()), |name| Err(OptionError::MissingArgument(name)))
    }

    /// Whether `word` is an option rather than a value.
    fn is_option(&self, word: &str) -> bool {
        let Some(text) = word.strip_prefix('-') else { return false };
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        let first = name.chars().next().map(String::from).unwrap_or_default();
        let known = self.find(name).is_some() || self.find(&first).is_some();
        known && word.parse::<f64>().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 4] =
        [flag("s", "stats"), flag("w", "watch"), value("v", "version"), value("file", "path")];

    fn parsed(line: &str) -> Result<Parsed, OptionError> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        parse(&FLAGS, Choice::Any, &words)
    }

    #[test]
    fn options_stand_anywhere_and_together() {
        for line in ["-s -w /a b", "/a -sw b", "/a b -s -w", "-ws /a b"] {
            let parsed = parsed(line).unwrap();
            assert!(parsed.has("s") && parsed.has("w") && !parsed.has("v"), "{line}");
            assert_eq!(parsed.words, ["/a", "b"], "{line}");
        }
    }

    #[test]
    fn a_value_stands_behind_attached_or_after_an_equals_sign() {
        for line in ["/a -v 3", "-v3 /a", "/a -v=3", "-sv3 /a", "-sv 3 /a"] {
            let parsed = parsed(line).unwrap();
            assert_eq!(parsed.value("v"), Some("3"), "{line}");
            assert_eq!(parsed.words, ["/a"], "{line}");
        }
        assert_eq!(parsed("-file x").unwrap().value("file"), Some("x"));
        assert_eq!(parsed("-v -1").unwrap().value("v"), Some("-1"));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        let refused = |line| parsed(line).unwrap_err();
        assert_eq!(refused("-z"), OptionError::Unrecognized("-z".into()));
        assert_eq!(refused("-sz /a"), OptionError::Unrecognized("-sz".into()));
        assert_eq!(refused("/a -1"), OptionError::Unrecognized("-1".into()));
        assert_eq!(refused("--s"), OptionError::Unrecognized("--s".into()));
        assert_eq!(refused("-s=1"), OptionError::Unrecognized("-s=1".into()));
        assert_eq!(refused("-v"), OptionError::MissingArgument("v"));
        assert_eq!(refused("-v -s /a"), OptionError::MissingArgument("v"));
    }

    #[test]
    fn two_dashes_end_the_options_and_one_is_a_word() {
        assert_eq!(parsed("-s -- /a -1").unwrap().words, ["/a", "-1"]);
        assert_eq!(parsed("/a -").unwrap().words, ["/a", "-"]);
    }

    #[test]
    fn options_that_exclude_each_other_are_refused_together() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let flags = [value("n", "num soft quota"), value("b", "bytes soft quota")];
        let chosen = |line| parse(&flags, Choice::ExactlyOne, &words(line));
        assert!(chosen("-n 5 /a").is_ok());
        assert_eq!(
            chosen("-n 5 -b 3 /a").unwrap_err().to_string(),
            "The option 'b' was specified but an option from this group has already been \
             selected: 'n'"
        );
        assert_eq!(
            chosen("/a").unwrap_err().to_string(),
            "Missing required option: [-n num soft quota, -b bytes soft quota]"
        );
        assert!(parse(&flags, Choice::AtMostOne, &words("/a")).is_ok());
    }
}
