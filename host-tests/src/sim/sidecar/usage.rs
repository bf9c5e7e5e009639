//! Makes the usage of an answer tell the cached tokens of the prefill rank: the decode rank counts what it received as cached.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::CONTENT_LENGTH;
use serde_json::Value;

use crate::sim::api::AnswerBody;

/// The cached tokens that an answer tells; vLLM leaves them out when there are none.
pub(super) fn cached_tokens(answer: &Value) -> u64 {
    let tokens = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    tokens.as_u64().unwrap_or(0)
}

/// The same answer with this number in its usage, streamed or not. A simulated rank sends whole events, and an answer
/// that is not streamed in one piece.
pub(super) fn replace_cached_tokens(
    response: Response<AnswerBody>,
    tokens: u64,
) -> Response<AnswerBody> {
    let mut response = response.map(|body| {
        body.map_frame(move |frame| frame.map_data(|data| rewritten(&data, tokens)))
            .boxed()
    });
    // The number may be longer or shorter than the one it replaces.
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

fn rewritten(piece: &Bytes, tokens: u64) -> Bytes {
    let Ok(text) = std::str::from_utf8(piece) else {
        return piece.clone();
    };
    let lines = text
        .split_inclusive('\n')
        .map(|line| rewritten_line(line, tokens));
    Bytes::from(lines.collect::<String>())
}

fn rewritten_line(line: &str, tokens: u64) -> String {
    let (prefix, json) = line
        .strip_prefix("data: ")
        .map_or(("", line), |json| ("data: ", json));
    match serde_json::from_str::<Value>(json) {
        Ok(mut event) if event["usage"].is_object() => {
            event["usage"]["prompt_tokens_details"]["cached_tokens"] = tokens.into();
            let end = &line[line.trim_end().len()..];
            format!("{prefix}{event}{end}")
        }
        _ => line.to_string(),
    }
}
