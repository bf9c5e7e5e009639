//! What hostile clients send.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::option_value::option_value;
use crate::prompt_text::{block_text, chat_request};
use crate::trace::TraceRequest;

/// A way to steer, blind or starve a gateway, with nothing but its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Attack {
    /// Announces a terabyte, sends a hundred bytes of a prompt and holds the stream.
    Announce,
    /// A chat of 60,000 parts that are no text, of eleven bytes each.
    Parts,
    /// A streamed prompt in chunks that stops in the middle of the body.
    Stop,
    /// Headers that only a gateway may write, with and without a body.
    Forge,
    /// Fields of the body that are orders to a rank.
    Forbidden,
    /// 600 KB that ranks refuse with 400.
    Refused,
    /// The prompt of an honest client, so that it is computed without a look into the cache.
    PastCache,
    /// A prompt of its own whose body comes 120 ms after its headers.
    Late,
    /// What ranks answer with 500.
    Error,
}

/// What `content-length` says of a body that never comes.
const ANNOUNCED_BYTES: u64 = 1_000_000_000_000;
/// 660 KB as JSON: many times what a rank's cache holds, if each counts as an image.
const PARTS: usize = 60_000;
/// Longer than the longest prompt that these ranks take, 131,072 tokens of four bytes.
const REFUSED_BYTES: usize = 600_000;
/// Tokens of a prompt that is of no use but to be picked for.
const SHORT_TOKENS: u32 = 100;
/// Blocks of prompts that nobody else sends start here.
const OWN_BLOCKS: u64 = 1 << 40;
/// An address where nobody is.
const NOBODY: &str = "127.0.0.9:9";

/// Fields that must reach no rank whole, with values that would be obeyed: vLLM's, SGLang's, TensorRT-LLM's and a sidecar's.
const FORBIDDEN: [(&str, &str); 9] = [
    ("kv_transfer_params", r#"{"do_remote_prefill":true}"#),
    ("ec_transfer_params", r#"{"remote":"10.1.1.1"}"#),
    ("bootstrap_host", r#""10.1.1.1""#),
    ("bootstrap_port", "8998"),
    ("bootstrap_room", "7"),
    ("data_parallel_rank", "1"),
    ("routed_dp_rank", "1"),
    (
        "disaggregated_params",
        r#"{"request_type":"generation_only"}"#,
    ),
    ("cache_hit_threshold", "0.5"),
];

/// Headers that steer, as the manifests and sidecars know them.
const FORGED: [&str; 5] = [
    "x-gateway-destination-endpoint",
    "x-prefiller-host-port",
    "x-rank-router-next-prefiller",
    "x-gateway-model-name",
    "x-data-parallel-rank",
];

impl Attack {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> String {
        option_value(self)
    }

    /// Streams that are kept open at once, for attacks that hold streams.
    #[must_use]
    pub fn held(self) -> usize {
        match self {
            Self::Announce | Self::Stop => 15,
            _ => 0,
        }
    }

    /// Requests a second, for the others. What ranks serve of these is short or rare.
    #[must_use]
    pub fn per_second(self) -> f64 {
        match self {
            Self::Announce | Self::Stop => 0.0,
            Self::Parts => 0.5,
            Self::PastCache => 2.0,
            Self::Refused => 4.0,
            Self::Late => 5.0,
            Self::Forge | Self::Forbidden => 10.0,
            Self::Error => 83.0,
        }
    }

    /// Whether no rank may get such a request whole.
    #[must_use]
    pub fn must_not_pass(self) -> bool {
        self == Self::Forbidden
    }

    /// What `content-length` says, where it is not the body's length; chunks where it says nothing.
    #[must_use]
    pub fn length(self, body: &str) -> Option<u64> {
        match self {
            Self::Announce => Some(ANNOUNCED_BYTES),
            Self::Stop => None,
            _ => u64::try_from(body.len()).ok(),
        }
    }

    /// Headers of the `number`-th request.
    #[must_use]
    pub fn headers(self, number: u64) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Forge => {
                let place = usize::try_from(number).unwrap_or(0) % FORGED.len();
                vec![(FORGED[place], NOBODY)]
            }
            Self::Error => vec![("x-simulated-status", "500")],
            _ => Vec::new(),
        }
    }

    /// Whether the `number`-th request has no body.
    #[must_use]
    pub fn is_bare(self, number: u64) -> bool {
        self == Self::Forge && number.is_multiple_of(2)
    }

    /// The path that it is sent to.
    #[must_use]
    pub fn path(self, number: u64) -> &'static str {
        match self {
            _ if self.is_bare(number) => "/v1/models",
            Self::Parts | Self::PastCache => "/v1/chat/completions",
            _ => "/v1/completions",
        }
    }

    /// The body of the `number`-th request to this model; `honest` was asked by somebody else before.
    #[must_use]
    pub fn body(self, number: u64, model: &str, honest: &TraceRequest) -> String {
        let own = OWN_BLOCKS + number * 64 + self as u64;
        match self {
            Self::Parts => parts(model),
            Self::PastCache => past_cache(model, honest),
            Self::Refused => {
                let tokens = u32::try_from(REFUSED_BYTES / 4).unwrap_or(u32::MAX);
                completion(model, &block_text(own, tokens)).to_string()
            }
            Self::Stop => stopped(model, &block_text(own, SHORT_TOKENS)),
            Self::Forbidden => {
                forbidden(number, &completion(model, &block_text(own, SHORT_TOKENS)))
            }
            _ => completion(model, &block_text(own, SHORT_TOKENS)).to_string(),
        }
    }
}

fn completion(model: &str, prompt: &str) -> Value {
    json!({"model": model, "prompt": prompt, "max_tokens": 1, "stream": true})
}

/// Says before its prompt that it is streamed: of a stream a first byte is expected soon.
fn stopped(model: &str, prompt: &str) -> String {
    let prompt = json!(prompt);
    format!(r#"{{"model":"{model}","stream":true,"max_tokens":1,"prompt":{prompt}}}"#)
}

fn parts(model: &str) -> String {
    let parts = vec![r#"{"image":1}"#; PARTS].join(",");
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":[{parts}]}}]}}"#)
}

fn past_cache(model: &str, honest: &TraceRequest) -> String {
    let mut body = json!(chat_request(honest, model));
    body["max_tokens"] = json!(1);
    body["prompt_logprobs"] = json!(1);
    body.to_string()
}

fn forbidden(number: u64, body: &Value) -> String {
    let (field, value) = FORBIDDEN[usize::try_from(number).unwrap_or(0) % FORBIDDEN.len()];
    let body = body.to_string();
    let open = body.trim_end_matches('}');
    format!(r#"{open},"{field}":{value}}}"#)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bodies_are_json_and_differ_from_each_other() {
        let honest = TraceRequest {
            at: Duration::ZERO,
            input_tokens: 600,
            output_tokens: 5,
            blocks: vec![0, 1],
        };
        for attack in Attack::all() {
            let body = |number| attack.body(number, "m", &honest);
            for number in 0..10 {
                let read: Result<Value, _> = serde_json::from_str(&body(number));
                assert!(read.is_ok(), "{attack:?} {}", body(number));
            }
            let is_same = [Attack::Parts, Attack::PastCache].contains(attack);
            assert_eq!(body(1) == body(2), is_same, "{attack:?}");
        }
    }
}
