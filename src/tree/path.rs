//! The rules for paths, and taking them apart. Pure; called wherever a path is made or split.

use std::fmt::Write;

use thiserror::Error;

/// What is wrong with a path, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path does not begin with /")]
    NoLeadingSlash,
    #[error("the path ends with /")]
    TrailingSlash,
    #[error("an empty component at byte {at}")]
    EmptyComponent { at: usize },
    #[error("a relative component (. or ..) at byte {at}")]
    RelativeComponent { at: usize },
    #[error("the character {character:?} at byte {at} may not stand in a path")]
    BadCharacter { character: char, at: usize },
}

/// Checks `path` by the rules of ZooKeeper's `PathUtils.validatePath`. The root `/` is valid.
///
/// # Errors
/// The first rule that is broken, from the left.
pub fn validate(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if !path.starts_with('/') {
        return Err(PathError::NoLeadingSlash);
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    let mut start = 1;
    for (at, byte) in path.bytes().enumerate().skip(1) {
        match byte {
            b'/' => {
                check_component(&path[start..at], start)?;
                start = at + 1;
            }
            0x20..=0x7e => {}
            // Continuation bytes belong to a character that was checked at its first byte.
            0x80..=0xbf => {}
            _ => check_character(path, at)?,
        }
    }
    check_component(&path[start..], start)
}

fn check_component(component: &str, at: usize) -> Result<(), PathError> {
    match component {
        "" => Err(PathError::EmptyComponent { at }),
        "." | ".." => Err(PathError::RelativeComponent { at }),
        _ => Ok(()),
    }
}

/// Refuses control characters, private use, what Java writes as surrogates (all beyond U+FFFF),
/// and U+FFF0 to U+FFFF.
fn check_character(path: &str, at: usize) -> Result<(), PathError> {
    let Some(character) = path[at..].chars().next() else { return Ok(()) };
    match character {
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'.. => {
            Err(PathError::BadCharacter { character, at })
        }
        _ => Ok(()),
    }
}

/// The parent's path and the last component: `/a/b` is `/a` and `b`, `/a` is `/` and `a`. None for
/// the root, and for what does not begin with a slash.
pub fn split(path: &str) -> Option<(&str, &str)> {
    if !path.starts_with('/') || path.len() == 1 {
        return None;
    }
    let (parent, name) = path.rsplit_once('/')?;
    Some((if parent.is_empty() { "/" } else { parent }, name))
}

/// The parent's path, as `split` has it.
pub fn parent(path: &str) -> Option<&str> {
    split(path).map(|(parent, _)| parent)
}

/// The last component, as `split` has it.
pub fn name(path: &str) -> Option<&str> {
    split(path).map(|(_, name)| name)
}

/// Appends the suffix of a sequential znode: `counter` is the parent's stored cversion before the
/// creation. At least ten characters, as Java's `%010d` writes them.
pub fn append_sequence(path: &mut String, counter: i32) {
    write!(path, "{counter:010}").expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_valid() {
        for path in ["/", "/a", "/a/b", "/a.b/..c/...", "/lock-0000000001", "/é/日本", "/a b"] {
            assert_eq!(validate(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn each_rule_names_itself_and_the_place() {
        assert_eq!(validate(""), Err(PathError::Empty));
        assert_eq!(validate("a"), Err(PathError::NoLeadingSlash));
        assert_eq!(validate("/a/"), Err(PathError::TrailingSlash));
        assert_eq!(validate("//"), Err(PathError::TrailingSlash));
        assert_eq!(validate("/a//b"), Err(PathError::EmptyComponent { at: 3 }));
        assert_eq!(validate("//b"), Err(PathError::EmptyComponent { at: 1 }));
        assert_eq!(validate("/a/./b"), Err(PathError::RelativeComponent { at: 3 }));
        assert_eq!(validate("/.."), Err(PathError::RelativeComponent { at: 1 }));
        for character in ['\0', '\n', '\u{7f}', '\u{85}', '\u{e000}', '\u{fff0}', '😀'] {
            let path = format!("/a{character}");
            assert_eq!(validate(&path), Err(PathError::BadCharacter { character, at: 2 }));
        }
    }

    #[test]
    fn characters_next_to_the_forbidden_ranges_are_valid() {
        for character in [' ', '~', '\u{a0}', '\u{d7ff}', '\u{f900}', '\u{ffef}'] {
            assert_eq!(validate(&format!("/{character}")), Ok(()), "{character:?}");
        }
    }

    #[test]
    fn a_path_splits_into_its_parent_and_its_name() {
        assert_eq!(split("/a/b/c"), Some(("/a/b", "c")));
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/c//d"), Some(("/c/", "d")));
        assert_eq!(split("/"), None);
        assert_eq!(split(""), None);
        assert_eq!(split("a/b"), None);
    }

    #[test]
    fn a_sequence_suffix_has_ten_digits_and_a_negative_one_keeps_its_sign() {
        for (counter, suffix) in [
            (0, "0000000000"),
            (42, "0000000042"),
            (i32::MAX, "2147483647"),
            (-5, "-000000005"),
            (i32::MIN, "-2147483648"),
        ] {
            let mut path = String::from("/lock-");
            append_sequence(&mut path, counter);
            assert_eq!(path, format!("/lock-{suffix}"));
        }
    }
}
