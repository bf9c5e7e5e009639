//! The ranks that can serve one route, and what this worker knows of them.

use std::net::{IpAddr, SocketAddr};

use crate::{
    Admission, BodyEnd, Candidate, Charge, Config, Cost, Expected, HealthTable, LoadTable,
    Membership, MissWeight, Patience, PrefixIndex, Prompt, RankId, RankKey, RankLoad, Reason, Sent,
    Standing, TokenRate, TokenRates, Work, best_first, hash_bytes, in_use,
};

use crate::feedback::Caches;
use crate::homes::Homes;
use crate::peer_loads::PeerLoads;
use crate::seats::{Seat, Seats};
use crate::usual_request::UsualRequest;

mod at_hand;
mod healthy;
mod heard;
mod others;
mod reported;
mod told;

use reported::Reported;

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
    /// Tokens of it that the rank is believed to hold.
    pub matched_tokens: u64,
    /// What the request counts on the rank until it is handed back to the pool.
    pub charge: Charge,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// The first block that the rank did not hold: what it loses if the prompt never gets there.
    pub new_block: Option<u64>,
    /// What the answer is expected to say of the cache, where the prompt was read.
    pub expected: Option<Expected>,
}

/// Where a request went after its pick.
#[derive(Debug)]
pub struct Moved {
    /// What the request counts on the rank that serves it.
    pub charge: Charge,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// The first block that this rank did not hold.
    pub new_block: Option<u64>,
    /// What the answer is expected to say of the cache, where the prompt was read.
    pub expected: Option<Expected>,
}

/// A rank that a request may be sent to, with what a pick looks at.
#[derive(Clone, Copy, Debug)]
struct Destination {
    rank: RankId,
    pod: IpAddr,
    address_hash: u64,
    standing: Standing,
    load: RankLoad,
    /// Requests that others have on it, if that is known.
    foreign: Option<u32>,
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
    rates: TokenRates,
    caches: Caches,
    /// Of the prompt at hand: how much of it each rank holds, and the tokens in its bytes.
    depths: Vec<u32>,
    home: Option<RankId>,
    rate: TokenRate,
}

impl Pool {
    /// A pool that knows nothing yet but the ranks of its configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut pool = Self {
            index: PrefixIndex::new(config.max_index_blocks()),
            key: hash_bytes(config.pool().as_bytes()),
            config,
            seats: Seats::default(),
            loads: LoadTable::default(),
            peer_loads: PeerLoads::default(),
            health: HealthTable::default(),
            patience: Patience::default(),
            reported: Reported::default(),
            miss_weight: MissWeight::default(),
            homes: Homes::default(),
            usual: UsualRequest::default(),
            rates: TokenRates::default(),
            caches: Caches::default(),
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
        let keeps_index = config.block_bytes() == self.config.block_bytes()
            && config.max_index_blocks() == self.config.max_index_blocks();
        if !keeps_index {
            self.index = PrefixIndex::new(config.max_index_blocks());
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
        self.set_capacities();
    }

    /// How many ranks are listed.
    #[must_use]
    pub fn listed(&self) -> usize {
        self.seats.all().filter(|(_, seat)| seat.is_listed).count()
    }

    /// Picks for a request and counts it; `None` when the pool has no rank.
    ///
    /// `prompt` is what was read, if anything; `seed` spreads requests that have none. Cost: one probe per block
    /// and some passes over the ranks.
    pub fn pick(&mut self, prompt: Option<&Prompt>, seed: u64, now_ms: u64) -> Option<Pick> {
        let prompt = prompt.filter(|prompt| prompt.body_end != BodyEnd::Unreadable);
        self.look_up(prompt);
        self.pick_at_hand(prompt, seed, now_ms)
    }

    fn pick_at_hand(&mut self, prompt: Option<&Prompt>, seed: u64, now_ms: u64) -> Option<Pick> {
        let destinations = self.destinations(now_ms);
        let anchor = self.look_around(prompt, &destinations, now_ms);
        let candidates = self.candidates(prompt, &destinations);
        let order = best_first(&candidates, anchor.unwrap_or(seed));
        let best = *order.first()?;
        let matched_tokens = self.matched_tokens(prompt, best);
        let prompt_tokens = self.prompt_tokens(prompt);
        let cost = self.cost(prompt, best, self.loads.total(best));
        let new_block = self.new_block(prompt, best);
        let (sent, ages) = self.remember(best, prompt);
        let expected = prompt.map(|prompt| self.expected(prompt, best, &ages));
        let queued_tokens = self.uncached_tokens(prompt, best);
        let charge = self.loads.charge(best, queued_tokens, prompt_tokens);
        self.reported.note_load(best, self.loads.total(best));
        Some(Pick {
            ranks: order
                .iter()
                .filter_map(|rank| self.address(*rank))
                .collect(),
            reason: reason(prompt.is_some(), matched_tokens),
            cost,
            prompt_tokens,
            matched_tokens,
            charge,
            sent,
            new_block,
            expected,
        })
    }

    /// A rank never got the prompt of which this block was new to it.
    pub fn lose(&mut self, rank: RankId, new_block: u64) {
        self.index.lose(rank, new_block);
    }

    /// Notes what a request that was picked for was found to hold once all of it was read; gives what is news.
    pub fn learn(&mut self, charge: &Charge, prompt: &Prompt) -> Sent {
        self.remember(charge.rank(), Some(prompt)).0
    }

    /// Notes the first byte of a response; gives the tokens that are no longer queued.
    pub fn first_byte(&mut self, charge: &mut Charge) -> u64 {
        self.loads.first_byte(charge)
    }

    /// Notes the end of a stream, whatever ended it; gives the tokens that are no longer queued.
    pub fn end(&mut self, charge: Charge) -> u64 {
        self.loads.end(charge)
    }

    /// Moves a request to the rank that serves it, where Envoy sent it on to a fallback; `None` when the pool does not
    /// know that rank, and then the request counts nowhere.
    ///
    /// What the rank does not hold of the prompt is queued on it: the tokens of the first pick no longer say how much.
    pub fn serve(
        &mut self,
        charge: Charge,
        address: SocketAddr,
        prompt: Option<&Prompt>,
    ) -> Option<Moved> {
        let still_queued = self.loads.end(charge) > 0;
        let rank = self.seats.rank_of(crate::seats::address_hash(address))?;
        self.look_up(prompt);
        let matched_tokens = self.matched_tokens(prompt, rank);
        let prompt_tokens = self.prompt_tokens(prompt);
        let uncached = prompt_tokens.saturating_sub(matched_tokens);
        let new_block = self.new_block(prompt, rank);
        let (sent, ages) = self.remember(rank, prompt);
        let expected = prompt.map(|prompt| self.expected(prompt, rank, &ages));
        let queued_tokens = if still_queued { uncached } else { 0 };
        Some(Moved {
            charge: self.loads.charge(rank, queued_tokens, prompt_tokens),
            sent,
            new_block,
            expected,
        })
    }

    /// The address of a rank.
    #[must_use]
    pub fn address(&self, rank: RankId) -> Option<SocketAddr> {
        self.seats.get(rank).map(|seat| seat.address)
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

    /// From now on the rank is believed to hold the prompt; gives the blocks that are news, and how old those were that the
    /// rank had been sent before.
    fn remember(&mut self, rank: RankId, prompt: Option<&Prompt>) -> (Sent, Vec<u32>) {
        let mut blocks = prompt.map_or(Vec::new(), |prompt| self.sent_blocks(prompt));
        let inserted = self.index.insert(rank, &blocks);
        let capacity = self.index.capacity_blocks();
        self.miss_weight
            .note_uses(inserted.old_blocks, inserted.blocks, capacity);
        blocks.drain(..inserted.young.min(blocks.len()));
        let sent = Sent {
            blocks,
            aged_blocks: inserted.aged_blocks,
        };
        (sent, inserted.ages)
    }

    /// The ranks that may be picked, priced. Loads that ranks report count only where all of them have reported:
    /// a rank of which less is known must not look idle. Cost: two passes over the ranks.
    fn candidates(&self, prompt: Option<&Prompt>, destinations: &[Destination]) -> Vec<Candidate> {
        let admission = Admission::of(destinations.iter().map(|d| (d.standing, d.load.in_flight)));
        let takes = |d: &&Destination| admission.takes(d.standing, d.load.in_flight);
        let admitted = || destinations.iter().filter(takes);
        let all_reported = admitted().all(|d| d.foreign.is_some());
        let price = |d: &Destination| {
            let load = match all_reported {
                true => self.with_others(d),
                false => d.load,
            };
            let cost = self.cost(prompt, d.rank, load);
            Candidate {
                rank: d.rank,
                pod: d.pod,
                address_hash: d.address_hash,
                cost_seconds: cost.total_seconds(),
            }
        };
        admitted().map(price).collect()
    }

    fn destinations(&self, now_ms: u64) -> Vec<Destination> {
        let destination = |(rank, seat): (RankId, &Seat)| Destination {
            rank,
            pod: seat.address.ip(),
            address_hash: seat.address_hash,
            standing: self.health.standing(rank, now_ms),
            load: self.loads.total(rank),
            foreign: self.reported.foreign(rank, now_ms),
        };
        self.seats.destinations().map(destination).collect()
    }

    fn cost(&self, prompt: Option<&Prompt>, rank: RankId, load: RankLoad) -> Cost {
        let weights = self.config.weights();
        let in_use = in_use(load.held_tokens, self.said_tokens(rank));
        let miss_weight = || self.miss_weight.on(in_use);
        weights.cost(&Work {
            queued_tokens: load.queued_tokens,
            uncached_tokens: self.uncached_tokens(prompt, rank),
            miss_weight: weights.miss_weight.unwrap_or_else(miss_weight),
            held_tokens: load.held_tokens,
            in_use,
            in_flight: load.in_flight,
        })
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

fn reason(has_prompt: bool, matched_tokens: u64) -> Reason {
    match (has_prompt, matched_tokens) {
        (false, _) => Reason::NoPrompt,
        (true, 0) => Reason::LowestCost,
        (true, _) => Reason::PrefixHit,
    }
}

#[cfg(test)]
mod tests;
