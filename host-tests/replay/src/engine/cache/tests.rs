use proptest::prelude::*;

use super::*;

const BLOCK: u64 = BLOCK_TOKENS;

fn use_and_free(cache: &mut PrefixCache, blocks: &[u64]) {
    let slots: Vec<u32> = blocks.iter().map(|block| cache.take(*block)).collect();
    cache.release(&slots, slots.len(), 0);
}

#[test]
fn a_prefix_is_found_up_to_the_first_block_that_differs() {
    let mut cache = PrefixCache::new(10 * BLOCK);
    use_and_free(&mut cache, &[1, 2, 3]);
    assert_eq!(cache.matched(&[1, 2, 4]), 2);
    assert_eq!(cache.matched(&[9, 2, 3]), 0);
    assert_eq!(cache.room_tokens(), 10 * BLOCK, "nobody uses them");
}

#[test]
fn a_full_cache_drops_the_leaf_that_was_unused_for_longest() {
    let mut cache = PrefixCache::new(6 * BLOCK);
    use_and_free(&mut cache, &[1, 2, 3]);
    use_and_free(&mut cache, &[4, 5, 6]);
    use_and_free(&mut cache, &[7]);
    assert_eq!(cache.matched(&[1, 2, 3]), 2);
    assert_eq!(cache.matched(&[4, 5, 6]), 3);
    cache.take_private(BLOCK + 1);
    assert_eq!(cache.matched(&[1, 2, 3]), 0, "a token takes a block's room");
}

#[test]
fn blocks_that_were_never_computed_do_not_stay() {
    let mut cache = PrefixCache::new(6 * BLOCK);
    let slots: Vec<u32> = [1, 2, 3].map(|block| cache.take(block)).to_vec();
    let shared = cache.take(1);
    cache.release(&slots, 2, 0);
    assert_eq!(cache.matched(&[1, 2, 3]), 2);
    assert_eq!(cache.room_tokens(), 5 * BLOCK, "block 1 has another user");
    cache.release(&[shared], 0, 0);
    assert_eq!(cache.matched(&[1]), 0);
}

/// The same cache as a list: blocks with users, and those without by age, the oldest first.
#[derive(Default)]
struct Twin {
    capacity_tokens: u64,
    used: Vec<u64>,
    idle: Vec<u64>,
    private_tokens: u64,
}

impl Twin {
    fn room_tokens(&self) -> u64 {
        let mut distinct = self.used.clone();
        distinct.sort_unstable();
        distinct.dedup();
        self.capacity_tokens - distinct.len() as u64 * BLOCK - self.private_tokens
    }

    fn matched(&self, blocks: &[u64]) -> usize {
        let is_here = |block: &&u64| self.used.contains(block) || self.idle.contains(block);
        blocks.iter().take_while(is_here).count()
    }

    fn take(&mut self, block: u64) {
        self.idle.retain(|idle| *idle != block);
        self.used.push(block);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.idle.len() as u64 * BLOCK > self.room_tokens() {
            self.idle.remove(0);
        }
    }

    fn release(&mut self, blocks: &[u64], private_tokens: u64) {
        self.private_tokens -= private_tokens;
        for block in blocks.iter().rev() {
            let place = self.used.iter().position(|used| used == block).unwrap();
            self.used.remove(place);
            if !self.used.contains(block) {
                self.idle.push(*block);
            }
        }
    }
}

/// Blocks of a prompt in one of three families; equal places of a family are equal blocks.
fn blocks(family: u64, length: u64) -> Vec<u64> {
    (0..length).map(|place| family * 100 + place).collect()
}

#[test]
fn a_cache_that_is_lost_keeps_what_is_in_use() {
    let mut cache = PrefixCache::new(10 * BLOCK);
    let [one, other] = [0, 1].map(|family| blocks(family, 3));
    let slots: Vec<u32> = one.iter().map(|block| cache.take(*block)).collect();
    let freed: Vec<u32> = other.iter().map(|block| cache.take(*block)).collect();
    cache.release(&freed, 3, 0);
    assert_eq!((cache.matched(&one), cache.matched(&other)), (3, 3));
    cache.lose();
    assert_eq!((cache.matched(&one), cache.matched(&other)), (3, 0));
    assert_eq!(cache.room_tokens(), 7 * BLOCK);
    cache.release(&slots, 3, 0);
    assert_eq!((cache.matched(&one), cache.room_tokens()), (3, 10 * BLOCK));
}

proptest! {
    #[test]
    fn the_cache_is_its_twin(
        steps in prop::collection::vec((0u64..3, 0u64..6, 0u64..700, any::<bool>()), 1..80),
    ) {
        let capacity_tokens = 9 * BLOCK + 77;
        let mut cache = PrefixCache::new(capacity_tokens);
        let mut twin = Twin { capacity_tokens, ..Twin::default() };
        let mut held: Vec<(Vec<u64>, Vec<u32>, u64)> = Vec::new();
        for (family, length, private, is_first_out) in steps {
            let wanted = blocks(family, length);
            let (matched, idle) = cache.matched_and_idle(&wanted);
            prop_assert_eq!(matched, cache.matched(&wanted));
            let needed = (wanted.len() - matched + idle) as u64 * BLOCK + private;
            if needed <= cache.room_tokens() {
                let slots = wanted.iter().map(|block| cache.take(*block)).collect();
                cache.take_private(private);
                wanted.iter().for_each(|block| twin.take(*block));
                twin.private_tokens += private;
                twin.shrink();
                held.push((wanted, slots, private));
            } else if !held.is_empty() {
                let place = if is_first_out { 0 } else { held.len() - 1 };
                let (freed, slots, private) = held.remove(place);
                cache.release(&slots, slots.len(), private);
                twin.release(&freed, private);
            }
            prop_assert_eq!(cache.room_tokens(), twin.room_tokens());
            for family in 0..3 {
                let all = blocks(family, 6);
                prop_assert_eq!(cache.matched(&all), twin.matched(&all));
            }
            let used = capacity_tokens - twin.room_tokens();
            prop_assert!((cache.usage() - used as f64 / capacity_tokens as f64).abs() < 1e-9);
        }
    }
}
