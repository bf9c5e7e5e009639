//! A slice of a trace through a real Envoy, before simulated ranks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use host_tests::bootstrap::Bootstrap;
use host_tests::envoy::Envoy;
use host_tests::gateway_client::GatewayClient;
use host_tests::replay::{Call, Progress, Replayed, send_when_due};
use host_tests::sim::{PodsConfig, SimulatedPods};
use host_tests::summary::Ttft;
use host_tests::{pod_addresses, process_usage};
use replay::order::Measured;
use replay::profile::Profile;

/// Enough that a connection that is slow for a moment does not matter.
const CONNECTIONS_PER_WORKER: usize = 8;

/// Envoy and the ranks behind it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Envoy's version.
    pub envoy: String,
    /// Its worker threads.
    pub workers: u32,
    /// Pods.
    pub pods: u32,
    /// Ranks of each.
    pub ranks_per_pod: u16,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct LiveRun {
    /// Its figures.
    pub measured: Measured,
    /// The rank that answered each request.
    pub picks: Vec<usize>,
    /// How late the client was at worst.
    pub worst_lag: Duration,
    /// CPU time of Envoy, ranks and client, as a share of what the machine has.
    pub cpu_share: f64,
}

impl Site {
    /// Sends requests when they are due, to fresh ranks behind a fresh Envoy.
    pub async fn run(&self, policy: &str, profile: &Profile, calls: &[Call]) -> Result<LiveRun> {
        let pods = SimulatedPods::start(self.pods_config(profile)).await;
        let pods = pods.context("cannot start the simulated ranks")?;
        let ranks: Vec<SocketAddr> = pods.ranks().iter().map(|rank| rank.addr()).collect();
        let bootstrap = bootstrap(policy, &ranks)?.balanced_connections();
        let envoy = Envoy::start_at_level(&self.envoy, self.workers, &bootstrap, "warning").await?;
        let connections = CONNECTIONS_PER_WORKER * usize::try_from(self.workers)?;
        let client = GatewayClient::in_turn(envoy.gateway(), connections).await?;
        let (began, before) = (Instant::now(), cpu_time(&envoy)?);
        let progress = Arc::new(Progress::default());
        let calls = calls.iter().cloned();
        let replayed = send_when_due(&client, "/v1/completions", calls, &progress).await;
        let cores = std::thread::available_parallelism()?.get() as f64;
        let spent = cpu_time(&envoy)?.saturating_sub(before).as_secs_f64();
        let cpu_share = spent / (began.elapsed().as_secs_f64() * cores);
        envoy.stop().await;
        pods.shutdown().await;
        ensure!(replayed.errors.is_empty(), "{:?}", replayed.errors);
        Ok(LiveRun {
            measured: measured(&replayed),
            picks: picks(&replayed, &ranks)?,
            worst_lag: replayed.worst_lag,
            cpu_share,
        })
    }

    fn pods_config(&self, profile: &Profile) -> PodsConfig {
        PodsConfig {
            pods: pod_addresses::unused(self.pods),
            ranks_per_pod: self.ranks_per_pod,
            engine: profile.costs,
            capacity_tokens: profile.capacity_tokens,
            max_num_batched_tokens: profile.step_tokens,
            max_model_len: profile.capacity_tokens,
            ..PodsConfig::default()
        }
    }
}

/// Bodies with the times at which they are due.
pub fn calls(bodies: &[Bytes], at_ms: impl Iterator<Item = f64>) -> Vec<Call> {
    let call = |(body, ms): (&Bytes, f64)| Call {
        at: Duration::from_secs_f64(ms / 1000.0),
        body: body.clone(),
    };
    bodies.iter().zip(at_ms).map(call).collect()
}

fn bootstrap(policy: &str, ranks: &[SocketAddr]) -> Result<Bootstrap> {
    Ok(match policy {
        "ours" => Bootstrap::with_rank_router(ranks)?,
        "least-request" => Bootstrap::with_round_robin(ranks)?.balance("LEAST_REQUEST"),
        _ => Bootstrap::with_round_robin(ranks)?,
    })
}

/// Of this process, which has the ranks and the client, and of Envoy.
fn cpu_time(envoy: &Envoy) -> Result<Duration> {
    let process = envoy.process_id().context("Envoy has ended")?;
    Ok(process_usage::cpu_time(process)? + process_usage::cpu_time(std::process::id())?)
}

fn measured(replayed: &Replayed) -> Measured {
    let answers = &replayed.answers;
    let times = answers
        .iter()
        .map(|answer| answer.ttft.as_secs_f64() * 1000.0);
    let cached: u64 = answers.iter().map(|answer| answer.cached_tokens).sum();
    let prompts: u64 = answers.iter().map(|answer| answer.prompt_tokens).sum();
    Measured {
        hit_rate: cached as f64 / prompts.max(1) as f64,
        ttft_ms: Ttft::of(times.collect()),
    }
}

fn picks(replayed: &Replayed, ranks: &[SocketAddr]) -> Result<Vec<usize>> {
    let places: HashMap<String, usize> = ranks.iter().map(ToString::to_string).zip(0..).collect();
    let mut picks = vec![0; replayed.answers.len()];
    for answer in &replayed.answers {
        let place = places.get(&answer.rank);
        picks[answer.number] = *place.with_context(|| format!("no rank {}", answer.rank))?;
    }
    Ok(picks)
}
