//! The metrics page of a simulated rank against that of a real vLLM 0.25.1.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use host_tests::connection::get;
use host_tests::lone_rank::{self, chat, completion, rank};
use host_tests::pod_addresses;
use host_tests::reply::{post, send};
use host_tests::sim::{Fault, PodsConfig, SimulatedPods};
use hyper::Method;
use serde_json::json;

/// Family to type and help; series names with labels, without values.
fn families(page: &str) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut described, mut series) = (BTreeMap::<String, String>::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some(rest) = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "))
        {
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            described
                .entry(name.to_string())
                .or_default()
                .push_str(&format!("{text}\n"));
        } else if let Some((name, _)) = line.rsplit_once(' ') {
            series.insert(name.to_string());
        }
    }
    (described, series)
}

#[tokio::test]
async fn the_metrics_page_after_some_requests_has_the_recorded_families_and_series() -> Result<()> {
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    send(to, Method::GET, "/v1/models", &[], "").await?;
    post(to, "/v1/completions", &completion("tide", 2)).await?;
    post(
        to,
        "/v1/completions",
        &json!({"model": "nope", "prompt": "x"}),
    )
    .await?;
    post(to, "/v1/chat/completions", &chat(false, 2)).await?;
    rank(&pods).set_fault(Fault::Failing { status: 500 }).await;
    post(to, "/v1/completions", &completion("tide", 2)).await?;
    let (described, series) = families(&get(to, "/metrics").await?);
    let (recorded_description, recorded_series) =
        families(include_str!("../data/vllm-0.25.1/metrics_after.txt"));
    assert_eq!(described, recorded_description);
    // Endpoints that the simulation lacks, and the cache's size, which a test chooses.
    let is_other = |name: &String| {
        ["/v1/responses", "/v1/messages", "cache_config_info"]
            .iter()
            .any(|part| name.contains(part))
    };
    let ours: BTreeSet<&String> = series.iter().filter(|name| !is_other(name)).collect();
    let theirs: BTreeSet<&String> = recorded_series
        .iter()
        .filter(|name| !is_other(name))
        .collect();
    let differences: Vec<_> = ours.symmetric_difference(&theirs).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    Ok(())
}

/// The value of a series whose name and labels contain all these parts.
fn value(page: &str, parts: &[&str]) -> f64 {
    let line = page
        .lines()
        .find(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .expect("a series")
}

#[tokio::test]
async fn counters_count() -> Result<()> {
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    let text = "x".repeat(4 * 160);
    for _ in 0..2 {
        post(to, "/v1/completions", &completion(&text, 5)).await?;
    }
    let page = get(to, "/metrics").await?;
    for (name, expected) in [
        ("vllm:prefix_cache_queries_total", 320.0),
        ("vllm:prefix_cache_hits_total", 144.0),
        ("vllm:prompt_tokens_total", 320.0),
        ("vllm:generation_tokens_total", 10.0),
        ("vllm:prompt_tokens_cached_total", 144.0),
        ("vllm:iteration_tokens_total_sum", 186.0),
        ("vllm:iteration_tokens_total_count", 10.0),
        ("vllm:time_to_first_token_seconds_count", 2.0),
        ("vllm:inter_token_latency_seconds_count", 8.0),
        ("vllm:request_prompt_tokens_sum", 320.0),
        ("vllm:num_requests_running", 0.0),
    ] {
        assert_eq!(value(&page, &[name]), expected, "{name}");
    }
    assert_eq!(
        value(&page, &["vllm:request_success_total", "\"length\""]),
        2.0
    );
    assert_eq!(
        value(&page, &["http_requests_total", "/v1/completions", "2xx"]),
        2.0
    );
    assert_eq!(
        value(&page, &["vllm:time_to_first_token_seconds_bucket", "+Inf"]),
        2.0
    );
    Ok(())
}

#[tokio::test]
async fn every_rank_has_its_own_engine_label() -> Result<()> {
    let config = PodsConfig {
        pods: pod_addresses::unused(2),
        ranks_per_pod: 2,
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config).await?;
    for (number, rank) in pods.ranks().iter().enumerate() {
        let page = get(rank.addr(), "/metrics").await?;
        let running = format!("vllm:num_requests_running{{engine=\"{number}\"");
        assert!(page.contains(&running), "{running}");
    }
    Ok(())
}
