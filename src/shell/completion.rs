//! What the tabulator key completes: commands, their options, and paths, which the server is
//! asked for.

use std::borrow::Cow;
use std::sync::Arc;

use ringkeeper::client::operations::Client;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::commands::table::{COMMANDS, find};
use super::output::{Colour, Output};
use super::words::{self, is_blank};

/// What the line editor asks.
pub struct Completion {
    /// Whom to ask for paths.
    pub client: Arc<Client>,
    pub out: Output,
}

impl Completion {
    /// The children of the folder in which `path` ends, with their paths, that begin as it does.
    fn paths(&self, path: &str) -> Vec<String> {
        if !self.client.state().is_connected() {
            return Vec::new();
        }
        let (folder, start) = path.rsplit_once('/').unwrap_or(("", path));
        let listed = if folder.is_empty() { "/" } else { folder };
        // What cannot be listed has no completion.
        let Ok((mut children, _)) = self.client.get_children(listed, false) else {
            return Vec::new();
        };
        children.sort();
        children
            .iter()
            .filter(|name| name.starts_with(start))
            .map(|name| format!("{folder}/{name}"))
            .collect()
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..position];
        let word = last_word(before);
        let shown = |text: String, name: &str| Pair {
            display: name.to_owned(),
            replacement: word.quoted(&text),
        };
        let pairs = if word.text.starts_with('/') {
            let paths = self.paths(word.text);
            paths.into_iter().map(|path| shown(path.clone(), &path)).collect()
        } else if let Some(start) = word.text.strip_prefix('-') {
            options(before, start).into_iter().map(|name| shown(name.clone(), &name)).collect()
        } else if before[..word.start].chars().all(is_blank) {
            let names = COMMANDS.iter().map(|command| command.name);
            names
                .filter(|name| name.starts_with(word.text))
                .map(|name| shown(format!("{name} "), name))
                .collect()
        } else {
            Vec::new()
        };
        Ok((word.start, pairs))
    }
}

/// The options, with their dash, of the command that `line` begins with.
fn options(line: &str, start: &str) -> Vec<String> {
    let words = words::split(line);
    let command = words.first().and_then(|name| find(name));
    let flags = command.map_or(&[][..], |command| command.flags);
    flags
        .iter()
        .filter(|flag| flag.name.starts_with(start))
        .map(|flag| format!("-{}", flag.name))
        .collect()
}

/// The word that a line ends in.
#[derive(Debug, PartialEq, Eq)]
struct LastWord<'a> {
    /// Where it begins, its quote included.
    start: usize,
    /// The quote that it begins with and that is still open.
    quote: Option<char>,
    text: &'a str,
}

impl LastWord<'_> {
    /// `text` in the word's place: quoted where it must be.
    fn quoted(&self, text: &str) -> String {
        let blanks = text.trim_end().contains(is_blank);
        match self.quote {
            Some(quote) => format!("{quote}{text}"),
            None if blanks && text.contains('"') => format!("'{text}'"),
            None if blanks => format!("\"{text}\""),
            None => text.to_owned(),
        }
    }
}

fn last_word(line: &str) -> LastWord<'_> {
    let mut at = 0;
    loop {
        let blanks = line[at..].len() - line[at..].trim_start_matches(is_blank).len();
        let start = at + blanks;
        let rest = &line[start..];
        let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''));
        let text = quote.map_or(rest, |_| &rest[1..]);
        let end = match quote {
            Some(quote) => text.find(quote).map(|end| end + 1),
            None => text.find(is_blank),
        };
        match end {
            None => return LastWord { start, quote, text },
            Some(end) => at = line.len() - text.len() + end,
        }
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        _default: bool,
    ) -> Cow<'b, str> {
        let connected = self.client.state().is_connected();
        let colour = if connected { Colour::Green } else { Colour::Red };
        self.out.paint(colour, prompt).into()
    }
}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_may_be_quoted_or_empty() {
        let word = |line| {
            let LastWord { start, quote, text } = last_word(line);
            (start, quote, text)
        };
        assert_eq!(word("get /a"), (4, None, "/a"));
        assert_eq!(word("get "), (4, None, ""));
        assert_eq!(word(""), (0, None, ""));
        assert_eq!(word("set \"/a b\" '/c d"), (11, Some('\''), "/c d"));
        assert_eq!(word("set \"/a b\""), (10, None, ""));
    }

    #[test]
    fn a_path_with_blanks_is_quoted() {
        let quoted = |line, text| last_word(line).quoted(text);
        assert_eq!(quoted("get /", "/a b"), "\"/a b\"");
        assert_eq!(quoted("get /", "/a \"b"), "'/a \"b'");
        assert_eq!(quoted("get '/", "/a b"), "'/a b");
        assert_eq!(quoted("get /", "/ab"), "/ab");
        assert_eq!(quoted("cr", "create "), "create ");
    }

    #[test]
    fn options_are_those_of_the_command() {
        assert_eq!(options("setAcl -", ""), ["-s", "-v", "-R"]);
        assert_eq!(options("reconfig -m", "m"), ["-members"]);
        assert_eq!(options("nothing -", ""), Vec::<String>::new());
    }
}
