//! The reader against a twin that has the whole body as a tree.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::spelling::spell;

/// The fields of a body.
type Fields = Map<String, Value>;

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-c \u{e9}\u{1F600}\"\\\\\n\\x00]{1,30}",
        "[a-z ]{60,140}"
    ]
}

fn small() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        words().prop_map(Value::from)
    ];
    scalar.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("[a-c]{0,2}", inner, 0..3).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        words().prop_map(|text| json!({"type": "text", "text": text})),
        words().prop_map(|text| json!({"text": text})),
        words().prop_map(|url| json!({"type": "image_url", "image_url": {"url": url}})),
        words().prop_map(Value::from),
    ]
}

fn message() -> impl Strategy<Value = Value> {
    let role = prop_oneof![
        Just(None),
        Just(Some("system")),
        Just(Some("user")),
        Just(Some("tool"))
    ];
    let content = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        words().prop_map(|text| Some(Value::from(text))),
        vec(part(), 0..4).prop_map(|parts| Some(Value::from(parts))),
    ];
    (
        role,
        content,
        btree_map("name|tool_calls|x{40}", small(), 0..2),
    )
        .prop_map(|(role, content, others)| {
            let mut fields: Fields = others.into_iter().collect();
            fields.extend(role.map(|role| ("role".to_string(), Value::from(role))));
            fields.extend(content.map(|content| ("content".to_string(), content)));
            Value::from(fields)
        })
}

fn chats() -> impl Strategy<Value = Fields> {
    let other_fields = btree_map(
        "model|tools|cache_salt|documents|temperature|stop",
        small(),
        0..4,
    );
    (vec(message(), 0..5), other_fields).prop_map(|(messages, others)| {
        let mut fields: Fields = others.into_iter().collect();
        fields.insert("messages".to_string(), Value::from(messages));
        fields
    })
}

/// Writes a body as `choices` say: spelling, white space and the order of the keys that have none.
fn write(fields: &Fields, choices: &[u8]) -> String {
    object(fields, choices, |key, value| match value {
        Value::Array(messages) if key == "messages" => {
            list(messages, |message| in_message(message, choices))
        }
        value => spelt(value, choices),
    })
}

fn in_message(message: &Value, choices: &[u8]) -> String {
    let fields = message.as_object().cloned().unwrap_or_default();
    object(&fields, choices, |key, value| match value {
        Value::Array(parts) if key == "content" => list(parts, |part| match part {
            Value::Object(fields) => object(fields, choices, |_, value| spelt(value, choices)),
            part => spelt(part, choices),
        }),
        value => spelt(value, choices),
    })
}

fn spelt(value: &Value, choices: &[u8]) -> String {
    String::from_utf8(spell(value, choices)).unwrap()
}

fn list(items: &[Value], write: impl Fn(&Value) -> String) -> String {
    format!(
        "[{}]",
        items.iter().map(write).collect::<Vec<_>>().join(" , ")
    )
}

fn object(fields: &Fields, choices: &[u8], write: impl Fn(&str, &Value) -> String) -> String {
    let field = |(key, value): (&String, &Value)| {
        format!(
            "{}:{}",
            spelt(&Value::from(key.as_str()), choices),
            write(key, value)
        )
    };
    let mut fields: Vec<String> = fields.iter().map(field).collect();
    let turn = usize::from(choices[0]) % fields.len().max(1);
    fields.rotate_left(turn);
    if choices[0] >= 128 {
        fields.reverse();
    }
    format!("{{{}}}", fields.join(","))
}

/// Bytes that are the same for every spelling of a value.
fn canonical_bytes(value: &Value) -> Vec<u8> {
    let text = |text: &str, end: &str| (text.replace('\0', "\0\0") + end).into_bytes();
    match value {
        Value::String(string) => text(string, "\0s"),
        Value::Array(items) => [
            b"\0[".to_vec(),
            items.iter().flat_map(canonical_bytes).collect(),
            b"\0]".to_vec(),
        ]
        .concat(),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                [text(key, "\0k"), canonical_bytes(value)].concat()
            };
            [
                b"\0{".to_vec(),
                fields.iter().flat_map(field).collect(),
                b"\0}".to_vec(),
            ]
            .concat()
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

/// The text of a prompt, and words that belong to the block at a place of it.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    folds: Vec<(usize, u64)>,
}

impl Text {
    fn message(&mut self, number: u64, message: &Value) {
        let role = message.get("role").map_or(0, tree_hash);
        self.folds
            .push((self.bytes.len() / BLOCK, chain(number, role)));
        match message.get("content") {
            Some(Value::String(text)) => self.bytes.extend_from_slice(text.as_bytes()),
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.part(part)),
            _ => {}
        }
        let others = hash_fields(message.as_object().unwrap(), &["role", "content"]);
        if others != 0 {
            self.bytes.extend_from_slice(&others.to_le_bytes());
        }
        self.bytes.push(0x1e);
    }

    fn part(&mut self, part: &Value) {
        let text = part
            .get("text")
            .unwrap_or(part)
            .as_str()
            .unwrap_or_default();
        self.bytes.extend_from_slice(text.as_bytes());
        let Some(fields) = part.as_object() else {
            return;
        };
        let others = hash_fields(fields, &["text"]);
        if others != hash_fields([(&"type".to_string(), &Value::from("text"))], &[]) {
            self.bytes.push(0x1f);
            self.bytes.extend_from_slice(&others.to_le_bytes());
        }
    }

    /// The blocks, chained onto `before`.
    fn blocks(&self, mut before: u64) -> Vec<u64> {
        let chained = self
            .bytes
            .chunks_exact(BLOCK)
            .enumerate()
            .map(|(number, bytes)| {
                let folds = self.folds.iter().filter(|fold| fold.0 == number);
                let word = folds.fold(hash_bytes(bytes), |sum, fold| sum.wrapping_add(fold.1));
                before = chain(before, word);
                before
            });
        chained.collect()
    }
}

fn twin_of_chat(fields: &Fields) -> Vec<u64> {
    let front = ["model", "cache_salt", "documents"];
    let front = hash_fields(
        fields
            .iter()
            .filter(|(key, _)| front.contains(&key.as_str())),
        &[],
    );
    let mut tools = Text::default();
    let given = fields
        .get("tools")
        .filter(|tools| !tools.is_null() && !tools.is_number());
    tools
        .bytes
        .extend(given.map(canonical_bytes).unwrap_or_default());
    let mut text = Text::default();
    let messages = fields["messages"].as_array().unwrap();
    (1..)
        .zip(messages)
        .for_each(|(number, message)| text.message(number, message));
    let mut before = chain(ChatCompletions.seed(), front);
    let mut blocks = tools.blocks(before);
    before = blocks.last().copied().unwrap_or(before);
    let tail = tools.bytes.chunks_exact(BLOCK).remainder();
    if !tail.is_empty() {
        before = chain(before, hash_bytes(tail));
    }
    blocks.extend(text.blocks(before));
    blocks
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chat_has_the_blocks_of_its_tree(fields in chats(), choices in choices(), cut: prop::sample::Index) {
        let body = write(&fields, &choices);
        let (head, tail) = body.as_bytes().split_at(cut.index(body.len() + 1));
        let prompt = read_pieces(ChatCompletions, &[head, tail]);
        prop_assert_eq!(prompt.body_end, BodyEnd::Whole);
        prop_assert_eq!(hashes(&prompt), twin_of_chat(&fields), "{}", body);
    }

    #[test]
    fn all_spellings_of_a_chat_are_one_prompt(fields in chats(), one in choices(), other in choices()) {
        prop_assert_eq!(chat(&write(&fields, &one)), chat(&write(&fields, &other)));
    }

    #[test]
    fn fewer_messages_are_a_prefix(mut fields in chats(), choices in choices(), kept: prop::sample::Index) {
        let whole = chat(&write(&fields, &choices));
        let messages = fields["messages"].as_array_mut().unwrap();
        messages.truncate(kept.index(messages.len() + 1));
        let start = chat(&write(&fields, &choices));
        prop_assert!(hashes(&whole).starts_with(&hashes(&start)));
    }

    #[test]
    fn a_chat_cut_in_its_messages_has_leading_blocks(
        mut fields in chats(), choices in choices(), cut: prop::sample::Index,
    ) {
        let whole = twin_of_chat(&fields);
        let messages: Fields = fields.remove("messages").map(|messages| ("messages".to_string(), messages)).into_iter().collect();
        let front = write(&fields, &choices);
        let front = front.strip_suffix('}').unwrap().to_string() + if fields.is_empty() { "" } else { "," };
        let messages = write(&messages, &choices).strip_prefix('{').unwrap().to_string();
        let mut reader = PromptReader::new(ChatCompletions, BLOCK);
        reader.feed(front.as_bytes());
        reader.feed(&messages.as_bytes()[..cut.index(messages.len())]);
        let prompt = reader.finish(false, None);
        prop_assert_eq!(prompt.body_end, BodyEnd::Cut);
        prop_assert!(whole.starts_with(&hashes(&prompt)), "{}{}", front, messages);
    }

    #[test]
    fn a_text_prompt_has_the_blocks_of_its_text(
        text in "\\PC{0,300}", model in words(), choices in choices(), cut: prop::sample::Index,
    ) {
        let fields = json!({"model": model, "prompt": text, "n": 1});
        let body = write(fields.as_object().unwrap(), &choices);
        let (head, tail) = body.as_bytes().split_at(cut.index(body.len() + 1));
        let front = hash_fields([(&"model".to_string(), &fields["model"])], &[]);
        let twin = Text { bytes: text.into_bytes(), folds: Vec::new() };
        let prompt = read_pieces(Completions, &[head, tail]);
        prop_assert_eq!(hashes(&prompt), twin.blocks(chain(Completions.seed(), front)));
        prop_assert_eq!(prompt.prompt_bytes, u64::try_from(twin.bytes.len()).unwrap());
    }

    #[test]
    fn any_bytes_are_read_to_a_defined_end_in_any_pieces(
        fields in chats(), choices in choices(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), cut: prop::sample::Index,
    ) {
        let mut body = write(&fields, &choices).into_bytes();
        for (place, byte) in damage {
            let place = place.index(body.len());
            body[place] = byte;
        }
        let whole = read_pieces(ChatCompletions, &[&body]);
        prop_assert_ne!(whole.body_end, BodyEnd::Cut);
        let (head, tail) = body.split_at(cut.index(body.len() + 1));
        prop_assert_eq!(read_pieces(ChatCompletions, &[head, tail]), whole);
    }
}
