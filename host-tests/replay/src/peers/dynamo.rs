//! NVIDIA Dynamo's KV router: its linear cost and `lmetric`.
//!
//! Source: ai-dynamo/dynamo, `lib/kv-router/src/scheduling/selector/default.rs` @07a6c9ce,
//! `docs/components/router/router-concepts.md` @03037af0.
//!
//! ```text
//! adjusted = max(0, active prefill blocks + blocks of the prompt - blocks of it that the rank holds)
//! decode   = blocks in use on the rank once the prompt is there; shared blocks count once
//! linear   = adjusted + decode
//! lmetric  = adjusted * (decode + 1)
//! ```
//!
//! The least wins, equals at random. Defaults: overlap credit 1 without decay, prefill scale 1, no weight for requests,
//! temperature 0, no queue in the router, blocks of answers not tracked. Active prefill (the uncached tokens at the pick)
//! ends at the first token, blocks in use at the end: nothing is scraped. Blocks are the engine's, 16 tokens.
//!
//! Simpler here: what a rank holds comes from the engines' events in the product, for all routers at once. Here it is
//! guessed from own picks: held from the first token on, and beyond the capacity the longest unused goes, tails first. That
//! is as late as events are for prompts that arrive together, but knows neither what answers take of the cache nor what
//! other gateways sent.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Setup, choice, holders::Holders};
use crate::policy::{Arrival, Policy, Usage, View};

mod pair;

pub(crate) use self::pair::DynamoPair;

const BLOCK_TOKENS: u64 = 16;

/// How prefill and decode become one cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Their sum.
    Linear,
    /// Their product.
    Lmetric,
    /// Prefill alone, where others decode.
    Prefill,
}

impl Cost {
    fn of(self, adjusted_prefill: f64, decode: f64) -> f64 {
        match self {
            Cost::Linear => adjusted_prefill + decode,
            Cost::Lmetric => adjusted_prefill * (decode + 1.0),
            Cost::Prefill => adjusted_prefill,
        }
    }
}

/// See the module.
pub(super) struct Dynamo {
    cost: Cost,
    held: Holders,
    ranks: Vec<Active>,
    open: HashMap<usize, Open>,
    /// Blocks of the engine in one of the trace.
    blocks_per_trace_block: u64,
    dice: fastrand::Rng,
}

/// What is under way on a rank.
#[derive(Clone, Default)]
struct Active {
    prefill_tokens: u64,
    /// Users of each block of the trace.
    users: HashMap<u64, u64>,
    /// Blocks at the ends of prompts, which no other prompt shares.
    own_blocks: u64,
}

/// A request whose end has not come.
struct Open {
    rank: usize,
    prefill_tokens: u64,
    blocks: Rc<[u64]>,
    own_blocks: u64,
}

impl Dynamo {
    pub(super) fn new(setup: &Setup, cost: Cost) -> Self {
        Self {
            cost,
            held: Holders::new(setup.ranks, setup.capacity_blocks()),
            ranks: vec![Active::default(); setup.ranks],
            open: HashMap::new(),
            blocks_per_trace_block: (setup.block_tokens / BLOCK_TOKENS).max(1),
            dice: setup.dice(),
        }
    }

    fn own_blocks(&self, arrival: &Arrival) -> u64 {
        let shared = arrival.blocks.len() as u64 * self.blocks_per_trace_block;
        (arrival.prompt_tokens / BLOCK_TOKENS).saturating_sub(shared)
    }

    /// Blocks in use on a rank once this prompt is there.
    fn decode_blocks(&self, active: &Active, arrival: &Arrival) -> u64 {
        let new = arrival
            .blocks
            .iter()
            .filter(|block| !active.users.contains_key(block))
            .count();
        let shared = (active.users.len() + new) as u64 * self.blocks_per_trace_block;
        shared + active.own_blocks + self.own_blocks(arrival)
    }

    fn costs(&self, arrival: &Arrival, overlaps: &[usize]) -> Vec<f64> {
        let cost = |(active, &overlap): (&Active, &usize)| {
            let raw = (active.prefill_tokens + arrival.prompt_tokens) as f64 / BLOCK_TOKENS as f64;
            let credit = (overlap as u64 * self.blocks_per_trace_block) as f64;
            self.cost.of(
                (raw - credit).max(0.0),
                self.decode_blocks(active, arrival) as f64,
            )
        };
        self.ranks.iter().zip(overlaps).map(cost).collect()
    }

    /// The rank that costs least, and how many blocks of the trace it holds of the prompt.
    fn choose(&mut self, arrival: &Arrival) -> (usize, usize) {
        let overlaps = self.held.unbroken(&arrival.blocks);
        let costs = self.costs(arrival, &overlaps);
        let rank = self.least(&costs);
        (rank, overlaps.get(rank).copied().unwrap_or(0))
    }

    fn least(&mut self, costs: &[f64]) -> usize {
        let scores: Vec<f64> = costs.iter().map(|cost| -cost).collect();
        choice::any(&choice::best(&scores), &mut self.dice)
    }

    fn start(&mut self, arrival: &Arrival, rank: usize, overlap: usize) {
        let cached = overlap as u64 * self.blocks_per_trace_block * BLOCK_TOKENS;
        let prefill_tokens = arrival.prompt_tokens.saturating_sub(cached);
        let own_blocks = self.own_blocks(arrival);
        let Some(active) = self.ranks.get_mut(rank) else {
            return;
        };
        active.prefill_tokens += prefill_tokens;
        active.own_blocks += own_blocks;
        arrival
            .blocks
            .iter()
            .for_each(|&block| *active.users.entry(block).or_default() += 1);
        let blocks = Rc::clone(&arrival.blocks);
        self.open.insert(
            arrival.number,
            Open {
                rank,
                prefill_tokens,
                blocks,
                own_blocks,
            },
        );
    }

    fn prefilled(&mut self, number: usize) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        let prefill_tokens = std::mem::take(&mut open.prefill_tokens);
        self.ranks[open.rank].prefill_tokens -= prefill_tokens;
        self.held.touch_all_tail_first(open.rank, &open.blocks);
    }

    fn release(&mut self, number: usize) {
        let Some(open) = self.open.remove(&number) else {
            return;
        };
        let active = &mut self.ranks[open.rank];
        active.own_blocks -= open.own_blocks;
        for block in open.blocks.iter() {
            if let Some(users) = active.users.get_mut(block) {
                *users -= 1;
                if *users == 0 {
                    active.users.remove(block);
                }
            }
        }
    }
}

impl Policy for Dynamo {
    fn pick(&mut self, arrival: &Arrival, _view: &View<'_>) -> usize {
        let (rank, overlap) = self.choose(arrival);
        self.start(arrival, rank, overlap);
        rank
    }

    fn first_token(&mut self, number: usize, _rank: usize, _now_ms: f64) {
        self.prefilled(number);
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        if self
            .open
            .get(&number)
            .is_some_and(|open| open.prefill_tokens > 0)
        {
            self.prefilled(number);
        }
        self.release(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, arrival, end, setup};
    use super::*;

    fn costs(dynamo: &Dynamo, blocks: &[u64], prompt_tokens: u64) -> Vec<f64> {
        let arrival = arrival(99, blocks, prompt_tokens);
        dynamo.costs(&arrival, &dynamo.held.unbroken(&arrival.blocks))
    }

    /// Rank 0 holds and decodes blocks 1 and 2 of a prompt of 1040 tokens; rank 1 prefills 640 tokens.
    fn under_way(cost: Cost) -> Dynamo {
        let mut dynamo = Dynamo::new(&setup(3), cost);
        dynamo.start(&arrival(0, &[1, 2], 1040), 0, 0);
        dynamo.first_token(0, 0, 1.0);
        dynamo.start(&arrival(1, &[7], 640), 1, 0);
        dynamo
    }

    #[test]
    fn the_linear_cost_adds_uncached_prefill_and_blocks_in_use() {
        // The prompt has 1536 tokens, 96 blocks of 16, 32 in each of the trace.
        // Rank 0: 96 - 64 held = 32; in use 64 + 1 of the tail + 32 new = 97; 129.
        // Rank 1: (640 + 1536) / 16 = 136; in use 32 + 8 of the tail + 96 new = 136; 272.
        // Rank 2: 96 + 96.
        assert_eq!(
            costs(&under_way(Cost::Linear), &[1, 2, 3], 1536),
            [129.0, 272.0, 192.0]
        );
    }

    #[test]
    fn the_end_of_a_prompt_behind_its_last_shared_block_counts() {
        // 1620 tokens are 101 blocks of 16, 96 of them in blocks of the trace, and 101.25 to prefill.
        assert_eq!(
            costs(&under_way(Cost::Linear), &[4, 5, 6], 1620)[2],
            101.25 + 101.0
        );
    }

    #[test]
    fn lmetric_multiplies_them() {
        let expected = [32.0 * 98.0, 136.0 * 137.0, 96.0 * 97.0];
        assert_eq!(costs(&under_way(Cost::Lmetric), &[1, 2, 3], 1536), expected);
    }

    #[test]
    fn the_end_frees_what_the_request_used_and_keeps_what_the_rank_holds() {
        let mut dynamo = under_way(Cost::Linear);
        end(&mut dynamo, 0, 0, 2.0);
        end(&mut dynamo, 0, 0, 3.0);
        // Rank 0: 96 - 64 held; in use 96 new.
        assert_eq!(costs(&dynamo, &[1, 2, 3], 1536)[0], 32.0 + 96.0);
        // An end without a first token ends the prefill too.
        end(&mut dynamo, 1, 1, 2.0);
        assert_eq!(costs(&dynamo, &[1, 2, 3], 1536)[1], 96.0 + 96.0);
    }

    #[test]
    fn only_uncached_tokens_count_as_prefill() {
        let mut dynamo = under_way(Cost::Linear);
        let scene = Scene::new(3);
        assert_eq!(scene.pick(&mut dynamo, 2, &[1, 2, 3], 1536), 0);
        assert_eq!(dynamo.ranks[0].prefill_tokens, 512);
    }

    #[test]
    fn siblings_that_arrive_together_do_not_see_each_other() {
        let scene = Scene::new(2);
        let mut dynamo = Dynamo::new(&setup(2), Cost::Linear);
        let first = scene.pick(&mut dynamo, 0, &[1, 2], 1024);
        // First: (1024 + 1024) / 16 + 64 shared; other: 64 + 64.
        assert_eq!(scene.pick(&mut dynamo, 1, &[1, 2], 1024), 1 - first);
    }
}
