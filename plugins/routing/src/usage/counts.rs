//! The counts in a `usage`, under the names of each API.

use serde::Deserialize;

use super::Usage;

/// More tokens than any model reads.
const MOST_TOKENS: u64 = 1 << 24;

/// What stands in `usage`, whichever API it is of; the rest is skipped.
///
/// OpenAI's completions and chat count `prompt_tokens`, its responses `input_tokens`, both with cached ones inside and told
/// in details. Anthropic's messages count `input_tokens` without those that were read from or written to a cache.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

impl Counts {
    /// The counts of a stream's end, with those of its start where the end does not tell the prompt.
    pub(super) fn or(self, start: impl FnOnce() -> Option<Self>) -> Self {
        if self.prompt_tokens.or(self.input_tokens).is_some() {
            return self;
        }
        let start = start().unwrap_or_default();
        Self {
            output_tokens: self.output_tokens.or(start.output_tokens),
            cache_read_input_tokens: self
                .cache_read_input_tokens
                .or(start.cache_read_input_tokens),
            cache_creation_input_tokens: self
                .cache_creation_input_tokens
                .or(start.cache_creation_input_tokens),
            ..start
        }
    }

    /// The tokens, if the counts make sense.
    pub(super) fn usage(self) -> Option<Usage> {
        let details = self.prompt_tokens_details.or(self.input_tokens_details);
        let cached_inside = details.and_then(|details| details.cached_tokens);
        let cached_tokens = cached_inside.or(self.cache_read_input_tokens);
        let usage = Usage {
            prompt_tokens: self.prompt_tokens.or_else(|| self.all_input_tokens())?,
            cached_tokens,
            completion_tokens: self.completion_tokens.or(self.output_tokens),
        };
        let is_sound = (1..=MOST_TOKENS).contains(&usage.prompt_tokens)
            && cached_tokens.is_none_or(|cached| cached <= usage.prompt_tokens)
            && usage
                .completion_tokens
                .is_none_or(|tokens| tokens <= MOST_TOKENS);
        is_sound.then_some(usage)
    }

    fn all_input_tokens(self) -> Option<u64> {
        let beside = [
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        ];
        let beside = beside.into_iter().flatten().fold(0, u64::saturating_add);
        Some(self.input_tokens?.saturating_add(beside))
    }
}
