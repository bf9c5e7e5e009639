//! The scanner against a twin that has the body as a tree.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

use super::*;
use crate::default_refused_keys;
use crate::spelling::spell;

/// Names that count somewhere, and some that never do.
const NAMES: &str = "kv_transfer_params|ec_transfer_params|routed_dp_rank|disaggregated_params|cache_hit_threshold|\
                     vllm_xargs|sampling_params|extra_args|model|prompt|kv_transfer_params2|";

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

/// Which keys count, looked for in the tree.
fn taken(body: &Value) -> BTreeSet<String> {
    let places = ["", "/vllm_xargs", "/sampling_params/extra_args"];
    let objects = places.iter().filter_map(|place| object_at(body, place));
    let is_value = |key: &str, value: &Value| !value.is_null() || key == "cache_hit_threshold";
    let keys = objects.flat_map(|object| {
        let keys = default_refused_keys();
        keys.filter(|key| object.get(*key).is_some_and(|value| is_value(key, value)))
    });
    keys.map(ToString::to_string).collect()
}

/// A pointer could lead through an array, too; keys of these never are numbers, so it cannot here.
fn object_at<'a>(body: &'a Value, place: &str) -> Option<&'a Map<String, Value>> {
    body.as_object()?;
    body.pointer(place)?.as_object()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_servers_take_is_found_and_nothing_else(
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
        let keys: BTreeSet<String> = found(&scanner).into_iter().collect();
        prop_assert_eq!(keys, taken(&body), "{}", text);
        let names_model = body.get("model").is_some();
        prop_assert_eq!(scanner.models(), u32::from(names_model), "{}", text);
    }

    #[test]
    fn any_bytes_are_scanned_to_a_defined_end(bytes in vec(any::<u8>(), 0..60)) {
        let whole = scanned(&[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let split = scanned(&single);
        prop_assert_eq!(
            (found(&whole), whole.models(), whole.is_unreadable(), whole.is_over()),
            (found(&split), split.models(), split.is_unreadable(), split.is_over())
        );
    }
}
