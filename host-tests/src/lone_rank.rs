//! One simulated rank by itself, and what tests ask it.

use serde_json::{Value, json};

use crate::pod_addresses;
use crate::sim::{PodsConfig, RankHandle, SimulatedPods};

/// The model that `data/vllm-0.25.1` was recorded with.
pub const MODEL: &str = "sim/qwen-1b";

/// Starts it, on an address of its own.
///
/// # Errors
/// When the address is taken.
pub async fn start() -> std::io::Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 1,
        model: MODEL.to_string(),
        ..PodsConfig::default()
    };
    SimulatedPods::start(config).await
}

/// The rank.
#[must_use]
pub fn rank(pods: &SimulatedPods) -> &RankHandle {
    &pods.ranks()[0]
}

/// A body for `/v1/completions`.
#[must_use]
pub fn completion(prompt: &str, max_tokens: u64) -> Value {
    json!({"model": MODEL, "prompt": prompt, "max_tokens": max_tokens})
}

/// A body for `/v1/chat/completions`, of some 550 tokens.
#[must_use]
pub fn chat(stream: bool, max_tokens: u64) -> Value {
    json!({
        "model": MODEL, "max_tokens": max_tokens, "stream": stream, "stream_options": {"include_usage": stream},
        "messages": [{"role": "user", "content": "how high is the tide in the harbour? ".repeat(60)}],
    })
}
