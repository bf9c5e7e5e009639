//! What an operator can set.
//!
//! [`RawConfig`] is what was written, [`Config`] what is used; the conversion reports every mistake at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::{BlockCut, ConfigErrors, CostWeights, Glob, RefusedKeys, RoleRules, TokenRate};

mod check;
#[cfg(feature = "schema")]
mod schema;

const CLUSTERS_ACCEPTED: &str = "a list of 1 to 64 names of clusters, 1 to 256 bytes each";
const MODELS_ACCEPTED: &str = "a list of 1 to 64 names of models, 1 to 256 bytes each";

use check::Check;
#[cfg(feature = "schema")]
pub use schema::config_schema;

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
/// A mid-size model on one GPU; only its ratio to `inFlightCostMs` matters.
const PREFILL_TOKENS_PER_SECOND: f64 = 20_000.0;
/// What one more request in the batch adds to a step, over the steps of a chunked prefill.
const IN_FLIGHT_COST_MS: f64 = 10.0;
/// One more hop through a sidecar, one more turn of two schedulers, and the first transfer of the KV cache's blocks.
const PREFILL_LEG_COST_MS: f64 = 20.0;

/// Istio's bootstrap has a static cluster of this name that is Envoy's own admin port.
const ADMIN_CLUSTER: &str = "prometheus_stats";
/// The cluster that the manifests add.
const SCRAPE_CLUSTER: &str = "rank_router_scrape";
/// What this gateway sends is known to the request; reports correct drift, which is slower.
const SCRAPE_INTERVAL_MS: u64 = 1000;

/// What a step of a wide expert-parallel decode rank is made for: vLLM passes at most so many tokens of a rank at once through
/// DeepEP's low-latency kernels (`VLLM_MOE_DP_CHUNK_SIZE`). In replays of such ranks the 99th percentile of time per output
/// token is 1.1 times that of a pool whose decode ranks never prefill; without a bound it was 12 times.
const LOCAL_PREFILL_TOKENS: u64 = 256;

/// Who applies the module wants it to steer.
const SHADOW: bool = false;

/// Enough for the usual gateway, which has one pool.
const POOL: &str = "default";

/// Ranks that one pool may have: the largest wide-EP deployments known have a few hundred.
pub(crate) const MAX_RANKS: usize = 1024;
/// Blocks kept for one pool and worker: about 45 MiB.
const MAX_INDEX_BLOCKS: usize = 1_000_000;

// What is accepted, from the least to the most.
const SCRAPE_INTERVAL_MS_BOUNDS: (u64, u64) = (100, 60_000);
const DECIDE_AFTER_BYTES_BOUNDS: (u64, u64) = (1024, 16_777_216);
const DECIDE_AFTER_IDLE_MS_BOUNDS: (u64, u64) = (2, 10_000);
const BLOCK_BYTES_BOUNDS: (u64, u64) = (64, 4096);
const RANK_CAPACITY_TOKENS_BOUNDS: (u64, u64) = (1024, 1_000_000_000);
const LOCAL_PREFILL_TOKENS_BOUNDS: (u64, u64) = (0, 1_000_000_000);

/// The picker's configuration as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RawConfig {
    /// The name of the pool: its state outlives changes of the configuration under the same name.
    pub pool: Option<String>,
    /// The ranks: `ip:port` or `ip:first-last` each.
    pub ranks: Option<Vec<String>>,
    /// The clusters whose endpoints are the ranks, by name; `*` and `?` are wild.
    pub clusters: Option<Vec<String>>,
    /// Models whose requests are for the pool, by name; `*` and `?` are wild.
    pub models: Option<Vec<String>>,
    /// Which endpoints have which role; the names of workloads tell where this is absent.
    pub roles: Option<RoleRules>,
    /// The cluster that is Envoy's own admin port.
    pub admin_cluster: Option<String>,
    /// The cluster through which single ranks are reached.
    pub scrape_cluster: Option<String>,
    /// How often each rank is asked for its metrics.
    pub scrape_interval_ms: Option<u64>,
    /// Decide at the latest when this many bytes of a body were seen.
    pub decide_after_bytes: Option<u64>,
    /// Decide at the latest when no byte of a body came for this long.
    pub decide_after_idle_ms: Option<u64>,
    /// Bytes of prompt text in a block.
    pub block_bytes: Option<u64>,
    /// A text that seeds the hashes of blocks; the same on all gateways of the pool, and known to nobody else.
    pub hash_seed: Option<String>,
    /// KV cache of a rank in tokens.
    pub rank_capacity_tokens: Option<u64>,
    /// How much more than a queued token an uncached one weighs, always; else what the load and the caches tell.
    pub miss_weight: Option<f64>,
    /// Tokens a rank prefills in a second.
    pub prefill_tokens_per_second: Option<f64>,
    /// What each request in flight on a rank adds to the cost.
    pub in_flight_cost_ms: Option<f64>,
    /// What a prefill on another rank takes besides the prefill itself.
    pub prefill_leg_cost_ms: Option<f64>,
    /// Tokens that a decode rank prefills at most while another rank can.
    pub local_prefill_tokens: Option<u64>,
    /// Whether to decide and count without steering.
    pub shadow: Option<bool>,
    /// Keys of a body for which requests are refused, beside those of the list.
    pub refuse_keys: Option<Vec<String>>,
    /// Keys of the list that requests may bring.
    pub allow_keys: Option<Vec<String>>,
}

/// The picker's configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pool: String,
    ranks: Vec<SocketAddr>,
    clusters: Vec<Glob>,
    models: Vec<Glob>,
    roles: RoleRules,
    admin_cluster: String,
    scrape_cluster: String,
    scrape_interval_ms: u64,
    decide_after_bytes: u64,
    decide_after_idle_ms: u64,
    block_cut: BlockCut,
    rank_capacity_tokens: u64,
    rank_capacity_blocks: u32,
    weights: CostWeights,
    local_prefill_tokens: u64,
    is_shadow: bool,
    refused_keys: Arc<RefusedKeys>,
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

    /// The clusters whose endpoints are the ranks; empty for a static list.
    #[must_use]
    pub fn clusters(&self) -> &[Glob] {
        &self.clusters
    }

    /// Whether the ranks are found in Envoy's endpoint table; then a static list is only what it starts with.
    #[must_use]
    pub fn is_discovered(&self) -> bool {
        !self.clusters.is_empty()
    }

    /// Whether a request to this cluster is for the pool. A static list serves every route.
    #[must_use]
    pub fn serves(&self, cluster: &str) -> bool {
        self.clusters.is_empty() || self.clusters.iter().any(|glob| glob.matches(cluster))
    }

    /// Whether requests for this model are for the pool.
    #[must_use]
    pub fn serves_model(&self, name: &str) -> bool {
        self.models.iter().any(|glob| glob.matches(name))
    }

    /// Whether the model decides which requests are for the pool.
    #[must_use]
    pub fn has_models(&self) -> bool {
        !self.models.is_empty()
    }

    /// Which endpoints have which role.
    #[must_use]
    pub fn roles(&self) -> &RoleRules {
        &self.roles
    }

    /// The cluster that is Envoy's own admin port.
    #[must_use]
    pub fn admin_cluster(&self) -> &str {
        &self.admin_cluster
    }

    /// The cluster through which single ranks are reached.
    #[must_use]
    pub fn scrape_cluster(&self) -> &str {
        &self.scrape_cluster
    }

    /// How often each rank is asked for its metrics.
    #[must_use]
    pub fn scrape_interval_ms(&self) -> u64 {
        self.scrape_interval_ms
    }

    /// Blocks that as many tokens make, at so many tokens a byte.
    #[must_use]
    pub fn blocks_of(&self, tokens: u64, rate: TokenRate) -> u32 {
        let bytes = rate.bytes(tokens);
        let blocks = bytes.checked_div(u64::try_from(self.block_bytes()).unwrap_or(u64::MAX));
        u32::try_from(blocks.unwrap_or(0)).unwrap_or(u32::MAX)
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
        self.block_cut.block_bytes
    }

    /// How prompts are cut into blocks and hashed.
    #[must_use]
    pub fn block_cut(&self) -> BlockCut {
        self.block_cut
    }

    /// Tokens that a rank's cache holds, unless it says otherwise.
    #[must_use]
    pub fn rank_capacity_tokens(&self) -> u64 {
        self.rank_capacity_tokens
    }

    /// Blocks that a rank's cache holds, at the usual tokens a byte.
    #[must_use]
    pub fn rank_capacity_blocks(&self) -> u32 {
        self.rank_capacity_blocks
    }

    /// Blocks that the index of the pool may hold.
    #[must_use]
    pub fn max_index_blocks(&self) -> usize {
        MAX_INDEX_BLOCKS
    }

    /// Tokens that a decode rank prefills at most while another rank can.
    #[must_use]
    pub fn local_prefill_tokens(&self) -> u64 {
        self.local_prefill_tokens
    }

    /// Whether picks are only counted and compared with where requests go: another one, as an endpoint picker, steers.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    /// The weights of the cost.
    #[must_use]
    pub fn weights(&self) -> CostWeights {
        self.weights
    }

    /// The keys of a body for which requests are refused.
    #[must_use]
    pub fn refused_keys(&self) -> &Arc<RefusedKeys> {
        &self.refused_keys
    }
}

impl fmt::Display for Config {
    /// One line for the log: what is in force, defaults included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            decide_after_bytes,
            decide_after_idle_ms,
            rank_capacity_blocks,
            weights,
            ..
        } = self;
        let block_bytes = self.block_bytes();
        let names: Vec<&str> = self.clusters.iter().map(Glob::as_str).collect();
        if !names.is_empty() {
            write!(f, "clusters {}, ", names.join(" "))?;
        }
        let miss_weight = weights.miss_weight;
        let miss_weight = miss_weight.map_or("learnt".to_string(), |weight| weight.to_string());
        write!(
            f,
            "pool {pool}: {} ranks of {rank_capacity_blocks} blocks of {block_bytes} bytes, decides after \
             {decide_after_bytes} bytes or {decide_after_idle_ms} ms, miss weight {miss_weight}, {} tokens/s, {} s in flight",
            self.ranks.len(),
            weights.prefill_tokens_per_second,
            weights.in_flight_seconds,
        )?;
        match self.is_shadow {
            true => f.write_str(", only a shadow: steers nothing"),
            false => Ok(()),
        }
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
            BLOCK_BYTES_BOUNDS,
            "64 to 4096 bytes",
        );
        let capacity_tokens = check.whole(
            "rankCapacityTokens",
            raw.rank_capacity_tokens,
            RANK_CAPACITY_TOKENS,
            RANK_CAPACITY_TOKENS_BOUNDS,
            "1024 to 1000000000 tokens",
        );
        let mut config = Self {
            pool: check.pool(raw.pool.as_deref()),
            ranks: check.ranks(raw.ranks.as_deref(), raw.clusters.is_some()),
            clusters: check.globs("clusters", raw.clusters.as_deref(), CLUSTERS_ACCEPTED),
            models: check.globs("models", raw.models.as_deref(), MODELS_ACCEPTED),
            roles: raw.roles.clone().unwrap_or_default(),
            admin_cluster: check.cluster(
                "adminCluster",
                raw.admin_cluster.as_deref(),
                ADMIN_CLUSTER,
            ),
            scrape_cluster: check.cluster(
                "scrapeCluster",
                raw.scrape_cluster.as_deref(),
                SCRAPE_CLUSTER,
            ),
            scrape_interval_ms: check.whole(
                "scrapeIntervalMs",
                raw.scrape_interval_ms,
                SCRAPE_INTERVAL_MS,
                SCRAPE_INTERVAL_MS_BOUNDS,
                "100 to 60000 milliseconds",
            ),
            decide_after_bytes: check.whole(
                "decideAfterBytes",
                raw.decide_after_bytes,
                DECIDE_AFTER_BYTES,
                DECIDE_AFTER_BYTES_BOUNDS,
                "1024 to 16777216 bytes (above the listener's buffer limit only the timer decides)",
            ),
            decide_after_idle_ms: check.whole(
                "decideAfterIdleMs",
                raw.decide_after_idle_ms,
                DECIDE_AFTER_IDLE_MS,
                DECIDE_AFTER_IDLE_MS_BOUNDS,
                "2 to 10000 milliseconds",
            ),
            block_cut: BlockCut {
                block_bytes: usize::try_from(block_bytes).unwrap_or(usize::MAX),
                seed: check.hash_seed(raw.hash_seed.as_deref()),
            },
            rank_capacity_tokens: capacity_tokens,
            rank_capacity_blocks: 0,
            weights: check.weights(&raw),
            local_prefill_tokens: check.whole(
                "localPrefillTokens",
                raw.local_prefill_tokens,
                LOCAL_PREFILL_TOKENS,
                LOCAL_PREFILL_TOKENS_BOUNDS,
                "0 to 1000000000 tokens",
            ),
            is_shadow: raw.shadow.unwrap_or(SHADOW),
            refused_keys: Arc::new(
                check.refused_keys(raw.refuse_keys.as_deref(), raw.allow_keys.as_deref()),
            ),
        };
        config.rank_capacity_blocks = config.blocks_of(capacity_tokens, TokenRate::default());
        check.finish(config)
    }
}

#[cfg(test)]
mod tests;
