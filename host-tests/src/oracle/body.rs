//! Text and body of a request, fast: texts of pieces are made once.

use std::collections::HashMap;

use super::{Piece, Request};
use crate::prompt_text::block_text;

/// Texts kept, about 4 KiB each: enough for the sessions that are active together.
const MAX_TEXTS: usize = 32 * 1024;

/// What a client sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The prompt's text, four bytes a token.
    pub text: String,
    /// The body of the request: the same as [`crate::prompt_text::chat_request`] makes of pieces of 512 tokens.
    pub body: String,
}

/// Writes requests; forgets all texts when it has too many.
#[derive(Debug, Default)]
pub struct Writer {
    texts: HashMap<(u64, u32), Text>,
}

#[derive(Debug)]
struct Text {
    plain: String,
    escaped: String,
}

impl Writer {
    /// Writes a request over what `written` held.
    pub fn write(&mut self, request: &Request, model: &str, written: &mut Written) {
        let Written { text, body } = written;
        text.clear();
        body.clear();
        let (system, user) = request.pieces.split_at(1.min(request.pieces.len()));
        body.push_str(r#"{"messages":[{"role":"system","content":""#);
        self.push(system, text, body);
        body.push_str(r#""},{"role":"user","content":""#);
        self.push(user, text, body);
        body.push_str(&format!(
            r#""}}],"model":"{model}","max_tokens":{},"stream":true,"stream_options":{{"include_usage":true}}}}"#,
            request.output_tokens.max(1)
        ));
    }

    fn push(&mut self, pieces: &[Piece], text: &mut String, body: &mut String) {
        for piece in pieces {
            if self.texts.len() >= MAX_TEXTS {
                self.texts.clear();
            }
            let known = self.texts.entry((piece.id, piece.tokens));
            let known = known.or_insert_with(|| Text::of(*piece));
            text.push_str(&known.plain);
            body.push_str(&known.escaped);
        }
    }
}

impl Text {
    fn of(piece: Piece) -> Self {
        let plain = block_text(piece.id, piece.tokens);
        let quoted = serde_json::Value::from(plain.as_str()).to_string();
        let escaped = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        Self {
            escaped: escaped.unwrap_or_default().to_string(),
            plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::prompt_text::chat_request;
    use crate::trace::TraceRequest;

    #[test]
    fn the_body_is_that_of_the_demo_and_its_text_the_prompt() {
        let mut writer = Writer::default();
        let mut written = Written::default();
        for (input_tokens, blocks) in [(1300, vec![0, 5, 6]), (2000, vec![0, 5, 9]), (7, vec![3])] {
            let request = TraceRequest {
                at: Duration::ZERO,
                input_tokens,
                output_tokens: 7,
                blocks,
            };
            writer.write(&Request::from(&request), "a model", &mut written);
            let expected = chat_request(&request, "a model");
            assert_eq!(written.body, serde_json::to_string(&expected).unwrap());
            let contents = expected
                .messages
                .iter()
                .map(|message| message.content.as_str());
            assert_eq!(written.text, contents.collect::<String>());
        }
    }
}
