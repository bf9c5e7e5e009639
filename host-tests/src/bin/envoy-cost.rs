//! Measures what the module adds to Envoy's CPU time per request, against a module that does nothing.

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
use parse_cost::{Text, body};
use serde_json::json;

const SIZES: [usize; 5] = [1 << 10, 16 << 10, 128 << 10, 1 << 20, 8 << 20];
/// Bytes sent in a turn: enough that one disturbance does not decide it.
const TURN_BYTES: usize = 160 << 20;
const MOST_REQUESTS: usize = 2500;
const ROUNDS: usize = 5;

#[derive(Parser)]
#[command(about = "CPU time per request that the module adds in a real Envoy")]
struct Arguments {
    /// The module that does nothing.
    #[arg(long)]
    pass_through: PathBuf,
    /// Envoy version, as fetched by scripts/setup-envoy.
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
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
    let ours = Bootstrap::with_rank_router(&ranks)?;
    let nothing = Bootstrap::with_rank_router(&ranks)?.module(&arguments.pass_through);
    let ours = Envoy::start_at_level(&arguments.envoy, 1, &ours, "warning").await?;
    let nothing = Envoy::start_at_level(&arguments.envoy, 1, &nothing, "warning").await?;
    for bytes in SIZES {
        println!("{}", row(&ours, &nothing, bytes).await?);
    }
    Ok(())
}

/// Medians over rounds in which both had their turn.
async fn row(ours: &Envoy, nothing: &Envoy, bytes: usize) -> Result<serde_json::Value> {
    let body = String::from_utf8(body(Text::Escaped, bytes))?;
    let requests = (TURN_BYTES / bytes).clamp(20, MOST_REQUESTS);
    let (mut ours_us, mut nothing_us, mut added_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let one = turn(ours, &body, requests).await?;
        let other = turn(nothing, &body, requests).await?;
        ours_us.push(one);
        nothing_us.push(other);
        added_us.push(one - other);
    }
    Ok(json!({
        "body_bytes": body.len(), "requests_per_turn": requests, "ours_us": rounded(median(ours_us), 1),
        "pass_through_us": rounded(median(nothing_us), 1), "added_us": rounded(median(added_us), 1),
    }))
}

/// Microseconds of CPU time that Envoy takes for a request.
async fn turn(envoy: &Envoy, body: &str, requests: usize) -> Result<f64> {
    let mut connection = Connection::open(envoy.gateway(), Protocol::Http1Length).await?;
    let before = cpu_time(envoy)?;
    for _ in 0..requests {
        let request = reply::request(
            envoy.gateway(),
            Method::POST,
            "/v1/chat/completions",
            &[ECHO],
            body,
        )?;
        let reply = Reply::read(connection.send(request).await?).await?;
        ensure!(reply.status == 200, "status {}", reply.status);
    }
    Ok((cpu_time(envoy)? - before).as_secs_f64() * 1e6 / requests as f64)
}

fn cpu_time(envoy: &Envoy) -> Result<Duration> {
    process_usage::cpu_time(envoy.process_id().context("Envoy has ended")?)
}
