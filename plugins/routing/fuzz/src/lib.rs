//! What the fuzz targets share: how an input is taken apart.

mod events;
mod layout;
mod written;

pub use events::Events;
pub use layout::Layout;
pub use written::written;

use std::borrow::Cow;

use routing::{Endpoint, hash_bytes};

/// Block sizes of the targets: tiny, so that short bodies have many blocks, and the two that matter in the gateway.
const BLOCK_BYTES: [usize; 4] = [1, 16, 64, 256];
/// Tokens of a written body: some kilobytes.
const MOST_TOKENS: usize = 400;

/// Takes the first byte as endpoint (modulo 9), block size (in steps of 9) and kind (in steps of 36): the rest is the body,
/// or the program that [`written`] makes one of.
#[must_use]
pub fn endpoint_and_body(input: &[u8]) -> Option<(Endpoint, usize, Cow<'_, [u8]>)> {
    let (&choice, rest) = input.split_first()?;
    let choice = usize::from(choice);
    let endpoint = Endpoint::ALL[choice % Endpoint::ALL.len()];
    let choice = choice / Endpoint::ALL.len();
    let block_bytes = BLOCK_BYTES[choice % BLOCK_BYTES.len()];
    let body = if (choice / BLOCK_BYTES.len()).is_multiple_of(2) {
        Cow::Borrowed(rest)
    } else {
        Cow::Owned(written(&rest[..rest.len().min(MOST_TOKENS)]))
    };
    Some((endpoint, block_bytes, body))
}

/// Cuts bytes into pieces of 1 to `most` bytes. The lengths follow from the bytes, so an input says it all.
pub fn pieces(mut bytes: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    let mut state = hash_bytes(bytes);
    std::iter::from_fn(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let length = 1 + (state >> 33) as usize % most;
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
