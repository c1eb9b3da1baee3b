//! What a configuration says of an ensemble: its members, which of them this server is, and how
//! patient it is with the others. The rules and the words are those of ZooKeeper's
//! `QuorumPeerConfig`. Called by `load`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, EnsembleFault, Notice, Place};
use super::members::{HostPort, Member, MemberError, Members, MembersBuilder, PeerType};
use super::properties;
use super::values::{Given, Values};
use crate::ids::ServerId;
use crate::limits::CONFIG_BYTES_MAX;
use crate::zab::quorum::Voters;

const TRUE: [&str; 2] = ["false", "true"];
const YES: [&str; 2] = ["no", "yes"];
const MS: &str = "milliseconds";
const TICKS: &str = "ticks";

/// ZooKeeper reads no more of the file than a line; a number is short.
const MY_ID_BYTES_MAX: u64 = 1024;

/// This server's part in an ensemble. Made by `load`; it is one of the members, and some of them
/// vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensemble {
    pub me: ServerId,
    /// As the list of members says, whatever `peerType` does.
    pub peer_type: PeerType,
    pub members: Members,
    pub voters: Voters,
    /// `initLimit`, in ticks: what a learner may take to connect and to get the history.
    pub init_ticks: u32,
    /// `syncLimit`, in ticks: how long a member may be silent.
    pub sync_ticks: u32,
    /// `connectToLearnerMasterLimit`, in ticks: for how long a learner tries to connect to its
    /// leader; without the key `initLimit`.
    pub connect_ticks: u32,
    /// `quorumListenOnAllIPs`: the ports for members are opened on all addresses of the machine.
    pub listens_everywhere: bool,
    /// `electionPortBindRetry`: how often the election port is tried; none: for ever.
    pub bind_retries: Option<u32>,
    /// `cnxTimeout`: what a connection to another member's election port may take.
    pub connect_timeout: Duration,
    /// `quorumCnxnTimeoutMs`: what a member may be silent on an election connection; none: without
    /// end, as by default.
    pub election_silence_max: Option<Duration>,
    /// `tcpKeepAlive`: TCP probes members that are silent on the election port.
    pub keep_alive: bool,
    /// `observer.reconnectDelayMs`: what an observer waits at most before it connects again.
    pub observer_reconnect_delay: Duration,
}

/// Who a configuration lists.
#[derive(Debug)]
pub(super) enum Listed {
    /// Nobody, or this server alone: it is standalone.
    Alone(ListedClient),
    Ensemble(Box<Ensemble>, ListedClient),
}

/// Where the list says that this server takes clients, and the line that says so.
pub(super) type ListedClient = Option<(Place, HostPort)>;

/// Who is listed in `values`, or in the file of `dynamicConfigFile`.
pub(super) fn listed(values: &mut Values, data_dir: &Path) -> Result<Listed, ConfigError> {
    let mut dynamic = dynamic_file(values)?;
    let standalone_line = values.line("standaloneEnabled");
    let standalone = values.choice("standaloneEnabled", TRUE, true)?;
    let mut list = List::new(values.choice("multiAddress.enabled", TRUE, false)?);
    list.gather(dynamic.as_mut().unwrap_or(&mut *values), "server.")?;
    let file = dynamic.as_ref().unwrap_or(&*values).file().to_owned();
    let (participants, observers) = list.counts();
    if let (0, false, Some(line)) = (participants, standalone, standalone_line) {
        let (place, key) = (values.place(line), "standaloneEnabled".to_owned());
        let why = "when it is false, the number of participants should be >0";
        return Err(ConfigError::NotSupported { place, key, why });
    }
    if participants <= 1 && standalone {
        if observers > 0 {
            let fault = match participants {
                0 => EnsembleFault::ObserversAlone,
                _ => EnsembleFault::ObserversWithoutQuorum,
            };
            return Err(ConfigError::Ensemble { file, fault });
        }
        return Ok(Listed::Alone(list.alone(values)));
    }
    for family in ["group.", "weight."] {
        list.gather(dynamic.as_mut().unwrap_or(&mut *values), family)?;
    }
    if let Some(mut dynamic) = dynamic {
        if let Some((key, given)) = dynamic.rest().into_iter().next() {
            let error = MemberError::Unrecognised(key);
            return Err(ConfigError::Member { place: dynamic.place(given.line), error });
        }
        let version = version_of(dynamic.file()).unwrap_or_else(|| "0".to_owned());
        list.builder.add("version", &version).expect("a hexadecimal number");
        values.notices.append(&mut dynamic.notices);
    }
    in_ensemble(values, data_dir, file, list)
}

/// What is asked for and not there yet, without which a member serves all the same.
fn tell_what_has_no_effect(values: &mut Values) -> Result<(), ConfigError> {
    for (key, choices, default, lost) in [
        ("leaderServes", YES, true, "a leader takes clients, too"),
        ("readonlymode.enabled", TRUE, false, "without a leader nobody is served"),
        ("localSessionsEnabled", TRUE, false, "every session is the whole ensemble's"),
    ] {
        let line = values.line(key);
        if let Some(line) = line
            && values.choice(key, choices, default)? != default
        {
            let place = values.place(line);
            values.notices.push(Notice::NoEffect { place, key: key.to_owned(), lost });
        }
    }
    Ok(())
}

/// The rest of what a member's configuration says.
fn in_ensemble(
    values: &mut Values,
    data_dir: &Path,
    file: PathBuf,
    list: List,
) -> Result<Listed, ConfigError> {
    refuse_what_is_missing(values)?;
    let List { builder, places, .. } = list;
    let fault = |file: &Path, fault| ConfigError::Ensemble { file: file.to_owned(), fault };
    let members = builder.finish().map_err(|error| fault(&file, EnsembleFault::Members(error)))?;
    advise(values, &file, members.of_type(PeerType::Participant).count());
    let me = my_id(data_dir).map_err(|it| fault(values.file(), it))?;
    let Some(member) = members.get(me).cloned() else {
        return Err(fault(&file, EnsembleFault::Stranger(me)));
    };
    let place = places.iter().find(|(id, _)| *id == me).map(|(_, place)| place.clone());
    let client = place.clone().zip(member.client.clone());
    check_peer_type(values, &member)?;
    let ticks = |values: &mut Values, key| {
        let ticks = values.number(key, 0..=i32::MAX as u32, TICKS)?;
        let set = ticks.filter(|ticks| *ticks > 0);
        set.ok_or_else(|| fault(values.file(), EnsembleFault::NotSet(key)))
    };
    let init_ticks = ticks(values, "initLimit")?;
    let sync_ticks = ticks(values, "syncLimit")?;
    let connect = values.number("connectToLearnerMasterLimit", 0..=i32::MAX as u32, TICKS)?;
    let connect_ms = values.number("cnxTimeout", 1..=i32::MAX as u64, MS)?;
    let silence_ms = values.number("quorumCnxnTimeoutMs", -1..=i64::from(i32::MAX), MS)?;
    let retries = values.number("electionPortBindRetry", 0..=i32::MAX as u32, "attempts")?;
    let delay_ms = values.number("observer.reconnectDelayMs", 0..=i32::MAX as u64, MS)?;
    tell_what_has_no_effect(values)?;
    // It says how local sessions become others.
    values.choice("localSessionsUpgradingEnabled", TRUE, false)?;
    let ensemble = Ensemble {
        me,
        peer_type: member.peer_type,
        voters: members.voters().expect("somebody votes"),
        members,
        init_ticks,
        sync_ticks,
        connect_ticks: connect.filter(|ticks| *ticks > 0).unwrap_or(init_ticks),
        listens_everywhere: values.choice("quorumListenOnAllIPs", TRUE, false)?,
        bind_retries: Some(retries.unwrap_or(3)).filter(|retries| *retries > 0),
        connect_timeout: Duration::from_millis(connect_ms.unwrap_or(5000)),
        election_silence_max: silence_ms
            .and_then(|ms| u64::try_from(ms).ok())
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis),
        keep_alive: values.choice("tcpKeepAlive", TRUE, false)?,
        observer_reconnect_delay: Duration::from_millis(delay_ms.unwrap_or(0)),
    };
    Ok(Listed::Ensemble(Box::new(ensemble), client))
}

/// Members being read, and where each stands.
struct List {
    builder: MembersBuilder,
    servers: Vec<Member>,
    places: Vec<(ServerId, Place)>,
    multi_address: bool,
}

impl List {
    fn new(multi_address: bool) -> List {
        let builder = MembersBuilder::new(multi_address);
        List { builder, servers: Vec::new(), places: Vec::new(), multi_address }
    }

    /// Takes every line of one family.
    fn gather(&mut self, values: &mut Values, family: &str) -> Result<(), ConfigError> {
        for (number, given) in values.family(family) {
            self.take(values, &format!("{family}{number}"), &given)?;
        }
        Ok(())
    }

    fn take(&mut self, values: &Values, key: &str, given: &Given) -> Result<(), ConfigError> {
        let place = values.place(given.line);
        let wrong = |error| ConfigError::Member { place: place.clone(), error };
        self.builder.add(key, &given.text).map_err(wrong)?;
        let number = key.strip_prefix("server.").and_then(|number| number.parse().ok());
        if let Some(id) = number.map(ServerId::new) {
            self.servers.push(Member::parse(id, &given.text, self.multi_address).map_err(wrong)?);
            self.places.push((id, place));
        }
        Ok(())
    }

    fn counts(&self) -> (usize, usize) {
        let votes = |member: &&Member| member.peer_type == PeerType::Participant;
        let participants = self.servers.iter().filter(votes).count();
        (participants, self.servers.len() - participants)
    }

    /// ZooKeeper runs standalone when one server is listed.
    fn alone(mut self, values: &mut Values) -> ListedClient {
        let (member, (_, place)) = self.servers.pop().zip(self.places.pop())?;
        values.notices.push(Notice::NoEffect {
            place: place.clone(),
            key: format!("server.{}", member.id),
            lost: "a list of one server starts standalone, as in ZooKeeper",
        });
        member.client.map(|client| (place, client))
    }
}

/// What an operator who asks for it must not go without unnoticed.
fn refuse_what_is_missing(values: &mut Values) -> Result<(), ConfigError> {
    for (key, why) in [
        ("reconfigEnabled", "members cannot be changed while the ensemble runs yet"),
        ("sslQuorum", "there is no TLS between servers yet"),
        ("portUnification", "there is no TLS between servers yet"),
        ("quorum.auth.enableSasl", "servers do not authenticate to each other yet"),
    ] {
        let line = values.line(key);
        if values.choice(key, TRUE, false)? {
            let place = values.place(line.expect("the default is false"));
            return Err(ConfigError::NotSupported { place, key: key.to_owned(), why });
        }
    }
    let algorithm = values.text("electionAlg");
    match algorithm {
        Some(given) if given.text != "3" => {
            Err(values.wrong("electionAlg", &given, "3, the only one that is supported"))
        }
        _ => Ok(()),
    }
}

fn advise(values: &mut Values, file: &Path, participants: usize) {
    let advice = match participants {
        ..=2 => "No server failure will be tolerated. You need at least 3 servers.",
        even if even.is_multiple_of(2) => {
            "Non-optimal configuration, consider an odd number of servers."
        }
        _ => return,
    };
    values.notices.push(Notice::Advice { file: file.to_owned(), advice });
}

/// `peerType`: the list goes before it.
fn check_peer_type(values: &mut Values, member: &Member) -> Result<(), ConfigError> {
    let given = values.text("peerType");
    let (line, said) = match given {
        None => (None, PeerType::Participant),
        Some(Given { text, line }) => {
            let Some(said) = PeerType::named(&text) else {
                let error = MemberError::PeerType(text);
                return Err(ConfigError::Member { place: values.place(line), error });
            };
            (Some(line), said)
        }
    };
    // ZooKeeper warns an observer without the key too; it lacks nothing.
    if let Some(line) = line.filter(|_| said != member.peer_type) {
        let (place, listed) = (values.place(line), member.peer_type);
        values.notices.push(Notice::PeerType { place, listed, said });
    }
    Ok(())
}

/// The id in `myid`, in the data directory.
fn my_id(data_dir: &Path) -> Result<ServerId, EnsembleFault> {
    let path = data_dir.join("myid");
    if !path.is_file() {
        return Err(EnsembleFault::MyIdMissing(path));
    }
    let mut content = Vec::new();
    let opened = File::open(&path);
    let read = opened.and_then(|file| file.take(MY_ID_BYTES_MAX).read_to_end(&mut content));
    if let Err(error) = read {
        return Err(EnsembleFault::MyIdUnreadable { path, error });
    }
    let text = String::from_utf8_lossy(&content);
    let line = text.lines().next().unwrap_or_default();
    match line.parse() {
        Ok(number) => Ok(ServerId::new(number)),
        Err(_) => Err(EnsembleFault::MyId { path, text: line.chars().take(80).collect() }),
    }
}

/// The entries of `dynamicConfigFile`. With it, the list stands there alone, without a version.
fn dynamic_file(values: &mut Values) -> Result<Option<Values>, ConfigError> {
    let Some(given) = values.text("dynamicConfigFile") else { return Ok(None) };
    let listing = ["server.", "group", "weight"];
    let stray = values.first(|key| listing.iter().any(|prefix| key.starts_with(prefix)));
    let fault = |file: &Path, fault| ConfigError::Ensemble { file: file.to_owned(), fault };
    if let Some(key) = stray {
        return Err(fault(values.file(), EnsembleFault::StaticLine(key)));
    }
    let place = values.place(given.line);
    let in_it = |error| ConfigError::DynamicFile { place, error: Box::new(error) };
    let file = PathBuf::from(given.text);
    let entries = read(&file).and_then(|text| {
        let syntax = |error| ConfigError::Syntax { file: file.clone(), error };
        properties::parse(&text).map_err(syntax)
    });
    let dynamic = Values::new(&file, entries.map_err(in_it)?);
    if dynamic.line("version").is_some() {
        return Err(fault(&file, EnsembleFault::VersionInside));
    }
    Ok(Some(dynamic))
}

/// The version of a dynamic file: the hexadecimal number behind the last dot of its name.
fn version_of(file: &Path) -> Option<String> {
    let (_, version) = file.to_str()?.rsplit_once('.')?;
    i64::from_str_radix(version, 16).ok().map(|version| format!("{version:x}"))
}

/// The content of a configuration file.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { file: file.to_owned(), error };
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLong { file: file.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::cores::CpuId;
    use crate::config::load::{Loaded, Overrides, parse};

    const THREE: &str = "server.1=127.0.0.1:2888:3888\nserver.2=b:2888:3888\n\
                         server.3=c:2888:3888\ninitLimit=10\nsyncLimit=5\n";

    /// What becomes of a configuration in a data directory whose `myid` has this content.
    fn parsed(my_id: &str, lines: &str) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        if !my_id.is_empty() {
            std::fs::write(dir.path().join("myid"), my_id).unwrap();
        }
        // A dynamic file lies beside it.
        let lines = lines.replace("DIR", dir.path().to_str().unwrap());
        for (name, content) in [
            ("zoo.dynamic", "server.1=a:1:2;127.0.0.1:2185\nserver.2=b:1:2\nserver.3=c:1:2\n"),
            ("zoo.dynamic.1a", "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2:observer\n"),
            ("versioned", "server.1=a:1:2\nserver.2=b:1:2\nversion=1\n"),
            ("alien", "server.1=a:1:2\nserver.2=b:1:2\nclientPort=2181\n"),
        ] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let port = if lines.contains("clientPort") { "" } else { "clientPort=2181\n" };
        let text = format!("dataDir={}\n{port}{lines}", dir.path().display());
        let cpus: BTreeSet<_> = (0..4).map(CpuId::new).collect();
        parse(Path::new("zoo.cfg"), text.as_bytes(), &Overrides::default(), &cpus)
    }

    fn ensemble(my_id: &str, lines: &str) -> Ensemble {
        *parsed(my_id, lines).unwrap().config.ensemble.expect("an ensemble")
    }

    fn refusal(my_id: &str, lines: &str) -> String {
        parsed(my_id, lines).unwrap_err().to_string()
    }

    fn notices(my_id: &str, lines: &str) -> Vec<String> {
        let loaded = parsed(my_id, lines).unwrap();
        loaded.notices.iter().map(Notice::to_string).collect()
    }

    #[test]
    fn a_members_file_has_zookeepers_defaults() {
        let found = ensemble("2\n", THREE);
        assert_eq!((found.me, found.peer_type), (ServerId::new(2), PeerType::Participant));
        assert_eq!((found.init_ticks, found.sync_ticks, found.connect_ticks), (10, 5, 10));
        assert_eq!(found.voters.iter().len(), 3);
        assert_eq!(found.bind_retries, Some(3));
        assert_eq!(found.connect_timeout, Duration::from_secs(5));
        assert_eq!(found.election_silence_max, None);
        assert!(!found.listens_everywhere && !found.keep_alive);
        assert_eq!(notices("2", THREE), Vec::<String>::new());
    }

    #[test]
    fn every_key_of_a_member_is_taken() {
        let lines = format!(
            "{THREE}connectToLearnerMasterLimit=7\nquorumListenOnAllIPs=true\n\
             electionPortBindRetry=0\ncnxTimeout=1234\nquorumCnxnTimeoutMs=99\n\
             tcpKeepAlive=true\nleaderServes=no\nreadonlymode.enabled=true\n\
             localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\nelectionAlg=3\n\
             observer.reconnectDelayMs=40\nreconfigEnabled=false\npeerType=participant\n"
        );
        let found = ensemble("1", &lines);
        assert_eq!((found.connect_ticks, found.bind_retries), (7, None));
        assert_eq!(found.connect_timeout, Duration::from_millis(1234));
        assert_eq!(found.election_silence_max, Some(Duration::from_millis(99)));
        assert_eq!(found.observer_reconnect_delay, Duration::from_millis(40));
        assert!(found.listens_everywhere && found.keep_alive);
        let told = notices("1", &lines);
        for key in ["leaderServes", "readonlymode.enabled", "localSessionsEnabled"] {
            assert!(
                told.iter().any(|it| it.contains(&format!("{key} has no effect yet"))),
                "{told:?}"
            );
        }
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[test]
    fn what_a_member_lacks_is_told_in_zookeepers_words() {
        assert!(refusal("", THREE).starts_with("zoo.cfg: myid file is missing: /"));
        assert!(refusal("one\n", THREE).starts_with("zoo.cfg: serverid one is not a number: /"));
        assert!(refusal(" 1", THREE).contains("is not a number"));
        assert_eq!(refusal("4", THREE), "zoo.cfg: My id 4 not in the peer list");
        for key in ["initLimit", "syncLimit"] {
            let lines = THREE.replace(key, &format!("#{key}"));
            assert_eq!(refusal("1", &lines), format!("zoo.cfg: {key} is not set"));
            let lines = format!("{THREE}{key}=0");
            assert_eq!(refusal("1", &lines), format!("zoo.cfg: {key} is not set"));
        }
    }

    #[test]
    fn a_list_that_makes_no_ensemble_is_refused_or_starts_standalone() {
        let observers = "server.2=b:1:2:observer\n";
        assert_eq!(
            refusal("1", observers),
            "zoo.cfg: Observers w/o participants is an invalid configuration"
        );
        assert_eq!(
            refusal("1", &format!("server.1=a:1:2\n{observers}")),
            "zoo.cfg: Observers w/o quorum is an invalid configuration"
        );
        assert!(parsed("", "server.1=a:1:2\n").unwrap().config.ensemble.is_none());
        assert!(
            refusal("1", "server.1=a:1\n").starts_with("zoo.cfg:3: a:1 does not have the form")
        );
        assert!(
            refusal("1", "standaloneEnabled=false").starts_with("zoo.cfg:3: standaloneEnabled:")
        );
        let one = "standaloneEnabled=false\nserver.1=a:1:2\ninitLimit=1\nsyncLimit=1\n";
        assert_eq!(ensemble("1", one).voters.iter().len(), 1);
    }

    #[test]
    fn an_operator_is_told_of_a_number_that_gains_nothing() {
        let two = THREE.replace("server.3", "#server.3");
        let expected = "zoo.cfg: No server failure will be tolerated. You need at least 3 servers.";
        assert_eq!(notices("1", &two), [expected]);
        let four = format!("{THREE}server.4=d:1:2\n");
        let expected = "zoo.cfg: Non-optimal configuration, consider an odd number of servers.";
        assert_eq!(notices("1", &four), [expected]);
        assert_eq!(notices("1", &format!("{THREE}server.4=d:1:2:observer\n")), [""; 0]);
    }

    #[test]
    fn the_list_says_who_observes() {
        let lines = format!("{THREE}server.4=d:1:2:observer\n");
        assert_eq!(ensemble("4", &lines).peer_type, PeerType::Observer);
        assert!(!ensemble("4", &lines).voters.has(ServerId::new(4)));
        assert_eq!(notices("4", &format!("{lines}peerType=observer\n")), [""; 0]);
        assert_eq!(
            notices("1", &format!("{THREE}peerType=OBSERVER\n")),
            ["zoo.cfg:8: Peer type from servers list (participant) doesn't match peerType \
              (observer). Defaulting to servers list."]
        );
        assert_eq!(
            refusal("1", &format!("{THREE}peerType=boss\n")),
            "zoo.cfg:8: Unrecognised peertype: boss"
        );
    }

    #[test]
    fn groups_and_weights_are_part_of_the_list() {
        let lines = format!("{THREE}group.1=1:2\ngroup.2=3\nweight.1=3\n");
        let found = ensemble("1", &lines);
        assert!(found.members.text().contains("\ngroup.1=1:2\ngroup.2=3\nweight.1=3\n"));
        assert!(found.voters.is_quorum(|id| id.number() != 2));
        assert_eq!(
            refusal("1", &format!("{THREE}group.1=1:2\n")),
            "zoo.cfg: Server 3 is not in a group"
        );
        assert_eq!(
            refusal("1", &format!("{THREE}group.1=1:x\n")),
            "zoo.cfg:8: \"1:x\" is not a list of servers with colons between them"
        );
    }

    #[test]
    fn a_members_client_address_is_that_of_its_line() {
        let listed = THREE.replace("server.2=b:2888:3888", "server.2=b:2888:3888;127.0.0.1:2185");
        let listen = |id, lines: &str| parsed(id, lines).unwrap().config.listen.to_string();
        assert_eq!(listen("2", &format!("{listed}clientPort=2185\n")), "127.0.0.1:2185");
        assert_eq!(parsed("1", &listed).unwrap().config.listen.port(), 2181);
        let refused = refusal("2", &listed);
        assert!(refused.contains("is different from the client address in its line"), "{refused}");
        let text = ensemble("2", &format!("{listed}clientPort=2185\n")).members.text();
        assert!(text.contains("server.2=b:2888:3888:participant;127.0.0.1:2185\n"), "{text}");
        assert!(text.contains("server.1=127.0.0.1:2888:3888:participant\n"), "{text}");
    }

    #[test]
    fn several_addresses_need_their_key() {
        let lines = THREE.replace("b:2888:3888", "b:2888:3888|[::1]:2888:3888");
        let refused = refusal("1", &lines);
        assert!(
            refused.starts_with("zoo.cfg:4: Multiple address feature is disabled"),
            "{refused}"
        );
        let found = ensemble("1", &format!("{lines}multiAddress.enabled=true\n"));
        assert_eq!(found.members.get(ServerId::new(2)).unwrap().addresses.len(), 2);
    }

    #[test]
    fn the_list_may_stand_in_a_dynamic_file() {
        let limits = "initLimit=10\nsyncLimit=5\n";
        let found = ensemble("2", &format!("{limits}dynamicConfigFile=DIR/zoo.dynamic\n"));
        assert_eq!((found.members.iter().len(), found.members.version()), (3, 0));
        let found = ensemble("2", &format!("{limits}dynamicConfigFile=DIR/zoo.dynamic.1a\n"));
        assert_eq!((found.voters.iter().len(), found.members.version()), (2, 0x1a));
        let refused = refusal("1", &format!("{THREE}dynamicConfigFile=DIR/zoo.dynamic\n"));
        let expected = "zoo.cfg: parameter: server.1 must be in a separate dynamic config file";
        assert_eq!(refused, expected);
        let refused = refusal("1", &format!("{limits}dynamicConfigFile=DIR/versioned\n"));
        assert!(refused.ends_with("dynamic file shouldn't have version inside"), "{refused}");
        let refused = refusal("1", &format!("{limits}dynamicConfigFile=DIR/alien\n"));
        assert!(refused.ends_with("alien:3: Unrecognised parameter: clientPort"), "{refused}");
        let refused = refusal("1", "dynamicConfigFile=/no/such/file\n");
        assert!(refused.starts_with("zoo.cfg:3: dynamicConfigFile: /no/such/file: "), "{refused}");
    }

    #[test]
    fn what_members_cannot_do_yet_is_refused() {
        for (line, why) in [
            ("reconfigEnabled=true", "members cannot be changed"),
            ("sslQuorum=true", "no TLS between servers"),
            ("portUnification=true", "no TLS between servers"),
            ("quorum.auth.enableSasl=true", "do not authenticate to each other"),
            ("electionAlg=1", "the only one that is supported"),
            ("observerMasterPort=2191", ""),
            ("oraclePath=/o", ""),
        ] {
            let refused = refusal("1", &format!("{THREE}{line}\n"));
            assert!(refused.starts_with("zoo.cfg:8: ") && refused.contains(why), "{refused}");
        }
    }
}
