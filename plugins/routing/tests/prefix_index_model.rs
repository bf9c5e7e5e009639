//! The prefix index against a naive twin, under random use.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use routing::{PrefixIndex, RankId, SentBlock, TakenBack, chain};

const RANKS: u16 = 3;
/// More blocks than all prompts together have.
const ROOM: usize = 100_000;

#[derive(Clone, Debug)]
enum Step {
    /// The prompt whose tokens these are goes to a rank.
    Insert(u16, Vec<u8>),
    Forget(u16),
    /// A rank loses the last block of a prompt.
    Lose(u16, Vec<u8>),
    /// A rank's capacity becomes this if it was more.
    Shrink(u16, u32),
}

fn prompts() -> impl Strategy<Value = Vec<u8>> {
    vec(0u8..2, 0..12)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..RANKS, prompts()).prop_map(|(rank, prompt)| Step::Insert(rank, prompt)),
        1 => (0..RANKS).prop_map(Step::Forget),
        2 => (0..RANKS, prompts()).prop_map(|(rank, prompt)| Step::Lose(rank, prompt)),
        1 => (0..RANKS, 0u32..40).prop_map(|(rank, capacity)| Step::Shrink(rank, capacity)),
    ];
    vec(step, 0..60)
}

/// Chained hashes, one block a token, so that prompts share their starts and nothing else.
fn blocks(prompt: &[u8]) -> Vec<u64> {
    let chained = prompt.iter().scan(7, |before, token| {
        *before = chain(*before, u64::from(*token));
        Some(*before)
    });
    chained.collect()
}

fn sent(prompt: &[u8]) -> Vec<SentBlock> {
    let hashes = (0..).zip(blocks(prompt));
    hashes
        .map(|(start, chain_hash)| SentBlock { chain_hash, start })
        .collect()
}

/// What one rank holds: every block with the clock of its last use.
#[derive(Clone, Default)]
struct Twin {
    /// Whether every use makes a block younger, and no other older: one that forgets less than the index, which leaves young
    /// blocks alone.
    is_eager: bool,
    clock: i64,
    capacity: i64,
    touched: HashMap<u64, i64>,
}

impl Twin {
    fn holds(&self, hash: u64) -> bool {
        self.touched
            .get(&hash)
            .is_some_and(|touched| self.clock - touched < self.capacity)
    }

    fn depth(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|hash| self.holds(**hash)).count()
    }

    fn insert(&mut self, blocks: &[u64]) {
        let fresh = blocks.len() - self.depth(blocks);
        self.clock += i64::try_from(fresh).unwrap_or(0);
        let is_young = |(position, hash): &(i64, &u64)| {
            self.clock - position - self.touched[*hash] <= self.capacity / 16
        };
        // As the blocks stood before, so it is asked before the clock moves on.
        let old = self.clock - i64::try_from(fresh).unwrap_or(0);
        let held = blocks.iter().take_while(|hash| {
            self.touched
                .get(hash)
                .is_some_and(|touched| old - touched < self.capacity)
        });
        let held = held.count();
        let young = (0..).zip(blocks).take(held).take_while(is_young).count();
        let young = i64::try_from(young).unwrap_or(0);
        if !self.is_eager {
            // Each block that is used again goes before those that are younger than it was.
            let again = (0..).zip(blocks).take(held);
            let again = again.filter(|(position, _)| *position >= young);
            let ages = again.map(|(position, hash)| self.clock - position - self.touched[hash]);
            self.clock += ages.sum::<i64>().checked_div(self.capacity).unwrap_or(0);
        }
        for (position, hash) in (0..).zip(blocks) {
            if self.is_eager || position == 0 || position >= young {
                self.touched.insert(*hash, self.clock - position);
            }
        }
    }
}

/// The index and its twins, always given the same.
struct Both {
    index: PrefixIndex,
    twins: Vec<Twin>,
}

impl Both {
    fn new(max_blocks: usize, capacity: u32) -> Self {
        Self::beside(max_blocks, capacity, max_blocks < ROOM)
    }

    fn beside(max_blocks: usize, capacity: u32, is_eager: bool) -> Self {
        let mut both = Self {
            index: PrefixIndex::new(max_blocks),
            twins: vec![Twin::default(); usize::from(RANKS)],
        };
        for (number, twin) in (0..).zip(&mut both.twins) {
            both.index.set_capacity(RankId(number), capacity);
            twin.capacity = i64::from(capacity);
            twin.is_eager = is_eager;
        }
        both
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Insert(rank, prompt) => {
                self.index.insert(RankId(*rank), &sent(prompt));
                self.twins[usize::from(*rank)].insert(&blocks(prompt));
            }
            Step::Forget(rank) => {
                self.index.forget(RankId(*rank));
                self.twins[usize::from(*rank)].touched.clear();
            }
            Step::Lose(rank, prompt) => {
                if let Some(last) = blocks(prompt).last() {
                    let block = SentBlock {
                        chain_hash: *last,
                        start: 0,
                    };
                    let taken = TakenBack {
                        blocks: vec![block],
                        ..TakenBack::default()
                    };
                    self.index.take_back(RankId(*rank), &taken);
                    self.twins[usize::from(*rank)].touched.remove(last);
                }
            }
            Step::Shrink(rank, capacity) => {
                let twin = &mut self.twins[usize::from(*rank)];
                twin.capacity = twin.capacity.min(i64::from(*capacity));
                self.index
                    .set_capacity(RankId(*rank), u32::try_from(twin.capacity).unwrap_or(0));
            }
        }
    }

    fn depths(&mut self, prompt: &[u8]) -> (Vec<usize>, Vec<usize>) {
        let blocks = blocks(prompt);
        let mut depths = Vec::new();
        self.index.match_depths(blocks.iter().copied(), &mut depths);
        let ours = depths
            .iter()
            .map(|depth| usize::try_from(*depth).unwrap_or(usize::MAX))
            .collect();
        (
            ours,
            self.twins.iter().map(|twin| twin.depth(&blocks)).collect(),
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_room_for_all_every_rank_matches_what_its_twin_holds(
        steps in steps(), capacity in 1u32..40, asked in vec(prompts(), 1..6),
    ) {
        let mut both = Both::new(ROOM, capacity);
        for step in &steps {
            both.step(step);
            for prompt in &asked {
                let (ours, twins) = both.depths(prompt);
                prop_assert_eq!(ours, twins);
            }
        }
    }

    #[test]
    fn a_full_index_is_bounded_and_claims_nothing_that_its_twin_does_not_hold(
        steps in steps(), capacity in 1u32..40, max_blocks in 1usize..30, asked in vec(prompts(), 1..6),
    ) {
        let mut both = Both::new(max_blocks, capacity);
        for step in &steps {
            both.step(step);
            prop_assert!(both.index.len() <= max_blocks);
            for prompt in &asked {
                let (ours, twins) = both.depths(prompt);
                prop_assert!(ours.iter().zip(&twins).all(|(ours, twin)| ours <= twin), "{:?} and {:?}", ours, twins);
            }
        }
    }

    /// Small enough that an eviction compares all blocks.
    #[test]
    fn a_full_index_keeps_the_root_of_the_last_prompt(
        earlier in vec(prompts(), 0..30), capacity in 1u32..40, max_blocks in 2usize..17, prompt in vec(0u8..2, 1..12),
    ) {
        let mut both = Both::new(max_blocks, capacity);
        earlier.into_iter().for_each(|earlier| both.step(&Step::Insert(0, earlier)));
        both.step(&Step::Insert(0, prompt.clone()));
        let (ours, _) = both.depths(&prompt);
        prop_assert!(ours[0] >= 1);
    }
}
