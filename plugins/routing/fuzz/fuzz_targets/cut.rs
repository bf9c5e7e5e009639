//! Bodies that are cut: their blocks are the leading blocks of the whole body, wherever `plugins/README.md` promises it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::{BodyEnd, Prefaces, Prompt, PromptReader};
use routing_fuzz::{Layout, endpoint_and_body, pieces};

/// Up to this length a body is cut at each byte, beyond it at random places.
const CUT_AT_EACH_BYTE: usize = 256;
const MOST_BETWEEN_CUTS: usize = 128;

fuzz_target!(|input: &[u8]| {
    let Some((endpoint, block_bytes, body)) = endpoint_and_body(input) else {
        return;
    };
    let body = &body[..];
    let mut reader = PromptReader::new(endpoint, block_bytes);
    reader.feed(body);
    let mut prefaces = Prefaces::default();
    let whole = reader.finish_with(true, &mut prefaces);
    let layout = Layout::of(endpoint, body);
    if whole.body_end != BodyEnd::Whole || layout.is_ambiguous {
        return;
    }
    let most = if body.len() <= CUT_AT_EACH_BYTE {
        1
    } else {
        MOST_BETWEEN_CUTS
    };
    let (mut reader, mut cut_at) = (PromptReader::new(endpoint, block_bytes), 0);
    for piece in pieces(body, most) {
        reader.feed(piece);
        cut_at += piece.len();
        let is_front_whole = layout.last_end <= cut_at;
        if is_front_whole || layout.last_blocks.is_some_and(|start| start <= cut_at) {
            check(&reader.clone().finish(false), &whole, cut_at, "on its own");
        }
        let prompt = reader.clone().finish_with(false, &mut prefaces);
        check(&prompt, &whole, cut_at, "in a known conversation");
    }
});

fn check(cut: &Prompt, whole: &Prompt, cut_at: usize, how: &str) {
    let leading = whole.blocks.get(..cut.blocks.len());
    assert_eq!(leading, Some(&cut.blocks[..]), "cut at {cut_at}, {how}");
}
