//! The two hash functions everything is keyed by.
//!
//! XXH3 with its default secret and no seed: fixed, so that gateways which share nothing compute equal keys. It
//! is not keyed against an adversary; a constructed collision costs routing quality, never isolation, because
//! the rank computes its own hashes.

use xxhash_rust::xxh3::xxh3_64;

/// Hashes bytes with XXH3-64.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
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
    fn chaining_depends_on_the_order() {
        assert_ne!(chain(1, 2), chain(2, 1));
        assert_ne!(chain(0, 1), chain(0, 2));
        assert_ne!(chain(0, 0), 0);
    }
}
