//! What answers tell of the ranks' caches, and of the tokens in a byte.

use super::Pool;
use crate::feedback::{Ages, Delivery};
use crate::{BodyEnd, Change, Expected, Prompt, RankId, RankKey, Sent, Told, Usage};

/// A difference of so many blocks says nothing: texts are denser in one place than in another.
const TOLERATED_BLOCKS: u64 = 2;

/// Nor does a tenth of what was expected.
const TOLERATED_SHARE: u64 = 10;

impl Pool {
    /// What the cache of the rank that prefills the prompt at hand is expected to deliver of it; `ages` are those of its
    /// leading blocks there. To be called before the prompt is counted there.
    pub(super) fn expected(&self, prompt: &Prompt, rank: RankId, ages: &[u32]) -> Expected {
        let matched_bytes = self.matched_bytes(prompt, rank);
        let queued_tokens = self.loads.total(rank).queued_tokens;
        let ends = prompt.blocks.iter().map(|block| u64::from(block.end_bytes));
        Expected {
            rank,
            is_home: self.home == Some(rank),
            is_leg: false,
            matched_tokens: self.rate.whole_tokens(matched_bytes),
            matched_bytes,
            life: self.index.life(rank),
            ages: Ages::of(ends.zip(ages.iter().copied())),
            queued_blocks: self.config.blocks_of(queued_tokens, self.rate),
            sent_blocks: self.index.sent_blocks(rank),
            whole_blocks: self
                .config
                .blocks_of(self.said_tokens(rank), self.rates.all()),
        }
    }

    /// Learns from what an answer says at its end of a request that was picked at `picked_ms`. Cost: constant, and one probe
    /// per block where the rank had to be forgotten.
    pub fn told(
        &mut self,
        expected: &Expected,
        prompt: &Prompt,
        usage: &Usage,
        picked_ms: u64,
        now_ms: u64,
    ) -> Told {
        let usage = &expected.comparable(usage);
        let mut told = Told {
            predicted_tokens: expected.matched_tokens,
            delivered_tokens: usage.cached_tokens,
            error_percent: error_percent(expected, usage),
            change: Change::None,
            new_kind: None,
            sent: Sent::default(),
        };
        if prompt.body_end != BodyEnd::Whole {
            return told;
        }
        self.rates
            .learn(prompt.model, prompt.prompt_bytes, usage.prompt_tokens);
        let speaks_for_home = expected.is_home && !prompt.bypasses_cache;
        if let Some(cached) = usage.cached_tokens.filter(|_| speaks_for_home) {
            self.note_found(expected.matched_tokens, cached, usage.prompt_tokens);
        }
        let was_known = self.kinds.knows(prompt.kind);
        told.change = self.judge(expected, prompt, usage);
        let is_new = !was_known && self.kinds.knows(prompt.kind);
        told.new_kind = is_new.then_some(prompt.kind);
        if told.change == Change::Forgotten {
            self.forget(expected.rank, picked_ms, now_ms);
        }
        if expected.life != self.index.life(expected.rank) {
            // Whatever it had lost, it has this prompt now.
            told.sent = self.remember(expected.rank, Some(prompt)).sent;
        }
        self.set_capacity(expected.rank);
        told
    }

    fn judge(&mut self, expected: &Expected, prompt: &Prompt, usage: &Usage) -> Change {
        if prompt.bypasses_cache {
            return Change::None;
        }
        let Some(delivery) = self.delivery(expected, prompt, usage) else {
            return Change::None;
        };
        let unit_bytes = self.unit_bytes();
        let is_reported = self.reported.capacity_tokens(expected.rank).is_some();
        if expected.life != self.index.life(expected.rank) {
            return Change::None;
        }
        let evidence = expected.evidence(delivery, unit_bytes);
        let by = (expected.rank, expected.life);
        let believed = self.kinds.judge(prompt.kind, by, evidence);
        let belief = self.caches.get_mut(expected.rank);
        belief.map_or(Change::None, |belief| belief.learn(believed, is_reported))
    }

    /// What was delivered beside what was expected, in bytes by this prompt's own tokens a byte.
    fn delivery(
        &mut self,
        expected: &Expected,
        prompt: &Prompt,
        usage: &Usage,
    ) -> Option<Delivery> {
        let cached_tokens = usage.cached_tokens?;
        let bytes = |tokens: u64| {
            tokens
                .saturating_mul(prompt.prompt_bytes)
                .checked_div(usage.prompt_tokens)
        };
        let step = bytes(self.caches.step_tokens(expected.rank, cached_tokens))?;
        let matched = expected.matched_bytes;
        let blocks = self.unit_bytes().saturating_mul(TOLERATED_BLOCKS);
        let tolerance = blocks.max(matched / TOLERATED_SHARE);
        let over = matched.saturating_add(tolerance).checked_rem(step);
        let steps = matched
            .saturating_add(tolerance)
            .saturating_sub(over.unwrap_or(0));
        Some(Delivery {
            expected: steps.min(matched),
            delivered: bytes(cached_tokens)?,
            tolerance,
        })
    }

    fn unit_bytes(&self) -> u64 {
        u64::try_from(self.config.block_bytes()).unwrap_or(u64::MAX)
    }

    /// What a rank was sent before `at_ms` is lost.
    fn forget(&mut self, rank: RankId, at_ms: u64, now_ms: u64) {
        self.index.forget(rank);
        self.reported.note_cold(rank, at_ms);
        if let Some(belief) = self.caches.get_mut(rank) {
            belief.forgotten(now_ms);
        }
    }

    /// Another worker met a miss that makes it doubt a rank.
    pub fn heard_doubt(&mut self, rank: u64, now_ms: u64) {
        let Some(rank) = self.seats.rank_of(rank) else {
            return;
        };
        let belief = self.caches.get_mut(rank);
        if belief.is_some_and(|belief| belief.doubted()) {
            self.forget(rank, now_ms, now_ms);
        }
    }

    /// Another worker found that a kind of request is answered from caches, as from that of this rank.
    pub fn heard_delivery(&mut self, rank: u64, kind: u64) {
        if let Some(rank) = self.seats.rank_of(rank) {
            self.kinds.hear(kind, (rank, self.index.life(rank)));
        }
    }

    /// Another worker found, by a request picked at `at_ms`, that a rank has lost everything.
    pub fn heard_forgotten(&mut self, rank: u64, at_ms: u64, now_ms: u64) {
        let Some(rank) = self.seats.rank_of(rank) else {
            return;
        };
        let belief = self.caches.get_mut(rank);
        // Two workers that find out about the same loss must not forget what came after it.
        if belief.is_some_and(|belief| belief.is_news(at_ms, now_ms)) {
            self.forget(rank, at_ms, now_ms);
        }
    }

    /// Another worker found how much room a rank has.
    pub fn heard_capacity(&mut self, rank: u64, share: u32) {
        let Some(rank) = self.seats.rank_of(rank) else {
            return;
        };
        let is_reported = self.reported.capacity_tokens(rank).is_some();
        if let Some(belief) = self.caches.get_mut(rank) {
            belief.set_share(share, is_reported);
        }
        self.set_capacity(rank);
    }

    /// The kinds of requests that are answered from caches, each with a rank that did so, for workers that were not there. Cost:
    /// one pass over at most 128 kinds.
    #[must_use]
    pub fn delivering_kinds(&self) -> Vec<(RankKey, u64)> {
        let kinds = self.kinds.believable();
        kinds
            .filter_map(|(kind, rank)| Some((self.rank_key(rank)?, kind)))
            .collect()
    }

    /// The room found on ranks where it is not what they say, for workers that were not there. Cost: one pass over the
    /// ranks.
    #[must_use]
    pub fn shares(&self) -> Vec<(RankKey, u32)> {
        let share = |(rank, _)| Some((self.rank_key(rank)?, self.caches.share(rank)?));
        self.seats.all().filter_map(share).collect()
    }
}

fn error_percent(expected: &Expected, usage: &Usage) -> Option<u64> {
    let off = expected.matched_tokens.abs_diff(usage.cached_tokens?);
    let percent = off.saturating_mul(100).checked_div(usage.prompt_tokens)?;
    Some(percent.min(100))
}
