//! Which bodies are the same prompt, and how far.

use super::*;

/// The leading blocks that two prompts have in common.
pub(super) fn common(one: &Prompt, other: &Prompt) -> usize {
    one.blocks
        .iter()
        .zip(&other.blocks)
        .take_while(|(one, other)| one == other)
        .count()
}

fn message(role: &str, content: &str) -> String {
    format!(r#"{{"role":"{role}","content":"{content}"}}"#)
}

fn messages(messages: &[String]) -> Prompt {
    chat(&format!(
        r#"{{"model":"m","messages":[{}]}}"#,
        messages.join(",")
    ))
}

#[test]
fn the_order_of_keys_white_space_and_escapes_do_not_matter() {
    let long = text("hello", 200);
    let plain = chat(&format!(
        r#"{{"model":"m","tools":[{{"name":"f"}}],"messages":[{{"role":"user","content":"{long}","name":"eve","id":7}},{{"role":"tool","content":"{long}"}}]}}"#
    ));
    let spaced = chat(&format!(
        "\u{feff} {{ \"messages\" :\n[ {{ \"id\":7 , \"name\":\"\\u0065ve\",\"content\":\"\\u0068{}\" , \"r\\u006fle\":\"user\" }} ,\
         {{\"content\":\"{long}\",\"role\":\"t\\u006Fol\"}}],\t\"tools\": [ {{\"name\" : \"f\"}} ], \"model\" :\"m\" }} ",
        long.trim_start_matches('h')
    ));
    assert_eq!(spaced, plain);
    assert_eq!(plain.blocks.len(), 6);
}

#[test]
fn sampling_fields_do_not_matter() {
    let body = |fields: &str| {
        format!(
            r#"{{"model":"m"{fields},"messages":[{}]}}"#,
            message("user", &text("hello", 200))
        )
    };
    let plain = chat(&body(""));
    let sampling = r#","temperature":0.5,"max_tokens":9,"stream":true,"n":2,"seed":1,"stop":["a",{"b":[1]}],"user":"u",
        "stream_options":{"include_usage":true},"logit_bias":{"messages":[{"role":"x","content":"y"}]},"top_p":1e-3,"tool_choice":null"#;
    assert_eq!(chat(&body(sampling)), plain);
}

#[test]
fn fields_of_the_front_change_every_block() {
    let body = |front: &str| {
        format!(
            r#"{{{front}"messages":[{}]}}"#,
            message("user", &text("hello", 200))
        )
    };
    let fronts = [
        "",
        r#""model":"m","#,
        r#""model":"n","#,
        r#""model":"m","cache_salt":"s","#,
        r#""model":"s","cache_salt":"m","#,
        r#""model":"m","chat_template":"s","#,
        r#""model":"m","chat_template_kwargs":{"enable_thinking":true},"#,
        r#""model":"m","chat_template_kwargs":{"enable_thinking":false},"#,
        r#""model":"m","documents":[{"text":"d"}],"#,
        r#""model":"m","add_special_tokens":true,"#,
        r#""model":"m","tools":[{"name":"f"}],"#,
        r#""model":"m","tools":[{"name":"g"}],"#,
        r#""model":"m","tools":[{"name":"f"},{"name":"g"}],"#,
    ];
    let prompts: Vec<Prompt> = fronts.iter().map(|front| chat(&body(front))).collect();
    for (place, one) in prompts.iter().enumerate() {
        for (other_place, other) in prompts[..place].iter().enumerate() {
            assert_eq!(
                common(one, other),
                0,
                "{} and {}",
                fronts[place],
                fronts[other_place]
            );
            assert_ne!(one.anchor, other.anchor);
        }
    }
}

#[test]
fn the_two_endpoints_have_nothing_in_common() {
    let body = format!(
        r#"{{"prompt":"{0}","messages":[{{"content":"{0}"}}]}}"#,
        text("hello", 200)
    );
    assert_eq!(common(&chat(&body), &completions(&body)), 0);
}

#[test]
fn a_conversation_starts_like_its_earlier_turns() {
    let mut turns: Vec<String> = Vec::new();
    let mut before = messages(&turns);
    for turn in 0..8 {
        turns.push(message(
            ["system", "user", "assistant"][turn % 3],
            &text(&format!("turn{turn}"), 150 + turn),
        ));
        let now = messages(&turns);
        assert_eq!(common(&before, &now), before.blocks.len(), "turn {turn}");
        assert!(now.blocks.len() >= before.blocks.len() + 2);
        before = now;
    }
}

#[test]
fn what_differs_in_a_message_changes_its_blocks_and_not_those_before() {
    let first = message("system", &text("system", 3 * BLOCK - 1));
    let content = text("hello", 200);
    let variants = [
        message("user", &content),
        message("assistant", &content),
        message("user", &content.replace("hello 0", "hullo 0")),
        format!(r#"{{"content":"{content}"}}"#),
        format!(r#"{{"role":7,"content":"{content}"}}"#),
    ];
    let prompts: Vec<Prompt> = variants
        .iter()
        .map(|second| messages(&[first.clone(), second.clone()]))
        .collect();
    for (place, one) in prompts.iter().enumerate() {
        for other in &prompts[..place] {
            assert_eq!(common(one, other), 3, "{}", variants[place]);
        }
    }
}

#[test]
fn what_follows_a_content_changes_the_blocks_behind_it() {
    let content = text("hello", 128);
    let next = message("tool", &text("result", 128));
    let variants = [
        format!(r#"{{"role":"assistant","content":"{content}"}}"#),
        format!(r#"{{"role":"assistant","content":"{content}","name":"eve"}}"#),
        format!(r#"{{"role":"assistant","content":"{content}","name":"adam"}}"#),
        format!(r#"{{"role":"assistant","content":"{content}","eve":"name"}}"#),
        format!(r#"{{"role":"assistant","content":"{content}","tool_calls":[{{"id":"1"}}]}}"#),
        format!(r#"{{"role":"assistant","content":"{content}","tool_calls":[{{"id":"2"}}]}}"#),
        format!(
            r#"{{"role":"assistant","content":"{content}","tool_calls":[{{"id":"1"}}],"name":"eve"}}"#
        ),
    ];
    let prompts: Vec<Prompt> = variants
        .iter()
        .map(|first| messages(&[first.clone(), next.clone()]))
        .collect();
    for (place, one) in prompts.iter().enumerate() {
        for other in &prompts[..place] {
            let equal = hashes(one)
                .iter()
                .zip(hashes(other))
                .take_while(|(one, other)| *one == other)
                .count();
            assert_eq!(equal, 2, "{}", variants[place]);
        }
    }
}

#[test]
fn where_messages_begin_matters() {
    let long = text("hello", 300);
    let one = messages(&[
        message("user", "ab"),
        message("user", ""),
        message("user", &long),
    ]);
    for other in [
        messages(&[
            message("user", "a"),
            message("user", "b"),
            message("user", &long),
        ]),
        messages(&[
            message("user", ""),
            message("user", "ab"),
            message("user", &long),
        ]),
        messages(&[message("user", "ab"), message("user", &long)]),
        messages(&[message("user", &format!("ab{long}"))]),
    ] {
        assert_eq!(common(&one, &other), 0);
    }
}

#[test]
fn the_order_of_messages_matters_within_one_block() {
    let end = message("user", &text("hello", 100));
    let one = messages(&[message("user", "a"), message("assistant", "a"), end.clone()]);
    let other = messages(&[message("assistant", "a"), message("user", "a"), end]);
    assert_eq!(common(&one, &other), 0);
}

#[test]
fn a_text_part_is_the_same_prompt_as_the_text() {
    let long = text("hello", 200);
    let plain = messages(&[message("user", &long)]);
    for content in [
        format!(r#"[{{"type":"text","text":"{long}"}}]"#),
        format!(r#"[{{"text":"{long}","type":"text"}}]"#),
        format!(r#"["{long}"]"#),
    ] {
        assert_eq!(
            messages(&[format!(r#"{{"role":"user","content":{content}}}"#)]),
            plain,
            "{content}"
        );
    }
}

#[test]
fn other_parts_change_the_blocks_behind_them() {
    let (head, tail) = (text("hello", 128), text("what is it", 128));
    let with = |part: &str| {
        let content = format!(
            r#"[{{"type":"text","text":"{head}"}},{part}{{"type":"text","text":"{tail}"}}]"#
        );
        messages(&[format!(r#"{{"role":"user","content":{content}}}"#)])
    };
    let parts = [
        "",
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAB"}},"#,
        r#"{"type":"input_audio","image_url":{"url":"data:image/png;base64,AAAA"}},"#,
        r#"{"text":""},"#,
    ];
    let prompts: Vec<Prompt> = parts.iter().map(|part| with(part)).collect();
    for (place, one) in prompts.iter().enumerate() {
        for other in &prompts[..place] {
            assert_eq!(common(one, other), 2, "{}", parts[place]);
        }
    }
    let swapped = r#"{"image_url":{"url":"data:image/png;base64,AAAA"},"type":"image_url"},"#;
    assert_eq!(with(swapped), prompts[1]);
}

#[test]
fn lists_of_prompts_and_of_tokens_are_prompts() {
    let numbers = |count: usize| {
        (0..count)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let list = completions(&format!(r#"{{"prompt":[{}]}}"#, numbers(200)));
    let longer = completions(&format!(r#"{{"prompt":[{}]}}"#, numbers(300)));
    assert!(list.blocks.len() > 8);
    assert_eq!(common(&list, &longer), list.blocks.len());
    let spaced = completions(&format!(
        "{{\"prompt\": [ {} ]}}",
        numbers(200).replace(',', " , ")
    ));
    assert_eq!(spaced, list);
    let texts = |list: &str| completions(&format!(r#"{{"prompt":{list}}}"#)).anchor;
    let lists = [
        r#"["ab"]"#,
        r#"["a","b"]"#,
        r#""ab""#,
        r#"["a\u0000sb"]"#,
        "[[1],[2]]",
        "[1,2]",
        "[12]",
        r#"["1","2"]"#,
    ];
    for (place, one) in lists.iter().enumerate() {
        for other in &lists[..place] {
            assert_ne!(texts(one), texts(other), "{one} and {other}");
        }
    }
}

#[test]
fn a_top_level_field_that_comes_twice_counts_the_last_time() {
    let long = text("hello", 200);
    let last = |fields: &str| chat(&format!(r#"{{{fields}}}"#));
    let messages = format!(r#""messages":[{}]"#, message("user", &long));
    let plain = last(&format!(r#""model":"m","tools":[1],{messages}"#));
    for earlier in [
        r#""model":"other","#.to_string(),
        r#""tools":[{"name":"other"}],"#.to_string(),
        format!(
            r#""messages":[{},{}],"#,
            message("user", "other"),
            message("tool", &long)
        ),
        r#""messages":"other","#.to_string(),
    ] {
        assert_eq!(
            last(&format!(r#"{earlier}"model":"m","tools":[1],{messages}"#)),
            plain,
            "{earlier}"
        );
    }
    let twice = completions(&format!(r#"{{"prompt":"other","prompt":"{long}"}}"#));
    assert_eq!(twice, completions(&format!(r#"{{"prompt":"{long}"}}"#)));
}

#[test]
fn a_key_longer_than_any_known_is_no_known_key() {
    let long = text("hello", 200);
    let plain = completions(&format!(r#"{{"prompt":"{long}"}}"#));
    for key in [
        "model".repeat(20),
        format!("model{}", " ".repeat(40)),
        "x".repeat(32),
        "x".repeat(33),
        String::new(),
    ] {
        assert_eq!(
            completions(&format!(
                r#"{{"{key}":"other","prompt":"{long}","{key}":1}}"#
            )),
            plain,
            "{key}"
        );
    }
    let others = |key: &str| {
        messages(&[
            format!(r#"{{"role":"user","{key}":1,"content":""}}"#),
            message("user", &long),
        ])
    };
    assert_ne!(
        others(&"x".repeat(40)).anchor,
        others(&"x".repeat(41)).anchor
    );
    assert_ne!(others("").anchor, others("x").anchor);
}

#[test]
fn an_absent_content_and_null_are_the_same() {
    let end = message("user", &text("hello", 200));
    let with = |content: &str| {
        messages(&[
            format!(r#"{{"role":"assistant"{content},"tool_calls":[1]}}"#),
            end.clone(),
        ])
    };
    assert_eq!(with(r#","content":null"#), with(""));
    assert_eq!(with(r#","content":"""#), with(""));
}
