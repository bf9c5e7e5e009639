//! The EPP with its `prefix-cache-affinity-filter` and `token-load-scorer`.
//!
//! Source: llm-d/llm-d-router ebab6879 (v0.10), `pkg/epp/framework/plugins/scheduling/filter/prefixcacheaffinity`,
//! `scorer/tokenload`, `requestcontrol/dataproducer/inflightload`; used so by `guides/wide-ep-lws` for prefill.
//!
//! ```text
//! sticky  = ranks that hold at least 0.80 of the prompt; none: all ranks stay
//! TTFT    = tokens in flight on the rank / 15 928 tokens/s
//! least TTFT of sticky - least TTFT of others > 18 s: all ranks stay, else the sticky
//! score   = 1 - min(tokens, 4 194 304) / 4 194 304, tokens = in flight + uncached of this prompt
//! ```
//!
//! The highest wins, equals at random. A request's tokens in flight are those of its prompt that its rank was not believed
//! to hold. They are released at the end of the answer, or, for a prefill profile, at its first byte. The index is that of
//! v0.10. No exploration (the default).
//!
//! Simpler here: as `epp` and its index; the guide pairs the filter with the exact index of KV events instead.

use std::collections::HashMap;

use super::epp::prefix::{Matches, PrefixIndex, PrefixLimits};
use super::{Setup, choice};
use crate::policy::{Arrival, Policy, Usage, View};

const STICKY_SHARE: f64 = 0.80;
const MAX_TTFT_PENALTY_MS: f64 = 18_000.0;
const PREFILL_TOKENS_PER_S: f64 = 15_928.0;
const FULL_LOAD_TOKENS: f64 = 4_194_304.0;

/// When tokens in flight are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// At the first byte of the answer: the rank of a prefill profile.
    FirstByte,
    /// At its end: every other rank.
    End,
}

/// See the module.
pub(super) struct Affinity {
    index: PrefixIndex,
    release: Release,
    tokens: Vec<u64>,
    open: HashMap<usize, (usize, u64)>,
    dice: fastrand::Rng,
}

impl Affinity {
    pub(super) fn new(setup: &Setup, release: Release) -> Self {
        Self {
            index: PrefixIndex::new(setup, PrefixLimits::V0_10),
            release,
            tokens: vec![0; setup.ranks],
            open: HashMap::new(),
            dice: setup.dice(),
        }
    }

    fn least_ttft_ms(&self, ranks: &[usize]) -> f64 {
        let least = ranks.iter().map(|&rank| self.tokens[rank]).min();
        least.map_or(f64::INFINITY, |tokens| {
            tokens as f64 / PREFILL_TOKENS_PER_S * 1000.0
        })
    }

    /// The ranks that the filter keeps.
    fn kept(&self, shares: &[f64]) -> Vec<usize> {
        let (sticky, others): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|&rank| shares[rank] >= STICKY_SHARE);
        let penalty_ms = self.least_ttft_ms(&sticky) - self.least_ttft_ms(&others);
        if sticky.is_empty() || penalty_ms > MAX_TTFT_PENALTY_MS {
            (0..shares.len()).collect()
        } else {
            sticky
        }
    }

    fn score(&self, rank: usize, uncached: u64) -> f64 {
        let tokens = (self.tokens[rank] + uncached) as f64;
        1.0 - tokens.min(FULL_LOAD_TOKENS) / FULL_LOAD_TOKENS
    }

    fn choose(&mut self, matches: &Matches, uncached: &[u64]) -> usize {
        let kept = self.kept(&matches.shares());
        let scores: Vec<f64> = kept
            .iter()
            .map(|&rank| self.score(rank, uncached[rank]))
            .collect();
        let best = choice::best(&scores);
        kept.get(choice::any(&best, &mut self.dice))
            .copied()
            .unwrap_or(0)
    }

    fn start(&mut self, number: usize, rank: usize, uncached: u64) {
        self.release(number);
        if let Some(tokens) = self.tokens.get_mut(rank) {
            *tokens += uncached;
            self.open.insert(number, (rank, uncached));
        }
    }

    fn release(&mut self, number: usize) {
        if let Some((rank, tokens)) = self.open.remove(&number) {
            self.tokens[rank] -= tokens;
        }
    }
}

fn uncached_by_rank(arrival: &Arrival, matches: &Matches) -> Vec<u64> {
    let uncached = |&blocks: &u64| {
        arrival
            .prompt_tokens
            .saturating_sub(blocks * matches.block_tokens)
    };
    matches.blocks.iter().map(uncached).collect()
}

impl Policy for Affinity {
    fn pick(&mut self, arrival: &Arrival, _view: &View<'_>) -> usize {
        let matches = self.index.matches(arrival);
        let uncached = uncached_by_rank(arrival, &matches);
        let rank = self.choose(&matches, &uncached);
        self.index.insert(arrival, rank);
        self.start(
            arrival.number,
            rank,
            uncached.get(rank).copied().unwrap_or(0),
        );
        rank
    }

    fn first_token(&mut self, number: usize, _rank: usize, _now_ms: f64) {
        if self.release == Release::FirstByte {
            self.release(number);
        }
    }

    fn end(&mut self, number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {
        self.release(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, arrival, end, setup};
    use super::*;

    fn affinity(tokens: &[u64]) -> Affinity {
        let mut affinity = Affinity::new(&setup(tokens.len()), Release::End);
        affinity.tokens = tokens.to_vec();
        affinity
    }

    #[test]
    fn ranks_that_hold_four_fifths_of_the_prompt_are_kept() {
        assert_eq!(affinity(&[0, 0, 0]).kept(&[0.8, 0.79, 1.0]), [0, 2]);
        assert_eq!(affinity(&[0, 0, 0]).kept(&[0.7, 0.79, 0.0]), [0, 1, 2]);
        assert_eq!(affinity(&[900_000, 0]).kept(&[0.9, 0.9]), [0, 1]);
    }

    #[test]
    fn eighteen_seconds_of_tokens_break_the_stickiness() {
        // 18 s at 15 928 tokens/s are 286 704 tokens.
        assert_eq!(affinity(&[286_704 + 1000, 1000]).kept(&[1.0, 0.0]), [0]);
        assert_eq!(affinity(&[286_705 + 1000, 1000]).kept(&[1.0, 0.0]), [0, 1]);
    }

    #[test]
    fn the_load_is_tokens_in_flight_and_uncached_tokens_of_four_million() {
        // 1 - (1 048 576 + 1 048 576) / 4 194 304.
        assert_eq!(affinity(&[1 << 20]).score(0, 1 << 20), 0.5);
        assert_eq!(affinity(&[1 << 23]).score(0, 0), 0.0);
    }

    #[test]
    fn uncached_tokens_are_what_the_rank_does_not_hold() {
        let mut affinity = affinity(&[0, 0]);
        affinity.index.insert(&arrival(0, &[1, 2], 1100), 1);
        let arrival = arrival(1, &[1, 2, 3], 1600);
        assert_eq!(
            uncached_by_rank(&arrival, &affinity.index.matches(&arrival)),
            [1600, 576]
        );
    }

    #[test]
    fn of_ranks_that_hold_too_little_the_least_loaded_after_this_prompt_wins() {
        let scene = Scene::new(2);
        let mut affinity = affinity(&[0, 600]);
        affinity.index.insert(&arrival(0, &[1, 2], 1024), 1);
        // Half the prompt is not sticky: 0 + 2048 against 600 + 1024.
        assert_eq!(scene.pick(&mut affinity, 1, &[1, 2, 3, 4], 2048), 1);
        assert_eq!(affinity.tokens, [0, 600 + 1024]);
    }

    #[test]
    fn tokens_leave_at_the_first_byte_or_at_the_end() {
        let scene = Scene::new(1);
        for (release, left) in [(Release::FirstByte, 0), (Release::End, 512)] {
            let mut affinity = Affinity::new(&setup(1), release);
            scene.pick(&mut affinity, 0, &[1], 512);
            affinity.first_token(0, 0, 1.0);
            assert_eq!(affinity.tokens, [left]);
            end(&mut affinity, 0, 0, 2.0);
            end(&mut affinity, 0, 0, 3.0);
            assert_eq!(affinity.tokens, [0]);
        }
    }
}
