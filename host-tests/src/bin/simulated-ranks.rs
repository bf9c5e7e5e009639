//! Simulated ranks as a program, with a port to break and mend them while they run.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use host_tests::sim::{
    EngineProfile, Fault, PodsConfig, RankHandle, Role, SidecarVersion, SimulatedPods,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(about = "Test doubles of vLLM ranks: several pods, each with ranks on consecutive ports")]
struct Arguments {
    /// Addresses of the pods, in 127.0.0.0/8, parted by commas.
    #[arg(long, value_delimiter = ',', default_value = "127.0.1.1,127.0.1.2")]
    pods: Vec<Ipv4Addr>,
    /// Ranks of each pod.
    #[arg(long, default_value_t = 8)]
    ranks_per_pod: u16,
    /// Port of the first rank of each pod.
    #[arg(long, default_value_t = 8000)]
    base_port: u16,
    /// Name of the model.
    #[arg(long, default_value = "simulated")]
    model: String,
    /// Tokens of a prompt and its answer together.
    #[arg(long, default_value_t = 131_072)]
    max_model_len: u64,
    /// KV cache of each rank, in tokens.
    #[arg(long, default_value_t = 392_464)]
    capacity_tokens: u64,
    /// How many times as slow as the measured GPU.
    #[arg(long, default_value_t = 1.0)]
    slowness: f64,
    /// What the ranks of --pods are for. A decode rank stands behind a sidecar, which has a prompt prefilled on the rank that
    /// the header x-prefiller-host-port names.
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// Addresses of further pods whose ranks only prefill, parted by commas; otherwise like those of --pods.
    #[arg(long, value_delimiter = ',')]
    prefill_pods: Vec<Ipv4Addr>,
    /// How the sidecars behave when a prefill leg fails: v0.8 has the decode rank prefill, v0.9 passes the error on.
    #[arg(long, value_enum, default_value_t)]
    sidecar_version: SidecarVersion,
    /// KV blocks of 16 tokens that a decode rank receives in a second. The default is what a network card of 400 Gbit/s
    /// brings of DeepSeek-V3's.
    #[arg(long, default_value_t = PodsConfig::default().transfer_blocks_per_second)]
    transfer_blocks_per_second: f64,
    /// Answer 503 until a switch sets the fault none.
    #[arg(long)]
    not_ready: bool,
    /// Where to read and throw the switches: GET /ranks, PUT /ranks/<ip:port>/fault with {"fault": "slow", "factor": 5}
    /// (or none, failing with a status, hanging, dead, reset, notready, nometrics), POST /ranks/<ip:port>/restart.
    #[arg(long, default_value = "127.0.0.1:9900")]
    control: SocketAddr,
    /// End when whoever started this ends, however that comes about.
    #[arg(long)]
    with_parent: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let control = arguments.control;
    if arguments.with_parent {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    let pods = start(arguments).await.context("cannot start the ranks")?;
    let ranks: Arc<[RankHandle]> = pods.iter().flat_map(|pods| pods.ranks()).cloned().collect();
    let listener = TcpListener::bind(control)
        .await
        .with_context(|| format!("cannot listen on {control}"))?;
    let control = listener.local_addr()?;
    println!(
        "{} simulated ranks are up, switches on http://{control}/ranks",
        ranks.len()
    );
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = serve_control(listener, ranks) => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    for pods in pods {
        pods.shutdown().await;
    }
    Ok(())
}

/// Starts the pods and those that only prefill; each kind is a deployment of its own, whose ranks count from 0.
async fn start(arguments: Arguments) -> std::io::Result<[SimulatedPods; 2]> {
    let prefill_pods = arguments.prefill_pods.clone();
    let config = config(arguments);
    let prefill = PodsConfig {
        pods: prefill_pods,
        role: Role::Prefill,
        ..config.clone()
    };
    Ok([
        SimulatedPods::start(config).await?,
        SimulatedPods::start(prefill).await?,
    ])
}

fn config(arguments: Arguments) -> PodsConfig {
    PodsConfig {
        pods: arguments.pods,
        ranks_per_pod: arguments.ranks_per_pod,
        base_port: arguments.base_port,
        model: arguments.model,
        max_model_len: arguments.max_model_len,
        capacity_tokens: arguments.capacity_tokens,
        engine: EngineProfile::default().slowed(arguments.slowness),
        role: arguments.role,
        sidecar: arguments.sidecar_version,
        transfer_blocks_per_second: arguments.transfer_blocks_per_second,
        starts_with: if arguments.not_ready {
            Fault::NotReady
        } else {
            Fault::None
        },
        ..PodsConfig::default()
    }
}

async fn serve_control(listener: TcpListener, ranks: Arc<[RankHandle]>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let ranks = ranks.clone();
        let service = service_fn(move |request| {
            let ranks = ranks.clone();
            async move { Ok::<_, Infallible>(answer(&ranks, request).await) }
        });
        tokio::spawn(async move {
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
        });
    }
}

async fn answer(ranks: &[RankHandle], request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_string();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let named = |address: &str| ranks.iter().find(|rank| rank.addr().to_string() == address);
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["ranks"]) => json(StatusCode::OK, &ranks.iter().map(describe).collect()),
        (&Method::PUT, ["ranks", address, "fault"]) => match named(address) {
            Some(rank) => set_fault(rank, request).await,
            None => json(
                StatusCode::NOT_FOUND,
                &json!({"error": format!("no rank {address}")}),
            ),
        },
        (&Method::POST, ["ranks", address, "restart"]) => match named(address) {
            Some(rank) => {
                rank.restart();
                json(StatusCode::OK, &describe(rank))
            }
            None => json(
                StatusCode::NOT_FOUND,
                &json!({"error": format!("no rank {address}")}),
            ),
        },
        _ => json(
            StatusCode::NOT_FOUND,
            &json!({"error": "see simulated-ranks --help for --control"}),
        ),
    }
}

async fn set_fault(rank: &RankHandle, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => {
            rank.set_fault(fault).await;
            json(StatusCode::OK, &describe(rank))
        }
        Err(error) => json(
            StatusCode::BAD_REQUEST,
            &json!({"error": format!("no fault: {error}")}),
        ),
    }
}

fn describe(rank: &RankHandle) -> Value {
    let stats = rank.stats();
    json!({
        "rank": rank.addr().to_string(), "role": rank.role(), "fault": rank.fault(),
        "open_requests": stats.open_requests, "running": stats.running, "waiting": stats.waiting,
        "transferring": stats.transferring, "cache_usage": stats.cache_usage,
        "direct_requests": stats.direct_requests, "prefill_legs": stats.prefill_legs,
        "decode_only": stats.decode_only, "legs_failed": stats.legs_failed,
        "legs_fallen_back": stats.legs_fallen_back,
        "prefix_queries": stats.counts.queries, "prefix_hits": stats.counts.hits,
        "generation_tokens": stats.counts.generation_tokens,
    })
}

fn json(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response
}
