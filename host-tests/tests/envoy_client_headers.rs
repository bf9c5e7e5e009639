//! Headers of a client that a route matches choose no pool and charge no rank, where no model does, in a real Envoy.

use anyhow::{Context, Result};
use host_tests::each_envoy;
use host_tests::reply::Reply;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::{PodsConfig, SimulatedPods};
use host_tests::two_models::addresses;
use host_tests::{pod_addresses, upload};
use hyper::Method;
use routing::DESTINATION_HEADER;
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";
/// What a client writes there, to be sent to the other cluster.
const FORGED: (&str, &str) = (DESTINATION_HEADER, "elsewhere");

/// A gateway with a second cluster, to which a route leads by a header that only the module may set; `pools` are those of the
/// picker.
async fn stage(version: &str, pools: &Value) -> Result<(Scene, SimulatedPods)> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 2,
        ..PodsConfig::default()
    };
    let other = SimulatedPods::start(config).await?;
    let ranks = addresses(&other);
    let scene = Scene::start(version, 1, 2, |bootstrap| {
        let bootstrap = bootstrap.cluster_if("other", FORGED, &ranks);
        let bootstrap = bootstrap.expect("there is a pool").pools(pools);
        // The module has to remove what clients forge where Envoy does not.
        bootstrap.without_early_header_mutation()
    })
    .await?;
    let listed = 2 * pools.as_array().map_or(0, Vec::len) + 2;
    scene
        .envoy
        .wait_for_metric("ranks_listed", listed as u64)
        .await?;
    Ok((scene, other))
}

fn question(number: usize) -> Value {
    json!({"model": "m", "prompt": format!("{number}: how high is the tide?")})
}

async fn get(scene: &Scene) -> Result<Reply> {
    let nothing = upload::whole(String::new());
    let request = scene.request(Method::GET, "/v1/models", &[FORGED, ECHO], nothing, None)?;
    scene
        .exchange(host_tests::connection::Protocol::Http1Length, request)
        .await
}

/// The request is on a rank of the first cluster, without the header that the client wrote.
fn assert_on_the_pool(scene: &Scene, reply: &Reply) -> Result<()> {
    let rank = reply.rank().context("a rank answers")?;
    assert!(scene.addresses().contains(&rank), "{rank}");
    let digest = reply.digest()?;
    assert!(!digest.header(FORGED.0).contains(&FORGED.1), "{digest:?}");
    Ok(())
}

each_envoy! {
    async fn a_route_to_no_pool_is_not_the_client_s_to_choose(version: &str) -> Result<()> {
        let (scene, _other) = stage(version, &json!([{"pool": "a", "clusters": ["pool"], "decideAfterIdleMs": 10_000}])).await?;
        for number in 0..10 {
            assert_on_the_pool(&scene, &scene.post(PATH, &question(number), &[FORGED, ECHO]).await?)?;
            assert_on_the_pool(&scene, &get(&scene).await?)?;
        }
        // What pools refuse stays refused.
        let body = json!({"model": "m", "prompt": "a", "kv_transfer_params": {"a": 1}});
        assert_eq!(scene.post(PATH, &body, &[FORGED, ECHO]).await?.status, 400);
        assert_eq!(scene.envoy.metric("steering_headers_removed").await?, 21);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_route_to_another_pool_charges_neither_for_long(version: &str) -> Result<()> {
        let pools = json!([
            {"pool": "a", "clusters": ["pool"], "decideAfterIdleMs": 10_000},
            {"pool": "b", "clusters": ["other"], "allowKeys": ["kv_transfer_params"], "decideAfterIdleMs": 10_000},
        ]);
        let (scene, other) = stage(version, &pools).await?;
        for number in 0..20 {
            assert_on_the_pool(&scene, &scene.post(PATH, &question(number), &[FORGED, ECHO]).await?)?;
            assert_on_the_pool(&scene, &get(&scene).await?)?;
        }
        let body = json!({"model": "m", "prompt": "a", "kv_transfer_params": {"a": 1}});
        assert_eq!(scene.post(PATH, &body, &[FORGED, ECHO]).await?.status, 400);
        assert_eq!(scene.envoy.metric("answers_from_elsewhere").await?, 40);
        for blamed in ["ranks_out", "ranks_coming_back", "failures_reset", "failures_connect", "fallbacks_used"] {
            assert_eq!(scene.envoy.metric(blamed).await?, 0, "{blamed}");
        }
        let headers = [("x-unknown", "1"), ECHO];
        assert_on_the_pool(&scene, &scene.post(PATH, &question(0), &headers).await?)?;
        drop(other);
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
