//! Whole configuration files: those that people have, those that nobody would write, and what the
//! documentation says about them.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use ringkeeper::admin::word::FourLetterWord;
use ringkeeper::config::cores::CpuId;
use ringkeeper::config::error::{ConfigError, Notice};
use ringkeeper::config::load::{Loaded, Overrides, load, parse};

fn parsed(text: &[u8]) -> Result<Loaded, ConfigError> {
    let cpus: BTreeSet<_> = (0..2).map(CpuId::new).collect();
    parse(Path::new("zoo.cfg"), text, &Overrides::default(), &cpus)
}

/// The sample that comes with ZooKeeper, with the words that operators add.
const SAMPLE: &str = "\
# The number of milliseconds of each tick
tickTime=2000
# The number of ticks that the initial
# synchronization phase can take
initLimit=10
# The number of ticks that can pass between
# sending a request and getting an acknowledgement
syncLimit=5
# the directory where the snapshot is stored.
# do not use /tmp for storage, /tmp here is just
# example sakes.
dataDir=/tmp/zookeeper
# the port at which the clients will connect
clientPort=2181
# the maximum number of client connections.
# increase this if you need to handle more clients
#maxClientCnxns=60
autopurge.snapRetainCount=3
autopurge.purgeInterval=1

## Metrics Providers
# https://prometheus.io Metrics Exporter
#metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider
4lw.commands.whitelist=stat, ruok, conf, isro, mntr
admin.enableServer=false
";

#[test]
fn zookeepers_sample_is_taken_as_it_is() {
    let Loaded { config, notices, .. } = parsed(SAMPLE.as_bytes()).unwrap();
    assert_eq!(notices, []);
    assert_eq!(config.tick_ms, 2000);
    assert_eq!((config.min_session_timeout_ms, config.max_session_timeout_ms), (4000, 40_000));
    assert_eq!(config.data_dir, Path::new("/tmp/zookeeper"));
    assert_eq!(config.listen.port(), 2181);
    assert!(config.four_letter_words.allows(FourLetterWord::Isro));
    assert!(!config.four_letter_words.allows(FourLetterWord::Cons));
}

#[test]
fn an_ensembles_file_is_taken_with_a_myid() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("zoo.cfg"), dir.path().to_str().unwrap());
    let text = SAMPLE.replace("dataDir=/tmp/zookeeper", &format!("dataDir={data}"));
    std::fs::write(&file, format!("{text}server.1=a:2888:3888\nserver.2=b:2888:3888\n")).unwrap();
    let refused = load(Some(&file), &Overrides::default()).unwrap_err().to_string();
    assert!(refused.contains("zoo.cfg: myid file is missing: "), "{refused}");
    std::fs::write(dir.path().join("myid"), "2\n").unwrap();
    let loaded = load(Some(&file), &Overrides::default()).unwrap();
    let ensemble = loaded.config.ensemble.expect("two servers make an ensemble");
    assert_eq!((ensemble.me.number(), ensemble.members.iter().len()), (2, 2));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Some(Path::new("/no/such/zoo.cfg")), &Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/zoo.cfg: cannot read the configuration: "));
}

#[test]
fn a_file_that_is_no_configuration_is_refused_before_it_is_read_whole() {
    let error = load(Some(Path::new("/dev/zero")), &Overrides::default()).unwrap_err();
    assert_eq!(error.to_string(), "/dev/zero: longer than 1048576 bytes, so no configuration");
}

#[test]
fn every_key_that_is_used_is_documented() {
    let keys = parsed(SAMPLE.as_bytes()).unwrap().keys;
    assert!(keys.len() > 25, "{keys:?}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for key in keys {
        assert!(docs.contains(&format!("\n| `{key}` |")), "{key} has no row in the tables");
    }
}

proptest! {
    #[test]
    fn whatever_the_file_holds_it_is_taken_or_refused(
        file in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = parsed(&file);
    }

    #[test]
    fn whatever_value_a_key_has_it_is_taken_or_refused_at_its_line(
        key in proptest::sample::select(parsed(SAMPLE.as_bytes()).unwrap().keys),
        value in "[ -~]{0,20}|-?[0-9]{1,20}|true|yes|no|0|-1",
    ) {
        // Names are not looked up here: that would ask the network.
        prop_assume!(key != "clientPortAddress");
        let value = value.replace('\\', "");
        let text = format!("dataDir=/d\nclientPort=2181\n{key}={value}\n");
        match parsed(text.as_bytes()) {
            Ok(Loaded { notices, .. }) => {
                let unknown = |notice: &Notice| matches!(notice, Notice::UnknownKey { .. });
                prop_assert!(!notices.iter().any(unknown), "{notices:?}");
            }
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.starts_with("zoo.cfg:3: "), "{}", error);
                prop_assert!(error.contains(key), "{}", error);
            }
        }
    }
}
