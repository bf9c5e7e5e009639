//! vLLM-router's `consistent_hash`.
//!
//! Source: vllm-project/router, `docs/load_balancing/README.md` @301790e7.
//!
//! A key on a ring of 160 points a rank; load plays no part. The key is the first there is of session, user, tenant and
//! request headers, then the body's session and user fields, then a hash of the body.
//!
//! Simpler here: traces know no sessions, so the key is the body: equal prompts share a rank, prompts that only begin alike
//! do not. A client that names its sessions would fare better.

use super::{Setup, ring};
use crate::policy::{Arrival, Policy, View};

const POINTS_PER_RANK: u64 = 160;

/// See the module.
pub(super) struct ConsistentHash {
    ring: ring::Ring,
}

impl ConsistentHash {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            ring: ring::Ring::new(setup.ranks, POINTS_PER_RANK),
        }
    }
}

impl Policy for ConsistentHash {
    fn pick(&mut self, arrival: &Arrival, _view: &View<'_>) -> usize {
        let key = ring::mix(
            arrival.blocks.last().copied().unwrap_or(0),
            arrival.prompt_tokens,
        );
        self.ring.from(key).next().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, setup};
    use super::*;

    #[test]
    fn equal_prompts_share_a_rank_whatever_its_load() {
        let scene = Scene::new(8);
        let mut hash = ConsistentHash::new(&setup(8));
        let first = scene.pick(&mut hash, 0, &[1, 2], 1100);
        assert!((1..50).all(|number| scene.pick(&mut hash, number, &[1, 2], 1100) == first));
    }

    #[test]
    fn prompts_that_only_begin_alike_spread_over_all_ranks_about_evenly() {
        let scene = Scene::new(8);
        let mut hash = ConsistentHash::new(&setup(8));
        let mut counts = [0; 8];
        (0..8000).for_each(|number| {
            counts[scene.pick(&mut hash, number, &[1, number as u64], 1100)] += 1
        });
        assert!(
            counts.iter().all(|count| (600..1400).contains(count)),
            "{counts:?}"
        );
    }
}
