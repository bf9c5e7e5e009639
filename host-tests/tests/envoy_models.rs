//! Several pools behind one gateway, told apart by the model that the body names, in a real Envoy.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::{Connection, Protocol};
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::reply::Reply;
use host_tests::scene::ECHO;
use host_tests::sim::{PodsConfig, RankHandle, SimulatedPods};
use host_tests::upload;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde_json::json;

const PATH: &str = "/v1/completions";

/// Two pools of one pod each, with a route for each by the header that carries the model's name.
struct Stage {
    envoy: Envoy,
    large: SimulatedPods,
    small: SimulatedPods,
}

async fn pods() -> Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 2,
        ..PodsConfig::default()
    };
    Ok(SimulatedPods::start(config).await?)
}

fn addresses(pods: &SimulatedPods) -> Vec<SocketAddr> {
    pods.ranks().iter().map(RankHandle::addr).collect()
}

impl Stage {
    async fn start(version: &str) -> Result<Self> {
        let (large, small) = (pods().await?, pods().await?);
        let bootstrap = Bootstrap::with_rank_router(&addresses(&large))?
            .cluster_of_model("small", "small-1", &addresses(&small))?
            .pools(&json!([
                {"pool": "large", "clusters": ["pool"], "models": ["large-*"]},
                {"pool": "small", "clusters": ["small"], "models": ["small-*"]},
            ]));
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 4).await?;
        Ok(Self {
            envoy,
            large,
            small,
        })
    }

    async fn ask(&self, protocol: Protocol, body: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        let gateway = self.envoy.gateway();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{gateway}{PATH}"))
            .header(HOST, gateway.to_string())
            .header(CONTENT_TYPE, "application/json");
        if protocol != Protocol::Http1Chunked {
            request = request.header(CONTENT_LENGTH, body.len());
        }
        for (name, value) in headers.iter().chain([&ECHO]) {
            request = request.header(*name, *value);
        }
        let request = request.body(upload::whole(body.to_string()))?;
        let mut connection = Connection::open(gateway, protocol).await?;
        Reply::read(connection.send(request).await?).await
    }
}

fn body(model: &str) -> String {
    json!({"prompt": "how high is the tide? ".repeat(50), "model": model}).to_string()
}

each_envoy! {
    async fn the_model_in_the_body_chooses_route_and_pool(version: &str) -> Result<()> {
        let stage = Stage::start(version).await?;
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
        let stage = Stage::start(version).await?;
        let forged = [("x-gateway-model-name", "small-1")];
        let reply = stage.ask(Protocol::Http1Length, &body("large-1"), &forged).await?;
        assert!(addresses(&stage.large).contains(&reply.rank().context("a rank answers")?));
        let nameless = r#"{"prompt":"hi"}"#;
        let reply = stage.ask(Protocol::Http1Length, nameless, &forged).await?;
        assert!(addresses(&stage.large).contains(&reply.rank().context("a rank answers")?));
        stage.envoy.wait_until_nothing_is_counted().await
    }
}
