//! A slow, obvious reading of the same prompts from a whole tree.
//!
//! Texts are collected whole, then cut and hashed; nothing is shared with the reader but the two hash functions.

use serde_json::{Map, Value};

use super::BLOCK;
use crate::{Endpoint, chain, hash_bytes};

/// Front fields, by their names in the documentation.
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

/// The chain hashes of a body's blocks.
pub(super) fn blocks(endpoint: Endpoint, body: &Value) -> Vec<u64> {
    let Some(fields) = body.as_object() else {
        return Vec::new();
    };
    let (tools, lead, main) = field_names(endpoint);
    let named = |names: &[&'static str]| {
        names
            .iter()
            .find(|name| fields.contains_key(**name))
            .copied()
    };
    let (tools, lead, main) = (named(tools), named(lead), named(main));
    let sections = [tools, lead, main];
    let front = fields.iter().filter(|(key, _)| {
        FRONT.contains(&key.as_str()) && !sections.contains(&Some(key.as_str()))
    });
    let mut chained = chain(endpoint.seed(), hash_fields(front, &[]));
    let mut blocks = Vec::new();
    for section in sections {
        let text = section
            .map(|name| section_text(endpoint, name, &fields[name]))
            .unwrap_or_default();
        text.chain(&mut chained, &mut blocks);
    }
    blocks
}

/// Names of the fields of the tools, of what leads and of the main section.
fn field_names(
    endpoint: Endpoint,
) -> (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
) {
    match endpoint {
        Endpoint::Completions => (&[], &[], &["prompt"]),
        Endpoint::ChatCompletions => (&["tools"], &[], &["messages"]),
        Endpoint::Responses => (&["tools"], &["instructions"], &["input"]),
        Endpoint::Messages => (&["tools"], &["system"], &["messages"]),
        Endpoint::Pooling => (&["tools"], &[], &["input", "inputs", "texts", "messages"]),
        Endpoint::Rerank => (&[], &["query"], &["documents"]),
        Endpoint::Score => (
            &[],
            &["text_1", "queries", "data_1"],
            &["text_2", "documents", "items", "data_2"],
        ),
        Endpoint::Tokenize => (&["tools"], &["system"], &["prompt", "messages"]),
        Endpoint::Generate => (&[], &[], &["token_ids"]),
    }
}

fn section_text(endpoint: Endpoint, name: &str, value: &Value) -> Text {
    let mut text = Text::default();
    if value.is_null() || value.is_number() || value.is_boolean() {
        return text;
    }
    match name {
        "tools" => text.push(&canonical_bytes(value)),
        "instructions" | "system" => text.system(value),
        "messages" => text.messages(value),
        "input" if endpoint == Endpoint::Responses => text.messages(value),
        _ => text.items(value),
    }
    text
}

/// The bytes of a section, and words that belong to the block at a place of it.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    folds: Vec<(usize, u64)>,
    /// Bytes that count as text.
    weight: u64,
    messages: u64,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.weight += u64::try_from(bytes.len()).unwrap();
    }

    fn fold(&mut self, place: usize, word: u64) {
        self.folds.push((place / BLOCK, word));
    }

    fn items(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.push(text.as_bytes()),
            Value::Array(items) => self.item_list(items),
            other => self.push(&canonical_bytes(other)),
        }
    }

    fn item_list(&mut self, items: &[Value]) {
        for item in items {
            match item {
                Value::String(text) => {
                    self.push(text.as_bytes());
                    self.end_item();
                }
                Value::Array(items) => {
                    self.item_list(items);
                    self.end_item();
                }
                Value::Number(number) if is_token_id(number) => {
                    if self.weight == 0 && self.bytes.is_empty() {
                        self.fold(0, 0x746f_6b65_6e5f_6964);
                    }
                    let id = u32::try_from(number.as_u64().unwrap()).unwrap();
                    self.push(&id.to_le_bytes());
                }
                Value::Object(_) => self.push(&canonical_bytes(item)),
                // A scalar that is no token id.
                _ => self.push(b"\0v"),
            }
        }
    }

    fn end_item(&mut self) {
        self.fold(self.bytes.len(), chain(0x6974_656d_5f65_6e64, self.weight));
    }

    fn system(&mut self, value: &Value) {
        self.message(&Value::from(Map::from_iter([
            ("role".to_string(), Value::from("system")),
            ("content".to_string(), value.clone()),
        ])));
    }

    fn messages(&mut self, value: &Value) {
        match value {
            Value::Array(messages) => {
                for message in messages {
                    if message.is_array() {
                        self.messages(message);
                        self.end_item();
                    } else {
                        self.message(message);
                    }
                }
            }
            text => self.message(&Value::from(Map::from_iter([
                ("role".to_string(), Value::from("user")),
                ("content".to_string(), text.clone()),
            ]))),
        }
    }

    fn message(&mut self, message: &Value) {
        let Some(fields) = message.as_object() else {
            return match message {
                Value::String(text) => self.push(text.as_bytes()),
                other => self.push(&canonical_bytes(other)),
            };
        };
        self.messages += 1;
        self.fold(
            self.bytes.len(),
            chain(self.messages, fields.get("role").map_or(0, tree_hash)),
        );
        for key in ["content", "output"] {
            self.content(fields.get(key).unwrap_or(&Value::Null));
        }
        let skipped = ["role", "content", "output", "cache_control"];
        let others = hash_fields(fields, &skipped);
        let weight = fields
            .iter()
            .filter(|(key, _)| !skipped.contains(&key.as_str()));
        self.weight += weight.map(|(_, value)| length(value)).sum::<u64>() + 16;
        if others != 0 {
            self.bytes.extend_from_slice(&others.to_le_bytes());
        }
        self.bytes.push(0x1e);
    }

    fn content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.push(text.as_bytes()),
            Value::Array(parts) => parts.iter().for_each(|part| self.part(part)),
            Value::Object(_) => self.push(&canonical_bytes(content)),
            _ => {}
        }
    }

    fn part(&mut self, part: &Value) {
        let Some(fields) = part.as_object() else {
            return match part {
                Value::String(text) => self.push(text.as_bytes()),
                other => self.push(&canonical_bytes(other)),
            };
        };
        if let Some(text) = fields.get("text") {
            self.push(
                &text
                    .as_str()
                    .map_or_else(|| canonical_bytes(text), |text| text.as_bytes().to_vec()),
            );
        }
        self.content(fields.get("content").unwrap_or(&Value::Null));
        let skipped = ["text", "content", "cache_control"];
        let others = hash_fields(fields, &skipped);
        let is_plain =
            |kind: &str| others == hash_fields([(&"type".to_string(), &Value::from(kind))], &[]);
        if !["text", "input_text", "output_text"]
            .into_iter()
            .any(is_plain)
        {
            let counted = fields
                .iter()
                .filter(|(key, _)| !skipped.contains(&key.as_str()));
            let weight =
                |(key, value): (&String, &Value)| if is_media(key) { 4096 } else { length(value) };
            self.weight += counted.map(weight).sum::<u64>();
            self.bytes.push(0x1f);
            self.bytes.extend_from_slice(&others.to_le_bytes());
        }
    }

    /// Appends the blocks, chained onto `chained`, and leaves it behind the section's end.
    fn chain(&self, chained: &mut u64, blocks: &mut Vec<u64>) {
        let pieces = self.bytes.chunks_exact(BLOCK);
        let tail = pieces.remainder();
        let word = |number: usize| {
            let folds = self.folds.iter().filter(|fold| fold.0 == number);
            folds.fold(0u64, |sum, fold| sum.wrapping_add(fold.1))
        };
        for (number, bytes) in pieces.enumerate() {
            *chained = chain(*chained, hash_bytes(bytes).wrapping_add(word(number)));
            blocks.push(*chained);
        }
        if !tail.is_empty() {
            let number = self.bytes.len() / BLOCK;
            *chained = chain(*chained, hash_bytes(tail).wrapping_add(word(number)));
        }
    }
}

fn is_token_id(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|id| u32::try_from(id).is_ok())
}

fn is_media(key: &str) -> bool {
    [
        "image_url",
        "image",
        "source",
        "input_audio",
        "audio_url",
        "video_url",
    ]
    .contains(&key)
}

fn length(value: &Value) -> u64 {
    u64::try_from(canonical_bytes(value).len()).unwrap()
}

/// Bytes that are the same for every spelling of a value.
fn canonical_bytes(value: &Value) -> Vec<u8> {
    let text = |text: &str, end: &str| (text.replace('\0', "\0\0") + end).into_bytes();
    let list = |start: &str, inner: Vec<u8>, end: &str| {
        [start.as_bytes(), &inner, end.as_bytes()].concat()
    };
    match value {
        Value::String(string) => text(string, "\0s"),
        Value::Array(items) => list(
            "\0[",
            items.iter().flat_map(canonical_bytes).collect(),
            "\0]",
        ),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                [text(key, "\0k"), canonical_bytes(value)].concat()
            };
            list("\0{", fields.iter().flat_map(field).collect(), "\0}")
        }
        scalar => text(&scalar.to_string(), "\0v"),
    }
}

fn tree_hash(value: &Value) -> u64 {
    hash_in_pieces(&canonical_bytes(value))
}

/// Keys up to the longest that is looked for are hashed as they are, longer ones as values are.
fn key_hash(key: &str) -> u64 {
    if key.len() <= 32 {
        hash_bytes(key.as_bytes())
    } else {
        hash_in_pieces(key.as_bytes())
    }
}

fn hash_in_pieces(bytes: &[u8]) -> u64 {
    let pieces = bytes.chunks_exact(64);
    let rest = hash_bytes(pieces.remainder());
    let chained = pieces.fold(0, |before, piece| chain(before, hash_bytes(piece)));
    chain(chain(chained, rest), u64::try_from(bytes.len()).unwrap())
}

fn hash_fields<'a>(
    fields: impl IntoIterator<Item = (&'a String, &'a Value)>,
    skipped: &[&str],
) -> u64 {
    let counted = fields
        .into_iter()
        .filter(|(key, _)| !skipped.contains(&key.as_str()));
    counted.fold(0, |sum, (key, value)| {
        sum.wrapping_add(chain(key_hash(key), tree_hash(value)))
    })
}
