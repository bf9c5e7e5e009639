//! When a rank goes out.

use super::*;

#[test]
fn rows_of_failures_worth_six_points_put_a_rank_out() {
    use Failure::{Connect, NoFirstByte, Reset, ServerError};
    for row in [
        &[Connect, Connect][..],
        &[Connect, Reset],
        &[ServerError, Connect],
        &[Reset, Reset, Reset],
        &[ServerError, ServerError, ServerError],
        &[Reset, ServerError, Reset],
        &[NoFirstByte],
    ] {
        let mut scene = Scene::new(1, 1);
        for (at, failure) in (0..).step_by(500).zip(row) {
            assert_eq!(scene.standing(A, at), Standing::In, "{row:?}");
            scene.fail(A, *failure, at, at + 1);
        }
        let end = u64::try_from(row.len()).unwrap() * 500;
        assert_eq!(scene.standing(A, end), Standing::Out, "{row:?}");
    }
}

#[test]
fn flaky_resets_between_answers_put_nothing_out() {
    let mut scene = Scene::new(1, 1);
    for at in (0..100_000).step_by(100) {
        assert!(!scene.fail(A, Failure::Reset, at, at + 1));
        assert!(!scene.fail(A, Failure::Reset, at, at + 2));
        assert!(scene.answer(A, at, at + 50));
    }
    assert_eq!(scene.standing(A, 100_000), Standing::In);
}

#[test]
fn a_failure_after_a_minute_starts_a_new_row() {
    let mut scene = Scene::new(1, 1);
    for at in (0..10).map(|count| count * 60_000) {
        assert!(!scene.fail(A, Failure::Connect, at, at));
    }
    assert!(scene.fail(A, Failure::Connect, 540_000, 599_999));
}

#[test]
fn fifty_requests_that_die_at_once_are_one_time_out() {
    let mut scene = Scene::new(1, 1);
    for picked in 0..50 {
        scene.fail(A, Failure::Reset, picked, 1_000);
    }
    let opens = scene.opens(A, 1_000);
    assert!((1_800..=2_200).contains(&opens), "{opens}");
    let mut late = 50;
    while late < 60 {
        scene.fail(A, Failure::Reset, late, opens + 5);
        late += 1;
    }
    assert_eq!(
        scene.standing(A, opens + 5),
        Standing::Probe { limit: 1 },
        "requests from before say nothing about the rank now"
    );
}

#[test]
fn a_server_that_shuts_down_goes_out_though_it_answers_old_requests() {
    let mut scene = Scene::new(1, 1);
    scene.fail(A, Failure::Connect, 1_000, 1_001);
    scene.answer(A, 500, 1_100);
    assert!(scene.fail(A, Failure::Connect, 1_200, 1_201));
    let opens = scene.opens(A, 1_201);
    scene.answer(A, 600, opens + 1);
    assert_eq!(scene.standing(A, opens + 1), Standing::Probe { limit: 1 });
}

#[test]
fn a_connect_that_failed_once_is_disproved_by_a_later_request() {
    let mut scene = Scene::new(1, 1);
    scene.fail(A, Failure::Connect, 1_000, 1_001);
    assert!(scene.answer(A, 1_002, 1_100));
    assert!(!scene.fail(A, Failure::Connect, 1_200, 1_201));
    assert_eq!(scene.standing(A, 1_201), Standing::In);
}

#[test]
fn a_request_that_makes_servers_fail_puts_no_busy_rank_out() {
    let mut scene = Scene::new(1, 1);
    for at in (10_000..20_000).step_by(10) {
        scene.fail(A, Failure::ServerError, at, at + 2);
        scene.answer(A, at - 9_000, at + 5);
    }
    assert_eq!(scene.standing(A, 20_000), Standing::In);
}

#[test]
fn a_failure_heard_of_after_a_later_answer_counts_for_nothing() {
    let mut scene = Scene::new(1, 1);
    scene.answer(A, 90, 105);
    for _ in 0..9 {
        let failure = attempt(80, 100);
        for kind in [Failure::Reset, Failure::NoFirstByte] {
            let verdict = scene.table.failed(A, kind, failure, T0 + 110);
            assert_eq!(verdict, Verdict::Noted);
        }
    }
    assert!(!scene.fail(A, Failure::Connect, 80, 110));
    assert_eq!(scene.standing(A, 110), Standing::In);
}

#[test]
fn only_answers_that_change_something_are_news() {
    let mut scene = Scene::new(2, 1);
    assert!(!scene.answer(A, 0, 10));
    scene.fail(A, Failure::Reset, 0, 20);
    assert!(scene.answer(A, 0, 30));
    assert!(!scene.answer(A, 0, 31));
    assert!(!scene.answer(B, 0, 31));
}

#[test]
fn a_fail_fast_rank_that_always_looks_idle_gets_the_probes_alone() {
    let mut scene = Scene::new(4, 1);
    let mut sent = [0_u32; 4];
    // A request each 10 ms for ten minutes. The living take 1 s each; the cost of a rank is what is in flight on it.
    let mut ends: Vec<(u64, usize)> = Vec::new();
    for at in (0..600_000).step_by(10) {
        ends.retain(|(end, _)| *end > at);
        let in_flight = |rank: usize| ends.iter().filter(|(_, on)| *on == rank).count();
        let admitted = (0..4_u16).filter(|&rank| {
            let in_flight = u32::try_from(in_flight(usize::from(rank))).unwrap();
            scene.table.admits(RankId(rank), in_flight, T0 + at)
        });
        let best = admitted
            .map(usize::from)
            .min_by_key(|&rank| in_flight(rank));
        let best = best.unwrap();
        sent[best] += 1;
        let rank = RankId(u16::try_from(best).unwrap());
        if best == 0 {
            scene.fail(rank, Failure::ServerError, at, at + 1);
        } else {
            ends.push((at + 1_000, best));
            scene.answer(rank, at, at + 1);
        }
    }
    // 3 to go out, then probes after 1, 2, 4, 8, 16, 32 and each 40 to 60 s.
    assert!((3 + 6..=3 + 6 + 14).contains(&sent[0]), "{sent:?}");
    assert!(sent[1..].iter().all(|&sent| sent > 15_000), "{sent:?}");
}
