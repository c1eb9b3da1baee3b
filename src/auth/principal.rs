//! Names of the schemes `sasl` and `x509`, as far as an ACL may hold them.

/// Whether `name` is a Kerberos name as ZooKeeper takes it: `primary[/instance]@REALM`, or anything
/// at all without an `@`.
pub(super) fn is_kerberos_name(name: &str) -> bool {
    let Some((principal, realm)) = name.split_once('@') else { return true };
    let instance = principal.split_once('/').map(|(_, instance)| instance);
    !realm.contains(['/', '@']) && !instance.is_some_and(|instance| instance.contains('/'))
}

/// The attributes that a distinguished name may have by name; others have a dotted number.
const KEYWORDS: [&str; 20] = [
    "CN",
    "C",
    "L",
    "S",
    "ST",
    "O",
    "OU",
    "T",
    "IP",
    "STREET",
    "DC",
    "DNQUALIFIER",
    "DNQ",
    "SURNAME",
    "GIVENNAME",
    "INITIALS",
    "GENERATION",
    "EMAILADDRESS",
    "UID",
    "SERIALNUMBER",
];

/// Whether `name` is a distinguished name as `X500Principal` of a JVM takes it: attributes
/// separated by `,`, `;` or `+`, each a keyword or number, `=`, and a value that may be quoted,
/// escaped or, behind `#`, hexadecimal. The empty name is one.
pub(super) fn is_distinguished_name(name: &str) -> bool {
    if name.is_empty() {
        return true;
    }
    let Some(mut rest) = attribute(name) else { return false };
    while let Some(next) = rest.strip_prefix([',', ';', '+']) {
        match attribute(next) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

/// What is behind the attribute at the start of `text`: nothing, or a separator and more.
fn attribute(text: &str) -> Option<&str> {
    let (keyword, value) = text.split_once('=')?;
    let keyword = keyword.trim();
    let known = KEYWORDS.iter().any(|known| known.eq_ignore_ascii_case(keyword));
    if !known && !is_object_id(keyword) {
        return None;
    }
    let value = value.trim_start_matches([' ', '\n']);
    if let Some(hex) = value.strip_prefix('#') {
        return hexadecimal(hex);
    }
    if let Some(quoted) = value.strip_prefix('"') {
        let rest = behind_quote(quoted)?.trim_start_matches([' ', '\n']);
        return (rest.is_empty() || rest.starts_with([',', ';', '+'])).then_some(rest);
    }
    plain(value)
}

/// `1.2.3`, or `OID.1.2.3`: at least two numbers; the first is 0, 1 or 2, and below 2 the second is
/// less than 40.
fn is_object_id(text: &str) -> bool {
    let (head, tail) = text.split_at_checked(4).unwrap_or(("", text));
    let numbers = if head.eq_ignore_ascii_case("OID.") { tail } else { text };
    let parsed: Option<Vec<u32>> = numbers
        .split('.')
        .map(|part| part.parse().ok().filter(|_| part.bytes().all(|it| it.is_ascii_digit())))
        .collect();
    match parsed.as_deref() {
        Some([first, second, ..]) => *first <= 2 && (*first == 2 || *second < 40),
        _ => false,
    }
}

/// A DER value in hexadecimal: a tag, a length of one byte, and as many bytes. What is behind it.
fn hexadecimal(text: &str) -> Option<&str> {
    let digits = text.find([',', ';', '+']).unwrap_or(text.len());
    let (value, rest) = text.split_at(digits);
    let value = value.trim_end_matches([' ', '\n']);
    let hex = value.len() >= 4 && value.bytes().all(|digit| digit.is_ascii_hexdigit());
    let length = hex.then(|| usize::from_str_radix(&value[2..4], 16).ok())??;
    (length < 0x80 && value.len() == 4 + 2 * length).then_some(rest)
}

/// What is behind the quote that ends a quoted value.
fn behind_quote(text: &str) -> Option<&str> {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(&text[at + 1..]),
            '\\' => escaped(&mut characters)?,
            _ => {}
        }
    }
    None
}

/// What is behind a value without quotes.
fn plain(text: &str) -> Option<&str> {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ',' | ';' | '+' => return Some(&text[at..]),
            '"' | '<' | '>' => return None,
            '\\' => escaped(&mut characters)?,
            _ => {}
        }
    }
    Some("")
}

/// What a backslash may stand before: a special character, or two hexadecimal digits.
fn escaped(characters: &mut std::str::CharIndices<'_>) -> Option<()> {
    let (_, first) = characters.next()?;
    if first.is_ascii_hexdigit() {
        let (_, second) = characters.next()?;
        return second.is_ascii_hexdigit().then_some(());
    }
    ",+<>;\"\\ #=".contains(first).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kerberos_names_are_what_zookeeper_takes_for_one() {
        for name in ["alice", "a/b", "a@R", "a/b@R", "", "@", "@R", "/", "a/b/c", "a b"] {
            assert!(is_kerberos_name(name), "{name}");
        }
        for name in ["a@b@c", "a/b/c@R", "a@b/c"] {
            assert!(!is_kerberos_name(name), "{name}");
        }
    }

    /// As `new X500Principal` of OpenJDK 17 answered.
    #[test]
    fn distinguished_names_are_what_a_jvm_takes_for_one() {
        for name in [
            "",
            "CN=a",
            "CN=",
            "C=",
            "1.2.3=a",
            "OID.1.2.3=a",
            "oid.1.2.3=a",
            "2.100.3=a",
            "cn=a,ou=b+o=c",
            "CN=\"a,b\"",
            "CN=a\\,b",
            "CN=a\\c3\\a4",
            "CN=a;O=b",
            "EMAILADDRESS=x@y",
            "UID=1,DC=x",
            "CN=#0401aa",
            "CN=a\nb",
            " CN = a ",
            "CN=a=b",
            "CN=a#b",
            "C=DEU",
            "CN=\u{e4}",
            "SERIALNUMBER=1",
        ] {
            assert!(is_distinguished_name(name), "{name}");
        }
        for name in [
            "foo",
            "CN",
            "XX=a",
            "E=x",
            "TITLE=x",
            "=a",
            "CN=a,",
            ",CN=a",
            "CN=a,,O=b",
            "CN=a+",
            "CN=#0401",
            "CN=#04",
            "CN=#zz",
            "CN=#",
            "CN=a\\zz",
            "CN=a\\",
            "CN=\"a",
            "CN=\"a\"b",
            "CN=a\"",
            "CN=<a>",
            "1=a",
            "1.2.=a",
            "1.50.3=a",
            "3.1=a",
        ] {
            assert!(!is_distinguished_name(name), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_name_harms(name in "(CN|1.2|o)?=?[\\\\\"#,;+=a0-9\u{e4}]{0,20}") {
            let _ = is_distinguished_name(&name);
            let _ = is_kerberos_name(&name);
        }
    }
}
