//! A client that tells every way in which a request can end apart, and checks each answer to the last word.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::connection::Upload;
use crate::gateway_log::NUMBER_HEADER;
use crate::outcome::Outcome;
use crate::prompt_text::ChatRequest;
use crate::sim::{answer_text, prompt};
use crate::upload::{self, Pace};

const PATH: &str = "/v1/chat/completions";

/// A request, and what a right answer to it says.
#[derive(Clone, Debug)]
pub struct Question {
    body: Bytes,
    streams: bool,
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number, as in the gateway's log.
    pub number: u64,
    /// When it was sent.
    pub sent: SystemTime,
    /// From sending to the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// From sending to the end.
    pub took: Duration,
    /// The rank that the answer names.
    pub rank: Option<SocketAddr>,
    /// Tokens of its prompt, and those of them that the rank found in its cache, when it told.
    pub tokens: Option<(u64, u64)>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A client of a gateway; clones share its connections.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client<HttpConnector, Upload>,
    gateway: SocketAddr,
    patience: Duration,
}

/// How far an answer came.
#[derive(Default)]
struct Reading {
    rank: Option<SocketAddr>,
    first_byte: Option<Duration>,
    tokens: Option<(u64, u64)>,
}

impl Question {
    /// A chat, streamed or answered at once.
    ///
    /// # Errors
    /// Never, as long as a chat can be written as JSON.
    pub fn chat(chat: &ChatRequest, streams: bool) -> Result<Self> {
        let mut body = serde_json::to_value(chat)?;
        if !streams {
            body["stream"] = json!(false);
            body.as_object_mut()
                .context("a chat is an object")?
                .remove("stream_options");
        }
        let prompt = prompt::of_chat(&body).context("a chat has messages")?;
        Ok(Self {
            streams,
            prompt_tokens: prompt.tokens,
            completion_tokens: u64::from(chat.max_tokens),
            body: Bytes::from(serde_json::to_vec(&body)?),
        })
    }

    /// What is sent.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Checks a whole answer: its text and both counts of tokens, which differ from request to request.
    ///
    /// # Errors
    /// When it answers something else.
    pub fn check(&self, answer: &[u8]) -> Result<()> {
        self.usage(answer).map(|_| ())
    }

    /// The same; gives what the answer says of its tokens.
    fn usage(&self, answer: &[u8]) -> Result<Value> {
        let text = std::str::from_utf8(answer)?;
        let (said, usage) = if self.streams {
            streamed(text)?
        } else {
            whole(text)?
        };
        ensure!(said == answer_text(self.completion_tokens), "other words");
        ensure!(
            usage["completion_tokens"] == self.completion_tokens,
            "other length: {usage}"
        );
        ensure!(
            usage["prompt_tokens"] == self.prompt_tokens,
            "another prompt: {usage}"
        );
        Ok(usage)
    }
}

impl Caller {
    /// A client that gives up when an answer does not begin, or takes longer than `patience` in all.
    #[must_use]
    pub fn new(gateway: SocketAddr, patience: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build_http();
        Self {
            client,
            gateway,
            patience,
        }
    }

    /// Asks, and waits for the end, whatever it is.
    pub async fn call(&self, number: u64, question: &Question, headers: &[(&str, &str)]) -> Call {
        let body = upload::whole(question.body.clone());
        self.call_with(number, question, headers, body).await
    }

    /// The same, but stops in the middle of the body for a while.
    pub async fn call_slowly(&self, number: u64, question: &Question, pause: Duration) -> Call {
        let body = upload::paced(question.body.clone(), Pace::RestsHalfWay(pause));
        self.call_with(number, question, &[], body).await
    }

    async fn call_with(
        &self,
        number: u64,
        question: &Question,
        headers: &[(&str, &str)],
        body: Upload,
    ) -> Call {
        let (sent, clock) = (SystemTime::now(), Instant::now());
        let mut reading = Reading::default();
        let outcome = match self.request(number, headers, body) {
            Ok(request) => {
                let ended = self.ask(request, question, clock, &mut reading);
                let outcome = timeout(self.patience, ended).await;
                outcome.unwrap_or(Outcome::TimedOut)
            }
            Err(_) => Outcome::NotConnected,
        };
        Call {
            number,
            sent,
            first_byte: reading.first_byte,
            took: clock.elapsed(),
            rank: reading.rank,
            tokens: reading.tokens,
            outcome,
        }
    }

    async fn ask(
        &self,
        request: Request<Upload>,
        question: &Question,
        clock: Instant,
        reading: &mut Reading,
    ) -> Outcome {
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Outcome::NotConnected,
            Err(_) => return Outcome::NoAnswer,
        };
        let status = response.status().as_u16();
        reading.rank = rank(response.headers());
        let Ok(answer) = read(response, clock, reading).await else {
            return Outcome::BrokenOff;
        };
        let usage = question.usage(&answer);
        reading.tokens = usage.as_ref().ok().and_then(tokens);
        judge(status, reading.rank.is_some(), || usage.is_ok())
    }

    fn request(
        &self,
        number: u64,
        headers: &[(&str, &str)],
        body: Upload,
    ) -> Result<Request<Upload>> {
        let mut request = Request::post(format!("http://{}{PATH}", self.gateway))
            .header("content-type", "application/json")
            .header(NUMBER_HEADER, number);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(body)?)
    }
}

fn judge(status: u16, is_of_rank: bool, is_right: impl FnOnce() -> bool) -> Outcome {
    match (status, is_of_rank) {
        (200..=299, _) if is_right() => Outcome::Complete,
        (400..=499, _) => Outcome::Refused(status),
        (500.., true) => Outcome::RankError(status),
        (500.., false) => Outcome::GatewayError(status),
        _ => Outcome::Wrong,
    }
}

async fn read(
    response: Response<Incoming>,
    clock: Instant,
    reading: &mut Reading,
) -> Result<Vec<u8>> {
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            reading.first_byte.get_or_insert_with(|| clock.elapsed());
            answer.extend_from_slice(&data);
        }
    }
    Ok(answer)
}

fn rank(headers: &HeaderMap) -> Option<SocketAddr> {
    headers.get("x-simulated-rank")?.to_str().ok()?.parse().ok()
}

fn tokens(usage: &Value) -> Option<(u64, u64)> {
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64()?;
    Some((usage["prompt_tokens"].as_u64()?, cached))
}

/// Text and usage of a stream of events.
fn streamed(text: &str) -> Result<(String, Value)> {
    let events: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let [chunks @ .., usage, "[DONE]"] = events.as_slice() else {
        anyhow::bail!("no end of the stream")
    };
    let mut said = String::new();
    for chunk in chunks {
        let chunk: Value = serde_json::from_str(chunk)?;
        said.push_str(
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or(""),
        );
    }
    let mut usage: Value = serde_json::from_str(usage)?;
    Ok((said, usage["usage"].take()))
}

/// Text and usage of an answer in one piece.
fn whole(text: &str) -> Result<(String, Value)> {
    let mut answer: Value = serde_json::from_str(text)?;
    let said = answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or("")
        .to_string();
    Ok((said, answer["usage"].take()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(streams: bool) -> Question {
        Question {
            body: Bytes::new(),
            streams,
            prompt_tokens: 9,
            completion_tokens: 2,
        }
    }

    fn answer(text: &str, prompt_tokens: u64) -> String {
        let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": 2});
        json!({"choices": [{"message": {"content": text}}], "usage": usage}).to_string()
    }

    #[test]
    fn an_answer_to_another_request_is_wrong() {
        let (right, other_words) = (answer(" wind tide", 9), answer(" wind wind", 9));
        assert!(question(false).check(right.as_bytes()).is_ok());
        assert!(question(false).check(other_words.as_bytes()).is_err());
        assert!(
            question(false)
                .check(answer(" wind tide", 8).as_bytes())
                .is_err()
        );
        assert!(question(false).check(b"").is_err());
    }

    #[test]
    fn a_stream_must_have_its_words_in_order_and_its_end() {
        let chunk = |word: &str| {
            format!(
                "data: {}\n\n",
                json!({"choices": [{"delta": {"content": word}}]})
            )
        };
        let usage = "data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n";
        let right = [&chunk(" wind"), &chunk(" tide"), usage, "data: [DONE]\n\n"].concat();
        let twice = [&chunk(" wind"), &right]
            .map(|part: &String| part.as_str())
            .concat();
        assert!(question(true).check(right.as_bytes()).is_ok());
        assert!(question(true).check(twice.as_bytes()).is_err());
        let cut = right.trim_end_matches("data: [DONE]\n\n");
        assert!(question(true).check(cut.as_bytes()).is_err());
    }

    #[test]
    fn a_whole_answer_is_judged_by_status_and_by_who_gave_it() {
        assert_eq!(judge(200, true, || true), Outcome::Complete);
        assert_eq!(judge(200, true, || false), Outcome::Wrong);
        assert_eq!(judge(503, true, || true), Outcome::RankError(503));
        assert_eq!(judge(503, false, || true), Outcome::GatewayError(503));
        assert_eq!(judge(404, false, || true), Outcome::Refused(404));
        assert_eq!(judge(302, false, || true), Outcome::Wrong);
    }
}
