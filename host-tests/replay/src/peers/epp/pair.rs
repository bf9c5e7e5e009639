//! The EPP's profiles for prefill and decode apart.
//!
//! Source: llm-d-inference-scheduler v0.7.0, `pkg/plugins/profile/disagg_profile_handler.go`, and llm-d-router of August 2026. The
//! decode profile picks first, over the decode ranks; then the decider says whether a prefill rank is wanted; then the prefill
//! profile picks, over the prefill ranks.
//!
//! | | prefill profile | decode profile | decider | index | from |
//! |---|---|---|---|---|---|
//! | guide | prefix 3, active 2, queue 2 | active 1, queue 1 | always | v0.7 | guides/wide-ep-lws/experimental-dp-aware @607e693e |
//! | main | the same | active 1 | always | v0.10 | guides/wide-ep-lws/router @1b92e23a |
//! | sample | prefix 2, queue 1 | the same | prefix-based, 16 tokens | v0.7 | deploy/config/pd-epp-config.yaml @0bb9fa83 |
//! | default | prefix 3, queue 2, KV 2 | the same | always | v0.10 | what runs without a configuration, on both |
//!
//! One plugin of a kind serves both profiles. Its index notes each prompt for the decode rank and, where there is one, for the
//! prefill rank; a block that nobody has, of either kind, ends the match. `active` counts a request on both its ranks, in v0.7 on
//! both to its end and no longer than two minutes, and measures counts by the most that a rank of either kind has; since v0.10
//! prefill ends with the response headers, nothing expires here, and each profile has a most of its own.
//!
//! The prefix-based decider wants a prefill rank when at least so many tokens of the prompt are not matched on the decode
//! rank. Its documented default of 0 means never, so that no prefill rank would ever be used.

use super::active::{ActiveRequests, MAX_BUSY_AS_SHIPPED, MAX_BUSY_FIXED};
use super::prefix::{PrefixIndex, PrefixLimits};
use super::{Weights, add, kv_scores, queue_scores};
use crate::disaggregated::policy::{Pair, PairPolicy, PairSetup, PairView};
use crate::disaggregated::ratio::Ratio;
use crate::peers::choice;
use crate::policy::{Arrival, RankReport, Usage};

/// How long v0.7 counts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// On both ranks to the end or for two minutes; one most for both kinds.
    V0_7,
    /// On the prefill rank until the response headers; a most for each kind.
    V0_10,
}

/// One of the configurations.
#[derive(Clone, Copy, Debug)]
struct Configuration {
    prefill: Weights,
    decode: Weights,
    limits: PrefixLimits,
    counting: Counting,
    max_busy_score: f64,
    /// The least uncached tokens for which a prefill rank is wanted; 0 is always.
    least_uncached_tokens: u64,
}

const GUIDE_PREFILL: Weights = Weights {
    prefix: 3.0,
    active: 2.0,
    queue: 2.0,
    kv: 0.0,
};

const GUIDE: Configuration = Configuration {
    prefill: GUIDE_PREFILL,
    decode: Weights {
        active: 1.0,
        queue: 1.0,
        prefix: 0.0,
        kv: 0.0,
    },
    limits: PrefixLimits::V0_7,
    counting: Counting::V0_7,
    max_busy_score: MAX_BUSY_AS_SHIPPED,
    least_uncached_tokens: 0,
};

const SAMPLE: Weights = Weights {
    prefix: 2.0,
    active: 0.0,
    queue: 1.0,
    kv: 0.0,
};

const DEFAULT: Weights = Weights {
    prefix: 3.0,
    active: 0.0,
    queue: 2.0,
    kv: 2.0,
};

fn configuration(name: &str) -> Option<Configuration> {
    let newest = Configuration {
        limits: PrefixLimits::V0_10,
        counting: Counting::V0_10,
        max_busy_score: MAX_BUSY_FIXED,
        ..GUIDE
    };
    Some(match name {
        "epp-guide" => GUIDE,
        "epp-guide-fixed" => Configuration {
            max_busy_score: MAX_BUSY_FIXED,
            ..GUIDE
        },
        "epp-guide-main" => Configuration {
            decode: Weights {
                queue: 0.0,
                ..GUIDE.decode
            },
            ..newest
        },
        "epp-sample" => Configuration {
            prefill: SAMPLE,
            decode: SAMPLE,
            least_uncached_tokens: 16,
            ..GUIDE
        },
        "epp-default" => Configuration {
            prefill: DEFAULT,
            decode: DEFAULT,
            ..newest
        },
        _ => return None,
    })
}

/// See the module. Prefill ranks come first where all ranks have one order.
pub(crate) struct EppPair {
    configuration: Configuration,
    ratio: Ratio,
    prefix: PrefixIndex,
    prefill: ActiveRequests,
    decode: ActiveRequests,
    dice: fastrand::Rng,
}

impl EppPair {
    /// Those that [`named`](Self::named) knows.
    pub(crate) const NAMES: [&str; 5] = [
        "epp-guide",
        "epp-guide-fixed",
        "epp-guide-main",
        "epp-sample",
        "epp-default",
    ];

    /// A configuration by its name.
    pub(crate) fn named(name: &str, setup: &PairSetup) -> Option<Self> {
        let configuration = configuration(name)?;
        let Ratio { prefill, decode } = setup.ratio;
        let all = setup.of(prefill + decode);
        let counts = |ranks| ActiveRequests::new(ranks, configuration.max_busy_score);
        Some(Self {
            configuration,
            ratio: setup.ratio,
            prefix: PrefixIndex::new(&all, configuration.limits),
            prefill: counts(prefill),
            decode: counts(decode),
            dice: all.dice(),
        })
    }

    /// By rank of all, blocks of the EPP that match, and their share of the prompt.
    fn matches(&self, arrival: &Arrival) -> (Vec<u64>, Vec<f64>) {
        let matches = self.prefix.matches(arrival);
        let tokens = matches.blocks.iter().map(|b| b * matches.block_tokens);
        (tokens.collect(), matches.shares())
    }

    fn prefill_scores(&self, shares: &[f64], reports: &[Option<RankReport>]) -> Vec<f64> {
        let active = self.active_scores(&self.prefill);
        scores(self.configuration.prefill, shares, &active, reports)
    }

    fn decode_scores(&self, shares: &[f64], reports: &[Option<RankReport>]) -> Vec<f64> {
        let active = self.active_scores(&self.decode);
        scores(self.configuration.decode, shares, &active, reports)
    }

    fn active_scores(&self, counts: &ActiveRequests) -> Vec<f64> {
        match self.configuration.counting {
            Counting::V0_7 => counts.scores_to(self.prefill.most().max(self.decode.most())),
            Counting::V0_10 => counts.scores(),
        }
    }

    /// `matched_tokens` are those of the decode rank.
    fn wants_prefill(&self, arrival: &Arrival, matched_tokens: u64) -> bool {
        let uncached = arrival.prompt_tokens.saturating_sub(matched_tokens);
        uncached >= self.configuration.least_uncached_tokens
    }

    fn count(&mut self, arrival: &Arrival, pair: Pair, now_ms: f64) {
        let decode = self.ratio.prefill + pair.decode;
        self.prefix.insert(arrival, decode);
        self.decode.start(arrival.number, pair.decode, now_ms);
        if let Some(rank) = pair.prefill {
            self.prefix.insert(arrival, rank);
            self.prefill.start(arrival.number, rank, now_ms);
        }
    }
}

fn scores(
    weights: Weights,
    shares: &[f64],
    active: &[f64],
    reports: &[Option<RankReport>],
) -> Vec<f64> {
    let mut totals = vec![0.0; active.len()];
    add(&mut totals, weights.prefix, shares);
    add(&mut totals, weights.active, active);
    add(&mut totals, weights.queue, &queue_scores(reports));
    add(&mut totals, weights.kv, &kv_scores(reports));
    totals
}

impl PairPolicy for EppPair {
    fn pick(&mut self, arrival: &Arrival, view: &PairView<'_>) -> Pair {
        if self.configuration.counting == Counting::V0_7 {
            self.prefill.expire(view.now_ms);
            self.decode.expire(view.now_ms);
        }
        let (tokens, shares) = self.matches(arrival);
        let (of_prefill, of_decode) = shares.split_at(self.ratio.prefill);
        let best = choice::best(&self.decode_scores(of_decode, view.decode));
        let decode = choice::any(&best, &mut self.dice);
        let mut pair = Pair {
            prefill: None,
            decode,
        };
        if self.wants_prefill(arrival, tokens[self.ratio.prefill + decode]) {
            let best = choice::best(&self.prefill_scores(of_prefill, view.prefill));
            pair.prefill = Some(choice::any(&best, &mut self.dice));
        }
        self.count(arrival, pair, view.now_ms);
        pair
    }

    fn prefilled(&mut self, number: usize, _now_ms: f64) {
        if self.configuration.counting == Counting::V0_10 {
            self.prefill.end(number);
        }
    }

    fn end(&mut self, number: usize, _usage: Usage, _now_ms: f64) {
        self.prefill.end(number);
        self.decode.end(number);
    }
}

#[cfg(test)]
mod tests;
