//! The HTTP API of a simulated rank.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::echo;
use super::engine::BLOCK_TOKENS;
use super::event_stream::EventStream;
use super::fault::Fault;
use super::http_metrics;
use super::kv_transfer;
use super::prompt;
use super::rank::{Answer, Ask, Rank};
use super::role::Role;
use super::shapes::{self, Answered, ApiError};
use super::sidecar::LEG_HEADER;

pub(super) type AnswerBody = BoxBody<Bytes, io::Error>;
pub(super) type RequestBody = BoxBody<Bytes, io::Error>;

/// Asks a rank to answer with a digest of the request instead of as a model.
pub(super) const ECHO_HEADER: &str = "x-simulated-echo";
/// Names the rank that answered; a real vLLM has no such header.
const RANK_HEADER: &str = "x-simulated-rank";
/// Makes a simulated rank compute all of a prompt, as fields of servers may that the module has never heard of.
pub(super) const SKIP_FIELD: &str = "simulated_skip_cache";
/// vLLM's own default for completions. A chat without a limit goes on until the model ends it; no model does here.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// Which API a prompt came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Completions,
    Chat,
}

/// Answers a request.
pub(super) async fn answer(
    rank: &Arc<Rank>,
    request: Request<RequestBody>,
) -> Response<AnswerBody> {
    let started = Instant::now();
    let method = request.method().clone();
    let handler = handler(request.uri().path());
    let request_bytes = content_length(request.headers());
    count_leg(rank, &request);
    let mut response = route(rank, request).await;
    decorate(rank, &mut response);
    if let (Some(handler), Some(method)) = (handler, method_name(&method)) {
        let (status, response_bytes) = (
            response.status().as_u16(),
            content_length(response.headers()),
        );
        let seconds = started.elapsed().as_secs_f64();
        rank.note_http(&http_metrics::Answered {
            handler,
            method,
            status,
            request_bytes,
            response_bytes,
            seconds,
        });
    }
    response
}

/// Counts who sends what to a prefill rank. Reports and health are anybody's to ask for.
fn count_leg(rank: &Rank, request: &Request<RequestBody>) {
    let is_a_look = ["/metrics", "/health"].contains(&request.uri().path());
    if rank.config.role != Role::Prefill || is_a_look {
        return;
    }
    match request.headers().contains_key(LEG_HEADER) {
        true => rank.legs.prefill_legs.count(),
        false => rank.legs.direct_requests.count(),
    }
}

async fn route(rank: &Arc<Rank>, request: Request<RequestBody>) -> Response<AnswerBody> {
    if request.headers().contains_key(ECHO_HEADER) {
        rank.until_it_answers().await;
        return echo::digest(request).await;
    }
    if rank.fault() == Fault::NotReady {
        return error(&ApiError::engine(503));
    }
    let path = request.uri().path().to_string();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/health" | "/ping") | (&Method::POST, "/ping") => empty(StatusCode::OK),
        (&Method::GET, "/metrics") => metrics(rank),
        (&Method::GET, "/version") => {
            json(StatusCode::OK, &serde_json::json!({"version": "0.25.1"}))
        }
        (&Method::GET, "/v1/models") => json(
            StatusCode::OK,
            &shapes::models(&rank.config.model, now_seconds(), rank.config.max_model_len),
        ),
        (&Method::POST, "/v1/completions") => generate(rank, Api::Completions, request).await,
        (&Method::POST, "/v1/chat/completions") => generate(rank, Api::Chat, request).await,
        (_, path) if handler(path).is_some() => {
            detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        }
        _ => detail(StatusCode::NOT_FOUND, "Not Found"),
    }
}

fn metrics(rank: &Rank) -> Response<AnswerBody> {
    rank.metrics_asked.fetch_add(1, Ordering::Relaxed);
    if rank.fault() == Fault::NoMetrics {
        return detail(StatusCode::NOT_FOUND, "Not Found");
    }
    text(rank.metrics_page())
}

async fn generate(
    rank: &Arc<Rank>,
    api: Api,
    request: Request<RequestBody>,
) -> Response<AnswerBody> {
    let asked = Instant::now();
    if let Fault::Failing { status } = rank.fault() {
        return error(&ApiError::engine(status));
    }
    match accept(rank, api, request).await {
        Ok(accepted) => {
            // A hung engine: the API server takes the request, and nothing comes back.
            rank.until_it_answers().await;
            sleep_until(asked + rank.config.engine.frontend(accepted.ask.prompt.tokens)).await;
            let answer = rank.ask(&accepted.ask, asked);
            accepted.respond(rank, api, answer).await
        }
        Err(problem) => error(&problem),
    }
}

/// A request that was found good.
struct Accepted {
    ask: Ask,
    /// Whether another rank will decode, and asks where the KV is.
    keeps_kv: bool,
    streams: bool,
    includes_usage: bool,
    load_format: Option<String>,
}

async fn accept(
    rank: &Rank,
    api: Api,
    request: Request<RequestBody>,
) -> Result<Accepted, ApiError> {
    let (head, body) = request.into_parts();
    let media = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|media| media.to_str().ok())
        .unwrap_or("");
    let collected = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    if !media.starts_with("application/json") {
        return Err(ApiError::not_json());
    }
    let number = head
        .headers
        .get("x-data-parallel-rank")
        .and_then(|number| number.to_str().ok()?.trim().parse::<i64>().ok());
    if let Some(number) = number.filter(|number| *number != 0) {
        return Err(ApiError::data_parallel_rank(number));
    }
    let body: Value =
        serde_json::from_slice(&collected).map_err(|error| ApiError::invalid_json(&error))?;
    check_model(rank, &body)?;
    let prompt = match api {
        Api::Completions => prompt::of_completion(&body).ok_or(ApiError::missing("prompt"))?,
        Api::Chat => prompt::of_chat(&body).ok_or(ApiError::missing("messages"))?,
    };
    let max_tokens = max_tokens(&body);
    if prompt.tokens + max_tokens > rank.config.max_model_len {
        return Err(ApiError::too_long(
            rank.config.max_model_len,
            prompt.tokens,
            max_tokens,
        ));
    }
    let load_format = head
        .headers
        .get("endpoint-load-metrics-format")
        .and_then(|format| format.to_str().ok());
    Ok(Accepted {
        ask: Ask {
            prompt,
            max_tokens,
            is_prefilled: kv_transfer::is_offered(&body),
            skips_cache: skips_cache(api, &body),
        },
        keeps_kv: kv_transfer::is_wanted(&body),
        streams: body["stream"] == true,
        includes_usage: body["stream_options"]["include_usage"] == true,
        load_format: load_format.map(ToString::to_string),
    })
}

/// Whether vLLM would compute all of the prompt: for logprobs of its tokens. What no vLLM has is a field of the same effect, for
/// requests of which a gateway cannot know it.
fn skips_cache(api: Api, body: &Value) -> bool {
    let echoed = match api {
        Api::Completions => body.get("logprobs").cloned().unwrap_or(Value::Null),
        Api::Chat => body.get("top_logprobs").cloned().unwrap_or(0.into()),
    };
    let asked = body.get("prompt_logprobs").filter(|asked| !asked.is_null());
    asked.is_some() || (body["echo"] == true && !echoed.is_null()) || body[SKIP_FIELD] == true
}

fn check_model(rank: &Rank, body: &Value) -> Result<(), ApiError> {
    match body.get("model").and_then(Value::as_str) {
        Some(model) if model != rank.config.model => Err(ApiError::unknown_model(model)),
        _ => Ok(()),
    }
}

fn max_tokens(body: &Value) -> u64 {
    let field = |name: &str| body.get(name).and_then(Value::as_u64);
    field("max_completion_tokens")
        .or_else(|| field("max_tokens"))
        .unwrap_or(DEFAULT_MAX_TOKENS)
        .max(1)
}

impl Accepted {
    async fn respond(self, rank: &Rank, api: Api, mut answer: Answer) -> Response<AnswerBody> {
        let kind = if api == Api::Chat { "chatcmpl" } else { "cmpl" };
        let mut answered = Answered {
            id: format!("{kind}-{:016x}", answer.number()),
            model: rank.config.model.clone(),
            created: now_seconds(),
            prompt_tokens: self.ask.prompt.tokens,
            cached_tokens: 0,
            completion_tokens: 0,
            kv_transfer_params: Value::Null,
        };
        if self.streams {
            let breaks = rank.fault() == Fault::Reset;
            return event_stream(EventStream::new(
                api,
                answer,
                answered,
                self.includes_usage,
                breaks,
            ));
        }
        while let Some(token) = answer.next().await {
            answered.completion_tokens = token.number + 1;
            answered.cached_tokens = token.cached;
        }
        if answered.completion_tokens < self.ask.max_tokens {
            return error(&ApiError::engine(500));
        }
        if self.keeps_kv {
            let blocks = answered.prompt_tokens.div_ceil(BLOCK_TOKENS);
            answered.kv_transfer_params = kv_transfer::offer(rank, &answered.id, blocks);
        }
        let body = if api == Api::Chat {
            shapes::chat(&answered)
        } else {
            shapes::completion(&answered)
        };
        let mut response = json(StatusCode::OK, &body);
        self.report_load(rank, &mut response);
        response
    }

    /// vLLM tells its load in a header when the request asks for it.
    fn report_load(&self, rank: &Rank, response: &mut Response<AnswerBody>) {
        let stats = rank.stats();
        let (waiting, usage) = (stats.waiting as f64, stats.cache_usage);
        let format = self.load_format.as_deref().map(str::to_ascii_uppercase);
        let value = match format.as_deref() {
            Some("TEXT") => format!(
                "TEXT named_metrics.num_requests_waiting={waiting:?}, named_metrics.kv_cache_usage_perc={usage:?}"
            ),
            Some("JSON") => format!(
                "JSON {{\"named_metrics\": {{\"num_requests_waiting\": {waiting:?}, \"kv_cache_usage_perc\": {usage:?}}}}}"
            ),
            _ => return,
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            response
                .headers_mut()
                .insert("endpoint-load-metrics", value);
        }
    }
}

fn decorate(rank: &Rank, response: &mut Response<AnswerBody>) {
    let headers = response.headers_mut();
    headers.insert("server", HeaderValue::from_static("uvicorn"));
    headers.insert("vary", HeaderValue::from_static("Origin"));
    name_rank(rank, response);
}

/// Says in whose name the answer is.
pub(super) fn name_rank(rank: &Rank, response: &mut Response<AnswerBody>) {
    if let Ok(address) = HeaderValue::try_from(rank.address.to_string()) {
        response.headers_mut().insert(RANK_HEADER, address);
    }
}

fn handler(path: &str) -> Option<&'static str> {
    ["/v1/models", "/v1/completions", "/v1/chat/completions"]
        .into_iter()
        .find(|known| *known == path)
}

fn method_name(method: &Method) -> Option<&'static str> {
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
        .into_iter()
        .find(|known| *known == method.as_str())
}

fn content_length(headers: &hyper::HeaderMap) -> u64 {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A body in one piece.
pub(super) fn whole(body: Bytes) -> AnswerBody {
    Full::from(body).map_err(|never| match never {}).boxed()
}

fn respond(status: StatusCode, media: &'static str, body: String) -> Response<AnswerBody> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(whole(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

pub(super) fn json(status: StatusCode, body: &Value) -> Response<AnswerBody> {
    respond(status, "application/json", body.to_string())
}

/// FastAPI's own errors.
fn detail(status: StatusCode, text: &str) -> Response<AnswerBody> {
    json(status, &serde_json::json!({ "detail": text }))
}

fn error(problem: &ApiError) -> Response<AnswerBody> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, &problem.body())
}

fn text(page: String) -> Response<AnswerBody> {
    respond(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        page,
    )
}

pub(super) fn empty(status: StatusCode) -> Response<AnswerBody> {
    let mut response = respond(status, "application/json", String::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

fn event_stream(events: EventStream) -> Response<AnswerBody> {
    let mut response = Response::new(events.boxed());
    let media = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}
