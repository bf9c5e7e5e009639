//! What a request would cost on each rank that it may be sent to.

use std::net::IpAddr;

use super::{Arrival, Offer, Pool};
use crate::seats::Seat;
use crate::{Admission, Candidate, Cost, Prompt, RankId, RankLoad, Role, Standing, Work, in_use};

/// A rank with what a pick looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct RankView {
    pub(super) rank: RankId,
    pub(super) pod: IpAddr,
    pub(super) address_hash: u64,
    pub(super) role: Role,
    pub(super) revision_hash: u64,
    pub(super) standing: Standing,
    pub(super) load: RankLoad,
    /// Requests that others have on it, if that is known.
    pub(super) foreign: Option<u32>,
}

/// A rank that a request may be sent to, with its price, and the offer that is a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Priced {
    pub(super) candidate: Candidate,
    pub(super) cost: Cost,
    pub(super) role: Role,
    /// The place of the offer to prefill that is taken up.
    pub(super) offer: Option<usize>,
}

impl Pool {
    pub(super) fn destinations(&self, arrival: Arrival, now_ms: u64) -> Vec<RankView> {
        let destinations = self.seats.destinations();
        let view = |seat| self.view(seat, arrival, now_ms);
        destinations.map(view).collect()
    }

    /// The ranks that may prefill for others; none in a pool whose ranks all prefill for themselves.
    pub(super) fn prefillers(&self, arrival: Arrival, now_ms: u64) -> Vec<RankView> {
        let prefillers = self.seats.prefillers();
        let view = |seat| self.view(seat, arrival, now_ms);
        prefillers.map(view).collect()
    }

    /// A rank as a pick sees it. A request whose body has not ended would probe nothing, so a half-open rank is closed to it.
    fn view(&self, (rank, seat): (RankId, &Seat), arrival: Arrival, now_ms: u64) -> RankView {
        let standing = match (self.health.standing(rank, now_ms), arrival) {
            (Standing::Probe { .. }, Arrival::Incomplete) => Standing::Out,
            (standing, _) => standing,
        };
        RankView {
            rank,
            pod: seat.address.ip(),
            address_hash: seat.address_hash,
            role: seat.role,
            revision_hash: seat.revision_hash,
            standing,
            load: self.loads.total(rank),
            foreign: self.reported.foreign(rank, now_ms),
        }
    }

    /// The ranks that may be picked, priced. Cost: two passes over the ranks.
    pub(super) fn priced(
        &self,
        prompt: Option<&Prompt>,
        destinations: &[RankView],
        offers: &[Offer],
    ) -> Vec<Priced> {
        let admission = Admission::of(destinations.iter().map(|d| (d.standing, d.load.complete())));
        let takes = |d: &&RankView| admission.takes(d.standing, d.load.complete());
        let admitted: Vec<&RankView> = destinations.iter().filter(takes).collect();
        let all_reported = admitted.iter().all(|d| d.foreign.is_some());
        let price = |d: &&RankView| {
            let work = self.work(prompt, d.rank, self.load_of(d, all_reported));
            let (cost, offer) = self.cost(d, &work, prompt, offers);
            d.priced(cost, offer)
        };
        admitted.iter().map(price).collect()
    }

    /// Loads that ranks report count only where all of them have reported: a rank of which less is known must not look idle.
    pub(super) fn load_of(&self, rank: &RankView, all_reported: bool) -> RankLoad {
        match all_reported {
            true => self.with_others(rank),
            false => rank.load,
        }
    }

    /// Whether what a rank is believed to hold of the prompt at hand is there. If it were not, a decode rank would prefill all.
    fn surely_holds(&self, rank: RankId, prompt: Option<&Prompt>) -> bool {
        let last = self.depth(rank).checked_sub(1);
        let block = last.and_then(|last| prompt?.blocks.get(last));
        block.is_none_or(|block| self.index.holds_surely(rank, block.chain_hash))
    }

    /// What a rank has and would get.
    pub(super) fn work(&self, prompt: Option<&Prompt>, rank: RankId, load: RankLoad) -> Work {
        let in_use = in_use(load.held_tokens, self.said_tokens(rank));
        let miss_weight = || self.miss_weight.on(in_use);
        Work {
            queued_tokens: load.queued_tokens,
            uncached_tokens: self.uncached_tokens(prompt, rank),
            miss_weight: self
                .config
                .weights()
                .miss_weight
                .unwrap_or_else(miss_weight),
            held_tokens: load.held_tokens,
            in_use,
            // A request whose body has not ended takes nothing of its rank, and would steer others for as long as it stalls.
            in_flight: load.complete(),
        }
    }

    /// The cheapest way to answer on a rank, and the offer that it takes, if any.
    fn cost(
        &self,
        rank: &RankView,
        work: &Work,
        prompt: Option<&Prompt>,
        offers: &[Offer],
    ) -> (Cost, Option<usize>) {
        let weights = self.config.weights();
        if rank.role != Role::Decode || prompt.is_none() {
            return (weights.cost(work), None);
        }
        let local = weights.local_cost(work);
        let offer = super::legs::offer_for(offers, rank.revision_hash);
        let Some((place, offer)) = offer else {
            return (local, None);
        };
        let remote = weights.remote_cost(work).plus(&offer.cost);
        let is_little = work.uncached_tokens <= self.config.local_prefill_tokens()
            && self.surely_holds(rank.rank, prompt);
        if is_little && local.total_seconds() <= remote.total_seconds() {
            (local, None)
        } else {
            (remote, Some(place))
        }
    }
}

impl RankView {
    fn priced(&self, cost: Cost, offer: Option<usize>) -> Priced {
        Priced {
            candidate: self.candidate(&cost),
            cost,
            role: self.role,
            offer,
        }
    }

    pub(super) fn candidate(&self, cost: &Cost) -> Candidate {
        Candidate {
            rank: self.rank,
            pod: self.pod,
            address_hash: self.address_hash,
            cost_seconds: cost.total_seconds(),
        }
    }
}
