//! Random numbers from a seed, the same on every machine, so that a failure can be run again.

use std::time::Duration;

/// SplitMix64: small, fast and good enough to choose what a test does next.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this seed.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        self.bits() % bound
    }

    /// True `times` out of `of`.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// A duration in `0..bound`, in whole microseconds.
    pub fn duration_below(&mut self, bound: Duration) -> Duration {
        let micros =
            u64::try_from(bound.as_micros()).expect("a test waits for less than a century");
        Duration::from_micros(self.below(micros.max(1)))
    }
}

/// The seed of a test's first round: `RINGKEEPER_TEST_SEED` when set, else `default`. A test says
/// in its failures which seed it ran with.
///
/// # Panics
/// When the variable is set to something that is not a number.
pub fn base_seed(default: u64) -> u64 {
    match std::env::var("RINGKEEPER_TEST_SEED") {
        Ok(text) => text.parse().expect("RINGKEEPER_TEST_SEED is a decimal number"),
        Err(_) => default,
    }
}
