//! Which requests carry a prompt that can be read.

/// An API endpoint whose body holds a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/completions`: the prompt is the field `prompt`.
    Completions,
    /// `POST /v1/chat/completions`: the prompt is made of `tools` and `messages`.
    ChatCompletions,
}

impl Endpoint {
    /// Gives the endpoint of a request, or `None` when no prompt can be read from it.
    ///
    /// The path may carry a query and a prefix (`/team-a/v1/completions`), because a route may rewrite the
    /// prefix after the filters ran.
    #[must_use]
    pub fn of(method: &[u8], path: &[u8]) -> Option<Self> {
        if method != b"POST" {
            return None;
        }
        let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
        if path.ends_with(b"/v1/chat/completions") {
            Some(Self::ChatCompletions)
        } else if path.ends_with(b"/v1/completions") {
            Some(Self::Completions)
        } else {
            None
        }
    }

    /// The word that starts every chain of this endpoint: a chat template makes other tokens of the same text.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Completions => 1,
            Self::ChatCompletions => 2,
        }
    }

    /// The field of the body that holds the prompt.
    pub(crate) fn prompt_field(self) -> &'static [u8] {
        match self {
            Self::Completions => b"prompt",
            Self::ChatCompletions => b"messages",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_posts_to_known_paths_carry_a_prompt() {
        let chat = Some(Endpoint::ChatCompletions);
        let completions = Some(Endpoint::Completions);
        for (method, path, expected) in [
            ("POST", "/v1/completions", completions),
            ("POST", "/v1/chat/completions", chat),
            ("POST", "/v1/chat/completions?timeout=3", chat),
            ("POST", "/team-a/v1/completions", completions),
            ("GET", "/v1/completions", None),
            ("POST", "/v1/completions/x", None),
            ("POST", "/v1/embeddings", None),
            ("POST", "/v1/chat/completions?", chat),
            (
                "POST",
                "/v1/completions?a=/v1/chat/completions",
                completions,
            ),
            ("POST", "/v1/models?next=/v1/completions", None),
            ("POST", "http://gateway/v1/completions", completions),
            ("POST", "v1/completions", None),
            ("POST", "/v1/completions/", None),
            ("POST", "/v1/chat/completions/", None),
            ("POST", "/v1/completions#a", None),
            ("POST", "/V1/completions", None),
            ("POST", "/xv1/completions", None),
            ("POST", "/v1/chatcompletions", None),
            ("POST", "/v1/responses", None),
            ("POST", "?", None),
            ("post", "/v1/completions", None),
            ("PUT", "/v1/completions", None),
            ("POST", "", None),
            ("", "/v1/completions", None),
        ] {
            let given = Endpoint::of(method.as_bytes(), path.as_bytes());
            assert_eq!(given, expected, "{method} {path}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_no_endpoint() {
        assert_eq!(Endpoint::of(b"POST", b"\xff\xfe?\xff"), None);
        assert_eq!(
            Endpoint::of(b"POST", b"/\xff/v1/completions?\xff"),
            Some(Endpoint::Completions)
        );
        assert_eq!(Endpoint::of(b"\xff", b"/v1/completions"), None);
    }
}
