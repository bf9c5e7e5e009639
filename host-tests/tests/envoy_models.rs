//! Several pools behind one gateway, told apart by the model that the body names, in a real Envoy.

use anyhow::{Context, Result};
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::two_models::{TwoModels, addresses};
use serde_json::{Value, json};

/// Where no body is to be decided on before its end: a busy machine may let it stand still for longer than the default.
fn far_away() -> Value {
    json!({"decideAfterIdleMs": 10_000})
}

async fn stage(version: &str) -> Result<TwoModels> {
    TwoModels::start(version, &far_away(), &far_away()).await
}

fn body(model: &str) -> String {
    json!({"prompt": "how high is the tide? ".repeat(50), "model": model}).to_string()
}

each_envoy! {
    async fn the_model_in_the_body_chooses_route_and_pool(version: &str) -> Result<()> {
        let stage = stage(version).await?;
        let (large, small) = (addresses(&stage.large), addresses(&stage.small));
        for protocol in Protocol::ALL {
            for (model, ranks) in [("small-1", &small), ("large-1", &large), ("small-1", &small)] {
                let reply = stage.ask(protocol, &body(model), &[]).await?;
                let rank = reply.rank().context("a rank answers")?;
                assert!(ranks.contains(&rank), "{protocol:?}, {model}: {rank}");
                let digest = reply.digest()?;
                assert!(digest.named_ranks().iter().all(|named| ranks.contains(named)), "{digest:?}");
                assert_eq!(digest.named_ranks().first(), Some(&rank));
                assert_eq!(digest.body_bytes, u64::try_from(body(model).len())?);
            }
        }
        assert_eq!(stage.envoy.metric("picks_prefix_hit").await?, 7, "all but the first of each model");
        assert_eq!(stage.envoy.metric("fallbacks_used").await?, 0);
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_client_cannot_choose_another_route_than_its_model_s(version: &str) -> Result<()> {
        let stage = stage(version).await?;
        let large = addresses(&stage.large);
        let forged = [("x-gateway-model-name", "small-1")];
        for body in [body("large-1"), r#"{"prompt":"hi"}"#.to_string(), "no JSON".to_string()] {
            let reply = stage.ask(Protocol::Http1Length, &body, &forged).await?;
            assert!(large.contains(&reply.rank().context("a rank answers")?), "{body}");
            let digest = reply.digest()?;
            assert!(digest.named_ranks().iter().all(|named| large.contains(named)), "{body}: {digest:?}");
        }
        assert_eq!(stage.envoy.metric("steering_headers_removed").await?, 3);
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_client_s_header_puts_no_rank_out(version: &str) -> Result<()> {
        let stage = stage(version).await?;
        let (large, small) = (addresses(&stage.large), addresses(&stage.small));
        for forged in [&[("x-gateway-model-name", "small-1")][..], &[("x-gateway-model-name", "")], &[]] {
            for _ in 0..20 {
                let reply = stage.list_models(forged).await?;
                assert!(large.contains(&reply.rank().context("a rank answers")?), "{forged:?}");
                assert!(!reply.digest()?.named_ranks().iter().any(|named| small.contains(named)));
            }
        }
        for blamed in ["ranks_out", "ranks_coming_back", "failures_reset", "failures_connect", "fallbacks_used"] {
            assert_eq!(stage.envoy.metric(blamed).await?, 0, "{blamed}");
        }
        assert_eq!(stage.envoy.metric("steering_headers_removed").await?, 40);
        let reply = stage.ask(Protocol::Http1Length, &body("small-1"), &[]).await?;
        assert!(small.contains(&reply.rank().context("a rank answers")?));
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn an_answer_from_another_pool_counts_for_no_rank(version: &str) -> Result<()> {
        // The pools name the models the other way round than the routes do.
        let swap = |models: &str| json!({"models": [models], "decideAfterIdleMs": 10_000});
        let stage = TwoModels::start(version, &swap("small-*"), &swap("large-*")).await?;
        let small = addresses(&stage.small);
        for _ in 0..30 {
            let reply = stage.ask(Protocol::Http1Length, &body("small-1"), &[]).await?;
            assert!(small.contains(&reply.rank().context("a rank answers")?));
        }
        assert_eq!(stage.envoy.metric("answers_from_elsewhere").await?, 30);
        for blamed in ["ranks_out", "ranks_coming_back", "failures_reset", "fallbacks_used", "picks_prefix_hit"] {
            assert_eq!(stage.envoy.metric(blamed).await?, 0, "{blamed}");
        }
        stage.envoy.wait_until_nothing_is_counted().await
    }
}
