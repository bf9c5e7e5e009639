//! Which requests carry a prompt that can be read.

/// A kind of API endpoint whose body holds a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/completions`: `prompt`, text or token ids.
    Completions,
    /// `/v1/chat/completions`: `tools`, `messages`.
    ChatCompletions,
    /// `/v1/responses`: `tools`, `instructions`, `input`.
    Responses,
    /// Anthropic's `/v1/messages`: `tools`, `system`, `messages`.
    Messages,
    /// Embeddings, pooling and classification: `input` or `messages`.
    Pooling,
    /// `/rerank`: `query`, `documents`.
    Rerank,
    /// `/score`: two texts or lists of texts.
    Score,
    /// `/tokenize` and `/v1/messages/count_tokens`: any of the above, but nothing is prefilled.
    Tokenize,
    /// `/inference/v1/generate`: `token_ids`.
    Generate,
}

/// Paths by their ends, because a route may rewrite what stands before after the filters ran (`/team-a/v1/...`).
const PATHS: [(&[u8], Endpoint); 18] = [
    (b"/v1/chat/completions", Endpoint::ChatCompletions),
    (b"/v1/chat/completions/batch", Endpoint::ChatCompletions),
    (b"/v1/completions", Endpoint::Completions),
    (b"/v1/responses", Endpoint::Responses),
    (b"/v1/messages", Endpoint::Messages),
    (b"/v1/messages/count_tokens", Endpoint::Tokenize),
    (b"/v1/embeddings", Endpoint::Pooling),
    (b"/v2/embed", Endpoint::Pooling),
    (b"/pooling", Endpoint::Pooling),
    (b"/classify", Endpoint::Pooling),
    (b"/rerank", Endpoint::Rerank),
    (b"/v1/rerank", Endpoint::Rerank),
    (b"/v2/rerank", Endpoint::Rerank),
    (b"/score", Endpoint::Score),
    (b"/v1/score", Endpoint::Score),
    (b"/tokenize", Endpoint::Tokenize),
    (b"/inference/v1/generate", Endpoint::Generate),
    (b"/v1/tokenize", Endpoint::Tokenize),
];

impl Endpoint {
    /// Every kind, in the order of the metrics.
    pub const ALL: [Self; 9] = [
        Self::Completions,
        Self::ChatCompletions,
        Self::Responses,
        Self::Messages,
        Self::Pooling,
        Self::Rerank,
        Self::Score,
        Self::Tokenize,
        Self::Generate,
    ];

    /// Gives the endpoint of a request, or `None` when no prompt can be read from it. A query does not matter.
    #[must_use]
    pub fn of(method: &[u8], path: &[u8]) -> Option<Self> {
        if method != b"POST" {
            return None;
        }
        let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
        let known = PATHS.iter().find(|(end, _)| path.ends_with(end));
        known.map(|(_, endpoint)| *endpoint)
    }

    /// Its word in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::ChatCompletions => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Pooling => "pooling",
            Self::Rerank => "rerank",
            Self::Score => "score",
            Self::Tokenize => "tokenize",
            Self::Generate => "generate",
        }
    }

    /// A number that no other kind has.
    pub(crate) fn number(self) -> u64 {
        let place = Self::ALL.iter().position(|endpoint| *endpoint == self);
        place.map_or(0, |place| u64::try_from(place).unwrap_or(0))
    }

    /// Whether the rank prefills the prompt, so that its cache holds it afterwards.
    #[must_use]
    pub fn fills_cache(self) -> bool {
        self != Self::Tokenize
    }

    /// The word that starts every chain. Endpoints whose prompts pass the same chat template have the same: what reaches it
    /// in the same form is one prefix whichever API it came by.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Completions | Self::Generate => 1,
            Self::ChatCompletions | Self::Responses | Self::Messages | Self::Tokenize => 2,
            Self::Pooling => 3,
            Self::Rerank => 4,
            Self::Score => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_vllm_that_carries_a_prompt_is_known() {
        for (path, name) in [
            ("/v1/completions", "completions"),
            ("/v1/chat/completions", "chat"),
            ("/v1/chat/completions/batch", "chat"),
            ("/v1/responses", "responses"),
            ("/v1/messages", "messages"),
            ("/v1/messages/count_tokens", "tokenize"),
            ("/v1/embeddings", "pooling"),
            ("/v2/embed", "pooling"),
            ("/pooling", "pooling"),
            ("/classify", "pooling"),
            ("/rerank", "rerank"),
            ("/v1/rerank", "rerank"),
            ("/v2/rerank", "rerank"),
            ("/score", "score"),
            ("/v1/score", "score"),
            ("/tokenize", "tokenize"),
            ("/inference/v1/generate", "generate"),
        ] {
            for path in [
                path.to_string(),
                format!("/team-a{path}"),
                format!("{path}?timeout=3"),
            ] {
                let endpoint = Endpoint::of(b"POST", path.as_bytes());
                assert_eq!(endpoint.map(Endpoint::name), Some(name), "{path}");
            }
        }
    }

    #[test]
    fn other_methods_and_paths_carry_none() {
        for (method, path) in [
            ("GET", "/v1/completions"),
            ("post", "/v1/completions"),
            ("", "/v1/completions"),
            ("POST", "/v1/completions/"),
            ("POST", "/v1/completions/x"),
            ("POST", "/v1/completion"),
            ("POST", "/detokenize"),
            ("POST", "/v1/audio/transcriptions"),
            ("POST", "/?x=/v1/completions"),
            ("POST", ""),
        ] {
            assert_eq!(
                Endpoint::of(method.as_bytes(), path.as_bytes()),
                None,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::HashSet<&str> =
            Endpoint::ALL.into_iter().map(Endpoint::name).collect();
        assert_eq!(names.len(), Endpoint::ALL.len());
    }
}
