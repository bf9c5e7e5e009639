//! Prompts that another rank has prefilled: their KV comes over the network, and only their last token is computed here.
//!
//! As in vLLM's scheduler: a prompt takes all its blocks before its transfer begins, so it waits for room like any other;
//! only what the cache does not hold is transferred; what arrives can be found by later prompts; and a prompt that is thrown
//! back after that is prefilled here.

use super::{Engine, Running, Sequence, blocks, take_matched};

/// Where the KV of a prompt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptKv {
    /// It is computed here.
    Computed,
    /// Another rank has it.
    Elsewhere,
    /// It came from another rank.
    Received,
}

/// A transfer that begins: whoever drives the engine tells it when the blocks are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The sequence.
    pub id: u64,
    /// Blocks that come.
    pub blocks: usize,
}

impl Engine {
    /// Queues a request whose prompt another rank has prefilled.
    pub fn add_prefilled(&mut self, sequence: Sequence) {
        self.waiting
            .push_back(Running::new(sequence, PromptKv::Elsewhere));
    }

    /// The transfers that the last step began.
    pub fn begun_transfers(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.begun)
    }

    /// Takes note that a sequence's blocks are here; it goes before those that have not had their turn. Nothing happens when
    /// it was aborted.
    pub fn finish_transfer(&mut self, id: u64) {
        let is_it = |loading: &Running| loading.sequence.id == id;
        let Some(place) = self.loading.iter().position(is_it) else {
            return;
        };
        let mut loaded = self.loading.remove(place);
        for hash in loaded.sequence.hashes.iter().skip(loaded.named) {
            self.cache.name(*hash);
        }
        loaded.named = loaded.sequence.hashes.len();
        loaded.unnamed = blocks(loaded.sequence.prompt_tokens) - loaded.named;
        let last = loaded.sequence.prompt_tokens - 1;
        loaded.received = last - loaded.computed;
        (loaded.computed, loaded.cached, loaded.kv) = (last, last, PromptKv::Received);
        let is_before = |waiting: &Running| waiting.kv == PromptKv::Received;
        let place = self.waiting.iter().take_while(|w| is_before(w)).count();
        self.waiting.insert(place, loaded);
    }

    /// Sequences whose KV is on its way; they count as waiting.
    #[must_use]
    pub fn transferring(&self) -> usize {
        self.loading.len()
    }

    /// Takes all blocks of the prompt; gives it back when there is no room.
    pub(super) fn begin_transfer(&mut self, mut next: Running) -> Result<(), Running> {
        let Some(missing) = take_matched(&mut self.cache, &mut next) else {
            return Err(next);
        };
        // Without a name, so that no other prompt finds what is not here yet.
        next.unnamed = (0..missing).filter(|_| self.cache.take_unnamed()).count();
        self.count_lookup(&mut next);
        self.begun.push(Transfer {
            id: next.sequence.id,
            blocks: missing,
        });
        self.loading.push(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{BLOCK_TOKENS, EngineLimits, Token};
    use super::*;
    use crate::sim::profile::EngineProfile;

    fn engine(num_gpu_blocks: usize) -> Engine {
        let limits = EngineLimits {
            max_num_batched_tokens: 256,
            max_num_seqs: 4,
            num_gpu_blocks,
        };
        Engine::new(limits, EngineProfile::default())
    }

    /// A prompt of whole blocks and five tokens more.
    fn sequence(id: u64, hashes: std::ops::Range<u64>, max_tokens: u64) -> Sequence {
        let hashes: Arc<[u64]> = hashes.collect();
        Sequence {
            id,
            prompt_tokens: hashes.len() as u64 * BLOCK_TOKENS + 5,
            hashes,
            max_tokens,
            skips_cache: false,
        }
    }

    fn run(engine: &mut Engine) -> Vec<Token> {
        let mut tokens = Vec::new();
        while engine.begin_step().is_some() {
            tokens.extend(engine.end_step());
        }
        tokens
    }

    #[test]
    fn a_prefilled_prompt_gives_no_token_before_its_blocks_are_here() {
        let mut engine = engine(100);
        engine.add_prefilled(sequence(1, 0..10, 2));
        assert_eq!(run(&mut engine), []);
        assert_eq!(engine.begun_transfers(), [Transfer { id: 1, blocks: 11 }]);
        assert_eq!((engine.waiting(), engine.transferring()), (1, 1));
        assert!((engine.cache_usage() - 0.11).abs() < 1e-9);
        engine.finish_transfer(1);
        assert_eq!(run(&mut engine).len(), 2);
        assert_eq!((engine.waiting(), engine.cache_usage()), (0, 0.0));
    }

    #[test]
    fn only_the_last_token_of_a_received_prompt_is_computed() {
        let mut engine = engine(100);
        engine.add_prefilled(sequence(1, 0..10, 1));
        run(&mut engine);
        engine.finish_transfer(1);
        assert_eq!(run(&mut engine)[0].cached, 164);
        let counts = engine.counts();
        assert_eq!((counts.queries, counts.hits), (165, 0));
        assert_eq!(
            (counts.computed_prompt_tokens, counts.received_prompt_tokens),
            (1, 164)
        );
    }

    #[test]
    fn only_what_the_cache_lacks_is_transferred_and_what_came_is_found_again() {
        let mut engine = engine(100);
        engine.add(sequence(1, 0..4, 1));
        run(&mut engine);
        engine.add_prefilled(sequence(2, 0..10, 1));
        run(&mut engine);
        assert_eq!(engine.begun_transfers(), [Transfer { id: 2, blocks: 7 }]);
        engine.finish_transfer(2);
        assert_eq!(run(&mut engine)[0].cached, 164);
        assert_eq!(engine.counts().received_prompt_tokens, 164 - 64);
        engine.add(sequence(3, 0..10, 1));
        assert_eq!(run(&mut engine)[0].cached, 160);
    }

    #[test]
    fn what_is_on_its_way_cannot_be_found_and_holds_its_room() {
        let mut engine = engine(24);
        engine.add_prefilled(sequence(1, 0..10, 1));
        run(&mut engine);
        engine.add(sequence(2, 0..10, 1));
        assert_eq!(run(&mut engine)[0].cached, 0);
        engine.add_prefilled(sequence(3, 20..40, 1));
        run(&mut engine);
        assert_eq!(engine.begun_transfers().len(), 1, "no room for the second");
        engine.finish_transfer(1);
        run(&mut engine);
        assert_eq!(engine.begun_transfers(), [Transfer { id: 3, blocks: 21 }]);
    }

    #[test]
    fn a_request_aborted_on_its_way_leaves_nothing() {
        let mut engine = engine(100);
        engine.add_prefilled(sequence(1, 0..10, 1));
        engine.add_prefilled(sequence(2, 0..10, 1));
        run(&mut engine);
        engine.abort(1);
        engine.finish_transfer(1);
        assert_eq!(engine.transferring(), 1);
        engine.finish_transfer(2);
        engine.abort(2);
        assert_eq!(run(&mut engine), []);
        assert_eq!((engine.waiting(), engine.cache_usage()), (0, 0.0));
    }

    #[test]
    fn those_whose_blocks_are_here_go_before_those_that_wait() {
        let mut engine = engine(100);
        engine.add_prefilled(sequence(1, 0..4, 1));
        engine.add_prefilled(sequence(2, 10..14, 1));
        run(&mut engine);
        (3..9).for_each(|id| engine.add(sequence(id, id * 100..id * 100 + 9, 1)));
        engine.finish_transfer(1);
        engine.finish_transfer(2);
        let order: Vec<u64> = run(&mut engine).iter().map(|token| token.id).collect();
        assert_eq!(order[..2], [1, 2]);
    }

    #[test]
    fn a_received_prompt_that_is_thrown_back_is_prefilled_here() {
        let mut engine = engine(12);
        engine.add(sequence(1, 50..54, 40));
        engine.begin_step();
        engine.end_step();
        engine.add_prefilled(sequence(2, 0..5, 40));
        engine.begin_step();
        engine.end_step();
        engine.finish_transfer(2);
        let tokens = run(&mut engine);
        assert!(engine.counts().preemptions > 0);
        assert_eq!(engine.begun_transfers().len(), 1);
        let of_second = tokens.iter().filter(|token| token.id == 2);
        assert_eq!(of_second.count(), 40);
    }

    #[test]
    fn prompts_from_here_and_elsewhere_are_all_served_whole_and_nothing_stays_in_use() {
        let mut random = ChaCha8Rng::seed_from_u64(12);
        let mut engine = engine(40);
        let (mut under_way, mut served) = (Vec::new(), BTreeMap::<u64, u64>::new());
        let mut aborted = BTreeSet::new();
        for id in 0..2000 {
            let family = random.random_range(0..6u64) * 100;
            let hashes = family..family + random.random_range(0..20);
            let sequence = sequence(id, hashes, random.random_range(1..40));
            served.insert(id, sequence.max_tokens);
            match random.random_bool(0.5) {
                true => engine.add_prefilled(sequence),
                false => engine.add(sequence),
            }
            // The last rounds only let come what is under way.
            let rounds = if id == 1999 {
                100_000
            } else {
                random.random_range(0..12)
            };
            for _ in 0..rounds {
                engine.begin_step();
                under_way.extend(engine.begun_transfers());
                if !under_way.is_empty() && random.random_bool(0.3) {
                    let place = random.random_range(0..under_way.len());
                    engine.finish_transfer(under_way.swap_remove(place).id);
                }
                if id < 1999 && random.random_bool(0.02) {
                    let gone = random.random_range(0..=id);
                    engine.abort(gone);
                    aborted.insert(gone);
                }
                for token in engine.end_step() {
                    *served.get_mut(&token.id).unwrap() -= 1;
                }
            }
        }
        served.retain(|id, missing| *missing > 0 && !aborted.contains(id));
        assert!(served.is_empty(), "{served:?}");
        assert!(engine.counts().preemptions > 0, "the cache was tight");
        assert!(engine.counts().received_prompt_tokens > 0);
        assert_eq!(
            (engine.running(), engine.waiting(), engine.cache_usage()),
            (0, 0, 0.0)
        );
    }
}
