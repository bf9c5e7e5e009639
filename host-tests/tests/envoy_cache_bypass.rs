//! Requests that make a rank compute all of their prompt teach nothing about its cache, in a real Envoy.

use anyhow::{Result, ensure};
use host_tests::bootstrap::Bootstrap;
use host_tests::each_envoy;
use host_tests::hit_rate;
use host_tests::reply::post;
use host_tests::scene::Scene;
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const CONVERSATIONS: usize = 12;
/// Honest requests that bypass the prefix cache.
const BYPASSING: usize = 24;

/// A turn of a conversation, counted from 1: some 400 tokens more than the one before.
fn text(conversation: usize, turn: usize) -> String {
    let line = format!("conversation {conversation} goes on: ");
    line.repeat(turn * 1600 / line.len())
}

fn completion(text: &str) -> Value {
    json!({"prompt": text, "max_tokens": 2})
}

fn chat(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}], "max_tokens": 2})
}

/// How the requests of a test are written: their path, and a body around a text.
#[derive(Clone, Copy)]
struct Api {
    path: &'static str,
    body: fn(&str) -> Value,
}

const BY_COMPLETION: Api = Api {
    path: COMPLETIONS,
    body: completion,
};
const BY_CHAT: Api = Api {
    path: CHAT,
    body: chat,
};

struct Gateway {
    scene: Scene,
    asked: u64,
}

impl Gateway {
    async fn start(version: &str, adapt: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<Self> {
        let scene = Scene::start(version, 2, 2, adapt).await?;
        Ok(Self { scene, asked: 0 })
    }

    async fn ask(&mut self, api: Api, text: &str, extra: &Value) -> Result<()> {
        let mut body = (api.body)(text);
        for (key, value) in extra.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let reply = post(self.scene.envoy.gateway(), api.path, &body).await?;
        ensure!(reply.status == 200, "{reply:?}");
        self.asked += 1;
        Ok(())
    }

    /// Waits until what all answers told was taken in.
    async fn settle(&self) -> Result<()> {
        let envoy = &self.scene.envoy;
        envoy.wait_for_metric("usages_read", self.asked).await
    }

    /// One more turn of every conversation; gives the cached share of all that the turn before held, by the ranks' own count.
    async fn turn(&mut self, api: Api, turn: usize) -> Result<f64> {
        let before = self.lookups().await?;
        for conversation in 0..CONVERSATIONS {
            self.ask(api, &text(conversation, turn), &json!({})).await?;
        }
        self.settle().await?;
        let after = self.lookups().await?;
        let share = (after.0 - before.0) / (after.1 - before.1);
        Ok(share * turn as f64 / (turn.max(2) - 1) as f64)
    }

    /// Tokens found in the ranks' caches, and tokens looked up there.
    async fn lookups(&self) -> Result<(f64, f64)> {
        hit_rate::lookups(self.scene.addresses().into_iter()).await
    }

    async fn metrics<const N: usize>(&self, names: [&str; N]) -> Result<[u64; N]> {
        let mut values = [0; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = self.scene.envoy.metric(name).await?;
        }
        Ok(values)
    }
}

/// Conversations, then honest requests with these fields, then the conversations again: nothing has changed for them.
async fn teaches_nothing(version: &str, api: Api, fields: &[Value], is_known: bool) -> Result<()> {
    const SUMS: [&str; 3] = [
        "predicted_cached_tokens",
        "delivered_cached_tokens",
        "caches_lost",
    ];
    let mut gateway = Gateway::start(version, |b| b).await?;
    for turn in [2, 4, 5] {
        gateway.turn(api, turn).await?;
    }
    let before = gateway.turn(api, 6).await?;
    let [predicted, delivered, _] = gateway.metrics(SUMS).await?;
    for number in 0..BYPASSING {
        let fields = &fields[number % fields.len()];
        let text = text(number % CONVERSATIONS, 6);
        gateway.ask(api, &text, fields).await?;
    }
    gateway.settle().await?;
    let [predicted_behind, delivered_behind, lost] = gateway.metrics(SUMS).await?;
    assert_eq!((delivered_behind, lost), (delivered, 0));
    if is_known {
        assert_eq!(predicted_behind, predicted, "a whole miss is expected");
    }
    let after = gateway.turn(api, 7).await?;
    println!("{version}: cached share {before:.4} before, {after:.4} after {fields:?}");
    assert!(
        (after - before).abs() < 0.02,
        "{before} before, {after} after"
    );
    assert!(before > 0.97, "{before} before");
    let [predicted_last, delivered_last, lost] = gateway.metrics(SUMS).await?;
    let (believed, found) = (
        predicted_last - predicted_behind,
        delivered_last - delivered,
    );
    assert!(
        believed.abs_diff(found) < found / 50,
        "believed {believed}, found {found}"
    );
    assert_eq!(lost, 0);
    Ok(())
}

each_envoy! {
    async fn logprobs_of_prompts_teach_nothing(version: &str) -> Result<()> {
        let fields = [json!({"prompt_logprobs": 1}), json!({"prompt_logprobs": 0})];
        teaches_nothing(version, BY_COMPLETION, &fields, true).await
    }

    async fn echoed_logprobs_teach_nothing(version: &str) -> Result<()> {
        let fields = [json!({"echo": true, "logprobs": 2})];
        teaches_nothing(version, BY_COMPLETION, &fields, true).await
    }

    async fn logprobs_of_chats_teach_nothing(version: &str) -> Result<()> {
        let fields = [json!({"prompt_logprobs": 5}), json!({"echo": true})];
        teaches_nothing(version, BY_CHAT, &fields, true).await
    }

    async fn a_field_that_nobody_knows_teaches_nothing(version: &str) -> Result<()> {
        let fields = [json!({"simulated_skip_cache": true})];
        teaches_nothing(version, BY_COMPLETION, &fields, false).await
    }

    async fn a_rank_that_lost_its_cache_is_found_beside_all_of_these(version: &str) -> Result<()> {
        let mut gateway = Gateway::start(version, |b| b).await?;
        for turn in 1..=3 {
            gateway.turn(BY_COMPLETION, turn).await?;
        }
        gateway.scene.pods.ranks().iter().for_each(|rank| rank.lose_cache());
        for number in 0..CONVERSATIONS {
            for fields in [json!({"prompt_logprobs": 1}), json!({"simulated_skip_cache": true})] {
                gateway.ask(BY_COMPLETION, &text(100 + number, 1), &fields).await?;
            }
            gateway.ask(BY_COMPLETION, &text(number, 4), &json!({})).await?;
        }
        gateway.settle().await?;
        let [lost] = gateway.metrics(["caches_lost"]).await?;
        // Of four ranks those with two conversations or more.
        assert!((1..=4).contains(&lost), "{lost} caches found lost");
        assert!(gateway.turn(BY_COMPLETION, 5).await? > 0.9);
        Ok(())
    }

    async fn with_a_seed_of_hashes_conversations_are_cached_as_without(version: &str) -> Result<()> {
        let seeded = |b: Bootstrap| b.picker_field("hashSeed", json!("known to no client"));
        let mut gateway = Gateway::start(version, seeded).await?;
        for turn in [2, 3] {
            gateway.turn(BY_CHAT, turn).await?;
        }
        assert!(gateway.turn(BY_CHAT, 4).await? > 0.97);
        Ok(())
    }
}
