//! What the simulated ranks do over time: streams, clients that leave, faults, the program.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use host_tests::connection::{Connection, Protocol, get};
use host_tests::lone_rank::{self, chat, completion, rank};
use host_tests::pod_addresses;
use host_tests::reply::{post, request, send};
use host_tests::sim::Fault;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn headers_of_a_stream_come_before_its_first_token() -> Result<()> {
    let pods = lone_rank::start().await?;
    // So slow that the first token is far away when the head is there.
    rank(&pods).set_fault(Fault::Slow { factor: 200.0 }).await;
    let to = rank(&pods).addr();
    let mut connection = Connection::open(to, Protocol::Http1Length).await?;
    let body = chat(true, 2).to_string();
    let response = connection
        .send(request(
            to,
            Method::POST,
            "/v1/chat/completions",
            &[],
            &body,
        )?)
        .await?;
    assert_eq!(rank(&pods).stats().counts.generation_tokens, 0);
    rank(&pods).set_fault(Fault::None).await;
    let stream = response.into_body().collect().await?.to_bytes();
    assert!(stream.ends_with(b"data: [DONE]\n\n"));
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_aborts_its_request() -> Result<()> {
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    for is_stream in [true, false] {
        let mut connection = Connection::open(to, Protocol::Http1Length).await?;
        let body = chat(is_stream, 20_000).to_string();
        let request = request(to, Method::POST, "/v1/chat/completions", &[], &body)?;
        let pending = tokio::spawn(async move { (connection.send(request).await, connection) });
        until(|| rank(&pods).stats().running == 1).await;
        pending.abort();
        if let Ok(answered) = pending.await {
            drop(answered);
        }
        until(|| rank(&pods).stats().running == 0).await;
        assert_eq!(rank(&pods).stats().cache_usage, 0.0);
    }
    Ok(())
}

async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn faults_can_be_set_and_taken_back_while_it_runs() -> Result<()> {
    let pods = lone_rank::start().await?;
    let (rank, to) = (rank(&pods), rank(&pods).addr());
    let ask = async || post(to, "/v1/completions", &completion("tide", 1)).await;
    rank.set_fault(Fault::Dead).await;
    assert!(ask().await.is_err(), "nobody listens");
    rank.set_fault(Fault::Failing { status: 503 }).await;
    assert_eq!(ask().await?.status, 503);
    rank.set_fault(Fault::Hanging).await;
    assert_eq!(
        send(to, Method::GET, "/health", &[], "").await?.status,
        200,
        "a hung vLLM says that it is well"
    );
    rank.set_fault(Fault::None).await;
    assert_eq!(ask().await?.status, 200);
    assert!(rank.stats().counts.generation_tokens > 0);
    rank.restart();
    assert_eq!(rank.stats().counts.generation_tokens, 0);
    assert_eq!(ask().await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_program_has_switches_and_ends_when_it_is_told() -> Result<()> {
    let pod = pod_addresses::unused(1)[0].to_string();
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_simulated-ranks"))
        .args([
            "--pods",
            &pod,
            "--ranks-per-pod",
            "2",
            "--control",
            "127.0.0.1:0",
        ])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().context("stdout")?)
        .read_line(&mut line)
        .await?;
    let (_, control) = line
        .trim()
        .split_once("http://")
        .context("where the switches are")?;
    let control: SocketAddr = control.trim_end_matches("/ranks").parse()?;
    let second = format!("{pod}:8001");
    let path = format!("/ranks/{second}/fault");
    let reply = send(
        control,
        Method::PUT,
        &path,
        &[],
        r#"{"fault": "slow", "factor": 3}"#,
    )
    .await?;
    assert_eq!(
        reply.json()?["fault"],
        json!({"fault": "slow", "factor": 3.0})
    );
    assert_eq!(
        send(control, Method::PUT, &path, &[], r#"{"fault": "dead"}"#)
            .await?
            .status,
        200
    );
    assert!(get(second.parse()?, "/health").await.is_err());
    let ranks: Value = serde_json::from_str(&get(control, "/ranks").await?)?;
    assert_eq!(
        (&ranks[0]["fault"]["fault"], &ranks[1]["fault"]["fault"]),
        (&json!("none"), &json!("dead"))
    );
    assert_eq!(
        send(control, Method::PUT, &path, &[], "{}").await?.status,
        400
    );
    let id = process.id().context("it runs")?.to_string();
    assert!(
        tokio::process::Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .await?
            .success()
    );
    assert!(process.wait().await?.success());
    Ok(())
}
