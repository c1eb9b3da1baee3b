//! Keys that ZooKeeper knows and a standalone Ringkeeper does not use: what it means that they are
//! given. The keys that are used are in `load`.

/// What it means for this server that a key is given.
#[derive(Clone, Copy, Debug)]
pub enum Bearing {
    /// Nothing: it tunes the JVM, threads, caches or files that Ringkeeper does not have, or it is
    /// for members of an ensemble and ZooKeeper ignores it in a standalone server too.
    None,
    /// With another value than these defaults, something is lost that the operator may count on.
    Loses { unless: &'static [&'static str], lost: &'static str },
    /// With another value than these defaults, the server would be another one than the operator
    /// asked for; it does not start.
    Refused { unless: &'static [&'static str], why: &'static str },
}

/// What it means that `key` is given; nothing if ZooKeeper does not know it.
pub fn bearing(key: &str) -> Option<Bearing> {
    let exact = KEYS.iter().find(|(name, _)| *name == key);
    let family = || {
        FAMILIES
            .iter()
            .find(|(prefix, _)| key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
    };
    exact.or_else(family).map(|(_, bearing)| *bearing)
}

/// The known key that `key` is with other capitals, or with the prefix that ZooKeeper's system
/// properties have and its file has not.
pub fn near(key: &str, used: &[&'static str]) -> Option<&'static str> {
    let bare = key.strip_prefix("zookeeper.").unwrap_or(key);
    let known = KEYS.iter().map(|(name, _)| *name).chain(used.iter().copied());
    known.into_iter().find(|name| name.eq_ignore_ascii_case(bare))
}

const ENSEMBLE: &str = "Ringkeeper does not serve in ensembles yet; remove the ensemble's keys to \
                        start a standalone server";
const TLS: &str = "Ringkeeper does not serve TLS yet";
const ADMIN: &str = "there is no HTTP admin server yet; four-letter words are";

const FALSE: &[&str] = &["false"];
const TRUE: &[&str] = &["true"];

const fn loses(unless: &'static [&'static str], lost: &'static str) -> Bearing {
    Bearing::Loses { unless, lost }
}

const fn refused(unless: &'static [&'static str], why: &'static str) -> Bearing {
    Bearing::Refused { unless, why }
}

/// Families of keys, by prefix; looked up after the exact names.
const FAMILIES: &[(&str, Bearing)] = &[
    ("commitProcessor.", Bearing::None),
    ("group.", refused(&[], ENSEMBLE)),
    ("jvm.pause.monitor", Bearing::None),
    (
        "metricsProvider.",
        loses(
            &["org.apache.zookeeper.metrics.impl.DefaultMetricsProvider"],
            "metrics are told by the word mntr only",
        ),
    ),
    ("multiAddress.", Bearing::None),
    ("netty.", Bearing::None),
    ("quorum.auth.", Bearing::None),
    ("ssl.", Bearing::None),
    ("watcherCleanThread", Bearing::None),
    ("weight.", refused(&[], ENSEMBLE)),
];

/// Keys of formats section 7.1 to 7.3 that `load` does not use.
const KEYS: &[(&str, Bearing)] = &[
    ("IPAuthenticationProvider.usexforwardedfor", Bearing::None),
    ("admin.commandURL", loses(&["/commands"], ADMIN)),
    ("admin.enableServer", Bearing::None),
    ("admin.forceHttps", loses(FALSE, ADMIN)),
    ("admin.httpVersion", Bearing::None),
    ("admin.idleTimeout", Bearing::None),
    ("admin.needClientAuth", loses(FALSE, ADMIN)),
    ("admin.portUnification", loses(FALSE, ADMIN)),
    ("admin.rateLimiterIntervalInMS", Bearing::None),
    ("admin.restore.enabled", Bearing::None),
    ("admin.serverAddress", loses(&["0.0.0.0"], ADMIN)),
    ("admin.serverPort", loses(&["8080"], ADMIN)),
    ("admin.snapshot.enabled", Bearing::None),
    ("audit.enable", loses(FALSE, "no audit log is written yet")),
    ("audit.impl.class", Bearing::None),
    ("client.certReload", Bearing::None),
    ("client.portUnification", loses(FALSE, TLS)),
    ("closeSessionTxn.enabled", Bearing::None),
    ("cnxTimeout", Bearing::None),
    ("commitLogCount", Bearing::None),
    ("connectToLearnerMasterLimit", Bearing::None),
    ("datadir.autocreate", refused(TRUE, "the data directory is always made when it is missing")),
    ("db.autocreate", refused(TRUE, "an empty data directory always becomes an empty tree")),
    ("digest.enabled", Bearing::None),
    ("electionAlg", Bearing::None),
    ("electionPortBindRetry", Bearing::None),
    ("emulate353TTLNodes", refused(FALSE, "TTL znodes are encoded as since 3.5.4 only")),
    ("enableEagerACLCheck", Bearing::None),
    ("fastleader.maxNotificationInterval", Bearing::None),
    ("fastleader.minNotificationInterval", Bearing::None),
    ("fips-mode", Bearing::None),
    ("flushDelay", Bearing::None),
    ("follower.nodelay", Bearing::None),
    ("follower.skipLearnerRequestToNextProcessor", Bearing::None),
    ("forceSnapshotSync", Bearing::None),
    ("forward_learner_requests_to_commit_processor_disabled", Bearing::None),
    ("initLimit", Bearing::None),
    ("jute.maxbuffer.extrasize", Bearing::None),
    ("leader.ackLoggingFrequency", Bearing::None),
    ("leader.closeSocketAsync", Bearing::None),
    ("leader.maxConcurrentDiffSyncs", Bearing::None),
    ("leader.maxConcurrentSnapSyncs", Bearing::None),
    ("leader.maxTimeToWaitForEpoch", Bearing::None),
    ("leader.nodelay", Bearing::None),
    ("leaderConnectDelayDuringRetryMs", Bearing::None),
    ("leaderServes", Bearing::None),
    ("learner.asyncSending", Bearing::None),
    ("learner.closeSocketAsync", Bearing::None),
    ("localSessionsEnabled", Bearing::None),
    ("localSessionsUpgradingEnabled", Bearing::None),
    ("maxBatchSize", Bearing::None),
    ("maxGetChildrenResponseCacheSize", Bearing::None),
    ("maxResponseCacheSize", Bearing::None),
    ("maxWriteQueuePollTime", Bearing::None),
    ("nio.directBufferBytes", Bearing::None),
    ("nio.numSelectorThreads", Bearing::None),
    ("nio.numWorkerThreads", Bearing::None),
    ("nio.shutdownTimeout", Bearing::None),
    ("observer.election.DelayMs", Bearing::None),
    ("observer.reconnectDelayMs", Bearing::None),
    ("observer.syncEnabled", Bearing::None),
    ("observerMaster.sizeLimit", Bearing::None),
    ("observerMasterPort", refused(&["0"], ENSEMBLE)),
    ("oraclePath", refused(&[], ENSEMBLE)),
    ("peerType", refused(&["participant"], ENSEMBLE)),
    ("portUnification", Bearing::None),
    ("quorum.cnxn.threads.size", Bearing::None),
    ("quorumCnxnTimeoutMs", Bearing::None),
    ("quorumListenOnAllIPs", Bearing::None),
    ("readonlymode.enabled", Bearing::None),
    ("reconfigEnabled", Bearing::None),
    ("request_stale_connection_check", Bearing::None),
    ("request_throttle_stall_time", Bearing::None),
    ("request_throttler.shutdownTimeout", Bearing::None),
    ("secureClientPort", refused(&[], TLS)),
    ("secureClientPortAddress", refused(&[], TLS)),
    ("serializeLastProcessedZxid.enabled", Bearing::None),
    ("serverCnxnFactory", Bearing::None),
    ("snapshot.compression.method", Bearing::None),
    ("snapshot.trust.empty", Bearing::None),
    ("snapshotSizeFactor", Bearing::None),
    ("sslQuorum", Bearing::None),
    ("sslQuorumReloadCertFiles", Bearing::None),
    ("syncEnabled", Bearing::None),
    ("syncLimit", Bearing::None),
    ("tcpKeepAlive", Bearing::None),
    ("txnLogSizeLimitInKb", Bearing::None),
    ("watchManagerName", Bearing::None),
    ("watcherCleanIntervalInSeconds", Bearing::None),
    ("watcherCleanThreshold", Bearing::None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_there_twice_and_all_are_sorted() {
        assert!(KEYS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(FAMILIES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_family_covers_what_begins_like_it() {
        assert!(matches!(bearing("ssl.keyStore.location"), Some(Bearing::None)));
        assert!(matches!(bearing("group.1"), Some(Bearing::Refused { .. })));
        assert!(bearing("group.").is_none());
        assert!(bearing("groups").is_none());
    }

    #[test]
    fn a_misspelt_key_has_a_neighbour() {
        assert_eq!(near("flushdelay", &[]), Some("flushDelay"));
        assert_eq!(near("zookeeper.snapCount", &["snapCount"]), Some("snapCount"));
        assert_eq!(near("nonsense", &["snapCount"]), None);
    }
}
