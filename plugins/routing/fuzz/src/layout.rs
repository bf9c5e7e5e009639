//! Where in a body the fields stand that are in front of the main part of its prompt.
//!
//! Written from the table in `plugins/README.md` and not from the reader, so that the two can disagree.

use std::collections::HashSet;

use routing::{Endpoint, Event, JsonScanner};

/// The main section's number.
const MAIN: usize = 2;
const FRONT: [&str; 14] = [
    "model",
    "cache_salt",
    "chat_template",
    "chat_template_kwargs",
    "documents",
    "add_special_tokens",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "truncate_prompt_tokens",
    "truncation_side",
    "mm_processor_kwargs",
    "previous_response_id",
    "features",
];

/// What is in front of the main part, and whether the body is plain enough to say what a cut has to give.
#[derive(Debug, Default)]
pub struct Layout {
    /// Offset at which the last of the fields in front ends; 0 when there is none.
    pub last_end: usize,
    /// Offset from which on the last of them makes blocks; `None` when it makes none.
    pub last_blocks: Option<usize>,
    /// Whether a field of the body or a role comes twice, or two fields make the same section: then the last one counts,
    /// which a cut cannot know.
    pub is_ambiguous: bool,
}

impl Layout {
    /// Reads the layout of a body of JSON.
    #[must_use]
    pub fn of(endpoint: Endpoint, body: &[u8]) -> Self {
        let mut walk = Walk::new(endpoint);
        let mut scanner = JsonScanner::default();
        for (offset, byte) in body.iter().enumerate() {
            let outcome = scanner.feed(std::slice::from_ref(byte), &mut |event| {
                walk.take(event, offset)
            });
            if outcome.is_err() || scanner.is_done() {
                break;
            }
        }
        walk.layout
    }
}

struct Walk {
    endpoint: Endpoint,
    layout: Layout,
    /// The keys so far of each open container, as far as they matter.
    keys: Vec<HashSet<Vec<u8>>>,
    key: Vec<u8>,
    is_front: bool,
    /// Whether the next event is the start of a value that makes blocks in front of the main part.
    is_at_lead: bool,
    has_section: [bool; MAIN + 1],
}

impl Walk {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            layout: Layout::default(),
            keys: Vec::new(),
            key: Vec::new(),
            is_front: false,
            is_at_lead: false,
            has_section: [false; MAIN + 1],
        }
    }

    fn take(&mut self, event: Event<'_>, offset: usize) {
        if std::mem::take(&mut self.is_at_lead) && !matches!(event, Event::Scalar(_)) {
            self.layout.last_blocks = Some(offset + 1);
        }
        match event {
            Event::Key(part) => self.key.extend_from_slice(part),
            Event::KeyEnd => self.end_key(),
            Event::ObjectStart | Event::ArrayStart => self.keys.push(HashSet::new()),
            Event::ObjectEnd | Event::ArrayEnd => {
                self.keys.pop();
                self.end_value(offset);
            }
            Event::StringEnd | Event::ScalarEnd => self.end_value(offset),
            Event::String(_) | Event::Scalar(_) => {}
        }
    }

    fn end_key(&mut self) {
        let key = std::mem::take(&mut self.key);
        if self.keys.len() == 1 {
            self.begin_field(&String::from_utf8_lossy(&key));
        }
        // Other fields of a message may come twice: they follow its content.
        if self.keys.len() == 1 || key == b"role" {
            let is_new = self.keys.last_mut().is_none_or(|keys| keys.insert(key));
            self.layout.is_ambiguous |= !is_new;
        }
    }

    fn begin_field(&mut self, key: &str) {
        let section = section(self.endpoint, key);
        if let Some(has) = section.and_then(|section| self.has_section.get_mut(section)) {
            self.layout.is_ambiguous |= std::mem::replace(has, true);
        }
        if section == Some(MAIN) || (section.is_none() && !FRONT.contains(&key)) {
            return;
        }
        self.layout.last_blocks = None;
        self.is_front = true;
        self.is_at_lead = section.is_some();
    }

    fn end_value(&mut self, offset: usize) {
        if self.keys.len() == 1 && std::mem::take(&mut self.is_front) {
            self.layout.last_end = offset + 1;
        }
    }
}

/// The section that a field makes, in the order in which templates print them.
fn section(endpoint: Endpoint, key: &str) -> Option<usize> {
    use Endpoint::{
        ChatCompletions, Completions, Generate, Messages, Pooling, Rerank, Responses, Score,
        Tokenize,
    };
    Some(match (endpoint, key) {
        (ChatCompletions | Responses | Messages | Pooling | Tokenize, "tools") => 0,
        (Responses, "instructions") => 1,
        (Messages | Tokenize, "system") => 1,
        (Rerank, "query") => 1,
        (Score, "text_1" | "queries" | "data_1") => 1,
        (Completions | Tokenize, "prompt") => MAIN,
        (ChatCompletions | Messages | Pooling | Tokenize, "messages") => MAIN,
        (Responses | Pooling, "input") => MAIN,
        (Pooling, "inputs" | "texts") => MAIN,
        (Rerank, "documents") => MAIN,
        (Score, "text_2" | "documents" | "items" | "data_2") => MAIN,
        (Generate, "token_ids") => MAIN,
        _ => return None,
    })
}
