//! Bodies that nobody should send.

use super::*;
use crate::Outcome::{self, NotAPrompt, Understood, Unreadable};

fn outcome(body: &[u8]) -> Outcome {
    let whole = read_pieces(ChatCompletions, &[body]);
    let pieces: Vec<&[u8]> = body.chunks(7).collect();
    assert_eq!(read_pieces(ChatCompletions, &pieces), whole, "in pieces");
    whole.outcome()
}

/// A chat with something odd in front of its messages.
fn chat_with(odd: &[u8]) -> Vec<u8> {
    [
        b"{",
        odd,
        br#""messages":[{"role":"user","content":"hello"}]}"#,
    ]
    .concat()
}

#[test]
fn every_odd_body_has_a_defined_outcome() {
    let nested = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
    let cases: [(&str, Vec<u8>, Outcome); 22] = [
        ("empty", vec![], Unreadable),
        ("white space", b" \n\t ".to_vec(), Unreadable),
        ("a string", b"\"hello\"".to_vec(), Unreadable),
        ("a number", b"17".to_vec(), Unreadable),
        ("null", b"null".to_vec(), Unreadable),
        ("a list", b"[{\"messages\":[]}]".to_vec(), Unreadable),
        ("an empty object", b"{}".to_vec(), NotAPrompt),
        ("broken off in a key", b"{\"mess".to_vec(), Unreadable),
        (
            "broken off in a string",
            b"{\"messages\":[{\"content\":\"hel".to_vec(),
            Unreadable,
        ),
        (
            "broken off before its end",
            b"{\"messages\":[]".to_vec(),
            Unreadable,
        ),
        (
            "a comma too many",
            b"{\"messages\":[],}".to_vec(),
            Unreadable,
        ),
        (
            "trailing garbage",
            [chat_with(b""), b" }]garbage\0".to_vec()].concat(),
            Understood,
        ),
        (
            "a byte order mark",
            [b"\xEF\xBB\xBF".to_vec(), chat_with(b"")].concat(),
            Understood,
        ),
        (
            "NUL in a string",
            chat_with(b"\"model\":\"a\0b\","),
            Understood,
        ),
        ("NUL between values", chat_with(b"\0"), Unreadable),
        (
            "invalid UTF-8",
            chat_with(b"\"model\":\"\xFF\xC0\x80\","),
            Understood,
        ),
        ("UTF-16", b"{\0\"\0m\0".to_vec(), Unreadable),
        (
            "lone surrogates",
            chat_with(br#""model":"\ud800x\udc00","#),
            Understood,
        ),
        (
            "an escape that is none",
            chat_with(br#""model":"\x41","#),
            Unreadable,
        ),
        (
            "nesting below the limit",
            chat_with(&[b"\"x\":", &nested(1000)[..], b","].concat()),
            Understood,
        ),
        (
            "nesting beyond the limit",
            chat_with(&[b"\"x\":", &nested(100_000)[..], b","].concat()),
            Unreadable,
        ),
        (
            "a huge number",
            chat_with(&[b"\"x\":", &b"9".repeat(100_000)[..], b","].concat()),
            Understood,
        ),
    ];
    for (name, body, expected) in cases {
        assert_eq!(outcome(&body), expected, "{name}");
    }
}

#[test]
fn a_million_keys_are_read() {
    let keys: String = (0..1_000_000)
        .map(|number| format!("\"{number}\":{number},"))
        .collect();
    let body = chat_with(keys.as_bytes());
    let read = |body: &[u8]| chat(std::str::from_utf8(body).unwrap());
    assert_eq!(read(&body), read(&chat_with(b"")));
}

#[test]
fn a_million_messages_are_read_within_the_budget_of_blocks() {
    let messages = vec![r#"{"role":"user","content":"hello"}"#; 1_000_000].join(",");
    let prompt = chat(&format!(r#"{{"messages":[{messages}]}}"#));
    assert_eq!(prompt.prompt_bytes, 1_000_000 * (5 + 16));
    assert!(
        prompt.blocks.len() <= 4096,
        "{} blocks",
        prompt.blocks.len()
    );
}

#[test]
fn a_prompt_field_of_a_wrong_kind_is_still_told_from_another() {
    let of = |messages: &str| chat(&format!(r#"{{"messages":{messages}}}"#));
    assert_ne!(of(r#"{"a":1}"#).anchor, of(r#"{"a":2}"#).anchor);
    assert_eq!(of("true").outcome(), NotAPrompt);
    assert_eq!(of("17").outcome(), NotAPrompt);
}

#[test]
fn whether_an_answer_is_streamed_is_read_wherever_it_stands_and_however_the_body_is_cut() {
    for (body, streamed) in [
        (r#"{"prompt":"a","stream":true}"#, true),
        (r#"{"stream" : true,"prompt":"a"}"#, true),
        (r#"{"stream":false,"prompt":"a"}"#, false),
        (r#"{"prompt":"a"}"#, false),
        (r#"{"prompt":"a","stream":"true"}"#, false),
        (r#"{"prompt":"a","stream":[true]}"#, false),
        (r#"{"prompt":"a","stream":null}"#, false),
        (r#"{"stream":true,"prompt":"a","stream":false}"#, false),
        (r#"{"x":{"stream":true},"prompt":"a"}"#, false),
        (r#"{"prompt":"a","stream_options":true}"#, false),
    ] {
        for cut in 0..body.len() {
            let mut reader = PromptReader::new(Endpoint::Completions, 64);
            reader.feed(&body.as_bytes()[..cut]);
            reader.feed(&body.as_bytes()[cut..]);
            assert_eq!(reader.is_streamed(), streamed, "{body} cut at {cut}");
        }
    }
}
