//! The words of which scripts are made: few enough that sessions meet at the same znodes, wrong
//! ones among them.

use harness::rng::Rng;

use crate::request::{Acl, Data};

/// Chooses one.
pub fn one<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[usize::try_from(rng.below(from.len() as u64)).expect("an index")]
}

/// Chooses one by weight; the weights must not all be 0.
pub fn weighted<T: Copy>(rng: &mut Rng, from: &[(u64, T)]) -> T {
    let mut left = rng.below(from.iter().map(|(weight, _)| weight).sum());
    for (weight, item) in from {
        if left < *weight {
            return *item;
        }
        left -= weight;
    }
    unreachable!("the weights were summed")
}

/// Places below the script's root.
const PLACES: [&str; 14] = [
    "",
    "/a",
    "/a",
    "/b",
    "/b",
    "/c",
    "/a/x",
    "/a/x",
    "/a/y",
    "/b/x",
    "/a/x/deep",
    "/q",
    "/q/n-0000000000",
    "/q/n-0000000001",
];

/// Where nothing may be, or nothing is as elsewhere. `R` stands for the root.
const ODD_PLACES: [&str; 33] = [
    "",
    "/",
    "//",
    "nope",
    "R/",
    "R//a",
    "R/./a",
    "R/../b",
    "R/.",
    "R/a\0",
    "R/a\0b",
    "R/\u{1}",
    "R/\u{7f}",
    "R/\u{9f}",
    "R/\u{a0}",
    "R/\u{d7ff}",
    "R/\u{e000}",
    "R/\u{f8ff}",
    "R/\u{f900}",
    "R/\u{fff0}",
    "R/\u{1f600}",
    "R/ü",
    "R/中",
    "R/a/",
    "R/a/x/",
    "/zookeeper",
    "/zookeeper/quota",
    "/zookeeper/config",
    "/zookeeper/quotaR",
    "/zookeeper/quotaR/a",
    "/zookeeper/quotaR/a/zookeeper_limits",
    "/zookeeper/quotaR/a/zookeeper_stats",
    "R/a b",
];

/// A path, most of the time one that makes sense.
pub fn path(rng: &mut Rng, root: &str) -> String {
    if rng.chance(1, 14) {
        return one(rng, &ODD_PLACES).replace('R', root);
    }
    format!("{root}{}", one(rng, &PLACES))
}

/// A path below the root that makes sense.
pub fn place(rng: &mut Rng, root: &str) -> String {
    format!("{root}{}", one(rng, &PLACES))
}

/// A path for something new; sequential ones may end in `/`.
pub fn new_path(rng: &mut Rng, root: &str, is_sequential: bool) -> String {
    if is_sequential && !rng.chance(1, 14) {
        let prefixes = ["/q/n-", "/q/n-", "/q/", "/a/s", "/a/x/", "/s", "/b/"];
        return format!("{root}{}", one(rng, &prefixes));
    }
    path(rng, root)
}

/// A version to expect: mostly any.
pub fn version(rng: &mut Rng) -> i32 {
    weighted(
        rng,
        &[(24, -1), (8, 0), (6, 1), (3, 2), (1, 3), (1, -2), (1, i32::MAX), (1, i32::MIN)],
    )
}

/// Data of a znode; once in a while so much that it fits a frame just so, or not at all.
pub fn data(rng: &mut Rng) -> Data {
    let length = if rng.chance(1, 400) {
        Some(*one(rng, &[500_000, 1_048_400, 1_048_500, 1_048_550, 1_048_600]))
    } else {
        weighted(rng, &[(2, None), (3, Some(0)), (8, Some(1)), (4, Some(20)), (1, Some(3000))])
    };
    Data(length.map(|length| vec![b'a' + u8::try_from(rng.below(26)).expect("a letter"); length]))
}

/// The text of a quota's limits.
pub fn limits(rng: &mut Rng) -> Data {
    let texts = [
        "count=3,bytes=-1",
        "count=1,bytes=10",
        "count=-1,bytes=-1=;byteHardLimit=30;countHardLimit=-1",
        "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=3",
        "count=2,bytes=20=;byteHardLimit=40;countHardLimit=4",
        "count=2",
    ];
    Data(Some(one(rng, &texts).as_bytes().to_vec()))
}

/// Who may authenticate: what to send, and the id that it makes.
const IDENTITIES: [(&str, &str); 3] = [
    ("bob:secret", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0="),
    ("eve:pw", "eve:tPVS62yQF/M0lNvU6mzotOuRJxo="),
    ("super:ringkeeper", "super:8FvaNKAk7uM6qi3MXAVApu3TnDA="),
];

/// A scheme and what to authenticate with.
pub fn auth(rng: &mut Rng) -> (String, Data) {
    if rng.chance(1, 12) {
        let odd: [(&str, Option<&str>); 8] = [
            ("digest", Some("")),
            ("digest", Some("nocolon")),
            ("digest", Some("a:b:c")),
            ("ip", Some("")),
            ("ip", Some("10.0.0.1")),
            ("world", Some("anyone")),
            ("nonesuch", Some("x")),
            ("", Some("")),
        ];
        let (scheme, auth) = *one(rng, &odd);
        return (scheme.to_owned(), Data(auth.map(|auth| auth.as_bytes().to_vec())));
    }
    let known = weighted(rng, &[(6, 0), (4, 1), (1, 2)]);
    ("digest".to_owned(), Data(Some(IDENTITIES[known].0.as_bytes().to_vec())))
}

/// An access control list. Lists that keep somebody out appear where `is_strict`.
pub fn acl(rng: &mut Rng, is_strict: bool) -> Option<Vec<Acl>> {
    if !is_strict || rng.chance(1, 2) {
        return Some(Acl::open());
    }
    if rng.chance(1, 40) {
        return None;
    }
    let count = weighted(rng, &[(1, 0), (20, 1), (10, 2), (3, 3)]);
    let mut list: Vec<Acl> = (0..count).map(|_| entry(rng)).collect();
    if rng.chance(1, 12)
        && let Some(first) = list.first().cloned()
    {
        list.push(first);
    }
    Some(list)
}

fn entry(rng: &mut Rng) -> Acl {
    let perms = weighted(
        rng,
        &[
            (8, 31),
            (4, 1),
            (2, 2),
            (2, 4),
            (2, 8),
            (2, 16),
            (3, 15),
            (2, 30),
            (1, 0),
            (1, 95),
            (1, -1),
        ],
    );
    let (scheme, id) = match rng.below(40) {
        0..12 => ("world", "anyone"),
        12..26 => ("digest", IDENTITIES[usize::try_from(rng.below(2)).expect("small")].1),
        26..32 => ("auth", *one(rng, &["", "ignored:id"])),
        32..38 => (
            "ip",
            *one(
                rng,
                &[
                    "127.0.0.1",
                    "127.0.0.1",
                    "127.0.0.0/8",
                    "10.0.0.0/8",
                    "127.0.0.1/32",
                    "0.0.0.0/0",
                    "::1",
                    "::/0",
                    "fe80::/10",
                    "127.0.0.1/33",
                    "1.2.3",
                    "1.2.3.4/-1",
                    "host",
                    "",
                    "1.2.3.256",
                    "01.2.3.4",
                ],
            ),
        ),
        38 => ("world", *one(rng, &["nobody", ""])),
        _ => *one(
            rng,
            &[
                ("nonesuch", "x"),
                ("", ""),
                ("super", ""),
                ("auth", "x"),
                ("sasl", "bob"),
                ("x509", "CN=bob"),
                ("digest", "bób:ü"),
                ("digest", "nocolon"),
                ("digest", "a:b:c"),
                ("digest", ""),
                ("digest", ":"),
                ("digest", "a:"),
            ],
        ),
    };
    Acl::new(perms, scheme, id)
}
