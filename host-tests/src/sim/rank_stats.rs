//! What can be read of a simulated rank.

use super::engine::EngineCounts;

/// What a rank is doing and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankStats {
    /// HTTP requests whose answer is not finished.
    pub open_requests: usize,
    /// Requests in the batch.
    pub running: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Those of them whose KV is on its way from a prefill rank.
    pub transferring: usize,
    /// Share of the KV cache in use.
    pub cache_usage: f64,
    /// Times that its metrics page was asked for.
    pub metrics_asked: u64,
    /// Of a prefill rank: requests other than for `/metrics` and `/health` that came from no sidecar. It is no destination,
    /// so there should be none.
    pub direct_requests: u64,
    /// Of a prefill rank: prefill legs that came. Of a decode rank: those that its sidecar sent.
    pub prefill_legs: u64,
    /// Of a decode rank: prompts that came without a prefill rank.
    pub decode_only: u64,
    /// Of a decode rank: prefill legs that got an error or no answer.
    pub legs_failed: u64,
    /// Those of them whose prompt the decode rank then prefilled itself.
    pub legs_fallen_back: u64,
    /// Totals of the engine.
    pub counts: EngineCounts,
}
