use super::super::Missing;
use super::*;

const HERE: Deliverer = (RankId(0), 0);
const THERE: Deliverer = (RankId(1), 0);

const HIT: Evidence = Evidence::There { share: 3 };
const MISS: Evidence = Evidence::Missing(Missing {
    share: 20,
    sent_share: 3000,
    is_below_half: true,
});
/// A miss that moves the room and raises no doubt.
const SMALL_MISS: Evidence = Evidence::Missing(Missing {
    share: 20,
    sent_share: 3000,
    is_below_half: false,
});

fn with(kind: u64, hits: usize, by: Deliverer) -> Kinds {
    let mut kinds = Kinds::default();
    for _ in 0..hits {
        assert_eq!(kinds.judge(kind, by, HIT), HIT);
    }
    kinds
}

#[test]
fn misses_of_a_kind_that_never_delivers_say_nothing() {
    let mut kinds = with(1, 9, THERE);
    for _ in 0..100 {
        assert_eq!(kinds.judge(2, HERE, MISS), Evidence::None);
    }
    assert_eq!(kinds.records.len(), 1, "and take no place");
}

#[test]
fn two_misses_right_behind_the_first_delivery_of_a_kind_are_believed() {
    for by in [HERE, THERE] {
        let mut kinds = with(1, 1, by);
        let believed = [MISS, MISS].map(|miss| kinds.judge(1, HERE, miss));
        assert_eq!(believed, [MISS, MISS]);
    }
}

#[test]
fn a_kind_that_delivered_only_on_this_rank_before_it_was_forgotten_is_no_proof() {
    let mut kinds = with(1, 9, HERE);
    let forgotten_once = (HERE.0, 1);
    assert_eq!(kinds.judge(1, forgotten_once, MISS), SMALL_MISS);
    kinds.judge(1, forgotten_once, HIT);
    assert_eq!(kinds.judge(1, forgotten_once, MISS), MISS);
}

#[test]
fn a_kind_that_delivers_on_another_rank_is_proof_though_this_rank_delivered_last() {
    let mut kinds = with(1, 2, THERE);
    kinds.judge(1, HERE, HIT);
    assert_eq!(kinds.judge(1, (HERE.0, 1), MISS), MISS);
}

#[test]
fn a_kind_that_delivers_every_second_time_moves_rooms_and_raises_no_doubt() {
    let mut kinds = with(1, 1, THERE);
    for _ in 0..40 {
        kinds.judge(1, HERE, MISS);
        kinds.judge(1, THERE, HIT);
    }
    for _ in 0..40 {
        assert_eq!(kinds.judge(1, HERE, MISS), SMALL_MISS);
        kinds.judge(1, THERE, HIT);
    }
}

#[test]
fn a_kind_that_delivers_no_longer_is_not_believed_any_more_and_is_again_when_it_does() {
    let mut kinds = with(1, 40, THERE);
    let misses: Vec<Evidence> = (0..200).map(|_| kinds.judge(1, HERE, MISS)).collect();
    assert_eq!((misses[0], misses[199]), (MISS, Evidence::None));
    (0..60).for_each(|_| {
        kinds.judge(1, THERE, HIT);
    });
    assert_eq!(kinds.judge(1, HERE, MISS), MISS);
}

#[test]
fn kinds_that_a_client_invents_do_not_push_out_one_that_goes_on() {
    // New from each delivery to the next, or used often; the kind that goes on is new as well, or was there long before.
    for (uses, before) in [(1, 1), (1, 32), (3, 1), (40, 1), (40, 1000)] {
        let mut kinds = with(1, before, THERE);
        for number in 0..60_000 {
            kinds.judge(100 + number / uses, HERE, HIT);
            assert!(kinds.records.len() <= MOST_KINDS);
            if number % 100 == 0 {
                kinds.judge(1, THERE, HIT);
            }
        }
        assert_eq!(kinds.judge(1, HERE, MISS), MISS, "{uses} uses");
    }
}

#[test]
fn a_kind_that_was_pushed_out_is_believed_from_its_next_delivery_on() {
    let mut kinds = with(1, 1, THERE);
    (100..500).for_each(|invented| {
        kinds.judge(invented, HERE, HIT);
    });
    assert_eq!(kinds.judge(1, HERE, MISS), Evidence::None);
    kinds.judge(1, THERE, HIT);
    assert_eq!(kinds.judge(1, HERE, MISS), MISS);
}

#[test]
fn kinds_that_come_no_more_make_room() {
    let mut kinds = Kinds::default();
    for kind in 0..128 {
        (0..1000).for_each(|_| {
            kinds.judge(kind, HERE, HIT);
        });
    }
    // As many others follow.
    for number in 0..20 * FADING {
        kinds.judge(1000 + number % 128, HERE, HIT);
    }
    assert!(kinds.records.iter().all(|record| record.kind >= 1000));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_comes_the_table_is_bounded_and_nothing_is_believed_that_was_not_said(
            answers in vec((0u64..100, 0u16..4, 0u16..3, 0u8..4), 0..2000)
        ) {
            let mut kinds = Kinds::default();
            for (kind, rank, life, evidence) in answers {
                let evidence = [HIT, MISS, SMALL_MISS, Evidence::None][usize::from(evidence)];
                let believed = kinds.judge(kind, (RankId(rank), life), evidence);
                let may_be = match evidence {
                    MISS => vec![MISS, SMALL_MISS, Evidence::None],
                    said => vec![said],
                };
                prop_assert!(may_be.contains(&believed), "{evidence:?} became {believed:?}");
                prop_assert!(kinds.records.len() <= MOST_KINDS);
                prop_assert!(kinds.records.iter().all(|r| r.share <= WHOLE && (FIRST..=MEMORY).contains(&r.answers)));
            }
        }
    }
}
