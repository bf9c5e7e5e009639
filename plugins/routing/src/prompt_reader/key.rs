//! The key of the value at hand.

use crate::canonical::ValueHash;
use crate::hash_bytes;

/// Longer than any key that is looked for.
const NAME_BYTES: usize = 32;

/// A key of any length in constant memory: its first bytes and its hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    name: [u8; NAME_BYTES],
    bytes: usize,
    ended: bool,
    whole: ValueHash,
    hash: u64,
}

impl Key {
    pub(super) fn push(&mut self, part: &[u8]) {
        if std::mem::take(&mut self.ended) {
            self.bytes = 0;
        }
        let free = self.name.get_mut(self.bytes..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(part) {
            *to = *from;
        }
        self.bytes = self.bytes.saturating_add(part.len());
        self.whole.push(part);
    }

    pub(super) fn end(&mut self) {
        if self.ended {
            self.bytes = 0;
        }
        self.ended = true;
        let (hash, _) = self.whole.take();
        self.hash = match self.name.get(..self.bytes) {
            Some(name) => hash_bytes(name),
            None => hash,
        };
    }

    /// The key, or nothing for one longer than any that is looked for.
    pub(super) fn name(&self) -> &[u8] {
        self.name.get(..self.bytes).unwrap_or_default()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}
