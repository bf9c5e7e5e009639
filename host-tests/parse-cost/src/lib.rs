//! What reading a prompt costs: the product's reader against a tree of the whole body.
//!
//! The same code is measured natively and, by calls from Node, in wasm32: V8 runs it there as in Envoy.

use routing::{Endpoint, PromptReader};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// What the messages of a body are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// English without a character that JSON escapes.
    Plain,
    /// The same with a quote or a line end every thirty characters or so, as in code.
    Escaped,
}

/// Envoy hands bodies over in frames of this size.
const FRAME_BYTES: usize = 16 * 1024;
const BLOCK_BYTES: usize = 256;

const PLAIN: &str =
    "The quick brown fox jumps over the lazy dog, over and over, and nothing else happens. ";
const ESCAPED: &str =
    r#"print(\"The quick brown fox\")\n    jumps over the lazy dog\n    over and over \"again\"\n"#;

/// A chat request of about `bytes`: a system prompt, then turns of some hundred words.
#[must_use]
pub fn body(text: Text, bytes: usize) -> Vec<u8> {
    let line = if text == Text::Plain { PLAIN } else { ESCAPED };
    let mut body = format!(
        r#"{{"model":"m","temperature":0.7,"messages":[{{"role":"system","content":"{line}"#
    );
    let turn_bytes = (bytes / 4).clamp(300, 64 * 1024);
    let mut turn_end = turn_bytes;
    while body.len() < bytes {
        if body.len() > turn_end {
            body.push_str(r#""},{"role":"user","content":""#);
            turn_end += turn_bytes;
        }
        body.push_str(line);
    }
    body.push_str(r#""}],"stream":true,"max_tokens":100}"#);
    body.into_bytes()
}

/// Reads a body as the module does; gives something that depends on all of it.
#[must_use]
pub fn ours(body: &[u8]) -> u64 {
    let mut reader = PromptReader::new(Endpoint::ChatCompletions, BLOCK_BYTES);
    body.chunks(FRAME_BYTES)
        .for_each(|frame| reader.feed(frame));
    let prompt = reader.finish(true);
    prompt
        .blocks
        .last()
        .map_or(prompt.anchor, |block| block.chain_hash)
}

/// Makes a tree of a body and hashes its messages in blocks.
#[must_use]
pub fn tree(body: &[u8]) -> u64 {
    let tree: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = tree["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut hash = xxh3_64(tree["model"].as_str().unwrap_or_default().as_bytes());
    for message in messages {
        let field = |name: &str| message[name].as_str().unwrap_or_default().as_bytes();
        hash = hash.rotate_left(5) ^ xxh3_64(field("role"));
        for block in field("content").chunks(BLOCK_BYTES) {
            hash = hash.rotate_left(5) ^ xxh3_64(block);
        }
    }
    hash
}

/// Reads a body with actson, a push parser, and hashes every string: without blocks, roles or keys.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn actson(body: &[u8]) -> u64 {
    use actson::feeder::PushJsonFeeder;
    use actson::{JsonEvent, JsonParser};
    let mut parser = JsonParser::new(PushJsonFeeder::new());
    let (mut hash, mut fed) = (0u64, 0);
    loop {
        match parser.next_event() {
            Ok(Some(JsonEvent::NeedMoreInput)) => {
                let rest = body.get(fed..).unwrap_or_default();
                fed += parser.feeder.push_bytes(rest);
                if fed == body.len() {
                    parser.feeder.done();
                }
            }
            Ok(Some(JsonEvent::ValueString)) => {
                hash = hash.rotate_left(5)
                    ^ xxh3_64(parser.current_str().unwrap_or_default().as_bytes());
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return hash,
        }
    }
}

/// Reads a body with simd-json to a tape, which needs a copy to write into, and hashes every string.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn simd(body: &[u8]) -> u64 {
    let mut copy = body.to_vec();
    let Ok(tape) = simd_json::to_tape(&mut copy) else {
        return 0;
    };
    let strings = tape.0.iter().filter_map(|node| match node {
        simd_json::Node::String(text) => Some(text.as_bytes()),
        _ => None,
    });
    strings.fold(0u64, |hash, text| hash.rotate_left(5) ^ xxh3_64(text))
}

/// Calls from Node: a body is kept in the module and read some times.
#[cfg(target_arch = "wasm32")]
mod node {
    use std::cell::RefCell;

    use super::{Text, body, ours, tree};

    thread_local! {
        static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    /// Makes the body; gives its length.
    #[unsafe(no_mangle)]
    extern "C" fn prepare(is_escaped: u32, bytes: usize) -> usize {
        let text = if is_escaped == 1 {
            Text::Escaped
        } else {
            Text::Plain
        };
        BODY.with(|kept| {
            *kept.borrow_mut() = body(text, bytes);
            kept.borrow().len()
        })
    }

    #[unsafe(no_mangle)]
    extern "C" fn run_ours(times: u32) -> u64 {
        BODY.with(|body| (0..times).fold(0, |sum, _| sum ^ ours(&body.borrow())))
    }

    #[unsafe(no_mangle)]
    extern "C" fn run_tree(times: u32) -> u64 {
        BODY.with(|body| (0..times).fold(0, |sum, _| sum ^ tree(&body.borrow())))
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn every_reader_reads_every_body_whole() {
        for text in [Text::Plain, Text::Escaped] {
            for bytes in [1024, 16 * 1024, 1 << 20] {
                let whole = body(text, bytes);
                let tree_of: Value = serde_json::from_slice(&whole).unwrap();
                assert!(
                    tree_of["messages"].as_array().unwrap().len() > 1,
                    "{text:?} {bytes}"
                );
                let at = whole.len() / 2;
                let mut other = whole.clone();
                other[at] = if other[at] == b'e' { b'a' } else { b'e' };
                for read in [ours, tree, actson, simd] {
                    assert_eq!(read(&whole), read(&whole));
                    assert_ne!(read(&whole), read(&other), "{text:?} {bytes}");
                }
            }
        }
    }
}
