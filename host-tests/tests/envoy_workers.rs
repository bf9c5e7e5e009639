//! Four workers decide as one, whatever ends requests, changes their configuration or kills their VMs, in a real Envoy.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::{Connection, Protocol, Upload};
use host_tests::each_envoy;
use host_tests::held::{Held, spread};
use host_tests::reply::Reply;
use host_tests::scene::Scene;
use host_tests::sim::Fault;
use host_tests::upload::{self, Pace};
use host_tests::workers;
use hyper::{Method, Request};
use serde_json::{Value, json};

const WORKERS: u32 = 4;
const RANKS: usize = 16;
const COMPLETIONS: &str = "/v1/completions";
/// Six blocks, so each turn of a conversation has another start of 4 KiB: no two are alike where nothing is known.
const TURN_BYTES: usize = 1600;

/// A gateway of four workers, each with as many connections as the others. Ranks report only once: what is counted here is
/// this gateway's own.
async fn scene(version: &str) -> Result<Scene> {
    Scene::start(version, WORKERS, 8, balanced).await
}

fn balanced(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap
        .balanced_connections()
        .picker_field("scrapeIntervalMs", json!(60_000))
}

/// A conversation as it is sent with its so-and-so-manieth turn.
fn turns(topic: &str, turns: usize) -> Value {
    let line = format!("{topic}: ");
    let text = line.repeat(turns * TURN_BYTES / line.len());
    json!({"model": "simulated", "prompt": text, "max_tokens": 2})
}

fn posted(scene: &Scene, body: &Value) -> Result<Request<Upload>> {
    let body = body.to_string();
    let length = body.len();
    let upload = upload::whole(body);
    scene.request(Method::POST, COMPLETIONS, &[], upload, Some(length))
}

async fn rank_of(scene: &Scene, connection: &mut Connection, body: &Value) -> Result<SocketAddr> {
    let reply = Reply::read(connection.send(posted(scene, body)?).await?).await?;
    ensure!(reply.status == 200, "{reply:?}");
    reply.rank().context("a rank answers")
}

/// Every rank as often.
fn evenly(scene: &Scene, times: usize) -> BTreeMap<SocketAddr, usize> {
    scene
        .addresses()
        .into_iter()
        .map(|rank| (rank, times))
        .collect()
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
}
