//! What an operator can set.
//!
//! [`RawConfig`] is what was written, [`Config`] what is used; the conversion reports every mistake at once.

use std::fmt;
use std::net::SocketAddr;

use serde::Deserialize;

use crate::{ConfigError, ConfigErrors, CostWeights, RankRange};

/// Three quarters of Envoy's default buffer limit of 1 MiB: once a held body exceeds that limit Envoy stops reading, and
/// some frames may come after the decision is due. Of what whole prompts of the weka trace (90,000 tokens on average)
/// share, 512 KiB show 95 %, this 99 % (`scripts/bench prefix`).
const DECIDE_AFTER_BYTES: u64 = 768 * 1024;
/// Long against the gaps inside a body on one connection, short against a prefill.
const DECIDE_AFTER_IDLE_MS: u64 = 50;
/// About 64 tokens: four blocks of vLLM's default 16, so that the index stays small and little of a match is lost.
const BLOCK_BYTES: u64 = 256;
/// What is left for KV on one 80 GB GPU beside a mid-size model's share; also the EPP's default (31,250 blocks of
/// 16 tokens).
const RANK_CAPACITY_TOKENS: u64 = 500_000;
/// A flat optimum from 2 to 8 in replays of public traces.
const MISS_WEIGHT: f64 = 3.0;
/// A mid-size model on one GPU; only its ratio to `inFlightCostMs` matters.
const PREFILL_TOKENS_PER_SECOND: f64 = 20_000.0;
/// What one more request in the batch adds to a step, over the steps of a chunked prefill.
const IN_FLIGHT_COST_MS: f64 = 10.0;

/// Enough for the usual gateway, which has one pool.
const POOL: &str = "default";

/// Ranks that one pool may have: the largest wide-EP deployments known have a few hundred.
pub(crate) const MAX_RANKS: usize = 1024;
/// Blocks kept for one pool and worker: about 45 MiB.
const MAX_INDEX_BLOCKS: usize = 1_000_000;
/// As in the estimate of a prompt's tokens.
const BYTES_PER_TOKEN: u64 = 4;

/// The picker's configuration as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RawConfig {
    /// The name of the pool: its state outlives changes of the configuration under the same name.
    pub pool: Option<String>,
    /// The ranks: `ip:port` or `ip:first-last` each.
    pub ranks: Option<Vec<String>>,
    /// Decide at the latest when this many bytes of a body were seen.
    pub decide_after_bytes: Option<u64>,
    /// Decide at the latest when no byte of a body came for this long.
    pub decide_after_idle_ms: Option<u64>,
    /// Bytes of prompt text in a block.
    pub block_bytes: Option<u64>,
    /// KV cache of a rank in tokens.
    pub rank_capacity_tokens: Option<u64>,
    /// How much more than a queued token an uncached one weighs.
    pub miss_weight: Option<f64>,
    /// Tokens a rank prefills in a second.
    pub prefill_tokens_per_second: Option<f64>,
    /// What each request in flight on a rank adds to the cost.
    pub in_flight_cost_ms: Option<f64>,
}

/// The picker's configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pool: String,
    ranks: Vec<SocketAddr>,
    decide_after_bytes: u64,
    decide_after_idle_ms: u64,
    block_bytes: usize,
    rank_capacity_blocks: u32,
    weights: CostWeights,
}

impl Config {
    /// The name of the pool.
    #[must_use]
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// The ranks, each once, in the order given.
    #[must_use]
    pub fn ranks(&self) -> &[SocketAddr] {
        &self.ranks
    }

    /// Bytes of a body after which a decision is due.
    #[must_use]
    pub fn decide_after_bytes(&self) -> u64 {
        self.decide_after_bytes
    }

    /// Milliseconds without a byte after which a decision is due.
    #[must_use]
    pub fn decide_after_idle_ms(&self) -> u64 {
        self.decide_after_idle_ms
    }

    /// Bytes of prompt text in a block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Blocks that a rank's cache holds.
    #[must_use]
    pub fn rank_capacity_blocks(&self) -> u32 {
        self.rank_capacity_blocks
    }

    /// Blocks that the index of the pool may hold.
    #[must_use]
    pub fn max_index_blocks(&self) -> usize {
        MAX_INDEX_BLOCKS
    }

    /// The weights of the cost.
    #[must_use]
    pub fn weights(&self) -> CostWeights {
        self.weights
    }
}

impl fmt::Display for Config {
    /// One line for the log: what is in force, defaults included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            decide_after_bytes,
            decide_after_idle_ms,
            block_bytes,
            rank_capacity_blocks,
            weights,
            ..
        } = self;
        write!(
            f,
            "pool {pool}: {} ranks of {rank_capacity_blocks} blocks of {block_bytes} bytes, decides after \
             {decide_after_bytes} bytes or {decide_after_idle_ms} ms, miss weight {}, {} tokens/s, {} s in flight",
            self.ranks.len(),
            weights.miss_weight,
            weights.prefill_tokens_per_second,
            weights.in_flight_seconds,
        )
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigErrors;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigErrors> {
        let mut check = Check::default();
        let block_bytes = check.whole(
            "blockBytes",
            raw.block_bytes,
            BLOCK_BYTES,
            (64, 4096),
            "64 to 4096 bytes",
        );
        let capacity_tokens = check.whole(
            "rankCapacityTokens",
            raw.rank_capacity_tokens,
            RANK_CAPACITY_TOKENS,
            (1024, 1_000_000_000),
            "1024 to 1000000000 tokens",
        );
        let capacity_blocks = capacity_tokens
            .saturating_mul(BYTES_PER_TOKEN)
            .checked_div(block_bytes)
            .unwrap_or(0);
        let config = Self {
            pool: check.pool(raw.pool.as_deref()),
            ranks: check.ranks(raw.ranks.as_deref()),
            decide_after_bytes: check.whole(
                "decideAfterBytes",
                raw.decide_after_bytes,
                DECIDE_AFTER_BYTES,
                (1024, 16_777_216),
                "1024 to 16777216 bytes (above the listener's buffer limit only the timer decides)",
            ),
            decide_after_idle_ms: check.whole(
                "decideAfterIdleMs",
                raw.decide_after_idle_ms,
                DECIDE_AFTER_IDLE_MS,
                (2, 10_000),
                "2 to 10000 milliseconds",
            ),
            block_bytes: usize::try_from(block_bytes).unwrap_or(usize::MAX),
            rank_capacity_blocks: u32::try_from(capacity_blocks).unwrap_or(u32::MAX),
            weights: check.weights(&raw),
        };
        check.finish(config)
    }
}

/// Collects mistakes while values are taken over.
#[derive(Default)]
struct Check {
    errors: Vec<ConfigError>,
}

impl Check {
    fn mistake(&mut self, field: &'static str, given: String, accepted: &'static str) {
        self.errors.push(ConfigError {
            field,
            given,
            accepted,
        });
    }

    fn whole(
        &mut self,
        field: &'static str,
        given: Option<u64>,
        default: u64,
        (least, most): (u64, u64),
        accepted: &'static str,
    ) -> u64 {
        let value = given.unwrap_or(default);
        if value < least || value > most {
            self.mistake(field, value.to_string(), accepted);
        }
        value
    }

    fn positive(&mut self, field: &'static str, given: Option<f64>, default: f64) -> f64 {
        let value = given.unwrap_or(default);
        if !(value > 0.0 && value <= 1e9) {
            self.mistake(field, value.to_string(), "a number above 0, up to 1e9");
        }
        value
    }

    fn weights(&mut self, raw: &RawConfig) -> CostWeights {
        let in_flight_ms = raw.in_flight_cost_ms.unwrap_or(IN_FLIGHT_COST_MS);
        if !(0.0..=1e6).contains(&in_flight_ms) {
            self.mistake(
                "inFlightCostMs",
                in_flight_ms.to_string(),
                "0 to 1e6 milliseconds",
            );
        }
        CostWeights {
            miss_weight: self.positive("missWeight", raw.miss_weight, MISS_WEIGHT),
            prefill_tokens_per_second: self.positive(
                "prefillTokensPerSecond",
                raw.prefill_tokens_per_second,
                PREFILL_TOKENS_PER_SECOND,
            ),
            in_flight_seconds: in_flight_ms / 1000.0,
        }
    }

    fn pool(&mut self, given: Option<&str>) -> String {
        let name = given.unwrap_or(POOL);
        let is_name = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
        };
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_name) {
            self.mistake("pool", format!("{name:?}"), "1 to 63 of a-z, 0-9, - and _");
        }
        name.to_string()
    }

    fn ranks(&mut self, ranges: Option<&[String]>) -> Vec<SocketAddr> {
        const ACCEPTED: &str = "a list of 1 to 1024 ranks, ip:port or ip:first-last each";
        let ranges = ranges.unwrap_or_default();
        let mut ranks: Vec<SocketAddr> = Vec::new();
        for text in ranges {
            match RankRange::parse(text) {
                Some(range) if range.len() <= MAX_RANKS => ranks.extend(range.ranks()),
                _ => self.mistake("ranks", format!("{text:?}"), ACCEPTED),
            }
        }
        if let Some(twice) = first_repeated(&ranks) {
            self.mistake("ranks", format!("\"{twice}\" twice"), "each rank once");
        }
        if ranges.is_empty() || ranks.len() > MAX_RANKS {
            self.mistake("ranks", format!("{} ranks", ranks.len()), ACCEPTED);
        }
        ranks
    }

    fn finish(self, config: Config) -> Result<Config, ConfigErrors> {
        if self.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

fn first_repeated(ranks: &[SocketAddr]) -> Option<SocketAddr> {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
