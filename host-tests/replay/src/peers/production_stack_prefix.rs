//! The vLLM production stack's `prefixaware` routing.
//!
//! Source: vllm-project/production-stack a6c01db0, `src/vllm_router/routers/routing_logic.py`, `prefix/hashtrie.py`.
//!
//! A tree of hashes over chunks of 128 characters, without limit: nothing ever leaves it. One of the ranks of the longest
//! match at random, all ranks where nothing matches. Load plays no part: the least match that is followed
//! (`--prefix-min-match-length`) is 0 by default, so the branch that looks at the request rate is never taken.
//!
//! Simpler here: matches count in blocks of the trace, so prompts that share less than one share nothing.

use super::{Setup, choice, holders::Holders};
use crate::policy::{Arrival, Policy, View};

/// See the module.
pub(super) struct PrefixAware {
    tree: Holders,
    ranks: usize,
    dice: fastrand::Rng,
}

impl PrefixAware {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            tree: Holders::new(setup.ranks, usize::MAX),
            ranks: setup.ranks,
            dice: setup.dice(),
        }
    }
}

impl Policy for PrefixAware {
    fn pick(&mut self, arrival: &Arrival, _view: &View<'_>) -> usize {
        let (depth, holders) = self.tree.deepest(&arrival.blocks);
        let ranks: Vec<usize> = if depth == 0 {
            (0..self.ranks).collect()
        } else {
            holders.iter().map(|holder| holder.rank).collect()
        };
        let rank = choice::any(&ranks, &mut self.dice);
        self.tree.touch_all(rank, &arrival.blocks);
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, setup};
    use super::*;

    #[test]
    fn whoever_got_the_first_prompt_gets_all_that_begin_alike() {
        let scene = Scene::new(8);
        let mut router = PrefixAware::new(&setup(8));
        let first = scene.pick(&mut router, 0, &[1, 2], 1024);
        assert!((1..100).all(|number| scene.pick(
            &mut router,
            number,
            &[1, 100 + number as u64],
            1024
        ) == first));
    }

    #[test]
    fn the_longer_match_wins_and_equals_are_drawn() {
        let scene = Scene::new(3);
        let mut router = PrefixAware::new(&setup(3));
        router.tree.touch_all(0, &[1]);
        router.tree.touch_all(1, &[1, 2]);
        router.tree.touch_all(2, &[1, 2]);
        let mut counts = [0; 3];
        (0..100).for_each(|number| counts[scene.pick(&mut router, number, &[1, 2], 1024)] += 1);
        assert_eq!(counts[0], 0);
        assert!(counts[1] > 20 && counts[2] > 20, "{counts:?}");
    }

    #[test]
    fn prompts_that_match_nothing_spread_over_all_ranks() {
        let scene = Scene::new(4);
        let mut router = PrefixAware::new(&setup(4));
        let mut counts = [0; 4];
        (0..400)
            .for_each(|number| counts[scene.pick(&mut router, number, &[number as u64], 512)] += 1);
        assert!(counts.iter().all(|&count| count > 60), "{counts:?}");
    }
}
