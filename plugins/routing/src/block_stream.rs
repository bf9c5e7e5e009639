//! Cuts a stream of prompt bytes into blocks and hashes each.
//!
//! Blocks are hashed on their own first and chained at the end ([`crate::Prompt`]), because what stands in front
//! of them in the prompt (the model, the tools) may come behind them in the body. For the same reason a block can
//! be given something more later: the role of a message is part of its first block even when the body names it
//! after the content.

use crate::{Section, chain, hash_seeded};

/// Most blocks kept per stream. With blocks that grow they reach over 33 MB of text at the default of 256 bytes, more
/// than 8 million tokens, and 8 MB at the smallest.
const MAX_BLOCKS: usize = 4096;

/// After so many blocks their size doubles: the first 32,000 tokens at full resolution, and an error of at most half a
/// block in 512 behind.
const BLOCKS_OF_ONE_SIZE: usize = 512;

/// A whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawBlock {
    /// Hash of its own bytes and of what was folded into it.
    pub hash: u64,
    /// Prompt bytes from the start of the stream to the end of the block.
    pub end_bytes: u32,
}

/// A stream of prompt bytes, cut into blocks that grow with depth.
///
/// Memory: one block in hand (at most 128 times the first) and 16 bytes for each whole block, at most 4,096; later
/// bytes are only counted.
#[derive(Clone, Debug)]
pub struct BlockStream {
    block_bytes: usize,
    seed: u64,
    in_hand: Vec<u8>,
    in_hand_fold: u64,
    blocks: Vec<RawBlock>,
    prompt_bytes: u64,
}

impl BlockStream {
    /// Starts a stream whose first blocks have `block_bytes` (at least 1).
    #[must_use]
    pub fn new(block_bytes: usize) -> Self {
        Self {
            block_bytes: block_bytes.max(1),
            seed: 0,
            in_hand: Vec::new(),
            in_hand_fold: 0,
            blocks: Vec::new(),
            prompt_bytes: 0,
        }
    }

    /// Hashes with this seed from now on; 0 for none. To be called before the first byte.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Appends bytes of the prompt.
    pub fn push(&mut self, part: &[u8]) {
        self.weigh(u64::try_from(part.len()).unwrap_or(u64::MAX));
        self.append(part, true);
    }

    /// Appends bytes that tell prompts apart but are no part of their text: they make blocks and have no weight.
    pub fn mark(&mut self, bytes: &[u8]) {
        self.append(bytes, false);
    }

    /// Counts prompt bytes that are in the blocks only as a hash.
    pub fn weigh(&mut self, bytes: u64) {
        self.prompt_bytes = self.prompt_bytes.saturating_add(bytes);
    }

    fn append(&mut self, mut part: &[u8], is_weighed: bool) {
        while !part.is_empty() && self.blocks.len() < MAX_BLOCKS {
            let missing = self.size_in_hand().saturating_sub(self.in_hand.len());
            let (taken, rest) = part.split_at_checked(missing).unwrap_or((part, &[]));
            part = rest;
            let left = if is_weighed {
                u64::try_from(part.len()).unwrap_or(0)
            } else {
                0
            };
            if taken.len() < missing {
                // Once for all blocks of this size.
                self.in_hand.reserve_exact(missing);
                self.in_hand.extend_from_slice(taken);
            } else if self.in_hand.is_empty() {
                self.close(hash_seeded(taken, self.seed), left);
            } else {
                self.in_hand.extend_from_slice(taken);
                let hash = hash_seeded(&self.in_hand, self.seed);
                self.in_hand.clear();
                self.close(hash, left);
            }
        }
    }

    /// The number of the block that the next byte goes into.
    #[must_use]
    pub fn position(&self) -> usize {
        self.blocks.len()
    }

    /// Makes `word`, a hash, part of block `position`, which is whole or in hand.
    ///
    /// Words are added, so it does not matter whether the block was whole by then; words that must not be
    /// interchangeable have to differ.
    pub fn fold(&mut self, position: usize, word: u64) {
        // Sums of words that clients know can be made equal.
        let word = match self.seed {
            0 => word,
            seed => chain(seed, word),
        };
        let folded = match self.blocks.get_mut(position) {
            Some(block) => &mut block.hash,
            None => &mut self.in_hand_fold,
        };
        *folded = folded.wrapping_add(word);
    }

    /// Forgets the blocks from `position` on.
    pub fn truncate(&mut self, position: usize) {
        self.blocks.truncate(position);
    }

    /// Forgets everything.
    pub fn restart(&mut self) {
        *self = Self::new(self.block_bytes).seeded(self.seed);
    }

    /// Prompt bytes so far.
    #[must_use]
    pub fn prompt_bytes(&self) -> u64 {
        self.prompt_bytes
    }

    /// The whole blocks.
    #[must_use]
    pub fn blocks(&self) -> &[RawBlock] {
        &self.blocks
    }

    /// Hash of the bytes in hand, or `None` when there are none.
    #[must_use]
    pub fn tail(&self) -> Option<u64> {
        let hash = (!self.in_hand.is_empty()).then(|| hash_seeded(&self.in_hand, self.seed))?;
        Some(hash.wrapping_add(self.in_hand_fold))
    }

    /// Ends the stream.
    #[must_use]
    pub fn into_section(self) -> Section {
        Section {
            tail: self.tail(),
            prompt_bytes: self.prompt_bytes,
            blocks: self.blocks,
        }
    }

    /// Bytes of the block in hand once it is whole.
    fn size_in_hand(&self) -> usize {
        let doublings = self
            .blocks
            .len()
            .checked_div(BLOCKS_OF_ONE_SIZE)
            .unwrap_or(0);
        let factor = 1usize.checked_shl(u32::try_from(doublings).unwrap_or(0));
        self.block_bytes.saturating_mul(factor.unwrap_or(1))
    }

    /// `left`: bytes of the part in hand that are already weighed but stand behind this block.
    fn close(&mut self, hash: u64, left: u64) {
        let end_bytes = self.prompt_bytes.saturating_sub(left);
        self.blocks.push(RawBlock {
            hash: hash.wrapping_add(std::mem::take(&mut self.in_hand_fold)),
            end_bytes: u32::try_from(end_bytes).unwrap_or(u32::MAX),
        });
    }
}

#[cfg(test)]
mod tests;
