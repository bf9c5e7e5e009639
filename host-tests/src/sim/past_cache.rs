//! Requests that leave the prefix cache aside.
//!
//! Log probabilities of a prompt's tokens need all of it computed: vLLM reads no cached block for such a request
//! (`skip_reading_prefix_cache` of its requests).

use std::sync::Arc;

use serde_json::Value;

use super::prompt::TokenizedPrompt;

/// Whether a request asks for what cached blocks cannot tell.
fn passes_cache_by(body: &Value) -> bool {
    let is_there = |field: &str| !body.get(field).unwrap_or(&Value::Null).is_null();
    is_there("prompt_logprobs") || (body["echo"] == true && is_there("logprobs"))
}

/// The prompt as the cache is to see it: a request that leaves it aside has no blocks there.
pub(super) fn as_cached(prompt: TokenizedPrompt, body: &Value) -> TokenizedPrompt {
    if !passes_cache_by(body) {
        return prompt;
    }
    TokenizedPrompt {
        hashes: Arc::default(),
        ..prompt
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn log_probabilities_of_the_prompt_pass_the_cache_by() {
        for body in [
            json!({"prompt_logprobs": 0}),
            json!({"echo": true, "logprobs": 1}),
        ] {
            assert!(passes_cache_by(&body), "{body}");
        }
        for body in [
            json!({"prompt_logprobs": null}),
            json!({"logprobs": 1}),
            json!({"echo": true}),
        ] {
            assert!(!passes_cache_by(&body), "{body}");
        }
    }
}
