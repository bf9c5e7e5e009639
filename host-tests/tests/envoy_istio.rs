//! The module in the shape that Istio gives it: what istiod generates of `manifests/istio/inferencepool`, in a real Envoy.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::conversation::turns;
use host_tests::each_envoy;
use host_tests::scene::Scene;
use host_tests::sim::Fault;

const COMPLETIONS: &str = "/v1/completions";
const RANKS_PER_POD: u64 = 8;

/// The gateway before two pods that decode and two that prefill, once it knows all ranks. The first two are those that
/// decode.
async fn scene(version: &str) -> Result<(Scene, [Ipv4Addr; 4])> {
    scene_of(version, Bootstrap::of_istio).await
}

async fn scene_of(
    version: &str,
    istio: impl FnOnce([Ipv4Addr; 4]) -> Result<Bootstrap>,
) -> Result<(Scene, [Ipv4Addr; 4])> {
    let (scene, addresses) = Scene::of_four_pods(version, 2, 8, istio).await?;
    let ranks = 4 * RANKS_PER_POD;
    scene.envoy.wait_for_metric("ranks_listed", ranks).await?;
    Ok((scene, addresses))
}

async fn rank(
    scene: &Scene,
    topic: &str,
    headers: &[(&str, &str)],
) -> Result<std::net::SocketAddr> {
    let reply = scene.post(COMPLETIONS, &turns(topic, 2), headers).await?;
    reply
        .rank()
        .with_context(|| format!("{topic}: status {}", reply.status))
}

each_envoy! {
    async fn the_rank_that_is_picked_gets_the_request(version: &str) -> Result<()> {
        let (scene, _) = scene(version).await?;
        let first = rank(&scene, "river", &[]).await?;
        for _ in 0..4 {
            assert_eq!(rank(&scene, "river", &[]).await?, first);
        }
        assert_eq!(scene.envoy.metric("fallbacks_used").await?, 0);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn the_names_of_istio_1_29_change_nothing(version: &str) -> Result<()> {
        let (scene, _) = scene_of(version, Bootstrap::of_istio_1_29).await?;
        let first = rank(&scene, "river", &[]).await?;
        for _ in 0..4 {
            assert_eq!(rank(&scene, "river", &[]).await?, first);
        }
        assert_eq!(scene.envoy.metric("fallbacks_used").await?, 0);
        Ok(())
    }

    async fn prompts_reach_all_decode_ranks_and_no_prefill_rank(version: &str) -> Result<()> {
        let (scene, addresses) = scene(version).await?;
        let mut pods = BTreeSet::new();
        let mut ranks = BTreeSet::new();
        for number in 0..160 {
            let rank = rank(&scene, &format!("topic {number}"), &[]).await?;
            pods.insert(rank.ip().to_string());
            ranks.insert(rank);
        }
        let decode: BTreeSet<String> = addresses[..2].iter().map(ToString::to_string).collect();
        assert_eq!(pods, decode);
        assert_eq!(ranks.len() as u64, 2 * RANKS_PER_POD);
        Ok(())
    }

    async fn a_client_cannot_name_the_rank(version: &str) -> Result<()> {
        let (scene, addresses) = scene(version).await?;
        let first = rank(&scene, "sea", &[]).await?;
        for port in 8000..8004 {
            let named = format!("{}:{port}", addresses[3]);
            assert_eq!(rank(&scene, "sea", &[("x-gateway-destination-endpoint", &named)]).await?, first);
        }
        Ok(())
    }

    async fn a_request_that_meets_a_dead_rank_goes_to_the_next_one_named(version: &str) -> Result<()> {
        let (scene, _) = scene(version).await?;
        let first = rank(&scene, "lake", &[]).await?;
        scene.rank(first)?.set_fault(Fault::Dead).await;
        assert_ne!(rank(&scene, "lake", &[]).await?, first);
        assert_eq!(scene.envoy.metric("fallbacks_used").await?, 1);
        Ok(())
    }

    async fn metrics_of_all_ranks_are_read(version: &str) -> Result<()> {
        let (scene, _) = scene(version).await?;
        scene.envoy.wait_for_metric("ranks_reported", 4 * RANKS_PER_POD).await
    }
}
