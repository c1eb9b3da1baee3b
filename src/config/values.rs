//! The entries of one configuration, taken out key by key as typed values.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::{ConfigError, Notice, Place};
use super::properties::Entry;
use crate::admin::word::{FourLetterWord, Whitelist};

/// A configuration's entries that nobody has taken yet, and the notices so far.
#[derive(Debug)]
pub struct Values {
    file: PathBuf,
    entries: BTreeMap<String, Given>,
    /// The keys that were asked for, given or not.
    known: Vec<&'static str>,
    pub notices: Vec<Notice>,
}

/// One value as it was given.
#[derive(Clone, Debug)]
pub struct Given {
    pub text: String,
    pub line: usize,
}

impl Values {
    /// The entries of `file`. Of entries with one key the last counts, as in ZooKeeper.
    pub fn new(file: &Path, entries: Vec<Entry>) -> Values {
        let file = file.to_owned();
        let mut values =
            Values { file, entries: BTreeMap::new(), known: Vec::new(), notices: Vec::new() };
        for Entry { line, key, value } in entries {
            // ZooKeeper cuts white space off keys as well, which escapes can have put there.
            let key = key.trim().to_owned();
            let place = values.place(line);
            if let Some(earlier) = values.entries.insert(key.clone(), Given { text: value, line }) {
                values.notices.push(Notice::Twice { place, key, earlier: earlier.line });
            }
        }
        values
    }

    /// The file that the entries are from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A line of the file.
    pub fn place(&self, line: usize) -> Place {
        Place::Line { file: self.file.clone(), line }
    }

    /// The keys that were asked for so far.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// The value of `key`, as it was given.
    pub fn text(&mut self, key: &'static str) -> Option<Given> {
        self.known.push(key);
        self.entries.remove(key)
    }

    /// The line of `key`, if it is given and not taken yet.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.entries.get(key).map(|given| given.line)
    }

    /// The entries whose keys begin with `prefix`, by what follows it.
    pub fn family(&mut self, prefix: &str) -> Vec<(String, Given)> {
        let mut family = Vec::new();
        self.entries.retain(|key, given| match key.strip_prefix(prefix) {
            Some(rest) if !rest.is_empty() => {
                family.push((rest.to_owned(), given.clone()));
                false
            }
            _ => true,
        });
        family
    }

    /// The first key of which `is_it` holds, of those that nobody has taken.
    pub fn first(&self, is_it: impl Fn(&str) -> bool) -> Option<String> {
        self.entries.keys().find(|key| is_it(key)).cloned()
    }

    /// What nobody has asked for.
    pub fn rest(&mut self) -> Vec<(String, Given)> {
        std::mem::take(&mut self.entries).into_iter().collect()
    }

    /// The error that `given` is not what `key` takes.
    pub fn wrong(&self, key: &str, given: &Given, expected: impl Into<String>) -> ConfigError {
        ConfigError::WrongValue {
            place: self.place(given.line),
            key: key.to_owned(),
            given: given.text.clone(),
            expected: expected.into(),
        }
    }

    /// A whole number of `unit` in `range`; none if the key is not given.
    pub fn number<T>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
        unit: &str,
    ) -> Result<Option<T>, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(given) = self.text(key) else { return Ok(None) };
        match given.text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected =
                    format!("a whole number of {unit} from {} to {}", range.start(), range.end());
                Err(self.wrong(key, &given, expected))
            }
        }
    }

    /// As `number`, of type u32, where 0 and -1 mean that there is no limit.
    pub fn limit(
        &mut self,
        key: &'static str,
        default: u32,
        unit: &str,
    ) -> Result<Option<NonZeroU32>, ConfigError> {
        let number = self.number(key, -1..=i64::from(i32::MAX), unit)?;
        let limit = number.map_or(default, |number| u32::try_from(number).unwrap_or(0));
        Ok(NonZeroU32::new(limit))
    }

    /// One of two words; `default` if the key is not given.
    pub fn choice(
        &mut self,
        key: &'static str,
        [off, on]: [&str; 2],
        default: bool,
    ) -> Result<bool, ConfigError> {
        let Some(given) = self.text(key) else { return Ok(default) };
        match &given.text {
            text if text.eq_ignore_ascii_case(on) => Ok(true),
            text if text.eq_ignore_ascii_case(off) => Ok(false),
            _ => Err(self.wrong(key, &given, format!("{on} or {off}"))),
        }
    }

    /// The path of a directory; none if the key is not given.
    pub fn directory(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(given) = self.text(key) else { return Ok(None) };
        if given.text.is_empty() || given.text.contains('\0') {
            return Err(self.wrong(key, &given, "the path of a directory"));
        }
        Ok(Some(PathBuf::from(given.text)))
    }

    /// `4lw.commands.whitelist`. A word that ZooKeeper does not have is refused: it would never be
    /// executed.
    pub fn whitelist(&mut self, key: &'static str) -> Result<Whitelist, ConfigError> {
        let mut whitelist = Whitelist::SRVR;
        let Some(given) = self.text(key) else { return Ok(whitelist) };
        for name in given.text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                return Ok(Whitelist::ALL);
            }
            match FourLetterWord::ALL.into_iter().find(|word| word.name() == name) {
                Some(word) => whitelist = whitelist.with(word),
                None => {
                    let names: Vec<_> =
                        FourLetterWord::ALL.into_iter().map(FourLetterWord::name).collect();
                    let expected =
                        format!("* or some of {}, separated by commas", names.join(", "));
                    return Err(self.wrong(key, &given, expected));
                }
            }
        }
        Ok(whitelist)
    }
}
