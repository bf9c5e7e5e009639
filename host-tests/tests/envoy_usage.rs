//! What answers say of their tokens is read and used, in a real Envoy.

use anyhow::{Context, Result, ensure};
use host_tests::bootstrap::Bootstrap;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::reply::{Reply, post};
use host_tests::sim::{PodsConfig, SimulatedPods};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// A prompt of this many tokens.
fn prompt(topic: &str, tokens: usize) -> String {
    let mut text = format!("{topic}: ").repeat(tokens * 4 / (topic.len() + 2) + 1);
    text.truncate(tokens * 4);
    text
}

fn completion(topic: &str) -> Value {
    json!({"prompt": prompt(topic, 1000), "max_tokens": 2})
}

/// One rank and a gateway of so many workers before it.
async fn start(version: &str, workers: u32) -> Result<(Envoy, SimulatedPods)> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 1,
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config).await?;
    let bootstrap = Bootstrap::with_rank_router(&[pods.ranks()[0].addr()])?
        .picker_field("decideAfterIdleMs", json!(10_000));
    Ok((Envoy::start(version, workers, &bootstrap).await?, pods))
}

async fn ask(envoy: &Envoy, path: &str, body: &Value) -> Result<Reply> {
    let reply = post(envoy.gateway(), path, body).await?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(reply)
}

/// The cached tokens that an answer tells, streamed or not.
fn cached(reply: &Reply) -> Result<u64> {
    let text = std::str::from_utf8(&reply.body)?;
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let documents = events
        .chain([text])
        .filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let mut counts = documents
        .filter_map(|tree| tree["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64());
    counts.next_back().context("no cached tokens")
}

each_envoy! {
    async fn tokens_that_answers_tell_are_counted(version: &str) -> Result<()> {
        let (envoy, _pods) = start(version, 2).await?;
        let chat = json!({
            "messages": [{"role": "user", "content": prompt("reefs", 2000)}], "max_tokens": 3,
            "stream": true, "stream_options": {"include_usage": true},
        });
        let mut delivered = 0;
        for (number, (path, body)) in [
            (COMPLETIONS, completion("tides")),
            (COMPLETIONS, completion("tides")),
            (CHAT, chat.clone()),
            (CHAT, chat.clone()),
        ].into_iter().enumerate() {
            delivered += cached(&ask(&envoy, path, &body).await?)?;
            envoy.wait_for_metric("usages_read", u64::try_from(number)? + 1).await?;
        }
        assert!(delivered > 2900, "{delivered}");
        assert_eq!(envoy.metric("delivered_cached_tokens").await?, delivered);
        let predicted = envoy.metric("predicted_cached_tokens").await?;
        assert!(predicted.abs_diff(delivered) < delivered / 20, "{predicted} and {delivered}");
        assert_eq!(envoy.metric("usages_missing").await?, 0);
        Ok(())
    }

    async fn answers_that_tell_nothing_are_counted_and_change_nothing(version: &str) -> Result<()> {
        let (envoy, _pods) = start(version, 1).await?;
        let mut body = completion("tides");
        body["stream"] = json!(true);
        for number in 1..4 {
            ask(&envoy, COMPLETIONS, &body).await?;
            envoy.wait_for_metric("usages_missing", number).await?;
        }
        // No prompt, and no answer: neither is missed.
        assert_eq!(post(envoy.gateway(), COMPLETIONS, &json!({"prompt": "x", "model": "none"})).await?.status, 404);
        assert_eq!(post(envoy.gateway(), "/v1/nothing", &json!({})).await?.status, 404);
        assert_eq!(envoy.metric("usages_missing").await?, 3);
        assert_eq!(envoy.metric("usages_read").await?, 0);
        assert_eq!(envoy.metric("picks_prefix_hit").await?, 2);
        Ok(())
    }

    async fn a_rank_that_lost_its_cache_without_a_word_is_cold_after_two_misses(version: &str) -> Result<()> {
        let (envoy, pods) = start(version, 2).await?;
        for topic in ["tides", "reefs", "bays", "capes", "tides", "reefs", "bays", "capes"] {
            ask(&envoy, COMPLETIONS, &completion(topic)).await?;
        }
        envoy.wait_for_metric("usages_read", 8).await?;
        assert_eq!(envoy.metric("picks_prefix_hit").await?, 4);
        pods.ranks()[0].lose_cache();
        for topic in ["tides", "reefs"] {
            assert_eq!(cached(&ask(&envoy, COMPLETIONS, &completion(topic)).await?)?, 0);
        }
        envoy.wait_for_metric("caches_lost", 1).await?;
        let hits = envoy.metric("picks_prefix_hit").await?;
        for topic in ["bays", "capes"] {
            ask(&envoy, COMPLETIONS, &completion(topic)).await?;
        }
        assert_eq!(envoy.metric("picks_prefix_hit").await?, hits);
        // What it has again is known again.
        for topic in ["bays", "capes", "reefs"] {
            assert!(cached(&ask(&envoy, COMPLETIONS, &completion(topic)).await?)? > 900, "{topic}");
        }
        assert_eq!(envoy.metric("picks_prefix_hit").await?, hits + 3);
        assert_eq!(envoy.metric("caches_lost").await?, 1);
        Ok(())
    }
}
