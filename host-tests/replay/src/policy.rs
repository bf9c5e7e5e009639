//! What a policy is given and asked.

/// A request as a router sees it when it arrives.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its place in the trace, from 0.
    pub number: usize,
    /// Chained hashes of the whole blocks of the prompt, of `BLOCK_TOKENS` tokens of the trace (512 tokens in Mooncake's format).
    pub blocks: std::rc::Rc<[u64]>,
    /// Length of the prompt.
    pub prompt_tokens: u64,
}

/// What a rank reported last, as old as reports are in this run; `None` before its first report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankReport {
    /// Requests in the batch.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Share of the KV cache in use by running requests, 0 to 1.
    pub kv_usage: f64,
    /// When it was taken.
    pub taken_ms: f64,
}

/// What a policy may look at beside what it remembers itself.
pub struct View<'a> {
    /// Milliseconds since the start.
    pub now_ms: f64,
    /// The last report of each rank that this router has got.
    pub reports: &'a [Option<RankReport>],
    /// The true state, for the oracle alone: other policies must not look.
    pub truth: &'a dyn Truth,
}

/// The engines' own state.
pub trait Truth {
    /// When the first token of a request would come if it went to `rank` now and nothing came after it.
    fn first_token_ms(&self, rank: usize, arrival: &Arrival) -> f64;
    /// Tokens of the prompt that the rank's cache holds now.
    fn cached_tokens(&self, rank: usize, arrival: &Arrival) -> u64;
}

/// A router's decision, re-implemented.
pub trait Policy {
    /// The rank for a request. Randomness comes from a generator that the policy was made with.
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize;
    /// The first byte of its answer came.
    fn first_token(&mut self, _number: usize, _rank: usize, _now_ms: f64) {}
    /// Its answer ended; `output_tokens` and `cached_tokens` as its usage says.
    fn end(&mut self, _number: usize, _rank: usize, _usage: Usage, _now_ms: f64) {}
    /// A new report of a rank arrived at this router.
    fn reported(&mut self, _rank: usize, _report: &RankReport) {}
}

/// What the answer says of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Those that came from the cache.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}
