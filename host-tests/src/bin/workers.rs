//! What it is worth that workers know of each other: the same trace through a gateway of 1, 2 and 4 workers, with and
//! without shared state. Prints rows of JSON.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use host_tests::bootstrap::Bootstrap;
use host_tests::distribution::rounded;
use host_tests::envoy::Envoy;
use host_tests::gateway_client::GatewayClient;
use host_tests::histogram;
use host_tests::replay::{Progress, Replayed, replay};
use host_tests::sim::{EngineProfile, PodsConfig, SimulatedPods};
use host_tests::summary::Figures;
use host_tests::trace::{self, TraceRequest};
use host_tests::{hit_rate, pod_addresses, process_usage, repository};
use serde_json::{Value, json};

const PODS: u32 = 2;
const RANKS_PER_POD: u16 = 8;
/// As in the demo: a while after its start, turns of the trace build on earlier ones.
const SLICE_START: Duration = Duration::from_secs(600);
/// The longest prompt of the trace has 126,195 tokens.
const MAX_MODEL_LEN: u64 = 131_072;
/// What the simulated ranks are like, as an operator would tell the picker.
const PREFILL_TOKENS_PER_SECOND: f64 = 50_000.0;
const TRACE_SEED: u64 = 1;
/// Enough that a connection that is slow for a moment does not matter.
const CONNECTIONS_PER_WORKER: usize = 8;
/// A histogram of the module, in microseconds from a pick on one worker until another one takes it in.
const NEWS_DELAY: &str = "wasmcustom.rank_router.news_delay_us";

#[derive(Parser)]
#[command(
    about = "Replays a trace with each number of workers, with what they tell each other and without"
)]
struct Arguments {
    /// Trace to replay; without one, a trace of the same shape is generated.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// The module built with the feature `isolated`; without it the same module runs in both columns.
    #[arg(long)]
    isolated: Option<PathBuf>,
    /// Worker threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    workers: Vec<u32>,
    /// Seconds that each replay takes.
    #[arg(long, default_value_t = 45)]
    seconds: u32,
    /// How many times as fast as in the trace requests come.
    #[arg(long, default_value_t = 10.0)]
    speed: f64,
    /// Longer answers are cut to so many tokens: passing them on would take most of Envoy's CPU time, and tells nothing.
    #[arg(long, default_value_t = 32)]
    answer_tokens: u32,
    /// Tokens are this many times slower than on the GPU that the simulated ranks were measured on.
    #[arg(long, default_value_t = 2.0)]
    slowness: f64,
    /// Envoy version, as fetched by scripts/setup-envoy.
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let requests = requests(&arguments)?;
    let ours = repository::module()?;
    let isolated = arguments.isolated.as_ref().unwrap_or(&ours);
    if arguments.isolated.is_none() {
        eprintln!("no isolated module: both columns run the same one");
    }
    for &workers in &arguments.workers {
        for (state, module) in [("shared", &ours), ("isolated", isolated)] {
            let mut row = measure(&arguments, workers, module, &requests).await?;
            row["state"] = json!(state);
            row["is_same_module"] = json!(module == &ours && isolated == &ours);
            println!("{row}");
            ensure!(row["errors"] == 0, "some requests failed");
        }
    }
    Ok(())
}

fn requests(arguments: &Arguments) -> Result<Vec<TraceRequest>> {
    let length = Duration::from_secs(arguments.seconds.into()).mul_f64(arguments.speed);
    let all = match &arguments.trace {
        Some(path) => trace::read(path)?,
        None => trace::generated(SLICE_START + length, TRACE_SEED),
    };
    let mut requests = trace::slice(&all, SLICE_START, length);
    for request in &mut requests {
        request.output_tokens = request.output_tokens.min(arguments.answer_tokens);
    }
    eprintln!(
        "{} requests in {} s, {:.3} of their blocks repeat an earlier request's",
        requests.len(),
        arguments.seconds,
        trace::repeated_share(&requests)
    );
    Ok(requests)
}

/// Replays on fresh ranks and a fresh Envoy.
async fn measure(
    arguments: &Arguments,
    workers: u32,
    module: &Path,
    requests: &[TraceRequest],
) -> Result<Value> {
    let pods = start_ranks(arguments).await?;
    let ranks: Vec<SocketAddr> = pods.ranks().iter().map(|rank| rank.addr()).collect();
    let bootstrap = Bootstrap::with_rank_router(&ranks)?
        .picker_field("prefillTokensPerSecond", json!(PREFILL_TOKENS_PER_SECOND))
        .balanced_connections()
        .module(module);
    let envoy = Envoy::start_at_level(&arguments.envoy, workers, &bootstrap, "warning").await?;
    let connections = CONNECTIONS_PER_WORKER * usize::try_from(workers)?;
    let client = GatewayClient::in_turn(envoy.gateway(), connections).await?;
    let process = envoy.process_id().context("Envoy has ended")?;
    let before = process_usage::cpu_time(process)?;
    let replayed = replayed(arguments, &client, pods.model(), requests).await;
    let spent = process_usage::cpu_time(process)? - before;
    let mut row = row(&replayed, hit_rate::of_ranks(ranks.into_iter()).await?);
    row["workers"] = json!(workers);
    row["cpu_us_per_request"] = json!((spent.as_secs_f64() * 1e6 / requests.len() as f64).round());
    row["requests_by_worker"] =
        json!(requests_by_worker(&envoy, connections, requests.len()).await?);
    row["news_delay_us"] = json!(histogram::of(&envoy, NEWS_DELAY).await?);
    envoy.stop().await;
    pods.shutdown().await;
    Ok(row)
}

async fn start_ranks(arguments: &Arguments) -> Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pod_addresses::unused(PODS),
        ranks_per_pod: RANKS_PER_POD,
        engine: EngineProfile::default().slowed(arguments.slowness),
        max_model_len: MAX_MODEL_LEN,
        ..PodsConfig::default()
    };
    SimulatedPods::start(config)
        .await
        .context("cannot start the simulated ranks")
}

async fn replayed(
    arguments: &Arguments,
    client: &GatewayClient,
    model: &str,
    requests: &[TraceRequest],
) -> Replayed {
    let progress = Arc::new(Progress::default());
    let report = tokio::spawn(report_progress(progress.clone(), requests.len()));
    let replayed = replay(client, model, requests, arguments.speed, &progress).await;
    report.abort();
    replayed
        .errors
        .iter()
        .take(5)
        .for_each(|error| eprintln!("  error: {error}"));
    replayed
}

async fn report_progress(progress: Arc<Progress>, requests: usize) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let [sent, done] = [&progress.sent, &progress.done].map(|it| it.load(Ordering::Relaxed));
        eprintln!("  {sent} of {requests} sent, {done} answered");
    }
}

fn row(replayed: &Replayed, hit_rate: f64) -> Value {
    let figures = Figures::of(replayed, hit_rate);
    json!({
        "part": "replay", "requests": figures.requests, "errors": figures.errors, "hit_rate": rounded(hit_rate, 4),
        "ttft_ms": {"mean": rounded(figures.ttft_ms.mean, 1), "p99": rounded(figures.ttft_ms.p99, 1)},
        "client_late_ms": figures.worst_lag.as_millis(),
    })
}

/// Requests that each worker served: each connection carried as many, and Envoy says who has how many of them.
async fn requests_by_worker(
    envoy: &Envoy,
    connections: usize,
    requests: usize,
) -> Result<Vec<usize>> {
    let page =
        host_tests::connection::get(envoy.admin(), "/stats?filter=worker_.*downstream_cx_total")
            .await?;
    let served = page
        .lines()
        .filter(|line| line.starts_with("listener.") && !line.contains("admin"));
    let counts = served.filter_map(|line| line.rsplit_once(": ")?.1.parse::<usize>().ok());
    Ok(counts.map(|count| count * requests / connections).collect())
}
