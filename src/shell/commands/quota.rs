//! Quotas: setquota, listquota, delquota. A quota is a znode below `/zookeeper/quota`, next to the
//! statistics that the server keeps of the znodes it is for.

use std::collections::BTreeMap;
use std::fmt;

use ringkeeper::client::error::ClientError;
use ringkeeper::client::operations::{Client, CreateMode};
use ringkeeper::jute::error_code::ErrorCode;

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;

use super::access::open_to_everybody;
use super::read::{child, visit};

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

const COUNT: &str = "count";
const BYTES: &str = "bytes";
const COUNT_HARD: &str = "countHardLimit";
const BYTES_HARD: &str = "byteHardLimit";

/// Which field each option means.
const FIELDS: [(&str, &str); 4] =
    [("n", COUNT), ("b", BYTES), ("N", COUNT_HARD), ("B", BYTES_HARD)];

/// Limits or statistics as they are stored: `count=5,bytes=-1=;byteHardLimit=-1`. -1 is no limit.
/// ZooKeeper before 3.7 knows the first two fields alone; the `=` behind them hides the others
/// from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track(BTreeMap<String, i64>);

impl Track {
    /// Reads what is stored.
    fn parse(data: &[u8]) -> Result<Track, Failure> {
        let text = String::from_utf8_lossy(data);
        let mut fields = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let (name, value) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let value = if value.is_empty() { Ok(-1) } else { value.parse() };
            let value =
                value.map_err(|_| Failure::Refused(format!("the quota '{text}' is damaged")))?;
            fields.insert(name.to_owned(), value);
        }
        Ok(Track(fields))
    }

    fn get(&self, field: &str) -> i64 {
        self.0.get(field).copied().unwrap_or(-1)
    }

    fn set(&mut self, field: &str, value: i64) {
        self.0.insert(field.to_owned(), value);
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.get(COUNT), self.get(BYTES))?;
        let others = self.0.iter().filter(|(name, _)| *name != COUNT && *name != BYTES);
        for (place, (name, value)) in others.enumerate() {
            let hidden = if place == 0 { "=" } else { "" };
            write!(f, "{hidden};{name}={value}")?;
        }
        Ok(())
    }
}

/// `setquota -n|-b|-N|-B val path`
pub fn set_quota(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    refuse_chroot(shell)?;
    let path = &parsed.words[0];
    if path.starts_with(ROOT) {
        return Err(Failure::Refused(format!("cannot set a quota under the path: {ROOT}")));
    }
    let wanted = wanted(parsed)?;
    let client = shell.client()?;
    if client.exists(path, false)?.is_none() {
        return Err(Failure::Refused(format!("{path} does not exist.")));
    }
    check_below(client, path)?;
    check_above(client, path)?;
    let (limits, stats) = (limits_path(path), stats_path(path));
    let quota = if client.exists(&limits, false)?.is_some() {
        let mut quota = read(client, &limits)?;
        wanted.iter().for_each(|(field, value)| quota.set(field, *value));
        client.set_data(&limits, Some(quota.to_string().as_bytes()), -1)?;
        quota
    } else {
        create_folders(client, &format!("{ROOT}{path}"))?;
        let mut quota = Track::default();
        FIELDS.iter().for_each(|(_, field)| quota.set(field, -1));
        wanted.iter().for_each(|(field, value)| quota.set(field, *value));
        create(client, &limits, Some(quota.to_string().as_bytes()))?;
        let mut nothing = Track::default();
        nothing.set(COUNT, 0);
        nothing.set(BYTES, 0);
        create(client, &stats, Some(nothing.to_string().as_bytes()))?;
        quota
    };
    warn(shell, &quota, &read(shell.client()?, &stats)?)
}

/// The limits that the options name.
fn wanted(parsed: &Parsed) -> Result<Vec<(&'static str, i64)>, Failure> {
    let refused = |why: &str| Err(Failure::Argument(why.to_owned()));
    let mut wanted = Vec::new();
    for (option, field) in FIELDS {
        let Some(text) = parsed.value(option) else { continue };
        let of_count = field == COUNT || field == COUNT_HARD;
        let value = if of_count { text.parse::<i32>().map(i64::from) } else { text.parse() };
        match value {
            Err(_) => {
                return refused("NumberFormatException happens when parsing the option value");
            }
            Ok(..=0) if of_count => return refused("the num quota must be greater than zero"),
            Ok(..0) => {
                return refused("the bytes quota must be greater than or equal to zero");
            }
            Ok(value) => wanted.push((field, value)),
        }
    }
    Ok(wanted)
}

/// `listquota path`
pub fn list_quota(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    refuse_chroot(shell)?;
    let path = &parsed.words[0];
    shell.out.remark(format_args!("absolute path is {}", limits_path(path)));
    let client = shell.client()?;
    let quota = read(client, &limits_path(path)).map_err(|error| no_quota(error, path))?;
    let stats = read(client, &stats_path(path)).map_err(|error| no_quota(error, path))?;
    shell.out.line(format_args!("Output quota for {path} {quota}"))?;
    Ok(shell.out.line(format_args!("Output stat for {path} {stats}"))?)
}

fn no_quota(failure: Failure, path: &str) -> Failure {
    match failure {
        Failure::Client(error) if error.code() == Some(ErrorCode::NoNode) => {
            Failure::Refused(format!("quota for {path} does not exist."))
        }
        other => other,
    }
}

/// `delquota [-n|-b|-N|-B] path`
pub fn delete_quota(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    refuse_chroot(shell)?;
    let path = &parsed.words[0];
    let limits = limits_path(path);
    let client = shell.client()?;
    if client.exists(&limits, false)?.is_none() {
        return Ok(shell.out.line(format_args!("Quota does not exist for {path}"))?);
    }
    let mut quota = read(client, &limits).map_err(|error| no_quota(error, path))?;
    let fields: Vec<_> = FIELDS.iter().filter(|(option, _)| parsed.has(option)).collect();
    if !fields.is_empty() {
        fields.iter().for_each(|(_, field)| quota.set(field, -1));
        client.set_data(&limits, Some(quota.to_string().as_bytes()), -1)?;
        return Ok(());
    }
    let mut folder = format!("{ROOT}{path}");
    for name in client.get_children(&folder, false)?.0 {
        client.delete(&child(&folder, &name), -1)?;
    }
    // Folders above that are for no other quota go, too.
    while folder != ROOT && client.get_children(&folder, false)?.0.is_empty() {
        client.delete(&folder, -1)?;
        let parent = folder.rsplit_once('/').map_or(ROOT, |(parent, _)| parent).to_owned();
        folder = parent;
    }
    Ok(())
}

/// The server looks for quotas at the paths that it knows, not at those behind a chroot.
fn refuse_chroot(shell: &Interpreter) -> Result<(), Failure> {
    if shell.has_chroot() {
        return Err(Failure::Refused("quotas cannot be reached behind a chroot".to_owned()));
    }
    Ok(())
}

fn limits_path(path: &str) -> String {
    format!("{ROOT}{path}/{LIMITS}")
}

fn stats_path(path: &str) -> String {
    format!("{ROOT}{path}/{STATS}")
}

fn read(client: &Client, path: &str) -> Result<Track, Failure> {
    Track::parse(&client.get_data(path, false)?.0.unwrap_or_default())
}

fn create(client: &Client, path: &str, data: Option<&[u8]>) -> Result<(), ClientError> {
    client.create(path, data, &open_to_everybody(), CreateMode::Persistent).map(drop)
}

/// Creates `path` and what is missing above.
fn create_folders(client: &Client, path: &str) -> Result<(), ClientError> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    for end in ends {
        match create(client, &path[..end], None) {
            Err(error) if error.code() == Some(ErrorCode::NodeExists) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Refuses a quota above another one.
fn check_below(client: &Client, path: &str) -> Result<(), Failure> {
    let own = format!("{ROOT}{path}");
    let mut found = None;
    let visited = visit(client, &own, false, &mut |below| {
        let quota = below.strip_suffix(LIMITS).and_then(|rest| rest.strip_suffix('/'));
        found = quota.filter(|folder| *folder != own).map(str::to_owned);
        found.is_none()
    });
    match visited {
        Err(error) if error.code() == Some(ErrorCode::NoNode) => {}
        other => other?,
    }
    found.map_or(Ok(()), |folder| {
        let below = &folder[ROOT.len()..];
        Err(Failure::Refused(format!("{path} has a child {below} which has a quota")))
    })
}

/// Refuses a quota below another one.
fn check_above(client: &Client, path: &str) -> Result<(), Failure> {
    for (end, _) in path.match_indices('/').skip(1) {
        let above = &path[..end];
        if client.exists(&limits_path(above), false)?.is_some() {
            let why = format!("{path} has a parent {above} which has a quota");
            return Err(Failure::Refused(why));
        }
    }
    Ok(())
}

/// Says so when there is more than the quota allows already.
fn warn(shell: &Interpreter, quota: &Track, stats: &Track) -> Result<(), Failure> {
    for (name, limits) in [(COUNT, [COUNT, COUNT_HARD]), (BYTES, [BYTES, BYTES_HARD])] {
        let there = stats.get(name);
        let below = |limit: &str| (0..there).contains(&quota.get(limit));
        if limits.into_iter().any(below) {
            shell.out.line(format_args!(
                "[Warning]: the {name} quota you create is less than the existing {name}:{there}"
            ))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_so_that_old_servers_read_them() {
        let mut quota = Track::default();
        quota.set(COUNT, 5);
        assert_eq!(quota.to_string(), "count=5,bytes=-1");
        quota.set(COUNT_HARD, 7);
        quota.set(BYTES_HARD, -1);
        assert_eq!(quota.to_string(), "count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=7");
    }

    #[test]
    fn what_was_written_reads_the_same() {
        for text in ["count=5,bytes=-1", "count=0,bytes=9=;byteHardLimit=-1;countHardLimit=7"] {
            assert_eq!(Track::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(Track::parse(b"").unwrap(), Track::default());
        assert!(Track::parse(b"count=many").is_err());
    }
}
