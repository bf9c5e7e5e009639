//! What the tests of the peers share: arrivals, reports, and a truth that nobody may ask.

use std::rc::Rc;

use super::Setup;
use crate::policy::{Arrival, Policy, RankReport, Truth, Usage, View};

/// A pool as a policy sees it.
pub(crate) struct Scene {
    /// The last reports.
    pub(crate) reports: Vec<Option<RankReport>>,
    /// The time.
    pub(crate) now_ms: f64,
}

impl Scene {
    pub(crate) fn new(ranks: usize) -> Self {
        Self {
            reports: vec![None; ranks],
            now_ms: 0.0,
        }
    }

    /// Every rank has reported now: (running, waiting, KV usage).
    pub(crate) fn report(&mut self, reports: &[(u32, u32, f64)]) {
        let taken_ms = self.now_ms;
        let report = |&(running, waiting, kv_usage)| {
            Some(RankReport {
                running,
                waiting,
                kv_usage,
                taken_ms,
            })
        };
        self.reports = reports.iter().map(report).collect();
    }

    pub(crate) fn pick(
        &self,
        policy: &mut dyn Policy,
        number: usize,
        blocks: &[u64],
        prompt_tokens: u64,
    ) -> usize {
        let view = View {
            now_ms: self.now_ms,
            reports: &self.reports,
            truth: &Hidden,
        };
        policy.pick(&arrival(number, blocks, prompt_tokens), &view)
    }
}

struct Hidden;

impl Truth for Hidden {
    fn first_token_ms(&self, _rank: usize, _arrival: &Arrival) -> f64 {
        panic!("a peer asked for the truth")
    }

    fn cached_tokens(&self, _rank: usize, _arrival: &Arrival) -> u64 {
        panic!("a peer asked for the truth")
    }
}

pub(crate) fn arrival(number: usize, blocks: &[u64], prompt_tokens: u64) -> Arrival {
    Arrival {
        number,
        blocks: Rc::from(blocks),
        prompt_tokens,
    }
}

/// Blocks of 512 tokens, caches of 1000 of them.
pub(crate) fn setup(ranks: usize) -> Setup {
    Setup {
        ranks,
        ranks_per_pod: 8,
        capacity_tokens: 512_000,
        reports_capacity: true,
        block_tokens: 512,
        seed: 1,
    }
}

pub(crate) fn end(policy: &mut dyn Policy, number: usize, rank: usize, now_ms: f64) {
    policy.end(number, rank, Usage::default(), now_ms);
}
