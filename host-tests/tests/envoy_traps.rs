//! A VM that traps takes nothing along but its own streams, in a real Envoy.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::chaos::blow::TRAP_HEADER;
use host_tests::connection::{Connection, Protocol};
use host_tests::conversation::{posted, rank_of, turns};
use host_tests::each_envoy;
use host_tests::held::{balanced, evenly, spread};
use host_tests::reply::Reply;
use host_tests::repository;
use host_tests::scene::Scene;
use host_tests::sim::Fault;
use host_tests::upload;
use host_tests::workers;
use hyper::Method;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const WORKERS: u32 = 4;
const RANKS: usize = 16;

/// A gateway whose module can be made to trap.
async fn scene(version: &str, workers: u32) -> Result<Scene> {
    let module = repository::trap_module()?;
    let adapt = |bootstrap: Bootstrap| balanced(bootstrap).module(&module);
    Scene::start(version, workers, 8, adapt).await
}

/// A stream that waits for its end.
type Waiting = JoinHandle<Result<Reply>>;

/// A stream whose headers are held, because its body rests half-way until it is told to go on.
async fn held(
    scene: &Scene,
    mut connection: Connection,
    protocol: Protocol,
) -> Result<(oneshot::Sender<()>, Waiting)> {
    let body = turns("held", 1).to_string();
    let length = (protocol == Protocol::Http1Length).then_some(body.len());
    let (go_on, upload) = upload::on_word(body.into());
    let request = scene.request(Method::POST, "/v1/completions", &[], upload, length)?;
    let before = scene.envoy.metric("requests_held").await?;
    let waiting = tokio::spawn(async move { Reply::read(connection.send(request).await?).await });
    let envoy = &scene.envoy;
    envoy.wait_for_metric("requests_held", before + 1).await?;
    Ok((go_on, waiting))
}

/// A stream that a hanging rank does not answer.
async fn unanswered(scene: &Scene, mut connection: Connection, topic: &str) -> Result<Waiting> {
    let request = posted(scene, &turns(topic, 1))?;
    let before = scene.envoy.metric("requests_in_flight").await?;
    let waiting = tokio::spawn(async move { Reply::read(connection.send(request).await?).await });
    scene
        .envoy
        .wait_for_metric("requests_in_flight", before + 1)
        .await?;
    Ok(waiting)
}

/// Traps the VM of the worker that serves a new connection, and tells which that is.
async fn trap(scene: &Scene) -> Result<usize> {
    let (worker, mut connection) = workers::connect(&scene.envoy, Protocol::Http1Length).await?;
    let upload = upload::whole("");
    let request = scene.request(
        Method::GET,
        "/v1/models",
        &[(TRAP_HEADER, "1")],
        upload,
        None,
    )?;
    let reply = Reply::read(connection.send(request).await?).await?;
    assert_eq!(reply.status, 503);
    Ok(worker)
}

/// The rank that answers a conversation's second turn through a worker whose VM has trapped. Envoy makes it no new VM within
/// a second of the last, and answers itself until then.
async fn rank_through(scene: &Scene, worker: usize, topic: &str) -> Result<SocketAddr> {
    let mut others = Vec::new();
    loop {
        let (other, mut connection) = workers::connect(&scene.envoy, Protocol::Http1Length).await?;
        if other != worker {
            // Open as long as it takes: the next connection goes to a worker with fewer.
            others.push(connection);
            continue;
        }
        let request = posted(scene, &turns(topic, 2))?;
        let reply = Reply::read(connection.send(request).await?).await?;
        if reply.status != 503 {
            return reply.rank().context("a rank answers");
        }
    }
}

each_envoy! {
    async fn a_trap_ends_the_streams_of_its_worker_and_no_others(version: &str) -> Result<()> {
        let scene = scene(version, WORKERS).await?;
        scene.set_all(Fault::Hanging).await;
        let (mut all_held, mut all_unanswered) = (BTreeMap::new(), BTreeMap::new());
        for number in 0..2 * WORKERS as usize {
            let protocol = Protocol::ALL[number % 3];
            let (worker, connection) = workers::connect(&scene.envoy, protocol).await?;
            if let Entry::Vacant(place) = all_held.entry(worker) {
                place.insert(held(&scene, connection, protocol).await?);
            } else {
                all_unanswered.insert(worker, unanswered(&scene, connection, &format!("topic {number}")).await?);
            }
        }
        assert_eq!((all_held.len(), all_unanswered.len()), (4, 4));
        let trapped = trap(&scene).await?;
        let (go_on, lost) = all_held.remove(&trapped).context("a worker of ours")?;
        let _ = go_on.send(());
        assert_eq!(lost.await??.status, 503);
        let lost = all_unanswered.remove(&trapped).context("a worker of ours")?;
        for (metric, value) in [("requests_in_flight", 3), ("requests_held", 3)] {
            scene.envoy.wait_for_metric(metric, value).await?;
        }
        // Through all workers, also that with the new VM; then the ranks answer.
        let mut ranks = spread(&scene, RANKS - 3, 3).await?;
        assert_eq!(lost.await??.status, 503);
        for stream in all_unanswered.into_values() {
            let reply = stream.await??;
            assert_eq!(reply.status, 200);
            *ranks.entry(reply.rank().context("a rank answers")?).or_default() += 1;
        }
        assert_eq!(ranks, evenly(&scene, 1));
        for (go_on, stream) in all_held.into_values() {
            let _ = go_on.send(());
            assert_eq!(stream.await??.status, 200);
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn the_next_vm_knows_what_all_workers_and_the_last_one_sent(version: &str) -> Result<()> {
        let scene = scene(version, WORKERS).await?;
        let mut homes = Vec::new();
        for (worker, connection) in workers::one_on_each(&scene.envoy, WORKERS, Protocol::Http1Length).await?.iter_mut().enumerate() {
            for topic in 0..3 {
                let topic = format!("topic {topic} of worker {worker}");
                homes.push((rank_of(&scene, connection, &turns(&topic, 1)).await?, topic));
            }
        }
        let trapped = trap(&scene).await?;
        let hits = scene.envoy.metric("picks_prefix_hit").await?;
        for (home, topic) in &homes {
            assert_eq!(rank_through(&scene, trapped, topic).await?, *home, "{topic}");
        }
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, hits + homes.len() as u64);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn nothing_stays_counted_when_the_only_worker_traps(version: &str) -> Result<()> {
        let scene = scene(version, 1).await?;
        scene.set_all(Fault::Hanging).await;
        let (held_on, waits_on) = (scene.connect(Protocol::Http2).await?, scene.connect(Protocol::Http2).await?);
        let (_go_on, held) = held(&scene, held_on, Protocol::Http2).await?;
        let unanswered = unanswered(&scene, waits_on, "topic").await?;
        assert!(scene.envoy.metric("queued_tokens").await? > 0);
        trap(&scene).await?;
        // No request comes: only the VM of the main thread is left to see it.
        scene.envoy.wait_until_nothing_is_counted().await?;
        // Nothing in Envoy tells streams that their VM is gone: they learn it with the next byte, or when they time out.
        assert!(!held.is_finished() && !unanswered.is_finished());
        Ok(())
    }

    async fn streams_of_a_vm_that_trapped_end_with_their_idle_timeout_at_the_latest(version: &str) -> Result<()> {
        let module = repository::trap_module()?;
        let scene = Scene::start(version, 1, 8, |b| balanced(b).module(&module).stream_idle_timeout(3.0)).await?;
        scene.set_all(Fault::Hanging).await;
        let mut streams = Vec::new();
        for protocol in Protocol::ALL {
            let (held_on, waits_on) = (scene.connect(protocol).await?, scene.connect(protocol).await?);
            let (go_on, held) = held(&scene, held_on, protocol).await?;
            streams.push((go_on, held, unanswered(&scene, waits_on, "topic").await?));
        }
        trap(&scene).await?;
        for (_go_on, held, unanswered) in streams {
            assert_eq!((held.await??.status, unanswered.await??.status), (503, 503));
        }
        Ok(())
    }
}
