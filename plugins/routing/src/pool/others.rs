//! What other gateways do to the ranks: their load, and the prompts that they sent.

use super::{Pool, RankView};
use crate::{Prompt, RankId, RankLoad, Role, chain};

/// Less than this of a prompt is no use to learn from: its last block is computed in any case.
const LEAST_UNKNOWN_TOKENS: u64 = 1024;

impl Pool {
    /// Notes what is under way, and where other gateways would have sent the prompt at hand; gives the hash by which ranks
    /// that cost the same are ordered. Cost: two passes over the ranks.
    pub(super) fn look_around(
        &mut self,
        prompt: Option<&Prompt>,
        destinations: &[RankView],
        prefillers: &[RankView],
        now_ms: u64,
    ) -> Option<u64> {
        self.usual_decode
            .note(sum(destinations.iter().filter(|d| d.role == Role::Decode)));
        // Where prefill is apart, caches and queues of prompts are those of the ranks that do it.
        let destinations = match prefillers {
            [] => destinations,
            _ => prefillers,
        };
        self.usual.note(sum(destinations.iter()));
        let is_busy = |d: &&RankView| self.with_others(d).queued_tokens > 0;
        let busy = destinations.iter().filter(is_busy).count();
        self.miss_weight.note_busy(busy, destinations.len(), now_ms);
        let anchor = prompt.and_then(|prompt| self.homes.anchor(prompt, destinations.len()));
        self.home = anchor.and_then(|anchor| home(anchor, destinations));
        anchor.or(prompt.filter(|p| p.tells_prompts_apart()).map(|p| p.anchor))
    }

    /// What a rank has of this gateway, and of others as far as that is known: their requests, each taken to be as one of
    /// ours.
    pub(super) fn with_others(&self, destination: &RankView) -> RankLoad {
        let others = destination.foreign.unwrap_or(0);
        let usual = match destination.role {
            Role::Decode => &self.usual_decode,
            Role::Prefill | Role::Both => &self.usual,
        };
        destination.load.plus(usual.times(others))
    }

    /// Tokens of the prompt at hand that a rank must be expected to compute.
    pub(super) fn uncached_tokens(&self, prompt: Option<&Prompt>, rank: RankId) -> u64 {
        let matched = self.matched_tokens(prompt, rank);
        let unknown = self.prompt_tokens(prompt, rank).saturating_sub(matched);
        let computes_all = prompt.is_some_and(|prompt| prompt.bypasses_cache);
        if self.home == Some(rank) && !computes_all {
            self.homes.uncached(unknown)
        } else {
            unknown
        }
    }

    /// Answers of homes tell how much of what this gateway does not know is there.
    pub(super) fn note_found(&mut self, matched_tokens: u64, cached_tokens: u64, tokens: u64) {
        let unknown = tokens.saturating_sub(matched_tokens);
        if unknown >= LEAST_UNKNOWN_TOKENS {
            let found = cached_tokens.saturating_sub(matched_tokens);
            self.homes.note_found(found, unknown);
        }
    }

    /// New reports came: how much of all that is under way is others'. Where a rank says nothing, nothing is known.
    pub(super) fn note_others(&mut self, now_ms: u64) {
        let foreign = |rank| self.reported.foreign(rank, now_ms);
        let ranks = self.prefilling();
        let mut all = ranks.iter();
        let others = all.try_fold(0u32, |sum, rank| Some(sum.saturating_add(foreign(*rank)?)));
        let own = ranks.iter().fold(0u32, |sum, rank| {
            sum.saturating_add(self.loads.total(*rank).complete())
        });
        if let Some(others) = others {
            self.homes.note_others(own, others);
        }
    }

    /// The ranks whose caches and queues of prompts count: those that prefill for others, or where there are none, all.
    fn prefilling(&self) -> Vec<RankId> {
        let apart: Vec<RankId> = self.seats.prefillers().map(|(rank, _)| rank).collect();
        if apart.is_empty() {
            let all = self.seats.destinations();
            return all.map(|(rank, _)| rank).collect();
        }
        apart
    }
}

fn sum<'a>(ranks: impl Iterator<Item = &'a RankView>) -> RankLoad {
    ranks.fold(RankLoad::default(), |sum, rank| sum.plus(rank.load))
}

/// The first of the ranks in the order of an anchor; the same in every gateway that has these ranks.
fn home(anchor: u64, destinations: &[RankView]) -> Option<RankId> {
    let first = destinations
        .iter()
        .max_by_key(|d| (chain(anchor, d.address_hash), d.rank));
    first.map(|d| d.rank)
}
