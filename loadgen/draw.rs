//! What one connection draws: random numbers, keys evenly or by Zipf's law, and the numbers of the
//! znodes that it creates and deletes. No draw allocates. Used by `workload`.

/// Digits of a created znode's number: five for the connection, the rest for its count.
pub const CREATED_DIGITS: usize = 16;
const CREATED_PER_CONNECTION: u64 = 100_000_000_000;

/// How keys are chosen: a number below the number of keys.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Each as often as any other.
    Uniform(u64),
    /// Key 0 the most often.
    Zipf(Zipf),
}

impl Keys {
    /// The next key.
    #[inline]
    pub fn draw(&self, source: &mut Source) -> u64 {
        match self {
            Keys::Uniform(count) => source.below(*count),
            Keys::Zipf(zipf) => zipf.draw(source),
        }
    }
}

/// Ranks with probability proportional to 1 / (rank + 1)^exponent, by rejection-inversion (Hörmann
/// and Derflinger: Rejection-inversion to generate variates from monotone discrete distributions,
/// ACM TOMACS 1996). Its memory and time do not depend on the number of ranks.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    /// H(1.5) - 1 and H(count + 0.5): what is drawn from evenly and then inverted.
    low: f64,
    high: f64,
    /// A rank this close above its inverse needs no test.
    sure: f64,
}

impl Zipf {
    /// Over `count` ranks, at least one; the exponent is positive.
    pub fn new(count: u64, exponent: f64) -> Zipf {
        assert!(count > 0, "a distribution over nothing");
        assert!(exponent > 0.0 && exponent.is_finite(), "exponent {exponent}");
        let mut zipf = Zipf { count: count as f64, exponent, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    fn draw(&self, source: &mut Source) -> u64 {
        loop {
            let area = self.high + source.fraction() * (self.low - self.high);
            let at = self.inverse(area);
            let rank = at.round().clamp(1.0, self.count);
            let accepted =
                rank - at <= self.sure || area >= self.integral(rank + 0.5) - self.density(rank);
            if accepted {
                return rank as u64 - 1;
            }
        }
    }

    fn density(&self, at: f64) -> f64 {
        (-self.exponent * at.ln()).exp()
    }

    /// The antiderivative of the density that is 0 at 1. Near exponent 1 both this and its inverse
    /// would divide zero by zero, so they go through `exp_m1` and `ln_1p` of small numbers.
    fn integral(&self, at: f64) -> f64 {
        let log = at.ln();
        let scaled = (1.0 - self.exponent) * log;
        if scaled.abs() < 1e-12 { log } else { scaled.exp_m1() / scaled * log }
    }

    fn inverse(&self, area: f64) -> f64 {
        // Rounding may bring it below the smallest value that the antiderivative takes.
        let scaled = (area * (1.0 - self.exponent)).max(-1.0);
        let log = if scaled.abs() < 1e-12 { area } else { scaled.ln_1p() / scaled * area };
        log.exp()
    }
}

/// One connection's random numbers, and its count of created and of deleted znodes.
#[derive(Debug)]
pub struct Source {
    state: u64,
    first_created: u64,
    created: u64,
    deleted: u64,
    requests: u64,
    first: bool,
    /// It has a watch, or has asked for one.
    pub watches: bool,
}

impl Source {
    /// Connection `connection` of the run, counted from 0, in round `round`.
    pub fn new(seed: u64, round: u32, connection: u32) -> Source {
        let place = (u64::from(round) << 32) | u64::from(connection);
        let mut source = Source {
            state: seed ^ place.wrapping_mul(0xd134_2543_de82_ef95),
            first_created: u64::from(connection) * CREATED_PER_CONNECTION,
            created: 0,
            deleted: 0,
            requests: 0,
            first: connection == 0,
            watches: false,
        };
        source.next();
        source
    }

    /// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    #[inline]
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Any number below `bound`, evenly.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The number of a znode that no other connection creates.
    #[inline]
    pub fn create(&mut self) -> u64 {
        let number = self.first_created + self.created;
        self.created += 1;
        number
    }

    /// The oldest znode that this connection created and did not delete.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub fn delete(&mut self) -> u64 {
        assert!(self.has_created(), "all {} znodes created are deleted", self.created);
        let number = self.first_created + self.deleted;
        self.deleted += 1;
        number
    }

    /// Whether some znode is there to delete.
    #[inline]
    pub fn has_created(&self) -> bool {
        self.deleted < self.created
    }

    /// Whether it is the run's first connection.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// How often it was called before.
    #[inline]
    pub fn turn(&mut self) -> u64 {
        let turn = self.requests;
        self.requests += 1;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_rounds_draw_different_keys_and_a_seed_repeats_them() {
        let draw = |seed, round, connection| {
            let mut source = Source::new(seed, round, connection);
            [(); 8].map(|()| source.below(1_000_000))
        };
        assert_eq!(draw(1, 0, 0), draw(1, 0, 0));
        assert_ne!(draw(1, 0, 0), draw(1, 0, 1));
        assert_ne!(draw(1, 0, 0), draw(1, 1, 0));
        assert_ne!(draw(1, 0, 0), draw(2, 0, 0));
    }

    #[test]
    fn zipf_draws_each_rank_as_often_as_its_law_says() {
        const DRAWS: usize = 200_000;
        for exponent in [0.5, 0.99, 1.0, 1.000_001, 2.0] {
            let zipf = Zipf::new(20, exponent);
            let mut source = Source::new(7, 0, 0);
            let mut counts = [0; 20];
            for _ in 0..DRAWS {
                counts[zipf.draw(&mut source) as usize] += 1;
            }
            let weight = |rank: usize| (rank as f64 + 1.0).powf(-exponent);
            let total: f64 = (0..20).map(weight).sum();
            for (rank, count) in counts.into_iter().enumerate() {
                let expected = weight(rank) / total * DRAWS as f64;
                let off = (f64::from(count) - expected).abs();
                assert!(
                    off < 5.0 * expected.sqrt() + 1.0,
                    "exponent {exponent}, rank {rank}: {count} drawn, {expected:.0} expected"
                );
            }
        }
    }

    #[test]
    fn zipf_stays_in_its_range_however_large_or_small() {
        let mut source = Source::new(3, 0, 0);
        for (count, exponent) in [(1, 0.99), (2, 5.0), (100_000_000, 0.01), (100_000_000, 3.0)] {
            let zipf = Zipf::new(count, exponent);
            for _ in 0..10_000 {
                assert!(zipf.draw(&mut source) < count, "{count} ranks, exponent {exponent}");
            }
        }
    }

    #[test]
    fn znodes_are_deleted_in_the_order_of_their_creation() {
        let mut source = Source::new(1, 0, 3);
        assert!(!source.has_created());
        let made = [source.create(), source.create()];
        assert_eq!([source.delete(), source.delete()], made);
        assert!(!source.has_created());
        assert_eq!(made[0], 3 * CREATED_PER_CONNECTION);
    }
}
