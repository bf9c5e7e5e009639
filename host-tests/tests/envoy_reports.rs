//! What the ranks' metrics pages say is used, in a real Envoy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use host_tests::bootstrap::Bootstrap;
use host_tests::caller::{Call, Caller};
use host_tests::chaos::blow::TRAP_HEADER;
use host_tests::connection::{Connection, Protocol};
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::reply::{Reply, post, request, send};
use host_tests::repository;
use host_tests::scene::Scene;
use host_tests::sim::{Fault, PodsConfig, RankHandle, SimulatedPods};
use host_tests::traffic::{ask, lost, share};
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::sleep;

const COMPLETIONS: &str = "/v1/completions";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// So many picks of one rank of four are no chance.
const IN_A_ROW: usize = 8;

/// A prompt of this many tokens.
fn prompt(topic: &str, tokens: usize) -> Value {
    let mut text = format!("{topic}: ").repeat(tokens * 4 / (topic.len() + 2));
    text.truncate(tokens * 4);
    json!({"prompt": text, "max_tokens": 1})
}

/// Waits until each rank's page was asked for so many times more; all but the last have been taken in by then.
async fn pages(ranks: &[RankHandle], more: u64) -> Result<()> {
    let asked = |rank: &RankHandle| rank.stats().metrics_asked;
    let wanted: Vec<u64> = ranks.iter().map(|rank| asked(rank) + more).collect();
    let end = Instant::now() + PATIENCE;
    while ranks
        .iter()
        .zip(&wanted)
        .any(|(rank, wanted)| asked(rank) < *wanted)
    {
        ensure!(Instant::now() < end, "pages are not asked for");
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Puts so many long requests on a rank, past the gateway; they end when this is dropped.
async fn load(
    rank: SocketAddr,
    requests: usize,
) -> Result<Vec<(Connection, hyper::Response<Incoming>)>> {
    let body = json!({"prompt": "on and on", "max_tokens": 30_000, "stream": true}).to_string();
    let mut streams = Vec::new();
    for _ in 0..requests {
        let mut connection = Connection::open(rank, Protocol::Http1Length).await?;
        let request = request(rank, Method::POST, COMPLETIONS, &[], &body)?;
        let answer = connection.send(request).await?;
        streams.push((connection, answer));
    }
    Ok(streams)
}

/// Asks one after the other until the ranks of the last answers are as wanted.
async fn ask_until(caller: &Caller, first: u64, is_wanted: impl Fn(&[Call]) -> bool) -> Result<()> {
    let (end, mut calls) = (Instant::now() + PATIENCE, Vec::new());
    for number in first.. {
        calls.extend(ask(caller, number..number + 1, 1).await?);
        ensure!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        let last = calls.len().saturating_sub(IN_A_ROW);
        if calls.len() >= IN_A_ROW && is_wanted(&calls[last..]) {
            break;
        }
        ensure!(Instant::now() < end, "{:?}", &calls[last..]);
    }
    Ok(())
}

/// Asks for the same prompt again, on this connection; gives the rank that answered.
async fn complete(scene: &Scene, connection: &mut Connection) -> Result<SocketAddr> {
    let (to, body) = (scene.envoy.gateway(), prompt("the tides", 400).to_string());
    let request = request(to, Method::POST, COMPLETIONS, &[], &body)?;
    let reply = Reply::read(connection.send(request).await?).await?;
    reply.rank().context("a rank answers")
}

async fn hits(envoy: &Envoy) -> Result<u64> {
    envoy.metric("picks_prefix_hit").await
}

/// A gateway whose ranks are asked by the VM of its only worker, and not by the one of the main thread: either may be the
/// first. What becomes of reports is logged by whoever asks.
async fn start_asking_by_a_worker(version: &str, bootstrap: &Bootstrap) -> Result<Envoy> {
    for _ in 0..20 {
        let envoy = Envoy::start(version, 1, bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 2).await?;
        let log = envoy.log();
        let found = log.lines().find(|line| line.contains("has 2 ranks"));
        let main_thread = format!("][{}][", envoy.process_id().context("it runs")?);
        if !found
            .context("it says how many ranks there are")?
            .contains(&main_thread)
        {
            return Ok(envoy);
        }
    }
    bail!("the main thread was always the first")
}

each_envoy! {
    async fn each_rank_is_asked_once_a_second_however_many_workers_there_are(version: &str) -> Result<()> {
        let scene = Scene::start(version, 4, 4, |bootstrap| bootstrap.balanced_connections()).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        // So that every worker is one that could ask.
        assert!(lost(&ask(&caller, 0..40, 20).await?).is_empty());
        scene.envoy.wait_for_metric("ranks_reported", 8).await?;
        let (start, before) = (Instant::now(), asked(&scene));
        pages(scene.pods.ranks(), 4).await?;
        let intervals = start.elapsed().as_secs_f64();
        for (rank, (before, after)) in before.iter().zip(asked(&scene)).enumerate() {
            let more = after - before;
            assert!(more as f64 <= intervals + 2.0, "rank {rank}: {more} times in {intervals} s");
        }
        assert_eq!(scene.envoy.metric("ranks_reported").await?, 8);
        assert_eq!(scene.envoy.metric("ranks_listed").await?, 8);
        assert_eq!(scene.envoy.metric("failures_scrape").await?, 0);
        // Of a static list nothing is to be found out.
        assert_eq!(scene.envoy.stat("cluster.prometheus_stats.upstream_rq_total").await?, 0);
        Ok(())
    }

    async fn load_that_another_gateway_put_on_ranks_counts_while_all_report(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 2, |bootstrap| bootstrap).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        let [idle, busy @ ..] = scene.pods.ranks() else { bail!("no ranks") };
        idle.set_fault(Fault::NoMetrics).await;
        let mut streams = Vec::new();
        for rank in busy {
            streams.extend(load(rank.addr(), 8).await?);
        }
        pages(busy, 2).await?;
        scene.envoy.wait_for_metric("ranks_reported", 3).await?;
        assert!(scene.envoy.metric("failures_scrape").await? > 0);
        // Of the idle rank nothing is known, so nothing counts that is known of the others.
        let calls = ask(&caller, 0..24, 1).await?;
        assert!(lost(&calls).is_empty() && share(&calls, idle.addr()) < 16, "{calls:?}");

        idle.set_fault(Fault::None).await;
        let all_idle = |calls: &[Call]| share(calls, idle.addr()) == calls.len();
        ask_until(&caller, 1_000, all_idle).await?;
        idle.set_fault(Fault::NoMetrics).await;
        ask_until(&caller, 10_000, |calls| share(calls, idle.addr()) < IN_A_ROW / 2).await?;
        idle.set_fault(Fault::None).await;
        ask_until(&caller, 100_000, all_idle).await?;
        drop(streams);
        ask_until(&caller, 1_000_000, |calls| share(calls, idle.addr()) < IN_A_ROW / 2).await
    }

    async fn a_rank_that_restarted_is_cold_at_once_for_every_worker(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 1, |bootstrap| bootstrap.balanced_connections()).await?;
        // Both stay open, so each has a worker of its own; the second sleeps until it is asked.
        let mut workers = [scene.connect(Protocol::Http1Length).await?, scene.connect(Protocol::Http1Length).await?];
        let first = complete(&scene, &mut workers[0]).await?;
        pages(scene.pods.ranks(), 2).await?;
        assert_eq!(complete(&scene, &mut workers[0]).await?, first);
        assert_eq!(hits(&scene.envoy).await?, 1);
        let rank = scene.pods.ranks().iter().find(|rank| rank.addr() == first).context("ours")?;
        rank.restart();
        pages(scene.pods.ranks(), 2).await?;
        complete(&scene, &mut workers[1]).await?;
        assert_eq!(hits(&scene.envoy).await?, 1);
        complete(&scene, &mut workers[0]).await?;
        assert_eq!(hits(&scene.envoy).await?, 2);
        Ok(())
    }

    async fn a_rank_holds_as_much_as_it_says(version: &str) -> Result<()> {
        let config = PodsConfig { pods: pod_addresses::unused(1), ranks_per_pod: 1, capacity_tokens: 4096, max_model_len: 4096, ..PodsConfig::default() };
        let pods = SimulatedPods::start(config).await?;
        let address = pods.ranks()[0].addr();
        for (is_asked, expected_hits) in [(true, 1), (false, 2)] {
            let mut bootstrap = Bootstrap::with_rank_router(&[address])?.picker_field("decideAfterIdleMs", json!(10_000));
            if !is_asked {
                bootstrap = bootstrap.without_cluster("rank_router_scrape");
            }
            let envoy = Envoy::start(version, 1, &bootstrap).await?;
            envoy.wait_for_metric("ranks_reported", u64::from(is_asked)).await?;
            for topic in ["tides", "tides", "reefs", "bays", "capes", "dunes", "fjords", "tides"] {
                assert_eq!(post(envoy.gateway(), COMPLETIONS, &prompt(topic, 1000)).await?.status, 200);
            }
            assert_eq!(hits(&envoy).await?, expected_hits, "asked: {is_asked}");
        }
        Ok(())
    }

    async fn without_a_scrape_cluster_ranks_are_picked_and_it_is_said_once(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 2, |bootstrap| bootstrap.without_cluster("rank_router_scrape")).await?;
        scene.envoy.wait_for_metric("scrape_cluster_missing", 1).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        let calls = ask(&caller, 0..40, 4).await?;
        assert!(lost(&calls).is_empty());
        for rank in scene.pods.ranks() {
            assert!(share(&calls, rank.addr()) > 0, "{} is not used", rank.addr());
        }
        assert_eq!(scene.envoy.log().matches("Envoy has no cluster \"rank_router_scrape\"").count(), 1);
        for (metric, value) in [("ranks_listed", 4), ("ranks_reported", 0), ("ranks_out", 0), ("admin_cluster_missing", 0)] {
            assert_eq!(scene.envoy.metric(metric).await?, value, "{metric}");
        }
        Ok(())
    }

    async fn when_the_vm_that_asks_dies_another_goes_on(version: &str) -> Result<()> {
        let config = PodsConfig { pods: pod_addresses::unused(2), ranks_per_pod: 1, ..PodsConfig::default() };
        let pods = SimulatedPods::start(config).await?;
        let ranks: Vec<SocketAddr> = pods.ranks().iter().map(RankHandle::addr).collect();
        let bootstrap = Bootstrap::with_rank_router(&ranks)?.discovers(&["pool"]).module(&repository::trap_module()?);
        let envoy = start_asking_by_a_worker(version, &bootstrap).await?;
        envoy.wait_for_metric("ranks_reported", 2).await?;
        let died = Instant::now();
        let trapped = send(envoy.gateway(), Method::GET, "/v1/models", &[(TRAP_HEADER, "1")], "").await?;
        assert_eq!(trapped.status, 503);
        pages(pods.ranks(), 1).await?;
        let pause = died.elapsed();
        println!("{version}: ranks are asked again {pause:?} after the VM died that did it");
        pages(pods.ranks(), 2).await?;
        assert_eq!(send(envoy.gateway(), Method::GET, "/v1/models", &[], "").await?.status, 200);
        // The new VM of the worker knows them too, by what the other has put up.
        envoy.wait_for_metric("ranks_listed", 2).await?;
        envoy.wait_for_metric("ranks_reported", 2).await?;
        assert_eq!(envoy.metric("picks_no_rank").await?, 0);
        Ok(())
    }
}

fn asked(scene: &Scene) -> Vec<u64> {
    let ranks = scene.pods.ranks().iter();
    ranks.map(|rank| rank.stats().metrics_asked).collect()
}
