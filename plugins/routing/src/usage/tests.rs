use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Answers of vLLM 0.25.1, recorded.
const COLD: &[u8] = include_bytes!("../../corpus/usage/completion_cold.json");
const WARM: &[u8] = include_bytes!("../../corpus/usage/completion_warm.json");
const CHAT: &[u8] = include_bytes!("../../corpus/usage/chat.json");
const CHAT_WARM: &[u8] = include_bytes!("../../corpus/usage/chat_warm.json");
const CHAT_STREAM: &[u8] = include_bytes!("../../corpus/usage/chat_stream.sse");
const TOKEN_IDS: &[u8] = include_bytes!("../../corpus/usage/token_ids.json");
const RESPONSES: &[u8] = include_bytes!("../../corpus/usage/responses.json");
const MESSAGES: &[u8] = include_bytes!("../../corpus/usage/messages.json");
const ERROR: &[u8] = include_bytes!("../../corpus/usage/error.json");
const MODELS: &[u8] = include_bytes!("../../corpus/usage/models.json");
/// Written for these tests, in the shapes of Anthropic's and OpenAI's documentation.
const MESSAGES_STREAM: &[u8] = include_bytes!("../../corpus/usage/messages_stream.sse");
const RESPONSES_STREAM: &[u8] = include_bytes!("../../corpus/usage/responses_stream.sse");

use AnswerKind::{Events, Json};

fn read_pieces(kind: AnswerKind, pieces: &[&[u8]]) -> Option<Usage> {
    let mut reader = UsageReader::new(kind);
    for piece in pieces {
        for range in reader.wanted(piece.len()) {
            reader.push(&piece[range]);
        }
    }
    reader.finish()
}

fn read(kind: AnswerKind, answer: &[u8]) -> Option<Usage> {
    read_pieces(kind, &[answer])
}

fn usage(prompt_tokens: u64, cached: impl Into<Option<u64>>, completion: u64) -> Option<Usage> {
    Some(Usage {
        prompt_tokens,
        cached_tokens: cached.into(),
        completion_tokens: Some(completion),
    })
}

fn recorded() -> Vec<(&'static str, AnswerKind, &'static [u8], Option<Usage>)> {
    vec![
        ("completion_cold", Json, COLD, usage(3079, 0, 8)),
        ("completion_warm", Json, WARM, usage(3079, 3072, 8)),
        ("chat", Json, CHAT, usage(728, 0, 8)),
        ("chat_warm", Json, CHAT_WARM, usage(728, 720, 4)),
        ("chat_stream", Events, CHAT_STREAM, usage(728, 720, 8)),
        ("token_ids", Json, TOKEN_IDS, usage(160, 0, 2)),
        ("responses", Json, RESPONSES, usage(12, 0, 16)),
        ("messages", Json, MESSAGES, usage(11, 0, 16)),
        (
            "messages_stream",
            Events,
            MESSAGES_STREAM,
            usage(2_095, 2_048, 15),
        ),
        (
            "responses_stream",
            Events,
            RESPONSES_STREAM,
            usage(1_328, 1_296, 6),
        ),
        ("error", Json, ERROR, None),
        ("models", Json, MODELS, None),
    ]
}

#[test]
fn what_answers_say_is_read_wherever_they_are_cut() {
    for (name, kind, answer, expected) in recorded() {
        assert_eq!(read(kind, answer), expected, "{name}");
        for at in 0..=answer.len() {
            let (head, tail) = answer.split_at(at);
            assert_eq!(read_pieces(kind, &[head, tail]), expected, "{name} at {at}");
        }
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        assert_eq!(read_pieces(kind, &bytes), expected, "{name} by bytes");
    }
}

#[test]
fn an_answer_that_breaks_off_says_nothing_or_what_it_had_said() {
    for (name, kind, answer, expected) in recorded() {
        let end = answer.trim_ascii_end().len();
        for at in 0..end {
            let given = read(kind, &answer[..at]);
            let is_start =
                name == "messages_stream" && given.is_some_and(|u| u.prompt_tokens == 2_095);
            assert!(
                given.is_none() || (kind == Events && given == expected) || is_start,
                "{name} at {at}: {given:?}"
            );
        }
    }
}

/// An object whose text takes so many bytes.
fn long(text: &str, usage: &Value) -> String {
    json!({"id": "x", "choices": [{"message": {"content": text}}], "usage": usage, "after": null})
        .to_string()
}

#[test]
fn only_the_end_of_a_long_answer_is_needed() {
    let counts = json!({"prompt_tokens": 70, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 64}});
    for bytes in (3_900..4_200).chain([100_000]) {
        let answer = long(&"\\\"x{".repeat(bytes / 4), &counts);
        assert_eq!(read(Json, answer.as_bytes()), usage(70, 64, 5), "{bytes}");
        let event = format!("data: {answer}\n\ndata: [DONE]\n\n");
        assert_eq!(read(Events, event.as_bytes()), usage(70, 64, 5), "{bytes}");
    }
}

#[test]
fn at_most_five_kibibytes_are_kept() {
    let mut reader = UsageReader::new(Events);
    for _ in 0..100 {
        for range in reader.wanted(70_000) {
            reader.push(&vec![b'x'; range.len()]);
        }
    }
    assert_eq!(reader.wanted(70_000), [0..0, 65_904..70_000]);
    assert_eq!(
        reader.head.capacity() + reader.tail.into_bytes().len(),
        HEAD_BYTES + TAIL_BYTES
    );
}

#[test]
fn usage_in_the_models_text_is_not_believed() {
    let lie = r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    for text in [
        lie.to_string(),
        format!("\"}}],\"usage\":{{\"prompt_tokens\":1}},\"x\":[{{\"y\":\"{lie}"),
        format!("\n\ndata: {lie}\n\n"),
        format!("\\{lie}"),
        format!("{lie}\\"),
    ] {
        let without = json!({"choices": [{"text": text}], "usage": null});
        let with = long(&text, &json!({"prompt_tokens": 70, "completion_tokens": 5}));
        assert_eq!(read(Json, without.to_string().as_bytes()), None, "{text}");
        assert_eq!(read(Json, with.as_bytes()), usage(70, None, 5), "{text}");
        for at in 0..with.len() {
            let given = read(Json, &with.as_bytes()[..at]);
            assert_eq!(given, None, "{text} cut at {at}");
            let event = format!(
                "data: {}\n",
                String::from_utf8_lossy(&with.as_bytes()[..at])
            );
            assert_eq!(read(Events, event.as_bytes()), None, "{text} cut at {at}");
        }
    }
}

#[test]
fn usage_elsewhere_in_an_answer_is_not_that_of_the_answer() {
    for answer in [
        r#"{"choices":[{"usage":{"prompt_tokens":5}}]}"#,
        r#"{"metadata":{"usage":{"prompt_tokens":5}}}"#,
        r#"[{"usage":{"prompt_tokens":5}}]"#,
        r#"{"response":[{"usage":{"prompt_tokens":5}}]}"#,
        r#"{"response":{"metadata":{"usage":{"prompt_tokens":5}}}}"#,
        r#"{"x":"usage","y":{"prompt_tokens":5}}"#,
        r#"{"usages":{"prompt_tokens":5}}"#,
        r#""usage":{"prompt_tokens":5}"#,
    ] {
        assert_eq!(read(Json, answer.as_bytes()), None, "{answer}");
    }
}

#[test]
fn counts_that_make_no_sense_are_none() {
    for counts in [
        r#"{"prompt_tokens":-1}"#,
        r#"{"prompt_tokens":0}"#,
        r#"{"prompt_tokens":1.5}"#,
        r#"{"prompt_tokens":"7"}"#,
        r#"{"prompt_tokens":16777217}"#,
        r#"{"prompt_tokens":99999999999999999999999}"#,
        r#"{"prompt_tokens":1e9999}"#,
        r#"{"prompt_tokens":7,"prompt_tokens":8}"#,
        r#"{"prompt_tokens":7,"completion_tokens":-1}"#,
        r#"{"prompt_tokens":7,"completion_tokens":16777217}"#,
        r#"{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":8}}"#,
        r#"{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":-8}}"#,
        r#"{"prompt_tokens":7,"prompt_tokens_details":3}"#,
        r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":18446744073709551615}"#,
        r#"{"completion_tokens":7}"#,
        r#"{"prompt_tokens":7"#,
        "null",
        "7",
        "[7]",
        "{}",
    ] {
        let answer = format!("{{\"usage\":{counts}}}");
        assert_eq!(read(Json, answer.as_bytes()), None, "{answer}");
    }
}

#[test]
fn a_missing_count_is_unknown_and_not_zero() {
    for details in ["null", "{}", r#"{"cached_tokens":null}"#] {
        let answer =
            format!("{{\"usage\":{{\"prompt_tokens\":7,\"prompt_tokens_details\":{details}}}}}");
        let found = read(Json, answer.as_bytes()).unwrap();
        assert_eq!(
            (
                found.prompt_tokens,
                found.cached_tokens,
                found.completion_tokens
            ),
            (7, None, None)
        );
    }
}

#[test]
fn anthropic_counts_cached_tokens_beside_the_others() {
    let read = |counts: &str| read(Json, format!("{{\"usage\":{counts}}}").as_bytes());
    let counts = r#"{"input_tokens":50,"cache_read_input_tokens":100,"cache_creation_input_tokens":30,"output_tokens":4}"#;
    assert_eq!(read(counts), usage(180, 100, 4));
    assert_eq!(
        read(r#"{"input_tokens":50,"output_tokens":4}"#),
        usage(50, None, 4)
    );
}

#[test]
fn only_the_last_few_whole_events_of_a_stream_count() {
    let counted = "data: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\n";
    let plain = "data: {\"choices\":[]}\n\n";
    let read = |events: String| read(Events, events.as_bytes());
    assert_eq!(
        read(format!("{counted}{}", plain.repeat(3))),
        usage(7, None, 1)
    );
    assert_eq!(read(format!("{plain}{counted}{}", plain.repeat(4))), None);
    assert_eq!(read(format!("{plain}{}", counted.trim_end())), None);
    assert_eq!(
        read(format!("{plain}{}\r\n\r\n", counted.trim_end())),
        usage(7, None, 1)
    );
    assert_eq!(
        read(format!("{plain}: a comment\n{counted}event: done\n")),
        usage(7, None, 1)
    );
}

#[test]
fn the_content_type_tells_how_an_answer_is_written() {
    for (media, kind) in [
        ("application/json", Some(Json)),
        ("Application/JSON; charset=utf-8", Some(Json)),
        ("text/event-stream; charset=utf-8", Some(Events)),
        ("text/event-stream", Some(Events)),
        ("application/jsonl", None),
        ("text/plain", None),
        ("", None),
    ] {
        assert_eq!(AnswerKind::of(media.as_bytes()), kind, "{media}");
    }
}

/// Any JSON, rich in what could be mistaken.
fn values() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        Just("usage".to_string()),
        Just("\"usage\":{\"prompt_tokens\":3}".to_string()),
        "[\\\\\"{}:,ua\u{e9}]{0,12}",
    ];
    let leaf = prop_oneof![
        texts.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!({"prompt_tokens": 9})),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let keys = prop_oneof![
            Just("usage".to_string()),
            Just("response".to_string()),
            "[\\\\\"a:]{0,4}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The twin: the tree of the whole answer.
fn of_tree(tree: &Value) -> Option<Usage> {
    let object = tree.as_object()?;
    let is_named = |key: &str| key == "message" || key == "response";
    let named = object.iter().rev().filter(|(key, _)| is_named(key));
    let inner = || {
        named
            .filter_map(|(_, value)| value.as_object()?.get("usage"))
            .next()
    };
    let found = object.get("usage").or_else(inner)?;
    serde_json::from_value::<Counts>(found.clone())
        .ok()?
        .usage()
}

#[test]
fn a_beginning_cut_between_two_backslashes_changes_nothing() {
    let answer = br#"{"response":{"a\\":0.0,"usage":[]},"":{}}"#;
    let at = answer.iter().position(|byte| *byte == b'\\').unwrap() + 1;
    let cut = backward::find_usage(&answer[at..], true);
    assert!(cut.is_some());
    assert_eq!(cut, backward::find_usage(answer, false));
}

proptest! {
    #[test]
    fn an_answer_says_what_its_tree_says(tree in values(), pretty: bool, at: prop::sample::Index) {
        let answer = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.unwrap();
        prop_assume!(answer.len() < TAIL_BYTES);
        let (head, tail) = answer.as_bytes().split_at(at.index(answer.len()));
        prop_assert_eq!(read_pieces(Json, &[head, tail]), of_tree(&tree));
    }

    #[test]
    fn a_cut_beginning_changes_nothing_while_the_key_is_there(tree in values(), at: prop::sample::Index) {
        let answer = tree.to_string();
        let at = at.index(answer.len());
        let whole = backward::find_usage(answer.as_bytes(), false);
        let cut = backward::find_usage(&answer.as_bytes()[at..], true);
        let value_bytes = whole.map_or(0, <[u8]>::len);
        let key_at = answer.len().saturating_sub(value_bytes + "\"usage\":".len());
        if whole.is_some() && at <= key_at {
            prop_assert_eq!(cut, whole);
        }
    }

    #[test]
    fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[\\[\\]{}\":,\\\\ua1\n d]{0,60}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            for kind in [Json, Events] {
                prop_assert!(catch_unwind(AssertUnwindSafe(|| read(kind, bytes))).is_ok());
            }
        }
    }
}
