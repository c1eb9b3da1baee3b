//! Networks of the scheme `ip`: an address, v4 or v6, and how many of its bits count. Numbers are
//! read as Java's `Integer.parseInt` does, which takes signs and leading zeros; an IPv6 address has
//! no IPv4 part and no zone.

/// An address, and how many of its leading bits count.
#[derive(Debug, PartialEq)]
struct Network {
    address: Address,
    bits: usize,
}

#[derive(Debug, PartialEq)]
enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Address {
    fn bytes(&self) -> &[u8] {
        match self {
            Address::V4(bytes) => bytes,
            Address::V6(bytes) => bytes,
        }
    }
}

/// Whether an ACL may name `text`: `addr[/bits]`.
pub(super) fn is_network(text: &str) -> bool {
    parse_network(text).is_some()
}

/// Whether the remote address lies in the network. v4 never matches v6.
pub(super) fn matches(remote: &str, network: &str) -> bool {
    let Some(Network { address, bits }) = parse_network(network) else { return false };
    let Some(remote) = parse_address(remote) else { return false };
    let (remote, network) = (remote.bytes(), address.bytes());
    let (whole, rest) = (bits / 8, bits % 8);
    remote.len() == network.len()
        && remote[..whole] == network[..whole]
        && (rest == 0 || (remote[whole] ^ network[whole]) >> (8 - rest) == 0)
}

fn parse_network(text: &str) -> Option<Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address = parse_address(address)?;
    let most = address.bytes().len() * 8;
    let bits = match bits {
        Some(bits) => usize::try_from(bits.parse::<i32>().ok()?).ok()?,
        None => most,
    };
    (bits <= most).then_some(Network { address, bits })
}

fn parse_address(text: &str) -> Option<Address> {
    if text.contains(':') { v6(text).map(Address::V6) } else { v4(text).map(Address::V4) }
}

fn v4(text: &str) -> Option<[u8; 4]> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = u8::try_from(parts.next()?.parse::<i32>().ok()?).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

fn v6(text: &str) -> Option<[u8; 16]> {
    let (front, back) = match text.split_once("::") {
        Some((front, back)) => (groups(front)?, Some(groups(back)?)),
        None => (groups(text)?, None),
    };
    let back = match back {
        None if front.len() == 8 => Vec::new(),
        Some(back) if front.len() + back.len() < 8 => back,
        _ => return None,
    };
    let mut bytes = [0; 16];
    for (index, group) in front.iter().enumerate() {
        bytes[index * 2..][..2].copy_from_slice(group);
    }
    let start = 8 - back.len();
    for (index, group) in back.iter().enumerate() {
        bytes[(start + index) * 2..][..2].copy_from_slice(group);
    }
    Some(bytes)
}

/// The groups of one side of `::`; none for a text that has something else.
fn groups(text: &str) -> Option<Vec<[u8; 2]>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let group = |text: &str| {
        let number = i32::from_str_radix(text, 16).ok().filter(|_| text.len() <= 4)?;
        // A sign makes at most three digits negative; the JVM takes the low 16 bits as well.
        Some((number as u16).to_be_bytes())
    };
    text.split(':').map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_compared_under_the_mask() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.128/25", "10.0.0.200", true),
            ("10.0.0.128/25", "10.0.0.100", false),
            ("10.0.0.1/0", "192.168.0.1", true),
            ("::/0", "192.168.0.1", false),
            ("0.0.0.0/0", "0:0:0:0:0:0:0:1", false),
            ("fe80::/10", "fe80:0:0:0:0:0:0:1", true),
            ("fe80::/10", "fec0:0:0:0:0:0:0:1", false),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("::1/127", "0:0:0:0:0:0:0:0", true),
            ("2001:db8::5", "2001:db8:0:0:0:0:0:5", true),
            ("2001:DB8::5", "2001:db8:0:0:0:0:0:6", false),
            ("010.0.0.1", "10.0.0.1", true),
        ];
        for (network, remote, expected) in cases {
            assert_eq!(matches(remote, network), expected, "{remote} in {network}");
        }
    }

    /// IPv4 as 3.8.0 answered, IPv6 as the source of 3.9.5 says (3.8.0 takes none).
    #[test]
    fn networks_are_what_zookeeper_takes_for_one() {
        for network in [
            "1.2.3.4",
            "1.2.3.4/0",
            "1.2.3.4/32",
            "1.2.3.4/-0",
            "1.2.3.4/+8",
            "01.2.3.4",
            "+1.2.3.4",
            "-0.2.3.4",
            "::1",
            "::",
            "1::",
            "::/0",
            "::1/128",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6::8",
            "+1::",
        ] {
            assert!(is_network(network), "{network}");
        }
        for text in [
            "",
            "localhost",
            "1.2.3",
            "1.2.3.4.",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/8/8",
            "10.0.0.256",
            "10.0.0.0/-1",
            " 1.2.3.4",
            "1 .2.3.4",
            "::1/129",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7::8",
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "g::1",
            "12345::",
            "1:::2",
            "1::2::3",
            ":1:2:3:4:5:6:7:8",
            "[::1]",
        ] {
            assert!(!is_network(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_address_lies_in_every_network_around_it(
            address: [u8; 16],
            bits in 0usize..=128,
            v4: bool,
        ) {
            let (text, bits) = if v4 {
                let [a, b, c, d, ..] = address;
                (format!("{a}.{b}.{c}.{d}"), bits.min(32))
            } else {
                (std::net::Ipv6Addr::from(address).segments().map(|it| format!("{it:x}")).join(":"), bits)
            };
            let network = format!("{text}/{bits}");
            proptest::prop_assert!(matches(&text, &network));
        }

        #[test]
        fn no_text_harms(text in "[0-9a-f:./+-]{0,40}") {
            let _ = is_network(&text);
            let _ = matches(&text, &text);
        }
    }
}
