//! The endpoint picker (EPP) of llm-d and the Gateway API inference extension: weighted scores of a profile.
//!
//! Source: llm-d/llm-d-router (before: llm-d-inference-scheduler), `pkg/epp/scheduling`; the configurations of
//! `guides/wide-ep-lws/experimental-dp-aware` @607e693e (image v0.7.0) and, without a file, of v0.10.
//!
//! Each rank gets the sum of `weight * score`, scores cut to 0 to 1; the highest wins, equals at random.
//!
//! | score | formula | of |
//! |---|---|---|
//! | prefix | matched blocks / blocks of the prompt, see `prefix` | own picks |
//! | active | see `active` | own picks |
//! | queue | `(most - waiting) / (most - least)`, all equal: 1 | reports |
//! | KV | `1 - usage` | reports |
//!
//! Reports are scraped each 50 ms; before its first a rank counts as empty.
//!
//! Simpler here: one profile picks over the whole pool. Filters by role, flow control and saturation are left out.

mod active;
mod pair;
pub(super) mod prefix;

use self::active::ActiveRequests;
pub(super) use self::active::{MAX_BUSY_AS_SHIPPED, MAX_BUSY_FIXED};
pub(crate) use self::pair::EppPair;
use self::prefix::{PrefixIndex, PrefixLimits};
use super::{Setup, choice};
use crate::policy::{Arrival, Policy, RankReport, Usage, View};

/// Weights of the scores of a profile.
#[derive(Clone, Copy, Debug, Default)]
struct Weights {
    prefix: f64,
    active: f64,
    queue: f64,
    kv: f64,
}

/// See the module.
pub(super) struct Epp {
    weights: Weights,
    prefix: PrefixIndex,
    active: ActiveRequests,
    dice: fastrand::Rng,
}

impl Epp {
    /// The guide's prefill profile: prefix 3, active 2, queue 2.
    pub(super) fn guide_prefill(setup: &Setup, max_busy_score: f64) -> Self {
        let weights = Weights {
            prefix: 3.0,
            active: 2.0,
            queue: 2.0,
            kv: 0.0,
        };
        Self::new(setup, weights, PrefixLimits::V0_7, max_busy_score)
    }

    /// The guide's decode profile: active 1, queue 1.
    pub(super) fn guide_decode(setup: &Setup, max_busy_score: f64) -> Self {
        let weights = Weights {
            active: 1.0,
            queue: 1.0,
            ..Weights::default()
        };
        Self::new(setup, weights, PrefixLimits::V0_7, max_busy_score)
    }

    /// What runs without a configuration: prefix 3, queue 2, KV 2.
    pub(super) fn default_profile(setup: &Setup) -> Self {
        let weights = Weights {
            prefix: 3.0,
            queue: 2.0,
            kv: 2.0,
            active: 0.0,
        };
        Self::new(setup, weights, PrefixLimits::V0_10, MAX_BUSY_FIXED)
    }

    fn new(setup: &Setup, weights: Weights, limits: PrefixLimits, max_busy_score: f64) -> Self {
        Self {
            weights,
            prefix: PrefixIndex::new(setup, limits),
            active: ActiveRequests::new(setup.ranks, max_busy_score),
            dice: setup.dice(),
        }
    }

    fn scores(&self, arrival: &Arrival, reports: &[Option<RankReport>]) -> Vec<f64> {
        let Weights {
            prefix,
            active,
            queue,
            kv,
        } = self.weights;
        let mut totals = vec![0.0; self.active.counts().len()];
        let shares = if prefix > 0.0 {
            self.prefix.matches(arrival).shares()
        } else {
            Vec::new()
        };
        add(&mut totals, prefix, &shares);
        add(&mut totals, active, &self.active.scores());
        add(&mut totals, queue, &queue_scores(reports));
        add(&mut totals, kv, &kv_scores(reports));
        totals
    }
}

fn add(totals: &mut [f64], weight: f64, scores: &[f64]) {
    totals
        .iter_mut()
        .zip(scores)
        .for_each(|(total, score)| *total += weight * score.clamp(0.0, 1.0));
}

fn queue_scores(reports: &[Option<RankReport>]) -> Vec<f64> {
    let waiting: Vec<f64> = reports
        .iter()
        .map(|report| report.map_or(0.0, |report| report.waiting.into()))
        .collect();
    let most = waiting.iter().copied().fold(0.0, f64::max);
    let least = waiting.iter().copied().fold(f64::INFINITY, f64::min);
    let score = |&count: &f64| {
        if most > least {
            (most - count) / (most - least)
        } else {
            1.0
        }
    };
    waiting.iter().map(score).collect()
}

fn kv_scores(reports: &[Option<RankReport>]) -> Vec<f64> {
    reports
        .iter()
        .map(|report| 1.0 - report.map_or(0.0, |report| report.kv_usage))
        .collect()
}

impl Policy for Epp {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        self.active.expire(view.now_ms);
        let rank = choice::any(
            &choice::best(&self.scores(arrival, view.reports)),
            &mut self.dice,
        );
        if self.weights.prefix > 0.0 {
            self.prefix.insert(arrival, rank);
        }
        self.active.start(arrival.number, rank, view.now_ms);
        rank
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        self.active.end(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, arrival, end, setup};
    use super::*;

    fn close(left: &[f64], right: &[f64]) -> bool {
        left.len() == right.len()
            && left
                .iter()
                .zip(right)
                .all(|(left, right)| (left - right).abs() < 1e-12)
    }

    #[test]
    fn the_queue_score_runs_from_the_longest_queue_to_the_shortest() {
        let mut scene = Scene::new(4);
        assert_eq!(queue_scores(&scene.reports), [1.0; 4]);
        scene.report(&[(0, 8, 0.0), (0, 2, 0.0), (0, 5, 0.0), (0, 2, 0.0)]);
        assert_eq!(queue_scores(&scene.reports), [0.0, 1.0, 0.5, 1.0]);
    }

    #[test]
    fn the_guides_prefill_profile_weighs_prefix_3_active_2_queue_2() {
        let mut scene = Scene::new(3);
        scene.report(&[(0, 4, 0.0), (0, 0, 0.0), (0, 1, 0.0)]);
        let mut shipped = Epp::guide_prefill(&setup(3), MAX_BUSY_AS_SHIPPED);
        let mut fixed = Epp::guide_prefill(&setup(3), MAX_BUSY_FIXED);
        for epp in [&mut shipped, &mut fixed] {
            epp.prefix.insert(&arrival(0, &[1, 2], 1024), 0);
            [(0, 0), (1, 0), (2, 1)]
                .into_iter()
                .for_each(|(number, rank)| epp.active.start(number, rank, 0.0));
        }
        // A prompt of 4 blocks of which rank 0 holds 2. Queues 4, 0, 1: scores 0, 1, 3/4. Active 2, 1, 0.
        let arrival = arrival(9, &[1, 2, 3, 4], 2048);
        // Busy is 0: 3/2 + 0 + 0; 0 + 0 + 2; 0 + 2 + 3/2.
        assert!(close(
            &shipped.scores(&arrival, &scene.reports),
            &[1.5, 2.0, 3.5]
        ));
        // Busy is (2 - count) / 2: rank 1 gets 2 * 1/2 more.
        assert!(close(
            &fixed.scores(&arrival, &scene.reports),
            &[1.5, 3.0, 3.5]
        ));
    }

    #[test]
    fn the_guides_decode_profile_is_random_once_all_ranks_are_busy_as_shipped_and_balances_when_fixed()
     {
        let scene = Scene::new(2);
        let counts = |max_busy_score| {
            let mut epp = Epp::guide_decode(&setup(2), max_busy_score);
            [(1000, 0), (1001, 1), (1002, 1)]
                .into_iter()
                .for_each(|(number, rank)| epp.active.start(number, rank, 0.0));
            let mut counts = [0; 2];
            for number in 0..100 {
                let rank = scene.pick(&mut epp, number, &[1], 512);
                counts[rank] += 1;
                end(&mut epp, number, rank, 1.0);
            }
            counts
        };
        assert!(counts(MAX_BUSY_AS_SHIPPED).iter().all(|&count| count > 25));
        assert_eq!(counts(MAX_BUSY_FIXED), [100, 0]);
    }

    #[test]
    fn a_request_of_more_than_two_minutes_leaves_its_rank_idle() {
        let mut scene = Scene::new(1);
        let mut epp = Epp::guide_decode(&setup(1), MAX_BUSY_AS_SHIPPED);
        scene.pick(&mut epp, 0, &[1], 512);
        scene.now_ms = 120_001.0;
        scene.pick(&mut epp, 1, &[1], 512);
        assert_eq!(epp.active.counts(), [1]);
    }

    #[test]
    fn the_default_profile_weighs_prefix_3_queue_2_kv_2() {
        let mut scene = Scene::new(2);
        scene.report(&[(0, 1, 0.75), (0, 0, 0.5)]);
        let mut epp = Epp::default_profile(&setup(2));
        epp.prefix.insert(&arrival(0, &[1], 512), 0);
        // Rank 0: 3 * 1/2 + 0 + 2 * 1/4; rank 1: 0 + 2 + 2 * 1/2.
        assert!(close(
            &epp.scores(&arrival(1, &[1, 2], 1024), &scene.reports),
            &[2.0, 3.0]
        ));
    }

    #[test]
    fn equals_are_drawn_and_prompts_follow_their_prefix() {
        let scene = Scene::new(4);
        let mut epp = Epp::default_profile(&setup(4));
        let first = scene.pick(&mut epp, 0, &[1, 2], 1024);
        assert!((1..20).all(|number| scene.pick(&mut epp, number, &[1, 2], 1024) == first));
        let mut ranks: Vec<usize> = (100..200)
            .map(|number| scene.pick(&mut epp, number, &[number as u64], 512))
            .collect();
        ranks.sort_unstable();
        ranks.dedup();
        assert_eq!(ranks, [0, 1, 2, 3]);
    }
}
