//! What answers say of their tokens, true or not: by the number of the stream, so that it takes nothing from chance.

use crate::envoy::HeaderMap;
use crate::stream::StreamId;

/// Tokens of prompts, plausible ones and others.
const PROMPTS: [&str; 6] = ["7", "300", "2000", "90000", "-3", "18446744073709551615"];

/// The head of an answer: JSON, events, of no kind, or compressed.
pub(super) fn headers(id: StreamId, code: u32) -> HeaderMap {
    let code = code.to_string();
    let mut headers = vec![(":status", code.as_str()), ("server", "envoy")];
    match id.0 % 4 {
        0 => headers.push(("content-type", "application/json")),
        1 => headers.push(("content-type", "text/event-stream; charset=utf-8")),
        2 => headers.extend([
            ("content-type", "application/json"),
            ("content-encoding", "br"),
        ]),
        _ => {}
    }
    HeaderMap::of(&headers)
}

/// A piece of an answer that ends like a whole one, where it is long enough for that.
pub(super) fn piece(id: StreamId, size: usize) -> Vec<u8> {
    let number = usize::try_from(id.0).unwrap_or_default();
    let prompt = PROMPTS[number / 4 % PROMPTS.len()];
    let cached = match number / 24 % 3 {
        0 => "0",
        1 => prompt,
        _ => "150",
    };
    let usage = format!(
        r#""usage":{{"prompt_tokens":{prompt},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}}}"#
    );
    let end = match id.0 % 4 {
        1 => format!("\n\ndata: {{{usage}\n\n"),
        _ => format!("\",{usage}"),
    };
    let mut piece = vec![b'x'; size];
    if let Some(place) = size.checked_sub(end.len()) {
        piece[place..].copy_from_slice(end.as_bytes());
    }
    piece
}
