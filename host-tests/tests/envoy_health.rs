//! Ranks that die, hang, fail and come back, in a real Envoy.
//!
//! How long and how many requests each took is printed: `cargo test ... -- --nocapture`.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use host_tests::bootstrap::Bootstrap;
use host_tests::caller::{Call, Caller};
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::gateway_log::GatewayLog;
use host_tests::outcome::Outcome;
use host_tests::pod_addresses;
use host_tests::rank_process::{RankProcess, RankProcessConfig};
use host_tests::scene::Scene;
use host_tests::sim::{Fault, RankHandle, Role, SidecarVersion};
use host_tests::traffic::{Traffic, ask, lost, share};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(15);

/// A gateway before pods that are a process each.
struct Stage {
    pods: Vec<RankProcess>,
    log: GatewayLog,
    envoy: Envoy,
    caller: Caller,
}

impl Stage {
    async fn start(version: &str, workers: u32, pods: u32, ranks: u16) -> Result<Self> {
        Self::start_with(version, workers, pods, ranks, |bootstrap| bootstrap).await
    }

    async fn start_with(
        version: &str,
        workers: u32,
        pods: u32,
        ranks: u16,
        adapt: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Result<Self> {
        let mut processes = Vec::new();
        for pod in pod_addresses::unused(pods) {
            let config = RankProcessConfig {
                pod,
                base_port: 8000,
                ranks,
                slowness: 1.0,
                role: Role::Both,
                sidecar: SidecarVersion::default(),
            };
            processes.push(RankProcess::start(config).await?);
        }
        let all: Vec<SocketAddr> = processes.iter().flat_map(RankProcess::ranks).collect();
        let log = GatewayLog::new()?;
        let bootstrap = Bootstrap::with_rank_router(&all)?.logs(log.folder());
        let envoy = Envoy::start(version, workers, &adapt(bootstrap)).await?;
        let caller = Caller::new(envoy.gateway(), PATIENCE);
        Ok(Self {
            pods: processes,
            log,
            envoy,
            caller,
        })
    }

    /// Traffic that every rank has answered a part of, and every page is read.
    async fn traffic(&self) -> Result<Traffic> {
        let start = SystemTime::now();
        let traffic = Traffic::start(self.caller.clone(), 0, PACE);
        let ranks: Vec<SocketAddr> = self.pods.iter().flat_map(RankProcess::ranks).collect();
        for rank in &ranks {
            traffic.wait_until_answered_by(*rank, start).await?;
        }
        let all = u64::try_from(ranks.len())?;
        self.envoy.wait_for_metric("ranks_reported", all).await?;
        Ok(traffic)
    }

    /// Attempts on these ranks that began in this time.
    fn attempts(&self, on: &[SocketAddr], from: SystemTime, to: SystemTime) -> Result<usize> {
        let attempts = self.log.attempts()?;
        let own = attempts
            .iter()
            .filter(|attempt| attempt.rank.is_some_and(|rank| on.contains(&rank)));
        Ok(own
            .filter(|attempt| (from..to).contains(&attempt.started))
            .count())
    }
}

/// Waits until so many requests were sent after `since` and have ended.
async fn after(traffic: &Traffic, calls: usize, since: SystemTime) -> Result<()> {
    let what = format!("{calls} more requests");
    traffic
        .wait_until(&what, since, |all| all.len() >= calls)
        .await
}

/// Streams that break off with their rank cannot be saved, everything else can.
fn assert_only_broken_off(calls: &[Call]) {
    let lost: Vec<&Call> = lost(calls)
        .into_iter()
        .filter(|call| call.outcome != Outcome::BrokenOff)
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Asks, thirty at a time, until this rank has answered 20 of the requests.
async fn ask_until_used(stage: &Stage, rank: SocketAddr, first: u64) -> Result<Vec<Call>> {
    let (start, mut calls, mut next) = (SystemTime::now(), Vec::new(), first);
    while share(&calls, rank) < 20 {
        ensure!(start.elapsed()? < PATIENCE, "{rank} does not come back");
        calls.extend(ask(&stage.caller, next..next + 100, 30).await?);
        next += 100;
    }
    calls.sort_by_key(|call| call.sent);
    Ok(calls)
}

/// How many requests the rank had got when it answered its first.
fn sent_before_the_first_answer(calls: &[Call], rank: SocketAddr) -> Option<usize> {
    let own = || calls.iter().filter(|call| call.rank == Some(rank));
    let first = own().next()?;
    let answered = first.sent + first.first_byte?;
    Some(own().filter(|call| call.sent < answered).count())
}

fn rank(scene: &Scene, place: usize) -> &RankHandle {
    &scene.pods.ranks()[place]
}

fn of_outcome(calls: &[Call], outcome: Outcome) -> usize {
    calls.iter().filter(|call| call.outcome == outcome).count()
}

each_envoy! {
    /// The answer to a request that no rank took is Envoy's own, and says nothing unless it is looked at.
    async fn ranks_that_nobody_reaches_are_charged_though_envoy_answers(version: &str) -> Result<()> {
        let nobody: Vec<SocketAddr> = pod_addresses::unused(3).into_iter().map(|pod| SocketAddr::from((pod, 8000))).collect();
        let envoy = Envoy::start(version, 1, &Bootstrap::with_rank_router(&nobody)?).await?;
        let caller = Caller::new(envoy.gateway(), PATIENCE);
        let calls = ask(&caller, 0..1, 1).await?;
        ensure!(calls.iter().all(|call| call.outcome != Outcome::Complete), "{calls:?}");
        // The last attempt is known to be a connection that failed, the two before it only as failed.
        envoy.wait_for_metric("failures_connect", 1).await?;
        envoy.wait_for_metric("failures_reset", 2).await?;
        envoy.wait_until_nothing_is_counted().await
    }

    async fn a_rank_that_is_killed_is_left_alone_and_comes_back_by_a_probe(version: &str) -> Result<()> {
        let mut stage = Stage::start(version, 2, 3, 1).await?;
        let rank = stage.pods[0].ranks();
        let traffic = stage.traffic().await?;
        let killed = SystemTime::now();
        stage.pods[0].kill().await?;
        stage.envoy.wait_for_metric("ranks_out", 1).await?;
        let out = SystemTime::now();
        after(&traffic, 100, out).await?;
        assert_only_broken_off(&traffic.stop().await);
        let (wasted, probes) = (stage.attempts(&rank, killed, out)?, stage.attempts(&rank, out, SystemTime::now())?);
        println!("{version}: killed; {wasted} attempts in {:?} until it was out, {probes} in 1.5 s later", out.duration_since(killed)?);
        assert!(wasted <= 10 && probes <= 4, "{wasted} {probes}");

        stage.pods[0].restart().await?;
        let restarted = SystemTime::now();
        let calls = ask_until_used(&stage, rank[0], 10_000).await?;
        assert!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        let first = calls.iter().find(|call| call.rank == Some(rank[0])).context("it answers")?;
        println!("{version}: restarted; probed after {:?}", first.sent.duration_since(restarted)?);
        // The other ranks have 15 requests each all the time: an idle rank without a limit would draw nearly all. Two
        // workers may have probed it at the same moment.
        let at_first = sent_before_the_first_answer(&calls, rank[0]).context("it answers")?;
        assert!(at_first <= 2, "{at_first} at once");
        stage.envoy.wait_for_metric("ranks_coming_back", 0).await?;
        stage.envoy.wait_for_metric("ranks_out", 0).await?;
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_rank_that_stands_still_is_left_alone_until_it_goes_on(version: &str) -> Result<()> {
        // Load weighs nothing here, or the requests that wait would keep others away by themselves.
        let weightless = |bootstrap: Bootstrap| bootstrap.picker_field("inFlightCostMs", json!(0)).picker_field("prefillTokensPerSecond", json!(1e9));
        let stage = Stage::start_with(version, 2, 3, 1, weightless).await?;
        let rank = stage.pods[0].ranks();
        let traffic = stage.traffic().await?;
        let stopped = SystemTime::now();
        stage.pods[0].stop()?;
        stage.envoy.wait_for_metric("ranks_out", 1).await?;
        let out = SystemTime::now();
        after(&traffic, 100, out).await?;
        let continued = SystemTime::now();
        stage.pods[0].go_on()?;
        let back = traffic.wait_until_answered_by(rank[0], continued).await?;
        stage.envoy.wait_for_metric("ranks_coming_back", 0).await?;
        let calls = traffic.stop().await;
        // What waited got its answer in the end: nothing was lost, and nothing was asked twice.
        assert!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        stage.log.wait_for(calls.len()).await?;
        let (hung, probes) = (stage.attempts(&rank, stopped, out)?, stage.attempts(&rank, out, continued)?);
        println!(
            "{version}: stood still; {hung} requests waited, out after {:?}, {probes} more in {:?}, back {back:?} after it went on",
            out.duration_since(stopped)?, continued.duration_since(out)?,
        );
        assert!(hung > 10 && probes <= 4, "{hung} {probes}");
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_rank_whose_engine_hangs_is_found_by_its_requests_though_its_page_is_fine(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 2, |bootstrap| bootstrap).await?;
        let traffic = Traffic::start(Caller::new(scene.envoy.gateway(), PATIENCE), 0, PACE);
        let hanging = rank(&scene, 0);
        traffic.wait_until_answered_by(hanging.addr(), SystemTime::UNIX_EPOCH).await?;
        scene.envoy.wait_for_metric("ranks_reported", 4).await?;
        hanging.set_fault(Fault::Hanging).await;
        let hung = SystemTime::now();
        // All at once, or a rank that hangs in the middle of an answer would be dearer than three that idle.
        let burst = Caller::new(scene.envoy.gateway(), PATIENCE);
        let burst = tokio::spawn(async move { ask(&burst, 100_000..100_016, 16).await });
        scene.envoy.wait_for_metric("ranks_out", 1).await?;
        println!("{version}: an engine that hangs is out after {:?}", hung.elapsed()?);
        after(&traffic, 100, SystemTime::now()).await?;
        // Each request that waits counts once, however long.
        let (waiting, found) = (hanging.stats().open_requests, scene.envoy.metric("failures_no_first_byte").await?);
        assert!((1..=u64::try_from(waiting)?).contains(&found), "{found} of {waiting}");
        assert_eq!(scene.envoy.metric("failures_scrape").await?, 0);
        hanging.set_fault(Fault::None).await;
        scene.envoy.wait_for_metric("ranks_out", 0).await?;
        scene.envoy.wait_for_metric("ranks_coming_back", 0).await?;
        burst.await??;
        let calls = traffic.stop().await;
        assert!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_rank_that_fails_at_once_draws_only_probes_and_one_that_refuses_keeps_its_share(version: &str) -> Result<()> {
        let log = GatewayLog::new()?;
        let scene = Scene::start(version, 2, 2, |bootstrap| bootstrap.logs(log.folder())).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        rank(&scene, 0).set_fault(Fault::Failing { status: 500 }).await;
        let mut first = 0;
        for status in [400, 404, 429] {
            rank(&scene, 1).set_fault(Fault::Failing { status }).await;
            let calls = ask(&caller, first..first + 100, 6).await?;
            first += 100;
            let (failed, refused) = (of_outcome(&calls, Outcome::RankError(500)), of_outcome(&calls, Outcome::Refused(status)));
            println!("{version}: of 100 requests {failed} met the rank that fails and {refused} the one that says {status}");
            assert!(failed <= 6 && refused >= 20, "{failed} {refused}");
        }
        rank(&scene, 1).set_fault(Fault::None).await;
        // The next rank answers what this one refuses, so that clients see nothing of it.
        rank(&scene, 2).set_fault(Fault::Failing { status: 503 }).await;
        let busy = SystemTime::now();
        let calls = ask(&caller, first..first + 100, 6).await?;
        assert_eq!(of_outcome(&calls, Outcome::Complete) + of_outcome(&calls, Outcome::RankError(500)), 100);
        log.wait_for(400).await?;
        let own = log.attempts()?.into_iter().filter(|attempt| attempt.rank == Some(rank(&scene, 2).addr()) && attempt.started >= busy).count();
        println!("{version}: {own} attempts on the rank that says 503");
        assert!((1..=8).contains(&own), "{own}");
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn when_all_ranks_are_out_all_are_asked(version: &str) -> Result<()> {
        let log = GatewayLog::new()?;
        let scene = Scene::start(version, 2, 1, |bootstrap| bootstrap.logs(log.folder())).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        scene.set_all(Fault::Dead).await;
        let traffic = Traffic::start(caller.clone(), 0, PACE);
        scene.envoy.wait_for_metric("ranks_out", 2).await?;
        let out = SystemTime::now();
        after(&traffic, 40, out).await?;
        let calls = traffic.stop().await;
        log.wait_for(calls.len()).await?;
        for rank in scene.pods.ranks() {
            let attempts = log.attempts()?.into_iter().filter(|attempt| attempt.rank == Some(rank.addr()) && attempt.started >= out);
            assert!(attempts.count() >= 8, "{calls:?}");
            rank.set_fault(Fault::None).await;
        }
        let traffic = Traffic::start(caller, 10_000, PACE);
        scene.envoy.wait_for_metric("ranks_out", 0).await?;
        scene.envoy.wait_for_metric("ranks_coming_back", 0).await?;
        let calls = traffic.stop().await;
        assert!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        scene.envoy.wait_until_nothing_is_counted().await
    }

    /// Nothing tells which of them are broken, or whether the requests are.
    async fn when_all_ranks_say_500_all_are_asked(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 1, |bootstrap| bootstrap).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        scene.set_all(Fault::Failing { status: 500 }).await;
        let traffic = Traffic::start(caller.clone(), 0, PACE);
        // One may go out, for about a second.
        traffic.wait_until("both are asked", SystemTime::now(), |calls| {
            let asked = |rank: &RankHandle| share(calls, rank.addr()) >= 20;
            scene.pods.ranks().iter().all(asked)
        }).await?;
        scene.envoy.wait_for_metric("ranks_out", 0).await?;
        let failing = SystemTime::now();
        after(&traffic, 100, failing).await?;
        assert_eq!(scene.envoy.metric("ranks_out").await?, 0);
        traffic.stop().await;
        scene.set_all(Fault::None).await;
        let traffic = Traffic::start(caller, 10_000, PACE);
        after(&traffic, 40, SystemTime::now()).await?;
        scene.envoy.wait_for_metric("ranks_coming_back", 0).await?;
        let calls = traffic.stop().await;
        assert!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_pod_that_dies_costs_a_few_attempts_and_not_some_for_each_rank(version: &str) -> Result<()> {
        let mut stage = Stage::start(version, 4, 2, 8).await?;
        let ranks = stage.pods[0].ranks();
        let traffic = stage.traffic().await?;
        let killed = SystemTime::now();
        stage.pods[0].kill().await?;
        stage.envoy.wait_for_metric("ranks_out", 8).await?;
        let out = SystemTime::now();
        let calls = traffic.stop().await;
        assert_only_broken_off(&calls);
        stage.log.wait_for(calls.len()).await?;
        let wasted = stage.attempts(&ranks, killed, out)?;
        println!("{version}: a pod of 8 died; {wasted} attempts in {:?} until all were out", out.duration_since(killed)?);
        // Three for each rank, if each had to be found by itself.
        assert!(wasted < 24, "{wasted}");
        stage.envoy.wait_until_nothing_is_counted().await
    }
}
