use super::super::super::scene::arrival;
use super::*;
use crate::disaggregated::policy::{DecodeWork, Leg, PairTruth};
use crate::profile::Profile;

struct Hidden;

impl PairTruth for Hidden {
    fn first_token_ms(&self, _: Leg, _: usize, _: &Arrival) -> f64 {
        panic!("a peer asked for the truth")
    }

    fn hand_over_ms(&self, _: usize, _: &Arrival) -> f64 {
        panic!("a peer asked for the truth")
    }

    fn cached_tokens(&self, _: Leg, _: usize, _: &Arrival) -> u64 {
        panic!("a peer asked for the truth")
    }

    fn decode_work(&self, _: usize) -> DecodeWork {
        panic!("a peer asked for the truth")
    }

    fn profile(&self) -> &Profile {
        panic!("a peer asked for the truth")
    }
}

fn peer(name: &str) -> EppPair {
    let setup = PairSetup {
        ratio: "2:3".parse().unwrap(),
        ranks_per_pod: 8,
        capacity_tokens: 512_000,
        block_tokens: 512,
        seed: 1,
    };
    EppPair::named(name, &setup).unwrap()
}

/// Reports of ranks with so many waiting requests each, and half of their cache in use.
fn waiting(counts: &[u32]) -> Vec<Option<RankReport>> {
    let report = |waiting: &u32| {
        Some(RankReport {
            running: 0,
            waiting: *waiting,
            kv_usage: 0.5,
            taken_ms: 0.0,
        })
    };
    counts.iter().map(report).collect()
}

fn pick(epp: &mut EppPair, number: usize, blocks: &[u64], now_ms: f64) -> Pair {
    let view = PairView {
        now_ms,
        prefill: &[None; 2],
        decode: &[None; 3],
        truth: &Hidden,
    };
    let prompt_tokens = blocks.len() as u64 * 512;
    epp.pick(&arrival(number, blocks, prompt_tokens), &view)
}

/// Scores of both kinds of ranks for a prompt of 2,048 tokens of which prefill rank 0 was sent half, with queues of 4 and 0 on
/// the prefill ranks and 0, 1 and 2 on the decode ranks, and loads of 2 and 1, and 4, 1 and 0 requests.
fn scores_of(name: &str) -> (Vec<f64>, Vec<f64>) {
    let mut epp = peer(name);
    epp.prefix.insert(&arrival(0, &[1, 2], 1024), 0);
    for (number, rank) in [(0, 0), (1, 0), (2, 1)] {
        epp.prefill.start(number, rank, 0.0);
    }
    for (number, rank) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)] {
        epp.decode.start(number, rank, 0.0);
    }
    let (_, shares) = epp.matches(&arrival(9, &[1, 2, 3, 4], 2048));
    let (of_prefill, of_decode) = shares.split_at(2);
    (
        epp.prefill_scores(of_prefill, &waiting(&[4, 0])),
        epp.decode_scores(of_decode, &waiting(&[0, 1, 2])),
    )
}

#[test]
fn the_guide_scores_busy_ranks_zero_as_shipped() {
    // Prefill: 3 * 1/2 + 0 + 2 * 0; 0 + 0 + 2 * 1. Decode: idle 1, queues 1, 1/2, 0.
    assert_eq!(
        scores_of("epp-guide"),
        (vec![1.5, 2.0], vec![1.0, 0.5, 1.0])
    );
}

#[test]
fn fixed_it_measures_both_kinds_by_the_most_requests_of_either() {
    // The most is 4, on a decode rank. Prefill: 1.5 + 2 * 2/4; 2 * 3/4 + 2. Decode: 0 + 1; 3/4 + 1/2; 1 + 0.
    assert_eq!(
        scores_of("epp-guide-fixed"),
        (vec![2.5, 3.5], vec![1.0, 1.25, 1.0])
    );
}

#[test]
fn newer_it_measures_each_kind_by_its_own_and_decodes_by_requests_alone() {
    // Prefill, of 2 at most: 1.5 + 0; 2 * 1/2 + 2. Decode, of 4: 0; 3/4; 1.
    assert_eq!(
        scores_of("epp-guide-main"),
        (vec![1.5, 3.0], vec![0.0, 0.75, 1.0])
    );
}

#[test]
fn the_sample_weighs_prefix_2_queue_1_on_both() {
    assert_eq!(
        scores_of("epp-sample"),
        (vec![1.0, 1.0], vec![1.0, 0.5, 0.0])
    );
}

#[test]
fn the_default_weighs_prefix_3_queue_2_kv_2_on_both() {
    assert_eq!(
        scores_of("epp-default"),
        (vec![2.5, 3.0], vec![3.0, 2.0, 1.0])
    );
}

#[test]
fn the_guide_always_wants_a_prefill_rank() {
    let mut epp = peer("epp-guide");
    let first = pick(&mut epp, 0, &[1, 2], 0.0);
    assert!(first.prefill.is_some());
    let again = pick(&mut epp, 1, &[1, 2], 0.0);
    assert_eq!(again.prefill, first.prefill, "3 for the prefix, 2 for idle");
}

#[test]
fn the_sample_skips_prefill_where_the_decode_rank_lacks_fewer_than_16_tokens() {
    let mut epp = peer("epp-sample");
    let first = pick(&mut epp, 0, &[1, 2], 0.0);
    assert!(first.prefill.is_some());
    let again = pick(&mut epp, 1, &[1, 2], 0.0);
    assert_eq!((again.prefill, again.decode), (None, first.decode));
    let prompt = |tokens| arrival(9, &[1, 2], tokens);
    assert!(!epp.wants_prefill(&prompt(1039), 1024));
    assert!(epp.wants_prefill(&prompt(1040), 1024));
}

#[test]
fn a_prompt_is_noted_for_both_its_ranks() {
    let mut epp = peer("epp-guide");
    let pair = pick(&mut epp, 0, &[1], 0.0);
    let (tokens, _) = epp.matches(&arrival(1, &[1], 512));
    let held: Vec<usize> = (0..5).filter(|rank| tokens[*rank] == 512).collect();
    assert_eq!(held, [pair.prefill.unwrap(), 2 + pair.decode]);
}

#[test]
fn a_prefill_rank_counts_to_the_end_as_shipped_and_to_the_response_headers_since_v0_10() {
    for (name, left) in [("epp-guide", 1), ("epp-guide-main", 0)] {
        let mut epp = peer(name);
        pick(&mut epp, 0, &[1], 0.0);
        epp.prefilled(0, 10.0);
        assert_eq!(epp.prefill.most(), left, "{name}");
        assert_eq!(epp.decode.most(), 1, "{name}");
        epp.end(0, Usage::default(), 20.0);
        assert_eq!((epp.prefill.most(), epp.decode.most()), (0, 0), "{name}");
    }
}

#[test]
fn as_shipped_a_request_of_more_than_two_minutes_counts_nowhere() {
    let mut epp = peer("epp-guide");
    let first = pick(&mut epp, 0, &[1], 0.0);
    pick(&mut epp, 1, &[2], 120_001.0);
    assert_eq!((epp.prefill.most(), epp.decode.most()), (1, 1));
    epp.end(0, Usage::default(), 120_002.0);
    assert_eq!(epp.decode.most(), 1, "{first:?}");
}
