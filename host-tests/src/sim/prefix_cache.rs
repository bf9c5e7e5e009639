//! The KV cache of a simulated rank, in blocks: which prefixes it holds, and what goes when it is full.
//!
//! As in vLLM: blocks in use are counted by their users; a block without users stays, and is found again, until its room
//! is needed; the least recently freed goes first, and of one sequence the last block first.

use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug)]
struct Block {
    users: u32,
    /// When it was freed; meaningful without users.
    freed: u64,
}

/// A cache of a fixed number of blocks.
#[derive(Debug)]
pub struct PrefixCache {
    capacity: usize,
    blocks: HashMap<u64, Block>,
    /// Blocks without users, by the time when they were freed.
    idle: BTreeMap<u64, u64>,
    /// Blocks in use that hold no whole prefix: partial ones and those of answers.
    unnamed: usize,
    clock: u64,
}

impl PrefixCache {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            blocks: HashMap::new(),
            idle: BTreeMap::new(),
            unnamed: 0,
            clock: 0,
        }
    }

    /// How many of the leading blocks are here.
    #[must_use]
    pub fn matched(&self, hashes: &[u64]) -> usize {
        hashes
            .iter()
            .take_while(|hash| self.blocks.contains_key(hash))
            .count()
    }

    /// Takes a block into use, a new one where it is not here; false when there is no room.
    pub fn take(&mut self, hash: u64) -> bool {
        if let Some(block) = self.blocks.get_mut(&hash) {
            if block.users == 0 {
                self.idle.remove(&block.freed);
            }
            block.users += 1;
            return true;
        }
        let has_room = self.make_room();
        if has_room {
            self.blocks.insert(hash, Block { users: 1, freed: 0 });
        }
        has_room
    }

    /// Takes a block without a name into use; false when there is no room.
    pub fn take_unnamed(&mut self) -> bool {
        let has_room = self.make_room();
        self.unnamed += usize::from(has_room);
        has_room
    }

    /// Gives a block in use that has no name the name of what it holds by now; where another block has that name already,
    /// the sequence uses that one, and its own is free.
    pub fn name(&mut self, hash: u64) {
        self.unnamed -= 1;
        self.take(hash);
    }

    /// Frees the blocks of a sequence, given first to last.
    pub fn free(&mut self, hashes: &[u64], unnamed: usize) {
        self.unnamed -= unnamed;
        for hash in hashes.iter().rev() {
            let Some(block) = self.blocks.get_mut(hash) else {
                continue;
            };
            block.users -= 1;
            if block.users == 0 {
                self.clock += 1;
                block.freed = self.clock;
                self.idle.insert(self.clock, *hash);
            }
        }
    }

    /// How many of these blocks are here without a user: taking them takes room too.
    #[must_use]
    pub fn idle_among(&self, hashes: &[u64]) -> usize {
        let is_idle = |hash: &&u64| self.blocks.get(hash).is_some_and(|block| block.users == 0);
        hashes.iter().filter(is_idle).count()
    }

    /// Blocks that nobody uses, whether they hold a prefix or nothing.
    #[must_use]
    pub fn free_blocks(&self) -> usize {
        self.capacity.saturating_sub(self.used())
    }

    /// The share of blocks in use.
    #[must_use]
    pub fn usage(&self) -> f64 {
        self.used() as f64 / self.capacity.max(1) as f64
    }

    fn used(&self) -> usize {
        self.blocks.len() - self.idle.len() + self.unnamed
    }

    /// Forgets everything that nobody uses.
    pub fn reset(&mut self) {
        for hash in std::mem::take(&mut self.idle).into_values() {
            self.blocks.remove(&hash);
        }
    }

    fn make_room(&mut self) -> bool {
        if self.blocks.len() + self.unnamed < self.capacity {
            return true;
        }
        let oldest = self.idle.pop_first();
        oldest.is_some_and(|(_, hash)| self.blocks.remove(&hash).is_some())
    }
}

#[cfg(test)]
mod twin;

#[cfg(test)]
mod tests {
    use super::*;

    fn use_and_free(cache: &mut PrefixCache, hashes: &[u64]) -> bool {
        let taken = hashes.iter().filter(|hash| cache.take(**hash)).count();
        cache.free(&hashes[..taken], 0);
        taken == hashes.len()
    }

    #[test]
    fn a_prefix_is_found_again_up_to_the_first_block_that_differs() {
        let mut cache = PrefixCache::new(10);
        assert!(use_and_free(&mut cache, &[1, 2, 3]));
        assert_eq!(cache.matched(&[1, 2, 4]), 2);
        assert_eq!(cache.matched(&[9, 2, 3]), 0);
    }

    #[test]
    fn a_full_cache_drops_the_longest_unused_leaf_first() {
        let mut cache = PrefixCache::new(6);
        use_and_free(&mut cache, &[1, 2, 3]);
        use_and_free(&mut cache, &[4, 5, 6]);
        use_and_free(&mut cache, &[7]);
        assert_eq!(
            cache.matched(&[1, 2, 3]),
            2,
            "the last block of the oldest sequence went"
        );
        assert_eq!(cache.matched(&[4, 5, 6]), 3);
    }

    #[test]
    fn blocks_in_use_stay_and_bound_what_can_be_taken() {
        let mut cache = PrefixCache::new(3);
        assert!(cache.take(1) && cache.take(2) && cache.take_unnamed());
        assert!(!cache.take(3) && !cache.take_unnamed());
        assert!(cache.take(1), "a block that is here needs no room");
        assert!((cache.usage() - 1.0).abs() < 1e-9);
        cache.free(&[1, 2], 1);
        assert!(cache.take(3));
        assert_eq!(
            cache.matched(&[1, 2]),
            2,
            "block 1 has another user, block 2 had room"
        );
    }

    #[test]
    fn a_block_is_found_from_the_moment_it_has_a_name() {
        let mut cache = PrefixCache::new(2);
        assert!(cache.take_unnamed() && cache.take_unnamed());
        assert_eq!(cache.matched(&[1]), 0);
        cache.name(1);
        assert_eq!((cache.matched(&[1]), cache.free_blocks()), (1, 0));
        cache.name(1);
        assert_eq!(cache.free_blocks(), 1, "one block holds it for both");
    }

    #[test]
    fn a_reset_keeps_only_what_is_in_use() {
        let mut cache = PrefixCache::new(9);
        use_and_free(&mut cache, &[1, 2]);
        assert!(cache.take(7));
        cache.reset();
        assert_eq!((cache.matched(&[1]), cache.matched(&[7])), (0, 1));
    }
}
