//! The two hash functions everything is keyed by.
//!
//! XXH3 with its default secret and, unless one is configured, no seed: fixed, so that gateways which share nothing compute
//! equal keys. Without a seed it is not keyed against an adversary; a constructed collision costs routing quality, never
//! isolation, because the rank computes its own hashes. Where an entry goes in a table is keyed always ([`keyed`]).

use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hashes bytes with XXH3-64.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Hashes bytes with XXH3-64 under a seed; with 0 as [`hash_bytes`].
#[must_use]
pub fn hash_seeded(bytes: &[u8], seed: u64) -> u64 {
    match seed {
        0 => xxh3_64(bytes),
        seed => xxh3_64_with_seed(bytes, seed),
    }
}

/// Where a hash that a client can choose goes in a table: no client that does not know `secret` can make many go to one place.
///
/// XXH3-64 of the eight bytes under a seed, which gives each hash a value of its own. Cost: some multiplications.
#[must_use]
pub(crate) fn keyed(secret: u64, hash: u64) -> u64 {
    xxh3_64_with_seed(&hash.to_le_bytes(), secret)
}

/// Makes [`keyed`] the hash of tables whose keys are hashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyedState {
    pub(crate) secret: u64,
}

/// The hash of one key.
#[derive(Debug)]
pub(crate) struct KeyedHasher {
    secret: u64,
    hash: u64,
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher {
            secret: self.secret,
            hash: 0,
        }
    }
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = keyed(self.secret, chain(self.hash, hash_bytes(bytes)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.hash = keyed(self.secret, hash);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// Hashes `next` and everything before it: XXH3-64 of both words, little-endian.
///
/// Not commutative, so `chain(a, b)` and `chain(b, a)` differ.
#[must_use]
pub fn chain(before: u64, next: u64) -> u64 {
    let words = (u128::from(next) << 64) | u128::from(before);
    xxh3_64(&words.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chaining_is_the_hash_of_both_words_in_little_endian_order() {
        let words = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(chain(1, 2), hash_bytes(&words));
    }

    #[test]
    fn a_seed_changes_hashes_and_none_changes_nothing() {
        let long = [7; 300];
        for bytes in [&b""[..], b"abc", &long] {
            assert_eq!(hash_seeded(bytes, 0), hash_bytes(bytes));
            assert_ne!(hash_seeded(bytes, 1), hash_bytes(bytes));
            assert_ne!(hash_seeded(bytes, 1), hash_seeded(bytes, 2));
        }
    }

    #[test]
    fn hashes_that_are_equal_in_most_bits_go_to_different_places() {
        let places: std::collections::HashSet<u64> = (0..4096u64)
            .map(|number| keyed(5, number << 40) % 4096)
            .collect();
        assert!(places.len() > 2000, "{}", places.len());
        let state = KeyedState { secret: 5 };
        assert_eq!(state.hash_one(9u64), keyed(5, 9));
        assert_ne!(keyed(5, 9), keyed(6, 9));
    }

    #[test]
    fn chaining_depends_on_the_order() {
        assert_ne!(chain(1, 2), chain(2, 1));
        assert_ne!(chain(0, 1), chain(0, 2));
        assert_ne!(chain(0, 0), 0);
    }
}
