//! Makes a script that shows a difference small: steps, requests of a burst and parts of a multi
//! are left out as long as some difference stays.

use crate::request::{Damage, Data, Request, Since};
use crate::script::{Script, Step};

/// Most times that a script is tried.
const TRIES_MAX: usize = 400;

/// The smallest script found for which `differs` still holds.
pub fn shrink(script: &Script, mut differs: impl FnMut(&Script) -> bool) -> Script {
    let mut tries = 0;
    let mut best = script.clone();
    let mut try_it = |candidate: Script, best: &mut Script| {
        tries += 1;
        let is_smaller = tries <= TRIES_MAX && candidate != *best && differs(&candidate);
        if is_smaller {
            *best = candidate;
        }
        is_smaller
    };
    let mut chunk = best.steps.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < best.steps.len() {
            let mut candidate = best.clone();
            candidate.steps.drain(at..(at + chunk).min(best.steps.len()));
            if !try_it(candidate, &mut best) {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    let mut at = 0;
    while at < best.steps.len() {
        let smaller = smaller_steps(&best.steps[at]);
        let taken = smaller.into_iter().any(|step| {
            let mut candidate = best.clone();
            candidate.steps[at] = step;
            try_it(candidate, &mut best)
        });
        if !taken {
            at += 1;
        }
    }
    best
}

fn smaller_steps(step: &Step) -> Vec<Step> {
    match step {
        Step::Burst { slot, requests } => {
            let mut smaller: Vec<Step> = without_one(requests)
                .map(|requests| match requests.as_slice() {
                    [request] => Step::Ask { slot: *slot, request: request.clone() },
                    _ => Step::Burst { slot: *slot, requests },
                })
                .collect();
            for (number, request) in requests.iter().enumerate() {
                smaller.extend(smaller_requests(request).into_iter().map(|request| {
                    let mut requests = requests.clone();
                    requests[number] = request;
                    Step::Burst { slot: *slot, requests }
                }));
            }
            smaller
        }
        Step::Ask { slot, request } => {
            let smaller = smaller_requests(request).into_iter();
            smaller.map(|request| Step::Ask { slot: *slot, request }).collect()
        }
        _ => Vec::new(),
    }
}

fn without_one<T: Clone>(items: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..items.len()).filter(|_| items.len() > 1).map(|number| {
        let mut fewer = items.to_vec();
        fewer.remove(number);
        fewer
    })
}

fn smaller_requests(request: &Request) -> Vec<Request> {
    match request {
        Request::Multi(parts) => without_one(parts).map(Request::Multi).collect(),
        Request::MultiRead(parts) => without_one(parts).map(Request::MultiRead).collect(),
        Request::SetWatches2 { since, data, exist, child, persistent, recursive } => {
            let lists = [data, exist, child, persistent, recursive];
            let with = |lists: [Vec<String>; 5], since: Since| {
                let [data, exist, child, persistent, recursive] = lists;
                Request::SetWatches2 { since, data, exist, child, persistent, recursive }
            };
            (0..lists.len())
                .filter(|number| !lists[*number].is_empty())
                .map(|number| {
                    let mut fewer = lists.map(Vec::clone);
                    fewer[number].pop();
                    with(fewer, *since)
                })
                .collect()
        }
        Request::Create { op, path, data: Data(Some(bytes)), acl, flags, ttl }
            if bytes.len() > 1 && !path.starts_with("/zookeeper") =>
        {
            let (path, acl, data) = (path.clone(), acl.clone(), Data(Some(b"d".to_vec())));
            vec![Request::Create { op: *op, path, data, acl, flags: *flags, ttl: *ttl }]
        }
        Request::Broken { request, how: Damage::Short(_) } => smaller_requests(request)
            .into_iter()
            .map(|request| Request::Broken {
                request: Box::new(request),
                how: Damage::Short(usize::MAX),
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(path: &str) -> Request {
        Request::Delete { path: path.to_owned(), version: -1 }
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let ask = |path: &str| Step::Ask { slot: 0, request: delete(path) };
        let burst = Step::Burst { slot: 1, requests: vec![delete("/b"), delete("/needle")] };
        let steps = vec![ask("/a"), ask("/b"), burst, ask("/c"), ask("/d")];
        let script = Script { seed: 1, root: "/s1".to_owned(), steps };
        let smallest = shrink(&script, |script| {
            let mut requests = script.steps.iter().flat_map(Step::requests);
            requests.any(|request| *request == delete("/needle"))
        });
        assert_eq!(smallest.steps, [Step::Ask { slot: 1, request: delete("/needle") }]);
    }
}
