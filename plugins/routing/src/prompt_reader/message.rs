//! A message and its parts while they are read.

use std::sync::LazyLock;

use crate::canonical::{self, ValueHash};
use crate::json::Event;
use crate::{chain, hash_bytes};

/// The other fields of a part that is nothing but text, hashed: constants that cost more than a short message to make.
static PLAIN_PARTS: LazyLock<[u64; 3]> = LazyLock::new(|| seeded_plain_parts(0));

/// The message that is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) first_block: usize,
    pub(super) role: Option<u64>,
    pub(super) others: u64,
    pub(super) others_bytes: u64,
}

/// The fields of a part that are not its text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) others: u64,
    pub(super) weight_bytes: u64,
}

/// Hash of a string value.
pub(super) fn string_hash(text: &str, seed: u64) -> u64 {
    let mut value = ValueHash::seeded(seed);
    canonical::write(Event::String(text.as_bytes()), &mut |bytes| {
        value.push(bytes)
    });
    canonical::write(Event::StringEnd, &mut |bytes| value.push(bytes));
    value.take().0
}

/// The same under a seed.
pub(super) fn plain_parts(seed: u64) -> [u64; 3] {
    match seed {
        0 => *PLAIN_PARTS,
        seed => seeded_plain_parts(seed),
    }
}

/// The hashes of all fields but `text` of `{"type":<kind>,"text":...}`.
fn seeded_plain_parts(seed: u64) -> [u64; 3] {
    ["text", "input_text", "output_text"]
        .map(|kind| chain(hash_bytes(b"type"), string_hash(kind, seed)))
}
