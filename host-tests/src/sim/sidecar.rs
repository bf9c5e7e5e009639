//! The sidecar before a decode rank: has the prompt prefilled on the rank that a header names, then asks its own.
//!
//! It speaks vLLM's NIXL protocol, as llm-d's does (`pkg/sidecar/proxy` there: `connector_nixlv2.go`, `proxy_helpers.go`).
//! The prefill leg goes over the network; the decode rank is in the same process and reached without it.

mod leg;
mod prefiller;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::api::{self, AnswerBody, ECHO_HEADER, RequestBody};
use super::fault::Fault;
use super::kv_transfer;
use super::rank::Rank;
use super::role::SidecarVersion;
pub(super) use leg::LEG_HEADER;
use leg::PrefillLegs;

/// Names the rank that ran the prefill leg of an answer; llm-d's sidecar has no such header.
const PREFILL_RANK_HEADER: &str = "x-simulated-prefill-rank";

/// What stands before a decode rank.
#[derive(Debug)]
pub(super) struct Sidecar {
    version: SidecarVersion,
    legs: PrefillLegs,
}

/// Why the sidecar answers itself.
#[derive(Clone, Copy, Debug)]
enum Problem {
    /// Of the request, or of the prefill rank's answer.
    NoJson,
    /// The header names no host and port.
    NoPrefiller,
    /// Nobody listens behind the sidecar.
    DecodeNotReady,
}

impl Sidecar {
    pub(super) fn new(version: SidecarVersion) -> Self {
        let legs = PrefillLegs::new();
        Self { version, legs }
    }

    /// Answers a request to a decode rank, in the rank's name.
    pub(super) async fn answer(
        &self,
        rank: &Arc<Rank>,
        request: Request<RequestBody>,
    ) -> Response<AnswerBody> {
        let answered = self.try_answer(rank, request).await;
        let mut response = answered.unwrap_or_else(Problem::response);
        api::name_rank(rank, &mut response);
        response
    }

    async fn try_answer(
        &self,
        rank: &Arc<Rank>,
        request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Problem> {
        if request.method() == Method::GET && request.uri().path() == "/health" {
            return Ok(api::empty(StatusCode::OK));
        }
        if !has_prompt(&request) {
            return decode(rank, request).await;
        }
        if let Some(prefiller) = prefiller::first(request.headers()) {
            return self.run_both(rank, request, &prefiller).await;
        }
        rank.legs.decode_only.count();
        decode(rank, request).await
    }

    async fn run_both(
        &self,
        rank: &Arc<Rank>,
        request: Request<RequestBody>,
        prefiller: &str,
    ) -> Result<Response<AnswerBody>, Problem> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Problem::NoJson)?;
        let original = body.to_bytes();
        let fields = serde_json::from_slice(&original).map_err(|_| Problem::NoJson)?;
        let prefiller = prefiller::parse(prefiller).ok_or(Problem::NoPrefiller)?;
        rank.legs.prefill_legs.count();
        let leg = self.legs.run(&prefiller, &head, &fields).await;
        let mut response = if leg.status().is_success() {
            self.decode_after(rank, head, fields, leg.body()).await?
        } else {
            rank.legs.legs_failed.count();
            if self.version.falls_back(leg.status().as_u16()) {
                rank.legs.legs_fallen_back.count();
                return decode(rank, Request::from_parts(head, api::whole(original))).await;
            }
            leg.map(api::whole)
        };
        if let Ok(prefiller) = HeaderValue::try_from(prefiller.as_str()) {
            let headers = response.headers_mut();
            headers.insert(PREFILL_RANK_HEADER, prefiller);
        }
        Ok(response)
    }

    /// Asks the decode rank, which fetches the prompt's KV.
    async fn decode_after(
        &self,
        rank: &Arc<Rank>,
        mut head: Parts,
        mut fields: Map<String, Value>,
        prefilled: &[u8],
    ) -> Result<Response<AnswerBody>, Problem> {
        let prefilled: Value = serde_json::from_slice(prefilled).map_err(|_| Problem::NoJson)?;
        let params = prefilled[kv_transfer::FIELD].clone();
        fields.insert(kv_transfer::FIELD.to_string(), params);
        let body = Bytes::from(Value::from(fields).to_string());
        let length = HeaderValue::from(body.len());
        head.headers.insert(CONTENT_LENGTH, length);
        let request = Request::from_parts(head, api::whole(body));
        let response = decode(rank, request).await?;
        if self.version.tells_cached_tokens_of_prefill() {
            let tokens = usage::cached_tokens(&prefilled);
            return Ok(usage::replace_cached_tokens(response, tokens));
        }
        Ok(response)
    }
}

impl Problem {
    /// The flat shape that the sidecar shares with old vLLMs.
    fn response(self) -> Response<AnswerBody> {
        let (status, kind, message) = match self {
            Self::NoJson => (400, "BadRequestError", "the body is no JSON object"),
            Self::NoPrefiller => (502, "BadGateway", "the prefill rank is no host and port"),
            Self::DecodeNotReady => (
                503,
                "ServiceUnavailable",
                "The decode node is not ready. Please check that the vLLM service is running and the port configuration is correct.",
            ),
        };
        let body = json!({"object": "error", "message": message, "type": kind, "param": "", "code": status});
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        api::json(status, &body)
    }
}

/// Whether it is a request that can have a prefill leg.
fn has_prompt(request: &Request<RequestBody>) -> bool {
    let is_of_a_prompt =
        ["/v1/completions", "/v1/chat/completions"].contains(&request.uri().path());
    request.method() == Method::POST
        && is_of_a_prompt
        && !request.headers().contains_key(ECHO_HEADER)
}

/// Passes a request to the decode rank.
async fn decode(
    rank: &Arc<Rank>,
    request: Request<RequestBody>,
) -> Result<Response<AnswerBody>, Problem> {
    if rank.fault() == Fault::NotReady {
        return Err(Problem::DecodeNotReady);
    }
    Ok(api::answer(rank, request).await)
}
