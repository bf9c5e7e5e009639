//! What a trial can be told.

use serde::Deserialize;

/// The settings of a trial, each an idea. The defaults are the deployed decision.
///
/// Weights are in tokens to prefill; switches are 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// How much an uncached token weighs at least.
    pub miss: f64,
    /// What the ratio of busy to idle ranks adds to it.
    pub waiting: f64,
    /// The most that it adds.
    pub waiting_most: f64,
    /// What is taken for that ratio: 0 the share of busy ranks, 1 the mean of requests before their first byte per rank, 2 the
    /// median, 3 those of the rank itself.
    pub waiting_of: f64,
    /// Milliseconds over which the share of busy ranks is averaged.
    pub busy_ms: f64,
    /// What the share of uses in the older half of full caches adds.
    pub old_uses: f64,
    /// What the share of the cache in use by running prompts adds.
    pub in_use: f64,
    /// What a token of a running prompt weighs.
    pub held: f64,
    /// What such a token weighs more in a cache that is in use from end to end.
    pub full: f64,
    /// What a request in flight weighs.
    pub flight: f64,
    /// What each token before it adds to a token's work: attention.
    pub attention: f64,
    /// 1: work times requests in flight, instead of their sum.
    pub product: f64,
    /// Costs this close are equal.
    pub near: f64,
    /// The same, as a share of the lowest.
    pub near_share: f64,
    /// What a token weighs that finds no room beside the running prompts.
    pub no_room: f64,
    /// Weight of `k/(1-k)`, `k` the share of the cache that would be in use.
    pub barrier: f64,
    /// 1: running prompts are corrected by the use that ranks report.
    pub by_reports: f64,
    /// Tokens that an answer is taken to add to a running prompt; -1: as many as answers had on average.
    pub output: f64,
    /// How much of the queue is taken to be done by the time since its last first byte, at the rate that first bytes show.
    pub progress: f64,
    /// 1: work is weighed by how slow the rank was up to now.
    pub rank_rate: f64,
    /// How much a match counts while its blocks are still being computed.
    pub pending: f64,
    /// Tokens of a prompt's start whose order decides among equals.
    pub anchor: f64,
    /// Share of a rank's cache that is believed in.
    pub index: f64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            miss: 1.0,
            waiting: 1.0,
            waiting_most: 5.0,
            waiting_of: 0.0,
            busy_ms: 10_000.0,
            old_uses: 8.0,
            in_use: 2.0,
            held: 0.0,
            full: 0.1,
            flight: 200.0,
            attention: 0.0,
            product: 0.0,
            near: 100.0,
            near_share: 0.0,
            no_room: 0.0,
            barrier: 0.0,
            by_reports: 0.0,
            output: 0.0,
            progress: 0.0,
            rank_rate: 0.0,
            pending: 1.0,
            anchor: 1024.0,
            index: 1.0,
        }
    }
}
