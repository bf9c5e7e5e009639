//! A message and its parts while they are read.

use std::sync::LazyLock;

use crate::canonical::{self, ValueHash};
use crate::json::Event;
use crate::{chain, hash_bytes};

/// The other fields of a part that is nothing but text, hashed: constants that cost more than a short message to make.
pub(super) static PLAIN_PARTS: LazyLock<[u64; 3]> =
    LazyLock::new(|| ["text", "input_text", "output_text"].map(plain_part));

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
pub(super) fn string_hash(text: &str) -> u64 {
    let mut value = ValueHash::default();
    canonical::write(Event::String(text.as_bytes()), &mut |bytes| {
        value.push(bytes)
    });
    canonical::write(Event::StringEnd, &mut |bytes| value.push(bytes));
    value.take().0
}

/// The hash of all fields but `text` of `{"type":<kind>,"text":...}`.
fn plain_part(kind: &str) -> u64 {
    chain(hash_bytes(b"type"), string_hash(kind))
}
