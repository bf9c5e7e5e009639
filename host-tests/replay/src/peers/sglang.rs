//! SGLang router's `cache_aware`, with the defaults of its command line.
//!
//! Source: lightseekorg/smg 73da68ca (successor of SGLang's gateway), `model_gateway/src/policies/cache_aware.rs`.
//!
//! - If `most - least > 64` and `most > 1.5 * least` requests are open: the least loaded rank.
//! - Else one walk down a tree of all prompts sent: if more than 0.3 of the prompt matches, a rank that has the deepest
//!   node; if not, the least loaded rank (the smallest tree in older versions). First of equals.
//! - The prompt is added to the rank's tree in all cases. Each 60 s trees of more than 2^26 characters lose their longest
//!   unused leaves.
//!
//! Loads are the router's own counts.
//!
//! Simpler here: the tree grows by blocks of the trace, four characters a token; of the ranks that have the deepest node,
//! the one that used it last is taken, where the product keeps any one.

use super::{Setup, choice, holders::Holders, in_flight::InFlight};
use crate::policy::{Arrival, Policy, Usage, View};

const CACHE_THRESHOLD: f64 = 0.3;
const BALANCE_ABS: u64 = 64;
const BALANCE_REL: f64 = 1.5;
const EVICTION_INTERVAL_MS: f64 = 60_000.0;
const MAX_TREE_CHARS: u64 = 1 << 26;
const CHARS_PER_TOKEN: u64 = 4;

/// See the module.
pub(super) struct CacheAware {
    tree: Holders,
    in_flight: InFlight,
    block_tokens: u64,
    evicted_ms: f64,
}

impl CacheAware {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            tree: Holders::new(setup.ranks, usize::MAX),
            in_flight: InFlight::new(setup.ranks),
            block_tokens: setup.block_tokens.max(1),
            evicted_ms: 0.0,
        }
    }

    fn evict(&mut self, now_ms: f64) {
        if now_ms - self.evicted_ms >= EVICTION_INTERVAL_MS {
            self.evicted_ms = now_ms;
            let blocks = MAX_TREE_CHARS / CHARS_PER_TOKEN / self.block_tokens;
            let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
            (0..self.in_flight.counts().len()).for_each(|rank| self.tree.trim(rank, blocks));
        }
    }

    /// The rank of the deepest match, if enough of the prompt matches.
    fn matched(&self, arrival: &Arrival) -> Option<usize> {
        let (depth, holders) = self.tree.deepest(&arrival.blocks);
        let share = (depth as u64 * self.block_tokens) as f64 / arrival.prompt_tokens.max(1) as f64;
        let latest = holders.iter().max_by_key(|holder| holder.touched);
        latest
            .filter(|_| share > CACHE_THRESHOLD)
            .map(|holder| holder.rank)
    }
}

fn is_imbalanced(loads: &[u64]) -> bool {
    let most = loads.iter().max().copied().unwrap_or(0);
    let least = loads.iter().min().copied().unwrap_or(0);
    most - least > BALANCE_ABS && most as f64 > BALANCE_REL * least as f64
}

impl Policy for CacheAware {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        self.evict(view.now_ms);
        let loads = self.in_flight.counts();
        let matched = if is_imbalanced(loads) {
            None
        } else {
            self.matched(arrival)
        };
        let rank = matched.unwrap_or_else(|| choice::first_least(loads));
        // Tail first, so that the leaf is older than what leads to it.
        self.tree.touch_all_tail_first(rank, &arrival.blocks);
        self.in_flight.start(arrival.number, rank);
        rank
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        self.in_flight.end(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, setup};
    use super::*;

    #[test]
    fn imbalance_needs_both_the_difference_and_the_ratio() {
        assert!(!is_imbalanced(&[0, 64]));
        assert!(is_imbalanced(&[0, 65]));
        // 66 apart, but 198 is not above 1.5 * 132.
        assert!(!is_imbalanced(&[132, 198]));
        assert!(is_imbalanced(&[132, 199]));
    }

    #[test]
    fn a_match_of_more_than_three_tenths_is_followed() {
        let scene = Scene::new(3);
        let mut router = CacheAware::new(&setup(3));
        assert_eq!(scene.pick(&mut router, 0, &[1, 2, 3], 1536), 0);
        // 512 of 1700 tokens are 0.301, of 1707 tokens 0.29994.
        assert_eq!(scene.pick(&mut router, 1, &[1, 8, 9], 1700), 0);
        assert_eq!(scene.pick(&mut router, 2, &[1, 6, 7], 1707), 1);
        // 1536 of 5120 tokens are 0.3: not more.
        assert_eq!(scene.pick(&mut router, 3, &[1, 2, 3, 4], 5120), 2);
    }

    #[test]
    fn the_deepest_node_belongs_to_who_used_it_last() {
        let scene = Scene::new(3);
        let mut router = CacheAware::new(&setup(3));
        router.tree.touch_all(2, &[1, 2]);
        router.tree.touch_all(1, &[1, 2]);
        router.tree.touch_all(0, &[1]);
        assert_eq!(scene.pick(&mut router, 0, &[1, 2, 3], 1536), 1);
    }

    #[test]
    fn an_imbalanced_pool_takes_the_least_loaded_and_remembers_it() {
        let scene = Scene::new(3);
        let mut router = CacheAware::new(&setup(3));
        router.tree.touch_all(0, &[1]);
        (0..65).for_each(|number| router.in_flight.start(number, 0));
        assert_eq!(scene.pick(&mut router, 65, &[1], 512), 1);
        router.in_flight.end(0);
        assert_eq!(scene.pick(&mut router, 66, &[1], 512), 1);
    }

    #[test]
    fn a_tree_too_large_is_cut_at_the_next_interval_leaves_first() {
        let mut scene = Scene::new(1);
        let mut router = CacheAware::new(&setup(1));
        // 2^26 characters are 2^24 tokens, or 32768 blocks.
        let prompt: Vec<u64> = (0..32_770).collect();
        let tokens = 32_770 * 512;
        scene.pick(&mut router, 0, &prompt, tokens);
        scene.now_ms = EVICTION_INTERVAL_MS - 1.0;
        router.evict(scene.now_ms);
        assert_eq!(router.tree.deepest(&prompt).0, 32_770);
        router.evict(EVICTION_INTERVAL_MS);
        assert_eq!(router.tree.deepest(&prompt).0, 32_768);
    }
}
