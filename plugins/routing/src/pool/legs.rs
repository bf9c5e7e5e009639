//! The prefill leg of a request: another rank computes the KV cache of its prompt for the decode rank.
//!
//! Both ranks are picked in one decision. The ranks that prefill are priced as in a pool where none is apart, by what they hold
//! and have queued; the best of them is an *offer* to every decode rank. A decode rank takes it unless prefilling by itself
//! is cheaper and little: because it holds most of the prompt (a turn of a conversation that it answered before, with the answer,
//! which no other rank holds), or because the prompt is short. More than a step of its is made for it prefills only where no
//! other rank can: every sequence that runs there, and in a wide expert-parallel group on all its ranks, would wait.
//!
//! Both ranks hold the prompt afterwards. vLLM puts the blocks that a decode rank receives into its own prefix cache
//! (`Scheduler._update_waiting_for_remote_kv` calls `kv_cache_manager.cache_blocks`), and asks the next time only for those
//! that are not there; the rank that prefilled frees them as any others, and keeps them until room is needed.

use std::net::SocketAddr;

use super::{Insertion, Pool, Priced, RankView};
use crate::{Admission, Candidate, Charge, Cost, Expected, Prompt, RankId, Role, Sent, best_first};

/// Ranks that a leg names: the best, and one for a second attempt. A third attempt does without.
const NAMED_PREFILLERS: usize = 2;

/// A prefill on another rank.
#[derive(Debug)]
pub struct Leg {
    /// The rank that prefills, and the one for a second attempt, best first.
    pub ranks: Vec<SocketAddr>,
    /// Tokens of the prompt that the first is believed to hold.
    pub matched_tokens: u64,
    /// What the prefill counts on it until the answer begins.
    pub charge: Charge,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// What the prompt changed in the index.
    pub insertion: Insertion,
}

/// Whether another rank prefills, and if not, why.
#[derive(Debug)]
pub enum LegPlan {
    /// The picked rank prefills for every request.
    Whole,
    /// Another rank prefills.
    Leg(Leg),
    /// The decode rank prefills: that is cheaper.
    Cheaper,
    /// The decode rank was given no prompt that could be read.
    NoPrompt,
    /// The decode rank prefills: no rank is there to do it.
    NoRank,
}

impl LegPlan {
    /// The leg, if there is one.
    #[must_use]
    pub fn leg(&self) -> Option<&Leg> {
        match self {
            Self::Leg(leg) => Some(leg),
            _ => None,
        }
    }
}

/// What prefilling the prompt at hand costs on the best of the ranks of one revision, or of all.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// `None` for the best of all.
    revision_hash: Option<u64>,
    /// Best first.
    ranks: Vec<RankId>,
    pub(super) cost: Cost,
}

/// The offer for a decode rank: of its own revision if there is one, because ranks of different revisions may not understand
/// each other's blocks; else the best of all.
pub(super) fn offer_for(offers: &[Offer], revision_hash: u64) -> Option<(usize, &Offer)> {
    let of = |revision: Option<u64>| {
        let mut places = offers.iter().enumerate();
        places.find(|(_, offer)| offer.revision_hash == revision)
    };
    of(Some(revision_hash)).or_else(|| of(None))
}

impl Pool {
    /// The best ranks to prefill the prompt at hand. Ranks that are out are never asked: a decode rank can do without them.
    /// Cost: a sort of the ranks and some passes over them.
    pub(super) fn offers(
        &self,
        prompt: Option<&Prompt>,
        prefillers: &[RankView],
        anchor: u64,
    ) -> Vec<Offer> {
        let admission = Admission::of(prefillers.iter().map(|p| (p.standing, p.load.complete())));
        let takes = |p: &&RankView| {
            admission != Admission::All && admission.takes(p.standing, p.load.complete())
        };
        let mut admitted: Vec<&RankView> = prefillers.iter().filter(takes).collect();
        if prompt.is_none() || admitted.is_empty() {
            return Vec::new();
        }
        admitted.sort_by_key(|p| p.revision_hash);
        let all_reported = admitted.iter().all(|p| p.foreign.is_some());
        let price = |p: &&RankView| {
            let work = self.work(prompt, p.rank, self.load_of(p, all_reported));
            let cost = self.config.weights().cost(&work);
            (p.revision_hash, p.candidate(&cost), cost)
        };
        let priced: Vec<(u64, Candidate, Cost)> = admitted.iter().map(price).collect();
        let revisions = priced.chunk_by(|one, other| one.0 == other.0);
        let of_revision = |group: &[(u64, Candidate, Cost)]| {
            let revision_hash = group.first().map(|(revision_hash, ..)| *revision_hash);
            best_offer(revision_hash, group, anchor)
        };
        let offers = revisions.filter_map(of_revision);
        offers.chain(best_offer(None, &priced, anchor)).collect()
    }

    /// Whether another rank prefills for the chosen one; then the prefill is counted there, and the answer tells of its cache.
    pub(super) fn plan(
        &mut self,
        prompt: Option<&Prompt>,
        chosen: &Priced,
        offers: &[Offer],
    ) -> (LegPlan, Option<Expected>) {
        let taken = chosen.offer.and_then(|place| offers.get(place));
        let plan = match (chosen.role, prompt, taken) {
            (Role::Decode, Some(prompt), Some(offer)) => return self.leg(prompt, offer),
            (Role::Decode, None, _) => LegPlan::NoPrompt,
            (Role::Decode, Some(_), None) if offers.is_empty() => LegPlan::NoRank,
            (Role::Decode, Some(_), None) => LegPlan::Cheaper,
            (Role::Both | Role::Prefill, ..) => LegPlan::Whole,
        };
        (plan, None)
    }

    fn leg(&mut self, prompt: &Prompt, offer: &Offer) -> (LegPlan, Option<Expected>) {
        let Some(rank) = offer.ranks.first().copied() else {
            return (LegPlan::NoRank, None);
        };
        let matched_tokens = self.matched_tokens(Some(prompt), rank);
        let queued_tokens = self.uncached_tokens(Some(prompt), rank);
        let added = self.remember(rank, Some(prompt));
        let expected = self.expected(prompt, rank, &added.ages).of_leg();
        let prompt_tokens = self.prompt_tokens(Some(prompt), rank);
        let charge = self.loads.charge(rank, queued_tokens, prompt_tokens);
        self.reported.note_load(rank, self.loads.total(rank));
        let named = offer.ranks.iter().take(NAMED_PREFILLERS);
        let leg = Leg {
            ranks: named.filter_map(|rank| self.address(*rank)).collect(),
            matched_tokens,
            charge,
            sent: added.sent,
            insertion: added.insertion,
        };
        (LegPlan::Leg(leg), Some(expected))
    }
}

fn best_offer(
    revision_hash: Option<u64>,
    priced: &[(u64, Candidate, Cost)],
    anchor: u64,
) -> Option<Offer> {
    let candidates: Vec<Candidate> = priced.iter().map(|(_, candidate, _)| *candidate).collect();
    let ranks = best_first(&candidates, anchor);
    let best = ranks.first()?;
    let (_, _, cost) = priced
        .iter()
        .find(|(_, candidate, _)| candidate.rank == *best)?;
    Some(Offer {
        revision_hash,
        cost: *cost,
        ranks,
    })
}
