//! The scheduler of a simulated rank: first come, first served, continuous batching, chunked prefill, as in vLLM's
//! engine. Pure: time is a duration that each step takes, so tests need no clock.

mod received;

use std::collections::VecDeque;
use std::sync::Arc;

use super::prefix_cache::PrefixCache;
use super::profile::{EngineProfile, StepWork};
use received::PromptKv;
pub use received::Transfer;

/// Tokens of a KV block.
pub const BLOCK_TOKENS: u64 = 16;

/// What bounds a step, by vLLM's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Tokens of one step, prefill and decode together.
    pub max_num_batched_tokens: u64,
    /// Sequences that run at once.
    pub max_num_seqs: usize,
    /// Blocks of KV cache.
    pub num_gpu_blocks: usize,
}

/// A request, as the engine sees it.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its number.
    pub id: u64,
    /// Chained hashes of the whole blocks of the prompt.
    pub hashes: Arc<[u64]>,
    /// Length of the prompt.
    pub prompt_tokens: u64,
    /// Tokens to generate, at least 1.
    pub max_tokens: u64,
    /// Whether all of the prompt is computed, whatever of it is cached.
    pub skips_cache: bool,
}

#[derive(Debug)]
struct Running {
    sequence: Sequence,
    /// Tokens with KV.
    computed: u64,
    cached: u64,
    kv: PromptKv,
    /// Prompt tokens whose KV came from another rank.
    received: u64,
    generated: u64,
    /// Leading hashes whose blocks are in use.
    named: usize,
    unnamed: usize,
    /// Tokens that the step under way computes.
    scheduled: u64,
    /// Whether it was counted when first scheduled; a preempted sequence is not counted again.
    is_counted: bool,
}

/// A token of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The sequence.
    pub id: u64,
    /// Its place in the answer, from 0.
    pub number: u64,
    /// Prompt tokens that were found in the cache or received from another rank: vLLM tells their sum.
    pub cached: u64,
    /// Whether it is the last.
    pub is_last: bool,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Prompt tokens looked up in the prefix cache.
    pub queries: u64,
    /// Those found.
    pub hits: u64,
    /// Prompt tokens of sequences whose prefill is done.
    pub prompt_tokens: u64,
    /// Those of them that were neither found in the cache nor received.
    pub computed_prompt_tokens: u64,
    /// Those of them whose KV came from another rank.
    pub received_prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Sequences thrown back to the queue for want of room.
    pub preemptions: u64,
    /// Steps.
    pub steps: u64,
}

/// One rank's engine.
#[derive(Debug)]
pub struct Engine {
    limits: EngineLimits,
    profile: EngineProfile,
    cache: PrefixCache,
    waiting: VecDeque<Running>,
    running: Vec<Running>,
    /// Requests whose KV is on its way; they hold their blocks.
    loading: Vec<Running>,
    begun: Vec<Transfer>,
    counts: EngineCounts,
}

impl Engine {
    /// An idle engine with a cold cache.
    #[must_use]
    pub fn new(limits: EngineLimits, profile: EngineProfile) -> Self {
        let cache = PrefixCache::new(limits.num_gpu_blocks);
        Self {
            limits,
            profile,
            cache,
            waiting: VecDeque::new(),
            running: Vec::new(),
            loading: Vec::new(),
            begun: Vec::new(),
            counts: EngineCounts::default(),
        }
    }

    /// Queues a request.
    pub fn add(&mut self, sequence: Sequence) {
        self.waiting
            .push_back(Running::new(sequence, PromptKv::Computed));
    }

    /// Drops a request, wherever it is.
    pub fn abort(&mut self, id: u64) {
        let (is_it, cache) = (|r: &Running| r.sequence.id == id, &mut self.cache);
        let gone = self
            .running
            .extract_if(.., |running| is_it(running))
            .chain(self.loading.extract_if(.., |loading| is_it(loading)))
            .chain(
                self.waiting
                    .iter()
                    .position(is_it)
                    .and_then(|place| self.waiting.remove(place)),
            );
        gone.for_each(|mut gone| free(cache, &mut gone));
    }

    /// Plans a step and gives the time it takes; `None` when there is nothing to do.
    pub fn begin_step(&mut self) -> Option<std::time::Duration> {
        let mut budget = self.limits.max_num_batched_tokens;
        let mut work = StepWork::default();
        let preempted = self.schedule_running(&mut budget, &mut work);
        if !preempted {
            self.schedule_waiting(&mut budget, &mut work);
        }
        (work != StepWork::default()).then(|| self.profile.step(work))
    }

    /// Ends the step; gives the tokens that it made.
    pub fn end_step(&mut self) -> Vec<Token> {
        self.counts.steps += 1;
        let mut tokens = Vec::new();
        for running in &mut self.running {
            running.computed += std::mem::take(&mut running.scheduled);
            // The last computed position gives the next token.
            if running.computed == running.known() {
                if running.generated == 0 {
                    let prompt_tokens = running.sequence.prompt_tokens;
                    self.counts.prompt_tokens += prompt_tokens;
                    self.counts.computed_prompt_tokens += prompt_tokens - running.cached;
                    self.counts.received_prompt_tokens += running.received;
                }
                tokens.push(running.make_token());
            }
        }
        self.counts.generation_tokens += u64::try_from(tokens.len()).unwrap_or(0);
        let (cache, is_done) = (&mut self.cache, |r: &Running| {
            r.generated >= r.sequence.max_tokens
        });
        self.running
            .extract_if(.., |running| is_done(running))
            .for_each(|mut done| free(cache, &mut done));
        tokens
    }

    /// Sequences that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that wait, for room, for their turn or for their KV.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.loading.len()
    }

    /// Forgets every prefix that no request uses.
    pub fn lose_cache(&mut self) {
        self.cache.reset();
    }

    /// Share of the KV cache in use.
    #[must_use]
    pub fn cache_usage(&self) -> f64 {
        self.cache.usage()
    }

    /// Totals.
    #[must_use]
    pub fn counts(&self) -> EngineCounts {
        self.counts
    }

    /// True when a running sequence had to be thrown back.
    fn schedule_running(&mut self, budget: &mut u64, work: &mut StepWork) -> bool {
        let mut preempted = false;
        let mut place = 0;
        while place < self.running.len() && *budget > 0 {
            let wanted = (self.running[place].known() - self.running[place].computed).min(*budget);
            while !extend(&mut self.cache, &mut self.running[place], wanted)
                && self.running.len() > place
            {
                self.preempt_last();
                preempted = true;
                if self.running.len() <= place {
                    return preempted;
                }
            }
            schedule(&mut self.running[place], wanted, budget, work);
            place += 1;
        }
        preempted
    }

    fn preempt_last(&mut self) {
        let Some(mut last) = self.running.pop() else {
            return;
        };
        free(&mut self.cache, &mut last);
        last.computed = 0;
        last.scheduled = 0;
        // What was received is lost, and vLLM does not ask for it a second time.
        last.kv = PromptKv::Computed;
        self.counts.preemptions += 1;
        self.waiting.push_front(last);
    }

    fn schedule_waiting(&mut self, budget: &mut u64, work: &mut StepWork) {
        while *budget > 0 && self.running.len() < self.limits.max_num_seqs {
            let Some(mut next) = self.waiting.pop_front() else {
                return;
            };
            if next.kv == PromptKv::Elsewhere {
                match self.begin_transfer(next) {
                    Ok(()) => continue,
                    Err(next) => return self.waiting.push_front(next),
                }
            }
            let Some(wanted) = admit(&mut self.cache, &mut next, *budget) else {
                self.waiting.push_front(next);
                return;
            };
            self.count_lookup(&mut next);
            schedule(&mut next, wanted, budget, work);
            self.running.push(next);
        }
    }

    fn count_lookup(&mut self, running: &mut Running) {
        if !std::mem::replace(&mut running.is_counted, true) {
            running.cached = running.computed;
            if running.sequence.skips_cache {
                // vLLM does not look it up.
                return;
            }
            self.counts.queries += running.sequence.prompt_tokens;
            self.counts.hits += running.computed;
        }
    }
}

impl Running {
    fn new(sequence: Sequence, kv: PromptKv) -> Self {
        Self {
            sequence,
            computed: 0,
            cached: 0,
            kv,
            received: 0,
            generated: 0,
            named: 0,
            unnamed: 0,
            scheduled: 0,
            is_counted: false,
        }
    }

    /// Tokens whose KV is needed for the next token.
    fn known(&self) -> u64 {
        self.sequence.prompt_tokens + self.generated
    }

    fn make_token(&mut self) -> Token {
        let number = self.generated;
        self.generated += 1;
        let is_last = self.generated >= self.sequence.max_tokens;
        Token {
            id: self.sequence.id,
            number,
            cached: self.cached,
            is_last,
        }
    }
}

/// Takes the blocks of the prompt that are in the cache and those of its first chunk, whose tokens it gives.
fn admit(cache: &mut PrefixCache, next: &mut Running, budget: u64) -> Option<u64> {
    // What was received holds its blocks already.
    if next.kv != PromptKv::Received {
        take_matched(cache, next)?;
    }
    let wanted = (next.known() - next.computed).min(budget);
    extend(cache, next, wanted).then_some(wanted)
}

/// Takes the blocks of the prompt that are in the cache; gives how many are missing. As vLLM does unless told otherwise,
/// takes nothing while there is no room for the whole prompt. The last token is always computed, or there would be no
/// answer.
fn take_matched(cache: &mut PrefixCache, next: &mut Running) -> Option<usize> {
    let most = (next.sequence.prompt_tokens.saturating_sub(1) / BLOCK_TOKENS) as usize;
    let matched = match next.sequence.skips_cache {
        true => 0,
        false => cache.matched(&next.sequence.hashes).min(most),
    };
    let cached = &next.sequence.hashes[..matched];
    let missing = blocks(next.known()) - matched;
    if cache.idle_among(cached) + missing > cache.free_blocks() {
        return None;
    }
    for hash in cached {
        cache.take(*hash);
    }
    (next.named, next.computed) = (matched, matched as u64 * BLOCK_TOKENS);
    Some(missing)
}

/// Takes the blocks that `tokens` more need; false, and nothing is taken, when there is no room.
fn extend(cache: &mut PrefixCache, running: &mut Running, tokens: u64) -> bool {
    let held = running.named + running.unnamed;
    let missing = blocks(running.computed + tokens).saturating_sub(held);
    if missing > cache.free_blocks() {
        return false;
    }
    for _ in 0..missing {
        let hash = running.sequence.hashes.get(running.named);
        match hash.filter(|_| running.unnamed == 0) {
            Some(hash) => running.named += usize::from(cache.take(*hash)),
            None => running.unnamed += usize::from(cache.take_unnamed()),
        }
    }
    true
}

/// Blocks that so many tokens fill, the last perhaps in part.
fn blocks(tokens: u64) -> usize {
    usize::try_from(tokens.div_ceil(BLOCK_TOKENS)).unwrap_or(usize::MAX)
}

fn schedule(running: &mut Running, tokens: u64, budget: &mut u64, work: &mut StepWork) {
    running.scheduled = tokens;
    *budget -= tokens;
    if running.generated > 0 && tokens == 1 {
        work.add_decode(running.computed);
    } else {
        work.add_prefill(running.computed, tokens);
    }
}

fn free(cache: &mut PrefixCache, running: &mut Running) {
    cache.free(&running.sequence.hashes[..running.named], running.unnamed);
    running.named = 0;
    running.unnamed = 0;
}

#[cfg(test)]
mod tests;
