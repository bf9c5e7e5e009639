//! The simulated ranks against what a real vLLM 0.25.1 answered: names, types, labels, shapes, headers, statuses.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use host_tests::connection::{Connection, Protocol};
use host_tests::lone_rank::{self, MODEL, chat, completion, rank};
use host_tests::reply::{Reply, post, request, send};
use host_tests::sim::{Fault, PodsConfig, SimulatedPods};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

/// A recorded answer by its name.
fn recorded(name: &str) -> Result<Value> {
    let all: Value = serde_json::from_str(include_str!("../data/vllm-0.25.1/responses.json"))?;
    all.get(name)
        .cloned()
        .with_context(|| format!("nothing was recorded as {name}"))
}

/// Keys and types of JSON, whatever the values; of a list, the shape of its first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        Value::Array(items) => Value::Array(items.first().map(shape).into_iter().collect()),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => json!("null"),
    }
}

fn body_text(recorded: &Value) -> String {
    match &recorded["body"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Header names, without those that depend on the client or on the simulation.
fn header_names<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let ignored = ["connection", "x-simulated-rank"];
    names
        .map(str::to_lowercase)
        .filter(|name| !ignored.contains(&name.as_str()))
        .collect()
}

fn assert_like_recorded(name: &str, reply: &Reply) -> Result<()> {
    let recorded = recorded(name)?;
    assert_eq!(
        Some(u64::from(reply.status)),
        recorded["status"].as_u64(),
        "status of {name}"
    );
    let theirs: Value =
        serde_json::from_str(&body_text(&recorded)).with_context(|| format!("body of {name}"))?;
    assert_eq!(shape(&reply.json()?), shape(&theirs), "shape of {name}");
    let recorded_headers = recorded["headers"].as_object().context("headers")?;
    let ours = header_names(reply.headers.keys().map(|name| name.as_str()));
    let theirs = header_names(recorded_headers.keys().map(String::as_str));
    // Only this error was recorded without `vary`.
    let is_known = |header: &&String| name == "dp_rank_3" && *header == "vary";
    let differences: Vec<&String> = ours
        .symmetric_difference(&theirs)
        .filter(|h| !is_known(h))
        .collect();
    assert!(differences.is_empty(), "headers of {name}: {differences:?}");
    assert_eq!(
        reply
            .headers
            .get("content-type")
            .and_then(|media| media.to_str().ok()),
        recorded_headers["content-type"].as_str(),
        "content-type of {name}"
    );
    Ok(())
}

#[tokio::test]
async fn answers_have_the_recorded_shapes_and_headers() -> Result<()> {
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    let text = "the tide turns twice a day ".repeat(100);
    assert_like_recorded(
        "models",
        &send(to, Method::GET, "/v1/models", &[], "").await?,
    )?;
    assert_like_recorded(
        "completion_cold",
        &post(to, "/v1/completions", &completion(&text, 8)).await?,
    )?;
    assert_like_recorded(
        "completion_warm",
        &post(to, "/v1/completions", &completion(&text, 8)).await?,
    )?;
    assert_like_recorded(
        "chat",
        &post(to, "/v1/chat/completions", &chat(false, 8)).await?,
    )?;
    let token_ids = json!({"model": MODEL, "prompt": vec![7; 160], "max_tokens": 2});
    let reply = post(to, "/v1/completions", &token_ids).await?;
    assert_like_recorded("token_ids", &reply)?;
    assert_eq!(reply.json()?["usage"]["prompt_tokens"], 160);
    for (name, format) in [("orca_text", "TEXT"), ("orca_json", "JSON")] {
        let headers = [("endpoint-load-metrics-format", format)];
        let reply = send(
            to,
            Method::POST,
            "/v1/chat/completions",
            &headers,
            &chat(false, 4).to_string(),
        )
        .await?;
        assert_like_recorded(name, &reply)?;
        let load = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "0");
        let theirs = recorded(name)?["headers"]["endpoint-load-metrics"]
            .as_str()
            .map(load);
        assert_eq!(
            reply.headers["endpoint-load-metrics"]
                .to_str()
                .ok()
                .map(load),
            theirs
        );
    }
    Ok(())
}

#[tokio::test]
async fn errors_have_the_recorded_statuses_and_shapes() -> Result<()> {
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    let unknown = json!({"model": "nope", "prompt": "x"});
    assert_like_recorded("err_model", &post(to, "/v1/completions", &unknown).await?)?;
    assert_like_recorded(
        "err_json",
        &send(to, Method::POST, "/v1/completions", &[], "{").await?,
    )?;
    assert_like_recorded(
        "err_too_long",
        &post(to, "/v1/completions", &completion(&"x".repeat(131_012), 16)).await?,
    )?;
    let headers = [("x-data-parallel-rank", "3")];
    let reply = send(
        to,
        Method::POST,
        "/v1/completions",
        &headers,
        &completion("x", 1).to_string(),
    )
    .await?;
    assert_like_recorded("dp_rank_3", &reply)?;
    for name in ["err_model", "err_too_long", "dp_rank_3"] {
        let theirs: Value = serde_json::from_str(&body_text(&recorded(name)?))?;
        let reply = match name {
            "err_model" => post(to, "/v1/completions", &unknown).await?,
            "err_too_long" => {
                post(to, "/v1/completions", &completion(&"x".repeat(131_012), 16)).await?
            }
            _ => {
                send(
                    to,
                    Method::POST,
                    "/v1/completions",
                    &headers,
                    &completion("x", 1).to_string(),
                )
                .await?
            }
        };
        assert_eq!(reply.json()?, theirs, "{name} to the letter");
    }
    Ok(())
}

/// The JSON of each event of a stream; the end mark as a string.
fn events(stream: &str) -> Vec<Value> {
    let data = stream
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    data.map(|event| serde_json::from_str(event).unwrap_or_else(|_| json!(event)))
        .collect()
}

#[tokio::test]
async fn a_stream_has_the_recorded_events() -> Result<()> {
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    let reply = post(to, "/v1/chat/completions", &chat(true, 8)).await?;
    let recorded = recorded("chat_stream_usage")?;
    let ours = events(std::str::from_utf8(&reply.body)?);
    let theirs = events(&body_text(&recorded));
    assert_eq!(
        ours.iter().map(shape).collect::<Vec<_>>(),
        theirs.iter().map(shape).collect::<Vec<_>>()
    );
    assert_eq!(ours.last(), Some(&json!("[DONE]")));
    assert_eq!(
        reply.headers.get("content-type").map(|m| m.as_bytes()),
        recorded["headers"]["content-type"]
            .as_str()
            .map(str::as_bytes)
    );
    assert_eq!(ours[ours.len() - 2]["usage"]["completion_tokens"], 8);
    Ok(())
}

#[tokio::test]
async fn a_cache_too_small_for_the_longest_request_is_refused() {
    let config = PodsConfig {
        capacity_tokens: 1000,
        ..PodsConfig::default()
    };
    let problem = SimulatedPods::start(config).await.unwrap_err();
    assert!(
        problem.to_string().contains("max_model_len 32768"),
        "{problem}"
    );
}

#[tokio::test]
async fn an_answer_is_open_until_its_stream_ends() -> Result<()> {
    let pods = lone_rank::start().await?;
    let rank = rank(&pods);
    let mut connection = Connection::open(rank.addr(), Protocol::Http1Length).await?;
    let body = chat(true, 300).to_string();
    let request = request(
        rank.addr(),
        Method::POST,
        "/v1/chat/completions",
        &[],
        &body,
    )?;
    let mut answer = connection.send(request).await?.into_body();
    answer.frame().await.context("an event")??;
    rank.set_fault(Fault::Hanging).await;
    let stats = rank.stats();
    assert_eq!(
        (stats.open_requests, stats.running),
        (1, 1),
        "it stands still in the batch"
    );
    rank.set_fault(Fault::None).await;
    answer.collect().await?;
    while rank.stats().open_requests > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn usage_tells_cached_tokens_as_the_recorded_server_did() -> Result<()> {
    let calibration: Value =
        serde_json::from_str(include_str!("../data/vllm-0.25.1/calibration.json"))?;
    let pods = lone_rank::start().await?;
    let to = rank(&pods).addr();
    let cached = async |body: &Value| -> Result<u64> {
        let usage = post(to, "/v1/chat/completions", body).await?.json()?["usage"].take();
        usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .context("cached_tokens")
    };
    let plain = chat(false, 1);
    cached(&plain).await?;
    let mut tools = plain.clone();
    tools["tools"] = json!([{"type": "function", "function": {"name": "tide"}}]);
    let mut salted = plain.clone();
    salted["cache_salt"] = json!("tenant");
    let recorded =
        |name: &str| calibration["usage"][name]["prompt_tokens_details"]["cached_tokens"].as_u64();
    for (name, body) in [
        ("cache_same", &plain),
        ("cache_tools", &tools),
        ("cache_salt", &salted),
    ] {
        let is_cached = cached(body).await? > 0;
        assert_eq!(
            Some(is_cached),
            recorded(name).map(|tokens| tokens > 0),
            "{name}"
        );
    }
    Ok(())
}
