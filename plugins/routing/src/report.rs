//! What one metrics page says of a rank.

/// A rank's own word on itself, from one page. What the page does not say, or says in a way that makes no sense, is
/// `None`: unknown is never zero, because a rank that cannot be read would look idle and draw all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in the batches of its engines.
    pub running: Option<u32>,
    /// Requests that its engines have queued.
    pub waiting: Option<u32>,
    /// The share of its KV cache that requests hold, from 0 to 1; the fullest engine's, because that one preempts.
    pub kv_usage: Option<f64>,
    /// Tokens that its KV cache holds.
    pub capacity_tokens: Option<u64>,
    /// When its process started, milliseconds of Unix time; another value is another process.
    pub start_time_ms: Option<u64>,
    /// Prompt tokens since its start, those from the cache included. It falls only by a restart.
    pub prompt_tokens_total: Option<u64>,
    /// Tokens generated since its start. A rank that has requests running and does not move this hangs, though its
    /// health check says otherwise.
    pub generation_tokens_total: Option<u64>,
    /// Prompt tokens looked up in its prefix cache since its start; known only together with the hits.
    pub prefix_queried_tokens_total: Option<u64>,
    /// Those of them that were found. The only delivered hit rate that needs no flag on the server.
    pub prefix_hit_tokens_total: Option<u64>,
    /// Whether its engines compute. One that sleeps takes requests, queues them for ever, and passes its health check.
    pub is_awake: Option<bool>,
}
