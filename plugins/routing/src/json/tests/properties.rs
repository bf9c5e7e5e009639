use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

use super::events;
use crate::JsonScanner;
use crate::spelling::spell;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        any::<Vec<char>>().prop_map(|text| Value::from(text.into_iter().collect::<String>())),
    ];
    scalar.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map("[a-c\u{e9}\"\\\\/]{0,3}", inner, 0..5)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn expected(value: &Value, seen: &mut Vec<String>) {
    let mut run = |kind: char, end: &str, text: &str| {
        if !text.is_empty() {
            seen.push(format!("{kind}{text}"));
        }
        seen.push(end.to_string());
    };
    match value {
        Value::String(text) => run('s', "S", text),
        Value::Array(items) => {
            seen.push("[".to_string());
            items.iter().for_each(|item| expected(item, seen));
            seen.push("]".to_string());
        }
        Value::Object(fields) => {
            seen.push("{".to_string());
            for (key, value) in fields {
                if !key.is_empty() {
                    seen.push(format!("k{key}"));
                }
                seen.push("K".to_string());
                expected(value, seen);
            }
            seen.push("}".to_string());
        }
        scalar => run('v', "V", &scalar.to_string()),
    }
}

fn is_accepted(document: &[u8]) -> bool {
    let mut scanner = JsonScanner::default();
    scanner.feed(document, &mut |_| {}).is_ok() && scanner.is_done()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_spelling_and_split_of_a_value_gives_its_events(
        value in values(),
        choices in vec(any::<u8>(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let document = spell(&Value::from(vec![value.clone()]), &choices);
        let mut seen = Vec::new();
        expected(&Value::from(vec![value]), &mut seen);
        let (head, tail) = document.split_at(cut.index(document.len() + 1));
        prop_assert_eq!(events(&[head, tail]), (seen, Ok(())));
    }

    #[test]
    fn what_serde_json_accepts_is_accepted(
        value in values(),
        choices in vec(any::<u8>(), 1..40),
        place in any::<prop::sample::Index>(),
        byte in prop_oneof![Just(None), prop::sample::select(&b"{}[]:,\"\\u0a- \n"[..]).prop_map(Some)],
    ) {
        let mut document = spell(&Value::from(vec![value]), &choices);
        let at = place.index(document.len());
        match byte {
            Some(byte) => document[at] = byte,
            None => { document.remove(at); }
        }
        let theirs = serde_json::from_slice::<Value>(&document).is_ok();
        prop_assert!(!theirs || is_accepted(&document), "{}", document.escape_ascii());
    }

    /// Scalars are spelt well here, so structure alone decides.
    #[test]
    fn structure_is_judged_as_serde_json_judges_it(
        tokens in vec(prop::sample::select(vec!["{", "}", "[", "]", ",", ":", "\"a\"", "\"a\":", "1", " "]), 0..9),
    ) {
        let document = format!("[{}]", tokens.concat());
        let theirs = serde_json::from_str::<Value>(&document).is_ok();
        prop_assert_eq!(is_accepted(document.as_bytes()), theirs, "{}", document);
    }

    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(
        bytes in vec(prop_oneof![3 => prop::sample::select(&b"{}[]:,\"\\ud8c0 1\xef\xbb\xbf"[..]), 1 => any::<u8>()], 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = events(&[&bytes]);
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(events(&[head, tail]), whole.clone());
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(events(&single), whole);
    }
}
