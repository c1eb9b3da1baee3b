//! The members of an ensemble: the lines `server.N`, `group.G` and `weight.N`, from a configuration
//! file or from a peer, and the text that says the same to peers and in `/zookeeper/config`.
//!
//! Addresses stay names here, for a name may lead elsewhere by the time it is dialled again.
//!
//! Source: zookeeper-formats 4.10; the rules and most of the messages are those of ZooKeeper's
//! `QuorumServer`, `QuorumMaj` and `QuorumHierarchical`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::properties::{self, BadEscape};
use crate::ids::ServerId;
use crate::zab::quorum::{Group, Voters};

/// Whether a member votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerType {
    #[default]
    Participant,
    Observer,
}

impl PeerType {
    /// As it is named in a configuration, in any capitals.
    pub fn named(name: &str) -> Option<PeerType> {
        [PeerType::Participant, PeerType::Observer]
            .into_iter()
            .find(|each| each.to_string().eq_ignore_ascii_case(name.trim()))
    }
}

impl fmt::Display for PeerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerType::Participant => "participant",
            PeerType::Observer => "observer",
        })
    }
}

/// A host, by name or address, and a port of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// An IPv6 address has no brackets here.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bracketed(&self.host), self.port)
    }
}

struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

/// One address of a member, where other members reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberAddress {
    pub host: String,
    /// Where a leader takes learners.
    pub quorum_port: u16,
    /// Where votes are exchanged.
    pub election_port: u16,
}

/// What a `server.N` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: ServerId,
    /// At least one; more with `multiAddress.enabled`. By host.
    pub addresses: Vec<MemberAddress>,
    pub peer_type: PeerType,
    /// Where it takes clients, if the line says so.
    pub client: Option<HostPort>,
}

/// What is wrong with the list of members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    #[error("{0:?} is not the id of a server or a group: a whole number from 0")]
    Id(String),
    #[error(
        "{0} does not have the form server_config or server_config;client_config where \
         server_config is the pipe separated list of host:port:port or host:port:port:type and \
         client_config is port or host:port"
    )]
    WrongFormat(String),
    #[error("{0} starts with '[' but has no matching ']:'")]
    Bracket(String),
    #[error("Address unresolved: {host}:{port}")]
    Port { host: String, port: String },
    #[error("Unrecognised peertype: {0}")]
    PeerType(String),
    #[error("Multiple addresses should have similar roles: {0} vs {1}")]
    Roles(PeerType, PeerType),
    #[error(
        "Multiple address feature is disabled, but multiple addresses were specified for sid {0}"
    )]
    MultiAddress(ServerId),
    #[error(
        "Client and election port must be different! Please update the configuration file on \
         server.{0}"
    )]
    SamePorts(ServerId),
    #[error("{0:?} is not a list of servers with colons between them")]
    Group(String),
    #[error("Server {0} is in multiple groups")]
    MultipleGroups(ServerId),
    #[error("Server {0} is not in a group")]
    NoGroup(ServerId),
    #[error("Server {0} is in a group, but it is no participant")]
    GroupOfNoVoter(ServerId),
    #[error("{0:?} is not a weight: a whole number from 0 to 4294967295")]
    Weight(String),
    #[error("no group has any weight, so there would never be a quorum")]
    NoWeight,
    #[error("{0:?} is not a version: a hexadecimal number")]
    Version(String),
    #[error("Unrecognised parameter: {0}")]
    Unrecognised(String),
    #[error(transparent)]
    Syntax(#[from] BadEscape),
}

impl Member {
    /// What `server.ID` with this value says. `multi_address`: several addresses are allowed.
    ///
    /// # Errors
    /// When it has not the form that ZooKeeper takes.
    pub fn parse(id: ServerId, text: &str, multi_address: bool) -> Result<Member, MemberError> {
        let wrong = || MemberError::WrongFormat(text.to_owned());
        let parts = java_split(text, ';');
        let (servers, client) = match parts[..] {
            [servers] => (servers, None),
            [servers, client] => (servers, Some(client_address(client, wrong)?)),
            _ => return Err(wrong()),
        };
        let servers = java_split(servers, '|');
        if servers.len() > 1 && !multi_address {
            return Err(MemberError::MultiAddress(id));
        }
        let (mut addresses, mut peer_type) = (BTreeSet::new(), None);
        for server in servers {
            let (host, rest) = host_and_rest(server)?;
            let (quorum, election, role) = match rest[..] {
                [quorum, election] => (quorum, election, None),
                [quorum, election, role] => (quorum, election, Some(role)),
                _ => return Err(wrong()),
            };
            let (quorum_port, election_port) = (port(host, quorum)?, port(host, election)?);
            if quorum_port == election_port {
                return Err(MemberError::SamePorts(id));
            }
            if let Some(role) = role {
                let role =
                    PeerType::named(role).ok_or_else(|| MemberError::PeerType(role.to_owned()))?;
                match peer_type {
                    Some(earlier) if earlier != role => {
                        return Err(MemberError::Roles(earlier, role));
                    }
                    _ => peer_type = Some(role),
                }
            }
            let host = as_java_prints(host);
            addresses.insert(MemberAddress { host, quorum_port, election_port });
        }
        let addresses = addresses.into_iter().collect();
        Ok(Member { id, addresses, peer_type: peer_type.unwrap_or_default(), client })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, MemberAddress { host, quorum_port, election_port }) in
            self.addresses.iter().enumerate()
        {
            let bar = if index > 0 { "|" } else { "" };
            write!(f, "{bar}{}:{quorum_port}:{election_port}", Bracketed(host))?;
        }
        write!(f, ":{}", self.peer_type)?;
        self.client.as_ref().map_or(Ok(()), |client| write!(f, ";{client}"))
    }
}

/// What is behind the semicolon: a port, or a host and a port.
fn client_address(
    text: &str,
    wrong: impl FnOnce() -> MemberError,
) -> Result<HostPort, MemberError> {
    let (host, rest) = host_and_rest(text)?;
    let (host, given) = match rest[..] {
        [] => ("0.0.0.0", host),
        [port] => (host, port),
        _ => return Err(wrong()),
    };
    Ok(HostPort { host: as_java_prints(host), port: port(host, given)? })
}

/// A host, without its brackets if it is an IPv6 address, and what follows it between colons.
fn host_and_rest(text: &str) -> Result<(&str, Vec<&str>), MemberError> {
    let Some(open) = text.strip_prefix('[') else {
        let mut parts = java_split(text, ':');
        return Ok((parts.remove(0), parts));
    };
    match open.split_once("]:") {
        Some((host, rest)) => Ok((host, java_split(rest, ':'))),
        None => Err(MemberError::Bracket(text.to_owned())),
    }
}

fn port(host: &str, text: &str) -> Result<u16, MemberError> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| MemberError::Port { host: host.to_owned(), port: text.to_owned() })
}

/// As Java's `String.split`: empty parts at the end are none. At least one part comes back.
fn java_split(text: &str, at: char) -> Vec<&str> {
    let mut parts: Vec<_> = text.split(at).collect();
    while parts.len() > 1 && parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    parts
}

/// A host as a JVM prints it: an IPv6 address with all its eight numbers.
fn as_java_prints(host: &str) -> String {
    let Ok(address) = host.parse::<Ipv6Addr>() else { return host.to_owned() };
    match address.to_ipv4_mapped() {
        Some(mapped) => Ipv4Addr::to_string(&mapped),
        None => {
            let numbers = address.segments().map(|number| format!("{number:x}"));
            numbers.join(":")
        }
    }
}

/// Groups of servers and the weight of each server's vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hierarchy {
    /// Servers, by group.
    groups: BTreeMap<i64, BTreeSet<ServerId>>,
    weights: BTreeMap<ServerId, u64>,
}

/// The members of an ensemble, and how they make a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    members: BTreeMap<ServerId, Member>,
    hierarchy: Option<Hierarchy>,
    /// Of the configuration; 0 until it is changed with reconfig.
    version: i64,
}

impl Members {
    /// Reads the text that a peer sent.
    ///
    /// # Errors
    /// When ZooKeeper would not take it either.
    pub fn parse(text: &[u8]) -> Result<Members, MemberError> {
        let mut members = MembersBuilder::new(true);
        for entry in properties::parse(text)? {
            members.add(&entry.key, &entry.value)?;
        }
        members.finish()
    }

    /// The text for peers and for `/zookeeper/config`: as `QuorumVerifier.toString`, whose order is
    /// that of Java's hash tables.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for id in java_order(self.members.keys().map(|id| id.number())) {
            text += &format!("server.{id}={}\n", self.members[&ServerId::new(id)]);
        }
        if let Some(Hierarchy { groups, weights }) = &self.hierarchy {
            let grouped = groups.values().flatten().map(|id| id.number());
            let grouped = java_order(grouped);
            for group in java_order(groups.keys().copied()) {
                let of_it = |id: &&i64| groups[&group].contains(&ServerId::new(**id));
                let members: Vec<_> = grouped.iter().filter(of_it).map(i64::to_string).collect();
                text += &format!("group.{group}={}\n", members.join(":"));
            }
            for id in java_order(weights.keys().map(|id| id.number())) {
                text += &format!("weight.{id}={}\n", weights[&ServerId::new(id)]);
            }
        }
        text + &format!("version={:x}", self.version)
    }

    /// Every member, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this id.
    pub fn get(&self, id: ServerId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The ids of the members of this type, ascending.
    pub fn of_type(&self, peer_type: PeerType) -> impl Iterator<Item = ServerId> {
        self.iter().filter(move |member| member.peer_type == peer_type).map(|member| member.id)
    }

    /// Who votes. `None`: nobody.
    pub fn voters(&self) -> Option<Voters> {
        let participants: Vec<_> = self.of_type(PeerType::Participant).collect();
        if participants.is_empty() {
            return None;
        }
        let Some(Hierarchy { groups, weights }) = &self.hierarchy else {
            return Some(Voters::majority(participants));
        };
        let weighed = |members: &BTreeSet<ServerId>| Group {
            members: members.iter().map(|id| (*id, weights[id])).collect(),
        };
        Some(Voters::hierarchy(groups.values().map(weighed).collect()))
    }

    /// The configuration's version.
    pub fn version(&self) -> i64 {
        self.version
    }
}

/// Members being read, line by line.
#[derive(Debug)]
pub struct MembersBuilder {
    multi_address: bool,
    members: BTreeMap<ServerId, Member>,
    hierarchy: Option<Hierarchy>,
    version: i64,
}

impl MembersBuilder {
    /// None yet. `multi_address`: a member may have several addresses.
    pub fn new(multi_address: bool) -> MembersBuilder {
        MembersBuilder { multi_address, members: BTreeMap::new(), hierarchy: None, version: 0 }
    }

    /// Takes one line; of several with one key the last counts.
    ///
    /// # Errors
    /// When it is none of a list of members, or says what cannot be.
    pub fn add(&mut self, key: &str, value: &str) -> Result<(), MemberError> {
        // A JVM takes the id from behind the first dot, whatever the key's word goes on with.
        let number = || {
            let text = key.split_once('.').map_or("", |(_, number)| number);
            let number = text.parse().ok().filter(|number| *number >= 0i64);
            number.ok_or_else(|| MemberError::Id(text.to_owned()))
        };
        if key.starts_with("server.") {
            let id = ServerId::new(number()?);
            self.members.insert(id, Member::parse(id, value, self.multi_address)?);
        } else if key.starts_with("group") {
            let group = number()?;
            let listed = servers(value)?;
            let hierarchy = self.hierarchy.get_or_insert_default();
            let known = hierarchy.groups.values().flatten();
            if let Some(twice) = known.into_iter().find(|known| listed.contains(known)) {
                return Err(MemberError::MultipleGroups(*twice));
            }
            hierarchy.groups.entry(group).or_default().extend(listed);
        } else if key.starts_with("weight") {
            let id = ServerId::new(number()?);
            // Sums of them stay far below 64 bits.
            let weight = value.parse::<u32>().map_err(|_| MemberError::Weight(value.to_owned()))?;
            self.hierarchy.get_or_insert_default().weights.insert(id, weight.into());
        } else if key == "version" {
            let version = i64::from_str_radix(value, 16);
            self.version = version.map_err(|_| MemberError::Version(value.to_owned()))?;
        } else {
            return Err(MemberError::Unrecognised(key.to_owned()));
        }
        Ok(())
    }

    /// All members, which fit each other.
    ///
    /// # Errors
    /// When the groups are not those of the participants.
    pub fn finish(self) -> Result<Members, MemberError> {
        let MembersBuilder { members, mut hierarchy, version, .. } = self;
        if let Some(Hierarchy { groups, weights }) = &mut hierarchy {
            let votes = |member: &&Member| member.peer_type == PeerType::Participant;
            let grouped: BTreeSet<_> = groups.values().flatten().copied().collect();
            for Member { id, .. } in members.values().filter(votes) {
                if !grouped.contains(id) {
                    return Err(MemberError::NoGroup(*id));
                }
                weights.entry(*id).or_insert(1);
            }
            // ZooKeeper counts the weight of one who never votes, or stops with a null pointer.
            if let Some(id) = grouped.iter().find(|id| members.get(id).filter(votes).is_none()) {
                return Err(MemberError::GroupOfNoVoter(*id));
            }
            if !grouped.is_empty() && grouped.iter().all(|id| weights[id] == 0) {
                return Err(MemberError::NoWeight);
            }
        }
        Ok(Members { members, hierarchy, version })
    }
}

/// The servers of a group, each once.
fn servers(text: &str) -> Result<BTreeSet<ServerId>, MemberError> {
    let mut servers = BTreeSet::new();
    for part in java_split(text, ':') {
        let id = part.parse().ok().filter(|number| *number >= 0i64);
        let id = ServerId::new(id.ok_or_else(|| MemberError::Group(text.to_owned()))?);
        if !servers.insert(id) {
            return Err(MemberError::MultipleGroups(id));
        }
    }
    Ok(servers)
}

/// These numbers as a Java `HashMap` goes through them when they are its keys: by bucket. (Those
/// that share one are given ascending; there it depends on the file.)
fn java_order(numbers: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut numbers: Vec<i64> = numbers.collect();
    let mut buckets = 16;
    while numbers.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    let bucket = |number: i64| {
        let hash = (number ^ (number >> 32)) as u32;
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    };
    numbers.sort_unstable_by_key(|number| (bucket(*number), *number));
    numbers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(text: &str) -> Result<Member, MemberError> {
        Member::parse(ServerId::new(1), text, true)
    }

    fn refusal(text: &str) -> String {
        member(text).unwrap_err().to_string()
    }

    /// Texts that a JVM printed for what is behind the arrow, when it was given what is before it.
    #[test]
    fn a_server_line_is_printed_as_zookeeper_prints_it() {
        for (given, printed) in [
            ("zk1:2888:3888", "zk1:2888:3888:participant"),
            ("zk1:2888:3888:observer", "zk1:2888:3888:observer"),
            ("zk1:2888:3888:PARTICIPANT;2181", "zk1:2888:3888:participant;0.0.0.0:2181"),
            ("10.0.0.1:2888:3888;c:2181", "10.0.0.1:2888:3888:participant;c:2181"),
            ("[::1]:2888:3888", "[0:0:0:0:0:0:0:1]:2888:3888:participant"),
            (
                "[2001:db8::a]:1:2:observer;[::1]:3",
                "[2001:db8:0:0:0:0:0:a]:1:2:observer;[0:0:0:0:0:0:0:1]:3",
            ),
            ("[::ffff:1.2.3.4]:1:2", "1.2.3.4:1:2:participant"),
            ("b:1:2|a:3:4", "a:3:4|b:1:2:participant"),
            ("a:1:2:observer|b:3:4", "a:1:2|b:3:4:observer"),
            ("zk1:2888:3888:;", "zk1:2888:3888:participant"),
        ] {
            let read = member(given).unwrap();
            assert_eq!(read.to_string(), printed, "{given}");
            assert_eq!(member(printed).unwrap(), read, "{given}");
        }
    }

    #[test]
    fn a_line_that_zookeeper_refuses_is_refused_in_its_words() {
        for bad in ["", "a", "a:1", "a:1:2:observer:3", "a:1:2;b:3:4", "a:1:2;3;4", "[::1]:1"] {
            assert!(refusal(bad).contains("does not have the form server_config"), "{bad}");
        }
        assert_eq!(refusal("a:x:2"), "Address unresolved: a:x");
        assert_eq!(refusal("a:1:65536"), "Address unresolved: a:65536");
        assert_eq!(refusal("a:0:1"), "Address unresolved: a:0");
        assert_eq!(refusal("a:1:2;b:-1"), "Address unresolved: b:-1");
        assert_eq!(refusal("a:1:2:leader"), "Unrecognised peertype: leader");
        assert_eq!(refusal("[::1:1:2"), "[::1:1:2 starts with '[' but has no matching ']:'");
        assert!(refusal("a:1:1").starts_with("Client and election port must be different!"));
        assert_eq!(
            refusal("a:1:2:observer|b:1:2:participant"),
            "Multiple addresses should have similar roles: observer vs participant"
        );
        assert_eq!(
            Member::parse(ServerId::new(7), "a:1:2|b:1:2", false).unwrap_err().to_string(),
            "Multiple address feature is disabled, but multiple addresses were specified for sid 7"
        );
    }

    #[test]
    fn a_text_is_read_and_written_to_the_byte() {
        let text = "server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181\n\
                    server.2=b:2888:3888:observer\n\
                    version=100000000";
        let members = Members::parse(text.as_bytes()).unwrap();
        assert_eq!(members.text(), text);
        assert_eq!(members.version(), 1 << 32);
        assert_eq!(members.iter().len(), 2);
        assert_eq!(members.of_type(PeerType::Observer).collect::<Vec<_>>(), [ServerId::new(2)]);
        let voters = members.voters().unwrap();
        assert_eq!(voters.iter().collect::<Vec<_>>(), [ServerId::new(1)]);
        assert_eq!(Members::parse(b"").unwrap().voters(), None);
    }

    #[test]
    fn groups_make_a_hierarchy_and_a_missing_weight_is_one() {
        let given = "server.4=d:1:2:observer\nserver.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n\
                     group.1=2:1\ngroup.2=3\nweight.3=0\nweight.2=5";
        let members = Members::parse(given.as_bytes()).unwrap();
        let text = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\n\
                    server.3=c:1:2:participant\nserver.4=d:1:2:observer\n\
                    group.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=5\nweight.3=0\nversion=0";
        assert_eq!(members.text(), text);
        let voters = members.voters().unwrap();
        assert!(voters.is_quorum(|id| id == ServerId::new(2)), "five sixths of all that counts");
        assert!(!voters.is_quorum(|id| id != ServerId::new(2)));
        assert!(!voters.may_lead(ServerId::new(3)));
    }

    #[test]
    fn groups_that_do_not_fit_the_servers_are_refused() {
        let refusal = |text: &str| {
            let servers = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2:observer\n";
            Members::parse(format!("{servers}{text}").as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(refusal("group.1=1"), "Server 2 is not in a group");
        assert_eq!(refusal("weight.1=1"), "Server 1 is not in a group");
        assert_eq!(refusal("group.1=1:2\ngroup.2=2"), "Server 2 is in multiple groups");
        assert_eq!(refusal("group.1=1:2:1"), "Server 1 is in multiple groups");
        assert!(refusal("group.1=1:2:3").starts_with("Server 3 is in a group, but"));
        assert!(refusal("group.1=1:2:9\nweight.9=1").starts_with("Server 9 is in a group, but"));
        assert!(refusal("group.1=1:2\nweight.1=0\nweight.2=0").starts_with("no group has any"));
        assert!(refusal("group.1=1:x").contains("not a list of servers"));
        assert!(refusal("group.x=1:2").contains("not the id of a server"));
        assert!(refusal("group=1:2").contains("not the id of a server"));
        assert!(refusal("group.1=1:2\nweight.1=-1").contains("not a weight"));
        assert!(refusal("server.-1=a:1:2").contains("not the id of a server"));
        assert_eq!(refusal("version=xyz"), "\"xyz\" is not a version: a hexadecimal number");
        assert_eq!(refusal("clientPort=2181"), "Unrecognised parameter: clientPort");
    }

    #[test]
    fn members_stand_in_the_order_of_a_java_hash_map() {
        assert_eq!(java_order([30, 20, 10].into_iter()), [20, 10, 30]);
        assert_eq!(java_order((1..=12).rev()), (1..=12).collect::<Vec<_>>());
        // The thirteenth key makes a table of 32.
        let with_17 = |others| java_order((2..=others).chain([17]));
        assert_eq!(with_17(5), [17, 2, 3, 4, 5]);
        assert_eq!(*with_17(13).last().unwrap(), 17);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            servers in proptest::collection::btree_map(
                0i64..300,
                ("[a-z0-9.-]{1,20}|[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}", 1u16..60000, any::<bool>(),
                    proptest::option::of(1u16..)),
                1..20,
            ),
            version in 0i64..,
        ) {
            let mut text = format!("version={version:x}\n");
            for (id, (host, port, observes, client)) in &servers {
                let role = if *observes { ":observer" } else { "" };
                let client = client.map(|port| format!(";{port}")).unwrap_or_default();
                let host = Bracketed(host);
                text += &format!("server.{id}={host}:{port}:{}{role}{client}\n", port + 1);
            }
            let members = Members::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(members.iter().len(), servers.len());
            let printed = members.text();
            prop_assert_eq!(&Members::parse(printed.as_bytes()).unwrap(), &members);
            prop_assert_eq!(Members::parse(printed.as_bytes()).unwrap().text(), printed);
        }

        #[test]
        fn no_text_of_a_peer_makes_the_reader_panic(
            text in "((server|group|weight)\\.[0-9]{1,3}=[\\[\\]a-c0-9:;|.]{0,20}\n){0,6}",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(members) = Members::parse(text.as_bytes()) {
                let _ = (members.voters(), members.text());
            }
            let _ = Members::parse(&bytes);
        }
    }
}
