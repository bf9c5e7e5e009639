//! What answers say of their tokens, true or not: by the number of the stream, so that it takes nothing from chance.

use super::Simulation;
use crate::envoy::HeaderMap;
use crate::stream::StreamId;

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Says {
    /// Something, true or not.
    Anything,
    Nothing,
    /// So many tokens of a prompt, of which so many were cached.
    Tokens(u64, u64),
}

impl Simulation {
    /// What the answer to a request says. Where only hostile clients make trouble, ranks tell the truth or nothing.
    pub(super) fn says(&mut self, id: StreamId) -> Says {
        let is_truthful = self.envoy().ranks.are_truthful;
        let stream = self.envoy().streams.get(&id);
        match stream.and_then(|stream| stream.plan.usage) {
            Some((prompt, cached)) => Says::Tokens(prompt, cached),
            None if is_truthful => Says::Nothing,
            None => Says::Anything,
        }
    }
}

/// Tokens of prompts, plausible ones and others.
const PROMPTS: [&str; 6] = ["7", "300", "2000", "90000", "-3", "18446744073709551615"];

/// The head of an answer: JSON, events, of no kind, or compressed.
pub(super) fn headers(id: StreamId, code: u32, says: Says) -> HeaderMap {
    let kind = match says {
        Says::Tokens(..) => 0,
        Says::Nothing | Says::Anything => id.0 % 4,
    };
    let code = code.to_string();
    let mut headers = vec![(":status", code.as_str()), ("server", "envoy")];
    match kind {
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
pub(super) fn piece(id: StreamId, size: usize, says: Says) -> Vec<u8> {
    let end = match says {
        Says::Nothing => String::new(),
        Says::Anything => anything(id),
        Says::Tokens(prompt, cached) => format!("\",{}", usage(prompt, cached)),
    };
    let mut piece = vec![b'x'; size];
    if let Some(place) = size.checked_sub(end.len()) {
        piece[place..].copy_from_slice(end.as_bytes());
    }
    piece
}

fn usage(prompt: impl std::fmt::Display, cached: impl std::fmt::Display) -> String {
    format!(
        r#""usage":{{"prompt_tokens":{prompt},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}}}"#
    )
}

fn anything(id: StreamId) -> String {
    let number = usize::try_from(id.0).unwrap_or_default();
    let prompt = PROMPTS[number / 4 % PROMPTS.len()];
    let cached = match number / 24 % 3 {
        0 => "0",
        1 => prompt,
        _ => "150",
    };
    let usage = usage(prompt, cached);
    match id.0 % 4 {
        1 => format!("\n\ndata: {{{usage}\n\n"),
        _ => format!("\",{usage}"),
    }
}
