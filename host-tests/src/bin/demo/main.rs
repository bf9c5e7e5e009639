//! Replays real traffic through the gateway, once with rank-router and once with Envoy's round robin, and compares.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use host_tests::gateway_client::GatewayClient;
use host_tests::replay::{Progress, replay};
use host_tests::repository;
use host_tests::summary::{Figures, Summary};
use host_tests::trace::{self, TraceRequest};

mod fleet;

use fleet::Fleet;

/// Two pods of eight ranks each, as `manifests/envoy` has them.
const PODS: &str = "127.0.1.1,127.0.1.2";
/// The trace starts with empty chats; a while later turns build on earlier ones.
const SLICE_START: Duration = Duration::from_secs(600);
/// Two more that prefill, as `manifests/envoy/disaggregated.yaml` has them.
const PREFILL_PODS: &str = "127.0.1.3,127.0.1.4";
/// What the simulated ranks are like, as an operator would tell the picker.
const PICKER: &str = r#"{"prefillTokensPerSecond": 50000}"#;
/// From the top of the repository.
const SUMMARY: &str = "target/demo/summary.json";
const TRACE_SEED: u64 = 1;

#[derive(Parser)]
#[command(about = "rank-router against round robin, on simulated ranks behind a real Envoy")]
struct Arguments {
    /// Trace to replay; without one, a trace of the same shape is generated.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Seconds that each of the two replays takes.
    #[arg(long, default_value_t = 45)]
    seconds: u32,
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
    /// Addresses of the pods, in 127.0.0.0/8.
    #[arg(long, value_delimiter = ',', default_value = PODS)]
    pods: Vec<Ipv4Addr>,
    /// Prefill and decode apart: two more pods of eight ranks prefill, and those of --pods decode behind sidecars.
    #[arg(long)]
    disaggregated: bool,
    /// Addresses of the pods that prefill.
    #[arg(long, value_delimiter = ',', default_value = PREFILL_PODS)]
    prefill_pods: Vec<Ipv4Addr>,
    /// Where to write the figures.
    #[arg(long, default_value = SUMMARY)]
    summary: PathBuf,
    /// Fields of the picker's configuration, as JSON, such as '{"missWeight": 1}'.
    #[arg(long, default_value = PICKER)]
    picker: String,
    /// Leave gateway and ranks running for play, until Ctrl-C; replays nothing.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy)]
enum Policy {
    RankRouter,
    RoundRobin,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        done = run(&arguments) => done,
        _ = tokio::signal::ctrl_c() => { println!("\nstopped"); Ok(()) }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    if arguments.keep {
        return keep(arguments).await;
    }
    let requests = requests(arguments)?;
    println!(
        "{} requests in {} s, {} times as fast as in the trace",
        requests.len(),
        arguments.seconds,
        arguments.speed
    );
    let most = trace::repeated_share(&requests);
    println!("{most:.3} of their blocks repeat an earlier request's: no hit rate can be higher");
    let ours = measure(arguments, Policy::RankRouter, &requests).await?;
    let round_robin = measure(arguments, Policy::RoundRobin, &requests).await?;
    let summary = Summary { ours, round_robin };
    print!("\n{}", summary.table());
    write_summary(&arguments.summary, &summary)?;
    ensure!(
        summary.ours.errors + summary.round_robin.errors == 0,
        "some requests failed"
    );
    Ok(())
}

fn requests(arguments: &Arguments) -> Result<Vec<TraceRequest>> {
    let length = Duration::from_secs(u64::from(arguments.seconds)).mul_f64(arguments.speed);
    if let Some(path) = &arguments.trace {
        println!(
            "trace: {}, from second {} on",
            path.display(),
            SLICE_START.as_secs()
        );
        return Ok(trace::slice(&trace::read(path)?, SLICE_START, length));
    }
    println!(
        "trace: generated, of the shape of Mooncake's conversation trace (pass one with --trace)"
    );
    Ok(trace::slice(
        &trace::generated(SLICE_START + length, TRACE_SEED),
        SLICE_START,
        length,
    ))
}

/// Replays on fresh ranks and a fresh Envoy.
async fn measure(
    arguments: &Arguments,
    policy: Policy,
    requests: &[TraceRequest],
) -> Result<Figures> {
    let fleet = Fleet::start(arguments, policy).await?;
    let progress = Arc::new(Progress::default());
    let report = tokio::spawn(report_progress(
        policy.name(),
        progress.clone(),
        requests.len(),
    ));
    let replayed = replay(
        &GatewayClient::as_needed(fleet.envoy.gateway()),
        fleet.destinations.model(),
        requests,
        arguments.speed,
        &progress,
    )
    .await;
    report.abort();
    let hit_rate = fleet.hit_rate().await?;
    println!(
        "  {}: {} of {} answered",
        policy.name(),
        replayed.answers.len(),
        requests.len()
    );
    replayed
        .errors
        .iter()
        .take(5)
        .for_each(|error| println!("  error: {error}"));
    if let Some(legs) = fleet.legs() {
        println!("  {}: {legs}", policy.name());
    }
    fleet.stop().await;
    Ok(Figures::of(&replayed, hit_rate))
}

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Self::RankRouter => "rank-router",
            Self::RoundRobin => "round robin",
        }
    }
}

async fn report_progress(name: &str, progress: Arc<Progress>, requests: usize) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (sent, done) = (
            progress.sent.load(Ordering::Relaxed),
            progress.done.load(Ordering::Relaxed),
        );
        println!("  {name}: {sent} of {requests} sent, {done} answered");
    }
}

fn write_summary(path: &Path, summary: &Summary) -> Result<()> {
    let full = repository::root().join(path);
    std::fs::create_dir_all(full.parent().unwrap_or(&full))?;
    std::fs::write(&full, serde_json::to_string_pretty(summary)?)
        .with_context(|| format!("cannot write {}", full.display()))?;
    println!("\nalso in {}", path.display());
    Ok(())
}

async fn keep(arguments: &Arguments) -> Result<()> {
    let fleet = Fleet::start(arguments, Policy::RankRouter).await?;
    let (gateway, admin) = (fleet.envoy.gateway(), fleet.envoy.admin());
    let model = fleet.destinations.model();
    let rank = fleet
        .destinations
        .ranks()
        .first()
        .context("no ranks")?
        .addr();
    println!(
        "\ngateway and {} ranks are up. Three commands to play with:\n",
        fleet.ranks()
    );
    println!(
        "# A long prompt, twice: the same rank answers (x-simulated-rank), the second time from its cache."
    );
    println!("curl -si http://{gateway}/v1/completions -H 'content-type: application/json' \\");
    println!(
        "  -d '{{\"model\":\"{model}\",\"max_tokens\":8,\"prompt\":\"'\"$(seq -s, 1 2000)\"'\"}}'\n"
    );
    println!("# What the module counted.");
    println!("curl -s 'http://{admin}/stats?filter=rank_router'\n");
    println!("# What a rank says about itself, as vLLM does.");
    println!("curl -s http://{rank}/metrics | grep -v '#'\n");
    println!("Ctrl-C ends it all.");
    std::future::pending().await
}
