//! How many handshakes there may be in a time: ZooKeeper's connection throttling. A bucket of
//! tokens that refills; optionally handshakes are refused at random before, the more often the
//! longer the bucket has been empty (BLUE, Feng et al. 1999). Shared by the reactors, in
//! `admission`.

/// What the keys `connection_throttle_*` say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionThrottle {
    /// Tokens in a full bucket; more than 0.
    pub tokens: u32,
    /// In this many milliseconds, more than 0, `fill_count` tokens come back.
    pub fill_time_ms: u64,
    pub fill_count: u64,
    /// Refusals at random; none: there are none.
    pub blue: Option<Blue>,
    /// Tokens that a new session takes, and one that comes back.
    pub new_weight: u32,
    pub renew_weight: u32,
}

/// When handshakes are refused at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blue {
    /// The chance of a refusal changes at most once in so many milliseconds.
    pub freeze_time_ms: u64,
    /// By how much it grows when the bucket is empty.
    pub increase: f64,
    /// By how much it falls when no more than `decrease_ratio` of the bucket is missing.
    pub decrease: f64,
    pub decrease_ratio: f64,
}

/// The bucket.
#[derive(Debug)]
pub struct TokenBucket {
    throttle: ConnectionThrottle,
    tokens: u32,
    filled_ms: u64,
    frozen_ms: u64,
    /// The chance of a refusal.
    chance: f64,
}

impl TokenBucket {
    /// A full bucket, at `now_ms` of any clock that `take` goes by, too.
    pub fn new(throttle: ConnectionThrottle, now_ms: u64) -> TokenBucket {
        let tokens = throttle.tokens;
        TokenBucket { throttle, tokens, filled_ms: now_ms, frozen_ms: now_ms, chance: 0.0 }
    }

    /// Takes the tokens for a handshake; `false`: it is to be refused. `random` is from 0 to 1,
    /// 1 excluded.
    pub fn take(&mut self, renews: bool, now_ms: u64, random: f64) -> bool {
        self.fill(now_ms);
        if let Some(blue) = self.throttle.blue {
            self.adjust(blue, now_ms);
            if random < self.chance {
                return false;
            }
        }
        let weight = if renews { self.throttle.renew_weight } else { self.throttle.new_weight };
        let Some(left) = self.tokens.checked_sub(weight) else { return false };
        self.tokens = left;
        true
    }

    fn fill(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        if passed_ms > self.throttle.fill_time_ms {
            let count = passed_ms.saturating_mul(self.throttle.fill_count);
            let back = u32::try_from(count / self.throttle.fill_time_ms).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(back).min(self.throttle.tokens);
            self.filled_ms = now_ms;
        }
    }

    fn adjust(&mut self, blue: Blue, now_ms: u64) {
        if now_ms.saturating_sub(self.frozen_ms) <= blue.freeze_time_ms {
            return;
        }
        let missing = self.throttle.tokens - self.tokens;
        let threshold = (f64::from(self.throttle.tokens) * blue.decrease_ratio).round();
        if self.tokens == 0 {
            self.chance = (self.chance + blue.increase).min(1.0);
        } else if f64::from(missing) <= threshold {
            self.chance = (self.chance - blue.decrease).max(0.0);
        }
        self.frozen_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: ConnectionThrottle = ConnectionThrottle {
        tokens: 3,
        fill_time_ms: 100,
        fill_count: 1,
        blue: None,
        new_weight: 1,
        renew_weight: 1,
    };

    #[test]
    fn an_empty_bucket_refuses_until_it_refills() {
        let mut bucket = TokenBucket::new(PLAIN, 1_000);
        let taken: Vec<bool> = (0..4).map(|_| bucket.take(false, 1_000, 0.0)).collect();
        assert_eq!(taken, [true, true, true, false]);
        assert!(!bucket.take(false, 1_100, 0.0));
        assert!(bucket.take(false, 1_250, 0.0) && bucket.take(false, 1_250, 0.0));
        assert!(!bucket.take(false, 1_250, 0.0));
        let taken = (0..9).filter(|_| bucket.take(false, u64::MAX, 0.0)).count();
        assert_eq!(taken, 3, "it holds no more than it may");
    }

    #[test]
    fn handshakes_take_tokens_by_their_weight() {
        let weighed = ConnectionThrottle { tokens: 5, new_weight: 3, renew_weight: 2, ..PLAIN };
        let mut bucket = TokenBucket::new(weighed, 0);
        assert!(bucket.take(false, 0, 0.0));
        assert!(!bucket.take(false, 0, 0.0));
        assert!(bucket.take(true, 0, 0.0));
        assert!(!bucket.take(true, 0, 0.0));
    }

    #[test]
    fn the_chance_of_a_refusal_grows_while_the_bucket_is_empty_and_falls_when_it_is_full() {
        let blue = Blue { freeze_time_ms: 0, increase: 0.4, decrease: 0.3, decrease_ratio: 0.0 };
        let blue = ConnectionThrottle { tokens: 1, blue: Some(blue), fill_time_ms: 1_000, ..PLAIN };
        let mut bucket = TokenBucket::new(blue, 0);
        assert!(bucket.take(false, 1, 0.0));
        for (now_ms, chance) in [(2, 0.4), (3, 0.8), (4, 1.0), (5, 1.0)] {
            assert!(!bucket.take(false, now_ms, 0.99));
            assert!((bucket.chance - chance).abs() < 1e-9, "{}", bucket.chance);
        }
        for (now_ms, chance) in [(2_000, 0.7), (2_001, 0.4), (2_002, 0.1)] {
            assert!(!bucket.take(false, now_ms, 0.05));
            assert!((bucket.chance - chance).abs() < 1e-9, "{}", bucket.chance);
        }
        assert!(bucket.take(false, 2_003, 0.0));
    }
}
