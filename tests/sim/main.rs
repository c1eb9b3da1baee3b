//! ZAB, simulated: whole ensembles in one thread, each from a seed.
//!
//!     cargo test --release --test sim                      the usual number of seeds
//!     SIM_SEEDS=1000000 cargo test --release --test sim    any number
//!     SIM_SEED=17 cargo test --release --test sim one_seed -- --nocapture     a trace
//!
//! A seed that fails is printed, and its run again with a trace of everything that happened.

mod checker;
mod node;
mod plant;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use plant::PLANTS;
use world::{Options, Summary, World};

/// Seeds of a run of the test command.
const SEEDS: u64 = 1_000;
/// Seeds within which each planted fault must be found.
const PLANT_SEEDS: u64 = 3_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Whether the run of `seed` breaks a rule.
fn fails(seed: u64, options: Options) -> Result<Summary, String> {
    let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, options).run()));
    run.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("a panic").to_owned(),
    })
}

#[test]
fn no_seed_breaks_a_rule() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(0);
    let mut total = Summary::default();
    for seed in first..first + seeds {
        match fails(seed, Options::default()) {
            Ok(summary) => total.add(summary),
            Err(broken) => panic!("seed {seed}: {broken}\nSIM_SEED={seed} traces it"),
        }
    }
    println!("{seeds} seeds: {total:?}");
    for (what, count) in [
        ("acknowledged", total.acknowledged),
        ("DIFF", total.diffs),
        ("TRUNC", total.truncs),
        ("SNAP", total.snaps),
        ("crashes", total.crashes),
        ("syncs", total.syncs),
    ] {
        assert!(count > 0, "no {what} in {seeds} seeds: the simulation misses its point");
    }
}

#[test]
fn one_seed_can_be_traced() {
    let seed = number("SIM_SEED");
    let options = Options { trace: seed.is_some(), ..Options::default() };
    let seed = seed.unwrap_or(1);
    let first = World::new(seed, options).run();
    let quiet = Options { trace: false, ..options };
    assert_eq!(first, World::new(seed, quiet).run(), "a seed replays exactly");
}

#[test]
fn planted_faults_are_found() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> = PLANTS
        .iter()
        .map(|&plant| {
            let options = Options { plant: Some(plant), ..Options::default() };
            (plant, (0..PLANT_SEEDS).find_map(|seed| Some((seed, fails(seed, options).err()?))))
        })
        .collect();
    std::panic::set_hook(hook);
    for (plant, found) in &found {
        println!("{plant:?}: {found:?}");
    }
    for (plant, found) in found {
        assert!(found.is_some(), "{plant:?} was not found in {PLANT_SEEDS} seeds");
    }
}
