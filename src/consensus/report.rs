//! What the core tells operators about itself.

use crate::admin::report::{ConsensusAsk, ConsensusReport, LatencyReport, Mode, ProposalSizes};
use crate::consensus::batch::Batch;
use crate::consensus::core::{Core, Moment, Role};

/// What has been counted since the last reset.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub proposals: u64,
    pub proposal_sizes: ProposalSizes,
    commits: u64,
    pub expired_sessions: u64,
    update_latency: LatencyReport,
}

impl Core {
    /// Answers a question of the housekeeping thread. What the log and the snapshots know about
    /// themselves is in `log`.
    pub fn answer(&mut self, ask: ConsensusAsk, log: ConsensusReport, moment: Moment) {
        match ask {
            ConsensusAsk::ResetServerStats => self.counters = Counters::default(),
            ConsensusAsk::Report { ephemerals, to } => {
                // Whoever asked may have given up meanwhile.
                let _ = to.try_send(self.report(ephemerals, log, moment));
            }
        }
    }

    fn mode(&self) -> Mode {
        match (&self.role, self.zab.is_observer()) {
            (Role::Leading(_), _) if self.alone => Mode::Standalone,
            (Role::Leading(_), _) => Mode::Leader,
            (Role::Following(_), false) => Mode::Follower,
            (Role::Following(_), true) => Mode::Observer,
            (Role::Idle, _) => Mode::Idle,
        }
    }

    fn report(&self, ephemerals: bool, log: ConsensusReport, moment: Moment) -> ConsensusReport {
        let (tree, sessions) = (&self.prepare.tree, &self.prepare.sessions);
        let counts = tree.counts();
        let since_1970 = moment.wall_ms.saturating_sub_unsigned(moment.now_ms);
        let wall = |ms: u64| since_1970.saturating_add_unsigned(ms).max(0) as u64;
        let paths = ephemerals.then(|| {
            tree.ephemeral_sessions().map(|session| (session, tree.ephemerals(session).collect()))
        });
        ConsensusReport {
            mode: self.mode(),
            learners: self.zab.learners(),
            proposal_sizes: self.counters.proposal_sizes,
            last_committed: self.committed(),
            znodes: counts.znodes,
            ephemerals: counts.ephemerals,
            approximate_data_bytes: counts.approximate_data_bytes,
            sessions: sessions.len() as u64,
            session_expiries: sessions.expiries().map(|(id, ms)| (id, wall(ms))).collect(),
            ephemeral_paths: paths.into_iter().flatten().collect(),
            outstanding: self.outstanding() as u64,
            proposals: self.counters.proposals,
            commits: self.counters.commits,
            expired_sessions: self.counters.expired_sessions,
            update_latency: self.counters.update_latency,
            ..log
        }
    }
}

impl Counters {
    /// Counts a committed batch. Each of its transactions is taken to have waited as long as the
    /// first.
    pub fn commit(&mut self, batch: &Batch, moment: Moment) {
        let txns = batch.txns() as u64;
        self.commits += txns;
        // As in ZooKeeper, where a request of the server's own has no connection to be timed for.
        let asked = batch.asked() as u64;
        if asked > 0 {
            let waited = moment.now_ms.saturating_sub(batch.began_ms().unwrap_or(moment.now_ms));
            note(&mut self.update_latency, waited as f64, asked);
        }
    }
}

/// Adds `count` durations of `ms` milliseconds each.
pub(super) fn note(latency: &mut LatencyReport, ms: f64, count: u64) {
    let whole = ms as u64;
    latency.min_ms = if latency.count == 0 { whole } else { latency.min_ms.min(whole) };
    latency.max_ms = latency.max_ms.max(whole);
    latency.total_ms += ms * count as f64;
    latency.count += count;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Zxid;

    #[test]
    fn what_no_client_asked_for_is_committed_but_not_timed() {
        let moment = Moment { now_ms: 107, wall_ms: 0 };
        let mut counters = Counters::default();
        let mut batch = Batch::new(1);
        batch.note(100);
        batch.end_txn_unasked(Zxid::from_bits(1));
        counters.commit(&batch, moment);
        assert_eq!((counters.commits, counters.update_latency.count), (1, 0));
        batch.end_txn(Zxid::from_bits(2));
        counters.commit(&batch, moment);
        let latency = counters.update_latency;
        assert_eq!((counters.commits, latency.count), (3, 1));
        assert_eq!((latency.min_ms, latency.max_ms), (7, 7));
    }
}
