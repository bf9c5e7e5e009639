//! What a simulated rank makes of a request: tokens and block hashes.
//!
//! The tokenizer is four bytes a token; the template is ChatML, which most served models use. So lengths are what the
//! text's bytes say, and two prompts share exactly the blocks in which their rendered texts are equal.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::engine::BLOCK_TOKENS;

const TOKEN_BYTES: u64 = 4;

/// A prompt, ready for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedPrompt {
    /// Its length.
    pub tokens: u64,
    /// Chained hashes of its whole blocks.
    pub hashes: Arc<[u64]>,
}

/// The prompt of `/v1/completions`: a string or a list of token ids; `None` for anything else.
#[must_use]
pub fn of_completion(body: &Value) -> Option<TokenizedPrompt> {
    match body.get("prompt")? {
        Value::String(text) => Some(tokenize(seed(body), text.as_bytes())),
        Value::Array(ids) => {
            let ids: Option<Vec<u32>> = ids
                .iter()
                .map(|id| u32::try_from(id.as_u64()?).ok())
                .collect();
            let bytes: Vec<u8> = ids?.into_iter().flat_map(u32::to_le_bytes).collect();
            Some(tokenize(seed(body), &bytes))
        }
        _ => None,
    }
}

/// The prompt of `/v1/chat/completions`, rendered as ChatML with the tools in front; `None` without messages.
#[must_use]
pub fn of_chat(body: &Value) -> Option<TokenizedPrompt> {
    let messages = body.get("messages")?.as_array()?;
    let mut text = String::new();
    if let Some(tools) = body.get("tools").filter(|tools| !tools.is_null()) {
        let _ = write!(text, "<|im_start|>system\n# Tools\n{tools}<|im_end|>\n");
    }
    for message in messages {
        let role = message
            .get("role")
            .and_then(Value::as_str)
            .unwrap_or("user");
        let _ = writeln!(text, "<|im_start|>{role}");
        render_content(&mut text, message.get("content").unwrap_or(&Value::Null));
        if let Some(calls) = message.get("tool_calls").filter(|calls| !calls.is_null()) {
            let _ = write!(text, "{calls}");
        }
        text.push_str("<|im_end|>\n");
    }
    text.push_str("<|im_start|>assistant\n");
    Some(tokenize(seed(body), text.as_bytes()))
}

fn render_content(text: &mut String, content: &Value) {
    match content {
        Value::String(content) => text.push_str(content),
        Value::Array(parts) => {
            for part in parts {
                match part.get("text").and_then(Value::as_str) {
                    Some(part) => text.push_str(part),
                    None => text.push_str(&part.to_string()),
                }
            }
        }
        _ => {}
    }
}

/// vLLM puts the LoRA name (a model here) and the salt into the hash of the first block.
fn seed(body: &Value) -> u64 {
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("");
    xxh3_64_with_seed(
        field("cache_salt").as_bytes(),
        xxh3_64_with_seed(field("model").as_bytes(), 0),
    )
}

fn tokenize(seed: u64, bytes: &[u8]) -> TokenizedPrompt {
    let block_bytes = usize::try_from(BLOCK_TOKENS * TOKEN_BYTES).unwrap_or(usize::MAX);
    let mut chained = seed;
    let hashes = bytes.chunks_exact(block_bytes).map(|block| {
        chained = xxh3_64_with_seed(block, chained);
        chained
    });
    let hashes = hashes.collect();
    let tokens = u64::try_from(bytes.len())
        .unwrap_or(u64::MAX)
        .div_ceil(TOKEN_BYTES)
        .max(1);
    TokenizedPrompt { tokens, hashes }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shared(one: &TokenizedPrompt, other: &TokenizedPrompt) -> usize {
        one.hashes
            .iter()
            .zip(other.hashes.iter())
            .take_while(|(a, b)| a == b)
            .count()
    }

    #[test]
    fn text_and_token_ids_are_counted() {
        let text = of_completion(&json!({"model": "m", "prompt": "a".repeat(650)})).unwrap();
        assert_eq!((text.tokens, text.hashes.len()), (163, 10));
        let ids = of_completion(&json!({"model": "m", "prompt": vec![7; 160]})).unwrap();
        assert_eq!((ids.tokens, ids.hashes.len()), (160, 10));
        assert_eq!(
            of_completion(&json!({"model": "m", "prompt": {"a": 1}})),
            None
        );
    }

    #[test]
    fn a_longer_chat_shares_the_whole_of_the_shorter_one() {
        let turn =
            |number: usize| json!({"role": "user", "content": format!("{number} ").repeat(200)});
        let chat = |turns: usize| {
            of_chat(&json!({"model": "m", "messages": (0..turns).map(turn).collect::<Vec<_>>()}))
                .unwrap()
        };
        let (short, long) = (chat(2), chat(3));
        assert!(
            short.hashes.len() - shared(&short, &long) <= 1,
            "only the assistant's header differs"
        );
    }

    #[test]
    fn model_salt_and_tools_change_every_block() {
        let messages = json!([{"role": "user", "content": "x".repeat(500)}]);
        let plain = of_chat(&json!({"model": "m", "messages": messages})).unwrap();
        for other in [
            json!({"model": "n", "messages": messages}),
            json!({"model": "m", "messages": messages, "cache_salt": "s"}),
            json!({"model": "m", "messages": messages, "tools": [{"type": "function"}]}),
        ] {
            assert_eq!(shared(&plain, &of_chat(&other).unwrap()), 0, "{other}");
        }
    }
}
