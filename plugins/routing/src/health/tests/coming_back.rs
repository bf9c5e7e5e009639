//! How a rank comes back.

use super::*;

/// Answers one request after the other until the rank is in; gives how each left it.
fn ramp(scene: &mut Scene, from: u64) -> Vec<Standing> {
    let mut steps = Vec::new();
    for at in from..from + 9 {
        scene.answer(A, at, at);
        steps.push(scene.standing(A, at));
        if steps.last() == Some(&Standing::In) {
            break;
        }
    }
    steps
}

#[test]
fn after_its_time_a_rank_takes_one_request_while_nothing_is_in_flight() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    assert!((801..=1_201).contains(&opens), "{opens}");
    for (in_flight, at, admits) in [
        (0, opens - 1, false),
        (0, opens, true),
        (1, opens, false),
        (0, opens + 9_999, true),
        (1, opens + 9_999, false),
    ] {
        let given = scene.table.admits(A, in_flight, T0 + at);
        assert_eq!(given, admits, "{in_flight} in flight at {at}");
    }
}

#[test]
fn each_answer_doubles_what_a_rank_takes_until_it_is_in() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    let limits = [1, 2, 4, 8, 16].map(|limit| Standing::Ramping { limit });
    let steps = ramp(&mut scene, opens);
    assert_eq!(steps[..5], limits);
    assert_eq!(steps[5..], [Standing::In]);
}

#[test]
fn a_failed_probe_puts_out_longer() {
    let mut scene = Scene::new(1, 1);
    let mut opens = scene.put_out(A, 0);
    for plain_ms in [2_000, 4_000, 8_000, 16_000, 32_000, 50_000, 50_000] {
        assert!(scene.fail(A, Failure::Reset, opens, opens + 10));
        let length = scene.opens(A, opens + 10) - (opens + 10);
        assert!(length >= plain_ms * 8 / 10 && length <= plain_ms * 12 / 10);
        opens += 10 + length;
    }
}

#[test]
fn a_failure_while_ramping_puts_out_longer() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    scene.answer(A, opens, opens + 1);
    scene.answer(A, opens, opens + 2);
    assert!(scene.fail(A, Failure::ServerError, opens + 3, opens + 4));
    let length = scene.opens(A, opens + 4) - (opens + 4);
    assert!((1_600..=2_400).contains(&length), "{length}");
}

#[test]
fn each_minute_of_being_in_shortens_the_next_time_out_by_a_step() {
    for (minutes, plain_ms) in [(0, 8_000), (1, 4_000), (2, 2_000), (3, 1_000), (99, 1_000)] {
        let mut scene = Scene::new(1, 1);
        let mut opens = scene.put_out(A, 0);
        for _ in 0..2 {
            scene.fail(A, Failure::Reset, opens, opens);
            opens = scene.opens(A, opens);
        }
        ramp(&mut scene, opens);
        let again = opens + 10 + minutes * 60_000;
        let length = scene.put_out(A, again) - (again + 1);
        assert!(length >= plain_ms * 8 / 10 && length <= plain_ms * 12 / 10);
    }
}

#[test]
fn an_answer_while_out_lets_ramp_when_the_time_is_over() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    for at in 100..200 {
        scene.answer(A, at, at + 50);
    }
    assert_eq!(scene.standing(A, opens - 1), Standing::Out);
    assert_eq!(scene.standing(A, opens), Standing::Ramping { limit: 1 });
}

#[test]
fn first_bytes_that_left_a_rank_before_it_died_prove_nothing() {
    let mut scene = Scene::new(1, 1);
    for at in 900..903 {
        scene.fail(A, Failure::Reset, at, 1_000);
    }
    scene.answer(A, 400, 1_100);
    let opens = scene.opens(A, 1_100);
    assert_eq!(scene.standing(A, opens), Standing::Probe { limit: 1 });
}

#[test]
fn a_rank_taken_for_hung_that_answers_late_ramps() {
    let mut scene = Scene::new(1, 1);
    scene.fail(A, Failure::NoFirstByte, 0, 20_000);
    scene.answer(A, 0, 20_500);
    let opens = scene.opens(A, 20_500);
    assert_eq!(scene.standing(A, opens), Standing::Ramping { limit: 1 });
}

#[test]
fn what_stays_in_flight_for_ever_keeps_no_rank_out_for_ever() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    for (waited, limit) in [(9_999, 1), (10_000, 2), (30_000, 4)] {
        assert_eq!(scene.standing(A, opens + waited), Standing::Probe { limit });
    }
    assert_eq!(scene.standing(A, opens + 600_000), Standing::In);
}

#[test]
fn a_ramp_that_nobody_speaks_of_ends_after_a_minute() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    scene.answer(A, opens, opens + 5);
    let standing = |at| scene.standing(A, at);
    assert_eq!(standing(opens + 60_004), Standing::Ramping { limit: 1 });
    assert_eq!(standing(opens + 60_005), Standing::In);
}

#[test]
fn a_clock_set_back_by_hours_ends_a_time_out() {
    let hours = 5 * 3_600_000;
    let mut scene = Scene::new(1, 1);
    scene.put_out(A, hours);
    assert_eq!(scene.standing(A, 0), Standing::Probe { limit: 1 });
    assert!(scene.fail(A, Failure::Connect, 5, 6), "the probe failed");
    assert_eq!(scene.standing(A, 7), Standing::Out);
    let opens = scene.opens(A, 7);
    assert!(opens <= 2_406, "{opens}");
    assert_eq!(ramp(&mut scene, opens).len(), 6);
}

#[test]
fn answers_from_before_the_clock_was_set_back_hide_no_failure() {
    let hours = 5 * 3_600_000;
    for failure in [Failure::Connect, Failure::NoFirstByte] {
        let mut scene = Scene::new(1, 1);
        scene.answer(A, hours, hours);
        scene.fail(A, failure, 0, 1);
        scene.fail(A, failure, 2, 3);
        assert_eq!(scene.standing(A, 3), Standing::Out, "{failure:?}");
    }
}

#[test]
fn failures_from_before_the_clock_was_set_back_are_no_row_with_new_ones() {
    let hours = 5 * 3_600_000;
    let mut scene = Scene::new(1, 1);
    scene.fail(A, Failure::Connect, hours, hours);
    assert!(!scene.fail(A, Failure::Connect, 0, 1));
    assert!(scene.fail(A, Failure::Connect, 2, 3), "this is one");
}

#[test]
fn a_rank_heals_after_the_clock_was_set_back() {
    let hours = 5 * 3_600_000;
    let mut scene = Scene::new(1, 1);
    let mut opens = scene.put_out(A, hours);
    for _ in 0..2 {
        scene.fail(A, Failure::Reset, opens, opens);
        opens = scene.opens(A, opens);
    }
    ramp(&mut scene, opens);
    scene.answer(A, 0, 1);
    let length = scene.put_out(A, 300_000) - 300_001;
    assert!((800..=1_200).contains(&length), "{length}");
}

#[test]
fn a_clock_set_forward_ends_a_time_out() {
    let mut scene = Scene::new(1, 1);
    let opens = scene.put_out(A, 0);
    assert_eq!(
        scene.standing(A, opens + 100_000),
        Standing::Probe { limit: 11 }
    );
}
