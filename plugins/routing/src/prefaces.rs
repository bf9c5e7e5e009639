//! What stood in front of a conversation in the prompt, though behind it in the body.
//!
//! Clients may send `model` and `tools` behind the messages, and a body that is cut for an early decision then lacks them.
//! But conversations come again, each turn with the same start. So the front of a body that was read to its end is
//! remembered by the first block of its main part, and lent to bodies with the same first block that were cut before it.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::Section;
use crate::hash::KeyedState;

/// Conversations remembered: some hundred are active in a gateway's worker at a time, and only those whose bodies name
/// the model last need it.
const MAX_PREFACES: usize = 512;
/// Fields that change every token behind them.
pub const FRONT_FIELDS: usize = 14;
/// Blocks remembered in all, 16 bytes each.
const MAX_BLOCKS: usize = 16_384;

/// What stands in front of the main section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preface {
    /// Hash of each field of the front; 0 for one that is not there.
    pub front: [u64; FRONT_FIELDS],
    /// The sections before the main one.
    pub sections: [Section; 2],
}

impl Preface {
    /// Hash of the model's name, which is the first field; 0 where it is not there.
    #[must_use]
    pub fn model(&self) -> u64 {
        self.front.first().copied().unwrap_or(0)
    }

    /// The fields of the front as one word that does not depend on their order.
    #[must_use]
    pub fn front_hash(&self) -> u64 {
        self.front
            .iter()
            .fold(0, |sum, field| sum.wrapping_add(*field))
    }
}

/// Prefaces by the hash of the first block behind them; the oldest goes first.
#[derive(Debug, Default)]
pub struct Prefaces {
    known: HashMap<u64, Preface, KeyedState>,
    order: VecDeque<u64>,
    blocks: usize,
}

impl Prefaces {
    /// None yet; nobody can choose the places they will have who does not know `secret`.
    #[must_use]
    pub fn keyed(secret: u64) -> Self {
        Self {
            known: HashMap::with_hasher(KeyedState { secret }),
            ..Self::default()
        }
    }

    /// Remembers a preface; one that is too long is not worth it.
    pub fn learn(&mut self, first_block: u64, preface: Preface) {
        let blocks = size(&preface);
        if blocks > MAX_BLOCKS {
            return;
        }
        match self.known.insert(first_block, preface) {
            Some(old) => self.blocks = self.blocks.saturating_sub(size(&old)),
            None => self.order.push_back(first_block),
        }
        self.blocks = self.blocks.saturating_add(blocks);
        while self.known.len() > MAX_PREFACES || self.blocks > MAX_BLOCKS {
            self.forget_oldest();
        }
    }

    /// The preface of a conversation that starts with this block.
    #[must_use]
    pub fn get(&self, first_block: u64) -> Option<&Preface> {
        self.known.get(&first_block)
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .order
            .pop_front()
            .and_then(|first_block| self.known.remove(&first_block));
        self.blocks = self.blocks.saturating_sub(oldest.as_ref().map_or(0, size));
    }
}

fn size(preface: &Preface) -> usize {
    preface
        .sections
        .iter()
        .map(|section| section.blocks.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawBlock;

    fn preface(front: u64, blocks: usize) -> Preface {
        let blocks = vec![
            RawBlock {
                hash: front,
                end_bytes: 1
            };
            blocks
        ];
        let section = Section {
            blocks,
            tail: None,
            prompt_bytes: 0,
        };
        let front = [front; FRONT_FIELDS];
        Preface {
            front,
            sections: [section, Section::default()],
        }
    }

    #[test]
    fn the_last_preface_of_a_conversation_counts() {
        let mut prefaces = Prefaces::default();
        prefaces.learn(7, preface(1, 3));
        prefaces.learn(7, preface(2, 5));
        assert_eq!(prefaces.get(7), Some(&preface(2, 5)));
        assert_eq!(prefaces.get(8), None);
        assert_eq!(prefaces.blocks, 5);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_large_ones() {
        let mut prefaces = Prefaces::default();
        (0..600).for_each(|number| prefaces.learn(number, preface(number, 1)));
        assert_eq!(
            (prefaces.known.len(), prefaces.order.len(), prefaces.blocks),
            (512, 512, 512)
        );
        assert_eq!(
            (prefaces.get(87), prefaces.get(88)),
            (None, Some(&preface(88, 1)))
        );
        prefaces.learn(1000, preface(9, MAX_BLOCKS));
        assert_eq!((prefaces.known.len(), prefaces.blocks), (1, MAX_BLOCKS));
        prefaces.learn(1001, preface(9, MAX_BLOCKS + 1));
        assert_eq!(prefaces.get(1001), None);
    }
}
