use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const LIMITS: EngineLimits = EngineLimits {
    max_num_batched_tokens: 256,
    max_num_seqs: 4,
    num_gpu_blocks: 100,
};

fn engine() -> Engine {
    Engine::new(LIMITS, EngineProfile::default())
}

/// A prompt of whole blocks with these hashes.
fn sequence(id: u64, hashes: impl IntoIterator<Item = u64>, max_tokens: u64) -> Sequence {
    let hashes: Arc<[u64]> = hashes.into_iter().collect();
    Sequence {
        id,
        prompt_tokens: hashes.len() as u64 * BLOCK_TOKENS,
        hashes,
        max_tokens,
        skips_cache: false,
    }
}

/// Runs until nothing is left; gives all tokens and the time it took.
fn run(engine: &mut Engine) -> (Vec<Token>, Duration) {
    let (mut tokens, mut time) = (Vec::new(), Duration::ZERO);
    while let Some(step) = engine.begin_step() {
        time += step;
        tokens.extend(engine.end_step());
    }
    (tokens, time)
}

fn cached(tokens: &[Token], id: u64) -> u64 {
    tokens.iter().find(|token| token.id == id).unwrap().cached
}

#[test]
fn a_request_gets_all_its_tokens_and_leaves_nothing_in_use() {
    let mut engine = engine();
    engine.add(sequence(1, 0..10, 5));
    let (tokens, _) = run(&mut engine);
    assert_eq!(
        tokens.iter().map(|token| token.number).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(tokens.iter().filter(|token| token.is_last).count(), 1);
    assert_eq!(
        (engine.running(), engine.waiting(), engine.cache_usage()),
        (0, 0, 0.0)
    );
    assert_eq!(engine.counts().generation_tokens, 5);
    assert_eq!(engine.counts().prompt_tokens, 160);
}

#[test]
fn the_second_time_all_but_the_last_block_is_cached() {
    let mut engine = engine();
    engine.add(sequence(1, 0..10, 1));
    let (cold, cold_time) = run(&mut engine);
    engine.add(sequence(2, 0..10, 1));
    let (warm, warm_time) = run(&mut engine);
    assert_eq!((cached(&cold, 1), cached(&warm, 2)), (0, 144));
    assert!(warm_time < cold_time);
    assert_eq!((engine.counts().queries, engine.counts().hits), (320, 144));
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_and_the_first_come_is_first_served() {
    let mut engine = engine();
    engine.add(sequence(1, 0..40, 1));
    engine.add(sequence(2, 100..110, 1));
    let mut order = Vec::new();
    let mut steps = 0;
    while engine.begin_step().is_some() {
        steps += 1;
        order.extend(engine.end_step().iter().map(|token| token.id));
    }
    assert_eq!(order, [1, 2]);
    assert_eq!(steps, 4, "640 and 160 tokens in steps of 256");
}

#[test]
fn no_more_sequences_run_than_allowed() {
    let mut engine = engine();
    (0..6).for_each(|id| engine.add(sequence(id, [id * 10], 3)));
    engine.begin_step();
    assert_eq!((engine.running(), engine.waiting()), (4, 2));
    engine.end_step();
    assert_eq!(run(&mut engine).0.len() + 4, 18);
}

#[test]
fn a_batch_makes_each_token_slower_but_all_of_them_faster() {
    let mut alone = engine();
    alone.add(sequence(1, 0..2, 50));
    let (_, one) = run(&mut alone);
    let mut batch = engine();
    (0..4).for_each(|id| batch.add(sequence(id, [id, id + 100], 50)));
    let (_, four) = run(&mut batch);
    assert!(
        four > one && four < one * 4,
        "{one:?} alone, {four:?} for four"
    );
}

#[test]
fn a_prompt_that_skips_the_cache_is_computed_whole_and_stays_in_it() {
    let mut engine = engine();
    let skips = |id| Sequence {
        skips_cache: true,
        ..sequence(id, 0..10, 1)
    };
    engine.add(skips(1));
    let (_, first) = run(&mut engine);
    engine.add(skips(2));
    let (tokens, second) = run(&mut engine);
    assert_eq!((cached(&tokens, 2), second), (0, first));
    assert_eq!(engine.counts().queries, 0);
    engine.add(sequence(3, 0..10, 1));
    let (tokens, third) = run(&mut engine);
    assert!(cached(&tokens, 3) == 144 && third < second, "{tokens:?}");
    assert_eq!(engine.counts().queries, 160);
}

#[test]
fn an_aborted_request_frees_its_blocks_but_leaves_its_prefix() {
    let mut engine = engine();
    engine.add(sequence(1, 0..10, 50));
    engine.begin_step();
    engine.end_step();
    assert!(engine.cache_usage() > 0.0);
    engine.abort(1);
    assert_eq!((engine.running(), engine.cache_usage()), (0, 0.0));
    assert!(engine.begin_step().is_none());
    engine.add(sequence(2, 0..10, 1));
    assert_eq!(cached(&run(&mut engine).0, 2), 144);
}

#[test]
fn a_request_aborted_while_a_step_runs_makes_no_token() {
    let mut engine = engine();
    engine.add(sequence(1, 0..4, 5));
    engine.begin_step();
    engine.abort(1);
    assert_eq!(engine.end_step(), []);
}

#[test]
fn when_the_cache_is_full_the_last_is_thrown_back_and_still_served_whole() {
    let mut engine = Engine::new(
        EngineLimits {
            num_gpu_blocks: 12,
            ..LIMITS
        },
        EngineProfile::default(),
    );
    engine.add(sequence(1, 0..5, 40));
    engine.add(sequence(2, 50..55, 40));
    let (tokens, _) = run(&mut engine);
    assert!(engine.counts().preemptions > 0);
    for id in [1, 2] {
        let numbers: Vec<u64> = tokens
            .iter()
            .filter(|token| token.id == id)
            .map(|token| token.number)
            .collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "sequence {id}");
    }
    assert_eq!(
        engine.counts().queries,
        160,
        "a sequence that was thrown back is not counted again"
    );
}

#[test]
fn the_longest_unused_prefix_goes_when_another_needs_its_room() {
    let mut engine = Engine::new(
        EngineLimits {
            num_gpu_blocks: 20,
            ..LIMITS
        },
        EngineProfile::default(),
    );
    for (id, first) in [(1, 0), (2, 50), (3, 100)] {
        engine.add(sequence(id, first..first + 9, 1));
        run(&mut engine);
    }
    engine.add(sequence(4, 100..109, 1));
    engine.add(sequence(5, 0..9, 1));
    let (tokens, _) = run(&mut engine);
    assert_eq!(cached(&tokens, 4), 128);
    assert_eq!(cached(&tokens, 5), 32, "all but its first two blocks went");
}

/// Room for 20 blocks, and steps that take every prompt in one chunk.
fn engine_for_whole_prompts() -> Engine {
    let limits = EngineLimits {
        max_num_batched_tokens: 1000,
        num_gpu_blocks: 20,
        ..LIMITS
    };
    Engine::new(limits, EngineProfile::default())
}

#[test]
fn a_request_that_waits_for_room_leaves_no_prefix_that_nobody_computed() {
    let mut engine = engine_for_whole_prompts();
    engine.add(sequence(1, 0..12, 30));
    engine.add(sequence(2, 50..60, 1));
    let (tokens, _) = run(&mut engine);
    assert_eq!(cached(&tokens, 2), 0);
    assert_eq!(engine.counts().preemptions, 0);
}

#[test]
fn a_request_that_waits_for_room_evicts_nothing() {
    let mut engine = engine_for_whole_prompts();
    engine.add(sequence(1, 100..107, 1));
    run(&mut engine);
    engine.add(sequence(2, 0..12, 10));
    engine.add(sequence(3, 50..60, 1));
    engine.begin_step();
    engine.end_step();
    engine.abort(3);
    run(&mut engine);
    engine.add(sequence(4, 100..107, 1));
    assert_eq!(cached(&run(&mut engine).0, 4), 96);
}

#[test]
fn a_prompt_is_not_begun_before_the_whole_of_it_has_room() {
    let limits = EngineLimits {
        num_gpu_blocks: 20,
        ..LIMITS
    };
    let mut engine = Engine::new(limits, EngineProfile::default());
    engine.add(sequence(1, 0..8, 5));
    engine.add(sequence(2, 50..64, 1));
    engine.begin_step();
    assert_eq!((engine.running(), engine.waiting()), (1, 1));
    engine.end_step();
    assert_eq!(run(&mut engine).0.len(), 5);
}

#[test]
fn computed_and_cached_prompt_tokens_add_up() {
    let mut engine = engine();
    for id in [1, 2] {
        engine.add(sequence(id, 0..10, 3));
        run(&mut engine);
    }
    let counts = engine.counts();
    assert_eq!(
        (counts.prompt_tokens, counts.computed_prompt_tokens),
        (320, 176)
    );
}

#[test]
fn whatever_comes_and_goes_everybody_is_served_whole_and_nothing_stays_in_use() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let limits = EngineLimits {
        num_gpu_blocks: 40,
        ..LIMITS
    };
    let mut engine = Engine::new(limits, EngineProfile::default());
    let (mut expected, mut tokens) = (std::collections::BTreeMap::new(), Vec::new());
    for id in 0..2000 {
        let family = random.random_range(0..6u64) * 100;
        let blocks = random.random_range(1..25);
        let max_tokens = random.random_range(1..60);
        engine.add(sequence(id, family..family + blocks, max_tokens));
        expected.insert(id, max_tokens);
        for _ in 0..random.random_range(0..12) {
            engine.begin_step();
            if random.random_bool(0.02) {
                let gone = random.random_range(0..=id);
                engine.abort(gone);
                expected.remove(&gone);
            }
            tokens.extend(engine.end_step());
        }
    }
    tokens.extend(run(&mut engine).0);
    for (id, max_tokens) in expected {
        let numbers = tokens.iter().filter(|token| token.id == id);
        let numbers: Vec<u64> = numbers.map(|token| token.number).collect();
        assert_eq!(
            numbers,
            (0..max_tokens).collect::<Vec<_>>(),
            "sequence {id}"
        );
    }
    assert!(engine.counts().preemptions > 0, "the cache was tight");
    assert_eq!(
        (engine.running(), engine.waiting(), engine.cache_usage()),
        (0, 0, 0.0)
    );
}
