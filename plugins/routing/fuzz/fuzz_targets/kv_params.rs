//! The watch for KV transfer parameters: no panic; any split and any encoding gives the same; what serde_json finds is found.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::BodyScanner;
use routing_fuzz::pieces;
use serde_json::Value;

/// Where a rank takes them from.
const PLACES: [&str; 3] = [
    "/kv_transfer_params",
    "/vllm_xargs/kv_transfer_params",
    "/sampling_params/extra_args/kv_transfer_params",
];

fuzz_target!(|body: &[u8]| {
    let whole = scan(std::iter::once(body));
    assert_eq!(whole, scan(body.chunks(1)), "byte by byte");
    assert_eq!(whole, scan(pieces(body, 64)), "in pieces");
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    if let Ok(tree) = serde_json::from_str::<Value>(text) {
        let is_taken = |place: &&str| tree.pointer(place).is_some_and(|value| !value.is_null());
        // Of a key that comes twice the tree has the last.
        assert!(whole.0 || !PLACES.iter().any(|place| is_taken(&place)));
    }
    if serde_json::from_str::<Value>(text).is_ok_and(|tree| tree.is_object()) {
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(scan(std::iter::once(&wide[..])).0, whole.0, "in UTF-16");
    }
});

/// Whether they were found, whether a prompt can be read from it, and whether anything can follow.
fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (bool, bool, bool) {
    let mut scanner = BodyScanner::default();
    pieces.for_each(|piece| scanner.feed(piece, &mut |_| {}));
    (
        scanner.has_kv_params(),
        scanner.is_unreadable(),
        scanner.is_over(),
    )
}
