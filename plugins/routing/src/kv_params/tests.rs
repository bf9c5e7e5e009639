use super::*;
use crate::json::JsonScanner;

/// Whether they are found in a body that comes in these pieces.
fn are_found(pieces: &[&[u8]]) -> bool {
    let (mut scanner, mut params) = (JsonScanner::default(), KvParams::default());
    for piece in pieces {
        let _ = scanner.feed(piece, &mut |event| params.take(event));
    }
    params.are_found()
}

const REFUSED: [&str; 18] = [
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
];

const ACCEPTED: [&str; 20] = [
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
        let (mut scanner, mut params) = (JsonScanner::default(), KvParams::default());
        scanner
            .feed(body.as_bytes(), &mut |event| params.take(event))
            .unwrap();
        assert_eq!(params.is_no_object(), expected, "{body}");
    }
}
