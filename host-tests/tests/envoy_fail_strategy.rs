//! What each `failStrategy` makes of a wrong configuration and of a trap, in a real Envoy that gets the picker by an
//! extension of its own, as Istio sends it. The table in `manifests/README.md` says the same.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use host_tests::bootstrap::Bootstrap;
use host_tests::chaos::blow::TRAP_HEADER;
use host_tests::conversation::turns;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::live_scene::LiveScene;
use host_tests::repository;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Istio's names for them are `FAIL_CLOSE`, `FAIL_RELOAD` and `FAIL_OPEN`.
const CLOSED: &str = "FAIL_CLOSED";
const RELOAD: &str = "FAIL_RELOAD";
const OPEN: &str = "FAIL_OPEN";

/// How long a VM may take to come back: Envoy makes one a second at most.
const PATIENCE: Duration = Duration::from_secs(30);

fn wrong(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.picker_field("blockBytes", json!(7))
}

/// A gateway whose picker is read from a file and whose module can be made to trap.
async fn scene(version: &str, policy: &str) -> Result<LiveScene> {
    let module = repository::trap_module()?;
    LiveScene::start(version, 1, true, |bootstrap| {
        bootstrap.module(&module).failure_policy(policy)
    })
    .await
}

/// Status of a prompt's answer, and whether the module picked the rank.
async fn ask(live: &LiveScene) -> Result<(u16, bool)> {
    let picks = async || {
        let envoy = &live.scene.envoy;
        let (hits, others) = (
            envoy.metric("picks_prefix_hit").await?,
            envoy.metric("picks_lowest_cost").await?,
        );
        anyhow::Ok(hits + others)
    };
    let before = picks().await?;
    let reply = live
        .scene
        .post("/v1/completions", &turns("a", 1), &[])
        .await?;
    Ok((reply.status, picks().await? > before))
}

async fn trap(live: &LiveScene) -> Result<()> {
    let reply = live
        .scene
        .post("/v1/completions", &turns("a", 1), &[(TRAP_HEADER, "1")])
        .await?;
    assert_eq!(reply.status, 503);
    Ok(())
}

/// Asks until an answer is served.
async fn served(live: &LiveScene) -> Result<(u16, bool)> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let (status, is_picked) = ask(live).await?;
        if status == 200 {
            return Ok((status, is_picked));
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("no answer in {PATIENCE:?}")
}

each_envoy! {
    async fn a_wrong_configuration_keeps_envoy_from_starting_under_every_policy(version: &str) -> Result<()> {
        for policy in [CLOSED, RELOAD, OPEN] {
            let ranks = ["127.0.1.1:8000".parse()?];
            let bootstrap = wrong(Bootstrap::with_rank_router(&ranks)?).failure_policy(policy);
            let error = Envoy::start(version, 1, &bootstrap).await.map(drop).err().context(policy)?;
            assert!(format!("{error:#}").contains("blockBytes: 7 given"), "{policy}: {error:#}");
        }
        Ok(())
    }

    async fn a_wrong_update_is_refused_and_the_old_one_stays_under_every_policy(version: &str) -> Result<()> {
        for policy in [CLOSED, RELOAD, OPEN] {
            let live = scene(version, policy).await?;
            assert_eq!(ask(&live).await?, (200, true), "{policy}, before");
            live.refuse_picker(wrong).await.context(policy)?;
            assert_eq!(ask(&live).await?, (200, true), "{policy}, after");
            // And it can be mended.
            live.change_picker(|bootstrap| bootstrap.picker_field("blockBytes", json!(128))).await.context(policy)?;
            assert_eq!(ask(&live).await?, (200, true), "{policy}, mended");
        }
        Ok(())
    }

    async fn after_a_trap_requests_fail_for_ever_when_closed(version: &str) -> Result<()> {
        let live = scene(version, CLOSED).await?;
        assert_eq!(ask(&live).await?, (200, true));
        trap(&live).await?;
        // Longer than it takes Envoy to make a VM anew where it may.
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            assert_eq!(ask(&live).await?, (503, false));
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn after_a_trap_requests_are_picked_again_with_reload(version: &str) -> Result<()> {
        let live = scene(version, RELOAD).await?;
        trap(&live).await?;
        assert_eq!(served(&live).await?, (200, true));
        Ok(())
    }

    async fn after_a_trap_requests_pass_unpicked_when_open(version: &str) -> Result<()> {
        let live = scene(version, OPEN).await?;
        assert_eq!(ask(&live).await?, (200, true));
        trap(&live).await?;
        assert_eq!(served(&live).await?, (200, false));
        Ok(())
    }
}
