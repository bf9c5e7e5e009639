use super::super::super::scene::arrival;
use super::*;
use crate::disaggregated::ranks::Ranks;
use crate::disaggregated::transfer::Transfer;
use crate::profile::dense;

fn peer(name: &str) -> DynamoPair {
    let setup = PairSetup {
        ratio: "2:3".parse().unwrap(),
        ranks_per_pod: 8,
        capacity_tokens: 512_000,
        block_tokens: 512,
        seed: 1,
    };
    DynamoPair::named(name, &setup).unwrap()
}

fn pick(dynamo: &mut DynamoPair, number: usize, blocks: &[u64], prompt_tokens: u64) -> Pair {
    let truth = Ranks::new(dense(), "2:3".parse().unwrap(), Transfer::NIXL);
    let view = PairView {
        now_ms: 0.0,
        prefill: &[],
        decode: &[],
        truth: &truth,
    };
    dynamo.pick(&arrival(number, blocks, prompt_tokens), &view)
}

#[test]
fn the_prefill_rank_is_the_one_with_the_least_uncached_prefill_whatever_it_decodes() {
    let mut dynamo = peer("dynamo");
    let first = pick(&mut dynamo, 0, &[1, 2], 1040);
    dynamo.prefilled(0, 1.0);
    let overlaps = dynamo.prefill.held.unbroken(&[1, 2, 3]);
    let costs = dynamo
        .prefill
        .costs(&arrival(1, &[1, 2, 3], 1536), &overlaps);
    // 96 blocks of 16 tokens, of which one rank holds 64; nothing under way on either.
    let prefill = first.prefill.unwrap();
    assert_eq!((costs[prefill], costs[1 - prefill]), (32.0, 96.0));
}

#[test]
fn prefill_counts_until_it_is_over() {
    let mut dynamo = peer("dynamo");
    let first = pick(&mut dynamo, 0, &[1], 1600);
    let prefill = first.prefill.unwrap();
    assert_eq!(dynamo.prefill.ranks[prefill].prefill_tokens, 1600);
    dynamo.prefilled(0, 1.0);
    assert_eq!(dynamo.prefill.ranks[prefill].prefill_tokens, 0);
}

#[test]
fn the_decode_rank_is_the_one_with_the_fewest_blocks_and_shared_ones_count_twice() {
    let mut dynamo = peer("dynamo");
    let picks: Vec<Pair> = (0..3)
        .map(|number| pick(&mut dynamo, number, &[1, 2], 1040))
        .collect();
    let mut decode: Vec<usize> = picks.iter().map(|pair| pair.decode).collect();
    decode.sort_unstable();
    assert_eq!(decode, [0, 1, 2], "the prefix draws none of them");
    assert_eq!(dynamo.blocks_in_use(), [65.0; 3]);
    pick(&mut dynamo, 3, &[1, 2], 1040);
    let most = dynamo.blocks_in_use().into_iter().fold(0.0, f64::max);
    assert_eq!(most, 130.0);
    for number in 0..4 {
        dynamo.end(number, Usage::default(), 9.0);
    }
    assert_eq!(dynamo.blocks_in_use(), [0.0; 3]);
}

#[test]
fn unconditionally_every_prompt_goes_through_a_prefill_rank() {
    let mut dynamo = peer("dynamo");
    pick(&mut dynamo, 0, &[1, 2], 1024);
    dynamo.first_token(0, 1.0);
    assert!(pick(&mut dynamo, 1, &[1, 2], 1024).prefill.is_some());
}

#[test]
fn conditionally_a_decode_rank_that_lacks_little_does_it_all() {
    let prompt: Vec<u64> = (0..40).collect();
    // Sent before, tokens of the next prompt: 2,048 uncached are too many, and so are 0.7 of the prompt.
    for (held, prompt_tokens, is_alone) in [
        (10, 10 * 512 + 2047, true),
        (10, 10 * 512 + 2048, false),
        (1, 1706, true),
        (1, 1707, false),
    ] {
        let mut dynamo = peer("dynamo-conditional");
        let first = pick(&mut dynamo, 0, &prompt[..held], held as u64 * 512);
        assert!(first.prefill.is_some(), "nobody holds any of it");
        dynamo.prefilled(0, 1.0);
        dynamo.first_token(0, 2.0);
        dynamo.end(0, Usage::default(), 3.0);
        let blocks = &prompt[..prompt_tokens / 512];
        let pair = pick(&mut dynamo, 1, blocks, prompt_tokens as u64);
        assert_eq!(pair.prefill.is_none(), is_alone, "{held} {prompt_tokens}");
        if is_alone {
            assert_eq!(pair.decode, first.decode);
        }
    }
}
