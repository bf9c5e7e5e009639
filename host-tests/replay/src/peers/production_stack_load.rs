//! The vLLM production stack's `loadaware` routing.
//!
//! Source: vllm-project/production-stack#1035.
//!
//! `score = matched / prompt - beta * (load - mean) / max(1, mean)`, both terms without a unit, `beta` 1, the highest
//! wins, the first of equals. Load is the router's own count of open requests. What matches is asked of LMCache's
//! controller, which is told of stored blocks; where no rank has any, the rank with the fewest requests in the last 60 s is
//! taken.
//!
//! Simpler here: what the controller would know is guessed from own picks: a rank stores a prompt at its first token and
//! drops the longest unused blocks beyond its capacity. With several gateways each knows only its own, where the product's
//! routers would share one controller.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::{Setup, choice, holders::Holders, in_flight::InFlight};
use crate::policy::{Arrival, Policy, Usage, View};

const BETA: f64 = 1.0;
const RATE_WINDOW_MS: f64 = 60_000.0;

/// See the module.
pub(super) struct LoadAware {
    stored: Holders,
    computing: HashMap<usize, (usize, Rc<[u64]>)>,
    in_flight: InFlight,
    recent: Recent,
    block_tokens: u64,
}

impl LoadAware {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            stored: Holders::new(setup.ranks, setup.capacity_blocks()),
            computing: HashMap::new(),
            in_flight: InFlight::new(setup.ranks),
            recent: Recent {
                counts: vec![0; setup.ranks],
                picks: VecDeque::new(),
            },
            block_tokens: setup.block_tokens,
        }
    }

    fn scores(&self, arrival: &Arrival) -> Vec<f64> {
        let loads = self.in_flight.counts();
        let mean = self.in_flight.total() as f64 / loads.len().max(1) as f64;
        let matched = self.stored.unbroken(&arrival.blocks);
        let score = |(&depth, &load): (&usize, &u64)| {
            let share =
                (depth as u64 * self.block_tokens) as f64 / arrival.prompt_tokens.max(1) as f64;
            share.min(1.0) - BETA * (load as f64 - mean) / mean.max(1.0)
        };
        matched.iter().zip(loads).map(score).collect()
    }

    fn choose(&self, arrival: &Arrival) -> usize {
        let is_held = arrival
            .blocks
            .first()
            .is_some_and(|&block| !self.stored.of(block).is_empty());
        if is_held {
            choice::best(&self.scores(arrival))
                .first()
                .copied()
                .unwrap_or(0)
        } else {
            choice::first_least(&self.recent.counts)
        }
    }

    fn store(&mut self, number: usize) {
        if let Some((rank, blocks)) = self.computing.remove(&number) {
            self.stored.touch_all_tail_first(rank, &blocks);
        }
    }
}

impl Policy for LoadAware {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        self.recent.expire(view.now_ms);
        let rank = self.choose(arrival);
        self.recent.add(rank, view.now_ms);
        self.in_flight.start(arrival.number, rank);
        self.computing
            .insert(arrival.number, (rank, Rc::clone(&arrival.blocks)));
        rank
    }

    fn first_token(&mut self, number: usize, _rank: usize, _now_ms: f64) {
        self.store(number);
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        self.store(number);
        self.in_flight.end(number);
    }
}

/// Picks of the last 60 s by rank: the request rate that the product compares, up to a factor.
struct Recent {
    counts: Vec<u64>,
    picks: VecDeque<(f64, usize)>,
}

impl Recent {
    fn add(&mut self, rank: usize, now_ms: f64) {
        if let Some(count) = self.counts.get_mut(rank) {
            *count += 1;
            self.picks.push_back((now_ms, rank));
        }
    }

    fn expire(&mut self, now_ms: f64) {
        while let Some(&(at_ms, rank)) = self.picks.front()
            && now_ms - at_ms > RATE_WINDOW_MS
        {
            self.picks.pop_front();
            self.counts[rank] -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, arrival, end, setup};
    use super::*;

    #[test]
    fn the_score_is_the_matched_share_less_the_relative_load() {
        let mut router = LoadAware::new(&setup(3));
        router.stored.touch_all(0, &[1, 2]);
        // Loads 3, 1, 2: mean 2.
        [0, 0, 0, 1, 2, 2]
            .into_iter()
            .enumerate()
            .for_each(|(number, rank)| router.in_flight.start(number, rank));
        // Rank 0: 1024/2048 - (3-2)/2 = 0; rank 1: 0 + 1/2; rank 2: 0.
        assert_eq!(
            router.scores(&arrival(9, &[1, 2, 3, 4], 2048)),
            [0.0, 0.5, 0.0]
        );
        // All of the prompt: 1 - 1/2 = 1/2, a tie that the first rank wins.
        assert_eq!(router.choose(&arrival(9, &[1, 2], 1024)), 0);
    }

    #[test]
    fn a_mean_below_one_counts_as_one() {
        let mut router = LoadAware::new(&setup(4));
        router.in_flight.start(0, 0);
        // Mean 1/4: (1 - 1/4) / 1 and (0 - 1/4) / 1.
        assert_eq!(
            router.scores(&arrival(1, &[1], 512)),
            [-0.75, 0.25, 0.25, 0.25]
        );
    }

    #[test]
    fn what_nobody_holds_goes_where_the_last_minute_was_calmest() {
        let mut scene = Scene::new(2);
        let mut router = LoadAware::new(&setup(2));
        assert_eq!(scene.pick(&mut router, 0, &[1], 512), 0);
        // Rank 0 has had one request, although it is over.
        end(&mut router, 0, 0, 10.0);
        assert_eq!(scene.pick(&mut router, 1, &[2], 512), 1);
        scene.now_ms = 59_000.0;
        assert_eq!(scene.pick(&mut router, 2, &[3], 512), 0);
        assert_eq!(scene.pick(&mut router, 3, &[4], 512), 1);
        assert_eq!(scene.pick(&mut router, 4, &[5], 512), 0);
        // 3 and 2 so far. Those at 0 have left the window: 2 and 1; then 2 and 2.
        scene.now_ms = 60_001.0;
        assert_eq!(scene.pick(&mut router, 5, &[6], 512), 1);
        assert_eq!(scene.pick(&mut router, 6, &[7], 512), 0);
        // Nothing but the last two is left.
        scene.now_ms = 119_001.0;
        assert_eq!(scene.pick(&mut router, 7, &[8], 512), 0);
        assert_eq!(router.recent.counts, [2, 1]);
    }

    #[test]
    fn a_prompt_is_held_from_its_first_token_on() {
        let scene = Scene::new(2);
        let mut router = LoadAware::new(&setup(2));
        assert_eq!(scene.pick(&mut router, 0, &[1], 512), 0);
        assert_eq!(router.scores(&arrival(1, &[1], 512)), [-0.5, 0.5]);
        router.first_token(0, 0, 5.0);
        assert_eq!(router.scores(&arrival(1, &[1], 512)), [0.5, 0.5]);
    }
}
