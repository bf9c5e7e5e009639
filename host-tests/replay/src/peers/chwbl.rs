//! Consistent hashing with bounded loads, as KubeAI's `PrefixHash`.
//!
//! Source: substratusai/kubeai, `docs/papers/llm-load-balancing-at-scale-chwbl.md`, `internal/loadbalancer`.
//!
//! A hash of the first 100 characters of the first user message walks a ring of 256 points a rank from its own place on;
//! the first rank with `load + 1 <= 1.25 * (total + 1) / ranks` is taken, or where the walk began if there is none.
//! Nothing open at all: where the walk began. Loads are the router's own counts. No index, so routers agree.
//!
//! Simpler here: a trace does not say where the first user message begins. The key is the first 1024 tokens, because in
//! the public conversation trace all prompts share their first 512: their system prompt, which the product skips.

use super::{Setup, in_flight::InFlight, ring};
use crate::policy::{Arrival, Policy, Usage, View};

const POINTS_PER_RANK: u64 = 256;
const LOAD_FACTOR: f64 = 1.25;
/// Stands for the start of the first user message.
const KEY_TOKENS: u64 = 1024;

/// See the module.
pub(super) struct Chwbl {
    ring: ring::Ring,
    in_flight: InFlight,
    ranks: usize,
    key_blocks: usize,
}

impl Chwbl {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            ring: ring::Ring::new(setup.ranks, POINTS_PER_RANK),
            in_flight: InFlight::new(setup.ranks),
            ranks: setup.ranks,
            key_blocks: usize::try_from(KEY_TOKENS / setup.block_tokens.max(1))
                .unwrap_or(usize::MAX)
                .max(1),
        }
    }

    /// A prompt without a whole block has no start to share: its length stands for its text.
    fn key(&self, arrival: &Arrival) -> u64 {
        let start = arrival.blocks.iter().take(self.key_blocks).next_back();
        ring::mix(start.copied().unwrap_or(arrival.prompt_tokens), 0)
    }

    fn has_room(&self, rank: usize) -> bool {
        let total = self.in_flight.total();
        let limit = LOAD_FACTOR * (total + 1) as f64 / self.ranks as f64;
        total == 0 || (self.in_flight.counts()[rank] + 1) as f64 <= limit
    }
}

impl Policy for Chwbl {
    fn pick(&mut self, arrival: &Arrival, _view: &View<'_>) -> usize {
        let key = self.key(arrival);
        let first = || self.ring.from(key).next();
        let rank = self
            .ring
            .from(key)
            .find(|&rank| self.has_room(rank))
            .or_else(first)
            .unwrap_or(0);
        self.in_flight.start(arrival.number, rank);
        rank
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        self.in_flight.end(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, end, setup};
    use super::*;

    #[test]
    fn a_rank_has_room_up_to_five_fourths_of_the_mean() {
        let mut chwbl = Chwbl::new(&setup(4));
        assert!(chwbl.has_room(0));
        // Loads 4, 5, 2, 4: (15 + 1) / 4 * 1.25 = 5, so a rank may have 5 with the new request.
        let loads = [4, 5, 2, 4];
        let ranks = loads
            .iter()
            .enumerate()
            .flat_map(|(rank, &load)| vec![rank; load]);
        ranks
            .enumerate()
            .for_each(|(number, rank)| chwbl.in_flight.start(number, rank));
        assert_eq!(
            [0, 1, 2, 3].map(|rank| chwbl.has_room(rank)),
            [true, false, true, true]
        );
    }

    #[test]
    fn one_start_stays_on_one_rank_until_that_is_full_and_comes_back() {
        let scene = Scene::new(2);
        let mut chwbl = Chwbl::new(&setup(2));
        let home = scene.pick(&mut chwbl, 0, &[1, 2, 3], 1600);
        // (1 + 1) / 2 * 1.25 = 1.25: home would have 2.
        assert_eq!(scene.pick(&mut chwbl, 1, &[1, 2, 4], 1600), 1 - home);
        end(&mut chwbl, 0, home, 1.0);
        // Nothing at home, 1 elsewhere: home would have 1.
        assert_eq!(scene.pick(&mut chwbl, 2, &[1, 2, 5], 1600), home);
    }

    #[test]
    fn where_no_rank_has_room_the_walk_ends_where_it_began() {
        let scene = Scene::new(8);
        let mut chwbl = Chwbl::new(&setup(8));
        let home = scene.pick(&mut chwbl, 0, &[1, 2], 1024);
        // (1 + 1) / 8 * 1.25 = 0.31: no rank may have even one.
        assert_eq!(scene.pick(&mut chwbl, 1, &[1, 2], 1024), home);
    }

    #[test]
    fn the_second_block_tells_prompts_apart_and_the_third_does_not() {
        let chwbl = Chwbl::new(&setup(8));
        let key = |blocks: &[u64]| chwbl.key(&super::super::scene::arrival(0, blocks, 2000));
        assert_eq!(key(&[1, 2, 3]), key(&[1, 2, 4]));
        assert_ne!(key(&[1, 2, 3]), key(&[1, 5, 3]));
    }
}
