//! Which containers are open, one bit each.

use super::State;

/// Python's own parser gives up at about a thousand levels, so deeper bodies are refused by the rank anyway.
const MAX_DEPTH: usize = 1024;
const WORD_BITS: usize = 64;

/// A stack of open containers in 128 bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Nesting {
    objects: [u64; MAX_DEPTH / WORD_BITS],
    depth: usize,
}

impl Nesting {
    /// Enters an object or an array; false when it would be too deep.
    pub(super) fn open(&mut self, object: bool) -> bool {
        let (word, bit) = place(self.depth);
        let Some(word) = self.objects.get_mut(word) else {
            return false;
        };
        *word = if object { *word | bit } else { *word & !bit };
        self.depth = self.depth.saturating_add(1);
        true
    }

    pub(super) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// Whether the innermost container is an object; false outside of all.
    pub(super) fn in_object(&self) -> bool {
        let Some(top) = self.depth.checked_sub(1) else {
            return false;
        };
        let (word, bit) = place(top);
        self.objects.get(word).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn after_comma(&self) -> State {
        if self.in_object() {
            State::Key
        } else {
            State::Value
        }
    }
}

fn place(level: usize) -> (usize, u64) {
    let bit = 1u64
        .checked_shl(u32::try_from(level % WORD_BITS).unwrap_or(0))
        .unwrap_or(1);
    (level / WORD_BITS, bit)
}
