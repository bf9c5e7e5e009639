//! What an operator's mistakes do, in a real Envoy.

use anyhow::Result;
use host_tests::bootstrap::Bootstrap;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::scene::Scene;
use serde_json::json;

fn prompt() -> serde_json::Value {
    json!({"model": "simulated", "prompt": "where does the river go? ".repeat(60), "max_tokens": 2})
}

each_envoy! {
    async fn a_wrong_configuration_is_refused_with_every_mistake(version: &str) -> Result<()> {
        let ranks = ["127.0.1.1:8000".parse()?];
        let bootstrap = Bootstrap::with_rank_router(&ranks)?
            .picker_field("ranks", json!(["pod-a:8000"]))
            .picker_field("blockBytes", json!(7));
        let error = Envoy::start(version, 1, &bootstrap).await.map(drop).unwrap_err();
        let log = format!("{error:#}");
        assert!(log.contains("ranks: \"pod-a:8000\" given"), "{log}");
        assert!(log.contains("blockBytes: 7 given"), "{log}");
        Ok(())
    }

    async fn a_missing_reader_is_counted_and_loses_nothing(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap.without_filter(0)).await?;
        for _ in 0..2 {
            assert_eq!(scene.post("/v1/completions", &prompt(), &[]).await?.status, 200);
        }
        assert_eq!(scene.envoy.metric("reader_missing").await?, 2);
        assert_eq!(scene.envoy.log().matches("put the reader of the same module before it").count(), 1);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_missing_picker_leaves_requests_to_the_cluster(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap.without_filter(1)).await?;
        assert_eq!(scene.post("/v1/completions", &prompt(), &[]).await?.status, 200);
        Ok(())
    }

    async fn filters_in_the_wrong_order_lose_nothing(version: &str) -> Result<()> {
        let swapped = |bootstrap: Bootstrap| bootstrap.swap_filters(0, 1);
        let scene = Scene::start(version, 1, 2, swapped).await?;
        assert_eq!(scene.post("/v1/completions", &prompt(), &[]).await?.status, 200);
        assert_eq!(scene.envoy.metric("reader_missing").await?, 1);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn filters_that_are_there_twice_lose_nothing(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, Bootstrap::twice_the_module).await?;
        for _ in 0..3 {
            assert_eq!(scene.post("/v1/completions", &prompt(), &[]).await?.status, 200);
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
