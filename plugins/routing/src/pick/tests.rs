use super::*;
use crate::hash_bytes;

#[cfg(not(target_arch = "wasm32"))]
mod properties;

fn candidate(rank: u16, pod: u8, cost_seconds: f64) -> Candidate {
    Candidate {
        rank: RankId(rank),
        pod: IpAddr::from([10, 0, 0, pod]),
        address_hash: hash_bytes(&[pod, u8::try_from(rank).unwrap()]),
        cost_seconds,
    }
}

#[test]
fn the_cheapest_comes_first_and_fallbacks_leave_its_pod() {
    let ranks = [
        candidate(0, 1, 0.9),
        candidate(1, 1, 0.1),
        candidate(2, 1, 0.2),
        candidate(3, 2, 0.5),
    ];
    assert_eq!(best_first(&ranks, 7), [RankId(1), RankId(3), RankId(2)]);
}

#[test]
fn one_rank_has_no_fallback_and_no_rank_no_pick() {
    assert_eq!(best_first(&[candidate(4, 1, 3.0)], 7), [RankId(4)]);
    assert_eq!(best_first(&[], 7), []);
}

#[test]
fn ties_follow_the_anchor_and_not_the_position() {
    let ranks: Vec<Candidate> = (0..8).map(|rank| candidate(rank, 1, 0.25)).collect();
    let mut reversed = ranks.clone();
    reversed.reverse();
    let firsts: Vec<RankId> = (0..64)
        .filter_map(|anchor| best_first(&ranks, anchor).first().copied())
        .collect();
    for (anchor, first) in (0..64).zip(&firsts) {
        assert_eq!(best_first(&reversed, anchor).first(), Some(first));
    }
    let distinct = (0..8)
        .filter(|&rank| firsts.contains(&RankId(rank)))
        .count();
    assert!(
        distinct >= 6,
        "64 anchors reach only {distinct} of 8 equal ranks"
    );
}

#[test]
fn a_cost_that_is_not_a_number_is_never_first() {
    let ranks = [candidate(0, 1, f64::NAN), candidate(1, 1, 9.0)];
    assert_eq!(best_first(&ranks, 1).first(), Some(&RankId(1)));
}

#[test]
fn without_another_pod_fallbacks_stay_on_the_same() {
    let ranks = [
        candidate(0, 1, 0.3),
        candidate(1, 1, 0.1),
        candidate(2, 1, 0.2),
        candidate(3, 1, 0.4),
    ];
    assert_eq!(best_first(&ranks, 7), [RankId(1), RankId(2), RankId(0)]);
}

#[test]
fn every_fallback_is_on_a_pod_of_its_own_when_there_are_enough() {
    let ranks = [
        candidate(0, 1, 0.1),
        candidate(1, 1, 0.2),
        candidate(2, 2, 8.0),
        candidate(3, 3, 9.0),
    ];
    assert_eq!(best_first(&ranks, 7), [RankId(0), RankId(2), RankId(3)]);
}

#[test]
fn costs_a_step_apart_are_equal_and_more_is_not() {
    let is_reached = |cost: f64| {
        let ranks = [candidate(0, 1, 1.0), candidate(1, 2, cost)];
        (0..64).any(|anchor| best_first(&ranks, anchor).first() == Some(&RankId(1)))
    };
    assert!(is_reached(1.0049));
    assert!(!is_reached(1.0051));
}

#[test]
fn infinite_costs_are_equal() {
    let ranks = [
        candidate(0, 1, f64::INFINITY),
        candidate(1, 2, f64::INFINITY),
    ];
    assert_eq!(best_first(&ranks, 1).len(), 2);
}
