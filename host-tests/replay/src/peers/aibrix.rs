//! AIBrix's `prefix-cache` routing.
//!
//! Source: vllm-project/aibrix e3e10f9e, `pkg/plugins/gateway/algorithms/prefix_cache.go`, `pkg/utils/prefixcacheindexer`.
//!
//! - If the most and the least loaded pod are too far apart, only the least loaded may match.
//! - Longest match first, in whole percent of the prompt, ties by load, then at random; the first whose load is at most
//!   the mean plus some standard deviations is taken. Load is the gateway's own count of open requests.
//! - Else the least loaded, ties at random.
//!
//! One table serves all pods: 200 000 blocks, at most 20 minutes old, the longest unused first. Code and readme disagree on
//! the defaults, see `Limits`; both are run.
//!
//! Simpler here: four characters are one token, and the table moves in blocks of the trace. Blocks age exactly, not
//! by a sweep each second. The product keys its table by pod and sends to a pod's first port; here each rank counts as a
//! pod, in its favour.

use std::collections::{HashMap, VecDeque};

use super::{Setup, choice, in_flight::InFlight};
use crate::policy::{Arrival, Policy, Usage, View};

const TABLE_BLOCKS: u64 = 200_000;
const CHARS_PER_TOKEN: u64 = 4;
const MAX_AGE_MS: f64 = 20.0 * 60_000.0;

/// What the defaults are, according to the code or to the readme.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Requests that the most and the least loaded may be apart.
    imbalance: u64,
    /// Standard deviations above the mean that a match may be loaded.
    deviations: f64,
    /// Characters of a block of the table.
    block_chars: u64,
}

impl Limits {
    /// What runs. The table holds 200 000 tokens of all ranks together, so it soon forgets long prompts.
    pub(super) const CODE: Self = Self {
        imbalance: 8,
        deviations: 1.0,
        block_chars: 4,
    };
    /// What is written.
    pub(super) const README: Self = Self {
        imbalance: 16,
        deviations: 2.0,
        block_chars: 128,
    };

    fn table_tokens(&self) -> u64 {
        TABLE_BLOCKS * self.block_chars / CHARS_PER_TOKEN
    }
}

/// See the module.
pub(super) struct Aibrix {
    limits: Limits,
    table: Table,
    in_flight: InFlight,
    block_tokens: u64,
    dice: fastrand::Rng,
}

impl Aibrix {
    pub(super) fn new(setup: &Setup, limits: Limits) -> Self {
        let blocks = usize::try_from(limits.table_tokens() / setup.block_tokens.max(1))
            .unwrap_or(usize::MAX);
        Self {
            limits,
            table: Table::new(blocks),
            in_flight: InFlight::new(setup.ranks),
            block_tokens: setup.block_tokens,
            dice: setup.dice(),
        }
    }

    fn candidates(&self) -> Vec<usize> {
        let loads = self.in_flight.counts();
        let most = loads.iter().max().copied().unwrap_or(0);
        let fewest = loads.iter().min().copied().unwrap_or(0);
        if most - fewest > self.limits.imbalance {
            choice::least(loads)
        } else {
            (0..loads.len()).collect()
        }
    }

    /// The matching ranks, best first, each with its match in percent.
    fn matches(&mut self, arrival: &Arrival) -> Vec<(u64, usize)> {
        let percent = |depth: u64| depth * self.block_tokens * 100 / arrival.prompt_tokens.max(1);
        let depths = self.table.match_prefix(&arrival.blocks, self.candidates());
        let mut matches: Vec<_> = depths
            .into_iter()
            .map(|(rank, depth)| (percent(depth), rank))
            .collect();
        self.dice.shuffle(&mut matches);
        let loads = self.in_flight.counts();
        matches.sort_by_key(|&(percent, rank)| (std::cmp::Reverse(percent), loads[rank]));
        matches
    }

    fn matched(&mut self, arrival: &Arrival) -> Option<usize> {
        let limit = load_limit(self.in_flight.counts(), self.limits.deviations);
        let matches = self.matches(arrival);
        let loads = self.in_flight.counts();
        matches
            .into_iter()
            .map(|(_, rank)| rank)
            .find(|&rank| loads[rank] as f64 <= limit)
    }
}

impl Policy for Aibrix {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        self.table.expire(view.now_ms);
        let rank = match self.matched(arrival) {
            Some(rank) => rank,
            None => choice::any(&choice::least(self.in_flight.counts()), &mut self.dice),
        };
        self.table.add(&arrival.blocks, rank, view.now_ms);
        self.in_flight.start(arrival.number, rank);
        rank
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        self.in_flight.end(number);
    }
}

/// Mean plus so many standard deviations, of all members.
fn load_limit(loads: &[u64], deviations: f64) -> f64 {
    let count = loads.len().max(1) as f64;
    let mean = loads.iter().sum::<u64>() as f64 / count;
    let variance = loads
        .iter()
        .map(|&load| (load as f64 - mean).powi(2))
        .sum::<f64>()
        / count;
    mean + deviations * variance.sqrt()
}

/// The table of blocks that all ranks share.
struct Table {
    entries: HashMap<u64, Entry>,
    /// Oldest first: (touch, block, time). A block touched again leaves its older entries behind.
    touches: VecDeque<(u64, u64, f64)>,
    capacity: usize,
    clock: u64,
}

#[derive(Default)]
struct Entry {
    ranks: Vec<usize>,
    touched: u64,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            touches: VecDeque::new(),
            capacity,
            clock: 0,
        }
    }

    /// The candidates that hold the first block, each with the blocks that it holds without a gap. Looking does not touch.
    fn match_prefix(&self, blocks: &[u64], mut candidates: Vec<usize>) -> Vec<(usize, u64)> {
        let mut depths: Vec<(usize, u64)> = Vec::new();
        for (depth, block) in (1..).zip(blocks) {
            let holders = self
                .entries
                .get(block)
                .map_or(&[][..], |entry| &entry.ranks);
            candidates.retain(|rank| holders.contains(rank));
            if candidates.is_empty() {
                break;
            }
            depths.retain(|(rank, _)| !candidates.contains(rank));
            depths.extend(candidates.iter().map(|&rank| (rank, depth)));
        }
        depths
    }

    fn add(&mut self, blocks: &[u64], rank: usize, now_ms: f64) {
        for &block in blocks {
            self.clock += 1;
            let entry = self.entries.entry(block).or_default();
            entry.touched = self.clock;
            if !entry.ranks.contains(&rank) {
                entry.ranks.push(rank);
            }
            self.touches.push_back((self.clock, block, now_ms));
            while self.entries.len() > self.capacity {
                self.drop_oldest();
            }
        }
    }

    fn expire(&mut self, now_ms: f64) {
        while self
            .touches
            .front()
            .is_some_and(|&(_, _, at_ms)| now_ms - at_ms > MAX_AGE_MS)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((touched, block, _)) = self.touches.pop_front()
            && self
                .entries
                .get(&block)
                .is_some_and(|entry| entry.touched == touched)
        {
            self.entries.remove(&block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, setup};
    use super::*;

    #[test]
    fn the_limit_is_the_mean_and_the_deviations() {
        // Loads 2, 4, 6: mean 4, variance (4 + 0 + 4) / 3.
        assert!((load_limit(&[2, 4, 6], 1.0) - (4.0 + (8.0_f64 / 3.0).sqrt())).abs() < 1e-12);
    }

    #[test]
    fn the_longest_match_wins_until_its_rank_is_a_deviation_above_the_mean() {
        let scene = Scene::new(4);
        let mut aibrix = Aibrix::new(&setup(4), Limits::CODE);
        let first = scene.pick(&mut aibrix, 0, &[1, 2], 1024);
        // 1, 0, 0, 0: mean 0.25, deviation 0.433: a limit of 0.683, which the holder is above.
        let second = scene.pick(&mut aibrix, 1, &[1, 2, 3], 1536);
        assert_ne!(second, first);
        // 1, 1, 0, 0: mean 0.5, deviation 0.5: a limit of 1, which the holder of all three blocks keeps.
        assert_eq!(scene.pick(&mut aibrix, 2, &[1, 2, 3], 1536), second);
    }

    #[test]
    fn more_than_eight_apart_only_the_least_loaded_may_match() {
        let scene = Scene::new(8);
        let mut aibrix = Aibrix::new(&setup(8), Limits::CODE);
        aibrix.table.add(&[1], 0, 0.0);
        (0..8).for_each(|number| aibrix.in_flight.start(number, 1));
        assert_eq!(aibrix.candidates().len(), 8);
        assert_eq!(scene.pick(&mut aibrix, 8, &[1], 512), 0);
        aibrix.in_flight.start(9, 1);
        // 9 against 0: rank 0, which holds the block and has one request, may not match.
        assert_eq!(aibrix.candidates(), [2, 3, 4, 5, 6, 7]);
        assert_ne!(scene.pick(&mut aibrix, 10, &[1], 512), 0);
    }

    #[test]
    fn the_table_holds_two_hundred_thousand_tokens_of_all_ranks() {
        let mut aibrix = Aibrix::new(&setup(2), Limits::CODE);
        let prompt: Vec<u64> = (0..390).collect();
        aibrix.table.add(&prompt, 0, 0.0);
        assert_eq!(aibrix.table.match_prefix(&prompt, vec![0, 1]), [(0, 390)]);
        // 200 000 / 512 = 390: one more block and the oldest, the first of the prompt, goes.
        aibrix.table.add(&[1000], 1, 0.0);
        assert_eq!(aibrix.table.match_prefix(&prompt, vec![0, 1]), []);
    }

    #[test]
    fn the_readmes_table_is_32_times_as_large_and_its_limits_are_wider() {
        // 128 characters are 32 tokens.
        assert_eq!(Limits::CODE.table_tokens(), 200_000);
        assert_eq!(Limits::README.table_tokens(), 6_400_000);
        let mut aibrix = Aibrix::new(&setup(2), Limits::README);
        (0..16).for_each(|number| aibrix.in_flight.start(number, 1));
        assert_eq!(aibrix.candidates(), [0, 1]);
        aibrix.in_flight.start(16, 1);
        assert_eq!(aibrix.candidates(), [0]);
        assert!((load_limit(&[2, 4, 6], 2.0) - (4.0 + 2.0 * (8.0_f64 / 3.0).sqrt())).abs() < 1e-12);
    }

    #[test]
    fn a_match_of_more_than_twenty_minutes_ago_is_not_followed() {
        let mut scene = Scene::new(2);
        let mut aibrix = Aibrix::new(&setup(2), Limits::CODE);
        aibrix.table.add(&[1], 0, 0.0);
        aibrix.in_flight.start(0, 0);
        // 1 and 0: mean 0.5, deviation 0.5, so the busier rank could be followed.
        scene.now_ms = MAX_AGE_MS + 1.0;
        assert_eq!(scene.pick(&mut aibrix, 1, &[1], 512), 1);
    }

    #[test]
    fn blocks_go_after_twenty_minutes() {
        let mut table = Table::new(10);
        table.add(&[1], 0, 0.0);
        table.expire(MAX_AGE_MS);
        assert_eq!(table.match_prefix(&[1], vec![0]), [(0, 1)]);
        table.expire(MAX_AGE_MS + 1.0);
        assert_eq!(table.match_prefix(&[1], vec![0]), []);
    }
}
