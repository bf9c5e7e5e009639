//! What requests without an answer take of the gateway's memory, and what becomes of more of them, in a real Envoy.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::{Connection, Protocol, Upload};
use host_tests::each_envoy;
use host_tests::process_usage::resident_bytes;
use host_tests::reply::Reply;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::Fault;
use host_tests::upload;
use hyper::{Method, Request};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const PATH: &str = "/v1/completions";
const MIB: u64 = 1 << 20;
/// The largest body that is kept to be sent again is 8 MiB.
const BODY_BYTES: u64 = 7 * MIB;
const REQUESTS: u64 = 60;
/// Beyond the heap: code, V8 with a VM of the module, and what the allocator holds for later.
const BESIDE_BYTES: u64 = 250 * MIB;
const PATIENCE: Duration = Duration::from_secs(60);
/// The overload manager looks each 100 ms, and a heap is small here.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(100);
/// Bytes that come would be seen between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

fn body(number: u64) -> Bytes {
    let text = format!("{number} tides, ");
    let prompt = text.repeat(usize::try_from(BODY_BYTES).unwrap_or(0) / text.len());
    json!({"model": "simulated", "prompt": prompt})
        .to_string()
        .into()
}

async fn scene(version: &str, heap_bytes: u64) -> Result<Scene> {
    let adapt = |bootstrap: Bootstrap| bootstrap.heap_limit(heap_bytes);
    let scene = Scene::start(version, 1, 8, adapt).await?;
    scene.set_all(Fault::Hanging).await;
    Ok(scene)
}

/// Requests of clients that wait for their answers.
#[derive(Default)]
struct Crowd(JoinSet<Option<u16>>);

impl Crowd {
    async fn send(&mut self, scene: &Scene, protocol: Protocol, upload: Upload) -> Result<()> {
        let request = scene.request(Method::POST, PATH, &[ECHO], upload, None)?;
        let connection = scene.connect(protocol).await?;
        self.0.spawn(answer(connection, request));
        Ok(())
    }

    /// The status of those that are over, `None` where the gateway ended the stream.
    async fn over(&mut self) -> Result<Vec<Option<u16>>> {
        let mut over = Vec::new();
        while let Some(status) = self.0.try_join_next() {
            over.push(status?);
        }
        Ok(over)
    }
}

async fn answer(mut connection: Connection, request: Request<Upload>) -> Option<u16> {
    let response = connection.send(request).await.ok()?;
    Some(Reply::read(response).await.ok()?.status)
}

fn resident(scene: &Scene) -> Result<u64> {
    resident_bytes(scene.envoy.process_id().context("runs")?)
}

/// What the heap limit counts.
async fn allocated(scene: &Scene) -> Result<u64> {
    scene.envoy.stat("server.memory_allocated").await
}

/// Waits until each request is held by a rank or over and no more bytes come, and gives the status of those that are over.
/// Looks at memory meanwhile, and gives the most that was seen.
async fn settle(scene: &Scene, crowd: &mut Crowd) -> Result<(Vec<Option<u16>>, u64)> {
    let (mut over, mut most, mut received) = (Vec::new(), 0, 0);
    let end = Instant::now() + PATIENCE;
    loop {
        over.extend(crowd.over().await?);
        most = most.max(resident(scene)?);
        let held = scene.envoy.metric("requests_in_flight").await?;
        let waiting = scene.envoy.metric("requests_held").await?;
        let name = "http.gateway.downstream_cx_rx_bytes_total";
        let before = std::mem::replace(&mut received, scene.envoy.stat(name).await?);
        let is_quiet = waiting == 0 && before == received;
        if is_quiet && held + over.len() as u64 == REQUESTS {
            return Ok((over, most));
        }
        if Instant::now() > end {
            bail!("{held} on ranks, {waiting} waiting, {} over", over.len());
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn get(scene: &Scene) -> Result<u16> {
    let request = scene.request(Method::GET, "/v1/models", &[ECHO], upload::whole(""), None)?;
    Ok(scene.exchange(Protocol::Http1Length, request).await?.status)
}

/// Ranks answer again: what was held is answered, and soon new requests are, too. Gives the statuses of what was held.
async fn recover(scene: &Scene, mut crowd: Crowd) -> Result<Vec<Option<u16>>> {
    scene.set_all(Fault::None).await;
    let mut statuses = Vec::new();
    while let Some(status) = crowd.0.join_next().await {
        statuses.push(status?);
    }
    scene.envoy.wait_until_nothing_is_counted().await?;
    let end = Instant::now() + PATIENCE;
    while get(scene).await? != 200 {
        if Instant::now() > end {
            bail!("requests are refused for ever");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(statuses)
}

each_envoy! {
    async fn requests_that_memory_is_too_short_for_get_503_and_the_rest_is_answered(version: &str) -> Result<()> {
        for protocol in [Protocol::Http1Chunked, Protocol::Http2] {
            let heap = 400 * MIB;
            let scene = scene(version, heap).await?;
            let (before, allocated_before) = (resident(&scene)?, allocated(&scene).await?);
            let mut crowd = Crowd::default();
            for number in 0..REQUESTS {
                crowd.send(&scene, protocol, upload::whole(body(number))).await?;
                sleep(BETWEEN_REQUESTS).await;
            }
            let (over, most) = settle(&scene, &mut crowd).await?;
            let held = REQUESTS - over.len() as u64;
            println!("{version}, {protocol:?}: {held} of {REQUESTS} held, {} MiB before, {} MiB at most",
                before / MIB, most / MIB);
            assert!(held > 5 && !over.is_empty(), "{held}");
            assert!(over.iter().all(|status| matches!(status, Some(500 | 503) | None)), "{over:?}");
            assert!(most < heap + BESIDE_BYTES, "{} MiB", most / MIB);
            let allocated = allocated(&scene).await? - allocated_before;
            println!("{:.2} MiB allocated for each", allocated as f64 / (held * MIB) as f64);
            let statuses = recover(&scene, crowd).await?;
            assert!(statuses.iter().all(|status| *status == Some(200)), "{statuses:?}");
        }
        Ok(())
    }

    async fn bodies_that_grow_after_all_were_accepted_are_reset_before_memory_ends(version: &str) -> Result<()> {
        for protocol in [Protocol::Http1Chunked, Protocol::Http2] {
            let heap = 400 * MIB;
            let scene = scene(version, heap).await?;
            let (mut crowd, mut words) = (Crowd::default(), Vec::new());
            for number in 0..REQUESTS {
                let (word, upload) = upload::on_word(body(number));
                words.push(word);
                crowd.send(&scene, protocol, upload).await?;
            }
            scene.envoy.wait_for_metric("requests_in_flight", REQUESTS).await?;
            println!("{version}, {protocol:?}: {} MiB with the first halves", resident(&scene)? / MIB);
            for word in words {
                let _ = word.send(());
            }
            let (over, most) = settle(&scene, &mut crowd).await?;
            println!("{version}, {protocol:?}: {} of {REQUESTS} held, {} MiB at most", REQUESTS - over.len() as u64, most / MIB);
            assert!(most < heap + BESIDE_BYTES, "{} MiB", most / MIB);
            // A body of which more comes while memory is still short is refused then.
            let statuses = recover(&scene, crowd).await?;
            assert!(statuses.iter().all(|status| matches!(status, Some(200 | 500 | 503) | None)), "{statuses:?}");
            assert!(statuses.contains(&Some(200)), "{statuses:?}");
        }
        Ok(())
    }

    async fn connections_that_are_too_many_are_closed(version: &str) -> Result<()> {
        let adapt = |bootstrap: Bootstrap| bootstrap.connection_limit(20);
        let scene = Scene::start(version, 1, 2, adapt).await?;
        let mut connections = Vec::new();
        let mut served = 0;
        for _ in 0..40 {
            let mut connection = scene.connect(Protocol::Http1Length).await?;
            let request = scene.request(Method::GET, "/v1/models", &[ECHO], upload::whole(""), None)?;
            served += usize::from(connection.send(request).await.is_ok());
            connections.push(connection);
        }
        assert_eq!(served, 20);
        drop(connections);
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
