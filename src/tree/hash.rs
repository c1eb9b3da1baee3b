//! The hash of a path: keyed anew in every process, since paths come from the network and a client
//! that could find collisions could make the index crawl.

use std::hash::{BuildHasher, RandomState};

/// A secret key and the hash under it: folded 64×64→128 bit multiplications over the path's bytes.
#[derive(Clone, Debug)]
pub(super) struct PathHasher {
    keys: [u64; 4],
}

impl PathHasher {
    /// A hasher with a key that nobody outside of the process can know.
    pub fn random() -> PathHasher {
        let random = RandomState::new();
        // An even or zero multiplier would lose bits.
        PathHasher { keys: [0, 1, 2, 3].map(|index: u64| random.hash_one(index) | 1) }
    }

    /// The hash of `path`; all 64 bits are good.
    pub fn hash(&self, path: &str) -> u64 {
        let bytes = path.as_bytes();
        let mut state = self.keys[0] ^ bytes.len() as u64;
        let (mut low, mut high) = (0, 0);
        match bytes.len() {
            0 => {}
            1..=7 => {
                // Up to three overlapping bytes would do for 1-3, but this is as fast and plain.
                for (index, byte) in bytes.iter().enumerate() {
                    low |= (*byte as u64) << (8 * index);
                }
            }
            length => {
                let mut rest = bytes;
                while let Some((block, after)) = rest.split_first_chunk::<16>() {
                    if after.is_empty() {
                        break;
                    }
                    let low = word(&block[..8]);
                    let high = word(&block[8..]);
                    state = fold(low ^ self.keys[1], high ^ state);
                    rest = after;
                }
                // The last 16 bytes (or the whole), overlapping what is done already.
                low = word(&bytes[length.saturating_sub(16)..][..8]);
                high = word(&bytes[length - 8..]);
            }
        }
        let mixed = fold(low ^ self.keys[2], high ^ state);
        fold(mixed ^ self.keys[3], mixed.rotate_left(32) ^ self.keys[1])
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word is 8 bytes"))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn similar_paths_differ_in_every_part_of_the_hash() {
        let hasher = PathHasher::random();
        let count = if cfg!(miri) { 200 } else { 20_000 };
        let hashes: Vec<u64> =
            (0..count).map(|number| hasher.hash(&format!("/some/parent/n{number:07}"))).collect();
        let distinct: HashSet<u64> = hashes.iter().copied().collect();
        assert_eq!(distinct.len(), hashes.len());
        // Each of the top 10 and low 10 bits is set about half the time.
        for bit in (0..10).chain(54..64) {
            let set = hashes.iter().filter(|hash| *hash >> bit & 1 == 1).count();
            assert!(set * 10 > count * 3 && set * 10 < count * 7, "bit {bit}: {set} of {count}");
        }
    }

    #[test]
    fn every_byte_and_every_length_counts() {
        let hasher = PathHasher::random();
        let mut seen = HashSet::new();
        for length in 0..70 {
            let path = "/".repeat(length);
            assert!(seen.insert(hasher.hash(&path)), "length {length}");
            for at in 0..length {
                let mut changed = path.clone();
                changed.replace_range(at..at + 1, "x");
                assert!(seen.insert(hasher.hash(&changed)), "length {length}, byte {at}");
            }
        }
    }

    #[test]
    fn two_hashers_have_different_keys() {
        assert_ne!(PathHasher::random().hash("/a"), PathHasher::random().hash("/a"));
    }
}
