//! The four-letter words, and which of them the operator allows.

use std::fmt;

/// A command of four ASCII letters, sent first and alone on a fresh connection. Read as the length
/// of a frame, each would be above a gigabyte, so it cannot be mistaken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FourLetterWord {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    Wchc,
    Wchp,
    Wchs,
}

impl FourLetterWord {
    /// All that ZooKeeper has.
    pub const ALL: [FourLetterWord; 18] = [
        FourLetterWord::Conf,
        FourLetterWord::Cons,
        FourLetterWord::Crst,
        FourLetterWord::Dirs,
        FourLetterWord::Dump,
        FourLetterWord::Envi,
        FourLetterWord::Gtmk,
        FourLetterWord::Hash,
        FourLetterWord::Isro,
        FourLetterWord::Mntr,
        FourLetterWord::Ruok,
        FourLetterWord::Srst,
        FourLetterWord::Srvr,
        FourLetterWord::Stat,
        FourLetterWord::Stmk,
        FourLetterWord::Wchc,
        FourLetterWord::Wchp,
        FourLetterWord::Wchs,
    ];

    /// The word that these first bytes of a connection are, if they are one.
    pub fn from_bytes(bytes: [u8; 4]) -> Option<FourLetterWord> {
        FourLetterWord::ALL.into_iter().find(|word| word.name().as_bytes() == bytes)
    }

    /// Its letters.
    pub const fn name(self) -> &'static str {
        match self {
            FourLetterWord::Conf => "conf",
            FourLetterWord::Cons => "cons",
            FourLetterWord::Crst => "crst",
            FourLetterWord::Dirs => "dirs",
            FourLetterWord::Dump => "dump",
            FourLetterWord::Envi => "envi",
            FourLetterWord::Gtmk => "gtmk",
            FourLetterWord::Hash => "hash",
            FourLetterWord::Isro => "isro",
            FourLetterWord::Mntr => "mntr",
            FourLetterWord::Ruok => "ruok",
            FourLetterWord::Srst => "srst",
            FourLetterWord::Srvr => "srvr",
            FourLetterWord::Stat => "stat",
            FourLetterWord::Stmk => "stmk",
            FourLetterWord::Wchc => "wchc",
            FourLetterWord::Wchp => "wchp",
            FourLetterWord::Wchs => "wchs",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A word as a client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub word: FourLetterWord,
    /// The eight bytes behind `stmk`, if as many came with it.
    pub mask: Option<i64>,
}

impl Question {
    /// What these first bytes of a connection ask, if they are a four-letter word. Bytes behind
    /// it count for `stmk` alone.
    pub fn from_bytes(bytes: &[u8]) -> Option<Question> {
        let (first, rest) = bytes.split_first_chunk()?;
        let word = FourLetterWord::from_bytes(*first)?;
        let mask = rest.first_chunk().filter(|_| word == FourLetterWord::Stmk);
        Some(Question { word, mask: mask.copied().map(i64::from_be_bytes) })
    }
}

impl From<FourLetterWord> for Question {
    fn from(word: FourLetterWord) -> Question {
        Question { word, mask: None }
    }
}

impl fmt::Display for FourLetterWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The words that are executed: `4lw.commands.whitelist`. `srvr` always is, as in ZooKeeper, whose
/// own scripts depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whitelist(u32);

impl Whitelist {
    /// Only `srvr`: what a configuration without the key allows.
    pub const SRVR: Whitelist = Whitelist(FourLetterWord::Srvr.bit());

    /// Every word: `*`.
    pub const ALL: Whitelist = Whitelist((1 << FourLetterWord::ALL.len()) - 1);

    /// `self` and `word`.
    pub const fn with(self, word: FourLetterWord) -> Whitelist {
        Whitelist(self.0 | word.bit())
    }

    /// Whether `word` is executed.
    pub const fn allows(self, word: FourLetterWord) -> bool {
        self.0 & word.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_by_its_bytes() {
        for word in FourLetterWord::ALL {
            let bytes = word.name().as_bytes().try_into().unwrap();
            assert_eq!(FourLetterWord::from_bytes(bytes), Some(word));
        }
        assert_eq!(FourLetterWord::from_bytes(*b"RUOK"), None);
        assert_eq!(FourLetterWord::from_bytes([0, 0, 0, 44]), None);
    }

    #[test]
    fn only_stmk_takes_the_bytes_behind_it() {
        let ask = |bytes: &[u8]| Question::from_bytes(bytes);
        assert_eq!(ask(b"ruok\n12345678"), Some(FourLetterWord::Ruok.into()));
        let masked = Question { word: FourLetterWord::Stmk, mask: Some(306) };
        assert_eq!(ask(b"stmk\0\0\0\0\0\0\x01\x32more"), Some(masked));
        assert_eq!(ask(b"stmk\0\0\0"), Some(FourLetterWord::Stmk.into()));
        assert_eq!(ask(b"stm"), None);
    }

    #[test]
    fn srvr_needs_no_permission_and_others_do() {
        assert!(Whitelist::SRVR.allows(FourLetterWord::Srvr));
        assert!(!Whitelist::SRVR.allows(FourLetterWord::Ruok));
        assert!(Whitelist::SRVR.with(FourLetterWord::Ruok).allows(FourLetterWord::Ruok));
        assert!(FourLetterWord::ALL.into_iter().all(|word| Whitelist::ALL.allows(word)));
    }
}
