//! Who may do what, and who is here: getAcl, setAcl, addauth, whoami.

use ringkeeper::jute::records::{Acl, Id};

use crate::shell::failure::Failure;
use crate::shell::interpreter::Interpreter;
use crate::shell::options::Parsed;
use crate::shell::output;

use super::read::visit;
use super::write::version;

/// Every permission.
const ALL: i32 = 31;

/// `getAcl [-s] path`
pub fn get_acl(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let (acl, stat) = shell.client()?.get_acl(&parsed.words[0])?;
    for entry in &acl {
        shell.out.line(output::acl_entry(entry))?;
    }
    if parsed.has("s") {
        shell.out.stat(&stat)?;
    }
    Ok(())
}

/// `setAcl [-s] [-v version] [-R] path acl`
pub fn set_acl(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let path = &parsed.words[0];
    let acl = parse_acl(&parsed.words[1])?;
    let version = version(parsed)?;
    let client = shell.client()?;
    if !parsed.has("R") {
        let stat = client.set_acl(path, &acl, version)?;
        return if parsed.has("s") { Ok(shell.out.stat(&stat)?) } else { Ok(()) };
    }
    let mut failed = 0;
    visit(client, path, false, &mut |path| {
        if let Err(error) = client.set_acl(path, &acl, version) {
            shell.out.remark(Failure::from(error));
            failed += 1;
        }
        true
    })?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Refused(format!("{failed} znode(s) kept their ACL"))),
    }
}

/// `addauth scheme [auth]`
pub fn add_auth(shell: &mut Interpreter, parsed: &Parsed) -> Result<(), Failure> {
    let auth = parsed.words.get(1).map(String::as_bytes);
    Ok(shell.client()?.add_auth(&parsed.words[0], auth)?)
}

/// `whoami`
pub fn who_am_i(shell: &mut Interpreter, _: &Parsed) -> Result<(), Failure> {
    let ids = shell.client()?.who_am_i()?;
    shell.out.line("Auth scheme: User")?;
    for id in ids {
        shell.out.line(format_args!("{}: {}", id.auth_scheme, id.user))?;
    }
    Ok(())
}

/// The ACL of a znode that everybody may do everything with.
pub fn open_to_everybody() -> Vec<Acl> {
    vec![Acl { perms: ALL, id: Id { scheme: "world".into(), id: "anyone".into() } }]
}

/// An ACL written as `scheme:id:perms[,…]`; the id may hold colons.
///
/// # Errors
/// What does not read so. Nothing of such a list may take effect: a mistyped letter would lock
/// somebody out, or leave a znode more open than meant.
pub fn parse_acl(text: &str) -> Result<Vec<Acl>, Failure> {
    text.split(',').map(parse_entry).collect()
}

fn parse_entry(text: &str) -> Result<Acl, Failure> {
    let parts = text.split_once(':').and_then(|(scheme, rest)| {
        let (id, perms) = rest.rsplit_once(':')?;
        Some((scheme, id, perms))
    });
    let Some((scheme, id, letters)) = parts else {
        return Err(Failure::Argument(format!("{text} does not have the form scheme:id:perm")));
    };
    let mut perms = 0;
    for letter in letters.chars() {
        perms |= match letter {
            'r' => 1,
            'w' => 2,
            'c' => 4,
            'd' => 8,
            'a' => 16,
            _ => return Err(Failure::Argument(format!("Unknown perm type: {letter}"))),
        };
    }
    Ok(Acl { perms, id: Id { scheme: scheme.into(), id: id.into() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_is_entries_of_three_parts() {
        let acl = parse_acl("world:anyone:r,digest:u:x/y=:cdrwa,ip:::1:w").unwrap();
        let read: Vec<_> =
            acl.iter().map(|a| (a.id.scheme.as_str(), a.id.id.as_str(), a.perms)).collect();
        assert_eq!(read, [("world", "anyone", 1), ("digest", "u:x/y=", 31), ("ip", "::1", 2)]);
        assert_eq!(parse_acl("auth::r").unwrap()[0].id.id, "");
    }

    #[test]
    fn a_list_with_a_wrong_entry_is_refused_whole() {
        let refused = |text| parse_acl(text).unwrap_err().to_string();
        assert_eq!(refused("world:anyone:r,foo"), "foo does not have the form scheme:id:perm");
        assert_eq!(refused("world:anyone"), "world:anyone does not have the form scheme:id:perm");
        assert_eq!(refused("world:anyone:rx"), "Unknown perm type: x");
    }
}
