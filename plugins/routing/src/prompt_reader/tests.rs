use super::*;

mod bypass;
#[cfg(not(target_arch = "wasm32"))]
mod corpus;
mod cuts;
mod endpoints;
mod equality;
mod odd;
mod prefaces;
#[cfg(not(target_arch = "wasm32"))]
mod properties;
#[cfg(not(target_arch = "wasm32"))]
mod twin;

use crate::canonical::ValueHash;
use crate::{Block, Endpoint::ChatCompletions, Endpoint::Completions, hash_bytes};

/// Bytes of a block.
const BLOCK: usize = 64;

fn read_pieces(endpoint: Endpoint, pieces: &[&[u8]]) -> Prompt {
    let mut reader = PromptReader::new(endpoint, BLOCK);
    pieces.iter().for_each(|piece| reader.feed(piece));
    reader.finish(true)
}

/// A prompt without the kind of its request, which other fields change.
fn read(endpoint: Endpoint, body: &str) -> Prompt {
    let prompt = read_pieces(endpoint, &[body.as_bytes()]);
    assert_eq!(prompt.body_end, BodyEnd::Whole, "{body}");
    Prompt { kind: 0, ..prompt }
}

fn chat(body: &str) -> Prompt {
    read(ChatCompletions, body)
}

fn completions(body: &str) -> Prompt {
    read(Completions, body)
}

/// Text of `bytes` bytes that starts with a name and repeats nothing within a block.
fn text(name: &str, bytes: usize) -> String {
    let words = (0..).map(|number: usize| format!("{name} {number} "));
    words
        .flat_map(|word| word.into_bytes())
        .map(char::from)
        .take(bytes)
        .collect()
}

fn hashes(prompt: &Prompt) -> Vec<u64> {
    prompt.blocks.iter().map(|block| block.chain_hash).collect()
}

/// Hash of a string value of a field.
fn value_hash(text: &str) -> u64 {
    let mut value = ValueHash::default();
    value.push(text.as_bytes());
    value.push(b"\0s");
    value.take().0
}

#[test]
fn completions_blocks_are_the_chain_over_model_and_text() {
    let story = text("story", 2 * BLOCK + 10);
    let prompt = completions(&format!(r#"{{"model":"m","prompt":"{story}"}}"#));
    let front = chain(hash_bytes(b"model"), value_hash("m"));
    let seed = chain(Completions.seed(), front);
    let first = chain(seed, hash_bytes(&story.as_bytes()[..BLOCK]));
    let second = chain(first, hash_bytes(&story.as_bytes()[BLOCK..2 * BLOCK]));
    assert_eq!(
        prompt.blocks,
        [
            Block {
                chain_hash: first,
                end_bytes: 64
            },
            Block {
                chain_hash: second,
                end_bytes: 128
            }
        ]
    );
    assert_eq!((prompt.prompt_bytes, prompt.anchor), (138, second));
}

#[test]
fn chat_blocks_hold_contents_and_roles() {
    let (question, answer) = (text("question", BLOCK - 1), text("answer", BLOCK));
    let prompt = chat(&format!(
        r#"{{"messages":[{{"role":"user","content":"{question}"}},{{"role":"assistant","content":"{answer}"}}]}}"#
    ));
    let seed = chain(ChatCompletions.seed(), 0);
    let first =
        hash_bytes(format!("{question}\x1e").as_bytes()).wrapping_add(chain(1, value_hash("user")));
    let second = hash_bytes(answer.as_bytes()).wrapping_add(chain(2, value_hash("assistant")));
    assert_eq!(
        hashes(&prompt),
        [chain(seed, first), chain(chain(seed, first), second)]
    );
    // Two messages, each with what a template prints around it.
    assert_eq!(prompt.prompt_bytes, 2 * 64 - 1 + 2 * 16);
}

#[test]
fn a_body_without_a_prompt_has_no_blocks() {
    for body in [
        "{}",
        r#"{"model":"m"}"#,
        r#"{"prompt":null}"#,
        r#"{"prompt":""}"#,
        r#"{"prompt":[]}"#,
    ] {
        assert_eq!(completions(body).blocks, [], "{body}");
    }
    for body in [
        "{}",
        r#"{"messages":[]}"#,
        r#"{"messages":null}"#,
        r#"{"messages":[{}]}"#,
        r#"{"prompt":"x"}"#,
    ] {
        assert_eq!(chat(body).blocks, [], "{body}");
    }
}

#[test]
fn what_is_no_object_or_breaks_off_is_unreadable() {
    let long = text("story", 300);
    for body in [
        String::new(),
        " ".to_string(),
        "12".to_string(),
        format!("\"{long}\""),
        format!(r#"["{long}"]"#),
        format!(r#"[{{"prompt":"{long}"}}]"#),
        format!(r#"{{"prompt":"{long}"#),
        format!(r#"{{"prompt":"{long}","#),
        format!(r#"{{"prompt":"{long}\x"}}"#),
        format!(r#"{{"prompt":"{long}",}}"#),
        format!("--boundary\r\n{long}"),
    ] {
        let whole = read_pieces(Completions, &[body.as_bytes()]);
        assert_eq!(
            (whole.body_end, &whole.blocks[..]),
            (BodyEnd::Unreadable, &[][..]),
            "{body}"
        );
        let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        assert_eq!(read_pieces(Completions, &single), whole, "{body}");
    }
}

#[test]
fn a_reader_says_when_nothing_more_can_be_learnt() {
    let mut reader = PromptReader::new(Completions, BLOCK);
    reader.feed(br#"{"prompt":"a"#);
    assert_eq!(
        (
            reader.is_complete(),
            reader.is_unreadable(),
            reader.seen_bytes()
        ),
        (false, false, 12)
    );
    reader.feed(br#""}"#);
    assert_eq!(
        (
            reader.is_complete(),
            reader.is_unreadable(),
            reader.seen_bytes()
        ),
        (true, false, 14)
    );
    reader.feed(b" \n");
    assert_eq!(
        (reader.is_complete(), reader.is_unreadable()),
        (true, false)
    );
    reader.feed(b"x");
    assert_eq!(
        (
            reader.is_complete(),
            reader.is_unreadable(),
            reader.seen_bytes()
        ),
        (true, false, 17),
        "what follows the object is not read"
    );
    let mut reader = PromptReader::new(Completions, BLOCK);
    reader.feed(br#"{"prompt"=1}"#);
    assert_eq!(
        (reader.is_complete(), reader.is_unreadable()),
        (false, true)
    );
    reader.feed(b"y");
    assert_eq!(reader.seen_bytes(), 13);
}

#[test]
fn a_body_that_is_whole_though_nobody_said_so_is_whole() {
    let mut reader = PromptReader::new(Completions, BLOCK);
    reader.feed(br#"{"prompt":"a"}"#);
    assert_eq!(
        reader.finish(false),
        read_pieces(Completions, &[br#"{"prompt":"a"}"#])
    );
}

#[test]
fn deep_nesting_is_unreadable_and_not_fatal() {
    let deep = format!(r#"{{"tools":{}"#, "[".repeat(5000));
    assert_eq!(
        read_pieces(ChatCompletions, &[deep.as_bytes()]).body_end,
        BodyEnd::Unreadable
    );
    let inner = "[".repeat(1000) + &"]".repeat(1000);
    chat(&format!(
        r#"{{"x":{inner},"messages":[{{"content":{inner},"y":{inner}}}],"tools":{inner}}}"#
    ));
}

#[test]
fn a_long_prompt_is_counted_beyond_its_last_block() {
    let mut reader = PromptReader::new(Completions, BLOCK);
    reader.feed(b"{\"prompt\":\"");
    (0..100).for_each(|_| reader.feed(&[b'a'; 4096]));
    reader.feed(b"\"}");
    let prompt = reader.finish(true);
    assert_eq!((prompt.blocks.len(), prompt.prompt_bytes), (1888, 409_600));
}
