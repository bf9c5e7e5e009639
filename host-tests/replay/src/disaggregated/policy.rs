//! What a policy is given and asked where prefill and decode are apart.

use super::ratio::Ratio;
use crate::peers::Setup;
use crate::policy::{Arrival, RankReport, Usage};

/// What a rank does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// Computes the prompt for a decode rank.
    Prefill,
    /// Answers.
    Decode,
}

/// Both picks of one decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Of the prefill ranks; none where the decode rank does it all.
    pub prefill: Option<usize>,
    /// Of the decode ranks.
    pub decode: usize,
}

/// What a policy is made for.
#[derive(Clone, Copy, Debug)]
pub struct PairSetup {
    /// The ranks.
    pub ratio: Ratio,
    /// Ranks that share a pod.
    pub ranks_per_pod: usize,
    /// Tokens that the cache of a rank holds.
    pub capacity_tokens: u64,
    /// Tokens of a block of the trace.
    pub block_tokens: u64,
    /// Seeds what is random in it.
    pub seed: u64,
}

impl PairSetup {
    /// The same for a policy of so many ranks of one kind.
    #[must_use]
    pub fn of(&self, ranks: usize) -> Setup {
        Setup {
            ranks,
            ranks_per_pod: self.ranks_per_pod,
            capacity_tokens: self.capacity_tokens,
            reports_capacity: true,
            block_tokens: self.block_tokens,
            seed: self.seed,
        }
    }
}

/// What a policy may look at beside what it remembers itself.
pub struct PairView<'a> {
    /// Milliseconds since the start.
    pub now_ms: f64,
    /// The last report of each prefill rank that this router has got.
    pub prefill: &'a [Option<RankReport>],
    /// The last report of each decode rank.
    pub decode: &'a [Option<RankReport>],
    /// The true state, for the oracle alone: other policies must not look.
    pub truth: &'a dyn PairTruth,
}

/// What a decode rank has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DecodeWork {
    /// Sequences that it decodes or that were sent to it, wherever they are now.
    pub sequences: u64,
    /// Tokens that they need room for.
    pub tokens: u64,
    /// Sequences in the batches of all ranks that step with it, its own included.
    pub group_sequences: u64,
}

/// The engines' own state.
pub trait PairTruth {
    /// When a rank's first token of a request would come if it went there now, prompt and all, and nothing came after it.
    fn first_token_ms(&self, leg: Leg, rank: usize, arrival: &Arrival) -> f64;
    /// Time from a prompt being prefilled to a decode rank having all of it.
    fn hand_over_ms(&self, rank: usize, arrival: &Arrival) -> f64;
    /// Tokens of the prompt that the rank's cache holds now.
    fn cached_tokens(&self, leg: Leg, rank: usize, arrival: &Arrival) -> u64;
    /// What a decode rank has to do.
    fn decode_work(&self, rank: usize) -> DecodeWork;
    /// What all ranks are made of.
    fn profile(&self) -> &crate::profile::Profile;
}

/// A router's decision, re-implemented.
pub trait PairPolicy {
    /// The ranks for a request.
    fn pick(&mut self, arrival: &Arrival, view: &PairView<'_>) -> Pair;
    /// The decode rank took a request whose prompt is prefilled: response headers, as a gateway sees it.
    fn prefilled(&mut self, _number: usize, _now_ms: f64) {}
    /// The first token of its answer came.
    fn first_token(&mut self, _number: usize, _now_ms: f64) {}
    /// Its answer ended, with what its usage says.
    fn end(&mut self, _number: usize, _usage: Usage, _now_ms: f64) {}
    /// A new report of a rank arrived at this router.
    fn reported(&mut self, _leg: Leg, _rank: usize, _report: &RankReport) {}
}
