//! The decision that is deployed: this repository's own `routing` crate, driven as the module in the gateway drives it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use routing::{
    Block, BodyEnd, Charge, Config, Expected, Pick, Pool, Prompt, RawConfig, Report, ReportTable,
    chain, hash_bytes,
};

use crate::engine::BLOCK_TOKENS;
use crate::peers::Setup;
use crate::policy::{Arrival, Policy, RankReport, Usage, View};
use crate::settings;

/// As the router estimates tokens.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// Prompts that are equal this far start alike, by the router's own measure.
const ANCHOR_BYTES: u64 = 4096;

/// How often the deployed router asks its ranks, unless told otherwise.
pub const REPORT_INTERVAL_MS: f64 = 1000.0;

/// Where the router has what it knows of caches from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// From what it sent, corrected by what answers tell.
    Corrected,
    /// From what it sent alone.
    Open,
    /// From the engines themselves, beside what it has sent and they have not computed: an index that is never wrong.
    Perfect,
    /// From the engines, but only of what it sent: an index of its own requests that is never wrong.
    PerfectOwn,
}

/// The deployed router under the names of its kinds of knowledge.
pub const NAMES: [&str; 4] = ["ours", "ours-open", "ours-perfect", "ours-perfect-own"];

impl Knowledge {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ours" => Self::Corrected,
            "ours-open" => Self::Open,
            "ours-perfect" => Self::Perfect,
            "ours-perfect-own" => Self::PerfectOwn,
            _ => return None,
        })
    }
}

/// A request on its way.
struct Open {
    rank: usize,
    charge: Charge,
    prompt: Prompt,
    expected: Option<Expected>,
    picked_ms: u64,
}

/// One gateway with one worker, or several workers that tell each other everything at once.
pub struct Ours {
    knowledge: Knowledge,
    pool: Pool,
    addresses: Vec<SocketAddr>,
    ranks: HashMap<SocketAddr, usize>,
    hashes: Vec<u64>,
    /// Blocks that were ever sent to each rank, where that is what is known.
    sent_blocks: HashSet<(usize, u64)>,
    open: HashMap<usize, Open>,
    table: ReportTable,
    capacity_tokens: Option<u64>,
    decide_after_blocks: usize,
    picks: u64,
}

impl Ours {
    /// A router by its name in tables: one of [`NAMES`], or `ours:missWeight=5+inFlightCostMs=3` with other settings, by
    /// the keys of its configuration.
    ///
    /// # Errors
    /// When a setting is not `key=number`, or the router refuses it.
    pub fn named(name: &str, setup: &Setup) -> Result<Self> {
        let kind = name.split_once(':').map_or(name, |(kind, _)| kind);
        let knowledge = Knowledge::named(kind).with_context(|| format!("no router {kind:?}"))?;
        Self::new(setup, settings::read(name)?, knowledge)
    }

    /// A router with these settings, but for the list of ranks and the size of a block: blocks of a trace are larger than
    /// the deployed ones. `adjust` can change the rest.
    ///
    /// # Errors
    /// When the router refuses the configuration.
    fn new(setup: &Setup, raw: RawConfig, knowledge: Knowledge) -> Result<Self> {
        let raw = RawConfig {
            ranks: Some(rank_ranges(setup)),
            rank_capacity_tokens: raw.rank_capacity_tokens.or(Some(setup.capacity_tokens)),
            block_bytes: Some(BLOCK_TOKENS * BYTES_PER_TOKEN),
            ..raw
        };
        let config = Config::try_from(raw).context("the router refuses its configuration")?;
        let addresses = config.ranks().to_vec();
        ensure!(addresses.len() == setup.ranks, "ranks were lost");
        let hash = |address: &SocketAddr| hash_bytes(address.to_string().as_bytes());
        let decide_after = config.decide_after_bytes() / (BLOCK_TOKENS * BYTES_PER_TOKEN);
        Ok(Self {
            knowledge,
            hashes: addresses.iter().map(hash).collect(),
            ranks: addresses.iter().copied().zip(0..).collect(),
            addresses,
            pool: Pool::new(config),
            sent_blocks: HashSet::new(),
            open: HashMap::new(),
            table: ReportTable::default(),
            capacity_tokens: setup.reports_capacity.then_some(setup.capacity_tokens),
            decide_after_blocks: usize::try_from(decide_after)?,
            picks: 0,
        })
    }

    /// What the reader makes of the request, of at most so many leading blocks.
    pub(crate) fn prompt(arrival: &Arrival, most_blocks: usize) -> Prompt {
        let ends = (1..).map(|place: u64| place * BLOCK_TOKENS * BYTES_PER_TOKEN);
        let blocks = arrival.blocks.iter().zip(ends);
        let blocks = blocks.map(|(hash, end_bytes)| Block {
            chain_hash: *hash,
            end_bytes: u32::try_from(end_bytes).unwrap_or(u32::MAX),
        });
        let blocks: Vec<Block> = blocks.take(most_blocks).collect();
        let body_end = if blocks.len() < arrival.blocks.len() {
            BodyEnd::Cut
        } else {
            BodyEnd::Whole
        };
        Prompt {
            anchor: anchor(arrival),
            blocks,
            prompt_bytes: arrival.prompt_tokens * BYTES_PER_TOKEN,
            model: 0,
            bypasses_cache: false,
            kind: 0,
            body_end,
            read_bytes: 0,
        }
    }

    fn decide(&mut self, arrival: &Arrival, prompt: &Prompt, view: &View<'_>) -> Option<Pick> {
        self.picks += 1;
        let (seed, now_ms) = (chain(2, self.picks), view.now_ms as u64);
        if matches!(self.knowledge, Knowledge::Corrected | Knowledge::Open) {
            return self.pool.pick(Some(prompt), seed, now_ms);
        }
        let depths = self.addresses.iter().enumerate().map(|(rank, address)| {
            let there = view.truth.cached_tokens(rank, arrival) / BLOCK_TOKENS;
            let known = self.known_blocks(rank, arrival).min(there);
            let known = known.max(self.coming_blocks(rank, arrival));
            (*address, u32::try_from(known).unwrap_or(u32::MAX))
        });
        let depths: Vec<(SocketAddr, u32)> = depths.collect();
        self.pool.pick_knowing(prompt, depths, seed, now_ms)
    }

    /// How many of the leading blocks it would know of if they are there.
    fn known_blocks(&self, rank: usize, arrival: &Arrival) -> u64 {
        if self.knowledge == Knowledge::Perfect {
            return u64::MAX;
        }
        let blocks = arrival.blocks.iter();
        let is_sent = |hash: &&u64| self.sent_blocks.contains(&(rank, **hash));
        blocks.take_while(is_sent).count() as u64
    }

    /// How many of the leading blocks a rank will hold once it has computed what this router has sent it.
    fn coming_blocks(&self, rank: usize, arrival: &Arrival) -> u64 {
        let of_rank = self.open.values().filter(|open| open.rank == rank);
        let waiting = of_rank.filter(|open| open.charge.queued_tokens() > 0);
        let shared = waiting.map(|open| {
            let blocks = open.prompt.blocks.iter().zip(arrival.blocks.iter());
            let is_same = |(block, hash): &(&Block, &u64)| block.chain_hash == **hash;
            blocks.take_while(is_same).count() as u64
        });
        shared.max().unwrap_or(0)
    }

    /// Counts the request. Of a body that was decided on early the rest has been read by the time its answer ends.
    fn sent(&mut self, arrival: &Arrival, cut: Prompt, pick: Pick, rank: usize, now_ms: u64) {
        let mut prompt = cut;
        if prompt.body_end == BodyEnd::Cut {
            let whole = Self::prompt(arrival, usize::MAX);
            let beginning = Some((&prompt, &pick.insertion));
            self.pool.learn(pick.charge.rank(), beginning, &whole);
            prompt = whole;
        }
        let open = Open {
            rank,
            charge: pick.charge,
            prompt,
            expected: pick.expected,
            picked_ms: now_ms,
        };
        self.open.insert(arrival.number, open);
    }
}

/// The hash of the prompt's start. Prompts without a whole block have nothing in common.
fn anchor(arrival: &Arrival) -> u64 {
    let whole = usize::try_from(ANCHOR_BYTES / (BLOCK_TOKENS * BYTES_PER_TOKEN)).unwrap_or(1);
    let place = whole.min(arrival.blocks.len()).checked_sub(1);
    let hash = place.and_then(|place| arrival.blocks.get(place));
    hash.copied().unwrap_or(chain(1, arrival.number as u64))
}

/// Pods with their ranks on consecutive ports; the last pod has the rest.
pub(crate) fn rank_ranges(setup: &Setup) -> Vec<String> {
    let per_pod = setup.ranks_per_pod.max(1);
    let firsts = (0..setup.ranks).step_by(per_pod);
    let range = |(pod, first): (usize, usize)| {
        let count = per_pod.min(setup.ranks - first);
        let (high, low) = (pod / 250, pod % 250 + 1);
        format!("10.0.{high}.{low}:8000-{}", 8000 + count - 1)
    };
    firsts.enumerate().map(range).collect()
}

impl Policy for Ours {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        let prompt = Self::prompt(arrival, self.decide_after_blocks);
        let Some(pick) = self.decide(arrival, &prompt, view) else {
            return 0;
        };
        let first = pick.ranks.first();
        let rank = first.and_then(|address| self.ranks.get(address)).copied();
        let rank = rank.unwrap_or(0);
        self.sent(arrival, prompt, pick, rank, view.now_ms as u64);
        if self.knowledge == Knowledge::PerfectOwn {
            let sent = arrival.blocks.iter().map(|hash| (rank, *hash));
            self.sent_blocks.extend(sent);
        }
        rank
    }

    fn first_token(&mut self, number: usize, _: usize, _: f64) {
        if let Some(open) = self.open.get_mut(&number) {
            self.pool.first_byte(&mut open.charge);
        }
    }

    fn end(&mut self, number: usize, _: usize, usage: Usage, now_ms: f64) {
        let Some(open) = self.open.remove(&number) else {
            return;
        };
        self.pool.end(open.charge);
        let expected = open.expected;
        if let Some(expected) = expected.filter(|_| self.knowledge == Knowledge::Corrected) {
            let usage = routing::Usage {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: Some(usage.cached_tokens),
                completion_tokens: Some(usage.output_tokens),
            };
            let (picked_ms, now_ms) = (open.picked_ms, now_ms as u64);
            self.pool
                .told(&expected, &open.prompt, &usage, picked_ms, now_ms);
        }
    }

    fn reported(&mut self, rank: usize, report: &RankReport) {
        let page = Report {
            running: Some(report.running),
            waiting: Some(report.waiting),
            kv_usage: Some(report.kv_usage),
            capacity_tokens: self.capacity_tokens,
            ..Report::default()
        };
        let now_ms = report.taken_ms as u64;
        self.table.answered(self.hashes[rank], page, now_ms);
        // All ranks are asked at once: their pages are one table.
        if rank + 1 == self.hashes.len() {
            self.pool.reported(&self.table, now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
