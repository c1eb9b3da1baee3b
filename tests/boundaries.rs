//! The boundaries that the design leans on, checked against the sources: where `unsafe` may stand,
//! who may know the runtime, and that the protocol core reaches no clock, socket or file.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `folder`, with its path relative to the repository.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// The lines of `text` that are code, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.starts_with("//"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let allowed = |name: &str| {
        ["src/rt/", "src/tree/znode/"].iter().any(|folder| name.starts_with(folder))
            || ["slab", "index", "znode", "acl_table", "history", "versions"]
                .iter()
                .any(|file| name == format!("src/tree/{file}.rs"))
    };
    for (name, text) in sources("src") {
        if allowed(&name) {
            continue;
        }
        for (number, line) in code(&text) {
            assert!(!has_word(line, "unsafe"), "{name}:{number}: unsafe code: {line}");
        }
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for (name, text) in sources("src") {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") || line.contains("unsafe impl");
            if line.starts_with("//") || !opens {
                continue;
            }
            let explained = lines[..index]
                .iter()
                .rev()
                .take(12)
                .take_while(|above| !above.is_empty())
                .any(|above| above.contains("// SAFETY:"));
            assert!(explained, "{name}:{}: an unsafe block without its reason", index + 1);
        }
    }
}

#[test]
fn the_runtime_is_named_in_rt_alone() {
    for (name, text) in sources("src") {
        if name.starts_with("src/rt/") {
            continue;
        }
        for (number, line) in code(&text) {
            for word in ["glommio", "io_uring", "libc"] {
                assert!(!line.contains(&format!("{word}::")), "{name}:{number}: {line}");
            }
        }
    }
}

#[test]
fn the_protocol_core_reaches_no_clock_socket_or_file() {
    let forbidden =
        ["std::time", "std::net", "std::fs", "std::io", "async", "RefCell", "crate::rt", "Instant"];
    for (name, text) in sources("src/zab") {
        for (number, line) in code(&text) {
            for word in forbidden {
                assert!(!line.contains(word), "{name}:{number}: {word}: {line}");
            }
        }
    }
}
