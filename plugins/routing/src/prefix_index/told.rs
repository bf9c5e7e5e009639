//! Prompts that other workers told of and that nothing has been asked about since.
//!
//! Putting each block of each prompt into the table of every worker would cost more than the pick itself, and of most
//! prompts no worker but one is asked again. So a prompt that was told is kept as it came, under its first block, and
//! only put into the table when a walk along a prompt gets to that block.

use std::collections::VecDeque;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Holder;
use crate::SentBlock;
use crate::hash::KeyedState;

/// Blocks of one prompt, and who was sent them.
#[derive(Debug)]
pub(super) struct ToldPrompt {
    /// As of the block at the prompt's very start.
    pub(super) holder: Holder,
    pub(super) blocks: Box<[SentBlock]>,
}

/// Told prompts by their first block; the oldest go when there are too many blocks of them.
#[derive(Debug, Default)]
pub(super) struct Told {
    by_first: HashMap<u64, SmallVec<[ToldPrompt; 1]>, KeyedState>,
    /// First blocks in the order in which they came, those taken meanwhile included.
    order: VecDeque<u64>,
    blocks: usize,
    max_blocks: usize,
}

impl Told {
    pub(super) fn new(max_blocks: usize, secret: u64) -> Self {
        Self {
            by_first: HashMap::with_hasher(KeyedState { secret }),
            max_blocks,
            ..Self::default()
        }
    }

    pub(super) fn keep(&mut self, prompt: ToldPrompt) {
        let Some(first) = prompt.blocks.first().map(|block| block.chain_hash) else {
            return;
        };
        self.blocks = self.blocks.saturating_add(prompt.blocks.len());
        self.order.push_back(first);
        self.by_first.entry(first).or_default().push(prompt);
        while self.blocks > self.max_blocks || self.order.len() > self.max_blocks {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.take(oldest);
        }
    }

    /// Takes the prompts that begin with this block.
    pub(super) fn take(&mut self, first: u64) -> SmallVec<[ToldPrompt; 1]> {
        if self.by_first.is_empty() {
            return SmallVec::new();
        }
        let taken = self.by_first.remove(&first).unwrap_or_default();
        let blocks = taken.iter().map(|prompt| prompt.blocks.len());
        self.blocks = self.blocks.saturating_sub(blocks.sum());
        taken
    }

    /// `rank` has not taken in the prompts that begin with block `first`, from block `from` on. Prompts without that block stay.
    pub(super) fn cut(&mut self, rank: u16, first: u64, from: u64) {
        for mut prompt in self.take(first) {
            let is_it = |block: &SentBlock| block.chain_hash == from;
            let end = match prompt.holder.rank == rank {
                true => prompt.blocks.iter().position(is_it),
                false => None,
            };
            if let Some(kept) = end.and_then(|end| prompt.blocks.get(..end)) {
                prompt.blocks = kept.into();
            }
            self.keep(prompt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(rank: u16, first: u64, blocks: u64) -> ToldPrompt {
        let blocks = (first..first + blocks).map(|chain_hash| SentBlock {
            chain_hash,
            start: 0,
        });
        ToldPrompt {
            holder: Holder {
                rank,
                ..Holder::default()
            },
            blocks: blocks.collect(),
        }
    }

    #[test]
    fn prompts_are_taken_once_by_their_first_block() {
        let mut told = Told::new(100, 3);
        told.keep(prompt(1, 10, 5));
        told.keep(prompt(2, 10, 3));
        assert!(told.take(11).is_empty());
        let ranks: Vec<u16> = told.take(10).iter().map(|told| told.holder.rank).collect();
        assert_eq!(ranks, [1, 2]);
        assert!(told.take(10).is_empty());
        assert_eq!(told.blocks, 0);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_blocks() {
        let mut told = Told::new(100, 3);
        (0..50).for_each(|number| told.keep(prompt(1, number * 1000, 10)));
        assert!((told.take(39_000).is_empty(), told.take(40_000).len()) == (true, 1));
        assert_eq!(told.blocks, 90);
    }

    #[test]
    fn what_is_taken_leaves_no_trace_that_grows() {
        let mut told = Told::new(100, 3);
        for number in 0..10_000 {
            told.keep(prompt(1, number, 1));
            assert_eq!(told.take(number).len(), 1);
        }
        assert!(told.order.len() <= 100 && told.by_first.is_empty());
    }

    #[test]
    fn a_prompt_that_one_rank_never_got_stays_with_the_others() {
        let mut told = Told::new(100, 3);
        told.keep(prompt(1, 10, 5));
        told.keep(prompt(2, 10, 5));
        told.cut(1, 10, 10);
        let ranks: Vec<u16> = told.take(10).iter().map(|told| told.holder.rank).collect();
        assert_eq!(ranks, [2]);
    }

    #[test]
    fn prompts_that_part_before_a_block_keep_theirs_when_it_is_cut() {
        let mut told = Told::new(100, 0);
        told.keep(prompt(1, 10, 5));
        told.keep(prompt(1, 10, 2));
        told.cut(1, 10, 13);
        let lengths: Vec<usize> = told.take(10).iter().map(|told| told.blocks.len()).collect();
        assert_eq!(lengths, [3, 2]);
    }
}
