//! The model's name, as it stands in the body.

/// Longer names than any model's would only make headers long.
const MOST_BYTES: usize = 256;

/// Keeps the name while it comes in parts. Memory: at most 256 bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelName {
    bytes: Vec<u8>,
    is_unfit: bool,
    /// Whether the value has ended: the start of a name is another name.
    is_whole: bool,
}

impl ModelName {
    /// A name begins; an earlier one is forgotten, as the ranks' own parser does.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        // What is no visible ASCII could end a header, or be read in two ways.
        let fits = self.bytes.len().saturating_add(part.len()) <= MOST_BYTES;
        self.is_unfit |= !fits || !part.iter().all(u8::is_ascii_graphic);
        if !self.is_unfit {
            self.bytes.extend_from_slice(part);
        }
    }

    pub(super) fn end(&mut self) {
        self.is_whole = true;
    }

    /// The name, if it is whole and a header can have it as its value.
    pub(super) fn get(&self) -> Option<&str> {
        let is_there = self.is_whole && !self.is_unfit && !self.bytes.is_empty();
        std::str::from_utf8(&self.bytes).ok().filter(|_| is_there)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Endpoint, PromptReader};

    fn name(body: &str) -> Option<String> {
        let mut whole = PromptReader::new(Endpoint::Completions, 64);
        whole.feed(body.as_bytes());
        for at in 0..body.len() {
            let mut parts = PromptReader::new(Endpoint::Completions, 64);
            parts.feed(&body.as_bytes()[..at]);
            parts.feed(&body.as_bytes()[at..]);
            assert_eq!(parts.model_name(), whole.model_name(), "{body} at {at}");
        }
        whole.model_name().map(ToString::to_string)
    }

    #[test]
    fn the_name_is_what_the_body_says_last_in_any_spelling() {
        for (body, expected) in [
            (
                r#"{"model":"deepseek-ai/DeepSeek-R1","prompt":"x"}"#,
                Some("deepseek-ai/DeepSeek-R1"),
            ),
            (r#"{"prompt":"x","model":"m\u002d1"}"#, Some("m-1")),
            (r#"{"model":"a","model":"b"}"#, Some("b")),
            (r#"{"model":"a","model":null}"#, None),
            (r#"{"messages":[{"model":"a"}]}"#, None),
            (r#"{"model":["a"]}"#, None),
            (r#"{"model":""}"#, None),
            (r#"{"prompt":"x"}"#, None),
        ] {
            assert_eq!(name(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn the_start_of_a_name_is_none_nor_is_what_an_unreadable_body_says() {
        let after = |body: &str| {
            let mut reader = PromptReader::new(Endpoint::Completions, 64);
            reader.feed(body.as_bytes());
            reader.model_name().map(ToString::to_string)
        };
        assert_eq!(after(r#"{"model":"m"#), None);
        assert_eq!(after(r#"{"model":"m""#).as_deref(), Some("m"));
        assert_eq!(after(r#"{"model":"m","model""#).as_deref(), Some("m"));
        assert_eq!(after(r#"{"model":"m","model":"l"#), None);
        assert_eq!(after(r#"{"model":"m","model":["#), None);
        assert_eq!(after(r#"{"model":"m",,"#), None);
        let deep = format!(r#"{{"model":"m","x":{}"#, "[".repeat(2000));
        assert_eq!(after(&deep), None);
    }

    #[test]
    fn what_no_header_can_hold_is_no_name() {
        for text in ["a b", "a\\r\\nx-evil: 1", "\u{e4}", "a\\u0000"] {
            assert_eq!(name(&format!(r#"{{"model":"{text}"}}"#)), None, "{text}");
        }
        assert_eq!(name(&format!(r#"{{"model":"{}"}}"#, "m".repeat(257))), None);
        let longest = "m".repeat(256);
        assert_eq!(name(&format!(r#"{{"model":"{longest}"}}"#)), Some(longest));
    }
}
