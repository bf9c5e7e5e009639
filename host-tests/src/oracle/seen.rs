//! What block hashes say was seen before.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use routing::Prompt;

/// A block of a prompt with everything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Hash of the prompt up to the block's end.
    pub hash: u64,
    /// Tokens up to the block's end.
    pub tokens: u64,
}

impl Link {
    /// The blocks of a prompt, with the tokens that the router counts.
    #[must_use]
    pub fn of(prompt: &Prompt) -> Vec<Self> {
        let blocks = (1..).zip(&prompt.blocks);
        blocks
            .map(|(depth, block)| Self {
                hash: block.chain_hash,
                tokens: prompt.tokens_in(depth),
            })
            .collect()
    }
}

/// The blocks of all earlier prompts.
#[derive(Debug, Default)]
pub struct Seen {
    hashes: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

impl Seen {
    /// Tokens in the leading blocks that were seen.
    #[must_use]
    pub fn matched(&self, links: &[Link]) -> u64 {
        let leading = links
            .iter()
            .take_while(|link| self.hashes.contains(&link.hash));
        leading.last().map_or(0, |link| link.tokens)
    }

    /// Remembers a prompt.
    pub fn insert(&mut self, links: &[Link]) {
        self.hashes.extend(links.iter().map(|link| link.hash));
    }
}

/// Takes a hash for its own hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(hashes: &[u64]) -> Vec<Link> {
        let links = (1..).zip(hashes);
        links
            .map(|(depth, &hash)| Link {
                hash,
                tokens: depth * 64,
            })
            .collect()
    }

    #[test]
    fn blocks_match_from_the_first_on_without_a_gap() {
        let mut seen = Seen::default();
        assert_eq!(seen.matched(&links(&[1, 2])), 0);
        seen.insert(&links(&[1, 2, 3]));
        seen.insert(&links(&[1, 2, 4]));
        assert_eq!(seen.matched(&links(&[1, 2, 4, 5])), 192);
        assert_eq!(seen.matched(&links(&[1, 9, 3])), 64);
        assert_eq!(seen.matched(&links(&[9, 2, 3])), 0);
        assert_eq!(seen.matched(&[]), 0);
    }
}
