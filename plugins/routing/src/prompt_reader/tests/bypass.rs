//! Requests that ask the rank to compute all of their prompt, and kinds of requests.

use super::*;
use crate::Endpoint::{Generate, Messages, Pooling, Responses};

/// The prompt of a body, the same at every split point.
fn split(endpoint: Endpoint, body: &str) -> Prompt {
    let whole = read_pieces(endpoint, &[body.as_bytes()]);
    assert_eq!(whole.body_end, BodyEnd::Whole, "{body}");
    for at in 0..body.len() {
        let (head, tail) = body.as_bytes().split_at(at);
        assert_eq!(
            read_pieces(endpoint, &[head, tail]),
            whole,
            "{body} at {at}"
        );
    }
    let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
    assert_eq!(read_pieces(endpoint, &bytes), whole, "{body} byte by byte");
    whole
}

fn bypasses(endpoint: Endpoint, fields: &str) -> bool {
    let part = match endpoint {
        ChatCompletions | Messages => r#""messages":[{"role":"user","content":"hello"}]"#,
        Generate => r#""token_ids":[1,2,3]"#,
        Completions => r#""prompt":"hello""#,
        _ => r#""input":"hello""#,
    };
    let [before, behind] = [
        format!("{{{fields},{part}}}"),
        format!("{{{part},{fields}}}"),
    ]
    .map(|body| split(endpoint, &body));
    assert_eq!(before.bypasses_cache, behind.bypasses_cache, "{fields}");
    assert_eq!(before.kind, behind.kind, "{fields}");
    assert_eq!(before.blocks, behind.blocks, "{fields}");
    before.bypasses_cache
}

#[test]
fn logprobs_of_the_prompt_are_computed_anew() {
    for endpoint in [Completions, ChatCompletions] {
        for (fields, expected) in [
            (r#""prompt_logprobs":5"#, true),
            (r#""prompt_logprobs":0"#, true),
            (r#""prompt_logprobs":-1"#, true),
            (r#""prompt_logprobs":"1""#, true),
            (r#""prompt_\u006cogprobs" : 1"#, true),
            (r#""prompt_logprobs":null"#, false),
            (r#""prompt_logprobs":1,"prompt_logprobs":null"#, false),
            (r#""prompt_logprobs":null,"prompt_logprobs":1"#, true),
            (r#""user":"prompt_logprobs","n":1"#, false),
            (r#""metadata":{"prompt_logprobs":1}"#, false),
            (r#""metadata":["prompt_logprobs",1]"#, false),
            (r#""prompt_logprobs_":1"#, false),
        ] {
            assert_eq!(
                bypasses(endpoint, fields),
                expected,
                "{endpoint:?} {fields}"
            );
        }
    }
}

#[test]
fn echoed_logprobs_are_those_of_the_prompt() {
    for (fields, completions, chat) in [
        (r#""echo":true,"logprobs":1"#, true, true),
        (r#""logprobs":0,"echo":true"#, true, true),
        (r#""echo":1,"logprobs":1"#, true, true),
        (r#""echo":"yes","logprobs":1"#, true, true),
        (r#""echo":false,"logprobs":1"#, false, false),
        (r#""echo":"no","logprobs":1"#, false, false),
        (r#""echo":null,"logprobs":1"#, false, false),
        (r#""logprobs":1"#, false, false),
        (r#""echo":true,"logprobs":null"#, false, true),
        // A chat's top_logprobs are 0 unless they are null.
        (r#""echo":true"#, false, true),
        (r#""echo":true,"top_logprobs":null"#, false, false),
        (
            r#""echo":true,"echo":false,"top_logprobs":5,"logprobs":5"#,
            false,
            false,
        ),
    ] {
        assert_eq!(bypasses(Completions, fields), completions, "{fields}");
        assert_eq!(bypasses(ChatCompletions, fields), chat, "{fields}");
    }
}

#[test]
fn sampling_parameters_of_generate_have_a_say() {
    for (fields, expected) in [
        (r#""sampling_params":{"prompt_logprobs":1}"#, true),
        (
            r#""sampling_params":{"max_tokens":1,"skip_reading_prefix_cache":true,"n":1}"#,
            true,
        ),
        (
            r#""sampling_params":{"skip_reading_prefix_cache":false,"prompt_logprobs":1}"#,
            false,
        ),
        (
            r#""sampling_params":{"skip_reading_prefix_cache":null,"prompt_logprobs":1}"#,
            true,
        ),
        (
            r#""sampling_params":{"prompt_logprobs":1,"prompt_logprobs":null}"#,
            false,
        ),
        (
            r#""sampling_params":{"prompt_logprobs":1},"sampling_params":{"n":1}"#,
            false,
        ),
        (
            r#""sampling_params":{"prompt_logprobs":1},"sampling_params":null"#,
            false,
        ),
        (
            r#""sampling_params":{"extra_args":{"prompt_logprobs":1}}"#,
            false,
        ),
        (r#""sampling_params":[{"prompt_logprobs":1}]"#, false),
        (r#""prompt_logprobs":1"#, false),
    ] {
        assert_eq!(bypasses(Generate, fields), expected, "{fields}");
    }
}

#[test]
fn pooling_by_token_skips_the_cache() {
    for (task, expected) in [
        ("token_embed", true),
        ("token_classify", true),
        ("plugin", true),
        ("embed", false),
        ("classify", false),
    ] {
        let fields = format!(r#""task":"{task}""#);
        assert_eq!(bypasses(Pooling, &fields), expected, "{task}");
    }
}

#[test]
fn endpoints_that_do_not_know_a_field_do_not_take_it() {
    for endpoint in [Responses, Messages, Pooling] {
        assert!(
            !bypasses(endpoint, r#""prompt_logprobs":1"#),
            "{endpoint:?}"
        );
    }
}

#[test]
fn a_kind_is_the_set_of_fields_whatever_their_order_and_values() {
    let kind = |body: &str| split(Completions, body).kind;
    let plain = kind(r#"{"model":"m","prompt":"hello","max_tokens":2}"#);
    for same in [
        r#"{"max_tokens":900,"prompt":"once upon a time","model":"m"}"#,
        r#"{ "m\u006fdel":"m", "prompt":["hello"],"max_tokens":null}"#,
        r#"{"model":"m","prompt":[1,2,3],"max_tokens":{"a":[1]}}"#,
    ] {
        assert_eq!(kind(same), plain, "{same}");
    }
    for other in [
        r#"{"model":"n","prompt":"hello","max_tokens":2}"#,
        r#"{"model":"m","prompt":"hello"}"#,
        r#"{"model":"m","prompt":"hello","max_tokens":2,"unheard_of":1}"#,
        // A server tells the cached tokens of one of them.
        r#"{"model":"m","prompt":["hello","world"],"max_tokens":2}"#,
    ] {
        assert_ne!(kind(other), plain, "{other}");
    }
    let long = |letter: &str| kind(&format!(r#"{{"prompt":"","{}":1}}"#, letter.repeat(99)));
    assert_ne!(long("a"), long("b"));
}

#[test]
fn sampling_parameters_make_kinds_of_generate() {
    let kind = |fields: &str| {
        let body = format!(r#"{{"token_ids":[1],"sampling_params":{fields}}}"#);
        split(Generate, &body).kind
    };
    assert_eq!(kind(r#"{"n":1,"seed":2}"#), kind(r#"{"seed":3,"n":2}"#));
    assert_ne!(kind(r#"{"n":1}"#), kind(r#"{"n":1,"unheard_of":1}"#));
    assert_ne!(kind("{}"), kind(r#"{"n":1}"#));
}

#[test]
fn kinds_cannot_be_foreseen_without_the_secret() {
    let kind = |seed: u64, secret: u64| {
        let mut reader = PromptReader::new(Completions, BLOCK).seeded(seed, secret);
        reader.feed(br#"{"prompt":"hello","n":1}"#);
        reader.finish(true).kind
    };
    assert_eq!(kind(0, 7), kind(0, 7));
    assert_ne!(kind(0, 7), kind(0, 8));
}

#[test]
fn a_seed_changes_every_block_and_the_anchor_and_tells_the_same_prompts_apart() {
    let prompts: Vec<String> = [
        (ChatCompletions, 1),
        (ChatCompletions, 2),
        (Completions, 1),
    ]
    .iter()
    .map(|(endpoint, number)| match endpoint {
        ChatCompletions => format!(
            r#"{{"model":"m","tools":[{{"a":1}}],"messages":[{{"role":"user","content":[{{"type":"text","text":"{}"}}]}}]}}"#,
            text(&format!("story {number}"), 5 * BLOCK)
        ),
        _ => format!(r#"{{"model":"m","prompt":"{}"}}"#, text("story", 5 * BLOCK)),
    })
    .collect();
    let read = |body: &str, seed: u64| {
        let mut reader = PromptReader::new(ChatCompletions, BLOCK).seeded(seed, 0);
        reader.feed(body.as_bytes());
        reader.finish(true)
    };
    for body in &prompts[..2] {
        let (plain, one, two) = (read(body, 0), read(body, 1), read(body, 2));
        assert_eq!(
            Prompt {
                kind: 0,
                ..plain.clone()
            },
            chat(body)
        );
        assert_eq!(one, read(body, 1));
        assert!(plain.blocks.len() > 4);
        assert_eq!(plain.prompt_bytes, one.prompt_bytes);
        for (block, seeded) in plain.blocks.iter().zip(&one.blocks) {
            assert_ne!(block.chain_hash, seeded.chain_hash);
            assert_eq!(block.end_bytes, seeded.end_bytes);
        }
        assert!(hashes(&one).iter().all(|hash| !hashes(&two).contains(hash)));
        assert_ne!(plain.anchor, one.anchor);
    }
    let [one, two] = [0, 1].map(|place| read(&prompts[place], 9));
    assert_ne!(one.blocks.last(), two.blocks.last());
}

#[test]
fn a_text_part_is_that_text_under_a_seed_too() {
    let read = |content: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let mut reader = PromptReader::new(ChatCompletions, BLOCK).seeded(77, 0);
        reader.feed(body.as_bytes());
        reader.finish(true).blocks
    };
    let story = text("story", 3 * BLOCK);
    let lone = read(&format!(r#""{story}""#));
    assert_eq!(
        read(&format!(r#"[{{"type":"text","text":"{story}"}}]"#)),
        lone
    );
}
