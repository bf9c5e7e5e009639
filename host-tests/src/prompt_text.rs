//! Text for the blocks of a trace.
//!
//! Equal block numbers give equal text, different ones differ from their first token on, so prompts share prefixes
//! exactly as the trace says. The text has quotes, line ends and letters of several bytes, as prompts do.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::trace::{BLOCK_TOKENS, TraceRequest};

/// Bytes of a token: the simulated ranks count four.
const TOKEN_BYTES: usize = 4;

const WORDS: [&str; 24] = [
    "gateway",
    "rank",
    "prefill",
    "decode",
    "the",
    "of",
    "and",
    "cache",
    "token",
    "batch",
    "expert",
    "pod",
    "queue",
    "hash",
    "\"quoted\"",
    "naïve",
    "Größe",
    "東京",
    "step\n",
    "model",
    "is",
    "to",
    "worker",
    "— ",
];

/// The text of the first `tokens` tokens of a block, four bytes each.
#[must_use]
pub fn block_text(block: u64, tokens: u32) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(block);
    let bytes = usize::try_from(tokens).unwrap_or(0) * TOKEN_BYTES;
    let mut text = format!("{block:08x} ");
    while text.len() < bytes {
        text.push_str(WORDS[random.random_range(0..WORDS.len())]);
        text.push(' ');
    }
    cut(&mut text, bytes);
    text
}

/// The body of a chat request, with its fields in the order in which OpenAI's Python client sends them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatRequest {
    /// The prompt.
    pub messages: Vec<ChatMessage>,
    /// The model's name.
    pub model: String,
    /// Length of the answer.
    pub max_tokens: u32,
    /// Always streamed.
    pub stream: bool,
    /// Asks for usage in the last event.
    pub stream_options: StreamOptions,
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: &'static str,
    /// What is said.
    pub content: String,
}

/// What else to stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StreamOptions {
    /// An event with the usage at the end.
    pub include_usage: bool,
}

/// A whole prompt as a chat request: the first block, which many share, as the system's message, the rest as the
/// user's.
#[must_use]
pub fn chat_request(request: &TraceRequest, model: &str) -> ChatRequest {
    let last = request.blocks.len().saturating_sub(1);
    let tokens = |place: usize| {
        let before = u32::try_from(place)
            .unwrap_or(u32::MAX)
            .saturating_mul(BLOCK_TOKENS);
        if place == last {
            request
                .input_tokens
                .saturating_sub(before)
                .min(BLOCK_TOKENS)
        } else {
            BLOCK_TOKENS
        }
    };
    let blocks = request.blocks.iter().enumerate();
    let texts: Vec<String> = blocks
        .map(|(place, block)| block_text(*block, tokens(place)))
        .collect();
    let (system, user) = texts.split_at(1.min(texts.len()));
    ChatRequest {
        messages: vec![
            ChatMessage {
                role: "system",
                content: system.concat(),
            },
            ChatMessage {
                role: "user",
                content: user.concat(),
            },
        ],
        model: model.to_string(),
        max_tokens: request.output_tokens.max(1),
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
    }
}

/// Cuts to exactly `bytes`, filling up where a letter would be split.
fn cut(text: &mut String, bytes: usize) {
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.extend(std::iter::repeat_n('.', bytes - end));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn texts_have_four_bytes_a_token_and_shorter_ones_are_prefixes() {
        for tokens in [1, 2, 3, 100, 511, 512] {
            let text = block_text(77, tokens);
            assert_eq!(text.len(), usize::try_from(tokens).unwrap() * 4);
            assert!(
                block_text(77, 512).starts_with(text.trim_end_matches('.')),
                "{tokens} tokens"
            );
        }
    }

    #[test]
    fn blocks_differ_from_the_first_two_tokens_on() {
        let starts: std::collections::HashSet<String> =
            (0..2000).map(|block| block_text(block, 2)).collect();
        assert_eq!(starts.len(), 2000);
    }

    #[test]
    fn a_request_holds_as_many_tokens_as_the_trace_says() {
        let request = TraceRequest {
            at: Duration::ZERO,
            input_tokens: 1300,
            output_tokens: 7,
            blocks: vec![0, 5, 6],
        };
        let body = chat_request(&request, "m");
        let lengths: Vec<usize> = body
            .messages
            .iter()
            .map(|message| message.content.len())
            .collect();
        assert_eq!(lengths, [512 * 4, (1300 - 512) * 4]);
        assert_eq!(body.max_tokens, 7);
    }
}
