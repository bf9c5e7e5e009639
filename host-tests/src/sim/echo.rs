//! Tells what reached the rank, for tests of what a gateway does to a request.

use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::api::{self, AnswerBody, RequestBody};

/// Reads the body as it comes, whatever its size, and answers with its length and hash, the method, the path and all
/// headers; 400 when the body breaks off.
pub(super) async fn digest(request: Request<RequestBody>) -> Response<AnswerBody> {
    let (head, mut body) = request.into_parts();
    let (mut hash, mut bytes) = (Xxh3::new(), 0u64);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return api::json(
                StatusCode::BAD_REQUEST,
                &json!({"error": "the body broke off", "body_bytes": bytes}),
            );
        };
        if let Some(data) = frame.data_ref() {
            hash.update(data);
            bytes += data.len() as u64;
        }
    }
    let headers: Vec<Value> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    api::json(
        StatusCode::OK,
        &json!({
            "method": head.method.as_str(), "path": path, "body_bytes": bytes,
            "body_xxh3": format!("{:016x}", hash.digest()), "headers": headers,
        }),
    )
}
