//! What reads: ls, ls2, get, stat, sync, getEphemerals, getAllChildrenNumber.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringkeeper::client::error::ClientError;
use ringkeeper::client::operations::Client;
use ringkeeper::jute::error_code::ErrorCode;

use crate::shell::failure::Failure;
use crate::shell::hexdump;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;
use crate::shell::output;

use super::table::{self, Command};

/// `ls [-s] [-w] [-R] path`
pub fn list(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let said = |text: fn(&Command) -> String| table::find("ls").map(text).unwrap_or_default();
    if parsed.has("?") {
        return Ok(shell.out.line(said(Command::description))?);
    }
    let path = parsed.words.first().ok_or_else(|| Failure::Usage(said(Command::synopsis)))?;
    let watch = wants_watch(shell, parsed, "ls", "ls [-w] path");
    if parsed.has("R") {
        let mut out = Ok(());
        visit(shell.client()?, path, watch, &mut |path| {
            if out.is_ok() {
                out = shell.out.line(path);
            }
            out.is_ok()
        })?;
        return Ok(out?);
    }
    let (mut children, stat) = shell.client()?.get_children(path, watch)?;
    children.sort();
    shell.out.line(output::list(&children))?;
    if parsed.has("s") {
        shell.out.stat(&stat)?;
    }
    Ok(())
}

/// `ls2 path [watch]`, an old name of `ls -s`
pub fn list2(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    shell.out.remark("'ls2' has been deprecated. Please use 'ls [-s] path' instead.");
    let watch = parsed.words.len() > 1;
    let (mut children, stat) = shell.client()?.get_children(&parsed.words[0], watch)?;
    children.sort();
    shell.out.line(output::list(&children))?;
    Ok(shell.out.stat(&stat)?)
}

/// `get [-s] [-w] [-b] [-x] path`
pub fn get(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let watch = wants_watch(shell, parsed, "get", "get [-s] [-w] path");
    let (data, stat) = shell.client()?.get_data(&parsed.words[0], watch)?;
    let data = data.unwrap_or_else(|| b"null".to_vec());
    if parsed.has("x") {
        shell.out.line(hexdump::table(&data))?;
    } else if parsed.has("b") {
        shell.out.line(STANDARD.encode(&data))?;
    } else {
        shell.out.data(&data)?;
    }
    if parsed.has("s") {
        shell.out.stat(&stat)?;
    }
    Ok(())
}

/// `stat [-w] path`
pub fn stat(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let watch = wants_watch(shell, parsed, "stat", "stat [-w] path");
    let path = &parsed.words[0];
    let stat = shell.client()?.exists(path, watch)?.ok_or_else(|| ClientError::Refused {
        code: ErrorCode::NoNode.code(),
        path: path.clone(),
    })?;
    Ok(shell.out.stat(&stat)?)
}

/// `sync path`
pub fn sync(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    shell.client()?.sync(&parsed.words[0])?;
    Ok(shell.out.line("Sync is OK")?)
}

/// `getEphemerals [path]`
pub fn get_ephemerals(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let path = parsed.words.first().map_or("/", String::as_str);
    let mut found = shell.client()?.get_ephemerals(path)?;
    found.sort();
    Ok(shell.out.line(output::list(&found))?)
}

/// `getAllChildrenNumber path`
pub fn get_all_children_number(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let number = shell.client()?.get_all_children_number(&parsed.words[0])?;
    Ok(shell.out.line(number)?)
}

/// Whether a watch is asked for: by `-w`, or by any word behind the path, as it was long ago.
fn wants_watch(shell: &Interpreter, parsed: &Parsed, name: &str, instead: &str) -> bool {
    let old = parsed.words.len() > 1;
    if old {
        shell.out.remark(format_args!(
            "'{name} path [watch]' has been deprecated. Please use '{instead}' instead."
        ));
    }
    old || parsed.has("w")
}

/// Calls `each` with `path` and everything below: a znode's children in order, then what is below
/// the first of them, and so on. A znode that is deleted meanwhile is passed over. Stops when
/// `each` says false.
///
/// # Errors
/// What the server says to reading `path`, or to listing anything below for another reason.
pub fn visit(
    client: &Client,
    path: &str,
    watch: bool,
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<(), ClientError> {
    client.get_data(path, watch)?;
    if !each(path) {
        return Ok(());
    }
    let mut waiting = vec![path.to_owned()];
    while let Some(parent) = waiting.pop() {
        let mut children = match client.get_children(&parent, watch) {
            Ok((children, _)) => children,
            Err(error) if error.code() == Some(ErrorCode::NoNode) => continue,
            Err(error) => return Err(error),
        };
        children.sort();
        let paths: Vec<_> = children.iter().map(|name| child(&parent, name)).collect();
        if !paths.iter().all(|path| each(path)) {
            return Ok(());
        }
        waiting.extend(paths.into_iter().rev());
    }
    Ok(())
}

/// The path of child `name` of `parent`.
pub fn child(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}
