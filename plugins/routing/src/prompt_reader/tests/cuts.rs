//! Bodies in pieces, and bodies that are cut.

use super::*;

/// Bodies of every shape, with the place of their key fields varied.
fn bodies() -> Vec<(Endpoint, String)> {
    let (one, two) = (text("once", 150), text("\u{e9}t\u{e9} \u{1F600}", 90));
    let messages = format!(
        r#""messages":[{{"role":"system","content":"{one}"}},{{"content":[{{"type":"text","text":"{two}"}},{{"type":"image_url","image_url":{{"url":"data:{one}"}}}}],"role":"user"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"1","function":{{"name":"f","arguments":"{{\"a\":1}}"}}}}]}},{{"role":"tool","tool_call_id":"1","content":"{two}\ud83d\ude00\n"}}]"#
    );
    let tools = format!(
        r#""tools":[{{"type":"function","function":{{"name":"f","description":"{one}"}}}}]"#
    );
    let escaped = r"\u00e9\ud83d\ude00\ud83dx\n\\".repeat(40);
    vec![
        (
            Completions,
            format!(r#"{{"model":"m","prompt":"{one}{two}"}}"#),
        ),
        (
            Completions,
            format!(r#"{{"prompt":"{escaped}","model":"m","temperature":0.5}}"#),
        ),
        (
            Completions,
            format!(r#"{{"model":"m","prompt":["{one}",[1,2,3],"{two}"]}}"#),
        ),
        (
            ChatCompletions,
            format!(r#"{{"model":"m",{tools},{messages},"stream":true}}"#),
        ),
        (
            ChatCompletions,
            format!(r#"{{{messages},{tools},"model":"m"}}"#),
        ),
        (
            ChatCompletions,
            format!(r#"{{"stop":["{one}"],{messages},"cache_salt":"s","model":"m"}}"#),
        ),
    ]
}

#[test]
fn every_split_point_gives_the_same_prompt() {
    for (endpoint, body) in bodies() {
        let whole = read_pieces(endpoint, &[body.as_bytes()]);
        assert!(whole.blocks.len() > 3, "{body}");
        for at in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(at);
            assert_eq!(
                read_pieces(endpoint, &[head, tail]),
                whole,
                "{body} split at {at}"
            );
        }
        for bytes in [1, 2, 7] {
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(bytes).collect();
            assert_eq!(
                read_pieces(endpoint, &pieces),
                whole,
                "{body} in pieces of {bytes}"
            );
        }
    }
}

fn cut(endpoint: Endpoint, body: &str, at: usize) -> Prompt {
    let mut reader = PromptReader::new(endpoint, BLOCK);
    reader.feed(&body.as_bytes()[..at]);
    reader.finish(false)
}

/// Checks that a body cut from `from` on has leading blocks of the whole, more and more of them.
fn assert_leading(endpoint: Endpoint, body: &str, from: usize) {
    let whole = hashes(&read(endpoint, body));
    let mut most = 0;
    for at in from..body.len() {
        let prompt = cut(endpoint, body, at);
        assert_eq!(prompt.body_end, BodyEnd::Cut);
        let blocks = hashes(&prompt);
        assert!(
            whole.starts_with(&blocks),
            "{} blocks of {body} cut at {at}",
            blocks.len()
        );
        most = most.max(blocks.len());
    }
    assert!(most + 1 >= whole.len(), "{most} of {} blocks", whole.len());
}

#[test]
fn a_cut_body_has_leading_blocks_of_the_whole_when_the_front_came_first() {
    for (endpoint, body) in bodies()
        .into_iter()
        .filter(|(_, body)| body.starts_with(r#"{"model":"m","#))
    {
        assert_leading(endpoint, &body, r#"{"model":"m","#.len());
    }
}

#[test]
fn a_body_without_front_and_tools_has_leading_blocks_wherever_it_is_cut() {
    let (one, two) = (text("once", 150), text("twice", 90));
    for messages in [
        format!(
            r#"[{{"role":"user","content":"{one}"}},{{"role":"assistant","content":"{two}","name":"eve"}}]"#
        ),
        format!(
            r#"[{{"content":"{one}","role":"user"}},{{"name":"eve","content":"{two}","role":"assistant"}}]"#
        ),
        format!(r#"[{{"content":"{one}"}},{{"content":"{two}"}}]"#),
    ] {
        assert_leading(ChatCompletions, &format!(r#"{{"messages":{messages}}}"#), 0);
    }
}

#[test]
fn blocks_of_a_message_whose_role_is_not_known_yet_are_left_out() {
    let long = text("once", 3 * BLOCK);
    let body = format!(r#"{{"messages":[{{"content":"{long}","role":"user"}}]}}"#);
    let at = body.find(r#","role""#).unwrap();
    assert_eq!(cut(ChatCompletions, &body, at).blocks, []);
    assert_eq!(
        cut(ChatCompletions, &body, at + r#","role":"user""#.len())
            .blocks
            .len(),
        3
    );
}

#[test]
fn messages_before_tools_that_are_cut_are_left_out() {
    let (long, tool) = (text("once", 3 * BLOCK), text("tool", 3 * BLOCK));
    let body =
        format!(r#"{{"messages":[{{"role":"user","content":"{long}"}}],"tools":["{tool}"]}}"#);
    let whole = hashes(&chat(&body));
    let from = body.find(r#"["tool"#).unwrap() + 1;
    for at in from..body.len() - 2 {
        let blocks = hashes(&cut(ChatCompletions, &body, at));
        assert!(
            whole.starts_with(&blocks),
            "{} blocks, cut at {at}",
            blocks.len()
        );
    }
}

#[test]
fn a_cut_body_counts_what_was_read_until_all_of_it_has_come() {
    let body = format!(r#"{{"prompt":"{}"#, text("once", 990));
    let mut reader = PromptReader::new(Completions, BLOCK);
    reader.feed(body.as_bytes());
    let cut = reader.finish(false);
    assert_eq!((cut.prompt_bytes, cut.read_bytes), (990, 1001));
    assert_eq!(cut.bytes_of_body(10_010), 9900);
}

#[test]
fn a_cut_inside_a_message_counts_what_was_seen_of_it() {
    let body = format!(
        r#"{{"messages":[{{"role":"assistant","tool_calls":["{}"],"content":"abc"#,
        text("call", 500)
    );
    assert!(cut(ChatCompletions, &body, body.len()).prompt_bytes >= 503);
}
