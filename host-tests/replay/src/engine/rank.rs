//! The scheduler of one rank.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::{BLOCK_TOKENS, PrefixCache, Sequence, Served};
use crate::profile::Profile;

/// vLLM's blocks: a prompt that is cached whole is computed anew from the last such block on.
const FINE_BLOCK_TOKENS: u64 = 16;

/// A sequence that runs.
#[derive(Clone, Debug)]
struct Running {
    sequence: Sequence,
    slots: Rc<[u32]>,
    /// Taken beside the slots when it was let in.
    private_tokens: u64,
    /// Tokens with keys and values.
    computed_tokens: u64,
    /// Its place in the order of being let in.
    order: u64,
    /// What the rank's count of decode steps was when it began to decode.
    decodes_since: u64,
}

/// A step that was planned: its work, and how often it can be repeated before the batch changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// Tokens of prefill.
    pub prefill_tokens: u64,
    /// Pairs of a prefilled token and a token at or before it.
    pub attention_pairs: f64,
    /// Sequences that decode a token.
    pub decodes: u64,
    /// Their context.
    pub context_tokens: u64,
    /// Steps of this kind until the first sequence ends or the cache is full; 1 with prefill, 0 without work.
    pub repeats: u64,
}

/// One rank. Cost of a step: what it lets in and ends, not what it decodes.
#[derive(Clone, Debug)]
pub struct Rank {
    profile: Profile,
    cache: PrefixCache,
    waiting: VecDeque<Sequence>,
    /// What the planned step prefills, with the tokens of each; only the last may stay unfinished.
    prefilling: Vec<(Running, u64)>,
    /// By the count of decode steps at which they end, then by their order.
    decoding: BTreeMap<(u64, u64), Running>,
    decode_steps: u64,
    context_tokens: u64,
    next_order: u64,
    computed_tokens: u64,
    preemptions: u64,
}

impl Rank {
    /// An idle rank with a cold cache.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            cache: PrefixCache::new(profile.capacity_tokens),
            waiting: VecDeque::new(),
            prefilling: Vec::new(),
            decoding: BTreeMap::new(),
            decode_steps: 0,
            context_tokens: 0,
            next_order: 0,
            computed_tokens: 0,
            preemptions: 0,
        }
    }

    /// Queues a request.
    pub fn add(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// Requests in the batch.
    #[must_use]
    pub fn running(&self) -> usize {
        self.decoding.len() + self.prefilling.len()
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that run or wait, and the tokens that they need room for now.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let waiting = self.waiting.iter();
        let prefilling = self.prefilling.iter().map(|(running, _)| &running.sequence);
        let tokens = waiting.chain(prefilling).map(Sequence::known_tokens);
        let sequences = (self.running() + self.waiting()) as u64;
        (sequences, self.context_tokens + tokens.sum::<u64>())
    }

    /// Its cache.
    #[must_use]
    pub fn cache(&self) -> &PrefixCache {
        &self.cache
    }

    /// Its cache loses all that no sequence uses, and nothing that it reports shows that.
    pub fn lose_cache(&mut self) {
        self.cache.lose();
    }

    /// Tokens that it computed, of prompts and answers.
    #[must_use]
    pub fn computed_tokens(&self) -> u64 {
        self.computed_tokens
    }

    /// How often a sequence was thrown back for want of room.
    #[must_use]
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// Plans the next step.
    pub fn plan(&mut self) -> Plan {
        let has_preempted = self.make_room_for_decodes();
        let mut plan = Plan {
            decodes: self.decoding.len() as u64,
            context_tokens: self.context_tokens,
            ..Plan::default()
        };
        let mut budget = self.profile.step_tokens.saturating_sub(plan.decodes);
        for (running, chunk) in &mut self.prefilling {
            *chunk = schedule(running, &mut budget, &mut plan);
        }
        if !has_preempted {
            self.let_in(&mut budget, &mut plan);
        }
        plan.repeats = self.repeats(&plan);
        plan
    }

    /// Milliseconds of the step that is the `repeat`th of its kind, from 0.
    #[must_use]
    pub fn step_ms(&self, plan: &Plan, repeat: u64) -> f64 {
        let costs = &self.profile.costs;
        let context = plan.context_tokens + plan.decodes * repeat;
        costs.step_ms
            + costs.prefill_token_ms * plan.prefill_tokens as f64
            + costs.attention_pair_ms * plan.attention_pairs
            + costs.decode_sequence_ms * plan.decodes as f64
            + costs.decode_context_token_ms * context as f64
    }

    /// Ends so many steps of the kind that was planned.
    pub fn finish(&mut self, steps: u64, served: &mut Vec<Served>) {
        let decodes = self.decoding.len() as u64 * steps;
        self.cache.take_private(decodes);
        self.decode_steps += steps;
        self.context_tokens += decodes;
        self.computed_tokens += decodes;
        while let Some(entry) = self.decoding.first_entry() {
            if entry.key().0 > self.decode_steps {
                break;
            }
            let running = entry.remove();
            self.end(running, served);
        }
        self.finish_prefill(served);
    }

    /// Throws back the newest sequences while the others have no room for a token each; true if there were any.
    fn make_room_for_decodes(&mut self) -> bool {
        let mut has_preempted = false;
        while self.cache.room_tokens() < self.decoding.len() as u64 {
            has_preempted = true;
            self.preempt_newest();
        }
        has_preempted
    }

    fn preempt_newest(&mut self) {
        self.preemptions += 1;
        let mut running = match self.prefilling.pop() {
            Some((running, _)) => running,
            None => {
                let newest = self.decoding.keys().max_by_key(|(_, order)| *order);
                let Some(running) = newest.copied().and_then(|key| self.decoding.remove(&key))
                else {
                    return;
                };
                self.stopped_decoding(running)
            }
        };
        self.release(&running);
        running.sequence.cached_tokens.get_or_insert(0);
        // What was received is gone, and is not sent twice.
        running.sequence.received_tokens = 0;
        self.waiting.push_front(running.sequence);
    }

    /// Brings a sequence up to date that decoded until now.
    fn stopped_decoding(&mut self, mut running: Running) -> Running {
        let decoded = self.decode_steps - running.decodes_since;
        self.context_tokens -= running.sequence.known_tokens() - 1 + decoded;
        running.sequence.generated_tokens += decoded;
        running.computed_tokens += decoded;
        running.private_tokens += decoded;
        running
    }

    fn release(&mut self, running: &Running) {
        let computed_blocks = (running.computed_tokens / BLOCK_TOKENS) as usize;
        let is_whole = running.computed_tokens >= running.sequence.prompt_tokens;
        let computed_blocks = if is_whole {
            running.slots.len()
        } else {
            computed_blocks
        };
        self.cache
            .release(&running.slots, computed_blocks, running.private_tokens);
    }

    fn let_in(&mut self, budget: &mut u64, plan: &mut Plan) {
        while *budget > 0 && self.running() < self.profile.max_sequences {
            let Some(mut running) = self.take_first() else {
                return;
            };
            let chunk = schedule(&mut running, budget, plan);
            self.prefilling.push((running, chunk));
        }
    }

    /// Takes the first that waits, if there is room for the whole of it beside a token for each that decodes.
    fn take_first(&mut self) -> Option<Running> {
        let first = self.waiting.front()?;
        let known = first.known_tokens();
        let (matched, idle) = self.cache.matched_and_idle(&first.blocks);
        let private_tokens = known - first.blocks.len() as u64 * BLOCK_TOKENS;
        let new_blocks = (first.blocks.len() - matched + idle) as u64;
        let growth = self.decoding.len() as u64;
        if new_blocks * BLOCK_TOKENS + private_tokens + growth > self.cache.room_tokens() {
            return None;
        }
        let mut sequence = self.waiting.pop_front()?;
        // Matched blocks first: they must not give way to new ones.
        let slots: Rc<[u32]> = sequence
            .blocks
            .iter()
            .map(|b| self.cache.take(*b))
            .collect();
        self.cache.take_private(private_tokens);
        let last_fine_block = (known - 1) / FINE_BLOCK_TOKENS * FINE_BLOCK_TOKENS;
        let computed_tokens = (matched as u64 * BLOCK_TOKENS).min(last_fine_block);
        // The first token is made here: the last token of the prompt is computed anew.
        let computed_tokens = computed_tokens.max(sequence.received_tokens.min(known - 1));
        sequence.cached_tokens.get_or_insert(computed_tokens);
        self.next_order += 1;
        Some(Running {
            sequence,
            slots,
            private_tokens,
            computed_tokens,
            order: self.next_order,
            decodes_since: 0,
        })
    }

    fn repeats(&self, plan: &Plan) -> u64 {
        if plan.prefill_tokens > 0 {
            return 1;
        }
        let Some((until, _)) = self.decoding.keys().next() else {
            return 0;
        };
        let room = self.cache.room_tokens() / plan.decodes.max(1);
        (until - self.decode_steps).min(room).max(1)
    }

    fn finish_prefill(&mut self, served: &mut Vec<Served>) {
        let mut unfinished = None;
        for (mut running, chunk) in std::mem::take(&mut self.prefilling) {
            running.computed_tokens += chunk;
            self.computed_tokens += chunk;
            if running.computed_tokens < running.sequence.known_tokens() {
                unfinished = Some((running, 0));
            } else {
                self.begin_decoding(running, served);
            }
        }
        self.prefilling.extend(unfinished);
    }

    /// The last position of a prefill gives a token.
    fn begin_decoding(&mut self, mut running: Running, served: &mut Vec<Served>) {
        let sequence = &mut running.sequence;
        if sequence.generated_tokens == 0 {
            let number = sequence.number;
            served.push(Served::FirstToken { number });
        }
        sequence.generated_tokens += 1;
        let left = sequence
            .output_tokens
            .saturating_sub(sequence.generated_tokens);
        // The newest token has no keys yet: the next step computes them.
        self.context_tokens += sequence.known_tokens() - 1;
        running.decodes_since = self.decode_steps;
        if left == 0 {
            self.end(running, served);
        } else {
            let key = (self.decode_steps + left, running.order);
            self.decoding.insert(key, running);
        }
    }

    fn end(&mut self, running: Running, served: &mut Vec<Served>) {
        let running = self.stopped_decoding(running);
        self.release(&running);
        served.push(Served::End {
            number: running.sequence.number,
            usage: running.sequence.usage(),
        });
    }
}

/// Gives a sequence its chunk of the budget.
fn schedule(running: &mut Running, budget: &mut u64, plan: &mut Plan) -> u64 {
    let left = running.sequence.known_tokens() - running.computed_tokens;
    let chunk = left.min(*budget);
    *budget -= chunk;
    let (tokens, before) = (chunk as f64, running.computed_tokens as f64);
    plan.prefill_tokens += chunk;
    plan.attention_pairs += tokens * before + tokens * tokens / 2.0;
    chunk
}

#[cfg(test)]
mod tests;
