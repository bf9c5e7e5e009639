//! What kind of request a body is: requests that set the same fields are answered in the same way.

use crate::{Endpoint, chain};

/// A lone prompt, and several in one request: a server tells the cached tokens of one of them.
const SEVERAL_PROMPTS: u64 = 0x7365_7665_7261_6c70;
/// Tells fields of `sampling_params` from those of the body.
const NESTED: u64 = 0x7361_6d70_6c69_6e67;

/// The keys of a body in any order, whatever their values.
///
/// A sum of hashes under a secret: without it nobody can find other keys with the same sum. A key that comes twice counts twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    secret: u64,
    sum: u64,
    items: u64,
}

impl Keys {
    pub(super) fn under(secret: u64) -> Self {
        Self {
            secret,
            ..Self::default()
        }
    }

    /// A field of the body begins.
    pub(super) fn note(&mut self, key_hash: u64) {
        self.sum = self.sum.wrapping_add(chain(self.secret, key_hash));
    }

    /// A field of `sampling_params` begins.
    pub(super) fn note_nested(&mut self, key_hash: u64) {
        self.note(chain(NESTED, key_hash));
    }

    /// A prompt of a list of prompts has ended.
    pub(super) fn note_item(&mut self) {
        self.items = self.items.saturating_add(1);
    }

    /// The kind of a request to this endpoint for this model.
    pub(super) fn kind(&self, endpoint: Endpoint, model: u64) -> u64 {
        let several = if self.items > 1 { SEVERAL_PROMPTS } else { 0 };
        let words = [endpoint.number(), model, several, self.sum];
        words.into_iter().fold(self.secret, chain)
    }
}
