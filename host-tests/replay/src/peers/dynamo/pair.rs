//! Dynamo's router where prefill and decode are apart.
//!
//! Source: ai-dynamo/dynamo, docs "Disaggregated Serving" (v1.3) and "Conditional Disaggregation" (v1.5.1),
//! `lib/kv-router/src/conditional_disagg.rs`, `lib/llm/src/kv_router/prefill_router/` @d7f06b59.
//!
//! ```text
//! prefill rank: least adjusted prefill; no blocks are tracked (track_active_blocks=false)
//! decode rank:  least blocks in use; no credit for what it holds (overlap_score_credit=0), no block counts as shared
//!               (assume_kv_reuse=false), no prefill (track_prefill_tokens=false)
//! ```
//!
//! Conditional disaggregation, off by default, asks first where the request would go by the linear cost over the decode ranks. It
//! goes there alone if its uncached tokens are fewer than 2,048 and less than 0.7 of the prompt (policy `isl_bounding`); if not,
//! both ranks are picked as above.
//!
//! Prefill ends when the prefill rank has answered; seen here with the response headers, a front end and a transfer later. What
//! ranks hold comes from own picks, as in the joined peer; decode ranks hold a prompt from the first token on.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Cost, Dynamo, Open};
use crate::disaggregated::policy::{Pair, PairPolicy, PairSetup, PairView};
use crate::policy::{Arrival, Policy, Usage};

/// `eff_isl_threshold`.
const MOST_UNCACHED_TOKENS: u64 = 2048;
/// `eff_isl_ratio_threshold`.
const MOST_UNCACHED_SHARE: f64 = 0.7;

/// See the module.
pub(crate) struct DynamoPair {
    is_conditional: bool,
    prefill: Dynamo,
    decode: Dynamo,
    /// Prompts on their way to decode ranks that did not prefill them.
    received: HashMap<usize, (usize, Rc<[u64]>)>,
}

impl DynamoPair {
    /// Those that [`named`](Self::named) knows.
    pub(crate) const NAMES: [&str; 2] = ["dynamo", "dynamo-conditional"];

    /// A variant by its name.
    pub(crate) fn named(name: &str, setup: &PairSetup) -> Option<Self> {
        let is_conditional = name == "dynamo-conditional";
        (is_conditional || name == "dynamo").then(|| Self {
            is_conditional,
            prefill: Dynamo::new(&setup.of(setup.ratio.prefill), Cost::Prefill),
            decode: Dynamo::new(&setup.of(setup.ratio.decode), Cost::Linear),
            received: HashMap::new(),
        })
    }

    /// The decode rank that does it all, where that is better.
    fn alone(&mut self, arrival: &Arrival) -> Option<usize> {
        let (rank, overlap) = self.decode.choose(arrival);
        let cached = overlap as u64 * self.decode.blocks_per_trace_block * super::BLOCK_TOKENS;
        let uncached = arrival.prompt_tokens.saturating_sub(cached);
        let share = uncached as f64 / arrival.prompt_tokens.max(1) as f64;
        if uncached >= MOST_UNCACHED_TOKENS || share >= MOST_UNCACHED_SHARE {
            return None;
        }
        self.decode.start(arrival, rank, overlap);
        Some(rank)
    }

    /// By decode rank, the blocks in use.
    fn blocks_in_use(&self) -> Vec<f64> {
        let per_block = self.decode.blocks_per_trace_block;
        let ranks = self.decode.ranks.iter();
        let blocks = ranks.map(|rank| rank.users.len() as u64 * per_block + rank.own_blocks);
        blocks.map(|blocks| blocks as f64).collect()
    }

    /// Counts a request whose prompt another rank prefills: its blocks are its own.
    fn receive(&mut self, arrival: &Arrival, rank: usize) {
        let own_blocks = arrival.prompt_tokens / super::BLOCK_TOKENS;
        let Some(active) = self.decode.ranks.get_mut(rank) else {
            return;
        };
        active.own_blocks += own_blocks;
        let open = Open {
            rank,
            prefill_tokens: 0,
            blocks: Rc::from([]),
            own_blocks,
        };
        self.decode.open.insert(arrival.number, open);
        let blocks = Rc::clone(&arrival.blocks);
        self.received.insert(arrival.number, (rank, blocks));
    }

    /// A decode rank holds a prompt that it received.
    fn note_received(&mut self, number: usize) {
        if let Some((rank, blocks)) = self.received.remove(&number) {
            self.decode.held.touch_all_tail_first(rank, &blocks);
        }
    }
}

impl PairPolicy for DynamoPair {
    fn pick(&mut self, arrival: &Arrival, _view: &PairView<'_>) -> Pair {
        if self.is_conditional
            && let Some(decode) = self.alone(arrival)
        {
            return Pair {
                prefill: None,
                decode,
            };
        }
        let (prefill, overlap) = self.prefill.choose(arrival);
        self.prefill.start(arrival, prefill, overlap);
        let blocks = self.blocks_in_use();
        let decode = self.decode.least(&blocks);
        self.receive(arrival, decode);
        Pair {
            prefill: Some(prefill),
            decode,
        }
    }

    fn prefilled(&mut self, number: usize, now_ms: f64) {
        self.prefill.end(number, 0, Usage::default(), now_ms);
    }

    fn first_token(&mut self, number: usize, _now_ms: f64) {
        if self.received.contains_key(&number) {
            self.note_received(number);
        } else {
            self.decode.prefilled(number);
        }
    }

    fn end(&mut self, number: usize, usage: Usage, now_ms: f64) {
        self.note_received(number);
        self.prefill.end(number, 0, usage, now_ms);
        self.decode.end(number, 0, usage, now_ms);
    }
}

#[cfg(test)]
mod tests;
