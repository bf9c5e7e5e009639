//! Which fields make the prompt of each endpoint.

use super::equality::common;
use super::*;
use crate::Endpoint::{Generate, Messages, Pooling, Rerank, Responses, Score, Tokenize};

/// Asserts that every block of the first prompt is a leading block of the second.
fn assert_starts_with(longer: &Prompt, start: &Prompt) {
    assert!(!start.blocks.is_empty(), "nothing to compare");
    assert!(hashes(longer).starts_with(&hashes(start)));
}

fn ids(range: std::ops::Range<u32>) -> String {
    range.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn a_list_of_one_text_starts_like_the_text() {
    let story = text("story", 4 * BLOCK);
    let alone = completions(&format!(r#"{{"prompt":"{story}"}}"#));
    let list = completions(&format!(r#"{{"prompt":["{story}","{story}"]}}"#));
    assert_starts_with(&list, &alone);
    assert_eq!(list.prompt_bytes, 2 * alone.prompt_bytes);
}

#[test]
fn token_ids_are_counted_exactly_and_alike_however_they_are_listed_and_spelt() {
    let flat = completions(&format!(r#"{{"prompt":[{}]}}"#, ids(0..100)));
    assert_eq!((flat.tokens(), flat.blocks.len()), (100, 100 * 4 / BLOCK));
    let generate = read(Generate, &format!(r#"{{"token_ids":[{}]}}"#, ids(0..100)));
    assert_eq!(hashes(&generate), hashes(&flat));
    let lists = format!(r#"{{"prompt":[[{}],[{}]]}}"#, ids(0..60), ids(60..120));
    let nested = completions(&lists);
    assert_eq!(nested.tokens(), 120);
    assert_eq!(hashes(&nested)[..3], hashes(&flat)[..3]);
    let spelt = format!(r#"{{"prompt":[0.0,1e0, 20e-1 ,{}]}}"#, ids(3..100));
    assert_eq!(completions(&spelt), flat);
}

#[test]
fn token_ids_are_told_from_text_of_the_same_bytes_and_from_other_ids() {
    let same_bytes = "abcd".repeat(BLOCK);
    let id = u32::from_le_bytes(*b"abcd").to_string();
    let as_ids = vec![id; BLOCK].join(",");
    let as_ids = completions(&format!(r#"{{"prompt":[{as_ids}]}}"#));
    let as_text = completions(&format!(r#"{{"prompt":"{same_bytes}"}}"#));
    assert_eq!(as_ids.prompt_bytes, as_text.prompt_bytes);
    assert_ne!(as_ids.blocks[0], as_text.blocks[0]);
    let other = completions(&format!(r#"{{"prompt":[{}]}}"#, ids(1..101)));
    assert_ne!(other.blocks[0].chain_hash, as_ids.blocks[0].chain_hash);
}

#[test]
fn a_response_from_a_text_is_the_chat_with_that_one_message() {
    let question = text("question", 3 * BLOCK);
    let response = read(
        Responses,
        &format!(r#"{{"model":"m","input":"{question}","instructions":null}}"#),
    );
    let as_chat = chat(&format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{question}"}}]}}"#
    ));
    assert_eq!(response, as_chat);
    let parts = format!(
        r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_text","text":"{question}"}}]}}]}}"#
    );
    assert_eq!(read(Responses, &parts), as_chat);
}

#[test]
fn instructions_and_tools_stand_in_front_of_the_input() {
    let (rules, question) = (text("rules", 2 * BLOCK), text("question", 2 * BLOCK));
    let body = |front: &str, input: &str| {
        read(
            Responses,
            &format!(r#"{{"input":"{input}",{front}"model":"m"}}"#),
        )
    };
    let instructed = body(&format!(r#""instructions":"{rules}","#), &question);
    let other_question = body(
        &format!(r#""instructions":"{rules}","#),
        &text("other", BLOCK),
    );
    assert_eq!(common(&instructed, &other_question), 2);
    assert_eq!(common(&instructed, &body("", &question)), 0);
    let tool = format!(r#""tools":[{{"type":"function","name":"{rules}"}}],"#);
    assert_eq!(common(&body(&tool, &question), &body("", &question)), 0);
    assert!(common(&body(&tool, &question), &body(&tool, &text("other", BLOCK))) >= 2);
}

#[test]
fn what_tools_answered_is_text_of_the_conversation() {
    let (question, result) = (text("question", BLOCK), text("result", 6 * BLOCK));
    let call = r#"{"type":"function_call","call_id":"1","name":"look","arguments":"{}"}"#;
    let input = |result: &str| {
        let output =
            format!(r#"{{"type":"function_call_output","call_id":"1","output":"{result}"}}"#);
        let user = format!(r#"{{"role":"user","content":"{question}"}}"#);
        read(
            Responses,
            &format!(r#"{{"input":[{user},{call},{output}]}}"#),
        )
    };
    let whole = input(&result);
    assert!(whole.blocks.len() >= 7);
    let shorter = input(&text("result", 3 * BLOCK));
    assert!(common(&whole, &shorter) >= 3);
    let block = |result: &str| {
        let part = format!(
            r#"{{"type":"tool_result","tool_use_id":"1","content":[{{"type":"text","text":"{result}"}}]}}"#
        );
        read(
            Messages,
            &format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#),
        )
    };
    assert!(block(&result).blocks.len() >= 6);
    assert!(common(&block(&result), &block(&text("result", 3 * BLOCK))) >= 2);
}

#[test]
fn a_system_prompt_of_anthropic_stands_in_front_as_text_or_as_blocks() {
    let (rules, question) = (text("rules", 2 * BLOCK), text("question", 2 * BLOCK));
    let body = |system: &str| {
        let messages = format!(r#"[{{"role":"user","content":"{question}"}}]"#);
        read(
            Messages,
            &format!(r#"{{"messages":{messages},"system":{system},"model":"m"}}"#),
        )
    };
    let as_text = body(&format!(r#""{rules}""#));
    let as_blocks = body(&format!(
        r#"[{{"type":"text","text":"{rules}","cache_control":{{"type":"ephemeral"}}}}]"#
    ));
    assert_eq!(as_text, as_blocks, "and marks for caches do not matter");
    assert_eq!(common(&as_text, &body("null")), 0);
}

#[test]
fn an_image_is_a_hash_of_about_a_thousand_tokens_and_not_its_data() {
    let (before, behind) = (text("before", 2 * BLOCK), text("behind", 2 * BLOCK));
    let with = |kind: &str, data: &str| {
        let image =
            format!(r#"{{"type":"{kind}","{kind}":{{"url":"data:image/png;base64,{data}"}}}}"#);
        let text = |text: &str| format!(r#"{{"type":"text","text":"{text}"}}"#);
        chat(&format!(
            r#"{{"messages":[{{"role":"user","content":[{},{image},{}]}}]}}"#,
            text(&before),
            text(&behind)
        ))
    };
    let one = with("image_url", &"A".repeat(100_000));
    let other = with("image_url", &"B".repeat(100_000));
    assert_eq!(common(&one, &other), 2, "the text before it");
    assert_eq!(one, with("image_url", &"A".repeat(100_000)));
    assert!(
        (1024..1200).contains(&one.tokens()),
        "{} tokens",
        one.tokens()
    );
    assert_eq!(common(&with("video_url", "A"), &with("image_url", "A")), 2);
}

#[test]
fn embeddings_take_texts_ids_and_messages() {
    let story = text("story", 3 * BLOCK);
    for field in ["input", "inputs", "texts"] {
        let one = read(Pooling, &format!(r#"{{"model":"m","{field}":"{story}"}}"#));
        let many = read(
            Pooling,
            &format!(r#"{{"{field}":["{story}","x"],"model":"m"}}"#),
        );
        assert_starts_with(&many, &one);
    }
    let numbers = read(Pooling, &format!(r#"{{"input":[{}]}}"#, ids(0..64)));
    assert_eq!(numbers.tokens(), 64);
    let messages = format!(r#"{{"messages":[{{"role":"user","content":"{story}"}}]}}"#);
    assert_eq!(read(Pooling, &messages).blocks.len(), 3);
}

#[test]
fn rerank_and_score_put_the_query_before_the_documents() {
    let (query, document) = (text("query", 2 * BLOCK), text("document", 2 * BLOCK));
    let rerank = |document: &str| {
        read(
            Rerank,
            &format!(r#"{{"documents":["{document}"],"query":"{query}","top_n":3}}"#),
        )
    };
    assert_eq!(
        common(&rerank(&document), &rerank(&text("other", BLOCK))),
        2
    );
    for (first, second) in [
        ("text_1", "text_2"),
        ("queries", "documents"),
        ("data_1", "data_2"),
    ] {
        let body = format!(r#"{{"{second}":["{document}"],"{first}":"{query}"}}"#);
        let score = read(Score, &body);
        assert_eq!(score.blocks.len(), 4, "{first}");
        assert_eq!(score.tokens(), u64::try_from(BLOCK).unwrap());
    }
}

#[test]
fn what_is_only_counted_is_read_like_what_it_counts() {
    let story = text("story", 3 * BLOCK);
    let messages = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{story}"}}]}}"#);
    assert_eq!(read(Tokenize, &messages), chat(&messages));
    assert_eq!(
        read(Tokenize, &format!(r#"{{"prompt":"{story}"}}"#))
            .blocks
            .len(),
        3
    );
    assert!(!Tokenize.fills_cache());
}

#[test]
fn lists_of_conversations_are_read_one_behind_the_other() {
    let story = text("story", 3 * BLOCK);
    let message = format!(r#"{{"role":"user","content":"{story}"}}"#);
    let one = chat(&format!(r#"{{"messages":[{message}]}}"#));
    let batch = chat(&format!(r#"{{"messages":[[{message}],[{message}]]}}"#));
    assert_starts_with(&batch, &one);
    assert!(batch.blocks.len() > one.blocks.len());
}

#[test]
fn a_body_without_its_prompt_says_so() {
    use crate::Outcome::{NotAPrompt, Understood};
    for (endpoint, body, outcome) in [
        (Completions, r#"{"model":"m"}"#, NotAPrompt),
        (Completions, r#"{"prompt":null}"#, NotAPrompt),
        (
            ChatCompletions,
            r#"{"messages":[],"tools":null}"#,
            NotAPrompt,
        ),
        (
            ChatCompletions,
            r#"{"prompt":"a prompt of another endpoint"}"#,
            NotAPrompt,
        ),
        (Responses, r#"{"input":"hi"}"#, Understood),
        (Generate, r#"{"token_ids":[1]}"#, Understood),
        (Score, r#"{"text_1":"a"}"#, Understood),
    ] {
        assert_eq!(
            read(endpoint, body).outcome(),
            outcome,
            "{endpoint:?} {body}"
        );
    }
}
