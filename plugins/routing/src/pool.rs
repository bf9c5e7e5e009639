//! The ranks that can serve one route, and what this worker knows of them.

use std::net::SocketAddr;

use crate::{
    BodyEnd, Candidate, Charge, Config, Cost, LoadTable, PrefixIndex, Prompt, RankId, Reason,
    best_first, hash_bytes,
};

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
}

/// A rank's place; kept when the rank leaves, so that charges on it stay meaningful.
#[derive(Clone, Copy, Debug)]
struct Seat {
    address: SocketAddr,
    address_hash: u64,
    is_listed: bool,
}

/// One pool: its ranks, their prefixes and their load. Everything is bounded by the configuration.
#[derive(Debug)]
pub struct Pool {
    config: Config,
    seats: Vec<Seat>,
    index: PrefixIndex,
    loads: LoadTable,
    depths: Vec<u32>,
}

impl Pool {
    /// A pool that knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut pool = Self {
            index: PrefixIndex::new(config.max_index_blocks()),
            config,
            seats: Vec::new(),
            loads: LoadTable::default(),
            depths: Vec::new(),
        };
        pool.seat_ranks();
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
        self.config = config;
        self.seat_ranks();
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Picks for a request and counts it; `None` when the pool has no rank.
    ///
    /// `prompt` is what was read, if anything; `seed` spreads requests that have none. Cost: one probe per block
    /// and three passes over the ranks.
    pub fn pick(&mut self, prompt: Option<&Prompt>, seed: u64) -> Option<Pick> {
        let prompt = prompt.filter(|prompt| prompt.body_end != BodyEnd::Unreadable);
        let blocks = prompt.map_or(&[][..], |prompt| &prompt.blocks);
        self.index.match_depths(
            blocks.iter().map(|block| block.chain_hash),
            &mut self.depths,
        );
        let candidates = self.candidates(prompt);
        let order = best_first(&candidates, prompt.map_or(seed, |prompt| prompt.anchor));
        let best = *order.first()?;
        let matched_tokens = self.matched_tokens(prompt, best);
        let prompt_tokens = prompt.map_or(0, Prompt::tokens);
        let cost = self.cost(prompt, best);
        self.remember(best, prompt);
        Some(Pick {
            ranks: order
                .iter()
                .filter_map(|rank| self.address(*rank))
                .collect(),
            reason: reason(prompt.is_some(), matched_tokens),
            cost,
            prompt_tokens,
            matched_tokens,
            charge: self
                .loads
                .charge(best, prompt_tokens.saturating_sub(matched_tokens)),
        })
    }

    /// Notes what a request that was picked for was found to hold once all of it was read.
    pub fn learn(&mut self, charge: &Charge, prompt: &Prompt) {
        self.remember(charge.rank(), Some(prompt));
    }

    /// Notes the first byte of a response; gives the tokens that are no longer queued.
    pub fn first_byte(&mut self, charge: &mut Charge) -> u64 {
        self.loads.first_byte(charge)
    }

    /// Notes the end of a stream, whatever ended it; gives the tokens that are no longer queued.
    pub fn end(&mut self, charge: Charge) -> u64 {
        self.loads.end(charge)
    }

    /// Queued tokens and requests in flight of a rank, by its address.
    #[must_use]
    pub fn load(&self, address: SocketAddr) -> Option<(u64, u32)> {
        let rank = self.rank(address)?;
        Some((self.loads.queued_tokens(rank), self.loads.in_flight(rank)))
    }

    /// From now on the rank is believed to hold the prompt.
    fn remember(&mut self, rank: RankId, prompt: Option<&Prompt>) {
        let Some(prompt) = prompt else { return };
        let unit_bytes = u32::try_from(self.config.block_bytes()).unwrap_or(u32::MAX);
        let start = |position: usize| {
            let before = position
                .checked_sub(1)
                .and_then(|last| prompt.blocks.get(last));
            let bytes = before.map_or(0, |block| block.end_bytes);
            bytes.checked_div(unit_bytes).unwrap_or(bytes)
        };
        let hashes: Vec<u64> = prompt.blocks.iter().map(|block| block.chain_hash).collect();
        self.index.insert_sized(rank, &hashes, start);
    }

    fn candidates(&self, prompt: Option<&Prompt>) -> Vec<Candidate> {
        let seated = (0..=u16::MAX).map(RankId).zip(&self.seats);
        let listed = seated.filter(|(_, seat)| seat.is_listed);
        listed
            .map(|(rank, seat)| Candidate {
                rank,
                pod: seat.address.ip(),
                address_hash: seat.address_hash,
                cost_seconds: self.cost(prompt, rank).total_seconds(),
            })
            .collect()
    }

    fn cost(&self, prompt: Option<&Prompt>, rank: RankId) -> Cost {
        let tokens = prompt.map_or(0, Prompt::tokens);
        let uncached = tokens.saturating_sub(self.matched_tokens(prompt, rank));
        self.config.weights().cost(
            self.loads.queued_tokens(rank),
            uncached,
            self.loads.in_flight(rank),
        )
    }

    fn matched_tokens(&self, prompt: Option<&Prompt>, rank: RankId) -> u64 {
        let depth = self.depths.get(rank.index()).copied().unwrap_or(0);
        prompt.map_or(0, |prompt| {
            prompt.tokens_in(usize::try_from(depth).unwrap_or(0))
        })
    }

    fn address(&self, rank: RankId) -> Option<SocketAddr> {
        self.seats.get(rank.index()).map(|seat| seat.address)
    }

    fn rank(&self, address: SocketAddr) -> Option<RankId> {
        let place = self.seats.iter().position(|seat| seat.address == address)?;
        u16::try_from(place).ok().map(RankId)
    }

    /// Gives every rank of the configuration a seat, first its old one, then a free one, then a new one.
    fn seat_ranks(&mut self) {
        for seat in &mut self.seats {
            seat.is_listed = self.config.ranks().contains(&seat.address);
        }
        for address in self.config.ranks().to_vec() {
            if self.rank(address).is_none() {
                self.seat(address);
            }
        }
        self.loads.grow(self.seats.len());
        let places = u16::try_from(self.seats.len()).unwrap_or(u16::MAX);
        for rank in (0..places).map(RankId) {
            self.index
                .set_capacity(rank, self.config.rank_capacity_blocks());
        }
    }

    fn seat(&mut self, address: SocketAddr) {
        let address_hash = hash_bytes(address.to_string().as_bytes());
        let seat = Seat {
            address,
            address_hash,
            is_listed: true,
        };
        let place = self.free_seat().map_or(self.seats.len(), RankId::index);
        match self.seats.get_mut(place) {
            Some(old) => *old = seat,
            None => self.seats.push(seat),
        }
    }

    /// A seat whose rank has left and that no charge refers to; what the index knew of it is forgotten.
    fn free_seat(&mut self) -> Option<RankId> {
        let mut seated = (0..=u16::MAX).map(RankId).zip(&self.seats);
        let (rank, _) =
            seated.find(|(rank, seat)| !seat.is_listed && self.loads.in_flight(*rank) == 0)?;
        self.index.forget(rank);
        Some(rank)
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
