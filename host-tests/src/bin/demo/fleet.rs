//! The ranks of the demo, and the gateway in front of them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::envoy::Envoy;
use host_tests::hit_rate;
use host_tests::sim::{EngineProfile, PodsConfig, RankHandle, Role, SidecarVersion, SimulatedPods};
use serde_json::{Map, Value, json};

use crate::{Arguments, Policy};

const RANKS_PER_POD: u16 = 8;
/// The longest prompt of the trace has 126,195 tokens.
const MAX_MODEL_LEN: u64 = 131_072;

/// Ranks that answer, ranks that prefill for them where that is apart, and an Envoy.
pub struct Fleet {
    pub destinations: SimulatedPods,
    prefill: Option<SimulatedPods>,
    pub envoy: Envoy,
}

impl Fleet {
    /// Starts fresh ranks and a fresh Envoy.
    pub async fn start(arguments: &Arguments, policy: Policy) -> Result<Self> {
        let role = match arguments.disaggregated {
            true => Role::Decode,
            false => Role::Both,
        };
        let destinations = pods(arguments, &arguments.pods, role).await?;
        let prefill = match arguments.disaggregated {
            true => Some(pods(arguments, &arguments.prefill_pods, Role::Prefill).await?),
            false => None,
        };
        let bootstrap = bootstrap(arguments, policy, &destinations, prefill.as_ref())?;
        let version = &arguments.envoy;
        Ok(Self {
            destinations,
            prefill,
            envoy: Envoy::start_at_level(version, arguments.workers, &bootstrap, "info").await?,
        })
    }

    /// What the ranks that prefill found in their caches, of what they were asked for.
    pub async fn hit_rate(&self) -> Result<f64> {
        let ranks = self.prefill.as_ref().unwrap_or(&self.destinations);
        hit_rate::of_ranks(addresses(ranks).into_iter()).await
    }

    /// What became of the prefills, where they are apart.
    pub fn legs(&self) -> Option<String> {
        let prefill = self.prefill.as_ref()?;
        let sum = |pods: &SimulatedPods, count: fn(&RankHandle) -> u64| -> u64 {
            pods.ranks().iter().map(count).sum()
        };
        Some(format!(
            "{} prompts prefilled apart, {} by their decode rank; {} requests went straight to a rank that prefills",
            sum(prefill, |rank| rank.stats().prefill_legs),
            sum(&self.destinations, |rank| rank.stats().decode_only),
            sum(prefill, |rank| rank.stats().direct_requests),
        ))
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        let prefill = self.prefill.as_ref().map_or(0, |pods| pods.ranks().len());
        self.destinations.ranks().len() + prefill
    }

    pub async fn stop(self) {
        self.envoy.stop().await;
        self.destinations.shutdown().await;
        if let Some(prefill) = self.prefill {
            prefill.shutdown().await;
        }
    }
}

async fn pods(arguments: &Arguments, pods: &[Ipv4Addr], role: Role) -> Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pods.to_vec(),
        ranks_per_pod: RANKS_PER_POD,
        engine: EngineProfile::default().slowed(arguments.slowness),
        max_model_len: MAX_MODEL_LEN,
        role,
        sidecar: SidecarVersion::V0_9,
        ..PodsConfig::default()
    };
    let started = SimulatedPods::start(config).await;
    started.context("cannot start the simulated ranks")
}

fn bootstrap(
    arguments: &Arguments,
    policy: Policy,
    destinations: &SimulatedPods,
    prefill: Option<&SimulatedPods>,
) -> Result<Bootstrap> {
    let ranks = addresses(destinations);
    let prefill = prefill.map(addresses);
    let bootstrap = match (policy, &prefill) {
        (Policy::RoundRobin, None) => return Bootstrap::with_round_robin(&ranks),
        (Policy::RoundRobin, Some(prefill)) => return round_robin_of_both(prefill, &ranks),
        (Policy::RankRouter, None) => Bootstrap::with_rank_router(&ranks)?,
        (Policy::RankRouter, Some(prefill)) => Bootstrap::disaggregated(prefill, &ranks)?,
    };
    let fields: Map<String, Value> =
        serde_json::from_str(&arguments.picker).context("--picker is no JSON object")?;
    let set = |bootstrap: Bootstrap, (field, value): (String, Value)| {
        bootstrap.picker_field(&field, value)
    };
    Ok(fields.into_iter().fold(bootstrap, set))
}

/// The same gateway without the module: Envoy takes the decode ranks in turn, and a few lines of Lua those that prefill.
fn round_robin_of_both(prefill: &[SocketAddr], decode: &[SocketAddr]) -> Result<Bootstrap> {
    let names: Vec<String> = prefill.iter().map(|rank| format!("\"{rank}\"")).collect();
    let script = format!(
        "local ranks, turn = {{{}}}, 0\n\
         function envoy_on_request(handle)\n\
           turn = turn % #ranks + 1\n\
           handle:headers():replace(\"x-prefiller-host-port\", ranks[turn])\n\
         end",
        names.join(", ")
    );
    let filter = json!({"name": "turns", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": script}}});
    let bootstrap = Bootstrap::disaggregated(prefill, decode)?;
    Ok(bootstrap
        .without_filter(0)
        .without_filter(0)
        .filter(0, filter))
}

fn addresses(pods: &SimulatedPods) -> Vec<SocketAddr> {
    pods.ranks().iter().map(RankHandle::addr).collect()
}
