//! The watch for keys that no client may set: no panic; any split and any encoding gives the same; what serde_json finds is
//! found; a request is refused by the first of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::{BodyScanner, Exchanges, Refusal, default_refused_keys};
use routing_fuzz::pieces;
use serde_json::{Map, Value};

/// Where a rank takes them from.
const PLACES: [&str; 3] = ["", "/vllm_xargs", "/sampling_params/extra_args"];
const READER: u32 = 1;

fuzz_target!(|body: &[u8]| {
    let whole = scan(std::iter::once(body));
    assert_eq!(whole, scan(body.chunks(1)), "byte by byte");
    assert_eq!(whole, scan(pieces(body, 64)), "in pieces");
    let first = whole.keys.first().cloned();
    assert_eq!(refusal(body), first.map(Refusal::Key));
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let Ok(tree) = serde_json::from_str::<Value>(text) else {
        return;
    };
    // Of a key that comes twice the tree has the last.
    for key in default_refused_keys().filter(|key| is_taken(&tree, key)) {
        assert!(whole.keys.iter().any(|found| found == key), "{key}");
    }
    if tree.is_object() {
        assert!(whole.models > 0 || tree.get("model").is_none());
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide = scan(std::iter::once(&wide[..]));
        assert_eq!((wide.keys, wide.models), (whole.keys, whole.models), "in UTF-16");
    }
});

/// What is known of a body.
#[derive(Debug, PartialEq)]
struct Scan {
    keys: Vec<String>,
    models: u32,
    is_unreadable: bool,
    is_over: bool,
}

fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Scan {
    let mut scanner = BodyScanner::default();
    pieces.for_each(|piece| scanner.feed(piece, &mut |_| {}));
    Scan {
        keys: scanner.found_keys().map(ToString::to_string).collect(),
        models: scanner.models(),
        is_unreadable: scanner.is_unreadable(),
        is_over: scanner.is_over(),
    }
}

/// Why a request with this body is refused by a pool that refuses the list.
fn refusal(body: &[u8]) -> Option<Refusal> {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, None);
    exchanges.guard(READER, [Default::default()]);
    pieces(body, 64).for_each(|piece| {
        exchanges.feed(READER, piece, 0);
    });
    exchanges.refusal(READER)
}

/// Whether a server takes the key from this tree.
fn is_taken(tree: &Value, key: &str) -> bool {
    let counts = |value: &Value| !value.is_null() || key == "cache_hit_threshold";
    let objects = PLACES.iter().filter_map(|place| object_at(tree, place));
    let mut values = objects.filter_map(|object| object.get(key));
    values.any(counts)
}

/// A pointer could lead through an array, too.
fn object_at<'a>(tree: &'a Value, place: &str) -> Option<&'a Map<String, Value>> {
    let mut object = tree.as_object()?;
    for key in place.split('/').skip(1) {
        object = object.get(key)?.as_object()?;
    }
    Some(object)
}
