//! The same slice of a trace in a real Envoy before simulated ranks, and in the replay: do policies have the same order?

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use host_tests::bootstrap::Bootstrap;
use host_tests::distribution::median;
use host_tests::envoy::Envoy;
use host_tests::gateway_client::GatewayClient;
use host_tests::replay::{Progress, replay};
use host_tests::sim::{PodsConfig, SimulatedPods};
use host_tests::trace::{self, TraceRequest};
use host_tests::{hit_rate, pod_addresses, repository, summary};
use replay::engine::BLOCK_TOKENS;
use replay::figures::Figures;
use replay::gateways::Gateways;
use replay::order::{Measured, POLICIES, markdown, verdict};
use replay::peers::Setup;
use replay::policies;
use replay::profile::{self, Profile};
use replay::reports::ReportTiming;
use replay::simulation::{Feed, run};
use replay::workload;

const PODS: u32 = 2;
const RANKS_PER_POD: u16 = 8;
const RANKS: usize = 16;
/// As in the demo: a while after its start, turns of the trace build on earlier ones.
const SLICE_START: Duration = Duration::from_secs(600);
/// The longest prompt of the trace has 126,195 tokens.
const MAX_MODEL_LEN: u64 = 131_072;
const TRACE_SEED: u64 = 1;
/// Reports are under way as long as in the table of the replay.
const REPORT_DELAY_MS: f64 = 5.0;

#[derive(Parser)]
#[command(
    about = "Compares the order of policies in a real Envoy with that in the replay; fails where it differs"
)]
struct Arguments {
    /// Trace to replay; without one, a trace of the same shape is generated.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Seconds that each run in Envoy takes.
    #[arg(long, default_value_t = 45)]
    seconds: u32,
    /// How often each policy runs in Envoy; in turns, and the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many times as fast as in the trace requests come.
    #[arg(long, default_value_t = 6.0)]
    speed: f64,
    /// Tokens are this many times slower than on the GPU that the simulated ranks were measured on.
    #[arg(long, default_value_t = 2.0)]
    slowness: f64,
    /// Envoy worker threads.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Envoy version, as fetched by scripts/setup-envoy.
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let requests = requests(&arguments)?;
    let mut live: Vec<Vec<Measured>> = vec![Vec::new(); POLICIES.len()];
    for round in 1..=arguments.rounds {
        for (policy, runs) in POLICIES.iter().zip(&mut live) {
            eprintln!("round {round} of {}: {policy} in Envoy", arguments.rounds);
            runs.push(in_envoy(&arguments, policy, &requests).await?);
        }
    }
    let live: Vec<Measured> = live.iter().map(|runs| medians(runs)).collect();
    let replayed = POLICIES
        .iter()
        .map(|policy| in_replay(&arguments, policy, &requests));
    let replayed = replayed.collect::<Result<Vec<_>>>()?;
    println!("{}", markdown(&live, &replayed));
    let verdict = verdict(&live, &replayed);
    println!("{verdict}");
    ensure!(verdict.is_same(), "the order is not the same");
    Ok(())
}

fn requests(arguments: &Arguments) -> Result<Vec<TraceRequest>> {
    let length = Duration::from_secs(arguments.seconds.into()).mul_f64(arguments.speed);
    let all = match &arguments.trace {
        Some(path) => trace::read(path)?,
        None => {
            eprintln!("no --trace: replaying a generated one");
            trace::generated(SLICE_START + length, TRACE_SEED)
        }
    };
    let requests = trace::slice(&all, SLICE_START, length);
    eprintln!("{} requests in {} s", requests.len(), arguments.seconds);
    Ok(requests)
}

fn engine(arguments: &Arguments) -> Profile {
    let dense = profile::dense();
    Profile {
        costs: dense.costs.slowed(arguments.slowness),
        ..dense
    }
}

async fn in_envoy(
    arguments: &Arguments,
    policy: &str,
    requests: &[TraceRequest],
) -> Result<Measured> {
    let config = PodsConfig {
        pods: pod_addresses::unused(PODS),
        ranks_per_pod: RANKS_PER_POD,
        engine: engine(arguments).costs,
        max_model_len: MAX_MODEL_LEN,
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config)
        .await
        .context("cannot start the simulated ranks")?;
    let ranks: Vec<SocketAddr> = pods.ranks().iter().map(|rank| rank.addr()).collect();
    let bootstrap = match policy {
        "ours" => Bootstrap::with_rank_router(&ranks)?,
        "least-request" => Bootstrap::with_round_robin(&ranks)?.balance("LEAST_REQUEST"),
        _ => Bootstrap::with_round_robin(&ranks)?,
    };
    let envoy = Envoy::start(&arguments.envoy, arguments.workers, &bootstrap).await?;
    let client = GatewayClient::as_needed(envoy.gateway());
    let progress = Arc::new(Progress::default());
    let replayed = replay(&client, pods.model(), requests, arguments.speed, &progress).await;
    let hit_rate = hit_rate::of_ranks(ranks.into_iter()).await?;
    envoy.stop().await;
    pods.shutdown().await;
    let figures = summary::Figures::of(&replayed, hit_rate);
    ensure!(figures.errors == 0, "{} requests failed", figures.errors);
    Ok(Measured {
        hit_rate,
        mean_ms: figures.ttft_ms.mean,
        p50_ms: figures.ttft_ms.p50,
        p90_ms: figures.ttft_ms.p90,
        p99_ms: figures.ttft_ms.p99,
    })
}

fn in_replay(arguments: &Arguments, policy: &str, requests: &[TraceRequest]) -> Result<Measured> {
    let profile = engine(arguments);
    let window = requests.iter().map(|request| {
        workload::TraceRequest::new(
            request.at.as_secs_f64() * 1000.0,
            request.input_tokens.into(),
            request.output_tokens.into(),
            &request.blocks,
        )
    });
    let window: Vec<workload::TraceRequest> = window.collect();
    let per_second = workload::rate_per_second(&window) * arguments.speed;
    let setup = Setup {
        ranks: RANKS,
        ranks_per_pod: RANKS_PER_POD.into(),
        capacity_tokens: profile.capacity_tokens,
        reports_capacity: true,
        block_tokens: BLOCK_TOKENS,
        seed: 1,
    };
    let gateways = Gateways::new(vec![policies::named(policy, &setup)?], RANKS, 1);
    let timing = ReportTiming {
        interval_ms: policies::report_interval_ms(policy),
        delay_ms: REPORT_DELAY_MS,
    };
    let requests = workload::scaled(&window, per_second);
    let outcome = run(&requests, profile, RANKS, gateways, timing, Feed::Open)?;
    let figures = Figures::of(&outcome, &profile);
    Ok(Measured {
        hit_rate: figures.hit_rate,
        mean_ms: figures.ttft_mean_s * 1000.0,
        p50_ms: figures.ttft_p50_s * 1000.0,
        p90_ms: figures.ttft_p90_s * 1000.0,
        p99_ms: figures.ttft_p99_s * 1000.0,
    })
}

fn medians(runs: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> f64| median(runs.iter().map(figure).collect());
    Measured {
        hit_rate: of(|run| run.hit_rate),
        mean_ms: of(|run| run.mean_ms),
        p50_ms: of(|run| run.p50_ms),
        p90_ms: of(|run| run.p90_ms),
        p99_ms: of(|run| run.p99_ms),
    }
}
