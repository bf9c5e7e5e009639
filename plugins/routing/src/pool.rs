//! The ranks that can serve one route, and what this worker knows of them.

use std::net::SocketAddr;

use crate::{
    BodyEnd, Candidate, Charge, Config, Cost, Expected, HealthTable, LoadTable, Membership,
    MissWeight, Patience, PrefixIndex, Prompt, RankId, RankKey, RankLoad, Reason, Sent, TokenRate,
    TokenRates, best_first, hash_bytes,
};

use crate::feedback::{Caches, Kinds};
use crate::homes::Homes;
use crate::peer_loads::PeerLoads;
use crate::seats::Seats;
use crate::usual_request::UsualRequest;

mod at_hand;
mod healthy;
mod heard;
mod legs;
mod others;
mod pricing;
mod reported;
mod served;
mod taken;
mod told;

use legs::Offer;
pub use legs::{Leg, LegPlan};
use pricing::{Priced, RankView};
use reported::Reported;
pub use served::{Insertion, Learnt, Moved};
use taken::Taken;

/// The decision for one request.
#[derive(Debug)]
pub struct Pick {
    /// The picked rank and up to two fallbacks, best first.
    pub ranks: Vec<SocketAddr>,
    /// Why the first was picked.
    pub reason: Reason,
    /// The parts of its cost.
    pub cost: Cost,
    /// The prompt's length, estimated; 0 without a prompt.
    pub prompt_tokens: u64,
    /// Tokens of it that the rank that prefills is believed to hold.
    pub matched_tokens: u64,
    /// What the request counts on the rank until it is handed back to the pool.
    pub charge: Charge,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// What the prompt changed in the index: to be taken back if the rank does not take the prompt in.
    pub insertion: Insertion,
    /// What the answer is expected to say of the cache, where the prompt was read.
    pub expected: Option<Expected>,
    /// Whether another rank prefills, and if not, why.
    pub plan: LegPlan,
}

/// Whether all of a request is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// The body has ended.
    Complete,
    /// More of the body may come, or never does.
    Incomplete,
}

/// What it came to that a rank was sent a prompt.
#[derive(Debug, Default)]
struct Added {
    /// Blocks that are news for the other workers.
    sent: Sent,
    insertion: Insertion,
    /// Blocks of it that were in the older half of a full cache, and all of its blocks.
    old_blocks: u64,
    blocks: u64,
    /// How old those of its blocks were that the rank had been sent before.
    ages: Vec<u32>,
}

/// One pool: its ranks, their prefixes, their load, their health. Everything is bounded by the configuration.
#[derive(Debug)]
pub struct Pool {
    config: Config,
    key: u64,
    seats: Seats,
    index: PrefixIndex,
    loads: LoadTable,
    peer_loads: PeerLoads,
    health: HealthTable,
    patience: Patience,
    reported: Reported,
    miss_weight: MissWeight,
    homes: Homes,
    usual: UsualRequest,
    usual_decode: UsualRequest,
    rates: TokenRates,
    caches: Caches,
    taken: Taken,
    kinds: Kinds,
    /// What no client knows: it decides where hashes go in tables.
    secret: u64,
    /// Of the prompt at hand: how much of it each rank holds, and the tokens in its bytes.
    depths: Vec<u32>,
    home: Option<RankId>,
    rate: TokenRate,
}

impl Pool {
    /// A pool that knows nothing yet but the ranks of its configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::keyed(config, 0)
    }

    /// The same, with tables in which nobody can pile up entries who does not know `secret`.
    #[must_use]
    pub fn keyed(config: Config, secret: u64) -> Self {
        let mut pool = Self {
            index: PrefixIndex::keyed(config.max_index_blocks(), secret),
            key: hash_bytes(config.pool().as_bytes()),
            config,
            seats: Seats::default(),
            loads: LoadTable::default(),
            peer_loads: PeerLoads::default(),
            health: HealthTable::default(),
            patience: Patience::default(),
            reported: Reported::default(),
            miss_weight: MissWeight::default(),
            homes: Homes::keyed(secret),
            usual: UsualRequest::default(),
            usual_decode: UsualRequest::default(),
            rates: TokenRates::default(),
            caches: Caches::default(),
            taken: Taken::default(),
            kinds: Kinds::default(),
            secret,
            depths: Vec::new(),
            home: None,
            rate: TokenRate::default(),
        };
        pool.list(&Membership::from_static(pool.config.ranks()));
        pool
    }

    /// Takes a new configuration; ranks that stay keep their prefixes and their load.
    ///
    /// Other block sizes make other hashes, so then the index starts anew.
    pub fn reconfigure(&mut self, config: Config) {
        let keeps_index = config.block_cut() == self.config.block_cut()
            && config.max_index_blocks() == self.config.max_index_blocks();
        if !keeps_index {
            self.index = PrefixIndex::keyed(config.max_index_blocks(), self.secret);
        }
        // A list beside clusters counts while nothing was found; what was found is put up again soon.
        let keeps_ranks = config.is_discovered()
            && self.config.is_discovered()
            && config.ranks() == self.config.ranks();
        self.config = config;
        if keeps_ranks {
            self.set_capacities();
        } else {
            self.list(&Membership::from_static(self.config.ranks()));
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What all workers call this pool by.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The pool has these ranks from now on. Ranks that stay keep what is known of them, and so do those that left while
    /// requests are on them.
    pub fn list(&mut self, membership: &Membership) {
        let loads = &self.loads;
        let is_idle = |rank| loads.total(rank) == RankLoad::default();
        let comers = self.seats.list(membership, is_idle);
        self.loads.grow(self.seats.len());
        for rank in comers {
            self.seat(rank);
        }
        for (rank, seat) in self.seats.all() {
            let only_prefills = !seat.role.can_serve();
            self.health.set_part(rank, seat.is_listed, only_prefills);
        }
        self.set_capacities();
    }

    /// How many ranks are listed.
    #[must_use]
    pub fn listed(&self) -> usize {
        self.seats.all().filter(|(_, seat)| seat.is_listed).count()
    }

    /// Picks for a request and counts it; `None` when the pool has no rank that may be a destination.
    ///
    /// Where ranks are listed that only decode, a second rank is picked in the same decision, which prefills for the first.
    ///
    /// `prompt` is what was read, if anything; `seed` spreads requests that have none. Cost: one probe per block
    /// and some passes over the ranks.
    pub fn pick(&mut self, prompt: Option<&Prompt>, seed: u64, now_ms: u64) -> Option<Pick> {
        self.pick_arrived(prompt, Arrival::Complete, seed, now_ms)
    }

    /// As [`pick`](Self::pick), for a request whose body has not ended. Its rank has nothing to do until
    /// [`complete`](Self::complete): until then the request weighs nothing, and it probes no rank.
    pub fn pick_before_end(
        &mut self,
        prompt: Option<&Prompt>,
        seed: u64,
        now_ms: u64,
    ) -> Option<Pick> {
        let mut pick = self.pick_arrived(prompt, Arrival::Incomplete, seed, now_ms)?;
        self.loads.suspend(&mut pick.charge);
        if let LegPlan::Leg(leg) = &mut pick.plan {
            self.loads.suspend(&mut leg.charge);
        }
        Some(pick)
    }

    fn pick_arrived(
        &mut self,
        prompt: Option<&Prompt>,
        arrival: Arrival,
        seed: u64,
        now_ms: u64,
    ) -> Option<Pick> {
        let prompt = prompt.filter(|prompt| prompt.body_end != BodyEnd::Unreadable);
        self.look_up(prompt);
        self.pick_at_hand(prompt, arrival, seed, now_ms)
    }

    fn pick_at_hand(
        &mut self,
        prompt: Option<&Prompt>,
        arrival: Arrival,
        seed: u64,
        now_ms: u64,
    ) -> Option<Pick> {
        let destinations = self.destinations(arrival, now_ms);
        let prefillers = self.prefillers(arrival, now_ms);
        let anchor = self.look_around(prompt, &destinations, &prefillers, now_ms);
        let offers = self.offers(prompt, &prefillers, anchor.unwrap_or(seed));
        let priced = self.priced(prompt, &destinations, &offers);
        let candidates: Vec<Candidate> = priced.iter().map(|p| p.candidate).collect();
        let order = best_first(&candidates, anchor.unwrap_or(seed));
        let best = *order.first()?;
        let chosen = priced.into_iter().find(|p| p.candidate.rank == best)?;
        let addresses = order.iter().filter_map(|rank| self.address(*rank));
        let addresses = addresses.collect();
        Some(self.count(prompt, addresses, chosen, &offers))
    }

    /// Counts a request on the chosen rank, and on the one that prefills for it.
    fn count(
        &mut self,
        prompt: Option<&Prompt>,
        ranks: Vec<SocketAddr>,
        chosen: Priced,
        offers: &[Offer],
    ) -> Pick {
        let best = chosen.candidate.rank;
        let own_matched = self.matched_tokens(prompt, best);
        let prompt_tokens = self.prompt_tokens(prompt, best);
        let uncached = self.uncached_tokens(prompt, best);
        let (plan, leg_expected) = self.plan(prompt, &chosen, offers);
        let matched_tokens = plan.leg().map_or(own_matched, |leg| leg.matched_tokens);
        let (added, expected) = match leg_expected {
            Some(expected) => (self.insert(best, prompt), Some(expected)),
            None => {
                let added = self.remember(best, prompt);
                let expected = prompt.map(|prompt| self.expected(prompt, best, &added.ages));
                (added, expected)
            }
        };
        let queued_tokens = if plan.leg().is_some() { 0 } else { uncached };
        let charge = self.loads.charge(best, queued_tokens, prompt_tokens);
        self.reported.note_load(best, self.loads.total(best));
        Pick {
            ranks,
            reason: Reason::of(prompt.is_some(), matched_tokens),
            cost: chosen.cost,
            prompt_tokens,
            matched_tokens,
            charge,
            sent: added.sent,
            insertion: added.insertion,
            expected,
            plan,
        }
    }

    /// The address of a rank.
    #[must_use]
    pub fn address(&self, rank: RankId) -> Option<SocketAddr> {
        self.seats.get(rank).map(|seat| seat.address)
    }

    /// The rank at an address, listed or not.
    #[must_use]
    pub fn rank_at(&self, address: SocketAddr) -> Option<RankId> {
        self.seats.rank_of(crate::seats::address_hash(address))
    }

    /// What this worker has on the rank of a charge, and what all workers call that rank by.
    #[must_use]
    pub fn own_load(&self, rank: RankId) -> Option<(RankKey, RankLoad)> {
        Some((self.rank_key(rank)?, self.loads.own(rank)))
    }

    /// What all workers call a rank by.
    #[must_use]
    pub fn rank_key(&self, rank: RankId) -> Option<RankKey> {
        let seat = self.seats.get(rank)?;
        Some(RankKey {
            pool: self.key,
            rank: seat.address_hash,
        })
    }

    /// Queued tokens and requests in flight of a rank over all workers, by its address.
    #[must_use]
    pub fn load(&self, address: SocketAddr) -> Option<(u64, u32)> {
        let rank = self.seats.rank_of(crate::seats::address_hash(address))?;
        let load = self.loads.total(rank);
        Some((load.queued_tokens, load.in_flight))
    }

    /// From now on the rank is believed to hold the prompt, which it prefills.
    fn remember(&mut self, rank: RankId, prompt: Option<&Prompt>) -> Added {
        let added = self.insert(rank, prompt);
        let capacity = self.index.capacity_blocks();
        self.miss_weight
            .note_uses(added.old_blocks, added.blocks, capacity);
        added
    }

    fn insert(&mut self, rank: RankId, prompt: Option<&Prompt>) -> Added {
        let mut blocks = prompt.map_or(Vec::new(), |prompt| self.sent_blocks(prompt));
        let life = self.index.life(rank);
        let inserted = self.index.insert(rank, &blocks);
        blocks.drain(..inserted.young.min(blocks.len()));
        Added {
            insertion: Insertion::of(&inserted, life),
            sent: Sent {
                blocks,
                aged_blocks: inserted.aged_blocks,
            },
            old_blocks: inserted.old_blocks,
            blocks: inserted.blocks,
            ages: inserted.ages,
        }
    }

    /// A rank takes its seat: what was known of the one before it is forgotten, and what others have on it counts.
    fn seat(&mut self, rank: RankId) {
        let Some(seat) = self.seats.get(rank) else {
            return;
        };
        self.index.forget(rank);
        self.health.seat(rank, seat.address_hash, seat.address.ip());
        self.patience.seat(rank);
        self.reported.seat(rank);
        self.caches.seat(rank);
        self.loads
            .set_others(rank, self.peer_loads.of(seat.address_hash));
    }

    fn set_capacities(&mut self) {
        let places = u16::try_from(self.seats.len()).unwrap_or(u16::MAX);
        for rank in (0..places).map(RankId) {
            self.set_capacity(rank);
        }
    }

    /// A rank has room for what it reports or the configuration says, as far as its answers bear that out.
    fn set_capacity(&mut self, rank: RankId) {
        let is_reported = self.reported.capacity_tokens(rank).is_some();
        let tokens = self.said_tokens(rank);
        let tokens = self.caches.scaled(rank, tokens, is_reported);
        let blocks = self.config.blocks_of(tokens, self.rates.all());
        self.index.set_capacity(rank, blocks);
    }

    /// The room that a rank reports or is configured to have.
    fn said_tokens(&self, rank: RankId) -> u64 {
        let reported = self.reported.capacity_tokens(rank);
        reported.unwrap_or(self.config.rank_capacity_tokens())
    }
}

#[cfg(test)]
mod tests;
