//! What writes: create, set, delete, deleteall, rmr.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringkeeper::client::deletion::Deletion;
use ringkeeper::client::error::ClientError;
use ringkeeper::client::operations::{Client, CreateMode};
use ringkeeper::tree::TTL_MS_MAX;

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;

use super::access;
use super::read::child;

/// Znodes that `deleteall` deletes in one transaction unless told otherwise, as `zkCli.sh`.
const BATCH_DEFAULT: i32 = 1000;

/// Bytes of paths in one transaction of `deleteall`: it must stay below every `jute.maxbuffer`.
const BATCH_PATH_BYTES_MAX: usize = 512 << 10;

/// Transactions of `deleteall` in flight, as in `zkCli.sh`.
const BATCHES_IN_FLIGHT_MAX: usize = 10;

/// `create [-s] [-e] [-c] [-t ttl] path [data] [acl]`
pub fn create(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let mode = create_mode(parsed)?;
    let data = parsed.words.get(1).map(String::as_bytes);
    let acl = match parsed.words.get(2) {
        Some(text) => access::parse_acl(text)?,
        None => access::open_to_everybody(),
    };
    let created = shell.client()?.create(&parsed.words[0], data, &acl, mode)?;
    Ok(shell.out.line(format_args!("Created {created}"))?)
}

fn create_mode(parsed: &Parsed) -> Result<CreateMode, Failure> {
    let refused = |why: &str| Err(Failure::Argument(why.to_owned()));
    let (ephemeral, sequential, container) = (parsed.has("e"), parsed.has("s"), parsed.has("c"));
    if container && (ephemeral || sequential) {
        return refused(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        );
    }
    let Some(text) = parsed.value("t") else {
        return Ok(match (ephemeral, sequential) {
            (true, true) => CreateMode::EphemeralSequential,
            (true, false) => CreateMode::Ephemeral,
            (false, true) => CreateMode::PersistentSequential,
            (false, false) if container => CreateMode::Container,
            (false, false) => CreateMode::Persistent,
        });
    };
    let Ok(ttl) = text.parse::<i64>() else {
        return refused("-t argument must be a long value");
    };
    if ephemeral {
        return refused("TTLs cannot be used with Ephemeral znodes");
    }
    if container {
        return refused("TTLs cannot be used with Container znodes");
    }
    if !(1..=TTL_MS_MAX).contains(&ttl) {
        return refused(&format!("ttl must be positive and cannot be larger than: {TTL_MS_MAX}"));
    }
    Ok(if sequential { CreateMode::SequentialTtl(ttl) } else { CreateMode::Ttl(ttl) })
}

/// `set path data [-s] [-v version] [-b]`
pub fn set(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let version = version(parsed)?;
    let data = if parsed.has("b") {
        STANDARD
            .decode(&parsed.words[1])
            .map_err(|error| Failure::Argument(format!("the data is not base64: {error}")))?
    } else {
        parsed.words[1].clone().into_bytes()
    };
    let stat = shell.client()?.set_data(&parsed.words[0], Some(&data), version)?;
    if parsed.has("s") {
        shell.out.stat(&stat)?;
    }
    Ok(())
}

/// `delete [-v version] path`
pub fn delete(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let mut expected = version(parsed)?;
    if let Some(text) = parsed.words.get(1) {
        shell.out.remark(
            "'delete path [version]' has been deprecated. \
             Please use 'delete [-v version] path' instead.",
        );
        expected = parse_version(text)?;
    }
    Ok(shell.client()?.delete(&parsed.words[0], expected)?)
}

/// The value of `-v`; any version without.
pub fn version(parsed: &Parsed) -> Result<i32, Failure> {
    parsed.value("v").map_or(Ok(-1), parse_version)
}

fn parse_version(text: &str) -> Result<i32, Failure> {
    text.parse().map_err(|_| Failure::Argument("-v argument must be an int value".into()))
}

/// `deleteall path [-b batch size]`
pub fn delete_all(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let batch = match parsed.value("b") {
        Some(text) => text
            .parse()
            .map_err(|_| Failure::Argument("-b argument must be an int value".into()))?,
        None => BATCH_DEFAULT,
    };
    let client = shell.client()?;
    let tree = subtree(client, &parsed.words[0])?;
    let Ok(batch @ 1..) = usize::try_from(batch) else {
        for path in tree.iter().rev() {
            client.delete(path, -1)?;
        }
        return Ok(());
    };
    if let Err(error) = delete_in_batches(client, &tree, batch) {
        if error.is_of_connection() {
            return Err(error.into());
        }
        shell.out.remark(Failure::from(error));
        let why = "Failed to delete some node(s) in the subtree!";
        return Err(Failure::Refused(why.to_owned()));
    }
    Ok(())
}

/// `rmr path`, an old name of `deleteall`
pub fn remove_recursively(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    shell.out.remark("The command 'rmr' has been deprecated. Please use 'deleteall' instead.");
    delete_all(shell, parsed)
}

/// `path` and everything below, parents first.
fn subtree(client: &Client, path: &str) -> Result<Vec<String>, ClientError> {
    let mut tree = vec![path.to_owned()];
    let mut next = 0;
    while let Some(parent) = tree.get(next).cloned() {
        let (children, _) = client.get_children(&parent, false)?;
        tree.extend(children.iter().map(|name| child(&parent, name)));
        next += 1;
    }
    Ok(tree)
}

/// Deletes `tree` from its end. What stands before the first error is deleted in whole batches.
fn delete_in_batches(client: &Client, tree: &[String], batch: usize) -> Result<(), ClientError> {
    let mut in_flight: VecDeque<Deletion> = VecDeque::new();
    let mut left: Vec<&String> = tree.iter().collect();
    while !left.is_empty() {
        let mut paths: Vec<String> = Vec::new();
        let mut bytes = 0;
        while paths.len() < batch
            && bytes < BATCH_PATH_BYTES_MAX
            && let Some(path) = left.pop()
        {
            bytes += path.len();
            paths.push(path.clone());
        }
        if in_flight.len() == BATCHES_IN_FLIGHT_MAX
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.wait()?;
        }
        in_flight.push_back(client.start_deleting(&paths)?);
    }
    in_flight.into_iter().try_for_each(Deletion::wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::commands::table::find;
    use crate::shell::options;

    fn mode(line: &str) -> Result<CreateMode, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let command = find("create").unwrap();
        let parsed = options::parse(command.flags, command.choice, &words).unwrap();
        create_mode(&parsed).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_kind_of_znode_has_its_options() {
        assert_eq!(mode("/a"), Ok(CreateMode::Persistent));
        assert_eq!(mode("-s /a"), Ok(CreateMode::PersistentSequential));
        assert_eq!(mode("-e /a"), Ok(CreateMode::Ephemeral));
        assert_eq!(mode("-es /a"), Ok(CreateMode::EphemeralSequential));
        assert_eq!(mode("-c /a"), Ok(CreateMode::Container));
        assert_eq!(mode("-t 5 /a"), Ok(CreateMode::Ttl(5)));
        assert_eq!(mode("-s -t 5 /a"), Ok(CreateMode::SequentialTtl(5)));
    }

    #[test]
    fn kinds_that_exclude_each_other_are_refused() {
        for (line, start) in [
            ("-c -e /a", "-c cannot be combined"),
            ("-c -s /a", "-c cannot be combined"),
            ("-t x /a", "-t argument must be a long value"),
            ("-t 5 -e /a", "TTLs cannot be used with Ephemeral"),
            ("-t 5 -c /a", "TTLs cannot be used with Container"),
            ("-t 0 /a", "ttl must be positive and cannot be larger than: 1099511627775"),
            ("-t 1099511627776 /a", "ttl must be positive"),
        ] {
            let refused = mode(line).unwrap_err();
            assert!(refused.starts_with(start), "{line}: {refused}");
        }
    }
}
