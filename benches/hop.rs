//! The hop between cores: a submission from a reactor's thread to the consensus core's, a published
//! batch back, nothing done with either. With both threads awake, with both asleep, and how many a
//! core takes when they come one after the other. `cargo bench --bench hop`

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::consensus::handoff::{Published, Submission};
use ringkeeper::ids::ReactorId;
use ringkeeper::limits::PUBLISHED_WAITING_MAX;
use ringkeeper::rt::cores::{CoreSettings, start};
use ringkeeper::rt::inbox::{RingInbox, TaskInbox};
use ringkeeper::rt::net::{Patience, Sockets};
use ringkeeper::rt::ring::RingSockets;

/// Longer than any round.
const NEVER: Duration = Duration::from_secs(60);

/// How the threads wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Awake,
    Asleep,
}

/// Both ways between a reactor's thread and the consensus core's.
#[derive(Clone)]
struct Link {
    submissions: TaskInbox<Submission>,
    batches: RingInbox<Arc<Published>>,
    over: Arc<AtomicBool>,
}

/// A core on cpu `cpu`, if the machine has one of that number.
fn core(name: &str, cpu: usize, waiting: Waiting) -> CoreSettings {
    let cpus = available_parallelism().map_or(1, usize::from);
    let spin_before_park = if waiting == Waiting::Awake { NEVER } else { Duration::ZERO };
    CoreSettings { name: name.to_owned(), cpu: (cpu < cpus).then_some(cpu), spin_before_park }
}

/// Answers every submission with a batch until the link is over.
fn consensus(link: Link, waiting: Waiting) -> JoinHandle<()> {
    let task = move || async move {
        let batch = Arc::new(Published::default());
        while !link.over.load(Ordering::Relaxed) {
            poll_fn(|context| link.submissions.poll_ready(context)).await;
            while link.submissions.take().is_some() {
                let sent = link.batches.send(batch.clone());
                sent.expect("the reactor sends no more than its inbox takes");
            }
        }
    };
    start(core("consensus", 1, waiting), task, |ran| ran.unwrap()).unwrap()
}

/// Waits for one batch as a reactor does: in its ring, which the inbox's event wakes.
fn wait(link: &Link, sockets: &mut RingSockets, waiting: Waiting) {
    let mut events = Vec::new();
    while link.batches.take().is_none() {
        if waiting == Waiting::Awake || !link.batches.fall_asleep() {
            std::hint::spin_loop();
            continue;
        }
        sockets.wait(Patience::For(NEVER), &mut events).unwrap();
        link.batches.wake_up();
    }
}

/// How long `rounds` take in which `together` submissions go to the consensus core and as many
/// batches come back.
fn round_trips(rounds: u64, together: usize, waiting: Waiting) -> Duration {
    let link = Link {
        submissions: TaskInbox::new(PUBLISHED_WAITING_MAX),
        batches: RingInbox::new(PUBLISHED_WAITING_MAX).unwrap(),
        over: Arc::new(AtomicBool::new(false)),
    };
    let consensus = consensus(link.clone(), waiting);
    let task = move || async move {
        let mut sockets = RingSockets::new(link.batches.as_fd(), 64).unwrap();
        let mut round = || {
            for _ in 0..together {
                let sent = link.submissions.send(Submission::new(ReactorId(0)));
                sent.expect("there is room for a round");
            }
            (0..together).for_each(|_| wait(&link, &mut sockets, waiting));
        };
        // The other core comes up.
        round();
        let began = Instant::now();
        (0..rounds).for_each(|_| round());
        let spent = began.elapsed();
        link.over.store(true, Ordering::Relaxed);
        link.submissions.send(Submission::new(ReactorId(0))).expect("there is room for the end");
        spent
    };
    let reactor = start(core("reactor", 0, waiting), task, |ran| ran.unwrap()).unwrap();
    let spent = reactor.join().unwrap();
    consensus.join().unwrap();
    spent
}

fn hops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hop there and back");
    for (name, together, waiting) in [
        ("both awake", 1, Waiting::Awake),
        ("both asleep", 1, Waiting::Asleep),
        ("64 together", 64, Waiting::Awake),
    ] {
        group.throughput(Throughput::Elements(together as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| round_trips(rounds, together, waiting));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(20);
    targets = hops
}
criterion_main!(benches);
