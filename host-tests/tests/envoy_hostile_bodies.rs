//! What a client announces, leaves out or is refused for steers, blinds and starves nothing, in a real Envoy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host_tests::apart::{Apart, ApartScene};
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::{Connection, Protocol};
use host_tests::conversation;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::reply::{Reply, post};
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::{Fault, SidecarVersion};
use host_tests::upload::{self, Pace};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// What a simulated rank can hold, unless it is told otherwise: no request may weigh more.
const CAPACITY_TOKENS: u64 = 500_000;

/// The gateway's own timer, so that a body that stalls is decided on.
fn by_timer(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.picker_field("decideAfterIdleMs", json!(20))
}

/// Sends the head of a request and the beginning of its body, and then nothing.
async fn stall(envoy: &Envoy, head: &str, beginning: &str) -> Result<TcpStream> {
    let gateway = envoy.gateway();
    let mut stream = TcpStream::connect(gateway).await?;
    let head = format!("POST {COMPLETIONS} HTTP/1.1\r\nhost: {gateway}\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(beginning.as_bytes()).await?;
    Ok(stream)
}

/// A body that announces a terabyte and has a hundred bytes.
async fn announce(envoy: &Envoy, number: usize) -> Result<TcpStream> {
    let beginning = format!(
        r#"{{"model":"simulated","prompt":"{number} {}"#,
        "x".repeat(70)
    );
    stall(envoy, "content-length: 1000000000000", &beginning).await
}

/// A chunked body that stops in its prompt, of a request whose answer would be streamed.
async fn hang(envoy: &Envoy, number: usize) -> Result<TcpStream> {
    let beginning = format!(r#"{{"model":"simulated","stream":true,"prompt":"hang {number} "#);
    let chunk = format!("{:x}\r\n{beginning}\r\n", beginning.len());
    stall(envoy, "transfer-encoding: chunked", &chunk).await
}

async fn stalled(envoy: &Envoy, count: usize, announces: bool) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for number in 0..count {
        streams.push(match announces {
            true => announce(envoy, number).await?,
            false => hang(envoy, number).await?,
        });
        let count = u64::try_from(streams.len())?;
        envoy.wait_for_metric("requests_incomplete", count).await?;
    }
    Ok(streams)
}

/// A short prompt that begins like no other.
fn guest(number: usize) -> Value {
    json!({"model": "simulated", "prompt": format!("{number}: {}", "what is the tide doing? ".repeat(20)), "max_tokens": 1})
}

/// Where so many honest requests went, one after the other.
async fn honest(
    scene: &Scene,
    numbers: std::ops::Range<usize>,
) -> Result<BTreeMap<SocketAddr, usize>> {
    let mut connection = scene.connect(Protocol::Http1Length).await?;
    let mut ranks = BTreeMap::new();
    for number in numbers {
        let rank = conversation::rank_of(scene, &mut connection, &guest(number)).await?;
        *ranks.entry(rank).or_insert(0) += 1;
    }
    Ok(ranks)
}

/// The share of the rank that got most, in percent.
fn busiest(ranks: &BTreeMap<SocketAddr, usize>) -> usize {
    let all: usize = ranks.values().sum();
    ranks.values().max().copied().unwrap_or(0) * 100 / all.max(1)
}

/// Asks whether each conversation is cached where it goes: by the ranks' own counts, as a part of all their tokens.
async fn cached_share(scene: &Scene, turns: usize) -> Result<f64> {
    let mut connection = scene.connect(Protocol::Http1Length).await?;
    let (mut cached, mut all) = (0.0, 0.0);
    for topic in TOPICS {
        let body = conversation::turns(topic, turns);
        let request = conversation::posted(scene, &body)?;
        let reply = Reply::read(connection.send(request).await?).await?;
        ensure!(reply.status == 200, "{reply:?}");
        let usage = &reply.json()?["usage"];
        let count = |value: &Value| value.as_f64().context("a count");
        cached += count(&usage["prompt_tokens_details"]["cached_tokens"])?;
        all += count(&usage["prompt_tokens"])?;
    }
    Ok(cached / all)
}

const TOPICS: [&str; 12] = [
    "tides", "reefs", "bays", "capes", "shoals", "straits", "lagoons", "fjords", "deltas",
    "atolls", "sounds", "banks",
];

/// A prompt of so many bytes that a rank refuses: the request asks for more tokens than any model has room for.
fn refused(number: usize, bytes: usize) -> Value {
    let line = format!("{number} is refused. ");
    json!({"model": "simulated", "prompt": line.repeat(bytes / line.len()), "max_tokens": 100_000_000})
}

each_envoy! {
    async fn an_announced_terabyte_weighs_nothing(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 8, by_timer).await?;
        let streams = stalled(&scene.envoy, 15, true).await?;
        assert_eq!(scene.envoy.metric("queued_tokens").await?, 0);
        let ranks = honest(&scene, 0..160).await?;
        println!("{version}: busiest of 16 ranks got {} % of 160 honest requests beside 15 announced terabytes", busiest(&ranks));
        assert!(busiest(&ranks) <= 20 && ranks.len() >= 12, "{ranks:?}");
        drop(streams);
        scene.envoy.wait_until_nothing_is_counted().await?;
        scene.envoy.wait_for_metric("requests_incomplete", 0).await
    }

    async fn many_small_images_weigh_no_more_than_a_rank_holds(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 8, by_timer).await?;
        scene.set_all(Fault::Hanging).await;
        let images = vec![r#"{"image":1}"#; 60_000].join(",");
        let body = format!(r#"{{"model":"simulated","messages":[{{"role":"user","content":[{images}]}}],"max_tokens":1}}"#);
        let length = Some(body.len());
        let request = scene.request(Method::POST, CHAT, &[ECHO], upload::whole(body), length)?;
        let mut connection = scene.connect(Protocol::Http1Length).await?;
        let pending = tokio::spawn(async move { connection.send(request).await.map(drop) });
        scene.envoy.wait_for_metric("requests_in_flight", 1).await?;
        let queued = scene.envoy.metric("queued_tokens").await?;
        println!("{version}: 60,000 images weigh {queued} tokens");
        assert!((1..=CAPACITY_TOKENS).contains(&queued), "{queued}");
        pending.abort();
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_long_body_weighs_what_came_of_it_once_it_has_ended(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, by_timer).await?;
        scene.set_all(Fault::Hanging).await;
        for protocol in Protocol::ALL {
            let text = "The quick brown fox jumps over the lazy dog. ".repeat(30_000);
            let body = json!({"model": "simulated", "stream": true, "prompt": text}).to_string();
            let length = (protocol == Protocol::Http1Length).then_some(body.len());
            let tokens = u64::try_from(body.len())? / 4;
            let (word, upload) = upload::on_word(body.into());
            let request = scene.request(Method::POST, COMPLETIONS, &[ECHO], upload, length)?;
            let mut connection = scene.connect(protocol).await?;
            let pending = tokio::spawn(async move { connection.send(request).await.map(drop) });
            scene.envoy.wait_for_metric("requests_incomplete", 1).await?;
            assert_eq!(scene.envoy.metric("queued_tokens").await?, 0, "{protocol:?}");
            word.send(()).expect("the body waits");
            scene.envoy.wait_for_metric("requests_incomplete", 0).await?;
            let queued = scene.envoy.metric("queued_tokens").await?;
            assert!(queued.abs_diff(tokens) < tokens / 20, "{protocol:?}: {queued} of {tokens}");
            pending.abort();
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn bodies_that_stop_put_no_rank_out(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 8, by_timer).await?;
        let streams = stalled(&scene.envoy, 15, false).await?;
        // Longer than a rank may stay silent, and others are answered all the time.
        let end = tokio::time::Instant::now() + Duration::from_secs(8);
        let (mut number, mut most_out) = (0, 0);
        while tokio::time::Instant::now() < end {
            honest(&scene, number..number + 1).await?;
            number += 1;
            most_out = most_out.max(scene.envoy.metric("ranks_out").await?);
        }
        println!("{version}: at most {most_out} of 16 ranks were out beside 15 bodies that stop, {number} honest requests");
        assert_eq!(most_out, 0);
        assert_eq!(scene.envoy.metric("failures_no_first_byte").await?, 0);
        drop(streams);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn bodies_that_stop_put_no_rank_out_where_prefill_and_decode_are_apart(version: &str) -> Result<()> {
        let apart = Apart { pods: 2, ranks_per_pod: 4, sidecar: SidecarVersion::V0_9 };
        let scene = ApartScene::start(version, apart, by_timer).await?;
        let streams = stalled(&scene.envoy, 15, false).await?;
        let end = tokio::time::Instant::now() + Duration::from_secs(8);
        let (mut number, mut most_out) = (0, 0);
        while tokio::time::Instant::now() < end {
            let mut body = guest(number);
            body["stream"] = json!(true);
            let reply = post(scene.envoy.gateway(), COMPLETIONS, &body).await?;
            ensure!(reply.status == 200, "{reply:?}");
            number += 1;
            most_out = most_out.max(scene.envoy.metric("ranks_out").await?);
        }
        println!("{version}: at most {most_out} of 8 prefill and 8 decode ranks were out, {number} honest requests");
        assert_eq!(most_out, 0);
        drop(streams);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn bodies_that_stop_keep_no_rank_from_coming_back(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, by_timer).await?;
        let streams = stalled(&scene.envoy, 40, false).await?;
        scene.set_all(Fault::Failing { status: 500 }).await;
        let mut connection = scene.connect(Protocol::Http1Length).await?;
        let mut number = 0;
        while scene.envoy.metric("ranks_out").await? == 0 {
            let request = conversation::posted(&scene, &guest(number))?;
            Reply::read(connection.send(request).await?).await?;
            number += 1;
            ensure!(number < 500, "no rank goes out");
        }
        scene.set_all(Fault::None).await;
        let mut coming_back = 1;
        while scene.envoy.metric("ranks_out").await? + coming_back > 0 {
            honest(&scene, number..number + 4).await?;
            number += 4;
            coming_back = scene.envoy.metric("ranks_coming_back").await?;
            ensure!(number < 20_000, "a rank stays half-open");
        }
        drop(streams);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn what_ranks_refuse_leaves_the_belief_in_conversations_alone(version: &str) -> Result<()> {
        let scene = Scene::start(version, 4, 8, |bootstrap| bootstrap).await?;
        cached_share(&scene, 8).await?;
        let before = cached_share(&scene, 9).await?;
        for number in 0..40 {
            let body = refused(number, 600_000).to_string();
            let length = Some(body.len());
            let request = scene.request(Method::POST, COMPLETIONS, &[], upload::whole(body), length)?;
            let reply = scene.exchange(Protocol::Http1Length, request).await?;
            ensure!(reply.status == 400, "{reply:?}");
        }
        let after = cached_share(&scene, 10).await?;
        println!("{version}: cached share of conversations {before:.2} before and {after:.2} after 40 refused prompts of 600 KB");
        assert!(before > 0.8 && after > before - 0.02, "{before} {after}");
        assert_eq!(scene.envoy.metric("prompts_taken_back").await?, 40);
        // The same again: nothing of it is believed to be anywhere, on any worker.
        let matched = scene.envoy.metric("matched_tokens").await?;
        for number in 0..8 {
            let reply = scene.post(COMPLETIONS, &refused(number, 600_000), &[]).await?;
            ensure!(reply.status == 400, "{reply:?}");
        }
        assert_eq!(scene.envoy.metric("matched_tokens").await?, matched);
        Ok(())
    }

    async fn a_request_that_its_client_takes_away_leaves_nothing(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 2, by_timer).await?;
        scene.set_all(Fault::Hanging).await;
        let body = json!({"model": "simulated", "stream": true, "prompt": "who leaves? ".repeat(20_000)}).to_string();
        for (protocol, pace) in Protocol::ALL.into_iter().flat_map(|protocol| {
            [Pace::Fast, Pace::StopsHalfWay].map(|pace| (protocol, pace))
        }) {
            let matched = scene.envoy.metric("matched_tokens").await?;
            let length = (protocol == Protocol::Http1Length).then_some(body.len());
            let upload = upload::paced(body.clone().into(), pace);
            let request = scene.request(Method::POST, COMPLETIONS, &[ECHO], upload, length)?;
            let mut connection: Connection = scene.connect(protocol).await?;
            let pending = tokio::spawn(async move { connection.send(request).await.map(drop) });
            scene.envoy.wait_for_metric("requests_in_flight", 1).await?;
            pending.abort();
            scene.envoy.wait_until_nothing_is_counted().await?;
            assert_eq!(scene.envoy.metric("matched_tokens").await?, matched, "{protocol:?} {pace:?}");
        }
        Ok(())
    }

    async fn prompts_of_which_nothing_has_come_are_spread(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 4, by_timer).await?;
        let mut ranks = BTreeMap::new();
        for number in 0..10 {
            scene.envoy.wait_for_metric("requests_incomplete", 0).await?;
            let body = guest(number).to_string();
            let length = body.len();
            let gateway = scene.envoy.gateway();
            let mut stream = TcpStream::connect(gateway).await?;
            let head = format!(
                "POST {COMPLETIONS} HTTP/1.1\r\nhost: {gateway}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            scene.envoy.wait_for_metric("requests_incomplete", 1).await?;
            stream.write_all(body.as_bytes()).await?;
            let rank = rank_of(stream).await?;
            *ranks.entry(rank).or_insert(0) += 1;
        }
        println!("{version}: 10 prompts that came after their pick went to {} of 8 ranks", ranks.len());
        assert!(ranks.len() >= 4, "{ranks:?}");
        assert_eq!(scene.envoy.metric("bodies_cut_idle").await?, 10);
        Ok(())
    }
}

/// The rank that an answer names.
async fn rank_of(mut stream: TcpStream) -> Result<SocketAddr> {
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await?;
    let mut lines = answer.lines();
    let line = lines.find_map(|line| line.strip_prefix("x-simulated-rank: "));
    Ok(line
        .with_context(|| format!("no rank in {answer}"))?
        .parse()?)
}
