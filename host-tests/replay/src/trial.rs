//! A decision made of knobs, to try ideas with before they are built: `trial:near=500+old_uses=0`.
//!
//! Without knobs it is the deployed decision, but that its index is a cache that drops the least recently used block, as the
//! ranks' are. `TRIED.md` has what each knob gave.

mod knobs;
mod rank_tally;

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Result;
use routing::{chain, hash_bytes};

use self::knobs::Knobs;
use self::rank_tally::{RankTally, Rate};
use crate::engine::BLOCK_TOKENS;
use crate::peers::Setup;
use crate::peers::holders::Holders;
use crate::policy::{Arrival, Policy, RankReport, Usage, View};
use crate::settings;

/// How much one more prompt's answer moves the mean.
const OUTPUT_GAIN: f64 = 0.02;

/// A request under way.
#[derive(Clone, Debug)]
struct Flight {
    work: f64,
    prompt: f64,
    new_blocks: Rc<[u64]>,
}

/// See the module.
pub struct Trial {
    knobs: Knobs,
    holders: Holders,
    ranks: Vec<RankTally>,
    flights: HashMap<usize, Flight>,
    /// Blocks that are being computed, by rank, and by how many requests.
    pending: HashMap<(usize, u64), u32>,
    rate: Rate,
    capacity: f64,
    mean_output: f64,
    old_uses: f64,
    busy: f64,
    busy_ms: f64,
    address_hashes: Vec<u64>,
}

impl Trial {
    /// A trial by its name.
    ///
    /// # Errors
    /// When a knob is not known or not a number.
    pub fn named(name: &str, setup: &Setup) -> Result<Self> {
        let knobs: Knobs = settings::read(name)?;
        let believed = setup.capacity_tokens as f64 * knobs.index / BLOCK_TOKENS as f64;
        Ok(Self {
            holders: Holders::new(setup.ranks, believed as usize),
            ranks: vec![RankTally::new(); setup.ranks],
            flights: HashMap::new(),
            pending: HashMap::new(),
            rate: Rate::default(),
            capacity: setup.capacity_tokens as f64,
            mean_output: 0.0,
            old_uses: 0.0,
            busy: 0.0,
            busy_ms: 0.0,
            address_hashes: (0..setup.ranks)
                .map(|rank| hash_bytes(&rank.to_le_bytes()))
                .collect(),
            knobs,
        })
    }

    fn note_busy(&mut self, now_ms: f64) {
        let busy = self.ranks.iter().filter(|rank| rank.waiting > 0).count();
        let share = busy as f64 / self.ranks.len() as f64;
        let passed_ms = now_ms - self.busy_ms;
        self.busy += (share - self.busy) * passed_ms / (passed_ms + self.knobs.busy_ms).max(1e-9);
        self.busy_ms = now_ms;
    }

    /// Once as much as all caches hold was used, half of what is remembered is new.
    fn note_uses(&mut self, rank: usize, held: &[u64], blocks: usize) {
        if blocks > 0 {
            let share = self.holders.old(rank, held) as f64 / blocks as f64;
            let capacity = self.capacity * self.ranks.len() as f64 / BLOCK_TOKENS as f64;
            self.old_uses += (share - self.old_uses) * blocks as f64 / (blocks as f64 + capacity);
        }
    }

    fn work(&self, matched: f64, uncached: f64) -> f64 {
        uncached * (1.0 + self.knobs.attention * (matched + uncached / 2.0))
    }

    fn matched(&self, rank: usize, depth: usize, arrival: &Arrival) -> f64 {
        let is_pending = |block: &&u64| self.pending.contains_key(&(rank, **block));
        let pending = match self.knobs.pending < 1.0 {
            true => arrival.blocks[..depth].iter().filter(is_pending).count(),
            false => 0,
        };
        let blocks = depth as f64 - (1.0 - self.knobs.pending) * pending as f64;
        (blocks * BLOCK_TOKENS as f64).min(arrival.prompt_tokens.saturating_sub(1) as f64)
    }

    /// What is left of a queue: more than nine tenths are never done without a first byte.
    fn queued(&self, rank: usize, now_ms: f64) -> f64 {
        let tally = &self.ranks[rank];
        let done = (now_ms - tally.moved_ms) * self.rate.per_ms().unwrap_or(0.0);
        tally.queued - (done * self.knobs.progress).clamp(0.0, tally.queued * 0.9)
    }

    /// How much slower a rank is than all on average.
    fn slowness(&self, rank: usize) -> f64 {
        match (self.rate.per_ms(), self.ranks[rank].rate.per_ms()) {
            (Some(all), Some(rank)) if self.knobs.rank_rate > 0.0 => all / rank,
            _ => 1.0,
        }
    }

    fn waiting(&self, rank: usize) -> f64 {
        let mut waiting: Vec<u32> = self.ranks.iter().map(|rank| rank.waiting).collect();
        waiting.sort_unstable();
        match self.knobs.waiting_of as u8 {
            0 => self.busy / (1.0 - self.busy).max(1e-9),
            1 => f64::from(waiting.iter().sum::<u32>()) / waiting.len() as f64,
            2 => f64::from(waiting[waiting.len() / 2]),
            _ => f64::from(self.ranks[rank].waiting),
        }
    }

    fn miss_weight(&self, rank: usize, in_use: f64) -> f64 {
        let knobs = &self.knobs;
        let waiting = (knobs.waiting * self.waiting(rank)).min(knobs.waiting_most);
        knobs.miss + waiting + knobs.old_uses * self.old_uses + knobs.in_use * in_use.min(1.0)
    }

    fn answer(&self) -> f64 {
        match self.knobs.output < 0.0 {
            true => self.mean_output,
            false => self.knobs.output,
        }
    }

    fn held(&self, rank: usize) -> f64 {
        let tally = &self.ranks[rank];
        let held = tally.held + self.answer() * f64::from(tally.flights);
        match self.knobs.by_reports > 0.0 {
            true => held * tally.use_factor,
            false => held,
        }
    }

    fn cost(&self, rank: usize, depth: usize, arrival: &Arrival, now_ms: f64) -> f64 {
        let (knobs, tally) = (&self.knobs, &self.ranks[rank]);
        let prompt = arrival.prompt_tokens as f64;
        let matched = self.matched(rank, depth, arrival);
        let held = self.held(rank);
        let miss =
            self.miss_weight(rank, held / self.capacity) * self.work(matched, prompt - matched);
        let work = (self.queued(rank, now_ms) + miss) * self.slowness(rank);
        let needed = held + prompt + self.answer();
        let share = (needed / self.capacity).min(0.99);
        let room = knobs.no_room * (needed - self.capacity).max(0.0)
            + knobs.barrier * share / (1.0 - share)
            + (knobs.held + knobs.full * (held / self.capacity).min(1.0)) * held;
        match knobs.product > 0.0 {
            true => (work + knobs.near) * f64::from(tally.flights + 1) + room,
            false => work + knobs.flight * f64::from(tally.flights) + room,
        }
    }

    /// Among near-equal costs the one that comes first in an order of the prompt's start.
    fn best(&self, arrival: &Arrival, costs: &[f64]) -> usize {
        let lowest = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let limit = lowest + self.knobs.near + lowest * self.knobs.near_share;
        let whole = (self.knobs.anchor / BLOCK_TOKENS as f64) as usize;
        let place = whole.min(arrival.blocks.len()).checked_sub(1);
        let anchor = place.map_or(chain(1, arrival.number as u64), |place| {
            arrival.blocks[place]
        });
        let near = (0..costs.len()).filter(|rank| costs[*rank] <= limit);
        near.max_by_key(|rank| chain(anchor, self.address_hashes[*rank]))
            .unwrap_or(0)
    }

    fn send(&mut self, rank: usize, depth: usize, arrival: &Arrival, now_ms: f64) {
        let prompt = arrival.prompt_tokens as f64;
        let matched = (depth as f64 * BLOCK_TOKENS as f64).min((prompt - 1.0).max(0.0));
        let work = self.work(matched, prompt - matched);
        self.ranks[rank].send(work, prompt, now_ms);
        self.note_uses(rank, &arrival.blocks[..depth], arrival.blocks.len());
        let new_blocks: Rc<[u64]> = match self.knobs.pending < 1.0 {
            true => Rc::from(&arrival.blocks[depth..]),
            false => Rc::from([]),
        };
        for block in new_blocks.iter() {
            *self.pending.entry((rank, *block)).or_default() += 1;
        }
        self.holders.touch_all_tail_first(rank, &arrival.blocks);
        let flight = Flight {
            work,
            prompt,
            new_blocks,
        };
        self.flights.insert(arrival.number, flight);
    }
}

impl Policy for Trial {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        self.note_busy(view.now_ms);
        let depths = self.holders.unbroken(&arrival.blocks);
        let costs = depths.iter().enumerate();
        let costs = costs.map(|(rank, depth)| self.cost(rank, *depth, arrival, view.now_ms));
        let costs: Vec<f64> = costs.collect();
        let rank = self.best(arrival, &costs);
        self.send(rank, depths[rank], arrival, view.now_ms);
        rank
    }

    fn first_token(&mut self, number: usize, rank: usize, now_ms: f64) {
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let ms = self.ranks[rank].first_byte(flight.work, now_ms);
        self.rate.note(flight.work, ms);
        for block in flight.new_blocks.iter() {
            let count = self.pending.entry((rank, *block)).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.pending.remove(&(rank, *block));
            }
        }
    }

    fn end(&mut self, number: usize, rank: usize, usage: Usage, _: f64) {
        if let Some(flight) = self.flights.remove(&number) {
            self.ranks[rank].end(flight.prompt);
            self.mean_output += (usage.output_tokens as f64 - self.mean_output) * OUTPUT_GAIN;
        }
    }

    fn reported(&mut self, rank: usize, report: &RankReport) {
        self.ranks[rank].reported(report, self.capacity);
    }
}

#[cfg(test)]
mod tests;
