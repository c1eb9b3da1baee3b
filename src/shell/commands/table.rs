//! Every command with its usage, its options and its function.

use std::ops::RangeInclusive;

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::{Choice, Flag, Parsed, flag, value};

use super::{access, conversation, ensemble, quota, read, watch, write};

/// A command.
pub struct Command {
    pub name: &'static str,
    /// What stands behind the name, as `zkCli.sh` describes it.
    pub usage: &'static str,
    pub flags: &'static [Flag],
    pub choice: Choice,
    /// How many words may stand beside the options.
    pub words: RangeInclusive<usize>,
    /// What it does.
    pub run: fn(&mut Interpreter, &Parsed) -> Result<(), Failure>,
}

impl Command {
    /// Name and usage in one line.
    pub fn synopsis(&self) -> String {
        format!("{} {}", self.name, self.usage).trim_end().to_owned()
    }

    /// The synopsis and a line for every option.
    pub fn description(&self) -> String {
        let mut text = self.synopsis();
        for flag in self.flags {
            let name = format!("-{}{}", flag.name, if flag.takes_value { " <arg>" } else { "" });
            text.push_str(&format!("\n  {name:<14} {}", flag.about));
        }
        text
    }
}

/// The command `name`.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

const MANY: usize = usize::MAX;

const ADD_WATCH_USAGE: &str = "[-m mode] path # optional mode is one of [PERSISTENT, \
                               PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE";
const RECONFIG_USAGE: &str = "[-s] [-v version] [[-file path] | [-members \
                              serverID=host:port1:port2;port3[,...]*]] | [-add \
                              serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]";

const WATCH: Flag = flag("w", "watch it");
const STAT: Flag = flag("s", "print the Stat, too");
const VERSION: Flag = value("v", "only if it has this version");
const LIST: &[Flag] =
    &[flag("?", "describe the command"), STAT, WATCH, flag("R", "everything below, too")];
const CONFIG: &[Flag] = &[flag("c", "where clients connect, alone"), WATCH, STAT];
const SET: &[Flag] = &[STAT, VERSION, flag("b", "the data is base64")];
const SET_ACL: &[Flag] = &[STAT, VERSION, flag("R", "everything below, too")];
const QUOTAS: &[Flag] = &[
    flag("n", "num soft quota"),
    flag("b", "bytes soft quota"),
    flag("N", "num hard quota"),
    flag("B", "bytes hard quota"),
];
const QUOTA_VALUES: &[Flag] = &[
    value("n", "num soft quota"),
    value("b", "bytes soft quota"),
    value("N", "num hard quota"),
    value("B", "bytes hard quota"),
];
const CREATE: &[Flag] = &[
    flag("e", "ephemeral: goes with this session"),
    flag("s", "sequential: a number is appended"),
    flag("c", "container: goes after its last child"),
    value("t", "goes when unchanged and childless for so many milliseconds"),
];
const GET: &[Flag] = &[STAT, WATCH, flag("b", "data in base64"), flag("x", "data as a hex dump")];
const REMOVE: &[Flag] = &[
    flag("c", "watches on children"),
    flag("d", "watches on data"),
    flag("p", "persistent watches"),
    flag("r", "persistent recursive watches"),
    flag("a", "all of them"),
    flag("l", "forget them here if the server cannot be reached"),
];
const RECONFIG: &[Flag] = &[
    STAT,
    value("v", "only if the configuration has this version (hexadecimal)"),
    value("file", "a file with the new members"),
    value("members", "the new members"),
    value("add", "members to add"),
    value("remove", "ids of members to remove"),
];

/// A command without options.
const fn command(
    name: &'static str,
    usage: &'static str,
    words: RangeInclusive<usize>,
    run: fn(&mut Interpreter, &Parsed) -> Result<(), Failure>,
) -> Command {
    Command { name, usage, flags: &[], choice: Choice::Any, words, run }
}

impl Command {
    /// With options, any of them.
    const fn taking(self, flags: &'static [Flag]) -> Command {
        self.choosing(Choice::Any, flags)
    }

    /// With options, so many of them.
    const fn choosing(self, choice: Choice, flags: &'static [Flag]) -> Command {
        Command { flags, choice, ..self }
    }
}

/// Every command, by name.
pub const COMMANDS: &[Command] = &[
    command("addWatch", ADD_WATCH_USAGE, 1..=1, watch::add_watch).taking(&[value("m", "mode")]),
    command("addauth", "scheme auth", 1..=2, access::add_auth),
    command("close", "", 0..=MANY, conversation::close),
    command("config", "[-c] [-w] [-s]", 0..=MANY, ensemble::config).taking(CONFIG),
    command("connect", "host:port", 0..=MANY, conversation::connect),
    command("create", "[-s] [-e] [-c] [-t ttl] path [data] [acl]", 1..=3, write::create)
        .taking(CREATE),
    command("delete", "[-v version] path", 1..=2, write::delete).taking(&[VERSION]),
    command("deleteall", "path [-b batch size]", 1..=1, write::delete_all)
        .taking(&[value("b", "znodes in one transaction")]),
    command("delquota", "[-n|-b|-N|-B] path", 1..=1, quota::delete_quota)
        .choosing(Choice::AtMostOne, QUOTAS),
    command("exit", "", 0..=MANY, conversation::quit),
    command("get", "[-s] [-w] [-b] [-x] path", 1..=2, read::get).taking(GET),
    command("getAcl", "[-s] path", 1..=1, access::get_acl).taking(&[STAT]),
    command("getAllChildrenNumber", "path", 1..=1, read::get_all_children_number),
    command("getEphemerals", "path", 0..=1, read::get_ephemerals),
    command("help", "[command]", 0..=1, conversation::help),
    command("history", "", 0..=MANY, conversation::history),
    command("listquota", "path", 1..=1, quota::list_quota),
    command("ls", "[-s] [-w] [-R] path", 0..=2, read::list).taking(LIST),
    command("ls2", "path [watch]", 1..=2, read::list2),
    command("printwatches", "on|off", 0..=1, watch::print_watches),
    command("quit", "", 0..=MANY, conversation::quit),
    command("reconfig", RECONFIG_USAGE, 0..=0, ensemble::reconfigure).taking(RECONFIG),
    command("redo", "cmdno", 1..=1, conversation::redo),
    command("removewatches", "path [-c|-d|-a] [-l]", 1..=1, watch::remove_watches).taking(REMOVE),
    command("rmr", "path", 1..=1, write::remove_recursively),
    command("set", "path data [-s] [-v version] [-b]", 2..=2, write::set).taking(SET),
    command("setAcl", "[-s] [-v version] [-R] path acl", 2..=2, access::set_acl).taking(SET_ACL),
    command("setquota", "-n|-b|-N|-B val path", 1..=1, quota::set_quota)
        .choosing(Choice::ExactlyOne, QUOTA_VALUES),
    command("stat", "[-w] path", 1..=2, read::stat).taking(&[WATCH]),
    command("sync", "path", 1..=1, read::sync),
    command("version", "", 0..=0, conversation::version),
    command("whoami", "", 0..=MANY, access::who_am_i),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_and_have_each_name_once() {
        assert!(COMMANDS.is_sorted_by(|one, next| one.name < next.name));
    }

    #[test]
    fn a_description_has_the_usage_and_every_option() {
        let text = find("delete").unwrap().description();
        assert_eq!(text, "delete [-v version] path\n  -v <arg>       only if it has this version");
        assert_eq!(find("close").unwrap().synopsis(), "close");
        assert!(find("close ").is_none());
    }
}
