//! The ensemble: config, reconfig.

use std::fs;

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;

/// `config [-c] [-w] [-s]`
pub fn config(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let (data, stat) = shell.client()?.get_config(parsed.has("w"))?;
    let data = data.unwrap_or_else(|| b"null".to_vec());
    if parsed.has("c") {
        shell.out.line(for_clients(&String::from_utf8_lossy(&data)))?;
    } else {
        shell.out.data(&data)?;
    }
    if parsed.has("s") {
        shell.out.stat(&stat)?;
    }
    Ok(())
}

/// The version of a configuration and where clients connect.
fn for_clients(config: &str) -> String {
    let entries = || config.lines().filter_map(|line| line.trim().split_once('='));
    let mut version = entries().filter(|(key, _)| *key == "version").map(|(_, value)| value.trim());
    let servers = entries()
        .filter(|(key, _)| key.starts_with("server."))
        .filter_map(|(_, value)| value.rsplit_once(';'))
        .map(|(_, client)| client.trim())
        .map(|client| {
            // A port alone is one on every address.
            if client.contains(':') { client.to_owned() } else { format!("0.0.0.0:{client}") }
        });
    let servers: Vec<_> = servers.collect();
    format!("{} {}", version.next_back().unwrap_or(""), servers.join(","))
}

/// `reconfig [-s] [-v version] [-file path | -members list] | [-add list] [-remove list]`
pub fn reconfigure(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let (whole, parts) = (["file", "members"], ["add", "remove"]);
    let any = |names: &[&str]| names.iter().any(|name| parsed.has(name));
    if !any(&whole) && !any(&parts) {
        let usage = super::table::find("reconfig").map(super::table::Command::synopsis);
        return Err(Failure::Usage(usage.unwrap_or_default()));
    }
    let version = match parsed.value("v") {
        None => -1,
        Some(text) => i64::from_str_radix(text, 16).map_err(|_| {
            Failure::Argument("-v must be followed by a long (configuration version)".into())
        })?,
    };
    if any(&whole) && any(&parts) {
        let why = "Can't use -file or -members together with -add or -remove (mixing incremental \
                   and non-incremental modes is not allowed)";
        return Err(Failure::Argument(why.into()));
    }
    if parsed.has("file") && parsed.has("members") {
        let why = "Can't use -file and -members together (conflicting non-incremental modes)";
        return Err(Failure::Argument(why.into()));
    }
    let lower = |name| parsed.value(name).map(str::to_lowercase);
    let members = match parsed.value("file") {
        Some(file) => Some(read_members(file)?),
        None => lower("members"),
    };
    let (joining, leaving) = (lower("add"), lower("remove"));
    let (data, stat) = shell.client()?.reconfigure(joining, leaving, members, version)?;
    shell.out.line("Committed new configuration:")?;
    shell.out.data(&data.unwrap_or_default())?;
    if parsed.has("s") {
        shell.out.stat(&stat)?;
    }
    Ok(())
}

/// The members that a configuration file names, a line each.
fn read_members(file: &str) -> Result<String, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::Argument(format!("Error processing {file}: {error}")))?;
    let servers: Vec<_> =
        text.lines().map(str::trim).filter(|line| line.starts_with("server.")).collect();
    Ok(servers.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_for_clients_is_its_version_and_their_addresses() {
        let config = "server.1=a:1:2:participant;10.0.0.1:2181\nserver.2=b:1:2;2182\nversion=1f";
        assert_eq!(for_clients(config), "1f 10.0.0.1:2181,0.0.0.0:2182");
        assert_eq!(for_clients(""), " ");
    }
}
