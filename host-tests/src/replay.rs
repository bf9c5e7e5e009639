//! Sends the requests of a trace when they are due, whether or not earlier ones were answered.
//!
//! An open loop, as users are: a slow answer must not make the next request later, or the slowness would hide itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::gateway_client::GatewayClient;
use crate::prompt_text::chat_request;
use crate::trace::TraceRequest;

/// An answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which request it answers, from 0.
    pub number: usize,
    /// From sending to the first token.
    pub ttft: Duration,
    /// The rank that answered.
    pub rank: String,
    /// Prompt tokens as the rank counted them.
    pub prompt_tokens: u64,
    /// Those of them that it had in its cache.
    pub cached_tokens: u64,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it is due, from the start.
    pub at: Duration,
    /// Its JSON.
    pub body: Bytes,
}

/// How far a replay is, for a progress line.
#[derive(Debug, Default)]
pub struct Progress {
    /// Requests sent.
    pub sent: AtomicUsize,
    /// Requests answered or failed.
    pub done: AtomicUsize,
}

/// What became of a replay.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Answers, in no order.
    pub answers: Vec<Answer>,
    /// What went wrong, a line for each request that was not answered whole.
    pub errors: Vec<String>,
    /// How late the client itself was at worst: when it lags, the machine and not the ranks set the pace.
    pub worst_lag: Duration,
}

/// Replays `requests` through a gateway, `speed` times as fast as they came, and waits for all answers.
pub async fn replay(
    client: &GatewayClient,
    model: &str,
    requests: &[TraceRequest],
    speed: f64,
    progress: &Arc<Progress>,
) -> Replayed {
    let calls = requests.iter().map(|request| Call {
        at: request.at.div_f64(speed),
        body: Bytes::from(serde_json::to_vec(&chat_request(request, model)).unwrap_or_default()),
    });
    send_when_due(client, "/v1/chat/completions", calls, progress).await
}

/// Sends each call when it is due, to a path that streams, and waits for all answers.
pub async fn send_when_due(
    client: &GatewayClient,
    path: &'static str,
    calls: impl Iterator<Item = Call>,
    progress: &Arc<Progress>,
) -> Replayed {
    let start = Instant::now();
    let mut running = JoinSet::new();
    let mut replayed = Replayed::default();
    for (number, call) in calls.enumerate() {
        let due = start + call.at;
        sleep_until(due).await;
        replayed.worst_lag = replayed.worst_lag.max(due.elapsed());
        progress.sent.fetch_add(1, Ordering::Relaxed);
        let answer = ask(client.clone(), path, number, call.body);
        running.spawn(counted(progress.clone(), answer));
    }
    while let Some(answer) = running.join_next().await {
        match answer.map_err(anyhow::Error::from).flatten() {
            Ok(answer) => replayed.answers.push(answer),
            Err(error) => replayed.errors.push(format!("{error:#}")),
        }
    }
    replayed
}

async fn counted(
    progress: Arc<Progress>,
    answer: impl Future<Output = Result<Answer>>,
) -> Result<Answer> {
    let answer = answer.await;
    progress.done.fetch_add(1, Ordering::Relaxed);
    answer
}

async fn ask(client: GatewayClient, path: &str, number: usize, body: Bytes) -> Result<Answer> {
    let sent = Instant::now();
    let response = client.post(path, body).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response
            .into_body()
            .collect()
            .await
            .context("no whole error")?
            .to_bytes();
        bail!("status {status}: {}", String::from_utf8_lossy(&body));
    }
    let rank = response
        .headers()
        .get("x-simulated-rank")
        .and_then(|rank| rank.to_str().ok());
    let rank = rank.unwrap_or("unknown").to_string();
    let (ttft, usage) = read_stream(response.into_body(), sent).await?;
    Ok(Answer {
        number,
        ttft,
        rank,
        prompt_tokens: usage["prompt_tokens"]
            .as_u64()
            .context("no prompt_tokens in the usage")?,
        cached_tokens: usage
            .pointer("/prompt_tokens_details/cached_tokens")
            .and_then(Value::as_u64)
            .unwrap_or(0),
    })
}

/// Reads server-sent events to their end; gives the time of the first and the usage in the last.
async fn read_stream(mut body: Incoming, sent: Instant) -> Result<(Duration, Value)> {
    let mut ttft = None;
    let mut tail: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the answer broke off")?.into_data() else {
            continue;
        };
        ttft.get_or_insert_with(|| sent.elapsed());
        tail.extend_from_slice(&data);
        // Only the last two events are of interest: the usage and the end mark.
        let surplus = tail.len().saturating_sub(8192);
        tail.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&tail);
    let events: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let [.., usage, "[DONE]"] = events.as_slice() else {
        bail!("the answer ended without [DONE]")
    };
    let mut usage: Value = serde_json::from_str(usage).context("the last event is no JSON")?;
    Ok((ttft.context("an empty answer")?, usage["usage"].take()))
}
