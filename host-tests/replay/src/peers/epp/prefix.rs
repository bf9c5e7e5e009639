//! The EPP's approximate prefix index.
//!
//! The prompt is cut into blocks, up to a cap; at the pick all of them are noted for the picked rank, in an LRU each. A
//! rank's match is the number of blocks it has before the first block that *no* rank has: its own gaps do not stop the
//! count, and as blocks are noted first to last, the first block of a prompt is the first to go.
//!
//! | | v0.7 | v0.10 |
//! |---|---|---|
//! | block | 16 tokens, as the engine's | 64 tokens |
//! | cap | 256 blocks (4096 tokens) | 131 072 tokens |
//! | shorter block at the end | left out | counts |
//! | room for a rank | as many blocks as its cache has of 16 tokens | the same number, though they are four times as large |
//!
//! Simpler here: blocks lie inside those of the trace, which come and go as a whole; what is behind the last whole block of
//! the trace never matches and takes no room.

use super::super::{Setup, holders::Holders};
use crate::policy::Arrival;

/// Blocks of the engine, in which its cache is counted (vLLM's default).
const ENGINE_BLOCK_TOKENS: u64 = 16;

/// What a version takes into its index.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct PrefixLimits {
    block_tokens: u64,
    cap_blocks: u64,
    counts_partial_block: bool,
}

impl PrefixLimits {
    /// The version that the guide pins.
    pub(in super::super) const V0_7: Self = Self {
        block_tokens: 16,
        cap_blocks: 256,
        counts_partial_block: false,
    };
    /// The version of August 2026.
    pub(in super::super) const V0_10: Self = Self {
        block_tokens: 64,
        cap_blocks: 131_072 / 64,
        counts_partial_block: true,
    };

    fn cap_tokens(&self) -> u64 {
        self.block_tokens * self.cap_blocks
    }

    fn blocks_of(&self, prompt_tokens: u64) -> u64 {
        let blocks = if self.counts_partial_block {
            prompt_tokens.div_ceil(self.block_tokens)
        } else {
            prompt_tokens / self.block_tokens
        };
        blocks.min(self.cap_blocks)
    }

    fn capacity_tokens(&self, cache_tokens: u64) -> u64 {
        cache_tokens / ENGINE_BLOCK_TOKENS * self.block_tokens
    }
}

/// See the module.
pub(in super::super) struct PrefixIndex {
    held: Holders,
    limits: PrefixLimits,
    trace_block_tokens: u64,
}

/// What ranks hold of a prompt, in blocks of the EPP.
pub(in super::super) struct Matches {
    /// By rank.
    pub(in super::super) blocks: Vec<u64>,
    /// Of the prompt.
    pub(in super::super) total: u64,
    /// Size of a block.
    pub(in super::super) block_tokens: u64,
}

impl Matches {
    /// By rank, the share of the prompt; 0 for a prompt without blocks.
    pub(in super::super) fn shares(&self) -> Vec<f64> {
        self.blocks
            .iter()
            .map(|&blocks| blocks as f64 / self.total.max(1) as f64)
            .collect()
    }
}

impl PrefixIndex {
    pub(in super::super) fn new(setup: &Setup, limits: PrefixLimits) -> Self {
        let trace_block_tokens = setup.block_tokens.max(1);
        let capacity = limits.capacity_tokens(setup.capacity_tokens) / trace_block_tokens;
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self {
            held: Holders::new(setup.ranks, capacity),
            limits,
            trace_block_tokens,
        }
    }

    pub(in super::super) fn matches(&self, arrival: &Arrival) -> Matches {
        let Self {
            limits,
            trace_block_tokens,
            ..
        } = self;
        let counts = self.held.with_gaps(self.seen(arrival));
        let blocks = counts
            .into_iter()
            .map(|count| count as u64 * trace_block_tokens / limits.block_tokens)
            .collect();
        Matches {
            blocks,
            total: limits.blocks_of(arrival.prompt_tokens),
            block_tokens: limits.block_tokens,
        }
    }

    pub(in super::super) fn insert(&mut self, arrival: &Arrival, rank: usize) {
        let seen = self.seen(arrival).len();
        self.held.touch_all(rank, &arrival.blocks[..seen]);
    }

    /// The blocks of the trace below the cap.
    fn seen<'a>(&self, arrival: &'a Arrival) -> &'a [u64] {
        let cap = usize::try_from(self.limits.cap_tokens() / self.trace_block_tokens)
            .unwrap_or(usize::MAX);
        &arrival.blocks[..arrival.blocks.len().min(cap)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::{arrival, setup};
    use super::*;

    #[test]
    fn v0_7_sees_the_first_4096_tokens_and_leaves_a_partial_block_out() {
        let mut index = PrefixIndex::new(&setup(2), PrefixLimits::V0_7);
        let prompt: Vec<u64> = (0..20).collect();
        index.insert(&arrival(0, &prompt, 10_300), 0);
        let matches = index.matches(&arrival(1, &prompt, 10_300));
        assert_eq!((matches.blocks, matches.total), (vec![256, 0], 256));
        // 1035 tokens are 64 blocks of 16 and 11 tokens.
        let matches = index.matches(&arrival(2, &[0, 1], 1035));
        assert_eq!((&matches.blocks[..], matches.total), (&[64, 0][..], 64));
        assert_eq!(matches.shares(), [1.0, 0.0]);
    }

    #[test]
    fn v0_10_sees_131072_tokens_and_counts_a_partial_block() {
        let mut index = PrefixIndex::new(&setup(1), PrefixLimits::V0_10);
        let prompt: Vec<u64> = (0..300).collect();
        index.insert(&arrival(0, &prompt, 153_600), 0);
        let matches = index.matches(&arrival(1, &prompt, 153_600));
        assert_eq!((matches.blocks, matches.total), (vec![2048], 2048));
        // 1035 tokens are 16 blocks of 64 and 11 tokens: 17, of which two of the trace, 16, are held.
        let matches = index.matches(&arrival(2, &[0, 1], 1035));
        assert_eq!((matches.blocks, matches.total), (vec![16], 17));
    }

    #[test]
    fn a_ranks_own_gap_is_not_seen() {
        let mut index = PrefixIndex::new(&setup(2), PrefixLimits::V0_7);
        index.insert(&arrival(0, &[1, 2], 1024), 0);
        index.insert(&arrival(1, &[2, 3], 1024), 1);
        // Rank 1 lacks the first block, so can use nothing, and is credited with two.
        assert_eq!(
            index.matches(&arrival(2, &[1, 2, 3], 1536)).blocks,
            [64, 64]
        );
    }

    #[test]
    fn v0_10_believes_in_four_times_the_cache() {
        // The cache holds 1000 blocks of the trace.
        let fill = |limits| {
            let mut index = PrefixIndex::new(&setup(1), limits);
            (0..4001).for_each(|block| index.held.touch(0, block));
            (0..4001)
                .filter(|&block| !index.held.of(block).is_empty())
                .count()
        };
        assert_eq!(fill(PrefixLimits::V0_7), 1000);
        assert_eq!(fill(PrefixLimits::V0_10), 4000);
    }

    #[test]
    fn a_prompt_too_large_for_the_room_loses_its_first_block_and_so_all() {
        let small = Setup {
            capacity_tokens: 1024,
            ..setup(1)
        };
        let mut index = PrefixIndex::new(&small, PrefixLimits::V0_7);
        index.insert(&arrival(0, &[1, 2, 3], 1536), 0);
        assert_eq!(index.matches(&arrival(1, &[1, 2, 3], 1536)).blocks, [0]);
    }

    #[test]
    fn an_empty_prompt_matches_nothing() {
        let index = PrefixIndex::new(&setup(2), PrefixLimits::V0_10);
        assert_eq!(index.matches(&arrival(0, &[], 0)).shares(), [0.0, 0.0]);
    }
}
