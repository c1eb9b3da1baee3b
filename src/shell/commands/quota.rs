//! Quotas: setquota, listquota, delquota. A quota is a znode below `/zookeeper/quota`, next to the
//! statistics that the server keeps of the znodes it is for.

use ringkeeper::client::error::ClientError;
use ringkeeper::client::operations::{Client, CreateMode};
use ringkeeper::jute::error_code::ErrorCode;
use ringkeeper::tree::QuotaText;

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
    let before = match client.exists(&limits, false)? {
        Some(_) => Some(client.get_data(&limits, false)?.0),
        None => None,
    };
    let mut quota = match &before {
        Some(data) => parse(data)?,
        None => {
            let mut none = QuotaText::default();
            FIELDS.iter().for_each(|(_, field)| none.set(field, -1));
            none
        }
    };
    wanted.iter().for_each(|(field, value)| quota.set(field, *value));
    let text = quota.to_string();
    if before.is_some() {
        client.set_data(&limits, Some(text.as_bytes()), -1)?;
    } else {
        create_folders(client, &format!("{ROOT}{path}"))?;
        create(client, &limits, Some(text.as_bytes()))?;
        create(client, &stats, Some(QuotaText::of(0, 0).to_string().as_bytes()))?;
    }
    let counted = client.get_data(&stats, false)?.0;
    warn(shell, &quota, &parse(&counted)?)
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
    let read = |at: String| client.get_data(&at, false).map_err(|error| no_quota(error, path));
    let (quota, stats) = (read(limits_path(path))?.0, read(stats_path(path))?.0);
    let (quota, stats) = (parse(&quota)?, parse(&stats)?);
    shell.out.line(format_args!("Output quota for {path} {quota}"))?;
    Ok(shell.out.line(format_args!("Output stat for {path} {stats}"))?)
}

fn no_quota(error: ClientError, path: &str) -> Failure {
    match error.code() {
        Some(ErrorCode::NoNode) => Failure::Refused(format!("quota for {path} does not exist.")),
        _ => error.into(),
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
    let data = client.get_data(&limits, false).map_err(|error| no_quota(error, path))?.0;
    let mut quota = parse(&data)?;
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

/// Limits or counts as they are stored.
fn parse(data: &Option<Vec<u8>>) -> Result<QuotaText<'_>, Failure> {
    let damaged = || Failure::Refused("what is stored of the quota cannot be read".to_owned());
    QuotaText::parse(Some(data.as_deref().unwrap_or_default())).ok_or_else(damaged)
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
fn warn(shell: &Interpreter, quota: &QuotaText, counted: &QuotaText) -> Result<(), Failure> {
    let counts = ("count", [quota.count(), quota.count_hard_limit()], counted.count());
    let bytes = ("bytes", [quota.bytes(), quota.byte_hard_limit()], counted.bytes());
    for (name, limits, there) in [counts, bytes] {
        if limits.iter().any(|limit| (0..there).contains(limit)) {
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
    use crate::shell::commands::table::find;
    use crate::shell::options;

    fn wanted_by(line: &str) -> Result<Vec<(&'static str, i64)>, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let command = find("setquota").unwrap();
        let parsed = options::parse(command.flags, command.choice, &words).unwrap();
        wanted(&parsed).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_option_names_the_limit_that_it_sets() {
        assert_eq!(wanted_by("-n 5 /a"), Ok(vec![("count", 5)]));
        assert_eq!(wanted_by("-b 0 /a"), Ok(vec![("bytes", 0)]));
        assert_eq!(wanted_by("-N 5 /a"), Ok(vec![("countHardLimit", 5)]));
        assert_eq!(wanted_by("-B 99999999999 /a"), Ok(vec![("byteHardLimit", 99_999_999_999)]));
    }

    #[test]
    fn a_limit_that_is_none_is_refused() {
        for line in ["-n 0 /a", "-n x /a", "-N -3 /a", "-b -1 /a", "-n 99999999999 /a"] {
            assert!(wanted_by(line).is_err(), "{line}");
        }
    }
}
