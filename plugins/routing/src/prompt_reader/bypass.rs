//! Whether a request asks the rank to compute all of its prompt, whatever of it is cached.
//!
//! By the sources of the servers, each of which still writes the prompt to its cache:
//!
//! - vLLM sets `skip_reading_prefix_cache` where `prompt_logprobs` is there, 0 and -1 included (`SamplingParams.__post_init__`).
//!   With `echo` these are `logprobs` of a completion and `top_logprobs` of a chat, 0 unless it is null
//!   (`to_sampling_params` of both requests). `/inference/v1/generate` takes both fields in `sampling_params`. Pooling by token
//!   and by plugins skips the cache, too (`PoolingParams`).
//! - SGLang reads its cache only up to `logprob_start_len`, which is 0 for a completion with `echo` and `logprobs`
//!   (`_convert_to_internal_request`, `_compute_max_prefix_len`).
//! - TensorRT-LLM reuses blocks all the same, and logs that logits of the prompt are missing then.

use crate::Endpoint;

/// A field that has a say in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BypassField {
    PromptLogprobs,
    Echo,
    Logprobs,
    TopLogprobs,
    SkipReading,
    Task,
}

impl BypassField {
    /// The field of a request's body with this key.
    pub(super) fn of(endpoint: Endpoint, key: &[u8]) -> Option<Self> {
        use Endpoint::{ChatCompletions, Completions, Pooling};
        Some(match (endpoint, key) {
            (ChatCompletions | Completions, b"prompt_logprobs") => Self::PromptLogprobs,
            (ChatCompletions | Completions, b"echo") => Self::Echo,
            (Completions, b"logprobs") => Self::Logprobs,
            (ChatCompletions, b"top_logprobs") => Self::TopLogprobs,
            (Pooling, b"task") => Self::Task,
            _ => return None,
        })
    }

    /// The field of `sampling_params` with this key.
    pub(super) fn of_sampling(key: &[u8]) -> Option<Self> {
        match key {
            b"prompt_logprobs" => Some(Self::PromptLogprobs),
            b"skip_reading_prefix_cache" => Some(Self::SkipReading),
            _ => None,
        }
    }
}

/// What a body said last of each field: the first byte of its value, `[` for an object or a list. That tells `null`, `false`
/// and 0 from the rest, and the names of tasks from each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bypass {
    prompt_logprobs: Option<u8>,
    echo: Option<u8>,
    logprobs: Option<u8>,
    top_logprobs: Option<u8>,
    skip_reading: Option<u8>,
    task: Option<u8>,
}

impl Bypass {
    /// A value begins; an earlier one of the field is forgotten, as the ranks' own parser does.
    pub(super) fn begin(&mut self, field: BypassField) {
        *self.field(field) = None;
    }

    /// Bytes of the value that began.
    pub(super) fn push(&mut self, field: BypassField, part: &[u8]) {
        let said = self.field(field);
        *said = said.or(part.first().copied());
    }

    /// Whether the rank computes all of the prompt.
    pub(super) fn is_asked_for(&self, endpoint: Endpoint) -> bool {
        if let Some(said) = self.skip_reading.filter(|said| *said != b'n') {
            return is_true(said);
        }
        let echoes = self.echo.is_some_and(is_true);
        let echoed = match endpoint {
            Endpoint::ChatCompletions => self.top_logprobs.or(Some(b'0')),
            _ => self.logprobs,
        };
        let is_by_token = self.task.is_some_and(|said| matches!(said, b't' | b'p'));
        is_there(self.prompt_logprobs) || (echoes && is_there(echoed)) || is_by_token
    }

    fn field(&mut self, field: BypassField) -> &mut Option<u8> {
        match field {
            BypassField::PromptLogprobs => &mut self.prompt_logprobs,
            BypassField::Echo => &mut self.echo,
            BypassField::Logprobs => &mut self.logprobs,
            BypassField::TopLogprobs => &mut self.top_logprobs,
            BypassField::SkipReading => &mut self.skip_reading,
            BypassField::Task => &mut self.task,
        }
    }
}

/// Servers take `null` for absent.
fn is_there(said: Option<u8>) -> bool {
    said.is_some_and(|said| said != b'n')
}

/// As the servers' parsers take it: `true`, 1, `"yes"`; not `false`, 0, `"no"`, `null`.
fn is_true(said: u8) -> bool {
    !matches!(said, b'f' | b'F' | b'n' | b'N' | b'0' | b'[')
}
