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

fn twin_of_chat(fields: &Fields) -> Vec<u64> {
    twin::blocks(ChatCompletions, &Value::from(fields.clone()))
}

/// A body of any endpoint, of fields that some endpoint knows.
fn bodies() -> impl Strategy<Value = (Endpoint, Value)> {
    let endpoint = prop::sample::select(Endpoint::ALL.to_vec());
    (
        endpoint,
        vec(message(), 0..4),
        vec(item(), 0..6),
        words(),
        btree_map(OTHERS, small(), 0..3),
    )
        .prop_map(|(endpoint, messages, items, lead, others)| {
            let (messages, items, lead) =
                (Value::from(messages), Value::from(items), Value::from(lead));
            let own = match endpoint {
                Endpoint::Completions => json!({"prompt": items}),
                Endpoint::ChatCompletions => json!({"messages": messages}),
                Endpoint::Responses => json!({"instructions": lead, "input": messages}),
                Endpoint::Messages => json!({"system": lead, "messages": messages}),
                Endpoint::Pooling => json!({"input": items}),
                Endpoint::Rerank => json!({"query": lead, "documents": items}),
                Endpoint::Score => json!({"text_1": lead, "text_2": items}),
                Endpoint::Tokenize => json!({"prompt": lead}),
                Endpoint::Generate => json!({"token_ids": items}),
            };
            let mut fields: Fields = others.into_iter().collect();
            fields.extend(own.as_object().cloned().unwrap_or_default());
            (endpoint, Value::from(fields))
        })
}

const OTHERS: &str = "model|cache_salt|chat_template|reasoning|features|temperature|user|stream";

fn item() -> impl Strategy<Value = Value> {
    prop_oneof![
        words().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        vec(any::<u32>(), 0..40).prop_map(Value::from),
        vec(words(), 0..3).prop_map(Value::from),
        words().prop_map(|text| json!({"content": text})),
    ]
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
    fn a_body_of_any_endpoint_has_the_blocks_of_its_tree(
        (endpoint, body) in bodies(), choices in choices(), cut: prop::sample::Index,
    ) {
        let text = write(body.as_object().unwrap(), &choices);
        let (head, tail) = text.as_bytes().split_at(cut.index(text.len() + 1));
        let prompt = read_pieces(endpoint, &[head, tail]);
        prop_assert_eq!(prompt.body_end, BodyEnd::Whole);
        prop_assert_eq!(hashes(&prompt), twin::blocks(endpoint, &body), "{:?} {}", endpoint, text);
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
        let prompt = reader.finish(false);
        prop_assert_eq!(prompt.body_end, BodyEnd::Cut);
        prop_assert!(whole.starts_with(&hashes(&prompt)), "{}{}", front, messages);
    }

    #[test]
    fn a_text_prompt_has_the_blocks_of_its_text(
        text in "\\PC{0,300}", model in words(), choices in choices(), cut: prop::sample::Index,
    ) {
        let fields = json!({"model": model, "prompt": text.as_str(), "n": 1});
        let body = write(fields.as_object().unwrap(), &choices);
        let (head, tail) = body.as_bytes().split_at(cut.index(body.len() + 1));
        let prompt = read_pieces(Completions, &[head, tail]);
        prop_assert_eq!(hashes(&prompt), twin::blocks(Completions, &fields));
        prop_assert_eq!(prompt.prompt_bytes, u64::try_from(text.len()).unwrap());
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
