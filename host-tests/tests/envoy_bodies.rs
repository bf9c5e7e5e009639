//! Bodies of every size and pace over every protocol, in a real Envoy, with the default buffer limit and a low one.
//!
//! Each test also writes what it saw to `target/reports/bodies-<version>.md`, a row for each cell.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use bytes::Bytes;
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::{Protocol, Upload};
use host_tests::each_envoy;
use host_tests::reply::Reply;
use host_tests::repository;
use host_tests::scene::{ECHO, Scene};
use host_tests::upload::{self, Pace};
use hyper::Method;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

const MIB: usize = 1 << 20;
const LOW_LIMIT: u32 = 32 * 1024;
/// Long against the pauses of a busy machine, short enough to wait for.
const STALL_SECONDS: f64 = 3.0;
const PICKED_WITH_PROMPT: [&str; 3] = ["bodies_whole", "bodies_cut_bytes", "bodies_cut_idle"];

/// A body and how it is sent.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    bytes: usize,
    pace: Pace,
}

const CASES: [Case; 7] = [
    Case {
        name: "20 KiB",
        bytes: 20 * 1024,
        pace: Pace::Fast,
    },
    Case {
        name: "400 KiB",
        bytes: 400 * 1024,
        pace: Pace::Fast,
    },
    Case {
        name: "4 MiB",
        bytes: 4 * MIB,
        pace: Pace::Fast,
    },
    Case {
        name: "100 MiB",
        bytes: 100 * MIB,
        pace: Pace::Fast,
    },
    Case {
        name: "1,500 bytes, one at a time",
        bytes: 1500,
        pace: Pace::ByteByByte,
    },
    Case {
        name: "20 KiB, stops half-way",
        bytes: 20 * 1024,
        pace: Pace::StopsHalfWay,
    },
    Case {
        name: "4 MiB, stops half-way",
        bytes: 4 * MIB,
        pace: Pace::StopsHalfWay,
    },
];

/// A chat request of exactly so many bytes.
fn body(bytes: usize) -> Bytes {
    const LINE: &str = "The quick brown fox jumps over the lazy dog, over and over. ";
    const TAIL: &str = r#""}],"max_tokens":1}"#;
    let mut body = r#"{"model":"simulated","messages":[{"role":"user","content":""#.to_string();
    while body.len() + TAIL.len() < bytes {
        let missing = bytes - TAIL.len() - body.len();
        body.push_str(&LINE[..LINE.len().min(missing)]);
    }
    Bytes::from(body + TAIL)
}

/// The picker with its timer as it is by default.
fn with_timer(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.picker_field("decideAfterIdleMs", json!(50))
}

async fn send(scene: &Scene, protocol: Protocol, case: Case) -> Result<Reply> {
    let body = body(case.bytes);
    let length = (protocol == Protocol::Http1Length).then_some(body.len());
    let upload = upload::paced(body, case.pace);
    let request = scene.request(
        Method::POST,
        "/v1/chat/completions",
        &[ECHO],
        upload,
        length,
    )?;
    scene.exchange(protocol, request).await
}

/// Sends one body, checks what must hold, and tells what was seen.
async fn cell(scene: &Scene, protocol: Protocol, case: Case) -> Result<String> {
    let before = decisions(scene).await?;
    let reply = send(scene, protocol, case).await?;
    let after = decisions(scene).await?;
    let decided: Vec<&str> = (0..3)
        .filter(|&i| after[i] > before[i])
        .map(|i| PICKED_WITH_PROMPT[i])
        .collect();
    scene.envoy.wait_until_nothing_is_counted().await?;
    assert_eq!(decided.len(), 1, "decided once, by the prompt: {decided:?}");
    if case.pace == Pace::StopsHalfWay {
        assert_eq!(reply.status, 408);
        return Ok(format!("408 when idle too long, {}", decided[0]));
    }
    let digest = reply.digest()?;
    assert_eq!(digest.body_bytes, u64::try_from(case.bytes)?);
    assert_eq!(
        digest.body_xxh3,
        format!("{:016x}", xxh3_64(&body(case.bytes)))
    );
    assert_eq!(reply.rank(), digest.named_ranks().first().copied());
    Ok(format!("{}, same bytes, {}", reply.status, decided[0]))
}

async fn decisions(scene: &Scene) -> Result<[u64; 3]> {
    let mut counts = [0; 3];
    for (count, name) in counts.iter_mut().zip(PICKED_WITH_PROMPT) {
        *count = scene.envoy.metric(name).await?;
    }
    Ok(counts)
}

async fn row(scene: &Scene, limit: Option<u32>, case: Case) -> Result<String> {
    let limit = limit.map_or("1 MiB (default)".to_string(), |bytes| {
        format!("{} KiB", bytes / 1024)
    });
    let mut row = format!("| {} | {limit} |", case.name);
    for protocol in Protocol::ALL {
        let place = || format!("{} over {protocol:?}, limit {limit}", case.name);
        let _ = write!(
            row,
            " {} |",
            cell(scene, protocol, case).await.with_context(place)?
        );
    }
    Ok(row)
}

fn write_report(version: &str, rows: &[String]) -> Result<()> {
    let head = format!(
        "Envoy {version}\n\n| body | buffer limit | HTTP/1.1 content-length | HTTP/1.1 chunked | HTTP/2 |\n\
         | --- | --- | --- | --- | --- |\n"
    );
    let folder = repository::root().join("target/reports");
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(
        folder.join(format!("bodies-{version}.md")),
        format!("{head}{}\n", rows.join("\n")),
    )?)
}

each_envoy! {
    async fn every_body_arrives_whole_or_is_ended(version: &str) -> Result<()> {
        let mut rows = Vec::new();
        for limit in [None, Some(LOW_LIMIT)] {
            let adapt = |b: Bootstrap| with_timer(b).buffer_limit(limit).stream_idle_timeout(STALL_SECONDS);
            let scene = Scene::start(version, 2, 2, adapt).await?;
            for case in CASES {
                rows.push(row(&scene, limit, case).await?);
            }
        }
        write_report(version, &rows)
    }

    async fn many_bodies_on_one_connection_do_not_starve_each_other(version: &str) -> Result<()> {
        // Together far more than the window of an HTTP/2 connection: held bodies use it up, and the timer must let go.
        const STREAMS: usize = 64;
        let scene = Scene::start(version, 1, 8, with_timer).await?;
        let io = TokioIo::new(TcpStream::connect(scene.envoy.gateway()).await?);
        let (sender, driver) = http2::handshake::<_, _, Upload>(TokioExecutor::new(), io).await?;
        let driver = tokio::spawn(driver);
        let mut streams = JoinSet::new();
        for number in 0..STREAMS {
            let body = body(MIB + number);
            let request = scene.request(Method::POST, "/v1/chat/completions", &[ECHO], upload::paced(body, Pace::Fast), None)?;
            let mut sender = sender.clone();
            streams.spawn(async move { Reply::read(sender.send_request(request).await?).await?.digest() });
        }
        let mut bytes = Vec::new();
        while let Some(digest) = streams.join_next().await {
            bytes.push(digest??.body_bytes);
        }
        bytes.sort_unstable();
        assert_eq!(bytes, (0..STREAMS).map(|number| (MIB + number) as u64).collect::<Vec<_>>());
        driver.abort();
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_prompt_is_told_from_another_before_its_body_is_whole(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let case = Case { name: "4 MiB", bytes: 4 * MIB, pace: Pace::Fast };
        let first = send(&scene, Protocol::Http2, case).await?.rank();
        assert_eq!(send(&scene, Protocol::Http1Chunked, case).await?.rank(), first);
        assert_eq!(scene.envoy.metric("bodies_cut_bytes").await?, 2);
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 1);
        Ok(())
    }
}
