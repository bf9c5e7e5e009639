//! A decision made of knobs, to try ideas with: `trial:miss=3+kv=1`.

mod knobs;

use std::collections::HashMap;

use anyhow::Result;
use routing::{chain, hash_bytes};

use self::knobs::Knobs;
use crate::engine::BLOCK_TOKENS;
use crate::peers::Setup;
use crate::peers::holders::Holders;
use crate::policy::{Arrival, Policy, RankReport, Usage, View};

/// A request under way.
#[derive(Clone, Debug)]
struct Flight {
    work: f64,
    held: f64,
    sent_ms: f64,
    first_ms: Option<f64>,
    blocks: std::rc::Rc<[u64]>,
    matched: usize,
}

#[derive(Clone, Debug, Default)]
struct RankState {
    queued: f64,
    flights: u32,
    waiting: u32,
    held: f64,
    /// When its queue was last seen to move.
    moved_ms: f64,
    rate: Rate,
    report: Option<RankReport>,
    /// Use that reports tell per token held by our count.
    use_factor: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    work: f64,
    ms: f64,
}

impl Rate {
    fn note(&mut self, work: f64, ms: f64) {
        self.work = self.work * 0.95 + work;
        self.ms = self.ms * 0.95 + ms;
    }
    fn per_ms(&self) -> f64 {
        if self.ms > 0.0 {
            self.work / self.ms
        } else {
            0.0
        }
    }
}

/// See the module.
pub struct Trial {
    knobs: Knobs,
    holders: Holders,
    ranks: Vec<RankState>,
    flights: HashMap<usize, Flight>,
    pending: HashMap<(usize, u64), u32>,
    rate: Rate,
    capacity: f64,
    mean_output: f64,
    /// Share of touched blocks that were last used in the older half of their cache.
    old_share: f64,
    busy: f64,
    busy_ms: f64,
    address: Vec<u64>,
}

impl Trial {
    /// # Errors
    /// When a knob is wrong.
    pub fn named(name: &str, setup: &Setup) -> Result<Self> {
        let knobs = Knobs::read(name.split_once(':').map_or("", |(_, knobs)| knobs))?;
        let blocks = (setup.capacity_tokens as f64 * knobs.index / BLOCK_TOKENS as f64) as usize;
        Ok(Self {
            holders: Holders::new(setup.ranks, blocks),
            ranks: vec![
                RankState {
                    use_factor: 1.0,
                    ..RankState::default()
                };
                setup.ranks
            ],
            flights: HashMap::new(),
            pending: HashMap::new(),
            rate: Rate::default(),
            capacity: setup.capacity_tokens as f64,
            mean_output: 0.0,
            old_share: 0.0,
            busy: 0.0,
            busy_ms: 0.0,
            address: (0..setup.ranks)
                .map(|rank| hash_bytes(&rank.to_le_bytes()))
                .collect(),
            knobs,
        })
    }

    fn work(&self, matched: f64, uncached: f64) -> f64 {
        uncached * (1.0 + self.knobs.attention * (matched + uncached / 2.0))
    }

    fn matched(&self, rank: usize, depth: usize, arrival: &Arrival) -> f64 {
        let mut tokens = depth as f64 * BLOCK_TOKENS as f64;
        if self.knobs.pending < 1.0 {
            let pending = arrival.blocks[..depth]
                .iter()
                .filter(|block| self.pending.contains_key(&(rank, **block)));
            tokens -= (1.0 - self.knobs.pending) * pending.count() as f64 * BLOCK_TOKENS as f64;
        }
        tokens.min(arrival.prompt_tokens.saturating_sub(1) as f64)
    }

    fn queued(&self, rank: usize, now_ms: f64) -> f64 {
        let state = &self.ranks[rank];
        if self.knobs.progress == 0.0 {
            return state.queued;
        }
        let rate = if self.knobs.rankrate > 0.0 && state.rate.ms > 0.0 {
            state.rate
        } else {
            self.rate
        };
        let oldest = self.oldest(rank);
        let done = (now_ms - state.moved_ms) * rate.per_ms() * self.knobs.progress;
        state.queued - done.clamp(0.0, oldest)
    }

    /// Work of the request that is done next: no more can have been done without a first byte.
    fn oldest(&self, rank: usize) -> f64 {
        let state = &self.ranks[rank];
        // Bound by the whole queue: requests of one batch end together.
        state.queued * 0.9
    }

    fn answer(&self) -> f64 {
        if self.knobs.output < 0.0 {
            self.mean_output
        } else {
            self.knobs.output
        }
    }

    fn in_use(&self, rank: usize) -> f64 {
        let state = &self.ranks[rank];
        let held = state.held + self.answer() * f64::from(state.flights);
        if self.knobs.kvcount == 2.0 {
            held * state.use_factor
        } else {
            held
        }
    }

    fn cost(&self, rank: usize, depth: usize, arrival: &Arrival, now_ms: f64) -> f64 {
        let k = &self.knobs;
        let state = &self.ranks[rank];
        let prompt = arrival.prompt_tokens as f64;
        let matched = self.matched(rank, depth, arrival);
        let uncached = prompt - matched;
        let mut miss = k.miss;
        if k.adapt > 0.0 {
            let mean = self.ranks.iter().map(|r| r.queued).sum::<f64>() / self.ranks.len() as f64;
            miss = 1.0 + (k.miss - 1.0) * (mean / k.adapt).min(1.0);
        }
        if k.wn > 0.0 {
            let mean = if k.wnlocal >= 3.0 {
                let busy = self.busy;
                busy / (1.0 - busy).max(0.01)
            } else if k.wnlocal >= 2.0 {
                let mut waiting: Vec<u32> = self.ranks.iter().map(|r| r.waiting).collect();
                waiting.sort_unstable();
                f64::from(waiting[((waiting.len() - 1) as f64 * (k.wnlocal - 2.0)) as usize])
            } else if k.wnlocal > 0.0 {
                f64::from(state.waiting)
            } else {
                self.ranks.iter().map(|r| f64::from(r.waiting)).sum::<f64>()
                    / self.ranks.len() as f64
            };
            miss += (k.wn * mean).min(k.wncap);
        }
        miss += k.wage * self.old_share;
        let work = self.queued(rank, now_ms) + miss * self.work(matched, uncached);
        let needed =
            self.in_use(rank) + if k.kvcount == 1.0 { uncached } else { prompt } + self.answer();
        let room = self.capacity * k.room;
        let share = (needed / room).min(0.99);
        let load = k.flight * f64::from(state.flights)
            + k.kv * (needed - room).max(0.0)
            + k.barrier * share / (1.0 - share)
            + k.held * self.in_use(rank)
            + k.evict * uncached * (self.in_use(rank) / self.capacity).min(k.evictcap);
        if k.product > 0.0 {
            return (work + k.near) * f64::from(state.flights + 1)
                + k.kv * (needed - room).max(0.0);
        }
        work + load
    }
}

impl Policy for Trial {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        let busy =
            self.ranks.iter().filter(|r| r.waiting > 0).count() as f64 / self.ranks.len() as f64;
        let gain = 1.0 - (-(view.now_ms - self.busy_ms) / self.knobs.tau.max(1e-9)).exp();
        self.busy += (busy - self.busy) * gain;
        self.busy_ms = view.now_ms;
        let depths = self.holders.unbroken(&arrival.blocks);
        let costs: Vec<f64> = (0..self.ranks.len())
            .map(|rank| self.cost(rank, depths[rank], arrival, view.now_ms))
            .collect();
        let lowest = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let limit = lowest + self.knobs.near + lowest * self.knobs.nearshare;
        let whole = ((self.knobs.anchor / BLOCK_TOKENS as f64) as usize).min(arrival.blocks.len());
        let anchor = whole
            .checked_sub(1)
            .map_or(chain(1, arrival.number as u64), |place| {
                arrival.blocks[place]
            });
        let rank = (0..self.ranks.len())
            .filter(|rank| costs[*rank] <= limit)
            .max_by_key(|rank| chain(anchor, self.address[*rank]))
            .unwrap_or(0);
        let depth = depths[rank];
        let matched = (depth as f64 * BLOCK_TOKENS as f64)
            .min(arrival.prompt_tokens.saturating_sub(1) as f64);
        let uncached = arrival.prompt_tokens as f64 - matched;
        let held = if self.knobs.kvcount == 1.0 {
            uncached
        } else {
            arrival.prompt_tokens as f64
        };
        let flight = Flight {
            work: self.work(matched, uncached),
            held,
            sent_ms: view.now_ms,
            first_ms: None,
            blocks: arrival.blocks.clone(),
            matched: depth,
        };
        let state = &mut self.ranks[rank];
        if state.queued <= 0.0 {
            state.moved_ms = view.now_ms;
        }
        state.queued += flight.work;
        state.held += held;
        state.flights += 1;
        state.waiting += 1;
        if self.knobs.pending < 1.0 {
            for block in &arrival.blocks[depth..] {
                *self.pending.entry((rank, *block)).or_default() += 1;
            }
        }
        self.flights.insert(arrival.number, flight);
        if self.knobs.wage != 0.0 && !arrival.blocks.is_empty() {
            let old = self.holders.old(rank, &arrival.blocks[..depth]);
            let share = old as f64 / arrival.blocks.len() as f64;
            let weight = arrival.blocks.len() as f64 / (arrival.blocks.len() as f64 + 20_000.0);
            self.old_share += (share - self.old_share) * weight;
        }
        self.holders.touch_all_tail_first(rank, &arrival.blocks);
        rank
    }

    fn first_token(&mut self, number: usize, rank: usize, now_ms: f64) {
        let Some(flight) = self.flights.get_mut(&number) else {
            return;
        };
        flight.first_ms = Some(now_ms);
        let state = &mut self.ranks[rank];
        let ms = now_ms - state.moved_ms.max(0.0);
        state.queued -= flight.work;
        state.waiting -= 1;
        if state.queued < 1e-6 {
            state.queued = 0.0;
        }
        state.rate.note(flight.work, ms);
        self.rate.note(flight.work, ms);
        state.moved_ms = now_ms;
        if self.knobs.pending < 1.0 {
            for block in &flight.blocks[flight.matched..] {
                if let Some(count) = self.pending.get_mut(&(rank, *block)) {
                    *count -= 1;
                    if *count == 0 {
                        self.pending.remove(&(rank, *block));
                    }
                }
            }
        }
    }

    fn end(&mut self, number: usize, rank: usize, usage: Usage, _: f64) {
        let Some(flight) = self.flights.remove(&number) else {
            return;
        };
        let state = &mut self.ranks[rank];
        state.flights -= 1;
        state.held -= flight.held;
        self.mean_output = self.mean_output * 0.98 + usage.output_tokens as f64 * 0.02;
        let _ = flight.sent_ms;
    }

    fn reported(&mut self, rank: usize, report: &RankReport) {
        let state = &mut self.ranks[rank];
        state.report = Some(*report);
        let total = f64::from(report.running + report.waiting);
        if report.running > 0 && state.held > 0.0 {
            let held = state.held * f64::from(report.running) / total;
            state.use_factor = report.kv_usage * self.capacity / held;
        }
    }
}
