//! `wchs`, `wchc` and `wchp`: the data watches (exists and getData), as ZooKeeper lists them; the
//! watches on children it does not list.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::ReactorReport;
use super::status::Totals;
use crate::ids::SessionId;

/// `wchs`. A path that is watched on several reactors counts once.
pub fn wchs(out: &mut String, reports: &[ReactorReport]) {
    let Totals { watching_connections, data_watches, .. } = Totals::of(reports);
    let mut paths: Vec<u64> =
        reports.iter().flat_map(|report| report.watched_paths.iter().copied()).collect();
    paths.sort_unstable();
    paths.dedup();
    let paths = paths.len();
    writeln!(out, "{watching_connections} connections watching {paths} paths").unwrap();
    writeln!(out, "Total watches:{data_watches}").unwrap();
}

/// `wchc`: by session.
pub fn wchc(out: &mut String, reports: Vec<ReactorReport>) {
    let mut by_session: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
    for (session, path) in list(reports) {
        by_session.entry(session).or_default().push(path);
    }
    for (session, mut paths) in by_session {
        writeln!(out, "{session}").unwrap();
        paths.sort_unstable();
        paths.iter().for_each(|path| writeln!(out, "\t{path}").unwrap());
    }
    out.push('\n');
}

/// `wchp`: by path.
pub fn wchp(out: &mut String, reports: Vec<ReactorReport>) {
    let mut by_path: BTreeMap<String, Vec<SessionId>> = BTreeMap::new();
    for (session, path) in list(reports) {
        by_path.entry(path).or_default().push(session);
    }
    for (path, sessions) in by_path {
        writeln!(out, "{path}").unwrap();
        sessions.iter().for_each(|session| writeln!(out, "\t{session}").unwrap());
    }
    out.push('\n');
}

fn list(reports: Vec<ReactorReport>) -> impl Iterator<Item = (SessionId, String)> {
    reports.into_iter().flat_map(|report| report.watch_list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_two_reactors_have_counts_once() {
        let report = |watched_paths: Vec<u64>| ReactorReport {
            data_watches: watched_paths.len() as u64,
            watching_connections: 1,
            watched_paths,
            ..ReactorReport::default()
        };
        let mut out = String::new();
        wchs(&mut out, &[report(vec![7, 9]), report(vec![9, 8])]);
        assert_eq!(out, "2 connections watching 3 paths\nTotal watches:4\n");
    }
}
