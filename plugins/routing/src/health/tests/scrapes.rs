//! What scrapes say of a rank's health.

use super::*;

/// Each rank's page is read or not, every second, in order; `true` for those that can be read.
fn round(scene: &mut Scene, good: &[bool], at: u64) {
    for (rank, &is_good) in (0..).map(RankId).zip(good) {
        scene.scrape(rank, is_good, at);
    }
}

#[test]
fn three_failed_scrapes_in_a_row_put_a_rank_out() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    for (at, standings) in [(1_000, "IIII"), (2_000, "IIII"), (3_000, "OIII")] {
        round(&mut scene, &[false, true, true, true], at);
        assert_eq!(scene.standings(at), standings);
    }
}

#[test]
fn a_page_that_was_never_read_puts_nothing_out() {
    let mut scene = Scene::new(4, 1);
    for at in (0..60_000).step_by(1_000) {
        round(&mut scene, &[false, true, true, true], at);
    }
    assert_eq!(scene.standings(60_000), "IIII");
}

#[test]
fn pages_that_nearly_all_fail_show_a_broken_scraper() {
    let mut scene = Scene::new(8, 1);
    round(&mut scene, &[true; 8], 0);
    for at in (1_000..60_000).step_by(1_000) {
        round(&mut scene, &[false; 8], at);
    }
    assert_eq!(scene.standings(60_000), "IIIIIIII");
    let mut good = [true; 8];
    good[0] = false;
    round(&mut scene, &good, 60_000);
    round(&mut scene, &good, 61_000);
    assert_eq!(scene.standings(61_000), "OIIIIIII");
}

#[test]
fn three_quarters_of_the_ranks_may_really_be_dead() {
    let mut scene = Scene::new(8, 1);
    round(&mut scene, &[true; 8], 0);
    let good = [false, false, false, false, false, false, true, true];
    (1..4).for_each(|second| round(&mut scene, &good, second * 1_000));
    assert_eq!(scene.standings(3_000), "OOOOOOII");
}

#[test]
fn ranks_that_left_do_not_count_among_the_failing() {
    let mut scene = Scene::new(8, 1);
    round(&mut scene, &[true; 8], 0);
    round(
        &mut scene,
        &[false, false, false, false, false, false, true, true],
        1_000,
    );
    (1..6).for_each(|rank| scene.table.leave(RankId(rank)));
    assert_eq!((scene.table.scraped, scene.table.unscraped), (3, 1));
}

#[test]
fn a_request_that_is_answered_outweighs_failed_scrapes() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    for at in (1_000..60_000).step_by(1_000) {
        round(&mut scene, &[false, true, true, true], at);
        scene.answer(A, at, at + 500);
    }
    assert_eq!(scene.standings(60_000), "IIII");
}

#[test]
fn a_page_that_is_closed_later_costs_one_time_out() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    let mut out_seconds = 0;
    for at in (1_000..300_000).step_by(1_000) {
        round(&mut scene, &[false, true, true, true], at);
        out_seconds += usize::from(scene.standings(at).starts_with('O'));
        if at > 10_000 && scene.table.admits(A, 0, T0 + at + 500) {
            scene.answer(A, at + 500, at + 510);
        }
    }
    assert!((1..3).contains(&out_seconds), "{out_seconds} s");
    assert_eq!(scene.standings(300_000), "IIII");
}

#[test]
fn failing_scrapes_probe_in_place_of_requests_once_a_request_failed_too() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    (1..4).for_each(|second| round(&mut scene, &[false, true, true, true], second * 1_000));
    let opens = scene.opens(A, 3_000);
    round(&mut scene, &[false, true, true, true], opens);
    assert_eq!(scene.standing(A, opens), Standing::Probe { limit: 1 });
    scene.fail(A, Failure::Connect, opens, opens);
    let mut open_seconds = 0;
    for at in (5_000..600_000).step_by(1_000) {
        round(&mut scene, &[false, true, true, true], at);
        open_seconds += usize::from(!scene.standings(at).starts_with('O'));
    }
    assert_eq!(open_seconds, 0);
}

#[test]
fn a_page_that_is_read_again_opens_a_rank_but_does_not_let_it_in() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    (1..4).for_each(|second| round(&mut scene, &[false, true, true, true], second * 1_000));
    assert_eq!(scene.standings(3_001), "OIII");
    assert!(scene.scrape(A, true, 3_002));
    assert_eq!(scene.standing(A, 3_002), Standing::Probe { limit: 1 });
    for count in 0..9 {
        scene.scrape(A, true, 3_003 + count);
    }
    assert_eq!(scene.standing(A, 3_020), Standing::Probe { limit: 1 });
}

#[test]
fn a_rank_that_is_out_because_of_requests_waits_though_its_page_can_be_read() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    scene.fail(A, Failure::NoFirstByte, 0, 1_000);
    for at in 1_100..1_700 {
        scene.scrape(A, true, at);
    }
    assert_eq!(scene.standing(A, 1_700), Standing::Out);
}

#[test]
fn a_restarted_rank_is_probed_when_its_page_can_be_read_again() {
    let mut scene = Scene::new(4, 1);
    round(&mut scene, &[true; 4], 0);
    let mut at = 500;
    scene.put_out(A, at);
    for _ in 0..200 {
        at += 1_000;
        round(&mut scene, &[false, true, true, true], at);
    }
    assert_eq!(scene.standing(A, at), Standing::Out);
    round(&mut scene, &[true; 4], at + 1);
    assert_eq!(scene.standing(A, at + 1), Standing::Probe { limit: 1 });
    assert_eq!(scene.standings(at + 1), "PIII");
}

#[test]
fn the_first_page_and_the_first_after_failures_are_news() {
    let mut scene = Scene::new(2, 1);
    assert!(scene.scrape(A, true, 0));
    assert!(!scene.scrape(A, true, 1_000));
    scene.scrape(A, false, 2_000);
    assert!(scene.scrape(A, true, 3_000));
}
