//! The scanner against a twin that has the body as a tree.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::spelling::spell;

/// Names that count somewhere, and some that never do.
const NAMES: &str =
    "kv_transfer_params|vllm_xargs|sampling_params|extra_args|prompt|kv_transfer_params2|";

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof![
            Just("kv_transfer_params".to_string()),
            "[a\\\\\"{}:é\u{1F600}]{0,9}"
        ]
        .prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => btree_map(NAMES, inner, 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// What vLLM would take, looked for in the tree.
fn is_taken(body: &Value) -> bool {
    [
        "/kv_transfer_params",
        "/vllm_xargs/kv_transfer_params",
        "/sampling_params/extra_args/kv_transfer_params",
    ]
    .iter()
    .any(|path| {
        body.is_object()
            && body
                .pointer(path)
                .is_some_and(|value| !value.is_null() && is_in_objects(body, path))
    })
}

/// A pointer can lead through an array, too; keys of these never are numbers, so it cannot here.
fn is_in_objects(body: &Value, path: &str) -> bool {
    let (parent, _) = path.rsplit_once('/').unwrap_or_default();
    body.pointer(parent).is_some_and(Value::is_object)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_vllm_takes_is_found_and_nothing_else(
        body in value(), choices in vec(any::<u8>(), 1..20), cuts in vec(1usize..40, 1..8), encoding in 0usize..10,
    ) {
        let text = String::from_utf8(spell(&body, &choices)).unwrap();
        let bytes = encodings(&text).swap_remove(encoding);
        let mut scanner = BodyScanner::default();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            scanner.feed(piece, &mut |_| {});
            rest = behind;
        }
        prop_assert_eq!(scanner.has_kv_params(), is_taken(&body), "{}", text);
    }

    #[test]
    fn any_bytes_are_scanned_to_a_defined_end(bytes in vec(any::<u8>(), 0..60)) {
        let whole = scanned(&[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let split = scanned(&single);
        prop_assert_eq!(
            (whole.has_kv_params(), whole.is_unreadable(), whole.is_over()),
            (split.has_kv_params(), split.is_unreadable(), split.is_over())
        );
    }
}
