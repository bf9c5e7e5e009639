//! Four workers decide as one, whatever ends requests and changes their configuration, in a real Envoy.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use host_tests::connection::{Connection, Protocol};
use host_tests::conversation::{posted, rank_of, turns};
use host_tests::each_envoy;
use host_tests::gateway_log::{GatewayLog, NUMBER_HEADER};
use host_tests::held::{Held, balanced, evenly, spread, without_prompt};
use host_tests::live_scene::LiveScene;
use host_tests::mixture::{Mixture, refuses};
use host_tests::reply::rank_in;
use host_tests::scene::Scene;
use host_tests::sim::Fault;
use host_tests::upload::{self, Pace};
use host_tests::workers;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const WORKERS: u32 = 4;
const RANKS: usize = 16;
const COMPLETIONS: &str = "/v1/completions";
/// Conversations of which a VM told more than stands in the newest piece of what it told.
const CONVERSATIONS: usize = 40;
const LONG_TURNS: usize = 16;
const REQUESTS_A_ROUND: usize = 60;

/// A gateway of four workers, each with as many connections as the others. Ranks report only once: what is counted here is
/// this gateway's own.
async fn scene(version: &str) -> Result<Scene> {
    Scene::start(version, WORKERS, 8, balanced).await
}

/// A stream that a fallback serves, for a conversation that is new to every rank: what was asked, who serves it, and the
/// stream, of which the first byte has come. Asks until the best rank is the one that is dead.
async fn first_that_moves(scene: &Scene) -> Result<(Value, SocketAddr, (Connection, Incoming))> {
    for topic in 0..64 {
        let mut body = turns(&format!("topic {topic}"), 1);
        body["max_tokens"] = json!(200);
        body["stream"] = json!(true);
        let mut connection = scene.connect(Protocol::Http1Length).await?;
        let response = connection.send(posted(scene, &body)?).await?;
        let rank = rank_in(response.headers()).context("a rank answers")?;
        let mut answer = response.into_body();
        answer.frame().await.context("an event")??;
        scene.envoy.wait_for_metric("queued_tokens", 0).await?;
        if scene.envoy.metric("fallbacks_used").await? > 0 {
            body["stream"] = json!(false);
            body["max_tokens"] = json!(2);
            return Ok((body, rank, (connection, answer)));
        }
        drop(connection);
        scene.envoy.wait_until_nothing_is_counted().await?;
    }
    bail!("the dead rank was never the best")
}

/// A gateway whose VMs can be replaced.
async fn updatable(version: &str) -> Result<LiveScene> {
    LiveScene::start(version, WORKERS, false, balanced).await
}

/// As a new version of the module does: connections from now on are served by new VMs.
async fn new_vms(live: &LiveScene) -> Result<()> {
    live.change_listener(|bootstrap| bootstrap.vm_configuration("the next version"))
        .await?;
    let envoy = &live.scene.envoy;
    envoy
        .wait_for_stat("listener_manager.total_filter_chains_draining", 1)
        .await
}

/// Changes what the picker is told, or the listener with both filters, in the same pool.
async fn change(live: &LiveScene, round: usize) -> Result<()> {
    let ranks: Vec<String> = live
        .scene
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    match round % 5 {
        0 => {
            live.change_picker(|b| b.picker_field("missWeight", json!(2)))
                .await
        }
        1 => {
            live.change_picker(|b| b.picker_field("ranks", json!(ranks[..12])))
                .await
        }
        2 => live.change_listener(|b| b.stream_idle_timeout(299.0)).await,
        3 => {
            live.change_picker(|b| b.picker_field("blockBytes", json!(512)))
                .await
        }
        _ => {
            live.change_picker(|b| b.picker_field("rankCapacityTokens", json!(100_000)))
                .await
        }
    }
}

/// Requests that the picker has decided on.
async fn picks(scene: &Scene) -> Result<u64> {
    let mut picks = 0;
    for reason in ["prefix_hit", "lowest_cost", "no_prompt"] {
        picks += scene.envoy.metric(&format!("picks_{reason}")).await?;
    }
    Ok(picks)
}

each_envoy! {
    async fn a_conversation_stays_with_its_rank_whichever_worker_gets_its_turn(version: &str) -> Result<()> {
        let scene = scene(version).await?;
        let mut connections = workers::one_on_each(&scene.envoy, WORKERS, Protocol::Http1Length).await?;
        let mut homes = HashMap::new();
        for turn in 0..4 {
            for conversation in 0..12 {
                let worker = (conversation + turn) % connections.len();
                let body = turns(&format!("topic {conversation}"), turn + 1);
                let rank = rank_of(&scene, &mut connections[worker], &body).await?;
                assert_eq!(*homes.entry(conversation).or_insert(rank), rank, "turn {turn} of {conversation}");
            }
        }
        assert_eq!(scene.envoy.metric("picks_lowest_cost").await?, 12);
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 36);
        drop(connections);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn every_worker_knows_the_load_that_the_others_made(version: &str) -> Result<()> {
        let scene = scene(version).await?;
        scene.set_all(Fault::Hanging).await;
        let mut prompts = Held::default();
        for number in 0..RANKS / 2 {
            let request = posted(&scene, &turns(&format!("topic {number}"), 1))?;
            prompts.send(&scene, request, Protocol::ALL[number % 3], number).await?;
        }
        let queued_tokens = scene.envoy.metric("prompt_tokens").await?;
        assert!(queued_tokens > 3000, "{queued_tokens} tokens in {} prompts", RANKS / 2);
        scene.envoy.wait_for_metric("queued_tokens", queued_tokens).await?;
        let idle = spread(&scene, RANKS / 2, RANKS / 2).await?;
        let busy = prompts.ranks().await?;
        let all = idle.iter().chain(&busy).map(|(rank, times)| (*rank, *times)).collect();
        assert_eq!(evenly(&scene, 1), all, "{busy:?} and {idle:?}");
        scene.envoy.wait_until_nothing_is_counted().await?;
        assert_eq!(spread(&scene, 3 * RANKS, 0).await?, evenly(&scene, 3));
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn held_requests_of_all_workers_are_counted(version: &str) -> Result<()> {
        let scene = scene(version).await?;
        let mut connections = Vec::new();
        for number in 0..8 {
            let protocol = Protocol::ALL[number % 3];
            let body = turns(&format!("topic {number}"), 1).to_string();
            let length = (protocol != Protocol::Http1Chunked).then_some(body.len());
            let upload = upload::paced(body.into(), Pace::StopsHalfWay);
            let request = scene.request(Method::POST, COMPLETIONS, &[], upload, length)?;
            let mut connection = scene.connect(protocol).await?;
            connections.push(tokio::spawn(async move { connection.send(request).await.map(drop) }));
            scene.envoy.wait_for_metric("requests_held", number as u64 + 1).await?;
        }
        assert_eq!(workers::accepted(&scene.envoy).await?, [2; WORKERS as usize]);
        connections.iter().for_each(tokio::task::JoinHandle::abort);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_request_that_a_fallback_serves_counts_there_and_so_does_its_prefix(version: &str) -> Result<()> {
        let scene = Scene::start(version, WORKERS, 2, balanced).await?;
        scene.set_all(Fault::Slow { factor: 20.0 }).await;
        let dead = &scene.pods.ranks()[0];
        dead.set_fault(Fault::Dead).await;
        let (body, moved, stream) = first_that_moves(&scene).await?;
        assert_eq!(scene.envoy.metric("fallbacks_used").await?, 1);
        dead.restart();
        let mut expected = evenly(&scene, 1);
        expected.remove(&moved);
        assert_eq!(spread(&scene, 3, 1).await?, expected, "{moved} has the request that moved");
        drop(stream);
        scene.envoy.wait_until_nothing_is_counted().await?;
        for connection in &mut workers::one_on_each(&scene.envoy, WORKERS, Protocol::Http1Length).await? {
            assert_eq!(rank_of(&scene, connection, &body).await?, moved, "{} never got it", dead.addr());
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn new_vms_know_the_prefixes_that_old_ones_sent(version: &str) -> Result<()> {
        let live = updatable(version).await?;
        let scene = &live.scene;
        let mut homes = Vec::new();
        let mut connections = workers::one_on_each(&scene.envoy, WORKERS, Protocol::Http1Length).await?;
        for conversation in 0..CONVERSATIONS {
            let body = turns(&format!("topic {conversation}"), LONG_TURNS);
            homes.push(rank_of(scene, &mut connections[conversation % 4], &body).await?);
        }
        drop(connections);
        new_vms(&live).await?;
        let hits = scene.envoy.metric("picks_prefix_hit").await?;
        let mut connections = workers::one_on_each(&scene.envoy, WORKERS, Protocol::Http1Length).await?;
        for (conversation, home) in homes.into_iter().enumerate() {
            let body = turns(&format!("topic {conversation}"), LONG_TURNS + 1);
            let rank = rank_of(scene, &mut connections[(conversation + 1) % 4], &body).await?;
            assert_eq!(rank, home, "conversation {conversation}");
        }
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, hits + CONVERSATIONS as u64);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn new_vms_know_the_load_that_old_ones_have(version: &str) -> Result<()> {
        let live = updatable(version).await?;
        let scene = &live.scene;
        scene.set_all(Fault::Hanging).await;
        let mut held = Held::default();
        for number in 0..RANKS / 2 {
            held.send(scene, without_prompt(scene)?, Protocol::Http2, number).await?;
        }
        let mut expected = evenly(scene, 1);
        expected.retain(|rank, _| scene.rank(*rank).is_ok_and(|rank| rank.stats().open_requests == 0));
        assert_eq!(expected.len(), RANKS / 2);
        new_vms(&live).await?;
        assert_eq!(spread(scene, RANKS / 2, RANKS / 2).await?, expected);
        drop(held);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn whatever_ends_requests_and_changes_the_picker_nothing_stays_counted(version: &str) -> Result<()> {
        let log = GatewayLog::new()?;
        let live = LiveScene::start(version, WORKERS, true, |bootstrap| {
            let refusing = balanced(bootstrap).filter(0, refuses("before")).filter(3, refuses("behind"));
            refusing.route_timeout_with(NUMBER_HEADER, 0.5).logs(log.folder())
        });
        let live = live.await?;
        let scene = &live.scene;
        let mut mixture = Mixture::new(1);
        for round in 0..9 {
            mixture.break_ranks(scene, round).await;
            let mut requests = JoinSet::new();
            for number in 0..REQUESTS_A_ROUND {
                requests.spawn(mixture.request(scene)?);
                if number == REQUESTS_A_ROUND / 2 {
                    change(&live, round).await?;
                }
            }
            requests.join_all().await;
        }
        scene.set_all(Fault::None).await;
        scene.envoy.wait_until_nothing_is_counted().await?;
        let picks = picks(scene).await?;
        log.wait_until(|requests| requests.iter().filter(|request| !request.named.is_empty()).count() as u64 >= picks).await?;
        let requests = log.requests()?;
        let picked = requests.iter().filter(|request| !request.named.is_empty()).count() as u64;
        assert_eq!(picks, picked, "of {} requests", requests.len());
        scene.envoy.wait_for_metric("ranks_out", 0).await?;
        assert_eq!(spread(scene, RANKS, 0).await?, evenly(scene, 1));
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
