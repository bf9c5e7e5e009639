//! A picker that decides and counts while another one steers, in a real Envoy.

use anyhow::{Context, Result};
use host_tests::each_envoy;
use host_tests::scene::Scene;
use routing::DESTINATION_HEADER;
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";

fn question(number: usize) -> Value {
    let prompt = format!("{number}: {}", "how high is the tide? ".repeat(400));
    json!({"model": "simulated", "max_tokens": 1, "prompt": prompt})
}

async fn shadow(version: &str) -> Result<Scene> {
    Scene::start(version, 1, 2, |bootstrap| {
        // What steers is no client's header there, but a filter before the module or something before the gateway.
        bootstrap
            .picker_field("shadow", json!(true))
            .without_early_header_mutation()
    })
    .await
}

each_envoy! {
    async fn a_shadow_steers_nothing_and_tells_what_it_would_have_found(version: &str) -> Result<()> {
        let scene = shadow(version).await?;
        for turn in 0..3 {
            for number in 0..7 {
                let reply = scene.post(PATH, &question(number), &[]).await?;
                reply.rank().with_context(|| format!("no rank in turn {turn}"))?;
            }
        }
        let metric = async |name: &str| scene.envoy.metric(name).await;
        let (agreed, differed) = (metric("shadow_agreed").await?, metric("shadow_differed").await?);
        assert_eq!(agreed + differed, 21);
        assert!(differed > 5, "Envoy's round robin is not ours: {differed}");
        // Seven prompts in turn on four ranks: each turn of a prompt is on another rank than the one before.
        let (picked, served) = (metric("shadow_picked_tokens").await?, metric("shadow_served_tokens").await?);
        println!("{version}: {agreed} of 21 agreed, {picked} tokens believed on the picked ranks, {served} on those that served");
        assert!(picked > 2 * served, "{picked} {served}");
        for blamed in ["fallbacks_used", "failures_reset", "failures_connect", "ranks_out"] {
            assert_eq!(metric(blamed).await?, 0, "{blamed}");
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn what_steers_before_a_shadow_goes_on_steering(version: &str) -> Result<()> {
        let scene = shadow(version).await?;
        for rank in scene.addresses().into_iter().rev() {
            let steered = rank.to_string();
            let reply = scene.post(PATH, &question(1), &[(DESTINATION_HEADER, &steered)]).await?;
            assert_eq!(reply.rank(), Some(rank));
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
