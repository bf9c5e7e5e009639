//! The KV cache of a rank: which blocks it holds, and which goes when there is no room.
//!
//! Blocks in use are counted by their users; a block without users stays until its room is needed; the one that was freed
//! first goes first, and of one sequence its last block first. Everything that is no whole block of a prompt is private
//! to its sequence and counts in tokens.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::BLOCK_TOKENS;

/// No slot.
const NONE: u32 = u32::MAX;

/// Block hashes are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u64,
    users: u32,
    /// Neighbours in the list of blocks without users.
    older: u32,
    newer: u32,
}

/// A cache of a fixed number of tokens. All but the eviction of several blocks takes constant time a block.
#[derive(Clone, Debug)]
pub struct PrefixCache {
    capacity_tokens: u64,
    by_hash: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    oldest: u32,
    newest: u32,
    idle_blocks: u64,
    private_tokens: u64,
}

impl PrefixCache {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity_tokens: u64) -> Self {
        Self {
            capacity_tokens,
            by_hash: HashMap::default(),
            slots: Vec::new(),
            vacant: Vec::new(),
            oldest: NONE,
            newest: NONE,
            idle_blocks: 0,
            private_tokens: 0,
        }
    }

    /// How many of the leading blocks are here.
    #[must_use]
    pub fn matched(&self, blocks: &[u64]) -> usize {
        let is_here = |hash: &&u64| self.by_hash.contains_key(hash);
        blocks.iter().take_while(is_here).count()
    }

    /// How many of the leading blocks are here, and how many of those have no user.
    #[must_use]
    pub fn matched_and_idle(&self, blocks: &[u64]) -> (usize, usize) {
        let (mut matched, mut idle) = (0, 0);
        for hash in blocks {
            let Some(slot) = self.by_hash.get(hash) else {
                break;
            };
            matched += 1;
            idle += usize::from(self.slots[*slot as usize].users == 0);
        }
        (matched, idle)
    }

    /// Tokens that can still be taken; blocks without users give way.
    #[must_use]
    pub fn room_tokens(&self) -> u64 {
        self.capacity_tokens.saturating_sub(self.used_tokens())
    }

    /// The share of the cache that sequences use, 0 to 1.
    #[must_use]
    pub fn usage(&self) -> f64 {
        self.used_tokens() as f64 / self.capacity_tokens.max(1) as f64
    }

    /// Takes a block into use, a new one if it is not here, and gives its slot. The caller has seen to it that there is
    /// room.
    pub fn take(&mut self, hash: u64) -> u32 {
        if let Some(slot) = self.by_hash.get(&hash).copied() {
            if self.slots[slot as usize].users == 0 {
                self.unlink(slot);
            }
            self.slots[slot as usize].users += 1;
            return slot;
        }
        self.make_room(BLOCK_TOKENS);
        let taken = Slot {
            hash,
            users: 1,
            older: NONE,
            newer: NONE,
        };
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(taken);
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = taken;
        self.by_hash.insert(hash, slot);
        slot
    }

    /// Takes room for tokens of one sequence.
    pub fn take_private(&mut self, tokens: u64) {
        self.make_room(tokens);
        self.private_tokens += tokens;
    }

    /// Gives back what a sequence used. Its first `computed_blocks` blocks stay as long as there is room; those behind
    /// were never computed.
    pub fn release(&mut self, slots: &[u32], computed_blocks: usize, private_tokens: u64) {
        self.private_tokens -= private_tokens;
        for (place, slot) in slots.iter().enumerate().rev() {
            let users = &mut self.slots[*slot as usize].users;
            *users -= 1;
            if *users > 0 {
                continue;
            }
            if place < computed_blocks {
                self.link(*slot);
            } else {
                self.drop_block(*slot);
            }
        }
    }

    /// Drops every block without users, as a cache that is reset.
    pub fn lose(&mut self) {
        while self.oldest != NONE {
            let slot = self.oldest;
            self.unlink(slot);
            self.drop_block(slot);
        }
    }

    fn used_tokens(&self) -> u64 {
        let blocks = self.by_hash.len() as u64 - self.idle_blocks;
        blocks * BLOCK_TOKENS + self.private_tokens
    }

    fn make_room(&mut self, tokens: u64) {
        let wanted = self.private_tokens + tokens;
        while self.by_hash.len() as u64 * BLOCK_TOKENS + wanted > self.capacity_tokens
            && self.oldest != NONE
        {
            let slot = self.oldest;
            self.unlink(slot);
            self.drop_block(slot);
        }
    }

    fn drop_block(&mut self, slot: u32) {
        self.by_hash.remove(&self.slots[slot as usize].hash);
        self.vacant.push(slot);
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        self.slots[slot as usize].older = before;
        self.slots[slot as usize].newer = NONE;
        match before {
            NONE => self.oldest = slot,
            _ => self.slots[before as usize].newer = slot,
        }
        self.idle_blocks += 1;
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match older {
            NONE => self.oldest = newer,
            _ => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            _ => self.slots[newer as usize].older = older,
        }
        self.idle_blocks -= 1;
    }
}

#[cfg(test)]
mod tests;
