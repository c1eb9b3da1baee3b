//! What the shell prints: results on standard output, remarks and errors on standard error, with
//! colours on a terminal alone.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use ringkeeper::admin::date::java_date;
use ringkeeper::jute::records::{Acl, Stat};

/// Where and how is printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Standard output is a terminal.
    pub terminal: bool,
    /// Colours are wanted there.
    pub colours: bool,
}

/// A colour's escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Cyan => "36",
        }
    }

    /// `text` in this colour.
    pub fn paint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }
}

impl Output {
    /// As the process was started: colours on a terminal that knows them, unless NO_COLOR is set.
    pub fn detect() -> Output {
        let terminal = io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Output { terminal, colours: terminal && !unwanted && !dumb }
    }

    /// `text` in `colour`, where colours are wanted.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if self.colours { colour.paint(text) } else { text.to_owned() }
    }

    /// Prints a line of a result.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn line(&self, text: impl Display) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Prints a remark or an error. When nobody reads those, there is nobody to tell.
    pub fn remark(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Prints an error.
    pub fn error(&self, text: impl Display) {
        let text = text.to_string();
        let coloured = self.colours && io::stderr().is_terminal();
        self.remark(if coloured { Colour::Red.paint(&text) } else { text });
    }

    /// Prints a znode's data and a newline: to a terminal as text that cannot take it over, and
    /// as it is to everything else.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn data(&self, data: &[u8]) -> io::Result<()> {
        if self.terminal {
            return self.line(harmless(data));
        }
        let mut out = io::stdout().lock();
        out.write_all(data)?;
        out.write_all(b"\n")
    }

    /// Prints a Stat.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn stat(&self, stat: &Stat) -> io::Result<()> {
        for (name, value) in stat_fields(stat) {
            self.line(format_args!("{} = {value}", self.paint(Colour::Cyan, name)))?;
        }
        Ok(())
    }
}

/// The fields of a Stat in the order and form of `zkCli.sh`; times are UTC.
fn stat_fields(stat: &Stat) -> [(&'static str, String); 11] {
    let date = |ms: i64| java_date(u64::try_from(ms).unwrap_or(0));
    [
        ("cZxid", format!("{:#x}", stat.czxid)),
        ("ctime", date(stat.ctime)),
        ("mZxid", format!("{:#x}", stat.mzxid)),
        ("mtime", date(stat.mtime)),
        ("pZxid", format!("{:#x}", stat.pzxid)),
        ("cversion", stat.cversion.to_string()),
        ("dataVersion", stat.version.to_string()),
        ("aclVersion", stat.aversion.to_string()),
        ("ephemeralOwner", format!("{:#x}", stat.ephemeral_owner)),
        ("dataLength", stat.data_length.to_string()),
        ("numChildren", stat.num_children.to_string()),
    ]
}

/// Data as text without control characters, which could rewrite a terminal's screen or its
/// keyboard's meaning; lines and tabs stay.
fn harmless(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len());
    for character in String::from_utf8_lossy(data).chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// Names as Java prints a list: `[a, b]`.
pub fn list(names: &[String]) -> String {
    format!("[{}]", names.join(", "))
}

/// An ACL entry as `getAcl` prints it, in two lines.
pub fn acl_entry(acl: &Acl) -> String {
    format!("'{},'{}\n: {}", acl.id.scheme, acl.id.id, permissions(acl.perms))
}

/// Permissions as letters, in ZooKeeper's order.
fn permissions(perms: i32) -> String {
    [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')]
        .iter()
        .filter(|(bit, _)| perms & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkeeper::jute::records::Id;

    #[test]
    fn a_stat_reads_as_in_zkcli() {
        let stat = Stat {
            czxid: 2,
            ctime: 1_795_213_260_000,
            mzxid: -1,
            ephemeral_owner: 0x1000,
            ..Stat::default()
        };
        let lines: Vec<_> =
            stat_fields(&stat).iter().map(|(name, value)| format!("{name} = {value}")).collect();
        assert_eq!(lines[0], "cZxid = 0x2");
        assert_eq!(lines[1], "ctime = Fri Nov 20 22:21:00 UTC 2026");
        assert_eq!(lines[2], "mZxid = 0xffffffffffffffff");
        assert_eq!(lines[8], "ephemeralOwner = 0x1000");
    }

    #[test]
    fn an_acl_entry_reads_as_in_zkcli() {
        let id = Id { scheme: "world".into(), id: "anyone".into() };
        assert_eq!(acl_entry(&Acl { perms: 31, id: id.clone() }), "'world,'anyone\n: cdrwa");
        assert_eq!(acl_entry(&Acl { perms: 1, id }), "'world,'anyone\n: r");
    }

    #[test]
    fn data_cannot_take_over_a_terminal() {
        assert_eq!(harmless(b"a\x1b[2Jb\n\tc\r\xff"), "a\\u{1b}[2Jb\n\tc\\r\u{fffd}");
    }
}
