use std::rc::Rc;

use host_tests::sim::engine::{Engine, EngineLimits, Sequence as SimSequence};
use host_tests::sim::profile::EngineProfile;

use super::*;
use crate::policy::Usage;
use crate::profile::{Profile, dense};

/// 10 ms a step, 0.1 ms a token of prefill, 1 ms a sequence that decodes, 1,000 tokens a step.
fn round_profile() -> Profile {
    Profile {
        costs: EngineProfile {
            frontend_ms: 0.0,
            frontend_token_ms: 0.0,
            step_ms: 10.0,
            prefill_token_ms: 0.1,
            attention_pair_ms: 0.0,
            decode_sequence_ms: 1.0,
            decode_context_token_ms: 0.0,
        },
        step_tokens: 1000,
        capacity_tokens: 1_000_000,
        ..dense()
    }
}

fn group(profile: Profile, ranks: usize) -> Group {
    Group::new((0..ranks).map(|_| Rank::new(profile)).collect())
}

fn request(number: usize, prompt_tokens: u64, output_tokens: u64) -> Sequence {
    Sequence::new(number, Rc::from([]), prompt_tokens, output_tokens)
}

fn with_blocks(number: usize, blocks: &[u64], prompt_tokens: u64, output_tokens: u64) -> Sequence {
    Sequence::new(number, Rc::from(blocks), prompt_tokens, output_tokens)
}

/// All that is served, with its time, when requests come at these times to these ranks.
fn serve(group: &mut Group, requests: Vec<(f64, usize, Sequence)>) -> Vec<(f64, Served)> {
    let mut requests = requests.into_iter().peekable();
    let (mut all, mut served) = (Vec::new(), Vec::new());
    loop {
        let end_ms = group.ends_ms().unwrap_or(f64::INFINITY);
        if let Some((at_ms, rank, sequence)) = requests.next_if(|r| r.0 < end_ms) {
            group.add(rank, sequence, at_ms);
        } else if end_ms.is_finite() {
            group.end_steps(&mut served);
            all.extend(served.drain(..).map(|event| (end_ms, event)));
        } else {
            return all;
        }
    }
}

/// Times of the first token and of the end of each request.
fn times(served: &[(f64, Served)], requests: usize) -> Vec<(f64, f64)> {
    let mut times = vec![(0.0, 0.0); requests];
    for (at_ms, event) in served {
        match event {
            Served::FirstToken { number } => times[*number].0 = *at_ms,
            Served::End { number, .. } => times[*number].1 = *at_ms,
        }
    }
    times
}

fn assert_times(given: &[(f64, f64)], expected: &[(f64, f64)]) {
    assert_eq!(given.len(), expected.len());
    for ((first, end), (expected_first, expected_end)) in given.iter().zip(expected) {
        let is_near = (first - expected_first).abs() < 1e-6 && (end - expected_end).abs() < 1e-6;
        assert!(is_near, "{given:?} instead of {expected:?}");
    }
}

#[test]
fn a_request_alone_is_prefilled_in_chunks_and_then_decodes() {
    // Chunks of 1,000, 1,000 and 500: 110 + 110 + 60 ms; two more tokens at 11 ms.
    let served = serve(
        &mut group(round_profile(), 1),
        vec![(5.0, 0, request(0, 2500, 3))],
    );
    assert_times(&times(&served, 1), &[(285.0, 307.0)]);
}

#[test]
fn two_requests_share_the_budget_of_a_step_decode_first() {
    // 600 alone: 70 ms. Then one decodes while 999 of the other go: 10 + 1 + 99.9; then 1 token decodes beside the
    // last: 10 + 1 + 0.1; then each has one token left, together: 12.
    let requests = vec![(0.0, 0, request(0, 600, 4)), (20.0, 0, request(1, 1000, 2))];
    let served = serve(&mut group(round_profile(), 1), requests);
    assert_times(&times(&served, 2), &[(70.0, 204.0), (192.0, 204.0)]);
}

#[test]
fn requests_that_fit_one_step_are_prefilled_together_and_one_may_stay_unfinished() {
    // 300 run alone for 40 ms; then 300 + 700 of 1,200 go in 110 ms, the other 500 in 60 ms.
    let requests = vec![
        (0.0, 0, request(0, 300, 1)),
        (1.0, 0, request(1, 300, 1)),
        (2.0, 0, request(2, 1200, 1)),
    ];
    let served = serve(&mut group(round_profile(), 1), requests);
    let expected = [(40.0, 40.0), (150.0, 150.0), (210.0, 210.0)];
    assert_times(&times(&served, 3), &expected);
}

#[test]
fn decoding_slows_with_the_context_as_it_grows() {
    let mut profile = round_profile();
    profile.costs.decode_context_token_ms = 0.01;
    // Prefill of 100: 20 ms. Then a token behind 100 others: 10 + 1 + 1, and 1.01 and 1.02.
    let served = serve(&mut group(profile, 1), vec![(0.0, 0, request(0, 100, 4))]);
    assert_times(&times(&served, 1), &[(20.0, 20.0 + 33.0 + 3.03)]);
}

#[test]
fn attention_costs_a_chunk_for_all_before_it() {
    let mut profile = round_profile();
    profile.costs.attention_pair_ms = 1e-4;
    // 1,000 tokens make 500,000 pairs; 500 more behind them 500,000 + 125,000.
    let served = serve(&mut group(profile, 1), vec![(0.0, 0, request(0, 1500, 1))]);
    assert_times(&times(&served, 1), &[(110.0 + 50.0 + 60.0 + 62.5, 282.5)]);
}

#[test]
fn a_cached_prefix_is_not_computed_again() {
    let requests = vec![
        (0.0, 0, with_blocks(0, &[1], 1000, 1)),
        (500.0, 0, with_blocks(1, &[1, 2], 1100, 1)),
    ];
    let served = serve(&mut group(round_profile(), 1), requests);
    assert_times(&times(&served, 2), &[(110.0, 110.0), (568.8, 568.8)]);
    let usage = Usage {
        prompt_tokens: 1100,
        cached_tokens: 512,
        output_tokens: 1,
    };
    assert_eq!(served.last().unwrap().1, Served::End { number: 1, usage });
}

#[test]
fn of_a_prompt_that_is_cached_whole_the_last_tokens_are_computed() {
    let twice = |number| with_blocks(number, &[1, 2], 1024, 1);
    let requests = vec![(0.0, 0, twice(0)), (500.0, 0, twice(1))];
    let served = serve(&mut group(round_profile(), 1), requests);
    // 1,024 less the last 16.
    assert_times(&times(&served, 2)[1..], &[(511.6, 511.6)]);
}

#[test]
fn a_request_without_room_waits_for_the_end_of_another() {
    let mut profile = round_profile();
    profile.capacity_tokens = 1100;
    let requests = vec![(0.0, 0, request(0, 600, 3)), (1.0, 0, request(1, 600, 1))];
    let served = serve(&mut group(profile, 1), requests);
    // 70 + 2 x 11, then 70.
    assert_times(&times(&served, 2), &[(70.0, 92.0), (162.0, 162.0)]);
}

#[test]
fn the_newest_is_thrown_back_when_answers_find_no_room_and_computed_anew() {
    let mut profile = round_profile();
    profile.capacity_tokens = 205;
    let requests = vec![(0.0, 0, request(0, 100, 8)), (0.0, 0, request(1, 100, 8))];
    let mut group = group(profile, 1);
    let served = serve(&mut group, requests);
    // 20; 10 + 1 + 10 while the second is prefilled; two steps of both fill 204 + 1 tokens: 2 x 12. The first goes on
    // alone to its eighth token: 4 x 11. The second has 100 + 3 tokens to compute anew, 20.3, and then 4 left at 11.
    assert_eq!(group.rank(0).preemptions(), 1);
    let expected = [(20.0, 109.0), (41.0, 173.3)];
    assert_times(&times(&served, 2), &expected);
    assert!(group.rank(0).cache().room_tokens() == 205);
}

#[test]
fn who_was_thrown_back_comes_before_those_that_waited() {
    let mut profile = round_profile();
    profile.capacity_tokens = 205;
    profile.step_tokens = 150;
    let requests = vec![
        (0.0, 0, request(0, 100, 8)),
        (0.0, 0, request(1, 100, 8)),
        (25.0, 0, request(2, 60, 1)),
    ];
    let served = serve(&mut group(profile, 1), requests);
    // As above until 109. Then 103 tokens of the second and 47 of the third, 25; the other 13 beside a decode, 12.3; 3 x 11.
    let expected = [(20.0, 109.0), (41.0, 179.3), (146.3, 146.3)];
    assert_times(&times(&served, 3), &expected);
}

#[test]
fn ranks_in_lockstep_wait_for_the_slowest() {
    let requests = || vec![(0.0, 0, request(0, 1000, 2)), (1.0, 1, request(1, 100, 2))];
    let served = serve(&mut group(round_profile(), 2), requests());
    // 110; then a decode beside 100 of prefill: the prefill's 20 ms; then 11.
    assert_times(&times(&served, 2), &[(110.0, 130.0), (130.0, 141.0)]);
}

/// A step-by-step engine with blocks of 16 tokens, written for another purpose: for prompts that share nothing and with
/// room for all it has to give the same times.
fn by_the_other_engine(profile: &Profile, requests: &[(f64, u64, u64)]) -> Vec<(f64, f64)> {
    let limits = EngineLimits {
        max_num_batched_tokens: profile.step_tokens,
        max_num_seqs: profile.max_sequences,
        num_gpu_blocks: 1 << 20,
    };
    let mut engine = Engine::new(limits, profile.costs);
    let mut times = vec![(0.0, 0.0); requests.len()];
    let (mut now_ms, mut next) = (0.0, 0);
    loop {
        while let Some((_, prompt_tokens, max_tokens)) =
            requests.get(next).filter(|r| r.0 <= now_ms)
        {
            engine.add(SimSequence {
                id: next as u64,
                hashes: std::sync::Arc::from([]),
                prompt_tokens: *prompt_tokens,
                max_tokens: *max_tokens,
                skips_cache: false,
            });
            next += 1;
        }
        match (engine.begin_step(), requests.get(next)) {
            (Some(step), _) => now_ms += step.as_secs_f64() * 1000.0,
            (None, Some(request)) => now_ms = request.0,
            (None, None) => return times,
        }
        for token in engine.end_step() {
            let time = &mut times[token.id as usize];
            if token.number == 0 {
                time.0 = now_ms;
            }
            if token.is_last {
                time.1 = now_ms;
            }
        }
    }
}

#[test]
fn many_requests_take_the_times_of_an_engine_that_steps_token_by_token() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut at_ms = 0.0;
        let requests: Vec<(f64, u64, u64)> = (0..60)
            .map(|_| {
                at_ms += random.f64() * 400.0;
                (at_ms, random.u64(1..20_000), random.u64(1..300))
            })
            .collect();
        let profile = Profile {
            max_sequences: 12,
            capacity_tokens: 100_000_000,
            ..dense()
        };
        let sequences = requests.iter().enumerate();
        let sequences = sequences.map(|(number, r)| (r.0, 0, request(number, r.1, r.2)));
        let served = serve(&mut group(profile, 1), sequences.collect());
        let given = times(&served, requests.len());
        let expected = by_the_other_engine(&profile, &requests);
        for (given, expected) in given.iter().zip(&expected) {
            // The other engine rounds each step to a nanosecond.
            let is_near =
                (given.0 - expected.0).abs() < 0.01 && (given.1 - expected.1).abs() < 0.01;
            assert!(is_near, "seed {seed}: {given:?}, not {expected:?}");
        }
    }
}
