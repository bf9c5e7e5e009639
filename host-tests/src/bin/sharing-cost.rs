//! Measures what workers that tell each other add to Envoy's CPU time per request, against workers that do not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::{Connection, Protocol};
use host_tests::distribution::{median, rounded};
use host_tests::envoy::Envoy;
use host_tests::reply::Reply;
use host_tests::scene::ECHO;
use host_tests::sim::{PodsConfig, SimulatedPods};
use host_tests::{pod_addresses, process_usage, reply, repository};
use hyper::Method;
use serde_json::json;

/// Prompts of 16 and 190 blocks that no rank holds: all of their blocks are told.
const BLOCKS: [usize; 2] = [16, 190];
const BLOCK_BYTES: usize = 256;
const REQUESTS: usize = 2000;
const ROUNDS: usize = 11;

#[derive(Parser)]
#[command(about = "CPU time per request that workers take to tell each other")]
struct Arguments {
    /// The module whose workers tell each other nothing.
    #[arg(long)]
    isolated: PathBuf,
    /// Envoy version, as fetched by scripts/setup-envoy.
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
    /// Envoy's workers.
    #[arg(long, default_value_t = 4)]
    workers: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let config = PodsConfig {
        pods: pod_addresses::unused(2),
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config).await?;
    let ranks: Vec<_> = pods.ranks().iter().map(|rank| rank.addr()).collect();
    let gateway =
        || Ok::<_, anyhow::Error>(Bootstrap::with_rank_router(&ranks)?.balanced_connections());
    let (shared, isolated) = (gateway()?, gateway()?.module(&arguments.isolated));
    let (version, workers) = (&arguments.envoy, arguments.workers);
    let shared = Envoy::start_at_level(version, workers, &shared, "warning").await?;
    let isolated = Envoy::start_at_level(version, workers, &isolated, "warning").await?;
    for blocks in BLOCKS {
        println!("{}", row(&shared, &isolated, workers, blocks).await?);
    }
    Ok(())
}

/// Medians over rounds in which both had their turn.
async fn row(
    shared: &Envoy,
    isolated: &Envoy,
    workers: u32,
    blocks: usize,
) -> Result<serde_json::Value> {
    let (mut shared_us, mut isolated_us, mut added_us) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let one = turn(shared, workers, blocks, round).await?;
        let other = turn(isolated, workers, blocks, round).await?;
        shared_us.push(one);
        isolated_us.push(other);
        added_us.push(one - other);
    }
    added_us.sort_by(f64::total_cmp);
    let quartile = |part: usize| rounded(added_us[added_us.len() * part / 4], 1);
    Ok(json!({
        "part": "sharing_cost", "workers": workers, "blocks": blocks, "requests_per_turn": REQUESTS,
        "shared_us": rounded(median(shared_us), 1), "isolated_us": rounded(median(isolated_us), 1),
        "added_us": quartile(2), "added_us_quartiles": [quartile(1), quartile(3)],
    }))
}

/// Microseconds of CPU time that Envoy takes for a request, each through another worker than the one before.
async fn turn(envoy: &Envoy, workers: u32, blocks: usize, round: usize) -> Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..workers {
        connections.push(Connection::open(envoy.gateway(), Protocol::Http1Length).await?);
    }
    let text = "x".repeat(BLOCK_BYTES * blocks);
    let before = cpu_time(envoy)?;
    for number in 0..REQUESTS {
        let body = json!({"prompt": format!("{round} {number} {text}")}).to_string();
        let gateway = envoy.gateway();
        let request = reply::request(gateway, Method::POST, "/v1/completions", &[ECHO], &body)?;
        let place = number % connections.len();
        let connection = connections.get_mut(place).context("no connection")?;
        let reply = Reply::read(connection.send(request).await?).await?;
        ensure!(reply.status == 200, "status {}", reply.status);
    }
    Ok((cpu_time(envoy)? - before).as_secs_f64() * 1e6 / REQUESTS as f64)
}

fn cpu_time(envoy: &Envoy) -> Result<Duration> {
    process_usage::cpu_time(envoy.process_id().context("Envoy has ended")?)
}
