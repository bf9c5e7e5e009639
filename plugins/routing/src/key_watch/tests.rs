use super::*;
use crate::default_refused_keys;
use crate::json::JsonScanner;

/// A watch for the list and one key more, over a body that comes in these pieces.
fn watched(pieces: &[&[u8]]) -> KeyWatch {
    let keys = WatchedKeys::with(["vllm_xargs".to_string()]);
    let (mut scanner, mut watch) = (JsonScanner::default(), KeyWatch::new(keys));
    for piece in pieces {
        let _ = scanner.feed(piece, &mut |event| watch.take(event));
    }
    watch
}

/// Whether a key of the list is found in it.
fn are_found(pieces: &[&[u8]]) -> bool {
    watched(pieces).found().any(|key| key != "vllm_xargs")
}

const REFUSED: [&str; 22] = [
    r#"{"kv_transfer_params":{"do_remote_prefill":true}}"#,
    r#"{"kv_transfer_params":{}}"#,
    r#"{"kv_transfer_params":[]}"#,
    r#"{"kv_transfer_params":""}"#,
    r#"{"kv_transfer_params":"null"}"#,
    r#"{"kv_transfer_params":false}"#,
    r#"{"kv_transfer_params":NaN}"#,
    r#"{"kv_transfer_params":0}"#,
    r#"{ "model" : "m" , "kv_transfer_params" : {} }"#,
    r#"{"messages":[{"role":"user","content":"hello"}],"kv_transfer_params":{"x":1}}"#,
    r#"{"kv_transfer_p\u0061rams":{}}"#,
    r#"{"\u006bv_transfer_params":{}}"#,
    r#"{"kv_transfer_params":null,"kv_transfer_params":{}}"#,
    r#"{"kv_transfer_params":{},"kv_transfer_params":null}"#,
    r#"{"vllm_xargs":{"a":1,"kv_transfer_params":"x"}}"#,
    r#"{"sampling_params":{"n":1,"extra_args":{"a":{},"kv_transfer_params":{}}},"token_ids":[1]}"#,
    r#"{"sampling_params":{"extra_args":{}},"vllm_xargs":{},"kv_transfer_params":{}}"#,
    r#"{"sampling_params":{"extra_args":{"a":[]},"extra_args":{"kv_transfer_params":1}}}"#,
    r#"{"bootstrap_host":"10.0.0.1"}"#,
    r#"{"routed_dp_rank":0,"model":"m"}"#,
    r#"{"cache_hit_threshold":null}"#,
    r#"{"cache_hit_threshold":0.5}"#,
];

const ACCEPTED: [&str; 22] = [
    "{}",
    r#"{"kv_transfer_params":null}"#,
    r#"{"kv_transfer_params": null ,"model":"m"}"#,
    r#"{"kv_transfer_param":{}}"#,
    r#"{"kv_transfer_params_":{}}"#,
    r#"{"":{},"KV_TRANSFER_PARAMS":{}}"#,
    r#"{"kv_transfer_params\u0000":{}}"#,
    r#"{"prompt":"{\"kv_transfer_params\":{}}"}"#,
    r#"{"prompt":"kv_transfer_params","x":{}}"#,
    r#"{"messages":[{"role":"user","content":"kv_transfer_params","kv_transfer_params":{}}]}"#,
    r#"{"x":{"kv_transfer_params":{}},"y":[{"kv_transfer_params":{}}]}"#,
    r#"{"vllm_xargs":[{"kv_transfer_params":{}}],"a":{"b":1}}"#,
    r#"{"vllm_xargs":{"x":{"kv_transfer_params":{}},"kv_transfer_params":null}}"#,
    r#"{"extra_args":{"kv_transfer_params":{}}}"#,
    r#"{"sampling_params":{"kv_transfer_params":{}}}"#,
    r#"{"sampling_params":{"x":{"extra_args":{"kv_transfer_params":{}}}}}"#,
    r#"{"x":{"sampling_params":{"extra_args":{"kv_transfer_params":{}}}}}"#,
    r#"{"vllm_xargs":null,"x":{"kv_transfer_params":{}}}"#,
    r#"{"vllm_xargs":"","x":{"kv_transfer_params":{}}}"#,
    r#"[{"kv_transfer_params":{}}]"#,
    r#"{"bootstrap_host":null,"disaggregated_params":null}"#,
    r#"{"messages":[{"cache_hit_threshold":1,"bootstrap_room":2}]}"#,
];

#[test]
fn they_are_found_where_a_rank_takes_them_from() {
    for body in REFUSED {
        assert!(are_found(&[body.as_bytes()]), "{body}");
    }
}

#[test]
fn what_a_rank_takes_for_text_or_for_nothing_passes() {
    for body in ACCEPTED {
        assert!(!are_found(&[body.as_bytes()]), "{body}");
    }
}

#[test]
fn where_a_body_is_split_does_not_matter() {
    for (bodies, expected) in [(&REFUSED[..], true), (&ACCEPTED[..], false)] {
        for body in bodies.iter().map(|body| body.as_bytes()) {
            let single: Vec<&[u8]> = body.chunks(1).collect();
            assert_eq!(are_found(&single), expected, "byte by byte");
            for split in 0..=body.len() {
                let (one, two) = body.split_at(split);
                let text = String::from_utf8_lossy(body);
                assert_eq!(are_found(&[one, two]), expected, "{text} at {split}");
            }
        }
    }
}

#[test]
fn they_are_found_before_the_body_is_whole() {
    for body in REFUSED.map(str::as_bytes) {
        assert!(are_found(&[&body[..body.len() - 1]]));
    }
}

#[test]
fn a_body_that_is_no_object_is_told() {
    for (body, expected) in [
        ("[1]", true),
        ("\"a\"", true),
        ("1 ", true),
        ("{\"a\":1}", false),
    ] {
        assert_eq!(
            watched(&[body.as_bytes()]).is_no_object(),
            expected,
            "{body}"
        );
    }
}

#[test]
fn each_key_of_the_list_is_found_in_each_place_and_named_once() {
    for key in default_refused_keys() {
        let value = format!(r#"{{"{key}":1}}"#);
        for body in [
            format!(r#"{{"a":{{}},"{key}":[1],"{key}":2}}"#),
            format!(r#"{{"vllm_xargs":{value}}}"#),
            format!(r#"{{"sampling_params":{{"extra_args":{value}}}}}"#),
        ] {
            let watch = watched(&[body.as_bytes()]);
            let found: Vec<&str> = watch.found().filter(|key| *key != "vllm_xargs").collect();
            assert_eq!(found, [key], "{body}");
        }
        let text = format!(r#"{{"messages":[{value}],"prompt":"{key}","x":{value}}}"#);
        assert!(!are_found(&[text.as_bytes()]), "{text}");
    }
}

#[test]
fn keys_are_named_in_the_order_in_which_they_came() {
    let watch = watched(&[
        br#"{"vllm_xargs":{"bootstrap_port":1},"ec_transfer_params":{},"bootstrap_port":2}"#,
    ]);
    let found: Vec<&str> = watch.found().collect();
    assert_eq!(
        found,
        ["vllm_xargs", "bootstrap_port", "ec_transfer_params"]
    );
}

#[test]
fn every_value_of_a_model_at_the_top_level_is_counted_when_it_begins() {
    for (body, models) in [
        (r#"{"model":"a"}"#, 1),
        (r#"{"model":"a","model":"#, 1),
        (r#"{"model":"a","model":""#, 1),
        (r#"{"model":"a","model":"b"#, 2),
        (r#"{"m\u006fdel":null,"model":{},"model":[1]}"#, 3),
        (
            r#"{"messages":[{"model":"a"}],"vllm_xargs":{"model":"b"},"x":"model"}"#,
            0,
        ),
    ] {
        let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        assert_eq!(watched(&[body.as_bytes()]).models(), models, "{body}");
        assert_eq!(watched(&single).models(), models, "{body}");
    }
}
