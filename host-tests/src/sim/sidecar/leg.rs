//! The prefill leg of a request: the same to the prefill rank, for one token, with the KV kept.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Map, Value, json};

use crate::sim::kv_transfer;

/// Says on a request to a prefill rank that it is a prefill leg; llm-d's sidecar has no such header.
pub(in crate::sim) const LEG_HEADER: &str = "x-simulated-leg";
/// Fields that bound an answer's length; the sidecar sets both.
const LENGTH_FIELDS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// Headers of a connection, or of a body as it came: each leg has its own.
const NOT_PASSED_ON: [HeaderName; 4] = [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Runs prefill legs, over connections that it keeps.
#[derive(Debug)]
pub(super) struct PrefillLegs(Client<HttpConnector, Full<Bytes>>);

impl PrefillLegs {
    pub(super) fn new() -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build_http();
        Self(client)
    }

    /// Gives what the prefill rank answers, however long that takes; an empty 502 where the connection fails, as Go's proxy
    /// does. When this is dropped, the connection is cut, and the prefill rank aborts.
    pub(super) async fn run(
        &self,
        prefiller: &Authority,
        head: &Parts,
        fields: &Map<String, Value>,
    ) -> Response<Bytes> {
        let answer = self.try_run(prefiller, head, fields).await;
        answer.unwrap_or_else(|_| {
            let mut failed = Response::new(Bytes::new());
            *failed.status_mut() = StatusCode::BAD_GATEWAY;
            failed
        })
    }

    async fn try_run(
        &self,
        prefiller: &Authority,
        head: &Parts,
        fields: &Map<String, Value>,
    ) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let body = Value::from(prefill_fields(fields)).to_string();
        let uri = format!("http://{prefiller}{path}");
        let mut leg = Request::post(uri).body(Full::from(body))?;
        *leg.headers_mut() = passed_on(&head.headers);
        leg.headers_mut()
            .insert(LEG_HEADER, HeaderValue::from_static("prefill"));
        let (mut head, body) = self.0.request(leg).await?.into_parts();
        head.headers = passed_on(&head.headers);
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in NOT_PASSED_ON {
        headers.remove(name);
    }
    headers
}

fn prefill_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = fields.clone();
    fields.remove("stream_options");
    fields.insert("stream".to_string(), json!(false));
    for field in LENGTH_FIELDS {
        fields.insert(field.to_string(), json!(1));
    }
    let params = json!({
        "do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null, "remote_block_ids": null,
        "remote_host": null, "remote_port": null,
    });
    fields.insert(kv_transfer::FIELD.to_string(), params);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefill_leg_asks_for_one_token_at_once_whatever_the_request_says() {
        let asked = json!({
            "prompt": "tide", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9,
        });
        let leg = Value::from(prefill_fields(asked.as_object().unwrap()));
        assert_eq!(
            (&leg["stream"], &leg["prompt"]),
            (&json!(false), &json!("tide"))
        );
        assert_eq!(
            (&leg["max_tokens"], &leg["max_completion_tokens"]),
            (&json!(1), &json!(1))
        );
        assert!(leg.get("stream_options").is_none());
        assert!(kv_transfer::is_wanted(&leg));
    }
}
