//! JSON of answers and errors, in the shapes of vLLM 0.25.1 (`data/vllm-0.25.1/responses.json`).

use serde_json::{Value, json};

/// As recorded; clients must not depend on it.
const FINGERPRINT: &str = "vllm-0.25.1-simulated";

/// What an answer is made of.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: u64,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) completion_tokens: u64,
    /// Where the KV of the prompt is, for whoever asked.
    pub(super) kv_transfer_params: Value,
}

/// Text of a generated token: four letters and a space, so that lengths can be checked.
pub(super) fn token_text(number: u64) -> String {
    const WORDS: [&str; 8] = [
        " wind", " tide", " moss", " rain", " dune", " reef", " lake", " snow",
    ];
    let place = usize::try_from(number % 8).unwrap_or(0);
    WORDS.get(place).copied().unwrap_or_default().to_string()
}

/// Text of an answer of so many tokens: always the same words in the same order.
#[must_use]
pub fn answer_text(tokens: u64) -> String {
    (0..tokens).map(token_text).collect()
}

pub(super) fn completion(answered: &Answered) -> Value {
    json!({
        "id": answered.id, "object": "text_completion", "created": answered.created, "model": answered.model,
        "choices": [{
            "index": 0, "text": answer_text(answered.completion_tokens), "logprobs": null, "finish_reason": "length",
            "stop_reason": null, "token_ids": null, "prompt_logprobs": null, "prompt_token_ids": null,
            "routed_experts": null,
        }],
        "service_tier": null, "system_fingerprint": FINGERPRINT, "usage": usage(answered, true),
        "kv_transfer_params": answered.kv_transfer_params, "metrics": null,
    })
}

pub(super) fn chat(answered: &Answered) -> Value {
    json!({
        "id": answered.id, "object": "chat.completion", "created": answered.created, "model": answered.model,
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant", "content": answer_text(answered.completion_tokens), "refusal": null,
                "annotations": null, "audio": null, "function_call": null, "reasoning": null,
            },
            "logprobs": null, "finish_reason": "length", "stop_reason": null, "token_ids": null,
            "routed_experts": null,
        }],
        "service_tier": null, "system_fingerprint": FINGERPRINT, "usage": usage(answered, true),
        "prompt_logprobs": null, "prompt_token_ids": null, "prompt_text": null, "kv_transfer_params": answered.kv_transfer_params,
        "metrics": null,
    })
}

/// The chunk before the first token of a chat.
pub(super) fn chat_opening(answered: &Answered) -> Value {
    let delta = json!({"role": "assistant", "content": ""});
    json!({
        "id": answered.id, "object": "chat.completion.chunk", "created": answered.created, "model": answered.model,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}],
        "prompt_token_ids": null, "prompt_text": null,
    })
}

pub(super) fn chat_chunk(answered: &Answered, number: u64, is_last: bool) -> Value {
    let mut choice =
        json!({"index": 0, "delta": {"content": token_text(number)}, "logprobs": null});
    finish(&mut choice, is_last);
    choice["token_ids"] = Value::Null;
    json!({
        "id": answered.id, "object": "chat.completion.chunk", "created": answered.created, "model": answered.model,
        "choices": [choice],
    })
}

pub(super) fn completion_chunk(answered: &Answered, number: u64, is_last: bool) -> Value {
    let mut choice = json!({"index": 0, "text": token_text(number), "logprobs": null});
    finish(&mut choice, is_last);
    choice["token_ids"] = Value::Null;
    json!({
        "id": answered.id, "object": "text_completion", "created": answered.created, "model": answered.model,
        "choices": [choice],
    })
}

/// The chunk behind the last token, when the client asked for usage.
pub(super) fn usage_chunk(answered: &Answered, object: &str) -> Value {
    json!({
        "id": answered.id, "object": object, "created": answered.created, "model": answered.model,
        "choices": [], "usage": usage(answered, false), "system_fingerprint": FINGERPRINT,
    })
}

fn finish(choice: &mut Value, is_last: bool) {
    choice["finish_reason"] = if is_last {
        json!("length")
    } else {
        Value::Null
    };
    if is_last {
        choice["stop_reason"] = Value::Null;
    }
}

fn usage(answered: &Answered, is_whole: bool) -> Value {
    let mut details = json!({"cached_tokens": answered.cached_tokens});
    if is_whole {
        details["multimodal_tokens"] = Value::Null;
    }
    json!({
        "prompt_tokens": answered.prompt_tokens,
        "total_tokens": answered.prompt_tokens + answered.completion_tokens,
        "completion_tokens": answered.completion_tokens,
        "prompt_tokens_details": details,
    })
}

pub(super) fn models(model: &str, created: u64, max_model_len: u64) -> Value {
    json!({"object": "list", "data": [{
        "id": model, "object": "model", "created": created, "owned_by": "vllm", "root": format!("/models/{model}"),
        "parent": null, "max_model_len": max_model_len,
        "permission": [{
            "id": "modelperm-simulated", "object": "model_permission", "created": created,
            "allow_create_engine": false, "allow_sampling": true, "allow_logprobs": true,
            "allow_search_indices": false, "allow_view": true, "allow_fine_tuning": false, "organization": "*",
            "group": null, "is_blocking": false,
        }],
    }]})
}

/// An error with its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    kind: &'static str,
    param: Option<&'static str>,
    message: String,
}

impl ApiError {
    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist.");
        Self {
            status: 404,
            kind: "NotFoundError",
            param: Some("model"),
            message,
        }
    }

    pub(super) fn invalid_json(error: &serde_json::Error) -> Self {
        let message = format!(
            "1 validation error:\n  {{'type': 'json_invalid', 'msg': 'JSON decode error', 'ctx': '{error}'}}"
        );
        Self {
            status: 400,
            kind: "Bad Request",
            param: Some("body.1"),
            message,
        }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        let message = format!(
            "1 validation error:\n  {{'type': 'missing', 'loc': ('body', '{field}'), 'msg': 'Field required'}}"
        );
        Self {
            status: 400,
            kind: "Bad Request",
            param: Some(field),
            message,
        }
    }

    pub(super) fn not_json() -> Self {
        let message = "1 validation error:\n  {'type': 'value_error', 'msg': \"Unsupported Media Type: Only 'application/json' is allowed\"}";
        Self {
            status: 400,
            kind: "Bad Request",
            param: None,
            message: message.to_string(),
        }
    }

    pub(super) fn too_long(limit: u64, prompt_tokens: u64, output_tokens: u64) -> Self {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, you requested {output_tokens} output tokens and \
             your prompt contains at least {prompt_tokens} input tokens, for a total of at least {} tokens. Please reduce the \
             length of the input prompt or the number of requested output tokens. (parameter=input_tokens, \
             value={prompt_tokens})",
            prompt_tokens + output_tokens
        );
        Self {
            status: 400,
            kind: "BadRequestError",
            param: Some("input_tokens"),
            message,
        }
    }

    pub(super) fn data_parallel_rank(rank: i64) -> Self {
        let message = format!("data_parallel_rank {rank} is out of range [0, 1).");
        Self {
            status: 400,
            kind: "BadRequestError",
            param: None,
            message,
        }
    }

    pub(super) fn engine(status: u16) -> Self {
        let kind = if status == 503 {
            "ServiceUnavailableError"
        } else {
            "InternalServerError"
        };
        let message = "The server had an error while processing your request.".to_string();
        Self {
            status,
            kind,
            param: None,
            message,
        }
    }

    pub(super) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}})
    }
}
