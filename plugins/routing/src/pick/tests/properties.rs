use proptest::collection::vec;
use proptest::prelude::*;

use super::candidate;
use crate::{Candidate, CostWeights, RankId, Work, best_first};

const WEIGHTS: CostWeights = CostWeights {
    miss_weight: None,
    prefill_tokens_per_second: 20_000.0,
    in_flight_seconds: 0.01,
    leg_seconds: 0.02,
};
const PROMPT_TOKENS: u64 = 4000;

/// What a rank carries and holds.
#[derive(Clone, Copy, Debug)]
struct Rank {
    pod: u8,
    queued_tokens: u64,
    in_flight: u32,
    matched_tokens: u64,
}

fn ranks() -> impl Strategy<Value = Vec<Rank>> {
    let rank = (0u8..4, 0u64..3000, 0u32..4, 0..=PROMPT_TOKENS).prop_map(
        |(pod, queued_tokens, in_flight, matched)| Rank {
            pod,
            queued_tokens,
            in_flight,
            // Few different values, so that near-equal costs are frequent.
            matched_tokens: matched / 1000 * 1000,
        },
    );
    vec(rank, 1..12)
}

fn candidates(ranks: &[Rank]) -> Vec<Candidate> {
    let price = |rank: &Rank| {
        let work = Work {
            queued_tokens: rank.queued_tokens,
            uncached_tokens: PROMPT_TOKENS - rank.matched_tokens,
            miss_weight: 3.0,
            held_tokens: PROMPT_TOKENS * u64::from(rank.in_flight),
            in_use: 0.5,
            in_flight: rank.in_flight,
        };
        WEIGHTS.cost(&work).total_seconds()
    };
    (0u16..)
        .zip(ranks)
        .map(|(number, rank)| candidate(number, rank.pod, price(rank)))
        .collect()
}

fn first(ranks: &[Rank], anchor: u64) -> RankId {
    best_first(&candidates(ranks), anchor)[0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        (one, other) in ranks().prop_map(|ranks| candidates(&ranks)).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        anchor: u64,
    ) {
        prop_assert_eq!(best_first(&one, anchor), best_first(&other, anchor));
    }

    #[test]
    fn more_load_never_attracts(
        mut ranks in ranks(), anchor: u64, at: prop::sample::Index, tokens in 0u64..3000, requests in 0u32..4,
    ) {
        let before = first(&ranks, anchor);
        let at = at.index(ranks.len());
        ranks[at].queued_tokens += tokens;
        ranks[at].in_flight += requests;
        let after = first(&ranks, anchor);
        prop_assert!(after == before || after.index() != at, "rank {at} was picked for its load");
    }

    #[test]
    fn more_match_never_repels(mut ranks in ranks(), anchor: u64, at: prop::sample::Index, tokens in 0u64..4000) {
        let before = first(&ranks, anchor);
        let at = at.index(ranks.len());
        ranks[at].matched_tokens = (ranks[at].matched_tokens + tokens).min(PROMPT_TOKENS);
        let after = first(&ranks, anchor);
        prop_assert!(before.index() != at || after.index() == at, "rank {at} was left for its match");
    }

    #[test]
    fn named_ranks_differ_and_cover_the_pods(ranks in ranks(), anchor: u64) {
        let named = best_first(&candidates(&ranks), anchor);
        prop_assert_eq!(named.len(), ranks.len().min(3));
        let distinct = |mut all: Vec<u16>| { all.sort_unstable(); all.dedup(); all.len() };
        prop_assert_eq!(distinct(named.iter().map(|rank| rank.0).collect()), named.len());
        let pods = distinct(ranks.iter().map(|rank| u16::from(rank.pod)).collect());
        let named_pods = distinct(named.iter().map(|rank| u16::from(ranks[rank.index()].pod)).collect());
        prop_assert_eq!(named_pods, pods.min(3));
    }
}
