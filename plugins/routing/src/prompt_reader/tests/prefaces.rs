//! Bodies that are cut before what stands in front of their prompts.

use super::*;
use crate::Prefaces;

/// A chat as OpenAI's Python client sends it: messages, then model, then tools.
fn body(turns: usize, model: &str, tools: &str) -> String {
    let turn = |number: usize| {
        let content = text(&format!("turn {number}"), 3 * BLOCK);
        format!(r#"{{"role":"user","content":"{content}"}}"#)
    };
    let messages: Vec<String> = (0..turns).map(turn).collect();
    format!(
        r#"{{"messages":[{}],"model":"{model}"{tools}}}"#,
        messages.join(",")
    )
}

fn tools(name: &str) -> String {
    format!(r#","tools":[{{"type":"function","function":{{"name":"{name}"}}}}]"#)
}

fn read_whole(body: &str, prefaces: &mut Prefaces) -> Prompt {
    let mut reader = PromptReader::new(ChatCompletions, BLOCK);
    reader.feed(body.as_bytes());
    reader.finish_with(true, prefaces)
}

fn read_cut(body: &str, bytes: usize, prefaces: &mut Prefaces) -> Prompt {
    let mut reader = PromptReader::new(ChatCompletions, BLOCK);
    reader.feed(&body.as_bytes()[..bytes]);
    reader.finish_with(false, prefaces)
}

#[test]
fn the_next_turn_of_a_known_conversation_has_leading_blocks_wherever_it_is_cut() {
    let mut prefaces = Prefaces::default();
    let tools = tools(&text("tool", 2 * BLOCK));
    read_whole(&body(1, "m", &tools), &mut prefaces);
    let next = body(4, "m", &tools);
    let whole = hashes(&chat(&next));
    let end_of_messages = next.find(r#"],"model""#).unwrap();
    let mut most = 0;
    for bytes in 0..end_of_messages {
        let cut = read_cut(&next, bytes, &mut prefaces);
        assert!(whole.starts_with(&hashes(&cut)), "cut at {bytes}");
        most = most.max(cut.blocks.len());
    }
    assert!(most > 12, "tools and messages: {most}");
}

#[test]
fn a_conversation_that_is_not_known_is_taken_as_without_a_front() {
    let mut prefaces = Prefaces::default();
    let next = body(2, "m", "");
    let alone = next.replace(r#","model":"m""#, "");
    let cut = read_cut(&next, 3 * BLOCK + 80, &mut prefaces);
    assert!(!cut.blocks.is_empty());
    assert!(hashes(&chat(&alone)).starts_with(&hashes(&cut)));
}

#[test]
fn what_the_body_itself_said_is_not_borrowed() {
    let mut prefaces = Prefaces::default();
    read_whole(&body(1, "first", ""), &mut prefaces);
    let next = body(2, "x", "").replace(r#","model":"x""#, "");
    let model_first = next.replacen('{', r#"{"model":"second","#, 1);
    let cut = read_cut(&model_first, model_first.len() - 9, &mut prefaces);
    assert!(hashes(&chat(&model_first)).starts_with(&hashes(&cut)));
    assert!(cut.blocks.len() > 3);
}

#[test]
fn a_front_that_came_first_needs_no_memory() {
    let mut prefaces = Prefaces::default();
    let first = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#,
        text("a", 3 * BLOCK)
    );
    read_whole(&first, &mut prefaces);
    let mut unread = Prefaces::default();
    let bytes = first.len() - 9;
    assert_eq!(
        read_cut(&first, bytes, &mut prefaces),
        read_cut(&first, bytes, &mut unread)
    );
}

#[test]
fn of_a_front_that_is_only_partly_there_the_rest_is_borrowed() {
    let mut prefaces = Prefaces::default();
    let salted = |turns: usize| body(turns, "m", "").replacen('{', r#"{"cache_salt":"s","#, 1);
    read_whole(&salted(1), &mut prefaces);
    let next = salted(3);
    let cut = read_cut(&next, next.find(r#"],"model""#).unwrap(), &mut prefaces);
    assert!(cut.blocks.len() > 6);
    assert!(hashes(&chat(&next)).starts_with(&hashes(&cut)));
}
