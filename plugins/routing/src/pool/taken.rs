//! Prompts that other workers took back, for a worker that hears of the prompt afterwards.
//!
//! A worker that comes late begins with the newest events and reads older ones behind them. It hears that a prompt was taken back
//! before it hears of the prompt, and must not believe in it then.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::SentBlock;

/// Events of others that are remembered: as many as a ring of segments holds of prompts of one block. 40 bytes each.
const MOST: usize = 1024;

/// The first blocks that were taken back, by rank, and when.
#[derive(Debug, Default)]
pub(super) struct Taken {
    at_ms: HashMap<(u64, u64), u64>,
    /// In the order in which they came.
    order: VecDeque<(u64, u64)>,
}

impl Taken {
    /// A prompt that a rank was sent before `at_ms` was taken back from this block on.
    pub(super) fn note(&mut self, rank: u64, first_new: u64, at_ms: u64) {
        let key = (rank, first_new);
        let known_ms = self.at_ms.get(&key).copied();
        if known_ms.is_none() {
            self.order.push_back(key);
        }
        // Events are not heard in the order in which they happened.
        self.at_ms
            .insert(key, at_ms.max(known_ms.unwrap_or_default()));
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.at_ms.remove(&oldest);
            }
        }
    }

    /// Leaves out of a prompt that a rank was sent at `at_ms` what was taken back since. Cost: one probe per block, none where
    /// nothing was taken back.
    pub(super) fn cut(&self, rank: u64, at_ms: u64, blocks: &mut Vec<SentBlock>) {
        if self.at_ms.is_empty() {
            return;
        }
        let is_taken = |block: &SentBlock| {
            let taken_ms = self.at_ms.get(&(rank, block.chain_hash));
            taken_ms.is_some_and(|taken_ms| at_ms <= *taken_ms)
        };
        if let Some(first) = blocks.iter().position(is_taken) {
            blocks.truncate(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(taken: &Taken, rank: u64, at_ms: u64, hashes: std::ops::Range<u64>) -> usize {
        let block = |chain_hash| SentBlock {
            chain_hash,
            start: 0,
        };
        let mut blocks: Vec<SentBlock> = hashes.map(block).collect();
        taken.cut(rank, at_ms, &mut blocks);
        blocks.len()
    }

    #[test]
    fn a_prompt_that_was_sent_before_is_cut_where_it_was_taken_back() {
        let mut taken = Taken::default();
        assert_eq!(left(&taken, 7, 100, 0..10), 10);
        taken.note(7, 4, 100);
        taken.note(7, 4, 50);
        assert_eq!(left(&taken, 7, 100, 0..10), 4);
        assert_eq!(left(&taken, 7, 101, 0..10), 10, "sent again since");
        assert_eq!(left(&taken, 8, 100, 0..10), 10, "another rank");
        assert_eq!(left(&taken, 7, 100, 5..10), 5, "another prompt");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut taken = Taken::default();
        for number in 0..10_000 {
            taken.note(7, number, 100);
            taken.note(7, number, 100);
        }
        assert_eq!((taken.at_ms.len(), taken.order.len()), (MOST, MOST));
        assert_eq!(left(&taken, 7, 1, 9_999..10_000), 0);
        assert_eq!(left(&taken, 7, 1, 0..1), 1);
    }
}
