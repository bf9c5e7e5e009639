//! The cache against a plain twin that looks at everything each time.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::PrefixCache;

const CAPACITY: usize = 30;

/// Blocks as hash, users and the time when they were freed.
#[derive(Default)]
struct Twin {
    blocks: Vec<(u64, u32, u64)>,
    unnamed: usize,
    clock: u64,
}

impl Twin {
    fn take(&mut self, hash: u64) -> bool {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.0 == hash) {
            block.1 += 1;
            return true;
        }
        let has_room = self.make_room();
        if has_room {
            self.blocks.push((hash, 1, 0));
        }
        has_room
    }

    fn take_unnamed(&mut self) -> bool {
        let has_room = self.make_room();
        self.unnamed += usize::from(has_room);
        has_room
    }

    fn make_room(&mut self) -> bool {
        if self.blocks.len() + self.unnamed < CAPACITY {
            return true;
        }
        let idle = self.blocks.iter().filter(|block| block.1 == 0);
        let oldest = idle.min_by_key(|block| block.2).map(|block| block.0);
        self.blocks.retain(|block| Some(block.0) != oldest);
        oldest.is_some()
    }

    fn free(&mut self, hashes: &[u64], unnamed: usize) {
        self.unnamed -= unnamed;
        for hash in hashes.iter().rev() {
            self.clock += 1;
            let block = self.blocks.iter_mut().find(|block| block.0 == *hash);
            let block = block.expect("a block in use is here");
            block.1 -= 1;
            block.2 = self.clock;
        }
    }

    fn free_blocks(&self) -> usize {
        CAPACITY - self.unnamed - self.blocks.iter().filter(|block| block.1 > 0).count()
    }

    fn matched(&self, hashes: &[u64]) -> usize {
        let is_here = |hash: &&u64| self.blocks.iter().any(|block| block.0 == **hash);
        hashes.iter().take_while(is_here).count()
    }
}

#[test]
fn the_cache_does_what_its_twin_does() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut cache, mut twin) = (PrefixCache::new(CAPACITY), Twin::default());
    let mut held: Vec<(Vec<u64>, usize)> = Vec::new();
    for _ in 0..20_000 {
        if random.random_bool(0.5) && !held.is_empty() {
            let (hashes, unnamed) = held.swap_remove(random.random_range(0..held.len()));
            cache.free(&hashes, unnamed);
            twin.free(&hashes, unnamed);
        } else {
            let family = random.random_range(0..8u64) * 100;
            let hashes: Vec<u64> = (family..family + random.random_range(1..9)).collect();
            assert_eq!(cache.matched(&hashes), twin.matched(&hashes));
            let room: Vec<bool> = hashes.iter().map(|hash| cache.take(*hash)).collect();
            assert_eq!(
                room,
                hashes
                    .iter()
                    .map(|hash| twin.take(*hash))
                    .collect::<Vec<_>>()
            );
            let taken = room
                .iter()
                .zip(hashes)
                .filter_map(|(taken, hash)| taken.then_some(hash));
            let unnamed = cache.take_unnamed();
            assert_eq!(unnamed, twin.take_unnamed());
            held.push((taken.collect(), usize::from(unnamed)));
        }
        assert_eq!(cache.free_blocks(), twin.free_blocks());
    }
}
