//! The prompt reader: no panic; any split gives the same prompt; what it keeps and counts is bounded by the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::{BodyEnd, Endpoint, Outcome, Prompt, PromptReader};
use routing_fuzz::{endpoint_and_body, pieces};

/// The shortest spelling of a picture, `"image":0,`, counts 4,096 bytes.
const MOST_WEIGHT_OF_A_BYTE: u64 = 410;
/// An empty part, `{},`, is nine bytes in the blocks, and a list, `[`, two.
const MOST_BLOCK_BYTES_OF_A_BYTE: usize = 4;
/// As documented for a stream of blocks, in three sections.
const MOST_BLOCKS: usize = 3 * 4096;

fuzz_target!(|input: &[u8]| {
    let Some((endpoint, block_bytes, body)) = endpoint_and_body(input) else {
        return;
    };
    let body = &body[..];
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| read(endpoint, block_bytes, pieces);
    let whole = read(&mut std::iter::once(body));
    assert_eq!(whole, read(&mut body.chunks(1)), "byte by byte");
    assert_eq!(whole, read(&mut pieces(body, 64)), "in pieces");
    for prompt in [&whole.ended, &whole.cut] {
        check_bounds(prompt, block_bytes, body.len());
    }
});

/// All that a reader says of a body.
#[derive(Debug, PartialEq)]
struct Reading {
    seen_bytes: u64,
    is_unreadable: bool,
    is_complete: bool,
    found_keys: Vec<String>,
    ended: Prompt,
    cut: Prompt,
}

fn read(
    endpoint: Endpoint,
    block_bytes: usize,
    pieces: &mut dyn Iterator<Item = &[u8]>,
) -> Reading {
    let mut reader = PromptReader::new(endpoint, block_bytes);
    for piece in pieces {
        reader.feed(piece);
    }
    Reading {
        seen_bytes: reader.seen_bytes(),
        is_unreadable: reader.is_unreadable(),
        is_complete: reader.is_complete(),
        found_keys: found_keys(&reader),
        ended: reader.clone().finish(true),
        cut: reader.finish(false),
    }
}

fn found_keys(reader: &PromptReader) -> Vec<String> {
    let keys = reader.scanner().found_keys();
    keys.map(ToString::to_string).collect()
}

fn check_bounds(prompt: &Prompt, block_bytes: usize, body_bytes: usize) {
    let most_weight = MOST_WEIGHT_OF_A_BYTE * (body_bytes as u64 + 16);
    assert!(
        prompt.prompt_bytes <= most_weight,
        "{} bytes",
        prompt.prompt_bytes
    );
    assert!(prompt.blocks.len() <= MOST_BLOCKS);
    assert!(prompt.blocks.len() * block_bytes <= MOST_BLOCK_BYTES_OF_A_BYTE * (body_bytes + 16));
    assert!(prompt.blocks.is_sorted_by_key(|block| block.end_bytes));
    let last_end = prompt
        .blocks
        .last()
        .map_or(0, |block| u64::from(block.end_bytes));
    assert!(
        last_end <= prompt.prompt_bytes,
        "the last block ends at {last_end}"
    );
    let is_unreadable = prompt.body_end == BodyEnd::Unreadable;
    assert_eq!(prompt.outcome() == Outcome::Unreadable, is_unreadable);
    assert!(!is_unreadable || prompt.blocks.is_empty());
}
