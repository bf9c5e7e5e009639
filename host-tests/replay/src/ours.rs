//! The decision that is deployed: this repository's own `routing` crate, driven as the module in the gateway drives it.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use routing::{
    Block, BodyEnd, Charge, Config, Pool, Prompt, RawConfig, Report, ReportTable, chain, hash_bytes,
};

use crate::engine::BLOCK_TOKENS;
use crate::peers::Setup;
use crate::policy::{Arrival, Policy, RankReport, Usage, View};
use crate::settings;

/// As the router estimates tokens.
const BYTES_PER_TOKEN: u64 = 4;

/// Prompts that are equal this far start alike, by the router's own measure.
const ANCHOR_BYTES: u64 = 4096;

/// How often the deployed router asks its ranks, unless told otherwise.
pub const REPORT_INTERVAL_MS: f64 = 1000.0;

/// One gateway with one worker, or several workers that tell each other everything at once.
pub struct Ours {
    pool: Pool,
    ranks: HashMap<SocketAddr, usize>,
    hashes: Vec<u64>,
    charges: HashMap<usize, Charge>,
    table: ReportTable,
    capacity_tokens: u64,
    decide_after_blocks: usize,
    picks: u64,
}

impl Ours {
    /// A router by its name in tables: `ours`, or `ours:missWeight=5+inFlightCostMs=3` with other settings, by the keys of
    /// its configuration.
    ///
    /// # Errors
    /// When a setting is not `key=number`, or the router refuses it.
    pub fn named(name: &str, setup: &Setup) -> Result<Self> {
        Self::new(setup, settings::read(name)?)
    }

    /// A router with these settings, but for the list of ranks and the size of a block: blocks of a trace are larger than
    /// the deployed ones. `adjust` can change the rest.
    ///
    /// # Errors
    /// When the router refuses the configuration.
    pub fn new(setup: &Setup, raw: RawConfig) -> Result<Self> {
        let raw = RawConfig {
            ranks: Some(rank_ranges(setup)),
            block_bytes: Some(BLOCK_TOKENS * BYTES_PER_TOKEN),
            ..raw
        };
        let config = Config::try_from(raw).context("the router refuses its configuration")?;
        let addresses = config.ranks().to_vec();
        ensure!(addresses.len() == setup.ranks, "ranks were lost");
        let hash = |address: &SocketAddr| hash_bytes(address.to_string().as_bytes());
        let decide_after = config.decide_after_bytes() / (BLOCK_TOKENS * BYTES_PER_TOKEN);
        Ok(Self {
            hashes: addresses.iter().map(hash).collect(),
            ranks: addresses.into_iter().zip(0..).collect(),
            pool: Pool::new(config),
            charges: HashMap::new(),
            table: ReportTable::default(),
            capacity_tokens: setup.capacity_tokens,
            decide_after_blocks: usize::try_from(decide_after)?,
            picks: 0,
        })
    }

    /// What the reader has made of the request when the pick is due: of a prompt longer than it waits for, the leading blocks.
    fn prompt(&self, arrival: &Arrival) -> Prompt {
        self.prompt_of(arrival, self.decide_after_blocks)
    }

    /// The first `most_blocks` of a prompt.
    fn prompt_of(&self, arrival: &Arrival, most_blocks: usize) -> Prompt {
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
            body_end,
        }
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
fn rank_ranges(setup: &Setup) -> Vec<String> {
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
        let prompt = self.prompt(arrival);
        self.picks += 1;
        let seed = chain(2, self.picks);
        let Some(pick) = self.pool.pick(Some(&prompt), seed, view.now_ms as u64) else {
            return 0;
        };
        let first = pick.ranks.first();
        let rank = first.and_then(|address| self.ranks.get(address)).copied();
        if prompt.body_end == BodyEnd::Cut {
            // The rest of a long prompt is read while it passes.
            let whole = self.prompt_of(arrival, usize::MAX);
            self.pool.learn(&pick.charge, &whole);
        }
        self.charges.insert(arrival.number, pick.charge);
        rank.unwrap_or(0)
    }

    fn first_token(&mut self, number: usize, _: usize, _: f64) {
        if let Some(charge) = self.charges.get_mut(&number) {
            self.pool.first_byte(charge);
        }
    }

    fn end(&mut self, number: usize, _: usize, _: Usage, _: f64) {
        if let Some(charge) = self.charges.remove(&number) {
            self.pool.end(charge);
        }
    }

    fn reported(&mut self, rank: usize, report: &RankReport) {
        let page = Report {
            running: Some(report.running),
            waiting: Some(report.waiting),
            kv_usage: Some(report.kv_usage),
            capacity_tokens: Some(self.capacity_tokens),
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
