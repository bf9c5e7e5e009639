use super::*;

const T0: u64 = 1_700_000_000_000;
const A: RankId = RankId(0);
const B: RankId = RankId(1);
const C: RankId = RankId(2);

/// Ranks other than `A` answer each second after `wait` milliseconds, up to `until`.
fn answering(wait: u64, until: u64) -> Patience {
    let mut patience = Patience::default();
    for at in (0..=until).step_by(1_000) {
        patience.answered(B, wait, T0 + at);
        patience.answered(C, wait / 2, T0 + at);
    }
    patience
}

fn waiting(picked: u64, expected_ms: u64) -> Waiting {
    Waiting {
        rank: A,
        picked_ms: T0 + picked,
        expected_ms,
    }
}

#[test]
fn a_rank_is_hung_when_a_request_waits_three_times_as_long_as_elsewhere() {
    // The longest wait elsewhere is 2 s, so the limit is 6 s.
    let mut patience = answering(2_000, 20_000);
    for (picked, is_hung) in [(20_000, false), (14_000, false), (13_999, true), (0, true)] {
        let oldest = waiting(picked, 0);
        assert_eq!(patience.is_hung(oldest, T0 + 20_000), is_hung, "{picked}");
    }
}

#[test]
fn nobody_is_hung_within_three_seconds() {
    let mut patience = answering(10, 20_000);
    assert!(!patience.is_hung(waiting(17_000, 0), T0 + 20_000));
    assert!(patience.is_hung(waiting(16_999, 0), T0 + 20_000));
}

#[test]
fn a_long_prompt_is_given_three_times_what_it_is_expected_to_take() {
    let mut patience = answering(1_000, 100_000);
    assert!(!patience.is_hung(waiting(40_000, 20_000), T0 + 100_000));
    assert!(patience.is_hung(waiting(39_999, 20_000), T0 + 100_000));
}

#[test]
fn a_rank_that_answered_others_since_is_not_hung() {
    let mut patience = answering(100, 20_000);
    patience.answered(A, 50, T0 + 20_000);
    assert!(!patience.is_hung(waiting(20_000, 0), T0 + 20_000));
    assert!(!patience.is_hung(waiting(0, 0), T0 + 20_000));
}

#[test]
fn nobody_is_hung_where_nobody_answers() {
    let mut patience = answering(100, 20_000);
    for now in (20_000..60_000).step_by(10) {
        assert!(!patience.is_hung(waiting(20_000, 0), T0 + now), "{now}");
    }
}

#[test]
fn peers_that_fell_silent_before_the_limit_prove_nothing() {
    // They answered after 9 s, so the limit is 27 s; all fell silent at 20 s.
    let mut patience = answering(9_000, 20_000);
    for now in (20_000..60_000).step_by(10) {
        assert!(!patience.is_hung(waiting(1_000, 0), T0 + now), "{now}");
    }
    patience.answered(C, 1, T0 + 60_000);
    assert!(patience.is_hung(waiting(1_000, 0), T0 + 60_000));
}

#[test]
fn a_single_rank_is_never_hung() {
    let mut patience = Patience::default();
    for at in (0..20_000).step_by(1_000) {
        patience.answered(A, 10, T0 + at);
    }
    for now in (20_000..40_000).step_by(100) {
        assert!(!patience.is_hung(waiting(19_500, 0), T0 + now));
    }
}

#[test]
fn a_ranks_own_waits_do_not_make_it_look_patient() {
    let mut patience = Patience::default();
    patience.answered(A, 90_000, T0);
    let mut patience = {
        for at in (0..=10_000).step_by(1_000) {
            patience.answered(B, 100, T0 + at);
        }
        patience
    };
    assert!(patience.is_hung(waiting(1, 0), T0 + 10_000));
    let other = Waiting {
        rank: B,
        ..waiting(1, 0)
    };
    patience.answered(A, 1, T0 + 10_001);
    assert!(
        !patience.is_hung(other, T0 + 10_002),
        "waits by A's measure"
    );
}

#[test]
fn half_of_a_wait_is_left_after_a_minute() {
    let wait = Wait {
        rank: A,
        wait_ms: 8_000,
        at_ms: T0,
    };
    for (age_ms, left_ms) in [
        (0, 8_000),
        (30_000, 6_000),
        (60_000, 4_000),
        (90_000, 3_000),
        (120_000, 2_000),
        (900_000, 0),
        (u64::MAX - T0, 0),
    ] {
        assert_eq!(wait.faded_ms(T0 + age_ms), left_ms, "after {age_ms}");
    }
    assert_eq!(wait.faded_ms(0), 8_000);
}

#[test]
fn a_clock_set_forward_makes_no_rank_look_hung() {
    let hour = 3_600_000;
    let mut patience = answering(100, 20_000);
    assert!(!patience.is_hung(waiting(19_000, 0), T0 + hour));
    patience.answered(B, hour, T0 + hour + 10);
    assert!(!patience.is_hung(waiting(19_000, 0), T0 + hour + 10));
    for at in 1..=5 {
        patience.answered(B, 100, T0 + hour + at * 1_000);
    }
    let later = waiting(hour + 100, 0);
    assert!(patience.is_hung(later, T0 + hour + 5_000), "as before");
}

#[test]
fn a_clock_set_back_blinds_nobody() {
    let hour = 3_600_000;
    let mut patience = answering(100, 10_000);
    for at in 0..9 {
        patience.answered(A, 100, T0 + hour + at);
        patience.answered(B, 100, T0 + hour + at);
    }
    for at in (0..=10_000).step_by(1_000) {
        patience.answered(C, 100, T0 + at);
    }
    assert!(patience.is_hung(waiting(2_000, 0), T0 + 10_000));
    assert!(!patience.is_hung(waiting(hour, 0), T0 + 10_000));
}

#[test]
fn a_rank_that_takes_a_seat_inherits_nothing() {
    let mut patience = answering(100, 20_000);
    patience.answered(A, 100, T0 + 20_000);
    patience.seat(A);
    assert!(patience.is_hung(waiting(16_000, 0), T0 + 20_000));
    patience.seat(B);
    assert!(
        patience.is_hung(waiting(16_000, 0), T0 + 20_000),
        "C answers"
    );
    patience.seat(C);
    assert!(!patience.is_hung(waiting(16_000, 0), T0 + 20_000));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Two places are enough to know the greatest of all other ranks.
        #[test]
        fn two_places_give_the_greatest_of_every_other_rank(
            answers in prop::collection::vec((0_u16..5, 0_u64..100, 0_u64..50_000), 1..60),
        ) {
            let mut places = [None; 2];
            let mut all: Vec<Wait> = Vec::new();
            let mut at_ms = T0;
            for (rank, wait, step) in answers {
                at_ms += step;
                let new = Wait { rank: RankId(rank), wait_ms: wait << 10, at_ms };
                keep(&mut places, new, |wait| wait.faded_ms(at_ms));
                all.push(new);
                for rank in (0..6).map(RankId) {
                    let others = all.iter().filter(|wait| wait.rank != rank);
                    let greatest = others.map(|wait| wait.faded_ms(at_ms)).max();
                    let given = other(&places, rank).map(|wait| wait.faded_ms(at_ms));
                    // Straight lines between the halvings let two waits of nearly the same size change places.
                    let (given, greatest) = (given.unwrap_or(0), greatest.unwrap_or(0));
                    prop_assert!(given <= greatest && given >= greatest - greatest / 8, "{given} {greatest}");
                }
            }
        }

        /// Whatever comes, and whatever the clock does.
        #[test]
        fn a_rank_alone_and_a_rank_that_just_answered_are_never_hung(
            events in prop::collection::vec((0_u16..3, any::<bool>(), any::<u64>(), any::<u64>()), 1..60),
        ) {
            let mut patience = Patience::default();
            let mut alone = Patience::default();
            for (rank, is_answer, word, now_ms) in events {
                let oldest = Waiting { rank: RankId(rank), picked_ms: word, expected_ms: word >> 40 };
                if is_answer {
                    patience.answered(RankId(rank), word, now_ms);
                    alone.answered(A, word, now_ms);
                    let since = Waiting { picked_ms: word.min(now_ms), ..oldest };
                    prop_assert!(!patience.is_hung(since, now_ms));
                }
                patience.is_hung(oldest, now_ms);
                let oldest = Waiting { rank: A, ..oldest };
                prop_assert!(!alone.is_hung(oldest, now_ms));
            }
        }
    }
}

#[test]
fn an_answer_given_just_after_the_pick_hides_a_hang_no_longer_than_a_request_may_wait() {
    let mut patience = Patience::default();
    let (hung, other) = (RankId(0), RankId(1));
    patience.answered(hung, 20, 1_005);
    let oldest = Waiting {
        rank: hung,
        picked_ms: 1_000,
        expected_ms: 0,
    };
    let mut found_ms = None;
    for now_ms in (1_010..6_000).step_by(10) {
        patience.answered(other, 20, now_ms);
        if patience.is_hung(oldest, now_ms) {
            found_ms = found_ms.or(Some(now_ms));
        }
    }
    assert_eq!(found_ms, Some(4_010));
}
