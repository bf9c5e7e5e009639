//! Clients that ask before they send a body (`Expect: 100-continue`), in a real Envoy.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use host_tests::bootstrap::Bootstrap;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::{PodsConfig, SimulatedPods};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// curl asks for bodies of more than a MiB.
const PROMPT_BYTES: usize = 1_200_000;

fn body(topic: &str) -> String {
    let prompt = format!("{topic}, ").repeat(PROMPT_BYTES / (topic.len() + 2));
    json!({"model": "simulated", "max_tokens": 1, "prompt": prompt}).to_string()
}

/// The head of an answer: status and lines of headers.
struct Head {
    status: u16,
    lines: Vec<String>,
}

impl Head {
    async fn read(stream: &mut BufReader<TcpStream>) -> Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(
                stream.read_line(&mut line).await? > 0,
                "the connection ended in a head"
            );
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_string());
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1));
        let status = status.context("a status")?.parse()?;
        Ok(Self { status, lines })
    }

    fn rank(&self) -> Option<SocketAddr> {
        let mut lines = self.lines.iter();
        lines.find_map(|line| line.strip_prefix("x-simulated-rank: ")?.parse().ok())
    }
}

/// Sends the head of a request that asks.
async fn ask(gateway: SocketAddr, length: usize) -> Result<BufReader<TcpStream>> {
    let mut stream = BufReader::new(TcpStream::connect(gateway).await?);
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: {gateway}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nExpect: 100-Continue\r\n{}: {}\r\nconnection: close\r\n\r\n",
        ECHO.0, ECHO.1
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// A client that sends nothing of the body before it was told to.
async fn post(gateway: SocketAddr, body: &str) -> Result<Head> {
    let mut stream = ask(gateway, body.len()).await?;
    let first = Head::read(&mut stream).await?;
    ensure!(first.status == 100, "{:?}", first.lines);
    // Who refuses may close before all was sent.
    let _ = stream.write_all(body.as_bytes()).await;
    Head::read(&mut stream).await
}

async fn scene(version: &str, is_proxied: bool) -> Result<Scene> {
    let adapt = |bootstrap: Bootstrap| bootstrap.proxy_100_continue(is_proxied);
    Scene::start(version, 1, 8, adapt).await
}

async fn picks(envoy: &Envoy) -> Result<[u64; 5]> {
    let mut values = [0; 5];
    let names = [
        "bodies_whole",
        "bodies_cut_bytes",
        "bodies_cut_idle",
        "picks_prefix_hit",
        "expect_continue_proxied",
    ];
    for (value, name) in values.iter_mut().zip(names) {
        *value = envoy.metric(name).await?;
    }
    Ok(values)
}

each_envoy! {
    async fn a_gateway_that_answers_100_itself_reads_the_prompt_first(version: &str) -> Result<()> {
        let adapt = |bootstrap: Bootstrap| bootstrap.picker_field("decideAfterBytes", json!(4 << 20));
        let scene = Scene::start(version, 1, 8, adapt).await?;
        let first = post(scene.envoy.gateway(), &body("tides")).await?;
        let again = post(scene.envoy.gateway(), &body("tides")).await?;
        assert_eq!((first.status, again.status), (200, 200));
        assert!(first.rank().is_some() && first.rank() == again.rank());
        assert_eq!(picks(&scene.envoy).await?, [2, 0, 0, 1, 0]);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn the_gateway_that_istio_makes_answers_100_itself(version: &str) -> Result<()> {
        let addresses: [Ipv4Addr; 4] = pod_addresses::unused(4).try_into().ok().context("four pods")?;
        let config = PodsConfig { pods: addresses.to_vec(), ranks_per_pod: 8, ..PodsConfig::default() };
        let _pods = SimulatedPods::start(config).await?;
        let envoy = Envoy::start(version, 1, &Bootstrap::of_istio(addresses)?).await?;
        envoy.wait_for_metric("ranks_listed", 32).await?;
        let first = post(envoy.gateway(), &body("tides")).await?;
        let again = post(envoy.gateway(), &body("tides")).await?;
        assert!(first.rank().is_some() && first.rank() == again.rank());
        assert_eq!(envoy.metric("picks_prefix_hit").await?, 1);
        assert_eq!(envoy.metric("expect_continue_proxied").await?, 0);
        envoy.wait_until_nothing_is_counted().await
    }

    async fn where_100_is_left_to_ranks_a_pick_does_not_wait_and_the_prompt_is_known_after(version: &str) -> Result<()> {
        let scene = scene(version, true).await?;
        let first = post(scene.envoy.gateway(), &body("tides")).await?;
        assert_eq!((first.status, picks(&scene.envoy).await?), (200, [0, 0, 1, 0, 1]));
        // What passed was read: the same prompt finds its rank again when it comes without asking.
        let body: serde_json::Value = serde_json::from_str(&body("tides"))?;
        let again = scene.post("/v1/completions", &body, &[ECHO]).await?;
        assert_eq!((again.status, again.rank()), (200, first.rank()));
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 1);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn what_a_client_must_not_say_is_refused_though_it_asked_first(version: &str) -> Result<()> {
        for is_proxied in [false, true] {
            let scene = scene(version, is_proxied).await?;
            let body = json!({"prompt": "tides", "kv_transfer_params": {"remote_host": "elsewhere"}});
            let refused = post(scene.envoy.gateway(), &body.to_string()).await?;
            assert_eq!(refused.status, 400, "{is_proxied}: {:?}", refused.lines);
            assert_eq!(scene.envoy.metric("requests_refused").await?, 1);
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn a_client_that_asks_and_goes_away_leaves_nothing(version: &str) -> Result<()> {
        for is_proxied in [false, true] {
            let scene = scene(version, is_proxied).await?;
            let mut stream = ask(scene.envoy.gateway(), 1000).await?;
            assert_eq!(Head::read(&mut stream).await?.status, 100);
            drop(stream);
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }
}
