//! The key of the value at hand.

use crate::canonical::ValueHash;
use crate::hash_bytes;

/// Longer than any key that is looked for.
const NAME_BYTES: usize = 32;

/// A key of any length in constant memory: its first bytes, and the hash of a longer one.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    name: [u8; NAME_BYTES],
    bytes: usize,
    ended: bool,
    /// Only keys that do not fit go here, whole: most fit, and hashing each twice would cost more than reading it.
    long: ValueHash,
    long_hash: u64,
}

impl Key {
    pub(super) fn push(&mut self, part: &[u8]) {
        self.restart();
        let end = self.bytes.saturating_add(part.len());
        match self.name.get_mut(self.bytes..end) {
            Some(free) => free.copy_from_slice(part),
            None => self.push_long(part),
        }
        self.bytes = end;
    }

    pub(super) fn end(&mut self) {
        self.restart();
        self.ended = true;
        if self.bytes > NAME_BYTES {
            (self.long_hash, _) = self.long.take();
        }
    }

    /// The key, or nothing for one longer than any that is looked for.
    pub(super) fn name(&self) -> &[u8] {
        self.name.get(..self.bytes).unwrap_or_default()
    }

    pub(super) fn hash(&self) -> u64 {
        self.name
            .get(..self.bytes)
            .map_or(self.long_hash, hash_bytes)
    }

    /// The first piece of a new key, or its end if it is empty.
    fn restart(&mut self) {
        if std::mem::take(&mut self.ended) {
            self.bytes = 0;
        }
    }

    fn push_long(&mut self, part: &[u8]) {
        if let Some(before) = self.name.get(..self.bytes) {
            self.long.push(before);
        }
        self.long.push(part);
    }
}
